//! Meaning, executable: the float, integer and circuit evaluators.
//!
//! All take batches: an array of shape `[rows, channels, ...]` per input, all with the same number of rows. Many rows are
//! split into chunks that run on all cores; of a few rows, all cores evaluate one. The result does not depend on the
//! number of cores. Data from outside is checked first: see [`crate::client`].

mod circuit;
mod float;
mod integer;
pub mod kernels;

use ndarray::{ArrayD, Axis, Slice};
use rayon::prelude::*;

use crate::graph::{Const, Data, Graph, Value};
use crate::id::Id;
use crate::op::Op;
pub use kernels::Split;
use kernels::{Number, for_each_plane};

pub use circuit::{simulate, simulate_from};
pub use float::{float, float_observe};
pub use integer::{integer, integer_all, map_entry, map_table};

/// Outputs of an integer or circuit evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One array `[rows, ...]` per output: the integers a client decrypts (before its bias and scale).
    pub outputs: Vec<ArrayD<i64>>,
    /// Per value of the graph: how many of its table's inputs were outside the table's domain. Outputs count at
    /// their value.
    pub saturated: Vec<u64>,
}

/// Most rows evaluated together.
const CHUNK_ROWS: usize = 16;

/// Elements of the largest value for the rows evaluated together, more than one row: bounds memory.
const CHUNK_ELEMENTS: usize = 1 << 20;

/// Constants of a graph converted to the evaluator's number type.
fn constants<T: Number>(graph: &Graph, of: impl Fn(&Data) -> ArrayD<T>) -> Vec<ArrayD<T>> {
    graph.consts.iter().map(|c| of(&c.data)).collect()
}

/// Which rows are evaluated, and what the cores share out meanwhile.
#[derive(Clone, Copy)]
struct At {
    first_row: usize,
    split: Split,
}

/// What an evaluator adds to the linear kernels.
trait Elementwise<T>: Sync {
    /// Called on each input before use.
    fn input(&self, at: At, id: Id<Value>, x: ArrayD<T>) -> ArrayD<T>;
    /// The result of a `map`, `lut`, `keyswitch` or `pbs`.
    fn apply(&self, at: At, id: Id<Value>, x: ArrayD<T>) -> ArrayD<T>;
}

/// Evaluates all rows; returns the output values.
fn run<T: Number, E: Elementwise<T>>(
    graph: &Graph,
    consts: &[ArrayD<T>],
    inputs: &[ArrayD<T>],
    elementwise: &E,
    observe: impl Fn(Id<Value>, &ArrayD<T>, Split) + Sync,
) -> Vec<ArrayD<T>> {
    let rows = inputs.first().map_or(0, |x| x.shape()[0]);
    assert!(inputs.iter().all(|x| x.shape()[0] == rows), "inputs have one number of rows");
    let largest = graph.values.iter().map(Value::elements).max().unwrap_or(1).max(1);
    let together = (CHUNK_ELEMENTS / largest).clamp(1, CHUNK_ROWS);
    let chunks = rows.div_ceil(together);
    let split = if chunks < 2 * rayon::current_num_threads() { Split::Elements } else { Split::Rows };
    let chunk = |chunk: usize| {
        let range = chunk * together..rows.min((chunk + 1) * together);
        let at = At { first_row: range.start, split };
        let inputs = inputs.iter().map(|x| x.slice_axis(Axis(0), Slice::from(range.clone())).to_owned()).collect();
        run_chunk(graph, consts, inputs, elementwise, at, &observe)
    };
    let chunks: Vec<Vec<ArrayD<T>>> = match split {
        Split::Elements => (0..chunks).map(chunk).collect(),
        Split::Rows => (0..chunks).into_par_iter().map(chunk).collect(),
    };
    let mut per_output = vec![vec![]; graph.outputs.len()];
    for outputs in chunks {
        for (i, y) in outputs.into_iter().enumerate() {
            per_output[i].push(y);
        }
    }
    per_output
        .into_iter()
        .zip(&graph.outputs)
        .map(|(parts, output)| {
            if parts.is_empty() {
                let mut shape = graph.value(output.value).shape.clone();
                shape[0] = 0;
                return ArrayD::zeros(shape);
            }
            let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
            ndarray::concatenate(Axis(0), &views).expect("chunks have one shape")
        })
        .collect()
}

