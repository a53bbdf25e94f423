//! Quantizers that the model itself holds: `Quant` of QONNX and Brevitas, and QuantizeLinear/DequantizeLinear chains.
//!
//! Their scales are law. A quantizer of a value becomes the link `quant` of a map: zero points disappear into its
//! interval. A quantizer of weights is evaluated here: the layer gets the integers, its result the scale. What
//! QuantizeLinear gives is kept as the real number it stands for; only readers that ask for the code itself get the code.

use std::collections::HashMap;
use std::sync::Arc;

use fhe_ir::{Data, Func, Id, Interval, Op, Post, Value, func};
use ndarray::{ArrayD, IxDyn, arr1};
use onnx_ir::NodeProto;

use super::super::attributes::Attributes;
use super::super::layout::axis;
use super::super::proto::{is_own_domain, type_name};
use super::super::tensors::per_channel;
use super::laws::Law;
use super::site::with_post;
use super::{Converter, Known, Site, Stop, refuse};

/// Operators of other domains that quantize.
const FOREIGN: [&str; 4] = ["Quant", "IntQuant", "BipolarQuant", "Trunc"];

/// Whether a node is a quantizer that this module reads.
pub(super) fn is_quantizer(node: &NodeProto) -> bool {
    let op = node.op_type.as_str();
    if is_own_domain(&node.domain) {
        return matches!(op, "QuantizeLinear" | "DequantizeLinear");
    }
    let domains = ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "qonnx"];
    domains.contains(&node.domain.as_str()) && FOREIGN.contains(&op)
}

/// Codes of QuantizeLinear: the value with the name holds `scale·(code − zero)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codes {
    /// One, or one per channel.
    scale: Vec<f32>,
    zero: i64,
}

/// A number of steps is a quotient: one that is whole but for rounding must not be cut to the next integer below.
const NEARLY_WHOLE: Func = Func::Quant { scale: 1.0 / 16384.0, to: Interval { lo: -(1 << 40), hi: 1 << 40 } };

/// Largest magnitude of an integer weight that stays law: 16 bits.
const WIDEST_WEIGHT: u64 = 1 << 15;

/// Laws and codes by the names of the model.
#[derive(Default)]
pub(super) struct Stated {
    /// Constants on a grid.
    pub(super) laws: HashMap<String, Law>,
    /// Values that the model sees as codes.
    codes: HashMap<String, Codes>,
    /// Element types of constants made by nodes.
    types: HashMap<String, i32>,
}

