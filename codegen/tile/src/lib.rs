//! The tile IR: how a machine computes a graph of kernels.
//!
//! A [`Program`] is buffers, constants and an order of [`Step`]s; a [`Kernel`] is a grid over cores, structured loops,
//! tiles in named memory spaces and [`Instr`]uctions that each run on one unit of the machine. Indices, sizes and bounds
//! are symbolic integers ([`tarsia_tensor::Dim`]) over the program's symbols, loop variables and scalars read at run time.
//! The [`machine::Machine`] is data; the [`optable`] has a row per instruction.

pub mod artifact;
mod ir;
pub mod lanes;
pub mod machine;
mod name;
pub mod optable;
pub mod plan;
mod substitute;
pub mod text;
pub mod verify;

pub use ir::{
    Access, Axis, Buffer, BufferId, BufferKind, Constant, Fractal, Instr, Kernel, KernelId, Lanes, Layout, LoopStep,
    Opcode, Operand, Order, Param, ParamId, Port, Program, Region, ScanStep, Step, Stmt, Tile, TileId, View,
};
pub use machine::Machine;
pub use plan::{Arena, Place, Plan, PlanError};
