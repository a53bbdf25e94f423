//! Runs the ONNX backend test suite and writes its status file and its page of the book.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fhe_testsuite::conformance::{self, Record, record, run_all, table};

/// Run the ONNX backend test suite; write testsuite/onnx-suite.tsv and docs/src/onnx-conformance.md.
///
/// `testsuite/fetch-onnx-suite` fetches the suite. The environment variable ONNX_SUITE names another folder for it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder of the suite, with node/, pytorch-converted/, pytorch-operator/ and simple/.
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
    /// Print the records of cases or operators that contain this text, and write nothing.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let folder = arguments.suite.clone().or_else(conformance::folder);
    let folder = folder.ok_or("there is no suite: run testsuite/fetch-onnx-suite, or set ONNX_SUITE")?;
    let mut cases = conformance::cases(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    // A reader of the list that went away does not stop the work.
    let print = |line: String| drop(writeln!(std::io::stdout(), "{line}"));
    if let Some(only) = &arguments.only {
        cases.retain(|c| c.label().contains(only.as_str()));
        run_all(&cases).values().for_each(|r: &Record| print(r.to_string()));
        return Ok(());
    }
    let records = run_all(&cases);
    let list: Vec<Record> = records.values().cloned().collect();
    for (path, text) in
        [(conformance::record_file(), record::print(&list)), (conformance::page_file(), table::page(&records))]
    {
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for line in table::totals(&records) {
        print(line);
    }
    Ok(())
}
