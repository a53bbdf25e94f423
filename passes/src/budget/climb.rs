//! Which circuits are simulated, in which order, to find the cheapest within a budget.

use std::cmp::Ordering;

use fhe_ir::Graph;
use fhe_ir::client::ClientError;

use super::judge::{Judge, Known, Rows};
use super::paired::Paired;
use super::sensitivity::Sensitivities;
use super::{MIN_GAIN, Variants, bad_rows};
use crate::accuracy;
use crate::calibrate::USUAL_NOISE;
use crate::manager::{Flow, PipelineError, Trial, Tried, run_pipeline};
use crate::options::{Bits, Options};
use crate::params::ErrorTarget;
use crate::pass::{PassCx, PassError};
use crate::pipeline;
use crate::select_params::predicted_ns;

/// log2 of the loudest and of the quietest noise tried, as a standard deviation on the torus.
const NOISE: (f64, f64) = (-5.0, -13.0);

/// Steps of the noise in a bit.
const STEPS: f64 = 8.0;

/// The loudest step of [`NOISE`], which is not tried.
const LOUDEST: i32 = ((NOISE.0 - NOISE.1) * STEPS) as i32;

/// Margins of domains, the first where the search begins.
const MARGINS: [f64; 5] = [0.0, 0.25, -0.1, -0.2, -0.3];

/// How much finer the steps of regions with tables of several widths are.
const FINER: [u64; 2] = [1, 3];

/// Steps of the noise beyond the best known that are looked at.
const FARTHEST: i32 = STEPS as i32;

/// Difference of noise, in bits, at which domains are chosen anew.
const FAR: f64 = 0.5;

/// Steps at which several key sets are tried.
const QUIETER: usize = 3;

/// Circuits that are simulated on all rows at most.
const CONFIRMATIONS: usize = 32;

/// Narrowest weights that are tried.
const NARROWEST: u32 = 2;

/// What the search decides.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// Index among the variants built.
    pub(super) front: usize,
    /// Step of the noise.
    pub(super) step: i32,
    /// Margin of domains.
    pub(super) margin: f64,
    /// See [`FINER`].
    finer: u64,
    /// Whether there may be several key sets.
    several: bool,
}

/// What the passes in front decide.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Front {
    /// Bits of the weights.
    pub(super) op_weights: u32,
    /// Bits of the weights behind the last tables.
    pub(super) output_weights: u32,
    /// log2 of the noise that domains are chosen for.
    domain_noise: f64,
    /// Whether tables make good for their mean error under that noise.
    noise_bias: bool,
}

impl Front {
    pub(super) fn of(options: &Options) -> Self {
        let domain_noise = options.domain_noise.unwrap_or(USUAL_NOISE);
        let op_weights = options.bits.op_weights;
        let output_weights = options.output_weights.unwrap_or(op_weights);
        Self { op_weights, output_weights, domain_noise, noise_bias: options.noise_bias }
    }
}

/// A circuit that stays within the budget.
pub(super) struct Candidate {
    pub(super) choice: Choice,
    cost_ns: f64,
    pub(super) paired: Paired,
}

impl Choice {
    /// Where the search begins.
    pub(super) const FIRST: Self = Self { front: 0, step: 0, margin: MARGINS[0], finer: FINER[0], several: false };
}

impl Candidate {
    /// From the cheapest; of equal cost the one that loses least.
    fn order(&self, other: &Self) -> Ordering {
        let losses = || self.paired.upper_bound().total_cmp(&other.paired.upper_bound());
        self.cost_ns.total_cmp(&other.cost_ns).then_with(losses)
    }
}

fn cheapest_of(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().min_by(|a, b| a.order(b))
}

/// Noise of a step: 0 is the quietest.
pub(super) fn log2_noise(step: i32) -> f64 {
    NOISE.1 + f64::from(step) / STEPS
}

/// A search under way.
pub(super) struct Search<'a, 'o> {
    /// The variants built, the one asked for first.
    pub(super) fronts: Vec<(Front, Graph)>,
    pub(super) options: &'a Options,
    pub(super) judge: Judge<'a>,
    pub(super) simulations: usize,
    pub(super) observe: &'o mut dyn FnMut(Trial),
    pub(super) sensitivities: Sensitivities,
    /// Why the last circuit without parameters has none.
    pub(super) refusal: Option<PipelineError>,
}

impl Search<'_, '_> {
    /// Runs the integer network with every integer read: no domain cuts anything off.
    pub(super) fn integer(&self) -> Result<Known, ClientError> {
        let rows = self.judge.rows;
        Ok(Known::of(&accuracy::integer(&self.fronts[0].1, rows.inputs)?, rows))
    }

    pub(super) fn options_of(&self, choice: Choice) -> Options {
        Options {
            error: ErrorTarget::Noise(log2_noise(choice.step)),
            domain_margin: Some(choice.margin),
            finer_steps: choice.finer,
            max_key_bytes: if choice.several { self.options.max_key_bytes } else { 0 },
            ..self.in_front(self.fronts[choice.front].0)
        }
    }

