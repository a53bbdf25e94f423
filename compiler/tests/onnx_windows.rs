//! Convolutions, transposed convolutions and pools over one to three axes, against their definitions.

use crate::onnx_support::{Builder, array, int, ints, string};
#[allow(dead_code, unreachable_pub)]
use ndarray::{ArrayD, Dimension, IxDyn};
use onnx_ir::AttributeProto;

/// A window over any number of axes.
#[derive(Clone, Copy)]
struct Geometry<'a> {
    strides: &'a [usize],
    dilations: &'a [usize],
    before: &'a [usize],
    after: &'a [usize],
    groups: usize,
}

impl Geometry<'_> {
    fn attributes(&self) -> Vec<AttributeProto> {
        let list = |name, list: &[usize]| ints(name, &list.iter().map(|&n| n as i64).collect::<Vec<_>>());
        let pads = [self.before, self.after].concat();
        vec![list("strides", self.strides), list("dilations", self.dilations), list("pads", &pads)]
    }
}

fn numbers(shape: &[usize], seed: i64) -> ArrayD<f32> {
    let mut i = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        i = (i * 31 + 7) % 101;
        (i - 50) as f32
    })
}

fn dims(shape: &[usize]) -> Vec<String> {
    ["N".to_string()].into_iter().chain(shape[1..].iter().map(usize::to_string)).collect()
}

fn strs(dims: &[String]) -> Vec<&str> {
    dims.iter().map(String::as_str).collect()
}

fn weights(model: Builder, name: &str, w: &ArrayD<f32>) -> Builder {
    let shape: Vec<i64> = w.shape().iter().map(|&n| n as i64).collect();
    model.reals(name, &shape, &w.iter().copied().collect::<Vec<_>>())
}

/// Places `at·stride + tap·dilation − before` inside the extents.
fn source(g: &Geometry<'_>, at: &[usize], tap: &[usize], extents: &[usize]) -> Option<Vec<usize>> {
    (0..at.len())
        .map(|i| (at[i] * g.strides[i] + tap[i] * g.dilations[i]).checked_sub(g.before[i]).filter(|&p| p < extents[i]))
        .collect()
}

/// All indices of a shape.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    ndarray::indices(IxDyn(shape)).into_iter().map(|i| i.as_array_view().to_vec()).collect()
}

