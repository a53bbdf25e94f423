//! `canonicalize`: one way to write each thing, so that later passes know one shape of it.
//!
//! - layout: no reshape of a reshape, no identity reshape, transpose, slice or pad; a transpose that moves only axes of
//!   extent 1 is a reshape; zeros around a window op belong to its pads;
//! - moves: behind functions of each element, where they would bring channels of different steps together;
//! - maps: one map per chain, no link twice, nothing linear as a map, none on an input that the client can send mapped;
//! - outputs: the last summand and the last sigmoid are the client's.

mod chain;
mod moves;
mod outputs;

use fhe_ir::{ConvGeometry, Func, Graph, Id, Op, Phase, PoolGeometry, Value};

use crate::pass::{Pass, PassCx, PassError};
use crate::peephole::Peephole;

/// See the module.
pub struct Canonicalize;

impl Pass for Canonicalize {
    fn name(&self) -> &'static str {
        "canonicalize"
    }

    fn summary(&self) -> &'static str {
        "one form for layouts, maps and outputs"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut p = Peephole::new(&graph);
        for (id, value) in graph.iter() {
            let done = match &value.op {
                Op::Reshape { .. } | Op::Transpose { .. } => {
                    let op = p.remapped(id);
                    layout(&mut p, cx, id, op)
                }
                Op::Slice { .. } => slice(&mut p, cx, id),
                Op::Pad { .. } => pad(&mut p, cx, id),
                Op::Conv { .. } | Op::SumPool { .. } | Op::AvgPool { .. } => window(&mut p, cx, id),
                Op::Map { .. } => moves::come_last(&mut p, cx, id) || map(&mut p, cx, id),
                Op::AddClear { .. } | Op::MulClear { .. } => moves::come_last(&mut p, cx, id),
                // The padding of a max-pool is left out of the maximum: zeros in front of it are not.
                Op::MaxPool { .. } => false,
                Op::Input { .. }
                | Op::Dot { .. }
                | Op::BatchNorm { .. }
                | Op::Add { .. }
                | Op::Sub { .. }
                | Op::Mul { .. }
                | Op::Neg { .. }
                | Op::Concat { .. }
                | Op::Gather { .. }
                | Op::Lut { .. }
                | Op::Keyswitch { .. }
                | Op::Pbs { .. } => false,
            };
            if !done {
                p.keep(id);
            }
        }
        Ok(outputs::simplify(p.finish(), cx))
    }
}

/// Reshapes and transposes.
fn layout(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>, mut op: Op) -> bool {
    let shape = p.rebuild.old.value(id).shape.clone();
    let original = op.clone();
    loop {
        op = match &op {
            Op::Reshape { x } => match p.op(*x) {
                // reshape(reshape(x)) == reshape(x)
                Op::Reshape { x: from } => {
                    let from = *from;
                    if !cx.rewrite("reshapes joined") {
                        break;
                    }
                    Op::Reshape { x: from }
                }
                _ if p.graph().value(*x).shape == shape => {
                    return cx.rewrite("reshapes dropped") && absorbed(p, id, *x);
                }
                _ => break,
            },
            Op::Transpose { x, perm } => {
                let extents = &p.graph().value(*x).shape;
                let moved: Vec<usize> = perm.iter().copied().filter(|&axis| extents[axis] > 1).collect();
                if perm.iter().copied().eq(0..perm.len()) {
                    return cx.rewrite("transposes dropped") && absorbed(p, id, *x);
                }
                if moved.is_sorted() {
                    // Row-major order does not see axes of extent 1.
                    if !cx.rewrite("transposes made reshapes") {
                        break;
                    }
                    Op::Reshape { x: *x }
                } else if let Op::Transpose { x: from, perm: inner } = p.op(*x) {
                    // Axis i is axis perm[i] of the inner result, which is axis inner[perm[i]] of its operand.
                    let op = Op::Transpose { x: *from, perm: perm.iter().map(|&axis| inner[axis]).collect() };
                    if !cx.rewrite("transposes joined") {
                        break;
                    }
                    op
                } else {
                    break;
                }
            }
            _ => break,
        };
    }
    if op == original {
        return false;
    }
    p.emit(id, op);
    true
}

fn absorbed(p: &mut Peephole<'_>, id: Id<Value>, into: Id<Value>) -> bool {
    p.absorb(id, into);
    true
}

fn slice(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let Op::Slice { x, starts, steps } = p.remapped(id) else { return false };
    if p.graph().value(x).shape == p.rebuild.old.value(id).shape {
        return cx.rewrite("slices dropped") && absorbed(p, id, x);
    }
    let Op::Slice { x, starts: inner_starts, steps: inner_steps } = p.op(x).clone() else { return false };
    if !cx.rewrite("slices joined") {
        return false;
    }
    // Element i is element start + i·step of the inner result.
    let starts = (0..starts.len()).map(|axis| inner_starts[axis] + starts[axis] * inner_steps[axis]).collect();
    let steps = steps.iter().zip(&inner_steps).map(|(a, b)| a * b).collect();
    p.emit(id, Op::Slice { x, starts, steps });
    true
}

