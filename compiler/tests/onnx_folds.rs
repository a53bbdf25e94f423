//! Reductions, matrix products, normalizations, what the client does, and scikit-learn's models, by their formulas.

use crate::onnx_support::{Builder, array, int, ints, real, string};
#[allow(dead_code, unreachable_pub)]
use fhe_ir::client::post_process;
use ndarray::ArrayD;
use onnx_ir::{AttributeProto, AttributeType};

const X: [f32; 8] = [1.0, -2.0, 3.0, 0.5, -1.5, 4.0, 2.5, -0.25];

fn close(what: &str, got: &ArrayD<f32>, shape: &[usize], wanted: &[f64]) {
    assert_eq!((got.shape(), got.len()), (shape, wanted.len()), "{what}");
    let apart = got.iter().zip(wanted).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5 * b.abs().max(1.0));
    assert!(apart, "{what}: {got} {wanted:?}");
}

fn x224() -> ArrayD<f32> {
    array(&[1, 2, 2, 2], &X)
}

/// What an operator of two numbers gives.
type Binary<'a> = &'a dyn Fn(f64, f64) -> f64;

#[test]
fn reductions_over_any_axes() {
    let f = X.map(f64::from);
    let run = |op: &str, axes: &[i64], keep: i64| {
        let model = Builder::new(18).input("x", &["N", "2", "2", "2"]).ints("a", axes);
        model.node(op, &["x", "a"], "y", vec![int("keepdims", keep)]).output("y").run(&[x224()]).remove(0)
    };
    let channels = |g: &dyn Fn(f64, f64) -> f64| (0..4).map(|i| g(f[i], f[i + 4])).collect::<Vec<_>>();
    let cases: [(&str, Binary<'_>); 9] = [
        ("ReduceSum", &|a, b| a + b),
        ("ReduceMean", &|a, b| (a + b) / 2.0),
        ("ReduceMax", &f64::max),
        ("ReduceMin", &f64::min),
        ("ReduceProd", &|a, b| a * b),
        ("ReduceL1", &|a, b| a.abs() + b.abs()),
        ("ReduceL2", &f64::hypot),
        ("ReduceSumSquare", &|a, b| a * a + b * b),
        ("ReduceLogSumExp", &|a, b| (a.exp() + b.exp()).ln()),
    ];
    for (op, g) in cases {
        close(op, &run(op, &[1], 1), &[1, 1, 2, 2], &channels(g));
        close(op, &run(op, &[-3], 0), &[1, 2, 2], &channels(g));
    }
    close("middle", &run("ReduceSum", &[2], 0), &[1, 2, 2], &[4.0, -1.5, 1.0, 3.75]);
    close("outer", &run("ReduceSum", &[1, 3], 1), &[1, 1, 2, 1], &[1.5, 5.75]);
    close("all", &run("ReduceMax", &[1, 2, 3], 1), &[1, 1, 1, 1], &[4.0]);
}

/// `a·b` of the last two axes.
fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum()).collect()
}

#[test]
fn matrices_of_constants_and_of_values() {
    let f = X.map(f64::from);
    let (c, w) = ([1.0f32, -1.0, 2.0, 0.5, 3.0, -2.0], [1.0, -1.0, 2.0, 0.5, 3.0, -2.0]);
    let x = || Builder::new(17).input("x", &["N", "2", "2", "2"]);
    let blocks = |first: &[f64], second: &[f64]| [first, second].concat();
    let right = x().reals("c", &[2, 3], &c).node("MatMul", &["x", "c"], "y", vec![]).output("y").run(&[x224()]);
    let wanted = blocks(&product(&f[..4], &w, [2, 2, 3]), &product(&f[4..], &w, [2, 2, 3]));
    close("x·C", &right[0], &[1, 2, 2, 3], &wanted);
    let left = x().reals("c", &[3, 2], &c).node("MatMul", &["c", "x"], "y", vec![]).output("y").run(&[x224()]);
    let wanted = blocks(&product(&w, &f[..4], [3, 2, 2]), &product(&w, &f[4..], [3, 2, 2]));
    close("C·x", &left[0], &[1, 2, 3, 2], &wanted);
    let each = x().reals("c", &[2, 2, 1], &c[..4]).node("MatMul", &["x", "c"], "y", vec![]).output("y").run(&[x224()]);
    let wanted = blocks(&product(&f[..4], &w[..2], [2, 2, 1]), &product(&f[4..], &w[2..4], [2, 2, 1]));
    close("x·C for each channel", &each[0], &[1, 2, 2, 1], &wanted);
    let both = x().input("z", &["N", "1", "2", "3"]).node("MatMul", &["x", "z"], "y", vec![]).output("y");
    let both = both.run(&[x224(), array(&[1, 1, 2, 3], &c)]);
    let wanted = blocks(&product(&f[..4], &w, [2, 2, 3]), &product(&f[4..], &w, [2, 2, 3]));
    close("x·z", &both[0], &[1, 2, 2, 3], &wanted);
}

