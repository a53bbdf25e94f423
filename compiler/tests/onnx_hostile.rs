//! Damaged files: every one is an error or a graph that verifies, never a panic.

#[allow(dead_code, unreachable_pub)]
mod onnx_support;

use fhe_compiler::onnx::{ReadOptions, read_bytes};
use onnx_support::{Builder, int, ints, real, string};

/// SplitMix64: the damage is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Reads the bytes; whether they made a graph.
fn attempt(bytes: &[u8]) -> bool {
    match read_bytes("damaged", bytes, &ReadOptions::default()) {
        Ok(graph) => {
            fhe_ir::verify::verify(&graph).expect("what the reader gives verifies");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn damage(model: &[u8], flips: usize, seed: u64) -> usize {
    let mut random = Random(seed);
    (0..flips)
        .filter(|_| {
            let mut bytes = model.to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            attempt(&bytes)
        })
        .count()
}

fn mlp() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testsuite/models/arrhythmia/mitbih_mlp.onnx");
    std::fs::read(path).expect("the model is in the repository")
}

/// A model with every kind of attribute and constant in few bytes, so that damage hits structure, not weights.
fn dense_in_structure() -> Vec<u8> {
    let model = Builder::new(13).input("x", &["N", "2", "6", "6"]).reals("w", &[2, 1, 2, 2], &[1.0; 8]);
    let attributes =
        vec![ints("strides", &[2, 2]), ints("pads", &[1, 0, 1, 0]), int("group", 2), ints("dilations", &[1, 2])];
    let model = model.node("Conv", &["x", "w"], "c", attributes);
    let model = model.node("Conv", &["x", "w"], "d", vec![string("auto_pad", "SAME_UPPER"), int("group", 2)]);
    let model = model.ints("s", &[0]).ints("e", &[9]).ints("a", &[3]).ints("t", &[2]);
    let model = model.node("Slice", &["d", "s", "e", "a", "t"], "f", vec![]);
    let model = model.ints("p", &[0, 0, 1, 0, 0, 1, 0, 1]).node("Pad", &["f", "p"], "g", vec![]);
    let pool = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), int("ceil_mode", 0)];
    let model = model.node("AveragePool", &["g"], "h", pool).node("Shape", &["c"], "sh", vec![]);
    let model = model.node("Reshape", &["c", "sh"], "c2", vec![]).node(
        "Transpose",
        &["c2"],
        "c3",
        vec![ints("perm", &[0, 1, 3, 2])],
    );
    let model = model.node("Flatten", &["c3"], "k", vec![int("axis", 1)]).node(
        "LeakyRelu",
        &["k"],
        "l",
        vec![real("alpha", 0.1)],
    );
    let model = model.node("ReduceMean", &["h"], "m", vec![ints("axes", &[2, 3]), int("keepdims", 0)]);
    model.node("Softmax", &["m"], "o", vec![int("axis", 1)]).output("o").output("l").bytes()
}

#[test]
fn every_truncation_is_an_error() {
    let model = mlp();
    for length in (0..600.min(model.len())).chain((600..model.len()).step_by(41)) {
        assert!(!attempt(&model[..length]), "{length} bytes of {}", model.len());
    }
    let model = dense_in_structure();
    assert!(attempt(&model));
    for length in 0..model.len() {
        assert!(!attempt(&model[..length]), "{length} bytes of {}", model.len());
    }
}

#[test]
fn flipped_bits_are_errors_or_graphs() {
    let (mlp, dense) = (mlp(), dense_in_structure());
    let weights = damage(&mlp, 2000, 1);
    assert!(weights > 1000, "most damage to a file of weights leaves a graph: {weights}");
    let structure = damage(&dense, 6000, 2);
    assert!((100..5500).contains(&structure), "damage to structure does both: {structure}");
}

#[test]
fn constants_that_grow_stop_at_the_limit() {
    // Each node doubles the constant: 2^40 numbers in 40 nodes.
    let mut model = Builder::new(13).input("x", &["N", "2"]).ints("c0", &[1, 1]);
    for i in 0..40 {
        let name = format!("c{i}");
        model = model.node("Concat", &[&name, &name], &format!("c{}", i + 1), vec![int("axis", 0)]);
    }
    let error = model.node("Reshape", &["x", "c40"], "y", vec![]).output("y").read().unwrap_err().to_string();
    assert!(error.contains("too many numbers") || error.contains("the limit is"), "{error}");
}
