//! Whether a graph has an integer circuit: the passes in front of the choice of parameters.

use fhe_ir::{Graph, Phase};
use fhe_passes::manager::{Flow, run_pipeline};
use fhe_passes::{Options, PassCx, pipeline};
use ndarray::ArrayD;

/// Elements of all values for one row, above which a case is not compiled.
const MOST_ELEMENTS: usize = 1 << 16;

/// Runs the default passes up to tables, calibrated on `rows`. The error says in one phrase what stops them.
pub fn compile(graph: Graph, rows: &[ArrayD<f32>]) -> Result<(), String> {
    let elements: usize = graph.values.iter().map(|v| v.elements()).sum();
    if elements > MOST_ELEMENTS {
        return Err(format!("not compiled: it has more than {MOST_ELEMENTS} elements"));
    }
    let options = Options::default();
    let mut cx = PassCx::new(&options, rows);
    let passes: Vec<_> = pipeline::DEFAULT.iter().copied().take_while(|p| p.name() != "select-params").collect();
    let (graph, _) = run_pipeline(graph, &passes, &mut cx, |_| Flow::Continue).map_err(|e| e.to_string())?;
    if graph.phase == Phase::Tabled { Ok(()) } else { Err(format!("the passes end in phase {}", graph.phase)) }
}
