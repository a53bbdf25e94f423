//! Operations: one op makes one value; operands are fields.

use crate::func::Func;
use crate::graph::{Const, Value};
use crate::id::Id;
use crate::params::Decomposition;
use crate::table::{Domain, Read, Table};

/// Strides, pads, dilations and groups of a two-dimensional convolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// `[vertical, horizontal]`.
    pub strides: [usize; 2],
    /// `[top, left, bottom, right]`, zeros.
    pub pads: [usize; 4],
    /// `[vertical, horizontal]`.
    pub dilations: [usize; 2],
    /// Number of groups: input and output channels are split evenly.
    pub groups: usize,
}

/// Window of a pooling op.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolGeometry {
    /// `[vertical, horizontal]`.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub strides: [usize; 2],
    /// `[top, left, bottom, right]`, zeros that count as elements.
    pub pads: [usize; 4],
}

impl PoolGeometry {
    /// Elements of the window.
    pub fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// What makes a value. Shapes carry the batch in front: `[1, channels, ...]`; channels are axis 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// An input of the network; in the circuit, its encryption.
    Input {
        /// Functions of a real number that the client applies before it quantizes and encrypts, first applied first.
        pre: Vec<Func>,
    },
    /// Dense layer: `[1, in] → [1, out]` with weights `[out, in]`.
    Dot {
        /// Operand.
        x: Id<Value>,
        /// Weights `[out, in]`.
        w: Id<Const>,
    },
    /// Convolution: `[1, in, h, w] → [1, out, h', w']` with weights `[out, in/groups, kh, kw]`.
    Conv {
        /// Operand.
        x: Id<Value>,
        /// Weights `[out, in/groups, kh, kw]`.
        w: Id<Const>,
        /// Strides, pads, dilations, groups.
        geometry: ConvGeometry,
    },
    /// Sum over windows, per channel.
    SumPool {
        /// Operand.
        x: Id<Value>,
        /// Window.
        geometry: PoolGeometry,
    },
    /// Mean over windows, per channel (float phases only: integers use [`Op::SumPool`] and a smaller scale).
    AvgPool {
        /// Operand.
        x: Id<Value>,
        /// Window.
        geometry: PoolGeometry,
    },
    /// Greatest of each window, per channel; places in the pads are left out (float phases only: `lower-max-pool`
    /// makes it of subtractions and maps).
    MaxPool {
        /// Operand.
        x: Id<Value>,
        /// Window.
        geometry: PoolGeometry,
    },
    /// `(x − mean)/√(var + epsilon)·scale + bias`, all per channel (float phases only).
    BatchNorm {
        /// Operand.
        x: Id<Value>,
        /// Factor per channel.
        scale: Id<Const>,
        /// Summand per channel.
        bias: Id<Const>,
        /// Running mean per channel.
        mean: Id<Const>,
        /// Running variance per channel.
        var: Id<Const>,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `x + c`, with `c` of one entry or one per channel.
    AddClear {
        /// Operand.
        x: Id<Value>,
        /// Constant `[1]` or `[channels]`.
        c: Id<Const>,
    },
    /// `x·c`, with `c` of one entry or one per channel.
    MulClear {
        /// Operand.
        x: Id<Value>,
        /// Constant `[1]` or `[channels]`.
        c: Id<Const>,
    },
    /// `a + b`, same shapes.
    Add {
        /// First operand.
        a: Id<Value>,
        /// Second operand.
        b: Id<Value>,
    },
    /// `a − b`, same shapes.
    Sub {
        /// First operand.
        a: Id<Value>,
        /// Second operand.
        b: Id<Value>,
    },
    /// `a·b`, same shapes (float phases only: `lower-products` makes it of sums and squares).
    Mul {
        /// First operand.
        a: Id<Value>,
        /// Second operand.
        b: Id<Value>,
    },
    /// `−x`.
    Neg {
        /// Operand.
        x: Id<Value>,
    },
    /// The operands behind one another along an axis; their other extents are the same.
    Concat {
        /// Operands, at least one.
        xs: Vec<Id<Value>>,
        /// Axis, not the batch.
        axis: usize,
    },
    /// Slices of an axis in any order, each as often as it is named: slice `i` of the result is slice `indices[i]`.
    Gather {
        /// Operand.
        x: Id<Value>,
        /// Axis, not the batch.
        axis: usize,
        /// Indices along the axis, at least one.
        indices: Vec<usize>,
    },
    /// Every `steps`-th element from `starts`, per axis; the extent is the result's shape.
    Slice {
        /// Operand.
        x: Id<Value>,
        /// First index per axis (0 on the batch axis).
        starts: Vec<usize>,
        /// Step per axis, at least 1.
        steps: Vec<usize>,
    },
    /// Zeros around the operand, per axis.
    Pad {
        /// Operand.
        x: Id<Value>,
        /// Zeros in front, per axis (0 on the batch axis).
        before: Vec<usize>,
        /// Zeros behind, per axis (0 on the batch axis).
        after: Vec<usize>,
    },
    /// The same elements in the result's shape, row-major.
    Reshape {
        /// Operand.
        x: Id<Value>,
    },
    /// Axis `i` of the result is axis `perm[i]` of the operand; the batch stays in front.
    Transpose {
        /// Operand.
        x: Id<Value>,
        /// Permutation.
        perm: Vec<usize>,
    },
    /// A chain of real functions per element. In integer phases the operand's scale turns `x + shift` into a real
    /// number first, and the result's scale and type quantize the end: `clamp(round(f(s_x·(x + shift))/s))`.
    Map {
        /// Operand.
        x: Id<Value>,
        /// Integers added first, `[1]` or `[channels]` (integer phases only).
        shift: Option<Id<Const>>,
        /// Functions, first applied first.
        chain: Vec<Func>,
        /// Integers its table will be built for and how finely it will read them (set by `round-accumulators`).
        resolution: Option<(Domain, Read)>,
    },
    /// A lookup table per element.
    Lut {
        /// Operand.
        x: Id<Value>,
        /// Entries.
        table: Id<Table>,
        /// Integers the table is built for.
        domain: Domain,
        /// Resolution.
        read: Read,
    },
    /// From the operand's key to the one that the cipher names (circuit only): a small key in front of tables, another
    /// big one as a conversion.
    Keyswitch {
        /// Operand, under a big key.
        x: Id<Value>,
        /// Decomposition of the keyswitch key.
        ks: Decomposition,
    },
    /// Centred modulus switch to `2N`, blind rotation with the table, sample extraction (circuit only): all by the
    /// parameter set that the cipher names.
    Pbs {
        /// Operand, under a small key of the set's dimension.
        x: Id<Value>,
        /// Entries.
        table: Id<Table>,
        /// Integers the table is built for.
        domain: Domain,
        /// Resolution.
        read: Read,
        /// log2 of the noise (on the torus) that still reads the right box; `None` for [`Read::Full`], which has none.
        log2_bound: Option<f32>,
        /// log2 of the predicted probability, per element, that the noise is greater; there with the bound.
        log2_fail: Option<f32>,
    },
}

impl Op {
    /// Keyword in the text form.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Dot { .. } => "dot",
            Self::Conv { .. } => "conv",
            Self::SumPool { .. } => "sum-pool",
            Self::AvgPool { .. } => "avg-pool",
            Self::MaxPool { .. } => "max-pool",
            Self::BatchNorm { .. } => "batch-norm",
            Self::AddClear { .. } => "add-clear",
            Self::MulClear { .. } => "mul-clear",
            Self::Add { .. } => "add",
            Self::Sub { .. } => "sub",
            Self::Mul { .. } => "mul",
            Self::Neg { .. } => "neg",
            Self::Concat { .. } => "concat",
            Self::Gather { .. } => "gather",
            Self::Slice { .. } => "slice",
            Self::Pad { .. } => "pad",
            Self::Reshape { .. } => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::Map { .. } => "map",
            Self::Lut { .. } => "lut",
            Self::Keyswitch { .. } => "keyswitch",
            Self::Pbs { .. } => "pbs",
        }
    }

    /// Values the op reads, in order.
    pub fn operands(&self) -> Vec<Id<Value>> {
        match self {
            Self::Input { .. } => vec![],
            Self::Add { a, b } | Self::Sub { a, b } | Self::Mul { a, b } => vec![*a, *b],
            Self::Concat { xs, .. } => xs.clone(),
            Self::Dot { x, .. }
            | Self::Conv { x, .. }
            | Self::SumPool { x, .. }
            | Self::AvgPool { x, .. }
            | Self::MaxPool { x, .. }
            | Self::BatchNorm { x, .. }
            | Self::AddClear { x, .. }
            | Self::MulClear { x, .. }
            | Self::Neg { x }
            | Self::Gather { x, .. }
            | Self::Slice { x, .. }
            | Self::Pad { x, .. }
            | Self::Reshape { x }
            | Self::Transpose { x, .. }
            | Self::Map { x, .. }
            | Self::Lut { x, .. }
            | Self::Keyswitch { x, .. }
            | Self::Pbs { x, .. } => vec![*x],
        }
    }

    /// The same op with its operands replaced.
    pub fn with_operands(mut self, mut f: impl FnMut(Id<Value>) -> Id<Value>) -> Self {
        match &mut self {
            Self::Input { .. } => {}
            Self::Add { a, b } | Self::Sub { a, b } | Self::Mul { a, b } => {
                *a = f(*a);
                *b = f(*b);
            }
            Self::Concat { xs, .. } => xs.iter_mut().for_each(|x| *x = f(*x)),
            Self::Dot { x, .. }
            | Self::Conv { x, .. }
            | Self::SumPool { x, .. }
            | Self::AvgPool { x, .. }
            | Self::MaxPool { x, .. }
            | Self::BatchNorm { x, .. }
            | Self::AddClear { x, .. }
            | Self::MulClear { x, .. }
            | Self::Neg { x }
            | Self::Gather { x, .. }
            | Self::Slice { x, .. }
            | Self::Pad { x, .. }
            | Self::Reshape { x }
            | Self::Transpose { x, .. }
            | Self::Map { x, .. }
            | Self::Lut { x, .. }
            | Self::Keyswitch { x, .. }
            | Self::Pbs { x, .. } => *x = f(*x),
        }
        self
    }

    /// Constants the op reads, in order.
    pub fn constants(&self) -> Vec<Id<Const>> {
        match self {
            Self::Dot { w, .. } | Self::Conv { w, .. } => vec![*w],
            Self::BatchNorm { scale, bias, mean, var, .. } => vec![*scale, *bias, *mean, *var],
            Self::AddClear { c, .. } | Self::MulClear { c, .. } => vec![*c],
            Self::Map { shift, chain, .. } => {
                shift.iter().copied().chain(chain.iter().filter_map(Func::constant)).collect()
            }
            Self::Input { pre } => pre.iter().filter_map(Func::constant).collect(),
            Self::SumPool { .. }
            | Self::AvgPool { .. }
            | Self::MaxPool { .. }
            | Self::Add { .. }
            | Self::Sub { .. }
            | Self::Mul { .. }
            | Self::Neg { .. }
            | Self::Concat { .. }
            | Self::Gather { .. }
            | Self::Slice { .. }
            | Self::Pad { .. }
            | Self::Reshape { .. }
            | Self::Transpose { .. }
            | Self::Lut { .. }
            | Self::Keyswitch { .. }
            | Self::Pbs { .. } => vec![],
        }
    }

    /// The same op with its constants replaced.
    pub fn with_constants(mut self, mut f: impl FnMut(Id<Const>) -> Id<Const>) -> Self {
        match &mut self {
            Self::Dot { w, .. } | Self::Conv { w, .. } => *w = f(*w),
            Self::BatchNorm { scale, bias, mean, var, .. } => {
                for c in [scale, bias, mean, var] {
                    *c = f(*c);
                }
            }
            Self::AddClear { c, .. } | Self::MulClear { c, .. } => *c = f(*c),
            Self::Map { shift, chain, .. } => {
                if let Some(c) = shift {
                    *c = f(*c);
                }
                for link in chain {
                    link.replace_constant(&mut f);
                }
            }
            Self::Input { pre } => pre.iter_mut().for_each(|link| link.replace_constant(&mut f)),
            Self::SumPool { .. }
            | Self::AvgPool { .. }
            | Self::MaxPool { .. }
            | Self::Add { .. }
            | Self::Sub { .. }
            | Self::Mul { .. }
            | Self::Neg { .. }
            | Self::Concat { .. }
            | Self::Gather { .. }
            | Self::Slice { .. }
            | Self::Pad { .. }
            | Self::Reshape { .. }
            | Self::Transpose { .. }
            | Self::Lut { .. }
            | Self::Keyswitch { .. }
            | Self::Pbs { .. } => {}
        }
        self
    }

    /// The table the op reads.
    pub fn table(&self) -> Option<Id<Table>> {
        match self {
            Self::Lut { table, .. } | Self::Pbs { table, .. } => Some(*table),
            _ => None,
        }
    }

    /// Whether the result is a linear function of encrypted operands: free of bootstraps, and its noise is the
    /// operands' noise through the same function.
    pub fn is_linear(&self) -> bool {
        match self {
            Self::Dot { .. }
            | Self::Conv { .. }
            | Self::SumPool { .. }
            | Self::AvgPool { .. }
            | Self::BatchNorm { .. }
            | Self::AddClear { .. }
            | Self::MulClear { .. }
            | Self::Add { .. }
            | Self::Sub { .. }
            | Self::Neg { .. }
            | Self::Concat { .. }
            | Self::Gather { .. }
            | Self::Slice { .. }
            | Self::Pad { .. }
            | Self::Reshape { .. }
            | Self::Transpose { .. } => true,
            Self::Input { .. }
            | Self::MaxPool { .. }
            | Self::Mul { .. }
            | Self::Map { .. }
            | Self::Lut { .. }
            | Self::Keyswitch { .. }
            | Self::Pbs { .. } => false,
        }
    }
}
