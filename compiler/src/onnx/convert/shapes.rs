//! Operators that move elements: slices, pads, reshapes, transposes.

use fhe_ir::{Data, Id, Op, Value};
use onnx_ir::reshape::{ReshapeConfig, ReshapeInput};
use onnx_ir::slice::{SliceConfig, SliceInput};
use onnx_ir::squeeze::{SqueezeConfig, SqueezeInput};
use onnx_ir::unsqueeze::UnsqueezeConfig;

use super::super::attributes::Attributes;
use super::super::constant::{shape_of, size_of};
use super::super::layout::{Taken, axis, reshaped, sliced, squeezed, unsqueezed};
use super::super::limits::MAX_GEOMETRY;
use super::super::tensors::ints;
use super::terms::numbers;
use super::{Converter, Known, Site, Stop, refuse};

impl Converter<'_> {
    /// `Shape` and `Size` are known at compile time.
    pub(super) fn known_shape(&self, site: &Site<'_>) -> Result<Data, Stop> {
        let shape = match site.inputs.first() {
            Some(Some(Known::Value(id))) => self.shape(*id)[self.lead..].to_vec(),
            Some(Some(known @ Known::Const(_))) => self.shape_of(Some(known)),
            _ => return Err("it does not read a value".into()),
        };
        Ok(if site.proto.op_type == "Size" { size_of(&shape)? } else { shape_of(site.proto, &shape)? })
    }

    pub(super) fn slice(&mut self, site: &Site<'_>, config: &SliceConfig) -> Result<Id<Value>, Stop> {
        let list = |input: &SliceInput| match input {
            SliceInput::Static(v) => Ok(v.clone()),
            SliceInput::Runtime(_) => Err(Stop::from("its bounds are not constant")),
        };
        let (starts, ends) = (list(&config.starts)?, list(&config.ends)?);
        let axes = config.axes.as_ref().map(list).transpose()?;
        let steps = config.steps.as_ref().map(list).transpose()?;
        let mut x = self.value(site, 0)?;
        let shape = &self.shape(x)[self.lead..];
        let taken = sliced(shape, &starts, &ends, axes.as_deref(), steps.as_deref())?;
        if self.lead == 0 {
            // Of a batch that the model leaves open, only all of it is surely whole.
            let batch = self.model.batch.unwrap_or(i32::MAX as usize);
            let stated = [&[batch], &shape[1..]].concat();
            let whole = Taken { start: 0, step: 1, len: batch };
            if sliced(&stated, &starts, &ends, axes.as_deref(), steps.as_deref())?[0] != whole || taken[0].len != 1 {
                return Err("it cuts the batch".into());
            }
        }
        if taken.iter().any(|t| t.len == 0) {
            return Err("it takes nothing".into());
        }
        if taken.iter().any(|t| t.step < 0 && t.len > 1) {
            for (i, t) in taken.iter().enumerate() {
                // Places lie inside the axis.
                self.spend(t.len)?;
                let place = |k: usize| (t.start as i64 + k as i64 * t.step) as usize;
                x = self.pick(site, x, i + self.lead, (0..t.len).map(place).collect())?;
            }
            return Ok(x);
        }
        let front = |default: usize| vec![default; self.lead];
        let (mut starts, mut steps, mut out) = (front(0), front(1), front(1));
        for t in &taken {
            starts.push(t.start);
            // One element needs no step; a long one would overflow nothing but a reader's patience.
            steps.push(if t.len == 1 { 1 } else { usize::try_from(t.step).unwrap_or(1) });
            out.push(t.len);
        }
        self.push(site, "", Op::Slice { x, starts, steps }, &out)
    }

    /// Zeros or another number, the edge, the mirrored or the repeated elements around the operand.
    pub(super) fn pad(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let node = site.proto;
        let mut x = self.value(site, 0)?;
        let rank = self.shape(x).len();
        let pads = match self.constant(site, 1)? {
            Some(data) => ints(data)?,
            None => node.ints("pads")?.or(node.ints("paddings")?).ok_or("it has no pads")?.to_vec(),
        };
        let axes = match self.constant(site, 3)? {
            Some(data) => ints(data)?,
            None => (0..(rank - self.lead) as i64).collect(),
        };
        if pads.len() != 2 * axes.len() || pads.iter().any(|p| p.unsigned_abs() > MAX_GEOMETRY as u64) {
            return Err(format!("its pads are not two numbers up to {MAX_GEOMETRY} per axis").into());
        }
        let (mut before, mut after) = (vec![0isize; rank], vec![0isize; rank]);
        for (i, &a) in axes.iter().enumerate() {
            let at = self.axis(x, a)?;
            (before[at], after[at]) = (pads[i] as isize, pads[i + axes.len()] as isize);
        }
        if (before[0], after[0]) != (0, 0) {
            return Err("it pads the batch".into());
        }
        let mode = node.string("mode")?.unwrap_or("constant");
        if mode == "constant" {
            let value = match self.constant(site, 2)? {
                Some(data) => *numbers(data).first().ok_or("its value is empty")?,
                None => node.float("value")?.unwrap_or(0.0),
            };
            // pad(x, v) == pad(x − v, 0) + v
            x = self.shifted(site, x, -value)?;
            x = self.pad_or_cut(site, x, &before, &after)?;
            return self.shifted(site, x, value);
        }
        for at in 1..rank {
            let extent = self.shape(x)[at] as isize;
            let source = |i: isize| match mode {
                "edge" => i.clamp(0, extent - 1),
                "wrap" => i.rem_euclid(extent),
                _ if extent == 1 => 0,
                // ... 2 1 | 0 1 2 | 1 0 ...
                _ => {
                    let i = i.rem_euclid(2 * extent - 2);
                    i.min(2 * extent - 2 - i)
                }
            };
            if !matches!(mode, "edge" | "wrap" | "reflect") {
                return refuse(format!("it pads in mode {mode:?}"), "pad by constant, edge, reflect or wrap");
            }
            self.spend(usize::try_from(extent + after[at]).unwrap_or(usize::MAX))?;
            // Sources lie inside the axis.
            x = self.pick(site, x, at, (-before[at]..extent + after[at]).map(|i| source(i) as usize).collect())?;
        }
        Ok(x)
    }

    pub(super) fn reshape(&mut self, site: &Site<'_>, config: &ReshapeConfig) -> Result<Id<Value>, Stop> {
        let ReshapeInput::Static(target) = &config.shape else {
            return Err("its shape is not constant".into());
        };
        let x = self.value(site, 0)?;
        let mut target = target.clone();
        if let (Some(first), Some(batch), 0) = (target.first_mut(), self.model.batch, self.lead) {
            match usize::try_from(*first) {
                // The batch that the model was exported with is one row here.
                Ok(n) if n == batch => *first = 1,
                Ok(1) => return Err("it joins the rows of the batch".into()),
                _ => {}
            }
        }
        let shape = reshaped(&self.shape(x)[self.lead..], &target, config.allowzero == Some(1))?;
        self.push_reshape(site, x, &shape)
    }

    pub(super) fn flatten(&mut self, site: &Site<'_>, at: usize) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let shape = &self.shape(x)[self.lead..];
        if at > shape.len() {
            return Err(format!("its axis is not one of {} axes", shape.len()).into());
        }
        if self.lead == 0 && at == 0 && self.model.batch != Some(1) {
            return Err("it joins the rows of the batch".into());
        }
        let shape = [shape[..at].iter().product(), shape[at..].iter().product()];
        self.push_reshape(site, x, &shape)
    }

    pub(super) fn squeeze(&mut self, site: &Site<'_>, config: &SqueezeConfig) -> Result<Id<Value>, Stop> {
        let axes = match &config.axes {
            None => None,
            Some(SqueezeInput::Static(axes)) => Some(axes.as_slice()),
            Some(SqueezeInput::Runtime(_)) => return Err("its axes are not constant".into()),
        };
        let x = self.value(site, 0)?;
        let shape = &self.shape(x)[self.lead..];
        if self.lead == 0 && axes.is_some_and(|axes| axes.iter().any(|&a| axis(a, shape.len()) == Ok(0))) {
            return Err("it removes the batch".into());
        }
        let shape = match axes {
            None if self.lead > 0 => shape.iter().copied().filter(|&extent| extent != 1).collect(),
            axes => squeezed(shape, axes)?,
        };
        self.push_reshape(site, x, &shape)
    }

    pub(super) fn unsqueeze(&mut self, site: &Site<'_>, config: &UnsqueezeConfig) -> Result<Id<Value>, Stop> {
        let UnsqueezeConfig::Static(axes) = config else {
            return Err("its axes are not constant".into());
        };
        let x = self.value(site, 0)?;
        let shape = unsqueezed(&self.shape(x)[self.lead..], axes)?;
        if self.lead == 0 && axes.iter().any(|&a| axis(a, shape.len()) == Ok(0)) {
            return Err("it puts an axis in front of the batch".into());
        }
        self.push_reshape(site, x, &shape)
    }

    /// A reshape to ONNX's shape.
    fn push_reshape(&mut self, site: &Site<'_>, x: Id<Value>, shape: &[usize]) -> Result<Id<Value>, Stop> {
        // A value without axes is a row of one channel.
        let shape = if self.lead > 0 && shape.is_empty() { &[1] } else { shape };
        let shape = &[&self.shape(x)[..self.lead], shape].concat()[..];
        if shape.first() != Some(&1) || shape.len() < 2 {
            return refuse(
                format!("its result {shape:?} does not keep the batch of 1 in front, apart from the channels"),
                "reshape to `[batch, ...]`, for example with Flatten(1)",
            );
        }
        self.push(site, "", Op::Reshape { x }, shape)
    }

    pub(super) fn transpose(&mut self, site: &Site<'_>, perm: &[i64]) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let behind = perm.iter().map(|&a| self.axis(x, a)).collect::<Result<Vec<_>, _>>()?;
        let perm = (0..self.lead).chain(behind).collect();
        self.push(site, "", Op::Transpose { x, perm }, &[])
    }
}
