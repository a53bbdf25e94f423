//! Models that are refused: the error says what, where, what was met and what to do, and names all nodes at once.

#[allow(dead_code, unreachable_pub)]
use std::collections::BTreeMap;

use crate::onnx_support::{Builder, int, ints, real};
use fhe_compiler::onnx::{Batch, OnnxError, ReadOptions, read_bytes, read_file};
use miette::Diagnostic;
use onnx_ir::TensorProto;

/// Message, code and help of a refusal.
fn refusal(result: Result<fhe_ir::Graph, OnnxError>) -> (String, String, String) {
    let error = result.expect_err("the model is refused");
    let code = error.code().expect("errors have a code").to_string();
    let help = error.help().expect("errors have a help").to_string();
    (error.to_string(), code, help)
}

fn relu() -> Builder {
    Builder::new(17).input("x", &["N", "4"]).named("r", "Relu", &["x"], "y", vec![]).output("y")
}

#[test]
fn bytes_that_are_not_onnx() {
    for bytes in [&b""[..], b"not a model at all", b"\x08\x08", b"PK\x03\x04"] {
        let (_, code, _) = refusal(read_bytes("m", bytes, &ReadOptions::default()));
        assert_eq!(code, "onnx::not-onnx", "{bytes:?}");
    }
    let bytes = relu().bytes();
    let (message, code, _) = refusal(read_bytes("m", &bytes[..bytes.len() - 1], &ReadOptions::default()));
    assert_eq!(code, "onnx::truncated");
    assert!(message.contains(&format!("the {} bytes", bytes.len() - 1)), "{message}");
}

#[test]
fn a_file_that_is_not_there() {
    let (message, code, _) = refusal(read_file("no/such/file.onnx".as_ref(), &ReadOptions::default()));
    assert_eq!(code, "onnx::unreadable");
    assert!(message.contains("no/such/file.onnx"), "{message}");
}

#[test]
fn all_unsupported_nodes_are_reported_at_once() {
    let model = Builder::new(17).input("x", &["N", "3", "8", "8"]);
    let model = model.named("pool", "MaxUnpool", &["x"], "a", vec![]);
    let model = model.named("act", "Relu", &["a"], "b", vec![]).named("rnn", "GRU", &["b"], "c", vec![]);
    let model = model.named("cat", "Einsum", &["c", "b"], "c2", vec![]);
    let model = model.named("pool2", "MaxUnpool", &["c2"], "d", vec![]);
    let model = model.named("own", "my.domain::Thing", &["x"], "e", vec![]).named("sq", "Det", &["x"], "f", vec![]);
    let error = model.output("d").output("e").output("f").read().unwrap_err();
    let OnnxError::Unsupported { nodes, .. } = &error else { panic!("{error}") };
    let listed: Vec<_> = nodes.iter().map(|n| (n.node.as_str(), n.op.as_str())).collect();
    let expected = [
        ("pool", "MaxUnpool"),
        ("rnn", "GRU"),
        ("cat", "Einsum"),
        ("pool2", "MaxUnpool"),
        ("own", "my.domain::Thing"),
        ("sq", "Det"),
    ];
    assert_eq!(listed, expected);
    let message = error.to_string();
    assert!(message.contains("6 nodes of model \"test\" have no encrypted form"), "{message}");
    assert!(message.contains("MaxUnpool ×2 (\"pool\", \"pool2\"), Det ×1 (\"sq\"), Einsum ×1 (\"cat\")"), "{message}");
    assert_eq!(nodes[0].inputs, ["\"x\" [1, 3, 8, 8]"]);
    assert!(nodes.iter().all(|n| n.help().is_some() && n.code().is_some()));
    assert_eq!(error.related().unwrap().count(), 6);
}

