//! Weights rounded one after another: those that are left take up the error made so far.

use fhe_ir::{Interval, func};
use ndarray::{Array2, ArrayD, Axis};
use rayon::prelude::*;

use super::moments::{Block, Moments};
use super::weights::Quantized;

/// Part of the mean of the diagonal that is added to it.
const DAMPING: f64 = 0.01;

/// Moments of a layer in the integers of its operand, ready for rounding.
pub(super) struct Factors {
    blocks: Vec<Triangle>,
    groups: usize,
}

/// Lower triangle `L` with `L·Lᵀ` the damped moments of some weights.
struct Triangle {
    group: usize,
    /// Places of the weights in an output channel, those rounded last first.
    order: Vec<usize>,
    /// Rows of `L`: `i + 1` entries in row `i`.
    rows: Vec<Vec<f64>>,
}

impl Factors {
    /// `scales` are those of the operand's channels.
    pub(super) fn of(moments: &Moments, scales: &[f32], groups: usize, per_group: usize) -> Self {
        let blocks = moments.blocks.par_iter().filter_map(|block| Triangle::of(block, scales, per_group));
        Self { blocks: blocks.collect(), groups }
    }
}

impl Triangle {
    /// Nothing where the moments are zero, or not positive for lack of digits.
    fn of(block: &Block, scales: &[f32], per_group: usize) -> Option<Self> {
        let n = block.covariance.nrows();
        let area = n / block.channels.len();
        let scale = |tap: usize| f64::from(scales[block.channels.start + tap / area]);
        let integers = Array2::from_shape_fn((n, n), |(i, j)| block.covariance[[i, j]] / (scale(i) * scale(j)));
        let damping = DAMPING * integers.diag().sum() / n as f64;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| integers[[*a, *a]].total_cmp(&integers[[*b, *b]]));
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
        for i in 0..n {
            let mut row: Vec<f64> = Vec::with_capacity(i + 1);
            for j in 0..i {
                let rest = integers[[order[i], order[j]]] - dot(&row, &rows[j][..j]);
                row.push(rest / rows[j][j]);
            }
            let pivot = integers[[order[i], order[i]]] + damping - dot(&row, &row);
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            row.push(pivot.sqrt());
            rows.push(row);
        }
        let first = (block.channels.start - block.group * per_group) * area;
        order.iter_mut().for_each(|place| *place += first);
        Some(Self { group: block.group, order, rows })
    }

    /// Rounds the weights of one output channel, in units of their scale, to whole numbers within `end`.
    fn round(&self, real: &[f64], end: f64, to: &mut [f64]) {
        // Of each weight to come: what the errors made so far add to its term of the error.
        let mut carried = vec![0.0; self.order.len()];
        for (i, (row, place)) in self.rows.iter().zip(&self.order).enumerate().rev() {
            let (row, pivot) = row.split_at(i);
            let w = real[*place];
            // A weight that is zero stays zero: it costs nothing.
            if w == 0.0 {
                continue;
            }
            let q = (w + carried[i] / pivot[0]).round_ties_even().clamp(-end, end);
            to[*place] = q;
            carried.iter_mut().zip(row).for_each(|(sum, l)| *sum += l * (w - q));
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    ndarray::ArrayView1::from(a).dot(&ndarray::ArrayView1::from(b))
}

/// `round(w/scale)·factor` per output channel (axis 0), where errors are made good by the weights that are rounded later;
/// to the nearest where nothing is known of the operand. `scale` is the scale before the factor. Weights saturate at
/// `clip`.
pub(super) fn quantize(
    real: &ArrayD<f64>,
    scale: &[f64],
    factor: &[i64],
    clip: Option<i64>,
    factors: Option<&Factors>,
) -> Quantized {
    let limit = clip.unwrap_or(1 << 31);
    let to = Interval { lo: -limit, hi: limit };
    let (outs, taps) = (real.shape()[0], real.len() / real.shape()[0].max(1));
    let real = real.as_standard_layout();
    let rows: Vec<&[f64]> = real.as_slice().expect("row-major").chunks(taps.max(1)).collect();
    let channel = |(o, real): (usize, &[f64])| -> Vec<i64> {
        let real: Vec<f64> = real.iter().map(|w| w / scale[o]).collect();
        let mut rounded: Vec<f64> = real.iter().map(|w| func::quantize(*w, to) as f64).collect();
        if let Some(factors) = factors {
            let group = o / (outs / factors.groups);
            for block in factors.blocks.iter().filter(|block| block.group == group) {
                block.round(&real, limit as f64, &mut rounded);
            }
        }
        rounded.iter().map(|q| *q as i64 * factor[o]).collect()
    };
    let integers: Vec<i64> = rows.into_par_iter().enumerate().map(channel).collect::<Vec<_>>().concat();
    let weights = ArrayD::from_shape_vec(real.raw_dim(), integers).expect("as many as weights");
    debug_assert_eq!(weights.len_of(Axis(0)), outs);
    let scale = scale.iter().zip(factor).map(|(s, f)| s / *f as f64).collect();
    Quantized { weights, scale }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::weights::{best_scales, limit};
    use super::*;

    const INS: usize = 48;
    const OUTS: usize = 16;

    /// Rows of a few causes seen by many inputs, and `noise` of each input's own; and weights.
    fn data(causes: usize, noise: f64) -> (Array2<f64>, ArrayD<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut random = |shape: (usize, usize)| Array2::from_shape_fn(shape, |_| rng.random_range(-1.0..1.0));
        let (loadings, seen) = (random((causes, INS)), random((4000, causes)));
        let rows = seen.dot(&loadings) + random((4000, INS)) * noise;
        (rows, random((OUTS, INS)).into_dyn())
    }

    fn covariance(rows: &Array2<f64>) -> Array2<f64> {
        let centred = rows - &rows.mean_axis(Axis(0)).expect("rows");
        centred.t().dot(&centred) / rows.nrows() as f64
    }

    /// Root mean square of what the error of the weights does to the outputs of rows, to the nearest and compensated.
    fn errors(causes: usize, noise: f64, bits: u32) -> (f64, f64) {
        let (rows, real) = data(causes, noise);
        let (known, fresh) = rows.view().split_at(Axis(0), 2000);
        let block = Block { group: 0, channels: 0..INS, covariance: covariance(&known.to_owned()) };
        let factors = Factors::of(&Moments { blocks: vec![block] }, &[1.0; INS], 1, INS);
        let (scales, clip) = (best_scales(&real, bits), Some(limit(bits)));
        let error = |factors: Option<&Factors>| {
            let quantized = quantize(&real, &scales, &[1; OUTS], clip, factors);
            assert!(quantized.weights.iter().all(|w| w.abs() <= limit(bits)));
            let integer = quantized.weights.mapv(|q| q as f64).into_dimensionality::<ndarray::Ix2>().expect("a matrix");
            let real = real.view().into_dimensionality::<ndarray::Ix2>().expect("a matrix");
            let rest = &real - &(integer * &ndarray::Array1::from(scales.clone()).insert_axis(Axis(1)));
            let outputs = fresh.dot(&rest.t());
            (outputs.iter().map(|e| e * e).sum::<f64>() / outputs.len() as f64).sqrt()
        };
        (error(None), error(Some(&factors)))
    }

    #[test]
    fn correlated_inputs_lose_much_less() {
        for bits in [2, 3, 4] {
            let (nearest, compensated) = errors(6, 0.1, bits);
            assert!(compensated < 0.6 * nearest, "{bits} bits: {compensated} against {nearest}");
        }
    }

    #[test]
    fn independent_inputs_are_as_before() {
        for bits in [3, 4] {
            let (nearest, compensated) = errors(1, 100.0, bits);
            assert!((0.9..1.05).contains(&(compensated / nearest)), "{bits} bits: {compensated} against {nearest}");
        }
    }

    #[test]
    fn zeros_stay_and_moments_without_an_inverse_are_left_alone() {
        let (rows, mut real) = data(6, 0.1);
        real.iter_mut().step_by(3).for_each(|w| *w = 0.0);
        let scales = best_scales(&real, 3);
        let of = |covariance: Array2<f64>| {
            let moments = Moments { blocks: vec![Block { group: 0, channels: 0..INS, covariance }] };
            let factors = Factors::of(&moments, &[1.0; INS], 1, INS);
            quantize(&real, &scales, &[3; OUTS], None, Some(&factors)).weights
        };
        let nearest = quantize(&real, &scales, &[3; OUTS], None, None).weights;
        let compensated = of(covariance(&rows));
        assert_ne!(compensated, nearest);
        assert!(compensated.iter().all(|q| q % 3 == 0));
        assert!(compensated.iter().step_by(3).all(|q| *q == 0));
        for left in [Array2::zeros((INS, INS)), Array2::from_elem((INS, INS), f64::NAN), -Array2::eye(INS)] {
            assert_eq!(of(left), nearest);
        }
    }
}
