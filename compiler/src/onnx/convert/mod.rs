//! From checked nodes to values of the IR, in the model's order.

mod arithmetic;
mod client;
mod conv;
mod dispatch;
mod jumps;
mod laws;
mod layers;
mod legacy;
mod logic;
mod maps;
mod matmul;
mod moves;
mod norms;
mod places;
mod pooling;
mod qonnx;
mod quantizers;
mod reduce;
mod resize;
mod shapes;
mod site;
mod terms;
mod windows;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use fhe_ir::rebuild::sweep;
use fhe_ir::{Data, Elem, Facts, Func, Graph, Id, Op, Origin, Output, Phase, Post, Value};
use onnx_ir::NodeProto;

use super::configure::{Operand, configure};
use super::constant;
use super::error::{OnnxError, UnsupportedNode};

use super::inputs::{Input, integers, is_whole};
use super::names::{Names, clean, node_label, stem};
use super::proto::{Model, is_own_domain};
pub(super) use maps::plain;
use quantizers::Stated;

/// Operators of ONNX that have an encrypted form, besides those that are evaluated on constants.
pub const OPERATORS: [&str; 113] = [
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "LpPool",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];

/// Operators of `ai.onnx.ml` that have an encrypted form, or a place at the client.
const ML_OPERATORS: [&str; 6] =
    ["ArrayFeatureExtractor", "LinearClassifier", "LinearRegressor", "Normalizer", "Scaler", "ZipMap"];

/// What a name of the model stands for.
#[derive(Clone)]
enum Known {
    /// A value of the graph.
    Value(Id<Value>),
    /// Numbers.
    Const(Data),
    /// A value of the graph with functions that the client applies after decryption.
    Client(Id<Value>, Vec<Post>),
    /// A tensor of the file that has no numbers here, and why.
    Unreadable(String),
    /// The result of a node that has been refused, and whether it depends on an input of the network.
    Refused(bool),
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

/// What to do about an operator that has no encrypted form.
fn advice(op: &str) -> &'static str {
    match op {
        "Quant" | "BipolarQuant" | "Trunc" | "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" => {
            "give the float model: the compiler quantizes it itself (`--n-bits`)"
        }
        "LSTM" | "GRU" | "RNN" | "If" | "Loop" | "Scan" => "an encrypted network has no loops or branches: unroll it",
        "SVMClassifier" | "SVMRegressor" | "TreeEnsembleClassifier" | "TreeEnsembleRegressor" => {
            "linear models and networks have an encrypted form: train one of these"
        }
        _ => "replace it, or cut the model in front of it",
    }
}

/// The node at hand.
struct Site<'m> {
    proto: &'m NodeProto,
    /// Name of its result.
    stem: String,
    /// Its inputs; `None` for one left out.
    inputs: Vec<Option<Known>>,
}

impl Site<'_> {
    /// Whether it reads what depends on an input of the network.
    fn is_encrypted(&self) -> bool {
        let encrypted = |k: &Known| matches!(k, Known::Value(_) | Known::Client(..) | Known::Refused(true));
        self.inputs.iter().flatten().any(encrypted)
    }
}

struct Converter<'m> {
    model: &'m Model,
    graph: Graph,
    values: Names,
    consts: Names,
    known: HashMap<String, Known>,
    refused: Vec<UnsupportedNode>,
    /// What the model says about quantization.
    stated: Stated,
    /// Numbers in the constants made so far.
    numbers: usize,
    /// Elements of all values so far.
    elements: usize,
    /// Products and comparisons of one evaluation so far.
    products: usize,
    /// Numbers of constants looked through so far.
    scanned: Cell<usize>,
    /// Nodes that have values, by label and operator.
    origins: HashMap<(String, String), Id<Origin>>,
    /// Axes that values have in front of those that ONNX counts: none, as the batch is ONNX's own first axis.
    lead: usize,
    /// Names of values whose elements are of an integer type: quotients of these are truncated.
    whole: HashSet<String>,
}

/// The graph of a checked model.
pub(super) fn convert(model: &Model) -> Result<Graph, OnnxError> {
    read(model)?.finish()
}

/// The outputs of a checked model, all known at compile time.
pub(super) fn fold(model: &Model) -> Result<Vec<Data>, OnnxError> {
    let mut converter = read(model)?;
    if !converter.refused.is_empty() {
        return Err(OnnxError::Unsupported { model: model.name.clone(), nodes: converter.refused });
    }
    let depends = |name: &str| OnnxError::Invalid {
        model: model.name.clone(),
        problems: vec![format!("output {name:?} is not known at compile time")],
    };
    let data = |known| if let Known::Const(data) = known { Some(data) } else { None };
    model.outputs.iter().map(|name| data(converter.lookup(name)?).ok_or_else(|| depends(name))).collect()
}

