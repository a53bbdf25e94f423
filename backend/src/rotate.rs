//! Blind rotation of many accumulators: the inner loop of every bootstrap.
//!
//! For each element of the bootstrap key and each ciphertext, `acc += key ⊡ (X^a·acc − acc)`: rotate, decompose,
//! transform, multiply by the key element, transform back. The key element is outermost, so that it is read from
//! memory once per batch. Loops are plain code, compiled once per vector instruction set and chosen at run time; the transforms are `tfhe`'s, which choose for themselves. The result is `tfhe`'s up to
//! rounding of the floating-point transform.

use fhe_ir::BootstrapKey;
use tfhe::core_crypto::fft_impl::fft64::math::fft::Plan;
use tfhe::core_crypto::fft_impl::fft64::{AVec, c64};
use tfhe::core_crypto::prelude::*;

use crate::bootstrap::Switched;
use crate::fft;
use crate::kernel::{BackToTorus, Difference, Join, Multiply, Split, TakeDigit};

/// Buffers start at cache lines.
const ALIGN: usize = 64;

/// A bootstrap key in the Fourier domain, laid out for [`Rotator::rotate`].
pub(crate) struct Rotator {
    polynomial_size: usize,
    /// Polynomials of a GLWE ciphertext.
    polynomials: usize,
    base_log: u32,
    levels: usize,
    plan: Plan,
    /// `e^(iπj/N)`: real parts, imaginary parts.
    twist: [Vec<f64>; 2],
    /// The same, divided by `N/2`.
    untwist: [Vec<f64>; 2],
    /// Per key element, level, polynomial of digits and polynomial of the result: `N/2` real parts, then `N/2`
    /// imaginary parts.
    key: AVec<f64>,
}

/// Memory of one thread.
pub(crate) struct Scratch {
    /// What is left to decompose.
    numbers: Vec<u64>,
    /// One polynomial on its way through the transform.
    fourier: AVec<c64>,
    /// Real and imaginary parts of one polynomial of digits.
    digits: AVec<f64>,
    /// Real and imaginary parts of all polynomials of the result.
    sums: AVec<f64>,
    buffers: ComputationBuffers,
}

impl Rotator {
    /// Lays out a key.
    pub(crate) fn new(key: &FourierLweBootstrapKeyOwned) -> Self {
        let polynomials = key.as_view().data().chunks_exact(key.polynomial_size().0 / 2);
        let numbers = polynomials.flat_map(|p| p.iter().map(|z| z.re).chain(p.iter().map(|z| z.im)));
        let (n, levels) = (key.polynomial_size().0, key.decomposition_level_count().0);
        Self::laid_out(n, key.glwe_size().0, key.decomposition_base_log().0, levels, AVec::from_iter(ALIGN, numbers))
    }

    /// A key of arbitrary numbers, which takes as long as a real one.
    pub(crate) fn for_timing(key: &BootstrapKey) -> Self {
        let (n, k1) = (1 << key.log2_polynomial_size, key.glwe_dimension as usize + 1);
        let (base_log, level) = (key.pbs.base_log as usize, key.pbs.level as usize);
        let count = key.lwe_dimension as usize * level * k1 * k1 * n;
        let numbers = (0..count).map(|i| ((i * 37 % 1009) as f64 - 504.5) * 2f64.powi(50));
        Self::laid_out(n, k1, base_log, level, AVec::from_iter(ALIGN, numbers))
    }

    fn laid_out(n: usize, polynomials: usize, base_log: usize, levels: usize, key: AVec<f64>) -> Self {
        let half = n / 2;
        let angle = |j: usize| j as f64 * std::f64::consts::PI / n as f64;
        let twist: [Vec<f64>; 2] =
            [(0..half).map(|j| angle(j).cos()).collect(), (0..half).map(|j| angle(j).sin()).collect()];
        let untwist = [0, 1].map(|part: usize| twist[part].iter().map(|t| t / half as f64).collect());
        let plan = fft::plan(half);
        Self { polynomial_size: n, polynomials, base_log: base_log as u32, levels, plan, twist, untwist, key }
    }

