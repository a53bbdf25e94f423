//! Limits of the reader: what keeps a hostile file from filling the memory or the afternoon.

/// Bytes of a model file, protobuf's own limit, and of a model with its external data.
pub const MAX_BYTES: u64 = 2 << 30;
/// Nodes that the outputs need.
pub const MAX_NODES: usize = 20_000;
/// Axes of a tensor.
pub const MAX_RANK: usize = 8;
/// Elements of one value.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// Numbers in all constants that the reader makes: converted, transposed, scaled, folded.
pub const MAX_NUMBERS: usize = 1 << 28;
/// Numbers of a constant that is joined, gathered or broadcast from others: in real models, shapes and biases.
pub const MAX_GROWN: usize = 1 << 24;
/// Strides, dilations, kernels, groups, pads.
pub const MAX_GEOMETRY: usize = 1 << 20;
/// Oldest operator set whose broadcasting is the one of today.
pub const LOWEST_OPSET: i64 = 7;
/// Newest operator set that `onnx-ir` knows.
pub const HIGHEST_OPSET: i64 = 24;
/// Bytes of memory that any file may take while it is read, beside a multiple of its own size.
pub const MEMORY: u64 = 512 << 20;

/// Most bytes of memory that reading a file of `bytes` bytes takes, external data included: [`MEMORY`] for what the
/// reader makes (folded constants, messages of the format), and 16 bytes for each byte of the file, of which the decoded
/// message, one-byte integers widened to 8 bytes, and the graph's constants are made.
pub const fn memory(bytes: u64) -> u64 {
    MEMORY + bytes.saturating_mul(16)
}
