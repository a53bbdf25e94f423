//! How long work reports where it is.

/// One report: `done` of `total` units of the work named `what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The work, in a few words; reports of one piece of work have the same.
    pub what: &'a str,
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// Receiver of reports; called from any thread.
pub type Progress<'a> = &'a (dyn Fn(Step<'_>) + Sync);

/// Drops all reports.
pub fn silent(_: Step<'_>) {}
