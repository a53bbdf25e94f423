//! Chooses the TFHE parameters of a circuit: what noise it may carry, what it costs, and the cheapest set that fits.
//!
//! [`search`] is what a compilation calls. It needs a [`NoiseModel`] (how noisy a parameter set is), a [`CostModel`]
//! (how slow it is) and [`Requirements`] (what the circuit does with its values). [`V0`] is the same search
//! restricted to the question `zama-ai/concrete`'s own optimizer answers, so that its answers are an oracle for ours.
//!
//! Notation of this module, which is that of the sources: `n` the small LWE dimension, `k` the GLWE dimension, `N`
//! the polynomial size, `B = 2^b` a decomposition base, `l` its number of levels, `q = 2^64`. Every variance is on
//! the torus: a modular variance divided by `q²`.

mod cost;
mod gauss;
mod infeasible;
mod noise;
mod pareto;
mod requirements;
mod search;
mod sets;
mod sources;
mod v0;

pub use cost::{CostModel, MachineCost};
pub use gauss::{kappa, tail};
pub use infeasible::Infeasible;
pub use noise::NoiseModel;
pub use requirements::{Constraint, ConstraintReport, ErrorTarget, Found, Requirements, SearchSpace, evaluate};
pub use search::{Prepared, search};
pub use sets::{Assignment, BigKeyDims, Factors, MeanNoise, OutputGroup, Problem, Read, TableGroup, TablePlan, solve};
pub use sources::{NoiseSource, Share, Sources, in_words};
pub use v0::{V0, V0Problem, V0Solution};
