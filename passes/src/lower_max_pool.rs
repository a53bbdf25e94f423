//! lower-max-pool: `max(a, b) = b + relu(a − b)`, one axis after the other.
//!
//! A window of `k` columns is the greatest of `k` strided slices, found in a tree of `⌈log2 k⌉` levels; rows follow on the
//! narrower result. One table per comparison, and nothing else: slices and sums are free.

use fhe_ir::{Cipher, Elem, Facts, Func, Graph, Id, Op, Phase, PoolGeometry, Rebuild, Value};

use crate::pass::{Pass, PassCx, PassError};

/// See the module.
pub struct LowerMaxPool;

impl Pass for LowerMaxPool {
    fn name(&self) -> &'static str {
        "lower-max-pool"
    }

    fn summary(&self) -> &'static str {
        "make max-pooling of subtractions, relu and sums"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut new = Rebuild::new(&graph);
        for (id, value) in graph.iter() {
            let Op::MaxPool { x, geometry } = &value.op else {
                new.copy(id);
                continue;
            };
            let mut pooled = new.get(*x);
            if geometry.pads != [0; 4] {
                pooled = if is_never_negative(&graph, *x) {
                    pad(&mut new, pooled, value, geometry)
                } else {
                    repeat_edges(&mut new, pooled, value, geometry)
                };
            }
            for axis in [3, 2] {
                let (kernel, stride) = (geometry.kernel[axis - 2], geometry.strides[axis - 2]);
                pooled = along(&mut new, pooled, value, axis, kernel, stride, cx);
            }
            new.place(id, pooled);
        }
        let phase = graph.phase;
        Ok(new.finish(phase))
    }
}

/// Whether padding with zeros cannot change a maximum over the value.
fn is_never_negative(graph: &Graph, id: Id<Value>) -> bool {
    match &graph.value(id).op {
        Op::Map { chain, .. } => match chain.last() {
            Some(
                Func::Relu
                | Func::Sigmoid
                | Func::Softplus
                | Func::Abs
                | Func::Exp
                | Func::Sqrt
                | Func::Square
                | Func::Positive
                | Func::NonNegative
                | Func::IsZero
                | Func::ThresholdedRelu(0.0..),
            ) => true,
            Some(Func::Clip(lo, _)) => *lo >= 0.0,
            _ => false,
        },
        Op::Concat { xs, .. } => xs.iter().all(|x| is_never_negative(graph, *x)),
        Op::Gather { x, .. }
        | Op::MaxPool { x, .. }
        | Op::AvgPool { x, .. }
        | Op::SumPool { x, .. }
        | Op::Slice { x, .. }
        | Op::Pad { x, .. }
        | Op::Reshape { x }
        | Op::Transpose { x, .. } => is_never_negative(graph, *x),
        Op::Add { a, b } => is_never_negative(graph, *a) && is_never_negative(graph, *b),
        _ => false,
    }
}

fn push(new: &mut Rebuild<'_>, of: &Value, suffix: &str, op: Op, shape: Vec<usize>) -> Id<Value> {
    new.push(Value {
        name: format!("{}{suffix}", of.name),
        shape,
        elem: Elem::F32,
        op,
        facts: Facts::default(),
        cipher: None::<Cipher>,
        from: of.from.clone(),
    })
}

fn pad(new: &mut Rebuild<'_>, x: Id<Value>, of: &Value, geometry: &PoolGeometry) -> Id<Value> {
    let [top, left, bottom, right] = geometry.pads;
    let (before, after) = (vec![0, 0, top, left], vec![0, 0, bottom, right]);
    let shape = new.new.value(x).shape.iter().zip(before.iter().zip(&after)).map(|(n, (b, a))| n + b + a).collect();
    push(new, of, ".pad", Op::Pad { x, before, after }, shape)
}

/// The elements at the edges once more for every place in the pads: a window that reaches into the pads holds the edge.
fn repeat_edges(new: &mut Rebuild<'_>, mut x: Id<Value>, of: &Value, geometry: &PoolGeometry) -> Id<Value> {
    for axis in [2, 3] {
        let (before, after) = (geometry.pads[axis - 2], geometry.pads[axis]);
        let mut shape = new.new.value(x).shape.clone();
        let extent = shape[axis];
        if before + after > 0 {
            shape[axis] += before + after;
            let indices = (0..shape[axis]).map(|i| i.saturating_sub(before).min(extent - 1)).collect();
            x = push(new, of, ".edges", Op::Gather { x, axis, indices }, shape);
        }
    }
    x
}

/// The greatest of every `kernel` neighbours along an axis, at every `stride`-th place.
fn along(
    new: &mut Rebuild<'_>,
    x: Id<Value>,
    of: &Value,
    axis: usize,
    kernel: usize,
    stride: usize,
    cx: &mut PassCx<'_>,
) -> Id<Value> {
    if (kernel, stride) == (1, 1) {
        return x;
    }
    let mut shape = new.new.value(x).shape.clone();
    shape[axis] = (shape[axis] - kernel) / stride + 1;
    let mut candidates: Vec<_> = (0..kernel)
        .map(|first| {
            let (mut starts, mut steps) = (vec![0; 4], vec![1; 4]);
            (starts[axis], steps[axis]) = (first, stride);
            push(new, of, ".slice", Op::Slice { x, starts, steps }, shape.clone())
        })
        .collect();
    while candidates.len() > 1 {
        candidates = candidates
            .chunks(2)
            .map(|pair| match *pair {
                [a, b] => {
                    let difference = push(new, of, ".sub", Op::Sub { a, b }, shape.clone());
                    let map = Op::Map { x: difference, shift: None, chain: vec![Func::Relu], resolution: None };
                    let more = push(new, of, ".relu", map, shape.clone());
                    cx.count("comparisons", shape.iter().product::<usize>() as u64);
                    push(new, of, ".max", Op::Add { a: b, b: more }, shape.clone())
                }
                _ => pair[0],
            })
            .collect();
    }
    candidates[0]
}
