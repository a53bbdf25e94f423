//! Reductions over any axes but the batch.

use fhe_ir::{Func, Id, Op, PoolGeometry, Value};

use super::super::attributes::Attributes;
use super::super::tensors::ints;
use super::windows::bounded;
use super::{Converter, Site, Stop, refuse};

/// What is done before, over and after the axes.
struct Reduction {
    before: Vec<Func>,
    fold: Fold,
    after: Vec<Func>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Mean,
    Max,
    Min,
    Product,
}

impl Reduction {
    fn of(op: &str) -> Option<Self> {
        let (before, fold, after) = match op {
            "ReduceSum" => (vec![], Fold::Sum, vec![]),
            "ReduceMean" => (vec![], Fold::Mean, vec![]),
            "ReduceMax" => (vec![], Fold::Max, vec![]),
            "ReduceMin" => (vec![], Fold::Min, vec![]),
            "ReduceProd" => (vec![], Fold::Product, vec![]),
            "ReduceL1" => (vec![Func::Abs], Fold::Sum, vec![]),
            "ReduceL2" => (vec![Func::Square], Fold::Sum, vec![Func::Sqrt]),
            "ReduceSumSquare" => (vec![Func::Square], Fold::Sum, vec![]),
            "ReduceLogSum" => (vec![], Fold::Sum, vec![Func::Log]),
            "ReduceLogSumExp" => (vec![Func::Exp], Fold::Sum, vec![Func::Log]),
            _ => return None,
        };
        Some(Self { before, fold, after })
    }
}

impl Converter<'_> {
    pub(super) fn reduce(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let op = Reduction::of(&site.proto.op_type).ok_or("it is no reduction")?;
        let x = self.value(site, 0)?;
        let axes = match self.constant(site, 1)? {
            Some(data) => ints(data)?,
            None => site.proto.ints("axes")?.unwrap_or(&[]).to_vec(),
        };
        if axes.is_empty() && site.proto.int("noop_with_empty_axes")?.unwrap_or(0) != 0 {
            let x = self.mapped(site, x, op.before)?;
            return self.mapped(site, x, op.after);
        }
        let shape = self.shape(x);
        let axes: Vec<usize> = if axes.is_empty() {
            (self.lead..shape.len()).collect()
        } else {
            axes.iter().map(|&a| self.axis(x, a)).collect::<Result<_, _>>()?
        };
        if axes.contains(&0) {
            return refuse(
                format!("it reduces axes {axes:?}, the batch among them"),
                "every row is encrypted on its own: name the axes without the batch",
            );
        }
        let keep = site.proto.int("keepdims")?.unwrap_or(1) != 0;
        let x = self.mapped(site, x, op.before)?;
        let y = self.folded(site, x, &axes, op.fold)?;
        let out: Vec<usize> = (0..shape.len())
            .filter(|a| keep || !axes.contains(a))
            .map(|a| if axes.contains(&a) { 1 } else { shape[a] })
            .collect();
        if out.len() < 2 {
            return refuse("it leaves nothing but the batch", "set keepdims");
        }
        let y = self.in_shape(site, y, &out)?;
        self.mapped(site, y, op.after)
    }

    /// The mean over axes, which stay with one element.
    pub(super) fn mean_over(&mut self, site: &Site<'_>, x: Id<Value>, axes: &[usize]) -> Result<Id<Value>, Stop> {
        let mut shape = self.shape(x);
        let y = self.folded(site, x, axes, Fold::Mean)?;
        axes.iter().for_each(|&a| shape[a] = 1);
        self.in_shape(site, y, &shape)
    }

    /// The fold over some axes, in any shape with the other axes in order.
    fn folded(&mut self, site: &Site<'_>, x: Id<Value>, axes: &[usize], fold: Fold) -> Result<Id<Value>, Stop> {
        let shape = self.shape(x);
        let plane = shape.len() == 4 && axes.iter().all(|a| *a >= 2);
        let (x, kernel) = if plane {
            let kernel = [2, 3].map(|a| if axes.contains(&a) { shape[a] } else { 1 });
            (x, kernel)
        } else {
            let (kept, gone): (Vec<usize>, Vec<usize>) = (1..shape.len()).partition(|a| !axes.contains(a));
            let perm = [0].into_iter().chain(kept.iter().copied()).chain(gone.iter().copied()).collect();
            let extent = |axes: &[usize]| axes.iter().map(|&a| shape[a]).product::<usize>();
            let x = self.in_order(site, x, perm)?;
            (self.in_shape(site, x, &[1, extent(&kept), extent(&gone), 1])?, [extent(&gone), 1])
        };
        bounded(&kernel)?;
        if kernel == [1, 1] {
            return Ok(x);
        }
        let geometry = PoolGeometry { kernel, strides: [1, 1], pads: [0; 4] };
        match fold {
            Fold::Sum => self.step(site, Op::SumPool { x, geometry }, &[]),
            Fold::Mean => self.step(site, Op::AvgPool { x, geometry }, &[]),
            Fold::Max => self.step(site, Op::MaxPool { x, geometry }, &[]),
            // min(x) == −max(−x)
            Fold::Min => {
                let x = self.step(site, Op::Neg { x }, &[])?;
                let x = self.step(site, Op::MaxPool { x, geometry }, &[])?;
                self.step(site, Op::Neg { x }, &[])
            }
            Fold::Product => {
                let mut x = x;
                for (axis, extent) in [(2, kernel[0]), (3, kernel[1])] {
                    x = self.product_along(site, x, axis, extent)?;
                }
                Ok(x)
            }
        }
    }

    /// Products of neighbours, in a tree.
    fn product_along(&mut self, site: &Site<'_>, x: Id<Value>, axis: usize, extent: usize) -> Result<Id<Value>, Stop> {
        const LONGEST: usize = 256;
        if extent > LONGEST {
            return Err(format!("it multiplies {extent} numbers, the limit is {LONGEST}").into());
        }
        let mut factors = (0..extent).map(|i| self.cut(site, x, axis, i, 1)).collect::<Result<Vec<_>, _>>()?;
        while factors.len() > 1 {
            let mut products = vec![];
            for pair in factors.chunks(2) {
                products.push(match *pair {
                    [a, b] => self.step(site, Op::Mul { a, b }, &[])?,
                    _ => pair[0],
                });
            }
            factors = products;
        }
        Ok(factors[0])
    }
}
