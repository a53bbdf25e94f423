//! What an accuracy budget saves on networks of the field, against boxes at an error probability and against Concrete's
//! parameters: `cargo run --release -p fhe-testsuite --bin budgets -- --data DIR`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use fhe_compiler::failure::Failure;
use fhe_compiler::{arguments, machine};
use fhe_ir::cost::Machine;
use fhe_passes::budget::DEFAULT_BUDGET;
use fhe_passes::{Bits, Options};
use fhe_testsuite::budgets::{
    BudgetsError, Comparison, INT8, Means, NETWORKS, Network, Question, compare, json, print, read_oracle,
};
use fhe_testsuite::data;
use miette::Report;

/// Compare circuits under an accuracy budget with box circuits at p-error 0.008 and with Concrete's parameters.
///
/// The environment variable FHE_DATA names a folder with data/ (models, see prepare-data) and oracle/
/// (concrete_rounding_oracle.csv and concrete_optimizer_v0_oracle.csv). Costs are predicted for one row on one core of one machine, accuracies are simulated.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder that prepare-data wrote to.
    #[arg(long, value_name = "DIR", default_value = "target/data")]
    data: PathBuf,
    /// Compare these networks only.
    #[arg(long, value_delimiter = ',', value_name = "NETWORK", value_parser = PossibleValuesParser::new(NETWORKS.map(|n| n.name)))]
    only: Vec<String>,
    /// Compare the int8 network, too; it is left out of the means.
    #[arg(long)]
    also_int8: bool,
    /// Simulate so many rows of each network, in place of all for arrhythmia, 2000 for LeNet and 1000 for the others.
    #[arg(long, value_name = "ROWS")]
    rows: Option<NonZeroUsize>,
    /// Accuracy that noise may cost, as a fraction.
    #[arg(long, value_name = "D", default_value_t = DEFAULT_BUDGET, value_parser = arguments::probability)]
    budget: f64,
    /// Bits of inputs, activations and weights, as fhe-compile takes them.
    #[arg(long, value_name = "N", default_value = "op_inputs=6:op_weights=4:model_inputs=6", value_parser = arguments::bits)]
    n_bits: Bits,
    /// Try box circuits with the narrower weights that the budget takes, too.
    #[arg(long)]
    narrower_boxes: bool,
    /// Machine whose time is predicted: a file of fhe-run calibrate, or a built-in name.
    #[arg(long, value_name = "FILE|NAME")]
    cost_model: Option<String>,
    /// Write the figures to a file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{:?}", Report::new(error));
            ExitCode::FAILURE
        }
    }
}

/// Whether every network could be compared.
fn run(arguments: &Arguments) -> Result<bool, BudgetsError> {
    let folder = data::folder()?;
    let oracle = read_oracle(&folder)?;
    let machine = arguments.cost_model.as_deref().map_or_else(|| Ok(Machine::default()), machine::machine)?;
    let options = Options { bits: arguments.n_bits, machine, ..Options::default() };
    let question = Question { budget: arguments.budget, options, narrower_boxes: arguments.narrower_boxes };
    let one = |network: &Network| -> Result<Comparison, BudgetsError> {
        let loaded = network.load(&folder, &arguments.data, arguments.rows)?;
        compare(network, &loaded, &question, &oracle, &|line| eprintln!("{line}"))
    };
    let (mut done, mut failed) = (vec![], false);
    for network in networks(arguments) {
        match one(&network) {
            Ok(comparison) => done.push(comparison),
            Err(error) => {
                eprintln!("{}: {:?}", network.name, Report::new(error));
                failed = true;
            }
        }
    }
    let means = Means::of(done.iter().filter(|c| c.network != INT8));
    print!("{}", print(&done, means));
    if let Some(path) = &arguments.json {
        write(path, &json(&done, means))?;
    }
    Ok(!failed)
}

fn networks(arguments: &Arguments) -> Vec<Network> {
    if arguments.only.is_empty() {
        NETWORKS.into_iter().filter(|n| n.name != INT8 || arguments.also_int8).collect()
    } else {
        NETWORKS.into_iter().filter(|n| arguments.only.iter().any(|name| name == n.name)).collect()
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::unwritable(path, e))
}
