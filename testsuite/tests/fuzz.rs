//! The first mutants of the bundled models: no panic, no hang, no memory beyond the stated limit.

use std::path::Path;
use std::time::Duration;

use fhe_testsuite::fuzz::run::{Plan, run};
use fhe_testsuite::fuzz::{Mutator, memory, seeds};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Of whole networks and hazards: the conformance cases of single operators are left to the program.
fn mutator() -> Mutator {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let of = |folder| seeds(&models.join(folder)).expect("the models can be read");
    Mutator::new(["arrhythmia", "exporters", "hazards"].into_iter().flat_map(of).collect())
}

#[test]
fn mutants_are_errors_or_graphs() {
    let plan = Plan { seed: 0, from: 0, count: 4000, threads: 2, time: Duration::from_secs(60) };
    let summary = run(
        &mutator(),
        &plan,
        |defect| {
            // It cannot be stopped, and the test must not wait for it.
            eprintln!("mutant {}: {} ({})", defect.index, defect.wrong, defect.what);
            std::process::exit(1);
        },
        |_| (),
    );
    let defects: Vec<_> =
        summary.defects.iter().map(|d| format!("mutant {}: {} ({})", d.index, d.wrong, d.what)).collect();
    assert!(defects.is_empty(), "{defects:#?}");
    let sum = |front: &str| summary.verdicts.iter().filter(|(v, _)| v.starts_with(front)).map(|(_, n)| n).sum::<u64>();
    let (accepted, refused) = (sum("accepted"), sum("refused"));
    assert_eq!(accepted + refused, 4000);
    assert!(accepted > 400 && refused > 1000, "mutants are of both kinds: {:?}", summary.verdicts);
    assert!(summary.verdicts.keys().filter(|v| v.starts_with("refused")).count() >= 8, "{:?}", summary.verdicts);
    assert!(summary.peak.0 > 1 << 16, "the allocator counts: {:?}", summary.peak);
}

#[test]
fn a_mutant_is_its_seed_and_index() {
    let (a, b) = (mutator(), mutator());
    let again = |seed, index| a.mutant(seed, index).bytes == b.mutant(seed, index).bytes;
    assert!((0..200).all(|index| again(7, index)));
    let different = (0..200).filter(|&index| a.mutant(7, index).bytes != a.mutant(8, index).bytes).count();
    assert!(different > 150, "{different}");
}

#[test]
fn a_worker_that_panics_is_a_defect_and_prints_nothing() {
    use fhe_testsuite::fuzz::check::{Verdict, caught};
    let verdict = caught(|| {
        let empty: [u8; 0] = [];
        let index = std::hint::black_box(0);
        Verdict::Refused(empty[index].to_string())
    });
    let Verdict::Defect(wrong) = verdict else { panic!("{verdict:?}") };
    assert!(wrong.contains("index out of bounds") && wrong.contains("tests/fuzz.rs"), "{wrong}");
}
