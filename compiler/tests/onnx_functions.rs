//! Functions, comparisons, logic, choices, bounds and products of two values: the graph computes what the standard says.

use crate::onnx_support::{Builder, array, int, ops, real, string};
#[allow(dead_code, unreachable_pub)]
use fhe_ir::Op;
use onnx_ir::AttributeProto;

const X: [f32; 6] = [-2.5, -1.0, -0.25, 0.0, 0.75, 3.5];

/// A node on `[N, 6]`, and the results for [`X`].
fn apply(op: &str, attributes: Vec<AttributeProto>) -> Vec<f32> {
    on(&X, op, attributes)
}

fn on(x: &[f32], op: &str, attributes: Vec<AttributeProto>) -> Vec<f32> {
    let model = Builder::new(20).input("x", &["N", &x.len().to_string()]).node(op, &["x"], "h", attributes);
    // Behind another node, so that no function is left to the client.
    let model =
        model.node("Identity", &["h"], "i", vec![]).reals("one", &[], &[1.0]).node("Mul", &["i", "one"], "y", vec![]);
    model.output("y").run(&[array(&[1, x.len()], x)])[0].iter().copied().collect()
}

fn close(op: &str, got: &[f32], wanted: impl IntoIterator<Item = f64>) {
    let wanted: Vec<f64> = wanted.into_iter().collect();
    assert_eq!(got.len(), wanted.len(), "{op}");
    for (got, wanted) in got.iter().zip(wanted) {
        let same =
            (f64::from(*got) - wanted).abs() <= 1e-5 * wanted.abs().max(1.0) || (got.is_nan() && wanted.is_nan());
        assert!(same || f64::from(*got) == wanted, "{op}: {got} {wanted}");
    }
}

/// A function of one number.
type Unary = fn(f64) -> f64;

/// A comparison of two numbers.
type Relation = fn(f32, f32) -> bool;

#[test]
fn functions_are_those_of_the_standard() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| (x.exp() + 1.0).ln();
    let check = |op: &str, attributes: Vec<AttributeProto>, f: &dyn Fn(f64) -> f64| {
        close(op, &apply(op, attributes), X.iter().map(|x| f(f64::from(*x))));
    };
    check("Elu", vec![real("alpha", 2.0)], &|x| if x < 0.0 { 2.0 * (x.exp() - 1.0) } else { x });
    let selu = |x: f64| 3.0 * if x > 0.0 { x } else { 2.0 * x.exp() - 2.0 };
    check("Selu", vec![real("alpha", 2.0), real("gamma", 3.0)], &selu);
    check("Celu", vec![real("alpha", 2.0)], &|x| x.max(0.0) + (2.0 * ((x / 2.0).exp() - 1.0)).min(0.0));
    check("Mish", vec![], &|x| x * softplus(x).tanh());
    check("Softplus", vec![], &softplus);
    check("Softsign", vec![], &|x| x / (1.0 + x.abs()));
    check("HardSwish", vec![], &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    check("HardSigmoid", vec![real("alpha", 0.5), real("beta", 0.25)], &|x| (0.5 * x + 0.25).clamp(0.0, 1.0));
    check("ThresholdedRelu", vec![real("alpha", 0.75)], &|x| if x > 0.75 { x } else { 0.0 });
    check("Reciprocal", vec![], &|x| 1.0 / x);
    check("Log", vec![], &f64::ln);
    check("Floor", vec![], &f64::floor);
    check("Ceil", vec![], &f64::ceil);
    check("Round", vec![], &f64::round_ties_even);
    check("Swish", vec![real("alpha", 2.0)], &|x| x * sigmoid(2.0 * x));
    let tanh = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    check("Gelu", vec![string("approximate", "tanh")], &tanh);
    let trigonometry: [(&str, Unary); 12] = [
        ("Sin", f64::sin),
        ("Cos", f64::cos),
        ("Tan", f64::tan),
        ("Asin", f64::asin),
        ("Acos", f64::acos),
        ("Atan", f64::atan),
        ("Sinh", f64::sinh),
        ("Cosh", f64::cosh),
        ("Asinh", f64::asinh),
        ("Acosh", f64::acosh),
        ("Atanh", f64::atanh),
        ("Exp", f64::exp),
    ];
    for (op, f) in trigonometry {
        check(op, vec![], &f);
    }
    // erf(0.5), erf(1)
    close("Erf", &on(&[0.5, 1.0, -1.0], "Erf", vec![]), [0.5204998778, 0.8427007929, -0.8427007929]);
}

