//! Keys: the client's secret keys, the evaluation keys that travel, the server's expanded form of them.

use fhe_ir::{BootstrapKey, CircuitKeys, KeyswitchKey, SecretKey, Variance};
use tfhe::core_crypto::commons::generators::DeterministicSeeder;
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

use crate::circuit::{Binding, Circuit, Digest, KeyId};
use crate::error::Error;
use crate::fft;
use crate::keyswitch::PackedKey;
use crate::progress::{Progress, Step};
use crate::rotate::Rotator;

/// Where keys, masks and noise come from.
pub struct Randomness(Box<dyn Seeder>);

impl Randomness {
    /// The operating system's generator, combined with the processor's where there is one.
    pub fn from_system() -> Self {
        #[cfg(unix)]
        let seeder = Box::new(Combined(new_seeder(), UnixSeeder::new(0)));
        #[cfg(not(unix))]
        let seeder = new_seeder();
        Self(seeder)
    }

    /// The same numbers for the same seed, for tests: whoever knows the seed knows the keys.
    pub fn insecure_deterministic(seed: u128) -> Self {
        Self(Box::new(DeterministicSeeder::<DefaultRandomGenerator>::new(Seed(seed))))
    }

    pub(crate) fn seeder(&mut self) -> &mut dyn Seeder {
        self.0.as_mut()
    }
}

/// Seeds of two generators, combined: one of them has to be sound. Alone, the crate would take the processor's.
#[cfg(unix)]
struct Combined(Box<dyn Seeder>, UnixSeeder);

#[cfg(unix)]
impl Seeder for Combined {
    fn seed(&mut self) -> Seed {
        Seed(self.0.seed().0 ^ self.1.seed().0)
    }

    fn is_available() -> bool {
        true
    }
}

/// Gaussian noise of a variance.
pub(crate) fn gaussian(variance: Variance) -> Gaussian<f64> {
    Gaussian::from_dispersion_parameter(StandardDev(variance.sd()), 0.0)
}

pub(crate) fn native() -> CiphertextModulus<u64> {
    CiphertextModulus::new_native()
}

/// Sizes of a big key in the crate's types.
pub(crate) fn glwe_sizes(key: SecretKey) -> (GlweSize, PolynomialSize) {
    match key {
        SecretKey::Glwe { glwe_dimension, log2_polynomial_size } => {
            (GlweDimension(glwe_dimension as usize).to_glwe_size(), PolynomialSize(1 << log2_polynomial_size))
        }
        // An LWE key of dimension n is a GLWE key of polynomials of size 1.
        SecretKey::Lwe { dimension } => (GlweDimension(dimension as usize).to_glwe_size(), PolynomialSize(1)),
    }
}

fn dimension(key: SecretKey) -> LweDimension {
    LweDimension(key.dimension() as usize)
}

fn decomposition(d: fhe_ir::Decomposition) -> (DecompositionBaseLog, DecompositionLevelCount) {
    (DecompositionBaseLog(d.base_log as usize), DecompositionLevelCount(d.level as usize))
}

/// Words of a seeded bootstrap key: one body polynomial per GGSW row.
pub(crate) fn bootstrap_words(key: &BootstrapKey) -> usize {
    let (glwe, polynomial) = glwe_sizes(key.to());
    key.lwe_dimension as usize * key.pbs.level as usize * glwe.0 * polynomial.0
}

/// Words of a seeded keyswitch key: one body per level and bit of the key that ciphertexts come from.
pub(crate) fn keyswitch_words(key: &KeyswitchKey) -> usize {
    dimension(key.from).0 * key.ks.level as usize
}

/// The client's keys: whoever has them can read everything. Wiped from memory when dropped.
pub struct SecretKeys {
    binding: Binding,
    keys: Vec<(SecretKey, Zeroizing<Vec<u64>>)>,
}

impl SecretKeys {
    /// Keys with their bits.
    pub(crate) fn from_bits(binding: Binding, keys: Vec<(SecretKey, Zeroizing<Vec<u64>>)>) -> Self {
        Self { binding, keys }
    }

