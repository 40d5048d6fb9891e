//! Operands that stay in the exchange space for all items of a core that share them: vector cores bring them there once, chunk by chunk,
//! computed, or in an order from which the stage is filled faster.
//!
//! ```text
//! first item that shares the operand:   memory ─► vectors ─► chunk ─► stage
//! the others:                                                chunk ─► stage
//! ```

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Opcode, Operand, Region};

use crate::{
    builder::KernelBuilder,
    emit::Span,
    load::Load,
    ring::{COPIES, Ring, copy_of},
};

/// An operand of a kernel whose items are walked in runs; see [`crate::persist::Grouping::Runs`].
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Positive in the first and in the last item of a run that share the operand.
    pub first: Symbol,
    pub last: Symbol,
    /// The chunks of the operand, and how many of them stay; the others, one here and one there, are loaded for every item.
    pub chunks: usize,
    pub held: usize,
}

impl Kept {
    /// Whether all of the operand stays.
    pub fn is_whole(&self) -> bool {
        self.held == self.chunks
    }

    /// How many of the chunks before this one stay.
    fn before(&self, chunk: &Dim) -> Dim {
        (chunk.clone() * Dim::from(self.held)).floor_div(&Dim::from(self.chunks))
    }

    /// Fills the stage with the chunk of this number: from where it is kept, or from `source` where it is not.
    pub fn stage(
        &self,
        builder: &mut KernelBuilder,
        (load, ring, chunk): (&Load, &Ring, &Dim),
        (axes, spans): (&[usize], &[Span]),
        (staged, source): (&Region, Option<Operand>),
    ) -> Result<(), String> {
        let stays = self.before(&(chunk.clone() + Dim::ONE)) - self.before(chunk);
        builder.if_positive(
            stays,
            |builder| {
                let kept = self.brought(builder, (load, ring), &self.before(chunk), (axes, spans))?;
                load.take(builder, staged.clone(), kept);
                self.free(builder, ring, &self.before(chunk))
            },
            |builder| {
                if let Some(source) = source {
                    let op = Opcode::Copy { rows: load.rows.len() };
                    builder.instr(op, vec![Operand::Tile(staged.clone())], vec![source]);
                }
                Ok(())
            },
        )
    }

    /// Where the chunk is that has this number among those that stay; the first item has the vector cores bring it.
    fn brought(
        &self,
        builder: &mut KernelBuilder,
        (load, ring): (&Load, &Ring),
        place: &Dim,
        (axes, spans): (&[usize], &[Span]),
    ) -> Result<Region, String> {
        let kept = Region { slot: place.clone(), ..load.exchanged(builder, (axes, spans), self.held)? };
        builder.if_positive(
            self.first.clone().into(),
            |builder| {
                ring.take(builder, &copy_of(place));
                load.bring(builder, (axes, spans), &kept)?;
                ring.pass(builder, &copy_of(place));
                Ok::<(), String>(())
            },
            |_| Ok(()),
        )?;
        Ok(kept)
    }

    /// Lets the vector cores go on. What the first item takes last, the last one gives back, so that no chunk of the next operand is written
    /// where one of this is still read.
    fn free(&self, builder: &mut KernelBuilder, ring: &Ring, place: &Dim) -> Result<(), String> {
        let free = |when: &Symbol| {
            let when = Dim::from(when.clone());
            move |builder: &mut KernelBuilder| {
                let free = |builder: &mut KernelBuilder| {
                    ring.free(builder, &copy_of(place));
                    Ok::<(), String>(())
                };
                builder.if_positive(when, free, |_| Ok(()))
            }
        };
        let early = Dim::from(self.held as i64 - COPIES as i64) - place.clone();
        builder.if_positive(early, free(&self.first), free(&self.last))
    }
}
