//! Operators that name elements: joined, split, gathered, repeated, resized, in blocks of depth.

use fhe_ir::{Id, Value};

use super::super::attributes::Attributes;
use super::super::limits::MAX_GEOMETRY;
use super::super::tensors::ints;
use super::{Converter, Known, Site, Stop, refuse};

impl Converter<'_> {
    /// The axis that an attribute names, in the IR's count; not the batch.
    fn inner_axis(&self, x: Id<Value>, axis: i64) -> Result<usize, Stop> {
        match self.axis(x, axis)? {
            0 => refuse("it runs along the batch", "every row is encrypted on its own: rows cannot meet"),
            axis => Ok(axis),
        }
    }

    pub(super) fn concat(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let xs = (0..site.inputs.len()).map(|i| self.value(site, i)).collect::<Result<Vec<_>, _>>();
        let Ok(xs) = xs else {
            return refuse("it joins encrypted values and constants", "pad the value, and add the constant");
        };
        let first = *xs.first().ok_or("it has no inputs")?;
        let axis = self.inner_axis(first, site.proto.int("axis")?.ok_or("it has no axis")?)?;
        self.join(site, xs, axis)
    }

    /// All parts.
    pub(super) fn split(&mut self, site: &Site<'_>) -> Result<Vec<Known>, Stop> {
        let x = self.value(site, 0)?;
        let axis = self.inner_axis(x, site.proto.int("axis")?.unwrap_or(0))?;
        let extent = self.shape(x)[axis];
        let stated = match self.constant(site, 1)? {
            Some(data) => Some(ints(data)?),
            None => site.proto.ints("split")?.filter(|l| !l.is_empty()).map(<[i64]>::to_vec),
        };
        let sizes: Vec<usize> = match stated {
            Some(sizes) => sizes
                .iter()
                .map(|&n| usize::try_from(n).ok().filter(|&n| n <= extent))
                .collect::<Option<_>>()
                .ok_or("its parts are no natural numbers")?,
            None => {
                // Equal parts, the last one shorter where they do not fill the axis.
                let parts = site.proto.output.len().max(1);
                let size = extent.div_ceil(parts);
                (0..parts).map(|i| size.min(extent.saturating_sub(i * size))).collect()
            }
        };
        if sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s)) != Some(extent) || sizes.contains(&0) {
            return Err(format!("its parts {sizes:?} do not fill an axis of {extent}").into());
        }
        let mut start = 0;
        let mut parts = vec![];
        for size in sizes {
            parts.push(Known::Value(self.cut(site, x, axis, start, size)?));
            start += size;
        }
        Ok(parts)
    }

    /// Slices of an axis; a scalar index removes the axis, a matrix of indices makes two of it.
    pub(super) fn gather(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        if matches!(site.inputs.first(), Some(Some(Known::Const(_)))) {
            return refuse(
                "it looks up an encrypted index",
                "encrypted indices have no table: encode them as one-hot vectors",
            );
        }
        let x = self.value(site, 0)?;
        let data = self.constant(site, 1)?.ok_or("it has no indices")?;
        let axis = self.inner_axis(x, site.proto.int("axis")?.unwrap_or(0))?;
        let shape = self.shape(x);
        let indices = ints(data)?
            .into_iter()
            .map(|i| super::super::layout::axis(i, shape[axis]))
            .collect::<Result<Vec<_>, _>>()?;
        let mut out = shape[..axis].to_vec();
        out.extend(data.shape());
        out.extend(&shape[axis + 1..]);
        let x = self.pick(site, x, axis, indices)?;
        if out.len() < 2 {
            return refuse("it leaves nothing but the batch", "gather with a list of one index");
        }
        self.in_shape(site, x, &out)
    }

    /// A list of natural numbers, one for each axis behind `skip` of them.
    fn extents(&self, site: &Site<'_>, i: usize) -> Result<Vec<usize>, Stop> {
        let list = ints(self.constant(site, i)?.ok_or("it has no shape")?)?;
        let list: Option<Vec<usize>> = list.into_iter().map(|n| usize::try_from(n).ok()).collect();
        Ok(list.ok_or("its shape is negative")?)
    }

    pub(super) fn expand_to(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let mut wanted = self.extents(site, 1)?;
        let own = self.shape(x)[self.lead..].to_vec();
        // The batch that the model was exported with is one row here.
        if self.lead == 0 && wanted.len() == own.len() && wanted.first().copied() == self.model.batch {
            wanted[0] = 1;
        }
        let shape = super::terms::broadcast(&own, &wanted)?;
        if self.lead == 0 && (shape.len() != own.len() || shape[0] != 1) {
            return refuse("it repeats the batch", "every row is encrypted on its own");
        }
        let mut full = self.shape(x)[..self.lead].to_vec();
        full.extend(shape);
        self.expand(site, x, &full)
    }

    pub(super) fn tile(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let mut x = self.value(site, 0)?;
        let repeats = self.extents(site, 1)?;
        let shape = self.shape(x);
        if repeats.len() + self.lead != shape.len() || (self.lead == 0 && repeats[0] != 1) {
            return Err(format!("its repeats {repeats:?} are not one number per axis, 1 for the batch").into());
        }
        for (i, &n) in repeats.iter().enumerate().rev() {
            let (axis, extent) = (i + self.lead, shape[i + self.lead]);
            if n == 0 || n.saturating_mul(extent) > MAX_GEOMETRY {
                return Err(format!("it repeats axis {axis} {n} times").into());
            }
            x = self.pick(site, x, axis, (0..n).flat_map(|_| 0..extent).collect())?;
        }
        Ok(x)
    }

    /// Blocks of channels as blocks of places.
    pub(super) fn depth_to_space(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let (b, [channels, height, width]) = self.blocks(site, x)?;
        if channels % (b * b) != 0 {
            return Err(format!("{channels} channels are no blocks of {b}·{b}").into());
        }
        let rest = channels / (b * b);
        let (split, perm) = match site.proto.string("mode")?.unwrap_or("DCR") {
            "DCR" => ([1, b, b, rest, height, width], vec![0, 3, 4, 1, 5, 2]),
            "CRD" => ([1, rest, b, b, height, width], vec![0, 1, 4, 2, 5, 3]),
            other => return Err(format!("its mode is {other:?}").into()),
        };
        let x = self.in_shape(site, x, &split)?;
        let x = self.in_order(site, x, perm)?;
        self.in_shape(site, x, &[1, rest, height * b, width * b])
    }

    /// Blocks of places as blocks of channels.
    pub(super) fn space_to_depth(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let (b, [channels, height, width]) = self.blocks(site, x)?;
        if height % b != 0 || width % b != 0 {
            return Err(format!("{height}·{width} places are no blocks of {b}·{b}").into());
        }
        let x = self.in_shape(site, x, &[1, channels, height / b, b, width / b, b])?;
        let x = self.in_order(site, x, vec![0, 3, 5, 1, 2, 4])?;
        self.in_shape(site, x, &[1, channels * b * b, height / b, width / b])
    }

    fn blocks(&self, site: &Site<'_>, x: Id<Value>) -> Result<(usize, [usize; 3]), Stop> {
        let b = usize::try_from(site.proto.int("blocksize")?.ok_or("it has no blocksize")?).unwrap_or(0);
        match self.shape(x)[..] {
            [_, channels, height, width] if (1..=1024).contains(&b) => Ok((b, [channels, height, width])),
            ref shape => Err(format!("blocks of {b} of {shape:?}: wants [1, channels, height, width]").into()),
        }
    }
}
