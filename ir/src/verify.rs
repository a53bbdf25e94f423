//! The verifier. It runs after every pass and on every file from outside, and checks:
//!
//! - `structure`: ids point into their arenas, operands and the values of outputs exist and come before their users,
//!   names are unique and not empty, constants and tables have numbers within their limits, parameter sets are sound,
//!   there is an output;
//! - `shape`: every shape is what its op gives, with the batch of 1 in front and channels behind it; tensors stay
//!   below [`MAX_ELEMENTS`]; what is given per channel is one entry or one per channel;
//! - `phase`: only the phase's ops, element types, constants and facts;
//! - `scale`: scales are positive and finite, ranges seen finite and in order, both one or one per channel and there
//!   where the phase needs them;
//! - `range`: ranges lie in their type, and from `ranged` on every type covers what interval arithmetic proves;
//! - `table`: tables have the boxes that their domain and resolution ask for, domains are within their limits, only a
//!   `lut` or `pbs` reads middles of boxes (of an even number of integers) or a bit (of a power of two);
//! - `cipher`: in a circuit all parameter sets lie on one curve; linear ops stay under one big key with one torus step;
//!   keyswitches lead from a big key to another key, with a sound decomposition and the same step, bootstraps from the
//!   small key to the big key of their set; domains fit into the half torus and boxes into the polynomial, predictions
//!   are numbers. Keys are told apart by their dimensions. Where they are planned, decompositions are sound and a
//!   conversion follows a `lut` whose set has another big key than its home.
//!
//! A graph that verifies can be evaluated, printed and lowered without panic.

mod keys;

use std::collections::HashSet;

use crate::graph::{Data, Elem, Graph, Key, Phase, Value};
use crate::id::Id;
use crate::interval::Interval;
use crate::op::Op;
use crate::post::Post;
use crate::table::{Domain, Read};
use crate::{ranges, shape};

/// Largest number of elements of one value or constant.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Largest number of integers of a domain, and of the half torus.
pub const MAX_WIDTH: u64 = 1 << 40;

/// Largest number of elements that the windows of one convolution see in all, for one row.
pub const MAX_UNROLLED: usize = 1 << 30;

/// Largest number of boxes of a table.
pub const MAX_BOXES: u64 = 1 << 20;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{rule}: {place}: {message}")]
#[diagnostic(
    code("ir::verify"),
    help(
        "after a pass this is a defect of the pass, in a file the file is not what its writer made: please report it"
    )
)]
pub struct VerifyError {
    /// Name of the rule in this module's list.
    pub rule: &'static str,
    /// Value, constant, table or output.
    pub place: String,
    /// What is wrong, in one phrase.
    pub message: String,
    /// The value, when it is one.
    pub value: Option<Id<Value>>,
}

/// Checks every rule of the module comment; returns the first that is broken.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    structure(graph)?;
    for (id, value) in graph.iter() {
        let fail = |rule| {
            move |message: String| VerifyError { rule, place: format!("%{}", value.name), message, value: Some(id) }
        };
        shapes(graph, value).map_err(fail("shape"))?;
        phase(graph, value).map_err(fail("phase"))?;
        scales(graph, value).map_err(fail("scale"))?;
        table(graph, value).map_err(fail("table"))?;
        range(graph, value).map_err(fail("range"))?;
        if graph.phase == Phase::Circuit {
            cipher(graph, value).map_err(fail("cipher"))?;
        }
        if let Some(planned) = &value.facts.planned {
            keys::planned(graph, planned).map_err(fail("cipher"))?;
        }
    }
    if graph.phase == Phase::Circuit {
        keys::curves(graph).map_err(|(set, message)| VerifyError {
            rule: "cipher",
            place: format!("!p{set}"),
            message,
            value: None,
        })?;
    }
    for output in &graph.outputs {
        let fail = |(rule, message)| VerifyError {
            rule,
            place: format!("output \"{}\"", output.name),
            message,
            value: Some(output.value),
        };
        outputs(graph, output).map_err(fail)?;
    }
    Ok(())
}

