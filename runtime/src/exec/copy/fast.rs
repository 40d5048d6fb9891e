//! Moves on the CPU's kernels: windows with fill, and packing into the panels of the matrix unit.

use smallvec::SmallVec;

use super::End;
use crate::cpu::Isa;
use crate::cpu::gemm::{GROUP, MR, NR};
use crate::cpu::moves::{self, RANK, SourceAxis};
use crate::cpu::pack::{PackView, PanelForm, Panels, pack_view};
use crate::exec::matrix::Blocks;
use crate::exec::mmad::{BYTES_LEFT, BYTES_RIGHT, LEFT, RIGHT, grouped_panels, panels};
use crate::exec::nest::Array;

/// `dst = src`, if a kernel does it; sizes fit.
///
/// # Safety
/// As for [`super::copy`].
pub unsafe fn copy(isa: Isa, dst: &End, src: &End, rows: usize) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        match (dst, src) {
            (End::Strided(to), End::Clipped(..)) => fill_window(isa, to, src),
            (End::Blocked(to, blocks), End::Strided(_) | End::Clipped(..)) => pack(isa, to, blocks, src, rows),
            _ => false,
        }
    }
}

/// A source's axes as linear functions of the indices of a view.
struct Window {
    /// Per source axis: elements, distance, first index.
    axes: SmallVec<[(usize, isize, isize); RANK]>,
    /// Per source axis and view axis: the step.
    steps: SmallVec<[[isize; RANK]; RANK]>,
    /// The value outside.
    fill: u64,
}

impl Window {
    /// The window of an end that is not blocked, if it has few enough axes.
    fn of(end: &End) -> Option<Window> {
        let mut window = Window { axes: SmallVec::new(), steps: SmallVec::new(), fill: 0 };
        let array = end.array();
        if array.rank > RANK {
            return None;
        }
        let repeats = |axis: usize| array.size[axis] == 1;
        match end {
            End::Strided(_) => {
                // One axis with all of memory in it: nothing is outside.
                let mut steps = [0; RANK];
                (0..array.rank).filter(|&axis| !repeats(axis)).for_each(|axis| steps[axis] = array.stride[axis]);
                window.axes.push((isize::MAX as usize, 1, array.at));
                window.steps.push(steps);
            }
            End::Clipped(_, clip, registers) => {
                let r = |register: u32| registers[register as usize] as isize;
                let mut distance = 1isize;
                for axis in clip.axes.iter().rev() {
                    let mut steps = [0; RANK];
                    axis.steps.iter().filter(|(of, _)| !repeats(*of)).for_each(|&(of, step)| steps[of] += r(step));
                    let extent = usize::try_from(r(axis.extent)).ok()?;
                    window.axes.push((extent, distance, r(axis.start)));
                    window.steps.push(steps);
                    distance = distance.checked_mul(r(axis.extent))?;
                }
                window.fill = clip.fill;
            }
            End::Blocked(..) => return None,
        }
        (window.axes.len() <= RANK && window.is_moderate()).then_some(window)
    }

    /// Whether indices stay far from the ends of the number range.
    fn is_moderate(&self) -> bool {
        const FAR: usize = 1 << 40;
        let starts = self.axes.iter().all(|axis| axis.2.unsigned_abs() < FAR);
        starts && self.steps.iter().flatten().all(|step| step.unsigned_abs() < FAR)
    }

    /// The axes as the kernels take them, with the view's axes in this order.
    fn source_axes<'a>(
        &self,
        order: &[usize],
        room: &'a mut [[isize; RANK]; RANK],
    ) -> SmallVec<[SourceAxis<'a>; RANK]> {
        for (row, steps) in room.iter_mut().zip(&self.steps) {
            order.iter().zip(row).for_each(|(&axis, slot)| *slot = steps[axis]);
        }
        let axes = self.axes.iter().zip(&*room);
        axes.map(|(&(len, stride, start), steps)| SourceAxis { len, stride, start, steps: &steps[..order.len()] })
            .collect()
    }
}

unsafe fn fill_window(isa: Isa, to: &Array, src: &End) -> bool {
    let (from, bits) = (src.array(), to.dtype.bits());
    let (Some(window), true) = (Window::of(src), from.dtype == to.dtype && bits >= 8) else { return false };
    let order: SmallVec<[usize; RANK]> = (0..to.rank).collect();
    let mut room = [[0; RANK]; RANK];
    let axes = window.source_axes(&order, &mut room);
    let (fill, target) = ((&raw const window.fill).cast(), to.address(to.at));
    // SAFETY: the caller's contract: the window's axes are those of the buffer.
    let done =
        unsafe { moves::copy_filled(isa, bits / 8, to.shape(), &to.stride[..to.rank], &axes, from.base, target, fill) };
    done.is_ok()
}

/// Into panels of the matrix unit.
unsafe fn pack(isa: Isa, to: &Array, blocks: &Blocks, src: &End, rows: usize) -> bool {
    let kinds = [(LEFT, MR, 1), (RIGHT, NR, 1), (BYTES_LEFT, MR, GROUP), (BYTES_RIGHT, NR, GROUP)];
    let Some((kind, width, group)) = kinds.into_iter().find(|kind| kind.0 == blocks.fractal) else { return false };
    // Panels go across rows of the left operand and columns of the right one.
    let across = usize::from(kind == RIGHT || kind == BYTES_RIGHT);
    let found = if group == 1 { panels(blocks, &kind, across) } else { grouped_panels(blocks, &kind, across) };
    let (Some((at, step)), Some(window)) = (found, Window::of(src)) else { return false };
    let from = src.array();
    let (down, right): (SmallVec<[usize; RANK]>, SmallVec<[usize; RANK]>) =
        ((0..rows).collect(), (rows..from.rank).collect());
    let (outer, k) = if across == 0 { (down, right) } else { (right, down) };
    let lengths = |axes: &[usize]| -> SmallVec<[usize; RANK]> { axes.iter().map(|&axis| from.size[axis]).collect() };
    let (outer_lengths, k_lengths) = (lengths(&outer), lengths(&k));
    // A source that repeats along an axis has size 1 there, which the panels do not.
    let count = |lengths: &[usize]| lengths.iter().product::<usize>();
    if count(&outer_lengths) != to.size[across] || count(&k_lengths) != to.size[1 - across] {
        return false;
    }
    let order: SmallVec<[usize; RANK]> = outer.iter().chain(&k).copied().collect();
    let mut room = [[0; RANK]; RANK];
    let axes = window.source_axes(&order, &mut room);
    let view = PackView {
        data: from.base,
        dtype: from.dtype,
        axes: &axes,
        outer: &outer_lengths,
        k: &k_lengths,
        fill: (&raw const window.fill).cast(),
    };
    let panels = Panels { data: to.address(at), step };
    // SAFETY: the caller's contract: the panels are inside of the blocked matrix, the window's axes those of the buffer.
    unsafe { pack_view(isa, PanelForm { width, group }, view, to.dtype, panels) }.is_ok()
}
