//! fill-domains: an integer factor in front of a table whose domain leaves most of the half torus empty.
//!
//! All values of a linear region share one torus step, which the widest domain decides. A narrower table of the same region
//! would have boxes as small as that step. Multiplied by `g`, its operand fills the half torus: boxes grow by `g`, and so
//! does the noise of earlier bootstraps, but not that of the keyswitch and the modulus switch in between.
//!
//! Where integers lie in the middle of their units the factor is odd, so that the middle of an integer stays the middle of
//! its `g` steps and the table reads the same entry. A table read in full has no such middles; there the region may also
//! become finer as a whole, because tables of all widths share its step, and what a whole factor leaves empty makes noise
//! relatively larger.

use std::collections::HashMap;
use std::sync::Arc;

use fhe_ir::{Data, Domain, Elem, Facts, Graph, Id, Op, Phase, Read, Rebuild, Value};
use ndarray::ArrayD;

use crate::pass::{Pass, PassCx, PassError, Place};
use crate::range_analysis::with_proven_range;
use crate::regions::{Reading, Regions};

/// See the module.
pub struct FillDomains;

impl Pass for FillDomains {
    fn name(&self) -> &'static str {
        "fill-domains"
    }

    fn summary(&self) -> &'static str {
        "multiply what narrow tables read so that it fills the half torus"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Tabled, Phase::Tabled)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let regions = Regions::of(&graph);
        let mut new = Rebuild::new(&graph);
        let mut multiplied = HashMap::new();
        for (id, old) in graph.iter() {
            let Op::Lut { x, table, domain, read } = &old.op else {
                new.copy(id);
                continue;
            };
            let full = *read == Read::Full;
            let finer = if full && uneven(&regions, *x) { cx.options.finer_steps.max(1) } else { 1 };
            let span = regions.span[x.index()].saturating_mul(finer);
            let factor = factor(span, domain.width, read.is_centred() && !full);
            if factor == 1 || !cx.rewrite("tables filled") {
                new.copy(id);
                continue;
            }
            let operand = match multiplied.get(&(*x, factor)) {
                Some(operand) => *operand,
                None => {
                    let of = graph.value(*x);
                    let data = Data::Int(Arc::new(ArrayD::from_elem(vec![1], factor)));
                    let c = new.new.push_const(&format!("{}.fill", of.name), data);
                    let scale = of.facts.scale.as_ref().map(|s| s.iter().map(|s| s / factor as f32).collect());
                    let value = Value {
                        name: format!("{}.filling", of.name),
                        op: Op::MulClear { x: new.get(*x), c },
                        elem: Elem::IntUnknown,
                        facts: Facts { scale, range: None, ..of.facts.clone() },
                        ..of.clone()
                    };
                    let value = with_proven_range(&new.new, value)
                        .map_err(|reason| PassError::AccumulatorTooWide { place: Place::new(&graph, id), reason })?;
                    let operand = new.push(value);
                    multiplied.insert((*x, factor), operand);
                    operand
                }
            };
            let width = domain.width;
            let domain = Domain {
                lo: domain
                    .lo
                    .iter()
                    .map(|lo| lo * factor - if read.is_centred() { (factor - 1) / 2 } else { 0 })
                    .collect(),
                // Positive: the cast is exact.
                width: domain.width * factor as u64,
            };
            // The entries are the same numbers, so the type and the ranges stay.
            let read = match read.boxes(width) {
                _ if full => *read,
                boxes if boxes == read.boxes(domain.width) => *read,
                boxes => Read::Boxes(u32::try_from(boxes).expect("verified: a table has at most 2^20 boxes")),
            };
            let op = Op::Lut { x: operand, table: *table, domain, read };
            new.replace(id, Value { op, ..old.clone() });
        }
        Ok(new.finish(Phase::Tabled))
    }
}

/// Whether the tables of a value's region have domains of different widths.
fn uneven(regions: &Regions<'_>, x: Id<Value>) -> bool {
    let of_region = |r: &&Reading<'_>| regions.region[r.operand.index()] == regions.region[x.index()];
    let mut widths = regions.readings.iter().filter(of_region).filter(|r| r.table.is_some()).map(|r| r.domain.width);
    let first = widths.next();
    widths.any(|width| Some(width) != first)
}

/// The largest factor, odd where asked for, with which `width` integers stay within `span`.
fn factor(span: u64, width: u64, odd: bool) -> i64 {
    let factor = (span / width).clamp(1, 1 << 20);
    // At most 2^20: the cast is exact.
    (factor - if odd { 1 - factor % 2 } else { 0 }) as i64
}

#[cfg(test)]
mod tests {
    use fhe_ir::Reader;

    use super::*;

    #[test]
    fn a_filled_table_reads_the_same_entry() {
        for (width, boxes) in [(8, 8), (96, 64), (100, 64), (255, 64), (3, 2)] {
            let row: Vec<i64> = (0..boxes as i64).collect();
            for (factor, centred) in [1, 3, 5, 11].map(|f| (f, true)).into_iter().chain([2, 3, 8].map(|f| (f, false))) {
                let plain = Reader { width, boxes, span: width, centred };
                let filled = Reader { width: width * factor, boxes, span: width * factor, centred };
                for x in -5..width as i64 + 5 {
                    let moved = x * factor as i64 + if centred { (factor as i64 - 1) / 2 } else { 0 };
                    assert_eq!(plain.read(&row, x), filled.read(&row, moved), "{x} of {width} times {factor}");
                }
            }
        }
    }

    #[test]
    fn factors_fit_and_are_odd_where_asked_for() {
        let cases = [(7, 4), (8, 4), (12, 4), (24, 4), (4, 4)];
        assert_eq!(cases.map(|(s, w)| factor(s, w, true)), [1, 1, 3, 5, 1]);
        assert_eq!(cases.map(|(s, w)| factor(s, w, false)), [1, 2, 3, 6, 1]);
    }
}
