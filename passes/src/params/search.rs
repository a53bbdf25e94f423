//! The cheapest parameter set that keeps every read of a circuit precise enough.

use fhe_ir::params::{Decomposition, ParamSet, SecurityCurve, Variance};

use super::pareto::{Step, steps};
use super::sets::solve_in;
use super::{
    Assignment, Constraint, CostModel, ErrorTarget, Found, Infeasible, NoiseModel, Problem, Requirements, SearchSpace,
    Sources, evaluate, kappa,
};

/// The cheapest parameter set of the search space under which the circuit meets its error target.
///
/// Deterministic; of two sets of equal cost the one with the smaller `k`, then `N`, then PBS level, then `n` is taken.
///
/// # Errors
/// When there is none, with the read that stands in the way.
pub fn search(req: &Requirements, noise: &NoiseModel, cost: &CostModel) -> Result<Found, Infeasible> {
    search_in(&Lists::new(req.curve, *noise, req.space), req, cost)
}

/// A search that is asked again and again: what depends on curve, noise model and space alone is computed once.
pub struct Prepared(Lists);

impl Prepared {
    /// Prepares a search.
    pub fn new(curve: SecurityCurve, noise: NoiseModel, space: SearchSpace) -> Self {
        Self(Lists::new(curve, noise, space))
    }

    /// As [`search`], on the prepared curve and space, whatever the requirements say of these two.
    ///
    /// # Errors
    /// When there is none, with the read that stands in the way.
    pub fn search(&self, req: &Requirements, cost: &CostModel) -> Result<Found, Infeasible> {
        search_in(&self.0, req, cost)
    }

    /// As [`super::solve`], on the prepared curve and space, whatever the problem says of these two.
    ///
    /// # Errors
    /// When no single set satisfies the circuit, with the read that stands in the way.
    pub fn solve(&self, problem: &Problem, cost: &CostModel) -> Result<Assignment, Infeasible> {
        solve_in(&self.0, problem, cost)
    }
}

/// Everything of a search that does not depend on the circuit.
pub(super) struct Lists {
    pub(super) curve: SecurityCurve,
    pub(super) noise: NoiseModel,
    space: SearchSpace,
    /// Keyswitch decompositions for every `n`, from the smallest.
    keyswitch: Vec<Vec<Step>>,
    /// Least variance of a keyswitched coefficient for every `n`: it falls.
    quietest: Vec<f64>,
    /// In the order of the search.
    pub(super) big_keys: Vec<BigKey>,
}

/// A pair of `k` and `N` on the curve.
pub(super) struct BigKey {
    pub(super) glwe_dimension: u32,
    pub(super) log2_polynomial_size: u32,
    pub(super) fresh: Variance,
    pub(super) cmux: Vec<Step>,
}

impl BigKey {
    /// `k·N`.
    pub(super) fn dimension(&self) -> u32 {
        self.glwe_dimension << self.log2_polynomial_size
    }
}

impl Lists {
    pub(super) fn new(curve: SecurityCurve, noise: NoiseModel, space: SearchSpace) -> Self {
        let space = space.supported();
        let keyswitch: Vec<Vec<Step>> = (space.lwe_dimension.0..=space.lwe_dimension.1)
            .map(|n| {
                let key = curve.minimal_variance(n).expect("the supported space begins at the curve's first dimension");
                steps(|ks| noise.variance_of_keyswitch_coefficient(ks, key).0)
            })
            .collect();
        let (k_lo, k_hi) = space.glwe_dimension;
        let (n_lo, n_hi) = space.log2_polynomial_size;
        let big_keys = (k_lo..=k_hi)
            .flat_map(|k| (n_lo..=n_hi).map(move |log2_n| (k, log2_n)))
            .filter(|(k, log2_n)| (k << log2_n) <= 1 << 17)
            .filter_map(|(glwe_dimension, log2_polynomial_size)| {
                let fresh = curve.minimal_variance(glwe_dimension << log2_polynomial_size)?;
                let cmux = steps(|pbs| noise.variance_of_cmux(glwe_dimension, log2_polynomial_size, pbs, fresh).0);
                Some(BigKey { glwe_dimension, log2_polynomial_size, fresh, cmux })
            })
            .collect();
        let quietest = keyswitch.iter().map(|s| s.last().map_or(f64::INFINITY, |last| last.variance)).collect();
        Self { curve, noise, space, keyswitch, quietest, big_keys }
    }

