//! What a choice of terms costs, and the search for a cheap one.
//!
//! The cost is dominated by table lookups: elements times a price that grows with log2 of the operand's width. A class
//! that is read several times is paid once, so the cost is that of a DAG, which greedy search and bottom-up search both
//! approximate and neither always better: both run, and the cheaper of them and of the network as it came is taken.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use super::language::{Fact, Graph, Tensor, Term};

/// Price of one lookup before its width counts, in units of one bit of width.
const LOOKUP: f64 = 16.0;

/// Bits that an operand without a proven interval is taken for.
const UNKNOWN_BITS: f64 = 16.0;

/// Price of one element of a linear op: small, so that it only decides between equal numbers of lookups.
const LINEAR: f64 = 0.01;

/// One term per class.
pub(super) type Choice = BTreeMap<Id, Term>;

/// Classes in an order in which operands come before their users, with the terms that respect it.
pub(super) struct Candidates {
    order: Vec<Id>,
    terms: BTreeMap<Id, Vec<Term>>,
    costs: BTreeMap<Id, Vec<f64>>,
}

impl Candidates {
    /// The terms of tensors whose operands rank below their class. `ranks` has the classes of the network's values, by
    /// the first value of each; classes that rules made rank just above their operands.
    pub(super) fn new(graph: &Graph, ranks: &BTreeMap<Id, usize>) -> Self {
        // Room for new classes between two values: rules make at most one of them in front of a class.
        let mut rank: BTreeMap<Id, usize> = ranks.iter().map(|(&class, &r)| (class, 2 * r)).collect();
        let mut classes: Vec<Id> =
            graph.classes().filter(|c| matches!(c.data, Fact::Tensor(_))).map(|c| graph.find(c.id)).collect();
        classes.sort_unstable();
        loop {
            let mut changed = false;
            for &class in classes.iter().filter(|&c| !ranks.contains_key(c)) {
                let above = graph[class].nodes.iter().filter_map(|term| {
                    let operands = term.operands().iter().map(|&x| rank.get(&graph.find(x)).copied());
                    operands.collect::<Option<Vec<_>>>().and_then(|r| r.into_iter().max()).map(|r| r + 1)
                });
                if let Some(least) = above.min()
                    && rank.get(&class).is_none_or(|&r| least < r)
                {
                    rank.insert(class, least);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        let mut order: Vec<Id> = rank.keys().copied().collect();
        order.sort_by_key(|class| (rank[class], *class));
        let (mut terms, mut costs) = (BTreeMap::new(), BTreeMap::new());
        for &class in &order {
            let fits = |term: &&Term| {
                term.operands().iter().all(|&x| rank.get(&graph.find(x)).is_some_and(|&r| r < rank[&class]))
            };
            let mut fitting: Vec<Term> = graph[class].nodes.iter().filter(fits).cloned().collect();
            fitting.sort();
            fitting.dedup();
            costs.insert(class, fitting.iter().map(|term| price(graph, class, term)).collect());
            terms.insert(class, fitting);
        }
        Self { order, terms, costs }
    }

    /// The term of each class with the least cost when every use of an operand is paid again.
    pub(super) fn bottom_up(&self, graph: &Graph) -> Choice {
        let mut total: BTreeMap<Id, f64> = BTreeMap::new();
        let mut choice = Choice::new();
        for class in &self.order {
            let cost = |(term, cost): (&Term, &f64)| {
                cost + term
                    .operands()
                    .iter()
                    .map(|x| total.get(&graph.find(*x)).copied().unwrap_or(f64::INFINITY))
                    .sum::<f64>()
            };
            let costs: Vec<f64> = self.terms[class].iter().zip(&self.costs[class]).map(cost).collect();
            if let Some(best) = least(&costs) {
                total.insert(*class, costs[best]);
                choice.insert(*class, self.terms[class][best].clone());
            }
        }
        choice
    }

    /// The term of each class with the least cost when every class below it is paid once.
    pub(super) fn greedy_dag(&self, graph: &Graph) -> Choice {
        let mut below: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
        let mut paid: BTreeMap<Id, f64> = BTreeMap::new();
        let mut choice = Choice::new();
        for class in &self.order {
            let sets: Vec<Option<BTreeSet<Id>>> = self.terms[class]
                .iter()
                .map(|term| {
                    term.operands().iter().try_fold(BTreeSet::new(), |mut set, x| {
                        let x = graph.find(*x);
                        set.extend(below.get(&x)?.iter().copied());
                        set.insert(x);
                        Some(set)
                    })
                })
                .collect();
            let cost = |(set, own): (&Option<BTreeSet<Id>>, &f64)| {
                set.as_ref().map_or(f64::INFINITY, |set| own + set.iter().map(|c| paid[c]).sum::<f64>())
            };
            let costs: Vec<f64> = sets.iter().zip(&self.costs[class]).map(cost).collect();
            if let Some(best) = least(&costs)
                && let Some(set) = sets.into_iter().nth(best).flatten()
            {
                below.insert(*class, set);
                paid.insert(*class, self.costs[class][best]);
                choice.insert(*class, self.terms[class][best].clone());
            }
        }
        choice
    }

    /// Cost of what the roots need, each class once.
    pub(super) fn cost(&self, graph: &Graph, choice: &Choice, roots: &[Id]) -> f64 {
        let own = |class: &Id| {
            let at = choice.get(class).and_then(|term| self.terms[class].iter().position(|t| t == term));
            at.map_or(f64::INFINITY, |at| self.costs[class][at])
        };
        needed(graph, choice, roots).iter().map(own).sum()
    }

    /// Classes in order.
    pub(super) fn order(&self) -> &[Id] {
        &self.order
    }
}

/// The classes that the roots need.
pub(super) fn needed(graph: &Graph, choice: &Choice, roots: &[Id]) -> BTreeSet<Id> {
    let mut seen = BTreeSet::new();
    let mut stack = roots.to_vec();
    while let Some(class) = stack.pop() {
        if seen.insert(class)
            && let Some(term) = choice.get(&class)
        {
            stack.extend(term.operands().iter().map(|&x| graph.find(x)));
        }
    }
    seen
}

/// Position of the least finite cost; the first of equal ones.
fn least(costs: &[f64]) -> Option<usize> {
    let finite = (0..costs.len()).filter(|&i| costs[i].is_finite());
    finite.min_by(|&a, &b| costs[a].total_cmp(&costs[b]))
}

fn price(graph: &Graph, class: Id, term: &Term) -> f64 {
    let tensor = |class: Id| match &graph[class].data {
        Fact::Tensor(tensor) => tensor,
        leaf => unreachable!("only classes of tensors are priced, not {leaf:?}"),
    };
    let elements = tensor(class).elements() as f64;
    match term {
        Term::Map([_, x]) => elements * (LOOKUP + width_bits(tensor(*x))),
        Term::AddClear(_) | Term::MulClear(_) | Term::Neg(_) => elements * LINEAR,
        Term::Op(..) => LINEAR,
        Term::Function(_) | Term::List(_) | Term::Scale(_) => 0.0,
    }
}

/// log2 of the widest channel.
fn width_bits(x: &Tensor) -> f64 {
    let widest = (0..x.channels()).map(|c| x.range(c).map(|i| i.bits())).collect::<Option<Vec<_>>>();
    widest.and_then(|bits| bits.into_iter().reduce(f64::max)).unwrap_or(UNKNOWN_BITS)
}
