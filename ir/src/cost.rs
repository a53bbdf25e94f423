//! What operations cost on a machine: formulas in nanoseconds, their constants, and the file that keeps these.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::graph::{Graph, Value};
use crate::op::Op;
use crate::params::ParamSet;
use crate::{Key, count};

/// Version of the layout of [`CostFile`].
pub const VERSION: u32 = 1;

/// Greatest size of a cost file in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Greatest number of threads a machine can have here.
const MAX_THREADS: u32 = 1 << 12;

/// Greatest number of characters of a machine's name.
const MAX_NAME: usize = 100;

/// Greatest constant in nanoseconds: a hundred times the slowest machine that makes sense.
const MAX_NS: f64 = 1e3;

/// Constants of a machine, for nanoseconds of one thread while all threads work.
///
/// A bootstrap is `n` CMUXes of `(k+1)·(l+1)` FFTs of size `N` and `(k+1)²·l·N` complex products; a keyswitch reads its
/// whole key once. The default was fitted to nine parameter sets with `N` from 256 to 16384, bootstrapped in batches
/// and keyswitched one by one with `tfhe` 1.8.2 on one thread of a 2-core Zen-5 AVX-512 machine: within 8 % for every
/// bootstrap and 18 % for every keyswitch (test `machine_cost_is_close_to_its_measurements`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Nanoseconds of gathering one torus word of an operand of a layer with weights, at each place of the result.
    pub linear_gathered_ns: f64,
    /// Nanoseconds of reading or writing one torus word in order: results, sums, copies.
    pub linear_streamed_ns: f64,
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
        linear_gathered_ns: 0.0,
        linear_streamed_ns: 0.0,
    };

    /// The default machine when the keyswitches of a batch are one integer matrix product, so that each byte of the
    /// key is read once for all of them.
    ///
    /// Measured with 64 ciphertexts and a `u64` key on one thread: within 7 % at `N` 512, 2048, 4096 and 16384 (test
    /// `batched_keyswitch_cost_is_close_to_its_measurements`).
    pub fn with_batched_keyswitch() -> Self {
        Self { keyswitch_product_ns: 0.0188, keyswitch_streamed_ns: 0.0, ..Self::default() }
    }

    /// Nanoseconds of one blind rotation with sample extraction.
    pub fn pbs_ns(&self, params: &ParamSet) -> f64 {
        let k1 = f64::from(params.glwe_dimension + 1);
        let l = f64::from(params.pbs.level);
        let log2_n_poly = f64::from(params.log2_polynomial_size);
        let n_poly = f64::from(params.polynomial_size());
        let polynomials = k1 * (l + 1.0);
        let cmux = self.fft_butterfly_ns * polynomials * n_poly * log2_n_poly
            + self.coefficient_ns * polynomials * n_poly
            + self.product_ns * k1 * k1 * l * n_poly;
        let doublings = (log2_n_poly - f64::from(self.cached_log2_polynomial_size)).max(0.0);
        f64::from(params.lwe_dimension) * cmux * (1.0 + self.slowdown_per_doubling * doublings)
    }

    /// Nanoseconds of one keyswitch from the big key to the small one.
    pub fn ks_ns(&self, params: &ParamSet) -> f64 {
        let products =
            f64::from(params.big_dimension()) * f64::from(params.ks.level) * f64::from(params.lwe_dimension + 1);
        let streamed = (1.0 - self.cache_bytes / (products * 8.0)).max(0.0);
        products * (self.keyswitch_product_ns + self.keyswitch_streamed_ns * streamed)
    }

    /// Nanoseconds of one multiplication of a ciphertext under the big key by a clear weight, and its addition.
    pub fn linear_ns(&self, params: &ParamSet) -> f64 {
        f64::from(params.big_dimension() + 1) * self.linear_product_ns
    }

    /// Work of a linear op in units of one product ([`Self::linear_ns`]): its products, and what it moves.
    pub fn linear_products(&self, graph: &Graph, value: &Value) -> f64 {
        let work = count::linear_work(graph, value).map(|n| n as f64);
        let ns = work[1] * self.linear_gathered_ns + work[2] * self.linear_streamed_ns;
        work[0] + ns / self.linear_product_ns
    }

    /// Predicted time of an execution of the circuit on a batch of rows, when `threads` work and nobody else does.
    ///
    /// Values are computed one after another, each in equal jobs that the threads share; encryption is not counted.
    pub fn latency(&self, graph: &Graph, rows: u64, threads: u32) -> Latency {
        let mut latency = Latency::default();
        for value in &graph.values {
            let Some(cipher) = &value.cipher else { continue };
            let Some(params) = graph.params.get(cipher.params.index()) else { continue };
            let elements = value.elements() as u64 * rows;
            match value.op {
                Op::Input { .. } => {}
                Op::Keyswitch { x, ks } => {
                    let Some(from) = graph.value(x).cipher.as_ref() else { continue };
                    let lwe_dimension = graph.secret_key(cipher).dimension();
                    let params = ParamSet { lwe_dimension, ks, ..*graph.param(from.params) };
                    latency.keyswitch_ns += shared(elements, KEYSWITCH_BATCH, threads) * self.ks_ns(&params);
                }
                Op::Pbs { .. } => {
                    latency.bootstrap_ns += shared(elements, BOOTSTRAP_BATCH, threads) * self.pbs_ns(params)
                }
                _ => {
                    debug_assert_eq!(cipher.key, Key::Big);
                    latency.linear_ns += rows as f64 * self.linear_products(graph, value) * self.linear_ns(params)
                        / f64::from(threads.max(1));
                }
            }
        }
        latency
    }
}

