//! What the leaves of terms stand for: functions, integers, scales and opaque ops, each once.

use std::collections::HashMap;

use fhe_ir::{Const, Data, Graph, Id, Interval};

use super::function::Function;
use super::language::{FunctionId, ListId, OpId, ScaleId, Tensor};

/// Everything that terms name; the analysis of the e-graph.
pub(super) struct Pool {
    /// The graph whose constants functions read; rules add constants to it.
    pub(super) graph: Graph,
    functions: Vec<Function>,
    function_of: HashMap<String, FunctionId>,
    lists: Vec<Vec<i64>>,
    list_of: HashMap<Vec<i64>, ListId>,
    scales: Vec<Vec<f32>>,
    scale_of: HashMap<Vec<u32>, ScaleId>,
    ops: Vec<Tensor>,
    op_of: HashMap<String, OpId>,
    /// First constant with the same numbers.
    same_const: HashMap<Vec<u64>, Id<Const>>,
    canonical: Vec<Id<Const>>,
    /// Rewrites that rules may still do.
    pub(super) budget: Option<u64>,
    /// Maps seen by [`super::rules`], by operand and table.
    pub(super) tables: HashMap<(egg::Id, ScaleId, Vec<i64>), egg::Id>,
}

impl Pool {
    pub(super) fn new(graph: &Graph, budget: Option<u64>) -> Self {
        let mut pool = Self {
            graph: graph.clone(),
            functions: vec![],
            function_of: HashMap::new(),
            lists: vec![],
            list_of: HashMap::new(),
            scales: vec![],
            scale_of: HashMap::new(),
            ops: vec![],
            op_of: HashMap::new(),
            same_const: HashMap::new(),
            canonical: vec![],
            budget,
            tables: HashMap::new(),
        };
        for index in 0..graph.consts.len() {
            let id = Id::new(index);
            let first = *pool.same_const.entry(numbers(&graph.consts[index].data)).or_insert(id);
            pool.canonical.push(first);
        }
        pool
    }

    /// One rewrite of the budget; `false` when it is spent.
    pub(super) fn spend(&mut self) -> bool {
        match &mut self.budget {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// The first constant with the same numbers.
    pub(super) fn canonical(&self, c: Id<Const>) -> Id<Const> {
        self.canonical[c.index()]
    }

    /// A constant of reals for map chains: an old one with these numbers, or a new one.
    pub(super) fn reals(&mut self, name: &str, entries: &[f32]) -> Id<Const> {
        let array = ndarray::Array1::from_vec(entries.to_vec()).into_dyn();
        let data = Data::F32(std::sync::Arc::new(array));
        let key = numbers(&data);
        if let Some(&id) = self.same_const.get(&key) {
            return id;
        }
        let id = self.graph.push_const(name, data);
        self.same_const.insert(key, id);
        self.canonical.push(id);
        id
    }

    /// The id of a function; the first to bring it says which rules made it.
    pub(super) fn intern_function(&mut self, mut function: Function) -> FunctionId {
        for link in &mut function.chain {
            link.replace_constant(|c| self.canonical(c));
        }
        let Function { shift, chain, to, scale, made_by: _ } = &function;
        let key = format!("{shift:?} {chain:?} {to:?} {scale:?}");
        *self.function_of.entry(key).or_insert_with(|| {
            self.functions.push(function);
            FunctionId(self.functions.len() as u32 - 1)
        })
    }

    pub(super) fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.0 as usize]
    }

    pub(super) fn intern_list(&mut self, list: Vec<i64>) -> ListId {
        *self.list_of.entry(list).or_insert_with_key(|list| {
            self.lists.push(list.clone());
            ListId(self.lists.len() as u32 - 1)
        })
    }

    pub(super) fn list(&self, id: ListId) -> &[i64] {
        &self.lists[id.0 as usize]
    }

    /// The id of scales; equal scales of all channels are one.
    pub(super) fn intern_scale(&mut self, scale: &[f32]) -> ScaleId {
        let one =
            scale.split_first().filter(|(first, rest)| rest.iter().all(|s| s == *first)).map(|(first, _)| [*first]);
        let scale = one.as_ref().map_or(scale, |one| one.as_slice());
        let key = scale.iter().map(|s| s.to_bits()).collect();
        *self.scale_of.entry(key).or_insert_with(|| {
            self.scales.push(scale.to_vec());
            ScaleId(self.scales.len() as u32 - 1)
        })
    }

    /// Scales: none, one, or one per channel.
    pub(super) fn scale(&self, id: ScaleId) -> &[f32] {
        &self.scales[id.0 as usize]
    }

    /// The id of an op by its text.
    pub(super) fn intern_op(&mut self, key: String, result: Tensor) -> OpId {
        *self.op_of.entry(key).or_insert_with(|| {
            self.ops.push(result);
            OpId(self.ops.len() as u32 - 1)
        })
    }

    pub(super) fn op(&self, id: OpId) -> &Tensor {
        &self.ops[id.0 as usize]
    }

    /// The result of a function at an integer of a channel, on an operand of the given scale.
    pub(super) fn apply(&self, f: &Function, operand: ScaleId, channel: usize, x: i64) -> i64 {
        let entry = |id| self.graph.constant(id).channel(channel);
        f.apply(at(self.scale(operand), channel), at(self.scale(f.scale), channel), channel, x, entry)
    }

    /// The results of a function on every integer of the operand, channel after channel; `None` when there are more
    /// than `limit` in all, or intervals are not known.
    pub(super) fn table(&self, f: &Function, x: &Tensor, limit: u64) -> Option<Vec<(usize, Interval, Vec<i64>)>> {
        let ranges: Vec<Interval> = (0..x.channels()).map(|c| x.range(c)).collect::<Option<_>>()?;
        let count = ranges.iter().try_fold(0u64, |n, i| n.checked_add(i.width()))?;
        if count > limit || self.scale(x.scale).is_empty() {
            return None;
        }
        let row = |(channel, range): (usize, Interval)| {
            let entries = (range.lo..=range.hi).map(|i| self.apply(f, x.scale, channel, i)).collect();
            (channel, range, entries)
        };
        Some(ranges.into_iter().enumerate().map(row).collect())
    }
}

fn at(scale: &[f32], channel: usize) -> f64 {
    f64::from(scale[if scale.len() == 1 { 0 } else { channel }])
}

/// Kind, shape and numbers, bit by bit.
fn numbers(data: &Data) -> Vec<u64> {
    let shape = data.shape().iter().map(|&n| n as u64);
    let kind = u64::from(matches!(data, Data::F32(_)));
    let head = [kind, data.shape().len() as u64].into_iter().chain(shape);
    match data {
        Data::F32(a) => head.chain(a.iter().map(|x| u64::from(x.to_bits()))).collect(),
        Data::Int(a) => head.chain(a.iter().map(|&x| x as u64)).collect(),
    }
}
