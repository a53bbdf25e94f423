//! Quantizers of a model: their numbers by the documents of QONNX and ONNX, and the integer network behind them.

use crate::onnx_support::{Builder, array, int, ints, string};
#[allow(dead_code, unreachable_pub)]
use fhe_ir::client::{dequantize, post_process, quantize_rows};
use fhe_ir::eval;
use fhe_passes::options::{Options, Rounding};
use fhe_passes::{Flow, PassCx, needs_calibration, pipeline, run_pipeline};
use ndarray::ArrayD;
use onnx_ir::TensorProto;

/// An input of six numbers with one number each for step, zero point and width.
fn row(step: f32, zero: f32, bits: f32) -> Builder {
    Builder::new(17).input("x", &["N", "6"]).reals("s", &[], &[step]).reals("z", &[], &[zero]).reals("b", &[], &[bits])
}

fn numbers(model: Builder, x: &[f32]) -> Vec<f32> {
    model.output("y").run(&[array(&[1, x.len()], x)])[0].iter().copied().collect()
}

#[test]
fn one_bit_with_a_sign_is_a_sign() {
    for (zero, expected) in [(0.0, [-0.5, -0.5, 0.5, 0.5, 0.5, 0.5]), (1.0, [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0])] {
        let model = row(0.5, zero, 1.0).node("qonnx.custom_op.general::Quant", &["x", "s", "z", "b"], "y", vec![]);
        assert_eq!(numbers(model, &[-0.75, -0.25, 0.0, 0.25, 0.5, 4.0]), expected, "zero point {zero}");
    }
}

#[test]
fn zero_points_are_added_before_codes_are_rounded() {
    let x = [-0.375, -0.125, 0.125, 0.375, 0.625, 0.2];
    for (mode, zero, expected) in [
        ("ROUND", 0.0, [-0.5, 0.0, 0.0, 0.5, 0.5, 0.25]),
        ("ROUND", 1.0, [-0.25, -0.25, 0.25, 0.25, 0.75, 0.25]),
        ("ROUND_TO_ZERO", 0.0, [-0.25, 0.0, 0.0, 0.25, 0.5, 0.0]),
        ("ROUND_TO_ZERO", 2.0, [-0.5, -0.25, 0.0, 0.25, 0.5, 0.0]),
        ("FLOOR", 1.0, [-0.5, -0.25, 0.0, 0.25, 0.5, 0.0]),
    ] {
        let attributes = vec![string("rounding_mode", mode)];
        let model = row(0.25, zero, 4.0).node("onnx.brevitas::Quant", &["x", "s", "z", "b"], "y", attributes);
        assert_eq!(numbers(model, &x), expected, "{mode}, zero point {zero}");
    }
}

#[test]
fn a_number_on_the_grid_is_not_cut_to_the_next_code() {
    for mode in ["FLOOR", "CEIL", "ROUND_TO_ZERO"] {
        let x: Vec<f32> = (-3..3).map(|i| i as f32 * 0.3).collect();
        let attributes = vec![string("rounding_mode", mode)];
        let model = row(0.3, 0.0, 4.0).node("qonnx::IntQuant", &["x", "s", "z", "b"], "y", attributes);
        let y = numbers(model, &x);
        assert!(y.iter().zip(&x).all(|(y, x)| (y - x).abs() < 1e-6), "{mode}: {y:?} for {x:?}");
    }
}

#[test]
fn trunc_takes_its_power_from_the_widths_or_from_the_steps() {
    let x = [-3.2, -0.35, 0.1, 0.75, 1.55, 3.15];
    let model = |out: &[f32], signed| {
        let names = ["o0", "o1"];
        let mut model = row(0.05, 0.0, 8.0);
        let mut inputs = vec!["x", "s", "z", "b"];
        for (name, number) in names.iter().zip(out) {
            model = model.reals(name, &[], &[*number]);
            inputs.push(name);
        }
        model.node("qonnx.custom_op.general::Trunc", &inputs, "y", vec![int("signed", signed)])
    };
    let close = |y: Vec<f32>, expected: [f32; 6]| {
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?} for {expected:?}");
    };
    close(numbers(model(&[4.0], 1), &x), [-0.2, -0.05, 0.0, 0.0, 0.05, 0.15]);
    close(numbers(model(&[0.2, 8.0], 1), &x), [-3.2, -0.4, 0.0, 0.6, 1.4, 3.0]);
    close(numbers(model(&[0.2, 3.0], 1), &x), [-0.8, -0.4, 0.0, 0.6, 0.6, 0.6]);
    close(numbers(model(&[0.2, 3.0], 0), &x), [0.0, 0.0, 0.0, 0.6, 1.4, 1.4]);
}

