//! Noise of real ciphertexts against its prediction at eight parameter sets, and how often exact tables are read wrong:
//! `cargo run --release -p fhe-testsuite --bin noise -- [KEYS] [ROTATIONS] [LOOKUPS]`.

use fhe_testsuite::failures::failures;
use fhe_testsuite::noise::{compare, sets};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<usize>().unwrap_or(0).max(1));
    let (keys, rotations) = (numbers.next().unwrap_or(6), numbers.next().unwrap_or(64));
    println!("{keys} keys a set, {rotations} blind rotations a key; ± is one standard error");
    println!("parameters  step  log2 of the predicted variance  measured/predicted  measured/concrete");
    let mut worst = 1.0f64;
    for (i, params) in sets().iter().enumerate() {
        for c in compare(params, keys, rotations, i as u128) {
            let (ratio, error) = (c.ratio(), c.error());
            let concrete = c.measured.variance / c.concrete;
            println!("{params}  {}  {:.2}  {ratio:.3} ± {error:.3}  {concrete:.3}", c.step, c.predicted.log2());
            worst = if (ratio - 1.0).abs() > (worst - 1.0).abs() { ratio } else { worst };
        }
    }
    println!("farthest from 1: {worst:.3}\n");

    let lookups = numbers.next().unwrap_or(10_000);
    println!(
        "parameters  P  predicted  lookups  wrong  rate  variance measured/predicted  implied rate  as implied  above P"
    );
    for (i, p) in [0.008, 0.05].into_iter().enumerate() {
        let f = failures(p, lookups, 100 + i as u128);
        let rate = f.wrong as f64 / f.lookups as f64;
        println!(
            "{}  {p}  {:.5}  {}  {}  {rate:.5}  {:.3}  {:.5}  {}  {}",
            f.found.params,
            f.predicted,
            f.lookups,
            f.wrong,
            f.variance_ratio,
            f.implied,
            f.as_implied(),
            f.significantly_above()
        );
    }
}