#[test]
fn operators_with_a_form_that_is_not_supported_say_why() {
    let image = |dims: &[&str]| Builder::new(17).input("x", dims);
    let reason = |m: Builder| match m.output("y").read() {
        Err(OnnxError::Unsupported { nodes, .. }) => nodes[0].reason.clone(),
        other => panic!("{other:?}"),
    };
    let square = image(&["N", "2"]).reals("w", &[2, 2], &[1.0; 4]);
    assert!(reason(square.node("Gemm", &["x", "w"], "y", vec![int("transA", 1)])).contains("along the batch"));
    let mean = image(&["N", "4"]).node("ReduceMean", &["x"], "y", vec![ints("axes", &[0])]);
    assert!(reason(mean).contains("the batch"));
    let pad = image(&["N", "4"]).ints("p", &[1, 0, 0, 0]).node("Pad", &["x", "p"], "y", vec![]);
    assert!(reason(pad).contains("pads the batch"));
    let rows = image(&["N", "2"]).reals("c", &[3, 1], &[1.0, 2.0, 3.0]);
    assert!(reason(rows.node("Add", &["x", "c"], "y", vec![])).contains("another batch"));
    let ranks = image(&["N", "2"]).input("z", &["N", "3", "2"]);
    assert!(reason(ranks.node("Add", &["x", "z"], "y", vec![])).contains("against its batch"));
    let zero = image(&["N", "2"]).reals("c", &[2], &[1.0, 0.0]);
    assert!(reason(zero.node("Div", &["x", "c"], "y", vec![])).contains("divides by 0"));
    let nan = image(&["N", "2"]).reals("c", &[1], &[f32::NAN]);
    assert!(reason(nan.node("Add", &["x", "c"], "y", vec![])).contains("not all finite"));
    let batch = image(&["N", "2"]).ints("s", &[-1]);
    assert!(reason(batch.node("Reshape", &["x", "s"], "y", vec![])).contains("batch"));
    let training = [("s", 1.0), ("b", 0.0), ("m", 0.0), ("v", 1.0)];
    let training = training.iter().fold(image(&["N", "1"]), |m, (n, v)| m.reals(n, &[1], &[*v]));
    let training = training.node("BatchNormalization", &["x", "s", "b", "m", "v"], "y", vec![int("training_mode", 1)]);
    assert!(reason(training).contains("training"));
    let mask = image(&["N", "2"]).node("Dropout", &["x"], "d,y", vec![]);
    assert!(reason(mask).contains("another output"));
    let float8 = image(&["N", "2"]).tensor(TensorProto { name: "w".into(), data_type: 17, ..Default::default() });
    assert!(reason(float8.node("Add", &["x", "w"], "y", vec![])).contains("type 17"));
}

#[test]
fn open_extents_ask_for_a_value() {
    let bytes =
        Builder::new(17).input("x", &["N", "1", "H", "W"]).node("Relu", &["x"], "y", vec![]).output("y").bytes();
    let read = |dims: &[(&str, usize)]| {
        let dims: BTreeMap<String, usize> = dims.iter().map(|(n, v)| ((*n).into(), *v)).collect();
        read_bytes("m", &bytes, &ReadOptions { dims, ..Default::default() })
    };
    let (message, code, help) = refusal(read(&[("W", 8)]));
    assert_eq!(code, "onnx::dynamic-shape");
    assert!(message.contains("\"H\" (input \"x\", axis 2)") && !message.contains("\"W\""), "{message}");
    assert!(help.contains("--dim H=VALUE"), "{help}");
    assert_eq!(read(&[("W", 8), ("H", 4), ("N", 1)]).unwrap().values[0].shape, [1, 1, 4, 8]);
    for (dims, reason) in [
        (&[("W", 8), ("H", 4), ("Z", 1)][..], "no input has"),
        (&[("W", 8), ("H", 0)], "at least 1"),
        (&[("W", 8), ("H", 4), ("N", 2)], "the batch"),
    ] {
        let (message, code, help) = refusal(read(dims));
        assert_eq!(code, "onnx::dim-option");
        assert!(message.contains(reason) && help.contains("H, W"), "{message} {help}");
    }
    let unnamed = Builder::new(17).input("x", &["N", ""]).node("Relu", &["x"], "y", vec![]).output("y");
    assert!(refusal(unnamed.read()).2.contains("fixed shape"));
}

#[test]
fn inputs_are_tensors_of_numbers_with_a_batch() {
    for (elem, dims, reason) in [
        (8, &["N", "4"][..], "string"),
        (1, &["4"], "1 axes"),
        (1, &["1", "1", "1", "1", "1", "1", "1", "1", "1"], "9 axes"),
    ] {
        let model = Builder::new(17).input_of("x", elem, dims).node("Relu", &["x"], "y", vec![]).output("y");
        let (message, code, _) = refusal(model.read());
        assert_eq!(code, "onnx::input");
        assert!(message.contains(reason), "{message}");
    }
    let huge = Builder::new(17).input("x", &["N", "9000000000", "9000000000"]).node("Relu", &["x"], "y", vec![]);
    assert_eq!(refusal(huge.output("y").read()).1, "onnx::limit");
}

#[test]
fn a_batch_that_the_model_states_is_one_row() {
    let model = Builder::new(17).input("x", &["8", "2", "3"]).ints("s", &[8, 6]);
    let graph = model.node("Reshape", &["x", "s"], "y", vec![]).output("y").read().unwrap();
    assert_eq!(graph.values.iter().map(|v| v.shape.clone()).collect::<Vec<_>>(), [vec![1, 2, 3], vec![1, 6]]);
}

#[test]
fn inputs_without_a_batch_are_one_row() {
    let options = ReadOptions { batch: Batch::Absent, ..Default::default() };
    for (dims, shape) in [(&[][..], &[1, 1][..]), (&["4"], &[1, 4]), (&["2", "3"], &[1, 2, 3])] {
        let model = Builder::new(17).input_of("x", 7, dims).node("Abs", &["x"], "y", vec![]).output("y");
        let graph = read_bytes("m", &model.bytes(), &options).unwrap();
        assert!(graph.values.iter().all(|v| v.shape == shape), "{dims:?}");
    }
    let open = Builder::new(17).input("x", &["N", "4"]).node("Abs", &["x"], "y", vec![]).output("y");
    assert_eq!(refusal(read_bytes("m", &open.bytes(), &options)).1, "onnx::dynamic-shape");
}

