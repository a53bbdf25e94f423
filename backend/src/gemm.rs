//! Products of small clear integers with torus words: the kernel of linear layers and of the keyswitch.
//!
//! All arithmetic wraps modulo 2^64. The inner loop is plain code on fixed-size arrays, compiled once per vector
//! instruction set and chosen at run time.

use pulp::{Arch, Simd, WithSimd};

/// Results computed together: the same words are multiplied by this many integers.
pub(crate) const TILE: usize = fhe_ir::count::TILE;
/// Words handled together.
pub(crate) const LANES: usize = 32;

/// `LANES` words of one operand.
pub(crate) type Lane = [u64; LANES];

/// Integers for `TILE` results, as torus words.
pub(crate) type Factors = [u64; TILE];

/// One summand: which lane of words, and its factors. Naming the lane lets callers leave zeros out, and keeps the
/// compiler from vectorising across summands, which spills the sums (measured: four times slower).
pub(crate) type Term = (u32, Factors);

/// `Σ f·words[k]` over the terms `(k, f)`.
pub(crate) fn combine(terms: &[Term], words: &[Lane]) -> [Lane; TILE] {
    Arch::new().dispatch(Combine { terms, words })
}

struct Combine<'a> {
    terms: &'a [Term],
    words: &'a [Lane],
}

impl WithSimd for Combine<'_> {
    type Output = [Lane; TILE];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let [mut a, mut b, mut c, mut d] = [[[0; 8]; 4]; TILE];
        for (k, f) in self.terms {
            let w = split(&self.words[*k as usize]);
            a = [add(a[0], f[0], &w[0]), add(a[1], f[0], &w[1]), add(a[2], f[0], &w[2]), add(a[3], f[0], &w[3])];
            b = [add(b[0], f[1], &w[0]), add(b[1], f[1], &w[1]), add(b[2], f[1], &w[2]), add(b[3], f[1], &w[3])];
            c = [add(c[0], f[2], &w[0]), add(c[1], f[2], &w[1]), add(c[2], f[2], &w[2]), add(c[3], f[2], &w[3])];
            d = [add(d[0], f[3], &w[0]), add(d[1], f[3], &w[1]), add(d[2], f[3], &w[2]), add(d[3], f[3], &w[3])];
        }
        let mut sums = [[0; LANES]; TILE];
        for (lane, eights) in sums.iter_mut().zip([a, b, c, d]) {
            lane.copy_from_slice(eights.as_flattened());
        }
        sums
    }
}

/// Eight words: one register of AVX-512. Sixteen of them are the sums, so that they never leave the registers.
type Eight = [u64; 8];

#[inline(always)]
fn add(sum: Eight, factor: u64, words: &Eight) -> Eight {
    let mut out = sum;
    for i in 0..8 {
        out[i] = out[i].wrapping_add(factor.wrapping_mul(words[i]));
    }
    out
}

#[inline(always)]
fn split(lane: &Lane) -> [Eight; 4] {
    let (eights, _) = lane.as_chunks::<8>();
    [eights[0], eights[1], eights[2], eights[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_wrap_and_match_a_plain_loop() {
        let word = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let words: Vec<Lane> = (0..7).map(|k| std::array::from_fn(|i| word(k * LANES + i))).collect();
        let factors: Vec<Factors> = (0..7).map(|k| std::array::from_fn(|m| (k as i64 - 3 * m as i64) as u64)).collect();
        let terms: Vec<Term> = [0, 6, 1, 1, 3].map(|k: usize| (k as u32, factors[k])).into();
        let sums = combine(&terms, &words);
        for m in 0..TILE {
            for i in 0..LANES {
                let product = |k: usize| factors[k][m].wrapping_mul(words[k][i]);
                assert_eq!(sums[m][i], [0, 6, 1, 1, 3].iter().fold(0, |s: u64, &k| s.wrapping_add(product(k))));
            }
        }
    }
}
