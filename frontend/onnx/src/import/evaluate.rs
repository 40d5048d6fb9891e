//! Evaluation of shape arithmetic: operators whose operands are known at import, up to symbols, give known results and no nodes.
//!
//! Everything here is optional: where a result is not known exactly for every value of the symbols, the answer is `None` and the
//! operator's importer is called instead.

use tarsia_graph::broadcast_shapes;
use tarsia_tensor::{Class, DType, Dim, Numbers, Overflow, element_count};

use super::{
    Ctx, Element, Known,
    context::axis_of,
    known::{ravel, unravel},
};
use crate::Node;

/// The results of a node, if they are known.
pub(super) fn evaluate<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>) -> Option<Vec<Known>> {
    if !node.domain().is_empty() {
        return None;
    }
    let one = |known: Option<Known>| known.map(|known| vec![known]);
    let x = |index: usize| ctx.known(node, index);
    match node.op_type() {
        "Shape" => one(shape(ctx, node)),
        "Size" => one(Some(Known::scalar(ctx.input_type(node, 0)?.count()))),
        "Gather" => one(gather(node, &x(0)?, &x(1)?)),
        "Slice" => one(slice(ctx, node, &x(0)?)),
        "Concat" => one(concat(ctx, node)),
        "Unsqueeze" => one(unsqueeze(ctx, node, &x(0)?)),
        "Squeeze" => one(squeeze(ctx, node, &x(0)?)),
        "Reshape" => one(reshape(ctx, node, x(0)?)),
        "Flatten" => one(flatten(node, &x(0)?)),
        "Transpose" => one(transpose(node, &x(0)?)),
        "Expand" => one(expand(&x(0)?, &x(1)?)),
        "Tile" => one(tile(&x(0)?, &x(1)?)),
        "Split" => split(ctx, node, &x(0)?),
        "Cast" => one(cast(&x(0)?, node.attr_dtype("to").ok()?)),
        "CastLike" => one(cast(&x(0)?, ctx.input_type(node, 1)?.dtype)),
        "Add" => one(binary(&x(0)?, &x(1)?, add)),
        "Sub" => one(binary(&x(0)?, &x(1)?, sub)),
        "Mul" => one(binary(&x(0)?, &x(1)?, mul)),
        "Div" => one(binary(&x(0)?, &x(1)?, if x(0)?.dtype.is_float() { quotient } else { div })),
        "Mod" if node.attr_int_or("fmod", 0).ok()? == 0 => one(binary(&x(0)?, &x(1)?, modulo)),
        "Min" => one(fold(ctx, node, |a, b| extreme(a, b, true))),
        "Max" => one(fold(ctx, node, |a, b| extreme(a, b, false))),
        "Sum" => one(fold(ctx, node, add)),
        "Neg" => one(unary(&x(0)?, |e| Some(Element::ratio(-e.numerator.clone(), e.denominator)))),
        "Abs" => one(unary(&x(0)?, |e| extreme(e, &Element::ratio(-e.numerator.clone(), e.denominator), false))),
        "Floor" => one(unary(&x(0)?, |e| Some(e.numerator.floor_div(&Dim::Const(e.denominator)).into()))),
        "Ceil" => one(unary(&x(0)?, |e| Some(e.numerator.ceil_div(&Dim::Const(e.denominator)).into()))),
        "Equal" => one(compare(&x(0)?, &x(1)?, |d| sign(d, |low, high| (low == 0 && high == 0, low > 0 || high < 0)))),
        "Less" => one(compare(&x(0)?, &x(1)?, |d| sign(d, |low, high| (high < 0, low >= 0)))),
        "LessOrEqual" => one(compare(&x(0)?, &x(1)?, |d| sign(d, |low, high| (high <= 0, low > 0)))),
        "Greater" => one(compare(&x(0)?, &x(1)?, |d| sign(d, |low, high| (low > 0, high <= 0)))),
        "GreaterOrEqual" => one(compare(&x(0)?, &x(1)?, |d| sign(d, |low, high| (low >= 0, high < 0)))),
        "Not" => one(unary(&x(0)?, |e| Some(Dim::from(i64::from(e.as_const()? == 0)).into()))),
        "And" => one(binary(&x(0)?, &x(1)?, |a, b| truth(a.as_const()? != 0 && b.as_const()? != 0))),
        "Or" => one(binary(&x(0)?, &x(1)?, |a, b| truth(a.as_const()? != 0 || b.as_const()? != 0))),
        "Where" => one(choose(&x(0)?, &x(1)?, &x(2)?)),
        "ReduceProd" => one(reduce(ctx, node, &x(0)?, 1, mul)),
        "ReduceSum" => one(reduce(ctx, node, &x(0)?, 0, add)),
        "ReduceMax" => one(reduce(ctx, node, &x(0)?, i64::MIN, |a, b| extreme(a, b, false))),
        "ReduceMin" => one(reduce(ctx, node, &x(0)?, i64::MAX, |a, b| extreme(a, b, true))),
        "Range" => one(range(&x(0)?, &x(1)?, &x(2)?)),
        "ConstantOfShape" => one(constant_of_shape(node, &x(0)?)),
        _ => None,
    }
}

