//! Linear ops with clear integers on ciphertexts: products over torus words, wrapping modulo 2^64.
//!
//! A "ciphertext" here is any fixed number of words, so that the same code computes on plain integers (one word each).

use fhe_ir::{ConvGeometry, Graph, Op, PoolGeometry, Value};
use rayon::prelude::*;

use crate::gemm::{LANES, Lane, TILE, Term, combine};
use crate::tensor::Tensor;

/// Words of operands copied side by side before they are multiplied: they stay in the second-level cache.
const BLOCK_WORDS: usize = 1 << 16;

/// The result of a linear op; `None` when the op is not one of a circuit's linear ops.
///
/// `delta` is the torus step, by which clear summands are multiplied.
pub fn apply(graph: &Graph, value: &Value, mut operands: Vec<Tensor>, delta: u64) -> Option<Tensor> {
    if let Op::Concat { axis, .. } = value.op {
        return Some(concat(&operands, value.shape.clone(), axis));
    }
    let b = if operands.len() == 2 { operands.pop() } else { None };
    let x = operands.pop()?;
    let shape = value.shape.clone();
    let per_channel = |c: fhe_ir::Id<fhe_ir::Const>| -> Vec<u64> { graph.ints(c).iter().map(|&e| e as u64).collect() };
    Some(match &value.op {
        Op::Dot { w, .. } => {
            let w = graph.ints(*w);
            let packed = [Packed::new(&w.iter().copied().collect::<Vec<_>>(), w.shape()[1])];
            product(&x, shape, &packed, 1, |_, _, k| Some(k))
        }
        Op::Conv { w, geometry, .. } => conv(&x, shape, &graph.ints(*w).view(), geometry),
        Op::SumPool { geometry, .. } => sum_pool(&x, shape, geometry),
        Op::AddClear { c, .. } => add_clear(x, &per_channel(*c), delta),
        Op::MulClear { c, .. } => mul_clear(x, &per_channel(*c)),
        Op::Add { .. } => zip(x, &b?, u64::wrapping_add),
        Op::Sub { .. } => zip(x, &b?, u64::wrapping_sub),
        Op::Neg { .. } => mul_clear(x, &[u64::MAX]),
        Op::Slice { starts, steps, .. } => take(&x, shape, |axis, i| Some(starts[axis] + i * steps[axis])),
        Op::Gather { axis, indices, .. } => take(&x, shape, |at, i| Some(if at == *axis { indices[i] } else { i })),
        Op::Pad { before, .. } => {
            let from = x.shape.clone();
            take(&x, shape, |axis, i| i.checked_sub(before[axis]).filter(|&i| i < from[axis]))
        }
        Op::Reshape { .. } => x.reshaped(shape),
        Op::Transpose { perm, .. } => transpose(&x, shape, perm),
        Op::Input { .. }
        | Op::AvgPool { .. }
        | Op::MaxPool { .. }
        | Op::Mul { .. }
        | Op::Concat { .. }
        | Op::BatchNorm { .. }
        | Op::Map { .. }
        | Op::Lut { .. }
        | Op::Keyswitch { .. }
        | Op::Pbs { .. } => return None,
    })
}

/// A clear matrix, in tiles of `TILE` rows; columns where a whole tile is zero are left out.
struct Packed {
    outputs: usize,
    inputs: usize,
    tiles: Vec<Vec<Term>>,
}

impl Packed {
    fn new(weights: &[i64], inputs: usize) -> Self {
        let rows: Vec<&[i64]> = weights.chunks_exact(inputs).collect();
        let tile = |rows: &[&[i64]]| {
            let term = |k: usize| (k as u32, std::array::from_fn(|m| rows.get(m).map_or(0, |row| row[k] as u64)));
            (0..inputs).map(term).filter(|(_, f)| *f != [0; TILE]).collect()
        };
        Self { outputs: rows.len(), inputs, tiles: rows.chunks(TILE).map(tile).collect() }
    }
}

/// Some columns of the results at one position.
struct Job<'a> {
    row: usize,
    group: usize,
    position: usize,
    first_word: usize,
    outs: Vec<&'a mut [u64]>,
}

