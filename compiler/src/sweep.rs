//! Sweeps: one compilation for each combination of options, one CSV row each; a sweep goes on where it stopped.
//!
//! A row belongs to a job: the digest of the model, the data and the options that are not swept. Rows of other jobs in the
//! same file are left alone and never taken for an answer.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::compile::Report;

/// Columns of a sweep file. The first four name the job and the combination.
const HEAD: &str = "job,n_bits,rounding,p_error,rows,float,integer,simulated,lookups,widest_accumulator_bits,\
                    parameters,predicted_single_thread_s,key_bytes,error";

/// A sweep file under construction.
pub struct Sweep {
    file: File,
    job: String,
    done: HashSet<String>,
}

impl Sweep {
    /// Opens a sweep file, or starts it; rows that are already there will not be computed again.
    ///
    /// A last line without its end (a sweep that was killed) is dropped.
    pub fn open(path: &Path, job: &str) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        if !whole.is_empty() && whole.lines().next() != Some(HEAD) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is not a sweep of this version"));
        }
        // A combination is what stands in front of the fourth comma.
        let combination = |row: &str| row.match_indices(',').nth(3).map(|(at, _)| row[..at].to_owned());
        let done = whole.lines().skip(1).filter_map(combination).collect();
        std::fs::write(path, if whole.is_empty() { format!("{HEAD}\n") } else { whole.to_owned() })?;
        Ok(Self { job: job.to_owned(), file: OpenOptions::new().append(true).open(path)?, done })
    }

    /// Whether a combination is in the file.
    pub fn has(&self, n_bits: &str, rounding: &str, p_error: &str) -> bool {
        self.done.contains(&format!("{},{n_bits},{rounding},{p_error}", self.job))
    }

    /// Appends a combination: its report, or why it cannot be compiled.
    pub fn add(&mut self, combination: [&str; 3], result: Result<&Report, &str>) -> io::Result<()> {
        let key = format!("{},{}", self.job, combination.join(","));
        let row = match result {
            Ok(r) => {
                let s = &r.statistics;
                let accuracy = r
                    .accuracy
                    .as_ref()
                    .map_or(",,,".into(), |a| format!("{},{:.4},{:.4},{:.4}", a.rows, a.float, a.integer, a.simulated));
                format!(
                    "{key},{accuracy},{},{:.2},{},{:.3},{},",
                    s.total.bootstraps,
                    s.total.accumulator_bits.unwrap_or(0.0),
                    s.parameters.join(" "),
                    r.predicted_single_thread_ns * 1e-9,
                    s.bootstrap_key_bytes + s.keyswitch_key_bytes
                )
            }
            Err(why) => format!("{key},,,,,,,,,,\"{}\"", why.replace(['\n', '"'], " ")),
        };
        writeln!(self.file, "{row}")?;
        self.file.flush()?;
        self.done.insert(key);
        Ok(())
    }
}
