//! The machine as data: memory spaces, data paths, units, events and their rates, read from TOML.
//!
//! ```text
//! Machine ─┬─ spaces   name, bytes, alignment, layouts          shared by the chip or private to a core
//!          ├─ cores    kinds of core, how many, their pipes (in-order queues) and spaces
//!          ├─ paths    from space ─► to space, on a pipe: bytes/cycle, start-up, transforms on the way
//!          ├─ units    on a pipe: classes of instruction, operands' spaces and layouts, rates per element type
//!          └─ events   pairs of pipes that can signal each other; flags between cores
//! ```
//!
//! A new accelerator is a new file in `targets/`, or a user's own; a variant of one says `extends` and what differs. Every number names its `source`. Nothing else in the compiler knows a
//! machine by name: lowering, the verifier, the cost model and the simulator all ask this description.

mod cost;
mod load;
mod print;
mod query;
mod route;
mod schema;
mod validate;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use tarsia_tensor::DType;

use crate::{Fractal, optable::Class};

pub use cost::{Cost, Extent, MoveShape};
pub use load::MachineError;
pub use route::{End, Hop, RouteError, Transfer};

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name, which programs carry.
    pub name: String,
    /// The machine of which it is a variant; what the variant's file says has already been merged into what that one's says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// What it is, in a sentence.
    pub description: String,
    /// Clock of all pipes.
    pub clock: Clock,
    /// Cost of starting a kernel.
    pub launch: Latency,
    /// Kinds of core.
    #[serde(rename = "core")]
    pub cores: Vec<CoreKind>,
    /// Memory spaces; buffers live in the one called `gm`.
    #[serde(rename = "space")]
    pub spaces: Vec<Space>,
    /// Data paths.
    #[serde(rename = "path", default)]
    pub paths: Vec<Path>,
    /// Execution units.
    #[serde(rename = "unit", default)]
    pub units: Vec<Unit>,
    /// Pairs of pipes with events.
    #[serde(rename = "event", default)]
    pub events: Vec<Events>,
    /// Flags between cores.
    #[serde(rename = "flag", default)]
    pub flags: Vec<Flags>,
}

/// The space in which buffers live.
pub const GLOBAL: &str = "gm";

/// The clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Cycles per second.
    pub hertz: f64,
    /// Where the number comes from.
    pub source: String,
}

/// A fixed cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Cycles.
    pub cycles: f64,
    /// Where the number comes from.
    pub source: String,
}

/// A kind of core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreKind {
    /// Its name.
    pub name: String,
    /// How many the chip has.
    pub count: usize,
    /// How many of them work on one item together, where a kernel uses them beside another kind of core.
    #[serde(default = "one")]
    pub lanes: usize,
    /// Its pipes: in-order queues that run concurrently.
    pub pipes: Vec<String>,
    /// Instructions that a pipe's queue holds, the running one included; unbounded if absent.
    #[serde(default)]
    pub queue: Option<usize>,
    /// Cycles from one instruction to the next where they are issued.
    #[serde(default)]
    pub issue_cycles: f64,
    /// The spaces that each core has for itself.
    #[serde(default)]
    pub spaces: Vec<String>,
    /// Where the numbers come from.
    pub source: String,
}

fn one() -> usize {
    1
}

fn once() -> f64 {
    1.0
}

/// Who sees a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every core.
    Chip,
    /// One core; each has its own.
    Core,
}

/// A memory space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Its name.
    pub name: String,
    /// Who sees it.
    pub scope: Scope,
    /// The space of whose memory this one is a part, for scratch that lies in device memory.
    #[serde(default)]
    pub backing: Option<String>,
    /// Capacity; per core if private.
    pub bytes: u64,
    /// Alignment of addresses in bytes.
    pub alignment: usize,
    /// Layouts that tiles in it may have.
    pub layouts: Vec<LayoutRule>,
    /// Bytes per cycle that all users together get, where that is less than the sum of the paths.
    #[serde(default)]
    pub bytes_per_cycle: Option<f64>,
    /// The cache between it and the cores.
    #[serde(default)]
    pub cache: Option<Cache>,
    /// How accesses to it are cut into requests; whole and of the asked size if absent.
    #[serde(default)]
    pub requests: Option<Requests>,
    /// Banks, where accesses can collide.
    #[serde(default)]
    pub banks: Option<Banks>,
    /// Where the numbers come from.
    pub source: String,
}

/// A cache that all cores share: what is read comes into it, what is written stays in it until it must make room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Capacity.
    pub bytes: u64,
    /// Bytes per cycle that all users together get from it.
    #[serde(default)]
    pub bytes_per_cycle: Option<f64>,
    /// Cycles between two requests for one address: the cores that read it at one time wait for each other.
    #[serde(default)]
    pub same_address_cycles: Option<f64>,
    /// Where the numbers come from.
    pub source: String,
}

