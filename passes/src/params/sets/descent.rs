//! Coordinate descent: one class takes another big key, decomposition or dimension, or a region moves.

use std::collections::BTreeSet;

use super::state::{CONVERSION_LEVELS, Class, Evaluator, Scored, State};

/// Improvements below this part of the cost are not worth another round.
const RELEVANT: f64 = 1.0 - 1e-4;

/// Rounds over all classes and regions, at most.
const ROUNDS: usize = 12;

/// Follows improvements until there is none. `None` when the start is not feasible.
pub(super) fn descend(evaluator: &Evaluator<'_>, start: State) -> Option<Scored> {
    let mut best = tighten(evaluator, evaluator.score(&start, f64::INFINITY)?);
    for round in 0..ROUNDS {
        let before = best.cost;
        for class in 0..best.state.classes.len() {
            if round > 0 {
                best = fine(evaluator, best, class);
            }
            best = coarse(evaluator, best, class, Effort::Full);
        }
        best = move_regions(evaluator, best);
        if best.cost > before * RELEVANT && round > 0 {
            break;
        }
    }
    Some(best)
}

/// Budgets become what is used of them, which leaves more room to the readers, until nothing changes.
fn tighten(evaluator: &Evaluator<'_>, mut scored: Scored) -> Scored {
    for _ in 0..8 {
        let mut state = scored.state.clone();
        for (class, plan) in state.classes.iter_mut().zip(&scored.plans) {
            class.budget = plan.variance;
        }
        match evaluator.score(&state, f64::INFINITY) {
            Some(next) if next.cost < scored.cost => scored = next,
            _ => break,
        }
    }
    scored
}

/// The better of two.
fn improve(evaluator: &Evaluator<'_>, best: &mut Scored, state: &State) -> bool {
    match evaluator.score(state, best.cost) {
        Some(scored) => {
            *best = tighten(evaluator, scored);
            true
        }
        None => false,
    }
}

/// How thoroughly a class is tried.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Effort {
    /// Regions stay, few dimensions.
    Glance,
    /// Everything.
    Full,
}

/// Part of the cost of the other classes that one class can hardly save.
const KEPT: f64 = 0.6;

/// Tries every useful big key with its decompositions and a grid of small dimensions for a class; regions that live
/// with it come along, or those that it touches join it, or leave it.
pub(super) fn coarse(evaluator: &Evaluator<'_>, current: Scored, class: usize, effort: Effort) -> Scored {
    let mut best = current.clone();
    let mut close: Vec<Scored> = vec![];
    let margin = if effort == Effort::Full { CLOSE } else { 1.0 };
    let others = current.cost - current.plans[class].cost;
    let ratio: f64 = if effort == Effort::Full { 1.08 } else { 1.2 };
    let homes = homes(evaluator, &current.state, class);
    let homes = if effort == Effort::Full { &homes[..] } else { &homes[..1] };
    for &(big, step) in &evaluator.useful {
        let mut tried: Vec<Vec<usize>> = vec![];
        for home in homes {
            let mut state = current.state.clone();
            state.home.clone_from(home);
            (state.classes[class].big, state.classes[class].step) = (big, step);
            let keys: Vec<usize> = (0..home.len()).map(|region| state.key_of(region)).collect();
            if tried.contains(&keys) || !evaluator.may_pay(&state, class, best.cost * margin - KEPT * others) {
                continue;
            }
            tried.push(keys);
            let rooms = evaluator.conversion_noises(&state, class);
            let cmux = evaluator.lists.big_keys[big].cmux[step].variance;
            let grid = std::iter::successors(Some(450.0f64), |n| Some(n * ratio)).take_while(|n| *n < 1500.0);
            // What a larger dimension leaves unused gives the same plan again.
            let mut last = None;
            let (mut here, mut cheapest): (Option<Scored>, f64) = (None, best.cost);
            for (n, room) in grid.flat_map(|n| rooms.iter().map(move |room| (n, room))) {
                state.classes[class].budget = cmux * n + room;
                let plan = evaluator.plan_of(&state, class);
                let seen = plan.as_ref().map(|plan| (plan.cost.to_bits(), plan.variance.to_bits()));
                if plan.is_none_or(|plan| plan.cost >= best.cost * margin - KEPT * others) || seen == last {
                    continue;
                }
                last = seen;
                if let Some(scored) = evaluator.score(&state, cheapest * margin) {
                    cheapest = cheapest.min(scored.cost);
                    here = Some(scored).filter(|s| here.as_ref().is_none_or(|here| s.cost < here.cost)).or(here);
                }
            }
            if let Some(here) = here {
                let here = tighten(evaluator, here);
                if here.cost < best.cost {
                    best = here;
                } else {
                    close.push(here);
                }
            }
        }
    }
    // What is nearly as cheap may win once the other classes have adapted.
    close.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    for mut adapted in close.into_iter().take(ADAPTED) {
        for other in 0..adapted.state.classes.len() {
            adapted = fine(evaluator, adapted, other);
        }
        if adapted.cost < best.cost {
            best = adapted;
        }
    }
    best
}

