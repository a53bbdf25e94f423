//! Grids that a network states itself: which values are whole multiples of a step, whatever the rows.
//!
//! A quantizer in a chain (`quant`, `sign`), an input quantized by the client and exact integer weights fix the integers
//! of a value. Such a step is law: `quantize` takes it over, and nothing is left for calibration to find out.

use fhe_ir::{Data, Func, Graph, Id, Interval, Op, Value, ranges};

/// `real = scale·integer` per channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    /// Step of each channel.
    pub(crate) scale: Vec<f32>,
    /// Integers of each channel; `None` for the result of a layer, whose integers are for range analysis to find.
    pub(crate) range: Option<Vec<Interval>>,
}

/// Widest range that a value between two layers may state: 16 bits.
const WIDEST: u64 = 1 << 16;

/// Ends of the range of an integer that nothing bounds: far beyond [`WIDEST`], and exact in every product with a factor.
const UNBOUNDED: i64 = 1 << 40;

/// Tolerance, in steps, of a real number that is meant to lie on a grid.
const ON_GRID: f64 = 1e-4;

/// The grid of every value of a real graph, where it has one.
///
/// Squares of a value have twice its bits. They are taken over where nothing else is left to calibration; elsewhere they get
/// the width that activations have.
pub(crate) fn of(graph: &Graph) -> Vec<Option<Grid>> {
    let all = with_squares(graph, true);
    if first_unstated(graph, &all).is_none() { all } else { with_squares(graph, false) }
}

fn with_squares(graph: &Graph, squares: bool) -> Vec<Option<Grid>> {
    let mut grids: Vec<Option<Grid>> = vec![];
    let quarters = quarter_squares(graph);
    for (id, value) in graph.iter() {
        let grid = match &value.op {
            Op::Map { chain, .. } if !squares && chain.contains(&Func::Square) => None,
            Op::Map { x, .. } if quarters[id.index()] => grids[x.index()].clone().and_then(quarter_square),
            _ => grid(graph, value, &grids),
        };
        grids.push(grid);
    }
    grids
}

/// Whether inputs and maps all state their integers, and nothing between them needs a table of its own to bring scales
/// together: no calibration is needed.
pub(crate) fn are_complete(graph: &Graph) -> bool {
    unstated(graph).is_none()
}

/// The first value whose integers the network does not state, and why; `None` when no calibration is needed.
pub(crate) fn unstated(graph: &Graph) -> Option<(Id<Value>, &'static str)> {
    first_unstated(graph, &with_squares(graph, true))
}

/// Whether a quantizer of the network states anything at all: a step of a value, or integer weights.
pub(crate) fn state_anything(graph: &Graph) -> bool {
    let quantizes = |chain: &[Func]| chain.iter().any(|link| matches!(link, Func::Quant { .. } | Func::Sign));
    graph.values.iter().any(|v| match &v.op {
        Op::Input { pre } => quantizes(pre),
        Op::Map { chain, .. } => quantizes(chain),
        Op::Dot { w, .. } | Op::Conv { w, .. } => graph.is_exact(*w),
        _ => false,
    })
}

fn first_unstated(graph: &Graph, grids: &[Option<Grid>]) -> Option<(Id<Value>, &'static str)> {
    let of = |x: &Id<Value>| grids[x.index()].as_ref();
    let lacks = |(id, value): (Id<Value>, &Value)| {
        let grid = of(&id);
        let stated = grid.is_some_and(|g| g.range.is_some());
        let reason = match &value.op {
            Op::Input { .. } if !stated => "no quantizer says what the client sends",
            Op::Map { x, .. } if !stated => match of(x) {
                None => "it reads a value whose step is not stated, and has no quantizer at its end",
                Some(Grid { range: None, .. }) => "it reads a sum without bounds, and has no quantizer at its end",
                Some(_) => "its results are on no grid of at most 16 bits",
            },
            // Without a grid, scales meet that differ.
            Op::Add { a, b } | Op::Sub { a, b } if of(a).is_none() || of(b).is_none() => {
                "one of its operands has no stated step"
            }
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Concat { .. } if grid.is_none() => {
                "it brings channels of different steps, or without a step, together"
            }
            // A layer without a grid behind another one requantizes in front of itself.
            Op::Dot { x, .. } | Op::Conv { x, .. } if grid.is_none() && of(x).is_none_or(|g| g.range.is_none()) => {
                "no quantizer stands in front of it"
            }
            _ => return None,
        };
        Some((id, reason))
    };
    graph.iter().find_map(lacks)
}

