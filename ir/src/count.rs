//! Counts of the operations that a value costs.

use crate::{Data, Graph, Op, Value};

/// Products of a ciphertext by a clear weight that is neither 0 nor ±1 free of charge: the non-zero weights of dense
/// layers and convolutions at every place of the result.
pub fn clear_products(graph: &Graph, value: &Value) -> u64 {
    let nonzero = |c| match &graph.constant(c).data {
        Data::Int(w) => w.iter().filter(|w| **w != 0).count() as u64,
        Data::F32(w) => w.iter().filter(|w| **w != 0.0).count() as u64,
    };
    match &value.op {
        Op::Dot { w, .. } => nonzero(*w),
        Op::Conv { w, .. } => nonzero(*w) * value.shape[2..].iter().product::<usize>() as u64,
        Op::MulClear { .. } => value.elements() as u64,
        _ => 0,
    }
}

/// Additions of two ciphertexts that a value costs.
pub fn encrypted_additions(graph: &Graph, value: &Value) -> u64 {
    match &value.op {
        Op::Dot { .. } | Op::Conv { .. } => clear_products(graph, value).saturating_sub(value.elements() as u64),
        Op::SumPool { geometry, .. } | Op::AvgPool { geometry, .. } => {
            (value.elements() * (geometry.area() - 1)) as u64
        }
        Op::Add { .. } | Op::Sub { .. } => value.elements() as u64,
        _ => 0,
    }
}

/// Additions of a clear number to a ciphertext that a value costs: explicit ones, and for a bootstrap the centring in
/// front of it and the middle of the table behind it.
pub fn clear_additions(value: &Value) -> u64 {
    match &value.op {
        Op::AddClear { .. } => value.elements() as u64,
        Op::Pbs { .. } => 2 * value.elements() as u64,
        _ => 0,
    }
}
