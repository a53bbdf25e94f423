//! Names of values and constants: ONNX's own, as plain identifiers.

use std::collections::HashMap;

use onnx_ir::NodeProto;

/// Longest name: exporters' longest are shorter, and a hostile file must not fill the listing.
const MAX_LENGTH: usize = 120;

/// The name as an identifier of `[A-Za-z0-9_.$/:-]` that starts with a letter, a digit or `_`.
pub(super) fn clean(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.$/:-".contains(c);
    let mut out: String = name
        .trim_start_matches(|c: char| "/.:-$".contains(c))
        .chars()
        .take(MAX_LENGTH)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if out.is_empty() {
        out.push('_');
    }
    out
}

/// What messages call a node: its name, or its first output when it has none.
pub(super) fn node_label(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.iter().find(|o| !o.is_empty()).map_or("", |o| o) } else { &node.name }
}

/// What listings call result `i` of a node: its output without the exporters' suffixes; the node's name where
/// the output is only a number; the operator and that number where the node has no name either.
pub(super) fn stem(node: &NodeProto, i: usize) -> String {
    let output = node.output.iter().skip(i).find(|o| !o.is_empty()).map_or("", |o| o.as_str());
    let output = output.strip_suffix("_output_0").or_else(|| output.strip_suffix(":0")).unwrap_or(output);
    if !output.is_empty() && !output.bytes().all(|b| b.is_ascii_digit()) {
        clean(output)
    } else if !node.name.is_empty() {
        clean(&node.name)
    } else {
        clean(&format!("{}{output}", node.op_type.to_ascii_lowercase()))
    }
}

/// Gives out names, each once.
#[derive(Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    /// `name`, or `name.2`, `name.3`… when it is taken.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut i = self.0.get(name).copied().unwrap_or(0);
        let out = loop {
            i += 1;
            let out = if i == 1 { name.to_owned() } else { format!("{name}.{i}") };
            if i == 1 || !self.0.contains_key(&out) {
                break out;
            }
        };
        self.0.insert(name.to_owned(), i);
        self.0.entry(out.clone()).or_insert(1);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, op: &str, output: &str) -> NodeProto {
        NodeProto { name: name.into(), op_type: op.into(), output: vec![output.into()], ..Default::default() }
    }

    #[test]
    fn names_are_those_a_person_would_use() {
        let stem = |node| stem(&node, 0);
        assert_eq!(stem(node("/fc1/Gemm", "Gemm", "/fc1/Gemm_output_0")), "fc1/Gemm");
        assert_eq!(stem(node("/fc3/Gemm", "Gemm", "logits")), "logits");
        assert_eq!(stem(node("Conv_0", "Conv", "15")), "Conv_0");
        assert_eq!(stem(node("", "Conv", "15")), "conv15");
        assert_eq!(clean("näme with\nspaces"), "n_me_with_spaces");
        assert_eq!(clean("///"), "_");
    }

    #[test]
    fn names_are_given_once() {
        let mut names = Names::default();
        assert_eq!(["a", "a", "a.2", "a"].map(|n| names.unique(n)), ["a", "a.2", "a.2.2", "a.3"]);
    }
}
