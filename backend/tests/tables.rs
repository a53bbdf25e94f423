//! One bootstrap against the reader of `fhe-ir`: inside the domain, outside it, at box borders, with coarse boxes.

use crate::support::{Build, KEYS, numbers};
use fhe_backend::bootstrap::Switched;
use fhe_backend::{Randomness, decrypt, encrypt, evaluate, silent};
use fhe_ir::*;
use ndarray::{ArrayD, IxDyn};

/// Sends integers through the table and returns what comes out, per channel of two.
fn run(rows: &[Vec<i64>], domain: &Domain, read: Read, span: u64, messages: &[[i64; 2]]) -> Vec<[i64; 2]> {
    let mut b = Build::new("table");
    let x = b.input(&[1, 2], -200, 200, span);
    let y = b.table(x, rows, domain.clone(), read, 400);
    b.output(y, Read::Exact);
    // Outside the domain entries may leave the table's image.
    let lo = vec![-150];
    b.graph.outputs[0].domain = Some(Domain { lo, width: 301 });
    let circuit = b.circuit();
    let flat: Vec<i64> = messages.concat();
    let input = ArrayD::from_shape_vec(IxDyn(&[messages.len(), 2]), flat).expect("two channels");
    let mut randomness = Randomness::insecure_deterministic(2);
    let inputs = encrypt(&circuit, &KEYS.secret, &[input], &mut randomness).expect("in range");
    let outputs = evaluate(&circuit, &KEYS.server, &inputs, &silent).expect("same keys");
    let y = decrypt(&circuit, &KEYS.secret, &outputs).expect("same keys").remove(0);
    y.iter().copied().collect::<Vec<_>>().as_chunks::<2>().0.to_vec()
}

#[test]
fn a_real_bootstrap_wraps_as_the_reader_does() {
    let mut next = numbers(3, -20, 20);
    let rows: Vec<Vec<i64>> = (0..2).map(|_| (0..16).map(|_| next()).collect()).collect();
    let domain = Domain { lo: vec![-3, 5], width: 16 };
    // Two full turns of a half torus of 19 integers.
    let messages: Vec<[i64; 2]> = (-40..40).map(|x| [x, x + 1]).collect();
    let got = run(&rows, &domain, Read::Exact, 19, &messages);
    let reader = Reader { width: 16, boxes: 16, span: 19, centred: true };
    for (m, y) in messages.iter().zip(got) {
        for c in 0..2 {
            assert_eq!(y[c], reader.read(&rows[c], m[c] - domain.lo[c]), "message {} of channel {c}", m[c]);
        }
    }
}

#[test]
fn coarse_boxes_and_a_shared_row_read_the_same_box() {
    let rows = vec![vec![-9, -4, 0, 2, 3, 50, 51, 100]];
    let domain = Domain { lo: vec![-64], width: 128 };
    let messages: Vec<[i64; 2]> = (-100..100).map(|x| [x, -x]).collect();
    let got = run(&rows, &domain, Read::Approximate(3), 160, &messages);
    let reader = Reader { width: 128, boxes: 8, span: 160, centred: true };
    for (m, y) in messages.iter().zip(got) {
        for c in 0..2 {
            let read = |noise: i64| reader.read(&rows[0], m[c] + noise + 64);
            // Next to a border the noise decides.
            assert!([-1, 0, 1].iter().any(|n| read(*n) == y[c]), "{} read {}", m[c], y[c]);
            if read(-1) == read(1) {
                assert_eq!(y[c], read(0));
            }
        }
    }
}

#[test]
fn a_bit_is_read_without_a_padding_bit() {
    let rows = vec![vec![0, 4], vec![0, 1]];
    let domain = Domain { lo: vec![0], width: 32 };
    let multiples: Vec<i64> = (-5..6).collect();
    // The multiples themselves, and what is almost a quarter of the torus away from them.
    let messages: Vec<[i64; 2]> =
        multiples.iter().flat_map(|m| [-14, 0, 14].map(|away| [32 * m + away, 32 * m])).collect();
    let got = run(&rows, &domain, Read::Bit, 32, &messages);
    for (m, y) in multiples.iter().flat_map(|m| [m; 3]).zip(got) {
        assert_eq!(y, [4 * (m & 1), m & 1], "{m} halves of the torus");
    }
}

#[test]
fn middles_are_read_in_the_middle_of_their_boxes() {
    let rows = vec![vec![5, -3, 7, 9, 11, 2, 0, 1]];
    let domain = Domain { lo: vec![-8], width: 16 };
    // Boxes of two integers: where the odd ones lie there is a whole integer to both borders.
    let messages: Vec<[i64; 2]> = (-20..20).map(|k| [2 * k + 1, 7]).collect();
    for span in [16, 24] {
        let reader = Reader { width: 16, boxes: 8, span, centred: false };
        for (m, y) in messages.iter().zip(run(&rows, &domain, Read::Middles(8), span, &messages)) {
            assert_eq!(y, [reader.read(&rows[0], m[0] + 8), 1], "{} of {span}", m[0]);
        }
    }
}

#[test]
fn the_centred_modulus_switch_puts_phases_into_the_middle_of_their_slot() {
    let (n, slots) = (860usize, 4096.0);
    let mut word = numbers(9, 0, i64::from(u32::MAX));
    let mut bit = numbers(11, 0, 1);
    let key: Vec<u64> = (0..n).map(|_| bit() as u64).collect();
    let count = 4000;
    let errors: Vec<f64> = (0..count)
        .map(|_| {
            let ciphertext: Vec<u64> = (0..=n).map(|_| (word() as u64) << 32 | word() as u64).collect();
            let mask = ciphertext[..n].iter().zip(&key).fold(0u64, |s, (a, k)| s.wrapping_add(a * k));
            let phase = ciphertext[n].wrapping_sub(mask) as f64 / 2f64.powi(64) * slots;
            let slot = Switched::new(&ciphertext, 0, 2048).slot(&key) as f64;
            (slot + 0.5 - phase + slots / 2.0).rem_euclid(slots) - slots / 2.0
        })
        .collect();
    let mean = errors.iter().sum::<f64>() / f64::from(count);
    let variance = errors.iter().map(|e| e * e).sum::<f64>() / f64::from(count);
    let predicted = crate::support::PARAMS.modulus_switch_variance().0 * slots * slots;
    assert!(mean.abs() < 4.0 * (predicted / f64::from(count)).sqrt(), "mean {mean} slots");
    assert!((variance / predicted - 1.0).abs() < 0.12, "variance {variance}, predicted {predicted}");
}
