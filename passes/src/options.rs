//! What a user can choose: widths, calibration, resolution, error target, security.

use std::collections::BTreeMap;

use fhe_ir::SecurityCurve;
use fhe_ir::cost::Machine;
use serde::{Deserialize, Serialize};

use crate::params::{CostModel, ErrorTarget};

/// Bit widths of the four kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits {
    /// Inputs of the network.
    pub model_inputs: u32,
    /// Activations: inputs of ops with weights.
    pub op_inputs: u32,
    /// Weights.
    pub op_weights: u32,
    /// Resolution at which outputs are read.
    pub model_outputs: u32,
}

impl Bits {
    /// Widths a user can ask for.
    pub const RANGE: std::ops::RangeInclusive<u32> = 1..=16;

    /// `n` bits everywhere; outputs are read at 8 bits or more.
    pub fn uniform(n: u32) -> Self {
        Self { model_inputs: n, op_inputs: n, op_weights: n, model_outputs: n.max(8) }
    }
}

/// How calibration data decides a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationMethod {
    /// Everything seen.
    MinMax,
    /// The given percentage of the values seen, cut evenly at both ends (`99.9`).
    Percentile(f64),
    /// The range whose quantization error on the values seen is smallest in the mean square.
    Mse,
}

/// What accumulator ranges are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ranges {
    /// The calibrated range with its margin, cut at the proven one; values outside saturate.
    Calibrated,
    /// The proven range: nothing saturates.
    WorstCase,
}

/// How finely tables read accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// One box per integer.
    Off,
    /// `2^p` boxes where the accumulator is wider; the low bits fall into the noise.
    Approximate(u32),
    /// At most `2^p` boxes where the accumulator is wider; the low bits are removed one by one, each by a bootstrap.
    Exact(u32),
    /// As finely as bootstraps resolve: tables are functions of a noisy argument, and activations are not quantized
    /// again on the way. Needs a noise budget in place of an error probability.
    Full,
}

impl Rounding {
    /// Bits that tables tell apart, where that is limited.
    pub fn bits(self) -> Option<u32> {
        match self {
            Self::Off | Self::Full => None,
            Self::Approximate(p) | Self::Exact(p) => Some(p),
        }
    }

    /// The same method at another number of bits; what is not limited stays so.
    pub fn with_bits(self, bits: u32) -> Self {
        match self {
            Self::Off | Self::Full => self,
            Self::Approximate(_) => Self::Approximate(bits),
            Self::Exact(_) => Self::Exact(bits),
        }
    }
}

/// Bits of activations that are not quantized again: their step is far below the noise of any bootstrap.
const FULL_ACTIVATION_BITS: u32 = 12;

/// Everything that decides what a compilation gives, besides the model and the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Bit widths.
    pub bits: Bits,
    /// How ranges are taken from the calibration data.
    pub calibration: CalibrationMethod,
    /// Fraction of a calibrated range added at each end of it, in total: 0.15 makes the range 15 % wider.
    pub range_margin: f64,
    /// The same for the domains of tables alone, where it is another one; negative cuts them inside what was seen.
    #[serde(default)]
    pub domain_margin: Option<f64>,
    /// log2 of the noise that the domains of tables read in full are chosen for, as a standard deviation on the torus,
    /// where it is not that of the error target.
    #[serde(default)]
    pub domain_noise: Option<f64>,
    /// Whether tables read in full make good for their mean error under that noise.
    #[serde(default)]
    pub noise_bias: bool,
    /// Bits of the weights of layers between the last tables and the outputs, where they are fewer than others have.
    #[serde(default)]
    pub output_weights: Option<u32>,
    /// How many times finer than the widest domain asks for the torus step of a region is, where tables of several widths
    /// are read in full: whole factors then fill each domain better, and noise of bootstraps counts for more.
    #[serde(default = "one")]
    pub finer_steps: u64,
    /// What accumulator ranges are built for.
    pub ranges: Ranges,
    /// How finely tables read accumulators.
    pub rounding: Rounding,
    /// Bits that single tables tell apart, by the names of their maps; fewer than [`Self::rounding`] has.
    #[serde(default)]
    pub coarser: BTreeMap<String, u32>,
    /// How often a table may be read wrongly.
    pub error: ErrorTarget,
    /// Security level.
    pub curve: SecurityCurve,
    /// Largest size of all evaluation keys in bytes; beyond that of one set, only what keeps it is taken. 0 is one set.
    #[serde(default)]
    pub max_key_bytes: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// The machine whose time is saved.
    #[serde(default)]
    pub machine: Machine,
}

impl Options {
    /// The cost model that parameters are chosen and times predicted by.
    pub fn cost_model(&self) -> CostModel {
        CostModel::Machine(self.machine.cost)
    }
}

impl Options {
    /// Bits of the results of tables: those asked for, or so many that steps vanish where tables are read in full.
    pub fn activation_bits(&self) -> u32 {
        match self.rounding {
            Rounding::Full => self.bits.op_inputs.max(FULL_ACTIVATION_BITS),
            Rounding::Off | Rounding::Approximate(_) | Rounding::Exact(_) => self.bits.op_inputs,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: Bits::uniform(6),
            calibration: CalibrationMethod::Percentile(99.5),
            range_margin: 0.15,
            domain_margin: None,
            domain_noise: None,
            noise_bias: false,
            output_weights: None,
            finer_steps: 1,
            ranges: Ranges::Calibrated,
            rounding: Rounding::Approximate(6),
            coarser: BTreeMap::new(),
            error: ErrorTarget::PerTable(2f64.powi(-40)),
            curve: SecurityCurve::Bits128,
            max_key_bytes: 0,
            seed: 0,
            machine: Machine::default(),
        }
    }
}

fn one() -> u64 {
    1
}
