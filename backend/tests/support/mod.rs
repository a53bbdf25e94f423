//! Small circuits built by hand, and one set of keys that all tests share.
#![allow(dead_code)] // The example that measures speed uses a part.

use std::sync::{Arc, LazyLock};

use fhe_backend::{Circuit, EvaluationKeys, Randomness, SecretKeys, ServerKeys, generate, silent};
use fhe_ir::*;
use ndarray::{Array2, ArrayD, IxDyn};

/// Digest of all circuits here: the keys serve every one of them.
pub(crate) const DIGEST: [u8; 32] = [7; 32];

/// 2048 slots, noise small enough to tell 24 integers apart at every table.
pub(crate) const PARAMS: ParamSet = ParamSet {
    curve: SecurityCurve::Bits132,
    lwe_dimension: 860,
    glwe_dimension: 1,
    log2_polynomial_size: 11,
    pbs: Decomposition { base_log: 23, level: 1 },
    ks: Decomposition { base_log: 3, level: 5 },
};

/// Keys for [`PARAMS`] and [`DIGEST`]: those of a circuit with a table.
pub(crate) struct Keys {
    pub(crate) secret: SecretKeys,
    pub(crate) evaluation: EvaluationKeys,
    pub(crate) server: ServerKeys,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut b = Build::new("keys");
    let x = b.input(&[1, 1], 0, 1, 4);
    let y = b.map(x, |v| v, 4);
    b.output(y, Read::Exact);
    let mut randomness = Randomness::insecure_deterministic(1);
    let (secret, evaluation) = generate(&b.circuit(), &mut randomness, &silent);
    let server = evaluation.expand(&silent);
    Keys { secret, evaluation, server }
});

/// Builds a circuit; types and predicted noise are filled in.
pub(crate) struct Build {
    pub(crate) graph: Graph,
}

/// Independent variances of the four places where noise is made, from `tfhe`'s own formulas (132-bit curve).
pub(crate) struct Variances {
    pub(crate) fresh: f64,
    pub(crate) keyswitch: f64,
    pub(crate) pbs: f64,
}

impl Variances {
    pub(crate) fn of(p: &ParamSet) -> Self {
        use tfhe::core_crypto::commons::noise_formulas::{lwe_keyswitch::*, lwe_programmable_bootstrap::*};
        use tfhe::core_crypto::prelude::*;
        let q = 2f64.powi(64);
        let (n, big) = (LweDimension(p.lwe_dimension as usize), LweDimension(p.big_dimension() as usize));
        let levels =
            |d: Decomposition| (DecompositionBaseLog(d.base_log as usize), DecompositionLevelCount(d.level as usize));
        let (pbs, ks) = (levels(p.pbs), levels(p.ks));
        Self {
            fresh: p.big_variance().0,
            keyswitch: keyswitch_additive_variance_132_bits_security_gaussian(big, n, ks.0, ks.1, q, q).0,
            pbs: pbs_variance_132_bits_security_gaussian_fft_mul(
                n,
                GlweDimension(p.glwe_dimension as usize),
                PolynomialSize(p.polynomial_size() as usize),
                pbs.0,
                pbs.1,
                53.0,
                q,
            )
            .0,
        }
    }
}

impl Build {
    pub(crate) fn new(name: &str) -> Self {
        let mut graph = Graph::new(name, Phase::Circuit);
        graph.params.push(PARAMS);
        Self { graph }
    }

    fn push(&mut self, op: Op, shape: &[usize], ranges: Vec<Interval>, span: u64, variance: Vec<f64>) -> Id<Value> {
        let name = format!("v{}", self.graph.values.len());
        let key = if matches!(op, Op::Keyswitch { .. }) { Key::Small } else { Key::Big };
        let hull = ranges.iter().copied().reduce(Interval::hull).expect("channels");
        self.graph.push(Value {
            name,
            shape: shape.to_vec(),
            elem: Elem::Int(hull),
            op,
            facts: Facts { scale: Some(vec![1.0]), range: Some(ranges), ..Facts::default() },
            cipher: Some(Cipher {
                params: Id::new(0),
                key,
                span,
                log2_sd: variance.iter().map(|v| (0.5 * v.log2()) as f32).collect(),
            }),
            from: vec![],
        })
    }

    pub(crate) fn input(&mut self, shape: &[usize], lo: i64, hi: i64, span: u64) -> Id<Value> {
        let variance = vec![Variances::of(&PARAMS).fresh];
        self.push(Op::Input { pre: vec![] }, shape, vec![Interval { lo, hi }; shape[1]], span, variance)
    }

    /// A linear op; `variance` is of each channel.
    pub(crate) fn linear(&mut self, op: Op, shape: &[usize], variance: Vec<f64>) -> Id<Value> {
        let span = self.graph.value(op.operands()[0]).cipher.as_ref().expect("built here").span;
        let ranges = ranges::infer(&self.graph, &op, shape).expect("shapes fit").expect("ranges are known");
        let ranges = if ranges.len() == shape[1] { ranges } else { vec![ranges[0]; shape[1]] };
        self.push(op, shape, ranges, span, variance)
    }

