//! From the chosen terms back to the network: names, facts and origins are those of the values that they replace.

use std::collections::BTreeMap;
use std::sync::Arc;

use egg::Id as Class;
use fhe_ir::{Data, Elem, Facts, Func, Graph, Id, Interval, Op, Origin, Output, Rebuild, Value};
use ndarray::Array1;

use super::cost::{Candidates, Choice, needed};
use super::language::{self, Term};
use crate::pass::PassCx;
use crate::peephole::merge_origins;
use crate::range_analysis::with_proven_range;

/// Writes the chosen terms that the outputs need. `classes` has the class of each old value.
pub(super) fn rebuild(
    graph: &Graph,
    egraph: &language::Graph,
    classes: &[Class],
    choice: &Choice,
    candidates: &Candidates,
    cx: &mut PassCx<'_>,
) -> Graph {
    let roots: Vec<Class> = graph.outputs.iter().map(|o| classes[o.value.index()]).collect();
    let mut wanted = needed(egraph, choice, &roots);
    wanted.extend(graph.inputs().iter().map(|id| classes[id.index()]));
    let mut members: BTreeMap<Class, Vec<Id<Value>>> = BTreeMap::new();
    for (id, _) in graph.iter() {
        members.entry(classes[id.index()]).or_default().push(id);
    }
    let mut writer = Writer { graph, egraph, classes, new: Rebuild::new(graph), placed: BTreeMap::new() };
    // Rules may have added constants to chains.
    writer.new.new.consts.clone_from(&egraph.analysis.graph.consts);
    for class in candidates.order().iter().filter(|c| wanted.contains(c)) {
        let values = members.get(class).map_or(&[][..], Vec::as_slice);
        if let Some(term) = choice.get(class) {
            writer.write(*class, term, values, cx);
        }
    }
    let place = |o: &Output| Output { value: writer.placed[&classes[o.value.index()]], ..o.clone() };
    let outputs = graph.outputs.iter().map(place).collect();
    writer.new.finish_with_outputs(graph.phase, outputs)
}

struct Writer<'g> {
    graph: &'g Graph,
    egraph: &'g language::Graph,
    classes: &'g [Class],
    new: Rebuild<'g>,
    placed: BTreeMap<Class, Id<Value>>,
}

