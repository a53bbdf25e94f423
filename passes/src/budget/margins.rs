//! Accuracy that noise is expected to cost, from how far it moves the margins of rows.
//!
//! Counting the rows whose class changes wastes most of what a simulation tells: of a thousand rows thirty change, and by
//! chance a few more of them for the worse or for the better. Rows of like margins are moved alike, so each row is tried with
//! what happened to its neighbours too; what is left of chance is which rows there are.

/// Rows on each side whose changes a row is tried with, at most.
const NEIGHBOURS: usize = 128;

/// The same as a part of all rows: rows of unlike margins are moved otherwise.
const PART: usize = 7;

/// By how much the score of the class given is above the greatest other one of its row; with a single score, which stands
/// for class 1 where it is above zero, by how much it is on the side of the class given. `scores` are row after row.
pub(super) fn of(scores: &[f32], classes: &[usize]) -> Vec<f32> {
    let channels = scores.len() / classes.len().max(1);
    let margin = |(row, &class): (&[f32], &usize)| {
        if let [score] = row {
            return if class == 1 { *score } else { -score };
        }
        let others = row.iter().enumerate().filter(|(channel, _)| *channel != class);
        let greatest = others.map(|(_, score)| *score).fold(f32::NEG_INFINITY, f32::max);
        row.get(class).map_or(f32::NEG_INFINITY, |own| own - greatest)
    };
    scores.chunks(channels.max(1)).zip(classes).map(margin).collect()
}

/// Fraction of rows whose margin is above zero less the same under noise: the mean over rows in which each has, one after
/// another, the changes of the rows whose margins without noise are next to its own.
pub(super) fn expected_loss(silent: &[f32], noisy: &[f32]) -> f64 {
    // A label that is no channel has no margin, with noise or without.
    let change =
        |(silent, noisy): (&f32, &f32)| if silent.is_finite() { (*silent, noisy - silent) } else { (*silent, 0.0) };
    let mut rows: Vec<(f32, f32)> = silent.iter().zip(noisy).map(change).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let side = NEIGHBOURS.min(rows.len() / PART);
    let loss = |(at, (margin, _)): (usize, &(f32, f32))| {
        let around = &rows[at.saturating_sub(side)..(at + side + 1).min(rows.len())];
        let right = around.iter().filter(|(_, change)| margin + change > 0.0).count();
        f64::from(u8::from(*margin > 0.0)) - right as f64 / around.len() as f64
    };
    rows.iter().enumerate().map(loss).sum::<f64>() / rows.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    #[test]
    fn margins_are_to_the_greatest_other_score() {
        assert_eq!(of(&[1.0, 3.0, 2.0, 1.0, 3.0, 2.0], &[1, 2]), [1.0, -1.0]);
        assert_eq!(of(&[0.5, -0.5], &[1, 1]), [0.5, -0.5]);
        assert_eq!(of(&[0.5, -0.5], &[0, 0]), [-0.5, 0.5]);
        assert_eq!(of(&[1.0, 2.0], &[7]), [f32::NEG_INFINITY]);
        assert!(of(&[], &[]).is_empty());
    }

    /// Margins and noise are normal, so the loss is known: `P(m > 0) − P(m + e > 0) = Φ(μ/σ) − Φ(μ/√(σ² + s²))`.
    #[test]
    fn the_loss_expected_is_nearer_to_the_truth_than_the_loss_counted() {
        let (mean, noise) = (2.0f64, 0.4f64);
        // Φ(2) − Φ(2/√1.16)
        let truth = 0.977_250 - 0.968_341;
        let mut errors = [0.0f64; 2];
        for seed in 0..50 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut normal = || -> f64 { random.sample(StandardNormal) };
            let (silent, noisy): (Vec<f32>, Vec<f32>) = (0..1000)
                .map(|_| {
                    let margin = mean + normal();
                    (margin as f32, (margin + noise * normal()) as f32)
                })
                .unzip();
            let right = |margins: &[f32]| margins.iter().filter(|m| **m > 0.0).count() as f64;
            let counted = (right(&silent) - right(&noisy)) / 1000.0;
            errors[0] += (expected_loss(&silent, &noisy) - truth).powi(2);
            errors[1] += (counted - truth).powi(2);
        }
        let [expected, counted] = errors.map(|e| (e / 50.0).sqrt());
        assert!(expected < 0.75 * counted, "{expected} {counted}");
    }

    #[test]
    fn no_change_costs_nothing_and_ruin_costs_all() {
        let silent: Vec<f32> = (0..100).map(|i| i as f32 - 20.5).collect();
        assert_eq!(expected_loss(&silent, &silent), 0.0);
        let ruined: Vec<f32> = silent.iter().map(|m| m - 1000.0).collect();
        assert_eq!(expected_loss(&silent, &ruined), 0.79);
        assert_eq!(expected_loss(&[], &[]), 0.0);
        let unknown = [[f32::NEG_INFINITY; 50], [1.0; 50]].concat();
        assert_eq!(expected_loss(&unknown, &unknown), 0.0);
    }
}
