//! Cryptographic parameter sets and the security curves they must lie on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::graph::Key;
use crate::keys::{BootstrapKey, KeyswitchKey};

/// log2 of the ciphertext modulus: all torus words are `u64`.
pub const LOG2_Q: f64 = 64.0;

/// A variance on the torus (fractions of one full turn, squared).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Variance(pub f64);

impl Variance {
    /// No noise.
    pub const ZERO: Self = Self(0.0);

    /// Standard deviation on the torus.
    pub fn sd(self) -> f64 {
        self.0.sqrt()
    }

    /// log2 of the standard deviation; `-inf` without noise.
    pub fn log2_sd(self) -> f64 {
        0.5 * self.0.log2()
    }

    /// The variance whose standard deviation is `2^log2_sd`.
    pub fn from_log2_sd(log2_sd: f64) -> Self {
        Self((2.0 * log2_sd).exp2())
    }
}

impl std::ops::Add for Variance {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0 + rhs.0)
    }
}

impl std::ops::Mul<f64> for Variance {
    type Output = Self;
    fn mul(self, rhs: f64) -> Self {
        Self(self.0 * rhs)
    }
}

/// The smallest noise that keeps an LWE instance with binary keys and `q = 2^64` at a stated security level.
///
/// Source: `zama-ai/concrete`, `tools/parameter-curves/concrete-security-curves-rust`, Gaussian noise:
/// `log2 sd(n) = max(slope·n + bias, 2 − log2 q)`. [`Self::estimator`] says what each was fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SecurityCurve {
    /// 128 bits of security, the default.
    Bits128,
    /// 132 bits of security, the margin used by the parameter sets of `tfhe` itself.
    Bits132,
}

impl SecurityCurve {
    /// Dimensions below this one are never used: the curves were not fitted there.
    pub const MIN_DIMENSION: u32 = 450;

    /// The security level in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits128 => 128,
            Self::Bits132 => 132,
        }
    }

    /// The name that [`FromStr`] reads back.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bits128 => "gaussian-128",
            Self::Bits132 => "gaussian-132",
        }
    }

    /// The estimator, its commit and its cost model of lattice reduction, by which the level is meant.
    ///
    /// Source: for 128 bits commit `eba61f20c` of `zama-ai/concrete`; for 132 bits the documentation of `tfhe`, page
    /// security and cryptography, whose noise formula `secure_noise.rs` is this curve.
    pub fn estimator(self) -> &'static str {
        match self {
            Self::Bits128 => "lattice-estimator 60808bdc, MATZOV",
            Self::Bits132 => "lattice-estimator 352ddaf, MATZOV",
        }
    }

    /// The curve of a security level, if there is one.
    pub fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            128 => Some(Self::Bits128),
            132 => Some(Self::Bits132),
            _ => None,
        }
    }

    fn slope_and_bias(self) -> (f64, f64) {
        match self {
            Self::Bits128 => (-0.025696778711484593, 2.675931372549016),
            Self::Bits132 => (-0.024891456582633045, 2.65734593837534),
        }
    }

    /// Smallest variance allowed for a secret key of `dimension` bits (`n`, or `k·N` for GLWE).
    ///
    /// `None` below [`Self::MIN_DIMENSION`].
    pub fn minimal_variance(self, dimension: u32) -> Option<Variance> {
        if dimension < Self::MIN_DIMENSION {
            return None;
        }
        let (slope, bias) = self.slope_and_bias();
        let log2_sd = (slope * f64::from(dimension) + bias).max(2.0 - LOG2_Q);
        Some(Variance::from_log2_sd(log2_sd))
    }
}

impl FromStr for SecurityCurve {
    type Err = String;

    /// Reads a name or a level: `gaussian-128` or `128`.
    fn from_str(text: &str) -> Result<Self, String> {
        let curves = [Self::Bits128, Self::Bits132];
        curves
            .into_iter()
            .find(|curve| text == curve.name() || text == curve.bits().to_string())
            .ok_or_else(|| format!("{text:?} is no security curve: write 128 (gaussian-128) or 132 (gaussian-132)"))
    }
}

impl fmt::Display for SecurityCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit", self.bits())
    }
}

/// Base (as log2) and number of levels of a gadget decomposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Decomposition {
    /// log2 of the base.
    pub base_log: u32,
    /// Number of levels.
    pub level: u32,
}

impl Decomposition {
    /// What is wrong with a decomposition read from a file, in one phrase that begins with `what` it is.
    pub fn check(&self, what: &str) -> Result<(), String> {
        range(&format!("{what} base log"), self.base_log, 1, 63)?;
        range(&format!("{what} level"), self.level, 1, 63)?;
        range(&format!("{what} base log times level"), self.base_log * self.level, 1, 64)
    }
}

