//! Files of keys and ciphertexts: one header, raw little-endian words behind it.
//!
//! A header says kind, version, circuit, key, length and checksum. Lengths are computed from the circuit's keys and
//! compared before anything is allocated, so a damaged or hostile file costs no more memory than an honest
//! one. The checksum finds damage; it does not say who wrote the file.
//!
//! What is written replaces only an empty file or one of its own kind, and never a device or link.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fhe_ir::SecretKey;
use tfhe::core_crypto::commons::math::random::Seed;
use zeroize::Zeroizing;

use crate::circuit::{Binding, Circuit, Digest, KeyId};
use crate::encrypt::{EncryptedInputs, EncryptedOutputs, InputGroup};
use crate::error::Error;
use crate::keys::{EvaluationKeys, SecretKeys, SeededKey, bootstrap_words, keyswitch_words};
use crate::output::{self, Form};
use crate::tensor::Tensor;

const MAGIC: [u8; 8] = *b"fhe-run\0";
const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 + 4 + 32 + 16 + 8 + 32;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The client's secret key.
    SecretKey,
    /// The server's evaluation key.
    EvaluationKey,
    /// Encrypted inputs.
    Inputs,
    /// Encrypted outputs.
    Outputs,
}

impl Kind {
    const ALL: [Self; 4] = [Self::SecretKey, Self::EvaluationKey, Self::Inputs, Self::Outputs];

    /// The kind in words, with article.
    pub fn described(self) -> &'static str {
        match self {
            Self::SecretKey => "a secret key",
            Self::EvaluationKey => "an evaluation key",
            Self::Inputs => "an encrypted input",
            Self::Outputs => "an encrypted output",
        }
    }

    /// The kind of a file that begins with these bytes.
    pub(crate) fn of(front: &[u8]) -> Option<Self> {
        let tag = front.strip_prefix(&MAGIC)?.get(4..8)?;
        Self::ALL.into_iter().find(|kind| kind.tag().to_le_bytes() == tag)
    }

    fn tag(self) -> u32 {
        1 + Self::ALL.iter().position(|k| *k == self).expect("listed") as u32
    }
}

/// Writes a secret key, readable by its owner alone; an existing one is replaced only with `force`.
pub fn write_secret(path: &Path, keys: &SecretKeys, force: bool) -> Result<(), Error> {
    admit_secret(path, force)?;
    // Counted first: a vector that grows leaves copies behind.
    let mut payload = Zeroizing::new(Vec::with_capacity(keys.all_bits().count()));
    payload.extend(keys.all_bits().map(|bit| bit as u8));
    write(path, Kind::SecretKey, keys.binding(), &[&payload])
}

/// Refuses a path whose file one of the kind may not replace; to be asked before the work for it is done.
pub fn admit(path: &Path, kind: Kind) -> Result<(), Error> {
    output::admit(path, Form::Ours(kind))
}

/// Whether two paths lead to one file, which need not be there yet.
pub fn same_place(a: &Path, b: &Path) -> bool {
    output::same(a, b)
}

/// Refuses to replace a secret key without `force`; to be asked before the keys are made.
pub fn admit_secret(path: &Path, force: bool) -> Result<(), Error> {
    admit(path, Kind::SecretKey)?;
    if !force && path.exists() { Err(Error::SecretExists { path: path.into() }) } else { Ok(()) }
}

/// Reads a secret key of the circuit.
pub fn read_secret(path: &Path, circuit: &Circuit) -> Result<SecretKeys, Error> {
    let keys = &circuit.keys().secret;
    let bits = keys.iter().map(|key| u64::from(key.dimension())).sum::<u64>();
    let (binding, payload) = read(path, Kind::SecretKey, circuit, |len| len == bits)?;
    if payload.iter().any(|bit| *bit > 1) {
        return Err(Error::BadContents { path: path.into(), why: "a key bit is neither 0 nor 1".into() });
    }
    let words = |bits: &[u8]| Zeroizing::new(bits.iter().map(|b| u64::from(*b)).collect::<Vec<u64>>());
    let mut rest = payload.as_slice();
    let bits = |key: &SecretKey| {
        let (mine, others) = rest.split_at(key.dimension() as usize);
        rest = others;
        (*key, words(mine))
    };
    Ok(SecretKeys::from_bits(binding, keys.iter().map(bits).collect()))
}

