//! Keys: the client's secret keys, the evaluation keys that travel, the server's expanded form of them.

use fhe_ir::{ParamSet, Variance};
use tfhe::core_crypto::commons::generators::DeterministicSeeder;
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

use crate::circuit::{Binding, Circuit, KeyId};
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

/// Sizes of a parameter set in the crate's types.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) small: LweDimension,
    pub(crate) big: LweDimension,
    pub(crate) glwe: GlweSize,
    pub(crate) polynomial: PolynomialSize,
    pub(crate) pbs: (DecompositionBaseLog, DecompositionLevelCount),
    pub(crate) ks: (DecompositionBaseLog, DecompositionLevelCount),
}

impl Sizes {
    pub(crate) fn of(params: &ParamSet) -> Self {
        let decomposition = |d: fhe_ir::Decomposition| {
            (DecompositionBaseLog(d.base_log as usize), DecompositionLevelCount(d.level as usize))
        };
        Self {
            small: LweDimension(params.lwe_dimension as usize),
            big: LweDimension(params.big_dimension() as usize),
            glwe: GlweDimension(params.glwe_dimension as usize).to_glwe_size(),
            polynomial: PolynomialSize(params.polynomial_size() as usize),
            pbs: decomposition(params.pbs),
            ks: decomposition(params.ks),
        }
    }

    /// Words of a seeded bootstrap key: one body polynomial per GGSW row.
    pub(crate) fn bootstrap_words(self) -> usize {
        self.small.0 * self.pbs.1.0 * self.glwe.0 * self.polynomial.0
    }

    /// Words of a seeded keyswitch key: one body per level and bit of the big key.
    pub(crate) fn keyswitch_words(self) -> usize {
        self.big.0 * self.ks.1.0
    }
}

/// The client's keys: whoever has them can read everything. Wiped from memory when dropped.
pub struct SecretKeys {
    binding: Binding,
    polynomial_size: PolynomialSize,
    big: Zeroizing<Vec<u64>>,
    small: Zeroizing<Vec<u64>>,
}

impl SecretKeys {
    pub(crate) fn from_bits(
        binding: Binding,
        params: &ParamSet,
        big: Zeroizing<Vec<u64>>,
        small: Zeroizing<Vec<u64>>,
    ) -> Self {
        Self { binding, polynomial_size: Sizes::of(params).polynomial, big, small }
    }

    /// Circuit and name.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    pub(crate) fn glwe(&self) -> GlweSecretKey<&[u64]> {
        GlweSecretKey::from_container(self.big.as_slice(), self.polynomial_size)
    }

    /// The big key as an LWE key.
    pub(crate) fn big(&self) -> LweSecretKey<&[u64]> {
        LweSecretKey::from_container(self.big.as_slice())
    }

    /// The small key.
    pub(crate) fn small(&self) -> LweSecretKey<&[u64]> {
        LweSecretKey::from_container(self.small.as_slice())
    }

    /// Bits of the big and of the small key.
    pub(crate) fn bits(&self) -> (&[u64], &[u64]) {
        (&self.big, &self.small)
    }
}

/// The keys a server needs, compressed: public masks are replaced by the seeds they grow from.
pub struct EvaluationKeys {
    pub(crate) binding: Binding,
    pub(crate) params: ParamSet,
    pub(crate) bootstrap_seed: Seed,
    pub(crate) bootstrap: Vec<u64>,
    pub(crate) keyswitch_seed: Seed,
    pub(crate) keyswitch: Vec<u64>,
}

impl EvaluationKeys {
    /// Circuit and name.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Bytes of a file of these keys, without its header.
    pub fn bytes(params: &ParamSet) -> u64 {
        let sizes = Sizes::of(params);
        (2 * size_of::<u128>() + 8 * (sizes.bootstrap_words() + sizes.keyswitch_words())) as u64
    }

