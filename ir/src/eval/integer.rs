//! The integer evaluator: exact, in f64 below 2^53; every table is read without noise.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{Array2, ArrayD, Axis};

use super::kernels::for_each_plane;
use super::{At, Elementwise, Evaluation, Split, constants, kernels, run};
use crate::func::{self, quantize};
use crate::graph::{Data, Elem, Graph, Value};
use crate::id::Id;
use crate::op::Op;
use crate::table::{Domain, Read, Reader, Table};

/// Evaluates an integer graph (phases `quantized` to `circuit`) on `[rows, ...]` integers per input.
pub fn integer(graph: &Graph, inputs: &[ArrayD<i64>]) -> Evaluation {
    evaluate(graph, inputs, |_, _, _| {})
}

/// Every value of an integer graph, `[rows, ...]` each, in the graph's order. Holds all of them in memory.
pub fn integer_all(graph: &Graph, inputs: &[ArrayD<i64>]) -> Vec<ArrayD<i64>> {
    let rows = inputs.first().map_or(0, |x| x.shape()[0]);
    // One row at a time, so that the observer knows which row it sees.
    let mut all: Vec<Vec<ArrayD<i64>>> = vec![vec![]; graph.values.len()];
    for row in 0..rows {
        let inputs: Vec<_> = inputs.iter().map(|x| x.select(Axis(0), &[row])).collect();
        let seen = Mutex::new(&mut all);
        evaluate(graph, &inputs, |id, x, _| {
            seen.lock().expect("observers do not panic")[id.index()].push(x.mapv(|e| e as i64));
        });
    }
    all.into_iter()
        .zip(&graph.values)
        .map(|(rows, value)| {
            let views: Vec<_> = rows.iter().map(|r| r.view()).collect();
            ndarray::concatenate(Axis(0), &views).unwrap_or_else(|_| {
                let mut shape = value.shape.clone();
                shape[0] = 0;
                ArrayD::zeros(shape)
            })
        })
        .collect()
}

fn evaluate(
    graph: &Graph,
    inputs: &[ArrayD<i64>],
    observe: impl Fn(Id<Value>, &ArrayD<f64>, Split) + Sync,
) -> Evaluation {
    let inputs: Vec<_> = inputs.iter().map(|x| x.mapv(|e| e as f64)).collect();
    let exact = Exact { graph, tables: prepare(graph, |_, _| None), saturated: Counters::of(graph) };
    let outputs = run(graph, &integer_constants(graph), &inputs, &exact, observe);
    let mut saturated = exact.saturated.counts();
    let outputs = decode_outputs(graph, outputs, |y, _| y, &mut saturated);
    Evaluation { outputs, saturated }
}

/// The constants of an integer graph as f64 (reals inside map chains too).
pub(super) fn integer_constants(graph: &Graph) -> Vec<ArrayD<f64>> {
    constants(graph, |data| match data {
        Data::F32(a) => a.mapv(f64::from),
        Data::Int(a) => a.mapv(|i| i as f64),
    })
}

/// A count per value that all cores add to.
pub(super) struct Counters(Vec<AtomicU64>);

