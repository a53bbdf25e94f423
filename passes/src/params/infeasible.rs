//! Why no parameter set fits, in terms of the circuit.

use std::fmt;

use fhe_ir::params::ParamSet;

use super::sources::in_words;
use super::{NoiseSource, SearchSpace, Share};

/// A norm, given by its log2.
struct Norm(f64);

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == f64::NEG_INFINITY { f.write_str("0") } else { write!(f, "2^{:.1}", self.0) }
    }
}

/// No parameter set satisfies the requirements. `constraint` is an index into their list.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Infeasible {
    /// The error target is not a probability.
    #[error("an error probability lies strictly between 0 and 1, got {0}")]
    Target(f64),
    /// The search space holds no set.
    #[error("no parameter set on the security curve lies in {0:?}")]
    EmptySpace(SearchSpace),
    /// A table has more boxes than the largest polynomial can hold.
    #[error(
        "constraint {constraint}: a table of {boxes} boxes needs a polynomial of {}, the search ends at {largest}; \
         read fewer bits",
        2 * u64::from(*boxes)
    )]
    TooManyBoxes {
        /// The table with the most boxes.
        constraint: usize,
        /// Its boxes.
        boxes: u32,
        /// Largest `N` searched.
        largest: u32,
    },
    /// The least noisy set is still too noisy at one read.
    #[error(
        "constraint {constraint}: reading {bits:.1} bits behind a norm of {} on table outputs and {} on inputs allows noise of 2^{log2_sd_allowed:.2}, the least found is 2^{log2_sd:.2} \
         ({}; {closest}); {}",
        Norm(*log2_norm_pbs), Norm(*log2_norm_input), in_words(shares), dominant.advice()
    )]
    TooNoisy {
        /// The read that misses its bound by most under `closest`.
        constraint: usize,
        /// Bits read: `log2(1 / (4·half_box))`, the padding bit not counted.
        bits: f64,
        /// log2 of the Euclidean norm on bootstrap outputs; `-inf` when none reaches this read.
        log2_norm_pbs: f64,
        /// log2 of the Euclidean norm on fresh inputs; `-inf` when none reaches this read.
        log2_norm_input: f64,
        /// log2 of the standard deviation that the error target allows here, on the torus.
        ///
        /// With a global target this is what the read could have if it were the only one to fail, so the least noise
        /// may lie below it.
        log2_sd_allowed: f64,
        /// log2 of the standard deviation under `closest`, on the torus.
        log2_sd: f64,
        /// The largest part of that noise.
        dominant: NoiseSource,
        /// All parts of its variance, the largest first.
        shares: Vec<Share>,
        /// The set that comes closest to satisfying every constraint.
        closest: ParamSet,
    },
}
