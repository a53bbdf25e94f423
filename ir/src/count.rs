//! Counts of the operations that a value costs.

use crate::{Const, Data, Graph, Id, Op, Value};

/// Products of a ciphertext by a clear weight: the non-zero weights of dense layers and convolutions at every place of
/// the result.
pub fn clear_products(graph: &Graph, value: &Value) -> u64 {
    match &value.op {
        Op::Dot { w, .. } | Op::Conv { w, .. } => places(value) * nonzero_per_channel(graph, *w).iter().sum::<u64>(),
        Op::MulClear { .. } => value.elements() as u64,
        _ => 0,
    }
}

/// Additions of two ciphertexts that a value costs: one less than the terms of each sum.
pub fn encrypted_additions(graph: &Graph, value: &Value) -> u64 {
    match &value.op {
        Op::Dot { w, .. } | Op::Conv { w, .. } => {
            places(value) * nonzero_per_channel(graph, *w).iter().map(|n| n.saturating_sub(1)).sum::<u64>()
        }
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

/// Elements of one channel.
fn places(value: &Value) -> u64 {
    value.shape.iter().skip(2).product::<usize>() as u64
}

/// Non-zero weights of each output channel (axis 0).
fn nonzero_per_channel(graph: &Graph, w: Id<Const>) -> Vec<u64> {
    match &graph.constant(w).data {
        Data::Int(w) => w.outer_iter().map(|c| c.iter().filter(|w| **w != 0).count() as u64).collect(),
        Data::F32(w) => w.outer_iter().map(|c| c.iter().filter(|w| **w != 0.0).count() as u64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Sidecar, parse};

    #[test]
    fn zero_weights_cost_nothing() {
        let text = "eir 1 ranged\ngraph g\n%x: [0, 1][1,2,3,3] = input ; scale=1\n\
                    %y: [0, 9][1,3,2,2] = conv %x, @w\noutput %y \"y\"\n\
                    const @w: i[3,2,2,2] = 1*8 0*8 0 2 0*5 -1\n";
        let graph = parse(text, &Sidecar::new()).expect("a graph");
        // Eight terms, none, and two, at four places.
        assert_eq!(clear_products(&graph, &graph.values[1]), 4 * 10);
        assert_eq!(encrypted_additions(&graph, &graph.values[1]), 4 * (7 + 1));
    }
}
