//! The rules. Each is exact on every integer of its operand's interval; `README.md` is their constitution.
//!
//! A rule's name is its counter in the statistics. `s_x` is the scale of `x`, `f(r)` the chain of a map on reals.

use egg::{Applier, Id, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};
use fhe_ir::{Func, Interval};

use super::function::Function;
use super::intern::Pool;
use super::language::{Graph, ScaleId, Tensor, Term, function, list, scale, tensor};

/// Integers of one operand that a rule may enumerate.
const ENUMERATED: u64 = 1 << 20;

/// Widest interval on which a rule may be checked integer by integer.
const CHECKED_WIDTH: u64 = 1 << 16;

/// What is put in place of a match: the class of an equal term, if there is one.
type Build = fn(&mut Graph, &Match<'_>) -> Option<Id>;

struct Rule {
    name: &'static str,
    build: Build,
}

struct Match<'a> {
    name: &'static str,
    class: Id,
    subst: &'a Subst,
}

impl Match<'_> {
    fn get(&self, var: &str) -> Id {
        let var: Var = var.parse().expect("a variable of the pattern");
        self.subst[var]
    }
}

impl Applier<Term, Pool> for Rule {
    fn apply_one(
        &self,
        graph: &mut Graph,
        class: Id,
        subst: &Subst,
        _ast: Option<&PatternAst<Term>>,
        _rule: Symbol,
    ) -> Vec<Id> {
        let Some(new) = (self.build)(graph, &Match { name: self.name, class, subst }) else { return vec![] };
        if graph.find(new) == graph.find(class) || !graph.analysis.spend() {
            return vec![];
        }
        graph.union(class, new);
        vec![new]
    }
}

fn rule(name: &'static str, pattern: &str, build: Build) -> Rewrite<Term, Pool> {
    let pattern: Pattern<Term> = pattern.parse().expect("patterns are literals");
    Rewrite::new(name, pattern, Rule { name, build }).expect("appliers bind no variables")
}

