//! The protobuf layer: decodes a model, checks that it keeps the rules of ONNX, and keeps what its outputs need.
//!
//! What comes out of here has every name defined once and before its use, typed attributes, inputs with known
//! extents, tensors inside the file. Nothing later has to ask again.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use onnx_ir::{AttributeType, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::error::{DynamicDim, OnnxError};
use super::external::{self, is_external};
use super::limits::{self, HIGHEST_OPSET, LOWEST_OPSET, MAX_BYTES, MAX_ELEMENTS, MAX_NODES, MAX_PORTS, MAX_RANK};
use super::names::node_label;
use super::{ReadOptions, wire};

/// A checked model.
pub(super) struct Model {
    /// Name for messages.
    pub(super) name: String,
    /// Bytes of the file and its external data.
    pub(super) bytes: u64,
    /// A model without a graph: operator sets.
    pub(super) header: ModelProto,
    /// The batch that the inputs state, if they do; shapes inside the model may repeat it.
    pub(super) batch: Option<usize>,
    /// Inputs with their shapes, batch 1.
    pub(super) inputs: Vec<(String, Vec<usize>)>,
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
    let graph = model.graph.take().ok_or_else(|| OnnxError::NotOnnx {
        model: name.into(),
        reason: if bytes.is_empty() { "it is empty".into() } else { "it has no graph".into() },
    })?;
    if graph.node.is_empty() && graph.output.is_empty() {
        return Err(OnnxError::NotOnnx { model: name.into(), reason: "its graph is empty".into() });
    }
    let header = operator_sets(name, &model)?;
    check_graph(name, &graph)?;
    let read = needed(&graph);
    let (inputs, batch) = inputs(name, &graph, options)?;
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
    Ok(Model { name: name.into(), bytes: total, header, batch, inputs, nodes, initializers, outputs, read })
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

/// The operator sets that nodes are configured with: ONNX's own, and that of scikit-learn's models.
fn operator_sets(name: &str, model: &ModelProto) -> Result<ModelProto, OnnxError> {
    let newest = |own: fn(&str) -> bool| model.opset_import.iter().filter(|o| own(&o.domain)).map(|o| o.version).max();
    let refuse = |found: String| OnnxError::Opset { model: name.into(), found };
    let own = newest(is_own_domain).ok_or_else(|| refuse("none".into()))?;
    if !(LOWEST_OPSET..=HIGHEST_OPSET).contains(&own) {
        return Err(refuse(own.to_string()));
    }
    let mut header = ModelProto { ir_version: 8, ..Default::default() };
    let sets = [("", Some(own)), (ML_DOMAIN, newest(|domain| domain == ML_DOMAIN))];
    for (domain, version) in sets {
        let Some(version) = version else { continue };
        header.opset_import.push(Default::default());
        if let Some(set) = header.opset_import.last_mut() {
            (set.domain, set.version) = (domain.into(), version);
        }
    }
    Ok(header)
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

type Inputs = (Vec<(String, Vec<usize>)>, Option<usize>);

/// Shapes of the inputs with batch 1, and the batch they state when it is another number.
fn inputs(name: &str, graph: &GraphProto, options: &ReadOptions) -> Result<Inputs, OnnxError> {
    let tensors: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let real: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !tensors.contains(i.name.as_str())).collect();
    let mut dims = vec![];
    for input in &real {
        dims.push(input_dims(name, input)?);
    }
    let batch_names: HashSet<&str> = dims.iter().filter_map(|d| d[0].1).collect();
    check_options(options, &dims, &batch_names)?;

    let (mut open, mut shapes, mut batch) = (vec![], vec![], None);
    for (input, dims) in real.iter().zip(&dims) {
        let mut shape = vec![1];
        batch = batch.max(dims[0].0);
        for (axis, (extent, symbol)) in dims.iter().enumerate().skip(1) {
            let given = symbol.and_then(|s| options.dims.get(s).copied());
            let is_batch = symbol.is_some_and(|s| batch_names.contains(s));
            match extent.or(given).or(is_batch.then_some(1)) {
                Some(n) => shape.push(n),
                None => open.push(DynamicDim { input: input.name.clone(), axis, name: symbol.map(Into::into) }),
            }
        }
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(usize::MAX);
        if elements > MAX_ELEMENTS {
            let what = format!("elements in input {:?}", input.name);
            let (got, limit) = (elements as u64, MAX_ELEMENTS as u64);
            return Err(OnnxError::Limit { model: name.into(), what, got, limit });
        }
        shapes.push((input.name.clone(), shape));
    }
    if open.is_empty() { Ok((shapes, batch)) } else { Err(OnnxError::DynamicShape { model: name.into(), dims: open }) }
}

/// An extent and its symbol, as far as stated.
type Dim<'a> = (Option<usize>, Option<&'a str>);

fn input_dims<'a>(name: &str, input: &'a ValueInfoProto) -> Result<Vec<Dim<'a>>, OnnxError> {
    let refuse = |reason: String| OnnxError::Input { model: name.into(), input: input.name.clone(), reason };
    let Some(ty) = input.type_.as_ref().filter(|t| t.has_tensor_type()).map(|t| t.tensor_type()) else {
        return Err(refuse("is not a tensor, or has no type".into()));
    };
    if !matches!(ty.elem_type, FLOAT | FLOAT16 | DOUBLE | BFLOAT16) {
        return Err(refuse(format!("has elements of type {}, not float", type_name(ty.elem_type))));
    }
    let Some(shape) = ty.shape.as_ref() else {
        return Err(refuse("has no shape".into()));
    };
    if !(2..=MAX_RANK).contains(&shape.dim.len()) {
        return Err(refuse(format!("has {} axes, not 2 to {MAX_RANK}: batch, channels, ...", shape.dim.len())));
    }
    // Exporters write 0 or -1 for an extent they do not know.
    Ok(shape
        .dim
        .iter()
        .map(|d| {
            let extent = d.has_dim_value().then(|| d.dim_value()).filter(|&v| v > 0);
            let symbol = d.has_dim_param().then(|| d.dim_param()).filter(|s| !s.is_empty());
            (extent.map(|v| usize::try_from(v).unwrap_or(usize::MAX)), symbol)
        })
        .collect())
}

fn check_options(options: &ReadOptions, dims: &[Vec<Dim<'_>>], batch: &HashSet<&str>) -> Result<(), OnnxError> {
    let mut known: Vec<&str> =
        dims.iter().flat_map(|d| &d[1..]).filter_map(|d| d.1).filter(|s| !batch.contains(s)).collect();
    known.sort_unstable();
    known.dedup();
    for (name, &value) in &options.dims {
        let reason = if batch.contains(name.as_str()) {
            if value == 1 {
                continue;
            }
            "that is the batch, which is always 1"
        } else if !known.contains(&name.as_str()) {
            "no input has an extent of that name"
        } else if value == 0 {
            "an extent is at least 1"
        } else {
            continue;
        };
        let known = known.iter().map(|s| (*s).to_owned()).collect();
        return Err(OnnxError::DimOption { name: name.clone(), value, reason: reason.into(), known });
    }
    Ok(())
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