/// Ciphertexts of one job of a keyswitch.
const KEYSWITCH_BATCH: u64 = 64;

/// Ciphertexts of one job of a bootstrap.
const BOOTSTRAP_BATCH: u64 = 16;

/// Operations that the busiest of the threads does one after another, when they share `count` in jobs of at most `batch`.
fn shared(count: u64, batch: u64, threads: u32) -> f64 {
    let threads = u64::from(threads.max(1));
    let batch = count.div_ceil(threads).clamp(1, batch);
    let rounds = count.div_ceil(batch).div_ceil(threads);
    (rounds * batch).min(count) as f64
}

/// Predicted time of the parts of an execution, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Linear layers.
    pub linear_ns: f64,
    /// Keyswitches.
    pub keyswitch_ns: f64,
    /// Bootstraps.
    pub bootstrap_ns: f64,
}

impl Latency {
    /// All of it.
    pub fn total_ns(&self) -> f64 {
        self.linear_ns + self.keyswitch_ns + self.bootstrap_ns
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
            linear_gathered_ns: 0.0,
            linear_streamed_ns: 0.0,
        }
    }
}

/// A machine with its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What people call it.
    pub name: String,
    /// Threads that worked while it was measured; predictions are for as many.
    pub threads: u32,
    /// Its constants.
    pub cost: MachineCost,
}

/// The machines that are built in: name, threads, constants.
const BUILT_IN: [(&str, u32, MachineCost); 1] = [("epyc-avx512-2", 2, MachineCost::BACKEND)];

impl Machine {
    /// Names of the machines that are built in; the first is the default.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, ..)| *name)
    }

    /// The built-in machine of a name.
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, threads, cost) = BUILT_IN.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { name: name.to_owned(), threads, cost })
    }

    /// Checks what was read from a file.
    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.chars().count() > MAX_NAME || self.name.chars().any(char::is_control) {
            return Err(format!("name: 1 to {MAX_NAME} printable characters are allowed"));
        }
        if !(1..=MAX_THREADS).contains(&self.threads) {
            return Err(format!("threads: {} is outside [1, {MAX_THREADS}]", self.threads));
        }
        let c = &self.cost;
        if !(8..=17).contains(&c.cached_log2_polynomial_size) {
            let got = c.cached_log2_polynomial_size;
            return Err(format!("cached_log2_polynomial_size: {got} is outside [8, 17]"));
        }
        let within = |name: &str, value: f64, (lo, hi): (f64, f64)| {
            // Not a number is outside of everything.
            if value >= lo && value <= hi { Ok(()) } else { Err(format!("{name}: {value} is outside [{lo}, {hi}]")) }
        };
        // A weight is the unit of linear work, so it has to cost something; so do a bootstrap and a keyswitch.
        let positive = (1e-6, MAX_NS);
        within("linear_product_ns", c.linear_product_ns, positive)?;
        within("keyswitch_product_ns", c.keyswitch_product_ns, positive)?;
        within("fft_butterfly_ns + coefficient_ns", c.fft_butterfly_ns + c.coefficient_ns, positive)?;
        let parts = [
            ("fft_butterfly_ns", c.fft_butterfly_ns),
            ("coefficient_ns", c.coefficient_ns),
            ("product_ns", c.product_ns),
            ("keyswitch_streamed_ns", c.keyswitch_streamed_ns),
            ("linear_gathered_ns", c.linear_gathered_ns),
            ("linear_streamed_ns", c.linear_streamed_ns),
        ];
        parts.into_iter().try_for_each(|(name, value)| within(name, value, (0.0, MAX_NS)))?;
        within("slowdown_per_doubling", c.slowdown_per_doubling, (0.0, 10.0))?;
        within("cache_bytes", c.cache_bytes, (0.0, 1e12))
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::built_in(BUILT_IN[0].0).expect("the first name is one of the names")
    }
}

