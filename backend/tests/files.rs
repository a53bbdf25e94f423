//! Files of keys and ciphertexts: round trips, and what is refused.

use std::path::Path;

use crate::support::{Build, KEYS, mlp, rows};
use fhe_backend::{Circuit, Error, Randomness, decrypt, encrypt, evaluate, files, generate, silent};
use fhe_ir::{Read, eval};

/// A circuit without tables, and inputs for it.
fn linear() -> Circuit {
    let mut b = Build::new("linear");
    let x = b.input(&[1, 3], -4, 4, 64);
    let y = b.dot(x, &[&[1, 2, -1], &[0, -1, 3]]);
    b.output(y, Read::Exact);
    b.circuit()
}

fn alter(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("written before");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("a temporary folder");
}

#[test]
fn a_whole_exchange_through_files_gives_the_integer_circuit() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let circuit = mlp();
    files::write_secret(&at("s"), &KEYS.secret, false).expect("a new file");
    files::write_evaluation(&at("e"), &KEYS.evaluation).expect("a new file");

    let secret = files::read_secret(&at("s"), &circuit).expect("just written");
    let inputs = [rows(1, &[2, 6], -1, 2)];
    let x = encrypt(&circuit, &secret, &inputs, &mut Randomness::insecure_deterministic(1)).expect("in range");
    files::write_inputs(&at("x"), &x).expect("a new file");
    assert!(std::fs::metadata(at("x")).expect("written").len() < 2 * 6 * 8 + 200);

    let server = files::read_evaluation(&at("e"), &circuit).expect("just written").expand(&silent);
    let x = files::read_inputs(&at("x"), &circuit).expect("just written");
    let y = evaluate(&circuit, &server, &x, &silent).expect("same keys");
    files::write_outputs(&at("y"), &y).expect("a new file");

    let read = files::read_outputs(&at("y"), &circuit).expect("just written");
    assert_eq!(read, y);
    let got = decrypt(&circuit, &secret, &read).expect("same keys");
    assert_eq!(got, eval::integer(circuit.graph(), &inputs).outputs);
}

#[test]
fn a_secret_key_is_private_and_not_replaced_by_accident() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("s");
    files::write_secret(&path, &KEYS.secret, false).expect("a new file");
    assert!(matches!(files::write_secret(&path, &KEYS.secret, false), Err(Error::SecretExists { .. })));
    assert!(matches!(files::admit_secret(&path, false), Err(Error::SecretExists { .. })));
    files::write_secret(&path, &KEYS.secret, true).expect("forced");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).expect("written").permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "no temporary file stays");
}

#[test]
fn damaged_files_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("x");
    let circuit = linear();
    let inputs = [rows(2, &[5, 3], -4, 4)];
    let x = encrypt(&circuit, &KEYS.secret, &inputs, &mut Randomness::insecure_deterministic(2)).expect("in range");
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        // A file altered past recognition is not replaced.
        let _ = std::fs::remove_file(&path);
        files::write_inputs(&path, &x).expect("a temporary folder");
        alter(&path, change);
        files::read_inputs(&path, &circuit)
    };
    assert_eq!(read(&|_| {}).expect("unchanged"), x);
    assert!(matches!(read(&|b| *b.last_mut().expect("long") ^= 1), Err(Error::Altered { .. })));
    assert!(matches!(read(&|b| b[60] ^= 1), Err(Error::Altered { .. })), "the key's name is under the checksum");
    assert!(matches!(read(&|b| b[104] += 1), Err(Error::BadContents { .. } | Error::Altered { .. })), "row count");
    assert!(matches!(read(&|b| b.truncate(b.len() - 8)), Err(Error::WrongLength { .. })));
    assert!(matches!(read(&|b| b.extend([0; 24])), Err(Error::WrongLength { .. })));
    assert!(matches!(read(&|b| b.truncate(20)), Err(Error::NotOurFile { .. })));
    assert!(matches!(read(&|b| b[0] = b'x'), Err(Error::NotOurFile { .. })));
    assert!(matches!(read(&|b| b[8] = 9), Err(Error::WrongVersion { got: 9, .. })));
    assert!(matches!(read(&|b| b[12] = 2), Err(Error::WrongKind { .. })));
    assert!(matches!(read(&|b| b[12] = 77), Err(Error::NotOurFile { .. })));
    assert!(matches!(read(&|b| b[20] ^= 1), Err(Error::OtherCircuit { .. })));
    // A length that would not fit any memory is compared with the file before it is believed.
    assert!(matches!(read(&|b| b[64..72].fill(0xff)), Err(Error::WrongLength { .. })));
    assert!(matches!(files::read_outputs(&path, &circuit), Err(Error::WrongKind { .. })));
}

#[test]
fn keys_and_ciphertexts_that_do_not_belong_together_are_refused() {
    let circuit = linear();
    let other = Circuit::new(circuit.graph().clone(), [8; 32]).expect("the same graph");
    let mut randomness = Randomness::insecure_deterministic(3);
    let inputs = [rows(3, &[1, 3], -4, 4)];
    assert!(matches!(encrypt(&other, &KEYS.secret, &inputs, &mut randomness), Err(Error::OtherCircuit { .. })));

    let x = encrypt(&circuit, &KEYS.secret, &inputs, &mut randomness).expect("in range");
    let (stranger, _) = generate(&circuit, &mut randomness, &silent);
    let theirs = encrypt(&circuit, &stranger, &inputs, &mut randomness).expect("in range");
    assert!(matches!(evaluate(&circuit, &KEYS.server, &theirs, &silent), Err(Error::OtherKey { .. })));
    assert!(matches!(evaluate(&other, &KEYS.server, &x, &silent), Err(Error::OtherCircuit { .. })));
    let y = evaluate(&circuit, &KEYS.server, &x, &silent).expect("same keys");
    assert!(matches!(decrypt(&circuit, &stranger, &y), Err(Error::OtherKey { .. })));
}

#[test]
fn data_of_the_wrong_shape_or_range_is_refused() {
    let circuit = linear();
    let mut randomness = Randomness::insecure_deterministic(4);
    let mut encrypt = |inputs: &[_]| encrypt(&circuit, &KEYS.secret, inputs, &mut randomness);
    assert!(matches!(encrypt(&[]), Err(Error::WrongInputs { got: 0, wanted: 1 })));
    assert!(matches!(encrypt(&[rows(4, &[2, 4], 0, 1)]), Err(Error::WrongShape { index: 0, .. })));
    let mut x = rows(5, &[2, 3], 0, 1);
    x[[1, 2]] = 5;
    assert!(matches!(encrypt(&[x]), Err(Error::InputOutside { row: 1, channel: 2, got: 5, .. })));
}