fn grid(graph: &Graph, value: &Value, grids: &[Option<Grid>]) -> Option<Grid> {
    let of = |x: &Id<Value>| grids[x.index()].clone();
    match &value.op {
        Op::Input { pre } => after(graph, value.channels(), None, pre),
        Op::Map { x, chain, .. } => after(graph, value.channels(), of(x).filter(|g| g.range.is_some()), chain),
        Op::Dot { x, w } => layer(graph, value, of(x)?, *w, 1),
        Op::Conv { x, w, geometry } => layer(graph, value, of(x)?, *w, geometry.groups),
        Op::AddClear { x, c } => {
            let grid = of(x)?;
            // Off the grid, the summand is rounded to whole steps.
            let rounded = Grid { range: None, ..grid.clone() };
            Some(grid.plus(|channel| graph.constant(*c).channel(channel)).unwrap_or(rounded))
        }
        Op::MulClear { x, c } => Some(of(x)?.times(|channel| graph.constant(*c).channel(channel))),
        Op::Neg { x } => Some(of(x)?.times(|_| -1.0)),
        Op::Add { a, b } => {
            let sum = sum(of(a)?, of(b)?)?;
            Some(maximum(graph, grids, *a, *b).filter(|m| m.scale == sum.scale).unwrap_or(sum))
        }
        Op::Sub { a, b } => sum(of(a)?, of(b)?.times(|_| -1.0)),
        Op::AvgPool { x, geometry } | Op::SumPool { x, geometry } => {
            let area = geometry.area();
            let mut grid = of(x)?;
            let padded = geometry.pads != [0; 4];
            let window = |i: &Interval| if padded { i.hull(Interval::point(0)) } else { *i }.checked_scale(area as i64);
            grid.range = grid.range.and_then(|r| r.iter().map(window).collect());
            if matches!(value.op, Op::AvgPool { .. }) {
                grid.scale.iter_mut().for_each(|s| *s /= area as f32);
            }
            Some(grid)
        }
        Op::MaxPool { x, .. } => of(x),
        Op::Concat { xs, axis } => joined(xs.iter().map(of).collect::<Option<_>>()?, *axis),
        Op::Gather { x, axis: 1, indices } => Some(of(x)?.channels(indices.len(), |c| indices[c])),
        Op::Gather { x, .. } => of(x),
        Op::Slice { x, starts, steps } => Some(of(x)?.channels(value.channels(), |c| starts[1] + c * steps[1])),
        Op::Pad { x, before, .. } => {
            let operand = of(x)?;
            let channels = operand.scale.len();
            let mut grid = operand.channels(value.channels(), |c| c.saturating_sub(before[1]).min(channels - 1));
            grid.range = grid.range.map(|r| r.iter().map(|i| i.hull(Interval::point(0))).collect());
            Some(grid)
        }
        Op::Reshape { x } => {
            let (operand, grid) = (graph.value(*x), of(x)?);
            let sources = |c| ranges::channels_of_reshape(operand, &value.shape, c);
            let uniform =
                (0..value.channels()).all(|c| sources(c).all(|s| grid.scale[s] == grid.scale[*sources(c).start()]));
            let range = grid.range.as_ref().map(|r| {
                let hull = |c| ranges::hull(&r[sources(c)]).expect("a reshape reads at least one channel");
                (0..value.channels()).map(hull).collect()
            });
            let scale = (0..value.channels()).map(|c| grid.scale[*sources(c).start()]).collect();
            uniform.then_some(Grid { scale, range })
        }
        Op::Transpose { x, perm } => {
            let grid = of(x)?;
            if perm.get(1) == Some(&1) {
                return Some(grid);
            }
            let uniform = grid.scale.windows(2).all(|w| w[0] == w[1]);
            let range = grid.range.as_ref().and_then(|r| ranges::hull(r)).map(|hull| vec![hull; value.channels()]);
            uniform.then(|| Grid { scale: vec![grid.scale[0]; value.channels()], range })
        }
        Op::Mul { .. } | Op::BatchNorm { .. } | Op::Lut { .. } | Op::Keyswitch { .. } | Op::Pbs { .. } => None,
    }
}

