//! Second moments of what layers read on calibration rows: what an error of one weight does together with that of another.

use std::collections::HashMap;
use std::sync::Mutex;

use fhe_ir::ConvGeometry;
use fhe_ir::{Graph, Id, Op, Value};
use ndarray::{Array2, ArrayD, s};
use rayon::prelude::*;

/// Weights of an output channel whose moments are known together, at most. The work grows with its square and cube.
const WIDEST: usize = 1152;

/// Samples for each weight of a block, and for a block, that are enough.
const ENOUGH: (usize, usize) = (8, 4096);

/// Samples for each weight of a block, at least: fewer say more about themselves than about the layer.
const FEWEST: usize = 2;

/// Fixed point of sums, so that they do not depend on the order in which cores add. What is summed is at most 1.
const UNIT: f64 = (1u64 << 40) as f64;

/// Moments of a layer's operand, per group and block of input channels.
pub(super) struct Moments {
    pub blocks: Vec<Block>,
}

/// Moments of the windows over some input channels.
pub(super) struct Block {
    /// Group of the layer.
    pub group: usize,
    /// Input channels, counted over all groups.
    pub channels: std::ops::Range<usize>,
    /// `E[(x − m)(x − m)ᵀ]` of the windows `x` (channel, ky, kx), where `m` is the mean of each channel: a shift of the
    /// mean goes into the bias, so it costs nothing. Zeros in the pads count as they are.
    pub covariance: Array2<f64>,
}

/// Collects sums while rows are evaluated.
pub(super) struct Collector {
    by_operand: HashMap<Id<Value>, Vec<Windows>>,
}

/// The windows of one layer.
struct Windows {
    layer: Id<Value>,
    geometry: ConvGeometry,
    /// `[height, width]` of kernel and result; 1 for a dense layer.
    kernel: [usize; 2],
    output: [usize; 2],
    /// Of each input channel: the range seen, where its values saturate, and the largest magnitude in it.
    ends: Vec<(f64, f64, f64)>,
    /// Windows per row.
    per_row: usize,
    /// Windows of all rows.
    samples: usize,
    blocks: Vec<(usize, std::ops::Range<usize>, Mutex<Sums>)>,
}

/// Fixed-point sums of products of taps, row-major, and of taps, in units of the channels' largest magnitudes.
struct Sums {
    products: Vec<i64>,
    taps: Vec<i64>,
}

impl Collector {
    /// For all layers whose weights are rounded; `rows` will be seen.
    pub(super) fn new(graph: &Graph, rows: usize) -> Self {
        let mut by_operand = HashMap::<_, Vec<_>>::new();
        for (id, value) in graph.iter() {
            let (Op::Dot { x, w } | Op::Conv { x, w, .. }) = value.op else { continue };
            if !graph.is_exact(w) {
                by_operand.entry(x).or_default().extend(Windows::of(graph, id, x, graph.weights(w).shape(), rows));
            }
        }
        Self { by_operand }
    }

    /// Adds what rows show of a value.
    pub(super) fn see(&self, id: Id<Value>, x: &ArrayD<f32>) {
        for windows in self.by_operand.get(&id).into_iter().flatten() {
            windows.see(x);
        }
    }

    /// The moments of each layer; `means` are those of its operand's channels.
    pub(super) fn finish(self, means: &[Option<Vec<f64>>]) -> HashMap<Id<Value>, Moments> {
        let layers: Vec<_> = self.by_operand.into_iter().collect();
        let of = |(x, windows): (Id<Value>, Vec<Windows>)| {
            let mean = means[x.index()].as_deref().unwrap_or(&[]).to_vec();
            windows.into_iter().map(move |windows| (windows.layer, windows.finish(&mean))).collect::<Vec<_>>()
        };
        layers.into_par_iter().flat_map_iter(of).collect()
    }
}

