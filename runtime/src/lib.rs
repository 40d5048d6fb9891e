//! Running tile programs.

pub mod cpu;
pub mod pool;
