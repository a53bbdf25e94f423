//! Excerpts of a listing around one value: the source snippet of errors.

use std::collections::BTreeSet;
use std::ops::Range;

use super::print::{heading, value_line};
use crate::graph::{Graph, Value};
use crate::id::Id;

/// Readers of the value that an excerpt shows.
const READERS: usize = 3;

/// The lines around a value, and the bytes of its name in them: the value in front of it, the value under its heading,
/// and its first readers. A line `...` stands for values left out.
pub fn neighbourhood(graph: &Graph, id: Id<Value>) -> (String, Range<usize>) {
    let mut shown: BTreeSet<usize> = [id.index().saturating_sub(1), id.index()].into();
    let readers = (id.index() + 1..graph.values.len()).filter(|&i| graph.values[i].op.operands().contains(&id));
    shown.extend(readers.take(READERS));

    let (mut text, mut caret) = (String::new(), 0..0);
    let (mut origin, mut last, mut indent) = (None, None, "");
    for index in shown {
        if last.is_some_and(|last: usize| last + 1 < index) {
            text += "...\n";
        }
        last = Some(index);
        let from = graph.values[index].from.first().copied();
        if from != origin {
            origin = from;
            indent = "  ";
            text += &format!("{}\n", heading(graph, origin));
        }
        let line = value_line(graph, Id::new(index));
        if index == id.index() {
            let start = text.len() + indent.len();
            caret = start..start + name_length(&line);
        }
        text += &format!("{indent}{line}\n");
    }
    (text, caret)
}

/// Length of the name at the start of a value's line.
fn name_length(line: &str) -> usize {
    super::lex::Cursor::lines(line).next().and_then(|c| c.peek().ok()).map_or(1, |(_, span)| span.end)
}
