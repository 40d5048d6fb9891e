//! Instructions that go element by element: steps of a fixed number of bytes, conflicts of banks.
//!
//! Elements that follow each other in all operands are cut into steps together; where an operand is repeated along an axis, or is
//! narrower than its tile, every run begins a step of its own.

use tarsia_tensor::DType;

use super::{Cost, Extent, Machine};
use crate::{
    Instr, Kernel, Opcode, Operand,
    machine::{Banks, Unit},
    optable::Class,
    verify,
};

/// The cost of an instruction on a unit that has rates.
pub(super) fn cost(
    machine: &Machine,
    unit: &Unit,
    kernel: &Kernel,
    instr: &Instr,
    operands: &[Extent],
) -> Result<Cost, String> {
    let class = instr.op.row().class;
    let (function, dtype) = (instr.op.function(), verify::compute_type(kernel, instr).ok_or("it has no type")?);
    let rate = unit.rate(class, function, dtype).ok_or("it has no rate")?;
    // A reduction reads more than it writes, a broadcast the other way round.
    let elements = operands.iter().map(Extent::elements).fold(0.0, f64::max);
    let worked = whole_steps(unit, kernel, instr, operands, dtype, elements);
    let rows = rows_of(class, instr, operands);
    let path_cycles = worked / rate.per_cycle * conflict(machine, kernel, instr, operands) + rows * rate.row_cycles;
    Ok(Cost { issue_cycles: rate.startup_cycles, head_cycles: rate.head_cycles, path_cycles, ..Cost::default() })
}

/// Elements worked on, counting those that fill up the last step of every run.
fn whole_steps(unit: &Unit, kernel: &Kernel, instr: &Instr, operands: &[Extent], dtype: DType, elements: f64) -> f64 {
    let step = unit.step_bytes as f64 * 8.0 / dtype.bits() as f64;
    let run = contiguous(kernel, instr, operands).unwrap_or(elements);
    if step <= 1.0 || run <= 0.0 {
        return elements;
    }
    (elements / run).ceil() * (run / step).ceil() * step
}

/// How many elements follow each other in every operand; `None` if there is no array.
fn contiguous(kernel: &Kernel, instr: &Instr, operands: &[Extent]) -> Option<f64> {
    let largest = operands.iter().max_by(|a, b| a.elements().total_cmp(&b.elements()))?;
    let arrays = instr.dst.iter().chain(&instr.src).zip(operands);
    let runs = arrays.filter_map(|(operand, extent)| run_of(kernel, operand, extent, largest));
    runs.min_by(f64::total_cmp)
}

/// How many elements of the widest operand an operand serves one after the other.
fn run_of(kernel: &Kernel, operand: &Operand, extent: &Extent, widest: &Extent) -> Option<f64> {
    let Operand::Tile(region) = operand else { return None };
    let tile = kernel.tiles.get(region.tile.0 as usize)?;
    let mut run = 1.0;
    for ((&size, &full), &capacity) in extent.size.iter().zip(&widest.size).zip(&tile.shape).rev() {
        // What is repeated, or reduced, along the innermost axes does not interrupt the other operands' runs there.
        if size != full && run > 1.0 {
            return Some(run);
        }
        run *= full.max(0) as f64;
        if size != full || size as usize != capacity {
            return Some(run);
        }
    }
    Some(run)
}

fn reduces_last(instr: &Instr, operands: &[Extent]) -> bool {
    let axis = match instr.op {
        Opcode::Reduce { axis, .. } | Opcode::ArgReduce { axis, .. } => axis,
        _ => return false,
    };
    operands.first().is_some_and(|dst| dst.size[axis.min(dst.size.len())..].iter().all(|&size| size == 1))
}

/// Rows that cost something beside their elements: those that are reduced, and those that an index chooses.
fn rows_of(class: Class, instr: &Instr, operands: &[Extent]) -> f64 {
    match class {
        Class::Gather | Class::Scatter => operands.last().map_or(0.0, Extent::elements),
        _ if reduces_last(instr, operands) => operands.first().map_or(0.0, Extent::elements),
        _ => 0.0,
    }
}

/// How many times longer it takes because operands lie in one group of banks: they advance together, so the addresses at which they
/// begin decide. An operand that is written where it is read disturbs nobody.
fn conflict(machine: &Machine, kernel: &Kernel, instr: &Instr, operands: &[Extent]) -> f64 {
    let split = instr.dst.len().min(operands.len());
    let placed = |operand: &Operand, extent: &Extent| {
        let Operand::Tile(region) = operand else { return None };
        let space = machine.space(&kernel.tiles.get(region.tile.0 as usize)?.space)?;
        let whole = extent.elements() > 1.0;
        Some((space.banks.as_ref()?, extent.address.filter(|_| whole)?))
    };
    let all: Vec<Option<(&Banks, usize)>> =
        instr.dst.iter().chain(&instr.src).zip(operands).map(|(operand, extent)| placed(operand, extent)).collect();
    let (written, read) = all.split_at(split);
    let mut factor = 1.0f64;
    for (at, source) in read.iter().enumerate() {
        let Some((banks, address)) = source else { continue };
        let collides = |other: &&Option<(&Banks, usize)>| {
            other.is_some_and(|(_, other)| other != *address && banks.group(other) == banks.group(*address))
        };
        if read[at + 1..].iter().any(|other| collides(&other)) {
            factor = factor.max(banks.read_conflict);
        }
        if written.iter().any(|other| collides(&other)) {
            factor = factor.max(banks.write_conflict);
        }
    }
    factor
}

impl Banks {
    /// The group in which an address lies.
    pub fn group(&self, address: usize) -> usize {
        address / self.width % self.groups
    }
}
