//! How much noise in front of each table moves the logits, measured on rows.
//!
//! Noise at one place is small and noise of different places is independent, so their effects on the logits add up in
//! the mean square. A weight per table then says what a variance there costs, and a sum over all tables bounds it.

use fhe_ir::client::{dequantize, quantize_rows};
use fhe_ir::{Cipher, Decomposition, Graph, Id, Op, ParamSet, SecurityCurve, Value, eval};
use indexmap::IndexMap;
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::bad_rows;
use crate::lower_circuit::LowerCircuit;
use crate::manager::{Flow, PipelineError, run_pipeline};
use crate::options::Options;
use crate::pass::{Pass, PassCx};
use crate::pipeline;
use crate::regions::{Norm2, Regions};
use crate::select_params::SelectParams;

/// Noise at the place under test, as log2 of the standard deviation where the domain fills half a torus: small enough
/// to add up, large enough to be seen behind the steps of integers.
const PROBE: f64 = -9.0;

/// A set whose own noise is far below the probe: its modulus switch rounds to 2^17 slots.
const QUIET: ParamSet = ParamSet {
    curve: SecurityCurve::Bits128,
    lwe_dimension: 900,
    glwe_dimension: 1,
    log2_polynomial_size: 16,
    pbs: Decomposition { base_log: 15, level: 3 },
    ks: Decomposition { base_log: 3, level: 6 },
};

/// How much noise in front of a table moves the logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Squared logits for each unit of variance in all channels, relative to a domain that fills half a torus.
    pub weight: f64,
    /// Squared logits that noise as large as each channel's weights make it costs, by what the same mean variance costs
    /// spread evenly: below 1 where the channels with large weights fill more of the domain than others.
    pub growth: f64,
}

/// By the name of a table or [`output_key`].
pub type Sensitivities = IndexMap<String, Sensitivity>;

/// Measures on rows of each input; `graph` is `ranged` and its tables are still maps.
pub(super) fn measure(graph: &Graph, options: &Options, rows: &[ArrayD<f32>]) -> Result<Sensitivities, PipelineError> {
    let tabling = pipeline::tabling();
    let end = tabling.iter().position(|pass| pass.name() == SelectParams.name()).unwrap_or(tabling.len());
    let mut cx = PassCx::new(options, &[]);
    let (mut tabled, _) = run_pipeline(graph.clone(), &tabling[..end], &mut cx, |_| Flow::Continue)?;
    tabled.params = vec![QUIET];
    let (mut circuit, _) = run_pipeline(tabled, &[&LowerCircuit], &mut cx, |_| Flow::Continue)?;
    for value in &mut circuit.values {
        silence(value);
    }
    let inputs: Result<Vec<_>, _> = rows.iter().enumerate().map(|(i, x)| quantize_rows(&circuit, i, x)).collect();
    let inputs = inputs.map_err(bad_rows)?;
    let logits = |circuit: &Graph| {
        let outputs = eval::simulate_from(circuit, &inputs, options.seed, 0).outputs;
        dequantize(circuit, 0, &outputs[0]).mapv(f64::from)
    };
    let silent = logits(&circuit);
    let mut weights = Sensitivities::new();
    let regions = Regions::of(&circuit);
    for (ks, tables) in keyswitches(&circuit) {
        let reading = regions.readings.iter().find(|r| r.table == Some(tables[0]));
        let filled = reading.map_or(1.0, |r| regions.constraint(r).filled());
        let error = |relative_variance: &[f64]| {
            let mut noisy = circuit.clone();
            if let Some(cipher) = &mut noisy.values[ks.index()].cipher {
                let log2_sd = |v: &f64| (PROBE + filled.log2() + 0.5 * v.log2()) as f32;
                cipher.log2_sd = relative_variance.iter().map(log2_sd).collect();
            }
            (&logits(&noisy) - &silent).mapv(|e| e * e).mean().unwrap_or(0.0)
        };
        let even = error(&[1.0]);
        let growth = match reading.and_then(|r| relative(&regions.norm2[r.operand.index()])) {
            Some(shape) if even > 0.0 => error(&shape) / even,
            _ => 1.0,
        };
        let weight = even / (2.0 * PROBE).exp2() / tables.len() as f64;
        weights.extend(tables.iter().map(|t| (circuit.value(*t).name.clone(), Sensitivity { weight, growth })));
    }
    for output in &circuit.outputs[..1] {
        let value = circuit.value(output.value);
        let Some(Cipher { span, .. }) = value.cipher else { continue };
        let unit = |c: usize| 2.0 * span as f64 * f64::from(value.channel_scale(c).unwrap_or(1.0));
        let channels = value.channels();
        let mean = (0..channels).map(|c| unit(c).powi(2)).sum::<f64>() / channels.max(1) as f64;
        weights.insert(output_key(&output.name), Sensitivity { weight: mean, growth: 1.0 });
    }
    Ok(weights)
}

/// How the noise of bootstraps is spread over channels, with mean 1; `None` when it is spread evenly.
fn relative(channels: &[Norm2]) -> Option<Vec<f64>> {
    let mean = channels.iter().map(|n| n.pbs).sum::<f64>() / channels.len().max(1) as f64;
    let uneven = mean > 0.0 && channels.iter().any(|n| n.pbs != mean);
    uneven.then(|| channels.iter().map(|n| n.pbs / mean).collect())
}

/// Name under which the weight of an output stands; no value has it.
pub fn output_key(name: &str) -> String {
    format!("output {name}")
}

fn silence(value: &mut Value) {
    if let Some(cipher) = &mut value.cipher {
        cipher.log2_sd = vec![f32::NEG_INFINITY];
    }
}

/// Keyswitches and the tables behind each.
fn keyswitches(circuit: &Graph) -> IndexMap<Id<Value>, Vec<Id<Value>>> {
    let mut all = IndexMap::<_, Vec<_>>::new();
    for (id, value) in circuit.iter() {
        if let Op::Pbs { x, .. } = value.op {
            all.entry(x).or_default().push(id);
        }
    }
    all
}
