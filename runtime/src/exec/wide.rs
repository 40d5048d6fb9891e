//! Elements of any type, read and written in pieces widened to one of four types: the slow path of every instruction.
//!
//! Positions are counted in elements from a base address, also for packed types of fewer than 8 bits. Conversions are
//! those of ONNX's `Cast`: floats truncate towards integers (saturating at 64 bits, then wrapping to the width), integers
//! wrap, anything but zero is true, narrow floats saturate.

use half::{bf16, f16};
use tarsia_tensor::{Class, DType, MiniFloat, Overflow};

use crate::cpu::number::{Number, convert};

/// Elements in a piece.
pub const PIECE: usize = 128;

/// What a type is widened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Floats of at most 32 bits.
    F32,
    /// Double precision.
    F64,
    /// Signed integers.
    I64,
    /// Unsigned integers and bool.
    U64,
}

impl Width {
    /// The type that elements of `dtype` are widened to without loss.
    pub fn of(dtype: DType) -> Width {
        match (dtype, dtype.class()) {
            (DType::F64, _) => Width::F64,
            (_, Class::Float) => Width::F32,
            (_, Class::Int) => Width::I64,
            _ => Width::U64,
        }
    }
}

/// Calls `$body` with `$w` standing for the Rust type of a [`Width`].
macro_rules! with_wide {
    ($width:expr, $w:ident => $body:expr) => {
        match $width {
            $crate::exec::wide::Width::F32 => {
                type $w = f32;
                $body
            }
            $crate::exec::wide::Width::F64 => {
                type $w = f64;
                $body
            }
            $crate::exec::wide::Width::I64 => {
                type $w = i64;
                $body
            }
            $crate::exec::wide::Width::U64 => {
                type $w = u64;
                $body
            }
        }
    };
}
pub(crate) use with_wide;

/// A type that elements are widened to.
pub trait Wide: Number + Default {
    /// Its element type.
    const DTYPE: DType;
    /// From a float.
    fn from_f32(x: f32) -> Self;
    /// Rounded to `f32`, once.
    fn f32(self) -> f32;
}

macro_rules! wide {
    ($($ty:ty: $dtype:ident, $from_f32:expr;)*) => {$(
        impl Wide for $ty {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                let f: fn(f32) -> $ty = $from_f32;
                f(x)
            }
            #[inline(always)]
            fn f32(self) -> f32 {
                self as f32
            }
        }
    )*};
}
wide! {
    f32: F32, |x| x;
    f64: F64, f64::from;
    i64: I64, |x| x as i64;
    u64: U64, convert;
}

/// Reads `out.len()` elements, `stride` apart, from element `at` of `base` on.
///
/// # Safety
/// The elements are readable.
pub unsafe fn load<W: Wide>(dtype: DType, base: *const u8, at: isize, stride: isize, out: &mut [W]) {
    macro_rules! plain {
        ($ty:ty, $from:expr) => {
            // SAFETY: the caller's contract.
            unsafe { load_plain::<$ty, W>(base.cast(), at, stride, out, $from) }
        };
    }
    match dtype {
        DType::F32 => plain!(f32, W::from_f32),
        DType::F64 => plain!(f64, convert),
        DType::F16 => plain!(f16, |x| W::from_f32(x.to_f32())),
        DType::BF16 => plain!(bf16, |x| W::from_f32(x.to_f32())),
        DType::I8 => plain!(i8, |x| W::from_i64(x.into())),
        DType::I16 => plain!(i16, |x| W::from_i64(x.into())),
        DType::I32 => plain!(i32, |x| W::from_i64(x.into())),
        DType::I64 => plain!(i64, W::from_i64),
        DType::U8 => plain!(u8, |x| W::from_u64(x.into())),
        DType::Bool => plain!(u8, |x| W::from_u64(u64::from(x != 0))),
        DType::U16 => plain!(u16, |x| W::from_u64(x.into())),
        DType::U32 => plain!(u32, |x| W::from_u64(x.into())),
        DType::U64 => plain!(u64, W::from_u64),
        _ => {
            let narrow = MiniFloat::of(dtype);
            for (i, slot) in out.iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                let bits = unsafe { load_bits(dtype.bits(), base, at + i as isize * stride) };
                *slot = match narrow {
                    Some(format) => convert(format.decode(bits)),
                    None if dtype.class() == Class::Int => W::from_i64(sign_extend(bits, dtype.bits())),
                    None => W::from_u64(bits.into()),
                };
            }
        }
    }
}

