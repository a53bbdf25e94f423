//! `--rounding auto`: under an error probability, the boxes of tables that make the cheapest circuit that is about as
//! accurate as the finest one.
//!
//! Fewer boxes are wider, so noise misses them less often and parameters shrink. All tables get one width first. The
//! tables that parameters are chosen for, those that are missed most often, then get fewer boxes one after another as
//! long as the circuit stays accurate. Every simulation is seeded: the same rows give the same circuit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use fhe_ir::{Graph, Op, Phase};
use serde::{Deserialize, Serialize};

use super::judge::{Data, Judge, Known, Rows, allowed};
use super::paired::Paired;
use super::{DEFAULT_BUDGET, MIN_GAIN, bad_rows};
use crate::accuracy;
use crate::manager::{Flow, PipelineError, Trial, Tried, run_pipeline};
use crate::options::Options;
use crate::pass::{PassCx, PassError};
use crate::pipeline;
use crate::select_params::predicted_ns;

/// Bits that are chosen from when the user names none.
pub const WIDTHS: RangeInclusive<u32> = 2..=8;

/// Simulations spent on single tables.
const SINGLE: usize = 32;

/// What was chosen, and what it loses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boxes {
    /// Fewest bits that were allowed.
    pub narrowest: u32,
    /// Most bits that were allowed.
    pub widest: u32,
    /// The most that have parameters: what the circuit is compared with.
    pub finest: u32,
    /// Predicted nanoseconds of that for one row on one thread.
    pub finest_ns: f64,
    /// Bits of all tables but the following.
    pub bits: u32,
    /// Bits of single tables, by name.
    pub coarser: BTreeMap<String, u32>,
    /// Accuracy that may be lost.
    pub allowed: f64,
    /// Accuracy that the rows can certify at best; the bound may reach it where it is more than what may be lost.
    pub certifiable: f64,
    /// The simulated finest circuit against the simulated chosen one.
    pub paired: Paired,
    /// The accuracy lost is below this with 95 % confidence.
    pub certified: f64,
    /// Circuits simulated.
    pub simulations: usize,
}

/// Bits of tables.
#[derive(Clone, PartialEq)]
struct Widths {
    bits: u32,
    coarser: BTreeMap<String, u32>,
}

/// A circuit with its tables.
struct Candidate {
    widths: Widths,
    circuit: Graph,
    cost_ns: f64,
}

/// Searches on a graph of phase `ranged` whose tables are still maps, and gives the options for the passes behind it.
/// How tables are rounded, and the error probability, are those of `options`.
///
/// # Errors
/// When no width has parameters, or rows do not fit.
pub fn search(
    graph: &Graph,
    options: &Options,
    widths: RangeInclusive<u32>,
    rows: &Data<'_>,
    observe: &mut dyn FnMut(Trial),
) -> Result<(Options, Boxes), PipelineError> {
    debug_assert_eq!(graph.phase, Phase::Ranged, "the search decides how tables are read");
    let (inputs, reference) = rows.spread();
    let rows = &Data { inputs: &inputs, reference: &reference };
    let certifiable = Paired::certifiable(reference.len());
    let allowed = allowed(DEFAULT_BUDGET, certifiable);
    let judge = Judge { rows, known: Known::default(), budget: DEFAULT_BUDGET, allowed, seed: options.seed };
    let (narrowest, widest) = widths.into_inner();
    let mut search = Search { graph, options, narrowest, judge, simulations: 0, observe };
    let mut candidates = search.uniform(widest)?;
    let finest = candidates.last().expect("without any the search has ended");
    let (finest, finest_ns) = (finest.widths.bits, finest.cost_ns);
    search.judge.known = search.known_of_finest(&candidates)?;
    // From the cheapest; of equal cost the finest.
    candidates.sort_by(|a, b| a.cost_ns.total_cmp(&b.cost_ns).then(b.widths.bits.cmp(&a.widths.bits)));
    let same = Paired { rows: reference.len(), lost: 0, gained: 0 };
    let mut chosen = None;
    for candidate in candidates {
        if candidate.widths.bits == finest {
            chosen = Some((candidate, same));
        } else if search.holds(&candidate, Rows::Sample)?.is_some() {
            chosen = search.holds(&candidate, Rows::All)?.map(|paired| (candidate, paired));
        }
        if chosen.is_some() {
            break;
        }
    }
    let (best, paired) = chosen.expect("the finest is accepted");
    let (Widths { bits, coarser }, paired) = search.single_tables(best, paired)?;
    let options = Options { rounding: options.rounding.with_bits(bits), coarser: coarser.clone(), ..options.clone() };
    let found = Boxes {
        narrowest,
        widest,
        finest,
        finest_ns,
        bits,
        coarser,
        allowed: DEFAULT_BUDGET,
        certifiable,
        paired,
        certified: paired.upper_bound().max(0.0),
        simulations: search.simulations,
    };
    Ok((options, found))
}

struct Search<'a, 'o> {
    graph: &'a Graph,
    options: &'a Options,
    narrowest: u32,
    judge: Judge<'a>,
    simulations: usize,
    observe: &'o mut dyn FnMut(Trial),
}

