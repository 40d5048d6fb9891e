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
//! A new accelerator is a new file in `targets/`. Every number names its `source`. Nothing else in the compiler knows a
//! machine by name: lowering, the verifier, the cost model and the simulator all ask this description.

mod cost;
mod print;
mod route;
mod schema;
mod validate;

#[cfg(test)]
mod tests;

use std::path::Path as FilePath;

use serde::Deserialize;
use tarsia_tensor::DType;
use thiserror::Error;

use crate::{Fractal, Layout, optable::Class};

pub use route::{End, Hop, RouteError, Transfer};

/// The machines that come with the compiler: name and description file.
const BUILTIN: &[(&str, &str)] = &[
    ("cpu", include_str!("../targets/cpu.toml")),
    ("twopipe", include_str!("../targets/twopipe.toml")),
    ("ascend910b2", include_str!("../targets/ascend910b2.toml")),
];

/// A machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name, which programs carry.
    pub name: String,
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Cycles per second.
    pub hertz: f64,
    /// Where the number comes from.
    pub source: String,
}

/// A fixed cost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Cycles.
    pub cycles: f64,
    /// Where the number comes from.
    pub source: String,
}

/// A kind of core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// The spaces that each core has for itself.
    #[serde(default)]
    pub spaces: Vec<String>,
    /// Where the numbers come from.
    pub source: String,
}

fn one() -> usize {
    1
}

/// Who sees a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every core.
    Chip,
    /// One core; each has its own.
    Core,
}

/// A memory space.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// Banks, where accesses can collide.
    #[serde(default)]
    pub banks: Option<Banks>,
    /// Where the numbers come from.
    pub source: String,
}

/// Banks of a space: bits of the address choose group, then bank.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Banks {
    /// Groups that work independently.
    pub groups: usize,
    /// Banks in each group.
    pub per_group: usize,
    /// Consecutive bytes in one group before the next follows.
    pub width: usize,
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

/// A data path.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// What it can do on the way.
    #[serde(default)]
    pub transforms: Vec<Transform>,
    /// The conversions offered; all if empty and `convert` is among the transforms.
    #[serde(default)]
    pub conversions: Vec<Conversion>,
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Classes; all of the unit's if empty.
    #[serde(default)]
    pub classes: Vec<Class>,
    /// Functions (`exp`, `add`, `sort`…); all if empty.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Element types in which is computed.
    #[serde(deserialize_with = "schema::dtype::many")]
    pub dtypes: Vec<DType>,
    /// Elements per cycle.
    pub per_cycle: f64,
    /// Cost of each instruction beside its elements.
    #[serde(default)]
    pub startup_cycles: f64,
    /// Where the numbers come from.
    pub source: String,
}

/// A matrix product: element types and throughput.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Type of the left operand.
    #[serde(deserialize_with = "schema::dtype::one")]
    pub a: DType,
    /// Type of the right operand.
    #[serde(deserialize_with = "schema::dtype::one")]
    pub b: DType,
    /// Type of the accumulator.
    #[serde(deserialize_with = "schema::dtype::one")]
    pub acc: DType,
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
    /// Where the numbers come from.
    pub source: String,
}

/// Events between pipes of a core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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

/// Why a machine description cannot be used.
#[derive(Debug, Error)]
pub enum MachineError {
    /// There is no built-in machine of this name.
    #[error("there is no machine `{name}`; there are: {known} (or give a description file ending in .toml)")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The file cannot be read.
    #[error("cannot read the machine description {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, or not of this schema: names the key, its place, and the keys allowed.
    #[error("the machine description is not well-formed:\n{0}")]
    Syntax(#[from] toml::de::Error),
    /// Well-formed, but contradictory.
    #[error("the machine description `{name}` has {} faults:\n{}", .faults.len(), .faults.join("\n"))]
    Invalid {
        /// The machine's name.
        name: String,
        /// All faults.
        faults: Vec<String>,
    },
}

impl Machine {
    /// Names of the machines that come with the compiler.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// A machine that comes with the compiler.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn builtin(name: &str) -> Result<Machine, MachineError> {
        let found = BUILTIN.iter().find(|(known, _)| *known == name);
        let (_, text) = found.ok_or_else(|| MachineError::Unknown {
            name: name.to_owned(),
            known: Machine::builtin_names().collect::<Vec<_>>().join(", "),
        })?;
        Machine::from_toml(text)
    }

