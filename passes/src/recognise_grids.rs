//! recognise-grids: numbers that lie on a grid without saying so become exact.
//!
//! Weights of a binary or ternary network are `±step` and 0 in each output channel: they become integers with a factor
//! behind the layer. Calibration rows of pixels are whole multiples of a step too, often with an offset (`pixel/255`,
//! `k/128`, standardised colours): the client then quantizes exactly to that grid, whatever width inputs have.

use std::collections::HashSet;
use std::sync::Arc;

use fhe_ir::{Data, Func, Graph, Id, Interval, Op, Phase, Value};
use ndarray::{ArrayD, ArrayViewD, Axis};

use crate::layers::Layer;
use crate::pass::{Pass, PassCx, PassError};
use crate::peephole::Peephole;

/// See the module.
pub struct RecogniseGrids;

/// Fewest weights that are taken for a binary or ternary layer; fewer can be so by chance.
const FEWEST_WEIGHTS: usize = 64;

/// Bits of the finest grid of inputs that is looked for: pixels.
const PIXEL_BITS: u32 = 8;

/// How many numbers there have to be per point of the grid.
const EVIDENCE: usize = 4;

/// Largest distance from the grid, in steps: float arithmetic on pixels.
const TOLERANCE: f64 = 1e-2;

impl Pass for RecogniseGrids {
    fn name(&self) -> &'static str {
        "recognise-grids"
    }

    fn summary(&self) -> &'static str {
        "take over the grids of pixels and of binary or ternary weights"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut p = Peephole::new(&graph);
        let mut inputs = 0;
        for (id, value) in graph.iter() {
            let done = match &value.op {
                Op::Input { pre } => {
                    let rows = cx.calibration.get(inputs);
                    inputs += 1;
                    pre.is_empty() && rows.is_some_and(|rows| input(&mut p, cx, id, rows))
                }
                Op::Dot { .. } | Op::Conv { .. } => layer(&mut p, cx, id),
                _ => false,
            };
            if !done {
                p.keep(id);
            }
        }
        Ok(p.finish())
    }
}

/// `w·x == (sign·x)·step` for weights that are `±step` or 0 in each output channel.
fn layer(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let op = p.remapped(id);
    let Some(Layer { x, w, .. }) = Layer::of(&op) else { return false };
    if p.graph().is_exact(w) {
        return false;
    }
    let weights = Arc::clone(p.graph().reals(w));
    let steps: Option<Vec<f64>> = weights.axis_iter(Axis(0)).map(step).collect();
    let Some(mut steps) = steps.filter(|_| weights.len() >= FEWEST_WEIGHTS) else { return false };
    let Some(first) = steps.iter().copied().find(|s| *s > 0.0) else { return false };
    if !cx.rewrite("exact weights") {
        return false;
    }
    // A channel of zeros may have any step.
    steps.iter_mut().filter(|s| **s == 0.0).for_each(|s| *s = first);
    let signs = weights.mapv(|w| if w == 0.0 { 0 } else { w.signum() as i64 });
    let name = p.rebuild.old.value(id).name.clone();
    let w = p.rebuild.new.push_const(&format!("{name}.signs"), Data::Int(Arc::new(signs)));
    let op = Layer::rewired(&op, x, w);
    if steps.iter().all(|s| *s == 1.0) {
        p.emit(id, op);
        return true;
    }
    let shape = p.rebuild.old.value(id).shape.clone();
    let x = p.push(id, &format!("{name}.units"), &shape, op);
    let c = p.constant(&format!("{name}.step"), &steps);
    p.emit(id, Op::MulClear { x, c });
    true
}

/// The magnitude that all weights but zeros have; 0 without any.
fn step(channel: ArrayViewD<'_, f32>) -> Option<f64> {
    let mut found = 0.0;
    for w in channel.iter().map(|w| w.abs()).filter(|w| *w != 0.0) {
        if found != 0.0 && w != found {
            return None;
        }
        found = w;
    }
    Some(f64::from(found))
}

