//! Whole-system tests, models, data preparation and tidy checks. Nothing depends on this crate.

pub mod budgets;
pub mod conformance;
pub mod data;
pub mod failures;
pub mod fuzz;
pub mod noise;
