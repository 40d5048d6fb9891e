//! Arrays in memory, and loops over several of them at once.

use tarsia_tensor::DType;

use crate::cpu::moves::{Axis, RANK};
use crate::cpu::vector::{Area, Dst, Src};

/// The highest number of axes of an operand.
pub const MAX_RANK: usize = 12;

/// A strided array: positions and strides in elements from `base`.
#[derive(Clone, Copy, Debug)]
pub struct Array {
    /// Where position 0 is.
    pub base: *mut u8,
    /// Element type.
    pub dtype: DType,
    /// Position of the first element.
    pub at: isize,
    /// Number of axes.
    pub rank: usize,
    /// Sizes of the axes.
    pub size: [usize; MAX_RANK],
    /// Distance of neighbours along each axis.
    pub stride: [isize; MAX_RANK],
}

impl Array {
    /// The array as a matrix: all axes after the first are columns, if they follow each other without gaps.
    pub fn with_columns_joined(mut self) -> Option<Array> {
        while self.rank > 2 {
            let (outer, inner) = (self.rank - 2, self.rank - 1);
            if self.size[outer] != 1 && self.size[inner] != 1 {
                if self.stride[outer] != self.stride[inner] * self.size[inner] as isize {
                    return None;
                }
            } else if self.size[inner] == 1 {
                self.stride[inner] = self.stride[outer];
            }
            self.size[outer] *= self.size[inner];
            self.stride[outer] = self.stride[inner];
            self.rank -= 1;
        }
        Some(self)
    }

    /// A matrix under other axes, of which the first `rows` make up its rows; `None` if they do not.
    pub fn unfolded(&self, shape: &[usize], rows: usize) -> Option<Array> {
        let (down, across) = shape.split_at_checked(rows)?;
        let product = |sizes: &[usize]| sizes.iter().product::<usize>();
        if self.rank != 2 || shape.len() > MAX_RANK || [product(down), product(across)] != self.size[..2] {
            return None;
        }
        let mut array = Array { rank: shape.len(), ..*self };
        for (side, range) in [(0, 0..rows), (1, rows..shape.len())] {
            let mut step = self.stride[side];
            for axis in range.rev() {
                (array.size[axis], array.stride[axis]) = (shape[axis], step);
                step *= shape[axis] as isize;
            }
        }
        Some(array)
    }

    /// One element that stands for all of an array of this rank.
    pub fn single(base: *mut u8, dtype: DType, rank: usize) -> Array {
        Array { base, dtype, at: 0, rank, size: [1; MAX_RANK], stride: [0; MAX_RANK] }
    }

    /// A dense row-major array.
    pub fn dense(base: *mut u8, dtype: DType, size: &[usize]) -> Array {
        let mut array = Array::single(base, dtype, size.len());
        let mut step = 1;
        for axis in (0..size.len()).rev() {
            array.size[axis] = size[axis];
            array.stride[axis] = step;
            step *= size[axis] as isize;
        }
        array
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.size[..self.rank]
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.shape().iter().product()
    }

    /// The address of a position, if a byte begins there.
    pub fn place(&self, at: isize) -> Option<*mut u8> {
        let bits = at.wrapping_mul(self.dtype.bits() as isize);
        (bits & 7 == 0).then(|| self.base.wrapping_offset(bits >> 3))
    }

    /// The address of a position; the element type has whole bytes.
    pub fn address(&self, at: isize) -> *mut u8 {
        self.base.wrapping_offset(at * (self.dtype.bits() / 8) as isize)
    }
}

/// Axes over which `N` arrays are walked together.
#[derive(Clone, Debug)]
pub struct Nest<const N: usize> {
    rank: usize,
    size: [usize; MAX_RANK],
    stride: [[isize; N]; MAX_RANK],
    at: [isize; N],
}

/// The two innermost axes of a [`Nest`] at one place of the outer ones.
#[derive(Clone, Copy, Debug)]
pub struct Plane<const N: usize> {
    /// Positions of the first elements.
    pub at: [isize; N],
    /// Rows and columns.
    pub size: [usize; 2],
    /// Distances of rows.
    pub row: [isize; N],
    /// Distances of columns.
    pub col: [isize; N],
}

impl<const N: usize> Nest<N> {
    /// The axes of `arrays[0]`, along which the others have the same size or 1.
    ///
    /// # Errors
    /// The first axis on which sizes do not fit.
    pub fn of(arrays: [&Array; N]) -> Result<Nest<N>, usize> {
        let mut nest = Nest {
            rank: 0,
            size: [1; MAX_RANK],
            stride: [[0; N]; MAX_RANK],
            at: std::array::from_fn(|i| arrays[i].at),
        };
        for axis in 0..arrays[0].rank {
            let size = arrays[0].size[axis];
            let mut stride = [0; N];
            for (stride, array) in stride.iter_mut().zip(arrays) {
                if axis >= array.rank || (array.size[axis] != size && array.size[axis] != 1) {
                    return Err(axis);
                }
                *stride = if array.size[axis] == 1 { 0 } else { array.stride[axis] };
            }
            nest.push(size, stride);
        }
        Ok(nest)
    }

    /// As [`Nest::of`], leaving out one axis.
    ///
    /// # Errors
    /// The first axis on which sizes do not fit.
    pub fn without(axis: usize, arrays: [&Array; N]) -> Result<Nest<N>, usize> {
        let mut copies = arrays.map(|array| *array);
        copies.iter_mut().for_each(|array| array.size[axis] = 1);
        Nest::of(std::array::from_fn(|i| &copies[i]))
    }

