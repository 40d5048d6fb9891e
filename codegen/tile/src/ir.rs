//! The data types of the tile IR.
//!
//! ```text
//! Program ── steps ──► Launch(kernel, buffers) | Host | If | Loop | ScanLoop
//!    │                        │
//!  buffers, constants      Kernel ── body ──► For | If | Instr(op, destinations, sources)
//!                             │                               │
//!                       params, tiles            Region of a tile | View of a buffer | number
//! ```

use std::collections::BTreeSet;

use tarsia_tensor::{Absent, ArgReduceFn, BinaryFn, Content, DType, Dim, ReduceFn, ScatterFn, Symbol, UnaryFn};

/// Index of a buffer in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// Index of a kernel in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId(pub u32);

/// Index of a parameter in its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub u32);

/// Index of a tile in its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId(pub u32);

/// Direction in which rows and columns follow each other in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// Row by row.
    Z,
    /// Column by column.
    N,
}

/// A matrix cut into blocks of `block` rows × columns, zero-padded at the edges: blocks follow each other in `outer` order,
/// elements inside a block in `inner` order. Written `zN(16x16)`: inner order, outer order, block.
///
/// Panels of a CPU's matrix kernel are fractals too: left operand `nZ(12x1)`, right operand `zN(1x32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fractal {
    /// Order of blocks.
    pub outer: Order,
    /// Order inside a block.
    pub inner: Order,
    /// Rows and columns of a block.
    pub block: [usize; 2],
}

/// How the elements of a tile or buffer lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// Dense, last axis fastest.
    RowMajor,
    /// A blocked matrix (two axes).
    Fractal(Fractal),
}

/// A whole program for one machine.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Name of the machine it is for.
    pub target: String,
    /// What the caller passes; their shapes bind the symbols.
    pub inputs: Vec<Port>,
    /// What the caller gets.
    pub outputs: Vec<Port>,
    /// Everything in device memory.
    pub buffers: Vec<Buffer>,
    /// Data known at compile time.
    pub constants: Vec<Constant>,
    /// The kernels that steps launch.
    pub kernels: Vec<Kernel>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name in the user's model.
    pub name: String,
    /// Where it is.
    pub buffer: BufferId,
    /// Its shape (the buffer may be shared under another one).
    pub shape: Vec<Dim>,
}

/// A piece of device memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Unique name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Vec<Dim>,
    /// How elements lie in memory.
    pub layout: Layout,
    /// What it holds.
    pub kind: BufferKind,
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferKind {
    /// Given by the caller.
    Input,
    /// The program's constant of this index.
    Constant(u32),
    /// Written by a step before it is read; lives in the arena.
    Temporary,
}

/// Data known at compile time, in the layout of its buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The bytes, little-endian; or which ones are missing: then the program can be looked at and timed, but not run.
    pub data: Content,
}

/// One entry of the program's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Runs a kernel.
    Launch {
        /// Which.
        kernel: KernelId,
        /// A buffer for every parameter.
        args: Vec<BufferId>,
        /// Parameters `(read, written)` that may share memory when the first is not needed any more.
        in_place: Vec<(ParamId, ParamId)>,
    },
    /// Runs a host function; the results' shapes bind symbols that are not bound yet.
    Host {
        /// Its name in the table of host functions.
        function: String,
        /// Integer parameters.
        ints: Vec<i64>,
        /// Float parameters.
        reals: Vec<f64>,
        /// Operands, each under a shape.
        operands: Vec<Port>,
        /// Results.
        results: Vec<BufferId>,
    },
    /// Runs one of two programs.
    If {
        /// A bool scalar.
        condition: BufferId,
        /// Taken when true.
        then_branch: Box<Program>,
        /// Taken when false.
        else_branch: Box<Program>,
        /// Inputs of both.
        operands: Vec<Port>,
        /// Results of both.
        results: Vec<BufferId>,
    },
    /// Runs a program while a condition holds.
    Loop(Box<LoopStep>),
    /// Runs a program for every slice of some inputs.
    Scan(Box<ScanStep>),
}

/// ONNX's Loop: body inputs (iteration, condition, carried…, captured…), outputs (condition, carried…, scanned…).
#[derive(Clone, Debug, PartialEq)]
pub struct LoopStep {
    /// The body.
    pub body: Program,
    /// Highest number of iterations, an i64 scalar.
    pub trip_count: Port,
    /// Whether to begin, a bool scalar.
    pub condition: Port,
    /// Initial carried values.
    pub carried: Vec<Port>,
    /// Captured values.
    pub captured: Vec<Port>,
    /// Carried, then stacked results.
    pub results: Vec<BufferId>,
}

