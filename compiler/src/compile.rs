//! A compilation: a float graph, data and options in; an artifact with its report out.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;

use fhe_ir::Graph;
use fhe_ir::artifact::Artifact;
use fhe_ir::client::ClientError;
use fhe_ir::stats::Statistics;
use fhe_passes::budget::boxes::{self, Boxes};
use fhe_passes::budget::{self, Budget, Variants};
use fhe_passes::calibrate::Calibrate;
use fhe_passes::manager::{Event, Flow, PassReport, PipelineError, run_pipeline};
use fhe_passes::round_accumulators::RoundAccumulators;
use fhe_passes::{Options, Pass, PassCx, PassError, Remark, pipeline};
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
    /// Accuracy that noise may cost on the rows above, or on the calibration rows where there are none: parameters and
    /// domains are then searched for, in place of the error target of the options.
    pub budget: Option<f64>,
    /// Bits that tables may tell apart: without a budget, the cheapest of these that are accurate enough on the same rows
    /// are searched for. The options name the method and the most bits.
    pub boxes: Option<RangeInclusive<u32>>,
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
    /// Predicted nanoseconds for one row on one thread of the machine that the options name.
    pub predicted_single_thread_ns: f64,
    /// Predicted nanoseconds for one row on all threads of that machine.
    pub predicted_row_ns: f64,
    /// Accuracy on the evaluation rows.
    pub accuracy: Option<Accuracy>,
    /// What the accuracy budget led to.
    pub budget: Option<Budget>,
    /// What boxes were chosen where that was left open.
    pub boxes: Option<Boxes>,
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

/// Compiles with the given passes; `rewrites` limits rewrites (`--bisect-limit`).
pub fn compile_with(
    job: Job<'_>,
    passes: &[&dyn Pass],
    rewrites: Option<u64>,
    mut observe: impl FnMut(Event<'_>) -> Flow,
) -> Result<Outcome, PipelineError> {
    let Job { model, options, calibration, evaluate, labels, budget, boxes, assumed } = job;
    let searched: Options;
    let mut cx = PassCx::new(options, calibration);
    cx.budget = rewrites;
    let decided = passes.iter().position(|pass| pass.name() == RoundAccumulators.name());
    let split = if budget.is_some() || boxes.is_some() { decided.unwrap_or(passes.len()) } else { passes.len() };
    let stopped = Cell::new(false);
    let mut observe = |event: Event<'_>| {
        let flow = observe(event);
        stopped.set(stopped.get() || flow == Flow::Stop);
        flow
    };
    // Where ranges are chosen, for the budget may ask for other domains and narrower weights.
    let choosing = passes[..split].iter().position(|pass| pass.name() == Calibrate.name()).unwrap_or(split);
    let (float, mut reports) = run_pipeline(model.clone(), &passes[..choosing], &mut cx, &mut observe)?;
    let (front, remarks) = (reports.len(), cx.remarks.len());
    let choosing = if stopped.get() { &[] } else { &passes[choosing..split] };
    let (mut graph, more) = run_pipeline(float.clone(), choosing, &mut cx, &mut observe)?;
    reports.extend(more);
    let (mut found, mut chosen) = (None, None);
    if split < passes.len() && !stopped.get() {
        // Ranges take longest to choose, and depend on the noise alone.
        let of_ranges = |options: &Options| (options.domain_noise, options.noise_bias);
        type Known = ((Option<f64>, bool), Graph);
        let calibrated: RefCell<Option<Known>> = RefCell::new(None);
        let build = |options: &Options| {
            let mut cx = PassCx::new(options, calibration);
            let (calibrate, quantize) = choosing.split_at(choosing.len().min(1));
            let known = calibrated.borrow().clone().filter(|(known, _)| *known == of_ranges(options));
            let graph = match known {
                Some((_, graph)) => graph,
                None => run_pipeline(float.clone(), calibrate, &mut cx, |_| Flow::Continue)?.0,
            };
            calibrated.replace(Some((of_ranges(options), graph.clone())));
            Ok(run_pipeline(graph, quantize, &mut cx, |_| Flow::Continue)?.0)
        };
        let inputs = if evaluate.is_empty() { calibration } else { evaluate };
        let classes;
        let reference = match labels {
            Some(labels) => labels,
            None => {
                classes = accuracy::float(&model, inputs).map_err(bad_rows)?;
                &classes
            }
        };
        let rows = budget::Data { inputs, reference };
        let mut trials = |trial| {
            observe(Event::Trial(trial));
        };
        if let Some(budget) = budget {
            let (domains, weights) = (!calibration.is_empty(), cx.notes.weights_chosen);
            let variants = Variants { build: &build, domains, weights };
            let (within, budget) = budget::search(&graph, &variants, options, budget, &rows, &mut trials)?;
            searched = within;
            cx.notes.sensitivities = budget.sensitivities.clone();
            found = Some(budget);
        } else {
            let (with_boxes, found) =
                boxes::search(&graph, options, boxes.unwrap_or(boxes::WIDTHS), &rows, &mut trials)?;
            searched = with_boxes;
            chosen = Some(found);
        }
        cx.options = &searched;
        if (searched.bits, of_ranges(&searched)) != (options.bits, of_ranges(options)) {
            reports.truncate(front);
            cx.remarks.truncate(remarks);
            let (variant, more) = run_pipeline(float, choosing, &mut cx, &mut observe)?;
            graph = variant;
            reports.extend(more);
        }
        let (after, more) = run_pipeline(graph, &passes[split..], &mut cx, observe)?;
        graph = after;
        reports.extend(more);
    }
    if graph.phase != fhe_ir::Phase::Circuit {
        return Ok(Outcome::Stopped(Box::new(graph)));
    }
    let options = cx.options;
    let accuracy = (!evaluate.is_empty())
        .then(|| accuracy::measure(&model, &graph, evaluate, labels, options.seed))
        .transpose()
        .map_err(bad_rows)?;
    let report = Report {
        compiler: env!("CARGO_PKG_VERSION"),
        options: options.clone(),
        assumed,
        statistics: Statistics::of(&graph),
        predicted_single_thread_ns: predict(options, &graph, 1),
        predicted_row_ns: predict(options, &graph, options.machine.threads),
        accuracy,
        budget: found,
        boxes: chosen,
        passes: reports,
        remarks: cx.remarks,
    };
    let json = serde_json::to_value(&report).expect("reports have string keys and finite numbers or null");
    Ok(Outcome::Circuit(Box::new(Compiled { artifact: Artifact { circuit: graph, report: json }, report })))
}

fn bad_rows(source: ClientError) -> PipelineError {
    PassError::BadCalibration { source }.into()
}

/// Predicted nanoseconds for one row on some threads of the machine that the options name.
pub fn predict(options: &Options, graph: &Graph, threads: u32) -> f64 {
    options.machine.cost.latency(graph, 1, threads).total_ns()
}