    /// The variance of a value, of a channel.
    pub(crate) fn variance(&self, x: Id<Value>, channel: usize) -> f64 {
        let sd = &self.graph.value(x).cipher.as_ref().expect("built here").log2_sd;
        (2.0 * f64::from(sd[if sd.len() == 1 { 0 } else { channel }])).exp2()
    }

    pub(crate) fn ints(&mut self, shape: &[usize], data: Vec<i64>) -> Id<Const> {
        let array = ArrayD::from_shape_vec(IxDyn(shape), data).expect("shape fits");
        self.graph.push_const("c", Data::Int(Arc::new(array)))
    }

    /// A dense layer with weights `[out][in]`.
    pub(crate) fn dot(&mut self, x: Id<Value>, w: &[&[i64]]) -> Id<Value> {
        let variance =
            w.iter().map(|row| row.iter().map(|e| (e * e) as f64).sum::<f64>() * self.variance(x, 0)).collect();
        let (out, inputs) = (w.len(), w[0].len());
        let w = self.ints(&[out, inputs], w.concat());
        self.linear(Op::Dot { x, w }, &[1, out], variance)
    }

    /// Keyswitch and table; the table has one row for all channels, or one per channel.
    pub(crate) fn table(
        &mut self,
        x: Id<Value>,
        rows: &[Vec<i64>],
        domain: Domain,
        read: Read,
        span: u64,
    ) -> Id<Value> {
        let shape = self.graph.value(x).shape.clone();
        let v = Variances::of(&PARAMS);
        let channels = self.graph.value(x).cipher.as_ref().expect("built here").log2_sd.len();
        let variance = (0..channels).map(|c| self.variance(x, c) + v.keyswitch).collect();
        let ks = self.linear(Op::Keyswitch { x, ks: PARAMS.ks }, &shape, variance);
        let entries = Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).expect("equal rows");
        let table = self.graph.push_table("t", Arc::new(entries));
        let op = Op::Pbs { x: ks, table, domain, read, log2_bound: Some(-6.0), log2_fail: Some(-40.0) };
        let ranges = ranges::infer(&self.graph, &op, &shape).expect("shapes fit").expect("ranges are known");
        let ranges = if ranges.len() == shape[1] { ranges } else { vec![ranges[0]; shape[1]] };
        self.push(op, &shape, ranges, span, vec![v.pbs])
    }

    /// A table over the whole range of `x`, one integer per box.
    pub(crate) fn map(&mut self, x: Id<Value>, f: impl Fn(i64) -> i64, span: u64) -> Id<Value> {
        let range = self.graph.value(x).interval().expect("built here");
        let row = (range.lo..=range.hi).map(f).collect();
        let domain = Domain { lo: vec![range.lo], width: range.width() };
        self.table(x, &[row], domain, Read::Exact, span)
    }

    pub(crate) fn output(&mut self, value: Id<Value>, read: Read) {
        let range = self.graph.value(value).interval().expect("built here");
        self.graph.outputs.push(Output {
            value,
            name: format!("y{}", self.graph.outputs.len()),
            bias: None,
            read: Some(read),
            domain: Some(Domain { lo: vec![range.lo], width: range.width() }),
            log2_bound: None,
            log2_fail: None,
            post: vec![],
        });
    }

    pub(crate) fn circuit(self) -> Circuit {
        Circuit::new(self.graph, DIGEST).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Small numbers that look random.
pub(crate) fn numbers(seed: u64, lo: i64, hi: i64) -> impl FnMut() -> i64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        lo + ((state >> 33) % (hi - lo + 1) as u64) as i64
    }
}

/// Rows of random integers.
pub(crate) fn rows(seed: u64, shape: &[usize], lo: i64, hi: i64) -> ArrayD<i64> {
    let mut next = numbers(seed, lo, hi);
    ArrayD::from_shape_simple_fn(IxDyn(shape), &mut next)
}

/// Three dense layers: 6 inputs, tables after the first two, two rounds of noise.
pub(crate) fn mlp() -> Circuit {
    let mut b = Build::new("mlp");
    let x = b.input(&[1, 6], -1, 2, 24);
    let a = b.dot(x, &[&[1, -1, 0, 2, 0, 1], &[0, 1, 1, 0, -1, 0], &[2, 0, 0, -1, 1, 1], &[1, 1, 1, 1, 0, 0]]);
    let t = b.map(a, |v| v.clamp(0, 2), 20);
    let c = b.dot(t, &[&[1, 2, -1, 1], &[-1, 1, 1, 0], &[0, -2, 1, 2]]);
    let t = b.map(c, |v| (v * v + 3).rem_euclid(5) - 2, 40);
    let y = b.dot(t, &[&[1, -2, 3], &[-1, 1, 1]]);
    b.output(y, Read::Exact);
    b.output(t, Read::Exact);
    b.circuit()
}
