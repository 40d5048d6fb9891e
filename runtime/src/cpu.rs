//! The kernels of the CPU's tile machine: plain functions over raw tiles, compiled for each [`Isa`].
//!
//! No function here allocates, locks, or knows the tile IR. Extents may be zero. All are `unsafe`: the caller has
//! checked, once per bound program, that the tiles lie inside their buffers and do not overlap unless a function says
//! that they may. Results depend on the arguments and the level alone, never on threads or alignment.

// Loops over lanes and registers index several arrays at once.
#![allow(clippy::needless_range_loop)]

pub mod gemm;
mod isa;
mod math;
pub mod moves;
pub(crate) mod number;
pub mod order;
pub mod pack;
pub mod reduce;
pub mod rows;
pub(crate) mod simd;
mod special;
pub mod vector;

pub use isa::{Isa, IsaError};

#[cfg(test)]
mod tests;
