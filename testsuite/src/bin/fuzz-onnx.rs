//! Shows mutated models to the reader, the evaluator and the passes, and reports what they do not stand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fhe_testsuite::data;
use fhe_testsuite::fuzz::run::{Defect, Plan, Summary, run};
use fhe_testsuite::fuzz::{self, Mutator, memory};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Mutate ONNX models and show them to the compiler: no panic, no hang, no memory beyond the stated limit.
///
/// Mutants are numbered: the same seed and index give the same file as long as the models are the same. Models are those
/// of this repository, and of data/ in the folder that the environment variable FHE_DATA names.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Number of mutants.
    #[arg(long, default_value = "200000")]
    count: u64,
    /// Index of the first.
    #[arg(long, default_value = "0")]
    from: u64,
    /// Seed of all mutants.
    #[arg(long, default_value = "0")]
    seed: u64,
    /// Threads.
    #[arg(long, default_value = "2")]
    threads: usize,
    /// Seconds that one mutant may take.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    time: u64,
    /// Leave out the models of FHE_DATA.
    #[arg(long)]
    bundled: bool,
    /// Keep every mutant, not only those that are not stood.
    #[arg(long)]
    keep: bool,
    /// Folder for files that are not stood.
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match fuzz(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(arguments: &Arguments) -> std::io::Result<bool> {
    let mut seeds = fuzz::seeds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))?;
    match data::folder() {
        Ok(folder) if !arguments.bundled => seeds.extend(fuzz::seeds(&folder.join("data"))?),
        _ => eprintln!("models of this repository only"),
    }
    let mutator = Mutator::new(seeds);
    let plan = Plan {
        seed: arguments.seed,
        from: arguments.from,
        count: arguments.count,
        threads: arguments.threads,
        time: Duration::from_secs(arguments.time),
    };
    for index in plan.from..plan.from.saturating_add(if arguments.keep { plan.count } else { 0 }) {
        let mutant = mutator.mutant(plan.seed, index);
        write(&arguments.out, &Defect { index, what: mutant.what, wrong: "kept".into(), bytes: mutant.bytes });
    }
    let start = Instant::now();
    let summary = run(
        &mutator,
        &plan,
        |defect| {
            write(&arguments.out, &defect);
            std::process::exit(1);
        },
        |index| eprintln!("index {index}"),
    );
    report(&mutator, &plan, &summary, start.elapsed())?;
    summary.defects.iter().for_each(|d| write(&arguments.out, d));
    Ok(summary.defects.is_empty())
}

fn report(mutator: &Mutator, plan: &Plan, summary: &Summary, time: Duration) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} mutants of {} models, seed {}, indices from {}, in {:.1} s on {} threads",
        plan.count,
        mutator.len(),
        plan.seed,
        plan.from,
        time.as_secs_f64(),
        plan.threads
    )?;
    for (verdict, count) in &summary.verdicts {
        writeln!(out, "{count:>9} {verdict}")?;
    }
    let (slowest, at) = summary.slowest;
    writeln!(out, "slowest {:.0} ms (index {at}), limit {} s", slowest.as_secs_f64() * 1e3, plan.time.as_secs())?;
    let (peak, at) = summary.peak;
    writeln!(out, "memory at most {:.1} MiB (index {at})", peak as f64 / (1 << 20) as f64)
}

/// Keeps a file that is not stood, and says so.
fn write(folder: &Path, defect: &Defect) {
    let path = folder.join(format!("{}.onnx", defect.index));
    eprintln!("{}: {} ({})", path.display(), defect.wrong, defect.what);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, &defect.bytes));
    if let Err(error) = written {
        eprintln!("{}: {error}", path.display());
    }
}
