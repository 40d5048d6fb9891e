//! Packing from a view of any number of axes: windows of images, transposed or strided operands, with fill.
//!
//! The view's axes fall into outer ones (rows of `A`, columns of `B`) and those of `K`; the index along each axis of the source
//! is a linear function of all of them, and out of range reads the fill. Views that are plain matrices after joining axes
//! take the fast paths of [`pack_a_f32`] and [`pack_b_f32`].

use super::window::as_window;
use super::*;
use crate::cpu::moves::{MoveError, RANK, SourceAxis, in_range};
use crate::cpu::vector::{Area, Dst, Src, cast};
use tarsia_tensor::DType;

/// The shape of the panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanelForm {
    /// Rows of `A` or columns of `B` in a panel: [`MR`] or [`NR`].
    pub width: usize,
    /// Steps of `K` that lie side by side in a lane: 1, or 4 for bytes.
    pub group: usize,
}

/// A view to pack; its axes are the outer ones followed by those of `K`, at most [`RANK`] together.
#[derive(Clone, Copy, Debug)]
pub struct PackView<'a> {
    /// The source's first element.
    pub data: *const u8,
    /// Element type of the source.
    pub dtype: DType,
    /// The axes of the source.
    pub axes: &'a [SourceAxis<'a>],
    /// Lengths of the outer axes.
    pub outer: &'a [usize],
    /// Lengths of the axes of `K`.
    pub k: &'a [usize],
    /// One element of the source's type that stands for indices out of range.
    pub fill: *const u8,
}

impl PackView<'_> {
    /// Whether no index along the axis is out of range. The view is not empty.
    pub(super) fn stays_inside(&self, axis: &SourceAxis<'_>) -> bool {
        let reach = |sign: isize| -> isize {
            let lens = self.outer.iter().chain(self.k);
            let extremes = lens.zip(axis.steps).map(|(&len, &step)| step * (len as isize - 1));
            extremes.filter(|x| x.signum() == sign).sum()
        };
        axis.start + reach(-1) >= 0 && axis.start + reach(1) < axis.len as isize
    }
}

/// Why a view cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Too many axes or an odd element width.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// A conversion on the way other than from `f16` or `bf16` to `f32`.
    #[error("packing {from} as {to}: convert first")]
    Convert {
        /// Element type of the source.
        from: DType,
        /// Element type of the panels.
        to: DType,
    },
    /// A panel wider than [`NR`].
    #[error("panels of {0} lanes; the CPU packs at most {NR}")]
    Width(usize),
}

/// Packs a view into panels `[ceil(K / group)][width][group]` of `to`, padding with zero bits.
///
/// # Errors
/// If the view cannot be packed; nothing is written then.
///
/// # Safety
/// This machine has `isa`; the source is readable over its axes, `fill` is readable, `panels` is writable over all panels
/// (`step` counts elements of `to`); nothing overlaps; all is aligned. Each axis has a step for every axis of the view.
pub unsafe fn pack_view(
    isa: Isa,
    form: PanelForm,
    view: PackView<'_>,
    to: DType,
    panels: Panels<u8>,
) -> Result<(), PackError> {
    assert_available(isa);
    let rank = (view.outer.len() + view.k.len()).max(view.axes.len());
    if rank > RANK {
        return Err(MoveError::Rank(rank).into());
    }
    if form.width > NR || form.width == 0 || form.group == 0 {
        return Err(PackError::Width(form.width));
    }
    let from = view.dtype;
    if from != to && !(matches!(from, DType::F16 | DType::BF16) && to == DType::F32) {
        return Err(PackError::Convert { from, to });
    }
    let is_matrix = form.group == 1 && to == DType::F32 && (form.width == MR || form.width == NR);
    if let Some(matrix) = as_matrix(&view).filter(|_| is_matrix) {
        // SAFETY: the caller's contract; the matrix is inside the source.
        if unsafe { pack_matrix(isa, form, matrix, &view, panels) } {
            return Ok(());
        }
    }
    if is_matrix && form.width == NR && from == DType::F32 {
        // SAFETY: the caller's contract; a window reads inside the source.
        let packed = as_window(&view).map(|w| unsafe { w.pack(isa, &view, panels) });
        if packed.is_some() {
            return Ok(());
        }
    }
    // SAFETY: the caller's contract.
    unsafe {
        match (from, to) {
            (DType::F16 | DType::BF16, DType::F32) => fill_panels::<u16, f32>(isa, form, &view, panels),
            _ => match to.bits() {
                8 => fill_panels::<u8, u8>(isa, form, &view, panels),
                16 => fill_panels::<u16, u16>(isa, form, &view, panels),
                32 => fill_panels::<u32, u32>(isa, form, &view, panels),
                64 => fill_panels::<u64, u64>(isa, form, &view, panels),
                bits => return Err(MoveError::Width(bits / 8).into()),
            },
        }
    }
    Ok(())
}

