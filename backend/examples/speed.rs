//! Time of keyswitch and bootstrap per ciphertext at several parameter sets:
//! `cargo run --release -p fhe-backend --example speed`.
//!
//! The last columns are processor time, which a busy machine does not change much (Linux only; 0 elsewhere).

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use fhe_backend::encode::Lookup;
use fhe_backend::{Circuit, Randomness, Tensor, generate, silent};
use fhe_ir::{Decomposition, Domain, ParamSet, Read, SecurityCurve};
use support::{Build, DIGEST, numbers};

fn main() {
    println!("params  threads  keygen-s  ks-ms  pbs-ms  ks-cpu-ms  pbs-cpu-ms");
    for (k, log2_n, n, pbs, ks) in [
        (4, 9, 664, (18, 1), (4, 3)),
        (3, 9, 750, (18, 1), (4, 3)),
        (2, 10, 760, (23, 1), (4, 3)),
        (1, 11, 742, (23, 1), (3, 5)),
        (1, 11, 863, (23, 1), (3, 5)),
        (1, 11, 863, (15, 2), (3, 5)),
        (1, 12, 931, (23, 1), (3, 6)),
    ] {
        let decomposition = |(base_log, level)| Decomposition { base_log, level };
        speed(ParamSet {
            curve: SecurityCurve::Bits128,
            lwe_dimension: n,
            glwe_dimension: k,
            log2_polynomial_size: log2_n,
            pbs: decomposition(pbs),
            ks: decomposition(ks),
        });
    }
}

fn speed(params: ParamSet) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let count = 64 * threads;
    let mut b = Build::new("speed");
    b.graph.params[0] = params;
    let x = b.input(&[1, count], 0, 15, 16);
    let row: Vec<i64> = (0..16).collect();
    let y = b.table(x, &[row], Domain { lo: vec![0], width: 16 }, Read::Exact, 16);
    b.output(y, Read::Exact);
    let circuit = Circuit::new(b.graph, DIGEST).expect("a good circuit");
    let start = Instant::now();
    let (_, evaluation) = generate(&circuit, &mut Randomness::insecure_deterministic(1), &silent);
    let server = evaluation.expand(&silent);
    let keygen = start.elapsed().as_secs_f64();

    // Time does not depend on what is encrypted.
    let words = params.big_dimension() as usize + 1;
    let mut next = numbers(1, 0, i64::from(u32::MAX));
    let data = (0..count * words).map(|_| (next() as u64) << 32 | next() as u64).collect();
    let x = Tensor::new(1, vec![1, count], words, data);
    let value = circuit.graph().value(y);
    let lookup = Lookup::new(circuit.graph(), value).expect("a pbs");
    let (first, second) = (&circuit.keys().keyswitch[0], &circuit.keys().bootstrap[0]);
    let small = server.keyswitch(first, &x, &|_| {}).expect("its key");
    let repeat = |f: &dyn Fn()| {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        (0..4).for_each(|_| f());
        let per = 1e3 / (4 * count) as f64;
        (start.elapsed().as_secs_f64() * per, (cpu_seconds() - cpu) * per)
    };
    let (ks, ks_cpu) = repeat(&|| drop(server.keyswitch(first, &x, &|_| {})));
    let (pbs, pbs_cpu) = repeat(&|| drop(server.bootstrap(second, &small, &lookup, &|_| {})));
    println!("{params}  {threads}  {keygen:.2}  {ks:.3}  {pbs:.3}  {ks_cpu:.3}  {pbs_cpu:.3}");
}

/// Processor time of this program, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 and 15 of the file: user and system time in hundredths of a second.
    let ticks = |i: usize| fields.get(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
