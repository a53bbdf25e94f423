//! Windows over the spatial axes of `[1, channels, ...]`, one to three of them.

use onnx_ir::NodeProto;

use super::super::attributes::Attributes;
use super::super::layout::same_pads;
use super::super::limits::MAX_GEOMETRY;
use super::Stop;

/// A window: one entry per spatial axis in every list.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Extents of the operand.
    pub(super) extents: Vec<usize>,
    /// Elements of the window.
    pub(super) kernel: Vec<usize>,
    /// Distance of two windows.
    pub(super) strides: Vec<usize>,
    /// Distance of two elements of a window.
    pub(super) dilations: Vec<usize>,
    /// Places in front.
    pub(super) before: Vec<usize>,
    /// Places behind.
    pub(super) after: Vec<usize>,
}

impl Window {
    /// The window that a node's attributes describe; `kernel` is that of its weights, if it has any.
    pub(super) fn of(node: &NodeProto, extents: &[usize], kernel: Option<&[usize]>) -> Result<Self, Stop> {
        let axes = extents.len();
        if !(1..=3).contains(&axes) {
            return Err(format!("it has {axes} spatial axes, not one to three").into());
        }
        let list = |name: &str, default: usize| -> Result<Vec<usize>, Stop> {
            let Some(list) = node.ints(name)?.filter(|l| !l.is_empty()) else { return Ok(vec![default; axes]) };
            let list: Option<Vec<usize>> = list.iter().map(|&n| usize::try_from(n).ok()).collect();
            list.filter(|l| l.len() == axes).ok_or_else(|| format!("its {name} are not {axes} natural numbers").into())
        };
        let stated =
            node.ints("kernel_shape")?.filter(|l| !l.is_empty()).map(|_| list("kernel_shape", 1)).transpose()?;
        let kernel = match (stated, kernel) {
            (Some(stated), Some(kernel)) if stated != kernel => {
                return Err(format!("its kernel_shape {stated:?} is not that of its weights, {kernel:?}").into());
            }
            (_, Some(kernel)) => kernel.to_vec(),
            (stated, None) => stated.ok_or("it has no kernel_shape")?,
        };
        let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
        if kernel.len() != axes {
            return Err(format!("its window has {} axes, its operand {axes}", kernel.len()).into());
        }
        bounded(kernel.iter().chain(&strides).chain(&dilations))?;
        let mut window =
            Self { extents: extents.to_vec(), kernel, strides, dilations, before: vec![0; axes], after: vec![0; axes] };
        match node.string("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => {
                if let Some(pads) = node.ints("pads")?.filter(|p| !p.is_empty()) {
                    let pads: Option<Vec<usize>> =
                        pads.iter().map(|&p| usize::try_from(p).ok().filter(|&p| p <= MAX_GEOMETRY)).collect();
                    let pads = pads.filter(|p| p.len() == 2 * axes);
                    let pads =
                        pads.ok_or_else(|| format!("its pads are not {} numbers up to {MAX_GEOMETRY}", 2 * axes))?;
                    (window.before, window.after) = (pads[..axes].to_vec(), pads[axes..].to_vec());
                }
            }
            "VALID" => {}
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                for (axis, extent) in extents.iter().enumerate() {
                    let pads = same_pads(*extent, window.reach(axis), window.strides[axis], mode == "SAME_UPPER");
                    (window.before[axis], window.after[axis]) = pads.ok_or("its pads overflow")?;
                }
            }
            other => return Err(format!("its auto_pad is {other:?}").into()),
        }
        Ok(window)
    }

    /// The window over everything.
    pub(super) fn whole(extents: &[usize]) -> Self {
        let ones = vec![1; extents.len()];
        let zeros = vec![0; extents.len()];
        Self {
            extents: extents.to_vec(),
            kernel: extents.to_vec(),
            strides: ones.clone(),
            dilations: ones,
            before: zeros.clone(),
            after: zeros,
        }
    }

    /// Elements from the first of a window to its last. Both factors are bounded.
    pub(super) fn reach(&self, axis: usize) -> usize {
        self.dilations[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Number of windows along an axis, with the places behind that they need.
    pub(super) fn places(&self, axis: usize, ceil: bool) -> Result<(usize, usize), Stop> {
        let (extent, stride, reach) = (self.extents[axis], self.strides[axis], self.reach(axis));
        let padded = extent.saturating_add(self.before[axis]).saturating_add(self.after[axis]);
        let room =
            padded.checked_sub(reach).ok_or_else(|| format!("a window of {reach} does not fit into {padded}"))?;
        let mut places = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
        // A window that would start behind the operand does not count.
        if ceil && (places - 1) * stride >= extent + self.before[axis] {
            places -= 1;
        }
        let end = (places - 1) * stride + reach;
        Ok((places, end.saturating_sub(extent + self.before[axis])))
    }
}

/// Refuses zeros and numbers that no network has.
pub(super) fn bounded<'a>(numbers: impl IntoIterator<Item = &'a usize>) -> Result<(), Stop> {
    match numbers.into_iter().find(|n| !(1..=MAX_GEOMETRY).contains(*n)) {
        None => Ok(()),
        Some(n) => Err(format!("a stride, dilation, kernel or group count is {n}, not 1 to {MAX_GEOMETRY}").into()),
    }
}
