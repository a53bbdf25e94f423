//! Encrypted tensors: LWE ciphertexts in row-major order, the words of each side by side.

use std::sync::Arc;

/// Ciphertexts of one value for a batch of rows: element `e` of row `r` is number `r·elements + e`.
///
/// Copies share the words until one is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Number of rows.
    pub rows: usize,
    /// Shape of one row, batch axis of 1 in front.
    pub shape: Vec<usize>,
    /// Words of one ciphertext: mask, then body.
    pub words: usize,
    data: Arc<Vec<u64>>,
}

impl Tensor {
    /// A tensor of the given words.
    ///
    /// # Panics
    /// When the number of words is not `rows · elements · words`.
    pub fn new(rows: usize, shape: Vec<usize>, words: usize, data: Vec<u64>) -> Self {
        assert_eq!(data.len(), rows * shape.iter().product::<usize>() * words, "words of {rows} rows of {shape:?}");
        Self { rows, shape, words, data: Arc::new(data) }
    }

    /// Trivial encryptions of 0.
    pub fn zero(rows: usize, shape: Vec<usize>, words: usize) -> Self {
        let len = rows * shape.iter().product::<usize>() * words;
        Self::new(rows, shape, words, vec![0; len])
    }

    /// Number of elements of one row.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of ciphertexts.
    pub fn len(&self) -> usize {
        self.rows * self.elements()
    }

    /// Whether there are no ciphertexts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channel (axis 1) of a ciphertext.
    pub fn channel(&self, ciphertext: usize) -> usize {
        let after: usize = self.shape.iter().skip(2).product();
        ciphertext % self.elements() / after.max(1)
    }

    /// All words.
    pub fn data(&self) -> &[u64] {
        &self.data
    }

    /// All words, for change.
    pub fn data_mut(&mut self) -> &mut [u64] {
        Vec::as_mut_slice(Arc::make_mut(&mut self.data))
    }

    /// Words of one ciphertext.
    pub fn ciphertext(&self, index: usize) -> &[u64] {
        &self.data[index * self.words..(index + 1) * self.words]
    }

    /// The same ciphertexts in another shape of as many elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        assert_eq!(self.elements(), shape.iter().product::<usize>(), "{:?} as {shape:?}", self.shape);
        Self { shape, ..self }
    }
}