fn structure(graph: &Graph) -> Result<(), VerifyError> {
    let error =
        |place: String, message: &str| VerifyError { rule: "structure", place, message: message.into(), value: None };
    let mut names = HashSet::new();
    for (id, value) in graph.iter() {
        let place = || format!("%{}", value.name);
        if value.name.is_empty() || !names.insert(&value.name) {
            return Err(error(place(), "the name is empty or not unique"));
        }
        if value.op.operands().iter().any(|o| *o >= id) {
            return Err(error(place(), "an operand does not come before its user"));
        }
        if value.op.constants().iter().any(|c| c.index() >= graph.consts.len()) {
            return Err(error(place(), "a constant does not exist"));
        }
        if value.op.table().is_some_and(|t| t.index() >= graph.tables.len()) {
            return Err(error(place(), "the table does not exist"));
        }
        if value.cipher.as_ref().is_some_and(|c| c.params.index() >= graph.params.len()) {
            return Err(error(place(), "the parameter set does not exist"));
        }
        let planned = value.facts.planned.iter().flat_map(|p| [p.home, p.table.map_or(p.home, |t| t.set)]);
        if planned.into_iter().any(|set| set.index() >= graph.params.len()) {
            return Err(error(place(), "the planned parameter set does not exist"));
        }
        if value.from.iter().any(|o| o.index() >= graph.origins.len()) {
            return Err(error(place(), "an origin does not exist"));
        }
    }
    let mut names = HashSet::new();
    for c in &graph.consts {
        if c.name.is_empty() || !names.insert(&c.name) {
            return Err(error(format!("@{}", c.name), "the name is empty or not unique"));
        }
        if c.data.is_empty() || c.data.len() > MAX_ELEMENTS {
            return Err(error(format!("@{}", c.name), "a constant has at least one number and at most 2^28"));
        }
    }
    for t in &graph.tables {
        if t.name.is_empty() || !names.insert(&t.name) {
            return Err(error(format!("@{}", t.name), "the name is empty or not unique"));
        }
        if t.entries.is_empty() || !t.entries.is_standard_layout() {
            return Err(error(format!("@{}", t.name), "a table has at least one entry, in row-major order"));
        }
        if t.entries.iter().any(|e| e.unsigned_abs() > 1 << 40) {
            return Err(error(format!("@{}", t.name), "an entry is beyond ±2^40"));
        }
    }
    if graph.outputs.is_empty() {
        return Err(error("graph".into(), "there is no output"));
    }
    let mut names = HashSet::new();
    for output in &graph.outputs {
        if !names.insert(&output.name) {
            return Err(error(format!("output \"{}\"", output.name), "the name is not unique"));
        }
        let known =
            output.value.index() < graph.values.len() && output.bias.is_none_or(|b| b.index() < graph.consts.len());
        if !known {
            return Err(error(format!("output \"{}\"", output.name), "the value or the bias does not exist"));
        }
    }
    for (i, p) in graph.params.iter().enumerate() {
        p.check().map_err(|m| error(format!("!p{i}"), &m))?;
    }
    Ok(())
}

fn shapes(graph: &Graph, value: &Value) -> Result<(), String> {
    let inferred = shape::infer(graph, &value.op, &value.shape)?;
    if inferred != value.shape {
        return Err(format!("the shape is {:?}, the op gives {inferred:?}", value.shape));
    }
    let elements = inferred.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if elements.is_none_or(|n| n == 0 || n > MAX_ELEMENTS) {
        return Err(format!("{inferred:?} has no elements or more than 2^28"));
    }
    if let Op::Conv { w, .. } = &value.op {
        let (w, places) = (graph.constant(*w).data.shape(), inferred[2..].iter().product::<usize>());
        let unrolled = w[1..].iter().try_fold(places, |n, &d| n.checked_mul(d));
        if unrolled.is_none_or(|n| n > MAX_UNROLLED) {
            return Err("the windows of the convolution have more than 2^30 elements in all".into());
        }
    }
    Ok(())
}