#[test]
fn a_part_of_the_batch_is_refused() {
    let cut = |batch: &str, end: i64| {
        let model = Builder::new(17).input("x", &[batch, "4"]).ints("s", &[0]).ints("e", &[end]).ints("a", &[0]);
        model.node("Slice", &["x", "s", "e", "a"], "y", vec![]).output("y").read()
    };
    for (batch, end) in [("8", 3), ("N", 3), ("8", -1)] {
        assert!(refusal(cut(batch, end)).0.contains("it cuts the batch"), "{batch} {end}");
    }
    assert!(cut("8", 8).is_ok() && cut("N", i64::MAX).is_ok() && cut("1", 1).is_ok());
}

#[test]
fn operator_set_6_broadcasts_at_an_axis() {
    let model = Builder::new(6).input("x", &["N", "2", "3"]).reals("c", &[2], &[10.0, 20.0]);
    let model = model.node("Add", &["x", "c"], "y", vec![int("broadcast", 1), int("axis", 1)]).output("y");
    let x = ndarray::ArrayD::zeros(vec![1, 2, 3]);
    assert_eq!(model.run(&[x])[0].as_slice(), Some(&[10.0, 10.0, 10.0, 20.0, 20.0, 20.0][..]));
}

#[test]
fn operator_sets_out_of_range() {
    for model in [relu().no_opset(), Builder::new(5), Builder::new(99)] {
        let model = model.input("z", &["N", "4"]).node("Relu", &["z"], "w", vec![]).output("w");
        assert_eq!(refusal(model.read()).1, "onnx::opset");
    }
}

#[test]
fn graphs_that_break_the_rules() {
    let base = || Builder::new(17).input("x", &["N", "4"]);
    let untyped = onnx_ir::AttributeProto { name: "alpha".into(), ..Default::default() };
    for (model, problem) in [
        (base().node("Relu", &["ghost"], "y", vec![]).output("y"), "which nothing makes"),
        (base().node("Relu", &["b"], "y", vec![]).node("Relu", &["x"], "b", vec![]).output("y"), "topological order"),
        (base().node("Relu", &["x"], "y", vec![]).node("Abs", &["x"], "y", vec![]).output("y"), "made already"),
        (base().input("x", &["N", "4"]).node("Relu", &["x"], "y", vec![]).output("y"), "two inputs"),
        (base().node("Relu", &["x"], "y", vec![]).output("z"), "made by nothing"),
        (base().node("Relu", &["x"], "y", vec![]), "no outputs"),
        (base().node("LeakyRelu", &["x"], "y", vec![untyped]).output("y"), "has no type"),
        (base().reals("c", &[1], &[1.0]).node("Neg", &["c"], "y", vec![]).output("y"), "does not depend on the inputs"),
    ] {
        let (message, code, _) = refusal(model.read());
        assert_eq!(code, "onnx::invalid-graph");
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn tensors_without_their_numbers() {
    let with = |tensor: TensorProto| {
        let model = Builder::new(17).input("x", &["N", "4"]).tensor(TensorProto { name: "c".into(), ..tensor });
        refusal(model.node("Add", &["x", "c"], "y", vec![]).output("y").read())
    };
    let short = TensorProto { data_type: 1, dims: vec![4], float_data: vec![1.0; 3], ..Default::default() };
    let raw = TensorProto { data_type: 1, dims: vec![4], raw_data: vec![0; 15].into(), ..Default::default() };
    let negative = TensorProto { data_type: 1, dims: vec![-4], ..Default::default() };
    let vast = TensorProto { data_type: 1, dims: vec![1 << 40, 1 << 40], ..Default::default() };
    let deep = TensorProto { data_type: 1, dims: vec![1; 40], float_data: vec![1.0], ..Default::default() };
    for tensor in [short, raw, negative, vast, deep] {
        let (message, code, _) = with(tensor);
        assert_eq!(code, "onnx::tensor-data");
        assert!(message.contains("tensor \"c\""), "{message}");
    }
    let mut outside = TensorProto { data_type: 1, dims: vec![4], ..Default::default() };
    outside.data_location =
        onnx_ir::Message::parse_from_bytes(&[0x70, 1]).map(|t: TensorProto| t.data_location).unwrap();
    let (message, code, help) = with(outside);
    assert_eq!(code, "onnx::external-data");
    assert!(message.contains('c') && help.contains("save_as_external_data=False"), "{message} {help}");
}

#[test]
fn nodes_that_no_output_needs_are_left_alone() {
    let model = relu().node("GRU", &["x"], "unused", vec![real("alpha", 1.0)]);
    assert_eq!(model.read().unwrap().values.len(), 2);
}

#[test]
fn the_page_of_operators_lists_them_all() {
    let page = include_str!("../../docs/src/onnx-support.md");
    let missing: Vec<_> =
        fhe_compiler::onnx::OPERATORS.iter().filter(|op| !page.contains(&format!("`{op}`"))).collect();
    assert!(missing.is_empty(), "docs/src/onnx-support.md does not mention {missing:?}");
}
