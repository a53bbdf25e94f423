//! The artifact: comes back, is always the same bytes, and every other file is refused without a panic.

use std::collections::HashMap;

use fhe_ir::artifact::{Artifact, ArtifactError, hex};
use fhe_ir::text::{Sidecar, parse};
use fhe_ir::verify::verify;
use miette::Diagnostic;
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// A circuit that verifies, with lists of 70 reals and 140 integers.
fn circuit_text() -> String {
    let scales: Vec<_> = (1..=70).map(|i| format!("0.{i}")).collect();
    let weights: Vec<_> = (0..140).map(|i| (i % 3 - 1).to_string()).collect();
    format!(
        r#"eir 2 circuit
graph tiny
params !p0 = n=742 k=1 N=2048 pbs=2^23x1 ks=2^3x5 security=128
%x: [0, 1][1,70] = input ; scale=({}) !p0.big span=256 sd=2^-50
from "fc" Gemm
%fc: [-70, 70][1,2] = dot %x, @w ; !p0.big span=256 sd=2^-46
%fc.ks: [-70, 70][1,2] = keyswitch %fc, ks=2^3x5 ; !p0.small span=256 sd=2^-20
%y: [0, 3][1,2] = pbs %fc.ks, @t, domain=[-70, 70], read=approximate 2, bound=2^-9, fail=2^-40 ; !p0.big span=4 sd=2^-25
output %y "y", read=exact, domain=[0, 3], bound=2^-3, fail=2^-80
const @w: i[2,70] = {}
table @t: [1,4] = 0 1 2 3
"#,
        scales.join(" "),
        weights.join(" ")
    )
}

fn artifact() -> Artifact {
    let circuit = parse(&circuit_text(), &Sidecar::new()).expect("a graph");
    verify(&circuit).expect("a circuit");
    let report = json!({ "z": 0.1, "a": [1, { "d": null, "c": "é" }], "tenth": 1e-7, "third": 1.0 / 3.0 });
    Artifact { circuit, report }
}

/// The file with its content and tensors edited and written anew, checksum unchanged.
fn rewritten(edit: impl FnOnce(&mut Value, &mut HashMap<String, (Dtype, Vec<u8>)>)) -> Vec<u8> {
    let bytes = artifact().to_bytes();
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("metadata");
    let mut content = serde_json::from_str(&metadata["fhe"]).expect("JSON");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors = file.iter().map(|(n, v)| (n.to_owned(), (v.dtype(), v.data().to_vec()))).collect();
    edit(&mut content, &mut tensors);
    let views = tensors.iter().map(|(name, (dtype, data))| {
        let count = data.len() * 8 / dtype.bitsize();
        (name, TensorView::new(*dtype, vec![count], data).expect("a view"))
    });
    let metadata = HashMap::from([("fhe".to_owned(), content.to_string())]);
    safetensors::serialize(views, Some(metadata)).expect("safetensors")
}

fn error(bytes: &[u8]) -> String {
    Artifact::from_bytes(bytes).expect_err("refused").to_string()
}

#[test]
fn it_comes_back() {
    let artifact = artifact();
    let bytes = artifact.to_bytes();
    let back = Artifact::from_bytes(&bytes).expect("an artifact");
    assert_eq!(back, artifact);
    assert_eq!(back.to_bytes(), bytes);
    assert_eq!(rewritten(|_, _| ()), bytes);
    assert_eq!(hex(&back.digest()), blake3::hash(&bytes).to_hex().to_string());
}

#[test]
fn lists_are_tensors_in_the_smallest_type() {
    let bytes = artifact().to_bytes();
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: Vec<_> = file.iter().map(|(n, v)| (n[..5].to_owned(), v.dtype(), v.shape().to_vec())).collect();
    tensors.sort();
    assert_eq!(tensors, [("ints.".into(), Dtype::I8, vec![140]), ("reals".into(), Dtype::F32, vec![70])]);

    let ends = [(-128, Dtype::I8), (128, Dtype::I16), (-32769, Dtype::I32), (i64::from(i32::MIN) - 1, Dtype::I64)];
    for (number, dtype) in ends {
        let text = circuit_text().replace("@w: i[2,70] = -1", &format!("@w: i[2,70] = {number}"));
        let circuit = parse(&text, &Sidecar::new()).expect("a graph");
        let printed = fhe_ir::text::print(&circuit);
        let bytes = Artifact { circuit, report: Value::Null }.to_bytes();
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let (digest, _) = printed.sidecar.all_ints().next().expect("the weights");
        assert_eq!(file.tensor(&format!("ints.{digest}")).expect("the weights").dtype(), dtype, "{number}");
    }
}

