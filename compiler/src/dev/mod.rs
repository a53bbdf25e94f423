//! Switches for people who work on the compiler, shared by `fhe-compile` and `fhe-opt`.

mod files;
mod observer;

use std::path::PathBuf;

use clap::Args;
use fhe_passes::{Pass, pipeline};

use crate::failure::Failure;

pub use files::read_listing;
pub use observer::Observer;

/// Which passes run, and what is shown of them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "For people who work on the compiler")]
pub struct DevArgs {
    /// Lists all passes with the phases they take and give.
    #[arg(long)]
    list_passes: bool,
    /// Shows the pipeline that would run.
    #[arg(long)]
    print_pipeline: bool,
    /// Runs these passes, in this order.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    passes: Option<Vec<String>>,
    /// Shows the graph before a pass.
    #[arg(long, value_name = "PASS|all")]
    print_ir_before: Option<String>,
    /// Shows the graph after a pass.
    #[arg(long, value_name = "PASS|all")]
    print_ir_after: Option<String>,
    /// Shows what a pass changed, in the whole graph.
    #[arg(long, value_name = "PASS|all")]
    print_ir_diff: Option<String>,
    /// Writes the graph after each pass and a report of the passes into a folder.
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Ends the pipeline behind the first pass of this name.
    #[arg(long, value_name = "PASS")]
    stop_after: Option<String>,
    /// Shows how long each pass took.
    #[arg(long)]
    time_passes: bool,
    /// Stops rewriting after so many rewrites, whichever pass they belong to.
    #[arg(long, value_name = "K")]
    bisect_limit: Option<u64>,
}

impl DevArgs {
    /// Whether only a list was asked for.
    pub fn list_only(&self) -> bool {
        self.list_passes || self.print_pipeline
    }

    /// Prints the lists that were asked for to stdout; the pipeline is the default one unless passes are named.
    pub fn list(&self) -> Result<(), Failure> {
        if self.list_passes {
            print!("{}", pass_table());
        }
        if self.print_pipeline {
            print!("{}", pipeline_text(&self.pipeline(pipeline::DEFAULT)?));
        }
        Ok(())
    }

    /// The passes that were asked for, or `default`.
    pub fn pipeline(&self, default: &[&'static dyn Pass]) -> Result<Vec<&'static dyn Pass>, Failure> {
        match &self.passes {
            None => Ok(default.to_vec()),
            Some(names) => {
                let names = names.iter().map(|n| n.trim()).filter(|n| !n.is_empty());
                names.map(|name| pass("--passes", name)).collect()
            }
        }
    }

    /// Whether passes were named.
    pub fn names_passes(&self) -> bool {
        self.passes.is_some()
    }

    /// Rewrites allowed, when they are limited.
    pub fn bisect_limit(&self) -> Option<u64> {
        self.bisect_limit
    }

    /// Whether listings or differences go to stderr.
    pub fn prints_graphs(&self) -> bool {
        self.print_ir_before.is_some() || self.print_ir_after.is_some() || self.print_ir_diff.is_some()
    }

    /// What watches the pipeline. Checks the names of passes and the dump folder.
    pub fn observer(&self) -> Result<Observer, Failure> {
        let filter = |option: &'static str, name: &Option<String>| match name.as_deref() {
            Some("all") | None => Ok(name.clone()),
            Some(name) => pass(option, name).map(|p| Some(p.name().to_owned())),
        };
        if let Some(dir) = &self.dump_dir {
            std::fs::create_dir_all(dir).map_err(|e| Failure::unwritable(dir, e))?;
        }
        if let Some(name) = &self.stop_after {
            pass("--stop-after", name)?;
        }
        Ok(Observer::new(
            [
                filter("--print-ir-before", &self.print_ir_before)?,
                filter("--print-ir-after", &self.print_ir_after)?,
                filter("--print-ir-diff", &self.print_ir_diff)?,
            ],
            self.stop_after.clone(),
            self.dump_dir.clone(),
            self.time_passes,
        ))
    }
}

/// The pass of a name; an unknown name is answered with the valid ones.
fn pass(option: &'static str, name: &str) -> Result<&'static dyn Pass, Failure> {
    pipeline::find(name).ok_or_else(|| {
        let all: Vec<_> = pipeline::ALL.iter().map(|p| p.name()).collect();
        Failure::usage(option, format!("there is no pass {name:?}; the passes are {}", all.join(", ")))
    })
}

/// Name, phases and one line of every pass.
pub fn pass_table() -> String {
    let rows = pipeline::ALL.iter().map(|pass| {
        let (from, to) = pass.takes();
        let takes = if from == to { from.to_string() } else { format!("{from} to {to}") };
        let gives = pass.gives().map_or("the same".into(), |g| g.to_string());
        [pass.name().into(), takes, gives, pass.summary().into()]
    });
    let head = ["pass", "takes", "gives", "what it does"].map(String::from);
    observer::table(std::iter::once(head).chain(rows).collect())
}

/// The passes in order, with the phase that each takes and gives.
fn pipeline_text(passes: &[&'static dyn Pass]) -> String {
    let rows = passes.iter().enumerate().map(|(i, pass)| {
        let (from, to) = pass.takes();
        let takes = if from == to { from.to_string() } else { format!("{from} to {to}") };
        [
            format!("{:02}", i + 1),
            pass.name().into(),
            takes,
            pass.gives().map_or(String::new(), |g| format!("gives {g}")),
        ]
    });
    observer::table(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_passes_are_answered_with_the_valid_ones() {
        let args = DevArgs { passes: Some(vec!["quantise".into()]), ..DevArgs::default() };
        let message = args.pipeline(pipeline::DEFAULT).map(|_| ()).expect_err("it is misspelt").to_string();
        assert!(message.contains("quantise") && message.contains("fold-constants, canonicalize"), "{message}");
    }

    #[test]
    fn named_passes_keep_their_order() {
        let args =
            DevArgs { passes: Some(vec!["canonicalize".into(), " fold-constants".into()]), ..DevArgs::default() };
        let names: Vec<_> = args.pipeline(&[]).expect("both exist").iter().map(|p| p.name()).collect();
        assert_eq!(names, ["canonicalize", "fold-constants"]);
    }
}
