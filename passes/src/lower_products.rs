//! lower-products: `x·y = ((x + y)/2)² − ((x − y)/2)²`, and a square is one map.
//!
//! Two tables for each element of a product, one for each element of a square. Sum and difference have one scale for
//! both factors, so a small factor beside a large one would vanish in its steps: where calibration rows show their
//! extents, `k·x` and `y/k` are multiplied instead, with the power of two that brings them nearest to each other. Two factors
//! whose steps the network states are brought to one step in the same way: their product is then exact.

use std::sync::{Arc, Mutex};

use fhe_ir::eval::float_observe;
use fhe_ir::{Const, Data, Elem, Facts, Func, Graph, Id, Op, Phase, Rebuild, Value, client};
use ndarray::{ArrayD, Axis, Slice, arr1};

use crate::grids::{self, Grid};
use crate::pass::{Pass, PassCx, PassError};

/// See the module.
pub struct LowerProducts;

/// Calibration rows that are looked at.
const ROWS: usize = 64;

impl Pass for LowerProducts {
    fn name(&self) -> &'static str {
        "lower-products"
    }

    fn summary(&self) -> &'static str {
        "make products of two values of sums and squares"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        if !graph.values.iter().any(|v| matches!(v.op, Op::Mul { .. })) {
            return Ok(graph);
        }
        let extents = extents(&graph, cx.calibration);
        let grids = grids::of(&graph);
        let mut lowering = Lowering { new: Rebuild::new(&graph), half: None };
        for (id, value) in graph.iter() {
            let Op::Mul { a, b } = value.op else {
                lowering.new.copy(id);
                continue;
            };
            let (x, y) = (lowering.new.get(a), lowering.new.get(b));
            let elements = value.elements() as u64;
            let product = if x == y {
                cx.count("squares", elements);
                lowering.push(value, "", map(x, vec![Func::Square]))
            } else {
                cx.count("products", elements);
                let stated = one_step(grids[a.index()].as_ref(), grids[b.index()].as_ref());
                let factors = stated.unwrap_or_else(|| vec![balance(extents[a.index()], extents[b.index()])]);
                lowering.product(value, x, y, factors)
            };
            lowering.new.place(id, product);
        }
        Ok(lowering.new.finish(Phase::Float))
    }
}

/// Greatest magnitude of every value on the first calibration rows; 0 where there are none.
fn extents(graph: &Graph, calibration: &[ArrayD<f32>]) -> Vec<f32> {
    let seen = Mutex::new(vec![0f32; graph.values.len()]);
    // Rows that do not fit are for `calibrate` to refuse.
    if let Ok(rows) = client::check_inputs(graph, calibration) {
        let first = |x: &ArrayD<f32>| x.slice_axis(Axis(0), Slice::from(..x.len_of(Axis(0)).min(ROWS))).to_owned();
        let rows: Vec<_> = rows.iter().map(first).collect();
        float_observe(graph, &rows, |id, x, _| {
            let greatest = x.iter().fold(0f32, |m, e| m.max(e.abs()));
            let mut seen = seen.lock().expect("observers do not panic");
            seen[id.index()] = seen[id.index()].max(greatest);
        });
    }
    seen.into_inner().expect("observers do not panic")
}

/// The power of two `k` that makes `k·a` and `b/k` most alike.
fn balance(a: f32, b: f32) -> f32 {
    let exponent = (f64::from(b).log2() - f64::from(a).log2()) / 2.0;
    if exponent.is_finite() { exponent.round().clamp(-60.0, 60.0).exp2() as f32 } else { 1.0 }
}

/// The factors `k` per channel that give `k·a` and `b/k` one step, when the network states those of both.
fn one_step(a: Option<&Grid>, b: Option<&Grid>) -> Option<Vec<f32>> {
    let (a, b) = (a?, b?);
    (a.range.is_some() && b.range.is_some()).then_some(())?;
    let factor = |(a, b): (&f32, &f32)| (f64::from(*b) / f64::from(*a)).sqrt() as f32;
    let factors: Vec<f32> = a.scale.iter().zip(&b.scale).map(factor).collect();
    let one = factors.windows(2).all(|w| w[0] == w[1]);
    factors.iter().all(|f| f.is_normal()).then(|| if one { factors[..1].to_vec() } else { factors })
}

fn map(x: Id<Value>, chain: Vec<Func>) -> Op {
    Op::Map { x, shift: None, chain, resolution: None }
}

struct Lowering<'g> {
    new: Rebuild<'g>,
    /// The constant ½.
    half: Option<Id<Const>>,
}

impl Lowering<'_> {
    fn push(&mut self, of: &Value, suffix: &str, op: Op) -> Id<Value> {
        self.new.push(Value {
            name: format!("{}{suffix}", of.name),
            shape: of.shape.clone(),
            elem: Elem::F32,
            op,
            facts: Facts::default(),
            cipher: None,
            from: of.from.clone(),
        })
    }

    fn constant(&mut self, name: &str, entries: &[f32]) -> Id<Const> {
        self.new.new.push_const(name, Data::F32(Arc::new(arr1(entries).into_dyn())))
    }

    fn product(&mut self, of: &Value, mut x: Id<Value>, mut y: Id<Value>, factors: Vec<f32>) -> Id<Value> {
        // x·y == (k·x)·(y/k)
        if factors.iter().any(|k| *k != 1.0) {
            let c = self.constant(&format!("{}.k", of.name), &factors);
            x = self.push(of, ".a", Op::MulClear { x, c });
            let c = self.constant(&format!("{}.1/k", of.name), &factors.iter().map(|k| 1.0 / k).collect::<Vec<_>>());
            y = self.push(of, ".b", Op::MulClear { x: y, c });
        }
        let half = match self.half {
            Some(half) => half,
            None => self.constant("half", &[0.5]),
        };
        self.half = Some(half);
        let sum = self.push(of, ".sum", Op::Add { a: x, b: y });
        let difference = self.push(of, ".difference", Op::Sub { a: x, b: y });
        let chain = vec![Func::Mul(half), Func::Square];
        let a = self.push(of, ".square", map(sum, chain.clone()));
        let b = self.push(of, ".square", map(difference, chain));
        self.push(of, "", Op::Sub { a, b })
    }
}
