//! Hazards of the ONNX format: each model gives the right numbers in all its outputs, or is refused with a reason.

use std::path::{Path, PathBuf};

use fhe_compiler::compile::{Job, Outcome, compile};
use fhe_compiler::{data, onnx};
use fhe_ir::{Graph, client, eval};
use fhe_passes::{Bits, Flow, Options, Rounding};
use miette::Diagnostic;
use ndarray::{ArrayD, Axis, concatenate};

/// What is wanted of a model.
enum Wanted {
    /// So many outputs, equal to the reference.
    Values(usize),
    /// The error of that code, whose text names the culprit.
    Refused(&'static str, &'static str),
}

use Wanted::{Refused, Values};

/// Every model of `models/hazards`, without its ending.
const TABLE: [(&str, Wanted); 16] = [
    // Constants that are added in the graph, and multiply.
    ("hz_add_lossy", Values(1)),
    // Windows at the border count fewer elements.
    ("hz_avgpool_samepad", Values(1)),
    // The lower bound is left out.
    ("hz_clip_onlymax", Values(1)),
    // Four different pads.
    ("hz_conv_asym", Values(1)),
    // A node reads what nothing makes.
    ("hz_dangling", Refused("onnx::invalid-graph", "\"a\", which nothing makes")),
    ("hz_gemm_alpha", Values(1)),
    // Operators that do nothing; a Dropout at the output.
    ("hz_ident", Values(1)),
    // Weights of 4 bits.
    ("hz_int4_qdq", Values(1)),
    // A product that is an output, and is added to as well.
    ("hz_matmul_graph_out", Values(2)),
    // Three operands.
    ("hz_max3", Values(1)),
    ("hz_msft", Refused("onnx::unsupported-op", "com.microsoft::FusedGemm")),
    // Names that differ only where identifiers cannot.
    ("hz_names", Values(1)),
    ("hz_noopset", Refused("onnx::opset", "none")),
    // The output is the input.
    ("hz_passthrough", Values(1)),
    // An output of Split that is not its first.
    ("hz_split2", Values(1)),
    ("hz_unk_default", Refused("onnx::unsupported-op", "FooBar")),
];

fn path(model: &str, ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/hazards/{model}.{ending}"))
}

/// The graph and its number of reference outputs, or nothing for a model that is rightly refused.
fn read(model: &str, wanted: &Wanted) -> Option<(Graph, usize)> {
    let result = onnx::read_file(&path(model, "onnx"), &onnx::ReadOptions::default());
    let (outputs, refusal) = match wanted {
        Values(n) => (*n, None),
        Refused(code, text) => (0, Some((code, text))),
    };
    match (result, refusal) {
        (Ok(graph), _) if !matches!(wanted, Refused(..)) => Some((graph, outputs)),
        (Ok(_), _) => panic!("{model} reads, and must not"),
        (Err(error), Some((code, text))) => {
            assert_eq!(error.code().map(|c| c.to_string()).as_deref(), Some(*code), "{model}: {error}");
            assert!(error.to_string().contains(text), "{model}: {error}");
            None
        }
        (Err(error), None) => panic!("{model}: {error}"),
    }
}

fn input(model: &str) -> ArrayD<f32> {
    data::read_npy(&path(model, "in0.npy")).unwrap()
}

/// Outputs as the client has them.
fn float_outputs(graph: &Graph, x: &ArrayD<f32>) -> Vec<ArrayD<f32>> {
    let raw = eval::float(graph, std::slice::from_ref(x));
    graph.outputs.iter().zip(&raw).map(|(o, y)| client::post_process(&o.post, y)).collect()
}

fn worst(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d >= 0.0 { f32::max(m, d) } else { f32::NAN })
}

#[test]
fn the_table_lists_every_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/hazards");
    let found = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = found.filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    found.sort();
    let listed: Vec<_> = TABLE.iter().map(|(model, _)| path(model, "onnx")).collect();
    assert_eq!(found, listed);
}

#[test]
fn hazards_give_the_reference_s_numbers_or_a_reason() {
    for (model, wanted) in &TABLE {
        let Some((graph, outputs)) = read(model, wanted) else { continue };
        fhe_ir::verify::verify(&graph).unwrap();
        let x = input(model);
        let got = float_outputs(&graph, &x);
        assert_eq!(got.len(), outputs, "{model}");
        for (i, y) in got.iter().enumerate() {
            let reference = data::read_npy(&path(model, &format!("out{i}.npy"))).unwrap();
            let worst = worst(y, &reference);
            // ONNX Runtime takes its own operands of 8 bits for weights of 4; the next test has the product by hand.
            let most = if *model == "hz_int4_qdq" { 4e-3 } else { 1e-4 };
            assert!(worst <= most, "{model}: output {i} differs by {worst}");
        }
        assert!(!path(model, &format!("out{outputs}.npy")).exists(), "{model} has more outputs");
    }
}

#[test]
fn weights_of_four_bits_are_those_of_the_file() {
    let (graph, _) = read("hz_int4_qdq", &Values(1)).expect("it reads");
    let x = input("hz_int4_qdq");
    let y = &float_outputs(&graph, &x)[0];
    // Two rows of four: 0 1 2 3 and 4 5 6 7, again and again, in steps of 0.1.
    let weight = |i: usize, o: usize| 0.1 * (4 * (i % 2) + o) as f32;
    for ((row, got), o) in x.outer_iter().zip(y.outer_iter()).flat_map(|pair| (0..4).map(move |o| (pair.clone(), o))) {
        let sum: f32 = row.iter().enumerate().map(|(i, x)| x * weight(i, o)).sum();
        assert!((got[[o]] - sum).abs() < 1e-5, "{} for {sum}", got[[o]]);
    }
}

#[test]
fn hazards_compile_to_circuits_that_compute_the_same() {
    let options = Options { bits: Bits::uniform(8), rounding: Rounding::Off, ..Options::default() };
    for (model, wanted) in &TABLE {
        let Some((graph, outputs)) = read(model, wanted) else { continue };
        let x = input(model);
        let shape = graph.value(graph.inputs()[0]).shape.clone();
        let calibration = [concatenate![Axis(0), data::synthetic_rows(&shape, 64, None, 1), x]];
        let job = Job {
            model: graph.clone(),
            options: &options,
            calibration: &calibration,
            evaluate: &[],
            labels: None,
            budget: None,
            boxes: None,
            assumed: vec![],
        };
        let Outcome::Circuit(compiled) = compile(job, |_| Flow::Continue).unwrap_or_else(|e| panic!("{model}: {e}"))
        else {
            panic!("{model}: the default pipeline ends with a circuit")
        };
        let circuit = &compiled.artifact.circuit;
        let ints = client::quantize_rows(circuit, 0, &x).unwrap();
        let integer = eval::integer(circuit, &[ints]).outputs;
        assert_eq!((circuit.outputs.len(), integer.len()), (outputs, outputs), "{model}");
        for (i, (y, float)) in integer.iter().zip(float_outputs(&graph, &x)).enumerate() {
            assert_eq!(circuit.outputs[i].name, graph.outputs[i].name, "{model}");
            let y = client::post_process(&circuit.outputs[i].post, &client::dequantize(circuit, i, y));
            let size = float.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
            // Rows, weights and tables have 8 bits each: steps of 1/127 of the largest value, of which a few add up.
            let worst = worst(&y, &float);
            assert!(worst <= 0.05 * size, "{model}: output {i} differs by {worst}, values up to {size}");
        }
    }
}
