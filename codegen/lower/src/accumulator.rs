//! The accumulator of a matrix product: where the unit keeps it, and where vectors read it.
//!
//! Where vectors reach the unit's memory, both are one tile. Elsewhere the unit's tile is set by the first product, because nothing else
//! can write it, and copied to a vector tile when the sum is complete.

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Layout, Opcode, Operand, Region};

use crate::builder::KernelBuilder;

/// A sum of matrix products.
pub(crate) struct Accumulator {
    /// The unit's tile.
    unit: Region,
    /// The same for vectors.
    vector: Region,
    /// Whether one product is the whole sum.
    once: bool,
}

impl Accumulator {
    /// Tiles for a result of this size; the first axis is the matrix's rows, the others together are its columns. `once` says that the
    /// sum has one term.
    pub fn new(builder: &mut KernelBuilder, dtype: DType, capacity: &[usize], size: &[Dim], once: bool) -> Accumulator {
        let target = builder.target;
        if target.vectors_reach_accumulator {
            let tile = builder.tile(&target.matrix_spaces[2], dtype, capacity.to_vec(), target.accumulator);
            let unit = Region::at_origin(tile, size.to_vec());
            return Accumulator { vector: unit.clone(), unit, once };
        }
        let vector = builder.scratch(dtype, capacity, size);
        let (shape, extent) = match target.accumulator {
            Layout::RowMajor => (capacity.to_vec(), size.to_vec()),
            Layout::Fractal(_) => {
                let columns = capacity[1..].iter().fold(1usize, |n, &side| n.saturating_mul(side));
                (vec![capacity[0], columns], vec![size[0].clone(), Dim::product(&size[1..])])
            }
        };
        let tile = builder.tile(&target.matrix_spaces[2], dtype, shape, target.accumulator);
        Accumulator { unit: Region::at_origin(tile, extent), vector, once }
    }

    fn is_shared(&self) -> bool {
        self.unit == self.vector
    }

    /// Emits the sum: `terms` calls [`Accumulator::add`] for each of `count` terms. Gives the sum as vectors read it.
    pub fn sum(
        self,
        builder: &mut KernelBuilder,
        count: Dim,
        terms: impl FnOnce(&mut KernelBuilder, &Accumulator) -> Result<(), String>,
    ) -> Result<Region, String> {
        let vector = Operand::Tile(self.vector.clone());
        let clear = |builder: &mut KernelBuilder| {
            builder.instr(Opcode::Fill, vec![vector.clone()], vec![Operand::Real(0.0)]);
        };
        if self.is_shared() {
            if !self.once {
                clear(builder);
            }
            terms(builder, &self)?;
            return Ok(self.vector);
        }
        builder.if_positive(
            count,
            |builder| {
                terms(builder, &self)?;
                builder.instr(Opcode::Copy { rows: 1 }, vec![vector.clone()], vec![Operand::Tile(self.unit.clone())]);
                Ok::<(), String>(())
            },
            |builder| {
                clear(builder);
                Ok(())
            },
        )?;
        Ok(self.vector)
    }

    /// One term; `progress` is 0 in the first one and positive in all others.
    pub fn add(&self, builder: &mut KernelBuilder, progress: Dim, lhs: Operand, rhs: Operand) -> Result<(), String> {
        let product = |builder: &mut KernelBuilder, accumulate: bool| {
            let sources = vec![lhs.clone(), rhs.clone()];
            builder.instr(Opcode::Mmad { accumulate }, vec![Operand::Tile(self.unit.clone())], sources);
            Ok::<(), String>(())
        };
        if self.once || self.is_shared() {
            return product(builder, !self.once);
        }
        builder.if_positive(Dim::ONE - progress, |builder| product(builder, false), |builder| product(builder, true))
    }
}