/// A view without fill whose outer axes, and whose axes of `K`, are evenly spaced: start, lengths and strides.
struct Matrix {
    start: isize,
    outer: (usize, usize),
    k: (usize, usize),
}

fn as_matrix(view: &PackView<'_>) -> Option<Matrix> {
    let lens = || view.outer.iter().chain(view.k);
    if lens().any(|&len| len == 0) {
        return None;
    }
    if !view.axes.iter().all(|axis| view.stays_inside(axis)) {
        return None;
    }
    let stride = |d: usize| -> isize { view.axes.iter().map(|axis| axis.stride * axis.steps[d]).sum() };
    let joined = |lens: &[usize], first: usize| -> Option<(usize, usize)> {
        let (mut len, mut inner) = (1usize, 0isize);
        for (d, &more) in lens.iter().enumerate().rev().filter(|(_, len)| **len != 1) {
            let step = stride(first + d);
            if len == 1 {
                inner = step;
            } else if step != inner * len as isize {
                return None;
            }
            len *= more;
        }
        Some((len, usize::try_from(inner).ok()?))
    };
    let start = view.axes.iter().map(|axis| axis.stride * axis.start).sum();
    Some(Matrix { start, outer: joined(view.outer, 0)?, k: joined(view.k, view.outer.len())? })
}

/// Packs a plain matrix into `f32` panels; whether there is a fast path for its type.
unsafe fn pack_matrix(isa: Isa, form: PanelForm, m: Matrix, view: &PackView<'_>, panels: Panels<u8>) -> bool {
    let panels = Panels { data: panels.data.cast::<f32>(), step: panels.step };
    macro_rules! source {
        ($ty:ty) => {
            Source {
                data: view.data.cast::<$ty>().wrapping_offset(m.start),
                outer: m.outer.0,
                k: m.k.0,
                outer_stride: m.outer.1,
                k_stride: m.k.1,
            }
        };
    }
    // SAFETY: the caller's contract.
    unsafe {
        match (view.dtype, form.width == MR) {
            (DType::F32, true) => pack_a_f32(isa, source!(f32), panels),
            (DType::F32, false) => pack_b_f32(isa, source!(f32), panels),
            (DType::F16, true) => pack_a_f16(isa, source!(f16), panels),
            (DType::F16, false) => pack_b_f16(isa, source!(f16), panels),
            (DType::BF16, true) => pack_a_bf16(isa, source!(bf16), panels),
            (DType::BF16, false) => pack_b_bf16(isa, source!(bf16), panels),
            _ => return false,
        }
    }
    true
}

/// Neighbouring lanes that differ along the innermost outer axis only, with the share of their first in each source index.
#[derive(Clone, Copy, Default)]
struct Run {
    lane: usize,
    len: usize,
    base: [isize; RANK],
}

