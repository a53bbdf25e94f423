//! Random graphs of every phase, with every op and fact, come back from their text.

use std::sync::Arc;

use fhe_ir::text::{parse, print};
use fhe_ir::{
    Cipher, Const, ConvGeometry, Data, Decomposition, Domain, Elem, Facts, Func, Graph, Id, Interval, Key, Op, Output,
    ParamSet, Phase, Planned, PlannedTable, PoolGeometry, Post, Read, SecurityCurve, Value, shape,
};
use ndarray::{Array2, ArrayD, IxDyn};
use proptest::prelude::*;

const NAMES: [&str; 8] = ["x", "fc1", "/conv/Conv_output_0", "onnx::Gemm_1", "a b", "größe", "q\"\\\n\u{7}", "-"];

/// Decisions of a random graph, one number each; zeros when they run out.
struct Tape {
    numbers: std::vec::IntoIter<u64>,
}

impl Tape {
    fn below(&mut self, n: usize) -> usize {
        (self.numbers.next().unwrap_or(0) % n as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn int(&mut self) -> i64 {
        let bits = self.below(63);
        (self.numbers.next().unwrap_or(0) >> bits) as i64
    }

    fn real(&mut self) -> f32 {
        let special = [0.0, -0.0, 0.1, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, f32::MAX, 1e-45];
        let any = f32::from_bits(self.numbers.next().unwrap_or(0) as u32);
        if any.is_nan() || self.coin() { self.pick(&special) } else { any }
    }

    fn interval(&mut self) -> Interval {
        let (a, b) = (self.int() % Interval::LIMIT, self.int() % Interval::LIMIT);
        Interval::new(a.min(b), a.max(b)).expect("within the limit")
    }

    /// Lengths on both sides of those that are written out.
    fn list<T: Clone>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = self.pick(&[0, 1, 1, 2, 3, 32, 33, 64, 65, 100]);
        let mut list: Vec<T> = vec![];
        for _ in 0..length {
            let again = list.last().cloned().filter(|_| self.coin());
            let next = again.unwrap_or_else(|| item(self));
            list.push(next);
        }
        list
    }

    fn domain(&mut self) -> Domain {
        let width = self.interval().width() / 4 + 1;
        let mut lo = self.list(|t| t.interval().lo / 4);
        lo.push(-7);
        Domain { lo, width }
    }

    fn resolution(&mut self) -> Read {
        match self.below(6) {
            4 => Read::Middles(1 + self.below(100) as u32),
            5 => Read::Bit,
            0 => Read::Approximate(self.below(20) as u32),
            1 => Read::Boxes(1 + self.below(100) as u32),
            2 => Read::Full,
            _ => Read::Exact,
        }
    }

    fn name(&mut self, taken: impl Fn(&str) -> bool) -> String {
        let name = self.pick(&NAMES);
        if taken(name) {
            return (0..).map(|i| format!("{name}.{i}")).find(|n| !taken(n)).expect("a free name");
        }
        name.to_owned()
    }

    fn constant(&mut self, graph: &mut Graph, shape: &[usize]) -> Id<Const> {
        let count: usize = shape.iter().product();
        let data = if self.coin() {
            let list = (0..count).map(|_| self.real()).collect();
            Data::F32(Arc::new(ArrayD::from_shape_vec(IxDyn(shape), list).expect("count")))
        } else {
            let list = (0..count).map(|_| self.int()).collect();
            Data::Int(Arc::new(ArrayD::from_shape_vec(IxDyn(shape), list).expect("count")))
        };
        let name = self.pick(&NAMES);
        graph.push_const(name, data)
    }

    fn func(&mut self, graph: &mut Graph, channels: usize) -> Func {
        let n = self.pick(&[1, channels]);
        match self.below(20) {
            0 => Func::LeakyRelu(self.real()),
            1 => Func::Clip(self.real(), self.real()),
            2 => Func::Elu(self.real()),
            3 => Func::ThresholdedRelu(self.real()),
            4 => Func::Pow(self.real()),
            5 => Func::PRelu(self.constant(graph, &[n])),
            6 => Func::Quant { scale: self.real(), to: self.interval() },
            7 => Func::Mul(self.constant(graph, &[n])),
            8 => Func::Add(self.constant(graph, &[n])),
            _ => self.pick(&Func::PLAIN),
        }
    }

    fn op(&mut self, graph: &mut Graph) -> Op {
        let x = Id::new(self.below(graph.values.len()));
        let dims = graph.value(x).shape.clone();
        let channels = graph.value(x).channels();
        let same: Vec<_> = graph.iter().filter(|(_, v)| v.shape == dims).map(|(id, _)| id).collect();
        let n = self.pick(&[1, channels]);
        match self.below(22) {
            0 => Op::Input { pre: (0..self.below(3)).map(|_| self.func(graph, channels)).collect() },
            1 => {
                let out = 1 + self.below(20);
                Op::Dot { x, w: self.constant(graph, &[out, channels]) }
            }
            2 => {
                let groups = self.pick(&[1, channels]);
                let [kh, kw] = [1 + self.below(3), 1 + self.below(3)];
                let w = self.constant(graph, &[groups * 2, channels / groups, kh, kw]);
                let geometry = ConvGeometry {
                    strides: [1 + self.below(2), 1 + self.below(2)],
                    pads: [self.below(2), self.below(2), self.below(2), self.below(2)],
                    dilations: [1 + self.below(2), 1 + self.below(2)],
                    groups,
                };
                Op::Conv { x, w, geometry }
            }
            i @ (3 | 4) => {
                let geometry = PoolGeometry {
                    kernel: [1 + self.below(2), 1 + self.below(2)],
                    strides: [1 + self.below(2), 1],
                    pads: [0, self.below(2), 0, 0],
                };
                if i == 3 { Op::SumPool { x, geometry } } else { Op::AvgPool { x, geometry } }
            }
            5 => {
                let [scale, bias, mean, var] = [(); 4].map(|()| self.constant(graph, &[n]));
                Op::BatchNorm { x, scale, bias, mean, var, epsilon: self.real() }
            }
            6 => Op::AddClear { x, c: self.constant(graph, &[n]) },
            7 => Op::MulClear { x, c: self.constant(graph, &[n]) },
            8 => Op::Add { a: x, b: self.pick(&same) },
            9 => Op::Sub { a: x, b: self.pick(&same) },
            10 => Op::Neg { x },
            11 => Op::Slice { x, starts: vec![0; dims.len()], steps: vec![1 + self.below(3); dims.len()] },
            12 => {
                let mut before: Vec<_> = dims.iter().map(|_| self.below(2)).collect();
                before[0] = 0;
                Op::Pad { x, after: before.iter().map(|b| 2 * b).collect(), before }
            }
            13 => Op::Reshape { x },
            14 => {
                let mut perm: Vec<_> = (0..dims.len()).collect();
                perm[1..].reverse();
                Op::Transpose { x, perm }
            }
            15 => {
                let shift = self.coin().then(|| self.constant(graph, &[n]));
                let chain = (0..self.below(5)).map(|_| self.func(graph, channels)).collect();
                let resolution = self.coin().then(|| (self.domain(), self.resolution()));
                Op::Map { x, shift, chain, resolution }
            }
            16 => {
                let ks = Decomposition { base_log: self.below(64) as u32, level: self.below(64) as u32 };
                Op::Keyswitch { x, ks }
            }
            19 => Op::Mul { a: x, b: self.pick(&same) },
            20 => Op::Concat { xs: self.list(|t| t.pick(&same)).into_iter().chain([x]).collect(), axis: 1 },
            21 => {
                let axis = 1 + self.below(dims.len() - 1);
                let mut indices = self.list(|t| t.below(dims[axis]));
                indices.push(0);
                Op::Gather { x, axis, indices }
            }
            i => {
                let entries = Array2::from_shape_fn((n, 1 + self.below(40)), |_| self.int());
                let name = self.pick(&NAMES);
                let table = graph.push_table(name, Arc::new(entries));
                let (mut domain, read) = (self.domain(), self.resolution());
                domain.lo = vec![domain.lo[0]; n];
                if i == 17 {
                    return Op::Lut { x, table, domain, read };
                }
                Op::Pbs { x, table, domain, read, log2_bound: Some(self.real()), log2_fail: Some(self.real()) }
            }
        }
    }

    fn value(&mut self, graph: &Graph, op: Op, shape: Vec<usize>) -> Value {
        let elem = match self.below(3) {
            0 => Elem::F32,
            1 => Elem::IntUnknown,
            _ => Elem::Int(self.interval()),
        };
        let facts = Facts {
            scale: self.coin().then(|| self.list(Self::real)),
            seen: self.coin().then(|| self.list(|t| (t.real(), t.real()))),
            range: self.coin().then(|| self.list(Self::interval)),
            planned: (!graph.params.is_empty() && self.coin()).then(|| self.planned(graph)),
        };
        let cipher = (!graph.params.is_empty() && self.coin()).then(|| Cipher {
            params: Id::new(self.below(graph.params.len())),
            key: self.pick(&[Key::Big, Key::Small]),
            span: self.int().unsigned_abs(),
            log2_sd: self.list(Self::real),
        });
        let origins = if graph.origins.is_empty() { 0 } else { self.below(4) };
        let from = (0..origins).map(|_| Id::new(self.below(graph.origins.len()))).collect();
        let name = self.name(|n| graph.values.iter().any(|v| v.name == n));
        Value { name, shape, elem, op, facts, cipher, from }
    }

    fn planned(&mut self, graph: &Graph) -> Planned {
        let decomposition =
            |random: &mut Self| Decomposition { base_log: random.below(64) as u32, level: random.below(64) as u32 };
        let table = self.coin().then(|| PlannedTable {
            set: Id::new(self.below(graph.params.len())),
            ks: decomposition(self),
            conversion: self.coin().then(|| decomposition(self)),
        });
        Planned { home: Id::new(self.below(graph.params.len())), table }
    }

    fn post(&mut self, posts: &[Post]) -> Post {
        let mut post = self.pick(posts);
        match &mut post {
            Post::Clip { lo, hi } => (*lo, *hi) = (self.real(), self.real()),
            Post::Quant { scale, to } => (*scale, *to) = (self.real(), self.interval()),
            Post::Affine { factor, summand } => (*factor, *summand) = (self.real(), self.real()),
            Post::Sigmoid => {}
            Post::Softmax { axis } | Post::LogSoftmax { axis } | Post::Hardmax { axis } => *axis = self.below(4),
            Post::ArgMax { axis, keep, last } => (*axis, *keep, *last) = (self.below(4), self.coin(), self.coin()),
            Post::TopK { axis, k, largest, indices } => {
                (*axis, *k, *largest, *indices) = (self.below(4), self.below(9), self.coin(), self.coin());
            }
        }
        post
    }

    fn graph(&mut self) -> Graph {
        let mut graph = Graph::new(self.pick(&NAMES), self.pick(&Phase::ALL));
        for _ in 0..self.below(3) {
            let mut d = || Decomposition { base_log: self.below(64) as u32, level: self.below(64) as u32 };
            let (pbs, ks) = (d(), d());
            graph.params.push(ParamSet {
                curve: self.pick(&[SecurityCurve::Bits128, SecurityCurve::Bits132]),
                lwe_dimension: self.below(3000) as u32,
                glwe_dimension: self.below(9) as u32,
                log2_polynomial_size: self.below(32) as u32,
                pbs,
                ks,
            });
        }
        for _ in 0..self.below(4) {
            let (node, op) = (self.pick(&NAMES), self.pick(&["Gemm", "com.microsoft.Op", "", "2x"]));
            graph.origin(node, op);
        }
        let shape = self.pick(&[vec![1, 3], vec![1, 70], vec![1, 2, 4, 5], vec![1, 4, 3]]);
        let input = self.value(&graph, Op::Input { pre: vec![] }, shape);
        graph.push(input);
        for _ in 0..self.below(12) {
            let op = self.op(&mut graph);
            let stated = graph.value(op.operands().first().copied().unwrap_or(Id::new(0))).shape.clone();
            let stated = match op {
                Op::Slice { .. } => vec![1; stated.len()],
                Op::Reshape { .. } => vec![1, stated.iter().product()],
                _ => stated,
            };
            if let Ok(shape) = shape::infer(&graph, &op, &stated) {
                let value = self.value(&graph, op, shape);
                graph.push(value);
            }
        }
        for _ in 0..1 + self.below(3) {
            let name = self.name(|n| graph.outputs.iter().any(|o| o.name == n));
            let posts = Post::ALL;
            let output = Output {
                value: Id::new(self.below(graph.values.len())),
                name,
                bias: self.coin().then(|| self.constant(&mut graph, &[1])),
                read: self.coin().then(|| self.resolution()),
                domain: self.coin().then(|| self.domain()),
                log2_bound: self.coin().then(|| self.real()),
                log2_fail: self.coin().then(|| self.real()),
                post: (0..self.below(3)).map(|_| self.post(&posts)).collect(),
            };
            graph.outputs.push(output);
        }
        graph
    }
}

fn random_graphs() -> impl Strategy<Value = Graph> {
    prop::collection::vec(any::<u64>(), 1..3000).prop_map(|numbers| Tape { numbers: numbers.into_iter() }.graph())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_graphs_come_back(graph in random_graphs()) {
        let printed = print(&graph);
        let back = parse(&printed.text, &printed.sidecar).map_err(|e| TestCaseError::fail(format!("{e}\n{}", printed.text)))?;
        prop_assert_eq!(&back, &graph, "{}", printed.text);
        prop_assert_eq!(print(&back), printed);
    }
}

#[test]
fn the_strategy_reaches_every_op() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut ops = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let graph = random_graphs().new_tree(&mut runner).expect("a graph").current();
        ops.extend(graph.values.iter().map(|v| v.op.keyword()));
    }
    assert_eq!(ops.len(), 22, "{ops:?}");
}
