//! The text form of programs.
//!
//! ```text
//! program relu for cpu {
//!   buffer x: f32[n] row_major input
//!   buffer y: f32[n] row_major temporary
//!   input X: @x[n]
//!   output Y: @y[n]
//!   kernel relu_0 from Relu_1 {
//!     param x: f32[n] row_major read
//!     param y: f32[n] row_major write
//!     tile t: f32[64] row_major in scratch
//!     grid i < floordiv(n + 63, 64)
//!     copy rows=1 %t[0 +: min(64, n - 64*i)] <- @x{min(64, n - 64*i) -> 64*i + $0}
//!     …
//!   }
//!   launch relu_0(@x, @y)
//! }
//! ```
//!
//! One statement a line. A part of a tile is `%tile#(slot)[offset +: size, …]`; an array seen in a buffer is
//! `@buffer{sizes -> index into every axis else fill}` with `$0`, `$1`… for the view's own indices; `(…)` is an immediate
//! index, `let n <= bound` defines a scalar. Constants follow at the end in base64. `# ` begins a comment.
//! [`parse`] reads everything that [`print`] writes, and gives the same program.

mod cursor;
mod operand;
mod parse;
mod print;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
pub(crate) mod tests;

pub use parse::{ParseError, parse};
pub use print::{Anchor, Data, Line, Listing, listing, part, print, write};
