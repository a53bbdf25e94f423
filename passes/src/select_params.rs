//! select-params: the cheapest cryptographic parameters under which every table and output is read right.
//!
//! The search runs over the noise constraints of all readings; the result is kept in the graph as `!p0`. Where several
//! sets are cheaper and their keys small enough, they are `!p0`, `!p1`, …, and which table runs under which is planned in
//! the facts of values.

use fhe_ir::{Graph, Phase, Read};

use crate::budget::{Sensitivities, Sensitivity, output_key};
use crate::key_sets::Numbered;
use crate::options::Options;
use crate::params::{
    Assignment, Constraint, ErrorTarget, Found, Infeasible, MeanNoise, NoiseModel, Requirements, SearchSpace, in_words,
    search, solve,
};
use crate::pass::{Pass, PassCx, PassError, Place};
use crate::regions::{Reading, Regions};
use crate::ways_out::{Proposals, WayOut};

/// See the module.
pub struct SelectParams;

/// The noise model that circuits are built with.
pub const NOISE_MODEL: NoiseModel = NoiseModel::TfheRsCentred;

impl Pass for SelectParams {
    fn name(&self) -> &'static str {
        "select-params"
    }

    fn summary(&self) -> &'static str {
        "choose the cheapest parameters that keep every table precise enough"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Tabled, Phase::Tabled)
    }

    fn run(&self, mut graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        graph.values.iter_mut().for_each(|v| v.facts.planned = None);
        let regions = Regions::of(&graph);
        let noise_budget = matches!(cx.options.error, ErrorTarget::Noise(_));
        if !noise_budget && regions.readings.iter().any(|r| r.table.is_some() && r.read == Read::Full) {
            return Err(PassError::BadOptions {
                message: "tables read in full have no boxes whose errors a probability could bound".into(),
                advice: "give --accuracy-budget with rows to measure on, or --noise-budget, for example 2^-9".into(),
            });
        }
        let mut requirements = requirements(&graph, &regions, cx.options);
        cx.count("readings", requirements.constraints.len() as u64);
        let mean = noise_budget.then(|| mean_noise(&graph, &regions, &cx.notes.sensitivities));
        if let Some(mean) = &mean {
            requirements.constraints = vec![mean.constraint];
        }
        let found = search(&requirements, &NOISE_MODEL, &cx.options.cost_model())
            .map_err(|infeasible| explain(&graph, &regions, &infeasible, mean.as_ref(), cx))?;
        cx.remark(format!("{} costs {:.3} s single-threaded per inference", found.params, found.cost_ns * 1e-9));
        let several = if cx.options.max_key_bytes > 0 { several(&graph, &regions, &found, mean, cx) } else { None };
        match several {
            Some((numbered, assignment)) => numbered.plan_all(&mut graph, &assignment),
            None => graph.params = vec![found.params],
        }
        Ok(graph)
    }
}

/// Several sets where they are cheaper than the best single one.
fn several(
    graph: &Graph,
    regions: &Regions<'_>,
    single: &Found,
    mean: Option<MeanNoise>,
    cx: &mut PassCx<'_>,
) -> Option<(Numbered, Assignment)> {
    let numbered = Numbered::of(graph, regions);
    let problem = numbered.problem(graph, regions, cx.options, mean);
    let found = solve(&problem, &NOISE_MODEL, &cx.options.cost_model()).ok()?;
    if found.sets.len() < 2 && found.tables.iter().all(|t| t.conversion.is_none()) {
        return None;
    }
    cx.remark(format!(
        "{} parameter sets cost {:.3} s, {:.0} % of one; their keys have {:.2} GiB",
        found.sets.len(),
        found.cost_ns * 1e-9,
        100.0 * found.cost_ns / single.cost_ns,
        found.key_bytes as f64 / f64::from(1 << 30),
    ));
    cx.count("sets", found.sets.len() as u64);
    Some((numbered, found))
}

/// Under a noise budget, all reads as one: the mean of their variances, each relative to its domain and with the weight
/// that the network gives it.
fn mean_noise(graph: &Graph, regions: &Regions<'_>, sensitivities: &Sensitivities) -> MeanNoise {
    let known = sensitivities.values().map(|s| s.weight).sum::<f64>() / sensitivities.len().max(1) as f64;
    let usual = Sensitivity { weight: if known > 0.0 { known } else { 1.0 }, growth: 1.0 };
    let outputs = graph.outputs.iter().map(|o| output_key(&o.name));
    let mut names = outputs.collect::<Vec<_>>().into_iter();
    let (mut weights, mut growths) = (vec![], vec![]);
    let (mut tables, mut boxes, mut count, mut norm2_pbs, mut norm2_input) = (0.0, 1, 0, 0.0, 0.0);
    for reading in &regions.readings {
        let c = regions.constraint(reading);
        let name = match reading.table {
            Some(table) => graph.value(table).name.clone(),
            None => names.next().unwrap_or_default(),
        };
        let Sensitivity { weight, growth } = sensitivities.get(&name).copied().unwrap_or(usual);
        let weight = weight.max(usual.weight * 1e-6) / c.filled().powi(2);
        weights.push(weight);
        growths.push(growth);
        norm2_pbs += weight * growth * c.norm2_pbs;
        norm2_input += weight * c.norm2_input;
        if c.table {
            tables += weight;
            boxes = boxes.max(if c.full { 1 } else { c.boxes });
            count += c.count;
        }
    }
    // The keyswitch and the modulus switch are in front of tables only.
    let share = if tables > 0.0 { 1.0 / tables } else { 1.0 };
    let constraint = Constraint {
        norm2_pbs: norm2_pbs * share,
        norm2_input: norm2_input * share,
        table: tables > 0.0,
        half_box: 0.25 / f64::from(boxes),
        boxes,
        dyadic_boxes: false,
        full: true,
        count: count.max(1),
    };
    MeanNoise { constraint, weights, growths }
}

