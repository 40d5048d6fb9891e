//! Attributes of nodes, typed.
//!
//! In a function's body an attribute may stand for one of the calling node; that is resolved here, so that an importer never sees
//! a reference. A reference to an attribute that the call does not give, and that has no default, is an absent attribute.

use std::sync::Arc;

use tarsia_tensor::Tensor;

use crate::{
    problem::{Fault, Problem},
    schema::{AttributeProto, AttributeType, TypeProto},
    view::{Graph, Node, Scope},
};

/// An attribute of a node. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Attribute<'a> {
    pub(crate) name: &'a str,
    pub(crate) proto: &'a AttributeProto,
    /// Where the value was written: the caller's scope, if the call gives it.
    pub(crate) scope: Arc<Scope<'a>>,
}

impl<'a> Attribute<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The message that holds the value.
    pub fn proto(&self) -> &'a AttributeProto {
        self.proto
    }

    /// The kind of its value, also where an old exporter did not write it.
    pub fn kind(&self) -> AttributeType {
        kind(self.proto)
    }

    fn of(&self, expected: AttributeType) -> Result<&'a AttributeProto, Fault> {
        let found = self.kind();
        if found == expected { Ok(self.proto) } else { Err(Fault::AttributeKind { expected, found }) }
    }

    /// The integer.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn int(&self) -> Result<i64, Fault> {
        self.of(AttributeType::Int).map(|proto| proto.i)
    }

    /// The integer as a truth value.
    ///
    /// # Errors
    /// If it is of another kind, or neither 0 nor 1.
    pub fn bool(&self) -> Result<bool, Fault> {
        match self.int()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Fault::AttributeValue { expected: "0 or 1".into(), found: other.to_string() }),
        }
    }

    /// The number.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn f32(&self) -> Result<f32, Fault> {
        self.of(AttributeType::Float).map(|proto| proto.f)
    }

    /// The text.
    ///
    /// # Errors
    /// If it is of another kind, or not UTF-8.
    pub fn str(&self) -> Result<&'a str, Fault> {
        text(&self.of(AttributeType::String)?.s)
    }

    /// The integers.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn ints(&self) -> Result<&'a [i64], Fault> {
        self.of(AttributeType::Ints).map(|proto| proto.ints.as_slice())
    }

    /// The numbers.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn floats(&self) -> Result<&'a [f32], Fault> {
        self.of(AttributeType::Floats).map(|proto| proto.floats.as_slice())
    }

    /// The texts.
    ///
    /// # Errors
    /// If it is of another kind, or not UTF-8.
    pub fn strs(&self) -> Result<Vec<&'a str>, Fault> {
        self.of(AttributeType::Strings)?.strings.iter().map(|bytes| text(bytes)).collect()
    }

    /// The tensor; a sparse one is made dense.
    ///
    /// # Errors
    /// If it is of another kind, or the tensor is not right.
    pub fn tensor(&self) -> Result<Tensor, Fault> {
        let (dense, sparse) = (self.proto.t.as_deref(), self.proto.sparse_tensor.as_deref());
        match (self.kind(), dense, sparse) {
            (AttributeType::Tensor, Some(tensor), _) => Ok(self.scope.model.tensor(tensor)?),
            (AttributeType::SparseTensor, _, Some(tensor)) => Ok(self.scope.model.sparse_tensor(tensor)?),
            (AttributeType::Tensor | AttributeType::SparseTensor, ..) => Err(empty("a tensor")),
            (found, ..) => Err(Fault::AttributeKind { expected: AttributeType::Tensor, found }),
        }
    }

    /// The tensors.
    ///
    /// # Errors
    /// If it is of another kind, or a tensor is not right.
    pub fn tensors(&self) -> Result<Vec<Tensor>, Fault> {
        let tensors = &self.of(AttributeType::Tensors)?.tensors;
        tensors.iter().map(|tensor| Ok(self.scope.model.tensor(tensor)?)).collect()
    }

    /// The graph.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn graph(&self) -> Result<Graph<'a>, Fault> {
        let graph = self.of(AttributeType::Graph)?.g.as_deref().ok_or_else(|| empty("a graph"))?;
        Ok(Graph::of_proto(graph, self.scope.clone()))
    }

    /// The graphs.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn graphs(&self) -> Result<Vec<Graph<'a>>, Fault> {
        let graphs = &self.of(AttributeType::Graphs)?.graphs;
        Ok(graphs.iter().map(|graph| Graph::of_proto(graph, self.scope.clone())).collect())
    }

    /// The type.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn type_proto(&self) -> Result<&'a TypeProto, Fault> {
        self.of(AttributeType::TypeProto)?.tp.as_deref().ok_or_else(|| empty("a type"))
    }
}

fn empty(expected: &str) -> Fault {
    Fault::AttributeValue { expected: expected.into(), found: "nothing".into() }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let wrong = |_| Fault::AttributeValue { expected: "UTF-8 text".into(), found: bytes.escape_ascii().to_string() };
    std::str::from_utf8(bytes).map_err(wrong)
}

