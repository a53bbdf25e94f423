//! What the client does after decryption, and scikit-learn's classifiers, which end in it.

use fhe_ir::{Id, Op, Post, Value};
use ndarray::{Array1, ArrayD};

use super::super::attributes::Attributes;
use super::super::tensors::ints;
use super::site::with_post;
use super::terms::Term;
use super::{Converter, Known, Site, Stop, refuse};

/// A value, what the client makes of it, and the shape of that.
type Served = (Id<Value>, Vec<Post>, Vec<usize>);

impl Converter<'_> {
    /// The value and the functions so far of the first input.
    fn served(&self, site: &Site<'_>) -> Result<Served, Stop> {
        let (value, posts) = match site.inputs.first() {
            Some(Some(Known::Value(id))) => (*id, vec![]),
            Some(Some(Known::Client(id, posts))) if !posts.iter().any(|p| p.gives_indices()) => (*id, posts.clone()),
            _ => return Err("it does not read a value".into()),
        };
        let shape = posts.iter().try_fold(self.shape(value), |shape, post| post.shape(&shape))?;
        Ok((value, posts, shape))
    }

    /// A function that the client applies: it stays with the name until an output takes it.
    fn client(&self, site: &Site<'_>, post: Post) -> Result<Known, Stop> {
        let (value, posts, shape) = self.served(site)?;
        post.shape(&shape)?;
        Ok(Known::Client(value, with_post(&posts, post)?))
    }

    /// The axis of an attribute in the IR's count.
    fn client_axis(&self, site: &Site<'_>, axis: i64) -> Result<usize, Stop> {
        let (_, _, shape) = self.served(site)?;
        Ok(super::super::layout::axis(axis, shape.len() - self.lead)? + self.lead)
    }

    /// Softmax, LogSoftmax, Hardmax.
    pub(super) fn normalized(&mut self, site: &Site<'_>) -> Result<Known, Stop> {
        let (_, _, shape) = self.served(site)?;
        let old = self.opset() < 13;
        let axis = self.client_axis(site, site.proto.int("axis")?.unwrap_or(if old { 1 } else { -1 }))?;
        if old && shape[axis + 1..].iter().any(|&n| n != 1) {
            return refuse(
                format!("it runs over all axes from {axis} of {shape:?} together"),
                "export with operator set 13 or later, or flatten first",
            );
        }
        self.client(
            site,
            match site.proto.op_type.as_str() {
                "Softmax" => Post::Softmax { axis },
                "LogSoftmax" => Post::LogSoftmax { axis },
                _ => Post::Hardmax { axis },
            },
        )
    }

    pub(super) fn arg_max(&mut self, site: &Site<'_>) -> Result<Known, Stop> {
        let flag =
            |name: &str, default: i64| -> Result<bool, Stop> { Ok(site.proto.int(name)?.unwrap_or(default) != 0) };
        let axis = self.client_axis(site, site.proto.int("axis")?.unwrap_or(0))?;
        let (keep, last) = (flag("keepdims", 1)?, flag("select_last_index", 0)?);
        if site.proto.op_type == "ArgMax" {
            return self.client(site, Post::ArgMax { axis, keep, last });
        }
        // argmin(x) == argmax(−x)
        let x = self.value(site, 0)?;
        let x = self.step(site, Op::Neg { x }, &[])?;
        let post = Post::ArgMax { axis, keep, last };
        post.shape(&self.shape(x))?;
        Ok(Known::Client(x, vec![post]))
    }

    /// Values and indices.
    pub(super) fn top_k(&mut self, site: &Site<'_>) -> Result<Vec<Known>, Stop> {
        let k = match self.constant(site, 1)? {
            Some(data) => ints(data)?.first().copied().ok_or("its k is empty")?,
            None => site.proto.int("k")?.ok_or("it has no k")?,
        };
        let k = usize::try_from(k).map_err(|_| "its k is negative")?;
        let axis = self.client_axis(site, site.proto.int("axis")?.unwrap_or(-1))?;
        let largest = site.proto.int("largest")?.unwrap_or(1) != 0;
        let top = |indices| self.client(site, Post::TopK { axis, k, largest, indices });
        Ok(vec![top(false)?, top(true)?])
    }

    /// Labels by index: the index itself, where that is the label.
    pub(super) fn extract(&mut self, site: &Site<'_>) -> Result<Known, Stop> {
        match &site.inputs[..] {
            [Some(Known::Const(labels)), Some(known @ Known::Client(_, posts))]
                if posts.last().is_some_and(|p| p.gives_indices()) =>
            {
                counted(&ints(labels).unwrap_or_default())?;
                Ok(known.clone())
            }
            _ => refuse("it takes features by an index", "use Gather with constant indices"),
        }
    }

    /// `coefficients·x + intercepts`, with the target or class as channel.
    fn linear_model(&mut self, site: &Site<'_>) -> Result<(Id<Value>, usize), Stop> {
        let x = self.value(site, 0)?;
        let &[_, features] = &self.shape(x)[..] else { return Err("its operand is not [batch, features]".into()) };
        let coefficients = site.proto.floats("coefficients")?.ok_or("it has no coefficients")?;
        if coefficients.is_empty() || coefficients.len() % features != 0 {
            return Err(format!("its {} coefficients are no rows of {features}", coefficients.len()).into());
        }
        let rows = coefficients.len() / features;
        let w = ArrayD::from_shape_vec(vec![rows, features], coefficients.to_vec()).map_err(|e| e.to_string())?;
        let bias = site.proto.floats("intercepts")?.filter(|b| !b.is_empty());
        if bias.is_some_and(|b| b.len() != rows) {
            return Err(format!("its intercepts are not {rows}").into());
        }
        let bias = bias.map(|b| Term::Clear(Array1::from_vec(b.to_vec()).into_dyn()));
        Ok((self.dense(site, x, w, bias)?, rows))
    }

    pub(super) fn linear_regressor(&mut self, site: &Site<'_>) -> Result<Known, Stop> {
        match site.proto.string("post_transform")?.unwrap_or("NONE") {
            "NONE" => Ok(Known::Value(self.linear_model(site)?.0)),
            other => refuse(format!("it ends in {other}"), "export the plain scores"),
        }
    }

    /// Label and scores.
    pub(super) fn linear_classifier(&mut self, site: &Site<'_>) -> Result<Vec<Known>, Stop> {
        let post = match site.proto.string("post_transform")?.unwrap_or("NONE") {
            "NONE" => None,
            "SOFTMAX" => Some(Post::Softmax { axis: 1 }),
            "LOGISTIC" => Some(Post::Sigmoid),
            other => return refuse(format!("it ends in {other}"), "export scores, softmax or logistic probabilities"),
        };
        let (scores, rows) = self.linear_model(site)?;
        if rows < 2 {
            return refuse("it has one row of coefficients for two classes", "give it one row for each class");
        }
        let label = match counted(site.proto.ints("classlabels_ints")?.unwrap_or(&[])) {
            Ok(()) => Known::Client(scores, vec![Post::ArgMax { axis: 1, keep: false, last: false }]),
            // Somebody may read the scores alone.
            Err(_) => Known::Unreadable("its labels are not 0, 1, 2, …: drop the output of labels".into()),
        };
        Ok(vec![label, Known::Client(scores, post.into_iter().collect())])
    }

    /// The sum of probabilities is 1 already.
    pub(super) fn normalizer(&mut self, site: &Site<'_>) -> Result<Known, Stop> {
        match (site.inputs.first(), site.proto.string("norm")?.unwrap_or("MAX")) {
            (Some(Some(known @ Known::Client(_, posts))), "L1")
                if matches!(posts.last(), Some(Post::Softmax { .. })) =>
            {
                Ok(known.clone())
            }
            _ => refuse(
                "it divides each row by its norm",
                "normalize outside the model, or train the classifier with multi_class='multinomial'",
            ),
        }
    }
}

/// Whether labels are the indices of their places.
fn counted(labels: &[i64]) -> Result<(), Stop> {
    if !labels.is_empty() && labels.iter().enumerate().all(|(i, &l)| i64::try_from(i) == Ok(l)) {
        return Ok(());
    }
    refuse("its labels are not 0, 1, 2, …", "drop the output of labels: the client takes the greatest of the scores")
}
