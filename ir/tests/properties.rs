//! Properties of reading, ranges and simulation, on random cases.

use std::sync::Arc;

use fhe_ir::text::{Sidecar, parse, to_text};
use fhe_ir::verify::verify;
use fhe_ir::{
    ConvGeometry, Data, Domain, Elem, Facts, Graph, Id, Interval, Op, Phase, PoolGeometry, Read, Reader, Value, eval,
    ranges, shape,
};
use ndarray::{Array2, ArrayD, IxDyn};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Distance in slots from the integer at `offset` to the nearest border between two boxes; borders repeat with the span.
fn slots_to_border(reader: Reader, offset: i64, n: u64) -> f64 {
    let (width, span) = (reader.width as f64, reader.span as f64);
    let at = offset as f64 + reader.twice_margin() as f64 / 2.0;
    let borders = (1..reader.boxes).map(|k| (span - width) / 2.0 + k as f64 * width / reader.boxes as f64);
    let distance = |border: f64| ((at - border).rem_euclid(span)).min((border - at).rem_euclid(span));
    borders.map(distance).fold(f64::INFINITY, f64::min) * n as f64 / span
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_bootstrap_reads_what_the_integers_say(
        (width, boxes) in (1u64..40).prop_flat_map(|width| (Just(width), 1..=width)),
        margin in 0u64..30,
        log2_n in 8u32..12,
        offset in -100i64..150,
        centred: bool,
        seed: u64,
    ) {
        let reader = Reader { width, boxes, span: width + margin, centred };
        let n = 1u64 << log2_n;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let row: Vec<i64> = (0..boxes).map(|_| rng.random_range(-9..10)).collect();
        // The slot that holds the phase of the integer.
        let phase = i128::from(2 * offset + reader.twice_margin() as i64) * i128::from(n);
        let slot = phase.div_euclid(2 * i128::from(reader.span)) as i64;
        // The middle of a slot is half a slot away at most.
        if slots_to_border(reader, offset, n) > 0.501 {
            prop_assert_eq!(reader.read_slot(&row, slot, n), reader.read(&row, offset));
        }
        // Half a box is wider than half a slot: every integer of its own is read right.
        if centred && boxes == width && n > reader.span {
            prop_assert!(slots_to_border(reader, offset, n) > 0.5 - 1e-9);
        }
        let wrapped = reader.read(&row, offset + reader.span as i64);
        prop_assert_eq!(wrapped, row[0] + row[row.len() - 1] - reader.read(&row, offset), "the half torus mirrors");
    }
}

/// A random graph of phase `tabled`, with the intervals that `ranges` proves.
struct Builder {
    rng: ChaCha8Rng,
    graph: Graph,
}

impl Builder {
    fn graph(seed: u64) -> Graph {
        let mut b = Self { rng: ChaCha8Rng::seed_from_u64(seed), graph: Graph::new("g", Phase::Tabled) };
        let image = vec![1, b.rng.random_range(1..4), b.rng.random_range(1..5), b.rng.random_range(1..5)];
        for _ in 0..b.rng.random_range(1..3) {
            let channels: Vec<_> = (0..image[1]).map(|_| b.interval()).collect();
            b.push(Op::Input { pre: vec![] }, image.clone(), &channels);
        }
        for _ in 0..30 {
            if b.graph.values.len() < 9 {
                b.step();
            }
        }
        let value = Id::new(b.graph.values.len() - 1);
        let domain = Domain { lo: vec![0], width: 1 };
        b.graph.outputs.push(fhe_ir::Output {
            value,
            name: "y".into(),
            bias: None,
            read: Some(Read::Exact),
            domain: Some(domain),
            log2_bound: None,
            log2_fail: None,
            post: vec![],
        });
        b.graph
    }

    fn interval(&mut self) -> Interval {
        let lo = self.rng.random_range(-9..8);
        Interval { lo, hi: lo + self.rng.random_range(0..9) }
    }

    fn small(&mut self) -> [usize; 2] {
        [self.rng.random_range(1..3), self.rng.random_range(1..3)]
    }

    fn ints(&mut self, shape: &[usize]) -> Id<fhe_ir::Const> {
        let rng = &mut self.rng;
        let data = ArrayD::from_shape_fn(IxDyn(shape), |_| rng.random_range(-4..5));
        self.graph.push_const("c", Data::Int(Arc::new(data)))
    }

    fn step(&mut self) {
        let values = self.graph.values.len();
        let x = Id::new(self.rng.random_range(0..values));
        let from = self.graph.value(x).shape.clone();
        let (op, stated) = self.op(x, &from);
        // Ops that do not fit the operand are left out.
        let Ok(shape) = shape::infer(&self.graph, &op, &stated) else { return };
        let proven = ranges::infer(&self.graph, &op, &shape).expect("small numbers").expect("no maps");
        self.push(op, shape, &proven);
    }

