//! `fhe-run calibrate`: measures this machine with the backend's own kernels and fits the constants of the cost model.
//!
//! Keys and ciphertexts are arbitrary numbers, because times do not depend on them; nothing secret is made. Times are
//! processor time of all threads at work, so that other programs disturb them little. Their median over the repetitions
//! counts.

mod fit;
mod layers;

use std::time::{Duration, Instant};

use fhe_ir::cost::{CostFile, Machine, MachineCost, Point, VERSION};
use fhe_ir::{BootstrapKey, Decomposition, KeyswitchKey, ParamSet, SecurityCurve};

use crate::clock::processor_time;
use crate::encode::Lookup;
use crate::keys::ServerKeys;
use crate::progress::{Progress, Step};
use crate::tensor::Tensor;

/// Ciphertexts of a batch of bootstraps, per thread: a whole job.
const BOOTSTRAPS: usize = 16;

/// Ciphertexts of a batch of keyswitches, per thread: a whole job.
const KEYSWITCHES: usize = 64;

/// Each operation is repeated at least this often, whatever time is left.
const LEAST: usize = 3;

/// `k`, `log2 N`, `n`, base and levels of the bootstrap, base and levels of the keyswitch.
type Set = (u32, u32, u32, (u32, u32), (u32, u32));

/// Sets like those that the search chooses, from `N` 256 to 4096.
const SETS: [Set; 8] = [
    (6, 8, 747, (17, 1), (4, 3)),
    (4, 9, 664, (18, 1), (4, 3)),
    (3, 9, 750, (12, 2), (3, 4)),
    (2, 10, 760, (23, 1), (4, 3)),
    (1, 11, 742, (23, 1), (3, 5)),
    (1, 11, 863, (15, 2), (3, 5)),
    (1, 12, 931, (23, 1), (3, 6)),
    (1, 12, 880, (15, 2), (4, 4)),
];

/// Larger sets, whose keys have up to a gibibyte.
const LARGE: [Set; 2] = [(1, 13, 1007, (15, 2), (3, 7)), (1, 14, 1056, (15, 2), (4, 5))];

/// log2 of the polynomial size up to which no slowdown is fitted.
const CACHED: u32 = 12;

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Polynomials up to 16384, not up to 4096.
    pub thorough: bool,
    /// Seconds to spend; a repetition of a large set may take longer.
    pub seconds: f64,
}

fn params((glwe_dimension, log2_polynomial_size, lwe_dimension, pbs, ks): Set) -> ParamSet {
    let decomposition = |(base_log, level)| Decomposition { base_log, level };
    let (pbs, ks) = (decomposition(pbs), decomposition(ks));
    ParamSet { curve: SecurityCurve::Bits128, lwe_dimension, glwe_dimension, log2_polynomial_size, pbs, ks }
}

/// Median processor time of `work` over repetitions, at least [`LEAST`], until `seconds` have passed.
fn median_ns(seconds: f64, mut work: impl FnMut()) -> f64 {
    work(); // Memory is touched, caches and clocks are warm.
    let start = Instant::now();
    let mut times = vec![];
    while times.len() < LEAST || start.elapsed() < Duration::from_secs_f64(seconds) {
        let before = processor_time();
        work();
        times.push((processor_time() - before).as_secs_f64() * 1e9);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A tensor of arbitrary words.
fn arbitrary(rows: usize, shape: &[usize], words: usize) -> Tensor {
    let count = rows * shape.iter().product::<usize>() * words;
    let word =
        |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Tensor::new(rows, shape.to_vec(), words, (0..count).map(word).collect())
}

/// One set: nanoseconds of a bootstrap and of a keyswitch.
fn measure_set(params: &ParamSet, seconds: f64) -> (f64, f64) {
    let threads = rayon::current_num_threads();
    let (small, big) = (params.lwe_dimension as usize + 1, params.big_dimension() as usize + 1);
    let bootstrap = BootstrapKey::of(params);
    let keyswitch = KeyswitchKey { from: bootstrap.to(), to: bootstrap.from(), ks: params.ks };
    let keys = ServerKeys::for_timing(bootstrap, keyswitch);
    let lookup = Lookup::for_timing(params.polynomial_size() as usize);
    let count = threads * BOOTSTRAPS;
    let x = arbitrary(1, &[1, count], small);
    let work = || drop(keys.bootstrap(&bootstrap, &x, &lookup, &|_| {}).expect("the key made above"));
    let pbs = median_ns(0.7 * seconds, work) / count as f64;
    let count = threads * KEYSWITCHES;
    let x = arbitrary(1, &[1, count], big);
    let work = || drop(keys.keyswitch(&keyswitch, &x, &|_| {}).expect("the key made above"));
    let ks = median_ns(0.3 * seconds, work) / count as f64;
    (pbs, ks)
}

/// What the system calls its processor, with the number of threads.
pub fn machine_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split(':').nth(1));
    let model: String =
        model.unwrap_or(std::env::consts::ARCH).trim().chars().filter(|c| !c.is_control()).take(60).collect();
    format!("{model}, {} threads", rayon::current_num_threads())
}

