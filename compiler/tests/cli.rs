//! `fhe-compile` from outside: what it prints, what it refuses, and with which exit code.

#[allow(dead_code, unreachable_pub)]
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::onnx_support::{Builder, int};
use ndarray::{Array1, Array2, ArrayD};
use ndarray_npy::{WriteNpyExt, write_npy};
use tempfile::TempDir;

/// A folder with the two-layer network of the book and data for it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        std::fs::write(place.at("mlp2.onnx"), mlp2()).unwrap();
        let wave = |i: usize, j: usize| ((i * 7 + j * 3) as f32 * 0.37).sin();
        write_npy(place.at("x.npy"), &Array2::from_shape_fn((64, 4), |(i, j)| wave(i, j))).unwrap();
        write_npy(place.at("y.npy"), &Array1::from_shape_fn(64, |i| (i % 2) as i64)).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fhe-compile"))
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// Runs, checks the exit code, and gives stdout and stderr.
    fn expect(&self, code: i32, arguments: &str) -> (String, String) {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }

    /// Runs what is refused with exit code 1: the message names `code` and every one of `parts`, there is a way out,
    /// and no circuit is written.
    fn refuses(&self, arguments: &str, code: &str, parts: &[&str]) {
        let (stdout, stderr) = self.expect(1, arguments);
        // Messages are wrapped at the width of a terminal.
        let flat: String = stderr.replace(['│', '\n'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [code, "help:"].iter().chain(parts) {
            assert!(flat.contains(part), "{part:?} is missing:\n{stderr}");
        }
        assert!(stdout.is_empty() && !stderr.contains("panicked"), "{stdout}\n{stderr}");
        assert!(!self.at("mlp2.fhe").exists());
    }
}

/// `Gemm 4→3, Relu, Gemm 3→2`.
fn mlp2() -> Vec<u8> {
    Builder::new(17)
        .input("x", &["N", "4"])
        .reals("w1", &[3, 4], &[0.7, -0.4, 0.1, 0.5, -0.4, 0.7, -0.2, 0.5, 0.1, -0.7, 0.3, -0.2])
        .reals("b1", &[3], &[0.05, -0.1, 0.2])
        .reals("w2", &[2, 3], &[0.7, -0.3, 0.2, -0.5, 0.6, 0.4])
        .reals("b2", &[2], &[-0.02, 0.04])
        .named("fc1", "Gemm", &["x", "w1", "b1"], "fc1", vec![int("transB", 1)])
        .named("relu1", "Relu", &["fc1"], "relu1", vec![])
        .named("fc2", "Gemm", &["relu1", "w2", "b2"], "fc2", vec![int("transB", 1)])
        .output("fc2")
        .bytes()
}

#[test]
fn exact_rounding_counts_its_bootstraps_and_keeps_to_a_probability() {
    let place = Place::new();
    let (stdout, stderr) =
        place.expect(0, "mlp2.onnx --calibration x.npy --n-bits 4 --rounding 3 --rounding-method exact --stats text");
    assert!(stdout.contains("tables rounded exactly 1, bits removed 12"), "{stdout}");
    assert!(stdout.contains("p-error 2^-40, rounding 3 exact where an accumulator is wider"), "{stdout}");
    assert!(stderr.contains("15 lookups"), "three tables and four bits for each: {stderr}");
    for wrong in ["--rounding full", "--rounding 3 --accuracy-budget 0.01"] {
        let (_, stderr) = place.expect(2, &format!("mlp2.onnx --calibration x.npy --rounding-method exact {wrong}"));
        assert!(stderr.contains("exact"), "{stderr}");
    }
}

#[test]
fn a_plain_compile_prints_a_summary_and_the_next_command() {
    let place = Place::new();
    let (stdout, stderr) =
        place.expect(0, "mlp2.onnx --n-bits 4 --rounding 4 --calibration x.npy --evaluate x.npy --labels y.npy");
    assert_eq!(stdout, "");
    for part in ["accuracy  float", "cost      3 lookups", "assumed   ", "next      fhe-run predict mlp2.fhe"] {
        assert!(stderr.contains(part), "{part:?} is missing:\n{stderr}");
    }
    let again = place.at("again.fhe");
    place.expect(
        0,
        "mlp2.onnx --n-bits 4 --rounding 4 --calibration x.npy --evaluate x.npy --labels y.npy -o again.fhe",
    );
    let same = std::fs::read(place.at("mlp2.fhe")).unwrap() == std::fs::read(again).unwrap();
    assert!(same, "the same input gives the same file");
    let (overview, _) = place.expect(0, "inspect mlp2.fhe");
    assert!(overview.contains("lookups   3"), "{overview}");
    let (listing, _) = place.expect(0, "inspect mlp2.fhe --format ir");
    assert!(listing.starts_with("eir 2 circuit\ngraph mlp2\n"), "{listing}");
}

#[test]
fn statistics_name_the_curve_and_the_estimator_of_the_security_that_was_asked_for() {
    let place = Place::new();
    for (asked, bits, curve, estimator) in [
        ("", 128, "gaussian-128", "lattice-estimator 60808bdc, MATZOV"),
        ("--security 132", 132, "gaussian-132", "lattice-estimator 352ddaf, MATZOV"),
        ("--security gaussian-132", 132, "gaussian-132", "lattice-estimator 352ddaf, MATZOV"),
    ] {
        let compile = format!("mlp2.onnx --n-bits 4 --rounding 4 --calibration x.npy {asked}");
        let (text, _) = place.expect(0, &format!("{compile} --stats text"));
        let line = format!("security  {bits} bits (curve {curve} of zama-ai/concrete, {estimator})");
        assert!(text.contains(&line) && text.contains(&format!("security={bits}")), "{text}");
        let (json, _) = place.expect(0, &format!("{compile} --stats json"));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let s = &json["statistics"];
        assert_eq!((s["security_bits"].as_u64(), &s["security_curve"]), (Some(bits), &curve.into()));
        assert_eq!(s["security_estimator"], estimator);
    }
    let (_, stderr) = place.expect(2, "mlp2.onnx --calibration x.npy --security 80");
    assert!(stderr.contains("gaussian-128"), "{stderr}");
}

#[test]
fn differences_read_like_the_listing_of_the_book() {
    let place = Place::new();
    let (_, stderr) =
        place.expect(0, "mlp2.onnx --n-bits 4 --rounding 4 --calibration x.npy --p-error 2^-40 --print-ir-diff all");
    let pipeline = stderr.split("cost      ").next().unwrap();
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("mlp2-print-ir-diff", pipeline);
    });
}

