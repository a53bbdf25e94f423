//! Operators that move elements: slices, pads, reshapes, transposes.

use fhe_ir::{Data, Id, Op, Value};
use onnx_ir::pad::{ConstantValueInput, PadConfig, PadInput, PadMode};
use onnx_ir::reshape::{ReshapeConfig, ReshapeInput};
use onnx_ir::slice::{SliceConfig, SliceInput};
use onnx_ir::squeeze::{SqueezeConfig, SqueezeInput};
use onnx_ir::unsqueeze::UnsqueezeConfig;

use super::super::constant::shape_of;
use super::super::layout::{Taken, axis, reshaped, sliced, squeezed, unsqueezed};
use super::super::limits::MAX_GEOMETRY;
use super::{Converter, Known, Site, Stop, refuse};

impl Converter<'_> {
    /// `Shape` is known at compile time.
    pub(super) fn shape(&self, site: &Site<'_>) -> Result<Data, Stop> {
        match site.inputs.first() {
            Some(Some(known @ (Known::Value(_) | Known::Const(_)))) => {
                Ok(shape_of(site.proto, &self.shape_of(Some(known)))?)
            }
            _ => Err("it does not read a value".into()),
        }
    }

    pub(super) fn slice(&mut self, site: &Site<'_>, config: &SliceConfig) -> Result<Id<Value>, Stop> {
        let list = |input: &SliceInput| match input {
            SliceInput::Static(v) => Ok(v.clone()),
            SliceInput::Runtime(_) => Err(Stop::from("its bounds are not constant")),
        };
        let (starts, ends) = (list(&config.starts)?, list(&config.ends)?);
        let axes = config.axes.as_ref().map(list).transpose()?;
        let steps = config.steps.as_ref().map(list).transpose()?;
        let x = self.value(site, 0)?;
        let shape = &self.graph.value(x).shape;
        // Of a batch that the model leaves open, only all of it is surely whole.
        let batch = self.model.batch.unwrap_or(i32::MAX as usize);
        let stated = [&[batch], &shape[1..]].concat();
        let whole = Taken { start: 0, step: 1, len: batch };
        if sliced(&stated, &starts, &ends, axes.as_deref(), steps.as_deref())?[0] != whole {
            return Err("it cuts the batch".into());
        }
        let taken = sliced(shape, &starts, &ends, axes.as_deref(), steps.as_deref())?;
        if taken[0].len != 1 {
            return Err("it cuts the batch".into());
        }
        let steps: Option<Vec<usize>> = taken.iter().map(|t| usize::try_from(t.step).ok()).collect();
        let Some(steps) = steps else {
            return refuse("it goes backwards (a negative step)", "positive steps have an encrypted form");
        };
        let out: Vec<usize> = taken.iter().map(|t| t.len).collect();
        if out.contains(&0) {
            return Err("it takes nothing".into());
        }
        // One element needs no step; a long one would overflow nothing but a reader's patience.
        let steps = steps.iter().zip(&out).map(|(&s, &n)| if n == 1 { 1 } else { s }).collect();
        self.push(site, "", Op::Slice { x, starts: taken.iter().map(|t| t.start).collect(), steps }, &out)
    }

    pub(super) fn pad(&mut self, site: &Site<'_>, config: &PadConfig) -> Result<Id<Value>, Stop> {
        if config.mode != PadMode::Constant {
            return refuse(format!("it pads in mode {}", config.mode.as_str()), "pad with zeros");
        }
        match config.constant_value {
            ConstantValueInput::Static(0.0) => {}
            ConstantValueInput::Static(v) => return refuse(format!("it pads with {v}"), "pad with zeros"),
            ConstantValueInput::Runtime(_) => return Err("its value is not constant".into()),
        }
        let PadInput::Static(pads) = &config.pads else {
            return Err("its pads are not constant".into());
        };
        let x = self.value(site, 0)?;
        if pads.len() != self.graph.value(x).shape.len() || pads.iter().any(|p| p.0.max(p.1) > MAX_GEOMETRY) {
            return Err(format!("its pads are not two numbers up to {MAX_GEOMETRY} per axis").into());
        }
        if pads[0] != (0, 0) {
            return Err("it pads the batch".into());
        }
        let (before, after) = pads.iter().copied().unzip();
        self.push(site, "", Op::Pad { x, before, after }, &[])
    }

    pub(super) fn reshape(&mut self, site: &Site<'_>, config: &ReshapeConfig) -> Result<Id<Value>, Stop> {
        let ReshapeInput::Static(target) = &config.shape else {
            return Err("its shape is not constant".into());
        };
        let x = self.value(site, 0)?;
        let mut target = target.clone();
        // The batch that the model was exported with is one row here.
        if let (Some(first), Some(batch)) = (target.first_mut(), self.model.batch)
            && usize::try_from(*first) == Ok(batch)
        {
            *first = 1;
        }
        let shape = reshaped(&self.graph.value(x).shape, &target, config.allowzero == Some(1))?;
        self.push_reshape(site, x, &shape)
    }

    pub(super) fn flatten(&mut self, site: &Site<'_>, at: usize) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let shape = &self.graph.value(x).shape;
        if at > shape.len() {
            return Err(format!("its axis is not one of {} axes", shape.len()).into());
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
        let shape = &self.graph.value(x).shape;
        if axes.is_some_and(|axes| axes.iter().any(|&a| axis(a, shape.len()) == Ok(0))) {
            return Err("it removes the batch".into());
        }
        let shape = squeezed(shape, axes)?;
        self.push_reshape(site, x, &shape)
    }

    pub(super) fn unsqueeze(&mut self, site: &Site<'_>, config: &UnsqueezeConfig) -> Result<Id<Value>, Stop> {
        let UnsqueezeConfig::Static(axes) = config else {
            return Err("its axes are not constant".into());
        };
        let x = self.value(site, 0)?;
        let shape = unsqueezed(&self.graph.value(x).shape, axes)?;
        if axes.iter().any(|&a| axis(a, shape.len()) == Ok(0)) {
            return Err("it puts an axis in front of the batch".into());
        }
        self.push_reshape(site, x, &shape)
    }

    fn push_reshape(&mut self, site: &Site<'_>, x: Id<Value>, shape: &[usize]) -> Result<Id<Value>, Stop> {
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
        let rank = self.graph.value(x).shape.len();
        let perm: Vec<usize> = perm.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?;
        self.push(site, "", Op::Transpose { x, perm }, &[])
    }
}