/// Matrix products at many positions: `out[group·M + m, position] = Σ_k w[group][m, k]·x[source(group, position, k)]`,
/// where a source of `None` is zero.
fn product(
    x: &Tensor,
    shape: Vec<usize>,
    weights: &[Packed],
    positions: usize,
    source: impl Fn(usize, usize, usize) -> Option<usize> + Sync,
) -> Tensor {
    let mut data = vec![0; x.rows * shape.iter().product::<usize>() * x.words];
    let (groups, outputs) = (weights.len(), weights[0].outputs);
    let wanted = 4 * rayon::current_num_threads();
    let splits = wanted.div_ceil((x.rows * groups * positions).max(1)).max(1);
    let columns = x.words.div_ceil(splits).next_multiple_of(LANES);
    let splits = x.words.div_ceil(columns);

    let mut jobs: Vec<Job<'_>> = Vec::with_capacity(x.rows * groups * positions * splits);
    for row in 0..x.rows {
        for group in 0..groups {
            for position in 0..positions {
                for split in 0..splits {
                    let outs = Vec::with_capacity(outputs);
                    jobs.push(Job { row, group, position, first_word: split * columns, outs });
                }
            }
        }
    }
    for (i, ciphertext) in data.chunks_exact_mut(x.words).enumerate() {
        let (place, position) = (i / positions, i % positions);
        let group = place / outputs; // of all rows
        for (split, out) in ciphertext.chunks_mut(columns).enumerate() {
            jobs[(group * positions + position) * splits + split].outs.push(out);
        }
    }
    jobs.into_par_iter().for_each_init(Vec::new, |scratch, job| {
        let Job { row, group, position, first_word, mut outs } = job;
        let packed = &weights[group];
        let sources: Vec<Option<usize>> =
            (0..packed.inputs).map(|k| source(group, position, k).map(|e| row * x.elements() + e)).collect();
        let len = outs.first().map_or(0, |o| o.len());
        let block = (BLOCK_WORDS / packed.inputs.max(1) / LANES * LANES).max(LANES);
        for start in (0..len).step_by(block) {
            let words = start..len.min(start + block);
            copy_side_by_side(x, &sources, first_word + words.start..first_word + words.end, scratch);
            multiply(packed, scratch, &mut outs, words);
        }
    });
    Tensor::new(x.rows, shape, x.words, data)
}

/// Lanes of the given words of all sources: all sources' first lanes, then all sources' second lanes, …
///
/// Each source is read in order: ciphertexts of `2^i + 1` words lie so that their parts would drive each other out of the
/// caches.
fn copy_side_by_side(x: &Tensor, sources: &[Option<usize>], words: std::ops::Range<usize>, scratch: &mut Vec<Lane>) {
    scratch.clear();
    scratch.resize(words.len().div_ceil(LANES) * sources.len(), [0; LANES]);
    for (k, source) in sources.iter().enumerate() {
        let Some(i) = source else { continue };
        let lanes = scratch[k..].iter_mut().step_by(sources.len());
        for (lane, part) in lanes.zip(x.ciphertext(*i)[words.clone()].chunks(LANES)) {
            lane[..part.len()].copy_from_slice(part);
        }
    }
}

fn multiply(packed: &Packed, lanes: &[Lane], outs: &mut [&mut [u64]], words: std::ops::Range<usize>) {
    for (tile, outs) in packed.tiles.iter().zip(outs.chunks_mut(TILE)) {
        for (panel, start) in lanes.chunks_exact(packed.inputs).zip(words.clone().step_by(LANES)) {
            let sums = combine(tile, panel);
            let end = words.end.min(start + LANES);
            for (out, sum) in outs.iter_mut().zip(&sums) {
                out[start..end].copy_from_slice(&sum[..end - start]);
            }
        }
    }
}

fn conv(x: &Tensor, shape: Vec<usize>, w: &ndarray::ArrayViewD<'_, i64>, geometry: &ConvGeometry) -> Tensor {
    let (ci, kh, kw) = (w.shape()[1], w.shape()[2], w.shape()[3]);
    let (h, wd) = (x.shape[2], x.shape[3]);
    let (groups, out_w, positions) = (geometry.groups, shape[3], shape[2] * shape[3]);
    let flat: Vec<i64> = w.iter().copied().collect();
    let per_group = flat.len() / groups;
    let packed: Vec<Packed> = flat.chunks_exact(per_group).map(|g| Packed::new(g, ci * kh * kw)).collect();
    let axis = |i: usize, at: usize, tap: usize, extent: usize| {
        (at * geometry.strides[i] + tap * geometry.dilations[i]).checked_sub(geometry.pads[i]).filter(|&p| p < extent)
    };
    product(x, shape, &packed, positions, |group, position, k| {
        let (c, tap) = (k / (kh * kw), k % (kh * kw));
        let y = axis(0, position / out_w, tap / kw, h)?;
        let x = axis(1, position % out_w, tap % kw, wd)?;
        Some(((group * ci + c) * h + y) * wd + x)
    })
}

