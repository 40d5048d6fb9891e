//! The cost of a kernel, from the machine description: what covering minimises.

use tarsia_passes::cover::Rates;
use tarsia_tensor::DType;
use tarsia_tile::{Machine, optable::Class};

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
    }
}
