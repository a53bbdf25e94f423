//! What an accuracy budget saves: its circuit against box circuits at an error probability, and against Concrete's
//! parameters, on networks of the field and in one cost model.

mod error;
mod networks;
mod oracle;
mod price;
mod table;

use fhe_compiler::accuracy;
use fhe_compiler::compile::{Compiled, Job, Outcome, compile};
use fhe_compiler::failure::Failure;
use fhe_ir::Graph;
use fhe_ir::stats::Statistics;
use fhe_passes::manager::{Event, PipelineError, Tried};
use fhe_passes::params::ErrorTarget;
use fhe_passes::{Bits, Flow, Options, PassError, Rounding};
use serde::Serialize;

pub use error::BudgetsError;
pub use networks::{INT8, Loaded, NETWORKS, Network};
pub use oracle::{Circuit, nearest, read as read_oracle};
pub use price::{Work, log2_norm};
pub use table::{Means, geometric_mean, json, print};

/// Probability that a table of a box circuit is read wrong.
pub const P_ERROR: f64 = 0.008;

/// Bits that tables of box circuits read.
const BOX_BITS: std::ops::RangeInclusive<u32> = 3..=8;

/// A circuit of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was asked for.
    pub contract: String,
    /// Bits of the weights.
    pub op_weights: u32,
    /// Accuracy of the float model.
    pub float: Option<f64>,
    /// Accuracy of the circuit without noise.
    pub integer: Option<f64>,
    /// Accuracy of the circuit with sampled noise.
    pub simulated: Option<f64>,
    /// log2 of the noise in front of tables, where it was searched for.
    pub log2_noise: Option<f64>,
    /// Parameter sets in words.
    pub params: String,
    /// Lookups of one row.
    pub lookups: u64,
    /// Predicted seconds for one row on one core.
    pub seconds: f64,
    /// What a reader of the figures has to know.
    pub remark: String,
}

/// The three circuits of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The network.
    pub network: &'static str,
    /// Rows that accuracy is measured on.
    pub rows: usize,
    /// Under the accuracy budget.
    pub budget: Row,
    /// The cheapest box circuit at [`P_ERROR`] that is as accurate; the most accurate one when none is.
    pub boxes: Row,
    /// The box circuit of 6 bits under Concrete's parameters for its norm of weights.
    pub concrete: Row,
    /// The same under the parameters for a norm of 2^7 at most, which are too noisy where the network's is larger; else
    /// [`Self::concrete`].
    pub concrete_capped: Row,
}

impl Comparison {
    /// Cost of the box circuit over that of the budget's.
    pub fn to_boxes(&self) -> f64 {
        self.boxes.seconds / self.budget.seconds
    }

    /// Cost under Concrete's parameters over that of the budget's circuit.
    pub fn to_concrete(&self) -> f64 {
        self.concrete.seconds / self.budget.seconds
    }

