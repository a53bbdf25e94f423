//! What the client does with an output after decryption.

use std::fmt;

use ndarray::{ArrayD, Axis};

use crate::func::Func;
use crate::interval::Interval;
use crate::text::real;

/// A function that the client applies to a decrypted output. Axes count the batch, which is axis 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Post {
    /// Logistic function per element.
    Sigmoid,
    /// `min(max(x, lo), hi)` per element.
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// `scale·clamp(round(x/scale), to)` per element.
    Quant {
        /// Step.
        scale: f32,
        /// Integers that the quantizer can give.
        to: Interval,
    },
    /// `factor·x + summand` per element.
    Affine {
        /// Factor.
        factor: f32,
        /// Summand.
        summand: f32,
    },
    /// Softmax along an axis.
    Softmax {
        /// Axis.
        axis: usize,
    },
    /// Logarithm of softmax along an axis.
    LogSoftmax {
        /// Axis.
        axis: usize,
    },
    /// 1 at the first greatest element along an axis, else 0.
    Hardmax {
        /// Axis.
        axis: usize,
    },
    /// Index of the greatest element along an axis.
    ArgMax {
        /// Axis.
        axis: usize,
        /// Whether the axis stays, with one element.
        keep: bool,
        /// Whether the last of equal elements counts, instead of the first.
        last: bool,
    },
    /// The `k` greatest or smallest elements along an axis in order, equal ones in the order of their indices.
    TopK {
        /// Axis.
        axis: usize,
        /// Number of elements.
        k: usize,
        /// Greatest or smallest.
        largest: bool,
        /// Their indices instead of their values.
        indices: bool,
    },
}

impl Post {
    /// Every function with its defaults: axis 1, which the text form leaves out.
    pub const ALL: [Self; 9] = [
        Self::Sigmoid,
        Self::Clip { lo: 0.0, hi: 1.0 },
        Self::Quant { scale: 1.0, to: Interval { lo: 0, hi: 255 } },
        Self::Affine { factor: 1.0, summand: 0.0 },
        Self::Softmax { axis: 1 },
        Self::LogSoftmax { axis: 1 },
        Self::Hardmax { axis: 1 },
        Self::ArgMax { axis: 1, keep: true, last: false },
        Self::TopK { axis: 1, k: 1, largest: true, indices: false },
    ];

    /// Keyword in the text form.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Clip { .. } => "clip",
            Self::Quant { .. } => "quant",
            Self::Affine { .. } => "affine",
            Self::Softmax { .. } => "softmax",
            Self::LogSoftmax { .. } => "log-softmax",
            Self::Hardmax { .. } => "hardmax",
            Self::ArgMax { .. } => "argmax",
            Self::TopK { .. } => "topk",
        }
    }

    /// The axis that the function runs along.
    pub fn axis(self) -> Option<usize> {
        match self {
            Self::Sigmoid | Self::Clip { .. } | Self::Quant { .. } | Self::Affine { .. } => None,
            Self::Softmax { axis }
            | Self::LogSoftmax { axis }
            | Self::Hardmax { axis }
            | Self::ArgMax { axis, .. }
            | Self::TopK { axis, .. } => Some(axis),
        }
    }

    /// Whether the function works on each element alone.
    pub fn is_elementwise(self) -> bool {
        self.axis().is_none()
    }

    /// Whether the result counts or names elements instead of measuring something.
    pub fn gives_indices(self) -> bool {
        matches!(self, Self::ArgMax { .. } | Self::TopK { indices: true, .. })
    }

    /// Shape of the result for an operand of a shape; an error says in one phrase what does not fit.
    pub fn shape(self, from: &[usize]) -> Result<Vec<usize>, String> {
        let Some(axis) = self.axis() else { return Ok(from.to_vec()) };
        if axis == 0 || axis >= from.len() {
            return Err(format!("{} cannot run along axis {axis} of {from:?}", self.keyword()));
        }
        let mut shape = from.to_vec();
        match self {
            Self::ArgMax { keep: true, .. } => shape[axis] = 1,
            Self::ArgMax { keep: false, .. } => drop(shape.remove(axis)),
            Self::TopK { k, .. } if (1..=from[axis]).contains(&k) => shape[axis] = k,
            Self::TopK { k, .. } => return Err(format!("topk cannot take {k} of {} elements", from[axis])),
            _ => {}
        }
        Ok(shape)
    }

    /// The function's value for `[rows, ...]`.
    ///
    /// # Panics
    /// When [`Post::shape`] refuses the array's shape: the verifier has refused that graph.
    pub fn apply(self, mut y: ArrayD<f32>) -> ArrayD<f32> {
        match self {
            Self::Sigmoid => y.mapv_into(|e| 1.0 / (1.0 + (-e).exp())),
            Self::Clip { lo, hi } => y.mapv_into(|e| e.max(lo).min(hi)),
            Self::Quant { scale, to } => {
                let quant = Func::Quant { scale, to };
                y.mapv_into(|e| quant.apply(f64::from(e), |_| 0.0) as f32)
            }
            Self::Affine { factor, summand } => y.mapv_into(|e| factor * e + summand),
            Self::Softmax { axis } | Self::LogSoftmax { axis } => {
                for mut lane in y.lanes_mut(Axis(axis)) {
                    let top = lane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let sum: f32 = lane.iter().map(|e| (e - top).exp()).sum();
                    lane.mapv_inplace(|e| match self {
                        Self::LogSoftmax { .. } => e - top - sum.ln(),
                        _ => (e - top).exp() / sum,
                    });
                }
                y
            }
            Self::Hardmax { axis } => {
                for mut lane in y.lanes_mut(Axis(axis)) {
                    let best = first_greatest(lane.iter());
                    lane.iter_mut().enumerate().for_each(|(i, e)| *e = if i == best { 1.0 } else { 0.0 });
                }
                y
            }
            Self::ArgMax { axis, keep, last } => {
                let best = |lane: ndarray::ArrayView1<'_, f32>| match last {
                    true => lane.len() - 1 - first_greatest(lane.iter().rev()),
                    false => first_greatest(lane.iter()),
                };
                let found = y.map_axis(Axis(axis), |lane| best(lane) as f32);
                if keep { found.insert_axis(Axis(axis)).into_dyn() } else { found.into_dyn() }
            }
            Self::TopK { axis, k, largest, indices } => {
                let mut shape = y.shape().to_vec();
                shape[axis] = k;
                let mut out = ArrayD::zeros(shape);
                for (lane, mut out) in y.lanes(Axis(axis)).into_iter().zip(out.lanes_mut(Axis(axis))) {
                    let mut order: Vec<usize> = (0..lane.len()).collect();
                    let compare = |a: &usize, b: &usize| lane[*a].total_cmp(&lane[*b]);
                    // A stable sort keeps equal elements in order.
                    order.sort_by(|a, b| if largest { compare(b, a) } else { compare(a, b) });
                    for (e, i) in out.iter_mut().zip(order) {
                        *e = if indices { i as f32 } else { lane[i] };
                    }
                }
                out
            }
        }
    }
}