#[test]
fn sweeps_write_one_row_each_and_go_on_where_they_stopped() {
    let place = Place::new();
    let sweep = "mlp2.onnx --n-bits 2-4 --rounding 4,off --calibration x.npy --evaluate x.npy --sweep s.csv";
    let (rows, _) = place.expect(0, sweep);
    assert_eq!(rows.lines().count(), 1 + 3 * 2, "{rows}");
    // The last row is lost in the middle of a write.
    let cut = &rows[..rows.len() - 9];
    std::fs::write(place.at("s.csv"), cut).unwrap();
    let (again, stderr) = place.expect(0, sweep);
    assert_eq!(again, rows);
    assert_eq!(stderr.matches("already in").count(), 5, "{stderr}");
    // Another job in the same file is computed anew.
    let other = format!("{sweep} --calibration-method mse");
    let (both, stderr) = place.expect(0, &other);
    assert_eq!((both.lines().count(), stderr.matches("already in").count()), (1 + 2 * 3 * 2, 0), "{both}\n{stderr}");
}

#[test]
fn models_that_are_not_models_are_refused() {
    let place = Place::new();
    std::fs::write(place.at("text.onnx"), "not a model").unwrap();
    std::fs::write(place.at("cut.onnx"), &mlp2()[..200]).unwrap();
    place.refuses("text.onnx --calibration x.npy", "onnx::", &["text"]);
    place.refuses("cut.onnx --calibration x.npy", "onnx::", &["cut"]);
    place.refuses("nowhere.onnx --calibration x.npy", "onnx::unreadable", &["nowhere.onnx"]);
}

