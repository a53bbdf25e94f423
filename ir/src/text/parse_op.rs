//! The parser's grammar of values and outputs: ops, their fields, facts.

use super::lex::{Token, unquote};
use super::parse::{Line, Parsed, Parser, new_id};
use crate::func::Func;
use crate::graph::{Cipher, Const, Elem, Facts, Key, Origin, Output, Value};
use crate::id::Id;
use crate::keys::{Planned, PlannedTable};
use crate::op::{ConvGeometry, Op, PoolGeometry};
use crate::params::ParamSet;
use crate::post::Post;
use crate::table::{Domain, Read, Table};

/// Greatest difference between a stated and a derived number of bits: two decimals are printed.
const BITS_TOLERANCE: f64 = 0.0051;

impl<'t> Parser<'t> {
    /// `%name: elem[shape] = op ; facts`.
    pub(super) fn value(&mut self, line: &mut Line<'t>, heading: Option<Id<Origin>>) -> Parsed<()> {
        let (name, span) = line.name_value()?;
        let id = new_id(&self.graph.values, "values", span.clone())?;
        if self.values.contains_key(&name) {
            return Err(line.duplicate(span));
        }
        line.punct(':')?;
        let elem = elem(line)?;
        let (shape, _) = line.shape()?;
        line.punct('=')?;
        let op = self.op(line)?;
        let mut value =
            Value { name: name.clone(), shape, elem, op, facts: Facts::default(), cipher: None, from: vec![] };
        value.from.extend(heading);
        if line.eat(';')? {
            self.facts(line, &mut value)?;
        } else if !matches!(line.cursor.peek()?.0, Token::End) {
            let (_, span) = line.cursor.peek()?;
            return Err(line.expected(span, "`;` and facts, or the end of the line"));
        }
        self.graph.values.push(value);
        self.values.insert(name, id);
        Ok(())
    }

    fn facts(&mut self, line: &mut Line<'t>, value: &mut Value) -> Parsed<()> {
        let mut bits = false;
        loop {
            let (token, span) = line.cursor.peek()?;
            let twice = match token {
                Token::End => return Ok(()),
                Token::Word("scale") => {
                    let scale = self.real_list(line.keyed("scale")?, Line::real)?;
                    value.facts.scale.replace(scale).is_some()
                }
                Token::Word("seen") => {
                    let seen = self.seen(line.keyed("seen")?)?;
                    value.facts.seen.replace(seen).is_some()
                }
                Token::Word("range") => {
                    let range = self.intervals(line.keyed("range")?)?;
                    value.facts.range.replace(range).is_some()
                }
                Token::Word("bits") => {
                    check_bits(line, value)?;
                    std::mem::replace(&mut bits, true)
                }
                Token::Word("home") => {
                    let planned = self.planned(line)?;
                    value.facts.planned.replace(planned).is_some()
                }
                Token::Param(_) => {
                    let cipher = self.cipher(line)?;
                    value.cipher.replace(cipher).is_some()
                }
                Token::Word("also") if !value.from.is_empty() => {
                    line.word("also")?;
                    let twice = value.from.len() > 1;
                    value.from.push(self.origin(line)?);
                    while let (Token::Quoted(_), _) = line.cursor.peek()? {
                        value.from.push(self.origin(line)?);
                    }
                    twice
                }
                _ => {
                    let also = if value.from.is_empty() { "" } else { ", also" };
                    return Err(line.expected(span, format!("a fact: scale, seen, range, bits, home, !p0.big{also}")));
                }
            };
            if twice {
                return Err(line.duplicate(span));
            }
        }
    }

