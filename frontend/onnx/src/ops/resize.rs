//! Resizing: along each resized axis in turn, a result element is a weighted sum of a few elements near its position.
//!
//! ```text
//! nearest by a whole factor   reshape, broadcast, reshape (or a slice with steps): movement that fuses
//! nearest, linear, cubic      positions from a count, then one gather and one product for each of 1, 2 or 4 neighbours
//! antialiased                 a contraction with the weights of all elements, which the sizes decide
//! sizes that only data tell   the host function
//! ```
//!
//! Positions are computed in f64 whatever the data are, so that no size is too large for them.

use tarsia_graph::{BinaryFn, Op, Real, Type, UnaryFn, Value};
use tarsia_tensor::{Class, DType, Dim, Tensor, host};

use super::{Importer::One, Row, Rows, axes};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, invalid},
};

pub(super) const ROWS: Rows = &[Row::new("Resize", 10, One(resize)), Row::new("Upsample", 7, One(upsample)).until(10)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// Where the centre of a result element lies on the operand's axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    Crop,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// What the attributes say.
struct Spec {
    mode: Mode,
    coordinates: Coordinates,
    rounding: Rounding,
    exclude_outside: bool,
    antialias: bool,
    /// 0 stretch, 1 not larger, 2 not smaller.
    aspect: i64,
    cubic: f64,
    extrapolation: f64,
}

/// One axis that is resized.
struct Along {
    axis: usize,
    from: Dim,
    to: Dim,
    scale: Scale,
    /// First and last position of the region of interest as fractions of the axis, f64 scalars.
    region: Option<(Value, Value)>,
}

/// Result size for operand size.
enum Scale {
    Given(f64),
    /// `to / from`.
    Sizes,
}

impl Spec {
    fn of(node: &Node<'_>) -> Outcome<Spec> {
        let pick = |name: &str, default: &str, names: &[&str]| -> Outcome<usize> {
            let found = node.attr_str_or(name, default)?.to_owned();
            names.iter().position(|known| *known == found).ok_or_else(|| invalid(format!("`{name}` is `{found}`")))
        };
        // Before version 11 there was one way only.
        let (coordinates, rounding) =
            if node.since(11) { ("half_pixel", "round_prefer_floor") } else { ("asymmetric", "floor") };
        let coordinates = pick(
            "coordinate_transformation_mode",
            coordinates,
            &[
                "half_pixel",
                "half_pixel_symmetric",
                "pytorch_half_pixel",
                "align_corners",
                "asymmetric",
                "tf_crop_and_resize",
                "tf_half_pixel_for_nn",
            ],
        )?;
        let rounding = pick("nearest_mode", rounding, &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?;
        use Coordinates::*;
        let mode = pick("mode", "nearest", &["nearest", "linear", "cubic", "bilinear"])?;
        Ok(Spec {
            mode: [Mode::Nearest, Mode::Linear, Mode::Cubic, Mode::Linear][mode],
            coordinates: [HalfPixel, HalfPixelSymmetric, PytorchHalfPixel, AlignCorners, Asymmetric, Crop, HalfPixel]
                [coordinates],
            rounding: [Rounding::PreferFloor, Rounding::PreferCeil, Rounding::Floor, Rounding::Ceil][rounding],
            exclude_outside: node.attr_bool_or("exclude_outside", false)?,
            antialias: node.attr_bool_or("antialias", false)?,
            aspect: pick("keep_aspect_ratio_policy", "stretch", &["stretch", "not_larger", "not_smaller"])? as i64,
            cubic: node.attr_f32_or("cubic_coeff_a", -0.75)?.into(),
            extrapolation: node.attr_f32_or("extrapolation_value", 0.0)?.into(),
        })
    }

    /// The integer parameters of the host function.
    fn ints(&self, axes: &[usize]) -> Vec<i64> {
        let flags = [i64::from(self.exclude_outside), i64::from(self.antialias), self.aspect];
        let head = [self.mode as i64, self.coordinates as i64, self.rounding as i64];
        head.into_iter().chain(flags).chain(axes.iter().map(|&axis| axis as i64)).collect()
    }

    fn reals(&self) -> Vec<f64> {
        vec![self.cubic, self.extrapolation]
    }

    /// Whether result element `i` is operand element `⌊i/r⌋` for every whole factor `r`.
    fn repeats(&self) -> bool {
        use Coordinates::*;
        match self.coordinates {
            Asymmetric => self.rounding == Rounding::Floor,
            // The centre of an element lies strictly within half an element of the one that it repeats.
            HalfPixel | HalfPixelSymmetric | PytorchHalfPixel => {
                matches!(self.rounding, Rounding::PreferFloor | Rounding::PreferCeil)
            }
            AlignCorners | Crop => false,
        }
    }
}

fn upsample<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let spec = Spec::of(node)?;
    let axes: Vec<usize> = (0..ctx.rank(x)).collect();
    if node.since(9) {
        return by_inputs(ctx, node, x, spec, &axes, Inputs { scales: 1, sizes: usize::MAX, region: usize::MAX });
    }
    let scales: Vec<f64> = node.attr_floats("scales")?.iter().map(|&scale| scale.into()).collect();
    let plan = scaled(ctx, x, &axes, &scales)?;
    along_all(ctx, x, &spec, plan)
}

fn resize<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let spec = Spec::of(node)?;
    let rank = ctx.rank(x);
    let axes = axes(ctx, node, usize::MAX, rank)?.unwrap_or_else(|| (0..rank).collect());
    let inputs = if node.since(11) {
        Inputs { region: 1, scales: 2, sizes: 3 }
    } else {
        Inputs { scales: 1, sizes: usize::MAX, region: usize::MAX }
    };
    by_inputs(ctx, node, x, spec, &axes, inputs)
}

