//! How often an exact table is really read wrong, against the probability that its parameters were searched for.

use std::sync::Arc;

use fhe_backend::{Circuit, Randomness, generate, measure, silent};
use fhe_ir::{Cipher, Data, Domain, Elem, Facts, Graph, Id, Interval, Key, Op, Output, ParamSet, Phase, Read, Value};
use fhe_ir::{SecurityCurve, Variance, cost};
use fhe_passes::params::{Constraint, CostModel, ErrorTarget, Found, Requirements, SearchSpace, search, tail};
use fhe_passes::select_params::NOISE_MODEL;
use ndarray::{Array2, ArrayD, IxDyn};

/// Boxes of the table, one per integer.
const BOXES: u64 = 16;

/// Weight in front of it: the noise of a bootstrap arrives multiplied by this.
const WEIGHT: i64 = 3;

/// Elements of one row.
const ELEMENTS: usize = 500;

/// What was found at one error probability.
#[derive(Clone, Debug)]
pub struct Failures {
    /// The probability asked for.
    pub p_error: f64,
    /// The cheapest parameters, and the probability predicted for them with its reserve.
    pub found: Found,
    /// The probability predicted without the reserve.
    pub predicted: f64,
    /// Reads of the table.
    pub lookups: u64,
    /// Reads that gave another entry.
    pub wrong: u64,
    /// Measured over predicted variance at the read.
    pub variance_ratio: f64,
    /// Probability of a wrong read that the measured variance implies.
    pub implied: f64,
}

/// Reads a table of 16 boxes, one integer each, `lookups` times (rounded up to whole rows) on sums of bootstrapped
/// ciphertexts, with parameters searched for `p_error`.
///
/// Messages are in the middle of the domain: at its ends one of the two errors saturates and is none.
pub fn failures(p_error: f64, lookups: usize, seed: u128) -> Failures {
    let constraint = Constraint {
        norm2_pbs: (WEIGHT * WEIGHT) as f64,
        norm2_input: 0.0,
        table: true,
        half_box: 0.25 / BOXES as f64,
        boxes: BOXES as u32,
        dyadic_boxes: true,
        full: false,
        count: 1,
    };
    let requirements = Requirements {
        constraints: vec![constraint],
        pbs_count: 1,
        ks_count: 1,
        linear_products: 1,
        target: ErrorTarget::PerTable(p_error),
        curve: SecurityCurve::Bits128,
        space: SearchSpace::default(),
    };
    let cost = CostModel::Machine(cost::Machine::default().cost);
    let found = search(&requirements, &NOISE_MODEL, &cost).expect("a small table has parameters");
    let circuit = circuit(found.params);
    let mut randomness = Randomness::insecure_deterministic(seed);
    let (secret, evaluation) = generate(&circuit, &mut randomness, &silent);
    let rows = lookups.div_ceil(ELEMENTS);
    let mut message = 0;
    // Times the weight: 3, 6, 9, 12 of 0 to 15.
    let inputs = ArrayD::from_shape_simple_fn(IxDyn(&[rows, ELEMENTS]), || {
        message += 1;
        1 + message % 4
    });
    let (measured, _) = measure(&circuit, &secret, &evaluation.expand(&silent), &[inputs], &mut randomness, &silent)
        .expect("keys and rows are of the circuit");
    let table = measured.last().expect("the table is the last value");
    let measured = Variance(table.read_variance.expect("a pbs reads"));
    let report = &found.per_constraint[0];
    Failures {
        p_error,
        predicted: tail(report.bound, report.variance),
        lookups: table.count,
        wrong: table.misread,
        variance_ratio: measured.0 / report.variance.0,
        implied: tail(report.bound, measured),
        found,
    }
}

