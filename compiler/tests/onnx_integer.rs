//! Every operator in its integer form: tables and integers compute what the float graph does, up to the steps of the widths
//! that are asked for.

use crate::onnx_support::{Builder, int, ints, real, string};
#[allow(dead_code, unreachable_pub)]
use fhe_ir::client::{dequantize, post_process, quantize_rows};
use fhe_ir::{Phase, eval};
use fhe_passes::options::{Bits, CalibrationMethod, Options, Rounding};
use fhe_passes::{Flow, PassCx, pipeline, run_pipeline};
use ndarray::{ArrayD, IxDyn};
use onnx_ir::AttributeProto;

/// Rows in `[-1, 1]` that look random.
fn rows(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// Greatest difference between the integer network at 9 bits and the float graph, in parts of the greatest output.
fn difference(name: &str, model: Builder) -> f64 {
    let graph = model.read().unwrap_or_else(|e| panic!("{name}: {e}"));
    let inputs: Vec<ArrayD<f32>> = graph
        .inputs()
        .iter()
        .zip(1..)
        .map(|(id, seed)| rows(&[&[200], &graph.value(*id).shape[1..]].concat(), seed))
        .collect();
    let options = Options {
        bits: Bits::uniform(9),
        calibration: CalibrationMethod::MinMax,
        rounding: Rounding::Approximate(13),
        ..Options::default()
    };
    let passes: Vec<_> = pipeline::DEFAULT.iter().copied().take_while(|p| p.name() != "select-params").collect();
    let mut cx = PassCx::new(&options, &inputs);
    let (integer, _) =
        run_pipeline(graph.clone(), &passes, &mut cx, |_| Flow::Continue).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(integer.phase, Phase::Tabled);
    let wanted = eval::float(&graph, &inputs);
    let encoded: Vec<_> =
        inputs.iter().enumerate().map(|(i, x)| quantize_rows(&integer, i, x).expect("rows fit")).collect();
    let got = eval::integer(&integer, &encoded).outputs;
    let mut worst: f64 = 0.0;
    for (i, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
        let wanted = post_process(&graph.outputs[i].post, wanted);
        let got = post_process(&integer.outputs[i].post, &dequantize(&integer, i, got));
        assert_eq!(got.shape(), wanted.shape(), "{name}");
        let size = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
        let apart = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        worst = worst.max(f64::from(apart) / f64::from(size));
    }
    worst
}

fn one(dims: &[&str], op: &str, attributes: Vec<AttributeProto>) -> Builder {
    Builder::new(18).input("x", dims).node(op, &["x"], "y", attributes).output("y")
}

fn two(dims: &[&str], other: &[&str], op: &str) -> Builder {
    Builder::new(18).input("x", dims).input("z", other).node(op, &["x", "z"], "y", vec![]).output("y")
}

fn list(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + 3) % 11) as f32 / 5.0 - 1.0).collect()
}

/// `x` of four axes through an operator with one constant.
fn image(op: &str, dims: &[i64], attributes: Vec<AttributeProto>) -> Builder {
    let n = dims.iter().product::<i64>() as usize;
    let model = Builder::new(18).input("x", &["N", "2", "4", "3"]).reals("c", dims, &list(n));
    model.node(op, &["x", "c"], "y", attributes).output("y")
}

fn image_with(op: &str, list: &[i64], attributes: Vec<AttributeProto>) -> Builder {
    let model = Builder::new(18).input("x", &["N", "2", "4", "3"]).ints("c", list);
    model.node(op, &["x", "c"], "y", attributes).output("y")
}

#[test]
fn moves_are_exact_up_to_the_grid_of_the_input() {
    let x = &["N", "2", "4", "3"];
    let model = Builder::new(18).input("x", x).input("z", &["N", "1", "4", "3"]);
    let concat = model.node("Concat", &["x", "z"], "y", vec![int("axis", 1)]).output("y");
    let model = Builder::new(18).input("x", x).input("z", &["N", "2", "1", "3"]);
    let places = model.node("Concat", &["x", "z"], "y", vec![int("axis", 2)]).output("y");
    let split = Builder::new(18).input("x", x).ints("s", &[1, 3]);
    let split = split.node("Split", &["x", "s"], "a,b", vec![int("axis", 2)]).output("a").output("b");
    let blocks = |op, dims| one(dims, op, vec![int("blocksize", 2)]);
    for (name, model) in [
        ("concat of channels", concat),
        ("concat of places", places),
        ("split", split),
        ("gather", image_with("Gather", &[2, 0, 0], vec![int("axis", 2)])),
        ("expand", {
            let model = Builder::new(18).input("x", &["N", "2", "1"]).ints("s", &[1, 2, 3]);
            model.node("Expand", &["x", "s"], "y", vec![]).output("y")
        }),
        ("tile", image_with("Tile", &[1, 2, 1, 2], vec![])),
        ("depth to space", blocks("DepthToSpace", &["N", "4", "2", "2"])),
        ("space to depth", blocks("SpaceToDepth", &["N", "1", "4", "2"])),
        ("transpose", one(x, "Transpose", vec![ints("perm", &[0, 3, 1, 2])])),
        ("reflect", image_with("Pad", &[0, 0, 1, 0, 0, 0, 2, 1], vec![string("mode", "reflect")])),
        ("resize", {
            let model = Builder::new(18).input("x", x).reals("s", &[4], &[1.0, 1.0, 2.0, 1.5]);
            model.node("Resize", &["x", "", "s"], "y", vec![]).output("y")
        }),
        ("mean image", image("Sub", &[2, 4, 3], vec![])),
    ] {
        let worst = difference(name, model);
        assert!(worst < 0.006, "{name}: {worst}");
    }
}