impl Counters {
    pub(super) fn of(graph: &Graph) -> Self {
        Self(graph.values.iter().map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, id: Id<Value>, count: u64) {
        if count > 0 {
            self.0[id.index()].fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(self) -> Vec<u64> {
        self.0.into_iter().map(AtomicU64::into_inner).collect()
    }
}

/// A table made ready for one value: its reader, domain and the box of each integer (or slot).
pub(super) struct Prepared<'g> {
    pub reader: Reader,
    /// Whether operands outside of the domain are counted: a bit is read anywhere.
    pub saturates: bool,
    pub domain: &'g Domain,
    pub table: &'g Table,
    /// Box of each slot, when the circuit evaluator asked for a polynomial size.
    pub box_of_slot: Vec<u32>,
}

/// Prepares the tables of all `lut` and `pbs` values; `polynomial_size` is asked for each.
pub(super) fn prepare<'g>(
    graph: &'g Graph,
    polynomial_size: impl Fn(&Graph, &Value) -> Option<u64>,
) -> Vec<Option<Prepared<'g>>> {
    graph
        .values
        .iter()
        .map(|value| {
            let (x, table, domain, read) = match &value.op {
                Op::Lut { x, table, domain, read } | Op::Pbs { x, table, domain, read, .. } => (x, table, domain, read),
                _ => return None,
            };
            let table = graph.table(*table);
            let span = graph.value(*x).cipher.as_ref().map_or(domain.width, |c| c.span);
            let (width, boxes) = (domain.width, table.boxes() as u64);
            let reader = Reader { width, boxes, span, centred: read.is_centred() };
            let box_of_slot = polynomial_size(graph, value)
                .map(|n| (0..n).map(|slot| reader.box_of_slot(slot, n) as u32).collect())
                .unwrap_or_default();
            Some(Prepared { reader, saturates: *read != Read::Bit, domain, table, box_of_slot })
        })
        .collect()
}

struct Exact<'g> {
    graph: &'g Graph,
    tables: Vec<Option<Prepared<'g>>>,
    saturated: Counters,
}

impl Elementwise<f64> for Exact<'_> {
    fn input(&self, _at: At, _id: Id<Value>, x: ArrayD<f64>) -> ArrayD<f64> {
        x
    }

    fn apply(&self, at: At, id: Id<Value>, mut x: ArrayD<f64>) -> ArrayD<f64> {
        let value = self.graph.value(id);
        match &value.op {
            Op::Map { x: operand, .. } => map(self.graph, value, self.graph.value(*operand), &mut x, at.split),
            Op::Keyswitch { .. } => {}
            Op::Lut { .. } | Op::Pbs { .. } => {
                let Prepared { reader, saturates, domain, table, .. } =
                    self.tables[id.index()].as_ref().expect("prepared");
                for_each_plane(&mut x, at.split, |_, channel, plane| {
                    let row = table.row(channel);
                    let row = row.as_slice().expect("tables are row-major");
                    let outside = read_plane(*reader, row, domain.channel(channel).lo, plane);
                    self.saturated.add(id, if *saturates { outside } else { 0 });
                });
            }
            other => unreachable!("verified: `{}` is not in an integer graph", other.keyword()),
        }
        x
    }
}

/// Reads a table at every element of a plane; the number of elements outside of its domain.
fn read_plane(reader: Reader, row: &[i64], lo: i64, plane: &mut [f64]) -> u64 {
    let (boxes, width) = (reader.boxes as i64, reader.width as i64);
    let half = i64::from(reader.centred);
    // The numerator (2·offset + half)·boxes stays below 2^53 for every domain that any parameter set carries: it is exact in
    // f64, and so is the quotient once it has been corrected.
    let fast = reader.width < 1 << 28 && reader.boxes < 1 << 22;
    let inverse = 1.0 / (2 * width) as f64;
    let mut outside = 0;
    for e in plane {
        let offset = *e as i64 - lo;
        let inside = (0..width).contains(&offset);
        outside += u64::from(!inside);
        *e = if inside && fast {
            let numerator = (2 * offset + half) * boxes;
            let guess = (numerator as f64 * inverse) as i64;
            let rest = numerator - guess * (2 * width);
            let index = guess + i64::from(rest >= 2 * width) - i64::from(rest < 0);
            row[index as usize]
        } else {
            reader.read(row, offset)
        } as f64;
    }
    outside
}

