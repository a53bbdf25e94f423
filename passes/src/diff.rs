//! Full-context differences of listings: what a pass did, with everything it left alone.

use similar::{ChangeTag, TextDiff};

/// Every line of both texts: `- ` gone, `+ ` new, two spaces kept.
pub fn full_context(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut out = String::new();
    for change in diff.iter_all_changes() {
        let line = change.value().trim_end_matches('\n');
        let sign = match change.tag() {
            ChangeTag::Delete => "- ",
            ChangeTag::Insert => "+ ",
            ChangeTag::Equal => "  ",
        };
        out.push_str(format!("{sign}{line}").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_lines_stay_in_the_picture() {
        assert_eq!(full_context("a\n\nb\nc\n", "a\n\nB\nc\n"), "  a\n\n- b\n+ B\n  c\n");
    }
}
