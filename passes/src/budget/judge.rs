//! Whether a circuit loses too much against a reference network, on rows.

use fhe_ir::Graph;
use fhe_ir::client::ClientError;
use ndarray::{ArrayD, Axis, Slice};

use super::margins;
use super::paired::Paired;
use crate::accuracy::{self, Measured};

/// Rows on which circuits are compared with one another; the best is confirmed on all.
const SCREENED: usize = 1024;

/// Rows simulated before a candidate may be given up.
const CHUNK: usize = 256;

/// Rows, and the classes that count as right.
pub struct Data<'a> {
    /// Rows per input.
    pub inputs: &'a [ArrayD<f32>],
    /// Class of each row: its label, or what the float model says.
    pub reference: &'a [usize],
}

/// Which rows a circuit is simulated on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Evenly spread ones, on which the loss is expected from margins: see [`margins`].
    Sample,
    /// All, which have to certify the budget.
    All,
}

impl Data<'_> {
    /// The same rows in another order: the first of them are spread evenly over all.
    pub(super) fn spread(&self) -> (Vec<ArrayD<f32>>, Vec<usize>) {
        let count = self.reference.len();
        let stride = count.div_ceil(SCREENED).max(1);
        let order: Vec<usize> = (0..stride).flat_map(|first| (first..count).step_by(stride)).collect();
        let inputs = self.inputs.iter().map(|x| x.select(Axis(0), &order)).collect();
        (inputs, order.iter().map(|&row| self.reference[row]).collect())
    }

    /// `count` rows from row `first` on, or fewer at the end.
    pub(super) fn chunk(&self, first: usize, count: usize) -> (Vec<ArrayD<f32>>, &[usize]) {
        let end = (first + count).min(self.reference.len());
        let rows = |x: &ArrayD<f32>| x.slice_axis(Axis(0), Slice::from(first..end)).to_owned();
        (self.inputs.iter().map(rows).collect(), &self.reference[first..end])
    }
}

/// Bound of the loss that is accepted: the budget where rows suffice to certify it, else that of a circuit that loses it and
/// changes as many classes as [`Paired::certifiable`] takes for worth having.
pub(super) fn allowed(budget: f64, certifiable: f64) -> f64 {
    if certifiable <= budget { budget } else { budget + certifiable }
}

/// What a network makes of rows.
#[derive(Default)]
pub(super) struct Known {
    /// Whether it has each row right.
    right: Vec<bool>,
    /// By how much, and wrong where it is below 0: see [`margins`].
    margins: Vec<f32>,
}

impl Known {
    pub(super) fn of(measured: &Measured, rows: &Data<'_>) -> Self {
        let right = measured.classes.iter().zip(rows.reference).map(|(a, b)| a == b).collect();
        Self { right, margins: margins::of(&measured.scores, rows.reference) }
    }
}

/// Compares simulated circuits with a network.
pub(super) struct Judge<'a> {
    pub(super) rows: &'a Data<'a>,
    pub(super) known: Known,
    /// Loss that is accepted on the rows themselves.
    pub(super) budget: f64,
    /// Upper bound of the loss that is accepted; see [`allowed`].
    pub(super) allowed: f64,
    pub(super) seed: u64,
}

impl Judge<'_> {
    /// Simulates rows, chunk by chunk, and compares; `None` when more is lost than the budget.
    pub(super) fn compare(&self, circuit: &Graph, rows: Rows) -> Result<Option<Paired>, ClientError> {
        let all = self.rows.reference.len();
        let count = if rows == Rows::All { all } else { all.min(SCREENED) };
        let (mut paired, mut noisy) = (Paired::default(), vec![]);
        for first in (0..count).step_by(CHUNK) {
            let (inputs, reference) = self.rows.chunk(first, CHUNK.min(count - first));
            let measured = accuracy::simulated_from(circuit, &inputs, self.seed, first)?;
            for ((class, wanted), right) in measured.classes.iter().zip(reference).zip(&self.known.right[first..]) {
                paired.add(*right, class == wanted);
            }
            noisy.extend(margins::of(&measured.scores, reference));
            if paired.is_hopeless(self.budget) {
                return Ok(None);
            }
        }
        let within = match rows {
            Rows::Sample => margins::expected_loss(&self.known.margins[..count], &noisy) <= self.budget,
            Rows::All => paired.loss() <= self.budget && paired.upper_bound() <= self.allowed,
        };
        Ok(within.then_some(paired))
    }
}
