//! Lookup tables: what they cover, how they are read, and what happens outside.

use std::fmt;
use std::sync::Arc;

use ndarray::Array2;

use crate::interval::Interval;

/// How finely a table (or an output) resolves its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// One box for each integer of the domain.
    Exact,
    /// At most `2^p` equal boxes over the domain; the low bits fall into the noise.
    Approximate(u32),
    /// That many equal boxes over the domain, at most one per integer.
    Boxes(u32),
    /// As finely as the bootstrap resolves: every slot of its polynomial has an entry of its own. Noise in front of the
    /// table is then a small error of its argument and never a wrong box.
    Full,
    /// That many equal boxes over the domain, each an even number of integers, for an operand that is always the middle
    /// one of its box: what exact rounding leaves.
    Middles(u32),
    /// A single bit, over the whole torus: the domain is a power of two, the half torus holds exactly that many
    /// integers, and the operand is always a multiple of that number. The first entry is read at the even multiples,
    /// the second at the odd ones, each up to a quarter of the torus away.
    Bit,
}

/// Entries of a table that is read in full, before the polynomial that will hold it is known: more than the slots of
/// any polynomial that a noise budget leads to, so that sampling it loses nothing.
pub const FULL_BOXES: u64 = 1 << 12;

impl Read {
    /// Number of boxes over a domain of `width` integers; for [`Self::Full`] the greatest number.
    pub fn boxes(self, width: u64) -> u64 {
        match self {
            Self::Exact => width,
            Self::Approximate(p) => width.min(1 << p.min(32)),
            Self::Boxes(n) | Self::Middles(n) => width.min(u64::from(n.max(1))),
            Self::Full => width.min(FULL_BOXES),
            Self::Bit => width.min(2),
        }
    }

    /// Whether an integer of the domain lies in the middle of its unit of the half torus. Otherwise it lies at the left
    /// end of its unit, so that the middle one of an even number of integers is the middle of their box.
    pub fn is_centred(self) -> bool {
        match self {
            Self::Exact | Self::Approximate(_) | Self::Boxes(_) | Self::Full => true,
            Self::Middles(_) | Self::Bit => false,
        }
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => write!(f, "exact"),
            Self::Approximate(p) => write!(f, "approximate {p}"),
            Self::Boxes(n) => write!(f, "boxes {n}"),
            Self::Full => write!(f, "full"),
            Self::Middles(n) => write!(f, "middles {n}"),
            Self::Bit => write!(f, "bit"),
        }
    }
}

/// The integers a table is built for: per channel an interval, all of one width.
///
/// Equal widths let all channels of a tensor share the torus step and the box size; a channel with a smaller range
/// gets a domain centred on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Left ends: one for all channels, or one per channel (axis 1).
    pub lo: Vec<i64>,
    /// Number of integers, at least 1.
    pub width: u64,
}

impl Domain {
    /// The interval of a channel.
    pub fn channel(&self, channel: usize) -> Interval {
        let lo = self.lo[if self.lo.len() == 1 { 0 } else { channel }];
        Interval { lo, hi: lo + (self.width as i64 - 1) }
    }

    /// Domains of equal width around the given intervals, each as wide as the widest of them.
    ///
    /// # Panics
    /// Without intervals.
    pub fn around(intervals: &[Interval]) -> Self {
        let width = intervals.iter().map(|i| i.width()).max().expect("at least one channel");
        let lo = intervals.iter().map(|i| i.lo - ((width - i.width()) / 2) as i64).collect();
        Self { lo, width }
    }
}

/// Entries of a lookup table, one row per channel (or one row for all), one column per box.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Name in listings, unique in its graph.
    pub name: String,
    /// Entries, shape `[1 or channels, boxes]`.
    pub entries: Arc<Array2<i64>>,
}

