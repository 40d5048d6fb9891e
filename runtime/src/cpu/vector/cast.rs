//! Conversion between every two element types, as ONNX's `Cast` defines it.
//!
//! Floats to integers truncate (saturating at 64 bits, then wrapping to the width), integers wrap, floats round to nearest
//! even, anything but zero is true. Narrow floats saturate if asked to, else overflow to infinity or NaN. Elements of
//! fewer than 8 bits are packed, the lowest bits first, and counted from the operand's first byte.

use super::piece::{PIECE, Room};
use super::{Area, Dst, NoKernel, Src, plain_columns};
use crate::cpu::gemm::Stored;
use crate::cpu::isa::Isa;
use crate::cpu::number::{Number, convert, with_number};
use crate::cpu::simd::{assert_available, simd_kernel};
use half::{bf16, f16};
use std::sync::OnceLock;
use tarsia_tensor::{Class, DType, MiniFloat, Overflow};

/// `dst = a`, converted from one type to the other. `saturate` clamps values too large for a narrow float.
///
/// # Errors
/// If one of the types is a string.
///
/// # Safety
/// This machine has `isa`; the operands are accessible over `area`; they are the same tile or do not overlap (the same
/// only if the types are equally wide).
pub unsafe fn cast(
    isa: Isa,
    from: DType,
    to: DType,
    saturate: bool,
    area: Area,
    dst: Dst,
    a: Src,
) -> Result<(), NoKernel> {
    assert_available(isa);
    for dtype in [from, to] {
        if !dtype.is_numeric() {
            return Err(NoKernel::of("cast", dtype));
        }
    }
    if from.bits() < 8 || to.bits() < 8 {
        // SAFETY: the caller's contract.
        unsafe { pieces(isa, from, to, saturate, area, dst, a) };
        return Ok(());
    }
    // SAFETY: the caller's contract.
    unsafe {
        plain_columns(isa, to, [from], area, dst, [a], |area, dst, [a]| {
            pieces(isa, from, to, saturate, area, dst, a);
            Ok(())
        })
    }
}

/// Converts row by row, piece by piece; columns are 0 or 1 apart.
unsafe fn pieces(isa: Isa, from: DType, to: DType, saturate: bool, area: Area, dst: Dst, a: Src) {
    let overflow = if saturate { Overflow::Saturate } else { Overflow::Special };
    let (mut decoded, mut out) = (Room::new(), Room::new());
    for r in 0..area.rows {
        for c in (0..area.cols).step_by(PIECE) {
            let n = PIECE.min(area.cols - c);
            // SAFETY: `c + n <= cols`; a room holds PIECE elements of up to 8 bytes.
            unsafe {
                let at = r as isize * a.row + c as isize * a.col;
                let from_run = Run { dtype: from, data: a.data, at, n };
                let plain = decode(isa, from_run, a.col, &mut decoded);
                let at = r as isize * dst.row + c as isize;
                if a.data == dst.data.cast_const() && to.bits() >= 8 {
                    encode(isa, plain, to, overflow, out.data(), 0);
                    let bytes = to.bits() / 8;
                    std::ptr::copy_nonoverlapping(
                        out.data().cast_const(),
                        dst.data.offset(at * bytes as isize),
                        n * bytes,
                    );
                } else {
                    encode(isa, plain, to, overflow, dst.data, at);
                }
            }
        }
    }
}

/// `n` neighbouring elements, the first being element `at` of `data`.
#[derive(Clone, Copy)]
struct Run {
    dtype: DType,
    data: *const u8,
    at: isize,
    n: usize,
}

/// The type that a run is brought to before the conversion proper.
fn plain_type(dtype: DType) -> DType {
    match dtype {
        DType::U2 | DType::U4 => DType::U8,
        DType::I2 | DType::I4 => DType::I8,
        _ if with_number!(dtype, T => size_of::<T>() > 0, _ => false) => dtype,
        _ => DType::F32,
    }
}