#[test]
fn normalizations_by_the_row_s_own_statistics() {
    let f = X.map(f64::from);
    let standard = |part: &[f64]| {
        let n = part.len() as f64;
        let mean = part.iter().sum::<f64>() / n;
        let sd = (part.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + 0.5).sqrt();
        part.iter().map(|v| (v - mean) / sd).collect::<Vec<_>>()
    };
    let run = |op: &str, n: i64, extra: Vec<AttributeProto>| {
        let (s, b) = ([2.0, -1.0], [0.5, 0.25]);
        let model = Builder::new(21).input("x", &["N", "2", "2", "2"]);
        let model = model.reals("s", &[n], &s[..n as usize]).reals("b", &[n], &b[..n as usize]);
        let attributes = [real("epsilon", 0.5)].into_iter().chain(extra).collect();
        model.node(op, &["x", "s", "b"], "y", attributes).output("y").run(&[x224()]).remove(0)
    };
    let affine = |i: usize, v: f64| if i == 0 { 2.0 * v + 0.5 } else { -v + 0.25 };
    let each = [standard(&f[..4]), standard(&f[4..])].concat();
    let wanted: Vec<f64> = each.iter().enumerate().map(|(i, v)| affine(i / 4, *v)).collect();
    close("instance", &run("InstanceNormalization", 2, vec![]), &[1, 2, 2, 2], &wanted);
    close("group", &run("GroupNormalization", 2, vec![int("num_groups", 2)]), &[1, 2, 2, 2], &wanted);
    let rows: Vec<f64> = f.chunks(2).flat_map(standard).collect();
    let wanted: Vec<f64> = rows.iter().enumerate().map(|(i, v)| affine(i % 2, *v)).collect();
    close("layer", &run("LayerNormalization", 2, vec![]), &[1, 2, 2, 2], &wanted);
    // x/(1 + 0.3/3·(x₀² + x₁²))^0.5 with two channels in reach of each other.
    let model = Builder::new(17).input("x", &["N", "2", "2", "2"]);
    let attributes = vec![int("size", 3), real("alpha", 0.3), real("beta", 0.5)];
    let y = model.node("LRN", &["x"], "y", attributes).output("y").run(&[x224()]).remove(0);
    let wanted: Vec<f64> =
        (0..8).map(|i| f[i] / (1.0 + 0.1 * (f[i % 4].powi(2) + f[i % 4 + 4].powi(2))).sqrt()).collect();
    close("lrn", &y, &[1, 2, 2, 2], &wanted);
}

#[test]
fn the_client_sorts_and_compares() {
    let model = Builder::new(17).input("x", &["N", "4"]).ints("k", &[2]).node("Neg", &["x"], "h", vec![]);
    let model = model.node("TopK", &["h", "k"], "v,i", vec![int("largest", 0)]);
    let model = model.node("Hardmax", &["h"], "hard", vec![]);
    let model = model.node("ArgMin", &["h"], "a", vec![int("axis", 1), int("keepdims", 0)]);
    let graph = model.output("v").output("i").output("hard").output("a").read().unwrap();
    fhe_ir::verify::verify(&graph).unwrap();
    let raw = fhe_ir::eval::float(&graph, &[array(&[1, 4], &[1.0, -2.0, 3.0, 0.5])]);
    let y: Vec<_> = raw.iter().zip(&graph.outputs).map(|(y, o)| post_process(&o.post, y)).collect();
    assert_eq!(y[0], array(&[1, 2], &[-3.0, -1.0]));
    assert_eq!(y[1], array(&[1, 2], &[2.0, 0.0]));
    assert_eq!(y[2], array(&[1, 4], &[0.0, 1.0, 0.0, 0.0]));
    assert_eq!(y[3], array(&[1], &[2.0]));
}

fn reals(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        type_: AttributeType::FLOATS.into(),
        floats: floats.to_vec(),
        ..Default::default()
    }
}

