//! Sampling images at computed positions: grids, deformed convolutions, and columns put back into images.
//!
//! An image `[n, c, spatial…]` is seen as rows of channels, one row per element; a sample is a weighted sum of the rows around its
//! position, each one gather.

use tarsia_graph::{BinaryFn, Op, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows, convolution::spatial_list, resize::cubic};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("AffineGrid", 20, One(affine_grid)),
    Row::new("Col2Im", 18, One(col2im)),
    Row::new("DeformConv", 19, One(deform_conv)),
    Row::new("Det", 11, One(det)),
    Row::new("GridSample", 16, One(grid_sample)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What lies outside of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// A place along one axis: an element that exists, and the factor of that element.
#[derive(Clone, Copy)]
struct Tap {
    place: Value,
    weight: Option<Value>,
}

/// How positions are read along axes.
struct Sampling {
    mode: Mode,
    outside: Outside,
    align_corners: bool,
}

impl Sampling {
    /// The elements around positions (f32, in elements) along an axis of `size`, with their factors.
    fn taps(&self, ctx: &mut Ctx<'_, '_>, at: Value, size: &Dim) -> Outcome<Vec<Tap>> {
        let at = if self.mode == Mode::Nearest { ctx.unary(UnaryFn::Round, at)? } else { at };
        let at = match self.outside {
            Outside::Zeros => at,
            Outside::Border => clamped(ctx, at, size)?,
            Outside::Reflection => self.reflected(ctx, at, size)?,
        };
        if self.mode == Mode::Nearest {
            return Ok(vec![self.tap(ctx, at, None, size)?]);
        }
        let base = ctx.unary(UnaryFn::Floor, at)?;
        let fraction = ctx.binary(BinaryFn::Sub, at, base)?;
        let offsets = if self.mode == Mode::Linear { 0..=1 } else { -1..=2 };
        let mut taps = Vec::new();
        for offset in offsets {
            let place = ctx.with_scalar(BinaryFn::Add, base, f64::from(offset))?;
            let distance = ctx.with_scalar(BinaryFn::Sub, fraction, f64::from(offset))?;
            let distance = ctx.unary(UnaryFn::Abs, distance)?;
            let weight = if self.mode == Mode::Linear {
                let one = ctx.scalar_like(distance, 1.0);
                ctx.binary(BinaryFn::Sub, one, distance)?
            } else {
                cubic(ctx, distance, -0.75, (0..=1).contains(&offset))?
            };
            taps.push(self.tap(ctx, place, Some(weight), size)?);
        }
        Ok(taps)
    }

    fn tap(&self, ctx: &mut Ctx<'_, '_>, place: Value, weight: Option<Value>, size: &Dim) -> Outcome<Tap> {
        let mut weight = weight;
        let mut place = place;
        match self.outside {
            Outside::Border => {}
            Outside::Reflection => place = self.reflected(ctx, place, size)?,
            Outside::Zeros => {
                let end = ctx.dim_scalar(size, ctx.dtype(place))?;
                let (low, high) = (ctx.with_scalar(BinaryFn::Ge, place, 0.0)?, ctx.binary(BinaryFn::Lt, place, end)?);
                let inside = ctx.binary(BinaryFn::And, low, high)?;
                let (zero, one) = (ctx.scalar_like(place, 0.0), ctx.scalar_like(place, 1.0));
                weight = Some(ctx.select(inside, weight.unwrap_or(one), zero)?);
            }
        }
        let place = ctx.unary(UnaryFn::Trunc, place)?;
        let place = clamped(ctx, place, size)?;
        Ok(Tap { place: ctx.cast(place, DType::I64)?, weight })
    }

    /// Positions mirrored at the borders as often as it takes.
    fn reflected(&self, ctx: &mut Ctx<'_, '_>, at: Value, size: &Dim) -> Outcome<Value> {
        let size = ctx.dim_scalar(size, ctx.dtype(at))?;
        let (low, span) =
            if self.align_corners { (0.0, ctx.with_scalar(BinaryFn::Sub, size, 1.0)?) } else { (-0.5, size) };
        // Of a single element that is its own border everything is a reflection.
        let span = ctx.with_scalar(BinaryFn::Max, span, f64::from(f32::MIN_POSITIVE))?;
        let distance = ctx.with_scalar(BinaryFn::Sub, at, low)?;
        let distance = ctx.unary(UnaryFn::Abs, distance)?;
        let twice = ctx.with_scalar(BinaryFn::Mul, span, 2.0)?;
        let turn = ctx.binary(BinaryFn::Rem, distance, twice)?;
        let back = ctx.binary(BinaryFn::Sub, twice, turn)?;
        let near = ctx.binary(BinaryFn::Min, turn, back)?;
        ctx.with_scalar(BinaryFn::Add, near, low)
    }
}

/// Positions kept between the first and the last element.
fn clamped(ctx: &mut Ctx<'_, '_>, at: Value, size: &Dim) -> Outcome<Value> {
    let last = ctx.dim_scalar(&(size.clone() - Dim::ONE), ctx.dtype(at))?;
    let at = ctx.binary(BinaryFn::Min, at, last)?;
    ctx.with_scalar(BinaryFn::Max, at, 0.0)
}

/// Rows of channels: an image `[n, c, spatial…]` as `[n·elements, c]`.
struct Pixels {
    rows: Value,
    spatial: Vec<Dim>,
    images: Dim,
}

impl Pixels {
    fn of(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Pixels> {
        let shape = ctx.shape(x);
        let [images, channels, spatial @ ..] = shape.as_slice() else { return Err(invalid("it takes [n, c, …]")) };
        let last: Vec<usize> = [0].into_iter().chain(2..shape.len()).chain([1]).collect();
        let rows = ctx.transpose(x, &last)?;
        let count = images.clone() * Dim::product(spatial);
        let rows = ctx.reshape(rows, &[count, channels.clone()])?;
        Ok(Pixels { rows, spatial: spatial.to_vec(), images: images.clone() })
    }

    /// The weighted sums of rows: `positions` holds, for each spatial axis, positions of shape `[images, points…]`; the result is
    /// `[images, points…, c]`.
    fn sample(&self, ctx: &mut Ctx<'_, '_>, sampling: &Sampling, positions: &[Value]) -> Outcome<Value> {
        let mut taps = Vec::with_capacity(positions.len());
        for (&at, size) in positions.iter().zip(&self.spatial) {
            taps.push(sampling.taps(ctx, at, size)?);
        }
        let rank = positions.first().map_or(1, |&at| ctx.rank(at));
        let mut counted = vec![Dim::ONE; rank];
        counted[0] = self.images.clone();
        let image = ctx.iota(DType::I64, &counted, 0)?;
        let mut total: Option<Value> = None;
        for choice in choices(&taps) {
            let (mut place, mut weight) = (image, None);
            for (tap, size) in choice.iter().zip(&self.spatial) {
                let size = ctx.dim_scalar(size, DType::I64)?;
                place = ctx.binary(BinaryFn::Mul, place, size)?;
                place = ctx.binary(BinaryFn::Add, place, tap.place)?;
                weight = match (weight, tap.weight) {
                    (Some(a), Some(b)) => Some(ctx.binary(BinaryFn::Mul, a, b)?),
                    (a, b) => a.or(b),
                };
            }
            let mut part = ctx.add(Op::Gather { axis: 0 }, &[self.rows, place])?;
            if let Some(weight) = weight {
                let weight = ctx.cast(weight, ctx.dtype(part))?;
                let weight = ctx.unsqueeze(weight, rank)?;
                part = ctx.binary(BinaryFn::Mul, part, weight)?;
            }
            total = Some(match total {
                None => part,
                Some(total) => ctx.binary(BinaryFn::Add, total, part)?,
            });
        }
        total.ok_or_else(|| invalid("an image without spatial axes"))
    }
}

/// One tap of each axis, in every combination.
fn choices(taps: &[Vec<Tap>]) -> Vec<Vec<Tap>> {
    taps.iter().fold(vec![Vec::new()], |choices, axis| {
        choices.iter().flat_map(|choice| axis.iter().map(|&tap| [&choice[..], &[tap]].concat())).collect()
    })
}

/// Coordinates from -1 to 1 as positions in elements.
fn unnormalised(ctx: &mut Ctx<'_, '_>, x: Value, size: &Dim, align_corners: bool) -> Outcome<Value> {
    let size = ctx.dim_scalar(size, ctx.dtype(x))?;
    let x = ctx.with_scalar(BinaryFn::Add, x, 1.0)?;
    if align_corners {
        let span = ctx.with_scalar(BinaryFn::Sub, size, 1.0)?;
        let x = ctx.with_scalar(BinaryFn::Mul, x, 0.5)?;
        return ctx.binary(BinaryFn::Mul, x, span);
    }
    let x = ctx.binary(BinaryFn::Mul, x, size)?;
    let x = ctx.with_scalar(BinaryFn::Sub, x, 1.0)?;
    ctx.with_scalar(BinaryFn::Mul, x, 0.5)
}

/// `x` `[n, c, spatial…]` at the positions of a grid `[n, points…, axes]`, whose last axis counts the spatial axes from the last one.
pub(super) fn grid_sample<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, grid) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let sampling = Sampling {
        mode: match node.attr_str_or("mode", "linear")? {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(invalid(format!("`mode` is `{other}`"))),
        },
        outside: match node.attr_str_or("padding_mode", "zeros")? {
            "zeros" => Outside::Zeros,
            "border" => Outside::Border,
            "reflection" => Outside::Reflection,
            other => return Err(invalid(format!("`padding_mode` is `{other}`"))),
        },
        align_corners: node.attr_bool_or("align_corners", false)?,
    };
    let dtype = ctx.dtype(x);
    let (x, grid) = (ctx.widen(x)?, ctx.widen(grid)?);
    let rows = Pixels::of(ctx, x)?;
    let (axes, rank) = (rows.spatial.len(), ctx.rank(grid));
    if axes == 0 || axes > 3 || rank != axes + 2 || !ctx.size(grid, rank - 1)?.is(axes as i64) {
        return Err(invalid(format!("a grid of {} for {axes} spatial axes", ctx.ty(grid))));
    }
    let mut positions = Vec::with_capacity(axes);
    for axis in 0..axes {
        let part = ctx.slice_axis(grid, rank - 1, Dim::from(axes - 1 - axis), Dim::ONE, 1)?;
        let part = ctx.squeeze(part, &[rank - 1])?;
        positions.push(unnormalised(ctx, part, &rows.spatial[axis], sampling.align_corners)?);
    }
    let y = rows.sample(ctx, &sampling, &positions)?;
    let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let y = ctx.transpose(y, &first)?;
    ctx.cast(y, dtype)
}

