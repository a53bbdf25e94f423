//! `fhe-opt`: runs passes on a listing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fhe_compiler::dev::{DevArgs, read_listing};
use fhe_compiler::failure::{self, Failure};
use fhe_compiler::{arguments, data};
use fhe_ir::text::to_text;
use fhe_passes::{Bits, CalibrationMethod, Options, PassCx, PipelineError, Rounding, run_pipeline};
use ndarray::ArrayD;

const EXAMPLES: &str = "\
Examples:
  fhe-opt case.eir --passes canonicalize,fuse-batchnorm --print-ir-diff all
  fhe-opt case.eir --passes calibrate,quantize,range-analysis --n-bits 4 -o quantized.eir
  fhe-opt dump/07.quantize.after.eir --passes range-analysis --bisect-limit 3";

/// Runs passes on the text form of a graph and prints what became of it.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// The graph, `-` for stdin.
    #[arg(required_unless_present_any = ["list_passes", "print_pipeline"])]
    listing: Option<PathBuf>,
    /// Where the graph goes; stdout unless graphs are shown on stderr.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bits of inputs, activations and weights: one number, or op_inputs=6:op_weights=4[:...].
    #[arg(long, value_name = "N", default_value = "6", value_parser = arguments::bits)]
    n_bits: Bits,
    /// How finely tables read accumulators: 2^N boxes, full for every slot of the bootstrap, or off for one box per
    /// integer.
    #[arg(long, value_name = "N|full|off", default_value = "6", value_parser = arguments::rounding)]
    rounding: Rounding,
    /// How accumulators are rounded to that.
    #[arg(long, value_enum, value_name = "METHOD", default_value = "approximate")]
    rounding_method: arguments::RoundingMethod,
    /// Calibration rows of the first input, as npy; otherwise 512 seeded rows.
    #[arg(long, value_name = "X.npy")]
    calibration: Option<PathBuf>,
    /// How ranges are taken: a percentage of the values seen, min-max, or mse.
    #[arg(long, value_name = "METHOD", default_value = "99.5", value_parser = arguments::calibration_method)]
    calibration_method: CalibrationMethod,
    /// Range of the seeded rows, in place of a standard normal distribution.
    #[arg(long, value_name = "LO,HI", value_parser = arguments::range, allow_hyphen_values = true)]
    input_range: Option<(f32, f32)>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Shows what passes have to say.
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    dev: DevArgs,
}

/// Rows that stand in for calibration data.
const ROWS: usize = 512;

fn main() -> ExitCode {
    let cli = Cli::parse();
    failure::run(std::panic::AssertUnwindSafe(|| run(&cli)))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if cli.dev.list_only() {
        return cli.dev.list();
    }
    let path = cli.listing.as_deref().expect("clap demands the listing");
    if !cli.dev.names_passes() && cli.dev.prints_graphs() {
        return Err(Failure::usage("--passes", "name the passes to show, or see them with --list-passes"));
    }
    let passes = cli.dev.pipeline(&[])?;
    let mut observer = cli.dev.observer()?;
    let graph = read_listing(path)?;
    let options = Options {
        bits: cli.n_bits,
        rounding: cli.rounding_method.apply(cli.rounding).map_err(|m| Failure::usage("--rounding-method", m))?,
        calibration: cli.calibration_method,
        seed: cli.seed,
        ..Options::default()
    };
    fhe_ir::verify::verify(&graph).map_err(|error| Failure::BrokenListing { path: path.into(), error })?;
    let calibration = rows(cli, &graph)?;
    let mut cx = PassCx::new(&options, &calibration);
    cx.budget = cli.dev.bisect_limit();
    let result = run_pipeline(graph, &passes, &mut cx, |event| observer.event(event));
    if cli.verbose {
        for remark in &cx.remarks {
            eprintln!("remark: {}: {}", remark.pass, remark.message);
        }
    }
    observer.finish()?;
    let (graph, _) = result.map_err(|error| not_ours(error, path))?;
    match &cli.output {
        Some(file) => std::fs::write(file, to_text(&graph)).map_err(|e| Failure::unwritable(file, e)),
        None if cli.dev.prints_graphs() => Ok(()),
        None => {
            print!("{}", to_text(&graph));
            Ok(())
        }
    }
}

/// A graph that was broken when it was read is the fault of its text, not a defect of a pass.
fn not_ours(error: PipelineError, path: &std::path::Path) -> Failure {
    match error {
        PipelineError::Broken { pass: "(input)", error, .. } => Failure::BrokenListing { path: path.into(), error },
        other => other.into(),
    }
}

fn rows(cli: &Cli, graph: &fhe_ir::Graph) -> Result<Vec<ArrayD<f32>>, Failure> {
    let inputs = graph.inputs();
    let synthetic = |(i, id): (usize, &fhe_ir::Id<fhe_ir::Value>)| {
        data::synthetic_rows(&graph.value(*id).shape, ROWS, cli.input_range, cli.seed + i as u64)
    };
    match &cli.calibration {
        Some(file) => Ok(vec![data::read_npy(file)?]),
        None => Ok(inputs.iter().enumerate().map(synthetic).collect()),
    }
}
