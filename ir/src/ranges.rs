//! Interval arithmetic of the ops: what range analysis computes and the verifier checks.

use crate::graph::{Graph, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::maximum;
use crate::op::Op;
use crate::rounding;

/// Proven interval per channel of the value that `op` makes (of shape `shape`), from the real integer weights and
/// the operands' intervals. `None` for ops whose type is a statement of its own (`input`, `map`).
///
/// Errors when an interval leaves [`Interval::LIMIT`], or when an operand has no interval yet.
pub fn infer(graph: &Graph, op: &Op, shape: &[usize]) -> Result<Option<Vec<Interval>>, String> {
    let channels = shape.get(1).copied().unwrap_or(1);
    let of = |id: Id<Value>| -> Result<Vec<Interval>, String> {
        let value = graph.value(id);
        (0..value.channels())
            .map(|c| value.channel_interval(c).ok_or_else(|| format!("%{} has no interval yet", value.name)))
            .collect()
    };
    let too_wide = || format!("the interval leaves ±2^{}", Interval::LIMIT.ilog2());
    let zero = Interval::point(0);
    let intervals = match op {
        Op::Input { .. }
        | Op::Map { .. }
        | Op::AvgPool { .. }
        | Op::MaxPool { .. }
        | Op::BatchNorm { .. }
        | Op::Mul { .. } => {
            return Ok(None);
        }
        Op::Dot { x, w } => {
            let x = of(*x)?;
            let w = graph.ints(*w).clone();
            let w = w.as_standard_layout();
            let w = w.as_slice().expect("row-major");
            w.chunks(x.len()).map(|row| weighted_sum(row.iter().zip(&x))).collect::<Option<_>>().ok_or_else(too_wide)?
        }
        Op::Conv { x, w, geometry } => {
            let mut x = of(*x)?;
            if geometry.pads != [0; 4] {
                x.iter_mut().for_each(|i| *i = i.hull(zero));
            }
            let w = graph.ints(*w).clone();
            let (outs, per_group) = (w.shape()[0], w.shape()[1]);
            let taps = w.shape()[2] * w.shape()[3];
            let w = w.as_standard_layout();
            let w = w.as_slice().expect("row-major");
            w.chunks(per_group * taps)
                .enumerate()
                .map(|(o, row)| {
                    let first = o / (outs / geometry.groups) * per_group;
                    weighted_sum(row.iter().enumerate().map(|(i, w)| (w, &x[first + i / taps])))
                })
                .collect::<Option<_>>()
                .ok_or_else(too_wide)?
        }
        Op::SumPool { x, geometry } => {
            let area = i64::try_from(geometry.area()).map_err(|_| too_wide())?;
            let padded = geometry.pads != [0; 4];
            let each = |i: Interval| i.checked_scale(area).map(|s| if padded { s.hull(zero) } else { s });
            of(*x)?.into_iter().map(each).collect::<Option<_>>().ok_or_else(too_wide)?
        }
        Op::AddClear { x, c } | Op::MulClear { x, c } => {
            let c = graph.ints(*c);
            let entry = |channel: usize| c[[if c.len() == 1 { 0 } else { channel }].as_slice()];
            let each = |(channel, i): (usize, Interval)| match op {
                Op::AddClear { .. } => i.checked_add(Interval::new(entry(channel), entry(channel))?),
                _ => i.checked_scale(entry(channel)),
            };
            of(*x)?.into_iter().enumerate().map(each).collect::<Option<_>>().ok_or_else(too_wide)?
        }
        Op::Add { a, b } | Op::Sub { a, b } => {
            if let (Op::Add { .. }, Some(greater)) = (op, maximum::interval_of_sum(graph, *a, *b)) {
                return Ok(Some(greater));
            }
            if let (Op::Sub { .. }, Some(rounded)) = (op, rounding::interval_of_difference(graph, *a, *b)) {
                return Ok(Some(rounded));
            }
            let each = |(a, b): (Interval, Interval)| match op {
                Op::Add { .. } => a.checked_add(b),
                _ => a.checked_sub(b),
            };
            of(*a)?.into_iter().zip(of(*b)?).map(each).collect::<Option<_>>().ok_or_else(too_wide)?
        }
        Op::Neg { x } => {
            of(*x)?.into_iter().map(|i| i.checked_scale(-1)).collect::<Option<_>>().ok_or_else(too_wide)?
        }
        Op::Concat { xs, axis: 1 } => xs.iter().map(|x| of(*x)).collect::<Result<Vec<_>, _>>()?.concat(),
        Op::Concat { xs, .. } => {
            let all = xs.iter().map(|x| of(*x)).collect::<Result<Vec<_>, _>>()?;
            let hull = |c: usize| all.iter().map(|x| x[c]).reduce(Interval::hull).expect("at least one operand");
            (0..channels).map(hull).collect()
        }
        Op::Gather { x, axis: 1, indices } => {
            let x = of(*x)?;
            indices.iter().map(|&i| x[i]).collect()
        }
        Op::Gather { x, .. } => of(*x)?,
        Op::Slice { x, starts, steps } => {
            let x = of(*x)?;
            (0..channels).map(|c| x[if shape.len() > 1 { starts[1] + c * steps[1] } else { 0 }]).collect()
        }
        Op::Pad { x, before, after } => {
            let x = of(*x)?;
            let spatial = (2..shape.len()).any(|axis| before[axis] + after[axis] > 0);
            let inside = |c: usize| c.checked_sub(before[1]).and_then(|c| x.get(c));
            (0..channels).map(|c| inside(c).map_or(zero, |i| if spatial { i.hull(zero) } else { *i })).collect()
        }
        Op::Reshape { x } => {
            let from = of(*x)?;
            let value = graph.value(*x);
            let map = |c: usize| channels_of_reshape(value, shape, c);
            (0..channels).map(|c| map(c).map(|i| from[i]).reduce(Interval::hull).expect("axes are not empty")).collect()
        }
        Op::Transpose { x, perm } => {
            let from = of(*x)?;
            if perm.get(1).is_none_or(|&p| p == 1) {
                from
            } else {
                vec![from.into_iter().reduce(Interval::hull).expect("axes are not empty"); channels]
            }
        }
        Op::Lut { x, table, domain, .. } | Op::Pbs { x, table, domain, .. } => {
            let x = of(*x)?;
            let table = graph.table(*table);
            (0..channels)
                .map(|c| {
                    let image = table.image(c);
                    // Past the half torus a table reads first + last − entry.
                    let row = table.row(c);
                    let ends = row[0].checked_add(row[row.len() - 1])?;
                    let reflected = Interval::new(ends.checked_sub(image.hi)?, ends.checked_sub(image.lo)?)?;
                    Some(if domain.channel(c).covers(x[c]) { image } else { image.hull(reflected) })
                })
                .collect::<Option<_>>()
                .ok_or_else(too_wide)?
        }
        Op::Keyswitch { x, .. } => of(*x)?,
    };
    Ok(Some(intervals))
}

/// Channels of the operand that feed channel `c` of a reshape to `shape`.
pub fn channels_of_reshape(operand: &Value, shape: &[usize], c: usize) -> std::ops::RangeInclusive<usize> {
    let inner = |s: &[usize]| s.iter().skip(2).product::<usize>().max(1);
    let (from, to) = (inner(&operand.shape), inner(shape));
    c * to / from..=((c + 1) * to - 1) / from
}

/// The sum of the products; `None` when some of the products, summed in any order, can leave [`Interval::LIMIT`].
fn weighted_sum<'a>(terms: impl Iterator<Item = (&'a i64, &'a Interval)>) -> Option<Interval> {
    let mut sum = Interval::point(0);
    // Evaluators add in an order of their own, and every partial sum has to be exact.
    let mut partial = sum;
    for (&w, &x) in terms {
        if w != 0 {
            let product = x.checked_scale(w)?;
            sum = sum.checked_add(product)?;
            partial = partial.checked_add(product.hull(Interval::point(0)))?;
        }
    }
    Some(sum)
}

/// The hull of a list of intervals.
pub fn hull(intervals: &[Interval]) -> Option<Interval> {
    intervals.iter().copied().reduce(Interval::hull)
}
