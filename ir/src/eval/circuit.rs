//! The circuit simulator: the integer circuit with noise sampled where a real execution makes it.
//!
//! Values are integers plus noise, in units of the integer. A bootstrap's noise is sampled for each value it makes
//! and travels with it through the linear ops; keyswitch and modulus-switch noise is sampled per keyswitch. Tables
//! are read on the grid of the polynomial, exactly as a bootstrap reads them.

use ndarray::ArrayD;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::integer::{Prepared, decode_outputs, integer_constants, prepare, sum_counters};
use super::{Elementwise, Evaluation, kernels, run};
use crate::graph::{Cipher, Graph, Value};
use crate::id::Id;
use crate::op::Op;

/// Evaluates a circuit on `[rows, ...]` integers per input with sampled noise; the same seed gives the same result.
///
/// # Panics
/// When the graph is not of phase `circuit`.
pub fn simulate(graph: &Graph, inputs: &[ArrayD<i64>], seed: u64) -> Evaluation {
    let inputs: Vec<_> = inputs.iter().map(|x| x.mapv(|e| e as f64)).collect();
    let tables = prepare(graph, |graph, value| {
        let cipher = value.cipher.as_ref().expect("verified: values of a circuit are encrypted");
        Some(u64::from(graph.param(cipher.params).polynomial_size()))
    });
    let noisy = Noisy { graph, tables, seed };
    let (outputs, states) = run(graph, &integer_constants(graph), &inputs, &noisy, |_, _| {});
    let mut saturated = sum_counters(states.iter().map(|s| &s.saturated), graph.values.len());
    let outputs = decode_outputs(graph, outputs, |y, _| y, &mut saturated);
    Evaluation { outputs, saturated }
}

struct Noisy<'g> {
    graph: &'g Graph,
    tables: Vec<Option<Prepared<'g>>>,
    seed: u64,
}

struct State {
    rng: ChaCha8Rng,
    saturated: Vec<u64>,
}

/// Standard deviation in integer units of the noise that `value` has beyond its operand's, per channel.
fn added_sd(value: &Value, operand: Option<&Value>) -> Vec<f64> {
    let cipher = |v: &Value| -> Cipher { v.cipher.clone().expect("verified: values of a circuit are encrypted") };
    let own = cipher(value);
    let unit = 2.0 * own.span as f64;
    let variance =
        |c: &Cipher, at: usize| (2.0 * f64::from(c.log2_sd[if c.log2_sd.len() == 1 { 0 } else { at }])).exp2();
    let before = operand.map(cipher);
    let channels = own.log2_sd.len().max(before.as_ref().map_or(1, |b| b.log2_sd.len()));
    (0..channels)
        .map(|c| (variance(&own, c) - before.as_ref().map_or(0.0, |b| variance(b, c))).max(0.0).sqrt() * unit)
        .collect()
}

fn add_noise(rng: &mut ChaCha8Rng, x: &mut ArrayD<f64>, sd: &[f64]) {
    kernels::for_each_channel(x, |channel, e| {
        let noise: f64 = StandardNormal.sample(rng);
        *e += noise * sd[if sd.len() == 1 { 0 } else { channel }];
    });
}

impl Elementwise<f64> for Noisy<'_> {
    type State = State;

    fn start(&self, chunk: usize) -> State {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(chunk as u64);
        State { rng, saturated: vec![0; self.graph.values.len()] }
    }

    fn input(&self, state: &mut State, value: &Value, mut x: ArrayD<f64>) -> ArrayD<f64> {
        add_noise(&mut state.rng, &mut x, &added_sd(value, None));
        x
    }

    fn apply(&self, state: &mut State, id: Id<Value>, mut x: ArrayD<f64>) -> ArrayD<f64> {
        let value = self.graph.value(id);
        match &value.op {
            Op::Keyswitch { x: operand } => {
                let operand = self.graph.value(*operand);
                add_noise(&mut state.rng, &mut x, &added_sd(value, Some(operand)));
                // The modulus switch is sampled here too: tables that share a keyswitch share its rounding.
                let cipher = value.cipher.as_ref().expect("verified: values of a circuit are encrypted");
                let params = self.graph.param(cipher.params);
                let sd = params.modulus_switch_variance().sd() * 2.0 * cipher.span as f64;
                add_noise(&mut state.rng, &mut x, &[sd]);
            }
            Op::Pbs { .. } => {
                let Prepared { reader, domain, table, box_of_slot } =
                    self.tables[id.index()].as_ref().expect("prepared");
                let n = box_of_slot.len() as i64;
                let slots_per_unit = n as f64 / reader.span as f64;
                let margin = 0.5 + (reader.span - reader.width) as f64 / 2.0;
                let saturated = &mut state.saturated[id.index()];
                kernels::for_each_channel(&mut x, |channel, e| {
                    let row = table.row(channel);
                    let offset = *e - domain.channel(channel).lo as f64;
                    *saturated += u64::from(offset < -0.5 || offset >= reader.width as f64 - 0.5);
                    // A float past the range of i64 saturates in the cast; such noise is far beyond any circuit.
                    let slot = ((offset + margin) * slots_per_unit).floor() as i64;
                    let entry = row[box_of_slot[slot.rem_euclid(n) as usize] as usize];
                    let wrapped = slot.div_euclid(n).rem_euclid(2) == 1;
                    *e = if wrapped { row[0] + row[row.len() - 1] - entry } else { entry } as f64;
                });
                add_noise(&mut state.rng, &mut x, &added_sd(value, None));
            }
            other => unreachable!("verified: `{}` is not an element-wise op of a circuit", other.keyword()),
        }
        x
    }
}
