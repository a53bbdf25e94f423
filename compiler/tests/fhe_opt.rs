//! `fhe-opt` from outside: what goes where, and the exit codes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const CASE: &str = "eir 2 float
graph g

%x: f32[1,2] = input
%neg: f32[1,2] = neg %x
%back: f32[1,2] = neg %neg
%y: f32[1,2] = map %back | clip 0 inf
output %y \"y\"
";

fn opt(arguments: &[&str], stdin: &str) -> (Output, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fhe-opt"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that refuses its options does not read.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn the_graph_goes_to_stdout_and_differences_to_stderr() {
    let (output, out, err) = opt(&["-", "--passes", "fold-constants,canonicalize"], CASE);
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    assert!(out.contains("%x: f32[1,2] = input | clip 0 inf\n"), "{out}");

    let (output, out, err) = opt(&["-", "--passes", "fold-constants", "--print-ir-diff", "all"], CASE);
    assert_eq!((output.status.code(), out.as_str()), (Some(0), ""));
    assert!(err.starts_with("# diff 01 fold-constants: factors multiplied 1\n"), "{err}");
    assert!(err.contains("\n- %neg: f32[1,2] = neg %x\n") && err.contains("\n  %x: f32[1,2] = input\n"), "{err}");
}

#[test]
fn a_bisection_and_a_stop_end_early() {
    let (_, out, _) = opt(&["-", "--passes", "fold-constants,canonicalize", "--bisect-limit", "1"], CASE);
    assert!(out.contains("%y: f32[1,2] = map %x | clip 0 inf\n"), "{out}");
    let (_, out, _) = opt(&["-", "--passes", "fold-constants,canonicalize", "--stop-after", "fold-constants"], CASE);
    assert!(out.contains("%y: f32[1,2] = map %x | clip 0 inf\n"), "{out}");
}

#[test]
fn exit_codes_tell_command_line_from_text() {
    let (output, _, err) = opt(&["-", "--passes", "fold-constant"], CASE);
    assert_eq!(output.status.code(), Some(2));
    assert!(err.contains("fold-constants"), "{err}");
    assert_eq!(opt(&["-", "--passes", "tabulate"], CASE).0.status.code(), Some(2));
    assert_eq!(opt(&["-", "--stop-after", "nothing"], CASE).0.status.code(), Some(2));
    assert_eq!(opt(&["-"], "eir 2 float\nnonsense").0.status.code(), Some(1));
    let (output, _, err) = opt(&["-"], &CASE.replace("%y: f32[1,2]", "%y: f32[1,3]"));
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("cli::broken-listing"), "{err}");
    assert_eq!(opt(&["--list-passes"], "").0.status.code(), Some(0));
}

#[test]
fn a_dump_can_be_read_again() {
    let dir = tempfile::tempdir().expect("a folder for the dump");
    let path = dir.path().to_str().expect("temporary folders have plain names");
    // More numbers than a listing holds: they go into files beside it.
    let weights: Vec<String> = (0..80).map(|i| format!("{i}.5")).collect();
    let text = format!(
        "eir 2 float\ngraph g\n\n%x: f32[1,80] = input\n%neg: f32[1,80] = neg %x\n%y: f32[1,1] = dot %neg, @w\n\
         output %y \"y\"\n\nconst @w: f[1,80] = {}\n",
        weights.join(" ")
    );
    let (output, _, err) = opt(&["-", "--passes", "fold-constants", "--dump-dir", path], &text);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let dumped = format!("{path}/01.fold-constants.after.eir");
    let (output, out, err) = opt(&[&dumped], "");
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    assert!(out.contains("= dot %x, @w") && out.contains("f[1,80] = #"), "{out}");
    assert!(dir.path().join("passes.json").exists());
}
