//! Normalizations by statistics of the row itself: means, squares, one table for the power, one product.

use fhe_ir::{Func, Id, Op, PoolGeometry, Value};
use ndarray::{ArrayD, IxDyn};

use super::super::attributes::Attributes;
use super::terms::Term;
use super::{Converter, Site, Stop};

impl Converter<'_> {
    /// `x/(bias + alpha/size·Σ x²)^beta`, the sum over neighbouring channels.
    pub(super) fn lrn(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let number = |name: &str, default: f32| -> Result<f32, Stop> { Ok(site.proto.float(name)?.unwrap_or(default)) };
        let (alpha, beta, bias) = (number("alpha", 0.0001)?, number("beta", 0.75)?, number("bias", 1.0)?);
        let size = usize::try_from(site.proto.int("size")?.ok_or("it has no size")?).unwrap_or(0);
        let shape = self.shape(x);
        if size == 0 || size > 2 * shape[1] || !beta.is_finite() {
            return Err(format!("its size is {size}").into());
        }
        let squares = self.mapped(site, x, vec![Func::Square])?;
        let places = shape[2..].iter().product::<usize>();
        let plane = self.in_shape(site, squares, &[1, 1, shape[1], places])?;
        let geometry = PoolGeometry { kernel: [size, 1], strides: [1, 1], pads: [(size - 1) / 2, 0, size / 2, 0] };
        let sums = self.step(site, Op::SumPool { x: plane, geometry }, &[])?;
        let sums = self.in_shape(site, sums, &shape)?;
        let (scale, bias) = (self.number(site, ".alpha", alpha / size as f32)?, self.number(site, ".bias", bias)?);
        let power = self.mapped(site, sums, vec![Func::Mul(scale), Func::Add(bias), Func::Pow(-beta)])?;
        let y = self.product(site, Term::Value(x), Term::Value(power))?;
        self.encrypted(y)
    }

    /// Mean 0 and variance 1 over all places of each channel, then a scale and a bias per channel.
    pub(super) fn instance_norm(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let rank = self.shape(x).len();
        if rank < 3 {
            return Err("its operand has no places".into());
        }
        let axes: Vec<usize> = (2..rank).collect();
        let y = self.standardized(site, x, &axes)?;
        let per_channel = |term: Term| match term {
            Term::Clear(c) => {
                let mut shape = vec![c.len()];
                shape.extend(axes.iter().map(|_| 1));
                c.into_shape_with_order(shape)
                    .map(Term::Clear)
                    .map_err(|_| Stop::from("its constants are not row-major"))
            }
            Term::Value(_) => Err("its scale or bias is encrypted".into()),
        };
        let (scale, bias) = (per_channel(self.term(site, 1)?)?, per_channel(self.term(site, 2)?)?);
        self.affine(site, y, scale, Some(bias))
    }

    /// Mean 0 and variance 1 over the last axes, then a scale and a bias per element of them.
    pub(super) fn layer_norm(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let first = self.axis(x, site.proto.int("axis")?.unwrap_or(-1))?;
        if first == 0 {
            return Err("it normalizes over the batch".into());
        }
        let axes: Vec<usize> = (first..self.shape(x).len()).collect();
        let y = self.standardized(site, x, &axes)?;
        let scale = self.term(site, 1)?;
        let bias = if site.inputs.get(2).is_some_and(Option::is_some) { Some(self.term(site, 2)?) } else { None };
        self.affine(site, y, scale, bias)
    }

    fn affine(&mut self, site: &Site<'_>, x: Id<Value>, scale: Term, bias: Option<Term>) -> Result<Id<Value>, Stop> {
        let mut y = self.product(site, Term::Value(x), scale)?;
        if let Some(bias) = bias {
            y = self.sum(site, y, bias)?;
        }
        self.encrypted(y)
    }

    /// `(x − mean)/√(variance + epsilon)` over axes.
    fn standardized(&mut self, site: &Site<'_>, x: Id<Value>, axes: &[usize]) -> Result<Id<Value>, Stop> {
        let epsilon = site.proto.float("epsilon")?.unwrap_or(1e-5);
        let mean = self.mean_over(site, x, axes)?;
        let centred = self.difference(site, Term::Value(x), Term::Value(mean))?;
        let centred = self.encrypted(centred)?;
        let squares = self.mapped(site, centred, vec![Func::Square])?;
        let variance = self.mean_over(site, squares, axes)?;
        let epsilon = self.number(site, ".epsilon", epsilon)?;
        let factor = self.mapped(site, variance, vec![Func::Add(epsilon), Func::Pow(-0.5)])?;
        let y = self.product(site, Term::Value(centred), Term::Value(factor))?;
        self.encrypted(y)
    }

    /// Mean 0 and variance 1 over all places of groups of channels, then a scale and a bias per channel.
    pub(super) fn group_norm(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let shape = self.shape(x);
        let groups = usize::try_from(site.proto.int("num_groups")?.ok_or("it has no num_groups")?).unwrap_or(0);
        if groups == 0 || !shape[1].is_multiple_of(groups) {
            return Err(format!("{} channels are not {groups} groups", shape[1]).into());
        }
        let grouped = self.in_shape(site, x, &[1, groups, shape[1..].iter().product::<usize>() / groups])?;
        let y = self.standardized(site, grouped, &[2])?;
        let y = self.in_shape(site, y, &shape)?;
        let mut parts = vec![];
        for i in [1, 2] {
            let Term::Clear(c) = self.term(site, i)? else { return Err("its scale or bias is encrypted".into()) };
            // Before operator set 21 there is one entry for each group.
            let each = shape[1] / c.len().max(1);
            if c.is_empty() || each * c.len() != shape[1] {
                return Err(format!("its constants have {} entries for {} channels", c.len(), shape[1]).into());
            }
            let mut wide = vec![shape[1]];
            wide.extend(shape[2..].iter().map(|_| 1));
            let flat: Vec<f32> = c.iter().copied().collect();
            parts.push(Term::Clear(ArrayD::from_shape_fn(IxDyn(&wide), |at| flat[at[0] / each])));
        }
        let bias = parts.pop();
        self.affine(site, y, parts.remove(0), bias)
    }
}
