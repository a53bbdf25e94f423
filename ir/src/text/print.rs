//! The printer: a graph as text, long lists in a sidecar.
//!
//! Printing never panics: an id that leads nowhere shows as `?7`, which does not parse.

use super::lex::{is_bare_name, is_bare_word, quote};
use super::{INLINE, Sidecar, VERSION};
use crate::func::Func;
use crate::graph::{Cipher, Const, Data, Elem, Facts, Graph, Key, Origin, Output, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::keys::{Planned, PlannedTable};
use crate::op::{ConvGeometry, Op, PoolGeometry};
use crate::params::{Decomposition, ParamSet};
use crate::table::{Domain, Table};

/// A graph as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Printed {
    /// The listing.
    pub text: String,
    /// The lists that the listing names by digest.
    pub sidecar: Sidecar,
}

/// The text of a graph, with the lists it names by digest.
pub fn print(graph: &Graph) -> Printed {
    let mut printer = Printer::new(graph);
    let text = printer.graph();
    Printed { text, sidecar: printer.sidecar }
}

/// The text of a graph.
pub fn to_text(graph: &Graph) -> String {
    print(graph).text
}

/// The line of one value, without heading or indent.
pub fn value_line(graph: &Graph, id: Id<Value>) -> String {
    Printer::new(graph).value(graph.value(id))
}

/// A real number in the shortest form that parses back to the same f32.
pub fn real(x: f32) -> String {
    let size = x.abs();
    if size == 0.0 || !size.is_finite() || (1e-4..1e9).contains(&size) { format!("{x}") } else { format!("{x:e}") }
}

/// The heading over values of an origin.
pub(super) fn heading(graph: &Graph, origin: Option<Id<Origin>>) -> String {
    format!("from {}", origin.map_or("-".into(), |o| origin_of(graph, o)))
}

/// Origins in the order in which the text of the values mentions them.
pub(super) fn mentioned_origins(graph: &Graph) -> Vec<Id<Origin>> {
    let mut seen = vec![false; graph.origins.len()];
    let mut order = vec![];
    for origin in graph.values.iter().flat_map(|v| &v.from) {
        if let Some(seen) = seen.get_mut(origin.index())
            && !std::mem::replace(seen, true)
        {
            order.push(*origin);
        }
    }
    order
}

struct Printer<'g> {
    graph: &'g Graph,
    sidecar: Sidecar,
}

impl<'g> Printer<'g> {
    fn new(graph: &'g Graph) -> Self {
        Self { graph, sidecar: Sidecar::new() }
    }

    fn graph(&mut self) -> String {
        let Graph { name, phase, values, outputs, consts, tables, params, origins } = self.graph;
        let mut out = format!("eir {VERSION} {phase}\ngraph {}\n", word(name));
        for (i, set) in params.iter().enumerate() {
            out += &format!("params !p{i} = {}\n", params_of(set));
        }
        // Headings alone restore the arena of origins when it is in the order of mention.
        if !mentioned_origins(self.graph).iter().map(|o| o.index()).eq(0..origins.len()) {
            for i in 0..origins.len() {
                out += &format!("origin {}\n", origin_of(self.graph, Id::new(i)));
            }
        }
        let (mut origin, mut indent) = (None, "");
        for (i, value) in values.iter().enumerate() {
            if i == 0 {
                out.push('\n');
            }
            if value.from.first().copied() != origin {
                origin = value.from.first().copied();
                indent = "  ";
                out += &format!("{}\n", heading(self.graph, origin));
            }
            out += &format!("{indent}{}\n", self.value(value));
        }
        for output in outputs {
            out += &format!("{}\n", self.output(output));
        }
        if !consts.is_empty() || !tables.is_empty() {
            out.push('\n');
        }
        for constant in consts {
            out += &format!("{}\n", self.constant(constant));
        }
        for table in tables {
            out += &format!("{}\n", self.table(table));
        }
        out
    }

    fn value(&mut self, value: &Value) -> String {
        let Value { name, shape, elem, op, facts, cipher, from } = value;
        let elem_text = match elem {
            Elem::F32 => "f32".into(),
            Elem::Int(interval) => interval.to_string(),
            Elem::IntUnknown => "int".into(),
        };
        let mut out = format!("%{}: {elem_text}{} = {}", bare(name), dims(shape), self.op(op));
        let facts = self.facts(facts, *elem, cipher.as_ref(), from.get(1..).unwrap_or_default());
        if !facts.is_empty() {
            out += &format!(" ; {}", facts.join(" "));
        }
        out
    }

