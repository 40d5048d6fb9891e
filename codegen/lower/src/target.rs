//! What lowering needs to know of a machine, read once from its description.

use std::{collections::BTreeMap, sync::Arc};

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{
    Layout, Machine, Order,
    machine::{GLOBAL, OperandRule, Scope},
    optable::Class,
};

use crate::blocks::Rates;

/// The parts of a machine description that decide what code is generated.
#[derive(Clone, Debug)]
pub struct Target {
    /// The space that vector instructions work in.
    pub vector_space: String,
    /// Whether vector and matrix instructions read and write device memory directly.
    pub direct: bool,
    /// Whether data can be moved within device memory by one instruction.
    pub copies_globally: bool,
    /// The spaces of the matrix unit's left, right and accumulator operands.
    pub matrix_spaces: [String; 3],
    /// The layout of the accumulator.
    pub accumulator: Layout,
    /// Whether vector instructions work on accumulators where they are.
    pub vectors_reach_accumulator: bool,
    /// Rows, columns and depth of a matrix instruction whose operands are all in scratch.
    pub matrix_block: [usize; 3],
    /// The same where the right operand is read from memory as it is.
    pub streamed_block: [usize; 3],
    /// Bytes of the spaces of the matrix unit's operands, and of the space that vector instructions work in.
    bytes: ([usize; 3], usize),
    /// Rates that decide how large blocks are.
    pub rates: Rates,
    /// The space through which left and right operands come from device memory, where no path leads from there to the unit.
    pub stages: [Option<String>; 2],
    /// The space through which the matrix and the vector unit exchange tiles, where no path leads from one to the other.
    pub exchange: Option<String>,
    /// Vector cores that work with one matrix unit.
    pub lanes: usize,
    /// The machine itself.
    pub machine: Arc<Machine>,
    /// What the matrix unit takes as left and right operand.
    operands: [OperandRule; 2],
    /// The sizes by symbol that tiles are chosen for; code is right for all.
    sizes: Arc<BTreeMap<String, i64>>,
    /// How often tiles have been halved, because their kernel did not fit the machine's memories.
    halvings: usize,
    /// The size of tile that is asked for.
    tile: Option<Vec<usize>>,
}

/// Blocks are cut down from this: a few register blocks high, wide enough to use a packed left operand often.
const LARGEST_BLOCK: [usize; 3] = [132, 512, 384];
/// No side of a block is cut below this.
const SMALLEST_SIDE: usize = 8;

impl Target {
    /// Reads a machine description. `sizes` are the ones by symbol that tiles are chosen for; `halvings` says how often tiles are halved,
    /// from what suits a large memory.
    ///
    /// # Errors
    /// If the machine has no vector or no matrix unit that works in one of its scratch spaces.
    pub fn of(machine: &Arc<Machine>, sizes: &Arc<BTreeMap<String, i64>>, halvings: usize) -> Result<Target, String> {
        let is_scratch = |name: &&String| machine.space(name).is_some_and(|space| space.scope == Scope::Core);
        let missing = |what: &str| format!("the machine `{}` has no {what}", machine.name);
        let vector = machine.units(Class::Pointwise).next().ok_or_else(|| missing("vector unit"))?;
        let result = vector.operand("dst", true).ok_or_else(|| missing("vector results"))?;
        let vector_space = result.spaces.iter().find(is_scratch).ok_or_else(|| missing("vector scratch"))?.clone();
        let matrix = machine.units(Class::Matrix).next().ok_or_else(|| missing("matrix unit"))?;
        let operand = |role: &str| matrix.operand(role, role == "acc").ok_or_else(|| missing("matrix operand"));
        let scratch =
            |rule: &OperandRule| rule.spaces.iter().find(is_scratch).cloned().ok_or_else(|| missing("matrix scratch"));
        let (a, b, acc) = (operand("a")?, operand("b")?, operand("acc")?);
        let accumulator = acc.preferred_layout(DType::F32).unwrap_or(Layout::RowMajor);
        let matrix_spaces = [scratch(a)?, scratch(b)?, scratch(acc)?];
        let bytes = |name: &String| machine.space(name).map_or(0, |space| space.bytes as usize);
        let stages = [0, 1].map(|which| between(machine, GLOBAL, &matrix_spaces[which]));
        let exchange = between(machine, &matrix_spaces[2], &vector_space);
        let lanes = match exchange {
            Some(_) => machine.core(&vector.core).map_or(1, |core| core.lanes),
            None => 1,
        };
        let mut target = Target {
            direct: result.spaces.iter().any(|space| space == GLOBAL),
            copies_globally: machine.path(GLOBAL, GLOBAL, &[]).is_some(),
            vectors_reach_accumulator: result.allows(&matrix_spaces[2], &accumulator, DType::F32),
            bytes: (matrix_spaces.each_ref().map(bytes), bytes(&vector_space)),
            rates: Rates::of(machine, &matrix_spaces[1]),
            vector_space,
            matrix_spaces,
            accumulator,
            matrix_block: LARGEST_BLOCK,
            streamed_block: LARGEST_BLOCK,
            stages,
            exchange,
            lanes,
            machine: Arc::clone(machine),
            operands: [a.clone(), b.clone()],
            sizes: Arc::clone(sizes),
            halvings,
            tile: None,
        };
        target.matrix_block = target.fit([true, true, true]);
        target.streamed_block = target.fit([true, false, true]);
        // The depth of a block decides how constants are cut, so it is one for both.
        target.streamed_block[2] = target.matrix_block[2];
        Ok(target)
    }

