//! Accuracy of the float model, of its integer circuit and of the circuit with noise, on rows of data.
//!
//! Rows are evaluated block by block: memory does not grow with their number.

use fhe_ir::client::{self, ClientError};
use fhe_ir::{Graph, Op, Phase, eval};
use ndarray::{ArrayD, Axis, Slice};
use serde::{Deserialize, Serialize};

/// Fractions of rows on one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Number of rows.
    pub rows: usize,
    /// Whether the fractions are against labels; otherwise they are agreement with the float model.
    pub labelled: bool,
    /// The float model.
    pub float: f64,
    /// The integer circuit without noise.
    pub integer: f64,
    /// The circuit with sampled noise.
    pub simulated: f64,
    /// Rows whose class the noise changes.
    pub changed_by_noise: f64,
    /// Tables read outside their domain, as a fraction of all readings of the integer circuit.
    pub saturated: f64,
}

/// What an integer graph makes of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Class of each row.
    pub classes: Vec<usize>,
    /// What classes are compared by, row after row.
    pub scores: Vec<f32>,
    /// Tables read outside their domain, as a fraction of all readings.
    pub saturated: f64,
}

/// Rows evaluated together, few enough for the memory of large networks and a multiple of what evaluators chunk.
const BLOCK: usize = 64;

/// Calls `f(first row, rows)` for block after block.
fn for_each_block(
    rows: &[ArrayD<f32>],
    mut f: impl FnMut(usize, &[ArrayD<f32>]) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let all = rows.iter().map(|x| x.shape().first().copied().unwrap_or(0)).max().unwrap_or(0);
    for first in (0..all).step_by(BLOCK) {
        let block = |x: &ArrayD<f32>| {
            let end = x.shape().first().copied().unwrap_or(0);
            x.slice_axis(Axis(0), Slice::from(first.min(end)..(first + BLOCK).min(end))).to_owned()
        };
        let block: Vec<_> = rows.iter().map(block).collect();
        f(first, &block).map_err(|error| match error {
            ClientError::NotFinite { input, row, value } => ClientError::NotFinite { input, row: first + row, value },
            other => other,
        })?;
    }
    Ok(())
}

/// The class that a float model gives each row.
pub fn float(model: &Graph, rows: &[ArrayD<f32>]) -> Result<Vec<usize>, ClientError> {
    let mut classes = vec![];
    for_each_block(rows, |_, rows| {
        let rows = client::check_inputs(model, rows)?;
        classes.extend(client::classes(&scores_of(model, &eval::float(model, &rows)[0])));
        Ok(())
    })?;
    Ok(classes)
}

/// What classes are compared by: the first output, behind what the client does element by element.
fn scores_of(graph: &Graph, logits: &ArrayD<f32>) -> ArrayD<f32> {
    client::scores(&graph.outputs[0].post, logits)
}

/// The class that an integer graph of any phase gives each row, without noise.
pub fn integer(graph: &Graph, rows: &[ArrayD<f32>]) -> Result<Measured, ClientError> {
    evaluated(graph, rows, |_, ints| eval::integer(graph, ints))
}

/// The class that a circuit with sampled noise gives each row.
pub fn simulated(circuit: &Graph, rows: &[ArrayD<f32>], seed: u64) -> Result<Measured, ClientError> {
    simulated_from(circuit, rows, seed, 0)
}

/// As [`simulated`] for rows that are the part of a larger batch that begins with row `first_row`.
pub(crate) fn simulated_from(
    circuit: &Graph,
    rows: &[ArrayD<f32>],
    seed: u64,
    first_row: usize,
) -> Result<Measured, ClientError> {
    evaluated(circuit, rows, |first, ints| eval::simulate_from(circuit, ints, seed, first_row + first))
}

fn evaluated(
    graph: &Graph,
    rows: &[ArrayD<f32>],
    evaluate: impl Fn(usize, &[ArrayD<i64>]) -> eval::Evaluation,
) -> Result<Measured, ClientError> {
    let (mut classes, mut scores, mut saturated) = (vec![], vec![], 0);
    for_each_block(rows, |first, rows| {
        let ints = rows.iter().enumerate().map(|(i, x)| client::quantize_rows(graph, i, x));
        let result = evaluate(first, &ints.collect::<Result<Vec<_>, _>>()?);
        let block = scores_of(graph, &client::dequantize(graph, 0, &result.outputs[0]));
        classes.extend(client::classes(&block));
        scores.extend(block.iter());
        saturated += result.saturated.iter().sum::<u64>();
        Ok(())
    })?;
    let tables = graph.values.iter().filter(|v| matches!(v.op, Op::Lut { .. } | Op::Pbs { .. }));
    let readings = tables.map(|v| v.elements()).sum::<usize>() * classes.len();
    Ok(Measured { classes, scores, saturated: saturated as f64 / readings.max(1) as f64 })
}

/// Fraction of rows on which two lists of classes agree.
pub fn agreement(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// Accuracy of a model and its circuit on rows, against labels or against the float model.
pub fn measure(
    model: &Graph,
    circuit: &Graph,
    rows: &[ArrayD<f32>],
    labels: Option<&[usize]>,
    seed: u64,
) -> Result<Accuracy, ClientError> {
    debug_assert_eq!(circuit.phase, Phase::Circuit, "noise belongs to circuits");
    let float = float(model, rows)?;
    let (integer, simulated) = (integer(circuit, rows)?, simulated(circuit, rows, seed)?);
    let reference = labels.unwrap_or(&float);
    Ok(Accuracy {
        rows: float.len(),
        labelled: labels.is_some(),
        float: agreement(&float, reference),
        integer: agreement(&integer.classes, reference),
        simulated: agreement(&simulated.classes, reference),
        changed_by_noise: 1.0 - agreement(&integer.classes, &simulated.classes),
        saturated: integer.saturated,
    })
}
