//! Why a value of a circuit is as wide, as noisy and as likely to be misread as it is, and what one bit less would buy.

use fhe_ir::{Graph, Id, Interval, Key, Op, Read, Value};
use serde::Serialize;

use crate::growth::Norm2;
use crate::options::{Options, Rounding};
use crate::params::{Constraint, ConstraintReport, Share, Sources, evaluate};
use crate::pass::Notes;
use crate::predicted;
use crate::regions::{Reading, Regions};
use crate::select_params::{NOISE_MODEL, requirements};
use crate::terms::{Term, terms, widest_channel};
use crate::ways_out::{Change, Proposals};

/// What there is to say of the values of one node.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// What was asked for.
    pub asked: String,
    /// Values of the node, in the order of the circuit.
    pub values: Vec<ValueWhy>,
    /// Values of the node beyond the first 32, about which nothing is said.
    pub values_left_out: usize,
}

/// Values of one node that are explained: each takes several searches, and a hostile circuit may have many.
const EXPLAINED: usize = 32;

/// One value.
#[derive(Clone, Debug, Serialize)]
pub struct ValueWhy {
    /// Its name in listings.
    pub value: String,
    /// Node and operator of the model it comes from.
    pub node: Option<[String; 2]>,
    /// Its keyword in listings.
    pub op: String,
    /// Its shape, the batch in front.
    pub shape: Vec<usize>,
    /// Smallest and greatest integer that are proven to occur, and log2 of their number.
    pub proven: Option<Width>,
    /// Integers that half the torus holds in its linear region.
    pub span: u64,
    /// Whose domain decides that: the value that is read there.
    pub span_of: Option<String>,
    /// log2 of the predicted standard deviation on the torus, worst channel.
    pub log2_sd: Option<f64>,
    /// Factor on the variance of a bootstrap, worst channel.
    pub norm2_bootstraps: f64,
    /// Factor on the variance of an input encryption, worst channel.
    pub norm2_inputs: f64,
    /// The channel with the most integers, and what it is the sum of: the parts that widen it most.
    pub widest_channel: usize,
    /// See `widest_channel`; empty where the value is no sum.
    pub terms: Vec<Term>,
    /// Where it is read, and for a table what it reads.
    pub readings: Vec<ReadingWhy>,
}

/// An interval of integers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Width {
    /// Smallest.
    pub lo: i64,
    /// Greatest.
    pub hi: i64,
    /// log2 of how many.
    pub bits: f64,
}

impl From<Interval> for Width {
    fn from(i: Interval) -> Self {
        Self { lo: i.lo, hi: i.hi, bits: i.bits() }
    }
}

/// A read of a value by a table or at an output.
#[derive(Clone, Debug, Serialize)]
pub struct ReadingWhy {
    /// The value that is read.
    pub reads: String,
    /// The table that reads it, or the name of the output.
    pub by: String,
    /// Whether that is an output.
    pub output: bool,
    /// Integers of the domain, over all channels, and log2 of its width, which all channels share.
    pub domain: Width,
    /// Bits that the domain is narrower than what is proven: what calibrated ranges saved. Values outside saturate.
    pub bits_below_proven: f64,
    /// How it is read: `exact`, `approximate 6`, `boxes 5`.
    pub read: String,
    /// Boxes that are told apart.
    pub boxes: u32,
    /// log2 of the noise that is still read right.
    pub log2_bound: f64,
    /// log2 of the standard deviation of the noise that decides, behind keyswitch and modulus switch.
    pub log2_sd: f64,
    /// The bound in standard deviations.
    pub bound_in_sd: f64,
    /// log2 of the probability of a wrong read.
    pub log2_p_fail: f64,
    /// Parts of the variance, the largest first.
    pub shares: Vec<Share>,
    /// The parameter set of the table's bootstrap, in a circuit with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// Whether this read decides the parameters: none comes closer to its bound.
    pub decides: bool,
    /// What one bit less would buy; nothing is said in a circuit with several parameter sets.
    pub one_bit_less: Vec<Bargain>,
}

/// A change and what the cheapest parameters behind it cost.
#[derive(Clone, Debug, Serialize)]
pub struct Bargain {
    /// What changes.
    pub change: String,
    /// The option, where there is one.
    pub option: Option<String>,
    /// Predicted seconds for one row on one core, now.
    pub seconds_now: f64,
    /// Predicted seconds behind the change.
    pub seconds: f64,
    /// The parameters behind it.
    pub parameters: String,
}

/// Names that `asked` could have meant when it names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Every node, value and output.
    pub names: Vec<String>,
}

/// Explains a node of a graph of phase `circuit`: the name of a node of the model, of a value (with or without `%`), or
/// of an output. `options` are those of its compilation.
///
/// # Errors
/// When nothing has that name.
pub fn why(graph: &Graph, options: &Options, notes: &Notes, asked: &str) -> Result<Why, Unknown> {
    let mut ids = named(graph, asked);
    if ids.is_empty() {
        return Err(Unknown { names: names(graph) });
    }
    let values_left_out = ids.len().saturating_sub(EXPLAINED);
    ids.truncate(EXPLAINED);
    let regions = Regions::of(graph);
    let explainer = Explainer::new(graph, &regions, options, notes);
    let values = ids.into_iter().map(|id| explainer.value(id)).collect();
    Ok(Why { asked: asked.to_owned(), values, values_left_out })
}