    /// Memory for one thread.
    pub(crate) fn scratch(&self) -> Scratch {
        let mut buffers = ComputationBuffers::new();
        buffers.resize(self.plan.fft_scratch().unaligned_bytes_required());
        let n = self.polynomial_size;
        let zeros = |count| AVec::from_iter(ALIGN, std::iter::repeat_n(0.0, count));
        Scratch {
            numbers: vec![0; n],
            fourier: AVec::from_iter(ALIGN, std::iter::repeat_n(c64 { re: 0.0, im: 0.0 }, n / 2)),
            digits: zeros(n),
            sums: zeros(self.polynomials * n),
            buffers,
        }
    }

    /// Rotates accumulators (`polynomials · N` words each) by the phases of the ciphertexts.
    pub(crate) fn rotate(&self, accumulators: &mut [u64], ciphertexts: &[Switched], scratch: &mut Scratch) {
        let n = self.polynomial_size;
        let words = self.polynomials * n;
        for (accumulator, ciphertext) in accumulators.chunks_exact_mut(words).zip(ciphertexts) {
            for polynomial in accumulator.chunks_exact_mut(n) {
                divide_by_monomial(polynomial, ciphertext.body(), &mut scratch.numbers);
            }
        }
        let element = self.levels * self.polynomials * words;
        for (i, key) in self.key.chunks_exact(element).enumerate() {
            for (accumulator, ciphertext) in accumulators.chunks_exact_mut(words).zip(ciphertexts) {
                let degree = ciphertext.mask_element(i);
                if degree != 0 {
                    self.add_product(accumulator, degree, key, scratch);
                }
            }
        }
    }

    /// `acc += key ⊡ (X^degree·acc − acc)`.
    fn add_product(&self, accumulator: &mut [u64], degree: usize, key: &[f64], scratch: &mut Scratch) {
        let arch = pulp::Arch::new();
        let (n, half, base_log) = (self.polynomial_size, self.polynomial_size / 2, self.base_log);
        let Scratch { numbers, fourier, digits, sums, buffers } = scratch;
        let (twist, untwist) = ([0, 1].map(|i| &self.twist[i][..]), [0, 1].map(|i| &self.untwist[i][..]));
        sums.fill(0.0);
        for (p, polynomial) in accumulator.chunks_exact(n).enumerate() {
            let dropped = 64 - base_log * self.levels as u32;
            arch.dispatch(Difference { polynomial, degree, dropped, out: numbers });
            for level in 0..self.levels {
                let (re, im) = numbers.split_at_mut(half);
                arch.dispatch(TakeDigit { numbers: [re, im], base_log, twist, out: fourier });
                self.plan.fwd(fourier, buffers.stack());
                let (re, im) = digits.split_at_mut(half);
                arch.dispatch(Split { from: fourier, to: [re, im] });
                let digits = [&digits[..half], &digits[half..]];
                // The crate's order: least significant level first, then polynomials of digits, then of the result.
                let row = &key[(level * self.polynomials + p) * self.polynomials * n..];
                for (key, sum) in row.chunks_exact(n).zip(sums.chunks_exact_mut(n)) {
                    let (re, im) = sum.split_at_mut(half);
                    arch.dispatch(Multiply { digits, key: [&key[..half], &key[half..]], sum: [re, im] });
                }
            }
        }
        for (polynomial, sum) in accumulator.chunks_exact_mut(n).zip(sums.chunks_exact(n)) {
            arch.dispatch(Join { from: [&sum[..half], &sum[half..]], to: fourier });
            self.plan.inv(fourier, buffers.stack());
            arch.dispatch(BackToTorus { product: fourier, twist: untwist, polynomial });
        }
    }
}