impl Writer<'_> {
    /// Writes the value of a class; `values` are the old values of that class, in order.
    fn write(&mut self, class: Class, term: &Term, values: &[Id<Value>], cx: &mut PassCx<'_>) {
        let is_map = |id: &&Id<Value>| matches!(self.graph.value(**id).op, Op::Map { .. });
        let maps = values.iter().filter(is_map).count() as u64;
        let same = values.iter().find(|id| self.is_term(**id, term));
        let mut value = match (same, term, values.first()) {
            (Some(&id), _, _) => self.graph.value(id).clone(),
            // The last map of the class has the facts of what it gives.
            (None, Term::Map(_), Some(_)) => {
                let last = *values.iter().rfind(is_map).unwrap_or(&values[0]);
                self.graph.value(last).clone()
            }
            (None, _, Some(&first)) => self.graph.value(first).clone(),
            (None, _, None) => self.helper(class),
        };
        let operands: Vec<Class> = term.operands().iter().map(|&x| self.egraph.find(x)).collect();
        value.op = match (term, same) {
            (_, Some(_)) => {
                let mut at = operands.iter().map(|x| self.placed[x]);
                value.op.with_operands(|_| at.next().expect("as many operands as the term"))
            }
            (Term::Map([f, _]), None) => self.map(&value, *f, operands[0]),
            (Term::AddClear([_, c, _]), None) => {
                self.clear(&value, *c, |x, c| Op::AddClear { x, c }, operands[0], "summand")
            }
            (Term::MulClear([_, c, _]), None) => {
                self.clear(&value, *c, |x, c| Op::MulClear { x, c }, operands[0], "factor")
            }
            (Term::Neg(_), None) => Op::Neg { x: self.placed[&operands[0]] },
            (Term::Op(..) | Term::Function(_) | Term::List(_) | Term::Scale(_), None) => {
                unreachable!("rules make maps and clear ops")
            }
        };
        self.count(term, same.is_some(), maps, cx);
        if same.is_none() && !matches!(term, Term::Map(_)) {
            self.refresh(&mut value, class);
        }
        for &id in values {
            merge_origins(&mut value, &self.origins_until(id, &operands));
        }
        // An operand may have been replaced by one of a wider type that gives the same integers.
        let covered = |proven: &Value, c| {
            let both = value.channel_interval(c).zip(proven.channel_interval(c));
            both.is_none_or(|(stated, proven)| stated.covers(proven))
        };
        let value = match with_proven_range(&self.new.new, value.clone()) {
            Ok(proven) if !(0..value.channels()).all(|c| covered(&proven, c)) => proven,
            _ => value,
        };
        let id = self.new.push(value);
        self.placed.insert(class, id);
    }

    /// Whether an old value is the term.
    fn is_term(&self, id: Id<Value>, term: &Term) -> bool {
        let value = self.graph.value(id);
        let operands = value.op.operands();
        let same_operands = operands.len() == term.operands().len()
            && operands.iter().zip(term.operands()).all(|(a, b)| self.classes[a.index()] == self.egraph.find(*b));
        same_operands
            && match (&value.op, term) {
                (Op::Map { shift, chain, .. }, Term::Map([f, _])) => {
                    let f = language::function(self.egraph, *f);
                    let canonical = |c| self.egraph.analysis.canonical(c);
                    let chain = chain.iter().map(|link| {
                        let mut link: Func = link.clone();
                        link.replace_constant(canonical);
                        link
                    });
                    let shift = shift.map_or(vec![0], |c| super::compact(super::integers(self.graph, c)));
                    f.shift == shift && chain.eq(f.chain.iter().cloned()) && value.elem == Elem::Int(f.to)
                }
                (Op::AddClear { c, .. }, Term::AddClear([_, list, _]))
                | (Op::MulClear { c, .. }, Term::MulClear([_, list, _])) => {
                    super::compact(super::integers(self.graph, *c)) == language::list(self.egraph, *list)
                }
                (Op::Neg { .. }, Term::Neg(_)) => true,
                (Op::Map { .. } | Op::AddClear { .. } | Op::MulClear { .. } | Op::Neg { .. }, _) => false,
                (_, Term::Op(..)) => true,
                _ => false,
            }
    }

    fn map(&mut self, value: &Value, f: Class, x: Class) -> Op {
        let f = language::function(self.egraph, f);
        let shift = f.shift.iter().any(|&e| e != 0).then(|| self.integers(&format!("{}.shift", value.name), &f.shift));
        Op::Map { x: self.placed[&x], shift, chain: f.chain.clone(), resolution: None }
    }

    fn clear(
        &mut self,
        value: &Value,
        list: Class,
        op: impl FnOnce(Id<Value>, Id<fhe_ir::Const>) -> Op,
        x: Class,
        what: &str,
    ) -> Op {
        let c = self.integers(&format!("{}.{what}", value.name), language::list(self.egraph, list));
        op(self.placed[&x], c)
    }

    fn integers(&mut self, name: &str, list: &[i64]) -> Id<fhe_ir::Const> {
        let data = Data::Int(Arc::new(Array1::from_vec(list.to_vec()).into_dyn()));
        // An absorbed summand keeps the name it had.
        let same = self.new.new.consts.iter().position(|c| c.data == data);
        same.map_or_else(|| self.new.new.push_const(name, data), Id::new)
    }

    /// A value that only rules need.
    fn helper(&self, class: Class) -> Value {
        let tensor = language::tensor(self.egraph, class);
        let reader = self.graph.iter().find(|(id, _)| self.reads(*id, class)).map(|(_, v)| v);
        Value {
            name: reader.map_or("nothing".into(), |v| format!("{}.nothing", v.name)),
            shape: tensor.shape.clone(),
            elem: Elem::IntUnknown,
            op: Op::Input { pre: vec![] },
            facts: Facts::default(),
            cipher: None,
            from: reader.map_or(vec![], |v| v.from.clone()),
        }
    }

    /// Whether some term of the value's class reads `class`.
    fn reads(&self, id: Id<Value>, class: Class) -> bool {
        let terms = &self.egraph[self.classes[id.index()]].nodes;
        terms.iter().any(|t| t.operands().iter().any(|&x| self.egraph.find(x) == class))
    }

    /// Type and facts of a value that a rule computes in another way.
    fn refresh(&self, value: &mut Value, class: Class) {
        let tensor = language::tensor(self.egraph, class);
        let ranges: Option<Vec<Interval>> = (0..tensor.channels()).map(|c| tensor.range(c)).collect();
        if let Some(ranges) = ranges {
            let hull = ranges.iter().copied().reduce(Interval::hull).expect("tensors have channels");
            value.elem = Elem::Int(hull);
            let all_equal = ranges.iter().all(|r| *r == hull);
            value.facts.range = (!all_equal).then_some(ranges);
        }
        let scale = self.egraph.analysis.scale(tensor.scale);
        value.facts.scale = (!scale.is_empty()).then(|| scale.to_vec());
    }

    /// Origins of a value and of what lies between it and the operands that its term has now.
    fn origins_until(&self, id: Id<Value>, operands: &[Class]) -> Vec<Id<Origin>> {
        let mut origins = vec![];
        let mut at = id;
        loop {
            let value = self.graph.value(at);
            origins.extend(&value.from);
            let &[x] = value.op.operands().as_slice() else { break };
            let next = self.graph.value(x);
            let absorbed =
                matches!(next.op, Op::Map { .. } | Op::AddClear { .. } | Op::MulClear { .. } | Op::Neg { .. });
            if !absorbed
                || operands.contains(&self.classes[x.index()])
                || self.classes[x.index()] == self.classes[id.index()]
            {
                break;
            }
            at = x;
        }
        origins
    }

    /// Rules by the name of what they did to a class.
    fn count(&self, term: &Term, same: bool, maps: u64, cx: &mut PassCx<'_>) {
        match term {
            Term::Map([f, _]) => {
                if !same {
                    for rule in &language::function(self.egraph, *f).made_by {
                        cx.count(rule, 1);
                    }
                }
                if maps > 1 {
                    cx.count("equal-maps", maps - 1);
                }
            }
            Term::AddClear(_) if maps > 0 && !same => cx.count("constant-map", maps),
            _ if maps > 0 => cx.count("identity-map", maps),
            _ => {}
        }
    }
}
