//! Noise of the backend's own kernels under a parameter set: what a prediction has to be compared with.
//!
//! Every key draws other secret bits, and the variance of a blind rotation is proportional to the number of ones among
//! the `n` bits of the small key: by itself that is a spread of `1/√n` between keys. So several keys are averaged.

use fhe_ir::{BootstrapKey, CircuitKeys, KeyswitchKey};
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;

use crate::bootstrap::Switched;
use crate::circuit::Circuit;
use crate::error::Error;
use crate::keys::{Randomness, SecretKeys, ServerKeys, generate, glwe_sizes, native};
use crate::progress::{Progress, Step, silent};
use crate::rotate::divide_by_monomial;
use crate::tensor::Tensor;

/// Ciphertexts that are rotated together.
const BATCH: usize = 16;

/// Ciphertexts that are keyswitched, per key.
const KEYSWITCHES: usize = 512;

/// Ciphertexts that are modulus-switched, per key.
const SWITCHES: usize = 4096;

/// A measured variance, as a fraction of the torus squared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean of the squared errors over all keys.
    pub variance: f64,
    /// Standard error of that mean, from the spread between samples and between keys.
    pub standard_error: f64,
    /// Mean of the errors, in standard deviations.
    pub mean: f64,
}

/// What [`measure_noise`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredNoise {
    /// A blind rotation: all coefficients of its result.
    pub blind_rotation: Spread,
    /// What a keyswitch adds.
    pub keyswitch: Spread,
    /// What the centred modulus switch to `2N` adds; its mean is that of the middle of a slot.
    pub modulus_switch: Spread,
}

/// Measures the first bootstrap key and the first keyswitch key of a circuit, made anew `keys` times: `rotations` blind
/// rotations under each.
///
/// # Errors
/// When the circuit has no bootstrap or no keyswitch.
pub fn measure_noise(
    circuit: &Circuit,
    keys: usize,
    rotations: usize,
    randomness: &mut Randomness,
    progress: Progress<'_>,
) -> Result<MeasuredNoise, Error> {
    let CircuitKeys { bootstrap, keyswitch, .. } = circuit.keys();
    let ([bootstrap, ..], [keyswitch, ..]) = (&bootstrap[..], &keyswitch[..]) else {
        let what = format!("graph {}", circuit.graph().name);
        return Err(Error::NotExecutable { what, why: "it has no table whose noise could be measured".into() });
    };
    let mut samples = [vec![], vec![], vec![]];
    for key in 0..keys {
        progress(Step { what: "measuring noise", done: key as u64, total: keys as u64 });
        let (secret, evaluation) = generate(circuit, randomness, &silent);
        let server = evaluation.expand(&silent);
        let mut words = words(key as u64 + 1);
        samples[0].push(blind_rotations(bootstrap, &secret, &server, rotations, &mut words)?);
        samples[1].push(keyswitches(keyswitch, &secret, &server, &mut words)?);
        samples[2].push(modulus_switches(bootstrap, &secret, &mut words)?);
    }
    let [blind_rotation, keyswitch, modulus_switch] = samples.map(|keys| spread(&keys));
    Ok(MeasuredNoise { blind_rotation, keyswitch, modulus_switch })
}

/// Sum, sum of squares and number of the errors of one ciphertext.
#[derive(Clone, Copy, Default)]
struct Sample([f64; 3]);

impl Sample {
    fn of(errors: impl Iterator<Item = f64>) -> Self {
        Self(errors.fold([0.0; 3], |[sum, squares, count], e| [sum + e, squares + e * e, count + 1.0]))
    }

    fn variance(self) -> f64 {
        self.0[1] / self.0[2]
    }
}

fn spread(keys: &[Vec<Sample>]) -> Spread {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let error = |values: &[f64]| {
        let (m, n) = (mean(values), values.len() as f64);
        (values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n).sqrt()
    };
    let each: Vec<f64> = keys.iter().flatten().map(|s| s.variance()).collect();
    let by_key: Vec<f64> = keys.iter().map(|k| mean(&k.iter().map(|s| s.variance()).collect::<Vec<_>>())).collect();
    let variance = mean(&each);
    let [sum, _, count] = keys.iter().flatten().fold([0.0; 3], |t, s| std::array::from_fn(|i| t[i] + s.0[i]));
    Spread { variance, standard_error: error(&each).max(error(&by_key)), mean: sum / count / variance.sqrt() }
}

