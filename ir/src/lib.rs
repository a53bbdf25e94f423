//! The language of the compiler: typed graph, text form, verifier, evaluators and artifact.
//!
//! A [`graph::Graph`] is one network in one [`graph::Phase`], from the trained model to the circuit. Values are
//! tensors; a convolution is one op. The crate reads no files, knows no ONNX and runs no cryptography.

pub mod artifact;
pub mod client;
pub mod cost;
pub mod count;
pub mod eval;
pub mod func;
pub mod graph;
pub mod id;
pub mod image;
pub mod interval;
pub mod keys;
mod maximum;
pub mod op;
pub mod params;
pub mod post;
pub mod ranges;
pub mod rebuild;
mod rounding;
pub mod shape;
pub mod stats;
pub mod table;
pub mod text;
pub mod verify;

pub use func::Func;
pub use graph::{Cipher, Const, Data, Elem, Facts, Graph, Key, Origin, Output, Phase, Value};
pub use id::Id;
pub use interval::Interval;
pub use keys::{BootstrapKey, CircuitKeys, KeyswitchKey, Planned, PlannedTable, SecretKey};
pub use op::{ConvGeometry, Op, PoolGeometry};
pub use params::{Decomposition, ParamSet, SecurityCurve, Variance};
pub use post::Post;
pub use rebuild::Rebuild;
pub use table::{Domain, Read, Reader, Table};
