//! The cube core: loads into fractal tiles, products, and the way out of the accumulators.

use tarsia_tile::Instr;

use super::{Emitter, Missing, Result};

impl Emitter<'_> {
    /// An instruction of the cube core.
    pub fn cube(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        Err(Missing(format!("`{}` on {pipe}", instr.op)))
    }
}
