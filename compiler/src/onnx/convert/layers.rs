//! Batch normalization, and what layers share.

use std::sync::Arc;

use fhe_ir::{Const, Data, Id, Op, Value};
use ndarray::ArrayD;
use onnx_ir::batch_norm::BatchNormConfig;

use super::super::attributes::Attributes;
use super::{Converter, Site, Stop};

impl Converter<'_> {
    pub(super) fn batch_norm(&mut self, site: &Site<'_>, config: &BatchNormConfig) -> Result<Id<Value>, Stop> {
        if site.proto.int("training_mode")?.unwrap_or(0) != 0 {
            return Err("it is in training mode: export the model after `model.eval()`".into());
        }
        if site.proto.int("spatial")?.unwrap_or(1) != 1 {
            return Err("it normalizes per element (spatial=0), not per channel".into());
        }
        let epsilon = match config {
            BatchNormConfig::Static(c) => c.epsilon,
            BatchNormConfig::Runtime(c) => c.epsilon,
        } as f32;
        if !epsilon.is_finite() {
            return Err("its epsilon is not finite".into());
        }
        let x = self.value(site, 0)?;
        let channels = self.graph.value(x).channels();
        let mut ids = vec![];
        for (i, part) in [".scale", ".bias", ".mean", ".var"].into_iter().enumerate() {
            let data = self.constant(site, i + 1)?.ok_or("one of its four constants is missing")?;
            let array = reals(data)?;
            if array.shape() != [channels] {
                return Err(format!("its constant {i} has shape {:?}, not [{channels}]", array.shape()).into());
            }
            if part == ".var" && !array.iter().all(|v| v + epsilon > 0.0) {
                return Err("its variance is negative or zero".into());
            }
            ids.push(self.push_const(site, part, data.clone())?);
        }
        let [scale, bias, mean, var] = ids[..] else {
            return Err("one of its four constants is missing".into());
        };
        self.push(site, "", Op::BatchNorm { x, scale, bias, mean, var, epsilon }, &[])
    }
}

impl Converter<'_> {
    /// Weights, input `i`, that the model states as integers, and their step per output channel (axis `out` of the
    /// constant).
    pub(super) fn exact_weights(&self, site: &Site<'_>, i: usize, out: usize) -> Option<(ArrayD<i64>, Vec<f32>)> {
        let law = self.law(site, i)?;
        let scale = law.scale_along(out)?;
        (!law.integers.is_empty()).then_some((law.integers, scale))
    }

    /// Weights of a layer, exact or real.
    pub(super) fn push_weights(&mut self, site: &Site<'_>, w: Data) -> Result<Id<Const>, Stop> {
        match w {
            Data::Int(w) => Ok(self.push_exact(site, ".w", (*w).clone())),
            real => self.push_const(site, ".w", real),
        }
    }

    /// `scale·acc + bias` behind a product with exact weights.
    pub(super) fn exact_result(
        &mut self,
        site: &Site<'_>,
        acc: Id<Value>,
        scale: Vec<f32>,
        bias: Option<ArrayD<f32>>,
    ) -> Result<Id<Value>, Stop> {
        let step = ArrayD::from_shape_vec(vec![scale.len()], scale).map_err(|_| "its scale does not fit")?;
        let c = self.push_const(site, ".step", Data::F32(Arc::new(step)))?;
        let part = if bias.is_some() { ".scaled" } else { "" };
        let scaled = self.push(site, part, Op::MulClear { x: acc, c }, &[])?;
        self.add_bias(site, scaled, bias)
    }

    /// A summand per channel, if there is one.
    pub(super) fn add_bias(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        bias: Option<ArrayD<f32>>,
    ) -> Result<Id<Value>, Stop> {
        let Some(bias) = bias else { return Ok(x) };
        self.spend(bias.len())?;
        let c = self.push_const(site, ".b", Data::F32(Arc::new(bias)))?;
        self.push(site, "", Op::AddClear { x, c }, &[])
    }
}

/// The reals of a constant.
pub(super) fn reals(data: &Data) -> Result<&ArrayD<f32>, Stop> {
    match data {
        Data::F32(a) => Ok(a),
        Data::Int(_) => Err("its constants are integers, not reals".into()),
    }
}
