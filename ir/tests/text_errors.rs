//! Errors of the parser: place, what was got, what is allowed; and no text makes it panic or swell.

use fhe_ir::text::{Problem, Sidecar, parse};
use miette::Diagnostic;
use proptest::prelude::*;

/// A text that a case adds a line to.
const HEAD: &str = "eir 2 ranged\ngraph g\nparams !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128\n\
                    %x: [0, 15][1,2] = input\nconst @c: i[2] = 1 2\ntable @t: [1,4] = 0 1 2 3\n";

fn message(text: &str) -> String {
    match parse(text, &Sidecar::new()) {
        Ok(_) => "a graph".into(),
        Err(e) => {
            assert!(e.help().is_some_and(|h| !h.to_string().is_empty()), "{e}");
            assert!(e.span.offset() + e.span.len() <= text.len(), "{e}");
            e.to_string()
        }
    }
}

/// Checks the message for a line appended to [`HEAD`], which is line 7.
fn refuses(line: &str, expected: &str) {
    let got = message(&format!("{HEAD}{line}\n"));
    assert_eq!(got.strip_prefix("line 7, column ").unwrap_or(&got), expected, "{line}");
}

#[test]
fn headers() {
    let cases = [
        ("", "line 1, column 1: got the end of the text, allowed: `eir 2 <phase>`"),
        ("# only a comment\n", "line 2, column 1: got the end of the text, allowed: `eir 2 <phase>`"),
        ("graph g\n", "line 1, column 1: got `graph`, allowed: `eir`"),
        ("eir 1 float\ngraph g\n", "line 1, column 5: got version 1, allowed: version 2"),
        ("eir 3 float\ngraph g\n", "line 1, column 5: got version 3, allowed: version 2"),
        (
            "eir 2 int\ngraph g\n",
            "line 1, column 7: got `int`, allowed: a phase: float, calibrated, quantized, ranged, tabled, circuit",
        ),
        ("eir 2 float", "line 1, column 12: got the end of the text, allowed: `graph <name>`"),
        ("eir 2 float\ngraph\n", "line 2, column 6: got the end of the line, allowed: the name of the graph"),
        ("eir 2 float x\ngraph g\n", "line 1, column 13: got `x`, allowed: the end of the line"),
        ("eir 2 float\ngraph g\n", "a graph"),
    ];
    for (text, expected) in cases {
        assert_eq!(message(text), expected);
    }
}

#[test]
fn texts_of_other_versions_say_what_to_do() {
    // Keyswitches without a decomposition of their own, as version 1 printed them.
    let old =
        "eir 1 circuit\ngraph g\n%x: [0, 1][1,2] = input ; !p0.big span=2 sd=2^-50\n%k: [0, 1][1,2] = keyswitch %x\n";
    let error = parse(old, &Sidecar::new()).expect_err("an old text");
    assert!(matches!(error.problem, Problem::Version { got: 1 }), "{error}");
    assert!(error.problem.help().contains("compile the model again"), "{}", error.problem.help());
}

#[test]
fn names() {
    refuses("%x: [0, 1][1,2] = input", "1: `%x` is defined twice; allowed: once");
    refuses("const @c: i[1] = 1", "7: `@c` is defined twice; allowed: once");
    refuses("table @t: [1,1] = 1", "7: `@t` is defined twice; allowed: once");
    refuses("%y: [0, 1][1,2] = neg %z", "23: `%z` is not a value defined above");
    refuses("%y: [0, 1][1,2] = neg %y", "23: `%y` is not a value defined above");
    refuses("%y: [0, 1][1,2] = mul-clear %x, @t", "33: `@t` is not a constant of this text");
    refuses("%y: [0, 1][1,2] = lut %x, @c, domain=[0, 3], read=exact", "27: `@c` is not a table of this text");
    refuses("%y: [0, 1][1,2] = neg @c", "23: got `@c`, allowed: a value `%name`");
    refuses("output %y \"y\"", "8: `%y` is not a value defined above");
    refuses("output %x y", "11: got `y`, allowed: the name of the output in quotes");
    refuses("output %x \"y\"\noutput %x \"y\"", "line 8, column 11: `\"y\"` is defined twice; allowed: once");
    refuses("origin \"a\" Op\norigin \"a\" Op", "line 8, column 8: `\"a\"` is defined twice; allowed: once");
    refuses("from fc Gemm", "6: got `fc`, allowed: the name of a node in quotes");
    refuses("from \"fc\"", "10: got the end of the line, allowed: the operator of the node");
    refuses("% = input", "1: got `%`, allowed: a name behind the sigil");
    refuses("%\"y: f32[1] = input", "2: got `\"`, allowed: a string that is closed on its line");
    refuses("output %x \"\\q\"", "12: got `\\`, allowed: the escapes \\\" \\\\ \\n \\u{hex}");
}