fn shape<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>) -> Option<Known> {
    let shape = ctx.input_type(node, 0)?.shape;
    let rank = shape.len() as i64;
    let bound =
        |at: i64| usize::try_from(if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank)).unwrap_or(0);
    let start = bound(node.attr_int_or("start", 0).ok()?);
    let end = bound(node.attr_int_or("end", rank).ok()?);
    Some(Known::vector(shape.get(start..end.max(start))?.iter().cloned()))
}

fn axis(node: &Node<'_>, name: &str, default: i64, rank: usize) -> Option<usize> {
    axis_of(node.attr_int_or(name, default).ok()?, rank).ok()
}

/// The axes that an operator has as an attribute before a version and as an input from it on; `None` where none are given.
fn axes<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, input: usize) -> Option<Option<Vec<i64>>> {
    match (ctx.item(node, input), node.attr_ints_opt("axes").ok()?) {
        (Some(_), _) => ctx.known(node, input)?.ints().map(Some),
        (None, attribute) => Some(attribute.map(<[i64]>::to_vec)),
    }
}

fn gather(node: &Node<'_>, data: &Known, indices: &Known) -> Option<Known> {
    let axis = axis(node, "axis", 0, data.shape.len())?;
    let size = *data.shape.get(axis)?;
    let at: Vec<usize> = indices.ints()?.iter().map(|&i| axis_of(i, size).ok()).collect::<Option<_>>()?;
    let shape = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    let inner = axis + indices.shape.len();
    data.rearranged(shape, |index| {
        let picked = *at.get(ravel(&index[axis..inner], &indices.shape)?)?;
        ravel(&[&index[..axis], &[picked], &index[inner..]].concat(), &data.shape)
    })
}

fn slice<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, data: &Known) -> Option<Known> {
    let list = |name: &str, input: usize| -> Option<Option<Vec<i64>>> {
        if !node.since(10) {
            return Some(node.attr_ints_opt(name).ok()?.map(<[i64]>::to_vec));
        }
        match ctx.item(node, input) {
            Some(_) => ctx.known(node, input)?.ints().map(Some),
            None => Some(None),
        }
    };
    let (starts, ends) = (list("starts", 1)??, list("ends", 2)??);
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if node.since(10) { list("steps", 4)? } else { None }.unwrap_or_else(|| vec![1; starts.len()]);
    let (mut first, mut step, mut shape) =
        (vec![0i64; data.shape.len()], vec![1i64; data.shape.len()], data.shape.clone());
    for (i, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, shape.len()).ok()?;
        let (start, count) = clamped(*starts.get(i)?, *ends.get(i)?, *steps.get(i)?, *data.shape.get(axis)?)?;
        (first[axis], step[axis], shape[axis]) = (start, *steps.get(i)?, count);
    }
    data.rearranged(shape, |index| {
        let at = |axis: usize| usize::try_from(first[axis] + index[axis] as i64 * step[axis]).ok();
        ravel(&(0..index.len()).map(at).collect::<Option<Vec<_>>>()?, &data.shape)
    })
}

/// First index and number of elements of a slice along an axis of `size`.
fn clamped(start: i64, end: i64, step: i64, size: usize) -> Option<(i64, usize)> {
    let size = size as i64;
    let wrap = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (start, end) = (wrap(start).clamp(low, high), wrap(end).clamp(low, high));
    let count = match step {
        0 => return None,
        1.. => (end - start).max(0).checked_add(step - 1)? / step,
        _ => (start - end).max(0).checked_add(step.checked_neg()? - 1)? / step.checked_neg()?,
    };
    Some((start, usize::try_from(count).ok()?))
}

