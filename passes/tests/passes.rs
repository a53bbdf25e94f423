//! What each pass does, as text: every case of `cases/<pass>/` is a graph, its snapshot is what became of it.
//!
//! A case also checks the verifier, the text form and the meaning of the graph; see `harness`.

use std::collections::BTreeSet;

/// One test per pass, so that a failure names the pass; and the list of those passes.
macro_rules! passes {
    ($($test:ident $pass:literal)*) => {
        $(
            #[test]
            fn $test() {
                crate::harness::run_cases($pass);
            }
        )*
        const TESTED: &[&str] = &[$($pass),*];
    };
}

passes! {
    recognise_grids "recognise-grids"
    fold_constants "fold-constants"
    canonicalize "canonicalize"
    fill_domains "fill-domains"
    fuse_batchnorm "fuse-batchnorm"
    lower_max_pool "lower-max-pool"
    lower_products "lower-products"
    eliminate_dead_neurons "eliminate-dead-neurons"
    calibrate "calibrate"
    quantize "quantize"
    range_analysis "range-analysis"
    lut_egraph "lut-egraph"
    round_accumulators "round-accumulators"
    tabulate "tabulate"
    merge_tables "merge-tables"
    dedup_tables "dedup-tables"
    round_exactly "round-exactly"
    select_params "select-params"
    lower_circuit "lower-circuit"
}

#[test]
fn every_pass_has_cases_and_every_folder_is_a_pass() {
    let passes: BTreeSet<&str> = fhe_passes::pipeline::ALL.iter().map(|p| p.name()).collect();
    let tested: BTreeSet<&str> = TESTED.iter().copied().collect();
    let folders = crate::harness::folders();
    assert_eq!(tested, passes, "tests of this file and passes");
    assert_eq!(folders, passes.iter().map(|p| (*p).to_owned()).collect(), "folders of cases and passes");
    for pass in passes {
        assert!(!crate::harness::cases(pass).is_empty(), "cases/{pass} has no case");
    }
}

#[test]
fn the_default_pipeline_has_known_passes_in_order_of_phase() {
    let mut phase = fhe_ir::Phase::Float;
    for pass in fhe_passes::pipeline::DEFAULT {
        let found = fhe_passes::pipeline::find(pass.name()).map(|p| p.name());
        assert_eq!(found, Some(pass.name()));
        let (from, to) = pass.takes();
        assert!((from..=to).contains(&phase), "{} takes {from} to {to}, gets {phase}", pass.name());
        // Range analysis proves what is quantized and refreshes what is proven: it gives the later of two phases.
        let proven = if pass.name() == "range-analysis" { phase.max(fhe_ir::Phase::Ranged) } else { phase };
        phase = pass.gives().unwrap_or(proven);
    }
}