/// How accesses to a space are cut into requests: runs of bytes that begin at multiples of `unit` cost their bytes, others all the
/// lines that they touch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Bytes of the smallest request.
    pub unit: usize,
    /// Bytes of the largest request, which is also how addresses are aligned at best.
    pub line: usize,
    /// Where the numbers come from.
    pub source: String,
}

/// Banks of a space: bits of the address choose group, then bank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Banks {
    /// Groups that work independently.
    pub groups: usize,
    /// Banks in each group.
    pub per_group: usize,
    /// Consecutive bytes in one group before the next follows.
    pub width: usize,
    /// How many times longer an instruction takes that reads two operands from one group at a time.
    #[serde(default = "once")]
    pub read_conflict: f64,
    /// How many times longer an instruction takes that writes to a group from which it reads.
    #[serde(default = "once")]
    pub write_conflict: f64,
    /// How many times longer a move out of the space takes that begins while another pipe of the core writes into it.
    #[serde(default = "once")]
    pub beside_write: f64,
}

/// A pattern of layouts, for some element types.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct LayoutRule {
    /// The layouts.
    pub layout: LayoutPattern,
    /// The element types it holds for; all if empty.
    pub dtypes: Vec<DType>,
}

/// A set of layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutPattern {
    /// Row-major.
    RowMajor,
    /// Any fractal layout.
    AnyFractal,
    /// One fractal layout.
    Fractal(Fractal),
}

/// Something a data path can do to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transform {
    /// Between row-major and fractal, or between fractals.
    Layout,
    /// Reordering axes, so that the innermost of the source is not the innermost of the destination.
    Transpose,
    /// Steps other than 1.
    Strided,
    /// One source element for several of the destination.
    Broadcast,
    /// Windows that overlap: a source axis read along two destination axes.
    Im2col,
    /// A number where the source ends.
    Pad,
    /// Another element type.
    Convert,
    /// Scaling and rounding to a narrow integer.
    Quantise,
}

/// Runs in device memory that do not begin at multiples of a granule: each granule that they meet is merged with what is there.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misaligned {
    /// Bytes of a granule.
    pub bytes: usize,
    /// Cycles for each.
    pub cycles: f64,
}

/// A data path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Source space.
    pub from: String,
    /// Destination space.
    pub to: String,
    /// The pipe it runs on.
    pub pipe: String,
    /// The kind of core; may be left out where only one kind has the pipe.
    #[serde(default)]
    pub core: String,
    /// Throughput.
    pub bytes_per_cycle: f64,
    /// Cost of each move beside its bytes.
    pub startup_cycles: f64,
    /// Further cost where the pipe was idle: the latency of the first byte.
    #[serde(default)]
    pub head_cycles: f64,
    /// Cost of each run of consecutive bytes beside its bytes.
    #[serde(default)]
    pub burst_cycles: f64,
    /// Further cost of each run that the cache does not hold.
    #[serde(default)]
    pub miss_cycles: f64,
    /// Bytes of a line of the cache through which elements go one by one; a run is a line then. Moves in bulk have none.
    #[serde(default)]
    pub line_bytes: Option<u32>,
    /// What runs cost that begin between granules of device memory, where that is more than their bytes.
    #[serde(default)]
    pub misaligned: Option<Misaligned>,
    /// Rates of moves that gather windows; the plain one if none fits.
    #[serde(rename = "window", default)]
    pub windows: Vec<WindowRate>,
    /// Activations that can be applied on the way.
    #[serde(default)]
    pub activations: Vec<Activation>,
    /// Which scale factors the path takes where it quantises.
    #[serde(default)]
    pub scales: Vec<Scale>,
    /// Whether the move can begin while the instruction that writes its source still runs, as results become final.
    #[serde(default)]
    pub follows: bool,
    /// Bytes that the first element of a tile's part must be a multiple of, from where the tile begins: what moves or computes whole
    /// blocks of this size asks for it.
    #[serde(default = "one")]
    pub alignment: usize,
    /// What it can do on the way.
    #[serde(default)]
    pub transforms: Vec<Transform>,
    /// The conversions offered; all if empty and `convert` is among the transforms.
    #[serde(default)]
    pub conversions: Vec<Conversion>,
    /// Where the numbers come from.
    pub source: String,
}

/// An activation that a data path can apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, else `x` times a number.
    LeakyRelu,
    /// `x` above 0, else `x` times a number of its column.
    Prelu,
}

/// How many scale factors there are where numbers are quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// One.
    Tensor,
    /// One for every column.
    Channel,
}

