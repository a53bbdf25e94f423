//! What can be wrong with a model, each error with its place, what was met, what is allowed and what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use super::limits::{HIGHEST_OPSET, LOWEST_OPSET};

/// A model that cannot become a graph.
#[derive(Debug, Error, Diagnostic)]
pub enum OnnxError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {cause}", path.display())]
    #[diagnostic(code("onnx::unreadable"), help("check the path and its permissions"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is greater than the reader accepts.
    #[error("model {model:?} has {bytes} bytes, the limit is {limit}")]
    #[diagnostic(code("onnx::too-large"), help("protobuf files end at 2 GiB: store the weights as float16, or prune"))]
    TooLarge {
        /// Name of the model.
        model: String,
        /// Size found.
        bytes: u64,
        /// Size allowed.
        limit: u64,
    },
    /// The bytes are not an ONNX model.
    #[error("{model:?} is not an ONNX model: {reason}")]
    #[diagnostic(
        code("onnx::not-onnx"),
        help("give the `.onnx` file itself: not an archive, a PyTorch checkpoint or a text form of it")
    )]
    NotOnnx {
        /// Name of the model.
        model: String,
        /// What the decoder met.
        reason: String,
    },
    /// The bytes end in the middle of the model.
    #[error("model {model:?} is cut off: its last field goes beyond the {bytes} bytes of the file")]
    #[diagnostic(code("onnx::truncated"), help("download or export it again, and compare the file's size"))]
    Truncated {
        /// Name of the model.
        model: String,
        /// Size found.
        bytes: usize,
    },
    /// The model does not say which operator set it uses, or one that the reader does not know.
    #[error("model {model:?} uses operator set {found}, the reader knows {LOWEST_OPSET} to {HIGHEST_OPSET}")]
    #[diagnostic(
        code("onnx::opset"),
        help("export it with `opset_version=17`, or run `onnx.version_converter.convert_version`")
    )]
    Opset {
        /// Name of the model.
        model: String,
        /// Version found, or `none`.
        found: String,
    },
    /// Inputs whose extents are not known.
    #[error("model {model:?} has {} without a value: {}", Count(dims.len(), "extent"), List(dims))]
    #[diagnostic(
        code("onnx::dynamic-shape"),
        help("{}. The batch is always 1", dims.first().map_or_else(String::new, DynamicDim::advice))
    )]
    DynamicShape {
        /// Name of the model.
        model: String,
        /// The extents.
        dims: Vec<DynamicDim>,
    },
    /// A value for an extent that the model does not have, or that cannot be chosen.
    #[error("`--dim {name}={value}`: {reason}")]
    #[diagnostic(code("onnx::dim-option"), help("extents that can be given: {}", Known(known)))]
    DimOption {
        /// Name given.
        name: String,
        /// Value given.
        value: usize,
        /// Why it is refused.
        reason: String,
        /// Names the model has.
        known: Vec<String>,
    },
    /// An input that cannot be encrypted.
    #[error("input {input:?} of model {model:?} {reason}")]
    #[diagnostic(
        code("onnx::input"),
        help("an input is a tensor of numbers `[batch, channels, ...]`; `--no-batch` reads one without a batch")
    )]
    Input {
        /// Name of the model.
        model: String,
        /// Name of the input.
        input: String,
        /// What is wrong.
        reason: String,
    },
    /// Weights that are in another file, of a model without a folder.
    #[error("model {model:?} keeps {} in other files: {}", Count(tensors.len(), "tensor"), List(tensors))]
    #[diagnostic(
        code("onnx::external-data"),
        help(
            "read it from its file, or save it as one: `onnx.save(onnx.load(path), path, save_as_external_data=False)`"
        )
    )]
    ExternalData {
        /// Name of the model.
        model: String,
        /// Names of the tensors.
        tensors: Vec<String>,
    },
    /// A tensor in another file that is not where the model says, or that the model must not read.
    #[error("tensor {tensor:?} of model {model:?} is in another file, {location:?}: {reason}")]
    #[diagnostic(
        code("onnx::external-file"),
        help("keep the files that were exported together in one folder, under their names")
    )]
    ExternalFile {
        /// Name of the model.
        model: String,
        /// Name of the tensor.
        tensor: String,
        /// The file as the model names it, from the model's folder.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor whose numbers are missing, do not fill its shape, or have no meaning here.
    #[error("tensor {tensor:?} of model {model:?}: {reason}")]
    #[diagnostic(code("onnx::tensor-data"), help("the file is damaged, or its exporter is: export it again"))]
    TensorData {
        /// Name of the model.
        model: String,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A graph that breaks the rules of ONNX.
    #[error("model {model:?} is not a valid graph: {}", List(problems))]
    #[diagnostic(code("onnx::invalid-graph"), help("`onnx.checker.check_model(path)` shows the same; export it again"))]
    Invalid {
        /// Name of the model.
        model: String,
        /// What is wrong, with the node.
        problems: Vec<String>,
    },
    /// More of something than the reader accepts.
    #[error("model {model:?} has {got} {what}, the limit is {limit}")]
    #[diagnostic(
        code("onnx::limit"),
        help("limits keep a hostile file from filling the memory; a network of this size cannot run encrypted")
    )]
    Limit {
        /// Name of the model.
        model: String,
        /// What is counted.
        what: String,
        /// Number found.
        got: u64,
        /// Number allowed.
        limit: u64,
    },
    /// Nodes that have no encrypted form, all of them.
    #[error("{} of model {model:?} {} no encrypted form: {}", Count(nodes.len(), "node"), if nodes.len() == 1 { "has" } else { "have" }, Summary(nodes))]
    #[diagnostic(
        code("onnx::unsupported-op"),
        help("replace them and train again, or cut the model; the list of operators is docs: onnx-support")
    )]
    Unsupported {
        /// Name of the model.
        model: String,
        /// The nodes in the model's order.
        #[related]
        nodes: Vec<UnsupportedNode>,
    },
}

