//! Limits of the reader: what keeps a hostile file from filling the memory or the afternoon.

/// Bytes of a model file, protobuf's own limit, and of a model with its external data.
pub const MAX_BYTES: u64 = 2 << 30;
/// Nodes that the outputs need.
pub const MAX_NODES: usize = 20_000;
/// Axes of a tensor.
pub const MAX_RANK: usize = 8;
/// Elements of one value.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// Elements of all values: ResNet-152 on 224×224 pixels has 2^25.
pub const MAX_ELEMENTS_IN_ALL: usize = 1 << 30;
/// Products and comparisons of one evaluation: ResNet-152 on 224×224 pixels has 2^34.
pub const MAX_PRODUCTS: usize = 1 << 40;
/// Numbers in all constants that the reader makes: converted, transposed, scaled, folded. [`numbers`] is less for small
/// files.
pub const MAX_NUMBERS: usize = 1 << 28;
/// Numbers of constants that are looked through, as often as they are: one large constant may have many readers.
pub const MAX_SCANNED: usize = 1 << 30;
/// Numbers of a constant that is joined, gathered or broadcast from others: in real models, shapes and biases.
pub const MAX_GROWN: usize = 1 << 24;
/// Inputs, and outputs, of one node.
pub const MAX_PORTS: usize = 1024;
/// Entries of an attribute that configures a node: axes, pads, strides.
pub const MAX_ENTRIES: usize = 4096;
/// Strides, dilations, kernels, groups, pads.
pub const MAX_GEOMETRY: usize = 1 << 20;
/// Oldest operator set that is read: the first one with today's attributes, but for broadcasting.
pub const LOWEST_OPSET: i64 = 6;
/// Newest operator set that is read. From 25 on, operators of networks have changed in their element types only.
pub const HIGHEST_OPSET: i64 = 27;
/// Operator sets that `onnx-ir` knows.
pub(super) const KNOWN_OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// Most numbers in all constants that are made of a file of `bytes` bytes: four for each byte, and [`MAX_GROWN`] that a
/// file of any size may ask for.
pub const fn numbers(bytes: u64) -> usize {
    let by_size = bytes.saturating_mul(4).saturating_add(MAX_GROWN as u64);
    if by_size < MAX_NUMBERS as u64 { by_size as usize } else { MAX_NUMBERS }
}

/// Most bytes that decoding a file of `bytes` bytes may take: 256 MiB for messages, 16 for each byte of numbers.
pub const fn decoded(bytes: u64) -> u64 {
    (256 << 20) + bytes.saturating_mul(16)
}

/// Most bytes of memory that reading a file of `bytes` bytes (external data included) takes: what [`decoded`] and
/// [`numbers`] of 8 bytes allow, and the copy at hand.
pub const fn memory(bytes: u64) -> u64 {
    (768 << 20) + bytes.saturating_mul(64)
}
