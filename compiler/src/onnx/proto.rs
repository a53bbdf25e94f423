//! The protobuf layer: decodes a model, checks that it keeps the rules of ONNX, and keeps what its outputs need.
//!
//! What comes out of here has every name defined once and before its use, typed attributes, inputs with known
//! extents, tensors inside the file. Nothing later has to ask again.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use onnx_ir::{AttributeType, GraphProto, Message, ModelProto, NodeProto, TensorProto};

use super::error::OnnxError;
use super::external::{self, is_external};
use super::inputs::{Input, Inputs, inputs};
use super::limits::{self, HIGHEST_OPSET, KNOWN_OPSETS, LOWEST_OPSET, MAX_BYTES, MAX_NODES, MAX_PORTS, MAX_RANK};
use super::names::node_label;
use super::{Batch, ReadOptions, qoperator, wire};

/// A checked model.
pub(super) struct Model {
    /// Name for messages.
    pub(super) name: String,
    /// Bytes of the file and its external data.
    pub(super) bytes: u64,
    /// A model without a graph: operator sets, as `onnx-ir` knows them.
    pub(super) header: ModelProto,
    /// Version of ONNX's own operator set.
    pub(super) opset: i64,
    /// Axes that values have in front of those of ONNX: 0 when ONNX's first axis is the batch, 1 when it has none.
    pub(super) lead: usize,
    /// The batch that the inputs state, if they do; shapes inside the model may repeat it.
    pub(super) batch: Option<usize>,
    /// Inputs with their shapes, batch 1.
    pub(super) inputs: Vec<Input>,
    /// Nodes that the outputs need, operands before users.
    pub(super) nodes: Vec<NodeProto>,
    /// Tensors of the file by name.
    pub(super) initializers: HashMap<String, TensorProto>,
    /// Names of the outputs.
    pub(super) outputs: Vec<String>,
    /// Values that some node or output reads.
    pub(super) read: HashSet<String>,
}

/// Decodes and checks `bytes`; external data are read from `folder`, and refused without one.
pub(super) fn load(name: &str, bytes: &[u8], folder: Option<&Path>, options: &ReadOptions) -> Result<Model, OnnxError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(OnnxError::TooLarge { model: name.into(), bytes: bytes.len() as u64, limit: MAX_BYTES });
    }
    let mut model = decode(name, bytes)?;
    let mut graph = model.graph.take().ok_or_else(|| OnnxError::NotOnnx {
        model: name.into(),
        reason: if bytes.is_empty() { "it is empty".into() } else { "it has no graph".into() },
    })?;
    if graph.node.is_empty() && graph.output.is_empty() {
        return Err(OnnxError::NotOnnx { model: name.into(), reason: "its graph is empty".into() });
    }
    let (opset, header) = operator_sets(name, &model)?;
    qoperator::expand(&mut graph);
    check_graph(name, &graph)?;
    let read = needed(&graph);
    let Inputs { list: inputs, batch } = inputs(name, &graph, options)?;
    let lead = usize::from(options.batch == Batch::Absent);
    let outputs = graph.output.into_iter().map(|o| o.name).collect();
    let mut nodes = graph.node;
    nodes.retain(|n| n.output.iter().any(|o| read.contains(o)));
    if nodes.len() > MAX_NODES {
        let (got, limit) = (nodes.len() as u64, MAX_NODES as u64);
        return Err(OnnxError::Limit { model: name.into(), what: "nodes".into(), got, limit });
    }
    let mut initializers: Vec<_> = graph.initializer.into_iter().filter(|t| read.contains(&t.name)).collect();
    check_tensors(name, &initializers)?;
    let literals = nodes.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.t.as_mut());
    let outside = initializers.iter_mut().chain(literals).filter(|t| is_external(t)).collect();
    let total = read_outside(name, outside, folder, bytes.len() as u64)?;
    let initializers = initializers.into_iter().map(|t| (t.name.clone(), t)).collect();
    let bytes = total;
    Ok(Model { name: name.into(), bytes, header, opset, lead, batch, inputs, nodes, initializers, outputs, read })
}

fn decode(name: &str, bytes: &[u8]) -> Result<ModelProto, OnnxError> {
    let not_onnx = |reason: String| OnnxError::NotOnnx { model: name.into(), reason };
    let scan = wire::scan(bytes);
    let limit = limits::decoded(bytes.len() as u64);
    if scan.cut_off {
        return Err(OnnxError::Truncated { model: name.into(), bytes: bytes.len() });
    }
    if scan.groups {
        return Err(not_onnx("it has protobuf groups".into()));
    }
    if scan.taken > limit {
        let what = "bytes to decode".into();
        return Err(OnnxError::Limit { model: name.into(), what, got: scan.taken, limit });
    }
    ModelProto::parse_from_bytes(bytes).map_err(|e| not_onnx(e.to_string()))
}

/// The version of ONNX's own operator set, and the sets that nodes are configured with: ONNX's own, and that of
/// scikit-learn's models.
fn operator_sets(name: &str, model: &ModelProto) -> Result<(i64, ModelProto), OnnxError> {
    let newest = |own: fn(&str) -> bool| model.opset_import.iter().filter(|o| own(&o.domain)).map(|o| o.version).max();
    let refuse = |found: String| OnnxError::Opset { model: name.into(), found };
    let own = newest(is_own_domain).ok_or_else(|| refuse("none".into()))?;
    if !(LOWEST_OPSET..=HIGHEST_OPSET).contains(&own) {
        return Err(refuse(own.to_string()));
    }
    let mut header = ModelProto { ir_version: 8, ..Default::default() };
    // Outside the sets that `onnx-ir` knows, what is different is looked after here: `legacy`, and new element types.
    let known = own.clamp(*KNOWN_OPSETS.start(), *KNOWN_OPSETS.end());
    let sets = [("", Some(known)), (ML_DOMAIN, newest(|domain| domain == ML_DOMAIN))];
    for (domain, version) in sets {
        let Some(version) = version else { continue };
        header.opset_import.push(Default::default());
        if let Some(set) = header.opset_import.last_mut() {
            (set.domain, set.version) = (domain.into(), version);
        }
    }
    Ok((own, header))
}

