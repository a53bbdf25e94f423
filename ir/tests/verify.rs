//! The rules of the verifier: for each, graphs that break it.
//!
//! A file of `verify/` is a graph that parses, with `# error: <rule>: <part of the message>` behind the line that is to
//! blame, or on a line of its own. What no text can say is built by hand below.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use fhe_ir::text::{Sidecar, parse};
use fhe_ir::verify::{VerifyError, verify};
use fhe_ir::{Elem, Graph, Id, Interval, Op, Planned};
use ndarray::{Array2, ShapeBuilder};

const RULES: [&str; 7] = ["structure", "shape", "phase", "scale", "range", "table", "cipher"];

/// The rule, a part of the message and the place that a file expects.
fn expected(text: &str) -> Option<(&str, &str, Option<String>)> {
    let line = text.lines().find(|l| l.contains("# error: "))?;
    let (code, error) = line.split_once("# error: ")?;
    let (rule, message) = error.split_once(": ")?;
    let mut words = code.split_whitespace();
    let place = match words.next() {
        Some("const" | "table" | "params") => words.next().map(|w| w.trim_end_matches(':').to_owned()),
        Some("output") => words.nth(1).map(|w| format!("output {}", w.trim_end_matches(','))),
        Some(value) => Some(value.trim_end_matches(':').to_owned()),
        None => None,
    };
    Some((rule, message, place))
}

