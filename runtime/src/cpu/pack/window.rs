//! Views that are the windows of a convolution: outer axes `[rows,] columns` of the output, `K` axes `[channels,] [window
//! rows,] window columns`, zero fill. They take the path of [`pack_im2col_f32`].

use super::*;
use crate::cpu::moves::SourceAxis;
use tarsia_tensor::DType;

/// A view as a convolution of an image that starts at `offset` elements of the source.
pub(super) struct Window {
    conv: Conv2d,
    block: OutputBlock,
    k: usize,
    offset: isize,
}

/// One spatial axis: output positions, window positions, and the source axis that both step along.
struct Spatial<'a> {
    axis: Option<&'a SourceAxis<'a>>,
    outer: (usize, usize),
    window: (usize, usize),
}

/// How the view is a convolution, if it is.
pub(super) fn as_window(view: &PackView<'_>) -> Option<Window> {
    let lens = || view.outer.iter().chain(view.k);
    // SAFETY: the view's contract: `fill` holds one element.
    let zero = view.dtype == DType::F32 && unsafe { view.fill.cast::<u32>().read() } == 0;
    if !zero || view.outer.is_empty() || view.outer.len() > 2 || view.k.len() > 3 || lens().any(|&len| len == 0) {
        return None;
    }
    let first_k = view.outer.len();
    let last = |axes: &[usize], back: usize, first: usize| axes.len().checked_sub(back + 1).map(|d| first + d);
    let len = |d: Option<usize>| d.map_or(1, |d| lens().nth(d).copied().unwrap_or(1));
    let dims = |back: usize| (last(view.outer, back, 0), last(view.k, back, first_k));
    let [columns, rows] = [0, 1].map(dims);
    let channel = last(view.k, 2, first_k);
    let mut offset = 0;
    let mut found: [Option<&SourceAxis<'_>>; 3] = [None; 3];
    for axis in view.axes {
        let steps_along = |dims: [Option<usize>; 2]| {
            let mut others = axis.steps.iter().enumerate().filter(|(d, _)| !dims.contains(&Some(*d)));
            others.all(|(d, &step)| step == 0 || len(Some(d)) == 1)
        };
        let slot = if steps_along([None; 2]) {
            // A fixed index, which must be inside.
            if !view.stays_inside(axis) {
                return None;
            }
            offset += axis.start * axis.stride;
            continue;
        } else if steps_along([columns.0, columns.1]) {
            0
        } else if steps_along([rows.0, rows.1]) {
            1
        } else if steps_along([channel, None]) && view.stays_inside(axis) {
            offset += axis.start * axis.stride;
            2
        } else {
            return None;
        };
        if found[slot].replace(axis).is_some() {
            return None;
        }
    }
    let spatial = |axis, (o, w): (Option<usize>, Option<usize>)| Spatial {
        axis,
        outer: (o.unwrap_or(usize::MAX), len(o)),
        window: (w.unwrap_or(usize::MAX), len(w)),
    };
    let channel_stride = match (found[2], channel) {
        (Some(axis), Some(d)) => usize::try_from(axis.stride * axis.steps[d]).ok()?,
        _ => 0,
    };
    assemble(spatial(found[0], columns), spatial(found[1], rows), channel_stride, len(channel), offset)
}

fn assemble(
    columns: Spatial<'_>,
    rows: Spatial<'_>,
    channel_stride: usize,
    channels: usize,
    mut offset: isize,
) -> Option<Window> {
    let (width, column) = columns.geometry(&mut offset)?;
    let (height, row) = rows.geometry(&mut offset)?;
    if column.stride != 1 {
        return None;
    }
    let conv = Conv2d {
        image: [height, width],
        strides: [channel_stride, row.stride],
        window: [rows.window.1, columns.window.1],
        step: [row.step, column.step],
        dilation: [row.dilation, column.dilation],
        pad: [row.pad, column.pad],
    };
    let block = OutputBlock { start: [0, 0], len: [rows.outer.1, columns.outer.1] };
    Some(Window { conv, block, k: channels * rows.window.1 * columns.window.1, offset })
}

struct Along {
    stride: usize,
    step: usize,
    dilation: usize,
    pad: usize,
}

impl Spatial<'_> {
    /// The image's length along this axis from its first element on, and the steps; what lies before moves `offset`.
    fn geometry(&self, offset: &mut isize) -> Option<(usize, Along)> {
        let Some(axis) = self.axis else {
            let single = self.outer.1 == 1 && self.window.1 == 1;
            return single.then_some((1, Along { stride: 1, step: 1, dilation: 1, pad: 0 }));
        };
        // Along an axis of one position the step does not matter.
        let step = |(d, len): (usize, usize)| match axis.steps.get(d) {
            Some(&step) if len > 1 => usize::try_from(step).ok().filter(|&step| step > 0),
            _ => Some(1),
        };
        let skipped = axis.start.clamp(0, axis.len as isize);
        *offset += skipped * axis.stride;
        let along = Along {
            stride: usize::try_from(axis.stride).ok()?,
            step: step(self.outer)?,
            dilation: step(self.window)?,
            pad: (-axis.start).max(0) as usize,
        };
        Some((axis.len - skipped as usize, along))
    }
}

impl Window {
    /// Packs the whole view.
    ///
    /// # Safety
    /// As for [`pack_view`].
    pub(super) unsafe fn pack(&self, isa: Isa, view: &PackView<'_>, panels: Panels<u8>) {
        let panels = Panels { data: panels.data.cast::<f32>(), step: panels.step };
        let image = view.data.cast::<f32>().wrapping_offset(self.offset);
        // SAFETY: the caller's contract; positions outside the image are not read.
        unsafe { pack_im2col_f32(isa, image, &self.conv, self.block, 0..self.k, panels) }
    }
}