/// The read that adds most to a mean.
fn loudest(regions: &Regions<'_>, mean: &MeanNoise) -> usize {
    let noise = |(reading, weight): (&Reading<'_>, &f64)| weight * regions.constraint(reading).norm2_pbs;
    let noises = regions.readings.iter().zip(&mean.weights).map(noise).enumerate();
    noises.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index)
}

/// What the search has to satisfy for a graph of phase `tabled` or `circuit`.
pub fn requirements(graph: &Graph, regions: &Regions<'_>, options: &Options) -> Requirements {
    let constraints = regions.readings.iter().map(|r| regions.constraint(r)).collect();
    let tables = || regions.readings.iter().filter_map(|r| Some((r.operand, r.table?)));
    let mut operands: Vec<_> = tables().map(|(operand, _)| operand).collect();
    operands.sort_unstable();
    operands.dedup();
    let cost = options.cost_model();
    let linear_products: f64 = graph.values.iter().map(|v| cost.linear_products(graph, v)).sum();
    Requirements {
        constraints,
        pbs_count: tables().map(|(_, table)| graph.value(table).elements() as u64).sum(),
        ks_count: operands.iter().map(|o| graph.value(*o).elements() as u64).sum(),
        linear_products: linear_products.round() as u64,
        target: options.error,
        curve: options.curve,
        space: SearchSpace::default(),
    }
}

/// Predicted nanoseconds for one row of a circuit on one thread of the machine that the options name.
pub fn predicted_ns(circuit: &Graph, options: &Options) -> f64 {
    options.machine.cost.latency(circuit, 1, 1).total_ns()
}

/// Ways out that an error proposes.
const WAYS_OUT: usize = 3;

fn explain(
    graph: &Graph,
    regions: &Regions<'_>,
    infeasible: &Infeasible,
    mean: Option<&MeanNoise>,
    cx: &PassCx<'_>,
) -> PassError {
    let (Infeasible::TooManyBoxes { constraint, .. } | Infeasible::TooNoisy { constraint, .. }) = infeasible else {
        return PassError::BadOptions {
            message: infeasible.to_string(),
            advice: "give an error probability between 0 and 1, for example 2^-40".into(),
        };
    };
    let reading = &regions.readings[mean.map_or(*constraint, |mean| loudest(regions, mean))];
    let constraint = regions.constraint(reading);
    let read = match reading.read {
        Read::Full => "it is read in full".to_owned(),
        Read::Bit => "a bit of an accumulator, moved to the top of the torus to be removed exactly, is read".to_owned(),
        _ => format!("it is read in {} boxes ({:.1} bits)", constraint.boxes, f64::from(constraint.boxes).log2()),
    };
    let reason = match infeasible {
        Infeasible::TooNoisy { log2_sd_allowed, log2_sd, shares, closest, .. } => format!(
            "{read} behind weights of norm {}, which allows noise of 2^{log2_sd_allowed:.2}; the quietest set ({closest}) \
             has 2^{log2_sd:.2}: {}",
            norms(&constraint),
            in_words(shares),
        ),
        Infeasible::TooManyBoxes { largest, .. } => format!(
            "{read}, which needs a polynomial of {} coefficients; the largest has {largest}",
            2 * u64::from(constraint.boxes)
        ),
        _ => read,
    };
    let (width, span) = (reading.domain.width, regions.span[reading.operand.index()]);
    let shared = if span >= 2 * width {
        format!(
            "; its {:.1}-bit domain shares the torus step of a {:.1}-bit one in the same linear region",
            (width as f64).log2(),
            (span as f64).log2()
        )
    } else {
        format!("; the accumulator has {:.1} bits", (width as f64).log2())
    };
    let ways = Proposals::new(graph, regions, cx.options, &cx.notes).ways_out(WAYS_OUT);
    PassError::NoParameters {
        place: Place::new(graph, reading.operand),
        reason: reason + &shared,
        advice: advice(&ways),
    }
}

/// Norms in front of a read: on bootstraps, on inputs, or on both.
pub(crate) fn norms(c: &Constraint) -> String {
    let norm = |norm2: f64, of: &str| (norm2 > 0.0).then(|| format!("2^{:.1} on {of}", 0.5 * norm2.log2()));
    let norms: Vec<_> =
        [norm(c.norm2_pbs, "bootstraps"), norm(c.norm2_input, "inputs")].into_iter().flatten().collect();
    if norms.is_empty() { "0".into() } else { norms.join(" and ") }
}

/// The ways out in words.
fn advice(ways: &[WayOut]) -> String {
    if ways.is_empty() {
        return "no single option and no pair of them suffices: use fewer bits everywhere (--n-bits) and read coarsely \
                (--rounding), or put an activation in front of the widest sum"
            .into();
    }
    let each =
        |way: &WayOut| format!("{}: {}, {:.3} s per row on one core", way.option, way.effect, way.found.cost_ns * 1e-9);
    let lines: Vec<_> = ways.iter().map(each).collect();
    format!("each of these has parameters, the cheapest first; predicted cost behind it\n{}", lines.join("\n"))
}
