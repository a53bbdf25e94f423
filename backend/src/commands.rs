//! What the commands of `fhe-run` do, as functions: other programs call them too.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fhe_ir::artifact::{Artifact, MAX_BYTES};
use fhe_ir::cost::{CostFile, MAX_FILE_BYTES, Machine};
use fhe_ir::{Key, Op, client, eval};
use ndarray::{ArrayD, IxDyn};

use crate::arrays::{RowRange, read_rows};
use crate::circuit::Circuit;
use crate::encrypt::{decrypt, encrypt};
use crate::error::Error;
use crate::execute::evaluate;
use crate::files;
use crate::keys::{EvaluationKeys, Randomness, SecretKeys, ServerKeys, generate};
use crate::measure::Measurement;
use crate::progress::{Progress, Step};

/// Reads a circuit file and checks that it can be executed.
pub fn load_circuit(path: &Path) -> Result<Circuit, Error> {
    let artifact = load_artifact(path)?;
    let digest = artifact.digest();
    Circuit::new(artifact.circuit, digest)
}

fn load_artifact(path: &Path) -> Result<Artifact, Error> {
    let bytes = read(path, MAX_BYTES)?;
    Artifact::from_bytes(&bytes).map_err(|e| Error::BadCircuitFile { path: path.into(), why: e.to_string() })
}