impl fmt::Display for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword())?;
        if let Some(axis) = self.axis().filter(|&axis| axis != 1) {
            write!(f, " axis={axis}")?;
        }
        match *self {
            Self::Clip { lo, hi } => write!(f, " {} {}", real(lo), real(hi)),
            Self::Quant { scale, to } => write!(f, " {} {to}", real(scale)),
            Self::Affine { factor, summand } => write!(f, " {} {}", real(factor), real(summand)),
            Self::ArgMax { keep, last, .. } => {
                f.write_str(if keep { "" } else { " flat" })?;
                f.write_str(if last { " last" } else { "" })
            }
            Self::TopK { k, largest, indices, .. } => {
                write!(f, " k={k}")?;
                f.write_str(if largest { "" } else { " smallest" })?;
                f.write_str(if indices { " indices" } else { "" })
            }
            _ => Ok(()),
        }
    }
}

/// Index of the first greatest element; 0 when there is none.
pub(crate) fn first_greatest<'a>(xs: impl Iterator<Item = &'a f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &x) in xs.enumerate() {
        if x > best.1 {
            best = (i, x);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array() -> ArrayD<f32> {
        ArrayD::from_shape_vec(vec![1, 2, 3], vec![1.0, 5.0, 2.0, 1.0, 4.0, 4.0]).expect("six")
    }

    fn list(post: Post) -> Vec<f32> {
        let y = post.apply(array());
        assert_eq!(Ok(y.shape().to_vec()), post.shape(&[1, 2, 3]), "{post}");
        y.iter().copied().collect()
    }

    #[test]
    fn functions_run_along_their_axis() {
        assert_eq!(list(Post::ArgMax { axis: 1, keep: true, last: false }), [0.0, 0.0, 1.0]);
        assert_eq!(list(Post::ArgMax { axis: 1, keep: true, last: true }), [1.0, 0.0, 1.0]);
        assert_eq!(list(Post::ArgMax { axis: 2, keep: false, last: true }), [1.0, 2.0]);
        assert_eq!(list(Post::Hardmax { axis: 2 }), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let top = |largest, indices| list(Post::TopK { axis: 2, k: 2, largest, indices });
        assert_eq!(top(true, false), [5.0, 2.0, 4.0, 4.0]);
        assert_eq!(top(true, true), [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(top(false, false), [1.0, 2.0, 1.0, 4.0]);
        let sums = Post::Softmax { axis: 2 }.apply(array()).sum_axis(Axis(2));
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for post in [
            Post::Softmax { axis: 0 },
            Post::Softmax { axis: 3 },
            Post::TopK { axis: 1, k: 3, largest: true, indices: true },
        ] {
            assert!(post.shape(&[1, 2, 3]).is_err(), "{post}");
        }
    }
}