/// A node on `x: [N, 6]` and a constant.
fn with(op: &str, first: bool, dims: &[i64], c: &[f32]) -> Vec<f32> {
    let inputs = if first { ["c", "x"] } else { ["x", "c"] };
    let model = Builder::new(17).input("x", &["N", "6"]).reals("c", dims, c);
    model.node(op, &inputs, "y", vec![]).output("y").run(&[array(&[1, 6], &X)])[0].iter().copied().collect()
}

#[test]
fn powers_have_one_exponent() {
    let check = |p: f32| close("Pow", &with("Pow", false, &[], &[p]), X.iter().map(|x| f64::from(*x).powf(p.into())));
    [0.5, 1.0, 2.0, 3.0, -1.0, -2.0].into_iter().for_each(check);
    close("Pow", &with("Pow", true, &[], &[2.0]), X.iter().map(|x| 2f64.powf((*x).into())));
    close("Div", &with("Div", true, &[], &[3.0]), X.iter().map(|x| 3.0 / f64::from(*x)));
}

#[test]
fn comparisons_with_constants_and_between_values() {
    let truth = |f: &dyn Fn(f32, f32) -> bool, c: &[f32]| -> Vec<f32> {
        X.iter().zip(c.iter().cycle()).map(|(x, c)| if f(*x, *c) { 1.0 } else { 0.0 }).collect()
    };
    let cs = [-1.0, -1.0, 0.0, 0.0, 0.75, 0.75];
    let comparisons: [(&str, Relation); 5] = [
        ("Greater", |a, b| a > b),
        ("GreaterOrEqual", |a, b| a >= b),
        ("Less", |a, b| a < b),
        ("LessOrEqual", |a, b| a <= b),
        ("Equal", |a, b| a == b),
    ];
    for (op, f) in comparisons {
        assert_eq!(with(op, false, &[6], &cs), truth(&f, &cs), "{op}");
        assert_eq!(with(op, true, &[], &[-1.0]), truth(&|x, c| f(c, x), &[-1.0]), "{op}");
        let model = Builder::new(17).input("a", &["N", "6"]).input("b", &["N", "6"]).node(op, &["a", "b"], "y", vec![]);
        let out = model.output("y").run(&[array(&[1, 6], &X), array(&[1, 6], &cs)]);
        assert_eq!(out[0].iter().copied().collect::<Vec<_>>(), truth(&f, &cs), "{op}");
    }
}

#[test]
fn logic_on_zeros_and_ones() {
    let (a, b) = ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]);
    let tables: [(&str, [f32; 4]); 3] =
        [("And", [0.0, 0.0, 0.0, 1.0]), ("Or", [0.0, 1.0, 1.0, 1.0]), ("Xor", [0.0, 1.0, 1.0, 0.0])];
    for (op, wanted) in tables {
        let values =
            Builder::new(17).input("a", &["N", "4"]).input("b", &["N", "4"]).node(op, &["a", "b"], "y", vec![]);
        let out = values.output("y").run(&[array(&[1, 4], &a), array(&[1, 4], &b)]);
        assert_eq!(out[0], array(&[1, 4], &wanted), "{op} of values");
        let clear = Builder::new(17).input("a", &["N", "4"]).reals("b", &[4], &b).node(op, &["b", "a"], "y", vec![]);
        let clear = clear.output("y");
        assert_eq!(clear.run(&[array(&[1, 4], &a)])[0], array(&[1, 4], &wanted), "{op} with a constant");
    }
    let not = Builder::new(17).input("a", &["N", "4"]).node("Not", &["a"], "y", vec![]).output("y");
    assert_eq!(not.run(&[array(&[1, 4], &b)])[0], array(&[1, 4], &[1.0, 0.0, 1.0, 0.0]));
}