/// Crops of images, resampled to `[height, width]` with their corners aligned: boxes `[r, (y1, x1, y2, x2)]` of normalised
/// coordinates, each of the image that `images` names; `outside` where a position is not in its image.
pub(super) fn crops(
    ctx: &mut Ctx<'_, '_>,
    x: Value,
    boxes: Value,
    images: Value,
    size: [Dim; 2],
    nearest: bool,
    outside: f64,
) -> Outcome<Value> {
    let shape = ctx.shape(x);
    if shape.len() != 4 || ctx.rank(boxes) != 2 || !ctx.size(boxes, 1)?.is(4) {
        return Err(invalid("it takes images [n, c, h, w] and boxes [r, 4]"));
    }
    let dtype = ctx.dtype(x);
    let (x, boxes) = (ctx.widen(x)?, ctx.widen(boxes)?);
    let images = ctx.indices(images, &shape[0])?;
    let own = ctx.add(Op::Gather { axis: 0 }, &[x, images])?;
    let count = ctx.size(own, 0)?;
    let (mut positions, mut inside) = (Vec::new(), None);
    for (axis, wanted) in size.iter().enumerate() {
        let wide = ctx.dtype(boxes);
        let mut edge = |at: usize| -> Outcome<Value> {
            let edge = ctx.slice_axis(boxes, 1, Dim::from(at), Dim::ONE, 1)?;
            ctx.reshape(edge, &[count.clone(), Dim::ONE, Dim::ONE])
        };
        let (low, high) = (edge(axis)?, edge(axis + 2)?);
        let last = ctx.dim_scalar(&(shape[axis + 2].clone() - Dim::ONE), wide)?;
        let fraction = if wanted.is(1) {
            ctx.scalar(wide, 0.5)
        } else {
            let mut counted = vec![Dim::ONE; 3];
            counted[axis + 1] = wanted.clone();
            let at = ctx.iota(wide, &counted, axis + 1)?;
            let steps = ctx.dim_scalar(&(wanted.clone() - Dim::ONE), wide)?;
            ctx.binary(BinaryFn::Div, at, steps)?
        };
        let span = ctx.binary(BinaryFn::Sub, high, low)?;
        let at = ctx.binary(BinaryFn::Mul, span, fraction)?;
        let at = ctx.binary(BinaryFn::Add, low, at)?;
        let at = ctx.binary(BinaryFn::Mul, at, last)?;
        let (after, before) = (ctx.with_scalar(BinaryFn::Ge, at, 0.0)?, ctx.binary(BinaryFn::Le, at, last)?);
        let own = ctx.binary(BinaryFn::And, after, before)?;
        inside = Some(match inside {
            Some(inside) => ctx.binary(BinaryFn::And, inside, own)?,
            None => own,
        });
        positions.push(ctx.broadcast(at, &[count.clone(), size[0].clone(), size[1].clone()])?);
    }
    let mode = if nearest { Mode::Nearest } else { Mode::Linear };
    let pixels = Pixels::of(ctx, own)?;
    let y = pixels.sample(ctx, &Sampling { mode, outside: Outside::Border, align_corners: true }, &positions)?;
    let mut y = ctx.transpose(y, &[0, 3, 1, 2])?;
    if let Some(inside) = inside {
        let inside = ctx.unsqueeze(inside, 1)?;
        let fill = ctx.scalar_like(y, outside);
        y = ctx.select(inside, y, fill)?;
    }
    ctx.cast(y, dtype)
}