    /// Adds an axis inside the others, joined with the last one where every array allows it.
    fn push(&mut self, size: usize, stride: [isize; N]) {
        if size == 1 {
            return;
        }
        if self.rank > 0 {
            let last = self.rank - 1;
            if (0..N).all(|i| self.stride[last][i] == stride[i] * size as isize) {
                self.size[last] *= size;
                self.stride[last] = stride;
                return;
            }
        }
        self.size[self.rank] = size;
        self.stride[self.rank] = stride;
        self.rank += 1;
    }

    /// The number of elements, if all arrays have them side by side.
    pub fn single_run(&self) -> Option<usize> {
        match self.rank {
            0 => Some(1),
            1 if self.stride[0].iter().all(|&by| by == 1) => Some(self.size[0]),
            _ => None,
        }
    }

    /// The first positions and the axes of a copy from the second array to the first, if there are few enough.
    pub fn axes(&self) -> Option<([isize; N], [Axis; RANK], usize)> {
        let mut axes = [Axis::default(); RANK];
        for (i, axis) in axes.iter_mut().enumerate().take(self.rank) {
            *axis = Axis { len: self.size[i], src: self.stride[i][N - 1], dst: self.stride[i][0] };
        }
        (self.rank <= RANK).then_some((self.at, axes, self.rank))
    }

    /// Calls `f` for every place of the outer axes, in row-major order.
    pub fn planes(&self, f: impl FnMut(Plane<N>)) {
        self.planes_at([0; N], f);
    }

    /// As [`Nest::planes`], with every array moved by a distance.
    pub fn planes_at(&self, by: [isize; N], mut f: impl FnMut(Plane<N>)) {
        if self.size[..self.rank].contains(&0) {
            return;
        }
        let inner = self.rank.min(2);
        let outer = self.rank - inner;
        let at = std::array::from_fn(|i| self.at[i] + by[i]);
        let mut plane = Plane { at, size: [1, 1], row: [0; N], col: [0; N] };
        if inner >= 1 {
            plane.size[1] = self.size[self.rank - 1];
            plane.col = self.stride[self.rank - 1];
        }
        if inner == 2 {
            plane.size[0] = self.size[self.rank - 2];
            plane.row = self.stride[self.rank - 2];
        }
        let mut index = [0usize; MAX_RANK];
        loop {
            f(plane);
            let mut axis = outer;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                let stride = &self.stride[axis];
                (0..N).for_each(|i| plane.at[i] += stride[i]);
                if index[axis] < self.size[axis] {
                    break;
                }
                index[axis] = 0;
                let size = self.size[axis] as isize;
                (0..N).for_each(|i| plane.at[i] -= stride[i] * size);
            }
        }
    }
}

impl<const N: usize> Plane<N> {
    /// The plane as the vector kernels take it: columns of the destination (the first) are neighbours.
    #[inline]
    pub fn area(&self, arrays: [&Array; N]) -> Option<(Area, Dst, [Src; N])> {
        let [rows, cols] = self.size;
        if cols > 1 && self.col[0] != 1 {
            return None;
        }
        let mut sources = [Src { data: std::ptr::null(), row: 0, col: 0 }; N];
        for i in 0..N {
            let row = if rows > 1 { self.row[i] } else { 0 };
            let col = if cols > 1 { self.col[i] } else { 0 };
            sources[i] = Src { data: arrays[i].place(self.at[i])?, row, col };
        }
        let dst = Dst { data: sources[0].data.cast_mut(), row: sources[0].row };
        Some((Area { rows, cols }, dst, sources))
    }

    /// With the longer axis as columns if the columns are few: for code whose cost is per row.
    pub fn with_long_columns(&self) -> Plane<N> {
        let [rows, cols] = self.size;
        if cols >= 8 || rows <= cols {
            return *self;
        }
        Plane { at: self.at, size: [cols, rows], row: self.col, col: self.row }
    }

    /// Positions of the first elements of row `r`.
    pub fn row_at(&self, r: usize) -> [isize; N] {
        std::array::from_fn(|i| self.at[i] + self.row[i] * r as isize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_visit_every_element_once_in_order() {
        let base = std::ptr::null_mut();
        let whole = Array::dense(base, DType::F32, &[2, 3, 4, 5]);
        let mut seen = Vec::new();
        let mut odd = whole;
        odd.stride[1] = 1000;
        for (array, planes) in [(whole, 1), (odd, 2)] {
            let nest = Nest::of([&array]).expect("one array fits itself");
            let mut count = 0;
            seen.clear();
            nest.planes(|p| {
                count += 1;
                for r in 0..p.size[0] {
                    seen.extend((0..p.size[1]).map(|c| p.row_at(r)[0] + p.col[0] * c as isize));
                }
            });
            assert_eq!((count, seen.len()), (planes, 120));
            assert!(seen.windows(2).all(|w| w[0] < w[1] || planes == 2));
        }
        let narrow = Array::dense(base, DType::F32, &[2, 3, 1, 5]);
        assert!(Nest::of([&whole, &narrow]).is_ok());
        assert_eq!(Nest::of([&narrow, &whole]).err(), Some(2));
        let empty = Array::dense(base, DType::F32, &[2, 0]);
        Nest::of([&empty]).expect("fits").planes(|_| panic!("nothing to visit"));
        let scalar = Array::dense(base, DType::F32, &[]);
        let mut visits = 0;
        Nest::of([&scalar]).expect("fits").planes(|p| visits += p.size[0] * p.size[1]);
        assert_eq!(visits, 1);
    }
}
