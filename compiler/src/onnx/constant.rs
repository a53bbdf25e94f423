//! Nodes whose inputs are all known at compile time: shapes computed for a dynamic batch, weights that are
//! transposed or scaled in the graph.

use std::sync::Arc;

use fhe_ir::Data;
use ndarray::{ArrayD, Axis, IxDyn, concatenate};
use onnx_ir::NodeProto;

use super::attributes::Attributes;
use super::layout::{self, Taken, axis, count, reshaped, sliced, squeezed, unsqueezed};
use super::limits::{MAX_GROWN, MAX_RANK};
use super::proto::is_real;
use super::tensors::{int, ints, read};

/// Operators that are evaluated when all their inputs are constants.
pub(super) const OPERATORS: [&str; 21] = [
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Flatten",
    "Gather",
    "Identity",
    "Mod",
    "Mul",
    "Neg",
    "NonZero",
    "Range",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
];

/// The shape of a value as `Shape` gives it.
pub(super) fn shape_of(node: &NodeProto, shape: &[usize]) -> Result<Data, String> {
    let rank = shape.len() as i64;
    let bound = |name, default: i64| -> Result<usize, String> {
        let at = node.int(name)?.unwrap_or(default);
        let at = if at < 0 { at.saturating_add(rank) } else { at };
        Ok(at.clamp(0, rank) as usize)
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    let part: Vec<i64> = shape.get(start..end).unwrap_or(&[]).iter().map(|&d| d as i64).collect();
    int(vec![part.len()], part)
}

/// The number of elements of a shape.
pub(super) fn size_of(shape: &[usize]) -> Result<Data, String> {
    let size = count(shape).and_then(|n| i64::try_from(n).ok()).ok_or("its size is above 2^63")?;
    int(vec![], vec![size])
}

/// The result of a node on constants; `None` stands for an input left out.
pub(super) fn evaluate(node: &NodeProto, inputs: &[Option<&Data>]) -> Result<Data, String> {
    let input = |i: usize| inputs.get(i).copied().flatten();
    let x = || input(0).ok_or_else(|| "its first input is missing".to_string());
    match node.op_type.as_str() {
        "Constant" => literal(node),
        "Identity" => Ok(x()?.clone()),
        "Cast" => cast(x()?, node.int("to")?.ok_or("it does not say the type to cast to")?),
        "Neg" => match x()? {
            Data::F32(a) => Ok(Data::F32(Arc::new(a.mapv(|v| -v)))),
            Data::Int(a) => Ok(Data::Int(Arc::new(a.mapv(i64::wrapping_neg)))),
        },
        op @ ("Add" | "Sub" | "Mul" | "Div") => arithmetic(op, x()?, input(1).ok_or("its second input is missing")?),
        "Clip" => clip(node, x()?, input(1), input(2)),
        "ConstantOfShape" => constant_of_shape(node, x()?),
        "Reshape" => {
            let target = ints(input(1).ok_or("it has no shape")?)?;
            into_shape(x()?, &reshaped(x()?.shape(), &target, node.int("allowzero")? == Some(1))?)
        }
        "Flatten" => {
            let shape = x()?.shape();
            let at = match node.int("axis")?.unwrap_or(1) {
                a if a == shape.len() as i64 => shape.len(),
                a => axis(a, shape.len())?,
            };
            into_shape(x()?, &[shape[..at].iter().product(), shape[at..].iter().product()])
        }
        "Squeeze" => {
            let shape = match axes(node, input(1))? {
                Some(axes) => squeezed(x()?.shape(), Some(&axes))?,
                None => x()?.shape().iter().copied().filter(|&d| d != 1).collect(),
            };
            into_shape(x()?, &shape)
        }
        "Unsqueeze" => {
            let axes = axes(node, input(1))?.ok_or("it has no axes")?;
            into_shape(x()?, &unsqueezed(x()?.shape(), &axes)?)
        }
        "Transpose" => transpose(node, x()?),
        "Slice" => slice(node, x()?, &input),
        "Gather" => gather(node, x()?, input(1).ok_or("it has no indices")?),
        "Concat" => concat(node, inputs),
        _ => super::folding::evaluate(node, inputs),
    }
}

fn literal(node: &NodeProto) -> Result<Data, String> {
    if let Some(tensor) = node.tensor("value")? {
        return read(tensor);
    }
    if let Some(v) = node.float("value_float")? {
        return super::tensors::real(vec![], vec![v]);
    }
    if let Some(v) = node.floats("value_floats")? {
        return super::tensors::real(vec![v.len()], v.to_vec());
    }
    if let Some(v) = node.int("value_int")? {
        return int(vec![], vec![v]);
    }
    if let Some(v) = node.ints("value_ints")? {
        return int(vec![v.len()], v.to_vec());
    }
    Err("its value is a string or sparse".into())
}

/// `f` on the array of either kind.
macro_rules! either {
    ($data:expr, $a:ident => $body:expr) => {
        match $data {
            Data::F32($a) => Data::F32(Arc::new($body)),
            Data::Int($a) => Data::Int(Arc::new($body)),
        }
    };
}

/// The same numbers, row-major, in another shape.
pub(super) fn into_shape(data: &Data, shape: &[usize]) -> Result<Data, String> {
    let refuse = || format!("{:?} cannot be reshaped to {shape:?}", data.shape());
    if count(shape) != Some(data.len()) || shape.len() > MAX_RANK {
        return Err(refuse());
    }
    Ok(either!(data, a => a.to_shape(IxDyn(shape)).map_err(|_| refuse())?.into_owned()))
}

fn cast(data: &Data, to: i64) -> Result<Data, String> {
    // TensorProto.DataType: 2 to 7 and 12, 13 are integers, 9 is bool.
    match (data, to) {
        (Data::F32(_), to) if is_real(to) => Ok(data.clone()),
        (Data::Int(a), to) if is_real(to) => Ok(Data::F32(Arc::new(a.mapv(|v| v as f32)))),
        (Data::Int(_), 6 | 7 | 13) => Ok(data.clone()),
        // Saturating casts, as the standard leaves other ones open.
        (Data::F32(a), 6 | 7) => Ok(Data::Int(Arc::new(a.mapv(|v| v as i64)))),
        (_, to) => Err(format!("it casts a constant to {}", super::proto::type_name(i32::try_from(to).unwrap_or(0)))),
    }
}

fn arithmetic(op: &str, a: &Data, b: &Data) -> Result<Data, String> {
    let shape = broadcast(a.shape(), b.shape())?;
    let fits = |s: &[usize]| format!("{s:?} does not broadcast to {shape:?}");
    match (a, b) {
        (Data::F32(a), Data::F32(b)) => {
            let f: fn(f32, f32) -> f32 = match op {
                "Add" => |a, b| a + b,
                "Sub" => |a, b| a - b,
                "Mul" => |a, b| a * b,
                _ => |a, b| a / b,
            };
            let x = a.broadcast(IxDyn(&shape)).ok_or_else(|| fits(a.shape()))?;
            let y = b.broadcast(IxDyn(&shape)).ok_or_else(|| fits(b.shape()))?;
            let numbers = x.iter().zip(y.iter()).map(|(&a, &b)| f(a, b)).collect();
            super::tensors::real(shape.clone(), numbers)
        }
        (Data::Int(a), Data::Int(b)) => {
            let f: fn(i64, i64) -> Option<i64> = match op {
                "Add" => i64::checked_add,
                "Sub" => i64::checked_sub,
                "Mul" => i64::checked_mul,
                _ => i64::checked_div,
            };
            let x = a.broadcast(IxDyn(&shape)).ok_or_else(|| fits(a.shape()))?;
            let y = b.broadcast(IxDyn(&shape)).ok_or_else(|| fits(b.shape()))?;
            let numbers: Option<Vec<i64>> = x.iter().zip(y.iter()).map(|(&a, &b)| f(a, b)).collect();
            int(shape.clone(), numbers.ok_or("an integer constant overflows, or is divided by 0")?)
        }
        _ => Err("it mixes reals and integers".into()),
    }
}

/// Bounds are inputs from operator set 11 on, attributes before.
fn clip(node: &NodeProto, x: &Data, lo: Option<&Data>, hi: Option<&Data>) -> Result<Data, String> {
    match x {
        Data::F32(a) => {
            let bound = |data: Option<&Data>, name, default| match data {
                Some(Data::F32(b)) => b.first().copied().ok_or("a bound is empty".to_string()),
                Some(Data::Int(_)) => Err("it mixes reals and integers".into()),
                None => Ok(node.float(name)?.unwrap_or(default)),
            };
            let (lo, hi) = (bound(lo, "min", f32::MIN)?, bound(hi, "max", f32::MAX)?);
            Ok(Data::F32(Arc::new(a.mapv(|v| v.max(lo).min(hi)))))
        }
        Data::Int(a) => {
            let bound = |data: Option<&Data>, default| match data.map(ints) {
                Some(b) => b?.first().copied().ok_or("a bound is empty".to_string()),
                None => Ok(default),
            };
            let (lo, hi) = (bound(lo, i64::MIN)?, bound(hi, i64::MAX)?);
            Ok(Data::Int(Arc::new(a.mapv(|v| v.max(lo).min(hi)))))
        }
    }
}

/// The shape that two constants broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let shape = layout::broadcast(a, b);
    shape
        .filter(|s| count(s).is_some_and(|n| n <= MAX_GROWN || Some(n) == count(a) || Some(n) == count(b)))
        .ok_or_else(|| format!("constants of shapes {a:?} and {b:?} do not broadcast"))
}

