//! Packing 8-bit operands into panels with `K` grouped by four.

use super::{MR, NR, Panels, Source};
use crate::cpu::gemm::GROUP;

/// The number of bytes of the panels of `outer` by `k`, if it fits.
pub fn packed_bytes_len(outer: usize, k: usize, width: usize) -> Option<usize> {
    super::packed_len(outer, k.div_ceil(GROUP).checked_mul(GROUP)?, width)
}

/// Packs 8-bit `A` (`outer` = M) into panels `[ceil(K / 4)][MR][4]`.
///
/// # Safety
/// `source` is readable over its extents, `panels` writable over `ceil(outer / MR)` panels; they do not overlap.
pub unsafe fn pack_a_bytes(source: Source<u8>, panels: Panels<u8>) {
    // SAFETY: the caller's contract.
    unsafe { pack::<MR>(source, panels) }
}

/// Packs 8-bit `B` (`outer` = N) into panels `[ceil(K / 4)][NR][4]`.
///
/// # Safety
/// As for [`pack_a_bytes`], with `NR` for `MR`.
pub unsafe fn pack_b_bytes(source: Source<u8>, panels: Panels<u8>) {
    // SAFETY: the caller's contract.
    unsafe { pack::<NR>(source, panels) }
}

unsafe fn pack<const W: usize>(source: Source<u8>, panels: Panels<u8>) {
    let Source { data, outer, k, outer_stride, k_stride } = source;
    for i in (0..outer).step_by(W) {
        let lanes = W.min(outer - i);
        for g in 0..k.div_ceil(GROUP) {
            let steps = GROUP.min(k - g * GROUP);
            // SAFETY: `i + lane < outer` and `g * 4 + u < k` where the source is read; a panel has whole groups of W.
            unsafe {
                let to = panels.data.add(i / W * panels.step + g * W * GROUP);
                let from = data.add(i * outer_stride + g * GROUP * k_stride);
                for lane in 0..W {
                    let mut word = [0u8; GROUP];
                    if lane < lanes {
                        let from = from.add(lane * outer_stride);
                        if steps == GROUP && k_stride == 1 {
                            word = from.cast::<[u8; GROUP]>().read();
                        } else {
                            for (u, byte) in word.iter_mut().enumerate().take(steps) {
                                *byte = *from.add(u * k_stride);
                            }
                        }
                    }
                    to.add(lane * GROUP).cast::<[u8; GROUP]>().write(word);
                }
            }
        }
    }
}
