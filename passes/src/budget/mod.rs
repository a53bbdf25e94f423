//! The accuracy budget: the cheapest circuit whose simulated accuracy stays close to that of the integer network.
//!
//! A table lookup costs about twice as much for each bit less of noise, and what noise a network bears only its rows can
//! tell. The search simulates circuits of more and more noise, with domains as wide as the ranges seen and narrower (a
//! narrower domain makes noise relatively smaller, and values outside saturate), and keeps the cheapest that loses no
//! more than the budget. Every simulation is seeded: the same rows give the same circuit.

pub mod boxes;
mod climb;
mod judge;
mod margins;
mod paired;
mod sensitivity;

use fhe_ir::client::ClientError;
use fhe_ir::{Graph, Phase};
use serde::{Deserialize, Serialize};

pub use judge::Data;
pub use paired::Paired;
pub use sensitivity::{Sensitivities, Sensitivity, output_key};

use crate::manager::{PipelineError, Trial};
use crate::options::Options;
use crate::pass::PassError;
use climb::{Choice, Front, Search, log2_noise};
use judge::{Judge, Known};

/// Accuracy that a compilation may lose to noise when nothing else is asked for.
pub const DEFAULT_BUDGET: f64 = 0.005;

/// Part of the cost that a variant has to save.
const MIN_GAIN: f64 = 0.01;

/// Rows on which sensitivities are measured.
const PROBED: usize = 64;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Accuracy that may be lost, as asked for.
    pub asked: f64,
    /// Accuracy that the rows can certify at best; where it is more than the budget, the bound may be their sum.
    pub certifiable: f64,
    /// The integer network against the simulated circuit.
    pub paired: Paired,
    /// The accuracy lost is below this with 95 % confidence.
    pub certified: f64,
    /// log2 of the noise in front of tables, as a standard deviation on the torus.
    pub log2_noise: f64,
    /// Margin of the domains of tables.
    pub domain_margin: f64,
    /// Bits of the weights, where fewer than asked for are cheaper.
    pub op_weights: Option<u32>,
    /// Bits of the weights behind the last tables, where they are fewer than the others have.
    pub output_weights: Option<u32>,
    /// Circuits simulated.
    pub simulations: usize,
    /// What a variance in front of each table costs.
    pub sensitivities: Sensitivities,
}

/// The same network chosen anew: other domains, other weights.
pub struct Variants<'a> {
    /// The network of phase `ranged`, whose tables are still maps, under some options.
    pub build: &'a dyn Fn(&Options) -> Result<Graph, PipelineError>,
    /// Whether the options decide domains: there are rows to choose them on.
    pub domains: bool,
    /// Whether the options decide weights: the network does not state them all.
    pub weights: bool,
}

/// Searches on a graph of phase `ranged` whose tables are still maps, and gives the options for the passes behind it, and
/// in front of it where one of its variants is cheaper.
///
/// # Errors
/// When there are no rows, or when even the quietest circuit has no parameters or loses more than the budget.
pub fn search(
    graph: &Graph,
    variants: &Variants<'_>,
    options: &Options,
    budget: f64,
    rows: &Data<'_>,
    observe: &mut dyn FnMut(Trial),
) -> Result<(Options, Budget), PipelineError> {
    debug_assert_eq!(graph.phase, Phase::Ranged, "the search decides what tables are built for");
    let (inputs, reference) = rows.spread();
    let rows = &Data { inputs: &inputs, reference: &reference };
    let mut search = Search {
        fronts: vec![(Front::of(options), graph.clone())],
        options,
        judge: Judge { rows, known: Known::default(), budget, allowed: 0.0, seed: options.seed },
        simulations: 0,
        observe,
        refusal: None,
        sensitivities: Sensitivities::new(),
    };
    let count = rows.reference.len();
    let certifiable = Paired::certifiable(count);
    search.judge.allowed = judge::allowed(budget, certifiable);
    search.judge.known = search.integer().map_err(bad_rows)?;
    search.sensitivities = sensitivity::measure(graph, &search.options_of(Choice::FIRST), &rows.chunk(0, PROBED).0)?;
    let best = search.cheapest(variants)?.map(|best| search.under_several_sets(best)).transpose()?;
    let best = best.ok_or_else(|| search.refusal(budget))?;
    let front = search.fronts[best.choice.front].0;
    let found = Budget {
        asked: budget,
        certifiable,
        certified: best.paired.upper_bound().max(0.0),
        paired: best.paired,
        log2_noise: log2_noise(best.choice.step),
        domain_margin: best.choice.margin,
        op_weights: (front.op_weights != options.bits.op_weights).then_some(front.op_weights),
        output_weights: (front.output_weights < front.op_weights).then_some(front.output_weights),
        simulations: search.simulations,
        sensitivities: search.sensitivities.clone(),
    };
    Ok((search.options_of(best.choice), found))
}

fn bad_rows(source: ClientError) -> PipelineError {
    PassError::BadCalibration { source }.into()
}
