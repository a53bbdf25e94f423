//! The server's work: evaluates a circuit on encrypted rows.
//!
//! Values are computed in the graph's order, each for a batch of rows; a value is freed after its last use.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use fhe_ir::stats::peak_ciphertext_bytes;
use fhe_ir::{Id, Op, Value};

use crate::circuit::Circuit;
use crate::encode::Lookup;
use crate::encrypt::{EncryptedInputs, EncryptedOutputs};
use crate::error::Error;
use crate::keys::ServerKeys;
use crate::linear;
use crate::progress::{Progress, Step};
use crate::tensor::Tensor;

/// Sees every value once it is computed.
pub type Observer<'a> = &'a mut dyn FnMut(Id<Value>, &Tensor);

/// Rows are evaluated in batches whose ciphertexts fit this many bytes; one row alone may need more.
const BATCH_BYTES: u64 = 4 << 30;

/// A row that needs more than this is refused before any work, whoever made the circuit.
const MAX_ROW_BYTES: u64 = 256 << 30;

/// Evaluates the circuit on all rows. The same ciphertexts give the same result, bit for bit.
pub fn evaluate(
    circuit: &Circuit,
    keys: &ServerKeys,
    inputs: &EncryptedInputs,
    progress: Progress<'_>,
) -> Result<EncryptedOutputs, Error> {
    let batch = (BATCH_BYTES / peak_ciphertext_bytes(circuit.graph()).max(1)).max(1) as usize;
    run(circuit, keys, inputs, batch, progress, &mut |_, _| {})
}

/// [`evaluate`] with all rows in one batch, showing every value to `observer`.
pub fn evaluate_observed(
    circuit: &Circuit,
    keys: &ServerKeys,
    inputs: &EncryptedInputs,
    progress: Progress<'_>,
    observer: Observer<'_>,
) -> Result<EncryptedOutputs, Error> {
    run(circuit, keys, inputs, inputs.rows.max(1), progress, observer)
}

fn run(
    circuit: &Circuit,
    keys: &ServerKeys,
    inputs: &EncryptedInputs,
    batch: usize,
    progress: Progress<'_>,
    observer: Observer<'_>,
) -> Result<EncryptedOutputs, Error> {
    let needed = peak_ciphertext_bytes(circuit.graph()).saturating_add(largest_lookup_bytes(circuit));
    if needed > MAX_ROW_BYTES {
        return Err(Error::TooMuchMemory { needed, limit: MAX_ROW_BYTES });
    }
    circuit.admit("the evaluation key", keys.binding())?;
    keys.binding().admit("the ciphertext", &inputs.binding)?;
    keys.admit(circuit.keys())?;
    let total = (circuit.lookups() * inputs.rows) as u64;
    let count = AtomicU64::new(0);
    let report = |more: usize| {
        let done = count.fetch_add(more as u64, Ordering::Relaxed) + more as u64;
        progress(Step { what: "lookups", done, total });
    };
    report(0);
    let mut parts: Vec<Vec<Tensor>> = vec![vec![]; circuit.graph().outputs.len()];
    let mut start = 0;
    while start < inputs.rows {
        let rows = start..inputs.rows.min(start + batch);
        start = rows.end;
        let outputs = evaluate_rows(circuit, keys, inputs, rows, &report, observer)?;
        parts.iter_mut().zip(outputs).for_each(|(parts, tensor)| parts.push(tensor));
    }
    let tensors = parts
        .into_iter()
        .zip(&circuit.graph().outputs)
        .map(|(mut parts, output)| {
            if parts.len() == 1 {
                return parts.remove(0);
            }
            let value = circuit.graph().value(output.value);
            Tensor::new(
                inputs.rows,
                value.shape.clone(),
                circuit.words(value),
                parts.iter().flat_map(|p| p.data()).copied().collect(),
            )
        })
        .collect();
    Ok(EncryptedOutputs { binding: inputs.binding, rows: inputs.rows, tensors })
}

fn evaluate_rows(
    circuit: &Circuit,
    keys: &ServerKeys,
    inputs: &EncryptedInputs,
    rows: Range<usize>,
    report: &(dyn Fn(usize) + Sync),
    observer: Observer<'_>,
) -> Result<Vec<Tensor>, Error> {
    let graph = circuit.graph();
    let last_use = last_uses(circuit);
    let mut fresh = inputs.expand(circuit, rows).into_iter();
    let mut alive: Vec<Option<Tensor>> = vec![None; graph.values.len()];
    for (id, value) in graph.iter() {
        // At its last use a value is moved, so that element-wise ops work in place.
        let operands: Vec<Tensor> = value
            .op
            .operands()
            .into_iter()
            .map(|o| {
                let slot = &mut alive[o.index()];
                let last = last_use[o.index()] == Some(id.index());
                // `add %x, %x` reads one value twice: only the copy taken second may be the last.
                let twice = value.op.operands().iter().filter(|p| **p == o).count() > 1;
                if last && !twice { slot.take() } else { slot.clone() }.expect("operands come first and are kept")
            })
            .collect();
        let tensor = match &value.op {
            Op::Input { .. } => fresh.next().expect("one tensor per input"),
            Op::Keyswitch { .. } => {
                let key = circuit.keyswitch_key(value).expect("a keyswitch");
                keys.keyswitch(&key, &operands[0], &|_| {})?
            }
            Op::Pbs { .. } => {
                let key = circuit.bootstrap_key(value).expect("a pbs");
                let lookup = Lookup::new(graph, value).expect("checked: a pbs with ciphers");
                keys.bootstrap(&key, &operands[0], &lookup, report)?
            }
            _ => linear::apply(graph, value, operands, circuit.cipher(value).delta())
                .expect("checked: the other ops of a circuit are linear"),
        };
        observer(id, &tensor);
        alive[id.index()] = Some(tensor);
        for o in value.op.operands() {
            if last_use[o.index()] == Some(id.index()) {
                alive[o.index()] = None;
            }
        }
        if last_use[id.index()].is_none() {
            alive[id.index()] = None;
        }
    }
    Ok(graph.outputs.iter().map(|o| alive[o.value.index()].clone().expect("outputs are kept")).collect())
}

/// Number of the value that reads each value last; `usize::MAX` for outputs, `None` when nobody does.
fn last_uses(circuit: &Circuit) -> Vec<Option<usize>> {
    let graph = circuit.graph();
    let mut last = vec![None; graph.values.len()];
    for (id, value) in graph.iter() {
        value.op.operands().iter().for_each(|o| last[o.index()] = Some(id.index()));
    }
    graph.outputs.iter().for_each(|o| last[o.value.index()] = Some(usize::MAX));
    last
}

/// Bytes of the polynomials of the largest table: one per row of the table.
fn largest_lookup_bytes(circuit: &Circuit) -> u64 {
    let graph = circuit.graph();
    let bytes = |v: &Value| {
        let polynomial = 8 * u64::from(graph.param(circuit.cipher(v).params).polynomial_size());
        Some(graph.table(v.op.table()?).entries.nrows() as u64 * polynomial)
    };
    graph.values.iter().filter_map(bytes).max().unwrap_or(0)
}
