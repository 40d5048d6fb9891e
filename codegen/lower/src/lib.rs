//! From a graph of kernels to a tile program for one machine.
//!
//! ```text
//! Graph of kernels ──program──► buffers, steps
//!       │ one kernel body
//!       ▼
//!   nest: iteration axes and accesses ──► map / rows / contract / conv / … : loops, tiles, instructions
//!                                              ──route──► legal data paths ──place──► addresses ──synchronise──► events
//! ```
//!
//! Nodes that are not inside a kernel are lowered as kernels of their own, so any graph can be lowered.

mod accumulator;
mod asked;
mod attention;
mod blocks;
mod builder;
mod concat;
mod deal;
mod decompose;
mod emit;
mod error;
mod expand;
mod index;
mod kept;
mod load;
mod map;
mod matrix;
mod nest;
mod order;
mod overlap;
mod pack;
mod persist;
mod place;
mod program;
mod ring;
mod route;
mod routed;
mod rows;
mod synchronise;
mod target;
mod window;

pub use asked::{Choices, TileSize};
pub use error::LowerError;
pub use matrix::wants_channels_last;
pub use program::lower;