/// An extent that the model leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicDim {
    /// Name of the input.
    pub input: String,
    /// Axis of the input.
    pub axis: usize,
    /// Name of the extent, if it has one.
    pub name: Option<String>,
}

impl DynamicDim {
    fn advice(&self) -> String {
        match &self.name {
            Some(name) => format!("give it: `--dim {name}=VALUE`"),
            None => "it has no name: export the model with a fixed shape".into(),
        }
    }
}

impl fmt::Display for DynamicDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name:?} (input {:?}, axis {})", self.input, self.axis),
            None => write!(f, "axis {} of input {:?}", self.axis, self.input),
        }
    }
}

/// A node that has no encrypted form.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{op} {node:?} ({}): {reason}", if inputs.is_empty() { "no inputs".into() } else { inputs.join(", ") })]
#[diagnostic(code("onnx::unsupported-op"), help("{advice}"))]
pub struct UnsupportedNode {
    /// Name of the node, or of its first output when it has none.
    pub node: String,
    /// Operator, with its domain unless that is ONNX's own.
    pub op: String,
    /// Its inputs, as `"name" [shape]` where the shape is known.
    pub inputs: Vec<String>,
    /// Why it is refused.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// Entries shown of a list that an error carries whole.
const SHOWN: usize = 8;

struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// `MaxPool ×2 ("/pool1", "/pool2"), Concat ×1 ("/cat")`: operators by number of nodes, then by name; the reason when
/// there is only one node.
struct Summary<'a>(&'a [UnsupportedNode]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_op: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in self.0 {
            by_op.entry(&node.op).or_default().push(&node.node);
        }
        let mut ops: Vec<_> = by_op.into_iter().collect();
        ops.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
        for (i, (op, nodes)) in ops.iter().enumerate() {
            write!(f, "{}{op} ×{} (", if i == 0 { "" } else { ", " }, nodes.len())?;
            for (j, node) in nodes.iter().take(3).enumerate() {
                write!(f, "{}{node:?}", if j == 0 { "" } else { ", " })?;
            }
            f.write_str(if nodes.len() > 3 { ", …)" } else { ")" })?;
        }
        match self.0 {
            [only] => write!(f, ": {}", only.reason),
            _ => Ok(()),
        }
    }
}
