//! Concrete's parameters for a circuit like a network's, from tables of what its optimizer gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fhe_ir::ParamSet;
use fhe_ir::params::{Decomposition, SecurityCurve};

use super::{BudgetsError, P_ERROR};

/// Two layers with rounding, below the folder that `FHE_DATA` names.
const ROUNDING: &str = "oracle/concrete_rounding_oracle.csv";

/// One table behind a dot product, which has rows for larger norms.
const V0: &str = "oracle/concrete_optimizer_v0_oracle.csv";

/// log2 of the largest norm in the table of rounding.
pub(super) const LARGEST_ROUNDED_NORM: f64 = 7.0;

/// Bits that Concrete's tables read.
pub(super) const TABLE_BITS: u32 = 6;

/// What Concrete takes for two layers of dot product, approximate rounding to [`TABLE_BITS`] bits and table, at
/// [`P_ERROR`]; for larger norms, what it takes for one table of as many bits behind a dot product.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    /// Bits of the accumulators; for the larger norms the most that any other circuit has.
    pub acc_bits: u32,
    /// log2 of the norm of the weights of a dot product.
    pub log2_norm: f64,
    /// Its one parameter set.
    pub params: ParamSet,
    /// What it costs under several sets, as a part of what it costs under one, by Concrete's own model; 1 when several are
    /// no cheaper, or nothing is known about several.
    pub several: f64,
}

/// Reads the circuits of the table of rounding, and those of larger norms from the other one.
///
/// # Errors
/// When a file cannot be read, is no such table, or has no such circuit, or when the two give different parameters for
/// one norm.
pub fn read(folder: &Path) -> Result<Vec<Circuit>, BudgetsError> {
    let [rounding, v0] = [ROUNDING, V0].map(|file| folder.join(file));
    let text =
        |path: &Path| fs::read_to_string(path).map_err(|source| BudgetsError::NoOracle { path: path.into(), source });
    let bad = |path: &Path, reason| BudgetsError::BadOracle { path: path.into(), reason };
    let circuits = parse(&text(&rounding)?).map_err(|reason| bad(&rounding, reason))?;
    extend(circuits, &text(&v0)?).map_err(|reason| bad(&v0, reason))
}

/// One line of a table, by the names of its columns.
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

    /// The set whose decompositions, level and base, of bootstraps and keyswitches are in these columns.
    fn params(&self, pbs: [&str; 2], ks: [&str; 2]) -> Result<ParamSet, String> {
        let decomposition = |[level, base_log]: [&str; 2]| {
            Ok::<_, String>(Decomposition { level: self.number(level)?, base_log: self.number(base_log)? })
        };
        let params = ParamSet {
            curve: SecurityCurve::Bits128,
            lwe_dimension: self.number("n")?,
            glwe_dimension: self.number("k")?,
            log2_polynomial_size: self.number("log2N")?,
            pbs: decomposition(pbs)?,
            ks: decomposition(ks)?,
        };
        params.check().map_err(|reason| format!("line {}: {reason}", self.number))?;
        Ok(params)
    }
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    lines
        .enumerate()
        .map(move |(i, line)| Line { number: i + 2, cells: names.iter().copied().zip(line.split(',')).collect() })
}

fn parse(text: &str) -> Result<Vec<Circuit>, String> {
    let p_error = P_ERROR.to_string();
    let wanted: Vec<_> = lines(text)
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
            params: line.params(["brl", "brb"], ["ksl", "ksb"])?,
            several: multi.map_or(1.0, |multi| (multi / cost).min(1.0)),
        });
    }
    if circuits.is_empty() {
        return Err(format!("it has no dag-mono circuit of {TABLE_BITS} bits, APPROX, at p_error {p_error}"));
    }
    Ok(circuits)
}

