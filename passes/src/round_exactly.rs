//! round-exactly: removes the low bits of what coarse tables read, one by one, each with a bootstrap of its own.
//!
//! Let half the torus hold `2^P` integers and a table read boxes of `2^t` of them. Its operand `x` is put on multiples:
//! ```text
//! v_0     = x − lo                          clear
//! bit_i   = 2^i·(bit i of v_i)              v_i·2^(P−i) is 0 or half a turn: one table without a padding bit
//! v_(i+1) = v_i − bit_i                     a multiple of 2^(i+1)
//! ```
//! and the table reads `v_t`, which is the middle of a box after a shift of the domain: the same box as before, for every
//! integer, and outside of the domain too.

use std::collections::HashMap;
use std::sync::Arc;

use fhe_ir::{Const, Data, Domain, Elem, Facts, Graph, Id, Op, Origin, Phase, Read, Rebuild, Table, Value};
use ndarray::{ArrayD, IxDyn, arr2};

use crate::options::Rounding;
use crate::pass::{Pass, PassCx, PassError, Place};
use crate::range_analysis::with_proven_range;
use crate::regions::Regions;

/// See the module.
pub struct RoundExactly;

impl Pass for RoundExactly {
    fn name(&self) -> &'static str {
        "round-exactly"
    }

    fn summary(&self) -> &'static str {
        "remove the low bits that tables do not read, one bootstrap each"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Tabled, Phase::Tabled)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        if !matches!(cx.options.rounding, Rounding::Exact(_)) {
            return Ok(graph);
        }
        let regions = Regions::of(&graph);
        let mut remover = Remover { new: Rebuild::new(&graph), chains: HashMap::new(), shared: Shared::default() };
        for (id, old) in graph.iter() {
            let error = |reason| PassError::AccumulatorTooWide { place: Place::new(&graph, id), reason };
            let mut value = Value { op: remover.new.remap(&old.op), ..old.clone() };
            if let (Op::Lut { x: operand, .. }, Op::Lut { x, domain, read, .. }) = (&old.op, &mut value.op) {
                let boxes = read.boxes(domain.width);
                let log2_span = regions.span[operand.index()].next_power_of_two().ilog2();
                match bits_below(domain.width, boxes) {
                    Some(0) => {}
                    Some(bits) if read.is_centred() && boxes > 1 => {
                        if cx.rewrite("tables rounded exactly") {
                            let chain = Chain { operand: *operand, lo: domain.lo.clone(), log2_span };
                            let (rounded, bootstraps) = remover.without(&chain, bits, &old.from).map_err(error)?;
                            cx.count("bits removed", bootstraps);
                            *x = rounded;
                            // Multiples of a box, which belong into the middles of boxes.
                            *domain = Domain { lo: vec![-(1 << (bits - 1))], width: domain.width };
                            // At most 2^20: the verifier has counted them.
                            *read = Read::Middles(u32::try_from(boxes).expect("at most 2^20 boxes"));
                        }
                    }
                    Some(_) => {}
                    None => cx.remark(format!(
                        "%{} reads {} integers in {boxes} boxes, which are not of whole bits: not rounded exactly",
                        old.name, domain.width
                    )),
                }
            }
            // What a maximum is proven to be may be proven no more.
            let value = with_proven_range(&remover.new.new, value).map_err(error)?;
            remover.new.replace(id, value);
        }
        Ok(remover.new.finish(Phase::Tabled))
    }
}

/// `t` where `width` integers are in boxes of `2^t`.
fn bits_below(width: u64, boxes: u64) -> Option<u32> {
    let whole = width.is_multiple_of(boxes) && (width / boxes).is_power_of_two();
    whole.then(|| (width / boxes).ilog2())
}

/// What tables share: an operand, where their domains begin, and the half torus of the region.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Chain {
    operand: Id<Value>,
    lo: Vec<i64>,
    log2_span: u32,
}

/// Constants and tables that all chains share.
#[derive(Default)]
struct Shared {
    powers: HashMap<u32, Id<Const>>,
    bits: HashMap<u32, Id<Table>>,
}

