//! Operators that move, join and name elements, by hand.

use crate::onnx_support::{Builder, array, int, ints, ops, string};
#[allow(dead_code, unreachable_pub)]
use ndarray::ArrayD;
use onnx_ir::AttributeProto;

/// 0, 1, 2, … in a shape.
fn counted(shape: &[usize]) -> ArrayD<f32> {
    let n = shape.iter().product::<usize>();
    array(shape, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
}

fn input(shape: &[usize]) -> Builder {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    Builder::new(18).input("x", &dims.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A node on counted elements, with integers as further inputs.
fn run(shape: &[usize], op: &str, lists: &[&[i64]], attributes: Vec<AttributeProto>) -> ArrayD<f32> {
    let names = ["c0", "c1", "c2", "c3"];
    let model = lists.iter().zip(names).fold(input(shape), |m, (list, name)| m.ints(name, list));
    let inputs: Vec<&str> = ["x"].into_iter().chain(names.into_iter().take(lists.len())).collect();
    model.node(op, &inputs, "y", attributes).output("y").run(&[counted(shape)]).remove(0)
}

fn flat(y: &ArrayD<f32>) -> Vec<i64> {
    y.iter().map(|v| *v as i64).collect()
}

#[test]
fn values_are_joined_and_split() {
    let model =
        input(&[1, 2, 2]).input("z", &["1", "1", "2"]).node("Concat", &["x", "z", "x"], "y", vec![int("axis", -2)]);
    let y = model.output("y").run(&[counted(&[1, 2, 2]), array(&[1, 1, 2], &[8.0, 9.0])]).remove(0);
    assert_eq!((y.shape(), flat(&y)), (&[1, 5, 2][..], vec![0, 1, 2, 3, 8, 9, 0, 1, 2, 3]));
    let model = input(&[1, 5, 1]).ints("s", &[2, 3]).node("Split", &["x", "s"], "a,b", vec![int("axis", 1)]);
    let graph = model.output("b").output("a").read().unwrap();
    assert_eq!(ops(&graph), ["slice", "slice"]);
    assert_eq!(graph.values.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["x", "a", "b"]);
    let out = fhe_ir::eval::float(&graph, &[counted(&[1, 5, 1])]);
    assert_eq!((flat(&out[0]), flat(&out[1])), (vec![2, 3, 4], vec![0, 1]));
    // Without sizes the parts are equal, the last one shorter.
    let model = input(&[1, 5]).node("Split", &["x"], "a,b", vec![int("axis", 1), int("num_outputs", 2)]);
    let out = model.output("a").output("b").run(&[counted(&[1, 5])]);
    assert_eq!((flat(&out[0]), flat(&out[1])), (vec![0, 1, 2], vec![3, 4]));
}

#[test]
fn slices_are_gathered_repeated_and_reversed() {
    assert_eq!(flat(&run(&[1, 2, 3], "Gather", &[&[2, -3]], vec![int("axis", 2)])), [2, 0, 5, 3]);
    assert_eq!(flat(&run(&[1, 1, 2], "Tile", &[&[1, 2, 2]], vec![])), [0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(flat(&run(&[1, 2, 1], "Expand", &[&[1, 1, 3]], vec![])), [0, 0, 0, 1, 1, 1]);
    let reversed = run(&[1, 2, 4], "Slice", &[&[3], &[i64::MIN], &[2], &[-2]], vec![]);
    assert_eq!(flat(&reversed), [3, 1, 7, 5]);
    let scalar = onnx_ir::TensorProto { name: "i".into(), data_type: 7, int64_data: vec![1], ..Default::default() };
    let model = input(&[1, 2, 3]).tensor(scalar).node("Gather", &["x", "i"], "y", vec![int("axis", 1)]);
    let y = model.output("y").run(&[counted(&[1, 2, 3])]).remove(0);
    assert_eq!((y.shape(), flat(&y)), (&[1, 3][..], vec![3, 4, 5]), "a scalar index removes the axis");
}

#[test]
fn blocks_of_depth_are_places() {
    let block = || int("blocksize", 2);
    // Channels 0 to 3 are the four places of a block.
    assert_eq!(flat(&run(&[1, 4, 1, 2], "DepthToSpace", &[], vec![block()])), [0, 2, 1, 3, 4, 6, 5, 7]);
    let dcr = run(&[1, 8, 1, 1], "DepthToSpace", &[], vec![block(), string("mode", "DCR")]);
    assert_eq!(flat(&dcr), [0, 2, 4, 6, 1, 3, 5, 7]);
    let crd = run(&[1, 8, 1, 1], "DepthToSpace", &[], vec![block(), string("mode", "CRD")]);
    assert_eq!(flat(&crd), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(flat(&run(&[1, 1, 2, 4], "SpaceToDepth", &[], vec![block()])), [0, 2, 1, 3, 4, 6, 5, 7]);
}

#[test]
fn padding_repeats_mirrors_or_fills() {
    let pad = |mode, pads: &[i64]| flat(&run(&[1, 1, 3], "Pad", &[pads], vec![string("mode", mode)]));
    assert_eq!(pad("constant", &[0, 0, 1, 0, 0, 2]), [0, 0, 1, 2, 0, 0]);
    assert_eq!(pad("edge", &[0, 0, 1, 0, 0, 2]), [0, 0, 1, 2, 2, 2]);
    assert_eq!(pad("reflect", &[0, 0, 2, 0, 0, 1]), [2, 1, 0, 1, 2, 1]);
    assert_eq!(pad("wrap", &[0, 0, 1, 0, 0, 1]), [2, 0, 1, 2, 0]);
    assert_eq!(pad("constant", &[0, 0, -1, 0, 0, 1]), [1, 2, 0], "a negative pad takes away");
    let model = input(&[1, 1, 2]).ints("p", &[0, 0, 1, 0, 0, 0]).reals("v", &[], &[7.0]);
    let y = model.node("Pad", &["x", "p", "v"], "y", vec![]).output("y").run(&[counted(&[1, 1, 2])]).remove(0);
    assert_eq!(flat(&y), [7, 0, 1]);
}

#[test]
fn resizing_takes_the_nearest_or_mixes() {
    let resize = |extent: usize, scale: f32, attributes: Vec<AttributeProto>| {
        let model = input(&[1, 1, extent]).reals("s", &[3], &[1.0, 1.0, scale]);
        let model = model.node("Resize", &["x", "", "s"], "y", attributes).output("y");
        model.run(&[counted(&[1, 1, extent])])[0].iter().copied().collect::<Vec<_>>()
    };
    assert_eq!(resize(2, 3.0, vec![]), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let floor = vec![string("coordinate_transformation_mode", "asymmetric"), string("nearest_mode", "floor")];
    assert_eq!(resize(4, 0.5, floor), [0.0, 2.0]);
    // Half-pixel centres: places -0.25, 0.25, 0.75, 1.25.
    assert_eq!(resize(2, 2.0, vec![string("mode", "linear")]), [0.0, 0.25, 0.75, 1.0]);
    let corners = vec![string("mode", "linear"), string("coordinate_transformation_mode", "align_corners")];
    assert_eq!(resize(2, 2.0, corners), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    let sizes = input(&[1, 1, 2]).ints("z", &[1, 1, 4]).node("Resize", &["x", "", "", "z"], "y", vec![]).output("y");
    assert_eq!(flat(&sizes.run(&[counted(&[1, 1, 2])])[0]), [0, 0, 1, 1]);
    let old = Builder::new(9).input("x", &["1", "1", "2"]).reals("s", &[3], &[1.0, 1.0, 2.0]);
    let old = old.node("Upsample", &["x", "s"], "y", vec![]).output("y");
    assert_eq!(flat(&old.run(&[counted(&[1, 1, 2])])[0]), [0, 0, 1, 1]);
}

#[test]
fn what_moves_between_rows_is_refused() {
    for (op, lists, attributes) in [
        ("Concat", &[][..], vec![int("axis", 0)]),
        ("Gather", &[&[0i64][..]], vec![int("axis", 0)]),
        ("Split", &[&[1]], vec![int("axis", 0)]),
        ("Tile", &[&[2, 1, 1]], vec![]),
        ("Pad", &[&[1, 0, 0, 0, 0, 0]], vec![]),
        ("ReduceSum", &[&[0]], vec![]),
        ("Transpose", &[], vec![ints("perm", &[1, 0, 2])]),
    ] {
        let model = lists.iter().fold(input(&[1, 2, 3]), |m, list| m.ints("c", list));
        let inputs: Vec<&str> = if lists.is_empty() { vec!["x"] } else { vec!["x", "c"] };
        assert!(model.node(op, &inputs, "y", attributes).output("y").read().is_err(), "{op}");
    }
}
