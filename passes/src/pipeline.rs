//! The passes by name, and the order in which they run by default.

use crate::calibrate::Calibrate;
use crate::canonicalize::Canonicalize;
use crate::dedup_tables::DedupTables;
use crate::eliminate_dead_neurons::EliminateDeadNeurons;
use crate::fill_domains::FillDomains;
use crate::fold_constants::FoldConstants;
use crate::fuse_batchnorm::FuseBatchnorm;
use crate::lower_circuit::LowerCircuit;
use crate::lower_max_pool::LowerMaxPool;
use crate::lower_products::LowerProducts;
use crate::lut_egraph::LutEgraph;
use crate::merge_tables::MergeTables;
use crate::pass::Pass;
use crate::quantize::Quantize;
use crate::range_analysis::RangeAnalysis;
use crate::recognise_grids::RecogniseGrids;
use crate::round_accumulators::RoundAccumulators;
use crate::round_exactly::RoundExactly;
use crate::select_params::SelectParams;
use crate::tabulate::Tabulate;

/// Every pass, in the order in which the default pipeline first meets it.
pub static ALL: &[&dyn Pass] = &[
    &RecogniseGrids,
    &FoldConstants,
    &Canonicalize,
    &FuseBatchnorm,
    &EliminateDeadNeurons,
    &LowerMaxPool,
    &LowerProducts,
    &Calibrate,
    &Quantize,
    &RangeAnalysis,
    &LutEgraph,
    &RoundAccumulators,
    &Tabulate,
    &MergeTables,
    &DedupTables,
    &RoundExactly,
    &FillDomains,
    &SelectParams,
    &LowerCircuit,
];

/// What runs when nothing else is asked for. The comment above a line is the reason of its position.
pub static DEFAULT: &[&dyn Pass] = &[
    // First of all: fusion would put factors into weights that are exact as they are.
    &RecogniseGrids,
    // Early: a reader leaves factors, summands and negations where the exporter put them.
    &FoldConstants,
    // Pads and layouts between a layer and its batch-norm are in the way of fusion.
    &Canonicalize,
    // Before calibration: ranges are measured on what will be quantized.
    &FuseBatchnorm,
    // Again: a batch-norm without a layer in front is now a factor and a summand for the layer or map behind it.
    &FoldConstants,
    // Again: a batch-norm at an output has left a summand that the client can add.
    &Canonicalize,
    // After every float fusion: a batch-norm with a zero factor makes a constant neuron. Before calibration, which has
    // fewer channels to measure.
    &EliminateDeadNeurons,
    // After the float passes, which see a pool as one op; before calibration, which measures the differences.
    &LowerMaxPool,
    // As for pools: squares are measured as the tables they become.
    &LowerProducts,
    // Ranges are measured on what will be quantized, so after all float fusion.
    &Calibrate,
    &Quantize,
    &RangeAnalysis,
    // Needs proven ranges: rules enumerate them, and the cost of a lookup grows with them.
    &LutEgraph,
    // Again: rewritten maps have other operands.
    &RangeAnalysis,
    // Needs proven ranges, which cut the calibrated ones; after the maps have absorbed all they can.
    &RoundAccumulators,
    &Tabulate,
    // Entries exist, and can be added; before equal tables are found, of which it makes more.
    &MergeTables,
    // As soon as tables are final: everything behind counts and stores distinct tables.
    &DedupTables,
    // Tables narrowed the ranges; narrower accumulators have smaller worst cases.
    &RangeAnalysis,
    // Needs every domain of a region, and tables that all have been narrowed.
    &RoundExactly,
    // Needs every domain of a region, those of bits too; before parameters, which larger boxes make cheaper.
    &FillDomains,
    &SelectParams,
    &LowerCircuit,
];

/// The part of [`DEFAULT`] that ends with the integer network: what follows keeps its integers, is for noise, and needs
/// parameters of the scheme or finds them.
pub fn integer() -> &'static [&'static dyn Pass] {
    let end = DEFAULT.iter().position(|pass| pass.name() == RoundExactly.name());
    &DEFAULT[..end.unwrap_or(DEFAULT.len())]
}

/// The part of [`DEFAULT`] in front of tables, whose maps are the tables that would read every integer exactly: the
/// integer network without rounding, however wide its accumulators are.
pub fn untabled() -> &'static [&'static dyn Pass] {
    let end = DEFAULT.iter().position(|pass| pass.name() == RoundAccumulators.name());
    &DEFAULT[..end.unwrap_or(DEFAULT.len())]
}

/// The part of [`DEFAULT`] behind [`untabled`]: what an accuracy budget decides about.
pub fn tabling() -> &'static [&'static dyn Pass] {
    &DEFAULT[untabled().len()..]
}

/// The passes of [`DEFAULT`] in front of calibration.
pub(crate) fn float_passes() -> impl Iterator<Item = &'static dyn Pass> {
    DEFAULT.iter().copied().take_while(|pass| pass.name() != Calibrate.name())
}

/// The pass of a name.
pub fn find(name: &str) -> Option<&'static dyn Pass> {
    ALL.iter().copied().find(|pass| pass.name() == name)
}
