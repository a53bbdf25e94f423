//! Which crate may depend on which, read from the manifests.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::{CRATES, expect_none, text_of};

/// Package of a folder, the packages of ours it may name, and the packages it must never name.
const LAWS: [(&str, &[&str], &[&str]); 5] = [
    ("ir", &[], &["tfhe", "onnx-ir", "clap"]),
    ("passes", &["fhe-ir"], &["tfhe", "onnx-ir", "clap"]),
    ("compiler", &["fhe-ir", "fhe-passes"], &["tfhe"]),
    ("backend", &["fhe-ir"], &["onnx-ir", "egg"]),
    ("testsuite", &["fhe-ir", "fhe-passes", "fhe-compiler", "fhe-backend"], &["tfhe", "onnx-ir"]),
];

/// Packages that a manifest names in any of its dependency tables, renamed or not.
fn dependencies(manifest: &Table) -> Vec<String> {
    let mut found = vec![];
    for (key, value) in manifest {
        let Value::Table(table) = value else { continue };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                found.extend(
                    table
                        .iter()
                        .map(|(name, how)| how.get("package").and_then(Value::as_str).unwrap_or(name).to_string()),
                );
            }
            "target" => found.extend(table.values().filter_map(Value::as_table).flat_map(dependencies)),
            _ => {}
        }
    }
    found
}

fn broken(folder: &str, manifest: &Table) -> Vec<String> {
    let (_, ours, never) = LAWS.iter().find(|l| l.0 == folder).expect("every crate has its law");
    let mut found = dependencies(manifest);
    found.retain(|d| never.contains(&d.as_str()) || (d.starts_with("fhe-") && !ours.contains(&d.as_str())));
    found.into_iter().map(|d| format!("{folder}/Cargo.toml names {d}")).collect()
}

fn manifest(path: &str) -> Table {
    text_of(path.into()).text.parse().unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn crates_depend_only_downwards() {
    let found: Vec<_> = CRATES.iter().flat_map(|c| broken(c, &manifest(&format!("{c}/Cargo.toml")))).collect();
    expect_none("forbidden arrows", &found);
}

#[test]
fn forbidden_arrows_are_seen_in_every_kind_of_table() {
    for text in [
        "[dependencies]\nfhe-passes.workspace = true",
        "[dev-dependencies]\nfhe-testsuite = { path = \"x\" }",
        "[build-dependencies]\nonnx-ir = \"1\"",
        "[target.'cfg(unix)'.dependencies]\nlinear = { package = \"egg\", version = \"1\" }",
    ] {
        assert_eq!(broken("backend", &text.parse().expect("a manifest")).len(), 1, "{text}");
    }
    assert!(broken("backend", &"[dependencies]\nfhe-ir = \"1\"\ntfhe = \"1\"".parse().expect("a manifest")).is_empty());
}

#[test]
fn the_workspace_is_the_crates_with_exact_versions() {
    let workspace = manifest("Cargo.toml")["workspace"].clone();
    let members: Vec<_> = workspace["members"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(members, CRATES);
    let mut found = vec![];
    for (name, how) in workspace["dependencies"].as_table().expect("a table") {
        let version = how.as_str().or_else(|| how.get("version").and_then(Value::as_str));
        if how.get("path").is_none() && !version.is_some_and(|v| v.starts_with('=')) {
            found.push(name.clone());
        }
    }
    expect_none("dependencies of the workspace without an exact version", &found);
}

#[test]
fn locked_packages_come_from_the_public_registry() {
    let lock = manifest("Cargo.lock");
    let mut sources = BTreeMap::new();
    for package in lock["package"].as_array().expect("a list") {
        if let Some(source) = package.get("source").and_then(Value::as_str) {
            sources.insert(source.to_string(), package["name"].as_str().expect("a name").to_string());
        }
    }
    sources.remove("registry+https://github.com/rust-lang/crates.io-index");
    let found: Vec<_> = sources.into_iter().map(|(source, name)| format!("{name} from {source}")).collect();
    expect_none("packages from elsewhere", &found);
}
