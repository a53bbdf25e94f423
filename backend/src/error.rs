//! What can be wrong with a circuit, data, keys or ciphertexts.

use std::path::PathBuf;

use fhe_ir::client::ClientError;

use crate::circuit::{Digest, KeyId};
use crate::files::Kind;

/// Everything that the crate refuses.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[allow(missing_docs)] // Fields are named in the messages.
pub enum Error {
    #[error("{what} of the circuit cannot be executed: {why}")]
    #[diagnostic(
        code("backend::not-executable"),
        help("compile the model again with this version of fhe-compile; a circuit file from elsewhere may be damaged")
    )]
    NotExecutable { what: String, why: String },

    #[error("{path}: not a circuit: {why}")]
    #[diagnostic(code("backend::bad-circuit-file"), help("give the .fhe file that fhe-compile wrote"))]
    BadCircuitFile { path: PathBuf, why: String },

    #[error("{path} is no cost model: {why}")]
    #[diagnostic(
        code("backend::cost-model"),
        help("measure this machine with `fhe-run calibrate -o FILE.json`, or name a built-in one: {names}")
    )]
    BadCostModel { path: PathBuf, why: String, names: String },

    // The cause is in the message, and therefore not a `source`: reports print it once.
    #[error("{path}: {cause}")]
    #[diagnostic(code("backend::io"), help("check that the path is right, and that it may be read or written"))]
    Io { path: PathBuf, cause: std::io::Error },

    #[error("{path}: this file is not {}", wanted.described())]
    #[diagnostic(
        code("backend::not-our-file"),
        help("keys are made by `fhe-run keygen`, ciphertexts by `fhe-run encrypt` and `fhe-run eval`")
    )]
    NotOurFile { path: PathBuf, wanted: Kind },

    #[error("{path}: this is {}, wanted {}", got.described(), wanted.described())]
    #[diagnostic(code("backend::wrong-kind"), help("the files of this command may have been swapped"))]
    WrongKind { path: PathBuf, got: Kind, wanted: Kind },

    #[error("{path}: file format version {got}, this program reads version {wanted}")]
    #[diagnostic(code("backend::wrong-version"), help("make the file again, or use the program that made it"))]
    WrongVersion { path: PathBuf, got: u32, wanted: u32 },

    #[error("{path}: the file has {got} bytes, its header and circuit say {wanted}")]
    #[diagnostic(code("backend::wrong-length"), help("the file is truncated or damaged: copy or make it again"))]
    WrongLength { path: PathBuf, got: u64, wanted: u64 },

    #[error("{path}: the checksum does not match the contents")]
    #[diagnostic(code("backend::altered"), help("the file was altered or damaged: copy or make it again"))]
    Altered { path: PathBuf },

    #[error("{path}: {why}")]
    #[diagnostic(code("backend::bad-contents"), help("the file was not written by this program: make it again"))]
    BadContents { path: PathBuf, why: String },

    #[error("{what} is for circuit {got}, this circuit is {wanted}")]
    #[diagnostic(
        code("backend::other-circuit"),
        help("keys and ciphertexts serve the one circuit they were made for: give that circuit, or run keygen again")
    )]
    OtherCircuit { what: String, got: Digest, wanted: Digest },

    #[error("{what} is under key {got}, the key given is {wanted}")]
    #[diagnostic(
        code("backend::other-key"),
        help("give the keys that one `fhe-run keygen` wrote together, and ciphertexts made with them")
    )]
    OtherKey { what: String, got: KeyId, wanted: KeyId },

    #[error("the {whose} key given has no {key}, which the circuit uses")]
    #[diagnostic(
        code("backend::missing-key"),
        help("the keys were made for another version of the circuit: run `fhe-run keygen` for this one")
    )]
    MissingKey { whose: &'static str, key: String },

    #[error("one row of this circuit needs {needed} bytes of ciphertexts and tables, the limit is {limit}")]
    #[diagnostic(
        code("backend::too-much-memory"),
        help(
            "compile with fewer bits or a larger --p-error for smaller ciphertexts; layers are not streamed in tiles yet"
        )
    )]
    TooMuchMemory { needed: u64, limit: u64 },

    #[error("{path} exists already")]
    #[diagnostic(
        code("backend::secret-exists"),
        help(
            "without its secret key nothing encrypted under it can be read again: use another path; `keygen --force` alone replaces a secret key"
        )
    )]
    SecretExists { path: PathBuf },

    #[error("{path} exists already and is not {wanted}")]
    #[diagnostic(code("backend::output-exists"), help("use another path or remove the file"))]
    OutputExists { path: PathBuf, wanted: &'static str },

    #[error("{got} arrays given, the network has {wanted} inputs")]
    #[diagnostic(code("backend::wrong-inputs"), help("give --input once per input, in the order of the model"))]
    WrongInputs { got: usize, wanted: usize },

    #[error("input {index} has shape {got:?}, wanted {wanted:?}")]
    #[diagnostic(code("backend::wrong-shape"), help("all inputs have the same rows, each of the network's row shape"))]
    WrongShape { index: usize, got: Vec<usize>, wanted: Vec<usize> },

    #[error("row {row} of input {index} holds {got} in channel {channel}, outside [{lo}, {hi}]")]
    #[diagnostic(
        code("backend::input-outside"),
        help("quantize with the circuit's own scale and interval (fhe_ir::client::quantize_rows does)")
    )]
    InputOutside { index: usize, row: usize, channel: usize, got: i64, lo: i64, hi: i64 },

    #[error("rows {asked} asked for, the data has {rows}")]
    #[diagnostic(code("backend::no-such-rows"), help("rows are counted from 0; `--rows A-B` takes both ends"))]
    NoSuchRows { asked: String, rows: usize },

    #[error("{labels} labels for {rows} rows")]
    #[diagnostic(code("backend::wrong-labels"), help("give one label per row of the input file"))]
    WrongLabels { labels: usize, rows: usize },

    #[error("{path}: row {row} has the label {label}")]
    #[diagnostic(code("backend::bad-label"), help("labels are class numbers from 0, one whole number per row"))]
    BadLabel { path: PathBuf, row: usize, label: f32 },

    #[error("{path}: {why}")]
    #[diagnostic(
        code("backend::bad-array"),
        help(
            "give a NumPy .npy file of shape [rows, ...], saved as float32, float64, uint8, int8, int32 or int64, little-endian"
        )
    )]
    BadArray { path: PathBuf, why: String },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Client(#[from] ClientError),
}

impl Error {
    /// An input/output error at a path.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }
}
