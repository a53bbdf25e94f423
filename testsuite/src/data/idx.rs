//! The IDX format of MNIST: a big-endian header with the extents, then one byte per element.

use std::io::Read;
use std::path::Path;

use super::DataError;
use super::input::{LIMIT, read_to};

/// An array of bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Idx {
    /// Extents, the row in front.
    pub extents: Vec<usize>,
    /// Elements, row-major: as many as the product of the extents.
    pub bytes: Vec<u8>,
}

impl Idx {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.extents[0]
    }
}

/// Reads an array of `rank` extents; anything else in the file is an error. `path` is for messages.
pub fn read(path: &Path, rank: u8, mut from: impl Read) -> Result<Idx, DataError> {
    let header = 4 + 4 * u64::from(rank);
    let mut bytes = read_to(path, &mut from, header - 1)?;
    let wrong = |got: String| DataError::WrongFormat { path: path.into(), wanted: "an IDX file of bytes", got };
    // Two zeros, the element type (8 is a byte), the number of extents.
    match bytes.get(..4) {
        Some(&[0, 0, 8, r]) if r == rank => {}
        Some(&[0, 0, 8, r]) => return Err(wrong(format!("it has {r} extents, wanted {rank}"))),
        start => return Err(wrong(format!("it begins with {start:?}"))),
    }
    if (bytes.len() as u64) < header {
        return Err(wrong(format!("its header ends after {} of {header} bytes", bytes.len())));
    }
    let extents: Vec<u32> = bytes[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    let size = extents.iter().try_fold(1u64, |product, &e| product.checked_mul(u64::from(e)));
    let Some(size) = size.filter(|s| (1..=LIMIT).contains(s)) else {
        return Err(wrong(format!("its header says {extents:?}, allowed are 1 to {LIMIT} elements")));
    };
    bytes = read_to(path, from, size)?;
    if bytes.len() as u64 != size {
        let got = if bytes.len() as u64 > size { "more".into() } else { format!("{} bytes", bytes.len()) };
        let wanted = format!("{size} bytes behind its header");
        return Err(DataError::WrongLength { path: path.into(), got, wanted });
    }
    // Each is below LIMIT, which fits.
    Ok(Idx { extents: extents.into_iter().map(|e| e as usize).collect(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(extents: &[u32], elements: usize) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, extents.len() as u8];
        bytes.extend(extents.iter().flat_map(|e| e.to_be_bytes()));
        bytes.extend((0..elements).map(|i| i as u8));
        bytes
    }

    fn parse(bytes: &[u8], rank: u8) -> Result<Idx, DataError> {
        read(Path::new("x"), rank, bytes)
    }

    #[test]
    fn a_small_array_is_read() {
        let idx = parse(&file(&[2, 1, 3], 6), 3).expect("sound");
        assert_eq!(idx, Idx { extents: vec![2, 1, 3], bytes: vec![0, 1, 2, 3, 4, 5] });
        assert_eq!(idx.rows(), 2);
    }

    #[test]
    fn lengths_must_agree_with_the_header() {
        for elements in [0, 5, 7, 600] {
            assert!(matches!(parse(&file(&[2, 1, 3], elements), 3), Err(DataError::WrongLength { .. })), "{elements}");
        }
    }

    #[test]
    fn hostile_headers_are_refused_before_memory_is_taken() {
        for extents in [[u32::MAX; 3], [0, 28, 28], [1 << 20, 1 << 10, 1]] {
            assert!(matches!(parse(&file(&extents, 9), 3), Err(DataError::WrongFormat { .. })), "{extents:?}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let whole = file(&[2, 1, 3], 6);
        for end in 0..16 {
            assert!(matches!(parse(&whole[..end], 3), Err(DataError::WrongFormat { .. })), "cut at {end}");
        }
        assert!(matches!(parse(&whole, 1), Err(DataError::WrongFormat { .. })));
        assert!(matches!(parse(b"\x89PNG\r\n", 3), Err(DataError::WrongFormat { .. })));
    }
}
