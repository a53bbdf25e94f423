//! What a circuit asks of its parameters, and how it fares under given ones.

use fhe_ir::params::{ParamSet, SecurityCurve, Variance};
use serde::{Deserialize, Serialize};

use super::{CostModel, NoiseModel, tail};

/// One read of a circuit: the noise at the input of a table, or at an output, must stay within half a box.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Factor on the variance of one bootstrap output at this read: the sum of squares of the weights (the squared
    /// norm2), worst over the channels.
    pub norm2_pbs: f64,
    /// Factor on the variance of one fresh input encryption at this read.
    pub norm2_input: f64,
    /// A table: keyswitch, modulus switch and blind rotation follow. Otherwise an output, decrypted under the big key.
    pub table: bool,
    /// Half a box on the torus: a read is right while the noise stays within `±half_box`. A table of `2^p` boxes
    /// with a padding bit has `2^-(p+2)`.
    pub half_box: f64,
    /// Boxes of the table, at most `N/2`. Ignored for an output.
    pub boxes: u32,
    /// Whether the boxes divide `N`. Those that do not are rounded to whole slots and lose half a slot, `1/(4N)`.
    /// Ignored for an output.
    pub dyadic_boxes: bool,
    /// Whether the table is read in full: it has no boxes to miss, `boxes` is 1, and only a noise target bounds it.
    pub full: bool,
    /// Number of values read this way, at least 1.
    pub count: u64,
}

impl Constraint {
    /// Part of the half torus that the domain fills: 1 when it is alone in its region, or the widest.
    pub fn filled(&self) -> f64 {
        4.0 * self.half_box * f64::from(self.boxes.max(1))
    }

    /// What is left of `half_box` under polynomials of size `2^log2_polynomial_size`; not above 0 when nothing is.
    pub fn bound(&self, log2_polynomial_size: u32) -> f64 {
        if self.table && !self.dyadic_boxes {
            self.half_box - 0.25 / f64::from(1u32 << log2_polynomial_size)
        } else {
            self.half_box
        }
    }
}

/// How often a circuit may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ErrorTarget {
    /// Largest probability that any one read is wrong (`p_error`).
    PerTable(f64),
    /// Largest probability that some read of one execution is wrong (`global_p_error`).
    Global(f64),
    /// log2 of the largest standard deviation of the noise at a read, when its domain fills half a torus; a narrower
    /// domain bears less. How often boxes are missed is not asked.
    Noise(f64),
}

/// Where to search. The default ends at `N = 2^16`, the largest the `tfhe` crate publishes parameters for.
///
/// Bounds are inclusive; what [`ParamSet::check`] refuses is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchSpace {
    /// `n`.
    pub lwe_dimension: (u32, u32),
    /// `k`.
    pub glwe_dimension: (u32, u32),
    /// `log2 N`.
    pub log2_polynomial_size: (u32, u32),
}

impl SearchSpace {
    /// The part of the space in which [`ParamSet::check`] holds.
    pub(super) fn supported(self) -> Self {
        let within = |(lo, hi): (u32, u32), min, max| (lo.max(min), hi.min(max));
        Self {
            lwe_dimension: within(self.lwe_dimension, SecurityCurve::MIN_DIMENSION, 2048),
            glwe_dimension: within(self.glwe_dimension, 1, 8),
            log2_polynomial_size: within(self.log2_polynomial_size, 8, 17),
        }
    }
}

impl Default for SearchSpace {
    fn default() -> Self {
        Self {
            lwe_dimension: (SecurityCurve::MIN_DIMENSION, 2048),
            glwe_dimension: (1, 6),
            log2_polynomial_size: (8, 16),
        }
    }
}

/// What a circuit does with its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requirements {
    /// Every read.
    pub constraints: Vec<Constraint>,
    /// Blind rotations of one execution.
    pub pbs_count: u64,
    /// Keyswitches of one execution: below `pbs_count` when several tables read one value.
    pub ks_count: u64,
    /// Linear work of one execution, in products of a ciphertext by a clear weight ([`CostModel::linear_products`]).
    pub linear_products: u64,
    /// How often it may be wrong.
    pub target: ErrorTarget,
    /// Security of both keys.
    pub curve: SecurityCurve,
    /// Where to search.
    pub space: SearchSpace,
}

/// A constraint under a parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConstraintReport {
    /// Variance that arrives at the read, under the big key.
    pub variance_in: Variance,
    /// Variance that decides the read: `variance_in`, and keyswitch and modulus switch in front of a table.
    pub variance: Variance,
    /// Largest noise that is still read right, on the torus; infinite for a table read in full.
    pub bound: f64,
    /// Part of the half torus that the domain fills.
    pub filled: f64,
    /// Probability that one such read is wrong.
    pub p_fail: f64,
}

/// A parameter set, and what a circuit costs and risks under it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The parameters. In a circuit without tables the small key and both decompositions are placeholders.
    pub params: ParamSet,
    /// Single-thread nanoseconds of one execution, in the cost model.
    pub cost_ns: f64,
    /// Variance of a fresh bootstrap output.
    pub variance_of_pbs: Variance,
    /// In the order of the requirements.
    pub per_constraint: Vec<ConstraintReport>,
    /// Probability that some read of one execution is wrong: `1 − Π (1 − p_fail)^count`.
    pub p_fail_total: f64,
}

impl Found {
    /// Whether every read is precise enough.
    pub fn meets(&self, target: ErrorTarget) -> bool {
        match target {
            ErrorTarget::PerTable(p) => self.per_constraint.iter().all(|c| c.p_fail <= p),
            ErrorTarget::Global(p) => self.p_fail_total <= p,
            ErrorTarget::Noise(log2_sd) => {
                self.per_constraint.iter().all(|c| c.variance.sd() <= log2_sd.exp2() * c.filled)
            }
        }
    }
}

/// What a circuit costs and risks under a given set.
///
/// # Panics
/// When [`ParamSet::check`] fails on it.
pub fn evaluate(req: &Requirements, params: ParamSet, noise: &NoiseModel, cost: &CostModel) -> Found {
    let fresh = params.big_variance();
    let variance_of_pbs = noise.variance_of_blind_rotation(&params);
    let per_constraint: Vec<_> = req
        .constraints
        .iter()
        .map(|c| {
            let variance_in = variance_of_pbs * c.norm2_pbs + fresh * c.norm2_input;
            let variance = if c.table { noise.variance_at_table(variance_in, &params) } else { variance_in };
            let bound = if c.full { f64::INFINITY } else { c.bound(params.log2_polynomial_size) };
            let p_fail = tail(bound * noise.bound_filled(), variance);
            ConstraintReport { variance_in, variance, bound, filled: c.filled(), p_fail }
        })
        .collect();
    let log_right: f64 =
        req.constraints.iter().zip(&per_constraint).map(|(c, r)| c.count as f64 * (-r.p_fail).ln_1p()).sum();
    let cost_ns = req.pbs_count as f64 * cost.pbs_ns(&params)
        + req.ks_count as f64 * cost.ks_ns(&params)
        + req.linear_products as f64 * cost.linear_ns(&params);
    Found { params, cost_ns, variance_of_pbs, per_constraint, p_fail_total: -log_right.exp_m1() }
}
