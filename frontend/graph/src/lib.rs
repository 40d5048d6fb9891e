//! The Graph IR: what is computed, as a directed graph of core ops with symbolic shapes.
//!
//! [`Op`] is the table of core ops, [`infer`] their shape rules, [`Graph`] the container (append-only: operands exist
//! before their users, so insertion order is a topological order), [`composite`] the ops that equal an expansion.

pub mod access;
mod attr;
pub mod composite;
mod contraction;
pub mod derivative;
pub mod dot;
pub mod eval;
mod graph;
mod infer;
pub mod kernel;
mod ops;
pub mod random;
pub mod text;
pub mod verify;

pub use attr::{Attr, AttrError, Real};
pub use contraction::{Contraction, ContractionError};
pub use graph::{Edge, Graph, GraphError, Node, NodeId, Origin, Output, Type, Value};
pub use infer::{TypeError, broadcast_shapes, infer};
pub use kernel::{KernelKind, classify};
pub use ops::{Kind, Op};
pub use tarsia_tensor::{ArgReduceFn, BinaryFn, Law, ReduceFn, ScatterFn, UnaryFn};