    pub(super) fn curve(&self) -> SecurityCurve {
        self.curve
    }

    pub(super) fn lwe_dimensions(&self) -> impl Iterator<Item = (u32, &Vec<Step>)> {
        (self.space.lwe_dimension.0..).zip(&self.keyswitch)
    }

    /// Index of the first `n` whose quietest keyswitch has at most this variance per coefficient.
    pub(super) fn first_lwe_dimension(&self, coefficient: f64) -> usize {
        self.quietest.partition_point(|&variance| variance > coefficient)
    }

    pub(super) fn params(&self, big: &BigKey, lwe_dimension: u32, pbs: Decomposition, ks: Decomposition) -> ParamSet {
        ParamSet {
            curve: self.curve,
            lwe_dimension,
            glwe_dimension: big.glwe_dimension,
            log2_polynomial_size: big.log2_polynomial_size,
            pbs,
            ks,
        }
    }
}

/// `slope·(variance of a bootstrap) ≤ slack`, from a constraint under one big key.
#[derive(Clone, Copy)]
struct Line {
    slope: f64,
    slack: f64,
}

impl Line {
    /// What the constraint leaves to keyswitch and modulus switch.
    fn left(&self, bootstrap: f64) -> f64 {
        self.slack - self.slope * bootstrap
    }
}

pub(super) fn search_in(lists: &Lists, req: &Requirements, cost: &CostModel) -> Result<Found, Infeasible> {
    let p = match req.target {
        ErrorTarget::PerTable(p) | ErrorTarget::Global(p) => p,
        ErrorTarget::Noise(log2_sd) => log2_sd.exp2(),
    };
    if !(p > 0.0 && p < 1.0) {
        return Err(Infeasible::Target(p));
    }
    if lists.big_keys.is_empty() || lists.keyswitch.is_empty() {
        return Err(Infeasible::EmptySpace(req.space));
    }
    let limits: Vec<Limit> = req.constraints.iter().map(|c| Limit::of(req.target, c, lists.noise)).collect();
    let levelled = req.pbs_count == 0 && req.constraints.iter().all(|c| !c.table && c.norm2_pbs == 0.0);
    if levelled {
        return search_levelled(lists, req, cost, &limits);
    }

    let tables = req.constraints.iter().enumerate().filter(|(_, c)| c.table);
    let (constraint, boxes) = tables.map(|(i, c)| (i, c.boxes)).max_by_key(|&(_, boxes)| boxes).unwrap_or((0, 1));
    let fits = |big: &&BigKey| u64::from(boxes) * 2 <= 1 << big.log2_polynomial_size;
    if !lists.big_keys.iter().any(|big| fits(&big)) {
        let largest = 1 << lists.space.log2_polynomial_size.1;
        return Err(Infeasible::TooManyBoxes { constraint, boxes, largest });
    }

    let mut best: Option<Found> = None;
    for big in lists.big_keys.iter().filter(fits) {
        search_big_key(lists, big, req, cost, &limits, &mut best);
    }
    best.ok_or_else(|| explain(lists, lists.big_keys.iter().filter(fits), req, &limits))
}

/// The cheapest set of every big key that has one under these limits, the cheapest first, for a circuit with tables.
pub(super) fn search_each_big_key(lists: &Lists, req: &Requirements, limits: &[Limit], cost: &CostModel) -> Vec<Found> {
    let boxes = req.constraints.iter().filter(|c| c.table).map(|c| u64::from(c.boxes)).max().unwrap_or(1);
    let fits = lists.big_keys.iter().filter(|big| boxes * 2 <= 1 << big.log2_polynomial_size);
    let cheapest = |big| {
        let mut best = None;
        search_big_key(lists, big, req, cost, limits, &mut best);
        best
    };
    let mut all: Vec<Found> = fits.filter_map(cheapest).collect();
    // Stable: equal costs stay in the order of the search.
    all.sort_by(|a, b| a.cost_ns.total_cmp(&b.cost_ns));
    all
}