#[test]
fn where_takes_constant_and_encrypted_conditions() {
    let (a, b, c) = ([1.0, 2.0, 3.0], [-4.0, 0.5, 7.0], [1.0, 0.0, 1.0]);
    let wanted = array(&[1, 3], &[1.0, 0.5, 3.0]);
    let inputs = |names: &[&str]| {
        let model = names.iter().fold(Builder::new(17), |m, n| m.input(n, &["N", "3"]));
        let clear = |m: Builder, n: &str, v: &[f32]| if names.contains(&n) { m } else { m.reals(n, &[3], v) };
        clear(clear(clear(model, "a", &a), "b", &b), "c", &c).node("Where", &["c", "a", "b"], "y", vec![]).output("y")
    };
    let values = |names: &[&str]| {
        let of = |n: &&str| {
            array(
                &[1, 3],
                match *n {
                    "a" => &a,
                    "b" => &b,
                    _ => &c,
                },
            )
        };
        names.iter().map(of).collect::<Vec<_>>()
    };
    for names in [&["a"][..], &["b"], &["c"], &["a", "b"], &["a", "c"], &["b", "c"], &["a", "b", "c"]] {
        assert_eq!(inputs(names).run(&values(names))[0], wanted, "{names:?} encrypted");
    }
    // What is not taken may be infinite.
    let mask = Builder::new(17).input("a", &["N", "3"]).reals("c", &[3], &[1.0, 1.0, 1.0]);
    let mask = mask.reals("b", &[], &[f32::NEG_INFINITY]).node("Where", &["c", "a", "b"], "y", vec![]).output("y");
    assert_eq!(mask.run(&[array(&[1, 3], &a)])[0], array(&[1, 3], &a));
}

