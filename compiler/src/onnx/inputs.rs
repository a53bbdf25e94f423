//! Inputs of a model: their shapes with a batch of 1 in front, and what their elements are.

use std::collections::HashSet;

use fhe_ir::Interval;
use onnx_ir::{GraphProto, ValueInfoProto};

use super::error::{DynamicDim, OnnxError};
use super::limits::{MAX_ELEMENTS, MAX_RANK};
use super::proto::type_name;
use super::{Batch, ReadOptions};

/// An input of a checked model.
pub(super) struct Input {
    /// Its name.
    pub(super) name: String,
    /// Shape of the graph's value: `[1, ...]`.
    pub(super) shape: Vec<usize>,
    /// `TensorProto.DataType` of its elements.
    pub(super) element: i32,
}

/// All integers of an element type of at most 16 bits, and of booleans.
pub(super) fn integers(data_type: i32) -> Option<Interval> {
    let (lo, hi) = match data_type {
        2 => (0, 255),
        3 => (-128, 127),
        4 => (0, 65_535),
        5 => (-32_768, 32_767),
        9 => (0, 1),
        _ => return None,
    };
    Interval::new(lo, hi)
}

/// Whether numbers of a `TensorProto.DataType` are integers or booleans.
pub(super) fn is_whole(data_type: i32) -> bool {
    matches!(data_type, 2..=7 | 9 | 12 | 13)
}

/// What the inputs say.
pub(super) struct Inputs {
    /// The inputs that have no tensor in the file.
    pub(super) list: Vec<Input>,
    /// The batch they state, if they do.
    pub(super) batch: Option<usize>,
}

/// An extent and its symbol, as far as stated.
type Dim<'a> = (Option<usize>, Option<&'a str>);

/// The inputs of a graph. Extents without a value are all named in one error.
pub(super) fn inputs(name: &str, graph: &GraphProto, options: &ReadOptions) -> Result<Inputs, OnnxError> {
    let tensors: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let real: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !tensors.contains(i.name.as_str())).collect();
    let mut dims = vec![];
    for input in &real {
        dims.push(input_dims(name, input, options.batch)?);
    }
    // Axes of the batch, which are the first ones or none.
    let front = usize::from(options.batch == Batch::First);
    let batch_names: HashSet<&str> = dims.iter().flat_map(|(_, d)| &d[..front]).filter_map(|d| d.1).collect();
    check_options(options, &dims, front, &batch_names)?;

    let (mut open, mut list, mut batch) = (vec![], vec![], None);
    for (input, (element, dims)) in real.iter().zip(&dims) {
        let mut shape = vec![1];
        batch = batch.max(dims[..front].first().and_then(|d| d.0));
        for (axis, (extent, symbol)) in dims.iter().enumerate().skip(front) {
            let given = symbol.and_then(|s| options.dims.get(s).copied());
            let is_batch = symbol.is_some_and(|s| batch_names.contains(s));
            match extent.or(given).or(is_batch.then_some(1)) {
                Some(n) => shape.push(n),
                None => open.push(DynamicDim { input: input.name.clone(), axis, name: symbol.map(Into::into) }),
            }
        }
        if shape.len() == 1 {
            // One number: a row of one channel.
            shape.push(1);
        }
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(usize::MAX);
        if elements > MAX_ELEMENTS {
            let what = format!("elements in input {:?}", input.name);
            let (got, limit) = (elements as u64, MAX_ELEMENTS as u64);
            return Err(OnnxError::Limit { model: name.into(), what, got, limit });
        }
        list.push(Input { name: input.name.clone(), shape, element: *element });
    }
    if open.is_empty() {
        Ok(Inputs { list, batch })
    } else {
        Err(OnnxError::DynamicShape { model: name.into(), dims: open })
    }
}

fn input_dims<'a>(name: &str, input: &'a ValueInfoProto, batch: Batch) -> Result<(i32, Vec<Dim<'a>>), OnnxError> {
    let refuse = |reason: String| OnnxError::Input { model: name.into(), input: input.name.clone(), reason };
    let Some(ty) = input.type_.as_ref().filter(|t| t.has_tensor_type()).map(|t| t.tensor_type()) else {
        return Err(refuse("is not a tensor, or has no type".into()));
    };
    // Reals, integers and booleans: not strings, complex numbers, or floats of 8 and 4 bits.
    if !matches!(ty.elem_type, 1..=7 | 9..=13 | 16) {
        return Err(refuse(format!("has elements of type {}, not numbers", type_name(ty.elem_type))));
    }
    let Some(shape) = ty.shape.as_ref() else {
        return Err(refuse("has no shape".into()));
    };
    let rank = shape.dim.len();
    match batch {
        Batch::First if !(2..=MAX_RANK).contains(&rank) => {
            return Err(refuse(format!("has {rank} axes, not 2 to {MAX_RANK}: batch, channels, ...")));
        }
        Batch::Absent if rank >= MAX_RANK => {
            return Err(refuse(format!("has {rank} axes, the limit is {} without a batch", MAX_RANK - 1)));
        }
        Batch::First | Batch::Absent => {}
    }
    // Exporters write 0 or -1 for an extent they do not know.
    let dims = shape.dim.iter().map(|d| {
        let extent = d.has_dim_value().then(|| d.dim_value()).filter(|&v| v > 0);
        let symbol = d.has_dim_param().then(|| d.dim_param()).filter(|s| !s.is_empty());
        (extent.map(|v| usize::try_from(v).unwrap_or(usize::MAX)), symbol)
    });
    Ok((ty.elem_type, dims.collect()))
}

fn check_options(
    options: &ReadOptions,
    dims: &[(i32, Vec<Dim<'_>>)],
    front: usize,
    batch: &HashSet<&str>,
) -> Result<(), OnnxError> {
    let named = dims.iter().flat_map(|(_, d)| &d[front..]).filter_map(|d| d.1);
    let mut known: Vec<&str> = named.filter(|s| !batch.contains(s)).collect();
    known.sort_unstable();
    known.dedup();
    for (name, &value) in &options.dims {
        let reason = if batch.contains(name.as_str()) {
            if value == 1 {
                continue;
            }
            "that is the batch, which is always 1"
        } else if !known.contains(&name.as_str()) {
            "no input has an extent of that name"
        } else if value == 0 {
            "an extent is at least 1"
        } else {
            continue;
        };
        let known = known.iter().map(|s| (*s).to_owned()).collect();
        return Err(OnnxError::DimOption { name: name.clone(), value, reason: reason.into(), known });
    }
    Ok(())
}
