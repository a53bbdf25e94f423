//! Runs one case: reads the model, evaluates it on the suite's inputs, compares with the suite's outputs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fhe_compiler::onnx::protobuf::{Message, ModelProto, TensorProto, ValueInfoProto};
use fhe_compiler::onnx::{Batch, OnnxError, ReadOptions, read_bytes, read_tensor};
use fhe_ir::{Data, Graph, client, eval};
use ndarray::{ArrayD, Axis};

use super::case::{Case, Contents};
use super::integer;
use super::record::{How, Record, Status};
use super::scope::left_out;

/// Relative tolerance of the suite's own runner.
const RELATIVE: f64 = 1e-3;
/// Absolute tolerance of the suite's own runner.
const ABSOLUTE: f64 = 1e-7;
/// Longest reason in a record.
const REASON: usize = 160;

/// The record of a case.
pub fn run(case: &Case) -> Record {
    let result = catch_unwind(AssertUnwindSafe(|| outcome(case)));
    let (operator, outcome) =
        result.unwrap_or_else(|_| ("-".into(), Outcome::new(Status::Panic, "the program stopped by itself")));
    let Outcome { status, how, encrypted, reason } = outcome;
    let one_line: String = reason.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(REASON).collect();
    let reason = if one_line.is_empty() { "-".into() } else { one_line };
    Record { case: case.label(), operator, status, how, encrypted, reason }
}

struct Outcome {
    status: Status,
    how: How,
    encrypted: bool,
    reason: String,
}

impl Outcome {
    fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, how: How::Not, encrypted: false, reason: reason.into() }
    }
}

/// The operator of a model with one node, and what comes of the case.
fn outcome(case: &Case) -> (String, Outcome) {
    let model = match case.model() {
        Ok(model) => model,
        Err(error) => return ("-".into(), Outcome::new(Status::Skipped, error)),
    };
    let operator = match model.graph.node.as_slice() {
        [node] => node.op_type.clone(),
        _ => "-".into(),
    };
    if let Some(reason) = left_out(&operator) {
        return (operator, Outcome::new(Status::Skipped, reason));
    }
    let outcome = match case.contents() {
        Ok(contents) => tried(case, &contents, operator != "-"),
        Err(reason) => Outcome::new(Status::Skipped, reason),
    };
    (operator, outcome)
}

/// Ways to give the inputs, in the order they are tried: how, and how many inputs are encrypted at most.
const WAYS: [(How, usize); 5] =
    [(How::Rows, usize::MAX), (How::Rows, 1), (How::Whole, usize::MAX), (How::Whole, 1), (How::Constant, 0)];

fn tried(case: &Case, contents: &Contents, single: bool) -> Outcome {
    let wanted: Result<Vec<ArrayD<f64>>, String> = contents.outputs.iter().map(numbers).collect();
    let inputs: Result<Vec<ArrayD<f64>>, String> = contents.inputs.iter().map(numbers).collect();
    let (wanted, inputs) = match (wanted, inputs) {
        (Ok(wanted), Ok(inputs)) => (wanted, inputs),
        (Err(reason), _) | (_, Err(reason)) => return Outcome::new(Status::Skipped, reason),
    };
    let mut refused = String::new();
    for (how, encrypted) in WAYS {
        if how != How::Constant && (inputs.is_empty() || encrypted == 1 && inputs.len() == 1) {
            continue;
        }
        let given = match how {
            How::Constant => constants(contents),
            _ => evaluated(case, contents, &inputs, how, encrypted),
        };
        match given {
            Ok(given) => {
                return match compared(&given.outputs, &wanted) {
                    Ok(()) => {
                        let integer = given
                            .compiled
                            .filter(|_| single)
                            .map_or(Ok(false), |(graph, rows)| integer::compile(graph, &rows).map(|()| true));
                        let (encrypted, reason) = integer.map_or_else(|e| (false, e), |yes| (yes, String::new()));
                        Outcome { status: Status::Pass, how, encrypted, reason }
                    }
                    Err(Difference { undefined: true, reason }) => Outcome::new(Status::Refused, reason),
                    Err(Difference { undefined: false, reason }) => Outcome::new(Status::Wrong, reason),
                };
            }
            // What can be said of a model with encrypted inputs is worth more than that it has no constant outputs.
            Err(reason) if how != How::Constant || refused.is_empty() => refused = reason,
            Err(_) => {}
        }
    }
    Outcome::new(Status::Refused, refused)
}

/// What a way gives.
struct Given {
    outputs: Vec<ArrayD<f64>>,
    /// The graph and its rows, where there is a graph.
    compiled: Option<(Graph, Vec<ArrayD<f32>>)>,
}

/// The model with all inputs but the first `encrypted` ones as tensors of the file.
fn with_constants(contents: &Contents, encrypted: usize) -> ModelProto {
    let mut model = contents.model.clone();
    let graph = model.graph.mut_or_insert_default();
    let names: Vec<String> = graph.input.iter().map(|i: &ValueInfoProto| i.name.clone()).collect();
    for (name, tensor) in names.into_iter().zip(&contents.inputs).skip(encrypted) {
        graph.initializer.push(TensorProto { name, ..tensor.clone() });
    }
    graph.input.truncate(encrypted);
    model
}

