//! What is wrong with a model, said in the user's terms.
//!
//! A [`Problem`] has a place (functions being inlined, node with operator and operator set, attribute) and a [`Fault`]. Reading and
//! importing collect all of them in [`Problems`], so that the user sees everything at once.

use std::{
    error::Error,
    fmt::{self, Write as _},
};

use thiserror::Error;

use crate::{
    opset::{self, NEWEST_OPSET, OLDEST_OPSET},
    schema::{AttributeType, NEWEST_IR_VERSION},
    weights::WeightError,
};

/// One thing that is wrong, and where.
#[derive(Debug)]
pub struct Problem(Box<Detail>);

#[derive(Debug)]
struct Detail {
    place: Place,
    fault: Fault,
}

/// Where in a model: each part is empty where it does not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The functions whose bodies lead there, outermost first.
    pub functions: Vec<String>,
    /// The node.
    pub node: Option<NodePlace>,
    /// The attribute of that node.
    pub attribute: Option<String>,
}

/// A node, as the user knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// Its name, or operator and first output if it has none.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// The domain of its operator.
    pub domain: String,
    /// The version of that domain's operator set, if the model imports it.
    pub version: Option<i64>,
}

/// The ways in which a model is wrong, or beyond what is supported.
#[derive(Debug, Error)]
pub enum Fault {
    /// The IR version is unknown.
    #[error("IR version {0} is not one of 3 to {NEWEST_IR_VERSION}")]
    IrVersion(i64),
    /// The version of ONNX's own operator set is unknown.
    #[error("operator set {} {version} is not one of {OLDEST_OPSET} to {NEWEST_OPSET}", opset::shown(domain))]
    OpsetVersion {
        /// The domain.
        domain: String,
        /// The version imported.
        version: i64,
    },
    /// A node uses a domain that the model does not import.
    #[error("the operator set of domain `{}` is not imported", opset::shown(.0))]
    OpsetMissing(String),
    /// No importer knows the operator.
    #[error("the operator is not supported")]
    UnknownOperator,
    /// The operator is known, but not at this version.
    #[error("the operator is supported from version {since} on")]
    TooOld {
        /// The first version that is supported.
        since: i64,
    },
    /// Something about the node that is right, but not supported.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// Something about the node that is wrong.
    #[error("{0}")]
    Invalid(String),
    /// An input that must be there is not.
    #[error("input {0} is missing")]
    MissingInput(usize),
    /// The node uses a value that nothing defines.
    #[error("nothing defines the value `{0}`")]
    Undefined(String),
    /// The value is defined more than once.
    #[error("the value `{0}` is defined more than once")]
    Duplicate(String),
    /// The nodes depend on one another.
    #[error("nodes depend on one another in a cycle: {}", .0.join(" → "))]
    Cycle(Vec<String>),
    /// The functions call one another.
    #[error("functions call one another in a cycle: {}", .0.join(" → "))]
    RecursiveFunctions(Vec<String>),
    /// An attribute that must be there is not.
    #[error("the attribute is missing")]
    MissingAttribute,
    /// An attribute is of another kind.
    #[error("the attribute is {found:?}, not {expected:?}")]
    AttributeKind {
        /// The kind that the operator asks for.
        expected: AttributeType,
        /// The kind found.
        found: AttributeType,
    },
    /// An attribute has a value that is not allowed.
    #[error("the attribute is {found}, not {expected}")]
    AttributeValue {
        /// What the operator asks for.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The operator has no such attribute.
    #[error("the operator has no such attribute; it has {}", if known.is_empty() { "none".into() } else { known.join(", ") })]
    UnknownAttribute {
        /// Those that it has.
        known: Vec<&'static str>,
    },
    /// The attribute is given twice.
    #[error("the attribute is given more than once")]
    DuplicateAttribute,
    /// A tensor cannot be read.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The tensors of the model pass the user's limit.
    #[error(
        "the tensors of the model take {bytes} bytes, more than the limit of {limit}; raise the limit on tensors if it is trusted"
    )]
    TooManyBytes {
        /// Bytes that all tensors take.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The model grows too much when functions are put in place of their calls.
    #[error("the model has {nodes} nodes with its functions in place, more than the limit of {limit}")]
    TooManyNodes {
        /// Number of nodes, saturating.
        nodes: u64,
        /// The limit.
        limit: u64,
    },
}

impl Problem {
    /// A problem at a place.
    pub fn new(place: Place, fault: impl Into<Fault>) -> Problem {
        Problem(Box::new(Detail { place, fault: fault.into() }))
    }

    /// Where.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What.
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }

    /// The same problem, in an attribute of its node.
    pub fn in_attribute(mut self, name: &str) -> Problem {
        self.0.place.attribute = Some(name.to_string());
        self
    }
}

impl Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, fault) = (self.place().to_string(), self.fault().to_string());
        let colon = if place.is_empty() { "" } else { ": " };
        // Names come from the file; they must not reach the user's terminal as commands.
        for c in place.chars().chain(colon.chars()).chain(fault.chars()) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.iter().map(|name| format!("function {name}"));
        let node = self.node.iter().map(NodePlace::to_string);
        let attribute = self.attribute.iter().map(|name| format!("attribute `{name}`"));
        let parts: Vec<String> = functions.chain(node).chain(attribute).collect();
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}` ({} of {}", self.name, self.operator, opset::shown(&self.domain))?;
        match self.version {
            Some(version) => write!(f, " {version})"),
            None => f.write_str(")"),
        }
    }
}

/// Everything that is wrong with a model, in the order of the file.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Problems shown at most; the rest are counted.
    const SHOWN: usize = 50;

    /// Nothing wrong so far.
    pub fn new() -> Problems {
        Problems::default()
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds the error of a result; gives the value of a success.
    pub fn collect<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.push(problem)).ok()
    }

    /// Adds all of another list.
    pub fn append(&mut self, mut other: Problems) {
        self.0.append(&mut other.0);
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` if nothing is wrong.
    ///
    /// # Errors
    /// These problems.
    pub fn or_ok<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "{only}");
        }
        write!(f, "{} problems", self.0.len())?;
        for problem in self.0.iter().take(Self::SHOWN) {
            write!(f, "\n  {problem}")?;
        }
        match self.0.len().saturating_sub(Self::SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
