//! Runs the cases of one pass: parse, round trip, run through the manager, meaning before and after, snapshot.

mod choices;
mod meaning;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fhe_ir::Graph;
use fhe_ir::text::{Sidecar, parse, print, to_text};
use fhe_passes::{Flow, PassCx, PassReport, Remark, diff, pipeline, run_pipeline};

use choices::Choices;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Names of the folders of cases.
pub(crate) fn folders() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root()).expect("the folder of cases exists");
    entries
        .filter_map(Result::ok)
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Files of the cases of a pass, by name.
pub(crate) fn cases(pass: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root().join(pass)) else { return vec![] };
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "eir"))
        .collect();
    files.sort();
    files
}

/// Runs every case of a pass. A case with a line `# error: <part of the message>` is one that the pass refuses.
pub(crate) fn run_cases(pass: &str) {
    for file in cases(pass) {
        run_case(pass, &file);
    }
}

fn run_case(pass: &str, file: &Path) {
    let case = file.file_stem().expect("cases are files").to_string_lossy().into_owned();
    let at = format!("{pass}/{case}");
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{at}: {e}"));
    let choices = Choices::parse(&text).unwrap_or_else(|e| panic!("{at}: {e}"));
    let before = parse(&text, &Sidecar::new()).unwrap_or_else(|e| panic!("{at}: {e}"));
    round_trip(&before).unwrap_or_else(|e| panic!("{at}, before: {e}"));

    let result = run(pass, &before, &choices, choices.budget);
    if let Some(expected) = text.lines().find_map(|l| l.strip_prefix("# error: ")) {
        let Err(got) = result else { panic!("{at}: the pass accepts the graph") };
        assert!(got.contains(expected), "{at}: {got}");
        settings(pass, "refused".into()).bind(|| insta::assert_snapshot!(case.as_str(), got));
        return;
    }
    let (after, report, remarks) = result.unwrap_or_else(|e| panic!("{at}: {e}"));
    round_trip(&after).unwrap_or_else(|e| panic!("{at}, after: {e}"));
    let again = run(pass, &before, &choices, choices.budget).map(|(graph, _, _)| graph);
    assert_eq!(again.as_ref(), Ok(&after), "{at}: a second run differs");

    let bound = choices.bound.or_else(|| folder_bound(pass));
    meaning::check(&before, &after, &choices, bound).unwrap_or_else(|e| panic!("{at}: {e}"));
    // A bisection may stop anywhere: every prefix of the rewrites keeps the meaning too.
    let rewrites: u64 = report.changed.values().sum();
    for budget in 0..rewrites.min(12) {
        let (part, _, _) =
            run(pass, &before, &choices, Some(budget)).unwrap_or_else(|e| panic!("{at}, {budget} rewrites: {e}"));
        meaning::check(&before, &part, &choices, bound).unwrap_or_else(|e| panic!("{at}, {budget} rewrites: {e}"));
    }

    settings(pass, description(&report, &remarks))
        .bind(|| insta::assert_snapshot!(case.as_str(), diff::full_context(&to_text(&before), &to_text(&after))));
}

fn settings(pass: &str, description: String) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../cases/{pass}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(description);
    settings
}

/// Runs one pass through the manager, which verifies before and after.
fn run(
    pass: &str,
    graph: &Graph,
    choices: &Choices,
    budget: Option<u64>,
) -> Result<(Graph, PassReport, Vec<Remark>), String> {
    let pass = pipeline::find(pass).ok_or("no pass has this name")?;
    let calibration = choices.calibration(graph);
    let mut cx = PassCx::new(&choices.options, &calibration);
    cx.budget = budget;
    let (graph, mut reports) =
        run_pipeline(graph.clone(), &[pass], &mut cx, |_| Flow::Continue).map_err(|e| e.to_string())?;
    Ok((graph, reports.remove(0), cx.remarks))
}

/// `parse(print(g)) == g`.
fn round_trip(graph: &Graph) -> Result<(), String> {
    let printed = print(graph);
    let parsed = parse(&printed.text, &printed.sidecar).map_err(|e| format!("the text does not parse back: {e}"))?;
    if parsed == *graph { Ok(()) } else { Err(format!("the text parses to another graph:\n{}", printed.text)) }
}

/// The greatest difference at outputs that a pass declares, if it means to lose precision.
fn folder_bound(pass: &str) -> Option<f64> {
    let text = std::fs::read_to_string(root().join(pass).join("bound.txt")).ok()?;
    let number = text.lines().find(|l| !l.starts_with('#')).unwrap_or_default().trim();
    Some(number.parse().unwrap_or_else(|_| panic!("{pass}/bound.txt: `{number}` is not a number")))
}

fn description(report: &PassReport, remarks: &[Remark]) -> String {
    let counters: Vec<_> = report.changed.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let mut lines = vec![if counters.is_empty() { "nothing changed".into() } else { counters.join(", ") }];
    lines.extend(remarks.iter().map(|r| format!("remark: {}", r.message)));
    lines.join("\n")
}
