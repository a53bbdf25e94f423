//! From a model to decrypted answers: exactness, accuracy, noise and statistics of whole compilations.

use std::path::PathBuf;

use fhe_backend::measure::{Measurement, measure};
use fhe_backend::{Circuit, Randomness, commands, decrypt, encrypt, evaluate, generate, silent};
use fhe_compiler::compile::{Compiled, Job, Outcome, Report, compile};
use fhe_compiler::report::statistics;
use fhe_compiler::{data, onnx};
use fhe_ir::text::{Sidecar, parse};
use fhe_ir::{Graph, Op, eval};
use fhe_passes::params::ErrorTarget;
use fhe_passes::{Bits, Flow, Options, Rounding};
use ndarray::ArrayD;

fn bundled(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rows(path: &str) -> ArrayD<f32> {
    data::read_npy(&bundled(path)).unwrap()
}

/// The two-layer network of the book.
fn mlp2() -> Graph {
    parse(&std::fs::read_to_string(bundled("models/mlp2.eir")).unwrap(), &Sidecar::default()).unwrap()
}

fn arrhythmia() -> Graph {
    onnx::read_file(&bundled("models/arrhythmia/mitbih_mlp.onnx"), &onnx::ReadOptions::default()).unwrap()
}

fn compiled(
    model: Graph,
    options: &Options,
    calibration: ArrayD<f32>,
    evaluation: Option<(ArrayD<f32>, Vec<usize>)>,
) -> Compiled {
    let (evaluate, labels) = evaluation.map_or((vec![], None), |(x, y)| (vec![x], Some(y)));
    let calibration = [calibration];
    let labels = labels.as_deref();
    let job = Job {
        model,
        options,
        calibration: &calibration,
        evaluate: &evaluate,
        labels,
        budget: None,
        boxes: None,
        assumed: vec![],
    };
    match compile(job, |_| Flow::Continue).unwrap() {
        Outcome::Circuit(compiled) => *compiled,
        Outcome::Stopped(_) => panic!("the default pipeline ends with a circuit"),
    }
}

fn circuit(compiled: &Compiled) -> Circuit {
    Circuit::new(compiled.artifact.circuit.clone(), compiled.artifact.digest()).unwrap()
}

#[test]
fn without_rounding_every_decrypted_integer_is_the_integer_circuits() {
    let options = Options { bits: Bits::uniform(2), rounding: Rounding::Off, ..Options::default() };
    let x = data::synthetic_rows(&[1, 4], 20, None, 7);
    let circuit = circuit(&compiled(mlp2(), &options, data::synthetic_rows(&[1, 4], 256, None, 1), None));
    let mut randomness = Randomness::insecure_deterministic(3);
    let (secret, keys) = generate(&circuit, &mut randomness, &silent);
    let ints = commands::quantize(&circuit, &[x]).unwrap();
    let inputs = encrypt(&circuit, &secret, &ints, &mut randomness).unwrap();
    let outputs = evaluate(&circuit, &keys.expand(&silent), &inputs, &silent).unwrap();
    let decrypted = decrypt(&circuit, &secret, &outputs).unwrap();
    let exact = eval::integer(circuit.graph(), &ints).outputs;
    assert_eq!(decrypted, exact);
    let different: std::collections::BTreeSet<_> = exact[0].iter().collect();
    assert!(different.len() > 2, "the rows give several integers, so that equality means something");
}

#[test]
fn exact_rounding_decrypts_to_the_integer_circuits_result() {
    let options = Options { bits: Bits::uniform(4), rounding: Rounding::Exact(3), ..Options::default() };
    let x = data::synthetic_rows(&[1, 4], 12, None, 7);
    let circuit = circuit(&compiled(mlp2(), &options, data::synthetic_rows(&[1, 4], 256, None, 1), None));
    let bits = |v: &&fhe_ir::Value| matches!(v.op, Op::Pbs { read: fhe_ir::Read::Bit, .. });
    assert!(circuit.graph().values.iter().filter(bits).count() > 2, "some bits are removed");
    let mut randomness = Randomness::insecure_deterministic(5);
    let (secret, keys) = generate(&circuit, &mut randomness, &silent);
    let ints = commands::quantize(&circuit, &[x]).unwrap();
    let exact = eval::integer(circuit.graph(), &ints).outputs;
    let (measured, outputs) =
        measure(&circuit, &secret, &keys.expand(&silent), &ints, &mut randomness, &silent).unwrap();
    assert_eq!(decrypt(&circuit, &secret, &outputs).unwrap(), exact);
    for m in measured {
        let value = circuit.graph().value(m.value);
        assert_eq!(m.misread, 0, "%{}", value.name);
        // Few elements, and noise of bits is that of their operand many times over: what matters is the order.
        assert!(m.count == 0 || (0.1..4.0).contains(&m.variance_ratio), "%{}: {}", value.name, m.variance_ratio);
    }
    assert_eq!(exact, eval::simulate(circuit.graph(), &ints, 1).outputs, "the simulator agrees");
    let different: std::collections::BTreeSet<_> = exact[0].iter().collect();
    assert!(different.len() > 2, "the rows give several integers, so that equality means something");
}

/// Measured over predicted variance of all values of one kind, weighted by their elements.
fn pooled(circuit: &Circuit, measured: &[Measurement], kind: impl Fn(&Op) -> bool) -> (f64, u64) {
    let of_kind = measured.iter().filter(|m| kind(&circuit.graph().value(m.value).op));
    let (sum, count) =
        of_kind.fold((0.0, 0), |(sum, count), m| (sum + m.variance_ratio * m.count as f64, count + m.count));
    (sum / count as f64, count)
}

#[test]
fn measured_noise_is_the_predicted_one_at_two_parameter_sets() {
    let mut sets = vec![];
    for (bits, rounding, p_error) in [(4, 4, 0.01), (6, 5, 1e-4)] {
        let options = Options {
            bits: Bits::uniform(bits),
            rounding: Rounding::Approximate(rounding),
            error: ErrorTarget::PerTable(p_error),
            ..Options::default()
        };
        let circuit = circuit(&compiled(arrhythmia(), &options, rows("data/arrhythmia/calibration_x.npy"), None));
        let mut randomness = Randomness::insecure_deterministic(u128::from(bits));
        let (secret, keys) = generate(&circuit, &mut randomness, &silent);
        let ints = commands::quantize(&circuit, &[data::first_rows(&rows("data/arrhythmia/test_x.npy"), 4)]).unwrap();
        let (measured, _) = measure(&circuit, &secret, &keys.expand(&silent), &ints, &mut randomness, &silent).unwrap();
        for (what, kind) in [
            ("bootstrap outputs", (|op: &Op| matches!(op, Op::Pbs { .. })) as fn(&Op) -> bool),
            ("table inputs", |op: &Op| matches!(op, Op::Keyswitch { .. })),
        ] {
            let (ratio, count) = pooled(&circuit, &measured, kind);
            // 704 samples: the ratio itself has a standard deviation of 5 %.
            assert!(count >= 700, "{count} samples");
            assert!(
                (0.8..1.2).contains(&ratio),
                "{}: {what} have {ratio:.3} of the predicted variance",
                circuit.graph().params[0]
            );
        }
        sets.push(circuit.graph().params[0]);
    }
    assert_ne!(sets[0], sets[1], "two sets");
}

#[test]
fn the_bundled_classifier_keeps_its_accuracy() {
    let x = rows("data/arrhythmia/test_x.npy");
    let labels = data::read_labels(&bundled("data/arrhythmia/test_y.npy"), x.shape()[0]).unwrap();
    let calibration = rows("data/arrhythmia/calibration_x.npy");
    let options = Options::default();
    let compiled = compiled(arrhythmia(), &options, calibration, Some((x, labels)));
    let accuracy = compiled.report.accuracy.clone().unwrap();
    // 0.98 of these rows is what ONNX Runtime gives; a row is 0.33 points.
    assert!((accuracy.float - 0.98).abs() < 1e-9, "{accuracy:?}");
    assert!(accuracy.integer > accuracy.float - 0.015 && accuracy.simulated > accuracy.float - 0.015, "{accuracy:?}");
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        // The accuracy has its own bounds above: a row more or less is not a changed price.
        let price = Report { accuracy: None, ..compiled.report };
        insta::assert_snapshot!("arrhythmia-statistics", statistics(&price));
    });
}
