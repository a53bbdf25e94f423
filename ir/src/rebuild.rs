//! Rewriting by rebuilding: a pass walks the old graph once and writes a new one; nothing is edited in place.

use crate::graph::{Graph, Output, Phase, Value};
use crate::id::Id;
use crate::op::Op;

/// A new graph under construction, with the place each old value has in it.
///
/// Constants, tables, parameter sets and origins are carried over under their ids; [`Rebuild::finish`] drops the
/// values, constants and tables that no output needs.
pub struct Rebuild<'old> {
    /// The graph that is read.
    pub old: &'old Graph,
    /// The graph that is written.
    pub new: Graph,
    map: Vec<Option<Id<Value>>>,
}

impl<'old> Rebuild<'old> {
    /// Starts from an empty list of values.
    pub fn new(old: &'old Graph) -> Self {
        let mut new = Graph::new(old.name.clone(), old.phase);
        new.consts = old.consts.clone();
        new.tables = old.tables.clone();
        new.params = old.params.clone();
        new.origins = old.origins.clone();
        Self { old, new, map: vec![None; old.values.len()] }
    }

    /// Where an old value is in the new graph.
    ///
    /// # Panics
    /// When it has not been placed: operands come before users, so a pass that handles every value in order has.
    pub fn get(&self, old: Id<Value>) -> Id<Value> {
        self.map[old.index()].expect("operands are placed before their users")
    }

    /// Where an old value is in the new graph, if it has been placed.
    pub fn placed(&self, old: Id<Value>) -> Option<Id<Value>> {
        self.map[old.index()]
    }

    /// Says that `new` stands for `old` from here on.
    pub fn place(&mut self, old: Id<Value>, new: Id<Value>) {
        self.map[old.index()] = Some(new);
    }

    /// The op with its operands found in the new graph.
    pub fn remap(&self, op: &Op) -> Op {
        op.clone().with_operands(|id| self.get(id))
    }

    /// Copies an old value unchanged.
    pub fn copy(&mut self, old: Id<Value>) -> Id<Value> {
        let value = self.old.value(old);
        self.replace(old, Value { op: self.remap(&value.op), ..value.clone() })
    }

    /// Places a value of the new graph for an old one; its name is made unique.
    pub fn replace(&mut self, old: Id<Value>, value: Value) -> Id<Value> {
        let new = self.push(value);
        self.place(old, new);
        new
    }

    /// Appends a value that stands for no old one; its name is made unique.
    pub fn push(&mut self, mut value: Value) -> Id<Value> {
        value.name = self.new.unique_value_name(&value.name);
        self.new.push(value)
    }

    /// Carries the outputs over, sets the phase and drops what no output needs.
    pub fn finish(mut self, phase: Phase) -> Graph {
        self.new.outputs = self.old.outputs.iter().map(|o| Output { value: self.get(o.value), ..o.clone() }).collect();
        self.new.phase = phase;
        sweep(self.new)
    }

    /// As [`Rebuild::finish`], with outputs made by the pass (values of the new graph).
    pub fn finish_with_outputs(mut self, phase: Phase, outputs: Vec<Output>) -> Graph {
        self.new.outputs = outputs;
        self.new.phase = phase;
        sweep(self.new)
    }
}

/// Drops the values, constants, tables and origins that no output needs; inputs stay.
pub fn sweep(graph: Graph) -> Graph {
    let mut live = vec![false; graph.values.len()];
    for output in &graph.outputs {
        live[output.value.index()] = true;
    }
    for (id, value) in graph.iter().rev() {
        if matches!(value.op, Op::Input { .. }) {
            live[id.index()] = true;
        }
        if live[id.index()] {
            for operand in value.op.operands() {
                live[operand.index()] = true;
            }
        }
    }
    let mut new = Graph::new(graph.name.clone(), graph.phase);
    new.params = graph.params.clone();
    let mut values = vec![None; graph.values.len()];
    let mut consts = vec![None; graph.consts.len()];
    let mut tables = vec![None; graph.tables.len()];
    let mut origins = vec![None; graph.origins.len()];
    fn keep<T: Clone>(from: &[T], to: &mut Vec<T>, map: &mut [Option<Id<T>>], id: Id<T>) -> Id<T> {
        *map[id.index()].get_or_insert_with(|| {
            to.push(from[id.index()].clone());
            Id::new(to.len() - 1)
        })
    }
    for (id, value) in graph.iter().filter(|(id, _)| live[id.index()]) {
        let mut op = value
            .op
            .clone()
            .with_operands(|o| values[o.index()].expect("operands come before users"))
            .with_constants(|c| keep(&graph.consts, &mut new.consts, &mut consts, c));
        if let Op::Lut { table, .. } | Op::Pbs { table, .. } = &mut op {
            *table = keep(&graph.tables, &mut new.tables, &mut tables, *table);
        }
        let from = value.from.iter().map(|o| keep(&graph.origins, &mut new.origins, &mut origins, *o)).collect();
        values[id.index()] = Some(new.push(Value { op, from, ..value.clone() }));
    }
    for output in &graph.outputs {
        let bias = output.bias.map(|c| keep(&graph.consts, &mut new.consts, &mut consts, c));
        let value = values[output.value.index()].expect("outputs are live");
        new.outputs.push(Output { value, bias, ..output.clone() });
    }
    new
}
