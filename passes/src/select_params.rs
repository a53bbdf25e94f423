//! select-params: the cheapest cryptographic parameters under which every table and output is read right.
//!
//! One key set serves the circuit. The search runs over the noise constraints of all readings; the result is kept in
//! the graph as `!p0`.

use fhe_ir::{Graph, Op, Phase};

use crate::params::{CostModel, Infeasible, MachineCost, NoiseModel, Requirements, SearchSpace, search};
use crate::pass::{Pass, PassCx, PassError, Place};
use crate::regions::Regions;

/// See the module.
pub struct SelectParams;

/// The noise model that circuits are built with.
pub const NOISE_MODEL: NoiseModel = NoiseModel::TfheRsCentred;

/// The cost model that circuits are built with.
pub const COST_MODEL: CostModel = CostModel::Machine(MachineCost::BACKEND);

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
        let regions = Regions::of(&graph);
        let requirements = requirements(&graph, &regions, cx);
        let found = search(&requirements, &NOISE_MODEL, &COST_MODEL)
            .map_err(|infeasible| explain(&graph, &regions, &infeasible))?;
        cx.remark(format!("{} costs {:.3} s single-threaded per inference", found.params, found.cost_ns * 1e-9));
        cx.count("readings", requirements.constraints.len() as u64);
        graph.params = vec![found.params];
        Ok(graph)
    }
}

/// What the search has to satisfy for a tabled graph.
pub fn requirements(graph: &Graph, regions: &Regions<'_>, cx: &PassCx<'_>) -> Requirements {
    let constraints = regions.readings.iter().map(|r| regions.constraint(r)).collect();
    let tables = || graph.values.iter().filter(|v| matches!(v.op, Op::Lut { .. }));
    let mut operands: Vec<_> = tables().map(|v| v.op.operands()[0]).collect();
    operands.sort_unstable();
    operands.dedup();
    Requirements {
        constraints,
        pbs_count: tables().map(|v| v.elements() as u64).sum(),
        ks_count: operands.iter().map(|o| graph.value(*o).elements() as u64).sum(),
        linear_products: graph.values.iter().map(|v| fhe_ir::count::clear_products(graph, v)).sum(),
        target: cx.options.error,
        curve: cx.options.curve,
        space: SearchSpace::default(),
    }
}

fn explain(graph: &Graph, regions: &Regions<'_>, infeasible: &Infeasible) -> PassError {
    let (Infeasible::TooManyBoxes { constraint, .. } | Infeasible::TooNoisy { constraint, .. }) = infeasible else {
        return PassError::BadOptions {
            message: infeasible.to_string(),
            advice: "give an error probability between 0 and 1, for example 2^-40".into(),
        };
    };
    let reading = &regions.readings[*constraint];
    let constraint = regions.constraint(reading);
    let bits = f64::from(constraint.boxes).log2();
    let reason = match infeasible {
        Infeasible::TooNoisy { log2_sd_allowed, log2_sd, dominant, closest, .. } => format!(
            "it is read in {} boxes ({bits:.1} bits) behind weights of norm 2^{:.1}, which allows noise of \
             2^{log2_sd_allowed:.2}; the quietest set ({closest}) has 2^{log2_sd:.2}, mostly of the {dominant}",
            constraint.boxes,
            0.5 * constraint.norm2_pbs.max(constraint.norm2_input).max(1.0).log2(),
        ),
        _ => format!("it is read in {} boxes ({bits:.1} bits); {infeasible}", constraint.boxes),
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
    let reason = reason + &shared;
    let fewer = (bits.ceil() as u32).saturating_sub(1).clamp(2, 8);
    let advice = format!(
        "read it in fewer boxes (--rounding {fewer} or less), use fewer bits (--n-bits), or allow more errors (--p-error)"
    );
    PassError::NoParameters { place: Place::new(graph, reading.operand), reason, advice }
}