fn constant_of_shape(node: &NodeProto, shape: &Data) -> Result<Data, String> {
    let shape: Option<Vec<usize>> = ints(shape)?.into_iter().map(|d| usize::try_from(d).ok()).collect();
    let shape = shape.filter(|s| s.len() <= MAX_RANK).ok_or("its shape is negative, or has too many axes")?;
    let n = count(&shape).filter(|&n| n <= MAX_GROWN).ok_or("it makes too many numbers")?;
    match node.tensor("value")?.map(read).transpose()? {
        None => super::tensors::real(shape, vec![0.0; n]),
        Some(Data::F32(v)) => super::tensors::real(shape, vec![*v.first().ok_or("its value is empty")?; n]),
        Some(Data::Int(v)) => int(shape, vec![*v.first().ok_or("its value is empty")?; n]),
    }
}

/// Axes from an input (operator set 13 on) or from an attribute.
fn axes(node: &NodeProto, input: Option<&Data>) -> Result<Option<Vec<i64>>, String> {
    match input {
        Some(data) => ints(data).map(Some),
        None => Ok(node.ints("axes")?.map(<[i64]>::to_vec)),
    }
}

fn transpose(node: &NodeProto, x: &Data) -> Result<Data, String> {
    let rank = x.shape().len();
    let perm: Vec<usize> = match node.ints("perm")? {
        Some(p) => p.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(format!("{perm:?} is not a permutation of {rank} axes"));
    }
    Ok(either!(x, a => a.view().permuted_axes(IxDyn(&perm)).as_standard_layout().into_owned()))
}

