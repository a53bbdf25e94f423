//! What can be wrong with a comparison of contracts, each error with its place and what to do.

use std::path::PathBuf;

use fhe_compiler::failure::Failure;
use fhe_passes::PipelineError;

/// A comparison that cannot be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BudgetsError {
    /// The folder of models and tables.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Folder(#[from] crate::data::DataError),
    /// Models, rows or the compilation.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Failure(Box<Failure>),
    /// A table of Concrete's parameters cannot be read.
    #[error("{path} cannot be read")]
    #[diagnostic(
        code("budgets::no-oracle"),
        help(
            "the folder that FHE_DATA names has to hold oracle/ beside data/; what the tables hold: testsuite/oracle/SOURCE.md"
        )
    )]
    NoOracle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A table is another one, lacks what is looked for, or contradicts the other.
    #[error("{path}: {reason}")]
    #[diagnostic(
        code("budgets::bad-oracle"),
        help("the file is damaged or another one: what the tables hold: testsuite/oracle/SOURCE.md")
    )]
    BadOracle {
        /// The file.
        path: PathBuf,
        /// What does not fit, with its line.
        reason: String,
    },
    /// A network has no circuit to compare with.
    #[error("{network}: {reason}")]
    #[diagnostic(code("budgets::nothing-to-compare"), help("ask for fewer bits with --n-bits"))]
    NothingToCompare {
        /// The network.
        network: &'static str,
        /// What is missing.
        reason: String,
    },
}

impl From<Failure> for BudgetsError {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl From<PipelineError> for BudgetsError {
    fn from(error: PipelineError) -> Self {
        Failure::from(error).into()
    }
}
