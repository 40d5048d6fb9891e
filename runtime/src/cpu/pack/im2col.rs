//! Packing an image for a convolution: `B` with `K` = channels × window and `N` = a block of output positions.
//!
//! The rows of `B` run over (channel, window row, window column), as the weights `[C_out, C_in, KH, KW]` do; its columns over
//! the block's output positions, row by row. Positions of the window outside the image are zero. The matrix is never
//! built: each panel is filled from the image directly.

use super::*;

/// The geometry of a 2-D convolution over one image `[channels, height, width]`.
///
/// A 1-D convolution has height 1 and a window of height 1.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// Rows and columns of the image.
    pub image: [usize; 2],
    /// Elements from channel to channel, and from row to row, of the image; columns are neighbours.
    pub strides: [usize; 2],
    /// Rows and columns of the window.
    pub window: [usize; 2],
    /// Image rows and columns from one output position to the next.
    pub step: [usize; 2],
    /// Image rows and columns from one position of the window to the next.
    pub dilation: [usize; 2],
    /// Zeros before the first row and column.
    pub pad: [usize; 2],
}

/// A rectangle of output positions.
#[derive(Clone, Copy, Debug)]
pub struct OutputBlock {
    /// First output row and column.
    pub start: [usize; 2],
    /// Rows and columns of the block; the packed matrix has their product as `N`.
    pub len: [usize; 2],
}

/// A stretch of neighbouring output positions of one output row inside a panel.
#[derive(Clone, Copy, Default)]
struct Run {
    lane: usize,
    len: usize,
    row: usize,
    col: usize,
}

/// Packs rows `k` of the matrix (channel-major, see the module) into panels `[k.len()][NR]` from `image`.
///
/// # Safety
/// This machine has `isa`; `image` is readable over the channels that `k` covers; `panels` is writable over
/// `ceil(N / NR)` panels of `k.len() * NR` elements. Extents and padded positions fit in `isize`.
pub unsafe fn pack_im2col_f32(
    isa: Isa,
    image: *const f32,
    conv: &Conv2d,
    block: OutputBlock,
    k: std::ops::Range<usize>,
    panels: Panels<f32>,
) {
    assert_available(isa);
    let n = block.len[0] * block.len[1];
    let mut runs = [Run::default(); NR];
    for first in (0..n).step_by(NR) {
        let lanes = NR.min(n - first);
        let count = cut_runs(&block, first, lanes, &mut runs);
        // SAFETY: `first < n`; otherwise the caller's contract.
        unsafe {
            let panel = panels.data.add(first / NR * panels.step);
            fill_panel(isa, image, conv, &runs[..count], lanes, k.clone(), panel);
        }
    }
}

/// Cuts `lanes` positions from `first` on at the ends of output rows; gives the number of runs.
fn cut_runs(block: &OutputBlock, first: usize, lanes: usize, runs: &mut [Run; NR]) -> usize {
    let (mut lane, mut count) = (0, 0);
    while lane < lanes {
        let (row, col) = ((first + lane) / block.len[1], (first + lane) % block.len[1]);
        let len = (lanes - lane).min(block.len[1] - col);
        runs[count] = Run { lane, len, row: block.start[0] + row, col: block.start[1] + col };
        lane += len;
        count += 1;
    }
    count
}

simd_kernel! {
    /// One panel: for every row of the matrix, the image elements under each run.
    fn fill_panel<S>(
        image: *const f32, conv: &Conv2d, runs: &[Run], lanes: usize, k: std::ops::Range<usize>, panel: *mut f32,
    ) {
        let [_, kw] = conv.window;
        let area = conv.window[0] * kw;
        let (mut channel, mut at) = (k.start / area.max(1), k.start % area.max(1));
        for p in 0..k.len() {
            let (i, j) = (at / kw, at % kw);
            // SAFETY: the channel is one of those that `k` covers; the panel has `k.len()` rows.
            unsafe {
                let plane = image.add(channel * conv.strides[0]);
                let to = panel.add(p * NR);
                for lane in lanes..NR {
                    *to.add(lane) = 0.0;
                }
                for run in runs {
                    let row = (run.row * conv.step[0] + i * conv.dilation[0]).wrapping_sub(conv.pad[0]);
                    let to = to.add(run.lane);
                    if row >= conv.image[0] {
                        fill_zero::<S>(to, run.len);
                    } else {
                        let start = (run.col * conv.step[1] + j * conv.dilation[1]) as isize - conv.pad[1] as isize;
                        let from = plane.add(row * conv.strides[1]);
                        copy_run::<S>(from, conv.image[1], start, conv.step[1], to, run.len);
                    }
                }
            }
            at += 1;
            if at == area {
                (channel, at) = (channel + 1, 0);
            }
        }
    }
}

/// `to[i] = row[start + i * step]`, zero outside `0..width`.
#[inline(always)]
pub(crate) unsafe fn copy_run<S: Simd>(
    row: *const f32,
    width: usize,
    start: isize,
    step: usize,
    to: *mut f32,
    len: usize,
) {
    // The first position inside the row, and the first behind it.
    let before = if start < 0 { start.unsigned_abs().div_ceil(step).min(len) } else { 0 };
    let end = (width as isize - start).max(0).unsigned_abs().div_ceil(step).min(len).max(before);
    // SAFETY: positions before..end are inside the row; `to` has `len` elements.
    unsafe {
        fill_zero::<S>(to, before);
        fill_zero::<S>(to.add(end), len - end);
        let from = row.wrapping_offset(start + (before * step) as isize);
        copy_strided::<S>(from, step, to.add(before), end - before);
    }
}

/// `to[i] = from[i * step]`, all inside.
#[inline(always)]
unsafe fn copy_strided<S: Simd>(from: *const f32, step: usize, to: *mut f32, len: usize) {
    let mut i = 0;
    // SAFETY: the caller's contract; `load_even` reads one element less than two vectors.
    unsafe {
        if step == 1 {
            while i + S::LANES <= len {
                S::store(to.add(i), S::load(from.add(i)));
                i += S::LANES;
            }
            if i < len {
                S::store_n(to.add(i), len - i, S::load_n(from.add(i), len - i));
            }
            return;
        }
        while step == 2 && i + S::LANES <= len {
            S::store(to.add(i), S::load_even(from.add(2 * i)));
            i += S::LANES;
        }
        while i < len {
            *to.add(i) = *from.add(i * step);
            i += 1;
        }
    }
}

#[inline(always)]
unsafe fn fill_zero<S: Simd>(to: *mut f32, len: usize) {
    let mut i = 0;
    // SAFETY: the caller's contract.
    unsafe {
        while i + S::LANES <= len {
            S::store(to.add(i), S::zero());
            i += S::LANES;
        }
        if i < len {
            S::store_n(to.add(i), len - i, S::zero());
        }
    }
}
