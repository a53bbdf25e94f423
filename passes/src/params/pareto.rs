//! Decompositions worth trying: for every number of levels the best base, while more levels still mean less noise.

use fhe_ir::params::{Decomposition, LOG2_Q};

/// A decomposition and the noise it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) decomposition: Decomposition,
    /// Variance of one CMUX, or of one keyswitched coefficient.
    pub(super) variance: f64,
}

/// Steps of strictly increasing level, hence cost, and strictly decreasing variance.
///
/// For a fixed level the variance first falls and then rises with the base, and its minimum moves to smaller bases as
/// levels are added, so each scan starts where the last one ended [zama-ai/concrete, `optimization/decomposition`].
pub(super) fn steps(variance: impl Fn(Decomposition) -> f64) -> Vec<Step> {
    let log2_q = LOG2_Q as u32;
    let mut steps: Vec<Step> = Vec::new();
    let mut start = log2_q - 1;
    for level in 1..log2_q {
        let mut best: Option<Step> = None;
        for base_log in (1..=start.min(log2_q / level)).rev() {
            let decomposition = Decomposition { base_log, level };
            let variance = variance(decomposition);
            if best.is_some_and(|b| variance > b.variance) {
                break;
            }
            best = Some(Step { decomposition, variance });
        }
        let best = best.expect("base 2 fits any level below log2 q");
        start = best.decomposition.base_log;
        if steps.last().is_none_or(|last| best.variance < last.variance) {
            steps.push(best);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use fhe_ir::params::{SecurityCurve, Variance};

    use super::*;
    use crate::params::NoiseModel;

    /// Every level of every list, against a scan of all bases.
    #[test]
    fn steps_hold_the_best_base_of_each_level() {
        let key = SecurityCurve::Bits128.minimal_variance(1024).expect("on the curve");
        for model in [NoiseModel::ConcreteV0, NoiseModel::TfheRsCentred] {
            let keyswitch = |d| model.variance_of_keyswitch_coefficient(d, key).0;
            let cmux = |d| model.variance_of_cmux(2, 10, d, Variance(key.0 * 1e-16)).0;
            for variance in [&keyswitch as &dyn Fn(Decomposition) -> f64, &cmux] {
                let steps = steps(variance);
                assert!(steps.len() > 3);
                assert!(
                    steps.is_sorted_by(|a, b| {
                        a.decomposition.level < b.decomposition.level && a.variance > b.variance
                    })
                );
                for step in steps {
                    let level = step.decomposition.level;
                    let best = (1..=63.min(64 / level))
                        .map(|base_log| variance(Decomposition { base_log, level }))
                        .fold(f64::INFINITY, f64::min);
                    assert_eq!(step.variance, best, "level {level}");
                }
            }
        }
    }
}
