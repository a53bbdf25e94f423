//! quantize: integers with scales in place of real numbers.
//!
//! Inputs and results of maps get the integers that cover their calibrated range; weights get a scale per output
//! channel, after the scales of the input channels have been folded into them; accumulators follow from both. There
//! are no zero points: a value is `scale·integer`, and the integers of a value may be any interval.
//!
//! Adds want one scale on both sides. Where one side is a convolution or a dense layer, its weight scale is chosen so
//! that the other side enters with an integer factor, which costs no table; otherwise the finer side gets one
//! requantizing table.
//!
//! What the network quantizes itself is law: the steps of its quantizers, its exact integer weights, integers its client
//! sends. Such values are taken over as they are, and two of them are added by integer factors of both.

mod compensate;
mod grid;
mod means;
mod moments;
mod offset;
mod weights;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fhe_ir::{Data, Elem, Facts, Func, Graph, Id, Interval, Op, Output, Phase, Rebuild, Value, func, ranges};
use ndarray::{Array1, Axis};

use crate::grids::{self, Grid, Shared};
use crate::options::Rounding;
use crate::pass::{Pass, PassCx, PassError, Place};

/// See the module.
pub struct Quantize;

impl Pass for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn summary(&self) -> &'static str {
        "replace real numbers by integers with scales"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Calibrated, Phase::Calibrated)
    }

    fn gives(&self) -> Option<Phase> {
        Some(Phase::Quantized)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let order = weighted_last(&graph);
        let matched = matched_adds(&graph, &order);
        let summed = summed(&graph);
        let mut quantizer = Quantizer {
            graph: &graph,
            new: Rebuild::new(&graph),
            matched,
            summed,
            last: behind_tables(&graph),
            worst_case: grids::are_complete(&graph) && cx.options.rounding == Rounding::Off,
            grids: grids::of(&graph),
            observed: means::of(&graph, cx.calibration),
            weighted: vec![],
            requantized: vec![],
            cx,
        };
        for id in order {
            let new = quantizer.value(id, graph.value(id))?;
            quantizer.new.place(id, new);
        }
        quantizer.finish()
    }
}

/// A topological order that puts a weighted op off until nothing else is ready, so that the other branch of an add has
/// its scale when the last weighted op of this one chooses its own.
fn weighted_last(graph: &Graph) -> Vec<Id<Value>> {
    let users = graph.users();
    let mut missing: Vec<usize> = graph.values.iter().map(|v| v.op.operands().len()).collect();
    let rank = |id: Id<Value>| (matches!(graph.value(id).op, Op::Dot { .. } | Op::Conv { .. }), id);
    let mut ready: BTreeSet<_> = graph.inputs().into_iter().map(rank).collect();
    let mut order = vec![];
    while let Some((_, id)) = ready.pop_first() {
        order.push(id);
        for user in &users[id.index()] {
            missing[user.index()] -= 1;
            if missing[user.index()] == 0 {
                ready.insert(rank(*user));
            }
        }
    }
    order
}

