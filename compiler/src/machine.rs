//! `--cost-model`: the machine whose time a compilation saves, by name or from a file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use fhe_ir::cost::{CostFile, MAX_FILE_BYTES, Machine};

use crate::failure::Failure;

/// The machine of a built-in name, else that of a file which `fhe-run calibrate` wrote.
///
/// # Errors
/// When the text is neither.
pub fn machine(text: &str) -> Result<Machine, Failure> {
    if let Some(machine) = Machine::built_in(text) {
        return Ok(machine);
    }
    let path = Path::new(text);
    let names = || Machine::names().collect::<Vec<_>>().join(", ");
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(
            "--cost-model",
            format!("{text:?} is no file and none of the built-in machines: {}", names()),
        ),
        _ => Failure::unreadable(path, e),
    })?;
    let mut bytes = vec![];
    // One byte more than is allowed shows that a file is too large.
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| Failure::unreadable(path, e))?;
    let file = CostFile::from_json(&bytes);
    file.map(|f| f.machine).map_err(|error| Failure::BadCostModel { path: path.into(), error, names: names() })
}
