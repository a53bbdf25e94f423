//! One mutant of a seed: cut, flipped, spliced, or with its structure changed.

use super::structure::{Pool, mutate};
use super::wire::{Kind, Message};
use super::{Random, Seed};

/// A mutated file.
pub struct Mutant {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The seed and what was done to it.
    pub what: String,
}

/// Makes mutants from seeds.
pub struct Mutator {
    seeds: Vec<Seed>,
    trees: Vec<Message>,
    pool: Pool,
}

impl Mutator {
    /// For seeds that are protobuf; others are left out.
    pub fn new(seeds: Vec<Seed>) -> Self {
        let parsed = seeds.into_iter().filter_map(|s| Some((Message::parse(Kind::Model, &s.bytes)?, s)));
        let (trees, seeds): (Vec<_>, Vec<_>) = parsed.unzip();
        let pool = Pool::of(&trees);
        Self { seeds, trees, pool }
    }

    /// Number of seeds.
    pub fn len(&self) -> usize {
        self.seeds.len()
    }

    /// Whether there is no seed.
    pub fn is_empty(&self) -> bool {
        self.seeds.is_empty()
    }

    /// Mutant `index` of `seed`: half of them of the structure, half of the bytes.
    pub fn mutant(&self, seed: u64, index: u64) -> Mutant {
        let mut random = Random::new(seed, index);
        let chosen = random.below(self.seeds.len());
        let (Some(file), Some(tree)) = (self.seeds.get(chosen), self.trees.get(chosen)) else {
            return Mutant { bytes: vec![], what: "no seed".into() };
        };
        let mut bytes = file.bytes.clone();
        let mut steps = vec![];
        match random.below(20) {
            0 | 1 => steps.push(cut(&mut bytes, &mut random)),
            2..=4 => steps.push(flip(&mut bytes, &mut random)),
            5 => steps.push(overwrite(&mut bytes, &mut random)),
            6 => steps.push(repeat(&mut bytes, &mut random)),
            7 => {
                let other = random.below(self.seeds.len());
                steps.push(splice(&mut bytes, &self.seeds[other].bytes, &mut random));
            }
            kind => {
                let mut tree = tree.clone();
                for _ in 0..[1, 1, 1, 2, 4][random.below(5)] {
                    steps.push(mutate(&mut tree, &self.pool, &mut random));
                }
                bytes = tree.bytes();
                // A few are damaged in their bytes as well.
                if kind == 19 {
                    steps.push(flip(&mut bytes, &mut random));
                }
            }
        }
        let name = file.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Mutant { bytes, what: format!("{name}: {}", steps.join(", ")) }
    }
}

fn cut(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let length = random.below(bytes.len());
    bytes.truncate(length);
    format!("cut to {length} bytes")
}

fn flip(bytes: &mut [u8], random: &mut Random) -> String {
    let count = 1 + random.below(8);
    for _ in 0..count {
        // Structure is dense at the front of large files.
        let span = if random.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
        let at = random.below(span);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
    format!("{count} bits flipped")
}

fn overwrite(bytes: &mut [u8], random: &mut Random) -> String {
    let (at, length) = (random.below(bytes.len()), 1 + random.below(10));
    for byte in bytes.iter_mut().skip(at).take(length) {
        *byte = [0, 0x7f, 0x80, 0xff, random.bits() as u8][random.below(5)];
    }
    format!("{length} bytes from {at} on overwritten")
}

fn repeat(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let (at, length) = (random.below(bytes.len()), 1 + random.below(64));
    let part: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
    if random.below(2) == 0 {
        bytes.drain(at..at + part.len());
        return format!("{} bytes from {at} on left out", part.len());
    }
    bytes.splice(at..at, part);
    format!("{length} bytes from {at} on twice")
}

fn splice(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) -> String {
    let (from, to) = (random.below(bytes.len()), random.below(other.len()));
    bytes.truncate(from);
    bytes.extend(&other[to..]);
    format!("{from} bytes, then another from {to} on")
}
