//! Linear regions of a tabled graph: values that share one torus step, and how noise grows inside them.
//!
//! A region is what linear ops connect: it starts at inputs and tables and ends at tables and outputs. All of its
//! values share the torus step, so the widest domain that reads any of them decides it.

use fhe_ir::{Domain, Graph, Id, Op, Read, Value, ranges};
use ndarray::Axis;
use petgraph::unionfind::UnionFind;

use crate::params::Constraint;

/// Factors on the variance of one fresh bootstrap and of one fresh encryption, for one channel of a value.
///
/// Sums of squared weights. Values that come from the same table twice are counted as independent; overlapping
/// pooling windows in front of another linear op are the one place where that is not exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norm2 {
    /// Factor on the bootstrap's variance.
    pub pbs: f64,
    /// Factor on the encryption's variance.
    pub input: f64,
}

impl Norm2 {
    fn scaled(self, factor: f64) -> Self {
        Self { pbs: self.pbs * factor, input: self.input * factor }
    }

    fn plus(self, other: Self) -> Self {
        Self { pbs: self.pbs + other.pbs, input: self.input + other.input }
    }

    fn max(self, other: Self) -> Self {
        Self { pbs: self.pbs.max(other.pbs), input: self.input.max(other.input) }
    }
}

/// A place where a value is read in boxes.
#[derive(Clone, Debug)]
pub struct Reading<'g> {
    /// The value that is read.
    pub operand: Id<Value>,
    /// The table, or `None` for an output.
    pub table: Option<Id<Value>>,
    /// Domain.
    pub domain: &'g Domain,
    /// Resolution.
    pub read: Read,
}

/// What lowering needs to know of a tabled graph.
pub struct Regions<'g> {
    graph: &'g Graph,
    /// Integers that the half torus holds, per value.
    pub span: Vec<u64>,
    /// Noise factors per value and channel.
    pub norm2: Vec<Vec<Norm2>>,
    /// Every reading, tables in the graph's order, then outputs.
    pub readings: Vec<Reading<'g>>,
}

impl<'g> Regions<'g> {
    /// Analyses a graph of phase `tabled`.
    pub fn of(graph: &'g Graph) -> Self {
        let mut readings = vec![];
        for (id, value) in graph.iter() {
            if let Op::Lut { x, domain, read, .. } = &value.op {
                readings.push(Reading { operand: *x, table: Some(id), domain, read: *read });
            }
        }
        for output in &graph.outputs {
            if let (Some(domain), Some(read)) = (&output.domain, output.read) {
                readings.push(Reading { operand: output.value, table: None, domain, read });
            }
        }
        let mut regions = UnionFind::<usize>::new(graph.values.len());
        for (id, value) in graph.iter().filter(|(_, v)| v.op.is_linear()) {
            for operand in value.op.operands() {
                regions.union(id.index(), operand.index());
            }
        }
        let mut widest = vec![1; graph.values.len()];
        for reading in &readings {
            let region = regions.find(reading.operand.index());
            widest[region] = widest[region].max(reading.domain.width);
        }
        let span = (0..graph.values.len()).map(|v| widest[regions.find(v)]).collect();
        Self { graph, span, norm2: norms(graph), readings }
    }

    /// The noise constraint of a reading.
    pub fn constraint(&self, reading: &Reading<'_>) -> Constraint {
        let operand = reading.operand.index();
        let (span, width) = (self.span[operand], reading.domain.width);
        let boxes = reading.read.boxes(width);
        let worst = self.norm2[operand].iter().copied().fold(Norm2::default(), Norm2::max);
        Constraint {
            norm2_pbs: worst.pbs,
            norm2_input: worst.input,
            table: reading.table.is_some(),
            half_box: width as f64 / (4.0 * span as f64 * boxes as f64),
            boxes: u32::try_from(boxes).unwrap_or(u32::MAX),
            dyadic_boxes: span == width && boxes.is_power_of_two(),
            count: self.graph.value(reading.operand).elements() as u64,
        }
    }
}

fn norms(graph: &Graph) -> Vec<Vec<Norm2>> {
    let mut norms: Vec<Vec<Norm2>> = Vec::with_capacity(graph.values.len());
    for value in &graph.values {
        let channels = value.channels();
        let of = |id: Id<Value>| &norms[id.index()];
        let square = |w: i64| (w as f64) * (w as f64);
        let own = match &value.op {
            Op::Input => vec![Norm2 { pbs: 0.0, input: 1.0 }; channels],
            Op::Lut { .. } | Op::Pbs { .. } | Op::Map { .. } => vec![Norm2 { pbs: 1.0, input: 0.0 }; channels],
            Op::Dot { x, w } | Op::Conv { x, w, .. } => {
                let groups = if let Op::Conv { geometry, .. } = &value.op { geometry.groups } else { 1 };
                let (x, w) = (of(*x), graph.ints(*w));
                let (outs, per_group) = (w.shape()[0], w.shape()[1]);
                w.axis_iter(Axis(0))
                    .enumerate()
                    .map(|(o, channel)| {
                        let first = o / (outs / groups) * per_group;
                        channel.axis_iter(Axis(0)).enumerate().fold(Norm2::default(), |sum, (i, taps)| {
                            sum.plus(x[first + i].scaled(taps.iter().map(|w| square(*w)).sum()))
                        })
                    })
                    .collect()
            }
            Op::SumPool { x, geometry } | Op::AvgPool { x, geometry } => {
                of(*x).iter().map(|n| n.scaled(geometry.area() as f64)).collect()
            }
            Op::MulClear { x, c } => {
                let factor = |ch: usize| graph.constant(*c).channel(ch).powi(2);
                of(*x).iter().enumerate().map(|(ch, n)| n.scaled(factor(ch))).collect()
            }
            Op::Add { a, b } | Op::Sub { a, b } => of(*a).iter().zip(of(*b)).map(|(a, b)| a.plus(*b)).collect(),
            Op::AddClear { x, .. } | Op::Neg { x } | Op::BatchNorm { x, .. } | Op::Keyswitch { x } => of(*x).clone(),
            Op::Slice { x, starts, steps } => (0..channels).map(|c| of(*x)[starts[1] + c * steps[1]]).collect(),
            Op::Pad { x, before, .. } => {
                let inside = |c: usize| c.checked_sub(before[1]).and_then(|c| of(*x).get(c)).copied();
                (0..channels).map(|c| inside(c).unwrap_or_default()).collect()
            }
            Op::Reshape { x } => {
                let group = |c| ranges::channels_of_reshape(graph.value(*x), &value.shape, c);
                (0..channels).map(|c| group(c).map(|i| of(*x)[i]).fold(Norm2::default(), Norm2::max)).collect()
            }
            Op::Transpose { x, perm } => {
                if perm.get(1) == Some(&1) {
                    of(*x).clone()
                } else {
                    vec![of(*x).iter().copied().fold(Norm2::default(), Norm2::max); channels]
                }
            }
        };
        norms.push(own);
    }
    norms
}
