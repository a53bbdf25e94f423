//! A compilation: a float graph, data and options in; an artifact with its report out.

use fhe_ir::Graph;
use fhe_ir::artifact::Artifact;
use fhe_ir::stats::Statistics;
use fhe_passes::manager::{Event, Flow, PassReport, PipelineError, run_pipeline};
use fhe_passes::select_params::COST_MODEL;
use fhe_passes::{Options, PassCx, Remark, pipeline};
use ndarray::ArrayD;
use serde::Serialize;

use crate::accuracy::{self, Accuracy};

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
    /// `--stop-after`, or a pipeline that ends before the circuit: the graph so far.
    Stopped(Box<Graph>),
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
    if graph.phase != fhe_ir::Phase::Circuit {
        return Ok(Outcome::Stopped(Box::new(graph)));
    }
    let accuracy = (!evaluate.is_empty())
        .then(|| accuracy::measure(&model, &graph, evaluate, labels, options.seed))
        .transpose()
        .map_err(|source| fhe_passes::PassError::BadCalibration { source })?;
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
