//! Linear regions of a tabled graph: values that share one torus step, and how noise grows inside them.
//!
//! A region is what linear ops and keyswitches connect: it starts at inputs and tables and ends at tables and outputs. All of its
//! values share the torus step, so the widest domain that reads any of them decides it.

use fhe_ir::{Domain, Graph, Id, Op, Read, Value};
use petgraph::unionfind::UnionFind;

pub use crate::growth::Norm2;
use crate::growth::growth;
use crate::params::Constraint;

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
    /// Region of each value: equal numbers are one region.
    pub region: Vec<usize>,
    /// Noise factors per value and channel.
    pub norm2: Vec<Vec<Norm2>>,
    /// Every reading, tables in the graph's order, then outputs.
    pub readings: Vec<Reading<'g>>,
}

impl<'g> Regions<'g> {
    /// Analyses a graph of phase `tabled` or `circuit`; of a bootstrap, the operand is what its keyswitch switches.
    pub fn of(graph: &'g Graph) -> Self {
        let mut readings = vec![];
        for (id, value) in graph.iter() {
            let (operand, domain, read) = match &value.op {
                Op::Lut { x, domain, read, .. } => (*x, domain, *read),
                Op::Pbs { x, domain, read, .. } => match graph.value(*x).op {
                    Op::Keyswitch { x, .. } => (x, domain, *read),
                    _ => (*x, domain, *read),
                },
                _ => continue,
            };
            readings.push(Reading { operand, table: Some(id), domain, read });
        }
        for output in &graph.outputs {
            if let (Some(domain), Some(read)) = (&output.domain, output.read) {
                readings.push(Reading { operand: output.value, table: None, domain, read });
            }
        }
        let mut regions = UnionFind::<usize>::new(graph.values.len());
        let same_step = |v: &Value| v.op.is_linear() || matches!(v.op, Op::Keyswitch { .. });
        for (id, value) in graph.iter().filter(|(_, v)| same_step(v)) {
            for operand in value.op.operands() {
                regions.union(id.index(), operand.index());
            }
        }
        let mut widest = vec![1; graph.values.len()];
        for reading in &readings {
            let region = regions.find(reading.operand.index());
            widest[region] = widest[region].max(reading.domain.width);
        }
        let region: Vec<_> = (0..graph.values.len()).map(|v| regions.find(v)).collect();
        let span = region.iter().map(|r| widest[*r]).collect();
        Self { graph, span, region, norm2: growth(graph), readings }
    }

    /// The noise constraint of a reading.
    pub fn constraint(&self, reading: &Reading<'_>) -> Constraint {
        self.constraint_in(reading, reading.read.boxes(reading.domain.width))
    }

    /// The noise constraint of a reading if it distinguished that many boxes, at least 1.
    pub fn constraint_in(&self, reading: &Reading<'_>, boxes: u64) -> Constraint {
        let operand = reading.operand.index();
        // A bit is told from the other up to a quarter of the torus, whatever else is asked for.
        let boxes = if reading.read == Read::Bit { 2 } else { boxes };
        let (span, width) = (self.span[operand], reading.domain.width);
        // A single box is read right wherever its operand is.
        let width = if boxes == 1 && reading.read != Read::Full { span } else { width };
        // A read in full has no boxes: the domain is as one, wherever the noise goes.
        let full = reading.read == Read::Full;
        let boxes = if full { 1 } else { boxes };
        let channels = &self.norm2[operand];
        // What a channel misread ruins alone, noise only adds to: its mean over the channels is what reaches the network.
        let norm2 = if full {
            channels.iter().fold(Norm2::default(), |sum, n| sum.plus(*n)).scaled(1.0 / channels.len().max(1) as f64)
        } else {
            channels.iter().copied().fold(Norm2::default(), Norm2::max)
        };
        Constraint {
            norm2_pbs: norm2.pbs,
            norm2_input: norm2.input,
            table: reading.table.is_some(),
            half_box: match reading.read {
                Read::Bit => 0.25,
                _ => width as f64 / (4.0 * span as f64 * boxes as f64),
            },
            boxes: u32::try_from(boxes).unwrap_or(u32::MAX),
            dyadic_boxes: span == width && boxes.is_power_of_two(),
            full,
            count: self.graph.value(reading.operand).elements() as u64,
        }
    }
}
