//! Integer weights: one scale per output channel, chosen for the smallest mean square error.

use fhe_ir::{Interval, func};
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

/// Quantized weights and the real number that one unit of each output channel stands for.
pub(super) struct Quantized {
    pub weights: ArrayD<i64>,
    pub scale: Vec<f64>,
}

/// Scale of a layer without weights.
const FINE: f64 = 1e-6;

/// Largest magnitude of a weight of `bits` bits: symmetric, at least 1.
pub(super) fn limit(bits: u32) -> i64 {
    ((1i64 << (bits - 1)) - 1).max(1)
}

/// The scale of each output channel (axis 0) with the smallest mean square error at `bits` bits. A channel without
/// weights gets the finest scale of the others: its bias is still rounded to it.
pub(super) fn best_scales(real: &ArrayD<f64>, bits: u32) -> Vec<f64> {
    let limit = limit(bits);
    let channels: Vec<_> = real.axis_iter(Axis(0)).collect();
    let mut scales: Vec<f64> = channels
        .into_par_iter()
        .map(|channel| {
            let channel: Vec<f64> = channel.iter().copied().collect();
            let largest = channel.iter().fold(0.0f64, |m, w| m.max(w.abs()));
            if largest == 0.0 {
                return f64::INFINITY;
            }
            let end = limit as f64;
            let error = |scale: f64| -> f64 {
                channel.iter().map(|w| (w - scale * nearest((w / scale).clamp(-end, end))).powi(2)).sum()
            };
            // Below 40 % of the full range clipping always loses.
            let candidates = (40..=100).map(|percent| largest / limit as f64 * f64::from(percent) / 100.0);
            candidates.map(|s| (s, error(s))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |(s, _)| s)
        })
        .collect();
    let finest = scales.iter().copied().fold(f64::INFINITY, f64::min);
    let of_zeros = if finest.is_finite() { finest } else { FINE };
    scales.iter_mut().filter(|s| s.is_infinite()).for_each(|s| *s = of_zeros);
    scales
}

/// The whole number nearest to `x`, halves to even; `|x|` is below 2^51. Adding 1.5·2^52 leaves no fraction bits, and
/// unlike `round_ties_even` is not a call on processors that all builds run on.
fn nearest(x: f64) -> f64 {
    const WHOLE: f64 = (3u64 << 51) as f64;
    (x + WHOLE) - WHOLE
}

/// `round(w/scale)·factor` per output channel (axis 0); `scale` is the scale before the factor. Weights saturate at
/// `limit` only when `clip` is set.
pub(super) fn quantize(real: &ArrayD<f64>, scale: &[f64], factor: &[i64], clip: Option<i64>) -> Quantized {
    let limit = clip.unwrap_or(1 << 31);
    let to = Interval { lo: -limit, hi: limit };
    let mut weights = ArrayD::zeros(real.raw_dim());
    for (channel, (mut out, real)) in weights.axis_iter_mut(Axis(0)).zip(real.axis_iter(Axis(0))).enumerate() {
        out.zip_mut_with(&real, |q, w| *q = func::quantize(w / scale[channel], to) * factor[channel]);
    }
    let scale = scale.iter().zip(factor).map(|(s, f)| s / *f as f64).collect();
    Quantized { weights, scale }
}

/// Factor by which each channel's integers are made finer; `widths` are the ranges seen, as real numbers.
///
/// All channels of a tensor share the torus step, which the channel with the widest accumulator decides; a narrower
/// channel that uses more of it is read more finely. The gain stops where the channel's norm reaches the largest norm
/// of the tensor, so the worst noise stays what it was.
///
/// Where tables are read in `full`, all channels get as many integers as a channel of the upper quartile has. The noise
/// of earlier bootstraps, relative to any channel that fills the domain, grows with these integers, and rounding of
/// weights shrinks with them; those of the widest channel would make all others finer than their weights are worth.
pub(super) fn gains(quantized: &Quantized, widths: &[f64], full: bool) -> Vec<f64> {
    // A channel that hardly moves in spite of large weights is noisy in any case; more would make norms long for it.
    const FINEST: f64 = 8.0;
    const COARSEST: f64 = 0.25;
    let norms = norms(quantized);
    let units: Vec<f64> = widths.iter().zip(&quantized.scale).map(|(w, s)| w / s).collect();
    let (widest, largest) = (units.iter().copied().fold(0.0, f64::max), norms.iter().copied().fold(0.0, f64::max));
    let quartile = upper_quartile(&units);
    let gain = |(unit, norm): (&f64, &f64)| match (*unit > 0.0 && *norm > 0.0, full) {
        (false, _) => 1.0,
        (true, false) => (widest / unit).min(largest / norm).max(1.0),
        (true, true) => (quartile / unit).clamp(COARSEST, FINEST),
    };
    units.iter().zip(&norms).map(gain).collect()
}