fn phase(graph: &Graph, value: &Value) -> Result<(), String> {
    let phase = graph.phase;
    let legal = match &value.op {
        Op::AvgPool { .. } | Op::MaxPool { .. } | Op::BatchNorm { .. } | Op::Mul { .. } => phase.is_real(),
        Op::Map { shift, resolution, .. } => {
            if phase.is_real() {
                shift.is_none() && resolution.is_none()
            } else {
                phase <= Phase::Ranged && (resolution.is_none() || phase == Phase::Ranged)
            }
        }
        Op::Lut { .. } => phase == Phase::Tabled,
        Op::Keyswitch { .. } | Op::Pbs { .. } => phase == Phase::Circuit,
        Op::SumPool { .. }
        | Op::Input { .. }
        | Op::Dot { .. }
        | Op::Conv { .. }
        | Op::AddClear { .. }
        | Op::MulClear { .. }
        | Op::Add { .. }
        | Op::Sub { .. }
        | Op::Neg { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. } => true,
    };
    if !legal {
        return Err(format!("`{}` does not belong to phase {phase}", value.op.keyword()));
    }
    let elem = match value.elem {
        Elem::F32 => phase.is_real(),
        Elem::IntUnknown => phase == Phase::Quantized && !matches!(value.op, Op::Map { .. } | Op::Input { .. }),
        Elem::Int(i) => !phase.is_real() && Interval::new(i.lo, i.hi).is_some(),
    };
    if !elem {
        return Err(format!("the element type does not belong to phase {phase}"));
    }
    for c in value.op.constants() {
        let real = matches!(graph.constant(c).data, Data::F32(_));
        let legal = match &value.op {
            // Chains are real functions; what a map adds to an integer is an integer.
            Op::Input { .. } => real,
            Op::Map { shift, .. } => real != (*shift == Some(c)),
            // Integer weights of a real network are exact: its own quantizer states them.
            Op::Dot { .. } | Op::Conv { .. } => !real || phase.is_real(),
            _ => real == phase.is_real(),
        };
        if !legal {
            return Err(format!("@{} has the wrong kind of numbers for phase {phase}", graph.constant(c).name));
        }
    }
    if let Some(planned) = &value.facts.planned
        && (phase != Phase::Tabled || planned.table.is_some() != matches!(value.op, Op::Lut { .. }))
    {
        return Err("keys are planned in phase tabled, and a set is for a `lut` and only for that".into());
    }
    if (phase == Phase::Circuit) != value.cipher.is_some() {
        return Err("a value is encrypted in a circuit and only there".into());
    }
    Ok(())
}

fn scales(graph: &Graph, value: &Value) -> Result<(), String> {
    let count = |n: usize| n == 1 || n == value.channels();
    if let Some(scale) = &value.facts.scale {
        if !count(scale.len()) {
            return Err(format!("{} scales for {} channels", scale.len(), value.channels()));
        }
        if let Some(bad) = scale.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(format!("a scale is {bad}"));
        }
    } else if !graph.phase.is_real() && matches!(value.op, Op::Input { .. } | Op::Map { .. }) {
        return Err("an integer input or map has a scale".into());
    }
    if let Op::Map { x, .. } = value.op
        && !graph.phase.is_real()
        && graph.value(x).facts.scale.is_none()
    {
        return Err("the operand of an integer map has a scale".into());
    }
    if let Some(seen) = &value.facts.seen {
        if !count(seen.len()) {
            return Err(format!("{} ranges seen for {} channels", seen.len(), value.channels()));
        }
        if let Some((lo, hi)) = seen.iter().find(|(lo, hi)| !(lo.is_finite() && hi.is_finite() && lo <= hi)) {
            return Err(format!("a range seen is [{lo}, {hi}]"));
        }
    }
    if graph.phase == Phase::Calibrated && value.facts.seen.is_some() != graph.values[0].facts.seen.is_some() {
        return Err("either every value of a calibrated graph has a range seen, or none has".into());
    }
    Ok(())
}

