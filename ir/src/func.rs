//! Univariate real functions: the links of a `map` chain, tabulated later.

use crate::graph::Const;
use crate::id::Id;
use crate::interval::Interval;

/// One function of a real number. Constants have one entry, or one per channel (axis 1).
#[derive(Clone, Debug, PartialEq)]
pub enum Func {
    /// `max(x, 0)`.
    Relu,
    /// `1/(1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x·Φ(x)` with the Gaussian distribution function Φ.
    Gelu,
    /// `½x(1 + tanh(√(2/π)(x + 0.044715x³)))`.
    GeluTanh,
    /// `x/(1 + e^-x)`.
    Silu,
    /// `x·tanh(ln(1 + e^x))`.
    Mish,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x/(1 + |x|)`.
    Softsign,
    /// `x·min(max(x/6 + ½, 0), 1)`.
    HardSwish,
    /// `2/√π·∫₀ˣ e^-t² dt`.
    Erf,
    /// `|x|`.
    Abs,
    /// `1` if `x > 0`, `0` if `x = 0`, else `-1`.
    Sign,
    /// `e^x`.
    Exp,
    /// Natural logarithm: `-∞` at 0, not a number below.
    Log,
    /// `√max(x, 0)`.
    Sqrt,
    /// `x²`.
    Square,
    /// `1/x`: `∞` at 0.
    Reciprocal,
    /// The next integer below.
    Floor,
    /// The next integer above.
    Ceil,
    /// The nearest integer, halves to even.
    Round,
    /// The next integer towards zero.
    Trunc,
    /// `1` if `x > 0`, else `0`.
    Positive,
    /// `1` if `x ≥ 0`, else `0`.
    NonNegative,
    /// `1` if `x = 0`, else `0`.
    IsZero,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine, on `[-1, 1]`.
    Asin,
    /// Inverse cosine, on `[-1, 1]`.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine, on `[1, ∞)`.
    Acosh,
    /// Inverse hyperbolic tangent, on `[-1, 1]`.
    Atanh,
    /// `x` if `x ≥ 0`, else `slope·x`.
    LeakyRelu(f32),
    /// `x` if `x ≥ 0`, else `α(e^x − 1)`.
    Elu(f32),
    /// `x` if `x > α`, else `0`.
    ThresholdedRelu(f32),
    /// `x^p`: not a number for negative `x` unless `p` is an integer.
    Pow(f32),
    /// `min(max(x, lo), hi)`.
    Clip(f32, f32),
    /// `x` if `x ≥ 0`, else `x·c` with a constant per tensor or channel.
    PRelu(Id<Const>),
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
    /// The functions without parameters.
    pub const PLAIN: [Self; 36] = [
        Self::Relu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Gelu,
        Self::GeluTanh,
        Self::Silu,
        Self::Mish,
        Self::Softplus,
        Self::Softsign,
        Self::HardSwish,
        Self::Erf,
        Self::Abs,
        Self::Sign,
        Self::Exp,
        Self::Log,
        Self::Sqrt,
        Self::Square,
        Self::Reciprocal,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Trunc,
        Self::Positive,
        Self::NonNegative,
        Self::IsZero,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
    ];

    /// Keyword of the function in the text form.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu-tanh",
            Self::Silu => "silu",
            Self::Mish => "mish",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::HardSwish => "hard-swish",
            Self::Erf => "erf",
            Self::Abs => "abs",
            Self::Sign => "sign",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Square => "square",
            Self::Reciprocal => "reciprocal",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Round => "round",
            Self::Trunc => "trunc",
            Self::Positive => "positive",
            Self::NonNegative => "non-negative",
            Self::IsZero => "is-zero",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Tan => "tan",
            Self::Asin => "asin",
            Self::Acos => "acos",
            Self::Atan => "atan",
            Self::Sinh => "sinh",
            Self::Cosh => "cosh",
            Self::Asinh => "asinh",
            Self::Acosh => "acosh",
            Self::Atanh => "atanh",
            Self::LeakyRelu(_) => "leaky-relu",
            Self::Elu(_) => "elu",
            Self::ThresholdedRelu(_) => "thresholded-relu",
            Self::Pow(_) => "pow",
            Self::Clip(..) => "clip",
            Self::PRelu(_) => "prelu",
            Self::Mul(_) => "mul",
            Self::Add(_) => "add",
            Self::Quant { .. } => "quant",
        }
    }

    /// The value at `x`, as ONNX has it: not finite where the function has no real value or a pole. `constant` looks up
    /// the entry of a constant for the channel at hand.
    pub fn apply(&self, x: f64, constant: impl Fn(Id<Const>) -> f64) -> f64 {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let below = |slope: f64| if x >= 0.0 { x } else { slope * x };
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Gelu => 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Mish => x * softplus(x).tanh(),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Erf => libm::erf(x),
            Self::Abs => x.abs(),
            Self::Sign => truth(x > 0.0) - truth(x < 0.0),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.max(0.0).sqrt(),
            Self::Square => x * x,
            Self::Reciprocal => 1.0 / x,
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Trunc => x.trunc(),
            Self::Positive => truth(x > 0.0),
            Self::NonNegative => truth(x >= 0.0),
            Self::IsZero => truth(x == 0.0),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Asinh => x.asinh(),
            Self::Acosh => x.acosh(),
            Self::Atanh => x.atanh(),
            Self::LeakyRelu(slope) => below(f64::from(*slope)),
            Self::Elu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    f64::from(*alpha) * x.exp_m1()
                }
            }
            Self::ThresholdedRelu(alpha) => {
                if x > f64::from(*alpha) {
                    x
                } else {
                    0.0
                }
            }
            Self::Pow(p) => x.powf(f64::from(*p)),
            Self::Clip(lo, hi) => x.max(f64::from(*lo)).min(f64::from(*hi)),
            Self::PRelu(c) => below(constant(*c)),
            Self::Mul(c) => x * constant(*c),
            Self::Add(c) => x + constant(*c),
            Self::Quant { scale, to } => {
                let s = f64::from(*scale);
                s * quantize(x / s, *to) as f64
            }
        }
    }

    /// The value at `x` as a table has it: a finite number everywhere. Arguments outside the function's domain count as
    /// its end, and a pole is the greatest f32, so that `ln` of what is not positive is at the lower end of its table.
    pub fn saturated(&self, x: f64, constant: impl Fn(Id<Const>) -> f64) -> f64 {
        let (lo, hi) = match self {
            Self::Log => (0.0, f64::INFINITY),
            Self::Pow(p) if p.fract() != 0.0 => (0.0, f64::INFINITY),
            Self::Asin | Self::Acos | Self::Atanh => (-1.0, 1.0),
            Self::Acosh => (1.0, f64::INFINITY),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let greatest = f64::from(f32::MAX);
        self.apply(x.clamp(lo, hi), constant).clamp(-greatest, greatest)
    }

    /// Constants that the function reads.
    pub fn constant(&self) -> Option<Id<Const>> {
        match self {
            Self::PRelu(c) | Self::Mul(c) | Self::Add(c) => Some(*c),
            _ => None,
        }
    }

    /// Puts another constant in the place of the function's own.
    pub fn replace_constant(&mut self, mut f: impl FnMut(Id<Const>) -> Id<Const>) {
        if let Self::PRelu(c) | Self::Mul(c) | Self::Add(c) = self {
            *c = f(*c);
        }
    }
}

/// The functions of `links` applied to `x`, first one first, as ONNX has them.
pub fn chain(links: &[Func], x: f64, constant: impl Fn(Id<Const>) -> f64) -> f64 {
    links.iter().fold(x, |x, link| link.apply(x, &constant))
}

/// The functions of `links` applied to `x`, first one first, as a table has them: finite.
pub fn saturated_chain(links: &[Func], x: f64, constant: impl Fn(Id<Const>) -> f64) -> f64 {
    links.iter().fold(x, |x, link| link.saturated(x, &constant))
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

    #[test]
    fn functions_have_their_known_values() {
        let one = |f: Func, x: f64| f.apply(x, |_| 0.0);
        for (f, x, y) in [
            (Func::GeluTanh, 1.0, 0.841_191_990_6),
            (Func::Mish, 1.0, 0.865_098_388_3),
            (Func::Softplus, 0.0, 2f64.ln()),
            (Func::Softplus, 800.0, 800.0),
            (Func::Softsign, -3.0, -0.75),
            (Func::HardSwish, -1.0, -1.0 / 3.0),
            (Func::Erf, 0.5, 0.520_499_877_8),
            (Func::Elu(2.0), -1.0, -1.264_241_117_7),
            (Func::ThresholdedRelu(1.0), 1.0, 0.0),
            (Func::Pow(3.0), -2.0, -8.0),
            (Func::Round, 2.5, 2.0),
            (Func::Trunc, -2.5, -2.0),
            (Func::NonNegative, 0.0, 1.0),
            (Func::Positive, 0.0, 0.0),
            (Func::IsZero, 0.0, 1.0),
            (Func::Sign, -0.5, -1.0),
        ] {
            assert!((one(f.clone(), x) - y).abs() < 1e-9, "{f:?} {}", one(f.clone(), x));
        }
        assert_eq!(one(Func::Log, 0.0), f64::NEG_INFINITY);
        assert!(one(Func::Log, -1.0).is_nan() && one(Func::Pow(0.5), -1.0).is_nan());
    }

    #[test]
    fn tables_are_finite_everywhere() {
        let parameters =
            [Func::LeakyRelu(0.1), Func::Elu(1.5), Func::ThresholdedRelu(2.0), Func::Pow(-0.5), Func::Pow(-3.0)];
        for f in Func::PLAIN.into_iter().chain(parameters) {
            for x in [-1e300, -800.0, -1.5, -1.0, -0.0, 0.0, 0.5, 1.0, 1.5, 800.0, 1e300] {
                assert!(f.saturated(x, |_| 0.0).is_finite(), "{f:?} at {x}");
            }
        }
        assert_eq!(Func::Log.saturated(-3.0, |_| 0.0), -f64::from(f32::MAX));
    }
}
