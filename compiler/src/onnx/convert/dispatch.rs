//! Which converter takes which of `onnx-ir`'s nodes.

use fhe_ir::{Func, Post};
use onnx_ir::Node;

use super::{Converter, Known, Site, Stop, refuse};

impl Converter<'_> {
    /// The first output of a node.
    pub(super) fn dispatch(&mut self, site: &Site<'_>, config: Node) -> Result<Known, Stop> {
        match config {
            Node::Softmax(n) => return self.client(site, Post::Softmax { axis: n.config.axis }),
            Node::LogSoftmax(n) => return self.client(site, Post::LogSoftmax { axis: n.config.axis }),
            Node::ArgMax(n) => {
                let (axis, keep, last) = (n.config.axis, n.config.keepdims, n.config.select_last_index);
                return self.client(site, Post::ArgMax { axis, keep, last });
            }
            Node::Cast(n) => return self.cast(site, n.config.to),
            _ => {}
        }
        if let Some(Known::Client(..)) = site.inputs.iter().flatten().find(|k| matches!(k, Known::Client(..))) {
            return refuse(
                "it reads a softmax or argmax, which only the client can apply",
                "softmax, log-softmax and argmax have a place at the outputs alone",
            );
        }
        let id = match config {
            Node::Gemm(n) => self.gemm(site, &n.config)?,
            Node::Linear(n) => self.linear(site, n.config.transpose_weight)?,
            Node::MatMul(_) if matches!(site.inputs.get(1), Some(Some(Known::Const(_)))) => self.linear(site, false)?,
            Node::MatMul(_) => return Err("it is not a product with a constant matrix on the right".into()),
            Node::Conv2d(n) => self.conv(site, &n.config)?,
            Node::Conv1d(_) | Node::Conv3d(_) => {
                return Err("only convolutions over two axes have an encrypted form".into());
            }
            Node::BatchNormalization(n) => self.batch_norm(site, &n.config)?,
            Node::AveragePool2d(n) => self.average_pool(site, &n.config)?,
            Node::AveragePool1d(_) | Node::AveragePool3d(_) => {
                return Err("only pooling over two axes has an encrypted form".into());
            }
            Node::MaxPool2d(n) => self.max_pool(site, &n.config)?,
            Node::GlobalMaxPool(_) => self.global_max_pool(site)?,
            Node::GlobalAveragePool(_) => self.global_average_pool(site)?,
            Node::ReduceMean(n) => self.reduce_mean(site, &n.config)?,
            Node::Add(_) => self.add(site)?,
            Node::Sub(_) => self.sub(site)?,
            Node::Mul(_) => self.mul(site)?,
            Node::Div(_) => self.div(site)?,
            Node::Neg(_) => self.neg(site)?,
            Node::Scaler(n) => self.scaler(site, &n.config)?,
            Node::Relu(_) => self.map(site, vec![Func::Relu])?,
            Node::LeakyRelu(n) if !(n.config.alpha as f32).is_finite() => return Err("its alpha is not finite".into()),
            Node::LeakyRelu(n) => self.map(site, vec![Func::LeakyRelu(n.config.alpha as f32)])?,
            Node::Clip(n) => self.clip(site, &n.config)?,
            Node::Sigmoid(_) => self.map(site, vec![Func::Sigmoid])?,
            Node::HardSigmoid(n) => self.hard_sigmoid(site, n.config.alpha, n.config.beta)?,
            Node::Tanh(_) => self.map(site, vec![Func::Tanh])?,
            Node::Gelu(n) => self.gelu(site, &n.config)?,
            Node::Swish(n) => self.swish(site, n.config.alpha)?,
            Node::Abs(_) => self.map(site, vec![Func::Abs])?,
            Node::Sign(_) => self.map(site, vec![Func::Sign])?,
            Node::Exp(_) => self.map(site, vec![Func::Exp])?,
            Node::Sqrt(_) => self.map(site, vec![Func::Sqrt])?,
            Node::Slice(n) => self.slice(site, &n.config)?,
            Node::Pad(n) => self.pad(site, &n.config)?,
            Node::Reshape(n) => self.reshape(site, &n.config)?,
            Node::Flatten(n) => self.flatten(site, n.config.axis)?,
            Node::Squeeze(n) => self.squeeze(site, &n.config)?,
            Node::Unsqueeze(n) => self.unsqueeze(site, &n.config)?,
            Node::Transpose(n) => self.transpose(site, &n.config.perm)?,
            other => return Err(format!("onnx-ir reads it as {:?}", other.node_type()).into()),
        };
        Ok(Known::Value(id))
    }
}
