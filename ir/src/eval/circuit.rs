//! The circuit simulator: the integer circuit with noise sampled where a real execution makes it.
//!
//! Values are integers plus noise, in units of the integer. A bootstrap's noise is sampled for each value it makes
//! and travels with it through the linear ops; keyswitch and modulus-switch noise is sampled per keyswitch. Tables
//! are read on the grid of the polynomial, exactly as a bootstrap reads them.

use ndarray::ArrayD;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::integer::{Counters, Prepared, decode_outputs, integer_constants, prepare};
use super::kernels::for_each_block;
use super::{At, Elementwise, Evaluation, run};
use crate::graph::{Cipher, Graph, Value};
use crate::id::Id;
use crate::op::Op;

/// Evaluates a circuit on `[rows, ...]` integers per input with sampled noise; the same seed gives the same result.
///
/// # Panics
/// When the graph is not of phase `circuit`.
pub fn simulate(graph: &Graph, inputs: &[ArrayD<i64>], seed: u64) -> Evaluation {
    simulate_from(graph, inputs, seed, 0)
}

/// As [`simulate`] for rows that are the part of a larger batch that begins with row `first_row`.
pub fn simulate_from(graph: &Graph, inputs: &[ArrayD<i64>], seed: u64, first_row: usize) -> Evaluation {
    let inputs: Vec<_> = inputs.iter().map(|x| x.mapv(|e| e as f64)).collect();
    let tables = prepare(graph, |graph, value| {
        let cipher = value.cipher.as_ref().expect("verified: values of a circuit are encrypted");
        Some(u64::from(graph.param(cipher.params).polynomial_size()))
    });
    let noisy = Noisy { graph, tables, seed, first_row, saturated: Counters::of(graph) };
    let outputs = run(graph, &integer_constants(graph), &inputs, &noisy, |_, _, _| {});
    let mut saturated = noisy.saturated.counts();
    let outputs = decode_outputs(graph, outputs, |y, _| y, &mut saturated);
    Evaluation { outputs, saturated }
}

struct Noisy<'g> {
    graph: &'g Graph,
    tables: Vec<Option<Prepared<'g>>>,
    seed: u64,
    first_row: usize,
    saturated: Counters,
}

impl Noisy<'_> {
    /// Source of the noise of one block of channels of one value and row: blocks are sampled in any order.
    fn random(&self, id: Id<Value>, row: usize, first_channel: usize) -> ChaCha8Rng {
        let words = [self.seed, (self.first_row + row) as u64, id.index() as u64, first_channel as u64];
        let mut key = [0; 32];
        key.chunks_exact_mut(8).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        ChaCha8Rng::from_seed(key)
    }

    /// Adds noise of the standard deviation `sd`, one for all channels or one for each, after `f(channel, elements)`.
    fn then_noise(&self, at: At, id: Id<Value>, x: &mut ArrayD<f64>, sd: &[f64], f: impl Fn(usize, &mut [f64]) + Sync) {
        let of_channel = x.shape().iter().skip(2).product::<usize>();
        for_each_block(x, at.split, |row, first, elements| {
            let mut random = self.random(id, at.first_row + row, first);
            for (channel, plane) in elements.chunks_mut(of_channel).enumerate().map(|(i, p)| (first + i, p)) {
                f(channel, plane);
                let sd = sd[if sd.len() == 1 { 0 } else { channel }];
                if sd > 0.0 {
                    for e in plane {
                        let noise: f64 = StandardNormal.sample(&mut random);
                        *e += noise * sd;
                    }
                }
            }
        });
    }
}

/// Variance in squared integer units of the noise that `value` has beyond its operand's, per channel.
fn added_variance(value: &Value, operand: Option<&Value>) -> Vec<f64> {
    let cipher = |v: &Value| -> Cipher { v.cipher.clone().expect("verified: values of a circuit are encrypted") };
    let own = cipher(value);
    let unit = 2.0 * own.span as f64;
    let variance =
        |c: &Cipher, at: usize| (2.0 * f64::from(c.log2_sd[if c.log2_sd.len() == 1 { 0 } else { at }])).exp2();
    let before = operand.map(cipher);
    let channels = own.log2_sd.len().max(before.as_ref().map_or(1, |b| b.log2_sd.len()));
    (0..channels)
        .map(|c| (variance(&own, c) - before.as_ref().map_or(0.0, |b| variance(b, c))).max(0.0) * unit * unit)
        .collect()
}

fn sd(variance: &[f64], more: f64) -> Vec<f64> {
    variance.iter().map(|v| (v + more).sqrt()).collect()
}

impl Elementwise<f64> for Noisy<'_> {
    fn input(&self, at: At, id: Id<Value>, mut x: ArrayD<f64>) -> ArrayD<f64> {
        let sd = sd(&added_variance(self.graph.value(id), None), 0.0);
        self.then_noise(at, id, &mut x, &sd, |_, _| {});
        x
    }

    fn apply(&self, at: At, id: Id<Value>, mut x: ArrayD<f64>) -> ArrayD<f64> {
        let value = self.graph.value(id);
        match &value.op {
            Op::Keyswitch { x: operand } => {
                let added = added_variance(value, Some(self.graph.value(*operand)));
                // The modulus switch is sampled here too: tables that share a keyswitch share its rounding.
                let cipher = value.cipher.as_ref().expect("verified: values of a circuit are encrypted");
                let params = self.graph.param(cipher.params);
                let switch = (params.modulus_switch_variance().sd() * 2.0 * cipher.span as f64).powi(2);
                self.then_noise(at, id, &mut x, &sd(&added, switch), |_, _| {});
            }
            Op::Pbs { .. } => {
                let Prepared { reader, domain, table, box_of_slot } =
                    self.tables[id.index()].as_ref().expect("prepared");
                let slots = box_of_slot.len();
                let slots_per_unit = slots as f64 / reader.span as f64;
                let margin = 0.5 + (reader.span - reader.width) as f64 / 2.0;
                let width = reader.width as f64 - 0.5;
                self.then_noise(at, id, &mut x, &sd(&added_variance(value, None), 0.0), |channel, plane| {
                    let row = table.row(channel);
                    let row = row.as_slice().expect("tables are row-major");
                    let (lo, ends) = (domain.channel(channel).lo as f64, row[0] + row[row.len() - 1]);
                    let mut outside = 0;
                    for e in plane {
                        let offset = *e - lo;
                        outside += u64::from(offset < -0.5 || offset >= width);
                        // A float past the range of i64 saturates in the cast; such noise is far beyond any circuit.
                        let slot = ((offset + margin) * slots_per_unit).floor() as i64;
                        // The polynomial size is a power of two: this is the remainder.
                        let entry = row[box_of_slot[slot as usize & (slots - 1)] as usize];
                        let wrapped = slot & slots as i64 != 0;
                        *e = if wrapped { ends - entry } else { entry } as f64;
                    }
                    self.saturated.add(id, outside);
                });
            }
            other => unreachable!("verified: `{}` is not an element-wise op of a circuit", other.keyword()),
        }
        x
    }
}
