//! External data: tensors whose numbers are in other files, next to the model.
//!
//! The model is a stranger's: it may name a file anywhere, more bytes than there are, or a device. What is read lies in
//! the model's folder, also after links are followed, is a regular file, holds the part that is named, and that part is
//! exactly what the tensor's shape and type need. Checksums that a model states are not compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use onnx_ir::TensorProto;

use super::error::OnnxError;
use super::layout::count;
use super::limits::{MAX_BYTES, MAX_NUMBERS};
use super::proto::type_name;

/// Whether the tensor's numbers are in another file.
pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location.value() == 1
}

/// Reads other files of one model.
pub(super) struct Reader<'a> {
    /// Name of the model for messages.
    model: &'a str,
    /// The model's folder.
    folder: &'a Path,
    /// Bytes read so far, the model's own included.
    bytes: u64,
    /// The file used last, by the name the model gives it: most models have one.
    last: Option<(String, File, u64)>,
}

impl<'a> Reader<'a> {
    /// For a model of `bytes` bytes in a folder.
    pub(super) fn new(model: &'a str, folder: &'a Path, bytes: u64) -> Self {
        Self { model, folder, bytes, last: None }
    }

    /// Bytes read so far, the model's own included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the numbers of an external tensor into it, as its raw data.
    pub(super) fn fill(&mut self, tensor: &mut TensorProto) -> Result<(), OnnxError> {
        let refuse = |location: &str, reason: String| OnnxError::ExternalFile {
            model: self.model.into(),
            tensor: tensor.name.clone(),
            location: location.into(),
            reason,
        };
        let part = Part::of(tensor).map_err(|reason| refuse("", reason))?;
        let wanted = needed(tensor).map_err(|reason| refuse(part.location, reason))?;
        if let Some(length) = part.length.filter(|&l| l != wanted) {
            return Err(refuse(
                part.location,
                format!("its length is {length}, its shape and type need {wanted} bytes"),
            ));
        }
        if self.last.as_ref().is_none_or(|(location, ..)| location != part.location) {
            let (file, size) = open(self.folder, part.location).map_err(|reason| refuse(part.location, reason))?;
            self.last = Some((part.location.into(), file, size));
        }
        let Some((_, file, size)) = &mut self.last else {
            return Err(refuse(part.location, "it is not open".into()));
        };
        if part.offset.checked_add(wanted).is_none_or(|end| end > *size) {
            let reason = format!("{wanted} bytes from {} on are not in a file of {size} bytes", part.offset);
            return Err(refuse(part.location, reason));
        }
        let total = self.bytes.saturating_add(wanted);
        if total > MAX_BYTES {
            let what = "bytes with its external data".into();
            return Err(OnnxError::Limit { model: self.model.into(), what, got: total, limit: MAX_BYTES });
        }
        // At most MAX_BYTES, and in the file as far as the system says: it may be cut while it is read.
        let mut bytes = vec![0; wanted as usize];
        let read = file.seek(SeekFrom::Start(part.offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|e| refuse(part.location, e.to_string()))?;
        self.bytes = total;
        tensor.raw_data = bytes.into();
        tensor.data_location = Default::default();
        tensor.external_data.clear();
        Ok(())
    }
}

/// Where a tensor says its numbers are.
struct Part<'t> {
    location: &'t str,
    offset: u64,
    length: Option<u64>,
}

impl<'t> Part<'t> {
    fn of(tensor: &'t TensorProto) -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        for entry in &tensor.external_data {
            if entries.insert(entry.key.as_str(), entry.value.as_str()).is_some() {
                return Err(format!("it states {:?} twice", entry.key));
            }
        }
        let number = |key: &str| match entries.get(key) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("its {key} is {text:?}, not a number of bytes")),
        };
        let location = entries.get("location").copied().ok_or("it does not say where its numbers are")?;
        Ok(Self { location, offset: number("offset")?.unwrap_or(0), length: number("length")? })
    }
}

/// Bytes that the shape and type need.
fn needed(tensor: &TensorProto) -> Result<u64, String> {
    let extents: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let numbers = extents.as_deref().and_then(count).filter(|&n| n <= MAX_NUMBERS);
    let numbers =
        numbers.ok_or_else(|| format!("its shape {:?} is negative, or above {MAX_NUMBERS} numbers", tensor.dims))?;
    // TensorProto.DataType: widths of an element. Those of 4 bits are packed by two.
    let bits = match tensor.data_type {
        21..=23 => 4,
        2 | 3 | 9 | 17..=20 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 => 64,
        other => return Err(format!("elements of type {} cannot be in another file", type_name(other))),
    };
    Ok((numbers as u64 * bits).div_ceil(8))
}

/// The file of that name in the folder, and its size.
fn open(folder: &Path, location: &str) -> Result<(File, u64), String> {
    let path = Path::new(location);
    // A backslash separates folders on another system: such a name is never portable.
    if location.is_empty() || location.contains(['\0', '\\']) {
        return Err("it is not the name of a file".into());
    }
    if !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err("it is not below the model's folder: absolute paths and `..` are refused".into());
    }
    let io = |e: std::io::Error| e.to_string();
    let folder = folder.canonicalize().map_err(io)?;
    let path = folder.join(path).canonicalize().map_err(io)?;
    if !path.starts_with(&folder) {
        return Err("it is a link that leaves the model's folder".into());
    }
    // Before it is opened: opening a pipe waits for its writer.
    if !path.metadata().map_err(io)?.is_file() {
        return Err("it is not a regular file".into());
    }
    let file = File::open(&path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    Ok((file, size))
}
