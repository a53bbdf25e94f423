//! What works on each element alone comes in front of moves that bring channels of different steps together.
//!
//! A layer whose weights have a step per output channel gives a value with as many steps. Behind a transpose (a sequence
//! `[places, features]`, say) elements of one channel would have different ones; a quantizer in front of it gives them
//! one.

use fhe_ir::eval::kernels;
use fhe_ir::{Func, Id, Op, Value};
use ndarray::{ArrayD, Axis, IxDyn};

use crate::pass::PassCx;
use crate::peephole::Peephole;

/// Largest value whose elements are followed through the moves.
const MOST_ELEMENTS: usize = 1 << 22;

/// `f(move(x)) == move(f'(x))`, with the constants of `f` in the order of the channels of `x`.
pub(super) fn come_last(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let op = p.remapped(id);
    let (Op::Map { x, .. } | Op::AddClear { x, .. } | Op::MulClear { x, .. }) = op else { return false };
    let mut moves = vec![];
    let mut base = x;
    while let Op::Reshape { x } | Op::Transpose { x, .. } = p.op(base) {
        if !p.is_sole(base) {
            return false;
        }
        moves.push(base);
        base = *x;
    }
    moves.reverse();
    let Some(steps) = steps(p, base) else { return false };
    if moves.is_empty() || p.graph().value(base).elements() > MOST_ELEMENTS || !p.is_sole(base) {
        return false;
    }
    let Some(sources) = sources(p, base, &moves, &steps) else { return false };
    // Constants of the result's channels as constants of the base's, where that is possible.
    let channels = p.graph().value(base).channels();
    let mut moved = vec![];
    for c in op.constants() {
        let entries = p.entries(c);
        if entries.len() == 1 {
            continue;
        }
        let mut own = vec![f64::NAN; channels];
        for (to, from) in &sources {
            let known = &mut own[*from];
            if !known.is_nan() && *known != entries[*to] {
                return false;
            }
            *known = entries[*to];
        }
        moved.push((c, own));
    }
    if !cx.rewrite("moves put behind functions") {
        return false;
    }
    let name = p.rebuild.old.value(id).name.clone();
    let moved: Vec<_> = moved.into_iter().map(|(c, own)| (c, p.constant(&format!("{name}.c"), &own))).collect();
    let op = op.with_operands(|_| base);
    let op = op.with_constants(|c| moved.iter().find(|(old, _)| *old == c).map_or(c, |(_, new)| *new));
    let shape = p.graph().value(base).shape.clone();
    let mut x = p.push(id, &format!("{name}.first"), &shape, op);
    for (i, old) in moves.iter().enumerate() {
        let (op, shape) = (p.op(*old).clone().with_operands(|_| x), p.graph().value(*old).shape.clone());
        x = if i + 1 == moves.len() { p.emit(id, op) } else { p.push(id, &format!("{name}.move"), &shape, op) };
    }
    true
}

/// Whether what is behind a chain has the steps of a quantizer in it.
fn quantizes(chain: &[Func]) -> bool {
    chain.iter().any(|link| matches!(link, Func::Quant { .. } | Func::Sign))
}

/// The step of each channel of a layer of exact weights, behind summands and functions; `None` when there is one for all.
fn steps(p: &Peephole<'_>, mut x: Id<Value>) -> Option<Vec<f64>> {
    let mut steps = None;
    loop {
        match p.op(x) {
            Op::AddClear { x: from, .. } => x = *from,
            Op::Map { x: from, chain, .. } if !quantizes(chain) => x = *from,
            Op::MulClear { x: from, c } if steps.is_none() => {
                steps = Some(p.entries(*c));
                x = *from;
            }
            Op::Reshape { x: from } if p.graph().value(*from).channels() == p.graph().value(x).channels() => x = *from,
            Op::Dot { w, .. } | Op::Conv { w, .. } if p.graph().is_exact(*w) => break,
            _ => return None,
        }
    }
    steps.filter(|s| s.iter().any(|e| e.abs() != s[0].abs()))
}

/// For each element behind the moves: its channel, and its channel in front of them. `None` when no channel behind any of
/// them has elements of different steps.
fn sources(p: &Peephole<'_>, base: Id<Value>, moves: &[Id<Value>], steps: &[f64]) -> Option<Vec<(usize, usize)>> {
    let shape = &p.graph().value(base).shape;
    let mut from = ArrayD::from_shape_fn(IxDyn(shape), |at| at[1] as f64);
    let mut mixed = false;
    for id in moves {
        from = match p.op(*id) {
            Op::Transpose { perm, .. } => kernels::transpose(&from, perm),
            _ => kernels::reshape(&from, &p.graph().value(*id).shape),
        };
        mixed |= from.axis_iter(Axis(1)).any(|channel| {
            // Channels are small whole numbers: the casts are exact.
            let mut of = channel.iter().map(|from| steps[*from as usize].abs());
            let first = of.next();
            of.any(|step| Some(step) != first)
        });
    }
    mixed.then(|| from.indexed_iter().map(|(at, from)| (at[1], *from as usize)).collect())
}