#[test]
fn types_and_facts() {
    let ends = "allowed: ends in order, between -2^52 and 2^52";
    refuses("%y: [3, 1][1,2] = input", &format!("5: got [3, 1], {ends}"));
    refuses("%y: [0, 4503599627370497][1,2] = input", &format!("5: got [0, 4503599627370497], {ends}"));
    refuses("%y: [0, 99999999999999999999][1,2] = input", "9: got `99999999999999999999`, allowed: an integer");
    refuses("%y: i32[1,2] = input", "5: got `i32`, allowed: a type: f32, int, [lo, hi]");
    refuses("%y: f32[1,-2] = input", "11: got `-2`, allowed: an extent");
    refuses("%y: f32[1,268435457] = input", "8: got more elements, allowed: at most 268435456");
    refuses("%y: f32[0,18446744073709551615,2] = input", "8: got more elements, allowed: at most 268435456");
    refuses(&format!("%y: f32[1{}] = input", ",1".repeat(16)), "41: got more axes, allowed: at most 16");
    refuses("%y: f32[1] = input scale=1", "20: got `scale`, allowed: `;` and facts, or the end of the line");
    refuses("%y: f32[1] = input ; scale=x", "28: got `x`, allowed: a real number that f32 can hold, inf or -inf");
    refuses("%y: f32[1] = input ; scale=1e39", "28: got `1e39`, allowed: a real number that f32 can hold, inf or -inf");
    refuses("%y: f32[1] = input ; scale=NaN", "28: got `NaN`, allowed: a real number that f32 can hold, inf or -inf");
    refuses("%y: f32[1] = input ; scale=1 scale=1", "30: `scale` is defined twice; allowed: once");
    refuses(
        "%y: f32[1] = input ; speed=1",
        "22: got `speed`, allowed: a fact: scale, seen, range, bits, home, !p0.big",
    );
    refuses(
        "from \"a\" Op\n%y: f32[1] = input ; speed=1",
        "line 8, column 22: got `speed`, allowed: a fact: scale, seen, range, bits, home, !p0.big, also",
    );
    refuses("%y: [0, 3][1] = input ; bits=2.01", "30: got `2.01`, allowed: 2.00, the bits of [0, 3]");
    refuses("%y: int[1] = input ; bits=2", "27: got `2`, allowed: bits only of a value whose type is an interval");
    refuses("%y: f32[1] = input ; !p1.big span=1 sd=2^0", "22: `!p1.big` is not a key of a parameter set of this text");
    refuses(
        "%y: f32[1] = input ; !p00.big span=1 sd=2^0",
        "22: `!p00.big` is not a key of a parameter set of this text",
    );
    refuses("%y: f32[1] = input ; !p0 span=1 sd=2^0", "22: got `!p0`, allowed: a key: !p0.big, !p0.small");
    refuses("%y: f32[1] = input ; !p0.big sd=2^0", "30: got `sd`, allowed: `span`");
    refuses("%y: f32[1] = input ; !p0.big span=1 sd=3^0", "40: got `3`, allowed: a power of two `2^x`");
}

