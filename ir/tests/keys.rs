//! Circuits with several parameter sets: which keys they use, what they count, what the simulator samples.

use fhe_ir::eval;
use fhe_ir::stats::Statistics;
use fhe_ir::text::{Sidecar, parse};
use fhe_ir::verify::verify;
use fhe_ir::{BootstrapKey, CircuitKeys, Graph, KeyswitchKey, Op, SecretKey};
use ndarray::{ArrayD, IxDyn};

/// Four sets on two big and two small keys: a finer bootstrap under the same keys (`!p1`), another polynomial under the
/// same small key (`!p2`), and a conversion to it; `!p3` is not used. Integers have no noise of their own.
const CIRCUIT: &str = "eir 2 circuit
graph g
params !p0 = n=600 k=2 N=512 pbs=2^18x1 ks=2^3x5 security=128
params !p1 = n=600 k=2 N=512 pbs=2^12x2 ks=2^4x4 security=128
params !p2 = n=600 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128
params !p3 = n=900 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128
%x: [0, 3][1,1,500] = input ; scale=1 !p0.big span=4 sd=trivial
%k: [0, 3][1,1,500] = keyswitch %x, ks=2^3x5 ; !p0.small span=4 sd=trivial
%a: [0, 511][1,1,500] = pbs %k, @a, domain=[0, 3], read=boxes 4, bound=2^-6, fail=2^-40 ; !p0.big span=512 sd=trivial
%b: [0, 511][1,1,500] = pbs %k, @a, domain=[0, 3], read=boxes 4, bound=2^-6, fail=2^-40 ; !p1.big span=512 sd=trivial
%c: [0, 511][1,1,500] = pbs %k, @a, domain=[0, 3], read=boxes 4, bound=2^-6, fail=2^-40 ; !p2.big span=512 sd=trivial
%ab: [0, 1022][1,1,500] = add %a, %b ; !p0.big span=512 sd=trivial
%big: [0, 1022][1,1,500] = keyswitch %ab, ks=2^20x2 ; !p2.big span=512 sd=trivial
%y: [-511, 1022][1,1,500] = sub %big, %c ; !p2.big span=512 sd=trivial
output %y \"y\", read=exact, domain=[0, 511], bound=2^-6, fail=2^-40
table @a: [1,4] = 0 1 256 511
";

fn graph(text: &str) -> Graph {
    let graph = parse(text, &Sidecar::new()).expect("a graph");
    assert_eq!(verify(&graph), Ok(()));
    graph
}

#[test]
fn keys_are_told_apart_by_their_dimensions() {
    let graph = graph(CIRCUIT);
    let keys = CircuitKeys::of(&graph);
    let (small, big) =
        (SecretKey::Lwe { dimension: 600 }, SecretKey::Glwe { glwe_dimension: 2, log2_polynomial_size: 9 });
    let other = SecretKey::Glwe { glwe_dimension: 1, log2_polynomial_size: 11 };
    assert_eq!(keys.secret, [big, small, other]);
    assert_eq!(keys.bootstrap, [0, 1, 2].map(|set| BootstrapKey::of(&graph.params[set])));
    let ks = |at: usize| if let Op::Keyswitch { ks, .. } = graph.values[at].op { ks } else { panic!("a keyswitch") };
    let first = KeyswitchKey { from: big, to: small, ks: ks(1) };
    assert_eq!(keys.keyswitch, [first, KeyswitchKey { from: big, to: other, ks: ks(6) }]);
    assert_eq!(first.bytes(), 1024 * 5 * 601 * 8);
    assert_eq!(keys.bootstrap[1].bytes(), 600 * 2 * 9 * 512 * 8);
    let words: Vec<_> = [keys.keyswitch[1].to_string(), keys.bootstrap[1].to_string()].into();
    assert_eq!(words, ["keyswitch key k=2 N=512 to k=1 N=2048 2^20x2", "bootstrap key n=600 to k=2 N=512 2^12x2"]);
}

