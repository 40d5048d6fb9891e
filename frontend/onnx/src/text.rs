//! Textual ONNX (`.onnxtxt`): the syntax of `docs/Syntax.md` of ONNX, parsed to the message that the binary form gives.
//!
//! ```text
//! <ir_version: 10, opset_import: ["" : 22]>          header of the model
//! net (float[N,4] x) => (float[N,4] y)               a graph: inputs, outputs,
//! <float[4] b = {1, 2, 3, 4}, float[N,4] s>          initialisers and types of other values,
//! { s = Add (x, b)  y = Relu (s) }                   nodes
//! <domain: "local", opset_import: ["" : 22]>         functions follow
//! f <alpha: float = 1.0> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }
//! ```
//!
//! What ONNX's own parser takes is taken, to the same message. Beyond it: lists of tensors, graphs and types (which its printer
//! writes), graphs whose names are no identifiers, and `metadata_props` of functions. Elements of sub-byte types are written one
//! by one, as numbers; those of other short floats as their bit patterns. An error says line, column, what was expected and what
//! is there. Nesting and memory are bounded.

mod attribute;
mod cursor;
mod graph;
mod tensor;
mod types;

use crate::{Limits, schema::ModelProto};
use cursor::Cursor;
pub use cursor::{TextError, TextFault};

/// Whether bytes look like a model in this syntax.
pub(crate) fn recognise(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes, &Limits::default());
    if cursor.eat(b'<') {
        return cursor.word().is_some() && cursor.eat(b':');
    }
    // Without a header, a graph begins: only text does so.
    let is_text = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    cursor.name().is_ok() && cursor.eat(b'(') && bytes.iter().take(512).all(is_text)
}

/// The model that a text describes.
///
/// # Errors
/// The first place at which the text is no model, or takes more than the limits.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<ModelProto, TextError> {
    Cursor::new(bytes, limits).model()
}
