//! Mean of the operands of layers on some calibration rows: what rounding weights shifts by is known from it.

use std::collections::HashMap;
use std::sync::Mutex;

use fhe_ir::eval::float_observe;
use fhe_ir::{Graph, Id, Op, Value};
use ndarray::{ArrayD, Axis};

use super::moments::{Collector, Moments};

/// Elements that are evaluated at most, over all values and rows: a few seconds for the largest networks.
const ELEMENTS: usize = 1 << 27;

/// Rows that are evaluated, at least and at most.
const ROWS: std::ops::RangeInclusive<usize> = 8..=4096;

/// Fixed point of sums, so that they do not depend on the order in which cores add.
const UNIT: f64 = (1u64 << 40) as f64;

/// What some calibration rows show of the operands of layers.
pub(super) struct Observed {
    /// For each value that a layer reads: its mean per channel.
    pub means: Vec<Option<Vec<f64>>>,
    /// Of each layer.
    pub moments: HashMap<Id<Value>, Moments>,
}

/// On rows spread evenly over the calibration data; nothing without such data.
pub(super) fn of(graph: &Graph, calibration: &[ArrayD<f32>]) -> Observed {
    let mut read = vec![false; graph.values.len()];
    for value in &graph.values {
        if let Op::Dot { x, w } | Op::Conv { x, w, .. } = value.op
            && !graph.is_exact(w)
        {
            read[x.index()] = true;
        }
    }
    let available = calibration.first().map_or(0, |x| x.shape()[0]);
    if available == 0 || !read.contains(&true) {
        return Observed { means: vec![None; graph.values.len()], moments: HashMap::new() };
    }
    let per_row: usize = graph.values.iter().map(|v| v.elements()).sum();
    let rows = (ELEMENTS / per_row.max(1)).clamp(*ROWS.start(), *ROWS.end()).min(available);
    let chosen: Vec<usize> = (0..rows).map(|i| i * available / rows).collect();
    let inputs: Vec<_> = calibration.iter().map(|x| x.select(Axis(0), &chosen)).collect();
    let sums: Vec<_> = graph.values.iter().map(|v| Mutex::new(vec![0i128; v.channels()])).collect();
    let collector = Collector::new(graph, rows);
    float_observe(graph, &inputs, |id, x, _| {
        if !read[id.index()] {
            return;
        }
        collector.see(id, x);
        let inner = x.shape().iter().skip(2).product::<usize>();
        let mut local = vec![0.0; graph.value(id).channels()];
        let channels = local.len();
        for (i, plane) in x.as_standard_layout().as_slice().unwrap_or(&[]).chunks(inner).enumerate() {
            local[i % channels] += plane.iter().map(|e| f64::from(*e)).sum::<f64>();
        }
        let mut all = sums[id.index()].lock().expect("observers do not panic");
        // Saturates far beyond any activation.
        all.iter_mut().zip(local).for_each(|(all, local)| *all += (local * UNIT) as i128);
    });
    let mean = |(value, sum): (&Value, Mutex<Vec<i128>>)| -> Vec<f64> {
        let count = (rows * value.elements() / value.channels()) as f64 * UNIT;
        sum.into_inner().expect("observers do not panic").into_iter().map(|s| s as f64 / count).collect()
    };
    let means = graph.values.iter().zip(sums).map(mean);
    let means: Vec<_> = means.zip(read).map(|(mean, read)| read.then_some(mean)).collect();
    let moments = collector.finish(&means);
    Observed { means, moments }
}
