//! Two-dimensional convolution: a matrix product over blocked im2col, direct for narrow groups.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array3, ArrayD, ArrayView2, ArrayViewMut2, Axis, IxDyn, s};
use rayon::prelude::*;

use super::{Number, Split, contiguous, for_each_block};
use crate::op::ConvGeometry;

/// Elements of the columns that are laid out at a time: they stay in a core's cache.
const PANEL: usize = 1 << 18;

/// Fewest places of a panel: below, packing the weights costs more than the products.
const FEWEST_PLACES: usize = 64;

/// Output channels and places of one task.
const TASK: [usize; 2] = [64, 256];

/// A group with fewer output channels is computed without laying out columns, which so few channels would not share.
const NARROW: usize = 8;

/// Sizes of one convolution.
struct Sizes<'g> {
    geometry: &'g ConvGeometry,
    /// Input `[height, width]`.
    input: [usize; 2],
    /// Kernel `[height, width]`.
    kernel: [usize; 2],
    /// Output `[height, width]`.
    output: [usize; 2],
}

/// Two-dimensional convolution of `[rows, channels, height, width]`; `out` is the shape of one row's result.
pub fn conv<T: Number>(
    x: &ArrayD<T>,
    w: &ArrayD<T>,
    geometry: &ConvGeometry,
    out: &[usize],
    split: Split,
) -> ArrayD<T> {
    let x = contiguous(x);
    let (rows, channels) = (x.shape()[0], x.shape()[1]);
    let (outs, per_group) = (w.shape()[0], w.shape()[1]);
    let sizes = Sizes {
        geometry,
        input: [x.shape()[2], x.shape()[3]],
        kernel: [w.shape()[2], w.shape()[3]],
        output: [out[2], out[3]],
    };
    let taps = per_group * sizes.kernel[0] * sizes.kernel[1];
    let w = w.as_standard_layout();
    let w: ArrayView2<T> = w.view().into_shape_with_order((outs, taps)).expect("row-major");
    let x = x.view().into_shape_with_order((rows, channels, sizes.input[0] * sizes.input[1])).expect("row-major");
    let group_outs = outs / geometry.groups;
    if geometry.groups > 1 && group_outs < NARROW {
        let mut result = ArrayD::zeros(IxDyn(&[rows, outs, out[2], out[3]]));
        let places = out[2] * out[3];
        for_each_block(&mut result, split, |row, first, planes| {
            for (o, plane) in planes.chunks_mut(places.max(1)).enumerate().map(|(i, p)| (first + i, p)) {
                let group = o / group_outs * per_group..(o / group_outs + 1) * per_group;
                direct(&sizes, x.slice(s![row, group, ..]), w.row(o).as_slice().expect("row-major"), plane);
            }
        });
        return result;
    }
    let mut result = Array3::<T>::zeros((rows, outs, out[2] * out[3]));
    let mut columns = vec![];
    for (x, mut y) in x.outer_iter().zip(result.outer_iter_mut()) {
        for group in 0..geometry.groups {
            let x = x.slice(s![group * per_group..(group + 1) * per_group, ..]);
            let of_group = s![group * group_outs..(group + 1) * group_outs, ..];
            of_image(&sizes, x, w.slice(of_group), y.slice_mut(of_group), &mut columns, split);
        }
    }
    result.into_shape_with_order(IxDyn(&[rows, outs, out[2], out[3]])).expect("row-major")
}

/// One group of one image: `x` is `[channels, places in]`, `w` `[outs, taps]`, `y` `[outs, places]`.
fn of_image<T: Number>(
    sizes: &Sizes<'_>,
    x: ArrayView2<T>,
    w: ArrayView2<T>,
    mut y: ArrayViewMut2<T>,
    buffer: &mut Vec<T>,
    split: Split,
) {
    let ConvGeometry { strides, pads, dilations: _, groups: _ } = sizes.geometry;
    if sizes.kernel == [1, 1] && *strides == [1, 1] && *pads == [0; 4] {
        return product(w, x, y, split);
    }
    let (taps, places) = (w.ncols(), y.ncols());
    let panel = (PANEL / taps.max(1)).max(FEWEST_PLACES).min(places.max(1));
    for (index, y) in y.axis_chunks_iter_mut(Axis(1), panel).enumerate() {
        let here = y.ncols();
        buffer.resize(taps * here, T::zero());
        let columns = &mut buffer[..taps * here];
        let each = |(tap, column): (usize, &mut [T])| lay_out(sizes, x, tap, index * panel, column);
        columns.par_chunks_mut(here.max(1)).enumerate().with_min_len(split.tasks_together(64)).for_each(each);
        let columns = ArrayView2::from_shape((taps, here), columns).expect("one column for each tap");
        product(w, columns, y, split);
    }
}

