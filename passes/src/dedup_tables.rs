//! `dedup-tables`: equal rows are one row, equal tables are one table.

use std::collections::HashMap;
use std::sync::Arc;

use fhe_ir::{Graph, Id, Op, Phase, Rebuild, Table, Value};
use ndarray::{Array2, s};

use crate::pass::{Pass, PassCx, PassError};

/// See the module.
pub struct DedupTables;

impl Pass for DedupTables {
    fn name(&self) -> &'static str {
        "dedup-tables"
    }

    fn summary(&self) -> &'static str {
        "shares equal rows and equal tables"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Tabled, Phase::Tabled)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let phase = graph.phase;
        let mut new = Rebuild::new(&graph);
        for table in &mut new.new.tables {
            let first = table.entries.row(0);
            let equal = table.entries.nrows() > 1 && table.entries.outer_iter().all(|row| row == first);
            // A table of one row serves every channel.
            if equal && cx.rewrite("equal rows") {
                table.entries = Arc::new(table.entries.slice(s![..1, ..]).to_owned());
            }
        }
        let mut first_of: HashMap<Arc<Array2<i64>>, Id<Table>> = HashMap::new();
        let mut same_as = vec![];
        for (index, table) in new.new.tables.iter().enumerate() {
            let id = Id::new(index);
            let first = *first_of.entry(table.entries.clone()).or_insert(id);
            same_as.push(if first != id && cx.rewrite("equal tables") { first } else { id });
        }
        for (id, value) in graph.iter() {
            let mut op = new.remap(&value.op);
            if let Op::Lut { table, .. } = &mut op {
                *table = same_as[table.index()];
            }
            new.replace(id, Value { op, ..value.clone() });
        }
        Ok(new.finish(phase))
    }
}
