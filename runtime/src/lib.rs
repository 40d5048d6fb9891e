//! Running tile programs.
//!
//! A [`Session`] takes a verified [`Program`](tarsia_tile::Program) and runs it on this CPU: kernels are decoded once, sizes are
//! bound in microseconds, work items go over a [`pool`], and each tile instruction is one call into [`cpu`].

pub mod cpu;
mod error;
mod exec;
pub mod pool;
mod session;

pub use error::RunError;
pub use session::{Bound, Options, Session, StepTime};
