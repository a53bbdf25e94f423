//! Linear layers of different kinds, as small circuits of one op.

use std::sync::Arc;

use fhe_ir::{ConvGeometry, Data, Elem, Facts, Graph, Id, Interval, Op, Phase, PoolGeometry, Value, count};
use ndarray::{ArrayD, IxDyn};

use super::{arbitrary, median_ns};
use crate::linear;

/// An op on an operand of a shape, with ciphertexts of some words.
pub(super) struct Layer {
    name: String,
    graph: Graph,
    words: usize,
}

/// What a layer costs one row.
pub(super) struct Timed {
    pub(super) name: String,
    pub(super) words: usize,
    /// Products, gathered and streamed words.
    pub(super) work: [f64; 3],
    /// Nanoseconds of one thread.
    pub(super) ns: f64,
}

impl Layer {
    fn new(name: &str, words: usize, x: &[usize], y: &[usize], op: impl FnOnce(&mut Graph, Id<Value>) -> Op) -> Self {
        let mut graph = Graph::new(name, Phase::Circuit);
        let value = |name: &str, shape: &[usize], op| Value {
            name: name.into(),
            shape: shape.to_vec(),
            elem: Elem::Int(Interval { lo: 0, hi: 1 }),
            op,
            facts: Facts::default(),
            cipher: None,
            from: vec![],
        };
        let input = graph.push(value("x", x, Op::Input { pre: vec![] }));
        let op = op(&mut graph, input);
        graph.push(value("y", y, op));
        Self { name: name.into(), graph, words }
    }

    /// Median time over repetitions within `seconds`.
    pub(super) fn measure(&self, seconds: f64) -> Timed {
        let rows = rayon::current_num_threads();
        let [x, y] = [&self.graph.values[0], &self.graph.values[1]];
        let operand = arbitrary(rows, &x.shape, self.words);
        let ns = median_ns(seconds, || {
            let operands = y.op.operands().iter().map(|_| operand.clone()).collect();
            linear::apply(&self.graph, y, operands, 1).expect("a linear op");
        });
        let words = self.words as f64;
        let work = count::linear_work(&self.graph, y).map(|w| w as f64 * words);
        Timed { name: self.name.clone(), words: self.words, work, ns: ns / rows as f64 }
    }
}

/// Small weights, every seventh of them 0.
fn weights(graph: &mut Graph, shape: &[usize]) -> Id<fhe_ir::Const> {
    let mut i = 0;
    let w = ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        i += 1;
        (i * 5) % 7 - 3
    });
    graph.push_const("w", Data::Int(Arc::new(w)))
}

fn dense(words: usize, inputs: usize, outputs: usize) -> Layer {
    Layer::new(&format!("dense {inputs} to {outputs}"), words, &[1, inputs], &[1, outputs], |graph, x| Op::Dot {
        x,
        w: weights(graph, &[outputs, inputs]),
    })
}

fn conv(words: usize, [ci, co, kernel, size, groups]: [usize; 5]) -> Layer {
    let out = size + 1 - kernel;
    let name = format!("convolution {kernel}x{kernel} of {ci} to {co} channels in {groups} groups, {size}x{size}");
    Layer::new(&name, words, &[1, ci, size, size], &[1, co, out, out], |graph, x| Op::Conv {
        x,
        w: weights(graph, &[co, ci / groups, kernel, kernel]),
        geometry: ConvGeometry { strides: [1, 1], pads: [0; 4], dilations: [1, 1], groups },
    })
}

/// Dense layers, convolutions, sums: what networks consist of.
pub(super) fn all() -> Vec<Layer> {
    let (small, large) = (2049, 4097);
    let square = [1, 8, 8, 8];
    vec![
        dense(small, 256, 64),
        dense(small, 32, 10),
        dense(large, 64, 32),
        conv(small, [1, 6, 5, 12, 1]),
        conv(small, [16, 16, 3, 6, 1]),
        conv(large, [8, 8, 3, 6, 8]),
        Layer::new("sums of 2x2, 8 channels, 8x8", small, &square, &[1, 8, 4, 4], |_, x| Op::SumPool {
            x,
            geometry: PoolGeometry { kernel: [2, 2], strides: [2, 2], pads: [0; 4] },
        }),
        Layer::new("addition, 8 channels, 8x8", small, &square, &square, |_, x| Op::Add { a: x, b: x }),
    ]
}
