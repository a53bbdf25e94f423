//! Writes MNIST, CIFAR-10 and ImageNet samples as the arrays that the models take, and unpacks models.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fhe_testsuite::data::{self, DataError, Set};
use miette::Diagnostic;

/// Write MNIST, CIFAR-10 and ImageNet samples as .npy arrays, normalised as the models were trained; unpack models.
///
/// The environment variable FHE_DATA names a folder with data/mnist/ (the four IDX files, packed), data/cifar10/
/// (test_first1000.bin, train_first2000.bin, test_batch.bin.gz), data/imagenet-sample-1000/ (jpg256/CLASS_*.jpg of
/// 256×256 pixels, exact_u8_50x224x224x3.npy, exact_labels_50.npy) and models as data/*/*.onnx.gz.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder to write to.
    #[arg(long, value_name = "DIR", default_value = "target/data")]
    out: PathBuf,
    /// Write these only; imagenet takes 1.5 GB.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SET")]
    only: Vec<Set>,
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
    let sets = if arguments.only.is_empty() { &Set::ALL[..] } else { &arguments.only };
    data::prepare(&folder, &arguments.out, sets, |written| {
        // A reader of the list that went away does not stop the work.
        let _ = writeln!(std::io::stdout(), "{} {:?}", written.path.display(), written.shape);
    })
}