/// Measures this machine and fits the constants.
pub fn calibrate(name: &str, effort: &Effort, progress: Progress<'_>) -> CostFile {
    let sets: Vec<ParamSet> =
        SETS.iter().chain(if effort.thorough { &LARGE[..] } else { &[] }).copied().map(params).collect();
    let layers = layers::all();
    // A set has two measurements; all measurements get the same time.
    let slice = effort.seconds / (2 * sets.len() + layers.len()) as f64;
    let total = (2 * sets.len() + layers.len()) as u64;
    let report = |done: usize| progress(Step { what: "measuring this machine", done: done as u64, total });
    report(0);
    let mut measured = vec![];
    for (i, params) in sets.iter().enumerate() {
        measured.push((*params, measure_set(params, 2.0 * slice)));
        report(2 * (i + 1));
    }
    let mut linear = vec![];
    for (i, layer) in layers.iter().enumerate() {
        linear.push(layer.measure(slice));
        report(2 * sets.len() + i + 1);
    }
    let threads = rayon::current_num_threads() as u32;
    let cost = fitted(&measured, &linear.iter().map(|t| (t.work, t.ns)).collect::<Vec<_>>());
    let mut points = vec![];
    let mut point = |operation: &str, params: String, measured_ns: f64, predicted_ns: f64| {
        points.push(Point { operation: operation.into(), params, measured_ns, predicted_ns });
    };
    measured.iter().for_each(|(p, (pbs, _))| point("bootstrap", p.to_string(), *pbs, cost.pbs_ns(p)));
    measured.iter().for_each(|(p, (_, ks))| point("keyswitch", p.to_string(), *ks, cost.ks_ns(p)));
    for t in &linear {
        let constants = [cost.linear_product_ns, cost.linear_gathered_ns, cost.linear_streamed_ns];
        let predicted = fit::predict(&t.work, &constants);
        point(&t.name, format!("{} words", t.words), t.ns, predicted);
    }
    CostFile { version: VERSION, machine: Machine { name: name.into(), threads, cost }, measured: points }
}

