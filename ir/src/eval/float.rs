//! The float evaluator: a real graph in f32, as ONNX Runtime would compute it.

use ndarray::ArrayD;

use super::{Elementwise, constants, kernels, run};
use crate::client;
use crate::func;
use crate::graph::{Data, Graph, Value};
use crate::id::Id;
use crate::op::Op;

/// Evaluates a graph of phase `float` or `calibrated` on `[rows, ...]` per input.
///
/// Returns the outputs with the client's bias, before its post-processing functions.
pub fn float(graph: &Graph, inputs: &[ArrayD<f32>]) -> Vec<ArrayD<f32>> {
    float_observe(graph, inputs, |_, _| {})
}

/// As [`float`], and shows every value of every chunk of rows to `observe`.
pub fn float_observe(
    graph: &Graph,
    inputs: &[ArrayD<f32>],
    observe: impl Fn(Id<Value>, &ArrayD<f32>) + Sync,
) -> Vec<ArrayD<f32>> {
    let consts = constants(graph, |data| match data {
        Data::F32(a) => (**a).clone(),
        Data::Int(a) => a.mapv(|i| i as f32),
    });
    let (mut outputs, _) = run(graph, &consts, inputs, &Real(graph), observe);
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
    type State = ();

    fn start(&self, _chunk: usize) {}

    fn input(&self, (): &mut (), value: &Value, mut x: ArrayD<f32>) -> ArrayD<f32> {
        client::prepare(self.0, value, &mut x);
        x
    }

    fn apply(&self, (): &mut (), id: Id<Value>, mut x: ArrayD<f32>) -> ArrayD<f32> {
        let entry = |id, channel| self.0.constant(id).channel(channel);
        match &self.0.value(id).op {
            Op::Map { chain, shift: _, x: _, resolution: _ } => kernels::for_each_channel(&mut x, |channel, e| {
                *e = func::chain(chain, f64::from(*e), |c| entry(c, channel)) as f32;
            }),
            Op::BatchNorm { scale, bias, mean, var, epsilon, x: _ } => {
                let affine: Vec<(f64, f64)> = (0..x.shape()[1])
                    .map(|c| {
                        let factor = entry(*scale, c) / (entry(*var, c) + f64::from(*epsilon)).sqrt();
                        (factor, entry(*bias, c) - entry(*mean, c) * factor)
                    })
                    .collect();
                kernels::for_each_channel(&mut x, |channel, e| {
                    let (factor, summand) = affine[channel];
                    *e = (f64::from(*e) * factor + summand) as f32;
                });
            }
            other => unreachable!("verified: `{}` is not in a real graph", other.keyword()),
        }
        x
    }
}