    /// `home=!p1`, and of a `lut` `home=!p1 set=!p0 ks=2^3x5` with `convert=2^4x3` where the keys differ.
    fn planned(&mut self, line: &mut Line<'t>) -> Parsed<Planned> {
        let home = self.set_name(line.keyed("home")?)?;
        let (token, _) = line.cursor.peek()?;
        if token != Token::Word("set") {
            return Ok(Planned { home, table: None });
        }
        let set = self.set_name(line.keyed("set")?)?;
        let ks = line.keyed("ks")?.decomposition()?;
        let (token, _) = line.cursor.peek()?;
        let converts = token == Token::Word("convert");
        let conversion = converts.then(|| line.keyed("convert")?.decomposition()).transpose()?;
        Ok(Planned { home, table: Some(PlannedTable { set, ks, conversion }) })
    }

    /// `!p0`.
    fn set_name(&self, line: &mut Line<'t>) -> Parsed<Id<ParamSet>> {
        let (token, span) = line.cursor.next()?;
        let Token::Param(name) = token else { return Err(line.expected(span, "a parameter set: !p0")) };
        self.set_of(name).ok_or_else(|| line.undefined(span, "a parameter set of this text"))
    }

    /// The parameter set `p0`.
    fn set_of(&self, name: &str) -> Option<Id<ParamSet>> {
        let index = name.strip_prefix('p').and_then(|i| i.parse::<usize>().ok())?;
        // The second comparison refuses other ways to write the number.
        (index < self.graph.params.len() && format!("p{index}") == name).then(|| Id::new(index))
    }

    /// `!p0.big span=256 sd=2^-30`.
    fn cipher(&mut self, line: &mut Line<'t>) -> Parsed<Cipher> {
        let (token, span) = line.cursor.next()?;
        let name = if let Token::Param(name) = token { name } else { "" };
        let (set, key) = match name.rsplit_once('.') {
            Some((set, "big")) => (set, Key::Big),
            Some((set, "small")) => (set, Key::Small),
            _ => return Err(line.expected(span, "a key: !p0.big, !p0.small")),
        };
        let params = self.set_of(set);
        let params = params.ok_or_else(|| line.undefined(span, "a key of a parameter set of this text"))?;
        let span = line.keyed("span")?.integer("the number of integers on the half torus")?;
        let log2_sd = self.real_list(line.keyed("sd")?, |line| {
            if line.cursor.peek()?.0 == Token::Word("trivial") {
                line.word("trivial")?;
                return Ok(f32::NEG_INFINITY);
            }
            line.log2()
        })?;
        Ok(Cipher { params, key, span, log2_sd })
    }

    /// `output %value "name", fields`.
    pub(super) fn output(&mut self, line: &mut Line<'t>) -> Parsed<()> {
        line.word("output")?;
        let value = self.value_id(line)?;
        let (token, span) = line.cursor.next()?;
        let Token::Quoted(name) = token else {
            return Err(line.expected(span, "the name of the output in quotes"));
        };
        new_id(&self.graph.outputs, "outputs", span.clone())?;
        let name = unquote(name);
        self.output_name(line, &name, span)?;
        let mut output = Output {
            value,
            name,
            bias: None,
            read: None,
            domain: None,
            log2_bound: None,
            log2_fail: None,
            post: vec![],
        };
        self.fields(line, &["read", "domain", "bias", "bound", "fail", "post"], |parser, line, key| {
            match key {
                "read" => output.read = Some(read(line)?),
                "domain" => output.domain = Some(parser.domain(line)?),
                "bias" => output.bias = Some(parser.const_id(line)?),
                "bound" => output.log2_bound = Some(line.log2()?),
                "fail" => output.log2_fail = Some(line.log2()?),
                _ => output.post = post(line)?,
            }
            Ok(())
        })?;
        self.graph.outputs.push(output);
        Ok(())
    }