impl Windows {
    /// Nothing where no range was seen, or where rows give too few windows.
    fn of(graph: &Graph, layer: Id<Value>, x: Id<Value>, weights: &[usize], rows: usize) -> Option<Self> {
        let (value, operand) = (graph.value(layer), graph.value(x));
        let (geometry, kernel, output) = match &value.op {
            Op::Conv { geometry, .. } => (geometry.clone(), [weights[2], weights[3]], [value.shape[2], value.shape[3]]),
            _ => (ConvGeometry { strides: [1; 2], pads: [0; 4], dilations: [1; 2], groups: 1 }, [1; 2], [1; 2]),
        };
        let seen = operand.facts.seen.as_ref()?;
        let ends = |c: usize| {
            let (lo, hi) = seen[if seen.len() == 1 { 0 } else { c }];
            let (lo, hi) = (f64::from(lo), f64::from(hi));
            (lo, hi, lo.abs().max(hi.abs()).max(f64::MIN_POSITIVE))
        };
        let (places, per_group) = (output[0] * output[1], weights[1]);
        let (area, available) = (kernel[0] * kernel[1], rows * places);
        let most = (available / FEWEST).min(WIDEST) / area.max(1);
        if most == 0 || per_group == 0 {
            return None;
        }
        // Blocks of about the same size.
        let together = per_group.div_ceil(per_group.div_ceil(most));
        let samples = (together * area * ENOUGH.0).max(ENOUGH.1);
        let per_row = samples.div_ceil(rows).min(places);
        let blocks = (0..geometry.groups).flat_map(|group| {
            let channels = group * per_group..(group + 1) * per_group;
            channels.clone().step_by(together).map(move |c| (group, c..(c + together).min(channels.end)))
        });
        let sums = |n: usize| Mutex::new(Sums { products: vec![0; n * n], taps: vec![0; n] });
        Some(Self {
            blocks: blocks.map(|(group, c)| (group, c.clone(), sums(c.len() * area))).collect(),
            ends: (0..operand.channels()).map(ends).collect(),
            samples: per_row * rows,
            layer,
            geometry,
            kernel,
            output,
            per_row,
        })
    }

    fn see(&self, x: &ArrayD<f32>) {
        let inner = [x.shape().get(2).copied().unwrap_or(1), x.shape().get(3).copied().unwrap_or(1)];
        let shape = (x.shape()[0], x.shape()[1], inner[0], inner[1]);
        let x = x.as_standard_layout();
        let x = x.view().into_shape_with_order(shape).expect("row-major");
        for (_, channels, sums) in &self.blocks {
            let x = x.slice(s![.., channels.clone(), .., ..]);
            let patches = self.patches(&x, channels.start);
            let products = patches.t().dot(&patches);
            let mut sums = sums.lock().expect("observers do not panic");
            let fixed = |x: f64| (x * UNIT).round() as i64;
            sums.products.iter_mut().zip(&products).for_each(|(sum, p)| *sum += fixed(*p));
            let taps = patches.columns().into_iter().map(|tap| tap.sum());
            sums.taps.iter_mut().zip(taps).for_each(|(sum, t)| *sum += fixed(t));
        }
    }

    /// Windows over some channels, the first of which is `first`: `[sample, (channel, ky, kx)]`, in units of the channels'
    /// largest magnitudes.
    fn patches(&self, x: &ndarray::ArrayView4<'_, f32>, first: usize) -> Array2<f64> {
        let ConvGeometry { strides, pads, dilations, groups: _ } = &self.geometry;
        let (rows, channels, height, width) = x.dim();
        let [kernel_height, kernel_width] = self.kernel;
        let mut patches = Array2::zeros((rows * self.per_row, channels * kernel_height * kernel_width));
        for (i, mut patch) in patches.rows_mut().into_iter().enumerate() {
            let place = self.place(i / self.per_row, i % self.per_row);
            let mut taps = patch.iter_mut();
            for c in 0..channels {
                let (lo, hi, largest) = self.ends[first + c];
                for k in 0..kernel_height * kernel_width {
                    let tap = taps.next().expect("a tap for each");
                    let y = (place[0] * strides[0] + k / kernel_width * dilations[0]).wrapping_sub(pads[0]);
                    let z = (place[1] * strides[1] + k % kernel_width * dilations[1]).wrapping_sub(pads[1]);
                    if y < height && z < width {
                        *tap = f64::from(x[[i / self.per_row, c, y, z]]).max(lo).min(hi) / largest;
                    }
                }
            }
        }
        patches
    }

