//! Each operator on a model of a few numbers: the graph computes what the standard says.

use crate::onnx_support::{Builder, array, int, ints, ops, real, string};
#[allow(dead_code, unreachable_pub)]
use fhe_ir::{Func, Op, Post};

/// `x: [N, 2]` through one node with a constant `c`.
fn with_constant(op: &str, constant_first: bool, c: &[f32]) -> Vec<f32> {
    let inputs = if constant_first { ["c", "x"] } else { ["x", "c"] };
    let model = Builder::new(13).input("x", &["N", "2"]).reals("c", &[c.len() as i64], c);
    let out = model.node(op, &inputs, "y", vec![]).output("y").run(&[array(&[1, 2], &[3.0, -4.0])]);
    out[0].iter().copied().collect()
}

#[test]
fn arithmetic_with_constants_takes_either_order() {
    assert_eq!(with_constant("Add", false, &[1.0, 2.0]), [4.0, -2.0]);
    assert_eq!(with_constant("Sub", false, &[1.0, 2.0]), [2.0, -6.0]);
    assert_eq!(with_constant("Sub", true, &[1.0, 2.0]), [-2.0, 6.0]);
    assert_eq!(with_constant("Mul", true, &[0.5]), [1.5, -2.0]);
    assert_eq!(with_constant("Div", false, &[2.0, -4.0]), [1.5, 1.0]);
    assert_eq!(with_constant("Max", false, &[0.5]), [3.0, 0.5]);
    assert_eq!(with_constant("Max", false, &[4.0, -5.0]), [4.0, -4.0]);
    assert_eq!(with_constant("Min", true, &[2.0, -5.0]), [2.0, -5.0]);
}

#[test]
fn gemm_folds_alpha_and_beta() {
    // 2·(x·B) + 3·C with B = [[1, 2, 3], [4, 5, 6]] and x = [1, 10]
    let gemm = |trans: i64, b: &[f32], dims: &[i64]| {
        let attributes = vec![real("alpha", 2.0), real("beta", 3.0), int("transB", trans)];
        let model = Builder::new(17).input("x", &["N", "2"]).reals("B", dims, b).reals("C", &[3], &[1.0, 0.0, -1.0]);
        model.node("Gemm", &["x", "B", "C"], "y", attributes).output("y").run(&[array(&[1, 2], &[1.0, 10.0])])
    };
    let expected = array(&[1, 3], &[85.0, 104.0, 123.0]);
    assert_eq!(gemm(0, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])[0], expected);
    assert_eq!(gemm(1, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], &[3, 2])[0], expected);
}

