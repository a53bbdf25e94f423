//! Circuits with several parameter sets on encrypted data: integers, noise, key files, and keys that do not fit.
//!
//! The noise that the circuits of `circuits/` state is what the formulas of `docs/src/parameters.md` give.

use std::path::Path;

use fhe_backend::{
    Circuit, Error, EvaluationKeys, Measurement, Randomness, SecretKeys, decrypt, encrypt, evaluate, files, generate,
    measure, silent,
};
use fhe_ir::text::{Sidecar, parse};
use fhe_ir::{CircuitKeys, Graph, Interval, Op, eval};
use ndarray::{ArrayD, IxDyn};

const DIGEST: [u8; 32] = [9; 32];

fn graph(name: &str) -> Graph {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/circuits").join(name).with_extension("eir");
    let text = std::fs::read_to_string(path).expect("a circuit");
    parse(&text, &Sidecar::new()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn circuit(graph: Graph) -> Circuit {
    Circuit::new(graph, DIGEST).unwrap_or_else(|e| panic!("{e}"))
}

/// Every integer of every input, in turn.
fn rows(graph: &Graph, rows: usize) -> Vec<ArrayD<i64>> {
    let input = |(index, id): (usize, _)| {
        let value = graph.value(id);
        let Interval { lo, hi } = value.interval().expect("an integer");
        let mut shape = value.shape.clone();
        shape[0] = rows;
        let next = |i: usize| lo + (i * (3 + 2 * index) + i / 7) as i64 % (hi - lo + 1);
        let data = (0..rows * value.elements()).map(next).collect();
        ArrayD::from_shape_vec(IxDyn(&shape), data).expect("as many")
    };
    graph.inputs().into_iter().enumerate().map(input).collect()
}

/// Runs a circuit on encrypted rows, through files, and measures it; the results are those of the integer evaluator and
/// the noise is that of the predictions.
fn runs_as_predicted(name: &str) -> (Circuit, Vec<Measurement>) {
    let circuit = circuit(graph(name));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let mut randomness = Randomness::insecure_deterministic(11);
    let (secret, evaluation) = generate(&circuit, &mut randomness, &silent);
    files::write_secret(&at("s"), &secret, false).expect("a new file");
    files::write_evaluation(&at("e"), &evaluation).expect("a new file");
    let size = std::fs::metadata(at("e")).expect("written").len();
    assert_eq!(size, 104 + EvaluationKeys::bytes(circuit.keys()));
    let secret: SecretKeys = files::read_secret(&at("s"), &circuit).expect("just written");
    let server = files::read_evaluation(&at("e"), &circuit).expect("just written").expand(&silent);

    let inputs = rows(circuit.graph(), 1);
    let encrypted = encrypt(&circuit, &secret, &inputs, &mut randomness).expect("in range");
    files::write_inputs(&at("x"), &encrypted).expect("a new file");
    let read = files::read_inputs(&at("x"), &circuit).expect("just written");
    assert_eq!(read, encrypted);
    let outputs = evaluate(&circuit, &server, &read, &silent).expect("its keys");
    files::write_outputs(&at("y"), &outputs).expect("a new file");
    let read = files::read_outputs(&at("y"), &circuit).expect("just written");
    assert_eq!(read, outputs);
    let wanted = |inputs: &[_]| eval::integer(circuit.graph(), inputs).outputs;
    assert_eq!(decrypt(&circuit, &secret, &read).expect("its keys"), wanted(&inputs));

    let inputs = rows(circuit.graph(), 5);
    let (measured, outputs) = measure(&circuit, &secret, &server, &inputs, &mut randomness, &silent).expect("its keys");
    assert_eq!(decrypt(&circuit, &secret, &outputs).expect("its keys"), wanted(&inputs));
    for m in &measured {
        // Six standard deviations of a mean of squares, and what the formulas are off.
        let tolerance = 6.0 * (2.0 / m.count as f64).sqrt() + 0.15;
        let place = &circuit.graph().value(m.value).name;
        assert!((m.variance_ratio - 1.0).abs() < tolerance, "{name}, %{place}: {m:?}");
        assert!(m.mean.abs() < 6.0 / (m.count as f64).sqrt(), "{name}, %{place}: {m:?}");
        assert_eq!(m.misread, 0, "{name}, %{place}");
    }
    (circuit, measured)
}

fn counts(keys: &CircuitKeys) -> [usize; 3] {
    [keys.secret.len(), keys.bootstrap.len(), keys.keyswitch.len()]
}

#[test]
fn two_levels_of_bootstrap_keys_share_their_secret_keys() {
    let (circuit, measured) = runs_as_predicted("two-levels");
    assert_eq!(counts(circuit.keys()), [2, 2, 1]);
    let sd = |name: &str| {
        let of = |m: &&Measurement| circuit.graph().value(m.value).name == name;
        measured.iter().find(of).expect("measured").measured_log2_sd
    };
    assert!(sd("fine") < sd("coarse") - 4.0, "{} and {}", sd("fine"), sd("coarse"));
}

#[test]
fn sets_without_a_common_key_are_linked_by_keyswitches() {
    let (circuit, _) = runs_as_predicted("linked-sets");
    assert_eq!(counts(circuit.keys()), [4, 2, 2]);
}

#[test]
fn values_of_two_sets_add_up_behind_a_conversion() {
    let (circuit, _) = runs_as_predicted("conversion");
    assert_eq!(counts(circuit.keys()), [4, 2, 4]);
}

#[test]
fn tables_of_two_sizes_read_one_keyswitched_value() {
    let (circuit, _) = runs_as_predicted("two-sizes");
    assert_eq!(counts(circuit.keys()), [3, 2, 1]);
}

#[test]
fn keys_that_do_not_fit_are_named() {
    let two = circuit(graph("two-sizes"));
    let mut one = graph("two-sizes");
    // The finer table under the set of the coarser one: the same circuit without the second bootstrap key.
    let params = one.values[2].cipher.as_ref().expect("encrypted").params;
    one.values[3].cipher.as_mut().expect("encrypted").params = params;
    let one = circuit(one);
    let mut randomness = Randomness::insecure_deterministic(12);
    let (secret, evaluation) = generate(&one, &mut randomness, &silent);
    let server = evaluation.expand(&silent);
    let encrypted = encrypt(&two, &secret, &rows(two.graph(), 1), &mut randomness).expect("the input's key is there");
    let error = evaluate(&two, &server, &encrypted, &silent).expect_err("a key is missing");
    let message = "the evaluation key given has no bootstrap key n=750 to k=1 N=2048 2^23x1, which the circuit uses";
    assert_eq!(error.to_string(), message);

    let outputs = evaluate(&one, &server, &encrypted, &silent).expect("its keys");
    let error = decrypt(&two, &secret, &outputs).expect_err("a key is missing");
    assert_eq!(error.to_string(), "the secret key given has no key k=1 N=2048, which the circuit uses");

    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("e");
    files::write_evaluation(&path, &evaluation).expect("a new file");
    assert!(matches!(files::read_evaluation(&path, &two), Err(Error::BadContents { .. })));
}

#[test]
fn circuits_whose_keys_no_machine_holds_are_refused() {
    let mut huge = graph("two-sizes");
    for (i, set) in huge.params.iter_mut().enumerate() {
        (set.glwe_dimension, set.log2_polynomial_size, set.lwe_dimension) = (1 + i as u32, 16, 2048);
        (set.pbs.base_log, set.pbs.level) = (1, 40);
    }
    let error = Circuit::new(huge, DIGEST).expect_err("too large").to_string();
    assert!(error.contains("the limit is 137438953472: bootstrap key n=2048 to k=1 N=65536 2^1x40, "), "{error}");

    let mut all = graph("two-sizes");
    let Op::Keyswitch { ks, .. } = &mut all.values[1].op else { panic!("a keyswitch") };
    (ks.base_log, ks.level) = (16, 4);
    let error = Circuit::new(all, DIGEST).expect_err("all bits").to_string();
    assert!(error.contains("the keyswitch key k=3 N=512 to n=750 2^16x4 keeps all 64 bits"), "{error}");
}