/// For each value: whether an add reads it, directly or through ops that only move elements.
fn summed(graph: &Graph) -> Vec<bool> {
    let mut summed = vec![false; graph.values.len()];
    for (id, value) in graph.iter().rev() {
        let passes_on = match value.op {
            Op::Add { .. } | Op::Sub { .. } => true,
            Op::Concat { .. }
            | Op::Gather { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Neg { .. } => summed[id.index()],
            _ => false,
        };
        if passes_on {
            value.op.operands().iter().for_each(|o| summed[o.index()] = true);
        }
    }
    summed
}

/// For each value: whether no table stands between it and an output.
fn behind_tables(graph: &Graph) -> Vec<bool> {
    let mut behind = vec![false; graph.values.len()];
    for (id, value) in graph.iter().rev() {
        behind[id.index()] |= graph.is_output(id);
        if behind[id.index()] && !matches!(value.op, Op::Map { .. }) {
            value.op.operands().iter().for_each(|o| behind[o.index()] = true);
        }
    }
    behind
}

/// In front of an add the scales of the channels differ by this factor at most: a channel that hardly moves would
/// otherwise force its fine scale on the other branch.
const SUMMED_SCALES: f64 = 32.0;

/// What a weighted op in front of an add has to fit.
#[derive(Clone, Copy)]
struct Match {
    /// The other operand, or a value in front of it with the same scale.
    other: Id<Value>,
    /// The add.
    sum: Id<Value>,
}

/// The weighted ops whose scale follows another value: an add of two branches, at least one of which ends in a weighted
/// op read by nobody else. The weighted op that comes later in `order` takes the scale of the other branch.
fn matched_adds(graph: &Graph, order: &[Id<Value>]) -> HashMap<Id<Value>, Match> {
    let users = graph.users();
    let mut position = vec![0; graph.values.len()];
    order.iter().enumerate().for_each(|(at, id)| position[id.index()] = at);
    let later = |a: Id<Value>, b: Id<Value>| position[a.index()] > position[b.index()];
    let weighted_end = |mut id: Id<Value>| loop {
        let value = graph.value(id);
        if users[id.index()].len() != 1 || graph.is_output(id) {
            return None;
        }
        match value.op {
            Op::AddClear { x, .. } => id = x,
            Op::Dot { .. } | Op::Conv { .. } => return Some(id),
            _ => return None,
        }
    };
    let mut matched = HashMap::new();
    for (sum, value) in graph.iter() {
        if let Op::Add { a, b } | Op::Sub { a, b } = value.op {
            let (own, other) = match (weighted_end(a), weighted_end(b)) {
                (Some(wa), Some(wb)) if later(wa, wb) => (wa, wb),
                (Some(wa), Some(wb)) => (wb, wa),
                (None, Some(wb)) if later(wb, a) => (wb, a),
                (Some(wa), None) if later(wa, b) => (wa, b),
                _ => continue,
            };
            matched.insert(own, Match { other, sum });
        }
    }
    matched
}

struct Quantizer<'g, 'cx, 'o> {
    graph: &'g Graph,
    new: Rebuild<'g>,
    matched: HashMap<Id<Value>, Match>,
    /// For each old value: whether an add reads it, directly or through ops that only move elements.
    summed: Vec<bool>,
    /// For each old value: whether no table stands between it and an output.
    last: Vec<bool>,
    /// Whether an integer network is to be reproduced exactly: no range seen narrows a proven one.
    worst_case: bool,
    /// For each old value: the integers that the network itself gives it.
    grids: Vec<Option<Grid>>,
    /// What calibration rows show of the operands of layers.
    observed: means::Observed,
    /// For each new value: whether a weighted op has been applied since the last table or input.
    weighted: Vec<bool>,
    /// Values of the new graph and their requantizing tables.
    requantized: Vec<(Id<Value>, Id<Value>)>,
    cx: &'cx mut PassCx<'o>,
}