#[test]
fn bad_graphs_are_refused_with_the_rule_at_the_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify");
    let mut broken = BTreeSet::new();
    let mut wrong = vec![];
    for entry in std::fs::read_dir(folder).expect("the folder of cases exists") {
        let file = entry.expect("a file").path();
        let text = std::fs::read_to_string(&file).expect("text");
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let Some((rule, message, place)) = expected(&text) else {
            wrong.push(format!("{name}: there is no `# error: <rule>: <message>`"));
            continue;
        };
        let graph = match parse(&text, &Sidecar::new()) {
            Ok(graph) => graph,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        match verify(&graph) {
            Ok(()) => wrong.push(format!("{name}: the graph is accepted")),
            Err(e) if e.rule != rule || !e.message.contains(message) || place.is_some_and(|p| p != e.place) => {
                wrong.push(format!("{name}: {e}"));
            }
            Err(e) => drop(broken.insert(e.rule)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(broken, BTreeSet::from(RULES));
}

#[test]
fn the_module_comment_lists_the_rules() {
    let source = include_str!("../src/verify.rs");
    let listed: Vec<_> =
        source.lines().filter_map(|l| l.strip_prefix("//! - `")).filter_map(|l| l.split('`').next()).collect();
    assert_eq!(listed, RULES);
}

/// A circuit with everything that a rule can be about.
const CIRCUIT: &str = "eir 2 circuit
graph g
params !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128
%x: [0, 15][1,2] = input ; scale=0.5 !p0.big span=32 sd=2^-50
from \"bias\" Add
%a: [1, 17][1,2] = add-clear %x, @c ; scale=0.5 range=[1, 16] [2, 17] !p0.big span=32 sd=2^-50
%k: [1, 17][1,2] = keyswitch %a, ks=2^3x5 ; range=[1, 16] [2, 17] !p0.small span=32 sd=2^-20
%y: [0, 1][1,2] = pbs %k, @t, domain=[1, 16] [2, 17], read=exact, bound=2^-6, fail=2^-40 ; !p0.big span=16 sd=2^-30
output %y \"y\", read=exact, domain=[0, 1], bias=@b, bound=2^-6, fail=2^-40
output %a \"a\", read=exact, domain=[1, 17], bound=2^-6, fail=2^-40
const @c: i[2] = 1 2
const @b: f[1] = -0.5
table @t: [1,16] = 0*15 1
";

fn circuit() -> Graph {
    let graph = parse(CIRCUIT, &Sidecar::new()).expect("a graph");
    assert_eq!(verify(&graph), Ok(()));
    graph
}

/// Checks that a change of the circuit is refused.
#[track_caller]
fn refused(rule: &str, message: &str, change: impl FnOnce(&mut Graph)) {
    let mut graph = circuit();
    change(&mut graph);
    let VerifyError { rule: got, message: text, .. } = verify(&graph).expect_err("the graph is broken");
    assert!(got == rule && text.contains(message), "{got}: {text}");
}

#[test]
fn ids_point_into_their_arenas() {
    refused("structure", "an operand does not come before its user", |g| {
        g.values[1].op = Op::AddClear { x: Id::new(1), c: Id::new(0) };
    });
    refused("structure", "an operand does not come before its user", |g| {
        g.values[1].op = Op::AddClear { x: Id::new(9), c: Id::new(0) };
    });
    refused("structure", "a constant does not exist", |g| {
        g.values[1].op = Op::AddClear { x: Id::new(0), c: Id::new(2) };
    });
    refused("structure", "the table does not exist", |g| g.tables.clear());
    refused("structure", "the parameter set does not exist", |g| g.params.clear());
    refused("structure", "an origin does not exist", |g| g.origins.clear());
    refused("structure", "the value or the bias does not exist", |g| g.outputs[0].value = Id::new(4));
    refused("structure", "the value or the bias does not exist", |g| g.outputs[0].bias = Some(Id::new(2)));
}

#[test]
fn planned_keys_exist_and_fit() {
    let text = "eir 2 tabled\ngraph g\nparams !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128\n\
                params !p1 = n=742 k=2 N=1024 pbs=2^23x1 ks=2^3x5 security=128\n\
                params !p2 = n=742 k=1 N=1024 pbs=2^23x1 ks=2^3x5 security=128\n\
                %x: [0, 1][1,2] = input ; scale=1 HOME\n\
                %y: [0, 1][1,2] = lut %x, @t, domain=[0, 1], read=exact ; scale=1 TABLE\n\
                output %y \"y\", read=exact, domain=[0, 1]\ntable @t: [1,2] = 0 1\n";
    let verified = |home: &str, table: &str| {
        let graph = parse(&text.replace("HOME", home).replace("TABLE", table), &Sidecar::new()).expect("a graph");
        verify(&graph).map_err(|e| format!("{}: {}", e.rule, e.message))
    };
    for (home, table, wanted) in [
        ("home=!p2", "home=!p2 set=!p2 ks=2^3x5", ""),
        ("home=!p2", "home=!p0 set=!p2 ks=2^3x5 convert=2^20x2", ""),
        ("home=!p2", "home=!p0 set=!p2 ks=2^3x5", "cipher: no conversion is planned"),
        ("home=!p2", "home=!p2 set=!p2 ks=2^3x5 convert=2^20x2", "cipher: a conversion is planned"),
        ("home=!p2", "home=!p2 set=!p2 ks=2^63x5", "cipher: "),
        ("home=!p2", "home=!p2", "phase: keys are planned"),
        ("home=!p2 set=!p2 ks=2^3x5", "home=!p2 set=!p2 ks=2^3x5", "phase: keys are planned"),
    ] {
        match verified(home, table) {
            Ok(()) => assert!(wanted.is_empty(), "{table} is accepted"),
            Err(error) => assert!(!wanted.is_empty() && error.starts_with(wanted), "{table}: {error}"),
        }
    }
    refused("phase", "planned in phase tabled", |g| {
        g.values[0].facts.planned = Some(Planned { home: Id::new(0), table: None });
    });
    refused("structure", "the planned parameter set", |g| {
        g.values[0].facts.planned = Some(Planned { home: Id::new(1), table: None });
    });
}

#[test]
fn names_are_unique_and_not_empty() {
    refused("structure", "the name is empty or not unique", |g| g.values[2].name = "x".into());
    refused("structure", "the name is empty or not unique", |g| g.values[2].name.clear());
    refused("structure", "the name is empty or not unique", |g| g.consts[0].name.clear());
    refused("structure", "the name is empty or not unique", |g| g.tables[0].name.clear());
    refused("structure", "the name is not unique", |g| g.outputs[1].name = "y".into());
}

#[test]
fn tables_are_row_major() {
    refused("structure", "row-major", |g| {
        g.tables[0].entries = Arc::new(Array2::zeros((2, 16).f()));
    });
}

#[test]
fn tensors_are_within_the_limit() {
    refused("shape", "more than 2^28", |g| {
        g.values[0].shape = vec![1, 1 << 29];
    });
}

#[test]
fn intervals_are_within_the_limit_and_not_empty() {
    for interval in [Interval { lo: 0, hi: Interval::LIMIT + 1 }, Interval { lo: 1, hi: 0 }] {
        refused("phase", "the element type", |g| g.values[0].elem = Elem::Int(interval));
    }
    refused("range", "is not part of the type", |g| {
        g.values[1].facts.range = Some(vec![Interval { lo: 2, hi: 1 }]);
    });
}

#[test]
fn predictions_are_numbers() {
    refused("cipher", "is not a number", |g| {
        g.values[0].cipher.as_mut().expect("a circuit").log2_sd = vec![f32::NAN];
    });
    refused("cipher", "a bound of 2^NaN", |g| {
        let Op::Pbs { log2_bound, .. } = &mut g.values[3].op else { panic!("a bootstrap") };
        *log2_bound = Some(f32::NAN);
    });
    refused("cipher", "a table has a bound and a probability", |g| {
        let Op::Pbs { log2_fail, .. } = &mut g.values[3].op else { panic!("a bootstrap") };
        *log2_fail = None;
    });
    refused("cipher", "a probability of 2^NaN", |g| g.outputs[0].log2_fail = Some(f32::NAN));
    refused("phase", "a bound and a probability together", |g| g.outputs[0].log2_fail = None);
}

#[test]
fn ranges_seen_are_numbers() {
    refused("scale", "a range seen is", |g| g.values[0].facts.seen = Some(vec![(f32::NAN, 1.0)]));
}