fn evaluated(
    case: &Case,
    contents: &Contents,
    inputs: &[ArrayD<f64>],
    how: How,
    encrypted: usize,
) -> Result<Given, String> {
    let bytes = with_constants(contents, encrypted).write_to_bytes().map_err(|e| e.to_string())?;
    let batch = if how == How::Whole { Batch::Absent } else { Batch::First };
    let options = ReadOptions { batch, ..Default::default() };
    let graph = read_bytes(&case.name, &bytes, &options).map_err(|e| reason(&e))?;
    let row = |x: &ArrayD<f64>| {
        let x = x.mapv(|v| v as f32);
        match (how, x.ndim()) {
            (How::Whole, 0) => x.insert_axis(Axis(0)).insert_axis(Axis(0)),
            (How::Whole, _) => x.insert_axis(Axis(0)),
            _ => x,
        }
    };
    let rows: Vec<ArrayD<f32>> = inputs.iter().take(encrypted).map(row).collect();
    let rows = client::check_inputs(&graph, &rows).map_err(|e| e.to_string())?;
    let real = eval::float(&graph, &rows);
    let outputs = real.iter().zip(&graph.outputs).map(|(y, o)| client::post_process(&o.post, y).mapv(f64::from));
    let outputs = outputs.collect();
    Ok(Given { outputs, compiled: Some((graph, rows)) })
}

fn constants(contents: &Contents) -> Result<Given, String> {
    let bytes = with_constants(contents, 0).write_to_bytes().map_err(|e| e.to_string())?;
    let outputs = fhe_compiler::onnx::fold_bytes("model", &bytes, &ReadOptions::default()).map_err(|e| reason(&e))?;
    Ok(Given { outputs: outputs.iter().map(reals).collect(), compiled: None })
}

/// One phrase about a refusal.
fn reason(error: &OnnxError) -> String {
    match error {
        OnnxError::Unsupported { nodes, .. } => {
            nodes.first().map_or_else(String::new, |n| format!("{}: {}", n.op, n.reason))
        }
        other => other.to_string(),
    }
}

fn numbers(tensor: &TensorProto) -> Result<ArrayD<f64>, String> {
    read_tensor(tensor).map(|d| reals(&d))
}

fn reals(data: &Data) -> ArrayD<f64> {
    match data {
        Data::F32(a) => a.mapv(f64::from),
        Data::Int(a) => a.mapv(|v| v as f64),
    }
}

/// Where outputs differ.
#[derive(Debug)]
struct Difference {
    /// Whether only numbers are missing that integers cannot be.
    undefined: bool,
    reason: String,
}

/// Whether the outputs are those wanted. Axes of extent 1 do not count: a graph keeps a batch and a channel axis where
/// ONNX has none.
fn compared(got: &[ArrayD<f64>], wanted: &[ArrayD<f64>]) -> Result<(), Difference> {
    let wrong = |reason| Difference { undefined: false, reason };
    if got.len() != wanted.len() {
        return Err(wrong(format!("{} outputs, not {}", got.len(), wanted.len())));
    }
    let mut undefined = None;
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let squeezed = |a: &ArrayD<f64>| a.shape().iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
        if squeezed(got) != squeezed(wanted) {
            return Err(wrong(format!("output {i} has shape {:?}, not {:?}", got.shape(), wanted.shape())));
        }
        let close =
            |g: f64, w: f64| g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= ABSOLUTE + RELATIVE * w.abs();
        for (g, w) in got.iter().zip(wanted).filter(|(g, w)| !close(**g, **w)) {
            let reason = format!("output {i} has {g} where {w} is wanted");
            if w.is_finite() {
                return Err(wrong(reason));
            }
            undefined = Some(format!("{reason}: encrypted integers are finite"));
        }
    }
    undefined.map_or(Ok(()), |reason| Err(Difference { undefined: true, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_as_the_suite_does() {
        let y = |v: &[f64]| ArrayD::from_shape_vec(vec![1, v.len()], v.to_vec()).expect("a row");
        let ok = |a: &[f64], b: &[f64]| compared(&[y(a)], &[y(b)]).is_ok();
        assert!(ok(&[1.0, f64::NAN, f64::INFINITY], &[1.0005, f64::NAN, f64::INFINITY]));
        assert!(!ok(&[1.0], &[1.01]));
        assert!(!ok(&[1e-6], &[0.0]));
        assert!(!ok(&[1.0, 1.0], &[1.0]));
        assert!(compared(&[], &[y(&[1.0])]).is_err());
        assert!(compared(&[y(&[0.0])], &[y(&[f64::NAN])]).is_err_and(|d| d.undefined));
        assert!(compared(&[y(&[0.0, 0.0])], &[y(&[f64::NAN, 1.0])]).is_err_and(|d| !d.undefined));
        assert!(
            compared(&[y(&[1.0, 2.0])], &[y(&[1.0, 2.0]).into_shape_with_order(vec![2, 1, 1]).expect("two")]).is_ok()
        );
    }
}