/// Which input is what.
struct Inputs {
    scales: usize,
    sizes: usize,
    region: usize,
}

/// An input that is there and not an empty list.
fn given<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, index: usize) -> Outcome<Option<Value>> {
    let empty = |ctx: &Ctx<'a, '_>| ctx.input_type(node, index).is_some_and(|ty| ty.count().is(0));
    if index == usize::MAX || empty(ctx) { Ok(None) } else { ctx.value_opt(node, index) }
}

fn by_inputs<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    spec: Spec,
    axes: &[usize],
    inputs: Inputs,
) -> Outcome<Value> {
    let (scales, sizes) = (given(ctx, node, inputs.scales)?, given(ctx, node, inputs.sizes)?);
    let region = if spec.coordinates == Coordinates::Crop { given(ctx, node, inputs.region)? } else { None };
    let constant_scales = || ctx.tensor(node, inputs.scales).and_then(|scales| Some(scales.numbers().ok()?.to_f64()));
    let plan = match (sizes, scales) {
        (Some(_), _) => match ctx.dims_opt(node, inputs.sizes).flatten() {
            Some(sizes) => sized(ctx, x, &spec, axes, &sizes)?,
            None => None,
        },
        (None, Some(_)) if region.is_none() => match constant_scales() {
            Some(scales) => Some(scaled(ctx, x, axes, &scales)?),
            None => None,
        },
        (None, Some(_)) => None,
        (None, None) => return Err(Fault::MissingInput(inputs.scales).into()),
    };
    let Some(mut plan) = plan else { return on_host(ctx, x, &spec, axes, scales, sizes, region) };
    if let Some(region) = region {
        set_region(ctx, &mut plan, region)?;
    }
    if spec.antialias && spec.mode != Mode::Nearest && !plan.iter().all(|along| weights_fit(&along.from, &along.to)) {
        return on_host(ctx, x, &spec, axes, scales, sizes, region);
    }
    along_all(ctx, x, &spec, plan)
}

fn no_floats(ctx: &mut Ctx<'_, '_>) -> Outcome<Value> {
    Ok(ctx.add_constant(Tensor::from_slice::<f32>(&[0], &[])?))
}