    /// Circuit and name.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    fn bits(&self, key: SecretKey) -> Result<&[u64], Error> {
        let found = self.keys.iter().find(|(k, _)| *k == key);
        let missing = || Error::MissingKey { whose: "secret", key: format!("key {key}") };
        found.map(|(_, bits)| bits.as_slice()).ok_or_else(missing)
    }

    /// A big key.
    pub(crate) fn glwe(&self, key: SecretKey) -> Result<GlweSecretKey<&[u64]>, Error> {
        Ok(GlweSecretKey::from_container(self.bits(key)?, glwe_sizes(key).1))
    }

    /// A key, a big one read as an LWE key.
    pub(crate) fn lwe(&self, key: SecretKey) -> Result<LweSecretKey<&[u64]>, Error> {
        Ok(LweSecretKey::from_container(self.bits(key)?))
    }

    /// Bits of all keys, in the order of the circuit's.
    pub(crate) fn all_bits(&self) -> impl Iterator<Item = u64> {
        self.keys.iter().flat_map(|(_, bits)| bits.iter().copied())
    }
}

/// One evaluation key, compressed: public masks are replaced by the seed they grow from.
pub(crate) struct SeededKey<K> {
    pub(crate) key: K,
    pub(crate) seed: Seed,
    pub(crate) bodies: Vec<u64>,
}

/// The keys a server needs, compressed.
pub struct EvaluationKeys {
    pub(crate) binding: Binding,
    pub(crate) bootstrap: Vec<SeededKey<BootstrapKey>>,
    pub(crate) keyswitch: Vec<SeededKey<KeyswitchKey>>,
}

impl EvaluationKeys {
    /// Circuit and name.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Bytes of a file of a circuit's keys, without its header.
    pub fn bytes(keys: &CircuitKeys) -> u64 {
        let words = keys.bootstrap.iter().map(bootstrap_words).chain(keys.keyswitch.iter().map(keyswitch_words));
        words.map(|words| (size_of::<u128>() + 8 * words) as u64).sum()
    }

    /// Expands the keys for execution.
    pub fn expand(&self, progress: Progress<'_>) -> ServerKeys {
        let total = (self.bootstrap.len() + self.keyswitch.len()) as u64;
        let mut done = 0;
        let mut report = |more| {
            done += more;
            progress(Step { what: "expanding keys", done, total });
        };
        report(0);
        let mut keys = ServerKeys { binding: self.binding, bootstrap: vec![], keyswitch: vec![] };
        for seeded in &self.bootstrap {
            keys.bootstrap.push((seeded.key, seeded.expand()));
            report(1);
        }
        for seeded in &self.keyswitch {
            keys.keyswitch.push((seeded.key, seeded.expand()));
            report(1);
        }
        keys
    }
}

impl SeededKey<BootstrapKey> {
    fn expand(&self) -> Rotator {
        let ((glwe, polynomial), (base_log, level)) = (glwe_sizes(self.key.to()), decomposition(self.key.pbs));
        let standard = SeededLweBootstrapKey::from_container(
            self.bodies.as_slice(),
            glwe,
            polynomial,
            base_log,
            level,
            self.seed.into(),
            native(),
        )
        .par_decompress_into_lwe_bootstrap_key();
        fft::transform(polynomial);
        let mut bootstrap = FourierLweBootstrapKey::new(dimension(self.key.from()), glwe, polynomial, base_log, level);
        par_convert_standard_lwe_bootstrap_key_to_fourier(&standard, &mut bootstrap);
        drop(standard);
        Rotator::new(&bootstrap)
    }
}

impl SeededKey<KeyswitchKey> {
    fn expand(&self) -> PackedKey {
        let (base_log, level) = decomposition(self.key.ks);
        let keyswitch = SeededLweKeyswitchKey::from_container(
            self.bodies.as_slice(),
            base_log,
            level,
            dimension(self.key.to).to_lwe_size(),
            self.seed.into(),
            native(),
        )
        .par_decompress_into_lwe_keyswitch_key();
        PackedKey::new(&keyswitch)
    }
}

/// Evaluation keys ready for execution.
pub struct ServerKeys {
    binding: Binding,
    bootstrap: Vec<(BootstrapKey, Rotator)>,
    keyswitch: Vec<(KeyswitchKey, PackedKey)>,
}

impl ServerKeys {
    /// Circuit and name.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Keys of arbitrary numbers, which take as long as real ones: nothing can be decrypted after them.
    pub(crate) fn for_timing(bootstrap: BootstrapKey, keyswitch: KeyswitchKey) -> Self {
        Self {
            binding: Binding { circuit: Digest([0; 32]), key: KeyId([0; 16]) },
            bootstrap: vec![(bootstrap, Rotator::for_timing(&bootstrap))],
            keyswitch: vec![(keyswitch, PackedKey::for_timing(&keyswitch))],
        }
    }

