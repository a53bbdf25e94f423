//! What every Rust file keeps to.

use crate::{expect_none, rust_files};

const WARNING: usize = 500;
const WALL: usize = 800;

/// Words that have no place in finished code, and why.
const WORDS: [(&str, &str); 6] = [
    ("#[ignore", "a known wrong result is a snapshot with a FIXME"),
    ("should_panic", "refuse with an error, and test the error"),
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left over"),
    ("#![allow(missing_docs", "public items are documented"),
];

/// What `ir` and `passes` never touch: files, environment, clocks, processes and the network.
const OUTSIDE: [&str; 6] = ["std::fs", "std::env", "std::time", "std::process", "std::net", "SystemTime"];

#[test]
fn files_stay_small() {
    let mut found = vec![];
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > WALL {
            found.push(format!("{} has {lines}", file.path));
        } else if lines > WARNING {
            println!("{} has {lines} lines: consider splitting it", file.path);
        }
    }
    expect_none(&format!("files of more than {WALL} lines"), &found);
}

#[test]
fn files_begin_with_their_one_job() {
    let mut files = rust_files();
    files.retain(|f| !f.text.starts_with("//! "));
    expect_none("files that do not begin with `//!`", &files.into_iter().map(|f| f.path).collect::<Vec<_>>());
}

#[test]
fn nothing_is_ignored_or_unfinished() {
    let mut found = vec![];
    for file in rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            for (word, why) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
                found.push(format!("{}:{}: {word}: {why}", file.path, number + 1));
            }
        }
    }
    expect_none("forbidden words", &found);
}

#[test]
fn ir_and_passes_are_cut_off_from_the_outside() {
    let mut found = vec![];
    for file in rust_files() {
        if !(file.path.starts_with("ir/src/") || file.path.starts_with("passes/src/")) {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in OUTSIDE.iter().filter(|word| names(code, word)) {
                found.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    expect_none("files, environment or clocks where there are none", &found);
}

/// Whether a line names the module, also from a list: `use std::{fmt, fs};`.
fn names(code: &str, word: &str) -> bool {
    let listed = || {
        let (parent, child) = word.split_once("::")?;
        let (_, list) = code.split_once(&format!("{parent}::{{"))?;
        Some(list.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == child))
    };
    code.contains(word) || listed().unwrap_or(false)
}

#[test]
fn modules_are_found_alone_and_in_lists() {
    assert!(names("use std::fs::File;", "std::fs"));
    assert!(names("use std::{fmt, fs};", "std::fs"));
    assert!(!names("use std::{fmt, sync::Arc};", "std::fs"));
    assert!(!names("let offsets = std::mem::take(x);", "std::fs"));
}
