//! What a user can change so that parameters exist, or so that cheaper ones do: every proposal is searched for.
//!
//! A proposal changes the requirements as the option would: fewer boxes, a smaller norm, another error target, narrower
//! domains, another curve. Accumulators that an option would also narrow are not computed anew, so a prediction is close
//! to what a compilation with that option gives, not equal to it.

use fhe_ir::{Domain, Graph, Op, Read, SecurityCurve};
use indexmap::IndexMap;

use crate::options::{Bits, Options, Rounding};
use crate::params::{Constraint, ErrorTarget, Found, Prepared, Requirements, SearchSpace};
use crate::pass::Notes;
use crate::regions::{Reading, Regions};
use crate::select_params::{NOISE_MODEL, requirements};

/// One change of the options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Tables distinguish at most `2^p` boxes.
    Rounding(u32),
    /// Low bits fall into the noise: no bootstraps remove them.
    Approximate,
    /// Outputs are read at that many bits.
    OutputBits(u32),
    /// Weights have that many bits; each bit less halves their norm and what they sum up to.
    WeightBits(u32),
    /// Activations and inputs have at most that many bits; each bit less halves what weights sum up to.
    ActivationBits(u32),
    /// Another error target, looser than the one at hand.
    Error(ErrorTarget),
    /// Domains from the ranges seen on the calibration rows.
    Calibrated,
    /// The 128-bit curve.
    Bits128,
}

/// Widest tables proposed when all integers are read: the default of `--rounding`.
const USUAL_ROUNDING: u32 = 6;

/// Looser error probabilities worth proposing, from the strictest.
const LOOSER: [(f64, &str); 7] = [
    (1.0 / (1u64 << 40) as f64, "2^-40"),
    (1.0 / (1u64 << 30) as f64, "2^-30"),
    (1.0 / (1u64 << 20) as f64, "2^-20"),
    (1.0 / (1u64 << 14) as f64, "2^-14"),
    (1.0 / (1u64 << 10) as f64, "2^-10"),
    (0.01, "0.01"),
    (0.05, "0.05"),
];

fn looser_than(now: f64) -> impl Iterator<Item = f64> {
    LOOSER.iter().map(|(p, _)| *p).filter(move |p| *p > now)
}

/// Whether some network may still tell its classes apart in that noise.
fn loud(target: &ErrorTarget) -> bool {
    matches!(target, ErrorTarget::Noise(log2_sd) if *log2_sd <= -5.0)
}

/// Changes that make parameters exist, and the cheapest of these.
#[derive(Clone, Debug)]
pub struct WayOut {
    /// What to change, together.
    pub changes: Vec<Change>,
    /// What the command line says.
    pub option: String,
    /// What it does, in one phrase.
    pub effect: String,
    /// The parameters it leads to.
    pub found: Found,
}

/// Searches under changed options, on one graph of phase `tabled` or `circuit`.
pub struct Proposals<'g> {
    graph: &'g Graph,
    regions: &'g Regions<'g>,
    options: &'g Options,
    notes: &'g Notes,
    search: Prepared,
}

impl<'g> Proposals<'g> {
    /// Prepares the searches.
    pub fn new(graph: &'g Graph, regions: &'g Regions<'g>, options: &'g Options, notes: &'g Notes) -> Self {
        let search = Prepared::new(options.curve, NOISE_MODEL, SearchSpace::default());
        Self { graph, regions, options, notes, search }
    }

