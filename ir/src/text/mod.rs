//! The text form of a graph: printed, parsed back, and quoted in errors.
//!
//! [`parse`] of [`print()`] gives the same graph in every phase. Lists of more than [`INLINE`] numbers are summarised
//! in the text by a digest; their values travel beside it in a [`Sidecar`]. Text is untrusted: [`parse`] never panics
//! and holds no more numbers than the limits of this module allow.

mod error;
mod lex;
pub mod listing;
mod parse;
mod parse_op;
mod print;
mod sidecar;

pub use error::{ParseError, Problem};
pub use parse::parse;
pub use print::{Printed, print, real, to_text, value_line};
pub use sidecar::Sidecar;

/// Version in the first line of a text.
pub const VERSION: u64 = 2;

/// Lists with more numbers than this are printed as a digest.
pub const INLINE: usize = 64;

/// Bytes of a text.
pub const MAX_TEXT_BYTES: usize = 1 << 26;

/// Values of a graph; constants, tables, parameter sets, origins and outputs each have the same limit.
pub const MAX_ITEMS: usize = 1 << 20;

/// Axes of a tensor.
pub const MAX_RANK: usize = 16;

/// Elements of one tensor.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Numbers of all lists of one text together, those of the sidecar included.
pub const MAX_NUMBERS: usize = 1 << 28;

/// Numbers of all lists written out in one text, after repeat counts are expanded.
pub const MAX_INLINE_NUMBERS: usize = 1 << 24;