/// A converter that has been through all nodes.
fn read(model: &Model) -> Result<Converter<'_>, OnnxError> {
    let mut converter = Converter {
        model,
        graph: Graph::new(clean(&model.name), Phase::Float),
        values: Names::default(),
        consts: Names::default(),
        known: HashMap::new(),
        refused: vec![],
        stated: Stated::default(),
        numbers: 0,
        elements: 0,
        products: 0,
        scanned: Cell::new(0),
        origins: HashMap::new(),
        lead: model.lead,
        whole: model.inputs.iter().filter(|i| is_whole(i.element)).map(|i| i.name.clone()).collect(),
    };
    for Input { name, shape, element } in &model.inputs {
        // Integers of a narrow type are their own grid.
        let pre = integers(*element).map(|to| Func::Quant { scale: 1.0, to }).into_iter().collect();
        let value = Value {
            name: converter.values.unique(&clean(name)),
            shape: shape.clone(),
            elem: Elem::F32,
            op: Op::Input { pre },
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
    Ok(converter)
}

impl<'m> Converter<'m> {
    fn node(&mut self, node: &'m NodeProto) -> Result<(), OnnxError> {
        let mut inputs = vec![];
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.lookup(name)?) });
        }
        let first = self.graph.values.len();
        let mut site = Site { proto: node, stem: stem(node, 0), inputs };
        let result = self.legacy(&mut site).and_then(|()| self.decoded(&mut site)).and_then(|()| self.results(&site));
        let results = match result.and_then(|known| self.record(&site).map(|()| known)) {
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
                vec![]
            }
        };
        self.rename(node, first, &results);
        self.note_whole(&site);
        for (i, output) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
            // Outputs without a result are read by nothing, or the node has been refused.
            let known = results.get(i).cloned().unwrap_or_else(|| Known::Refused(site.is_encrypted()));
            self.known.insert(output.clone(), known);
        }
        Ok(())
    }

    /// What the node's outputs stand for, as far as it has them.
    fn results(&mut self, site: &Site<'m>) -> Result<Vec<Known>, Stop> {
        let results = self.result(site)?;
        let missing = site.proto.output.iter().skip(results.len()).any(|o| self.model.read.contains(o));
        if missing && !matches!(results[..], [Known::Refused(_)]) {
            return Err("another output than its first is read".into());
        }
        Ok(results)
    }

    fn result(&mut self, site: &Site<'m>) -> Result<Vec<Known>, Stop> {
        let node = site.proto;
        let op = node.op_type.as_str();
        let own = is_own_domain(&node.domain);
        let ml = node.domain == "ai.onnx.ml" && ML_OPERATORS.contains(&op);
        if quantizers::is_quantizer(node) {
            return Ok(vec![self.quantizer_of_known(site)?]);
        }
        if !ml && !(own && (OPERATORS.contains(&op) || constant::OPERATORS.contains(&op))) {
            return refuse("the operator is not supported", advice(op));
        }
        if let Some(Known::Unreadable(why)) = site.inputs.iter().flatten().find(|k| matches!(k, Known::Unreadable(_))) {
            return Err(why.clone().into());
        }
        let on_values = ml || OPERATORS.contains(&op);
        if !on_values && site.is_encrypted() {
            return refuse("the operator is not supported on encrypted values", advice(op));
        }
        if site.inputs.iter().flatten().any(|k| matches!(k, Known::Refused(_))) {
            // A shape would be known: what is computed from it is no fault of its own.
            return Ok(vec![Known::Refused(op != "Shape" && site.is_encrypted())]);
        }
        if matches!(op, "Shape" | "Size") {
            return Ok(vec![Known::Const(self.known_shape(site)?)]);
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
            return Ok(vec![Known::Const(data)]);
        }
        if let Some(results) = self.at_the_client(site)? {
            return Ok(results);
        }
        if site.inputs.iter().flatten().any(|k| matches!(k, Known::Client(..))) {
            return refuse(
                "it reads what only the client computes: a softmax, argmax or the like",
                "these functions have a place at the outputs alone",
            );
        }
        if op == "Clip"
            && let Some(known) = self.clip_codes(site)?
        {
            return Ok(vec![known]);
        }
        if let Some(results) = self.direct(site)? {
            return Ok(results);
        }
        let shapes: Vec<Vec<usize>> = site.inputs.iter().map(|k| self.onnx_shape(k.as_ref())).collect();
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
        Ok(vec![self.configured(site, config)?])
    }

    fn finish(mut self) -> Result<Graph, OnnxError> {
        let mut outputs = vec![];
        for name in &self.model.outputs {
            let (value, post) = match self.lookup(name)? {
                Known::Value(id) => match self.decoded_output(name, id) {
                    Ok(decoded) if decoded == id => (id, vec![]),
                    Ok(decoded) => (decoded, vec![quantizers::WHOLE]),
                    Err(Stop::Fatal(error)) => return Err(error),
                    Err(Stop::Refuse { reason, .. }) => {
                        let problems = vec![format!("output {name:?}: {reason}")];
                        return Err(OnnxError::Invalid { model: self.model.name.clone(), problems });
                    }
                },
                Known::Client(id, post) => (id, self.client_codes(name, post)),
                Known::Refused(_) if !self.refused.is_empty() => continue,
                Known::Refused(_) | Known::Unreadable(_) | Known::Const(_) => {
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
