//! Convolutions and transposed convolutions over one to three axes.

use std::sync::Arc;

use fhe_ir::verify::MAX_UNROLLED;
use fhe_ir::{ConvGeometry, Data, Id, Op, Value};
use ndarray::{ArrayD, Axis, IxDyn, concatenate};

use super::super::attributes::Attributes;
use super::super::limits::{MAX_GEOMETRY, MAX_NUMBERS};
use super::layers::reals;
use super::windows::{Window, bounded};
use super::{Converter, Site, Stop};

impl Converter<'_> {
    /// The group count of a convolution.
    fn groups(site: &Site<'_>) -> Result<usize, Stop> {
        let groups = usize::try_from(site.proto.int("group")?.unwrap_or(1)).unwrap_or(0);
        bounded(&[groups])?;
        Ok(groups)
    }

    fn bias(&self, site: &Site<'_>, out: usize) -> Result<Option<ArrayD<f32>>, Stop> {
        Ok(match self.constant(site, 2)? {
            None => None,
            Some(data) => Some(self.per_channel(reals(data)?, &[1, out])?),
        })
    }

    pub(super) fn conv(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let w = reals(self.constant(site, 1)?.ok_or("it has no weights")?)?;
        let shape = self.shape(x);
        if w.ndim() < 3 || shape.len() != w.ndim() {
            return Err(format!("its weights {:?} do not fit its operand {shape:?}", w.shape()).into());
        }
        let window = Window::of(site.proto, &shape[2..], Some(&w.shape()[2..]))?;
        let groups = Self::groups(site)?;
        let bias = self.bias(site, w.shape()[0])?;
        self.spend(w.len())?;
        if let Some((integers, scale)) = self.exact_weights(site, 1, 0) {
            let y = self.convolved(site, x, Data::Int(Arc::new(integers)), &window, groups)?;
            return self.exact_result(site, y, scale, bias);
        }
        let y = self.convolved(site, x, Data::F32(Arc::new(w.clone())), &window, groups)?;
        self.add_bias(site, y, bias)
    }

    /// A convolution with weights `[out, in/groups, ...]`, bias left out.
    fn convolved(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        w: Data,
        window: &Window,
        groups: usize,
    ) -> Result<Id<Value>, Stop> {
        let shape = self.shape(x);
        match window.kernel[..] {
            [kernel] => {
                let x = self.in_shape(site, x, &[1, shape[1], 1, shape[2]])?;
                let (out, per_group) = (w.shape()[0], w.shape()[1]);
                let w = reshaped(&w, &[out, per_group, 1, kernel])?;
                let geometry = ConvGeometry {
                    strides: [1, window.strides[0]],
                    pads: [0, window.before[0], 0, window.after[0]],
                    dilations: [1, window.dilations[0]],
                    groups,
                };
                let y = self.conv_2d(site, x, w, geometry)?;
                let places = self.shape(y)[3];
                self.in_shape(site, y, &[1, out, places])
            }
            [_, _] => {
                let geometry = ConvGeometry {
                    strides: [window.strides[0], window.strides[1]],
                    pads: [window.before[0], window.before[1], window.after[0], window.after[1]],
                    dilations: [window.dilations[0], window.dilations[1]],
                    groups,
                };
                self.conv_2d(site, x, w, geometry)
            }
            _ => self.conv_3d(site, x, w, window, groups),
        }
    }

    fn conv_2d(&mut self, site: &Site<'_>, x: Id<Value>, w: Data, geometry: ConvGeometry) -> Result<Id<Value>, Stop> {
        let window = w.shape()[1..].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let w = self.push_weights(site, w)?;
        let y = self.push(site, ".acc", Op::Conv { x, w, geometry }, &[])?;
        let places = self.shape(y)[2..].iter().product::<usize>();
        if window.and_then(|n| n.checked_mul(places)).is_none_or(|n| n > MAX_UNROLLED) {
            return Err(format!("its windows have more than {MAX_UNROLLED} elements in all").into());
        }
        Ok(y)
    }

    /// The windows' depths side by side, then a plane convolution with one block of groups for each depth of the result.
    fn conv_3d(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        w: Data,
        window: &Window,
        groups: usize,
    ) -> Result<Id<Value>, Stop> {
        let &[out, per_group, depth, kh, kw] = w.shape() else { return Err("its weights have not five axes".into()) };
        let &[_, channels, _, height, width] = &self.shape(x)[..] else {
            return Err("its operand has not five axes".into());
        };
        let (places, behind) = window.places(0, false)?;
        if w.len().saturating_mul(places) > MAX_NUMBERS {
            return Err("its weights, once for each depth, are too many numbers".into());
        }
        self.spend(w.len() * (places - 1))?;
        let (mut before, mut after) = ([0; 5], [0; 5]);
        (before[2], after[2]) = (window.before[0] as isize, behind as isize);
        let x = self.pad_or_cut(site, x, &before, &after)?;
        let tap = |i: usize| i / depth * window.strides[0] + i % depth * window.dilations[0];
        let x = self.pick(site, x, 2, (0..places * depth).map(tap).collect())?;
        let x = self.in_shape(site, x, &[1, channels, places, depth, height, width])?;
        let x = self.in_order(site, x, vec![0, 2, 1, 3, 4, 5])?;
        let x = self.in_shape(site, x, &[1, places * channels * depth, height, width])?;
        let w = match reshaped(&w, &[out, per_group * depth, kh, kw])? {
            Data::F32(w) => Data::F32(Arc::new(repeated(&w, places)?)),
            Data::Int(w) => Data::Int(Arc::new(repeated(&w, places)?)),
        };
        let geometry = ConvGeometry {
            strides: [window.strides[1], window.strides[2]],
            pads: [window.before[1], window.before[2], window.after[1], window.after[2]],
            dilations: [window.dilations[1], window.dilations[2]],
            groups: places * groups,
        };
        let y = self.conv_2d(site, x, w, geometry)?;
        let (height, width) = (self.shape(y)[2], self.shape(y)[3]);
        let y = self.in_shape(site, y, &[1, places, out, height, width])?;
        self.in_order(site, y, vec![0, 2, 1, 3, 4])
    }

    /// Zeros between the elements, then a convolution with the weights turned around.
    pub(super) fn conv_transpose(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let w = reals(self.constant(site, 1)?.ok_or("it has no weights")?)?;
        let shape = self.shape(x);
        let groups = Self::groups(site)?;
        if w.ndim() < 3 || shape.len() != w.ndim() || w.shape()[0] != shape[1] || !shape[1].is_multiple_of(groups) {
            return Err(format!("its weights {:?} do not fit its operand {shape:?}", w.shape()).into());
        }
        let axes = shape.len() - 2;
        let (out, total) = (w.shape()[1], w.shape()[1] * groups);
        let (before, after, window) = transposed(site, &shape[2..], &w.shape()[2..])?;
        // w'[g·out + o, i, k] == w[g·in + i, o, −k]
        let per_group = shape[1] / groups;
        let mut turned = vec![total, per_group];
        turned.extend(&window.kernel);
        self.spend(w.len())?;
        let from = |at: IxDyn| {
            let mut from = vec![at[0] / out * per_group + at[1], at[0] % out];
            from.extend((0..axes).map(|i| window.kernel[i] - 1 - at[2 + i]));
            from
        };
        let exact = self.exact_weights(site, 1, 1).map(|(law, scale)| {
            let integers = ArrayD::from_shape_fn(IxDyn(&turned), |at| law[&from(at)[..]]);
            (integers, scale.repeat(groups))
        });
        let real = || ArrayD::from_shape_fn(IxDyn(&turned), |at| w[&from(at)[..]]);
        let (w, scale) = match exact {
            Some((integers, scale)) => (Data::Int(Arc::new(integers)), Some(scale)),
            None => (Data::F32(Arc::new(real())), None),
        };
        let bias = self.bias(site, total)?;
        let x = self.spread(site, x, &window.strides)?;
        // The convolution takes pads itself; what is negative is cut off in front of it.
        let cut = |pads: &[isize]| [0, 0].into_iter().chain(pads.iter().map(|p| (*p).min(0))).collect::<Vec<_>>();
        let x = self.pad_or_cut(site, x, &cut(&before), &cut(&after))?;
        let pads = |pads: &[isize]| pads.iter().map(|p| (*p).max(0) as usize).collect::<Vec<_>>();
        let window = Window {
            extents: self.shape(x)[2..].to_vec(),
            strides: vec![1; axes],
            before: pads(&before),
            after: pads(&after),
            ..window
        };
        let y = self.convolved(site, x, w, &window, groups)?;
        match scale {
            Some(scale) => self.exact_result(site, y, scale, bias),
            None => self.add_bias(site, y, bias),
        }
    }

    /// `stride − 1` zeros behind every element of each spatial axis but the last.
    fn spread(&mut self, site: &Site<'_>, mut x: Id<Value>, strides: &[usize]) -> Result<Id<Value>, Stop> {
        for (i, &stride) in strides.iter().enumerate().filter(|(_, s)| **s > 1) {
            let (axis, shape) = (i + 2, self.shape(x));
            let mut wide = shape.clone();
            wide.insert(axis + 1, 1);
            x = self.in_shape(site, x, &wide)?;
            let (before, mut after) = (vec![0; wide.len()], vec![0; wide.len()]);
            after[axis + 1] = stride as isize - 1;
            x = self.pad_or_cut(site, x, &before, &after)?;
            let mut long = shape.clone();
            long[axis] = shape[axis].checked_mul(stride).ok_or("its stride overflows")?;
            x = self.in_shape(site, x, &long)?;
            x = self.cut(site, x, axis, 0, (shape[axis] - 1) * stride + 1)?;
        }
        Ok(x)
    }
}