fn concat<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>) -> Option<Known> {
    let parts: Vec<Known> = (0..node.inputs().len()).map(|i| ctx.known(node, i)).collect::<Option<_>>()?;
    let first = parts.first()?;
    let axis = axis_of(node.attr_int("axis").ok()?, first.shape.len()).ok()?;
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(*part.shape.get(axis)?))?;
    let outer = element_count(&shape[..axis])?;
    let mut elements = Vec::new();
    for block in 0..outer {
        for part in &parts {
            let length = part.elements.len().checked_div(outer)?;
            elements.extend_from_slice(part.elements.get(block * length..(block + 1) * length)?);
        }
    }
    if parts.iter().any(|part| part.dtype != first.dtype || part.shape.len() != shape.len()) {
        return None;
    }
    Known::new(first.dtype, shape, elements)
}

fn unsqueeze<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, x: &Known) -> Option<Known> {
    let axes = axes(ctx, node, 1)??;
    let rank = x.shape.len() + axes.len();
    let axes: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, rank).ok()).collect::<Option<_>>()?;
    let mut sizes = x.shape.iter();
    let shape =
        (0..rank).map(|i| if axes.contains(&i) { Some(1) } else { sizes.next().copied() }).collect::<Option<_>>()?;
    x.reshaped(shape)
}

fn squeeze<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, x: &Known) -> Option<Known> {
    let rank = x.shape.len();
    let axes: Vec<usize> = match axes(ctx, node, 1)? {
        Some(axes) => axes.iter().map(|&axis| axis_of(axis, rank).ok()).collect::<Option<_>>()?,
        None => (0..rank).filter(|&i| x.shape[i] == 1).collect(),
    };
    x.reshaped((0..rank).filter(|i| !axes.contains(i)).map(|i| x.shape[i]).collect())
}

fn reshape<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, x: Known) -> Option<Known> {
    let target = ctx.known(node, 1)?.ints()?;
    let allow_zero = node.attr_int_or("allowzero", 0).ok()? != 0;
    let mut shape = Vec::with_capacity(target.len());
    for (axis, &size) in target.iter().enumerate() {
        shape.push(match size {
            0 if !allow_zero => *x.shape.get(axis)?,
            -1 => {
                let size = |(i, &size): (usize, &i64)| match size {
                    -1 => Some(1),
                    0 if !allow_zero => x.shape.get(i).copied(),
                    size => usize::try_from(size).ok(),
                };
                let rest = target.iter().enumerate().map(size).try_fold(1usize, |n, s| n.checked_mul(s?))?;
                x.elements.len().checked_div(rest)?
            }
            size => usize::try_from(size).ok()?,
        });
    }
    x.reshaped(shape)
}

fn flatten(node: &Node<'_>, x: &Known) -> Option<Known> {
    let rank = x.shape.len();
    let axis = node.attr_int_or("axis", 1).ok()?;
    let axis =
        usize::try_from(if axis < 0 { axis.checked_add(rank as i64)? } else { axis }).ok().filter(|&a| a <= rank)?;
    x.reshaped(vec![element_count(&x.shape[..axis])?, element_count(&x.shape[axis..])?])
}

fn transpose(node: &Node<'_>, x: &Known) -> Option<Known> {
    let rank = x.shape.len();
    let perm: Vec<usize> = match node.attr_ints_opt("perm").ok()? {
        Some(perm) => perm.iter().map(|&axis| axis_of(axis, rank).ok()).collect::<Option<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let shape = perm.iter().map(|&axis| x.shape[axis]).collect();
    x.rearranged(shape, |index| {
        let mut source = vec![0; rank];
        perm.iter().zip(index).for_each(|(&axis, &i)| source[axis] = i);
        ravel(&source, &x.shape)
    })
}

fn expand(x: &Known, shape: &Known) -> Option<Known> {
    let target: Vec<usize> = shape.ints()?.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let shape = common_shape(&x.shape, &target)?;
    x.rearranged(shape, |index| ravel(index, &x.shape))
}

fn tile(x: &Known, repeats: &Known) -> Option<Known> {
    let repeats = repeats.ints()?;
    let size = |(&size, &times): (&usize, &i64)| size.checked_mul(usize::try_from(times).ok()?);
    let shape: Vec<usize> = x.shape.iter().zip(&repeats).map(size).collect::<Option<_>>()?;
    x.rearranged(shape, |index| {
        ravel(&index.iter().zip(&x.shape).map(|(&i, &size)| i.checked_rem(size)).collect::<Option<Vec<_>>>()?, &x.shape)
    })
}

fn split<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, x: &Known) -> Option<Vec<Known>> {
    let axis = axis(node, "axis", 0, x.shape.len())?;
    let parts = node.outputs().len();
    let sizes: Vec<usize> = match (ctx.item(node, 1), node.attr_ints_opt("split").ok()?) {
        (Some(_), _) => ctx.known(node, 1)?.ints()?.iter().map(|&s| usize::try_from(s).ok()).collect::<Option<_>>()?,
        (None, Some(sizes)) => sizes.iter().map(|&s| usize::try_from(s).ok()).collect::<Option<_>>()?,
        (None, None) => {
            let whole = x.shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| whole.min(x.shape[axis].saturating_sub(i * whole))).collect()
        }
    };
    let mut start = 0usize;
    let mut results = Vec::with_capacity(sizes.len());
    for size in sizes {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        results.push(x.rearranged(shape, |index| {
            let mut source = index.to_vec();
            source[axis] = source[axis].checked_add(start)?;
            ravel(&source, &x.shape)
        })?);
        start = start.checked_add(size)?;
    }
    Some(results)
}

