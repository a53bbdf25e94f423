//! Several key sets for one circuit: which table runs under which keys.
//!
//! Values that linear ops connect form a region and live under one big key. A table keyswitches its operand from the
//! big key of the region it reads to the small key of its set, bootstraps, and gives a value under the big key of its
//! set; if the region it writes into lives under another one, a conversion keyswitch follows. Keys are known by their
//! dimensions: sets with the same `n`, or the same `k` and `N`, share that secret key.
//!
//! The search starts from the single best set, which is a valid answer, and only ever takes what is cheaper. Each class
//! of tables has a budget, the variance of its results; with the budgets fixed the classes are independent of one
//! another, so a change of one class re-optimises the classes that read it at once ([`state`]). Coordinate descent over
//! classes ([`descent`]) alternates with splitting a class in two ([`split`]).

mod assignment;
mod descent;
mod split;
mod state;

use fhe_ir::params::SecurityCurve;

pub use assignment::{Assignment, BigKeyDims, TablePlan};

use super::search::{Limit, Lists, search_each_big_key, search_in};
use super::{
    Constraint, ConstraintReport, CostModel, ErrorTarget, Found, Infeasible, NoiseModel, Requirements, SearchSpace,
};
use descent::descend;
use split::refine;
use state::{Evaluator, Scored, State};

/// Factors on the variances that reach a read, in one channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Factors {
    /// Of the results of table groups, by their number: each at most once.
    pub tables: Vec<(usize, f64)>,
    /// Of fresh encryptions under the big key of the region.
    pub input: f64,
}

impl Factors {
    /// Whether no source has a larger factor here than there.
    fn within(&self, other: &Self) -> bool {
        let of = |table: usize| other.tables.iter().find(|(t, _)| *t == table).map_or(0.0, |(_, factor)| *factor);
        self.input <= other.input && self.tables.iter().all(|&(table, factor)| factor <= of(table))
    }
}

/// A read: how precise it has to be, and what reaches it.
#[derive(Clone, Debug)]
pub struct Read {
    /// As for a single set; its norms are not below the sums over all sources, worst over the channels.
    pub constraint: Constraint,
    /// One entry per channel that no other channel dominates.
    factors: Vec<Factors>,
}

impl Read {
    /// A read of values with these factors; channels that another dominates are left out. The norms of the constraint
    /// are raised to the factors where they are below.
    pub fn new(constraint: Constraint, channels: Vec<Factors>) -> Self {
        let mut factors: Vec<Factors> = Vec::new();
        for channel in channels {
            if factors.iter().any(|kept| channel.within(kept)) {
                continue;
            }
            factors.retain(|kept| !kept.within(&channel));
            factors.push(channel);
        }
        let most = |of: fn(&Factors) -> f64| factors.iter().map(of).fold(0.0, f64::max);
        let pbs = most(|f| f.tables.iter().map(|(_, factor)| factor).sum());
        let norm2_pbs = constraint.norm2_pbs.max(pbs);
        let norm2_input = constraint.norm2_input.max(most(|f| f.input));
        let constraint = Constraint { norm2_pbs, norm2_input, ..constraint };
        Self { constraint, factors }
    }

    /// The undominated channels.
    pub fn factors(&self) -> &[Factors] {
        &self.factors
    }
}

/// Tables that always run under the same keys: usually one `lut` of a graph.
#[derive(Clone, Debug)]
pub struct TableGroup {
    /// Region that is read.
    pub from: usize,
    /// Region that the results belong to.
    pub to: usize,
    /// Groups with the same number read the same values: under one small key they share the keyswitch.
    pub operand: usize,
    /// Bootstraps of one execution.
    pub pbs_count: u64,
    /// Keyswitches of one execution if none is shared.
    pub ks_count: u64,
    /// How it reads.
    pub read: Read,
}