    fn op(&mut self, line: &mut Line<'t>) -> Parsed<Op> {
        let (token, span) = line.cursor.next()?;
        let keyword = if let Token::Word(word) = token { word } else { "" };
        Ok(match keyword {
            "input" => Op::Input { pre: self.chain(line)? },
            "dot" => {
                let x = self.value_id(line)?;
                Op::Dot { x, w: self.second_const(line)? }
            }
            "conv" => {
                let x = self.value_id(line)?;
                let w = self.second_const(line)?;
                let mut geometry = ConvGeometry { strides: [1; 2], pads: [0; 4], dilations: [1; 2], groups: 1 };
                self.fields(line, &["strides", "pads", "dilations", "groups"], |_, line, key| {
                    match key {
                        "strides" => geometry.strides = line.array()?,
                        "pads" => geometry.pads = line.array()?,
                        "dilations" => geometry.dilations = line.array()?,
                        _ => geometry.groups = line.integer("a number of groups")?,
                    }
                    Ok(())
                })?;
                Op::Conv { x, w, geometry }
            }
            "sum-pool" => {
                let (x, geometry) = self.pool(line)?;
                Op::SumPool { x, geometry }
            }
            "avg-pool" => {
                let (x, geometry) = self.pool(line)?;
                Op::AvgPool { x, geometry }
            }
            "max-pool" => {
                let (x, geometry) = self.pool(line)?;
                Op::MaxPool { x, geometry }
            }
            "batch-norm" => self.batch_norm(line)?,
            "add-clear" => {
                let x = self.value_id(line)?;
                Op::AddClear { x, c: self.second_const(line)? }
            }
            "mul-clear" => {
                let x = self.value_id(line)?;
                Op::MulClear { x, c: self.second_const(line)? }
            }
            "add" => {
                let (a, b) = self.two_values(line)?;
                Op::Add { a, b }
            }
            "sub" => {
                let (a, b) = self.two_values(line)?;
                Op::Sub { a, b }
            }
            "mul" => {
                let (a, b) = self.two_values(line)?;
                Op::Mul { a, b }
            }
            "concat" => self.concat(line)?,
            "gather" => {
                let x = self.value_id(line)?;
                let (mut axis, mut indices) = (None, None);
                self.fields(line, &["axis", "indices"], |parser, line, key| {
                    match key {
                        "axis" => axis = Some(line.integer("an axis")?),
                        _ => indices = Some(parser.indices(line)?),
                    }
                    Ok(())
                })?;
                Op::Gather { x, axis: required(line, axis, "axis")?, indices: required(line, indices, "indices")? }
            }
            "neg" => Op::Neg { x: self.value_id(line)? },
            "slice" => {
                let (x, starts, steps) = self.two_lists(line, ["starts", "steps"])?;
                Op::Slice { x, starts, steps }
            }
            "pad" => {
                let (x, before, after) = self.two_lists(line, ["before", "after"])?;
                Op::Pad { x, before, after }
            }
            "reshape" => Op::Reshape { x: self.value_id(line)? },
            "transpose" => {
                let x = self.value_id(line)?;
                line.eat(',')?;
                Op::Transpose { x, perm: line.keyed("perm")?.dims()? }
            }
            "map" => self.map(line)?,
            "lut" => {
                let (x, table, fields) = self.table_read(line, &["domain", "read"])?;
                Op::Lut { x, table, domain: fields.domain, read: fields.read }
            }
            "keyswitch" => {
                let x = self.value_id(line)?;
                line.eat(',')?;
                Op::Keyswitch { x, ks: line.keyed("ks")?.decomposition()? }
            }
            "pbs" => {
                let (x, table, fields) = self.table_read(line, &["domain", "read", "bound", "fail"])?;
                Op::Pbs {
                    x,
                    table,
                    domain: fields.domain,
                    read: fields.read,
                    log2_bound: fields.log2_bound,
                    log2_fail: fields.log2_fail,
                }
            }
            _ => {
                let allowed = "an op: input, dot, conv, sum-pool, avg-pool, max-pool, batch-norm, add-clear, mul-clear, add, sub, \
                               mul, neg, concat, gather, slice, pad, reshape, transpose, map, lut, keyswitch, pbs";
                return Err(line.expected(span, allowed));
            }
        })
    }

