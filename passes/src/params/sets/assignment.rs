//! The answer: sets, and which table runs under which; what it costs and risks, from nothing but the answer.

use std::collections::BTreeSet;
use std::fmt;

use fhe_ir::params::{Decomposition, ParamSet, SecurityCurve, Variance};
use fhe_ir::{BootstrapKey, KeyswitchKey, SecretKey};
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

    /// The key.
    pub fn key(self) -> SecretKey {
        SecretKey::Glwe { glwe_dimension: self.glwe_dimension, log2_polynomial_size: self.log2_polynomial_size }
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

impl TablePlan {
    /// Variance of the results once they are under the big key `home` of their region.
    pub fn variance(&self, sets: &[ParamSet], home: BigKeyDims, noise: NoiseModel) -> Variance {
        let set = &sets[self.set];
        let converted = |ks: Decomposition| {
            let key = set.curve.minimal_variance(home.dimension()).expect("big keys are on the curve");
            noise.variance_of_keyswitch_coefficient(ks, key) * f64::from(set.big_dimension())
        };
        noise.variance_of_blind_rotation(set) + self.conversion.map_or(Variance::ZERO, converted)
    }

    /// Variance of a value of variance `input` under the big key `home` after the keyswitch to the small key.
    pub fn variance_after_keyswitch(
        &self,
        sets: &[ParamSet],
        home: BigKeyDims,
        input: Variance,
        noise: NoiseModel,
    ) -> Variance {
        let set = &sets[self.set];
        noise.variance_after_keyswitch(input, &home.keyswitch(set.curve, set.lwe_dimension, self.keyswitch))
    }
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
    bootstrap: BTreeSet<BootstrapKey>,
    keyswitch: BTreeSet<KeyswitchKey>,
}

impl Keys {
    /// The keys of a state.
    pub(super) fn of(lists: &Lists, scored: &Scored) -> Self {
        let key = |index: usize| dims(lists, index).key();
        let mut keys = Self::default();
        for (class, plan) in scored.state.classes.iter().zip(&scored.plans) {
            let big = &lists.big_keys[class.big];
            let pbs = big.cmux[class.step].decomposition;
            keys.bootstrap.insert(BootstrapKey::of(&lists.params(big, plan.n, pbs, pbs)));
            let to = SecretKey::Lwe { dimension: plan.n };
            keys.keyswitch.extend(plan.keyswitches.iter().map(|(from, ks)| KeyswitchKey {
                from: key(*from),
                to,
                ks: *ks,
            }));
            let from = key(class.big);
            keys.keyswitch.extend(plan.conversions.iter().map(|(to, ks)| KeyswitchKey { from, to: key(*to), ks: *ks }));
        }
        keys
    }

    /// Their size, as the server holds them.
    pub(super) fn bytes(&self) -> u64 {
        let keyswitch: u64 = self.keyswitch.iter().map(KeyswitchKey::bytes).sum();
        keyswitch + self.bootstrap.iter().map(BootstrapKey::bytes).sum::<u64>()
    }
}

fn dims(lists: &Lists, index: usize) -> BigKeyDims {
    let big = &lists.big_keys[index];
    BigKeyDims { glwe_dimension: big.glwe_dimension, log2_polynomial_size: big.log2_polynomial_size }
}

impl Assignment {
    /// Everything under one set; what it costs is not told.
    pub fn one(params: ParamSet, tables: usize, regions: usize) -> Self {
        Self {
            sets: vec![params],
            tables: vec![TablePlan { set: 0, keyswitch: params.ks, conversion: None }; tables],
            homes: vec![BigKeyDims::of(&params); regions],
            cost_ns: 0.0,
            key_bytes: if tables == 0 { 0 } else { params.bootstrap_key_bytes() + params.keyswitch_key_bytes() },
        }
    }

    /// Everything under the best single set.
    pub(super) fn single(problem: &Problem, found: &Found) -> Self {
        let one = Self::one(found.params, problem.tables.len(), problem.linear_products.len());
        Self { cost_ns: found.cost_ns, ..one }
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
        self.tables[table].variance(&self.sets, self.homes[problem.tables[table].to], noise)
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
            let variance = plan.variance_after_keyswitch(&self.sets, self.homes[table.from], variance_in, noise)
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
