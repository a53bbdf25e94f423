//! The answer: sets, and which table runs under which; what it costs and risks, from nothing but the answer.

use std::collections::BTreeSet;
use std::fmt;

use fhe_ir::params::{Decomposition, ParamSet, SecurityCurve, Variance};
use serde::{Deserialize, Serialize};

use super::super::search::Lists;
use super::super::{ConstraintReport, CostModel, Found, NoiseModel, tail};
use super::Problem;
use super::state::{Evaluator, Scored};

/// Dimensions of a big key, by which it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BigKeyDims {
    /// `k`.
    pub glwe_dimension: u32,
    /// `log2 N`.
    pub log2_polynomial_size: u32,
}

impl BigKeyDims {
    /// The big key of a set.
    pub fn of(params: &ParamSet) -> Self {
        Self { glwe_dimension: params.glwe_dimension, log2_polynomial_size: params.log2_polynomial_size }
    }

    /// `k·N`.
    pub fn dimension(self) -> u32 {
        self.glwe_dimension << self.log2_polynomial_size
    }

    /// A set that stands for a keyswitch from this key to dimension `to`; its bootstrap means nothing.
    fn keyswitch(self, curve: SecurityCurve, to: u32, ks: Decomposition) -> ParamSet {
        ParamSet {
            curve,
            lwe_dimension: to,
            glwe_dimension: self.glwe_dimension,
            log2_polynomial_size: self.log2_polynomial_size,
            pbs: ks,
            ks,
        }
    }
}

impl fmt::Display for BigKeyDims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k={} N={}", self.glwe_dimension, 1u64 << self.log2_polynomial_size)
    }
}

/// How a group of tables is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlan {
    /// Its set, an index into the assignment's.
    pub set: usize,
    /// Decomposition of the keyswitch from the big key of the region it reads to the small key of its set.
    pub keyswitch: Decomposition,
    /// Decomposition of the keyswitch from the big key of its set to that of the region it writes, if they differ.
    pub conversion: Option<Decomposition>,
}

/// Which table runs under which keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Distinct sets. Each one's `ks` is that of tables that read a region under its own big key, if there are any.
    pub sets: Vec<ParamSet>,
    /// Per table group.
    pub tables: Vec<TablePlan>,
    /// Big key of each region.
    pub homes: Vec<BigKeyDims>,
    /// Single-thread nanoseconds of one execution, in the cost model.
    pub cost_ns: f64,
    /// Bytes of all evaluation keys, each counted once.
    pub key_bytes: u64,
}

/// Evaluation keys, each once.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Set without its keyswitch, as tuple for the order.
    bootstrap: BTreeSet<(u32, BigKeyDims, Decomposition)>,
    /// From a big key to a dimension.
    keyswitch: BTreeSet<(BigKeyDims, u32, Decomposition)>,
}

impl Keys {
    /// The keys of a state.
    pub(super) fn of(lists: &Lists, scored: &Scored) -> Self {
        let dims = |index: usize| dims(lists, index);
        let mut keys = Self::default();
        for (class, plan) in scored.state.classes.iter().zip(&scored.plans) {
            let own = dims(class.big);
            keys.bootstrap.insert((plan.n, own, lists.big_keys[class.big].cmux[class.step].decomposition));
            keys.keyswitch.extend(plan.keyswitches.iter().map(|(from, ks)| (dims(*from), plan.n, *ks)));
            keys.keyswitch.extend(plan.conversions.iter().map(|(to, ks)| (own, dims(*to).dimension(), *ks)));
        }
        keys
    }

    /// Their size, as the server holds them.
    pub(super) fn bytes(&self) -> u64 {
        // Neither size depends on the curve.
        let curve = SecurityCurve::Bits128;
        let bootstrap = |(n, big, pbs): &(u32, BigKeyDims, Decomposition)| {
            ParamSet { pbs: *pbs, ..big.keyswitch(curve, *n, *pbs) }.bootstrap_key_bytes()
        };
        let keyswitch =
            |(big, to, ks): &(BigKeyDims, u32, Decomposition)| big.keyswitch(curve, *to, *ks).keyswitch_key_bytes();
        self.bootstrap.iter().map(bootstrap).sum::<u64>() + self.keyswitch.iter().map(keyswitch).sum::<u64>()
    }
}

fn dims(lists: &Lists, index: usize) -> BigKeyDims {
    let big = &lists.big_keys[index];
    BigKeyDims { glwe_dimension: big.glwe_dimension, log2_polynomial_size: big.log2_polynomial_size }
}

impl Assignment {
    /// Everything under one set.
    pub(super) fn single(problem: &Problem, found: &Found) -> Self {
        let params = found.params;
        let key_bytes =
            if problem.tables.is_empty() { 0 } else { params.bootstrap_key_bytes() + params.keyswitch_key_bytes() };
        Self {
            sets: vec![params],
            tables: vec![TablePlan { set: 0, keyswitch: params.ks, conversion: None }; problem.tables.len()],
            homes: vec![BigKeyDims::of(&params); problem.linear_products.len()],
            cost_ns: found.cost_ns,
            key_bytes,
        }
    }