/// The bytes of a file; one more than is allowed shows that it is too large.
fn read(path: &Path, allowed: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![];
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(allowed as u64 + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// The machine whose times are predicted: of a built-in name, of a file that `calibrate` wrote, or the one that the
/// circuit was compiled for.
pub fn load_machine(named: Option<&str>, circuit: &Path) -> Result<Machine, Error> {
    let Some(named) = named else {
        let machine = load_artifact(circuit)?.report["options"]["machine"].take();
        return Ok(serde_json::from_value(machine).unwrap_or_default());
    };
    if let Some(machine) = Machine::built_in(named) {
        return Ok(machine);
    }
    let path = Path::new(named);
    let names = || Machine::names().collect::<Vec<_>>().join(", ");
    let file = CostFile::from_json(&read(path, MAX_FILE_BYTES)?);
    file.map(|f| f.machine).map_err(|e| Error::BadCostModel { path: path.into(), why: e.to_string(), names: names() })
}

/// Real inputs of some rows, one array `[rows, …]` per input of the network.
pub fn read_inputs(circuit: &Circuit, paths: &[PathBuf], rows: Option<RowRange>) -> Result<Vec<ArrayD<f32>>, Error> {
    let wanted = circuit.graph().inputs().len();
    if paths.len() != wanted {
        return Err(Error::WrongInputs { got: paths.len(), wanted });
    }
    let arrays = paths.iter().map(|path| read_rows(path, rows)).collect::<Result<Vec<_>, _>>()?;
    let rows = arrays[0].shape()[0];
    match arrays.iter().position(|a| a.shape()[0] != rows) {
        None => Ok(arrays),
        Some(index) => {
            let got = arrays[index].shape().to_vec();
            let wanted = std::iter::once(rows).chain(got.iter().skip(1).copied()).collect();
            Err(Error::WrongShape { index, got, wanted })
        }
    }
}

/// The integers that the client encrypts for real inputs.
pub fn quantize(circuit: &Circuit, inputs: &[ArrayD<f32>]) -> Result<Vec<ArrayD<i64>>, Error> {
    inputs.iter().enumerate().map(|(i, x)| Ok(client::quantize_rows(circuit.graph(), i, x)?)).collect()
}

/// Outputs as the model gives them, from decrypted integers: bias, scale and client functions applied.
pub fn model_outputs(circuit: &Circuit, integers: &[ArrayD<i64>]) -> Vec<ArrayD<f32>> {
    let graph = circuit.graph();
    let real = |i: usize| client::post_process(&graph.outputs[i].post, &client::dequantize(graph, i, &integers[i]));
    (0..integers.len()).map(real).collect()
}

/// Class of each row by the first output.
pub fn classes(circuit: &Circuit, integers: &[ArrayD<i64>]) -> Vec<usize> {
    let logits = client::dequantize(circuit.graph(), 0, &integers[0]);
    let rows = logits.shape()[0];
    let flat = IxDyn(&[rows, logits.len() / rows.max(1)]);
    client::classes(&logits.to_shape(flat).expect("as many elements").to_owned())
}

/// Keys of a circuit and how long making them took.
pub struct Session {
    /// The client's keys.
    pub secret: SecretKeys,
    /// The server's keys, expanded.
    pub server: ServerKeys,
    /// Time to make (or read) and expand them.
    pub key_time: Duration,
}

impl Session {
    /// Fresh keys.
    pub fn new(circuit: &Circuit, randomness: &mut Randomness, progress: Progress<'_>) -> Self {
        let start = Instant::now();
        let (secret, evaluation) = generate(circuit, randomness, progress);
        let server = evaluation.expand(progress);
        Self { secret, server, key_time: start.elapsed() }
    }

    /// The keys in a folder; they are made and written there when it has none.
    pub fn in_folder(circuit: &Circuit, folder: &Path, progress: Progress<'_>) -> Result<Self, Error> {
        let start = Instant::now();
        let (secret_path, evaluation_path) = (folder.join("secret.key"), folder.join("evaluation.key"));
        let (secret, evaluation) = if secret_path.exists() && evaluation_path.exists() {
            let secret = files::read_secret(&secret_path, circuit)?;
            let evaluation = files::read_evaluation(&evaluation_path, circuit)?;
            secret.binding().admit("the evaluation key", evaluation.binding())?;
            (secret, evaluation)
        } else {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            files::admit_secret(&secret_path, false)?;
            files::admit(&evaluation_path, files::Kind::EvaluationKey)?;
            let (secret, evaluation) = generate(circuit, &mut Randomness::from_system(), progress);
            files::write_evaluation(&evaluation_path, &evaluation)?;
            files::write_secret(&secret_path, &secret, false)?;
            (secret, evaluation)
        };
        let server = evaluation.expand(progress);
        Ok(Self { secret, server, key_time: start.elapsed() })
    }
}

/// What [`predict`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Class per row, decrypted.
    pub classes: Vec<usize>,
    /// Class per row by the integer circuit.
    pub clear_classes: Vec<usize>,
    /// Rows whose decrypted outputs are the integer circuit's in every element.
    pub equal_rows: usize,
    /// Decrypted outputs.
    pub integers: Vec<ArrayD<i64>>,
    /// Time of encryption, all rows.
    pub encrypt_time: Duration,
    /// Time of the server's work, all rows.
    pub evaluate_time: Duration,
}

impl Prediction {
    /// Rows whose class is that of the integer circuit.
    pub fn agreeing(&self) -> usize {
        self.classes.iter().zip(&self.clear_classes).filter(|(a, b)| a == b).count()
    }

    /// Seconds of the server's work per row.
    pub fn seconds_per_row(&self) -> f64 {
        self.evaluate_time.as_secs_f64() / self.classes.len().max(1) as f64
    }
}

/// Encrypts rows, evaluates the circuit on them, decrypts, and compares with the integer circuit.
pub fn predict(
    circuit: &Circuit,
    session: &Session,
    inputs: &[ArrayD<f32>],
    randomness: &mut Randomness,
    progress: Progress<'_>,
) -> Result<Prediction, Error> {
    let quantized = quantize(circuit, inputs)?;
    let start = Instant::now();
    let encrypted = encrypt(circuit, &session.secret, &quantized, randomness)?;
    let encrypt_time = start.elapsed();
    let start = Instant::now();
    let outputs = evaluate(circuit, &session.server, &encrypted, progress)?;
    let evaluate_time = start.elapsed();
    let integers = decrypt(circuit, &session.secret, &outputs)?;
    let clear = eval::integer(circuit.graph(), &quantized).outputs;
    let rows = encrypted.rows();
    let row = |a: &ArrayD<i64>, i: usize| a.index_axis(ndarray::Axis(0), i).to_owned();
    let equal = |i: &usize| integers.iter().zip(&clear).all(|(a, b)| row(a, *i) == row(b, *i));
    Ok(Prediction {
        classes: classes(circuit, &integers),
        clear_classes: classes(circuit, &clear),
        equal_rows: (0..rows).filter(equal).count(),
        integers,
        encrypt_time,
        evaluate_time,
    })
}

/// What [`simulate`] found: fractions of all rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulation {
    /// Number of rows.
    pub rows: usize,
    /// Rows that the integer circuit classifies as labelled.
    pub integer_accuracy: Option<f64>,
    /// Rows that the circuit with sampled noise classifies as labelled.
    pub simulated_accuracy: Option<f64>,
    /// Rows of one class with and without noise.
    pub agreement: f64,
}

