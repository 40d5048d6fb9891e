//! Instructions whose addresses are data: gather, scatter, selecting rows. Indices are checked one by one.

use tarsia_tensor::{DType, ScatterFn};

use super::function;
use super::nest::{Array, Nest};
use super::operand::ClipAxis;
use super::vector::{get, pieces, put};
use super::wide::{self, PIECE, Width, with_wide};
use crate::cpu::Isa;
use crate::cpu::rows::{self as kernels, Indices, RowError};
use crate::cpu::vector::{Dst, Src};

/// The axis of a buffer that an index moves along, and what the other axes of the view add to it.
#[derive(Clone, Copy, Debug)]
struct Limit {
    low: i64,
    high: i64,
    step: i64,
    extent: i64,
}

/// A view whose first axis is replaced by indices.
pub struct Table<'a> {
    /// The view.
    pub array: Array,
    /// The axes of its buffer.
    pub axes: &'a [ClipAxis],
    /// The registers they are in.
    pub registers: &'a [i64],
}

impl Table<'_> {
    fn limits(&self) -> impl Iterator<Item = Limit> {
        self.axes.iter().map(|axis| {
            let r = |register| self.registers[register as usize];
            let mut limit = Limit { low: r(axis.start), high: r(axis.start), step: 0, extent: r(axis.extent) };
            for &(view, step) in &axis.steps {
                if view == 0 {
                    limit.step = limit.step.wrapping_add(r(step));
                    continue;
                }
                let reach = (self.array.size[view] as i64 - 1).saturating_mul(r(step));
                let end = if reach < 0 { &mut limit.low } else { &mut limit.high };
                *end = end.saturating_add(reach);
            }
            limit
        })
    }

    /// The distance from the view's origin to row `index`.
    fn shift(&self, index: i64) -> Result<isize, String> {
        for limit in self.limits() {
            let by = limit.step.saturating_mul(index);
            if limit.low.saturating_add(by) < 0 || limit.high.saturating_add(by) >= limit.extent {
                return Err(match limit.step {
                    1 => format!("index {index} is outside of an axis of {} elements", limit.extent - limit.low),
                    _ => format!(
                        "index {index} is outside of its axis ({} elements, {} apart)",
                        limit.extent, limit.step
                    ),
                });
            }
        }
        Ok(index as isize * self.array.stride[0])
    }
}

/// The positions of the elements of an index operand: it has at most one axis that is longer than 1.
fn line(array: &Array, what: &str) -> Result<(isize, usize), String> {
    let mut long = (0..array.rank).filter(|&axis| array.size[axis] != 1);
    let found = long.next();
    match long.next() {
        None => Ok(found.map_or((0, 1), |axis| (array.stride[axis], array.size[axis]))),
        Some(_) => Err(format!("{what} {:?} have more than one axis", array.shape())),
    }
}

/// `dst[j, …] = table[indices[j], …]`.
///
/// # Errors
/// An index out of range, or sizes that do not fit.
///
/// # Safety
/// `dst` and `indices` lie inside of their memory, and so does the table where an index is in range.
pub unsafe fn gather(isa: Isa, dst: &Array, table: &Table, indices: &Array) -> Result<(), String> {
    let (nest, count, stride) = rows(dst, table, indices)?;
    if let Some(plain) = PlainRows::of(&nest, dst, table, indices, stride, count) {
        let bytes = dst.dtype.bits() / 8;
        let (row_bytes, distance) = (plain.columns * bytes, plain.distance * bytes);
        let (src, to) = (table.array.address(table.array.at), dst.address(dst.at));
        // SAFETY: the caller's contract; rows below `rows` are inside of the table.
        let done = unsafe {
            kernels::gather_rows(isa, row_bytes, plain.rows, src, distance, plain.indices, to, plain.other * bytes)
        };
        return done.map_err(|error| error.to_string());
    }
    let mut piece = [0i64; PIECE];
    for first in (0..count).step_by(PIECE) {
        let n = PIECE.min(count - first);
        // SAFETY: the caller's contract; `shift` checks the index.
        unsafe {
            get(indices, indices.at + stride * first as isize, stride, &mut piece[..n]);
            for (k, &index) in piece[..n].iter().enumerate() {
                let shift = [(first + k) as isize * dst.stride[0], table.shift(index)?];
                nest.planes_at(shift, |plane| super::copy::copy_plane(isa, dst, &table.array, &plane));
            }
        }
    }
    Ok(())
}

/// `table[indices[j], …] ∘= src[j, …]`, in the order of `j`.
///
/// # Errors
/// An index out of range, or sizes that do not fit.
///
/// # Safety
/// As for [`gather`]; `src` lies inside of its memory.
pub unsafe fn scatter(isa: Isa, how: ScatterFn, table: &Table, src: &Array, indices: &Array) -> Result<(), String> {
    let (nest, count, stride) = rows(src, table, indices)?;
    if let Some(plain) = PlainRows::of(&nest, src, table, indices, stride, count) {
        let dst = Dst { data: table.array.address(table.array.at), row: plain.distance as isize };
        let from = Src { data: src.address(src.at), row: plain.other as isize, col: 1 };
        let dtype = src.dtype;
        // SAFETY: the caller's contract; rows below `rows` are inside of the table.
        let done =
            unsafe { kernels::scatter_rows(isa, how, dtype, plain.columns, plain.rows, dst, plain.indices, from) };
        match done {
            Err(RowError::NoKernel(_)) => {}
            done => return done.map_err(|error| error.to_string()),
        }
    }
    let mut piece = [0i64; PIECE];
    for first in (0..count).step_by(PIECE) {
        let n = PIECE.min(count - first);
        // SAFETY: the caller's contract; `shift` checks the index.
        unsafe {
            get(indices, indices.at + stride * first as isize, stride, &mut piece[..n]);
            for (k, &index) in piece[..n].iter().enumerate() {
                let shift = [(first + k) as isize * src.stride[0], table.shift(index)?];
                nest.planes_at(shift, |plane| update(isa, how, &table.array, src, &plane));
            }
        }
    }
    Ok(())
}