/// ONNX's Scan: body inputs (states…, slices…, captured…), outputs (states…, slices…).
#[derive(Clone, Debug, PartialEq)]
pub struct ScanStep {
    /// The body.
    pub body: Program,
    /// Initial states.
    pub states: Vec<Port>,
    /// Sliced inputs: port, axis, from the end.
    pub inputs: Vec<(Port, usize, bool)>,
    /// Captured values.
    pub captured: Vec<Port>,
    /// Axis and direction of every stacked output.
    pub outputs: Vec<(usize, bool)>,
    /// States, then stacked results.
    pub results: Vec<BufferId>,
}

/// A tile kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Unique name.
    pub name: String,
    /// Names of the model's nodes that it computes.
    pub origin: Vec<String>,
    /// The buffers it works on.
    pub params: Vec<Param>,
    /// Its tiles.
    pub tiles: Vec<Tile>,
    /// Independent work items: a variable from 0 up to (not including) each size; items may run in any order, on any core.
    pub grid: Vec<(Symbol, Dim)>,
    /// The cores that share one work item, where several do.
    pub lanes: Option<Lanes>,
    /// What every work item does.
    pub body: Vec<Stmt>,
}

/// Several equal cores that work on one item side by side with another kind of core. What touches a tile of their space is carried
/// out by each of them, on a tile of its own and with its own value of the variable; everything else is carried out once.
#[derive(Clone, Debug, PartialEq)]
pub struct Lanes {
    /// Which of them: 0 up to, not including, `count`.
    pub var: Symbol,
    /// How many they are.
    pub count: usize,
    /// The space that each of them has for itself.
    pub space: String,
}

/// What a kernel does to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes every element it is responsible for before anything is read.
    Write,
    /// Reads and writes.
    Update,
}

/// A formal parameter: a buffer of this type and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Unique name in the kernel.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Vec<Dim>,
    /// How elements lie in memory.
    pub layout: Layout,
    /// What the kernel does to it.
    pub access: Access,
}

/// A tile: a small array in one of a core's memory spaces. Each core has its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// Unique name in the kernel.
    pub name: String,
    /// Name of the memory space.
    pub space: String,
    /// Element type.
    pub dtype: DType,
    /// Capacity per axis.
    pub shape: Vec<usize>,
    /// How elements lie in memory. Row-major tiles are dense in their capacity: strides come from `shape`.
    pub layout: Layout,
    /// How many copies there are, for double buffering.
    pub slots: usize,
    /// Byte address of the first copy in its space, once placed; copies follow each other.
    pub address: Option<usize>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// `for var in 0..end step step`, one after the other.
    For {
        /// The loop variable, unique in the kernel.
        var: Symbol,
        /// First value not taken.
        end: Dim,
        /// Increment, positive.
        step: i64,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// Runs `then` if `condition > 0`, else `otherwise`.
    If {
        /// Compared with 0.
        condition: Dim,
        /// When positive.
        then: Vec<Stmt>,
        /// Otherwise.
        otherwise: Vec<Stmt>,
    },
    /// Runs an instruction.
    Instr(Instr),
}

/// An instruction: destinations, then sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Instr {
    /// What it does.
    pub op: Opcode,
    /// Written (and read, where the opcode says so).
    pub dst: Vec<Operand>,
    /// Read.
    pub src: Vec<Operand>,
}

/// What an instruction works on.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Part of a tile.
    Tile(Region),
    /// Part of a buffer.
    Global(View),
    /// An immediate number, converted to the type of the other operands.
    Real(f64),
    /// An immediate index.
    Index(Dim),
    /// A scalar that the instruction defines, usable as an index afterwards; its values are between 0 and the bound.
    Scalar(Symbol, Dim),
}

/// A box inside a tile.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The tile.
    pub tile: TileId,
    /// Which copy, for double buffering; 0 otherwise.
    pub slot: Dim,
    /// First index per axis.
    pub offset: Vec<Dim>,
    /// Size per axis.
    pub size: Vec<Dim>,
}

