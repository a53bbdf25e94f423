//! `fhe-compile`: from a trained ONNX model to the circuit that runs on encrypted data.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fhe_compiler::compile::{Compiled, Job, Outcome, compile_with};
use fhe_compiler::dev::DevArgs;
use fhe_compiler::failure::Failure;
use fhe_compiler::machine::machine;
use fhe_compiler::{accuracy, arguments, data, inspect, onnx, report, sweep};
use fhe_ir::cost::Machine;
use fhe_ir::{Graph, SecurityCurve, client};
use fhe_passes::budget::DEFAULT_BUDGET;
use fhe_passes::params::ErrorTarget;
use fhe_passes::{CalibrationMethod, Options, PassError, Ranges, pipeline};
use ndarray::ArrayD;

/// Compiles a trained ONNX model into a circuit that runs on encrypted inputs.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compile: Compile,
}

const EXAMPLES: &str = "\
Examples:
  fhe-compile model.onnx --n-bits 6 --calibration calib.npy
  fhe-compile model.onnx --n-bits 6 --calibration calib.npy --evaluate test.npy --labels y.npy --stats text
  fhe-compile model.onnx --n-bits op_inputs=6:op_weights=4 --calibration calib.npy --p-error 2^-20
  fhe-compile model.onnx --n-bits 2-7 --calibration calib.npy --evaluate test.npy --labels y.npy --sweep bits.csv
  fhe-compile inspect model.fhe
  fhe-compile inspect model.fhe --why fc1";

#[derive(Subcommand)]
enum Command {
    /// Shows what is in a compiled circuit.
    Inspect {
        /// The circuit.
        circuit: PathBuf,
        /// What to show.
        #[arg(long, value_enum, default_value = "text")]
        format: inspect::Format,
        /// Why a node, a value or an output is as wide and as noisy as it is, and what one bit less would buy.
        #[arg(long, value_name = "NODE")]
        why: Option<String>,
    },
}

