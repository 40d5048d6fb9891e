//! Decoded operands: where an instruction finds its arrays, as registers.

use smallvec::SmallVec;
use tarsia_tensor::DType;
use tarsia_tile::Fractal;

use super::expr::Reg;
use super::nest::{Array, MAX_RANK};

/// One of a fixed small number of registers per axis.
pub type PerAxis = SmallVec<[Reg; 6]>;

/// What an instruction works on.
#[derive(Clone, Debug)]
pub enum Operand {
    /// Part of a tile or buffer.
    Memory(Memory),
    /// A number, encoded in this element type.
    Number(u64, DType),
    /// The value of a register, to be encoded in this element type.
    Index(Reg, DType),
}

/// Part of a tile or a buffer.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Element type.
    pub dtype: DType,
    /// Index in the worker's table of pointers.
    pub pointer: u32,
    /// Position of the first element.
    pub offset: Reg,
    /// Sizes of the axes.
    pub size: PerAxis,
    /// Distances in elements along the axes.
    pub stride: PerAxis,
    /// Elements that the pointer may be used for.
    pub length: Reg,
    /// How indices become positions.
    pub form: Form,
}

/// How indices become positions.
#[derive(Clone, Debug)]
pub enum Form {
    /// By strides, always inside.
    Strided,
    /// By strides, where some indices may be outside of the buffer.
    Clipped(Box<Clip>),
    /// By the order of blocks.
    Blocked(Blocked),
}

/// The limits of a view that may leave its buffer.
#[derive(Clone, Debug)]
pub struct Clip {
    /// What is read outside, encoded.
    pub fill: u64,
    /// The axes of the buffer.
    pub axes: Vec<ClipAxis>,
}

/// The index into one axis of a buffer.
#[derive(Clone, Debug)]
pub struct ClipAxis {
    /// The index at the view's origin.
    pub start: Reg,
    /// The axis's size.
    pub extent: Reg,
    /// View axis and step.
    pub steps: SmallVec<[(usize, Reg); 2]>,
}

/// A box inside a blocked matrix.
#[derive(Clone, Copy, Debug)]
pub struct Blocked {
    /// The order of elements.
    pub fractal: Fractal,
    /// Rows of the whole matrix.
    pub rows: Reg,
    /// Columns of the whole matrix.
    pub columns: Reg,
    /// First row.
    pub row: Reg,
    /// First column.
    pub column: Reg,
}

impl Memory {
    /// The array under the current registers, not yet checked.
    #[inline]
    pub fn array(&self, registers: &[i64], pointers: &[*mut u8]) -> Array {
        let rank = self.size.len().min(MAX_RANK);
        let mut array = Array::single(pointers[self.pointer as usize], self.dtype, rank);
        array.at = registers[self.offset as usize] as isize;
        for axis in 0..rank {
            array.size[axis] = registers[self.size[axis] as usize].max(0) as usize;
            array.stride[axis] = registers[self.stride[axis] as usize] as isize;
        }
        array
    }

    /// Whether every element of a strided array lies inside.
    #[inline]
    pub fn contains(&self, array: &Array, registers: &[i64]) -> bool {
        let length = registers[self.length as usize];
        let (mut low, mut high) = (array.at as i64, array.at as i64);
        for axis in 0..array.rank {
            let size = array.size[axis] as i64;
            if size == 0 {
                return true;
            }
            let reach = (size - 1).saturating_mul(array.stride[axis] as i64);
            if reach < 0 { low = low.saturating_add(reach) } else { high = high.saturating_add(reach) }
        }
        low >= 0 && high < length
    }
}

impl Clip {
    /// Whether no index of an array of these sizes is outside.
    pub fn is_inside(&self, size: &[usize], registers: &[i64]) -> bool {
        let r = |register: Reg| registers[register as usize];
        self.axes.iter().all(|axis| {
            let (mut low, mut high) = (r(axis.start), r(axis.start));
            for &(view, step) in &axis.steps {
                let reach = (size[view] as i64 - 1).saturating_mul(r(step));
                if reach < 0 { low = low.saturating_add(reach) } else { high = high.saturating_add(reach) }
            }
            low >= 0 && high < r(axis.extent)
        })
    }
}
