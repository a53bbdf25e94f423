//! What the client does: encryption of inputs, decryption of outputs.
//!
//! Inputs travel as coefficients of GLWE ciphertexts whose masks grow from one seed: eight bytes per value. The server
//! extracts one LWE ciphertext per value, under the big key that the input is under, without noise and without a key.

use fhe_ir::Value;
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;

use crate::circuit::{Binding, Circuit};
use crate::encode;
use crate::error::Error;
use crate::keys::{Randomness, SecretKeys, gaussian, glwe_sizes, native};
use crate::tensor::Tensor;

/// All inputs of some rows, encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct EncryptedInputs {
    pub(crate) binding: Binding,
    pub(crate) rows: usize,
    /// One for each key that inputs are under, in the order of their first input.
    pub(crate) groups: Vec<InputGroup>,
}

/// The inputs under one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputGroup {
    pub(crate) seed: Seed,
    /// One word per value: row by row, in a row the inputs in order.
    pub(crate) bodies: Vec<u64>,
}

impl EncryptedInputs {
    /// Circuit and key.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One LWE tensor per input, of the rows asked for.
    pub(crate) fn expand(&self, circuit: &Circuit, rows: std::ops::Range<usize>) -> Vec<Tensor> {
        let graph = circuit.graph();
        let values: Vec<&Value> = graph.inputs().into_iter().map(|id| graph.value(id)).collect();
        let mut tensors: Vec<Option<Tensor>> = vec![None; values.len()];
        for ((key, inputs), group) in circuit.inputs_by_key().into_iter().zip(&self.groups) {
            let (glwe, polynomial) = glwe_sizes(key);
            let n = polynomial.0;
            let per_row: usize = inputs.iter().map(|i| values[*i].elements()).sum();
            let mut padded = group.bodies.clone();
            padded.resize(group.bodies.len().next_multiple_of(n), 0);
            let glwes = SeededGlweCiphertextList::from_container(padded, glwe, polynomial, group.seed.into(), native())
                .decompress_into_glwe_ciphertext_list();
            let mut first = 0;
            for input in inputs {
                let value = values[input];
                let (elements, words) = (value.elements(), circuit.words(value));
                let mut tensor = Tensor::zero(rows.len(), value.shape.clone(), words);
                tensor.data_mut().par_chunks_exact_mut(words).enumerate().for_each(|(i, words)| {
                    let at = (rows.start + i / elements) * per_row + first + i % elements;
                    let mut lwe = LweCiphertext::from_container(words, native());
                    extract_lwe_sample_from_glwe_ciphertext(&glwes.get(at / n), &mut lwe, MonomialDegree(at % n));
                });
                first += elements;
                tensors[input] = Some(tensor);
            }
        }
        tensors.into_iter().map(|t| t.expect("every input is under one of the keys")).collect()
    }
}

/// All outputs of some rows, encrypted: one tensor per output, in the order of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct EncryptedOutputs {
    pub(crate) binding: Binding,
    pub(crate) rows: usize,
    pub(crate) tensors: Vec<Tensor>,
}

impl EncryptedOutputs {
    /// Circuit and key.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The ciphertexts, one tensor per output.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}

/// Encrypts integers: one array `[rows, …]` per input, in order.
pub fn encrypt(
    circuit: &Circuit,
    keys: &SecretKeys,
    inputs: &[ArrayD<i64>],
    randomness: &mut Randomness,
) -> Result<EncryptedInputs, Error> {
    circuit.admit("the secret key", keys.binding())?;
    let values: Vec<&Value> = circuit.graph().inputs().into_iter().map(|id| circuit.graph().value(id)).collect();
    if inputs.len() != values.len() {
        return Err(Error::WrongInputs { got: inputs.len(), wanted: values.len() });
    }
    let rows = inputs.first().and_then(|x| x.shape().first().copied()).unwrap_or(0);
    for (index, (x, value)) in inputs.iter().zip(&values).enumerate() {
        let mut wanted = value.shape.clone();
        wanted[0] = rows;
        if x.shape() != wanted {
            return Err(Error::WrongShape { index, got: x.shape().to_vec(), wanted });
        }
        check_range(index, x, value)?;
    }
    let seeder = randomness.seeder();
    let mut groups = vec![];
    for (key, indices) in circuit.inputs_by_key() {
        let mut messages = vec![];
        for row in 0..rows {
            for &i in &indices {
                let delta = circuit.cipher(values[i]).delta();
                let row = inputs[i].index_axis(ndarray::Axis(0), row);
                messages.extend(row.iter().map(|&m| delta.wrapping_mul(m as u64)));
            }
        }
        let (glwe, polynomial) = glwe_sizes(key);
        let len = messages.len();
        messages.resize(len.next_multiple_of(polynomial.0), 0);
        let seed = seeder.seed();
        let count = GlweCiphertextCount(messages.len() / polynomial.0);
        let mut list = SeededGlweCiphertextList::new(0u64, glwe, polynomial, count, seed.into(), native());
        encrypt_seeded_glwe_ciphertext_list(
            &keys.glwe(key)?,
            &mut list,
            &PlaintextList::from_container(messages.as_slice()),
            gaussian(circuit.fresh_variance(key)),
            seeder,
        );
        let mut bodies = list.into_container();
        bodies.truncate(len);
        groups.push(InputGroup { seed, bodies });
    }
    Ok(EncryptedInputs { binding: *keys.binding(), rows, groups })
}

fn check_range(index: usize, x: &ArrayD<i64>, value: &Value) -> Result<(), Error> {
    let (elements, after): (usize, usize) = (value.elements(), value.shape.iter().skip(2).product());
    for (i, &got) in x.iter().enumerate() {
        let channel = i % elements / after;
        if let Some(range) = value.channel_interval(channel).filter(|r| !r.contains(got)) {
            let row = i / elements;
            return Err(Error::InputOutside { index, row, channel, got, lo: range.lo, hi: range.hi });
        }
    }
    Ok(())
}

/// Decrypts outputs: one array `[rows, …]` of the integers that each output's reader takes.
pub fn decrypt(circuit: &Circuit, keys: &SecretKeys, outputs: &EncryptedOutputs) -> Result<Vec<ArrayD<i64>>, Error> {
    circuit.admit("the secret key", keys.binding())?;
    keys.binding().admit("the ciphertext", &outputs.binding)?;
    let graph = circuit.graph();
    outputs
        .tensors
        .iter()
        .zip(&graph.outputs)
        .map(|(tensor, output)| {
            let value = graph.value(output.value);
            let delta = circuit.cipher(value).delta();
            let integers: Vec<i64> = phases(&keys.lwe(circuit.key_of(value))?, tensor)
                .into_iter()
                .enumerate()
                .map(|(i, phase)| encode::decode(output, delta, tensor.channel(i), phase))
                .collect();
            let mut shape = tensor.shape.clone();
            shape[0] = tensor.rows;
            Ok(ArrayD::from_shape_vec(IxDyn(&shape), integers).expect("one integer per ciphertext"))
        })
        .collect()
}

/// Phases `b − ⟨a, s⟩` of all ciphertexts of a tensor.
pub(crate) fn phases(key: &LweSecretKey<&[u64]>, tensor: &Tensor) -> Vec<u64> {
    tensor
        .data()
        .par_chunks_exact(tensor.words)
        .map(|words| decrypt_lwe_ciphertext(key, &LweCiphertext::from_container(words, native())).0)
        .collect()
}