#[derive(Args)]
struct Compile {
    /// The trained model.
    #[arg(required_unless_present_any = ["list_passes", "print_pipeline"])]
    model: Option<PathBuf>,
    /// Bits of inputs, activations and weights: one number, a list or range to sweep, or
    /// op_inputs=6:op_weights=4[:model_inputs=8][:model_outputs=9].
    #[arg(long, value_name = "N", default_value = "6")]
    n_bits: String,
    /// Rows like those the network will see, as npy [rows, ...]; ranges are taken from them.
    #[arg(long, value_name = "X.npy")]
    calibration: Option<PathBuf>,
    /// How ranges are taken: a percentage of the values seen, min-max, or mse.
    #[arg(long, value_name = "METHOD", default_value = "99.5", value_parser = arguments::calibration_method)]
    calibration_method: CalibrationMethod,
    /// Range of the inputs, in place of calibration rows.
    #[arg(long, value_name = "LO,HI", value_parser = arguments::range, allow_hyphen_values = true, conflicts_with = "calibration")]
    input_range: Option<(f32, f32)>,
    /// Rows to measure accuracy on, as npy.
    #[arg(long, value_name = "X.npy")]
    evaluate: Option<PathBuf>,
    /// Class of each of these rows, as npy.
    #[arg(long, value_name = "Y.npy", requires = "evaluate")]
    labels: Option<PathBuf>,
    /// Use only the first rows of --evaluate.
    #[arg(long, value_name = "ROWS", requires = "evaluate")]
    evaluate_rows: Option<usize>,
    /// Measure the float model and the integer circuit, and end there: parameters are not chosen, nothing is written.
    /// Lists of --n-bits and --rounding give one line each.
    #[arg(long, requires = "evaluate", conflicts_with_all = ["p_error", "global_p_error", "output", "sweep", "stats"])]
    accuracy_only: bool,
    /// How finely tables read accumulators: 2^N boxes, full for every slot of the bootstrap, or off for one box per
    /// integer. Under an error probability auto chooses the cheapest from 2 to 8 bits whose simulated accuracy on
    /// --evaluate, else on the calibration rows, is within half a point of the finest, and 3-6 does from 3 to 6; single
    /// tables may get fewer. Within an accuracy or noise budget auto is full. A list sweeps.
    /// By default full within an accuracy budget, 6 under an error probability.
    #[arg(long, value_name = "N|M-N|full|auto|off")]
    rounding: Option<String>,
    /// How accumulators are rounded to that.
    #[arg(long, value_enum, value_name = "METHOD", default_value = "approximate")]
    rounding_method: arguments::RoundingMethod,
    /// Probability that one table is read wrong: 0.01, 2^-40. A list sweeps.
    #[arg(long, value_name = "P", conflicts_with = "global_p_error")]
    p_error: Option<String>,
    /// Probability that anything is read wrong in one inference.
    #[arg(long, value_name = "P", value_parser = arguments::probability)]
    global_p_error: Option<f64>,
    /// Accuracy that noise may cost, as a fraction: the cheapest circuit is taken whose simulated accuracy on --evaluate,
    /// else on the calibration rows, stays so close to the integer network's; its weights may have fewer bits than
    /// --n-bits says. The default, at 0.005, when --calibration is given, unless exactness is asked for: --rounding off,
    /// --rounding-method exact.
    #[arg(long, value_name = "D", value_parser = arguments::probability, conflicts_with_all = ["p_error", "global_p_error", "noise_budget"])]
    accuracy_budget: Option<f64>,
    /// Largest noise in front of a table, as a standard deviation on the torus when the table's domain fills half of it;
    /// how often boxes are missed is not asked. What --accuracy-budget finds by itself.
    #[arg(long, value_name = "2^-9", value_parser = arguments::log2_noise, conflicts_with_all = ["p_error", "global_p_error"])]
    noise_budget: Option<f64>,
    /// What tables are built for: the range seen on the calibration rows with a margin, or the proven worst case.
    #[arg(long, value_enum, default_value = "calibrated")]
    ranges: RangesArg,
    /// How much wider than seen calibrated ranges are; below 0, narrower.
    #[arg(long, value_name = "FRACTION", default_value = "0.15", allow_negative_numbers = true)]
    range_margin: f64,
    /// Curve that the keys lie on: 128 (gaussian-128) or 132 (gaussian-132).
    #[arg(long, value_name = "BITS|CURVE", default_value = "128")]
    security: SecurityCurve,
    /// Largest size of all evaluation keys when tables run under several parameter sets; 0 keeps to one set.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = arguments::bytes)]
    max_key_size: u64,
    /// Machine whose time is saved and predicted: a file of fhe-run calibrate, or a built-in name.
    #[arg(long, value_name = "FILE|NAME")]
    cost_model: Option<String>,
    /// Seed of everything random.
    #[arg(long, default_value = "0")]
    seed: u64,
    /// Value of a symbolic extent of an input.
    #[arg(long = "dim", value_name = "NAME=EXTENT", value_parser = arguments::dim)]
    dims: Vec<(String, usize)>,
    /// The model's inputs have no batch axis: each is one row.
    #[arg(long)]
    no_batch: bool,
    /// Where to write the circuit (default: the model's name with .fhe).
    #[arg(short, long, value_name = "FILE.fhe")]
    output: Option<PathBuf>,
    /// Where a sweep writes its rows; it goes on where it stopped (default: the model's name with .csv).
    #[arg(long, value_name = "FILE.csv")]
    sweep: Option<PathBuf>,
    /// Statistics to stdout (text, json) or to a file.
    #[arg(long, value_name = "text|json|FILE.json")]
    stats: Option<String>,
    #[command(flatten)]
    dev: DevArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RangesArg {
    Calibrated,
    WorstCase,
}

fn main() -> ExitCode {
    fhe_compiler::failure::run(|| {
        let cli = Cli::parse();
        match cli.command {
            Some(Command::Inspect { circuit, format, why }) => inspect::run(&circuit, format, why.as_deref()),
            None => compile_command(&cli.compile),
        }
    })
}

fn compile_command(args: &Compile) -> Result<(), Failure> {
    if args.dev.list_only() {
        return args.dev.list();
    }
    let path = args.model.as_deref().expect("clap demands the model");
    let batch = if args.no_batch { onnx::Batch::Absent } else { onnx::Batch::First };
    let model = onnx::read_file(path, &onnx::ReadOptions { dims: args.dims.iter().cloned().collect(), batch })?;
    let mut assumed = vec![];
    let rows = Rows::load(args, &model, &mut assumed)?;
    let list = |text: &str| arguments::expand(text);
    let p_errors = args.p_error.as_deref().map_or(vec![String::new()], list);
    let budget = budget(args);
    let rounding = args.rounding.as_deref().unwrap_or(if budget.is_some() { "full" } else { "6" });
    let (bits, roundings) = (list(&args.n_bits), arguments::list(rounding));
    if args.accuracy_only {
        return accuracy_only(args, &model, &rows, &bits, &roundings);
    }
    let single = bits.len() * roundings.len() * p_errors.len() == 1 && args.sweep.is_none();
    if single {
        let (options, boxes) = options(args, &bits[0], &roundings[0], &p_errors[0], &mut assumed)?;
        return compile_one(args, path, model, &rows, &options, (budget, boxes, assumed));
    }
    let file = args
        .sweep
        .clone()
        .unwrap_or_else(|| path.with_extension("csv").file_name().map(PathBuf::from).unwrap_or_default());
    let unwritable = |source| Failure::unwritable(&file, source);
    let mut sweep = sweep::Sweep::open(&file, &job_digest(args, &model, &rows)?).map_err(unwritable)?;
    for n in &bits {
        for r in &roundings {
            for p in &p_errors {
                let global = args.global_p_error.map(|p| format!("global {p}"));
                let budget_label = budget.map(|d| format!("budget {d}"));
                let contract = global.as_deref().or(budget_label.as_deref()).unwrap_or("default");
                let p_label = if p.is_empty() { contract } else { p };
                if sweep.has(n, r, p_label) {
                    eprintln!("n-bits {n} rounding {r} p-error {p_label}: already in {}", file.display());
                    continue;
                }
                let mut assumed = assumed.clone();
                let (options, boxes) = options(args, n, r, p, &mut assumed)?;
                let job = job(&model, &rows, &options, (budget, boxes, assumed));
                let result = compile_with(job, pipeline::DEFAULT, None, |_| fhe_passes::Flow::Continue);
                let added = match &result {
                    Ok(Outcome::Circuit(c)) => sweep.add([n, r, p_label], Ok(&c.report)),
                    Ok(Outcome::Stopped(_)) => Ok(()),
                    Err(e) => sweep.add([n, r, p_label], Err(&e.to_string())),
                };
                added.map_err(unwritable)?;
                let outcome = if result.is_ok() { "done" } else { "cannot be compiled" };
                eprintln!("n-bits {n} rounding {r} p-error {p_label}: {outcome}");
            }
        }
    }
    print!("{}", std::fs::read_to_string(&file).map_err(unwritable)?);
    Ok(())
}

/// Prints the accuracy of the integer network of every combination; noise, which needs parameters, is left out.
fn accuracy_only(
    args: &Compile,
    model: &Graph,
    rows: &Rows,
    bits: &[String],
    roundings: &[String],
) -> Result<(), Failure> {
    let bad_rows = |source| fhe_passes::manager::PipelineError::Pass(PassError::BadCalibration { source });
    let float = accuracy::float(model, &rows.evaluate).map_err(bad_rows)?;
    let reference = rows.labels.as_deref().unwrap_or(&float);
    let percent = |classes: &[usize]| 100.0 * accuracy::agreement(classes, reference);
    for n in bits {
        for r in roundings {
            let (options, boxes) = options(args, n, r, "", &mut vec![])?;
            if boxes.is_some() {
                let message = "what is chosen depends on noise, which --accuracy-only leaves out: give numbers of bits";
                return Err(Failure::usage("--rounding", message));
            }
            let mut observer = args.dev.observer()?;
            // Nothing narrows proven ranges: no table reads outside its domain, and no table has to be built.
            let exact = rows.calibration.is_empty() && options.rounding == fhe_passes::Rounding::Off;
            let passes = args.dev.pipeline(if exact { pipeline::untabled() } else { pipeline::integer() })?;
            let job = job(model, rows, &options, (None, None, vec![]));
            let outcome = compile_with(job, &passes, args.dev.bisect_limit(), |e| observer.event(e));
            observer.finish()?;
            let graph = match outcome? {
                Outcome::Stopped(graph) => graph,
                Outcome::Circuit(compiled) => Box::new(compiled.artifact.circuit),
            };
            if graph.phase < fhe_ir::Phase::Ranged {
                let advice = format!("the passes end in phase {}, before there are integers to evaluate", graph.phase);
                return Err(Failure::usage("--accuracy-only", advice));
            }
            let integer = accuracy::integer(&graph, &rows.evaluate).map_err(bad_rows)?;
            let against = if rows.labels.is_some() { "accuracy" } else { "agreement with the float model" };
            println!(
                "n-bits {n} rounding {r}: {against} float {:.2} %   integer {:.2} %   on {} rows, {:.4} % of the \
                 readings saturate",
                percent(&float),
                percent(&integer.classes),
                float.len(),
                100.0 * integer.saturated
            );
        }
    }
    Ok(())
}

/// Digest of everything that decides the rows of a sweep but the swept options.
fn job_digest(args: &Compile, model: &Graph, rows: &Rows) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fhe_ir::text::to_text(model).as_bytes());
    for array in rows.calibration.iter().chain(&rows.evaluate) {
        hasher.update(format!("{:?}", array.shape()).as_bytes());
        for e in array {
            hasher.update(&e.to_le_bytes());
        }
    }
    let options =
        (&rows.labels, args.calibration_method, args.range_margin, args.security, args.max_key_size, args.seed);
    let options = (options, args.rounding_method, args.noise_budget, args.accuracy_budget);
    hasher.update(format!("{options:?} {}", matches!(args.ranges, RangesArg::WorstCase)).as_bytes());
    hasher.update(format!("{:?}", machine_of(args)?).as_bytes());
    Ok(hasher.finalize().to_hex()[..12].to_owned())
}

