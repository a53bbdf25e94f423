//! Codes of errors: each has a section in the book and advice in the source.

use std::collections::{BTreeMap, BTreeSet};

use crate::{expect_none, rust_files, text_of};

const PAGE: &str = "docs/src/errors.md";

/// The attribute's text from `#[diagnostic(` to the parenthesis that closes it, strings skipped.
fn attributes(source: &str) -> Vec<&str> {
    let opening = "#[diagnostic(";
    source.match_indices(opening).map(|(at, _)| balanced(&source[at + opening.len()..])).collect()
}

/// Text up to the parenthesis that is not opened in it.
fn balanced(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => return &text[..at],
            ')' if !quoted => depth -= 1,
            _ => {}
        }
    }
    text
}

/// `area::name` of an attribute, quoted or not.
fn code(attribute: &str) -> Option<String> {
    let start = attribute.find("code(")? + "code(".len();
    Some(balanced(&attribute[start..]).trim().trim_matches('"').to_string())
}

/// Codes in the sources with a file that has them.
fn codes() -> BTreeMap<String, String> {
    let files = rust_files();
    let pairs =
        files.iter().flat_map(|f| attributes(&f.text).into_iter().filter_map(|a| Some((code(a)?, f.path.clone()))));
    pairs.collect()
}

/// Codes that have a section.
fn sections() -> BTreeSet<String> {
    let page = text_of(PAGE.into()).text;
    let heading = |line: &str| Some(line.strip_prefix('#')?.trim_matches(['#', ' ', '`']).to_string());
    page.lines().filter_map(heading).filter(|h| h.contains("::")).collect()
}

#[test]
fn every_code_has_a_section_and_every_section_a_code() {
    let (codes, sections) = (codes(), sections());
    assert!(codes.len() > 10, "found only {codes:?}");
    let mut found: Vec<_> = codes
        .iter()
        .filter(|(c, _)| !sections.contains(*c))
        .map(|(c, f)| format!("{c} ({f}) has no section"))
        .collect();
    found.extend(sections.iter().filter(|s| !codes.contains_key(*s)).map(|s| format!("{s} is in no source")));
    expect_none(PAGE, &found);
}

#[test]
fn codes_are_area_and_kebab_name() {
    let lower = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let mut found = vec![];
    for (code, file) in codes() {
        if !code.split_once("::").is_some_and(|(area, name)| lower(area) && lower(name)) {
            found.push(format!("{code} ({file})"));
        }
    }
    expect_none("codes that are not `area::kebab-name`", &found);
}

#[test]
fn every_error_says_what_to_do() {
    let mut found = vec![];
    for file in rust_files() {
        for attribute in attributes(&file.text) {
            if let Some(code) = code(attribute)
                && !attribute.contains("help(")
                && !file.text.contains("#[help]")
            {
                found.push(format!("{code} ({})", file.path));
            }
        }
    }
    expect_none("errors without help", &found);
}

#[test]
fn attributes_are_read_over_lines_and_strings() {
    let source =
        "#[diagnostic(\n  code(\"a::b\"),\n  help(\"not ) here \\\" (\")\n)]\n#[diagnostic(code(c::d), severity(x))]";
    let found = attributes(source);
    assert_eq!(found.iter().filter_map(|a| code(a)).collect::<Vec<_>>(), ["a::b", "c::d"]);
    assert!(found[0].contains("help(") && !found[1].contains("help("));
}
