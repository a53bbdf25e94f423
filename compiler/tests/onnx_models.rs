//! Models as exporters write them: what reads, what is refused, and that the graph computes what the reference did.
//!
//! Needs models and reference outputs under `FHE_DATA`; without it these tests say so and pass.

use std::path::{Path, PathBuf};

use fhe_compiler::onnx::{OnnxError, ReadOptions, read_file};
use fhe_ir::client::{classes, post_process};
use fhe_ir::eval::float;
use fhe_ir::{Graph, Op, Post};
use ndarray::{ArrayD, Axis, IxDyn, Slice};
use ndarray_npy::read_npy;

/// Rows that are compared: enough to meet every branch of an activation.
const ROWS: usize = 64;

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("FHE_DATA").map(|d| PathBuf::from(d).join("data"));
    if data.is_none() {
        println!("skipped: FHE_DATA is not set");
    }
    data
}

fn read(path: &Path) -> Graph {
    let graph = read_file(path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fhe_ir::verify::verify(&graph).unwrap();
    let printed = fhe_ir::text::print(&graph);
    assert_eq!(fhe_ir::text::parse(&printed.text, &printed.sidecar).unwrap(), graph, "the listing parses back");
    graph
}

fn first_rows(path: &Path) -> ArrayD<f32> {
    let array: ArrayD<f32> = read_npy(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = array.len_of(Axis(0)).min(ROWS);
    array.slice_axis(Axis(0), Slice::from(..rows)).to_owned()
}

/// Outputs after the client's functions.
fn run(graph: &Graph, x: &ArrayD<f32>) -> Vec<ArrayD<f32>> {
    let raw = float(graph, std::slice::from_ref(x));
    graph.outputs.iter().zip(raw).map(|(o, y)| post_process(&o.post, &y)).collect()
}

fn assert_close(model: &str, got: &ArrayD<f32>, expected: &ArrayD<f32>) {
    assert_eq!(got.shape(), expected.shape(), "{model}");
    let size = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 2e-5 * size, "{model}: differs by {worst}, values up to {size}");
}

#[test]
fn exporters_models_compute_their_reference_outputs() {
    let Some(data) = data() else { return };
    let dir = data.join("exporters");
    let hazards =
        ["add_lossy", "clip_onlymax", "conv_asym", "gemm_alpha", "ident", "matmul_graph_out", "max3", "names"];
    let hazards = hazards.iter().chain(&["passthrough", "split2", "avgpool_samepad"]).map(|m| format!("hz_{m}"));
    let plain = std::fs::read_dir(&dir).unwrap().filter_map(|e| {
        let name = e.unwrap().file_name().into_string().unwrap();
        let model = name.strip_suffix(".onnx")?;
        ["keras_", "torch_", "skl_"].iter().any(|p| model.starts_with(p)).then(|| model.to_owned())
    });
    let mut models: Vec<String> = hazards.chain(plain).collect();
    models.sort();
    assert!(models.len() >= 28, "{models:?}");
    for model in models {
        let graph = read(&dir.join(format!("{model}.onnx")));
        let x: ArrayD<f32> = read_npy(dir.join(format!("{model}.in0.npy"))).unwrap();
        for (i, y) in run(&graph, &x).iter().enumerate() {
            let path = dir.join(format!("{model}.out{i}.npy"));
            // scikit-learn's labels are integers, one for each row.
            match read_npy::<_, ArrayD<f32>>(&path) {
                Ok(expected) => assert_close(&model, y, &expected),
                Err(_) => {
                    let expected: ArrayD<i64> = read_npy(&path).unwrap();
                    assert!(y.iter().map(|v| *v as i64).eq(expected.iter().copied()), "{model}");
                }
            }
        }
    }
}

#[test]
fn trained_models_compute_their_reference_outputs() {
    let Some(data) = data() else { return };
    let pruned = [
        "base",
        "struct25_small",
        "struct25_zeroed",
        "struct50_small",
        "struct50_zeroed",
        "struct75_small",
        "struct75_zeroed",
        "unstr50",
        "unstr75",
        "unstr90",
    ];
    let pruned = pruned.map(|m| (format!("arrhythmia-pruned/arr_mlp_{m}"), "arrhythmia-pruned/test_x", "test_prob"));
    let images = [
        ("breast_cnn", "breast"),
        ("breast_cnn_bn", "breast"),
        ("breast_cnn_bn_folded", "breast"),
        ("pneu_cnn", "pneu"),
        ("pneu_cnn_bn", "pneu"),
        ("pneu_cnn_bn_folded", "pneu"),
        ("pneu_cnn_nopad", "pneu"),
        ("pneu64_cnn", "pneu64"),
    ];
    let sets = ["breast", "pneu", "pneu64"].map(|s| (s, format!("medmnist-cnn/{s}.test_x")));
    let images = images.map(|(m, s)| {
        let x = sets.iter().find(|(name, _)| *name == s).map_or("", |(_, x)| x.as_str());
        (format!("medmnist-cnn/{m}"), x, "test_logits")
    });
    let checker =
        ("checkerboard-qat/w2_checker_fp32".to_string(), "checkerboard-qat/w2_checker_fp32.test_x", "test_fp32_logits");
    for (model, x, y) in pruned.into_iter().chain(images).chain([checker]) {
        let graph = read(&data.join(format!("{model}.onnx")));
        let x = first_rows(&data.join(format!("{x}.npy")));
        let expected = first_rows(&data.join(format!("{model}.{y}.npy")));
        assert_close(&model, &run(&graph, &x)[0], &expected);
    }
}

#[test]
fn the_arrhythmia_model_keeps_its_accuracy() {
    let Some(data) = data() else { return };
    let graph = read(&data.join("mitbih-32/mitbih_mlp.onnx"));
    assert_eq!(graph.outputs[0].post, [Post::Sigmoid], "the client applies the sigmoid");
    let x: ArrayD<f32> = read_npy(data.join("mitbih-32/Arryth_MITBIH_test_X.npy")).unwrap();
    let y: ArrayD<f32> = read_npy(data.join("mitbih-32/Arryth_MITBIH_test_y.npy")).unwrap();
    let right = classes(&float(&graph, &[x])[0]).iter().zip(&y).filter(|(c, y)| **c == usize::from(**y > 0.5)).count();
    assert_eq!((1e4 * right as f64 / y.len() as f64).round(), 9684.0, "ONNX Runtime: 0.9684");
}

/// The first images of the CIFAR-10 test set, normalized, and their labels.
fn cifar(data: &Path, rows: usize) -> (ArrayD<f32>, Vec<usize>) {
    let bytes = std::fs::read(data.join("cifar10/test_first1000.bin")).unwrap();
    let (mean, sd) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let records: Vec<&[u8]> = bytes.chunks_exact(3073).take(rows).collect();
    let pixel = |(i, &p): (usize, &u8)| (f32::from(p) / 255.0 - mean[i / 1024]) / sd[i / 1024];
    let x = records.iter().flat_map(|r| r[1..].iter().enumerate().map(pixel)).collect();
    let x = ArrayD::from_shape_vec(IxDyn(&[records.len(), 3, 32, 32]), x).unwrap();
    (x, records.iter().map(|r| usize::from(r[0])).collect())
}

#[test]
fn residual_networks_read_with_option_a_shortcuts() {
    let Some(data) = data() else { return };
    let (x, labels) = cifar(&data, 96);
    let plain = read(&data.join("resnet-cifar10/resnet20.onnx"));
    let folded = read(&data.join("resnet-cifar10/resnet20_bnfolded.onnx"));
    let count = |g: &Graph, f: fn(&Op) -> bool| g.values.iter().filter(|v| f(&v.op)).count();
    assert_eq!(count(&plain, |op| matches!(op, Op::BatchNorm { .. })), 19);
    assert_eq!(count(&plain, |op| matches!(op, Op::Slice { .. } | Op::Pad { .. })), 4);
    assert_eq!(count(&plain, |op| matches!(op, Op::Add { .. })), 9);
    let (a, b) = (&run(&plain, &x)[0], &run(&folded, &x)[0]);
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-3, "the same network with batch normalization folded: {apart}");
    let right = classes(a).iter().zip(&labels).filter(|(a, b)| a == b).count();
    assert!(right >= 84, "0.9173 on all images; {right} of 96 here");
    assert_eq!(count(&read(&data.join("resnet-cifar10/resnet56.onnx")), |op| matches!(op, Op::Add { .. })), 27);
}

