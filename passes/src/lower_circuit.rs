//! lower-circuit: tables become a keyswitch and a bootstrap; every value gets its key, torus step and predicted noise.
//!
//! Tables that read one value share its keyswitch, as far as they run under one small key with one decomposition. Where a
//! table writes into a region under another big key, a conversion follows.

use std::collections::HashMap;
use std::sync::Arc;

use fhe_ir::params::{ParamSet, Variance};
use fhe_ir::{Cipher, Facts, Graph, Id, Key, Op, Output, Phase, Read, Rebuild, Table, Value};
use ndarray::Array2;

use crate::key_sets::Numbered;
use crate::params::{Assignment, BigKeyDims, Factors, TablePlan, tail};
use crate::pass::{Pass, PassCx, PassError, Place};
use crate::regions::{Reading, Regions};
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
        let regions = Regions::of(&graph);
        let numbered = Numbered::of(&graph, &regions);
        let assignment = assignment(&graph, &regions, &numbered)?;
        let keyed = Keyed { graph: &graph, regions: &regions, numbered: &numbered, assignment: &assignment };
        keyed.check_boxes()?;
        let mut new = Rebuild::new(&graph);
        let mut keyswitched = HashMap::new();
        let mut sampled = Sampled { tables: HashMap::new() };
        let mut keyswitches = 0;
        for (id, old) in graph.iter() {
            let mut value = Value { op: new.remap(&old.op), cipher: Some(keyed.big(id)), ..old.clone() };
            value.facts.planned = None;
            if let Op::Lut { x, table, domain, read } = &old.op {
                let plan = keyed.plan(id);
                let set = &graph.params[plan.set];
                let switched = *keyswitched.entry((*x, set.lwe_dimension, plan.keyswitch)).or_insert_with(|| {
                    let operand = graph.value(*x);
                    let after = |variance: Variance| {
                        let home = numbered.home(&assignment, *x);
                        plan.variance_after_keyswitch(&graph.params, home, variance, NOISE_MODEL)
                    };
                    let log2_sd = compact(keyed.variances(*x).map(|v| after(v).log2_sd() as f32).collect());
                    keyswitches += operand.elements() as u64;
                    let cipher = Cipher { params: Id::new(plan.set), key: Key::Small, log2_sd, ..keyed.big(*x) };
                    new.push(Value {
                        name: format!("{}.ks", operand.name),
                        op: Op::Keyswitch { x: new.get(*x), ks: plan.keyswitch },
                        cipher: Some(cipher),
                        facts: Facts { planned: None, ..operand.facts.clone() },
                        ..operand.clone()
                    })
                });
                let reading = regions.readings.iter().find(|r| r.table == Some(id)).expect("every table is a reading");
                let (log2_bound, log2_fail) = keyed.certainty(reading);
                let (mut table, domain, read) = (*table, domain.clone(), *read);
                if read == Read::Full {
                    let slots = u64::from(set.polynomial_size());
                    table = sampled.table(&mut new, &graph, table, domain.width, slots);
                }
                value.op = Op::Pbs { x: switched, table, domain, read, log2_bound, log2_fail };
                cx.count("bootstraps", old.elements() as u64);
                if let Some(ks) = plan.conversion {
                    let log2_sd = vec![NOISE_MODEL.variance_of_blind_rotation(set).log2_sd() as f32];
                    let cipher = Cipher { params: Id::new(plan.set), log2_sd, ..keyed.big(id) };
                    let own = Value { name: format!("{}.pbs", old.name), cipher: Some(cipher), ..value.clone() };
                    value.op = Op::Keyswitch { x: new.push(own), ks };
                    cx.count("conversions", old.elements() as u64);
                }
            }
            new.replace(id, value);
        }
        cx.count("keyswitches", keyswitches);
        let mut outputs = vec![];
        let readings = regions.readings.iter().filter(|r| r.table.is_none());
        for (output, reading) in graph.outputs.iter().zip(readings) {
            let (log2_bound, log2_fail) = keyed.certainty(reading);
            outputs.push(Output { value: new.get(output.value), log2_bound, log2_fail, ..output.clone() });
        }
        Ok(new.finish_with_outputs(Phase::Circuit, outputs))
    }
}

/// Which table runs under which set: as is planned, or all under the only one.
fn assignment(graph: &Graph, regions: &Regions<'_>, numbered: &Numbered) -> Result<Assignment, PassError> {
    let tables = regions.readings.iter().filter(|r| r.table.is_some()).count();
    match (&graph.params[..], numbered.planned(graph)) {
        ([_, ..], Some(planned)) => Ok(planned),
        ([params], None) => Ok(Assignment::one(*params, tables, numbered.regions)),
        (sets, _) => Err(PassError::BadOptions {
            message: if sets.is_empty() {
                "the graph has 0 parameter sets, not one".into()
            } else {
                format!("the graph has {} parameter sets, and not every value says which it is for", sets.len())
            },
            advice: "run select-params before lower-circuit".into(),
        }),
    }
}

/// A graph with keys.
struct Keyed<'a> {
    graph: &'a Graph,
    regions: &'a Regions<'a>,
    numbered: &'a Numbered,
    assignment: &'a Assignment,
}

