//! Whether the house is clean: what every file and every arrow of this repository keeps to.
//!
//! Each test reports all that it finds, not the first.

mod arrows;
mod book;
mod cases;
mod codes;
mod commands;
mod leaks;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

/// The crates, which are folders of the root.
const CRATES: [&str; 5] = ["ir", "passes", "compiler", "backend", "testsuite"];

/// A text file of the repository.
struct Text {
    /// Path from the root, with `/`.
    path: String,
    /// Contents.
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testsuite/ is a folder of the root").to_path_buf()
}

/// Paths of all files below a folder of the root, from the root and sorted; build outputs and git's own are left out.
fn paths_below(folder: &str) -> Vec<String> {
    let mut found = vec![];
    walk(&root(), folder, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        let name = entry.file_name().into_string().expect("names are text");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("the entry can be read");
        if kind.is_dir() {
            if name != ".git" && name != "target" && path != "docs/book" {
                walk(root, &path, found);
            }
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

/// All files below a folder of the root whose name ends in one of `endings`.
fn texts_below(folder: &str, endings: &[&str]) -> Vec<Text> {
    paths_below(folder).into_iter().filter(|p| endings.iter().any(|e| p.ends_with(e))).map(text_of).collect()
}

fn text_of(path: String) -> Text {
    let text = fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    Text { path, text }
}

/// All Rust files of the crates, without these tests: they hold the words they look for.
fn rust_files() -> Vec<Text> {
    let mut files: Vec<_> = CRATES.iter().flat_map(|c| texts_below(c, &[".rs"])).collect();
    files.retain(|f| !f.path.starts_with("testsuite/tests/tidy/"));
    assert!(files.len() > 20, "found only {} files: is the root right?", files.len());
    files
}

/// Fails with everything found, one thing a line.
#[track_caller]
fn expect_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}\n", found.join("\n  "));
}