/// Writes elements, `stride` apart, from element `at` of `base` on.
///
/// # Safety
/// The elements are writable; bytes that packed elements share are not accessed by others meanwhile.
pub unsafe fn store<W: Wide>(dtype: DType, base: *mut u8, at: isize, stride: isize, values: &[W]) {
    macro_rules! plain {
        ($ty:ty, $to:expr) => {
            // SAFETY: the caller's contract.
            unsafe { store_plain::<$ty, W>(base.cast(), at, stride, values, $to) }
        };
    }
    match dtype {
        DType::F32 => plain!(f32, |x: W| x.f32()),
        DType::F64 => plain!(f64, |x: W| x.to_f64()),
        DType::F16 => plain!(f16, |x: W| f16::from_f64(x.to_f64())),
        DType::BF16 => plain!(bf16, |x: W| bf16::from_f64(x.to_f64())),
        DType::I8 => plain!(i8, |x: W| x.to_i64() as i8),
        DType::I16 => plain!(i16, |x: W| x.to_i64() as i16),
        DType::I32 => plain!(i32, |x: W| x.to_i64() as i32),
        DType::I64 => plain!(i64, |x: W| x.to_i64()),
        DType::U8 => plain!(u8, |x: W| x.to_u64() as u8),
        DType::Bool => plain!(u8, |x: W| u8::from(x != W::default())),
        DType::U16 => plain!(u16, |x: W| x.to_u64() as u16),
        DType::U32 => plain!(u32, |x: W| x.to_u64() as u32),
        DType::U64 => plain!(u64, |x: W| x.to_u64()),
        _ => {
            let narrow = MiniFloat::of(dtype);
            for (i, &value) in values.iter().enumerate() {
                let bits = match narrow {
                    Some(format) => format.encode(value.to_f64(), Overflow::Saturate),
                    None => value.to_u64() as u8,
                };
                // SAFETY: the caller's contract.
                unsafe { store_bits(dtype.bits(), base, at + i as isize * stride, bits) };
            }
        }
    }
}

#[inline(always)]
unsafe fn load_plain<T: Copy, W: Wide>(
    base: *const T,
    at: isize,
    stride: isize,
    out: &mut [W],
    widen: impl Fn(T) -> W,
) {
    // SAFETY: the caller's contract; nothing is read where nothing is asked for.
    unsafe {
        if out.is_empty() {
            return;
        }
        let first = base.wrapping_offset(at);
        match stride {
            0 => out.fill(widen(*first)),
            1 => {
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot = widen(*first.add(i));
                }
            }
            _ => {
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot = widen(*first.offset(i as isize * stride));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn store_plain<T: Copy, W: Wide>(base: *mut T, at: isize, stride: isize, values: &[W], narrow: impl Fn(W) -> T) {
    // SAFETY: the caller's contract.
    unsafe {
        let first = base.wrapping_offset(at);
        if stride == 1 {
            for (i, &value) in values.iter().enumerate() {
                *first.add(i) = narrow(value);
            }
        } else {
            for (i, &value) in values.iter().enumerate() {
                *first.offset(i as isize * stride) = narrow(value);
            }
        }
    }
}

/// The bit pattern of element `at` of a type of at most 8 bits.
///
/// # Safety
/// The element is readable.
pub unsafe fn load_bits(bits: usize, base: *const u8, at: isize) -> u8 {
    let per_byte = (8 / bits) as isize;
    // SAFETY: the caller's contract.
    let byte = unsafe { *base.offset(at.div_euclid(per_byte)) };
    let shift = at.rem_euclid(per_byte) as usize * bits;
    (byte >> shift) & mask(bits)
}

/// Sets the bit pattern of element `at` of a type of at most 8 bits.
///
/// # Safety
/// The element is writable and nobody else accesses its byte.
pub unsafe fn store_bits(bits: usize, base: *mut u8, at: isize, value: u8) {
    let per_byte = (8 / bits) as isize;
    let shift = at.rem_euclid(per_byte) as usize * bits;
    // SAFETY: the caller's contract.
    unsafe {
        let byte = base.offset(at.div_euclid(per_byte));
        *byte = (*byte & !(mask(bits) << shift)) | ((value & mask(bits)) << shift);
    }
}

fn mask(bits: usize) -> u8 {
    0xff >> (8 - bits)
}

fn sign_extend(value: u8, bits: usize) -> i64 {
    let unused = 8 - bits;
    (((value << unused) as i8) >> unused).into()
}

/// The smallest and largest value of a type: the identities of maximum and minimum.
pub fn limits<W: Wide>(dtype: DType) -> (W, W) {
    match dtype.class() {
        Class::Float => (W::from_f64(f64::NEG_INFINITY), W::from_f64(f64::INFINITY)),
        Class::Int => {
            let unused = 64 - dtype.bits() as u32;
            (W::from_i64(i64::MIN >> unused), W::from_i64(i64::MAX >> unused))
        }
        _ if dtype == DType::Bool => (W::from_u64(0), W::from_u64(1)),
        _ => (W::from_u64(0), W::from_u64(u64::MAX >> (64 - dtype.bits().max(1) as u32))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarsia_tensor::Numbers;

    #[test]
    fn pieces_agree_with_the_reference_conversion() {
        let values = [0.0, 1.0, -1.0, 2.5, -3.5, 100.0, 300.0, -129.0];
        for &from in DType::ALL.iter().filter(|d| d.is_numeric()) {
            let numbers = Numbers::Float(values.to_vec()).cast(DType::F64, from, Overflow::Saturate);
            let bytes = numbers.encode(from, Overflow::Saturate);
            for &to in DType::ALL.iter().filter(|d| d.is_numeric()) {
                let expected = numbers.cast(from, to, Overflow::Saturate).encode(to, Overflow::Saturate);
                let mut found = vec![0u8; expected.len()];
                with_wide!(Width::of(from), W => {
                    let mut piece = [W::default(); 8];
                    // SAFETY: both arrays hold 8 elements; bytes of wider types are read unaligned only by chance of the allocator.
                    unsafe {
                        load::<W>(from, bytes.as_ptr(), 0, 1, &mut piece);
                        store::<W>(to, found.as_mut_ptr(), 0, 1, &piece);
                    }
                });
                assert_eq!(found, expected, "{from} to {to}");
            }
        }
    }
}