/// The plan for given scales.
fn scaled(ctx: &Ctx<'_, '_>, x: Value, axes: &[usize], scales: &[f64]) -> Outcome<Vec<Along>> {
    check_count(axes, scales.len())?;
    let along = |(&axis, &scale): (&usize, &f64)| -> Outcome<Along> {
        let from = ctx.size(x, axis)?;
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(invalid(format!("axis {axis} is scaled by {scale}")));
        }
        let to = match from.as_usize() {
            Some(size) => {
                let to = (size as f64 * scale).floor();
                Dim::from(if to < i32::MAX as f64 { to as i64 } else { i64::MAX })
            }
            None => {
                let (numerator, denominator) = ratio(scale);
                (from.clone() * Dim::Const(numerator)).floor_div(&Dim::Const(denominator))
            }
        };
        Ok(Along { axis, from, to, scale: Scale::Given(scale), region: None })
    };
    axes.iter().zip(scales).map(along).collect()
}

/// A positive float as a fraction, exact where its denominator is at most 2^24.
fn ratio(value: f64) -> (i64, i64) {
    let mut denominator = 1i64;
    while denominator < 1 << 24 && (value * denominator as f64).fract() != 0.0 {
        denominator *= 2;
    }
    ((value * denominator as f64) as i64, denominator)
}

fn check_count(axes: &[usize], found: usize) -> Outcome<()> {
    if found == axes.len() { Ok(()) } else { Err(invalid(format!("{found} sizes or scales for {} axes", axes.len()))) }
}

/// The plan for given sizes; `None` where a ratio that the axes keep is not known.
fn sized(ctx: &Ctx<'_, '_>, x: Value, spec: &Spec, axes: &[usize], sizes: &[Dim]) -> Outcome<Option<Vec<Along>>> {
    check_count(axes, sizes.len())?;
    let mut plan = Vec::with_capacity(axes.len());
    for (&axis, to) in axes.iter().zip(sizes) {
        let from = ctx.size(x, axis)?;
        plan.push(Along { axis, from, to: to.clone(), scale: Scale::Sizes, region: None });
    }
    if spec.aspect == 0 {
        return Ok(Some(plan));
    }
    let ratio = |along: &Along| Some(along.to.as_usize()? as f64 / along.from.as_usize()? as f64);
    let Some(ratios) = plan.iter().map(ratio).collect::<Option<Vec<f64>>>() else { return Ok(None) };
    let pick = if spec.aspect == 1 { f64::min } else { f64::max };
    let common = ratios.into_iter().reduce(pick).unwrap_or(1.0);
    for along in &mut plan {
        let size = along.from.as_usize().unwrap_or(0) as f64 * common;
        // Halves are rounded up.
        (along.to, along.scale) = (Dim::Const((size + 0.5).floor() as i64), Scale::Given(common));
    }
    Ok(Some(plan))
}

/// The region of interest lists the starts of all axes, then the ends.
fn set_region(ctx: &mut Ctx<'_, '_>, plan: &mut [Along], region: Value) -> Outcome<()> {
    let count = plan.len();
    if ctx.shape(region) != [Dim::from(2 * count)] {
        return Err(invalid(format!("a region of interest that does not have {} elements", 2 * count)));
    }
    let region = ctx.cast(region, DType::F64)?;
    for (place, along) in plan.iter_mut().enumerate() {
        let mut element = |at: usize| {
            let element = ctx.slice_axis(region, 0, Dim::from(at), Dim::ONE, 1)?;
            ctx.reshape(element, &[])
        };
        along.region = Some((element(place)?, element(place + count)?));
    }
    Ok(())
}

fn on_host(
    ctx: &mut Ctx<'_, '_>,
    x: Value,
    spec: &Spec,
    axes: &[usize],
    scales: Option<Value>,
    sizes: Option<Value>,
    region: Option<Value>,
) -> Outcome<Value> {
    let none = no_floats(ctx)?;
    let sizes = match sizes {
        Some(sizes) => sizes,
        None => ctx.ints(&[])?,
    };
    // Sizes win over scales.
    let scales = if ctx.size(sizes, 0)?.is(0) { scales.unwrap_or(none) } else { none };
    let mut shape = ctx.shape(x);
    for &axis in axes {
        shape[axis] = ctx.fresh("resize");
    }
    let types = vec![Type::new(ctx.dtype(x), shape)];
    let reals = spec.reals().into_iter().map(Real).collect();
    let op = Op::Host { function: "resize".into(), ints: spec.ints(axes), reals, types };
    ctx.add(op, &[x, scales, sizes, region.unwrap_or(none)])
}

