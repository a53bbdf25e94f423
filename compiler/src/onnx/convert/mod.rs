//! From checked nodes to values of the IR, in the model's order.

mod arithmetic;
mod layers;
mod maps;
mod pooling;
mod shapes;

use std::collections::HashMap;

use fhe_ir::rebuild::sweep;
use fhe_ir::shape::infer;
use fhe_ir::{Const, Data, Elem, Facts, Func, Graph, Id, Op, Origin, Output, Phase, Post, Value};
use onnx_ir::{Node, NodeProto};

use super::configure::{Operand, configure};
use super::constant;
use super::error::{OnnxError, UnsupportedNode};
use super::layout::count;
use super::limits::{MAX_ELEMENTS, MAX_NUMBERS};
use super::names::{Names, clean, node_label, stem};
use super::proto::{Model, is_own_domain};
use super::tensors;

/// Operators of ONNX that have an encrypted form, besides those that are evaluated on constants.
pub const OPERATORS: [&str; 40] = [
    "Abs",
    "Add",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Conv",
    "Div",
    "Dropout",
    "Exp",
    "Flatten",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "HardSigmoid",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Swish",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// What a name of the model stands for.
#[derive(Clone)]
enum Known {
    /// A value of the graph.
    Value(Id<Value>),
    /// Numbers.
    Const(Data),
    /// A value of the graph with functions that the client applies after decryption.
    Client(Id<Value>, Vec<Post>),
    /// The result of a node that has been refused.
    Refused,
}

/// Why a node stops.
enum Stop {
    /// It has no encrypted form; the others are looked at all the same.
    Refuse { reason: String, advice: String },
    /// The model as a whole is refused.
    Fatal(OnnxError),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Refuse { reason, advice: "replace it by operators of docs: onnx-support".into() }
    }
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// A refusal with its own advice.
fn refuse<T>(reason: impl Into<String>, advice: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refuse { reason: reason.into(), advice: advice.into() })
}

/// The node at hand.
struct Site<'m> {
    proto: &'m NodeProto,
    /// Name of its result.
    stem: String,
    /// Its inputs; `None` for one left out.
    inputs: Vec<Option<Known>>,
}

struct Converter<'m> {
    model: &'m Model,
    graph: Graph,
    values: Names,
    consts: Names,
    known: HashMap<String, Known>,
    refused: Vec<UnsupportedNode>,
    /// Numbers in the constants made so far.
    numbers: usize,
}

/// The graph of a checked model.
pub(super) fn convert(model: &Model) -> Result<Graph, OnnxError> {
    let mut converter = Converter {
        model,
        graph: Graph::new(clean(&model.name), Phase::Float),
        values: Names::default(),
        consts: Names::default(),
        known: HashMap::new(),
        refused: vec![],
        numbers: 0,
    };
    for (name, shape) in &model.inputs {
        let value = Value {
            name: converter.values.unique(&clean(name)),
            shape: shape.clone(),
            elem: Elem::F32,
            op: Op::Input,
            facts: Facts::default(),
            cipher: None,
            from: vec![],
        };
        let id = converter.graph.push(value);
        converter.known.insert(name.clone(), Known::Value(id));
    }
    for node in &model.nodes {
        converter.node(node)?;
    }
    converter.finish()
}

