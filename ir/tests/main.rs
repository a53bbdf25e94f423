//! Text, artifact and verifier of the IR.
//!
//! One program for all files: each program of tests links the whole compiler again.

mod artifact;
mod keys;
mod properties;
mod text_docs;
mod text_errors;
mod text_phases;
mod text_random;
mod text_sidecar;
mod verify;