/// The axes of one row, the number of rows and the distance of indices.
fn rows(other: &Array, table: &Table, indices: &Array) -> Result<(Nest<2>, usize, isize), String> {
    let (stride, count) = line(indices, "indices")?;
    if other.rank == 0 || table.array.rank != other.rank || other.size[0] != count {
        let shapes = (other.shape(), table.array.shape(), indices.shape());
        return Err(format!("rows {:?} of {:?} at indices {:?}", shapes.0, shapes.1, shapes.2));
    }
    let nest = Nest::without(0, [other, &table.array]);
    let nest =
        nest.map_err(|axis| format!("rows {:?} and {:?} differ on axis {axis}", other.shape(), table.array.shape()))?;
    Ok((nest, count, stride))
}

/// Whole rows of neighbours, all of which lie inside of the table.
struct PlainRows {
    columns: usize,
    /// Rows of the table, and their distance.
    rows: usize,
    distance: usize,
    /// Distance of rows of the other array.
    other: usize,
    indices: Indices,
}

impl PlainRows {
    fn of(
        nest: &Nest<2>,
        other: &Array,
        table: &Table,
        indices: &Array,
        stride: isize,
        len: usize,
    ) -> Option<PlainRows> {
        let array = &table.array;
        let indexable = matches!(indices.dtype, DType::I32 | DType::I64) && (stride == 1 || len <= 1);
        if other.dtype != array.dtype || array.dtype.bits() < 8 || !indexable {
            return None;
        }
        let columns = nest.single_run()?;
        let mut rows = i64::MAX;
        for limit in table.limits() {
            if limit.low < 0 || limit.high >= limit.extent || limit.step < 0 {
                return None;
            }
            if limit.step > 0 {
                rows = rows.min((limit.extent - 1 - limit.high) / limit.step + 1);
            }
        }
        let (distance, apart) = (usize::try_from(array.stride[0]).ok()?, usize::try_from(other.stride[0]).ok()?);
        let indices = Indices { data: indices.address(indices.at), dtype: indices.dtype, len };
        Some(PlainRows { columns, rows: usize::try_from(rows).ok()?, distance, other: apart, indices })
    }
}

unsafe fn update(isa: Isa, how: ScatterFn, table: &Array, src: &Array, plane: &super::nest::Plane<2>) {
    if how == ScatterFn::Set {
        let [s, d] = plane.at;
        let swapped = super::nest::Plane {
            at: [d, s],
            size: plane.size,
            row: [plane.row[1], plane.row[0]],
            col: [plane.col[1], plane.col[0]],
        };
        // SAFETY: the caller's contract.
        return unsafe { super::copy::copy_plane(isa, table, src, &swapped) };
    }
    with_wide!(Width::of(table.dtype), W => pieces(plane, |at, col, n| {
        let (mut old, mut new) = ([W::default(); PIECE], [W::default(); PIECE]);
        // SAFETY: the caller's contract.
        unsafe {
            get(table, at[1], col[1], &mut old[..n]);
            get(src, at[0], col[0], &mut new[..n]);
            function::fold::<W>(function::of_scatter(how), &mut old[..n], &new[..n]);
            put(table, at[1], col[1], &old[..n]);
        }
    }));
}

/// `dst` = the positions in `src` of elements equal to `equal`, plus `base`; gives their number.
///
/// # Errors
/// More positions than the destination has room for.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn select_rows(dst: &Array, src: &Array, equal: i64, base: i64) -> Result<i64, String> {
    let ((to, room), (from, count)) = (line(dst, "positions")?, line(src, "values")?);
    let (mut piece, mut found) = ([0i64; PIECE], 0usize);
    for first in (0..count).step_by(PIECE) {
        let n = PIECE.min(count - first);
        // SAFETY: the caller's contract; `found < room` where something is written.
        unsafe {
            get(src, src.at + from * first as isize, from, &mut piece[..n]);
            for (k, _) in piece[..n].iter().enumerate().filter(|(_, value)| **value == equal) {
                if found == room {
                    return Err(format!("more than {room} elements equal {equal}"));
                }
                let place = base.wrapping_add((first + k) as i64);
                wide::store(dst.dtype, dst.base, dst.at + to * found as isize, 1, &[place]);
                found += 1;
            }
        }
    }
    Ok(found as i64)
}

/// The single element of an integer array.
///
/// # Errors
/// If there is not exactly one.
///
/// # Safety
/// The array lies inside of its memory.
pub unsafe fn read_scalar(src: &Array) -> Result<i64, String> {
    if src.count() != 1 {
        return Err(format!("{:?} is not a single element", src.shape()));
    }
    let mut value = [0i64];
    // SAFETY: the caller's contract.
    unsafe { get(src, src.at, 0, &mut value) };
    Ok(value[0])
}
