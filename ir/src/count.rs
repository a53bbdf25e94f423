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

/// Results that the backend computes together: a column of weights is left out where all of them are zero.
pub const TILE: usize = 4;

/// Products that the backend really computes: zeros are left out where `TILE` results in a row share them, and missing
/// results of the last tile are computed too.
pub fn tiled_products(graph: &Graph, value: &Value) -> u64 {
    let (w, groups) = match &value.op {
        Op::Dot { w, .. } => (*w, 1),
        Op::Conv { w, geometry, .. } => (*w, geometry.groups),
        _ => return clear_products(graph, value),
    };
    let Data::Int(w) = &graph.constant(w).data else { return clear_products(graph, value) };
    let Some(outputs) = w.shape().first().map(|o| o / groups.max(1)).filter(|o| *o > 0) else { return 0 };
    let rows: Vec<_> = w.outer_iter().collect();
    let tiles = rows.chunks(outputs).flat_map(|group| group.chunks(TILE));
    let columns = tiles.map(|tile| {
        let mut used = vec![false; tile.first().map_or(0, |row| row.len())];
        tile.iter().for_each(|row| used.iter_mut().zip(row).for_each(|(used, w)| *used |= *w != 0));
        used.into_iter().filter(|used| *used).count() as u64
    });
    places(value) * TILE as u64 * columns.sum::<u64>()
}

/// What a linear op does to ciphertexts: products, operands gathered for products, and ciphertexts read or written in
/// order.
pub fn linear_work(graph: &Graph, value: &Value) -> [u64; 3] {
    let elements = value.elements() as u64;
    let (gathered, streamed) = match &value.op {
        Op::Dot { w, .. } => (patch(graph, *w), elements),
        Op::Conv { w, geometry, .. } => (places(value) * geometry.groups as u64 * patch(graph, *w), elements),
        Op::SumPool { geometry, .. } => (0, elements * (1 + geometry.area() as u64)),
        Op::Add { .. } | Op::Sub { .. } => (0, 3 * elements),
        Op::Neg { .. } | Op::MulClear { .. } | Op::Concat { .. } | Op::Slice { .. } => (0, 2 * elements),
        Op::Gather { .. } | Op::Pad { .. } | Op::Transpose { .. } => (0, 2 * elements),
        // Bodies alone change, or nothing does, or the op is none of linear layers.
        _ => (0, 0),
    };
    [tiled_products(graph, value), gathered, streamed]
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

/// Weights of one output channel.
fn patch(graph: &Graph, w: Id<Const>) -> u64 {
    let shape = match &graph.constant(w).data {
        Data::Int(w) => w.shape(),
        Data::F32(w) => w.shape(),
    };
    shape.iter().skip(1).product::<usize>() as u64
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
        let text = "eir 2 ranged\ngraph g\n%x: [0, 1][1,2,3,3] = input ; scale=1\n\
                    %y: [0, 9][1,3,2,2] = conv %x, @w\noutput %y \"y\"\n\
                    const @w: i[3,2,2,2] = 1*8 0*8 0 2 0*5 -1\n";
        let graph = parse(text, &Sidecar::new()).expect("a graph");
        // Eight terms, none, and two, at four places.
        assert_eq!(clear_products(&graph, &graph.values[1]), 4 * 10);
        assert_eq!(encrypted_additions(&graph, &graph.values[1]), 4 * (7 + 1));
        // The three channels are one tile of four, in which every column has some weight.
        assert_eq!(tiled_products(&graph, &graph.values[1]), 4 * 4 * 8);
        assert_eq!(linear_work(&graph, &graph.values[1]), [4 * 4 * 8, 4 * 8, 12]);
    }
}