impl Table {
    /// Row that serves a channel.
    pub fn row(&self, channel: usize) -> ndarray::ArrayView1<'_, i64> {
        self.entries.row(if self.entries.nrows() == 1 { 0 } else { channel })
    }

    /// Number of boxes.
    pub fn boxes(&self) -> usize {
        self.entries.ncols()
    }

    /// Smallest and greatest entry of a channel.
    pub fn image(&self, channel: usize) -> Interval {
        let row = self.row(channel);
        let first = row[0];
        row.iter().fold(Interval::point(first), |i, &e| i.hull(Interval::point(e)))
    }
}

/// The geometry of one table read: where a message lands on the half torus and which box it falls into.
///
/// The half torus in front of the padding bit holds `span ≥ domain.width` integers; the domain sits in its middle.
/// A bootstrap emits each entry minus `m = (first + last)/2` and `m` is added back in clear, so the negacyclic wrap
/// `T(x + span) = first + last − T(x)` continues the table: a value a little outside the domain saturates.
/// Evaluators, simulator and backend all read through this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Width of the domain in integers.
    pub width: u64,
    /// Boxes over the domain.
    pub boxes: u64,
    /// Integers that the half torus holds.
    pub span: u64,
    /// Whether integers lie in the middle of their units ([`Read::is_centred`]).
    pub centred: bool,
}

impl Reader {
    /// Twice the distance from the left end of the half torus to the first integer of the domain, in integers.
    pub fn twice_margin(self) -> u64 {
        self.span.saturating_sub(self.width) + u64::from(self.centred)
    }

    /// Reads `row` at `offset`, the signed distance of the integer message from the left end of the channel's domain.
    pub fn read(self, row: &[i64], offset: i64) -> i64 {
        // In half integers, so that the middle of an integer is a whole number: message 2·offset + 1 (where it is
        // centred), margin span − width.
        let (span, width, boxes) = (i128::from(self.span), i128::from(self.width), i128::from(self.boxes));
        let position = 2 * i128::from(offset) + i128::from(self.twice_margin());
        let (turns, rest) = (position.div_euclid(2 * span), position.rem_euclid(2 * span));
        let index = ((rest - (span - width)) * boxes).div_euclid(2 * width).clamp(0, boxes - 1);
        self.entry(row, index as usize, turns)
    }

    /// Reads `row` at slot `slot` of a bootstrap with polynomial size `n`: slot `j` holds the phases around
    /// `(j + ½)/2n`, as the centred modulus switch leaves them. `slot` may be any integer; it wraps at `2n`.
    pub fn read_slot(self, row: &[i64], slot: i64, n: u64) -> i64 {
        let n = i128::from(n);
        let (turns, rest) = (i128::from(slot).div_euclid(n), i128::from(slot).rem_euclid(n));
        self.entry(row, self.box_of_slot(rest as u64, n as u64), turns)
    }

    /// Box that serves slot `slot < n` of a polynomial of size `n`.
    pub fn box_of_slot(self, slot: u64, n: u64) -> usize {
        let (span, width, boxes, n) =
            (i128::from(self.span), i128::from(self.width), i128::from(self.boxes), i128::from(n));
        // Middle of the slot in integers is (slot + ½)·span/n; all times 2n to stay in whole numbers.
        let position = (2 * i128::from(slot) + 1) * span - (span - width) * n;
        (position * boxes).div_euclid(2 * n * width).clamp(0, boxes - 1) as usize
    }

    fn entry(self, row: &[i64], index: usize, turns: i128) -> i64 {
        if turns.rem_euclid(2) == 0 { row[index] } else { row[0] + row[row.len() - 1] - row[index] }
    }

    /// The middle of a box relative to the domain's left end, which has 0: where a table that stands for a function
    /// has its value.
    pub fn middle(self, index: u64) -> f64 {
        let twice = (2 * u128::from(index) + 1) * u128::from(self.width);
        twice as f64 / (2 * u128::from(self.boxes)) as f64 - if self.centred { 0.5 } else { 0.0 }
    }

