//! A circuit that is known to be executable, and what binds keys and ciphertexts to it.

use std::fmt;

use fhe_ir::verify::verify;
use fhe_ir::{Cipher, Graph, Op, ParamSet, Phase, Value};

use crate::error::Error;

/// Expanded evaluation keys are not larger than this: a circuit from elsewhere may ask for any size.
const MAX_KEY_BYTES: u64 = 1 << 37;

/// Digest of a circuit artifact.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// Random name of one set of keys, made at key generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 16]);

/// What keys and ciphertexts belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The circuit.
    pub circuit: Digest,
    /// The set of keys.
    pub key: KeyId,
}

impl Binding {
    /// Refuses something (named by `what`) that belongs to another circuit or key than this.
    pub fn admit(&self, what: &str, other: &Self) -> Result<(), Error> {
        self.circuit_admits(what, other.circuit)?;
        if other.key != self.key {
            return Err(Error::OtherKey { what: what.into(), got: other.key, wanted: self.key });
        }
        Ok(())
    }

    fn circuit_admits(&self, what: &str, other: Digest) -> Result<(), Error> {
        if other != self.circuit {
            return Err(Error::OtherCircuit { what: what.into(), got: other, wanted: self.circuit });
        }
        Ok(())
    }
}

/// A graph in the circuit phase that can be executed, with the digest of its artifact.
#[derive(Clone, Debug)]
pub struct Circuit {
    graph: Graph,
    digest: Digest,
}

impl Circuit {
    /// Checks a graph. After this, keys can be made for it and execution cannot fail on it.
    pub fn new(graph: Graph, digest: [u8; 32]) -> Result<Self, Error> {
        check(&graph)?;
        Ok(Self { graph, digest: Digest(digest) })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Digest of the artifact.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The parameter set.
    pub fn params(&self) -> &ParamSet {
        &self.graph.params[0]
    }

    /// How a value is encrypted.
    pub(crate) fn cipher<'a>(&self, value: &'a Value) -> &'a Cipher {
        value.cipher.as_ref().expect("checked: every value of a circuit has a cipher")
    }

    /// Number of input values of one row.
    pub fn input_elements(&self) -> usize {
        self.graph.inputs().iter().map(|&id| self.graph.value(id).elements()).sum()
    }

    /// Number of output values of one row.
    pub fn output_elements(&self) -> usize {
        self.graph.outputs.iter().map(|o| self.graph.value(o.value).elements()).sum()
    }

    /// Number of bootstraps of one row.
    pub fn lookups(&self) -> usize {
        self.graph.values.iter().filter(|v| matches!(v.op, Op::Pbs { .. })).map(Value::elements).sum()
    }

    /// Bytes of one row of inputs on disk (bodies; the masks come from one seed).
    pub fn input_bytes(&self) -> u64 {
        8 * self.input_elements() as u64
    }

    /// Bytes of one row of outputs on disk.
    pub fn output_bytes(&self) -> u64 {
        self.output_elements() as u64 * self.params().big_ciphertext_bytes()
    }

    /// Refuses something (named by `what`) made for another circuit.
    pub fn admit(&self, what: &str, binding: &Binding) -> Result<(), Error> {
        Binding { circuit: self.digest, key: binding.key }.circuit_admits(what, binding.circuit)
    }
}

fn check(graph: &Graph) -> Result<(), Error> {
    let whole = |why: String| Error::NotExecutable { what: format!("graph {}", graph.name), why };
    if graph.phase != Phase::Circuit {
        return Err(whole(format!("it is in phase {}, not circuit", graph.phase)));
    }
    verify(graph).map_err(|e| Error::NotExecutable { what: e.place, why: e.message })?;
    let [params] = graph.params.as_slice() else {
        return Err(whole(format!("it has {} parameter sets, one is supported", graph.params.len())));
    };
    if [params.pbs, params.ks].iter().any(|d| d.base_log * d.level >= 64) {
        return Err(whole(format!("a decomposition of !p0 ({params}) keeps all 64 bits")));
    }
    let mut keyswitches =
        graph.values.iter().filter_map(|v| if let Op::Keyswitch { ks, .. } = v.op { Some(ks) } else { None });
    if let Some(ks) = keyswitches.find(|ks| *ks != params.ks) {
        return Err(whole(format!("a keyswitch decomposes into {ks}, its set !p0 ({params}) into {}", params.ks)));
    }
    let key_bytes = params.bootstrap_key_bytes() + params.keyswitch_key_bytes();
    if key_bytes > MAX_KEY_BYTES {
        return Err(whole(format!("the keys of !p0 ({params}) have {key_bytes} bytes, the limit is {MAX_KEY_BYTES}")));
    }
    Ok(())
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..8], f)
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..8], f)
    }
}
impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}
