//! Convolutions, and the windows that they share with pooling.

use tarsia_graph::{BinaryFn, Op, Value};
use tarsia_tensor::Dim;

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[Row::new("Conv", 1, One(conv)), Row::new("ConvTranspose", 1, One(conv_transpose))];

/// How windows lie on the spatial axes.
pub(super) struct Window {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    pub low: Vec<usize>,
    pub high: Vec<usize>,
    /// Padding that depends on symbols, before and after each axis: the operand is padded with it first.
    pub edges: Option<Vec<(Dim, Dim)>>,
}

/// What `auto_pad` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    Explicit,
    Valid,
    SameUpper,
    SameLower,
}

impl AutoPad {
    pub fn of(node: &Node<'_>) -> Outcome<AutoPad> {
        Ok(match node.attr_str_or("auto_pad", "NOTSET")? {
            "NOTSET" | "" => AutoPad::Explicit,
            "VALID" => AutoPad::Valid,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            other => return Err(invalid(format!("`auto_pad` is `{other}`"))),
        })
    }
}

/// A list with one entry per spatial axis, each at least `least`.
pub(super) fn spatial_list(
    node: &Node<'_>,
    name: &str,
    count: usize,
    default: usize,
    least: usize,
) -> Outcome<Vec<usize>> {
    let Some(list) = node.attr_ints_opt(name)?.filter(|list| !list.is_empty()) else { return Ok(vec![default; count]) };
    if list.len() != count {
        return Err(invalid(format!("`{name}` has {} entries for {count}", list.len())));
    }
    let entry =
        |&value: &i64| usize::try_from(value).ok().filter(|&value| value >= least && value <= i32::MAX as usize);
    list.iter().map(entry).collect::<Option<_>>().ok_or_else(|| unsupported(format!("`{name}` is {list:?}")))
}

impl Window {
    /// The attributes of a node whose windows of size `kernel` lie on axes of these sizes.
    pub fn of(node: &Node<'_>, kernel: Vec<usize>, sizes: &[Dim]) -> Outcome<Window> {
        let count = kernel.len();
        if count != sizes.len() {
            return Err(invalid(format!("a window of {count} axes on an input with {} spatial axes", sizes.len())));
        }
        let strides = spatial_list(node, "strides", count, 1, 1)?;
        let dilations = spatial_list(node, "dilations", count, 1, 1)?;
        let mut window = Window { kernel, strides, dilations, low: vec![0; count], high: vec![0; count], edges: None };
        match AutoPad::of(node)? {
            AutoPad::Valid => {}
            AutoPad::Explicit => {
                let pads = spatial_list(node, "pads", 2 * count, 0, 0)?;
                let (low, high) = pads.split_at(count);
                (window.low, window.high) = (low.to_vec(), high.to_vec());
            }
            auto => window.pad_to_same(sizes, auto == AutoPad::SameUpper),
        }
        Ok(window)
    }

    /// Distance of the first and the last element of a window.
    pub fn reach(&self, axis: usize) -> usize {
        self.kernel[axis].saturating_sub(1).saturating_mul(self.dilations[axis])
    }

    /// Padding with which there are ⌈size / stride⌉ windows.
    fn pad_to_same(&mut self, sizes: &[Dim], upper: bool) {
        let mut edges = Vec::with_capacity(sizes.len());
        for (axis, size) in sizes.iter().enumerate() {
            let (stride, reach) = (Dim::from(self.strides[axis]), Dim::from(self.reach(axis)));
            let total = match self.strides[axis] {
                // With stride 1 the padding does not depend on the size.
                1 => reach,
                _ => {
                    let last = (size.ceil_div(&stride) - Dim::ONE).maximum(&Dim::ZERO) * stride;
                    (last + reach + Dim::ONE - size.clone()).maximum(&Dim::ZERO)
                }
            };
            let small = total.floor_div(&Dim::Const(2));
            let large = total - small.clone();
            edges.push(if upper { (small, large) } else { (large, small) });
        }
        let known = |(low, high): &(Dim, Dim)| Some((low.as_usize()?, high.as_usize()?));
        match edges.iter().map(known).collect::<Option<Vec<_>>>() {
            Some(known) => (self.low, self.high) = known.into_iter().unzip(),
            None => self.edges = Some(edges),
        }
    }

    /// The operand with the padding that depends on symbols, filled with `value`.
    pub fn padded(&self, ctx: &mut Ctx<'_, '_>, x: Value, value: f64) -> Outcome<Value> {
        let Some(edges) = &self.edges else { return Ok(x) };
        let fill = ctx.scalar_like(x, value);
        let (low, high): (Vec<Dim>, Vec<Dim>) = edges.iter().cloned().unzip();
        let all = |edge: Vec<Dim>| [vec![Dim::ZERO; 2], edge].concat();
        ctx.pad(x, fill, all(low), all(high))
    }
}