    /// Cost under Concrete's parameters for a norm of 2^7 at most, over that of the budget's circuit.
    pub fn to_concrete_capped(&self) -> f64 {
        self.concrete_capped.seconds / self.budget.seconds
    }
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Question {
    /// Accuracy that noise may cost.
    pub budget: f64,
    /// Bits asked for; machine and seed.
    pub options: Options,
    /// Whether box circuits are tried with the narrower weights that the budget takes, too.
    pub narrower_boxes: bool,
}

/// Compares the circuits of a network; `say` hears what is going on.
///
/// # Errors
/// When a circuit cannot be compiled, or there is none to compare with.
pub fn compare(
    network: &Network,
    loaded: &Loaded,
    question: &Question,
    oracle: &[Circuit],
    say: &dyn Fn(String),
) -> Result<Comparison, BudgetsError> {
    let (budget, taken) = under_budget(network, loaded, question, say)?;
    let mut boxes = vec![];
    let widths = if question.narrower_boxes { taken } else { question.options.bits.op_weights };
    for op_weights in widths..=question.options.bits.op_weights {
        for bits in BOX_BITS {
            match box_circuit(loaded, &question.options, bits, op_weights)? {
                Some(found) => boxes.push(found),
                None => say(format!("{}: {bits} bits have no parameters", network.name)),
            }
        }
    }
    let asked = question.options.bits.op_weights;
    let six = boxes.iter().find(|b| b.bits == oracle::TABLE_BITS && b.op_weights == asked);
    let nothing = |reason: &str| BudgetsError::NothingToCompare { network: network.name, reason: reason.into() };
    let six = six.ok_or_else(|| nothing("a box circuit of 6 bits, which Concrete is priced on, has no parameters"))?;
    let under = |largest_norm| {
        let row = under_concrete(six, oracle, question, largest_norm);
        row.ok_or_else(|| nothing("there are no parameters of Concrete"))
    };
    let (concrete, concrete_capped) = (under(f64::INFINITY)?, under(oracle::LARGEST_ROUNDED_NORM)?);
    for row in [&concrete, &concrete_capped] {
        say(format!("{}: {} ({}) costs {:.2} s", network.name, row.contract, row.remark, row.seconds));
    }
    let wanted = budget.simulated.unwrap_or(0.0);
    let boxes = cheapest(network, loaded, question, boxes, wanted, say)?;
    let boxes = boxes.ok_or_else(|| nothing("no box circuit has parameters"))?;
    Ok(Comparison { network: network.name, rows: loaded.labels.len(), budget, boxes, concrete, concrete_capped })
}

/// The circuit under the budget, and the bits of its weights.
fn under_budget(
    network: &Network,
    loaded: &Loaded,
    question: &Question,
    say: &dyn Fn(String),
) -> Result<(Row, u32), BudgetsError> {
    let options = Options { rounding: Rounding::Full, ..question.options.clone() };
    let job = Job {
        model: loaded.model.clone(),
        options: &options,
        calibration: &loaded.calibration,
        evaluate: &loaded.evaluate,
        labels: Some(&loaded.labels),
        budget: Some(question.budget),
        boxes: None,
        assumed: vec![],
    };
    let compiled = circuit_of(compile(job, |event| {
        if let Event::Trial(trial) = event
            && let Tried::Noise { log2_noise, domain_margin, op_weights, output_weights } = trial.tried
        {
            let verdict = if trial.within { "within the budget" } else { "loses too much" };
            let seconds = trial.cost_ns * 1e-9;
            say(format!(
                "{}: noise 2^{log2_noise}, domains {domain_margin:+.2}, weights of {op_weights} bits \
                 and {output_weights} at outputs, {seconds:.2} s: \
                 {verdict}",
                network.name
            ));
        }
        Flow::Continue
    })?);
    let (report, found) = (&compiled.report, compiled.report.budget.as_ref());
    let accuracy = report.accuracy.as_ref();
    let op_weights = found.map_or(options.bits.op_weights, |f| f.op_weights.unwrap_or(options.bits.op_weights));
    let points = |fraction: f64| format!("{:.2}", 100.0 * fraction);
    let remark = found.map_or(String::new(), |f| {
        let (loss, most) = (points(f.paired.loss()), points(f.certified));
        format!("noise costs {loss} points, with 95 % confidence at most {most}; domains {:+.2}", f.domain_margin)
    });
    let row = Row {
        contract: format!("budget {}", question.budget),
        op_weights,
        float: accuracy.map(|a| a.float),
        integer: accuracy.map(|a| a.integer),
        simulated: accuracy.map(|a| a.simulated),
        log2_noise: found.map(|f| f.log2_noise),
        params: report.statistics.parameters.join("; "),
        lookups: report.statistics.total.bootstraps,
        seconds: report.predicted_single_thread_ns * 1e-9,
        remark,
    };
    say(format!("{}: {} costs {:.2} s", network.name, row.contract, row.seconds));
    Ok((row, op_weights))
}

/// A box circuit at [`P_ERROR`].
struct BoxCircuit {
    /// Bits that its tables read.
    bits: u32,
    op_weights: u32,
    circuit: Graph,
    statistics: Statistics,
    seconds: f64,
}

/// Compiles a box circuit; `None` when it has no parameters.
fn box_circuit(
    loaded: &Loaded,
    options: &Options,
    bits: u32,
    op_weights: u32,
) -> Result<Option<BoxCircuit>, BudgetsError> {
    let options = Options {
        bits: Bits { op_weights, ..options.bits },
        rounding: Rounding::Approximate(bits),
        error: ErrorTarget::PerTable(P_ERROR),
        ..options.clone()
    };
    let job = Job {
        model: loaded.model.clone(),
        options: &options,
        calibration: &loaded.calibration,
        evaluate: &[],
        labels: None,
        budget: None,
        boxes: None,
        assumed: vec![],
    };
    let outcome = match compile(job, |_| Flow::Continue) {
        Err(PipelineError::Pass(PassError::NoParameters { .. })) => return Ok(None),
        outcome => outcome?,
    };
    let Compiled { artifact, report } = circuit_of(outcome);
    let (statistics, seconds) = (report.statistics, report.predicted_single_thread_ns * 1e-9);
    Ok(Some(BoxCircuit { bits, op_weights, circuit: artifact.circuit, statistics, seconds }))
}

fn circuit_of(outcome: Outcome) -> Compiled {
    match outcome {
        Outcome::Circuit(compiled) => *compiled,
        Outcome::Stopped(_) => unreachable!("the default pipeline ends with the circuit"),
    }
}

/// The cheapest that is as accurate as wanted, else the most accurate.
fn cheapest(
    network: &Network,
    loaded: &Loaded,
    question: &Question,
    mut circuits: Vec<BoxCircuit>,
    wanted: f64,
    say: &dyn Fn(String),
) -> Result<Option<Row>, BudgetsError> {
    circuits.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let mut best: Option<Row> = None;
    for b in circuits {
        let simulated = accuracy::simulated(&b.circuit, &loaded.evaluate, question.options.seed);
        let bad_rows = |source| Failure::from(PipelineError::Pass(PassError::BadCalibration { source }));
        let accuracy = accuracy::agreement(&simulated.map_err(bad_rows)?.classes, &loaded.labels);
        let row = Row { simulated: Some(accuracy), ..b.row() };
        say(format!(
            "{}: {}, weights of {} bits, {:.2} s: simulated {:.2} %",
            network.name,
            row.contract,
            row.op_weights,
            row.seconds,
            100.0 * accuracy
        ));
        if accuracy >= wanted {
            return Ok(Some(row));
        }
        if best.as_ref().is_none_or(|best| best.simulated < row.simulated) {
            best = Some(row);
        }
    }
    let remark = format!("none of {} to {} bits is as accurate: the most accurate", BOX_BITS.start(), BOX_BITS.end());
    Ok(best.map(|row| Row { remark, ..row }))
}

impl BoxCircuit {
    fn row(&self) -> Row {
        Row {
            contract: format!("p-error {P_ERROR}, {} bits", self.bits),
            op_weights: self.op_weights,
            float: None,
            integer: None,
            simulated: None,
            log2_noise: None,
            params: self.statistics.parameters.join("; "),
            lookups: self.statistics.total.bootstraps,
            seconds: self.seconds,
            remark: String::new(),
        }
    }
}

/// The box circuit of 6 bits under the parameters that Concrete takes for such a circuit, whose log2 of the norm counts
/// as `largest_norm` at most.
fn under_concrete(six: &BoxCircuit, oracle: &[Circuit], question: &Question, largest_norm: f64) -> Option<Row> {
    let (norm, bits) = (log2_norm(&six.circuit), six.statistics.total.accumulator_bits.unwrap_or(0.0));
    let concrete = nearest(oracle, bits, norm.min(largest_norm))?;
    let cost = &question.options.machine.cost;
    let ns = Work::of(&six.circuit, cost).price_ns(&concrete.params, cost) * concrete.several;
    let remark = format!(
        "norm 2^{norm:.1}, accumulators of {bits:.1} bits; the row of norm 2^{}, {} bits",
        concrete.log2_norm, concrete.acc_bits
    );
    let contract = format!("Concrete, p-error {P_ERROR}, {} bits", oracle::TABLE_BITS);
    Some(Row { contract, params: concrete.params.to_string(), seconds: ns * 1e-9, remark, ..six.row() })
}
