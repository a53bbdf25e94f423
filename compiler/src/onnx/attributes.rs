//! Attributes of a node by name and type.

use onnx_ir::{AttributeProto, AttributeType, NodeProto, TensorProto};

/// Typed access; an attribute of another type is an error, an absent one is `None`.
pub(super) trait Attributes {
    /// The attribute of that name and type.
    fn typed(&self, name: &str, ty: AttributeType) -> Result<Option<&AttributeProto>, String>;

    /// An integer.
    fn int(&self, name: &str) -> Result<Option<i64>, String> {
        Ok(self.typed(name, AttributeType::INT)?.map(|a| a.i))
    }

    /// A real.
    fn float(&self, name: &str) -> Result<Option<f32>, String> {
        Ok(self.typed(name, AttributeType::FLOAT)?.map(|a| a.f))
    }

    /// A string.
    fn string(&self, name: &str) -> Result<Option<&str>, String> {
        let bytes = self.typed(name, AttributeType::STRING)?.map(|a| &a.s);
        bytes.map(|s| std::str::from_utf8(s).map_err(|_| format!("its attribute {name:?} is no text"))).transpose()
    }

    /// A list of integers.
    fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        Ok(self.typed(name, AttributeType::INTS)?.map(|a| a.ints.as_slice()))
    }

    /// A list of reals.
    fn floats(&self, name: &str) -> Result<Option<&[f32]>, String> {
        Ok(self.typed(name, AttributeType::FLOATS)?.map(|a| a.floats.as_slice()))
    }

    /// A tensor.
    fn tensor(&self, name: &str) -> Result<Option<&TensorProto>, String> {
        Ok(self.typed(name, AttributeType::TENSOR)?.and_then(|a| a.t.as_ref()))
    }
}

impl Attributes for NodeProto {
    fn typed(&self, name: &str, ty: AttributeType) -> Result<Option<&AttributeProto>, String> {
        match self.attribute.iter().find(|a| a.name == name) {
            Some(a) if a.type_.enum_value() == Ok(ty) => Ok(Some(a)),
            Some(_) => Err(format!("its attribute {name:?} has another type than {ty:?}")),
            None => Ok(None),
        }
    }
}
