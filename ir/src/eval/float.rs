//! The float evaluator: a real graph in f32, as ONNX Runtime would compute it.

use ndarray::ArrayD;

use super::kernels::for_each_plane;
use super::{At, Elementwise, Split, constants, kernels, run};
use crate::client;
use crate::func::{self, Func};
use crate::graph::{Data, Graph, Value};
use crate::id::Id;
use crate::op::Op;

/// Evaluates a graph of phase `float` or `calibrated` on `[rows, ...]` per input.
///
/// Returns the outputs with the client's bias, before its post-processing functions.
pub fn float(graph: &Graph, inputs: &[ArrayD<f32>]) -> Vec<ArrayD<f32>> {
    float_observe(graph, inputs, |_, _, _| {})
}

/// As [`float`], and shows every value of every chunk of rows to `observe`, with what the cores share out meanwhile.
pub fn float_observe(
    graph: &Graph,
    inputs: &[ArrayD<f32>],
    observe: impl Fn(Id<Value>, &ArrayD<f32>, Split) + Sync,
) -> Vec<ArrayD<f32>> {
    let consts = constants(graph, |data| match data {
        Data::F32(a) => (**a).clone(),
        Data::Int(a) => a.mapv(|i| i as f32),
    });
    let mut outputs = run(graph, &consts, inputs, &Real(graph), observe);
    for (y, output) in outputs.iter_mut().zip(&graph.outputs) {
        if let Some(bias) = output.bias {
            let bias = graph.constant(bias);
            kernels::for_each_channel(y, |channel, e| *e += bias.channel(channel) as f32);
        }
    }
    outputs
}

struct Real<'g>(&'g Graph);

impl Elementwise<f32> for Real<'_> {
    fn input(&self, _at: At, id: Id<Value>, mut x: ArrayD<f32>) -> ArrayD<f32> {
        client::prepare(self.0, self.0.value(id), &mut x);
        x
    }

    fn apply(&self, at: At, id: Id<Value>, mut x: ArrayD<f32>) -> ArrayD<f32> {
        let entry = |id, channel| self.0.constant(id).channel(channel);
        match &self.0.value(id).op {
            // The same in f32 as in f64.
            Op::Map { chain, .. } if matches!(chain[..], [Func::Relu]) => {
                for_each_plane(&mut x, at.split, |_, _, plane| {
                    plane.iter_mut().for_each(|e| *e = e.max(0.0));
                });
            }
            Op::Map { chain, shift: _, x: _, resolution: _ } => {
                for_each_plane(&mut x, at.split, |_, channel, plane| {
                    for e in plane {
                        *e = func::chain(chain, f64::from(*e), |c| entry(c, channel)) as f32;
                    }
                })
            }
            Op::BatchNorm { scale, bias, mean, var, epsilon, x: _ } => {
                for_each_plane(&mut x, at.split, |_, channel, plane| {
                    let factor = entry(*scale, channel) / (entry(*var, channel) + f64::from(*epsilon)).sqrt();
                    let summand = entry(*bias, channel) - entry(*mean, channel) * factor;
                    plane.iter_mut().for_each(|e| *e = (f64::from(*e) * factor + summand) as f32);
                });
            }
            other => unreachable!("verified: `{}` is not in a real graph", other.keyword()),
        }
        x
    }
}
