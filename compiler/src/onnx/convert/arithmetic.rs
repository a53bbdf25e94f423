//! Sums, differences, products, quotients, powers, bounds.

use std::sync::Arc;

use fhe_ir::{Data, Func, Id, Op, Value};
use ndarray::{ArrayD, arr1};
use onnx_ir::scaler::ScalerConfig;

use super::jumps::power;
use super::terms::Term;
use super::{Converter, Site, Stop, refuse};

impl Converter<'_> {
    pub(super) fn add(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let (a, b) = self.pair(site)?;
        let sum = self.sum(site, a, b)?;
        self.encrypted(sum)
    }

    pub(super) fn sub(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let (a, b) = self.pair(site)?;
        let difference = self.difference(site, a, b)?;
        self.encrypted(difference)
    }

    pub(super) fn mul(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let (a, b) = self.pair(site)?;
        if let (Term::Value(a), Term::Value(b)) = (&a, &b) {
            // x·sigmoid(x) == silu(x)
            let gate = |s: Id<Value>, x: Id<Value>| matches!(&self.graph.value(s).op, Op::Map { x: of, chain, .. } if *of == x && chain.as_slice() == [Func::Sigmoid]);
            if let Some(x) = if gate(*b, *a) { Some(*a) } else { gate(*a, *b).then_some(*b) } {
                return self.mapped(site, x, vec![Func::Silu]);
            }
        }
        let product = self.product(site, a, b)?;
        self.encrypted(product)
    }

    pub(super) fn div(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let quotient = match self.pair(site)? {
            (_, Term::Clear(c)) if c.iter().any(|v| *v == 0.0) => return Err("it divides by 0".into()),
            // x/c == x·(1/c) but for one rounding
            (x, Term::Clear(c)) => self.product(site, x, Term::Clear(c.mapv(|v| (1.0 / f64::from(v)) as f32)))?,
            (Term::Clear(c), Term::Value(x)) => {
                Term::Value(self.map_over(site, x, &c, |c| vec![Func::Reciprocal, Func::Mul(c)])?)
            }
            (a, b) => {
                let b = self.map_term(site, b, vec![Func::Reciprocal])?;
                self.product(site, a, b)?
            }
        };
        let quotient = self.encrypted(quotient)?;
        if !self.reads_whole(site) {
            return Ok(quotient);
        }
        // Integers below 2^19 are 2^-19 of their quotient apart from the next: a whole one that was rounded down is
        // brought back.
        let quotient = self.scaled(site, quotient, 1.0 + 1.0 / (1 << 20) as f32)?;
        self.mapped(site, quotient, vec![Func::Trunc])
    }

    pub(super) fn neg(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        self.step(site, Op::Neg { x }, &[])
    }

    /// `x^p` with a constant exponent, or `c^x` with a constant base.
    pub(super) fn pow(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        match self.pair(site)? {
            (Term::Value(x), Term::Clear(p)) => {
                let first = *p.first().ok_or("its exponent is empty")?;
                if p.iter().any(|v| *v != first) {
                    return self.powers(site, x, &p);
                }
                if !first.is_finite() {
                    return Err("its exponent is not finite".into());
                }
                // One number in more axes than the value still gives the result those axes.
                let x = if p.len() > 1 {
                    self.product(site, Term::Value(x), Term::Clear(p.mapv(|_| 1.0)))?
                } else {
                    Term::Value(x)
                };
                let x = self.encrypted(x)?;
                self.mapped(site, x, power(first))
            }
            // c^x == e^(x·ln c)
            (Term::Clear(c), Term::Value(x)) if c.iter().all(|v| *v > 0.0) => {
                self.map_over(site, x, &c.mapv(f32::ln), |c| vec![Func::Mul(c), Func::Exp])
            }
            _ => refuse(
                "its exponent is encrypted",
                "powers with a constant exponent, or a positive constant base, have a table",
            ),
        }
    }

    /// The sum of all inputs, divided by their number for a mean.
    pub(super) fn sum_of_all(&mut self, site: &Site<'_>, mean: bool) -> Result<Id<Value>, Stop> {
        let mut terms = self.terms(site)?.into_iter();
        let (mut sum, mut count) = (terms.next().ok_or("it has no inputs")?, 1.0);
        for term in terms {
            sum = self.sum(site, sum, term)?;
            count += 1.0;
        }
        let sum = self.encrypted(sum)?;
        if mean { self.scaled(site, sum, 1.0 / count) } else { Ok(sum) }
    }

    /// The greatest (`upper`) or least of all inputs.
    pub(super) fn extreme(&mut self, site: &Site<'_>, upper: bool) -> Result<Id<Value>, Stop> {
        let mut best = None;
        let mut bounds = vec![];
        for term in self.terms(site)? {
            match (term, best) {
                (Term::Clear(c), _) => bounds.push(c),
                (Term::Value(x), None) => best = Some(x),
                // max(a, b) == b + relu(a − b), min(a, b) == b − relu(b − a)
                (Term::Value(a), Some(b)) => {
                    let (a, b) = self.meet(site, a, b)?;
                    let op = if upper { Op::Sub { a, b } } else { Op::Sub { a: b, b: a } };
                    let rest = self.step(site, op, &[])?;
                    let rest = self.mapped(site, rest, vec![Func::Relu])?;
                    let op = if upper { Op::Add { a: b, b: rest } } else { Op::Sub { a: b, b: rest } };
                    best = Some(self.step(site, op, &[])?);
                }
            }
        }
        let mut x = best.ok_or("none of its operands is encrypted")?;
        for c in bounds {
            x = self.bound(site, x, &c, upper)?;
        }
        Ok(x)
    }

    /// `max(x, c)` or `min(x, c)`.
    fn bound(&mut self, site: &Site<'_>, x: Id<Value>, c: &ArrayD<f32>, lower: bool) -> Result<Id<Value>, Stop> {
        if let Ok(one) = self.per_channel(c, &self.shape(x))
            && let Some(&[v]) = one.as_slice()
            && v.is_finite()
        {
            return self.mapped(site, x, vec![if lower { Func::Clip(v, f32::MAX) } else { Func::Clip(f32::MIN, v) }]);
        }
        let laid = self.lay(site, x, c)?;
        let minus = self.push_const(site, ".minus", Data::F32(Arc::new(-&laid.c)))?;
        let plus = self.push_const(site, ".c", Data::F32(Arc::new(laid.c)))?;
        // max(x, c) == relu(x − c) + c
        // min(x, c) == min(x − c, 0) + c
        let half = if lower { Func::Relu } else { Func::Clip(f32::MIN, 0.0) };
        let y = self.mapped(site, laid.x, vec![Func::Add(minus), half, Func::Add(plus)])?;
        self.in_shape(site, y, &laid.shape)
    }

    /// scikit-learn's `(x − offset)·scale`, one entry or one per channel.
    pub(super) fn scaler(&mut self, site: &Site<'_>, config: &ScalerConfig) -> Result<Id<Value>, Stop> {
        let mut x = self.value(site, 0)?;
        let shape = self.shape(x);
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
}