/// What costs at most this much more may be worth adapting to.
const CLOSE: f64 = 1.06;

/// So many are adapted to.
const ADAPTED: usize = 5;

/// Small changes of the small dimension, as far as the budget asks for it, and other levels of the conversions.
fn fine(evaluator: &Evaluator<'_>, current: Scored, class: usize) -> Scored {
    let mut best = current;
    for room in evaluator.conversion_noises(&best.state, class) {
        let mut state = best.state.clone();
        let Class { big, step, .. } = state.classes[class];
        let cmux = evaluator.lists.big_keys[big].cmux[step].variance;
        state.classes[class].budget = cmux * f64::from(best.plans[class].n) + room;
        improve(evaluator, &mut best, &state);
    }
    let mut reach = 64.0;
    while reach >= 1.0 {
        let Class { big, step, budget } = best.state.classes[class];
        let cmux = evaluator.lists.big_keys[big].cmux[step].variance;
        let mut improved = false;
        for budget in [budget + cmux * reach, budget - cmux * reach] {
            let mut state = best.state.clone();
            state.classes[class].budget = budget;
            improved |= improve(evaluator, &mut best, &state);
        }
        if !improved {
            reach /= 2.0;
        }
    }
    best
}

/// Where regions may live when a class changes: as they do; all that the class touches with it; none with it that
/// another class touches.
fn homes(evaluator: &Evaluator<'_>, state: &State, class: usize) -> Vec<Vec<usize>> {
    let tables = || evaluator.problem.tables.iter().zip(&state.class_of);
    let mut joined = state.home.clone();
    for (table, _) in tables().filter(|(_, of)| **of == class) {
        joined[table.from] = class;
        joined[table.to] = class;
    }
    let mut left = state.home.clone();
    for (table, of) in tables().filter(|(_, of)| **of != class) {
        for region in [table.from, table.to] {
            if left[region] == class {
                left[region] = *of;
            }
        }
    }
    let mut all = vec![state.home.clone()];
    for other in [joined, left] {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

/// Moves one region at a time to the big key of another class; classes that then convert get room for it.
fn move_regions(evaluator: &Evaluator<'_>, mut best: Scored) -> Scored {
    for region in 0..best.state.home.len() {
        for class in 0..best.state.classes.len() {
            let mut moved = best.state.clone();
            moved.home[region] = class;
            if moved.key_of(region) == best.state.key_of(region) {
                continue;
            }
            let writers = evaluator.problem.tables.iter().zip(&moved.class_of).filter(|(t, _)| t.to == region);
            let writers: BTreeSet<usize> = writers.map(|(_, of)| *of).collect();
            for level in 0..CONVERSION_LEVELS {
                let mut state = moved.clone();
                for writer in &writers {
                    let noises = evaluator.conversion_noises(&moved, *writer);
                    state.classes[*writer].budget += noises[level.min(noises.len() - 1)];
                }
                improve(evaluator, &mut best, &state);
            }
        }
    }
    best
}
