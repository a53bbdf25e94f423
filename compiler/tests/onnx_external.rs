//! External data: read from the model's folder, and from nowhere else.

#[allow(dead_code, unreachable_pub)]
use std::fs;
use std::path::Path;

use crate::onnx_support::{Builder, array};
use fhe_compiler::onnx::{OnnxError, ReadOptions, read_bytes, read_file};
use fhe_ir::eval::float;
use miette::Diagnostic;
use onnx_ir::{AttributeProto, AttributeType, TensorProto};
use tempfile::TempDir;

/// A tensor `[2, 2]` of floats that is in another file.
fn outside(entries: &[(&str, &str)]) -> TensorProto {
    let mut tensor = TensorProto { name: "w".into(), dims: vec![2, 2], data_type: 1, ..Default::default() };
    // Field 14: data_location = EXTERNAL.
    tensor.data_location =
        onnx_ir::Message::parse_from_bytes(&[0x70, 1]).map(|t: TensorProto| t.data_location).unwrap();
    for (key, value) in entries {
        tensor.external_data.push(Default::default());
        let entry = tensor.external_data.last_mut().unwrap();
        (entry.key, entry.value) = ((*key).into(), (*value).into());
    }
    tensor
}

fn model(tensor: TensorProto) -> Builder {
    Builder::new(13).input("x", &["N", "2"]).tensor(tensor).node("MatMul", &["x", "w"], "y", vec![]).output("y")
}

/// A folder with `w.bin`: four bytes of something else, then 1, 2, 3, 4.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let numbers = [9.0f32, 1.0, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
    fs::write(folder.path().join("w.bin"), numbers).unwrap();
    folder
}

fn read_in(folder: &Path, model: Builder) -> Result<fhe_ir::Graph, OnnxError> {
    let path = folder.join("m.onnx");
    fs::write(&path, model.bytes()).unwrap();
    read_file(&path, &ReadOptions::default())
}

/// The code and the message of a refusal.
fn refused(folder: &Path, tensor: TensorProto) -> (String, String) {
    let error = read_in(folder, model(tensor)).unwrap_err();
    (error.code().unwrap().to_string(), error.to_string())
}

#[test]
fn numbers_come_from_the_file_beside_the_model() {
    let folder = folder();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::copy(folder.path().join("w.bin"), folder.path().join("sub/w.bin")).unwrap();
    for location in ["w.bin", "./w.bin", "sub/w.bin"] {
        for rest in [&[("length", "16")][..], &[]] {
            let entries = [&[("location", location), ("offset", "4"), ("checksum", "?")][..], rest].concat();
            let graph = read_in(folder.path(), model(outside(&entries))).unwrap();
            let y = float(&graph, &[array(&[1, 2], &[1.0, 10.0])]);
            assert_eq!(y[0], array(&[1, 2], &[31.0, 42.0]));
        }
    }
}

#[test]
fn a_literal_of_a_node_may_be_outside_too() {
    let folder = folder();
    let value = AttributeProto {
        name: "value".into(),
        type_: AttributeType::TENSOR.into(),
        t: Some(outside(&[("location", "w.bin"), ("offset", "4")])).into(),
        ..Default::default()
    };
    let model = Builder::new(13).input("x", &["N", "2"]).node("Constant", &[], "w", vec![value]);
    let graph = read_in(folder.path(), model.node("MatMul", &["x", "w"], "y", vec![]).output("y")).unwrap();
    assert_eq!(float(&graph, &[array(&[1, 2], &[1.0, 0.0])])[0], array(&[1, 2], &[1.0, 2.0]));
}

#[test]
fn tensors_that_nothing_reads_are_not_looked_for() {
    let folder = folder();
    let mut unused = outside(&[("location", "gone.bin")]);
    unused.name = "unused".into();
    let model = model(outside(&[("location", "w.bin")])).tensor(unused);
    assert!(read_in(folder.path(), model).is_ok());
}

