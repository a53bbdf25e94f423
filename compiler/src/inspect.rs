//! `fhe-compile inspect`: what is in a compiled circuit.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::ValueEnum;
use fhe_ir::artifact::{Artifact, MAX_BYTES, hex};
use fhe_ir::{Graph, Op, text};
use petgraph::dot::{Config, Dot};
use petgraph::graph::DiGraph;

use crate::failure::Failure;
use crate::why;

/// What to show of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Digest, parameters, inputs and outputs.
    Text,
    /// The report, as JSON.
    Json,
    /// The listing of the circuit.
    Ir,
    /// A graph for Graphviz.
    Dot,
}

/// Prints a circuit file on stdout, or with `why` the explanation of one of its nodes.
pub fn run(path: &Path, format: Format, why: Option<&str>) -> Result<(), Failure> {
    if why.is_some() && !matches!(format, Format::Text | Format::Json) {
        return Err(Failure::usage("--why", "an explanation is text or json"));
    }
    let mut bytes = vec![];
    let file = File::open(path).map_err(|e| Failure::unreadable(path, e))?;
    // One byte more than is allowed shows that a file is too large.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| Failure::unreadable(path, e))?;
    let artifact = Artifact::from_bytes(&bytes)?;
    if let Some(asked) = why {
        let why = why::explain(&artifact, asked)?;
        match format {
            Format::Json => {
                let json =
                    serde_json::to_value(&why).expect("explanations have string keys and finite numbers or null");
                println!("{json:#}");
            }
            _ => print!("{}", why::text(&why)),
        }
        return Ok(());
    }
    match format {
        Format::Text => print!("{}", overview(&artifact)),
        Format::Json => println!("{:#}", artifact.report),
        Format::Ir => print!("{}", text::to_text(&artifact.circuit)),
        Format::Dot => print!("{}", dot(&artifact.circuit)),
    }
    Ok(())
}

fn overview(artifact: &Artifact) -> String {
    let graph = &artifact.circuit;
    let mut lines = vec![format!("model     {}", graph.name), format!("digest    {}", hex(&artifact.digest()))];
    lines.extend(graph.params.iter().map(|p| format!("params    {p}")));
    lines.extend(
        graph.inputs().iter().map(|i| format!("input     {:?} {:?}", graph.value(*i).name, graph.value(*i).shape)),
    );
    for output in &graph.outputs {
        let post: Vec<_> = output.post.iter().map(|p| p.keyword()).collect();
        let shape = &graph.value(output.value).shape;
        lines.push(format!(
            "output    {:?} {shape:?} then {}",
            output.name,
            if post.is_empty() { "nothing".into() } else { post.join(", ") }
        ));
    }
    let lookups: usize = graph.values.iter().filter(|v| matches!(v.op, Op::Pbs { .. })).map(|v| v.elements()).sum();
    lines.push(format!("lookups   {lookups}"));
    lines.join("\n") + "\n"
}

/// The values and their operands as a Graphviz graph.
fn dot(graph: &Graph) -> String {
    let mut g = DiGraph::<String, ()>::new();
    let nodes: Vec<_> =
        graph.values.iter().map(|v| g.add_node(format!("{}\n{} {:?}", v.name, v.op.keyword(), v.shape))).collect();
    for (id, value) in graph.iter() {
        for operand in value.op.operands() {
            g.add_edge(nodes[operand.index()], nodes[id.index()], ());
        }
    }
    let no_attributes = |_: &DiGraph<String, ()>, _: petgraph::graph::EdgeReference<'_, ()>| String::new();
    let label = |_: &DiGraph<String, ()>, (_, name): (petgraph::graph::NodeIndex, &String)| format!("label={name:?}");
    let config = [Config::EdgeNoLabel, Config::NodeNoLabel];
    format!("{:?}", Dot::with_attr_getters(&g, &config, &no_attributes, &label))
}
