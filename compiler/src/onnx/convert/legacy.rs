//! Operator set 6: operands broadcast by attributes. Today's operators broadcast from the last axis.

use super::super::attributes::Attributes;
use super::super::constant::into_shape;
use super::super::layout::axis;
use super::{Converter, Known, Site, Stop};

/// Operators whose second operand was laid over the first at an axis that an attribute named.
const BROADCAST: [&str; 11] = ["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"];

impl Converter<'_> {
    /// Gives a constant operand of a node of operator set 6 the axes that it has today.
    pub(super) fn legacy(&self, site: &mut Site<'_>) -> Result<(), Stop> {
        let node = site.proto;
        let op = node.op_type.as_str();
        if self.model.opset > 6 {
            return Ok(());
        }
        if op == "BatchNormalization" && node.int("is_test")?.unwrap_or(0) == 0 {
            return Err("it is in training mode: export the model after `model.eval()`".into());
        }
        let own = match site.inputs.first() {
            Some(Some(Known::Value(id))) => self.graph.value(*id).shape.len() - self.lead,
            Some(Some(Known::Const(data))) => data.shape().len(),
            _ => return Ok(()),
        };
        let at = match op {
            // One slope per channel, which is axis 1.
            "PRelu" => 1,
            _ if BROADCAST.contains(&op) && node.int("broadcast")? == Some(1) => match node.int("axis")? {
                Some(at) => axis(at, own.max(1))?,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        match site.inputs.get_mut(1) {
            Some(Some(Known::Const(data))) if data.len() > 1 => {
                let mut shape = data.shape().to_vec();
                shape.resize(own.saturating_sub(at).max(shape.len()), 1);
                *data = into_shape(data, &shape)?;
                Ok(())
            }
            Some(Some(Known::Value(id))) => {
                let rank = self.graph.value(*id).shape.len() - self.lead;
                if at + rank == own { Ok(()) } else { Err("it broadcasts an encrypted operand at an axis".into()) }
            }
            _ => Ok(()),
        }
    }
}
