//! Element types, symbolic dimensions and tensors: the vocabulary that the Graph and the tile IR share.
//!
//! Nothing here knows of graphs, ONNX or machines. [`DType`] names the element types, [`Dim`] is an integer expression
//! over named symbols, [`Tensor`] is a typed view of shared bytes (often of a memory map), and [`Numbers`] are its
//! elements widened to 64 bits, which the reference evaluation computes with.

mod absent;
pub mod arrange;
mod bind;
mod convert;
mod dim;
mod dim_text;
mod dtype;
mod function;
pub mod host;
pub mod mapped;
mod minifloat;
mod numbers;
pub mod order;
pub mod rng;
mod tensor;

pub use absent::{Absent, Content, Place};
pub use bind::{BindError, Bindings};
pub use convert::convert;
pub use dim::{Atom, Dim, EvalError, Poly, Range, Symbol, Term};
pub use dim_text::ParseDimError;
pub use dtype::{Class, DType};
pub use function::{ArgReduceFn, BinaryFn, Law, ReduceFn, ScatterFn, UnaryFn};
pub use minifloat::{MiniFloat, Overflow};
pub use numbers::Numbers;
pub use tensor::{Element, Shape, Tensor, TensorError, element_count};
