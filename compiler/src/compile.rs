//! A compilation: a float graph, data and options in; an artifact with its report out.

use fhe_ir::artifact::Artifact;
use fhe_ir::stats::Statistics;
use fhe_ir::{Graph, Op, client, eval};
use fhe_passes::manager::{Event, Flow, PassReport, PipelineError, run_pipeline};
use fhe_passes::select_params::COST_MODEL;
use fhe_passes::{Options, PassCx, Remark, pipeline};
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

/// What a compilation works on.
pub struct Job<'a> {
    /// The network, in phase `float`.
    pub model: Graph,
    /// The user's choices.
    pub options: &'a Options,
    /// Calibration rows per input.
    pub calibration: &'a [ArrayD<f32>],
    /// Rows per input to measure accuracy on.
    pub evaluate: &'a [ArrayD<f32>],
    /// Class of each of these rows.
    pub labels: Option<&'a [usize]>,
    /// What the user did not say and was chosen for them.
    pub assumed: Vec<String>,
}

/// Fractions of rows on one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Number of rows.
    pub rows: usize,
    /// Whether the fractions are against labels; otherwise they are agreement with the float model.
    pub labelled: bool,
    /// The float model.
    pub float: f64,
    /// The integer circuit without noise.
    pub integer: f64,
    /// The circuit with sampled noise; an integer network without parameters has none.
    pub simulated: Option<f64>,
    /// Rows whose class the noise changes.
    pub changed_by_noise: Option<f64>,
    /// Tables read outside their domain, as a fraction of all readings of the integer circuit.
    pub saturated: f64,
}

/// What a compilation has to say: the `report` of the artifact.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this program.
    pub compiler: &'static str,
    /// Choices.
    pub options: Options,
    /// What was chosen for the user.
    pub assumed: Vec<String>,
    /// Counts, sizes, noise.
    pub statistics: Statistics,
    /// Predicted nanoseconds for one row on one thread.
    pub predicted_single_thread_ns: f64,
    /// Accuracy on the evaluation rows.
    pub accuracy: Option<Accuracy>,
    /// What each pass did.
    pub passes: Vec<PassReport>,
    /// What passes had to say.
    pub remarks: Vec<Remark>,
}

/// Result of [`compile`].
pub struct Compiled {
    /// The circuit file.
    pub artifact: Artifact,
    /// Its report.
    pub report: Report,
}

/// What a pipeline that was stopped early gives.
pub enum Outcome {
    /// All passes ran.
    Circuit(Box<Compiled>),
    /// `--stop-after`, or a pipeline that ends before the circuit: the graph so far, and its accuracy once it is one of
    /// integers and rows are given.
    Stopped(Box<Graph>, Option<Accuracy>),
}

/// Compiles with the default pipeline.
pub fn compile(job: Job<'_>, observe: impl FnMut(Event<'_>) -> Flow) -> Result<Outcome, PipelineError> {
    compile_with(job, pipeline::DEFAULT, None, observe)
}

/// Compiles with the given passes; `budget` limits rewrites (`--bisect-limit`).
pub fn compile_with(
    job: Job<'_>,
    passes: &[&dyn fhe_passes::Pass],
    budget: Option<u64>,
    observe: impl FnMut(Event<'_>) -> Flow,
) -> Result<Outcome, PipelineError> {
    let Job { model, options, calibration, evaluate, labels, assumed } = job;
    let mut cx = PassCx::new(options, calibration);
    cx.budget = budget;
    let (graph, passes) = run_pipeline(model.clone(), passes, &mut cx, observe)?;
    let accuracy = (!evaluate.is_empty() && !graph.phase.is_real())
        .then(|| measure(&model, &graph, evaluate, labels, options.seed))
        .transpose()
        .map_err(|source| fhe_passes::PassError::BadCalibration { source })?;
    if graph.phase != fhe_ir::Phase::Circuit {
        return Ok(Outcome::Stopped(Box::new(graph), accuracy));
    }
    let report = Report {
        compiler: env!("CARGO_PKG_VERSION"),
        options: options.clone(),
        assumed,
        statistics: Statistics::of(&graph),
        predicted_single_thread_ns: predicted_ns(&graph),
        accuracy,
        passes,
        remarks: cx.remarks,
    };
    let json = serde_json::to_value(&report).expect("reports have string keys and finite numbers or null");
    Ok(Outcome::Circuit(Box::new(Compiled { artifact: Artifact { circuit: graph, report: json }, report })))
}

/// Predicted nanoseconds for one row on one thread, in the built-in cost model.
pub fn predicted_ns(graph: &Graph) -> f64 {
    let (cost, stats) = (COST_MODEL, Statistics::of(graph));
    graph.params.first().map_or(0.0, |p| {
        stats.total.bootstraps as f64 * cost.pbs_ns(p)
            + stats.total.keyswitches as f64 * cost.ks_ns(p)
            + stats.total.clear_products as f64 * cost.linear_ns(p)
    })
}

/// Accuracy of a model and its integer network or circuit on rows, against labels or against the float model.
///
/// # Panics
/// When the network is not one of integers.
pub fn measure(
    model: &Graph,
    network: &Graph,
    rows: &[ArrayD<f32>],
    labels: Option<&[usize]>,
    seed: u64,
) -> Result<Accuracy, client::ClientError> {
    let checked = client::check_inputs(model, rows)?;
    let ints: Vec<_> =
        rows.iter().enumerate().map(|(i, x)| client::quantize_rows(network, i, x)).collect::<Result<_, _>>()?;
    let scores = |graph: &Graph, y: &ArrayD<f32>| client::classes(&client::scores(&graph.outputs[0].post, y));
    let float = scores(model, &eval::float(model, &checked)[0]);
    let exact = eval::integer(network, &ints);
    let classes = |e: &eval::Evaluation| scores(network, &client::dequantize(network, 0, &e.outputs[0]));
    let integer = classes(&exact);
    let simulated = (network.phase == fhe_ir::Phase::Circuit).then(|| classes(&eval::simulate(network, &ints, seed)));
    let reference = labels.unwrap_or(&float);
    let agree =
        |a: &[usize], b: &[usize]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64;
    let reads = |v: &&fhe_ir::Value| matches!(v.op, Op::Pbs { .. } | Op::Lut { .. } | Op::Map { .. });
    let readings: usize = network.values.iter().filter(reads).map(|v| v.elements()).sum::<usize>() * float.len();
    Ok(Accuracy {
        rows: float.len(),
        labelled: labels.is_some(),
        float: agree(&float, reference),
        integer: agree(&integer, reference),
        simulated: simulated.as_ref().map(|s| agree(s, reference)),
        changed_by_noise: simulated.as_ref().map(|s| 1.0 - agree(&integer, s)),
        saturated: exact.saturated.iter().sum::<u64>() as f64 / readings.max(1) as f64,
    })
}