/// The grid behind a chain of functions, from that of what the chain reads.
fn after(graph: &Graph, channels: usize, start: Option<Grid>, chain: &[Func]) -> Option<Grid> {
    let all = |scale: f32, lo: i64, hi: i64| {
        Some(Grid { scale: vec![scale; channels], range: Some(vec![Interval { lo, hi }; channels]) })
    };
    let grid = chain.iter().fold(start, |grid, link| match link {
        Func::Quant { scale, to } => all(*scale, to.lo, to.hi),
        Func::Sign => all(1.0, -1, 1),
        Func::Positive | Func::NonNegative | Func::IsZero => all(1.0, 0, 1),
        Func::Round | Func::Floor | Func::Ceil | Func::Trunc => {
            grid.and_then(|g| g.rounded(link)).or_else(|| all(1.0, -UNBOUNDED, UNBOUNDED))
        }
        Func::Relu => grid?.clipped(0.0, f64::INFINITY),
        Func::Clip(lo, hi) => grid?.clipped(f64::from(*lo), f64::from(*hi)),
        Func::Square => grid?.squared(),
        Func::Mul(c) => Some(grid?.times(|channel| graph.constant(*c).channel(channel))),
        Func::Add(c) => grid?.plus(|channel| graph.constant(*c).channel(channel)),
        _ => None,
    })?;
    let narrow = |r: &Vec<Interval>| ranges::hull(r).is_some_and(|hull| hull.hi.abs_diff(hull.lo) < WIDEST);
    grid.range.as_ref().is_some_and(narrow).then_some(grid)
}

/// A layer whose weights are exact over an operand whose channels that meet have one step, or whole multiples of one.
fn layer(graph: &Graph, value: &Value, x: Grid, w: Id<fhe_ir::Const>, groups: usize) -> Option<Grid> {
    let Data::Int(weights) = &graph.constant(w).data else { return None };
    x.range.as_ref()?;
    let (outs, per_group) = (value.channels(), weights.shape()[1]);
    let scales: Vec<f32> =
        x.scale.chunks(per_group).take(groups).map(|group| Some(common(group)?.0)).collect::<Option<_>>()?;
    Some(Grid { scale: (0..outs).map(|o| scales[o / (outs / groups)]).collect(), range: None })
}

/// Largest multiple of a common step that stands for a step: five bits more in front of a table.
const MOST: i64 = 32;

/// Relative error of a ratio of two steps that are f32.
const ROUNDING: f64 = 1e-6;

