//! The factors against their definition: the squared responses to one unit of noise at each input element.

use std::sync::Arc;

use fhe_ir::text::{Sidecar, parse};
use fhe_ir::{Data, Elem, Facts, Interval, Phase, eval, shape};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// The greatest factor of each value and channel, by evaluating the graph at every unit vector.
fn measured(graph: &Graph) -> Vec<Vec<f64>> {
    let elements: Vec<usize> = graph.inputs().iter().map(|i| graph.value(*i).elements()).collect();
    let rows = elements.iter().sum::<usize>() + 1;
    let mut first = 1;
    let inputs: Vec<_> = graph
        .inputs()
        .iter()
        .zip(&elements)
        .map(|(id, n)| {
            let mut shape = graph.value(*id).shape.clone();
            shape[0] = rows;
            let mut x = ArrayD::<i64>::zeros(IxDyn(&shape));
            let flat = x.as_slice_mut().expect("row-major");
            (0..*n).for_each(|e| flat[(first + e) * n + e] = 1);
            first += n;
            x
        })
        .collect();
    let measure = |y: ArrayD<i64>| {
        let (channels, places) = (y.shape()[1], y.len() / y.shape()[0] / y.shape()[1]);
        let y = y.into_shape_with_order((rows, channels, places)).expect("row-major");
        let norm2 = |c: usize, p: usize| (1..rows).map(|r| ((y[[r, c, p]] - y[[0, c, p]]) as f64).powi(2)).sum();
        (0..channels).map(|c| (0..places).map(|p| norm2(c, p)).fold(0.0, f64::max)).collect()
    };
    eval::integer_all(graph, &inputs).into_iter().map(measure).collect()
}

fn factors(text: &str) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let graph = parse(text, &Sidecar::new()).expect("a graph");
    let grown = growth(&graph).iter().map(|n| n.iter().map(|n| n.input).collect()).collect();
    (grown, measured(&graph))
}

#[test]
fn overlapping_windows_share_noise() {
    // A mean behind a convolution: each pixel enters up to four times.
    let (grown, measured) = factors(
        "eir 2 ranged\ngraph g\n%x: [0, 1][1,2,5,5] = input ; scale=1\n\
         %conv: [0, 1][1,2,4,4] = conv %x, @w, pads=[1,1,0,0]\n%bias: [0, 1][1,2,4,4] = add-clear %conv, @b\n\
         %pool: [0, 1][1,2,3,3] = sum-pool %bias, kernel=[2,2]\noutput %pool \"y\"\n\
         const @w: i[2,2,3,3] = 1*9 0*9 1 -1 2 0 1 -1 3 0 1 1*9\nconst @b: i[1] = 5\n",
    );
    assert_eq!(grown, measured);
    assert_eq!(grown[3][0], 100.0);
}

#[test]
fn both_branches_of_a_sum_may_have_one_source() {
    let (grown, measured) = factors(
        "eir 2 ranged\ngraph g\n%x: [0, 1][1,2] = input ; scale=1\n%fc: [0, 1][1,2] = dot %x, @w\n\
         %sum: [0, 1][1,2] = add %fc, %x\noutput %sum \"y\"\nconst @w: i[2,2] = 3 0 | 0 -3\n",
    );
    assert_eq!(measured[2], [16.0, 4.0]);
    assert_eq!(grown[2], [16.0, 16.0], "signs are not looked at");
}

/// A graph of linear ops over one or two inputs.
fn random_graph(rng: &mut ChaCha8Rng) -> Graph {
    let mut graph = Graph::new("g", Phase::Ranged);
    let image = vec![1, rng.random_range(1..4), rng.random_range(2..5), rng.random_range(2..5)];
    for _ in 0..rng.random_range(1..3) {
        push(&mut graph, Op::Input { pre: vec![] }, image.clone());
    }
    while graph.values.len() < 9 {
        let x = Id::new(rng.random_range(0..graph.values.len()));
        let from = graph.value(x).shape.clone();
        let op = random_op(rng, &mut graph, x, &from);
        let stated = match &op {
            Op::Slice { starts, steps, .. } => (0..4).map(|i| (from[i] - starts[i]).div_ceil(steps[i])).collect(),
            Op::Reshape { .. } if rng.random() => vec![1, from[1] * from[2], from[3], 1],
            Op::Reshape { .. } => vec![1, from[1], from[3], from[2]],
            _ => vec![],
        };
        if let Ok(shape) = shape::infer(&graph, &op, &stated) {
            push(&mut graph, op, shape);
        }
    }
    graph
}