/// onnx-ir's own fusion of MatMul and Add drops the output `h`.
#[test]
fn a_product_that_is_an_output_keeps_its_own_value() {
    let model = Builder::new(17).input("x", &["2", "2"]).reals("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let model = model.reals("b", &[2], &[10.0, 20.0]).node("MatMul", &["x", "w"], "h", vec![]);
    let out = model.node("Add", &["h", "b"], "y", vec![]).output("y").output("h").run(&[array(&[1, 2], &[1.0, 1.0])]);
    assert_eq!(out, [array(&[1, 2], &[14.0, 26.0]), array(&[1, 2], &[4.0, 6.0])]);
}

fn conv(extent: &str, kernel: i64, attributes: Vec<onnx_ir::AttributeProto>) -> Vec<f32> {
    let weights: Vec<f32> = (1..=kernel).map(|i| i as f32).collect();
    let model = Builder::new(13).input("x", &["N", "1", "1", extent]).reals("w", &[1, 1, 1, kernel], &weights);
    let n = extent.parse().unwrap();
    let x: Vec<f32> = (0..n).map(|i| 10f32.powi(i)).collect();
    let out = model.node("Conv", &["x", "w"], "y", attributes).output("y").run(&[array(&[1, 1, 1, n as usize], &x)]);
    out[0].iter().copied().collect()
}

#[test]
fn auto_pad_puts_the_odd_zero_where_it_says() {
    // x = 1 10 100 1000, w = 1 2 3, stride 2: two places over five elements.
    let same = |mode| vec![string("auto_pad", mode), ints("strides", &[1, 2])];
    assert_eq!(conv("4", 3, same("SAME_UPPER")), [321.0, 2100.0]);
    assert_eq!(conv("4", 3, same("SAME_LOWER")), [32.0, 3210.0]);
    assert_eq!(conv("4", 3, same("VALID")), [321.0]);
    assert_eq!(conv("4", 2, vec![ints("pads", &[0, 1, 0, 0]), ints("dilations", &[1, 2])]), [20.0, 201.0, 2010.0]);
}

#[test]
fn pooling_counts_pads_only_when_told() {
    let pool = |attributes: Vec<onnx_ir::AttributeProto>, extent: &str| {
        let model = Builder::new(19).input("x", &["N", "1", "1", extent]);
        model.node("AveragePool", &["x"], "y", attributes).output("y").read()
    };
    let base = || vec![ints("kernel_shape", &[1, 2]), ints("strides", &[1, 2])];
    let with = |extra| base().into_iter().chain([extra]).collect::<Vec<_>>();
    assert_eq!(ops(&pool(base(), "4").unwrap()), ["avg-pool"]);
    let bare = ops(&pool(with(ints("pads", &[0, 1, 0, 1])), "4").unwrap());
    assert_eq!(bare, ["sum-pool", "reshape", "mul-clear", "reshape"], "windows at the border divide by less");
    let counted = with(ints("pads", &[0, 1, 0, 1])).into_iter().chain([int("count_include_pad", 1)]).collect();
    assert_eq!(pool(counted, "4").unwrap().values[1].shape, [1, 1, 1, 3]);
    assert!(pool(with(int("ceil_mode", 1)), "4").is_ok(), "no window is cut");
    let cut = ops(&pool(with(int("ceil_mode", 1)), "5").unwrap());
    assert_eq!(cut[0], "sum-pool", "the last window is cut");
}

#[test]
fn max_pools_leave_padding_out_and_keep_cut_windows() {
    let pool = |attributes: Vec<onnx_ir::AttributeProto>, x: &[f32]| {
        let model = Builder::new(17).input("x", &["N", "1", "1", &x.len().to_string()]);
        let base = vec![ints("kernel_shape", &[1, 2]), ints("strides", &[1, 2])];
        let attributes = base.into_iter().chain(attributes).collect();
        let model = model.node("MaxPool", &["x"], "y", attributes).output("y");
        model.run(&[array(&[1, 1, 1, x.len()], x)])[0].iter().copied().collect::<Vec<_>>()
    };
    let x = [-3.0, -1.0, -4.0, -1.5, -9.0];
    assert_eq!(pool(vec![], &x), [-1.0, -1.5]);
    assert_eq!(pool(vec![ints("pads", &[0, 1, 0, 0])], &x), [-3.0, -1.0, -1.5]);
    assert_eq!(pool(vec![int("ceil_mode", 1)], &x), [-1.0, -1.5, -9.0]);
    let model = Builder::new(17).input("x", &["N", "1", "1", "5"]).node("GlobalMaxPool", &["x"], "y", vec![]);
    assert_eq!(model.output("y").run(&[array(&[1, 1, 1, 5], &x)])[0].iter().copied().collect::<Vec<_>>(), [-1.0]);
}

#[test]
fn means_over_axes_are_pools() {
    let mean = |axes: &[i64], keep: i64| {
        let model = Builder::new(13).input("x", &["N", "1", "2", "2"]);
        let model = model.node("ReduceMean", &["x"], "y", vec![ints("axes", axes), int("keepdims", keep)]).output("y");
        model.run(&[array(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])]).remove(0)
    };
    assert_eq!(mean(&[2, 3], 1), array(&[1, 1, 1, 1], &[2.5]));
    assert_eq!(mean(&[-1, -2], 0), array(&[1, 1], &[2.5]));
    assert_eq!(mean(&[2], 0), array(&[1, 1, 2], &[2.0, 3.0]));
}

#[test]
fn slice_and_pad_make_the_option_a_shortcut() {
    let model = Builder::new(13).input("x", &["N", "1", "4", "3"]);
    let model = model.ints("s", &[0, -3]).ints("e", &[i64::MAX, 9]).ints("a", &[2, 3]).ints("t", &[2, 2]);
    let model = model.node("Slice", &["x", "s", "e", "a", "t"], "cut", vec![]);
    let model = model.ints("p", &[0, 1, 0, 0, 0, 1, 0, 0]).node("Pad", &["cut", "p"], "y", vec![]).output("y");
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let out = model.run(&[array(&[1, 1, 4, 3], &x)]).remove(0);
    assert_eq!(out, array(&[1, 3, 2, 2], &[0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 8.0, 0.0, 0.0, 0.0, 0.0]));
}

