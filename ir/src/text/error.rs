//! Errors of the parser: what was got, what is allowed, and where.

use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, SourceSpan};
use thiserror::Error;

use super::VERSION;

/// A text that is not a graph.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
#[error("line {line}, column {column}: {problem}")]
#[diagnostic(code(ir::parse), help("{}", problem.help()))]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
    /// The bytes of `text` that are wrong.
    #[label("here")]
    pub span: SourceSpan,
    /// The whole text.
    #[source_code]
    pub text: Arc<str>,
}

/// What can be wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// Something else stands here.
    #[error("got {got}, allowed: {allowed}")]
    Expected {
        /// The text found.
        got: String,
        /// What can stand here.
        allowed: String,
    },
    /// A name without a definition, or with one further down.
    #[error("{name} is not {allowed}")]
    Undefined {
        /// The name with its sigil.
        name: String,
        /// What it has to be.
        allowed: &'static str,
    },
    /// A second definition.
    #[error("{name} is defined twice; allowed: once")]
    Duplicate {
        /// The name, with its sigil if it has one.
        name: String,
    },
    /// The wrong number of items.
    #[error("got {got} {what}, allowed: {allowed}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Number found, so far as it was counted.
        got: usize,
        /// Number wanted.
        allowed: usize,
    },
    /// More than the parser accepts.
    #[error("got {got} {what}, allowed: at most {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// Number found, or `more`.
        got: String,
        /// Greatest number.
        limit: usize,
    },
    /// A text of another version of the language.
    #[error("got version {got}, allowed: version {VERSION}")]
    Version {
        /// Version in the first line.
        got: u64,
    },
    /// A digest whose list is not at hand.
    #[error("got {digest}, allowed: a list of {of} in the sidecar")]
    NoList {
        /// The digest in the text.
        digest: String,
        /// Kind of numbers.
        of: &'static str,
    },
}

impl Problem {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Expected { .. } => "the form of every line is in the chapter on the intermediate representation",
            Self::Undefined { .. } => {
                "a value is defined on a line above its users; constants and tables stand at the foot"
            }
            Self::Duplicate { .. } => "remove one of the two, or rename it",
            Self::Count { .. } => "the count follows from the shape or from the field's meaning",
            Self::Limit { .. } => "texts with more are refused unread; split the model or make it smaller",
            Self::Version { .. } => {
                "the text was printed by another version of this program: compile the model again with this one"
            }
            Self::NoList { .. } => "parse the text with the sidecar it was printed with, or write the numbers out",
        }
    }
}

/// A problem and the bytes it is about; becomes a [`ParseError`] once the whole text is at hand.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) problem: Problem,
    pub(super) span: Range<usize>,
}

impl Fault {
    pub(super) fn locate(self, text: &str) -> ParseError {
        let before = &text[..self.span.start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: self.problem,
            span: SourceSpan::from(self.span),
            text: text.into(),
        }
    }
}

/// Text from a file as a message can show it: short, without control characters.
pub(super) fn shown(text: &str) -> String {
    const CHARACTERS: usize = 40;
    let mut short = String::new();
    for c in text.chars().take(CHARACTERS) {
        if c.is_control() { short.extend(c.escape_default()) } else { short.push(c) }
    }
    if text.chars().nth(CHARACTERS).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}