impl Keyed<'_> {
    fn plan(&self, table: Id<Value>) -> &TablePlan {
        self.numbered.plan(self.assignment, table).expect("every table has a plan")
    }

    /// Variances of a value in its region, per channel.
    fn variances(&self, id: Id<Value>) -> Box<dyn Iterator<Item = Variance> + '_> {
        let home = self.numbered.home(self.assignment, id);
        let params = self.graph.param(self.set_of(home));
        let fresh = params.big_variance();
        if self.assignment.sets.len() == 1 {
            // As the search for one set has it.
            let pbs = NOISE_MODEL.variance_of_blind_rotation(params);
            return Box::new(self.regions.norm2[id.index()].iter().map(move |n| pbs * n.pbs + fresh * n.input));
        }
        let plans = &self.assignment.tables;
        let of = move |f: &Factors| {
            let results = f
                .tables
                .iter()
                .map(|(table, factor)| plans[*table].variance(&self.assignment.sets, home, NOISE_MODEL) * *factor);
            results.fold(fresh * f.input, |sum, variance| sum + variance)
        };
        Box::new(self.numbered.factors(id).iter().map(of))
    }

    /// The first set with that big key.
    fn set_of(&self, home: BigKeyDims) -> Id<ParamSet> {
        let set = self.assignment.sets.iter().position(|set| BigKeyDims::of(set) == home);
        Id::new(set.expect("regions live under the big key of a set"))
    }

    /// How a value is encrypted in its region.
    fn big(&self, id: Id<Value>) -> Cipher {
        let own = self.graph.value(id).op.table().and_then(|_| self.numbered.plan(self.assignment, id));
        let own = own.filter(|plan| plan.conversion.is_none()).map(|plan| Id::new(plan.set));
        Cipher {
            params: own.unwrap_or_else(|| self.set_of(self.numbered.home(self.assignment, id))),
            key: Key::Big,
            span: self.regions.span[id.index()],
            log2_sd: compact(self.variances(id).map(|v| v.log2_sd() as f32).collect()),
        }
    }

    /// log2 of the bound and of the failure probability of a reading; a read in full has neither.
    fn certainty(&self, reading: &Reading<'_>) -> (Option<f32>, Option<f32>) {
        let constraint = self.regions.constraint(reading);
        if constraint.full {
            return (None, None);
        }
        let home = self.numbered.home(self.assignment, reading.operand);
        let worst = match &self.assignment.sets[..] {
            // As the search for one set has it.
            [params] => {
                NOISE_MODEL.variance_of_blind_rotation(params) * constraint.norm2_pbs
                    + params.big_variance() * constraint.norm2_input
            }
            _ => self.variances(reading.operand).fold(Variance::ZERO, |a, b| if b > a { b } else { a }),
        };
        let (variance, log2_n) = match reading.table.map(|table| self.plan(table)) {
            None => (worst, 0),
            Some(plan) => {
                let set = &self.graph.params[plan.set];
                let switched = plan.variance_after_keyswitch(&self.graph.params, home, worst, NOISE_MODEL);
                let switch = NOISE_MODEL.variance_of_modulus_switch(set.lwe_dimension, set.log2_polynomial_size);
                (switched + switch, set.log2_polynomial_size)
            }
        };
        let bound = constraint.bound(log2_n);
        // Below 2^-1000 the probability underflows; the exponent is cut there.
        let fail = tail(bound * NOISE_MODEL.bound_filled(), variance).log2().max(-1000.0);
        (Some(bound.log2() as f32), Some(fail as f32))
    }

    /// Parameters may have been chosen for another graph: whether every table's boxes have slots of their own.
    fn check_boxes(&self) -> Result<(), PassError> {
        for reading in &self.regions.readings {
            let Some(table) = reading.table else { continue };
            let set = self.plan(table).set;
            let params = &self.graph.params[set];
            let constraint = self.regions.constraint(reading);
            let (boxes, slots) = (constraint.boxes, params.polynomial_size());
            if boxes > slots || constraint.bound(params.log2_polynomial_size) <= 0.0 {
                let place = Place::new(self.graph, reading.operand);
                let reason = format!("the {slots} slots of !p{set} are too coarse for its {boxes} boxes");
                let advice = "choose parameters for this graph: run select-params before lower-circuit".into();
                return Err(PassError::NoParameters { place, reason, advice });
            }
        }
        Ok(())
    }
}

/// Tables that are read in full, at the slots of a polynomial.
struct Sampled {
    /// By table, width of the domain and slots.
    tables: HashMap<(Id<Table>, u64, u64), Id<Table>>,
}

impl Sampled {
    /// The table with at most one box per slot over a domain of `width` integers.
    fn table(&mut self, new: &mut Rebuild<'_>, graph: &Graph, table: Id<Table>, width: u64, slots: u64) -> Id<Table> {
        let (fine, boxes) = (graph.table(table), slots.min(width));
        if fine.boxes() as u64 <= boxes {
            return table;
        }
        *self.tables.entry((table, width, boxes)).or_insert_with(|| {
            // The fine box that holds the middle of a coarse one.
            let from = |b: usize| (2 * b + 1) * fine.boxes() / (2 * boxes as usize);
            let shape = (fine.entries.nrows(), boxes as usize);
            let entries = Array2::from_shape_fn(shape, |(row, b)| fine.entries[[row, from(b)]]);
            new.new.push_table(&fine.name, Arc::new(entries))
        })
    }
}

/// One entry when all agree.
fn compact(log2_sd: Vec<f32>) -> Vec<f32> {
    if log2_sd.windows(2).all(|w| w[0] == w[1]) { log2_sd[..1].to_vec() } else { log2_sd }
}