/// The spatial sizes of an operand `[n, c, spatial…]`.
pub(super) fn spatial(ctx: &Ctx<'_, '_>, x: Value) -> Outcome<Vec<Dim>> {
    ctx.ty(x).shape.get(2..).map(<[Dim]>::to_vec).ok_or_else(|| invalid("its input has no batch and channel axes"))
}

fn known_sizes(ctx: &Ctx<'_, '_>, weights: Value) -> Outcome<Vec<usize>> {
    let sizes = ctx.ty(weights).shape.iter().map(Dim::as_usize).collect::<Option<Vec<_>>>();
    sizes.filter(|sizes| sizes.len() >= 2).ok_or_else(|| unsupported("weights whose shape is not known"))
}

fn groups(node: &Node<'_>) -> Outcome<usize> {
    let groups = node.attr_int_or("group", 1)?;
    usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(|| invalid(format!("`group` is {groups}")))
}

/// Adds a value per channel to `[n, c, spatial…]`.
pub(super) fn per_channel(ctx: &mut Ctx<'_, '_>, function: BinaryFn, x: Value, value: Value) -> Outcome<Value> {
    let rank = ctx.rank(x);
    let mut shape = vec![ctx.ty(value).count()];
    shape.extend(std::iter::repeat_n(Dim::ONE, rank.saturating_sub(2)));
    let value = ctx.reshape(value, &shape)?;
    ctx.binary(function, x, value)
}

pub(super) fn conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    conv_of(ctx, node, x)
}

/// The convolution of an image that stands for the first input.
pub(super) fn conv_of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let (weights, bias) = (ctx.value(node, 1)?, ctx.value_opt(node, 2)?);
    let dtype = ctx.dtype(x);
    let Some(bias) = bias else { return convolve(ctx, node, x, weights, dtype) };
    // The bias meets the f32 sum of narrow floats before that is rounded.
    let bias = ctx.widen(bias)?;
    let wide = ctx.dtype(bias);
    let y = convolve(ctx, node, x, weights, wide)?;
    let y = per_channel(ctx, BinaryFn::Add, y, bias)?;
    ctx.cast(y, dtype)
}

/// The convolution that the node's attributes describe, without bias.
pub(super) fn convolve<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    weights: Value,
    dtype: tarsia_tensor::DType,
) -> Outcome<Value> {
    let kernel = known_sizes(ctx, weights)?.split_off(2);
    if let Some(given) = node.attr_ints_opt("kernel_shape")?
        && !given.iter().copied().eq(kernel.iter().map(|&size| size as i64))
    {
        return Err(invalid(format!("`kernel_shape` is {given:?}, but the weights have {kernel:?}")));
    }
    let window = Window::of(node, kernel, &spatial(ctx, x)?)?;
    let x = window.padded(ctx, x, 0.0)?;
    let groups = groups(node)?;
    let Window { strides, dilations, low, high, .. } = window;
    ctx.add(Op::Conv { strides, low, high, dilations, groups, dtype }, &[x, weights])
}

/// The adjoint of a convolution: a convolution by the mirrored weights of the input with gaps between its elements.
fn conv_transpose<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let bias = ctx.value_opt(node, 2)?;
    conv_transpose_with(ctx, node, bias, None)
}

/// The same with a bias, and perhaps padding that is no attribute.
pub(super) fn conv_transpose_with<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    bias: Option<Value>,
    pads: Option<&[i64]>,
) -> Outcome<Value> {
    let (x, weights) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let (sizes, groups, dtype) = (spatial(ctx, x)?, groups(node)?, ctx.dtype(x));
    let kernel = known_sizes(ctx, weights)?.split_off(2);
    let count = kernel.len();
    if count != sizes.len() {
        return Err(invalid(format!("weights with {count} spatial axes for an input with {}", sizes.len())));
    }
    let window = Window {
        kernel,
        strides: spatial_list(node, "strides", count, 1, 1)?,
        dilations: spatial_list(node, "dilations", count, 1, 1)?,
        low: vec![0; count],
        high: vec![0; count],
        edges: None,
    };
    let edges = transposed_edges(node, &window, &sizes, pads)?;
    let mirrored = mirrored(ctx, weights, groups)?;
    let zero = ctx.scalar(dtype, 0.0);
    let mut interior = vec![0, 0];
    interior.extend(window.strides.iter().map(|stride| stride - 1));
    let spread = if interior.iter().all(|&gap| gap == 0) {
        x
    } else {
        let none = vec![Dim::ZERO; count + 2];
        ctx.add(Op::Pad { low: none.clone(), high: none, interior }, &[x, zero])?
    };
    // What is less than no padding is cut off the result.
    let clip = |edge: &i64| usize::try_from(*edge).unwrap_or(0);
    let (low, high): (Vec<usize>, Vec<usize>) = edges.iter().map(|(low, high)| (clip(low), clip(high))).unzip();
    let strides = vec![1; count];
    let bias = bias.map(|bias| ctx.widen(bias)).transpose()?;
    let wide = bias.map_or(dtype, |bias| ctx.dtype(bias));
    let conv = Op::Conv { strides, low, high, dilations: window.dilations, groups, dtype: wide };
    let mut y = ctx.add(conv, &[spread, mirrored])?;
    for (i, (low, high)) in edges.iter().enumerate() {
        let cut = |edge: &i64| Dim::Const(edge.saturating_neg().max(0));
        let (low, high) = (cut(low), cut(high));
        let size = ctx.size(y, i + 2)? - low.clone() - high;
        y = ctx.slice_axis(y, i + 2, low, size, 1)?;
    }
    if let Some(bias) = bias {
        y = per_channel(ctx, BinaryFn::Add, y, bias)?;
    }
    ctx.cast(y, dtype)
}