/// What an error target asks of one read.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// So many standard deviations of the noise, with the model's reserve, fit into the bound.
    Deviations(f64),
    /// The standard deviation itself, on the torus.
    Sd(f64),
}

impl Limit {
    /// The limit of a read if all others never fail.
    pub(super) fn of(target: ErrorTarget, c: &Constraint, noise: NoiseModel) -> Self {
        let deviations = |p| Self::Deviations(kappa(p) / noise.bound_filled());
        match target {
            ErrorTarget::PerTable(p) => deviations(p),
            // Of `count` equal reads each may fail so often.
            ErrorTarget::Global(p) => deviations(-((-p).ln_1p() / c.count.max(1) as f64).exp_m1()),
            ErrorTarget::Noise(log2_sd) => Self::Sd(log2_sd.exp2() * c.filled()),
        }
    }

    /// Largest variance at the read that is precise enough; 0 when no noise is.
    pub(super) fn variance(self, c: &Constraint, log2_polynomial_size: u32) -> f64 {
        // Below one by more than the rounding of the sums it is compared with, so that `evaluate` agrees.
        const ROUNDING: f64 = 1.0 - 1e-12;
        let sd = match self {
            Self::Deviations(kappa) => c.bound(log2_polynomial_size).max(0.0) / kappa,
            Self::Sd(sd) => sd,
        };
        sd * sd * ROUNDING
    }
}

/// The constraints of one kind as lines, without those that another implies.
fn lines(req: &Requirements, big: &BigKey, limits: &[Limit], table: bool) -> Vec<Line> {
    let mut lines: Vec<Line> = req
        .constraints
        .iter()
        .zip(limits)
        .filter(|(c, _)| c.table == table)
        .map(|(c, limit)| Line {
            slope: c.norm2_pbs,
            slack: limit.variance(c, big.log2_polynomial_size) - c.norm2_input * big.fresh.0,
        })
        .collect();
    lines.sort_by(|a, b| b.slope.total_cmp(&a.slope).then(a.slack.total_cmp(&b.slack)));
    let mut least = f64::INFINITY;
    lines.retain(|line| {
        let kept = line.slack < least;
        least = least.min(line.slack);
        kept
    });
    lines
}

/// Improves `best` with the sets of one big key.
///
/// For a fixed PBS decomposition, raising `n` raises cost, bootstrap noise and modulus switch noise, so each of them
/// ends the loop; only keyswitch noise falls.
fn search_big_key(
    lists: &Lists,
    big: &BigKey,
    req: &Requirements,
    cost: &CostModel,
    limits: &[Limit],
    best: &mut Option<Found>,
) {
    let tables = lines(req, big, limits, true);
    let outputs = lines(req, big, limits, false);
    let big_dimension = f64::from(big.glwe_dimension << big.log2_polynomial_size);
    for cmux in &big.cmux {
        for (n, keyswitches) in lists.lwe_dimensions() {
            let bootstrap = cmux.variance * f64::from(n);
            if outputs.iter().any(|line| line.left(bootstrap) < 0.0) {
                break;
            }
            let modulus_switch = lists.noise.variance_of_modulus_switch(n, big.log2_polynomial_size).0;
            let left = tables.iter().map(|line| line.left(bootstrap)).fold(f64::INFINITY, f64::min) - modulus_switch;
            if left <= 0.0 {
                break;
            }
            let best_ns = best.as_ref().map_or(f64::INFINITY, |found| found.cost_ns);
            let params = lists.params(big, n, cmux.decomposition, keyswitches[0].decomposition);
            let without_ks =
                req.pbs_count as f64 * cost.pbs_ns(&params) + req.linear_products as f64 * cost.linear_ns(&params);
            if without_ks >= best_ns {
                break;
            }
            let with = |ks: &Step| ParamSet { ks: ks.decomposition, ..params };
            let quiet = keyswitches.partition_point(|ks| ks.variance * big_dimension > left);
            let cheap =
                keyswitches.partition_point(|ks| without_ks + req.ks_count as f64 * cost.ks_ns(&with(ks)) < best_ns);
            if quiet >= cheap {
                continue;
            }
            let first = match req.target {
                ErrorTarget::PerTable(_) | ErrorTarget::Noise(_) => quiet,
                // The lines hold for each read alone; a global target is shared by all of them.
                ErrorTarget::Global(_) => {
                    let meets = |ks: &Step| evaluate(req, with(ks), &lists.noise, cost).meets(req.target);
                    if !meets(&keyswitches[cheap - 1]) {
                        continue;
                    }
                    quiet + keyswitches[quiet..cheap].partition_point(|ks| !meets(ks))
                }
            };
            *best = Some(evaluate(req, with(&keyswitches[first]), &lists.noise, cost));
        }
    }
}