/// Greatest difference, in steps of the last quantizer, between the integer network without calibration and the float
/// graph.
fn difference(name: &str, model: Builder, x: &ArrayD<f32>, step: f32) -> f32 {
    let graph = model.output("y").read().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(!needs_calibration(&graph), "{name}");
    let options = Options { rounding: Rounding::Off, ..Options::default() };
    let mut cx = PassCx::new(&options, &[]);
    let (network, _) = run_pipeline(graph.clone(), pipeline::integer(), &mut cx, |_| Flow::Continue)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let wanted = post_process(&graph.outputs[0].post, &eval::float(&graph, std::slice::from_ref(x))[0]);
    let y = eval::integer(&network, &[quantize_rows(&network, 0, x).expect("rows fit")]);
    let got = post_process(&network.outputs[0].post, &dequantize(&network, 0, &y.outputs[0]));
    got.iter().zip(&wanted).map(|(a, b)| (a - b).abs() / step).fold(0.0, f32::max)
}

fn codes(name: &str, dims: &[i64]) -> TensorProto {
    let n = dims.iter().product::<i64>();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 3,
        int32_data: (0..n).map(|i| ((i * 37 + 11) % 255 - 127) as i32).collect(),
        ..Default::default()
    }
}

fn rows(shape: &[usize]) -> ArrayD<f32> {
    let n = shape.iter().product::<usize>();
    array(shape, &(0..n).map(|i| ((i * 7919) % 1009) as f32 / 300.0 - 1.7).collect::<Vec<_>>())
}

/// A quantized input `a` of a shape behind the batch, quantized weights `w` of another, both with a step.
fn layer(dims: &[&str], weights: &[i64]) -> Builder {
    let zero = |name: &str| TensorProto { name: name.into(), data_type: 3, int32_data: vec![0], ..Default::default() };
    let model = Builder::new(17).input("x", dims).reals("sx", &[], &[0.0151]).reals("sw", &[], &[1.0 / 47.0]);
    let model = model.reals("sy", &[], &[0.0973]).tensor(zero("zero")).tensor(codes("q", weights));
    let model = model.node("QuantizeLinear", &["x", "sx", "zero"], "xq", vec![]);
    let model = model.node("DequantizeLinear", &["xq", "sx", "zero"], "a", vec![]);
    model.node("DequantizeLinear", &["q", "sw"], "w", vec![])
}

fn quantized(model: Builder) -> Builder {
    let model = model.node("QuantizeLinear", &["r", "sy", "zero"], "rq", vec![]);
    model.node("DequantizeLinear", &["rq", "sy", "zero"], "y", vec![])
}

#[test]
fn exact_weights_stay_exact_in_every_layer() {
    let stride = vec![ints("strides", &[2, 2]), int("group", 2)];
    let up = layer(&["N", "4", "3", "3"], &[4, 2, 2, 2]).node("ConvTranspose", &["a", "w"], "r", stride);
    assert_eq!(difference("ConvTranspose", quantized(up), &rows(&[20, 4, 3, 3]), 0.0973), 0.0);
    let places = layer(&["N", "5", "6"], &[6, 4]).node("MatMul", &["a", "w"], "r", vec![]);
    assert_eq!(difference("MatMul", quantized(places), &rows(&[20, 5, 6]), 0.0973), 0.0);
}

#[test]
fn biases_and_constants_off_the_grid_lose_nothing() {
    // A summand behind a quantizer that something else reads too.
    let model = layer(&["N", "6"], &[6, 6]).reals("c", &[1], &[-1.2345]).reals("sb", &[], &[0.0173]);
    let model = model.node("Add", &["a", "c"], "shifted", vec![]);
    let model = model.node("QuantizeLinear", &["shifted", "sb", "zero"], "bq", vec![]);
    let model = model.node("DequantizeLinear", &["bq", "sb", "zero"], "b", vec![]);
    let model = model.node("Add", &["b", "a"], "r", vec![]);
    let off = difference("summand", quantized(model), &rows(&[40, 6]), 0.0973);
    assert!(off <= 1.01, "a summand: {off}");
    // A layer with a bias, added to something else without a quantizer between.
    let bias: Vec<f32> = (0..6).map(|i| i as f32 * 0.777 - 2.0).collect();
    let sum = layer(&["N", "6"], &[6, 6]).reals("c", &[6], &bias).node("Gemm", &["a", "w", "c"], "g", vec![]);
    let off = difference("bias", quantized(sum.node("Add", &["g", "a"], "r", vec![])), &rows(&[40, 6]), 0.0973);
    assert!(off <= 1.01, "a bias: {off}");
}

#[test]
fn a_bias_may_have_32_bits() {
    let bias = [100.0, -2000.0, 3.0, 0.5, 70.0, 9.0];
    let model = row(1e-4, 0.0, 32.0).reals("c", &[6], &bias);
    let model = model.node("qonnx::Quant", &["c", "s", "z", "b"], "d", vec![]).node("Add", &["x", "d"], "y", vec![]);
    let y = numbers(model, &[0.0; 6]);
    assert!(y.iter().zip(&bias).all(|(y, b)| (y - b).abs() < 1e-3), "{y:?}");
}

