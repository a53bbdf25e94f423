//! Linear ops on batches of rows, generic over the number type: the part that all evaluators share.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayD, ArrayViewMut3, Axis, IxDyn, LinalgScalar, Slice};
use rayon::prelude::*;

use crate::op::PoolGeometry;

mod conv;
pub use conv::conv;

/// A number that evaluators compute with: `f32` for real graphs, `f64` (exact below 2^53) for integers.
pub trait Number: LinalgScalar + std::ops::Neg<Output = Self> + PartialOrd + Send + Sync {}
impl Number for f32 {}
impl Number for f64 {}

/// What the cores share out among them. One level only: a core that waits for its part of a row would start on another
/// chunk of rows, and hold the values of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Chunks of rows: each kernel runs on one core.
    Rows,
    /// The elements of each value: few rows, evaluated one chunk after another.
    Elements,
}

impl Split {
    /// How many tasks stay together on one core when `few` of them are worth the trouble.
    pub fn tasks_together(self, few: usize) -> usize {
        match self {
            Self::Rows => usize::MAX,
            Self::Elements => few,
        }
    }
}

/// Elements of a block, where channels are small enough.
const BLOCK: usize = 4096;

/// `x` in row-major order, owned.
fn contiguous<T: Number>(x: &ArrayD<T>) -> ndarray::CowArray<'_, T, IxDyn> {
    x.as_standard_layout()
}

/// An array seen as `[rows, channels, rest]`.
fn by_channel<T>(x: &mut ArrayD<T>) -> ArrayViewMut3<'_, T> {
    let (rows, channels) = (x.shape()[0], x.shape().get(1).copied().unwrap_or(1));
    let rest = x.len().checked_div(rows * channels).unwrap_or(0);
    x.view_mut().into_shape_with_order((rows, channels, rest)).expect("evaluators keep values in row-major order")
}

/// Calls `f(channel, element)` for every element.
pub fn for_each_channel<T>(x: &mut ArrayD<T>, mut f: impl FnMut(usize, &mut T)) {
    for mut row in by_channel(x).outer_iter_mut() {
        for (channel, mut elements) in row.outer_iter_mut().enumerate() {
            elements.iter_mut().for_each(|e| f(channel, e));
        }
    }
}

/// Calls `f(row, first channel, elements)` for blocks of whole channels, on all cores when `split` says so.
///
/// The blocks depend on the shape alone.
pub fn for_each_block<T: Send>(x: &mut ArrayD<T>, split: Split, f: impl Fn(usize, usize, &mut [T]) + Sync) {
    let (rows, channels) = (x.shape()[0], x.shape().get(1).copied().unwrap_or(1));
    let of_channel = x.len().checked_div(rows * channels).unwrap_or(0);
    if of_channel == 0 {
        return;
    }
    let together = channels_together(of_channel);
    let elements = x.as_slice_mut().expect("evaluators keep values in row-major order");
    let rows = elements.chunks_mut(channels * of_channel).enumerate();
    let blocks: Vec<_> = rows
        .flat_map(|(row, x)| x.chunks_mut(together * of_channel).enumerate().map(move |(i, x)| (row, i * together, x)))
        .collect();
    blocks.into_par_iter().with_min_len(split.tasks_together(1)).for_each(|(row, first, x)| f(row, first, x));
}

/// Channels of a block when each has `of_channel` elements.
fn channels_together(of_channel: usize) -> usize {
    (BLOCK / of_channel.max(1)).max(1)
}

/// Calls `f(row, channel, elements)` for every channel of every row, on all cores when `split` says so.
pub fn for_each_plane<T: Send>(x: &mut ArrayD<T>, split: Split, f: impl Fn(usize, usize, &mut [T]) + Sync) {
    let planes = x.shape().iter().take(2).product::<usize>();
    let of_channel = x.len().checked_div(planes).unwrap_or(0);
    for_each_block(x, split, |row, first, elements| {
        elements.chunks_mut(of_channel).enumerate().for_each(|(i, plane)| f(row, first + i, plane));
    });
}

/// Calls `f(channel, elements)` for every channel of every row, on all cores when `split` says so.
pub fn see_planes<T: Sync>(x: &ArrayD<T>, split: Split, f: impl Fn(usize, &[T]) + Sync) {
    let channels = x.shape().get(1).copied().unwrap_or(1);
    let of_channel = x.len().checked_div(x.shape()[0] * channels).unwrap_or(0);
    if of_channel == 0 {
        return;
    }
    let elements = x.as_slice().expect("evaluators keep values in row-major order");
    let planes = elements.par_chunks(of_channel).enumerate();
    let planes = planes.with_min_len(split.tasks_together(channels_together(of_channel)));
    planes.for_each(|(plane, elements)| f(plane % channels, elements));
}