    fn op(&mut self, x: Id<Value>, from: &[usize]) -> (Op, Vec<usize>) {
        let rank = from.len();
        let elements: usize = from.iter().product();
        let channels = from[1];
        let pads = [self.rng.random_range(0..2), 0, 0, self.rng.random_range(0..2)];
        let op = match self.rng.random_range(0..16) {
            0 => Op::Dot { x, w: self.ints(&[2, channels]) },
            1 | 2 => {
                let groups = if channels.is_multiple_of(2) && self.rng.random() { 2 } else { 1 };
                let [kh, kw] = self.small();
                let w = self.ints(&[2 * groups, channels / groups, kh, kw]);
                let (strides, dilations) = (self.small(), self.small());
                Op::Conv { x, w, geometry: ConvGeometry { strides, pads, dilations, groups } }
            }
            3 => Op::SumPool { x, geometry: PoolGeometry { kernel: self.small(), strides: self.small(), pads } },
            4 => Op::AddClear { x, c: self.ints(&[channels]) },
            5 => Op::MulClear { x, c: self.ints(&[1]) },
            6 => Op::Neg { x },
            7 | 8 => {
                let b = Id::new(self.rng.random_range(0..self.graph.values.len()));
                if self.rng.random() { Op::Add { a: x, b } } else { Op::Sub { a: x, b } }
            }
            9 => {
                let starts: Vec<_> = (0..rank).map(|i| self.rng.random_range(0..from[i])).collect();
                let steps: Vec<_> = (0..rank).map(|i| if i == 1 { 2 } else { 1 }).collect();
                let stated = (0..rank).map(|i| (from[i] - starts[i]).div_ceil(steps[i])).collect();
                return (Op::Slice { x, starts, steps }, stated);
            }
            10 => {
                let mut extents = || (0..rank).map(|i| if i == 0 { 0 } else { self.rng.random_range(0..2) }).collect();
                Op::Pad { x, before: extents(), after: extents() }
            }
            11 => {
                let stated = match self.rng.random_range(0..3) {
                    0 => vec![1, elements],
                    1 => vec![1, elements / channels, channels],
                    _ => vec![1, channels, elements / channels, 1],
                };
                return (Op::Reshape { x }, stated);
            }
            14 => {
                let b = Id::new(self.rng.random_range(0..self.graph.values.len()));
                Op::Concat { xs: vec![x, b, x], axis: self.rng.random_range(1..rank) }
            }
            15 => {
                let axis = self.rng.random_range(1..rank);
                let indices = (0..self.rng.random_range(1..4)).map(|_| self.rng.random_range(0..from[axis])).collect();
                Op::Gather { x, axis, indices }
            }
            12 => {
                let mut perm: Vec<_> = (0..rank).collect();
                if rank > 2 && self.rng.random() {
                    perm.swap(1, 2)
                } else {
                    perm[1..].reverse()
                };
                Op::Transpose { x, perm }
            }
            _ => {
                let width = self.rng.random_range(1..12);
                let domain = Domain { lo: vec![self.rng.random_range(-9..9)], width };
                let rows = if self.rng.random() { 1 } else { channels };
                let read = if self.rng.random() { Read::Exact } else { Read::Approximate(2) };
                let rng = &mut self.rng;
                let boxes = read.boxes(width) as usize;
                let entries = Array2::from_shape_fn((rows, boxes), |_| rng.random_range(-9..10));
                Op::Lut { x, table: self.graph.push_table("t", Arc::new(entries)), domain, read }
            }
        };
        (op, vec![])
    }

    fn push(&mut self, op: Op, shape: Vec<usize>, ranges: &[Interval]) {
        let elem = Elem::Int(ranges::hull(ranges).expect("channels"));
        let facts = Facts { scale: Some(vec![1.0]), range: Some(ranges.to_vec()), ..Facts::default() };
        let name = self.graph.unique_value_name("v");
        self.graph.push(Value { name, shape, elem, op, facts, cipher: None, from: vec![] });
    }

    /// Rows at which every element is at an end of its interval, and random rows.
    fn rows(graph: &Graph, seed: u64) -> Vec<ArrayD<i64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let row = |value: &Value| {
            let mut shape = value.shape.clone();
            shape[0] = 40;
            ArrayD::from_shape_fn(IxDyn(&shape), |at| {
                let Interval { lo, hi } = value.channel_interval(at[1]).expect("an input");
                let corner = if rng.random() { lo } else { hi };
                [lo, hi, corner][..].get(at[0] % 5).copied().unwrap_or_else(|| rng.random_range(lo..=hi))
            })
        };
        graph.inputs().into_iter().map(|id| graph.value(id)).map(row).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_value_lies_in_its_proven_interval(seed: u64) {
        let graph = Builder::graph(seed);
        prop_assert_eq!(verify(&graph), Ok(()), "{}", to_text(&graph));
        let all = eval::integer_all(&graph, &Builder::rows(&graph, seed));
        for (value, y) in graph.values.iter().zip(&all) {
            for (at, e) in y.indexed_iter() {
                let interval = value.channel_interval(at[1]).expect("proven");
                prop_assert!(interval.contains(*e), "%{} is {e} at {at:?}, not in {interval}\n{}", value.name, to_text(&graph));
            }
        }
    }
}

