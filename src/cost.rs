//! The cost of a kernel, from the machine description: what covering minimises.

use tarsia_passes::cover::Rates;
use tarsia_tensor::DType;
use tarsia_tile::{
    Machine,
    machine::{GLOBAL, MoveShape, Transform},
    optable::Class,
};

/// Rates of one core of a machine.
pub(crate) fn model(machine: &Machine) -> Rates {
    const MANY: usize = 1 << 16;
    let rate = |function: &str| {
        let cycles = machine.vector_cycles(Class::Pointwise, function, DType::F32, MANY);
        cycles.map_or(Rates::default().vector, |cycles| MANY as f64 / machine.seconds(cycles))
    };
    let product = machine.mmad_cycles(DType::F32, DType::F32, [256, 256, 256]);
    Rates {
        launch: machine.seconds(machine.launch_cycles()),
        bytes: machine.shared_bandwidth("gm") / machine.core_count().max(1) as f64,
        macs: product.map_or(Rates::default().macs, |cycles| 256f64.powi(3) / machine.seconds(cycles)),
        vector: rate("add"),
        transcendental: rate("exp"),
        strided: strided(machine).unwrap_or_else(|| rate("add")),
    }
}

/// Elements a second that a core reads from device memory where every second one is left out; `None` where vectors read them there.
fn strided(machine: &Machine) -> Option<f64> {
    const MANY: f64 = 65536.0;
    let vector = machine.units(Class::Pointwise).next()?;
    let source = vector.operand("src", false)?;
    if source.spaces.iter().any(|space| space == GLOBAL) {
        return None;
    }
    let path = source.spaces.iter().find_map(|space| machine.path(GLOBAL, space, &[Transform::Strided]))?;
    let bytes = MANY * 4.0;
    let shape = MoveShape { bytes, bursts: 1.0, burst_bytes: 2.0 * bytes, ..MoveShape::default() };
    Some(MANY / machine.seconds(machine.move_cost(path, &shape).path_cycles))
}
