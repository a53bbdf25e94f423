//! The keys of a circuit, told apart by their dimensions: parameter sets that agree in them share the key.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use crate::graph::{Cipher, Graph, Key};
use crate::id::Id;
use crate::op::Op;
use crate::params::{Decomposition, ParamSet};

/// A secret key of a circuit. There is one for each of these: sets with the same `k` and `N` share the big key, sets
/// with the same `n` the small one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKey {
    /// A big key: a GLWE key, read as an LWE key of dimension `k·N`.
    Glwe {
        /// GLWE dimension `k`.
        glwe_dimension: u32,
        /// log2 of the polynomial size `N`.
        log2_polynomial_size: u32,
    },
    /// A small key.
    Lwe {
        /// LWE dimension `n`.
        dimension: u32,
    },
}

impl SecretKey {
    /// Dimension as an LWE key: `k·N` or `n`.
    pub fn dimension(self) -> u32 {
        match self {
            Self::Glwe { glwe_dimension, log2_polynomial_size } => glwe_dimension << log2_polynomial_size,
            Self::Lwe { dimension } => dimension,
        }
    }

    /// Bytes of one LWE ciphertext under the key: eight for each bit of the key, and eight for the body.
    pub fn ciphertext_bytes(self) -> u64 {
        (u64::from(self.dimension()) + 1) * 8
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glwe { glwe_dimension, log2_polynomial_size } => {
                write!(f, "k={glwe_dimension} N={}", 1u64 << log2_polynomial_size)
            }
            Self::Lwe { dimension } => write!(f, "n={dimension}"),
        }
    }
}

/// A bootstrap key: the small key of dimension `n`, bit by bit under a big key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootstrapKey {
    /// Dimension `n` of the small key.
    pub lwe_dimension: u32,
    /// GLWE dimension `k` of the big key.
    pub glwe_dimension: u32,
    /// log2 of the polynomial size `N` of the big key.
    pub log2_polynomial_size: u32,
    /// Decomposition.
    pub pbs: Decomposition,
}

impl BootstrapKey {
    /// The key that a bootstrap of the set uses.
    pub fn of(params: &ParamSet) -> Self {
        Self {
            lwe_dimension: params.lwe_dimension,
            glwe_dimension: params.glwe_dimension,
            log2_polynomial_size: params.log2_polynomial_size,
            pbs: params.pbs,
        }
    }

    /// The small key that ciphertexts come from.
    pub fn from(&self) -> SecretKey {
        SecretKey::Lwe { dimension: self.lwe_dimension }
    }

    /// The big key that results are under.
    pub fn to(&self) -> SecretKey {
        SecretKey::Glwe { glwe_dimension: self.glwe_dimension, log2_polynomial_size: self.log2_polynomial_size }
    }

    /// Bytes in the Fourier domain, as the server holds it: `n·l·(k+1)²·N·8`.
    pub fn bytes(&self) -> u64 {
        let k1 = u64::from(self.glwe_dimension) + 1;
        let rows = u64::from(self.lwe_dimension) * u64::from(self.pbs.level);
        rows * k1 * k1 * (8 << self.log2_polynomial_size)
    }
}

impl fmt::Display for BootstrapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bootstrap key {} to {} {}", self.from(), self.to(), self.pbs)
    }
}

/// A keyswitch key: each digit of each bit of one key, under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyswitchKey {
    /// The key that ciphertexts come from: a big one.
    pub from: SecretKey,
    /// The key that results are under: a small one in front of tables, a big one in a conversion.
    pub to: SecretKey,
    /// Decomposition.
    pub ks: Decomposition,
}

impl KeyswitchKey {
    /// Bytes: `from·l·(to + 1)·8`.
    pub fn bytes(&self) -> u64 {
        u64::from(self.from.dimension()) * u64::from(self.ks.level) * self.to.ciphertext_bytes()
    }
}

impl fmt::Display for KeyswitchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keyswitch key {} to {} {}", self.from, self.to, self.ks)
    }
}

/// The distinct keys that a circuit uses, each kind in the order of first use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitKeys {
    /// Secret keys that values are under.
    pub secret: Vec<SecretKey>,
    /// Bootstrap keys.
    pub bootstrap: Vec<BootstrapKey>,
    /// Keyswitch keys.
    pub keyswitch: Vec<KeyswitchKey>,
}

impl CircuitKeys {
    /// The keys of a graph; none outside the circuit phase.
    pub fn of(graph: &Graph) -> Self {
        let (mut secret, mut bootstrap, mut keyswitch) = (Distinct::new(), Distinct::new(), Distinct::new());
        for value in &graph.values {
            let Some(cipher) = &value.cipher else { continue };
            let to = graph.secret_key(cipher);
            secret.insert(to);
            match &value.op {
                Op::Pbs { .. } => bootstrap.insert(BootstrapKey::of(graph.param(cipher.params))),
                Op::Keyswitch { x, ks } => {
                    if let Some(from) = &graph.value(*x).cipher {
                        keyswitch.insert(KeyswitchKey { from: graph.secret_key(from), to, ks: *ks });
                    }
                }
                _ => {}
            }
        }
        Self { secret: secret.list, bootstrap: bootstrap.list, keyswitch: keyswitch.list }
    }

    /// Bytes of all bootstrap keys, as the server holds them.
    pub fn bootstrap_bytes(&self) -> u64 {
        self.bootstrap.iter().fold(0, |sum, key| sum.saturating_add(key.bytes()))
    }

    /// Bytes of all keyswitch keys.
    pub fn keyswitch_bytes(&self) -> u64 {
        self.keyswitch.iter().fold(0, |sum, key| sum.saturating_add(key.bytes()))
    }
}

/// Items in the order they came, each once.
struct Distinct<T> {
    list: Vec<T>,
    seen: HashSet<T>,
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    fn new() -> Self {
        Self { list: vec![], seen: HashSet::new() }
    }

    fn insert(&mut self, item: T) {
        if self.seen.insert(item) {
            self.list.push(item);
        }
    }
}

impl ParamSet {
    /// One of the two secret keys of the set.
    pub fn secret_key(&self, key: Key) -> SecretKey {
        match key {
            Key::Big => {
                SecretKey::Glwe { glwe_dimension: self.glwe_dimension, log2_polynomial_size: self.log2_polynomial_size }
            }
            Key::Small => SecretKey::Lwe { dimension: self.lwe_dimension },
        }
    }
}

impl Graph {
    /// The secret key that a ciphertext is under.
    pub fn secret_key(&self, cipher: &Cipher) -> SecretKey {
        self.param(cipher.params).secret_key(cipher.key)
    }
}

/// Keys that a value will be under once its graph is a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// A set whose big key it will be under, as all of its linear region.
    pub home: Id<ParamSet>,
    /// Of a `lut`: how it will be run.
    pub table: Option<PlannedTable>,
}

/// How a `lut` will be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedTable {
    /// The set of its bootstrap.
    pub set: Id<ParamSet>,
    /// Decomposition of the keyswitch in front of it, to the small key of its set.
    pub ks: Decomposition,
    /// Decomposition of the keyswitch behind it, where its home is under another big key than that of its set.
    pub conversion: Option<Decomposition>,
}
