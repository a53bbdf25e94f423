//! Layers with weights as linear maps: scaled rows and columns, the response to constants.

use fhe_ir::{Const, Id, Op, Value};
use ndarray::{ArrayD, ArrayView2, Axis};

use crate::peephole::{Peephole, zip};

/// A `dot` or `conv`.
#[derive(Clone, Copy)]
pub(crate) struct Layer {
    /// Operand.
    pub(crate) x: Id<Value>,
    /// Weights, output channels first.
    pub(crate) w: Id<Const>,
    /// Groups of channels.
    pub(crate) groups: usize,
    /// Whether windows reach past the operand, where it reads zero.
    pub(crate) padded: bool,
}

impl Layer {
    /// The layer that an op is.
    pub(crate) fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Dot { x, w } => Some(Self { x: *x, w: *w, groups: 1, padded: false }),
            Op::Conv { x, w, geometry } => {
                Some(Self { x: *x, w: *w, groups: geometry.groups, padded: geometry.pads != [0; 4] })
            }
            _ => None,
        }
    }

    /// The op with another operand and other weights.
    pub(crate) fn rewired(op: &Op, x: Id<Value>, w: Id<Const>) -> Op {
        op.clone().with_operands(|_| x).with_constants(|_| w)
    }
}

/// Weights whose output channel `o` is multiplied by `factor[o]`.
pub(crate) fn scale_outputs(w: &ArrayD<f32>, factor: &[f64]) -> ArrayD<f32> {
    let mut w = w.as_standard_layout().into_owned();
    for (o, mut row) in w.axis_iter_mut(Axis(0)).enumerate() {
        let f = factor[if factor.len() == 1 { 0 } else { o }];
        row.mapv_inplace(|e| scaled(e, f));
    }
    w
}

/// The product, without negative zeros.
fn scaled(e: f32, f: f64) -> f32 {
    (f64::from(e) * f + 0.0) as f32
}

/// Weights whose input channel `i` is multiplied by `factor[i]`.
pub(crate) fn scale_inputs(w: &ArrayD<f32>, factor: &[f64], groups: usize) -> ArrayD<f32> {
    let mut w = w.as_standard_layout().into_owned();
    let (outs, per_group) = (w.shape()[0], w.shape()[1]);
    for (o, mut row) in w.axis_iter_mut(Axis(0)).enumerate() {
        let first = o / (outs / groups) * per_group;
        for (i, mut taps) in row.axis_iter_mut(Axis(0)).enumerate() {
            let f = factor[if factor.len() == 1 { 0 } else { first + i }];
            taps.mapv_inplace(|e| scaled(e, f));
        }
    }
    w
}

/// What the layer gives, per output channel, for inputs that are constant per channel (and windows that stay inside).
pub(crate) fn response(w: &ArrayD<f32>, input: &[f64], groups: usize) -> Vec<f64> {
    let (outs, per_group) = (w.shape()[0], w.shape()[1]);
    w.axis_iter(Axis(0))
        .enumerate()
        .map(|(o, row)| {
            let first = o / (outs / groups) * per_group;
            let term = |(i, taps): (usize, ndarray::ArrayViewD<'_, f32>)| {
                let x = input[if input.len() == 1 { 0 } else { first + i }];
                taps.iter().map(|&e| f64::from(e)).sum::<f64>() * x
            };
            row.axis_iter(Axis(0)).enumerate().map(term).sum()
        })
        .collect()
}

/// `[out, mid]·[mid, in]` in f64.
pub(crate) fn product(outer: &ArrayD<f32>, inner: &ArrayD<f32>) -> ArrayD<f32> {
    let matrix = |w: &ArrayD<f32>| w.mapv(f64::from).into_dimensionality::<ndarray::Ix2>().expect("verified: rank 2");
    let (outer, inner) = (matrix(outer), matrix(inner));
    let outer: ArrayView2<'_, f64> = outer.view();
    outer.dot(&inner).mapv(|e| e as f32).into_dyn()
}

/// A layer, or a layer with its bias, that a single reader sees.
pub(crate) struct Behind {
    /// The `dot` or `conv`.
    layer: Id<Value>,
    /// The `add-clear` on it.
    bias: Option<Id<Value>>,
}

/// Why nothing can be folded into what makes a value.
pub(crate) enum NotBehind {
    /// There is no layer.
    NoLayer,
    /// The layer's result, or the sum with its bias, has another reader.
    ReadTwice,
    /// Its weights are exact integers, which no factor goes into.
    Exact,
}

/// The layer that makes `n`, directly or with a bias on it.
pub(crate) fn behind(p: &Peephole<'_>, n: Id<Value>) -> Result<Behind, NotBehind> {
    let (layer, bias) = match p.op(n) {
        Op::AddClear { x, .. } => (*x, Some(n)),
        _ => (n, None),
    };
    let Some(Layer { w, .. }) = Layer::of(p.op(layer)) else { return Err(NotBehind::NoLayer) };
    if p.graph().is_exact(w) {
        Err(NotBehind::Exact)
    } else if p.is_sole(layer) && p.is_sole(n) {
        Ok(Behind { layer, bias })
    } else {
        Err(NotBehind::ReadTwice)
    }
}

impl Behind {
    /// `(w·x + b)·f + s == (f·w)·x + (b·f + s)`. Returns the value that holds the result and the summand
    /// that still has to be added to it (when there is no bias to take it).
    pub(crate) fn scale(self, p: &mut Peephole<'_>, factor: &[f64], summand: &[f64]) -> (Id<Value>, Vec<f64>) {
        let op = p.op(self.layer).clone();
        let layer = Layer::of(&op).expect("checked when it was found");
        let w = scale_outputs(p.graph().reals(layer.w), factor);
        let w = p.with_numbers(layer.w, w);
        p.set_op(self.layer, Layer::rewired(&op, layer.x, w));
        let Some(bias) = self.bias else { return (self.layer, summand.to_vec()) };
        let Op::AddClear { x, c } = *p.op(bias) else { unreachable!("checked when it was found") };
        let entries = zip(&zip(&p.entries(c), factor, |b, f| b * f), summand, |b, s| b + s);
        let c = p.with_numbers(c, crate::peephole::vector(&entries));
        p.set_op(bias, Op::AddClear { x, c });
        (bias, vec![0.0])
    }
}
