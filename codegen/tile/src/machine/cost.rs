//! What work costs on a machine, in cycles of one core.

use tarsia_tensor::DType;

use super::{Machine, Path};
use crate::optable::Class;

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
}