    /// At most `limit` ways out, the cheapest first: of each kind of change the smallest that suffices, and pairs of
    /// kinds of which neither suffices alone where these are fewer.
    pub fn ways_out(&self, limit: usize) -> Vec<WayOut> {
        let kinds = self.kinds();
        let (mut ways, mut too_weak) = (vec![], vec![]);
        for kind in &kinds {
            match self.smallest(&[], kind) {
                Some(way) => ways.push(way),
                None => too_weak.push(kind),
            }
        }
        if kinds[0].contains(&Change::Rounding(USUAL_ROUNDING))
            && ways.iter().any(|w| matches!(w.changes[..], [Change::Rounding(p)] if p > USUAL_ROUNDING))
        {
            ways.extend(self.found(&[Change::Rounding(USUAL_ROUNDING)]));
        }
        for (i, first) in too_weak.iter().enumerate().filter(|(_, kind)| !kind.is_empty()) {
            if ways.len() < limit {
                let middle = first[first.len() / 2];
                ways.extend(too_weak[i + 1..].iter().filter_map(|second| self.smallest(&[middle], second)));
            }
        }
        // Stable: of equal cost the earlier kind.
        ways.sort_by(|a, b| a.found.cost_ns.total_cmp(&b.found.cost_ns));
        ways.truncate(limit);
        ways
    }

    /// Changes by kind, within a kind from the smallest to the largest.
    fn kinds(&self) -> Vec<Vec<Change>> {
        let boxes = |table: bool| {
            let readings = self.regions.readings.iter().filter(|r| r.table.is_some() == table);
            readings.map(|r| r.read.boxes(r.domain.width)).max().unwrap_or(1)
        };
        // Bits that resolve one box less than now; tables beyond 16 bits do not exist.
        let below = |boxes: u64| boxes.max(1).next_power_of_two().ilog2().saturating_sub(1).min(16);
        let down_to = |from: u32, to: u32| (to..=from).rev();
        let bits_below =
            |now: u32| if self.notes.weights_chosen { now.min(*Bits::RANGE.end()).saturating_sub(1) } else { 0 };
        let looser: Vec<_> = match self.options.error {
            ErrorTarget::PerTable(now) => looser_than(now).map(ErrorTarget::PerTable).collect(),
            ErrorTarget::Global(now) => looser_than(now).map(ErrorTarget::Global).collect(),
            ErrorTarget::Noise(now) => {
                (1..=6).map(|half| ErrorTarget::Noise(now + 0.5 * f64::from(half))).filter(loud).collect()
            }
        };
        vec![
            down_to(below(boxes(true)), 2).map(Change::Rounding).collect(),
            down_to(below(boxes(false)), 2).map(Change::OutputBits).collect(),
            down_to(bits_below(self.options.bits.op_weights), 2).map(Change::WeightBits).collect(),
            down_to(bits_below(self.options.bits.op_inputs), 2).map(Change::ActivationBits).collect(),
            looser.into_iter().map(Change::Error).collect(),
            (self.regions.readings.iter().any(|r| r.read == Read::Bit))
                .then_some(Change::Approximate)
                .into_iter()
                .collect(),
            (!self.notes.calibrated.is_empty()).then_some(Change::Calibrated).into_iter().collect(),
            (self.options.curve == SecurityCurve::Bits132).then_some(Change::Bits128).into_iter().collect(),
        ]
    }

    /// The smallest change of a kind that suffices, on top of others.
    fn smallest(&self, others: &[Change], kind: &[Change]) -> Option<WayOut> {
        let with = |change: &Change| self.found(&[others, &[*change]].concat());
        // A larger change of one kind never asks for more.
        let mut best = with(kind.last()?)?;
        let (mut low, mut high) = (0, kind.len() - 1);
        while low < high {
            let middle = (low + high) / 2;
            match with(&kind[middle]) {
                Some(way) => (best, high) = (way, middle),
                None => low = middle + 1,
            }
        }
        Some(best)
    }

    /// The cheapest parameters under changes.
    pub fn found(&self, changes: &[Change]) -> Option<WayOut> {
        let requirements = self.requirements(changes);
        let found = if requirements.curve == self.options.curve {
            self.search.search(&requirements, &self.options.cost_model())
        } else {
            Prepared::new(requirements.curve, NOISE_MODEL, requirements.space)
                .search(&requirements, &self.options.cost_model())
        };
        let phrases: Vec<_> = changes.iter().map(|c| self.words(*c)).collect();
        let joined = |at: fn(&(String, String)) -> &str, by: &str| phrases.iter().map(at).collect::<Vec<_>>().join(by);
        Some(WayOut {
            changes: changes.to_vec(),
            option: joined(|p| &p.0, " "),
            effect: joined(|p| &p.1, ", "),
            found: found.ok()?,
        })
    }

