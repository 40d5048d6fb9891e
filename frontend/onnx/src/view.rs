//! Graphs and nodes as importers see them: borrowed from a [`Model`], typed, with function attributes resolved.
//!
//! ```text
//! Model ─► Graph ─► Node ─► Attribute ─► number, text, Tensor, Graph …
//!            ▲        └─ call ─► Graph of the function's body, its attributes bound to this node's
//!            └──────────────────── (sub-graphs)
//! ```

use std::{collections::BTreeMap, sync::Arc};

use tarsia_tensor::{DType, Tensor};

use crate::{
    attribute::Attribute,
    function,
    model::Model,
    opset::{Opsets, canonical},
    order,
    problem::{Fault, NodePlace, Place, Problem},
    schema::{FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, TypeProto, ValueInfoProto},
    sparse,
    types::ValueType,
};

/// What the nodes of a graph share: operator sets, and in a function's body the attributes of the call.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub model: &'a Model,
    pub opsets: &'a Opsets,
    /// In a function's body, the attributes that the call gives or defaults. `None` in the main graph.
    pub arguments: Option<BTreeMap<&'a str, Attribute<'a>>>,
    /// Names of the functions being inlined, outermost first.
    pub functions: Vec<String>,
}

/// The main graph, a sub-graph, or the body of a function. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Graph<'a> {
    form: Form<'a>,
    scope: Arc<Scope<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    Graph(&'a GraphProto),
    Function(&'a FunctionProto),
}

impl<'a> Graph<'a> {
    pub(crate) fn of_proto(graph: &'a GraphProto, scope: Arc<Scope<'a>>) -> Graph<'a> {
        Graph { form: Form::Graph(graph), scope }
    }

    pub(crate) fn of_function(function: &'a FunctionProto, scope: Arc<Scope<'a>>) -> Graph<'a> {
        Graph { form: Form::Function(function), scope }
    }

    /// The name of the graph or function.
    pub fn name(&self) -> &'a str {
        match self.form {
            Form::Graph(graph) => &graph.name,
            Form::Function(function) => &function.name,
        }
    }

    /// The message, unless this is a function's body.
    pub fn proto(&self) -> Option<&'a GraphProto> {
        match self.form {
            Form::Graph(graph) => Some(graph),
            Form::Function(_) => None,
        }
    }

    /// The model this is part of.
    pub fn model(&self) -> &'a Model {
        self.scope.model
    }

    /// The operator sets that the nodes bind to.
    pub fn opsets(&self) -> &'a Opsets {
        self.scope.opsets
    }

    /// The inputs, also those that an initialiser gives a default.
    pub fn inputs(&self) -> Vec<Value<'a>> {
        self.values(|graph| &graph.input, |function| &function.input)
    }

    /// The outputs.
    pub fn outputs(&self) -> Vec<Value<'a>> {
        self.values(|graph| &graph.output, |function| &function.output)
    }

    /// Types that the exporter wrote for other values.
    pub fn value_info(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let values = match self.form {
            Form::Graph(graph) => &graph.value_info,
            Form::Function(function) => &function.value_info,
        };
        values.iter().map(Value::of_proto)
    }

    /// The constants, dense ones first.
    pub fn initializers(&self) -> impl Iterator<Item = Initializer<'a>> + use<'a> {
        let (dense, sparse) = match self.form {
            Form::Graph(graph) => (graph.initializer.as_slice(), graph.sparse_initializer.as_slice()),
            Form::Function(_) => (&[][..], &[][..]),
        };
        let model = self.scope.model;
        let dense = dense.iter().map(move |tensor| Initializer { data: Data::Dense(tensor), model });
        dense.chain(sparse.iter().map(move |tensor| Initializer { data: Data::Sparse(tensor), model }))
    }

    /// The nodes, in the order of the file, which need not be one in which they can be computed.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node<'a>> + use<'a> {
        let scope = self.scope.clone();
        self.node_protos().iter().map(move |proto| Node { proto, scope: scope.clone(), version: None })
    }

    /// The nodes, each after those whose values it (or a sub-graph of it) uses; else in the order of the file.
    pub fn ordered_nodes(&self) -> Vec<Node<'a>> {
        let protos = self.node_protos();
        let sorted = order::sort(&order::dependencies(protos)).order;
        let node = |&index: &usize| Some(Node { proto: protos.get(index)?, scope: self.scope.clone(), version: None });
        sorted.iter().filter_map(node).collect()
    }

    /// Names of values of the graphs around it that this graph uses, in order of first use.
    pub fn captures(&self) -> Vec<&'a str> {
        match self.form {
            Form::Graph(graph) => order::captures(graph),
            Form::Function(_) => Vec::new(),
        }
    }

    /// The place of this graph, for problems that no single node has.
    pub fn place(&self) -> Place {
        Place { functions: self.scope.functions.clone(), ..Place::default() }
    }

    pub(crate) fn node_protos(&self) -> &'a [NodeProto] {
        match self.form {
            Form::Graph(graph) => &graph.node,
            Form::Function(function) => &function.node,
        }
    }

    fn values(
        &self,
        typed: fn(&GraphProto) -> &Vec<ValueInfoProto>,
        named: fn(&FunctionProto) -> &Vec<String>,
    ) -> Vec<Value<'a>> {
        match self.form {
            Form::Graph(graph) => typed(graph).iter().map(Value::of_proto).collect(),
            Form::Function(function) => named(function).iter().map(|name| Value { name, proto: None }).collect(),
        }
    }
}