/// An input whose rows lie on a grid: the client quantizes to it, and the rest of its offset is added behind it.
fn input(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>, rows: &ArrayD<f32>) -> bool {
    let old = p.rebuild.old;
    let value = old.value(id);
    let elements: usize = value.shape.iter().product();
    if is_quantized_by_network(old, id) || !rows.len().is_multiple_of(elements) {
        return false;
    }
    let widest = cx.options.bits.model_inputs.max(PIXEL_BITS);
    let Some(grids) = grids_of(rows, value, 1 << widest) else { return false };
    if !cx.rewrite("grids of inputs") {
        return false;
    }
    let name = value.name.clone();
    let hull = grids.iter().map(|g| g.range).reduce(Interval::hull).expect("inputs have channels");
    let pre = if grids.windows(2).all(|w| w[0].step == w[1].step && w[0].rest == w[1].rest) {
        let Grid { step, rest, .. } = grids[0];
        let back = p.constant(&format!("{name}.rest"), &[-rest * step]);
        let quant = Func::Quant { scale: step as f32, to: hull };
        if rest == 0.0 { vec![quant] } else { vec![Func::Add(back), quant] }
    } else {
        let list = |f: &dyn Fn(&Grid) -> f64| grids.iter().map(f).collect::<Vec<_>>();
        let inverse = p.constant(&format!("{name}.inverse"), &list(&|g| 1.0 / g.step));
        let rest = p.constant(&format!("{name}.rest"), &list(&|g| -g.rest));
        let step = p.constant(&format!("{name}.step"), &list(&|g| g.step));
        vec![Func::Mul(inverse), Func::Add(rest), Func::Quant { scale: 1.0, to: hull }, Func::Mul(step)]
    };
    cx.remark(format!("input %{name} lies on a grid of {} points", hull.width()));
    let offsets: Vec<f64> = grids.iter().map(|g| g.rest * g.step).collect();
    if offsets.iter().all(|o| *o == 0.0) {
        p.emit(id, Op::Input { pre });
        return true;
    }
    let x = p.push(id, &name, &value.shape, Op::Input { pre });
    let uniform = offsets.windows(2).all(|w| w[0] == w[1]);
    let c = p.constant(&format!("{name}.offset"), &offsets[..if uniform { 1 } else { offsets.len() }]);
    p.emit_as(id, &format!("{name}.real"), Op::AddClear { x, c });
    true
}

/// Whether a quantizer of the network stands right behind the input: it is the client's, and says what is exact.
fn is_quantized_by_network(graph: &Graph, id: Id<Value>) -> bool {
    let mut readers = graph.iter().filter(|(_, v)| v.op.operands().contains(&id));
    readers.any(|(reader, v)| match &v.op {
        Op::Map { .. } => true,
        Op::Reshape { .. } | Op::Transpose { .. } | Op::MulClear { .. } | Op::AddClear { .. } => {
            is_quantized_by_network(graph, reader)
        }
        _ => false,
    })
}

/// `x = step·(integer + rest)`, with a rest of at most half a step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    step: f64,
    rest: f64,
    range: Interval,
}

/// One grid for all channels, or one for each.
fn grids_of(rows: &ArrayD<f32>, value: &Value, most: u64) -> Option<Vec<Grid>> {
    let (channels, elements) = (value.channels(), value.shape.iter().product::<usize>());
    let inner = value.shape.iter().skip(2).product::<usize>();
    let mut found = vec![HashSet::new(); channels];
    for row in rows.as_standard_layout().as_slice()?.chunks(inner).enumerate() {
        let numbers = &mut found[row.0 % channels];
        numbers.extend(row.1.iter().map(|x| x.to_bits()));
        // Numbers off any grid are told by their number alone.
        if numbers.len() as u64 > 4 * most {
            return None;
        }
    }
    let sorted = |bits: &mut dyn Iterator<Item = &u32>| {
        let mut numbers: Vec<f32> = bits.map(|b| f32::from_bits(*b)).collect();
        numbers.sort_unstable_by(f32::total_cmp);
        numbers.dedup();
        numbers
    };
    if let Some(grid) = grid(&sorted(&mut found.iter().flatten()), rows.len(), most) {
        return Some(vec![grid; channels]);
    }
    let count = rows.len() / elements * inner;
    found.iter().map(|numbers| grid(&sorted(&mut numbers.iter()), count, most)).collect()
}