fn slice<'a>(node: &NodeProto, x: &Data, input: &impl Fn(usize) -> Option<&'a Data>) -> Result<Data, String> {
    let list = |i: usize, name: &str| -> Result<Option<Vec<i64>>, String> {
        match input(i) {
            Some(data) => ints(data).map(Some),
            None => Ok(node.ints(name)?.map(<[i64]>::to_vec)),
        }
    };
    let starts = list(1, "starts")?.ok_or("it has no starts")?;
    let ends = list(2, "ends")?.ok_or("it has no ends")?;
    let (axes, steps) = (list(3, "axes")?, list(4, "steps")?);
    let taken = sliced(x.shape(), &starts, &ends, axes.as_deref(), steps.as_deref())?;
    fn cut<T: Clone>(a: &ArrayD<T>, taken: &[Taken]) -> ArrayD<T> {
        let mut view = a.view();
        for (i, t) in taken.iter().enumerate() {
            // Extents of arrays fit in isize, and a step that is used stays inside its extent.
            let step = if t.len > 1 { t.step as isize } else { 1 };
            let (start, reach) = (t.start as isize, (t.len as isize - 1) * step);
            let (lo, hi) = if t.len == 0 { (0, 0) } else { (start.min(start + reach), start.max(start + reach) + 1) };
            view.slice_axis_inplace(Axis(i), ndarray::Slice::new(lo, Some(hi), step));
        }
        view.as_standard_layout().into_owned()
    }
    Ok(either!(x, a => cut(a, &taken)))
}

fn gather(node: &NodeProto, x: &Data, indices: &Data) -> Result<Data, String> {
    let at = axis(node.int("axis")?.unwrap_or(0), x.shape().len())?;
    let extent = x.shape()[at];
    let list: Vec<usize> = ints(indices)?.into_iter().map(|i| axis(i, extent)).collect::<Result<_, _>>()?;
    let mut shape = x.shape()[..at].to_vec();
    shape.extend(indices.shape());
    shape.extend(&x.shape()[at + 1..]);
    if shape.len() > MAX_RANK || count(&shape).is_none_or(|n| n > MAX_GROWN) {
        return Err(format!("it gathers {shape:?} numbers"));
    }
    let picked = either!(x, a => a.select(Axis(at), &list));
    into_shape(&picked, &shape)
}

fn concat(node: &NodeProto, inputs: &[Option<&Data>]) -> Result<Data, String> {
    let inputs: Vec<&Data> = inputs.iter().copied().flatten().collect();
    let first = inputs.first().ok_or("it has no inputs")?;
    let at = axis(node.int("axis")?.ok_or("it has no axis")?, first.shape().len())?;
    let total = inputs.iter().try_fold(0usize, |n, d| n.checked_add(d.len()));
    if total.is_none_or(|n| n > MAX_GROWN) {
        return Err("it joins too many numbers".into());
    }
    if inputs.iter().any(|d| d.shape().len() != first.shape().len()) {
        return Err("its inputs have different numbers of axes".into());
    }
    let refuse = |e: ndarray::ShapeError| format!("its inputs do not fit together: {e}");
    if let Some(reals) =
        inputs.iter().map(|d| if let Data::F32(a) = d { Some(a.view()) } else { None }).collect::<Option<Vec<_>>>()
    {
        return Ok(Data::F32(Arc::new(concatenate(Axis(at), &reals).map_err(refuse)?)));
    }
    if let Some(whole) =
        inputs.iter().map(|d| if let Data::Int(a) = d { Some(a.view()) } else { None }).collect::<Option<Vec<_>>>()
    {
        return Ok(Data::Int(Arc::new(concatenate(Axis(at), &whole).map_err(refuse)?)));
    }
    Err("it joins reals and integers".into())
}
