//! What lowering needs to know of a machine, read once from its description.

use tarsia_tensor::DType;
use tarsia_tile::{Fractal, Layout, Order};

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
    /// Layouts of the left and right operands.
    pub matrix_layouts: [Layout; 2],
    /// The layout of the accumulator.
    pub accumulator: Layout,
    /// Bytes of scratch that one kernel may use for vectors.
    pub scratch_bytes: usize,
    /// Highest rows, columns and depth of a matrix instruction's operands together in scratch.
    pub matrix_block: [usize; 3],
}

impl Target {
    /// This CPU: panels of 12 rows and 32 columns, operands read from memory where they lie.
    pub fn cpu() -> Target {
        let scratch = || "scratch".to_owned();
        Target {
            name: "cpu".to_owned(),
            vector_space: scratch(),
            direct: true,
            matrix_spaces: [scratch(), scratch(), scratch()],
            matrix_layouts: [
                Layout::Fractal(Fractal { outer: Order::Z, inner: Order::N, block: [12, 1] }),
                Layout::Fractal(Fractal { outer: Order::N, inner: Order::Z, block: [1, 32] }),
            ],
            accumulator: Layout::RowMajor,
            scratch_bytes: 512 << 10,
            matrix_block: [132, 512, 384],
        }
    }

    /// The layouts of left and right operands of a product in `dtype`; types without a fractal form stay row-major.
    pub fn matrix_layouts_for(&self, dtype: DType) -> [Layout; 2] {
        if dtype == DType::F32 { self.matrix_layouts } else { [Layout::RowMajor; 2] }
    }
}
