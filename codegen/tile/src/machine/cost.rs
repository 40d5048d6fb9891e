//! What work costs on a machine, in cycles of one core.
//!
//! ```text
//! instruction ─► issue + (head, if the pipe was idle) + max(path, bytes / the share of what cores have in common)
//!                              Cost::{issue, head, path}_cycles             Cost::bytes, shared out by the simulator
//! ```
//!
//! All numbers are those of the machine's description; the formulas are here and nowhere else.

mod shape;
mod vector;

#[cfg(test)]
mod tests;

use tarsia_tensor::DType;

use super::{Machine, Path, Requests, WindowRate};
use crate::{
    Instr, Kernel, Opcode,
    optable::Class,
    verify::{self, Runner},
};

pub use shape::{Extent, MoveShape, Window};

/// What an instruction costs on its pipe when it has the memories for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Cycles beside the work, whatever came before.
    pub issue_cycles: f64,
    /// Further cycles if the pipe was idle, or the instruction needs what the one before it on the pipe wrote.
    pub head_cycles: f64,
    /// Cycles of the work.
    pub path_cycles: f64,
    /// Further cycles of the work if nothing of what is moved is in the cache.
    pub miss_cycles: f64,
    /// Bytes that a move asks of device memory, whole requests; 0 for what is no move.
    pub bytes: f64,
}

impl Cost {
    /// Cycles on a pipe that was idle.
    pub fn alone(&self) -> f64 {
        self.issue_cycles + self.head_cycles + self.path_cycles
    }

    /// Cycles on a pipe that is never idle.
    pub fn streaming(&self) -> f64 {
        self.issue_cycles + self.path_cycles
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
        Some(rate.startup_cycles + rate.head_cycles + elements as f64 / rate.per_cycle)
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

    /// How accesses to a space, or to the space of whose memory it is a part, are cut into requests.
    pub fn requests(&self, space: &str) -> Option<&Requests> {
        let space = self.space(space)?;
        let behind = || space.backing.as_deref().and_then(|backing| self.space(backing));
        space.requests.as_ref().or_else(|| behind()?.requests.as_ref())
    }

    /// The cost of a move along a path.
    pub fn move_cost(&self, path: &Path, shape: &MoveShape) -> Cost {
        if let Some(line) = path.line_bytes {
            return path.line_cost(shape, f64::from(line.max(1)));
        }
        let requests = self.requests(&path.from).or_else(|| self.requests(&path.to));
        let bytes = requests.map_or(shape.bytes, |requests| shape.requested(requests));
        let bursts = if requests.is_some() { shape.bursts } else { 0.0 };
        let rate = shape.window.and_then(|window| path.window_rate(window)).unwrap_or(path.bytes_per_cycle);
        let merged = path.misaligned.map_or(0.0, |granule| shape.bursts * shape.granules(&granule) * granule.cycles);
        Cost {
            issue_cycles: path.startup_cycles,
            head_cycles: path.head_cycles,
            path_cycles: (bytes / rate).max(merged) + bursts * path.burst_cycles,
            miss_cycles: bursts * path.miss_cycles,
            bytes,
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
        if instr.op.row().class == Class::Matrix {
            return self.product_cost(kernel, instr, operands);
        }
        vector::cost(self, unit, kernel, instr, operands)
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
        let (issue_cycles, head_cycles) = (product.startup_cycles, product.head_cycles);
        Ok(Cost { issue_cycles, head_cycles, path_cycles, ..Cost::default() })
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

impl Path {
    /// Bytes per cycle of a move that gathers windows, where the path has a rate of its own for them.
    pub fn window_rate(&self, window: Window) -> Option<f64> {
        let fits = |rate: &&WindowRate| {
            rate.least_rows <= window.rows && (rate.strides.is_empty() || rate.strides.contains(&window.stride))
        };
        let rate = self.windows.iter().find(fits)?;
        Some(rate.bytes / (rate.base + window.stride as f64 * rate.per_stride + window.rows as f64 * rate.per_row))
    }
}

impl Path {
    /// The cost of a move whose elements go one by one through a cache with lines of so many bytes; no bytes are fetched twice.
    fn line_cost(&self, shape: &MoveShape, line: f64) -> Cost {
        let lines = shape.bursts * (shape.burst_bytes / line).ceil();
        Cost {
            issue_cycles: self.startup_cycles,
            head_cycles: self.head_cycles,
            path_cycles: shape.bytes / self.bytes_per_cycle + lines * self.burst_cycles,
            miss_cycles: lines * self.miss_cycles,
            bytes: lines * line,
        }
    }
}

/// Rows, columns and depth of a product: further axes of the left operand belong to the depth.
fn product_sizes(acc: &Extent, left: &Extent) -> [f64; 3] {
    let rows = acc.size.first().map_or(1.0, |&m| m.max(0) as f64);
    [rows, acc.elements() / rows.max(1.0), left.elements() / rows.max(1.0)]
}
