//! round-accumulators: decides which integers each table covers and how finely it reads them.
//!
//! The domain of a table is the calibrated range of its operand with its margin, cut at the proven one (or the proven
//! one, with `--ranges worst-case`). An accumulator wider than `2^p` integers is read in `2^p` equal boxes: its low
//! bits fall into the noise, which costs nothing. For exact rounding its domain is widened to a power of two, so that a
//! box is one of low bits, which `round-exactly` removes. Outputs are read at the resolution of `model_outputs`.

use fhe_ir::verify::{MAX_BOXES, MAX_WIDTH};
use fhe_ir::{Domain, Graph, Id, Interval, Op, Phase, Read, Rebuild, Value};

use crate::options::{Options, Ranges, Rounding};
use crate::pass::{Pass, PassCx, PassError, Place};

/// See the module.
pub struct RoundAccumulators;

impl Pass for RoundAccumulators {
    fn name(&self) -> &'static str {
        "round-accumulators"
    }

    fn summary(&self) -> &'static str {
        "choose the domain and the resolution of every table and output"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Ranged, Phase::Ranged)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut new = Rebuild::new(&graph);
        for (id, value) in graph.iter() {
            let mut value = Value { op: new.remap(&value.op), ..value.clone() };
            if let (Op::Map { x: operand, .. }, Op::Map { resolution, .. }) = (&graph.value(id).op, &mut value.op) {
                let (domain, read) = resolve(&graph, *operand, read_of(&value.name, cx.options), cx)?;
                let rounded = read.boxes(domain.width) < domain.width;
                let exactly = rounded && matches!(cx.options.rounding, Rounding::Exact(_));
                *resolution = Some((if exactly { dyadic(domain) } else { domain }, read));
            }
            new.replace(id, value);
        }
        let mut outputs = graph.outputs.clone();
        for output in &mut outputs {
            let read = match cx.options.rounding {
                Rounding::Off => Read::Exact,
                Rounding::Approximate(_) | Rounding::Exact(_) => Read::Approximate(cx.options.bits.model_outputs),
                Rounding::Full => Read::Full,
            };
            let (domain, read) = resolve(&graph, output.value, read, cx)?;
            (output.domain, output.read) = (Some(domain), Some(read));
            output.value = new.get(output.value);
        }
        Ok(new.finish_with_outputs(Phase::Ranged, outputs))
    }
}

/// How finely the table of a map reads.
fn read_of(map: &str, options: &Options) -> Read {
    match options.rounding {
        Rounding::Off => Read::Exact,
        Rounding::Approximate(p) | Rounding::Exact(p) => {
            Read::Approximate(options.coarser.get(map).map_or(p, |bits| p.min(*bits)))
        }
        Rounding::Full => Read::Full,
    }
}

fn resolve(graph: &Graph, x: Id<Value>, read: Read, cx: &mut PassCx<'_>) -> Result<(Domain, Read), PassError> {
    let value = graph.value(x);
    if cx.options.ranges == Ranges::WorstCase && value.facts.seen.is_some() {
        let calibrated = Options { ranges: Ranges::Calibrated, ..cx.options.clone() };
        cx.notes.calibrated.insert(value.name.clone(), domain(value, &calibrated));
    }
    let domain = domain(value, cx.options);
    let boxes = read.boxes(domain.width);
    let too_wide = |reason| PassError::AccumulatorTooWide { place: Place::new(graph, x), reason };
    if domain.width > MAX_WIDTH {
        return Err(too_wide(format!("it has {} integers to be read, the limit is {MAX_WIDTH}", domain.width)));
    }
    if boxes > MAX_BOXES {
        return Err(too_wide(format!(
            "a table for {} integers has {boxes} boxes, the limit is {MAX_BOXES}",
            domain.width
        )));
    }
    if boxes < domain.width {
        cx.count("rounded", 1);
    }
    Ok((domain, read))
}

/// The domain in the middle of one whose width is the next power of two: the table has entries of its own where the
/// narrower one would saturate.
fn dyadic(domain: Domain) -> Domain {
    // At most 2^40, the widest domain there is.
    let width = domain.width.next_power_of_two();
    let before = ((width - domain.width) / 2) as i64;
    Domain { lo: domain.lo.iter().map(|lo| lo - before).collect(), width }
}

/// Integers that a table over `value` covers, per channel.
pub fn domain(value: &Value, options: &Options) -> Domain {
    let proven = |c| value.channel_interval(c).expect("verified: ranged values have intervals");
    let of_channel = |c: usize| match (&value.facts.seen, value.channel_scale(c), options.ranges) {
        (Some(seen), Some(scale), Ranges::Calibrated) => {
            let (lo, hi) = seen[if seen.len() == 1 { 0 } else { c }];
            let (lo, hi) = (f64::from(lo) / f64::from(scale), f64::from(hi) / f64::from(scale));
            let margin = (hi - lo) * options.domain_margin.unwrap_or(options.range_margin) / 2.0;
            let limit = Interval::LIMIT as f64;
            let (lo, hi) = ((lo - margin).floor().clamp(-limit, limit), (hi + margin).ceil().clamp(-limit, limit));
            // Both are whole numbers within the limit: the casts are exact.
            let calibrated = Interval { lo: lo as i64, hi: hi as i64 };
            let nearest = || Interval::point(proven(c).clamp(calibrated.lo));
            proven(c).intersect(calibrated).unwrap_or_else(nearest)
        }
        _ => proven(c),
    };
    let intervals: Vec<_> = (0..value.channels()).map(of_channel).collect();
    let uniform = intervals.windows(2).all(|w| w[0] == w[1]);
    Domain::around(if uniform { &intervals[..1] } else { &intervals })
}
