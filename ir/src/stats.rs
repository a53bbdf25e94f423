//! Statistics of a circuit: what each ONNX node and the whole cost, with units in the names.

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Value};
use crate::id::Id;
use crate::keys::CircuitKeys;
use crate::op::Op;
use crate::params::SecurityCurve;
use crate::{Read, count};

/// Numbers of one ONNX node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStats {
    /// Name of the node.
    pub node: String,
    /// Operator.
    pub op: String,
    /// Shape of its result.
    pub shape: Vec<usize>,
    /// Bits of its widest accumulator that occur: the domain that a table or an output reads.
    pub accumulator_bits: Option<f64>,
    /// Bits of the same accumulator in the proven worst case.
    pub worst_case_bits: Option<f64>,
    /// log2 of the number of boxes of its tables.
    pub table_bits: Option<f64>,
    /// Distinct tables (rows).
    pub tables: u64,
    /// Bootstraps.
    pub bootstraps: u64,
    /// Keyswitches.
    pub keyswitches: u64,
    /// Products of a ciphertext by a clear weight.
    pub clear_products: u64,
    /// Additions of two ciphertexts.
    pub encrypted_additions: u64,
    /// Additions of a clear number to a ciphertext.
    pub clear_additions: u64,
    /// log2 of the predicted standard deviation of the noise in front of its tables (after the keyswitch), worst channel.
    pub log2_sd: Option<f64>,
    /// log2 of the noise that its tables still read right.
    pub log2_bound: Option<f64>,
    /// log2 of the probability that one of its tables is read wrong.
    pub log2_p_fail: Option<f64>,
}

/// Numbers of a circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Name of the model.
    pub model: String,
    /// Per ONNX node, in order.
    pub nodes: Vec<NodeStats>,
    /// Sums over the nodes, tables that nodes share counted once; widths and noise are the worst of them.
    pub total: NodeStats,
    /// Bootstraps that follow one another.
    pub depth: u64,
    /// Largest number of bootstraps at one depth.
    pub widest_level: u64,
    /// Parameter sets, as text.
    pub parameters: Vec<String>,
    /// Bootstraps under each of them.
    pub bootstraps_per_set: Vec<u64>,
    /// Keyswitches to a key of each of them.
    pub keyswitches_per_set: Vec<u64>,
    /// Security of the parameters in bits: the least of all sets.
    pub security_bits: u32,
    /// Name of the curve of that level; empty without parameters.
    pub security_curve: String,
    /// The estimator that the level is meant by, with its version; empty without parameters.
    pub security_estimator: String,
    /// log2 of the probability that anything is read wrong in one inference.
    pub log2_p_fail_inference: f64,
    /// Bytes of the server's bootstrap keys, those that several sets share counted once.
    pub bootstrap_key_bytes: u64,
    /// Bytes of the server's keyswitch keys, each counted once.
    pub keyswitch_key_bytes: u64,
    /// Bytes of one ciphertext under the largest key.
    pub ciphertext_bytes: u64,
    /// Numbers that a client encrypts for one row.
    pub inputs: u64,
    /// Numbers that a client decrypts for one row.
    pub outputs: u64,
    /// Bytes of the ciphertexts alive at the same time for one row, at most.
    pub peak_ciphertext_bytes: u64,
}