#[test]
fn ops_and_fields() {
    refuses(
        "%y: f32[1] = dense %x",
        "14: got `dense`, allowed: an op: input, dot, conv, sum-pool, avg-pool, max-pool, batch-norm, add-clear, mul-clear, add, \
         sub, mul, neg, concat, gather, slice, pad, reshape, transpose, map, lut, keyswitch, pbs",
    );
    refuses(
        "%y: f32[1] = map %x | relu6",
        "23: got `relu6`, allowed: a function: relu, sigmoid, tanh, gelu, gelu-tanh, silu, mish, softplus, softsign, hard-swish, \
         erf, abs, sign, exp, log, sqrt, square, reciprocal, floor, ceil, round, trunc, positive, non-negative, is-zero, sin, \
         cos, tan, asin, acos, atan, sinh, cosh, asinh, acosh, atanh, leaky-relu, elu, thresholded-relu, pow, clip, prelu, \
         mul, add, quant",
    );
    refuses("%y: f32[1] = add %x", "20: got the end of the line, allowed: `,`");
    refuses("%y: f32[1] = neg %x,", "20: got `,`, allowed: `;` and facts, or the end of the line");
    refuses(
        "%y: f32[1] = conv %x, @c, stride=[1,1]",
        "27: got `stride`, allowed: a field: strides, pads, dilations, groups",
    );
    refuses("%y: f32[1] = conv %x, @c, strides=[1]", "35: got 1 entries, allowed: 2");
    refuses("%y: f32[1] = conv %x, @c, groups=2 groups=2", "36: `groups` is defined twice; allowed: once");
    refuses("%y: f32[1] = sum-pool %x", "25: got the end of the line, allowed: the field kernel=");
    refuses("%y: f32[1] = slice %x, starts=[0,0]", "36: got the end of the line, allowed: the field steps=");
    refuses("%y: f32[1] = map %x, read=exact | relu", "33: got `|`, allowed: the field domain=");
    refuses("%y: f32[1] = lut %x, @t, read=exact", "36: got the end of the line, allowed: the field domain=");
    refuses(
        "%y: f32[1] = lut %x, @t, domain=[0, 3], read=fine",
        "46: got `fine`, allowed: exact, full, approximate <bits>, boxes <number>, middles <number>, bit",
    );
    refuses(
        "%y: f32[1] = lut %x, @t, domain=[0, 3] [0, 4], read=exact",
        "33: got `[`, allowed: at least one interval, all of one width",
    );
    refuses(
        "%y: f32[1] = lut %x, @t, domain=(), read=exact",
        "33: got `(`, allowed: at least one interval, all of one width",
    );
    refuses(
        "output %x \"y\", post=relu",
        "21: got `relu`, allowed: sigmoid, clip, quant, affine, softmax, log-softmax, hardmax, argmax, topk",
    );
}

#[test]
fn constants_tables_and_parameters() {
    refuses("const @d: i[2] = 1 2 3", "22: got 3 numbers, allowed: 2");
    refuses("const @d: i[2] = 1", "19: got 1 numbers, allowed: 2");
    refuses("const @d: i[2] = 0*9000000000", "18: got 9000000000 numbers, allowed: 2");
    refuses("const @d: i[2] = 0*0", "20: got `0`, allowed: a repeat count of at least 1");
    refuses("const @d: i[2,2] = 1 2 3 | 4", "26: got 3 numbers in this row, allowed: 2");
    refuses("const @d: i[2,2] = 1 2 | 3 4 |", "31: got 3 rows, allowed: 2");
    refuses("const @d: i[2,2] = 1 | 2 3 4", "22: got 1 numbers in this row, allowed: 2");
    refuses("const @d: i[2] = 1 | 2", "20: got `|`, allowed: a number: a shape of one axis has no rows");
    refuses("const @d: i[2] = 1.5 2", "18: got `1.5`, allowed: an integer of 64 bits");
    refuses("const @d: g[2] = 1 2", "11: got `g`, allowed: f[..] for reals or i[..] for integers");
    refuses(
        "const @d: f[2] = #0123456789abcdef*2",
        "18: got `#0123456789abcdef`, allowed: a list of reals in the sidecar",
    );
    refuses("table @u: [4] = 0 1 2 3", "11: got `[`, allowed: the shape [channels or 1,boxes]");
    let sets = "params !p1 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128";
    let case = |from: &str, to: &str, expected: &str| refuses(&sets.replace(from, to), expected);
    case("!p1", "!p0", "8: got `!p0`, allowed: `!p1`: parameter sets are numbered in order");
    case("2048", "2047", "26: got `2047`, allowed: a power of two");
    case("k=1", "k=-1", "22: got `-1`, allowed: a dimension");
    case("23x1", "23y1", "39: got `y1`, allowed: a decomposition `2^<base log>x<levels>`");
    case("128", "80", "60: got `80`, allowed: a security level: 128, 132");
}

