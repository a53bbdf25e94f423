//! `fhe-compile inspect --why`: the explanation of a node, as text.

use std::fmt::Write;

use fhe_ir::artifact::Artifact;
use fhe_passes::params::in_words;
use fhe_passes::why::{Bargain, ReadingWhy, ValueWhy, Why, options_of, why};
use fhe_passes::{Notes, Options, Term};

use crate::failure::Failure;
use crate::report::seconds;

/// Names that are proposed in place of an unknown one.
const PROPOSED: usize = 3;

/// The explanation of a node of a circuit file.
///
/// # Errors
/// When nothing in the circuit has that name.
pub fn explain(artifact: &Artifact, asked: &str) -> Result<Why, Failure> {
    let options = serde_json::from_value::<Options>(artifact.report["options"].clone());
    let options = options.unwrap_or_else(|_| options_of(&artifact.circuit));
    let quantized = artifact.report["passes"].as_array().into_iter().flatten().filter(|p| p["pass"] == "quantize");
    let weights_chosen = quantized.into_iter().any(|p| p["changed"]["weights"].as_u64().is_some_and(|n| n > 0));
    let notes = Notes { weights_chosen, ..Notes::default() };
    why(&artifact.circuit, &options, &notes, asked)
        .map_err(|unknown| Failure::UnknownNode { asked: asked.to_owned(), near: near(asked, unknown.names) })
}

/// The names closest to one, by edits; of equal distance in alphabetical order.
fn near(asked: &str, names: Vec<String>) -> String {
    let asked = asked.strip_prefix('%').unwrap_or(asked);
    // Names of files from strangers can be long: their beginnings are enough.
    let front = |name: &str| name.chars().take(64).collect::<String>();
    let mut names: Vec<_> = names.into_iter().map(|n| (strsim::osa_distance(&front(asked), &front(&n)), n)).collect();
    names.sort();
    let near: Vec<_> = names.iter().take(PROPOSED).map(|(_, name)| format!("{name:?}")).collect();
    near.join(", ")
}

/// The explanation for reading.
pub fn text(why: &Why) -> String {
    let mut text = String::new();
    for (i, value) in why.values.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        of_value(&mut text, value);
    }
    if why.values_left_out > 0 {
        let _ = writeln!(text, "\nand {} more values: ask for them by name", why.values_left_out);
    }
    text
}

fn of_value(text: &mut String, v: &ValueWhy) {
    let shape = v.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
    let node = v.node.as_ref().map_or(String::new(), |[node, op]| format!("   of {node:?} {op}"));
    let _ = writeln!(text, "%{}   {} {shape}{node}", v.value, v.op);
    if let Some(w) = v.proven {
        let _ = writeln!(text, "  width     {:.2} bits: integers in [{}, {}] cannot be excluded", w.bits, w.lo, w.hi);
    }
    if !v.terms.is_empty() {
        let _ = writeln!(text, "  widest    channel {}, the sum of", v.widest_channel);
    }
    for term in &v.terms {
        let _ = writeln!(text, "            {}", of_term(term));
    }
    let by =
        v.span_of.as_ref().map_or("nothing reads its region".into(), |of| format!("the domain in which %{of} is read"));
    let _ = writeln!(text, "  span      half the torus holds {} integers: {by}", v.span);
    let sd = v.log2_sd.filter(|sd| sd.is_finite()).map_or("none".into(), |sd| format!("sd 2^{sd:.2}"));
    let norm = |norm2: f64, of: &str| (norm2 > 0.0).then(|| format!("2^{:.2} on {of}", 0.5 * norm2.log2()));
    let norms: Vec<_> =
        [norm(v.norm2_bootstraps, "bootstraps"), norm(v.norm2_inputs, "inputs")].into_iter().flatten().collect();
    let _ =
        writeln!(text, "  noise     {sd}, norm {}", if norms.is_empty() { "0".into() } else { norms.join(" and ") });
    for reading in &v.readings {
        of_reading(text, reading);
    }
    if v.readings.is_empty() {
        let _ = writeln!(text, "  read      nowhere itself: other values are made of it");
    }
}

fn of_term(t: &Term) -> String {
    let channel = t.channel.map_or(String::new(), |c| format!(" channel {c}"));
    let weight = t.weight.map_or(String::new(), |w| format!(", weight {w}"));
    let bits = t.bits.map_or(String::new(), |b| format!(" of {b:.2} bits"));
    let (width, noise) = (100.0 * t.share_of_width, 100.0 * t.share_of_noise);
    let name = if t.weight.is_some() { format!("%{}", t.operand) } else { t.operand.clone() };
    format!("{name}{channel}{weight}{bits}: {width:.1} % of the width, {noise:.1} % of the noise")
}

fn of_reading(text: &mut String, r: &ReadingWhy) {
    let by = if r.output { format!("output {:?}", r.by) } else { format!("table %{}", r.by) };
    let _ = writeln!(
        text,
        "  read      %{} by {by}: {} within [{}, {}] ({:.2} bits a channel), {} boxes",
        r.reads, r.read, r.domain.lo, r.domain.hi, r.domain.bits, r.boxes
    );
    if r.bits_below_proven >= 0.005 {
        let narrower = r.bits_below_proven;
        let _ = writeln!(text, "    domain  {narrower:.2} bits narrower than what is proven: values outside saturate");
    }
    let bound = if r.read == "full" {
        "no box that it could miss".to_owned()
    } else {
        format!("bound 2^{:.2}: {:.2} sd, fail 2^{:.1}", r.log2_bound, r.bound_in_sd, r.log2_p_fail)
    };
    let _ = writeln!(text, "    noise   sd 2^{:.2} when it is read, {bound}", r.log2_sd);
    let _ = writeln!(text, "    parts   {}", in_words(&r.shares));
    if let Some(set) = &r.set {
        let _ = writeln!(text, "    keys    {set}");
    }
    let decides = if r.decides {
        "yes: no other read comes closer to its bound"
    } else {
        "no: another read is closer to its bound"
    };
    let _ = writeln!(text, "    decides {decides}");
    for bargain in &r.one_bit_less {
        let _ = writeln!(text, "    less    {}", of_bargain(bargain));
    }
}

fn of_bargain(b: &Bargain) -> String {
    let option = b.option.as_ref().map_or(String::new(), |o| format!(" ({o})"));
    let buys = match 1.0 - b.seconds / b.seconds_now {
        saved if saved.is_nan() || saved.abs() < 0.0005 => "nothing".into(),
        saved if saved > 0.0 => format!("{:.1} % of the time", 100.0 * saved),
        saved => format!("{:.1} % more time", -100.0 * saved),
    };
    format!("{}{option}: buys {buys}, {} per row with {}", b.change, seconds(b.seconds), b.parameters)
}
