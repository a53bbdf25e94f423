//! Splitting a class in two, where that pays for one more set.

use std::collections::BTreeSet;

use super::descent::{Effort, coarse, descend};
use super::state::{Evaluator, Scored, State};

/// Classes, at most.
const CLASSES: usize = 8;

/// Cuts of one order that are tried.
const CUTS: usize = 4;

/// Splits classes while the cost falls by more than the problem asks for.
pub(super) fn refine(evaluator: &Evaluator<'_>, start: Scored) -> Scored {
    let mut best = start;
    while best.state.classes.len() < CLASSES {
        let mut next: Option<Scored> = None;
        for class in 0..best.state.classes.len() {
            // A class that costs less than that cannot save as much.
            if best.plans[class].cost < best.cost * evaluator.problem.min_gain {
                continue;
            }
            for half in halves(evaluator, &best, class) {
                let split = split(&best.state, class, &half);
                let Some(scored) = evaluator.score(&split, f64::INFINITY) else { continue };
                let scored = coarse(evaluator, scored, class, Effort::Glance);
                let scored = coarse(evaluator, scored, best.state.classes.len(), Effort::Glance);
                if next.as_ref().is_none_or(|next| scored.cost < next.cost) {
                    next = Some(scored);
                }
            }
        }
        let Some(next) = next.and_then(|next| descend(evaluator, next.state)) else { break };
        if next.cost > best.cost * (1.0 - evaluator.problem.min_gain) {
            break;
        }
        best = next;
    }
    best
}

/// The given tables of a class become a class of their own, under the same keys.
fn split(state: &State, class: usize, half: &BTreeSet<usize>) -> State {
    let mut split = state.clone();
    split.classes.push(state.classes[class]);
    for table in half {
        split.class_of[*table] = state.classes.len();
    }
    split
}

/// Parts of a class that may want other keys than the rest: those that others read with the largest norm; that have the
/// tightest read; that have the most room; that read one region.
fn halves(evaluator: &Evaluator<'_>, scored: &Scored, class: usize) -> BTreeSet<BTreeSet<usize>> {
    let members: Vec<usize> = (0..scored.state.class_of.len()).filter(|t| scored.state.class_of[*t] == class).collect();
    let measures = evaluator.tightness(&scored.state);
    let mut halves = BTreeSet::new();
    for measure in measures {
        let mut order = members.clone();
        // Stable: equal tables stay in their order.
        order.sort_by(|a, b| measure[*a].total_cmp(&measure[*b]));
        let cuts: Vec<usize> = (1..order.len()).filter(|i| measure[order[*i]] > measure[order[i - 1]]).collect();
        let stride = cuts.len().div_ceil(CUTS).max(1);
        for cut in cuts.iter().skip((stride - 1) / 2).step_by(stride) {
            halves.insert(order[..*cut].iter().copied().collect());
        }
    }
    halves
}
