//! Selection, multiply-add, and sources made of nothing: fill and iota.

use super::piece::repeat;
use super::{Area, Dst, NoKernel, Src, binary, flatten, plain_columns};
use crate::cpu::isa::Isa;
use crate::cpu::number::{Number, convert, with_number};
use crate::cpu::simd::{Simd, assert_available, simd_kernel};
use tarsia_tensor::{BinaryFn, DType};

/// `dst = condition ? a : b`; the condition is `bool`, the others are elements of `dtype`.
///
/// # Errors
/// If elements of `dtype` do not fill whole bytes.
///
/// # Safety
/// This machine has `isa`; the operands are accessible over `area`; `dst` may be the same tile as `a` or `b`.
pub unsafe fn select(
    isa: Isa,
    dtype: DType,
    area: Area,
    dst: Dst,
    condition: Src,
    a: Src,
    b: Src,
) -> Result<(), NoKernel> {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe {
        let (dtypes, sources) = ([DType::Bool, dtype, dtype], [condition, a, b]);
        plain_columns(isa, dtype, dtypes, area, dst, sources, |area, dst, [condition, a, b]| {
            plain_select(isa, dtype, area, dst, condition, a, b)
        })
    }
}

unsafe fn plain_select(
    isa: Isa,
    dtype: DType,
    area: Area,
    dst: Dst,
    condition: Src,
    a: Src,
    b: Src,
) -> Result<(), NoKernel> {
    // SAFETY: the caller's contract.
    unsafe {
        match dtype.bits() {
            8 => select_each::<u8>(area, dst, condition, a, b),
            16 => select_each::<u16>(area, dst, condition, a, b),
            32 => select_f32(isa, area, dst, condition, a, b),
            64 => select_each::<u64>(area, dst, condition, a, b),
            _ => return Err(NoKernel::of("select", dtype)),
        }
    }
    Ok(())
}

unsafe fn select_each<T: Copy>(area: Area, dst: Dst, condition: Src, a: Src, b: Src) {
    for r in 0..area.rows {
        for c in 0..area.cols {
            // SAFETY: the caller's contract.
            unsafe {
                let truth = *condition.data.offset(r as isize * condition.row + c as isize * condition.col) != 0;
                let a = *a.data.cast::<T>().offset(r as isize * a.row + c as isize * a.col);
                let b = *b.data.cast::<T>().offset(r as isize * b.row + c as isize * b.col);
                *dst.data.cast::<T>().offset(r as isize * dst.row + c as isize) = if truth { a } else { b };
            }
        }
    }
}

/// Loads `n <= LANES` lanes, or repeats the row's only element.
#[inline(always)]
unsafe fn lanes<S: Simd>(row: *const f32, col: isize, i: usize, n: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe {
        if col == 0 {
            S::splat(*row)
        } else if n == S::LANES {
            S::load(row.add(i))
        } else {
            S::load_n(row.add(i), n)
        }
    }
}

#[inline(always)]
unsafe fn put<S: Simd>(to: *mut f32, n: usize, v: S::F) {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { S::store(to, v) } else { S::store_n(to, n, v) } }
}

simd_kernel! {
    fn select_f32<S>(area: Area, dst: Dst, condition: Src, a: Src, b: Src) {
        for r in 0..area.rows {
            // SAFETY: the caller's contract; a part of the truth values goes through a buffer of 16.
            unsafe {
                let truth = condition.data.offset(r as isize * condition.row);
                let to = dst.data.cast::<f32>().offset(r as isize * dst.row);
                let (x, y) = (a.data.cast::<f32>().offset(r as isize * a.row), b.data.cast::<f32>().offset(r as isize * b.row));
                let mut i = 0;
                while i < area.cols {
                    let n = (area.cols - i).min(S::LANES);
                    let mut part = [0u8; 16];
                    let bytes = if condition.col == 0 {
                        part.fill(*truth);
                        part.as_ptr()
                    } else if n == S::LANES {
                        truth.add(i)
                    } else {
                        std::ptr::copy_nonoverlapping(truth.add(i), part.as_mut_ptr(), n);
                        part.as_ptr()
                    };
                    let m = S::load_mask(bytes);
                    put::<S>(to.add(i), n, S::select(m, lanes::<S>(x, a.col, i, n), lanes::<S>(y, b.col, i, n)));
                    i += n;
                }
            }
        }
    }
}

