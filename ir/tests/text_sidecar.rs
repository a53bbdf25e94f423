//! Long lists: a digest in the text, the numbers beside it.

use fhe_ir::text::{INLINE, Printed, Sidecar, parse, print};
use fhe_ir::{Graph, Id};

/// A graph whose constant has `n` numbers, as a person writes it.
fn with_numbers(n: usize) -> String {
    let numbers: Vec<_> = (0..n).map(|i| (i % 3).to_string()).collect();
    format!(
        "eir 2 quantized\ngraph g\n\n%x: [0, 1][1,2] = input\noutput %x \"y\"\n\nconst @c: i[{n}] = {}\n",
        numbers.join(" ")
    )
}

fn graph(text: &str) -> Graph {
    parse(text, &Sidecar::new()).expect("a graph")
}

#[test]
fn a_list_is_written_out_up_to_64_numbers() {
    let written = with_numbers(INLINE);
    let Printed { text, sidecar } = print(&graph(&written));
    assert_eq!(text.lines().last(), written.lines().last());
    assert!(sidecar.is_empty());
}

#[test]
fn a_longer_list_is_a_digest_of_its_little_endian_bytes() {
    let long = graph(&with_numbers(INLINE + 1));
    let bytes: Vec<u8> = (0..65i64).flat_map(|i| (i % 3).to_le_bytes()).collect();
    let digest = &blake3::hash(&bytes).to_hex()[..16];

    let Printed { text, sidecar } = print(&long);
    assert!(text.ends_with(&format!("const @c: i[65] = #{digest}*65\n")), "{text}");
    assert_eq!(sidecar.ints(digest).map(<[i64]>::len), Some(65));
    assert_eq!(parse(&text, &sidecar), Ok(long));
}

#[test]
fn long_facts_and_domains_are_digests_too() {
    let pairs = |n: i64| (0..n).map(|i| format!("[{i}, {}]", i + 9)).collect::<Vec<_>>().join(" ");
    let scales: Vec<_> = (1..=65).map(|i| format!("0.{i}")).collect();
    let text = format!(
        "eir 2 circuit\ngraph g\nparams !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128\n\
         %x: [0, 99][1,65] = input ; scale=({}) seen={} range={} !p0.small span=100 sd=(2^-30 2^-20*64)\n\
         %y: [0, 1][1,65] = pbs %x, @t, domain={}, read=exact, bound=2^0, fail=2^0 ; range={}\n\
         table @t: [1,2] = 0 1\n",
        scales.join(" "),
        pairs(33),
        pairs(40),
        pairs(65),
        pairs(32),
    );
    let graph = graph(&text);
    let Printed { text, sidecar } = print(&graph);
    assert_eq!(text.matches('#').count(), 5, "{text}");
    assert!(text.contains("*66 range=#") && text.contains("*80 bits=6.64 !p0.small span=100 sd=#"), "{text}");
    assert!(text.contains("range=[0, 9] [1, 10]"), "{text}");
    assert_eq!(sidecar.all_reals().count() + sidecar.all_ints().count(), 5);
    assert_eq!(parse(&text, &sidecar), Ok(graph));
}

#[test]
fn equal_lists_are_kept_once() {
    let mut twice = graph(&with_numbers(100));
    let data = twice.constant(Id::new(0)).data.clone();
    twice.push_const("c", data);
    assert_eq!(print(&twice).sidecar.all_ints().count(), 1);
}

#[test]
fn a_digest_needs_its_list_with_its_count() {
    let Printed { text, sidecar } = print(&graph(&with_numbers(100)));
    let error = parse(&text, &Sidecar::new()).expect_err("no list").to_string();
    assert!(error.ends_with("allowed: a list of integers in the sidecar"), "{error}");
    for (from, to) in [("*100", "*99"), ("i[100]", "i[99]"), ("i[100]", "f[100]"), ("i[100] = #", "i[100] = #0")] {
        parse(&text.replace(from, to), &sidecar).expect_err(to);
    }
}

#[test]
fn a_list_with_nan_is_refused() {
    let mut sidecar = Sidecar::new();
    let digest = sidecar.insert_reals(vec![f32::NAN; 65]);
    let text = format!("eir 2 float\ngraph g\nconst @c: f[65] = #{digest}*65\n");
    let error = parse(&text, &sidecar).expect_err("NaN").to_string();
    assert!(error.ends_with("allowed: a list without NaN"), "{error}");
}