#[test]
fn operators_without_an_encrypted_form_are_refused_together() {
    let place = Place::new();
    let model = Builder::new(17).input("x", &["N", "4"]).named("rnn", "GRU", &["x"], "a", vec![]);
    let model = model.named("sq", "Det", &["x"], "b", vec![]).output("a").output("b");
    std::fs::write(place.at("ops.onnx"), model.bytes()).unwrap();
    place.refuses("ops.onnx --calibration x.npy", "onnx::unsupported", &["GRU", "\"rnn\"", "Det", "\"sq\""]);
}

#[test]
fn open_extents_ask_for_their_value() {
    let place = Place::new();
    let model = Builder::new(17).input("x", &["N", "features"]).node("Relu", &["x"], "y", vec![]).output("y");
    std::fs::write(place.at("open.onnx"), model.bytes()).unwrap();
    place.refuses("open.onnx --calibration x.npy", "onnx::dynamic-shape", &["features", "--dim features=VALUE"]);
    place.expect(0, "open.onnx --calibration x.npy --dim features=4");
}

#[test]
fn calibration_data_that_does_not_fit_is_refused() {
    let place = Place::new();
    write_npy(place.at("wide.npy"), &Array2::<f32>::zeros((8, 5))).unwrap();
    let mut nan = Array2::<f32>::zeros((8, 4));
    nan[[3, 1]] = f32::NAN;
    write_npy(place.at("nan.npy"), &nan).unwrap();
    let mut bytes = vec![];
    ArrayD::<f32>::zeros(vec![8, 4]).write_npy(&mut bytes).unwrap();
    std::fs::write(place.at("cut.npy"), &bytes[..bytes.len() - 3]).unwrap();
    write_npy(place.at("none.npy"), &Array2::<f32>::zeros((0, 4))).unwrap();
    place.refuses("mlp2.onnx --calibration none.npy", "data::no-rows", &["none.npy"]);
    place.refuses("mlp2.onnx --calibration wide.npy", "data::rows", &["wide.npy", "[5]", "[4]"]);
    place.refuses("mlp2.onnx --calibration nan.npy", "data::rows", &["nan.npy", "NaN", "row 3"]);
    place.refuses("mlp2.onnx --calibration x.npy --evaluate nan.npy", "data::rows", &["nan.npy", "row 3"]);
    place.refuses("mlp2.onnx --calibration cut.npy", "data::not-npy", &["cut.npy"]);
    place.refuses("mlp2.onnx --calibration x.npy --evaluate x.npy --labels x.npy", "data::labels", &["256", "64"]);
}

#[test]
fn an_accumulator_that_no_parameters_carry_is_named_with_its_bits() {
    let place = Place::new();
    place.refuses(
        "mlp2.onnx --n-bits 9 --rounding off --calibration x.npy",
        "passes::no-parameters",
        &["\"fc1\" Gemm", "(17.0 bits)", "--rounding", "^^^^"],
    );
    // Beyond any table, whatever the parameters.
    place.refuses(
        "mlp2.onnx --n-bits 12 --rounding off --calibration x.npy",
        "passes::accumulator-too-wide",
        &["\"fc1\" Gemm", "boxes", "--rounding", "^^^^"],
    );
}

