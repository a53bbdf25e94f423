//! calibrate: runs the calibration rows through the float graph and records the range of every value.
//!
//! Values get the range that the calibration method asks for, per channel: everything, a percentile, or the range with
//! the smallest mean square error at the number of steps the value will have. That is the width of inputs and of
//! results of maps, and the resolution of the tables for accumulators: what saturates is paid for by finer boxes.
//! What tables read in full gets the domain with the smallest error of the tables' results under noise, whatever the
//! method but min-max. Outputs, and accumulators that are not rounded, keep everything seen.
//!
//! A network that states the integers of its inputs and activations itself needs no rows; its values then have no range
//! seen, and everything behind works with proven ranges.

mod noisy;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use fhe_ir::eval::{float_observe, kernels::see_planes};
use fhe_ir::{Data, Func, Graph, Id, Op, Phase, Rebuild, Value, client, func};
use ndarray::{Array1, ArrayD};
use rayon::prelude::*;

use crate::grids;
use crate::options::{CalibrationMethod, Options, Rounding};
use crate::params::ErrorTarget;
use crate::pass::{Pass, PassCx, PassError, Place};

/// See the module.
pub struct Calibrate;

/// Bins of the histogram of a channel.
const BINS: usize = 1024;

impl Pass for Calibrate {
    fn name(&self) -> &'static str {
        "calibrate"
    }

    fn summary(&self) -> &'static str {
        "record the range of every value on the calibration data"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn gives(&self) -> Option<Phase> {
        Some(Phase::Calibrated)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        if cx.calibration.is_empty() && grids::are_complete(&graph) {
            cx.remark("the network states the integers of all its values: no rows are needed");
            return Ok(Graph { phase: Phase::Calibrated, ..graph });
        }
        let inputs = checked_rows(&graph, cx)?;
        let seen = extremes(&graph, &inputs)?;
        let mut biases = Biases::new();
        let chosen = match cx.options.calibration {
            CalibrationMethod::MinMax => seen,
            method => {
                let steps = step_bits(&graph, cx.options);
                let histograms = histograms(&graph, &inputs, &seen, &steps);
                let all = seen.clone();
                let mut chosen = seen;
                let clipped = chosen.par_iter_mut().zip(&histograms).zip(&steps).map(|((ranges, histograms), bits)| {
                    let Some(bits) = bits.filter(|bits| *bits != FULL_BITS) else { return 0 };
                    let mut clipped = 0;
                    for (range, histogram) in ranges.iter_mut().zip(histograms) {
                        let tighter = choose(method, *range, histogram, bits);
                        clipped += u64::from(tighter != *range);
                        *range = tighter;
                    }
                    clipped
                });
                let clipped = clipped.sum::<u64>();
                let (narrower, found) = under_noise(&graph, cx.options, &histograms, &mut chosen, &all);
                cx.count("ranges clipped", clipped + narrower);
                if cx.options.noise_bias {
                    biases = found;
                }
                chosen
            }
        };
        let mut new = Rebuild::new(&graph);
        for (id, value) in graph.iter() {
            let mut value = value.clone();
            value.op = new.remap(&value.op);
            let mut seen = chosen[id.index()].clone();
            if let (Op::Map { chain, .. }, Some(biases)) = (&mut value.op, biases.get(&id)) {
                let summands: Vec<f32> = biases.iter().map(|bias| -bias as f32).collect();
                for ((lo, hi), summand) in seen.iter_mut().zip(&summands) {
                    (*lo, *hi) = (lo.min(*lo + summand), hi.max(*hi + summand));
                }
                let data = Data::F32(Arc::new(Array1::from(summands).into_dyn()));
                chain.push(Func::Add(new.new.push_const(&format!("{}.bias", value.name), data)));
                cx.count("biases of tables", 1);
            }
            value.facts.seen = Some(compact(&seen));
            new.replace(id, value);
        }
        cx.count("rows", inputs.first().map_or(0, |x| x.shape()[0] as u64));
        Ok(new.finish(Phase::Calibrated))
    }
}