impl Quantizer<'_, '_, '_> {
    /// Quantizes one value; its operands have been placed.
    fn value(&mut self, id: Id<Value>, old: &Value) -> Result<Id<Value>, PassError> {
        let no_form =
            |reason: &str| PassError::NoIntegerForm { place: Place::new(self.graph, id), reason: reason.into() };
        match &old.op {
            Op::Input { .. } => {
                let (ranges, scale) = match self.stated(id) {
                    Some((ranges, scales)) => (ranges, compact(scales)),
                    None => {
                        self.seen(id)?;
                        self.grid(old, self.cx.options.bits.model_inputs, f64::INFINITY)
                    }
                };
                let hull = ranges::hull(&ranges).expect("verified: axes are not empty");
                let uniform = ranges.windows(2).all(|w| w[0] == w[1]);
                let range = (!uniform).then_some(ranges);
                let facts = Facts { scale: Some(scale), range, ..old.facts.clone() };
                Ok(self.push(Value { elem: Elem::Int(hull), facts, ..old.clone() }, false))
            }
            Op::Map { x, chain, .. } => {
                if let Some((ranges, scales)) = self.stated(id) {
                    self.cx.count("grids taken over", 1);
                    let hull = ranges::hull(&ranges).expect("verified: axes are not empty");
                    let op = Op::Map { x: self.new.get(*x), shift: None, chain: chain.clone(), resolution: None };
                    let facts = Facts { scale: Some(compact(scales)), ..old.facts.clone() };
                    return Ok(self.push(Value { op, elem: Elem::Int(hull), facts, ..old.clone() }, false));
                }
                self.seen(id)?;
                if let Some(scales) = self.scales_of_maximum(id, *x) {
                    let chain = chain.clone();
                    return Ok(self.map_to(id, self.new.get(*x), chain, scales));
                }
                let finest = if self.summed[id.index()] { SUMMED_SCALES } else { f64::INFINITY };
                let (ranges, scale) = self.grid(old, self.cx.options.activation_bits(), finest);
                if let Some(partner) = self.partner(id) {
                    let (_, other) = self.grid(partner, self.cx.options.activation_bits(), finest);
                    let at = |scales: &[f32], c: usize| scales[if scales.len() == 1 { 0 } else { c }];
                    let scales = (0..old.channels()).map(|c| at(&scale, c).max(at(&other, c))).collect();
                    return Ok(self.map_to(id, self.new.get(*x), chain.clone(), scales));
                }
                let mut chain = chain.clone();
                let hull = self.clip(&mut chain, &ranges, &scale, &old.name);
                let op = Op::Map { x: self.new.get(*x), shift: None, chain, resolution: None };
                let facts = Facts { scale: Some(scale), ..old.facts.clone() };
                Ok(self.push(Value { op, elem: Elem::Int(hull), facts, ..old.clone() }, false))
            }
            Op::Dot { x, w } | Op::Conv { x, w, .. } => match &self.grids[id.index()] {
                Some(grid) => {
                    let scales = grid.scale.clone();
                    let exact = self.exact_weights(*x, *w);
                    let op = old.op.clone().with_operands(|x| self.new.get(x)).with_constants(|_| exact);
                    self.cx.count("exact weights", self.graph.constant(*w).data.len() as u64);
                    let id = self.follow(old, op, scales);
                    self.weighted[id.index()] = true;
                    Ok(id)
                }
                None => self.weighted_op(id, old, *x, *w),
            },
            Op::AddClear { x, c } => {
                let x = self.new.get(*x);
                let scales = self.scales(x);
                let c = self.integer_constant(*c, &scales, &format!("{}.b", old.name));
                Ok(self.follow(old, Op::AddClear { x, c }, scales))
            }
            Op::MulClear { x, c } => {
                let x = self.new.get(*x);
                let factors: Vec<f64> = (0..old.channels()).map(|ch| self.graph.constant(*c).channel(ch)).collect();
                let scales: Vec<f32> = self
                    .scales(x)
                    .iter()
                    .zip(&factors)
                    .map(
                        |(s, f)| if *f == 0.0 { *s } else { ((f64::from(*s) * f.abs()) as f32).max(f32::MIN_POSITIVE) },
                    )
                    .collect();
                // NaN was refused by calibration: every factor has a sign.
                let signs = factors.iter().map(|f| if *f == 0.0 { 0 } else { f.signum() as i64 });
                let c = self.new.new.push_const(&format!("{}.sign", old.name), ints(signs.collect()));
                Ok(self.follow(old, Op::MulClear { x, c }, scales))
            }
            Op::Add { a, b } | Op::Sub { a, b } => {
                let stated = self.grids[a.index()].is_some() && self.grids[b.index()].is_some();
                let (a, b) = (self.new.get(*a), self.new.get(*b));
                let (a, b, scales) = if stated { self.share(id, a, b) } else { self.align(a, b) };
                let op = if matches!(old.op, Op::Add { .. }) { Op::Add { a, b } } else { Op::Sub { a, b } };
                Ok(self.follow(old, op, scales))
            }
            Op::AvgPool { x, geometry } | Op::SumPool { x, geometry } => {
                let x = self.new.get(*x);
                let area = if matches!(old.op, Op::AvgPool { .. }) { geometry.area() } else { 1 };
                let scales = self.scales(x).iter().map(|s| s / area as f32).collect();
                Ok(self.follow(old, Op::SumPool { x, geometry: geometry.clone() }, scales))
            }
            Op::Neg { x } => {
                let x = self.new.get(*x);
                let scales = self.scales(x);
                Ok(self.follow(old, Op::Neg { x }, scales))
            }
            Op::Concat { xs, axis } => {
                let mut xs: Vec<_> = xs.iter().map(|x| self.new.get(*x)).collect();
                let scales = if *axis == 1 {
                    xs.iter().flat_map(|x| self.scales(*x)).collect()
                } else {
                    // Elements of one channel have one scale: the coarsest carries all.
                    let all: Vec<_> = xs.iter().map(|x| self.scales(*x)).collect();
                    let coarsest = |c: usize| all.iter().map(|s| s[c]).fold(0.0, f32::max);
                    let common: Vec<f32> = (0..old.channels()).map(coarsest).collect();
                    for (x, own) in xs.iter_mut().zip(&all).filter(|(_, own)| **own != common) {
                        debug_assert_eq!(own.len(), common.len());
                        *x = self.requantize_to(*x, &common);
                    }
                    common
                };
                Ok(self.follow(old, Op::Concat { xs, axis: *axis }, scales))
            }
            Op::Gather { x, axis, indices } => {
                let x = self.new.get(*x);
                let from = self.scales(x);
                let scales = if *axis == 1 { indices.iter().map(|&i| from[i]).collect() } else { from };
                Ok(self.follow(old, Op::Gather { x, axis: *axis, indices: indices.clone() }, scales))
            }
            Op::Slice { x, starts, steps } => {
                let x = self.new.get(*x);
                let from = self.scales(x);
                let scales = (0..old.channels()).map(|c| from[starts[1] + c * steps[1]]).collect();
                Ok(self.follow(old, Op::Slice { x, starts: starts.clone(), steps: steps.clone() }, scales))
            }
            Op::Pad { x, before, after } => {
                let x = self.new.get(*x);
                let from = self.scales(x);
                // Channels of zeros may have any scale.
                let scales = (0..old.channels())
                    .map(|c| *c.checked_sub(before[1]).and_then(|c| from.get(c)).unwrap_or(&from[0]));
                let scales = scales.collect();
                Ok(self.follow(old, Op::Pad { x, before: before.clone(), after: after.clone() }, scales))
            }
            Op::Reshape { x } => {
                let mut x = self.new.get(*x);
                let mixed = |this: &Self, x: Id<Value>| {
                    let (value, from) = (this.new.new.value(x), this.scales(x));
                    (0..old.channels()).any(|c| {
                        let mut group = ranges::channels_of_reshape(value, &old.shape, c).map(|c| from[c]);
                        let first = group.next();
                        group.any(|s| Some(s) != first)
                    })
                };
                if mixed(self, x) {
                    x = self.requantize_uniform(x);
                }
                let (value, from) = (self.new.new.value(x), self.scales(x));
                let first = |c| *ranges::channels_of_reshape(value, &old.shape, c).start();
                let scales = (0..old.channels()).map(|c| from[first(c)]).collect();
                Ok(self.follow(old, Op::Reshape { x }, scales))
            }
            Op::Transpose { x, perm } => {
                let mut x = self.new.get(*x);
                if perm.get(1) != Some(&1) && self.scales(x).windows(2).any(|w| w[0] != w[1]) {
                    x = self.requantize_uniform(x);
                }
                let from = self.scales(x);
                let scales = (0..old.channels()).map(|c| from[if perm.get(1) == Some(&1) { c } else { 0 }]).collect();
                Ok(self.follow(old, Op::Transpose { x, perm: perm.clone() }, scales))
            }
            Op::MaxPool { .. } => Err(no_form("run lower-max-pool first")),
            Op::Mul { .. } => Err(no_form("run lower-products first")),
            Op::BatchNorm { .. } => Err(no_form("run fuse-batchnorm first")),
            Op::Lut { .. } | Op::Keyswitch { .. } | Op::Pbs { .. } => Err(no_form("it is not a real op")),
        }
    }

    /// The other map of a sum that alone reads both: one grid for the two, the coarser, needs no further table.
    fn partner(&self, id: Id<Value>) -> Option<&Value> {
        let reader = |id: Id<Value>| {
            let mut readers =
                self.graph.iter().filter(|(_, v)| v.op.operands().contains(&id)).map(|(reader, _)| reader);
            let only = readers.next().filter(|_| readers.next().is_none());
            only.filter(|_| !self.graph.is_output(id))
        };
        let sum = reader(id)?;
        let (Op::Add { a, b } | Op::Sub { a, b }) = self.graph.value(sum).op else { return None };
        let other = if a == id { b } else { a };
        let value = self.graph.value(other);
        let free = matches!(value.op, Op::Map { .. }) && value.facts.seen.is_some() && self.stated(other).is_none();
        (a != b && free && reader(other) == Some(sum)).then_some(value)
    }

    /// The scales of a map `f(x)` whose only reader adds it to a value with the scales of `x`: it keeps them, so that
    /// `b + relu(a − b)` stays the greater of two integers.
    fn scales_of_maximum(&self, id: Id<Value>, x: Id<Value>) -> Option<Vec<f32>> {
        let mut readers = self.graph.values.iter().filter(|v| v.op.operands().contains(&id));
        let (Some(reader), None) = (readers.next(), readers.next()) else { return None };
        let Op::Add { a, b } = reader.op else { return None };
        let other = self.new.placed(if a == id { b } else { a })?;
        let scales = self.scales(self.new.get(x));
        (a != b && self.scales(other) == scales).then_some(scales)
    }

    /// A map into the integers that its range seen has at the given scales.
    fn map_to(&mut self, id: Id<Value>, x: Id<Value>, mut chain: Vec<Func>, scales: Vec<f32>) -> Id<Value> {
        let old = self.graph.value(id);
        let to = grid::integers_seen(old, &scales);
        let scales = compact(scales);
        let hull = self.clip(&mut chain, &to, &scales, &old.name);
        let op = Op::Map { x, shift: None, chain, resolution: None };
        let facts = Facts { scale: Some(scales), ..old.facts.clone() };
        self.push(Value { op, elem: Elem::Int(hull), facts, ..old.clone() }, false)
    }

    /// A dense layer or convolution: the operand's scales go into the weights, the result has the weights' scales.
    fn weighted_op(
        &mut self,
        id: Id<Value>,
        old: &Value,
        x: Id<Value>,
        w: Id<fhe_ir::Const>,
    ) -> Result<Id<Value>, PassError> {
        let mut operand = self.new.get(x);
        if self.weighted[operand.index()] {
            operand = self.requantize(operand, self.graph.value(x));
        }
        let mut bits = self.cx.options.bits.op_weights;
        if self.last[id.index()] {
            bits = bits.min(self.cx.options.output_weights.unwrap_or(bits));
        }
        if self.graph.is_exact(w) && self.grids[x.index()].is_some() {
            // The steps of the operand's channels go into the weights, which are then integers no more.
            bits = bits.max(STATED_BITS);
            let place = self.graph.place(id);
            self.cx.remark(format!(
                "{place} has exact weights over channels of different steps: both become weights of {bits} bits"
            ));
        }
        let scales = self.scales(operand);
        let groups = if let Op::Conv { geometry, .. } = &old.op { geometry.groups } else { 1 };
        let mut real = self.graph.weights(w).mapv(f64::from);
        let (outs, per_group) = (real.shape()[0], real.shape()[1]);
        for (o, mut channel) in real.axis_iter_mut(Axis(0)).enumerate() {
            let first = o / (outs / groups) * per_group;
            for (i, mut taps) in channel.axis_iter_mut(Axis(0)).enumerate() {
                taps.mapv_inplace(|w| w * f64::from(scales[first + i]));
            }
        }
        // A channel that never moves is a summand: its weights need no integers.
        let padded = matches!(&old.op, Op::Conv { geometry, .. } if geometry.pads != [0; 4]);
        let mut still = vec![0.0; outs];
        for (o, mut channel) in real.axis_iter_mut(Axis(0)).enumerate() {
            let first = o / (outs / groups) * per_group;
            for (i, mut taps) in channel.axis_iter_mut(Axis(0)).enumerate().filter(|_| !padded) {
                if let Some(point) = self.point(operand, first + i) {
                    still[o] += taps.sum() * point as f64;
                    taps.fill(0.0);
                }
            }
        }
        let moments = self.observed.moments.get(&id).filter(|_| bits < STATED_BITS);
        let factors = moments.map(|moments| compensate::Factors::of(moments, &scales, groups, per_group));
        let factors = factors.as_ref();
        let full = self.cx.options.rounding == Rounding::Full;
        let natural = weights::best_scales(&real, bits);
        let widths = seen_widths(old, outs);
        // What the natural scale would clip is clipped at that scale only: another one just changes the length of the
        // integers.
        let clipped = weights::quantize(&real, &natural, &vec![1; outs], Some(weights::limit(bits)));
        let quantized = match self.matched.get(&id).copied() {
            Some(Match { other, sum }) => {
                let other = self.scales(self.new.get(other)).into_iter().map(f64::from).collect::<Vec<_>>();
                let wanted = weights::scales_in_sum(&clipped, &widths, &seen_widths(self.graph.value(sum), outs), full);
                let (own, multiples): (Vec<_>, Vec<_>) =
                    wanted.iter().zip(&other).map(|(w, o)| weights::commensurable(*w, *o)).unzip();
                self.cx.count("scales matched to an add", 1);
                compensate::quantize(&real, &own, &multiples, None, factors)
            }
            None => {
                let gains = weights::gains(&clipped, &widths, full);
                self.cx.count("channels with a gain", gains.iter().filter(|g| **g > 1.0).count() as u64);
                let fine: Vec<f64> = natural.iter().zip(&gains).map(|(s, g)| s / g).collect();
                if gains.iter().all(|g| *g == 1.0) {
                    let limit = weights::limit(bits);
                    compensate::quantize(&real, &natural, &vec![1; outs], Some(limit), factors)
                } else {
                    compensate::quantize(&real, &fine, &vec![1; outs], None, factors)
                }
            }
        };
        let mut lost = self.lost_offset([x, operand], &real, &quantized, &still, old);
        for (lost, rest) in lost.iter_mut().zip(self.rounded_off(x, w, groups)) {
            *lost += rest;
        }
        let lost: Vec<i64> =
            lost.iter().zip(&quantized.scale).map(|(lost, scale)| func::quantize(lost / scale, WIDEST)).collect();
        let name = self.graph.constant(w).name.clone();
        let w = self.new.new.push_const(&format!("{name}.q"), Data::Int(Arc::new(quantized.weights)));
        let op = match &old.op {
            Op::Conv { geometry, .. } => Op::Conv { x: operand, w, geometry: geometry.clone() },
            _ => Op::Dot { x: operand, w },
        };
        self.cx.notes.weights_chosen = true;
        self.cx.count("weights", self.new.new.constant(w).data.len() as u64);
        let scales: Vec<f32> = quantized.scale.iter().map(|s| *s as f32).collect();
        let facts = Facts { scale: Some(compact(scales.clone())), range: None, ..old.facts.clone() };
        let value = Value { op, elem: Elem::IntUnknown, facts: facts.clone(), ..old.clone() };
        if lost.iter().all(|l| *l == 0) {
            return Ok(self.push(value, true));
        }
        self.cx.count("offsets put into a bias", lost.iter().filter(|l| **l != 0).count() as u64);
        // What was seen is seen behind the summand.
        let shifted = |(lo, hi): (f32, f32), c: usize| {
            let shift = lost[c] as f32 * scales[c];
            (lo - shift, hi - shift)
        };
        let seen =
            facts.seen.as_ref().map(|s| (0..outs).map(|c| shifted(s[if s.len() == 1 { 0 } else { c }], c)).collect());
        let raw = Value { name: format!("{}.raw", old.name), facts: Facts { seen, ..facts.clone() }, ..value };
        let x = self.push(raw, true);
        let c = self.new.new.push_const(&format!("{}.offset", old.name), ints(lost));
        Ok(self.push(Value { op: Op::AddClear { x, c }, elem: Elem::IntUnknown, facts, ..old.clone() }, true))
    }

    /// Integers and scale per channel that the network itself gives a value between layers.
    fn stated(&self, id: Id<Value>) -> Option<(Vec<Interval>, Vec<f32>)> {
        let grid = self.grids[id.index()].as_ref()?;
        Some((grid.range.clone()?, grid.scale.clone()))
    }

    /// Fails for a value whose integers neither the network nor calibration rows give.
    fn seen(&self, id: Id<Value>) -> Result<(), PassError> {
        match self.graph.value(id).facts.seen {
            Some(_) => Ok(()),
            None => {
                let lacking = Some((Place::new(self.graph, id), "and no range was seen"));
                Err(PassError::NoCalibration { pass: "quantize", lacking })
            }
        }
    }

    /// Brings two values whose scales are law to one scale per channel, each by an integer factor.
    fn share(&mut self, id: Id<Value>, a: Id<Value>, b: Id<Value>) -> (Id<Value>, Id<Value>, Vec<f32>) {
        let (sa, sb) = (self.scales(a), self.scales(b));
        let shared: Vec<Shared> = sa.iter().zip(&sb).map(|(a, b)| Shared::of(*a, *b)).collect();
        let scales: Vec<f32> = shared.iter().map(|s| s.scale).collect();
        let error = shared.iter().map(|s| s.error).fold(0.0, f64::max);
        if error > f64::from(f32::EPSILON) {
            let (place, first) = (self.graph.place(id), shared[0]);
            self.cx.remark(format!(
                "{place} adds two scales as {}·a + {}·b: the ratio is off by {error:.1e} at most",
                first.a, first.b
            ));
        }
        let a = self.multiply(a, shared.iter().map(|s| s.a).collect(), scales.clone());
        let b = self.multiply(b, shared.iter().map(|s| s.b).collect(), scales.clone());
        (a, b, scales)
    }

    /// Brings two values to one scale per channel: by an integer factor where the ratio is one, else by a table.
    fn align(&mut self, a: Id<Value>, b: Id<Value>) -> (Id<Value>, Id<Value>, Vec<f32>) {
        let (sa, sb) = (self.scales(a), self.scales(b));
        if sa == sb {
            return (a, b, sa);
        }
        let factors = |coarse: &[f32], fine: &[f32]| -> Option<Vec<i64>> {
            coarse
                .iter()
                .zip(fine)
                .map(|(c, f)| {
                    let ratio = f64::from(*c) / f64::from(*f);
                    let whole = ratio.round();
                    // Scales are f32: a matched ratio is whole up to their rounding.
                    ((ratio - whole).abs() <= 1e-5 * whole && (1.0..1e6).contains(&whole)).then_some(whole as i64)
                })
                .collect()
        };
        if let Some(f) = factors(&sb, &sa) {
            return (a, self.multiply(b, f, sa.clone()), sa);
        }
        if let Some(f) = factors(&sa, &sb) {
            return (self.multiply(a, f, sb.clone()), b, sb);
        }
        if let Some((scales, f)) = self.refined(a, &sa, &sb) {
            let b = self.requantize_to(b, &scales);
            return (self.multiply(a, f, scales.clone()), b, scales);
        }
        if let Some((scales, f)) = self.refined(b, &sb, &sa) {
            let a = self.requantize_to(a, &scales);
            return (a, self.multiply(b, f, scales.clone()), scales);
        }
        // The coarser grid of each channel carries both; the other operand gets a table.
        let common: Vec<f32> = sa.iter().zip(&sb).map(|(a, b)| a.max(*b)).collect();
        let mut bring = |id: Id<Value>, own: &[f32]| if own == common { id } else { self.requantize_to(id, &common) };
        (bring(a, &sa), bring(b, &sb), common)
    }

    /// Whole parts of the steps of `x`, close to the finer steps of another value, when `x` has so few integers that it
    /// stays narrow in these parts: its own steps would leave the other value as few (a truth value, say).
    fn refined(&self, x: Id<Value>, own: &[f32], finer: &[f32]) -> Option<(Vec<f32>, Vec<i64>)> {
        let value = self.new.new.value(x);
        value.facts.seen.as_ref()?;
        let most = (1u64 << (self.cx.options.activation_bits() + 1)) as f64;
        let widths = seen_widths(value, own.len());
        let part = |((own, finer), width): ((&f32, &f32), &f64)| {
            let factor = (f64::from(*own) / f64::from(*finer)).round();
            let narrow = factor >= 2.0 && factor * (width / f64::from(*own) + 1.0) <= most;
            narrow.then_some(((f64::from(*own) / factor) as f32, factor as i64))
        };
        own.iter().zip(finer).zip(&widths).map(part).collect::<Option<Vec<_>>>().map(|parts| parts.into_iter().unzip())
    }

    /// `x·factors`, now in units of `scales`; nothing when all factors are 1 (scales differ by rounding only).
    fn multiply(&mut self, x: Id<Value>, factors: Vec<i64>, scales: Vec<f32>) -> Id<Value> {
        if factors.iter().all(|f| *f == 1) {
            return x;
        }
        let value = self.new.new.value(x).clone();
        let c = self.new.new.push_const(&format!("{}.m", value.name), ints(factors));
        let weighted = self.weighted[x.index()];
        let facts = Facts { scale: Some(compact(scales)), range: None, ..value.facts };
        let name = format!("{}.scaled", value.name);
        self.push(Value { name, op: Op::MulClear { x, c }, elem: Elem::IntUnknown, facts, ..value }, weighted)
    }

    /// A linear op that needs no choice of its own.
    fn follow(&mut self, old: &Value, op: Op, scales: Vec<f32>) -> Id<Value> {
        let weighted = op.operands().iter().any(|o| self.weighted[o.index()]);
        let facts = Facts { scale: Some(compact(scales)), range: None, ..old.facts.clone() };
        self.push(Value { op, elem: Elem::IntUnknown, facts, ..old.clone() }, weighted)
    }

    fn push(&mut self, value: Value, weighted: bool) -> Id<Value> {
        let mut value = value;
        if self.worst_case {
            value.facts.seen = None;
        }
        let id = self.new.push(value);
        self.weighted.push(weighted);
        id
    }

    /// Scales per channel of a new value.
    fn scales(&self, id: Id<Value>) -> Vec<f32> {
        let value = self.new.new.value(id);
        (0..value.channels()).map(|c| value.channel_scale(c).expect("quantized values have scales")).collect()
    }

    fn integer_constant(&mut self, c: Id<fhe_ir::Const>, scales: &[f32], name: &str) -> Id<fhe_ir::Const> {
        let real = self.graph.constant(c);
        let entry = |(ch, s): (usize, &f32)| func::quantize(real.channel(ch) / f64::from(*s), WIDEST);
        let entries: Vec<i64> = scales.iter().enumerate().map(entry).collect();
        self.new.new.push_const(name, ints(entries))
    }

    fn finish(self) -> Result<Graph, PassError> {
        let mut outputs = vec![];
        for output in &self.graph.outputs {
            outputs.push(Output { value: self.new.get(output.value), ..output.clone() });
        }
        Ok(self.new.finish_with_outputs(Phase::Quantized, outputs))
    }
}

/// Width of the range seen of each channel, as a real number.
fn seen_widths(value: &Value, channels: usize) -> Vec<f64> {
    let seen = value.facts.seen.as_deref().unwrap_or(&[(-1.0, 1.0)]);
    (0..channels)
        .map(|c| seen[if seen.len() == 1 { 0 } else { c }])
        .map(|(lo, hi)| f64::from(hi) - f64::from(lo))
        .collect()
}

/// Width of weights that stand for exact ones and for the steps of what they read: an error of a few thousandths of a step.
const STATED_BITS: u32 = 12;

/// Integers beyond any accumulator that parameters can carry.
const WIDEST: Interval = Interval { lo: -(1 << 40), hi: 1 << 40 };

fn ints(entries: Vec<i64>) -> Data {
    Data::Int(Arc::new(Array1::from(entries).into_dyn()))
}

/// One entry when all agree.
fn compact(scales: Vec<f32>) -> Vec<f32> {
    if scales.windows(2).all(|w| w[0] == w[1]) { scales[..1].to_vec() } else { scales }
}
