//! Which integers a value gets for the range it was seen in, and the tables that only bring a value to others.

use std::sync::Arc;

use fhe_ir::{Const, Data, Elem, Facts, Func, Id, Interval, Op, Value, func, ranges};
use ndarray::{Array1, Axis};

use super::{Quantizer, WIDEST, compact};
use crate::grids;

/// Smallest scale of a channel that never moved, so that weights on a zero become zeros.
const STILL: f64 = 1e-6;

/// The integers that the range seen of each channel has at the given scales.
pub(super) fn integers_seen(value: &Value, scales: &[f32]) -> Vec<Interval> {
    let seen = value.facts.seen.as_deref().unwrap_or(&[(-1.0, 1.0)]);
    let channel = |c: usize| {
        let (lo, hi) = seen[if seen.len() == 1 { 0 } else { c }];
        let bound = |x: f32| func::quantize(f64::from(x) / f64::from(scales[c]), WIDEST);
        Interval { lo: bound(lo), hi: bound(hi) }
    };
    (0..value.channels()).map(channel).collect()
}

/// Bits from which on results of tables have the margin that tables themselves have: they saturate for good, and steps
/// are plenty. Below, a finer step is worth more than the numbers that calibration rows did not show.
const PLENTY: u32 = 7;

impl Quantizer<'_, '_, '_> {
    /// A table that only requantizes, at the width of activations over the calibrated range of `real`.
    pub(super) fn requantize(&mut self, x: Id<Value>, real: &Value) -> Id<Value> {
        let (ranges, scale) = self.grid(real, self.cx.options.activation_bits(), f64::INFINITY);
        self.requantizing_map(x, &ranges, scale)
    }

    pub(super) fn requantize_to(&mut self, x: Id<Value>, scales: &[f32]) -> Id<Value> {
        let to = integers_seen(self.new.new.value(x), scales);
        self.requantizing_map(x, &to, scales.to_vec())
    }

    /// One scale for all channels, so that they can mix.
    pub(super) fn requantize_uniform(&mut self, x: Id<Value>) -> Id<Value> {
        let scales = self.scales(x);
        let largest = scales.iter().copied().fold(0.0, f32::max);
        self.requantize_to(x, &vec![largest; scales.len()])
    }

    /// The table from `x` to those integers and scales; readers that want the same one share it.
    fn requantizing_map(&mut self, x: Id<Value>, to: &[Interval], scales: Vec<f32>) -> Id<Value> {
        let scales = compact(scales);
        let elem = Elem::Int(ranges::hull(to).expect("verified: axes are not empty"));
        let known = self.requantized.iter().filter(|(from, _)| *from == x).map(|(_, id)| *id);
        // Equal scales are equal grids: both follow from the range seen.
        let same = |id: &Id<Value>| {
            let value = self.new.new.value(*id);
            value.facts.scale.as_ref() == Some(&scales) && value.elem == elem
        };
        if let Some(id) = known.into_iter().find(same) {
            return id;
        }
        self.cx.count("requantizing tables", 1);
        let value = self.new.new.value(x).clone();
        let name = format!("{}.requant", value.name);
        let mut chain = vec![];
        self.clip(&mut chain, to, &scales, &name);
        let facts = Facts { scale: Some(scales), range: None, ..value.facts };
        let op = Op::Map { x, shift: None, chain, resolution: None };
        let id = self.push(Value { name, op, elem, facts, ..value }, false);
        self.requantized.push((x, id));
        id
    }

    /// The weights of a layer on the grid of its operand `x`: as they are, or times the whole multiples of one step that
    /// the steps of the channels are.
    pub(super) fn exact_weights(&mut self, x: Id<Value>, w: Id<Const>) -> Id<Const> {
        let constant = self.graph.constant(w);
        let (Data::Int(weights), Some(grid)) = (&constant.data, &self.grids[x.index()]) else { return w };
        let per_group = weights.shape()[1];
        let multiples: Vec<Vec<i64>> =
            grid.scale.chunks(per_group).filter_map(grids::common).map(|(_, multiples)| multiples).collect();
        if multiples.iter().flatten().all(|m| *m == 1) {
            return w;
        }
        let outs = weights.shape()[0] / multiples.len();
        let mut weights = (**weights).clone();
        for (o, mut channel) in weights.axis_iter_mut(Axis(0)).enumerate() {
            for (mut taps, m) in channel.axis_iter_mut(Axis(0)).zip(&multiples[o / outs]) {
                taps.mapv_inplace(|w| w.saturating_mul(*m));
            }
        }
        self.new.new.push_const(&format!("{}.m", constant.name), Data::Int(Arc::new(weights)))
    }

    /// The hull of the channels' integers. A map saturates at the ends of its type, which is one for all channels: where
    /// a channel's own end lies inside, the chain saturates there.
    pub(super) fn clip(&mut self, chain: &mut Vec<Func>, to: &[Interval], scales: &[f32], name: &str) -> Interval {
        let hull = ranges::hull(to).expect("verified: axes are not empty");
        let lo = (to.iter().map(|i| i.lo).collect::<Vec<_>>(), hull.lo, Func::Clip(0.0, f32::INFINITY), "lo");
        let hi = (to.iter().map(|i| i.hi).collect::<Vec<_>>(), hull.hi, Func::Clip(f32::NEG_INFINITY, 0.0), "hi");
        for (ends, end, half, side) in [lo, hi] {
            if ends.iter().any(|e| *e != end) {
                let scale = |c: usize| f64::from(scales[if scales.len() == 1 { 0 } else { c }]);
                let reals: Vec<f32> = ends.iter().enumerate().map(|(c, e)| (*e as f64 * scale(c)) as f32).collect();
                let negated = reals.iter().map(|e| 0.0 - e).collect();
                // max(x, e) == relu(x - e) + e, and the same for the least
                let minus = self.new.new.push_const(&format!("{name}.{side}.neg"), list(negated));
                let plus = self.new.new.push_const(&format!("{name}.{side}"), list(reals));
                chain.extend([Func::Add(minus), half, Func::Add(plus)]);
            }
        }
        hull
    }

    /// The range seen with the margin for rows that were not: at each end but 0, within what the last function can give.
    fn widened(&self, value: &Value, (lo, hi): (f32, f32), bits: u32) -> (f64, f64) {
        let (lo, hi) = (f64::from(lo), f64::from(hi));
        let (Op::Map { chain, .. }, true) = (&value.op, bits >= PLENTY) else { return (lo, hi) };
        let margin = self.cx.options.range_margin / 2.0 * (hi - lo);
        let (least, most) = match chain.last() {
            Some(Func::Clip(least, most)) => (f64::from(*least), f64::from(*most)),
            Some(Func::Sigmoid) => (0.0, 1.0),
            Some(Func::Tanh | Func::Erf | Func::Softsign | Func::Sin | Func::Cos) => (-1.0, 1.0),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let below = if lo < 0.0 { (lo - margin).max(least).min(lo) } else { lo };
        let above = if hi > 0.0 { (hi + margin).min(most).max(hi) } else { hi };
        (below, above)
    }

    /// Integers and scale per channel that cover the calibrated range of a value in `2^bits` steps; no scale is more
    /// than `finest` times finer than the coarsest. A channel that never moved is one integer, at most 1 in magnitude,
    /// which readers then weigh like a bias.
    pub(super) fn grid(&self, value: &Value, bits: u32, finest: f64) -> (Vec<Interval>, Vec<f32>) {
        let steps = ((1u64 << bits) - 1) as f64;
        let seen = value.facts.seen.as_deref().unwrap_or(&[(-1.0, 1.0)]);
        let ends = |c: usize| self.widened(value, seen[if seen.len() == 1 { 0 } else { c }], bits);
        let coarsest = (0..value.channels()).map(|c| (ends(c).1 - ends(c).0) / steps).fold(0.0, f64::max);
        let channel = |c: usize| {
            let (lo, hi) = ends(c);
            let step = if lo < hi { (hi - lo) / steps } else { hi.abs().max(STILL) };
            let scale = (step.max(coarsest / finest) as f32).max(f32::MIN_POSITIVE);
            let end = |x: f64| func::quantize(x / f64::from(scale), WIDEST);
            let fills = lo < hi && step >= coarsest / finest;
            (Interval { lo: end(lo), hi: if fills { end(lo) + steps as i64 } else { end(hi) } }, scale)
        };
        let (ranges, scales): (Vec<_>, Vec<_>) = (0..value.channels()).map(channel).unzip();
        (ranges, compact(scales))
    }
}

fn list(entries: Vec<f32>) -> Data {
    Data::F32(Arc::new(Array1::from(entries).into_dyn()))
}
