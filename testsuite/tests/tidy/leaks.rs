//! No file tells of the machine that it was written on.

use crate::{expect_none, texts_below};

/// First folders of absolute paths that only one machine has.
const PLACES: [&str; 6] = ["work", "tmp", "root", "home", "Users", "mnt"];

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

/// The first folder of an absolute path in the line; a folder of a web address or of a relative path is none.
fn leak(line: &str) -> Option<&'static str> {
    PLACES.into_iter().find(|place| {
        line.match_indices(&format!("/{place}/"))
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
    for place in PLACES {
        assert_eq!(leak(&format!("see /{place}/x")), Some(place));
        assert_eq!(leak(&format!("--out=/{place}/me")), Some(place));
        for front in ["https://example.org", "docs", "..", "${ROOT}"] {
            assert_eq!(leak(&format!("{front}/{place}/x")), None, "{front}");
        }
    }
}

#[test]
fn no_cargo_configuration_is_part_of_the_repository() {
    let mut found = texts_below("", &["config.toml"]);
    found.retain(|f| f.path.contains(".cargo/"));
    expect_none("configuration of one machine", &found.into_iter().map(|f| f.path).collect::<Vec<_>>());
}
