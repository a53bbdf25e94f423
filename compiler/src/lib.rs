//! The edges of the compiler: models, data, options, reports.

pub mod onnx;