    fn facts(
        &mut self,
        facts: &Facts,
        elem: Elem,
        cipher: Option<&Cipher>,
        further_origins: &[Id<Origin>],
    ) -> Vec<String> {
        let Facts { scale, seen, range, planned } = facts;
        let mut out = vec![];
        if let Some(scale) = scale {
            out.push(format!("scale={}", self.real_list(scale, real)));
        }
        if let Some(seen) = seen {
            out.push(format!("seen={}", self.seen(seen)));
        }
        if let Some(range) = range {
            out.push(format!("range={}", self.intervals(range)));
        }
        if let Elem::Int(interval) = elem {
            out.push(format!("bits={:.2}", interval.bits()));
        }
        if let Some(Planned { home, table }) = planned {
            out.push(format!("home={}", self.set_name(*home)));
            if let Some(PlannedTable { set, ks, conversion }) = table {
                out.push(format!("set={} ks={ks}", self.set_name(*set)));
                out.extend(conversion.map(|ks| format!("convert={ks}")));
            }
        }
        if let Some(Cipher { params, key, span, log2_sd }) = cipher {
            let key = match key {
                Key::Big => "big",
                Key::Small => "small",
            };
            let sd = self.real_list(log2_sd, sd);
            out.push(format!("{}.{key} span={span} sd={sd}", self.set_name(*params)));
        }
        if !further_origins.is_empty() {
            let names: Vec<_> = further_origins.iter().map(|o| origin_of(self.graph, *o)).collect();
            out.push(format!("also {}", names.join(" ")));
        }
        out
    }

    fn op(&mut self, op: &Op) -> String {
        let keyword = op.keyword();
        match op {
            Op::Input { pre } => format!("{keyword}{}", self.chain(pre)),
            Op::Dot { x, w } => format!("{keyword} {}, {}", self.name(*x), self.const_name(*w)),
            Op::Conv { x, w, geometry: ConvGeometry { strides, pads, dilations, groups } } => fields(
                format!("{keyword} {}, {}", self.name(*x), self.const_name(*w)),
                [
                    (*strides != [1; 2]).then(|| format!("strides={}", dims(strides))),
                    (*pads != [0; 4]).then(|| format!("pads={}", dims(pads))),
                    (*dilations != [1; 2]).then(|| format!("dilations={}", dims(dilations))),
                    (*groups != 1).then(|| format!("groups={groups}")),
                ],
            ),
            Op::SumPool { x, geometry } | Op::AvgPool { x, geometry } | Op::MaxPool { x, geometry } => {
                let PoolGeometry { kernel, strides, pads } = geometry;
                fields(
                    format!("{keyword} {}", self.name(*x)),
                    [
                        Some(format!("kernel={}", dims(kernel))),
                        (*strides != [1; 2]).then(|| format!("strides={}", dims(strides))),
                        (*pads != [0; 4]).then(|| format!("pads={}", dims(pads))),
                    ],
                )
            }
            Op::BatchNorm { x, scale, bias, mean, var, epsilon } => format!(
                "{keyword} {}, scale={}, bias={}, mean={}, var={}, epsilon={}",
                self.name(*x),
                self.const_name(*scale),
                self.const_name(*bias),
                self.const_name(*mean),
                self.const_name(*var),
                real(*epsilon)
            ),
            Op::AddClear { x, c } | Op::MulClear { x, c } => {
                format!("{keyword} {}, {}", self.name(*x), self.const_name(*c))
            }
            Op::Add { a, b } | Op::Sub { a, b } | Op::Mul { a, b } => {
                format!("{keyword} {}, {}", self.name(*a), self.name(*b))
            }
            Op::Neg { x } | Op::Reshape { x } => format!("{keyword} {}", self.name(*x)),
            Op::Keyswitch { x, ks } => format!("{keyword} {}, ks={ks}", self.name(*x)),
            Op::Concat { xs, axis } => {
                let names: Vec<_> = xs.iter().map(|x| self.name(*x)).collect();
                format!("{keyword} {}, axis={axis}", names.join(", "))
            }
            Op::Gather { x, axis, indices } => {
                format!("{keyword} {}, axis={axis} indices={}", self.name(*x), self.indices(indices))
            }
            Op::Slice { x, starts, steps } => {
                format!("{keyword} {}, starts={} steps={}", self.name(*x), dims(starts), dims(steps))
            }
            Op::Pad { x, before, after } => {
                format!("{keyword} {}, before={} after={}", self.name(*x), dims(before), dims(after))
            }
            Op::Transpose { x, perm } => format!("{keyword} {}, perm={}", self.name(*x), dims(perm)),
            Op::Map { x, shift, chain, resolution } => {
                let mut out = format!("{keyword} {}", self.name(*x));
                if let Some(c) = shift {
                    out += &format!(", shift={}", self.const_name(*c));
                }
                if let Some((domain, read)) = resolution {
                    out += &format!(", domain={}, read={read}", self.domain(domain));
                }
                out + &self.chain(chain)
            }
            Op::Lut { x, table, domain, read } => format!(
                "{keyword} {}, {}, domain={}, read={read}",
                self.name(*x),
                self.table_name(*table),
                self.domain(domain)
            ),
            Op::Pbs { x, table, domain, read, log2_bound, log2_fail } => {
                let (x, table, domain) = (self.name(*x), self.table_name(*table), self.domain(domain));
                let mut out = format!("{keyword} {x}, {table}, domain={domain}, read={read}");
                for (key, log2) in [("bound", log2_bound), ("fail", log2_fail)] {
                    if let Some(log2) = log2 {
                        out += &format!(", {key}=2^{}", real(*log2));
                    }
                }
                out
            }
        }
    }

