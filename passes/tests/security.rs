//! The security curves against parameter sets that another project publishes and lets an estimator check.
//!
//! Slices of the table are in `testsuite/oracle`; `FHE_DATA` names a folder with the whole one.

use crate::oracle::{Row, int, slice, whole};
use fhe_ir::params::SecurityCurve;

/// Largest relative difference between a published standard deviation and our curve where both are the same formula.
///
/// Published numbers have 16 digits. `tfhe` adds the floor of the noise to its curve where ours takes the larger of both:
/// that is 3·10⁻⁹ of the standard deviation at dimension 2048, the largest below the floor that has a set.
const SAME: f64 = 1e-8;

/// A key of a published set: its dimension, and the standard deviation of its noise on the torus.
struct Key<'a> {
    set: &'a str,
    dimension: u32,
    sd: f64,
}

/// Small and big key of each set whose noise is given as `kind`: `g:` a standard deviation, `t:` the bound of a TUniform.
fn keys<'a>(rows: &'a [Row], kind: &str) -> Vec<Key<'a>> {
    let mut keys = vec![];
    for row in rows {
        let noises = [&row["lwe_noise"], &row["glwe_noise"]].map(|noise| noise.strip_prefix(kind));
        let [Some(lwe), Some(glwe)] = noises else { continue };
        // Keyswitch keys of this type have a modulus of 32 bits.
        let lwe_bits = if row["type"] == "KeySwitch32PBSParameters" { 32 } else { 64 };
        for (dimension, noise, bits) in [(int(row, "n"), lwe, lwe_bits), (int(row, "k") * int(row, "N"), glwe, 64)] {
            let number: f64 = noise.parse().unwrap_or_else(|e| panic!("{noise} of {row:?}: {e}"));
            let sd = if kind == "g:" { number } else { tuniform_sd(number) * (-f64::from(bits)).exp2() };
            keys.push(Key { set: &row["name"], dimension, sd });
        }
    }
    keys
}

/// Standard deviation of TUniform(b): integers from `-2^b` to `2^b`, the two ends half as likely as the others.
fn tuniform_sd(bound: f64) -> f64 {
    (((2.0 * bound + 1.0).exp2() + 1.0) / 6.0).sqrt()
}

/// Least and largest ratio of the keys' standard deviations to that of a curve.
fn ratios(curve: SecurityCurve, keys: &[Key<'_>]) -> (f64, f64) {
    keys.iter().fold((f64::INFINITY, 0.0), |(least, largest), key| {
        let ours = curve.minimal_variance(key.dimension).expect("published dimensions are on the curve").sd();
        let ratio = key.sd / ours;
        assert!(ratio >= 1.0 - SAME, "{} has {ratio} of our noise at dimension {}", key.set, key.dimension);
        (ratio.min(least), ratio.max(largest))
    })
}

fn check_gaussian(rows: &[Row], least_sets: usize) {
    let keys = keys(rows, "g:");
    assert!(keys.len() >= 2 * least_sets, "only {} keys", keys.len());
    let (least, largest) = ratios(SecurityCurve::Bits132, &keys);
    println!("{} keys have {:+.1e} to {:+.1e} of the 132-bit curve's noise", keys.len(), least - 1.0, largest - 1.0);
    assert!(largest <= 1.0 + SAME, "{largest}");
    // Four bits of margin; at the floor of the noise, where both curves are the same, none.
    let (least, largest) = ratios(SecurityCurve::Bits128, &keys);
    println!("and {least:.3} to {largest:.3} times that of the 128-bit curve");
    assert!(largest > 1.5 && largest < 4.0, "{largest}");
}

fn check_tuniform(rows: &[Row], least_sets: usize) {
    let keys = keys(rows, "t:");
    assert!(keys.len() >= 2 * least_sets, "only {} keys", keys.len());
    for curve in [SecurityCurve::Bits128, SecurityCurve::Bits132] {
        let (least, largest) = ratios(curve, &keys);
        println!("{} keys have {least:.3} to {largest:.3} times the noise of {}", keys.len(), curve.name());
        // Bounds are powers of two, rounded up: up to twice the 132-bit curve, and its margin on the other.
        assert!(largest < 8.0, "{largest}");
    }
}

#[test]
fn published_gaussian_sets_lie_on_the_132_bit_curve() {
    check_gaussian(&slice("tfhe_rs_gaussian.csv"), 10);
    if let Some(rows) = whole("tfhe_rs_params.csv") {
        check_gaussian(&rows, 200);
    }
}

#[test]
fn published_tuniform_sets_lie_above_both_curves() {
    check_tuniform(&slice("tfhe_rs_tuniform.csv"), 7);
    if let Some(rows) = whole("tfhe_rs_params.csv") {
        check_tuniform(&rows, 20);
    }
}

#[test]
fn the_curve_of_128_bits_needs_less_noise_than_that_of_132() {
    for dimension in (450..4096).step_by(7) {
        let at = |curve: SecurityCurve| curve.minimal_variance(dimension).expect("on the curve");
        assert!(at(SecurityCurve::Bits128) <= at(SecurityCurve::Bits132));
    }
}

#[test]
fn curves_are_known_by_name_and_by_level() {
    for curve in [SecurityCurve::Bits128, SecurityCurve::Bits132] {
        assert_eq!(curve.name().parse(), Ok(curve));
        assert_eq!(curve.bits().to_string().parse(), Ok(curve));
        assert!(curve.estimator().starts_with("lattice-estimator "), "{}", curve.estimator());
    }
    assert_ne!(SecurityCurve::Bits128.estimator(), SecurityCurve::Bits132.estimator());
    let error = "80".parse::<SecurityCurve>().expect_err("no such curve");
    assert!(error.contains("gaussian-128") && error.contains("gaussian-132"), "{error}");
}