/// Values that a name stands for; a keyswitch stands for what it switches.
fn named(graph: &Graph, asked: &str) -> Vec<Id<Value>> {
    let of = |matches: &dyn Fn(&Value) -> bool| -> Vec<_> {
        let own = |v: &Value| !in_front_of_tables(v) && matches(v);
        graph.iter().filter(|(_, v)| own(v)).map(|(id, _)| id).collect()
    };
    let value = asked.strip_prefix('%').unwrap_or(asked);
    let by_node = of(&|v| v.from.first().is_some_and(|o| graph.origins[o.index()].node == asked));
    let fused = || of(&|v| v.from.iter().any(|o| graph.origins[o.index()].node == asked));
    let by_value = || -> Vec<_> {
        let switched = |(id, v): (Id<Value>, &Value)| match v.op {
            Op::Keyswitch { x, .. } if in_front_of_tables(v) => x,
            _ => id,
        };
        graph.iter().filter(|(_, v)| v.name == value).map(switched).collect()
    };
    let by_output = || graph.outputs.iter().filter(|o| o.name == asked).map(|o| o.value).collect();
    [by_node].into_iter().chain([by_value(), by_output(), fused()]).find(|ids| !ids.is_empty()).unwrap_or_default()
}

/// Whether a value is a keyswitch to a small key: a conversion to another big key is a value of its own.
fn in_front_of_tables(value: &Value) -> bool {
    matches!(value.op, Op::Keyswitch { .. }) && value.cipher.as_ref().is_none_or(|c| c.key == Key::Small)
}

/// Every name that can be asked for, once.
fn names(graph: &Graph) -> Vec<String> {
    let nodes = graph.origins.iter().map(|o| o.node.clone());
    let values = graph.values.iter().filter(|v| !in_front_of_tables(v)).map(|v| v.name.clone());
    let mut names: Vec<_> = nodes.chain(values).chain(graph.outputs.iter().map(|o| o.name.clone())).collect();
    names.sort();
    names.dedup();
    names
}

struct Explainer<'g> {
    graph: &'g Graph,
    regions: &'g Regions<'g>,
    options: &'g Options,
    proposals: Proposals<'g>,
    /// In the order of the readings; empty without parameters.
    reports: Vec<ConstraintReport>,
    cost_ns: f64,
    /// Whether the keys are not those of one parameter set: then what the circuit itself states is reported.
    several: bool,
}

impl<'g> Explainer<'g> {
    fn new(graph: &'g Graph, regions: &'g Regions<'g>, options: &'g Options, notes: &'g Notes) -> Self {
        let found = graph.params.first().map(|params| {
            evaluate(&requirements(graph, regions, options), *params, &NOISE_MODEL, &options.cost_model())
        });
        let cost_ns = found.as_ref().map_or(0.0, |f| f.cost_ns);
        let reports = found.map_or(vec![], |f| f.per_constraint);
        let proposals = Proposals::new(graph, regions, options, notes);
        let several = predicted::has_several_sets(graph);
        let of_circuit = || regions.readings.iter().map(|r| predicted::report(graph, regions, r)).collect();
        let reports = if several { Option::<Vec<_>>::unwrap_or_default(of_circuit()) } else { reports };
        Self { graph, regions, options, proposals, reports, cost_ns, several }
    }

    fn value(&self, id: Id<Value>) -> ValueWhy {
        let value = self.graph.value(id);
        let norm2 = self.regions.norm2[id.index()].iter().copied().fold(Norm2::default(), Norm2::max);
        let (span, span_of) = self.span(id);
        let readings = self.regions.readings.iter().enumerate();
        let widest_channel = widest_channel(value);
        ValueWhy {
            value: value.name.clone(),
            node: value.from.first().map(|o| &self.graph.origins[o.index()]).map(|o| [o.node.clone(), o.op.clone()]),
            op: value.op.keyword().to_owned(),
            shape: value.shape.clone(),
            proven: value.interval().map(Width::from),
            span,
            span_of,
            log2_sd: value.cipher.as_ref().and_then(|c| c.log2_sd.iter().copied().reduce(f32::max)).map(f64::from),
            norm2_bootstraps: norm2.pbs,
            norm2_inputs: norm2.input,
            widest_channel,
            terms: terms(self.graph, &self.regions.norm2, id, widest_channel),
            readings: readings
                .filter(|(_, r)| r.operand == id || r.table == Some(id))
                .filter_map(|(i, r)| self.reading(i, r, self.reports.get(i)?))
                .collect(),
        }
    }

    /// The span of a value, and what is read in the widest domain of its region.
    fn span(&self, id: Id<Value>) -> (u64, Option<String>) {
        let span = self.regions.span[id.index()];
        let region = self.regions.region[id.index()];
        let widest = self
            .regions
            .readings
            .iter()
            .find(|r| self.regions.region[r.operand.index()] == region && r.domain.width == span);
        (span, widest.map(|r| self.graph.value(r.operand).name.clone()))
    }

