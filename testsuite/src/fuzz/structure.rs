//! Changes to a model as a tree of messages: what bit flips seldom reach.

use super::Random;
use super::wire::{Field, Kind, Message, Value, put};

/// Whole numbers at which arithmetic breaks.
const EXTREMES: [i64; 20] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    -2,
    127,
    1 << 16,
    (1 << 20) + 1,
    (1 << 28) - 1,
    1 << 28,
    1 << 31,
    -(1 << 31),
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

/// Reals likewise.
const REALS: [f32; 12] =
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

/// Operators that seeds may not have.
const OPERATORS: [&str; 60] = [
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "If",
    "Identity",
    "LeakyRelu",
    "Loop",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Scaler",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sum",
    "TopK",
    "Transpose",
    "Unsqueeze",
];

/// Names of attributes that seeds may not have.
const ATTRIBUTES: [&str; 24] = [
    "alpha",
    "axes",
    "axis",
    "auto_pad",
    "beta",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "end",
    "ends",
    "epsilon",
    "group",
    "keepdims",
    "kernel_shape",
    "num_outputs",
    "output_shape",
    "pads",
    "perm",
    "start",
    "starts",
    "strides",
    "to",
    "transB",
    "value",
];

/// Odd names of values.
const NAMES: [&str; 8] = ["", "/", "%x", "a b\n", "\u{feff}ü", "x.2", "..", "\0"];

/// Parts of all seeds that replace others.
pub(super) struct Pool {
    /// Messages below the graphs, some of each seed.
    messages: Vec<Message>,
}

impl Pool {
    /// Of the seeds' trees; large tensors are left out.
    pub(super) fn of(trees: &[Message]) -> Self {
        let mut messages = vec![];
        for tree in trees {
            tree.visit(&mut |m| {
                let small = matches!(m.kind, Kind::Node | Kind::Attribute | Kind::ValueInfo)
                    || (m.kind == Kind::Tensor && m.bytes().len() < 512);
                if small && messages.len() < 20_000 {
                    messages.push(m.clone());
                }
            });
        }
        Self { messages }
    }

    fn pick(&self, kind: Kind, random: &mut Random) -> Option<Message> {
        (0..16).find_map(|_| random.pick(&self.messages).filter(|m| m.kind == kind).cloned())
    }
}

/// One change somewhere in the model; what was done.
pub(super) fn mutate(model: &mut Message, pool: &Pool, random: &mut Random) -> String {
    let names = names(model);
    let count = model.count();
    let Some(message) = model.at(random.below(count)) else { return "nothing".into() };
    let kind = message.kind;
    let at = random.below(message.fields.len());
    let step = match random.below(12) {
        0 => {
            let to = random.below(message.fields.len());
            if at < message.fields.len() {
                message.fields.swap(at, to);
            }
            "swap fields".into()
        }
        1 => {
            if let Some(field) = message.fields.get(at).cloned() {
                message.fields.insert(at, field);
            }
            "field twice".into()
        }
        2 => {
            if at < message.fields.len() {
                message.fields.remove(at);
            }
            "drop field".into()
        }
        3 => {
            let new = (0..8).find_map(|_| pool.pick(kind, random));
            if let Some(new) = new {
                *message = new;
            }
            "another message".into()
        }
        4 => {
            if let Some(field) = message.fields.get_mut(at) {
                field.number =
                    [field.number + 1, field.number.saturating_sub(1).max(1), 5, 20, 536_870_911][random.below(5)];
            }
            "field number".into()
        }
        5 => add(message, &names, random),
        6 => nest(message, random),
        _ => match message.fields.get_mut(at) {
            Some(field) => change(kind, field, &names, random),
            None => "nothing".into(),
        },
    };
    format!("{kind:?} {step}")
}

/// Names of values in the model.
fn names(model: &Message) -> Vec<Vec<u8>> {
    let mut found = vec![];
    model.visit(&mut |m| {
        for field in &m.fields {
            let named =
                matches!((m.kind, field.number), (Kind::Node, 1 | 2) | (Kind::Tensor, 8) | (Kind::ValueInfo, 1));
            if let (true, Value::Bytes(name)) = (named, &field.value) {
                found.push(name.clone());
            }
        }
    });
    found
}

fn name(names: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => NAMES[random.below(NAMES.len())].as_bytes().to_vec(),
        1 => b"n".repeat(1 << random.below(12)),
        2 => vec![0xff, 0xfe],
        _ => random.pick(names).cloned().unwrap_or_default(),
    }
}

