//! What the functions of a chain can give, whatever they are applied to.

use crate::func::{Func, quantize};
use crate::graph::{Const, Elem, Graph, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::op::Op;

/// Least and greatest number that the links of a chain give for any argument, as tables have it: finite.
///
/// Monotone links take over the ends of the link in front; of others the bounds that hold everywhere are known, or none.
pub fn image(links: &[Func], constant: impl Fn(Id<Const>) -> f64) -> (f64, f64) {
    let greatest = f64::from(f32::MAX);
    links.iter().fold((-greatest, greatest), |(lo, hi), link| {
        let ends = [lo, hi].map(|x| link.saturated(x, &constant));
        let (lo, hi) = match link {
            Func::Relu
            | Func::Sign
            | Func::Floor
            | Func::Ceil
            | Func::Round
            | Func::Trunc
            | Func::Positive
            | Func::NonNegative
            | Func::Clip(..)
            | Func::Quant { .. }
            | Func::Mul(_)
            | Func::Add(_) => (ends[0].min(ends[1]), ends[0].max(ends[1])),
            Func::Abs | Func::Square => (0.0, ends[0].max(ends[1])),
            Func::Sigmoid | Func::IsZero => (0.0, 1.0),
            Func::Tanh | Func::Softsign | Func::Erf | Func::Sin | Func::Cos => (-1.0, 1.0),
            Func::Exp | Func::Softplus | Func::Sqrt => (0.0, greatest),
            _ => (-greatest, greatest),
        };
        if lo.is_nan() || hi.is_nan() { (-greatest, greatest) } else { (lo, hi) }
    })
}

/// The part of the type of an integer map that its chain can reach: what it gives in all channels together.
/// `None` for other ops, and for a map without type or scale.
pub fn reachable(graph: &Graph, value: &Value) -> Option<Interval> {
    let (Op::Map { chain, .. }, Elem::Int(to)) = (&value.op, value.elem) else { return None };
    let of_channel = |channel: usize| {
        let (lo, hi) = image(chain, |id| graph.constant(id).channel(channel));
        let scale = f64::from(value.channel_scale(channel)?);
        Interval::new(quantize(lo / scale, to), quantize(hi / scale, to))
    };
    (0..value.channels()).map(of_channel).reduce(|a, b| Some(a?.hull(b?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_leaves_the_image() {
        let to = Interval { lo: -3, hi: 3 };
        let tail = [Func::Mul(Id::new(0)), Func::Add(Id::new(1)), Func::Quant { scale: 0.25, to }];
        for constants in [[0.3, 0.2], [-2.0, 0.4], [0.0, -0.1]] {
            let constant = |id: Id<Const>| constants[id.index()];
            for f in Func::PLAIN.into_iter().chain([Func::Clip(-0.5, 7.0), Func::LeakyRelu(-0.2), Func::Pow(2.0)]) {
                let links: Vec<Func> = std::iter::once(f).chain(tail.clone()).collect();
                for links in [&links[..1], &links[..2], &links[..]] {
                    let (lo, hi) = image(links, constant);
                    for x in [-1e300, -40.0, -1.5, -1.0, -0.3, -0.0, 0.0, 0.2, 0.5, 1.0, 1.5, 40.0, 1e300] {
                        let y = crate::func::saturated_chain(links, x, constant);
                        assert!((lo..=hi).contains(&y), "{links:?} at {x}: {y} outside [{lo}, {hi}]");
                    }
                }
            }
        }
    }

    #[test]
    fn a_bounded_link_bounds_what_follows() {
        let to = Interval { lo: -3, hi: 3 };
        let quant = Func::Quant { scale: 0.5, to };
        assert_eq!(image(&[Func::Relu, quant.clone()], |_| 0.0), (0.0, 1.5));
        assert_eq!(image(&[Func::Sigmoid, Func::Mul(Id::new(0)), quant], |_| -1.0), (-1.0, 0.0));
        assert_eq!(image(&[], |_| 0.0), (-f64::from(f32::MAX), f64::from(f32::MAX)));
    }
}
