//! The circuit simulator: the integer circuit with noise sampled where a real execution makes it.
//!
//! Values are integers plus noise, in units of the integer. A bootstrap's noise is sampled for each value it makes
//! and travels with it through the linear ops; keyswitch and modulus-switch noise is sampled per keyswitch. Tables
//! are read on the grid of the polynomial, exactly as a bootstrap reads them.
//!
//! Tables that read one keyswitched value share its modulus switch as far as their polynomials have one size: the
//! rounding to the finest grid is sampled at the keyswitch, what a coarser grid adds once for each size.

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
use crate::params::Variance;

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
    let tables =
        prepare(graph, |graph, value| Some(u64::from(graph.param(encryption(value).params).polynomial_size())));
    let noisy = Noisy { graph, tables, finest: finest_grids(graph), seed, first_row, saturated: Counters::of(graph) };
    let outputs = run(graph, &integer_constants(graph), &inputs, &noisy, |_, _, _| {});
    let mut saturated = noisy.saturated.counts();
    let outputs = decode_outputs(graph, outputs, |y, _| y, &mut saturated);
    Evaluation { outputs, saturated }
}

struct Noisy<'g> {
    graph: &'g Graph,
    tables: Vec<Option<Prepared<'g>>>,
    /// Per keyswitch in front of tables, the noise of the modulus switch to the finest of their grids.
    finest: Vec<Option<Variance>>,
    seed: u64,
    first_row: usize,
    saturated: Counters,
}

/// The least noise of a modulus switch among the tables that read each value.
fn finest_grids(graph: &Graph) -> Vec<Option<Variance>> {
    let mut finest: Vec<Option<Variance>> = vec![None; graph.values.len()];
    for value in &graph.values {
        if let Op::Pbs { x, .. } = &value.op {
            let switch = graph.param(encryption(value).params).modulus_switch_variance();
            let least = &mut finest[x.index()];
            *least = Some(least.map_or(switch, |v| if switch < v { switch } else { v }));
        }
    }
    finest
}

fn encryption(value: &Value) -> &Cipher {
    value.cipher.as_ref().expect("verified: values of a circuit are encrypted")
}

/// A source of noise: a value, or the rounding of a value to a grid of a size (its log2), 0 for the value itself.
#[derive(Clone, Copy)]
struct Source {
    id: Id<Value>,
    log2_grid: u32,
}

impl From<Id<Value>> for Source {
    fn from(id: Id<Value>) -> Self {
        Self { id, log2_grid: 0 }
    }
}

impl Noisy<'_> {
    /// Random numbers for one block of channels of one source and row: blocks are sampled in any order.
    fn random(&self, source: Source, row: usize, first_channel: usize) -> ChaCha8Rng {
        let source = source.id.index() as u64 | u64::from(source.log2_grid) << 32;
        let words = [self.seed, (self.first_row + row) as u64, source, first_channel as u64];
        let mut key = [0; 32];
        key.chunks_exact_mut(8).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        ChaCha8Rng::from_seed(key)
    }

    /// Adds noise of the standard deviation `sd`, one for all channels or one for each, after `f(channel, elements)`.
    fn then_noise(
        &self,
        at: At,
        source: impl Into<Source>,
        x: &mut ArrayD<f64>,
        sd: &[f64],
        f: impl Fn(usize, &mut [f64]) + Sync,
    ) {
        let source = source.into();
        let of_channel = x.shape().iter().skip(2).product::<usize>();
        for_each_block(x, at.split, |row, first, elements| {
            let mut random = self.random(source, at.first_row + row, first);
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

/// The greatest integer up to `x`, without the call into a library that older processors need for it. A float past the
/// range of i64 saturates; such noise is far beyond any circuit.
fn floor(x: f64) -> i64 {
    let towards_zero = x as i64;
    towards_zero.saturating_sub(i64::from(towards_zero as f64 > x))
}

/// Variance in squared integer units of the noise that `value` has beyond its operand's, per channel.
fn added_variance(value: &Value, operand: Option<&Value>) -> Vec<f64> {
    let own = encryption(value);
    let unit = 2.0 * own.span as f64;
    let variance =
        |c: &Cipher, at: usize| (2.0 * f64::from(c.log2_sd[if c.log2_sd.len() == 1 { 0 } else { at }])).exp2();
    let before = operand.map(encryption);
    let channels = own.log2_sd.len().max(before.map_or(1, |b| b.log2_sd.len()));
    (0..channels).map(|c| (variance(own, c) - before.map_or(0.0, |b| variance(b, c))).max(0.0) * unit * unit).collect()
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
            Op::Keyswitch { x: operand, .. } => {
                let added = added_variance(value, Some(self.graph.value(*operand)));
                let unit = 2.0 * encryption(value).span as f64;
                let switch = self.finest[id.index()].map_or(0.0, |v| (v.sd() * unit).powi(2));
                self.then_noise(at, id, &mut x, &sd(&added, switch), |_, _| {});
            }
            Op::Pbs { x: operand, .. } => {
                let params = self.graph.param(encryption(value).params);
                let finest = self.finest[operand.index()].map_or(0.0, |v| v.0);
                let coarser = params.modulus_switch_variance().0 - finest;
                if coarser > 0.0 {
                    let unit = 2.0 * encryption(self.graph.value(*operand)).span as f64;
                    let source = Source { id: *operand, log2_grid: params.log2_polynomial_size };
                    self.then_noise(at, source, &mut x, &[coarser.sqrt() * unit], |_, _| {});
                }
                let Prepared { reader, saturates, domain, table, box_of_slot } =
                    self.tables[id.index()].as_ref().expect("prepared");
                let slots = box_of_slot.len();
                let slots_per_unit = slots as f64 / reader.span as f64;
                let margin = reader.twice_margin() as f64 / 2.0;
                let half = f64::from(u8::from(reader.centred)) / 2.0;
                let width = reader.width as f64 - half;
                self.then_noise(at, id, &mut x, &sd(&added_variance(value, None), 0.0), |channel, plane| {
                    let row = table.row(channel);
                    let row = row.as_slice().expect("tables are row-major");
                    let (lo, ends) = (domain.channel(channel).lo as f64, row[0] + row[row.len() - 1]);
                    let mut outside = 0;
                    for e in plane {
                        let offset = *e - lo;
                        outside += u64::from(offset < -half || offset >= width);
                        let slot = floor((offset + margin) * slots_per_unit);
                        // The polynomial size is a power of two: this is the remainder.
                        let entry = row[box_of_slot[slot as usize & (slots - 1)] as usize];
                        let wrapped = slot & slots as i64 != 0;
                        *e = if wrapped { ends - entry } else { entry } as f64;
                    }
                    self.saturated.add(id, if *saturates { outside } else { 0 });
                });
            }
            other => unreachable!("verified: `{}` is not an element-wise op of a circuit", other.keyword()),
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::floor;

    #[test]
    fn floor_is_that_of_the_library() {
        let halves = (-40..40).map(|i| f64::from(i) * 0.5);
        let ends =
            [-1e30, -0.0, -1e-300, 1e-300, 1e15 + 0.5, -1e15 - 0.5, 1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        for x in halves.chain(ends) {
            assert_eq!(floor(x), x.floor() as i64, "{x}");
        }
    }
}
