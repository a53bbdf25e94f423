//! The graph: arenas of values, constants, tables, parameter sets and origins.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use crate::id::Id;
use crate::interval::Interval;
use crate::keys::Planned;
use crate::op::Op;
use crate::params::ParamSet;
use crate::post::Post;
use crate::table::{Domain, Read, Table};

/// How far a graph has come. Phases only go forward; each decides which ops and facts are legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Real numbers, as the model was trained.
    Float,
    /// Real numbers with the ranges seen on calibration data.
    Calibrated,
    /// Integers with scales; accumulators have no proven interval yet.
    Quantized,
    /// Every type is a proven interval.
    Ranged,
    /// Every `map` is a table.
    Tabled,
    /// Keyswitches and bootstraps, parameters, torus steps, predicted noise.
    Circuit,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 6] =
        [Self::Float, Self::Calibrated, Self::Quantized, Self::Ranged, Self::Tabled, Self::Circuit];

    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Calibrated => "calibrated",
            Self::Quantized => "quantized",
            Self::Ranged => "ranged",
            Self::Tabled => "tabled",
            Self::Circuit => "circuit",
        }
    }

    /// Whether values are real numbers.
    pub fn is_real(self) -> bool {
        self <= Self::Calibrated
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    /// A real number.
    F32,
    /// An integer proven to lie in the interval.
    Int(Interval),
    /// An integer before range analysis.
    IntUnknown,
}

/// The ONNX node a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the node, or of its first output when it has none.
    pub node: String,
    /// Operator.
    pub op: String,
}

/// What is known of a value beyond its type. Lists have one entry, or one per channel (axis 1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Real number that one integer unit stands for.
    pub scale: Option<Vec<f32>>,
    /// Smallest and greatest real number seen on the calibration data (after clipping, if that was asked for).
    pub seen: Option<Vec<(f32, f32)>>,
    /// Proven interval per channel; a part of the type's.
    pub range: Option<Vec<Interval>>,
    /// Keys it will be under, where a graph of phase `tabled` has several parameter sets.
    pub planned: Option<Planned>,
}

/// Which secret key a ciphertext is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The GLWE key, read as an LWE key of dimension `k·N`.
    Big,
    /// The small LWE key of dimension `n`.
    Small,
}

/// How a value of a circuit is encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct Cipher {
    /// Parameter set of the key.
    pub params: Id<ParamSet>,
    /// Which key of the set.
    pub key: Key,
    /// Integers that the half torus holds: one unit is [`Cipher::delta`] torus words.
    pub span: u64,
    /// log2 of the predicted standard deviation of the noise on the torus: one entry, or one per channel;
    /// `-inf` for a trivial ciphertext.
    pub log2_sd: Vec<f32>,
}

impl Cipher {
    /// Torus words of one integer unit: the even number just below `2^63/span`, so that half units exist too.
    pub fn delta(&self) -> u64 {
        delta_of_span(self.span)
    }
}

/// Torus words of one integer unit when the half torus holds `span` integers.
pub fn delta_of_span(span: u64) -> u64 {
    2 * ((1 << 62) / span.max(1))
}

/// One value: an op and what is known about its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name in listings, unique in its graph.
    pub name: String,
    /// Shape with the batch in front: `[1, channels, ...]`.
    pub shape: Vec<usize>,
    /// Element type.
    pub elem: Elem,
    /// What makes it.
    pub op: Op,
    /// Facts.
    pub facts: Facts,
    /// Encryption (circuit only).
    pub cipher: Option<Cipher>,
    /// ONNX nodes it comes from; the first heads its block in listings.
    pub from: Vec<Id<Origin>>,
}

impl Value {
    /// Number of channels: the extent of axis 1.
    pub fn channels(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(1)
    }

    /// Number of elements for one row of the batch.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The proven interval of the type.
    pub fn interval(&self) -> Option<Interval> {
        match self.elem {
            Elem::Int(i) => Some(i),
            Elem::F32 | Elem::IntUnknown => None,
        }
    }

    /// The proven interval of a channel: its fact, or the type's.
    pub fn channel_interval(&self, channel: usize) -> Option<Interval> {
        match &self.facts.range {
            Some(r) if !r.is_empty() => Some(r[if r.len() == 1 { 0 } else { channel }]),
            _ => self.interval(),
        }
    }

    /// The scale of a channel.
    pub fn channel_scale(&self, channel: usize) -> Option<f32> {
        let s = self.facts.scale.as_deref()?;
        s.get(if s.len() == 1 { 0 } else { channel }).copied()
    }
}

/// Numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Real numbers.
    F32(Arc<ArrayD<f32>>),
    /// Integers.
    Int(Arc<ArrayD<i64>>),
}

