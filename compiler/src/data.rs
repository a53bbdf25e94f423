//! Arrays from npy files: inputs, labels and calibration rows. A file is hostile until its header has been checked.

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis, Slice};
use ndarray_npy::ReadNpyExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// Largest npy file that is read.
pub const MAX_BYTES: u64 = 8 << 30;

/// An array file that cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    #[diagnostic(code("data::unreadable"), help("check the path and its permissions"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not npy, or not as long as its header says.
    #[error("{path} is not a whole npy file: {reason}")]
    #[diagnostic(code("data::not-npy"), help("write it with numpy.save (format 1.0 to 3.0, C order)"))]
    NotNpy {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The element type is not one that is read.
    #[error("{path} holds {got}, not numbers that are read here")]
    #[diagnostic(
        code("data::element-type"),
        help("save it as float32, float64, or as integers of 8 or 16 bits, int32 or int64")
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// Type of its header.
        got: String,
    },
    /// Rows that the model cannot take.
    #[error("the rows of {path} do not fit the model")]
    #[diagnostic(
        code("data::rows"),
        help("give an array [rows, ...] of the model's row shape, without NaN or infinities")
    )]
    Rows {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: fhe_ir::client::ClientError,
    },
    /// A file without rows.
    #[error("{path} has no rows")]
    #[diagnostic(code("data::no-rows"), help("give at least one row; ranges from a few rows seldom fit others"))]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// Labels do not fit the rows.
    #[error("{path} has {got} labels for {rows} rows")]
    #[diagnostic(code("data::labels"), help("give one label per row of --evaluate"))]
    Labels {
        /// The file.
        path: PathBuf,
        /// Number of labels.
        got: usize,
        /// Number of rows.
        rows: usize,
    },
    /// A label is not a class number.
    #[error("{path} has the label {label} in row {row}")]
    #[diagnostic(code("data::label"), help("labels are class numbers from 0"))]
    Label {
        /// The file.
        path: PathBuf,
        /// Row of the label.
        row: usize,
        /// The label.
        label: f32,
    },
}

/// Reads an array of numbers as f32.
pub fn read_npy(path: &Path) -> Result<ArrayD<f32>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: path.into(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        let reason = format!("{size} bytes, the limit is {MAX_BYTES}");
        return Err(DataError::NotNpy { path: path.into(), reason });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    parse_npy(&bytes).map_err(|e| match e {
        NpyError::Broken(reason) => DataError::NotNpy { path: path.into(), reason },
        NpyError::Type(got) => DataError::ElementType { path: path.into(), got },
    })
}

enum NpyError {
    Broken(String),
    Type(String),
}

fn parse_npy(bytes: &[u8]) -> Result<ArrayD<f32>, NpyError> {
    let header = Header::of(bytes).map_err(NpyError::Broken)?;
    fn read<T: ndarray_npy::ReadableElement>(bytes: &[u8], f: impl Fn(T) -> f32) -> Result<ArrayD<f32>, NpyError> {
        let array = ArrayD::<T>::read_npy(bytes).map_err(|e| NpyError::Broken(e.to_string()))?;
        let shape = array.raw_dim();
        let list: Vec<f32> = array.into_iter().map(f).collect();
        Ok(ArrayD::from_shape_vec(shape, list).expect("one number for each element"))
    }
    match header.descr.as_str() {
        "<f4" => read::<f32>(bytes, |e| e),
        "<f8" => read::<f64>(bytes, |e| e as f32),
        "|u1" => read::<u8>(bytes, f32::from),
        "|i1" => read::<i8>(bytes, f32::from),
        "<u2" => read::<u16>(bytes, f32::from),
        "<i2" => read::<i16>(bytes, f32::from),
        "<i4" => read::<i32>(bytes, |e| e as f32),
        "<i8" => read::<i64>(bytes, |e| e as f32),
        other => Err(NpyError::Type(other.into())),
    }
}

/// The part of an npy header that decides how much memory reading takes.
struct Header {
    descr: String,
}

