//! The operators of `com.microsoft`, which onnxruntime's optimiser and quantisers write.
//!
//! They follow onnxruntime's `docs/ContribOperators.md`. Each expands into core ops through the functions that the importers of
//! ONNX's own operators have; where one is an ONNX operator under another name, that operator's importer reads it
//! ([`Node::following`](crate::Node::following)).

mod attention;
mod blocks;
mod cache;
mod cross;
mod decoder;
mod experts;
mod fused;
mod generation;
mod index;
mod masked;
mod masks;
mod nhwc;
mod norm;
mod packed;
mod quantised;
mod sparse;
mod text;

use super::{Importer, Row, Rows};

const DOMAIN: &str = "com.microsoft";

/// The families of these operators.
pub(super) const FAMILIES: &[Rows] = &[
    attention::ROWS,
    blocks::ROWS,
    cross::ROWS,
    decoder::ROWS,
    experts::ROWS,
    fused::ROWS,
    generation::ROWS,
    index::ROWS,
    masked::ROWS,
    nhwc::INTERNAL,
    nhwc::ROWS,
    norm::ROWS,
    packed::ROWS,
    quantised::ROWS,
    sparse::ROWS,
    text::ROWS,
];

/// An operator of this domain.
const fn row(name: &'static str, import: Importer) -> Row {
    Row::new(name, 1, import).of(DOMAIN)
}
