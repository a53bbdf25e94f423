//! Functions with jumps, powers that differ between elements, elements named one by one.

use std::sync::Arc;

use fhe_ir::{Data, Func, Id, Op, Value};
use ndarray::Dimension;

use super::super::attributes::Attributes;
use super::super::layout;
use super::super::tensors::ints;
use super::terms::{Laid, Term};
use super::{Converter, Known, Site, Stop, refuse};

impl Converter<'_> {
    /// `x − bias` above `lambd`, `x + bias` below `−lambd`, 0 between.
    pub(super) fn shrink(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let number = |name: &str, default: f32| -> Result<f32, Stop> {
            Ok(Some(site.proto.float(name)?.unwrap_or(default)).filter(|v| v.is_finite()).ok_or("it is not finite")?)
        };
        let (edge, bias) = (number("lambd", 0.5)?, number("bias", 0.0)?);
        if edge < 0.0 {
            return Err(format!("its lambd is {edge}").into());
        }
        let x = self.value(site, 0)?;
        // t(x) − t(−x), with t(x) = x − bias where x > lambd, else 0
        let minus = self.number(site, ".bias", -bias)?;
        let half = vec![Func::Add(minus), Func::ThresholdedRelu(edge - bias)];
        let turned = self.step(site, Op::Neg { x }, &[])?;
        let (a, b) = (self.mapped(site, x, half.clone())?, self.mapped(site, turned, half)?);
        self.step(site, Op::Sub { a, b }, &[])
    }

    /// `x − c·⌊x/c⌋`, or the remainder of truncation with `fmod`.
    pub(super) fn remainder(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let (Term::Value(x), Term::Clear(c)) = self.pair(site)? else {
            return refuse("its divisor is encrypted", "remainders of constant divisors have a table");
        };
        if c.iter().any(|v| *v == 0.0 || !v.is_finite()) {
            return Err("a divisor is 0 or infinite".into());
        }
        let truncated = site.proto.int("fmod")?.unwrap_or(0) != 0;
        let whole = self.reads_whole(site);
        let Laid { x, c, shape } = self.lay(site, x, &c)?;
        let constant = |this: &mut Self, part: &str, f: fn(f32) -> f32| {
            this.spend(c.len())?;
            this.push_const(site, part, Data::F32(Arc::new(c.mapv(f))))
        };
        let mut chain = vec![];
        // A whole quotient of integers must not be rounded to the number below: half a unit is added, away from zero.
        if whole && !truncated {
            let half = self.number(site, ".half", 0.5)?;
            // x/c + 0.5/|c| == (x·sign(c) + 0.5)/|c|
            let sign = constant(self, ".sign", f32::signum)?;
            chain.extend([Func::Mul(sign), Func::Add(half)]);
            chain.push(Func::Mul(constant(self, ".inverse", |c| 1.0 / c.abs())?));
        } else {
            let inverse = match whole {
                true => constant(self, ".inverse", |c| (1.0 + 1.0 / (1 << 20) as f32) / c)?,
                false => constant(self, ".inverse", |c| 1.0 / c)?,
            };
            chain.push(Func::Mul(inverse));
        }
        let minus = constant(self, ".minus", |c| -c)?;
        chain.extend([if truncated { Func::Trunc } else { Func::Floor }, Func::Mul(minus)]);
        let multiple = self.mapped(site, x, chain)?;
        let y = self.step(site, Op::Add { a: x, b: multiple }, &[])?;
        self.in_shape(site, y, &shape)
    }

    /// `x^p` with a constant exponent for each element: elements of one exponent together.
    pub(super) fn powers(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        p: &ndarray::ArrayD<f32>,
    ) -> Result<Id<Value>, Stop> {
        let Laid { x, c, shape } = self.lay(site, x, p)?;
        let exponents: Vec<f32> = c.iter().copied().collect();
        if exponents.iter().any(|p| !p.is_finite()) {
            return Err("an exponent is not finite".into());
        }
        let mut distinct = exponents.clone();
        distinct.sort_by(f32::total_cmp);
        distinct.dedup();
        if distinct.len() > 64 {
            return refuse(format!("it has {} different exponents", distinct.len()), "raise to fewer powers");
        }
        let (mut parts, mut order) = (vec![], Vec::<usize>::new());
        for p in distinct {
            let channels: Vec<usize> = (0..exponents.len()).filter(|&i| exponents[i] == p).collect();
            order.extend(&channels);
            let part = self.pick(site, x, 1, channels)?;
            parts.push(self.mapped(site, part, power(p))?);
        }
        let y = self.join(site, parts, 1)?;
        let mut back: Vec<usize> = (0..order.len()).collect();
        back.sort_by_key(|&i| order[i]);
        let y = self.pick(site, y, 1, back)?;
        self.in_shape(site, y, &shape)
    }

    /// One element for each constant index along an axis.
    pub(super) fn gather_elements(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        if matches!(site.inputs.first(), Some(Some(Known::Const(_)))) {
            return refuse("it looks up an encrypted index", "encode indices as one-hot vectors");
        }
        let x = self.value(site, 0)?;
        let data = self.constant(site, 1)?.ok_or("it has no indices")?.clone();
        let own = self.shape(x)[self.lead..].to_vec();
        let at = layout::axis(site.proto.int("axis")?.unwrap_or(0), own.len())?;
        let wanted = data.shape().to_vec();
        let fits = wanted.len() == own.len() && (0..own.len()).all(|i| i == at || wanted[i] <= own[i]);
        if !fits || (self.lead == 0 && (at == 0 || wanted[0] != 1)) {
            return refuse(
                format!("its indices of shape {wanted:?} name elements of {own:?}"),
                "indices are as many axes as the operand has, and the same for every row",
            );
        }
        self.spend(data.len())?;
        let mut picked = vec![];
        let indices = ndarray::ArrayD::from_shape_vec(wanted.clone(), ints(&data)?).map_err(|e| e.to_string())?;
        for (place, &index) in indices.indexed_iter() {
            let index = layout::axis(index, own[at])?;
            let places = place.as_array_view();
            // Row-major, and inside: extents and the index are.
            picked.push((0..own.len()).fold(0, |n, i| n * own[i] + if i == at { index } else { places[i] }));
        }
        let x = self.in_shape(site, x, &[1, own.iter().product()])?;
        let x = self.pick(site, x, 1, picked)?;
        let shape = [&vec![1; self.lead][..], &wanted].concat();
        self.in_shape(site, x, &shape)
    }
}

/// A chain for `x^p`.
pub(super) fn power(p: f32) -> Vec<Func> {
    match p {
        1.0 => vec![],
        2.0 => vec![Func::Square],
        -1.0 => vec![Func::Reciprocal],
        p => vec![Func::Pow(p)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_powers_have_functions_of_their_own() {
        assert_eq!((power(1.0), power(2.0), power(3.0)), (vec![], vec![Func::Square], vec![Func::Pow(3.0)]));
    }
}
