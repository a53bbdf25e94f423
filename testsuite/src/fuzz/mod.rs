//! Mutated ONNX files: what the reader is shown so that a stranger's file cannot hurt it.
//!
//! [`Mutator::mutant`] makes file `index` of `seed` from a set of models, the same in every run; [`check::check`] shows it
//! to the reader, and what the reader takes to the evaluator and the passes. The program `fuzz-onnx` runs any number of
//! them; a test runs the first few thousand.

pub mod check;
pub mod memory;
mod mutate;
pub mod run;
mod structure;
pub mod wire;

use std::path::{Path, PathBuf};

pub use mutate::{Mutant, Mutator};

/// Models above this size take their time without showing more of the reader.
const MAX_SEED_BYTES: u64 = 128 << 10;

/// A model that mutants are made from.
pub struct Seed {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Models of at most 128 KiB below a folder, in the order of their paths.
pub fn seeds(folder: &Path) -> std::io::Result<Vec<Seed>> {
    let mut paths = vec![];
    walk(folder, &mut paths)?;
    paths.sort();
    paths.into_iter().map(|path| Ok(Seed { bytes: std::fs::read(&path)?, path })).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "onnx") && path.metadata()?.len() <= MAX_SEED_BYTES {
            found.push(path);
        }
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every run and on every machine.
pub struct Random(u64);

impl Random {
    /// The generator of a seed and an index.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut random = Self(seed);
        random.0 = random.bits().wrapping_add(index);
        Self(random.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        // The remainder is biased by less than 2^-40 for the sizes met here.
        (self.bits() % n.max(1) as u64) as usize
    }

    /// One of a list.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}
