//! Before a file is decoded: whether it is whole, and what it will take in memory.
//!
//! Two bytes of a file can ask for a message of hundreds of bytes. This walks over the file without building anything, and
//! counts what the decoder would build.

use std::mem::size_of;

use onnx_ir::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// Messages of `onnx.proto` that models are made of.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// Messages of a few scalars: dimensions, operator sets, pairs of strings.
    Leaf,
}

/// What a field holds.
enum Holds {
    Message(Kind),
    /// A message that no network needs: it is decoded all the same.
    Foreign,
    /// A string or numbers.
    Plain,
    /// Nothing of the format: the decoder keeps it in a map.
    Unknown,
}

impl Kind {
    fn field(self, number: u64) -> Holds {
        use Holds::{Foreign, Message, Plain};
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Message(Self::Graph),
            (Self::Graph, 1) => Message(Self::Node),
            (Self::Node, 5) => Message(Self::Attribute),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Message(Self::Tensor),
            (Self::Graph, 11..=13) => Message(Self::ValueInfo),
            (Self::ValueInfo, 2) | (Self::Attribute, 14 | 15) => Message(Self::Type),
            (Self::Type, 1) => Message(Self::TensorType),
            (Self::TensorType, 2) => Message(Self::Shape),
            (Self::Shape, 1)
            | (Self::Model, 8 | 14)
            | (Self::Graph, 16)
            | (Self::Node, 9)
            | (Self::Tensor, 13 | 16)
            | (Self::ValueInfo, 4) => Message(Self::Leaf),
            (Self::Model, 20 | 25 | 26)
            | (Self::Graph, 14 | 15)
            | (Self::Node, 10)
            | (Self::Attribute, 22 | 23)
            | (Self::Tensor, 3)
            | (Self::Type, 4 | 5 | 8 | 9) => Foreign,
            (Self::Model, 1..=6)
            | (Self::Graph, 2 | 10)
            | (Self::Node, 1..=4 | 6..=8)
            | (Self::Attribute, 1..=4 | 7..=9 | 13 | 20 | 21)
            | (Self::Tensor, 1 | 2 | 4..=12 | 14)
            | (Self::ValueInfo, 1 | 3)
            | (Self::Type, 6)
            | (Self::TensorType, 1)
            | (Self::Leaf, 1..=3) => Plain,
            _ => Holds::Unknown,
        }
    }

    /// Bytes of an empty one in a list that has just grown: half of the list is free.
    fn bytes(self) -> u64 {
        let size = match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::ValueInfo => size_of::<ValueInfoProto>(),
            Self::Type | Self::TensorType | Self::Shape | Self::Leaf => 128,
        };
        2 * size as u64
    }
}

/// A foreign message: as many empty ones as fit.
const BYTES_PER_FOREIGN_BYTE: u64 = 512;
/// An entry of the decoder's map of unknown fields, with its list.
const BYTES_PER_UNKNOWN_FIELD: u64 = 512;
/// An element of a list of strings or numbers, with what the list has left over.
const BYTES_PER_PLAIN_FIELD: u64 = 48;
/// One-byte numbers become eight bytes, in a list that has just grown.
const BYTES_PER_PLAIN_BYTE: u64 = 16;
/// Messages in one another that the decoder takes; it refuses what is deeper.
const MAX_DEPTH: usize = 100;

/// What a file is before it is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Most bytes that the decoder takes, file apart.
    pub(super) taken: u64,
    /// One of its own fields goes beyond its end. The decoder would accept a graph that is cut off between two of its
    /// parts, and leave out the rest.
    pub(super) cut_off: bool,
    /// It has groups, an old form of messages that ONNX never used and that hides what is in it.
    pub(super) groups: bool,
}

/// Walks over a model.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let whole = walk(bytes, Kind::Model, 0, &mut scan);
    // Field 1, a varint: every exporter writes the version of the format first. What begins otherwise is no model.
    scan.cut_off = whole.is_none() && bytes.first() == Some(&0x08);
    scan
}

/// `None` when a field goes beyond the end; the decoder stops there, too.
fn walk(mut bytes: &[u8], kind: Kind, depth: usize, scan: &mut Scan) -> Option<()> {
    scan.take(kind.bytes());
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let length = match tag & 7 {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut bytes),
            5 => Some(4),
            3 | 4 => {
                scan.groups = true;
                return Some(());
            }
            // No wire type: the decoder stops.
            _ => return Some(()),
        };
        let (payload, rest) = bytes.split_at_checked(usize::try_from(length?).ok()?)?;
        bytes = rest;
        let length = payload.len() as u64;
        match kind.field(tag >> 3) {
            Holds::Message(_) if depth == MAX_DEPTH => return Some(()),
            // What is cut off inside is for the decoder to say: it knows where each message ends.
            Holds::Message(kind) => {
                let _ = walk(payload, kind, depth + 1, scan);
            }
            Holds::Foreign => scan.take(length.saturating_mul(BYTES_PER_FOREIGN_BYTE)),
            Holds::Plain => scan.take(BYTES_PER_PLAIN_FIELD + length.saturating_mul(BYTES_PER_PLAIN_BYTE)),
            Holds::Unknown => scan.take(BYTES_PER_UNKNOWN_FIELD + length),
        }
    }
    Some(())
}

impl Scan {
    fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_end_in_a_field_are_cut_off() {
        // Version 8 of the format; then a graph of 2 bytes: an empty node.
        let model = [0x08, 0x08, 0x3a, 0x02, 0x0a, 0x00];
        assert!(!scan(&model).cut_off);
        for length in [1, 3, 4, 5] {
            assert!(scan(&model[..length]).cut_off, "{length} bytes");
        }
        assert!(!scan(&model[2..5]).cut_off, "it does not begin as a model does");
    }

    #[test]
    fn what_two_bytes_ask_for_is_counted() {
        let node = [0x0a, 0x00];
        let nodes = node.repeat(60);
        let mut model = vec![0x3a, 120];
        model.extend(nodes);
        let taken = scan(&model).taken;
        assert!(taken > 60 * size_of::<NodeProto>() as u64, "{taken}");
        // The same behind a graph that is cut off: the decoder has built it when it meets the end.
        model[1] = 127;
        model.extend([0x0a, 100, 0, 0, 0, 0, 0]);
        assert!(scan(&model).taken >= taken);
        let unknown = [0xf8, 0xff, 0x07, 0x00].repeat(10);
        assert!(scan(&unknown).taken > 10 * 256);
    }

    #[test]
    fn groups_and_depth_end_the_walk() {
        assert!(scan(&[0x08, 0x08, 0x0b, 0x0c]).groups);
        let mut deep = vec![];
        for _ in 0..10_000 {
            // A graph in an attribute in a node in a graph; lengths are wrong, as of a hostile file.
            deep.extend([0x3a, 0x7f, 0x0a, 0x7e, 0x2a, 0x7d, 0x32, 0x7c]);
        }
        let _ = scan(&deep);
    }
}
