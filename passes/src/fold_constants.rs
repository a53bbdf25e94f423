//! `fold-constants`: clear factors and summands meet, and disappear in weights and in chains of maps.
//!
//! Every rule carries its identity. A rule that changes what makes a value applies only when one reader sees it;
//! nothing is computed twice.

use fhe_ir::{Const, Func, Graph, Id, Op, Phase, Value};

use crate::layers::{Layer, behind, product, response, scale_inputs};
use crate::pass::{Pass, PassCx, PassError};
use crate::peephole::{Peephole, vector, zip};

/// See the module.
pub struct FoldConstants;

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        "fold-constants"
    }

    fn summary(&self) -> &'static str {
        "folds clear factors, summands and negations into weights and maps"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut p = Peephole::new(&graph);
        for (id, value) in graph.iter() {
            let done = match &value.op {
                Op::AddClear { .. } => add_clear(&mut p, cx, id),
                Op::MulClear { .. } | Op::Neg { .. } => mul_clear(&mut p, cx, id),
                Op::Add { .. } | Op::Sub { .. } => add_sub(&mut p, cx, id),
                Op::Dot { .. } | Op::Conv { .. } => layer(&mut p, cx, id),
                Op::Map { .. } => map(&mut p, cx, id),
                Op::Input { .. }
                | Op::SumPool { .. }
                | Op::AvgPool { .. }
                | Op::MaxPool { .. }
                | Op::BatchNorm { .. }
                | Op::Mul { .. }
                | Op::Concat { .. }
                | Op::Gather { .. }
                | Op::Slice { .. }
                | Op::Pad { .. }
                | Op::Reshape { .. }
                | Op::Transpose { .. }
                | Op::Lut { .. }
                | Op::Keyswitch { .. }
                | Op::Pbs { .. } => false,
            };
            if !done {
                p.keep(id);
            }
        }
        Ok(p.finish())
    }
}

/// The factor of a `mul-clear` or `neg`, with its operand.
fn factor(p: &Peephole<'_>, op: &Op) -> Option<(Id<Value>, Vec<f64>)> {
    match op {
        Op::MulClear { x, c } => Some((*x, p.entries(*c))),
        Op::Neg { x } => Some((*x, vec![-1.0])),
        _ => None,
    }
}

fn all(entries: &[f64], wanted: f64) -> bool {
    entries.iter().all(|&e| e == wanted)
}

fn add_clear(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let Op::AddClear { x: n, c } = p.remapped(id) else { return false };
    let summand = p.entries(c);
    if all(&summand, 0.0) {
        // x + 0 == x
        return cx.rewrite("added zero") && absorbed(p, id, n);
    }
    if !p.is_sole(n) {
        return false;
    }
    match p.op(n).clone() {
        // (x + a) + b == x + (a + b)
        Op::AddClear { x, c: inner } => {
            if !cx.rewrite("summands added") {
                return false;
            }
            let sum = zip(&p.entries(inner), &summand, |a, b| a + b);
            let c = p.with_numbers(inner, vector(&sum));
            p.set_op(n, Op::AddClear { x, c });
            absorbed(p, id, n)
        }
        // f(x) + c == (f | + c)(x)
        Op::Map { x, shift, mut chain, resolution } => {
            if !cx.rewrite("summand into map") {
                return false;
            }
            chain.push(Func::Add(c));
            let chain = folded_chain(p, cx, chain);
            p.set_op(n, Op::Map { x, shift, chain, resolution });
            absorbed(p, id, n)
        }
        _ => false,
    }
}

