//! The graph container.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use petgraph::{Direction, graph::DiGraph, visit::EdgeRef};
use smallvec::SmallVec;
use tarsia_tensor::{DType, Dim, Symbol, Tensor};
use thiserror::Error;

use crate::{Attr, Op, TypeError, infer};

/// A node of a [`Graph`]; ids of one graph ascend in insertion order, which is topological.
pub type NodeId = petgraph::graph::NodeIndex<u32>;

/// Element type and symbolic shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Vec<Dim>,
}

impl Type {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Vec<Dim>>) -> Type {
        Type { dtype, shape: shape.into() }
    }

    /// The type of a concrete tensor.
    pub fn of(tensor: &Tensor) -> Type {
        Type::new(tensor.dtype(), tensor.shape().iter().map(|&d| Dim::from(d)).collect::<Vec<_>>())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn count(&self) -> Dim {
        Dim::product(&self.shape)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// The names of the model's nodes that a node comes from, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(Arc<[Arc<str>]>);

impl Origin {
    /// The origin of one model node.
    pub fn of(name: &str) -> Origin {
        Origin([Arc::from(name)].into())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// All names of both.
    pub fn merge(&self, other: &Origin) -> Origin {
        if self.0.is_empty() || self == other {
            return other.clone();
        }
        let mut names: Vec<Arc<str>> = self.0.iter().chain(other.0.iter()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        Origin(names.into())
    }
}

/// An op applied to operands, with the types of its results.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The types of its results, at least one.
    pub types: SmallVec<[Type; 1]>,
    /// Where it comes from in the user's model.
    pub origin: Origin,
}

impl Node {
    /// Whether the sizes of the results may be known only once it has run.
    fn tells_sizes(&self) -> bool {
        matches!(self.op, Op::Host { .. } | Op::If { .. } | Op::Loop { .. } | Op::ScanLoop { .. })
    }

    /// The symbols in the attributes, the result types and the sub-graphs.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut found = BTreeSet::new();
        for (_, attr) in self.op.attrs() {
            match attr {
                Attr::Dim(dim) => dim.collect_symbols(&mut found),
                Attr::Dims(dims) => dims.iter().for_each(|dim| dim.collect_symbols(&mut found)),
                Attr::Graph(graph) => graph.node_ids().for_each(|id| found.extend(graph[id].symbols())),
                _ => {}
            }
        }
        self.types.iter().flat_map(|ty| &ty.shape).for_each(|dim| dim.collect_symbols(&mut found));
        found
    }
}

/// How a result reaches an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which result of the producer.
    pub output: u32,
    /// Which operand of the consumer.
    pub operand: u32,
}

/// One result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The producer.
    pub node: NodeId,
    /// Which of its results.
    pub output: u32,
}

impl From<NodeId> for Value {
    fn from(node: NodeId) -> Value {
        Value { node, output: 0 }
    }
}

/// A named result of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// Why a node cannot be added.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GraphError {
    /// An operand does not exist.
    #[error("operand {0} of `{1}` does not exist")]
    NoSuchValue(usize, &'static str),
    /// Operand count or types do not fit the op.
    #[error(transparent)]
    Type(#[from] TypeError),
}

/// A directed graph of ops.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name.
    pub name: String,
    nodes: DiGraph<Node, Edge>,
    inputs: Vec<(String, NodeId)>,
    outputs: Vec<Output>,
}

impl PartialEq for Graph {
    fn eq(&self, other: &Graph) -> bool {
        self.inputs == other.inputs
            && self.outputs == other.outputs
            && self.node_count() == other.node_count()
            && self.node_ids().all(|id| {
                self[id].op == other[id].op
                    && self[id].types == other[id].types
                    && self.operands(id) == other.operands(id)
            })
    }
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// Adds a node, inferring its result types.
    ///
    /// # Errors
    /// If an operand does not exist, or the operands do not fit the op.
    pub fn add(&mut self, op: Op, operands: &[Value], origin: Origin) -> Result<NodeId, GraphError> {
        let mut types = Vec::with_capacity(operands.len());
        for (i, value) in operands.iter().enumerate() {
            let node = self.nodes.node_weight(value.node).ok_or(GraphError::NoSuchValue(i, op.name()))?;
            types.push(node.types.get(value.output as usize).ok_or(GraphError::NoSuchValue(i, op.name()))?);
        }
        let types = infer(&op, &types)?;
        let id = self.nodes.add_node(Node { op, types, origin });
        for (i, value) in operands.iter().enumerate() {
            self.nodes.add_edge(value.node, id, Edge { output: value.output, operand: i as u32 });
        }
        Ok(id)
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: &str, ty: Type) -> Value {
        let op = Op::Input { index: self.inputs.len(), types: vec![ty.clone()] };
        let id = self.nodes.add_node(Node { op, types: SmallVec::from_iter([ty]), origin: Origin::default() });
        self.inputs.push((name.to_owned(), id));
        id.into()
    }