fn along_all(ctx: &mut Ctx<'_, '_>, x: Value, spec: &Spec, plan: Vec<Along>) -> Outcome<Value> {
    let dtype = ctx.dtype(x);
    if !dtype.is_numeric() || spec.mode != Mode::Nearest && dtype == DType::Bool {
        return Err(invalid(format!("{dtype} cannot be resized so")));
    }
    let mut y = x;
    if spec.mode != Mode::Nearest && dtype != DType::F64 {
        y = ctx.cast(y, DType::F32)?;
    }
    let mut outside: Option<Value> = None;
    for along in &plan {
        let (next, beyond) = along_one(ctx, y, spec, along)?;
        y = next;
        outside = match (outside, beyond) {
            (Some(a), Some(b)) => Some(ctx.binary(BinaryFn::Or, a, b)?),
            (a, b) => a.or(b),
        };
    }
    if let Some(outside) = outside {
        let fill = ctx.scalar_like(y, spec.extrapolation);
        y = ctx.select(outside, fill, y)?;
    }
    narrow(ctx, y, dtype)
}

/// Interpolated integers are cut off, and never leave the range of their type.
fn narrow(ctx: &mut Ctx<'_, '_>, y: Value, dtype: DType) -> Outcome<Value> {
    if ctx.dtype(y) == dtype || dtype.is_float() {
        return ctx.cast(y, dtype);
    }
    let bits = dtype.bits() as i32;
    let (low, high) = match dtype.class() {
        Class::Int => (-2f64.powi(bits - 1), 2f64.powi(bits - 1) - 1.0),
        _ => (0.0, 2f64.powi(bits) - 1.0),
    };
    let y = ctx.with_scalar(BinaryFn::Max, y, low)?;
    let y = ctx.with_scalar(BinaryFn::Min, y, high)?;
    ctx.cast(y, dtype)
}

/// Resizes one axis; and where the result lies outside the operand, shaped to broadcast.
fn along_one(ctx: &mut Ctx<'_, '_>, x: Value, spec: &Spec, along: &Along) -> Outcome<(Value, Option<Value>)> {
    if spec.coordinates != Coordinates::Crop {
        let same = match along.scale {
            Scale::Given(scale) => scale == 1.0,
            Scale::Sizes => along.from == along.to,
        };
        if same {
            return Ok((x, None));
        }
        if spec.mode == Mode::Nearest
            && let Some(moved) = by_movement(ctx, x, spec, along)?
        {
            return Ok((moved, None));
        }
        if spec.antialias && spec.mode != Mode::Nearest {
            return Ok((by_weights(ctx, x, spec, along)?, None));
        }
    }
    let at = position(ctx, spec, along)?;
    let y = by_neighbours(ctx, x, spec, along, at)?;
    if spec.coordinates != Coordinates::Crop {
        return Ok((y, None));
    }
    let last = ctx.dim_scalar(&(along.from.clone() - Dim::ONE), DType::F64)?;
    let before = ctx.with_scalar(BinaryFn::Lt, at, 0.0)?;
    let after = ctx.binary(BinaryFn::Gt, at, last)?;
    let outside = ctx.binary(BinaryFn::Or, before, after)?;
    Ok((y, Some(on_axis(ctx, outside, along.axis, ctx.rank(x))?)))
}

/// A vector as an axis that broadcasts against `rank` axes.
fn on_axis(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize, rank: usize) -> Outcome<Value> {
    let mut shape = vec![Dim::ONE; rank];
    shape[axis] = ctx.size(x, 0)?;
    ctx.reshape(x, &shape)
}

