//! No file tells of the machine that it was written on.

use crate::{expect_none, texts_below};

/// Folders of single machines.
const PLACES: [&str; 6] = ["/work/", "/tmp/", "/root/", "/home/", "/Users/", "/mnt/"];

const ENDINGS: [&str; 16] = [
    ".rs",
    ".md",
    ".toml",
    ".lock",
    ".eir",
    ".snap",
    ".json",
    ".csv",
    ".sh",
    ".py",
    ".yml",
    ".txt",
    ".html",
    ".css",
    ".ci/run",
    ".gitignore",
];

/// Whether an absolute path begins in the line; `https://x.org/work/` and `docs/work/` are none.
fn leak(line: &str) -> Option<&'static str> {
    PLACES.into_iter().find(|place| {
        line.match_indices(place)
            .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/}".contains(before)))
    })
}

#[test]
fn no_file_names_an_absolute_path() {
    let mut found = vec![];
    for file in texts_below("", &ENDINGS) {
        if file.path.starts_with("testsuite/tests/tidy/") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            if let Some(place) = leak(line) {
                found.push(format!("{}:{}: {place}", file.path, number + 1));
            }
        }
    }
    expect_none("absolute paths", &found);
}

#[test]
fn only_paths_from_the_root_are_leaks() {
    assert_eq!(leak("see /tmp/x"), Some("/tmp/"));
    assert_eq!(leak("--out=/home/me"), Some("/home/"));
    for fine in ["https://example.org/work/x", "docs/work/x", "../tmp/x", "${ROOT}/tmp/x"] {
        assert_eq!(leak(fine), None, "{fine}");
    }
}

#[test]
fn no_cargo_configuration_is_part_of_the_repository() {
    let mut found = texts_below("", &["config.toml"]);
    found.retain(|f| f.path.contains(".cargo/"));
    expect_none("configuration of one machine", &found.into_iter().map(|f| f.path).collect::<Vec<_>>());
}
