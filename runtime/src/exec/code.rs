//! Decoded kernels: a flat list of operations over registers and decoded operands.

use tarsia_tensor::{ArgReduceFn, BinaryFn, DType, ReduceFn, ScatterFn, Symbol, UnaryFn};

use super::expr::{Calcs, Reg, Scope};
use super::operand::{ClipAxis, Operand};

/// Index of an operand in its code.
pub type OperandId = u32;
/// Index of an operation in its code.
pub type Pc = u32;

/// A kernel, decoded once for all sizes.
#[derive(Debug)]
pub struct Code {
    /// Its name.
    pub name: String,
    /// Names of the model's nodes.
    pub origin: Vec<String>,
    /// What a work item does.
    pub ops: Vec<Op>,
    /// What the operations work on.
    pub operands: Vec<Operand>,
    /// The buffer axes of tables that are indexed by data.
    pub tables: Vec<Vec<ClipAxis>>,
    /// Index expressions.
    pub calcs: Calcs,
    /// The sizes that it depends on, with their registers.
    pub symbols: Vec<(Symbol, Reg)>,
    /// Variable and number of values of every grid axis.
    pub grid: Vec<(Reg, Reg)>,
    /// Offset of every tile in the worker's scratch memory.
    pub tiles: Vec<usize>,
    /// Scratch bytes that a worker needs.
    pub scratch_bytes: usize,
    /// Parameters, in order.
    pub params: Vec<ParamCode>,
    /// Whether work items share bytes that they write, so that they run one after the other.
    pub serial: bool,
}

/// What is known of a parameter.
#[derive(Debug)]
pub struct ParamCode {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Elements, padding included.
    pub elements: Reg,
    /// Whether it is written.
    pub written: bool,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // Fields are those of the opcode of the same name.
pub enum Op {
    /// Computes a scope's registers.
    Calc(Scope),
    /// Sets `var` to 0, or goes to `exit` if there is no iteration.
    Loop {
        var: Reg,
        end: Reg,
        exit: Pc,
    },
    /// Advances `var` and goes to `head` while it is below `end`.
    Next {
        var: Reg,
        end: Reg,
        step: i64,
        head: Pc,
    },
    /// Goes to `otherwise` unless `condition > 0`.
    Branch {
        condition: Reg,
        otherwise: Pc,
    },
    /// Goes to another operation.
    Jump(Pc),
    /// Signals (+1) or awaits (-1) an event.
    Event {
        pipes: u32,
        event: Reg,
        change: i8,
    },
    Copy {
        dst: OperandId,
        src: OperandId,
        rows: u32,
    },
    Iota {
        dst: OperandId,
        start: Reg,
        axis: u32,
        step: i64,
    },
    Unary {
        function: UnaryFn,
        dst: OperandId,
        a: OperandId,
    },
    Binary {
        function: BinaryFn,
        dst: OperandId,
        a: OperandId,
        b: OperandId,
    },
    Select {
        dst: OperandId,
        condition: OperandId,
        a: OperandId,
        b: OperandId,
    },
    MulAdd {
        dst: OperandId,
        a: OperandId,
        b: OperandId,
        c: OperandId,
    },
    Reduce {
        function: ReduceFn,
        axis: u32,
        accumulate: bool,
        dst: OperandId,
        src: OperandId,
    },
    ArgReduce {
        function: ArgReduceFn,
        axis: u32,
        last: bool,
        accumulate: bool,
        value: OperandId,
        index: OperandId,
        src: OperandId,
        base: Reg,
    },
    Scan {
        function: ReduceFn,
        axis: u32,
        exclusive: bool,
        reverse: bool,
        dst: OperandId,
        src: OperandId,
        first: OperandId,
    },
    Mmad {
        accumulate: bool,
        dst: OperandId,
        a: OperandId,
        b: OperandId,
    },
    Gather {
        dst: OperandId,
        table: OperandId,
        axes: u32,
        index: OperandId,
    },
    Scatter {
        function: ScatterFn,
        table: OperandId,
        axes: u32,
        src: OperandId,
        index: OperandId,
    },
    SelectRows {
        dst: OperandId,
        src: OperandId,
        equal: Reg,
        base: Reg,
        count: Reg,
        bound: Reg,
    },
    ReadScalar {
        src: OperandId,
        to: Reg,
        bound: Reg,
    },
    Sort {
        descending: bool,
        values: OperandId,
        indices: OperandId,
        src: OperandId,
    },
    Random {
        normal: bool,
        seed: i64,
        dst: OperandId,
        start: Reg,
    },
    /// As `Random`, of the elements that an array names.
    RandomAt {
        normal: bool,
        seed: i64,
        dst: OperandId,
        src: OperandId,
    },
}