/// Nearest elements by a whole factor, where they are repeated or skipped evenly.
fn by_movement(ctx: &mut Ctx<'_, '_>, x: Value, spec: &Spec, along: &Along) -> Outcome<Option<Value>> {
    let Along { axis, from, to, .. } = along;
    let whole = |scale: f64| scale.fract() == 0.0 && scale < i32::MAX as f64;
    let (repeat, skip) = match along.scale {
        Scale::Given(scale) => (
            whole(scale).then_some(scale as i64),
            whole(1.0 / scale).then_some((1.0 / scale) as i64).filter(|&skip| 1.0 / skip as f64 == scale),
        ),
        Scale::Sizes => {
            let quotient = |a: &Dim, b: &Dim| a.exact_div(b).and_then(|factor| factor.as_const());
            (quotient(to, from), quotient(from, to))
        }
    };
    if let Some(factor) = repeat.filter(|&factor| factor > 1 && spec.repeats()) {
        let mut shape = ctx.shape(x);
        let x = ctx.unsqueeze(x, axis + 1)?;
        shape.insert(axis + 1, Dim::Const(factor));
        let x = ctx.broadcast(x, &shape)?;
        shape.remove(axis + 1);
        shape[*axis] = from.clone() * Dim::Const(factor);
        return ctx.reshape(x, &shape).map(Some);
    }
    match skip.filter(|&skip| skip > 1 && spec.coordinates == Coordinates::Asymmetric) {
        Some(step) => ctx.slice_axis(x, *axis, Dim::ZERO, to.clone(), step).map(Some),
        None => Ok(None),
    }
}

/// The most weights that are made at import.
const MOST_WEIGHTS: usize = 1 << 22;

fn weights_fit(from: &Dim, to: &Dim) -> bool {
    let count = || from.as_usize()?.checked_mul(to.as_usize()?);
    from == to || count().is_some_and(|count| count <= MOST_WEIGHTS)
}

/// A contraction with the weights, which are what resizing makes of the identity matrix.
fn by_weights(ctx: &mut Ctx<'_, '_>, x: Value, spec: &Spec, along: &Along) -> Outcome<Value> {
    let from = along.from.as_usize().ok_or_else(|| invalid("weights for an unknown size"))?;
    let mut identity = vec![0f32; from * from];
    identity.iter_mut().step_by(from + 1).for_each(|element| *element = 1.0);
    let none = Tensor::from_slice::<f32>(&[0], &[])?;
    let (scales, sizes) = match along.scale {
        Scale::Given(scale) => (Tensor::from_slice(&[1], &[scale])?, Tensor::from_slice::<i64>(&[0], &[])?),
        Scale::Sizes => (none.clone(), Tensor::from_slice(&[1], &[along.to.as_const().unwrap_or(0)])?),
    };
    let spec = Spec { aspect: 0, ..*spec };
    let operands = [Tensor::from_slice(&[from, from], &identity)?, scales, sizes, none];
    let weights = host::call("resize", &spec.ints(&[0]), &spec.reals(), &operands);
    let weights = weights.map_err(|error| invalid(error.to_string()))?;
    let weights = weights.into_iter().next().ok_or_else(|| invalid("no weights"))?;
    let weights = ctx.add_constant(weights);
    let weights = ctx.cast(weights, ctx.dtype(x))?;
    let letters: String = (0..ctx.rank(x)).map(|axis| char::from(b'a' + (axis as u8).min(24))).collect();
    let own = &letters[along.axis..=along.axis];
    let result = letters.replace(own, "z");
    ctx.contract(&format!("{letters},z{own}->{result}"), x, weights)
}

