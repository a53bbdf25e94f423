//! What results may replace, and what stays as it is.

use std::fs;
use std::path::Path;

use crate::support::{KEYS, mlp, rows};
use fhe_backend::arrays::{admit_array, write_array};
use fhe_backend::files::{self, Kind};
use fhe_backend::{EncryptedInputs, Error, Randomness, encrypt};
use ndarray::ArrayD;

fn inputs() -> EncryptedInputs {
    let mut randomness = Randomness::insecure_deterministic(1);
    encrypt(&mlp(), &KEYS.secret, &[rows(1, &[1, 6], -1, 2)], &mut randomness).expect("in range")
}

fn array() -> ArrayD<f32> {
    ArrayD::zeros(vec![2, 3])
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<_> = entries.map(|e| e.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn only_an_empty_file_or_one_of_the_same_kind_is_replaced() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    fs::write(at("other"), "something else").expect("a new file");
    fs::write(at("short"), "fhe-run\0").expect("a new file");
    for name in ["other", "short"] {
        let before = fs::read(at(name)).expect("written");
        assert!(matches!(files::write_inputs(&at(name), &inputs()), Err(Error::OutputExists { .. })));
        assert!(matches!(files::admit(&at(name), Kind::Outputs), Err(Error::OutputExists { .. })));
        assert!(matches!(files::write_secret(&at(name), &KEYS.secret, true), Err(Error::OutputExists { .. })));
        assert!(matches!(write_array(&at(name), &array()), Err(Error::OutputExists { .. })));
        assert_eq!(fs::read(at(name)).expect("still there"), before);
    }
    for name in ["x", "y.npy"] {
        fs::write(at(name), "").expect("a new file");
    }
    for _ in 0..2 {
        files::write_inputs(&at("x"), &inputs()).expect("empty, then of the kind");
        write_array(&at("y.npy"), &array()).expect("empty, then of the kind");
    }
    assert!(matches!(files::write_inputs(&at("y.npy"), &inputs()), Err(Error::OutputExists { .. })));
    assert!(matches!(admit_array(&at("x")), Err(Error::OutputExists { .. })));
    assert!(matches!(files::admit(&at("x"), Kind::Outputs), Err(Error::OutputExists { .. })));
    assert!(matches!(files::write_inputs(dir.path(), &inputs()), Err(Error::Io { .. })));
    assert_eq!(names(dir.path()), ["other", "short", "x", "y.npy"]);
}

#[test]
fn nothing_else_replaces_a_secret_key() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("s");
    files::write_secret(&path, &KEYS.secret, false).expect("a new file");
    assert!(matches!(write_array(&path, &array()), Err(Error::SecretExists { .. })));
    assert!(matches!(files::write_inputs(&path, &inputs()), Err(Error::SecretExists { .. })));
    assert!(files::read_secret(&path, &mlp()).is_ok());
    assert_eq!(names(dir.path()), ["s"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_take_the_bytes() {
    use std::os::unix::fs::{FileTypeExt, symlink};

    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("far")).expect("a new folder");
    symlink("far/x", at("link")).expect("a new link");
    symlink("/dev/full", at("full")).expect("a new link");
    // First the link ends nowhere, then at the file that it made.
    for _ in 0..2 {
        files::write_inputs(&at("link"), &inputs()).expect("followed");
        assert!(at("link").is_symlink() && !at("far/x").is_symlink());
        files::read_inputs(&at("far/x"), &mlp()).expect("written there");
    }
    assert_eq!(names(&at("far")), ["x"]);
    assert!(files::same_place(&at("link"), &at("far/../far/x")));
    assert!(files::same_place(&at("new"), &at("far/../new")) && !files::same_place(&at("new"), &at("far/new")));

    symlink("ring", at("ring")).expect("a new link");
    assert!(matches!(files::write_inputs(&at("ring"), &inputs()), Err(Error::Io { .. })));
    for path in [Path::new("/dev/full"), &at("full")] {
        assert!(matches!(files::write_inputs(path, &inputs()), Err(Error::Io { .. })));
        assert!(matches!(write_array(path, &array()), Err(Error::Io { .. })));
        assert!(matches!(files::write_secret(path, &KEYS.secret, false), Err(Error::SecretExists { .. })));
    }
    write_array(Path::new("/dev/null"), &array()).expect("takes everything");
    for path in ["/dev/full", "/dev/null"] {
        assert!(fs::metadata(path).expect("there").file_type().is_char_device(), "{path} is still a device");
    }
}