/// A circuit without tables needs a big key only: the smallest `k` and then the smallest `N ≥ 512` whose encryptions
/// are precise enough. Its small key is never made.
fn search_levelled(lists: &Lists, req: &Requirements, cost: &CostModel, limits: &[Limit]) -> Result<Found, Infeasible> {
    let unused = Decomposition { base_log: 1, level: 1 };
    let k = lists.space.glwe_dimension.0;
    let big_keys = || lists.big_keys.iter().filter(|big| big.glwe_dimension == k && big.log2_polynomial_size >= 9);
    big_keys()
        .map(|big| {
            let params = lists.params(big, lists.space.lwe_dimension.0, unused, unused);
            evaluate(req, params, &lists.noise, cost)
        })
        .find(|found| found.meets(req.target))
        .ok_or_else(|| match big_keys().next() {
            Some(_) => explain(lists, big_keys(), req, limits),
            None => Infeasible::EmptySpace(req.space),
        })
}

/// The read that misses its bound by most, under the set where that miss is smallest.
fn explain<'a>(
    lists: &Lists,
    big_keys: impl Iterator<Item = &'a BigKey>,
    req: &Requirements,
    limits: &[Limit],
) -> Infeasible {
    let mut closest: Option<(f64, usize, ParamSet)> = None;
    for big in big_keys {
        let cmux = big.cmux.last().expect("a list of steps is never empty");
        let allowed: Vec<f64> = (req.constraints.iter().zip(limits))
            .map(|(c, limit)| limit.variance(c, big.log2_polynomial_size))
            .collect();
        for (n, keyswitches) in lists.lwe_dimensions() {
            let ks = keyswitches.last().expect("a list of steps is never empty");
            let params = lists.params(big, n, cmux.decomposition, ks.decomposition);
            let sources = Sources::new(lists.noise, &params);
            let (miss, constraint) = (req.constraints.iter().zip(&allowed).enumerate())
                .map(|(i, (c, allowed))| (sources.parts(c).iter().sum::<f64>() / allowed, i))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .expect("requirements without a constraint are always met");
            if closest.is_none_or(|(least, ..)| miss < least) {
                closest = Some((miss, constraint, params));
            }
        }
    }
    let (_, constraint, closest) = closest.expect("some big key fits");
    let c = &req.constraints[constraint];
    let sources = Sources::new(lists.noise, &closest);
    let shares = sources.shares(c);
    Infeasible::TooNoisy {
        constraint,
        bits: -c.half_box.log2() - 2.0,
        log2_norm_pbs: 0.5 * c.norm2_pbs.log2(),
        log2_norm_input: 0.5 * c.norm2_input.log2(),
        log2_sd_allowed: 0.5 * limits[constraint].variance(c, closest.log2_polynomial_size).log2(),
        log2_sd: Variance(sources.parts(c).iter().sum()).log2_sd(),
        dominant: shares[0].source,
        shares,
        closest,
    }
}
