//! `a − bit(a)`: a value without its lowest bit, whose interval no plain interval arithmetic finds.

use crate::graph::{Graph, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::op::Op;
use crate::table::Read;

/// Where `a − b` clears the lowest bit that `a` can have: the interval per channel, whose ends have it cleared too.
pub(crate) fn interval_of_difference(graph: &Graph, a: Id<Value>, b: Id<Value>) -> Option<Vec<Interval>> {
    let step = 1i64 << (cleared(graph, a, b)? + 1);
    let value = graph.value(a);
    let floor = |x: i64| x.div_euclid(step) * step;
    let channel = |c: usize| {
        let i = value.channel_interval(c)?;
        Interval::new(floor(i.lo), floor(i.hi))
    };
    (0..value.channels()).map(channel).collect()
}

/// `i` where `b` is bit `i` of `a`, in its place, and all lower bits of `a` have been cleared before.
pub(crate) fn cleared(graph: &Graph, a: Id<Value>, b: Id<Value>) -> Option<u32> {
    let (Op::Lut { x, table, domain, read: Read::Bit } | Op::Pbs { x, table, domain, read: Read::Bit, .. }) =
        &graph.value(switched(graph, b)).op
    else {
        return None;
    };
    let Op::MulClear { x, c } = graph.value(switched(graph, *x)).op else { return None };
    let a = switched(graph, a);
    let &[factor] = graph.ints(c).as_slice()? else { return None };
    let entries = &graph.table(*table).entries;
    let &[0, unit] = entries.as_slice()? else { return None };
    // A multiple of `unit` is moved to as many half turns: odd multiples read the second entry.
    let moves = unit.checked_mul(factor).and_then(|span| u64::try_from(span).ok()) == Some(domain.width);
    if switched(graph, x) != a
        || domain.lo.iter().any(|&lo| lo != 0)
        || !moves
        || !u64::try_from(unit).ok()?.is_power_of_two()
    {
        return None;
    }
    let bit = unit.ilog2();
    match graph.value(a).op {
        _ if bit == 0 => Some(bit),
        Op::Sub { a, b } if cleared(graph, a, b)? + 1 == bit => Some(bit),
        _ => None,
    }
}

/// What keyswitches switch: the same integers.
pub(crate) fn switched(graph: &Graph, mut x: Id<Value>) -> Id<Value> {
    while let Op::Keyswitch { x: from, .. } = graph.value(x).op {
        x = from;
    }
    x
}