fn random_op(rng: &mut ChaCha8Rng, graph: &mut Graph, x: Id<Value>, from: &[usize]) -> Op {
    let small = |rng: &mut ChaCha8Rng| [rng.random_range(1..3), rng.random_range(1..3)];
    let pads = if rng.random() { [0; 4] } else { [0, 1, 1, 0] };
    let ints = |rng: &mut ChaCha8Rng, graph: &mut Graph, shape: &[usize]| {
        let data = ArrayD::from_shape_fn(IxDyn(shape), |_| rng.random_range(-3..4));
        graph.push_const("c", Data::Int(Arc::new(data)))
    };
    match rng.random_range(0..12) {
        0 | 1 => {
            let groups = if from[1].is_multiple_of(2) && rng.random() { 2 } else { 1 };
            let outs = groups * rng.random_range(1..3);
            let kernel = small(rng);
            let w = ints(rng, graph, &[outs, from[1] / groups, kernel[0], kernel[1]]);
            Op::Conv { x, w, geometry: ConvGeometry { strides: small(rng), pads, dilations: small(rng), groups } }
        }
        2 | 3 => Op::SumPool { x, geometry: PoolGeometry { kernel: small(rng), strides: small(rng), pads } },
        4 => Op::MulClear { x, c: ints(rng, graph, &[from[1]]) },
        5 => Op::Add { a: x, b: Id::new(rng.random_range(0..graph.values.len())) },
        6 => Op::Slice { x, starts: vec![0, from[1] - 1, 0, 0], steps: vec![1, 1, 2, 1] },
        7 => Op::Pad { x, before: vec![0, 1, 0, 1], after: vec![0, 0, 1, 0] },
        8 => Op::Reshape { x },
        9 => Op::Concat { xs: vec![x, Id::new(rng.random_range(0..graph.values.len()))], axis: rng.random_range(1..4) },
        10 => {
            let axis = rng.random_range(1..4);
            let indices = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..from[axis])).collect();
            Op::Gather { x, axis, indices }
        }
        _ => Op::Transpose { x, perm: if rng.random() { vec![0, 2, 1, 3] } else { vec![0, 1, 3, 2] } },
    }
}

fn push(graph: &mut Graph, op: Op, shape: Vec<usize>) {
    let name = graph.unique_value_name("v");
    let elem = Elem::Int(Interval { lo: 0, hi: 1 });
    graph.push(Value { name, shape, elem, op, facts: Facts::default(), cipher: None, from: vec![] });
}

#[test]
fn no_factor_is_too_low() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut exact, mut all) = (0, 0);
    for _ in 0..300 {
        let graph = random_graph(&mut rng);
        let (grown, measured) = (growth(&graph), measured(&graph));
        for (id, value) in graph.iter() {
            for (grown, measured) in grown[id.index()].iter().zip(&measured[id.index()]) {
                // Squares of roots are not exact.
                assert!(
                    grown.input >= measured * (1.0 - 1e-9),
                    "%{} of\n{}",
                    value.name,
                    fhe_ir::text::to_text(&graph)
                );
                all += 1;
                exact += usize::from(grown.input <= measured * (1.0 + 1e-9));
            }
        }
    }
    assert!(exact * 2 > all, "{exact} of {all} factors are exact");
}

#[test]
fn tables_are_told_apart() {
    let text = "eir 2 tabled\ngraph g\n%x: [0, 1][1,2] = input ; scale=1\n\
         %a: [0, 1][1,2] = lut %x, @t, domain=[0, 1], read=exact ; scale=1\n\
         %b: [0, 1][1,2] = lut %x, @t, domain=[0, 1], read=exact ; scale=1\n%fc: [0, 5][1,2] = dot %a, @w ; scale=1\n\
         %ab: [0, 6][1,2] = add %fc, %b ; scale=1\n%again: [0, 7][1,2] = add %ab, %b ; scale=1\n\
         output %again \"y\", read=exact, domain=[0, 7]\nconst @w: i[2,2] = 3 2 | 1 0\ntable @t: [1,2] = 0 1\n";
    let graph = parse(text, &Sidecar::new()).expect("a graph");
    let regions = crate::regions::Regions::of(&graph);
    let by_table = growth_by_table(&graph, &regions.region, &regions.norm2);
    let (a, b) = (Id::new(1), Id::new(2));
    let channel = |tables: [(Id<Value>, f64); 2]| BySource { tables: tables.to_vec(), input: 0.0 };
    assert_eq!(by_table[4], [channel([(a, 13.0), (b, 1.0)]), channel([(a, 1.0), (b, 1.0)])]);
    // `%b` twice: deviations add; all together are counted as dependent.
    let [(of, from_a), (_, from_b)] = by_table[5][0].tables[..] else { panic!("{:?}", by_table[5]) };
    assert!(of == a && (from_a - 13.0).abs() < 1e-9 && (from_b - 4.0).abs() < 1e-9, "{from_a} {from_b}");
    assert!(regions.norm2[5][0].pbs >= 17.0);
    assert_eq!(by_table[0], [BySource { tables: vec![], input: 1.0 }, BySource { tables: vec![], input: 1.0 }]);
}
