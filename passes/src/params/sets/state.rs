//! Classes of tables, and the cheapest parameters of each when the noise of all results is budgeted.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use fhe_ir::params::{Decomposition, ParamSet};

use super::super::CostModel;
use super::super::pareto::{Step, steps};
use super::super::search::{BigKey, Limit, Lists};
use super::assignment::Keys;
use super::{Problem, Read, TableGroup};

/// Tables that run under one set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// Big key, an index into the lists.
    pub(super) big: usize,
    /// Decomposition of its bootstraps, an index into the steps of the big key.
    pub(super) step: usize,
    /// Largest variance of a result once it is in its region.
    pub(super) budget: f64,
}

/// Choices that are made from outside; the rest follows by [`Evaluator::plan`].
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Classes.
    pub(super) classes: Vec<Class>,
    /// Class of each table group.
    pub(super) class_of: Vec<usize>,
    /// Class under whose big key each region lives.
    pub(super) home: Vec<usize>,
}

/// The parameters of a class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Small dimension.
    pub(super) n: u32,
    /// Keyswitch from each big key that is read.
    pub(super) keyswitches: Vec<(usize, Decomposition)>,
    /// Conversion to each other big key that is written to.
    pub(super) conversions: Vec<(usize, Decomposition)>,
    /// Largest variance of a result once it is in its region.
    pub(super) variance: f64,
    /// Nanoseconds of all its keyswitches, bootstraps and conversions.
    pub(super) cost: f64,
}

/// A state with what follows from it.
#[derive(Clone, Debug)]
pub(super) struct Scored {
    pub(super) state: State,
    pub(super) plans: Vec<Rc<Plan>>,
    /// Nanoseconds of one execution.
    pub(super) cost: f64,
}

/// What is asked of one class, in a form that can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Demand {
    big: usize,
    step: usize,
    /// Bits of the `f64`.
    budget: u64,
    pbs_count: u64,
    /// Big key that is read, least variance left to keyswitch and modulus switch (bits of the `f64`), keyswitches.
    reads: Vec<(usize, u64, u64)>,
    /// Other big key that is written to, conversions.
    writes: Vec<(usize, u64)>,
}

/// Levels of conversion keyswitches that budgets make room for.
pub(super) const CONVERSION_LEVELS: usize = 4;

/// How far beyond the best small dimension so far a better one is looked for: further than one level of the keyswitch
/// takes to pay.
const PAST: u32 = 64;

/// Everything that stays the same during a search.
pub(super) struct Evaluator<'a> {
    pub(super) lists: &'a Lists,
    pub(super) problem: &'a Problem,
    cost: &'a CostModel,
    /// What each read bears: tables, then outputs.
    limits: &'a [Limit],
    /// Decompositions of a keyswitch to each big key.
    conversions: Vec<Vec<Step>>,
    /// Big keys and steps that no other beats in cost, noise, slots and dimension.
    pub(super) useful: Vec<(usize, usize)>,
    max_key_bytes: u64,
    plans: RefCell<HashMap<Demand, Option<Rc<Plan>>>>,
}

impl State {
    /// All tables under the given set; `None` if it lies outside the lists.
    pub(super) fn single(evaluator: &Evaluator<'_>, params: &ParamSet) -> Option<Self> {
        let same = |big: &BigKey| {
            big.glwe_dimension == params.glwe_dimension && big.log2_polynomial_size == params.log2_polynomial_size
        };
        let big = evaluator.lists.big_keys.iter().position(same)?;
        let steps = &evaluator.lists.big_keys[big].cmux;
        let step = steps.iter().position(|step| step.decomposition == params.pbs)?;
        let budget = steps[step].variance * f64::from(params.lwe_dimension);
        Some(Self {
            classes: vec![Class { big, step, budget }],
            class_of: vec![0; evaluator.problem.tables.len()],
            home: vec![0; evaluator.problem.linear_products.len()],
        })
    }

    /// Tables with the same number of boxes in one class each; regions live with the finest table that reads them.
    pub(super) fn by_boxes(&self, problem: &Problem) -> Self {
        let boxes: BTreeSet<u32> = problem.tables.iter().map(|t| t.read.constraint.boxes).collect();
        let class = |boxes_of: u32| boxes.iter().position(|b| *b == boxes_of).expect("one of them");
        let class_of: Vec<usize> = problem.tables.iter().map(|t| class(t.read.constraint.boxes)).collect();
        let mut home = vec![0; self.home.len()];
        for (table, class) in problem.tables.iter().zip(&class_of) {
            home[table.from] = home[table.from].max(*class);
        }
        Self { classes: vec![self.classes[0]; boxes.len()], class_of, home }
    }

