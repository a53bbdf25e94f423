//! Means over windows and over whole axes.

use fhe_ir::{Id, Op, PoolGeometry, Value};
use onnx_ir::avg_pool2d::AvgPool2dConfig;
use onnx_ir::max_pool2d::MaxPool2dConfig;
use onnx_ir::reduce::{ReduceAxes, ReduceConfig};

use super::layers::{bounded, pads};
use super::{Converter, Site, Stop, refuse};

impl Converter<'_> {
    pub(super) fn average_pool(&mut self, site: &Site<'_>, config: &AvgPool2dConfig) -> Result<Id<Value>, Stop> {
        if config.dilation != [1, 1] {
            return Err("its window is dilated".into());
        }
        bounded(config.kernel_size.iter().chain(&config.strides))?;
        let x = self.value(site, 0)?;
        let shape = self.graph.value(x).shape.clone();
        let pads = pads(&shape, &config.auto_pad, &config.padding, config.kernel_size, config.strides)?;
        if pads != [0; 4] && !config.count_include_pad {
            return refuse(
                "windows at the border divide by fewer elements (count_include_pad=0)",
                "set count_include_pad, or pad with an operator of its own",
            );
        }
        if config.ceil_mode {
            // The last window is cut only where the stride leaves a rest.
            let rest = [0, 1].map(|i| {
                let extent = shape[i + 2].saturating_add(pads[i]).saturating_add(pads[i + 2]);
                extent.saturating_sub(config.kernel_size[i]) % config.strides[i]
            });
            if rest != [0, 0] {
                return refuse("its last window is cut (ceil_mode=1)", "set ceil_mode to False, or pad the input");
            }
        }
        let geometry = PoolGeometry { kernel: config.kernel_size, strides: config.strides, pads };
        self.push(site, "", Op::AvgPool { x, geometry }, &[])
    }

    pub(super) fn max_pool(&mut self, site: &Site<'_>, config: &MaxPool2dConfig) -> Result<Id<Value>, Stop> {
        if config.dilation != [1, 1] {
            return Err("its window is dilated".into());
        }
        bounded(config.kernel_size.iter().chain(&config.strides))?;
        let x = self.value(site, 0)?;
        let shape = self.graph.value(x).shape.clone();
        let mut pads = pads(&shape, &config.auto_pad, &config.padding, config.kernel_size, config.strides)?;
        if config.ceil_mode {
            for axis in [0, 1] {
                let stride = config.strides[axis];
                let extent = shape[axis + 2].saturating_add(pads[axis]).saturating_add(pads[axis + 2]);
                let rest = extent.saturating_sub(config.kernel_size[axis]) % stride;
                // Padding is left out of the maximum, so a cut window is a whole one with more of it; a window that would
                // start in the padding behind the input does not count.
                let places = extent.saturating_sub(config.kernel_size[axis]) / stride + 1;
                if rest != 0 && places.saturating_mul(stride) < shape[axis + 2].saturating_add(pads[axis]) {
                    pads[axis + 2] += stride - rest;
                }
            }
        }
        let geometry = PoolGeometry { kernel: config.kernel_size, strides: config.strides, pads };
        self.push(site, "", Op::MaxPool { x, geometry }, &[])
    }

    pub(super) fn global_max_pool(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let [_, _, height, width] = self.graph.value(x).shape[..] else {
            return Err("only pooling over two axes has an encrypted form".into());
        };
        let geometry = PoolGeometry { kernel: [height, width], strides: [1, 1], pads: [0; 4] };
        self.push(site, "", Op::MaxPool { x, geometry }, &[])
    }

    pub(super) fn global_average_pool(&mut self, site: &Site<'_>) -> Result<Id<Value>, Stop> {
        self.mean(site, [true, true], true)
    }

    pub(super) fn reduce_mean(&mut self, site: &Site<'_>, config: &ReduceConfig) -> Result<Id<Value>, Stop> {
        let ReduceAxes::Static(axes) = &config.axes else {
            return Err("its axes are not constant".into());
        };
        if axes.is_empty() && config.noop_with_empty_axes {
            return self.value(site, 0);
        }
        if axes.is_empty() || axes.iter().any(|a| ![2, 3].contains(a)) {
            return refuse(
                format!("it takes the mean over axes {axes:?}"),
                "means over height and width (axes 2, 3) have an encrypted form",
            );
        }
        self.mean(site, [axes.contains(&2), axes.contains(&3)], config.keepdims)
    }

    /// The mean over the whole height, the whole width, or both.
    fn mean(&mut self, site: &Site<'_>, over: [bool; 2], keep: bool) -> Result<Id<Value>, Stop> {
        let x = self.value(site, 0)?;
        let &[_, channels, height, width] = self.graph.value(x).shape.as_slice() else {
            let shape = &self.graph.value(x).shape;
            return Err(format!("its operand of shape {shape:?} is not [1, channels, height, width]").into());
        };
        let kernel = [if over[0] { height } else { 1 }, if over[1] { width } else { 1 }];
        bounded(&kernel)?;
        let geometry = PoolGeometry { kernel, strides: [1, 1], pads: [0; 4] };
        if keep {
            return self.push(site, "", Op::AvgPool { x, geometry }, &[]);
        }
        let mut shape = vec![1, channels];
        shape.extend([height, width].iter().zip(over).filter(|(_, over)| !over).map(|(e, _)| e));
        let pool = self.push(site, ".mean", Op::AvgPool { x, geometry }, &[])?;
        self.push(site, "", Op::Reshape { x: pool }, &shape)
    }
}
