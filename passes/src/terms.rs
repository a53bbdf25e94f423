//! What the widest channel of a linear value is the sum of, and how much each part widens it and adds to its noise.

use fhe_ir::{Graph, Id, Op, Value};
use serde::Serialize;

use crate::growth::Norm2;

/// Terms that are listed by themselves; the others are one.
const LISTED: usize = 3;

/// One summand of the widest channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// The operand, or `others`.
    pub operand: String,
    /// Channel of the operand, where the weights tell channels apart.
    pub channel: Option<usize>,
    /// Its weight of largest magnitude.
    pub weight: Option<i64>,
    /// log2 of the number of integers of that channel of the operand.
    pub bits: Option<f64>,
    /// Part of the width, between 0 and 1.
    pub share_of_width: f64,
    /// Part of the sum of squared weights times the noise of the operand, between 0 and 1.
    pub share_of_noise: f64,
}

/// The first channel of a value that has the most integers.
pub(crate) fn widest_channel(value: &Value) -> usize {
    let width = |c: usize| value.channel_interval(c).map_or(0, |i| i.width());
    (0..value.channels()).max_by_key(|&c| (width(c), std::cmp::Reverse(c))).unwrap_or(0)
}

/// The terms of a channel of a value, the widest first; empty where it is no sum.
pub(crate) fn terms(graph: &Graph, norm2: &[Vec<Norm2>], id: Id<Value>, widest: usize) -> Vec<Term> {
    let value = graph.value(id);
    let term = |x: Id<Value>, channel: usize, told: bool, taps: &mut dyn Iterator<Item = i64>| {
        let operand = graph.value(x);
        let channel = channel.min(operand.channels().saturating_sub(1));
        let interval = operand.channel_interval(channel);
        let (mut weight, mut absolute, mut squares) = (0i64, 0.0, 0.0);
        for tap in taps {
            weight = if tap.unsigned_abs() > weight.unsigned_abs() { tap } else { weight };
            absolute += tap.unsigned_abs() as f64;
            squares += (tap as f64).powi(2);
        }
        let noise = norm2[x.index()].get(channel).copied().unwrap_or_default();
        Term {
            operand: operand.name.clone(),
            channel: told.then_some(channel),
            weight: Some(weight),
            bits: interval.map(|i| i.bits()),
            share_of_width: absolute * interval.map_or(0.0, |i| i.width().saturating_sub(1) as f64),
            // Bootstraps where there are any: encryptions are far quieter.
            share_of_noise: squares * if noise.pbs > 0.0 { noise.pbs } else { noise.input },
        }
    };
    let one = |x: Id<Value>| term(x, widest, false, &mut std::iter::once(1));
    let terms: Vec<Term> = match &value.op {
        Op::Dot { x, w } | Op::Conv { x, w, .. } => {
            let w = graph.ints(*w);
            let groups = if let Op::Conv { geometry, .. } = &value.op { geometry.groups } else { 1 };
            let (outs, inner) = (w.shape()[0], w.shape()[1]);
            let first = widest / (outs / groups.max(1)).max(1) * inner;
            let Some(row) = w.outer_iter().nth(widest) else { return vec![] };
            row.outer_iter().enumerate().map(|(i, taps)| term(*x, first + i, true, &mut taps.iter().copied())).collect()
        }
        Op::SumPool { x, geometry } | Op::AvgPool { x, geometry } => {
            vec![term(*x, widest, true, &mut std::iter::repeat_n(1, geometry.area()))]
        }
        Op::MulClear { x, c } => {
            // Integer constants are exact as f64.
            vec![term(*x, widest, true, &mut std::iter::once(graph.constant(*c).channel(widest) as i64))]
        }
        Op::Add { a, b } | Op::Sub { a, b } => vec![one(*a), one(*b)],
        _ => return vec![],
    };
    shares(terms)
}

/// Numbers become parts of their sums; all but the widest terms become one.
fn shares(mut terms: Vec<Term>) -> Vec<Term> {
    let sum = |of: fn(&Term) -> f64| terms.iter().map(of).sum::<f64>();
    let (width, noise) = (sum(|t| t.share_of_width), sum(|t| t.share_of_noise));
    let part = |number: f64, of: f64| if of > 0.0 { number / of } else { 0.0 };
    for term in &mut terms {
        term.share_of_width = part(term.share_of_width, width);
        term.share_of_noise = part(term.share_of_noise, noise);
    }
    // Stable: equal terms stay in the order of their channels.
    terms.sort_by(|a, b| b.share_of_width.total_cmp(&a.share_of_width));
    if terms.len() > LISTED + 1 {
        let others = terms.split_off(LISTED);
        terms.push(Term {
            operand: format!("{} others", others.len()),
            channel: None,
            weight: None,
            bits: None,
            share_of_width: others.iter().map(|t| t.share_of_width).sum(),
            share_of_noise: others.iter().map(|t| t.share_of_noise).sum(),
        });
    }
    terms
}