/// A named value, with its type if the model tells it.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    name: &'a str,
    proto: Option<&'a TypeProto>,
}

impl<'a> Value<'a> {
    fn of_proto(proto: &'a ValueInfoProto) -> Value<'a> {
        Value { name: &proto.name, proto: proto.r#type.as_ref() }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its type; `None` where the model tells none.
    ///
    /// # Errors
    /// If the type is not one that values here have.
    pub fn value_type(&self) -> Result<Option<ValueType<'a>>, Problem> {
        let Some(proto) = self.proto.filter(|proto| proto.value.is_some()) else { return Ok(None) };
        let wrong = |text| Problem::new(Place::default(), Fault::Invalid(format!("value `{}`: {text}", self.name)));
        ValueType::new(proto).map(Some).map_err(wrong)
    }
}

/// A constant of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Initializer<'a> {
    data: Data<'a>,
    model: &'a Model,
}

#[derive(Clone, Copy, Debug)]
enum Data<'a> {
    Dense(&'a TensorProto),
    Sparse(&'a SparseTensorProto),
}

impl<'a> Initializer<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        match self.data {
            Data::Dense(tensor) => &tensor.name,
            Data::Sparse(tensor) => sparse::name(tensor),
        }
    }

    /// Its value; dense data is a view of the mapped file.
    ///
    /// # Errors
    /// If single values or indices are wrong (the rest was checked when the model was read).
    pub fn tensor(&self) -> Result<Tensor, Problem> {
        let tensor = match self.data {
            Data::Dense(tensor) => self.model.tensor(tensor),
            Data::Sparse(tensor) => self.model.sparse_tensor(tensor),
        };
        tensor.map_err(|error| Problem::new(Place::default(), error))
    }
}

/// One node. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    proto: &'a NodeProto,
    pub(crate) scope: Arc<Scope<'a>>,
    /// The version of ONNX's own operators that it follows, where it is one of another domain that is defined like one of them.
    version: Option<i64>,
}

impl<'a> Node<'a> {
    /// Its name; of an anonymous node operator and first output, `Add(y)`.
    pub fn name(&self) -> String {
        if self.proto.name.is_empty() { anonymous(self.proto) } else { self.proto.name.clone() }
    }

