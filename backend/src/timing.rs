//! Time of real executions against the time that a machine's cost model predicts.

use std::time::Instant;

use fhe_ir::cost::{Latency, Machine};
use fhe_ir::{Id, Op, Value};
use ndarray::{ArrayD, IxDyn};

use crate::circuit::Circuit;
use crate::clock::processor_time;
use crate::encrypt::encrypt;
use crate::error::Error;
use crate::execute::evaluate_observed;
use crate::keys::{Randomness, SecretKeys, ServerKeys};
use crate::progress::Progress;
use crate::tensor::Tensor;

/// Predicted and measured time of one execution on a batch of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Rows executed together.
    pub rows: usize,
    /// Threads at work.
    pub threads: usize,
    /// Executions measured; all times are medians over them.
    pub repetitions: usize,
    /// By the cost model, for as many threads.
    pub predicted: Latency,
    /// By the clock on the wall, which counts what other programs take away.
    pub wall: Latency,
    /// Processor time divided by the threads: what the clock would show if nobody else worked and all threads were busy.
    pub processor: Latency,
}

/// Encrypts arbitrary rows and executes the circuit on them, several times. Expansion of the inputs is not counted.
///
/// # Errors
/// When the circuit cannot be executed with these keys.
pub fn time(
    circuit: &Circuit,
    (secret, keys): (&SecretKeys, &ServerKeys),
    machine: &Machine,
    (rows, repetitions): (usize, usize),
    randomness: &mut Randomness,
    progress: Progress<'_>,
) -> Result<Timing, Error> {
    let graph = circuit.graph();
    let inputs: Vec<ArrayD<i64>> = graph.inputs().into_iter().map(|id| arbitrary(graph.value(id), rows)).collect();
    let encrypted = encrypt(circuit, secret, &inputs, randomness)?;
    let threads = rayon::current_num_threads();
    let mut samples = vec![];
    for _ in 0..repetitions {
        let (mut wall, mut processor) = (Latency::default(), Latency::default());
        let mut last = (Instant::now(), processor_time());
        evaluate_observed(circuit, keys, &encrypted, progress, &mut |id: Id<Value>, _: &Tensor| {
            let now = (Instant::now(), processor_time());
            let op = &graph.value(id).op;
            add(&mut wall, op, (now.0 - last.0).as_secs_f64() * 1e9);
            add(&mut processor, op, (now.1 - last.1).as_secs_f64() * 1e9 / threads as f64);
            // What is done between two ops (a value is freed) counts for the second.
            last = now;
        })?;
        samples.push((wall, processor));
    }
    Ok(Timing {
        rows,
        threads,
        repetitions,
        predicted: machine.cost.latency(graph, rows as u64, threads as u32),
        wall: median(samples.iter().map(|s| s.0)),
        processor: median(samples.iter().map(|s| s.1)),
    })
}

fn add(latency: &mut Latency, op: &Op, ns: f64) {
    match op {
        Op::Input { .. } => {}
        Op::Keyswitch { .. } => latency.keyswitch_ns += ns,
        Op::Pbs { .. } => latency.bootstrap_ns += ns,
        _ => latency.linear_ns += ns,
    }
}

/// Median of each part.
fn median(samples: impl Iterator<Item = Latency> + Clone) -> Latency {
    let of = |part: fn(&Latency) -> f64| {
        let mut values: Vec<f64> = samples.clone().map(|s| part(&s)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    Latency {
        linear_ns: of(|l| l.linear_ns),
        keyswitch_ns: of(|l| l.keyswitch_ns),
        bootstrap_ns: of(|l| l.bootstrap_ns),
    }
}

/// Integers within an input's range.
fn arbitrary(value: &Value, rows: usize) -> ArrayD<i64> {
    let mut shape = value.shape.clone();
    shape[0] = rows;
    let channels = value.shape.get(1).copied().unwrap_or(1);
    let after: usize = value.shape.iter().skip(2).product();
    let mut i = 0usize;
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
        let range = value.channel_interval(i / after.max(1) % channels.max(1));
        i += 1;
        let (lo, width) = range.map_or((0, 1), |r| (r.lo, r.width().max(1)));
        lo.wrapping_add_unsigned((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % width)
    })
}

impl Timing {
    /// The table: parts, their sum, and the ratio of prediction and measurement.
    pub fn table(&self, machine: &Machine) -> String {
        use std::fmt::Write as _;
        let Self { rows, threads, repetitions, .. } = self;
        let mut text = format!(
            "{rows} rows on {threads} threads, median of {repetitions} executions; predicted by {} ({} threads)\n\
             part  predicted-ms  processor-ms  wall-ms  predicted/processor  predicted/wall\n",
            machine.name, machine.threads
        );
        let mut part = |name: &str, part: fn(&Latency) -> f64| {
            let [predicted, processor, wall] = [&self.predicted, &self.processor, &self.wall].map(|l| part(l) * 1e-6);
            let (by_processor, by_wall) = (predicted / processor, predicted / wall);
            writeln!(text, "{name}  {predicted:.2}  {processor:.2}  {wall:.2}  {by_processor:.3}  {by_wall:.3}")
                .expect("a string can be written");
        };
        part("linear", |l| l.linear_ns);
        part("keyswitch", |l| l.keyswitch_ns);
        part("bootstrap", |l| l.bootstrap_ns);
        part("all", Latency::total_ns);
        let per_row = |l: &Latency| l.total_ns() * 1e-9 / *rows as f64;
        writeln!(text, "per row  predicted {:.4} s   measured {:.4} s", per_row(&self.predicted), per_row(&self.wall))
            .expect("a string can be written");
        text
    }
}
