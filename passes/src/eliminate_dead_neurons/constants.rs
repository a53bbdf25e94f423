//! Which channels hold one number at every place, whatever the input.

use fhe_ir::ranges::channels_of_reshape;
use fhe_ir::{Const, Graph, Id, Op, Value};

/// Per value and channel: the number, when it is one.
pub(super) type Constants = Vec<Vec<Option<f64>>>;

/// The constant channels of every value of a float graph.
pub(super) fn propagate(graph: &Graph) -> Constants {
    let mut constants: Constants = vec![];
    for (_, value) in graph.iter() {
        let found = channels(graph, value, &constants);
        constants.push(found);
    }
    constants
}

fn channels(graph: &Graph, value: &Value, constants: &Constants) -> Vec<Option<f64>> {
    let of = |id: Id<Value>| constants[id.index()].as_slice();
    let entry = |c: Id<Const>, channel: usize| graph.constant(c).channel(channel);
    let each = |f: &dyn Fn(usize) -> Option<f64>| (0..value.channels()).map(f).collect::<Vec<_>>();
    match &value.op {
        Op::Input { .. } => each(&|_| None),
        Op::Dot { x, w } => weighted(graph, *w, of(*x), 1, false),
        Op::Conv { x, w, geometry } => weighted(graph, *w, of(*x), geometry.groups, geometry.pads != [0; 4]),
        Op::SumPool { x, geometry } | Op::AvgPool { x, geometry } => {
            let area = geometry.area() as f64;
            let factor = if matches!(value.op, Op::SumPool { .. }) { area } else { 1.0 };
            let inside = geometry.pads == [0; 4];
            each(&|c| of(*x)[c].filter(|&k| inside || k == 0.0).map(|k| k * factor))
        }
        // Padding is left out: every window holds an element.
        Op::MaxPool { x, .. } => of(*x).to_vec(),
        Op::BatchNorm { x, scale, bias, mean, var, epsilon } => each(&|c| {
            let factor = entry(*scale, c) / (entry(*var, c) + f64::from(*epsilon)).sqrt();
            Some((of(*x)[c]? - entry(*mean, c)) * factor + entry(*bias, c))
        }),
        Op::AddClear { x, c: k } => each(&|c| Some(of(*x)[c]? + entry(*k, c))),
        Op::MulClear { x, c: k } => each(&|c| Some(of(*x)[c]? * entry(*k, c))),
        Op::Add { a, b } => each(&|c| Some(of(*a)[c]? + of(*b)[c]?)),
        Op::Sub { a, b } => each(&|c| Some(of(*a)[c]? - of(*b)[c]?)),
        Op::Mul { a, b } => each(&|c| Some(of(*a)[c]? * of(*b)[c]?)),
        Op::Concat { xs, axis: 1 } => xs.iter().flat_map(|x| of(*x)).copied().collect(),
        Op::Concat { xs, .. } => each(&|c| one(xs.iter().map(|x| of(*x)[c]))),
        Op::Gather { x, axis: 1, indices } => indices.iter().map(|&i| of(*x)[i]).collect(),
        Op::Gather { x, .. } => of(*x).to_vec(),
        Op::Neg { x } => each(&|c| Some(-of(*x)[c]?)),
        Op::Slice { x, starts, steps } => {
            each(&|c| of(*x)[if value.shape.len() > 1 { starts[1] + c * steps[1] } else { 0 }])
        }
        Op::Pad { x, before, after } => {
            let spatial = (2..value.shape.len()).any(|axis| before[axis] + after[axis] > 0);
            each(&|c| match c.checked_sub(before[1]).and_then(|c| of(*x).get(c)) {
                Some(inside) => inside.filter(|&k| !spatial || k == 0.0),
                None => Some(0.0),
            })
        }
        Op::Reshape { x } => {
            let operand = graph.value(*x);
            each(&|c| one(channels_of_reshape(operand, &value.shape, c).map(|from| of(*x)[from])))
        }
        Op::Transpose { x, perm } => {
            if perm.get(1).is_none_or(|&axis| axis == 1) {
                of(*x).to_vec()
            } else {
                let all = one(of(*x).iter().copied());
                each(&|_| all)
            }
        }
        Op::Map { x, chain, .. } => {
            each(&|c| Some(chain.iter().fold(of(*x)[c]?, |real, f| f.apply(real, |k| entry(k, c)))))
                .into_iter()
                .map(|k| k.filter(|k| k.is_finite()))
                .collect()
        }
        Op::Lut { .. } | Op::Keyswitch { .. } | Op::Pbs { .. } => each(&|_| None),
    }
}

/// The number that all channels hold.
fn one(mut channels: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let first = channels.next()??;
    channels.all(|c| c == Some(first)).then_some(first)
}

/// Rows of weights whose nonzero entries all meet constants.
fn weighted(graph: &Graph, w: Id<Const>, x: &[Option<f64>], groups: usize, padded: bool) -> Vec<Option<f64>> {
    let w = graph.weights(w);
    let (outs, per_group) = (w.shape()[0], w.shape()[1]);
    let taps: usize = w.shape()[2..].iter().product();
    let w = w.as_standard_layout();
    let w = w.as_slice().expect("row-major");
    w.chunks(per_group * taps)
        .enumerate()
        .map(|(o, row)| {
            let first = o / (outs / groups) * per_group;
            row.chunks(taps).enumerate().try_fold(0.0, |sum, (i, taps)| {
                // `-0.0` is zero too.
                if taps.iter().all(|&e| e == 0.0) {
                    return Some(sum);
                }
                let k = x[first + i].filter(|&k| !padded || k == 0.0)?;
                Some(sum + k * taps.iter().map(|&e| f64::from(e)).sum::<f64>())
            })
        })
        .collect()
}