    /// Its operator.
    pub fn op_type(&self) -> &'a str {
        &self.proto.op_type
    }

    /// The domain of its operator; ONNX's own is the empty string, however the model spells it.
    pub fn domain(&self) -> &'a str {
        canonical(&self.proto.domain)
    }

    /// The version of its domain's operator set. A checked model has one for every node that is not a function call.
    pub fn version(&self) -> Option<i64> {
        self.version.or_else(|| self.scope.opsets.version(&self.proto.domain))
    }

    /// The same node, read as an operator of ONNX's own domain of this version.
    pub(crate) fn following(&self, version: i64) -> Node<'a> {
        Node { version: Some(version), ..self.clone() }
    }

    /// The message.
    pub fn proto(&self) -> &'a NodeProto {
        self.proto
    }

    /// The model this is part of.
    pub fn model(&self) -> &'a Model {
        self.scope.model
    }

    /// Names of the inputs; an absent one is empty.
    pub fn inputs(&self) -> &'a [String] {
        &self.proto.input
    }

    /// The name of an input, if it is there.
    pub fn input(&self, index: usize) -> Option<&'a str> {
        self.proto.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of an input that must be there.
    ///
    /// # Errors
    /// If it is not.
    pub fn required_input(&self, index: usize) -> Result<&'a str, Problem> {
        self.input(index).ok_or_else(|| self.problem(Fault::MissingInput(index)))
    }

    /// Names of the outputs; an unwanted one is empty.
    pub fn outputs(&self) -> &'a [String] {
        &self.proto.output
    }

    /// The name of an output, if it is wanted.
    pub fn output(&self, index: usize) -> Option<&'a str> {
        self.proto.output.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Where this node is, for problems.
    pub fn place(&self) -> Place {
        let node = NodePlace {
            name: self.name(),
            operator: self.proto.op_type.clone(),
            domain: self.domain().to_string(),
            version: self.version(),
        };
        Place { functions: self.scope.functions.clone(), node: Some(node), attribute: None }
    }

    /// A problem of this node.
    pub fn problem(&self, fault: impl Into<Fault>) -> Problem {
        Problem::new(self.place(), fault)
    }

    /// The problem that something about this node is right but not supported.
    pub fn unsupported(&self, what: impl Into<String>) -> Problem {
        self.problem(Fault::Unsupported(what.into()))
    }

    /// The problem that something about this node is wrong.
    pub fn invalid(&self, what: impl Into<String>) -> Problem {
        self.problem(Fault::Invalid(what.into()))
    }

    /// The body of the model-local function that this node calls, if it calls one, with the function's attributes bound to this
    /// node's or to their defaults. Inputs and outputs correspond by position; those that the node leaves out at the end, or names
    /// by the empty string, are absent in the body.
    pub fn call(&self) -> Option<Graph<'a>> {
        let model = self.scope.model;
        let index = model.functions().callee(&model.proto().functions, self.proto)?;
        let function = model.proto().functions.get(index)?;
        let unbound = model.unbound_scope(index, function);
        let mut arguments = BTreeMap::new();
        let defaults = function.attribute_proto.iter().map(|proto| (proto.name.as_str(), Some(proto)));
        for (name, default) in function.attribute.iter().map(|name| (name.as_str(), None)).chain(defaults) {
            let default = || Some(Attribute { name, proto: default?, scope: unbound.clone() });
            if let Some(argument) = self.attr(name).or_else(default) {
                arguments.insert(name, argument);
            }
        }
        let mut functions = self.scope.functions.clone();
        functions.push(format!("{} (called by `{}`)", function::label(function), self.name()));
        let scope = Scope { model, opsets: unbound.opsets, arguments: Some(arguments), functions };
        Some(Graph::of_function(function, Arc::new(scope)))
    }

    /// An element type given as an attribute, as `to` of `Cast`.
    ///
    /// # Errors
    /// If the attribute is not an integer, or is not the number of an element type here.
    pub fn attr_dtype_opt(&self, name: &str) -> Result<Option<DType>, Problem> {
        let Some(number) = self.attr_int_opt(name)? else { return Ok(None) };
        let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
        let found = || i32::try_from(number).map_or_else(|_| format!("number {number}"), crate::weights::type_name);
        let wrong = || Fault::AttributeValue { expected: "a supported element type".into(), found: found() };
        dtype.map(Some).ok_or_else(|| self.problem(wrong()).in_attribute(name))
    }

    /// An element type that must be given as an attribute.
    ///
    /// # Errors
    /// As [`Node::attr_dtype_opt`], and if the attribute is missing.
    pub fn attr_dtype(&self, name: &str) -> Result<DType, Problem> {
        let missing = || self.problem(Fault::MissingAttribute).in_attribute(name);
        self.attr_dtype_opt(name)?.ok_or_else(missing)
    }
}

fn anonymous(proto: &NodeProto) -> String {
    let output = proto.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
    format!("{}({output})", proto.op_type)
}
