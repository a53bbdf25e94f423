//! Concrete's parameters for a circuit like a network's, from a table of what its optimizer gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fhe_ir::ParamSet;
use fhe_ir::params::{Decomposition, SecurityCurve};

use super::{BudgetsError, P_ERROR};

/// The table, below the folder that `FHE_DATA` names.
const FILE: &str = "oracle/concrete_rounding_oracle.csv";

/// Bits that Concrete's tables read.
pub(super) const TABLE_BITS: u32 = 6;

/// What Concrete takes for two layers of dot product, approximate rounding to [`TABLE_BITS`] bits and table, at
/// [`P_ERROR`].
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    /// Bits of the accumulators.
    pub acc_bits: u32,
    /// log2 of the norm of the weights of a dot product.
    pub log2_norm: f64,
    /// Its one parameter set.
    pub params: ParamSet,
    /// What it costs under several sets, as a part of what it costs under one, by Concrete's own model; 1 when several are
    /// no cheaper, or nothing is known about several.
    pub several: f64,
}

/// Reads the circuits of the table.
///
/// # Errors
/// When the file cannot be read, is no such table, or has no such circuit.
pub fn read(folder: &Path) -> Result<Vec<Circuit>, BudgetsError> {
    let path = folder.join(FILE);
    let text = fs::read_to_string(&path).map_err(|source| BudgetsError::NoOracle { path: path.clone(), source })?;
    parse(&text).map_err(|reason| BudgetsError::BadOracle { path, reason })
}

/// One line of the table, by the names of its columns.
struct Line<'t> {
    number: usize,
    cells: BTreeMap<&'t str, &'t str>,
}

impl Line<'_> {
    fn text(&self, name: &str) -> &str {
        self.cells.get(name).copied().unwrap_or_default()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name);
        text.parse().map_err(|_| format!("line {}: {name} is {text:?}, not a number", self.number))
    }

    fn params(&self) -> Result<ParamSet, String> {
        let decomposition = |level, base_log| {
            Ok::<_, String>(Decomposition { level: self.number(level)?, base_log: self.number(base_log)? })
        };
        let params = ParamSet {
            curve: SecurityCurve::Bits128,
            lwe_dimension: self.number("n")?,
            glwe_dimension: self.number("k")?,
            log2_polynomial_size: self.number("log2N")?,
            pbs: decomposition("brl", "brb")?,
            ks: decomposition("ksl", "ksb")?,
        };
        params.check().map_err(|reason| format!("line {}: {reason}", self.number))?;
        Ok(params)
    }
}

fn parse(text: &str) -> Result<Vec<Circuit>, String> {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let lines = lines
        .enumerate()
        .map(|(i, line)| Line { number: i + 2, cells: names.iter().copied().zip(line.split(',')).collect() });
    let p_error = P_ERROR.to_string();
    let wanted: Vec<_> = lines
        .filter(|l| l.text("p_error") == p_error && l.text("tlu_bits") == TABLE_BITS.to_string())
        .filter(|l| l.text("mode") == "APPROX")
        .collect();
    let same = |a: &Line<'_>, b: &Line<'_>| ["acc_bits", "log2_norm2"].iter().all(|c| a.text(c) == b.text(c));
    let mut circuits = vec![];
    for line in wanted.iter().filter(|l| l.text("strategy") == "dag-mono") {
        let cost: f64 = line.number("cost_total")?;
        let multi = wanted.iter().find(|l| l.text("strategy") == "dag-multi" && same(l, line));
        let multi: Option<f64> = multi.map(|l| l.number("cost_total")).transpose()?;
        circuits.push(Circuit {
            acc_bits: line.number("acc_bits")?,
            log2_norm: line.number("log2_norm2")?,
            params: line.params()?,
            several: multi.map_or(1.0, |multi| (multi / cost).min(1.0)),
        });
    }
    if circuits.is_empty() {
        return Err(format!("it has no dag-mono circuit of {TABLE_BITS} bits, APPROX, at p_error {p_error}"));
    }
    Ok(circuits)
}

