//! What rounding the weights takes on average goes into a bias.

use fhe_ir::{Const, Id, Op, Value, func, ranges};
use ndarray::{ArrayD, Axis};

use super::{Quantizer, WIDEST, weights};
use crate::layers::response;

impl Quantizer<'_, '_, '_> {
    /// What rounding the weights takes from each output channel on average, as a real number: the error of the weights
    /// times the mean of the operand on the calibration rows (bias correction, Nagel et al., ICCV 2019). Without rows it is
    /// known for operands that never come near zero: such an operand is its middle and a small rest. `still` is what
    /// channels that never move add, as a real number; `operand` is the layer's in the old graph and in the new.
    pub(super) fn lost_offset(
        &self,
        operand: [Id<Value>; 2],
        real: &ArrayD<f64>,
        quantized: &weights::Quantized,
        still: &[f64],
        old: &Value,
    ) -> Vec<f64> {
        let outs = real.shape()[0];
        let (groups, padded) = match &old.op {
            Op::Conv { geometry, .. } => (geometry.groups, geometry.pads != [0; 4]),
            _ => (1, false),
        };
        let middles = match &self.observed.means[operand[0].index()] {
            Some(means) => {
                let scales = self.scales(operand[1]);
                means.iter().zip(&scales).map(|(mean, scale)| mean / f64::from(*scale)).collect()
            }
            // Padding is zero, not the middle.
            None if padded => return vec![0.0; outs],
            None => self.far_middles(operand[1]),
        };
        let per_group = real.shape()[1];
        let lost = |o: usize| -> f64 {
            let first = o / (outs / groups) * per_group;
            let (real, integer) = (real.index_axis(Axis(0), o), quantized.weights.index_axis(Axis(0), o));
            let taps = real.axis_iter(Axis(0)).zip(integer.axis_iter(Axis(0))).enumerate();
            taps.map(|(i, (real, integer))| {
                let error: f64 = real.iter().zip(&integer).map(|(r, q)| r / quantized.scale[o] - *q as f64).sum();
                error * middles[first + i]
            })
            .sum()
        };
        (0..outs).map(|o| lost(o) * quantized.scale[o] + still[o]).collect()
    }

    /// What each output channel misses because the summand in front of the layer was rounded to the grid of what it is
    /// added to, as a real number. (Pads are zeros without the summand: there it is too much, by half a step at most.)
    pub(super) fn rounded_off(&self, x: Id<Value>, w: Id<Const>, groups: usize) -> Vec<f64> {
        let value = self.graph.value(x);
        let Op::AddClear { x: from, c } = value.op else { return vec![0.0; self.graph.weights(w).shape()[0]] };
        let (summand, scales) = (self.graph.constant(c), self.scales(self.new.get(from)));
        let rest = |channel: usize| {
            let (real, scale) = (summand.channel(channel), f64::from(scales[channel]));
            real - scale * func::quantize(real / scale, WIDEST) as f64
        };
        response(&self.graph.weights(w), &(0..value.channels()).map(rest).collect::<Vec<_>>(), groups)
    }

    /// The integer of an input channel or map channel that has one alone, other than 0.
    pub(super) fn point(&self, id: Id<Value>, channel: usize) -> Option<i64> {
        let value = self.new.new.value(id);
        let interval =
            value.channel_interval(channel).filter(|_| matches!(value.op, Op::Input { .. } | Op::Map { .. }));
        interval.filter(|i| i.lo == i.hi && i.lo != 0).map(|i| i.lo)
    }

    /// Per channel the middle of an interval that does not reach zero, else 0.
    fn far_middles(&self, id: Id<Value>) -> Vec<f64> {
        let value = self.new.new.value(id);
        match &value.op {
            Op::Input { .. } | Op::Map { .. } => (0..value.channels())
                .map(|c| match value.channel_interval(c) {
                    Some(i) if !i.contains(0) => (i.lo + i.hi) as f64 / 2.0,
                    _ => 0.0,
                })
                .collect(),
            Op::Reshape { x } => {
                let from = self.far_middles(*x);
                let operand = self.new.new.value(*x);
                let mean = |c: usize| {
                    let group = ranges::channels_of_reshape(operand, &value.shape, c);
                    let count = (group.end() - group.start() + 1) as f64;
                    group.map(|i| from[i]).sum::<f64>() / count
                };
                (0..value.channels()).map(mean).collect()
            }
            _ => vec![0.0; value.channels()],
        }
    }
}