/// Changes what one field holds.
fn change(kind: Kind, field: &mut Field, names: &[Vec<u8>], random: &mut Random) -> String {
    let extreme = EXTREMES[random.below(EXTREMES.len())];
    match &mut field.value {
        Value::Varint(n) => {
            *n = match random.below(4) {
                0 => n.wrapping_add(1),
                1 => n.wrapping_sub(1),
                2 => random.below(32) as u64,
                _ => extreme as u64,
            };
            format!("number {} = {}", field.number, *n as i64)
        }
        Value::Fixed32(b) => {
            let real = REALS[random.below(REALS.len())];
            *b = real.to_le_bytes();
            format!("real {} = {real}", field.number)
        }
        Value::Fixed64(b) => {
            *b = random.bits().to_le_bytes();
            format!("real {}", field.number)
        }
        Value::Message(m) => {
            let at = random.below(m.fields.len());
            match m.fields.get_mut(at) {
                Some(below) => change(m.kind, below, names, random),
                None => "nothing".into(),
            }
        }
        Value::Bytes(b) => match (kind, field.number) {
            (Kind::Node, 4) => {
                let op = OPERATORS[random.below(OPERATORS.len())];
                *b = op.as_bytes().to_vec();
                format!("operator {op}")
            }
            (Kind::Node, 1 | 2) | (Kind::Tensor, 8) | (Kind::ValueInfo, 1) => {
                *b = name(names, random);
                "another name".into()
            }
            (Kind::Attribute, 1) => {
                let name = ATTRIBUTES[random.below(ATTRIBUTES.len())];
                *b = name.as_bytes().to_vec();
                format!("attribute {name}")
            }
            _ if random.below(3) > 0 => numbers(b, random),
            _ => {
                let length = random.below(2 * b.len() + 2);
                b.resize(length, 0x3f);
                format!("bytes {} are {length}", field.number)
            }
        },
    }
}

/// Puts extreme numbers into bytes: reals, or packed integers.
fn numbers(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    if bytes.len() >= 4 && random.below(2) == 0 {
        let real = REALS[random.below(REALS.len())];
        let at = random.below(bytes.len() / 4) * 4;
        bytes[at..at + 4].copy_from_slice(&real.to_le_bytes());
        return format!("{real} among its numbers");
    }
    let count = random.below(6);
    bytes.clear();
    for _ in 0..count {
        put(bytes, EXTREMES[random.below(EXTREMES.len())] as u64);
    }
    format!("{count} packed numbers")
}

/// Adds a field: an operand, an extent, an attribute, an operator set.
fn add(message: &mut Message, names: &[Vec<u8>], random: &mut Random) -> String {
    let extreme = EXTREMES[random.below(EXTREMES.len())] as u64;
    let text = |number, text: &[u8]| Field { number, value: Value::Bytes(text.to_vec()) };
    let whole = |number, n| Field { number, value: Value::Varint(n) };
    let below = |number, kind, fields| Field { number, value: Value::Message(Message { kind, fields }) };
    let field = match message.kind {
        Kind::Node if random.below(2) == 0 => text(1 + random.below(2) as u32, &name(names, random)),
        Kind::Node => {
            let label = text(1, ATTRIBUTES[random.below(ATTRIBUTES.len())].as_bytes());
            let fields = match random.below(3) {
                0 => vec![label, whole(20, 2), whole(3, extreme)],
                1 => vec![label, whole(20, 7), whole(8, extreme), whole(8, random.below(4) as u64)],
                _ => vec![label, whole(20, random.below(16) as u64)],
            };
            below(5, Kind::Attribute, fields)
        }
        Kind::Tensor => whole(1, extreme),
        Kind::Shape => below(1, Kind::Dim, vec![whole(1, extreme)]),
        Kind::Model => below(8, Kind::OperatorSet, vec![whole(2, random.below(32) as u64)]),
        Kind::Graph if random.below(2) == 0 => {
            let node = vec![
                text(1, &name(names, random)),
                text(1, &name(names, random)),
                text(2, &name(names, random)),
                text(4, OPERATORS[random.below(OPERATORS.len())].as_bytes()),
            ];
            below(1, Kind::Node, node)
        }
        Kind::Graph => below(12, Kind::ValueInfo, vec![text(1, &name(names, random))]),
        _ => whole(1 + random.below(30) as u32, extreme),
    };
    let at = random.below(message.fields.len() + 1);
    message.fields.insert(at, field);
    "new field".into()
}

/// Puts graphs in attributes of nodes in graphs, up to beyond the depth that a decoder takes.
fn nest(message: &mut Message, random: &mut Random) -> String {
    let depth = [1, 3, 30, 200][random.below(4)];
    let mut inner = Message { kind: Kind::Graph, fields: vec![] };
    for _ in 0..depth {
        for (kind, number) in [(Kind::Attribute, 6), (Kind::Node, 5), (Kind::Graph, 1)] {
            inner = Message { kind, fields: vec![Field { number, value: Value::Message(inner) }] };
        }
    }
    let number = match message.kind {
        Kind::Model => 7,
        Kind::Attribute => 6,
        _ => 1,
    };
    message.fields.push(Field { number, value: Value::Message(inner) });
    format!("{depth} graphs in one another")
}
