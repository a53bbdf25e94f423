//! The accuracy budget: the cheapest circuit whose simulated accuracy stays close to that of the integer network.
//!
//! A table lookup costs about twice as much for each bit less of noise, and what noise a network bears only its rows can
//! tell. The search simulates circuits of more and more noise, with domains as wide as the ranges seen and narrower (a
//! narrower domain makes noise relatively smaller, and values outside saturate), and keeps the cheapest that loses no
//! more than the budget. Every simulation is seeded: the same rows give the same circuit.

mod paired;
mod sensitivity;

use fhe_ir::client::ClientError;
use fhe_ir::{Graph, Phase};
use ndarray::{ArrayD, Axis, Slice};
use serde::{Deserialize, Serialize};

pub use paired::Paired;
pub use sensitivity::{Sensitivities, output_key};

use crate::accuracy;
use crate::manager::{Flow, PipelineError, run_pipeline};
use crate::options::Options;
use crate::params::ErrorTarget;
use crate::pass::{PassCx, PassError};
use crate::pipeline;
use crate::select_params::predicted_ns;

/// Accuracy that a compilation may lose to noise when nothing else is asked for.
pub const DEFAULT_BUDGET: f64 = 0.005;

/// log2 of the loudest and of the quietest noise tried, as a standard deviation on the torus.
const NOISE: (f64, f64) = (-5.0, -13.0);

/// Steps of the noise in a bit.
const STEPS: f64 = 8.0;

/// Margins of domains that are tried, from wide to narrow; the first is where the search begins.
const MARGINS: [f64; 5] = [0.0, 0.15, -0.1, -0.2, -0.3];

/// Rows simulated before a candidate may be given up.
const CHUNK: usize = 256;

/// Rows on which sensitivities are measured.
const PROBED: usize = 64;

/// Rows, and the classes that count as right.
pub struct Rows<'a> {
    /// Rows per input.
    pub inputs: &'a [ArrayD<f32>],
    /// Class of each row: its label, or what the float model says.
    pub reference: &'a [usize],
}

impl Rows<'_> {
    fn chunk(&self, first: usize, count: usize) -> (Vec<ArrayD<f32>>, &[usize]) {
        let end = (first + count).min(self.reference.len());
        let rows = |x: &ArrayD<f32>| x.slice_axis(Axis(0), Slice::from(first..end)).to_owned();
        (self.inputs.iter().map(rows).collect(), &self.reference[first..end])
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Accuracy that may be lost, as asked for.
    pub asked: f64,
    /// Accuracy that the rows can certify at best; the budget when that is larger.
    pub certifiable: f64,
    /// The integer network against the simulated circuit.
    pub paired: Paired,
    /// The accuracy lost is below this with 95 % confidence.
    pub certified: f64,
    /// log2 of the noise in front of tables, as a standard deviation on the torus.
    pub log2_noise: f64,
    /// Margin of the domains of tables.
    pub domain_margin: f64,
    /// Circuits simulated.
    pub simulations: usize,
    /// What a variance in front of each table costs.
    pub sensitivities: Sensitivities,
}

/// A circuit that stays within the budget.
struct Candidate {
    step: i32,
    margin: f64,
    cost_ns: f64,
    paired: Paired,
}

/// Searches on a graph of phase `ranged` whose tables are still maps, and gives the options for the passes behind it.
///
/// # Errors
/// When there are no rows, or when even the quietest circuit has no parameters or loses more than the budget.
pub fn search(
    graph: &Graph,
    options: &Options,
    budget: f64,
    rows: &Rows<'_>,
) -> Result<(Options, Budget), PipelineError> {
    debug_assert_eq!(graph.phase, Phase::Ranged, "the search decides what tables are built for");
    let mut search = Search {
        graph,
        options,
        rows,
        right: vec![],
        allowed: 0.0,
        simulations: 0,
        refusal: None,
        sensitivities: Sensitivities::new(),
    };
    let count = rows.reference.len();
    let certifiable = Paired::certifiable(count);
    search.allowed = budget.max(certifiable);
    search.right = search.integer().map_err(bad_rows)?;
    search.sensitivities = sensitivity::measure(graph, &search.options_of(0, MARGINS[0]), &rows.chunk(0, PROBED).0)?;
    let best = search.cheapest()?;
    let best = best.ok_or_else(|| search.refusal(budget))?;
    let found = Budget {
        asked: budget,
        certifiable,
        certified: best.paired.upper_bound().max(0.0),
        paired: best.paired,
        log2_noise: log2_noise(best.step),
        domain_margin: best.margin,
        simulations: search.simulations,
        sensitivities: search.sensitivities.clone(),
    };
    Ok((search.options_of(best.step, best.margin), found))
}

