//! Dense layers, convolutions and batch normalization.

use std::sync::Arc;

use fhe_ir::{Const, ConvGeometry, Data, Id, Op, Value};
use ndarray::{Array2, ArrayD, Ix2};
use onnx_ir::batch_norm::BatchNormConfig;
use onnx_ir::conv2d::Conv2dConfig;
use onnx_ir::gemm::GemmConfig;
use onnx_ir::padding::{AutoPad, PaddingConfig2d};

use super::super::attributes::Attributes;
use super::super::layout::same_pads;
use super::super::limits::MAX_GEOMETRY;
use super::{Converter, Site, Stop};

impl Converter<'_> {
    /// `alpha·x·B + beta·C`.
    pub(super) fn gemm(&mut self, site: &Site<'_>, config: &GemmConfig) -> Result<Id<Value>, Stop> {
        if config.trans_a != 0 {
            return Err("it transposes its encrypted operand (transA)".into());
        }
        self.dense(site, config.trans_b != 0, config.alpha, config.beta)
    }

    /// A Gemm that is a plain dense layer, or a product with a constant matrix.
    pub(super) fn linear(&mut self, site: &Site<'_>, transposed: bool) -> Result<Id<Value>, Stop> {
        self.dense(site, transposed, 1.0, 1.0)
    }

    /// `transposed` says that the weights are `[out, in]` already.
    fn dense(&mut self, site: &Site<'_>, transposed: bool, alpha: f32, beta: f32) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        if self.graph.value(x).shape.len() != 2 {
            return Err(format!("its operand of shape {:?} is not [1, in]", self.graph.value(x).shape).into());
        }
        let weights = reals(self.constant(site, 1)?.ok_or("it has no weights")?)?;
        let weights = weights.view().into_dimensionality::<Ix2>().map_err(|_| "its weights are not a matrix")?;
        if let Some((law, scale)) = self.exact_weights(site, usize::from(!transposed)) {
            let integers = if transposed { law } else { law.t().to_owned() };
            let scale = scale.iter().map(|s| s * alpha).collect();
            let op = |w| Op::Dot { x, w };
            return self.exact_layer(site, integers.as_standard_layout().into_owned(), scale, beta, op);
        }
        self.spend(weights.len())?;
        let weights: Array2<f32> =
            if transposed { weights.to_owned() } else { weights.t().as_standard_layout().into_owned() };
        let weights = if alpha == 1.0 { weights } else { weights * alpha };
        let out = weights.nrows();
        let w = self.push_const(site, ".w", Data::F32(Arc::new(weights.into_dyn())))?;
        let bias = match self.constant(site, 2)? {
            None => return self.push(site, "", Op::Dot { x, w }, &[]),
            Some(data) => self.per_channel(reals(data)?, &[1, out])?,
        };
        let acc = self.push(site, ".acc", Op::Dot { x, w }, &[])?;
        self.add_bias(site, acc, if beta == 1.0 { bias } else { bias * beta })
    }

    /// Weights that the model states as integers, and their step per output channel (axis `out` of the constant).
    fn exact_weights(&self, site: &Site<'_>, out: usize) -> Option<(ArrayD<i64>, Vec<f32>)> {
        let law = self.law(site, 1)?;
        let scale = law.scale_along(out)?;
        Some((law.integers, scale))
    }

    /// `scale·(integers·x) + beta·bias`: the integers stay what they are.
    fn exact_layer(
        &mut self,
        site: &Site<'_>,
        integers: ArrayD<i64>,
        scale: Vec<f32>,
        beta: f32,
        op: impl FnOnce(Id<Const>) -> Op,
    ) -> Result<Id<Value>, Stop> {
        self.spend(integers.len())?;
        if integers.is_empty() {
            return Err("one of its constants is empty".into());
        }
        let out = integers.shape()[0];
        let w = self.push_exact(site, ".w", integers);
        let bias = match self.constant(site, 2)? {
            None => None,
            Some(data) => Some(self.per_channel(reals(data)?, &[1, out])? * beta),
        };
        let acc = self.push(site, ".acc", op(w), &[])?;
        let step = Data::F32(Arc::new(ArrayD::from_shape_vec(vec![out], scale).map_err(|_| "its scale does not fit")?));
        let c = self.push_const(site, ".step", step)?;
        let part = if bias.is_some() { ".scaled" } else { "" };
        let scaled = self.push(site, part, Op::MulClear { x: acc, c }, &[])?;
        match bias {
            None => Ok(scaled),
            Some(bias) => self.add_bias(site, scaled, bias),
        }
    }

    fn add_bias(&mut self, site: &Site<'_>, x: Id<Value>, bias: ArrayD<f32>) -> Result<Id<Value>, Stop> {
        self.spend(bias.len())?;
        let c = self.push_const(site, ".b", Data::F32(Arc::new(bias)))?;
        self.push(site, "", Op::AddClear { x, c }, &[])
    }

    pub(super) fn conv(&mut self, site: &Site<'_>, config: &Conv2dConfig) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let data = self.constant(site, 1)?.ok_or("it has no weights")?;
        let [out, _, height, width] = *data.shape() else {
            return Err("its weights are not [out, in/groups, height, width]".into());
        };
        if config.kernel_size != [height, width] {
            return Err(format!("its kernel_shape {:?} is not that of its weights", config.kernel_size).into());
        }
        bounded(config.stride.iter().chain(&config.dilation).chain(&[config.groups, height, width]))?;
        let reach = [0, 1].map(|i| config.dilation[i] * (config.kernel_size[i].saturating_sub(1)) + 1);
        let pads = pads(&self.graph.value(x).shape, &config.auto_pad, &config.padding, reach, config.stride)?;
        let geometry = ConvGeometry { strides: config.stride, pads, dilations: config.dilation, groups: config.groups };
        if let Some((integers, scale)) = self.exact_weights(site, 0) {
            return self.exact_layer(site, integers, scale, 1.0, |w| Op::Conv { x, w, geometry });
        }
        let w = self.push_const(site, ".w", data.clone())?;
        let bias = match self.constant(site, 2)? {
            None => return self.push(site, "", Op::Conv { x, w, geometry }, &[]),
            Some(data) => self.per_channel(reals(data)?, &[1, out])?,
        };
        let acc = self.push(site, ".acc", Op::Conv { x, w, geometry }, &[])?;
        self.add_bias(site, acc, bias)
    }

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

