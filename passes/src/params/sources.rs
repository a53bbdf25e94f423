//! Where the noise in front of a read comes from, part by part.

use std::fmt;

use fhe_ir::params::{ParamSet, Variance};
use serde::Serialize;

use super::{Constraint, NoiseModel};

/// Where the noise at a read comes from.
///
/// The drift of the modulus switch is not among them: circuits run the centred one, which takes it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSource {
    /// Earlier bootstraps, amplified by the weights since: noise of their key and of their decomposition.
    Bootstrap,
    /// The rounding of the Fourier transform of these bootstraps, amplified alike.
    Fourier,
    /// Fresh encryptions, amplified by the weights since.
    Input,
    /// The keyswitch in front of the table, and conversions between big keys before it.
    Keyswitch,
    /// The modulus switch in front of the table.
    ModulusSwitch,
}

impl NoiseSource {
    /// All of them, in the order of [`Sources::parts`].
    pub const ALL: [Self; 5] = [Self::Bootstrap, Self::Fourier, Self::Input, Self::Keyswitch, Self::ModulusSwitch];

    /// What a circuit can change about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Bootstrap | Self::Fourier => {
                "read fewer bits, or put a table before the sum so that its weights have a smaller norm"
            }
            Self::Input => "read fewer bits, or use smaller weights on the inputs",
            Self::Keyswitch | Self::ModulusSwitch => "read fewer bits, or accept a larger error probability",
        }
    }
}

impl fmt::Display for NoiseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bootstrap => "bootstrap",
            Self::Fourier => "Fourier transform",
            Self::Input => "input encryption",
            Self::Keyswitch => "keyswitch",
            Self::ModulusSwitch => "modulus switch",
        })
    }
}

/// A source and its part of a variance, between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Where the noise comes from.
    pub source: NoiseSource,
    /// Part of the variance.
    pub share: f64,
}

/// Variances of each source under a parameter set, before any weights.
#[derive(Clone, Copy, Debug)]
pub struct Sources([f64; 5]);

impl Sources {
    /// Computes them.
    ///
    /// # Panics
    /// When [`ParamSet::check`] fails on the set.
    pub fn new(noise: NoiseModel, params: &ParamSet) -> Self {
        let n = f64::from(params.lwe_dimension);
        let fourier = noise.variance_of_fourier(params.glwe_dimension, params.log2_polynomial_size, params.pbs).0 * n;
        Self([
            noise.variance_of_blind_rotation(params).0 - fourier,
            fourier,
            params.big_variance().0,
            noise.variance_after_keyswitch(Variance::ZERO, params).0,
            noise.variance_of_modulus_switch(params.lwe_dimension, params.log2_polynomial_size).0,
        ])
    }

    /// Variance of one fresh bootstrap: of its key and decomposition, and of its Fourier transform.
    pub fn of_one_bootstrap(&self) -> [f64; 2] {
        [self.0[0], self.0[1]]
    }

    /// The variance that decides a read, split in the order of [`NoiseSource::ALL`].
    pub fn parts(&self, c: &Constraint) -> [f64; 5] {
        let [bootstrap, fourier, input, keyswitch, modulus_switch] = self.0;
        let table = if c.table { 1.0 } else { 0.0 };
        [
            bootstrap * c.norm2_pbs,
            fourier * c.norm2_pbs,
            input * c.norm2_input,
            keyswitch * table,
            modulus_switch * table,
        ]
    }

    /// Shares of the variance that decides a read, the largest first.
    pub fn shares(&self, c: &Constraint) -> Vec<Share> {
        let parts = self.parts(c);
        let total: f64 = parts.iter().sum();
        let share = |part: f64| if total > 0.0 { part / total } else { 0.0 };
        let mut shares: Vec<_> = NoiseSource::ALL
            .into_iter()
            .zip(parts)
            .map(|(source, part)| Share { source, share: share(part) })
            .collect();
        // Stable: equal parts stay in the order of the sources.
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }
}

/// Shares in words, the largest first, those below half a percent left out: `modulus switch 61 %, keyswitch 39 %`.
pub fn in_words(shares: &[Share]) -> String {
    let words = shares.iter().filter(|s| s.share >= 0.005).map(|s| format!("{} {:.0} %", s.source, 100.0 * s.share));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use fhe_ir::params::{Decomposition, SecurityCurve};

    use super::*;
    use crate::params::{CostModel, ErrorTarget, Requirements, SearchSpace, evaluate};

    #[test]
    fn the_parts_of_a_read_are_its_variance() {
        let params = ParamSet {
            curve: SecurityCurve::Bits128,
            lwe_dimension: 800,
            glwe_dimension: 1,
            log2_polynomial_size: 11,
            pbs: Decomposition { base_log: 23, level: 1 },
            ks: Decomposition { base_log: 3, level: 5 },
        };
        let table = Constraint {
            norm2_pbs: 1000.0,
            norm2_input: 7.0,
            table: true,
            half_box: 1.0 / 64.0,
            boxes: 16,
            dyadic_boxes: true,
            full: false,
            count: 1,
        };
        let constraints = vec![table, Constraint { table: false, ..table }];
        for noise in [NoiseModel::ConcreteV0, NoiseModel::TfheRsCentred] {
            let requirements = Requirements {
                constraints: constraints.clone(),
                pbs_count: 1,
                ks_count: 1,
                linear_products: 0,
                target: ErrorTarget::PerTable(1e-6),
                curve: params.curve,
                space: SearchSpace::default(),
            };
            let found = evaluate(&requirements, params, &noise, &CostModel::default());
            let sources = Sources::new(noise, &params);
            for (c, report) in constraints.iter().zip(&found.per_constraint) {
                let sum: f64 = sources.parts(c).iter().sum();
                assert!((sum / report.variance.0 - 1.0).abs() < 1e-12, "{noise}");
                let shares = sources.shares(c);
                assert!((shares.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-12);
                assert!(shares.is_sorted_by(|a, b| a.share >= b.share), "{shares:?}");
            }
        }
    }
}
