//! Quantizers of QONNX and Brevitas, as the documents of QONNX define them: `IntQuant`, `BipolarQuant`, `Trunc`.

use fhe_ir::{Data, Func};
use onnx_ir::NodeProto;

use super::super::attributes::Attributes;
use super::quantizers::{Steps, integers, list, one_of, shifted, whole};
use super::{Converter, Known, Site, Stop, refuse};

impl<'m> Converter<'m> {
    /// `scale·(clamp(round(x/scale + zero), lo, hi) − zero)`; one bit with a sign is `±1` in place of the clamp.
    pub(super) fn quant(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        let rounding = rounding(site.proto, "ROUND")?;
        let signed = site.proto.int("signed")?.unwrap_or(1) != 0;
        let narrow = site.proto.int("narrow")?.unwrap_or(0) != 0;
        let scale = self.steps(site, 1)?;
        let zero = whole(&self.reals_of(site, 2)?).ok_or("its zero point is not one integer")?;
        // A bias may have the integers of an accumulator.
        let widest = if matches!(site.inputs.first(), Some(Some(Known::Const(_)))) { 32 } else { 16 };
        let bits = whole(&self.reals_of(site, 3)?).filter(|b| (1..=widest).contains(b));
        let bits = bits.ok_or_else(|| format!("its bit width is not one number of 1 to {widest}"))?;
        let to = shifted(integers(bits as u32, signed, narrow && (signed || bits > 1)), zero)?;
        if bits == 1 && signed {
            return self.signs(site, &scale, zero);
        }
        // Halves go to even codes: an odd zero point moves them. Towards zero is towards the code 0.
        let inside = match rounding {
            Func::Round => zero % 2,
            Func::Trunc => zero,
            _ => 0,
        };
        self.quantized(site, scale, inside, to, rounding)
    }

    /// `scale` where `x ≥ 0`, else `-scale`.
    pub(super) fn bipolar(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        let scale = self.steps(site, 1)?;
        self.signs(site, &scale, 0)
    }

    /// `scale·(±1 − zero)`, with the sign of `x/scale + zero`.
    fn signs(&mut self, site: &Site<'m>, scale: &Steps, zero: i64) -> Result<Known, Stop> {
        let real = zero as f32;
        match site.inputs.first() {
            Some(Some(Known::Const(Data::F32(x)))) => {
                let full = scale.broadcast(x.shape(), self.step_axis(site, x.ndim())?)?;
                let sign = |x: &f32, s: &f32| if x / s + real >= 0.0 { 1 - zero } else { -1 - zero };
                let signs = ndarray::Zip::from(&**x).and(&full).map_collect(sign);
                self.stated_constant(site, signs, full)
            }
            Some(Some(Known::Value(x))) => {
                let shape = self.graph.value(*x).shape.clone();
                let steps = scale.of_channels(&shape, self.step_axis(site, shape.len())?)?;
                let each = |f: &dyn Fn(f32) -> f32| list(&steps.iter().map(|s| f(*s)).collect::<Vec<_>>());
                let mut chain = vec![];
                if zero != 0 {
                    chain.push(Func::Add(self.push_const(site, ".zero", each(&|s| s * real))?));
                }
                let twice = self.push_const(site, ".twice", each(&|s| 2.0 * s))?;
                let minus = self.push_const(site, ".minus", each(&|s| -s - s * real))?;
                // ±scale == 2·scale·[x ≥ 0] − scale
                chain.extend([Func::NonNegative, Func::Mul(twice), Func::Add(minus)]);
                Ok(Known::Value(self.apply(site, *x, chain)?))
            }
            _ => Err("it does not read real numbers".into()),
        }
    }

    /// The code `round(x/scale + zero)` in units of a power of two, rounded again. Version 1 states the power by the
    /// widths and keeps the step; version 2 by the ratio of two steps, and clamps to its width.
    pub(super) fn trunc(&mut self, site: &Site<'m>) -> Result<Known, Stop> {
        let [scale] = self.steps(site, 1)?.per_channel[..] else { return Err("its scale is not one number".into()) };
        let zero = whole(&self.reals_of(site, 2)?).ok_or("its zero point is not one integer")?;
        let parameters: Vec<f64> =
            (3..site.inputs.len()).map(|i| one_of(&self.reals_of(site, i)?)).collect::<Result<_, Stop>>()?;
        let (bits, out_scale) = match parameters[..] {
            [from, to] => ([from, to], None),
            [from, out_scale, to] => ([from, to], Some(out_scale)),
            _ => return Err("it does not say the widths".into()),
        };
        let [from, to] = bits.map(|b| whole(&[b]).filter(|b| (1..=32).contains(b)));
        let (Some(from), Some(to)) = (from, to) else { return Err("a width is not an integer of 1 to 32".into()) };
        let way = rounding(site.proto, "FLOOR")?;
        let scale = f64::from(scale);
        let power = match out_scale {
            None => (from - to) as f64,
            Some(out) if (out as f32).is_normal() && out > 0.0 => (out / scale).log2().round(),
            Some(_) => return Err("its output scale is not positive and finite".into()),
        };
        let unit = power.exp2();
        let one = |c: f64| list(&[c as f32]);
        let mut chain = vec![Func::Mul(self.push_const(site, ".inverse", one(1.0 / scale))?)];
        if zero != 0 {
            chain.push(Func::Add(self.push_const(site, ".zero", one(zero as f64))?));
        }
        let shift = self.push_const(site, ".shift", one(1.0 / unit))?;
        chain.extend([Func::Round, Func::Mul(shift), way]);
        let zero = match out_scale {
            None => zero as f64,
            Some(_) => {
                let signed = site.proto.int("signed")?.unwrap_or(1) != 0;
                let narrow = site.proto.int("narrow")?.unwrap_or(0) != 0;
                let to = shifted(integers(to as u32, signed, narrow), 0)?;
                chain.push(Func::Quant { scale: 1.0, to });
                zero as f64 / unit
            }
        };
        if zero != 0.0 {
            chain.push(Func::Add(self.push_const(site, ".back", one(-zero))?));
        }
        chain.push(Func::Mul(self.push_const(site, ".step", one(out_scale.unwrap_or(scale)))?));
        match site.inputs.first() {
            Some(Some(Known::Value(x))) => Ok(Known::Value(self.apply(site, *x, chain)?)),
            _ => Err("it does not read a value".into()),
        }
    }
}

/// How a quantizer rounds.
fn rounding(node: &NodeProto, default: &str) -> Result<Func, Stop> {
    let mode = text(node, "rounding_mode").unwrap_or_else(|| default.into());
    Ok(match mode.to_ascii_uppercase().as_str() {
        "ROUND" | "HALF_EVEN" => Func::Round,
        "CEIL" => Func::Ceil,
        "FLOOR" => Func::Floor,
        "ROUND_TO_ZERO" | "DOWN" => Func::Trunc,
        _ => return refuse(format!("it rounds by {mode}"), "round by ROUND, CEIL, FLOOR or ROUND_TO_ZERO"),
    })
}

/// A string attribute.
fn text(node: &NodeProto, name: &str) -> Option<String> {
    let attribute = node.attribute.iter().find(|a| a.name == name)?;
    String::from_utf8(attribute.s.to_vec()).ok()
}
