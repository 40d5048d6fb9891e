//! What a name of the model stands for during import.

use tarsia_graph::Value;

use super::{Form, Known};

/// What a name of the model stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// A value of the graph.
    Tensor(Value),
    /// A small integer tensor whose elements are known at import; enters the graph when an importer asks for its value.
    Known(Known),
    /// A sequence; its length is known.
    Sequence(Vec<Item>),
    /// A sequence, optional value or map that is one value of the graph.
    Whole(Value, Form),
    /// An optional value that is not there.
    Nothing,
    /// A result of a node that could not be imported.
    Poison,
}

impl From<Value> for Item {
    fn from(value: Value) -> Item {
        Item::Tensor(value)
    }
}

impl From<Known> for Item {
    fn from(known: Known) -> Item {
        Item::Known(known)
    }
}

impl Item {
    /// Whether this, or an element of it, could not be imported.
    pub fn is_poisoned(&self) -> bool {
        match self {
            Item::Poison => true,
            Item::Sequence(items) => items.iter().any(Item::is_poisoned),
            _ => false,
        }
    }
}