/// `option` and `value` pairs of a command line, later ones in place of earlier ones.
fn merged(options: &[&str]) -> String {
    let mut merged: Vec<(&str, &str)> = vec![];
    for pair in options.chunks(2) {
        merged.retain(|(option, _)| *option != pair[0]);
        merged.push((pair[0], pair[1]));
    }
    merged.iter().map(|(option, value)| format!("{option} {value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn ways_out_compile_and_cost_what_was_predicted() {
    let place = Place::new();
    let mut proposed = vec![];
    for options in [
        "--n-bits 9 --rounding off --calibration x.npy --p-error 2^-40",
        "--n-bits 7 --rounding off --calibration x.npy --p-error 2^-60",
        "--n-bits 8 --rounding 11 --calibration x.npy --p-error 2^-40",
        "--n-bits 7 --rounding off --calibration x.npy --ranges worst-case --p-error 2^-40 --security 132",
        "--n-bits 5 --rounding off --calibration x.npy --ranges worst-case --p-error 2^-125 --security 132",
        "--n-bits op_inputs=10:op_weights=12 --rounding 10 --calibration x.npy --global-p-error 2^-100",
    ] {
        let (_, stderr) = place.expect(1, &format!("mlp2.onnx {options}"));
        let flat: Vec<_> =
            stderr.split("help:").nth(1).unwrap().split("from ").next().unwrap().split_whitespace().collect();
        let flat = flat.join(" ");
        // `--option value [--option value]: effect, 0.123 s per row on one core --option …`
        let ways: Vec<_> = flat.split(" s per row on one core").filter_map(|w| w.split_once("--")).collect();
        assert!(!ways.is_empty() && ways.len() <= 3, "{stderr}");
        let mut last = 0.0;
        for (_, way) in ways {
            let (changed, effect) = way.split_once(": ").unwrap();
            let predicted: f64 = effect.rsplit(", ").next().unwrap().parse().unwrap();
            assert!(predicted >= last, "the cheapest comes first:\n{stderr}");
            last = predicted;
            let changed = format!("--{changed}");
            let both: Vec<_> = options.split_whitespace().chain(changed.split_whitespace()).collect();
            let (json, _) = place.expect(0, &format!("mlp2.onnx {} --stats json", merged(&both)));
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let got = json["predicted_single_thread_ns"].as_f64().unwrap() * 1e-9;
            proposed.push(format!("{options}\n    {changed}: predicted {predicted:.3} s, compiled {got:.3} s"));
            assert!((0.4..2.5).contains(&((got + 0.001) / (predicted + 0.001))), "{}", proposed.join("\n"));
        }
    }
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("ways-out", proposed.join("\n"));
    });
}

#[test]
fn parameters_are_chosen_for_the_machine_of_the_cost_model() {
    let place = Place::new();
    let machine = fhe_ir::cost::Machine::default();
    let model = "mlp2.onnx --n-bits 4 --rounding 4 --calibration x.npy --stats json";
    let compiled = |options: &str| -> serde_json::Value {
        serde_json::from_str(&place.expect(0, &format!("{model} {options}")).0).unwrap()
    };
    let named = compiled(&format!("--cost-model {}", machine.name));
    assert_eq!(named["options"]["machine"]["name"], machine.name.as_str());

    // A machine with a slow transform and free keyswitches: many levels of keyswitch, a short key.
    let cost = fhe_ir::cost::MachineCost { fft_butterfly_ns: 1.0, keyswitch_product_ns: 1e-6, ..machine.cost };
    let machine = fhe_ir::cost::Machine { name: "slow".into(), threads: 1, cost };
    let mut file = fhe_ir::cost::CostFile { version: fhe_ir::cost::VERSION, machine, measured: vec![] };
    std::fs::write(place.at("slow.json"), file.to_json()).unwrap();
    let slow = compiled("--cost-model slow.json");
    assert_eq!(slow["options"]["machine"]["name"], "slow");
    assert_ne!(slow["statistics"]["parameters"], named["statistics"]["parameters"]);
    assert_eq!(slow["predicted_row_ns"], slow["predicted_single_thread_ns"]);

    file.machine.cost.product_ns = -1.0;
    std::fs::write(place.at("broken.json"), file.to_json()).unwrap();
    let (_, stderr) = place.expect(1, &format!("{model} --cost-model broken.json"));
    assert!(stderr.contains("cli::cost-model") && stderr.contains("product_ns: -1"), "{stderr}");
    let (_, stderr) = place.expect(2, &format!("{model} --cost-model abacus"));
    assert!(stderr.contains("built-in"), "{stderr}");
}