fn mul_clear(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let op = p.remapped(id);
    let Some((n, f)) = factor(p, &op) else { return false };
    if all(&f, 1.0) {
        // x·1 == x
        return cx.rewrite("multiplied by one") && absorbed(p, id, n);
    }
    if let Ok(found) = behind(p, n) {
        // (w·x + b)·f == (f·w)·x + b·f
        if !cx.rewrite("factor into weights") {
            return false;
        }
        let (n, _) = found.scale(p, &f, &[0.0]);
        return absorbed(p, id, n);
    }
    if !p.is_sole(n) {
        if Layer::of(p.op(n)).is_some() {
            let place = p.rebuild.old.place(id);
            cx.remark(format!("{place} is not folded into weights: its input is read twice"));
        }
        return false;
    }
    let inner = p.op(n).clone();
    match inner {
        // (x·a)·b == x·(a·b)
        Op::MulClear { .. } | Op::Neg { .. } => {
            let Some((x, a)) = factor(p, &inner) else { return false };
            if !cx.rewrite("factors multiplied") {
                return false;
            }
            let f = zip(&a, &f, |a, b| a * b);
            if all(&f, 1.0) {
                // The reader of `n` is gone: its operand has the readers of this value instead.
                return absorbed(p, id, x);
            }
            let name = format!("{}.factor", p.rebuild.old.value(id).name);
            let c = p.constant(&name, &f);
            p.set_op(n, Op::MulClear { x, c });
            absorbed(p, id, n)
        }
        // (x·a + b)·f == x·(a·f) + b·f
        Op::AddClear { x: m, c: b } if p.is_sole(m) => {
            let Op::MulClear { x, c: a } = *p.op(m) else { return false };
            if !cx.rewrite("factors multiplied") {
                return false;
            }
            let product = zip(&p.entries(a), &f, |a, f| a * f);
            let c = p.with_numbers(a, vector(&product));
            p.set_op(m, Op::MulClear { x, c });
            let summand = zip(&p.entries(b), &f, |b, f| b * f);
            let c = p.with_numbers(b, vector(&summand));
            p.set_op(n, Op::AddClear { x: m, c });
            absorbed(p, id, n)
        }
        // f(x)·c == (f | ·c)(x)
        Op::Map { x, shift, mut chain, resolution } => {
            if !cx.rewrite("factor into map") {
                return false;
            }
            let name = format!("{}.factor", p.rebuild.old.value(id).name);
            let c = if let Op::MulClear { c, .. } = op { c } else { p.constant(&name, &f) };
            chain.push(Func::Mul(c));
            let chain = folded_chain(p, cx, chain);
            p.set_op(n, Op::Map { x, shift, chain, resolution });
            absorbed(p, id, n)
        }
        _ => false,
    }
}

fn absorbed(p: &mut Peephole<'_>, id: Id<Value>, into: Id<Value>) -> bool {
    p.absorb(id, into);
    true
}

/// `a + (−b) == a − b` and `a − (−b) == a + b`.
fn add_sub(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let op = p.remapped(id);
    let (Op::Add { a, b } | Op::Sub { a, b }) = op else { return false };
    let inside = |n: Id<Value>| match p.op(n) {
        Op::Neg { x } if p.is_sole(n) => Some(*x),
        _ => None,
    };
    let new = match (&op, inside(a), inside(b)) {
        (Op::Add { .. }, _, Some(b)) => Op::Sub { a, b },
        (Op::Add { .. }, Some(a), None) => Op::Sub { a: b, b: a },
        (Op::Sub { .. }, _, Some(b)) => Op::Add { a, b },
        _ => return false,
    };
    if !cx.rewrite("negations into sums") {
        return false;
    }
    p.emit(id, new);
    true
}

/// Folds what is in front of a layer into it: factors, negations, summands, and a smaller product of two layers.
fn layer(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let op = p.remapped(id);
    let Some(Layer { mut x, mut w, groups, padded }) = Layer::of(&op) else { return false };
    let mut bias: Option<Vec<f64>> = None;
    let mut absorbed = vec![];
    let mut changed = false;
    while p.is_sole(x) {
        let inner = p.op(x).clone();
        let exact = |p: &Peephole<'_>, w: Id<Const>| p.graph().is_exact(w);
        let numbers = p.graph().weights(w);
        match &inner {
            // w·(x·f) == (w·f)·x
            Op::MulClear { .. } | Op::Neg { .. } if exact(p, w) => break,
            Op::MulClear { .. } | Op::Neg { .. } => {
                let Some((from, f)) = factor(p, &inner) else { break };
                if !cx.rewrite("factor into weights") {
                    break;
                }
                w = p.with_numbers(w, scale_inputs(&numbers, &f, groups));
                absorbed.push(x);
                x = from;
            }
            // w·(x + c) == w·x + w·c, when every window stays inside.
            Op::AddClear { x: from, c } => {
                if padded {
                    let place = p.rebuild.old.place(id);
                    cx.remark(format!("{place} does not take the summand in front of it: its pads are zeros"));
                    break;
                }
                if !cx.rewrite("summand through layer") {
                    break;
                }
                let more = response(&numbers, &p.entries(*c), groups);
                bias = Some(bias.map_or(more.clone(), |b| zip(&b, &more, |a, b| a + b)));
                absorbed.push(x);
                x = *from;
            }
            // v·(w·x) == (v·w)·x
            Op::Dot { x: from, w: inner } if matches!(op, Op::Dot { .. }) => {
                let inner_numbers = p.graph().weights(*inner);
                if exact(p, w)
                    || exact(p, *inner)
                    || numbers.shape()[0] * inner_numbers.shape()[1] > numbers.len() + inner_numbers.len()
                    || !cx.rewrite("layers merged")
                {
                    break;
                }
                w = p.with_numbers(w, product(&numbers, &inner_numbers));
                absorbed.push(x);
                x = *from;
            }
            _ => break,
        }
        changed = true;
    }
    if !changed {
        return false;
    }
    let op = Layer::rewired(&op, x, w);
    let old = p.rebuild.old;
    let new = match bias {
        None => p.emit(id, op),
        Some(bias) => {
            let value = old.value(id);
            let new = p.push(id, &format!("{}.product", value.name), &value.shape, op);
            let c = p.constant(&format!("{}.bias", value.name), &bias);
            p.emit(id, Op::AddClear { x: new, c });
            new
        }
    };
    for from in absorbed {
        let origins = p.graph().value(from).from.clone();
        p.add_origins(new, &origins);
    }
    true
}

