//! Damaged files: every one is an error or a graph that verifies, never a panic.

use crate::onnx_support::{Builder, int, ints, real, string};
#[allow(dead_code, unreachable_pub)]
use fhe_compiler::onnx::{ReadOptions, read_bytes};

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

/// The reader's error and how long it may take to say so: far above what it takes, far below a hang.
fn refused(bytes: &[u8]) -> String {
    let start = std::time::Instant::now();
    let error = read_bytes("hostile", bytes, &ReadOptions::default()).unwrap_err();
    assert!(start.elapsed().as_secs() < 60, "it takes {:?}", start.elapsed());
    error.to_string()
}

/// A protobuf field of wire type 2.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = payload.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(payload);
    out
}

#[test]
fn two_bytes_are_not_worth_a_message() {
    // 4 MB of empty nodes, inputs and tensors would be a gigabyte of messages.
    for number in [1, 5, 11] {
        let graph = field(number, &[]).repeat(2_000_000);
        let error = refused(&[vec![8, 8], field(7, &graph)].concat());
        assert!(error.contains("bytes to decode"), "{error}");
    }
    // Functions are decoded although nothing here calls them.
    let error = refused(
        &[vec![8, 8], field(7, &field(2, b"g")), vec![0xca, 0x01, 0x80, 0x80, 0x80, 0x01], vec![0x2a; 1 << 21]]
            .concat(),
    );
    assert!(error.contains("bytes to decode"), "{error}");
    // Groups hide what is in them.
    assert!(refused(&[8, 8, 0x0b, 0x0c]).contains("groups"));
}