    /// The machine that a description file says.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`Machine::from_toml`].
    pub fn load(path: &FilePath) -> Result<Machine, MachineError> {
        let read = |error| MachineError::Read { path: path.display().to_string(), error };
        Machine::from_toml(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// The machine that this text describes.
    ///
    /// # Errors
    /// If the text is not of the schema (unknown keys included), or contradicts itself: then all faults are listed.
    pub fn from_toml(text: &str) -> Result<Machine, MachineError> {
        let mut machine: Machine = toml::from_str(text)?;
        let faults = validate::complete(&mut machine);
        if faults.is_empty() { Ok(machine) } else { Err(MachineError::Invalid { name: machine.name, faults }) }
    }

    /// The space of this name.
    pub fn space(&self, name: &str) -> Option<&Space> {
        self.spaces.iter().find(|space| space.name == name)
    }

    /// The kind of core of this name.
    pub fn core(&self, name: &str) -> Option<&CoreKind> {
        self.cores.iter().find(|core| core.name == name)
    }

    /// Cores of all kinds.
    pub fn core_count(&self) -> usize {
        self.cores.iter().map(|core| core.count).sum()
    }

    /// The path between two spaces with these transforms, the fastest if there are several.
    pub fn path(&self, from: &str, to: &str, needed: &[Transform]) -> Option<&Path> {
        let fits =
            |path: &&Path| path.from == from && path.to == to && needed.iter().all(|t| path.transforms.contains(t));
        self.paths.iter().filter(fits).max_by(|a, b| {
            // Of equals, the first.
            a.bytes_per_cycle.total_cmp(&b.bytes_per_cycle).then(std::cmp::Ordering::Greater)
        })
    }

    /// The units that run a class of instructions.
    pub fn units(&self, class: Class) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(move |unit| unit.classes.contains(&class))
    }

    /// The first unit that runs this function of a class in this element type.
    pub fn unit(&self, class: Class, function: &str, dtype: DType) -> Option<&Unit> {
        self.units(class).find(|unit| unit.rate(class, function, dtype).is_some())
    }

    /// Whether an instruction of this class and function can compute in this element type.
    pub fn supports(&self, class: Class, function: &str, dtype: DType) -> bool {
        self.unit(class, function, dtype).is_some()
    }

    /// The element types in which every function of a class can compute, in table order.
    pub fn dtypes(&self, class: Class) -> Vec<DType> {
        DType::ALL.iter().copied().filter(|&dtype| self.supports(class, "", dtype)).collect()
    }

    /// The matrix product with these operand types, and the unit that has it.
    pub fn product(&self, a: DType, b: DType) -> Option<(&Unit, &Product)> {
        self.units(Class::Matrix).find_map(|unit| {
            let product = unit.products.iter().find(|product| product.a == a && product.b == b)?;
            Some((unit, product))
        })
    }

    /// The number of event ids between two pipes.
    pub fn event_ids(&self, from: &str, to: &str) -> usize {
        let has = |events: &&Events| events.pairs.iter().any(|[a, b]| a == from && b == to);
        self.events.iter().find(has).map_or(0, |events| events.ids)
    }

    /// The kind of core that has a pipe.
    pub fn kind_of(&self, pipe: &str) -> Option<&CoreKind> {
        self.cores.iter().find(|core| core.pipes.iter().any(|name| name == pipe))
    }

    /// Whether some core has this pipe.
    pub fn has_pipe(&self, pipe: &str) -> bool {
        self.cores.iter().any(|core| core.pipes.iter().any(|name| name == pipe))
    }

    /// Whether instructions can run concurrently on one core, so that pipes have to be synchronised.
    pub fn has_concurrent_pipes(&self) -> bool {
        self.cores.iter().any(|core| core.pipes.len() > 1)
    }
}

impl Space {
    /// Whether a tile of this type may have this layout here.
    pub fn allows(&self, layout: &Layout, dtype: DType) -> bool {
        self.layouts.iter().any(|rule| rule.allows(layout, dtype))
    }
}

impl LayoutRule {
    /// Whether the rule allows this layout for this type.
    pub fn allows(&self, layout: &Layout, dtype: DType) -> bool {
        let typed = self.dtypes.is_empty() || self.dtypes.contains(&dtype);
        typed
            && match (self.layout, layout) {
                (LayoutPattern::RowMajor, Layout::RowMajor) | (LayoutPattern::AnyFractal, Layout::Fractal(_)) => true,
                (LayoutPattern::Fractal(allowed), Layout::Fractal(fractal)) => allowed == *fractal,
                _ => false,
            }
    }

    /// The layout, if the rule names a single one for this type.
    pub fn single(&self, dtype: DType) -> Option<Layout> {
        let layout = match self.layout {
            LayoutPattern::RowMajor => Layout::RowMajor,
            LayoutPattern::Fractal(fractal) => Layout::Fractal(fractal),
            LayoutPattern::AnyFractal => return None,
        };
        self.allows(&layout, dtype).then_some(layout)
    }
}

impl Path {
    /// Whether the path can change `from` into `to` on the way (equal types need nothing).
    pub fn converts(&self, from: DType, to: DType) -> bool {
        from == to
            || self.transforms.contains(&Transform::Convert)
                && (self.conversions.is_empty() || self.conversions.contains(&Conversion { from, to }))
    }
}

impl Unit {
    /// Where the operand of this role may be: its own rule, else that of `dst` or `src`.
    pub fn operand(&self, role: &str, written: bool) -> Option<&OperandRule> {
        let find = |name: &str| self.operands.iter().find(|rule| rule.role == name);
        find(role).or_else(|| find(if written { "dst" } else { "src" }))
    }

    /// The rate of a function of a class in an element type; the function "" stands for one that no row singles out.
    pub fn rate(&self, class: Class, function: &str, dtype: DType) -> Option<&Rate> {
        self.rates.iter().find(|rate| {
            (rate.classes.is_empty() || rate.classes.contains(&class))
                && (rate.functions.is_empty() || rate.functions.iter().any(|name| name == function))
                && rate.dtypes.contains(&dtype)
        })
    }
}

impl OperandRule {
    /// Whether an array of this type may be in this space with this layout.
    pub fn allows(&self, space: &str, layout: &Layout, dtype: DType) -> bool {
        self.spaces.iter().any(|name| name == space) && self.layouts.iter().any(|rule| rule.allows(layout, dtype))
    }

    /// The preferred layout for this type.
    pub fn preferred_layout(&self, dtype: DType) -> Option<Layout> {
        self.layouts.iter().find_map(|rule| rule.single(dtype))
    }
}
