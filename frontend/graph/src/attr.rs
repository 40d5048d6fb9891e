//! Attributes of ops as plain values, so that printing, parsing, hashing and patterns treat every op alike.

use std::sync::Arc;

use tarsia_tensor::{DType, Dim, Tensor};
use thiserror::Error;

use crate::{ArgReduceFn, Contraction, Graph, ReduceFn, ScatterFn, Type};

/// A float attribute with total equality and order (by its bits).
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Real) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// Integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// Flag.
    Bool(bool),
    /// Float.
    Real(Real),
    /// Text, also the names of functions and contractions.
    Text(String),
    /// Floats.
    Reals(Vec<Real>),
    /// Element type.
    DType(DType),
    /// Symbolic integer.
    Dim(Dim),
    /// Symbolic integers.
    Dims(Vec<Dim>),
    /// Types.
    Types(Vec<Type>),
    /// Constant data.
    Tensor(Tensor),
    /// Sub-graph.
    Graph(Arc<Graph>),
}

/// Why an op cannot be made from a name and attributes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AttrError {
    /// No row of the op table has this name.
    #[error("there is no core op `{0}`")]
    UnknownOp(String),
    /// An attribute is missing.
    #[error("`{op}` needs the attribute `{name}`")]
    Missing {
        /// Op name.
        op: &'static str,
        /// Attribute name.
        name: &'static str,
    },
    /// An attribute has a value of another kind.
    #[error("the attribute `{name}` of `{op}` has the wrong kind of value")]
    Kind {
        /// Op name.
        op: &'static str,
        /// Attribute name.
        name: &'static str,
    },
}

/// A Rust type that is stored in one kind of [`Attr`].
pub(crate) trait AttrValue: Sized {
    fn to_attr(&self) -> Attr;
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! attr_values {
    ($($ty:ty => $variant:ident),* $(,)?) => {
        $(impl AttrValue for $ty {
            fn to_attr(&self) -> Attr { Attr::$variant(self.clone()) }
            fn from_attr(attr: &Attr) -> Option<Self> {
                match attr { Attr::$variant(value) => Some(value.clone()), _ => None }
            }
        })*
    };
}
attr_values!(i64 => Int, Vec<i64> => Ints, bool => Bool, Real => Real, Vec<Real> => Reals, DType => DType, Dim => Dim, Vec<Dim> => Dims,
    Vec<Type> => Types, Tensor => Tensor, Arc<Graph> => Graph, String => Text);

macro_rules! named_values {
    ($($ty:ty),* $(,)?) => {
        $(impl AttrValue for $ty {
            fn to_attr(&self) -> Attr { Attr::Text(self.to_string()) }
            fn from_attr(attr: &Attr) -> Option<Self> {
                match attr { Attr::Text(text) => text.parse().ok(), _ => None }
            }
        })*
    };
}
named_values!(ReduceFn, ArgReduceFn, ScatterFn, Contraction);

/// Axes and counts are small non-negative integers.
impl AttrValue for usize {
    fn to_attr(&self) -> Attr {
        Attr::Int(*self as i64)
    }

    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }
}

impl AttrValue for Vec<usize> {
    fn to_attr(&self) -> Attr {
        Attr::Ints(self.iter().map(|&x| x as i64).collect())
    }

    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Ints(values) => values.iter().map(|&x| usize::try_from(x).ok()).collect(),
            _ => None,
        }
    }
}

/// Flags in a list are the integers 0 and 1.
impl AttrValue for Vec<bool> {
    fn to_attr(&self) -> Attr {
        Attr::Ints(self.iter().map(|&x| i64::from(x)).collect())
    }

    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Ints(values) => Some(values.iter().map(|&x| x != 0).collect()),
            _ => None,
        }
    }
}
