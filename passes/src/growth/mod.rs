//! How noise grows through linear ops: a bound per value and channel, exact where the summands are independent.
//!
//! Every input element and every element of a table's result has noise of its own. The variance of a sum is the sum of
//! the variances when the summands are independent; when they may share noise (a window over a convolution whose own
//! windows overlap, a sum of two branches of one value), standard deviations are added instead, which is never too low.

use std::collections::BTreeSet;

use fhe_ir::{Const, ConvGeometry, Graph, Id, Op, PoolGeometry, Value, ranges};
use ndarray::ArrayViewD;

/// Factors on the variance of one fresh bootstrap and of one fresh encryption, for one channel of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norm2 {
    /// Factor on the bootstrap's variance.
    pub pbs: f64,
    /// Factor on the encryption's variance.
    pub input: f64,
}

impl Norm2 {
    fn each(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self { pbs: f(self.pbs, other.pbs), input: f(self.input, other.input) }
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self { pbs: self.pbs * factor, input: self.input * factor }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    /// The sum when nothing is known of common noise: standard deviations add.
    fn plus_dependent(self, other: Self) -> Self {
        self.each(other, |a, b| (a.sqrt() + b.sqrt()).powi(2))
    }

    /// The greater of each.
    pub fn max(self, other: Self) -> Self {
        self.each(other, f64::max)
    }
}

/// What is known of the noise of one value.
#[derive(Clone)]
struct Noise {
    /// Per channel.
    norm2: Vec<Norm2>,
    /// Inputs and tables that it comes from.
    sources: BTreeSet<usize>,
    /// Whether elements of different channels are independent, wherever they are.
    channels: bool,
    /// Whether elements of different places are independent, whatever their channels.
    places: bool,
}

impl Noise {
    fn with(&self, norm2: Vec<Norm2>) -> Self {
        Self { norm2, ..self.clone() }
    }
}

/// The factors of every value, per channel.
pub(crate) fn growth(graph: &Graph) -> Vec<Vec<Norm2>> {
    grown(graph, &|_| true, &|_, fresh| fresh)
}

/// The factors of the values `within`, which linear ops connect with nothing else, per channel; `fresh` says what a
/// source has of its own, given what is usual for it.
fn grown(
    graph: &Graph,
    within: &dyn Fn(Id<Value>) -> bool,
    fresh: &dyn Fn(Id<Value>, Norm2) -> Norm2,
) -> Vec<Vec<Norm2>> {
    let mut noise: Vec<Noise> = Vec::with_capacity(graph.values.len());
    for (id, value) in graph.iter() {
        if !within(id) {
            noise.push(Noise { norm2: vec![], sources: BTreeSet::new(), channels: true, places: true });
            continue;
        }
        let mut own = of_op(graph, &noise, id, value, &|norm2| fresh(id, norm2));
        // A single channel, or a single place, has no other to share noise with.
        own.channels |= value.channels() == 1;
        own.places |= value.elements() == value.channels();
        noise.push(own);
    }
    noise.into_iter().map(|n| n.norm2).collect()
}

/// Factors that tell tables apart, in one channel of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BySource {
    /// Of the results of each table that reaches the value.
    pub(crate) tables: Vec<(Id<Value>, f64)>,
    /// Of fresh encryptions.
    pub(crate) input: f64,
}

/// The factors of every value by the table that they come from, per channel; `region` tells the values apart that linear
/// ops do not connect.
///
/// The results of two tables are independent, so their parts add up to no more than [`growth`] finds for all together,
/// which adds standard deviations where branches share a table.
pub(crate) fn growth_by_table(graph: &Graph, region: &[usize], norm2: &[Vec<Norm2>]) -> Vec<Vec<BySource>> {
    let mut of: Vec<Vec<BySource>> =
        norm2.iter().map(|n| n.iter().map(|n| BySource { tables: vec![], input: n.input }).collect()).collect();
    let mut tables: Vec<Vec<Id<Value>>> = vec![vec![]; graph.values.len()];
    for (id, value) in graph.iter() {
        if !value.op.is_linear() && !matches!(value.op, Op::Input { .. }) {
            tables[region[id.index()]].push(id);
        }
    }
    for tables in tables {
        for table in &tables {
            let here = region[table.index()];
            let only = |id: Id<Value>, norm2| if id == *table { norm2 } else { Norm2::default() };
            // With a single table all is its own.
            let grown = (tables.len() > 1).then(|| grown(graph, &|id: Id<Value>| region[id.index()] == here, &only));
            for (value, channels) in of.iter_mut().enumerate().filter(|(v, _)| region[*v] == here) {
                for (factors, norm2) in channels.iter_mut().zip(grown.as_ref().map_or(&norm2[value], |g| &g[value])) {
                    if norm2.pbs > 0.0 {
                        factors.tables.push((*table, norm2.pbs));
                    }
                }
            }
        }
    }
    of
}

