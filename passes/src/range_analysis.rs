//! range-analysis: proves an interval for every accumulator from the actual integer weights.
//!
//! Zero weights add nothing and signs count, so pruned and centred layers are narrower than their widths suggest.
//! Later phases run it again after tables have narrowed the operands.

use fhe_ir::{Elem, Graph, Op, Phase, Rebuild, Value, image, ranges};

use crate::pass::{Pass, PassCx, PassError, Place};

/// See the module.
pub struct RangeAnalysis;

impl Pass for RangeAnalysis {
    fn name(&self) -> &'static str {
        "range-analysis"
    }

    fn summary(&self) -> &'static str {
        "prove an interval for every accumulator from the integer weights"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Quantized, Phase::Tabled)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut new = Rebuild::new(&graph);
        for (id, old) in graph.iter() {
            let value = Value { op: new.remap(&old.op), ..old.clone() };
            let value = with_proven_range(&new.new, value)
                .map_err(|reason| PassError::AccumulatorTooWide { place: Place::new(&graph, id), reason })?;
            let narrower = match (old.interval(), value.interval()) {
                (None, Some(_)) => Some("intervals proven"),
                (Some(a), Some(b)) if a.width() > b.width() => Some("intervals narrowed"),
                _ => None,
            };
            if let Some(counter) = narrower {
                cx.count(counter, 1);
            }
            new.replace(id, value);
        }
        let phase = graph.phase.max(Phase::Ranged);
        Ok(new.finish(phase))
    }
}

/// The value with the type and the per-channel range that interval arithmetic proves; its operands are in `graph`.
///
/// Inputs keep the type they state, and maps the part of it that their chain can reach. The error is one phrase with
/// numbers.
pub fn with_proven_range(graph: &Graph, mut value: Value) -> Result<Value, String> {
    if let Some(proven) = ranges::infer(graph, &value.op, &value.shape)? {
        value.elem = Elem::Int(ranges::hull(&proven).expect("verified: axes are not empty"));
        let uniform = proven.windows(2).all(|w| w[0] == w[1]);
        value.facts.range = (!uniform).then_some(proven);
    } else if !matches!(value.op, Op::Input { .. }) {
        value.facts.range = None;
        if let Some(reachable) = image::reachable(graph, &value) {
            value.elem = Elem::Int(reachable);
        }
    }
    Ok(value)
}
