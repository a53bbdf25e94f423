//! Several key sets against `zama-ai/concrete`'s optimizer on two layers of `dot → round → table`.
//!
//! A slice of the table is in `testsuite/oracle`; `FHE_DATA` names a folder with the whole one.

mod oracle;

use std::collections::BTreeMap;

use fhe_ir::params::SecurityCurve;
use fhe_passes::params::{
    Assignment, Constraint, CostModel, ErrorTarget, Factors, NoiseModel, OutputGroup, Prepared, Problem, Read,
    TableGroup, V0, search,
};
use oracle::{Row, int, slice, whole};
use rayon::prelude::*;

fn float(row: &Row, name: &str) -> f64 {
    row[name].parse().unwrap_or_else(|e| panic!("{name} of {row:?}: {e}"))
}

/// `2 × [dot → round → table]`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct TwoLayers {
    /// Bits of the accumulators and of the last table's results.
    acc_bits: u32,
    /// Bits that the tables read.
    table_bits: u32,
    log2_norm2: f64,
    /// Low bits are removed one after another, each by a table of one bit; otherwise they fall into the noise.
    exact: bool,
    p_error: f64,
}

impl TwoLayers {
    fn of(row: &Row) -> Self {
        Self {
            acc_bits: int(row, "acc_bits"),
            table_bits: int(row, "tlu_bits"),
            log2_norm2: float(row, "log2_norm2"),
            exact: row["mode"] == "EXACT",
            p_error: row["p_error"]
                .strip_prefix("2^")
                .map_or_else(|| float(row, "p_error"), |e| e.parse::<f64>().expect("an exponent").exp2()),
        }
    }

    /// Bits that a layer removes.
    fn removed(self) -> usize {
        if self.exact { (self.acc_bits - self.table_bits) as usize } else { 0 }
    }

    /// One execution has one value per layer. Every table is a group.
    fn problem(self) -> Problem {
        let per_layer = self.removed() + 1;
        let mut problem = Problem {
            tables: vec![],
            outputs: vec![],
            // Per removed bit: shifted to the top, put back, and subtracted.
            linear_products: vec![3 * self.removed() as u64, 3 * self.removed() as u64, 0],
            target: ErrorTarget::PerTable(self.p_error),
            curve: SecurityCurve::Bits128,
            space: V0::SPACE,
            max_key_bytes: u64::MAX,
            min_gain: 0.001,
        };
        let norm2 = (2.0 * self.log2_norm2).exp2();
        for layer in 0..2 {
            // What reaches the accumulator when `removed` of its bits are gone, times `factor`.
            let arriving = |removed: usize, factor: f64| {
                let mut factors = Factors::default();
                if layer == 0 {
                    factors.input = norm2 * factor;
                } else {
                    factors.tables.push((per_layer - 1, norm2 * factor));
                }
                factors.tables.extend((0..removed).map(|bit| (layer * per_layer + bit, factor)));
                vec![factors]
            };
            let mut push = |to: usize, removed: usize, constraint: Constraint, factor: f64| {
                problem.tables.push(TableGroup {
                    from: layer,
                    to,
                    operand: layer * per_layer + removed,
                    pbs_count: 1,
                    ks_count: 1,
                    read: Read::new(constraint, arriving(removed, factor)),
                });
            };
            for bit in 0..self.removed() {
                // The lowest bit is shifted to the place of the padding bit.
                push(layer, bit, reading(0), f64::from(2 * (self.acc_bits - bit as u32)).exp2());
            }
            push(layer + 1, self.removed(), reading(self.table_bits), 1.0);
        }
        let result = Factors { tables: vec![(2 * per_layer - 1, 1.0)], input: 0.0 };
        let constraint = Constraint { table: false, ..reading(self.acc_bits) };
        problem.outputs.push(OutputGroup { region: 2, read: Read::new(constraint, vec![result]) });
        problem
    }
}

/// A table of that many bits behind a padding bit.
fn reading(bits: u32) -> Constraint {
    Constraint {
        norm2_pbs: 0.0,
        norm2_input: 0.0,
        table: true,
        half_box: (-f64::from(bits + 2)).exp2(),
        boxes: 1 << bits,
        dyadic_boxes: true,
        full: false,
        count: 1,
    }
}