/// Where the centres of the result's elements lie, an f64 vector.
fn position(ctx: &mut Ctx<'_, '_>, spec: &Spec, along: &Along) -> Outcome<Value> {
    let count = ctx.iota(DType::I64, std::slice::from_ref(&along.to), 0)?;
    let x = ctx.cast(count, DType::F64)?;
    let (from, to) = (ctx.dim_scalar(&along.from, DType::F64)?, ctx.dim_scalar(&along.to, DType::F64)?);
    let scale = match along.scale {
        Scale::Given(scale) => ctx.scalar(DType::F64, scale),
        Scale::Sizes => ctx.binary(BinaryFn::Div, to, from)?,
    };
    let span = ctx.with_scalar(BinaryFn::Sub, from, 1.0)?;
    // Where a scale is given, the last corner lies where it says, even between elements. Of a single result element nothing is between.
    let exact = ctx.binary(BinaryFn::Mul, scale, from)?;
    let gaps = ctx.with_scalar(BinaryFn::Sub, exact, 1.0)?;
    let gaps = ctx.with_scalar(BinaryFn::Max, gaps, 1.0)?;
    let centred = |ctx: &mut Ctx<'_, '_>| {
        let centre = ctx.with_scalar(BinaryFn::Add, x, 0.5)?;
        let centre = ctx.binary(BinaryFn::Div, centre, scale)?;
        ctx.with_scalar(BinaryFn::Sub, centre, 0.5)
    };
    match (spec.coordinates, along.region) {
        (Coordinates::Asymmetric, _) => ctx.binary(BinaryFn::Div, x, scale),
        (Coordinates::HalfPixel, _) => centred(ctx),
        (Coordinates::PytorchHalfPixel, _) => {
            let (centre, zero) = (centred(ctx)?, ctx.scalar(DType::F64, 0.0));
            let several = ctx.with_scalar(BinaryFn::Gt, to, 1.0)?;
            ctx.select(several, centre, zero)
        }
        (Coordinates::HalfPixelSymmetric, _) => {
            // The result is centred even where its size is a rounded one: from/2·(1 - to/(scale·from)) is what is cut off.
            let adjustment = ctx.binary(BinaryFn::Div, to, exact)?;
            let one = ctx.scalar(DType::F64, 1.0);
            let rest = ctx.binary(BinaryFn::Sub, one, adjustment)?;
            let half = ctx.with_scalar(BinaryFn::Mul, from, 0.5)?;
            let offset = ctx.binary(BinaryFn::Mul, half, rest)?;
            let centre = centred(ctx)?;
            ctx.binary(BinaryFn::Add, centre, offset)
        }
        (Coordinates::AlignCorners, _) | (Coordinates::Crop, None) => {
            let x = ctx.binary(BinaryFn::Mul, x, span)?;
            ctx.binary(BinaryFn::Div, x, gaps)
        }
        (Coordinates::Crop, Some((start, end))) => {
            let length = ctx.binary(BinaryFn::Sub, end, start)?;
            let step = ctx.binary(BinaryFn::Mul, length, span)?;
            let x = ctx.binary(BinaryFn::Mul, x, step)?;
            let x = ctx.binary(BinaryFn::Div, x, gaps)?;
            let first = ctx.binary(BinaryFn::Mul, start, span)?;
            let between = ctx.binary(BinaryFn::Add, first, x)?;
            let middle = ctx.binary(BinaryFn::Add, start, end)?;
            let middle = ctx.binary(BinaryFn::Mul, middle, span)?;
            let middle = ctx.with_scalar(BinaryFn::Mul, middle, 0.5)?;
            let several = ctx.with_scalar(BinaryFn::Gt, to, 1.0)?;
            ctx.select(several, between, middle)
        }
    }
}

