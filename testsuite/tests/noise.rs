//! Noise and failures of real ciphertexts against what is predicted: small samples of what the program `noise` measures.

use fhe_testsuite::failures::{binomial_cdf, failures};
use fhe_testsuite::noise::{compare, sets};

#[test]
fn measured_variances_are_the_predicted_ones() {
    // N = 256, 512 and 1024.
    for params in [sets()[0], sets()[1], sets()[3]] {
        for c in compare(&params, 2, 16, 1) {
            // Two keys of 512 keyswitches and 4096 modulus switches each: a mean of 1024 squares has a standard deviation
            // of √(2/1024), 4.4 %. The ones among the bits of two keys spread the other two by 1/√(2·660), 2.8 %.
            // Four of these, on top of the 15 % within which the full measurement has to be.
            let tolerance = if c.step == "keyswitch" { 0.18 } else { 0.11 } + 0.15;
            assert!((c.ratio() - 1.0).abs() < tolerance, "{params}: {} is {:.3} of the prediction", c.step, c.ratio());
            // Errors of one rotation go together: 32 rotations, against 1024 and 8192 errors of their own.
            let of_mean = if c.step == "blind rotation" { 0.7 } else { 0.15 };
            assert!(c.measured.mean.abs() < of_mean, "{params}: mean of {} is {:.3} sd", c.step, c.measured.mean);
        }
    }
}

#[test]
fn an_exact_table_is_read_wrong_as_often_as_its_noise_says() {
    // 1000 lookups at P = 0.05: about 50 wrong, give or take 7; the interval holds 99.8 % of all outcomes.
    let f = failures(0.05, 1000, 3);
    assert!(f.lookups >= 1000 && f.wrong > 0, "{f:?}");
    assert!(f.as_implied(), "{f:?}");
    assert!(!f.significantly_above(), "{f:?}");
    // A mean of 1000 squares has a standard deviation of 4.5 %.
    assert!((0.7..1.3).contains(&f.variance_ratio), "{f:?}");
}

#[test]
fn binomial_tails_are_those_of_the_tables() {
    for (k, n, p, want) in [(0, 10, 0.1, 0.348_678_440_1), (2, 10, 0.5, 0.054_687_5), (10, 10, 0.5, 1.0)] {
        let got = binomial_cdf(k, n, p);
        assert!((got - want).abs() < 1e-9, "{k} of {n} at {p}: {got}");
    }
    assert!((binomial_cdf(500, 10_000, 0.05) - 0.511_895).abs() < 1e-3);
}
