//! Activation functions: chains of the IR's functions.

use fhe_ir::{Func, Id, Op, Value};
use onnx_ir::clip::{ClipConfig, ClipInput};
use onnx_ir::{NodeProto, Scalar};

use super::super::attributes::Attributes;
use super::terms::Term;
use super::{Converter, Site, Stop, refuse};

/// The function of an operator that has one without parameters.
pub(in crate::onnx) fn plain(op: &str) -> Option<Func> {
    Some(match op {
        "Abs" => Func::Abs,
        "Acos" => Func::Acos,
        "Acosh" => Func::Acosh,
        "Asin" => Func::Asin,
        "Asinh" => Func::Asinh,
        "Atan" => Func::Atan,
        "Atanh" => Func::Atanh,
        "Ceil" => Func::Ceil,
        "Cos" => Func::Cos,
        "Cosh" => Func::Cosh,
        "Erf" => Func::Erf,
        "Exp" => Func::Exp,
        "Floor" => Func::Floor,
        "HardSwish" => Func::HardSwish,
        "Log" => Func::Log,
        "Mish" => Func::Mish,
        "Reciprocal" => Func::Reciprocal,
        "Relu" => Func::Relu,
        "Round" => Func::Round,
        "Sigmoid" => Func::Sigmoid,
        "Sign" => Func::Sign,
        "Sin" => Func::Sin,
        "Sinh" => Func::Sinh,
        "Softplus" => Func::Softplus,
        "Softsign" => Func::Softsign,
        "Sqrt" => Func::Sqrt,
        "Tan" => Func::Tan,
        "Tanh" => Func::Tanh,
        _ => return None,
    })
}

/// A real attribute, finite.
fn finite(node: &NodeProto, name: &str, default: f32) -> Result<f32, Stop> {
    match node.float(name)?.unwrap_or(default) {
        v if v.is_finite() => Ok(v),
        v => Err(format!("its {name} is {v}").into()),
    }
}

impl Converter<'_> {
    /// A function of the first input; `None` when the operator is no such function.
    pub(super) fn function(&mut self, site: &Site<'_>) -> Result<Option<Id<Value>>, Stop> {
        let node = site.proto;
        let chain = match node.op_type.as_str() {
            "LeakyRelu" => vec![Func::LeakyRelu(finite(node, "alpha", 0.01)?)],
            "Elu" => vec![Func::Elu(finite(node, "alpha", 1.0)?)],
            // γ·(x or α(e^x − 1))
            "Selu" => {
                let gamma = finite(node, "gamma", 1.050_701)?;
                let gamma = self.number(site, ".gamma", gamma)?;
                vec![Func::Elu(finite(node, "alpha", 1.673_263_2)?), Func::Mul(gamma)]
            }
            // α·elu(x/α)
            "Celu" => match finite(node, "alpha", 1.0)? {
                1.0 => vec![Func::Elu(1.0)],
                0.0 => return Err("its alpha is 0".into()),
                alpha => {
                    let (small, large) =
                        (self.number(site, ".shrink", 1.0 / alpha)?, self.number(site, ".alpha", alpha)?);
                    vec![Func::Mul(small), Func::Elu(1.0), Func::Mul(large)]
                }
            },
            "ThresholdedRelu" => vec![Func::ThresholdedRelu(finite(node, "alpha", 1.0)?)],
            // max(0, min(1, alpha·x + beta))
            "HardSigmoid" => {
                let (alpha, beta) = (finite(node, "alpha", 0.2)?, finite(node, "beta", 0.5)?);
                let (alpha, beta) = (self.number(site, ".alpha", alpha)?, self.number(site, ".beta", beta)?);
                vec![Func::Mul(alpha), Func::Add(beta), Func::Clip(0.0, 1.0)]
            }
            "Gelu" => match node.string("approximate")?.unwrap_or("none") {
                "none" => vec![Func::Gelu],
                "tanh" => vec![Func::GeluTanh],
                other => return Err(format!("its approximation is {other:?}").into()),
            },
            // x·sigmoid(α·x) == silu(α·x)/α
            "Swish" => match finite(node, "alpha", 1.0)? {
                1.0 => vec![Func::Silu],
                0.0 => return Err("its alpha is 0".into()),
                alpha => {
                    let (large, small) =
                        (self.number(site, ".alpha", alpha)?, self.number(site, ".shrink", 1.0 / alpha)?);
                    vec![Func::Mul(large), Func::Silu, Func::Mul(small)]
                }
            },
            op => match plain(op) {
                Some(f) => vec![f],
                None => return Ok(None),
            },
        };
        self.map(site, chain).map(Some)
    }

    /// A chain of functions on a value.
    pub(super) fn apply(&mut self, site: &Site<'_>, x: Id<Value>, chain: Vec<Func>) -> Result<Id<Value>, Stop> {
        self.push(site, "", Op::Map { x, shift: None, chain, resolution: None }, &[])
    }

    /// A chain of functions on the first input.
    pub(super) fn map(&mut self, site: &Site<'_>, chain: Vec<Func>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        self.apply(site, x, chain)
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
            // ONNX gives the upper bound then.
            return self.map(site, vec![Func::Clip(hi, hi)]);
        }
        self.map(site, vec![Func::Clip(lo, hi)])
    }

    /// `x` where it is not negative, else `slope·x`.
    pub(super) fn prelu(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        match self.pair(site)? {
            (Term::Value(x), Term::Clear(slope)) => {
                // A slope per channel may come without the axes behind it only where those are named.
                self.map_over(site, x, &slope, |c| vec![Func::PRelu(c)])
            }
            (Term::Value(x), slope) => {
                let above = self.mapped(site, x, vec![Func::Relu])?;
                let below = self.mapped(site, x, vec![Func::Clip(f32::MIN, 0.0)])?;
                let below = self.product(site, slope, Term::Value(below))?;
                let sum = self.sum(site, Term::Value(above), below)?;
                self.encrypted(sum)
            }
            _ => refuse("it applies an encrypted slope to a constant", "give the slope as a constant"),
        }
    }
}