    fn set_name(&self, set: Id<ParamSet>) -> String {
        let dangling = if set.index() < self.graph.params.len() { "" } else { "?" };
        format!("!p{dangling}{}", set.index())
    }

    fn chain(&self, chain: &[Func]) -> String {
        chain.iter().map(|func| format!(" | {}", self.func(func))).collect()
    }

    fn func(&self, func: &Func) -> String {
        let keyword = func.keyword();
        match func {
            Func::LeakyRelu(x) | Func::Elu(x) | Func::ThresholdedRelu(x) | Func::Pow(x) => {
                format!("{keyword} {}", real(*x))
            }
            Func::Clip(lo, hi) => format!("{keyword} {} {}", real(*lo), real(*hi)),
            Func::PRelu(c) | Func::Mul(c) | Func::Add(c) => format!("{keyword} {}", self.const_name(*c)),
            Func::Quant { scale, to } => format!("{keyword} {} {to}", real(*scale)),
            _ => keyword.into(),
        }
    }

    fn output(&mut self, output: &Output) -> String {
        let Output { value, name, bias, read, domain, log2_bound, log2_fail, post } = output;
        let mut out = format!("output {} {}", self.name(*value), quote(name));
        if let Some(read) = read {
            out += &format!(", read={read}");
        }
        if let Some(domain) = domain {
            out += &format!(", domain={}", self.domain(domain));
        }
        if let Some(bias) = bias {
            out += &format!(", bias={}", self.const_name(*bias));
        }
        if let Some(bound) = log2_bound {
            out += &format!(", bound=2^{}", real(*bound));
        }
        if let Some(fail) = log2_fail {
            out += &format!(", fail=2^{}", real(*fail));
        }
        if !post.is_empty() {
            let post: Vec<_> = post.iter().map(ToString::to_string).collect();
            out += &format!(", post={}", post.join(" "));
        }
        out
    }

    fn constant(&mut self, constant: &Const) -> String {
        let Const { name, data } = constant;
        let (letter, list) = match data {
            Data::F32(a) if a.len() > INLINE => ("f", self.real_digest(a.iter().copied().collect())),
            Data::Int(a) if a.len() > INLINE => ("i", self.int_digest(a.iter().copied().collect())),
            Data::F32(a) => ("f", rows(data.shape(), a.iter().map(|x| real(*x)))),
            Data::Int(a) => ("i", rows(data.shape(), a.iter().map(i64::to_string))),
        };
        join_list(format!("const @{}: {letter}{} =", bare(name), dims(data.shape())), &list)
    }

    fn table(&mut self, table: &Table) -> String {
        let Table { name, entries } = table;
        let list = if entries.len() > INLINE {
            self.int_digest(entries.iter().copied().collect())
        } else {
            rows(entries.shape(), entries.iter().map(i64::to_string))
        };
        join_list(format!("table @{}: {} =", bare(name), dims(entries.shape())), &list)
    }

    fn real_list(&mut self, list: &[f32], show: fn(f32) -> String) -> String {
        match list {
            [one] => show(*one),
            list if list.len() > INLINE => self.real_digest(list.to_vec()),
            list => format!("({})", runs(list.iter().map(|x| show(*x)))),
        }
    }

    fn indices(&mut self, indices: &[usize]) -> String {
        if indices.len() > INLINE {
            // Indices of tensors in memory are far below 2^63.
            return self.int_digest(indices.iter().map(|&i| i as i64).collect());
        }
        format!("({})", runs(indices.iter().map(usize::to_string)))
    }

    fn seen(&mut self, seen: &[(f32, f32)]) -> String {
        if 2 * seen.len() > INLINE {
            return self.real_digest(seen.iter().flat_map(|(lo, hi)| [*lo, *hi]).collect());
        }
        or_empty(runs(seen.iter().map(|(lo, hi)| format!("[{}, {}]", real(*lo), real(*hi)))))
    }

    fn intervals(&mut self, intervals: &[Interval]) -> String {
        if 2 * intervals.len() > INLINE {
            return self.int_digest(intervals.iter().flat_map(|i| [i.lo, i.hi]).collect());
        }
        or_empty(runs(intervals.iter().map(Interval::to_string)))
    }