fn cast(x: &Known, dtype: DType) -> Option<Known> {
    let elements: Vec<Element> = match (x.dtype.class(), dtype.class()) {
        (_, Class::String | Class::Value) | (Class::String | Class::Value, _) => return None,
        _ if dtype == DType::Bool => x.elements.iter().map(nonzero).collect::<Option<_>>()?,
        // Narrow floats would round.
        (_, Class::Float) if !matches!(dtype, DType::F32 | DType::F64) => return None,
        (Class::Float, Class::Int | Class::Uint) => x.elements.iter().map(truncated).collect::<Option<_>>()?,
        _ => x.elements.clone(),
    };
    fitted(Known::new(dtype, x.shape.clone(), elements)?)
}

fn nonzero(element: &Element) -> Option<Element> {
    let range = element.numerator.range();
    match (range.low, range.high) {
        (0, 0) => truth(false),
        (low, high) if low > 0 || high < 0 => truth(true),
        _ => None,
    }
}

fn truncated(element: &Element) -> Option<Element> {
    let denominator = Dim::Const(element.denominator);
    let (low, high) = (element.numerator.range().low, element.numerator.range().high);
    if low >= 0 {
        Some(element.numerator.floor_div(&denominator).into())
    } else if high <= 0 {
        Some((-(-element.numerator.clone()).floor_div(&denominator)).into())
    } else {
        None
    }
}

/// The tensor with its known integers wrapped to the element type; `None` where they cannot be held exactly.
fn fitted(mut known: Known) -> Option<Known> {
    if known.dtype.class() == Class::Float {
        // Beyond 2^24 f32 arithmetic would round.
        let exact = |e: &Element| e.numerator.as_const().is_none_or(|n| n.unsigned_abs() < 1 << 24);
        return known.elements.iter().all(exact).then_some(known);
    }
    for element in &mut known.elements {
        match element.as_const() {
            Some(i64::MIN | i64::MAX) if known.dtype == DType::I64 => {}
            Some(value) => {
                let numbers = Numbers::Int(vec![value]).cast(DType::I64, known.dtype, Overflow::Special);
                *element = match Numbers::decode(known.dtype, &numbers.encode(known.dtype, Overflow::Special), 1)? {
                    Numbers::Int(v) => Dim::Const(*v.first()?).into(),
                    Numbers::Uint(v) => Dim::Const(i64::try_from(*v.first()?).ok()?).into(),
                    Numbers::Float(_) => return None,
                };
            }
            None if element.denominator != 1 => return None,
            None => {}
        }
    }
    Some(known)
}

fn unary(x: &Known, f: impl Fn(&Element) -> Option<Element>) -> Option<Known> {
    fitted(Known::new(x.dtype, x.shape.clone(), x.elements.iter().map(f).collect::<Option<_>>()?)?)
}

fn common_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let dims = |shape: &[usize]| shape.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
    broadcast_shapes(&dims(a), &dims(b)).ok()?.iter().map(Dim::as_usize).collect()
}

fn elementwise(a: &Known, b: &Known, dtype: DType, f: impl Fn(&Element, &Element) -> Option<Element>) -> Option<Known> {
    let shape = common_shape(&a.shape, &b.shape)?;
    let count = element_count(&shape).filter(|&count| count <= 1024)?;
    let at = |i: usize| {
        let index = unravel(i, &shape);
        f(a.elements.get(ravel(&index, &a.shape)?)?, b.elements.get(ravel(&index, &b.shape)?)?)
    };
    let elements: Option<Vec<Element>> = (0..count).map(at).collect();
    Known::new(dtype, shape.clone(), elements?)
}