#[test]
fn proven_intervals_of_layers_are_reached() {
    // Each channel's ends occur at some corner: the intervals are not only sound.
    let text = "eir 2 ranged\ngraph g\n%x: [-2, 3][1,3] = input ; scale=1 range=[-2, 1] [0, 3] [1, 1]\n\
                %y: [-12, 9][1,2] = dot %x, @w ; range=[-5, 10]*2\noutput %y \"y\"\nconst @w: i[2,3] = 1 -2 3 | -3 0 2\n";
    let mut graph = parse(text, &Sidecar::new()).expect("a graph");
    let value = graph.values[1].clone();
    let proven = ranges::infer(&graph, &value.op, &value.shape).expect("small").expect("a layer");
    graph.values[1].elem = Elem::Int(ranges::hull(&proven).expect("channels"));
    graph.values[1].facts.range = Some(proven.clone());
    let corners = [[-2, 3, 1], [1, 0, 1], [-2, 0, 1], [1, 3, 1]].concat();
    let rows = ArrayD::from_shape_vec(IxDyn(&[4, 3]), corners).expect("four rows");
    let y = eval::integer(&graph, &[rows]).outputs.remove(0);
    for (channel, interval) in proven.iter().enumerate() {
        let column: Vec<i64> = y.index_axis(ndarray::Axis(1), channel).iter().copied().collect();
        assert_eq!(column.iter().min().zip(column.iter().max()), Some((&interval.lo, &interval.hi)));
    }
}

/// Two layers and two tables on one keyswitch; `sd` is the noise of every ciphertext.
fn circuit(sd: &str) -> Graph {
    let text = format!(
        "eir 2 circuit\ngraph g\nparams !p0 = n=450 k=1 N=32768 pbs=2^23x1 ks=2^3x5 security=128\n\
         %x: [0, 3][1,2] = input ; scale=1 !p0.big span=16 sd={sd}\n\
         %fc: [-6, 9][1,2] = dot %x, @w ; !p0.big span=16 sd={sd}\n\
         %ks: [-6, 9][1,2] = keyswitch %fc, ks=2^3x5 ; !p0.small span=16 sd={sd}\n\
         %a: [0, 9][1,2] = pbs %ks, @relu, domain=[-6, 9], read=exact, bound=2^-6, fail=2^-40 ; !p0.big span=32 sd={sd}\n\
         %b: [0, 13][1,2] = pbs %ks, @wrap, domain=[-4, 4], read=exact, bound=2^-6, fail=2^-40 ; !p0.big span=32 sd={sd}\n\
         %sum: [0, 22][1,2] = add %a, %b ; !p0.big span=32 sd={sd}\n\
         output %sum \"y\", read=exact, domain=[0, 22], bound=2^-7, fail=2^-40\n\
         const @w: i[2,2] = 3 -2 | -1 2\ntable @relu: [1,16] = 0*7 1 2 3 4 5 6 7 8 9\n\
         table @wrap: [1,9] = 9 0 3 7 1 5 2 8 4\n"
    );
    let graph = parse(&text, &Sidecar::new()).expect("a graph");
    assert_eq!(verify(&graph), Ok(()));
    graph
}

fn rows(seed: u64, rows: usize) -> Vec<ArrayD<i64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    vec![ArrayD::from_shape_fn(IxDyn(&[rows, 2]), |_| rng.random_range(0..4))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn without_noise_the_simulator_is_the_integer_evaluator(seed: u64) {
        // What is left is the modulus switch, hundreds of standard deviations below half a box.
        let graph = circuit("trivial");
        let rows = rows(seed, 40);
        prop_assert_eq!(eval::simulate(&graph, &rows, seed), eval::integer(&graph, &rows));
    }

    #[test]
    fn simulation_depends_on_the_seed_and_on_nothing_else(seed: u64) {
        let graph = circuit("2^-6.5");
        let rows = rows(1, 60);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| eval::simulate(&graph, &rows, seed))
        };
        let one = on(1);
        prop_assert_eq!(&on(1), &one);
        prop_assert_eq!(&on(3), &one);
        prop_assert_ne!(&eval::simulate(&graph, &rows, seed ^ 1), &one);
    }
}
