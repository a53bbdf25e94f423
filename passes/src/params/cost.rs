//! How long a linear operation, a keyswitch and a bootstrap take under a parameter set.

pub use fhe_ir::cost::MachineCost;
use fhe_ir::params::ParamSet;
use fhe_ir::{Graph, Value};
use serde::{Deserialize, Serialize};

/// What the search minimises. Times are nanoseconds of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum CostModel {
    /// Operation counts of `zama-ai/concrete`'s optimizer, priced alike.
    ///
    /// Source: `zama-ai/concrete`, `concrete-optimizer/src/computing_cost`: an FFT is `N·log2 N + N`, a CMUX
    /// `(k+1)·l` forward and `k+1` backward FFTs and `(k+1)²·l·N` products, a keyswitch
    /// `kN·l·(n+1)` products and as many sums.
    ConcreteV0 {
        /// Nanoseconds of one operation.
        ns_per_operation: f64,
    },
    /// Constants measured on a machine.
    Machine(MachineCost),
}

impl Default for CostModel {
    fn default() -> Self {
        Self::Machine(MachineCost::default())
    }
}

impl CostModel {
    /// Concrete's operation counts, at 1 ns an operation: costs read as its `complexity`.
    pub const CONCRETE_V0: Self = Self::ConcreteV0 { ns_per_operation: 1.0 };

    /// Nanoseconds of one blind rotation with sample extraction.
    pub fn pbs_ns(&self, params: &ParamSet) -> f64 {
        match self {
            Self::ConcreteV0 { ns_per_operation } => {
                let k1 = f64::from(params.glwe_dimension + 1);
                let l = f64::from(params.pbs.level);
                let n_poly = f64::from(params.polynomial_size());
                let fft = n_poly * f64::from(params.log2_polynomial_size) + n_poly;
                let cmux = k1 * l * fft + k1 * fft + k1 * k1 * l * n_poly;
                f64::from(params.lwe_dimension) * cmux * ns_per_operation
            }
            Self::Machine(machine) => machine.pbs_ns(params),
        }
    }

    /// Nanoseconds of one keyswitch from the big key to the small one.
    pub fn ks_ns(&self, params: &ParamSet) -> f64 {
        match self {
            Self::ConcreteV0 { ns_per_operation } => {
                let n1 = f64::from(params.lwe_dimension + 1);
                let digits = f64::from(params.big_dimension()) * f64::from(params.ks.level);
                (digits + digits * n1 + (digits - 1.0) * n1 + 1.0) * ns_per_operation
            }
            Self::Machine(machine) => machine.ks_ns(params),
        }
    }

    /// Nanoseconds of one multiplication of a ciphertext under the big key by a clear weight, and its addition.
    pub fn linear_ns(&self, params: &ParamSet) -> f64 {
        match self {
            Self::ConcreteV0 { ns_per_operation } => f64::from(params.big_dimension()) * ns_per_operation,
            Self::Machine(machine) => machine.linear_ns(params),
        }
    }

    /// Work of a linear op in units of [`Self::linear_ns`].
    pub fn linear_products(&self, graph: &Graph, value: &Value) -> f64 {
        match self {
            Self::ConcreteV0 { .. } => fhe_ir::count::clear_products(graph, value) as f64,
            Self::Machine(machine) => machine.linear_products(graph, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use fhe_ir::params::{Decomposition, SecurityCurve};

    use super::*;

    #[test]
    fn backend_cost_is_close_to_its_measurements() {
        // (n, k, log2 N, pbs base log and level, ks base log and level, keyswitch and bootstrap in milliseconds of one
        // thread), from the example `speed`.
        let measured = [
            (664, 4, 9, (18, 1), (4, 3), 0.273, 5.371),
            (750, 3, 9, (18, 1), (4, 3), 0.234, 4.590),
            (760, 2, 10, (23, 1), (4, 3), 0.313, 6.992),
            (742, 1, 11, (23, 1), (3, 5), 0.508, 8.789),
            (863, 1, 11, (23, 1), (3, 5), 0.566, 10.234),
            (863, 1, 11, (15, 2), (3, 5), 0.566, 15.625),
            (931, 1, 12, (23, 1), (3, 6), 1.602, 24.707),
        ];
        let cost = CostModel::Machine(MachineCost::BACKEND);
        for (lwe_dimension, glwe_dimension, log2_polynomial_size, pbs, ks, ks_ms, pbs_ms) in measured {
            let decomposition = |(base_log, level)| Decomposition { base_log, level };
            let (pbs, ks) = (decomposition(pbs), decomposition(ks));
            let curve = SecurityCurve::Bits128;
            let params = ParamSet { curve, lwe_dimension, glwe_dimension, log2_polynomial_size, pbs, ks };
            assert!((cost.pbs_ns(&params) * 1e-6 / pbs_ms - 1.0).abs() < 0.04, "{params}");
            assert!((cost.ks_ns(&params) * 1e-6 / ks_ms - 1.0).abs() < 0.08, "{params}");
        }
    }
}
