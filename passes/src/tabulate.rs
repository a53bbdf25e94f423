//! tabulate: replaces every map by its table, one row per channel, one entry per box.
//!
//! An entry is the map at the middle of its box. Bias, scale, activation, clipping and requantization are in the
//! entries from here on. Types follow the entries, which may be narrower than the map promised.

use std::sync::Arc;

use fhe_ir::eval::map_table;
use fhe_ir::{Facts, Graph, Op, Phase, Rebuild, Value};

use crate::pass::{Pass, PassCx, PassError, Place};
use crate::range_analysis::with_proven_range;

/// See the module.
pub struct Tabulate;

impl Pass for Tabulate {
    fn name(&self) -> &'static str {
        "tabulate"
    }

    fn summary(&self) -> &'static str {
        "replace every map by its lookup table"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Ranged, Phase::Ranged)
    }

    fn gives(&self) -> Option<Phase> {
        Some(Phase::Tabled)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let unresolved = || PassError::BadOptions {
            message: "tables have no resolution yet".into(),
            advice: "run round-accumulators before tabulate".into(),
        };
        if graph.outputs.iter().any(|o| o.read.is_none()) {
            return Err(unresolved());
        }
        let mut new = Rebuild::new(&graph);
        for (id, old) in graph.iter() {
            // Calibrated ranges have done their work: domains stand in the tables from here on.
            let facts = Facts { seen: None, ..old.facts.clone() };
            let mut value = Value { op: new.remap(&old.op), facts, ..old.clone() };
            if let (Op::Map { x: operand, .. }, Op::Map { x, resolution, .. }) = (&old.op, &value.op) {
                let (domain, read) = resolution.clone().ok_or_else(unresolved)?;
                let mut entries = map_table(&graph, old, graph.value(*operand), &domain, read);
                // A row stands for all channels only where their domains are one.
                if domain.lo.len() == 1 && entries.outer_iter().skip(1).all(|row| row == entries.row(0)) {
                    entries = entries.slice_move(ndarray::s![..1, ..]).as_standard_layout().into_owned();
                }
                cx.count("tables", entries.nrows() as u64);
                cx.count("entries", entries.len() as u64);
                let x = *x;
                let table = new.new.push_table(&format!("{}.t", old.name), Arc::new(entries));
                value.op = Op::Lut { x, table, domain, read };
                value.facts = Facts { range: None, ..value.facts };
            }
            let value = with_proven_range(&new.new, value)
                .map_err(|reason| PassError::AccumulatorTooWide { place: Place::new(&graph, id), reason })?;
            new.replace(id, value);
        }
        Ok(new.finish(Phase::Tabled))
    }
}