/// `[rows, in]·[out, in]ᵀ`.
pub fn dot<T: Number>(x: &ArrayD<T>, w: &ArrayD<T>, split: Split) -> ArrayD<T> {
    let x = x.view().into_dimensionality::<ndarray::Ix2>().expect("verified: rank 2");
    let w = w.view().into_dimensionality::<ndarray::Ix2>().expect("verified: rank 2");
    let mut y = ndarray::Array2::zeros((x.nrows(), w.nrows()));
    let tasks: Vec<_> = w.axis_chunks_iter(Axis(0), DOT).zip(y.axis_chunks_iter_mut(Axis(1), DOT)).collect();
    let each = |(w, mut y): (ndarray::ArrayView2<T>, ndarray::ArrayViewMut2<T>)| {
        general_mat_mul(T::one(), &x, &w.t(), T::zero(), &mut y);
    };
    tasks.into_par_iter().with_min_len(split.tasks_together(1)).for_each(each);
    y.into_dyn()
}

/// Output channels of one task of a dense layer.
const DOT: usize = 256;

/// Sum over windows, per channel.
pub fn sum_pool<T: Number>(x: &ArrayD<T>, geometry: &PoolGeometry, out: &[usize], split: Split) -> ArrayD<T> {
    pool(x, geometry, out, split, |sum, e| Some(sum.map_or(e, |s: T| s + e)))
}

/// Greatest of each window, per channel; places in the pads are left out.
pub fn max_pool<T: Number>(x: &ArrayD<T>, geometry: &PoolGeometry, out: &[usize], split: Split) -> ArrayD<T> {
    pool(x, geometry, out, split, |best, e| Some(best.map_or(e, |b: T| if e > b { e } else { b })))
}

/// Folds the elements of each window; a window without elements gives zero.
fn pool<T: Number>(
    x: &ArrayD<T>,
    geometry: &PoolGeometry,
    out: &[usize],
    split: Split,
    fold: impl Fn(Option<T>, T) -> Option<T> + Sync,
) -> ArrayD<T> {
    let x = contiguous(x);
    let (rows, channels, height, width) = (x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]);
    let source = x.as_slice().expect("row-major");
    let mut result = ArrayD::<T>::zeros(IxDyn(&[rows, channels, out[2], out[3]]));
    // Elements of a window along one axis.
    let window = |axis: usize, place: usize, extent: usize| {
        let start = place * geometry.strides[axis];
        let end = (start + geometry.kernel[axis]).saturating_sub(geometry.pads[axis]).min(extent);
        start.saturating_sub(geometry.pads[axis])..end
    };
    for_each_plane(&mut result, split, |row, channel, plane| {
        let source = &source[(row * channels + channel) * height * width..][..height * width];
        for (place, folded) in plane.iter_mut().enumerate() {
            let (y, x) = (place / out[3], place % out[3]);
            let mut all = None;
            for line in window(0, y, height) {
                let line = &source[line * width..(line + 1) * width];
                all = line.get(window(1, x, width)).unwrap_or_default().iter().fold(all, |all, e| fold(all, *e));
            }
            *folded = all.unwrap_or(T::zero());
        }
    });
    result
}

/// Every `steps`-th element from `starts`; `out` is the shape of one row's result.
pub fn slice<T: Number>(x: &ArrayD<T>, starts: &[usize], steps: &[usize], out: &[usize]) -> ArrayD<T> {
    let mut view = x.view();
    for axis in 1..out.len() {
        let end = starts[axis] + (out[axis] - 1) * steps[axis] + 1;
        view.slice_axis_inplace(
            Axis(axis),
            Slice::new(starts[axis] as isize, Some(end as isize), steps[axis] as isize),
        );
    }
    view.as_standard_layout().into_owned()
}

/// Zeros in front and behind, per axis.
pub fn pad<T: Number>(x: &ArrayD<T>, before: &[usize], after: &[usize]) -> ArrayD<T> {
    let shape: Vec<usize> = (0..x.ndim()).map(|i| before[i] + x.shape()[i] + after[i]).collect();
    let mut result = ArrayD::zeros(IxDyn(&shape));
    let mut middle = result.view_mut();
    for (axis, (&before, &extent)) in before.iter().zip(x.shape()).enumerate() {
        middle.slice_axis_inplace(Axis(axis), Slice::from(before..before + extent));
    }
    middle.assign(x);
    result
}

/// The arrays behind one another along an axis.
pub fn concat<T: Number>(xs: &[&ArrayD<T>], axis: usize) -> ArrayD<T> {
    let views: Vec<_> = xs.iter().map(|x| x.view()).collect();
    let joined = ndarray::concatenate(Axis(axis), &views).expect("verified: other extents are the same");
    joined.as_standard_layout().into_owned()
}

/// The slices of an axis that `indices` name.
pub fn gather<T: Number>(x: &ArrayD<T>, axis: usize, indices: &[usize]) -> ArrayD<T> {
    x.select(Axis(axis), indices).as_standard_layout().into_owned()
}

/// The same elements; `out` is the shape of one row's result.
pub fn reshape<T: Number>(x: &ArrayD<T>, out: &[usize]) -> ArrayD<T> {
    let mut shape = out.to_vec();
    shape[0] = x.shape()[0];
    contiguous(x).into_owned().into_shape_with_order(IxDyn(&shape)).expect("verified: same number of elements")
}

/// Axis `i` of the result is axis `perm[i]` of the operand.
pub fn transpose<T: Number>(x: &ArrayD<T>, perm: &[usize]) -> ArrayD<T> {
    x.view().permuted_axes(IxDyn(perm)).as_standard_layout().into_owned()
}