    /// The integer (relative to the domain's left end) that holds the middle of a box: how an output read in boxes
    /// is turned back into an integer.
    pub fn centre(self, index: u64) -> i64 {
        let twice = (2 * u128::from(index) + 1) * u128::from(self.width);
        (twice / (2 * u128::from(self.boxes))) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_the_domain_every_integer_has_its_box() {
        let row: Vec<i64> = (100..110).collect();
        let reader = Reader { width: 10, boxes: 10, span: 10, centred: true };
        for x in 0..10 {
            assert_eq!(reader.read(&row, x), 100 + x);
            assert_eq!(reader.centre(x as u64), x);
            assert_eq!(reader.middle(x as u64), x as f64);
        }
    }

    #[test]
    fn the_middle_of_a_box_of_several_integers_is_their_mean() {
        let reader = Reader { width: 12, boxes: 3, span: 12, centred: true };
        assert_eq!([0, 1, 2].map(|i| reader.middle(i)), [1.5, 5.5, 9.5]);
        assert_eq!([0, 1, 2].map(|i| reader.centre(i)), [2, 6, 10]);
    }

    #[test]
    fn outside_it_saturates_then_reflects() {
        let row = [3, 5, 9, 20];
        let reader = Reader { width: 4, boxes: 4, span: 4, centred: true };
        assert_eq!(reader.read(&row, 4), 20);
        assert_eq!(reader.read(&row, -1), 3);
        assert_eq!(reader.read(&row, 7), 3);
        let wide = Reader { span: 12, ..reader };
        for x in 4..8 {
            assert_eq!(wide.read(&row, x), 20);
        }
    }

    #[test]
    fn slots_agree_with_integers_away_from_box_borders() {
        let row: Vec<i64> = (0..16).collect();
        for (width, boxes, span) in [(256, 16, 256), (200, 16, 256), (79, 16, 79)] {
            let reader = Reader { width, boxes, span, centred: true };
            let n = 1024;
            for x in 0..width as i64 {
                // Phase of the integer in slots, from the left end of the half torus.
                let slots = (x as f64 + 0.5 + (span - width) as f64 / 2.0) * n as f64 / span as f64;
                let in_box = (x as f64 + 0.5) * boxes as f64 / width as f64;
                if (in_box - in_box.round()).abs() * n as f64 / boxes as f64 > 1.0 {
                    assert_eq!(reader.read_slot(&row, slots.floor() as i64, n), reader.read(&row, x), "{x} of {width}");
                }
            }
        }
    }

    #[test]
    fn a_bit_is_read_on_the_whole_torus() {
        let (width, row) = (16, [0, 4]);
        let reader = Reader { width, boxes: Read::Bit.boxes(width), span: width, centred: Read::Bit.is_centred() };
        for multiple in -5..6 {
            // Up to a quarter of the torus to the left, less than that to the right.
            for noise in -8..8 {
                assert_eq!(reader.read(&row, 16 * multiple + noise), 4 * (multiple & 1), "{multiple} {noise}");
            }
            for (n, quarter) in [(8, 4), (1024, 512)] {
                for noise in -quarter..quarter {
                    assert_eq!(reader.read_slot(&row, n * multiple + noise, n as u64), 4 * (multiple & 1));
                }
            }
        }
    }

    #[test]
    fn the_middle_of_a_box_of_middles_is_an_integer() {
        let (width, row) = (32, [7, 9, 1, 0]);
        for span in [32, 64] {
            let reader = Reader { width, boxes: 4, span, centred: Read::Middles(4).is_centred() };
            for index in 0..4 {
                assert_eq!(reader.middle(index), 8.0 * index as f64 + 4.0);
                for noise in -4..4 {
                    assert_eq!(reader.read(&row, reader.middle(index) as i64 + noise), row[index as usize]);
                }
            }
        }
    }

    #[test]
    fn domains_of_narrow_channels_are_centred() {
        let domain = Domain::around(&[Interval { lo: -8, hi: 7 }, Interval { lo: 0, hi: 3 }]);
        assert_eq!(domain, Domain { lo: vec![-8, -6], width: 16 });
        assert_eq!(domain.channel(1), Interval { lo: -6, hi: 9 });
    }
}