fn range(graph: &Graph, value: &Value) -> Result<(), String> {
    if let Some(ranges) = &value.facts.range {
        let Some(ty) = value.interval() else { return Err("a range needs a type".into()) };
        if ranges.len() != 1 && ranges.len() != value.channels() {
            return Err(format!("{} ranges for {} channels", ranges.len(), value.channels()));
        }
        if let Some(bad) = ranges.iter().find(|r| r.lo > r.hi || !ty.covers(**r)) {
            return Err(format!("range {bad} is not part of the type {ty}"));
        }
        if matches!(value.op, Op::Map { .. }) {
            return Err("a map's type is its range".into());
        }
    }
    if graph.phase >= Phase::Ranged {
        let Some(proven) = ranges::infer(graph, &value.op, &value.shape)? else { return Ok(()) };
        for (channel, proven) in proven.into_iter().enumerate() {
            let stated = value.channel_interval(channel).ok_or("the type is unknown")?;
            if !stated.covers(proven) {
                return Err(format!("channel {channel} can be {proven}, the stated range is {stated}"));
            }
        }
    }
    Ok(())
}

fn table(graph: &Graph, value: &Value) -> Result<(), String> {
    let (table, domain, read) = match &value.op {
        Op::Lut { table, domain, read, .. } | Op::Pbs { table, domain, read, .. } => (Some(table), domain, read),
        Op::Map { resolution: Some((domain, read)), .. } => (None, domain, read),
        _ => return Ok(()),
    };
    domain_limits(domain)?;
    if !read.is_centred() && table.is_none() {
        return Err(format!("only a table has read={read}"));
    }
    let whole = match *read {
        Read::Middles(n) => n > 0 && domain.width.is_multiple_of(2 * u64::from(n)),
        Read::Bit => domain.width.is_power_of_two() && domain.width > 1,
        _ => true,
    };
    if !whole {
        return Err(format!("read={read} does not divide a domain of {} integers", domain.width));
    }
    if read.boxes(domain.width) > MAX_BOXES {
        return Err(format!("read={read} over {} integers has more than 2^20 boxes", domain.width));
    }
    let wanted = read.boxes(domain.width);
    let boxes = table.map_or(wanted, |t| graph.table(*t).boxes() as u64);
    // A table read in full may have been sampled at the slots of its polynomial already.
    if boxes != wanted && !(*read == Read::Full && boxes < wanted) {
        return Err(format!("the table has {boxes} boxes, read={read} over {} integers has {wanted}", domain.width));
    }
    Ok(())
}

fn domain_limits(domain: &Domain) -> Result<(), String> {
    if domain.width == 0 || domain.width > MAX_WIDTH || domain.lo.iter().any(|lo| lo.unsigned_abs() > 1 << 50) {
        return Err("the domain is empty, has more than 2^40 integers or lies beyond ±2^50".into());
    }
    Ok(())
}