    fn second_const(&mut self, line: &mut Line<'t>) -> Parsed<Id<Const>> {
        line.punct(',')?;
        self.const_id(line)
    }

    fn two_values(&mut self, line: &mut Line<'t>) -> Parsed<(Id<Value>, Id<Value>)> {
        let a = self.value_id(line)?;
        line.punct(',')?;
        Ok((a, self.value_id(line)?))
    }

    /// `concat %a, %b, axis=1`.
    fn concat(&mut self, line: &mut Line<'t>) -> Parsed<Op> {
        let mut xs = vec![self.value_id(line)?];
        loop {
            line.punct(',')?;
            match line.cursor.peek()?.0 {
                Token::Value(_) => xs.push(self.value_id(line)?),
                _ => return Ok(Op::Concat { xs, axis: line.keyed("axis")?.integer("an axis")? }),
            }
        }
    }

    fn two_lists(
        &mut self,
        line: &mut Line<'t>,
        keys: [&'static str; 2],
    ) -> Parsed<(Id<Value>, Vec<usize>, Vec<usize>)> {
        let x = self.value_id(line)?;
        let mut lists = [None, None];
        self.fields(line, &keys, |_, line, key| {
            lists[usize::from(key == keys[1])] = Some(line.dims()?);
            Ok(())
        })?;
        let [first, second] = lists;
        Ok((x, required(line, first, keys[0])?, required(line, second, keys[1])?))
    }

    fn pool(&mut self, line: &mut Line<'t>) -> Parsed<(Id<Value>, PoolGeometry)> {
        let x = self.value_id(line)?;
        let (mut kernel, mut strides, mut pads) = (None, [1; 2], [0; 4]);
        self.fields(line, &["kernel", "strides", "pads"], |_, line, key| {
            match key {
                "kernel" => kernel = Some(line.array()?),
                "strides" => strides = line.array()?,
                _ => pads = line.array()?,
            }
            Ok(())
        })?;
        Ok((x, PoolGeometry { kernel: required(line, kernel, "kernel")?, strides, pads }))
    }

    fn batch_norm(&mut self, line: &mut Line<'t>) -> Parsed<Op> {
        let x = self.value_id(line)?;
        let (mut scale, mut bias, mut mean, mut var, mut epsilon) = (None, None, None, None, None);
        self.fields(line, &["scale", "bias", "mean", "var", "epsilon"], |parser, line, key| {
            match key {
                "scale" => scale = Some(parser.const_id(line)?),
                "bias" => bias = Some(parser.const_id(line)?),
                "mean" => mean = Some(parser.const_id(line)?),
                "var" => var = Some(parser.const_id(line)?),
                _ => epsilon = Some(line.real()?),
            }
            Ok(())
        })?;
        Ok(Op::BatchNorm {
            x,
            scale: required(line, scale, "scale")?,
            bias: required(line, bias, "bias")?,
            mean: required(line, mean, "mean")?,
            var: required(line, var, "var")?,
            epsilon: required(line, epsilon, "epsilon")?,
        })
    }

    /// `map %x, shift=@b, domain=.., read=.. | relu | ...`.
    fn map(&mut self, line: &mut Line<'t>) -> Parsed<Op> {
        let x = self.value_id(line)?;
        let (mut shift, mut domain, mut resolution) = (None, None, None);
        self.fields(line, &["shift", "domain", "read"], |parser, line, key| {
            match key {
                "shift" => shift = Some(parser.const_id(line)?),
                "domain" => domain = Some(parser.domain(line)?),
                _ => resolution = Some(read(line)?),
            }
            Ok(())
        })?;
        let resolution = match (domain, resolution) {
            (None, None) => None,
            (domain, read) => Some((required(line, domain, "domain")?, required(line, read, "read")?)),
        };
        Ok(Op::Map { x, shift, chain: self.chain(line)?, resolution })
    }

    /// `| relu | ...`.
    fn chain(&mut self, line: &mut Line<'t>) -> Parsed<Vec<Func>> {
        let mut chain = vec![];
        while line.eat('|')? {
            chain.push(self.func(line)?);
        }
        Ok(chain)
    }

    fn func(&mut self, line: &mut Line<'t>) -> Parsed<Func> {
        let (token, span) = line.cursor.next()?;
        let keyword = if let Token::Word(word) = token { word } else { "" };
        Ok(match keyword {
            "leaky-relu" => Func::LeakyRelu(line.real()?),
            "elu" => Func::Elu(line.real()?),
            "thresholded-relu" => Func::ThresholdedRelu(line.real()?),
            "pow" => Func::Pow(line.real()?),
            "clip" => Func::Clip(line.real()?, line.real()?),
            "prelu" => Func::PRelu(self.const_id(line)?),
            "mul" => Func::Mul(self.const_id(line)?),
            "add" => Func::Add(self.const_id(line)?),
            "quant" => Func::Quant { scale: line.real()?, to: line.interval()? },
            _ => match Func::PLAIN.into_iter().find(|f| f.keyword() == keyword) {
                Some(plain) => plain,
                None => {
                    let plain = Func::PLAIN.map(|f| f.keyword()).join(", ");
                    let others = "leaky-relu, elu, thresholded-relu, pow, clip, prelu, mul, add, quant";
                    return Err(line.expected(span, format!("a function: {plain}, {others}")));
                }
            },
        })
    }

    /// `%x, @table, domain=.., read=..` and, where allowed, `bound=` and `fail=`.
    fn table_read(&mut self, line: &mut Line<'t>, keys: &[&'static str]) -> Parsed<(Id<Value>, Id<Table>, TableRead)> {
        let x = self.value_id(line)?;
        line.punct(',')?;
        let table = self.table_id(line)?;
        let (mut domain, mut resolution, mut bound, mut fail) = (None, None, None, None);
        self.fields(line, keys, |parser, line, key| {
            match key {
                "domain" => domain = Some(parser.domain(line)?),
                "read" => resolution = Some(read(line)?),
                "bound" => bound = Some(line.log2()?),
                _ => fail = Some(line.log2()?),
            }
            Ok(())
        })?;
        Ok((
            x,
            table,
            TableRead {
                domain: required(line, domain, "domain")?,
                read: required(line, resolution, "read")?,
                log2_bound: bound,
                log2_fail: fail,
            },
        ))
    }