impl Header {
    /// Checks that the bytes behind the header are exactly what its shape and type ask for.
    fn of(bytes: &[u8]) -> Result<Self, String> {
        let magic = bytes.get(..8).filter(|m| m.starts_with(b"\x93NUMPY")).ok_or("the magic bytes are missing")?;
        let (start, length) = match magic[6] {
            1 => (10, bytes.get(8..10).map(|b| u64::from(u16::from_le_bytes([b[0], b[1]])))),
            2 | 3 => (12, bytes.get(8..12).map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))),
            v => return Err(format!("version {v}")),
        };
        let end = length.map(|l| start as u64 + l).filter(|e| *e <= bytes.len() as u64).ok_or("the header is cut")?;
        let text = std::str::from_utf8(&bytes[start..end as usize]).map_err(|_| "the header is not text")?;
        let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':']));
        let descr = after("'descr'")
            .and_then(|rest| rest.strip_prefix('\'')?.split_once('\''))
            .map(|(d, _)| d.to_owned())
            .ok_or("the header names no element type")?;
        let shape = after("'shape'")
            .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
            .map(|(s, _)| s)
            .ok_or("the header names no shape")?;
        let size: u64 =
            descr.get(2..).and_then(|s| s.parse().ok()).filter(|s| *s <= 16).ok_or("unknown element size")?;
        let mut wanted = size;
        for extent in shape.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let extent: u64 = extent.trim_end_matches('L').parse().map_err(|_| format!("extent {extent}"))?;
            wanted = wanted.checked_mul(extent).ok_or("the shape is too large")?;
        }
        let got = bytes.len() as u64 - end;
        if got != wanted {
            return Err(format!("{got} bytes of data, the shape ({shape}) of {descr} has {wanted}"));
        }
        Ok(Self { descr })
    }
}

/// Reads class numbers, one for each of `rows`.
pub fn read_labels(path: &Path, rows: usize) -> Result<Vec<usize>, DataError> {
    let labels = read_npy(path)?;
    if labels.len() != rows {
        return Err(DataError::Labels { path: path.into(), got: labels.len(), rows });
    }
    let class = |(row, &label): (usize, &f32)| {
        // Class numbers are small: the cast is exact after the check.
        let whole = label.fract() == 0.0 && (0.0..=1e6).contains(&label);
        whole.then_some(label as usize).ok_or_else(|| DataError::Label { path: path.into(), row, label })
    };
    labels.iter().enumerate().map(class).collect()
}

/// The first `rows` rows.
pub fn first_rows(x: &ArrayD<f32>, rows: usize) -> ArrayD<f32> {
    x.slice_axis(Axis(0), Slice::from(..rows.min(x.shape()[0]))).to_owned()
}

/// Rows that stand in for calibration data: standard normal, or uniform in a range.
pub fn synthetic_rows(row_shape: &[usize], rows: usize, range: Option<(f32, f32)>, seed: u64) -> ArrayD<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut shape = row_shape.to_vec();
    // Stand-ins for large inputs are fewer: 2^26 numbers in all.
    shape[0] = rows.min((1 << 26) / row_shape.iter().product::<usize>().max(1)).max(1);
    let uniform = range.and_then(|(lo, hi)| Uniform::new_inclusive(lo, hi).ok());
    ArrayD::from_shape_simple_fn(shape, || match uniform {
        Some(u) => u.sample(&mut rng),
        None => StandardNormal.sample(&mut rng),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::WriteNpyExt;

    fn npy() -> Vec<u8> {
        let mut bytes = vec![];
        ArrayD::from_shape_vec(vec![2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])
            .unwrap()
            .write_npy(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn a_whole_file_is_read_and_every_cut_is_refused() {
        assert!(parse_npy(&npy()).is_ok_and(|a| a.shape() == [2, 3] && a[[1, 2]] == 6.0));
        for cut in 0..npy().len() {
            assert!(parse_npy(&npy()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_shape_larger_than_the_file_allocates_nothing() {
        let text = String::from_utf8_lossy(&npy()).into_owned();
        let at = text.find("(2, 3)").map(|_| npy().windows(6).position(|w| w == b"(2, 3)").unwrap()).unwrap();
        let mut bytes = npy();
        bytes[at..at + 6].copy_from_slice(b"(9**9)");
        assert!(parse_npy(&bytes).is_err());
        bytes[at..at + 6].copy_from_slice(b"(9999)");
        assert!(parse_npy(&bytes).is_err());
    }
}
