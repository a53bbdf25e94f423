//! The question that `zama-ai/concrete`'s v0 optimizer answers, put to our search: an oracle for it.

use fhe_ir::params::{ParamSet, SecurityCurve, Variance};

use super::search::{Lists, search_in};
use super::{Constraint, CostModel, ErrorTarget, NoiseModel, Requirements, SearchSpace};

/// One atomic pattern: `sum_size` products with clear weights, then one table of `2^precision` boxes.
#[derive(Clone, Copy, Debug)]
pub struct V0Problem {
    /// Bits that the table reads; a padding bit is added to them.
    pub precision: u32,
    /// log2 of the Euclidean norm of the weights.
    pub log2_norm2: f64,
    /// Number of products, which only cost time.
    pub sum_size: u64,
    /// Largest accepted probability of reading a wrong box.
    pub p_error: f64,
}

/// The cheapest parameters of a [`V0Problem`].
#[derive(Clone, Copy, Debug)]
pub struct V0Solution {
    /// The parameters.
    pub params: ParamSet,
    /// Operations, in Concrete's count.
    pub complexity: f64,
    /// Variance at the table.
    pub variance: Variance,
    /// Probability of reading a wrong box.
    pub p_error: f64,
}

/// The v0 optimizer of one security curve, with its tables computed once.
///
/// Source: `zama-ai/concrete`, `concrete-optimizer/src/optimization/atomic_pattern.rs`, its CPU search space.
pub struct V0 {
    lists: Lists,
}

impl V0 {
    /// Concrete's search space: `k` 1 to 6, `N` 2^8 to 2^17, `n` 512 to 2047.
    pub const SPACE: SearchSpace =
        SearchSpace { lwe_dimension: (512, 2047), glwe_dimension: (1, 6), log2_polynomial_size: (8, 17) };

    /// Prepares the optimizer of a curve.
    pub fn new(curve: SecurityCurve) -> Self {
        Self { lists: Lists::new(curve, NoiseModel::ConcreteV0, Self::SPACE) }
    }

    /// The cheapest parameters, or `None` when none in [`Self::SPACE`] is precise enough.
    pub fn solve(&self, problem: &V0Problem) -> Option<V0Solution> {
        let requirements = Requirements {
            constraints: vec![Constraint {
                norm2_pbs: (2.0 * problem.log2_norm2).exp2(),
                norm2_input: 0.0,
                table: true,
                half_box: (-f64::from(problem.precision + 2)).exp2(),
                boxes: 1 << problem.precision,
                dyadic_boxes: true,
                full: false,
                count: 1,
            }],
            pbs_count: 1,
            ks_count: 1,
            linear_products: problem.sum_size,
            target: ErrorTarget::PerTable(problem.p_error),
            curve: self.lists.curve(),
            space: Self::SPACE,
        };
        let found = search_in(&self.lists, &requirements, &CostModel::CONCRETE_V0).ok()?;
        let table = found.per_constraint[0];
        Some(V0Solution {
            params: found.params,
            complexity: found.cost_ns,
            variance: table.variance,
            p_error: table.p_fail,
        })
    }
}
