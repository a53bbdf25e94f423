//! Passes on their cases, parameters against published tables, key sets.
//!
//! One program for all files: each program of tests links the whole compiler again.

mod exact_rounding;
mod harness;
mod key_sets;
mod key_sets_oracle;
mod oracle;
mod params_oracle;
mod passes;
mod security;
mod why_sets;