    /// What a state stands for.
    pub(super) fn of(evaluator: &Evaluator<'_>, scored: &Scored) -> Self {
        let (lists, state) = (evaluator.lists, &scored.state);
        let mut sets: Vec<ParamSet> = Vec::new();
        let set_of_class: Vec<usize> = (state.classes.iter().zip(&scored.plans))
            .map(|(class, plan)| {
                let big = &lists.big_keys[class.big];
                let own = plan.keyswitches.iter().find(|(from, _)| *from == class.big).or(plan.keyswitches.first());
                let pbs = big.cmux[class.step].decomposition;
                let ks = own.map_or(pbs, |(_, ks)| *ks);
                let set = lists.params(big, plan.n, pbs, ks);
                sets.iter().position(|s| ParamSet { ks, ..*s } == set).unwrap_or_else(|| {
                    sets.push(set);
                    sets.len() - 1
                })
            })
            .collect();
        let plan_of = |(i, table): (usize, &super::TableGroup)| {
            let class = state.class_of[i];
            let plan = &scored.plans[class];
            let find = |list: &[(usize, Decomposition)], key| list.iter().find(|(k, _)| *k == key).map(|(_, d)| *d);
            TablePlan {
                set: set_of_class[class],
                keyswitch: find(&plan.keyswitches, state.key_of(table.from)).expect("the class reads that key"),
                conversion: find(&plan.conversions, state.key_of(table.to)),
            }
        };
        Self {
            sets,
            tables: evaluator.problem.tables.iter().enumerate().map(plan_of).collect(),
            homes: (0..state.home.len()).map(|region| dims(lists, state.key_of(region))).collect(),
            cost_ns: scored.cost,
            key_bytes: Keys::of(lists, scored).bytes(),
        }
    }

    /// Variance of the results of a table group in the region that they belong to.
    pub fn variance(&self, problem: &Problem, table: usize, noise: NoiseModel) -> Variance {
        let plan = &self.tables[table];
        let set = &self.sets[plan.set];
        let bootstrap = noise.variance_of_blind_rotation(set);
        let home = self.homes[problem.tables[table].to];
        let converted = |ks: Decomposition| {
            let key = set.curve.minimal_variance(home.dimension()).expect("big keys are on the curve");
            noise.variance_of_keyswitch_coefficient(ks, key) * f64::from(set.big_dimension())
        };
        bootstrap + plan.conversion.map_or(Variance::ZERO, converted)
    }

    /// What a circuit risks at each read, tables first, then outputs, computed from the assignment alone.
    pub fn reports(&self, problem: &Problem, noise: NoiseModel) -> Vec<ConstraintReport> {
        let results: Vec<f64> = (0..self.tables.len()).map(|t| self.variance(problem, t, noise).0).collect();
        let arriving = |read: &super::Read, region: usize| {
            let fresh = self.sets[0].curve.minimal_variance(self.homes[region].dimension());
            let fresh = fresh.expect("big keys are on the curve").0;
            let of = |f: &super::Factors| {
                f.tables.iter().map(|(table, factor)| results[*table] * factor).sum::<f64>() + f.input * fresh
            };
            Variance(read.factors().iter().map(of).fold(0.0, f64::max))
        };
        let report = |read: &super::Read, variance_in: Variance, variance: Variance, log2_n: u32| {
            let c = &read.constraint;
            let bound = if c.full { f64::INFINITY } else { c.bound(log2_n) };
            let p_fail = tail(bound * noise.bound_filled(), variance);
            ConstraintReport { variance_in, variance, bound, filled: c.filled(), p_fail }
        };
        let tables = problem.tables.iter().zip(&self.tables).map(|(table, plan)| {
            let set = &self.sets[plan.set];
            let variance_in = arriving(&table.read, table.from);
            let switch = self.homes[table.from].keyswitch(set.curve, set.lwe_dimension, plan.keyswitch);
            let variance = noise.variance_after_keyswitch(variance_in, &switch)
                + noise.variance_of_modulus_switch(set.lwe_dimension, set.log2_polynomial_size);
            report(&table.read, variance_in, variance, set.log2_polynomial_size)
        });
        let outputs = problem.outputs.iter().map(|output| {
            let variance = arriving(&output.read, output.region);
            report(&output.read, variance, variance, 0)
        });
        tables.chain(outputs).collect()
    }

    /// Nanoseconds of one execution, computed from the assignment alone.
    pub fn cost_ns(&self, problem: &Problem, cost: &CostModel) -> f64 {
        let mut ns = 0.0;
        let mut switched = BTreeSet::new();
        for (table, plan) in problem.tables.iter().zip(&self.tables) {
            let set = &self.sets[plan.set];
            ns += table.pbs_count as f64 * cost.pbs_ns(set);
            if switched.insert((table.operand, set.lwe_dimension, plan.keyswitch)) {
                let switch = self.homes[table.from].keyswitch(set.curve, set.lwe_dimension, plan.keyswitch);
                ns += table.ks_count as f64 * cost.ks_ns(&switch);
            }
            if let Some(conversion) = plan.conversion {
                let to = self.homes[table.to].dimension();
                let switch = BigKeyDims::of(set).keyswitch(set.curve, to, conversion);
                ns += table.pbs_count as f64 * cost.ks_ns(&switch);
            }
        }
        let linear = |(products, home): (&u64, &BigKeyDims)| {
            let unused = Decomposition { base_log: 1, level: 1 };
            *products as f64 * cost.linear_ns(&home.keyswitch(SecurityCurve::Bits128, 1, unused))
        };
        ns + problem.linear_products.iter().zip(&self.homes).map(linear).sum::<f64>()
    }
}
