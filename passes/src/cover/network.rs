//! What is covered: classes of equal values, each with alternative ways to compute it, operands before users.
//!
//! A plain graph is the network in which every class has one alternative; an e-graph has several.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use smallvec::SmallVec;
use tarsia_graph::{Attr, Graph, KernelKind, Kind, NodeId, Op, Origin, Type, Value};
use tarsia_tensor::{DType, Dim, Tensor};

use super::{
    Options,
    work::{Extent, Load, load},
};

/// One result of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pin {
    pub class: u32,
    pub output: u32,
}

/// What a class is to the cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Stored beforehand: graph inputs, constants.
    Stored,
    /// A constant of one element, which stands in the bodies that use it.
    Immediate,
    /// Computed by kernels.
    Compute,
    /// Control, host functions, strings: stays a node, its operands are stored.
    Plain,
}

/// One way to compute a class.
#[derive(Clone, Debug)]
pub(crate) struct Alternative {
    pub op: Op,
    pub operands: SmallVec<[Pin; 4]>,
    pub origin: Origin,
    /// Hash of the op, its attributes and result types.
    pub signature: u128,
    pub load: Load,
    /// Element type of the first operand: what a contraction multiplies.
    pub dtype: DType,
}

/// A value, or the results of one op with several.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub types: SmallVec<[Type; 1]>,
    pub role: Role,
    pub alternatives: Vec<Alternative>,
    /// Extent of the first result.
    pub extent: Extent,
    /// Hash of the types.
    pub type_hash: u128,
    /// How many classes and graph outputs use it.
    pub users: u32,
}

/// Classes in topological order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub classes: Vec<Class>,
    pub outputs: Vec<(String, Pin)>,
    /// Values that tell a size, whether or not an operand reads them.
    pub tellers: Vec<Pin>,
}

impl Network {
    /// The network of a graph: class `i` is node `i`.
    pub fn of(graph: &Graph, options: &Options) -> Network {
        let mut network = Network::default();
        let pin = |value: &Value| Pin { class: value.node.index() as u32, output: value.output };
        for id in graph.node_ids() {
            let node = &graph[id];
            let operands: SmallVec<[Pin; 4]> = graph.operands(id).iter().map(pin).collect();
            let role = role(graph, id);
            network.push(node.types.clone(), role, options);
            network.alternative(id.index() as u32, node.op.clone(), operands, node.origin.clone());
        }
        network.outputs = graph.outputs().iter().map(|o| (o.name.clone(), pin(&o.value))).collect();
        let tellers: BTreeSet<NodeId> = graph.tellers().into_values().collect();
        network.tellers = tellers.into_iter().map(|id| pin(&id.into())).collect();
        network.count_users();
        network
    }

    /// Adds a class without alternatives.
    pub fn push(&mut self, types: SmallVec<[Type; 1]>, role: Role, options: &Options) {
        let extent = types.first().map(|ty| Extent::of(ty, &|dim| options.size(dim))).unwrap_or_default();
        let type_hash = hash(&types);
        self.classes.push(Class { types, role, alternatives: Vec::new(), extent, type_hash, users: 0 });
    }

    /// Adds a way to compute `class`, whose operands stand before it.
    pub fn alternative(&mut self, class: u32, op: Op, operands: SmallVec<[Pin; 4]>, origin: Origin) {
        let place = class as usize;
        let extents: Vec<&Extent> = operands.iter().map(|pin| &self.classes[pin.class as usize].extent).collect();
        let result = &self.classes[place];
        let dtype = operands.first().map_or_else(|| result.types[0].dtype, |pin| self.ty(*pin).dtype);
        let load = load(&op, &extents, &result.extent, dtype);
        let signature = hash(&(result.type_hash, signature(&op)));
        self.classes[place].alternatives.push(Alternative { op, operands, origin, signature, load, dtype });
    }

    /// Counts users, each class once per user.
    pub fn count_users(&mut self) {
        let mut users = vec![0; self.classes.len()];
        for class in &self.classes {
            let mut used: Vec<u32> =
                class.alternatives.iter().flat_map(|a| a.operands.iter().map(|pin| pin.class)).collect();
            used.sort_unstable();
            used.dedup();
            used.into_iter().for_each(|class| users[class as usize] += 1);
        }
        self.roots().for_each(|pin| users[pin.class as usize] += 1);
        self.classes.iter_mut().zip(users).for_each(|(class, users)| class.users = users);
    }

    /// What must be there in the end: the outputs, and what tells sizes.
    pub fn roots(&self) -> impl Iterator<Item = Pin> {
        self.outputs.iter().map(|(_, pin)| *pin).chain(self.tellers.iter().copied())
    }

    /// The type of a value.
    pub fn ty(&self, pin: Pin) -> &Type {
        &self.classes[pin.class as usize].types[pin.output as usize]
    }

    /// The alternative `alternative` of `class`.
    pub fn get(&self, class: u32, alternative: u16) -> &Alternative {
        &self.classes[class as usize].alternatives[alternative as usize]
    }

    /// The role of a value's class.
    pub fn role(&self, pin: Pin) -> Role {
        self.classes[pin.class as usize].role
    }

    /// The constant of an immediate.
    pub fn immediate(&self, pin: Pin) -> Option<&Tensor> {
        let class = &self.classes[pin.class as usize];
        match (&class.role, &class.alternatives.first()?.op) {
            (Role::Immediate, Op::Constant { value }) => Some(value),
            _ => None,
        }
    }
}

/// Whether an op reads its operands in place, so that each is an operand of the kernel.
pub(crate) fn is_direct(op: &Op) -> bool {
    KernelKind::anchored_by(op).is_some_and(|kind| kind != KernelKind::Rows)
}

fn role(graph: &Graph, id: NodeId) -> Role {
    let node = &graph[id];
    let strings = |value: Value| !graph.ty(value).dtype.is_numeric();
    match &node.op {
        Op::Constant { value } if value.count() == 1 && value.dtype().is_numeric() => Role::Immediate,
        Op::Input { .. } | Op::Constant { .. } => Role::Stored,
        op if matches!(op.kind(), Kind::Control | Kind::Host) => Role::Plain,
        _ if strings(id.into()) || graph.operands(id).iter().any(|&operand| strings(operand)) => Role::Plain,
        _ => Role::Compute,
    }
}

/// A hash of 128 bits, so that equal hashes may be taken for equal values. The same in every run.
pub(crate) fn hash<T: Hash>(value: &T) -> u128 {
    let (mut low, mut high) = (DefaultHasher::new(), DefaultHasher::new());
    high.write_u8(1);
    value.hash(&mut low);
    value.hash(&mut high);
    u128::from(high.finish()) << 64 | u128::from(low.finish())
}

/// A hash of an op and its attributes.
fn signature(op: &Op) -> u128 {
    let parts: Vec<u128> = op.attrs().iter().map(|(name, attr)| hash(&(*name, attribute(attr)))).collect();
    hash(&(op.name(), parts))
}

fn attribute(attr: &Attr) -> u128 {
    match attr {
        Attr::Tensor(tensor) if tensor.count() == 1 => hash(&(tensor.dtype(), tensor.shape(), tensor.bytes().as_ref())),
        // Large data and sub-graphs are never inside a body that is compared.
        Attr::Tensor(tensor) => hash(&(tensor.dtype(), tensor.shape())),
        Attr::Graph(_) => 0,
        Attr::Dims(dims) => hash::<Vec<Dim>>(dims),
        other => hash(&format!("{other:?}")),
    }
}
