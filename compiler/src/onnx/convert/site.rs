//! What every converter needs: inputs of the node, new values and constants, the limits.

use fhe_ir::shape::infer;
use fhe_ir::{Const, Data, Elem, Facts, Id, Op, Origin, Post, Value};
use ndarray::ArrayD;
use onnx_ir::NodeProto;

use super::super::error::OnnxError;
use super::super::layout::{axis, count};
use super::super::limits::{self, MAX_ELEMENTS, MAX_ELEMENTS_IN_ALL, MAX_PRODUCTS, MAX_SCANNED};
use super::super::names::{node_label, stem};
use super::super::proto::{is_own_domain, type_name};
use super::super::tensors;
use super::{Converter, Known, Site, Stop, refuse};

/// Functions in a row that the client applies to one output.
const MAX_POSTS: usize = 16;

/// One more function of the client.
pub(super) fn with_post(posts: &[Post], post: Post) -> Result<Vec<Post>, Stop> {
    if posts.len() >= MAX_POSTS {
        return Err(format!("it is one of more than {MAX_POSTS} functions after the last layer").into());
    }
    Ok(posts.iter().cloned().chain([post]).collect())
}

impl Converter<'_> {
    /// What a name stands for; tensors of the file are converted when they are first read.
    pub(super) fn lookup(&mut self, name: &str) -> Result<Known, OnnxError> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        // Checked: a name that no node or input has made is a tensor's.
        let Some(tensor) = self.model.initializers.get(name) else {
            return Ok(Known::Refused(false));
        };
        let known = if tensors::has_numbers(tensor.data_type) {
            let data = tensors::read(tensor).map_err(|reason| OnnxError::TensorData {
                model: self.model.name.clone(),
                tensor: name.into(),
                reason,
            })?;
            if let Err(Stop::Fatal(error)) = self.spend(data.len()) {
                return Err(error);
            }
            Known::Const(data)
        } else {
            Known::Unreadable(format!("its constant {name:?} has elements of type {}", type_name(tensor.data_type)))
        };
        self.known.insert(name.into(), known.clone());
        Ok(known)
    }

    /// Counts numbers against the limit.
    pub(super) fn spend(&mut self, numbers: usize) -> Result<(), Stop> {
        self.numbers = self.numbers.saturating_add(numbers);
        self.limited("numbers in constants", self.numbers, limits::numbers(self.model.bytes))
    }

    /// Counts numbers of a constant that a node looks through.
    pub(super) fn scan(&self, numbers: usize) -> Result<(), Stop> {
        self.scanned.set(self.scanned.get().saturating_add(numbers));
        self.limited("numbers of constants to look through", self.scanned.get(), MAX_SCANNED)
    }

    fn limited(&self, what: &str, got: usize, limit: usize) -> Result<(), Stop> {
        if got <= limit {
            return Ok(());
        }
        let (got, limit) = (got as u64, limit as u64);
        Err(Stop::Fatal(OnnxError::Limit { model: self.model.name.clone(), what: what.into(), got, limit }))
    }

    /// A constant of reals, one entry or one per channel of a value of a shape.
    pub(super) fn per_channel(&self, c: &ArrayD<f32>, value: &[usize]) -> Result<ArrayD<f32>, Stop> {
        self.scan(c.len())?;
        Ok(tensors::per_channel(c, value)?)
    }

    pub(super) fn shape_of(&self, known: Option<&Known>) -> Vec<usize> {
        match known {
            Some(Known::Value(id) | Known::Client(id, _)) => self.graph.value(*id).shape.clone(),
            Some(Known::Const(data)) => data.shape().to_vec(),
            Some(Known::Refused(_) | Known::Unreadable(_)) | None => vec![],
        }
    }

    /// The shape that ONNX gives it.
    pub(super) fn onnx_shape(&self, known: Option<&Known>) -> Vec<usize> {
        let shape = self.shape_of(known);
        let lead = if matches!(known, Some(Known::Value(_) | Known::Client(..))) { self.lead } else { 0 };
        shape[lead..].to_vec()
    }

    /// The inputs of a node for messages.
    pub(super) fn describe(&self, site: &Site<'_>) -> Vec<String> {
        let named = site.proto.input.iter().zip(&site.inputs).filter(|(n, _)| !n.is_empty());
        named
            .map(|(name, known)| match known {
                Some(Known::Refused(_) | Known::Unreadable(_)) | None => format!("{name:?}"),
                known => format!("{name:?} {:?}", self.shape_of(known.as_ref())),
            })
            .collect()
    }

    /// The value that is input `i` of the node.
    pub(super) fn value(&self, site: &Site<'_>, i: usize) -> Result<Id<Value>, Stop> {
        match site.inputs.get(i) {
            Some(Some(Known::Value(id))) => Ok(*id),
            Some(Some(_)) => Err(format!("its input {i} is a constant, where an encrypted value is wanted").into()),
            _ => Err(format!("its input {i} is missing").into()),
        }
    }

    /// The constant that is input `i` of the node; `None` when it is left out.
    pub(super) fn constant<'s>(&self, site: &'s Site<'_>, i: usize) -> Result<Option<&'s Data>, Stop> {
        match site.inputs.get(i) {
            Some(Some(Known::Const(data))) => {
                self.scan(data.len())?;
                Ok(Some(data))
            }
            None | Some(None) => Ok(None),
            Some(Some(_)) => refuse(
                format!("its input {i} is an encrypted value, where a constant is wanted"),
                "only products, sums and comparisons of two encrypted values have an encrypted form",
            ),
        }
    }

    /// Appends a value; its shape is inferred, `stated` where the op leaves it open.
    pub(super) fn push(&mut self, site: &Site<'_>, part: &str, op: Op, stated: &[usize]) -> Result<Id<Value>, Stop> {
        let shape = infer(&self.graph, &op, stated)?;
        if shape.first() != Some(&1) || shape.len() < 2 {
            return Err(format!("its result of shape {shape:?} has no batch of 1 in front").into());
        }
        if !count(&shape).is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
            return Err(format!("its result of shape {shape:?} is empty, or above {MAX_ELEMENTS} elements").into());
        }
        self.work(&op, &shape)?;
        let node = (node_label(site.proto).to_owned(), site.proto.op_type.clone());
        let from = match self.origins.get(&node) {
            Some(id) => *id,
            None => {
                self.graph.origins.push(Origin { node: node.0.clone(), op: node.1.clone() });
                let id = Id::new(self.graph.origins.len() - 1);
                self.origins.insert(node, id);
                id
            }
        };
        let name = self.values.unique(&format!("{}{part}", site.stem));
        let facts = Facts::default();
        Ok(self.graph.push(Value { name, shape, elem: Elem::F32, op, facts, cipher: None, from: vec![from] }))
    }

    /// Counts what a value takes to evaluate: its elements, and products and comparisons for them.
    fn work(&mut self, op: &Op, shape: &[usize]) -> Result<(), Stop> {
        let elements = count(shape).unwrap_or(usize::MAX);
        let each = match op {
            Op::Dot { w, .. } | Op::Conv { w, .. } => {
                let w = &self.graph.constant(*w).data;
                w.len() / w.shape().first().copied().unwrap_or(1).max(1)
            }
            Op::AvgPool { geometry, .. } | Op::SumPool { geometry, .. } | Op::MaxPool { geometry, .. } => {
                geometry.area()
            }
            _ => 1,
        };
        self.elements = self.elements.saturating_add(elements);
        self.products = self.products.saturating_add(elements.saturating_mul(each));
        self.limited("elements in all values", self.elements, MAX_ELEMENTS_IN_ALL)?;
        self.limited("products and comparisons", self.products, MAX_PRODUCTS)
    }

    /// Appends a constant of finite reals.
    pub(super) fn push_const(&mut self, site: &Site<'_>, part: &str, data: Data) -> Result<Id<Const>, Stop> {
        self.scan(data.len())?;
        match &data {
            Data::F32(a) if a.iter().all(|v| v.is_finite()) => {}
            Data::F32(_) => return Err("its constants are not all finite".into()),
            Data::Int(_) => return Err("its constants are integers, not reals".into()),
        }
        if data.is_empty() {
            return Err("one of its constants is empty".into());
        }
        let name = self.consts.unique(&format!("{}{part}", site.stem));
        self.graph.consts.push(Const { name, data });
        Ok(Id::new(self.graph.consts.len() - 1))
    }

    /// Appends integer weights that the model states.
    pub(super) fn push_exact(&mut self, site: &Site<'_>, part: &str, integers: ndarray::ArrayD<i64>) -> Id<Const> {
        let name = self.consts.unique(&format!("{}{part}", site.stem));
        self.graph.consts.push(Const { name, data: Data::Int(std::sync::Arc::new(integers)) });
        Id::new(self.graph.consts.len() - 1)
    }

    /// The axis of a value that an attribute names, in the IR's count: 0 is the batch.
    pub(super) fn axis(&self, x: Id<Value>, at: i64) -> Result<usize, Stop> {
        let rank = self.graph.value(x).shape.len() - self.lead;
        Ok(axis(at, rank)? + self.lead)
    }

    /// Version of ONNX's own operator set.
    pub(super) fn opset(&self) -> i64 {
        let own = self.model.header.opset_import.iter().filter(|o| is_own_domain(&o.domain));
        own.map(|o| o.version).max().unwrap_or(0)
    }

    /// Gives the results of a node, made after value number `first`, the names of its outputs.
    pub(super) fn rename(&mut self, node: &NodeProto, first: usize, results: &[Known]) {
        let own = stem(node, 0);
        for (i, known) in results.iter().enumerate() {
            let (Known::Value(id) | Known::Client(id, _)) = known else { continue };
            let wanted = stem(node, i);
            let name = &self.graph.value(*id).name;
            let step = name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'));
            if id.index() >= first && step && *name != wanted && node.output.get(i).is_some_and(|o| !o.is_empty()) {
                self.graph.values[id.index()].name = self.values.unique(&wanted);
            }
        }
    }
}
