//! Constants: tensors of the file as arrays, and how they broadcast against values.

use std::sync::Arc;

use fhe_ir::Data;
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};
use onnx_ir::{DType, TensorData, TensorProto};

use super::layout::count;
use super::limits::{MAX_NUMBERS, MAX_RANK};

/// `TensorProto.DataType` of integers of 4 bits.
const UINT4: i32 = 21;
/// The same with a sign.
const INT4: i32 = 22;

/// Whether the elements of a `TensorProto.DataType` are numbers that [`read`] knows: not strings, complex numbers, or
/// reals of 4 and 8 bits.
pub(super) fn has_numbers(data_type: i32) -> bool {
    matches!(data_type, 1..=7 | 9..=13 | 16 | UINT4 | INT4)
}

/// The numbers of a tensor: reals as f32, integers and booleans as i64.
pub(super) fn read(tensor: &TensorProto) -> Result<Data, String> {
    let extents: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let numbers = extents.as_deref().and_then(count).filter(|&n| n <= MAX_NUMBERS);
    if numbers.is_none() || tensor.dims.len() > MAX_RANK {
        return Err(format!("its shape {:?} is negative, or above {MAX_NUMBERS} numbers", tensor.dims));
    }
    if tensor.data_location.value() == 1 {
        return Err("its numbers are in another file".into());
    }
    if let (UINT4 | INT4, Some(count), Some(shape)) = (tensor.data_type, numbers, &extents) {
        return int(shape.clone(), nibbles(tensor, count)?);
    }
    let data = TensorData::try_from(tensor.clone()).map_err(|e| reason(&format!("{e:?}")))?;
    let shape: Vec<usize> = data.shape().iter().copied().collect();
    match data.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => real(shape, data.iter::<f32>().collect()),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U32 | DType::U16 | DType::U8 | DType::Bool(_) => {
            int(shape, data.iter::<i64>().collect())
        }
        DType::U64 => {
            let numbers: Option<Vec<i64>> = data.iter::<u64>().map(|n| i64::try_from(n).ok()).collect();
            int(shape, numbers.ok_or("an integer is above 2^63")?)
        }
        other => Err(format!("its elements are {other:?}, not numbers the reader knows")),
    }
}

/// Two integers of 4 bits per byte, the first in the low half.
fn nibbles(tensor: &TensorProto, count: usize) -> Result<Vec<i64>, String> {
    let bytes: Vec<u8> = match tensor.raw_data.is_empty() {
        false => tensor.raw_data.to_vec(),
        // Truncated on purpose: each entry holds one byte.
        true => tensor.int32_data.iter().map(|&b| b as u8).collect(),
    };
    if bytes.len() != count.div_ceil(2) {
        return Err(format!("{count} integers of 4 bits do not fill {} bytes", bytes.len()));
    }
    let value = |half: u8| {
        let signed = tensor.data_type == INT4 && half >= 8;
        i64::from(half) - if signed { 16 } else { 0 }
    };
    Ok(bytes.iter().flat_map(|b| [value(b & 15), value(b >> 4)]).take(count).collect())
}

/// What `onnx-ir` says, without its name for the error.
fn reason(error: &str) -> String {
    let text = error.strip_prefix("VariantNotFound(\"").and_then(|t| t.strip_suffix("\")")).unwrap_or(error);
    text.replace("\\\"", "\"")
}

/// Reals of a shape.
pub(super) fn real(shape: Vec<usize>, numbers: Vec<f32>) -> Result<Data, String> {
    let array = ArrayD::from_shape_vec(IxDyn(&shape), numbers);
    array.map(|a| Data::F32(Arc::new(a))).map_err(|e| format!("its numbers do not fill {shape:?}: {e}"))
}

/// Integers of a shape.
pub(super) fn int(shape: Vec<usize>, numbers: Vec<i64>) -> Result<Data, String> {
    let array = ArrayD::from_shape_vec(IxDyn(&shape), numbers);
    array.map(|a| Data::Int(Arc::new(a))).map_err(|e| format!("its numbers do not fill {shape:?}: {e}"))
}

/// The integers of a constant, row-major.
pub(super) fn ints(data: &Data) -> Result<Vec<i64>, String> {
    match data {
        Data::Int(a) => Ok(a.iter().copied().collect()),
        Data::F32(_) => Err("integers are wanted, not reals".into()),
    }
}

/// One entry per channel (axis 1) of a value of shape `value` to which `c` broadcasts, or one entry for all.
///
/// A constant that is larger than that is accepted when it says the same along the other axes.
pub(super) fn per_channel(c: &ArrayD<f32>, value: &[usize]) -> Result<ArrayD<f32>, String> {
    let refuse = || {
        format!(
            "its constant of shape {:?} is not one number, or one per channel, of a value of shape {value:?}",
            c.shape()
        )
    };
    let lead = value.len().checked_sub(c.ndim()).ok_or_else(refuse)?;
    if c.is_empty() || c.shape().iter().zip(&value[lead..]).any(|(&c, &v)| c != 1 && c != v) {
        return Err(refuse());
    }
    let channel_axis = 1usize.checked_sub(lead).filter(|&a| a < c.ndim());
    let one = |part: ArrayViewD<'_, f32>| {
        let first = *part.first()?;
        (part.len() == 1 || part.iter().all(|v| *v == first)).then_some(first)
    };
    let out: Option<Vec<f32>> = match channel_axis {
        None => one(c.view()).map(|v| vec![v]),
        Some(axis) => c.axis_iter(Axis(axis)).map(one).collect(),
    };
    let out = out.ok_or_else(refuse)?;
    Ok(ArrayD::from_shape_vec(IxDyn(&[out.len()]), out).expect("a vector fills its own length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], numbers: &[f32]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(IxDyn(shape), numbers.to_vec()).unwrap()
    }

    #[test]
    fn constants_broadcast_to_channels() {
        let value = [1, 2, 3, 3];
        assert_eq!(per_channel(&array(&[], &[5.0]), &value).unwrap(), array(&[1], &[5.0]));
        assert_eq!(per_channel(&array(&[2, 1, 1], &[5.0, 6.0]), &value).unwrap(), array(&[2], &[5.0, 6.0]));
        assert_eq!(per_channel(&array(&[1, 2, 1, 1], &[5.0, 6.0]), &value).unwrap(), array(&[2], &[5.0, 6.0]));
        assert_eq!(per_channel(&array(&[3], &[5.0; 3]), &value).unwrap(), array(&[1], &[5.0]));
        assert!(per_channel(&array(&[3], &[5.0, 6.0, 7.0]), &value).is_err(), "one per column is not one per channel");
        assert!(per_channel(&array(&[4, 1, 1], &[0.0; 4]), &value).is_err(), "four are not two channels");
        assert!(per_channel(&array(&[1, 1, 2, 1, 1], &[0.0; 2]), &value).is_err(), "more axes than the value");
        assert_eq!(per_channel(&array(&[2], &[5.0, 6.0]), &[1, 2]).unwrap(), array(&[2], &[5.0, 6.0]));
    }
}
