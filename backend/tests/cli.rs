//! `fhe-run` from outside: every command, what it prints and how it ends.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{mlp, rows};
use fhe_backend::arrays::write_array;
use fhe_ir::artifact::Artifact;

fn run(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fhe-run"))
        .args(line.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("the program starts")
}

/// Runs a command that must do what it is asked; returns what it prints.
fn done(dir: &Path, line: &str) -> String {
    let output = run(dir, line);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must be refused; returns its exit code and message.
fn refused(dir: &Path, line: &str) -> (i32, String) {
    let output = run(dir, line);
    assert!(output.stdout.is_empty(), "{line} prints to stdout");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_commands_of_client_and_server_fit_together() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let circuit = mlp().graph().clone();
    std::fs::write(at("m.fhe"), Artifact { circuit, report: serde_json::json!({}) }.to_bytes()).expect("a new file");
    write_array(&at("x.npy"), &rows(1, &[5, 6], -1, 2).mapv(|e| e as f32)).expect("a new file");
    let mut other = mlp().graph().clone();
    other.name = "other".into();
    let other = Artifact { circuit: other, report: serde_json::json!({}) };
    std::fs::write(at("other.fhe"), other.to_bytes()).expect("a new file");
    let dir = dir.path();

    done(dir, "keygen m.fhe --secret s.key --evaluation e.key");
    done(dir, "encrypt m.fhe --secret s.key --input x.npy --rows 1-3 -o x.ct");
    done(dir, "eval m.fhe --evaluation e.key --input x.ct -o y.ct");
    let decrypted = done(dir, "decrypt m.fhe --secret s.key --input y.ct");
    let predicted = done(dir, "predict m.fhe --input x.npy --rows 1-3");
    let class = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let (a, b): (Vec<_>, Vec<_>) = (decrypted.lines().map(class).collect(), predicted.lines().map(class).collect());
    assert_eq!(a.len(), 3);
    assert_eq!(a, b[..3]);
    assert!(predicted.starts_with("row 1  class "), "{predicted}");
    assert!(predicted.contains("3 of 3 rows have the class of the integer circuit, 3 all its outputs"), "{predicted}");
    let timed = done(dir, "time m.fhe --rows 2 --repeat 1 --cost-model epyc-avx512-2");
    assert!(timed.starts_with("2 rows on ") && timed.contains("predicted by epyc-avx512-2"), "{timed}");
    assert!(["linear  ", "keyswitch  ", "bootstrap  ", "all  "].iter().all(|p| timed.contains(p)), "{timed}");
    let (code, message) = refused(dir, "time m.fhe --cost-model x.npy");
    assert!(code == 1 && message.contains("backend::cost-model"), "{message}");
    done(dir, "decrypt m.fhe --secret s.key --input y.ct -o y.npy");
    assert!(at("y.npy").exists() && at("y.1.npy").exists());

    assert!(done(dir, "simulate m.fhe --input x.npy").starts_with("agreement  "));
    let measured = done(dir, "measure m.fhe --input x.npy --rows 0-1");
    assert!(measured.starts_with("value  op  count") && measured.contains("  pbs  "), "{measured}");

    let (code, message) = refused(dir, "keygen m.fhe --secret s.key --evaluation e.key");
    assert!(code == 1 && message.contains("--force"), "{message}");
    let (code, message) = refused(dir, "encrypt other.fhe --secret s.key --input x.npy -o z.ct");
    assert!(code == 1 && message.contains("is for circuit"), "{message}");
    let (code, message) = refused(dir, "eval m.fhe --evaluation e.key --input y.ct -o z.ct");
    assert!(code == 1 && message.contains("an encrypted output, wanted an encrypted input"), "{message}");
    let (code, message) = refused(dir, "encrypt m.fhe --secret s.key --input x.npy --rows 3-9 -o z.ct");
    assert!(code == 1 && message.contains("the data has 5"), "{message}");
    let (code, message) = refused(dir, "predict x.npy --input x.npy");
    assert!(code == 1 && message.contains("not a circuit"), "{message}");
    assert!(!at("z.ct").exists());

    let bytes = |name: &str| std::fs::read(at(name)).expect("written before");
    let (key, model) = (bytes("s.key"), bytes("m.fhe"));
    let (code, message) = refused(dir, "decrypt m.fhe --secret s.key --input y.ct -o s.key");
    assert!(code == 1 && message.contains("secret-exists"), "{message}");
    for line in [
        "keygen m.fhe --secret m.fhe --evaluation new.key --force",
        "keygen m.fhe --secret new.key --evaluation m.fhe",
        "encrypt m.fhe --secret s.key --input x.npy -o m.fhe",
        "eval m.fhe --evaluation e.key --input x.ct -o x.ct",
        "decrypt m.fhe --secret s.key --input y.ct -o m.fhe",
    ] {
        let (code, message) = refused(dir, line);
        assert!(code == 1 && message.contains("output-exists"), "{line}: {message}");
    }
    assert!(bytes("s.key") == key && bytes("m.fhe") == model && !at("new.key").exists());
    #[cfg(target_os = "linux")]
    {
        let output = run(dir, "decrypt m.fhe --secret s.key --input y.ct -o /dev/stdout");
        assert!(output.status.success() && output.stdout == [bytes("y.npy"), bytes("y.1.npy")].concat());
        let (code, message) = refused(dir, "encrypt m.fhe --secret s.key --input x.npy -o /dev/full");
        assert!(code == 1 && message.contains("/dev/full: No space left"), "{message}");
    }
}

#[test]
fn one_path_for_both_keys_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for line in ["--secret n.key --evaluation n.key", "--secret n.key --evaluation ./n.key --force"] {
        let (code, message) = refused(dir.path(), &format!("keygen m.fhe {line}"));
        assert!(
            code == 2 && message.contains("--secret n.key") && message.contains("n.key name one file"),
            "{message}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
}

#[test]
fn the_cause_of_a_failure_is_told_once() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (code, message) = refused(dir.path(), "predict missing.fhe --input x.npy");
    assert!(code == 1 && message.matches("os error 2").count() == 1, "{message}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for line in ["", "predict", "encrypt m.fhe --secret s --input x.npy --rows 5-3 -o y", "unknown"] {
        assert_eq!(refused(dir.path(), line).0, 2, "{line}");
    }
    let help = done(dir.path(), "--help");
    assert!(help.contains("fhe-run predict  model.fhe"), "{help}");
}
