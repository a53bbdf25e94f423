//! The file of recorded statuses: one line per case, fields separated by tabs.

use std::collections::BTreeMap;
use std::fmt;

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// The outputs are those of the suite.
    Pass,
    /// They are not: a defect.
    Wrong,
    /// The program stopped by itself: a defect.
    Panic,
    /// The reader says why it does not take the model.
    Refused,
    /// The case is about something that no encrypted network has.
    Skipped,
}

impl Status {
    const ALL: [Self; 5] = [Self::Pass, Self::Wrong, Self::Panic, Self::Refused, Self::Skipped];

    /// Name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Wrong => "wrong",
            Self::Panic => "panic",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
        }
    }
}

/// How a case passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It did not.
    Not,
    /// Its first axis is the batch: one row per entry.
    Rows,
    /// Its inputs have no batch axis: one row.
    Whole,
    /// Its outputs are known at compile time.
    Constant,
}

impl How {
    const ALL: [Self; 4] = [Self::Not, Self::Rows, Self::Whole, Self::Constant];

    /// Name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Not => "-",
            Self::Rows => "rows",
            Self::Whole => "whole",
            Self::Constant => "constant",
        }
    }
}

/// The line of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `kind/name`.
    pub case: String,
    /// The operator of a model with one node; `-` where there are more.
    pub operator: String,
    /// What came of it.
    pub status: Status,
    /// How it passed.
    pub how: How,
    /// Whether it compiles to an integer circuit as well.
    pub encrypted: bool,
    /// Why it did not pass, or why there is no integer circuit; `-` where there is nothing to say.
    pub reason: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = if self.encrypted { "encrypted" } else { "-" };
        let Self { case, operator, status, how, reason, encrypted: _ } = self;
        write!(f, "{case}\t{operator}\t{}\t{}\t{encrypted}\t{reason}", status.name(), how.name())
    }
}

/// Names of the fields: the first line of the file.
const HEADER: &str = "case\toperator\tstatus\thow\tencrypted\treason";

/// The text of the file.
pub fn print(records: &[Record]) -> String {
    let mut text = format!("{HEADER}\n");
    for record in records {
        text.push_str(&format!("{record}\n"));
    }
    text
}

/// The records of the file, by case. The error names the first line that is none.
pub fn parse(text: &str) -> Result<BTreeMap<String, Record>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("the first line is not `{HEADER}`"));
    }
    let mut records = BTreeMap::new();
    for line in lines {
        let record = parse_line(line).ok_or_else(|| format!("no record: `{line}`"))?;
        if let Some(twice) = records.insert(record.case.clone(), record) {
            return Err(format!("{} has two lines", twice.case));
        }
    }
    Ok(records)
}

fn parse_line(line: &str) -> Option<Record> {
    let [case, operator, status, how, encrypted, reason] = line.split('\t').collect::<Vec<_>>()[..] else {
        return None;
    };
    Some(Record {
        case: case.into(),
        operator: operator.into(),
        status: Status::ALL.into_iter().find(|s| s.name() == status)?,
        how: How::ALL.into_iter().find(|h| h.name() == how)?,
        encrypted: match encrypted {
            "encrypted" => true,
            "-" => false,
            _ => return None,
        },
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_back() {
        let record = Record {
            case: "node/relu".into(),
            operator: "Relu".into(),
            status: Status::Pass,
            how: How::Rows,
            encrypted: true,
            reason: "-".into(),
        };
        let text = print(std::slice::from_ref(&record));
        assert_eq!(parse(&text), Ok(BTreeMap::from([("node/relu".into(), record.clone())])));
        assert!(parse(&text.replace("pass", "fine")).is_err());
        assert!(parse(&format!("{text}{record}\n")).is_err(), "two lines");
        assert!(parse("").is_err());
    }
}