impl Data {
    /// Shape of the array.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(a) => a.shape(),
            Self::Int(a) => a.shape(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A clear constant known at compile time.
#[derive(Clone, Debug, PartialEq)]
pub struct Const {
    /// Name in listings, unique in its graph.
    pub name: String,
    /// Numbers.
    pub data: Data,
}

impl Const {
    /// Entry of a per-tensor or per-channel constant, as f64.
    pub fn channel(&self, channel: usize) -> f64 {
        let at = if self.data.len() == 1 { 0 } else { channel };
        match &self.data {
            Data::F32(a) => f64::from(a.as_slice().map_or(f32::NAN, |s| s[at])),
            Data::Int(a) => a.as_slice().map_or(f64::NAN, |s| s[at] as f64),
        }
    }
}

/// An output of the network and what its reader does with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The value that is decrypted.
    pub value: Id<Value>,
    /// Name the model gives the output.
    pub name: String,
    /// Added by the client after decryption: real numbers in every phase, `[1]` or `[channels]`.
    pub bias: Option<Id<Const>>,
    /// Resolution of the decryption (from `tabled`).
    pub read: Option<Read>,
    /// Integers the decryption distinguishes (from `tabled`).
    pub domain: Option<Domain>,
    /// log2 of the noise that still decrypts to the right box (circuit).
    pub log2_bound: Option<f32>,
    /// log2 of the predicted probability, per element, that the noise is greater (circuit).
    pub log2_fail: Option<f32>,
    /// Client functions, first applied first.
    pub post: Vec<Post>,
}

/// A network in any phase. Operands come before their users, so storage order is topological order.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// How far it has come.
    pub phase: Phase,
    /// Values in topological order.
    pub values: Vec<Value>,
    /// Outputs in the model's order.
    pub outputs: Vec<Output>,
    /// Constants.
    pub consts: Vec<Const>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Parameter sets.
    pub params: Vec<ParamSet>,
    /// ONNX nodes.
    pub origins: Vec<Origin>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>, phase: Phase) -> Self {
        Self {
            name: name.into(),
            phase,
            values: vec![],
            outputs: vec![],
            consts: vec![],
            tables: vec![],
            params: vec![],
            origins: vec![],
        }
    }

    /// The value of an id.
    pub fn value(&self, id: Id<Value>) -> &Value {
        &self.values[id.index()]
    }

    /// The constant of an id.
    pub fn constant(&self, id: Id<Const>) -> &Const {
        &self.consts[id.index()]
    }

    /// The table of an id.
    pub fn table(&self, id: Id<Table>) -> &Table {
        &self.tables[id.index()]
    }

    /// The parameter set of an id.
    pub fn param(&self, id: Id<ParamSet>) -> &ParamSet {
        &self.params[id.index()]
    }

    /// The integers of a constant.
    ///
    /// # Panics
    /// When it holds reals: the verifier has refused that graph.
    pub fn ints(&self, id: Id<Const>) -> &Arc<ArrayD<i64>> {
        match &self.constant(id).data {
            Data::Int(a) => a,
            Data::F32(_) => panic!("verified: integer phases have integer constants"),
        }
    }

    /// The reals of a constant.
    ///
    /// # Panics
    /// When it holds integers: the verifier has refused that graph.
    pub fn reals(&self, id: Id<Const>) -> &Arc<ArrayD<f32>> {
        match &self.constant(id).data {
            Data::F32(a) => a,
            Data::Int(_) => panic!("verified: real phases have real constants"),
        }
    }

    /// The weights of a layer of a real graph as reals, whether they are exact integers or not.
    pub fn weights(&self, id: Id<Const>) -> Arc<ArrayD<f32>> {
        match &self.constant(id).data {
            Data::F32(a) => Arc::clone(a),
            Data::Int(a) => Arc::new(a.mapv(|e| e as f32)),
        }
    }

    /// Whether a constant holds integers: in a real graph, weights that a quantizer of the model states.
    pub fn is_exact(&self, id: Id<Const>) -> bool {
        matches!(self.constant(id).data, Data::Int(_))
    }

    /// All values with their ids, in topological order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Id<Value>, &Value)> + ExactSizeIterator {
        self.values.iter().enumerate().map(|(i, v)| (Id::new(i), v))
    }

    /// Ids of the inputs, in order.
    pub fn inputs(&self) -> Vec<Id<Value>> {
        self.iter().filter(|(_, v)| matches!(v.op, Op::Input { .. })).map(|(id, _)| id).collect()
    }

    /// For each value, the values that read it, in order.
    pub fn users(&self) -> Vec<Vec<Id<Value>>> {
        let mut users = vec![vec![]; self.values.len()];
        for (id, value) in self.iter() {
            for operand in value.op.operands() {
                users[operand.index()].push(id);
            }
        }
        users
    }

    /// Whether a value is an output.
    pub fn is_output(&self, id: Id<Value>) -> bool {
        self.outputs.iter().any(|o| o.value == id)
    }

    /// Appends a value.
    pub fn push(&mut self, value: Value) -> Id<Value> {
        self.values.push(value);
        Id::new(self.values.len() - 1)
    }

    /// Appends a constant under a name made unique.
    pub fn push_const(&mut self, name: &str, data: Data) -> Id<Const> {
        let name = unique(name, |n| self.consts.iter().any(|c| c.name == n));
        self.consts.push(Const { name, data });
        Id::new(self.consts.len() - 1)
    }

    /// Appends a table under a name made unique.
    pub fn push_table(&mut self, name: &str, entries: Arc<ndarray::Array2<i64>>) -> Id<Table> {
        let name = unique(name, |n| self.tables.iter().any(|t| t.name == n));
        self.tables.push(Table { name, entries });
        Id::new(self.tables.len() - 1)
    }

    /// Appends an origin, or finds it.
    pub fn origin(&mut self, node: &str, op: &str) -> Id<Origin> {
        let at = self.origins.iter().position(|o| o.node == node && o.op == op).unwrap_or_else(|| {
            self.origins.push(Origin { node: node.into(), op: op.into() });
            self.origins.len() - 1
        });
        Id::new(at)
    }

    /// `name`, or `name.2`, `name.3`… if a value has that name already.
    pub fn unique_value_name(&self, name: &str) -> String {
        unique(name, |n| self.values.iter().any(|v| v.name == n))
    }

    /// `"node" Op` of the value's first origin, for messages; the value's name without one.
    pub fn place(&self, id: Id<Value>) -> String {
        let value = self.value(id);
        match value.from.first() {
            Some(o) => format!("\"{}\" {}", self.origins[o.index()].node, self.origins[o.index()].op),
            None => format!("%{}", value.name),
        }
    }
}

fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.into();
    }
    (2..).map(|i| format!("{name}.{i}")).find(|n| !taken(n)).expect("some number is free")
}
