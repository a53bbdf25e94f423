//! Quantized operators of ONNX as what they stand for: numbers of codes, the real operator, codes of its result.

use onnx_ir::{AttributeProto, AttributeType, GraphProto, NodeProto, TensorProto};

use super::names::node_label;
use super::proto::{FLOAT, is_own_domain};

/// Puts `DequantizeLinear`, the real operator and `QuantizeLinear` in the place of each quantized operator. The steps
/// carry the node's name; their results are called after its own.
pub(super) fn expand(graph: &mut GraphProto) {
    let mut nodes = vec![];
    for node in std::mem::take(&mut graph.node) {
        let own = is_own_domain(&node.domain) && node.output.first().is_some_and(|o| !o.is_empty());
        match node.op_type.as_str() {
            "ConvInteger" | "MatMulInteger" | "QLinearConv" | "QLinearMatMul" if own => {
                let mut steps = Steps { label: node_label(&node).into(), node: &node, nodes: vec![], one: None };
                steps.expand();
                nodes.append(&mut steps.nodes);
                graph.initializer.extend(steps.one.take());
            }
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
}

/// The steps of one node.
struct Steps<'n> {
    label: String,
    node: &'n NodeProto,
    nodes: Vec<NodeProto>,
    /// The scale of operators without scales.
    one: Option<TensorProto>,
}

impl Steps<'_> {
    fn expand(&mut self) {
        let output = self.node.output[0].clone();
        let conv = self.node.op_type.ends_with("Conv") || self.node.op_type.starts_with("Conv");
        let op = if conv { "Conv" } else { "MatMul" };
        // One scale per output channel of weights, per row of the left matrix, per column of the right one.
        let axes = if conv { [1, 0] } else { [-2, -1] };
        let mut attributes = vec![];
        if conv {
            attributes.clone_from(&self.node.attribute);
        }
        if self.node.op_type.ends_with("Integer") {
            let one = self.made("one");
            self.one =
                Some(TensorProto { name: one.clone(), data_type: FLOAT, float_data: vec![1.0], ..Default::default() });
            let operands = [0, 1].map(|i| {
                let inputs = vec![self.input(i), one.clone(), self.input(i + 2)];
                self.push("DequantizeLinear", inputs, ["a", "b"][i], vec![axis(axes[i])])
            });
            self.last(op, operands.into(), output, attributes);
            return;
        }
        let mut operands: Vec<String> = [0, 1]
            .map(|i| {
                let inputs = (3 * i..3 * i + 3).map(|j| self.input(j)).collect();
                self.push("DequantizeLinear", inputs, ["a", "b"][i], vec![axis(axes[i])])
            })
            .into();
        let bias = self.input(8);
        if conv && !bias.is_empty() {
            let scale = self.push("Mul", vec![self.input(1), self.input(4)], "bias_scale", vec![]);
            operands.push(self.push("DequantizeLinear", vec![bias, scale], "bias", vec![axis(0)]));
        }
        let real = self.push(op, operands, "real", attributes);
        self.last("QuantizeLinear", vec![real, self.input(6), self.input(7)], output, vec![]);
    }

    /// Input `i` of the node; empty where it is left out.
    fn input(&self, i: usize) -> String {
        self.node.input.get(i).cloned().unwrap_or_default()
    }

    fn made(&self, part: &str) -> String {
        format!("{}/{part}", self.node.output[0])
    }

    fn push(&mut self, op: &str, inputs: Vec<String>, part: &str, attributes: Vec<AttributeProto>) -> String {
        let output = self.made(part);
        self.last(op, inputs, output.clone(), attributes);
        output
    }

    fn last(&mut self, op: &str, mut input: Vec<String>, output: String, attribute: Vec<AttributeProto>) {
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        self.nodes.push(NodeProto {
            name: self.label.clone(),
            op_type: op.into(),
            input,
            output: vec![output],
            attribute,
            ..Default::default()
        });
    }
}

fn axis(i: i64) -> AttributeProto {
    AttributeProto { name: "axis".into(), type_: AttributeType::INT.into(), i, ..Default::default() }
}