    /// Where window `i` of a row is: all places, or some of them, spread evenly over both axes (Roberts' R2 sequence).
    fn place(&self, row: usize, i: usize) -> [usize; 2] {
        let [height, width] = self.output;
        if self.per_row == height * width {
            return [i / width, i % width];
        }
        let at = (row * self.per_row + i) as f64;
        let along = |step: f64, extent: usize| (((0.5 + at * step).fract() * extent as f64) as usize).min(extent - 1);
        [along(0.754_877_666_246_692_7, height), along(0.569_840_290_998_053_2, width)]
    }

    fn finish(self, means: &[f64]) -> Moments {
        let area = self.kernel[0] * self.kernel[1];
        let count = self.samples as f64 * UNIT;
        let block = |(group, channels, sums): (usize, std::ops::Range<usize>, Mutex<Sums>)| {
            let Sums { products, taps } = sums.into_inner().expect("observers do not panic");
            let n = taps.len();
            let largest = |tap: usize| self.ends[channels.start + tap / area].2;
            let mean: Vec<f64> = (0..n).map(|tap| means[channels.start + tap / area]).collect();
            let tap: Vec<f64> = taps.iter().enumerate().map(|(i, t)| *t as f64 / count * largest(i)).collect();
            let covariance = Array2::from_shape_fn((n, n), |(i, j)| {
                let product = products[i * n + j] as f64 / count * largest(i) * largest(j);
                product - mean[i] * tap[j] - tap[i] * mean[j] + mean[i] * mean[j]
            });
            Block { group, channels, covariance }
        };
        Moments { blocks: self.blocks.into_iter().map(block).collect() }
    }
}

#[cfg(test)]
mod tests {
    use fhe_ir::eval;
    use fhe_ir::text::{Sidecar, parse};
    use ndarray::{Axis, IxDyn};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::means;
    use super::*;

    /// A convolution in two groups whose output channel `o` of a group gives tap `o` of its windows, channel by channel.
    fn windows_as_outputs(geometry: &str, height: usize, width: usize) -> Graph {
        let one_hot: String = (0..128).map(|i| if i / 8 % 8 == i % 8 { " 1" } else { " 0" }).collect();
        let text = format!(
            "eir 2 calibrated\ngraph g\n%x: f32[1,4,6,9] = input ; seen=[-9, 9]\n\
             %y: f32[1,16,{height},{width}] = conv %x, @w, {geometry}groups=2 ; seen=[-9, 9]\noutput %y \"y\"\n\
             const @w: f[16,2,2,2] ={one_hot}\n"
        );
        parse(&text, &Sidecar::new()).expect("a graph")
    }

