//! The loops of a blind rotation. They are plain loops over slices of equal length, which the compiler vectorises,
//! also those that take complex numbers apart or put them together.

use pulp::{Simd, WithSimd};
use tfhe::core_crypto::fft_impl::fft64::c64;

/// `a·b + c`, fused where the machine has it; without, the library function would be very slow.
#[inline(always)]
fn mul_add<S: Simd>(a: f64, b: f64, c: f64) -> f64 {
    if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
}

/// Rounds `X^degree·p − p` to the digits that the decomposition keeps; `degree` is in `[0, 2N)`.
pub(crate) struct Difference<'a> {
    pub(crate) polynomial: &'a [u64],
    pub(crate) degree: usize,
    /// Low bits that are rounded away.
    pub(crate) dropped: u32,
    pub(crate) out: &'a mut [u64],
}

impl WithSimd for Difference<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (n, rounding, dropped) = (self.polynomial.len(), (1u64 << self.dropped) >> 1, self.dropped);
        let turned = self.degree % n;
        // X^degree moves coefficients up; those that pass N come back negated.
        let (head, tail) = self.out.split_at_mut(turned);
        let (stay, pass) = self.polynomial.split_at(n - turned);
        let (own_head, own_tail) = self.polynomial.split_at(turned);
        let round = |word: u64| (word.wrapping_add(rounding) as i64 >> dropped) as u64;
        let (minus, plus) = if self.degree < n {
            ((head, pass, own_head), (tail, stay, own_tail))
        } else {
            ((tail, stay, own_tail), (head, pass, own_head))
        };
        for (d, (p, o)) in minus.0.iter_mut().zip(minus.1.iter().zip(minus.2)) {
            *d = round(p.wrapping_neg().wrapping_sub(*o));
        }
        for (d, (p, o)) in plus.0.iter_mut().zip(plus.1.iter().zip(plus.2)) {
            *d = round(p.wrapping_sub(*o));
        }
    }
}

/// Takes the lowest digit, in `[−B/2, B/2)`, off every number and twists the digits for the transform.
pub(crate) struct TakeDigit<'a> {
    /// First and second half of the polynomial: real and imaginary parts.
    pub(crate) numbers: [&'a mut [u64]; 2],
    pub(crate) base_log: u32,
    pub(crate) twist: [&'a [f64]; 2],
    pub(crate) out: &'a mut [c64],
}

impl WithSimd for TakeDigit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (base_log, unused) = (self.base_log, 64 - self.base_log);
        let [re, im] = self.numbers;
        let twist = self.twist[0].iter().zip(self.twist[1]);
        for ((out, (cos, sin)), (re, im)) in self.out.iter_mut().zip(twist).zip(re.iter_mut().zip(im)) {
            let (x, y) = ((*re << unused) as i64 >> unused, (*im << unused) as i64 >> unused);
            *re = (re.wrapping_sub(x as u64) as i64 >> base_log) as u64;
            *im = (im.wrapping_sub(y as u64) as i64 >> base_log) as u64;
            let (x, y) = (x as f64, y as f64);
            *out = c64 { re: mul_add::<S>(x, *cos, -(y * sin)), im: mul_add::<S>(x, *sin, y * cos) };
        }
    }
}

/// Adds the product of a transformed polynomial with a transformed polynomial of the key.
pub(crate) struct Multiply<'a> {
    /// Real parts, then imaginary parts.
    pub(crate) digits: [&'a [f64]; 2],
    pub(crate) key: [&'a [f64]; 2],
    pub(crate) sum: [&'a mut [f64]; 2],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let digits = self.digits[0].iter().zip(self.digits[1]);
        let key = self.key[0].iter().zip(self.key[1]);
        let [re, im] = self.sum;
        for (((x, y), (a, b)), (re, im)) in digits.zip(key).zip(re.iter_mut().zip(im)) {
            *re = mul_add::<S>(-y, *b, mul_add::<S>(*x, *a, *re));
            *im = mul_add::<S>(*y, *a, mul_add::<S>(*x, *b, *im));
        }
    }
}

/// Takes complex numbers apart.
pub(crate) struct Split<'a> {
    pub(crate) from: &'a [c64],
    pub(crate) to: [&'a mut [f64]; 2],
}

impl WithSimd for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [re, im] = self.to;
        for (z, (re, im)) in self.from.iter().zip(re.iter_mut().zip(im)) {
            *re = z.re;
            *im = z.im;
        }
    }
}

/// Puts complex numbers together.
pub(crate) struct Join<'a> {
    pub(crate) from: [&'a [f64]; 2],
    pub(crate) to: &'a mut [c64],
}

impl WithSimd for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (z, (re, im)) in self.to.iter_mut().zip(self.from[0].iter().zip(self.from[1])) {
            *z = c64 { re: *re, im: *im };
        }
    }
}

/// Untwists a transformed product and adds it to a polynomial of torus words.
pub(crate) struct BackToTorus<'a> {
    pub(crate) product: &'a [c64],
    /// Divided by their number, because the transform back does not do so.
    pub(crate) twist: [&'a [f64]; 2],
    pub(crate) polynomial: &'a mut [u64],
}

impl WithSimd for BackToTorus<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (low, high) = self.polynomial.split_at_mut(self.product.len());
        let twist = self.twist[0].iter().zip(self.twist[1]);
        for ((z, (cos, sin)), (low, high)) in self.product.iter().zip(twist).zip(low.iter_mut().zip(high)) {
            *low = low.wrapping_add(to_word(mul_add::<S>(z.re, *cos, z.im * sin)));
            *high = high.wrapping_add(to_word(mul_add::<S>(z.im, *cos, -(z.re * sin))));
        }
    }
}

/// `1.5·2^52`: a number below `2^51` added to it is rounded to a whole number, which its low bits then hold.
const WHOLE: f64 = 6_755_399_441_055_744.0;

/// The torus word of a real number modulo 1.
#[inline(always)]
fn to_word(x: f64) -> u64 {
    let fraction = (x - x.round_ties_even()) * 2f64.powi(32);
    // Upper and lower half of the word one after the other: a cast of 64 bits is not vectorised.
    let upper = fraction + WHOLE;
    let lower = (fraction - (upper - WHOLE)) * 2f64.powi(32) + WHOLE;
    let bits = |whole: f64| whole.to_bits().wrapping_sub(WHOLE.to_bits());
    (bits(upper) << 32).wrapping_add(bits(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_fractions_of_a_turn() {
        for (x, word) in [(0.0, 0u64), (0.25, 1 << 62), (-0.25, 3 << 62), (7.125, 1 << 61), (-2f64.powi(-64), u64::MAX)]
        {
            assert_eq!(to_word(x), word, "{x}");
        }
        assert_eq!(to_word(0.5), 1 << 63);
        assert_eq!(to_word(2f64.powi(-20) * 1.75), 7 << 42);
    }
}