/// The sum of the neighbours of positions, by their weights.
fn by_neighbours(ctx: &mut Ctx<'_, '_>, x: Value, spec: &Spec, along: &Along, at: Value) -> Outcome<Value> {
    if spec.mode == Mode::Nearest {
        let place = nearest(ctx, spec.rounding, at)?;
        return element(ctx, x, along, place);
    }
    let base = ctx.unary(UnaryFn::Floor, at)?;
    let fraction = ctx.binary(BinaryFn::Sub, at, base)?;
    let offsets = if spec.mode == Mode::Linear { 0..=1 } else { -1..=2 };
    let mut taps = Vec::new();
    for offset in offsets {
        let place = ctx.with_scalar(BinaryFn::Add, base, f64::from(offset))?;
        let distance = ctx.with_scalar(BinaryFn::Sub, fraction, f64::from(offset))?;
        let distance = ctx.unary(UnaryFn::Abs, distance)?;
        let near = (0..=1).contains(&offset);
        let mut weight = match spec.mode {
            Mode::Linear => {
                let one = ctx.scalar(DType::F64, 1.0);
                ctx.binary(BinaryFn::Sub, one, distance)?
            }
            _ => cubic(ctx, distance, spec.cubic, near)?,
        };
        if spec.exclude_outside {
            let last = ctx.dim_scalar(&(along.from.clone() - Dim::ONE), DType::F64)?;
            let (low, high) = (ctx.with_scalar(BinaryFn::Ge, place, 0.0)?, ctx.binary(BinaryFn::Le, place, last)?);
            let inside = ctx.binary(BinaryFn::And, low, high)?;
            let zero = ctx.scalar(DType::F64, 0.0);
            weight = ctx.select(inside, weight, zero)?;
        }
        taps.push((place, weight));
    }
    if spec.exclude_outside {
        let mut sum = taps[0].1;
        for &(_, weight) in &taps[1..] {
            sum = ctx.binary(BinaryFn::Add, sum, weight)?;
        }
        for (_, weight) in &mut taps {
            *weight = ctx.binary(BinaryFn::Div, *weight, sum)?;
        }
    }
    let mut total: Option<Value> = None;
    for (place, weight) in taps {
        let part = element(ctx, x, along, place)?;
        let weight = ctx.cast(weight, ctx.dtype(x))?;
        let weight = on_axis(ctx, weight, along.axis, ctx.rank(x))?;
        let part = ctx.binary(BinaryFn::Mul, part, weight)?;
        total = Some(match total {
            None => part,
            Some(total) => ctx.binary(BinaryFn::Add, total, part)?,
        });
    }
    total.ok_or_else(|| invalid("no neighbours"))
}

/// Keys' cubic convolution kernel (IEEE ASSP 29, 1981): of the two inner neighbours, or of the two outer ones.
pub(super) fn cubic(ctx: &mut Ctx<'_, '_>, d: Value, a: f64, inner: bool) -> Outcome<Value> {
    // By falling powers of the distance.
    let factors = if inner { [a + 2.0, -(a + 3.0), 0.0, 1.0] } else { [a, -5.0 * a, 8.0 * a, -4.0 * a] };
    let mut y = ctx.with_scalar(BinaryFn::Mul, d, factors[0])?;
    y = ctx.with_scalar(BinaryFn::Add, y, factors[1])?;
    for factor in &factors[2..] {
        y = ctx.binary(BinaryFn::Mul, y, d)?;
        y = ctx.with_scalar(BinaryFn::Add, y, *factor)?;
    }
    Ok(y)
}

fn nearest(ctx: &mut Ctx<'_, '_>, rounding: Rounding, at: Value) -> Outcome<Value> {
    let (shift, function) = match rounding {
        Rounding::PreferFloor => (-0.5, UnaryFn::Ceil),
        Rounding::PreferCeil => (0.5, UnaryFn::Floor),
        Rounding::Floor => (0.0, UnaryFn::Floor),
        Rounding::Ceil => (0.0, UnaryFn::Ceil),
    };
    let shifted = if shift == 0.0 { at } else { ctx.with_scalar(BinaryFn::Add, at, shift)? };
    ctx.unary(function, shifted)
}

/// The elements at places (f64), the first and last one standing for all beyond them.
fn element(ctx: &mut Ctx<'_, '_>, x: Value, along: &Along, place: Value) -> Outcome<Value> {
    let last = ctx.dim_scalar(&(along.from.clone() - Dim::ONE), DType::F64)?;
    let place = ctx.binary(BinaryFn::Min, place, last)?;
    let place = ctx.with_scalar(BinaryFn::Max, place, 0.0)?;
    let place = ctx.cast(place, DType::I64)?;
    ctx.add(Op::Gather { axis: along.axis }, &[x, place])
}