fn of_op(graph: &Graph, noise: &[Noise], id: Id<Value>, value: &Value, fresh: &dyn Fn(Norm2) -> Norm2) -> Noise {
    let channels = value.channels();
    let of = |id: Id<Value>| &noise[id.index()];
    let source = |norm2| Noise {
        norm2: vec![fresh(norm2); channels],
        sources: BTreeSet::from([id.index()]),
        channels: true,
        places: true,
    };
    match &value.op {
        Op::Input { .. } => source(Norm2 { pbs: 0.0, input: 1.0 }),
        Op::Lut { .. } | Op::Pbs { .. } | Op::Map { .. } | Op::MaxPool { .. } | Op::Mul { .. } => {
            source(Norm2 { pbs: 1.0, input: 0.0 })
        }
        Op::Dot { x, w } => {
            let geometry = ConvGeometry { strides: [1; 2], pads: [0; 4], dilations: [1; 2], groups: 1 };
            weighted(graph, of(*x), *w, &geometry)
        }
        Op::Conv { x, w, geometry } => weighted(graph, of(*x), *w, geometry),
        Op::SumPool { x, geometry } | Op::AvgPool { x, geometry } => pooled(graph, noise, *x, geometry),
        Op::MulClear { x, c } => {
            let factor = |ch: usize| graph.constant(*c).channel(ch).powi(2);
            of(*x).with(of(*x).norm2.iter().enumerate().map(|(ch, n)| n.scaled(factor(ch))).collect())
        }
        Op::Add { a, b } | Op::Sub { a, b } => {
            let (a, b) = (of(*a), of(*b));
            let independent = a.sources.is_disjoint(&b.sources);
            let plus = if independent { Norm2::plus } else { Norm2::plus_dependent };
            Noise {
                norm2: a.norm2.iter().zip(&b.norm2).map(|(a, b)| plus(*a, *b)).collect(),
                sources: a.sources.union(&b.sources).copied().collect(),
                channels: independent && a.channels && b.channels,
                places: independent && a.places && b.places,
            }
        }
        Op::AddClear { x, .. } | Op::Neg { x } | Op::BatchNorm { x, .. } | Op::Keyswitch { x, .. } => of(*x).clone(),
        Op::Concat { xs, axis } => joined(&xs.iter().map(|x| of(*x)).collect::<Vec<_>>(), *axis, channels),
        Op::Gather { x, axis, indices } => {
            let x = of(*x);
            let distinct = indices.iter().collect::<BTreeSet<_>>().len() == indices.len();
            let norm2 = if *axis == 1 { indices.iter().map(|&i| x.norm2[i]).collect() } else { x.norm2.clone() };
            // A copy shares all of its noise.
            let (channels, places) = (x.channels && (distinct || *axis != 1), x.places && (distinct || *axis == 1));
            Noise { norm2, channels, places, sources: x.sources.clone() }
        }
        Op::Slice { x, starts, steps } => {
            of(*x).with((0..channels).map(|c| of(*x).norm2[starts[1] + c * steps[1]]).collect())
        }
        Op::Pad { x, before, .. } => {
            let inside = |c: usize| c.checked_sub(before[1]).and_then(|c| of(*x).norm2.get(c)).copied();
            of(*x).with((0..channels).map(|c| inside(c).unwrap_or_default()).collect())
        }
        Op::Reshape { x } => {
            let group = |c| ranges::channels_of_reshape(graph.value(*x), &value.shape, c);
            let greatest = |c| group(c).map(|i| of(*x).norm2[i]).fold(Norm2::default(), Norm2::max);
            mixed(of(*x), graph.value(*x).channels() == channels, (0..channels).map(greatest).collect())
        }
        Op::Transpose { x, perm } if perm[1] == 1 => of(*x).clone(),
        Op::Transpose { x, .. } => {
            let greatest = of(*x).norm2.iter().copied().fold(Norm2::default(), Norm2::max);
            mixed(of(*x), false, vec![greatest; channels])
        }
    }
}

/// Values behind one another.
fn joined(xs: &[&Noise], axis: usize, channels: usize) -> Noise {
    let sources: BTreeSet<usize> = xs.iter().flat_map(|x| &x.sources).copied().collect();
    let independent = sources.len() == xs.iter().map(|x| x.sources.len()).sum::<usize>();
    let norm2 = if axis == 1 {
        xs.iter().flat_map(|x| &x.norm2).copied().collect()
    } else {
        let greatest = |c: usize| xs.iter().map(|x| x.norm2[c]).fold(Norm2::default(), Norm2::max);
        (0..channels).map(greatest).collect()
    };
    let all = |kept: fn(&Noise) -> bool| independent && xs.iter().all(|x| kept(x));
    Noise { norm2, sources, channels: all(|x| x.channels), places: all(|x| x.places) }
}

/// Elements in another order; `kept` when they stay in their channels.
fn mixed(x: &Noise, kept: bool, norm2: Vec<Norm2>) -> Noise {
    let all = x.channels && x.places;
    Noise { channels: if kept { x.channels } else { all }, places: if kept { x.places } else { all }, ..x.with(norm2) }
}