#[test]
fn layers_and_pools_are_close() {
    let conv = |dims: &[&str], w: &[i64], op: &str, attributes| {
        let n = w.iter().product::<i64>() as usize;
        let model = Builder::new(18).input("x", dims).reals("w", w, &list(n));
        model.node(op, &["x", "w"], "y", attributes).output("y")
    };
    let kernel = |k: &[i64]| vec![ints("kernel_shape", k)];
    let x = &["N", "2", "4", "3"];
    for (name, model) in [
        ("conv 1d", conv(&["N", "2", "8"], &[3, 2, 3], "Conv", vec![ints("pads", &[1, 1])])),
        ("conv 3d", conv(&["N", "2", "4", "3", "3"], &[2, 2, 2, 2, 2], "Conv", vec![ints("strides", &[2, 1, 1])])),
        ("conv transposed", conv(x, &[2, 2, 2, 2], "ConvTranspose", vec![ints("strides", &[2, 2])])),
        ("matmul at places", image("MatMul", &[3, 2], vec![])),
        ("matmul by blocks", image("MatMul", &[1, 2, 3, 2], vec![])),
        ("mean pool", one(x, "AveragePool", vec![ints("kernel_shape", &[2, 2]), ints("pads", &[1, 1, 1, 1])])),
        ("max pool", one(x, "MaxPool", vec![ints("kernel_shape", &[2, 2]), ints("pads", &[1, 1, 0, 0])])),
        ("max pool 1d", one(&["N", "2", "6"], "MaxPool", kernel(&[3]))),
        ("max pool 3d", one(&["N", "1", "3", "3", "3"], "MaxPool", kernel(&[2, 2, 2]))),
        ("reduce sum", image_with("ReduceSum", &[1], vec![])),
        ("reduce mean", image_with("ReduceMean", &[1, 3], vec![])),
        ("reduce max", image_with("ReduceMax", &[1], vec![int("keepdims", 0)])),
        ("reduce min", image_with("ReduceMin", &[2, 3], vec![])),
        ("reduce l1", image_with("ReduceL1", &[3], vec![])),
        ("reduce l2", image_with("ReduceL2", &[2, 3], vec![])),
        ("resize linear", {
            let model = Builder::new(18).input("x", x).reals("s", &[4], &[1.0, 1.0, 2.0, 2.0]);
            model.node("Resize", &["x", "", "s"], "y", vec![string("mode", "linear")]).output("y")
        }),
    ] {
        let worst = difference(name, model);
        assert!(worst < 0.02, "{name}: {worst}");
    }
}

#[test]
fn products_and_norms_are_close() {
    let x = &["N", "2", "3"];
    let affine = |op: &str, n: i64, attributes: Vec<AttributeProto>| {
        let model = Builder::new(17).input("x", &["N", "4", "3"]).reals("s", &[n], &list(n as usize)).reals(
            "b",
            &[n],
            &[0.5; 4][..n as usize],
        );
        model.node(op, &["x", "s", "b"], "y", attributes).output("y")
    };
    for (name, model, bound) in [
        ("mul", two(x, x, "Mul"), 0.01),
        ("mul repeats", two(x, &["N", "2", "1"], "Mul"), 0.01),
        ("matmul", two(&["N", "2", "3"], &["N", "3", "2"], "MatMul"), 0.01),
        ("max", two(x, x, "Max"), 0.01),
        ("min", two(x, x, "Min"), 0.01),
        ("reduce product", one(x, "ReduceProd", vec![ints("axes", &[2])]), 0.03),
        ("instance", affine("InstanceNormalization", 4, vec![real("epsilon", 0.1)]), 0.1),
        ("layer", affine("LayerNormalization", 3, vec![real("epsilon", 0.1)]), 0.1),
        ("group", affine("GroupNormalization", 2, vec![int("num_groups", 2), real("epsilon", 0.1)]), 0.1),
        ("lrn", one(&["N", "4", "3"], "LRN", vec![int("size", 3), real("alpha", 0.5)]), 0.02),
        (
            "where",
            {
                // |x|, which does not jump where the condition does.
                let model = Builder::new(18).input("x", x).reals("zero", &[], &[0.0]).node("Neg", &["x"], "z", vec![]);
                let model = model.node("Greater", &["x", "zero"], "c", vec![]);
                model.node("Where", &["c", "x", "z"], "y", vec![]).output("y")
            },
            0.02,
        ),
    ] {
        let worst = difference(name, model);
        println!("{name}: {worst}");
        assert!(worst < bound, "{name}: {worst}");
    }
}

#[test]
fn functions_are_tables() {
    let x = &["N", "2", "3"];
    for op in [
        "Abs",
        "Acos",
        "Asin",
        "Asinh",
        "Atan",
        "Celu",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "HardSigmoid",
        "HardSwish",
        "Mish",
        "Selu",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Tan",
        "Tanh",
    ] {
        let worst = difference(op, one(x, op, vec![]));
        // The slope of arcsine and arccosine is not bounded at the ends.
        let bound = if matches!(op, "Acos" | "Asin") { 0.03 } else { 0.01 };
        assert!(worst < bound, "{op}: {worst}");
    }
    // Steps jump where an input is near one: on the grid of the input they are exact.
    for op in ["Ceil", "Floor", "Round", "Sign"] {
        assert!(difference(op, one(x, op, vec![])).is_finite());
    }
}