/// `input → table → times 3 → table of 16 boxes → output`.
pub fn circuit(params: ParamSet) -> Circuit {
    let mut graph = Graph::new("failures", Phase::Circuit);
    graph.params.push(params);
    let fresh = params.big_variance();
    let bootstrap = NOISE_MODEL.variance_of_blind_rotation(&params);
    let push = |graph: &mut Graph, op: Op, hi: i64, span: u64, variance: Variance| {
        let range = Interval { lo: 0, hi };
        let key = if matches!(op, Op::Keyswitch { .. }) { Key::Small } else { Key::Big };
        let log2_sd = vec![variance.log2_sd() as f32];
        graph.push(Value {
            name: format!("v{}", graph.values.len()),
            shape: vec![1, ELEMENTS],
            elem: Elem::Int(range),
            op,
            facts: Facts { scale: Some(vec![1.0]), range: Some(vec![range; ELEMENTS]), ..Facts::default() },
            cipher: Some(Cipher { params: Id::new(0), key, span, log2_sd }),
            from: vec![],
        })
    };
    let switched = |variance| NOISE_MODEL.variance_after_keyswitch(variance, &params);
    let identity = |graph: &mut Graph, x, boxes: u64| {
        let entries = Array2::from_shape_fn((1, boxes as usize), |(_, i)| i as i64);
        let table = graph.push_table(&format!("t{boxes}"), Arc::new(entries));
        let domain = Domain { lo: vec![0], width: boxes };
        Op::Pbs { x, table, domain, read: Read::Exact, log2_bound: Some(0.0), log2_fail: Some(0.0) }
    };
    let few = (BOXES as i64 - 1) / WEIGHT;
    let x = push(&mut graph, Op::Input { pre: vec![] }, few, few as u64 + 1, fresh);
    let small = push(&mut graph, Op::Keyswitch { x, ks: params.ks }, few, few as u64 + 1, switched(fresh));
    let table = identity(&mut graph, small, few as u64 + 1);
    let a = push(&mut graph, table, few, BOXES, bootstrap);
    let weight = graph.push_const("w", Data::Int(Arc::new(ArrayD::from_elem(IxDyn(&[1]), WEIGHT))));
    let sum = bootstrap * (WEIGHT * WEIGHT) as f64;
    let sum_value = push(&mut graph, Op::MulClear { x: a, c: weight }, few * WEIGHT, BOXES, sum);
    let small = push(&mut graph, Op::Keyswitch { x: sum_value, ks: params.ks }, few * WEIGHT, BOXES, switched(sum));
    let table = identity(&mut graph, small, BOXES);
    let y = push(&mut graph, table, BOXES as i64 - 1, BOXES, bootstrap);
    graph.outputs.push(Output {
        value: y,
        name: "y".into(),
        bias: None,
        read: Some(Read::Exact),
        domain: Some(Domain { lo: vec![0], width: BOXES }),
        log2_bound: None,
        log2_fail: None,
        post: vec![],
    });
    Circuit::new(graph, [0; 32]).expect("a sound circuit")
}

/// Probability that a binomial variable of `n` trials with probability `p` is at most `k`.
pub fn binomial_cdf(k: u64, n: u64, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    // Terms from their logarithms: small ones do no harm.
    let (mut log_term, mut sum) = (n as f64 * (-p).ln_1p(), 0.0);
    for i in 0..=k.min(n) {
        sum += log_term.exp();
        log_term += (((n - i.min(n)) as f64) / (i + 1) as f64).ln() + p.ln() - (-p).ln_1p();
    }
    sum.min(1.0)
}

impl Failures {
    /// Whether so many wrong reads are what the measured variance implies: neither tail is rarer than 1 in 1000.
    pub fn as_implied(&self) -> bool {
        let below = binomial_cdf(self.wrong, self.lookups, self.implied);
        let above = 1.0 - self.wrong.checked_sub(1).map_or(0.0, |k| binomial_cdf(k, self.lookups, self.implied));
        below > 0.001 && above > 0.001
    }

    /// Whether so many wrong reads would be rarer than 1 in 1000 with the probability asked for.
    pub fn significantly_above(&self) -> bool {
        1.0 - self.wrong.checked_sub(1).map_or(0.0, |k| binomial_cdf(k, self.lookups, self.p_error)) < 0.001
    }
}