fn cipher(graph: &Graph, value: &Value) -> Result<(), String> {
    let own = value.cipher.as_ref().ok_or("not encrypted")?;
    if own.span == 0 || own.span > MAX_WIDTH {
        return Err("the half torus holds 1 to 2^40 integers".into());
    }
    if own.log2_sd.len() != 1 && own.log2_sd.len() != value.channels() {
        return Err(format!("{} noises for {} channels", own.log2_sd.len(), value.channels()));
    }
    if own.log2_sd.iter().any(|s| s.is_nan() || *s > 0.0) {
        return Err("a predicted noise is not a number or fills the torus".into());
    }
    keys::keys(graph, value, own)?;
    if let Op::Pbs { x, domain, table, read, log2_bound, log2_fail, .. } = &value.op {
        match (log2_bound, log2_fail) {
            (Some(bound), Some(fail)) if *read != Read::Full => predictions(*bound, *fail)?,
            (None, None) if *read == Read::Full => {}
            _ => return Err("a table has a bound and a probability, but for read=full".into()),
        }
        let span = graph.value(*x).cipher.as_ref().map_or(0, |o| o.span);
        let n = u64::from(graph.param(own.params).polynomial_size());
        if *read == Read::Bit && domain.width != span {
            return Err(format!("a bit of {} integers in a half torus of {span}", domain.width));
        }
        if domain.width > span || graph.table(*table).boxes() as u64 > n {
            return Err(format!(
                "a domain of {} integers in {span}, {} boxes in {n} slots",
                domain.width,
                graph.table(*table).boxes()
            ));
        }
    }
    Ok(())
}

fn predictions(log2_bound: f32, log2_fail: f32) -> Result<(), String> {
    if log2_bound.is_nan() || log2_fail.is_nan() || log2_fail > 0.0 {
        return Err(format!("a bound of 2^{log2_bound}, a probability of 2^{log2_fail}"));
    }
    Ok(())
}

fn outputs(graph: &Graph, output: &crate::graph::Output) -> Result<(), (&'static str, String)> {
    let value = graph.value(output.value);
    if let Some(bias) = output.bias {
        let bias = graph.constant(bias);
        if !matches!(bias.data.shape(), [n] if *n == 1 || *n == value.channels()) {
            return Err(("shape", format!("the bias has shape {:?}", bias.data.shape())));
        }
        if !matches!(bias.data, Data::F32(_)) {
            return Err(("phase", "the bias has no real numbers".into()));
        }
    }
    let phase = graph.phase;
    if output.read.is_some() != output.domain.is_some()
        || (output.read.is_some() && phase < Phase::Ranged)
        || (output.read.is_none() && phase >= Phase::Tabled)
    {
        return Err(("phase", "outputs have a resolution and a domain from `tabled` on, none before `ranged`".into()));
    }
    match (output.log2_bound, output.log2_fail) {
        (Some(bound), Some(fail)) if phase == Phase::Circuit => predictions(bound, fail).map_err(|m| ("cipher", m))?,
        (None, None) => {}
        _ => return Err(("phase", "an output has a bound and a probability together, and only in a circuit".into())),
    }
    if let Some(domain) = &output.domain {
        domain_limits(domain).map_err(|m| ("table", m))?;
        if let Some(read) = output.read.filter(|read| !read.is_centred()) {
            return Err(("table", format!("only a table has read={read}")));
        }
        if domain.lo.len() != 1 && domain.lo.len() != value.channels() {
            return Err(("shape", format!("{} domains for {} channels", domain.lo.len(), value.channels())));
        }
        if let Some(cipher) = &value.cipher
            && domain.width > cipher.span
        {
            let message = format!("a domain of {} integers in a half torus of {}", domain.width, cipher.span);
            return Err(("cipher", message));
        }
    }
    for post in &output.post {
        let sound = match *post {
            Post::Clip { lo, hi } => lo <= hi,
            Post::Quant { scale, to } => scale.is_finite() && scale > 0.0 && Interval::new(to.lo, to.hi).is_some(),
            Post::Affine { factor, summand } => factor.is_finite() && summand.is_finite(),
            _ => true,
        };
        if !sound {
            return Err(("scale", format!("the client cannot apply `{post}`")));
        }
    }
    output.post.iter().try_fold(value.shape.clone(), |shape, post| post.shape(&shape)).map_err(|m| ("shape", m))?;
    if value.cipher.as_ref().is_some_and(|c| c.key != Key::Big) {
        return Err(("cipher", "an output is under the big key".into()));
    }
    Ok(())
}