    /// Tables of one region with the same number of boxes in one class each, if that makes two to four.
    pub(super) fn by_region(&self, problem: &Problem) -> Option<Self> {
        let kinds: BTreeSet<(usize, u32)> = problem.tables.iter().map(|t| (t.from, t.read.constraint.boxes)).collect();
        if !(2..=4).contains(&kinds.len()) {
            return None;
        }
        let class = |t: &TableGroup| {
            let kind = (t.from, t.read.constraint.boxes);
            kinds.iter().position(|k| *k == kind).expect("one of them")
        };
        let class_of: Vec<usize> = problem.tables.iter().map(class).collect();
        let mut home = self.home.clone();
        for (table, class) in problem.tables.iter().zip(&class_of) {
            // Who writes a region, else the last who reads it.
            home[table.from] = *class;
        }
        for (table, class) in problem.tables.iter().zip(&class_of) {
            home[table.to] = *class;
        }
        Some(Self { classes: vec![self.classes[0]; kinds.len()], class_of, home })
    }

    /// Big key of a region.
    pub(super) fn key_of(&self, region: usize) -> usize {
        self.classes[self.home[region]].big
    }
}

/// Big keys and steps that no other beats in cost, noise, slots and dimension.
fn useful(lists: &Lists, cost: &CostModel) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize, [f64; 4])> = vec![];
    for (index, big) in lists.big_keys.iter().enumerate() {
        for (step, cmux) in big.cmux.iter().enumerate() {
            let unit = cost.pbs_ns(&lists.params(big, 1, cmux.decomposition, cmux.decomposition));
            let (slots, dimension) = (f64::from(big.log2_polynomial_size), f64::from(big.dimension()));
            all.push((index, step, [unit, cmux.variance, -slots, dimension]));
        }
    }
    let beats = |a: &[f64; 4], b: &[f64; 4]| a != b && a.iter().zip(b).all(|(a, b)| a <= b);
    let kept = |x: &&(usize, usize, [f64; 4])| !all.iter().any(|y| beats(&y.2, &x.2));
    all.iter().filter(kept).map(|(big, step, _)| (*big, *step)).collect()
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        lists: &'a Lists,
        problem: &'a Problem,
        cost: &'a CostModel,
        limits: &'a [Limit],
        single_key_bytes: u64,
    ) -> Self {
        let coefficient = |big: &BigKey| steps(|ks| lists.noise.variance_of_keyswitch_coefficient(ks, big.fresh).0);
        Self {
            lists,
            problem,
            cost,
            limits,
            conversions: lists.big_keys.iter().map(coefficient).collect(),
            useful: useful(lists, cost),
            max_key_bytes: problem.max_key_bytes.max(single_key_bytes),
            plans: RefCell::default(),
        }
    }

    fn keyswitch_ns(&self, from: usize, to: u32, ks: Decomposition) -> f64 {
        self.cost.ks_ns(&self.lists.params(&self.lists.big_keys[from], to, ks, ks))
    }

    /// Largest variance that arrives at a read in a region under a big key.
    fn arriving(&self, state: &State, read: &Read, key: usize) -> f64 {
        let fresh = self.lists.big_keys[key].fresh.0;
        let of = |(table, factor): &(usize, f64)| factor * state.classes[state.class_of[*table]].budget;
        (read.factors.iter()).map(|f| f.tables.iter().map(of).sum::<f64>() + f.input * fresh).fold(0.0, f64::max)
    }

    /// Whether the outputs are read right.
    fn outputs_fit(&self, state: &State) -> bool {
        let limits = &self.limits[self.problem.tables.len()..];
        self.problem.outputs.iter().zip(limits).all(|(output, limit)| {
            let arriving = self.arriving(state, &output.read, state.key_of(output.region));
            arriving <= limit.variance(&output.read.constraint, 0)
        })
    }

    /// What a state asks of a class; `None` when one of its tables has too many boxes or no room left.
    fn demand(&self, state: &State, class: usize) -> Option<Demand> {
        let Class { big, step, budget } = state.classes[class];
        let own = &self.lists.big_keys[big];
        let mut demand = Demand { big, step, budget: budget.to_bits(), pbs_count: 0, reads: vec![], writes: vec![] };
        let mut switched: Vec<usize> = vec![];
        for (i, table) in self.problem.tables.iter().enumerate().filter(|(i, _)| state.class_of[*i] == class) {
            let (from, to) = (state.key_of(table.from), state.key_of(table.to));
            let slack = self.limits[i].variance(&table.read.constraint, own.log2_polynomial_size)
                - self.arriving(state, &table.read, from);
            if slack <= 0.0 || u64::from(table.read.constraint.boxes) * 2 > 1 << own.log2_polynomial_size {
                return None;
            }
            // Positive numbers have the order of their bits.
            let slack = slack.to_bits();
            let keyswitches = if switched.contains(&table.operand) { 0 } else { table.ks_count };
            switched.push(table.operand);
            match demand.reads.iter_mut().find(|(key, ..)| *key == from) {
                Some((_, least, count)) => (*least, *count) = (slack.min(*least), *count + keyswitches),
                None => demand.reads.push((from, slack, keyswitches)),
            }
            demand.pbs_count += table.pbs_count;
            if to != big {
                match demand.writes.iter_mut().find(|(key, _)| *key == to) {
                    Some((_, count)) => *count += table.pbs_count,
                    None => demand.writes.push((to, table.pbs_count)),
                }
            }
        }
        Some(demand)
    }

    /// The state's cost and plans, if it is feasible, cheaper than `bound`, and its keys are small enough.
    pub(super) fn score(&self, state: &State, bound: f64) -> Option<Scored> {
        if !self.outputs_fit(state) {
            return None;
        }
        let linear = |(region, products): (usize, &u64)| {
            let unused = Decomposition { base_log: 1, level: 1 };
            let big = &self.lists.big_keys[state.key_of(region)];
            *products as f64 * self.cost.linear_ns(&self.lists.params(big, 1, unused, unused))
        };
        let mut cost: f64 = self.problem.linear_products.iter().enumerate().map(linear).sum();
        let mut plans = Vec::with_capacity(state.classes.len());
        for class in 0..state.classes.len() {
            let plan = self.plan_of(state, class)?;
            cost += plan.cost;
            if cost >= bound {
                return None;
            }
            plans.push(plan);
        }
        let scored = Scored { state: state.clone(), plans, cost };
        (state.classes.len() == 1 || Keys::of(self.lists, &scored).bytes() <= self.max_key_bytes).then_some(scored)
    }

    /// The parameters of one class of a state.
    pub(super) fn plan_of(&self, state: &State, class: usize) -> Option<Rc<Plan>> {
        let demand = self.demand(state, class)?;
        let known = self.plans.borrow().get(&demand).cloned();
        known.unwrap_or_else(|| {
            let plan = self.plan(&demand).map(Rc::new);
            self.plans.borrow_mut().insert(demand, plan.clone());
            plan
        })
    }

    /// Whether a class may pay under its big key and decomposition: whether its bootstraps cost less than `bound` with
    /// the smallest dimension whose keyswitch is quiet enough.
    pub(super) fn may_pay(&self, state: &State, class: usize, bound: f64) -> bool {
        let big = &self.lists.big_keys[state.classes[class].big];
        let (mut pbs_count, mut first) = (0, 0);
        for (i, table) in self.problem.tables.iter().enumerate().filter(|(i, _)| state.class_of[*i] == class) {
            let c = &table.read.constraint;
            if u64::from(c.boxes) * 2 > 1 << big.log2_polynomial_size {
                return false;
            }
            let dimension = f64::from(self.lists.big_keys[state.key_of(table.from)].dimension());
            let most = self.limits[i].variance(c, big.log2_polynomial_size) / dimension;
            first = first.max(self.lists.first_lwe_dimension(most));
            pbs_count += table.pbs_count;
        }
        let Some((n, _)) = self.lists.lwe_dimensions().nth(first) else { return false };
        let pbs = big.cmux[state.classes[class].step].decomposition;
        pbs_count as f64 * self.cost.pbs_ns(&self.lists.params(big, n, pbs, pbs)) < bound
    }

    /// What conversions of the first levels add to the results of a class, for each big key it converts to; nothing
    /// where it does not convert.
    pub(super) fn conversion_noises(&self, state: &State, class: usize) -> Vec<f64> {
        let big = state.classes[class].big;
        let tables = self.problem.tables.iter().zip(&state.class_of).filter(|(_, of)| **of == class);
        let keys: BTreeSet<usize> = tables.map(|(table, _)| state.key_of(table.to)).filter(|key| *key != big).collect();
        let dimension = f64::from(self.lists.big_keys[big].dimension());
        let levels = keys.iter().flat_map(|key| self.conversions[*key].iter().take(CONVERSION_LEVELS));
        let noises: Vec<f64> = levels.map(|step| step.variance * dimension).collect();
        if noises.is_empty() { vec![0.0] } else { noises }
    }

    /// Per table: the most that a read asks of its noise (factor by variance allowed); the variance allowed where it
    /// reads; what of that the results that reach it leave.
    pub(super) fn tightness(&self, state: &State) -> [Vec<f64>; 3] {
        let log2_n = |class: usize| self.lists.big_keys[state.classes[class].big].log2_polynomial_size;
        let tables = &self.problem.tables;
        let allowed_at: Vec<f64> = (tables.iter().zip(self.limits).zip(&state.class_of))
            .map(|((table, limit), class)| limit.variance(&table.read.constraint, log2_n(*class)))
            .collect();
        let slack = tables.iter().zip(&allowed_at);
        let slack = slack.map(|(t, a)| a - self.arriving(state, &t.read, state.key_of(t.from))).collect();
        let outputs = self.problem.outputs.iter().zip(&self.limits[tables.len()..]);
        let of_outputs = outputs.map(|(o, limit)| (&o.read, limit.variance(&o.read.constraint, 0)));
        let mut demand = vec![0.0f64; tables.len()];
        for (read, allowed) in tables.iter().map(|t| &t.read).zip(allowed_at.iter().copied()).chain(of_outputs) {
            for (table, factor) in read.factors.iter().flat_map(|f| &f.tables) {
                demand[*table] = demand[*table].max(factor / allowed);
            }
        }
        [demand, allowed_at, slack]
    }

    /// The cheapest parameters of a class. A class without tables costs nothing.
    ///
    /// Raising `n` raises the cost and noise of the bootstrap and the noise of the modulus switch, so each of them ends
    /// the loop; only keyswitch noise falls.
    fn plan(&self, demand: &Demand) -> Option<Plan> {
        let big = &self.lists.big_keys[demand.big];
        let step = big.cmux[demand.step];
        let budget = f64::from_bits(demand.budget);
        let first = demand.reads.iter().map(|&(from, slack, _)| {
            let coefficient = f64::from_bits(slack) / f64::from(self.lists.big_keys[from].dimension());
            self.lists.first_lwe_dimension(coefficient)
        });
        let first = first.max().unwrap_or(0);
        let mut best: Option<(f64, u32, &[Step], f64)> = None;
        for (n, keyswitches) in self.lists.lwe_dimensions().skip(first) {
            let bootstrap = step.variance * f64::from(n);
            let params = self.lists.params(big, n, step.decomposition, step.decomposition);
            let mut cost = demand.pbs_count as f64 * self.cost.pbs_ns(&params);
            let modulus_switch = self.lists.noise.variance_of_modulus_switch(n, big.log2_polynomial_size).0;
            let full = demand.reads.iter().any(|(_, slack, _)| f64::from_bits(*slack) <= modulus_switch);
            // Beyond the reach of a level's saving nothing gets cheaper any more.
            let past = best.is_some_and(|(least, at, ..)| cost >= least || n > at + PAST);
            if full || past || bootstrap > budget {
                break;
            }
            for read in &demand.reads {
                let ks = self.keyswitch(read, keyswitches, modulus_switch);
                cost += ks.map_or(f64::INFINITY, |ks| read.2 as f64 * self.keyswitch_ns(read.0, n, ks));
            }
            if cost == f64::INFINITY || best.is_some_and(|(least, ..)| cost >= least) {
                continue;
            }
            for write in &demand.writes {
                let conversion = self.conversion(demand.big, write.0, budget - bootstrap);
                cost += conversion.map_or(f64::INFINITY, |step| {
                    let dimension = self.lists.big_keys[write.0].dimension();
                    write.1 as f64 * self.keyswitch_ns(demand.big, dimension, step.decomposition)
                });
            }
            if cost == f64::INFINITY {
                break;
            }
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, n, keyswitches, modulus_switch));
            }
        }
        let (cost, n, steps, modulus_switch) = best?;
        let bootstrap = step.variance * f64::from(n);
        let dimension = f64::from(big.dimension());
        let converted: Vec<_> = (demand.writes.iter())
            .map(|&(to, _)| Some((to, self.conversion(demand.big, to, budget - bootstrap)?)))
            .collect::<Option<_>>()?;
        let noise = converted.iter().map(|(_, step)| step.variance * dimension).fold(0.0, f64::max);
        let keyswitches = (demand.reads.iter())
            .map(|read| Some((read.0, self.keyswitch(read, steps, modulus_switch)?)))
            .collect::<Option<_>>()?;
        let conversions = converted.iter().map(|(to, step)| (*to, step.decomposition)).collect();
        Some(Plan { n, keyswitches, conversions, variance: (bootstrap + noise).min(budget), cost })
    }

    /// The cheapest keyswitch of a read that is quiet enough.
    fn keyswitch(&self, read: &(usize, u64, u64), steps: &[Step], modulus_switch: f64) -> Option<Decomposition> {
        let dimension = f64::from(self.lists.big_keys[read.0].dimension());
        let left = f64::from_bits(read.1) - modulus_switch;
        steps.iter().find(|ks| ks.variance * dimension <= left).map(|ks| ks.decomposition)
    }

    /// The cheapest conversion that adds at most `left`, but for rounding.
    fn conversion(&self, from: usize, to: usize, left: f64) -> Option<Step> {
        let dimension = f64::from(self.lists.big_keys[from].dimension());
        let within = left * (1.0 + 1e-9);
        self.conversions[to].iter().find(|step| step.variance * dimension <= within).copied()
    }
}