/// Weights in another shape, in the same order.
pub(super) fn reshaped(w: &Data, shape: &[usize]) -> Result<Data, Stop> {
    let refuse = |_| Stop::from("its weights are not row-major");
    Ok(match w {
        Data::F32(w) => Data::F32(Arc::new(w.to_shape(shape).map_err(refuse)?.into_owned())),
        Data::Int(w) => Data::Int(Arc::new(w.to_shape(shape).map_err(refuse)?.into_owned())),
    })
}

/// The weights `times` times behind one another.
fn repeated<T: Clone>(w: &ArrayD<T>, times: usize) -> Result<ArrayD<T>, Stop> {
    let joined = concatenate(Axis(0), &vec![w.view(); times]).map_err(|e| e.to_string())?;
    Ok(joined.as_standard_layout().into_owned())
}

/// Pads of the convolution behind the zeros, which may be negative, and the window of a transposed convolution.
fn transposed(site: &Site<'_>, extents: &[usize], kernel: &[usize]) -> Result<(Vec<isize>, Vec<isize>, Window), Stop> {
    let axes = extents.len();
    let list = |name: &str| -> Result<Option<Vec<usize>>, Stop> {
        let Some(list) = site.proto.ints(name)?.filter(|l| !l.is_empty()) else { return Ok(None) };
        let list: Option<Vec<usize>> =
            list.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n <= MAX_GEOMETRY)).collect();
        Ok(Some(list.filter(|l| l.len() == axes).ok_or_else(|| format!("its {name} are not {axes} natural numbers"))?))
    };
    let window = Window::of(site.proto, extents, Some(kernel))?;
    let more = list("output_padding")?.unwrap_or(vec![0; axes]);
    let (stated, auto) = (list("output_shape")?, site.proto.string("auto_pad")?.unwrap_or("NOTSET"));
    let (mut before, mut after) = (vec![], vec![]);
    for i in 0..axes {
        let (stride, reach) = (window.strides[i], window.reach(i));
        // All are bounded by 2^20: products stay far below 2^63.
        let full = (stride * (extents[i] - 1) + more[i] + reach) as isize;
        let wanted = match (&stated, auto) {
            (Some(shape), _) => Some(shape[i] as isize),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some((extents[i] * stride) as isize),
            _ => None,
        };
        let (front, back) = match wanted {
            None => (window.before[i] as isize, window.after[i] as isize),
            Some(wanted) => {
                let total = (full - wanted).max(0);
                if auto == "SAME_UPPER" { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) }
            }
        };
        // An output shape beyond the full extent is filled with zeros behind.
        let beyond = wanted.map_or(0, |wanted| (wanted - full).max(0));
        let reach = reach as isize;
        before.push(reach - 1 - front);
        after.push(reach - 1 - back + more[i] as isize + beyond);
    }
    Ok((before, after, window))
}
