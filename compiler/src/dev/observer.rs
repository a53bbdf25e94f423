//! Watches a pipeline: listings and differences on stderr, dumps in a folder, clocks.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fhe_ir::Graph;
use fhe_ir::text::to_text;
use fhe_passes::{Event, Flow, PassReport, Trial, Tried, diff};

use super::files;
use crate::failure::Failure;

/// See the module; made by [`super::DevArgs::observer`].
pub struct Observer {
    before: Option<String>,
    after: Option<String>,
    diff: Option<String>,
    stop_after: Option<String>,
    dump_dir: Option<PathBuf>,
    time_passes: bool,
    started: Instant,
    reports: Vec<(PassReport, Duration)>,
    failure: Option<Failure>,
    /// Whether a line of progress stands on the terminal.
    progress: bool,
}

impl Observer {
    pub(super) fn new(
        [before, after, diff]: [Option<String>; 3],
        stop_after: Option<String>,
        dump_dir: Option<PathBuf>,
        time_passes: bool,
    ) -> Self {
        let (started, reports, failure) = (Instant::now(), vec![], None);
        Self { before, after, diff, stop_after, dump_dir, time_passes, started, reports, failure, progress: false }
    }

    /// Shows what was asked for of one event.
    pub fn event(&mut self, event: Event<'_>) -> Flow {
        let wanted = |filter: &Option<String>, pass: &str| filter.as_deref().is_some_and(|f| f == "all" || f == pass);
        match event {
            Event::Before { number, pass, graph } => {
                if wanted(&self.before, pass) {
                    eprint!("# before {number:02} {pass}\n{}", to_text(graph));
                }
                if number == 1 {
                    self.dump("00.input", graph);
                }
                self.started = Instant::now();
                Flow::Continue
            }
            Event::Trial(trial) => {
                if std::io::stderr().is_terminal() {
                    eprint!("\r\x1b[Ksearch    {}", in_words(&trial));
                    self.progress = true;
                }
                Flow::Continue
            }
            Event::After { before, after, report } => {
                let (time, number, pass) = (self.started.elapsed(), report.number, report.pass);
                if wanted(&self.after, pass) {
                    eprint!("# after {number:02} {pass}\n{}", to_text(after));
                }
                if wanted(&self.diff, pass) {
                    let changes = match changes(report).as_str() {
                        "nothing" if before != after => "no rewrite counted".to_owned(),
                        changes => changes.to_owned(),
                    };
                    eprint!(
                        "# diff {number:02} {pass}: {changes}\n{}",
                        diff::full_context(&to_text(before), &to_text(after))
                    );
                }
                self.dump(&format!("{number:02}.{pass}.after"), after);
                self.reports.push((report.clone(), time));
                if self.stop_after.as_deref() == Some(pass) { Flow::Stop } else { Flow::Continue }
            }
        }
    }

    /// Shows the clocks and writes the report; fails when a dump could not be written.
    pub fn finish(mut self) -> Result<(), Failure> {
        if self.progress {
            eprint!("\r\x1b[K");
        }
        if self.time_passes {
            eprint!("{}", self.report());
        }
        if let Some(dir) = &self.dump_dir {
            let reports: Vec<_> = self.reports.iter().map(|(report, _)| report).collect();
            let json = serde_json::to_string_pretty(&reports).expect("reports have string keys");
            let path = dir.join("passes.json");
            let written = std::fs::write(&path, json + "\n").map_err(|e| Failure::unwritable(&path, e));
            self.failure = self.failure.take().or(written.err());
        }
        self.failure.map_or(Ok(()), Err)
    }

    fn dump(&mut self, name: &str, graph: &Graph) {
        if let Some(dir) = &self.dump_dir
            && self.failure.is_none()
        {
            self.failure = files::write_listing(dir, name, graph).err();
        }
    }

    fn report(&self) -> String {
        let head = ["#", "pass", "values", "luts", "widest", "ms", "changed"].map(String::from);
        let rows = self.reports.iter().map(|(report, time)| {
            [
                report.number.to_string(),
                report.pass.into(),
                report.values.to_string(),
                report.luts.to_string(),
                report.widest_bits.map_or("-".into(), |b| format!("{b:.2}")),
                format!("{:.1}", time.as_secs_f64() * 1e3),
                changes(report),
            ]
        });
        table(std::iter::once(head).chain(rows).collect())
    }
}

fn in_words(trial: &Trial) -> String {
    let Trial { simulation, tried, cost_ns, within } = trial;
    let tried = match tried {
        Tried::Noise { log2_noise, domain_margin, op_weights, output_weights } => {
            let last =
                if output_weights < op_weights { format!(" ({output_weights} at outputs)") } else { String::new() };
            format!("noise 2^{log2_noise}, margin {domain_margin}, {op_weights}-bit weights{last}")
        }
        Tried::Boxes { bits, coarser: 0 } => format!("rounding {bits}"),
        Tried::Boxes { bits, coarser } => format!("rounding {bits}, {coarser} tables coarser"),
    };
    let verdict = if *within { "kept" } else { "loses too much" };
    format!("simulation {simulation}: {tried}, {:.1} s per row: {verdict}", cost_ns * 1e-9)
}

fn changes(report: &PassReport) -> String {
    let counters: Vec<_> = report.changed.iter().map(|(name, n)| format!("{name} {n}")).collect();
    if counters.is_empty() { "nothing".into() } else { counters.join(", ") }
}

/// Columns of equal width, two spaces between them.
pub(super) fn table<const N: usize>(rows: Vec<[String; N]>) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
