//! Noise of a real execution against the noise that the circuit predicts.
//!
//! With the secret key every value is decrypted on the way and compared with the integer it should hold. Which integer
//! that is follows the execution: a table read in a neighbouring box by a noisy phase hands on that box's entry, which
//! is a different message and not noise.

use std::collections::HashMap;

use fhe_ir::{Id, Key, Op, Reader, Value};
use ndarray::ArrayD;

use crate::bootstrap::Switched;
use crate::circuit::Circuit;
use crate::encode::Lookup;
use crate::encrypt::{EncryptedOutputs, encrypt, phases};
use crate::error::Error;
use crate::execute::evaluate_observed;
use crate::keys::{Randomness, SecretKeys, ServerKeys};
use crate::linear;
use crate::progress::Progress;
use crate::tensor::Tensor;

/// Noise of one value over all rows and elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The value.
    pub value: Id<Value>,
    /// Elements measured: those that are not trivial encryptions.
    pub count: u64,
    /// log2 of the standard deviation predicted (of the mean variance, where channels differ).
    pub predicted_log2_sd: f64,
    /// log2 of the standard deviation measured.
    pub measured_log2_sd: f64,
    /// Measured over predicted variance: the mean of the squared errors, each in units of its channel's prediction.
    pub variance_ratio: f64,
    /// Mean of the errors, in units of the predicted standard deviation.
    pub mean: f64,
    /// Greatest error, in units of the predicted standard deviation.
    pub worst: f64,
    /// Elements of a `pbs` that read another entry than without noise.
    pub misread: u64,
    /// For a `pbs`, the variance of what it reads: of the distance between the middle of the slot and the message.
    pub read_variance: Option<f64>,
}

/// Encrypts rows, evaluates the circuit on them and measures every value.
pub fn measure(
    circuit: &Circuit,
    secret: &SecretKeys,
    keys: &ServerKeys,
    inputs: &[ArrayD<i64>],
    randomness: &mut Randomness,
    progress: Progress<'_>,
) -> Result<(Vec<Measurement>, EncryptedOutputs), Error> {
    let encrypted = encrypt(circuit, secret, inputs, randomness)?;
    let mut observed = Observed { circuit, secret, inputs, integers: vec![], small: HashMap::new(), taken: 0 };
    let mut measurements = vec![];
    let outputs = evaluate_observed(circuit, keys, &encrypted, progress, &mut |id, tensor| {
        measurements.push(observed.value(id, tensor));
    })?;
    Ok((measurements.into_iter().collect::<Result<_, _>>()?, outputs))
}

struct Observed<'a> {
    circuit: &'a Circuit,
    secret: &'a SecretKeys,
    inputs: &'a [ArrayD<i64>],
    /// What each value holds: tensors of one word per element.
    integers: Vec<Tensor>,
    /// Keyswitched values, which the tables after them are going to read.
    small: HashMap<usize, Tensor>,
    /// Number of inputs seen.
    taken: usize,
}

