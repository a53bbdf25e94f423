//! The parser: lines to a graph.
//!
//! Two readings: the first takes the definitions that values refer to from any place (constants, tables, parameter
//! sets, origins), the second the values and outputs in order. A line starts with what it defines. Numbers are
//! counted against the limits before a list grows.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayD, IxDyn};

use super::error::{Fault, ParseError, Problem};
use super::lex::{Cursor, Token, unquote};
use super::{MAX_ELEMENTS, MAX_INLINE_NUMBERS, MAX_ITEMS, MAX_NUMBERS, MAX_RANK, MAX_TEXT_BYTES, Sidecar, VERSION};
use crate::graph::{Const, Data, Graph, Origin, Phase, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::params::{Decomposition, ParamSet, SecurityCurve};
use crate::table::{Domain, Table};

/// The graph that a text describes; `sidecar` has the lists that the text names by digest.
///
/// The graph's names and ids are sound; its types, shapes and phase are the verifier's to check.
pub fn parse(text: &str, sidecar: &Sidecar) -> Result<Graph, ParseError> {
    Parser::new(text, sidecar).graph().map_err(|fault| fault.locate(text))
}

pub(super) type Parsed<T> = Result<T, Fault>;

/// State of one parse.
pub(super) struct Parser<'t> {
    text: &'t str,
    sidecar: &'t Sidecar,
    pub(super) graph: Graph,
    pub(super) values: HashMap<String, Id<Value>>,
    consts: HashMap<String, Id<Const>>,
    tables: HashMap<String, Id<Table>>,
    origins: HashMap<(String, String), Id<Origin>>,
    outputs: HashSet<String>,
    numbers: usize,
    inline_numbers: usize,
}

/// One line and how far it has been read.
pub(super) struct Line<'t> {
    pub(super) cursor: Cursor<'t>,
}

/// A number that lists are made of.
trait Number: Copy {
    const KIND: &'static str;
    fn read(line: &mut Line<'_>) -> Parsed<Self>;
    fn list<'s>(sidecar: &'s Sidecar, digest: &str) -> Option<&'s [Self]>;
    /// Whether it equals itself.
    fn is_number(self) -> bool;
}

impl Number for f32 {
    const KIND: &'static str = "reals";
    fn read(line: &mut Line<'_>) -> Parsed<Self> {
        line.real()
    }
    fn list<'s>(sidecar: &'s Sidecar, digest: &str) -> Option<&'s [Self]> {
        sidecar.reals(digest)
    }
    fn is_number(self) -> bool {
        !self.is_nan()
    }
}

