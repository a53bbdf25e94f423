//! The whole system: from a model to encrypted answers.
//!
//! One program for all files: each program of tests links the whole compiler again.

mod bundled;
mod fuzz;
mod hazards;
mod key_sets;
mod noise;
mod onnx_suite;
mod quantized;
mod system;