/// The run (or, with `col` 0, its first element repeated) as contiguous plain elements, in `room` unless they lie so.
unsafe fn decode(isa: Isa, run: Run, col: isize, room: &mut Room) -> Run {
    let plain = plain_type(run.dtype);
    let bytes = plain.bits() / 8;
    let n = if col == 0 { 1 } else { run.n };
    let to = room.data();
    // SAFETY: the caller's contract; the room holds the run.
    unsafe {
        let mut data = to.cast_const();
        let from = run.data.offset(run.at * run.dtype.bits() as isize / 8);
        match run.dtype {
            DType::F16 => widen::<f16>(isa, from.cast(), to.cast(), n),
            DType::BF16 => widen::<bf16>(isa, from.cast(), to.cast(), n),
            dtype if plain == dtype => data = from,
            dtype if plain == DType::F32 => {
                let values = small_float_values(dtype);
                for i in 0..n {
                    *to.cast::<f32>().add(i) = values[usize::from(packed(run, i))];
                }
            }
            dtype => {
                let unused = 8 - dtype.bits();
                for i in 0..n {
                    let raised = packed(run, i) << unused;
                    let signed = (raised as i8 >> unused) as u8;
                    *to.add(i) = if plain == DType::I8 { signed } else { raised >> unused };
                }
            }
        }
        if col == 0 && run.n > 1 {
            let mut one = 0u64;
            std::ptr::copy_nonoverlapping(data, (&raw mut one).cast(), bytes);
            super::piece::repeat((&raw const one).cast(), bytes, to, run.n);
            data = to;
        }
        Run { dtype: plain, data, at: 0, n: run.n }
    }
}

/// The bits of element `i` of a run of elements of at most 8 bits.
unsafe fn packed(run: Run, i: usize) -> u8 {
    let bits = run.dtype.bits();
    // Packed elements are counted from the operand's start, so the place is not negative.
    let at = (run.at + i as isize) * bits as isize;
    // SAFETY: the element is inside the run.
    let byte = unsafe { *run.data.offset(at.div_euclid(8)) };
    (byte >> at.rem_euclid(8)) & ((1u16 << bits) - 1) as u8
}

/// What every bit pattern of a small float means.
fn small_float_values(dtype: DType) -> &'static [f32; 256] {
    static VALUES: [OnceLock<[f32; 256]>; 6] = [const { OnceLock::new() }; 6];
    const FORMATS: [DType; 6] =
        [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0, DType::F4E2M1];
    let index = FORMATS.iter().position(|&f| f == dtype).unwrap_or(0);
    VALUES[index].get_or_init(|| {
        let mut values = [f32::NAN; 256];
        if let Some(format) = MiniFloat::of(FORMATS[index]) {
            for (bits, value) in values.iter_mut().enumerate() {
                *value = format.decode(bits as u8) as f32;
            }
        }
        values
    })
}

/// Converts a plain run and stores it from element `at` of `data` on.
unsafe fn encode(isa: Isa, run: Run, to: DType, overflow: Overflow, data: *mut u8, at: isize) {
    // SAFETY: the caller's contract.
    unsafe {
        if plain_type(to) == to {
            return convert_run(isa, run, to, data.offset(at * to.bits() as isize / 8));
        }
        let mut room = Room::new();
        let room = room.data().cast::<u64>();
        // Types that f32 holds exactly round only once when they go through it.
        let exact = matches!(run.dtype, DType::F32) || run.dtype.bits() <= 16;
        if exact && matches!(to, DType::F16 | DType::BF16) {
            convert_run(isa, run, DType::F32, room.cast());
            return match to {
                DType::F16 => narrow_f16(isa, room.cast(), data.cast::<u16>().offset(at), run.n),
                _ => narrow_bf16(isa, room.cast(), data.cast::<u16>().offset(at), run.n),
            };
        }
        let wide = match to.class() {
            Class::Float => DType::F64,
            Class::Int => DType::I64,
            _ => DType::U64,
        };
        convert_run(isa, run, wide, room.cast());
        for i in 0..run.n {
            let value = *room.cast::<f64>().add(i);
            let at = at + i as isize;
            match to {
                DType::F16 => *data.cast::<f16>().offset(at) = f16::from_f64(value),
                DType::BF16 => *data.cast::<bf16>().offset(at) = bf16::from_f64(value),
                _ => {
                    let bits = MiniFloat::of(to).map_or(*room.add(i) as u8, |f| f.encode(value, overflow));
                    set_packed(to, data, at, bits);
                }
            }
        }
    }
}