/// `w·columns`, block by block.
fn product<T: Number>(w: ArrayView2<T>, columns: ArrayView2<T>, mut y: ArrayViewMut2<T>, split: Split) {
    if matches!(split, Split::Rows) {
        return general_mat_mul(T::one(), &w, &columns, T::zero(), &mut y);
    }
    let mut tasks = vec![];
    for (w, mut y) in w.axis_chunks_iter(Axis(0), TASK[0]).zip(y.axis_chunks_iter_mut(Axis(0), TASK[0])) {
        for columns in columns.axis_chunks_iter(Axis(1), TASK[1]) {
            let (here, behind) = y.split_at(Axis(1), columns.ncols());
            tasks.push((w, columns, here));
            y = behind;
        }
    }
    tasks.into_par_iter().for_each(|(w, columns, mut y)| general_mat_mul(T::one(), &w, &columns, T::zero(), &mut y));
}

/// Fills `column` with what tap number `tap` (channel, ky, kx) sees at the output places from `first` on; zero outside.
fn lay_out<T: Number>(sizes: &Sizes<'_>, x: ArrayView2<T>, tap: usize, first: usize, column: &mut [T]) {
    let [kernel_height, kernel_width] = sizes.kernel;
    let (channel, ky, kx) =
        (tap / (kernel_height * kernel_width), tap / kernel_width % kernel_height, tap % kernel_width);
    let (row, [height, width]) = (x.row(channel), sizes.input);
    let source = row.as_slice().expect("row-major");
    let ConvGeometry { strides, pads, dilations, groups: _ } = sizes.geometry;
    let out_width = sizes.output[1];
    let inside = inside(sizes, 1, kx);
    let (mut place, mut rest) = (first, column);
    while !rest.is_empty() {
        let (y, x) = (place / out_width, place % out_width);
        let (line, behind) = rest.split_at_mut((out_width - x).min(rest.len()));
        place += line.len();
        rest = behind;
        let from_y = (y * strides[0] + ky * dilations[0]).wrapping_sub(pads[0]);
        if from_y >= height {
            line.fill(T::zero());
            continue;
        }
        let source = &source[from_y * width..(from_y + 1) * width];
        // Places of this line whose element is inside.
        let start = inside.start.clamp(x, x + line.len()) - x;
        let end = inside.end.clamp(x, x + line.len()) - x;
        line[..start].fill(T::zero());
        line[end.max(start)..].fill(T::zero());
        if start < end {
            let from_x = (x + start) * strides[1] + kx * dilations[1] - pads[1];
            let line = &mut line[start..end];
            if strides[1] == 1 {
                line.copy_from_slice(&source[from_x..from_x + line.len()]);
            } else {
                line.iter_mut().zip(source[from_x..].iter().step_by(strides[1])).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// Output places of an axis (0 vertical, 1 horizontal) whose element of kernel place `k` is not in the pads.
fn inside(sizes: &Sizes<'_>, axis: usize, k: usize) -> std::ops::Range<usize> {
    let ConvGeometry { strides, pads, dilations, groups: _ } = sizes.geometry;
    let (stride, reach) = (strides[axis], k * dilations[axis]);
    let start = pads[axis].saturating_sub(reach).div_ceil(stride);
    let end = (sizes.input[axis] + pads[axis]).saturating_sub(reach).div_ceil(stride);
    start..end.min(sizes.output[axis])
}

/// One output plane, tap by tap: `x` is `[channels of the group, places in]`, `w` the weights of the plane.
fn direct<T: Number>(sizes: &Sizes<'_>, x: ArrayView2<T>, w: &[T], plane: &mut [T]) {
    let ConvGeometry { strides, pads, dilations, groups: _ } = sizes.geometry;
    let (width, out_width) = (sizes.input[1], sizes.output[1]);
    for (tap, &weight) in w.iter().enumerate() {
        let (ky, kx) = (tap / sizes.kernel[1] % sizes.kernel[0], tap % sizes.kernel[1]);
        let row = x.row(tap / (sizes.kernel[0] * sizes.kernel[1]));
        let source = row.as_slice().expect("row-major");
        let (lines, places) = (inside(sizes, 0, ky), inside(sizes, 1, kx));
        if places.is_empty() {
            continue;
        }
        let from_x = places.start * strides[1] + kx * dilations[1] - pads[1];
        for y in lines {
            let from_y = y * strides[0] + ky * dilations[0] - pads[0];
            let source = &source[from_y * width + from_x..(from_y + 1) * width];
            let line = &mut plane[y * out_width..][places.clone()];
            if strides[1] == 1 {
                line.iter_mut().zip(source).for_each(|(sum, e)| *sum = *sum + weight * *e);
            } else {
                let source = source.iter().step_by(strides[1]);
                line.iter_mut().zip(source).for_each(|(sum, e)| *sum = *sum + weight * *e);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    fn numbers(shape: &[usize], k: i64) -> ArrayD<f64> {
        let mut i = 0;
        ArrayD::from_shape_fn(IxDyn(shape), |_| {
            i = (i * 7 + k) % 23;
            (i - 11) as f64
        })
    }

    /// Compares both ways of sharing out with the definition.
    fn check(x: &[usize], w: &[usize], g: &ConvGeometry) {
        let extent = |i: usize| {
            let reach = g.dilations[i] * (w[2 + i] - 1) + 1;
            (x[2 + i] + g.pads[i] + g.pads[i + 2] - reach) / g.strides[i] + 1
        };
        let out = [1, w[0], extent(0), extent(1)];
        let (x, w) = (numbers(x, 3), numbers(w, 5));
        let wanted = naive_conv(&x, &w, g, &out);
        for split in [Split::Rows, Split::Elements] {
            assert_eq!(conv(&x, &w, g, &out, split), wanted, "{g:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn conv_equals_its_definition(
            rows in 1..3usize, groups in 1..4usize, per_group in 1..4usize, group_outs in 1..11usize,
            kernel: (u8, u8), strides in (1..4usize, 1..4usize), dilations in (1..3usize, 1..3usize),
            pads in (0..4usize, 0..4usize, 0..4usize, 0..4usize), more in (0..8usize, 0..8usize),
        ) {
            let kernel = [1 + usize::from(kernel.0) % 3, 1 + usize::from(kernel.1) % 3];
            let (pads, dilations) = ([pads.0, pads.1, pads.2, pads.3], [dilations.0, dilations.1]);
            // Large enough for one window.
            let extent = |i: usize, more: usize| {
                (dilations[i] * (kernel[i] - 1) + 1).saturating_sub(pads[i] + pads[i + 2]).max(1) + more
            };
            let g = ConvGeometry { strides: [strides.0, strides.1], pads, dilations, groups };
            let x = [rows, groups * per_group, extent(0, more.0), extent(1, more.1)];
            check(&x, &[groups * group_outs, per_group, kernel[0], kernel[1]], &g);
        }
    }

    #[test]
    fn large_images_are_computed_in_panels() {
        let g = ConvGeometry { strides: [1, 1], pads: [1; 4], dilations: [1, 1], groups: 1 };
        check(&[1, 32, 61, 53], &[3, 32, 3, 3], &g);
        check(&[1, 8, 61, 53], &[70, 8, 1, 1], &ConvGeometry { pads: [0; 4], ..g });
    }

    #[test]
    fn depthwise_layers_need_no_columns() {
        let g = ConvGeometry { strides: [2, 1], pads: [1; 4], dilations: [1, 1], groups: 40 };
        check(&[2, 40, 15, 14], &[40, 1, 3, 3], &g);
        check(&[2, 40, 15, 14], &[80, 1, 3, 3], &g);
    }
}
