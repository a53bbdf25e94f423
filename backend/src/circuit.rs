//! A circuit that is known to be executable, and what binds keys and ciphertexts to it.

use std::fmt;

use fhe_ir::verify::verify;
use fhe_ir::{BootstrapKey, Cipher, CircuitKeys, Graph, KeyswitchKey, Op, Phase, SecretKey, Value, Variance};

use crate::error::Error;

/// Expanded evaluation keys are not larger than this: a circuit from elsewhere may ask for any size.
const MAX_KEY_BYTES: u64 = 1 << 37;

/// Keys that an error names.
const LISTED_KEYS: usize = 8;

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
    keys: CircuitKeys,
}

impl Circuit {
    /// Checks a graph. After this, keys can be made for it and execution cannot fail on it.
    pub fn new(graph: Graph, digest: [u8; 32]) -> Result<Self, Error> {
        let keys = check(&graph)?;
        Ok(Self { graph, digest: Digest(digest), keys })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Digest of the artifact.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The distinct keys that it uses.
    pub fn keys(&self) -> &CircuitKeys {
        &self.keys
    }

    /// The secret key that a value is under.
    pub(crate) fn key_of(&self, value: &Value) -> SecretKey {
        self.graph.secret_key(self.cipher(value))
    }

    /// Words of one ciphertext of a value: mask, then body.
    pub(crate) fn words(&self, value: &Value) -> usize {
        self.key_of(value).dimension() as usize + 1
    }

    /// The keyswitch key of a `keyswitch`; `None` for other ops.
    pub fn keyswitch_key(&self, value: &Value) -> Option<KeyswitchKey> {
        let Op::Keyswitch { x, ks } = value.op else { return None };
        Some(KeyswitchKey { from: self.key_of(self.graph.value(x)), to: self.key_of(value), ks })
    }

    /// The bootstrap key of a `pbs`; `None` for other ops.
    pub fn bootstrap_key(&self, value: &Value) -> Option<BootstrapKey> {
        let params = self.graph.param(self.cipher(value).params);
        matches!(value.op, Op::Pbs { .. }).then(|| BootstrapKey::of(params))
    }

    /// Noise of a fresh encryption under a key: the least that the circuit's security curve allows.
    pub(crate) fn fresh_variance(&self, key: SecretKey) -> Variance {
        let curve = self.graph.params[0].curve;
        curve.minimal_variance(key.dimension()).expect("checked: both dimensions of each set are on the curve")
    }

    /// The keys that inputs are under, in the order of their first input, with the inputs under each.
    pub(crate) fn inputs_by_key(&self) -> Vec<(SecretKey, Vec<usize>)> {
        let mut groups: Vec<(SecretKey, Vec<usize>)> = vec![];
        for (index, id) in self.graph.inputs().into_iter().enumerate() {
            let key = self.key_of(self.graph.value(id));
            match groups.iter_mut().find(|(k, _)| *k == key) {
                Some((_, inputs)) => inputs.push(index),
                None => groups.push((key, vec![index])),
            }
        }
        groups
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
        let values = self.graph.outputs.iter().map(|o| self.graph.value(o.value));
        values.map(|v| v.elements() as u64 * self.key_of(v).ciphertext_bytes()).sum()
    }

    /// Refuses something (named by `what`) made for another circuit.
    pub fn admit(&self, what: &str, binding: &Binding) -> Result<(), Error> {
        Binding { circuit: self.digest, key: binding.key }.circuit_admits(what, binding.circuit)
    }
}

fn check(graph: &Graph) -> Result<CircuitKeys, Error> {
    let whole = |why: String| Error::NotExecutable { what: format!("graph {}", graph.name), why };
    if graph.phase != Phase::Circuit {
        return Err(whole(format!("it is in phase {}, not circuit", graph.phase)));
    }
    verify(graph).map_err(|e| Error::NotExecutable { what: e.place, why: e.message })?;
    let keys = CircuitKeys::of(graph);
    let decompositions = keys.bootstrap.iter().map(|k| (k.to_string(), k.pbs));
    for (name, d) in decompositions.chain(keys.keyswitch.iter().map(|k| (k.to_string(), k.ks))) {
        if d.base_log * d.level >= 64 {
            return Err(whole(format!("the {name} keeps all 64 bits")));
        }
    }
    let key_bytes = keys.bootstrap_bytes().saturating_add(keys.keyswitch_bytes());
    if key_bytes > MAX_KEY_BYTES {
        let list = keys.bootstrap.iter().map(ToString::to_string).chain(keys.keyswitch.iter().map(ToString::to_string));
        let list = list.take(LISTED_KEYS).collect::<Vec<_>>().join(", ");
        return Err(whole(format!("its keys have {key_bytes} bytes, the limit is {MAX_KEY_BYTES}: {list}")));
    }
    Ok(keys)
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
