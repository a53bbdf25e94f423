//! The domain of a table that is read in full: the one whose results are closest to the function's under noise.
//!
//! Noise is a fixed part of the torus, so of the domain: a wider domain makes it larger in real terms, a narrower one
//! leaves values outside, where a table continues reflected. Both errors are known for every value that was seen.

use super::BINS;

/// Bins between two candidates for an end of the domain.
const COARSE: usize = BINS / 64;

/// Bins that are looked at together.
const TOGETHER: usize = 4;

/// Some of the values seen.
struct Seen {
    /// Place, in bins.
    at: f64,
    /// What the function gives there.
    value: f64,
    count: f64,
}

/// A domain, and what a table over it reads.
pub(super) struct Best {
    /// First and last bin edge.
    pub(super) edges: (usize, usize),
    /// Mean error of what is read.
    pub(super) bias: f64,
}

/// The domain with the smallest mean square error of `function` on a histogram over `[lo, hi]`, when the noise has `sd`
/// of the torus and the domain fills half of it.
pub(super) fn best(histogram: &[u64], lo: f64, hi: f64, sd: f64, function: impl Fn(f64) -> f64) -> Best {
    let bin = (hi - lo) / BINS as f64;
    let middle = |i: usize| lo + bin * (i as f64 + 0.5);
    let values: Vec<f64> = (0..BINS).map(|i| function(middle(i))).collect();
    // Neighbours count as one, in their middle.
    let seen: Vec<Seen> = (histogram.chunks_exact(TOGETHER).enumerate())
        .map(|(i, counts)| (counts.iter().sum::<u64>(), (i * TOGETHER) as f64 + (TOGETHER - 1) as f64 / 2.0))
        .filter(|(count, _)| *count > 0)
        .map(|(count, at)| Seen { at, value: function(lo + bin * (at + 0.5)), count: count as f64 })
        .collect();
    let sum_of = |first: usize, last: usize, part: fn(f64) -> f64| {
        let noise = sd * 2.0 * (last - first) as f64;
        let error = |s: &Seen, at: f64| part(extended(&values, first, last, at) - s.value);
        seen.iter().map(|s| s.count * 0.5 * (error(s, s.at - noise) + error(s, s.at + noise))).sum::<f64>()
    };
    let error = |first: usize, last: usize| sum_of(first, last, |e| e * e);
    let candidates = |from: usize, to: usize| (from..=to).step_by(COARSE);
    let (mut first, mut last) = (0, BINS);
    for _ in 0..2 {
        let best = candidates(first + COARSE, BINS).min_by(|&a, &b| error(first, a).total_cmp(&error(first, b)));
        last = best.unwrap_or(last);
        let best = candidates(0, last - COARSE).min_by(|&a, &b| error(a, last).total_cmp(&error(b, last)));
        first = best.unwrap_or(first);
    }
    let count = seen.iter().map(|s| s.count).sum::<f64>().max(1.0);
    Best { edges: (first, last), bias: sum_of(first, last, |e| e) / count }
}

/// What a table over the bins `[first, last)` reads at a place in bins: between two entries in proportion, outside
/// reflected as the negacyclic wrap of a saturating table does.
fn extended(values: &[f64], first: usize, last: usize, at: f64) -> f64 {
    let width = (last - first) as f64;
    let offset = at - first as f64 + 0.5;
    let (reflected, rest) = reflection(offset, width);
    let below = (rest - 0.5).max(0.0);
    let whole = below as usize;
    let index = first + whole.min(last - first - 1);
    let next = (index + 1).min(last - 1);
    let value = values[index] + (values[next] - values[index]) * (below - whole as f64);
    if reflected { values[first] + values[last - 1] - value } else { value }
}

/// Whether an offset is an odd number of widths away from `[0, width)`, and its remainder there.
fn reflection(offset: f64, width: f64) -> (bool, f64) {
    // Without divisions where nearly all offsets are.
    if (0.0..width).contains(&offset) {
        (false, offset)
    } else if (width..2.0 * width).contains(&offset) {
        (true, offset - width)
    } else if (-width..0.0).contains(&offset) {
        (true, offset + width)
    } else {
        ((offset / width).floor().rem_euclid(2.0) != 0.0, offset.rem_euclid(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_noise_everything_seen_is_covered_and_noise_cuts_the_tail() {
        // A bell with a long tail on the right.
        let histogram: Vec<u64> = (0..BINS)
            .map(|i| {
                let x = (i as f64 - 200.0) / 60.0;
                (1e6 * (-x * x / 2.0).exp()) as u64 + u64::from(i > 900)
            })
            .collect();
        let identity = |x: f64| x;
        let (first, last) = best(&histogram, -1.0, 1.0, 0.0, identity).edges;
        assert!(histogram[..first].iter().chain(&histogram[last..]).all(|count| *count == 0), "{first} {last}");
        let (_, quiet) = best(&histogram, -1.0, 1.0, 2f64.powi(-11), identity).edges;
        let (first, loud) = best(&histogram, -1.0, 1.0, 2f64.powi(-6), identity).edges;
        assert!(first < 100 && loud <= quiet && (300..900).contains(&loud), "{first} {quiet} {loud}");
    }

    #[test]
    fn noise_lifts_the_mean_of_relu_by_a_share_of_its_deviation() {
        // All values at the kink: half of them are read one deviation above, half below.
        let mut histogram = vec![0; BINS];
        histogram[BINS / 2..BINS / 2 + TOGETHER].fill(5);
        (histogram[0], histogram[BINS - 1]) = (1, 1);
        let sd = 2f64.powi(-6);
        let found = best(&histogram, -1.0, 1.0, sd, |x| x.max(0.0));
        let deviation = sd * 2.0 * (found.edges.1 - found.edges.0) as f64 / BINS as f64 * 2.0;
        assert!((0.3..0.6).contains(&(found.bias / deviation)), "{} of {deviation}", found.bias);
    }

    #[test]
    fn near_offsets_are_reflected_as_far_ones_are() {
        let width = 37.0;
        for step in -2000..2000 {
            let offset = f64::from(step) * 0.093;
            let by_definition = ((offset / width).floor().rem_euclid(2.0) != 0.0, offset.rem_euclid(width));
            assert_eq!(reflection(offset, width), by_definition, "{offset}");
        }
    }

    #[test]
    fn a_read_outside_the_domain_is_reflected() {
        let values: Vec<f64> = (0..BINS).map(|i| i as f64).collect();
        assert_eq!(extended(&values, 100, 200, 150.0), 150.0);
        // One bin beyond the last reads the last, as the table at the wrap does.
        assert_eq!(extended(&values, 100, 200, 200.0), 199.0);
        assert_eq!(extended(&values, 100, 200, 210.0), 189.0);
        assert_eq!(extended(&values, 100, 200, 99.0), 100.0);
    }
}