#[test]
fn batch_normalization_uses_epsilon_and_the_running_statistics() {
    let model = Builder::new(15).input("x", &["N", "1"]);
    let model =
        [("s", 2.0), ("b", 1.0), ("m", 3.0), ("v", 3.0)].iter().fold(model, |m, (n, v)| m.reals(n, &[1], &[*v]));
    let bn = |m: Builder, a| m.node("BatchNormalization", &["x", "s", "b", "m", "v"], "y", a).output("y");
    assert_eq!(bn(model, vec![real("epsilon", 1.0)]).run(&[array(&[1, 1], &[5.0])])[0], array(&[1, 1], &[3.0]));
}

#[test]
fn activations_have_the_parameters_of_the_model() {
    let chain = |op: &str, attributes| {
        let model = Builder::new(20).input("x", &["N", "2"]).node(op, &["x"], "h", attributes);
        let graph = model.node("Neg", &["h"], "y", vec![]).output("y").read().unwrap();
        let Op::Map { chain, .. } = &graph.values[1].op else { panic!("{op} is a map") };
        chain.clone()
    };
    assert_eq!(chain("LeakyRelu", vec![real("alpha", 0.25)]), [Func::LeakyRelu(0.25)]);
    assert_eq!(chain("LeakyRelu", vec![]), [Func::LeakyRelu(0.01)]);
    assert_eq!(chain("Gelu", vec![]), [Func::Gelu]);
    assert_eq!(chain("Sigmoid", vec![]), [Func::Sigmoid]);
    assert_eq!(chain("Clip", vec![]), [Func::Clip(f32::MIN, f32::MAX)]);
    assert!(matches!(chain("HardSigmoid", vec![])[..], [Func::Mul(_), Func::Add(_), Func::Clip(0.0, 1.0)]));
    let six = Builder::new(13).input("x", &["N", "2"]).reals("hi", &[], &[6.0]);
    let graph = six.node("Clip", &["x", "", "hi"], "y", vec![]).output("y").read().unwrap();
    assert!(matches!(&graph.values[1].op, Op::Map { chain, .. } if chain[..] == [Func::Clip(f32::MIN, 6.0)]));
}

#[test]
fn x_times_its_sigmoid_is_one_function() {
    let model = Builder::new(13).input("x", &["N", "2"]).node("Sigmoid", &["x"], "s", vec![]);
    let graph = model.node("Mul", &["x", "s"], "y", vec![]).output("y").read().unwrap();
    assert!(matches!(&graph.values[..], [_, v] if matches!(&v.op, Op::Map { chain, .. } if chain[..] == [Func::Silu])));
}

#[test]
fn the_shape_of_a_dynamic_batch_is_computed_away() {
    // What torch writes for x.view(x.size(0), -1).
    let model = Builder::new(13).input("x", &["batch", "2", "3"]).tensor(onnx_ir::TensorProto {
        name: "zero".into(),
        data_type: 7,
        int64_data: vec![0],
        ..Default::default()
    });
    let model = model.ints("axes", &[0]).ints("rest", &[-1]).node("Shape", &["x"], "shape", vec![]);
    let model = model.node("Gather", &["shape", "zero"], "n", vec![]).node("Unsqueeze", &["n", "axes"], "n1", vec![]);
    let model = model.node("Concat", &["n1", "rest"], "target", vec![int("axis", 0)]);
    let graph = model.node("Reshape", &["x", "target"], "y", vec![]).output("y").read().unwrap();
    assert_eq!(graph.values[1].shape, [1, 6]);
    assert_eq!(graph.values.len(), 2);
}

#[test]
fn layout_operators_keep_the_batch() {
    let model = |dims: &[&str]| Builder::new(13).input("x", dims).ints("two", &[2]).ints("zero", &[0]);
    let shape = |m: Builder| m.output("y").read().map(|g| g.values[1].shape.clone());
    let x = ["N", "4", "1", "3"];
    assert_eq!(shape(model(&x).node("Squeeze", &["x", "two"], "y", vec![])).unwrap(), [1, 4, 3]);
    assert_eq!(shape(model(&x).node("Unsqueeze", &["x", "two"], "y", vec![])).unwrap(), [1, 4, 1, 1, 3]);
    assert_eq!(shape(model(&x).node("Flatten", &["x"], "y", vec![])).unwrap(), [1, 12]);
    assert_eq!(
        shape(model(&x).node("Transpose", &["x"], "y", vec![ints("perm", &[0, 3, 1, 2])])).unwrap(),
        [1, 3, 4, 1]
    );
    assert!(shape(model(&x).node("Squeeze", &["x", "zero"], "y", vec![])).is_err());
    assert!(shape(model(&x).node("Unsqueeze", &["x", "zero"], "y", vec![])).is_err());
    assert!(shape(model(&x).node("Flatten", &["x"], "y", vec![int("axis", 2)])).is_err());
    assert!(shape(model(&x).node("Transpose", &["x"], "y", vec![])).is_err(), "the default reverses all axes");
}

