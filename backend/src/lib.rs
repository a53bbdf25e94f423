//! Runs circuits on encrypted data with the `tfhe` crate: keys, encryption, execution, measurement.
//!
//! A [`Circuit`] is a checked graph in the circuit phase with its digest. [`SecretKeys`] encrypt rows into
//! [`EncryptedInputs`] and decrypt [`EncryptedOutputs`]; [`EvaluationKeys`] travel to the server, which expands them
//! into [`ServerKeys`] and calls [`evaluate`]. The crate knows no ONNX and no pass.

pub mod arrays;
pub mod bootstrap;
pub mod calibrate;
pub mod circuit;
mod clock;
pub mod commands;
pub mod encode;
pub mod encrypt;
pub mod error;
pub mod execute;
mod fft;
pub mod files;
mod gemm;
mod kernel;
pub mod keys;
pub mod keyswitch;
pub mod linear;
pub mod measure;
pub mod noise;
mod output;
pub mod progress;
mod rotate;
pub mod tensor;
pub mod timing;

pub use circuit::{Binding, Circuit, Digest, KeyId};
pub use encrypt::{EncryptedInputs, EncryptedOutputs, decrypt, encrypt};
pub use error::Error;
pub use execute::{Observer, evaluate, evaluate_observed};
pub use keys::{EvaluationKeys, Randomness, SecretKeys, ServerKeys, generate};
pub use measure::{Measurement, measure};
pub use progress::{Progress, Step, silent};
pub use tensor::Tensor;
