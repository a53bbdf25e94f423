//! The terms of the e-graph: one node per tensor op, and what is known of each class.
//!
//! Two values are one class when they hold the same integers for every input and stand for the same real numbers:
//! scales are part of the term, intervals are knowledge about it.

use std::fmt;
use std::str::FromStr;

use egg::{Analysis, DidMerge, EGraph, Id, define_language};
use fhe_ir::Interval;

use super::function::Function;
use super::intern::Pool;

/// Defines an index into the [`Pool`] as a leaf of terms.
macro_rules! leaf {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(pub(super) u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let index = text.strip_prefix($prefix).and_then(|n| n.parse().ok());
                index.map(Self).ok_or_else(|| format!("{text} is not {}0, {}1, ...", $prefix, $prefix))
            }
        }
    };
}

leaf! {
    /// A [`Function`] of the pool.
    FunctionId, "f"
}
leaf! {
    /// A list of integers of the pool: one, or one per channel.
    ListId, "c"
}
leaf! {
    /// A list of scales of the pool: none, one, or one per channel.
    ScaleId, "s"
}
leaf! {
    /// An op of the pool that no rule looks into.
    OpId, "op"
}

define_language! {
    /// Ops on tensors. The result's scale is the last child of linear ops and a part of functions.
    pub(super) enum Term {
        // (map function operand)
        "map" = Map([Id; 2]),
        // (add-clear operand integers scale)
        "add-clear" = AddClear([Id; 3]),
        // (mul-clear operand integers scale)
        "mul-clear" = MulClear([Id; 3]),
        // (neg operand scale)
        "neg" = Neg([Id; 2]),
        Function(FunctionId),
        List(ListId),
        Scale(ScaleId),
        Op(OpId, Vec<Id>),
    }
}

impl Term {
    /// The tensors that the op reads.
    pub(super) fn operands(&self) -> &[Id] {
        match self {
            Self::Map([_, x]) => std::slice::from_ref(x),
            Self::AddClear([x, ..]) | Self::MulClear([x, ..]) => std::slice::from_ref(x),
            Self::Neg([x, _]) => std::slice::from_ref(x),
            Self::Op(_, operands) => operands,
            Self::Function(_) | Self::List(_) | Self::Scale(_) => &[],
        }
    }
}

/// What is known of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// Shape with the batch in front.
    pub(super) shape: Vec<usize>,
    /// Proven intervals, one or one per channel.
    pub(super) ranges: Option<Vec<Interval>>,
    /// Scale of one integer unit.
    pub(super) scale: ScaleId,
}

impl Tensor {
    pub(super) fn channels(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(1)
    }

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The proven interval of a channel.
    pub(super) fn range(&self, channel: usize) -> Option<Interval> {
        let ranges = self.ranges.as_deref()?;
        ranges.get(if ranges.len() == 1 { 0 } else { channel }).copied()
    }
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    Tensor(Tensor),
    Function(FunctionId),
    List(ListId),
    Scale(ScaleId),
}

/// E-graph of a network.
pub(super) type Graph = EGraph<Term, Pool>;

/// The tensor of a class.
///
/// # Panics
/// On the class of a leaf: rules bind operands by their place in a term.
pub(super) fn tensor(graph: &Graph, class: Id) -> &Tensor {
    match &graph[class].data {
        Fact::Tensor(tensor) => tensor,
        leaf => unreachable!("an operand is a tensor, not {leaf:?}"),
    }
}

/// The function of a class.
pub(super) fn function(graph: &Graph, class: Id) -> &Function {
    match &graph[class].data {
        Fact::Function(id) => graph.analysis.function(*id),
        other => unreachable!("the first child of a map is a function, not {other:?}"),
    }
}

/// The integers of a class.
pub(super) fn list(graph: &Graph, class: Id) -> &[i64] {
    match &graph[class].data {
        Fact::List(id) => graph.analysis.list(*id),
        other => unreachable!("a clear operand is a list, not {other:?}"),
    }
}

/// The scale of a class.
pub(super) fn scale(graph: &Graph, class: Id) -> ScaleId {
    match graph[class].data {
        Fact::Scale(id) => id,
        ref other => unreachable!("the last child of a linear op is a scale, not {other:?}"),
    }
}

impl Analysis<Term> for Pool {
    type Data = Fact;

    fn make(graph: &mut Graph, term: &Term, _id: Id) -> Fact {
        let entry = |list: &[i64], channel: usize| list[if list.len() == 1 { 0 } else { channel }];
        let each = |x: &Tensor, f: &dyn Fn(usize, Interval) -> Option<Interval>| {
            (0..x.channels()).map(|c| f(c, x.range(c)?)).collect::<Option<Vec<_>>>()
        };
        match term {
            Term::Function(id) => Fact::Function(*id),
            Term::List(id) => Fact::List(*id),
            Term::Scale(id) => Fact::Scale(*id),
            Term::Op(id, _) => Fact::Tensor(graph.analysis.op(*id).clone()),
            Term::Map([f, x]) => {
                let (f, x) = (function(graph, *f), tensor(graph, *x));
                Fact::Tensor(Tensor { shape: x.shape.clone(), ranges: Some(vec![f.to]), scale: f.scale })
            }
            Term::AddClear([x, c, s]) => {
                let (x, c, scale) = (tensor(graph, *x), list(graph, *c), scale(graph, *s));
                let ranges = each(x, &|channel, i| i.checked_add(Interval::point(entry(c, channel))));
                Fact::Tensor(Tensor { shape: x.shape.clone(), ranges, scale })
            }
            Term::MulClear([x, c, s]) => {
                let (x, c, scale) = (tensor(graph, *x), list(graph, *c), scale(graph, *s));
                let ranges = each(x, &|channel, i| i.checked_scale(entry(c, channel)));
                Fact::Tensor(Tensor { shape: x.shape.clone(), ranges, scale })
            }
            Term::Neg([x, s]) => {
                let (x, scale) = (tensor(graph, *x), scale(graph, *s));
                let ranges = each(x, &|_, i| i.checked_scale(-1));
                Fact::Tensor(Tensor { shape: x.shape.clone(), ranges, scale })
            }
        }
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        let (Fact::Tensor(a), Fact::Tensor(b)) = (a, b) else { return DidMerge(false, false) };
        // Both proofs hold: the class lies in the intersection.
        let both = match (&a.ranges, &b.ranges) {
            (Some(x), Some(y)) => {
                let at = |r: &[Interval], c: usize| r[if r.len() == 1 { 0 } else { c }];
                let meet = |c: usize| at(x, c).intersect(at(y, c)).unwrap_or(at(x, c));
                Some((0..x.len().max(y.len())).map(meet).collect())
            }
            (x, y) => x.clone().or_else(|| y.clone()),
        };
        let changed = DidMerge(both != a.ranges, both != b.ranges);
        a.ranges = both;
        changed
    }
}