#[test]
fn statistics_count_each_key_once_and_each_ciphertext_under_its_own() {
    let graph = graph(CIRCUIT);
    let (stats, keys) = (Statistics::of(&graph), CircuitKeys::of(&graph));
    assert_eq!(stats.bootstraps_per_set, [500, 500, 500, 0]);
    assert_eq!(stats.keyswitches_per_set, [500, 0, 500, 0]);
    assert_eq!((stats.total.bootstraps, stats.total.keyswitches), (1500, 1000));
    assert_eq!(stats.bootstrap_key_bytes, keys.bootstrap.iter().map(|k| k.bytes()).sum::<u64>());
    assert_eq!(stats.keyswitch_key_bytes, 8 * (1024 * 5 * 601 + 1024 * 2 * 2049));
    assert_eq!(stats.ciphertext_bytes, 8 * 2049);
    // The result of the conversion, and with it its operand and `%c`, before the subtraction frees both.
    assert_eq!(stats.peak_ciphertext_bytes, 500 * 8 * (2049 + 2049 + 2049));
}

/// Standard deviation, in integers, of what the modulus switch in front of each of the three tables does, and the
/// correlations of the first with the others.
#[test]
fn tables_of_one_size_share_the_rounding_and_others_have_their_own() {
    // Tables whose entries are the slots of their grid: what is read is where the switch has put the input.
    let slots = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
    let text = format!(
        "eir 2 circuit\ngraph g\n\
         params !p0 = n=800 k=2 N=512 pbs=2^18x1 ks=2^3x5 security=128\n\
         params !p1 = n=800 k=2 N=512 pbs=2^12x2 ks=2^4x4 security=128\n\
         params !p2 = n=800 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128\n\
         %x: [0, 2047][1,1,4000] = input ; scale=1 !p0.big span=2048 sd=trivial\n\
         %k: [0, 2047][1,1,4000] = keyswitch %x, ks=2^3x5 ; !p0.small span=2048 sd=trivial\n\
         %a: [-1, 512][1,1,4000] = pbs %k, @a, domain=[0, 2047], read=boxes 512, bound=2^-6, fail=2^-40 ; !p0.big span=2048 sd=trivial\n\
         %b: [-1, 512][1,1,4000] = pbs %k, @a, domain=[0, 2047], read=boxes 512, bound=2^-6, fail=2^-40 ; !p1.big span=2048 sd=trivial\n\
         %c: [-1, 2048][1,1,4000] = pbs %k, @c, domain=[0, 2047], read=boxes 2048, bound=2^-6, fail=2^-40 ; !p2.big span=2048 sd=trivial\n\
         output %a \"a\", read=exact, domain=[0, 511], bound=2^-6, fail=2^-40\n\
         output %b \"b\", read=exact, domain=[0, 511], bound=2^-6, fail=2^-40\n\
         output %c \"c\", read=exact, domain=[0, 2047], bound=2^-6, fail=2^-40\n\
         table @a: [1,512] = {}\ntable @c: [1,2048] = {}\n",
        slots(512),
        slots(2048)
    );
    let graph = graph(&text);
    let count = 4000;
    let x = ArrayD::from_elem(IxDyn(&[1, 1, count]), 1026);
    let outputs = eval::simulate(&graph, &[x], 3).outputs;
    // A slot in units of the input, its middle.
    let errors = |at: usize, unit: f64| -> Vec<f64> {
        outputs[at].iter().map(|slot| (*slot as f64 + 0.5) * unit - 1026.5).collect()
    };
    let (a, b, c) = (errors(0, 4.0), errors(1, 4.0), errors(2, 1.0));
    assert_eq!(a, b);
    let moment = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / count as f64;
    let predicted = |set: usize| graph.params[set].modulus_switch_variance().0 * (2.0 * 2048.0f64).powi(2);
    // The grid itself rounds once more: a twelfth of a squared slot.
    let (coarse, fine) = (predicted(0) + 16.0 / 12.0, predicted(2) + 1.0 / 12.0);
    assert!((moment(&a, &a) / coarse - 1.0).abs() < 0.1, "{} of {coarse}", moment(&a, &a));
    assert!((moment(&c, &c) / fine - 1.0).abs() < 0.1, "{} of {fine}", moment(&c, &c));
    // What they have in common is the rounding to the finer grid.
    assert!((moment(&a, &c) / predicted(2) - 1.0).abs() < 0.4, "{} of {}", moment(&a, &c), predicted(2));
}