impl Number for i64 {
    const KIND: &'static str = "integers";
    fn read(line: &mut Line<'_>) -> Parsed<Self> {
        line.integer("an integer of 64 bits")
    }
    fn list<'s>(sidecar: &'s Sidecar, digest: &str) -> Option<&'s [Self]> {
        sidecar.ints(digest)
    }
    fn is_number(self) -> bool {
        true
    }
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, sidecar: &'t Sidecar) -> Self {
        Self {
            text,
            sidecar,
            graph: Graph::new("", Phase::Float),
            values: HashMap::new(),
            consts: HashMap::new(),
            tables: HashMap::new(),
            origins: HashMap::new(),
            outputs: HashSet::new(),
            numbers: 0,
            inline_numbers: 0,
        }
    }

    fn graph(mut self) -> Parsed<Graph> {
        if self.text.len() > MAX_TEXT_BYTES {
            return Err(limit("bytes of text", self.text.len(), MAX_TEXT_BYTES, 0..0));
        }
        let text = self.text;
        let mut headers = 0;
        for mut line in Cursor::lines(text).map(|cursor| Line { cursor }) {
            let (token, span) = line.cursor.peek()?;
            match (token, headers) {
                (Token::End, _) => continue,
                (_, 0) => self.version(&mut line)?,
                (_, 1) => {
                    line.word("graph")?;
                    self.graph.name = line.text("the name of the graph")?;
                }
                (Token::Word("const"), _) => self.constant(&mut line)?,
                (Token::Word("table"), _) => self.table(&mut line)?,
                (Token::Word("params"), _) => self.params(&mut line)?,
                (Token::Word("origin"), _) => self.origin_line(&mut line)?,
                (Token::Value(_) | Token::Word("from" | "output"), _) => continue,
                _ => {
                    let allowed = "a value `%name: ...`, from, output, const, table, params, origin";
                    return Err(line.expected(span, allowed));
                }
            }
            headers += 1;
            line.end()?;
        }
        if headers < 2 {
            let span = text.len()..text.len();
            let allowed = if headers == 0 { "`eir 2 <phase>`" } else { "`graph <name>`" };
            let problem = Problem::Expected { got: "the end of the text".into(), allowed: allowed.into() };
            return Err(Fault { problem, span });
        }

        let mut heading = None;
        for mut line in Cursor::lines(text).map(|cursor| Line { cursor }) {
            match line.cursor.peek()?.0 {
                Token::Value(_) => self.value(&mut line, heading)?,
                Token::Word("from") => {
                    line.word("from")?;
                    heading = if line.eat('-')? { None } else { Some(self.origin(&mut line)?) };
                }
                Token::Word("output") => self.output(&mut line)?,
                _ => continue,
            }
            line.end()?;
        }
        Ok(self.graph)
    }

    fn version(&mut self, line: &mut Line<'t>) -> Parsed<()> {
        line.word("eir")?;
        let (_, span) = line.cursor.peek()?;
        let got = line.integer("a version")?;
        if got != VERSION {
            return Err(Fault { problem: Problem::Version { got }, span });
        }
        let (token, span) = line.cursor.next()?;
        let phase = Phase::ALL.into_iter().find(|p| token == Token::Word(p.name()));
        self.graph.phase = phase
            .ok_or_else(|| line.expected(span, "a phase: float, calibrated, quantized, ranged, tabled, circuit"))?;
        Ok(())
    }

    fn origin_line(&mut self, line: &mut Line<'t>) -> Parsed<()> {
        line.word("origin")?;
        let (_, span) = line.cursor.peek()?;
        let before = self.graph.origins.len();
        let id = self.origin(line)?;
        if id.index() < before {
            return Err(line.duplicate(span));
        }
        Ok(())
    }

    /// `"node" Op`, as an origin of the graph.
    pub(super) fn origin(&mut self, line: &mut Line<'t>) -> Parsed<Id<Origin>> {
        let (token, span) = line.cursor.next()?;
        let Token::Quoted(node) = token else {
            return Err(line.expected(span, "the name of a node in quotes"));
        };
        let key = (unquote(node), line.text("the operator of the node")?);
        if let Some(id) = self.origins.get(&key) {
            return Ok(*id);
        }
        let id = new_id(&self.graph.origins, "origins", span)?;
        self.graph.origins.push(Origin { node: key.0.clone(), op: key.1.clone() });
        self.origins.insert(key, id);
        Ok(id)
    }

    fn params(&mut self, line: &mut Line<'t>) -> Parsed<()> {
        line.word("params")?;
        let (token, span) = line.cursor.next()?;
        let id = new_id(&self.graph.params, "parameter sets", span.clone())?;
        let name = format!("p{}", id.index());
        if token != Token::Param(&name) {
            return Err(line.expected(span, format!("`!{name}`: parameter sets are numbered in order")));
        }
        line.punct('=')?;
        let lwe_dimension = line.keyed("n")?.integer("a dimension")?;
        let glwe_dimension = line.keyed("k")?.integer("a dimension")?;
        let (_, span) = line.keyed("N")?.cursor.peek()?;
        let size: u32 = line.integer("a polynomial size")?;
        if !size.is_power_of_two() {
            return Err(line.expected(span, "a power of two"));
        }
        let pbs = line.keyed("pbs")?.decomposition()?;
        let ks = line.keyed("ks")?.decomposition()?;
        let (_, span) = line.keyed("security")?.cursor.peek()?;
        let curve = SecurityCurve::from_bits(line.integer("a security level")?)
            .ok_or_else(|| line.expected(span, "a security level: 128, 132"))?;
        self.graph.params.push(ParamSet {
            curve,
            lwe_dimension,
            glwe_dimension,
            log2_polynomial_size: size.trailing_zeros(),
            pbs,
            ks,
        });
        Ok(())
    }

    fn constant(&mut self, line: &mut Line<'t>) -> Parsed<()> {
        line.word("const")?;
        let (name, span) = line.name_at()?;
        let id = new_id(&self.graph.consts, "constants", span.clone())?;
        if self.consts.insert(name.clone(), id).is_some() {
            return Err(line.duplicate(span));
        }
        line.punct(':')?;
        let (token, span) = line.cursor.next()?;
        let data = match token {
            Token::Word("f") => {
                let (shape, list, span) = self.tensor::<f32>(line)?;
                let array = ArrayD::from_shape_vec(IxDyn(&shape), list);
                Data::F32(Arc::new(array.map_err(|_| limit("elements", shape.len(), MAX_ELEMENTS, span))?))
            }
            Token::Word("i") => {
                let (shape, list, span) = self.tensor::<i64>(line)?;
                let array = ArrayD::from_shape_vec(IxDyn(&shape), list);
                Data::Int(Arc::new(array.map_err(|_| limit("elements", shape.len(), MAX_ELEMENTS, span))?))
            }
            _ => return Err(line.expected(span, "f[..] for reals or i[..] for integers")),
        };
        self.graph.consts.push(Const { name, data });
        Ok(())
    }

    fn table(&mut self, line: &mut Line<'t>) -> Parsed<()> {
        line.word("table")?;
        let (name, span) = line.name_at()?;
        let id = new_id(&self.graph.tables, "tables", span.clone())?;
        if self.tables.insert(name.clone(), id).is_some() {
            return Err(line.duplicate(span));
        }
        line.punct(':')?;
        let (_, span) = line.cursor.peek()?;
        let (shape, list, _) = self.tensor::<i64>(line)?;
        let entries = match shape[..] {
            [rows, boxes] => Array2::from_shape_vec((rows, boxes), list).ok(),
            _ => None,
        };
        let entries = Arc::new(entries.ok_or_else(|| line.expected(span, "the shape [channels or 1,boxes]"))?);
        self.graph.tables.push(Table { name, entries });
        Ok(())
    }

    /// `[shape] = numbers`, up to the end of the line.
    fn tensor<T: Number>(&mut self, line: &mut Line<'t>) -> Parsed<(Vec<usize>, Vec<T>, Range<usize>)> {
        let (shape, span) = line.shape()?;
        let count = shape.iter().product();
        line.punct('=')?;
        if let (Token::Digest(_), _) = line.cursor.peek()? {
            return Ok((shape, self.digest(line, Some(count))?, span));
        }
        let row = if shape.len() < 2 { 0 } else { shape[shape.len() - 1] };
        let mut list = vec![];
        let (mut bars, mut rows) = (0, 1);
        loop {
            let (token, at) = line.cursor.peek()?;
            match token {
                Token::End => break,
                Token::Punct('|') => {
                    line.punct('|')?;
                    bars += 1;
                    if shape.len() < 2 {
                        return Err(line.expected(at, "a number: a shape of one axis has no rows"));
                    }
                    if list.len() != row * rows {
                        let got = list.len().saturating_sub(row * (rows - 1));
                        return Err(counted("numbers in this row", got, row, at));
                    }
                    rows += 1;
                }
                _ => {
                    let number = T::read(line)?;
                    self.repeated(line, number, &mut list, count, at)?;
                }
            }
        }
        let (_, end) = line.cursor.peek()?;
        if list.len() != count {
            return Err(counted("numbers", list.len(), count, end));
        }
        if bars > 0 && rows * row != count {
            return Err(counted("rows", rows, count / row.max(1), end));
        }
        Ok((shape, list, span))
    }

    /// The rest of an item, `*n` or nothing; appends the item that often if the list stays within `most`.
    fn repeated<T: Copy>(
        &mut self,
        line: &mut Line<'t>,
        item: T,
        list: &mut Vec<T>,
        most: usize,
        start: Range<usize>,
    ) -> Parsed<()> {
        let (mut repeat, mut span) = (1, start);
        if line.eat('*')? {
            let (_, at) = line.cursor.peek()?;
            repeat = line.integer("a repeat count")?;
            span.end = at.end;
            if repeat == 0 {
                return Err(line.expected(at, "a repeat count of at least 1"));
            }
        }
        if repeat > most - list.len() {
            return Err(counted("numbers", list.len().saturating_add(repeat), most, span));
        }
        self.inline_numbers += repeat.min(MAX_INLINE_NUMBERS);
        if repeat > MAX_INLINE_NUMBERS || self.inline_numbers > MAX_INLINE_NUMBERS {
            return Err(limit("numbers written out in this text", "more", MAX_INLINE_NUMBERS, span));
        }
        self.count(repeat, span)?;
        list.extend(std::iter::repeat_n(item, repeat));
        Ok(())
    }

    /// Takes `n` numbers from the limit of the whole text.
    fn count(&mut self, n: usize, span: Range<usize>) -> Parsed<()> {
        self.numbers = self.numbers.saturating_add(n);
        if self.numbers > MAX_NUMBERS {
            return Err(limit("numbers in this text and its sidecar", "more", MAX_NUMBERS, span));
        }
        Ok(())
    }

    /// `#digest*count`: a list of the sidecar.
    fn digest<T: Number>(&mut self, line: &mut Line<'t>, want: Option<usize>) -> Parsed<Vec<T>> {
        let (token, span) = line.cursor.next()?;
        let Token::Digest(digest) = token else {
            return Err(line.expected(span, "a digest"));
        };
        line.punct('*')?;
        let (_, at) = line.cursor.peek()?;
        let count = line.integer("the number of numbers")?;
        let list = T::list(self.sidecar, digest);
        let list =
            list.ok_or_else(|| fault(Problem::NoList { digest: line.cursor.got(&span), of: T::KIND }, span.clone()))?;
        for allowed in std::iter::once(list.len()).chain(want) {
            if count != allowed {
                return Err(counted("numbers", count, allowed, at));
            }
        }
        if list.iter().any(|x| !x.is_number()) {
            return Err(line.expected(span, "a list without NaN"));
        }
        self.count(count, at)?;
        Ok(list.to_vec())
    }

    /// One number made by `read`, or a list of them in parentheses, or a digest.
    pub(super) fn real_list(
        &mut self,
        line: &mut Line<'t>,
        read: fn(&mut Line<'t>) -> Parsed<f32>,
    ) -> Parsed<Vec<f32>> {
        if let (Token::Digest(_), _) = line.cursor.peek()? {
            return self.digest(line, None);
        }
        if !line.eat('(')? {
            return Ok(vec![read(line)?]);
        }
        let mut list = vec![];
        while !line.eat(')')? {
            let (_, at) = line.cursor.peek()?;
            let number = read(line)?;
            self.repeated(line, number, &mut list, MAX_INLINE_NUMBERS, at)?;
        }
        Ok(list)
    }

    /// Indices in parentheses, or a digest.
    pub(super) fn indices(&mut self, line: &mut Line<'t>) -> Parsed<Vec<usize>> {
        let (token, span) = line.cursor.peek()?;
        if let Token::Digest(_) = token {
            let list: Vec<i64> = self.digest(line, None)?;
            let list: Option<Vec<usize>> = list.into_iter().map(|i| usize::try_from(i).ok()).collect();
            return list.ok_or_else(|| line.expected(span, "a list without negative numbers"));
        }
        line.punct('(')?;
        let mut list = vec![];
        while !line.eat(')')? {
            let (_, at) = line.cursor.peek()?;
            let index = line.integer("an index")?;
            self.repeated(line, index, &mut list, MAX_INLINE_NUMBERS, at)?;
        }
        Ok(list)
    }

    /// `[lo, hi]` once or more (with repeat counts), `()`, or a digest.
    fn pairs<T: Number>(&mut self, line: &mut Line<'t>) -> Parsed<Vec<(T, T)>> {
        let (token, span) = line.cursor.peek()?;
        if let Token::Digest(_) = token {
            let list = self.digest::<T>(line, None)?;
            if list.len() % 2 != 0 {
                return Err(line.expected(span, "an even number of ends"));
            }
            return Ok(list.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        }
        let mut list = vec![];
        if line.eat('(')? {
            line.punct(')')?;
            return Ok(list);
        }
        loop {
            let (_, at) = line.cursor.peek()?;
            line.punct('[')?;
            let lo = T::read(line)?;
            line.punct(',')?;
            let pair = (lo, T::read(line)?);
            line.punct(']')?;
            self.repeated(line, pair, &mut list, MAX_INLINE_NUMBERS, at)?;
            if line.cursor.peek()?.0 != Token::Punct('[') {
                return Ok(list);
            }
        }
    }

    /// Smallest and greatest real per channel.
    pub(super) fn seen(&mut self, line: &mut Line<'t>) -> Parsed<Vec<(f32, f32)>> {
        self.pairs(line)
    }

    /// Intervals per channel.
    pub(super) fn intervals(&mut self, line: &mut Line<'t>) -> Parsed<Vec<Interval>> {
        let (_, span) = line.cursor.peek()?;
        self.pairs(line)?.into_iter().map(|(lo, hi)| line.checked_interval(lo, hi, span.clone())).collect()
    }

    /// Intervals of one width.
    pub(super) fn domain(&mut self, line: &mut Line<'t>) -> Parsed<Domain> {
        let (_, span) = line.cursor.peek()?;
        let intervals = self.intervals(line)?;
        let width = intervals.first().map(|i| i.width());
        match width {
            Some(width) if intervals.iter().all(|i| i.width() == width) => {
                Ok(Domain { lo: intervals.iter().map(|i| i.lo).collect(), width })
            }
            _ => Err(line.expected(span, "at least one interval, all of one width")),
        }
    }

    /// The constant that an `@name` refers to.
    pub(super) fn const_id(&self, line: &mut Line<'t>) -> Parsed<Id<Const>> {
        let (name, span) = line.name_at()?;
        self.consts.get(&name).copied().ok_or_else(|| line.undefined(span, "a constant of this text"))
    }

    /// The table that an `@name` refers to.
    pub(super) fn table_id(&self, line: &mut Line<'t>) -> Parsed<Id<Table>> {
        let (name, span) = line.name_at()?;
        self.tables.get(&name).copied().ok_or_else(|| line.undefined(span, "a table of this text"))
    }

    /// The value above that a `%name` refers to.
    pub(super) fn value_id(&self, line: &mut Line<'t>) -> Parsed<Id<Value>> {
        let (name, span) = line.name_value()?;
        self.values.get(&name).copied().ok_or_else(|| line.undefined(span, "a value defined above"))
    }

    /// Keeps the name of an output, once.
    pub(super) fn output_name(&mut self, line: &Line<'t>, name: &str, span: Range<usize>) -> Parsed<()> {
        if self.outputs.insert(name.to_owned()) { Ok(()) } else { Err(line.duplicate(span)) }
    }
}

impl<'t> Line<'t> {
    /// The fault that something else than `allowed` is at `span`.
    pub(super) fn expected(&self, span: Range<usize>, allowed: impl Into<String>) -> Fault {
        fault(Problem::Expected { got: self.cursor.got(&span), allowed: allowed.into() }, span)
    }

    /// The fault that what is at `span` has been there before.
    pub(super) fn duplicate(&self, span: Range<usize>) -> Fault {
        fault(Problem::Duplicate { name: self.cursor.got(&span) }, span)
    }

    /// The fault that the name at `span` is not what it has to be.
    pub(super) fn undefined(&self, span: Range<usize>, allowed: &'static str) -> Fault {
        fault(Problem::Undefined { name: self.cursor.got(&span), allowed }, span)
    }

    /// Whether the punctuation is next; moves behind it.
    pub(super) fn eat(&mut self, punct: char) -> Parsed<bool> {
        let found = self.cursor.peek()?.0 == Token::Punct(punct);
        if found {
            self.cursor.next()?;
        }
        Ok(found)
    }

    pub(super) fn punct(&mut self, punct: char) -> Parsed<()> {
        let (token, span) = self.cursor.next()?;
        if token == Token::Punct(punct) { Ok(()) } else { Err(self.expected(span, format!("`{punct}`"))) }
    }

    pub(super) fn word(&mut self, word: &str) -> Parsed<()> {
        let (token, span) = self.cursor.next()?;
        if token == Token::Word(word) { Ok(()) } else { Err(self.expected(span, format!("`{word}`"))) }
    }

    /// `key=`; returns the line for what follows.
    pub(super) fn keyed(&mut self, key: &str) -> Parsed<&mut Self> {
        self.word(key)?;
        self.punct('=')?;
        Ok(self)
    }

    fn end(&mut self) -> Parsed<()> {
        let (token, span) = self.cursor.next()?;
        if token == Token::End { Ok(()) } else { Err(self.expected(span, "the end of the line")) }
    }

    /// A word or a string.
    fn text(&mut self, allowed: &str) -> Parsed<String> {
        let (token, span) = self.cursor.next()?;
        match token {
            Token::Word(text) | Token::Quoted(text) => Ok(unquote(text)),
            _ => Err(self.expected(span, allowed)),
        }
    }

    fn name_at(&mut self) -> Parsed<(String, Range<usize>)> {
        let (token, span) = self.cursor.next()?;
        let Token::At(name) = token else {
            return Err(self.expected(span, "a constant or table `@name`"));
        };
        Ok((unquote(name), span))
    }

    pub(super) fn name_value(&mut self) -> Parsed<(String, Range<usize>)> {
        let (token, span) = self.cursor.next()?;
        let Token::Value(name) = token else {
            return Err(self.expected(span, "a value `%name`"));
        };
        Ok((unquote(name), span))
    }

    pub(super) fn integer<T: std::str::FromStr>(&mut self, allowed: &str) -> Parsed<T> {
        let (token, span) = self.cursor.next()?;
        let number = if let Token::Number(digits) = token { digits.parse().ok() } else { None };
        number.ok_or_else(|| self.expected(span, allowed))
    }

    pub(super) fn real(&mut self) -> Parsed<f32> {
        let (token, span) = self.cursor.next()?;
        let number = match token {
            Token::Word("inf") => Some(f32::INFINITY),
            Token::Number("-inf") => Some(f32::NEG_INFINITY),
            Token::Number(digits) => digits.parse().ok().filter(|x: &f32| x.is_finite()),
            _ => None,
        };
        number.ok_or_else(|| self.expected(span, "a real number that f32 can hold, inf or -inf"))
    }

    /// `2^x`; gives `x`.
    pub(super) fn log2(&mut self) -> Parsed<f32> {
        let (_, span) = self.cursor.peek()?;
        if self.integer::<u64>("a power of two `2^x`")? != 2 {
            return Err(self.expected(span, "a power of two `2^x`"));
        }
        self.punct('^')?;
        self.real()
    }

    pub(super) fn decomposition(&mut self) -> Parsed<Decomposition> {
        const ALLOWED: &str = "a decomposition `2^<base log>x<levels>`";
        let (_, span) = self.cursor.peek()?;
        if self.integer::<u64>(ALLOWED)? != 2 {
            return Err(self.expected(span, ALLOWED));
        }
        self.punct('^')?;
        let base_log = self.integer(ALLOWED)?;
        let (token, span) = self.cursor.next()?;
        let level =
            if let Token::Word(word) = token { word.strip_prefix('x').and_then(|l| l.parse().ok()) } else { None };
        Ok(Decomposition { base_log, level: level.ok_or_else(|| self.expected(span, ALLOWED))? })
    }

    /// `[lo, hi]`.
    pub(super) fn interval(&mut self) -> Parsed<Interval> {
        let (_, span) = self.cursor.peek()?;
        self.punct('[')?;
        let lo = self.integer("an integer")?;
        self.punct(',')?;
        let hi = self.integer("an integer")?;
        self.punct(']')?;
        self.checked_interval(lo, hi, span)
    }

    fn checked_interval(&self, lo: i64, hi: i64, span: Range<usize>) -> Parsed<Interval> {
        Interval::new(lo, hi).ok_or_else(|| {
            let allowed = "ends in order, between -2^52 and 2^52".into();
            fault(Problem::Expected { got: format!("[{lo}, {hi}]"), allowed }, span)
        })
    }

    /// `[1,2,3]`.
    pub(super) fn dims(&mut self) -> Parsed<Vec<usize>> {
        self.punct('[')?;
        let mut dims = vec![];
        if self.eat(']')? {
            return Ok(dims);
        }
        loop {
            let (_, span) = self.cursor.peek()?;
            if dims.len() == MAX_RANK {
                return Err(limit("axes", "more", MAX_RANK, span));
            }
            dims.push(self.integer("an extent")?);
            let (token, span) = self.cursor.next()?;
            match token {
                Token::Punct(',') => {}
                Token::Punct(']') => return Ok(dims),
                _ => return Err(self.expected(span, "`,` or `]`")),
            }
        }
    }

    /// Exactly `N` entries.
    pub(super) fn array<const N: usize>(&mut self) -> Parsed<[usize; N]> {
        let (_, span) = self.cursor.peek()?;
        let dims = self.dims()?;
        let got = dims.len();
        dims.try_into().map_err(|_| counted("entries", got, N, span))
    }

    /// Extents whose product, zeros counted as ones, is within the limit.
    pub(super) fn shape(&mut self) -> Parsed<(Vec<usize>, Range<usize>)> {
        let (_, span) = self.cursor.peek()?;
        let shape = self.dims()?;
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d.max(&1)));
        match count {
            Some(n) if n <= MAX_ELEMENTS => Ok((shape, span)),
            _ => Err(limit("elements", "more", MAX_ELEMENTS, span)),
        }
    }
}

/// The id that the next item of an arena gets, within the limit.
pub(super) fn new_id<T>(arena: &[T], what: &'static str, span: Range<usize>) -> Parsed<Id<T>> {
    if arena.len() >= MAX_ITEMS { Err(limit(what, "more", MAX_ITEMS, span)) } else { Ok(Id::new(arena.len())) }
}

pub(super) fn fault(problem: Problem, span: Range<usize>) -> Fault {
    Fault { problem, span }
}

fn counted(what: &'static str, got: usize, allowed: usize, span: Range<usize>) -> Fault {
    fault(Problem::Count { what, got, allowed }, span)
}

fn limit(what: &'static str, got: impl ToString, limit: usize, span: Range<usize>) -> Fault {
    fault(Problem::Limit { what, got: got.to_string(), limit }, span)
}
