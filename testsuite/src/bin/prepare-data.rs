//! Writes MNIST and CIFAR-10 as the arrays that the models take.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fhe_testsuite::data::{self, DataError};
use miette::Diagnostic;

/// Write MNIST and CIFAR-10 as .npy arrays, normalised as the models were trained.
///
/// The environment variable FHE_DATA names a folder with data/mnist/ (the four IDX files, packed) and data/cifar10/
/// (test_first1000.bin, train_first2000.bin, test_batch.bin.gz).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder to write to.
    #[arg(long, value_name = "DIR", default_value = "target/data")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let (Some(help), Some(code)) = (error.help(), error.code()) {
                eprintln!("  help: {help} ({code})");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), DataError> {
    let folder = data::folder()?;
    data::prepare(&folder, &arguments.out, |written| {
        // A reader of the list that went away does not stop the work.
        let _ = writeln!(std::io::stdout(), "{} {:?}", written.path.display(), written.shape);
    })
}