/// Rows of the model's first input, checked.
fn rows_of(path: &Path, model: &Graph) -> Result<ArrayD<f32>, data::DataError> {
    let rows = data::read_npy(path)?;
    if rows.shape().first() == Some(&0) {
        return Err(data::DataError::NoRows { path: path.into() });
    }
    client::check_rows(model, 0, &rows).map_err(|source| data::DataError::Rows { path: path.into(), source })
}

/// Calibration rows below which a warning is due.
const FEW_ROWS: usize = 16;

/// The data of a compilation.
struct Rows {
    calibration: Vec<ArrayD<f32>>,
    evaluate: Vec<ArrayD<f32>>,
    labels: Option<Vec<usize>>,
}

impl Rows {
    fn load(args: &Compile, model: &Graph, assumed: &mut Vec<String>) -> Result<Self, Failure> {
        let shapes: Vec<_> = model.inputs().iter().map(|i| model.value(*i).shape.clone()).collect();
        let unstated = if args.calibration.is_none() { fhe_passes::unstated(model) } else { None };
        let calibration = match (&args.calibration, unstated) {
            (Some(path), _) => vec![rows_of(path, model)?],
            (None, None) if args.input_range.is_none() => {
                assumed.push("no calibration: the model states its integers".into());
                vec![]
            }
            (None, unstated) => {
                let kind = args.input_range.map_or("N(0,1)".into(), |(lo, hi)| format!("uniform in [{lo}, {hi}]"));
                if args.input_range.is_none() {
                    eprintln!(
                        "warning: no --calibration: ranges come from 512 seeded N(0,1) rows and will not fit real data"
                    );
                    if let Some(lacking) = unstated.filter(|l| !l.is_empty()) {
                        eprintln!("  the model states integers of its own, but not all: {lacking}");
                    }
                }
                assumed.push(format!("calibration 512 rows {kind}"));
                shapes.iter().map(|s| data::synthetic_rows(s, 512, args.input_range, args.seed)).collect()
            }
        };
        let mut evaluate: Vec<_> = args.evaluate.iter().map(|p| rows_of(p, model)).collect::<Result<_, _>>()?;
        if args.evaluate_rows == Some(0) {
            return Err(Failure::usage("--evaluate-rows", "there are no rows to measure accuracy on"));
        }
        if calibration.iter().any(|x| (1..FEW_ROWS).contains(&x.shape().first().copied().unwrap_or(0))) {
            eprintln!("warning: ranges from fewer than {FEW_ROWS} calibration rows seldom fit other rows");
        }
        let mut labels = None;
        if let (Some(path), Some(x)) = (&args.labels, evaluate.first()) {
            labels = Some(data::read_labels(path, x.shape().first().copied().unwrap_or(0))?);
        }
        if let Some(rows) = args.evaluate_rows {
            evaluate.iter_mut().for_each(|x| *x = data::first_rows(x, rows));
            if let Some(labels) = &mut labels {
                labels.truncate(rows);
            }
        }
        Ok(Self { calibration, evaluate, labels })
    }
}