#[test]
fn graphs_in_one_another_are_refused_by_depth() {
    let mut graph = vec![];
    for _ in 0..400 {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    assert!(refused(&[vec![8, 8], field(7, &graph)].concat()).contains("not an ONNX model"));
}

#[test]
fn names_and_attributes_are_given_once() {
    let twice = || Builder::new(13).input("x", &["N", "2"]).node("Relu", &["x"], "y", vec![]).output("y").output("y");
    assert!(refused(&twice().bytes()).contains("two outputs are called \"y\""));
    let alpha = vec![real("alpha", 0.1), real("alpha", 0.9)];
    let model = Builder::new(13).input("x", &["N", "2"]).node("LeakyRelu", &["x"], "y", alpha).output("y");
    assert!(refused(&model.bytes()).contains("attribute \"alpha\" is given twice"));
}

#[test]
fn one_node_has_a_bounded_number_of_inputs() {
    // Each input names the same constant: its numbers would be copied for each.
    let inputs = vec!["c"; 2000];
    let model = Builder::new(13).input("x", &["N", "2"]).reals("c", &[4096], &[0.5; 4096]);
    let model = model.node("Max", &inputs, "m", vec![]).node("Add", &["x", "m"], "y", vec![]).output("y");
    assert!(refused(&model.bytes()).contains("more than 1024 inputs"));
}

/// 2^24 numbers from nothing.
fn grown(model: Builder, name: &str) -> Builder {
    model.node("ConstantOfShape", &["shape"], name, vec![])
}

#[test]
fn small_files_make_no_large_constants() {
    let mut model = Builder::new(13).input("x", &["N", "2"]).ints("shape", &[1 << 24]);
    for i in 0..8 {
        model = grown(model, &format!("c{i}"));
    }
    for i in 0..8 {
        let x = if i == 0 { "x".into() } else { format!("y{i}") };
        model = model.node("Add", &[&x, &format!("c{i}")], &format!("y{}", i + 1), vec![]);
    }
    let error = refused(&model.output("y8").bytes());
    assert!(error.contains("numbers in constants, the limit is 16"), "{error}");
}

#[test]
fn one_large_constant_has_few_readers() {
    // Every Add would look through all of it.
    let extents = ["N", "1", "4096", "4095"];
    let mut model = Builder::new(13).input("x0", &extents).ints("shape", &[1, 1, 4096, 4095]);
    model = grown(model, "c");
    for i in 0..200 {
        model = model.node("Add", &[&format!("x{i}"), "c"], &format!("x{}", i + 1), vec![]);
    }
    let error = refused(&model.output("x200").bytes());
    assert!(error.contains("numbers of constants to look through"), "{error}");
}

#[test]
fn empty_tensors_have_no_gigantic_extents() {
    for dims in [vec![0, 1 << 62], vec![1 << 62, 0], vec![i64::MAX, 0, i64::MAX], vec![0; 9]] {
        for op in ["Concat", "Flatten", "Gather", "Squeeze", "Transpose", "Add"] {
            let empty =
                onnx_ir::TensorProto { name: "e".into(), dims: dims.clone(), data_type: 7, ..Default::default() };
            let model = Builder::new(13).input("x", &["N", "2"]).tensor(empty).ints("i", &[0]);
            let inputs: &[&str] = if op == "Gather" { &["e", "i"] } else { &["e", "e"] };
            let attributes = if matches!(op, "Concat" | "Gather" | "Flatten") { vec![int("axis", 0)] } else { vec![] };
            let model = model.node(op, inputs, "s", attributes).node("Reshape", &["x", "s"], "y", vec![]).output("y");
            refused(&model.bytes());
        }
    }
}

#[test]
fn joined_constants_have_the_same_number_of_axes() {
    let scalar = onnx_ir::TensorProto { name: "s".into(), data_type: 7, int64_data: vec![1], ..Default::default() };
    let model = Builder::new(13).input("x", &["N", "2"]).ints("a", &[1]).tensor(scalar);
    let model = model.node("Concat", &["a", "s"], "c", vec![int("axis", 0)]).node("Reshape", &["x", "c"], "y", vec![]);
    assert!(refused(&model.output("y").bytes()).contains("different numbers of axes"));
}

#[test]
fn quantizers_of_hostile_models_are_errors() {
    let model = |bits: &[f32], scale: &[f32]| {
        let model = Builder::new(13).input("x", &["N", "2", "8192", "8192"]).reals("b", &[bits.len() as i64], bits);
        let model = model.reals("s", &[1, scale.len() as i64, 1, 1], scale).reals("z", &[], &[0.0]);
        model.reals("none", &[0], &[])
    };
    // A step per channel of a large value is not spread over it.
    let large = model(&[4.0], &[0.5, 0.25]).node("qonnx::Quant", &["x", "s", "z", "b"], "y", vec![]).output("y");
    assert!(large.read().is_ok());
    let small = model(&[4.0], &[1e-45]).node("qonnx::Quant", &["x", "s", "z", "b"], "y", vec![]).output("y");
    assert!(refused(&small.bytes()).contains("not positive and finite"));
    for parameters in [["none", "z", "b"], ["s", "none", "b"], ["s", "z", "none"]] {
        let inputs = [&["x"][..], &parameters].concat();
        for op in ["qonnx::Quant", "qonnx::Trunc", "qonnx::BipolarQuant", "QuantizeLinear", "DequantizeLinear"] {
            let m = model(&[4.0], &[0.5]).node(op, &inputs, "y", vec![]).output("y");
            let _ = read_bytes("hostile", &m.bytes(), &ReadOptions::default());
        }
    }
    let trunc = model(&[4.0], &[0.5]).node("qonnx::Trunc", &["x", "s", "z", "b", "none"], "y", vec![]).output("y");
    assert!(refused(&trunc.bytes()).contains("is empty"));
}

#[test]
fn long_chains_of_client_functions_end() {
    let mut model = Builder::new(13).input("x0", &["N", "4"]);
    for i in 0..2000 {
        model = model.node("Softmax", &[&format!("x{i}")], &format!("x{}", i + 1), vec![int("axis", 1)]);
    }
    assert!(refused(&model.output("x2000").bytes()).contains("functions after the last layer"));
}

#[test]
fn operator_sets_are_read_once() {
    // A hundred thousand of them in front of a thousand nodes.
    let mut model = Builder::new(13).input("x0", &["N", "4"]);
    for i in 0..1000 {
        model = model.node("Relu", &[&format!("x{i}")], &format!("x{}", i + 1), vec![]);
    }
    let mut bytes = model.output("x1000").bytes();
    bytes.extend(field(8, &[0x10, 13]).repeat(100_000));
    assert!(attempt(&bytes));
}

#[test]
fn networks_that_nobody_could_evaluate_are_refused() {
    let mut model = Builder::new(13).input("x0", &["N", "1", "16384", "16384"]);
    for i in 0..8 {
        model = model.node("Relu", &[&format!("x{i}")], &format!("x{}", i + 1), vec![]);
    }
    assert!(refused(&model.output("x8").bytes()).contains("elements in all values"));
    let pool = vec![ints("kernel_shape", &[4096, 4096]), ints("pads", &[2048; 4]), int("count_include_pad", 1)];
    let model = Builder::new(13).input("x", &["N", "1", "1024", "1024"]).node("AveragePool", &["x"], "y", pool);
    assert!(refused(&model.output("y").bytes()).contains("products and comparisons"));
}
