//! Integers on the torus: messages, test polynomials, decryption.
//!
//! An integer `x` is encrypted as `x·Δ`. In front of a table `Δ·(½ − lo + (span − width)/2)` is added in clear, so that
//! the channel's domain `[lo, lo + width)` sits in the middle of the half torus `[0, ½)` and integers sit in the middle
//! of their units (the first ½ is left out for reads whose integers are not centred). All halves exist, because Δ is even.

use fhe_ir::{Domain, Graph, Op, Output, Reader, Value};

/// A table ready for blind rotation.
pub struct Lookup {
    /// Test polynomial per table row: coefficient `j` is what the phases around `(j + ½)/2N` read, minus the centre.
    polynomials: Vec<Vec<u64>>,
    /// Per table row, the middle of its first and last entry: added in clear after the rotation (saturating tables).
    centres: Vec<u64>,
    /// Added in clear before the modulus switch: one for all channels, or one per channel.
    shifts: Vec<u64>,
}

impl Lookup {
    /// The table of a `pbs`, whose operand has torus step `delta` and `span`; `None` for other ops.
    pub fn new(graph: &Graph, value: &Value) -> Option<Self> {
        let Op::Pbs { x, table, domain, read, .. } = &value.op else { return None };
        let operand = graph.value(*x).cipher.as_ref()?;
        let cipher = value.cipher.as_ref()?;
        let n = u64::from(graph.param(cipher.params).polynomial_size());
        let table = graph.table(*table);
        let (width, boxes) = (domain.width, table.boxes() as u64);
        let reader = Reader { width, boxes, span: operand.span, centred: read.is_centred() };
        let boxes: Vec<usize> = (0..n).map(|slot| reader.box_of_slot(slot, n)).collect();
        let half = cipher.delta() / 2;
        let torus = |halves: i64| half.wrapping_mul(halves as u64);
        let rows = || table.entries.rows().into_iter();
        let ends = |row: ndarray::ArrayView1<'_, i64>| row[0].wrapping_add(row[row.len() - 1]);
        Some(Self {
            polynomials: rows()
                .map(|row| {
                    let twice: Vec<u64> =
                        row.iter().map(|e| torus(e.wrapping_mul(2).wrapping_sub(ends(row)))).collect();
                    boxes.iter().map(|&b| twice[b]).collect()
                })
                .collect(),
            centres: rows().map(|row| torus(ends(row))).collect(),
            shifts: domain.lo.iter().map(|&lo| shift(operand.delta(), lo, reader)).collect(),
        })
    }

    /// One table of arbitrary entries for all channels.
    pub(crate) fn for_timing(polynomial_size: usize) -> Self {
        let polynomial = (0..polynomial_size as u64).map(|slot| slot << 48).collect();
        Self { polynomials: vec![polynomial], centres: vec![0], shifts: vec![0] }
    }

    /// The test polynomial of a channel.
    pub fn polynomial(&self, channel: usize) -> &[u64] {
        &self.polynomials[at(self.polynomials.len(), channel)]
    }

    /// What is added to a channel's bodies after the rotation.
    pub fn centre(&self, channel: usize) -> u64 {
        self.centres[at(self.centres.len(), channel)]
    }

    /// What is added to a channel's bodies before the modulus switch.
    pub fn shift(&self, channel: usize) -> u64 {
        self.shifts[at(self.shifts.len(), channel)]
    }
}

fn at(len: usize, channel: usize) -> usize {
    if len == 1 { 0 } else { channel }
}

/// `Δ·(margin − lo)` on the torus.
fn shift(delta: u64, lo: i64, reader: Reader) -> u64 {
    let halves = reader.twice_margin().wrapping_sub((lo as u64).wrapping_mul(2));
    (delta / 2).wrapping_mul(halves)
}

/// The integer that the reader of an output takes from a phase: the middle of the box it falls in. Phases outside the
/// domain read its nearer end, up to half a turn away from its middle.
pub fn decode(output: &Output, delta: u64, channel: usize, phase: u64) -> i64 {
    let (read, domain): (_, &Domain) =
        (output.read.expect("checked: outputs have a read"), output.domain.as_ref().expect("checked: and a domain"));
    let lo = domain.channel(channel).lo;
    let (width, boxes) = (domain.width, read.boxes(domain.width));
    // Distance from the middle of the domain: the domain is [−Δ·width/2, Δ·width/2).
    let centred = phase.wrapping_add((delta / 2).wrapping_mul(1u64.wrapping_sub(width).wrapping_sub((lo as u64) << 1)));
    let (w, d, b) = (i128::from(width), i128::from(delta), i128::from(boxes));
    let position = 2 * i128::from(centred as i64) + w * d;
    let index = (position * b).div_euclid(2 * w * d).clamp(0, b - 1) as u64;
    lo + Reader { width, boxes, span: width, centred: read.is_centred() }.centre(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fhe_ir::{Id, Read};

    fn output(read: Read, lo: i64, width: u64) -> Output {
        Output {
            value: Id::new(0),
            name: "y".into(),
            bias: None,
            read: Some(read),
            domain: Some(Domain { lo: vec![lo], width }),
            log2_bound: None,
            log2_fail: None,
            post: vec![],
        }
    }

    #[test]
    fn decoding_takes_the_nearest_integer_and_saturates() {
        let span = 37;
        let delta = fhe_ir::graph::delta_of_span(span);
        let output = output(Read::Exact, -9, 20);
        for x in -9..11i64 {
            for noise in [-0.49, 0.0, 0.49] {
                let phase = delta.wrapping_mul(x as u64).wrapping_add((delta as f64 * noise) as i64 as u64);
                assert_eq!(decode(&output, delta, 0, phase), x);
            }
        }
        for (x, end) in [(-10, -9), (-20, -9), (11, 10), (25, 10)] {
            assert_eq!(decode(&output, delta, 0, delta.wrapping_mul(x as u64)), end);
        }
    }

    #[test]
    fn coarse_reads_give_the_middle_of_the_box() {
        let delta = fhe_ir::graph::delta_of_span(256);
        let output = output(Read::Approximate(4), -128, 256);
        for x in -128..128i64 {
            let got = decode(&output, delta, 0, delta.wrapping_mul(x as u64));
            assert_eq!(got, (x + 128) / 16 * 16 + 8 - 128);
        }
    }
}
