//! The bundled arrhythmia rows: shapes, and that they are the rows their `SOURCE.md` says.

use std::fs;
use std::path::{Path, PathBuf};

use fhe_testsuite::data;
use ndarray::{Array1, Array2};
use ndarray_npy::read_npy;

fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/arrhythmia").join(name)
}

/// Bytes behind the header of a `.npy` file of version 1.
fn elements(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
    bytes[10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))..].to_vec()
}

#[test]
fn rows_have_the_shape_of_the_model() {
    let x: Array2<f32> = read_npy(bundled("test_x.npy")).expect("test rows");
    let y: Array1<f32> = read_npy(bundled("test_y.npy")).expect("test labels");
    let calibration: Array2<f32> = read_npy(bundled("calibration_x.npy")).expect("calibration rows");
    assert_eq!((x.dim(), y.dim(), calibration.dim()), ((300, 32), 300, (512, 32)));
    assert!(x.iter().chain(&calibration).all(|e| e.is_finite()));
    assert!(y.iter().all(|&e| e == 0.0 || e == 1.0));
    assert_eq!(y.sum(), 159.0);
}

#[test]
fn rows_are_the_first_of_the_whole_set() {
    let Ok(folder) = data::folder() else {
        println!("{} is not set: the bundled rows are not compared with the whole set", data::VARIABLE);
        return;
    };
    for (part, whole) in [
        ("test_x.npy", "Arryth_MITBIH_test_X.npy"),
        ("test_y.npy", "Arryth_MITBIH_test_y.npy"),
        ("calibration_x.npy", "Arryth_MITBIH_train_X.npy"),
    ] {
        let (part, whole) = (elements(&bundled(part)), elements(&folder.join("data/mitbih-32").join(whole)));
        assert!(part == whole[..part.len()]);
    }
}
