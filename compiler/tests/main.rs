//! The reader, the command lines and what they print.
//!
//! One program for all files: each program of tests links the whole compiler again.

mod cli;
mod fhe_opt;
mod onnx_errors;
mod onnx_external;
mod onnx_folds;
mod onnx_functions;
mod onnx_hostile;
mod onnx_integer;
mod onnx_jumps;
mod onnx_models;
mod onnx_operators;
mod onnx_places;
mod onnx_quantizers;
mod onnx_support;
mod onnx_windows;