#[test]
fn a_node_is_explained_in_text_and_as_json() {
    let place = Place::new();
    place.expect(0, "mlp2.onnx --n-bits 4 --rounding 4 --calibration x.npy --p-error 2^-40");
    let why = |asked: &str| place.expect(0, &format!("inspect mlp2.fhe --why {asked}")).0;
    let texts: Vec<_> = ["fc1", "relu1", "fc2", "x"].map(|node| format!("--why {node}\n{}", why(node))).into();
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("why", texts.join("\n"));
    });
    // Values are found by their names too, as listings write them.
    let (listing, _) = place.expect(0, "inspect mlp2.fhe --format ir");
    let values = listing.lines().filter_map(|l| l.trim().strip_prefix('%')?.split_once(": ").map(|(v, _)| v));
    let names: Vec<_> = values.collect();
    assert!(names.iter().any(|n| n.ends_with(".ks")), "{listing}");
    for value in names {
        assert_eq!(why(value), why(&format!("%{value}")));
    }

    let (json, _) = place.expect(0, "inspect mlp2.fhe --why relu1 --format json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let reading = &json["values"][0]["readings"][0];
    let parts = reading["shares"].as_array().unwrap().iter().map(|s| s["share"].as_f64().unwrap());
    assert!((parts.sum::<f64>() - 1.0).abs() < 1e-9, "{json}");
    // The explanation and the statistics are computed apart.
    let (statistics, _) = place.expect(0, "inspect mlp2.fhe --format json");
    let statistics: serde_json::Value = serde_json::from_str(&statistics).unwrap();
    let of = |node: &str, key: &str| {
        let nodes = statistics["statistics"]["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["node"] == node).unwrap()[key].as_f64().unwrap()
    };
    assert!((of("relu1", "log2_p_fail") - reading["log2_p_fail"].as_f64().unwrap()).abs() < 1e-3);
    assert!((of("relu1", "log2_bound") - reading["log2_bound"].as_f64().unwrap()).abs() < 1e-3);

    place.expect(2, "inspect mlp2.fhe --why fc1 --format dot");
    let (stdout, stderr) = place.expect(1, "inspect mlp2.fhe --why fcl");
    assert!(stdout.is_empty() && stderr.contains("cli::unknown-node") && stderr.contains("\"fc1\""), "{stderr}");
}

#[test]
fn circuits_from_strangers_are_checked() {
    let place = Place::new();
    place.expect(0, "mlp2.onnx --n-bits 3 --rounding 4 --calibration x.npy -o good.fhe");
    let good = std::fs::read(place.at("good.fhe")).unwrap();
    std::fs::write(place.at("cut.fhe"), &good[..good.len() / 2]).unwrap();
    let mut altered = good.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    std::fs::write(place.at("altered.fhe"), altered).unwrap();
    place.refuses("inspect cut.fhe", "artifact::", &[]);
    place.refuses("inspect altered.fhe", "artifact::", &[]);
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let place = Place::new();
    for (arguments, part) in [
        ("mlp2.onnx --n-bits 99", "outside [1, 16]"),
        ("mlp2.onnx --p-error 7", "probability"),
        ("mlp2.onnx --rounding many", "off"),
        ("mlp2.onnx --p-error 2^-9 --global-p-error 0.1", "cannot be used with"),
        ("mlp2.onnx --passes quantise", "quantize"),
        ("", "required"),
    ] {
        let (_, stderr) = place.expect(2, arguments);
        assert!(stderr.contains(part), "{arguments}: {stderr}");
    }
}

#[test]
fn help_shows_examples() {
    let place = Place::new();
    let (stdout, _) = place.expect(0, "--help");
    assert!(stdout.contains("fhe-compile model.onnx --n-bits 6 --calibration calib.npy"), "{stdout}");
    assert!(Path::new(env!("CARGO_BIN_EXE_fhe-compile")).exists());
}

#[test]
fn with_calibration_rows_an_accuracy_budget_is_kept_and_certified() {
    let place = Place::new();
    let report = |asked: &str| -> serde_json::Value {
        let options = "--n-bits 4 --calibration x.npy --evaluate x.npy --labels y.npy --stats json";
        serde_json::from_str(&place.expect(0, &format!("mlp2.onnx {options} {asked}")).0).unwrap()
    };
    let number = |report: &serde_json::Value, key: [&str; 2]| report[key[0]][key[1]].as_f64().unwrap();
    let (default, tight, loose) = (report(""), report("--accuracy-budget 0.005"), report("--accuracy-budget 0.2"));
    assert_eq!(default["budget"], tight["budget"], "0.005 is the default");
    for report in [&tight, &loose] {
        // The rows are few: what they certify is stated, and bounds what was accepted.
        let (asked, certifiable) = (number(report, ["budget", "asked"]), number(report, ["budget", "certifiable"]));
        let allowed = if certifiable <= asked { asked } else { asked + certifiable };
        assert!(number(report, ["budget", "certified"]) <= allowed, "{report}");
        let simulated = number(report, ["accuracy", "simulated"]);
        assert!(number(report, ["accuracy", "integer"]) - simulated <= allowed + 0.05, "{report}");
        assert_eq!(report["options"]["rounding"], "full");
    }
    let cost = |report: &serde_json::Value| report["predicted_single_thread_ns"].as_f64().unwrap();
    assert!(cost(&loose) <= cost(&tight), "a larger budget never costs more");
    place.expect(2, "mlp2.onnx --calibration x.npy --accuracy-budget 0.005 --p-error 0.01");
    // Found noise and domains are options like others.
    let (again, _) =
        place.expect(0, "mlp2.onnx --n-bits 4 --calibration x.npy --rounding full --noise-budget 2^-7 --stats json");
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert!(again["budget"].is_null());
}

#[test]
fn boxes_left_open_are_the_cheapest_that_are_accurate_enough() {
    let place = Place::new();
    let report = |asked: &str| -> serde_json::Value {
        let options = "--n-bits 6 --calibration x.npy --evaluate x.npy --labels y.npy --p-error 2^-20 --stats json";
        serde_json::from_str(&place.expect(0, &format!("mlp2.onnx {options} {asked}")).0).unwrap()
    };
    let cost = |report: &serde_json::Value| report["predicted_single_thread_ns"].as_f64().unwrap();
    let chosen = |report: &serde_json::Value| report["options"]["rounding"].clone();
    let (auto, finest) = (report("--rounding auto"), report("--rounding 8"));
    let boxes = &auto["boxes"];
    let bits = boxes["bits"].as_u64().unwrap();
    assert_eq!(chosen(&auto), serde_json::json!({ "approximate": bits }));
    assert_eq!([&boxes["narrowest"], &boxes["widest"], &boxes["finest"]], [2, 8, 8]);
    assert_eq!(boxes["finest_ns"].as_f64().unwrap(), cost(&finest));
    assert_eq!(auto["options"]["coarser"], boxes["coarser"]);
    assert!(cost(&auto) < cost(&finest), "{boxes}");
    let number = |key: &str| boxes[key].as_f64().unwrap();
    assert!(number("certified") <= number("allowed").max(number("certifiable")), "{boxes}");
    // The widths that were chosen are options like others, and their accuracy is that of a compilation told so.
    if boxes["coarser"].as_object().unwrap().is_empty() {
        assert_eq!(report(&format!("--rounding {bits}"))["accuracy"], auto["accuracy"]);
    }
    let within = report("--rounding 3-4 --rounding-method exact");
    let bits = within["boxes"]["bits"].as_u64().unwrap();
    assert!((3..=4).contains(&bits) && chosen(&within) == serde_json::json!({ "exact": bits }), "{}", within["boxes"]);

    // Within a budget, auto reads in full: nothing is chosen.
    let (json, _) = place.expect(0, "mlp2.onnx --n-bits 4 --calibration x.npy --rounding auto --stats json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["boxes"].is_null() && json["options"]["rounding"] == "full", "{json}");
    for (arguments, part) in [
        ("--rounding auto", "--calibration X.npy or --evaluate"),
        ("--rounding auto --p-error 0.01 --input-range -1,1", "rows of data"),
        ("--rounding 2-8 --calibration x.npy", "--p-error"),
        ("--rounding auto --calibration x.npy --evaluate x.npy --accuracy-only", "noise"),
        ("--rounding 8-2 --calibration x.npy --p-error 0.01", "range"),
    ] {
        let (_, stderr) = place.expect(2, &format!("mlp2.onnx {arguments}"));
        assert!(stderr.contains("--rounding") && stderr.contains(part), "{arguments}: {stderr}");
    }
}
