//! A tabled graph as the search for several key sets sees it.

use std::collections::BTreeMap;

use fhe_ir::{Graph, Id, Planned, PlannedTable, Value};

use crate::growth::{BySource, growth_by_table};
use crate::options::Options;
use crate::params::{
    Assignment, BigKeyDims, Factors, MeanNoise, OutputGroup, Problem, Read, SearchSpace, TableGroup, TablePlan,
};
use crate::regions::{Reading, Regions};

/// Part of the cost that one more class of tables has to save.
const MIN_GAIN: f64 = 0.02;

/// Linear regions and tables by number.
pub(crate) struct Numbered {
    /// Region of each value, from 0 without gaps.
    pub(crate) region: Vec<usize>,
    /// Number of regions.
    pub(crate) regions: usize,
    /// Number of each table, in the order of the graph.
    table: Vec<Option<usize>>,
    /// Noise factors of every value and channel.
    factors: Vec<Vec<Factors>>,
}

impl Numbered {
    /// Numbers the regions and tables of a graph of phase `tabled`.
    pub(crate) fn of(graph: &Graph, regions: &Regions<'_>) -> Self {
        let mut number = vec![None; graph.values.len()];
        let mut count = 0;
        let region = (regions.region.iter())
            .map(|root| {
                *number[*root].get_or_insert_with(|| {
                    count += 1;
                    count - 1
                })
            })
            .collect();
        let mut table = vec![None; graph.values.len()];
        for (i, id) in regions.readings.iter().filter_map(|r| r.table).enumerate() {
            table[id.index()] = Some(i);
        }
        let by_table = growth_by_table(graph, &regions.region, &regions.norm2);
        let factors = |channel: BySource| Factors {
            tables: channel.tables.iter().filter_map(|(id, factor)| Some((table[id.index()]?, *factor))).collect(),
            input: channel.input,
        };
        let factors = by_table.into_iter().map(|channels| channels.into_iter().map(factors).collect()).collect();
        Self { region, regions: count, table, factors }
    }

    /// Noise factors of a value, per channel, by table.
    pub(crate) fn factors(&self, id: Id<Value>) -> &[Factors] {
        &self.factors[id.index()]
    }

    /// Writes an assignment into a graph.
    pub(crate) fn plan_all(&self, graph: &mut Graph, assignment: &Assignment) {
        graph.params = assignment.sets.clone();
        let set_of = |home| assignment.sets.iter().position(|set| BigKeyDims::of(set) == home);
        for index in 0..graph.values.len() {
            let id = Id::new(index);
            let home = set_of(self.home(assignment, id)).expect("regions live under the big key of a set");
            let table = self.plan(assignment, id).map(|plan| PlannedTable {
                set: Id::new(plan.set),
                ks: plan.keyswitch,
                conversion: plan.conversion,
            });
            graph.values[index].facts.planned = Some(Planned { home: Id::new(home), table });
        }
    }

    /// The assignment that a graph plans, where it plans one for every value and its regions have one home each.
    pub(crate) fn planned(&self, graph: &Graph) -> Option<Assignment> {
        let (mut homes, mut tables) = (vec![None; self.regions], vec![]);
        for (id, value) in graph.iter() {
            let planned = value.facts.planned?;
            let home = BigKeyDims::of(graph.param(planned.home));
            if *homes[self.region[id.index()]].get_or_insert(home) != home {
                return None;
            }
            // In the order of their numbers.
            if self.table[id.index()].is_some() {
                let PlannedTable { set, ks, conversion } = planned.table?;
                tables.push(TablePlan { set: set.index(), keyswitch: ks, conversion });
            }
        }
        let one_curve = graph.params.windows(2).all(|sets| sets[0].curve == sets[1].curve);
        let homes = homes.into_iter().collect::<Option<_>>().filter(|_| one_curve)?;
        Some(Assignment { sets: graph.params.clone(), tables, homes, cost_ns: 0.0, key_bytes: 0 })
    }

    /// How a table is run.
    pub(crate) fn plan<'a>(&self, assignment: &'a Assignment, table: Id<Value>) -> Option<&'a TablePlan> {
        assignment.tables.get(self.table[table.index()]?)
    }

    /// Big key that a value lives under.
    pub(crate) fn home(&self, assignment: &Assignment, id: Id<Value>) -> BigKeyDims {
        assignment.homes[self.region[id.index()]]
    }

    /// What the graph asks of its key sets.
    pub(crate) fn problem(
        &self,
        graph: &Graph,
        regions: &Regions<'_>,
        options: &Options,
        mean: Option<MeanNoise>,
    ) -> Problem {
        let growths = mean.as_ref().map_or(vec![], |mean| mean.growths.clone());
        let read = |(index, reading): (usize, &Reading<'_>)| {
            let constraint = regions.constraint(reading);
            let channels = &self.factors[reading.operand.index()];
            // As the constraint has it: noise that only adds up counts by its mean over the channels.
            let growth = growths.get(index).copied().unwrap_or(1.0);
            Read::new(constraint, if constraint.full { vec![mean_of(channels, growth)] } else { channels.clone() })
        };
        let mut problem = Problem {
            tables: vec![],
            outputs: vec![],
            linear_products: vec![0; self.regions],
            target: options.error,
            curve: options.curve,
            space: SearchSpace::default(),
            max_key_bytes: options.max_key_bytes,
            min_gain: MIN_GAIN,
            mean,
        };
        for (index, reading) in regions.readings.iter().enumerate() {
            let from = self.region[reading.operand.index()];
            let ks_count = graph.value(reading.operand).elements() as u64;
            match reading.table {
                Some(table) => problem.tables.push(TableGroup {
                    from,
                    to: self.region[table.index()],
                    operand: reading.operand.index(),
                    pbs_count: graph.value(table).elements() as u64,
                    ks_count,
                    read: read((index, reading)),
                }),
                None => problem.outputs.push(OutputGroup { region: from, read: read((index, reading)) }),
            }
        }
        let cost = options.cost_model();
        for (id, value) in graph.iter() {
            let products = cost.linear_products(graph, value).round() as u64;
            problem.linear_products[self.region[id.index()]] += products;
        }
        problem
    }
}

/// The mean of factors over channels; those of tables are multiplied by `growth`.
fn mean_of(channels: &[Factors], growth: f64) -> Factors {
    let share = 1.0 / channels.len().max(1) as f64;
    let mut tables = BTreeMap::<usize, f64>::new();
    for (table, factor) in channels.iter().flat_map(|f| &f.tables) {
        *tables.entry(*table).or_default() += factor * growth * share;
    }
    Factors { tables: tables.into_iter().collect(), input: channels.iter().map(|f| f.input).sum::<f64>() * share }
}
