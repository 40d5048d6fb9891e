//! From a checked [`Model`] to the Graph IR: walks the nodes, calls one importer per operator, collects every problem.
//!
//! ```text
//! Node ─► function of the model?  ─► its body, in place
//!      ─► as its signature says?  (`conform`)
//!      ─► value known at import?  ─► Known (shape arithmetic; `evaluate`)
//!      ─► row of the operator table ─► core ops (`ops`)
//! ```
//!
//! A node that cannot be imported poisons what depends on it, and the walk goes on, so that everything that is unsupported is
//! reported together.

mod build;
mod conform;
mod context;
mod evaluate;
mod facts;
mod form;
mod item;
mod known;
mod subgraph;
mod symbols;

use std::collections::BTreeMap;

use tarsia_graph::Graph;
use thiserror::Error;

use crate::{Model, Problems, ReadError};

pub(crate) use context::{Ctx, Outcome, Stop, axis_of, invalid, unsupported};
pub(crate) use form::Form;
pub(crate) use item::Item;
pub(crate) use known::{Element, Known};

/// What the user may decide about an import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Values for symbols of the inputs' shapes, by name: those sizes become constants.
    pub symbols: BTreeMap<String, i64>,
}

/// Why a model could not be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It holds what is not supported or does not fit together; everything is listed.
    #[error("{file}: {problems}")]
    Model {
        /// The file.
        file: String,
        /// What is wrong.
        problems: Problems,
    },
}

/// Imports a model.
///
/// # Errors
/// If operators, attributes or types are not supported, or operands do not fit; all problems together.
pub fn import(model: &Model, options: &Options) -> Result<Graph, ImportError> {
    context::import(model, options)
        .map_err(|problems| ImportError::Model { file: model.source().label().to_owned(), problems })
}