/// Operators that only move elements: codes stay codes.
pub(super) const MOVES: [&str; 9] =
    ["Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "MaxPool"];

/// Codes are integers: what the division by a scale has rounded is whole again.
pub(super) const WHOLE: Post = Post::Quant { scale: 1.0, to: Interval { lo: -(1 << 31), hi: 1 << 31 } };

impl<'m> Converter<'m> {
    /// Before a node is converted: readers of codes get numbers, unless they take codes.
    pub(super) fn decoded(&mut self, site: &mut Site<'m>) -> Result<(), Stop> {
        let op = site.proto.op_type.as_str();
        if is_quantizer(site.proto) || (is_own_domain(&site.proto.domain) && (MOVES.contains(&op) || op == "Clip")) {
            return Ok(());
        }
        for i in 0..site.inputs.len() {
            if let (Some(Known::Value(x)), Some(codes)) = (&site.inputs[i], self.stated.codes.get(&site.proto.input[i]))
            {
                let (x, codes) = (*x, codes.clone());
                let part = format!(".code{i}");
                site.inputs[i] = Some(Known::Value(self.numbers_of(site, &part, x, &codes)?));
            }
        }
        Ok(())
    }

    /// After a node has been converted: what its first output means, beyond its number.
    pub(super) fn record(&mut self, site: &Site<'m>) -> Result<(), Stop> {
        let (node, op) = (site.proto, site.proto.op_type.as_str());
        let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else {
            if let (Some(to), Ok(Some(tensor))) = (node.output.first(), node.tensor("value")) {
                self.stated.types.insert(to.clone(), tensor.data_type);
            }
            return Ok(());
        };
        if let Some(law) = self.law_behind(site) {
            self.stated.laws.insert(to.clone(), law);
        }
        if !is_own_domain(&node.domain) || !MOVES.contains(&op) {
            return Ok(());
        }
        if let Some(codes) = self.stated.codes.get(from).filter(|c| c.scale.len() == 1).cloned() {
            self.stated.codes.insert(to.clone(), codes);
        }
        if let Some(t) = self.data_type(from) {
            self.stated.types.insert(to.clone(), t);
        }
        Ok(())
    }

    /// What the client makes of an output: codes as numbers.
    pub(super) fn client_codes(&self, name: &str, mut posts: Vec<Post>) -> Vec<Post> {
        if let Some(Codes { scale, zero }) = self.stated.codes.get(name)
            && let [scale] = scale[..]
        {
            posts.push(Post::Affine { factor: 1.0 / scale, summand: *zero as f32 });
            posts.push(WHOLE);
        }
        posts
    }

    /// The value that an output of the model is: codes as numbers.
    pub(super) fn decoded_output(&mut self, name: &str, x: Id<Value>) -> Result<Id<Value>, Stop> {
        let Some(codes) = self.stated.codes.get(name).cloned() else { return Ok(x) };
        let Some(node) = self.model.nodes.iter().find(|n| n.output.iter().any(|o| o == name)) else { return Ok(x) };
        let site = Site { proto: node, stem: super::super::names::stem(node, 0), inputs: vec![] };
        self.numbers_of(&site, ".code", x, &codes)
    }

    /// `x/scale + zero`.
    fn numbers_of(&mut self, site: &Site<'_>, part: &str, x: Id<Value>, codes: &Codes) -> Result<Id<Value>, Stop> {
        let inverse: Vec<f32> = codes.scale.iter().map(|s| 1.0 / s).collect();
        let factor = self.push_const(site, &format!("{part}.step"), list(&inverse))?;
        let zero = self.push_const(site, &format!("{part}.zero"), list(&[codes.zero as f32]))?;
        let chain = vec![Func::Mul(factor), Func::Add(zero)];
        self.push(site, part, Op::Map { x, shift: None, chain, resolution: None }, &[])
    }

    /// The element type of a constant, where the model says it.
    fn data_type(&self, name: &str) -> Option<i32> {
        let of_tensor = self.model.initializers.get(name).map(|t| t.data_type);
        of_tensor.or_else(|| self.stated.types.get(name).copied())
    }

    /// A quantizer; what it reads may have been refused.
    pub(super) fn quantizer_of_known(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        if site.proto.output.iter().skip(1).any(|o| self.model.read.contains(o)) {
            return Err("another output than its first is read".into());
        }
        if let Some(Known::Unreadable(why)) = site.inputs.iter().flatten().find(|k| matches!(k, Known::Unreadable(_))) {
            return Err(why.clone().into());
        }
        if site.inputs.iter().flatten().any(|k| matches!(k, Known::Refused(_))) {
            return Ok(Known::Refused(site.is_encrypted()));
        }
        self.quantizer(site)
    }

    /// A quantizer of a constant or of a value.
    fn quantizer(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        match site.proto.op_type.as_str() {
            "QuantizeLinear" => self.quantize_linear(site),
            "DequantizeLinear" => self.dequantize_linear(site),
            "BipolarQuant" => self.bipolar(site),
            "Trunc" => self.trunc(site),
            _ => self.quant(site),
        }
    }

    /// `saturate(round(x/scale) + zero)`, kept as `scale·(code − zero)`.
    fn quantize_linear(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        self.no_blocks(site)?;
        let scale = self.steps(site, 1)?;
        let zero = match self.constant(site, 2)? {
            None => 0,
            Some(data) => whole(&numbers(data)).ok_or("its zero points differ between channels")?,
        };
        let stated = site.proto.int("output_dtype")?.and_then(|t| i32::try_from(t).ok()).filter(|t| *t != 0);
        let of_zero = site.proto.input.get(2).filter(|n| !n.is_empty());
        let data_type = match of_zero {
            Some(name) => self.data_type(name).ok_or("the type of its zero point is not stated")?,
            None => stated.unwrap_or(UINT8),
        };
        let Some((bits, signed)) = code_type(data_type) else {
            return Err(format!("it quantizes to {}", type_name(data_type)).into());
        };
        let to = shifted(integers(bits, signed, false), zero)?;
        let known = match (site.inputs.first(), &scale.per_channel[..]) {
            (Some(Some(Known::Client(x, posts))), [step]) => {
                Known::Client(*x, with_post(posts, Post::Quant { scale: *step, to })?)
            }
            _ => self.quantized(site, scale.clone(), 0, to, Func::Round)?,
        };
        let name = site.proto.output.first().cloned().unwrap_or_default();
        match &known {
            // The codes themselves; the law of what DequantizeLinear makes of them is found again there.
            Known::Const(_) => {
                let law = self.stated.laws.remove(&name).ok_or("its constant is not on its own grid")?;
                self.stated.types.insert(name, data_type);
                Ok(Known::Const(Data::Int(Arc::new(law.integers.mapv(|i| i + zero)))))
            }
            _ => {
                self.stated.codes.insert(name, Codes { scale: scale.per_channel, zero });
                Ok(known)
            }
        }
    }

    /// `scale·(code − zero)`.
    fn dequantize_linear(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        self.no_blocks(site)?;
        let scale = self.steps(site, 1)?;
        let zeros = match self.constant(site, 2)? {
            None => vec![0.0],
            Some(data) => numbers(data),
        };
        match site.inputs.first() {
            Some(Some(Known::Const(Data::Int(codes)))) => {
                let at = self.step_axis(site, codes.ndim())?;
                let full = scale.broadcast(codes.shape(), at)?;
                let zeros = Steps { per_channel: zeros.iter().map(|z| *z as f32).collect(), ..scale };
                let zeros = zeros.broadcast(codes.shape(), at)?;
                let mut integers = (**codes).clone();
                integers.zip_mut_with(&zeros, |i, z| *i = i.saturating_sub(*z as i64));
                self.stated_constant(site, integers, full)
            }
            Some(Some(known @ (Known::Value(_) | Known::Client(..)))) => {
                let zero = whole(&zeros).ok_or("its zero points differ between channels")?;
                let own = Codes { scale: scale.per_channel.clone(), zero };
                let x = match known {
                    Known::Value(x) => x,
                    _ if self.stated.codes.get(&site.proto.input[0]) == Some(&own) => return Ok(known.clone()),
                    _ => return Err("it gives codes of the client another meaning than their quantizer".into()),
                };
                match self.stated.codes.get(&site.proto.input[0]).cloned() {
                    Some(codes) if codes == own => Ok(Known::Value(*x)),
                    Some(codes) => {
                        let x = self.numbers_of(site, ".code", *x, &codes)?;
                        self.stood_for(site, x, &own)
                    }
                    None => self.stood_for(site, *x, &own),
                }
            }
            _ => Err("it does not read codes".into()),
        }
    }

    /// `scale·(x − zero)` of a value that holds codes as numbers.
    fn stood_for(&mut self, site: &Site<'_>, x: Id<Value>, codes: &Codes) -> Result<Known, Stop> {
        let zero = self.push_const(site, ".zero", list(&[-(codes.zero as f32)]))?;
        let factor = self.push_const(site, ".step", list(&codes.scale))?;
        let chain = vec![Func::Add(zero), Func::Mul(factor)];
        Ok(Known::Value(self.apply(site, x, chain)?))
    }

    /// Clip on codes: the interval of the quantizer in front of it.
    pub(super) fn clip_codes(&mut self, site: &Site<'m>) -> Result<Option<Known>, Stop> {
        let (Some(Some(Known::Value(x))), Some(codes)) =
            (site.inputs.first(), self.stated.codes.get(&site.proto.input[0]).cloned())
        else {
            return Ok(None);
        };
        let [step] = codes.scale[..] else { return Err("it clips codes with a step per channel".into()) };
        let bound = |i: usize, none: f32| match site.inputs.get(i) {
            Some(Some(Known::Const(data))) => {
                let code = whole(&numbers(data)).ok_or(Stop::from("a bound is not one integer"))?;
                Ok((code.saturating_sub(codes.zero)) as f32 * step)
            }
            Some(Some(_)) => Err(Stop::from("its bounds are not constant")),
            _ => Ok(none),
        };
        let (lo, hi) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
        if lo > hi {
            return Err("its lower bound is above its upper bound".into());
        }
        let id = self.apply(site, *x, vec![Func::Clip(lo, hi)])?;
        if let Some(name) = site.proto.output.first() {
            self.stated.codes.insert(name.clone(), codes);
        }
        Ok(Some(Known::Value(id)))
    }

    /// `scale·clamp(round(x/scale + inside) − inside, to)` of the first input.
    pub(super) fn quantized(
        &mut self,
        site: &Site<'m>,
        scale: Steps,
        inside: i64,
        to: Interval,
        rounding: Func,
    ) -> Result<Known, Stop> {
        match site.inputs.first() {
            Some(Some(Known::Const(Data::F32(x)))) => {
                let at = self.step_axis(site, x.ndim())?;
                let full = scale.broadcast(x.shape(), at)?;
                let mut integers = ArrayD::zeros(x.raw_dim());
                // In the model's own arithmetic: halves fall as they do there.
                let offset = inside as f32;
                ndarray::Zip::from(&mut integers).and(&**x).and(&full).for_each(|q, x, s| {
                    let code = rounding.apply(f64::from(x / s + offset), |_| 0.0);
                    *q = func::quantize(code - f64::from(offset), to);
                });
                self.stated_constant(site, integers, full)
            }
            Some(Some(Known::Value(x))) => {
                let shape = self.graph.value(*x).shape.clone();
                let at = self.step_axis(site, shape.len())?;
                let steps = scale.of_channels(&shape, at)?;
                let chain = match steps[..] {
                    [scale] if rounding == Func::Round && inside == 0 => vec![Func::Quant { scale, to }],
                    _ => {
                        let inverse: Vec<f32> = steps.iter().map(|s| 1.0 / s).collect();
                        let inverse = self.push_const(site, ".inverse", list(&inverse))?;
                        let factor = self.push_const(site, ".step", list(&steps))?;
                        let mut chain = vec![Func::Mul(inverse)];
                        if rounding != Func::Round {
                            chain.push(NEARLY_WHOLE);
                        }
                        if inside != 0 {
                            let zero = self.push_const(site, ".zero", list(&[inside as f32]))?;
                            let back = self.push_const(site, ".back", list(&[-(inside as f32)]))?;
                            chain.extend([Func::Add(zero), rounding, Func::Add(back)]);
                        } else if rounding != Func::Round {
                            chain.push(rounding);
                        }
                        chain.extend([Func::Quant { scale: 1.0, to }, Func::Mul(factor)]);
                        chain
                    }
                };
                Ok(Known::Value(self.apply(site, *x, chain)?))
            }
            _ => Err("it does not read real numbers".into()),
        }
    }

    /// A constant on a grid: its numbers, and the law under the node's name.
    pub(super) fn stated_constant(
        &mut self,
        site: &Site<'_>,
        integers: ArrayD<i64>,
        scale: ArrayD<f32>,
    ) -> Result<Known, Stop> {
        self.spend(integers.len().saturating_mul(2))?;
        let mut numbers = scale.clone();
        numbers.zip_mut_with(&integers, |s, i| *s *= *i as f32);
        if let Some(name) = site.proto.output.first() {
            self.stated.laws.insert(name.clone(), Law { integers, scale });
        }
        Ok(Known::Const(Data::F32(Arc::new(numbers))))
    }

    /// The law of input `i`, for weights.
    pub(super) fn law(&self, site: &Site<'_>, i: usize) -> Option<Law> {
        let law = self.stated.laws.get(site.proto.input.get(i)?)?;
        law.integers.iter().all(|w| w.unsigned_abs() <= WIDEST_WEIGHT).then(|| law.clone())
    }

    pub(super) fn reals_of(&self, site: &Site<'_>, i: usize) -> Result<Vec<f64>, Stop> {
        Ok(numbers(self.constant(site, i)?.ok_or("one of its parameters is missing")?))
    }

    /// Positive steps of input `i`.
    pub(super) fn steps(&self, site: &Site<'_>, i: usize) -> Result<Steps, Stop> {
        let data = self.constant(site, i)?.ok_or("it has no scale")?;
        let per_channel: Vec<f32> = numbers(data).iter().map(|s| *s as f32).collect();
        if per_channel.is_empty() || per_channel.iter().any(|s| !(s.is_normal() && *s > 0.0)) {
            // The inverse of a subnormal number may be infinite.
            return Err("its scale is not positive and finite".into());
        }
        Ok(Steps { per_channel, shape: data.shape().to_vec() })
    }

    /// The axis along which a list of steps runs.
    pub(super) fn step_axis(&self, site: &Site<'_>, rank: usize) -> Result<usize, Stop> {
        match rank {
            0 => Ok(0),
            // A list for something of one axis runs along it, whatever the default says.
            1 => Ok(0),
            // Other domains broadcast as arrays do: a list runs along the last axis.
            _ if !is_own_domain(&site.proto.domain) => Ok(rank - 1),
            _ => Ok(axis(site.proto.int("axis")?.unwrap_or(1), rank)?),
        }
    }

    fn no_blocks(&self, site: &Site<'_>) -> Result<(), Stop> {
        match site.proto.int("block_size")? {
            None | Some(0) => Ok(()),
            Some(_) => refuse("it has a scale per block", "quantize per tensor or per channel"),
        }
    }
}

/// Steps as the model gives them.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    /// In row-major order.
    pub(super) per_channel: Vec<f32>,
    shape: Vec<usize>,
}

