//! The bundled heartbeat classifier, from model to decrypted answers: every step as the command to copy, then done.

use std::fs;
use std::path::Path;
use std::time::Instant;

use fhe_backend::arrays::{RowRange, read_labels};
use fhe_backend::{Circuit, Randomness, commands, decrypt, encrypt, evaluate, files, generate, silent};
use fhe_compiler::compile::{Job, Outcome, compile};
use fhe_compiler::failure::Failure;
use fhe_compiler::{data, onnx, report};
use fhe_ir::eval::integer;
use fhe_passes::params::ErrorTarget;
use fhe_passes::{Flow, Options};
use miette::{IntoDiagnostic, Result};

const MODEL: &str = "testsuite/models/arrhythmia/mitbih_mlp.onnx";
const CALIBRATION: &str = "testsuite/data/arrhythmia/calibration_x.npy";
const TEST_X: &str = "testsuite/data/arrhythmia/test_x.npy";
const TEST_Y: &str = "testsuite/data/arrhythmia/test_y.npy";

/// Everything that is written goes here.
const FOLDER: &str = "target/arrhythmia";

/// Probability that a table gives a neighbouring entry: far more than the default, and the network does not mind.
const P_ERROR: f64 = 0.01;

/// Rows that are encrypted.
const ROWS: RowRange = RowRange { first: 0, last: 7 };

fn main() -> Result<()> {
    // The commands shown name files from the root of the repository.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).into_diagnostic()?;
    fs::create_dir_all(FOLDER).into_diagnostic()?;
    let at = |name: &str| Path::new(FOLDER).join(name);
    let circuit_file = at("arrhythmia.fhe");
    compile_model(&circuit_file)?;
    let circuit = commands::load_circuit(&circuit_file)?;
    let (secret, evaluation) = (at("client.key"), at("server.key"));
    make_keys(&circuit, &circuit_file, &secret, &evaluation)?;
    let (rows, answers) = (at("rows.ct"), at("answers.ct"));
    client_encrypts(&circuit, &circuit_file, &secret, &rows)?;
    let seconds = server_evaluates(&circuit, &circuit_file, &evaluation, &rows, &answers)?;
    client_decrypts(&circuit, &circuit_file, &secret, &answers, seconds)
}

/// Shows a command as it would be typed.
fn show(who: &str, command: &str) {
    println!("\n# {who}\n$ {command}");
}

fn compile_model(circuit: &Path) -> Result<()> {
    show(
        "compile: once, by whoever has the model",
        &format!(
            "fhe-compile {MODEL} --n-bits 6 --p-error {P_ERROR} --calibration {CALIBRATION} \\\n    --evaluate {TEST_X} --labels {TEST_Y} -o {}",
            circuit.display()
        ),
    );
    let fallible = || -> Result<_, Failure> {
        let model = onnx::read_file(Path::new(MODEL), &onnx::ReadOptions::default())?;
        let calibration = vec![data::read_npy(Path::new(CALIBRATION))?];
        let evaluate = vec![data::read_npy(Path::new(TEST_X))?];
        let labels = data::read_labels(Path::new(TEST_Y), evaluate[0].shape()[0])?;
        let options = Options { error: ErrorTarget::PerTable(P_ERROR), ..Options::default() };
        let job = Job {
            model,
            options: &options,
            calibration: &calibration,
            evaluate: &evaluate,
            labels: Some(&labels),
            budget: None,
            boxes: None,
            assumed: vec!["the defaults of fhe-compile".into()],
        };
        Ok(compile(job, |_| Flow::Continue)?)
    };
    let Outcome::Circuit(compiled) = fallible()? else {
        unreachable!("the default pipeline ends with the circuit");
    };
    fs::write(circuit, compiled.artifact.to_bytes()).into_diagnostic()?;
    let next = format!("fhe-run predict {} --input {TEST_X} --rows {ROWS}", circuit.display());
    print!("{}", report::summary(&compiled.report, &next));
    Ok(())
}

