//! Tables of numbers that other programs computed: slices in `testsuite/oracle`, whole ones in `$FHE_DATA/oracle`.

use std::collections::BTreeMap;
use std::path::Path;

/// A row of a CSV file, by column name.
pub(crate) type Row = BTreeMap<String, String>;

fn parse(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
    lines
        .map(|line| names.iter().map(|n| (*n).to_string()).zip(line.split(',').map(str::to_string)).collect())
        .collect()
}

pub(crate) fn slice(name: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testsuite/oracle").join(name);
    parse(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// The whole table; `None`, and a line that says so, without `FHE_DATA`.
pub(crate) fn whole(name: &str) -> Option<Vec<Row>> {
    let Some(data) = std::env::var_os("FHE_DATA") else {
        println!("skipped: FHE_DATA is not set, so oracle/{name} was not read");
        return None;
    };
    let path = Path::new(&data).join("oracle").join(name);
    Some(parse(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))))
}

pub(crate) fn int(row: &Row, name: &str) -> u32 {
    row[name].parse().unwrap_or_else(|e| panic!("{name} of {row:?}: {e}"))
}
