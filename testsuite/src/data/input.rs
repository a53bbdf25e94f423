//! Files from outside: unpacked while they are read, and never past a limit.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::DataError;

/// Unpacked bytes that one file may have: five times the largest set, and little enough for any machine.
pub const LIMIT: u64 = 1 << 28;

/// Opens a file; one that is called `.gz` is unpacked.
pub fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(|cause| DataError::Unreadable { path: path.into(), cause })?;
    let file = BufReader::new(file);
    Ok(if path.extension().is_some_and(|e| e == "gz") { Box::new(GzDecoder::new(file)) } else { Box::new(file) })
}

/// Reads to the end, but at most `limit` bytes and one more: the result is longer than `limit` when there is more.
///
/// Memory grows with what arrives, not with what a header promises.
pub fn read_to(path: &Path, from: impl Read, limit: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = vec![];
    from.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|cause| DataError::Unreadable { path: path.into(), cause })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn reading_stops_one_byte_past_the_limit() {
        let read = |limit| read_to(Path::new("x"), &[7u8; 10][..], limit).expect("bytes").len();
        assert_eq!([read(4), read(10), read(20)], [5, 10, 10]);
    }

    #[test]
    fn packed_files_are_unpacked_and_damage_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.gz");
        let mut packer = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        packer.write_all(b"some bytes").expect("memory");
        let mut packed = packer.finish().expect("memory");
        std::fs::write(&path, &packed).expect("a file");
        let read = || read_to(&path, open(&path)?, LIMIT);
        assert_eq!(read().expect("sound"), b"some bytes");
        let checksum = packed.len() - 5;
        packed[checksum] ^= 1;
        std::fs::write(&path, &packed).expect("a file");
        assert!(matches!(read(), Err(DataError::Unreadable { .. })));
    }
}
