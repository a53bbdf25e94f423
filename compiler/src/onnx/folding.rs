//! Arithmetic of constants beyond sums and products: functions, comparisons, choices, reductions, ranges.

use std::sync::Arc;

use fhe_ir::Data;
use ndarray::{ArrayD, Axis, IxDyn, Zip};
use onnx_ir::NodeProto;

use super::attributes::Attributes;
use super::constant::broadcast;
use super::convert::plain;
use super::layout::{axis, count};
use super::limits::MAX_GROWN;
use super::tensors::{int, ints, real};

/// The result of a node on constants, when it is one of these.
pub(super) fn evaluate(node: &NodeProto, inputs: &[Option<&Data>]) -> Result<Data, String> {
    let input = |i: usize| inputs.get(i).copied().flatten().ok_or_else(|| format!("its input {i} is missing"));
    match node.op_type.as_str() {
        "Range" => range(input(0)?, input(1)?, input(2)?),
        "NonZero" => non_zero(input(0)?),
        "Expand" => {
            let x = input(0)?;
            let wanted: Option<Vec<usize>> = ints(input(1)?)?.into_iter().map(|d| usize::try_from(d).ok()).collect();
            let shape = broadcast(x.shape(), &wanted.ok_or("its shape is negative")?)?;
            stretched(x, &shape)
        }
        "Where" => choose(input(0)?, input(1)?, input(2)?),
        "Not" => Ok(Data::Int(Arc::new(truth(input(0)?).mapv(|v| i64::from(!v))))),
        op @ ("And" | "Or" | "Xor") => {
            let f: fn(bool, bool) -> bool = match op {
                "And" => |a, b| a && b,
                "Or" => |a, b| a || b,
                _ => |a, b| a != b,
            };
            Ok(Data::Int(Arc::new(both(&truth(input(0)?), &truth(input(1)?), |a, b| i64::from(f(*a, *b)))?)))
        }
        op @ ("Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual") => compare(op, input(0)?, input(1)?),
        op @ ("Max" | "Min") => {
            let mut best = input(0)?.clone();
            for i in 1..inputs.len() {
                best = extreme(op == "Max", &best, input(i)?)?;
            }
            Ok(best)
        }
        "Pow" => power(input(0)?, input(1)?),
        "Mod" => modulo(node, input(0)?, input(1)?),
        op if op.starts_with("Reduce") => reduce(node, input(0)?, inputs.get(1).copied().flatten()),
        op => match (plain(op), input(0)?) {
            // ONNX's square root is no number below 0.
            (Some(_), Data::F32(a)) if op == "Sqrt" => Ok(Data::F32(Arc::new(a.mapv(f32::sqrt)))),
            (Some(f), Data::F32(a)) => Ok(Data::F32(Arc::new(a.mapv(|v| f.apply(f64::from(v), |_| 0.0) as f32)))),
            (Some(_), Data::Int(a)) if op == "Abs" => Ok(Data::Int(Arc::new(a.mapv(i64::wrapping_abs)))),
            (Some(_), Data::Int(a)) if op == "Sign" => Ok(Data::Int(Arc::new(a.mapv(i64::signum)))),
            _ => Err("its inputs are all constants, and the reader does not evaluate it".into()),
        },
    }
}

fn truth(data: &Data) -> ArrayD<bool> {
    match data {
        Data::F32(a) => a.mapv(|v| v != 0.0),
        Data::Int(a) => a.mapv(|v| v != 0),
    }
}

/// `f` of two arrays that broadcast.
fn both<A, B, T>(a: &ArrayD<A>, b: &ArrayD<B>, f: impl Fn(&A, &B) -> T) -> Result<ArrayD<T>, String> {
    let shape = IxDyn(&broadcast(a.shape(), b.shape())?);
    match (a.broadcast(shape.clone()), b.broadcast(shape)) {
        (Some(a), Some(b)) => Ok(Zip::from(a).and(b).map_collect(f)),
        _ => Err("its constants do not broadcast".into()),
    }
}

fn stretched(data: &Data, shape: &[usize]) -> Result<Data, String> {
    let refuse = || format!("{:?} does not broadcast to {shape:?}", data.shape());
    Ok(match data {
        Data::F32(a) => Data::F32(Arc::new(a.broadcast(IxDyn(shape)).ok_or_else(refuse)?.to_owned())),
        Data::Int(a) => Data::Int(Arc::new(a.broadcast(IxDyn(shape)).ok_or_else(refuse)?.to_owned())),
    })
}

