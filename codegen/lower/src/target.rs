//! What lowering needs to know of a machine, read once from its description.

use tarsia_tensor::DType;
use tarsia_tile::{Layout, Machine, optable::Class};

use crate::blocks::Rates;

/// The parts of a machine description that decide what code is generated.
#[derive(Clone, Debug)]
pub struct Target {
    /// The machine's name.
    pub name: String,
    /// The space that vector instructions work in.
    pub vector_space: String,
    /// Whether vector and matrix instructions read and write device memory directly.
    pub direct: bool,
    /// The spaces of the matrix unit's left, right and accumulator operands.
    pub matrix_spaces: [String; 3],
    /// Layouts of the left and right operands in f32.
    pub matrix_layouts: [Layout; 2],
    /// The layout of the accumulator.
    pub accumulator: Layout,
    /// Rows, columns and depth of a matrix instruction whose operands are all in scratch.
    pub matrix_block: [usize; 3],
    /// The same where the right operand is read from memory as it is.
    pub streamed_block: [usize; 3],
    /// Bytes of the spaces of the matrix unit's operands.
    pub matrix_bytes: [usize; 3],
    /// Rates that decide how large blocks are.
    pub rates: Rates,
}

/// Blocks are cut down from this: a few register blocks high, wide enough to use a packed left operand often.
const LARGEST_BLOCK: [usize; 3] = [132, 512, 384];

impl Target {
    /// Reads a machine description.
    ///
    /// # Errors
    /// If the machine has no vector or no matrix unit that works in one of its scratch spaces.
    pub fn of(machine: &Machine) -> Result<Target, String> {
        let is_scratch =
            |name: &&String| machine.space(name).is_some_and(|space| space.scope == tarsia_tile::machine::Scope::Core);
        let missing = |what: &str| format!("the machine `{}` has no {what}", machine.name);
        let vector = machine.units(Class::Pointwise).next().ok_or_else(|| missing("vector unit"))?;
        let result = vector.operand("dst", true).ok_or_else(|| missing("vector results"))?;
        let vector_space = result.spaces.iter().find(is_scratch).ok_or_else(|| missing("vector scratch"))?.clone();
        let direct = result.spaces.len() > 1;
        let matrix = machine.units(Class::Matrix).next().ok_or_else(|| missing("matrix unit"))?;
        let operand = |role: &str| {
            let rule = matrix.operand(role, role == "acc").ok_or_else(|| missing("matrix operand"))?;
            let space = rule.spaces.iter().find(is_scratch).ok_or_else(|| missing("matrix scratch"))?.clone();
            Ok::<_, String>((space, rule.preferred_layout(DType::F32).unwrap_or(Layout::RowMajor)))
        };
        let ((a, left), (b, right), (acc, accumulator)) = (operand("a")?, operand("b")?, operand("acc")?);
        let bytes = |name: &String| machine.space(name).map_or(0, |space| space.bytes as usize);
        let mut target = Target {
            matrix_bytes: [bytes(&a), bytes(&b), bytes(&acc)],
            rates: Rates::of(machine, &b),
            name: machine.name.clone(),
            vector_space,
            direct,
            matrix_spaces: [a, b, acc],
            matrix_layouts: [left, right],
            accumulator,
            matrix_block: LARGEST_BLOCK,
            streamed_block: LARGEST_BLOCK,
        };
        target.matrix_block = target.fit([true, true, true]);
        target.streamed_block = target.fit([true, false, true]);
        // The depth of a block decides how constants are cut, so it is one for both.
        target.streamed_block[2] = target.matrix_block[2];
        Ok(target)
    }

    /// Halves the longest side of the largest block until the operands in `held` fit their spaces.
    fn fit(&self, held: [bool; 3]) -> [usize; 3] {
        let mut block = LARGEST_BLOCK;
        while !self.holds(block, held) && block.iter().any(|&side| side > 8) {
            let longest = (0..3).max_by_key(|&i| block[i]).unwrap_or(0);
            block[longest] = (block[longest] / 2).next_multiple_of(8);
        }
        block
    }

    /// Whether the spaces hold the operands in `held` of a product of this many rows, columns and summed elements of 4 bytes.
    pub(crate) fn holds(&self, [m, n, k]: [usize; 3], held: [bool; 3]) -> bool {
        let bytes = [m.saturating_mul(k), k.saturating_mul(n), m.saturating_mul(n)].map(|size| size.saturating_mul(4));
        self.matrix_spaces.iter().zip(self.matrix_bytes).all(|(space, room)| {
            let here = (0..3).filter(|&i| held[i] && self.matrix_spaces[i] == *space);
            let used = here.fold(0usize, |used, i| used.saturating_add(bytes[i]));
            // Half of the space, and room for the epilogue's tiles, which are as large as the accumulator.
            let epilogue = if self.matrix_spaces[2] == *space { bytes[2].saturating_mul(4) } else { 0 };
            used <= room / 2 && epilogue <= room
        })
    }

    /// The layouts of left and right operands of a product in `dtype`; types without a fractal form stay row-major.
    pub fn matrix_layouts_for(&self, dtype: DType) -> [Layout; 2] {
        if dtype == DType::F32 { self.matrix_layouts } else { [Layout::RowMajor; 2] }
    }
}
