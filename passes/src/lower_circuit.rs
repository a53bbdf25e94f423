//! lower-circuit: tables become a keyswitch and a bootstrap; every value gets its key, torus step and predicted noise.
//!
//! Tables that read one value share its keyswitch.

use std::collections::HashMap;
use std::sync::Arc;

use fhe_ir::params::{ParamSet, Variance};
use fhe_ir::{Cipher, Graph, Id, Key, Op, Output, Phase, Read, Rebuild, Table, Value};
use ndarray::Array2;

use crate::params::{Constraint, tail};
use crate::pass::{Pass, PassCx, PassError, Place};
use crate::regions::{Norm2, Regions};
use crate::select_params::NOISE_MODEL;

/// See the module.
pub struct LowerCircuit;

impl Pass for LowerCircuit {
    fn name(&self) -> &'static str {
        "lower-circuit"
    }

    fn summary(&self) -> &'static str {
        "turn tables into keyswitches and bootstraps with predicted noise"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Tabled, Phase::Tabled)
    }

    fn gives(&self) -> Option<Phase> {
        Some(Phase::Circuit)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let [params] = graph.params[..] else {
            return Err(PassError::BadOptions {
                message: format!("the graph has {} parameter sets, not one", graph.params.len()),
                advice: "run select-params before lower-circuit".into(),
            });
        };
        let regions = Regions::of(&graph);
        check_boxes(&graph, &regions, &params)?;
        let noise =
            Noise { params, pbs: NOISE_MODEL.variance_of_blind_rotation(&params), fresh: params.big_variance() };
        let big = |id: Id<Value>| Cipher {
            params: Id::new(0),
            key: Key::Big,
            span: regions.span[id.index()],
            log2_sd: compact(regions.norm2[id.index()].iter().map(|n| noise.of(*n).log2_sd() as f32).collect()),
        };
        let mut new = Rebuild::new(&graph);
        let mut keyswitched = HashMap::new();
        let mut sampled = Sampled { slots: u64::from(params.polynomial_size()), tables: HashMap::new() };
        for (id, old) in graph.iter() {
            let mut value = Value { op: new.remap(&old.op), cipher: Some(big(id)), ..old.clone() };
            if let Op::Lut { x, table, domain, read } = &old.op {
                let switched = *keyswitched.entry(*x).or_insert_with(|| {
                    let operand = graph.value(*x);
                    let after =
                        |n: &Norm2| NOISE_MODEL.variance_after_keyswitch(noise.of(*n), &params).log2_sd() as f32;
                    let log2_sd = compact(regions.norm2[x.index()].iter().map(after).collect());
                    new.push(Value {
                        name: format!("{}.ks", operand.name),
                        op: Op::Keyswitch { x: new.get(*x), ks: params.ks },
                        cipher: Some(Cipher { key: Key::Small, log2_sd, ..big(*x) }),
                        ..operand.clone()
                    })
                });
                let reading = regions.readings.iter().find(|r| r.table == Some(id)).expect("every table is a reading");
                let (log2_bound, log2_fail) = noise.certainty(&regions.constraint(reading));
                let (mut table, domain, read) = (*table, domain.clone(), *read);
                if read == Read::Full {
                    table = sampled.table(&mut new, &graph, table, domain.width);
                }
                value.op = Op::Pbs { x: switched, table, domain, read, log2_bound, log2_fail };
                cx.count("bootstraps", old.elements() as u64);
            }
            new.replace(id, value);
        }
        cx.count("keyswitches", keyswitched.keys().map(|x| graph.value(*x).elements() as u64).sum());
        let mut outputs = vec![];
        let readings = regions.readings.iter().filter(|r| r.table.is_none());
        for (output, reading) in graph.outputs.iter().zip(readings) {
            let (log2_bound, log2_fail) = noise.certainty(&regions.constraint(reading));
            outputs.push(Output { value: new.get(output.value), log2_bound, log2_fail, ..output.clone() });
        }
        Ok(new.finish_with_outputs(Phase::Circuit, outputs))
    }
}

/// Parameters may have been chosen for another graph: whether every table's boxes have slots of their own.
fn check_boxes(graph: &Graph, regions: &Regions<'_>, params: &ParamSet) -> Result<(), PassError> {
    for reading in &regions.readings {
        let constraint = regions.constraint(reading);
        let (boxes, slots) = (constraint.boxes, params.polynomial_size());
        if constraint.table && (boxes > slots || constraint.bound(params.log2_polynomial_size) <= 0.0) {
            let place = Place::new(graph, reading.operand);
            let reason = format!("the {slots} slots of !p0 are too coarse for its {boxes} boxes");
            let advice = "choose parameters for this graph: run select-params before lower-circuit".into();
            return Err(PassError::NoParameters { place, reason, advice });
        }
    }
    Ok(())
}

/// Tables that are read in full, at the slots of a polynomial.
struct Sampled {
    slots: u64,
    tables: HashMap<(Id<Table>, u64), Id<Table>>,
}

impl Sampled {
    /// The table with at most one box per slot over a domain of `width` integers.
    fn table(&mut self, new: &mut Rebuild<'_>, graph: &Graph, table: Id<Table>, width: u64) -> Id<Table> {
        let (fine, boxes) = (graph.table(table), self.slots.min(width));
        if fine.boxes() as u64 <= boxes {
            return table;
        }
        *self.tables.entry((table, width)).or_insert_with(|| {
            // The fine box that holds the middle of a coarse one.
            let from = |b: usize| (2 * b + 1) * fine.boxes() / (2 * boxes as usize);
            let shape = (fine.entries.nrows(), boxes as usize);
            let entries = Array2::from_shape_fn(shape, |(row, b)| fine.entries[[row, from(b)]]);
            new.new.push_table(&fine.name, Arc::new(entries))
        })
    }
}

struct Noise {
    params: ParamSet,
    pbs: Variance,
    fresh: Variance,
}

impl Noise {
    fn of(&self, norm2: Norm2) -> Variance {
        self.pbs * norm2.pbs + self.fresh * norm2.input
    }

    /// log2 of the bound and of the failure probability of a reading; a read in full has neither.
    fn certainty(&self, constraint: &Constraint) -> (Option<f32>, Option<f32>) {
        if constraint.full {
            return (None, None);
        }
        let arriving = self.of(Norm2 { pbs: constraint.norm2_pbs, input: constraint.norm2_input });
        let variance = if constraint.table { NOISE_MODEL.variance_at_table(arriving, &self.params) } else { arriving };
        let bound = constraint.bound(self.params.log2_polynomial_size);
        // Below 2^-1000 the probability underflows; the exponent is cut there.
        let fail = tail(bound * NOISE_MODEL.bound_filled(), variance).log2().max(-1000.0);
        (Some(bound.log2() as f32), Some(fail as f32))
    }
}

/// One entry when all agree.
fn compact(log2_sd: Vec<f32>) -> Vec<f32> {
    if log2_sd.windows(2).all(|w| w[0] == w[1]) { log2_sd[..1].to_vec() } else { log2_sd }
}