/// Zeros before and after the spread input, per spatial axis; negative where the result is cut instead.
fn transposed_edges(node: &Node<'_>, window: &Window, sizes: &[Dim], pads: Option<&[i64]>) -> Outcome<Vec<(i64, i64)>> {
    let count = sizes.len();
    let extra = spatial_list(node, "output_padding", count, 0, 0)?;
    let pads = match pads {
        Some(pads) if pads.len() == 2 * count && pads.iter().all(|&pad| (0..=i64::from(i32::MAX)).contains(&pad)) => {
            pads.iter().map(|&pad| pad as usize).collect()
        }
        Some(pads) => return Err(invalid(format!("the padding is {pads:?} for {count} axes"))),
        None => spatial_list(node, "pads", 2 * count, 0, 0)?,
    };
    let wanted = node.attr_ints_opt("output_shape")?.filter(|shape| !shape.is_empty());
    let auto = AutoPad::of(node)?;
    let mut edges = Vec::with_capacity(count);
    for axis in 0..count {
        let reach = i64::try_from(window.reach(axis)).ok().filter(|&reach| reach <= i64::from(i32::MAX));
        let reach = reach.ok_or_else(|| unsupported("a window that reaches over more than 2³¹ elements"))?;
        let (extra, stride) = (extra[axis] as i64, window.strides[axis] as i64);
        let size = |what: &str| {
            let text =
                || unsupported(format!("`{what}` on an axis of size {}; give that size, or `pads`", sizes[axis]));
            sizes[axis].as_const().ok_or_else(text)
        };
        let total = match wanted {
            Some(shape) => {
                // The last entries are those of the spatial axes.
                let at = (axis + shape.len()).checked_sub(count).and_then(|at| shape.get(at));
                let wanted = at.ok_or_else(|| invalid(format!("`output_shape` is {shape:?}")))?;
                let full = size("output_shape")?.saturating_sub(1).saturating_mul(stride);
                Some(full.saturating_add(extra + reach + 1).saturating_sub(*wanted))
            }
            None if matches!(auto, AutoPad::SameUpper | AutoPad::SameLower) => Some(reach + 1 + extra - stride),
            None => None,
        };
        let (low, high) = match total {
            Some(total) if auto == AutoPad::SameUpper => {
                (total.div_euclid(2), total.saturating_sub(total.div_euclid(2)))
            }
            Some(total) => (total.saturating_sub(total.div_euclid(2)), total.div_euclid(2)),
            None if auto == AutoPad::Valid => (0, 0),
            None => (pads[axis] as i64, pads[axis + count] as i64),
        };
        edges.push((reach.saturating_sub(low), reach.saturating_sub(high).saturating_add(extra)));
    }
    Ok(edges)
}

/// Weights `[c, o/groups, window…]` as `[o, c/groups, window…]`, mirrored along the window's axes.
fn mirrored(ctx: &mut Ctx<'_, '_>, weights: Value, groups: usize) -> Outcome<Value> {
    let sizes = known_sizes(ctx, weights)?;
    let (channels, depth, rank) = (sizes[0], sizes[1], sizes.len());
    if !channels.is_multiple_of(groups) {
        return Err(invalid(format!("{channels} input channels are not {groups} groups")));
    }
    let outputs = groups.checked_mul(depth).ok_or_else(|| invalid("the weights have too many channels"))?;
    let window: Vec<Dim> = sizes[2..].iter().map(|&size| Dim::from(size)).collect();
    let split = [&[Dim::from(groups), Dim::from(channels / groups), Dim::from(depth)][..], &window].concat();
    let x = ctx.reshape(weights, &split)?;
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..rank + 1).collect();
    let x = ctx.transpose(x, &perm)?;
    let joined = [&[Dim::from(outputs), Dim::from(channels / groups)][..], &window].concat();
    let x = ctx.reshape(x, &joined)?;
    let starts =
        joined.iter().enumerate().map(|(i, size)| if i < 2 { Dim::ZERO } else { size.clone() - Dim::ONE }).collect();
    let steps = (0..rank).map(|i| if i < 2 { 1 } else { -1 }).collect();
    ctx.add(Op::Slice { starts, sizes: joined, steps }, &[x])
}
