//! `inspect --why` of circuits with several parameter sets: noise, bound and parts are those of the set that reads.

use fhe_ir::text::{Sidecar, parse};
use fhe_ir::verify::verify;
use fhe_ir::{Graph, Variance};
use fhe_passes::Notes;
use fhe_passes::params::NoiseSource;
use fhe_passes::why::{ReadingWhy, ValueWhy, options_of, why};

/// Two tables of different size behind one keyswitch, and a conversion that brings the first to the key of the second.
const CIRCUIT: &str = "eir 2 circuit
graph g
params !p0 = n=750 k=3 N=512 pbs=2^18x1 ks=2^3x5 security=128
params !p1 = n=750 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128
%x: [0, 7][1,4] = input ; scale=1 !p0.big span=8 sd=2^-36.79
%x.ks: [0, 7][1,4] = keyswitch %x, ks=2^3x5 ; !p0.small span=8 sd=2^-8.93
%coarse: [0, 3][1,4] = pbs %x.ks, @low, domain=[0, 7], read=exact, bound=2^-5, fail=2^-39.88 ; !p0.big span=8 sd=2^-9.99
%fine: [0, 3][1,4] = pbs %x.ks, @low, domain=[0, 7], read=exact, bound=2^-5, fail=2^-140.8 ; !p1.big span=8 sd=2^-15.23
%big: [0, 3][1,4] = keyswitch %coarse, ks=2^4x2 ; !p1.big span=8 sd=2^-6
%sum: [0, 6][1,4] = add %fine, %big ; !p1.big span=8 sd=2^-5.99
output %sum \"y\", read=exact, domain=[0, 7], bound=2^-5, fail=2^-0.5
table @low: [1,8] = 0 1 2 3 3 2 1 0
";

fn graph() -> Graph {
    let graph = parse(CIRCUIT, &Sidecar::new()).expect("a graph");
    assert_eq!(verify(&graph), Ok(()));
    graph
}

fn explain(graph: &Graph, asked: &str) -> ValueWhy {
    let mut why = why(graph, &options_of(graph), &Notes::default(), asked).expect("there is one");
    assert_eq!(why.values.len(), 1);
    why.values.remove(0)
}

fn part(reading: &ReadingWhy, source: NoiseSource) -> f64 {
    reading.shares.iter().find(|s| s.source == source).expect("all are listed").share
}

#[test]
fn a_read_is_explained_by_the_set_of_its_table() {
    let graph = graph();
    let x = explain(&graph, "x");
    assert_eq!(x.readings.len(), 2);
    let small = Variance::from_log2_sd(-8.93).0;
    for (reading, set) in x.readings.iter().zip(&graph.params) {
        let sd = Variance(small + set.modulus_switch_variance().0).log2_sd();
        assert!((reading.log2_sd - sd).abs() < 1e-6, "{} and {sd}", reading.log2_sd);
        assert!(reading.set.as_ref().is_some_and(|s| s.ends_with(&set.to_string())), "{:?}", reading.set);
        assert!((reading.shares.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(reading.one_bit_less.is_empty());
    }
    let switch = |i: usize| part(&x.readings[i], NoiseSource::ModulusSwitch);
    assert!(switch(0) > 0.7 && switch(1) < 0.2, "{} and {}", switch(0), switch(1));
    assert!(x.readings[0].log2_p_fail > x.readings[1].log2_p_fail + 50.0);
}

#[test]
fn a_conversion_is_a_value_and_what_it_adds_is_keyswitch_noise() {
    let graph = graph();
    assert_eq!(explain(&graph, "big").op, "keyswitch");
    assert_eq!(explain(&graph, "x.ks").value, "x");
    let sum = explain(&graph, "sum");
    assert_eq!((sum.readings.len(), sum.span), (1, 8));
    let reading = &sum.readings[0];
    assert!(reading.output && reading.set.is_none() && reading.decides);
    // Bootstraps of two sets meet here: what is not the inputs' counts for them.
    assert!(part(reading, NoiseSource::Bootstrap) + part(reading, NoiseSource::Fourier) > 0.99);

    // Under one set of bootstraps the rest is the conversion's.
    let text = CIRCUIT.replace("add %fine, %big", "add %big, %big");
    let one = parse(&text, &Sidecar::new()).expect("a graph");
    let reading = &explain(&one, "sum").readings[0];
    let noise = |log2: f64| Variance::from_log2_sd(log2).0;
    let keyswitch = 1.0 - 4.0 * noise(-9.99) / noise(-5.99);
    assert!((part(reading, NoiseSource::Keyswitch) - keyswitch).abs() < 0.01, "{:?}", reading.shares);
}