impl Statistics {
    /// Counts a graph of phase `circuit`.
    pub fn of(graph: &Graph) -> Self {
        let mut nodes: Vec<NodeStats> = vec![];
        for (id, value) in graph.iter() {
            let (node, op) = node_of(graph, value);
            let at = nodes.iter().position(|n| n.node == node && n.op == op).unwrap_or_else(|| {
                nodes.push(NodeStats { node, op, ..NodeStats::default() });
                nodes.len() - 1
            });
            add(graph, id, value, &mut nodes[at]);
        }
        for output in &graph.outputs {
            let value = graph.value(output.value);
            let (node, op) = node_of(graph, value);
            let node = nodes.iter_mut().find(|n| n.node == node && n.op == op);
            if let (Some(node), Some(domain)) = (node, &output.domain) {
                raise(&mut node.accumulator_bits, Some((domain.width as f64).log2()));
                raise(&mut node.worst_case_bits, value.interval().map(|i| i.bits()));
            }
        }
        let (depth, widest_level) = levels(graph);
        let keys = CircuitKeys::of(graph);
        let (bootstraps_per_set, keyswitches_per_set) = per_set(graph);
        let curve = graph.params.iter().map(|p| p.curve).min_by_key(|c| c.bits());
        Self {
            model: graph.name.clone(),
            total: total(graph, &nodes),
            nodes,
            depth,
            widest_level,
            parameters: graph.params.iter().map(ToString::to_string).collect(),
            security_bits: curve.map_or(0, SecurityCurve::bits),
            security_curve: curve.map_or_else(String::new, |c| c.name().to_owned()),
            security_estimator: curve.map_or_else(String::new, |c| c.estimator().to_owned()),
            log2_p_fail_inference: log2_p_fail(graph),
            bootstraps_per_set,
            keyswitches_per_set,
            bootstrap_key_bytes: keys.bootstrap_bytes(),
            keyswitch_key_bytes: keys.keyswitch_bytes(),
            ciphertext_bytes: keys.secret.iter().map(|key| key.ciphertext_bytes()).max().unwrap_or(0),
            inputs: graph.inputs().iter().map(|i| graph.value(*i).elements() as u64).sum(),
            outputs: graph.outputs.iter().map(|o| graph.value(o.value).elements() as u64).sum(),
            peak_ciphertext_bytes: peak_ciphertext_bytes(graph),
        }
    }
}

/// The node that a value counts for: that of the model, or the value itself where there is none.
fn node_of(graph: &Graph, value: &Value) -> (String, String) {
    match value.from.first() {
        Some(o) => (graph.origins[o.index()].node.clone(), graph.origins[o.index()].op.clone()),
        None => (value.name.clone(), value.op.keyword().to_owned()),
    }
}

fn raise(slot: &mut Option<f64>, value: Option<f64>) {
    if let Some(value) = value {
        *slot = Some(slot.map_or(value, |s| s.max(value)));
    }
}

fn add(graph: &Graph, id: Id<Value>, value: &Value, node: &mut NodeStats) {
    let elements = value.elements() as u64;
    if !matches!(value.op, Op::Keyswitch { .. }) {
        node.shape = value.shape.clone();
    }
    node.clear_products += count::clear_products(graph, value);
    node.encrypted_additions += count::encrypted_additions(graph, value);
    node.clear_additions += count::clear_additions(value);
    match &value.op {
        Op::Keyswitch { x, .. } => {
            node.keyswitches += elements;
            let worst = value.cipher.as_ref().and_then(|c| c.log2_sd.iter().copied().reduce(f32::max));
            for user in graph.values[id.index()..].iter() {
                if let Op::Pbs { x: read_here, domain, read, .. } = &user.op
                    && *read_here == id
                    && *read != Read::Bit
                {
                    // What a bit is read of has been moved to the top of the torus: it is no accumulator, and bears
                    // noise that would fill the boxes of any table.
                    raise(&mut node.log2_sd, worst.map(f64::from));
                    raise(&mut node.worst_case_bits, graph.value(*x).interval().map(|i| i.bits()));
                    raise(&mut node.accumulator_bits, Some((domain.width as f64).log2()));
                }
            }
        }
        Op::Pbs { table, domain, read, log2_bound, log2_fail, x: _ } => {
            let read: Read = *read;
            node.bootstraps += elements;
            node.tables += graph.table(*table).entries.nrows() as u64;
            let boxes = if read == Read::Full { graph.table(*table).boxes() as u64 } else { read.boxes(domain.width) };
            raise(&mut node.table_bits, Some((boxes as f64).log2()));
            let bound = log2_bound.filter(|_| read != Read::Bit).map(f64::from);
            node.log2_bound = [node.log2_bound, bound].into_iter().flatten().reduce(f64::min);
            raise(&mut node.log2_p_fail, log2_fail.map(f64::from));
        }
        _ => {}
    }
}

