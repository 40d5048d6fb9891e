//! Vectors of `f32` lanes at the three levels of [`Isa`], and the macro that compiles a kernel for each of them.
//!
//! A kernel is written once against [`Simd`] and inlined into one function per level ([`simd_kernel`]), so that its
//! vector operations become single instructions. The operations of a level may only run on a machine that has it; the
//! levels' types are private to `cpu`, and the only way to them is a kernel's dispatch on an [`Isa`].

use super::isa::Isa;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use {avx2::Avx2, avx512::Avx512};

/// One level of vector instructions: [`Simd::LANES`] lanes of `f32`, of `i32` (same width), and truth values.
///
/// `unsafe` methods access memory: `load`/`store` all lanes, the `_n` forms the first `n < LANES` lanes (the others
/// read as zero and are not touched). No alignment is required.
pub(crate) trait Simd: Copy + 'static {
    /// Lanes of a vector.
    const LANES: usize;
    type F: Copy;
    type I: Copy;
    type M: Copy;

    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn load_n(p: *const f32, n: usize) -> Self::F;
    unsafe fn store(p: *mut f32, v: Self::F);
    unsafe fn store_n(p: *mut f32, n: usize, v: Self::F);
    /// `p[0], p[2], …`: reads `2 * LANES - 1` elements.
    unsafe fn load_even(p: *const f32) -> Self::F;
    /// Zero-extends 16-bit elements.
    unsafe fn load_u16(p: *const u16) -> Self::I;
    /// Stores the low 16 bits of each lane.
    unsafe fn store_u16(p: *mut u16, v: Self::I);
    /// Reads IEEE half precision.
    unsafe fn load_f16(p: *const u16) -> Self::F;
    /// Rounds to IEEE half precision, ties to even.
    unsafe fn store_f16(p: *mut u16, v: Self::F);
    /// Reads one byte per lane; any bit set is true.
    unsafe fn load_mask(p: *const u8) -> Self::M;
    /// Stores 0 or 1 per lane.
    unsafe fn store_mask(p: *mut u8, m: Self::M);
    /// Brings the cache line of `p` closer; `p` may be any address.
    fn prefetch(p: *const u8);

    fn splat(x: f32) -> Self::F;
    fn add(a: Self::F, b: Self::F) -> Self::F;
    fn sub(a: Self::F, b: Self::F) -> Self::F;
    fn mul(a: Self::F, b: Self::F) -> Self::F;
    fn div(a: Self::F, b: Self::F) -> Self::F;
    fn sqrt(a: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the level has it, else twice.
    fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a * b + c`, rounded once (within one part in 2^29 of a tie).
    fn fma_exact(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a < b ? a : b`: the second operand where either is NaN.
    fn min(a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`: the second operand where either is NaN.
    fn max(a: Self::F, b: Self::F) -> Self::F;
    fn floor(a: Self::F) -> Self::F;
    fn ceil(a: Self::F) -> Self::F;
    fn trunc(a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(a: Self::F) -> Self::F;
    fn lt(a: Self::F, b: Self::F) -> Self::M;
    fn le(a: Self::F, b: Self::F) -> Self::M;
    fn eq(a: Self::F, b: Self::F) -> Self::M;
    /// `m ? a : b`
    fn select(m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    fn mask_and(a: Self::M, b: Self::M) -> Self::M;
    fn mask_or(a: Self::M, b: Self::M) -> Self::M;
    fn mask_not(a: Self::M) -> Self::M;
    fn any(m: Self::M) -> bool;

    fn bits(a: Self::F) -> Self::I;
    fn from_bits(a: Self::I) -> Self::F;
    fn splat_i(x: i32) -> Self::I;
    fn add_i(a: Self::I, b: Self::I) -> Self::I;
    fn sub_i(a: Self::I, b: Self::I) -> Self::I;
    fn and_i(a: Self::I, b: Self::I) -> Self::I;
    fn or_i(a: Self::I, b: Self::I) -> Self::I;
    fn xor_i(a: Self::I, b: Self::I) -> Self::I;
    fn shl_i(a: Self::I, n: i32) -> Self::I;
    /// Shift right, filling with zeros.
    fn shr_i(a: Self::I, n: i32) -> Self::I;
    /// Shift right, filling with the sign.
    fn sar_i(a: Self::I, n: i32) -> Self::I;
    fn eq_i(a: Self::I, b: Self::I) -> Self::M;
    /// To the nearest integer, ties to even; defined for magnitudes below 2^22.
    fn to_i32(a: Self::F) -> Self::I;
    fn from_i32(a: Self::I) -> Self::F;

    /// The sum of the lanes, by halves.
    fn sum(a: Self::F) -> f32;

    #[inline(always)]
    fn zero() -> Self::F {
        Self::splat(0.0)
    }
    #[inline(always)]
    fn and_f(a: Self::F, b: Self::F) -> Self::F {
        Self::from_bits(Self::and_i(Self::bits(a), Self::bits(b)))
    }
    #[inline(always)]
    fn or_f(a: Self::F, b: Self::F) -> Self::F {
        Self::from_bits(Self::or_i(Self::bits(a), Self::bits(b)))
    }
    #[inline(always)]
    fn xor_f(a: Self::F, b: Self::F) -> Self::F {
        Self::from_bits(Self::xor_i(Self::bits(a), Self::bits(b)))
    }
    #[inline(always)]
    fn neg(a: Self::F) -> Self::F {
        Self::xor_f(a, Self::splat(-0.0))
    }
    #[inline(always)]
    fn abs(a: Self::F) -> Self::F {
        Self::from_bits(Self::and_i(Self::bits(a), Self::splat_i(0x7fff_ffff)))
    }
    /// `|magnitude|` with the sign of `sign`; `magnitude` must not be negative.
    #[inline(always)]
    fn with_sign(magnitude: Self::F, sign: Self::F) -> Self::F {
        Self::or_f(magnitude, Self::and_f(sign, Self::splat(-0.0)))
    }
    #[inline(always)]
    fn is_nan(a: Self::F) -> Self::M {
        Self::mask_not(Self::eq(a, a))
    }
    /// Reads bfloat16.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` elements.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        // SAFETY: as for this function.
        let raw = unsafe { Self::load_u16(p) };
        Self::from_bits(Self::shl_i(raw, 16))
    }
    /// Rounds to bfloat16, ties to even; NaN stays NaN.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` elements.
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::F) {
        let bits = Self::bits(v);
        let odd = Self::and_i(Self::shr_i(bits, 16), Self::splat_i(1));
        let rounded = Self::add_i(bits, Self::add_i(odd, Self::splat_i(0x7fff)));
        let quiet = Self::or_i(bits, Self::splat_i(0x40_0000));
        let chosen = Self::select(Self::is_nan(v), Self::from_bits(quiet), Self::from_bits(rounded));
        // SAFETY: as for this function.
        unsafe { Self::store_u16(p, Self::shr_i(Self::bits(chosen), 16)) }
    }
}