#[test]
fn larger_models_read() {
    let Some(data) = data() else { return };
    for (model, values, channels) in [
        ("heir-mnist/heir_lenet5_mnist", 18, 10),
        ("mlperf-tiny/ad01", 39, 640),
        ("mlperf-tiny/ic_resnet8", 40, 10),
        ("mlperf-tiny/vww_96", 113, 2),
        ("mobilenet_v2/mobilenet_v2", 154, 1000),
    ] {
        let graph = read(&data.join(format!("{model}.onnx")));
        assert_eq!(graph.values.len(), values, "{model}");
        assert_eq!(graph.value(graph.outputs[0].value).shape, [1, channels], "{model}");
    }
}

/// Operators that stop a model, with the number of nodes.
#[test]
fn what_is_refused_is_named() {
    let Some(data) = data() else { return };
    for (model, expected) in
        [("exporters/hz_msft", "com.microsoft::FusedGemm ×1"), ("exporters/hz_unk_default", "FooBar ×1")]
    {
        let error = read_file(&data.join(format!("{model}.onnx")), &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, OnnxError::Unsupported { .. }), "{model}: {error}");
        assert!(error.to_string().contains(expected), "{model}: {error}");
    }
    for (model, expected) in [
        ("exporters/hz_dangling", "Relu \"b\" reads \"a\", which nothing makes"),
        ("exporters/hz_noopset", "operator set none"),
    ] {
        let error = read_file(&data.join(format!("{model}.onnx")), &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{model}: {error}");
    }
}