/// An array seen in a buffer: for every axis of the buffer, the index as a function of the view's own axes.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The buffer.
    pub param: ParamId,
    /// One entry per axis of the parameter.
    pub axes: Vec<Axis>,
    /// Size per axis of the view.
    pub size: Vec<Dim>,
    /// What is read where an index is out of range; without it no index may be.
    pub fill: Option<f64>,
}

/// The index into one buffer axis: `start + Σ step · view index`.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The index at the view's origin.
    pub start: Dim,
    /// View axis and step.
    pub steps: Vec<(usize, Dim)>,
}

/// What an instruction does. Shapes: all tile and view operands of a point-wise instruction have one rank, and axes of size 1
/// broadcast; immediates broadcast everywhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Opcode {
    /// `dst = src`, element by element, converting the type (saturating narrow floats) and the layout. Where one side is a
    /// matrix and the other has more than two axes, its first `rows` axes together are the matrix's rows.
    Copy {
        /// How many leading axes are rows.
        rows: usize,
    },
    /// `dst = src` for an immediate source.
    Fill,
    /// `dst[i…] = src + step · i[axis]` for an immediate source, i64 or i32.
    Iota {
        /// The counting axis.
        axis: usize,
        /// Increment per element.
        step: i64,
    },
    /// Point-wise function of one operand.
    Unary(UnaryFn),
    /// Point-wise function of two operands.
    Binary(BinaryFn),
    /// `dst = src0 ? src1 : src2`.
    Select,
    /// `dst = src0 · src1 + src2` (floats may fuse).
    MulAdd,
    /// Reduces `axis` to size 1; `accumulate` combines with what `dst` holds. `Mean` is not a tile instruction.
    Reduce {
        /// Which.
        function: ReduceFn,
        /// The axis.
        axis: usize,
        /// Combine with the destination.
        accumulate: bool,
    },
    /// dst0: extreme value, dst1: its index (i64) plus the immediate src1, along `axis`; `accumulate` compares with what they hold.
    ArgReduce {
        /// Smallest or largest.
        function: ArgReduceFn,
        /// The axis.
        axis: usize,
        /// The last among equals.
        last: bool,
        /// Combine with the destinations.
        accumulate: bool,
    },
    /// Cumulative reduction along `axis`; src1 (size 1 on `axis`) is the value before the first.
    Scan {
        /// Which.
        function: ReduceFn,
        /// The axis.
        axis: usize,
        /// Leave the element itself out.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// `dst[m, n] (+)= src0[m, k] · src1[k, n]`; operands may be fractal; accumulates in the destination's type. Of a row-major
    /// operand with more than two axes the first is the rows, the others, dense, together are the columns.
    Mmad {
        /// Add to the destination instead of replacing it.
        accumulate: bool,
    },
    /// `dst[j, …] = src0[indices[j] on the view's axis 0, …]` for a view src0 (whose size on axis 0 is that of the index tile src1);
    /// the index takes the place of the view's index on axis 0; out of range is a run-time error.
    Gather,
    /// `dst view [indices[j], …] ∘= src0[j, …]`, indices src1, as in `Gather`.
    Scatter {
        /// How an update meets what is there.
        function: ScatterFn,
    },
    /// dst0 (index tile) = the positions j at which src0[j] equals the immediate src1, ascending, plus the immediate src2;
    /// dst1 defines the scalar count.
    SelectRows,
    /// dst0 defines a scalar from the single integer element src0.
    ReadScalar,
    /// dst0 sorted values, dst1 their indices (i64) along the last axis, stable.
    Sort {
        /// Largest first.
        descending: bool,
    },
    /// dst0, dst1: the extreme values along the last axis in order and their indices; as many as the destination has.
    TopK {
        /// Largest or smallest.
        largest: bool,
    },
    /// `dst[i…] =` random number of element `src + row-major index` of a stream, or of element `src[i…]` for an array.
    Random {
        /// Standard normal instead of uniform.
        normal: bool,
        /// The stream.
        seed: i64,
    },
    /// Signals `event` from one pipe to another.
    SetEvent {
        /// Signalling pipe.
        from: String,
        /// Waiting pipe.
        to: String,
        /// Event number.
        event: Dim,
    },
    /// Waits for `event`.
    WaitEvent {
        /// Signalling pipe.
        from: String,
        /// Waiting pipe.
        to: String,
        /// Event number.
        event: Dim,
    },
    /// Waits until the pipe (or all of the core's, without one) is idle.
    Barrier {
        /// The pipe.
        pipe: Option<String>,
    },
}