/// Adds the circuits of larger norms than these have, from the table of one table behind a dot product.
fn extend(mut circuits: Vec<Circuit>, text: &str) -> Result<Vec<Circuit>, String> {
    let known = circuits.clone();
    let largest = known.iter().map(|c| c.log2_norm).fold(f64::NEG_INFINITY, f64::max);
    let acc_bits = known.iter().map(|c| c.acc_bits).max().unwrap_or(0);
    let (p_error, bits) = (P_ERROR.to_string(), TABLE_BITS.to_string());
    let (mut compared, infeasible) = (false, |l: &Line<'_>| l.text("k").is_empty());
    for line in lines(text)
        .filter(|l| l.text("security") == "128" && l.text("p_error_label") == p_error && l.text("precision") == bits)
        .filter(|l| !infeasible(l))
    {
        let log2_norm: f64 = line.number("log2_norm2")?;
        let params = line.params(["br_level", "br_base_log"], ["ks_level", "ks_base_log"])?;
        let mut same_norm = known.iter().filter(|c| c.log2_norm == log2_norm).peekable();
        if log2_norm > largest {
            circuits.push(Circuit { acc_bits, log2_norm, params, several: 1.0 });
        } else if same_norm.peek().is_some() {
            compared = true;
            if same_norm.all(|c| c.params != params) {
                return Err(format!(
                    "line {}: {params} are not the parameters of {ROUNDING} at this norm",
                    line.number
                ));
            }
        }
    }
    if !compared {
        return Err(format!("it has no circuit of {bits} bits at p_error {p_error} with a norm of {ROUNDING}"));
    }
    Ok(circuits)
}

/// The circuit whose norm is nearest to a network's, the larger of two; of these, that of the narrowest accumulators that
/// hold the network's, else of the widest.
pub fn nearest(circuits: &[Circuit], acc_bits: f64, log2_norm: f64) -> Option<&Circuit> {
    let distance = |c: &Circuit| (c.log2_norm - log2_norm).abs();
    // Accumulators at least as wide come first, the narrowest in front; then the others, the widest in front.
    let rank = |c: &Circuit| match f64::from(c.acc_bits) {
        bits if bits >= acc_bits => (0, bits),
        bits => (1, -bits),
    };
    circuits.iter().min_by(|a, b| {
        let ((a_narrow, a_bits), (b_narrow, b_bits)) = (rank(a), rank(b));
        let norms = distance(a).total_cmp(&distance(b)).then(b.log2_norm.total_cmp(&a.log2_norm));
        norms.then(a_narrow.cmp(&b_narrow)).then(a_bits.total_cmp(&b_bits))
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
    fn the_nearest_circuit_counts_and_the_larger_of_two() {
        let circuits = parse(TABLE).unwrap();
        assert_eq!(circuits.len(), 4);
        let n = |acc_bits, log2_norm| nearest(&circuits, acc_bits, log2_norm).unwrap().params.lwe_dimension;
        // The norm decides, the width of the accumulator only among equal norms; both end where the table does.
        assert_eq!([n(7.0, 2.0), n(8.0, 3.0), n(8.1, 3.0), n(25.0, 0.0)], [836, 836, 839, 839]);
        assert_eq!([n(7.0, 3.9), n(7.0, 4.0), n(25.0, 5.9), n(7.0, 6.0), n(7.0, 30.0)], [836, 840, 840, 838, 838]);
        assert_eq!(nearest(&[], 1.0, 1.0), None);
    }

    #[test]
    fn several_sets_count_where_they_are_cheaper() {
        let circuits = parse(TABLE).unwrap();
        assert_eq!(circuits.iter().map(|c| c.several).collect::<Vec<_>>(), [1.0, 1.0, 0.9, 1.0]);
        let decomposition = |base_log, level| Decomposition { base_log, level };
        assert_eq!([circuits[0].params.pbs, circuits[0].params.ks], [decomposition(15, 2), decomposition(1, 17)]);
    }

    const V0_TABLE: &str = "\
security,p_error_label,p_error_target,precision,log2_norm2,sum_size,k,log2N,n,br_level,br_base_log,ks_level,ks_base_log,complexity
128,0.008,8e-3,6,0,4096,1,11,841,1,23,17,1,9
128,0.008,8e-3,6,3,4096,1,11,839,2,15,17,1,9
128,0.008,8e-3,6,7,4096,1,11,838,2,15,17,1,9
128,0.008,8e-3,6,8,4096,1,11,835,3,11,17,1,9
128,0.008,8e-3,6,9,4096,1,11,837,3,11,17,1,9
128,0.008,8e-3,6,10,4096,,,,,,,,
128,0.008,8e-3,7,10,4096,1,11,842,3,11,17,1,9
128,2^-40,9e-13,6,10,4096,1,11,843,3,11,17,1,9
132,0.008,8e-3,6,10,4096,1,11,844,3,11,17,1,9
";

    #[test]
    fn larger_norms_are_those_of_one_table_behind_a_dot_product() {
        let circuits = parse(TABLE).unwrap();
        let extended = extend(circuits.clone(), V0_TABLE).unwrap();
        assert_eq!(extended[..4], circuits);
        let added: Vec<_> = extended[4..].iter().map(|c| (c.acc_bits, c.log2_norm, c.several)).collect();
        assert_eq!(added, [(18, 8.0, 1.0), (18, 9.0, 1.0)]);
        assert_eq!(extended[4].params.pbs, Decomposition { base_log: 11, level: 3 });
        let n = |log2_norm| nearest(&extended, 12.0, log2_norm).unwrap().params.lwe_dimension;
        assert_eq!([n(7.0), n(7.2), n(8.2), n(8.9), n(30.0)], [838, 838, 835, 837, 837]);
        assert_eq!(n(8.9_f64.min(LARGEST_ROUNDED_NORM)), 838);
    }

    #[test]
    fn a_table_of_other_parameters_continues_nothing() {
        for (text, reason) in [
            ("", "no circuit of 6 bits at p_error 0.008 with a norm of"),
            (&V0_TABLE.replace("11,838", "11,836"), "line 4: "),
            (
                &V0_TABLE.replace("838,2,15", "838,1,23"),
                "are not the parameters of oracle/concrete_rounding_oracle.csv",
            ),
            (&V0_TABLE.replace("11,835", "11,"), "line 5: n is \"\""),
        ] {
            let error = extend(parse(TABLE).unwrap(), text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
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