/// One step of which all of these are small whole multiples, and the multiples.
pub(crate) fn common(steps: &[f32]) -> Option<(f32, Vec<i64>)> {
    let first = *steps.first()?;
    if steps.iter().all(|s| *s == first) {
        return Some((first, vec![1; steps.len()]));
    }
    let ratios: Vec<Shared> = steps.iter().map(|s| Shared::within(*s, first, ROUNDING)).collect();
    let small = |s: &Shared| s.error <= ROUNDING && s.a <= MOST && s.b <= MOST;
    if !ratios.iter().all(small) {
        return None;
    }
    // first = b·scale and step = a·scale of each pair; the parts of `first` that serve all pairs.
    let parts = ratios.iter().try_fold(1, |parts, s| Some(parts / gcd(parts, s.b) * s.b).filter(|p| *p <= MOST))?;
    let multiples: Vec<i64> = ratios.iter().map(|s| s.a * (parts / s.b)).collect();
    multiples.iter().all(|m| *m <= MOST).then_some(((f64::from(first) / parts as f64) as f32, multiples))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Values behind one another: places of one channel have one step.
fn joined(grids: Vec<Grid>, axis: usize) -> Option<Grid> {
    let scale = |c: usize| grids[0].scale[c];
    if axis == 1 {
        let range = grids.iter().map(|g| g.range.clone()).collect::<Option<Vec<_>>>();
        return Some(Grid {
            scale: grids.iter().flat_map(|g| &g.scale).copied().collect(),
            range: range.map(|r| r.concat()),
        });
    }
    let channels = grids[0].scale.len();
    let uniform = grids.iter().all(|g| (0..channels).all(|c| g.scale[c] == scale(c)));
    let hull = |c: usize| grids.iter().map(|g| Some(g.range.as_ref()?[c])).collect::<Option<Vec<_>>>();
    let range = (0..channels).map(|c| ranges::hull(&hull(c)?)).collect();
    uniform.then(|| Grid { scale: (0..channels).map(scale).collect(), range })
}

/// `q + relu(p − q)`: the greater of two values on one grid is not above both.
fn maximum(graph: &Graph, grids: &[Option<Grid>], a: Id<Value>, b: Id<Value>) -> Option<Grid> {
    let found = |f: Id<Value>, q: Id<Value>| {
        let Op::Map { x, chain, .. } = &graph.value(f).op else { return None };
        let Op::Sub { a: p, b: other } = graph.value(*x).op else { return None };
        let (p, g) = (grids[p.index()].as_ref()?, grids[q.index()].as_ref()?);
        if chain[..] != [Func::Relu] || other != q || p.scale != g.scale {
            return None;
        }
        let pairs = p.range.as_ref()?.iter().zip(g.range.as_ref()?);
        let range = pairs.map(|(p, q)| Interval { lo: p.lo.max(q.lo), hi: p.hi.max(q.hi) }).collect();
        Some(Grid { scale: g.scale.clone(), range: Some(range) })
    };
    found(a, b).or_else(|| found(b, a))
}

/// For each value: whether it is `((x ± y)/2)²` of a product `x·y` that alone reads it. Sum and difference are both even
/// or both odd in steps, so that rounding a quarter of their squares cancels.
fn quarter_squares(graph: &Graph) -> Vec<bool> {
    let users = graph.users();
    let mut found = vec![false; graph.values.len()];
    let half_of = |id: Id<Value>| match &graph.value(id).op {
        Op::Map { x, chain, .. } if users[id.index()].len() == 1 && !graph.is_output(id) => match chain[..] {
            [Func::Mul(c), Func::Square]
                if graph.constant(c).data.len() == 1 && graph.constant(c).channel(0) == 0.5 =>
            {
                Some(&graph.value(*x).op)
            }
            _ => None,
        },
        _ => None,
    };
    for value in &graph.values {
        let Op::Sub { a, b } = value.op else { continue };
        let (Some(Op::Add { a: x, b: y }), Some(Op::Sub { a: z, b: w })) = (half_of(a), half_of(b)) else { continue };
        if (x, y) == (z, w) {
            found[a.index()] = true;
            found[b.index()] = true;
        }
    }
    found
}

/// The grid of `(x/2)²`, rounded to whole squares of the step of `x`.
fn quarter_square(x: Grid) -> Option<Grid> {
    let quarter = |i: &Interval| {
        let end = i.lo.unsigned_abs().max(i.hi.unsigned_abs());
        (end < WIDEST).then(|| Interval { lo: 0, hi: (end * end / 4) as i64 })
    };
    let range: Vec<Interval> = x.range?.iter().map(quarter).collect::<Option<_>>()?;
    let scale: Vec<f32> = x.scale.iter().map(|s| s * s).collect();
    let sound = scale.iter().all(|s| s.is_normal()) && range.iter().all(|i| i.width() <= WIDEST);
    sound.then_some(Grid { scale, range: Some(range) })
}

fn sum(a: Grid, b: Grid) -> Option<Grid> {
    let shared: Vec<Shared> = a.scale.iter().zip(&b.scale).map(|(a, b)| Shared::of(*a, *b)).collect();
    let range = a.range.zip(b.range).and_then(|(a, b)| {
        let sum =
            |((a, b), s): ((&Interval, &Interval), &Shared)| a.checked_scale(s.a)?.checked_add(b.checked_scale(s.b)?);
        a.iter().zip(&b).zip(&shared).map(sum).collect()
    });
    Some(Grid { scale: shared.iter().map(|s| s.scale).collect(), range })
}

/// One step for two: `scale_a ≈ a·scale` and `scale_b = b·scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shared {
    /// The common step.
    pub(crate) scale: f32,
    /// Factor of the first operand.
    pub(crate) a: i64,
    /// Factor of the second operand.
    pub(crate) b: i64,
    /// `|scale_a − a·scale|/scale_a`.
    pub(crate) error: f64,
}

impl Shared {
    /// Largest relative error of a step that is replaced: a sixteenth of a step at the end of 8 bits.
    const TOLERANCE: f64 = 1.0 / 4096.0;

    /// The smallest factors that keep both steps within the tolerance (best approximations by continued fractions).
    pub(crate) fn of(scale_a: f32, scale_b: f32) -> Self {
        Self::within(scale_a, scale_b, Self::TOLERANCE)
    }

