//! Arithmetic of values and constants in any mixture, with ONNX's broadcasting.
//!
//! A constant meets a value as one entry, or as one per channel. One that differs along other axes meets the value
//! flattened to `[1, elements]`, where every element is a channel. Values repeat their slices to meet (`gather`).

use std::sync::Arc;

use fhe_ir::{Const, Data, Func, Id, Op, Value};
use ndarray::{ArrayD, IxDyn, Zip};

use super::super::layout;
use super::super::limits::{MAX_ELEMENTS, MAX_GROWN};
use super::super::tensors::per_channel;
use super::{Converter, Known, Site, Stop, refuse};

/// An operand.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// Encrypted.
    Value(Id<Value>),
    /// Known at compile time.
    Clear(ArrayD<f32>),
}

/// A value that a constant is laid over.
pub(super) struct Laid {
    /// The value, expanded and flattened as the constant wants.
    pub(super) x: Id<Value>,
    /// One entry, or one per channel of `x`.
    pub(super) c: ArrayD<f32>,
    /// Shape of the result in the IR.
    pub(super) shape: Vec<usize>,
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let shape = layout::broadcast(a, b);
    let fits = |s: &Vec<usize>| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= MAX_ELEMENTS);
    shape.filter(fits).ok_or_else(|| format!("shapes {a:?} and {b:?} do not broadcast"))
}

/// `f` of two constants, element by element.
pub(super) fn zip_clear(a: &ArrayD<f32>, b: &ArrayD<f32>, f: impl Fn(f32, f32) -> f32) -> Result<ArrayD<f32>, Stop> {
    let shape = broadcast(a.shape(), b.shape())?;
    let grown = shape.iter().product::<usize>() > MAX_GROWN.max(a.len()).max(b.len());
    let (Some(a), Some(b), false) = (a.broadcast(IxDyn(&shape)), b.broadcast(IxDyn(&shape)), grown) else {
        return Err(format!("its constants do not broadcast to {shape:?}").into());
    };
    Ok(Zip::from(a).and(b).map_collect(|a, b| f(*a, *b)))
}