#[test]
fn casts_drop_fractions_and_ask_for_zero() {
    assert_eq!(apply("Cast", vec![int("to", 7)]), [-2.0, -1.0, 0.0, 0.0, 0.0, 3.0]);
    assert_eq!(apply("Cast", vec![int("to", 9)]), [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    let model = Builder::new(17).input("x", &["N", "2"]).reals("c", &[], &[0.0]);
    let model = model.node("Less", &["x", "c"], "t", vec![]).node("Cast", &["t"], "y", vec![int("to", 1)]);
    assert_eq!(ops(&model.output("y").read().unwrap()), ["map"], "a truth value is a number already");
}

#[test]
fn extremes_sums_and_means_take_any_number_of_operands() {
    let model = |op: &str| {
        let model = Builder::new(17).input("a", &["N", "2"]).input("b", &["N", "2"]).reals("c", &[2], &[0.0, 5.0]);
        let out = model.node(op, &["a", "c", "b"], "y", vec![]).output("y");
        out.run(&[array(&[1, 2], &[3.0, -4.0]), array(&[1, 2], &[-1.0, 6.0])]).remove(0)
    };
    assert_eq!(model("Max"), array(&[1, 2], &[3.0, 6.0]));
    assert_eq!(model("Min"), array(&[1, 2], &[-1.0, -4.0]));
    assert_eq!(model("Sum"), array(&[1, 2], &[2.0, 7.0]));
    close("Mean", model("Mean").as_slice().unwrap(), [2.0 / 3.0, 7.0 / 3.0]);
}

#[test]
fn constants_meet_values_in_any_shape_that_broadcasts() {
    let run = |dims: &[&str], shape: &[usize], c: &[i64], op: &str| {
        let n: i64 = c.iter().product();
        let numbers: Vec<f32> = (1..=n).map(|i| i as f32).collect();
        let model = Builder::new(17).input("x", dims).reals("c", c, &numbers).node(op, &["x", "c"], "y", vec![]);
        let x: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 10.0 * i as f32).collect();
        model.output("y").run(&[array(shape, &x)]).remove(0)
    };
    // One entry per column, one per row, one per element.
    let x = &["N", "1", "2", "3"];
    let sum = |c: &[i64]| run(x, &[1, 1, 2, 3], c, "Add").iter().copied().collect::<Vec<_>>();
    assert_eq!(sum(&[3]), [1.0, 12.0, 23.0, 31.0, 42.0, 53.0]);
    assert_eq!(sum(&[2, 1]), [1.0, 11.0, 21.0, 32.0, 42.0, 52.0]);
    assert_eq!(sum(&[1, 1, 2, 3]), [1.0, 12.0, 23.0, 34.0, 45.0, 56.0]);
    // The value repeats where the constant is longer.
    let wide = run(&["N", "2", "1"], &[1, 2, 1], &[2, 3], "Mul");
    assert_eq!(wide, array(&[1, 2, 3], &[0.0, 0.0, 0.0, 40.0, 50.0, 60.0]));
    assert_eq!(run(&["N", "1"], &[1, 1], &[3], "Max"), array(&[1, 3], &[1.0, 2.0, 3.0]));
}

#[test]
fn values_meet_values_by_repeating() {
    let model = Builder::new(17).input("a", &["N", "2", "3"]).input("b", &["N", "2", "1"]);
    let model = model.node("Mul", &["a", "b"], "p", vec![]).node("Div", &["a", "b"], "q", vec![]);
    let model = model.node("Sub", &["b", "a"], "s", vec![]).output("p").output("q").output("s");
    let inputs = [array(&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), array(&[1, 2, 1], &[2.0, -4.0])];
    let out = model.run(&inputs);
    assert_eq!(out[0], array(&[1, 2, 3], &[2.0, 4.0, 6.0, -16.0, -20.0, -24.0]));
    assert_eq!(out[1], array(&[1, 2, 3], &[0.5, 1.0, 1.5, -1.0, -1.25, -1.5]));
    assert_eq!(out[2], array(&[1, 2, 3], &[1.0, 0.0, -1.0, -8.0, -9.0, -10.0]));
}

#[test]
fn slopes_are_constant_per_channel_or_encrypted() {
    let x = array(&[1, 2, 2], &[-1.0, 2.0, -3.0, 4.0]);
    let clear = Builder::new(17).input("x", &["N", "2", "2"]).reals("s", &[2, 1], &[0.5, 2.0]);
    let clear = clear.node("PRelu", &["x", "s"], "y", vec![]).output("y");
    assert_eq!(clear.run(std::slice::from_ref(&x))[0], array(&[1, 2, 2], &[-0.5, 2.0, -6.0, 4.0]));
    let secret = Builder::new(17).input("x", &["N", "2", "2"]).input("s", &["N", "2", "1"]);
    let secret = secret.node("PRelu", &["x", "s"], "y", vec![]).output("y");
    let slope = array(&[1, 2, 1], &[0.5, 2.0]);
    assert_eq!(secret.run(&[x, slope])[0], array(&[1, 2, 2], &[-0.5, 2.0, -6.0, 4.0]));
}

#[test]
fn results_carry_the_names_of_the_model() {
    let model = Builder::new(17).input("x", &["N", "1", "2", "2"]).reals("c", &[2], &[1.0, 2.0]);
    let model = model.named("mean image", "Sub", &["x", "c"], "centred", vec![]).output("centred");
    let graph = model.read().unwrap();
    let names: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["x", "centred.reshape", "centred.add-clear", "centred"]);
    assert!(matches!(graph.values[3].op, Op::Reshape { .. }));
}