    fn rows(count: usize) -> ArrayD<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut x = ArrayD::zeros(IxDyn(&[count, 4, 6, 9]));
        for (i, e) in x.iter_mut().enumerate() {
            // Neighbours are alike, channels differ in mean and size.
            let channel = (i / 54 % 4) as f32;
            *e = channel + (i as f32 / 5.0).sin() * (1.0 + channel) / 2.0 + rng.random_range(-0.5..0.5);
        }
        x
    }

    /// The moments by their definition, from what the evaluator gives: `[group][(tap, tap)]`.
    fn naive(graph: &Graph, x: &ArrayD<f32>) -> Vec<Array2<f64>> {
        let y = &eval::float(graph, std::slice::from_ref(x))[0];
        let (count, places) = (y.shape()[0], y.shape()[2] * y.shape()[3]);
        let y = y.view().into_shape_with_order((count, 16, places)).expect("row-major").mapv(f64::from);
        let mean = |c: usize| x.index_axis(Axis(1), c).iter().map(|e| f64::from(*e)).sum::<f64>() / (count * 54) as f64;
        let means: Vec<f64> = (0..4).map(mean).collect();
        let from_mean = |o: usize| y.index_axis(Axis(1), o).mapv(|e| e - means[o / 4]);
        let moment = |i: usize, j: usize| (from_mean(i) * from_mean(j)).sum() / (count * places) as f64;
        (0..2).map(|group| Array2::from_shape_fn((8, 8), |(i, j)| moment(group * 8 + i, group * 8 + j))).collect()
    }

    fn moments(graph: &Graph, x: &ArrayD<f32>) -> Moments {
        let mut observed = means::of(graph, std::slice::from_ref(x));
        let layer = graph.iter().map(|(id, _)| id).next_back().expect("a layer");
        observed.moments.remove(&layer).expect("moments of the layer")
    }

    #[test]
    fn moments_of_padded_strided_dilated_and_grouped_windows() {
        for (geometry, height, width) in [
            ("", 5, 8),
            ("pads=[1,0,2,1] ", 8, 9),
            ("strides=[2,1] ", 3, 8),
            ("strides=[1,3] pads=[0,2,1,0] dilations=[3,2] ", 4, 4),
        ] {
            let (graph, x) = (windows_as_outputs(geometry, height, width), rows(24));
            let found = moments(&graph, &x).blocks;
            assert_eq!(found.iter().map(|b| (b.group, b.channels.clone())).collect::<Vec<_>>(), [(0, 0..2), (1, 2..4)]);
            for (block, naive) in found.iter().zip(naive(&graph, &x)) {
                let largest = (&block.covariance - &naive).iter().fold(0.0f64, |m, e| m.max(e.abs()));
                assert!(largest < 1e-5, "{geometry}: {largest}");
            }
        }
    }

    #[test]
    fn places_that_are_sampled_stand_for_all() {
        let (graph, x) = (windows_as_outputs("pads=[1,0,0,1] ", 6, 9), rows(400));
        for (block, naive) in moments(&graph, &x).blocks.iter().zip(naive(&graph, &x)) {
            let largest = naive.diag().iter().fold(0.0f64, |m, e| m.max(*e));
            let error = (&block.covariance - &naive).iter().fold(0.0f64, |m, e| m.max(e.abs()));
            assert!(0.0 < error && error < largest / 10.0, "{error} of {largest}");
        }
    }

    #[test]
    fn few_rows_know_few_weights_together() {
        let graph = |width: usize| {
            let text = format!(
                "eir 2 calibrated\ngraph g\n%x: f32[1,{width}] = input ; seen=[-9, 9]\n\
                 %y: f32[1,1] = dot %x, @w ; seen=[-9, 9]\noutput %y \"y\"\nconst @w: f[1,{width}] = 1*{width}\n"
            );
            parse(&text, &Sidecar::new()).expect("a graph")
        };
        let channels = |rows: usize| {
            let layers = Collector::new(&graph(10), rows).by_operand.into_values().flatten();
            layers.flat_map(|w| w.blocks).map(|(_, channels, _)| channels).collect::<Vec<_>>()
        };
        assert_eq!(channels(1), []);
        assert_eq!(channels(8), [0..4, 4..8, 8..10]);
        assert_eq!(channels(100), std::slice::from_ref(&(0..10)));
    }

    #[test]
    fn moments_do_not_depend_on_threads() {
        let (graph, x) = (windows_as_outputs("pads=[1,0,0,1] ", 6, 9), rows(200));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| moments(&graph, &x).blocks.into_iter().map(|b| b.covariance).collect::<Vec<_>>())
        };
        assert_eq!(on(1), on(3));
    }
}
