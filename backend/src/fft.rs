//! One fixed plan of the Fourier transform per polynomial size.
//!
//! Left alone, `tfhe` picks the fastest plan by timing: low bits of results would differ between runs, and a busy
//! machine can make it pick a slow plan.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tfhe::core_crypto::fft_impl::fft64::math::fft::{FftAlgo, Method, Plan, setup_custom_fft_plan};
use tfhe::core_crypto::prelude::{Fft, PolynomialSize};

static FIXED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// The fixed plan of a transform of `size` complex numbers.
pub(crate) fn plan(size: usize) -> Plan {
    // Fastest of the measured plans on AVX-512.
    let (base_algo, base_n) = match size {
        ..=511 => (FftAlgo::Dif4, size),
        1024 => (FftAlgo::Dif4, 1024),
        _ => (FftAlgo::Dif8, 512),
    };
    Plan::new(size, Method::UserProvided { base_algo, base_n })
}

/// The crate's transform of polynomials of that size, with the plan fixed first.
pub(crate) fn transform(polynomial_size: PolynomialSize) -> Fft {
    let mut fixed = FIXED.lock().unwrap_or_else(PoisonError::into_inner);
    let size = polynomial_size.to_fourier_polynomial_size().0;
    if fixed.insert(size) {
        setup_custom_fft_plan(plan(size));
    }
    Fft::new(polynomial_size)
}
