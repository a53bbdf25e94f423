//! Activation functions, and casts.

use std::sync::Arc;

use fhe_ir::{Data, Func, Id, Op, Value};
use ndarray::arr1;
use onnx_ir::clip::{ClipConfig, ClipInput};
use onnx_ir::gelu::{GeluApproximate, GeluConfig};
use onnx_ir::{DType, Scalar};

use super::{Converter, Known, Site, Stop, refuse};

impl Converter<'_> {
    /// A chain of functions on the first input.
    pub(super) fn map(&mut self, site: &Site<'_>, chain: Vec<Func>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        self.apply(site, x, chain)
    }

    /// A chain of functions on a value.
    pub(super) fn apply(&mut self, site: &Site<'_>, x: Id<Value>, chain: Vec<Func>) -> Result<Id<Value>, Stop> {
        self.push(site, "", Op::Map { x, shift: None, chain, resolution: None }, &[])
    }

    pub(super) fn clip(&mut self, site: &Site<'_>, config: &ClipConfig) -> Result<Id<Value>, Stop> {
        let bound = |input: &Option<ClipInput>, default: f32| -> Result<f32, Stop> {
            let v = match input {
                None => f64::from(default),
                Some(ClipInput::Static(Scalar::Float(v))) => *v,
                Some(ClipInput::Static(Scalar::Int(v))) => *v as f64,
                Some(_) => return Err("its bounds are not constant numbers".into()),
            };
            if v.is_nan() {
                return Err("a bound is not a number".into());
            }
            Ok((v as f32).clamp(f32::MIN, f32::MAX))
        };
        let (lo, hi) = (bound(&config.min, f32::MIN)?, bound(&config.max, f32::MAX)?);
        if lo > hi {
            return Err(format!("its lower bound {lo} is above its upper bound {hi}").into());
        }
        self.map(site, vec![Func::Clip(lo, hi)])
    }

    /// `max(0, min(1, alpha·x + beta))`.
    pub(super) fn hard_sigmoid(&mut self, site: &Site<'_>, alpha: f64, beta: f64) -> Result<Id<Value>, Stop> {
        let one = |v: f64| Data::F32(Arc::new(arr1(&[v as f32]).into_dyn()));
        let alpha = self.push_const(site, ".alpha", one(alpha))?;
        let beta = self.push_const(site, ".beta", one(beta))?;
        self.map(site, vec![Func::Mul(alpha), Func::Add(beta), Func::Clip(0.0, 1.0)])
    }

    pub(super) fn gelu(&mut self, site: &Site<'_>, config: &GeluConfig) -> Result<Id<Value>, Stop> {
        match config.approximate {
            GeluApproximate::Exact => self.map(site, vec![Func::Gelu]),
            GeluApproximate::Tanh => refuse("it is the tanh approximation of gelu", "set approximate to `none`"),
        }
    }

    pub(super) fn swish(&mut self, site: &Site<'_>, alpha: f64) -> Result<Id<Value>, Stop> {
        if alpha == 1.0 { self.map(site, vec![Func::Silu]) } else { Err(format!("its alpha is {alpha}, not 1").into()) }
    }

    /// The identity, unless the model is in training mode.
    pub(super) fn dropout(&self, site: &Site<'_>) -> Result<Known, Stop> {
        match site.inputs.get(2) {
            None | Some(None) => {}
            Some(Some(Known::Const(Data::Int(mode)))) if mode.iter().all(|&m| m == 0) => {}
            Some(Some(_)) => return Err("it is in training mode: export the model after `model.eval()`".into()),
        }
        Ok(site.inputs[0].clone().ok_or("its input is missing")?)
    }

    /// A cast between kinds of reals, which are one kind here; of an argmax, to anything.
    pub(super) fn cast(&mut self, site: &Site<'_>, to: DType) -> Result<Known, Stop> {
        match (&site.inputs[..], to) {
            ([Some(known @ Known::Client(_, post))], _) if post.last().is_some_and(|p| p.gives_indices()) => {
                Ok(known.clone())
            }
            ([Some(known)], DType::F32 | DType::F64 | DType::F16 | DType::BF16) => Ok(known.clone()),
            _ => refuse(
                format!("it casts an encrypted value to {to:?}"),
                "casts between float types only: rounding is what quantization does",
            ),
        }
    }
}