/// log2 of the number of steps that each value will be told apart in; `None` where everything seen is kept.
fn step_bits(graph: &Graph, options: &Options) -> Vec<Option<u32>> {
    let of = |(id, value): (Id<Value>, &Value)| match (&value.op, options.rounding) {
        (Op::Input { .. }, _) => Some(options.bits.model_inputs),
        (Op::Map { .. }, _) => Some(options.activation_bits()),
        (_, Rounding::Full) => read_by(graph, id).next().map(|_| FULL_BITS),
        (_, rounding) if !graph.is_output(id) => rounding.bits(),
        _ => None,
    };
    graph.iter().map(of).collect()
}

/// Stands for the steps of what tables read in full, which has its own method.
const FULL_BITS: u32 = u32::MAX;

/// log2 of the noise that domains are chosen for before a budget is found, as a standard deviation on the torus.
pub(crate) const USUAL_NOISE: f64 = -7.5;

/// Maps that read a value.
fn read_by(graph: &Graph, id: Id<Value>) -> impl Iterator<Item = (Id<Value>, &Value)> {
    let reads = move |(_, v): &(Id<Value>, &Value)| matches!(v.op, Op::Map { x, .. } if x == id);
    graph.iter().skip(id.index() + 1).filter(reads)
}

/// Mean error per channel of what each table reads under noise, by its map.
type Biases = HashMap<Id<Value>, Vec<f64>>;

/// Takes the best domains under noise for what tables read in full; gives the number of ranges that became narrower, and
/// the errors that are left on average where a value has one reader.
fn under_noise(
    graph: &Graph,
    options: &Options,
    histograms: &[Vec<Vec<u64>>],
    chosen: &mut [Vec<(f32, f32)>],
    seen: &[Vec<(f32, f32)>],
) -> (u64, Biases) {
    if options.rounding != Rounding::Full {
        return (0, Biases::new());
    }
    let sd = match (options.domain_noise, options.error) {
        (Some(log2_sd), _) | (None, ErrorTarget::Noise(log2_sd)) => log2_sd.exp2(),
        _ => USUAL_NOISE.exp2(),
    };
    let mut biases = Biases::new();
    let mut narrower = 0;
    for ((id, value), ranges) in graph.iter().zip(chosen.iter_mut()) {
        let readers: Vec<_> = read_by(graph, id).collect();
        if readers.is_empty() || matches!(value.op, Op::Map { .. } | Op::Input { .. }) {
            continue;
        }
        let channels = ranges.par_iter_mut().zip(&histograms[id.index()]).zip(&seen[id.index()]).enumerate();
        let found = channels.map(|(channel, ((range, histogram), &(lo, hi)))| {
            // Several tables of one value share a domain: the sum of their functions stands for all.
            let function = |x: f64| -> f64 {
                let of = |(_, map): &(_, &Value)| match &map.op {
                    Op::Map { chain, .. } => func::saturated_chain(chain, x, |c| graph.constant(c).channel(channel)),
                    _ => 0.0,
                };
                readers.iter().map(of).sum()
            };
            if lo >= hi {
                return (0, 0.0);
            }
            let (lo64, hi64) = (f64::from(lo), f64::from(hi));
            let noisy::Best { edges: (first, last), bias } = noisy::best(histogram, lo64, hi64, sd, function);
            let edge = |bin: usize| (lo64 + (hi64 - lo64) * bin as f64 / BINS as f64) as f32;
            *range = (if first == 0 { lo } else { edge(first) }, if last == BINS { hi } else { edge(last) });
            (u64::from((first, last) != (0, BINS)), bias)
        });
        let (counts, errors): (Vec<u64>, Vec<f64>) = found.unzip();
        narrower += counts.iter().sum::<u64>();
        if let [(map, _)] = readers[..] {
            biases.insert(map, errors);
        }
    }
    in_front_of_summands(graph, seen, chosen);
    (narrower, biases)
}

