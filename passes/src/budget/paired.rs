//! Paired comparison of two networks on the same rows: how much accuracy one loses against the other.

use serde::{Deserialize, Serialize};

/// One-sided 95 % of a standard normal distribution.
const Z: f64 = 1.645;

/// Rows on which one of two networks is right and the other is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Rows compared.
    pub rows: usize,
    /// Rows that only the first network has right.
    pub lost: usize,
    /// Rows that only the second network has right.
    pub gained: usize,
}

impl Paired {
    /// Adds a row.
    pub fn add(&mut self, first: bool, second: bool) {
        self.rows += 1;
        self.lost += usize::from(first && !second);
        self.gained += usize::from(second && !first);
    }

    /// Accuracy lost, as a fraction; negative when the second network is better.
    pub fn loss(&self) -> f64 {
        (self.lost as f64 - self.gained as f64) / self.rows.max(1) as f64
    }

    /// Standard error of [`Self::loss`], with half a row added on each side so that no change at all is not certainty.
    ///
    /// Source: the variance of a difference of paired proportions, A. Agresti, "Categorical Data Analysis", §10.1.
    fn standard_error(&self) -> f64 {
        let changed = (self.lost + self.gained) as f64 + 1.0;
        let rows = self.rows.max(1) as f64;
        (changed / (rows * rows) - self.loss().powi(2) / rows).max(0.0).sqrt()
    }

    /// The loss is below this with 95 % confidence.
    pub fn upper_bound(&self) -> f64 {
        self.loss() + Z * self.standard_error()
    }

    /// Whether more rows could hardly bring the loss below `budget`: it is two standard errors above.
    pub fn is_hopeless(&self, budget: f64) -> bool {
        self.loss() - 2.0 * self.standard_error() > budget
    }

    /// The smallest budget worth asking for on so many rows: the bound of a circuit that changes one class in twenty-five
    /// and loses nothing.
    pub fn certifiable(rows: usize) -> f64 {
        let rows = rows.max(1) as f64;
        Z * (0.04 * rows + 1.0).sqrt() / rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_cover_the_loss_of_the_network_behind_the_rows() {
        use rand::{RngExt, SeedableRng};
        // A population of which 1 % is lost and 1 % gained loses nothing: about 95 of 100 samples say so.
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let covered = (0..2000).filter(|_| {
            let mut paired = Paired::default();
            for _ in 0..1000 {
                let x: f64 = random.random();
                paired.add(x >= 0.01, !(0.01..0.02).contains(&x));
            }
            paired.upper_bound() >= 0.0
        });
        // 2000 trials at 95 %: sd 0.5 %.
        let share = covered.count() as f64 / 2000.0;
        assert!((0.935..0.975).contains(&share), "{share}");
    }

    #[test]
    fn few_rows_certify_little() {
        assert!(Paired::certifiable(300) > 0.01);
        assert!(Paired::certifiable(10_000) < 0.005 && Paired::certifiable(2000) > 0.005);
        let unchanged = Paired { rows: 300, lost: 0, gained: 0 };
        assert!(unchanged.upper_bound() > 0.005 && unchanged.upper_bound() < 0.006);
    }
}
