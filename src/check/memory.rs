//! The memory that a program needs, as a function of its symbols.

use serde::Serialize;
use tarsia_tensor::{DType, Dim, Symbol};
use tarsia_tile::{BufferId, Port, Program, Step, plan::Plan};

use super::{Size, Sizes};

/// Bytes that a program needs to run.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Constants, as the kernels read them.
    pub constants: u64,
    /// Inputs, which the caller holds.
    pub inputs: Size,
    /// Outputs.
    pub outputs: Size,
    /// The most that values between kernels take at once, outputs included. Alignment may add a little to it, and computing in
    /// place saves some.
    pub buffers: Size,
    /// What is allocated for them, if all symbols have values; bodies of loops and branches apart.
    pub arena: Option<u64>,
}

impl Memory {
    pub(super) fn new(program: &Program, sizes: &Sizes) -> Memory {
        let ports = |ports: &[Port]| ports.iter().fold(Dim::ZERO, |sum, port| sum + of_port(program, port));
        let bind = |symbol: &Symbol| sizes.get(symbol.name()).copied();
        let buffers = Size::largest(&peak(program), sizes);
        let arena = buffers.value.and_then(|_| Plan::new(program).bind(&bind, usize::MAX).ok());
        Memory {
            constants: constants(program),
            inputs: Size::new(&ports(&program.inputs), sizes),
            outputs: Size::new(&ports(&program.outputs), sizes),
            buffers,
            arena: arena.map(|arena| arena.bytes() as u64),
        }
    }
}

/// Bytes of the constants, those of bodies included.
fn constants(program: &Program) -> u64 {
    let own = program.constants.iter().map(|constant| constant.data.len() as u64);
    own.chain(program.steps.iter().flat_map(bodies).map(constants)).fold(0, u64::saturating_add)
}

/// What the temporary buffers take at the steps at which they take most: sizes of which none is known to be at most another.
fn peak(program: &Program) -> Vec<Dim> {
    let plan = Plan::new(program);
    let mut change = vec![Dim::ZERO; program.steps.len() + 2];
    for (at, buffer) in program.buffers.iter().enumerate() {
        if let Some((first, last)) = plan.lifetime(BufferId(at as u32)) {
            let bytes = bytes(buffer.dtype, buffer.layout.symbolic_elements(&buffer.shape));
            change[first] = change[first].clone() + bytes.clone();
            change[last + 1] = change[last + 1].clone() - bytes;
        }
    }
    let (mut alive, mut most) = (Dim::ZERO, Vec::new());
    for (at, change) in change.into_iter().enumerate() {
        alive = alive + change;
        let bodies = program.steps.get(at).map(bodies).unwrap_or_default();
        let inner: Vec<Dim> = bodies.into_iter().flat_map(peak).collect();
        keep_largest(&mut most, alive.clone());
        inner.into_iter().for_each(|inner| keep_largest(&mut most, alive.clone() + inner));
    }
    most
}

fn keep_largest(most: &mut Vec<Dim>, size: Dim) {
    if !most.iter().any(|known| size.at_most(known)) {
        most.retain(|known| !known.at_most(&size));
        most.push(size);
    }
}

fn bodies(step: &Step) -> Vec<&Program> {
    match step {
        Step::Launch { .. } | Step::Host { .. } => Vec::new(),
        Step::If { then_branch, else_branch, .. } => vec![&**then_branch, &**else_branch],
        Step::Loop(step) => vec![&step.body],
        Step::Scan(step) => vec![&step.body],
    }
}

fn of_port(program: &Program, port: &Port) -> Dim {
    let dtype = program.buffers.get(port.buffer.0 as usize).map_or(DType::U8, |buffer| buffer.dtype);
    bytes(dtype, Dim::product(&port.shape))
}

fn bytes(dtype: DType, elements: Dim) -> Dim {
    (elements * Dim::from(dtype.bits())).ceil_div(&Dim::Const(8))
}
