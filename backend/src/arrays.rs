//! NumPy files: rows of inputs, labels, decrypted outputs.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use ndarray::{ArrayD, Axis, IxDyn, ShapeBuilder, Slice};
use ndarray_npy::WriteNpyExt;

use crate::error::Error;
use crate::output::{self, Form};

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

/// Rows of a `.npy` file of real or whole numbers, as `f32`; all of them without `rows`.
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
    if labels.len() != labels.shape()[0] {
        let why = format!("labels are one whole number per row, this array has shape {:?}", labels.shape());
        return Err(Error::BadArray { path: path.into(), why });
    }
    let first = rows.map_or(0, |r| r.first);
    let class = |(row, &label): (usize, &f32)| {
        // Class numbers are small: the cast is exact after the check.
        let whole = label.fract() == 0.0 && (0.0..=1e6).contains(&label);
        whole.then_some(label as usize).ok_or_else(|| Error::BadLabel { path: path.into(), row: first + row, label })
    };
    labels.iter().enumerate().map(class).collect()
}

/// Refuses a path whose file an array may not replace: any that is neither empty nor a `.npy` file.
pub fn admit_array(path: &Path) -> Result<(), Error> {
    output::admit(path, Form::Npy)
}

/// Writes an array; it replaces only another array.
pub fn write_array(path: &Path, array: &ArrayD<f32>) -> Result<(), Error> {
    let mut bytes = vec![];
    array.write_npy(&mut bytes).map_err(|e| Error::BadArray { path: path.into(), why: e.to_string() })?;
    output::write(path, Form::Npy, &[&bytes])
}

fn read_numbers(path: &Path) -> Result<ArrayD<f32>, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    parse(BufReader::new(file)).map_err(|e| match e {
        NpyError::Io(cause) => Error::io(path)(cause),
        NpyError::Bad(why) => Error::BadArray { path: path.into(), why },
    })
}

enum NpyError {
    Io(io::Error),
    Bad(String),
}

impl From<io::Error> for NpyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for NpyError {
    fn from(why: String) -> Self {
        Self::Bad(why)
    }
}

impl From<&str> for NpyError {
    fn from(why: &str) -> Self {
        Self::Bad(why.into())
    }
}

/// Reads at most as many bytes; memory grows with what is there, not with what is asked for.
fn some(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    from.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads an array. The file is hostile until its length has been compared with its header.
fn parse(mut file: impl Read) -> Result<ArrayD<f32>, NpyError> {
    let magic = some(&mut file, 8)?;
    let version = magic.strip_prefix(b"\x93NUMPY").ok_or("not a .npy file")?.first().ok_or("the header is cut")?;
    let width = match version {
        1 => 2,
        2 | 3 => 4,
        v => return Err(format!("version {v} of the .npy format is unknown").into()),
    };
    let length = some(&mut file, width)?;
    let said = length.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let text = some(&mut file, said)?;
    if (length.len() as u64, text.len() as u64) != (width, said) {
        return Err("the header is cut".into());
    }
    let header = Header::of(std::str::from_utf8(&text).map_err(|_| "the header is not text")?)?;
    // One byte more than is wanted shows that the file is too long.
    let data = some(&mut file, header.bytes.saturating_add(1))?;
    if data.len() as u64 != header.bytes {
        let amount = if data.len() as u64 > header.bytes { "more".into() } else { data.len().to_string() };
        let Header { shape, kind, bytes, .. } = header;
        return Err(format!("shape {shape:?} of `{kind}` is {bytes} bytes, the file has {amount}").into());
    }
    let shape = IxDyn(&header.shape).set_f(header.fortran);
    let array = ArrayD::from_shape_vec(shape, numbers(&header.kind, &data)?);
    array.map_err(|e| format!("shape {:?}: {e}", header.shape).into())
}

/// The element types that are read, and the bytes of each.
const TYPES: [(&str, u64); 6] = [("<f4", 4), ("<f8", 8), ("|u1", 1), ("|i1", 1), ("<i4", 4), ("<i8", 8)];

fn numbers(kind: &str, data: &[u8]) -> Result<Vec<f32>, NpyError> {
    fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        data.as_chunks().0.iter().map(|b| f(*b)).collect()
    }
    // Whole numbers past 2^24 lose low bits in f32, far below any quantizer's step.
    Ok(match kind {
        "<f4" => each(data, f32::from_le_bytes),
        "<f8" => each(data, |b| f64::from_le_bytes(b) as f32),
        "|u1" => each(data, |b| f32::from(u8::from_le_bytes(b))),
        "|i1" => each(data, |b| f32::from(i8::from_le_bytes(b))),
        "<i4" => each(data, |b| i32::from_le_bytes(b) as f32),
        "<i8" => each(data, |b| i64::from_le_bytes(b) as f32),
        other => return Err(unread(other)),
    })
}

fn unread(kind: &str) -> NpyError {
    format!("elements of type `{kind}` are not read, only {}", TYPES.map(|(name, _)| name).join(", ")).into()
}

/// What the header of a `.npy` file says.
struct Header {
    kind: String,
    fortran: bool,
    shape: Vec<usize>,
    /// Bytes of all elements.
    bytes: u64,
}

impl Header {
    fn of(text: &str) -> Result<Self, NpyError> {
        let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':']));
        let kind = after("'descr'").and_then(|rest| rest.strip_prefix('\'')?.split_once('\''));
        let (kind, _) = kind.ok_or("the header names no plain element type")?;
        let fortran = after("'fortran_order'").is_some_and(|rest| rest.starts_with("True"));
        let shape = after("'shape'").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
        let (shape, _) = shape.ok_or("the header names no shape")?;
        let extent = |e: &str| e.trim_end_matches('L').parse().map_err(|_| format!("the shape has the extent `{e}`"));
        let extents = shape.split(',').map(str::trim).filter(|e| !e.is_empty());
        let shape = extents.map(extent).collect::<Result<Vec<usize>, _>>()?;
        let (_, size) = TYPES.into_iter().find(|(name, _)| *name == kind).ok_or_else(|| unread(kind))?;
        let bytes = shape.iter().try_fold(size, |n, extent| n.checked_mul(*extent as u64));
        Ok(Self { kind: kind.into(), fortran, shape, bytes: bytes.ok_or("the shape is too large")? })
    }
}
