//! The book: links lead somewhere and every page is in the table of contents.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::{Text, expect_none, paths_below, root, text_of, texts_below};

const BOOK: &str = "docs/src";

/// Markdown of the repository that people read.
fn pages() -> Vec<Text> {
    let mut pages = texts_below("docs", &[".md"]);
    pages.push(text_of("README.md".into()));
    pages
}

/// Lines outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = vec![];
    for line in prose(text) {
        // Every second piece between back-quotes is code.
        let plain: String = line.split('`').enumerate().map(|(i, s)| if i % 2 == 0 { s } else { "code" }).collect();
        for (at, _) in plain.match_indices("](") {
            let rest = &plain[at + 2..];
            found.push(rest[..rest.find(')').unwrap_or(rest.len())].to_string());
        }
    }
    found
}

/// Files of `{{#include file:lines}}`, which mdBook puts in their place.
fn includes(text: &str) -> Vec<String> {
    let after = |piece: &str| Some(piece.split([':', '}']).next()?.trim().to_string());
    text.split("{{#include ").skip(1).filter_map(after).collect()
}

/// Anchors of a page, as mdBook derives them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let kept = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let slug = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        heading.chars().map(|c| if c == ' ' { '-' } else { c }).filter(|&c| kept(c)).collect()
    };
    prose(text).filter(|line| line.starts_with('#')).map(slug).collect()
}

/// A path without `.` and `..`.
fn tidied(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut tidied, part| {
        match part {
            Component::ParentDir => drop(tidied.pop()),
            Component::CurDir => {}
            other => tidied.push(other),
        }
        tidied
    })
}

#[test]
fn relative_links_resolve() {
    let mut found = vec![];
    for page in pages() {
        for link in links(&page.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&page.path).parent().expect("a file is in a folder");
            let target = if file.is_empty() { PathBuf::from(&page.path) } else { tidied(&folder.join(file)) };
            if !root().join(&target).exists() {
                found.push(format!("{}: {link}", page.path));
            } else if !anchor.is_empty() && !anchors(&text_of(target.display().to_string()).text).contains(anchor) {
                found.push(format!("{}: {link}: no such heading", page.path));
            }
        }
    }
    expect_none("links that lead nowhere", &found);
}

#[test]
fn included_files_exist() {
    let mut found = vec![];
    for page in pages() {
        let folder = Path::new(&page.path).parent().expect("a file is in a folder");
        let missing = includes(&page.text).into_iter().filter(|i| !root().join(tidied(&folder.join(i))).is_file());
        found.extend(missing.map(|i| format!("{}: {i}", page.path)));
    }
    expect_none("included files that are missing", &found);
}

#[test]
fn the_table_of_contents_lists_every_page() {
    let summary = format!("{BOOK}/SUMMARY.md");
    let listed: BTreeSet<_> =
        links(&text_of(summary.clone()).text).into_iter().map(|l| format!("{BOOK}/{l}")).collect();
    let mut pages = paths_below(BOOK);
    pages.retain(|p| p.ends_with(".md") && *p != summary && !listed.contains(p));
    expect_none("pages that SUMMARY.md does not list", &pages);
}

#[test]
fn links_and_headings_are_found_outside_code_only() {
    let text = "# A `b` – Page\n[x](y.md#z) and `[no](code)`\n```\n[no](fence)\n# no\n```\n[w](v)\n";
    assert_eq!(links(text), ["y.md#z", "v"]);
    assert_eq!(includes("a {{#include ../b.eir}} {{#include c.snap:5:}}"), ["../b.eir", "c.snap"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b--page".to_string()]));
}
