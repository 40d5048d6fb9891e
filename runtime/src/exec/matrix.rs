//! Matrices in any order of elements: strided or blocked.

use tarsia_tensor::DType;
use tarsia_tile::{Fractal, Order};

use super::nest::Array;
use super::operand::Blocked;

/// A box of a matrix, positions in elements from `base`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Where position 0 is.
    pub base: *mut u8,
    /// Element type.
    pub dtype: DType,
    /// Rows and columns.
    pub size: [usize; 2],
    /// Where elements are.
    pub form: MatrixForm,
}

/// Where the elements of a matrix are.
#[derive(Clone, Copy, Debug)]
pub enum MatrixForm {
    /// First position, distance of rows, distance of columns.
    Strided {
        /// Position of the first element.
        at: isize,
        /// Distance of rows.
        row: isize,
        /// Distance of columns.
        col: isize,
    },
    /// A box of a blocked matrix.
    Blocked(Blocks),
}

/// A box of a blocked matrix.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// The order of elements.
    pub fractal: Fractal,
    /// Position of the whole matrix.
    pub at: isize,
    /// Rows and columns of the whole matrix.
    pub whole: [usize; 2],
    /// First row and column of the box.
    pub first: [usize; 2],
}

/// Elements at equal distances.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Position of the first.
    pub at: isize,
    /// Distance of neighbours.
    pub stride: isize,
    /// How many.
    pub len: usize,
}

impl Matrix {
    /// A two-axis strided array.
    pub fn strided(array: &Array) -> Matrix {
        let form = MatrixForm::Strided { at: array.at, row: array.stride[0], col: array.stride[1] };
        Matrix { base: array.base, dtype: array.dtype, size: [array.size[0], array.size[1]], form }
    }

    /// At most `len` elements of a row from a column on.
    pub fn row_run(&self, row: usize, column: usize, len: usize) -> Run {
        match &self.form {
            MatrixForm::Strided { at, row: r, col } => {
                Run { at: at + row as isize * r + column as isize * col, stride: *col, len }
            }
            MatrixForm::Blocked(blocks) => blocks.run(row, column, 1, len),
        }
    }
}

impl Blocks {
    /// A box, if it lies inside of the whole matrix and that inside of `length` elements.
    pub fn of(blocked: &Blocked, at: isize, size: [usize; 2], registers: &[i64], length: i64) -> Option<Blocks> {
        let r = |register| usize::try_from(registers[register as usize]).ok();
        let (whole, first) = ([r(blocked.rows)?, r(blocked.columns)?], [r(blocked.row)?, r(blocked.column)?]);
        let inside = (0..2).all(|i| first[i].checked_add(size[i]).is_some_and(|end| end <= whole[i]));
        let elements = tarsia_tile::Layout::Fractal(blocked.fractal).elements(&whole)?;
        let fits = at >= 0 && (at as i64).checked_add(elements as i64)? <= length;
        (inside && fits).then_some(Blocks { fractal: blocked.fractal, at, whole, first })
    }

    /// The position of an element of the box.
    pub fn position(&self, row: usize, column: usize) -> isize {
        let [rows, columns] = self.whole;
        self.at + self.fractal.position(rows, columns, self.first[0] + row, self.first[1] + column) as isize
    }

    /// At most `len` elements along `axis` (0 goes down a column, 1 along a row).
    pub fn run(&self, row: usize, column: usize, axis: usize, len: usize) -> Run {
        let at = self.position(row, column);
        let [r, c] = self.fractal.block;
        let (here, block) = if axis == 0 { (self.first[0] + row, r) } else { (self.first[1] + column, c) };
        if block == 1 {
            return Run { at, stride: self.block_distance(axis), len };
        }
        let stride = match (self.fractal.inner, axis) {
            (Order::Z, 0) => c,
            (Order::N, 1) => r,
            _ => 1,
        };
        Run { at, stride: stride as isize, len: len.min(block - here % block) }
    }

    /// The distance of equal elements of blocks that are neighbours along `axis`.
    pub fn block_distance(&self, axis: usize) -> isize {
        let [r, c] = self.fractal.block;
        let (down, across) = (self.whole[0].div_ceil(r), self.whole[1].div_ceil(c));
        let blocks = match (self.fractal.outer, axis) {
            (Order::Z, 0) => across,
            (Order::N, 1) => down,
            _ => 1,
        };
        (blocks * r * c) as isize
    }

    /// Whether the box starts and ends at blocks, or at the end of the matrix.
    pub fn padding(&self, size: [usize; 2]) -> [usize; 2] {
        std::array::from_fn(|i| {
            let end = self.first[i] + size[i];
            end.next_multiple_of(self.fractal.block[i]) - self.first[i]
        })
    }
}