/// Values that are decrypted.
#[derive(Clone, Debug)]
pub struct OutputGroup {
    /// Region that they belong to.
    pub region: usize,
    /// How they are read.
    pub read: Read,
}

/// What a circuit asks of its key sets.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Tables.
    pub tables: Vec<TableGroup>,
    /// Outputs.
    pub outputs: Vec<OutputGroup>,
    /// Products of a ciphertext by a clear weight, per region.
    pub linear_products: Vec<u64>,
    /// How often it may be wrong.
    pub target: ErrorTarget,
    /// Security of all keys.
    pub curve: SecurityCurve,
    /// Where to search.
    pub space: SearchSpace,
    /// Largest size of all evaluation keys. A single set may exceed it: then no second one is taken.
    pub max_key_bytes: u64,
    /// Part of the cost that splitting a class has to save, for example 0.02.
    pub min_gain: f64,
    /// Under [`ErrorTarget::Noise`], all reads as one.
    pub mean: Option<MeanNoise>,
}

/// A bound on the weighted mean of the variances of all reads, in place of one on each.
#[derive(Clone, Debug)]
pub struct MeanNoise {
    /// What a single set is searched with.
    pub constraint: Constraint,
    /// What a variance at each read costs, tables first, then outputs; the mean is over the tables.
    pub weights: Vec<f64>,
    /// For each read, the factor by which noise of bootstraps costs more than its mean over the channels says.
    pub growths: Vec<f64>,
}

impl Problem {
    /// The same circuit for a single set: tables first, then outputs.
    pub fn single(&self) -> Requirements {
        let mut operands: Vec<_> = self.tables.iter().map(|t| (t.operand, t.ks_count)).collect();
        operands.sort_unstable();
        operands.dedup_by_key(|(operand, _)| *operand);
        Requirements {
            constraints: match &self.mean {
                Some(mean) => vec![mean.constraint],
                None => self.reads().map(|read| read.constraint).collect(),
            },
            pbs_count: self.tables.iter().map(|t| t.pbs_count).sum(),
            ks_count: operands.iter().map(|(_, count)| count).sum(),
            linear_products: self.linear_products.iter().sum(),
            target: self.target,
            curve: self.curve,
            space: self.space,
        }
    }

    /// All reads: tables, then outputs.
    fn reads(&self) -> impl Iterator<Item = &Read> {
        self.tables.iter().map(|t| &t.read).chain(self.outputs.iter().map(|o| &o.read))
    }
}

/// Big keys whose best single sets the search starts from.
const STARTS: usize = 3;

/// Descents whose classes are split further.
const REFINED: usize = 2;

/// The cheapest assignment found; never costlier than the best single set. Deterministic.
///
/// # Errors
/// When no single set satisfies the circuit, with the read that stands in the way.
pub fn solve(problem: &Problem, noise: &NoiseModel, cost: &CostModel) -> Result<Assignment, Infeasible> {
    solve_in(&Lists::new(problem.curve, *noise, problem.space), problem, cost)
}

/// As [`solve`], on prepared lists.
pub(super) fn solve_in(lists: &Lists, problem: &Problem, cost: &CostModel) -> Result<Assignment, Infeasible> {
    let requirements = problem.single();
    let single = search_in(lists, &requirements, cost)?;
    let alone = Assignment::single(problem, &single);
    if problem.tables.is_empty() {
        return Ok(alone);
    }
    let mut best = alone;
    let key_bytes = best.key_bytes;
    for limits in limits(lists, problem, &requirements, &single) {
        let evaluator = Evaluator::new(lists, problem, cost, &limits, key_bytes);
        let constraints = problem.reads().map(|read| read.constraint).collect();
        // The limits say all: none is shared.
        let each = Requirements { constraints, target: ErrorTarget::PerTable(0.5), ..requirements.clone() };
        let starts = search_each_big_key(lists, &each, &limits, cost).into_iter().take(STARTS);
        let starts = starts.filter_map(|set| State::single(&evaluator, &set.params));
        let mut found: Vec<Scored> =
            starts.flat_map(|s| [s.by_boxes(problem), s]).filter_map(|s| descend(&evaluator, s)).collect();
        // Few kinds of tables may start apart from one another.
        let apart = State::single(&evaluator, &single.params).and_then(|s| s.by_region(problem));
        let apart = apart.and_then(|s| descend(&evaluator, s));
        // Stable: equal costs stay in the order of the starts.
        found.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        found.truncate(REFINED);
        found.extend(apart);
        for scored in found {
            let scored = refine(&evaluator, scored);
            if scored.cost < best.cost_ns {
                best = Assignment::of(&evaluator, &scored);
            }
        }
    }
    Ok(best)
}