    fn domain(&mut self, domain: &Domain) -> String {
        let Domain { lo, width } = domain;
        let last = width.wrapping_sub(1) as i64; // exact for every domain that verifies
        let intervals: Vec<_> = lo.iter().map(|&lo| Interval { lo, hi: lo.wrapping_add(last) }).collect();
        self.intervals(&intervals)
    }

    fn real_digest(&mut self, list: Vec<f32>) -> String {
        let count = list.len();
        format!("#{}*{count}", self.sidecar.insert_reals(list))
    }

    fn int_digest(&mut self, list: Vec<i64>) -> String {
        let count = list.len();
        format!("#{}*{count}", self.sidecar.insert_ints(list))
    }

    fn name(&self, id: Id<Value>) -> String {
        found('%', self.graph.values.get(id.index()).map(|v| &v.name), id.index())
    }

    fn const_name(&self, id: Id<Const>) -> String {
        found('@', self.graph.consts.get(id.index()).map(|c| &c.name), id.index())
    }

    fn table_name(&self, id: Id<Table>) -> String {
        found('@', self.graph.tables.get(id.index()).map(|t| &t.name), id.index())
    }
}

fn found(sigil: char, name: Option<&String>, index: usize) -> String {
    match name {
        Some(name) => format!("{sigil}{}", bare(name)),
        None => format!("{sigil}?{index}"),
    }
}

fn origin_of(graph: &Graph, id: Id<Origin>) -> String {
    match graph.origins.get(id.index()) {
        Some(Origin { node, op }) => format!("{} {}", quote(node), word(op)),
        None => format!("?{}", id.index()),
    }
}

fn bare(name: &str) -> String {
    if is_bare_name(name) { name.into() } else { quote(name) }
}

fn word(text: &str) -> String {
    if is_bare_word(text) { text.into() } else { quote(text) }
}

fn sd(log2_sd: f32) -> String {
    if log2_sd == f32::NEG_INFINITY { "trivial".into() } else { format!("2^{}", real(log2_sd)) }
}

fn params_of(set: &ParamSet) -> String {
    let ParamSet { curve, lwe_dimension, glwe_dimension, log2_polynomial_size, pbs, ks } = set;
    let size = 1u64 << log2_polynomial_size.min(&63);
    let decomposition = |d: &Decomposition| format!("2^{}x{}", d.base_log, d.level);
    format!(
        "n={lwe_dimension} k={glwe_dimension} N={size} pbs={} ks={} security={}",
        decomposition(pbs),
        decomposition(ks),
        curve.bits()
    )
}

fn dims(dims: &[usize]) -> String {
    let dims: Vec<_> = dims.iter().map(usize::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// The fields that are there, behind the operands.
fn fields<const N: usize>(operands: String, fields: [Option<String>; N]) -> String {
    let fields: Vec<_> = fields.into_iter().flatten().collect();
    if fields.is_empty() { operands } else { format!("{operands}, {}", fields.join(" ")) }
}

/// Equal neighbours once, with a repeat count.
fn runs(items: impl Iterator<Item = String>) -> String {
    let mut runs: Vec<(String, usize)> = vec![];
    for item in items {
        match runs.last_mut() {
            Some((last, count)) if *last == item => *count += 1,
            _ => runs.push((item, 1)),
        }
    }
    let runs = runs.into_iter().map(|(item, count)| if count == 1 { item } else { format!("{item}*{count}") });
    runs.collect::<Vec<_>>().join(" ")
}

/// Rows along the last axis, divided by bars.
fn rows(shape: &[usize], items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    let row = if shape.len() < 2 { items.len() } else { shape[shape.len() - 1] };
    items.chunks(row.max(1)).map(|row| runs(row.iter().cloned())).collect::<Vec<_>>().join(" | ")
}

fn or_empty(list: String) -> String {
    if list.is_empty() { "()".into() } else { list }
}

fn join_list(head: String, list: &str) -> String {
    if list.is_empty() { head } else { format!("{head} {list}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_are_short_and_parse_back() {
        let cases = [
            (0.06666667, "0.06666667"),
            (-0.0, "-0"),
            (5.0, "5"),
            (1e-30, "1e-30"),
            (f32::MAX, "3.4028235e38"),
            (f32::NEG_INFINITY, "-inf"),
        ];
        for (x, text) in cases {
            assert_eq!(real(x), text);
            assert_eq!(text.parse::<f32>().map(f32::to_bits), Ok(x.to_bits()));
        }
    }

    #[test]
    fn runs_end_at_rows() {
        let items = [0, 0, 0, 0, 0, 1].map(|x: i32| x.to_string());
        assert_eq!(rows(&[2, 3], items.into_iter()), "0*3 | 0*2 1");
    }
}
