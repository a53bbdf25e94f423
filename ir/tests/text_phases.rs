//! Text of each phase: parses, verifies, and prints back as it stands; together the cases use every op and function.

use fhe_ir::text::{Sidecar, listing, parse, print, to_text, value_line};
use fhe_ir::verify::verify;
use fhe_ir::{Graph, Id, Op, Phase};

const FLOAT: &str = r#"eir 2 float
graph "two words"

%x: f32[1,2,6,6] = input
from "conv1" Conv
  %conv1: f32[1,2,4,2] = conv %x, @w, strides=[1,2] pads=[1,0,1,0] dilations=[2,1] groups=2
  %conv2: f32[1,2,4,4] = conv %x, @v
from "/layer1/bn" BatchNormalization
  %bn: f32[1,2,4,4] = batch-norm %conv2, scale=@s, bias=@b, mean=@b, var=@s, epsilon=1e-5 ; also "c" Conv "d" com.microsoft.Op "e" "odd op"
from -
  %onnx::AveragePool_3: f32[1,2,2,2] = avg-pool %bn, kernel=[2,2] strides=[2,2]
  %sum: f32[1,2,5,5] = sum-pool %bn, kernel=[2,2] pads=[1,1,1,1]
  %"per cent %": f32[1,2,2,2] = add-clear %onnx::AveragePool_3, @b
  %scaled: f32[1,2,2,2] = mul-clear %"per cent %", @one
  %add: f32[1,2,2,2] = add %scaled, %scaled
  %sub: f32[1,2,2,2] = sub %add, %scaled
  %neg: f32[1,2,2,2] = neg %sub
  %cut: f32[1,2,1,2] = slice %neg, starts=[0,0,1,0] steps=[1,1,2,1]
  %pad: f32[1,2,3,2] = pad %cut, before=[0,0,1,0] after=[0,0,1,0]
  %flip: f32[1,3,2,2] = transpose %pad, perm=[0,2,1,3]
  %flat: f32[1,12] = reshape %flip
  %dot: f32[1,2] = dot %flat, @d
from "act" Relu
  %act: f32[1,2] = map %dot | relu | leaky-relu 0.01 | clip -inf 6 | sigmoid | tanh | gelu | silu | abs | sign | exp | sqrt | mul @one | add @b | quant 0.05 [0, 15]
  %id: f32[1,2] = map %act
output %act "y", bias=@b, post=sigmoid log-softmax
output %id "z \"quoted\""

const @w: f[2,1,3,3] = 0*3 | 1 -1 0.5 | 1e-9*3 | -0 0 inf | 2*2 1 | 0*3
const @v: f[2,2,3,3] = 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 0*3 | 1*3
const @s: f[2] = 1 2
const @b: f[2] = -0.5 0.5
const @one: f[1] = 1
const @d: f[2,12] = 0*12 | 1*12
"#;

const CALIBRATED: &str = r#"eir 2 calibrated
graph seen

%x: f32[1,3] = input ; seen=[-1.5, 2.25]
from "relu" Relu
  %relu: f32[1,3] = map %x | relu ; seen=[0, 2.25] [0, 1]*2
output %relu "y"
"#;

const QUANTIZED: &str = r#"eir 2 quantized
graph q

%x: [0, 15][1,3] = input ; scale=0.1 bits=4.00
from "fc" Gemm
  %acc: int[1,2] = dot %x, @w ; scale=(0.5 0.25)
from "relu" Relu
  %y: [-8, 7][1,2] = map %acc, shift=@b | relu ; scale=0.5 bits=4.00
output %y "y", bias=@f

const @w: i[2,3] = 1 -2 3 | 0*3
const @b: i[2] = 1 -9223372036854775807
const @f: f[1] = 0.1
"#;

const RANGED: &str = r#"eir 2 ranged
graph r