/// Whether the network itself states the integers of a value: exact weights or a quantizer, with nothing but moves,
/// pools and constants behind.
fn is_stated(p: &Peephole<'_>, mut n: Id<Value>) -> bool {
    loop {
        match p.op(n) {
            Op::Map { chain, .. } => return chain.iter().any(|link| matches!(link, Func::Quant { .. })),
            Op::Input { pre } => return pre.iter().any(|link| matches!(link, Func::Quant { .. })),
            Op::MulClear { x, .. }
            | Op::AddClear { x, .. }
            | Op::AvgPool { x, .. }
            | Op::SumPool { x, .. }
            | Op::MaxPool { x, .. }
            | Op::Reshape { x }
            | Op::Transpose { x, .. }
            | Op::Slice { x, .. }
            | Op::Gather { x, .. }
            | Op::Pad { x, .. } => n = *x,
            op => return Layer::of(op).is_some_and(|layer| p.graph().is_exact(layer.w)),
        }
    }
}

/// Folds a chain, and the factor (and summand behind it) in front of it into it.
fn map(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let Op::Map { mut x, shift, chain, resolution } = p.remapped(id) else { return false };
    let mut front = vec![];
    let mut absorbed = vec![];
    let over = |p: &Peephole<'_>, n: Id<Value>| {
        p.is_sole(n).then(|| factor(p, p.op(n))).flatten().map(|(from, f)| (n, from, f))
    };
    let (found, summand) = match p.op(x) {
        Op::AddClear { x: n, c } if p.is_sole(x) => (over(p, *n), Some((x, *c))),
        _ => (over(p, x), None),
    };
    // f(x·a + b) == (·a | + b | f)(x)
    if let Some((n, from, f)) = found
        && cx.rewrite("factor into map")
    {
        let name = format!("{}.factor", p.rebuild.old.value(id).name);
        let a = match *p.op(n) {
            Op::MulClear { c, .. } => c,
            _ => p.constant(&name, &f),
        };
        front.push(Func::Mul(a));
        absorbed.push(n);
        if let Some((n, b)) = summand {
            front.push(Func::Add(b));
            absorbed.push(n);
        }
        x = from;
    }
    // f(x + b) == (+b | f)(x): integers that the network states stay so, b need not be one of them.
    if let (true, Op::AddClear { x: n, c }) = (front.is_empty() && p.is_sole(x), p.op(x).clone())
        && is_stated(p, n)
        && cx.rewrite("summand into map")
    {
        front.push(Func::Add(c));
        absorbed.push(x);
        x = n;
    }
    let changed = !front.is_empty();
    front.extend(chain.iter().cloned());
    let folded = folded_chain(p, cx, front);
    if !changed && folded == chain {
        return false;
    }
    let new = p.emit(id, Op::Map { x, shift, chain: folded, resolution });
    for from in absorbed {
        let origins = p.graph().value(from).from.clone();
        p.add_origins(new, &origins);
    }
    true
}

/// Adjacent links that are one: `·a | ·b == ·(a·b)`, `+a | +b == +(a + b)`, `·1` and `+0` are nothing.
fn folded_chain(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, chain: Vec<Func>) -> Vec<Func> {
    let mut folded: Vec<Func> = vec![];
    for link in chain {
        let neutral = match &link {
            Func::Mul(c) => all(&p.entries(*c), 1.0),
            Func::Add(c) => all(&p.entries(*c), 0.0),
            _ => false,
        };
        if neutral && cx.rewrite("links dropped") {
            continue;
        }
        let merged = match (folded.last(), &link) {
            (Some(Func::Mul(a)), Func::Mul(b)) => Some((*a, zip(&p.entries(*a), &p.entries(*b), |a, b| a * b))),
            (Some(Func::Add(a)), Func::Add(b)) => Some((*a, zip(&p.entries(*a), &p.entries(*b), |a, b| a + b))),
            _ => None,
        };
        match merged {
            Some((a, entries)) if cx.rewrite("links joined") => {
                let c = p.with_numbers(a, vector(&entries));
                let last = folded.pop();
                folded.push(if matches!(last, Some(Func::Mul(_))) { Func::Mul(c) } else { Func::Add(c) });
            }
            _ => folded.push(link),
        }
    }
    folded
}