    fn reading(&self, index: usize, reading: &Reading<'_>, report: &ConstraintReport) -> Option<ReadingWhy> {
        let constraint = self.regions.constraint(reading);
        let params = self.graph.params.first()?;
        let domain = reading.domain;
        let lo = domain.lo.iter().copied().min()?;
        let hi = domain.lo.iter().map(|lo| lo.saturating_add_unsigned(domain.width.saturating_sub(1))).max()?;
        let proven = self.graph.value(reading.operand).interval();
        let close = |r: &ConstraintReport| r.bound * r.bound / r.variance.0;
        let bound_in_sd = close(report).sqrt();
        Some(ReadingWhy {
            reads: self.graph.value(reading.operand).name.clone(),
            by: match reading.table {
                Some(table) => self.graph.value(table).name.clone(),
                None => self.output(index).unwrap_or_default(),
            },
            output: reading.table.is_none(),
            domain: Width { lo, hi, bits: (domain.width as f64).log2() },
            // What a bit is read of wraps: its interval says nothing of the domain.
            bits_below_proven: proven
                .filter(|_| reading.read != Read::Bit)
                .map_or(0.0, |i| (i.bits() - (domain.width as f64).log2()).max(0.0)),
            read: reading.read.to_string(),
            boxes: constraint.boxes,
            log2_bound: report.bound.log2().min(f64::MAX),
            log2_sd: report.variance.log2_sd(),
            bound_in_sd: bound_in_sd.min(f64::MAX),
            log2_p_fail: report.p_fail.log2().max(-1000.0),
            shares: if self.several {
                predicted::shares(self.graph, self.regions, reading)
            } else {
                Sources::new(NOISE_MODEL, params).shares(&constraint)
            },
            set: predicted::set_of(self.graph, reading)
                .filter(|_| self.several)
                .map(|set| format!("!p{}: {}", set.index(), self.graph.param(set))),
            decides: self.reports.iter().all(|other| close(report) <= close(other) * (1.0 + 1e-9)),
            // The proposals are searched for one parameter set.
            one_bit_less: if self.several { vec![] } else { self.one_bit_less(index, &constraint) },
        })
    }

    /// The name of the output of a reading behind those of tables.
    fn output(&self, index: usize) -> Option<String> {
        let tables = self.regions.readings.iter().filter(|r| r.table.is_some()).count();
        let mut read = self.graph.outputs.iter().filter(|o| o.domain.is_some() && o.read.is_some());
        read.nth(index.checked_sub(tables)?).map(|o| o.name.clone())
    }

    /// One bit less here, at every table or output, and of every weight.
    fn one_bit_less(&self, index: usize, constraint: &Constraint) -> Vec<Bargain> {
        let boxes = u64::from(constraint.boxes.max(1)).next_power_of_two() / 2;
        let bargain = |change: &str, option: Option<String>, found: crate::params::Found| Bargain {
            change: change.to_owned(),
            option,
            seconds_now: self.cost_ns * 1e-9,
            seconds: found.cost_ns * 1e-9,
            parameters: found.params.to_string(),
        };
        let mut bargains = vec![];
        if boxes >= 2 {
            let alone = self.proposals.found_in_boxes(index, boxes);
            bargains.extend(alone.map(|found| bargain(&format!("read here in {boxes} boxes"), None, found)));
            let bits = boxes.ilog2();
            let (change, words) = if constraint.table {
                (Change::Rounding(bits), format!("every table of at most {boxes} boxes"))
            } else {
                (Change::OutputBits(bits), format!("every output of at most {boxes} boxes"))
            };
            let way = self.proposals.found(&[change]);
            bargains.extend(way.map(|way| bargain(&words, Some(way.option), way.found)));
        }
        let weights = self.options.bits.op_weights;
        if weights > 2 && self.proposals.may_change_weights() {
            let way = self.proposals.found(&[Change::WeightBits(weights - 1)]);
            let words = format!("weights of {} bits", weights - 1);
            bargains.extend(way.map(|way| bargain(&words, Some(way.option), way.found)));
        }
        bargains
    }
}

/// Options of a compilation whose report has none that can be read: what the circuit itself says.
pub fn options_of(graph: &Graph) -> Options {
    let defaults = Options::default();
    let curve = graph.params.first().map_or(defaults.curve, |p| p.curve);
    let fail = |log2: f32| f64::from(log2).exp2();
    let tables = graph.values.iter().filter_map(|v| match v.op {
        Op::Pbs { log2_fail, .. } => log2_fail.map(fail),
        _ => None,
    });
    let worst = tables.chain(graph.outputs.iter().filter_map(|o| o.log2_fail).map(fail)).fold(0.0, f64::max);
    let target = worst.clamp(2f64.powi(-300), 0.5);
    Options { curve, error: crate::params::ErrorTarget::PerTable(target), rounding: Rounding::Off, ..defaults }
}
