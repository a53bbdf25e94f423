//! Exact rounding on random tables: the integers stay, the noise grows as bits are removed, and the circuit is right.

use std::fmt::Write;

use fhe_ir::text::{Sidecar, parse};
use fhe_ir::{Graph, Read, eval};
use fhe_passes::regions::Regions;
use fhe_passes::{Flow, Options, PassCx, Rounding, pipeline, run_pipeline};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A table of two channels over `2^log2_width` integers in `2^log2_boxes` boxes, and all integers around its domains.
fn random_table(rng: &mut ChaCha8Rng, log2_width: u32, log2_boxes: u32) -> (Graph, ArrayD<i64>) {
    let width = 1i64 << log2_width;
    let lo = [rng.random_range(-2 * width..width), rng.random_range(-2 * width..width)];
    let (from, to) = (-5 * width, 5 * width);
    let mut table = String::new();
    for _ in 0..2 << log2_boxes {
        write!(table, " {}", rng.random_range(-9..10)).expect("strings take everything");
    }
    let text = format!(
        "eir 2 tabled\ngraph g\n\n%x: [{from}, {to}][1,2] = input ; scale=1\n\
         %y: [-100, 100][1,2] = lut %x, @t, domain=[{}, {}] [{}, {}], read=approximate {log2_boxes}\n\
         output %y \"y\", read=exact, domain=[-100, 100]\n\ntable @t: [2,{}] ={table}\n",
        lo[0],
        lo[0] + width - 1,
        lo[1],
        lo[1] + width - 1,
        1 << log2_boxes,
    );
    let graph = parse(&text, &Sidecar::new()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let x = ArrayD::from_shape_fn(IxDyn(&[(to - from + 1) as usize, 2]), |i| from + i[0] as i64);
    (graph, x)
}

/// The graph after the passes of these names.
fn after(graph: Graph, names: &[&str]) -> Graph {
    let options = Options { rounding: Rounding::Exact(1), ..Options::default() };
    let passes: Vec<_> = names.iter().map(|n| pipeline::find(n).expect("a pass")).collect();
    run_pipeline(graph, &passes, &mut PassCx::new(&options, &[]), |_| Flow::Continue).expect("it runs").0
}

#[test]
fn every_integer_inside_and_outside_is_read_as_before() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for log2_width in 2..9 {
        for log2_boxes in 1..log2_width {
            let (graph, x) = random_table(&mut rng, log2_width, log2_boxes);
            let rounded = after(graph.clone(), &["round-exactly"]);
            assert_eq!(rounded.values.len(), 3 + 3 * (log2_width - log2_boxes) as usize);
            assert_eq!(eval::integer(&graph, std::slice::from_ref(&x)), {
                let mut rounded = eval::integer(&rounded, &[x]);
                // Only the table itself counts what saturates.
                rounded.saturated = vec![0, rounded.saturated.iter().sum()];
                rounded
            });
        }
    }
}

#[test]
fn noise_of_every_bit_removed_is_in_front_of_the_next_read() {
    let (log2_width, log2_boxes) = (9, 4);
    let (graph, _) = random_table(&mut ChaCha8Rng::seed_from_u64(2), log2_width, log2_boxes);
    let rounded = after(graph, &["round-exactly"]);
    let regions = Regions::of(&rounded);
    let constraints: Vec<_> = regions.readings.iter().map(|r| (r.read, regions.constraint(r))).collect();
    for bit in 0..log2_width - log2_boxes {
        let (read, c) = &constraints[bit as usize];
        let moved = 4f64.powi((log2_width - bit) as i32);
        assert_eq!(*read, Read::Bit);
        assert_eq!((c.norm2_input, c.norm2_pbs), (moved, moved * f64::from(bit)));
        assert_eq!((c.half_box, c.boxes, c.dyadic_boxes), (0.25, 2, true));
    }
    let (read, c) = &constraints[(log2_width - log2_boxes) as usize];
    assert_eq!(*read, Read::Middles(16));
    assert_eq!((c.norm2_input, c.norm2_pbs, c.half_box), (1.0, 5.0, 1.0 / 64.0));
}

#[test]
fn a_circuit_with_noise_gives_the_integers() {
    let (graph, x) = random_table(&mut ChaCha8Rng::seed_from_u64(3), 8, 3);
    let exact = eval::integer(&graph, std::slice::from_ref(&x)).outputs;
    let circuit = after(graph, &["round-exactly", "fill-domains", "select-params", "lower-circuit"]);
    assert_eq!(eval::integer(&circuit, std::slice::from_ref(&x)).outputs, exact);
    assert_eq!(eval::simulate(&circuit, &[x], 4).outputs, exact);
}
