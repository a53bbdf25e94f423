//! How long a linear operation, a keyswitch and a bootstrap take under a parameter set.

use fhe_ir::params::ParamSet;
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
        let n = f64::from(params.lwe_dimension);
        let k1 = f64::from(params.glwe_dimension + 1);
        let l = f64::from(params.pbs.level);
        let log2_n_poly = f64::from(params.log2_polynomial_size);
        let n_poly = f64::from(params.polynomial_size());
        let products = k1 * k1 * l * n_poly;
        match self {
            Self::ConcreteV0 { ns_per_operation } => {
                let fft = n_poly * log2_n_poly + n_poly;
                n * (k1 * l * fft + k1 * fft + products) * ns_per_operation
            }
            Self::Machine(machine) => {
                let polynomials = k1 * (l + 1.0);
                let cmux = machine.fft_butterfly_ns * polynomials * n_poly * log2_n_poly
                    + machine.coefficient_ns * polynomials * n_poly
                    + machine.product_ns * products;
                let doublings = (log2_n_poly - f64::from(machine.cached_log2_polynomial_size)).max(0.0);
                n * cmux * (1.0 + machine.slowdown_per_doubling * doublings)
            }
        }
    }

    /// Nanoseconds of one keyswitch from the big key to the small one.
    pub fn ks_ns(&self, params: &ParamSet) -> f64 {
        let n1 = f64::from(params.lwe_dimension + 1);
        let digits = f64::from(params.big_dimension()) * f64::from(params.ks.level);
        match self {
            Self::ConcreteV0 { ns_per_operation } => {
                (digits + digits * n1 + (digits - 1.0) * n1 + 1.0) * ns_per_operation
            }
            Self::Machine(machine) => {
                let key_bytes = digits * n1 * 8.0;
                let streamed = (1.0 - machine.cache_bytes / key_bytes).max(0.0);
                digits * n1 * (machine.keyswitch_product_ns + machine.keyswitch_streamed_ns * streamed)
            }
        }
    }

    /// Nanoseconds of one multiplication of a ciphertext under the big key by a clear weight, and its addition.
    pub fn linear_ns(&self, params: &ParamSet) -> f64 {
        let big = f64::from(params.big_dimension());
        match self {
            Self::ConcreteV0 { ns_per_operation } => big * ns_per_operation,
            Self::Machine(machine) => (big + 1.0) * machine.linear_product_ns,
        }
    }
}

/// Constants of a machine, for [`CostModel::Machine`].
///
/// A bootstrap is `n` CMUXes of `(k+1)·(l+1)` FFTs of size `N` and `(k+1)²·l·N` complex products; a keyswitch reads its
/// whole key once. The default was fitted to nine parameter sets with `N` from 256 to 16384, bootstrapped in batches
/// and keyswitched one by one with `tfhe` 1.8.2 on one thread of a 2-core Zen-5 AVX-512 machine: within 8 % for every
/// bootstrap and 18 % for every keyswitch (test `machine_cost_is_close_to_its_measurements`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineCost {
    /// Nanoseconds of an FFT of size `N`, divided by `N·log2 N`.
    pub fft_butterfly_ns: f64,
    /// Nanoseconds of rotating, decomposing and converting one coefficient.
    pub coefficient_ns: f64,
    /// Nanoseconds of multiplying and accumulating one coefficient in the Fourier domain, with reading the key.
    pub product_ns: f64,
    /// log2 of the largest `N` whose blind rotation stays in the private caches.
    pub cached_log2_polynomial_size: u32,
    /// Relative slowdown of a blind rotation for every doubling of `N` beyond that.
    pub slowdown_per_doubling: f64,
    /// Nanoseconds of one product of a keyswitch whose key is in cache.
    pub keyswitch_product_ns: f64,
    /// Nanoseconds that product takes more when its part of the key comes from memory.
    pub keyswitch_streamed_ns: f64,
    /// Bytes of the last cache.
    pub cache_bytes: f64,
    /// Nanoseconds of one clear weight times one torus word, accumulated.
    pub linear_product_ns: f64,
}

impl MachineCost {
    /// This project's backend on two threads of a shared cloud EPYC with AVX-512, as measured with
    /// `cargo run --release -p fhe-backend --example speed`: bootstraps of seven sets within 4 % (test
    /// `backend_cost_is_close_to_its_measurements`), keyswitches as a blocked product within 8 %.
    pub const BACKEND: Self = Self {
        fft_butterfly_ns: 0.094,
        coefficient_ns: 0.28,
        product_ns: 0.16,
        cached_log2_polynomial_size: 12,
        slowdown_per_doubling: 0.1,
        keyswitch_product_ns: 0.067,
        keyswitch_streamed_ns: 0.0,
        cache_bytes: 32.0 * 1024.0 * 1024.0,
        linear_product_ns: 0.05,
    };

    /// The default machine when the keyswitches of a batch are one integer matrix product, so that each byte of the
    /// key is read once for all of them.
    ///
    /// Measured with 64 ciphertexts and a `u64` key on one thread: within 7 % at `N` 512, 2048, 4096 and 16384 (test
    /// `batched_keyswitch_cost_is_close_to_its_measurements`).
    pub fn with_batched_keyswitch() -> Self {
        Self { keyswitch_product_ns: 0.0188, keyswitch_streamed_ns: 0.0, ..Self::default() }
    }
}

impl Default for MachineCost {
    fn default() -> Self {
        Self {
            fft_butterfly_ns: 0.044,
            coefficient_ns: 0.05,
            product_ns: 0.14,
            cached_log2_polynomial_size: 12,
            slowdown_per_doubling: 0.1,
            keyswitch_product_ns: 0.25,
            keyswitch_streamed_ns: 0.06,
            cache_bytes: 32.0 * 1024.0 * 1024.0,
            // 44·10⁹ products a second: an AVX-512 64-bit multiplication kernel on the same machine.
            linear_product_ns: 0.0227,
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
