//! What the file of a model says, whether or not the model is right: who made it, in which operator sets, with which inputs,
//! operators and weights.

use std::{collections::BTreeMap, fmt};

use crate::{
    Dimension, ValueType, function, ops,
    opset::{self, Opsets, canonical},
    schema::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto},
    weights,
};

/// What the file of a model says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The tool that wrote it, with its version; empty where it does not say.
    pub producer: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets: domain and version.
    pub opsets: Vec<(String, i64)>,
    /// Inputs without a default: name and type.
    pub inputs: Vec<(String, String)>,
    /// Outputs: name and type.
    pub outputs: Vec<(String, String)>,
    /// Operators, by domain and name; nodes of sub-graphs and of functions count once each.
    pub operators: Vec<Operator>,
    /// Constant tensors: how many, and their bytes.
    pub weights: (usize, u64),
}

/// An operator that nodes of a model use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// The domain of its operator set, as it is shown.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// The version of the operator set; `None` where it is not imported, or the operator is a function of the model.
    pub version: Option<i64>,
    /// What it is.
    pub support: Support,
    /// How many nodes use it.
    pub count: usize,
}

/// Whether a model with an operator can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// It has an importer.
    Supported,
    /// It is a function of the model.
    Function,
    /// It has none, at this version.
    Unsupported,
}

impl Survey {
    /// Looks through a model.
    pub fn new(model: &ModelProto) -> Survey {
        let opsets = Opsets::new(&model.opset_import);
        let mut walk = Walk::new(model);
        if let Some(graph) = &model.graph {
            walk.graph(graph, &opsets);
        }
        for body in &model.functions {
            walk.nodes(&body.node, &Opsets::new(&body.opset_import));
        }
        let none = GraphProto::default();
        let graph = model.graph.as_deref().unwrap_or(&none);
        let has_default = |value: &&ValueInfoProto| graph.initializer.iter().all(|tensor| tensor.name != value.name);
        let ports = |values: &mut dyn Iterator<Item = &ValueInfoProto>| values.map(port).collect::<Vec<_>>();
        Survey {
            producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
            ir_version: model.ir_version,
            opsets: opsets.iter().map(|(domain, version)| (opset::shown(domain).to_owned(), version)).collect(),
            inputs: ports(&mut graph.input.iter().filter(has_default)),
            outputs: ports(&mut graph.output.iter()),
            operators: walk.operators.into_values().collect(),
            weights: walk.weights,
        }
    }
}

fn port(value: &ValueInfoProto) -> (String, String) {
    let ty = value.r#type.as_ref().filter(|ty| ty.value.is_some()).map(|ty| match ValueType::new(ty) {
        Ok(ty) => ty.to_string(),
        Err(reason) => reason,
    });
    (value.name.clone(), ty.unwrap_or_else(|| "no type".to_owned()))
}

struct Walk<'a> {
    model: &'a ModelProto,
    functions: function::Functions,
    operators: BTreeMap<(String, String, Option<i64>), Operator>,
    weights: (usize, u64),
}

impl<'a> Walk<'a> {
    fn new(model: &'a ModelProto) -> Walk<'a> {
        let functions = function::Functions::new(&model.functions);
        Walk { model, functions, operators: BTreeMap::new(), weights: (0, 0) }
    }

    fn graph(&mut self, graph: &GraphProto, opsets: &Opsets) {
        let sparse = graph.sparse_initializer.iter().flat_map(|tensor| [&tensor.values, &tensor.indices]);
        graph.initializer.iter().chain(sparse.filter_map(Option::as_deref)).for_each(|tensor| self.tensor(tensor));
        self.nodes(&graph.node, opsets);
    }

    fn nodes(&mut self, nodes: &[NodeProto], opsets: &Opsets) {
        for node in nodes {
            self.node(node, opsets);
            for attribute in &node.attribute {
                attribute.t.as_deref().into_iter().chain(&attribute.tensors).for_each(|tensor| self.tensor(tensor));
                let graphs = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
                graphs.for_each(|graph| self.graph(graph, opsets));
            }
        }
    }

    fn node(&mut self, node: &NodeProto, opsets: &Opsets) {
        let domain = canonical(&node.domain);
        let is_call = self.functions.callee(&self.model.functions, node).is_some();
        let version = opsets.version(domain).filter(|_| !is_call);
        let support = match (is_call, ops::find(domain, &node.op_type), version) {
            (true, ..) => Support::Function,
            (_, Some(row), Some(version)) if row.covers(version) => Support::Supported,
            _ => Support::Unsupported,
        };
        let (domain, name) = (opset::shown(domain).to_owned(), node.op_type.clone());
        let new = Operator { domain: domain.clone(), name: name.clone(), version, support, count: 0 };
        self.operators.entry((domain, name, version)).or_insert(new).count += 1;
    }

    fn tensor(&mut self, tensor: &TensorProto) {
        let bytes = weights::declare(&tensor.dims, tensor.data_type, u64::MAX).map_or(0, |declared| declared.bytes);
        self.weights = (self.weights.0 + 1, self.weights.1.saturating_add(bytes as u64));
    }
}

impl fmt::Display for ValueType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueType::Tensor(tensor) => write!(f, "{tensor}"),
            ValueType::SparseTensor(tensor) => write!(f, "sparse_tensor({tensor})"),
            ValueType::Sequence(element) => write!(f, "seq({element})"),
            ValueType::Optional(element) => write!(f, "optional({element})"),
            ValueType::Map { key, value } => write!(f, "map({key}, {value})"),
            ValueType::Opaque { domain, name } => write!(f, "opaque({domain}, {name})"),
        }
    }
}

impl fmt::Display for crate::TensorType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(shape) = &self.shape else { return write!(f, "{}[…]", self.dtype) };
        write!(f, "{}[", self.dtype)?;
        for (axis, dim) in shape.iter().enumerate() {
            f.write_str(if axis > 0 { ", " } else { "" })?;
            match dim {
                Dimension::Size(size) => write!(f, "{size}")?,
                Dimension::Named(name) => f.write_str(name)?,
                Dimension::Unknown => f.write_str("?")?,
            }
        }
        f.write_str("]")
    }
}