/// The reals of a constant.
pub(super) fn reals(data: &Data) -> Result<&ArrayD<f32>, Stop> {
    match data {
        Data::F32(a) => Ok(a),
        Data::Int(_) => Err("its constants are integers, not reals".into()),
    }
}

/// Refuses zeros and numbers that no network has.
pub(super) fn bounded<'a>(numbers: impl IntoIterator<Item = &'a usize>) -> Result<(), Stop> {
    match numbers.into_iter().find(|n| !(1..=MAX_GEOMETRY).contains(*n)) {
        None => Ok(()),
        Some(n) => Err(format!("a stride, dilation, kernel or group count is {n}, not 1 to {MAX_GEOMETRY}").into()),
    }
}

/// `[top, left, bottom, right]` of a window that reaches over `reach` elements of an operand `[1, channels, h, w]`.
pub(super) fn pads(
    shape: &[usize],
    auto_pad: &AutoPad,
    stated: &PaddingConfig2d,
    reach: [usize; 2],
    strides: [usize; 2],
) -> Result<[usize; 4], Stop> {
    let &[_, _, height, width] = shape else {
        return Err(format!("its operand of shape {shape:?} is not [1, channels, height, width]").into());
    };
    let same = |upper| {
        let vertical = same_pads(height, reach[0], strides[0], upper);
        let horizontal = same_pads(width, reach[1], strides[1], upper);
        match (vertical, horizontal) {
            (Some((top, bottom)), Some((left, right))) => Ok([top, left, bottom, right]),
            _ => Err(Stop::from("its pads overflow")),
        }
    };
    let pads = match auto_pad {
        AutoPad::NotSet => {
            let (top, left, bottom, right) = stated.as_tuple();
            [top, left, bottom, right]
        }
        AutoPad::Valid => [0; 4],
        AutoPad::SameUpper => same(true)?,
        AutoPad::SameLower => same(false)?,
    };
    match pads.iter().find(|&&p| p > MAX_GEOMETRY) {
        None => Ok(pads),
        Some(p) => Err(format!("a pad is {p}, the limit is {MAX_GEOMETRY}").into()),
    }
}
