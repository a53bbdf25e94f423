//! Whether two graphs mean the same, by evaluating both.

use fhe_ir::{Graph, client, eval};
use ndarray::{ArrayD, Dimension};

use super::choices::Choices;

/// Rows on which real graphs are compared.
const REAL_ROWS: usize = 64;

/// Integer graphs with at most this many different inputs are compared on all of them.
const ALL_ROWS: usize = 4096;

/// Random rows for the others.
const RANDOM_ROWS: usize = 256;

/// Difference of real outputs that rounding of f32 may cause, relative to the greatest output.
const REAL_TOLERANCE: f64 = 1e-5;

/// Compares what the client sees of both graphs. Without a `bound`, integers must be equal and reals equal up to
/// rounding.
pub(super) fn check(before: &Graph, after: &Graph, choices: &Choices, bound: Option<f64>) -> Result<(), String> {
    if before.outputs.len() != after.outputs.len() || before.inputs().len() != after.inputs().len() {
        return Err("the graph has other inputs or outputs".into());
    }
    let (mut a, mut b);
    if before.phase.is_real() {
        let rows = choices.real_rows(before, REAL_ROWS);
        a = eval::float(before, &rows);
        b = if after.phase.is_real() {
            eval::float(after, &rows)
        } else {
            let rows: Result<Vec<_>, _> =
                rows.iter().enumerate().map(|(i, x)| client::quantize_rows(after, i, x)).collect();
            dequantized(after, &rows.map_err(|e| e.to_string())?)
        };
    } else {
        let rows = choices.integer_rows(before, ALL_ROWS, RANDOM_ROWS);
        if bound.is_none() {
            let (a, b) = (eval::integer(before, &rows).outputs, eval::integer(after, &rows).outputs);
            if a != b {
                return Err(first_difference(before, &a, &b));
            }
        }
        a = dequantized(before, &rows);
        b = dequantized(after, &rows);
    }
    for (i, output) in before.outputs.iter().enumerate() {
        if output.post != after.outputs[i].post {
            a[i] = client::post_process(&output.post, &a[i]);
            b[i] = client::post_process(&after.outputs[i].post, &b[i]);
        }
        let size = a[i].iter().map(|e| f64::from(e.abs())).fold(0.0, f64::max);
        let allowed = bound.unwrap_or(if before.phase.is_real() { REAL_TOLERANCE * size } else { 0.0 });
        let worst = a[i].iter().zip(&b[i]).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        // A NaN anywhere fails too.
        let finite = a[i].iter().chain(&b[i]).all(|e| e.is_finite());
        if a[i].shape() != b[i].shape() || !finite || worst > allowed {
            return Err(format!("output \"{}\" differs by {worst}, allowed {allowed}", output.name));
        }
    }
    Ok(())
}

fn dequantized(graph: &Graph, rows: &[ArrayD<i64>]) -> Vec<ArrayD<f32>> {
    let outputs = eval::integer(graph, rows).outputs;
    outputs.iter().enumerate().map(|(i, y)| client::dequantize(graph, i, y)).collect()
}

fn first_difference(graph: &Graph, a: &[ArrayD<i64>], b: &[ArrayD<i64>]) -> String {
    for (i, output) in graph.outputs.iter().enumerate() {
        if a[i].shape() != b[i].shape() {
            return format!("output \"{}\" has shape {:?}, was {:?}", output.name, b[i].shape(), a[i].shape());
        }
        if let Some(((at, a), b)) = a[i].indexed_iter().zip(&b[i]).find(|((_, a), b)| a != b) {
            return format!("output \"{}\" is {b} at {:?}, was {a}", output.name, at.as_array_view().to_vec());
        }
    }
    "the outputs differ".into()
}