impl Steps {
    /// As an array that broadcasts to `shape`; a list runs along axis `at`.
    fn array(&self, shape: &[usize], at: usize) -> Result<ArrayD<f32>, Stop> {
        let own = match self.shape[..] {
            _ if self.per_channel.len() == 1 => vec![],
            [n] if shape.len() > 1 => {
                let mut own = vec![1; shape.len()];
                own[at] = n;
                own
            }
            _ => self.shape.clone(),
        };
        ArrayD::from_shape_vec(IxDyn(&own), self.per_channel.clone()).map_err(|_| self.misfit(shape))
    }

    fn misfit(&self, shape: &[usize]) -> Stop {
        Stop::from(format!("its scale of shape {:?} does not fit {shape:?}", self.shape))
    }

    /// One step per place of `shape`; a list runs along axis `at`, more axes broadcast.
    pub(super) fn broadcast(&self, shape: &[usize], at: usize) -> Result<ArrayD<f32>, Stop> {
        let array = self.array(shape, at)?;
        Ok(array.broadcast(IxDyn(shape)).ok_or_else(|| self.misfit(shape))?.to_owned())
    }

    /// One step, or one per channel of a value.
    pub(super) fn of_channels(&self, shape: &[usize], at: usize) -> Result<Vec<f32>, Stop> {
        if self.per_channel.len() == 1 {
            return Ok(self.per_channel.clone());
        }
        // Not broadcast: a value of a hostile model may be large.
        let steps = per_channel(&self.array(shape, at)?, shape)
            .map_err(|_| Stop::from("its scale is neither one number nor one per channel"))?;
        Ok(steps.iter().copied().collect())
    }
}