/// All rules, in the order in which they are tried.
pub(super) fn all() -> Vec<Rewrite<Term, Pool>> {
    vec![
        // map(x + c, f) == map(x, f shifted by c)
        rule("add-into-map", "(map ?f (add-clear ?x ?c ?s))", |graph, m| {
            let (f, x) = (function(graph, m.get("?f")), tensor(graph, m.get("?x")));
            same_scale(graph, x, scale(graph, m.get("?s")))?;
            let new = add_into_map(f, list(graph, m.get("?c")))?.by(m.name);
            Some(map(graph, new, m.get("?x")))
        }),
        // map(−x, f) == map(x, −shift | ·−1 | f)
        rule("neg-into-map", "(map ?f (neg ?x ?s))", |graph, m| {
            let (f, x) = (function(graph, m.get("?f")).clone(), tensor(graph, m.get("?x")));
            same_scale(graph, x, scale(graph, m.get("?s")))?;
            let minus_one = Func::Mul(graph.analysis.reals("minus-one", &[-1.0]));
            let new = neg_into_map(&f, minus_one)?.by(m.name);
            Some(map(graph, new, m.get("?x")))
        }),
        // map(c·x, f) == map(x, shift/c | ·(s_y·c/s_x) | f), where every integer agrees
        rule("mul-into-map", "(map ?f (mul-clear ?x ?c ?s))", |graph, m| {
            let f = function(graph, m.get("?f")).clone();
            let (x, c) = (tensor(graph, m.get("?x")).clone(), list(graph, m.get("?c")).to_vec());
            let from = scale(graph, m.get("?s"));
            let new = mul_into_map(&mut graph.analysis, &f, &x, &c, from)?.by(m.name);
            Some(map(graph, new, m.get("?x")))
        }),
        // map(map(x, f), g) == map(x, f | quant | g)
        rule("map-of-map", "(map ?g ?y)", |graph, m| {
            let (y, class) = (graph.find(m.get("?y")), graph.find(m.class));
            // A map that gives its operand back would be composed with itself for ever.
            let inner = graph[y].nodes.iter().filter_map(|term| match term {
                Term::Map([f, x]) if graph.find(*x) != y && y != class => Some((*f, *x)),
                _ => None,
            });
            let g = function(graph, m.get("?g")).clone();
            let composed = |(f, x)| Some((map_of_map(&graph.analysis, function(graph, f), &g)?.by(m.name), x));
            let composed: Vec<(Function, Id)> = inner.filter_map(composed).collect();
            let new = composed.into_iter().map(|(f, x)| map(graph, f, x)).collect::<Vec<_>>();
            new.into_iter().find(|&n| graph.find(n) != class)
        }),
        // map(x, f) == x, when f(i) = i for every integer i of x and both have one scale
        rule("identity-map", "(map ?f ?x)", |graph, m| {
            let (f, x) = (function(graph, m.get("?f")), tensor(graph, m.get("?x")));
            same_scale(graph, x, f.scale)?;
            let table = graph.analysis.table(f, x, ENUMERATED)?;
            is_identity(&table).then(|| m.get("?x"))
        }),
        // map(x, f) == 0·x + k, when f(i) = k for every integer i of x
        rule("constant-map", "(map ?f ?x)", |graph, m| {
            if graph[graph.find(m.class)].nodes.iter().any(|term| !matches!(term, Term::Map(_))) {
                return None; // it needs no table already
            }
            let (f, x) = (function(graph, m.get("?f")), tensor(graph, m.get("?x")));
            let constants = constants_of(&graph.analysis.table(f, x, ENUMERATED)?)?;
            let (scale, x) = (f.scale, m.get("?x"));
            let s = graph.add(Term::Scale(scale));
            let zero = graph.analysis.intern_list(vec![0]);
            let zero = graph.add(Term::List(zero));
            let k = graph.analysis.intern_list(constants);
            let k = graph.add(Term::List(k));
            let nothing = graph.add(Term::MulClear([x, zero, s]));
            Some(graph.add(Term::AddClear([nothing, k, s])))
        }),
        // map(x, f) == map(x, g), when f(i) = g(i) for every integer i of x and both have one scale
        rule("equal-tables", "(map ?f ?x)", |graph, m| {
            let x = graph.find(m.get("?x"));
            let (f, operand) = (function(graph, m.get("?f")), tensor(graph, x));
            let table = graph.analysis.table(f, operand, ENUMERATED / 16)?;
            let key = (x, f.scale, table.into_iter().flat_map(|(_, _, entries)| entries).collect());
            let class = m.class;
            Some(*graph.analysis.tables.entry(key).or_insert(class))
        }),
    ]
}

/// The class of a map.
fn map(graph: &mut Graph, f: Function, x: Id) -> Id {
    let f = graph.analysis.intern_function(f);
    let f = graph.add(Term::Function(f));
    graph.add(Term::Map([f, x]))
}

/// Whether the operand's scale is known and is this one.
fn same_scale(graph: &Graph, x: &Tensor, scale: ScaleId) -> Option<()> {
    (x.scale == scale && !graph.analysis.scale(scale).is_empty()).then_some(())
}

/// Entry by entry, where a list of one serves every channel.
fn zip(a: &[i64], b: &[i64], f: impl Fn(i64, i64) -> Option<i64>) -> Option<Vec<i64>> {
    let at = |list: &[i64], i: usize| list[if list.len() == 1 { 0 } else { i }];
    let list: Vec<i64> = (0..a.len().max(b.len())).map(|i| f(at(a, i), at(b, i))).collect::<Option<_>>()?;
    // Below the limit f64 holds every sum with an operand.
    list.iter().all(|e| e.abs() <= Interval::LIMIT / 2).then_some(list)
}

/// `s·((x + c) + shift) == s·(x + (c + shift))`: both sums are whole numbers below 2^53.
fn add_into_map(f: &Function, c: &[i64]) -> Option<Function> {
    Some(Function { shift: zip(&f.shift, c, i64::checked_add)?, ..f.clone() })
}

