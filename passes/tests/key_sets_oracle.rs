//! Several key sets against `zama-ai/concrete`'s optimizer on two layers of `dot → round → table`.
//!
//! A slice of the table is in `testsuite/oracle`; `FHE_DATA` names a folder with the whole one.

use std::collections::BTreeMap;

use crate::oracle::{Row, int, slice, whole};
use fhe_ir::params::SecurityCurve;
use fhe_passes::params::{
    Assignment, Constraint, CostModel, ErrorTarget, Factors, NoiseModel, OutputGroup, Prepared, Problem, Read,
    Requirements, TableGroup, V0,
};
use rayon::prelude::*;

fn float(row: &Row, name: &str) -> f64 {
    row[name].parse().unwrap_or_else(|e| panic!("{name} of {row:?}: {e}"))
}

/// `2 × [dot → round → table]`.
#[derive(Clone, Copy, Debug)]
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
            linear_products: vec![0; 3],
            target: ErrorTarget::PerTable(self.p_error),
            curve: SecurityCurve::Bits128,
            space: V0::SPACE,
            max_key_bytes: u64::MAX,
            min_gain: 0.005,
            mean: None,
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

/// A circuit, what Concrete found under one set and under several, and what we find.
struct Compared {
    circuit: TwoLayers,
    mono: f64,
    multi: Option<f64>,
    /// In their noise model: under one set with the centred modulus switch, and under several with the standard one.
    mono_centred: f64,
    ours: f64,
    /// Under several sets in the noise model that circuits are built with.
    built: f64,
}

impl Compared {
    fn theirs(&self) -> f64 {
        self.multi.map_or(self.mono, |multi| multi.min(self.mono))
    }
}

fn geometric_mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = ratios.fold((0.0, 0.0), |(sum, count), ratio| (sum + ratio.ln(), count + 1.0));
    (sum / f64::max(count, 1.0)).exp()
}

/// Solves the circuits of the rows.
///
/// Every circuit is searched under one set, which has to cost what `dag-mono` does; those with a row for several sets
/// are solved under several, with the standard and with the centred modulus switch.
fn compare(rows: &[Row]) -> Vec<Compared> {
    let mut circuits: BTreeMap<String, (TwoLayers, [Option<f64>; 2])> = BTreeMap::new();
    for row in rows {
        let name = ["p_error", "acc_bits", "tlu_bits", "log2_norm2", "mode"].map(|n| row[n].clone()).join(" ");
        let (_, costs) = circuits.entry(name).or_insert((TwoLayers::of(row), [None; 2]));
        costs[usize::from(row["strategy"] == "dag-multi")] = Some(float(row, "cost_total"));
    }
    let prepared = |noise| Prepared::new(SecurityCurve::Bits128, noise, V0::SPACE);
    let v0 = prepared(NoiseModel::ConcreteV0);
    let (centred, built) = (prepared(NoiseModel::ConcreteV0Centred), prepared(NoiseModel::TfheRsCentred));
    let cost = CostModel::CONCRETE_V0;
    let circuits: Vec<_> = circuits.into_iter().collect();
    circuits
        .into_par_iter()
        .map(|(name, (circuit, [mono, multi]))| {
            let problem = circuit.problem();
            // Under one set Concrete prices three products per removed bit (it is shifted to the top, put back and
            // subtracted), under several none.
            let linear_products = 6 * circuit.removed() as u64;
            let requirements = Requirements { linear_products, ..problem.single() };
            let single =
                |set: &Prepared| set.search(&requirements, &cost).unwrap_or_else(|e| panic!("{name}: {e}")).cost_ns;
            let mono = mono.expect("every circuit has a row for one set");
            assert!((single(&v0) / mono - 1.0).abs() < 1e-6, "{name}: {} against {mono}", single(&v0));
            let mono_centred = single(&centred);
            if multi.is_none() {
                let (ours, built) = (single(&v0), single(&built));
                return Compared { circuit, mono, multi, mono_centred, ours, built };
            }
            let solve = |set: &Prepared, noise| {
                let found = set.solve(&problem, &cost).unwrap_or_else(|e| panic!("{name}: {e}"));
                verify(&problem, &found, noise, circuit.p_error);
                found
            };
            let ours = solve(&v0, NoiseModel::ConcreteV0);
            let built = solve(&built, NoiseModel::TfheRsCentred).cost_ns;
            let compared = Compared { circuit, mono, multi, mono_centred, ours: ours.cost_ns, built };
            println!(
                "{name}: Concrete {:.1}, ours {:.1} with {} sets, as built {:.1} million operations",
                compared.theirs() / 1e6,
                ours.cost_ns / 1e6,
                ours.sets.len(),
                built / 1e6
            );
            compared
        })
        .collect()
}

/// Never costlier than the better of Concrete's two; under one set never costlier with the centred modulus switch.
fn check(compared: &[Compared]) {
    for exact in [true, false] {
        let several = || compared.iter().filter(move |c| c.multi.is_some() && c.circuit.exact == exact);
        println!(
            "{} circuits, {}: Concrete costs {:.3} times ours, {:.3} times ours as built",
            several().count(),
            if exact { "exact" } else { "approximate" },
            geometric_mean(several().map(|c| c.theirs() / c.ours)),
            geometric_mean(several().map(|c| c.theirs() / c.built)),
        );
    }
    for c in compared {
        let what = format!("{:?}", c.circuit);
        assert!(c.ours <= c.theirs() * (1.0 + 1e-6), "{what}: {} against {}", c.ours, c.theirs());
        assert!(c.mono_centred <= c.mono * (1.0 + 1e-6), "{what}: {} centred, {} standard", c.mono_centred, c.mono);
    }
    // Where the polynomial halves.
    let approximate = |bits| compared.iter().filter(move |c| !c.circuit.exact && c.circuit.table_bits == bits);
    let gain = |bits| {
        let certain = approximate(bits).filter(|c| c.circuit.p_error < 1e-9 && c.circuit.acc_bits < 12);
        geometric_mean(certain.map(|c| c.mono / c.mono_centred))
    };
    println!("at 2^-40 the centred switch is worth {:.2} at four bits, {:.2} at five", gain(4), gain(5));
    assert!(gain(4) > 1.15, "{}", gain(4));
}

#[test]
fn two_layers_are_never_costlier_than_concrete_on_the_slice() {
    check(&compare(&slice("concrete_rounding.csv")));
}

#[test]
fn two_layers_are_never_costlier_than_concrete_on_every_row() {
    if let Some(rows) = whole("concrete_rounding_oracle.csv") {
        check(&compare(&rows));
    }
}