impl Kernel {
    /// The parameter that stands for the memory of this one: what is written may be one buffer under several shapes, so written
    /// parameters of one type count as the same memory.
    pub fn memory_of(&self, id: ParamId) -> ParamId {
        let written = |param: &Param| param.access != Access::Read;
        let Some(param) = self.params.get(id.0 as usize).filter(|param| written(param)) else { return id };
        let same = |other: &Param| written(other) && other.dtype == param.dtype;
        self.params.iter().position(same).map_or(id, |first| ParamId(first as u32))
    }
}

impl Layout {
    /// A matrix column by column: what a transposed matrix is, seen as the matrix.
    pub const COLUMNS: Layout = Layout::Fractal(Fractal { outer: Order::N, inner: Order::N, block: [1, 1] });

    /// Elements that a `rows × columns` matrix (or any row-major shape) takes, padding included.
    pub fn elements(&self, shape: &[usize]) -> Option<usize> {
        match (self, shape) {
            (Layout::Fractal(f), [rows, columns]) => {
                let [r, c] = f.block;
                let (rows, columns) = (rows.div_ceil(r).checked_mul(r)?, columns.div_ceil(c).checked_mul(c)?);
                rows.checked_mul(columns)
            }
            (Layout::Fractal(_), _) => None,
            (Layout::RowMajor, shape) => tarsia_tensor::element_count(shape),
        }
    }

    /// Symbolic [`Layout::elements`].
    pub fn symbolic_elements(&self, shape: &[Dim]) -> Dim {
        match (self, shape) {
            (Layout::Fractal(f), [rows, columns]) => {
                let whole = |size: &Dim, block: usize| size.ceil_div(&Dim::from(block)) * Dim::from(block);
                whole(rows, f.block[0]) * whole(columns, f.block[1])
            }
            (_, shape) => Dim::product(shape),
        }
    }
}

impl Fractal {
    /// The axis along which rows (or columns) of blocks lie one behind the other, at one distance also from block to block.
    pub fn runs_along(&self) -> Option<usize> {
        match (self.outer, self.inner) {
            (Order::N, Order::Z) => Some(0),
            (Order::Z, Order::N) => Some(1),
            _ => None,
        }
    }

    /// The position of element `(row, column)` of a `rows × columns` matrix.
    pub fn position(&self, rows: usize, columns: usize, row: usize, column: usize) -> usize {
        let [r, c] = self.block;
        let (blocks_down, blocks_across) = (rows.div_ceil(r), columns.div_ceil(c));
        let block = match self.outer {
            Order::Z => row / r * blocks_across + column / c,
            Order::N => column / c * blocks_down + row / r,
        };
        let inside = match self.inner {
            Order::Z => row % r * c + column % c,
            Order::N => column % c * r + row % r,
        };
        block * r * c + inside
    }
}

impl View {
    /// The whole parameter of this shape.
    pub fn whole(param: ParamId, shape: &[Dim]) -> View {
        let axes = (0..shape.len()).map(|i| Axis { start: Dim::ZERO, steps: vec![(i, Dim::ONE)] }).collect();
        View { param, axes, size: shape.to_vec(), fill: None }
    }
}

impl Region {
    /// The box of this size at a tile's origin.
    pub fn at_origin(tile: TileId, size: Vec<Dim>) -> Region {
        Region { tile, slot: Dim::ZERO, offset: vec![Dim::ZERO; size.len()], size }
    }
}

impl Step {
    /// The programs inside this one.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        let inside: [Option<&Program>; 2] = match self {
            Step::If { then_branch, else_branch, .. } => [Some(then_branch), Some(else_branch)],
            Step::Loop(step) => [Some(&step.body), None],
            Step::Scan(step) => [Some(&step.body), None],
            _ => [None, None],
        };
        inside.into_iter().flatten()
    }
}

impl Program {
    /// Data of a constant that are not there, of the program or one inside it.
    pub fn missing(&self) -> Option<&Absent> {
        let own = self.constants.iter().find_map(|constant| constant.data.bytes().err());
        own.or_else(|| self.steps.iter().flat_map(Step::programs).find_map(Program::missing))
    }

    /// The symbols that inputs and host results bind.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut symbols = BTreeSet::new();
        self.buffers.iter().flat_map(|buffer| &buffer.shape).for_each(|dim| dim.collect_symbols(&mut symbols));
        symbols
    }
}