/// ONNX's type of codes without a zero point.
const UINT8: i32 = 2;

/// Width and sign of codes.
fn code_type(data_type: i32) -> Option<(u32, bool)> {
    Some(match data_type {
        2 => (8, false),
        3 => (8, true),
        4 => (16, false),
        5 => (16, true),
        21 => (4, false),
        22 => (4, true),
        _ => return None,
    })
}

/// The integers of a width; a narrow range leaves the lowest out (the highest, when there is no sign).
pub(super) fn integers(bits: u32, signed: bool, narrow: bool) -> Interval {
    let narrow = i64::from(narrow);
    if signed {
        Interval { lo: -(1 << (bits - 1)) + narrow, hi: (1 << (bits - 1)) - 1 }
    } else {
        Interval { lo: 0, hi: (1 << bits) - 1 - narrow }
    }
}

pub(super) fn shifted(to: Interval, zero: i64) -> Result<Interval, Stop> {
    let moved = to.checked_sub(Interval::point(zero.clamp(-Interval::LIMIT, Interval::LIMIT)));
    moved.filter(|i| i.lo <= i.hi).ok_or_else(|| "its integers are empty, or out of reach".into())
}

/// All numbers of a constant.
fn numbers(data: &Data) -> Vec<f64> {
    match data {
        Data::F32(a) => a.iter().map(|v| f64::from(*v)).collect(),
        Data::Int(a) => a.iter().map(|v| *v as f64).collect(),
    }
}

/// The integer that all numbers are.
pub(super) fn whole(numbers: &[f64]) -> Option<i64> {
    let first = *numbers.first()?;
    let same = numbers.iter().all(|n| *n == first);
    // Within 2^53 the cast is exact.
    (same && first.fract() == 0.0 && first.abs() < 2f64.powi(53)).then_some(first as i64)
}

/// The first number of a parameter.
pub(super) fn one_of(numbers: &[f64]) -> Result<f64, Stop> {
    numbers.first().copied().ok_or_else(|| "one of its parameters is empty".into())
}

pub(super) fn list(numbers: &[f32]) -> Data {
    Data::F32(Arc::new(arr1(numbers).into_dyn()))
}