/// `polynomial / X^degree` modulo `X^N + 1`, for `degree` in `[0, 2N)`.
pub(crate) fn divide_by_monomial(polynomial: &mut [u64], degree: usize, copy: &mut [u64]) {
    let n = polynomial.len();
    copy.copy_from_slice(polynomial);
    for (i, word) in polynomial.iter_mut().enumerate() {
        let j = (i + degree) % (2 * n);
        *word = if j < n { copy[j] } else { copy[j - n].wrapping_neg() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Randomness, native};
    use tfhe::core_crypto::fft_impl::fft64::crypto::bootstrap::batch_blind_rotate_assign_scratch;

    /// Words that look random.
    fn words(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    /// Errors of accumulators as fractions of the torus: decrypted coefficients against the rotated polynomial.
    fn errors(key: &GlweSecretKeyOwned<u64>, accumulators: &[u64], start: &[u64], slots: &[usize]) -> Vec<f64> {
        let n = key.polynomial_size().0;
        let words = (key.glwe_dimension().0 + 1) * n;
        let mut errors = vec![];
        for ((accumulator, start), slot) in accumulators.chunks(words).zip(start.chunks(words)).zip(slots) {
            let glwe = GlweCiphertext::from_container(accumulator, key.polynomial_size(), native());
            let mut plain = PlaintextList::new(0, PlaintextCount(n));
            decrypt_glwe_ciphertext(key, &glwe, &mut plain);
            let mut want = start[words - n..].to_vec();
            divide_by_monomial(&mut want, *slot, &mut vec![0; n]);
            let error = |(p, w): (&u64, &u64)| p.wrapping_sub(*w) as i64 as f64 / 2f64.powi(64);
            errors.extend(plain.as_ref().iter().zip(&want).map(error));
        }
        errors
    }

    #[test]
    fn rotation_is_as_exact_as_the_crates() {
        for (k, n, base_log, level) in [(1, 2048, 23, 1), (3, 512, 9, 3), (2, 256, 4, 6), (1, 1024, 31, 2)] {
            let (dimension, count) = (12, 3);
            let (glwe, polynomial) = (GlweDimension(k).to_glwe_size(), PolynomialSize(n));
            let (base, levels) = (DecompositionBaseLog(base_log), DecompositionLevelCount(level));
            let mut randomness = Randomness::insecure_deterministic(n as u128);
            let seeder = randomness.seeder();
            let mut secret = SecretRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed());
            let mut noise = EncryptionRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed(), seeder);
            let small = allocate_and_generate_new_binary_lwe_secret_key(LweDimension(dimension), &mut secret);
            let big = allocate_and_generate_new_binary_glwe_secret_key(GlweDimension(k), polynomial, &mut secret);
            let standard = par_allocate_and_generate_new_lwe_bootstrap_key(
                &small,
                &big,
                base,
                levels,
                Gaussian::from_dispersion_parameter(StandardDev(2f64.powi(-55)), 0.0),
                native(),
                &mut noise,
            );
            let fft = fft::transform(polynomial);
            let mut key = FourierLweBootstrapKey::new(LweDimension(dimension), glwe, polynomial, base, levels);
            par_convert_standard_lwe_bootstrap_key_to_fourier(&standard, &mut key);

            let mut next = words(n as u64);
            let ciphertexts: Vec<Switched> =
                (0..count).map(|_| Switched::new(&(0..=dimension).map(|_| next()).collect::<Vec<_>>(), 0, n)).collect();
            let slots: Vec<usize> = ciphertexts.iter().map(|c| c.slot(small.as_ref())).collect();
            let mut start = vec![0; count * glwe.0 * n];
            start.chunks_mut(glwe.0 * n).for_each(|a| a[k * n..].iter_mut().for_each(|w| *w = next()));

            let mut ours = start.clone();
            let rotator = Rotator::new(&key);
            rotator.rotate(&mut ours, &ciphertexts, &mut rotator.scratch());

            let mut theirs = GlweCiphertextList::from_container(start.clone(), glwe, polynomial, native());
            let mut buffers = ComputationBuffers::new();
            let request =
                batch_blind_rotate_assign_scratch::<u64>(glwe, polynomial, CiphertextCount(count), fft.as_view());
            buffers.resize(request.unaligned_bytes_required());
            let theirs_view = theirs.as_mut_view();
            key.as_view().batch_blind_rotate_assign(theirs_view, &ciphertexts, fft.as_view(), buffers.stack());

            let variance = |e: &[f64]| e.iter().map(|e| e * e).sum::<f64>() / e.len() as f64;
            let ours = errors(&big, &ours, &start, &slots);
            let theirs = errors(&big, theirs.as_ref(), &start, &slots);
            let place = format!("k={k} N={n} {base_log}x{level}");
            assert!(ours.iter().all(|e| e.abs() < 2f64.powi(-8)), "{place}: 2^{}", variance(&ours).log2() / 2.0);
            let ratio = variance(&ours) / variance(&theirs);
            assert!((0.5..2.0).contains(&ratio), "{place}: variance {ratio} times the crate's");
        }
    }
}