impl Observed<'_> {
    fn value(&mut self, id: Id<Value>, tensor: &Tensor) -> Result<Measurement, Error> {
        let value = self.circuit.graph().value(id);
        let cipher = self.circuit.cipher(value);
        let (mut misread, mut read_variance) = (0, None);
        let integers = match &value.op {
            Op::Input { .. } => {
                let words = self.inputs[self.taken].iter().map(|&m| m as u64).collect();
                self.taken += 1;
                Tensor::new(tensor.rows, tensor.shape.clone(), 1, words)
            }
            Op::Keyswitch { x, .. } => {
                if cipher.key == Key::Small {
                    self.small.insert(id.index(), tensor.clone());
                }
                self.integers[x.index()].clone()
            }
            Op::Pbs { x, .. } => {
                let reads = self.read(value, *x)?;
                (misread, read_variance) = (reads.misread, Some(reads.variance));
                reads.entries
            }
            op => {
                let operands = op.operands().iter().map(|o| self.integers[o.index()].clone()).collect();
                linear::apply(self.circuit.graph(), value, operands, 1).expect("checked: linear")
            }
        };
        let key = self.secret.lwe(self.circuit.key_of(value))?;
        let delta = cipher.delta();
        let mut sums = Sums::default();
        for (i, (phase, integer)) in phases(&key, tensor).into_iter().zip(integers.data()).enumerate() {
            let channel = tensor.channel(i);
            let log2_sd = f64::from(cipher.log2_sd[if cipher.log2_sd.len() == 1 { 0 } else { channel }]);
            let error = phase.wrapping_sub(delta.wrapping_mul(*integer)) as i64 as f64 / 2f64.powi(64);
            sums.add(error, log2_sd.exp2());
        }
        self.integers.push(integers);
        Ok(Measurement { misread, read_variance, ..sums.finish(id) })
    }

    fn read(&self, value: &Value, x: Id<Value>) -> Result<Reads, Error> {
        let graph = self.circuit.graph();
        let Op::Pbs { table, domain, read, .. } = &value.op else { unreachable!("called on a pbs") };
        let table = graph.table(*table);
        let lookup = Lookup::new(graph, value).expect("checked: a pbs with ciphers");
        let span = self.circuit.cipher(graph.value(x)).span;
        let (width, boxes) = (domain.width, table.boxes() as u64);
        let reader = Reader { width, boxes, span, centred: read.is_centred() };
        let n = graph.param(self.circuit.cipher(value).params).polynomial_size();
        let small = &self.small[&x.index()];
        let key = self.secret.lwe(self.circuit.key_of(graph.value(x)))?;
        let half_slot = 1u64 << (62 - n.ilog2());
        let delta = self.circuit.cipher(graph.value(x)).delta();
        let (mut misread, mut squares) = (0, 0.0);
        let words = (0..small.len())
            .map(|i| {
                let channel = small.channel(i);
                let row = table.row(channel).to_vec();
                let slot = Switched::new(small.ciphertext(i), lookup.shift(channel), n as usize).slot(key.as_ref());
                let entry = reader.read_slot(&row, slot as i64, u64::from(n));
                let message =
                    self.integers[x.index()].data()[i].wrapping_mul(delta).wrapping_add(lookup.shift(channel));
                let middle = (2 * slot as u64 + 1).wrapping_mul(half_slot);
                squares += (middle.wrapping_sub(message) as i64 as f64 / 2f64.powi(64)).powi(2);
                let offset = (self.integers[x.index()].data()[i] as i64) - domain.channel(channel).lo;
                misread += u64::from(entry != reader.read(&row, offset));
                entry as u64
            })
            .collect();
        let variance = squares / small.len().max(1) as f64;
        Ok(Reads { entries: Tensor::new(small.rows, small.shape.clone(), 1, words), misread, variance })
    }
}

/// What a table did.
struct Reads {
    /// Entries that it really read.
    entries: Tensor,
    /// How many of them are not those of the noiseless phase.
    misread: u64,
    /// Mean squared distance between the middle of the slot and the message.
    variance: f64,
}

#[derive(Default)]
struct Sums {
    count: u64,
    predicted: f64,
    measured: f64,
    ratio: f64,
    mean: f64,
    worst: f64,
}

impl Sums {
    fn add(&mut self, error: f64, sd: f64) {
        if sd > 0.0 {
            self.count += 1;
            self.predicted += sd * sd;
            self.measured += error * error;
            self.ratio += (error / sd).powi(2);
            self.mean += error / sd;
            self.worst = self.worst.max((error / sd).abs());
        }
    }

    fn finish(self, value: Id<Value>) -> Measurement {
        let n = self.count as f64;
        Measurement {
            value,
            count: self.count,
            predicted_log2_sd: 0.5 * (self.predicted / n).log2(),
            measured_log2_sd: 0.5 * (self.measured / n).log2(),
            variance_ratio: self.ratio / n,
            mean: self.mean / n,
            worst: self.worst,
            misread: 0,
            read_variance: None,
        }
    }
}