/// `dst = a * b + c`; `f32` rounds once where the level can, other types after each step.
///
/// # Errors
/// If `dtype` has no arithmetic.
///
/// # Safety
/// This machine has `isa`; the operands are accessible over `area`; `dst` may be the same tile as a source, but for types
/// other than `f32` not as `c`, unless `a` and `b` are other tiles and `c` is `dst` itself.
pub unsafe fn mul_add(isa: Isa, dtype: DType, area: Area, dst: Dst, a: Src, b: Src, c: Src) -> Result<(), NoKernel> {
    assert_available(isa);
    if dtype == DType::F32 {
        // SAFETY: the caller's contract.
        return unsafe {
            plain_columns(isa, dtype, [dtype; 3], area, dst, [a, b, c], |area, dst, [a, b, c]| {
                mul_add_f32(isa, area, dst, a, b, c);
                Ok(())
            })
        };
    }
    const PIECE: usize = 256;
    let bytes = dtype.bits() / 8;
    let mut room = [0u64; PIECE];
    let product = Dst { data: room.as_mut_ptr().cast(), row: 0 };
    for r in 0..area.rows {
        for i in (0..area.cols).step_by(PIECE) {
            let part = Area { rows: 1, cols: PIECE.min(area.cols - i) };
            // SAFETY: `i < cols`; the room holds a piece of any type.
            unsafe {
                let at = |s: Src| Src {
                    data: s.data.offset((r as isize * s.row + i as isize * s.col) * bytes as isize),
                    ..s
                };
                binary(isa, BinaryFn::Mul, dtype, part, product, at(a), at(b))?;
                let to = Dst { data: dst.data.offset((r as isize * dst.row + i as isize) * bytes as isize), ..dst };
                let product = Src { data: product.data, row: 0, col: 1 };
                binary(isa, BinaryFn::Add, dtype, part, to, product, at(c))?;
            }
        }
    }
    Ok(())
}

simd_kernel! {
    fn mul_add_f32<S>(area: Area, dst: Dst, a: Src, b: Src, c: Src) {
        for r in 0..area.rows {
            // SAFETY: the caller's contract.
            unsafe {
                let to = dst.data.cast::<f32>().offset(r as isize * dst.row);
                let (x, y) = (a.data.cast::<f32>().offset(r as isize * a.row), b.data.cast::<f32>().offset(r as isize * b.row));
                let z = c.data.cast::<f32>().offset(r as isize * c.row);
                let mut i = 0;
                while i < area.cols {
                    let n = (area.cols - i).min(S::LANES);
                    let (x, y) = (lanes::<S>(x, a.col, i, n), lanes::<S>(y, b.col, i, n));
                    put::<S>(to.add(i), n, S::fma(x, y, lanes::<S>(z, c.col, i, n)));
                    i += n;
                }
            }
        }
    }
}

/// `dst = value` everywhere; `value` holds one element of `bytes` (1, 2, 4 or 8) bytes, aligned.
///
/// # Safety
/// `dst` is writable over `area`, `value` readable and apart from it.
pub unsafe fn fill(bytes: usize, area: Area, dst: Dst, value: *const u8) {
    let (area, dst, []) = flatten(area, dst, []);
    for r in 0..area.rows {
        // SAFETY: the caller's contract.
        unsafe { repeat(value, bytes, dst.data.offset(r as isize * dst.row * bytes as isize), area.cols) };
    }
}

/// `dst[r, c] = start + r * row_step + c * col_step`, computed in `i64` and converted as [`super::cast`] does.
///
/// # Errors
/// If `dtype` is not a plain number.
///
/// # Safety
/// `dst` is writable over `area`.
pub unsafe fn iota(
    dtype: DType,
    area: Area,
    dst: Dst,
    start: i64,
    row_step: i64,
    col_step: i64,
) -> Result<(), NoKernel> {
    // SAFETY: the caller's contract.
    unsafe {
        with_number!(dtype, T => count::<T>(area, dst, start, row_step, col_step), _ => {
            return Err(NoKernel::of("iota", dtype));
        });
    }
    Ok(())
}

unsafe fn count<T: Number>(area: Area, dst: Dst, start: i64, row_step: i64, col_step: i64) {
    for r in 0..area.rows {
        let first = start.wrapping_add(row_step.wrapping_mul(r as i64));
        for c in 0..area.cols {
            let value = first.wrapping_add(col_step.wrapping_mul(c as i64));
            // SAFETY: the caller's contract.
            unsafe { *dst.data.cast::<T>().offset(r as isize * dst.row + c as isize) = convert(value) };
        }
    }
}
