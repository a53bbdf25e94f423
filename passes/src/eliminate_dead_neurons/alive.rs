//! Which channels must stay.

use fhe_ir::{Graph, Id, Op, Value};

use super::constants::Constants;
use crate::layers::Layer;

/// Per value and channel: whether it stays.
pub(super) struct Alive<'g> {
    graph: &'g Graph,
    constants: &'g Constants,
    alive: Vec<Vec<bool>>,
    /// Per ungrouped layer: which weights are not zero, `[out][in]`, taps together.
    reads: Vec<Option<Vec<Vec<bool>>>>,
}

/// How the channels of an operand and of the result belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// Channel `c` of the one is channel `c` of the other.
    Same,
    /// Channel `c` of the operand is the channels `c·n..(c+1)·n` of the result.
    Spread(usize),
    /// Channels `c·n..(c+1)·n` of the operand are channel `c` of the result.
    Gather(usize),
    /// Channel `c` of the operand is channel `c + n` of the result.
    Shifted(usize),
    /// A layer: rows and columns of weights.
    Layer,
    /// Any channel may be needed for any other.
    All,
}

/// The tie between a value and its operand `x`.
pub(super) fn tie(graph: &Graph, value: &Value, x: Id<Value>) -> Tie {
    let operand = graph.value(x);
    let (from, to) = (operand.channels(), value.channels());
    match &value.op {
        Op::Dot { .. } => Tie::Layer,
        Op::Conv { geometry, .. } => match geometry.groups {
            1 => Tie::Layer,
            groups if groups == from && groups == to => Tie::Same,
            _ => Tie::All,
        },
        Op::SumPool { .. }
        | Op::AvgPool { .. }
        | Op::MaxPool { .. }
        | Op::BatchNorm { .. }
        | Op::AddClear { .. }
        | Op::MulClear { .. }
        | Op::Add { .. }
        | Op::Sub { .. }
        | Op::Mul { .. }
        | Op::Neg { .. }
        | Op::Map { .. } => Tie::Same,
        Op::Concat { xs, axis: 1 } => {
            let before = xs.iter().take_while(|other| **other != x).map(|other| graph.value(*other).channels()).sum();
            let once = xs.iter().filter(|other| **other == x).count() == 1;
            if once { Tie::Shifted(before) } else { Tie::All }
        }
        Op::Gather { axis: 1, .. } => Tie::All,
        Op::Concat { .. } | Op::Gather { .. } => Tie::Same,
        Op::Slice { starts, steps, .. } => {
            if from == to && starts.get(1) == Some(&0) && steps.get(1) == Some(&1) {
                Tie::Same
            } else {
                Tie::All
            }
        }
        Op::Pad { .. } => {
            if from == to {
                Tie::Same
            } else {
                Tie::All
            }
        }
        Op::Reshape { .. } => {
            // Channels keep their order in memory: one is a whole number of the other's, or nothing is known.
            if from == to {
                Tie::Same
            } else if to % from == 0 {
                Tie::Spread(to / from)
            } else if from % to == 0 {
                Tie::Gather(from / to)
            } else {
                Tie::All
            }
        }
        Op::Transpose { perm, .. } => {
            if perm.get(1).is_none_or(|&axis| axis == 1) {
                Tie::Same
            } else {
                Tie::All
            }
        }
        Op::Input { .. } | Op::Lut { .. } | Op::Keyswitch { .. } | Op::Pbs { .. } => Tie::All,
    }
}

impl<'g> Alive<'g> {
    /// Only what inputs and outputs need by themselves.
    pub(super) fn new(graph: &'g Graph, constants: &'g Constants) -> Self {
        let mut alive: Vec<Vec<bool>> =
            graph.values.iter().map(|v| vec![matches!(v.op, Op::Input { .. }); v.channels()]).collect();
        for output in &graph.outputs {
            alive[output.value.index()].fill(true);
        }
        let reads = graph.values.iter().map(|v| reads(graph, v)).collect();
        Self { graph, constants, alive, reads }
    }

    pub(super) fn get(&self, id: Id<Value>, channel: usize) -> bool {
        self.alive[id.index()][channel]
    }

    /// Per channel of a value.
    pub(super) fn channels(&self, id: Id<Value>) -> &[bool] {
        &self.alive[id.index()]
    }

    pub(super) fn set(&mut self, id: Id<Value>, channel: usize) -> bool {
        !std::mem::replace(&mut self.alive[id.index()][channel], true)
    }

