//! Linear ops on batches of rows, generic over the number type: the part that all evaluators share.

use ndarray::linalg::general_mat_mul;
use ndarray::{
    Array2, ArrayD, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, IxDyn, LinalgScalar, Slice, s,
};

use crate::op::{ConvGeometry, PoolGeometry};

/// A number that evaluators compute with: `f32` for real graphs, `f64` (exact below 2^53) for integers.
pub trait Number: LinalgScalar + std::ops::Neg<Output = Self> + PartialOrd + Send + Sync {}
impl Number for f32 {}
impl Number for f64 {}

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

/// `[rows, in]·[out, in]ᵀ`.
pub fn dot<T: Number>(x: &ArrayD<T>, w: &ArrayD<T>) -> ArrayD<T> {
    let x = x.view().into_dimensionality::<ndarray::Ix2>().expect("verified: rank 2");
    let w = w.view().into_dimensionality::<ndarray::Ix2>().expect("verified: rank 2");
    // A result of two column-major operands is column-major, and `[rows, 1]` counts as both.
    x.dot(&w.t()).as_standard_layout().into_owned().into_dyn()
}

/// Two-dimensional convolution by explicit im2col, one row of the batch at a time.
pub fn conv<T: Number>(x: &ArrayD<T>, w: &ArrayD<T>, geometry: &ConvGeometry, out: &[usize]) -> ArrayD<T> {
    let x = contiguous(x);
    let (rows, channels, height, width) = (x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]);
    let (out_channels, group_channels, kernel) = (w.shape()[0], w.shape()[1], [w.shape()[2], w.shape()[3]]);
    let (out_height, out_width) = (out[2], out[3]);
    let taps = group_channels * kernel[0] * kernel[1];
    let w = w.as_standard_layout();
    let w: ArrayView2<T> = w.view().into_shape_with_order((out_channels, taps)).expect("row-major");
    let x = x.view().into_shape_with_order((rows, channels, height * width)).expect("row-major");
    let mut result = ndarray::Array3::<T>::zeros((rows, out_channels, out_height * out_width));
    let mut columns = Array2::<T>::zeros((taps, out_height * out_width));
    let group_out = out_channels / geometry.groups;
    for (x, mut y) in x.outer_iter().zip(result.outer_iter_mut()) {
        for group in 0..geometry.groups {
            let x = x.slice(s![group * group_channels..(group + 1) * group_channels, ..]);
            im2col(x, [height, width], kernel, geometry, out_width, columns.view_mut());
            let outs = group * group_out..(group + 1) * group_out;
            let mut y = y.slice_mut(s![outs.clone(), ..]);
            general_mat_mul(T::one(), &w.slice(s![outs, ..]), &columns, T::zero(), &mut y);
        }
    }
    result.into_shape_with_order(IxDyn(&[rows, out_channels, out_height, out_width])).expect("row-major")
}

/// Fills `columns[tap, place]` with the element that tap `(channel, ky, kx)` sees at each output place; zero outside.
fn im2col<T: Number>(
    x: ArrayView2<T>,
    [height, width]: [usize; 2],
    kernel: [usize; 2],
    geometry: &ConvGeometry,
    out_width: usize,
    mut columns: ArrayViewMut2<T>,
) {
    let ConvGeometry { strides, pads, dilations, groups: _ } = geometry;
    for (tap, mut column) in columns.outer_iter_mut().enumerate() {
        let (channel, ky, kx) = (tap / (kernel[0] * kernel[1]), tap / kernel[1] % kernel[0], tap % kernel[1]);
        let source = x.row(channel);
        let source = source.as_slice().expect("row-major");
        let column = column.as_slice_mut().expect("row-major");
        for (y, line) in column.chunks_mut(out_width).enumerate() {
            let from_y = (y * strides[0] + ky * dilations[0]).wrapping_sub(pads[0]);
            if from_y >= height {
                line.fill(T::zero());
                continue;
            }
            let row = &source[from_y * width..(from_y + 1) * width];
            for (x, place) in line.iter_mut().enumerate() {
                let from_x = (x * strides[1] + kx * dilations[1]).wrapping_sub(pads[1]);
                *place = row.get(from_x).copied().unwrap_or(T::zero());
            }
        }
    }
}