fn total(graph: &Graph, nodes: &[NodeStats]) -> NodeStats {
    let mut total = NodeStats { node: "total".into(), ..NodeStats::default() };
    // Nodes may share a table.
    total.tables = graph.tables.iter().map(|t| t.entries.nrows() as u64).sum();
    for n in nodes {
        total.bootstraps += n.bootstraps;
        total.keyswitches += n.keyswitches;
        total.clear_products += n.clear_products;
        total.encrypted_additions += n.encrypted_additions;
        total.clear_additions += n.clear_additions;
        raise(&mut total.accumulator_bits, n.accumulator_bits);
        raise(&mut total.worst_case_bits, n.worst_case_bits);
        raise(&mut total.table_bits, n.table_bits);
        raise(&mut total.log2_sd, n.log2_sd);
        raise(&mut total.log2_p_fail, n.log2_p_fail);
        total.log2_bound = match (total.log2_bound, n.log2_bound) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    total
}

/// Depth in bootstraps and the largest number of bootstraps at one depth.
fn levels(graph: &Graph) -> (u64, u64) {
    let mut depth = vec![0u64; graph.values.len()];
    let mut width = std::collections::BTreeMap::<u64, u64>::new();
    for (id, value) in graph.iter() {
        let below = value.op.operands().iter().map(|o| depth[o.index()]).max().unwrap_or(0);
        let is_table = matches!(value.op, Op::Pbs { .. });
        depth[id.index()] = below + u64::from(is_table);
        if is_table {
            *width.entry(below + 1).or_default() += value.elements() as u64;
        }
    }
    (depth.iter().copied().max().unwrap_or(0), width.values().copied().max().unwrap_or(0))
}

fn log2_p_fail(graph: &Graph) -> f64 {
    let tables = graph.values.iter().filter_map(|v| match v.op {
        Op::Pbs { log2_fail, .. } => Some((log2_fail?, v.elements())),
        _ => None,
    });
    let outputs = graph.outputs.iter().filter_map(|o| Some((o.log2_fail?, graph.value(o.value).elements())));
    let log_right: f64 =
        tables.chain(outputs).map(|(log2, count)| count as f64 * (-f64::from(log2).exp2().min(1.0)).ln_1p()).sum();
    (-log_right.exp_m1()).log2().max(-1000.0)
}

/// Bootstraps and keyswitches of each parameter set.
fn per_set(graph: &Graph) -> (Vec<u64>, Vec<u64>) {
    let mut counts = (vec![0; graph.params.len()], vec![0; graph.params.len()]);
    for value in &graph.values {
        let count = match value.op {
            Op::Pbs { .. } => &mut counts.0,
            Op::Keyswitch { .. } => &mut counts.1,
            _ => continue,
        };
        if let Some(cipher) = &value.cipher {
            count[cipher.params.index()] += value.elements() as u64;
        }
    }
    counts
}

/// Bytes of the ciphertexts of one row that are alive at once, at most, when values are freed after their last use; each
/// counts under its own key.
pub fn peak_ciphertext_bytes(graph: &Graph) -> u64 {
    let bytes = |value: &Value| {
        let of_one = value.cipher.as_ref().map_or(0, |c| graph.secret_key(c).ciphertext_bytes());
        u128::from(of_one) * value.elements() as u128
    };
    // A value that nobody reads is freed at once.
    let mut last: Vec<_> = (0..graph.values.len()).collect();
    for (id, value) in graph.iter() {
        value.op.operands().iter().for_each(|o| last[o.index()] = id.index());
    }
    graph.outputs.iter().for_each(|o| last[o.value.index()] = usize::MAX);
    let (mut alive, mut peak) = (0u128, 0u128);
    for (id, value) in graph.iter() {
        alive += bytes(value);
        peak = peak.max(alive);
        let mut operands = value.op.operands();
        operands.push(id);
        operands.sort_unstable();
        operands.dedup();
        for operand in operands {
            if last[operand.index()] == id.index() {
                alive -= bytes(graph.value(operand));
            }
        }
    }
    u64::try_from(peak).unwrap_or(u64::MAX)
}
