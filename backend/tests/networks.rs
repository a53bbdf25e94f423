//! Small networks on encrypted data against the integer evaluator.

use crate::support::{Build, KEYS, mlp, rows};
use fhe_backend::{Circuit, Randomness, decrypt, encrypt, evaluate, measure, silent};
use fhe_ir::*;
use ndarray::ArrayD;

fn agrees(circuit: &Circuit, inputs: &[ArrayD<i64>]) {
    let mut randomness = Randomness::insecure_deterministic(5);
    let encrypted = encrypt(circuit, &KEYS.secret, inputs, &mut randomness).expect("in range");
    let outputs = evaluate(circuit, &KEYS.server, &encrypted, &silent).expect("same keys");
    let got = decrypt(circuit, &KEYS.secret, &outputs).expect("same keys");
    assert_eq!(got, eval::integer(circuit.graph(), inputs).outputs);
}

#[test]
fn a_dense_network_decrypts_to_the_integer_circuit() {
    agrees(&mlp(), &[rows(1, &[9, 6], -1, 2)]);
}

/// Convolutions with pads, strides, groups; a skip path; pooling; every way to move elements.
fn conv_net() -> Circuit {
    let mut b = Build::new("conv");
    let x = b.input(&[1, 2, 4, 5], 0, 1, 24);
    let other = b.input(&[1, 2], -1, 1, 24);
    let fresh = b.variance(x, 0);
    let w = b.ints(&[4, 2, 3, 3], rows(2, &[72], -9, 9).iter().map(|w| w / 8).collect());
    let geometry = ConvGeometry { strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], groups: 1 };
    let a = b.linear(Op::Conv { x, w, geometry }, &[1, 4, 4, 5], vec![18.0 * fresh]);
    let t = b.map(a, |v| v.clamp(-1, 1), 22);

    let pbs = b.variance(t, 0);
    let w = b.ints(&[4, 2, 2, 2], rows(3, &[32], -9, 9).iter().map(|w| w / 8).collect());
    let geometry = ConvGeometry { strides: [2, 2], pads: [0, 0, 1, 0], dilations: [1, 2], groups: 2 };
    let main = b.linear(Op::Conv { x: t, w, geometry }, &[1, 4, 2, 2], vec![8.0 * pbs]);
    let op = Op::Slice { x: t, starts: vec![0, 0, 1, 0], steps: vec![1, 1, 2, 3] };
    let skip = b.linear(op, &[1, 4, 2, 2], vec![pbs]);
    let c = b.ints(&[4], vec![1, -2, 2, 0]);
    let skip = b.linear(Op::MulClear { x: skip, c }, &[1, 4, 2, 2], vec![4.0 * pbs]);
    let sum = b.linear(Op::Add { a: main, b: skip }, &[1, 4, 2, 2], vec![12.0 * pbs]);
    let c = b.ints(&[4], vec![1, 0, -2, 3]);
    let sum = b.linear(Op::AddClear { x: sum, c }, &[1, 4, 2, 2], vec![12.0 * pbs]);
    let t = b.map(sum, |v| i64::from(v > 0), 40);

    let geometry = PoolGeometry { kernel: [2, 2], strides: [1, 1], pads: [1, 0, 0, 0] };
    let pool = b.linear(Op::SumPool { x: t, geometry }, &[1, 4, 2, 1], vec![4.0 * pbs]);
    let op = Op::Transpose { x: pool, perm: vec![0, 2, 3, 1] };
    let turned = b.linear(op, &[1, 2, 1, 4], vec![4.0 * pbs]);
    let op = Op::Pad { x: turned, before: vec![0, 0, 1, 0], after: vec![0, 1, 0, 2] };
    let padded = b.linear(op, &[1, 3, 2, 6], vec![4.0 * pbs]);
    let flat = b.linear(Op::Reshape { x: padded }, &[1, 36], vec![4.0 * pbs]);
    b.output(flat, Read::Exact);
    let negative = b.linear(Op::Neg { x: turned }, &[1, 2, 1, 4], vec![4.0 * pbs]);
    let difference = b.linear(Op::Sub { a: negative, b: turned }, &[1, 2, 1, 4], vec![16.0 * pbs]);
    let twice = b.linear(Op::Add { a: difference, b: difference }, &[1, 2, 1, 4], vec![64.0 * pbs]);
    b.output(twice, Read::Exact);
    b.output(other, Read::Exact);
    b.circuit()
}

