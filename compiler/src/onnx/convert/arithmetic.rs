//! Sums, differences, products and bounds: of two values, or of a value and a constant.

use std::sync::Arc;

use fhe_ir::{Data, Func, Id, Op, Value};
use ndarray::{ArrayD, arr1};
use onnx_ir::scaler::ScalerConfig;

use super::layers::reals;
use super::{Converter, Known, Site, Stop, refuse};

/// The operands of a node with two inputs.
enum Pair {
    Values(Id<Value>, Id<Value>),
    /// A value, the constant per channel, and whether the constant comes first.
    Clear(Id<Value>, ArrayD<f32>, bool),
}

impl Converter<'_> {
    fn pair(&self, site: &Site<'_>) -> Result<Pair, Stop> {
        let [Some(a), Some(b)] = &site.inputs[..] else {
            return Err(format!("it has {} inputs, not 2", site.inputs.iter().flatten().count()).into());
        };
        let (x, data, first) = match (a, b) {
            (Known::Value(a), Known::Value(b)) => {
                let (sa, sb) = (&self.graph.value(*a).shape, &self.graph.value(*b).shape);
                if sa != sb {
                    return Err(format!("its operands of shapes {sa:?} and {sb:?} are broadcast").into());
                }
                return Ok(Pair::Values(*a, *b));
            }
            (Known::Value(x), Known::Const(data)) => (*x, data, false),
            (Known::Const(data), Known::Value(x)) => (*x, data, true),
            _ => return Err("its operands are not values".into()),
        };
        Ok(Pair::Clear(x, self.per_channel(reals(data)?, &self.graph.value(x).shape)?, first))
    }

    pub(super) fn add(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        match self.pair(site)? {
            Pair::Values(a, b) => self.push(site, "", Op::Add { a, b }, &[]),
            Pair::Clear(x, c, _) => self.add_clear(site, x, c),
        }
    }

    pub(super) fn sub(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        match self.pair(site)? {
            Pair::Values(a, b) => self.push(site, "", Op::Sub { a, b }, &[]),
            // x − c == x + (−c)
            Pair::Clear(x, c, false) => self.add_clear(site, x, -c),
            // c − x == (−x) + c
            Pair::Clear(x, c, true) => {
                let x = self.push(site, ".neg", Op::Neg { x }, &[])?;
                self.add_clear(site, x, c)
            }
        }
    }

    pub(super) fn mul(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        match self.pair(site)? {
            Pair::Values(a, b) => {
                // x·sigmoid(x) == silu(x)
                let gate = |s: Id<Value>, x: Id<Value>| matches!(&self.graph.value(s).op, Op::Map { x: of, chain, .. } if *of == x && chain.as_slice() == [Func::Sigmoid]);
                let x = if gate(b, a) {
                    a
                } else if gate(a, b) {
                    b
                } else {
                    return refuse(
                        "it is a product of two encrypted values",
                        "only x·sigmoid(x) and products with constants have an encrypted form",
                    );
                };
                self.apply(site, x, vec![Func::Silu])
            }
            Pair::Clear(x, c, _) => self.mul_clear(site, x, c),
        }
    }

    pub(super) fn div(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        match self.pair(site)? {
            Pair::Values(..) | Pair::Clear(_, _, true) => Err("it divides by an encrypted value".into()),
            Pair::Clear(_, c, false) if c.iter().any(|v| *v == 0.0) => Err("it divides by 0".into()),
            // x/c == x·(1/c) but for one rounding
            Pair::Clear(x, c, false) => self.mul_clear(site, x, c.mapv(|v| (1.0 / f64::from(v)) as f32)),
        }
    }

    pub(super) fn neg(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        self.push(site, "", Op::Neg { x }, &[])
    }

    /// `max(x, c, …)` or `min(x, c, …)`.
    pub(super) fn bound(&mut self, site: &Site<'_>, lower: bool) -> Result<Id<Value>, Stop> {
        let mut values = site.inputs.iter().flatten().filter(|k| !matches!(k, Known::Const(_)));
        let (Some(Known::Value(x)), None) = (values.next(), values.next()) else {
            return refuse("it compares encrypted values", "max(a, b) == b + relu(a − b) has an encrypted form");
        };
        let shape = self.graph.value(*x).shape.clone();
        let mut chain = vec![];
        for known in site.inputs.iter().flatten() {
            let Known::Const(data) = known else { continue };
            let c = self.per_channel(reals(data)?, &shape)?;
            match c.as_slice() {
                Some(&[v]) if v.is_finite() => {
                    chain.push(if lower { Func::Clip(v, f32::MAX) } else { Func::Clip(f32::MIN, v) });
                }
                _ => {
                    self.spend(2 * c.len())?;
                    let minus = self.push_const(site, ".minus", Data::F32(Arc::new(-&c)))?;
                    let plus = self.push_const(site, ".c", Data::F32(Arc::new(c)))?;
                    // max(x, c) == relu(x − c) + c
                    // min(x, c) == −(relu(−x + c)) + c
                    if lower {
                        chain.extend([Func::Add(minus), Func::Relu, Func::Add(plus)]);
                    } else {
                        let flip = Data::F32(Arc::new(arr1(&[-1.0]).into_dyn()));
                        let flip = self.push_const(site, ".flip", flip)?;
                        let first = [Func::Mul(flip), Func::Add(plus), Func::Relu];
                        chain.extend(first.into_iter().chain([Func::Mul(flip), Func::Add(plus)]));
                    }
                }
            }
        }
        self.apply(site, *x, chain)
    }

    /// scikit-learn's `(x − offset)·scale`, one entry or one per channel.
    pub(super) fn scaler(&mut self, site: &Site<'_>, config: &ScalerConfig) -> Result<Id<Value>, Stop> {
        let mut x = self.value(site, 0)?;
        let shape = self.graph.value(x).shape.clone();
        if shape.len() != 2 {
            return Err(format!("its operand of shape {shape:?} is not [1, channels]").into());
        }
        if let Some(offset) = &config.offset {
            let c = self.per_channel(&-arr1(offset).into_dyn(), &shape)?;
            let part = if config.scale.is_some() { ".offset" } else { "" };
            let c = self.push_const(site, ".offset", Data::F32(Arc::new(c)))?;
            x = self.push(site, part, Op::AddClear { x, c }, &[])?;
        }
        if let Some(scale) = &config.scale {
            let c = self.per_channel(&arr1(scale).into_dyn(), &shape)?;
            let c = self.push_const(site, ".scale", Data::F32(Arc::new(c)))?;
            x = self.push(site, "", Op::MulClear { x, c }, &[])?;
        }
        Ok(x)
    }

    fn add_clear(&mut self, site: &Site<'_>, x: Id<Value>, c: ArrayD<f32>) -> Result<Id<Value>, Stop> {
        self.spend(c.len())?;
        let c = self.push_const(site, ".c", Data::F32(Arc::new(c)))?;
        self.push(site, "", Op::AddClear { x, c }, &[])
    }

    fn mul_clear(&mut self, site: &Site<'_>, x: Id<Value>, c: ArrayD<f32>) -> Result<Id<Value>, Stop> {
        self.spend(c.len())?;
        let c = self.push_const(site, ".c", Data::F32(Arc::new(c)))?;
        self.push(site, "", Op::MulClear { x, c }, &[])
    }
}