/// What each read bears, tables first.
///
/// A global target is shared in two ways: half of it, or nearly all, as the single set shares it; the rest evenly. A mean
/// is shared as the single set does, and by powers of what a read costs in time over its weight.
fn limits(lists: &Lists, problem: &Problem, requirements: &Requirements, single: &Found) -> Vec<Vec<Limit>> {
    let reads = || problem.reads().map(|read| &read.constraint);
    match (requirements.target, &problem.mean) {
        (ErrorTarget::Global(p), _) => {
            let counted = || single.per_constraint.iter().zip(reads());
            // The sum of all probabilities is never below the probability that one fails.
            let even = p / counted().map(|(_, c)| c.count as f64).sum::<f64>().max(1.0);
            let used: f64 = counted().map(|(r, c)| r.p_fail * c.count as f64).sum();
            let scale = if used > 0.0 { p / used } else { 0.0 };
            let share = |part: f64| {
                let of = |(r, c): (&ConstraintReport, &Constraint)| {
                    let p = part * r.p_fail * scale + (1.0 - part) * even;
                    Limit::of(ErrorTarget::PerTable(p), c, lists.noise)
                };
                counted().map(of).collect()
            };
            vec![share(0.5), share(0.95)]
        }
        (ErrorTarget::Noise(log2_sd), Some(mean)) => {
            let weights = || mean.weights.iter().copied();
            let tables: f64 = weights().take(problem.tables.len()).sum();
            let allowed = (2.0 * log2_sd).exp2() * tables;
            let as_single = Assignment::single(problem, single).reports(problem, lists.noise);
            let as_single: Vec<f64> = as_single.iter().map(|r| r.variance.0).collect();
            let counts: Vec<f64> = reads().map(|c| c.count as f64).collect();
            let powers = [0.3, 0.5, 0.7].map(|power| {
                let cheap = counts.iter().zip(weights()).zip(&as_single);
                // An output costs no time: it stays as quiet as it is.
                cheap
                    .enumerate()
                    .map(
                        |(i, ((count, weight), v))| {
                            if i < problem.tables.len() { (count / weight.max(1e-300)).powf(power) } else { *v }
                        },
                    )
                    .collect::<Vec<f64>>()
            });
            let shared = |raw: &[f64]| {
                let (tables_raw, outputs_raw) = raw.split_at(problem.tables.len());
                let outputs: f64 = outputs_raw.iter().zip(weights().skip(tables_raw.len())).map(|(v, w)| v * w).sum();
                let sum: f64 = tables_raw.iter().zip(weights()).map(|(v, w)| v * w).sum();
                // Below one by more than the rounding of the sums.
                let scale = (allowed - outputs).max(0.0) / sum * (1.0 - 1e-9);
                let sd = |(i, v): (usize, &f64)| Limit::Sd((if i < tables_raw.len() { v * scale } else { *v }).sqrt());
                raw.iter().enumerate().map(sd).collect()
            };
            std::iter::once(&as_single).chain(&powers).map(|raw| shared(raw)).collect()
        }
        _ => vec![reads().map(|c| Limit::of(requirements.target, c, lists.noise)).collect()],
    }
}
