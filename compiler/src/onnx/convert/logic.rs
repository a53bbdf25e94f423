//! Comparisons, logic on zeros and ones, choices, casts.

use fhe_ir::{Data, Func, Id, Op, Value};

use super::super::attributes::Attributes;
use super::super::inputs::is_whole;
use super::super::proto::is_real;
use super::terms::{Term, zip_clear};
use super::{Converter, Known, Site, Stop, refuse};

/// What a value is known to hold, by the function that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Real,
    Whole,
    Truth,
}

impl Converter<'_> {
    /// Notes the outputs of a node that are of an integer type: a cast to one, and what has integers alone to read.
    pub(super) fn note_whole(&mut self, site: &Site<'_>) {
        let node = site.proto;
        let whole = match node.int("to") {
            Ok(Some(to)) if node.op_type == "Cast" => is_whole(i32::try_from(to).unwrap_or(0)),
            _ => self.reads_whole(site),
        };
        if whole {
            self.whole.extend(node.output.iter().cloned());
        }
    }

    /// Whether all operands of a node are of an integer type.
    pub(super) fn reads_whole(&self, site: &Site<'_>) -> bool {
        let mut known = site.proto.input.iter().zip(&site.inputs).filter_map(|(name, k)| Some((name, k.as_ref()?)));
        known.all(|(name, k)| matches!(k, Known::Const(Data::Int(_))) || self.whole.contains(name))
    }

    fn kind(&self, x: Id<Value>) -> Kind {
        match &self.graph.value(x).op {
            Op::Map { chain, .. } => match chain.last() {
                Some(Func::Positive | Func::NonNegative | Func::IsZero) => Kind::Truth,
                Some(Func::Floor | Func::Ceil | Func::Round | Func::Trunc | Func::Sign) => Kind::Whole,
                _ => Kind::Real,
            },
            Op::Reshape { x } | Op::Transpose { x, .. } | Op::Slice { x, .. } | Op::Gather { x, .. } => self.kind(*x),
            Op::Concat { xs, .. } => xs.iter().map(|x| self.kind(*x)).min().unwrap_or(Kind::Real),
            _ => Kind::Real,
        }
    }

    /// `test(a − b)`, with a constant as a part of the table, where it is not rounded.
    pub(super) fn compare(&mut self, site: &Site<'_>, test: Func, swap: bool) -> Result<Id<Value>, Stop> {
        let (a, b) = self.pair(site)?;
        let (a, b) = if swap { (b, a) } else { (a, b) };
        match (a, b) {
            (Term::Value(x), Term::Clear(c)) => self.map_over(site, x, &-c, |c| vec![Func::Add(c), test]),
            (Term::Clear(c), Term::Value(x)) => {
                let flip = self.number(site, ".flip", -1.0)?;
                self.map_over(site, x, &c, |c| vec![Func::Mul(flip), Func::Add(c), test])
            }
            (a, b) => {
                let difference = self.difference(site, a, b)?;
                let difference = self.encrypted(difference)?;
                self.mapped(site, difference, vec![test])
            }
        }
    }

    pub(super) fn not(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        // 1 − x
        let x = self.scaled(site, x, -1.0)?;
        self.shifted(site, x, 1.0)
    }

    pub(super) fn logic(&mut self, site: &Site<'_>, op: &str) -> Result<Id<Value>, Stop> {
        let result = match (self.pair(site)?, op) {
            ((Term::Value(x), Term::Clear(c)) | (Term::Clear(c), Term::Value(x)), _) => {
                let (factor, summand) = match op {
                    "And" => (c.clone(), c.mapv(|_| 0.0)),
                    // x or c == x·(1 − c) + c
                    "Or" => (c.mapv(|c| 1.0 - c), c.clone()),
                    // x xor c == x·(1 − 2c) + c
                    _ => (c.mapv(|c| 1.0 - 2.0 * c), c.clone()),
                };
                let product = self.product(site, Term::Value(x), Term::Clear(factor))?;
                self.sum(site, product, Term::Clear(summand))?
            }
            ((a, b), "Xor") => {
                let difference = self.difference(site, a, b)?;
                self.map_term(site, difference, vec![Func::Abs])?
            }
            ((a, b), _) => {
                let sum = self.sum(site, a, b)?;
                let least = self.number(site, ".least", if op == "And" { -1.5 } else { -0.5 })?;
                self.map_term(site, sum, vec![Func::Add(least), Func::Positive])?
            }
        };
        self.encrypted(result)
    }

    /// `a` where the condition holds, else `b`.
    pub(super) fn choose(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let (c, a, b) = (self.term(site, 0)?, self.term(site, 1)?, self.term(site, 2)?);
        let chosen = match c {
            Term::Clear(c) => {
                let part = |this: &mut Self, x: Term, taken: fn(f32) -> bool| match x {
                    // Not a product: what is not taken may be infinite.
                    Term::Clear(x) => Ok(Term::Clear(zip_clear(&c, &x, |c, x| if taken(c) { x } else { 0.0 })?)),
                    x => this.product(site, x, Term::Clear(c.mapv(|c| if taken(c) { 1.0 } else { 0.0 }))),
                };
                let (a, b) = (part(self, a, |c| c != 0.0)?, part(self, b, |c| c == 0.0)?);
                self.sum(site, a, b)?
            }
            // b + c·(a − b)
            c => {
                let difference = self.difference(site, a, b.clone())?;
                let change = self.product(site, c, difference)?;
                self.sum(site, b, change)?
            }
        };
        self.encrypted(chosen)
    }

    /// Between kinds of reals nothing happens; an integer drops the fraction, a truth value asks for zero.
    pub(super) fn cast(&mut self, site: &Site<'_>) -> Result<Known, Stop> {
        let to = site.proto.int("to")?.ok_or("it does not say the type to cast to")?;
        // TensorProto.DataType: 2 to 7 and 12, 13 are integers, 9 is bool.
        let whole = matches!(to, 2..=7 | 12 | 13);
        match site.inputs.first() {
            Some(Some(Known::Client(value, posts)))
                if is_real(to) || (whole && posts.last().is_some_and(|p| p.gives_indices())) =>
            {
                Ok(Known::Client(*value, posts.clone()))
            }
            Some(Some(Known::Value(x))) => {
                let x = *x;
                let kind = self.kind(x);
                Ok(Known::Value(match to {
                    to if is_real(to) => x,
                    _ if whole && kind >= Kind::Whole => x,
                    _ if whole => self.mapped(site, x, vec![Func::Trunc])?,
                    9 if kind == Kind::Truth => x,
                    9 => self.mapped(site, x, vec![Func::Abs, Func::Positive])?,
                    to => {
                        let name = super::super::proto::type_name(i32::try_from(to).unwrap_or(0));
                        return refuse(
                            format!("it casts an encrypted value to {name}"),
                            "cast to a real, an integer or bool",
                        );
                    }
                }))
            }
            _ => refuse(
                "it casts what only the client knows",
                "cast the indices of an argmax, or nothing, behind a softmax",
            ),
        }
    }

    /// The identity, unless the model is in training mode.
    pub(super) fn dropout(&self, site: &Site<'_>) -> Result<Known, Stop> {
        match site.inputs.get(2) {
            None | Some(None) => {}
            Some(Some(Known::Const(Data::Int(mode)))) if mode.iter().all(|&m| m == 0) => {}
            Some(Some(_)) => return Err("it is in training mode: export the model after `model.eval()`".into()),
        }
        Ok(site.inputs.first().cloned().flatten().ok_or("its input is missing")?)
    }
}