#[test]
fn the_order_of_keys_in_a_report_is_no_part_of_it() {
    let mut one = artifact();
    let mut two = one.clone();
    one.report = serde_json::from_str(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#).expect("JSON");
    two.report = serde_json::from_str(r#"{"b": {"d": 3, "c": 2}, "a": 1}"#).expect("JSON");
    assert_eq!(one.digest(), two.digest());
}

#[test]
fn truncations_and_flips_of_every_byte_are_refused() {
    let bytes = artifact().to_bytes();
    for at in 0..bytes.len() {
        error(&bytes[..at]);
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            assert!(Artifact::from_bytes(&bytes).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
    error(&[&bytes[..], b"\0"].concat());
}

#[test]
fn each_check_has_its_error() {
    let old = rewritten(|content, _| content["version"] = json!(1));
    assert_eq!(error(&old), "the artifact has version 1, allowed: 2");
    let help = Artifact::from_bytes(&old).expect_err("an old file").help().map(|help| help.to_string());
    assert_eq!(help.as_deref(), Some("compile the model again with this version"));
    let altered = "the artifact was altered or truncated: the checksum is another";
    assert_eq!(error(&rewritten(|content, _| content["report"]["z"] = json!(0.2))), altered);
    assert_eq!(error(&rewritten(|content, _| content["listing"] = json!("eir 2 circuit"))), altered);
    assert_eq!(error(&rewritten(|_, tensors| tensors.values_mut().for_each(|t| t.1[0] ^= 1))), altered);
    assert_eq!(error(&rewritten(|_, tensors| tensors.clear())), altered);
    assert_eq!(
        error(&rewritten(|content, _| content["extra"] = json!(1))),
        "the artifact was altered or truncated: the content is not in the form it is written in"
    );
    assert_eq!(
        error(&rewritten(|content, _| content["listing"] = json!(1))),
        "the file is not an artifact: the listing is not a string"
    );
    assert_eq!(error(b""), "the file is not an artifact: it has no header");

    let mut early = artifact();
    early.circuit.phase = fhe_ir::Phase::Tabled;
    assert!(matches!(Artifact::from_bytes(&early.to_bytes()), Err(ArtifactError::Phase { .. })));
    let mut weak = artifact();
    weak.circuit.params[0].lwe_dimension = 100;
    assert_eq!(error(&weak.to_bytes()), "parameter set !p0: lwe dimension n is 100, outside [450, 2048]");
    let mut broken = artifact();
    broken.circuit.values[1].name = "x".into();
    assert!(matches!(Artifact::from_bytes(&broken.to_bytes()), Err(ArtifactError::Listing(_))));
}

#[test]
fn tensors_that_end_behind_the_file_are_refused() {
    for end in [9, 1 << 40, u64::MAX - 7, u64::MAX] {
        let header = format!(
            r#"{{"__metadata__":{{"fhe":"{{}}"}},"t":{{"dtype":"I8","shape":[{end}],"data_offsets":[0,{end}]}}}}"#
        );
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        assert!(matches!(Artifact::from_bytes(&bytes), Err(ArtifactError::NotAnArtifact { .. })));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), json in ".{0,200}") {
        prop_assert!(Artifact::from_bytes(&bytes).is_err());
        for header in [json.clone(), format!(r#"{{"__metadata__":{{"fhe":{}}}}}"#, json!(json))] {
            let framed = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat();
            prop_assert!(Artifact::from_bytes(&framed).is_err());
        }
    }

    #[test]
    fn no_splice_panics(from in 0usize..4000, to in 0usize..4000, length in 0usize..200) {
        let mut bytes = artifact().to_bytes();
        let (from, to) = (from % bytes.len(), to % bytes.len());
        let length = length.min(bytes.len() - from.max(to));
        let before = bytes.clone();
        bytes.copy_within(from..from + length, to);
        prop_assert_eq!(Artifact::from_bytes(&bytes).is_ok(), bytes == before);
    }
}