impl Converter<'_> {
    /// Input `i` of the node.
    pub(super) fn term(&self, site: &Site<'_>, i: usize) -> Result<Term, Stop> {
        match site.inputs.get(i) {
            Some(Some(Known::Value(id))) => Ok(Term::Value(*id)),
            Some(Some(Known::Const(data))) => {
                self.scan(data.len())?;
                Ok(Term::Clear(numbers(data)))
            }
            _ => Err(format!("its input {i} is missing, or is no tensor of numbers").into()),
        }
    }

    /// All inputs of the node.
    pub(super) fn terms(&self, site: &Site<'_>) -> Result<Vec<Term>, Stop> {
        (0..site.inputs.len()).map(|i| self.term(site, i)).collect()
    }

    /// Two inputs of the node.
    pub(super) fn pair(&self, site: &Site<'_>) -> Result<(Term, Term), Stop> {
        match site.inputs.len() {
            2 => Ok((self.term(site, 0)?, self.term(site, 1)?)),
            n => Err(format!("it has {n} inputs, not 2").into()),
        }
    }

    /// The value expanded to a shape of the IR.
    pub(super) fn expand(&mut self, site: &Site<'_>, mut x: Id<Value>, to: &[usize]) -> Result<Id<Value>, Stop> {
        let mut from = self.shape(x);
        if from.len() < to.len() && self.lead == 0 {
            return refuse(
                format!("its operand of shape {from:?} is broadcast to {to:?}, against its batch"),
                "give the operand as many axes (Unsqueeze)",
            );
        }
        while from.len() < to.len() {
            from.insert(1, 1);
        }
        x = self.in_shape(site, x, &from)?;
        // The longest axis first: what is repeated later is repeated once.
        for axis in (0..to.len()).rev() {
            if from[axis] != to[axis] {
                if from[axis] != 1 || axis == 0 {
                    return Err(format!("its operand of shape {from:?} does not broadcast to {to:?}").into());
                }
                self.spend(to[axis])?;
                x = self.pick(site, x, axis, vec![0; to[axis]])?;
            }
        }
        Ok(x)
    }

    /// Lays a constant over a value.
    pub(super) fn lay(&mut self, site: &Site<'_>, x: Id<Value>, c: &ArrayD<f32>) -> Result<Laid, Stop> {
        let own = self.shape(x);
        let wanted = broadcast(&own[self.lead..], c.shape())?;
        if self.lead == 0 && (wanted.len() != own.len() || wanted[0] != 1) {
            let (c, value) = (c.shape(), &own);
            return refuse(
                format!("its constant of shape {c:?} would give a value of shape {value:?} another batch"),
                "every row is encrypted on its own: a constant that differs between rows has no place",
            );
        }
        let mut shape = own[..self.lead].to_vec();
        shape.extend(&wanted);
        let x = self.expand(site, x, &shape)?;
        self.scan(c.len())?;
        if let Ok(c) = per_channel(c, &shape) {
            self.spend(c.len())?;
            return Ok(Laid { x, c, shape });
        }
        let all = c.broadcast(IxDyn(&wanted)).ok_or("its constant does not broadcast")?;
        self.spend(all.len())?;
        let flat: Vec<f32> = all.iter().copied().collect();
        let x = self.in_shape(site, x, &[1, flat.len()])?;
        Ok(Laid { x, c: ArrayD::from_shape_vec(vec![flat.len()], flat).expect("a vector fills its length"), shape })
    }

    /// A step on a value and a constant that is laid over it.
    fn over(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        c: &ArrayD<f32>,
        op: impl FnOnce(Id<Value>, Id<Const>) -> Op,
    ) -> Result<Id<Value>, Stop> {
        let laid = self.lay(site, x, c)?;
        let c = self.push_const(site, ".c", Data::F32(Arc::new(laid.c)))?;
        let y = self.step(site, op(laid.x, c), &[])?;
        self.in_shape(site, y, &laid.shape)
    }

    /// A chain of functions that read a constant laid over the value.
    pub(super) fn map_over(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        c: &ArrayD<f32>,
        chain: impl FnOnce(Id<Const>) -> Vec<Func>,
    ) -> Result<Id<Value>, Stop> {
        self.over(site, x, c, |x, c| Op::Map { x, shift: None, chain: chain(c), resolution: None })
    }

    /// Two values in one shape.
    pub(super) fn meet(&mut self, site: &Site<'_>, a: Id<Value>, b: Id<Value>) -> Result<(Id<Value>, Id<Value>), Stop> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let mut shape = sa[..self.lead].to_vec();
        shape.extend(broadcast(&sa[self.lead..], &sb[self.lead..])?);
        Ok((self.expand(site, a, &shape)?, self.expand(site, b, &shape)?))
    }

    /// `a + b`.
    pub(super) fn sum(&mut self, site: &Site<'_>, a: Term, b: Term) -> Result<Term, Stop> {
        Ok(match (a, b) {
            (Term::Clear(a), Term::Clear(b)) => Term::Clear(zip_clear(&a, &b, |a, b| a + b)?),
            (Term::Value(x), Term::Clear(c)) | (Term::Clear(c), Term::Value(x)) => {
                Term::Value(self.over(site, x, &c, |x, c| Op::AddClear { x, c })?)
            }
            (Term::Value(a), Term::Value(b)) => {
                let (a, b) = self.meet(site, a, b)?;
                Term::Value(self.step(site, Op::Add { a, b }, &[])?)
            }
        })
    }

    /// `a − b`.
    pub(super) fn difference(&mut self, site: &Site<'_>, a: Term, b: Term) -> Result<Term, Stop> {
        match (a, b) {
            (a, Term::Clear(b)) => self.sum(site, a, Term::Clear(-b)),
            (Term::Clear(c), Term::Value(x)) => {
                let x = self.step(site, Op::Neg { x }, &[])?;
                self.sum(site, Term::Value(x), Term::Clear(c))
            }
            (Term::Value(a), Term::Value(b)) => {
                let (a, b) = self.meet(site, a, b)?;
                Ok(Term::Value(self.step(site, Op::Sub { a, b }, &[])?))
            }
        }
    }

    /// `a·b`.
    pub(super) fn product(&mut self, site: &Site<'_>, a: Term, b: Term) -> Result<Term, Stop> {
        Ok(match (a, b) {
            (Term::Clear(a), Term::Clear(b)) => Term::Clear(zip_clear(&a, &b, |a, b| a * b)?),
            (Term::Value(x), Term::Clear(c)) | (Term::Clear(c), Term::Value(x)) => {
                Term::Value(self.over(site, x, &c, |x, c| Op::MulClear { x, c })?)
            }
            (Term::Value(a), Term::Value(b)) => {
                let (a, b) = self.meet(site, a, b)?;
                Term::Value(self.step(site, Op::Mul { a, b }, &[])?)
            }
        })
    }

    /// A chain of functions without constants of their own.
    pub(super) fn map_term(&mut self, site: &Site<'_>, x: Term, chain: Vec<Func>) -> Result<Term, Stop> {
        Ok(match x {
            Term::Value(x) => Term::Value(self.mapped(site, x, chain)?),
            Term::Clear(c) => {
                let entry = |id| self.graph.constant(id).channel(0);
                Term::Clear(c.mapv(|x| fhe_ir::func::chain(&chain, f64::from(x), entry) as f32))
            }
        })
    }

    /// The value of a term that depends on an encrypted operand.
    pub(super) fn encrypted(&self, term: Term) -> Result<Id<Value>, Stop> {
        match term {
            Term::Value(x) => Ok(x),
            Term::Clear(_) => Err("none of its operands is encrypted".into()),
        }
    }
}

/// The numbers of a constant as reals; integers beyond 2^24 are rounded, as a model in floats rounds them.
pub(super) fn numbers(data: &Data) -> ArrayD<f32> {
    match data {
        Data::F32(a) => (**a).clone(),
        Data::Int(a) => a.mapv(|v| v as f32),
    }
}
