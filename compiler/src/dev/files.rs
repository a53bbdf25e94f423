//! Listings as files: `NAME.eir`, and beside it `lists/DIGEST.f32` or `.i64` for the long lists it names.

use std::path::Path;

use fhe_ir::Graph;
use fhe_ir::text::{Sidecar, parse, print};

use crate::failure::Failure;

/// Writes a listing; lists that are already there are not written again.
pub(super) fn write_listing(dir: &Path, name: &str, graph: &Graph) -> Result<(), Failure> {
    let printed = print(graph);
    let lists = dir.join("lists");
    if !printed.sidecar.is_empty() {
        std::fs::create_dir_all(&lists).map_err(|e| Failure::unwritable(&lists, e))?;
    }
    let reals = printed.sidecar.all_reals().map(|(digest, list)| {
        (format!("{digest}.f32"), list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    });
    let ints = printed.sidecar.all_ints().map(|(digest, list)| {
        (format!("{digest}.i64"), list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    });
    for (file, bytes) in reals.chain(ints) {
        let path = lists.join(file);
        if !path.exists() {
            std::fs::write(&path, bytes).map_err(|e| Failure::unwritable(&path, e))?;
        }
    }
    let path = dir.join(format!("{name}.eir"));
    std::fs::write(&path, printed.text).map_err(|e| Failure::unwritable(&path, e))
}

/// Reads a listing (`-` is stdin) with the lists beside it. A list that is missing or damaged is reported by the parser.
pub fn read_listing(path: &Path) -> Result<Graph, Failure> {
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|e| Failure::unreadable(path, e))?;
    let lists = path.parent().unwrap_or(Path::new("")).join("lists");
    let mut sidecar = Sidecar::new();
    for digest in digests(&text) {
        if let Ok(bytes) = std::fs::read(lists.join(format!("{digest}.f32"))) {
            let list = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            sidecar.restore_reals(digest, list);
        }
        if let Ok(bytes) = std::fs::read(lists.join(format!("{digest}.i64"))) {
            let list = bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
            sidecar.restore_ints(digest, list);
        }
    }
    Ok(parse(&text, &sidecar)?)
}

/// Words of at least 16 hexadecimal digits behind a `#`: never a path.
fn digests(text: &str) -> impl Iterator<Item = &str> {
    let behind = text.split('#').skip(1);
    behind.filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        (16..=64).contains(&end).then(|| &rest[..end])
    })
}