    pub(super) fn is_everything(&self) -> bool {
        self.alive.iter().flatten().all(|&a| a)
    }

    /// Grows until every channel that a staying channel needs stays, and every value has one.
    pub(super) fn close(&mut self) {
        loop {
            let mut changed = false;
            for (id, value) in self.graph.iter().rev() {
                for x in value.op.operands() {
                    changed |= self.step(id, value, x);
                }
            }
            if changed {
                continue;
            }
            // A tensor has at least one channel: of a dead layer the first neuron stays.
            let Some(empty) = self.alive.iter().rposition(|channels| !channels.contains(&true)) else { return };
            self.set(Id::new(empty), 0);
        }
    }

    fn step(&mut self, id: Id<Value>, value: &Value, x: Id<Value>) -> bool {
        let (from, to) = (self.graph.value(x).channels(), value.channels());
        let mut changed = false;
        let mut both = |this: &mut Self, i: usize, o: usize| {
            if this.get(x, i) || this.get(id, o) {
                changed |= this.set(x, i) | this.set(id, o);
            }
        };
        match tie(self.graph, value, x) {
            Tie::Same => (0..to).for_each(|c| both(self, c, c)),
            Tie::Shifted(n) => (0..from).for_each(|c| both(self, c, c + n)),
            Tie::Spread(n) => (0..to).chain(0..to).for_each(|c| both(self, c / n, c)),
            Tie::Gather(n) => (0..from).chain(0..from).for_each(|c| both(self, c, c / n)),
            Tie::All => {
                for c in 0..from {
                    changed |= self.set(x, c);
                }
                for c in 0..to {
                    changed |= self.set(id, c);
                }
            }
            Tie::Layer => {
                for i in 0..from {
                    if !self.get(x, i) && self.needs(id, value, x, i) {
                        changed |= self.set(x, i);
                    }
                }
            }
        }
        changed
    }

    /// Whether a layer reads channel `i` for a row that stays, other than as a constant that its bias can take.
    fn needs(&self, id: Id<Value>, value: &Value, x: Id<Value>, i: usize) -> bool {
        let Some(reads) = &self.reads[id.index()] else { return true };
        let padded = Layer::of(&value.op).is_some_and(|l| l.padded);
        let absorbed = self.constants[x.index()][i].is_some_and(|k| !padded || k == 0.0);
        !absorbed && reads.iter().zip(self.channels(id)).any(|(row, &alive)| alive && row[i])
    }

    /// Constants that a padded convolution keeps from disappearing.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = vec![];
        for (id, value) in self.graph.iter() {
            let Some(Layer { x, groups: 1, padded: true, .. }) = Layer::of(&value.op) else { continue };
            let stuck = |&i: &usize| self.get(x, i) && self.constants[x.index()][i].is_some_and(|k| k != 0.0);
            let count =
                (0..self.graph.value(x).channels()).filter(stuck).filter(|&i| self.needs(id, value, x, i)).count();
            if count > 0 {
                let place = self.graph.place(id);
                remarks.push(format!("{place} keeps {count} constant channels that are not 0: its pads are zeros"));
            }
        }
        remarks
    }

    /// Channels of a value that every layer behind it ignores; 0 when something else than layers reads it.
    pub(super) fn unread_channels(&self, x: Id<Value>) -> usize {
        let readers: Vec<_> = self.graph.iter().filter(|(_, v)| v.op.operands().contains(&x)).collect();
        let layers = readers.iter().all(|(id, _)| self.reads[id.index()].is_some()) && !self.graph.is_output(x);
        if !layers || readers.is_empty() {
            return 0;
        }
        let read = |i: usize| readers.iter().any(|(id, v)| self.needs(*id, v, x, i));
        (0..self.graph.value(x).channels()).filter(|&i| !read(i)).count()
    }
}

/// Which weights of an ungrouped layer are not zero.
fn reads(graph: &Graph, value: &Value) -> Option<Vec<Vec<bool>>> {
    let layer = Layer::of(&value.op).filter(|l| l.groups == 1)?;
    let w = graph.weights(layer.w);
    let ins = w.shape()[1];
    let taps: usize = w.shape()[2..].iter().product();
    let w = w.as_standard_layout();
    let w = w.as_slice().expect("row-major");
    let row = |row: &[f32]| row.chunks(taps).map(|taps| taps.iter().any(|&e| e != 0.0)).collect();
    Some(w.chunks(ins * taps).map(row).collect())
}