fn options(
    args: &Compile,
    n_bits: &str,
    rounding: &str,
    p_error: &str,
    assumed: &mut Vec<String>,
) -> Result<(Options, Option<RangeInclusive<u32>>), Failure> {
    let usage = |option: &'static str| move |message: String| Failure::usage(option, message);
    let resolution = arguments::resolution(rounding).map_err(usage("--rounding"))?;
    let within_budget = budget(args).is_some() || args.noise_budget.is_some();
    let rows = args.calibration.is_some() || args.evaluate.is_some();
    let (rounding, boxes) = resolution.under(within_budget, rows).map_err(usage("--rounding"))?;
    let error = match (p_error, args.global_p_error, args.noise_budget) {
        ("", _, Some(log2_sd)) => ErrorTarget::Noise(log2_sd),
        ("", Some(p), _) => ErrorTarget::Global(p),
        ("", None, None) => {
            match budget(args) {
                None => assumed.push("p-error 2^-40".into()),
                Some(d) if args.accuracy_budget.is_none() => assumed.push(format!("accuracy budget {d}")),
                Some(_) => {}
            }
            ErrorTarget::PerTable(2f64.powi(-40))
        }
        (p, ..) => ErrorTarget::PerTable(arguments::probability(p).map_err(usage("--p-error"))?),
    };
    if args.accuracy_budget.is_some() && args.rounding_method == arguments::RoundingMethod::Exact {
        let message = "it allows the errors that --rounding-method exact pays to exclude: give --p-error instead";
        return Err(Failure::usage("--accuracy-budget", message));
    }
    if !(-0.9..=10.0).contains(&args.range_margin) {
        return Err(Failure::usage("--range-margin", format!("{} is outside [-0.9, 10]", args.range_margin)));
    }
    let options = Options {
        bits: arguments::bits(n_bits).map_err(usage("--n-bits"))?,
        calibration: args.calibration_method,
        range_margin: args.range_margin,
        domain_margin: None,
        domain_noise: None,
        noise_bias: false,
        output_weights: None,
        finer_steps: 1,
        ranges: match args.ranges {
            RangesArg::Calibrated => Ranges::Calibrated,
            RangesArg::WorstCase => Ranges::WorstCase,
        },
        rounding: args.rounding_method.apply(rounding).map_err(usage("--rounding-method"))?,
        coarser: Default::default(),
        error,
        curve: args.security,
        max_key_bytes: args.max_key_size,
        seed: args.seed,
        machine: machine_of(args)?,
    };
    let bits = boxes.as_ref().map(|b| format!("{} to {}", b.start(), b.end()));
    let bits = |p: u32| bits.clone().unwrap_or_else(|| p.to_string());
    assumed.push(match options.rounding {
        fhe_passes::Rounding::Off => "rounding off".into(),
        fhe_passes::Rounding::Full => "tables read in full".into(),
        fhe_passes::Rounding::Approximate(p) => {
            format!("rounding {} approximate where an accumulator is wider", bits(p))
        }
        fhe_passes::Rounding::Exact(p) => format!("rounding {} exact where an accumulator is wider", bits(p)),
    });
    assumed.push(match options.rounding {
        fhe_passes::Rounding::Off => "outputs read exactly".into(),
        fhe_passes::Rounding::Full => "outputs read in full".into(),
        fhe_passes::Rounding::Approximate(_) | fhe_passes::Rounding::Exact(_) => {
            format!("outputs read at {} bits", options.bits.model_outputs)
        }
    });
    if args.cost_model.is_none() {
        assumed.push(format!("times of {}", options.machine.name));
    }
    Ok((options, boxes))
}