#[test]
fn what_is_not_in_the_folder_is_refused() {
    let folder = folder();
    let inner = folder.path().join("inner");
    fs::create_dir_all(inner.join("sub")).unwrap();
    let absolute = folder.path().join("w.bin").display().to_string();
    for location in [absolute.as_str(), "../w.bin", "sub/../../w.bin", "sub/../w.bin", "..", "/"] {
        let (code, message) = refused(&inner, outside(&[("location", location)]));
        assert_eq!(code, "onnx::external-file");
        assert!(message.contains("not below the model's folder"), "{message}");
    }
    for (location, reason) in [
        ("", "not the name of a file"),
        ("w.bin\0", "not the name of a file"),
        ("..\\w.bin", "not the name of a file"),
        ("gone.bin", "No such file"),
        ("sub", "not a regular file"),
        (".", "not a regular file"),
    ] {
        let (code, message) = refused(&inner, outside(&[("location", location)]));
        assert_eq!(code, "onnx::external-file");
        assert!(message.contains(reason) && message.contains("\"w\""), "{location:?}: {message}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_the_folder_only() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::copy(folder.path().join("w.bin"), inner.join("real.bin")).unwrap();
    symlink("real.bin", inner.join("inside.bin")).unwrap();
    symlink("../w.bin", inner.join("leaves.bin")).unwrap();
    symlink("..", inner.join("up")).unwrap();
    symlink("loop.bin", inner.join("loop.bin")).unwrap();
    symlink("/dev/zero", inner.join("zero.bin")).unwrap();
    assert!(read_in(&inner, model(outside(&[("location", "inside.bin")]))).is_ok());
    for location in ["leaves.bin", "up/w.bin", "zero.bin"] {
        let (_, message) = refused(&inner, outside(&[("location", location)]));
        assert!(message.contains("a link that leaves the model's folder"), "{message}");
    }
    assert_eq!(refused(&inner, outside(&[("location", "loop.bin")])).0, "onnx::external-file");
}

#[test]
fn parts_are_what_the_shape_needs_and_are_in_the_file() {
    let folder = folder();
    let part = |offset, length| outside(&[("location", "w.bin"), ("offset", offset), ("length", length)]);
    for (tensor, reason) in [
        (part("0", "12"), "its length is 12, its shape and type need 16 bytes"),
        (part("0", "20"), "its length is 20"),
        (part("8", "16"), "16 bytes from 8 on are not in a file of 20 bytes"),
        (part("18446744073709551615", "16"), "are not in a file"),
        (part("-4", "16"), "its offset is \"-4\", not a number of bytes"),
        (part("0", "0x10"), "its length is \"0x10\""),
        (part("0", "99999999999999999999"), "its length is"),
        (outside(&[("location", "w.bin"), ("offset", "0"), ("offset", "4")]), "it states \"offset\" twice"),
        (outside(&[]), "does not say where"),
        (TensorProto { dims: vec![1 << 40, 2], ..part("0", "16") }, "or above"),
        (TensorProto { dims: vec![-2, -2], ..part("0", "16") }, "is negative"),
        (TensorProto { dims: vec![i64::MAX; 8], ..part("0", "16") }, "or above"),
        (TensorProto { dims: vec![1 << 27], ..outside(&[("location", "w.bin")]) }, "are not in a file of 20 bytes"),
        (TensorProto { data_type: 8, ..part("0", "16") }, "elements of type string cannot be in another file"),
        (TensorProto { data_type: -1, ..part("0", "16") }, "cannot be in another file"),
    ] {
        let (code, message) = refused(folder.path(), tensor);
        assert_eq!(code, "onnx::external-file");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn all_files_together_stay_under_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    // A file with a hole: no bytes on the disk.
    fs::File::create(folder.path().join("w.bin")).unwrap().set_len(1 << 31).unwrap();
    let mut tensor = outside(&[("location", "w.bin")]);
    (tensor.dims, tensor.data_type) = (vec![1 << 28], 7);
    let (code, message) = refused(folder.path(), tensor);
    assert_eq!(code, "onnx::limit");
    assert!(message.contains("bytes with its external data"), "{message}");
}

#[test]
fn bytes_without_a_folder_are_refused() {
    let bytes = model(outside(&[("location", "w.bin")])).bytes();
    let error = read_bytes("m", &bytes, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.code().unwrap().to_string(), "onnx::external-data");
}