/// The grid of sorted distinct numbers, of which there were `count` with repetitions.
fn grid(numbers: &[f32], count: usize, most: u64) -> Option<Grid> {
    let (first, last) = (f64::from(*numbers.first()?), f64::from(*numbers.last()?));
    // Float arithmetic leaves the same pixel in several neighbouring numbers.
    let resolution = first.abs().max(last.abs()) * 8.0 * f64::from(f32::EPSILON);
    let gaps = numbers.windows(2).map(|w| f64::from(w[1]) - f64::from(w[0])).filter(|g| *g > resolution);
    let rough = gaps.clone().fold(0.0, |step, gap| common_divisor(step, gap, resolution.max(gap * 1e-6)));
    if rough <= 0.0 {
        return None;
    }
    let points = ((last - first) / rough).round();
    if points + 1.0 > most as f64 || count < EVIDENCE * (points as usize + 1) {
        return None;
    }
    let step = (last - first) / points;
    let on_grid = |x: &f32| {
        let at = (f64::from(*x) - first) / step;
        (at - at.round()).abs() <= TOLERANCE
    };
    if !numbers.iter().all(on_grid) {
        return None;
    }
    let offset = first / step;
    let rest = offset - offset.round();
    let rest = if rest.abs() <= TOLERANCE { 0.0 } else { rest };
    let lo = offset.round() as i64;
    Some(Grid { step, rest, range: Interval { lo, hi: lo + points as i64 } })
}

/// Euclid's algorithm on reals, down to `smallest`.
fn common_divisor(mut a: f64, mut b: f64, smallest: f64) -> f64 {
    while b > smallest {
        // Just below a multiple is one.
        let rest = a - (a / b).round() * b;
        (a, b) = (b, rest.abs());
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: impl Iterator<Item = f32>) -> Option<Grid> {
        let mut numbers: Vec<f32> = numbers.collect();
        numbers.sort_unstable_by(f32::total_cmp);
        numbers.dedup();
        grid(&numbers, 10_000, 256)
    }

    #[test]
    fn pixels_are_found_in_every_usual_scaling() {
        let pixels = || (0..=255u8).filter(|p| p % 7 != 2).map(f32::from);
        let unit = found(pixels().map(|p| p / 255.0)).expect("a grid");
        assert_eq!((unit.range, unit.rest), (Interval { lo: 0, hi: 255 }, 0.0));
        assert!((unit.step * 255.0 - 1.0).abs() < 1e-5);
        let standard = found(pixels().map(|p| (p / 255.0 - 0.485) / 0.229)).expect("a grid");
        assert!((standard.step - 1.0 / 255.0 / 0.229).abs() < 1e-6);
        // -0.485·255 = -123.675: half a step at most is left.
        assert_eq!(standard.range, Interval { lo: -124, hi: 131 });
        assert!((standard.rest - 0.325).abs() < 1e-3, "{standard:?}");
        let eighths = found((-128i32..=127).map(|k| k as f32 / 128.0)).expect("a grid");
        assert_eq!((eighths.step, eighths.rest, eighths.range), (1.0 / 128.0, 0.0, Interval { lo: -128, hi: 127 }));
    }

    #[test]
    fn other_numbers_have_no_grid() {
        assert_eq!(found((0..200).map(|i| (i as f32).sqrt())), None);
        assert_eq!(found((0..300).map(|i| i as f32)), None, "more points than asked for");
        assert_eq!(found([1.5f32].into_iter()), None, "one number");
        // Zeros around standardised pixels lie between two of them.
        let padded = (0..=255u8).map(|p| (f32::from(p) / 255.0 - 0.1307) / 0.3081).chain([0.0]);
        assert_eq!(found(padded), None);
    }
}