/// One measurement of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What was measured: bootstrap, keyswitch, or a linear layer in words.
    pub operation: String,
    /// The parameter set, in words.
    pub params: String,
    /// Nanoseconds of one thread for one operation (for a linear layer: for all of it).
    pub measured_ns: f64,
    /// The same by the formulas with the constants of the file.
    pub predicted_ns: f64,
}

/// What `fhe-run calibrate` writes and `fhe-compile --cost-model` reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostFile {
    /// Layout, [`VERSION`].
    pub version: u32,
    /// The machine.
    pub machine: Machine,
    /// What its constants were fitted to.
    #[serde(default)]
    pub measured: Vec<Point>,
}

/// Text that is no cost file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadCostFile(pub String);

impl CostFile {
    /// The file as JSON.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("string keys and finite numbers");
        text.push('\n');
        text
    }

    /// Reads a file, whoever wrote it.
    ///
    /// # Errors
    /// When it is too long, no JSON of this layout and version, or a constant makes no sense.
    pub fn from_json(text: &[u8]) -> Result<Self, BadCostFile> {
        if text.len() > MAX_FILE_BYTES {
            return Err(BadCostFile(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let layout = |e: serde_json::Error| BadCostFile(format!("it is not what fhe-run calibrate writes: {e}"));
        let Head { version } = serde_json::from_slice(text).map_err(layout)?;
        if version != VERSION {
            return Err(BadCostFile(format!("it has version {version}, allowed: {VERSION}")));
        }
        let file: Self = serde_json::from_slice(text).map_err(layout)?;
        file.machine.check().map_err(BadCostFile)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> CostFile {
        let point = Point { operation: "bootstrap".into(), params: "n=1".into(), measured_ns: 2.0, predicted_ns: 1.9 };
        CostFile { version: VERSION, machine: Machine::default(), measured: vec![point] }
    }

    #[test]
    fn files_survive_writing_and_reading() {
        assert_eq!(CostFile::from_json(file().to_json().as_bytes()), Ok(file()));
    }

    #[test]
    fn every_built_in_machine_is_sound() {
        for name in Machine::names() {
            assert_eq!(Machine::built_in(name).map(|m| m.check()), Some(Ok(())), "{name}");
        }
        assert_eq!(Machine::built_in("abacus"), None);
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        let good = file().to_json();
        let cases = [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("\"threads\": 2", "\"threads\": 0", "threads: 0"),
            ("\"name\": \"epyc-avx512-2\"", "\"name\": \"a\\u001bb\"", "printable"),
            ("\"product_ns\": 0.16", "\"product_ns\": -1", "product_ns: -1"),
            ("\"product_ns\": 0.16", "\"product_ns\": 1e99", "product_ns"),
            ("\"product_ns\": 0.16", "\"product_ns\": null", "fhe-run calibrate"),
            ("\"linear_product_ns\": 0.05", "\"linear_product_ns\": 0", "linear_product_ns: 0"),
            ("\"product_ns\": 0.16", "\"product_ns\": 0.16, \"x\": 1", "unknown field"),
            ("\"cached_log2_polynomial_size\": 12", "\"cached_log2_polynomial_size\": 99", "[8, 17]"),
        ];
        for (from, to, reason) in cases {
            let text = good.replace(from, to);
            assert_ne!(text, good, "{from}");
            let error = CostFile::from_json(text.as_bytes()).expect_err(to);
            assert!(error.0.contains(reason), "{to}: {error}");
        }
        for text in ["", "[", "{}", &"x".repeat(MAX_FILE_BYTES + 1)] {
            assert!(CostFile::from_json(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn threads_share_jobs_of_equal_size() {
        // 64 ciphertexts on two threads: two jobs of 16 each; 65 need a fifth job, in a third round.
        assert_eq!([64, 65, 3, 1, 0].map(|count| shared(count, 16, 2)), [32.0, 48.0, 2.0, 1.0, 0.0]);
        assert_eq!(shared(65, 16, 1), 65.0);
    }
}