fn mixed<T>() -> Result<T, String> {
    Err("it mixes reals and integers".into())
}

fn range(start: &Data, limit: &Data, step: &Data) -> Result<Data, String> {
    let too_many = || "its range is endless, or too long".to_string();
    match (start, limit, step) {
        (Data::Int(_), Data::Int(_), Data::Int(_)) => {
            let one = |d: &Data| ints(d)?.first().copied().ok_or("one of its numbers is missing".to_string());
            let (start, limit, step) = (i128::from(one(start)?), i128::from(one(limit)?), i128::from(one(step)?));
            if step == 0 {
                return Err(too_many());
            }
            let distance = if step > 0 { limit - start } else { start - limit };
            let n = usize::try_from((distance.max(0) + step.abs() - 1) / step.abs()).unwrap_or(usize::MAX);
            if n > MAX_GROWN {
                return Err(too_many());
            }
            // All lie between start and limit.
            int(vec![n], (0..n).map(|i| (start + i as i128 * step) as i64).collect())
        }
        (Data::F32(start), Data::F32(limit), Data::F32(step)) => {
            let one =
                |a: &ArrayD<f32>| a.first().map(|v| f64::from(*v)).ok_or("one of its numbers is missing".to_string());
            let (start, limit, step) = (one(start)?, one(limit)?, one(step)?);
            let n = ((limit - start) / step).ceil().max(0.0);
            if n > MAX_GROWN as f64 {
                return Err(too_many());
            }
            real(vec![n as usize], (0..n as usize).map(|i| (start + i as f64 * step) as f32).collect())
        }
        _ => mixed(),
    }
}

/// Indices of what is not zero, `[axes, places]`.
fn non_zero(data: &Data) -> Result<Data, String> {
    let truth = truth(data);
    if truth.ndim() == 0 || truth.len() > MAX_GROWN {
        return Err("it looks through no axis, or too many numbers".into());
    }
    let truth = truth.as_standard_layout();
    let places: Vec<usize> = truth.iter().enumerate().filter(|(_, t)| **t).map(|(i, _)| i).collect();
    let mut out = vec![];
    for a in 0..truth.ndim() {
        let inner: usize = truth.shape()[a + 1..].iter().product();
        out.extend(places.iter().map(|p| (p / inner % truth.shape()[a]) as i64));
    }
    int(vec![truth.ndim(), places.len()], out)
}

fn choose(condition: &Data, a: &Data, b: &Data) -> Result<Data, String> {
    let shape = broadcast(condition.shape(), &broadcast(a.shape(), b.shape())?)?;
    let condition = truth(&stretched(condition, &shape)?);
    match (stretched(a, &shape)?, stretched(b, &shape)?) {
        (Data::F32(a), Data::F32(b)) => Ok(Data::F32(Arc::new(
            Zip::from(&condition).and(&*a).and(&*b).map_collect(|c, a, b| if *c { *a } else { *b }),
        ))),
        (Data::Int(a), Data::Int(b)) => Ok(Data::Int(Arc::new(
            Zip::from(&condition).and(&*a).and(&*b).map_collect(|c, a, b| if *c { *a } else { *b }),
        ))),
        _ => mixed(),
    }
}

fn compare(op: &str, a: &Data, b: &Data) -> Result<Data, String> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let holds = |order: Option<std::cmp::Ordering>| {
        i64::from(match op {
            "Equal" => order == Some(Equal),
            "Greater" => order == Some(Greater),
            "GreaterOrEqual" => matches!(order, Some(Greater | Equal)),
            "Less" => order == Some(Less),
            _ => matches!(order, Some(Less | Equal)),
        })
    };
    Ok(Data::Int(Arc::new(match (a, b) {
        (Data::F32(a), Data::F32(b)) => both(a, b, |a, b| holds(a.partial_cmp(b)))?,
        (Data::Int(a), Data::Int(b)) => both(a, b, |a, b| holds(Some(a.cmp(b))))?,
        _ => return mixed(),
    })))
}

fn extreme(upper: bool, a: &Data, b: &Data) -> Result<Data, String> {
    Ok(match (a, b) {
        (Data::F32(a), Data::F32(b)) => Data::F32(Arc::new(both(a, b, |a, b| if (a > b) == upper { *a } else { *b })?)),
        (Data::Int(a), Data::Int(b)) => {
            Data::Int(Arc::new(both(a, b, |a, b| if upper { *a.max(b) } else { *a.min(b) })?))
        }
        _ => return mixed(),
    })
}