fn make_keys(circuit: &Circuit, circuit_file: &Path, secret: &Path, evaluation: &Path) -> Result<()> {
    show(
        "client: make keys; the second is for the server",
        &format!(
            "fhe-run keygen {} --secret {} --evaluation {} --force",
            circuit_file.display(),
            secret.display(),
            evaluation.display()
        ),
    );
    let start = Instant::now();
    let (secret_keys, evaluation_keys) = generate(circuit, &mut Randomness::from_system(), &silent);
    files::write_secret(secret, &secret_keys, true)?;
    files::write_evaluation(evaluation, &evaluation_keys)?;
    println!("{:.1} s, {}", start.elapsed().as_secs_f64(), commands::sizes_line(circuit));
    Ok(())
}

fn client_encrypts(circuit: &Circuit, circuit_file: &Path, secret: &Path, rows: &Path) -> Result<()> {
    show(
        "client: encrypt",
        &format!(
            "fhe-run encrypt {} --secret {} --input {TEST_X} --rows {ROWS} -o {}",
            circuit_file.display(),
            secret.display(),
            rows.display()
        ),
    );
    let keys = files::read_secret(secret, circuit)?;
    let inputs = commands::read_inputs(circuit, &[TEST_X.into()], Some(ROWS))?;
    let inputs = commands::quantize(circuit, &inputs)?;
    let inputs = encrypt(circuit, &keys, &inputs, &mut Randomness::from_system())?;
    files::write_inputs(rows, &inputs)?;
    println!("{} rows, {} each", inputs.rows(), commands::bytes(circuit.input_bytes()));
    Ok(())
}

/// Evaluates the encrypted rows; gives the seconds per row.
fn server_evaluates(
    circuit: &Circuit,
    circuit_file: &Path,
    evaluation: &Path,
    rows: &Path,
    answers: &Path,
) -> Result<f64> {
    show(
        "server: compute, without the secret key",
        &format!(
            "fhe-run eval {} --evaluation {} --input {} -o {}",
            circuit_file.display(),
            evaluation.display(),
            rows.display(),
            answers.display()
        ),
    );
    let inputs = files::read_inputs(rows, circuit)?;
    let keys = files::read_evaluation(evaluation, circuit)?.expand(&silent);
    let start = Instant::now();
    let outputs = evaluate(circuit, &keys, &inputs, &silent)?;
    let seconds = start.elapsed().as_secs_f64() / inputs.rows() as f64;
    files::write_outputs(answers, &outputs)?;
    println!("{} rows in {:.1} s", inputs.rows(), seconds * inputs.rows() as f64);
    Ok(seconds)
}

/// Decrypts and compares with the integer circuit; `seconds` is what the server took for a row.
fn client_decrypts(circuit: &Circuit, circuit_file: &Path, secret: &Path, answers: &Path, seconds: f64) -> Result<()> {
    show(
        "client: decrypt",
        &format!(
            "fhe-run decrypt {} --secret {} --input {}",
            circuit_file.display(),
            secret.display(),
            answers.display()
        ),
    );
    let keys = files::read_secret(secret, circuit)?;
    let integers = decrypt(circuit, &keys, &files::read_outputs(answers, circuit)?)?;
    let outputs = commands::model_outputs(circuit, &integers);
    let classes = commands::classes(circuit, &integers);
    let rows = commands::read_inputs(circuit, &[TEST_X.into()], Some(ROWS))?;
    let clear = integer(circuit.graph(), &commands::quantize(circuit, &rows)?);
    let clear = commands::classes(circuit, &clear.outputs);
    let labels = read_labels(Path::new(TEST_Y), Some(ROWS))?;
    let names = ["normal", "abnormal"];
    for (row, class) in classes.iter().enumerate() {
        let probability = outputs[0].iter().nth(row).copied().unwrap_or(f32::NAN);
        println!(
            "heartbeat {row}  {:<8}  clear {:<8}  label {:<8}  probability {probability:.3}",
            names[*class], names[clear[row]], names[labels[row]]
        );
    }
    let agreeing = classes.iter().zip(&clear).filter(|(a, b)| a == b).count();
    println!("\n{agreeing} of {} encrypted answers are the clear ones", classes.len());
    println!("{seconds:.2} s per row, {} lookups per row, {}", circuit.lookups(), commands::sizes_line(circuit));
    Ok(())
}