/// The rate of a move that gathers windows: `bytes / (base + stride · per_stride + rows · per_row)` bytes per cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRate {
    /// The strides it holds for; all if empty.
    #[serde(default)]
    pub strides: Vec<usize>,
    /// The fewest rows of a window it holds for.
    #[serde(default = "one")]
    pub least_rows: usize,
    /// Bytes that arrive in the cycles of the formula.
    pub bytes: f64,
    /// Cycles whatever the window.
    pub base: f64,
    /// Cycles for each unit of stride.
    #[serde(default)]
    pub per_stride: f64,
    /// Cycles for each row of a window.
    #[serde(default)]
    pub per_row: f64,
    /// Where the numbers come from.
    pub source: String,
}

/// A conversion of element types, written `f32 -> f16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Conversion {
    /// Source type.
    pub from: DType,
    /// Destination type.
    pub to: DType,
}

/// An execution unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The pipe it runs on.
    pub pipe: String,
    /// The kind of core; may be left out where only one kind has the pipe.
    #[serde(default)]
    pub core: String,
    /// Classes of instruction it runs.
    pub classes: Vec<Class>,
    /// Bytes of an operand that it works on in one step; every row takes whole steps.
    #[serde(default = "one")]
    pub step_bytes: usize,
    /// Bytes that the first element of a tile's part must be a multiple of, from where the tile begins: what moves or computes whole
    /// blocks of this size asks for it.
    #[serde(default = "one")]
    pub alignment: usize,
    /// Where operands may be, by role; a role that is missing follows `dst` if written, else `src`.
    #[serde(rename = "operand")]
    pub operands: Vec<OperandRule>,
    /// Element types and throughput; the first row that fits counts, an instruction without one is not supported.
    #[serde(rename = "rate", default)]
    pub rates: Vec<Rate>,
    /// The matrix products it has.
    #[serde(rename = "product", default)]
    pub products: Vec<Product>,
}

/// Spaces and layouts of an operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperandRule {
    /// The operand's role in the op table.
    pub role: String,
    /// Spaces allowed, the preferred one first.
    pub spaces: Vec<String>,
    /// Layouts allowed, the preferred one first.
    pub layouts: Vec<LayoutRule>,
}

/// Throughput of some instructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Classes; all of the unit's if empty.
    #[serde(default)]
    pub classes: Vec<Class>,
    /// Functions (`exp`, `add`, `sort`…); all if empty.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Element types in which is computed.
    #[serde(with = "schema::dtypes")]
    pub dtypes: Vec<DType>,
    /// Elements per cycle.
    pub per_cycle: f64,
    /// Cost of each instruction beside its elements.
    #[serde(default)]
    pub startup_cycles: f64,
    /// Further cost where the pipe was idle, or an operand comes from the instruction before.
    #[serde(default)]
    pub head_cycles: f64,
    /// Cost of each result of a reduction along the last axis, and of each row that an index chooses, beside its elements.
    #[serde(default)]
    pub row_cycles: f64,
    /// Where the numbers come from.
    pub source: String,
}

/// A matrix product: element types and throughput.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Type of the left operand.
    #[serde(with = "schema::dtype")]
    pub a: DType,
    /// Type of the right operand.
    #[serde(with = "schema::dtype")]
    pub b: DType,
    /// Type of the accumulator.
    #[serde(with = "schema::dtype")]
    pub acc: DType,
    /// The mode that trades accuracy for speed; absent for the plain product.
    #[serde(default)]
    pub mode: Option<String>,
    /// Multiply-adds per cycle.
    pub per_cycle: f64,
    /// Sizes (m, n, k) are rounded up to multiples of these.
    pub granule: [usize; 3],
    /// Largest sizes (m, n, k) of one instruction.
    #[serde(default)]
    pub limit: Option<[usize; 3]>,
    /// Cost of each instruction beside its products.
    #[serde(default)]
    pub startup_cycles: f64,
    /// Further cost where the pipe was idle.
    #[serde(default)]
    pub head_cycles: f64,
    /// Where the numbers come from.
    pub source: String,
}

/// Events between pipes of a core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Pairs (signalling pipe, waiting pipe).
    pub pairs: Vec<[String; 2]>,
    /// Event numbers per pair: 0 up to, not including, this.
    pub ids: usize,
    /// Cycles from signal to release.
    #[serde(default)]
    pub cycles: f64,
    /// Where the numbers come from.
    pub source: String,
}

/// Flags between cores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    /// Kind of the signalling core.
    pub from: String,
    /// Kind of the waiting core.
    pub to: String,
    /// Flag numbers: 0 up to, not including, this.
    pub ids: usize,
    /// Cycles from signal to release.
    pub cycles: f64,
    /// Where the numbers come from.
    pub source: String,
}
