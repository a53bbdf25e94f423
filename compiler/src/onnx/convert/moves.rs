//! Steps that converters are put together from: elements moved, joined, added, mapped. Each leaves out what is nothing.

use std::sync::Arc;

use fhe_ir::{ConvGeometry, Data, Func, Id, Op, Value};
use ndarray::arr1;

use super::super::limits::MAX_ELEMENTS;
use super::conv::reshaped;
use super::{Converter, Site, Stop};

impl Converter<'_> {
    /// The IR's shape of a value: a batch of 1, then what follows.
    pub(super) fn shape(&self, x: Id<Value>) -> Vec<usize> {
        self.graph.value(x).shape.clone()
    }

    /// A step of a node, named after its op; the last one gets the node's own name afterwards.
    pub(super) fn step(&mut self, site: &Site<'_>, op: Op, stated: &[usize]) -> Result<Id<Value>, Stop> {
        let part = format!(".{}", op.keyword());
        self.push(site, &part, op, stated)
    }

    /// The same elements, row-major, in another shape.
    pub(super) fn in_shape(&mut self, site: &Site<'_>, x: Id<Value>, shape: &[usize]) -> Result<Id<Value>, Stop> {
        if self.graph.value(x).shape == shape { Ok(x) } else { self.step(site, Op::Reshape { x }, shape) }
    }

    /// Axis `i` of the result is axis `perm[i]`.
    pub(super) fn in_order(&mut self, site: &Site<'_>, x: Id<Value>, perm: Vec<usize>) -> Result<Id<Value>, Stop> {
        if perm.is_sorted() { Ok(x) } else { self.step(site, Op::Transpose { x, perm }, &[]) }
    }

    /// The slices of an axis that `indices` name, in that order.
    pub(super) fn pick(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        axis: usize,
        indices: Vec<usize>,
    ) -> Result<Id<Value>, Stop> {
        let shape = self.shape(x);
        let extent = *shape.get(axis).ok_or("it names an axis that is not there")?;
        if indices.iter().copied().eq(0..extent) {
            return Ok(x);
        }
        let elements = shape.iter().product::<usize>() / extent.max(1);
        if indices.is_empty() || elements.saturating_mul(indices.len()) > MAX_ELEMENTS {
            return Err(format!("it takes {} slices of axis {axis} of {shape:?}", indices.len()).into());
        }
        self.spend(indices.len())?;
        let step = match indices[..] {
            [first, second, ..] if second > first => second - first,
            [_] => 1,
            _ => 0,
        };
        if step > 0 && indices.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] == step) {
            let (mut starts, mut steps, mut out) = (vec![0; shape.len()], vec![1; shape.len()], shape);
            (starts[axis], steps[axis], out[axis]) = (indices[0], step, indices.len());
            return self.step(site, Op::Slice { x, starts, steps }, &out);
        }
        self.step(site, Op::Gather { x, axis, indices }, &[])
    }

    /// `len` slices of an axis from `start`.
    pub(super) fn cut(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        axis: usize,
        start: usize,
        len: usize,
    ) -> Result<Id<Value>, Stop> {
        let mut shape = self.shape(x);
        let extent = *shape.get(axis).ok_or("it names an axis that is not there")?;
        if (start, len) == (0, extent) {
            return Ok(x);
        }
        let (mut starts, steps) = (vec![0; shape.len()], vec![1; shape.len()]);
        (starts[axis], shape[axis]) = (start, len);
        self.step(site, Op::Slice { x, starts, steps }, &shape)
    }

    /// Zeros around the elements; negative numbers take elements away.
    pub(super) fn pad_or_cut(
        &mut self,
        site: &Site<'_>,
        mut x: Id<Value>,
        before: &[isize],
        after: &[isize],
    ) -> Result<Id<Value>, Stop> {
        for axis in 0..before.len() {
            let extent = self.shape(x)[axis];
            let (front, back) = ((-before[axis]).max(0) as usize, (-after[axis]).max(0) as usize);
            let len = extent.checked_sub(front.saturating_add(back)).filter(|&n| n > 0);
            x = self.cut(site, x, axis, front, len.ok_or("its negative pads leave nothing")?)?;
        }
        let zeros = |pads: &[isize]| pads.iter().map(|p| (*p).max(0) as usize).collect::<Vec<_>>();
        let (before, after) = (zeros(before), zeros(after));
        if before.iter().chain(&after).all(|&n| n == 0) {
            return Ok(x);
        }
        self.step(site, Op::Pad { x, before, after }, &[])
    }

    /// The values behind one another along an axis.
    pub(super) fn join(&mut self, site: &Site<'_>, xs: Vec<Id<Value>>, axis: usize) -> Result<Id<Value>, Stop> {
        match xs[..] {
            [] => Err("it has no inputs".into()),
            [x] => Ok(x),
            _ => self.step(site, Op::Concat { xs, axis }, &[]),
        }
    }

    /// A chain of functions per element.
    pub(super) fn mapped(&mut self, site: &Site<'_>, x: Id<Value>, chain: Vec<Func>) -> Result<Id<Value>, Stop> {
        if chain.is_empty() {
            return Ok(x);
        }
        self.step(site, Op::Map { x, shift: None, chain, resolution: None }, &[])
    }

    /// A constant of one number.
    pub(super) fn number(&mut self, site: &Site<'_>, part: &str, number: f32) -> Result<Id<fhe_ir::Const>, Stop> {
        self.push_const(site, part, Data::F32(Arc::new(arr1(&[number]).into_dyn())))
    }

    /// `x·factor`.
    pub(super) fn scaled(&mut self, site: &Site<'_>, x: Id<Value>, factor: f32) -> Result<Id<Value>, Stop> {
        match factor {
            1.0 => Ok(x),
            -1.0 => self.step(site, Op::Neg { x }, &[]),
            _ => {
                let c = self.number(site, ".factor", factor)?;
                self.step(site, Op::MulClear { x, c }, &[])
            }
        }
    }

    /// `x + summand`.
    pub(super) fn shifted(&mut self, site: &Site<'_>, x: Id<Value>, summand: f32) -> Result<Id<Value>, Stop> {
        if summand == 0.0 {
            return Ok(x);
        }
        let c = self.number(site, ".summand", summand)?;
        self.step(site, Op::AddClear { x, c }, &[])
    }

    /// A matrix `[out, in/groups]` applied to the channels of `[1, in, n]` at each of the `n` places.
    pub(super) fn at_each_place(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        matrix: Data,
        groups: usize,
    ) -> Result<Id<Value>, Stop> {
        let &[_, channels, places] = &self.shape(x)[..] else { return Err("its operand has not three axes".into()) };
        let (out, inputs) = (matrix.shape()[0], matrix.shape()[1]);
        self.spend(matrix.len())?;
        if places == 1 && groups == 1 {
            let x = self.in_shape(site, x, &[1, channels])?;
            let w = self.push_weights(site, matrix)?;
            let x = self.step(site, Op::Dot { x, w }, &[])?;
            return self.in_shape(site, x, &[1, out, 1]);
        }
        let x = self.in_shape(site, x, &[1, channels, places, 1])?;
        let w = self.push_weights(site, reshaped(&matrix, &[out, inputs, 1, 1])?)?;
        let geometry = ConvGeometry { strides: [1, 1], pads: [0; 4], dilations: [1, 1], groups };
        let x = self.step(site, Op::Conv { x, w, geometry }, &[])?;
        self.in_shape(site, x, &[1, out, places])
    }
}
