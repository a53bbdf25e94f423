//! `.npy` files: what is read, and what is refused.

use std::path::Path;

use fhe_backend::Error;
use fhe_backend::arrays::{RowRange, read_labels, read_rows, write_array};
use ndarray::{ArrayD, array};

/// A file with the header given and these bytes.
fn npy(path: &Path, kind: &str, order: &str, shape: &str, data: &[u8]) {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).expect("short").to_le_bytes();
    let bytes = [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), data].concat();
    std::fs::write(path, bytes).expect("a temporary folder");
}

fn why(result: Result<ArrayD<f32>, Error>) -> String {
    match result {
        Err(Error::BadArray { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_types_of_the_compiler_are_read_and_no_others() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("x.npy");
    let two = |one: &[u8], other: &[u8]| [one, other].concat();
    for (kind, data) in [
        ("<f4", two(&1f32.to_le_bytes(), &2f32.to_le_bytes())),
        ("<f8", two(&1f64.to_le_bytes(), &2f64.to_le_bytes())),
        ("|u1", vec![1, 2]),
        ("|i1", vec![1, 2]),
        ("<i4", two(&1i32.to_le_bytes(), &2i32.to_le_bytes())),
        ("<i8", two(&1i64.to_le_bytes(), &2i64.to_le_bytes())),
    ] {
        npy(&path, kind, "False", "(2,)", &data);
        assert_eq!(read_rows(&path, None).expect(kind), array![1.0, 2.0].into_dyn());
    }
    for kind in [">f4", ">i8", "|b1", "<i2", "<u4", "<f2", "<c8", "|O", "<U1"] {
        npy(&path, kind, "False", "(2,)", &[0; 16]);
        let why = why(read_rows(&path, None));
        assert!(why.contains(kind) && why.contains("<f4, <f8, |u1, |i1, <i4, <i8"), "{why}");
    }
    npy(&path, "|u1", "True", "(2, 3)", &[1, 2, 3, 4, 5, 6]);
    assert_eq!(read_rows(&path, None).expect("columns first"), array![[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]].into_dyn());
}

#[test]
fn a_file_is_as_long_as_its_header_says() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("x.npy");
    write_array(&path, &ArrayD::ones(vec![2, 3])).expect("a new file");
    let whole = std::fs::read(&path).expect("written");
    assert!(read_rows(&path, None).is_ok());
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("a temporary folder");
        why(read_rows(&path, None));
    }
    std::fs::write(&path, [whole.as_slice(), &[0]].concat()).expect("a temporary folder");
    assert!(why(read_rows(&path, None)).contains("the file has more"));
    for shape in
        ["(1099511627776, 1024)", "(4294967296, 4294967296, 4)", "(-1,)", "(9**9,)", "(0, 99999999999999999)", "()"]
    {
        npy(&path, "<f4", "False", shape, &[0; 4]);
        why(read_rows(&path, None));
    }
    npy(&path, "<f4", "False", "(0, 9223372036854775807, 9223372036854775807)", &[]);
    why(read_rows(&path, None));
}

#[test]
fn a_label_that_is_no_class_is_named_with_its_row() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("y.npy");
    for label in [-1.0, 0.5, 1e30, f32::NAN, f32::INFINITY] {
        write_array(&path, &array![0.0, 1.0, 2.0, label].into_dyn()).expect("a temporary folder");
        let range = |first, last| Some(RowRange { first, last });
        assert_eq!(read_labels(&path, range(1, 2)).expect("without the last"), [1, 2]);
        let error = read_labels(&path, range(2, 3)).expect_err("no class");
        assert!(matches!(error, Error::BadLabel { row: 3, .. }));
        assert!(error.to_string().ends_with(&format!("row 3 has the label {label}")), "{error}");
    }
}