    /// Expands the keys for execution.
    pub fn expand(&self, progress: Progress<'_>) -> ServerKeys {
        let sizes = Sizes::of(&self.params);
        let report = |done| progress(Step { what: "expanding keys", done, total: 3 });
        report(0);
        let standard = SeededLweBootstrapKey::from_container(
            self.bootstrap.as_slice(),
            sizes.glwe,
            sizes.polynomial,
            sizes.pbs.0,
            sizes.pbs.1,
            self.bootstrap_seed.into(),
            native(),
        )
        .par_decompress_into_lwe_bootstrap_key();
        report(1);
        fft::transform(sizes.polynomial);
        let mut bootstrap =
            FourierLweBootstrapKey::new(sizes.small, sizes.glwe, sizes.polynomial, sizes.pbs.0, sizes.pbs.1);
        par_convert_standard_lwe_bootstrap_key_to_fourier(&standard, &mut bootstrap);
        drop(standard);
        let rotator = Rotator::new(&bootstrap);
        drop(bootstrap);
        report(2);
        let keyswitch = SeededLweKeyswitchKey::from_container(
            self.keyswitch.as_slice(),
            sizes.ks.0,
            sizes.ks.1,
            sizes.small.to_lwe_size(),
            self.keyswitch_seed.into(),
            native(),
        )
        .par_decompress_into_lwe_keyswitch_key();
        let keyswitch = PackedKey::new(&keyswitch);
        report(3);
        ServerKeys { binding: self.binding, params: self.params, rotator, keyswitch }
    }
}

/// Evaluation keys ready for execution.
pub struct ServerKeys {
    pub(crate) binding: Binding,
    pub(crate) params: ParamSet,
    pub(crate) rotator: Rotator,
    pub(crate) keyswitch: PackedKey,
}

impl ServerKeys {
    /// Circuit and name.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }
}

/// Makes a set of keys for a circuit: binary keys, Gaussian noise of the variances that the parameter set prescribes.
pub fn generate(
    circuit: &Circuit,
    randomness: &mut Randomness,
    progress: Progress<'_>,
) -> (SecretKeys, EvaluationKeys) {
    let params = *circuit.params();
    let sizes = Sizes::of(&params);
    let seeder = randomness.seeder();
    let report = |done| progress(Step { what: "making keys", done, total: 3 });
    report(0);

    let binding = Binding { circuit: circuit.digest(), key: KeyId(seeder.seed().0.to_le_bytes()) };
    let mut generator = SecretRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed());
    // The crate fills the vectors in place; its generator's state and its own temporaries are not wiped.
    let big: GlweSecretKeyOwned<u64> = allocate_and_generate_new_binary_glwe_secret_key(
        sizes.glwe.to_glwe_dimension(),
        sizes.polynomial,
        &mut generator,
    );
    let small: LweSecretKeyOwned<u64> = allocate_and_generate_new_binary_lwe_secret_key(sizes.small, &mut generator);
    let secret = SecretKeys::from_bits(
        binding,
        &params,
        Zeroizing::new(big.into_container()),
        Zeroizing::new(small.into_container()),
    );
    report(1);

    let (bootstrap_seed, keyswitch_seed) = (seeder.seed(), seeder.seed());
    let mut bootstrap = SeededLweBootstrapKey::new(
        0u64,
        sizes.glwe,
        sizes.polynomial,
        sizes.pbs.0,
        sizes.pbs.1,
        sizes.small,
        bootstrap_seed.into(),
        native(),
    );
    par_generate_seeded_lwe_bootstrap_key(
        &secret.small(),
        &secret.glwe(),
        &mut bootstrap,
        gaussian(params.big_variance()),
        seeder,
    );
    report(2);

    let mut keyswitch = SeededLweKeyswitchKey::new(
        0u64,
        sizes.ks.0,
        sizes.ks.1,
        sizes.big,
        sizes.small,
        keyswitch_seed.into(),
        native(),
    );
    generate_seeded_lwe_keyswitch_key(
        &secret.big(),
        &secret.small(),
        &mut keyswitch,
        gaussian(params.small_variance()),
        seeder,
    );
    report(3);

    let evaluation = EvaluationKeys {
        binding,
        params,
        bootstrap_seed,
        bootstrap: bootstrap.into_container(),
        keyswitch_seed,
        keyswitch: keyswitch.into_container(),
    };
    (secret, evaluation)
}