fn sum_pool(x: &Tensor, shape: Vec<usize>, geometry: &PoolGeometry) -> Tensor {
    let (h, w, out_h, out_w) = (x.shape[2], x.shape[3], shape[2], shape[3]);
    let mut out = Tensor::zero(x.rows, shape, x.words);
    out.data_mut().par_chunks_exact_mut(x.words).enumerate().for_each(|(i, sum)| {
        let (plane, y, column) = (i / (out_h * out_w), i / out_w % out_h, i % out_w);
        let inside = |axis: usize, at: usize, tap: usize, extent: usize| {
            (at * geometry.strides[axis] + tap).checked_sub(geometry.pads[axis]).filter(|&p| p < extent)
        };
        for dy in 0..geometry.kernel[0] {
            for dx in 0..geometry.kernel[1] {
                if let (Some(sy), Some(sx)) = (inside(0, y, dy, h), inside(1, column, dx, w)) {
                    let source = x.ciphertext((plane * h + sy) * w + sx);
                    sum.iter_mut().zip(source).for_each(|(s, e)| *s = s.wrapping_add(*e));
                }
            }
        }
    });
    out
}

/// Calls `f` with the channel and the words of each ciphertext, in parallel.
fn for_each_ciphertext(x: &mut Tensor, f: impl Fn(usize, &mut [u64]) + Sync) {
    let (words, shape) = (x.words, x.shape.clone());
    let (elements, after): (usize, usize) = (shape.iter().product(), shape.iter().skip(2).product());
    x.data_mut().par_chunks_exact_mut(words).enumerate().for_each(|(i, words)| f(i % elements / after, words));
}

fn add_clear(mut x: Tensor, c: &[u64], delta: u64) -> Tensor {
    for_each_ciphertext(&mut x, |channel, words| {
        let body = words.last_mut().expect("a ciphertext has a body");
        *body = body.wrapping_add(delta.wrapping_mul(c[if c.len() == 1 { 0 } else { channel }]));
    });
    x
}

fn mul_clear(mut x: Tensor, c: &[u64]) -> Tensor {
    for_each_ciphertext(&mut x, |channel, words| {
        let factor = c[if c.len() == 1 { 0 } else { channel }];
        words.iter_mut().for_each(|w| *w = w.wrapping_mul(factor));
    });
    x
}

fn zip(mut a: Tensor, b: &Tensor, f: impl Fn(u64, u64) -> u64 + Sync) -> Tensor {
    let words = a.words;
    a.data_mut()
        .par_chunks_mut(words)
        .zip(b.data().par_chunks(words))
        .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b)));
    a
}

/// The tensor whose element at `index` is the operand's at `source(axis, index[axis])` on every axis, or zero.
fn take(x: &Tensor, shape: Vec<usize>, source: impl Fn(usize, usize) -> Option<usize>) -> Tensor {
    let sources: Vec<Option<usize>> = indices(&shape)
        .map(|index| index.iter().enumerate().try_fold(0, |at, (axis, &i)| Some(at * x.shape[axis] + source(axis, i)?)))
        .collect();
    pick(x, shape, &sources)
}

/// Tensors behind one another along an axis.
fn concat(xs: &[Tensor], shape: Vec<usize>, axis: usize) -> Tensor {
    let (rows, words) = xs.first().map_or((0, 1), |x| (x.rows, x.words));
    let inner = shape[axis + 1..].iter().product::<usize>() * words;
    let mut data = Vec::with_capacity(rows * shape.iter().product::<usize>() * words);
    for block in 0..rows * shape[..axis].iter().product::<usize>() {
        for x in xs {
            let length = x.shape[axis] * inner;
            data.extend_from_slice(&x.data()[block * length..(block + 1) * length]);
        }
    }
    Tensor::new(rows, shape, words, data)
}

fn transpose(x: &Tensor, shape: Vec<usize>, perm: &[usize]) -> Tensor {
    let mut strides = vec![1; x.shape.len()];
    for axis in (1..strides.len()).rev() {
        strides[axis - 1] = strides[axis] * x.shape[axis];
    }
    let sources: Vec<Option<usize>> =
        indices(&shape).map(|index| Some(index.iter().zip(perm).map(|(&i, &axis)| i * strides[axis]).sum())).collect();
    pick(x, shape, &sources)
}

/// All indices of a shape, row-major.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let shape = shape.to_vec();
    (0..shape.iter().product()).map(move |mut flat: usize| {
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = flat % shape[axis];
            flat /= shape[axis];
        }
        index
    })
}

fn pick(x: &Tensor, shape: Vec<usize>, sources: &[Option<usize>]) -> Tensor {
    let mut out = Tensor::zero(x.rows, shape, x.words);
    let elements = x.elements();
    out.data_mut().par_chunks_exact_mut(x.words).enumerate().for_each(|(i, words)| {
        let (row, element) = (i / sources.len(), i % sources.len());
        if let Some(source) = sources[element] {
            words.copy_from_slice(x.ciphertext(row * elements + source));
        }
    });
    out
}
