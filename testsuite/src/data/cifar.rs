//! The binary format of CIFAR-10: records of one label byte and 32×32 pixels, red, green and blue one after another.

use std::io::Read;
use std::path::Path;

use super::DataError;
use super::input::{LIMIT, read_to};

/// Bytes of an image: `[3, 32, 32]`.
pub const IMAGE: usize = 3 * 32 * 32;

const RECORD: usize = 1 + IMAGE;
const GREATEST_CLASS: u8 = 9;

/// Images and their classes.
#[derive(Debug, PartialEq, Eq)]
pub struct Records {
    /// Class per image, 0 to 9.
    pub labels: Vec<u8>,
    /// Pixels `[images, 3, 32, 32]`.
    pub pixels: Vec<u8>,
}

/// Reads whole records, at least one. `path` is for messages.
pub fn read(path: &Path, from: impl Read) -> Result<Records, DataError> {
    let bytes = read_to(path, from, LIMIT)?;
    if bytes.is_empty() || bytes.len() as u64 > LIMIT || !bytes.len().is_multiple_of(RECORD) {
        let got = if bytes.len() as u64 > LIMIT { format!("more than {LIMIT}") } else { bytes.len().to_string() };
        let wanted = format!("a multiple of {RECORD}, at most {LIMIT}");
        return Err(DataError::WrongLength { path: path.into(), got: got + " bytes", wanted });
    }
    let mut records = Records { labels: vec![], pixels: Vec::with_capacity(bytes.len()) };
    for (row, record) in bytes.chunks_exact(RECORD).enumerate() {
        if record[0] > GREATEST_CLASS {
            let (path, got) = (path.into(), record[0]);
            return Err(DataError::NoSuchClass { path, row, got, greatest: GREATEST_CLASS });
        }
        records.labels.push(record[0]);
        records.pixels.extend_from_slice(&record[1..]);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Records, DataError> {
        read(Path::new("x"), bytes)
    }

    #[test]
    fn labels_and_pixels_are_separated() {
        let mut bytes = vec![1u8; RECORD];
        bytes.extend([9; RECORD]);
        let records = parse(&bytes).expect("sound");
        assert_eq!(records.labels, [1, 9]);
        assert_eq!(records.pixels[..IMAGE], [1; IMAGE]);
        assert_eq!(records.pixels[IMAGE..], [9; IMAGE]);
    }

    #[test]
    fn partial_records_and_unknown_classes_are_refused() {
        for length in [0, 1, RECORD - 1, RECORD + 1] {
            assert!(matches!(parse(&vec![0; length]), Err(DataError::WrongLength { .. })), "{length}");
        }
        let mut bytes = vec![0; 2 * RECORD];
        bytes[RECORD] = 10;
        assert!(matches!(parse(&bytes), Err(DataError::NoSuchClass { row: 1, got: 10, .. })));
    }
}
