//! The keyswitch of many ciphertexts as one product of small integers with the key.
//!
//! `out = (0, …, 0, b) − Σ digit·key row`, where the digits are the signed decomposition of the mask: bit for bit what
//! `tfhe` computes one ciphertext at a time, but a row of the key is read once for many ciphertexts.

use fhe_ir::KeyswitchKey;
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;

use crate::error::Error;
use crate::gemm::{LANES, Lane, TILE, Term, combine};
use crate::keys::ServerKeys;
use crate::tensor::Tensor;

/// Ciphertexts that read the key together.
const BATCH: usize = 64;
/// Rows of the key taken together: `ROWS·LANES·8` bytes stay in the first-level cache.
const ROWS: usize = 128;

impl ServerKeys {
    /// Brings all elements of a tensor from one key to another; `done` is told how many after each batch.
    ///
    /// # Errors
    /// When these keys have none like `key`.
    ///
    /// # Panics
    /// When the tensor is not under the key that `key` leads from.
    pub fn keyswitch(&self, key: &KeyswitchKey, x: &Tensor, done: &(dyn Fn(usize) + Sync)) -> Result<Tensor, Error> {
        Ok(self.packed(key)?.switch(x, done))
    }
}

/// A keyswitch key laid out for [`PackedKey::switch`].
pub struct PackedKey {
    base_log: DecompositionBaseLog,
    level: DecompositionLevelCount,
    /// Words of an output ciphertext.
    words: usize,
    /// Words of an input ciphertext.
    input_words: usize,
    /// Panels of `LANES` columns: each holds all rows of the key.
    panels: Vec<Vec<Lane>>,
}

impl PackedKey {
    /// Lays out a key.
    pub fn new<C: Container<Element = u64> + Sync>(key: &LweKeyswitchKey<C>) -> Self {
        let words = key.output_key_lwe_dimension().to_lwe_size().0;
        let data = key.as_ref();
        let panels = (0..words.div_ceil(LANES))
            .into_par_iter()
            .map(|panel| {
                let columns = panel * LANES..words.min((panel + 1) * LANES);
                data.chunks_exact(words)
                    .map(|row| {
                        let mut lane = [0; LANES];
                        lane[..columns.len()].copy_from_slice(&row[columns.clone()]);
                        lane
                    })
                    .collect()
            })
            .collect();
        Self {
            base_log: key.decomposition_base_log(),
            level: key.decomposition_level_count(),
            words,
            input_words: key.input_key_lwe_dimension().to_lwe_size().0,
            panels,
        }
    }

    /// A key of arbitrary words, which takes as long as a real one.
    pub(crate) fn for_timing(key: &KeyswitchKey) -> Self {
        let (words, rows) = (key.to.dimension() as usize + 1, key.from.dimension() as usize * key.ks.level as usize);
        let lane = |row: usize| std::array::from_fn(|i| ((row * LANES + i) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            base_log: DecompositionBaseLog(key.ks.base_log as usize),
            level: DecompositionLevelCount(key.ks.level as usize),
            words,
            input_words: key.from.dimension() as usize + 1,
            panels: (0..words.div_ceil(LANES)).map(|_| (0..rows).map(lane).collect()).collect(),
        }
    }

    /// Brings all ciphertexts of a tensor to the output key; `done` is told how many after each batch.
    pub fn switch(&self, x: &Tensor, done: &(dyn Fn(usize) + Sync)) -> Tensor {
        assert_eq!(x.words, self.input_words, "ciphertexts are under the key's input key");
        let mut out = vec![0; x.len() * self.words];
        let per_thread = x.len().div_ceil(rayon::current_num_threads()).next_multiple_of(TILE);
        let batch = per_thread.clamp(TILE, BATCH);
        out.par_chunks_mut(batch * self.words).zip(x.data().par_chunks(batch * x.words)).for_each(|(out, x)| {
            self.switch_batch(x, out);
            done(out.len() / self.words);
        });
        Tensor::new(x.rows, x.shape.clone(), self.words, out)
    }

    fn switch_batch(&self, x: &[u64], out: &mut [u64]) {
        let tiles: Vec<Vec<Term>> = x.chunks(TILE * self.input_words).map(|tile| self.digits(tile)).collect();
        for (p, panel) in self.panels.iter().enumerate() {
            let columns = p * LANES..self.words.min((p + 1) * LANES);
            let mut sums = vec![[[0u64; LANES]; TILE]; tiles.len()];
            for start in (0..panel.len()).step_by(ROWS) {
                let rows = start..panel.len().min(start + ROWS);
                for (tile, sums) in tiles.iter().zip(&mut sums) {
                    let part = combine(&tile[rows.clone()], panel);
                    for (s, p) in sums.as_flattened_mut().iter_mut().zip(part.as_flattened()) {
                        *s = s.wrapping_add(*p);
                    }
                }
            }
            for (ciphertext, sum) in out.chunks_exact_mut(self.words).zip(sums.as_flattened()) {
                for (word, s) in ciphertext[columns.clone()].iter_mut().zip(sum) {
                    *word = s.wrapping_neg();
                }
            }
        }
        for (out, x) in out.chunks_exact_mut(self.words).zip(x.chunks_exact(self.input_words)) {
            let body = &mut out[self.words - 1];
            *body = body.wrapping_add(x[self.input_words - 1]);
        }
    }

    /// Digits of the masks of up to `TILE` ciphertexts, in the order of the key's rows.
    fn digits(&self, tile: &[u64]) -> Vec<Term> {
        let decomposer = SignedDecomposer::<u64>::new(self.base_log, self.level);
        let rows = (self.input_words - 1) * self.level.0;
        let mut terms: Vec<Term> = (0..rows).map(|row| (row as u32, [0; TILE])).collect();
        for (m, ciphertext) in tile.chunks_exact(self.input_words).enumerate() {
            let mask = &ciphertext[..self.input_words - 1];
            for (word, terms) in mask.iter().zip(terms.chunks_exact_mut(self.level.0)) {
                for (digit, term) in decomposer.decompose(*word).zip(terms) {
                    term.1[m] = digit.value();
                }
            }
        }
        terms
    }
}
