//! What work costs on a machine, in cycles of one core.

use smallvec::SmallVec;
use tarsia_tensor::DType;

use super::{Machine, Path};
use crate::{
    Instr, Kernel, Opcode,
    optable::Class,
    verify::{self, Runner},
};

/// What an instruction costs on its pipe when it has the memories for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Cycles beside the work, whatever came before.
    pub issue_cycles: f64,
    /// Further cycles if the pipe was idle, or the instruction needs what the one before it on the pipe wrote.
    pub head_cycles: f64,
    /// Cycles of the work.
    pub path_cycles: f64,
    /// Bytes moved; 0 for what is no move.
    pub bytes: f64,
}

/// What a move looks like from the side that has fewer, longer runs of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MoveShape {
    /// Bytes in all, as they are at the source.
    pub bytes: f64,
    /// Runs of consecutive bytes in device memory; 1 if neither side is there.
    pub bursts: f64,
    /// Bytes of each run.
    pub burst_bytes: f64,
    /// Whether every run in device memory starts at a multiple of 512 bytes from the first.
    pub aligned: bool,
    /// Whether the layout changes on the way.
    pub relaid: bool,
}

/// An operand of an instruction as it is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Sizes of the axes; none for a number.
    pub size: SmallVec<[i64; 4]>,
    /// The byte address of its tile's slot, where it is placed.
    pub address: Option<usize>,
}

impl Extent {
    /// How many elements it has.
    pub fn elements(&self) -> f64 {
        self.size.iter().map(|&size| size.max(0) as f64).product()
    }
}

impl Machine {
    /// Seconds that this many cycles take.
    pub fn seconds(&self, cycles: f64) -> f64 {
        cycles / self.clock.hertz
    }

    /// Cycles to move `bytes` along a path.
    pub fn path_cycles(&self, path: &Path, bytes: usize) -> f64 {
        path.startup_cycles + bytes as f64 / path.bytes_per_cycle
    }

    /// Cycles for an instruction over `elements`; `None` where no unit computes it in this type.
    pub fn vector_cycles(&self, class: Class, function: &str, dtype: DType, elements: usize) -> Option<f64> {
        let rate = self.unit(class, function, dtype)?.rate(class, function, dtype)?;
        Some(rate.startup_cycles + elements as f64 / rate.per_cycle)
    }

    /// Cycles for a matrix product `m × k` by `k × n`; `None` where the types have none.
    pub fn mmad_cycles(&self, a: DType, b: DType, [m, n, k]: [usize; 3]) -> Option<f64> {
        let (_, product) = self.product(a, b)?;
        let whole = |size: usize, granule: usize| (size.div_ceil(granule) * granule) as f64;
        let [gm, gn, gk] = product.granule;
        Some(product.startup_cycles + whole(m, gm) * whole(n, gn) * whole(k, gk) / product.per_cycle)
    }

    /// Cycles to start a kernel.
    pub fn launch_cycles(&self) -> f64 {
        self.launch.cycles
    }

    /// Bytes per second that all cores together get from a space (unbounded if the description says nothing).
    pub fn shared_bandwidth(&self, space: &str) -> f64 {
        let rate = self.space(space).and_then(|space| space.bytes_per_cycle);
        rate.map_or(f64::INFINITY, |rate| rate * self.clock.hertz)
    }

    /// The cost of a move along a path.
    pub fn move_cost(&self, path: &Path, shape: &MoveShape) -> Cost {
        Cost {
            issue_cycles: path.startup_cycles,
            head_cycles: 0.0,
            path_cycles: shape.bytes / path.bytes_per_cycle,
            bytes: shape.bytes,
        }
    }

    /// The cost of an instruction that is no move, with its operands' extents, destinations first.
    ///
    /// # Errors
    /// If no unit of the machine runs it: says why.
    pub fn instr_cost(&self, kernel: &Kernel, instr: &Instr, operands: &[Extent]) -> Result<Cost, String> {
        let Runner::Unit(unit) = verify::runner(self, kernel, instr, verify::Stage::Routed)? else {
            return Err("a move has the cost of its path".into());
        };
        let class = instr.op.row().class;
        if class == Class::Matrix {
            return self.product_cost(kernel, instr, operands);
        }
        let (function, dtype) = (instr.op.function(), verify::compute_type(kernel, instr).ok_or("it has no type")?);
        let rate = unit.rate(class, function, dtype).ok_or("it has no rate")?;
        // A reduction reads more than it writes, a broadcast the other way round.
        let elements = operands.iter().map(Extent::elements).fold(0.0, f64::max);
        let path_cycles = elements / rate.per_cycle;
        Ok(Cost { issue_cycles: rate.startup_cycles, path_cycles, ..Cost::default() })
    }

    fn product_cost(&self, kernel: &Kernel, instr: &Instr, operands: &[Extent]) -> Result<Cost, String> {
        let dtype = |at: usize| instr.src.get(at).and_then(|operand| kernel.dtype_of(operand));
        let (Some(a), Some(b), [acc, left, ..]) = (dtype(0), dtype(1), operands) else {
            return Err("a matrix product takes three arrays".into());
        };
        let (_, product) = self.product(a, b).ok_or_else(|| format!("no product of {a} and {b}"))?;
        let [m, n, k] = product_sizes(acc, left);
        let whole = |size: f64, granule: usize| (size / granule as f64).ceil() * granule as f64;
        let [gm, gn, gk] = product.granule;
        let path_cycles = whole(m, gm) * whole(n, gn) * whole(k, gk) / product.per_cycle;
        Ok(Cost { issue_cycles: product.startup_cycles, path_cycles, ..Cost::default() })
    }

    /// The data path of a copy.
    ///
    /// # Errors
    /// If there is none: says why.
    pub fn path_of(&self, kernel: &Kernel, instr: &Instr) -> Result<&Path, String> {
        match (&instr.op, verify::runner(self, kernel, instr, verify::Stage::Routed)?) {
            (Opcode::Copy { .. }, Runner::Path(path)) => Ok(path),
            _ => Err("no copy".into()),
        }
    }
}

/// Rows, columns and depth of a product: further axes of the left operand belong to the depth.
fn product_sizes(acc: &Extent, left: &Extent) -> [f64; 3] {
    let rows = acc.size.first().map_or(1.0, |&m| m.max(0) as f64);
    [rows, acc.elements() / rows.max(1.0), left.elements() / rows.max(1.0)]
}