/// Panel by panel, step by step of `K`, run by run.
unsafe fn fill_panels<T: bytemuck::Pod, U: bytemuck::Pod>(
    isa: Isa,
    form: PanelForm,
    view: &PackView<'_>,
    panels: Panels<u8>,
) {
    let outer: usize = view.outer.iter().product();
    let k: usize = view.k.iter().product();
    let inner = view.outer.len().checked_sub(1);
    // SAFETY: the caller's contract.
    let fill = unsafe { view.fill.cast::<T>().read() };
    let mut runs = [Run::default(); NR];
    for first in (0..outer).step_by(form.width) {
        let lanes = form.width.min(outer - first);
        let count = cut_runs(view, first, lanes, &mut runs);
        // SAFETY: `first < outer` starts a panel.
        let panel = unsafe { panels.data.cast::<U>().add(first / form.width * panels.step) };
        let mut index = [0usize; RANK];
        for p in 0..k.div_ceil(form.group) * form.group {
            let at = (p / form.group * form.width) * form.group + p % form.group;
            let mut row = [T::zeroed(); NR];
            for run in runs.iter().take(if p < k { count } else { 0 }) {
                let (mut offset, mut low, mut high, mut along) = (0isize, 0isize, run.len as isize, 0isize);
                for (a, axis) in view.axes.iter().enumerate() {
                    let k_steps = &axis.steps[view.outer.len()..];
                    let share: isize = k_steps.iter().zip(&index).map(|(&s, &i)| s * i as isize).sum();
                    let position = run.base[a] + share;
                    let step = inner.map_or(0, |d| axis.steps[d]);
                    let (l, h) = in_range(position, step, axis.len as isize, run.len as isize);
                    (low, high) = (low.max(l), high.min(h));
                    offset += position * axis.stride;
                    along += step * axis.stride;
                }
                let high = high.max(low) as usize;
                let (low, high) = ((low as usize).min(run.len), high.min(run.len));
                let lanes = &mut row[run.lane..run.lane + run.len];
                lanes[..low].fill(fill);
                lanes[high..].fill(fill);
                // SAFETY: positions low..high are in range on every axis.
                unsafe {
                    let from = view.data.cast::<T>().wrapping_offset(offset);
                    if along == 1 && low < high {
                        let from = std::slice::from_raw_parts(from.wrapping_add(low), high - low);
                        lanes[low..high].copy_from_slice(from);
                    } else {
                        for (i, lane) in lanes.iter_mut().enumerate().take(high).skip(low) {
                            *lane = *from.wrapping_offset(i as isize * along);
                        }
                    }
                }
            }
            // SAFETY: the panel has whole groups of `width` lanes.
            unsafe { put_row::<T, U>(isa, form, view.dtype, &row, panel.add(at)) };
            advance(&mut index, view.k);
        }
    }
}

/// Stores a row of lanes, `group` elements apart, widening it where the types differ.
unsafe fn put_row<T: bytemuck::Pod, U: bytemuck::Pod>(
    isa: Isa,
    form: PanelForm,
    dtype: DType,
    row: &[T; NR],
    to: *mut U,
) {
    // SAFETY: the caller's contract; where the sizes are equal so are the types' bits.
    unsafe {
        if size_of::<T>() != size_of::<U>() {
            let (area, dst) = (Area { rows: 1, cols: form.width }, Dst { data: to.cast(), row: 0 });
            let _ = cast(isa, dtype, DType::F32, false, area, dst, Src { data: row.as_ptr().cast(), row: 0, col: 1 });
        } else if form.group == 1 {
            std::ptr::copy_nonoverlapping(row.as_ptr().cast::<U>(), to, form.width);
        } else {
            for (lane, value) in row.iter().enumerate().take(form.width) {
                to.add(lane * form.group).cast::<T>().write(*value);
            }
        }
    }
}

/// Cuts `lanes` positions from `first` on where the innermost outer axis begins anew; gives the number of runs.
fn cut_runs(view: &PackView<'_>, first: usize, lanes: usize, runs: &mut [Run; NR]) -> usize {
    let row = view.outer.last().copied().unwrap_or(1);
    let (mut lane, mut count) = (0, 0);
    while lane < lanes {
        let mut rest = first + lane;
        let len = (lanes - lane).min(row - rest % row);
        let mut base = [0isize; RANK];
        for (base, axis) in base.iter_mut().zip(view.axes) {
            *base = axis.start;
        }
        for (d, &size) in view.outer.iter().enumerate().rev() {
            for (base, axis) in base.iter_mut().zip(view.axes) {
                *base += axis.steps[d] * (rest % size) as isize;
            }
            rest /= size;
        }
        runs[count] = Run { lane, len, base };
        lane += len;
        count += 1;
    }
    count
}

/// The next index, the last axis fastest.
fn advance(index: &mut [usize; RANK], lens: &[usize]) {
    for (d, &len) in lens.iter().enumerate().rev() {
        index[d] += 1;
        if index[d] < len {
            return;
        }
        index[d] = 0;
    }
}
