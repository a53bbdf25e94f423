//! `fhe-run`: keys, encryption, execution, decryption and measurement of a compiled circuit.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use fhe_backend::arrays::{RowRange, admit_array, read_labels, write_array};
use fhe_backend::calibrate::{self, Effort};
use fhe_backend::commands::{self, Session};
use fhe_backend::files::Kind;
use fhe_backend::{Circuit, Error, Randomness, Step, decrypt, encrypt, evaluate, files, generate, measure, timing};
use fhe_ir::cost::CostFile;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const EXAMPLES: &str = "\
Examples:
  fhe-run predict  model.fhe --input test.npy --rows 0-7
  fhe-run keygen   model.fhe --secret my.key --evaluation server.key
  fhe-run encrypt  model.fhe --secret my.key --input test.npy --rows 0-7 -o x.ct
  fhe-run eval     model.fhe --evaluation server.key --input x.ct -o y.ct
  fhe-run decrypt  model.fhe --secret my.key --input y.ct
  fhe-run simulate model.fhe --input test.npy --labels labels.npy

The server needs model.fhe, server.key and x.ct; it never sees my.key.
Exit codes: 0 done, 1 bad circuit, data or keys, 2 command line, 3 internal error.";

/// Run a compiled network on encrypted data
#[derive(Parser)]
#[command(name = "fhe-run", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the keys of a circuit
    Keygen {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        /// File to write the secret key to: keep it to yourself
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// File to write the evaluation key to: for the server
        #[arg(long, value_name = "FILE")]
        evaluation: PathBuf,
        /// Replace an existing secret key
        #[arg(long)]
        force: bool,
    },
    /// Quantize and encrypt rows
    Encrypt {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        /// Secret key
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        #[command(flatten)]
        data: Data,
        /// Ciphertext to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Evaluate the circuit on encrypted rows (the server's step)
    Eval {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        /// Evaluation key
        #[arg(long, value_name = "FILE")]
        evaluation: PathBuf,
        /// Ciphertext that `encrypt` wrote
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// Ciphertext to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Decrypt the result: one line per row, or a .npy file per output
    Decrypt {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        /// Secret key
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// Ciphertext that `eval` wrote
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// Array to write (further outputs get .1.npy, .2.npy, …)
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// All of it at once, compared with the integer circuit
    Predict {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        #[command(flatten)]
        data: Data,
        /// Folder to keep the keys in, for the next run
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
    },
    /// Accuracy of the integer circuit, and with the predicted noise sampled
    Simulate {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        #[command(flatten)]
        data: Data,
        /// Class numbers, .npy, one per row of the input file
        #[arg(long, value_name = "FILE")]
        labels: Option<PathBuf>,
        /// Seed of the noise
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Noise of a real execution against the prediction
    Measure {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// Time of a real execution against the prediction, on arbitrary rows
    Time {
        /// Circuit that fhe-compile wrote
        model: PathBuf,
        /// Machine that predicts: a file of `calibrate` or a built-in name (default: that of the circuit)
        #[arg(long, value_name = "FILE|NAME")]
        cost_model: Option<String>,
        /// Rows executed together (default: as many as threads)
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
        rows: Option<u32>,
        /// Executions, whose median counts
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
        repeat: u32,
    },
    /// Measure this machine, for `fhe-compile --cost-model`
    Calibrate {
        /// File to write (default: stdout)
        #[arg(short, long, value_name = "FILE.json")]
        output: Option<PathBuf>,
        /// Name of this machine (default: what the system says)
        #[arg(long)]
        name: Option<String>,
        /// Polynomials up to 16384, not up to 4096; needs 2 GiB of memory
        #[arg(long)]
        thorough: bool,
        /// Seconds to measure
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
}

#[derive(Args)]
struct Data {
    /// Array [rows, ...] of real numbers, .npy; once per input of the network
    #[arg(long, required = true, value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Rows to take, counted from 0, both ends included
    #[arg(long, value_name = "A-B")]
    rows: Option<RowRange>,
}

impl Data {
    fn read(&self, circuit: &Circuit) -> Result<Vec<ndarray::ArrayD<f32>>, Error> {
        commands::read_inputs(circuit, &self.input, self.rows)
    }

    fn first_row(&self) -> usize {
        self.rows.map_or(0, |r| r.first)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match std::panic::catch_unwind(|| run(cli.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failure::BrokenPipe)) => ExitCode::SUCCESS,
        Ok(Err(Failure::Usage(message))) => {
            // When stderr is gone there is nobody to tell.
            let _ = Cli::command().error(ErrorKind::ArgumentConflict, message).print();
            ExitCode::from(2)
        }
        Ok(Err(Failure::Refused(error))) => {
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::from(1)
        }
        Err(_) => {
            eprintln!("internal error: please report the message above and the command");
            ExitCode::from(3)
        }
    }
}

enum Failure {
    Refused(Error),
    Usage(String),
    BrokenPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::BrokenPipe),
        Err(e) => Err(Failure::Refused(Error::io("stdout")(e))),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let bar = Bar::default();
    let progress = |step: Step<'_>| bar.show(step);
    match command {
        Command::Keygen { model, secret, evaluation, force } => {
            if files::same_place(&secret, &evaluation) {
                let (a, b) = (secret.display(), evaluation.display());
                return Err(Failure::Usage(format!(
                    "--secret {a} and --evaluation {b} name one file, two are written"
                )));
            }
            let circuit = commands::load_circuit(&model)?;
            files::admit_secret(&secret, force)?;
            files::admit(&evaluation, Kind::EvaluationKey)?;
            let (secret_keys, evaluation_keys) = generate(&circuit, &mut Randomness::from_system(), &progress);
            // The secret key last: when a file cannot be written, a key that --force replaces is still there.
            files::write_evaluation(&evaluation, &evaluation_keys)?;
            files::write_secret(&secret, &secret_keys, force)?;
            eprintln!("key {}: {}", secret_keys.binding().key, commands::sizes_line(&circuit));
            Ok(())
        }
        Command::Encrypt { model, secret, data, output } => {
            let circuit = commands::load_circuit(&model)?;
            files::admit(&output, Kind::Inputs)?;
            let keys = files::read_secret(&secret, &circuit)?;
            let integers = commands::quantize(&circuit, &data.read(&circuit)?)?;
            let inputs = encrypt(&circuit, &keys, &integers, &mut Randomness::from_system())?;
            files::write_inputs(&output, &inputs)?;
            eprintln!("{} rows, {} each", inputs.rows(), commands::bytes(circuit.input_bytes()));
            Ok(())
        }
        Command::Eval { model, evaluation, input, output } => {
            let circuit = commands::load_circuit(&model)?;
            files::admit(&output, Kind::Outputs)?;
            let inputs = files::read_inputs(&input, &circuit)?;
            let keys = files::read_evaluation(&evaluation, &circuit)?;
            keys.binding().admit(&input.display().to_string(), inputs.binding())?;
            let keys = keys.expand(&progress);
            let start = Instant::now();
            let outputs = evaluate(&circuit, &keys, &inputs, &progress)?;
            bar.clear();
            files::write_outputs(&output, &outputs)?;
            let seconds = start.elapsed().as_secs_f64() / inputs.rows().max(1) as f64;
            eprintln!("{} rows, {seconds:.2} s per row, {} lookups per row", inputs.rows(), circuit.lookups());
            Ok(())
        }
        Command::Decrypt { model, secret, input, output } => {
            let circuit = commands::load_circuit(&model)?;
            let keys = files::read_secret(&secret, &circuit)?;
            let integers = decrypt(&circuit, &keys, &files::read_outputs(&input, &circuit)?)?;
            let arrays = commands::model_outputs(&circuit, &integers);
            match output {
                Some(path) => {
                    let paths: Vec<PathBuf> = (0..arrays.len()).map(|i| numbered(&path, i)).collect();
                    paths.iter().try_for_each(|path| admit_array(path))?;
                    Ok(paths.iter().zip(&arrays).try_for_each(|(path, array)| write_array(path, array))?)
                }
                None => {
                    let classes = commands::classes(&circuit, &integers);
                    let rows = arrays[0].outer_iter().zip(classes).enumerate();
                    let line = |(row, (values, class)): (usize, (ndarray::ArrayViewD<'_, f32>, usize))| {
                        let values: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
                        format!("row {row}  class {class}  {}\n", values.join(" "))
                    };
                    print(&rows.map(line).collect::<String>())
                }
            }
        }
        Command::Predict { model, data, keys } => {
            let circuit = commands::load_circuit(&model)?;
            let inputs = data.read(&circuit)?;
            let mut randomness = Randomness::from_system();
            let session = match keys {
                Some(folder) => Session::in_folder(&circuit, &folder, &progress)?,
                None => Session::new(&circuit, &mut randomness, &progress),
            };
            let found = commands::predict(&circuit, &session, &inputs, &mut randomness, &progress)?;
            bar.clear();
            let rows = found.classes.iter().zip(&found.clear_classes).enumerate();
            let mut text: String = rows
                .map(|(i, (class, clear))| format!("row {}  class {class}  clear {clear}\n", data.first_row() + i))
                .collect();
            let rows = found.classes.len();
            text += &format!(
                "agreement  {} of {rows} rows have the class of the integer circuit, {} all its outputs\n",
                found.agreeing(),
                found.equal_rows
            );
            text += &format!(
                "time       {:.3} s per row on {} threads, {} lookups per row, keys {:.1} s\n",
                found.seconds_per_row(),
                rayon::current_num_threads(),
                circuit.lookups(),
                session.key_time.as_secs_f64()
            );
            text += &format!("sizes      {}\n", commands::sizes_line(&circuit));
            print(&text)
        }
        Command::Simulate { model, data, labels, seed } => {
            let circuit = commands::load_circuit(&model)?;
            let inputs = data.read(&circuit)?;
            let labels = labels.map(|path| read_labels(&path, data.rows)).transpose()?;
            let found = commands::simulate(&circuit, &inputs, labels.as_deref(), seed, &progress)?;
            bar.clear();
            let percent = |fraction: f64| format!("{:.2} %", 100.0 * fraction);
            let mut text = String::new();
            if let (Some(integer), Some(simulated)) = (found.integer_accuracy, found.simulated_accuracy) {
                text += &format!("accuracy   integer {}   simulated {}\n", percent(integer), percent(simulated));
            }
            text += &format!("agreement  {} of {} rows\n", percent(found.agreement), found.rows);
            print(&text)
        }
        Command::Measure { model, data } => {
            let circuit = commands::load_circuit(&model)?;
            let integers = commands::quantize(&circuit, &data.read(&circuit)?)?;
            let mut randomness = Randomness::from_system();
            let session = Session::new(&circuit, &mut randomness, &progress);
            let (secret, server) = (&session.secret, &session.server);
            let (measured, _) = measure(&circuit, secret, server, &integers, &mut randomness, &progress)?;
            bar.clear();
            print(&commands::measurement_table(&circuit, &measured))
        }
        Command::Time { model, cost_model, rows, repeat } => {
            let circuit = commands::load_circuit(&model)?;
            let machine = commands::load_machine(cost_model.as_deref(), &model)?;
            let mut randomness = Randomness::from_system();
            let Session { secret, server, .. } = Session::new(&circuit, &mut randomness, &progress);
            let rows = rows.map_or_else(rayon::current_num_threads, |rows| rows as usize);
            let effort = (rows, repeat as usize);
            let timing = timing::time(&circuit, (&secret, &server), &machine, effort, &mut randomness, &progress)?;
            bar.clear();
            print(&timing.table(&machine))
        }
        Command::Calibrate { output, name, thorough, seconds } => {
            let name = name.unwrap_or_else(calibrate::machine_name);
            eprintln!("{name}: measuring {} threads, about {seconds} s", rayon::current_num_threads());
            let effort = Effort { thorough, seconds: f64::from(seconds) };
            let file = calibrate::calibrate(&name, &effort, &progress);
            bar.clear();
            // What is written can be read: names come from the command line and from the system.
            CostFile::from_json(file.to_json().as_bytes())
                .map_err(|e| Failure::Usage(format!("--name {name}: {e}")))?;
            eprint!("{}", calibrate::table(&file));
            match output {
                None => print(&file.to_json()),
                Some(path) => Ok(std::fs::write(&path, file.to_json()).map_err(Error::io(&path))?),
            }
        }
    }
}

/// `y.npy`, `y.1.npy`, `y.2.npy`, …; a device or pipe takes them all.
fn numbered(path: &Path, index: usize) -> PathBuf {
    let stream = std::fs::metadata(path).is_ok_and(|there| !there.is_file());
    if index == 0 || stream { path.into() } else { path.with_extension(format!("{index}.npy")) }
}

/// A progress bar on stderr: only on a terminal, and only for work longer than a quarter of a second.
#[derive(Default)]
struct Bar(Mutex<Option<(String, Instant, ProgressBar)>>);

impl Bar {
    fn show(&self, step: Step<'_>) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let mut state = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if state.as_ref().is_none_or(|(what, ..)| what != step.what) {
            if let Some((_, _, bar)) = state.take() {
                bar.finish_and_clear();
            }
            let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}").expect("a constant template");
            let bar = ProgressBar::with_draw_target(Some(step.total), ProgressDrawTarget::hidden()).with_style(style);
            bar.set_message(step.what.to_string());
            *state = Some((step.what.into(), Instant::now(), bar));
        }
        if let Some((_, start, bar)) = state.as_ref() {
            if bar.is_hidden() && start.elapsed() > Duration::from_millis(250) {
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            bar.set_position(step.done);
        }
    }

    fn clear(&self) {
        if let Some((_, _, bar)) = self.0.lock().unwrap_or_else(|e| e.into_inner()).take() {
            bar.finish_and_clear();
        }
    }
}
