//! What the values of a circuit state of the noise at its reads, whatever parameter sets they are under.

use std::collections::BTreeSet;

use fhe_ir::params::Variance;
use fhe_ir::{CircuitKeys, Graph, Id, Op, ParamSet, Value};

use crate::params::{ConstraintReport, NoiseSource, Share, Sources, tail};
use crate::regions::{Norm2, Reading, Regions};
use crate::select_params::NOISE_MODEL;

/// The predicted variance of a value of a circuit, worst channel.
fn variance(graph: &Graph, id: Id<Value>) -> Option<f64> {
    let worst = graph.value(id).cipher.as_ref()?.log2_sd.iter().copied().reduce(f32::max)?;
    Some(Variance::from_log2_sd(f64::from(worst)).0)
}

/// The parameter set of the bootstrap of a read; `None` for an output.
pub(crate) fn set_of(graph: &Graph, reading: &Reading<'_>) -> Option<Id<ParamSet>> {
    Some(graph.value(reading.table?).cipher.as_ref()?.params)
}

/// Variances of what arrives at a read, of its keyswitch and of its modulus switch; `None` where it is not encrypted.
fn at_read(graph: &Graph, reading: &Reading<'_>) -> Option<[f64; 3]> {
    let arriving = variance(graph, reading.operand)?;
    let Some(table) = reading.table else { return Some([arriving, 0.0, 0.0]) };
    let Op::Pbs { x, .. } = graph.value(table).op else { return None };
    let params = graph.param(set_of(graph, reading)?);
    let switch = NOISE_MODEL.variance_of_modulus_switch(params.lwe_dimension, params.log2_polynomial_size).0;
    Some([arriving, (variance(graph, x)? - arriving).max(0.0), switch])
}

/// How a read of a circuit fares; `None` where it is not encrypted.
pub(crate) fn report(graph: &Graph, regions: &Regions<'_>, reading: &Reading<'_>) -> Option<ConstraintReport> {
    let constraint = regions.constraint(reading);
    let parts = at_read(graph, reading)?;
    let log2_polynomial_size = set_of(graph, reading).map_or(0, |set| graph.param(set).log2_polynomial_size);
    let bound = if constraint.full { f64::INFINITY } else { constraint.bound(log2_polynomial_size) };
    let variance = Variance(parts.iter().sum());
    Some(ConstraintReport {
        variance_in: Variance(parts[0]),
        variance,
        bound,
        filled: constraint.filled(),
        p_fail: tail(bound * NOISE_MODEL.bound_filled(), variance),
    })
}

/// Parts of the variance of a read, the largest first.
pub(crate) fn shares(graph: &Graph, regions: &Regions<'_>, reading: &Reading<'_>) -> Vec<Share> {
    let Some([arriving, keyswitch, modulus_switch]) = at_read(graph, reading) else { return vec![] };
    let [bootstrap, fourier, input, conversions] = sources(graph, regions, reading.operand, arriving);
    let parts = [bootstrap, fourier, input, keyswitch + conversions, modulus_switch];
    let total: f64 = parts.iter().sum();
    let share = |part: f64| if total > 0.0 { part / total } else { 0.0 };
    let shares = NoiseSource::ALL.into_iter().zip(parts);
    let mut shares: Vec<_> = shares.map(|(source, part)| Share { source, share: share(part) }).collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

/// The variance that arrives at a value, split into bootstraps, their Fourier transforms, inputs and conversions.
///
/// Norms do not tell sets apart. Where bootstraps of several sets meet, all that is not the inputs' counts for them, and
/// the Fourier part is that of the noisiest; where there is one set, the rest is the conversions'.
fn sources(graph: &Graph, regions: &Regions<'_>, id: Id<Value>, arriving: f64) -> [f64; 4] {
    let norm2 = regions.norm2[id.index()].iter().copied().fold(Norm2::default(), Norm2::max);
    let region = regions.region[id.index()];
    let members = graph.iter().filter(|(v, _)| regions.region[v.index()] == region);
    let (mut sets, mut fresh) = (BTreeSet::new(), 0.0f64);
    for (_, value) in members {
        let Some(cipher) = &value.cipher else { continue };
        match value.op {
            Op::Pbs { .. } => {
                sets.insert(cipher.params);
            }
            Op::Input { .. } => fresh = fresh.max(graph.param(cipher.params).big_variance().0),
            _ => {}
        }
    }
    let input = (fresh * norm2.input).min(arriving);
    let noise = |set: &Id<ParamSet>| NOISE_MODEL.variance_of_blind_rotation(graph.param(*set)).0;
    let Some(noisiest) = sets.iter().max_by(|a, b| noise(a).total_cmp(&noise(b))) else {
        return [0.0, 0.0, input, arriving - input];
    };
    let [bootstrap, fourier] = Sources::new(NOISE_MODEL, graph.param(*noisiest)).of_one_bootstrap();
    let tables =
        if sets.len() == 1 { (norm2.pbs * (bootstrap + fourier)).min(arriving - input) } else { arriving - input };
    let of_fourier = fourier / (bootstrap + fourier);
    [tables * (1.0 - of_fourier), tables * of_fourier, input, arriving - input - tables]
}

/// Whether a circuit uses other keys than those of its first parameter set.
pub(crate) fn has_several_sets(graph: &Graph) -> bool {
    let keys = CircuitKeys::of(graph);
    let decomposes = |ks| graph.params.first().is_some_and(|p| p.ks == ks);
    graph.params.len() > 1 || keys.keyswitch.iter().any(|k| !decomposes(k.ks))
}