/// A summand in front of a table becomes part of it: what it is added to then has the table's domain, and gets it here.
fn in_front_of_summands(graph: &Graph, seen: &[Vec<(f32, f32)>], chosen: &mut [Vec<(f32, f32)>]) {
    let users = graph.users();
    for (id, value) in graph.iter().rev() {
        let Op::AddClear { x, c } = value.op else { continue };
        if users[x.index()].len() > 1 || graph.is_output(x) || chosen[id.index()] == seen[id.index()] {
            continue;
        }
        let summand = graph.constant(c);
        let of_channel = |(channel, (lo, hi)): (usize, &(f32, f32))| {
            let c = summand.channel(channel) as f32;
            (lo - c, hi - c)
        };
        chosen[x.index()] = chosen[id.index()].iter().enumerate().map(of_channel).collect();
    }
}

fn checked_rows(graph: &Graph, cx: &PassCx<'_>) -> Result<Vec<ArrayD<f32>>, PassError> {
    let no_rows = cx.calibration.first().is_none_or(|x| x.shape().first().is_none_or(|&rows| rows == 0));
    if no_rows {
        let unstated = grids::unstated(graph).filter(|_| grids::state_anything(graph));
        let lacking = unstated.map(|(id, reason)| (Place::new(graph, id), reason));
        return Err(PassError::NoCalibration { pass: "calibrate", lacking });
    }
    client::check_inputs(graph, cx.calibration).map_err(|source| PassError::BadCalibration { source })
}

/// What is known of one channel of one value; cores add to it one after another.
fn per_channel<T: Clone>(value: &Value, empty: &T) -> Vec<Mutex<T>> {
    (0..value.channels()).map(|_| Mutex::new(empty.clone())).collect()
}

fn known<T>(channel: Mutex<T>) -> T {
    channel.into_inner().expect("observers do not panic")
}

/// Smallest and greatest number per channel of every value.
fn extremes(graph: &Graph, inputs: &[ArrayD<f32>]) -> Result<Vec<Vec<(f32, f32)>>, PassError> {
    let empty = (f32::INFINITY, f32::NEG_INFINITY, None);
    let seen: Vec<_> = graph.values.iter().map(|v| per_channel(v, &empty)).collect();
    float_observe(graph, inputs, |id, x, split| {
        see_planes(x, split, |channel, elements| {
            let mut bad = None;
            let (mut lo, mut hi) = (f32::INFINITY, f32::NEG_INFINITY);
            for &e in elements {
                (lo, hi) = (lo.min(e), hi.max(e));
                if !e.is_finite() {
                    bad = Some(e);
                }
            }
            let mut all = seen[id.index()][channel].lock().expect("observers do not panic");
            *all = (all.0.min(lo), all.1.max(hi), all.2.or(bad));
        });
    });
    let of_value = |((id, _), seen): ((Id<Value>, &Value), Vec<Mutex<_>>)| {
        let of_channel = |(lo, hi, bad)| match bad {
            Some(got) => Err(PassError::NotFinite { place: Place::new(graph, id), got }),
            None => Ok((lo, hi)),
        };
        seen.into_iter().map(known).map(of_channel).collect()
    };
    graph.iter().zip(seen).map(of_value).collect()
}

/// Counts per channel and bin for the values that have steps.
fn histograms(
    graph: &Graph,
    inputs: &[ArrayD<f32>],
    seen: &[Vec<(f32, f32)>],
    steps: &[Option<u32>],
) -> Vec<Vec<Vec<u64>>> {
    let of_value = |(v, steps): (&Value, &Option<u32>)| {
        if steps.is_some() { per_channel(v, &vec![0u64; BINS]) } else { vec![] }
    };
    let bins: Vec<_> = graph.values.iter().zip(steps).map(of_value).collect();
    float_observe(graph, inputs, |id, x, split| {
        if steps[id.index()].is_none() {
            return;
        }
        see_planes(x, split, |channel, elements| {
            let (lo, hi) = seen[id.index()][channel];
            let (lo, per_unit) = (f64::from(lo), BINS as f64 / (f64::from(hi) - f64::from(lo)));
            let mut bins = bins[id.index()][channel].lock().expect("observers do not panic");
            for &e in elements {
                // A range of one point gives NaN, which the cast turns into bin 0.
                bins[(((f64::from(e) - lo) * per_unit) as usize).min(BINS - 1)] += 1;
            }
        });
    });
    bins.into_iter().map(|channels| channels.into_iter().map(known).collect()).collect()
}

