//! Which converter takes which operator.

use fhe_ir::Func;
use onnx_ir::Node;

use super::{Converter, Known, Site, Stop};

impl Converter<'_> {
    /// Operators that read what the client computes; `None` for the others.
    pub(super) fn at_the_client(&mut self, site: &Site<'_>) -> Result<Option<Vec<Known>>, Stop> {
        let one = |known: Known| Ok(Some(vec![known]));
        match site.proto.op_type.as_str() {
            "Identity" | "ZipMap" => one(site.inputs.first().cloned().flatten().ok_or("its input is missing")?),
            "Dropout" => one(self.dropout(site)?),
            "Softmax" | "LogSoftmax" | "Hardmax" => one(self.normalized(site)?),
            "ArgMax" | "ArgMin" => one(self.arg_max(site)?),
            "TopK" => Ok(Some(self.top_k(site)?)),
            "Cast" => one(self.cast(site)?),
            "ArrayFeatureExtractor" => one(self.extract(site)?),
            "Normalizer" => one(self.normalizer(site)?),
            // Indices are a list in any shape.
            "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => match site.inputs.first() {
                Some(Some(known @ Known::Client(_, posts))) if posts.last().is_some_and(|p| p.gives_indices()) => {
                    one(known.clone())
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// Operators that are read from the file as they are; `None` for those that `onnx-ir` brings into one form.
    pub(super) fn direct(&mut self, site: &Site<'_>) -> Result<Option<Vec<Known>>, Stop> {
        let id = match site.proto.op_type.as_str() {
            "Split" => return self.split(site).map(Some),
            "LinearClassifier" => return self.linear_classifier(site).map(Some),
            "LinearRegressor" => return Ok(Some(vec![self.linear_regressor(site)?])),
            "Add" => self.add(site)?,
            "Sub" => self.sub(site)?,
            "Mul" => self.mul(site)?,
            "Div" => self.div(site)?,
            "Neg" => self.neg(site)?,
            "Pow" => self.pow(site)?,
            "Sum" => self.sum_of_all(site, false)?,
            "Mean" => self.sum_of_all(site, true)?,
            op @ ("Max" | "Min") => self.extreme(site, op == "Max")?,
            "Greater" => self.compare(site, Func::Positive, false)?,
            "GreaterOrEqual" => self.compare(site, Func::NonNegative, false)?,
            "Less" => self.compare(site, Func::Positive, true)?,
            "LessOrEqual" => self.compare(site, Func::NonNegative, true)?,
            "Equal" => self.compare(site, Func::IsZero, false)?,
            "Not" => self.not(site)?,
            op @ ("And" | "Or" | "Xor") => self.logic(site, op)?,
            "Where" => self.choose(site)?,
            "Gemm" => self.gemm(site)?,
            "MatMul" => self.matmul(site)?,
            "Conv" => self.conv(site)?,
            "ConvTranspose" => self.conv_transpose(site)?,
            "MaxPool" => self.max_pool(site)?,
            "AveragePool" => self.average_pool(site)?,
            "LpPool" => self.lp_pool(site, false)?,
            "GlobalLpPool" => self.lp_pool(site, true)?,
            "GlobalMaxPool" => self.global_pool(site, false)?,
            "GlobalAveragePool" => self.global_pool(site, true)?,
            "PRelu" => self.prelu(site)?,
            "Pad" => self.pad(site)?,
            "Concat" => self.concat(site)?,
            "Gather" => self.gather(site)?,
            "GatherElements" => self.gather_elements(site)?,
            "Mod" => self.remainder(site)?,
            "Shrink" => self.shrink(site)?,
            "Expand" => self.expand_to(site)?,
            "Tile" => self.tile(site)?,
            "Resize" | "Upsample" => self.resize(site)?,
            "DepthToSpace" => self.depth_to_space(site)?,
            "SpaceToDepth" => self.space_to_depth(site)?,
            "LRN" => self.lrn(site)?,
            "InstanceNormalization" => self.instance_norm(site)?,
            "GroupNormalization" => self.group_norm(site)?,
            "LayerNormalization" => self.layer_norm(site)?,
            op if op.starts_with("Reduce") => self.reduce(site)?,
            _ => return Ok(self.function(site)?.map(|id| vec![Known::Value(id)])),
        };
        Ok(Some(vec![Known::Value(id)]))
    }

    /// A node that `onnx-ir` has brought into one form for all operator sets.
    pub(super) fn configured(&mut self, site: &Site<'_>, config: Node) -> Result<Known, Stop> {
        let id = match config {
            Node::BatchNormalization(n) => self.batch_norm(site, &n.config)?,
            Node::Scaler(n) => self.scaler(site, &n.config)?,
            Node::Clip(n) => self.clip(site, &n.config)?,
            Node::Slice(n) => self.slice(site, &n.config)?,
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