/// Constants for bootstraps and keyswitches of sets, and for linear layers given as products, gathered and streamed words.
fn fitted(sets: &[(ParamSet, (f64, f64))], linear: &[([f64; 3], f64)]) -> MachineCost {
    let mut cost = MachineCost::BACKEND;
    // A constant's feature is the formula with that constant 1 and all others 0.
    let none = MachineCost { fft_butterfly_ns: 0.0, coefficient_ns: 0.0, product_ns: 0.0, ..cost };
    let features = |p: &ParamSet| {
        [
            MachineCost { fft_butterfly_ns: 1.0, ..none }.pbs_ns(p),
            MachineCost { coefficient_ns: 1.0, ..none }.pbs_ns(p),
            MachineCost { product_ns: 1.0, ..none }.pbs_ns(p),
        ]
    };
    let (cached, beyond): (Vec<_>, Vec<_>) = sets.iter().partition(|(p, _)| p.log2_polynomial_size <= CACHED);
    let points: Vec<_> = cached.iter().map(|(p, (pbs, _))| (features(p), *pbs)).collect();
    [cost.fft_butterfly_ns, cost.coefficient_ns, cost.product_ns] = fit::non_negative(&points);
    cost.cached_log2_polynomial_size = CACHED;
    if !beyond.is_empty() {
        // What is missing beyond the caches, per doubling.
        let slow = MachineCost { slowdown_per_doubling: 0.0, ..cost };
        let doublings = |p: &ParamSet| f64::from(p.log2_polynomial_size - CACHED);
        let over: f64 = beyond.iter().map(|(p, (pbs, _))| (pbs / slow.pbs_ns(p) - 1.0) / doublings(p)).sum();
        cost.slowdown_per_doubling = (over / beyond.len() as f64).max(0.0);
    }
    let (cache, stream) = (
        MachineCost { keyswitch_product_ns: 1.0, keyswitch_streamed_ns: 0.0, ..cost },
        MachineCost { keyswitch_product_ns: 0.0, keyswitch_streamed_ns: 1.0, ..cost },
    );
    let points: Vec<_> = sets.iter().map(|(p, (_, ks))| ([cache.ks_ns(p), stream.ks_ns(p)], *ks)).collect();
    [cost.keyswitch_product_ns, cost.keyswitch_streamed_ns] = fit::non_negative(&points);
    let product;
    [product, cost.linear_gathered_ns, cost.linear_streamed_ns] = fit::non_negative(linear);
    // The product is the unit of linear work and has to cost something.
    cost.linear_product_ns = product.max(1e-3);
    cost
}

/// The measurements beside what the fitted formulas say of them, and the constants.
pub fn table(file: &CostFile) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("operation  parameters  measured-ms  predicted-ms  predicted/measured\n");
    for p in &file.measured {
        let (measured, predicted) = (p.measured_ns * 1e-6, p.predicted_ns * 1e-6);
        let ratio = p.predicted_ns / p.measured_ns;
        writeln!(text, "{}  {}  {measured:.4}  {predicted:.4}  {ratio:.3}", p.operation, p.params)
            .expect("a string can be written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_follows_the_formulas_is_found_again() {
        let truth = MachineCost {
            slowdown_per_doubling: 0.17,
            linear_gathered_ns: 0.3,
            linear_streamed_ns: 0.2,
            ..MachineCost::BACKEND
        };
        let sets: Vec<_> =
            SETS.iter().chain(&LARGE).copied().map(params).map(|p| (p, (truth.pbs_ns(&p), truth.ks_ns(&p)))).collect();
        let constants = [truth.linear_product_ns, truth.linear_gathered_ns, truth.linear_streamed_ns];
        let linear = [[1e6, 1e4, 1e3], [1e5, 9e4, 1e3], [0.0, 0.0, 1e5], [1e5, 1e4, 9e4]]
            .map(|w| (w, fit::predict(&w, &constants)));
        let found = fitted(&sets, &linear);
        for (p, (pbs, ks)) in &sets {
            assert!((found.pbs_ns(p) / pbs - 1.0).abs() < 1e-6 && (found.ks_ns(p) / ks - 1.0).abs() < 1e-6, "{p}");
        }
        assert!((found.linear_product_ns / truth.linear_product_ns - 1.0).abs() < 1e-6, "{found:?}");
        assert!((found.linear_gathered_ns / truth.linear_gathered_ns - 1.0).abs() < 1e-6, "{found:?}");
        assert!((found.linear_streamed_ns / truth.linear_streamed_ns - 1.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_small_set_is_measured_with_the_kernels() {
        let p = params((1, 8, 450, (17, 1), (4, 2)));
        let (pbs, ks) = measure_set(&p, 0.0);
        assert!(pbs > 0.0 && ks > 0.0, "{pbs} {ks}");
    }
}