/// The grid that maps a result of this size to the operand by `theta`: `[n, …, axes]`.
fn affine_grid<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (theta, align) = (ctx.value(node, 0)?, node.attr_bool_or("align_corners", false)?);
    let dtype = ctx.dtype(theta);
    let axes = match ctx.shape(theta).as_slice() {
        [_, axes, _] => axes.as_usize().filter(|axes| (2..=3).contains(axes)),
        _ => None,
    };
    let axes = axes.ok_or_else(|| invalid("`theta` is neither [n, 2, 3] nor [n, 3, 4]"))?;
    let theta = ctx.widen(theta)?;
    let known = ctx.known(node, 1).and_then(|known| known.dims());
    let column = |ctx: &mut Ctx<'a, '_>, at: usize| {
        // [n, axes] of theta with room for the points.
        let column = ctx.slice_axis(theta, 2, Dim::from(at), Dim::ONE, 1)?;
        let mut shape = vec![Dim::ONE; axes + 2];
        (shape[0], shape[axes + 1]) = (ctx.size(theta, 0)?, Dim::from(axes));
        ctx.reshape(column, &shape)
    };
    // The last column is the shift, the others are factors of the coordinates from the last axis on.
    let mut grid = column(ctx, axes)?;
    for axis in 0..axes {
        let (count, size) = match known.as_ref().and_then(|sizes| sizes.get(axis + 2)) {
            Some(size) => (ctx.iota(DType::I64, std::slice::from_ref(size), 0)?, ctx.dim_scalar(size, DType::I64)?),
            None => {
                let sizes = ctx.value(node, 1)?;
                let size = ctx.slice_axis(sizes, 0, Dim::from(axis + 2), Dim::ONE, 1)?;
                let size = ctx.reshape(size, &[])?;
                let (zero, one) = (ctx.scalar(DType::I64, 0.0), ctx.scalar(DType::I64, 1.0));
                (ctx.host("range", Vec::new(), &[zero, size, one], DType::I64, 1)?, size)
            }
        };
        let (count, size) = (ctx.cast(count, DType::F64)?, ctx.cast(size, DType::F64)?);
        let twice = ctx.with_scalar(BinaryFn::Mul, count, 2.0)?;
        let (offset, span) = if align {
            (twice, ctx.with_scalar(BinaryFn::Sub, size, 1.0)?)
        } else {
            (ctx.with_scalar(BinaryFn::Add, twice, 1.0)?, size)
        };
        let part = ctx.binary(BinaryFn::Div, offset, span)?;
        let coordinate = ctx.with_scalar(BinaryFn::Sub, part, 1.0)?;
        let coordinate = ctx.cast(coordinate, ctx.dtype(theta))?;
        let mut shape = vec![Dim::ONE; axes + 2];
        shape[axis + 1] = ctx.size(coordinate, 0)?;
        let coordinate = ctx.reshape(coordinate, &shape)?;
        let factor = column(ctx, axes - 1 - axis)?;
        let term = ctx.binary(BinaryFn::Mul, coordinate, factor)?;
        grid = ctx.binary(BinaryFn::Add, grid, term)?;
    }
    ctx.cast(grid, dtype)
}