#[test]
fn linear_models_of_scikit_learn() {
    let x = [array(&[1, 2], &[1.0, 2.0])];
    let parts = || vec![reals("coefficients", &[1.0, 2.0, -1.0, 3.0, 0.5, 0.0]), reals("intercepts", &[0.0, 1.0, 2.0])];
    let regressor = Builder::new(17).input("x", &["N", "2"]).node("ai.onnx.ml::LinearRegressor", &["x"], "y", parts());
    assert_eq!(regressor.output("y").run(&x)[0], array(&[1, 3], &[5.0, 6.0, 2.5]));
    let classifier = |labels: &[i64], post: &'static str| {
        let attributes = parts().into_iter().chain([ints("classlabels_ints", labels), string("post_transform", post)]);
        let model = Builder::new(17).input("x", &["N", "2"]);
        let model = model.node("ai.onnx.ml::LinearClassifier", &["x"], "label,p", attributes.collect());
        let normal = model.node("ai.onnx.ml::Normalizer", &["p"], "n", vec![string("norm", "L1")]);
        normal.node("ai.onnx.ml::ZipMap", &["n"], "map", vec![])
    };
    let graph = classifier(&[0, 1, 2], "SOFTMAX").output("label").output("map").read().unwrap();
    let raw = fhe_ir::eval::float(&graph, &x);
    assert_eq!(post_process(&graph.outputs[0].post, &raw[0]), array(&[1], &[1.0]));
    let p = post_process(&graph.outputs[1].post, &raw[1]);
    let e = [5.0f64, 6.0, 2.5].map(f64::exp);
    close("softmax", &p, &[1, 3], &e.map(|v| v / e.iter().sum::<f64>()));
    let refused = |labels: &[i64], post, output: &str| classifier(labels, post).output(output).read().is_err();
    assert!(refused(&[3, 5, 7], "SOFTMAX", "label"), "an index is not that label");
    assert!(!refused(&[3, 5, 7], "SOFTMAX", "p"), "the scores are what they are");
    assert!(refused(&[0, 1, 2], "LOGISTIC", "n"), "logistic scores do not sum to 1");
}

#[test]
fn constants_are_evaluated_before_they_meet_a_value() {
    // Each case makes three numbers `c`; an encrypted zero shows them.
    let shown = |model: Builder| {
        let y = model.input("x", &["N", "3"]).node("Add", &["x", "c"], "y", vec![]).output("y");
        y.run(&[array(&[1, 3], &[0.0; 3])])[0].iter().copied().collect::<Vec<_>>()
    };
    let base = || Builder::new(18).reals("a", &[3], &[4.0, -1.0, 0.25]).reals("b", &[], &[2.0]).ints("n", &[5, -7, 3]);
    let truth = |m: Builder, op: &str, inputs: &[&str]| {
        m.node(op, inputs, "t", vec![]).node("Cast", &["t"], "c", vec![int("to", 1)])
    };
    assert_eq!(shown(base().node("Abs", &["a"], "p", vec![]).node("Sqrt", &["p"], "c", vec![])), [2.0, 1.0, 0.5]);
    assert_eq!(shown(base().node("Max", &["a", "b"], "c", vec![])), [4.0, 2.0, 2.0]);
    assert_eq!(shown(base().node("Pow", &["a", "b"], "c", vec![])), [16.0, 1.0, 0.0625]);
    assert_eq!(shown(truth(base(), "Greater", &["a", "b"])), [1.0, 0.0, 0.0]);
    let choice = base().node("Less", &["a", "b"], "t", vec![]).node("Where", &["t", "a", "b"], "c", vec![]);
    assert_eq!(shown(choice), [2.0, -1.0, 0.25]);
    // -7 mod 3 has the sign of the divisor.
    assert_eq!(shown(truth(base().ints("three", &[3]), "Mod", &["n", "three"])), [2.0, 2.0, 0.0]);
    let range = base().ints("l", &[7]).ints("s", &[2]).ints("o", &[1]);
    assert_eq!(shown(truth(range, "Range", &["o", "l", "s"])), [1.0, 3.0, 5.0]);
    let sum = base().ints("ax", &[0]).node("ReduceMean", &["a", "ax"], "m", vec![]).ints("three", &[3]);
    assert_eq!(shown(sum.node("Expand", &["m", "three"], "c", vec![])), [3.25 / 3.0; 3]);
    let places = Builder::new(18).ints("n", &[1, 0, 2, 3]).node("NonZero", &["n"], "z", vec![]);
    assert_eq!(shown(places.node("Cast", &["z"], "c", vec![int("to", 1)])), [0.0, 2.0, 3.0]);
}