/// Sum over windows, per channel.
pub fn sum_pool<T: Number>(x: &ArrayD<T>, geometry: &PoolGeometry, out: &[usize]) -> ArrayD<T> {
    pool(x, geometry, out, |sum, e| Some(sum.map_or(e, |s: T| s + e)))
}

/// Greatest of each window, per channel; places in the pads are left out.
pub fn max_pool<T: Number>(x: &ArrayD<T>, geometry: &PoolGeometry, out: &[usize]) -> ArrayD<T> {
    pool(x, geometry, out, |best, e| Some(best.map_or(e, |b: T| if e > b { e } else { b })))
}

/// Folds the elements of each window; a window without elements gives zero.
fn pool<T: Number>(
    x: &ArrayD<T>,
    geometry: &PoolGeometry,
    out: &[usize],
    fold: impl Fn(Option<T>, T) -> Option<T>,
) -> ArrayD<T> {
    let x = contiguous(x);
    let (rows, channels, height, width) = (x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]);
    let planes: ArrayView3<T> = x.view().into_shape_with_order((rows * channels, height, width)).expect("row-major");
    let mut result = ndarray::Array3::<T>::zeros((rows * channels, out[2], out[3]));
    for (plane, mut sums) in planes.outer_iter().zip(result.outer_iter_mut()) {
        for ((y, x), place) in sums.indexed_iter_mut() {
            let mut folded = None;
            for ky in 0..geometry.kernel[0] {
                for kx in 0..geometry.kernel[1] {
                    let from_y = (y * geometry.strides[0] + ky).wrapping_sub(geometry.pads[0]);
                    let from_x = (x * geometry.strides[1] + kx).wrapping_sub(geometry.pads[1]);
                    if let Some(&e) = plane.get((from_y, from_x)) {
                        folded = fold(folded, e);
                    }
                }
            }
            *place = folded.unwrap_or(T::zero());
        }
    }
    result.into_shape_with_order(IxDyn(&[rows, channels, out[2], out[3]])).expect("row-major")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, element by element.
    fn naive_conv(x: &ArrayD<f64>, w: &ArrayD<f64>, g: &ConvGeometry, out: &[usize]) -> ArrayD<f64> {
        ArrayD::from_shape_fn(IxDyn(&[x.shape()[0], out[1], out[2], out[3]]), |at| {
            let (per_group, group) = (w.shape()[1], at[1] / (out[1] / g.groups));
            let mut sum = 0.0;
            for c in 0..per_group {
                for ky in 0..w.shape()[2] {
                    for kx in 0..w.shape()[3] {
                        let y = (at[2] * g.strides[0] + ky * g.dilations[0]).wrapping_sub(g.pads[0]);
                        let z = (at[3] * g.strides[1] + kx * g.dilations[1]).wrapping_sub(g.pads[1]);
                        if let Some(e) = x.get(&[at[0], group * per_group + c, y, z][..]) {
                            sum += e * w[&[at[1], c, ky, kx][..]];
                        }
                    }
                }
            }
            sum
        })
    }

    #[test]
    fn conv_equals_its_definition_with_strides_pads_dilations_groups() {
        let numbers = |shape: &[usize], k: i64| {
            let mut i = 0;
            ArrayD::from_shape_fn(IxDyn(shape), |_| {
                i = (i * 7 + k) % 23;
                (i - 11) as f64
            })
        };
        let x = numbers(&[2, 4, 7, 6], 3);
        let w = numbers(&[6, 2, 3, 2], 5);
        let g = ConvGeometry { strides: [2, 1], pads: [1, 0, 2, 1], dilations: [1, 2], groups: 2 };
        let out = [1, 6, 4, 5];
        assert_eq!(conv(&x, &w, &g, &out), naive_conv(&x, &w, &g, &out));
    }
}
