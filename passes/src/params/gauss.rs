//! Gaussian tails: from a bound and a variance to a probability of error, and back.

use fhe_ir::params::Variance;

/// Probability that a centred Gaussian of `variance` leaves `[-bound, bound]`: `erfc(bound / (sd·√2))`, two-sided.
///
/// `bound` is on the torus. A non-positive bound is always left (1); without noise a positive one never is (0).
pub fn tail(bound: f64, variance: Variance) -> f64 {
    if bound <= 0.0 {
        return 1.0;
    }
    if variance.0 == 0.0 {
        return 0.0;
    }
    libm::erfc(bound / (variance.sd() * std::f64::consts::SQRT_2))
}

/// Number of standard deviations that a centred Gaussian leaves with probability `p_error`: `√2·erfc⁻¹(p_error)`.
///
/// Accurate to the last bits for every `p_error` in `(0, 1)` down to `1e-300` (2^-128 is 3e-39); the result errs
/// upwards, so `kappa(p)` standard deviations are left with probability at most `p`.
///
/// # Panics
/// When `p_error` is outside `(0, 1)`.
pub fn kappa(p_error: f64) -> f64 {
    assert!(p_error > 0.0 && p_error < 1.0, "an error probability lies strictly between 0 and 1, got {p_error}");
    // erfc is 1 at 0 and below the smallest normal number at 40/√2.
    let (mut lo, mut hi) = (0.0_f64, 40.0_f64);
    loop {
        let mid = 0.5 * (lo + hi);
        if mid <= lo || mid >= hi {
            return hi;
        }
        if tail(mid, Variance(1.0)) <= p_error {
            hi = mid;
        } else {
            lo = mid;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_of_the_usual_error_probabilities() {
        // Two-sided normal quantiles, from tables of the normal law.
        let quantiles = [
            (0.317_310_507_862_914_1, 1.0),
            (0.05, 1.959_963_984_540_054),
            (0.002_699_796_063_260_207, 3.0),
            (6.334_248_366_623_973e-5, 4.0),
            (1.973_175_290_075_396e-9, 6.0),
        ];
        for (p, sigmas) in quantiles {
            assert!((kappa(p) - sigmas).abs() < 1e-9, "kappa({p}) = {}", kappa(p));
        }
    }

    #[test]
    fn kappa_inverts_the_tail_down_to_2_to_minus_128() {
        for exponent in [1, 2, 7, 17, 40, 64, 128, 200] {
            let p = (-f64::from(exponent)).exp2();
            let back = tail(kappa(p), Variance(1.0));
            assert!(back <= p && (back / p - 1.0).abs() < 1e-12, "2^-{exponent}: {back} against {p}");
        }
    }

    #[test]
    fn a_bound_of_nothing_is_always_left() {
        assert_eq!(tail(0.0, Variance::ZERO), 1.0);
        assert_eq!(tail(-1.0, Variance(1.0)), 1.0);
        assert_eq!(tail(1.0, Variance::ZERO), 0.0);
    }
}
