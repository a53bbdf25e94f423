//! The comparison as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::{Comparison, Row, oracle};

/// Geometric mean; `None` of nothing.
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|r| r.ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}

/// Geometric means over networks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Means {
    /// Of [`Comparison::to_boxes`].
    pub to_boxes: Option<f64>,
    /// Of [`Comparison::to_concrete`].
    pub to_concrete: Option<f64>,
    /// Of [`Comparison::to_concrete_capped`].
    pub to_concrete_capped: Option<f64>,
}

impl Means {
    /// Of these comparisons.
    pub fn of<'c>(comparisons: impl Iterator<Item = &'c Comparison>) -> Self {
        let all: Vec<_> = comparisons.collect();
        let mean = |ratio: fn(&Comparison) -> f64| geometric_mean(&all.iter().map(|c| ratio(c)).collect::<Vec<_>>());
        Self {
            to_boxes: mean(Comparison::to_boxes),
            to_concrete: mean(Comparison::to_concrete),
            to_concrete_capped: mean(Comparison::to_concrete_capped),
        }
    }
}

/// One row per circuit, then the ratios of each network and their means.
pub fn print(comparisons: &[Comparison], counted: Means) -> String {
    let mut text = String::from(
        "| Network, rows | Contract | Weights | Float | Integer | Simulated | Noise | Parameters | Lookups | s a row | Remark |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for c in comparisons {
        let capped = (c.concrete_capped != c.concrete).then_some(&c.concrete_capped);
        for (i, row) in [&c.budget, &c.boxes, &c.concrete].into_iter().chain(capped).enumerate() {
            let network = if i == 0 { format!("{}, {}", c.network, c.rows) } else { String::new() };
            let _ = writeln!(text, "| {network} | {}", line(row));
        }
    }
    let _ = writeln!(
        text,
        "\n| Network | boxes / budget | Concrete / budget | Concrete at norm 2^{} at most / budget |\n|---|---|---|---|",
        oracle::LARGEST_ROUNDED_NORM
    );
    for c in comparisons {
        let (boxes, concrete, capped) = (c.to_boxes(), c.to_concrete(), c.to_concrete_capped());
        let _ = writeln!(text, "| {} | {boxes:.3} | {concrete:.3} | {capped:.3} |", c.network);
    }
    let mean = |m: Option<f64>| m.map_or("–".into(), |m| format!("{m:.3}"));
    let [boxes, concrete, capped] = [counted.to_boxes, counted.to_concrete, counted.to_concrete_capped].map(mean);
    let _ = writeln!(text, "| geometric mean | {boxes} | {concrete} | {capped} |");
    text
}

fn line(row: &Row) -> String {
    let percent = |x: Option<f64>| x.map_or("–".into(), |x| format!("{:.2} %", 100.0 * x));
    format!(
        "{} | {} | {} | {} | {} | {} | {} | {} | {:.2} | {} |",
        row.contract,
        row.op_weights,
        percent(row.float),
        percent(row.integer),
        percent(row.simulated),
        row.log2_noise.map_or("–".into(), |n| format!("2^{n}")),
        row.params,
        row.lookups,
        row.seconds,
        row.remark,
    )
}

/// The same as JSON, a line break at its end.
pub fn json(comparisons: &[Comparison], counted: Means) -> String {
    #[derive(Serialize)]
    struct All<'a> {
        networks: &'a [Comparison],
        geometric_means: Means,
    }
    let all = All { networks: comparisons, geometric_means: counted };
    serde_json::to_string_pretty(&all).expect("string keys and numbers") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seconds: f64) -> Row {
        Row {
            contract: "c".into(),
            op_weights: 4,
            float: Some(0.5),
            integer: None,
            simulated: None,
            log2_noise: Some(-8.5),
            params: "p".into(),
            lookups: 7,
            seconds,
            remark: String::new(),
        }
    }

    fn comparison(network: &'static str, boxes: f64, capped: f64) -> Comparison {
        let (budget, boxes, concrete, concrete_capped) = (row(2.0), row(boxes), row(6.0), row(capped));
        Comparison { network, rows: 9, budget, boxes, concrete, concrete_capped }
    }

    #[test]
    fn means_are_geometric() {
        assert_eq!(geometric_mean(&[]), None);
        let mean = geometric_mean(&[1.0, 4.0]).unwrap();
        assert!((mean - 2.0).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn every_circuit_is_a_row_and_ratios_are_costs_over_that_of_the_budget() {
        let all = [comparison("one", 2.0, 6.0), comparison("two", 8.0, 1.5)];
        let means = Means::of(all.iter());
        let text = print(&all, means);
        assert!(text.contains("| one, 9 | c | 4 | 50.00 % | – | – | 2^-8.5 | p | 7 | 2.00 |  |\n|  | c |"), "{text}");
        assert!(
            text.contains("| two | 4.000 | 3.000 | 0.750 |\n| geometric mean | 2.000 | 3.000 | 1.500 |\n"),
            "{text}"
        );
        // A circuit under the parameters of a smaller norm is a row where they are others.
        assert_eq!(text.matches(" | 6.00 |").count(), 2, "{text}");
        assert_eq!(text.matches(" | 1.50 |").count(), 1, "{text}");
        let json: serde_json::Value = serde_json::from_str(&json(&all, means)).unwrap();
        assert_eq!(json["networks"][1]["boxes"]["seconds"], 8.0);
    }
}
