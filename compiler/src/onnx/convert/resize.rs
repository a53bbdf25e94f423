//! Resize and Upsample: every element of the result is one of the operand (nearest), or a constant mixture along each
//! axis (linear, cubic).

use std::sync::Arc;

use fhe_ir::{Data, Id, Value};
use ndarray::{Array2, ArrayD};

use super::super::attributes::Attributes;
use super::super::limits::MAX_GEOMETRY;
use super::super::tensors::ints;
use super::terms::numbers;
use super::{Converter, Site, Stop, refuse};

/// How one axis is resized.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
}

impl Axis {
    /// The place in the operand of a place of the result.
    fn source(&self, mode: &str, at: usize) -> Result<f64, Stop> {
        let (at, from, to) = (at as f64, self.from as f64, self.to as f64);
        Ok(match mode {
            "half_pixel" => (at + 0.5) / self.scale - 0.5,
            "half_pixel_symmetric" => {
                let adjusted = to / (self.scale * from);
                from / 2.0 * (1.0 - adjusted) + (at + 0.5) / self.scale - 0.5
            }
            "pytorch_half_pixel" if self.to == 1 => 0.0,
            "pytorch_half_pixel" => (at + 0.5) / self.scale - 0.5,
            "asymmetric" => at / self.scale,
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => at * (from - 1.0) / (to - 1.0),
            other => {
                return refuse(format!("its coordinates are {other:?}"), "use half_pixel, asymmetric or align_corners");
            }
        })
    }
}

/// Places in the operand and their weights, of linear interpolation.
fn hat(at: f64) -> Vec<(f64, f64)> {
    let rest = at - at.floor();
    vec![(at.floor(), 1.0 - rest), (at.floor() + 1.0, rest)]
}

/// Places in the operand and their weights, of cubic interpolation [Keys 1981] with the coefficient `a`.
fn cubic(at: f64, a: f64) -> Vec<(f64, f64)> {
    let weight = |d: f64| match d {
        d if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        d if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        _ => 0.0,
    };
    [-1.0, 0.0, 1.0, 2.0].map(|i| at.floor() + i).map(|place| (place, weight((at - place).abs()))).into()
}

