//! Rebuilds a graph with the channels that stay.

use std::sync::Arc;

use fhe_ir::{Const, ConvGeometry, Data, Graph, Id, Op, Rebuild, Value};
use ndarray::{ArrayD, Axis};

use super::alive::Alive;
use super::constants::Constants;
use crate::layers::{Layer, response};
use crate::peephole::{vector, zip};

/// The graph without the channels that are not alive; their constants are in the biases of the layers behind them.
pub(super) fn cut(graph: &Graph, constants: &Constants, alive: &Alive<'_>) -> Graph {
    let mut cut = Cut { rebuild: Rebuild::new(graph), constants, alive, biases: vec![None; graph.values.len()] };
    let mut outputs = graph.outputs.clone();
    for (id, value) in graph.iter() {
        cut.value(id, value);
    }
    for output in &mut outputs {
        if let Some(bias) = cut.biases[output.value.index()].clone() {
            let old = output.bias.map_or(vec![0.0], |c| entries(graph, c));
            let sum = zip(&old, &bias, |a, b| a + b);
            let name = output.bias.map_or(format!("{}.bias", output.name), |c| graph.constant(c).name.clone());
            output.bias = Some(cut.rebuild.new.push_const(&name, data(&sum)));
        }
        output.value = cut.rebuild.get(output.value);
    }
    let phase = graph.phase;
    cut.rebuild.finish_with_outputs(phase, outputs)
}

struct Cut<'g> {
    rebuild: Rebuild<'g>,
    constants: &'g Constants,
    alive: &'g Alive<'g>,
    /// What its reader still has to add to a value, per channel that stays.
    biases: Vec<Option<Vec<f64>>>,
}

fn entries(graph: &Graph, c: Id<Const>) -> Vec<f64> {
    graph.reals(c).iter().map(|&e| f64::from(e)).collect()
}

fn data(entries: &[f64]) -> Data {
    Data::F32(Arc::new(vector(entries)))
}

fn indices(alive: &[bool]) -> Vec<usize> {
    (0..alive.len()).filter(|&c| alive[c]).collect()
}

impl Cut<'_> {
    fn value(&mut self, id: Id<Value>, value: &Value) {
        let keep = indices(self.alive.channels(id));
        let op = self.rebuild.remap(&value.op);
        let mut shape = value.shape.clone();
        if shape.len() > 1 {
            shape[1] = keep.len();
        }
        let Some(layer) = Layer::of(&value.op) else {
            let op = self.with_channels(op, &keep, value.channels());
            let op = match (&value.op, op) {
                // The bias of the layer in front of it.
                (Op::AddClear { x: old, .. }, Op::AddClear { x, c }) if self.biases[old.index()].is_some() => {
                    let bias = self.biases[old.index()].clone().unwrap_or_default();
                    let sum = zip(&self.entries(c), &bias, |a, b| a + b);
                    let c = self.renewed(c, data(&sum));
                    Op::AddClear { x, c }
                }
                (_, op) => op,
            };
            self.rebuild.replace(id, Value { op, shape, ..value.clone() });
            return;
        };
        let graph = self.rebuild.old;
        let columns = indices(self.alive.channels(layer.x));
        let w = graph.weights(layer.w);
        if keep.len() == value.channels() && columns.len() == graph.value(layer.x).channels() {
            self.rebuild.replace(id, Value { op, ..value.clone() });
            return;
        }
        let rows = w.select(Axis(0), &keep);
        let bias = if layer.groups == 1 { self.constant_part(&layer, &rows) } else { vec![0.0] };
        // A depthwise convolution has one column per row.
        let columns = if layer.groups == 1 { rows.select(Axis(1), &columns) } else { rows };
        let kept = match graph.constant(layer.w).data {
            Data::F32(_) => Data::F32(Arc::new(columns)),
            // They have been integers before they were cut.
            Data::Int(_) => Data::Int(Arc::new(columns.mapv(|e| e as i64))),
        };
        let w = self.renewed(layer.w, kept);
        let op = match op.with_constants(|_| w) {
            Op::Conv { x, w, geometry } if geometry.groups > 1 => {
                Op::Conv { x, w, geometry: ConvGeometry { groups: keep.len(), ..geometry } }
            }
            op => op,
        };
        let new = Value { op, shape: shape.clone(), ..value.clone() };
        if bias.iter().all(|&b| b == 0.0) {
            self.rebuild.replace(id, new);
            return;
        }
        // w·[x, k] == w'·x + w"·k: in the bias behind the layer, in the client's, or in a new one.
        let readers: Vec<_> = graph.iter().filter(|(_, v)| v.op.operands().contains(&id)).map(|(_, v)| &v.op).collect();
        let biased = matches!(readers[..], [Op::AddClear { .. }]) && !graph.is_output(id);
        if biased || readers.is_empty() {
            self.biases[id.index()] = Some(bias);
            self.rebuild.replace(id, new);
        } else {
            let x = self.rebuild.push(Value { name: format!("{}.product", value.name), ..new });
            let c = self.rebuild.new.push_const(&format!("{}.bias", value.name), data(&bias));
            self.rebuild.replace(id, Value { op: Op::AddClear { x, c }, shape, ..value.clone() });
        }
    }

    /// What the columns that go contribute to the rows that stay.
    fn constant_part(&self, layer: &Layer, rows: &ArrayD<f32>) -> Vec<f64> {
        let gone: Vec<f64> = self.constants[layer.x.index()]
            .iter()
            .zip(self.alive.channels(layer.x))
            .map(|(k, &alive)| if alive { 0.0 } else { k.unwrap_or(0.0) })
            .collect();
        response(rows, &gone, 1)
    }

    fn entries(&self, c: Id<Const>) -> Vec<f64> {
        entries(&self.rebuild.new, c)
    }

    /// Constants per channel, for the channels that stay.
    fn with_channels(&mut self, op: Op, keep: &[usize], channels: usize) -> Op {
        if keep.len() == channels {
            return op;
        }
        op.with_constants(|c| {
            let all = self.entries(c);
            if all.len() == 1 {
                return c;
            }
            let kept: Vec<f64> = keep.iter().map(|&channel| all[channel]).collect();
            self.renewed(c, data(&kept))
        })
    }

    /// A constant with other numbers: in its place when nobody else reads it.
    fn renewed(&mut self, c: Id<Const>, data: Data) -> Id<Const> {
        let old = self.rebuild.old;
        let by_values = old.values.iter().flat_map(|v| v.op.constants());
        let readers = by_values.chain(old.outputs.iter().filter_map(|o| o.bias)).filter(|&other| other == c).count();
        if readers <= 1 {
            self.rebuild.new.consts[c.index()].data = data;
            c
        } else {
            let name = old.constant(c).name.clone();
            self.rebuild.new.push_const(&name, data)
        }
    }
}