/// A convolution whose window elements are moved by offsets, and weighted by a mask (Dai et al., ICCV 2017; Zhu et al., CVPR 2019).
fn deform_conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, weights, offset) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (bias, mask) = (ctx.value_opt(node, 3)?, ctx.value_opt(node, 4)?);
    let dtype = ctx.dtype(x);
    let (x, weights, offset) = (ctx.widen(x)?, ctx.widen(weights)?, ctx.widen(offset)?);
    let (shape, kernel) = (ctx.shape(x), ctx.shape(weights));
    let ([n, c, _, _], [m, per_group, window @ ..]) = (shape.as_slice(), kernel.as_slice()) else {
        return Err(unsupported("other than two spatial axes"));
    };
    let size = |dim: &Dim| dim.as_usize().ok_or_else(|| unsupported("windows or channels of unknown size"));
    let [kh, kw] = window else { return Err(unsupported("other than two spatial axes")) };
    let (kh, kw) = (size(kh)?, size(kw)?);
    let count = |name: &str| -> Outcome<usize> {
        let count = node.attr_int_or(name, 1)?;
        usize::try_from(count).ok().filter(|&count| count > 0).ok_or_else(|| invalid(format!("`{name}` is {count}")))
    };
    let (groups, offset_groups) = (count("group")?, count("offset_group")?);
    let channels = size(c)?;
    if !channels.is_multiple_of(offset_groups)
        || channels != groups * size(per_group)?
        || !size(m)?.is_multiple_of(groups)
    {
        return Err(invalid(format!("{channels} channels in {groups} groups and {offset_groups} groups of offsets")));
    }
    let strides = spatial_list(node, "strides", 2, 1, 1)?;
    let dilations = spatial_list(node, "dilations", 2, 1, 1)?;
    let pads = spatial_list(node, "pads", 4, 0, 0)?;
    let (oh, ow) = (ctx.size(offset, 2)?, ctx.size(offset, 3)?);
    let points = [Dim::from(kh), Dim::from(kw), oh.clone(), ow.clone()];
    // Each image's group of channels is an image of its own: [n·groups, c/groups, h, w], read at [n·groups, kh, kw, oh, ow].
    let images = n.clone() * Dim::from(offset_groups);
    let own = Dim::from(channels / offset_groups);
    let x = ctx.reshape(x, &[images.clone(), own.clone(), shape[2].clone(), shape[3].clone()])?;
    let per_point = [&[images.clone()][..], &points[..2], &[Dim::Const(2)], &points[2..]].concat();
    let offset = ctx.reshape(offset, &per_point)?;
    let mut positions = Vec::with_capacity(2);
    for axis in 0..2 {
        let moved = ctx.slice_axis(offset, 3, Dim::from(axis), Dim::ONE, 1)?;
        let moved = ctx.squeeze(moved, &[3])?;
        let line = |ctx: &mut Ctx<'a, '_>, place: usize, factor: usize| -> Outcome<Value> {
            let mut shape = vec![Dim::ONE; 5];
            shape[place] = points[place - 1].clone();
            let line = ctx.iota(DType::I64, &shape, place)?;
            let line = ctx.cast(line, ctx.dtype(moved))?;
            ctx.with_scalar(BinaryFn::Mul, line, factor as f64)
        };
        let (within, across) = (line(ctx, 1 + axis, dilations[axis])?, line(ctx, 3 + axis, strides[axis])?);
        let at = ctx.binary(BinaryFn::Add, within, across)?;
        let at = ctx.with_scalar(BinaryFn::Sub, at, pads[axis] as f64)?;
        positions.push(ctx.binary(BinaryFn::Add, at, moved)?);
    }
    let sampling = Sampling { mode: Mode::Linear, outside: Outside::Zeros, align_corners: true };
    let rows = Pixels::of(ctx, x)?;
    let mut columns = rows.sample(ctx, &sampling, &positions)?;
    if let Some(mask) = mask {
        let mask = ctx.widen(mask)?;
        let mask = ctx.reshape(mask, &[&[images][..], &points, &[Dim::ONE]].concat())?;
        columns = ctx.binary(BinaryFn::Mul, columns, mask)?;
    }
    // [n, offset groups, kh·kw, oh·ow, c/offset groups] to [n, groups, c/groups, kh·kw, oh·ow].
    let (area, positions) = (Dim::from(kh * kw), oh.clone() * ow.clone());
    let columns = ctx.reshape(columns, &[n.clone(), Dim::from(offset_groups), area.clone(), positions.clone(), own])?;
    let columns = ctx.transpose(columns, &[0, 1, 4, 2, 3])?;
    let (g, k) = (Dim::from(groups), per_group.clone() * area);
    let columns = ctx.reshape(columns, &[n.clone(), g.clone(), k.clone(), positions])?;
    let outputs = Dim::from(size(m)? / groups);
    let weights = ctx.reshape(weights, &[g, outputs, k])?;
    let y = ctx.contract("ngkp,gok->ngop", columns, weights)?;
    let mut y = ctx.reshape(y, &[n.clone(), m.clone(), oh, ow])?;
    if let Some(bias) = bias {
        let bias = ctx.cast(bias, ctx.dtype(y))?;
        let bias = ctx.reshape(bias, &[m.clone(), Dim::ONE, Dim::ONE])?;
        y = ctx.binary(BinaryFn::Add, y, bias)?;
    }
    ctx.cast(y, dtype)
}

