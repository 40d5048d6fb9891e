//! Executing tile kernels: decoding once, then interpreting flat code, one call per tile instruction.
//!
//! ```text
//! Kernel ──compile──► Code ──(sizes)──► registers ──Workers::run_item──► per work item: calcs, jumps, instructions
//! ```
//!
//! Every instruction checks that its operands lie inside of the memory they belong to before it touches them, so that a
//! wrong program is an error and not a wild access.

pub mod block;
pub mod code;
pub mod compile;
pub mod copy;
pub mod expr;
pub mod function;
pub mod index;
pub mod matrix;
pub mod mmad;
pub mod nest;
pub mod operand;
pub mod order;
pub mod reduce;
pub mod vector;
pub mod wide;
pub mod worker;