fn power(a: &Data, b: &Data) -> Result<Data, String> {
    Ok(match (a, b) {
        (Data::F32(a), Data::F32(b)) => Data::F32(Arc::new(both(a, b, |a, b| a.powf(*b))?)),
        (Data::F32(a), Data::Int(b)) => Data::F32(Arc::new(both(a, b, |a, b| f64::from(*a).powf(*b as f64) as f32)?)),
        // What does not fit saturates.
        (Data::Int(a), Data::Int(b)) => Data::Int(Arc::new(both(a, b, |a, b| (*a as f64).powf(*b as f64) as i64)?)),
        (Data::Int(a), Data::F32(b)) => Data::Int(Arc::new(both(a, b, |a, b| (*a as f64).powf(f64::from(*b)) as i64)?)),
    })
}

/// The rest has the divisor's sign, or the dividend's with `fmod`.
fn modulo(node: &NodeProto, a: &Data, b: &Data) -> Result<Data, String> {
    let fmod = node.int("fmod")?.unwrap_or(0) != 0;
    Ok(match (a, b) {
        (Data::Int(_), Data::Int(b)) if b.iter().any(|b| *b == 0) => return Err("it divides by 0".into()),
        (Data::Int(a), Data::Int(b)) => Data::Int(Arc::new(both(a, b, |a, b| {
            let rest = a.wrapping_rem(*b);
            if !fmod && rest != 0 && (rest < 0) != (*b < 0) { rest.wrapping_add(*b) } else { rest }
        })?)),
        (Data::F32(a), Data::F32(b)) => Data::F32(Arc::new(both(a, b, |a, b| a % b)?)),
        _ => return mixed(),
    })
}

fn reduce(node: &NodeProto, x: &Data, axes: Option<&Data>) -> Result<Data, String> {
    let axes = match axes {
        Some(data) => ints(data)?,
        None => node.ints("axes")?.unwrap_or(&[]).to_vec(),
    };
    if axes.is_empty() && node.int("noop_with_empty_axes")?.unwrap_or(0) != 0 {
        return Ok(x.clone());
    }
    let rank = x.shape().len();
    let axes: Vec<usize> = if axes.is_empty() {
        (0..rank).collect()
    } else {
        axes.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?
    };
    let keep = node.int("keepdims")?.unwrap_or(1) != 0;
    if x.is_empty() || count(x.shape()).is_none() {
        return Err("it reduces nothing".into());
    }
    fn fold<T: Clone>(a: &ArrayD<T>, axes: &[usize], keep: bool, f: impl Fn(&T, &T) -> T) -> ArrayD<T> {
        let mut out = a.clone();
        for at in (0..a.ndim()).rev().filter(|at| axes.contains(at)) {
            out = out.map_axis(Axis(at), |lane| lane.iter().skip(1).fold(lane[0].clone(), |sum, e| f(&sum, e)));
            if keep {
                out = out.insert_axis(Axis(at));
            }
        }
        out.as_standard_layout().into_owned()
    }
    let n: usize = axes.iter().map(|&a| x.shape()[a]).product();
    Ok(match (node.op_type.as_str(), x) {
        ("ReduceSum", Data::F32(a)) => Data::F32(Arc::new(fold(a, &axes, keep, |a, b| a + b))),
        ("ReduceMean", Data::F32(a)) => Data::F32(Arc::new(fold(a, &axes, keep, |a, b| a + b) / n as f32)),
        ("ReduceProd", Data::F32(a)) => Data::F32(Arc::new(fold(a, &axes, keep, |a, b| a * b))),
        ("ReduceMax", Data::F32(a)) => Data::F32(Arc::new(fold(a, &axes, keep, |a, b| a.max(*b)))),
        ("ReduceMin", Data::F32(a)) => Data::F32(Arc::new(fold(a, &axes, keep, |a, b| a.min(*b)))),
        ("ReduceSum", Data::Int(a)) => Data::Int(Arc::new(fold(a, &axes, keep, |a, b| a.wrapping_add(*b)))),
        ("ReduceProd", Data::Int(a)) => Data::Int(Arc::new(fold(a, &axes, keep, |a, b| a.wrapping_mul(*b)))),
        ("ReduceMax", Data::Int(a)) => Data::Int(Arc::new(fold(a, &axes, keep, |a, b| *a.max(b)))),
        ("ReduceMin", Data::Int(a)) => Data::Int(Arc::new(fold(a, &axes, keep, |a, b| *a.min(b)))),
        _ => return Err("its inputs are all constants, and the reader does not evaluate it".into()),
    })
}
