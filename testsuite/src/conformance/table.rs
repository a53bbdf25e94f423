//! The page of the book: cases passed per operator.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::case::KINDS;
use super::record::{How, Record, Status};
use super::scope::{COUNTED, LEFT_OUT};

/// Cases passed of cases that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases.
    pub total: usize,
    /// Passed.
    pub passed: usize,
    /// Passed with at least one encrypted input.
    pub on_values: usize,
    /// Have an integer circuit as well.
    pub encrypted: usize,
}

impl Tally {
    fn add(&mut self, record: &Record) {
        self.total += 1;
        self.passed += usize::from(record.status == Status::Pass);
        self.on_values += usize::from(record.status == Status::Pass && record.how != How::Constant);
        self.encrypted += usize::from(record.encrypted);
    }
}

/// Cases of single operators, per operator that counts.
pub fn operators(records: &BTreeMap<String, Record>) -> BTreeMap<&'static str, Tally> {
    let mut tallies: BTreeMap<&'static str, Tally> = COUNTED.iter().map(|o| (*o, Tally::default())).collect();
    for record in records.values().filter(|r| is_single(r)) {
        if let Some(tally) = tallies.get_mut(record.operator.as_str()) {
            tally.add(record);
        }
    }
    tallies
}

/// All cases of single operators that count.
pub fn single(records: &BTreeMap<String, Record>) -> Tally {
    operators(records).values().fold(Tally::default(), |a, b| Tally {
        total: a.total + b.total,
        passed: a.passed + b.passed,
        on_values: a.on_values + b.on_values,
        encrypted: a.encrypted + b.encrypted,
    })
}

/// All cases of a kind.
pub fn kind(records: &BTreeMap<String, Record>, kind: &str) -> Tally {
    let mut tally = Tally::default();
    for record in records.values().filter(|r| r.case.split('/').next() == Some(kind)) {
        tally.add(record);
    }
    tally
}

fn is_single(record: &Record) -> bool {
    record.case.starts_with("node/") && record.operator != "-"
}

/// How many cases have a status.
pub fn count(records: &BTreeMap<String, Record>, status: Status) -> usize {
    records.values().filter(|r| r.status == status).count()
}

const HEAD: &str = "\
# Conformance

<!-- Written by `cargo run --release -p fhe-testsuite --bin onnx-conformance`. -->

The ONNX project ships a test suite with its package `onnx`, up to version 1.22.0: models with inputs and the outputs they
must give. Every model of its folders `node`, `pytorch-converted`, `pytorch-operator` and `simple` goes through the
[reader](onnx-support.md) and the float evaluator; outputs agree within the tolerances of the suite's own runner (1e-3
relative, 1e-7 absolute). The status of each case, and the reason where it does not pass, is in
`testsuite/onnx-suite.tsv`; a test compares it with a new run.

```console
$ testsuite/fetch-onnx-suite
$ cargo run --release -p fhe-testsuite --bin onnx-conformance
```

The first command fetches the suite; the second runs it and writes the status file and this page. Without the suite the
tests run the cases that are part of the repository.

A case passes in one of three ways, in this order: with its first axis as the batch and every entry a row; as one row
without a batch axis; or, where no output depends on encrypted numbers, at compile time. Inputs behind the first
become constants of the model where the operator has no form for encrypted ones.

";

/// The page.
pub fn page(records: &BTreeMap<String, Record>) -> String {
    let mut out = HEAD.to_string();
    // Writing to a string does not fail.
    let _ = writeln!(out, "| Cases | Passed | Total |\n|---|---|---|");
    let mut row = |name: &str, t: Tally| {
        let _ = writeln!(out, "| {name} | {} | {} |", t.passed, t.total);
    };
    row("operators of inference, one node", single(records));
    for name in KINDS {
        row(&format!("`{name}`, whole folder"), kind(records, name));
    }
    let _ = writeln!(
        out,
        "\n## Operators\n\nModels of one node. *Passed*: in float. *Encrypted*: so many of these also become an integer \
         circuit with\nthe default options, calibrated on the case's own inputs.\n\n\
         | Operator | Passed | Total | Encrypted |\n|---|---|---|---|"
    );
    for (operator, t) in operators(records) {
        let encrypted = match t {
            Tally { encrypted: 0, on_values: 0, passed: 1.., .. } => "compile time".to_string(),
            Tally { encrypted: 0, .. } => "no".into(),
            Tally { encrypted, .. } => format!("yes ({encrypted})"),
        };
        let _ = writeln!(out, "| `{operator}` | {} | {} | {encrypted} |", t.passed, t.total);
    }
    let _ = writeln!(out, "\n## Left out\n\nNot counted above, by reason:\n");
    for (reason, operators) in LEFT_OUT {
        let list: Vec<String> = operators.iter().map(|o| format!("`{o}`")).collect();
        let _ = writeln!(out, "- {reason}: {}", list.join(", "));
    }
    out
}

/// The totals, one line each.
pub fn totals(records: &BTreeMap<String, Record>) -> Vec<String> {
    let t = single(records);
    let mut lines = vec![format!("operators of inference, one node: {} of {}", t.passed, t.total)];
    lines.extend(KINDS.map(|name| {
        let t = kind(records, name);
        format!("{name}: {} of {}", t.passed, t.total)
    }));
    let statuses = [Status::Pass, Status::Wrong, Status::Panic, Status::Refused, Status::Skipped];
    lines.push(statuses.map(|s| format!("{} {}", count(records, s), s.name())).join(", "));
    lines
}