/// The range that `method` takes of a histogram over `(lo, hi)`.
fn choose(method: CalibrationMethod, (lo, hi): (f32, f32), histogram: &[u64], bits: u32) -> (f32, f32) {
    let total: u64 = histogram.iter().sum();
    if lo >= hi || total == 0 {
        return (lo, hi);
    }
    let (lo64, width) = (f64::from(lo), f64::from(hi) - f64::from(lo));
    let edge = |bin: usize| lo64 + width * bin as f64 / BINS as f64;
    let (first, last) = match method {
        CalibrationMethod::MinMax => return (lo, hi),
        CalibrationMethod::Percentile(percent) => {
            let outside = ((1.0 - percent / 100.0) / 2.0 * total as f64) as u64;
            let cut = |counts: &mut dyn Iterator<Item = &u64>| {
                let mut sum = 0;
                counts
                    .take_while(|c| {
                        sum += **c;
                        sum <= outside
                    })
                    .count()
            };
            (cut(&mut histogram.iter()), BINS - cut(&mut histogram.iter().rev()))
        }
        CalibrationMethod::Mse => mse_bins(histogram, edge(0), edge(BINS), bits),
    };
    if first >= last {
        return (lo, hi);
    }
    let left = if first == 0 { lo } else { edge(first) as f32 };
    let right = if last == BINS { hi } else { edge(last) as f32 };
    (left, right)
}

/// First and last bin edge of the range with the smallest mean square error: each end is tried in turn, twice.
fn mse_bins(histogram: &[u64], lo: f64, hi: f64, bits: u32) -> (usize, usize) {
    let bin = (hi - lo) / BINS as f64;
    let steps = (1u64 << bits) - 1;
    let error = |first: usize, last: usize| {
        let step = (last - first) as f64 * bin / steps as f64;
        let mut sum = 0.0;
        for (i, &count) in histogram.iter().enumerate().filter(|(_, c)| **c > 0) {
            let clipped = if i < first {
                (first - i) as f64 - 0.5
            } else if i >= last {
                (i - last) as f64 + 0.5
            } else {
                0.0
            } * bin;
            sum += count as f64 * if clipped > 0.0 { clipped * clipped } else { step * step / 12.0 };
        }
        sum
    };
    let (mut first, mut last) = (0, BINS);
    let candidates = |from: usize, to: usize| (from..=to).step_by(BINS / 128);
    for _ in 0..2 {
        let best = candidates(first + BINS / 128, BINS).min_by(|&a, &b| error(first, a).total_cmp(&error(first, b)));
        last = best.unwrap_or(last);
        let best = candidates(0, last - BINS / 128).min_by(|&a, &b| error(a, last).total_cmp(&error(b, last)));
        first = best.unwrap_or(first);
    }
    (first, last)
}

/// One entry when all channels agree.
fn compact(ranges: &[(f32, f32)]) -> Vec<(f32, f32)> {
    if ranges.windows(2).all(|w| w[0] == w[1]) { ranges[..1].to_vec() } else { ranges.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mse_clips_a_lonely_outlier_and_keeps_a_full_range() {
        let mut outlier = vec![0; BINS];
        outlier[..100].fill(1000);
        outlier[BINS - 1] = 1;
        let (lo, hi) = choose(CalibrationMethod::Mse, (0.0, 1024.0), &outlier, 4);
        assert!(lo < 20.0 && (90.0..200.0).contains(&hi), "{lo} {hi}");
        let flat = vec![10; BINS];
        let (lo, hi) = choose(CalibrationMethod::Mse, (-1.0, 1.0), &flat, 6);
        assert!(lo < -0.95 && hi > 0.95, "{lo} {hi}");
    }

    #[test]
    fn a_percentile_cuts_both_ends_evenly() {
        let flat = vec![10; BINS];
        let (lo, hi) = choose(CalibrationMethod::Percentile(90.0), (0.0, 1.0), &flat, 6);
        assert!((lo - 0.05).abs() < 0.002 && (hi - 0.95).abs() < 0.002, "{lo} {hi}");
    }
}
