//! NumPy files: rows of inputs, labels, decrypted outputs.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::path::Path;
use std::str::FromStr;

use ndarray::{ArrayD, Axis, Slice};
use ndarray_npy::{ReadNpyError, ReadNpyExt, WriteNpyExt};

use crate::error::Error;

/// Rows `first..=last`, counted from 0; written `A-B`, or `A` for one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// First row.
    pub first: usize,
    /// Last row.
    pub last: usize,
}

impl FromStr for RowRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |s: &str| s.trim().parse::<usize>().map_err(|_| format!("`{text}` is not `A-B` or `A`"));
        let (first, last) = match text.split_once('-') {
            Some((a, b)) => (number(a)?, number(b)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("`{text}` ends before it begins"));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for RowRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Rows of a `.npy` file of real or whole numbers or truth values, as `f32`; all of them without `rows`.
pub fn read_rows(path: &Path, rows: Option<RowRange>) -> Result<ArrayD<f32>, Error> {
    let all = read_numbers(path)?;
    let count = all.shape().first().copied().unwrap_or(0);
    if all.ndim() == 0 || count == 0 {
        return Err(Error::BadArray { path: path.into(), why: "there are no rows".into() });
    }
    match rows {
        None => Ok(all),
        Some(range) if range.last < count => {
            Ok(all.slice_axis(Axis(0), Slice::from(range.first..=range.last)).to_owned())
        }
        Some(range) => Err(Error::NoSuchRows { asked: range.to_string(), rows: count }),
    }
}

/// Class numbers of a `.npy` file, `[rows]` or `[rows, 1]`.
pub fn read_labels(path: &Path, rows: Option<RowRange>) -> Result<Vec<usize>, Error> {
    let labels = read_rows(path, rows)?;
    if labels.len() != labels.shape()[0] || labels.iter().any(|l| *l < 0.0 || l.fract() != 0.0) {
        let why = format!("labels are one whole number per row, this array has shape {:?}", labels.shape());
        return Err(Error::BadArray { path: path.into(), why });
    }
    Ok(labels.iter().map(|l| *l as usize).collect())
}

/// Writes an array.
pub fn write_array(path: &Path, array: &ArrayD<f32>) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::io(path))?;
    array.write_npy(BufWriter::new(file)).map_err(|e| Error::BadArray { path: path.into(), why: e.to_string() })
}

fn read_numbers(path: &Path) -> Result<ArrayD<f32>, Error> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    macro_rules! attempt {
        ($($t:ty => $f:expr),*) => {$(
            file.rewind().map_err(Error::io(path))?;
            match ArrayD::<$t>::read_npy(&mut file) {
                Ok(array) => return Ok(array.mapv($f)),
                Err(ReadNpyError::WrongDescriptor(_)) => {}
                Err(e) => return Err(Error::BadArray { path: path.into(), why: e.to_string() }),
            }
        )*};
    }
    // Whole numbers past 2^24 lose low bits in f32, far below any quantizer's step.
    attempt!(f32 => |e| e, f64 => |e| e as f32, i64 => |e| e as f32, i32 => |e| e as f32, u8 => f32::from,
             i8 => f32::from, i16 => f32::from, u16 => f32::from, u32 => |e| e as f32, u64 => |e| e as f32,
             bool => |e| f32::from(u8::from(e)));
    Err(Error::BadArray { path: path.into(), why: "its element type is not a number".into() })
}
