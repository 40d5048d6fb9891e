//! What lowering needs to know of a machine, read once from its description.

use tarsia_tensor::DType;
use tarsia_tile::{Layout, Machine, optable::Class};

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
        let mut target = Target {
            name: machine.name.clone(),
            vector_space,
            direct,
            matrix_spaces: [a, b, acc],
            matrix_layouts: [left, right],
            accumulator,
            matrix_block: LARGEST_BLOCK,
            streamed_block: LARGEST_BLOCK,
        };
        target.matrix_block = target.fit(machine, [true, true, true]);
        target.streamed_block = target.fit(machine, [true, false, true]);
        // The depth of a block decides how constants are cut, so it is one for both.
        target.streamed_block[2] = target.matrix_block[2];
        Ok(target)
    }

    /// Halves the longest side of the largest block until the operands in `held` fit their spaces.
    fn fit(&self, machine: &Machine, held: [bool; 3]) -> [usize; 3] {
        let mut block = LARGEST_BLOCK;
        let fits = |[m, n, k]: [usize; 3]| {
            let bytes = [m * k * 4, k * n * 4, m * n * 4];
            self.matrix_spaces.iter().all(|space| {
                let used: usize =
                    (0..3).filter(|&i| held[i] && self.matrix_spaces[i] == *space).map(|i| bytes[i]).sum();
                // Half of the space, and room for the epilogue's tiles, which are as large as the accumulator.
                let room = machine.space(space).map_or(0, |space| space.bytes as usize);
                let epilogue = if self.matrix_spaces[2] == *space { 4 * bytes[2] } else { 0 };
                2 * used <= room && epilogue <= room
            })
        };
        while !fits(block) && block.iter().any(|&side| side > 8) {
            let longest = (0..3).max_by_key(|&i| block[i]).unwrap_or(0);
            block[longest] = (block[longest] / 2).next_multiple_of(8);
        }
        block
    }

    /// The layouts of left and right operands of a product in `dtype`; types without a fractal form stay row-major.
    pub fn matrix_layouts_for(&self, dtype: DType) -> [Layout; 2] {
        if dtype == DType::F32 { self.matrix_layouts } else { [Layout::RowMajor; 2] }
    }
}