#[test]
fn stray_lines() {
    refuses("return %x", "1: got `return`, allowed: a value `%name: ...`, from, output, const, table, params, origin");
    refuses("é", "1: got `é`, allowed: a name, a number or punctuation");
    refuses("%y: f32[1] = input ; #", "a graph");
    refuses("const @ü: i[1] = 1", "7: got `@`, allowed: a name behind the sigil");
}

#[test]
fn long_names_are_cut_and_control_characters_escaped() {
    let got = message(&format!("{HEAD}%y: f32[1] = neg %{}", "z".repeat(1000)));
    assert_eq!(got, format!("line 7, column 18: `%{}…` is not a value defined above", "z".repeat(39)));
    let got = message(&format!("{HEAD}\u{1b}[31m"));
    assert_eq!(got, "line 7, column 1: got `\\u{1b}`, allowed: a name, a number or punctuation");
}

#[test]
fn small_texts_do_not_swell() {
    refuses(
        "const @d: i[268435456] = 0*268435456",
        "26: got more numbers written out in this text, allowed: at most 16777216",
    );
    let many = format!("%y: f32[1] = input ; scale=({})", "0*9999999 ".repeat(2));
    refuses(&many, "39: got 19999998 numbers, allowed: 16777216");
}

const CIRCUIT: &str = "eir 2 circuit\ngraph \"a\\u{e9}\"\n\
    params !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128\n\
    %x: [0, 15][1,2] = input ; scale=(0.5*2) seen=[-1, 2]*2 bits=4.00 !p0.big span=16 sd=2^-50\n\
    from \"é\" Op\n%x.ks: [0, 15][1,2] = keyswitch %x, ks=2^3x5 ; !p0.small span=16 sd=(trivial 2^-inf) also \"b\" Op\n\
    %y: [0, 7][1,2] = pbs %x.ks, @t, domain=[0, 15]*2, read=approximate 3, bound=2^-7.5, fail=2^-41 ; !p0.big span=8 sd=trivial\n\
    output %y \"y\", read=exact, domain=[0, 7], bias=@b, post=argmax\n\
    const @b: i[2,1] = 1 | 2\nconst @f: f[3] = -1e-9 inf*2 # end\ntable @t: [1,8] = 0*2 1*6\n";

#[test]
fn no_byte_of_a_text_makes_the_parser_panic() {
    parse(CIRCUIT, &Sidecar::new()).expect("a graph");
    for at in 0..CIRCUIT.len() {
        let _ = parse(&String::from_utf8_lossy(&CIRCUIT.as_bytes()[..at]), &Sidecar::new());
        for byte in b" \n\"%@!#-9[](),;|*^=:.\\x\xc3" {
            let mut bytes = CIRCUIT.as_bytes().to_vec();
            bytes[at] = *byte;
            let _ = parse(&String::from_utf8_lossy(&bytes), &Sidecar::new());
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_words_makes_the_parser_panic(
        picks in prop::collection::vec((0usize..200, 0usize..200), 0..60),
        noise in ".{0,20}",
    ) {
        let words: Vec<&str> = CIRCUIT.split_inclusive([' ', ',', '[', '\n']).collect();
        let mut text: Vec<&str> = words.clone();
        for (from, to) in picks {
            let (from, to) = (from % words.len(), to % words.len());
            text[to] = words[from];
        }
        text.push(&noise);
        let _ = parse(&text.concat(), &Sidecar::new());
        let _ = parse(&format!("{HEAD}{noise}"), &Sidecar::new());
    }
}
