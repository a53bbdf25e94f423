//! Everything that turns a graph into a better or a lower one: passes, their manager, the noise, security and cost
//! models and the parameter search. The crate reads no files, knows no ONNX and executes no ciphertext.

pub mod accuracy;
pub mod budget;
pub mod calibrate;
pub mod canonicalize;
pub mod dedup_tables;
pub mod diff;
pub mod eliminate_dead_neurons;
pub mod fill_domains;
pub mod fold_constants;
pub mod fuse_batchnorm;
mod grids;
mod growth;
mod key_sets;
mod layers;
pub mod lower_circuit;
pub mod lower_max_pool;
pub mod lower_products;
pub mod lut_egraph;
pub mod manager;
pub mod merge_tables;
pub mod options;
pub mod params;
pub mod pass;
mod peephole;
pub mod pipeline;
mod predicted;
pub mod quantize;
pub mod range_analysis;
pub mod recognise_grids;
pub mod regions;
pub mod round_accumulators;
pub mod round_exactly;
pub mod select_params;
pub mod tabulate;
mod terms;
pub mod ways_out;
pub mod why;

/// Whether the integers of a network of phase `float` follow from calibration rows: not when its quantizers and exact
/// weights state them all.
pub fn needs_calibration(model: &fhe_ir::Graph) -> bool {
    unstated(model).is_some()
}

/// The first place of a network of phase `float` whose integers follow from calibration rows, and why, as a phrase; empty
/// for a network that states none at all. `None` when rows are not needed.
pub fn unstated(model: &fhe_ir::Graph) -> Option<String> {
    let options = Options::default();
    let mut cx = PassCx::new(&options, &[]);
    let lowered = pipeline::float_passes().try_fold(model.clone(), |graph, pass| pass.run(graph, &mut cx));
    let Ok(graph) = lowered else { return Some(String::new()) };
    let (id, reason) = grids::unstated(&graph)?;
    Some(if grids::state_anything(&graph) { format!("{}: {reason}", graph.place(id)) } else { String::new() })
}

pub use manager::{Event, Flow, PassReport, PipelineError, Trial, Tried, run_pipeline};
pub use options::{Bits, CalibrationMethod, Options, Ranges, Rounding};
pub use pass::{Notes, Pass, PassCx, PassError, Place, Remark};
pub use terms::Term;
