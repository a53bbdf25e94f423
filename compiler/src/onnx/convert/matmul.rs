//! Dense layers and matrix products, of values with constants and of two values.

use std::sync::Arc;

use fhe_ir::{Data, Id, Op, PoolGeometry, Value};
use ndarray::{ArrayD, IxDyn};

use super::super::attributes::Attributes;
use super::terms::{Term, broadcast, numbers};
use super::{Converter, Known, Site, Stop, refuse};

/// A constant with its last two axes swapped.
fn turned(c: ArrayD<f32>) -> ArrayD<f32> {
    let mut axes: Vec<usize> = (0..c.ndim()).collect();
    axes.swap(c.ndim() - 2, c.ndim() - 1);
    c.permuted_axes(IxDyn(&axes)).as_standard_layout().into_owned()
}

impl Converter<'_> {
    /// `alpha·A·B + beta·C`.
    pub(super) fn gemm(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let number = |name: &str| -> Result<f32, Stop> { Ok(site.proto.float(name)?.unwrap_or(1.0)) };
        let flag = |name: &str| -> Result<bool, Stop> { Ok(site.proto.int(name)?.unwrap_or(0) != 0) };
        let (alpha, beta) = (number("alpha")?, number("beta")?);
        if !flag("transA")?
            && let Some(y) = self.exact_dense(site, flag("transB")?, alpha, beta)?
        {
            return Ok(y);
        }
        let (mut a, mut b) = (self.term(site, 0)?, self.term(site, 1)?);
        let summand = match site.inputs.get(2) {
            None | Some(None) => None,
            Some(_) => Some(self.term(site, 2)?),
        };
        for (term, swap) in [(&mut a, flag("transA")?), (&mut b, flag("transB")?)] {
            if swap {
                *term = self.swapped(site, term.clone())?;
            }
        }
        if let Term::Clear(b) = &mut b
            && alpha != 1.0
        {
            b.mapv_inplace(|v| v * alpha);
        } else if alpha != 1.0 {
            a = self.product(site, a, Term::Clear(ArrayD::from_elem(IxDyn(&[]), alpha)))?;
        }
        let summand = match summand {
            Some(Term::Clear(c)) if beta != 1.0 => Some(Term::Clear(c * beta)),
            Some(c) if beta != 1.0 => Some(self.product(site, c, Term::Clear(ArrayD::from_elem(IxDyn(&[]), beta)))?),
            other => other,
        };
        self.multiplied_plus(site, a, b, summand)
    }

    /// A dense layer whose weights the model states as integers: they stay what they are.
    fn exact_dense(
        &mut self,
        site: &Site<'_>,
        transposed: bool,
        alpha: f32,
        beta: f32,
    ) -> Result<Option<Id<Value>>, Stop> {
        let Some((law, scale)) = self.exact_weights(site, 1, usize::from(!transposed)) else { return Ok(None) };
        let Some(Some(Known::Value(x))) = site.inputs.first() else { return Ok(None) };
        let (x, shape) = (*x, self.shape(*x));
        if shape.len() < 2 || law.ndim() != 2 {
            return Ok(None);
        }
        let integers = if transposed { law } else { law.t().as_standard_layout().into_owned() };
        if shape.len() > 2 {
            let bare = self.constant(site, 2)?.is_none() && shape.last() == integers.shape().last();
            return if bare { self.exact_places(site, x, integers, scale, alpha).map(Some) } else { Ok(None) };
        }
        if self.lead > 0 {
            return Ok(None);
        }
        let bias = match self.constant(site, 2)? {
            None => None,
            Some(data) => Some(self.per_channel(&numbers(data), &[1, scale.len()])? * beta),
        };
        self.spend(integers.len())?;
        let w = self.push_exact(site, ".w", integers);
        let acc = self.push(site, ".acc", Op::Dot { x, w }, &[])?;
        self.exact_result(site, acc, scale.iter().map(|s| s * alpha).collect(), bias).map(Some)
    }

    /// `[1, ..., k]` times exact weights `[n, k]`: everything in front of the last axis is a place.
    fn exact_places(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        w: ArrayD<i64>,
        scale: Vec<f32>,
        alpha: f32,
    ) -> Result<Id<Value>, Stop> {
        let mut out = self.shape(x);
        let last = out.len() - 1;
        let (n, k) = (w.shape()[0], out[last]);
        let places = out[1..last].iter().product();
        let x = self.in_shape(site, x, &[1, places, k])?;
        let x = self.in_order(site, x, vec![0, 2, 1])?;
        let y = self.at_each_place(site, x, Data::Int(Arc::new(w)), 1)?;
        let y = self.exact_result(site, y, scale.iter().map(|s| s * alpha).collect(), None)?;
        let y = self.in_order(site, y, vec![0, 2, 1])?;
        out[last] = n;
        self.in_shape(site, y, &out)
    }

    /// Exact weights `[m, k]` times `[1, k, n]`: rows are channels already.
    fn exact_matrix(&mut self, site: &Site<'_>) -> Result<Option<Id<Value>>, Stop> {
        let Some((w, scale)) = self.exact_weights(site, 0, 0) else { return Ok(None) };
        let Some(Some(Known::Value(x))) = site.inputs.get(1) else { return Ok(None) };
        match (&self.shape(*x)[..], w.shape()) {
            ([1, k, _], [_, own]) if k == own => {}
            _ => return Ok(None),
        }
        let y = self.at_each_place(site, *x, Data::Int(Arc::new(w)), 1)?;
        self.exact_result(site, y, scale, None).map(Some)
    }

    pub(super) fn matmul(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        if let Some(y) = self.exact_dense(site, false, 1.0, 1.0)? {
            return Ok(y);
        }
        if let Some(y) = self.exact_matrix(site)? {
            return Ok(y);
        }
        let (a, b) = self.pair(site)?;
        let (left, right) = (self.rank(&a), self.rank(&b));
        if left != 1 && right != 1 {
            return self.multiplied_plus(site, a, b, None);
        }
        // A vector is a row on the left, a column on the right; its axis is not in the result.
        if self.lead == 0 {
            return refuse("it multiplies by a vector along the batch", "give the vector a second axis (Unsqueeze)");
        }
        let a = if left == 1 { self.with_axis(site, a, 0)? } else { a };
        let b = if right == 1 { self.with_axis(site, b, 1)? } else { b };
        let y = self.multiplied_plus(site, a, b, None)?;
        let mut shape = self.shape(y);
        let columns = shape.pop().unwrap_or(1);
        let rows = shape.pop().unwrap_or(1);
        shape.extend((left != 1).then_some(rows));
        shape.extend((right != 1).then_some(columns));
        if shape.len() == 1 {
            shape.push(1);
        }
        self.in_shape(site, y, &shape)
    }

    /// Number of ONNX's axes.
    fn rank(&self, term: &Term) -> usize {
        match term {
            Term::Value(x) => self.shape(*x).len() - self.lead,
            Term::Clear(c) => c.ndim(),
        }
    }

    /// A vector with an axis of extent 1 at a place.
    fn with_axis(&mut self, site: &Site<'_>, term: Term, at: usize) -> Result<Term, Stop> {
        Ok(match term {
            Term::Value(x) => {
                let mut shape = self.shape(x);
                shape.insert(self.lead + at, 1);
                Term::Value(self.in_shape(site, x, &shape)?)
            }
            Term::Clear(c) => Term::Clear(c.insert_axis(ndarray::Axis(at))),
        })
    }

    fn multiplied_plus(&mut self, site: &Site<'_>, a: Term, b: Term, c: Option<Term>) -> Result<Id<Value>, Stop> {
        // The usual dense layer, with a bias per channel.
        if let (Term::Value(x), Term::Clear(w)) = (&a, &b)
            && self.shape(*x).len() == 2
            && w.ndim() == 2
            && self.lead == 0
        {
            return self.dense(site, *x, w.t().as_standard_layout().into_owned(), c);
        }
        let product = self.multiplied(site, a, b)?;
        match c {
            None => Ok(product),
            Some(c) => {
                let sum = self.sum(site, Term::Value(product), c)?;
                self.encrypted(sum)
            }
        }
    }

    /// `w·x + c` with weights `[out, in]`.
    pub(super) fn dense(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        w: ArrayD<f32>,
        c: Option<Term>,
    ) -> Result<Id<Value>, Stop> {
        let out = w.shape()[0];
        self.spend(w.len())?;
        let w = self.push_const(site, ".w", Data::F32(Arc::new(w)))?;
        match c {
            None => self.push(site, "", Op::Dot { x, w }, &[]),
            Some(Term::Clear(bias)) if self.per_channel(&bias, &[1, out]).is_ok() => {
                let bias = self.per_channel(&bias, &[1, out])?;
                let acc = self.push(site, ".acc", Op::Dot { x, w }, &[])?;
                self.spend(bias.len())?;
                let c = self.push_const(site, ".b", Data::F32(Arc::new(bias)))?;
                self.push(site, "", Op::AddClear { x: acc, c }, &[])
            }
            Some(c) => {
                let acc = self.push(site, ".acc", Op::Dot { x, w }, &[])?;
                let sum = self.sum(site, Term::Value(acc), c)?;
                self.encrypted(sum)
            }
        }
    }

    /// The last two axes swapped.
    fn swapped(&mut self, site: &Site<'_>, term: Term) -> Result<Term, Stop> {
        match term {
            Term::Clear(c) if c.ndim() >= 2 => Ok(Term::Clear(turned(c))),
            Term::Value(x) if self.shape(x).len() >= 3 => {
                let rank = self.shape(x).len();
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.swap(rank - 2, rank - 1);
                Ok(Term::Value(self.in_order(site, x, perm)?))
            }
            _ => refuse("it multiplies along the batch", "every row is encrypted on its own: rows cannot meet"),
        }
    }

    fn multiplied(&mut self, site: &Site<'_>, a: Term, b: Term) -> Result<Id<Value>, Stop> {
        match (a, b) {
            (Term::Value(x), Term::Clear(w)) => self.times_matrix(site, x, w),
            // A·x == (xᵀ·Aᵀ)ᵀ
            (Term::Clear(w), Term::Value(x)) if w.ndim() >= 2 => {
                let x = self.swapped(site, Term::Value(x))?;
                let x = self.encrypted(x)?;
                let y = self.times_matrix(site, x, turned(w))?;
                let y = self.swapped(site, Term::Value(y))?;
                self.encrypted(y)
            }
            (Term::Value(a), Term::Value(b)) => self.times_value(site, a, b),
            _ => Err("its operands are not matrices".into()),
        }
    }

    /// `[1, ..., m, k]` times a constant `[k, n]`, or one with further axes in front.
    fn times_matrix(&mut self, site: &Site<'_>, x: Id<Value>, w: ArrayD<f32>) -> Result<Id<Value>, Stop> {
        let shape = self.shape(x);
        if shape.len() < 3 || w.ndim() < 2 {
            return refuse(
                format!("it multiplies shapes {shape:?} and {:?}", w.shape()),
                "a matrix of constants on the right has an encrypted form",
            );
        }
        let rank = shape.len();
        let (m, k) = (shape[rank - 2], shape[rank - 1]);
        let &[.., wk, n] = w.shape() else { return Err("its constant is not a matrix".into()) };
        if wk != k {
            return Err(format!("it multiplies shapes {shape:?} and {:?}", w.shape()).into());
        }
        let own = &w.shape()[..w.ndim() - 2];
        if own.iter().all(|&e| e == 1) && w.ndim() <= rank {
            // One matrix for all: everything in front of the last axis is a place.
            let places = shape[1..rank - 1].iter().product();
            let matrix = w.into_shape_with_order(vec![k, n]).map_err(|_| "its matrix is not row-major")?;
            let x = self.in_shape(site, x, &[1, places, k])?;
            let x = self.in_order(site, x, vec![0, 2, 1])?;
            let y =
                self.at_each_place(site, x, Data::F32(Arc::new(matrix.t().as_standard_layout().into_owned())), 1)?;
            let y = self.in_order(site, y, vec![0, 2, 1])?;
            let mut out = shape;
            out[rank - 1] = n;
            return self.in_shape(site, y, &out);
        }
        let blocks = broadcast(&shape[self.lead..rank - 2], own)?;
        if self.lead == 0 && (blocks.len() + 2 != rank || blocks[0] != 1) {
            return refuse("its constant differs between rows", "every row is encrypted on its own");
        }
        let mut wide = shape[..self.lead].to_vec();
        wide.extend(&blocks);
        wide.extend([m, k]);
        let x = self.expand(site, x, &wide)?;
        let count: usize = blocks.iter().product();
        let mut all = blocks;
        all.extend([k, n]);
        self.spend(all.iter().product())?;
        let w = turned(w.broadcast(IxDyn(&all)).ok_or("its constant does not broadcast")?.to_owned());
        let matrix = w.into_shape_with_order(vec![count * n, k]).map_err(|_| "its matrix is not row-major")?;
        let x = self.in_shape(site, x, &[1, count, m, k])?;
        let x = self.in_order(site, x, vec![0, 1, 3, 2])?;
        let x = self.in_shape(site, x, &[1, count * k, m])?;
        let y = self.at_each_place(site, x, Data::F32(Arc::new(matrix)), count)?;
        let y = self.in_shape(site, y, &[1, count, n, m])?;
        let y = self.in_order(site, y, vec![0, 1, 3, 2])?;
        let last = wide.len() - 1;
        wide[last] = n;
        self.in_shape(site, y, &wide)
    }

    /// `[1, ..., m, k]` times `[1, ..., k, n]`: all products, then sums.
    fn times_value(&mut self, site: &Site<'_>, a: Id<Value>, b: Id<Value>) -> Result<Id<Value>, Stop> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        if sa.len() < 3 || sb.len() < 3 || sa[sa.len() - 1] != sb[sb.len() - 2] {
            return refuse(
                format!("it multiplies encrypted values of shapes {sa:?} and {sb:?}"),
                "rows cannot meet: two encrypted matrices have axes of their own behind the batch",
            );
        }
        let (mut left, mut right) = (sa.clone(), sb.clone());
        left.push(1);
        right.insert(sb.len() - 2, 1);
        let (a, b) = (self.in_shape(site, a, &left)?, self.in_shape(site, b, &right)?);
        let products = self.product(site, Term::Value(a), Term::Value(b))?;
        let products = self.encrypted(products)?;
        let shape = self.shape(products);
        let rank = shape.len();
        let (k, n) = (shape[rank - 2], shape[rank - 1]);
        let x = self.in_shape(site, products, &[1, shape[1..rank - 2].iter().product(), k, n])?;
        let geometry = PoolGeometry { kernel: [k, 1], strides: [1, 1], pads: [0; 4] };
        let x = if k == 1 { x } else { self.step(site, Op::SumPool { x, geometry }, &[])? };
        let mut out = shape[..rank - 2].to_vec();
        out.push(n);
        self.in_shape(site, x, &out)
    }
}