impl Search<'_, '_> {
    /// A circuit for every width that has parameters, the coarsest first: at least one.
    fn uniform(&self, widest: u32) -> Result<Vec<Candidate>, PipelineError> {
        let (mut candidates, mut refusal) = (vec![], None);
        for bits in self.narrowest..=widest {
            match self.candidate(Widths { bits, coarser: BTreeMap::new() }) {
                Ok(candidate) => candidates.push(candidate),
                Err(error) if !has_no_parameters(&error) => return Err(error),
                // Finer ones are no easier.
                Err(_) if !candidates.is_empty() => break,
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal.filter(|_| candidates.is_empty()) {
            Some(refusal) => Err(refusal),
            None => Ok(candidates),
        }
    }

    fn candidate(&self, widths: Widths) -> Result<Candidate, PipelineError> {
        let options = Options {
            rounding: self.options.rounding.with_bits(widths.bits),
            coarser: widths.coarser.clone(),
            ..self.options.clone()
        };
        let mut cx = PassCx::new(&options, &[]);
        let (circuit, _) = run_pipeline(self.graph.clone(), pipeline::tabling(), &mut cx, |_| Flow::Continue)?;
        let cost_ns = predicted_ns(&circuit, self.options);
        Ok(Candidate { widths, circuit, cost_ns })
    }

    /// What the finest circuit makes of the rows.
    fn known_of_finest(&mut self, candidates: &[Candidate]) -> Result<Known, PipelineError> {
        let Some(finest) = candidates.last() else { return Ok(Known::default()) };
        self.simulations += 1;
        let rows = self.judge.rows;
        let measured = accuracy::simulated(&finest.circuit, rows.inputs, self.options.seed).map_err(bad_rows)?;
        self.observe(finest, true);
        Ok(Known::of(&measured, rows))
    }

    /// What a circuit loses if that is little enough.
    fn holds(&mut self, candidate: &Candidate, rows: Rows) -> Result<Option<Paired>, PipelineError> {
        self.simulations += 1;
        let paired = self.judge.compare(&candidate.circuit, rows).map_err(bad_rows)?;
        self.observe(candidate, paired.is_some());
        Ok(paired)
    }

    fn observe(&mut self, candidate: &Candidate, within: bool) {
        let Widths { bits, coarser } = &candidate.widths;
        let tried = Tried::Boxes { bits: *bits, coarser: coarser.len() };
        (self.observe)(Trial { simulation: self.simulations, tried, cost_ns: candidate.cost_ns, within });
    }

    /// Halves the boxes of one table after another, the one that is missed most often first; the coarsest circuit that
    /// all rows confirm, if it is cheaper.
    fn single_tables(&mut self, best: Candidate, paired: Paired) -> Result<(Widths, Paired), PipelineError> {
        let maps: BTreeSet<&str> =
            (self.graph.values.iter()).filter(|v| matches!(v.op, Op::Map { .. })).map(|v| v.name.as_str()).collect();
        let (uniform, below) = (best.widths.clone(), best.cost_ns * (1.0 - MIN_GAIN));
        let (mut kept, mut fixed) = (vec![best], BTreeSet::new());
        for _ in 0..SINGLE {
            let current = kept.last().expect("never empty");
            let Some((name, bits)) = self.most_missed(&current.circuit, &maps, &fixed) else { break };
            let mut widths = current.widths.clone();
            widths.coarser.insert(name.clone(), bits);
            let coarser = match self.candidate(widths) {
                Ok(coarser) => self.holds(&coarser, Rows::Sample)?.map(|_| coarser),
                Err(error) if has_no_parameters(&error) => None,
                Err(error) => return Err(error),
            };
            match coarser {
                Some(coarser) => kept.push(coarser),
                // Parameters that all tables share stay as they are for this one.
                None if self.options.max_key_bytes == 0 => break,
                None => _ = fixed.insert(name),
            }
        }
        for candidate in kept.drain(1..).rev().filter(|c| c.cost_ns < below) {
            if let Some(paired) = self.holds(&candidate, Rows::All)? {
                return Ok((candidate.widths, paired));
            }
        }
        Ok((uniform, paired))
    }

    /// The table that is read wrong most often, of those that may have fewer boxes, and how many bits fewer are. Where
    /// all share their parameters, none if these are as they are for the sake of another read.
    fn most_missed(&self, circuit: &Graph, maps: &BTreeSet<&str>, fixed: &BTreeSet<String>) -> Option<(String, u32)> {
        let mut others = circuit.outputs.iter().filter_map(|o| o.log2_fail).fold(f32::NEG_INFINITY, f32::max);
        let mut most: Option<(f32, &str, u32)> = None;
        for value in &circuit.values {
            let Op::Pbs { domain, read, log2_fail: Some(fail), .. } = &value.op else { continue };
            // In front of a conversion the bootstrap has a name of its own.
            let name = value.name.strip_suffix(".pbs").filter(|_| !maps.contains(value.name.as_str()));
            let name = name.unwrap_or(&value.name);
            let bits = read.boxes(domain.width).next_power_of_two().ilog2();
            if !maps.contains(name) || fixed.contains(name) || bits <= self.narrowest {
                others = others.max(*fail);
            } else if most.is_none_or(|(most, ..)| *fail > most) {
                most = Some((*fail, name, bits - 1));
            }
        }
        let (fail, name, bits) = most?;
        (self.options.max_key_bytes > 0 || fail >= others).then(|| (name.to_owned(), bits))
    }
}

fn has_no_parameters(error: &PipelineError) -> bool {
    matches!(error, PipelineError::Pass(PassError::NoParameters { .. }))
}
