//! Univariate real functions: the links of a `map` chain, tabulated later.

use crate::graph::Const;
use crate::id::Id;
use crate::interval::Interval;

/// One function of a real number. Constants have one entry, or one per channel (axis 1).
#[derive(Clone, Debug, PartialEq)]
pub enum Func {
    /// `max(x, 0)`.
    Relu,
    /// `x` if `x ≥ 0`, else `slope·x`.
    LeakyRelu(f32),
    /// `min(max(x, lo), hi)`.
    Clip(f32, f32),
    /// `1/(1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x·Φ(x)` with the Gaussian distribution function Φ.
    Gelu,
    /// `x/(1 + e^-x)`.
    Silu,
    /// `|x|`.
    Abs,
    /// `1` if `x > 0`, `0` if `x = 0`, else `-1`.
    Sign,
    /// `e^x`.
    Exp,
    /// `√max(x, 0)`.
    Sqrt,
    /// `x·c` with a constant per tensor or channel.
    Mul(Id<Const>),
    /// `x + c` with a constant per tensor or channel.
    Add(Id<Const>),
    /// `s·clamp(round(x/s), lo, hi)`: a quantizer in the middle of a chain.
    Quant {
        /// Step `s`.
        scale: f32,
        /// Integers that the quantizer can give.
        to: Interval,
    },
}

impl Func {
    /// Keyword of the function in the text form.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::LeakyRelu(_) => "leaky-relu",
            Self::Clip(..) => "clip",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Abs => "abs",
            Self::Sign => "sign",
            Self::Exp => "exp",
            Self::Sqrt => "sqrt",
            Self::Mul(_) => "mul",
            Self::Add(_) => "add",
            Self::Quant { .. } => "quant",
        }
    }

    /// The value at `x`; `constant` looks up the entry of a constant for the channel at hand.
    pub fn apply(&self, x: f64, constant: impl Fn(Id<Const>) -> f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::LeakyRelu(slope) => {
                if x >= 0.0 {
                    x
                } else {
                    f64::from(*slope) * x
                }
            }
            Self::Clip(lo, hi) => x.max(f64::from(*lo)).min(f64::from(*hi)),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Gelu => 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Abs => x.abs(),
            Self::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            }
            Self::Exp => x.exp(),
            Self::Sqrt => x.max(0.0).sqrt(),
            Self::Mul(c) => x * constant(*c),
            Self::Add(c) => x + constant(*c),
            Self::Quant { scale, to } => {
                let s = f64::from(*scale);
                s * quantize(x / s, *to) as f64
            }
        }
    }

    /// Constants that the function reads.
    pub fn constant(&self) -> Option<Id<Const>> {
        match self {
            Self::Mul(c) | Self::Add(c) => Some(*c),
            Self::Relu
            | Self::LeakyRelu(_)
            | Self::Clip(..)
            | Self::Sigmoid
            | Self::Tanh
            | Self::Gelu
            | Self::Silu
            | Self::Abs
            | Self::Sign
            | Self::Exp
            | Self::Sqrt
            | Self::Quant { .. } => None,
        }
    }
}

impl Func {
    /// Puts another constant in the place of the function's own.
    pub(crate) fn replace_constant(&mut self, mut f: impl FnMut(Id<Const>) -> Id<Const>) {
        if let Self::Mul(c) | Self::Add(c) = self {
            *c = f(*c);
        }
    }
}

/// The functions of `links` applied to `x`, first one first.
pub fn chain(links: &[Func], x: f64, constant: impl Fn(Id<Const>) -> f64) -> f64 {
    links.iter().fold(x, |x, link| link.apply(x, &constant))
}

/// The integer nearest to `x` (halves to even, as ONNX rounds) inside `to`; NaN gives the nearest to zero.
pub fn quantize(x: f64, to: Interval) -> i64 {
    if x.is_nan() {
        return to.clamp(0);
    }
    // Both ends are below 2^53: the cast is exact.
    x.round_ties_even().clamp(to.lo as f64, to.hi as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantize_rounds_halves_to_even_and_saturates() {
        let to = Interval { lo: -2, hi: 5 };
        assert_eq!([0.5, 1.5, 2.5, -9.0, 9.0, f64::NAN].map(|x| quantize(x, to)), [0, 2, 2, -2, 5, 0]);
    }

    #[test]
    fn gelu_matches_its_definition() {
        // Φ(1) = 0.841344746
        assert!((Func::Gelu.apply(1.0, |_| 0.0) - 0.841344746).abs() < 1e-8);
    }
}
