//! One node at a time through `onnx-ir`: its typed, opset-independent configuration.
//!
//! Each node becomes a model of its own: operands are graph inputs of the shapes inferred so far, short constants
//! are initializers. `onnx-ir` then sees true static shapes (its own inference is wrong for several operators),
//! cannot fuse across nodes (its MatMul+Add fusion forgets other readers), and what comes back belongs to this node:
//! original names survive without guessing. Its errors and panics are this node's, too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use fhe_ir::Data;
use onnx_ir::{GraphProto, Message, ModelProto, Node, NodeProto, OnnxGraphBuilder, TensorProto, ValueInfoProto};

use super::limits::MAX_ENTRIES;
use super::proto::{FLOAT, INT64, is_own_domain};

/// What a node reads.
pub(super) enum Operand<'a> {
    /// Nothing: an optional input left out.
    Absent,
    /// An encrypted value of that shape.
    Value(&'a [usize]),
    /// A constant.
    Const(&'a Data),
}

/// Constants above this length go by shape only: no configuration depends on their numbers.
const SHORT: usize = 4096;
/// Numbers of all constants that go by their numbers: a node may name one constant a thousand times.
const SHORT_IN_ALL: usize = 8 * SHORT;

/// The typed node, or why `onnx-ir` refuses it.
pub(super) fn configure(header: &ModelProto, node: &NodeProto, operands: &[Operand<'_>]) -> Result<Node, String> {
    if let Some(a) = node.attribute.iter().find(|a| a.ints.len().max(a.strings.len()) > MAX_ENTRIES) {
        return Err(format!("its attribute {:?} has more than {MAX_ENTRIES} entries", a.name));
    }
    let mut graph = GraphProto { name: "node".into(), ..Default::default() };
    let mut node = node.clone();
    node.name = "node".into();
    if is_own_domain(&node.domain) {
        node.domain.clear();
    }
    let mut left = SHORT_IN_ALL;
    for (i, operand) in operands.iter().enumerate() {
        let name = format!("in{i}");
        match operand {
            Operand::Absent => {
                node.input[i].clear();
                continue;
            }
            Operand::Const(data) if data.len() <= SHORT.min(left) => {
                left -= data.len();
                graph.initializer.push(tensor(&name, data));
            }
            Operand::Const(data) => graph.input.push(typed(&name, data.shape(), matches!(data, Data::F32(_)))),
            Operand::Value(shape) => graph.input.push(typed(&name, shape, true)),
        }
        node.input[i] = name;
    }
    for (i, output) in node.output.iter_mut().enumerate().filter(|(_, o)| !o.is_empty()) {
        *output = format!("out{i}");
    }
    let outputs = node.output.iter().filter(|o| !o.is_empty());
    graph.output = outputs.map(|o| ValueInfoProto { name: o.clone(), ..Default::default() }).collect();
    let expected = graph.output.len();
    graph.node.push(node);
    let mut model = header.clone();
    model.graph = Some(graph).into();

    let bytes = model.write_to_bytes().map_err(|e| e.to_string())?;
    let parsed = quietly(|| OnnxGraphBuilder::new().simplify(false).parse_bytes(&bytes))?;
    let parsed = parsed.map_err(|e| first_line(&e.to_string()))?;
    if parsed.outputs.len() != expected {
        return Err(format!("onnx-ir gives {} of its {expected} outputs", parsed.outputs.len()));
    }
    let mut nodes = parsed.nodes.into_iter().filter(|n| !matches!(n, Node::Constant(_)));
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node),
        _ => Err("onnx-ir rewrites it".into()),
    }
}

fn tensor(name: &str, data: &Data) -> TensorProto {
    let mut tensor = TensorProto { name: name.into(), ..Default::default() };
    // Extents of arrays in memory are far below i64::MAX.
    tensor.dims = data.shape().iter().map(|&d| d as i64).collect();
    match data {
        Data::F32(a) => {
            tensor.data_type = FLOAT;
            tensor.float_data = a.iter().copied().collect();
        }
        Data::Int(a) => {
            tensor.data_type = INT64;
            tensor.int64_data = a.iter().copied().collect();
        }
    }
    tensor
}

fn typed(name: &str, shape: &[usize], real: bool) -> ValueInfoProto {
    let mut info = ValueInfoProto { name: name.into(), ..Default::default() };
    let ty = info.type_.mut_or_insert_default().mut_tensor_type();
    ty.elem_type = if real { FLOAT } else { INT64 };
    let dims = &mut ty.shape.mut_or_insert_default().dim;
    for &extent in shape {
        dims.push(Default::default());
        if let Some(dim) = dims.last_mut() {
            dim.set_dim_value(extent as i64);
        }
    }
    info
}

/// Without the frame that `onnx-ir` puts around a reason: its names for the node are not the user's.
fn first_line(error: &str) -> String {
    let line = error.lines().next().unwrap_or("");
    let line = line.strip_prefix("Type inference failed: ").or(line.strip_prefix("Processing error: ")).unwrap_or(line);
    match line.strip_prefix("Node '").and_then(|l| l.split_once("): ")) {
        Some((_, reason)) => reason.into(),
        None => line.into(),
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; a panic becomes an error and prints nothing. Other threads' panics print as before.
fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    result.map_err(|_| "onnx-ir cannot read it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_hook_stays_for_others() {
        let list: Vec<usize> = vec![];
        assert!(quietly(|| list[list.len()]).is_err());
        assert!(!QUIET.get());
        assert_eq!(quietly(|| 3), Ok(3));
    }

    #[test]
    fn the_reason_is_without_onnx_ir_s_names() {
        let framed = "Processing error: Node 'conv2d1' (Conv2d): kernel_shape is not set";
        assert_eq!(first_line(framed), "kernel_shape is not set");
        assert_eq!(first_line("anything else\nmore"), "anything else");
    }
}