fn binary(a: &Known, b: &Known, f: impl Fn(&Element, &Element) -> Option<Element>) -> Option<Known> {
    if a.dtype != b.dtype {
        return None;
    }
    fitted(elementwise(a, b, a.dtype, f)?)
}

fn fold<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, f: impl Fn(&Element, &Element) -> Option<Element>) -> Option<Known> {
    let first = ctx.known(node, 0)?;
    (1..node.inputs().len()).try_fold(first, |total, i| binary(&total, &ctx.known(node, i)?, &f))
}

fn truth(value: bool) -> Option<Element> {
    Some(Dim::from(i64::from(value)).into())
}

/// The product of positive denominators, if it is small enough to stay exact.
fn denominator(a: i64, b: i64) -> Option<i64> {
    a.checked_mul(b).filter(|&d| d < 1 << 30)
}

/// A result that did not saturate.
fn unsaturated(dim: Dim) -> Option<Dim> {
    (!matches!(dim.as_const(), Some(i64::MIN | i64::MAX))).then_some(dim)
}

fn add(a: &Element, b: &Element) -> Option<Element> {
    let whole = denominator(a.denominator, b.denominator)?;
    let sum = a.numerator.clone() * Dim::Const(b.denominator) + b.numerator.clone() * Dim::Const(a.denominator);
    Some(Element::ratio(unsaturated(sum)?, whole))
}

fn sub(a: &Element, b: &Element) -> Option<Element> {
    add(a, &Element { numerator: unsaturated(-b.numerator.clone())?, denominator: b.denominator })
}

fn mul(a: &Element, b: &Element) -> Option<Element> {
    let whole = denominator(a.denominator, b.denominator)?;
    Some(Element::ratio(unsaturated(a.numerator.clone() * b.numerator.clone())?, whole))
}

/// Integer division, which truncates.
fn div(a: &Element, b: &Element) -> Option<Element> {
    let (a, b) = (a.dim()?, b.dim()?);
    if let (Some(a), Some(b)) = (a.as_const(), b.as_const()) {
        return Some(Dim::Const(a.checked_div(b)?).into());
    }
    // A symbolic divisor may be 0 only where the model itself would divide by it.
    if a.range().low >= 0 && b.range().low >= 0 && !b.is(0) {
        return Some(a.floor_div(b).into());
    }
    // Division cuts towards 0.
    let positive = |a: Dim| a.maximum(&Dim::ZERO).floor_div(b);
    (b.as_const()? > 0).then(|| (positive(a.clone()) - positive(-a.clone())).into())
}

/// Division of floats, by a known number or one that divides without remainder.
fn quotient(a: &Element, b: &Element) -> Option<Element> {
    match b.numerator.as_const() {
        Some(0) => None,
        Some(n) if n > 0 => mul(a, &Element { numerator: Dim::Const(b.denominator), denominator: n }),
        Some(n) => mul(a, &Element { numerator: Dim::Const(-b.denominator), denominator: n.checked_neg()? }),
        None => {
            let numerator = a.numerator.clone() * Dim::Const(b.denominator);
            Some(Element::ratio(numerator.exact_div(&b.numerator)?, a.denominator))
        }
    }
}

/// Remainder with the sign of the divisor.
fn modulo(a: &Element, b: &Element) -> Option<Element> {
    let (a, b) = (a.dim()?, b.dim()?);
    if let (Some(a), Some(b)) = (a.as_const(), b.as_const()) {
        let rest = a.checked_rem(b)?;
        return Some(Dim::Const(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }).into());
    }
    (b.range().low > 0).then(|| a.modulo(b).into())
}

fn extreme(a: &Element, b: &Element, smaller: bool) -> Option<Element> {
    let whole = denominator(a.denominator, b.denominator)?;
    let (x, y) = (a.numerator.clone() * Dim::Const(b.denominator), b.numerator.clone() * Dim::Const(a.denominator));
    Some(Element::ratio(if smaller { x.minimum(&y) } else { x.maximum(&y) }, whole))
}