fn bad_rows(source: ClientError) -> PipelineError {
    PassError::BadCalibration { source }.into()
}

/// Noise of a step: 0 is the quietest.
fn log2_noise(step: i32) -> f64 {
    NOISE.1 + f64::from(step) / STEPS
}

struct Search<'a> {
    graph: &'a Graph,
    options: &'a Options,
    rows: &'a Rows<'a>,
    /// Whether the integer network has each row right.
    right: Vec<bool>,
    /// Upper bound of the loss that is accepted.
    allowed: f64,
    simulations: usize,
    sensitivities: Sensitivities,
    /// Why the last circuit was not even simulated.
    refusal: Option<PipelineError>,
}

impl Search<'_> {
    /// Runs the integer network with every integer read: no domain cuts anything off.
    fn integer(&self) -> Result<Vec<bool>, ClientError> {
        let classes = accuracy::integer(self.graph, self.rows.inputs)?.classes;
        Ok(classes.iter().zip(self.rows.reference).map(|(a, b)| a == b).collect())
    }

    fn options_of(&self, step: i32, margin: f64) -> Options {
        Options { error: ErrorTarget::Noise(log2_noise(step)), domain_margin: Some(margin), ..self.options.clone() }
    }

    /// The circuit of a candidate if it stays within the budget.
    fn try_out(&mut self, step: i32, margin: f64) -> Result<Option<Candidate>, PipelineError> {
        let options = self.options_of(step, margin);
        let mut cx = PassCx::new(&options, &[]);
        cx.notes.sensitivities = self.sensitivities.clone();
        let circuit = match run_pipeline(self.graph.clone(), pipeline::tabling(), &mut cx, |_| Flow::Continue) {
            Ok((circuit, _)) => circuit,
            Err(refusal @ PipelineError::Pass(PassError::NoParameters { .. })) => {
                self.refusal = Some(refusal);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.simulations += 1;
        let mut paired = Paired::default();
        for first in (0..self.rows.reference.len()).step_by(CHUNK) {
            let (inputs, reference) = self.rows.chunk(first, CHUNK);
            let classes =
                accuracy::simulated_from(&circuit, &inputs, self.options.seed, first).map_err(bad_rows)?.classes;
            for ((class, wanted), right) in classes.iter().zip(reference).zip(&self.right[first..]) {
                paired.add(*right, class == wanted);
            }
            if paired.is_hopeless(self.allowed) {
                return Ok(None);
            }
        }
        let within = paired.upper_bound() <= self.allowed;
        Ok(within.then(|| Candidate { step, margin, cost_ns: predicted_ns(&circuit), paired }))
    }

    /// The loudest noise of one margin, by bisection, then louder noise under other margins.
    fn cheapest(&mut self) -> Result<Option<Candidate>, PipelineError> {
        let loudest = ((NOISE.0 - NOISE.1) * STEPS) as i32;
        let mut best = None;
        let (mut quiet, mut loud) = (-1, loudest);
        while quiet + 1 < loud {
            let middle = (quiet + loud) / 2;
            match self.try_out(middle, MARGINS[0])? {
                Some(candidate) => (best, quiet) = (Some(candidate), middle),
                None => loud = middle,
            }
        }
        let mut worse = 0;
        for margin in MARGINS.into_iter().skip(1) {
            let Some(beaten) = &best else { break };
            let mut step = beaten.step + 1;
            let before = beaten.cost_ns;
            while let Some(candidate) = if step < loudest { self.try_out(step, margin)? } else { None } {
                step += 1;
                if best.as_ref().is_none_or(|b| candidate.cost_ns <= b.cost_ns) {
                    best = Some(candidate);
                }
            }
            worse = if best.as_ref().is_some_and(|b| b.cost_ns < before) { 0 } else { worse + 1 };
            // Narrower domains cut off ever more.
            if worse == 2 && margin < 0.0 {
                break;
            }
        }
        Ok(best)
    }

    fn refusal(&mut self, budget: f64) -> PipelineError {
        self.refusal.take().unwrap_or_else(|| {
            PassError::BadOptions {
                message: format!(
                    "even noise of 2^{} in front of tables costs more accuracy than the budget of {budget}",
                    NOISE.1
                ),
                advice: "allow more with --accuracy-budget, or ask for an error probability with --p-error".into(),
            }
            .into()
        })
    }
}
