//! Protobuf as a tree: fields of messages in their order, enough of ONNX's schema to tell messages from strings.
//!
//! Any tree can be written, also those that no ONNX library would: that is the point.

/// What kind of message a field holds; names are those of `onnx.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ModelProto`
    Model,
    /// `OperatorSetIdProto`
    OperatorSet,
    /// `GraphProto`
    Graph,
    /// `NodeProto`
    Node,
    /// `AttributeProto`
    Attribute,
    /// `TensorProto`
    Tensor,
    /// `StringStringEntryProto`
    Entry,
    /// `ValueInfoProto`
    ValueInfo,
    /// `TypeProto`
    Type,
    /// `TypeProto.Tensor`
    TensorType,
    /// `TensorShapeProto`
    Shape,
    /// `TensorShapeProto.Dimension`
    Dim,
}

impl Kind {
    /// The kind of message in field `number`, if it holds one.
    fn field(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 8) => Self::OperatorSet,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::Node, 5) => Self::Attribute,
            (Self::Tensor, 13) | (Self::Model, 14) => Self::Entry,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Dim,
            _ => return None,
        })
    }
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Number of the field.
    pub number: u32,
    /// What it holds.
    pub value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64([u8; 8]),
    /// Wire type 5.
    Fixed32([u8; 4]),
    /// Wire type 2: a string, bytes or packed numbers.
    Bytes(Vec<u8>),
    /// Wire type 2: a message of the schema.
    Message(Message),
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// Its fields in the order of the file.
    pub fields: Vec<Field>,
}

impl Message {
    /// The message in `bytes`; `None` when they are none.
    pub fn parse(kind: Kind, mut bytes: &[u8]) -> Option<Self> {
        let mut fields = vec![];
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let number = u32::try_from(tag >> 3).ok()?;
            let value = match tag & 7 {
                0 => Value::Varint(varint(&mut bytes)?),
                1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
                5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let payload = take(&mut bytes, length)?;
                    match kind.field(number) {
                        Some(kind) => Value::Message(Self::parse(kind, payload)?),
                        None => Value::Bytes(payload.to_vec()),
                    }
                }
                _ => return None,
            };
            fields.push(Field { number, value });
        }
        Some(Self { kind, fields })
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![];
        for field in &self.fields {
            let tag = |wire: u64| u64::from(field.number) << 3 | wire;
            match &field.value {
                Value::Varint(n) => {
                    put(&mut out, tag(0));
                    put(&mut out, *n);
                }
                Value::Fixed64(b) => {
                    put(&mut out, tag(1));
                    out.extend(b);
                }
                Value::Fixed32(b) => {
                    put(&mut out, tag(5));
                    out.extend(b);
                }
                Value::Bytes(b) => {
                    put(&mut out, tag(2));
                    put(&mut out, b.len() as u64);
                    out.extend(b);
                }
                Value::Message(m) => {
                    let b = m.bytes();
                    put(&mut out, tag(2));
                    put(&mut out, b.len() as u64);
                    out.extend(b);
                }
            }
        }
        out
    }

    /// The message and those below it.
    pub fn count(&self) -> usize {
        1 + self.messages().map(Self::count).sum::<usize>()
    }

    /// The message at a place in the order of the file; 0 is this one.
    pub fn at(&mut self, mut place: usize) -> Option<&mut Self> {
        if place == 0 {
            return Some(self);
        }
        place -= 1;
        for field in &mut self.fields {
            if let Value::Message(m) = &mut field.value {
                let count = m.count();
                if place < count {
                    return m.at(place);
                }
                place -= count;
            }
        }
        None
    }

    /// Messages in its fields.
    pub fn messages(&self) -> impl Iterator<Item = &Self> {
        self.fields.iter().filter_map(|f| if let Value::Message(m) = &f.value { Some(m) } else { None })
    }

    /// Applies `f` to the message and all below it.
    pub fn visit(&self, f: &mut impl FnMut(&Self)) {
        f(self);
        self.messages().for_each(|m| m.visit(f));
    }
}

/// Takes a number of up to 64 bits off the front.
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_written_as_they_were_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let seeds = super::super::seeds(&folder).unwrap();
        assert!(seeds.len() > 20);
        for seed in seeds {
            let tree = Message::parse(Kind::Model, &seed.bytes).expect("a model");
            assert!(tree.bytes() == seed.bytes, "{}", seed.path.display());
            assert!(tree.count() > 4);
        }
    }

    #[test]
    fn places_run_through_all_messages() {
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/hazards/hz_conv_asym.onnx");
        let mut tree = Message::parse(Kind::Model, &std::fs::read(model).unwrap()).unwrap();
        let mut kinds = vec![];
        tree.visit(&mut |m| kinds.push(m.kind));
        let by_place: Vec<_> = (0..tree.count()).map(|i| tree.at(i).unwrap().kind).collect();
        assert_eq!(by_place, kinds);
        assert!(tree.at(kinds.len()).is_none());
    }
}
