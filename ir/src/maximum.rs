//! `b + relu(a − b)`: the greater of two values, whose interval no plain interval arithmetic finds.

use crate::eval::map_entry;
use crate::func::Func;
use crate::graph::{Const, Graph, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::op::Op;
use crate::rounding::{cleared, switched};
use crate::table::Reader;

/// Widest difference whose integers are tried one by one: by evaluating a map, by reading a table.
const WIDEST: [u64; 2] = [1 << 13, 1 << 18];

/// Where `a + b` is `q + f(p − q)` with a table or map `f` between 0 and `max(d, 0)` on all differences `d`: the
/// interval of the sum per channel, which is never above that of `max(p, q)`.
pub(crate) fn interval_of_sum(graph: &Graph, a: Id<Value>, b: Id<Value>) -> Option<Vec<Interval>> {
    let found = |f: Id<Value>, q: Id<Value>| {
        let path = Path::to(graph, f)?;
        let Op::Sub { a: p, b: other } = graph.value(path.difference).op else { return None };
        if other != q {
            return None;
        }
        let channel = |c: usize| {
            let (p, q) = (graph.value(p).channel_interval(c)?, graph.value(q).channel_interval(c)?);
            let differences = p.checked_sub(q)?;
            let widest = WIDEST[usize::from(!matches!(path.lookup.op, Op::Map { .. }))];
            let within = |d: i64| (0..=d.max(0)).contains(&path.read(graph, c, d));
            let bounded = is_relu(graph, path.lookup, path.difference, c)
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

/// What lies between a difference and what a lookup makes of it.
struct Path<'g> {
    lookup: &'g Value,
    difference: Id<Value>,
    /// Added to the difference first.
    summand: Option<Id<Const>>,
    /// Lowest bits that are then cleared.
    cleared: u32,
    /// By which the rest is multiplied in front of the table.
    factor: i64,
}

impl<'g> Path<'g> {
    /// The path that ends with the lookup `f`; keyswitches are looked through.
    fn to(graph: &'g Graph, f: Id<Value>) -> Option<Self> {
        let lookup = graph.value(f);
        let mut path = match lookup.op {
            Op::Map { x, .. } => return Some(Self { lookup, difference: x, summand: None, cleared: 0, factor: 1 }),
            Op::Lut { x, .. } | Op::Pbs { x, .. } => {
                Self { lookup, difference: x, summand: None, cleared: 0, factor: 1 }
            }
            _ => return None,
        };
        path.difference = switched(graph, path.difference);
        if let Op::MulClear { x, c } = graph.value(path.difference).op {
            let &[factor] = graph.ints(c).as_slice()? else { return None };
            (path.difference, path.factor) = (x, factor);
        }
        while let Op::Sub { a, b } = graph.value(path.difference).op
            && let Some(bit) = cleared(graph, a, b)
        {
            // The first bit met is the highest that is cleared.
            path.cleared = path.cleared.max(bit + 1);
            path.difference = switched(graph, a);
        }
        if let Op::AddClear { x, c } = graph.value(path.difference).op
            && path.cleared > 0
        {
            (path.difference, path.summand) = (x, Some(c));
        }
        Some(path)
    }

    /// What the lookup gives for a difference `d`.
    fn read(&self, graph: &Graph, channel: usize, d: i64) -> i64 {
        match &self.lookup.op {
            Op::Map { .. } => map_entry(graph, self.lookup, graph.value(self.difference), channel, d),
            Op::Lut { table, domain, read, .. } | Op::Pbs { table, domain, read, .. } => {
                let table = graph.table(*table);
                let (width, boxes) = (domain.width, table.boxes() as u64);
                let reader = Reader { width, boxes, span: width, centred: read.is_centred() };
                let row = table.row(channel);
                let summand = self.summand.map_or(0, |c| {
                    let c = graph.ints(c);
                    c[[if c.len() == 1 { 0 } else { channel }].as_slice()]
                });
                let rounded = d.saturating_add(summand) >> self.cleared << self.cleared;
                let offset = rounded.saturating_mul(self.factor).saturating_sub(domain.channel(channel).lo);
                // Beyond the domain it depends on the half torus: not bounded here.
                if !(0..domain.width as i64).contains(&offset) {
                    return i64::MIN;
                }
                row.as_slice().map_or(i64::MIN, |row| reader.read(row, offset))
            }
            _ => i64::MIN,
        }
    }
}