    fn within(scale_a: f32, scale_b: f32, tolerance: f64) -> Self {
        let ratio = f64::from(scale_a) / f64::from(scale_b);
        // Convergents p/q of the ratio; the larger of both grows at least as fast as the Fibonacci numbers.
        let (mut p, mut q, mut before, mut rest) = (1.0, 0.0, (0.0, 1.0), ratio);
        for _ in 0..32 {
            let whole = rest.floor();
            ((p, q), before) = ((whole * p + before.0, whole * q + before.1), (p, q));
            if (p > 0.0 && ((p / q) / ratio - 1.0).abs() <= tolerance) || p.max(q) > 1e6 {
                break;
            }
            rest = 1.0 / (rest - whole);
        }
        let (p, q) = (p.max(1.0), q.max(1.0));
        // Both are whole and at most about 2^20, unless the steps are a million apart.
        let scale = (f64::from(scale_b) / q) as f32;
        Self { scale, a: p as i64, b: q as i64, error: ((p / q) / ratio - 1.0).abs() }
    }
}

impl Grid {
    fn channels(self, count: usize, from: impl Fn(usize) -> usize) -> Self {
        let range = self.range.map(|r| (0..count).map(|c| r[from(c)]).collect());
        Self { scale: (0..count).map(|c| self.scale[from(c)]).collect(), range }
    }

    /// The integers that a function makes of the real numbers on this grid.
    fn rounded(self, link: &Func) -> Option<Self> {
        let end = |i: i64, scale: f32| {
            let whole = link.apply(i as f64 * f64::from(scale), |_| 0.0);
            (whole.abs() <= UNBOUNDED as f64).then_some(whole as i64)
        };
        // All of them are monotone.
        let ends = |(i, s): (&Interval, &f32)| Some(Interval { lo: end(i.lo, *s)?, hi: end(i.hi, *s)? });
        let range = self.range?.iter().zip(&self.scale).map(ends).collect::<Option<Vec<_>>>()?;
        Some(Self { scale: vec![1.0; self.scale.len()], range: Some(range) })
    }

    /// The grid of `x²`.
    fn squared(mut self) -> Option<Self> {
        for interval in self.range.as_mut()? {
            let (lo, hi) = (interval.lo.checked_mul(interval.lo)?, interval.hi.checked_mul(interval.hi)?);
            *interval = Interval { lo: if interval.contains(0) { 0 } else { lo.min(hi) }, hi: lo.max(hi) };
        }
        self.scale.iter_mut().for_each(|s| *s *= *s);
        self.scale.iter().all(|s| s.is_normal()).then_some(self)
    }

    /// The grid of `x·c`.
    fn times(mut self, c: impl Fn(usize) -> f64) -> Self {
        for channel in 0..self.scale.len() {
            let c = c(channel);
            if c != 0.0 {
                self.scale[channel] = ((f64::from(self.scale[channel]) * c.abs()) as f32).max(f32::MIN_POSITIVE);
            }
            if let Some(range) = &mut self.range {
                let Interval { lo, hi } = range[channel];
                range[channel] = match c {
                    0.0 => Interval::point(0),
                    c if c < 0.0 => Interval { lo: -hi, hi: -lo },
                    _ => range[channel],
                };
            }
        }
        self
    }

    /// The grid of `x + c`, when `c` lies on a grid at most four times finer.
    fn plus(mut self, c: impl Fn(usize) -> f64) -> Option<Self> {
        for channel in 0..self.scale.len() {
            let steps = c(channel) / f64::from(self.scale[channel]);
            let finer = (1..=4i32).find(|k| {
                let at = steps * f64::from(*k);
                (at - at.round()).abs() < ON_GRID && at.abs() < WIDEST as f64
            })?;
            self.scale[channel] /= finer as f32;
            let shift = (steps * f64::from(finer)).round() as i64;
            if let Some(range) = &mut self.range {
                range[channel] = range[channel].checked_scale(i64::from(finer))?.checked_add(Interval::point(shift))?;
            }
        }
        Some(self)
    }

    /// The grid of `clamp(x, lo, hi)`, when ends that cut lie on it.
    fn clipped(mut self, lo: f64, hi: f64) -> Option<Self> {
        let range = self.range.as_mut()?;
        for (interval, scale) in range.iter_mut().zip(&self.scale) {
            let (lo, hi) = (lo / f64::from(*scale), hi / f64::from(*scale));
            let end = |at: f64, inside: bool| {
                if !inside {
                    return Some(None);
                }
                ((at - at.round()).abs() < ON_GRID).then_some(Some(at.round() as i64))
            };
            let lo = end(lo, lo > interval.lo as f64 - 0.5)?.map_or(interval.lo, |lo| lo.max(interval.lo));
            let hi = end(hi, hi < interval.hi as f64 + 0.5)?.map_or(interval.hi, |hi| hi.min(interval.hi));
            *interval = if lo <= hi { Interval { lo, hi } } else { Interval::point(interval.clamp(lo)) };
        }
        Some(self)
    }
}
