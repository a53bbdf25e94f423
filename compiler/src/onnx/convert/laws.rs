//! Constants that a quantizer of the model has put on a grid, and what the model does with them before a layer reads them:
//! elements that move and constant factors leave the integers what they are.

use std::sync::Arc;

use fhe_ir::Data;
use ndarray::{ArrayD, Axis};

use super::super::proto::is_own_domain;
use super::quantizers::MOVES;
use super::{Converter, Known, Site, constant};

/// A constant that is `scale·integer`, both of its shape.
#[derive(Clone, Debug)]
pub(super) struct Law {
    /// The integers.
    pub(super) integers: ArrayD<i64>,
    /// The step at each place, positive.
    pub(super) scale: ArrayD<f32>,
}

impl Law {
    /// Step per entry of `axis`, when it is the same along all others.
    pub(super) fn scale_along(&self, axis: usize) -> Option<Vec<f32>> {
        if axis >= self.scale.ndim() {
            return None;
        }
        let lane = |lane: ndarray::ArrayViewD<'_, f32>| {
            let first = *lane.first()?;
            lane.iter().all(|s| *s == first).then_some(first)
        };
        self.scale.axis_iter(Axis(axis)).map(lane).collect()
    }
}

impl Converter<'_> {
    /// The law of a node's first output, when it moves the elements of a constant with a law or multiplies them by a
    /// constant.
    pub(super) fn law_behind(&self, site: &Site<'_>) -> Option<Law> {
        let (node, op) = (site.proto, site.proto.op_type.as_str());
        let of = |i: usize| self.stated.laws.get(node.input.get(i)?);
        if !is_own_domain(&node.domain) {
            return None;
        }
        // What the node makes of other numbers in place of one of its inputs.
        let with = |at: usize, numbers: Data| {
            let constants = site.inputs.iter().enumerate().map(|(i, known)| match known {
                _ if i == at => Some(&numbers),
                Some(Known::Const(c)) => Some(c),
                _ => None,
            });
            constant::evaluate(node, &constants.collect::<Vec<_>>()).ok()
        };
        let reals = |at, a: &ArrayD<f32>| match with(at, Data::F32(Arc::new(a.clone())))? {
            Data::F32(a) => Some((*a).clone()),
            Data::Int(_) => None,
        };
        let whole = |at, a: &ArrayD<i64>| match with(at, Data::Int(Arc::new(a.clone())))? {
            Data::Int(a) => Some((*a).clone()),
            Data::F32(_) => None,
        };
        match op {
            _ if MOVES.contains(&op) => {
                let law = of(0)?;
                Some(Law { integers: whole(0, &law.integers)?, scale: reals(0, &law.scale)? })
            }
            "Neg" => of(0).map(|law| Law { integers: law.integers.mapv(i64::wrapping_neg), scale: law.scale.clone() }),
            // (s·q)·c == (s·c)·q
            "Mul" | "Div" => {
                let at = usize::from(of(0).is_none() && op == "Mul");
                let law = of(at)?;
                law.times(&reals(at, &law.scale)?)
            }
            _ => None,
        }
    }
}

impl Law {
    /// The same integers with `scale` for the steps, which may be negative or zero, and broadcast.
    fn times(&self, scale: &ArrayD<f32>) -> Option<Self> {
        let mut integers = self.integers.broadcast(scale.raw_dim())?.to_owned();
        let old = self.scale.broadcast(scale.raw_dim())?;
        integers.zip_mut_with(scale, |i, s| *i = i.wrapping_mul(if *s == 0.0 { 0 } else { s.signum() as i64 }));
        let mut steps = scale.mapv(f32::abs);
        // Without a number every step is right.
        steps.zip_mut_with(&old, |s, old| *s = if *s == 0.0 { *old } else { *s });
        steps.iter().all(|s| s.is_normal()).then_some(Self { integers, scale: steps })
    }
}