/// Classifies rows by the integer circuit and by the noise-sampling simulator; no cryptography runs.
pub fn simulate(
    circuit: &Circuit,
    inputs: &[ArrayD<f32>],
    labels: Option<&[usize]>,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Simulation, Error> {
    let quantized = quantize(circuit, inputs)?;
    let report = |done| progress(Step { what: "simulating", done, total: 2 });
    report(0);
    let integer = classes(circuit, &eval::integer(circuit.graph(), &quantized).outputs);
    report(1);
    let noisy = classes(circuit, &eval::simulate(circuit.graph(), &quantized, seed).outputs);
    report(2);
    let rows = integer.len();
    if let Some(labels) = labels.filter(|l| l.len() != rows) {
        return Err(Error::WrongLabels { labels: labels.len(), rows });
    }
    let same = |a: &[usize], b: &[usize]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / rows.max(1) as f64;
    Ok(Simulation {
        rows,
        integer_accuracy: labels.map(|l| same(&integer, l)),
        simulated_accuracy: labels.map(|l| same(&noisy, l)),
        agreement: same(&integer, &noisy),
    })
}

/// Sizes of keys and ciphertexts, one line.
pub fn sizes_line(circuit: &Circuit) -> String {
    let keys = circuit.keys();
    format!(
        "evaluation key {} (expanded {}), input {} per row, output {} per row",
        bytes(EvaluationKeys::bytes(keys)),
        bytes(keys.bootstrap_bytes() + keys.keyswitch_bytes()),
        bytes(circuit.input_bytes()),
        bytes(circuit.output_bytes()),
    )
}

/// A number of bytes with a binary prefix.
pub fn bytes(n: u64) -> String {
    let (mut size, mut unit) = (n as f64, "B");
    for next in ["KiB", "MiB", "GiB"] {
        if size >= 1024.0 {
            (size, unit) = (size / 1024.0, next);
        }
    }
    if unit == "B" { format!("{n} B") } else { format!("{size:.1} {unit}") }
}

/// A table of measurements: inputs, table inputs before and after their keyswitch, table outputs, outputs.
pub fn measurement_table(circuit: &Circuit, measurements: &[Measurement]) -> String {
    let graph = circuit.graph();
    let users = graph.users();
    let mut text =
        String::from("value  op  count  predicted-log2-sd  measured-log2-sd  variance-ratio  mean  worst  misread\n");
    for m in measurements {
        let value = graph.value(m.value);
        let switched = users[m.value.index()].iter().any(|u| matches!(graph.value(*u).op, Op::Keyswitch { .. }));
        let shown = matches!(value.op, Op::Input { .. } | Op::Pbs { .. } | Op::Keyswitch { .. })
            || switched
            || graph.is_output(m.value);
        if !shown || m.count == 0 {
            continue;
        }
        let key = if circuit.cipher(value).key == Key::Small { " (small key)" } else { "" };
        writeln!(
            text,
            "%{}  {}{key}  {}  {:.2}  {:.2}  {:.3}  {:+.2}  {:.1}  {}",
            value.name,
            value.op.keyword(),
            m.count,
            m.predicted_log2_sd,
            m.measured_log2_sd,
            m.variance_ratio,
            m.mean,
            m.worst,
            m.misread
        )
        .expect("a string can be written");
    }
    text
}
