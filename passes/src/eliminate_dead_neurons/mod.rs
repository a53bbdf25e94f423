//! `eliminate-dead-neurons`: structured pruning made real.
//!
//! A neuron is an output channel of a layer. One whose weights are all zero is constant: its constant goes through
//! maps, sums and pools into the bias of the layers that read it. One whose columns are all zero in every layer that
//! reads it is unread. Both disappear, with their rows, columns, bias and table inputs. Inputs of the network keep
//! their channels.
//!
//! What must stay is found by two fixpoints: [`constants`] forwards, [`alive`] in both directions (channels of
//! element-wise ops are tied together).

mod alive;
mod constants;
mod cut;

use fhe_ir::{Graph, Phase};

use crate::layers::Layer;
use crate::pass::{Pass, PassCx, PassError};

/// See the module.
pub struct EliminateDeadNeurons;

impl Pass for EliminateDeadNeurons {
    fn name(&self) -> &'static str {
        "eliminate-dead-neurons"
    }

    fn summary(&self) -> &'static str {
        "drops neurons that are constant or that nobody reads"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let constants = constants::propagate(&graph);
        let mut alive = alive::Alive::new(&graph, &constants);
        alive.close();
        // The budget is asked once per neuron; a refusal keeps the neuron, and what it is tied to.
        let mut refused = vec![];
        for (id, _) in graph.iter().filter(|(_, v)| Layer::of(&v.op).is_some_and(|l| l.groups == 1)) {
            for (channel, constant) in constants[id.index()].iter().enumerate() {
                let counter = if constant.is_some() { "constant neurons" } else { "unread neurons" };
                if !alive.get(id, channel) && !cx.rewrite(counter) {
                    refused.push((id, channel));
                }
            }
        }
        for (id, channel) in refused {
            alive.set(id, channel);
        }
        alive.close();
        for remark in alive.remarks() {
            cx.remark(remark);
        }
        for input in graph.inputs() {
            let unread = alive.unread_channels(input);
            if unread > 0 {
                cx.remark(format!("%{}: no layer reads {unread} of its channels", graph.value(input).name));
            }
        }
        if alive.is_everything() {
            return Ok(graph);
        }
        Ok(cut::cut(&graph, &constants, &alive))
    }
}
