//! Sorting and selection along rows, without allocation: the rows of indices are the only working memory.
//!
//! Equal elements keep their order (the lower index first); NaN is larger than everything.

use super::number::with_number;
use super::vector::NoKernel;
use half::{bf16, f16};
use std::cmp::Ordering;
use tarsia_tensor::DType;

/// Rows to be ordered, and where their ordered values and indices go; distances between rows in elements.
#[derive(Clone, Copy, Debug)]
pub struct Ordered {
    /// Rows.
    pub rows: usize,
    /// Elements of a source row.
    pub n: usize,
    /// The source.
    pub src: *const u8,
    /// From row to row of the source.
    pub src_row: usize,
    /// Ordered values.
    pub values: *mut u8,
    /// From row to row of the values.
    pub values_row: usize,
    /// Their indices in the source row.
    pub indices: *mut i64,
    /// From row to row of the indices.
    pub indices_row: usize,
}

/// Sorts each row: all `n` values and indices are written.
///
/// # Errors
/// If elements of `dtype` have no order.
///
/// # Safety
/// The source is readable over `[rows, n]`, values and indices writable; nothing overlaps; all is aligned.
pub unsafe fn sort_rows(dtype: DType, descending: bool, rows: Ordered) -> Result<(), NoKernel> {
    // SAFETY: the caller's contract.
    unsafe { ordered(dtype, "sort", descending, rows, rows.n) }
}

/// The `k` largest or smallest of each row, in order; `k` is at most `n`.
///
/// # Errors
/// If elements of `dtype` have no order.
///
/// # Safety
/// As for [`sort_rows`], with `k` values and indices in a row.
pub unsafe fn top_k_rows(dtype: DType, largest: bool, k: usize, rows: Ordered) -> Result<(), NoKernel> {
    // SAFETY: the caller's contract.
    unsafe { ordered(dtype, "top_k", largest, rows, k.min(rows.n)) }
}

unsafe fn ordered(dtype: DType, what: &str, descending: bool, rows: Ordered, k: usize) -> Result<(), NoKernel> {
    // SAFETY: the caller's contract.
    unsafe {
        match dtype {
            DType::F16 => each_row::<f16>(descending, rows, k),
            DType::BF16 => each_row::<bf16>(descending, rows, k),
            _ => with_number!(dtype, T => each_row::<T>(descending, rows, k), _ => {
                return Err(NoKernel::of(what, dtype));
            }),
        }
    }
    Ok(())
}

unsafe fn each_row<T: PartialOrd + Copy>(descending: bool, rows: Ordered, k: usize) {
    for r in 0..rows.rows {
        // SAFETY: the caller's contract.
        unsafe {
            let source = std::slice::from_raw_parts(rows.src.cast::<T>().add(r * rows.src_row), rows.n);
            let indices = std::slice::from_raw_parts_mut(rows.indices.add(r * rows.indices_row), k);
            let values = std::slice::from_raw_parts_mut(rows.values.cast::<T>().add(r * rows.values_row), k);
            let before = |&a: &i64, &b: &i64| compare(source, descending, a, b);
            select(source.len(), indices, before);
            for (value, &index) in values.iter_mut().zip(indices.iter()) {
                *value = source[index as usize];
            }
        }
    }
}

/// The order of two elements of a row.
#[inline(always)]
fn compare<T: PartialOrd + Copy>(source: &[T], descending: bool, a: i64, b: i64) -> Ordering {
    let (x, y) = (source[a as usize], source[b as usize]);
    // Whatever is not equal to itself is NaN.
    let is_nan = |x: &T| x.partial_cmp(x).is_none();
    let order = x.partial_cmp(&y).unwrap_or_else(|| is_nan(&x).cmp(&is_nan(&y)));
    let by_value = if descending { order.reverse() } else { order };
    by_value.then(a.cmp(&b))
}

/// Fills `best` with the first of `0..n` in the given order, sorted.
fn select(n: usize, best: &mut [i64], before: impl Fn(&i64, &i64) -> Ordering) {
    for (i, slot) in best.iter_mut().enumerate() {
        *slot = i as i64;
    }
    if best.len() < n && !best.is_empty() {
        // A heap of the best so far with the worst of them on top.
        for root in (0..best.len() / 2).rev() {
            sift(best, root, &before);
        }
        for candidate in best.len() as i64..n as i64 {
            if before(&candidate, &best[0]).is_lt() {
                best[0] = candidate;
                sift(best, 0, &before);
            }
        }
    }
    // The order is total, so that an unstable sort, which needs no memory, gives the stable result.
    best.sort_unstable_by(before);
}

fn sift(heap: &mut [i64], mut root: usize, before: &impl Fn(&i64, &i64) -> Ordering) {
    loop {
        let mut child = 2 * root + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && before(&heap[child], &heap[child + 1]).is_lt() {
            child += 1;
        }
        if !before(&heap[root], &heap[child]).is_lt() {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}