/// Domain of scikit-learn's operators.
const ML_DOMAIN: &str = "ai.onnx.ml";

/// Whether the domain is ONNX's own operator set.
pub(super) fn is_own_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Names, order and attributes.
fn check_graph(name: &str, graph: &GraphProto) -> Result<(), OnnxError> {
    let mut problems = vec![];
    let tensors: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    if tensors.len() < graph.initializer.len() {
        problems.push("two tensors have the same name".into());
    }
    if !graph.sparse_initializer.is_empty() {
        problems.push("it has sparse tensors, which the reader does not know".into());
    }
    let mut defined: HashSet<&str> = tensors.clone();
    for input in &graph.input {
        if input.name.is_empty() {
            problems.push("an input has no name".into());
        } else if !tensors.contains(input.name.as_str()) && !defined.insert(&input.name) {
            problems.push(format!("two inputs are called {:?}", input.name));
        }
    }
    let later: HashSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
    for node in &graph.node {
        let at = format!("{} {:?}", node.op_type, node_label(node));
        for input in node.input.iter().filter(|i| !i.is_empty() && !defined.contains(i.as_str())) {
            problems.push(match later.contains(input.as_str()) {
                true => format!("{at} reads {input:?} before it is made: nodes are not in topological order"),
                false => format!("{at} reads {input:?}, which nothing makes"),
            });
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if !defined.insert(output) {
                problems.push(format!("{at} makes {output:?}, which is made already"));
            }
        }
        if node.input.len().max(node.output.len()) > MAX_PORTS {
            problems.push(format!("{at} has more than {MAX_PORTS} inputs or outputs"));
        }
        let mut attributes = HashSet::new();
        for attribute in &node.attribute {
            if !attributes.insert(attribute.name.as_str()) {
                problems.push(format!("{at}: attribute {:?} is given twice", attribute.name));
            }
            let typed = attribute.type_.enum_value().is_ok_and(|t| t != AttributeType::UNDEFINED);
            if !typed || !attribute.ref_attr_name.is_empty() {
                problems.push(format!("{at}: attribute {:?} has no type", attribute.name));
            }
        }
    }
    if graph.output.is_empty() {
        problems.push("it has no outputs".into());
    }
    let mut outputs = HashSet::new();
    for output in graph.output.iter().filter(|o| !outputs.insert(o.name.as_str())) {
        problems.push(format!("two outputs are called {:?}", output.name));
    }
    for output in graph.output.iter().filter(|o| !defined.contains(o.name.as_str())) {
        problems.push(format!("output {:?} is made by nothing", output.name));
    }
    if problems.is_empty() { Ok(()) } else { Err(OnnxError::Invalid { model: name.into(), problems }) }
}

/// Names of values that the outputs need.
fn needed(graph: &GraphProto) -> HashSet<String> {
    let mut needed: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|o| needed.contains(o)) {
            needed.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
        }
    }
    needed
}

/// Shapes are bounded; whether their bytes fill the shape is seen on conversion.
fn check_tensors(name: &str, tensors: &[TensorProto]) -> Result<(), OnnxError> {
    match tensors.iter().find(|t| t.dims.len() > MAX_RANK) {
        Some(t) => Err(OnnxError::TensorData {
            model: name.into(),
            tensor: t.name.clone(),
            reason: format!("it has {} axes, the limit is {MAX_RANK}", t.dims.len()),
        }),
        None => Ok(()),
    }
}

/// Reads what is in other files, in the order of the model; bytes of the model with them.
fn read_outside(
    name: &str,
    tensors: Vec<&mut TensorProto>,
    folder: Option<&Path>,
    bytes: u64,
) -> Result<u64, OnnxError> {
    if tensors.is_empty() {
        return Ok(bytes);
    }
    let Some(folder) = folder else {
        let tensors = tensors.iter().map(|t| t.name.clone()).collect();
        return Err(OnnxError::ExternalData { model: name.into(), tensors });
    };
    let mut reader = external::Reader::new(name, folder, bytes);
    tensors.into_iter().try_for_each(|t| reader.fill(t))?;
    Ok(reader.bytes())
}

/// `TensorProto.DataType` of the element types that the reader names.
pub(super) const FLOAT: i32 = 1;
pub(super) const INT64: i32 = 7;
const FLOAT16: i32 = 10;
const DOUBLE: i32 = 11;
const BFLOAT16: i32 = 16;

/// Name of an element type.
pub(super) fn type_name(data_type: i32) -> String {
    const NAMES: [&str; 17] = [
        "undefined",
        "float",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "double",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    usize::try_from(data_type).ok().and_then(|i| NAMES.get(i)).map_or(format!("{data_type}"), |n| (*n).into())
}

/// Whether numbers of the type are reals.
pub(super) fn is_real(data_type: i64) -> bool {
    [FLOAT, FLOAT16, DOUBLE, BFLOAT16].map(i64::from).contains(&data_type)
}