impl Converter<'_> {
    pub(super) fn resize(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let node = site.proto;
        let mut x = self.value(site, 0)?;
        let axes = self.resized_axes(site, x)?;
        let old = node.op_type == "Upsample" || self.opset() < 11;
        let coordinates =
            node.string("coordinate_transformation_mode")?.unwrap_or(if old { "asymmetric" } else { "half_pixel" });
        let rounding = node.string("nearest_mode")?.unwrap_or(if old { "floor" } else { "round_prefer_floor" });
        if node.int("antialias")?.unwrap_or(0) != 0 {
            return refuse("it smooths elements (antialias)", "resize without antialias, or with a convolution");
        }
        let inside = node.int("exclude_outside")?.unwrap_or(0) != 0;
        let mode = node.string("mode")?.unwrap_or("nearest");
        for (axis, resized) in axes {
            if resized.from == resized.to && resized.scale == 1.0 {
                continue;
            }
            if axis == 0 {
                return Err("it resizes the batch".into());
            }
            // With a whole number of elements, the standard and its implementations agree on where the corners are.
            if coordinates == "align_corners" && (resized.scale * resized.from as f64 - resized.to as f64).abs() > 1e-6
            {
                return refuse(
                    format!(
                        "it aligns corners with the scale {}, which makes no whole number of elements",
                        resized.scale
                    ),
                    "give sizes instead of scales",
                );
            }
            let sources = (0..resized.to).map(|i| resized.source(coordinates, i)).collect::<Result<Vec<_>, _>>()?;
            let last = resized.from as f64 - 1.0;
            x = match mode {
                "nearest" => {
                    let nearest = |at: f64| match rounding {
                        "round_prefer_floor" => (at - 0.5).ceil(),
                        "round_prefer_ceil" => (at + 0.5).floor(),
                        "floor" => at.floor(),
                        _ => at.ceil(),
                    };
                    self.pick(site, x, axis, sources.iter().map(|&at| nearest(at).clamp(0.0, last) as usize).collect())?
                }
                "linear" | "cubic" => {
                    let mut matrix = Array2::<f32>::zeros((resized.to, resized.from));
                    let a = f64::from(node.float("cubic_coeff_a")?.unwrap_or(-0.75));
                    for (row, &at) in sources.iter().enumerate() {
                        let mut weights = if mode == "linear" { hat(at) } else { cubic(at, a) };
                        if inside {
                            weights.retain(|(place, _)| (0.0..=last).contains(place));
                        }
                        let sum: f64 = if inside { weights.iter().map(|w| w.1).sum() } else { 1.0 };
                        for (place, weight) in weights {
                            matrix[[row, place.clamp(0.0, last) as usize]] += (weight / sum) as f32;
                        }
                    }
                    self.along(site, x, axis, matrix.into_dyn())?
                }
                other => {
                    return refuse(
                        format!("its mode is {other:?}"),
                        "resize to the nearest element, linearly or cubically",
                    );
                }
            };
        }
        Ok(x)
    }

    /// A matrix `[out, in]` along one axis.
    fn along(&mut self, site: &Site<'_>, x: Id<Value>, axis: usize, matrix: ArrayD<f32>) -> Result<Id<Value>, Stop> {
        let mut shape = self.shape(x);
        let mut perm: Vec<usize> = (0..shape.len()).filter(|&a| a != axis).collect();
        perm.insert(1, axis);
        let mut back: Vec<usize> = (0..shape.len()).collect();
        back.sort_by_key(|&a| perm[a]);
        let places = shape.iter().product::<usize>() / shape[axis];
        let x = self.in_order(site, x, perm.clone())?;
        let x = self.in_shape(site, x, &[1, shape[axis], places])?;
        shape[axis] = matrix.shape()[0];
        let y = self.at_each_place(site, x, Data::F32(Arc::new(matrix)), 1)?;
        let turned: Vec<usize> = perm.iter().map(|&a| shape[a]).collect();
        let y = self.in_shape(site, y, &turned)?;
        self.in_order(site, y, back)
    }

    /// The axes in the IR's count with their extents.
    fn resized_axes(&self, site: &Site<'_>, x: Id<Value>) -> Result<Vec<(usize, Axis)>, Stop> {
        let node = site.proto;
        let shape = &self.shape(x)[self.lead..];
        let every: Vec<i64> = (0..shape.len() as i64).collect();
        let axes = node.ints("axes")?.map_or(every, <[i64]>::to_vec);
        let input =
            |i: usize| -> Result<Option<&fhe_ir::Data>, Stop> { Ok(self.constant(site, i)?.filter(|d| !d.is_empty())) };
        let scales = match (node.floats("scales")?, self.opset() < 11) {
            (Some(scales), _) => Some(scales.to_vec()),
            (None, true) => input(1)?.map(|d| numbers(d).iter().copied().collect()),
            (None, false) => input(2)?.map(|d| numbers(d).iter().copied().collect::<Vec<f32>>()),
        };
        let sizes = input(3)?.map(ints).transpose()?;
        if scales.as_ref().map_or(0, Vec::len).max(sizes.as_ref().map_or(0, Vec::len)) != axes.len() {
            return Err("it has not one scale or size per axis".into());
        }
        let mut found = vec![];
        for (i, &a) in axes.iter().enumerate() {
            let axis = self.axis(x, a)?;
            let from = shape[axis - self.lead];
            found.push((i, axis, from));
        }
        if let Some(sizes) = sizes {
            // keep_aspect_ratio_policy: one factor for all axes.
            let ratio = |(i, _, from): &(usize, usize, usize)| sizes[*i] as f64 / *from as f64;
            let one = match node.string("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
                "stretch" => None,
                "not_larger" => found.iter().map(ratio).min_by(f64::total_cmp),
                "not_smaller" => found.iter().map(ratio).max_by(f64::total_cmp),
                other => return Err(format!("its keep_aspect_ratio_policy is {other:?}").into()),
            };
            return found
                .into_iter()
                .map(|(i, axis, from)| {
                    let to = one.map_or(sizes[i], |s| (s * from as f64 + 0.5).floor() as i64);
                    let to = usize::try_from(to)
                        .ok()
                        .filter(|n| (1..=MAX_GEOMETRY).contains(n))
                        .ok_or("a size is no natural number")?;
                    Ok((axis, Axis { from, to, scale: one.unwrap_or(to as f64 / from as f64) }))
                })
                .collect();
        }
        let scales = scales.unwrap_or_default();
        found
            .into_iter()
            .map(|(i, axis, from)| {
                let scale = f64::from(scales[i]);
                let to = (from as f64 * scale).floor();
                if !(1.0..=MAX_GEOMETRY as f64).contains(&to) {
                    return Err(format!("its scale {scale} makes {to} elements of {from}").into());
                }
                Ok((axis, Axis { from, to: to as usize, scale }))
            })
            .collect()
    }
}