/// `s·(−x + shift) == −(s·(x − shift))`: negation is exact.
fn neg_into_map(f: &Function, minus_one: Func) -> Option<Function> {
    let shift = zip(&f.shift, &[0], |s, _| s.checked_neg())?;
    let chain = std::iter::once(minus_one).chain(f.chain.iter().cloned()).collect();
    Some(Function { shift, chain, ..f.clone() })
}

/// `s_y·(c·x + shift)` is `s_x·(x + shift/c)·(s_y·c/s_x)` up to rounding: checked on every integer.
fn mul_into_map(pool: &mut Pool, f: &Function, x: &Tensor, c: &[i64], from: ScaleId) -> Option<Function> {
    let shift = zip(&f.shift, c, |s, c| (c != 0 && s % c == 0).then(|| s / c))?;
    let at = |scale: &[f32], i: usize| f64::from(scale[if scale.len() == 1 { 0 } else { i }]);
    let (s_x, s_y) = (pool.scale(x.scale).to_vec(), pool.scale(from).to_vec());
    if s_x.is_empty() || s_y.is_empty() {
        return None;
    }
    let entry = |i: usize| c[if c.len() == 1 { 0 } else { i }];
    let factor = |i: usize| (at(&s_y, i) * entry(i) as f64 / at(&s_x, i)) as f32;
    let factors: Vec<f32> = (0..s_x.len().max(s_y.len()).max(c.len())).map(factor).collect();
    if factors.iter().any(|f| !f.is_normal()) {
        return None;
    }
    let mut chain = f.chain.clone();
    if factors.iter().any(|&f| f != 1.0) {
        let factors = if factors.iter().all(|&f| f == factors[0]) { &factors[..1] } else { &factors };
        chain.insert(0, Func::Mul(pool.reals("factor", factors)));
    }
    let new = Function { shift, chain, ..f.clone() };
    for channel in 0..x.channels() {
        let range = x.range(channel)?;
        if range.width() > CHECKED_WIDTH {
            return None;
        }
        let by = entry(channel);
        let agrees = |i: i64| {
            let whole = i.checked_mul(by);
            whole.is_some_and(|y| pool.apply(f, from, channel, y) == pool.apply(&new, x.scale, channel, i))
        };
        if !(range.lo..=range.hi).all(agrees) {
            return None;
        }
    }
    Some(new)
}

/// The inner map ends in a quantizer and the outer one begins with the real number of its integer:
/// `s·clamp(round(f(r)/s)) = quant(f(r))`, bit for bit, when there is one `s` and no shift in between.
fn map_of_map(pool: &Pool, f: &Function, g: &Function) -> Option<Function> {
    let &[s] = pool.scale(f.scale) else { return None };
    if g.shift.iter().any(|&e| e != 0) {
        return None;
    }
    let quant = Func::Quant { scale: s, to: f.to };
    let chain = f.chain.iter().cloned().chain([quant]).chain(g.chain.iter().cloned()).collect();
    let made_by = f.made_by.iter().chain(&g.made_by).copied().collect();
    Some(Function { shift: f.shift.clone(), chain, to: g.to, scale: g.scale, made_by })
}

/// Whether every integer maps to itself.
fn is_identity(table: &[(usize, Interval, Vec<i64>)]) -> bool {
    table.iter().all(|(_, range, entries)| (range.lo..).zip(entries).all(|(i, &e)| i == e))
}

/// The one entry of each channel.
fn constants_of(table: &[(usize, Interval, Vec<i64>)]) -> Option<Vec<i64>> {
    let row = |(_, _, entries): &(usize, Interval, Vec<i64>)| {
        let (first, rest) = entries.split_first()?;
        rest.iter().all(|e| e == first).then_some(*first)
    };
    let constants: Vec<i64> = table.iter().map(row).collect::<Option<_>>()?;
    Some(if constants.iter().all(|&k| k == constants[0]) { vec![constants[0]] } else { constants })
}

#[cfg(test)]
mod tests;
