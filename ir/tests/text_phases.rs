//! Text of each phase: parses, and prints back as it stands.

use fhe_ir::graph::Phase;
use fhe_ir::text::{Sidecar, parse, print};

/// A listing in its printed form comes back byte for byte.
fn comes_back(text: &str) {
    let graph = parse(text, &Sidecar::new()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let printed = print(&graph);
    assert_eq!(printed.text, text);
    assert_eq!(parse(&printed.text, &printed.sidecar).expect("printed"), graph);
}

const TABLED: &str = r#"eir 1 tabled
graph mlp2

%x: [0, 15][1,4] = input ; scale=0.06666667 bits=4.00
from "fc1" Gemm
  %fc1: [-135, 195][1,3] = dot %x, @fc1.w ; scale=(0.0059 0.00514 0.00667) range=[-60, 195] [-90, 180] [-135, 60] bits=8.37
from "relu1" Relu
  %relu1: [0, 15][1,3] = lut %fc1, @relu1.t, domain=[-60, 195] [-98, 157] [-135, 120], read=approximate 4 ; scale=0.06842667 range=[0, 15] [0, 12] [0, 9] bits=4.00 also "fc1" Gemm
from "fc2" Gemm
  %fc2: [-75, 150][1,2] = dot %relu1, @fc2.w ; scale=0.00782 bits=7.82
  %fc2.t: [0, 7][1,2] = lut %fc2, @sig, domain=[-75, 150]*2, read=exact ; bits=3.00
output %fc2 "logits", read=approximate 8, domain=[-75, 150], bias=@fc2.b, post=softmax argmax
output %fc2.t "p"

const @fc1.w: i[3,4] = 7 -4 1 5 | -4 7 -2 5 | 1 -7 3 -2
const @fc2.w: i[2,3] = 0*3 | 1 0 -1
const @fc2.b: i[2] = -3 5
table @relu1.t: [1,16] = 0*4 1 2 3 5 6 8 9 10 12 13 14 15
table @sig: [2,8] = 0*4 1 2 3 5 | 0*3 1 2 3 5 7
"#;

#[test]
fn tabled() {
    comes_back(TABLED);
    assert_eq!(parse(TABLED, &Sidecar::new()).expect("a graph").phase, Phase::Tabled);
}