%x: [0, 15][1,3] = input ; scale=0.1 bits=4.00
from "relu" Relu
  %y: [-8, 7][1,3] = map %x, shift=@b, domain=[0, 15], read=exact | relu | mul @f ; scale=0.5 bits=4.00
  %z: [-8, 7][1,3] = map %x, domain=[0, 15] [-1, 14]*2, read=approximate 3 | relu ; scale=0.5 bits=4.00
  %s: [-16, 14][1,3] = add %y, %z ; range=[-16, 14]*3 bits=4.95
output %s "y", read=exact, domain=[-16, 14]

const @b: i[1] = -1
const @f: f[3] = 1 2 3
"#;

const TABLED: &str = r#"eir 2 tabled
graph mlp2

%x: [0, 15][1,4] = input ; scale=0.06666667 bits=4.00
from "fc1" Gemm
  %fc1: [-135, 195][1,3] = dot %x, @fc1.w ; scale=(0.0059 0.00514 0.00667) range=[-60, 195] [-90, 180] [-135, 60] bits=8.37
from "relu1" Relu
  %relu1: [0, 15][1,3] = lut %fc1, @relu1.t, domain=[-60, 195] [-98, 157] [-135, 120], read=approximate 4 ; scale=0.06842667 bits=4.00 also "fc1" Gemm
from "fc2" Gemm
  %fc2: [-15, 15][1,2] = dot %relu1, @fc2.w ; scale=0.00782 bits=4.95
  %fc2.t: [0, 7][1,2] = lut %fc2, @sig, domain=[0, 7] [-4, 3], read=exact ; bits=3.00
output %fc2 "logits", read=approximate 8, domain=[-75, 150], bias=@fc2.b, post=softmax argmax
output %fc2.t "p", read=exact, domain=[0, 7]

const @fc1.w: i[3,4] = 7 -4 1 5 | -4 7 -2 5 | 1 -7 3 -2
const @fc2.w: i[2,3] = 0*3 | 1 0 -1
const @fc2.b: f[2] = -0.02346 0.0391
table @relu1.t: [1,16] = 0*4 1 2 3 5 6 8 9 10 12 13 14 15
table @sig: [2,8] = 0*4 1 2 3 5 | 0*3 1 2 3 5 7
"#;

const CIRCUIT: &str = r#"eir 2 circuit
graph c
params !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128
params !p1 = n=800 k=2 N=1024 pbs=2^15x2 ks=2^4x4 security=128
origin "unused" Identity
origin "relu" Relu

%x: [0, 15][1,2] = input ; scale=0.1 bits=4.00 !p0.big span=16 sd=2^-50.5
from "relu" Relu
  %x.ks: [0, 15][1,2] = keyswitch %x, ks=2^3x5 ; bits=4.00 !p0.small span=16 sd=(2^-20.25 2^-20)
  %y: [0, 7][1,2] = pbs %x.ks, @t, domain=[0, 15], read=approximate 3, bound=2^-7.5, fail=2^-41.2 ; bits=3.00 !p0.big span=8 sd=trivial
  %n: [-7, 0][1,2] = neg %y ; bits=3.00 !p0.big span=8 sd=(trivial 2^-30)
output %n "y", read=exact, domain=[-7, 0], bound=2^-5, fail=2^-inf

table @t: [1,8] = 0 1 2 3 4 5 6 7
"#;

const CASES: [(&str, Phase); 6] = [
    (FLOAT, Phase::Float),
    (CALIBRATED, Phase::Calibrated),
    (QUANTIZED, Phase::Quantized),
    (RANGED, Phase::Ranged),
    (TABLED, Phase::Tabled),
    (CIRCUIT, Phase::Circuit),
];

