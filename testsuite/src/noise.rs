//! Noise of real ciphertexts against its prediction, set by set.

use fhe_backend::Randomness;
use fhe_backend::noise::{MeasuredNoise, Spread, measure_noise};
use fhe_backend::silent;
use fhe_ir::{Decomposition, ParamSet, SecurityCurve};
use fhe_passes::params::NoiseModel;
use fhe_passes::select_params::NOISE_MODEL;

use crate::failures::circuit;

/// `k`, `log2 N`, `n`, base and levels of the bootstrap, base and levels of the keyswitch.
type Set = (u32, u32, u32, (u32, u32), (u32, u32));

/// Eight sets with `N` from 256 to 8192, one level and two, keyswitches of narrow and of wide digits.
const SETS: [Set; 8] = [
    (6, 8, 747, (17, 1), (4, 3)),
    (4, 9, 664, (23, 1), (2, 6)),
    (3, 9, 760, (12, 2), (3, 4)),
    (2, 10, 812, (23, 1), (2, 8)),
    (1, 11, 742, (23, 1), (3, 5)),
    (1, 11, 863, (15, 2), (1, 15)),
    (1, 12, 900, (15, 2), (6, 3)),
    (1, 13, 920, (15, 2), (2, 9)),
];

/// The eight sets on the 128-bit curve.
pub fn sets() -> Vec<ParamSet> {
    let decomposition = |(base_log, level)| Decomposition { base_log, level };
    let set = |(glwe_dimension, log2_polynomial_size, lwe_dimension, pbs, ks)| ParamSet {
        curve: SecurityCurve::Bits128,
        lwe_dimension,
        glwe_dimension,
        log2_polynomial_size,
        pbs: decomposition(pbs),
        ks: decomposition(ks),
    };
    SETS.into_iter().map(set).collect()
}

/// A step of the circuit: its predicted variance and the measured one.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Which step.
    pub step: &'static str,
    /// By the model that circuits are built with.
    pub predicted: f64,
    /// By Concrete's model.
    pub concrete: f64,
    /// With the backend's kernels.
    pub measured: Spread,
}

impl Comparison {
    /// Measured over predicted variance.
    pub fn ratio(&self) -> f64 {
        self.measured.variance / self.predicted
    }

    /// Standard error of [`Self::ratio`].
    pub fn error(&self) -> f64 {
        self.measured.standard_error / self.predicted
    }
}

/// Measures a set under several keys and compares each step.
pub fn compare(params: &ParamSet, keys: usize, rotations: usize, seed: u128) -> [Comparison; 3] {
    let mut randomness = Randomness::insecure_deterministic(seed);
    let MeasuredNoise { blind_rotation, keyswitch, modulus_switch } =
        measure_noise(&circuit(*params), keys, rotations, &mut randomness, &silent).expect("the circuit has a table");
    let predictions = |model: NoiseModel| {
        [
            model.variance_of_blind_rotation(params).0,
            model.variance_of_keyswitch_coefficient(params.ks, params.small_variance()).0
                * f64::from(params.big_dimension()),
            model.variance_of_modulus_switch(params.lwe_dimension, params.log2_polynomial_size).0,
        ]
    };
    let (ours, concrete) = (predictions(NOISE_MODEL), predictions(NoiseModel::ConcreteV0));
    let steps = [("blind rotation", blind_rotation), ("keyswitch", keyswitch), ("modulus switch", modulus_switch)];
    std::array::from_fn(|i| Comparison {
        step: steps[i].0,
        predicted: ours[i],
        concrete: concrete[i],
        measured: steps[i].1,
    })
}
