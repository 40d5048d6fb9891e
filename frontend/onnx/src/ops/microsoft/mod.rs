//! The operators of `com.microsoft`, which onnxruntime's optimiser and quantisers write.
//!
//! They follow onnxruntime's `docs/ContribOperators.md`. Each expands into core ops through the functions that the importers of
//! ONNX's own operators have; where one is an ONNX operator under another name, that operator's importer reads it
//! ([`Node::following`](crate::Node::following)).

mod blocks;
mod experts;

use super::{Importer, Row, Rows};

const DOMAIN: &str = "com.microsoft";

/// The families of these operators.
pub(super) const FAMILIES: &[Rows] = &[blocks::ROWS, experts::ROWS];

/// An operator of this domain.
const fn row(name: &'static str, import: Importer) -> Row {
    Row::new(name, 1, import).of(DOMAIN)
}