/// Words that look random: the sequence `splitmix64`.
fn words(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed << 32;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A difference on the torus as a fraction of it, in `[-½, ½)`.
fn difference(a: u64, b: u64) -> f64 {
    a.wrapping_sub(b) as i64 as f64 / 2f64.powi(64)
}

fn blind_rotations(
    key: &BootstrapKey,
    secret: &SecretKeys,
    server: &ServerKeys,
    rotations: usize,
    next: &mut impl FnMut() -> u64,
) -> Result<Vec<Sample>, Error> {
    let (glwe, polynomial) = glwe_sizes(key.to());
    let n = polynomial.0;
    let accumulator_words = glwe.0 * n;
    let (big, small, rotator) = (secret.glwe(key.to())?, secret.lwe(key.from())?, server.rotator(key)?);
    let ciphertexts: Vec<Vec<u64>> =
        (0..rotations).map(|_| (0..key.lwe_dimension + 1).map(|_| next()).collect()).collect();
    // A table: steps of 16 slots.
    let table: Vec<u64> = (0..n as u64).map(|slot| (slot / 16).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let rotate = |batch: &[Vec<u64>]| -> Vec<Sample> {
        let switched: Vec<Switched> = batch.iter().map(|c| Switched::new(c, 0, n)).collect();
        let mut accumulators = vec![0; batch.len() * accumulator_words];
        for accumulator in accumulators.chunks_exact_mut(accumulator_words) {
            accumulator[accumulator_words - n..].copy_from_slice(&table);
        }
        rotator.rotate(&mut accumulators, &switched, &mut rotator.scratch());
        let sample = |(accumulator, switched): (&[u64], &Switched)| {
            let glwe = GlweCiphertext::from_container(accumulator, polynomial, native());
            let mut plain = PlaintextList::new(0, PlaintextCount(n));
            decrypt_glwe_ciphertext(&big, &glwe, &mut plain);
            let mut want = table.clone();
            divide_by_monomial(&mut want, switched.slot(small.as_ref()), &mut vec![0; n]);
            Sample::of(plain.as_ref().iter().zip(&want).map(|(a, b)| difference(*a, *b)))
        };
        accumulators.chunks_exact(accumulator_words).zip(&switched).map(sample).collect()
    };
    Ok(ciphertexts.par_chunks(BATCH).flat_map_iter(rotate).collect())
}

fn keyswitches(
    key: &KeyswitchKey,
    secret: &SecretKeys,
    server: &ServerKeys,
    next: &mut impl FnMut() -> u64,
) -> Result<Vec<Sample>, Error> {
    let words = key.from.dimension() as usize + 1;
    let (big, small) = (secret.lwe(key.from)?, secret.lwe(key.to)?);
    let mut data = Vec::with_capacity(KEYSWITCHES * words);
    for _ in 0..KEYSWITCHES {
        // Without noise, so that all that is found is the keyswitch's.
        let mask: Vec<u64> = (1..words).map(|_| next()).collect();
        let body = mask.iter().zip(big.as_ref()).fold(0u64, |sum, (a, s)| sum.wrapping_add(a.wrapping_mul(*s)));
        data.extend(mask);
        data.push(body);
    }
    let x = Tensor::new(1, vec![1, KEYSWITCHES], words, data);
    let switched = server.keyswitch(key, &x, &|_| {})?;
    let error = |i: usize| difference(phase(switched.ciphertext(i), small.as_ref()), 0);
    Ok((0..KEYSWITCHES).map(|i| Sample::of([error(i)].into_iter())).collect())
}

fn modulus_switches(
    key: &BootstrapKey,
    secret: &SecretKeys,
    next: &mut impl FnMut() -> u64,
) -> Result<Vec<Sample>, Error> {
    let small = secret.lwe(key.from())?;
    let slot = 1u64 << (63 - key.log2_polynomial_size);
    let sample = |ciphertext: Vec<u64>| {
        let read = Switched::new(&ciphertext, 0, 1 << key.log2_polynomial_size).slot(small.as_ref()) as u64;
        let middle = read.wrapping_mul(slot).wrapping_add(slot / 2);
        Sample::of([difference(middle, phase(&ciphertext, small.as_ref()))].into_iter())
    };
    Ok((0..SWITCHES).map(|_| sample((0..key.lwe_dimension + 1).map(|_| next()).collect())).collect())
}

/// Body minus mask times key.
fn phase(ciphertext: &[u64], key: &[u64]) -> u64 {
    let (body, mask) = ciphertext.split_last().expect("a ciphertext has a body");
    mask.iter().zip(key).fold(*body, |sum, (a, s)| sum.wrapping_sub(a.wrapping_mul(*s)))
}