    /// The cheapest parameters if one reading distinguished that many boxes.
    pub fn found_in_boxes(&self, reading: usize, boxes: u64) -> Option<Found> {
        let mut requirements = self.requirements(&[]);
        *requirements.constraints.get_mut(reading)? =
            self.regions.constraint_in(self.regions.readings.get(reading)?, boxes);
        self.search.search(&requirements, &self.options.cost_model()).ok()
    }

    /// Whether an option decides weights.
    pub fn may_change_weights(&self) -> bool {
        self.notes.weights_chosen
    }

    /// The option of a change and what it does.
    fn words(&self, change: Change) -> (String, String) {
        let bits = self.options.bits;
        let n_bits = |b: Bits| {
            format!(
                "--n-bits op_inputs={}:op_weights={}:model_inputs={}:model_outputs={}",
                b.op_inputs, b.op_weights, b.model_inputs, b.model_outputs
            )
        };
        match change {
            Change::Rounding(p) => (format!("--rounding {p}"), format!("tables of at most {} boxes", 1u64 << p)),
            Change::Approximate => {
                ("--rounding-method approximate".into(), "low bits in the noise, not removed by bootstraps".into())
            }
            Change::OutputBits(b) => {
                let option = n_bits(Bits { model_outputs: b, ..bits });
                let off = if self.options.rounding == Rounding::Off { " --rounding 16" } else { "" };
                (option + off, format!("outputs read at {b} bits"))
            }
            Change::WeightBits(b) => {
                let by = weight_steps(bits.op_weights) / weight_steps(b);
                (n_bits(Bits { op_weights: b, ..bits }), format!("norms of weights {by:.1} times smaller"))
            }
            Change::ActivationBits(b) => {
                let by = activation_steps(bits.op_inputs) / activation_steps(b);
                let fewer = Bits { op_inputs: b, model_inputs: bits.model_inputs.min(b), ..bits };
                (n_bits(fewer), format!("accumulators {by:.1} times narrower"))
            }
            Change::Error(target) => {
                let (name, p) = match target {
                    ErrorTarget::PerTable(p) => ("--p-error", p),
                    ErrorTarget::Global(p) => ("--global-p-error", p),
                    ErrorTarget::Noise(log2_sd) => {
                        return (format!("--noise-budget 2^{log2_sd}"), "more noise in front of every table".into());
                    }
                };
                let text = LOOSER.iter().find(|(known, _)| *known == p).map_or_else(|| p.to_string(), |l| l.1.into());
                (format!("{name} {text}"), "more frequent errors".into())
            }
            Change::Calibrated => ("--ranges calibrated".into(), "domains as wide as the values seen".into()),
            Change::Bits128 => ("--security 128".into(), "less noise in every key".into()),
        }
    }

    /// What the search has to satisfy under changes.
    pub fn requirements(&self, changes: &[Change]) -> Requirements {
        let mut options = self.options.clone();
        let mut narrowed = None;
        for change in changes {
            match change {
                Change::Error(target) => options.error = *target,
                Change::Bits128 => options.curve = SecurityCurve::Bits128,
                Change::Calibrated => narrowed = Some(with_domains(self.graph, &self.notes.calibrated)),
                Change::Rounding(_)
                | Change::Approximate
                | Change::OutputBits(_)
                | Change::WeightBits(_)
                | Change::ActivationBits(_) => {}
            }
        }
        match &narrowed {
            Some(graph) => self.of(graph, &Regions::of(graph), &options, changes),
            None => self.of(self.graph, self.regions, &options, changes),
        }
    }

