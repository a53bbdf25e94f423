//! `b + relu(a − b)`: the greater of two values, whose interval no plain interval arithmetic finds.

use crate::eval::map_entry;
use crate::func::Func;
use crate::graph::{Graph, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::op::Op;
use crate::table::Reader;

/// Widest difference whose integers are tried one by one: by evaluating a map, by reading a table.
const WIDEST: [u64; 2] = [1 << 13, 1 << 18];

/// Where `a + b` is `q + f(p − q)` with a table or map `f` between 0 and `max(d, 0)` on all differences `d`: the
/// interval of the sum per channel, which is never above that of `max(p, q)`.
pub(crate) fn interval_of_sum(graph: &Graph, a: Id<Value>, b: Id<Value>) -> Option<Vec<Interval>> {
    let found = |f: Id<Value>, q: Id<Value>| {
        let (lookup, difference, factor) = difference(graph, f)?;
        let Op::Sub { a: p, b: other } = graph.value(difference).op else { return None };
        if other != q {
            return None;
        }
        let channel = |c: usize| {
            let (p, q) = (graph.value(p).channel_interval(c)?, graph.value(q).channel_interval(c)?);
            let differences = p.checked_sub(q)?;
            let widest = WIDEST[usize::from(!matches!(lookup.op, Op::Map { .. }))];
            let within = |d: i64| (0..=d.max(0)).contains(&read(graph, lookup, difference, factor, c, d));
            let bounded = is_relu(graph, lookup, difference, c)
                || (differences.width() <= widest && (differences.lo..=differences.hi).all(within));
            bounded.then_some(Interval { lo: q.lo, hi: p.hi.max(q.hi) })
        };
        (0..graph.value(f).channels()).map(channel).collect()
    };
    found(a, b).or_else(|| found(b, a))
}

/// Whether a map is `max(d, 0)` by its very chain, cut above at most: its result has the operand's scale.
fn is_relu(graph: &Graph, lookup: &Value, difference: Id<Value>, channel: usize) -> bool {
    let scale = graph.value(difference).channel_scale(channel);
    match &lookup.op {
        Op::Map { shift: None, chain, .. } => {
            chain[..] == [Func::Relu]
                && scale.is_some()
                && scale == lookup.channel_scale(channel)
                && lookup.interval().is_some_and(|to| to.lo == 0)
        }
        _ => false,
    }
}

/// The value with the lookup `f`, the value that it reads, and the factor and keyswitch in between.
fn difference(graph: &Graph, f: Id<Value>) -> Option<(&Value, Id<Value>, i64)> {
    let lookup = graph.value(f);
    let mut x = match lookup.op {
        Op::Map { x, .. } | Op::Lut { x, .. } | Op::Pbs { x, .. } => x,
        _ => return None,
    };
    while let Op::Keyswitch { x: from, .. } = graph.value(x).op {
        x = from;
    }
    match graph.value(x).op {
        Op::MulClear { x, c } if !matches!(lookup.op, Op::Map { .. }) => match graph.ints(c).as_slice() {
            Some([factor]) => Some((lookup, x, *factor)),
            _ => None,
        },
        _ => Some((lookup, x, 1)),
    }
}

/// What the lookup gives for a difference `d`.
fn read(graph: &Graph, lookup: &Value, difference: Id<Value>, factor: i64, channel: usize, d: i64) -> i64 {
    match &lookup.op {
        Op::Map { .. } => map_entry(graph, lookup, graph.value(difference), channel, d),
        Op::Lut { table, domain, read, .. } | Op::Pbs { table, domain, read, .. } => {
            let table = graph.table(*table);
            let (width, boxes) = (domain.width, table.boxes() as u64);
            let reader = Reader { width, boxes, span: width, centred: read.is_centred() };
            let row = table.row(channel);
            let offset = d.saturating_mul(factor).saturating_sub(domain.channel(channel).lo);
            // Beyond the domain it depends on the half torus: not bounded here.
            if !(0..domain.width as i64).contains(&offset) {
                return i64::MIN;
            }
            row.as_slice().map_or(i64::MIN, |row| reader.read(row, offset))
        }
        _ => i64::MIN,
    }
}
