//! Remainders, shrinks, powers, elements by index, quantized operators: against numbers worked out by hand.

use crate::onnx_support::{Builder, int, real};
#[allow(dead_code, unreachable_pub)]
use fhe_compiler::onnx::{Batch, ReadOptions, read_bytes};
use ndarray::ArrayD;
use onnx_ir::TensorProto;

fn run(model: Builder, x: &[f32]) -> Vec<f32> {
    let x = ArrayD::from_shape_vec(vec![1, x.len()], x.to_vec()).unwrap();
    let graph = read_bytes("m", &model.bytes(), &ReadOptions::default()).unwrap();
    let y = fhe_ir::eval::float(&graph, &[x]);
    fhe_ir::client::post_process(&graph.outputs[0].post, &y[0]).iter().copied().collect()
}

fn row(n: &str) -> Builder {
    Builder::new(18).input("x", &["N", n])
}

#[test]
fn remainders_have_the_sign_of_the_divisor_or_of_the_operand() {
    let integers = || Builder::new(18).input_of("x", 7, &["N", "4"]).ints("c", &[3, 3, -3, 7]);
    let floored = integers().node("Mod", &["x", "c"], "y", vec![]).output("y");
    assert_eq!(run(floored, &[-4.0, 6.0, 4.0, 49.0]), [2.0, 0.0, -2.0, 0.0]);
    let truncated = integers().node("Mod", &["x", "c"], "y", vec![int("fmod", 1)]).output("y");
    assert_eq!(run(truncated, &[-4.0, 6.0, 4.0, 49.0]), [-1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn quotients_of_integers_are_truncated() {
    let model = Builder::new(18).input_of("x", 7, &["N", "4"]).ints("c", &[2, 49, 3, 2]);
    let model = model.node("Div", &["x", "c"], "y", vec![]).output("y");
    assert_eq!(run(model, &[-3.0, 49.0, 9.0, 3.0]), [-1.0, 1.0, 3.0, 1.0]);
}

#[test]
fn shrink_takes_from_both_sides() {
    let model = row("5").node("Shrink", &["x"], "y", vec![real("lambd", 1.5), real("bias", 0.5)]).output("y");
    assert_eq!(run(model, &[-2.0, -1.0, 0.0, 1.5, 2.0]), [-1.5, 0.0, 0.0, 0.0, 1.5]);
}

#[test]
fn exponents_may_differ() {
    let model = row("4").reals("p", &[4], &[3.0, 1.0, 3.0, 2.0]).node("Pow", &["x", "p"], "y", vec![]).output("y");
    assert_eq!(run(model, &[2.0, 5.0, -1.0, 4.0]), [8.0, 5.0, -1.0, 16.0]);
}

#[test]
fn elements_are_named_by_index() {
    let indices = TensorProto {
        name: "i".into(),
        dims: vec![1, 3],
        data_type: 7,
        int64_data: vec![2, -1, 0],
        ..Default::default()
    };
    let model = row("3").tensor(indices).node("GatherElements", &["x", "i"], "y", vec![int("axis", 1)]).output("y");
    assert_eq!(run(model, &[5.0, 6.0, 7.0]), [7.0, 7.0, 5.0]);
}

#[test]
fn a_vector_times_a_vector_is_a_number() {
    let model = Builder::new(18).input("x", &["3"]).reals("w", &[3], &[1.0, 2.0, 3.0]);
    let model = model.node("MatMul", &["x", "w"], "y", vec![]).output("y");
    let options = ReadOptions { batch: Batch::Absent, ..Default::default() };
    let graph = read_bytes("m", &model.bytes(), &options).unwrap();
    let x = ArrayD::from_shape_vec(vec![1, 3], vec![1.0, 1.0, 2.0]).unwrap();
    assert_eq!(fhe_ir::eval::float(&graph, &[x])[0].as_slice(), Some(&[9.0][..]));
}

#[test]
fn quantized_operators_are_what_they_stand_for() {
    let byte = |name: &str, dims: &[i64], numbers: &[i32]| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 2,
        int32_data: numbers.to_vec(),
        ..Default::default()
    };
    let model = Builder::new(18).input_of("x", 2, &["N", "2"]).tensor(byte("w", &[2, 1], &[3, 5]));
    let model = model.tensor(byte("z", &[], &[1])).node("MatMulInteger", &["x", "w", "z", "z"], "y", vec![]);
    // (10 − 1)·(3 − 1) + (4 − 1)·(5 − 1)
    assert_eq!(run(model.output("y"), &[10.0, 4.0]), [30.0]);
}

#[test]
fn a_divisor_that_is_encrypted_is_refused() {
    let model = row("2").node("Mod", &["x", "x"], "y", vec![]).output("y");
    assert!(model.read().is_err());
}
