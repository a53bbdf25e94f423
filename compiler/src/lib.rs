//! The edges of the compiler: models, data, options, reports.
//!
//! Reads ONNX and npy files, runs the pipeline of `fhe-passes`, writes artifacts and reports. Nothing here computes on
//! ciphertexts, and `tfhe` is not linked.

pub mod arguments;
pub mod compile;
pub mod data;
pub mod dev;
pub mod failure;
pub mod inspect;
pub mod machine;
pub mod onnx;
pub mod report;
pub mod sweep;
pub mod why;

pub use fhe_passes::accuracy;