struct Remover<'g> {
    new: Rebuild<'g>,
    /// `v_0`, `v_1`, … as far as some table needed them.
    chains: HashMap<Chain, Vec<Id<Value>>>,
    shared: Shared,
}

impl Remover<'_> {
    /// `v_bits` of a chain, and the number of bootstraps that were added for it.
    fn without(&mut self, chain: &Chain, bits: u32, from: &[Id<Origin>]) -> Result<(Id<Value>, u64), String> {
        let mut known = match self.chains.remove(chain) {
            Some(known) => known,
            None => vec![self.aligned(chain, from)?],
        };
        let mut bootstraps = 0;
        // Fewer bits than the torus has: the casts are exact.
        for bit in known.len() as u32 - 1..bits {
            let x = known[bit as usize];
            known.push(self.remove(chain, x, bit, from)?);
            bootstraps += self.new.old.value(chain.operand).elements() as u64;
        }
        let found = known[bits as usize];
        self.chains.insert(chain.clone(), known);
        Ok((found, bootstraps))
    }

    /// `x − lo`.
    fn aligned(&mut self, chain: &Chain, from: &[Id<Origin>]) -> Result<Id<Value>, String> {
        let x = self.new.get(chain.operand);
        if chain.lo.iter().all(|&lo| lo == 0) {
            return Ok(x);
        }
        let name = &self.new.old.value(chain.operand).name;
        let data = ArrayD::from_shape_fn(IxDyn(&[chain.lo.len()]), |i| -chain.lo[i[0]]);
        let c = self.new.new.push_const(&format!("{name}.align"), Data::Int(Arc::new(data)));
        self.push(chain, "aligned".into(), Op::AddClear { x, c }, from)
    }

    /// `v_(bit+1)` of `v_bit`.
    fn remove(&mut self, chain: &Chain, x: Id<Value>, bit: u32, from: &[Id<Origin>]) -> Result<Id<Value>, String> {
        let new = &mut self.new.new;
        let to_top = chain.log2_span - bit;
        let c = *self.shared.powers.entry(to_top).or_insert_with(|| {
            new.push_const(&format!("power{to_top}"), Data::Int(Arc::new(ArrayD::from_elem(vec![1], 1 << to_top))))
        });
        let table = *self
            .shared
            .bits
            .entry(bit)
            .or_insert_with(|| new.push_table(&format!("bit{bit}"), Arc::new(arr2(&[[0, 1 << bit]]))));
        let top = self.push(chain, format!("top{bit}"), Op::MulClear { x, c }, from)?;
        let domain = Domain { lo: vec![0], width: 1 << chain.log2_span };
        let b = self.push(chain, format!("bit{bit}"), Op::Lut { x: top, table, domain, read: Read::Bit }, from)?;
        self.push(chain, format!("cut{}", bit + 1), Op::Sub { a: x, b }, from)
    }

    /// Appends a value of the operand's shape. It stands for no real number: it has no scale. It is of the operand's
    /// nodes, or where these are unknown of the table's, `from`.
    fn push(&mut self, chain: &Chain, name: String, op: Op, from: &[Id<Origin>]) -> Result<Id<Value>, String> {
        let of = self.new.old.value(chain.operand);
        let value = Value {
            name: format!("{}.{name}", of.name),
            op,
            elem: Elem::IntUnknown,
            facts: Facts::default(),
            from: if of.from.is_empty() { from.to_vec() } else { of.from.clone() },
            ..of.clone()
        };
        let value = with_proven_range(&self.new.new, value)
            .map_err(|reason| format!("without its {} lowest bits {reason}", chain.log2_span))?;
        Ok(self.new.push(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_of_whole_bits() {
        let cases = [(256, 16), (256, 256), (96, 3), (96, 16), (100, 16), (1, 1)];
        assert_eq!(cases.map(|(w, b)| bits_below(w, b)), [Some(4), Some(0), Some(5), None, None, Some(0)]);
    }
}
