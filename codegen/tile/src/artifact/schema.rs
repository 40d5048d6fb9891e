//! The header of a compiled file as protobuf messages.
//!
//! Strings, expressions and opcodes are written once each and referred to by index: expressions and opcodes in their text forms,
//! which are canonical and checked when read. Element types and layouts are strings too.

use prost::{Message, Oneof};

/// The whole header.
#[derive(Clone, PartialEq, Message)]
pub struct File {
    /// Names, element types, layouts.
    #[prost(string, repeated, tag = "1")]
    pub strings: Vec<String>,
    /// Expressions.
    #[prost(string, repeated, tag = "2")]
    pub dims: Vec<String>,
    /// Opcodes.
    #[prost(string, repeated, tag = "3")]
    pub opcodes: Vec<String>,
    /// The program.
    #[prost(message, optional, tag = "4")]
    pub program: Option<Program>,
}

/// See [`crate::Program`].
#[derive(Clone, PartialEq, Message)]
pub struct Program {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, tag = "2")]
    pub target: u32,
    #[prost(message, repeated, tag = "3")]
    pub inputs: Vec<Port>,
    #[prost(message, repeated, tag = "4")]
    pub outputs: Vec<Port>,
    #[prost(message, repeated, tag = "5")]
    pub buffers: Vec<Buffer>,
    #[prost(message, repeated, tag = "6")]
    pub constants: Vec<Extent>,
    #[prost(message, repeated, tag = "7")]
    pub kernels: Vec<Kernel>,
    #[prost(message, repeated, tag = "8")]
    pub steps: Vec<Step>,
}

/// See [`crate::Port`].
#[derive(Clone, PartialEq, Message)]
pub struct Port {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, tag = "2")]
    pub buffer: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub shape: Vec<u32>,
}

/// See [`crate::Buffer`].
#[derive(Clone, PartialEq, Message)]
pub struct Buffer {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, tag = "2")]
    pub dtype: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub shape: Vec<u32>,
    #[prost(uint32, tag = "4")]
    pub layout: u32,
    /// 0 input, 1 temporary, otherwise 2 + number of the constant.
    #[prost(uint64, tag = "5")]
    pub kind: u64,
}

/// A constant's place, from the first one's.
#[derive(Clone, PartialEq, Message)]
pub struct Extent {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// See [`crate::Kernel`].
#[derive(Clone, PartialEq, Message)]
pub struct Kernel {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, repeated, tag = "2")]
    pub origin: Vec<u32>,
    #[prost(message, repeated, tag = "3")]
    pub params: Vec<Param>,
    #[prost(message, repeated, tag = "4")]
    pub tiles: Vec<Tile>,
    #[prost(uint32, repeated, tag = "5")]
    pub grid_variables: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    pub grid_sizes: Vec<u32>,
    #[prost(message, repeated, tag = "7")]
    pub body: Vec<Stmt>,
    #[prost(message, optional, tag = "8")]
    pub lanes: Option<Lanes>,
}

/// See [`crate::Lanes`].
#[derive(Clone, PartialEq, Message)]
pub struct Lanes {
    #[prost(uint32, tag = "1")]
    pub variable: u32,
    #[prost(uint64, tag = "2")]
    pub count: u64,
    #[prost(uint32, tag = "3")]
    pub space: u32,
}

/// See [`crate::Param`].
#[derive(Clone, PartialEq, Message)]
pub struct Param {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, tag = "2")]
    pub dtype: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub shape: Vec<u32>,
    #[prost(uint32, tag = "4")]
    pub layout: u32,
    /// 0 read, 1 write, 2 update.
    #[prost(uint32, tag = "5")]
    pub access: u32,
}

/// See [`crate::Tile`].
#[derive(Clone, PartialEq, Message)]
pub struct Tile {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, tag = "2")]
    pub space: u32,
    #[prost(uint32, tag = "3")]
    pub dtype: u32,
    #[prost(uint64, repeated, tag = "4")]
    pub shape: Vec<u64>,
    #[prost(uint32, tag = "5")]
    pub layout: u32,
    #[prost(uint64, tag = "6")]
    pub slots: u64,
    #[prost(uint64, optional, tag = "7")]
    pub address: Option<u64>,
}

/// See [`crate::Stmt`].
#[derive(Clone, PartialEq, Message)]
pub struct Stmt {
    #[prost(oneof = "StmtKind", tags = "1, 2, 3")]
    pub kind: Option<StmtKind>,
}

/// The kinds of statement.
#[derive(Clone, PartialEq, Oneof)]
pub enum StmtKind {
    #[prost(message, tag = "1")]
    Instr(Instr),
    #[prost(message, tag = "2")]
    For(For),
    #[prost(message, tag = "3")]
    If(Branch),
}

/// A loop.
#[derive(Clone, PartialEq, Message)]
pub struct For {
    #[prost(uint32, tag = "1")]
    pub var: u32,
    #[prost(uint32, tag = "2")]
    pub end: u32,
    #[prost(int64, tag = "3")]
    pub step: i64,
    #[prost(message, repeated, tag = "4")]
    pub body: Vec<Stmt>,
}

/// A branch.
#[derive(Clone, PartialEq, Message)]
pub struct Branch {
    #[prost(uint32, tag = "1")]
    pub condition: u32,
    #[prost(message, repeated, tag = "2")]
    pub then: Vec<Stmt>,
    #[prost(message, repeated, tag = "3")]
    pub otherwise: Vec<Stmt>,
}