/// The kind an attribute says it has, or else that of the field that is set.
pub(crate) fn kind(proto: &AttributeProto) -> AttributeType {
    match AttributeType::try_from(proto.r#type) {
        Ok(AttributeType::Undefined) | Err(_) => {}
        Ok(kind) => return kind,
    }
    let set = [
        (proto.t.is_some(), AttributeType::Tensor),
        (proto.g.is_some(), AttributeType::Graph),
        (proto.sparse_tensor.is_some(), AttributeType::SparseTensor),
        (proto.tp.is_some(), AttributeType::TypeProto),
        (!proto.floats.is_empty(), AttributeType::Floats),
        (!proto.ints.is_empty(), AttributeType::Ints),
        (!proto.strings.is_empty(), AttributeType::Strings),
        (!proto.tensors.is_empty(), AttributeType::Tensors),
        (!proto.graphs.is_empty(), AttributeType::Graphs),
        (!proto.sparse_tensors.is_empty(), AttributeType::SparseTensors),
        (!proto.type_protos.is_empty(), AttributeType::TypeProtos),
        (!proto.s.is_empty(), AttributeType::String),
        (proto.f != 0.0, AttributeType::Float),
        (proto.i != 0, AttributeType::Int),
    ];
    set.iter().find(|(is_set, _)| *is_set).map_or(AttributeType::Undefined, |&(_, kind)| kind)
}

macro_rules! getters {
    ($($what:literal $required:ident $optional:ident $default:ident : $ty:ty = $get:ident;)*) => {
        impl<'a> Node<'a> { $(
            #[doc = concat!("The ", $what, " that must be there.")]
            ///
            /// # Errors
            /// If the attribute is missing, of another kind, or its value is not right.
            pub fn $required(&self, name: &str) -> Result<$ty, Problem> {
                self.$optional(name)?.ok_or_else(|| self.problem(Fault::MissingAttribute).in_attribute(name))
            }

            #[doc = concat!("The ", $what, ", if it is there.")]
            ///
            /// # Errors
            /// If the attribute is of another kind, or its value is not right.
            pub fn $optional(&self, name: &str) -> Result<Option<$ty>, Problem> {
                let value = self.attr(name).map(|attribute| attribute.$get()).transpose();
                value.map_err(|fault| self.problem(fault).in_attribute(name))
            }

            #[doc = concat!("The ", $what, ", or the default.")]
            ///
            /// # Errors
            /// If the attribute is of another kind, or its value is not right.
            pub fn $default(&self, name: &str, default: $ty) -> Result<$ty, Problem> {
                Ok(self.$optional(name)?.unwrap_or(default))
            }
        )* }
    };
}

getters! {
    "integer" attr_int attr_int_opt attr_int_or: i64 = int;
    "truth value (0 or 1)" attr_bool attr_bool_opt attr_bool_or: bool = bool;
    "number" attr_f32 attr_f32_opt attr_f32_or: f32 = f32;
    "text" attr_str attr_str_opt attr_str_or: &'a str = str;
    "list of integers" attr_ints attr_ints_opt attr_ints_or: &'a [i64] = ints;
    "list of numbers" attr_floats attr_floats_opt attr_floats_or: &'a [f32] = floats;
    "list of texts" attr_strs attr_strs_opt attr_strs_or: Vec<&'a str> = strs;
    "tensor (a sparse one is made dense)" attr_tensor attr_tensor_opt attr_tensor_or: Tensor = tensor;
    "list of tensors" attr_tensors attr_tensors_opt attr_tensors_or: Vec<Tensor> = tensors;
    "graph" attr_graph attr_graph_opt attr_graph_or: Graph<'a> = graph;
    "list of graphs" attr_graphs attr_graphs_opt attr_graphs_or: Vec<Graph<'a>> = graphs;
    "type" attr_type attr_type_opt attr_type_or: &'a TypeProto = type_proto;
}

impl<'a> Node<'a> {
    /// An attribute, if it is there.
    pub fn attr(&self, name: &str) -> Option<Attribute<'a>> {
        self.resolve(self.proto().attribute.iter().find(|attribute| attribute.name == name)?)
    }

    /// All attributes that are there, in the order of the file.
    pub fn attrs(&self) -> impl Iterator<Item = Attribute<'a>> {
        self.proto().attribute.iter().filter_map(|attribute| self.resolve(attribute))
    }

    fn resolve(&self, proto: &'a AttributeProto) -> Option<Attribute<'a>> {
        if proto.ref_attr_name.is_empty() {
            return Some(Attribute { name: &proto.name, proto, scope: self.scope.clone() });
        }
        let argument = self.scope.arguments.as_ref()?.get(proto.ref_attr_name.as_str())?;
        Some(Attribute { name: &proto.name, ..argument.clone() })
    }
}
