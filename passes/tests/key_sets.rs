//! Circuits of several key sets, from the text of a tabled graph to the noise that each op states.

use fhe_ir::text::{Sidecar, parse, print};
use fhe_ir::{CircuitKeys, Graph, Key, Op, Value, eval, verify};
use fhe_passes::lower_circuit::LowerCircuit;
use fhe_passes::manager::{Flow, run_pipeline};
use fhe_passes::params::ErrorTarget;
use fhe_passes::pass::PassCx;
use fhe_passes::select_params::{self, SelectParams};
use fhe_passes::{Options, pass::Pass};
use ndarray::{ArrayD, IxDyn};

static LOWERING: [&dyn Pass; 2] = [&SelectParams, &LowerCircuit];

fn circuit(text: &str, options: &Options) -> Graph {
    let graph = parse(text, &Sidecar::new()).expect("a graph");
    let mut cx = PassCx::new(options, &[]);
    let (circuit, _) = run_pipeline(graph, &LOWERING, &mut cx, |_| Flow::Continue).unwrap_or_else(|e| panic!("{e:?}"));
    verify::verify(&circuit).unwrap_or_else(|e| panic!("{e}"));
    circuit
}

fn predicted_ns(circuit: &Graph) -> f64 {
    select_params::predicted_ns(circuit, &Options::default())
}

fn options(max_key_bytes: u64) -> Options {
    Options { max_key_bytes, ..Options::default() }
}

/// Sixty-four tables of two boxes and four of 128, whose results meet in one sum.
fn coarse_and_fine() -> String {
    let entries: Vec<String> = (0..128).map(|e| e.to_string()).collect();
    format!(
        "eir 2 tabled\ngraph g\n%b: [0, 1][1,64] = input ; scale=1\n%x: [0, 127][1,4] = input ; scale=1\n\
         %bit: [0, 1][1,64] = lut %b, @bit.t, domain=[0, 1], read=exact ; scale=1\n\
         %fine: [0, 127][1,4] = lut %x, @fine.t, domain=[0, 127], read=exact ; scale=1\n\
         %count: [0, 64][1,4] = dot %bit, @w ; scale=1\n%sum: [0, 191][1,4] = add %count, %fine ; scale=1\n\
         output %sum \"y\", read=exact, domain=[0, 191]\nconst @w: i[4,64] = 1*256\n\
         table @bit.t: [1,2] = 0 1\ntable @fine.t: [1,128] = {}\n",
        entries.join(" ")
    )
}

#[test]
fn results_of_two_sets_meet_behind_a_conversion() {
    let text = coarse_and_fine();
    let several = circuit(&text, &options(4 << 30));
    let conversion =
        |v: &&Value| matches!(v.op, Op::Keyswitch { .. }) && v.cipher.as_ref().is_some_and(|c| c.key == Key::Big);
    let conversions = several.values.iter().filter(conversion);
    assert_eq!((several.params.len(), conversions.count()), (2, 1));
    let one = circuit(&text, &options(0));
    let (several_ns, one_ns) = (predicted_ns(&several), predicted_ns(&one));
    println!("{:.1} ms in place of {:.1} ms", several_ns * 1e-6, one_ns * 1e-6);
    assert!(several_ns < 0.3 * one_ns, "{several_ns} {one_ns}");
    for circuit in [&several, &one] {
        let fails = circuit.values.iter().filter_map(|v| match v.op {
            Op::Pbs { log2_fail, .. } => log2_fail,
            _ => None,
        });
        let fails: Vec<f32> = fails.chain(circuit.outputs.iter().filter_map(|o| o.log2_fail)).collect();
        assert!(fails.len() == 3 && fails.iter().all(|f| *f <= -40.0), "{fails:?}");
        let input = |extent: usize, width: usize| {
            ArrayD::from_shape_fn(IxDyn(&[8, extent]), |i| ((i[0] * 5 + i[1] * 7) % width) as i64)
        };
        let inputs = [input(64, 2), input(4, 128)];
        let exact = eval::integer(&parse(&text, &Sidecar::new()).expect("a graph"), &inputs);
        assert_eq!(eval::simulate(circuit, &inputs, 1).outputs, exact.outputs);
    }
}

#[test]
fn the_text_of_a_graph_with_several_sets_lowers_to_the_same_circuit() {
    let (text, options) = (coarse_and_fine(), options(4 << 30));
    let tabled = parse(&text, &Sidecar::new()).expect("a graph");
    let run = |graph: Graph, passes: &[&dyn Pass]| {
        run_pipeline(graph, passes, &mut PassCx::new(&options, &[]), |_| Flow::Continue).map(|(graph, _)| graph)
    };
    let planned = run(tabled, &LOWERING[..1]).expect("there are parameters");
    let printed = print(&planned);
    for part in ["params !p1 = ", " ; scale=1 bits=1.00 home=!p", " set=!p", " convert=2^"] {
        assert!(printed.text.contains(part), "{part:?} is missing:\n{}", printed.text);
    }
    let read = parse(&printed.text, &printed.sidecar).expect("a graph");
    assert_eq!(read, planned);
    // What the compiler chose earlier plays no part.
    let lowered = run(read, &LOWERING[1..]).expect("all is planned");
    assert_eq!(lowered, circuit(&text, &options));
    // Without its plan the graph is refused, and does not end up under the first set.
    let mut stripped = planned;
    stripped.values[0].facts.planned = None;
    let refusal = run(stripped, &LOWERING[1..]).expect_err("nothing says which set is for the value");
    assert!(refusal.to_string().contains("parameter sets, and not every value"), "{refusal}");
}

#[test]
fn keys_stay_within_their_size() {
    let text = coarse_and_fine();
    let bytes = |circuit: &Graph| {
        let keys = CircuitKeys::of(circuit);
        keys.bootstrap_bytes() + keys.keyswitch_bytes()
    };
    for error in [ErrorTarget::Noise(-11.0), ErrorTarget::PerTable(2f64.powi(-40))] {
        let of = |max_key_bytes| circuit(&text, &Options { error, ..options(max_key_bytes) });
        let one = of(0);
        let mut sets = 0;
        for mib in [1, 50, 100, 200, 400, 1000, 4000] {
            let several = of(mib << 20);
            assert!(bytes(&several) <= bytes(&one).max(mib << 20), "{mib} MiB: {}", bytes(&several));
            assert!(predicted_ns(&several) <= predicted_ns(&one));
            sets = sets.max(several.params.len());
        }
        assert!(sets > 1 && one.params.len() == 1);
    }
}

#[test]
fn global_targets_and_noise_budgets_are_shared_out() {
    let text = coarse_and_fine();
    for error in [ErrorTarget::Global(1e-3), ErrorTarget::Noise(-11.0), ErrorTarget::PerTable(1e-2)] {
        let cost = |max| predicted_ns(&circuit(&text, &Options { error, ..options(max) }));
        let (several, one) = (cost(4 << 30), cost(0));
        println!("{error:?}: {:.2}", several / one);
        assert!(several <= one, "{error:?}: {several} {one}");
    }
}
