//! Failures of the command lines: what is shown, and the exit code.
//!
//! 0 done, 1 the model or the data cannot be compiled, 2 command line, 3 a defect of this program. A closed pipe is 0.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fhe_ir::text::listing;
use fhe_passes::{PassError, PipelineError};
use miette::{Diagnostic, Report};

use crate::data::DataError;
use crate::onnx::OnnxError;

/// Anything that ends a command.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Failure {
    /// The model cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Onnx(#[from] OnnxError),
    /// Data cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// The pipeline stopped.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pipeline(#[from] PipelineError),
    /// A listing cannot be parsed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Parse(#[from] fhe_ir::text::ParseError),
    /// A listing that is not a sound graph.
    #[error("{path} is not a sound graph: {error}")]
    #[diagnostic(code("cli::broken-listing"), help("put the listing right; the rules are in the book, page ir"))]
    BrokenListing {
        /// The file.
        path: PathBuf,
        /// The rule it breaks.
        error: fhe_ir::verify::VerifyError,
    },
    /// A circuit file cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] fhe_ir::artifact::ArtifactError),
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    #[diagnostic(code("cli::unreadable"), help("check the path and its permissions"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written")]
    #[diagnostic(code("cli::unwritable"), help("check that the folder exists and may be written"))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that holds no machine's costs.
    #[error("{path} is no cost model: {error}")]
    #[diagnostic(
        code("cli::cost-model"),
        help("measure this machine with fhe-run calibrate -o FILE.json, or name a built-in one: {names}")
    )]
    BadCostModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: fhe_ir::cost::BadCostFile,
        /// Machines that are built in.
        names: String,
    },
    /// Nothing in a circuit has the name that was asked for.
    #[error("nothing in the circuit is called {asked:?}")]
    #[diagnostic(
        code("cli::unknown-node"),
        help("close to it: {near}; all names: fhe-compile inspect FILE.fhe --format ir")
    )]
    UnknownNode {
        /// What was asked for.
        asked: String,
        /// Names close to it.
        near: String,
    },
    /// An option's value makes no sense.
    #[error("{option}: {message}")]
    #[diagnostic(code("cli::usage"), help("see --help"))]
    Usage {
        /// The option.
        option: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl Failure {
    /// A file that cannot be read.
    pub fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Self::Unreadable { path: path.into(), source }
    }

    /// A file that cannot be written.
    pub fn unwritable(path: &Path, source: std::io::Error) -> Self {
        Self::Unwritable { path: path.into(), source }
    }

    /// A value of an option that makes no sense.
    pub fn usage(option: &'static str, message: impl Into<String>) -> Self {
        Self::Usage { option, message: message.into() }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::Pipeline(PipelineError::WrongPhase { .. }) => 2,
            Self::Pipeline(PipelineError::Broken { .. }) => 3,
            _ => 1,
        }
    }

    /// The lines of the listing around the value an error is about, with carets under it.
    fn listing(&self) -> Option<String> {
        let place = match self {
            Self::Pipeline(PipelineError::Pass(error)) => PassError::place(error)?,
            _ => return None,
        };
        let (text, range) = listing::neighbourhood(&place.graph, place.value);
        let line_start = text[..range.start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[range.start..].find('\n').map_or(text.len(), |i| range.start + i);
        let indent = text[line_start..range.start].chars().count();
        let carets = text[range.clone()].chars().take_while(|c| *c != '\n').count().max(1);
        let (head, tail) = (&text[..line_end], &text[line_end..]);
        Some(format!("{head}\n{}{}{tail}", " ".repeat(indent), "^".repeat(carets)))
    }
}

/// How the standard library begins the message when stdout cannot be written.
const STDOUT: &str = "failed printing to stdout";

/// Runs a command; shows its failure on stderr and turns it into the exit code. A panic is a defect: code 3.
pub fn run(command: impl FnOnce() -> Result<(), Failure> + std::panic::UnwindSafe) -> ExitCode {
    // `print!` panics when stdout cannot be written: that is no defect, and needs no backtrace.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.starts_with(STDOUT)) {
            report(info);
        }
    }));
    match std::panic::catch_unwind(command) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            let (code, listing) = (failure.exit_code(), failure.listing());
            eprintln!("{:?}", Report::new(failure));
            if let Some(listing) = listing {
                eprintln!("{}", listing.trim_end().lines().map(|l| format!("    {l}\n")).collect::<String>());
            }
            ExitCode::from(code)
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            if text.is_some_and(|t| t.contains("Broken pipe")) {
                return ExitCode::SUCCESS;
            }
            if let Some(reason) = text.and_then(|t| t.strip_prefix(STDOUT)) {
                eprintln!("error: stdout cannot be written{reason}");
                return ExitCode::from(1);
            }
            eprintln!("error: this is a defect of the program, please report it with the command and the model");
            ExitCode::from(3)
        }
    }
}
