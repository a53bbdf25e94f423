//! Long lists of numbers that a text names by digest.

use std::collections::BTreeMap;

/// Hexadecimal digits of a digest in the text, unless two different lists share them.
const SHORT: usize = 16;

/// Hexadecimal digits of a whole digest.
const WHOLE: usize = 64;

/// A number of a list.
trait Number: Copy {
    /// Its little-endian bytes, appended.
    fn bytes(self, to: &mut Vec<u8>);
}

impl Number for f32 {
    fn bytes(self, to: &mut Vec<u8>) {
        to.extend(self.to_le_bytes());
    }
}

impl Number for i64 {
    fn bytes(self, to: &mut Vec<u8>) {
        to.extend(self.to_le_bytes());
    }
}

/// Lists of numbers, each under the first digits of the blake3 of its little-endian bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    reals: BTreeMap<String, Vec<f32>>,
    ints: BTreeMap<String, Vec<i64>>,
}

impl Sidecar {
    /// A sidecar without lists.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no lists.
    pub fn is_empty(&self) -> bool {
        self.reals.is_empty() && self.ints.is_empty()
    }

    /// Keeps a list of reals; returns its digest.
    pub fn insert_reals(&mut self, list: Vec<f32>) -> String {
        insert(&mut self.reals, list)
    }

    /// Keeps a list of integers; returns its digest.
    pub fn insert_ints(&mut self, list: Vec<i64>) -> String {
        insert(&mut self.ints, list)
    }

    /// Keeps a list of reals under a digest from outside, if it is one of this list.
    pub fn restore_reals(&mut self, digest: &str, list: Vec<f32>) -> bool {
        restore(&mut self.reals, digest, list)
    }

    /// Keeps a list of integers under a digest from outside, if it is one of this list.
    pub fn restore_ints(&mut self, digest: &str, list: Vec<i64>) -> bool {
        restore(&mut self.ints, digest, list)
    }

    /// The reals of a digest.
    pub fn reals(&self, digest: &str) -> Option<&[f32]> {
        self.reals.get(digest).map(Vec::as_slice)
    }

    /// The integers of a digest.
    pub fn ints(&self, digest: &str) -> Option<&[i64]> {
        self.ints.get(digest).map(Vec::as_slice)
    }

    /// All lists of reals, by digest.
    pub fn all_reals(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.reals.iter().map(|(digest, list)| (digest.as_str(), list.as_slice()))
    }

    /// All lists of integers, by digest.
    pub fn all_ints(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.ints.iter().map(|(digest, list)| (digest.as_str(), list.as_slice()))
    }
}

/// blake3 of the little-endian bytes, in hexadecimal.
fn digest<T: Number>(list: &[T]) -> String {
    const CHUNK: usize = 8192;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for chunk in list.chunks(CHUNK) {
        bytes.clear();
        for number in chunk {
            number.bytes(&mut bytes);
        }
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn insert<T: Number>(lists: &mut BTreeMap<String, Vec<T>>, list: Vec<T>) -> String {
    let whole = digest(&list);
    let short = &whole[..SHORT];
    let key = match lists.get(short) {
        Some(other) if digest(other) != whole => whole,
        _ => short.to_owned(),
    };
    lists.entry(key.clone()).or_insert(list);
    key
}

fn restore<T: Number>(lists: &mut BTreeMap<String, Vec<T>>, key: &str, list: Vec<T>) -> bool {
    let fits = (SHORT..=WHOLE).contains(&key.len()) && digest(&list).starts_with(key);
    if fits {
        lists.insert(key.to_owned(), list);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_blake3_of_little_endian_bytes() {
        let mut sidecar = Sidecar::new();
        let key = sidecar.insert_ints(vec![1, -2]);
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(key, blake3::hash(&bytes).to_hex()[..16]);
        assert_eq!(sidecar.ints(&key), Some(&[1, -2][..]));
        assert_eq!(sidecar.reals(&key), None);
    }

    #[test]
    fn two_lists_with_the_same_digits_keep_apart() {
        let mut sidecar = Sidecar::new();
        let whole = digest(&[7i64]);
        sidecar.ints.insert(whole[..SHORT].to_owned(), vec![8]);
        assert_eq!(sidecar.insert_ints(vec![7]), whole);
        assert_eq!(sidecar.ints(&whole), Some(&[7][..]));
    }

    #[test]
    fn a_list_is_restored_only_under_its_own_digest() {
        let mut sidecar = Sidecar::new();
        let key = Sidecar::new().insert_reals(vec![0.5; 70]);
        assert!(!sidecar.restore_reals(&key, vec![0.25; 70]));
        assert!(!sidecar.restore_reals(&key[..8], vec![0.5; 70]));
        assert!(sidecar.restore_reals(&key, vec![0.5; 70]));
        assert_eq!(sidecar.reals(&key).map(<[f32]>::len), Some(70));
    }
}