#[test]
fn constants_are_evaluated_on_the_way_to_a_weight() {
    // w = transpose(slice backwards of [[1, 2], [3, 4]]) · 2
    let model = Builder::new(13).input("x", &["N", "2"]).reals("w0", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let model = model.ints("s", &[-1]).ints("e", &[i64::MIN]).ints("a", &[0]).ints("t", &[-1]).reals("k", &[], &[2.0]);
    let model = model.node("Slice", &["w0", "s", "e", "a", "t"], "w1", vec![]);
    let model = model.node("Transpose", &["w1"], "w2", vec![]).node("Mul", &["w2", "k"], "w3", vec![]);
    let out = model.node("MatMul", &["x", "w3"], "y", vec![]).output("y").run(&[array(&[1, 2], &[1.0, 10.0])]);
    assert_eq!(out[0], array(&[1, 2], &[6.0 + 80.0, 2.0 + 40.0]));
}

#[test]
fn what_the_client_can_do_leaves_the_graph() {
    let first = Post::ArgMax { axis: 1, keep: true, last: false };
    let head = || Builder::new(13).input("x", &["N", "3"]).node("Neg", &["x"], "h", vec![]);
    let post = |m: Builder| {
        let graph = m.output("y").read().unwrap();
        assert_eq!(ops(&graph), ["neg"]);
        graph.outputs[0].post.clone()
    };
    assert_eq!(post(head().node("Softmax", &["h"], "y", vec![int("axis", -1)])), [Post::Softmax { axis: 1 }]);
    assert_eq!(post(head().node("LogSoftmax", &["h"], "y", vec![int("axis", 1)])), [Post::LogSoftmax { axis: 1 }]);
    assert_eq!(post(head().node("Sigmoid", &["h"], "y", vec![])), [Post::Sigmoid]);
    assert_eq!(post(head().node("ArgMax", &["h"], "y", vec![int("axis", 1)])), [first]);
    let both = head().node("Softmax", &["h"], "p", vec![]).node("ArgMax", &["p"], "a", vec![int("axis", 1)]);
    let both = both.node("Cast", &["a"], "y", vec![int("to", 6)]).output("p").output("y").read().unwrap();
    assert_eq!(both.outputs[0].post, [Post::Softmax { axis: 1 }]);
    assert_eq!(both.outputs[1].post, [Post::Softmax { axis: 1 }, first]);
    assert_eq!(both.outputs[0].value, both.outputs[1].value);
    let rounded = head().node("Softmax", &["h"], "p", vec![]).node("Cast", &["p"], "y", vec![int("to", 7)]);
    assert!(rounded.output("y").read().is_err(), "a probability is no integer");
    let used = head().node("Sigmoid", &["h"], "y", vec![]).node("Neg", &["y"], "z", vec![]).output("y").output("z");
    assert_eq!(ops(&used.read().unwrap()), ["neg", "map", "neg"], "a sigmoid that is read again stays");
    assert!(head().node("Softmax", &["h"], "s", vec![]).node("Relu", &["s"], "y", vec![]).output("y").read().is_err());
    assert!(head().node("Softmax", &["h"], "y", vec![int("axis", 0)]).output("y").read().is_err());
}

#[test]
fn values_constants_and_origins_keep_the_model_s_names() {
    let model =
        Builder::new(17).input("in put", &["N", "2"]).reals("w", &[2, 2], &[1.0; 4]).reals("b", &[2], &[1.0; 2]);
    let model = model.named("/fc/Gemm", "Gemm", &["in put", "w", "b"], "/fc/Gemm_output_0", vec![]);
    let graph = model.node("Relu", &["/fc/Gemm_output_0"], "the output", vec![]).output("the output").read().unwrap();
    let names: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["in_put", "fc/Gemm.acc", "fc/Gemm", "the_output"]);
    assert_eq!(graph.consts.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["fc/Gemm.w", "fc/Gemm.b"]);
    let origins: Vec<_> = graph.origins.iter().map(|o| (o.node.as_str(), o.op.as_str())).collect();
    assert_eq!(origins, [("/fc/Gemm", "Gemm"), ("the output", "Relu")]);
    assert_eq!(graph.outputs[0].name, "the output");
    let printed = fhe_ir::text::print(&graph);
    assert_eq!(fhe_ir::text::parse(&printed.text, &printed.sidecar).unwrap(), graph);
}
