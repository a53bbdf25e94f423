//! Encrypted execution, key files and the command line.
//!
//! One program for all files: each program of tests links the whole compiler again.

mod arrays;
mod cli;
mod files;
mod keysets;
mod linear;
mod networks;
mod outputs;
mod support;
mod tables;