#[test]
fn a_convolutional_network_decrypts_to_the_integer_circuit() {
    agrees(&conv_net(), &[rows(4, &[2, 2, 4, 5], 0, 1), rows(5, &[2, 2], -1, 1)]);
}

/// Values joined along both kinds of axes, and slices picked in another order.
fn moves() -> Circuit {
    let mut b = Build::new("moves");
    let x = b.input(&[1, 2, 3], -1, 1, 24);
    let y = b.input(&[1, 1, 3], 0, 4, 24);
    let fresh = b.variance(x, 0);
    let channels = b.linear(Op::Concat { xs: vec![x, y, x], axis: 1 }, &[1, 5, 3], vec![fresh]);
    let op = Op::Gather { x: channels, axis: 1, indices: vec![4, 2, 2] };
    let picked = b.linear(op, &[1, 3, 3], vec![fresh]);
    let places = b.linear(Op::Concat { xs: vec![picked, picked], axis: 2 }, &[1, 3, 6], vec![fresh]);
    let op = Op::Gather { x: places, axis: 2, indices: vec![5, 0, 0, 1] };
    let turned = b.linear(op, &[1, 3, 4], vec![fresh]);
    // x·y == ((x + y)² − (x − y)²)/4, with whole numbers: the squares of sum and difference agree modulo 4.
    let op = Op::Gather { x: y, axis: 1, indices: vec![0, 0] };
    let wide = b.linear(op, &[1, 2, 3], vec![fresh]);
    let sum = b.linear(Op::Add { a: x, b: wide }, &[1, 2, 3], vec![2.0 * fresh]);
    let difference = b.linear(Op::Sub { a: x, b: wide }, &[1, 2, 3], vec![2.0 * fresh]);
    let (p, m) = (b.map(sum, |v| v * v / 4, 24), b.map(difference, |v| v * v / 4, 24));
    let pbs = b.variance(p, 0);
    let product = b.linear(Op::Sub { a: p, b: m }, &[1, 2, 3], vec![2.0 * pbs]);
    b.output(turned, Read::Exact);
    b.output(product, Read::Exact);
    b.circuit()
}

#[test]
fn joined_picked_and_multiplied_values_decrypt_to_the_integer_circuit() {
    let (x, y) = (rows(9, &[2, 2, 3], -1, 1), rows(10, &[2, 1, 3], 0, 4));
    let product = eval::integer(moves().graph(), &[x.clone(), y.clone()]).outputs.remove(1);
    assert_eq!(product, &x * &y);
    agrees(&moves(), &[x, y]);
}

#[test]
fn evaluation_is_deterministic_and_does_not_depend_on_threads() {
    let circuit = mlp();
    let inputs = [rows(6, &[3, 6], -1, 2)];
    let mut randomness = Randomness::insecure_deterministic(8);
    let encrypted = encrypt(&circuit, &KEYS.secret, &inputs, &mut randomness).expect("in range");
    let first = evaluate(&circuit, &KEYS.server, &encrypted, &silent).expect("same keys");
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let second = alone.install(|| evaluate(&circuit, &KEYS.server, &encrypted, &silent)).expect("same keys");
    assert_eq!(first, second);
}

#[test]
fn measured_noise_is_what_the_formulas_of_tfhe_predict() {
    let circuit = mlp();
    let inputs = [rows(7, &[24, 6], -1, 2)];
    let mut randomness = Randomness::insecure_deterministic(10);
    let (measured, outputs) =
        measure(&circuit, &KEYS.secret, &KEYS.server, &inputs, &mut randomness, &silent).expect("in range");
    assert_eq!(
        decrypt(&circuit, &KEYS.secret, &outputs).expect("same keys"),
        eval::integer(circuit.graph(), &inputs).outputs
    );
    assert_eq!(measured.len(), circuit.graph().values.len());
    for m in measured {
        // Six standard deviations of a mean of squares, and the ±12 % of the formulas.
        let tolerance = 6.0 * (2.0 / m.count as f64).sqrt() + 0.12;
        let place = &circuit.graph().value(m.value).name;
        assert!((m.variance_ratio - 1.0).abs() < tolerance, "{place}: {m:?}");
        assert!(m.mean.abs() < 6.0 / (m.count as f64).sqrt(), "{place}: {m:?}");
        assert_eq!(m.misread, 0);
    }
}
