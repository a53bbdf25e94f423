//! What the client does in clear: quantize its inputs, read its outputs.

use ndarray::{ArrayD, Axis};

use crate::eval::kernels::for_each_channel;
use crate::func::{self, quantize};
use crate::graph::{Elem, Graph, Value};
use crate::op::Op;
use crate::post::{Post, first_greatest};

/// Data that a network cannot take.
#[derive(Clone, Debug, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum ClientError {
    /// Rows of another shape.
    #[error("input \"{input}\" has rows of shape {got:?}, the network takes {wanted:?}")]
    #[diagnostic(code("client::wrong-shape"), help("give an array of shape [rows, ...] with the network's row shape"))]
    WrongShape {
        /// Name of the input.
        input: String,
        /// Shape of a row in the data.
        got: Vec<usize>,
        /// Shape of a row in the network.
        wanted: Vec<usize>,
    },
    /// NaN or an infinity.
    #[error("input \"{input}\" has a {value} in row {row}")]
    #[diagnostic(code("client::not-finite"), help("remove the row or replace the value before encrypting"))]
    NotFinite {
        /// Name of the input.
        input: String,
        /// Row of the value.
        row: usize,
        /// The value.
        value: f32,
    },
    /// Inputs with different numbers of rows.
    #[error("input \"{input}\" has {got} rows, the first input has {wanted}")]
    #[diagnostic(code("client::unequal-rows"), help("give every input the same number of rows"))]
    UnequalRows {
        /// Name of the input.
        input: String,
        /// Its rows.
        got: usize,
        /// Rows of the first input.
        wanted: usize,
    },
    /// More or fewer arrays than inputs.
    #[error("the network has {inputs} inputs, {arrays} arrays were given")]
    #[diagnostic(code("client::no-input"), help("see the inputs with `fhe-compile inspect`"))]
    NoInput {
        /// Number of inputs.
        inputs: usize,
        /// Number of arrays, as far as they were looked at.
        arrays: usize,
    },
}

