//! merge-tables: what is computed of table results alone, over one operand, is one table.
//!
//! `f(x) + g(x)` is `(f + g)(x)`, row by row, and `c·f(x) + k` is a table too. An activation with several thresholds is
//! often written as a sum of steps; it costs one lookup. Outside its domain a table continues as `first + last − T`,
//! which is linear in `T`: the identities hold there as well.

use std::sync::Arc;

use fhe_ir::{Domain, Facts, Graph, Id, Interval, Op, Phase, Read, Rebuild, Table, Value};
use ndarray::Array2;

use crate::pass::{Pass, PassCx, PassError, Place};
use crate::peephole::merge_origins;
use crate::range_analysis::with_proven_range;

/// See the module.
pub struct MergeTables;

impl Pass for MergeTables {
    fn name(&self) -> &'static str {
        "merge-tables"
    }

    fn summary(&self) -> &'static str {
        "add tables over one operand, and put clear factors and summands behind a table into it"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Tabled, Phase::Tabled)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let sole = sole_readers(&graph);
        let mut new = Rebuild::new(&graph);
        for (id, old) in graph.iter() {
            let mut value = Value { op: new.remap(&old.op), ..old.clone() };
            if let Some((name, x, entries)) = merged(&graph, &new, old, &sole)
                && cx.rewrite(name)
            {
                let operands = value.op.operands();
                operands.iter().for_each(|o| merge_origins(&mut value, &new.new.value(*o).from));
                let table = new.new.push_table(&format!("{}.t", old.name), Arc::new(entries));
                value.op = Op::Lut { x: x.value, table, domain: x.domain, read: x.read };
                value.facts = Facts { range: None, ..value.facts };
                value = with_proven_range(&new.new, value)
                    .map_err(|reason| PassError::AccumulatorTooWide { place: Place::new(&graph, id), reason })?;
            }
            new.replace(id, value);
        }
        Ok(new.finish(Phase::Tabled))
    }
}

/// For each value: whether one other value alone sees it.
fn sole_readers(graph: &Graph) -> Vec<bool> {
    let mut users = graph.users();
    // `x + x` reads x once.
    users.iter_mut().for_each(Vec::dedup);
    graph.iter().map(|(id, _)| users[id.index()].len() == 1 && !graph.is_output(id)).collect()
}

/// What a table reads, and how.
#[derive(Clone, PartialEq)]
struct Lookup {
    value: Id<Value>,
    domain: Domain,
    read: Read,
}

/// The table that gives the old value `old` at once: the counter, what it reads, its entries.
fn merged(graph: &Graph, new: &Rebuild<'_>, old: &Value, sole: &[bool]) -> Option<(&'static str, Lookup, Array2<i64>)> {
    let table = |id: &Id<Value>| -> Option<(Lookup, &Table)> {
        match &new.new.value(new.get(*id)).op {
            Op::Lut { x, table, domain, read } if sole[id.index()] => {
                Some((Lookup { value: *x, domain: domain.clone(), read: *read }, new.new.table(*table)))
            }
            _ => None,
        }
    };
    let channels = |c| graph.constant(c).data.len();
    let entry = |c, channel| graph.ints(c).as_slice().map(|s| s[if s.len() == 1 { 0 } else { channel }]);
    Some(match &old.op {
        // f(x) ± g(x) == (f ± g)(x)
        Op::Add { a, b } | Op::Sub { a, b } => {
            let ((x, f), (y, g)) = (table(a)?, table(b)?);
            let sign = if matches!(old.op, Op::Add { .. }) { 1 } else { -1 };
            let rows = f.entries.nrows().max(g.entries.nrows());
            let sum = |row, at| f.row(row)[at].checked_add(i64::checked_mul(sign, g.row(row)[at])?);
            if x != y {
                return None;
            }
            ("tables of one operand added", x, filled(rows, f.boxes(), sum)?)
        }
        // c·f(x) == (c·f)(x); without a factor nothing is left to look up
        Op::MulClear { x, c } => {
            let (x, f) = table(x)?;
            if (0..channels(*c)).all(|channel| entry(*c, channel) == Some(0)) {
                return None;
            }
            let rows = f.entries.nrows().max(channels(*c));
            (
                "factors put into a table",
                x,
                filled(rows, f.boxes(), |row, at| entry(*c, row)?.checked_mul(f.row(row)[at]))?,
            )
        }
        // f(x) + c == (f + c)(x)
        Op::AddClear { x, c } => {
            let (x, f) = table(x)?;
            let rows = f.entries.nrows().max(channels(*c));
            (
                "summands put into a table",
                x,
                filled(rows, f.boxes(), |row, at| entry(*c, row)?.checked_add(f.row(row)[at]))?,
            )
        }
        Op::Neg { x } => {
            let (x, f) = table(x)?;
            (
                "factors put into a table",
                x,
                filled(f.entries.nrows(), f.boxes(), |row, at| f.row(row)[at].checked_neg())?,
            )
        }
        _ => return None,
    })
}

/// The array of those entries, when all of them exist and are integers of the language.
fn filled(rows: usize, boxes: usize, entry: impl Fn(usize, usize) -> Option<i64>) -> Option<Array2<i64>> {
    let mut entries = Array2::zeros((rows, boxes));
    for ((row, at), e) in entries.indexed_iter_mut() {
        *e = entry(row, at).filter(|e| e.abs() <= Interval::LIMIT)?;
    }
    Some(entries)
}