fn range(what: &str, value: u32, lo: u32, hi: u32) -> Result<(), String> {
    if (lo..=hi).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}, outside [{lo}, {hi}]")) }
}

impl fmt::Display for Decomposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}x{}", self.base_log, self.level)
    }
}

/// One set of keys: the big (GLWE) key that carries values between tables, and the small (LWE) key
/// that a keyswitch brings them to in front of a bootstrap. Both keys are binary; noise is Gaussian
/// and always the minimum of `curve`, so a parameter set cannot name a weaker one.
///
/// Sets of one circuit share keys whose dimensions agree: see [`crate::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ParamSet {
    /// Security level both keys are held to.
    pub curve: SecurityCurve,
    /// Small LWE dimension `n`.
    pub lwe_dimension: u32,
    /// GLWE dimension `k`.
    pub glwe_dimension: u32,
    /// log2 of the polynomial size `N`.
    pub log2_polynomial_size: u32,
    /// Decomposition of the bootstrap key.
    pub pbs: Decomposition,
    /// Decomposition of the keyswitch key from its big key to its small one; keyswitches state their own.
    pub ks: Decomposition,
}

impl ParamSet {
    /// Polynomial size `N`.
    pub fn polynomial_size(&self) -> u32 {
        1 << self.log2_polynomial_size
    }

    /// Dimension `k·N` of the big LWE key.
    pub fn big_dimension(&self) -> u32 {
        self.glwe_dimension << self.log2_polynomial_size
    }

    /// Noise of a fresh encryption under the big key, and of the bootstrap key.
    ///
    /// # Panics
    /// When [`Self::check`] was not called on a set from outside.
    pub fn big_variance(&self) -> Variance {
        self.curve.minimal_variance(self.big_dimension()).expect("checked: the big dimension is on the curve")
    }

    /// Noise of the keyswitch key.
    ///
    /// # Panics
    /// When [`Self::check`] was not called on a set from outside.
    pub fn small_variance(&self) -> Variance {
        self.curve.minimal_variance(self.lwe_dimension).expect("checked: the small dimension is on the curve")
    }

    /// Noise of the centred modulus switch to `2N`: `(n/48 + 1/12)/(2N)² + n/24/q²`.
    ///
    /// Source: `tfhe` crate, `noise_formulas::centered_mean_shifted_modulus_switch` (mask terms only); the rounding of
    /// the body, `1/12/(2N)²`, is kept.
    pub fn modulus_switch_variance(&self) -> Variance {
        let (n, w) = (f64::from(self.lwe_dimension), 2.0 * f64::from(self.polynomial_size()));
        Variance((n / 48.0 + 1.0 / 12.0) / (w * w) + n / 24.0 * (-2.0 * LOG2_Q).exp2())
    }

    /// Bytes of the bootstrap key in the Fourier domain, as the server holds it: `n·l·(k+1)²·N·8`.
    pub fn bootstrap_key_bytes(&self) -> u64 {
        BootstrapKey::of(self).bytes()
    }

    /// Bytes of the keyswitch key: `k·N·l·(n+1)·8`.
    pub fn keyswitch_key_bytes(&self) -> u64 {
        KeyswitchKey { from: self.secret_key(Key::Big), to: self.secret_key(Key::Small), ks: self.ks }.bytes()
    }

    /// Bytes of one ciphertext under the big key: `(k·N + 1)·8`.
    pub fn big_ciphertext_bytes(&self) -> u64 {
        self.secret_key(Key::Big).ciphertext_bytes()
    }

    /// What is wrong with a set read from a file, in one phrase.
    pub fn check(&self) -> Result<(), String> {
        range("lwe dimension n", self.lwe_dimension, SecurityCurve::MIN_DIMENSION, 2048)?;
        range("glwe dimension k", self.glwe_dimension, 1, 8)?;
        range("log2 of the polynomial size N", self.log2_polynomial_size, 8, 17)?;
        range("big dimension k·N", self.big_dimension(), SecurityCurve::MIN_DIMENSION, 1 << 17)?;
        self.pbs.check("bootstrap")?;
        self.ks.check("keyswitch")
    }
}

impl fmt::Display for ParamSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "n={} k={} N={} pbs={} ks={} security={}",
            self.lwe_dimension,
            self.glwe_dimension,
            self.polynomial_size(),
            self.pbs,
            self.ks,
            self.curve.bits()
        )
    }
}