/// The definition of an integer `map`: dequantize, apply the chain, quantize into the result's type.
/// With a resolution it is the table that `tabulate` will build, read at the operand.
fn map(graph: &Graph, value: &Value, operand: &Value, x: &mut ArrayD<f64>, split: Split) {
    let Op::Map { resolution, .. } = &value.op else { unreachable!("called on maps") };
    let Some((domain, read)) = resolution else {
        return for_each_plane(x, split, |_, channel, plane| {
            for e in plane {
                *e = map_entry(graph, value, operand, channel, *e as i64) as f64;
            }
        });
    };
    let rows = map_table(graph, value, operand, domain, *read);
    let (width, boxes) = (domain.width, rows.ncols() as u64);
    let reader = Reader { width, boxes, span: width, centred: read.is_centred() };
    for_each_plane(x, split, |_, channel, plane| {
        let row = rows.row(if rows.nrows() == 1 { 0 } else { channel });
        read_plane(reader, row.as_slice().expect("row-major"), domain.channel(channel).lo, plane);
    });
}

/// The entries `[channels, boxes]` of the table that an integer `map` stands for: its result at the middle of each box,
/// which may lie between two integers.
pub fn map_table(graph: &Graph, value: &Value, operand: &Value, domain: &Domain, read: Read) -> Array2<i64> {
    let boxes = read.boxes(domain.width);
    let reader = Reader { width: domain.width, boxes, span: domain.width, centred: read.is_centred() };
    Array2::from_shape_fn((value.channels(), boxes as usize), |(channel, index)| {
        map_at(graph, value, operand, channel, domain.channel(channel).lo as f64 + reader.middle(index as u64))
    })
}

/// The result of an integer `map` at the integer `x` of `channel`, whatever its resolution.
///
/// # Panics
/// When `value` is not a `map`, or has no scale: the verifier has refused that graph.
pub fn map_entry(graph: &Graph, value: &Value, operand: &Value, channel: usize, x: i64) -> i64 {
    map_at(graph, value, operand, channel, x as f64)
}

fn map_at(graph: &Graph, value: &Value, operand: &Value, channel: usize, x: f64) -> i64 {
    let Op::Map { shift, chain, resolution: _, x: _ } = &value.op else { panic!("the value is a map") };
    let scale = |v: &Value| f64::from(v.channel_scale(channel).expect("verified: integer values have a scale"));
    let entry = |id| graph.constant(id).channel(channel);
    let real = scale(operand) * (x + shift.map_or(0.0, entry));
    let real = func::saturated_chain(chain, real, entry);
    let Elem::Int(to) = value.elem else { panic!("verified: a map gives integers of a known type") };
    quantize(real / scale(value), to)
}

/// Turns output values into the integers that a client decrypts; `position` gives what is decrypted of an element
/// (itself, or itself with noise).
pub(super) fn decode_outputs(
    graph: &Graph,
    outputs: Vec<ArrayD<f64>>,
    mut position: impl FnMut(f64, usize) -> f64,
    saturated: &mut [u64],
) -> Vec<ArrayD<i64>> {
    outputs
        .into_iter()
        .zip(&graph.outputs)
        .enumerate()
        .map(|(index, (mut y, output))| {
            if let (Some(read), Some(domain)) = (output.read, &output.domain) {
                let (width, boxes) = (domain.width, read.boxes(domain.width));
                let reader = Reader { width, boxes, span: width, centred: read.is_centred() };
                let count = &mut saturated[output.value.index()];
                // A decrypted phase is known up to whole turns: the one nearest to the middle of the domain is taken.
                let turn = graph.value(output.value).cipher.as_ref().map(|c| 2.0 * c.span as f64);
                kernels::for_each_channel(&mut y, |channel, e| {
                    let lo = domain.channel(channel).lo;
                    let mut at = position(*e, index) - lo as f64 + 0.5;
                    *count += u64::from(at < 0.0 || at >= width as f64);
                    if let Some(turn) = turn {
                        at -= turn * ((at - width as f64 / 2.0) / turn + 0.5).floor();
                    }
                    let index = (at * boxes as f64 / width as f64).floor().clamp(0.0, (boxes - 1) as f64);
                    *e = (lo + reader.centre(index as u64)) as f64;
                });
            }
            y.mapv(|e| e as i64)
        })
        .collect()
}