fn graph(text: &str) -> Graph {
    parse(text, &Sidecar::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn every_phase_comes_back() {
    for (text, phase) in CASES {
        let graph = graph(text);
        assert_eq!(graph.phase, phase);
        verify(&graph).unwrap_or_else(|e| panic!("{e}"));
        let printed = print(&graph);
        assert_eq!(printed.text, text);
        assert_eq!(parse(&printed.text, &printed.sidecar).expect("printed"), graph);
    }
}

#[test]
fn the_cases_use_every_op_and_function() {
    let (mut ops, mut functions) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for (text, _) in CASES {
        for value in graph(text).values {
            ops.insert(value.op.keyword());
            if let Op::Map { chain, .. } = value.op {
                functions.extend(chain.iter().map(|f| f.keyword()));
            }
        }
    }
    assert_eq!((ops.len(), functions.len()), (19, 14));
}

#[test]
fn reals_come_back_bit_for_bit() {
    let bits = |g: &Graph| g.reals(Id::new(0)).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (before, after) = (graph(FLOAT), graph(&to_text(&graph(FLOAT))));
    assert_eq!(bits(&before), bits(&after));
    assert!(bits(&before).contains(&(-0.0f32).to_bits()));
}

#[test]
fn what_a_person_may_write_differently() {
    let text = r#"
# a comment
eir 2 tabled   # behind a line too
graph "g"
table @t: [1,4]=0 1 2 3
from "n" Op
%x: [0,3][1,1] = input ; bits=2 scale=(1e0)
   %y: [0, 3][1,1] = lut %x, @t, read=exact domain=[0,3]
const @b: i[2,2] = 1*4
output %y "y", domain=[0, 3], read=exact
"#;
    let printed = r#"eir 2 tabled
graph g

from "n" Op
  %x: [0, 3][1,1] = input ; scale=1 bits=2.00
  %y: [0, 3][1,1] = lut %x, @t, domain=[0, 3], read=exact ; bits=2.00
output %y "y", read=exact, domain=[0, 3]

const @b: i[2,2] = 1*2 | 1*2
table @t: [1,4] = 0 1 2 3
"#;
    assert_eq!(to_text(&graph(text)), printed);
    assert_eq!(to_text(&graph(&text.replace('\n', "\r\n"))), printed);
}

#[test]
fn a_value_can_be_quoted_alone_or_with_its_neighbours() {
    let graph = graph(FLOAT);
    let at = |name: &str| Id::new(graph.values.iter().position(|v| v.name == name).expect("a value"));
    assert_eq!(value_line(&graph, at("neg")), "%neg: f32[1,2,2,2] = neg %sub");

    let (text, name) = listing::neighbourhood(&graph, at("onnx::AveragePool_3"));
    let expected = r#"from "/layer1/bn" BatchNormalization
  %bn: f32[1,2,4,4] = batch-norm %conv2, scale=@s, bias=@b, mean=@b, var=@s, epsilon=1e-5 ; also "c" Conv "d" com.microsoft.Op "e" "odd op"
from -
  %onnx::AveragePool_3: f32[1,2,2,2] = avg-pool %bn, kernel=[2,2] strides=[2,2]
...
  %"per cent %": f32[1,2,2,2] = add-clear %onnx::AveragePool_3, @b
"#;
    assert_eq!(text, expected);
    assert_eq!(&text[name], "%onnx::AveragePool_3");

    let (text, name) = listing::neighbourhood(&graph, at("x"));
    assert_eq!(&text[name], "%x");
    assert!(text.starts_with("%x: f32[1,2,6,6] = input\nfrom \"conv1\" Conv\n  %conv1"), "{text}");
}

#[test]
fn ids_that_lead_nowhere_print_but_do_not_parse() {
    let mut graph = graph(CIRCUIT);
    graph.values[1].op = Op::Keyswitch { x: Id::new(77), ks: graph.params[0].ks };
    graph.values[1].from = vec![Id::new(9)];
    let text = to_text(&graph);
    assert!(text.contains("keyswitch %?77") && text.contains("from ?9"), "{text}");
    assert!(parse(&text, &Sidecar::new()).is_err());
}