/// Rows of every input, each checked as by [`check_rows`] and all equally many.
pub fn check_inputs(graph: &Graph, inputs: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f32>>, ClientError> {
    let checked: Vec<_> = inputs.iter().enumerate().map(|(i, x)| check_rows(graph, i, x)).collect::<Result<_, _>>()?;
    let ids = graph.inputs();
    if checked.len() != ids.len() {
        return Err(ClientError::NoInput { inputs: ids.len(), arrays: checked.len() });
    }
    let wanted = checked.first().map_or(0, |x| x.shape()[0]);
    match checked.iter().zip(&ids).find(|(x, _)| x.shape()[0] != wanted) {
        Some((x, id)) => {
            Err(ClientError::UnequalRows { input: graph.value(*id).name.clone(), got: x.shape()[0], wanted })
        }
        None => Ok(checked),
    }
}

/// Rows of input `index`, checked for shape and finite numbers. Missing axes of extent 1 (`[rows, h, w]` for
/// `[rows, 1, h, w]`) and flattened rows (`[rows, elements]`) are put right.
pub fn check_rows(graph: &Graph, index: usize, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ClientError> {
    let inputs = graph.inputs();
    let id = *inputs.get(index).ok_or(ClientError::NoInput { inputs: inputs.len(), arrays: index + 1 })?;
    let value = graph.value(id);
    let input = value.name.clone();
    let mut shape = value.shape.clone();
    shape[0] = x.shape().first().copied().unwrap_or(0);
    let wrong = || ClientError::WrongShape {
        input: input.clone(),
        got: x.shape().get(1..).unwrap_or_default().to_vec(),
        wanted: value.shape[1..].to_vec(),
    };
    let squeezed = |s: &[usize]| s.iter().skip(1).copied().filter(|&d| d != 1).collect::<Vec<_>>();
    let flattened = x.ndim() == 2 && x.shape()[1] == value.elements();
    if x.ndim() < 2 || !(flattened || squeezed(x.shape()) == squeezed(&shape)) {
        return Err(wrong());
    }
    let x = x.as_standard_layout().into_owned().into_shape_with_order(shape).map_err(|_| wrong())?;
    for (row, elements) in x.axis_iter(Axis(0)).enumerate() {
        if let Some(&value) = elements.iter().find(|e| !e.is_finite()) {
            return Err(ClientError::NotFinite { input, row, value });
        }
    }
    Ok(x)
}

/// Applies the functions that an input leaves to the client, in place; `x` is `[rows, ...]`.
pub(crate) fn prepare(graph: &Graph, value: &Value, x: &mut ArrayD<f32>) {
    let Op::Input { pre } = &value.op else { return };
    if !pre.is_empty() {
        for_each_channel(x, |channel, e| {
            *e = func::chain(pre, f64::from(*e), |c| graph.constant(c).channel(channel)) as f32;
        });
    }
}

/// Quantizes rows of input `index`: the input's own functions, then `clamp(round(x/scale), lo, hi)` per channel.
///
/// # Panics
/// In real phases: an integer graph has integer inputs with scales.
pub fn quantize_rows(graph: &Graph, index: usize, x: &ArrayD<f32>) -> Result<ArrayD<i64>, ClientError> {
    let mut x = check_rows(graph, index, x)?;
    let value = graph.value(graph.inputs()[index]);
    prepare(graph, value, &mut x);
    let mut x = x.mapv(f64::from);
    for_each_channel(&mut x, |channel, e| {
        let to = value.channel_interval(channel).expect("verified: inputs of integer graphs are integers");
        let scale = value.channel_scale(channel).expect("verified: inputs of integer graphs have a scale");
        *e = quantize(*e / f64::from(scale), to) as f64;
    });
    Ok(x.mapv(|e| e as i64))
}

/// Turns the decrypted integers of output `index` into real numbers: `scale·y + bias` per channel.
pub fn dequantize(graph: &Graph, index: usize, y: &ArrayD<i64>) -> ArrayD<f32> {
    let output = &graph.outputs[index];
    let value = graph.value(output.value);
    debug_assert_ne!(value.elem, Elem::F32, "integer graphs only");
    let mut y = y.mapv(|e| e as f64);
    for_each_channel(&mut y, |channel, e| {
        let bias = output.bias.map_or(0.0, |b| graph.constant(b).channel(channel));
        *e = *e * f64::from(value.channel_scale(channel).unwrap_or(1.0)) + bias;
    });
    y.mapv(|e| e as f32)
}

/// Applies the client functions of an output, in order.
pub fn post_process(post: &[Post], logits: &ArrayD<f32>) -> ArrayD<f32> {
    post.iter().fold(logits.clone(), |y, post| post.apply(y))
}

/// What decides the class of a row: the logits behind the bounds and quantizers that come before any softmax.
pub fn scores(post: &[Post], logits: &ArrayD<f32>) -> ArrayD<f32> {
    let on_elements = |p: &&Post| matches!(p, Post::Clip { .. } | Post::Quant { .. } | Post::Affine { .. });
    post.iter().take_while(on_elements).fold(logits.clone(), |y, post| post.apply(y))
}

/// Class of each row of `[rows, channels]` logits: the first greatest channel, or `logit > 0` when there is one.
pub fn classes(logits: &ArrayD<f32>) -> Vec<usize> {
    logits
        .axis_iter(Axis(0))
        .map(|row| if row.len() == 1 { usize::from(row.iter().all(|&e| e > 0.0)) } else { first_greatest(row.iter()) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Sidecar, parse};

    fn graph() -> Graph {
        let text = "eir 2 float\ngraph g\n%a: f32[1,1,2,3] = input\n%b: f32[1,1,2,3] = input\n\
                    %y: f32[1,1,2,3] = add %a, %b\noutput %y \"y\"\n";
        parse(text, &Sidecar::new()).expect("a graph")
    }

    #[test]
    fn missing_unit_axes_and_flattened_rows_are_put_right() {
        for shape in [&[4, 1, 2, 3][..], &[4, 2, 3], &[4, 6], &[4, 2, 1, 3]] {
            let x = check_rows(&graph(), 0, &ArrayD::zeros(shape)).expect("as many elements");
            assert_eq!(x.shape(), [4, 1, 2, 3]);
        }
        for shape in [&[4, 3, 2][..], &[4, 5], &[6], &[4, 2, 3, 2]] {
            let error = check_rows(&graph(), 0, &ArrayD::zeros(shape)).expect_err("another row");
            assert!(matches!(error, ClientError::WrongShape { .. }), "{error}");
        }
    }

    #[test]
    fn inputs_come_with_equally_many_finite_rows() {
        let rows = |n: usize| ArrayD::<f32>::zeros(vec![n, 6]);
        let message = |inputs: &[ArrayD<f32>]| check_inputs(&graph(), inputs).expect_err("refused").to_string();
        assert_eq!(message(&[rows(2), rows(3)]), "input \"b\" has 3 rows, the first input has 2");
        assert_eq!(message(&[rows(2)]), "the network has 2 inputs, 1 arrays were given");
        assert_eq!(message(&[rows(2), rows(2), rows(2)]), "the network has 2 inputs, 3 arrays were given");
        assert_eq!(message(&[rows(2), rows(2) / 0.0]), "input \"b\" has a NaN in row 0");
        assert_eq!(check_inputs(&graph(), &[rows(2), rows(2)]).map(|x| x.len()), Ok(2));
    }
}
