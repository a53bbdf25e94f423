//! Meaning, executable: the float, integer and circuit evaluators.
//!
//! All take batches: an array of shape `[rows, channels, ...]` per input, all with the same number of rows. Rows are
//! split into chunks that run on all cores; the result does not depend on the number of cores. Data from outside is
//! checked first: see [`crate::client`].

mod circuit;
mod float;
mod integer;
pub mod kernels;

use ndarray::{ArrayD, Axis, Slice};
use rayon::prelude::*;

use crate::graph::{Const, Data, Graph, Value};
use crate::id::Id;
use crate::op::Op;
use kernels::Number;

pub use circuit::simulate;
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

/// Rows evaluated together by one thread: bounds memory, and fixes the random streams of the simulator.
const CHUNK_ROWS: usize = 16;

/// Constants of a graph converted to the evaluator's number type.
fn constants<T: Number>(graph: &Graph, of: impl Fn(&Data) -> ArrayD<T>) -> Vec<ArrayD<T>> {
    graph.consts.iter().map(|c| of(&c.data)).collect()
}

/// What an evaluator adds to the linear kernels.
trait Elementwise<T>: Sync {
    /// State of one chunk of rows (random generator, counters).
    type State: Send;
    /// State for the chunk of that number.
    fn start(&self, chunk: usize) -> Self::State;
    /// Called on each input before use.
    fn input(&self, state: &mut Self::State, value: &Value, x: ArrayD<T>) -> ArrayD<T>;
    /// The result of a `map`, `lut`, `keyswitch` or `pbs`.
    fn apply(&self, state: &mut Self::State, id: Id<Value>, x: ArrayD<T>) -> ArrayD<T>;
}

/// Evaluates all rows; returns the output values per chunk and the chunks' states.
fn run<T: Number, E: Elementwise<T>>(
    graph: &Graph,
    consts: &[ArrayD<T>],
    inputs: &[ArrayD<T>],
    elementwise: &E,
    observe: impl Fn(Id<Value>, &ArrayD<T>) + Sync,
) -> (Vec<ArrayD<T>>, Vec<E::State>) {
    let rows = inputs.first().map_or(0, |x| x.shape()[0]);
    assert!(inputs.iter().all(|x| x.shape()[0] == rows), "inputs have one number of rows");
    let chunks: Vec<(Vec<ArrayD<T>>, E::State)> = (0..rows.div_ceil(CHUNK_ROWS))
        .into_par_iter()
        .map(|chunk| {
            let range = chunk * CHUNK_ROWS..rows.min((chunk + 1) * CHUNK_ROWS);
            let inputs = inputs.iter().map(|x| x.slice_axis(Axis(0), Slice::from(range.clone())).to_owned()).collect();
            let mut state = elementwise.start(chunk);
            let outputs = run_chunk(graph, consts, inputs, elementwise, &mut state, &observe);
            (outputs, state)
        })
        .collect();
    let mut per_output = vec![vec![]; graph.outputs.len()];
    let mut states = vec![];
    for (outputs, state) in chunks {
        for (i, y) in outputs.into_iter().enumerate() {
            per_output[i].push(y);
        }
        states.push(state);
    }
    let joined = per_output
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
        .collect();
    (joined, states)
}

fn run_chunk<T: Number, E: Elementwise<T>>(
    graph: &Graph,
    consts: &[ArrayD<T>],
    inputs: Vec<ArrayD<T>>,
    elementwise: &E,
    state: &mut E::State,
    observe: &(impl Fn(Id<Value>, &ArrayD<T>) + Sync),
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
            Op::Input { .. } => elementwise.input(state, value, inputs.next().expect("one array per input")),
            op => {
                let get = |id: Id<Value>| values[id.index()].as_ref().expect("alive until its last use");
                match linear(consts, op, &value.shape, get) {
                    Some(result) => result,
                    None => {
                        let x = op.operands()[0].index();
                        let dies = last_use[x] == id.index();
                        let x = if dies { values[x].take() } else { values[x].clone() };
                        elementwise.apply(state, id, x.expect("alive until its last use"))
                    }
                }
            }
        };
        observe(id, &result);
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
    get: impl Fn(Id<Value>) -> &'a ArrayD<T>,
) -> Option<ArrayD<T>> {
    let constant = |id: Id<Const>| &consts[id.index()];
    let per_channel = |x: Id<Value>, f: &dyn Fn(usize, T) -> T| {
        let mut y = get(x).clone();
        kernels::for_each_channel(&mut y, |channel, e| *e = f(channel, *e));
        y
    };
    let entry = |id: Id<Const>, channel: usize| {
        let c = constant(id);
        c[[if c.len() == 1 { 0 } else { channel }].as_slice()]
    };
    Some(match op {
        Op::Dot { x, w } => kernels::dot(get(*x), constant(*w)),
        Op::Conv { x, w, geometry } => kernels::conv(get(*x), constant(*w), geometry, shape),
        Op::SumPool { x, geometry } => kernels::sum_pool(get(*x), geometry, shape),
        Op::AvgPool { x, geometry } => {
            let area = (0..geometry.area()).fold(T::zero(), |n, _| n + T::one());
            kernels::sum_pool(get(*x), geometry, shape).mapv_into(|e| e / area)
        }
        Op::MaxPool { x, geometry } => kernels::max_pool(get(*x), geometry, shape),
        Op::AddClear { x, c } => per_channel(*x, &|channel, e| e + entry(*c, channel)),
        Op::MulClear { x, c } => per_channel(*x, &|channel, e| e * entry(*c, channel)),
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