fn run_chunk<T: Number, E: Elementwise<T>>(
    graph: &Graph,
    consts: &[ArrayD<T>],
    inputs: Vec<ArrayD<T>>,
    elementwise: &E,
    at: At,
    observe: &(impl Fn(Id<Value>, &ArrayD<T>, Split) + Sync),
) -> Vec<ArrayD<T>> {
    let mut last_use = vec![0; graph.values.len()];
    for (id, value) in graph.iter() {
        for operand in value.op.operands() {
            last_use[operand.index()] = id.index();
        }
    }
    for output in &graph.outputs {
        last_use[output.value.index()] = usize::MAX;
    }
    let mut inputs = inputs.into_iter();
    let mut values: Vec<Option<ArrayD<T>>> = vec![None; graph.values.len()];
    for (id, value) in graph.iter() {
        let result = match &value.op {
            Op::Input { .. } => elementwise.input(at, id, inputs.next().expect("one array per input")),
            op => {
                let get = |id: Id<Value>| values[id.index()].as_ref().expect("alive until its last use");
                match linear(consts, op, &value.shape, at.split, get) {
                    Some(result) => result,
                    None => {
                        let x = op.operands()[0].index();
                        let dies = last_use[x] == id.index();
                        let x = if dies { values[x].take() } else { values[x].clone() };
                        elementwise.apply(at, id, x.expect("alive until its last use"))
                    }
                }
            }
        };
        observe(id, &result, at.split);
        values[id.index()] = Some(result);
        for operand in value.op.operands() {
            if last_use[operand.index()] == id.index() {
                values[operand.index()] = None;
            }
        }
    }
    graph.outputs.iter().map(|o| values[o.value.index()].clone().expect("outputs stay alive")).collect()
}

/// The result of an op of the kernels; `None` for those that each evaluator reads in its own way.
fn linear<'a, T: Number>(
    consts: &[ArrayD<T>],
    op: &Op,
    shape: &[usize],
    split: Split,
    get: impl Fn(Id<Value>) -> &'a ArrayD<T>,
) -> Option<ArrayD<T>> {
    let constant = |id: Id<Const>| &consts[id.index()];
    let entry = |id: Id<Const>, channel: usize| {
        let c = constant(id);
        c[[if c.len() == 1 { 0 } else { channel }].as_slice()]
    };
    Some(match op {
        Op::Dot { x, w } => kernels::dot(get(*x), constant(*w), split),
        Op::Conv { x, w, geometry } => kernels::conv(get(*x), constant(*w), geometry, shape, split),
        Op::SumPool { x, geometry } => kernels::sum_pool(get(*x), geometry, shape, split),
        Op::AvgPool { x, geometry } => {
            let area = (0..geometry.area()).fold(T::zero(), |n, _| n + T::one());
            kernels::sum_pool(get(*x), geometry, shape, split).mapv_into(|e| e / area)
        }
        Op::MaxPool { x, geometry } => kernels::max_pool(get(*x), geometry, shape, split),
        Op::AddClear { x, c } => per_channel(get(*x), split, |channel| entry(*c, channel), |e, summand| e + summand),
        Op::MulClear { x, c } => per_channel(get(*x), split, |channel| entry(*c, channel), |e, factor| e * factor),
        Op::Add { a, b } => get(*a) + get(*b),
        Op::Sub { a, b } => get(*a) - get(*b),
        Op::Mul { a, b } => get(*a) * get(*b),
        Op::Concat { xs, axis } => kernels::concat(&xs.iter().map(|x| get(*x)).collect::<Vec<_>>(), *axis),
        Op::Gather { x, axis, indices } => kernels::gather(get(*x), *axis, indices),
        Op::Neg { x } => get(*x).mapv(|e| -e),
        Op::Slice { x, starts, steps } => kernels::slice(get(*x), starts, steps, shape),
        Op::Pad { x, before, after } => kernels::pad(get(*x), before, after),
        Op::Reshape { x } => kernels::reshape(get(*x), shape),
        Op::Transpose { x, perm } => kernels::transpose(get(*x), perm),
        Op::Input { .. }
        | Op::BatchNorm { .. }
        | Op::Map { .. }
        | Op::Lut { .. }
        | Op::Keyswitch { .. }
        | Op::Pbs { .. } => {
            return None;
        }
    })
}

/// `f(element, g(channel))`.
fn per_channel<T: Number>(
    x: &ArrayD<T>,
    split: Split,
    g: impl Fn(usize) -> T + Sync,
    f: impl Fn(T, T) -> T + Sync,
) -> ArrayD<T> {
    let mut y = x.clone();
    for_each_plane(&mut y, split, |_, channel, plane| {
        let g = g(channel);
        plane.iter_mut().for_each(|e| *e = f(*e, g));
    });
    y
}