/// The circuit of the least norm that is not below a network's, else of the largest; of these, that of the narrowest
/// accumulators that hold the network's, else of the widest.
pub fn nearest(circuits: &[Circuit], acc_bits: f64, log2_norm: f64) -> Option<&Circuit> {
    // Circuits at least as demanding come first, the least of them in front; then the others, the greatest in front.
    let rank = |has: f64, wanted: f64| if has >= wanted { (0, has) } else { (1, -has) };
    let order = |(a, x): (i32, f64), (b, y): (i32, f64)| a.cmp(&b).then(x.total_cmp(&y));
    circuits.iter().min_by(|a, b| {
        let norms = order(rank(a.log2_norm, log2_norm), rank(b.log2_norm, log2_norm));
        let bits = |c: &Circuit| rank(f64::from(c.acc_bits), acc_bits);
        norms.then_with(|| order(bits(a), bits(b)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
strategy,p_error,acc_bits,tlu_bits,log2_norm2,mode,luts,k,log2N,n,brl,brb,ksl,ksb,cost_total,cost_per_layer,p_error_found
dag-mono,2^-40,8,6,3,APPROX,2,1,12,900,2,15,17,1,9,9,0
dag-mono,0.008,8,6,3,EXACT,6,1,11,837,2,15,17,1,9,9,0
dag-mono,0.008,8,5,3,APPROX,2,1,10,837,2,15,17,1,9,9,0
dag-mono,0.008,8,6,3,APPROX,2,1,11,836,2,15,17,1,100,50,0
dag-mono,0.008,18,6,3,APPROX,2,1,11,839,2,15,17,1,100,50,0
dag-mono,0.008,8,6,5,APPROX,2,1,11,840,2,15,17,1,100,50,0
dag-multi,0.008,8,6,5,APPROX,2,[k1 N2^11 n836 2/15],,,,,,,90,45,0
dag-mono,0.008,8,6,7,APPROX,2,1,11,838,2,15,17,1,100,50,0
dag-multi,0.008,8,6,7,APPROX,2,[k1 N2^11 n836 2/15],,,,,,,110,55,0
";

    #[test]
    fn the_nearest_circuit_is_not_easier_than_the_network_where_there_is_one() {
        let circuits = parse(TABLE).unwrap();
        assert_eq!(circuits.len(), 4);
        let n = |acc_bits, log2_norm| nearest(&circuits, acc_bits, log2_norm).unwrap().params.lwe_dimension;
        // The norm decides, the width of the accumulator only among equal norms; both end where the table does.
        assert_eq!([n(7.0, 2.0), n(8.0, 3.0), n(8.1, 3.0), n(25.0, 0.0)], [836, 836, 839, 839]);
        assert_eq!([n(7.0, 3.1), n(25.0, 5.0), n(7.0, 5.1), n(7.0, 30.0)], [840, 840, 838, 838]);
        assert_eq!(nearest(&[], 1.0, 1.0), None);
    }

    #[test]
    fn several_sets_count_where_they_are_cheaper() {
        let circuits = parse(TABLE).unwrap();
        assert_eq!(circuits.iter().map(|c| c.several).collect::<Vec<_>>(), [1.0, 1.0, 0.9, 1.0]);
        let decomposition = |base_log, level| Decomposition { base_log, level };
        assert_eq!([circuits[0].params.pbs, circuits[0].params.ks], [decomposition(15, 2), decomposition(1, 17)]);
    }

    #[test]
    fn other_tables_are_refused_with_their_line() {
        for (text, reason) in [
            ("", "no dag-mono circuit"),
            (&TABLE.replace("11,836", "11,many"), "line 5: n is \"many\""),
            (&TABLE.replace("11,836", "11,12"), "line 5: lwe dimension n is 12"),
            (&TABLE.replace(",90,45", ",,45"), "line 8: cost_total is \"\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
