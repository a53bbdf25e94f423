//! What the client can do after decryption is not done under encryption.

use std::sync::Arc;

use fhe_ir::ranges::channels_of_reshape;
use fhe_ir::rebuild::sweep;
use fhe_ir::{Const, Data, Func, Graph, Id, Op, Post, Value};

use crate::pass::PassCx;
use crate::peephole::{vector, zip};

/// Moves summands and sigmoids at the outputs to the client.
pub(super) fn simplify(mut graph: Graph, cx: &mut PassCx<'_>) -> Graph {
    for index in 0..graph.outputs.len() {
        loop {
            let readers = live_readers(&graph);
            let Some(next) = step(&mut graph, cx, index, &readers) else { break };
            graph.outputs[index].value = next;
        }
    }
    sweep(graph)
}

/// How many values that some output needs read each value.
fn live_readers(graph: &Graph) -> Vec<usize> {
    let mut live = vec![false; graph.values.len()];
    let mut readers = vec![0; graph.values.len()];
    for output in &graph.outputs {
        live[output.value.index()] = true;
    }
    for (id, value) in graph.iter().rev().filter(|(_, v)| !matches!(v.op, Op::Input { .. })) {
        if live[id.index()] {
            for operand in value.op.operands() {
                live[operand.index()] = true;
                readers[operand.index()] += 1;
            }
        }
    }
    readers
}

/// One step of output `index`: the value it reads instead.
fn step(graph: &mut Graph, cx: &mut PassCx<'_>, index: usize, readers: &[usize]) -> Option<Id<Value>> {
    let at = graph.outputs[index].value;
    let op = graph.value(at).op.clone();
    match op {
        // The client adds in clear.
        Op::AddClear { x, c } => {
            if readers[at.index()] > 0 {
                let place = graph.place(at);
                cx.remark(format!("the bias {place} stays with the server: it is read by more than outputs"));
                return None;
            }
            if !cx.rewrite("summands at outputs") {
                return None;
            }
            let bias = entries(graph, c);
            give(graph, index, c, &bias);
            Some(x)
        }
        // sigmoid is the last thing that happens to a value that nobody else reads
        Op::Map { x, chain, .. } if matches!(chain[..], [Func::Sigmoid]) => {
            if readers[at.index()] > 0 || graph.outputs[index].bias.is_some() || !cx.rewrite("sigmoids at outputs") {
                return None;
            }
            graph.outputs[index].post.insert(0, Post::Sigmoid);
            Some(x)
        }
        // A quantizer of the model at an output is the client's, with what stands around it.
        Op::Map { x, chain, .. } if readers[at.index()] == 0 => {
            let ([factor, summand], posts) = client_chain(graph, &chain)?;
            let plain = factor.is_none() || graph.outputs.iter().filter(|o| o.value == at).count() == 1;
            if graph.outputs[index].bias.is_some() || !plain || !cx.rewrite("quantizers at outputs") {
                return None;
            }
            graph.outputs[index].post.splice(0..0, posts);
            if let Some(c) = summand {
                let bias = entries(graph, c);
                give(graph, index, c, &bias);
            }
            let Some(c) = factor else { return Some(x) };
            graph.values[at.index()].op = Op::MulClear { x, c };
            Some(at)
        }
        // reshape(x + c) == reshape(x) + c'
        Op::Reshape { x } => {
            let Op::AddClear { x: from, c } = graph.value(x).op else { return None };
            let alone = readers[at.index()] == 0 && readers[x.index()] == 1 && !graph.is_output(x);
            let shape = graph.value(at).shape.clone();
            let operand = graph.value(x);
            let sources: Vec<_> =
                (0..shape.get(1).copied().unwrap_or(1)).map(|to| channels_of_reshape(operand, &shape, to)).collect();
            let shared = graph.constant(c).data.len() == 1;
            let readers_of_output = graph.outputs.iter().filter(|o| o.value == at).count();
            if !alone
                || readers_of_output != 1
                || !(shared || sources.iter().all(|s| s.start() == s.end()))
                || !cx.rewrite("summands at outputs")
            {
                return None;
            }
            let summand = entries(graph, c);
            let bias: Vec<f64> = sources.iter().map(|s| summand[if shared { 0 } else { *s.start() }]).collect();
            give(graph, index, c, &bias);
            graph.values[at.index()].op = Op::Reshape { x: from };
            Some(at)
        }
        _ => None,
    }
}

/// The factor and the summand that a chain begins with.
type Front = [Option<Id<Const>>; 2];

/// The chain in three parts, when it holds a quantizer and the client can apply all of it: a factor, a summand, the rest.
fn client_chain(graph: &Graph, chain: &[Func]) -> Option<(Front, Vec<Post>)> {
    let mut rest = chain;
    let mut front = [None, None];
    if let [Func::Mul(c), tail @ ..] = rest {
        (front[0], rest) = (Some(*c), tail);
    }
    if let [Func::Add(c), tail @ ..] = rest {
        (front[1], rest) = (Some(*c), tail);
    }
    let one = |c: Id<Const>| match graph.reals(c).as_slice() {
        Some([c]) => Some(*c),
        _ => None,
    };
    let post = |link: &Func| match link {
        Func::Relu => Some(Post::Clip { lo: 0.0, hi: f32::INFINITY }),
        Func::Clip(lo, hi) => Some(Post::Clip { lo: *lo, hi: *hi }),
        Func::Quant { scale, to } => Some(Post::Quant { scale: *scale, to: *to }),
        Func::Sigmoid => Some(Post::Sigmoid),
        Func::Mul(c) => Some(Post::Affine { factor: one(*c)?, summand: 0.0 }),
        Func::Add(c) => Some(Post::Affine { factor: 1.0, summand: one(*c)? }),
        _ => None,
    };
    let posts: Vec<Post> = rest.iter().map(post).collect::<Option<_>>()?;
    let quantizes = posts.iter().any(|p| matches!(p, Post::Quant { .. }));
    quantizes.then_some((front, posts))
}

fn entries(graph: &Graph, c: Id<Const>) -> Vec<f64> {
    graph.reals(c).iter().map(|&e| f64::from(e)).collect()
}

/// Adds `bias`, made from the constant `c`, to the bias of output `index`.
fn give(graph: &mut Graph, index: usize, c: Id<Const>, bias: &[f64]) {
    let sum = match graph.outputs[index].bias {
        Some(other) => zip(bias, &entries(graph, other), |a, b| a + b),
        None => bias.to_vec(),
    };
    let data = Data::F32(Arc::new(vector(&sum)));
    let by_values = graph.values.iter().flat_map(|v| v.op.constants());
    let readers = by_values.chain(graph.outputs.iter().filter_map(|o| o.bias)).filter(|&other| other == c).count();
    let outputs = graph.outputs.iter().filter(|o| graph.value(o.value).op.constants().contains(&c)).count();
    let same = graph.constant(c).data == data;
    graph.outputs[index].bias = Some(if same {
        c
    } else if readers == 1 && outputs <= 1 {
        graph.consts[c.index()].data = data;
        c
    } else {
        let name = graph.constant(c).name.clone();
        graph.push_const(&name, data)
    });
}
