//! Networks that state their quantization: the float graph and the integer network against their PyTorch originals.
//!
//! No calibration rows are given anywhere: the scales of the models are law.

use std::path::{Path, PathBuf};

use fhe_compiler::compile::{Job, Outcome, compile_with};
use fhe_compiler::onnx::{ReadOptions, read_file};
use fhe_ir::{Graph, client, eval};
use fhe_passes::{Flow, Options, Rounding, needs_calibration, pipeline};
use fhe_testsuite::data;
use ndarray::{ArrayD, Axis, Slice};
use ndarray_npy::read_npy;

fn npy(path: &Path) -> ArrayD<f32> {
    read_npy(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(path: &Path) -> Graph {
    read_file(path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The network in integers, every table read exactly.
fn integer_network(model: &Graph, calibration: &[ArrayD<f32>]) -> Graph {
    let options = Options { rounding: Rounding::Off, ..Options::default() };
    let job = Job {
        model: model.clone(),
        options: &options,
        calibration,
        evaluate: &[],
        labels: None,
        budget: None,
        boxes: None,
        assumed: vec![],
    };
    match compile_with(job, pipeline::integer(), None, |_| Flow::Continue) {
        Ok(Outcome::Stopped(graph)) => *graph,
        Ok(Outcome::Circuit(_)) => panic!("{}: the pipeline ends in front of parameters", model.name),
        Err(e) => panic!("{}: {e}", model.name),
    }
}

/// Outputs of the integer network as reals, behind what the client does.
fn decrypted(network: &Graph, x: &ArrayD<f32>) -> ArrayD<f32> {
    let x = client::quantize_rows(network, 0, x).expect("rows fit");
    let y = eval::integer(network, &[x]);
    client::post_process(&network.outputs[0].post, &client::dequantize(network, 0, &y.outputs[0]))
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/quantized")
}

#[test]
fn brevitas_networks_are_reproduced_without_calibration() {
    let models = [
        "brev_qbin_mlp.qonnx",
        "brev_qcnn_w4a4.qcdq",
        "brev_qcnn_w4a4.qonnx",
        "brev_qmlp_w4a4.qcdq_dynamo",
        "brev_qmlp_w4a4_pc.qcdq",
        "brev_qmlp_w4a4_pc.qonnx",
    ];
    models.iter().for_each(|model| is_reproduced(&bundled(), model));
    let Ok(folder) = data::folder() else { return };
    for model in models.iter().chain(&["brev_qmlp_w4a4.qcdq", "brev_qmlp_w4a4.qonnx"]) {
        is_reproduced(&folder.join("data/exporters"), model);
    }
}

/// The float graph of a model that states its integers gives the outputs beside it, and its integer network gives them
/// within one step.
fn is_reproduced(folder: &Path, model: &str) {
    let at = |ending: &str| folder.join(format!("{model}{ending}"));
    let (graph, x, expected) = (read(&at(".onnx")), npy(&at(".in0.npy")), npy(&at(".torch_out0.npy")));
    assert!(!needs_calibration(&graph), "{model}");

    let float = &eval::float(&graph, std::slice::from_ref(&x))[0];
    let worst = float.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4, "{model}: the float graph is off by {worst}");

    let network = integer_network(&graph, &[]);
    let output = network.value(network.outputs[0].value);
    for (i, (got, wanted)) in decrypted(&network, &x).iter().zip(&expected).enumerate() {
        let step = output.channel_scale(i % output.channels()).expect("outputs have a scale");
        assert!((got - wanted).abs() <= step, "{model}, output {i}: {got} for {wanted}, step {step}");
    }
}

#[test]
fn an_output_quantizer_much_finer_than_its_accumulator_is_reproduced() {
    let text = "eir 2 float\ngraph g\n%x: f32[1,2] = input | quant 1 [-8, 7]\n%fc: f32[1,3] = dot %x, @w\n\
                %y: f32[1,3] = map %fc | add @b | quant 0.125 [-128, 127]\noutput %y \"y\"\n\
                const @w: i[3,2] = 1 2 | 0 -1 | -2 1\nconst @b: f[3] = 0.44 -0.3 0.49\n";
    let graph = fhe_ir::text::parse(text, &fhe_ir::text::Sidecar::new()).expect("a graph");
    let rows = |i: usize| (i as f32 * 0.7) % 12.0 - 6.0;
    let x = ArrayD::from_shape_vec(vec![40, 2], (0..80).map(rows).collect()).expect("80 numbers");
    let expected = &eval::float(&graph, std::slice::from_ref(&x))[0];
    let network = integer_network(&graph, &[]);
    assert!(network.tables.is_empty() && network.outputs[0].post.len() == 1, "the quantizer is the client's");
    for (got, wanted) in decrypted(&network, &x).iter().zip(expected) {
        assert!((got - wanted).abs() <= 1e-6, "{got} for {wanted}");
    }
}

#[test]
fn both_notations_of_a_network_give_one_circuit() {
    // Names of values differ with the notation, integers and tables do not.
    for model in ["brev_qmlp_w4a4_pc", "brev_qcnn_w4a4"] {
        let network = |notation: &str| integer_network(&read(&bundled().join(format!("{model}.{notation}.onnx"))), &[]);
        let (qonnx, qcdq) = (network("qonnx"), network("qcdq"));
        assert_eq!(qonnx.tables.len(), qcdq.tables.len(), "{model}");
        let kinds = |g: &Graph| g.values.iter().map(|v| (v.op.keyword(), v.shape.clone())).collect::<Vec<_>>();
        assert_eq!(kinds(&qonnx), kinds(&qcdq), "{model}");
    }
}

/// Fraction of rows whose class is the label.
fn accuracy(network: &Graph, x: &ArrayD<f32>, labels: &[i64]) -> f64 {
    let y = client::scores(&network.outputs[0].post, &{
        let x = client::quantize_rows(network, 0, x).expect("rows fit");
        client::dequantize(network, 0, &eval::integer(network, &[x]).outputs[0])
    });
    let right = client::classes(&y).into_iter().zip(labels).filter(|(c, y)| i64::try_from(*c) == Ok(**y)).count();
    right as f64 / labels.len() as f64
}

#[test]
fn published_accuracies_come_from_the_integer_networks() {
    let Ok(folder) = data::folder() else {
        println!("{} is not set: networks are not measured on whole data sets", data::VARIABLE);
        return;
    };
    let data = folder.join("data");
    let labels = |path: PathBuf| -> Vec<i64> {
        let y: ArrayD<i64> = read_npy(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        y.iter().copied().collect()
    };
    let chest = data.join("medmnist-cnn");
    let (x, y) = (npy(&chest.join("pneu.test_x.npy")), labels(chest.join("pneu.test_y.npy")));
    for (model, published) in [
        ("pneu_qat_w4a4.qonnx", 0.8734),
        ("pneu_qat_w4a4.qcdq", 0.8734),
        ("pneu_qat_w4a4_poolq.qonnx", 0.8638),
        ("pneu_qat_w4a4_poolq.qcdq", 0.8638),
    ] {
        let network = integer_network(&read(&chest.join(format!("{model}.onnx"))), &[]);
        let got = accuracy(&network, &x, &y);
        assert!((got - published).abs() < 1e-4, "{model}: {got}, published {published}");
    }
    let board = data.join("checkerboard-qat");
    for model in ["w2_checker_qat3_nz100", "w2_checker_qat3_nz30"] {
        let network = integer_network(&read(&board.join(format!("{model}.qonnx.onnx"))), &[]);
        let at = |part: &str| board.join(format!("{model}.{part}.npy"));
        assert_eq!(accuracy(&network, &npy(&at("test_x")), &labels(at("test_y"))), 1.0, "{model}");
    }
    let words = data.join("mlperf-tiny");
    let y: ArrayD<u8> = read_npy(words.join("kws01_y_uint8.npy")).expect("labels");
    let x: ArrayD<i8> = read_npy(words.join("kws01_X_int8_1000x490.npy")).expect("rows");
    let first = Slice::from(..200);
    let x = x.slice_axis(Axis(0), first).mapv(f32::from);
    let y: Vec<i64> = y.slice_axis(Axis(0), first).iter().map(|y| i64::from(*y)).collect();
    let model = read(&words.join("kws_ref_int8_qdq.onnx"));
    let network = integer_network(&model, &[]);
    let float = client::classes(&eval::float(&model, &[client::check_rows(&model, 0, &x).expect("rows fit")])[0]);
    let right = float.iter().zip(&y).filter(|(c, y)| i64::try_from(**c) == Ok(**y)).count() as f64 / 200.0;
    assert!((accuracy(&network, &x, &y) - right).abs() < 0.006, "keyword spotting");
}
