//! What one file does: read, verified, evaluated and quantized, with panics caught.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use fhe_compiler::compile::{Job, Outcome, compile_with};
use fhe_compiler::{data, onnx};
use fhe_ir::{Graph, eval, text, verify};
use fhe_passes::manager::PipelineError;
use fhe_passes::{Flow, Options, Pass, pipeline};
use miette::Diagnostic;
use ndarray::ArrayD;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Read; how far it went: `read`, `evaluated`, `quantized`, or the code of the pass that refuses it.
    Accepted(String),
    /// The code of the reader's error.
    Refused(String),
    /// A defect of the program, and where.
    Defect(String),
}

/// Most products of elements that the evaluator is given: operands' elements times result's, over all values.
const MAX_WORK: u128 = 1 << 24;
/// Likewise for calibration and the passes.
const MAX_WORK_OF_PASSES: u128 = 1 << 18;
/// Most elements in all values for them: calibration keeps a histogram per channel.
const MAX_ELEMENTS_OF_PASSES: usize = 1 << 13;
/// Rows that calibrate.
const ROWS: usize = 16;

/// Shows the bytes to the reader, and what it takes to the rest.
pub fn check(bytes: &[u8]) -> Verdict {
    caught(|| shown(bytes))
}

/// What `f` says; a panic in it is a defect and prints nothing.
pub fn caught(f: impl FnOnce() -> Verdict) -> Verdict {
    hush();
    QUIET.set(true);
    let verdict = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    verdict.unwrap_or_else(|payload| Verdict::Defect(format!("panic: {}", message(payload.as_ref()))))
}

fn shown(bytes: &[u8]) -> Verdict {
    let graph = match onnx::read_bytes("mutant", bytes, &onnx::ReadOptions::default()) {
        Ok(graph) => graph,
        Err(error) => {
            let code = error.code().map_or_else(String::new, |c| c.to_string());
            // Every message can be written and says something.
            let empty = error.to_string().is_empty() || code.is_empty();
            return if empty {
                Verdict::Defect(format!("an error without words: {error:?}"))
            } else {
                Verdict::Refused(code)
            };
        }
    };
    if let Err(error) = verify::verify(&graph) {
        return Verdict::Defect(format!("what the reader gives does not verify: {error}"));
    }
    let work = work(&graph);
    if work > MAX_WORK {
        return Verdict::Accepted("read".into());
    }
    let shapes: Vec<_> = graph.inputs().iter().map(|i| graph.value(*i).shape.clone()).collect();
    for number in [0.0, 1.0] {
        let rows: Vec<_> = shapes.iter().map(|s| ArrayD::from_elem(s.clone(), number)).collect();
        let outputs = eval::float(&graph, &rows);
        if outputs.len() != graph.outputs.len() {
            return Verdict::Defect(format!("{} of {} outputs", outputs.len(), graph.outputs.len()));
        }
    }
    let elements = graph.values.iter().map(fhe_ir::Value::elements).sum::<usize>();
    if work > MAX_WORK_OF_PASSES || elements > MAX_ELEMENTS_OF_PASSES {
        return Verdict::Accepted("evaluated".into());
    }
    let printed = text::print(&graph);
    match text::parse(&printed.text, &printed.sidecar) {
        Ok(again) if again == graph => {}
        Ok(_) => return Verdict::Defect("its listing parses to another graph".into()),
        Err(error) => return Verdict::Defect(format!("its listing does not parse: {error}")),
    }
    passes(graph, &shapes)
}

/// Everything up to tables: parameters are chosen from few numbers, and choosing takes its time.
fn passes(graph: Graph, shapes: &[Vec<usize>]) -> Verdict {
    let last = pipeline::DEFAULT.iter().position(|p| p.name() == "select-params").unwrap_or(pipeline::DEFAULT.len());
    let passes: Vec<&dyn Pass> = pipeline::DEFAULT[..last].to_vec();
    let calibration: Vec<_> = shapes.iter().map(|s| data::synthetic_rows(s, ROWS, None, 0)).collect();
    let options = Options::default();
    let job = Job {
        model: graph,
        options: &options,
        calibration: &calibration,
        evaluate: &[],
        labels: None,
        budget: None,
        boxes: None,
        assumed: vec![],
    };
    match compile_with(job, &passes, None, |_| Flow::Continue) {
        Ok(Outcome::Circuit(_) | Outcome::Stopped(_)) => Verdict::Accepted("quantized".into()),
        Err(error @ (PipelineError::Broken { .. } | PipelineError::WrongPhase { .. })) => {
            Verdict::Defect(error.to_string())
        }
        Err(error) => Verdict::Accepted(error.code().map_or_else(String::new, |c| c.to_string())),
    }
}

/// An upper bound on the products of an evaluation that needs no knowledge of the ops.
fn work(graph: &Graph) -> u128 {
    let of = |id| graph.value(id).elements() as u128;
    graph.values.iter().map(|v| v.elements() as u128 * v.op.operands().into_iter().map(of).sum::<u128>().max(1)).sum()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of a thread in [`check`] print nothing, and leave their place.
fn hush() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if QUIET.get() {
                PLACE.set(info.location().map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line())));
            } else {
                before(info);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    format!("{} at {}", text.unwrap_or("?"), PLACE.take())
}
