//! Hand-made ONNX models for the reader's tests.

use fhe_compiler::onnx::{OnnxError, ReadOptions, read_bytes};
use fhe_ir::Graph;
use ndarray::{ArrayD, IxDyn};
use onnx_ir::{AttributeProto, AttributeType, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// A model under construction.
pub(crate) struct Builder {
    graph: GraphProto,
    opset: Option<i64>,
}

impl Builder {
    /// An empty model of an operator set.
    pub(crate) fn new(opset: i64) -> Self {
        Self { graph: GraphProto { name: "test".into(), ..Default::default() }, opset: Some(opset) }
    }

    /// Without an operator set.
    pub(crate) fn no_opset(mut self) -> Self {
        self.opset = None;
        self
    }

    /// A float input; extents are numbers or symbols.
    pub(crate) fn input(self, name: &str, dims: &[&str]) -> Self {
        self.input_of(name, 1, dims)
    }

    /// An input of an element type.
    pub(crate) fn input_of(mut self, name: &str, elem_type: i32, dims: &[&str]) -> Self {
        let mut info = ValueInfoProto { name: name.into(), ..Default::default() };
        let ty = info.type_.mut_or_insert_default().mut_tensor_type();
        ty.elem_type = elem_type;
        let shape = ty.shape.mut_or_insert_default();
        for dim in dims {
            shape.dim.push(Default::default());
            let last = shape.dim.last_mut().unwrap();
            match dim.parse::<i64>() {
                Ok(n) => last.set_dim_value(n),
                Err(_) if dim.is_empty() => {}
                Err(_) => last.set_dim_param((*dim).into()),
            }
        }
        self.graph.input.push(info);
        self
    }

    /// A float tensor.
    pub(crate) fn reals(mut self, name: &str, dims: &[i64], numbers: &[f32]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: 1,
            float_data: numbers.to_vec(),
            ..Default::default()
        });
        self
    }

    /// An integer tensor of one axis.
    pub(crate) fn ints(self, name: &str, numbers: &[i64]) -> Self {
        let dims = [numbers.len() as i64];
        self.tensor(TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: 7,
            int64_data: numbers.to_vec(),
            ..Default::default()
        })
    }

    /// Any tensor.
    pub(crate) fn tensor(mut self, tensor: TensorProto) -> Self {
        self.graph.initializer.push(tensor);
        self
    }

    /// A node without a name; `output` may list several, separated by commas.
    pub(crate) fn node(self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Self {
        self.named("", op, inputs, output, attributes)
    }

    /// A node; the operator may have its domain in front, `domain::Op`.
    pub(crate) fn named(
        mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> Self {
        let (domain, op_type) = op.rsplit_once("::").unwrap_or(("", op));
        self.graph.node.push(NodeProto {
            name: name.into(),
            domain: domain.into(),
            op_type: op_type.into(),
            input: inputs.iter().map(|s| (*s).into()).collect(),
            output: output.split(',').map(Into::into).collect(),
            attribute: attributes,
            ..Default::default()
        });
        self
    }

    /// An output.
    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph.output.push(ValueInfoProto { name: name.into(), ..Default::default() });
        self
    }

    /// The file.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut model = ModelProto { ir_version: 8, ..Default::default() };
        if let Some(version) = self.opset {
            model.opset_import.push(Default::default());
            model.opset_import[0].version = version;
        }
        model.graph = Some(self.graph).into();
        model.write_to_bytes().unwrap()
    }

    /// The graph.
    pub(crate) fn read(self) -> Result<Graph, OnnxError> {
        read_bytes("test", &self.bytes(), &ReadOptions::default())
    }

    /// Outputs of the graph (before what the client does) for one row per input.
    pub(crate) fn run(self, inputs: &[ArrayD<f32>]) -> Vec<ArrayD<f32>> {
        let graph = self.read().unwrap();
        fhe_ir::verify::verify(&graph).unwrap();
        fhe_ir::eval::float(&graph, inputs)
    }
}

/// An integer attribute.
pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), type_: AttributeType::INT.into(), i, ..Default::default() }
}

/// A real attribute.
pub(crate) fn real(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), type_: AttributeType::FLOAT.into(), f, ..Default::default() }
}

/// A list of integers.
pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), type_: AttributeType::INTS.into(), ints: ints.to_vec(), ..Default::default() }
}

/// A string.
pub(crate) fn string(name: &str, s: &'static str) -> AttributeProto {
    AttributeProto { name: name.into(), type_: AttributeType::STRING.into(), s: s.into(), ..Default::default() }
}

/// An array.
pub(crate) fn array(shape: &[usize], numbers: &[f32]) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), numbers.to_vec()).unwrap()
}

/// Keywords of the graph's ops, in order.
pub(crate) fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.values.iter().map(|v| v.op.keyword()).filter(|k| *k != "input").collect()
}