/// See [`crate::Instr`].
#[derive(Clone, PartialEq, Message)]
pub struct Instr {
    #[prost(uint32, tag = "1")]
    pub opcode: u32,
    #[prost(message, repeated, tag = "2")]
    pub dst: Vec<Operand>,
    #[prost(message, repeated, tag = "3")]
    pub src: Vec<Operand>,
}

/// See [`crate::Operand`].
#[derive(Clone, PartialEq, Message)]
pub struct Operand {
    #[prost(oneof = "OperandKind", tags = "1, 2, 3, 4, 5")]
    pub kind: Option<OperandKind>,
}

/// The kinds of operand.
#[derive(Clone, PartialEq, Oneof)]
pub enum OperandKind {
    #[prost(message, tag = "1")]
    Tile(Region),
    #[prost(message, tag = "2")]
    Global(View),
    #[prost(double, tag = "3")]
    Real(f64),
    #[prost(uint32, tag = "4")]
    Index(u32),
    #[prost(message, tag = "5")]
    Scalar(Scalar),
}

/// See [`crate::Region`].
#[derive(Clone, PartialEq, Message)]
pub struct Region {
    #[prost(uint32, tag = "1")]
    pub tile: u32,
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub offset: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    pub size: Vec<u32>,
}

/// See [`crate::View`].
#[derive(Clone, PartialEq, Message)]
pub struct View {
    #[prost(uint32, tag = "1")]
    pub param: u32,
    #[prost(message, repeated, tag = "2")]
    pub axes: Vec<Axis>,
    #[prost(uint32, repeated, tag = "3")]
    pub size: Vec<u32>,
    #[prost(double, optional, tag = "4")]
    pub fill: Option<f64>,
}

/// See [`crate::Axis`].
#[derive(Clone, PartialEq, Message)]
pub struct Axis {
    #[prost(uint32, tag = "1")]
    pub start: u32,
    #[prost(uint32, repeated, tag = "2")]
    pub along: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    pub steps: Vec<u32>,
}

/// A scalar that is defined.
#[derive(Clone, PartialEq, Message)]
pub struct Scalar {
    #[prost(uint32, tag = "1")]
    pub symbol: u32,
    #[prost(uint32, tag = "2")]
    pub bound: u32,
}

/// See [`crate::Step`].
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    #[prost(oneof = "StepKind", tags = "1, 2, 3, 4, 5")]
    pub kind: Option<StepKind>,
}

/// The kinds of step.
#[derive(Clone, PartialEq, Oneof)]
pub enum StepKind {
    #[prost(message, tag = "1")]
    Launch(Launch),
    #[prost(message, tag = "2")]
    Host(Host),
    #[prost(message, tag = "3")]
    If(If),
    #[prost(message, tag = "4")]
    Loop(Loop),
    #[prost(message, tag = "5")]
    Scan(Scan),
}

/// A launch.
#[derive(Clone, PartialEq, Message)]
pub struct Launch {
    #[prost(uint32, tag = "1")]
    pub kernel: u32,
    #[prost(uint32, repeated, tag = "2")]
    pub args: Vec<u32>,
    /// Pairs of parameters, one after the other.
    #[prost(uint32, repeated, tag = "3")]
    pub in_place: Vec<u32>,
}

/// A host function.
#[derive(Clone, PartialEq, Message)]
pub struct Host {
    #[prost(uint32, tag = "1")]
    pub function: u32,
    #[prost(sint64, repeated, tag = "2")]
    pub ints: Vec<i64>,
    #[prost(double, repeated, tag = "3")]
    pub reals: Vec<f64>,
    #[prost(message, repeated, tag = "4")]
    pub operands: Vec<Port>,
    #[prost(uint32, repeated, tag = "5")]
    pub results: Vec<u32>,
}

/// One of two programs.
#[derive(Clone, PartialEq, Message)]
pub struct If {
    #[prost(uint32, tag = "1")]
    pub condition: u32,
    /// Taken when true, taken when false.
    #[prost(message, repeated, tag = "2")]
    pub branches: Vec<Program>,
    #[prost(message, repeated, tag = "3")]
    pub operands: Vec<Port>,
    #[prost(uint32, repeated, tag = "4")]
    pub results: Vec<u32>,
}

/// See [`crate::LoopStep`].
#[derive(Clone, PartialEq, Message)]
pub struct Loop {
    #[prost(message, optional, tag = "1")]
    pub body: Option<Program>,
    #[prost(message, optional, tag = "2")]
    pub trip_count: Option<Port>,
    #[prost(message, optional, tag = "3")]
    pub condition: Option<Port>,
    #[prost(message, repeated, tag = "4")]
    pub carried: Vec<Port>,
    #[prost(message, repeated, tag = "5")]
    pub captured: Vec<Port>,
    #[prost(uint32, repeated, tag = "6")]
    pub results: Vec<u32>,
}

/// See [`crate::ScanStep`]. Directions: axis · 2, plus 1 from the end.
#[derive(Clone, PartialEq, Message)]
pub struct Scan {
    #[prost(message, optional, tag = "1")]
    pub body: Option<Program>,
    #[prost(message, repeated, tag = "2")]
    pub states: Vec<Port>,
    #[prost(message, repeated, tag = "3")]
    pub inputs: Vec<Port>,
    #[prost(uint64, repeated, tag = "4")]
    pub input_directions: Vec<u64>,
    #[prost(message, repeated, tag = "5")]
    pub captured: Vec<Port>,
    #[prost(uint64, repeated, tag = "6")]
    pub output_directions: Vec<u64>,
    #[prost(uint32, repeated, tag = "7")]
    pub results: Vec<u32>,
}
