//! Closed integer intervals: the type of an encrypted value.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The integers `lo..=hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Smallest member.
    pub lo: i64,
    /// Greatest member, at least `lo`.
    pub hi: i64,
}

impl Interval {
    /// Values stay below this magnitude, so that f64 arithmetic on them is exact (2^53 with room for sums of two).
    pub const LIMIT: i64 = 1 << 52;

    /// The interval `[lo, hi]`; `None` when it is empty or leaves [`Self::LIMIT`].
    pub fn new(lo: i64, hi: i64) -> Option<Self> {
        (lo <= hi && lo >= -Self::LIMIT && hi <= Self::LIMIT).then_some(Self { lo, hi })
    }

    /// The interval of one point.
    pub fn point(value: i64) -> Self {
        Self { lo: value, hi: value }
    }

    /// Number of members.
    pub fn width(self) -> u64 {
        self.hi.abs_diff(self.lo) + 1
    }

    /// log2 of the number of members: `[-52, 203]` has 8 bits, `[0, 199]` 7.64.
    pub fn bits(self) -> f64 {
        (self.width() as f64).log2()
    }

    /// Whether `value` is a member.
    pub fn contains(self, value: i64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }

    /// Whether every member of `other` is a member.
    pub fn covers(self, other: Self) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }

    /// The smallest interval with the members of both.
    pub fn hull(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// The members of both, if there are any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        (lo <= hi).then_some(Self { lo, hi })
    }

    /// All `a + b`; `None` past [`Self::LIMIT`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.lo.checked_add(other.lo)?, self.hi.checked_add(other.hi)?)
    }

    /// All `a − b`; `None` past [`Self::LIMIT`].
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::new(self.lo.checked_sub(other.hi)?, self.hi.checked_sub(other.lo)?)
    }

    /// All `a · c`; `None` past [`Self::LIMIT`].
    pub fn checked_scale(self, c: i64) -> Option<Self> {
        let (a, b) = (self.lo.checked_mul(c)?, self.hi.checked_mul(c)?);
        Self::new(a.min(b), a.max(b))
    }

    /// The nearest member.
    pub fn clamp(self, value: i64) -> i64 {
        value.clamp(self.lo, self.hi)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.lo, self.hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_real_numbers() {
        assert_eq!(Interval { lo: -52, hi: 203 }.bits(), 8.0);
        assert!((Interval { lo: 0, hi: 198 }.bits() - 7.64).abs() < 0.01);
        assert_eq!(Interval::point(7).bits(), 0.0);
    }

    #[test]
    fn arithmetic_is_checked_at_the_limit() {
        let top = Interval { lo: 0, hi: Interval::LIMIT };
        assert_eq!(top.checked_add(Interval::point(1)), None);
        assert_eq!(top.checked_scale(-1), Some(Interval { lo: -Interval::LIMIT, hi: 0 }));
        assert_eq!(Interval { lo: -2, hi: 3 }.checked_sub(Interval { lo: 1, hi: 5 }), Some(Interval { lo: -7, hi: 2 }));
    }
}
