//! What an integer map computes, apart from its operand.

use fhe_ir::func::{self, quantize};
use fhe_ir::{Const, Func, Id, Interval};

use super::language::ScaleId;

/// `clamp(round(chain(s_x·(x + shift))/scale), to)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Function {
    /// Integers added first, one or one per channel.
    pub(super) shift: Vec<i64>,
    /// Functions of real numbers, first applied first.
    pub(super) chain: Vec<Func>,
    /// Integers that come out.
    pub(super) to: Interval,
    /// Scale of what comes out.
    pub(super) scale: ScaleId,
    /// Rules that made it out of functions of the network, first applied first.
    pub(super) made_by: Vec<&'static str>,
}

impl Function {
    /// The result at the integer `x` of a channel, with the same arithmetic as the integer evaluator.
    pub(super) fn apply(
        &self,
        operand_scale: f64,
        scale: f64,
        channel: usize,
        x: i64,
        entry: impl Fn(Id<Const>) -> f64,
    ) -> i64 {
        let real = operand_scale * (x as f64 + self.shift_at(channel) as f64);
        let real = func::saturated_chain(&self.chain, real, entry);
        quantize(real / scale, self.to)
    }

    pub(super) fn shift_at(&self, channel: usize) -> i64 {
        self.shift[if self.shift.len() == 1 { 0 } else { channel }]
    }

    /// The same function made by one more rule.
    pub(super) fn by(mut self, rule: &'static str) -> Self {
        self.made_by.push(rule);
        self
    }
}