/// Scales for channels that are added to another value, whose sums have the ranges `sums` (widths, real numbers).
///
/// A sum gets at most twice the integers of the widest accumulator at its natural scale, so that a channel whose other
/// branch is much larger does not widen the whole tensor; and a channel is made finer only up to the largest norm. Where
/// tables are read in `full`, all sums get as many integers as one of the upper quartile has at its natural scale, as in
/// [`gains`].
pub(super) fn scales_in_sum(quantized: &Quantized, widths: &[f64], sums: &[f64], full: bool) -> Vec<f64> {
    let norms = norms(quantized);
    let largest = norms.iter().copied().fold(0.0, f64::max);
    let units = |widths: &[f64]| widths.iter().zip(&quantized.scale).map(|(w, s)| w / s).collect::<Vec<_>>();
    let integers =
        if full { upper_quartile(&units(sums)) } else { 2.0 * units(widths).into_iter().fold(1.0, f64::max) };
    let scale = |((natural, norm), sum): ((&f64, &f64), &f64)| {
        let filling = sum / integers;
        if *norm > 0.0 && !full { filling.max(natural * norm / largest) } else { filling.max(f64::MIN_POSITIVE) }
    };
    let wanted: Vec<f64> = quantized.scale.iter().zip(&norms).zip(sums).map(scale).collect();
    // A sum that hardly moves needs no finer scale than this.
    let floor = wanted.iter().copied().fold(0.0, f64::max) / 256.0;
    wanted.into_iter().map(|s| s.max(floor)).collect()
}

/// A scale near `wanted` that divides `other`, or a multiple of it: the scale to quantize at and the integer factor
/// that brings the result to a scale that does.
pub(super) fn commensurable(wanted: f64, other: f64) -> (f64, i64) {
    // Far beyond any useful ratio; keeps the cast exact and the scale above zero.
    const MOST: f64 = 1e6;
    let ratio = other / wanted;
    if ratio >= 1.0 {
        return (other / ratio.round().min(MOST), 1);
    }
    let factor = (1.0 / ratio).round().clamp(1.0, MOST);
    (other * factor, factor as i64)
}

/// The upper quartile of those above zero; 1 when there are none.
fn upper_quartile(units: &[f64]) -> f64 {
    let mut units: Vec<f64> = units.iter().copied().filter(|u| *u > 0.0).collect();
    units.sort_by(f64::total_cmp);
    units.get(units.len() * 3 / 4).copied().unwrap_or(1.0)
}

fn norms(quantized: &Quantized) -> Vec<f64> {
    let norm = |channel: ndarray::ArrayViewD<'_, i64>| channel.iter().map(|w| (*w as f64).powi(2)).sum::<f64>().sqrt();
    quantized.weights.axis_iter(Axis(0)).map(norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_clip_a_lonely_large_weight_and_zero_channels_are_fine() {
        let mut real = ArrayD::from_elem(vec![2, 64], 0.0);
        for (i, w) in real.index_axis_mut(Axis(0), 0).iter_mut().enumerate() {
            *w = if i == 0 { 1.3 } else { (i % 7) as f64 / 7.0 };
        }
        let scales = best_scales(&real, 4);
        assert!(scales[0] < 1.3 / 7.0 && scales[0] > 0.8 / 7.0, "{scales:?}");
        assert_eq!(scales[1], scales[0]);
        assert_eq!(best_scales(&ArrayD::zeros(vec![1, 3]), 4), [FINE]);
        let q = quantize(&real, &scales, &[1, 1], Some(7));
        assert!(q.weights.iter().all(|w| (-7..=7).contains(w)));
    }

    #[test]
    fn nearest_is_round_ties_even() {
        for x in [0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.49999, 127.5, -126.5, 1e9 + 0.5] {
            assert_eq!(nearest(x), x.round_ties_even(), "{x}");
        }
    }
}
