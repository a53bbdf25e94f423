//! Sums, means and maxima over windows of one to three axes.

use fhe_ir::{Func, Id, Op, PoolGeometry, Value};
use ndarray::{ArrayD, IxDyn};

use super::super::attributes::Attributes;
use super::terms::Term;
use super::windows::{Window, bounded};
use super::{Converter, Site, Stop};

/// What a window becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    Sum,
    Max,
}

impl Converter<'_> {
    fn spatial(&self, x: Id<Value>) -> Result<Vec<usize>, Stop> {
        match &self.graph.value(x).shape[..] {
            [_, _, rest @ ..] if !rest.is_empty() => Ok(rest.to_vec()),
            shape => Err(format!("its operand of shape {shape:?} is not [1, channels, ...]").into()),
        }
    }

    fn ceil(site: &Site<'_>) -> Result<bool, Stop> {
        Ok(site.proto.int("ceil_mode")?.unwrap_or(0) != 0)
    }

    pub(super) fn max_pool(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let window = Window::of(site.proto, &self.spatial(x)?, None)?;
        self.pooled(site, x, &window, Pool::Max, Self::ceil(site)?)
    }

    pub(super) fn average_pool(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let window = Window::of(site.proto, &self.spatial(x)?, None)?;
        let (ceil, counted) = (Self::ceil(site)?, site.proto.int("count_include_pad")?.unwrap_or(0) != 0);
        let area: usize = window.kernel.iter().product();
        let counts =
            (0..window.kernel.len()).map(|axis| counts(&window, axis, ceil, counted)).collect::<Result<Vec<_>, _>>()?;
        let full = counts.iter().zip(&window.kernel).all(|(c, k)| c.iter().all(|c| c == k));
        if let (true, [_, _], [1, 1]) = (full, &window.kernel[..], &window.dilations[..]) {
            let geometry = self.geometry(&window, ceil)?;
            return self.push(site, "", Op::AvgPool { x, geometry }, &[]);
        }
        let sum = self.pooled(site, x, &window, Pool::Sum, ceil)?;
        if full {
            return self.scaled(site, sum, (1.0 / area as f64) as f32);
        }
        // Windows at the border hold fewer elements.
        let mut shape = vec![1, 1];
        shape.extend(counts.iter().map(Vec::len));
        let share = |at: IxDyn| 1.0 / counts.iter().enumerate().map(|(i, c)| c[at[i + 2]]).product::<usize>() as f64;
        let shares = ArrayD::from_shape_fn(IxDyn(&shape), |at| share(at) as f32);
        let mean = self.product(site, Term::Value(sum), Term::Clear(shares))?;
        self.encrypted(mean)
    }

    /// `(Σ|x|^p)^(1/p)` for `p` 1 and 2.
    pub(super) fn lp_pool(&mut self, site: &Site<'_>, global: bool) -> Result<Id<Value>, Stop> {
        let p = site.proto.int("p")?.unwrap_or(2);
        let (first, last) = match p {
            1 => (Func::Abs, None),
            2 => (Func::Square, Some(Func::Sqrt)),
            _ => return Err(format!("its p is {p}, not 1 or 2").into()),
        };
        let x = self.value(site, 0)?;
        let spatial = self.spatial(x)?;
        let window = if global { Window::whole(&spatial) } else { Window::of(site.proto, &spatial, None)? };
        let x = self.mapped(site, x, vec![first])?;
        let sum = self.pooled(site, x, &window, Pool::Sum, !global && Self::ceil(site)?)?;
        self.mapped(site, sum, last.into_iter().collect())
    }

    pub(super) fn global_pool(&mut self, site: &Site<'_>, mean: bool) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let spatial = self.spatial(x)?;
        let mut flat = self.shape(x)[..2].to_vec();
        // Any number of axes is one.
        if spatial.len() == 2 {
            flat.extend(&spatial)
        } else {
            flat.extend([spatial.iter().product(), 1])
        };
        let kernel = [flat[2], flat[3]];
        bounded(&kernel)?;
        let x = self.in_shape(site, x, &flat)?;
        let geometry = PoolGeometry { kernel, strides: [1, 1], pads: [0; 4] };
        let op = if mean { Op::AvgPool { x, geometry } } else { Op::MaxPool { x, geometry } };
        let y = self.step(site, op, &[])?;
        flat.truncate(2);
        flat.extend(spatial.iter().map(|_| 1));
        self.in_shape(site, y, &flat)
    }

    /// The geometry of a window over two axes without dilation.
    fn geometry(&self, window: &Window, ceil: bool) -> Result<PoolGeometry, Stop> {
        let (_, bottom) = window.places(0, ceil)?;
        let (_, right) = window.places(1, ceil)?;
        // Places behind the last window are pads only where the model says so.
        let behind = |axis: usize, needed: usize| if ceil { needed } else { window.after[axis] };
        let pads = [window.before[0], window.before[1], behind(0, bottom), behind(1, right)];
        let pair = |list: &[usize]| [list[0], list[1]];
        Ok(PoolGeometry { kernel: pair(&window.kernel), strides: pair(&window.strides), pads })
    }

    /// Pooling over one to three axes; the last two first.
    pub(super) fn pooled(
        &mut self,
        site: &Site<'_>,
        x: Id<Value>,
        window: &Window,
        pool: Pool,
        ceil: bool,
    ) -> Result<Id<Value>, Stop> {
        let axes = window.kernel.len();
        let shape = self.shape(x);
        let part = |from: usize, to: usize| {
            let cut = |list: &Vec<usize>| list[from..to].to_vec();
            let Window { extents, kernel, strides, dilations, before, after } = window;
            Window {
                extents: cut(extents),
                kernel: cut(kernel),
                strides: cut(strides),
                dilations: cut(dilations),
                before: cut(before),
                after: cut(after),
            }
        };
        match axes {
            2 => self.pooled_2d(site, x, window, pool, ceil),
            1 => {
                let x = self.in_shape(site, x, &[1, shape[1], shape[2], 1])?;
                let y = self.pooled_2d(site, x, &with_unit_axis(part(0, 1)), pool, ceil)?;
                let places = self.shape(y)[2];
                self.in_shape(site, y, &[1, shape[1], places])
            }
            _ => {
                let x = self.in_shape(site, x, &[1, shape[1] * shape[2], shape[3], shape[4]])?;
                let y = self.pooled_2d(site, x, &part(1, 3), pool, ceil)?;
                let (height, width) = (self.shape(y)[2], self.shape(y)[3]);
                let y = self.in_shape(site, y, &[1, shape[1], shape[2], height * width])?;
                let y = self.pooled_2d(site, y, &with_unit_axis(part(0, 1)), pool, ceil)?;
                let depth = self.shape(y)[2];
                self.in_shape(site, y, &[1, shape[1], depth, height, width])
            }
        }
    }

    /// Pooling over two axes, with windows side by side where they are dilated.
    fn pooled_2d(
        &mut self,
        site: &Site<'_>,
        mut x: Id<Value>,
        window: &Window,
        pool: Pool,
        ceil: bool,
    ) -> Result<Id<Value>, Stop> {
        let mut geometry = self.geometry(window, ceil)?;
        for axis in [0, 1] {
            if window.dilations[axis] > 1 {
                let (places, behind) = window.places(axis, ceil)?;
                x = self.unfold(site, x, window, axis, [places, behind], pool)?;
                geometry.strides[axis] = window.kernel[axis];
                (geometry.pads[axis], geometry.pads[axis + 2]) = (0, 0);
            }
        }
        if (geometry.kernel, geometry.strides, geometry.pads) == ([1, 1], [1, 1], [0; 4]) {
            return Ok(x);
        }
        let op = match pool {
            Pool::Sum => Op::SumPool { x, geometry },
            Pool::Max => Op::MaxPool { x, geometry },
        };
        self.step(site, op, &[])
    }

    /// The windows along an axis side by side.
    fn unfold(
        &mut self,
        site: &Site<'_>,
        mut x: Id<Value>,
        window: &Window,
        axis: usize,
        [places, behind]: [usize; 2],
        pool: Pool,
    ) -> Result<Id<Value>, Stop> {
        let (kernel, stride, dilation) = (window.kernel[axis], window.strides[axis], window.dilations[axis]);
        let (front, extent) = (window.before[axis], window.extents[axis]);
        let mut indices = vec![];
        for place in 0..places {
            let taps: Vec<usize> = (0..kernel).map(|tap| place * stride + tap * dilation).collect();
            let inside = |&at: &usize| (front..front + extent).contains(&at);
            let stand_in = taps.iter().copied().find(inside).ok_or("a window lies in the padding alone")?;
            indices.extend(taps.into_iter().map(|at| match pool {
                Pool::Sum => at,
                // What a window holds twice does not change its greatest element.
                Pool::Max => (if inside(&at) { at } else { stand_in }) - front,
            }));
        }
        if pool == Pool::Sum {
            let (mut before, mut after) = (vec![0; 4], vec![0; 4]);
            (before[axis + 2], after[axis + 2]) = (front as isize, behind as isize);
            x = self.pad_or_cut(site, x, &before, &after)?;
        }
        self.pick(site, x, axis + 2, indices)
    }
}

/// A window over one axis as one over that axis and another of single elements.
fn with_unit_axis(mut window: Window) -> Window {
    window.extents.push(1);
    for list in [&mut window.kernel, &mut window.strides, &mut window.dilations] {
        list.push(1);
    }
    window.before.push(0);
    window.after.push(0);
    window
}

/// Elements that count in each window along an axis: those of the operand, and of its stated padding if `padding` counts.
fn counts(window: &Window, axis: usize, ceil: bool, padding: bool) -> Result<Vec<usize>, Stop> {
    let (places, _) = window.places(axis, ceil)?;
    let (front, extent) = (window.before[axis], window.extents[axis]);
    let inside = if padding { 0..front + extent + window.after[axis] } else { front..front + extent };
    let count = |place: usize| {
        let tap = |k: usize| place * window.strides[axis] + k * window.dilations[axis];
        (0..window.kernel[axis]).filter(|&k| inside.contains(&tap(k))).count()
    };
    let counts: Vec<usize> = (0..places).map(count).collect();
    if counts.contains(&0) { Err("a window lies in the padding alone".into()) } else { Ok(counts) }
}