/// Stores the bits of element `at` of elements of at most 8 bits.
unsafe fn set_packed(dtype: DType, data: *mut u8, at: isize, value: u8) {
    let mask = ((1u16 << dtype.bits()) - 1) as u8;
    let bit = at * dtype.bits() as isize;
    // SAFETY: the element is inside the operand.
    unsafe {
        let byte = data.offset(bit.div_euclid(8));
        *byte = (*byte & !(mask << bit.rem_euclid(8))) | ((value & mask) << bit.rem_euclid(8));
    }
}

/// Converts between plain types.
unsafe fn convert_run(isa: Isa, run: Run, to: DType, out: *mut u8) {
    if run.dtype == to {
        // SAFETY: the caller's contract.
        return unsafe { std::ptr::copy_nonoverlapping(run.data, out, run.n * to.bits() / 8) };
    }
    // SAFETY: the caller's contract.
    unsafe {
        with_number!(run.dtype, T => {
            if to == DType::Bool {
                is_set::<T>(run.data.cast(), out, run.n)
            } else {
                with_number!(to, U => each::<T, U>(isa, run.data.cast(), out.cast(), run.n), _ => ())
            }
        }, _ => ())
    }
}

unsafe fn is_set<T: Number>(from: *const T, to: *mut u8, n: usize) {
    for i in 0..n {
        // SAFETY: the caller's contract.
        unsafe { *to.add(i) = u8::from(*from.add(i) != T::ZERO) };
    }
}

unsafe fn each<T: Number, U: Number>(isa: Isa, from: *const T, to: *mut U, n: usize) {
    #[inline(always)]
    unsafe fn body<T: Number, U: Number>(from: *const T, to: *mut U, n: usize) {
        for i in 0..n {
            // SAFETY: the caller's contract.
            unsafe { *to.add(i) = convert(*from.add(i)) };
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    unsafe fn avx2<T: Number, U: Number>(from: *const T, to: *mut U, n: usize) {
        // SAFETY: the caller's contract.
        unsafe { body(from, to, n) }
    }
    match isa {
        // SAFETY: the caller's contract; this machine has the level.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => unsafe { avx2(from, to, n) },
        // SAFETY: as above.
        _ => unsafe { body(from, to, n) },
    }
}

simd_kernel! {
    fn widen<S, T: Stored>(from: *const T, to: *mut f32, n: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut i = 0;
            while i + S::LANES <= n {
                S::store(to.add(i), T::load::<S>(from.add(i)));
                i += S::LANES;
            }
            if i < n {
                S::store_n(to.add(i), n - i, T::load_n::<S>(from.add(i), n - i));
            }
        }
    }
}

/// A conversion from `f32` to 16 bits; parts of a vector go by way of a buffer.
macro_rules! narrowing {
    ($($name:ident: $store:ident;)*) => {$(
        simd_kernel! {
            fn $name<S>(from: *const f32, to: *mut u16, n: usize) {
                // SAFETY: the caller's contract; no level has more than 16 lanes.
                unsafe {
                    let mut i = 0;
                    while i + S::LANES <= n {
                        S::$store(to.add(i), S::load(from.add(i)));
                        i += S::LANES;
                    }
                    if i < n {
                        let mut part = [0u16; 16];
                        S::$store(part.as_mut_ptr(), S::load_n(from.add(i), n - i));
                        std::ptr::copy_nonoverlapping(part.as_ptr(), to.add(i), n - i);
                    }
                }
            }
        }
    )*};
}
narrowing! {
    narrow_f16: store_f16;
    narrow_bf16: store_bf16;
}