    /// A size, or what it is under the sizes that tiles are chosen for; `None` if it is not known even so.
    pub fn estimate(&self, dim: &Dim) -> Option<usize> {
        let size = dim.eval(&|symbol| self.sizes.get(symbol.name()).copied());
        size.ok().and_then(|size| usize::try_from(size).ok())
    }

    /// The same with tiles of a size that is asked for.
    pub fn with_tile(&self, sides: &[usize]) -> Target {
        Target { tile: Some(sides.to_vec()), ..self.clone() }
    }

    /// The size of tile that is asked for.
    pub fn tile(&self) -> Option<&[usize]> {
        self.tile.as_deref()
    }

    /// What suits a large memory (elements of a tile, bytes of a space), halved as often as was necessary.
    pub fn elements(&self, most: usize) -> usize {
        most.checked_shr(self.halvings as u32).unwrap_or(0).max(1)
    }

    /// Whether vector instructions turn matrices around in their scratch: it holds a matrix column by column, too.
    pub fn turns(&self, dtype: DType) -> bool {
        !self.direct
            && self.machine.space(&self.vector_space).is_some_and(|space| space.allows(&Layout::COLUMNS, dtype))
    }

    /// Halves the longest side of the largest block until the operands in `held` fit their spaces.
    fn fit(&self, held: [bool; 3]) -> [usize; 3] {
        let mut block = LARGEST_BLOCK;
        while !self.holds(block, held) && block.iter().any(|&side| side > SMALLEST_SIDE) {
            let longest = (0..3).max_by_key(|&i| block[i]).unwrap_or(0);
            block[longest] = (block[longest] / 2).next_multiple_of(SMALLEST_SIDE);
        }
        block
    }

    /// Whether the spaces hold the operands in `held` of a product of this many rows, columns and summed elements of 4 bytes.
    pub(crate) fn holds(&self, [m, n, k]: [usize; 3], held: [bool; 3]) -> bool {
        let bytes = [m.saturating_mul(k), k.saturating_mul(n), m.saturating_mul(n)].map(|size| size.saturating_mul(4));
        let (matrix, vector) = self.bytes;
        let operands = self.matrix_spaces.iter().zip(matrix).all(|(space, room)| {
            let here = (0..3).filter(|&i| held[i] && self.matrix_spaces[i] == *space);
            let used = here.fold(0usize, |used, i| used.saturating_add(bytes[i]));
            used <= self.elements(room / 2)
        });
        // Half of each space, and room for the epilogue's tiles, which are as large as the accumulator.
        operands && bytes[2].saturating_mul(4) <= self.elements(vector)
    }

    /// The type in which values of type `stored` are multiplied and summed as `sum`: their own where the unit has that product, else
    /// `computed`.
    pub fn product_dtype(&self, stored: DType, sum: DType, computed: DType) -> DType {
        let has = self.machine.product(stored, stored).is_some_and(|(_, product)| product.acc == sum);
        if has { stored } else { computed }
    }

    /// Bytes of a space.
    pub fn bytes_of(&self, space: &str) -> usize {
        self.machine.space(space).map_or(0, |space| usize::try_from(space.bytes).unwrap_or(usize::MAX))
    }

    /// The layout of a matrix in a space that is not the unit's: the first one there, or that of a matrix which lies transposed in memory.
    pub fn stage_layout(&self, space: &str, dtype: DType, transposed: bool) -> Layout {
        let rules = self.machine.space(space).map(|space| space.layouts.as_slice()).unwrap_or_default();
        let mut layouts = rules.iter().filter_map(|rule| rule.single(dtype));
        let first = layouts.next().unwrap_or(Layout::RowMajor);
        let columns_first = |layout: &Layout| matches!(layout, Layout::Fractal(f) if f.inner == Order::N);
        if transposed { layouts.find(columns_first).unwrap_or(first) } else { first }
    }

    /// The longest side of a block in the layouts that matrices of this type have in a space.
    pub fn stage_block(&self, space: &str, dtype: DType) -> usize {
        let rules = self.machine.space(space).map(|space| space.layouts.as_slice()).unwrap_or_default();
        let side = |layout: Layout| match layout {
            Layout::Fractal(fractal) => fractal.block[0].max(fractal.block[1]),
            Layout::RowMajor => 1,
        };
        rules.iter().filter_map(|rule| rule.single(dtype)).map(side).max().unwrap_or(1)
    }

    /// The layouts of left and right operands of a product in `dtype`; types without a fractal form stay row-major.
    pub fn matrix_layouts_for(&self, dtype: DType) -> [Layout; 2] {
        self.operands.each_ref().map(|rule| rule.preferred_layout(dtype).unwrap_or(Layout::RowMajor))
    }
}

/// The core's space that lies between two spaces which no data path connects; of several the one with the fastest paths.
fn between(machine: &Machine, from: &str, to: &str) -> Option<String> {
    if from == to || machine.path(from, to, &[]).is_some() {
        return None;
    }
    let rate = |name: &str| {
        let (first, second) = (machine.path(from, name, &[])?, machine.path(name, to, &[])?);
        Some(first.bytes_per_cycle.min(second.bytes_per_cycle))
    };
    let spaces = machine.spaces.iter().filter(|space| space.scope == Scope::Core);
    let found = spaces.filter_map(|space| Some((rate(&space.name)?, &space.name)));
    found.max_by(|a, b| a.0.total_cmp(&b.0).then(std::cmp::Ordering::Greater)).map(|(_, name)| name.clone())
}