fn pad(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let Op::Pad { x, before, after } = p.remapped(id) else { return false };
    if before.iter().chain(&after).all(|&n| n == 0) {
        return cx.rewrite("pads dropped") && absorbed(p, id, x);
    }
    let Op::Pad { x, before: inner_before, after: inner_after } = p.op(x).clone() else { return false };
    if !cx.rewrite("pads joined") {
        return false;
    }
    let sum = |a: &[usize], b: &[usize]| a.iter().zip(b).map(|(a, b)| a + b).collect();
    p.emit(id, Op::Pad { x, before: sum(&before, &inner_before), after: sum(&after, &inner_after) });
    true
}

/// conv(pad(x)) == conv(x) with more pads, and the same for pools, whose pads count as elements.
fn window(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let op = p.remapped(id);
    let (Op::Conv { x, .. } | Op::SumPool { x, .. } | Op::AvgPool { x, .. }) = &op else { return false };
    let x = *x;
    let Op::Pad { x: from, before, after } = p.op(x).clone() else { return false };
    let place = p.rebuild.old.place(id);
    if before[1] + after[1] > 0 {
        cx.remark(format!("{place} does not take the zeros in front of it: they pad channels"));
        return false;
    }
    if !p.is_sole(x) {
        cx.remark(format!("{place} does not take the zeros in front of it: the padded value is read twice"));
        return false;
    }
    if !cx.rewrite("pads into windows") {
        return false;
    }
    let more = [before[2], before[3], after[2], after[3]];
    let sum = |pads: [usize; 4]| std::array::from_fn(|i| pads[i] + more[i]);
    let op = match op {
        Op::Conv { w, geometry, .. } => {
            Op::Conv { x: from, w, geometry: ConvGeometry { pads: sum(geometry.pads), ..geometry } }
        }
        Op::SumPool { geometry, .. } => {
            Op::SumPool { x: from, geometry: PoolGeometry { pads: sum(geometry.pads), ..geometry } }
        }
        Op::AvgPool { geometry, .. } => {
            Op::AvgPool { x: from, geometry: PoolGeometry { pads: sum(geometry.pads), ..geometry } }
        }
        other => other,
    };
    let origins = p.graph().value(x).from.clone();
    let new = p.emit(id, op);
    p.add_origins(new, &origins);
    true
}

/// One map per chain; nothing linear as a map.
fn map(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let Op::Map { x, shift, chain, resolution } = p.remapped(id) else { return false };
    if let Some(input) = sent_as(p, x, &chain)
        && cx.rewrite("maps to the client")
    {
        let Op::Input { mut pre } = p.op(input).clone() else { unreachable!("found as an input") };
        pre.extend(chain);
        p.set_op(input, Op::Input { pre });
        return absorbed(p, id, x);
    }
    let (mut from, mut links, mut inner) = (x, chain.clone(), None);
    if let Op::Map { x: operand, chain: first, .. } = p.op(x) {
        let (operand, first) = (*operand, first.clone());
        if !p.is_sole(x) {
            let place = p.rebuild.old.place(id);
            cx.remark(format!("{place} is not joined with the map in front of it: that is read twice"));
        } else if cx.rewrite("maps joined") {
            // f(g(x)) == (g | f)(x)
            links.splice(0..0, first);
            (from, inner) = (operand, Some(x));
        }
    }
    let links = chain::simplify(links, cx);
    let linear = links.iter().all(|link| matches!(link, Func::Mul(_) | Func::Add(_)));
    if links.is_empty() {
        return cx.rewrite("maps dropped") && absorbed(p, id, from);
    }
    if links == chain && inner.is_none() && !linear {
        return false;
    }
    let origins = inner.map(|n| p.graph().value(n).from.clone()).unwrap_or_default();
    let new = if linear && cx.rewrite("maps made linear") {
        linear_ops(p, id, from, &links)
    } else {
        p.emit(id, Op::Map { x: from, shift, chain: links, resolution })
    };
    p.add_origins(new, &origins);
    true
}

/// The input that the client can send behind the chain in place of what it is: nobody else sees it in front of the chain,
/// and what lies between only moves elements (which a chain with one constant for all does not notice).
fn sent_as(p: &Peephole<'_>, mut x: Id<Value>, chain: &[Func]) -> Option<Id<Value>> {
    let uniform = chain.iter().filter_map(Func::constant).all(|c| p.entries(c).len() == 1);
    while p.is_sole(x) {
        match p.op(x) {
            Op::Input { .. } => return Some(x),
            Op::Reshape { x: from } | Op::Transpose { x: from, .. } if uniform => x = *from,
            _ => return None,
        }
    }
    None
}

/// A chain of factors and summands as `mul-clear` and `add-clear`: no table at all.
fn linear_ops(p: &mut Peephole<'_>, id: Id<Value>, mut x: Id<Value>, links: &[Func]) -> Id<Value> {
    let value = p.rebuild.old.value(id);
    for (i, link) in links.iter().enumerate() {
        let op = match link {
            Func::Mul(c) => Op::MulClear { x, c: *c },
            Func::Add(c) => Op::AddClear { x, c: *c },
            other => unreachable!("`{}` is not linear", other.keyword()),
        };
        x = if i + 1 == links.len() {
            p.emit(id, op)
        } else {
            p.push(id, &format!("{}.{}", value.name, op.keyword()), &value.shape, op)
        };
    }
    x
}
