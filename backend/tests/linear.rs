//! Linear kernels and the keyswitch against naive references, word for word.

use crate::support::{Build, numbers, rows};
use fhe_backend::keyswitch::PackedKey;
use fhe_backend::{Tensor, linear};
use fhe_ir::*;
use ndarray::ArrayD;
use tfhe::core_crypto::prelude::*;

fn words(seed: u64, count: usize) -> Vec<u64> {
    let mut next = numbers(seed, 0, i64::from(u32::MAX));
    (0..count).map(|_| (next() as u64) << 32 | next() as u64).collect()
}

/// `out[o, y, x]` by the definition of a convolution with wrapping words.
fn naive_conv(x: &Tensor, w: &ArrayD<i64>, g: &ConvGeometry, shape: &[usize]) -> Vec<u64> {
    let mut out = vec![];
    let (out_per_group, ci) = (shape[1] / g.groups, w.shape()[1]);
    let (h, wd) = (x.shape[2] as i64, x.shape[3] as i64);
    for row in 0..x.rows {
        for (o, y, c) in itertools3(shape) {
            let mut sum = vec![0u64; x.words];
            for (i, ky, kx) in itertools3(&[1, ci, w.shape()[2], w.shape()[3]]) {
                let sy = (y * g.strides[0] + ky * g.dilations[0]) as i64 - g.pads[0] as i64;
                let sx = (c * g.strides[1] + kx * g.dilations[1]) as i64 - g.pads[1] as i64;
                if (0..h).contains(&sy) && (0..wd).contains(&sx) {
                    let channel = o / out_per_group * ci + i;
                    let at = row * x.elements() + (channel * h as usize + sy as usize) * wd as usize + sx as usize;
                    for (s, e) in sum.iter_mut().zip(x.ciphertext(at)) {
                        *s = s.wrapping_add(e.wrapping_mul(w[[o, i, ky, kx]] as u64));
                    }
                }
            }
            out.extend(sum);
        }
    }
    out
}

fn itertools3(shape: &[usize]) -> Vec<(usize, usize, usize)> {
    (0..shape[1]).flat_map(|a| (0..shape[2]).flat_map(move |b| (0..shape[3]).map(move |c| (a, b, c)))).collect()
}

#[test]
fn convolutions_match_their_definition() {
    let geometries = [
        ConvGeometry { strides: [1, 1], pads: [0; 4], dilations: [1, 1], groups: 1 },
        ConvGeometry { strides: [2, 1], pads: [1, 2, 0, 1], dilations: [1, 2], groups: 2 },
        ConvGeometry { strides: [1, 3], pads: [2, 2, 2, 2], dilations: [2, 1], groups: 6 },
    ];
    for (seed, (g, size)) in (0..).zip(geometries.into_iter().zip([1, 75, 33])) {
        let mut b = Build::new("conv");
        let x = b.input(&[1, 6, 5, 7], 0, 1, 1 << 20);
        let w_shape = [12, 6 / g.groups, 2, 3];
        let weights = rows(seed, &w_shape, -4, 2).mapv(|w| if w < -2 { 0 } else { w });
        let w = b.ints(&w_shape, weights.iter().copied().collect());
        let op = Op::Conv { x, w, geometry: g.clone() };
        let shape = shape::infer(&b.graph, &op, &[]).expect("it fits");
        let y = b.linear(op, &shape, vec![0.0]);
        let x = Tensor::new(2, vec![1, 6, 5, 7], size, words(seed, 2 * 210 * size));
        let want = naive_conv(&x, &weights, &g, &shape);
        let got = linear::apply(&b.graph, b.graph.value(y), vec![x], 1).expect("linear");
        assert_eq!(got.data(), want);
    }
}

#[test]
fn a_dense_layer_matches_its_definition() {
    for (rows_, inputs, outputs, size) in [(1, 1, 1, 1), (3, 50, 7, 131), (1, 200, 33, 2049)] {
        let mut b = Build::new("dot");
        let x = b.input(&[1, inputs], 0, 1, 1 << 20);
        let weights = rows(9, &[outputs, inputs], -30, 30);
        let w = b.ints(&[outputs, inputs], weights.iter().copied().collect());
        let y = b.linear(Op::Dot { x, w }, &[1, outputs], vec![0.0]);
        let x = Tensor::new(rows_, vec![1, inputs], size, words(1, rows_ * inputs * size));
        let got = linear::apply(&b.graph, b.graph.value(y), vec![x.clone()], 1).expect("linear");
        for i in 0..got.len() {
            let (row, o) = (i / outputs, i % outputs);
            let mut sum = vec![0u64; size];
            for k in 0..inputs {
                for (s, e) in sum.iter_mut().zip(x.ciphertext(row * inputs + k)) {
                    *s = s.wrapping_add(e.wrapping_mul(weights[[o, k]] as u64));
                }
            }
            assert_eq!(got.ciphertext(i), sum);
        }
    }
}

#[test]
fn the_packed_keyswitch_is_the_crates_bit_for_bit() {
    let native = CiphertextModulus::<u64>::new_native();
    for (base_log, level, big, small, count) in [(3, 5, 300, 100, 13), (17, 1, 64, 31, 4), (1, 9, 100, 450, 70)] {
        let (base_log, level) = (DecompositionBaseLog(base_log), DecompositionLevelCount(level));
        let mut key = LweKeyswitchKey::new(0, base_log, level, LweDimension(big), LweDimension(small), native);
        let len = key.as_ref().len();
        key.as_mut().copy_from_slice(&words(2, len));
        let x = Tensor::new(1, vec![1, count], big + 1, words(3, count * (big + 1)));
        let got = PackedKey::new(&key).switch(&x, &|_| {});
        for i in 0..count {
            let mut want = LweCiphertext::new(0, LweSize(small + 1), native);
            keyswitch_lwe_ciphertext(&key, &LweCiphertext::from_container(x.ciphertext(i), native), &mut want);
            assert_eq!(got.ciphertext(i), want.as_ref());
        }
    }
}