    fn of(&self, graph: &Graph, regions: &Regions<'_>, options: &Options, changes: &[Change]) -> Requirements {
        let mut requirements = requirements(graph, regions, options);
        if changes.contains(&Change::Approximate) {
            let bits = || regions.readings.iter().filter(|r| r.read == Read::Bit);
            let removed: u64 = bits().map(|r| graph.value(r.operand).elements() as u64).sum();
            // Each bit has a keyswitch of its own. What their noise adds to the tables behind them stays.
            requirements.pbs_count = requirements.pbs_count.saturating_sub(removed);
            requirements.ks_count = requirements.ks_count.saturating_sub(removed);
            let mut kept = regions.readings.iter().map(|r| r.read != Read::Bit);
            requirements.constraints.retain(|_| kept.next().unwrap_or(true));
        }
        let readings = regions.readings.iter();
        let kept = readings.filter(|r| r.read != Read::Bit || !changes.contains(&Change::Approximate));
        for (constraint, reading) in requirements.constraints.iter_mut().zip(kept) {
            for change in changes {
                *constraint = self.changed(regions, reading, *constraint, *change);
            }
        }
        requirements
    }

    fn changed(&self, regions: &Regions<'_>, reading: &Reading<'_>, now: Constraint, change: Change) -> Constraint {
        let at_most = |boxes: u64| {
            let boxes = u64::from(now.boxes).min(boxes).max(1);
            let new = regions.constraint_in(reading, boxes);
            Constraint { norm2_pbs: now.norm2_pbs, norm2_input: now.norm2_input, ..new }
        };
        let weighted = now.norm2_pbs.max(now.norm2_input) > 1.0;
        // Where each integer has its box, a narrower accumulator has fewer.
        let narrowed = |by: f64| {
            let boxes = u64::from(now.boxes);
            // At most 2^20 boxes: the cast is exact.
            if boxes == reading.domain.width { ((boxes as f64 / by).ceil() as u64).max(2) } else { boxes }
        };
        match change {
            Change::Rounding(p) if now.table => at_most(1 << p),
            // Without rounding outputs are read exactly, with it at their own resolution.
            Change::Rounding(_) if self.options.rounding == Rounding::Off => {
                at_most(1 << self.options.bits.model_outputs.min(32))
            }
            Change::OutputBits(b) if !now.table => at_most(1 << b.min(32)),
            // Behind no weights there is nothing to make smaller.
            Change::WeightBits(b) if weighted => {
                let by = weight_steps(self.options.bits.op_weights) / weight_steps(b);
                let smaller = |norm2: f64| if norm2 > 0.0 { (norm2 / (by * by)).max(1.0) } else { 0.0 };
                let (norm2_pbs, norm2_input) = (smaller(now.norm2_pbs), smaller(now.norm2_input));
                Constraint { norm2_pbs, norm2_input, ..at_most(narrowed(by)) }
            }
            Change::ActivationBits(b) if weighted => {
                let by = |bits: u32| activation_steps(bits) / activation_steps(bits.min(b));
                let bits = self.options.bits;
                let of_inputs = if now.norm2_input > 0.0 { by(bits.model_inputs) } else { f64::INFINITY };
                let of_tables = if now.norm2_pbs > 0.0 { by(bits.op_inputs) } else { f64::INFINITY };
                at_most(narrowed(of_inputs.min(of_tables)))
            }
            _ => now,
        }
    }
}

/// Steps from zero to the greatest weight of a width: weights are symmetric around zero.
fn weight_steps(bits: u32) -> f64 {
    (f64::from(bits.min(*Bits::RANGE.end()).max(2) - 1).exp2() - 1.0).max(1.0)
}

/// Steps from the smallest to the greatest activation of a width.
fn activation_steps(bits: u32) -> f64 {
    (f64::from(bits.min(*Bits::RANGE.end()).max(1)).exp2() - 1.0).max(1.0)
}

/// The graph with other domains. Its tables no longer fit: it is there to be measured.
fn with_domains(graph: &Graph, domains: &IndexMap<String, Domain>) -> Graph {
    let mut new = graph.clone();
    for value in &mut new.values {
        if let Op::Lut { x, domain, .. } = &mut value.op
            && let Some(other) = domains.get(&graph.value(*x).name)
        {
            *domain = other.clone();
        }
    }
    for output in &mut new.outputs {
        if let Some(other) = domains.get(&graph.value(output.value).name) {
            output.domain = Some(other.clone());
        }
    }
    new
}