/// Defines a function that runs its body at the level given as first argument.
///
/// The body is written for a type parameter (`S` below) that implements [`Simd`]; further type parameters need one
/// bound each. The body is an `unsafe fn`'s and is inlined into one function per level.
macro_rules! simd_kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$s:ident $(, $g:ident : $bound:path)*>
     ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis unsafe fn $name<$($g: $bound),*>(isa: $crate::cpu::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            unsafe fn body<$s: $crate::cpu::simd::Simd $(, $g: $bound)*>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            unsafe fn avx512<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller upholds the kernel's contract.
                unsafe { body::<$crate::cpu::simd::Avx512 $(, $g)*>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
            unsafe fn avx2<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller upholds the kernel's contract.
                unsafe { body::<$crate::cpu::simd::Avx2 $(, $g)*>($($arg),*) }
            }
            match isa {
                // SAFETY: the caller upholds the kernel's contract, and this machine has the level.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx512 => unsafe { avx512::<$($g),*>($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx2 => unsafe { avx2::<$($g),*>($($arg),*) },
                // SAFETY: as above.
                _ => unsafe { body::<$crate::cpu::simd::Portable $(, $g)*>($($arg),*) },
            }
        }
    };
}
pub(crate) use simd_kernel;

/// Checks in debug builds that a kernel may run at this level.
#[inline(always)]
pub(crate) fn assert_available(isa: Isa) {
    debug_assert!(isa.is_available(), "this machine does not have {isa}");
}