    /// Adds constant data.
    pub fn add_constant(&mut self, value: Tensor, origin: Origin) -> Value {
        let types = SmallVec::from_iter([Type::of(&value)]);
        self.nodes.add_node(Node { op: Op::Constant { value }, types, origin }).into()
    }

    /// Names a value as a result of the graph.
    pub fn add_output(&mut self, name: &str, value: Value) {
        self.outputs.push(Output { name: name.to_owned(), value });
    }

    /// Another value for the result number `index`, if there is such a result.
    pub fn replace_output(&mut self, index: usize, value: Value) {
        if let Some(output) = self.outputs.get_mut(index) {
            output.value = value;
        }
    }

    /// The inputs with their names, in order.
    pub fn inputs(&self) -> &[(String, NodeId)] {
        &self.inputs
    }

    /// The results, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// All nodes in topological order.
    pub fn node_ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..self.nodes.node_count()).map(NodeId::new)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.node_count()
    }

    /// The operands of a node, in order.
    pub fn operands(&self, id: NodeId) -> SmallVec<[Value; 4]> {
        let mut edges: SmallVec<[(u32, Value); 4]> = self
            .nodes
            .edges_directed(id, Direction::Incoming)
            .map(|edge| (edge.weight().operand, Value { node: edge.source(), output: edge.weight().output }))
            .collect();
        edges.sort_unstable_by_key(|(operand, _)| *operand);
        edges.into_iter().map(|(_, value)| value).collect()
    }

    /// The uses of a node's results: consumer, its operand position and which result, sorted.
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, Edge)> {
        let mut users: Vec<(NodeId, Edge)> =
            self.nodes.edges_directed(id, Direction::Outgoing).map(|edge| (edge.target(), *edge.weight())).collect();
        users.sort_unstable_by_key(|(node, edge)| (*node, edge.operand));
        users
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        &self.nodes[value.node].types[value.output as usize]
    }

    /// The constant behind a value, if it is one.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        match &self.nodes.node_weight(value.node)?.op {
            Op::Constant { value } => Some(value),
            _ => None,
        }
    }

    /// The underlying petgraph graph, for its algorithms.
    pub fn dag(&self) -> &DiGraph<Node, Edge> {
        &self.nodes
    }

    /// The nodes that tell sizes which no input tells: the first one with the symbol in its result types. Whoever uses the symbol
    /// depends on that node, although no edge says so.
    pub fn tellers(&self) -> BTreeMap<Symbol, NodeId> {
        let mut tellers = BTreeMap::new();
        if !self.node_ids().any(|id| self[id].tells_sizes()) {
            return tellers;
        }
        let given: BTreeSet<Symbol> = self.inputs.iter().flat_map(|(_, id)| self[*id].symbols()).collect();
        for id in self.node_ids().filter(|&id| self[id].tells_sizes()) {
            for dim in self[id].types.iter().flat_map(|ty| &ty.shape) {
                for symbol in dim.symbols().into_iter().filter(|symbol| !given.contains(symbol)) {
                    tellers.entry(symbol).or_insert(id);
                }
            }
        }
        tellers
    }

    /// A copy in which nodes that no output needs are gone (inputs stay).
    pub fn without_dead_nodes(&self) -> Graph {
        let mut live = vec![false; self.node_count()];
        for output in &self.outputs {
            live[output.value.node.index()] = true;
        }
        for (_, input) in &self.inputs {
            live[input.index()] = true;
        }
        let tellers = self.tellers();
        for id in self.node_ids().rev() {
            if live[id.index()] {
                self.operands(id).iter().for_each(|value| live[value.node.index()] = true);
                if !tellers.is_empty() {
                    let told = self[id].symbols().into_iter().filter_map(|symbol| tellers.get(&symbol));
                    told.for_each(|teller| live[teller.index()] = true);
                }
            }
        }
        let mut copy = Graph::new(&self.name);
        let mut place = vec![NodeId::end(); self.node_count()];
        for id in self.node_ids().filter(|id| live[id.index()]) {
            let new = copy.nodes.add_node(self[id].clone());
            place[id.index()] = new;
            for (i, value) in self.operands(id).iter().enumerate() {
                copy.nodes.add_edge(place[value.node.index()], new, Edge { output: value.output, operand: i as u32 });
            }
        }
        let moved = |value: Value| Value { node: place[value.node.index()], output: value.output };
        copy.inputs = self.inputs.iter().map(|(name, id)| (name.clone(), place[id.index()])).collect();
        copy.outputs = self.outputs.iter().map(|o| Output { name: o.name.clone(), value: moved(o.value) }).collect();
        copy
    }
}

impl std::ops::Index<NodeId> for Graph {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }
}