fn machine_of(args: &Compile) -> Result<Machine, Failure> {
    args.cost_model.as_deref().map_or_else(|| Ok(Machine::default()), machine)
}

/// The accuracy budget, asked for or by default; none under another contract.
fn budget(args: &Compile) -> Option<f64> {
    let other = args.p_error.is_some() || args.global_p_error.is_some() || args.noise_budget.is_some();
    let exact = args.rounding.as_deref() == Some("off") || args.rounding_method == arguments::RoundingMethod::Exact;
    args.accuracy_budget
        .or((!other && !exact && !args.accuracy_only && args.calibration.is_some()).then_some(DEFAULT_BUDGET))
}

/// The accuracy budget, the bits of boxes to choose from, and what was assumed.
type Contract = (Option<f64>, Option<RangeInclusive<u32>>, Vec<String>);

fn job<'a>(model: &Graph, rows: &'a Rows, options: &'a Options, (budget, boxes, assumed): Contract) -> Job<'a> {
    Job {
        budget,
        boxes,
        model: model.clone(),
        options,
        calibration: &rows.calibration,
        evaluate: &rows.evaluate,
        labels: rows.labels.as_deref(),
        assumed,
    }
}

fn compile_one(
    args: &Compile,
    path: &Path,
    model: Graph,
    rows: &Rows,
    options: &Options,
    contract: Contract,
) -> Result<(), Failure> {
    let passes = args.dev.pipeline(pipeline::DEFAULT)?;
    let mut observer = args.dev.observer()?;
    let outcome =
        compile_with(job(&model, rows, options, contract), &passes, args.dev.bisect_limit(), |e| observer.event(e));
    observer.finish()?;
    match outcome? {
        Outcome::Stopped(graph) => print!("{}", fhe_ir::text::to_text(&graph)),
        Outcome::Circuit(compiled) => write(args, path, &compiled)?,
    }
    Ok(())
}

fn write(args: &Compile, path: &Path, compiled: &Compiled) -> Result<(), Failure> {
    let default = || path.with_extension("fhe").file_name().map(PathBuf::from).unwrap_or_default();
    let output = args.output.clone().unwrap_or_else(default);
    std::fs::write(&output, compiled.artifact.to_bytes()).map_err(|e| Failure::unwritable(&output, e))?;
    let json = || format!("{:#}\n", compiled.artifact.report);
    match args.stats.as_deref() {
        Some("text") => print!("{}", report::statistics(&compiled.report)),
        Some("json") => print!("{}", json()),
        Some(file) => std::fs::write(file, json()).map_err(|e| Failure::unwritable(Path::new(file), e))?,
        None => {}
    }
    if compiled.report.statistics.total.bootstraps == 0 {
        eprintln!("warning: no table is left: on the calibration rows the network is linear or constant");
    }
    let input = args.evaluate.as_deref().unwrap_or(Path::new("X.npy"));
    let next = format!("fhe-run predict {} --input {} --rows 0-7", output.display(), input.display());
    eprint!("{}", report::summary(&compiled.report, &next));
    Ok(())
}
