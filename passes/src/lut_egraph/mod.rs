//! `lut-egraph`: fewer and narrower table lookups, by equality saturation over maps.
//!
//! The network becomes an e-graph ([`language`]), exact rules ([`rules`]) add equal terms until nothing new appears,
//! and the cheapest choice of terms ([`cost`]) becomes the network again. `README.md` says what a rule may be.

mod cost;
mod function;
mod intern;
mod language;
mod rebuild;
mod rules;

use core::time::Duration;
use std::collections::BTreeMap;

use egg::{Language, Runner, SimpleScheduler, StopReason};
use fhe_ir::{Elem, Graph, Id, Op, Phase, Value};

use crate::pass::{Pass, PassCx, PassError};
use cost::Candidates;
use function::Function;
use intern::Pool;
use language::{Tensor, Term};

/// See the module.
pub struct LutEgraph;

/// Rounds of rules.
const ITERATIONS: usize = 32;

/// Terms in the e-graph: so many, and so many more for each value of the network.
const NODES: (usize, usize) = (10_000, 16);

impl Pass for LutEgraph {
    fn name(&self) -> &'static str {
        "lut-egraph"
    }

    fn summary(&self) -> &'static str {
        "fuses and shares tables by exact rewriting"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Quantized, Phase::Ranged)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        // A resolution is a choice about one operand: such maps are not moved to another one.
        if graph.values.iter().any(|v| matches!(v.op, Op::Map { resolution: Some(_), .. })) {
            cx.remark("tables have a resolution already: nothing is rewritten");
            return Ok(graph);
        }
        if cx.budget == Some(0) {
            return Ok(graph);
        }
        // egg's own limit is five seconds of wall clock; a compiler has none.
        let mut runner: Runner<Term, Pool> = Runner::new(Pool::new(&graph, cx.budget))
            .with_scheduler(SimpleScheduler)
            .with_iter_limit(ITERATIONS)
            .with_node_limit(NODES.0 + NODES.1 * graph.values.len())
            .with_time_limit(Duration::MAX);
        let mut terms = vec![];
        let mut classes: Vec<egg::Id> = vec![];
        for (id, value) in graph.iter() {
            let term = term(&mut runner.egraph, &graph, id, value, &classes);
            classes.push(runner.egraph.add(term.clone()));
            terms.push(term);
        }
        let runner = runner.run(&rules::all());
        match runner.stop_reason {
            Some(StopReason::Saturated) | None => {}
            Some(reason) => cx.remark(format!("stopped before every rule was tried everywhere: {reason:?}")),
        }
        let egraph = runner.egraph;
        cx.budget = egraph.analysis.budget;

        let mut ranks = BTreeMap::new();
        let mut original = cost::Choice::new();
        for (index, class) in classes.iter_mut().enumerate() {
            *class = egraph.find(*class);
            ranks.entry(*class).or_insert(index);
            original.entry(*class).or_insert_with(|| terms[index].clone().map_children(|x| egraph.find(x)));
        }
        let roots: Vec<_> = graph.outputs.iter().map(|o| classes[o.value.index()]).collect();
        let candidates = Candidates::new(&egraph, &ranks);
        let choices = [original, candidates.greedy_dag(&egraph), candidates.bottom_up(&egraph)];
        let costs = choices.each_ref().map(|choice| candidates.cost(&egraph, choice, &roots));
        let best = (0..choices.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
        Ok(rebuild::rebuild(&graph, &egraph, &classes, &choices[best], &candidates, cx))
    }
}

/// The term of a value of the network.
fn term(egraph: &mut language::Graph, graph: &Graph, id: Id<Value>, value: &Value, classes: &[egg::Id]) -> Term {
    let of = |id: Id<Value>| classes[id.index()];
    let scale = egraph.analysis.intern_scale(value.facts.scale.as_deref().unwrap_or_default());
    match &value.op {
        Op::Map { x, shift, chain, resolution: _ } => {
            let Elem::Int(to) = value.elem else { unreachable!("verified: a map gives integers of a known type") };
            let shift = shift.map_or(vec![0], |c| integers(graph, c));
            let function = Function { shift: compact(shift), chain: chain.clone(), to, scale, made_by: vec![] };
            let function = egraph.analysis.intern_function(function);
            Term::Map([egraph.add(Term::Function(function)), of(*x)])
        }
        Op::AddClear { x, c } | Op::MulClear { x, c } => {
            let list = egraph.analysis.intern_list(compact(integers(graph, *c)));
            let children = [of(*x), egraph.add(Term::List(list)), egraph.add(Term::Scale(scale))];
            if matches!(value.op, Op::AddClear { .. }) { Term::AddClear(children) } else { Term::MulClear(children) }
        }
        Op::Neg { x } => Term::Neg([of(*x), egraph.add(Term::Scale(scale))]),
        Op::Input { .. }
        | Op::Dot { .. }
        | Op::Conv { .. }
        | Op::SumPool { .. }
        | Op::AvgPool { .. }
        | Op::MaxPool { .. }
        | Op::BatchNorm { .. }
        | Op::Add { .. }
        | Op::Sub { .. }
        | Op::Mul { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Lut { .. }
        | Op::Keyswitch { .. }
        | Op::Pbs { .. } => {
            let ranges: Option<Vec<_>> = (0..value.channels()).map(|c| value.channel_interval(c)).collect();
            let operands = value.op.operands().into_iter().map(of).collect();
            // Equal ops on equal operands are one; inputs are never equal.
            let bare = value.op.clone().with_operands(|_| Id::new(0)).with_constants(|c| egraph.analysis.canonical(c));
            let input = if matches!(value.op, Op::Input { .. }) { id.index() } else { 0 };
            let key = format!("{bare:?} {:?} {scale} {input}", value.shape);
            let result = Tensor { shape: value.shape.clone(), ranges, scale };
            Term::Op(egraph.analysis.intern_op(key, result), operands)
        }
    }
}

fn integers(graph: &Graph, c: Id<fhe_ir::Const>) -> Vec<i64> {
    graph.ints(c).iter().copied().collect()
}

/// One number for a list of equal ones.
fn compact(list: Vec<i64>) -> Vec<i64> {
    if list.iter().all(|&e| e == list[0]) { vec![list[0]] } else { list }
}
