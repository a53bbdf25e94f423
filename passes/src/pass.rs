//! What a pass is, and what it gets and gives.

use std::sync::Arc;

use fhe_ir::{Domain, Graph, Id, Phase, Value};
use indexmap::IndexMap;
use ndarray::ArrayD;

use crate::budget::Sensitivities;
use crate::options::Options;

/// One transformation of a graph, holding one idea. The manager verifies, dumps, diffs and counts.
pub trait Pass: Sync {
    /// Kebab-case name; also the module, the folder of cases, the docs page and the report row.
    fn name(&self) -> &'static str;

    /// One line for `--list-passes`.
    fn summary(&self) -> &'static str;

    /// Earliest and latest phase it takes.
    fn takes(&self) -> (Phase, Phase);

    /// Phase it gives, or `None` when it keeps the one it got.
    fn gives(&self) -> Option<Phase> {
        None
    }

    /// Rebuilds the graph.
    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError>;
}

/// Something a pass wants to say: why it skipped, what it clipped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Remark {
    /// Pass that speaks.
    pub pass: &'static str,
    /// One phrase.
    pub message: String,
}

/// What passes share during a compilation.
pub struct PassCx<'a> {
    /// The user's choices.
    pub options: &'a Options,
    /// Calibration rows, one array `[rows, ...]` per input; empty before there are any.
    pub calibration: &'a [ArrayD<f32>],
    /// What the running pass did, by kebab-case name; the manager collects it per pass.
    pub counters: IndexMap<&'static str, u64>,
    /// What passes had to say, in order.
    pub remarks: Vec<Remark>,
    /// Rewrites left before passes stop rewriting (`--bisect-limit`).
    pub budget: Option<u64>,
    /// Name of the running pass.
    pub pass: &'static str,
    /// Passes that have run.
    pub passes_run: usize,
    /// What passes leave for later ones besides the graph.
    pub notes: Notes,
}

/// What is no part of a graph but decides which options would change it.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Whether `--n-bits` decided weights; a network may state all of its integers itself.
    pub weights_chosen: bool,
    /// What a variance in front of each table costs, by the name of the table; under a noise budget a table without an
    /// entry costs as much as the mean of the others.
    pub sensitivities: Sensitivities,
    /// Domains from the values seen, by the name of what is read, where those of the worst case were taken.
    pub calibrated: IndexMap<String, Domain>,
}

impl<'a> PassCx<'a> {
    /// A context at the start of a pipeline.
    pub fn new(options: &'a Options, calibration: &'a [ArrayD<f32>]) -> Self {
        Self {
            options,
            calibration,
            counters: IndexMap::new(),
            remarks: vec![],
            budget: None,
            pass: "",
            passes_run: 0,
            notes: Notes::default(),
        }
    }

    /// Counts one rewrite; `false` when the bisection limit forbids it.
    #[must_use]
    pub fn rewrite(&mut self, counter: &'static str) -> bool {
        match &mut self.budget {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        self.count(counter, 1);
        true
    }

    /// Adds to a counter.
    pub fn count(&mut self, counter: &'static str, n: u64) {
        *self.counters.entry(counter).or_insert(0) += n;
    }

    /// Says something.
    pub fn remark(&mut self, message: impl Into<String>) {
        self.remarks.push(Remark { pass: self.pass, message: message.into() });
    }
}

/// Where in a graph an error is: the graph is kept so that a listing can be shown.
#[derive(Clone, Debug)]
pub struct Place {
    /// The graph the pass was given.
    pub graph: Arc<Graph>,
    /// The value.
    pub value: Id<Value>,
}

impl Place {
    /// The place of a value.
    pub fn new(graph: &Graph, value: Id<Value>) -> Self {
        Self { graph: Arc::new(graph.clone()), value }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.graph.place(self.value))
    }
}

/// A model or options that cannot be compiled.
#[derive(Clone, Debug, thiserror::Error, miette::Diagnostic)]
pub enum PassError {
    /// A pass needs calibration rows and there are none.
    #[error("pass {pass} needs calibration data{}", because(lacking))]
    #[diagnostic(code("passes::no-calibration"), help("give rows with --calibration FILE.npy, or --input-range LO,HI"))]
    NoCalibration {
        /// The pass.
        pass: &'static str,
        /// In a network that states integers of its own: the first value without, and why.
        lacking: Option<(Place, &'static str)>,
    },
    /// Calibration rows do not fit the input.
    #[error("the calibration data does not fit")]
    #[diagnostic(
        code("passes::bad-calibration"),
        help("give rows of the shape the model takes, without NaN or infinities")
    )]
    BadCalibration {
        /// What does not fit.
        source: fhe_ir::client::ClientError,
    },
    /// A value became NaN or infinite on calibration data.
    #[error("{place} gives {got} on the calibration data")]
    #[diagnostic(code("passes::not-finite"), help("check that the data is normalised as the model was trained"))]
    NotFinite {
        /// The value.
        place: Place,
        /// The number.
        got: f32,
    },
    /// An op that has no integer form.
    #[error("{place} has no encrypted form: {reason}")]
    #[diagnostic(code("passes::no-integer-form"), help("see the operators in the book, page onnx-support"))]
    NoIntegerForm {
        /// The value.
        place: Place,
        /// Why.
        reason: String,
    },
    /// An accumulator beyond the exact range.
    #[error("the accumulator of {place} is too wide: {reason}")]
    #[diagnostic(
        code("passes::accumulator-too-wide"),
        help("use fewer bits (--n-bits), read it in boxes (--rounding 6), or prune the layer")
    )]
    AccumulatorTooWide {
        /// The value.
        place: Place,
        /// Numbers: got and allowed.
        reason: String,
    },
    /// No parameter set carries a table or an output.
    #[error("no parameters carry {place}: {reason}")]
    #[diagnostic(code("passes::no-parameters"), help("{advice}"))]
    NoParameters {
        /// The value whose noise constraint cannot be met.
        place: Place,
        /// Numbers: bits asked, norm, what dominates.
        reason: String,
        /// Ways out.
        advice: String,
    },
    /// The options contradict each other or the model.
    #[error("{message}")]
    #[diagnostic(code("passes::bad-options"), help("{advice}"))]
    BadOptions {
        /// What.
        message: String,
        /// What to do.
        advice: String,
    },
}

impl PassError {
    /// The value the error is about, for a listing.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::NotFinite { place, .. }
            | Self::NoIntegerForm { place, .. }
            | Self::AccumulatorTooWide { place, .. }
            | Self::NoParameters { place, .. } => Some(place),
            Self::NoCalibration { lacking, .. } => lacking.as_ref().map(|(place, _)| place),
            Self::BadCalibration { .. } | Self::BadOptions { .. } => None,
        }
    }
}

fn because(lacking: &Option<(Place, &'static str)>) -> String {
    lacking.as_ref().map_or(String::new(), |(place, reason)| format!(": {place} states no integers, {reason}"))
}