/// A comparison decided by the difference of the operands, brought to one denominator.
fn compare(a: &Known, b: &Known, decide: impl Fn(&Dim) -> Option<bool>) -> Option<Known> {
    elementwise(a, b, DType::Bool, |a, b| {
        denominator(a.denominator, b.denominator)?;
        let (x, y) = (a.numerator.clone() * Dim::Const(b.denominator), b.numerator.clone() * Dim::Const(a.denominator));
        if let (Some(x), Some(y)) = (x.as_const(), y.as_const()) {
            return truth(decide(&Dim::Const(x.cmp(&y) as i64))?);
        }
        truth(decide(&(x - y))?)
    })
}

/// What certainly holds of a difference, given by whether its interval makes it certainly true or certainly false.
fn sign(difference: &Dim, verdict: impl Fn(i64, i64) -> (bool, bool)) -> Option<bool> {
    let range = difference.range();
    match verdict(range.low, range.high) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn choose(condition: &Known, a: &Known, b: &Known) -> Option<Known> {
    let shape = common_shape(&common_shape(&condition.shape, &a.shape)?, &b.shape)?;
    let count = element_count(&shape).filter(|&count| count <= 1024)?;
    let at = |i: usize| {
        let index = unravel(i, &shape);
        let pick = |known: &Known| known.elements.get(ravel(&index, &known.shape)?).cloned();
        let (yes, no) = (pick(a)?, pick(b)?);
        // Where both are the same the condition does not matter.
        if yes == no || pick(condition)?.as_const()? != 0 { Some(yes) } else { Some(no) }
    };
    let elements: Option<Vec<Element>> = (0..count).map(at).collect();
    Known::new(a.dtype, shape.clone(), elements?).filter(|_| a.dtype == b.dtype)
}

fn reduce<'a>(
    ctx: &Ctx<'a, '_>,
    node: &Node<'a>,
    x: &Known,
    identity: i64,
    f: impl Fn(&Element, &Element) -> Option<Element>,
) -> Option<Known> {
    let rank = x.shape.len();
    let given = axes(ctx, node, 1)?.unwrap_or_default();
    let mut axes: Vec<usize> = given.iter().map(|&axis| axis_of(axis, rank).ok()).collect::<Option<_>>()?;
    if axes.is_empty() {
        if node.attr_int_or("noop_with_empty_axes", 0).ok()? != 0 {
            return Some(x.clone());
        }
        axes = (0..rank).collect();
    }
    if x.elements.is_empty() && !matches!(identity, 0 | 1) {
        return None;
    }
    let kept: Vec<usize> = (0..rank).map(|i| if axes.contains(&i) { 1 } else { x.shape[i] }).collect();
    let mut totals: Vec<Option<Element>> = vec![None; kept.iter().product()];
    for (i, element) in x.elements.iter().enumerate() {
        let total = totals.get_mut(ravel(&unravel(i, &x.shape), &kept)?)?;
        *total = Some(match total.take() {
            Some(total) => f(&total, element)?,
            None => element.clone(),
        });
    }
    let elements = totals.into_iter().map(|total| total.unwrap_or_else(|| Dim::Const(identity).into())).collect();
    let keep = node.attr_int_or("keepdims", 1).ok()? != 0;
    let shape = if keep { kept } else { (0..rank).filter(|i| !axes.contains(i)).map(|i| x.shape[i]).collect() };
    fitted(Known::new(x.dtype, shape, elements)?)
}

fn range(start: &Known, limit: &Known, step: &Known) -> Option<Known> {
    let dtype = start.dtype;
    let (start, limit, step) = (start.only()?, limit.only()?, step.only()?.as_const()?);
    let distance = (limit.clone() - start.clone()).as_const()?;
    let count = match step {
        0 => return None,
        1.. => distance.max(0).checked_add(step - 1)? / step,
        _ => distance.checked_neg()?.max(0).checked_add(step.checked_neg()? - 1)? / step.checked_neg()?,
    };
    let count = usize::try_from(count).ok().filter(|&count| count <= 1024)?;
    let elements = (0..count).map(|i| (start.clone() + Dim::Const(step) * Dim::from(i)).into()).collect();
    fitted(Known::new(dtype, vec![count], elements)?)
}

fn constant_of_shape(node: &Node<'_>, shape: &Known) -> Option<Known> {
    let shape: Vec<usize> = shape.ints()?.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let count = element_count(&shape).filter(|&count| count <= 1024)?;
    let (dtype, element) = match node.attr_tensor_opt("value").ok()? {
        Some(value) => {
            let known = Known::of_tensor(&value)?;
            (known.dtype, known.elements.first()?.clone())
        }
        None => (DType::F32, Dim::ZERO.into()),
    };
    Known::new(dtype, shape, vec![element; count])
}