    pub(crate) fn rotator(&self, key: &BootstrapKey) -> Result<&Rotator, Error> {
        find(&self.bootstrap, key)
    }

    pub(crate) fn packed(&self, key: &KeyswitchKey) -> Result<&PackedKey, Error> {
        find(&self.keyswitch, key)
    }

    /// Refuses a circuit that uses another key than these; to be asked before its work is begun.
    pub(crate) fn admit(&self, keys: &CircuitKeys) -> Result<(), Error> {
        keys.bootstrap.iter().try_for_each(|key| self.rotator(key).map(drop))?;
        keys.keyswitch.iter().try_for_each(|key| self.packed(key).map(drop))
    }
}

fn find<'k, K: PartialEq + std::fmt::Display, V>(keys: &'k [(K, V)], key: &K) -> Result<&'k V, Error> {
    let found = keys.iter().find(|(k, _)| k == key);
    found.map(|(_, v)| v).ok_or_else(|| Error::MissingKey { whose: "evaluation", key: key.to_string() })
}

/// Makes the keys of a circuit, each distinct one once: binary keys, Gaussian noise of the least variance that the
/// circuit's security curve allows at their dimension.
pub fn generate(
    circuit: &Circuit,
    randomness: &mut Randomness,
    progress: Progress<'_>,
) -> (SecretKeys, EvaluationKeys) {
    let CircuitKeys { secret, bootstrap, keyswitch } = circuit.keys();
    let seeder = randomness.seeder();
    let total = (1 + bootstrap.len() + keyswitch.len()) as u64;
    let mut done = 0;
    let mut report = |more| {
        done += more;
        progress(Step { what: "making keys", done, total });
    };
    report(0);

    let binding = Binding { circuit: circuit.digest(), key: KeyId(seeder.seed().0.to_le_bytes()) };
    let mut generator = SecretRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed());
    // The crate fills the vectors in place; its generator's state and its own temporaries are not wiped.
    let mut bits = |key: SecretKey| {
        let (glwe, polynomial) = glwe_sizes(key);
        let secret: GlweSecretKeyOwned<u64> =
            allocate_and_generate_new_binary_glwe_secret_key(glwe.to_glwe_dimension(), polynomial, &mut generator);
        (key, Zeroizing::new(secret.into_container()))
    };
    let secret = SecretKeys::from_bits(binding, secret.iter().map(|key| bits(*key)).collect());
    report(1);

    let seeds: Vec<Seed> = (0..bootstrap.len() + keyswitch.len()).map(|_| seeder.seed()).collect();
    let (bootstrap_seeds, keyswitch_seeds) = seeds.split_at(bootstrap.len());
    let noise = |key: SecretKey| gaussian(circuit.fresh_variance(key));
    let lwe = |key: SecretKey| secret.lwe(key).expect("made above: values under it name it");
    let mut evaluation = EvaluationKeys { binding, bootstrap: vec![], keyswitch: vec![] };
    for (key, seed) in bootstrap.iter().zip(bootstrap_seeds) {
        let ((glwe, polynomial), (base_log, level)) = (glwe_sizes(key.to()), decomposition(key.pbs));
        let (small, seed) = (dimension(key.from()), *seed);
        let mut made =
            SeededLweBootstrapKey::new(0u64, glwe, polynomial, base_log, level, small, seed.into(), native());
        let big = secret.glwe(key.to()).expect("made above: values under it name it");
        par_generate_seeded_lwe_bootstrap_key(&lwe(key.from()), &big, &mut made, noise(key.to()), seeder);
        evaluation.bootstrap.push(SeededKey { key: *key, seed, bodies: made.into_container() });
        report(1);
    }
    for (key, seed) in keyswitch.iter().zip(keyswitch_seeds) {
        let ((base_log, level), seed) = (decomposition(key.ks), *seed);
        let (from, to) = (dimension(key.from), dimension(key.to));
        let mut made = SeededLweKeyswitchKey::new(0u64, base_log, level, from, to, seed.into(), native());
        generate_seeded_lwe_keyswitch_key(&lwe(key.from), &lwe(key.to), &mut made, noise(key.to), seeder);
        evaluation.keyswitch.push(SeededKey { key: *key, seed, bodies: made.into_container() });
        report(1);
    }
    (secret, evaluation)
}