/// The sum of weighted elements of some channels (outer) at some places (inner).
fn weighted_sum(x: &Noise, first: usize, channel: &ArrayViewD<'_, i64>) -> Norm2 {
    let rows = || channel.outer_iter().enumerate().map(|(i, taps)| (x.norm2[first + i], taps));
    let absolute = |w: &i64| (*w as f64).abs();
    match (x.channels, x.places) {
        (true, true) => rows().fold(Norm2::default(), |sum, (n, taps)| {
            sum.plus(n.scaled(taps.iter().map(|w| absolute(w).powi(2)).sum()))
        }),
        (true, false) => rows().fold(Norm2::default(), |sum, (n, taps)| {
            sum.plus(n.scaled(taps.iter().map(absolute).sum::<f64>().powi(2)))
        }),
        (false, true) => {
            let places = channel.len() / channel.shape()[0];
            let mut sums = vec![Norm2::default(); places];
            for (n, taps) in rows() {
                for (sum, w) in sums.iter_mut().zip(&taps) {
                    *sum = sum.plus_dependent(n.scaled(absolute(w).powi(2)));
                }
            }
            sums.into_iter().fold(Norm2::default(), Norm2::plus)
        }
        (false, false) => rows().fold(Norm2::default(), |sum, (n, taps)| {
            sum.plus_dependent(n.scaled(taps.iter().map(absolute).sum::<f64>().powi(2)))
        }),
    }
}

/// Whether windows of these extents, each reaching over `reach` elements, have no element in common.
fn disjoint(strides: [usize; 2], reach: [usize; 2]) -> bool {
    strides[0] >= reach[0] && strides[1] >= reach[1]
}

fn weighted(graph: &Graph, x: &Noise, w: Id<Const>, geometry: &ConvGeometry) -> Noise {
    let w = graph.ints(w);
    let (outs, per_group) = (w.shape()[0], w.shape()[1]);
    let reach = [0, 1].map(|i| w.shape().get(2 + i).map_or(1, |k| geometry.dilations[i] * (k - 1) + 1));
    let out_per_group = outs / geometry.groups;
    let sum = |(o, channel): (usize, ArrayViewD<'_, i64>)| weighted_sum(x, o / out_per_group * per_group, &channel);
    Noise {
        norm2: w.outer_iter().enumerate().map(sum).collect(),
        sources: x.sources.clone(),
        channels: x.channels && out_per_group == 1,
        places: x.places && disjoint(geometry.strides, reach),
    }
}

fn pooled(graph: &Graph, noise: &[Noise], x: Id<Value>, geometry: &PoolGeometry) -> Noise {
    let of_x = &noise[x.index()];
    let area = geometry.area() as f64;
    let norm2 = if of_x.places {
        of_x.norm2.iter().map(|n| n.scaled(area)).collect()
    } else {
        pooled_conv(graph, noise, x, geometry)
            .unwrap_or_else(|| of_x.norm2.iter().map(|n| n.scaled(area * area)).collect())
    };
    Noise { places: of_x.places && disjoint(geometry.strides, geometry.kernel), ..of_x.with(norm2) }
}

/// Pooling behind a convolution (and its bias) of independent elements is one convolution with a larger kernel.
///
/// Only without padding of the pool: there a window sees part of the sum, in which fewer terms may cancel.
fn pooled_conv(graph: &Graph, noise: &[Noise], mut x: Id<Value>, pool: &PoolGeometry) -> Option<Vec<Norm2>> {
    while let Op::AddClear { x: operand, .. } = graph.value(x).op {
        x = operand;
    }
    let Op::Conv { x: operand, w, geometry } = &graph.value(x).op else { return None };
    let of_x = &noise[operand.index()];
    if pool.pads != [0; 4] || !(of_x.places && of_x.channels) {
        return None;
    }
    let w = graph.ints(*w);
    let (outs, per_group, kernel) = (w.shape()[0], w.shape()[1], [w.shape()[2], w.shape()[3]]);
    let reach = |i: usize| (pool.kernel[i] - 1) * geometry.strides[i] + (kernel[i] - 1) * geometry.dilations[i] + 1;
    let (height, width) = (reach(0), reach(1));
    let mut grid = vec![0.0; height * width];
    let of_channel = |(o, channel): (usize, ArrayViewD<'_, i64>)| {
        let first = o / (outs / geometry.groups) * per_group;
        channel.outer_iter().enumerate().fold(Norm2::default(), |sum, (i, taps)| {
            grid.fill(0.0);
            for (tap, &weight) in taps.iter().enumerate().filter(|(_, w)| **w != 0) {
                let (ky, kx) = (tap / kernel[1], tap % kernel[1]);
                for (py, px) in (0..pool.kernel[0]).flat_map(|py| (0..pool.kernel[1]).map(move |px| (py, px))) {
                    let y = py * geometry.strides[0] + ky * geometry.dilations[0];
                    grid[y * width + px * geometry.strides[1] + kx * geometry.dilations[1]] += weight as f64;
                }
            }
            sum.plus(of_x.norm2[first + i].scaled(grid.iter().map(|w| w * w).sum()))
        })
    };
    Some(w.outer_iter().enumerate().map(of_channel).collect())
}

#[cfg(test)]
mod tests;
