//! A circuit for which several parameter sets are chosen, from its tables to decrypted integers and measured noise.

use fhe_backend::{Circuit, Randomness, decrypt, generate, measure, silent};
use fhe_ir::text::{Sidecar, parse};
use fhe_ir::{Op, eval};
use fhe_passes::lower_circuit::LowerCircuit;
use fhe_passes::params::ErrorTarget;
use fhe_passes::select_params::SelectParams;
use fhe_passes::{Flow, Options, PassCx, run_pipeline};
use ndarray::{ArrayD, IxDyn};

/// Four tables of 64 boxes, two hundred of 4, and four of 11 that read sums of both.
const TABLED: &str = "eir 2 tabled
graph unequal
%x: [0, 63][1,4] = input ; scale=1
%y: [0, 3][1,200] = input ; scale=1
%fine: [0, 7][1,4] = lut %x, @eighth, domain=[0, 63], read=exact
%coarse: [0, 3][1,200] = lut %y, @turn, domain=[0, 3], read=exact
%few: [0, 3][1,4] = slice %coarse, starts=[0,3] steps=[1,2]
%sum: [0, 10][1,4] = add %fine, %few
%last: [0, 10][1,4] = lut %sum, @back, domain=[0, 10], read=exact
output %coarse \"coarse\", read=exact, domain=[0, 3]
output %last \"last\", read=exact, domain=[0, 10]
table @eighth: [1,64] = 0*8 1*8 2*8 3*8 4*8 5*8 6*8 7*8
table @turn: [1,4] = 2 0 3 1
table @back: [1,11] = 10 9 8 7 6 5 4 3 2 1 0
";

#[test]
fn a_circuit_of_several_chosen_sets_decrypts_to_its_integers_with_the_predicted_noise() {
    let tabled = parse(TABLED, &Sidecar::new()).unwrap();
    let options = Options { error: ErrorTarget::PerTable(1e-9), max_key_bytes: 4 << 30, ..Options::default() };
    let mut cx = PassCx::new(&options, &[]);
    let (graph, _) = run_pipeline(tabled, &[&SelectParams, &LowerCircuit], &mut cx, |_| Flow::Continue).unwrap();
    let circuit = Circuit::new(graph, [3; 32]).unwrap();
    let keys = circuit.keys();
    assert!(keys.bootstrap.len() > 1, "{:?}", circuit.graph().params);

    let input = |seed: usize, width: usize, lo_hi: usize| {
        let next = |i: usize| ((i * 31 + seed + i / 5) % lo_hi) as i64;
        ArrayD::from_shape_vec(IxDyn(&[3, width]), (0..3 * width).map(next).collect()).unwrap()
    };
    let inputs = [input(1, 4, 64), input(2, 200, 4)];
    let mut randomness = Randomness::insecure_deterministic(21);
    let (secret, evaluation) = generate(&circuit, &mut randomness, &silent);
    let server = evaluation.expand(&silent);
    let (measured, outputs) = measure(&circuit, &secret, &server, &inputs, &mut randomness, &silent).unwrap();
    let decrypted = decrypt(&circuit, &secret, &outputs).unwrap();
    assert_eq!(decrypted, eval::integer(circuit.graph(), &inputs).outputs);
    for m in measured {
        let value = circuit.graph().value(m.value);
        if matches!(value.op, Op::Keyswitch { .. } | Op::Pbs { .. }) {
            // Six standard deviations of a mean of squares, and what the formulas are off.
            let tolerance = 6.0 * (2.0 / m.count as f64).sqrt() + 0.15;
            assert!((m.variance_ratio - 1.0).abs() < tolerance, "%{}: {m:?}", value.name);
            assert_eq!(m.misread, 0, "%{}", value.name);
        }
    }
}