/// Sums of columns where they overlap in an image.
fn col2im<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, image, block) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let rank = ctx.vector_length(image)?;
    let dilations = spatial_list(node, "dilations", rank, 1, 1)?;
    let strides = spatial_list(node, "strides", rank, 1, 1)?;
    let pads = spatial_list(node, "pads", 2 * rank, 0, 0)?;
    let known = ctx.known(node, 1).and_then(|known| known.dims());
    let known_block = ctx.known(node, 2).and_then(|known| known.dims());
    let mut shape = vec![ctx.size(x, 0)?];
    shape.push(match known_block {
        Some(block) => ctx.size(x, 1)?.floor_div(&Dim::product(&block)),
        None => ctx.fresh("col2im"),
    });
    for axis in 0..rank {
        let size = known.as_ref().and_then(|sizes| sizes.get(axis).cloned());
        shape.push(size.unwrap_or_else(|| ctx.fresh("col2im")));
    }
    let ints = dilations.iter().chain(&strides).chain(&pads).map(|&value| value as i64).collect();
    let types = vec![Type::new(ctx.dtype(x), shape)];
    ctx.add(Op::Host { function: "col2im".into(), ints, reals: Vec::new(), types }, &[x, image, block])
}

fn det<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let shape = ctx.shape(x);
    let rest = shape.len().checked_sub(2).ok_or_else(|| invalid("its input is no matrix"))?;
    let at = |row: i64, column: i64| {
        move |ctx: &mut Ctx<'a, '_>| {
            let row = ctx.slice_axis(x, rest, Dim::Const(row), Dim::ONE, 1)?;
            let element = ctx.slice_axis(row, rest + 1, Dim::Const(column), Dim::ONE, 1)?;
            ctx.squeeze(element, &[rest, rest + 1])
        }
    };
    // Of two rows the determinant is one line; of more it takes pivots, which the data choose.
    if shape[rest].is(2) && shape[rest + 1].is(2) {
        let (a, b, c, d) = (at(0, 0)(ctx)?, at(0, 1)(ctx)?, at(1, 0)(ctx)?, at(1, 1)(ctx)?);
        let (first, second) = (ctx.binary(BinaryFn::Mul, a, d)?, ctx.binary(BinaryFn::Mul, b, c)?);
        return ctx.binary(BinaryFn::Sub, first, second);
    }
    let types = vec![Type::new(ctx.dtype(x), shape[..rest].to_vec())];
    ctx.add(Op::Host { function: "det".into(), ints: Vec::new(), reals: Vec::new(), types }, &[x])
}