    /// Options for the passes in front.
    fn in_front(&self, Front { op_weights, output_weights, domain_noise, noise_bias }: Front) -> Options {
        let bits = Bits { op_weights, ..self.options.bits };
        let output_weights = Some(output_weights);
        Options { bits, output_weights, domain_noise: Some(domain_noise), noise_bias, ..self.options.clone() }
    }

    /// Builds a variant and gives its index.
    fn build(&mut self, front: Front, variants: &Variants<'_>) -> Result<usize, PipelineError> {
        self.fronts.push((front, (variants.build)(&self.in_front(front))?));
        Ok(self.fronts.len() - 1)
    }

    /// The circuit of a choice; `None` when it has no parameters.
    fn circuit(&mut self, choice: Choice) -> Result<Option<(Graph, f64)>, PipelineError> {
        let options = self.options_of(choice);
        let mut cx = PassCx::new(&options, &[]);
        cx.notes.sensitivities = self.sensitivities.clone();
        match run_pipeline(self.fronts[choice.front].1.clone(), pipeline::tabling(), &mut cx, |_| Flow::Continue) {
            Ok((circuit, _)) => {
                let cost_ns = predicted_ns(&circuit, self.options);
                Ok(Some((circuit, cost_ns)))
            }
            Err(refusal @ PipelineError::Pass(PassError::NoParameters { .. })) => {
                self.refusal = Some(refusal);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The circuit of a choice if it stays within the budget.
    fn try_out(&mut self, choice: Choice, rows: Rows) -> Result<Option<Candidate>, PipelineError> {
        let Some((circuit, cost_ns)) = self.circuit(choice)? else { return Ok(None) };
        self.simulations += 1;
        let paired = self.judge.compare(&circuit, rows).map_err(bad_rows)?;
        (self.observe)(Trial {
            simulation: self.simulations,
            tried: Tried::Noise {
                log2_noise: log2_noise(choice.step),
                domain_margin: choice.margin,
                op_weights: self.fronts[choice.front].0.op_weights,
                output_weights: self.fronts[choice.front].0.output_weights,
            },
            cost_ns,
            within: paired.is_some(),
        });
        Ok(paired.map(|paired| Candidate { choice, cost_ns, paired }))
    }

    /// The loudest noise under the usual domains, then whatever variant is cheaper, on a sample of the rows; the cheapest of
    /// these circuits and quieter ones that all rows confirm.
    pub(super) fn cheapest(&mut self, variants: &Variants<'_>) -> Result<Option<Candidate>, PipelineError> {
        let mut kept = vec![];
        self.bisect(Choice::FIRST, -1, LOUDEST, &mut kept)?;
        if variants.domains {
            self.other_domains(variants, &mut kept)?;
        }
        for finer in FINER {
            for margin in MARGINS {
                let front = cheapest_of(&kept).map_or(0, |best| best.choice.front);
                self.cheaper(Choice { front, finer, margin, ..Choice::FIRST }, &mut kept)?;
            }
        }
        if variants.domains {
            self.without_bias(variants, &mut kept)?;
        }
        if variants.weights {
            self.narrower_outputs(variants, &mut kept)?;
            self.narrower_weights(variants, &mut kept)?;
        }
        self.confirmed(kept)
    }

    /// The cheapest circuit that all rows confirm: one of those kept, or a little quieter.
    fn confirmed(&mut self, kept: Vec<Candidate>) -> Result<Option<Candidate>, PipelineError> {
        let mut left: Vec<(Choice, f64)> = kept.iter().map(|c| (c.choice, c.cost_ns)).collect();
        let mut tried = vec![];
        while !left.is_empty() && tried.len() < CONFIRMATIONS {
            left.sort_by(|a, b| b.1.total_cmp(&a.1));
            let Some((choice, _)) = left.pop() else { break };
            if let Some(confirmed) = self.try_out(choice, Rows::All)? {
                return Ok(Some(confirmed));
            }
            tried.push(choice);
            let quieter = Choice { step: choice.step - 1, ..choice };
            let known = tried.contains(&quieter) || left.iter().any(|(known, _)| *known == quieter);
            if quieter.step >= 0
                && !known
                && let Some((_, cost_ns)) = self.circuit(quieter)?
            {
                left.push((quieter, cost_ns));
            }
        }
        Ok(None)
    }

    /// Whether a variant is within the budget at the quietest noise at which it is cheaper than all circuits kept, and at
    /// what louder noise it still is.
    fn cheaper(&mut self, variant: Choice, kept: &mut Vec<Candidate>) -> Result<(), PipelineError> {
        let at = |step| Choice { step, ..variant };
        let Some(best) = cheapest_of(kept) else { return self.bisect(variant, -1, LOUDEST, kept) };
        if at(best.choice.step) == best.choice {
            return Ok(());
        }
        let below = best.cost_ns * (1.0 - MIN_GAIN);
        // Louder noise is cheaper, but for a few steps.
        let (mut dear, mut cheap) = ((best.choice.step - FARTHEST).max(-1), LOUDEST);
        while dear + 1 < cheap {
            let middle = (dear + cheap) / 2;
            match self.circuit(at(middle))? {
                Some((_, cost_ns)) if cost_ns < below => cheap = middle,
                _ => dear = middle,
            }
        }
        if cheap < LOUDEST
            && let Some(candidate) = self.try_out(at(cheap), Rows::Sample)?
        {
            kept.push(candidate);
            self.bisect(variant, cheap, (cheap + FARTHEST).min(LOUDEST), kept)?;
        }
        Ok(())
    }

    /// Domains chosen for the noise found bear more of it, if that is far from the noise they were chosen for.
    fn other_domains(&mut self, variants: &Variants<'_>, kept: &mut Vec<Candidate>) -> Result<(), PipelineError> {
        let Some(best) = cheapest_of(kept) else { return Ok(()) };
        let (front, domain_noise) = (self.fronts[best.choice.front].0, log2_noise(best.choice.step));
        if (front.domain_noise - domain_noise).abs() < FAR {
            return Ok(());
        }
        let front = self.build(Front { domain_noise, ..front }, variants)?;
        self.cheaper(Choice { front, ..Choice::FIRST }, kept)
    }

    /// Tables that make good for what noise and saturation add on average may bear more of it.
    fn without_bias(&mut self, variants: &Variants<'_>, kept: &mut Vec<Candidate>) -> Result<(), PipelineError> {
        let Some(best) = cheapest_of(kept) else { return Ok(()) };
        let choice = best.choice;
        let front = Front { noise_bias: true, ..self.fronts[choice.front].0 };
        let front = self.build(front, variants)?;
        self.cheaper(Choice { front, ..choice }, kept)
    }

    /// No table makes the domain of an output finer, and its layer may add up thousands of results of tables: with one bit
    /// less its weights amplify half of their noise.
    fn narrower_outputs(&mut self, variants: &Variants<'_>, kept: &mut Vec<Candidate>) -> Result<(), PipelineError> {
        let Some(best) = cheapest_of(kept) else { return Ok(()) };
        let (choice, front) = (best.choice, self.fronts[best.choice.front].0);
        if front.output_weights <= NARROWEST {
            return Ok(());
        }
        let front = self.build(Front { output_weights: front.output_weights - 1, ..front }, variants)?;
        for finer in FINER {
            self.cheaper(Choice { front, finer, ..choice }, kept)?;
        }
        Ok(())
    }

    /// Weights of fewer bits amplify less of the noise of bootstraps: bit by bit, as long as that is cheaper and stays
    /// within the budget of the network with the weights asked for.
    fn narrower_weights(&mut self, variants: &Variants<'_>, kept: &mut Vec<Candidate>) -> Result<(), PipelineError> {
        for bits in (NARROWEST..self.options.bits.op_weights).rev() {
            let Some(best) = cheapest_of(kept) else { return Ok(()) };
            let (choice, known) = (best.choice, kept.len());
            let front = self.fronts[choice.front].0;
            let front = Front { op_weights: bits, output_weights: front.output_weights.min(bits), ..front };
            let front = self.build(front, variants)?;
            for finer in FINER {
                self.cheaper(Choice { front, finer, ..choice }, kept)?;
            }
            if kept.len() == known {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The same circuit under several key sets, where they may be and are cheaper: which noise is where is then another,
    /// so it has to be confirmed, or is a little quieter.
    pub(super) fn under_several_sets(&mut self, best: Candidate) -> Result<Candidate, PipelineError> {
        if self.options.max_key_bytes == 0 {
            return Ok(best);
        }
        let below = best.cost_ns * (1.0 - MIN_GAIN);
        for step in (0..=best.choice.step).rev().take(QUIETER) {
            let choice = Choice { step, several: true, ..best.choice };
            if self.circuit(choice)?.is_none_or(|(_, cost_ns)| cost_ns >= below) {
                break;
            }
            if let Some(candidate) = self.try_out(choice, Rows::All)? {
                return Ok(candidate);
            }
        }
        Ok(best)
    }

    /// Keeps circuits within the budget between two steps, neither of which is tried, up to the loudest.
    fn bisect(
        &mut self,
        choice: Choice,
        mut quiet: i32,
        mut loud: i32,
        kept: &mut Vec<Candidate>,
    ) -> Result<(), PipelineError> {
        while quiet + 1 < loud {
            let middle = (quiet + loud) / 2;
            match self.try_out(Choice { step: middle, ..choice }, Rows::Sample)? {
                Some(candidate) => {
                    kept.push(candidate);
                    quiet = middle;
                }
                None => loud = middle,
            }
        }
        Ok(())
    }

    /// Why there is no circuit: none had parameters, or all lost too much.
    pub(super) fn refusal(&mut self, budget: f64) -> PipelineError {
        self.refusal.take().filter(|_| self.simulations == 0).unwrap_or_else(|| {
            PassError::BadOptions {
                message: format!(
                    "none of {} circuits with noise from 2^{} to 2^{} in front of tables stays within the budget of {budget}",
                    self.simulations, NOISE.1, NOISE.0
                ),
                advice: "allow more with --accuracy-budget, or ask for an error probability with --p-error".into(),
            }
            .into()
        })
    }
}
