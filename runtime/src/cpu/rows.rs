//! Instructions that move whole rows by computed indices, and the direct convolution of one row.

use super::isa::Isa;
use super::moves::copy_bytes;
use super::number::{Number, with_number};
use super::simd::{assert_available, simd_kernel};
use super::vector::{Area, Dst, NoKernel, Src, binary};
use tarsia_tensor::{BinaryFn, DType, ScatterFn};

/// Why rows could not be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// An index that names no row.
    #[error("index {index} at position {position} is out of range for {rows} rows")]
    OutOfRange {
        /// Its place among the indices.
        position: usize,
        /// The index.
        index: i64,
        /// Rows there are.
        rows: usize,
    },
    /// No such arithmetic, or indices of a type other than `i32` and `i64`.
    #[error(transparent)]
    NoKernel(#[from] NoKernel),
}

/// Indices of rows.
#[derive(Clone, Copy, Debug)]
pub struct Indices {
    /// The first.
    pub data: *const u8,
    /// `i32` or `i64`.
    pub dtype: DType,
    /// How many.
    pub len: usize,
}

impl Indices {
    fn check(&self) -> Result<(), NoKernel> {
        if matches!(self.dtype, DType::I32 | DType::I64) { Ok(()) } else { Err(NoKernel::of("index", self.dtype)) }
    }

    /// Index `i`, checked against the number of rows.
    unsafe fn row(&self, i: usize, rows: usize) -> Result<usize, RowError> {
        // SAFETY: `i` is below `len`.
        let index = unsafe {
            match self.dtype {
                DType::I32 => i64::from(*self.data.cast::<i32>().add(i)),
                _ => *self.data.cast::<i64>().add(i),
            }
        };
        match usize::try_from(index) {
            Ok(row) if row < rows => Ok(row),
            _ => Err(RowError::OutOfRange { position: i, index, rows }),
        }
    }
}

/// `dst[j] = src[indices[j]]` for rows of `row_bytes` bytes, `src_stride` and `dst_stride` bytes apart.
///
/// # Errors
/// If an index is not below `rows`; the rows before it have been written then.
///
/// # Safety
/// This machine has `isa`; `src` has `rows` rows, `dst` one for each index; they do not overlap.
pub unsafe fn gather_rows(
    isa: Isa,
    row_bytes: usize,
    rows: usize,
    src: *const u8,
    src_stride: usize,
    indices: Indices,
    dst: *mut u8,
    dst_stride: usize,
) -> Result<(), RowError> {
    assert_available(isa);
    indices.check()?;
    for j in 0..indices.len {
        // SAFETY: `j < len`, and the row is one of `src`'s.
        unsafe {
            let row = indices.row(j, rows)?;
            copy_bytes(isa, row_bytes, src.add(row * src_stride), dst.add(j * dst_stride));
        }
    }
    Ok(())
}

/// `dst[indices[j]] ∘= src[j]` for rows of `cols` elements, `src.row` and `dst.row` elements apart, in the order of `j`.
///
/// # Errors
/// If an index is not below `rows`, or `dtype` lacks the function; the rows before it have been written then.
///
/// # Safety
/// This machine has `isa`; `dst` has `rows` rows, `src` one for each index; they do not overlap.
pub unsafe fn scatter_rows(
    isa: Isa,
    function: ScatterFn,
    dtype: DType,
    cols: usize,
    rows: usize,
    dst: Dst,
    indices: Indices,
    src: Src,
) -> Result<(), RowError> {
    assert_available(isa);
    indices.check()?;
    let bytes = dtype.bits() / 8;
    let fold = match function {
        ScatterFn::Set => None,
        ScatterFn::Add => Some(BinaryFn::Add),
        ScatterFn::Mul => Some(BinaryFn::Mul),
        ScatterFn::Min => Some(BinaryFn::Min),
        ScatterFn::Max => Some(BinaryFn::Max),
    };
    for j in 0..indices.len {
        // SAFETY: `j < len`, and the row is one of `dst`'s.
        unsafe {
            let to = dst.data.offset(indices.row(j, rows)? as isize * dst.row * bytes as isize);
            let from = src.data.offset(j as isize * src.row * bytes as isize);
            let Some(fold) = fold else {
                copy_bytes(isa, cols * bytes, from, to);
                continue;
            };
            let row = |data: *const u8| Src { data, row: 0, col: 1 };
            binary(isa, fold, dtype, Area { rows: 1, cols }, Dst { data: to, row: 0 }, row(to), row(from))?;
        }
    }
    Ok(())
}

/// Writes `offset + j` for each `j` at which `ids[j]` equals `id`, ascending, as `dtype` (`i32` or `i64`) to `dst`; gives how many.
///
/// # Errors
/// If the types are no integers that can be indices.
///
/// # Safety
/// `ids` is readable over `len` elements, `dst` has room for as many; they do not overlap.
pub unsafe fn select_rows(
    ids_dtype: DType,
    ids: *const u8,
    len: usize,
    id: i64,
    offset: i64,
    dtype: DType,
    dst: *mut u8,
) -> Result<usize, NoKernel> {
    // SAFETY: the caller's contract.
    unsafe {
        with_number!(ids_dtype, T => match dtype {
            DType::I32 => Ok(select_each::<T, i32>(ids.cast(), len, id, offset, dst.cast())),
            DType::I64 => Ok(select_each::<T, i64>(ids.cast(), len, id, offset, dst.cast())),
            _ => Err(NoKernel::of("select_rows", dtype)),
        }, _ => Err(NoKernel::of("select_rows", ids_dtype)))
    }
}

unsafe fn select_each<T: Number, U: Number>(ids: *const T, len: usize, id: i64, offset: i64, dst: *mut U) -> usize {
    let id = T::from_i64(id);
    let mut count = 0;
    for j in 0..len {
        // SAFETY: the caller's contract; `count <= j`.
        unsafe {
            // Written in any case, kept only when equal: no branch to mispredict.
            *dst.add(count) = U::from_i64(offset + j as i64);
            count += usize::from(*ids.add(j) == id);
        }
    }
    count
}

/// `out[i] += weight * row[i * step]` for `n` elements of `f32`: one tap of a depthwise convolution or of average pooling.
///
/// # Safety
/// This machine has `isa`; `row` is readable at all those elements, `out` accessible over `n`; they do not overlap.
pub unsafe fn add_scaled_row(isa: Isa, out: *mut f32, row: *const f32, step: usize, weight: f32, n: usize) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe { scaled(isa, out, row, step, weight, n) }
}

simd_kernel! {
    fn scaled<S>(out: *mut f32, row: *const f32, step: usize, weight: f32, n: usize) {
        let w = S::splat(weight);
        let mut i = 0;
        // SAFETY: the caller's contract; `load_even` reads no further than the last element used.
        unsafe {
            while (step == 1 || step == 2) && i + S::LANES <= n {
                let x = if step == 1 { S::load(row.add(i)) } else { S::load_even(row.add(2 * i)) };
                S::store(out.add(i), S::fma(x, w, S::load(out.add(i))));
                i += S::LANES;
            }
            if step == 1 && i < n {
                let (x, y) = (S::load_n(row.add(i), n - i), S::load_n(out.add(i), n - i));
                S::store_n(out.add(i), n - i, S::fma(x, w, y));
                i = n;
            }
            while i < n {
                // One lane, so that the rounding is that of the vectors.
                let (x, y) = (S::load_n(row.add(i * step), 1), S::load_n(out.add(i), 1));
                S::store_n(out.add(i), 1, S::fma(x, w, y));
                i += 1;
            }
        }
    }
}
