//! Centred modulus switch, blind rotation, sample extraction of many ciphertexts.

use fhe_ir::BootstrapKey;
use rayon::prelude::*;
use tfhe::core_crypto::algorithms::modulus_switch::ModulusSwitchedLweCiphertext;
use tfhe::core_crypto::prelude::*;

use crate::encode::Lookup;
use crate::error::Error;
use crate::keys::{ServerKeys, glwe_sizes, native};
use crate::rotate::{Rotator, Scratch};
use crate::tensor::Tensor;

/// Ciphertexts that read the bootstrap key together; more bring nothing.
const BATCH: usize = 16;

/// A ciphertext after the modulus switch: numbers modulo `2N`.
pub struct Switched {
    log_modulus: CiphertextModulusLog,
    mask: Vec<usize>,
    body: usize,
}

impl Switched {
    /// The centred modulus switch of a ciphertext under the small key, after `shift` is added to its body: phases in
    /// `[j, j + 1)/2N` become `j` (`tfhe` shifts the mean by half a slot).
    pub fn new(ciphertext: &[u64], shift: u64, polynomial_size: usize) -> Self {
        let mut shifted = ciphertext.to_vec();
        let body = shifted.last_mut().expect("a ciphertext has a body");
        *body = body.wrapping_add(shift);
        let log_modulus = PolynomialSize(polynomial_size).to_blind_rotation_input_modulus_log();
        let lwe = LweCiphertext::from_container(shifted, native());
        let lazy = lwe_ciphertext_centered_binary_modulus_switch::<u64, usize, _>(lwe, log_modulus);
        // Collected once: the crate's batch rotation asks for single elements, which its lazy form would recompute.
        Self { log_modulus, mask: lazy.mask().collect(), body: lazy.body() }
    }

    /// The slot in `[0, 2N)` that this ciphertext reads under a binary key.
    pub fn slot(&self, key: &[u64]) -> usize {
        let modulus = 1usize << self.log_modulus.0;
        let mask: usize = self.mask.iter().zip(key).filter(|(_, bit)| **bit == 1).map(|(a, _)| *a).sum();
        (self.body + modulus - mask % modulus) % modulus
    }
}

impl Switched {
    /// The body, in `[0, 2N)`.
    pub(crate) fn body(&self) -> usize {
        self.body
    }

    /// An element of the mask, in `[0, 2N)`.
    pub(crate) fn mask_element(&self, index: usize) -> usize {
        self.mask[index]
    }
}

impl ModulusSwitchedLweCiphertext<usize> for Switched {
    fn log_modulus(&self) -> CiphertextModulusLog {
        self.log_modulus
    }
    fn lwe_dimension(&self) -> LweDimension {
        LweDimension(self.mask.len())
    }
    fn body(&self) -> usize {
        self.body
    }
    fn mask(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.mask.iter().copied()
    }
}

impl ServerKeys {
    /// Reads a table at all elements of a tensor under the small key of a bootstrap key; `done` is told how many after
    /// each batch.
    ///
    /// # Errors
    /// When these keys have none like `key`.
    ///
    /// # Panics
    /// When the tensor is not under that small key.
    pub fn bootstrap(
        &self,
        key: &BootstrapKey,
        x: &Tensor,
        lookup: &Lookup,
        done: &(dyn Fn(usize) + Sync),
    ) -> Result<Tensor, Error> {
        assert_eq!(x.words, key.lwe_dimension as usize + 1, "ciphertexts are under the key's small key");
        let rotator = self.rotator(key)?;
        let words = key.to().dimension() as usize + 1;
        let mut out = vec![0; x.len() * words];
        let batch = x.len().div_ceil(rayon::current_num_threads()).clamp(1, BATCH);
        out.par_chunks_mut(batch * words).enumerate().for_each_init(
            || rotator.scratch(),
            |scratch, (i, out)| {
                bootstrap_batch(rotator, key, x, i * batch, lookup, scratch, out);
                done(out.len() / words);
            },
        );
        Ok(Tensor::new(x.rows, x.shape.clone(), words, out))
    }
}

fn bootstrap_batch(
    rotator: &Rotator,
    key: &BootstrapKey,
    x: &Tensor,
    first: usize,
    lookup: &Lookup,
    scratch: &mut Scratch,
    out: &mut [u64],
) {
    let (glwe, polynomial) = glwe_sizes(key.to());
    let words = key.to().dimension() as usize + 1;
    let count = out.len() / words;
    let channels: Vec<usize> = (first..first + count).map(|i| x.channel(i)).collect();
    let switched: Vec<Switched> = channels
        .iter()
        .zip(first..)
        .map(|(&channel, i)| Switched::new(x.ciphertext(i), lookup.shift(channel), polynomial.0))
        .collect();
    let mut accumulators = GlweCiphertextList::new(0u64, glwe, polynomial, GlweCiphertextCount(count), native());
    for (mut accumulator, &channel) in accumulators.iter_mut().zip(&channels) {
        accumulator.get_mut_body().as_mut().copy_from_slice(lookup.polynomial(channel));
    }
    rotator.rotate(accumulators.as_mut(), &switched, scratch);
    for ((accumulator, &channel), out) in accumulators.iter().zip(&channels).zip(out.chunks_exact_mut(words)) {
        let mut lwe = LweCiphertext::from_container(out, native());
        extract_lwe_sample_from_glwe_ciphertext(&accumulator, &mut lwe, MonomialDegree(0));
        let body = lwe.get_mut_body().data;
        *body = body.wrapping_add(lookup.centre(channel));
    }
}