    /// `key=..` in any order, each at most once, with or without commas between them.
    fn fields(
        &mut self,
        line: &mut Line<'t>,
        keys: &[&'static str],
        mut set: impl FnMut(&mut Self, &mut Line<'t>, &'static str) -> Parsed<()>,
    ) -> Parsed<()> {
        let mut done = vec![];
        loop {
            let comma = line.eat(',')?;
            let (token, span) = line.cursor.peek()?;
            let key = keys.iter().copied().find(|key| token == Token::Word(key));
            let Some(key) = key else {
                if comma || matches!(token, Token::Word(_)) {
                    return Err(line.expected(span, format!("a field: {}", keys.join(", "))));
                }
                return Ok(());
            };
            if done.contains(&key) {
                return Err(line.duplicate(span));
            }
            done.push(key);
            set(self, line.keyed(key)?, key)?;
        }
    }
}

/// Fields of an op that reads a table.
struct TableRead {
    domain: Domain,
    read: Read,
    log2_bound: Option<f32>,
    log2_fail: Option<f32>,
}

fn required<T>(line: &Line<'_>, field: Option<T>, key: &str) -> Parsed<T> {
    match field {
        Some(field) => Ok(field),
        None => {
            let (_, span) = line.cursor.peek()?;
            Err(line.expected(span, format!("the field {key}=")))
        }
    }
}

fn elem(line: &mut Line<'_>) -> Parsed<Elem> {
    let (token, span) = line.cursor.peek()?;
    match token {
        Token::Punct('[') => Ok(Elem::Int(line.interval()?)),
        Token::Word("f32") => line.word("f32").map(|()| Elem::F32),
        Token::Word("int") => line.word("int").map(|()| Elem::IntUnknown),
        _ => Err(line.expected(span, "a type: f32, int, [lo, hi]")),
    }
}

fn read(line: &mut Line<'_>) -> Parsed<Read> {
    let (token, span) = line.cursor.next()?;
    match token {
        Token::Word("exact") => Ok(Read::Exact),
        Token::Word("full") => Ok(Read::Full),
        Token::Word("approximate") => Ok(Read::Approximate(line.integer("a number of bits")?)),
        Token::Word("boxes") => Ok(Read::Boxes(line.integer("a number of boxes")?)),
        Token::Word("middles") => Ok(Read::Middles(line.integer("a number of boxes")?)),
        Token::Word("bit") => Ok(Read::Bit),
        _ => Err(line.expected(span, "exact, full, approximate <bits>, boxes <number>, middles <number>, bit")),
    }
}

/// `softmax axis=2 argmax`: client functions, each with the fields that are not the default.
fn post(line: &mut Line<'_>) -> Parsed<Vec<Post>> {
    let mut out = vec![];
    loop {
        let (token, span) = line.cursor.peek()?;
        let Some(mut post) = Post::ALL.into_iter().find(|p| token == Token::Word(p.keyword())) else {
            if out.is_empty() {
                return Err(line.expected(span, Post::ALL.map(|p| p.keyword()).join(", ")));
            }
            return Ok(out);
        };
        line.word(post.keyword())?;
        match &mut post {
            Post::Clip { lo, hi } => (*lo, *hi) = (line.real()?, line.real()?),
            Post::Quant { scale, to } => (*scale, *to) = (line.real()?, line.interval()?),
            Post::Affine { factor, summand } => (*factor, *summand) = (line.real()?, line.real()?),
            _ => {}
        }
        loop {
            let (token, _) = line.cursor.peek()?;
            let field = match (&mut post, token) {
                (
                    Post::Softmax { axis }
                    | Post::LogSoftmax { axis }
                    | Post::Hardmax { axis }
                    | Post::ArgMax { axis, .. }
                    | Post::TopK { axis, .. },
                    Token::Word("axis"),
                ) => {
                    *axis = line.keyed("axis")?.integer("an axis")?;
                    continue;
                }
                (Post::TopK { k, .. }, Token::Word("k")) => {
                    *k = line.keyed("k")?.integer("a number of elements")?;
                    continue;
                }
                (Post::ArgMax { keep, .. }, Token::Word("flat")) => (keep, "flat", false),
                (Post::ArgMax { last, .. }, Token::Word("last")) => (last, "last", true),
                (Post::TopK { largest, .. }, Token::Word("smallest")) => (largest, "smallest", false),
                (Post::TopK { indices, .. }, Token::Word("indices")) => (indices, "indices", true),
                _ => break,
            };
            line.word(field.1)?;
            *field.0 = field.2;
        }
        out.push(post);
    }
}

/// `bits=8.37`: derived from the type, so it only has to agree.
fn check_bits(line: &mut Line<'_>, value: &Value) -> Parsed<()> {
    let (_, span) = line.keyed("bits")?.cursor.peek()?;
    let stated: f64 = line.integer("a number of bits")?;
    match value.elem {
        Elem::Int(interval) if (interval.bits() - stated).abs() <= BITS_TOLERANCE => Ok(()),
        Elem::Int(interval) => Err(line.expected(span, format!("{:.2}, the bits of {interval}", interval.bits()))),
        Elem::F32 | Elem::IntUnknown => Err(line.expected(span, "bits only of a value whose type is an interval")),
    }
}