/// A sequence of five places times weights with a step for each of two features.
fn sequence() -> Builder {
    let model = layer(&["N", "5", "6"], &[6, 2]).reals("sc", &[2], &[0.01, 0.03]);
    model.node("DequantizeLinear", &["q", "sc"], "v", vec![]).node("MatMul", &["a", "v"], "r", vec![])
}

#[test]
fn scales_that_meet_in_a_channel_meet_behind_its_quantizer() {
    assert_eq!(difference("bare", quantized(sequence()), &rows(&[20, 5, 6]), 0.0973), 0.0);
    let bias = sequence().reals("c", &[2], &[0.731, -1.37]).node("Add", &["r", "c"], "sum", vec![]);
    let relu = bias.node("Relu", &["sum"], "relu", vec![]);
    assert!(difference("bias", coded(relu, "relu", "y", 0.0973, 3), &rows(&[20, 5, 6]), 0.0973) <= 1.01);
}

#[test]
fn a_value_without_a_quantizer_is_named() {
    let graph = sequence().node("Tanh", &["r"], "y", vec![]).output("y").read().expect("reads");
    let lacking = fhe_passes::unstated(&graph).expect("tanh is no integer");
    assert!(lacking.contains("it reads a sum without bounds"), "{lacking}");
    let real = Builder::new(17).input("x", &["N", "6"]).node("Tanh", &["x"], "y", vec![]).output("y");
    assert_eq!(fhe_passes::unstated(&real.read().expect("reads")), Some(String::new()));
}

#[test]
fn constant_factors_on_quantized_weights_go_into_their_step() {
    let scaled = |(op, c, dims): (&str, &[f32], &[i64])| {
        let model = layer(&["N", "6"], &[6, 5]).reals("c", dims, c).node(op, &["w", "c"], "scaled", vec![]);
        quantized(model.node("MatMul", &["a", "scaled"], "r", vec![]))
    };
    for (name, factor) in [
        ("one factor", ("Mul", &[0.37][..], &[][..])),
        ("a divisor", ("Div", &[-3.1], &[1])),
        ("one per output channel", ("Mul", &[0.3, -0.7, 0.0, 1.9, 0.41], &[1, 5])),
    ] {
        let graph = scaled(factor).output("y").read().unwrap_or_else(|e| panic!("{name}: {e}"));
        let exact = graph.values.iter().any(|v| matches!(v.op, fhe_ir::Op::Dot { w, .. } if graph.is_exact(w)));
        assert!(exact, "{name}: the weights are integers");
        assert_eq!(difference(name, scaled(factor), &rows(&[40, 6]), 0.0973), 0.0, "{name}");
    }
}

/// A value `name` that is quantized to codes of a type (3: int8, 4: uint16, 5: int16), from the real value `from`.
fn coded(model: Builder, from: &str, name: &str, step: f32, data_type: i32) -> Builder {
    let (scale, zero, codes) = (format!("{name}.s"), format!("{name}.z"), format!("{name}.q"));
    let point = TensorProto { name: zero.clone(), data_type, int32_data: vec![0], ..Default::default() };
    let model = model.reals(&scale, &[], &[step]).tensor(point);
    let model = model.node("QuantizeLinear", &[from, &scale, &zero], &codes, vec![]);
    model.node("DequantizeLinear", &[&codes, &scale, &zero], name, vec![])
}

#[test]
fn what_is_stated_needs_no_rows() {
    // The greatest of 16-bit codes.
    let pool = coded(Builder::new(21).input("x", &["N", "2", "6", "6"]), "x", "a", 1e-4, 5);
    let pool = pool.node("MaxPool", &["a"], "p", vec![ints("kernel_shape", &[3, 3]), ints("strides", &[3, 3])]);
    assert_eq!(difference("MaxPool", coded(pool, "p", "y", 0.01, 3), &rows(&[20, 2, 6, 6]), 0.01), 0.0);
    // Products of two values, elementwise and of matrices.
    let both = || {
        let model = coded(Builder::new(21).input("x", &["N", "4", "4"]), "x", "a", 0.0137, 3);
        let model = model.node("Transpose", &["a"], "t", vec![ints("perm", &[0, 2, 1])]);
        coded(model, "t", "b", 0.0191, 3)
    };
    for (name, op) in [("Mul", "Mul"), ("MatMul", "MatMul")] {
        let model = both().node(op, &["a", "b"], "r", vec![]);
        let off = difference(name, coded(model, "r", "y", 0.0211, 3), &rows(&[20, 4, 4]), 0.0211);
        assert!(off <= 0.01, "{name}: {off}");
    }
    // Weights on the left.
    let left = layer(&["N", "6", "5"], &[4, 6]).node("MatMul", &["w", "a"], "r", vec![]);
    assert_eq!(difference("weights on the left", quantized(left), &rows(&[20, 6, 5]), 0.0973), 0.0);
}