/// Writes an evaluation key.
pub fn write_evaluation(path: &Path, keys: &EvaluationKeys) -> Result<(), Error> {
    let bootstrap = keys.bootstrap.iter().flat_map(|k| seeded_bytes(k.seed, &k.bodies));
    let keyswitch = keys.keyswitch.iter().flat_map(|k| seeded_bytes(k.seed, &k.bodies));
    let parts: Vec<Vec<u8>> = bootstrap.chain(keyswitch).collect();
    write(path, Kind::EvaluationKey, &keys.binding, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Reads an evaluation key of the circuit.
pub fn read_evaluation(path: &Path, circuit: &Circuit) -> Result<EvaluationKeys, Error> {
    let keys = circuit.keys();
    let wanted = EvaluationKeys::bytes(keys);
    let (binding, payload) = read(path, Kind::EvaluationKey, circuit, |len| len == wanted)?;
    let mut rest = payload.as_slice();
    let mut next = |words| {
        let (seed, bodies);
        (seed, bodies, rest) = seeded_of(rest, words);
        (seed, bodies)
    };
    let mut all = EvaluationKeys { binding, bootstrap: vec![], keyswitch: vec![] };
    for key in &keys.bootstrap {
        let (seed, bodies) = next(bootstrap_words(key));
        all.bootstrap.push(SeededKey { key: *key, seed, bodies });
    }
    for key in &keys.keyswitch {
        let (seed, bodies) = next(keyswitch_words(key));
        all.keyswitch.push(SeededKey { key: *key, seed, bodies });
    }
    Ok(all)
}

/// Writes encrypted inputs.
pub fn write_inputs(path: &Path, inputs: &EncryptedInputs) -> Result<(), Error> {
    let rows = (inputs.rows as u64).to_le_bytes();
    let groups: Vec<Vec<u8>> = inputs.groups.iter().flat_map(|g| seeded_bytes(g.seed, &g.bodies)).collect();
    let parts: Vec<&[u8]> = std::iter::once(rows.as_slice()).chain(groups.iter().map(Vec::as_slice)).collect();
    write(path, Kind::Inputs, &inputs.binding, &parts)
}

/// Reads encrypted inputs of the circuit.
pub fn read_inputs(path: &Path, circuit: &Circuit) -> Result<EncryptedInputs, Error> {
    let row = circuit.input_bytes();
    let keys = circuit.inputs_by_key();
    let front = 8 + 16 * keys.len();
    let whole_rows = |len: u64| len.checked_sub(front as u64).is_some_and(|l| l % row == 0);
    let (binding, payload) = read(path, Kind::Inputs, circuit, whole_rows)?;
    let rows = rows_of(path, &payload, front, row)?;
    let ids = circuit.graph().inputs();
    let mut rest = &payload[8..];
    let group = |(_, inputs): &(_, Vec<usize>)| {
        let elements = inputs.iter().map(|i| circuit.graph().value(ids[*i]).elements()).sum::<usize>();
        let (seed, bodies);
        (seed, bodies, rest) = seeded_of(rest, rows * elements);
        InputGroup { seed, bodies }
    };
    Ok(EncryptedInputs { binding, rows, groups: keys.iter().map(group).collect() })
}

/// Writes encrypted outputs.
pub fn write_outputs(path: &Path, outputs: &EncryptedOutputs) -> Result<(), Error> {
    let rows = (outputs.rows as u64).to_le_bytes();
    let tensors: Vec<Vec<u8>> = outputs.tensors.iter().map(|t| bytes_of(t.data())).collect();
    let parts: Vec<&[u8]> = std::iter::once(rows.as_slice()).chain(tensors.iter().map(Vec::as_slice)).collect();
    write(path, Kind::Outputs, &outputs.binding, &parts)
}

/// Reads encrypted outputs of the circuit.
pub fn read_outputs(path: &Path, circuit: &Circuit) -> Result<EncryptedOutputs, Error> {
    let row = circuit.output_bytes();
    let whole_rows = |len: u64| len.checked_sub(8).is_some_and(|l| l % row == 0);
    let (binding, payload) = read(path, Kind::Outputs, circuit, whole_rows)?;
    let rows = rows_of(path, &payload, 8, row)?;
    let mut rest = &payload[8..];
    let tensors = circuit
        .graph()
        .outputs
        .iter()
        .map(|output| {
            let value = circuit.graph().value(output.value);
            let words = circuit.words(value);
            let (mine, others) = rest.split_at(8 * rows * value.elements() * words);
            rest = others;
            Tensor::new(rows, value.shape.clone(), words, words_of(mine))
        })
        .collect();
    Ok(EncryptedOutputs { binding, rows, tensors })
}

fn rows_of(path: &Path, payload: &[u8], front: usize, row: u64) -> Result<usize, Error> {
    let there = (payload.len() - front) as u64 / row;
    let said = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
    if said != there {
        let why = format!("the file says {said} rows and holds {there}");
        return Err(Error::BadContents { path: path.into(), why });
    }
    Ok(there as usize)
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect()
}

/// A seed and the bodies that go with it, in two parts.
fn seeded_bytes(seed: Seed, bodies: &[u64]) -> [Vec<u8>; 2] {
    [seed.0.to_le_bytes().to_vec(), bytes_of(bodies)]
}

/// A seed, that many words, and the rest; the length was compared before.
fn seeded_of(bytes: &[u8], words: usize) -> (Seed, Vec<u64>, &[u8]) {
    let (seed, rest) = bytes.split_at(size_of::<u128>());
    let (mine, others) = rest.split_at(8 * words);
    (seed_of(seed), words_of(mine), others)
}

fn seed_of(bytes: &[u8]) -> Seed {
    Seed(u128::from_le_bytes(bytes.try_into().expect("sixteen bytes")))
}

/// Checksum of a header (without the checksum) and its payload.
fn checksum(header: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    hasher.finalize().into()
}

/// Writes a header and its payload.
fn write(path: &Path, kind: Kind, binding: &Binding, parts: &[&[u8]]) -> Result<(), Error> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(kind.tag().to_le_bytes());
    header.extend(binding.circuit.0);
    header.extend(binding.key.0);
    header.extend(parts.iter().map(|p| p.len() as u64).sum::<u64>().to_le_bytes());
    let sum = checksum(&header, parts);
    header.extend(sum);
    let all: Vec<&[u8]> = std::iter::once(header.as_slice()).chain(parts.iter().copied()).collect();
    output::write(path, Form::Ours(kind), &all)
}

fn read(
    path: &Path,
    wanted: Kind,
    circuit: &Circuit,
    fits: impl Fn(u64) -> bool,
) -> Result<(Binding, Zeroizing<Vec<u8>>), Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut header = [0; HEADER];
    if length < HEADER as u64 {
        return Err(Error::NotOurFile { path: path.into(), wanted });
    }
    file.read_exact(&mut header).map_err(Error::io(path))?;
    if header[..8] != MAGIC {
        return Err(Error::NotOurFile { path: path.into(), wanted });
    }
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if number(8) != VERSION {
        return Err(Error::WrongVersion { path: path.into(), got: number(8), wanted: VERSION });
    }
    match Kind::ALL.into_iter().find(|k| k.tag() == number(12)) {
        Some(got) if got == wanted => {}
        Some(got) => return Err(Error::WrongKind { path: path.into(), got, wanted }),
        None => return Err(Error::NotOurFile { path: path.into(), wanted }),
    }
    let binding = Binding {
        circuit: Digest(header[16..48].try_into().expect("32 bytes")),
        key: KeyId(header[48..64].try_into().expect("16 bytes")),
    };
    circuit.admit(&path.display().to_string(), &binding)?;
    let said = u64::from_le_bytes(header[64..72].try_into().expect("eight bytes"));
    let there = length - HEADER as u64;
    if said != there {
        return Err(Error::WrongLength { path: path.into(), got: length, wanted: said.saturating_add(HEADER as u64) });
    }
    if !fits(said) {
        let why = format!("{said} bytes are not {} of this circuit's parameters", wanted.described());
        return Err(Error::BadContents { path: path.into(), why });
    }
    let mut payload = Zeroizing::new(vec![0; there as usize]);
    file.read_exact(&mut payload).map_err(Error::io(path))?;
    if checksum(&header[..72], &[&payload]) != header[72..] {
        return Err(Error::Altered { path: path.into() });
    }
    Ok((binding, payload))
}