#[test]
fn convolutions_over_one_to_three_axes_match_their_definition() {
    let cases: [(&[usize], &[usize], Geometry<'_>); 5] = [
        (&[1, 2, 9], &[4, 2, 3], Geometry { strides: &[2], dilations: &[1], before: &[1], after: &[0], groups: 1 }),
        (&[1, 4, 8], &[4, 1, 2], Geometry { strides: &[1], dilations: &[3], before: &[0], after: &[2], groups: 4 }),
        (
            &[1, 2, 5, 6],
            &[4, 1, 3, 2],
            Geometry { strides: &[2, 1], dilations: &[1, 2], before: &[1, 0], after: &[1, 1], groups: 2 },
        ),
        (
            &[1, 2, 5, 4, 4],
            &[3, 2, 2, 2, 3],
            Geometry { strides: &[2, 1, 1], dilations: &[1, 1, 1], before: &[1, 0, 1], after: &[0, 1, 1], groups: 1 },
        ),
        (
            &[1, 4, 6, 3, 3],
            &[2, 2, 2, 1, 2],
            Geometry { strides: &[1, 2, 1], dilations: &[2, 1, 1], before: &[0, 0, 0], after: &[1, 0, 0], groups: 2 },
        ),
    ];
    for (shape, w_shape, g) in cases {
        let (x, w, bias) = (numbers(shape, 3), numbers(w_shape, 5), numbers(&w_shape[..1], 9));
        let d = dims(shape);
        let mut model = Builder::new(17).input("x", &strs(&d));
        model = weights(weights(model, "w", &w), "b", &bias);
        let mut attributes = g.attributes();
        attributes.push(int("group", g.groups as i64));
        let y =
            model.node("Conv", &["x", "w", "b"], "y", attributes).output("y").run(std::slice::from_ref(&x)).remove(0);
        let (per_group, out_per_group) = (w_shape[1], w_shape[0] / g.groups);
        for at in indices(y.shape()) {
            let mut sum = bias[[at[1]].as_slice()];
            for tap in indices(&w_shape[1..]) {
                if let Some(place) = source(&g, &at[2..], &tap[1..], &shape[2..]) {
                    let from = [&[0, at[1] / out_per_group * per_group + tap[0]], &place[..]].concat();
                    sum += x[&from[..]] * w[&[&[at[1]], &tap[..]].concat()[..]];
                }
            }
            assert_eq!(y[&at[..]], sum, "{shape:?} {w_shape:?} at {at:?}");
        }
    }
}

/// Shape of the operand and of the weights, geometry, output padding.
type Transposed<'a> = (&'a [usize], &'a [usize], Geometry<'a>, &'a [usize]);

#[test]
fn transposed_convolutions_scatter_their_windows() {
    let cases: [Transposed<'_>; 4] = [
        (
            &[1, 2, 4],
            &[2, 3, 3],
            Geometry { strides: &[2], dilations: &[1], before: &[1], after: &[0], groups: 1 },
            &[1],
        ),
        (
            &[1, 4, 3, 2],
            &[4, 2, 3, 2],
            Geometry { strides: &[2, 3], dilations: &[1, 2], before: &[0, 1], after: &[1, 0], groups: 2 },
            &[0, 1],
        ),
        (
            // The pads are wider than the kernel reaches: rows are cut off in front.
            &[1, 1, 4, 4],
            &[1, 1, 1, 2],
            Geometry { strides: &[1, 2], dilations: &[1, 1], before: &[1, 2], after: &[1, 0], groups: 1 },
            &[0, 0],
        ),
        (
            &[1, 1, 2, 3, 2],
            &[1, 2, 2, 2, 2],
            Geometry { strides: &[2, 1, 2], dilations: &[1, 1, 1], before: &[0, 1, 0], after: &[0, 0, 0], groups: 1 },
            &[1, 0, 0],
        ),
    ];
    for (shape, w_shape, g, more) in cases {
        let (x, w) = (numbers(shape, 3), numbers(w_shape, 5));
        let d = dims(shape);
        let model = weights(Builder::new(17).input("x", &strs(&d)), "w", &w);
        let mut attributes = g.attributes();
        attributes.push(int("group", g.groups as i64));
        attributes.push(ints("output_padding", &more.iter().map(|&n| n as i64).collect::<Vec<_>>()));
        let model = model.node("ConvTranspose", &["x", "w"], "y", attributes).output("y");
        let y = model.run(std::slice::from_ref(&x)).remove(0);
        let axes = shape.len() - 2;
        let extent = |i: usize| {
            g.strides[i] * (shape[i + 2] - 1) + more[i] + g.dilations[i] * (w_shape[i + 2] - 1) + 1
                - g.before[i]
                - g.after[i]
        };
        let mut out_shape = vec![1, w_shape[1] * g.groups];
        out_shape.extend((0..axes).map(extent));
        let mut wanted = ArrayD::<f32>::zeros(IxDyn(&out_shape));
        let per_group = shape[1] / g.groups;
        for from in indices(shape) {
            for tap in indices(&w_shape[1..]) {
                let channel = from[1] / per_group * w_shape[1] + tap[0];
                let place: Option<Vec<usize>> = (0..axes)
                    .map(|i| (from[i + 2] * g.strides[i] + tap[i + 1] * g.dilations[i]).checked_sub(g.before[i]))
                    .collect();
                if let Some(e) = place.and_then(|p| wanted.get_mut(&[&[0, channel], &p[..]].concat()[..])) {
                    *e += x[&from[..]] * w[&[&[from[1]], &tap[..]].concat()[..]];
                }
            }
        }
        assert_eq!(y, wanted, "{shape:?} {w_shape:?}");
    }
}

#[test]
fn transposed_convolutions_reach_the_shape_that_is_asked_for() {
    let shape = |attributes: Vec<AttributeProto>| {
        let model = Builder::new(17).input("x", &["N", "1", "3", "3"]).reals("w", &[1, 2, 3, 3], &[1.0; 18]);
        let mut all = vec![ints("strides", &[3, 2])];
        all.extend(attributes);
        let graph = model.node("ConvTranspose", &["x", "w"], "y", all).output("y").read().unwrap();
        graph.value(graph.outputs[0].value).shape.clone()
    };
    assert_eq!(shape(vec![]), [1, 2, 9, 7]);
    assert_eq!(shape(vec![ints("output_shape", &[10, 8])]), [1, 2, 10, 8]);
    assert_eq!(shape(vec![string("auto_pad", "SAME_UPPER")]), [1, 2, 9, 6]);
}

/// The greatest, or the mean, of each window by the standard's rules.
fn pooled(x: &ArrayD<f32>, kernel: &[usize], g: &Geometry<'_>, out: &[usize], mean: Option<bool>) -> ArrayD<f32> {
    let extents = x.shape()[2..].to_vec();
    ArrayD::from_shape_fn(IxDyn(out), |at| {
        let at = at.as_array_view().to_vec();
        let mut inside = vec![];
        let mut counted = 0;
        for tap in indices(kernel) {
            if let Some(place) = source(g, &at[2..], &tap, &extents) {
                inside.push(x[&[&[0, at[1]], &place[..]].concat()[..]]);
            }
            let padded =
                |i: usize| at[i + 2] * g.strides[i] + tap[i] * g.dilations[i] < g.before[i] + extents[i] + g.after[i];
            counted += usize::from((0..kernel.len()).all(padded));
        }
        match mean {
            None => inside.into_iter().fold(f32::MIN, f32::max),
            Some(pads) => {
                let n = if pads { counted } else { inside.len() };
                (inside.iter().map(|e| f64::from(*e)).sum::<f64>() / n as f64) as f32
            }
        }
    })
}

/// Shape of the operand, window, geometry, ceil mode, shape of the result.
type Pool<'a> = (&'a [usize], &'a [usize], Geometry<'a>, bool, &'a [usize]);

#[test]
fn pools_over_one_to_three_axes_match_their_definition() {
    let cases: [Pool<'_>; 6] = [
        (
            &[1, 2, 7],
            &[3],
            Geometry { strides: &[2], dilations: &[1], before: &[1], after: &[1], groups: 1 },
            false,
            &[1, 2, 4],
        ),
        (
            &[1, 2, 8],
            &[3],
            Geometry { strides: &[3], dilations: &[2], before: &[1], after: &[0], groups: 1 },
            true,
            &[1, 2, 3],
        ),
        (
            &[1, 2, 5, 6],
            &[2, 3],
            Geometry { strides: &[2, 2], dilations: &[1, 1], before: &[1, 1], after: &[0, 1], groups: 1 },
            false,
            &[1, 2, 3, 3],
        ),
        (
            &[1, 1, 6, 6],
            &[2, 2],
            Geometry { strides: &[1, 2], dilations: &[2, 3], before: &[1, 0], after: &[1, 0], groups: 1 },
            false,
            &[1, 1, 6, 2],
        ),
        (
            &[1, 1, 4, 4],
            &[3, 3],
            Geometry { strides: &[2, 2], dilations: &[1, 1], before: &[0, 0], after: &[0, 0], groups: 1 },
            true,
            &[1, 1, 2, 2],
        ),
        (
            &[1, 2, 4, 3, 5],
            &[2, 2, 3],
            Geometry { strides: &[2, 1, 2], dilations: &[1, 1, 1], before: &[0, 1, 1], after: &[0, 0, 1], groups: 1 },
            false,
            &[1, 2, 2, 3, 3],
        ),
    ];
    for (shape, kernel, g, ceil, out) in cases {
        let x = numbers(shape, 17);
        let d = dims(shape);
        let run = |op: &str, counted: Option<bool>| {
            let mut attributes = g.attributes();
            attributes.push(ints("kernel_shape", &kernel.iter().map(|&n| n as i64).collect::<Vec<_>>()));
            attributes.push(int("ceil_mode", ceil.into()));
            attributes.extend(counted.map(|c| int("count_include_pad", c.into())));
            let model = Builder::new(19).input("x", &strs(&d)).node(op, &["x"], "y", attributes).output("y");
            model.run(std::slice::from_ref(&x)).remove(0)
        };
        assert_eq!(run("MaxPool", None), pooled(&x, kernel, &g, out, None), "{shape:?}");
        for counted in [true, false] {
            let (got, wanted) = (run("AveragePool", Some(counted)), pooled(&x, kernel, &g, out, Some(counted)));
            assert_eq!(got.shape(), wanted.shape());
            let close = got.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(close, "{shape:?} {counted}:\n{got}\n{wanted}");
        }
    }
}

#[test]
fn global_pools_take_any_number_of_axes() {
    for shape in [&[1, 2, 4][..], &[1, 2, 2, 2], &[1, 2, 2, 1, 2]] {
        let x = array(shape, &[1.0, 2.0, 3.0, -6.0, 5.0, 5.0, 5.0, 9.0]);
        let d = dims(shape);
        let run = |op: &str| {
            let model = Builder::new(17).input("x", &strs(&d)).node(op, &["x"], "y", vec![]).output("y");
            let y = model.run(std::slice::from_ref(&x)).remove(0);
            assert!(y.shape()[2..].iter().all(|&n| n == 1) && y.ndim() == shape.len());
            y.iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(run("GlobalAveragePool"), [0.0, 6.0]);
        assert_eq!(run("GlobalMaxPool"), [3.0, 9.0]);
        let l2 = run("GlobalLpPool");
        assert!((l2[0] - 50f32.sqrt()).abs() < 1e-5 && (l2[1] - 156f32.sqrt()).abs() < 1e-5);
    }
}
