//! The text form of graphs: one node a line, read back by [`parse`].
//!
//! ```text
//! graph @classifier(%0 "image": f32[batch, 64]) {
//!   %1 = constant @c0 : f32[64, 10]  # fc.weight
//!   %2 = constant 0.5 : f32[]
//!   %3 = contract(%0, %1) {spec: "ab,bc->ac", dtype: f32} : f32[batch, 10]  # fc/MatMul
//!   %4 = mul(%3, %2) : f32[batch, 10]  # fc/Mul, scale
//!   %5 = top_k(%4) {axis: 1, k: 3, largest: true} : f32[batch, 3], i64[batch, 3]
//!   return %5:0 as "scores", %5:1 as "classes"
//! }
//! data @c0 = f32[64, 10] base64:"AACAPw…"
//! ```
//!
//! Numbers of nodes are their ids; `%5:1` is the second result of a node that has several. After `#` stand the model's nodes
//! that a node comes from; a line that starts with `#` is a comment. Sizes are expressions (`2*batch + 1`), names that are
//! not plain words are quoted. Sub-graphs stand in the braces as attributes. An op whose result types are an attribute
//! (`if`, `loop`, `scan_loop`, `host`) takes them from the types after the colon. Small constants stand in their line; the
//! data of larger ones follow the graph, so that any dump is a complete input.

mod cursor;
mod literal;
mod parse;
mod print;

pub use cursor::ParseError;
pub use parse::parse;
pub(crate) use print::attribute;
pub use print::{Data, Listing, line, listing, write};

#[cfg(test)]
mod tests;
