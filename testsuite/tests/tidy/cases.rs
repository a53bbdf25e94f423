//! Cases of passes: snapshots beside them, and a page of the book for every pass.

use std::collections::BTreeSet;

use crate::{expect_none, paths_below, texts_below};

const SOURCES: &str = "passes/src";
const CASES: &str = "passes/tests/cases";
const PAGES: &str = "docs/src/passes";

/// Names that passes give themselves, and names of folders with cases.
fn passes() -> BTreeSet<String> {
    let opening = "fn name(&self) -> &'static str {";
    let sources = texts_below(SOURCES, &[".rs"]);
    let names = sources.iter().flat_map(|s| s.text.split(opening).skip(1).filter_map(|rest| rest.split('"').nth(1)));
    let mut found: BTreeSet<String> = names.map(str::to_string).collect();
    assert!(found.len() > 5, "found only {found:?}");
    let inside = |path: &String| Some(path.strip_prefix(CASES)?.strip_prefix('/')?.split_once('/')?.0.to_string());
    found.extend(paths_below(CASES).iter().filter_map(inside));
    found
}

#[test]
fn every_case_has_its_snapshot_and_every_snapshot_its_case() {
    let paths: BTreeSet<_> = paths_below(CASES).into_iter().collect();
    let mut found = vec![];
    for (ending, other) in [(".eir", ".snap"), (".snap", ".eir")] {
        for path in &paths {
            let Some(stem) = path.strip_suffix(ending) else { continue };
            if !paths.contains(&format!("{stem}{other}")) {
                found.push(format!("{path} has no {other}"));
            }
        }
    }
    expect_none("orphans", &found);
}

#[test]
fn every_pass_has_a_page_and_every_page_a_pass() {
    let pages: BTreeSet<_> = paths_below(PAGES)
        .iter()
        .filter_map(|p| p.strip_prefix(PAGES)?.strip_prefix('/')?.strip_suffix(".md").map(String::from))
        .filter(|page| page != "index")
        .collect();
    let passes = passes();
    let mut found: Vec<_> = passes.difference(&pages).map(|p| format!("{PAGES}/{p}.md is missing")).collect();
    found.extend(pages.difference(&passes).map(|p| format!("{PAGES}/{p}.md is of no pass")));
    expect_none("passes and pages", &found);
}

#[test]
fn pages_of_passes_name_them() {
    let mut pages = texts_below(PAGES, &[".md"]);
    pages.retain(|page| {
        let name = page.path.rsplit('/').next().and_then(|f| f.strip_suffix(".md")).unwrap_or_default();
        name != "index" && !page.text.starts_with(&format!("# {name}\n"))
    });
    expect_none("pages whose heading is not the pass", &pages.into_iter().map(|p| p.path).collect::<Vec<_>>());
}