impl<'m> Converter<'m> {
    fn node(&mut self, node: &'m NodeProto) -> Result<(), OnnxError> {
        let mut inputs = vec![];
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.lookup(name)?) });
        }
        let site = Site { proto: node, stem: stem(node), inputs };
        let result = match self.result(&site) {
            Ok(known) => known,
            Err(Stop::Fatal(error)) => return Err(error),
            Err(Stop::Refuse { reason, advice }) => {
                let unsupported = UnsupportedNode {
                    node: node_label(node).into(),
                    op: if is_own_domain(&node.domain) {
                        node.op_type.clone()
                    } else {
                        format!("{}::{}", node.domain, node.op_type)
                    },
                    inputs: self.describe(&site),
                    reason,
                    advice,
                };
                self.refused.push(unsupported);
                Known::Refused
            }
        };
        for (i, output) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
            // Other outputs than the first are read by nothing, or the node has been refused.
            self.known.insert(output.clone(), if i == 0 { result.clone() } else { Known::Refused });
        }
        Ok(())
    }

    /// What the node's first output stands for.
    fn result(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        let node = site.proto;
        let op = node.op_type.as_str();
        let known = OPERATORS.contains(&op) || constant::OPERATORS.contains(&op);
        if !known || !is_own_domain(&node.domain) {
            return refuse("it has no encrypted form", "replace it, or cut the model in front of it");
        }
        if node.output.iter().skip(1).any(|o| self.model.read.contains(o)) {
            return Err("another output than its first is read".into());
        }
        if site.inputs.iter().flatten().any(|k| matches!(k, Known::Refused)) {
            return Ok(Known::Refused);
        }
        if op == "Shape" {
            return Ok(Known::Const(self.shape(site)?));
        }
        let constants: Vec<Option<&Data>> = site
            .inputs
            .iter()
            .map(|k| match k {
                Some(Known::Const(data)) => Some(data),
                _ => None,
            })
            .collect();
        if site.inputs.iter().flatten().all(|k| matches!(k, Known::Const(_))) {
            let data = constant::evaluate(node, &constants)?;
            self.spend(data.len())?;
            return Ok(Known::Const(data));
        }
        if op == "Identity" || op == "Dropout" {
            return Ok(site.inputs[0].clone().ok_or("its input is missing")?);
        }
        if !OPERATORS.contains(&op) {
            return refuse(
                "it has no encrypted form on encrypted values",
                "replace it, or cut the model in front of it",
            );
        }
        let shapes: Vec<Vec<usize>> = site.inputs.iter().map(|k| self.shape_of(k.as_ref())).collect();
        let operands: Vec<Operand<'_>> = site
            .inputs
            .iter()
            .zip(&shapes)
            .map(|(k, shape)| match k {
                None => Operand::Absent,
                Some(Known::Const(data)) => Operand::Const(data),
                Some(_) => Operand::Value(shape),
            })
            .collect();
        let config = configure(&self.model.header, node, &operands)?;
        self.dispatch(site, config)
    }

    fn dispatch(&mut self, site: &Site<'m>, config: Node) -> Result<Known, Stop> {
        match config {
            Node::Softmax(n) => return self.client(site, n.config.axis, Post::Softmax),
            Node::LogSoftmax(n) => return self.client(site, n.config.axis, Post::LogSoftmax),
            Node::ArgMax(n) if n.config.select_last_index => return Err("it takes the last of equal maxima".into()),
            Node::ArgMax(n) => return self.client(site, n.config.axis, Post::ArgMax),
            Node::Cast(n) => return self.cast(site, n.config.to),
            _ => {}
        }
        if let Some(Known::Client(..)) = site.inputs.iter().flatten().find(|k| matches!(k, Known::Client(..))) {
            return refuse(
                "it reads a softmax or argmax, which only the client can apply",
                "softmax, log-softmax and argmax have a place at the outputs alone",
            );
        }
        let id = match config {
            Node::Gemm(n) => self.gemm(site, &n.config)?,
            Node::Linear(n) => self.linear(site, n.config.transpose_weight)?,
            Node::MatMul(_) => return Err("it is not a product with a constant matrix on the right".into()),
            Node::Conv2d(n) => self.conv(site, &n.config)?,
            Node::Conv1d(_) | Node::Conv3d(_) => {
                return Err("only convolutions over two axes have an encrypted form".into());
            }
            Node::BatchNormalization(n) => self.batch_norm(site, &n.config)?,
            Node::AveragePool2d(n) => self.average_pool(site, &n.config)?,
            Node::AveragePool1d(_) | Node::AveragePool3d(_) => {
                return Err("only pooling over two axes has an encrypted form".into());
            }
            Node::GlobalAveragePool(_) => self.global_average_pool(site)?,
            Node::ReduceMean(n) => self.reduce_mean(site, &n.config)?,
            Node::Add(_) => self.add(site)?,
            Node::Sub(_) => self.sub(site)?,
            Node::Mul(_) => self.mul(site)?,
            Node::Div(_) => self.div(site)?,
            Node::Neg(_) => self.neg(site)?,
            Node::Max(_) => self.bound(site, true)?,
            Node::Min(_) => self.bound(site, false)?,
            Node::Relu(_) => self.map(site, vec![Func::Relu])?,
            Node::LeakyRelu(n) => self.map(site, vec![Func::LeakyRelu(n.config.alpha as f32)])?,
            Node::Clip(n) => self.clip(site, &n.config)?,
            Node::Sigmoid(_) => self.map(site, vec![Func::Sigmoid])?,
            Node::HardSigmoid(n) => self.hard_sigmoid(site, n.config.alpha, n.config.beta)?,
            Node::Tanh(_) => self.map(site, vec![Func::Tanh])?,
            Node::Gelu(n) => self.gelu(site, &n.config)?,
            Node::Swish(n) => self.swish(site, n.config.alpha)?,
            Node::Abs(_) => self.map(site, vec![Func::Abs])?,
            Node::Sign(_) => self.map(site, vec![Func::Sign])?,
            Node::Exp(_) => self.map(site, vec![Func::Exp])?,
            Node::Sqrt(_) => self.map(site, vec![Func::Sqrt])?,
            Node::Slice(n) => self.slice(site, &n.config)?,
            Node::Pad(n) => self.pad(site, &n.config)?,
            Node::Reshape(n) => self.reshape(site, &n.config)?,
            Node::Flatten(n) => self.flatten(site, n.config.axis)?,
            Node::Squeeze(n) => self.squeeze(site, &n.config)?,
            Node::Unsqueeze(n) => self.unsqueeze(site, &n.config)?,
            Node::Transpose(n) => self.transpose(site, &n.config.perm)?,
            other => return Err(format!("onnx-ir reads it as {:?}", other.node_type()).into()),
        };
        Ok(Known::Value(id))
    }

    /// What a name stands for; tensors of the file are converted when they are first read.
    fn lookup(&mut self, name: &str) -> Result<Known, OnnxError> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        // Checked: a name that no node or input has made is a tensor's.
        let Some(tensor) = self.model.initializers.get(name) else {
            return Ok(Known::Refused);
        };
        let data = tensors::read(tensor).map_err(|reason| OnnxError::TensorData {
            model: self.model.name.clone(),
            tensor: name.into(),
            reason,
        })?;
        if let Err(Stop::Fatal(error)) = self.spend(data.len()) {
            return Err(error);
        }
        self.known.insert(name.into(), Known::Const(data.clone()));
        Ok(Known::Const(data))
    }

    /// Counts numbers against the limit.
    fn spend(&mut self, numbers: usize) -> Result<(), Stop> {
        self.numbers = self.numbers.saturating_add(numbers);
        if self.numbers <= MAX_NUMBERS {
            return Ok(());
        }
        Err(Stop::Fatal(OnnxError::Limit {
            model: self.model.name.clone(),
            what: "numbers in constants".into(),
            got: self.numbers as u64,
            limit: MAX_NUMBERS as u64,
        }))
    }

    fn shape_of(&self, known: Option<&Known>) -> Vec<usize> {
        match known {
            Some(Known::Value(id) | Known::Client(id, _)) => self.graph.value(*id).shape.clone(),
            Some(Known::Const(data)) => data.shape().to_vec(),
            Some(Known::Refused) | None => vec![],
        }
    }

    /// The inputs of a node for messages.
    fn describe(&self, site: &Site<'_>) -> Vec<String> {
        let named = site.proto.input.iter().zip(&site.inputs).filter(|(n, _)| !n.is_empty());
        named
            .map(|(name, known)| match known {
                Some(Known::Refused) | None => format!("{name:?}"),
                known => format!("{name:?} {:?}", self.shape_of(known.as_ref())),
            })
            .collect()
    }

    /// The value that is input `i` of the node.
    fn value(&self, site: &Site<'_>, i: usize) -> Result<Id<Value>, Stop> {
        match site.inputs.get(i) {
            Some(Some(Known::Value(id))) => Ok(*id),
            Some(Some(_)) => Err(format!("its input {i} is a constant, where an encrypted value is wanted").into()),
            _ => Err(format!("its input {i} is missing").into()),
        }
    }

    /// The constant that is input `i` of the node; `None` when it is left out.
    fn constant<'s>(&self, site: &'s Site<'_>, i: usize) -> Result<Option<&'s Data>, Stop> {
        match site.inputs.get(i) {
            Some(Some(Known::Const(data))) => Ok(Some(data)),
            None | Some(None) => Ok(None),
            Some(Some(_)) => refuse(
                format!("its input {i} is an encrypted value, where a constant is wanted"),
                "products of two encrypted values have no encrypted form yet",
            ),
        }
    }

    /// Appends a value; its shape is inferred, `stated` where the op leaves it open.
    fn push(&mut self, site: &Site<'_>, part: &str, op: Op, stated: &[usize]) -> Result<Id<Value>, Stop> {
        let shape = infer(&self.graph, &op, stated)?;
        if shape.first() != Some(&1) || shape.len() < 2 {
            return Err(format!("its result of shape {shape:?} has no batch of 1 in front").into());
        }
        if !count(&shape).is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
            return Err(format!("its result of shape {shape:?} is empty, or above {MAX_ELEMENTS} elements").into());
        }
        let from: Id<Origin> = self.graph.origin(node_label(site.proto), &site.proto.op_type);
        let name = self.values.unique(&format!("{}{part}", site.stem));
        let facts = Facts::default();
        Ok(self.graph.push(Value { name, shape, elem: Elem::F32, op, facts, cipher: None, from: vec![from] }))
    }

    /// Appends a constant of finite reals.
    fn push_const(&mut self, site: &Site<'_>, part: &str, data: Data) -> Result<Id<Const>, Stop> {
        match &data {
            Data::F32(a) if a.iter().all(|v| v.is_finite()) => {}
            Data::F32(_) => return Err("its constants are not all finite".into()),
            Data::Int(_) => return Err("its constants are integers, not reals".into()),
        }
        if data.is_empty() {
            return Err("one of its constants is empty".into());
        }
        let name = self.consts.unique(&format!("{}{part}", site.stem));
        self.graph.consts.push(Const { name, data });
        Ok(Id::new(self.graph.consts.len() - 1))
    }

    /// A function that the client applies: it stays with the name until an output takes it.
    fn client(&mut self, site: &Site<'_>, axis: usize, post: Post) -> Result<Known, Stop> {
        let (value, mut posts) = match site.inputs.first() {
            Some(Some(Known::Value(id))) => (*id, vec![]),
            Some(Some(Known::Client(id, posts))) if !posts.contains(&Post::ArgMax) => (*id, posts.clone()),
            _ => return Err("it does not read a value".into()),
        };
        let shape = &self.graph.value(value).shape;
        if shape.len() != 2 || axis != 1 {
            return Err(
                format!("it runs over axis {axis} of {shape:?}: only over the channels of [1, channels]").into()
            );
        }
        posts.push(post);
        Ok(Known::Client(value, posts))
    }

    fn finish(mut self) -> Result<Graph, OnnxError> {
        let mut outputs = vec![];
        for name in &self.model.outputs {
            let (value, post) = match self.lookup(name)? {
                Known::Value(id) => (id, vec![]),
                Known::Client(id, post) => (id, post),
                Known::Refused => continue,
                Known::Const(_) => {
                    let problems = vec![format!("output {name:?} does not depend on the inputs")];
                    return Err(OnnxError::Invalid { model: self.model.name.clone(), problems });
                }
            };
            let name = name.clone();
            outputs.push(Output {
                value,
                name,
                bias: None,
                read: None,
                domain: None,
                log2_bound: None,
                log2_fail: None,
                post,
            });
        }
        if !self.refused.is_empty() {
            return Err(OnnxError::Unsupported { model: self.model.name.clone(), nodes: self.refused });
        }
        let users = self.graph.users();
        for output in &mut outputs {
            // sigmoid is increasing and per element: the client applies it where nothing else reads it
            if let Op::Map { x, chain, .. } = &self.graph.value(output.value).op
                && chain.as_slice() == [Func::Sigmoid]
                && users[output.value.index()].is_empty()
            {
                output.value = *x;
                output.post.insert(0, Post::Sigmoid);
            }
        }
        self.graph.outputs = outputs;
        Ok(sweep(self.graph))
    }
}