/// Checks an answer against its own circuit.
fn verify(problem: &Problem, found: &Assignment, noise: NoiseModel, p_error: f64) {
    for report in found.reports(problem, noise) {
        assert!(report.p_fail <= p_error, "{report:?} of {found:?}");
    }
    let cost = found.cost_ns(problem, &CostModel::CONCRETE_V0);
    assert!((cost / found.cost_ns - 1.0).abs() < 1e-9, "{cost}: {found:?}");
}

/// Costs of one circuit.
#[derive(Clone, Copy, Default)]
struct Costs {
    mono: Option<f64>,
    multi: Option<f64>,
    ours: f64,
    centred: f64,
    sets: usize,
}

fn geometric_mean(ratios: impl Iterator<Item = f64>) -> (f64, usize) {
    let logs: Vec<f64> = ratios.map(f64::ln).collect();
    ((logs.iter().sum::<f64>() / logs.len() as f64).exp(), logs.len())
}

/// Solves every circuit of the rows, and holds each to the better of Concrete's two.
fn check(rows: &[Row]) -> Vec<(TwoLayers, Costs)> {
    let mut circuits: BTreeMap<String, (TwoLayers, Costs)> = BTreeMap::new();
    for row in rows {
        let circuit = TwoLayers::of(row);
        let name = ["p_error", "acc_bits", "tlu_bits", "log2_norm2", "mode"].map(|n| row[n].clone()).join(" ");
        let (_, costs) = circuits.entry(name).or_insert((circuit, Costs::default()));
        let cost = Some(float(row, "cost_total"));
        if row["strategy"] == "dag-mono" { costs.mono = cost } else { costs.multi = cost }
    }
    let v0 = Prepared::new(SecurityCurve::Bits128, NoiseModel::ConcreteV0, V0::SPACE);
    let centred = Prepared::new(SecurityCurve::Bits128, NoiseModel::TfheRsCentred, V0::SPACE);
    let circuits: Vec<_> = circuits.into_iter().collect();
    circuits
        .into_par_iter()
        .map(|(name, (circuit, mut costs))| {
            let problem = circuit.problem();
            let single =
                v0.search(&problem.single(), &CostModel::CONCRETE_V0).unwrap_or_else(|e| panic!("{name}: {e}"));
            if let Some(mono) = costs.mono {
                // Concrete counts a clear product a little differently under one set.
                assert!(
                    (single.cost_ns / mono - 1.0).abs() < 1e-6,
                    "{name}: {} {mono} {}",
                    single.cost_ns,
                    single.params
                );
            }
            let start = std::time::Instant::now();
            let ours = v0.solve(&problem, &CostModel::CONCRETE_V0).unwrap_or_else(|e| panic!("{name}: {e}"));
            let took = start.elapsed();
            verify(&problem, &ours, NoiseModel::ConcreteV0, circuit.p_error);
            (costs.ours, costs.sets) = (ours.cost_ns, ours.sets.len());
            if costs.multi.is_some() {
                println!(
                    "{name}: single {:.1} multi {:.1} ours {:.1} ({} sets) {:.4} in {took:?}",
                    single.cost_ns / 1e6,
                    costs.multi.unwrap() / 1e6,
                    ours.cost_ns / 1e6,
                    ours.sets.len(),
                    costs.multi.unwrap() / ours.cost_ns
                );
            }
            (circuit, costs)
        })
        .collect()
}

#[test]
fn two_layers_on_every_row() {
    if let Some(rows) = whole("concrete_rounding_oracle.csv") {
        let n: usize = std::env::var("EVERY").map_or(1, |e| e.parse().unwrap());
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|r| r["log2_norm2"] == "5")
            .enumerate()
            .filter(|(i, _)| i % n < 4)
            .map(|(_, r)| r)
            .collect();
        let found = check(&rows);
        let (mean, count) = geometric_mean(found.iter().filter_map(|(_, c)| Some(c.multi? / c.ours)));
        println!("{mean} over {count}");
        let worst = found.iter().filter_map(|(_, c)| Some(c.multi? / c.ours)).fold(9.0, f64::min);
        println!("worst {worst}");
    }
}
