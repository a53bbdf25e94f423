//! Reports as text: the five lines of a plain compile, and the statistics.

use std::fmt::Write;

use fhe_ir::stats::{NodeStats, Statistics};

use fhe_passes::budget::Budget;
use fhe_passes::budget::boxes::Boxes;

use crate::accuracy::Accuracy;
use crate::compile::Report;

/// The lines that a plain compile prints; `next` is the command to type.
pub fn summary(report: &Report, next: &str) -> String {
    let s = &report.statistics;
    let mut text = String::new();
    if let Some(a) = &report.accuracy {
        let _ = writeln!(text, "accuracy  {}", accuracy(a));
    }
    let _ = writeln!(
        text,
        "cost      {} lookups, {} per row predicted on one core of {}, keys {}, input {}",
        s.total.bootstraps,
        seconds(report.predicted_single_thread_ns * 1e-9),
        report.options.machine.name,
        bytes(s.bootstrap_key_bytes + s.keyswitch_key_bytes),
        bytes(s.inputs * 8),
    );
    if let Some(b) = &report.budget {
        let _ = writeln!(text, "budget    {}", budget(b));
    }
    if let Some(b) = &report.boxes {
        let _ = writeln!(text, "rounding  {}", boxes(b));
    }
    for p in &s.parameters {
        let _ = writeln!(text, "params    {p}");
    }
    let _ = writeln!(text, "assumed   {}", report.assumed.join(", "));
    let _ = writeln!(text, "next      {next}");
    text
}

fn accuracy(a: &Accuracy) -> String {
    let (f, i, s) = (100.0 * a.float, 100.0 * a.integer, 100.0 * a.simulated);
    if a.labelled {
        format!("float {f:.2} %   integer {i:.2} %   encrypted (simulated) {s:.2} %   on {} rows", a.rows)
    } else {
        format!("agrees with the float model: integer {i:.2} %   encrypted (simulated) {s:.2} %   on {} rows", a.rows)
    }
}

fn budget(b: &Budget) -> String {
    let points = |fraction: f64| format!("{:.2}", 100.0 * fraction);
    let domains = match b.domain_margin {
        m if m < 0.0 => format!("{:.0} % narrower than seen", -100.0 * m),
        m => format!("{:.0} % wider than seen", 100.0 * m),
    };
    let asked = points(b.asked);
    let certified = if b.certifiable > b.asked {
        format!("at most {} (too few rows to certify {asked})", points(b.certified))
    } else {
        format!("at most {} of {asked} asked for", points(b.certified))
    };
    let weights = b.op_weights.map_or(String::new(), |bits| format!(", weights of {bits} bits"));
    let last = b.output_weights.map_or(String::new(), |bits| format!(", those at outputs of {bits}"));
    format!(
        "noise costs {} points on {} rows, with 95 % confidence {certified}; noise 2^{}, domains {domains}{weights}{last}",
        points(b.paired.loss()),
        b.paired.rows,
        b.log2_noise,
    )
}

fn boxes(b: &Boxes) -> String {
    let Boxes { narrowest, widest, finest, finest_ns, bits, coarser, paired, certified, .. } = b;
    let coarser = match coarser.len() {
        0 => String::new(),
        1 => ", 1 table coarser".into(),
        n => format!(", {n} tables coarser"),
    };
    let points = |fraction: f64| format!("{:.2}", 100.0 * fraction);
    let against = if bits == finest && coarser.is_empty() {
        "fewer lose accuracy or are no cheaper".into()
    } else {
        let rows = format!("on {} rows, with 95 % confidence at most {}", paired.rows, points(*certified));
        let cost = seconds(finest_ns * 1e-9);
        format!("costs {} points {rows}, against {finest} bits, which cost {cost}", points(paired.loss()))
    };
    format!("{bits} bits of {narrowest} to {widest}{coarser}: {against}")
}

