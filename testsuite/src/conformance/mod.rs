//! The ONNX backend test suite: models with inputs and the outputs they must give, run through the reader and the
//! float evaluator.
//!
//! A case is a folder `<kind>/<name>` with `model.onnx` and `test_data_set_0/{input,output}_<i>.pb`. The whole suite
//! is part of the package `onnx` up to version 1.22.0; `testsuite/fetch-onnx-suite` puts it into [`folder`]. Some small
//! cases are part of the repository ([`bundled`]). Each case has one recorded [`Status`](record::Status).

pub mod case;
pub mod integer;
pub mod record;
pub mod run;
pub mod scope;
pub mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use case::{Case, cases};
pub use record::{Record, Status};
pub use run::run;

/// Name of the environment variable that names the folder of the whole suite.
pub const VARIABLE: &str = "ONNX_SUITE";

/// The folder of the whole suite, where it is there: what [`VARIABLE`] names, or `testsuite/onnx-suite`.
pub fn folder() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx-suite"));
    folder.join("node").is_dir().then_some(folder)
}

/// The folder of the cases that are part of the repository.
pub fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/onnx-suite")
}

/// The file of recorded statuses.
pub fn record_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx-suite.tsv")
}

/// The page of the book with the table per operator.
pub fn page_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/onnx-conformance.md")
}

/// Runs cases on all cores.
pub fn run_all(cases: &[Case]) -> BTreeMap<String, Record> {
    cases.par_iter().map(|case| (case.label(), run(case))).collect()
}
