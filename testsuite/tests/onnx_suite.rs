//! The ONNX backend test suite against the recorded statuses: no drift, nothing wrong, and enough of it passes.

use std::collections::BTreeMap;
use std::fs;

use fhe_testsuite::conformance::scope::{COUNTED, left_out};
use fhe_testsuite::conformance::{self, Record, Status, record, run_all, table};

fn recorded() -> BTreeMap<String, Record> {
    let text = fs::read_to_string(conformance::record_file()).expect("the status file");
    record::parse(&text).expect("the status file is well formed")
}

/// What a new run says differently from the records.
fn drift(records: &BTreeMap<String, Record>, now: &BTreeMap<String, Record>) -> Vec<String> {
    let differs = |(case, record): &(&String, &Record)| records.get(*case) != Some(*record);
    now.iter().filter(differs).map(|(_, record)| record.to_string()).collect()
}

#[test]
fn the_bundled_cases_are_as_recorded() {
    let cases = conformance::cases(&conformance::bundled()).expect("the bundled cases");
    assert!(cases.len() > 60, "found only {}", cases.len());
    let drift = drift(&recorded(), &run_all(&cases));
    assert!(drift.is_empty(), "not as recorded:\n{}", drift.join("\n"));
}

#[test]
fn the_whole_suite_is_as_recorded() {
    let Some(folder) = conformance::folder() else {
        println!("there is no {}: only the bundled cases ran (fetch-onnx-suite fetches it)", conformance::VARIABLE);
        return;
    };
    let now = run_all(&conformance::cases(&folder).expect("the suite"));
    let records = recorded();
    let drift = drift(&records, &now);
    let gone: Vec<_> = records.keys().filter(|case| !now.contains_key(*case)).collect();
    assert!(drift.is_empty() && gone.is_empty(), "not as recorded:\n{}\ngone: {gone:?}", drift.join("\n"));
}

#[test]
fn nothing_is_wrong_and_every_failure_has_a_reason() {
    let records = recorded();
    for record in records.values() {
        assert!(!matches!(record.status, Status::Wrong | Status::Panic), "{record}");
        assert!(record.status == Status::Pass || record.reason != "-", "{record}");
    }
    for line in table::totals(&records) {
        println!("{line}");
    }
}

/// Totals never fall: what passes once is a promise.
#[test]
fn enough_of_the_suite_passes() {
    let records = recorded();
    let single = table::single(&records);
    assert!(single.passed >= 480, "{} of {} cases of single operators", single.passed, single.total);
    let exported = table::kind(&records, "pytorch-converted");
    assert_eq!((exported.passed, exported.total), (82, 82));
}

#[test]
fn every_operator_of_the_suite_counts_or_is_left_out_for_a_reason() {
    let undecided: Vec<_> = recorded()
        .into_values()
        .filter(|r| r.operator != "-" && !COUNTED.contains(&r.operator.as_str()) && left_out(&r.operator).is_none())
        .map(|r| r.to_string())
        .collect();
    assert!(undecided.is_empty(), "{}", undecided.join("\n"));
}

#[test]
fn the_page_is_made_from_the_records() {
    let page = fs::read_to_string(conformance::page_file()).expect("the page");
    assert!(page == table::page(&recorded()), "run onnx-conformance: the page is not made from the status file");
}

#[test]
fn a_changed_status_is_drift() {
    let records = recorded();
    let mut now = records.clone();
    assert!(drift(&records, &now).is_empty());
    let first = now.values_mut().next().expect("records");
    first.status = if first.status == Status::Wrong { Status::Pass } else { Status::Wrong };
    assert_eq!(drift(&records, &now).len(), 1);
}
