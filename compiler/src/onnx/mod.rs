//! Reads a trained network in ONNX into a graph of real numbers.
//!
//! In this order: `proto` decodes the file and checks that it keeps the rules of ONNX; `configure` hands each node
//! to `onnx-ir`, which knows every operator set and gives typed configurations; `convert` turns these into ops of the
//! IR with shapes of its own inference, keeping ONNX's names; `constant` evaluates what depends on no input. Nodes
//! without an encrypted form are all reported in one error. The batch is 1 throughout.
//!
//! Bytes from a stranger are an error or a graph, never a panic: `limits` says how much is accepted.

mod attributes;
mod configure;
mod constant;
mod convert;
mod error;
mod external;
mod folding;
mod inputs;
mod layout;
pub mod limits;
mod names;
mod proto;
mod qoperator;
mod tensors;
mod wire;

/// The messages that an ONNX file is made of, for tools that write or change models.
pub mod protobuf {
    pub use onnx_ir::{GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};
}

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use fhe_ir::{Data, Graph};

pub use convert::OPERATORS;
pub use error::{DynamicDim, OnnxError, UnsupportedNode};

/// What the model leaves open.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Values for symbolic extents of inputs, by name. The batch is always 1.
    pub dims: BTreeMap<String, usize>,
    /// Where the inputs have their batch.
    pub batch: Batch,
}

/// Which axis of the inputs counts the rows, each of which is encrypted on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batch {
    /// The first axis.
    #[default]
    First,
    /// None: an input is one row. The graph's values have an axis of extent 1 in front of those of the model.
    Absent,
}

/// The graph of an ONNX model in memory; `name` is what messages and listings call it. External data are refused: there
/// is no folder that they could be in.
pub fn read_bytes(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<Graph, OnnxError> {
    convert::convert(&proto::load(name, bytes, None, options)?)
}

/// The outputs of an ONNX model in memory that has no inputs: what the reader evaluates at compile time.
pub fn fold_bytes(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<Vec<Data>, OnnxError> {
    convert::fold(&proto::load(name, bytes, None, options)?)
}

/// The graph of an ONNX file of at most [`limits::MAX_BYTES`], with the external data that it names in its folder; its
/// name is the file's without the extension.
pub fn read_file(path: &Path, options: &ReadOptions) -> Result<Graph, OnnxError> {
    let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let unreadable = |cause| OnnxError::Unreadable { path: path.into(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let stated = file.metadata().map_err(unreadable)?.len();
    let mut bytes = vec![];
    if stated <= limits::MAX_BYTES {
        // A pipe or a growing file states less than it holds.
        file.take(limits::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    let size = stated.max(bytes.len() as u64);
    if size > limits::MAX_BYTES {
        return Err(OnnxError::TooLarge { model: name, bytes: size, limit: limits::MAX_BYTES });
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    convert::convert(&proto::load(&name, &bytes, Some(folder), options)?)
}

/// The numbers of a tensor of a file: reals as f32, integers and booleans as i64. The error says in one phrase why it
/// has none that the reader knows.
pub fn read_tensor(tensor: &protobuf::TensorProto) -> Result<Data, String> {
    if !tensors::has_numbers(tensor.data_type) {
        return Err(format!("its elements are of type {}", proto::type_name(tensor.data_type)));
    }
    tensors::read(tensor)
}