/// The statistics dump: one row per ONNX node, then totals, noise, sizes.
pub fn statistics(report: &Report) -> String {
    let s = &report.statistics;
    let o = &report.options;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}   n-bits inputs={} activations={} weights={} outputs={}   seed {}\n",
        s.model, o.bits.model_inputs, o.bits.op_inputs, o.bits.op_weights, o.bits.model_outputs, o.seed
    );
    table(&mut text, s);
    let _ = writeln!(text, "\ndepth     {} bootstraps in a row, widest level {}", s.depth, s.widest_level);
    for (i, p) in s.parameters.iter().enumerate() {
        let count = |of: &[u64]| of.get(i).copied().unwrap_or(0);
        let counts = (count(&s.bootstraps_per_set), count(&s.keyswitches_per_set));
        let counts =
            if s.parameters.len() > 1 { format!("   {} pbs, {} ks", counts.0, counts.1) } else { String::new() };
        let _ = writeln!(text, "params    {p}{counts}");
    }
    let _ = writeln!(
        text,
        "security  {} bits (curve {} of zama-ai/concrete, {})",
        s.security_bits, s.security_curve, s.security_estimator
    );
    let log2 = |x: Option<f64>| x.map_or("–".into(), |x| format!("2^{x:.2}"));
    // Tables read in full have no boxes that noise could miss.
    let fails = s.total.log2_p_fail.map_or("every result carries noise, no table has boxes to miss".into(), |_| {
        let (bound, fail) = (log2(s.total.log2_bound), log2(s.total.log2_p_fail));
        format!("bound {bound}, fail {fail} per table, 2^{:.1} per inference", s.log2_p_fail_inference)
    });
    let _ = writeln!(text, "noise     worst sd {} in front of a table, {fails}", log2(s.total.log2_sd));
    let _ = writeln!(
        text,
        "sizes     bootstrap key {}   keyswitch key {}   ciphertext {}   peak per row {}",
        bytes(s.bootstrap_key_bytes),
        bytes(s.keyswitch_key_bytes),
        bytes(s.ciphertext_bytes),
        bytes(s.peak_ciphertext_bytes)
    );
    let machine = &o.machine;
    let _ = writeln!(
        text,
        "latency   {} per row predicted on one core of {}, {} on {} threads",
        seconds(report.predicted_single_thread_ns * 1e-9),
        machine.name,
        seconds(report.predicted_row_ns * 1e-9),
        machine.threads
    );
    if let Some(b) = &report.budget {
        let _ = writeln!(text, "budget    {}", budget(b));
    }
    if let Some(b) = &report.boxes {
        let _ = writeln!(text, "rounding  {}", boxes(b));
        for (table, bits) in &b.coarser {
            let _ = writeln!(text, "          {table}: {bits} bits");
        }
    }
    if let Some(a) = &report.accuracy {
        let _ = writeln!(text, "accuracy  {}", accuracy(a));
        let _ = writeln!(
            text,
            "          noise changes {:.2} % of the classes; {:.4} % of the readings saturate",
            100.0 * a.changed_by_noise,
            100.0 * a.saturated
        );
    }
    let saved: Vec<_> = report
        .passes
        .iter()
        .filter(|p| !p.changed.is_empty())
        .map(|p| {
            format!("{}: {}", p.pass, p.changed.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>().join(", "))
        })
        .collect();
    if !saved.is_empty() {
        let _ = writeln!(text, "passes    {}", saved.join("\n          "));
    }
    let _ = writeln!(text, "assumed   {}", report.assumed.join(", "));
    text
}

fn table(text: &mut String, s: &Statistics) {
    let heads =
        ["node", "op", "out", "acc", "worst", "lut in", "tables", "pbs", "ks", "mul", "add", "clear add", "sd", "fail"];
    let row = |n: &NodeStats| -> Vec<String> {
        let bits = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.2}"));
        let log2 = |x: Option<f64>| x.map_or("–".into(), |x| format!("2^{x:.1}"));
        let shape = n.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
        vec![
            n.node.clone(),
            n.op.clone(),
            shape,
            bits(n.accumulator_bits),
            bits(n.worst_case_bits),
            bits(n.table_bits),
            n.tables.to_string(),
            n.bootstraps.to_string(),
            n.keyswitches.to_string(),
            n.clear_products.to_string(),
            n.encrypted_additions.to_string(),
            n.clear_additions.to_string(),
            log2(n.log2_sd),
            log2(n.log2_p_fail),
        ]
    };
    let mut rows = vec![heads.iter().map(ToString::to_string).collect::<Vec<_>>()];
    rows.extend(s.nodes.iter().map(row));
    rows.push(row(&s.total));
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    for r in &rows {
        let cells = r
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(c, (cell, w))| if c < 2 { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// A size in binary units.
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        n if n >= 1024.0 * 1024.0 * 1024.0 => format!("{:.2} GiB", n / (1u64 << 30) as f64),
        n if n >= 1024.0 * 1024.0 => format!("{:.1} MiB", n / (1u64 << 20) as f64),
        n if n >= 1024.0 => format!("{:.1} KiB", n / 1024.0),
        n => format!("{n} B"),
    }
}

/// A duration with a sensible unit.
pub fn seconds(s: f64) -> String {
    match s {
        s if s >= 7200.0 => format!("{:.1} h", s / 3600.0),
        s if s >= 120.0 => format!("{:.1} min", s / 60.0),
        s if s >= 0.1 => format!("{s:.1} s"),
        s => format!("{:.1} ms", 1000.0 * s),
    }
}
