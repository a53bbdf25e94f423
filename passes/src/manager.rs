//! The manager: runs a pipeline, checks phases, verifies after every pass and reports what each did.

use fhe_ir::verify::{VerifyError, verify};
use fhe_ir::{Elem, Graph, Op, Phase};
use indexmap::IndexMap;
use serde::Serialize;

use crate::pass::{Pass, PassCx, PassError};

/// What one pass did.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// Position in the pipeline, from 1.
    pub number: usize,
    /// Name of the pass.
    pub pass: &'static str,
    /// Values in the graph afterwards.
    pub values: usize,
    /// Maps and tables in the graph afterwards.
    pub luts: usize,
    /// Bits of the widest integer type afterwards.
    pub widest_bits: Option<f64>,
    /// Counters of the pass.
    pub changed: IndexMap<&'static str, u64>,
}

/// Why a pipeline stopped.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PipelineError {
    /// A pass met a phase that it does not take: the pipeline is in the wrong order.
    #[error("pass {pass} takes phases {from} to {to}, the graph is {got}")]
    #[diagnostic(
        code("passes::wrong-phase"),
        help("see the phases with --list-passes and put the pass where it belongs")
    )]
    WrongPhase {
        /// The pass.
        pass: &'static str,
        /// Earliest phase it takes.
        from: Phase,
        /// Latest phase it takes.
        to: Phase,
        /// Phase of the graph.
        got: Phase,
    },
    /// The graph is broken after a pass, or before the first: a defect of this program.
    #[error("the graph is broken after pass {pass}: {error}")]
    #[diagnostic(code("passes::broken-graph"), help("please report it with the output of --dump-dir"))]
    Broken {
        /// The pass.
        pass: &'static str,
        /// What is broken.
        error: VerifyError,
        /// The graph before the pass.
        before: Box<Graph>,
    },
    /// The model or the options cannot be compiled.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pass(#[from] PassError),
}

/// What happens during a pipeline, for dumps, diffs and clocks.
pub enum Event<'a> {
    /// A pass is about to run.
    Before {
        /// Position from 1.
        number: usize,
        /// The pass.
        pass: &'static str,
        /// Its graph.
        graph: &'a Graph,
    },
    /// A pass has run and its graph has been verified.
    After {
        /// The graph before.
        before: &'a Graph,
        /// The graph after.
        after: &'a Graph,
        /// What the pass did.
        report: &'a PassReport,
    },
    /// A search for the cheapest circuit that is accurate enough has simulated one.
    Trial(Trial),
}

/// A circuit that was simulated and judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Number of the simulation, from 1.
    pub simulation: usize,
    /// What was chosen for it.
    pub tried: Tried,
    /// Predicted nanoseconds for one row on one thread.
    pub cost_ns: f64,
    /// Whether it is accurate enough.
    pub within: bool,
}

/// What a search chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tried {
    /// Within an accuracy budget.
    Noise {
        /// log2 of the noise in front of tables, as a standard deviation on the torus.
        log2_noise: f64,
        /// Margin of the domains of tables.
        domain_margin: f64,
        /// Bits of the weights.
        op_weights: u32,
        /// Bits of the weights behind the last tables.
        output_weights: u32,
    },
    /// Under an error probability.
    Boxes {
        /// log2 of the boxes of tables.
        bits: u32,
        /// Tables with fewer.
        coarser: usize,
    },
}

/// What an observer wants after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End the pipeline here (`--stop-after`).
    Stop,
}

/// Runs the passes in order. A pipeline may run in parts, one after another with one context.
pub fn run_pipeline(
    mut graph: Graph,
    pipeline: &[&dyn Pass],
    cx: &mut PassCx<'_>,
    mut observe: impl FnMut(Event<'_>) -> Flow,
) -> Result<(Graph, Vec<PassReport>), PipelineError> {
    verify(&graph).map_err(|error| PipelineError::Broken {
        pass: "(input)",
        error,
        before: Box::new(graph.clone()),
    })?;
    let mut reports = vec![];
    for pass in pipeline {
        let (number, name) = (cx.passes_run + 1, pass.name());
        let (from, to) = pass.takes();
        if graph.phase < from || graph.phase > to {
            return Err(PipelineError::WrongPhase { pass: name, from, to, got: graph.phase });
        }
        if observe(Event::Before { number, pass: name, graph: &graph }) == Flow::Stop {
            break;
        }
        cx.pass = name;
        cx.counters.clear();
        // Tensors are behind `Arc`: the copy is small.
        let before = graph.clone();
        graph = pass.run(graph, cx)?;
        if let Err(error) = verify(&graph) {
            return Err(PipelineError::Broken { pass: name, error, before: Box::new(before) });
        }
        cx.passes_run = number;
        let report = report(number, name, &graph, std::mem::take(&mut cx.counters));
        let flow = observe(Event::After { before: &before, after: &graph, report: &report });
        reports.push(report);
        if flow == Flow::Stop {
            break;
        }
    }
    Ok((graph, reports))
}

fn report(number: usize, pass: &'static str, graph: &Graph, changed: IndexMap<&'static str, u64>) -> PassReport {
    let widest = graph.values.iter().filter_map(|v| match v.elem {
        Elem::Int(i) => Some(i.bits()),
        Elem::F32 | Elem::IntUnknown => None,
    });
    PassReport {
        number,
        pass,
        values: graph.values.len(),
        luts: graph.values.iter().filter(|v| matches!(v.op, Op::Map { .. } | Op::Lut { .. } | Op::Pbs { .. })).count(),
        widest_bits: widest.reduce(f64::max),
        changed,
    }
}
