//! Peephole rewriting: a walk that meets every op after its operands have been rewritten.
//!
//! The graph under construction may still be changed at a value that one reader alone will see; the graph that was
//! given stays as it is.

use std::sync::Arc;

use fhe_ir::{Const, Data, Facts, Graph, Id, Op, Origin, Phase, Rebuild, Value};
use ndarray::{ArrayD, IxDyn};

/// A [`Rebuild`] that knows which values have a single reader.
pub(crate) struct Peephole<'g> {
    /// The graph that is read and the one that is written.
    pub(crate) rebuild: Rebuild<'g>,
    /// Readers of each old value, outputs included.
    uses: Vec<usize>,
    /// Readers of each old constant.
    const_uses: Vec<usize>,
    /// Per new value: every old value it stands for has one reader.
    sole: Vec<bool>,
}

impl<'g> Peephole<'g> {
    pub(crate) fn new(old: &'g Graph) -> Self {
        let mut uses: Vec<usize> = old.users().iter().map(Vec::len).collect();
        let mut const_uses = vec![0; old.consts.len()];
        for output in &old.outputs {
            uses[output.value.index()] += 1;
        }
        let by_values = old.values.iter().flat_map(|v| v.op.constants());
        for c in by_values.chain(old.outputs.iter().filter_map(|o| o.bias)) {
            const_uses[c.index()] += 1;
        }
        Self { rebuild: Rebuild::new(old), uses, const_uses, sole: vec![] }
    }

    /// The graph under construction.
    pub(crate) fn graph(&self) -> &Graph {
        &self.rebuild.new
    }

    /// The op of a new value.
    pub(crate) fn op(&self, new: Id<Value>) -> &Op {
        &self.rebuild.new.value(new).op
    }

    /// The op of an old value, its operands in the new graph.
    pub(crate) fn remapped(&self, old: Id<Value>) -> Op {
        self.rebuild.remap(&self.rebuild.old.value(old).op)
    }

    /// Whether one reader alone sees a new value.
    pub(crate) fn is_sole(&self, new: Id<Value>) -> bool {
        self.sole[new.index()]
    }

    /// Copies an old value.
    pub(crate) fn keep(&mut self, old: Id<Value>) {
        let op = self.remapped(old);
        self.emit(old, op);
    }

    /// Writes `op` in place of an old value, under its name.
    pub(crate) fn emit(&mut self, old: Id<Value>, op: Op) -> Id<Value> {
        let value = Value { op, ..self.rebuild.old.value(old).clone() };
        let new = self.rebuild.push(value);
        self.sole.push(true);
        self.place(old, new);
        new
    }

    /// Writes `op` in place of an old value, under another name and for its readers alone.
    pub(crate) fn emit_as(&mut self, old: Id<Value>, name: &str, op: Op) -> Id<Value> {
        let shape = self.rebuild.old.value(old).shape.clone();
        let new = self.push(old, name, &shape, op);
        self.place(old, new);
        new
    }

    /// Writes a value that `old` needs, of its element type and origins, for one reader.
    pub(crate) fn push(&mut self, old: Id<Value>, name: &str, shape: &[usize], op: Op) -> Id<Value> {
        let value = Value {
            name: name.into(),
            shape: shape.to_vec(),
            op,
            facts: Facts::default(),
            ..self.rebuild.old.value(old).clone()
        };
        self.sole.push(true);
        self.rebuild.push(value)
    }

    /// Says that `new` stands for `old`, which adds its origins.
    pub(crate) fn absorb(&mut self, old: Id<Value>, new: Id<Value>) {
        let from = self.rebuild.old.value(old).from.clone();
        merge_origins(&mut self.rebuild.new.values[new.index()], &from);
        self.place(old, new);
    }

    /// Adds the origins of an old value to a new one that holds a part of it.
    pub(crate) fn absorb_origins_of(&mut self, old: Id<Value>, new: Id<Value>) {
        let from = self.rebuild.old.value(old).from.clone();
        self.add_origins(new, &from);
    }

    /// Adds origins to a new value.
    pub(crate) fn add_origins(&mut self, new: Id<Value>, from: &[Id<Origin>]) {
        merge_origins(&mut self.rebuild.new.values[new.index()], from);
    }

    fn place(&mut self, old: Id<Value>, new: Id<Value>) {
        self.sole[new.index()] &= self.uses[old.index()] == 1;
        self.rebuild.place(old, new);
    }

    /// Changes the op of a new value that a single reader sees.
    pub(crate) fn set_op(&mut self, new: Id<Value>, op: Op) {
        debug_assert!(self.is_sole(new));
        self.rebuild.new.values[new.index()].op = op;
    }

    /// A constant with new numbers: the same one when nobody else reads it, else another of its name.
    pub(crate) fn with_numbers(&mut self, c: Id<Const>, numbers: ArrayD<f32>) -> Id<Const> {
        let data = Data::F32(Arc::new(numbers));
        if self.const_uses.get(c.index()).is_none_or(|&n| n == 1) {
            self.rebuild.new.consts[c.index()].data = data;
            c
        } else {
            let name = self.graph().constant(c).name.clone();
            self.rebuild.new.push_const(&name, data)
        }
    }

    /// A new constant, per tensor or per channel.
    pub(crate) fn constant(&mut self, name: &str, entries: &[f64]) -> Id<Const> {
        self.rebuild.new.push_const(name, Data::F32(Arc::new(vector(entries))))
    }

    /// The entries of a constant: one, or one per channel.
    pub(crate) fn entries(&self, c: Id<Const>) -> Vec<f64> {
        self.graph().reals(c).iter().map(|&x| f64::from(x)).collect()
    }

    /// Ends the walk: the phase stays, dead values are swept.
    pub(crate) fn finish(self) -> Graph {
        let phase: Phase = self.rebuild.old.phase;
        self.rebuild.finish(phase)
    }
}

/// Adds origins that a value does not have. A value without any (an input) stays without.
pub(crate) fn merge_origins(value: &mut Value, from: &[Id<Origin>]) {
    if value.from.is_empty() {
        return;
    }
    for origin in from {
        if !value.from.contains(origin) {
            value.from.push(*origin);
        }
    }
}

/// Entry by entry, where a list of one serves every channel.
pub(crate) fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let at = |list: &[f64], i: usize| list[if list.len() == 1 { 0 } else { i }];
    (0..a.len().max(b.len())).map(|i| f(at(a, i), at(b, i))).collect()
}

/// A one-dimensional array, without negative zeros.
pub(crate) fn vector(entries: &[f64]) -> ArrayD<f32> {
    let entries: Vec<f32> = entries.iter().map(|&x| (x + 0.0) as f32).collect();
    ArrayD::from_shape_vec(IxDyn(&[entries.len()]), entries).expect("one axis")
}
