//! Sliding windows as sums and extremes of shifted slices: their derivative is that of this expansion.

use tarsia_tensor::{Dim, MiniFloat};

use super::Stop;
use crate::{BinaryFn, Contraction, Graph, Op, Origin, ReduceFn, Value, composite::Builder};

/// Windows of more elements are not expanded.
const MOST_ELEMENTS: usize = 1024;

/// The expansion of a convolution or window reduction; `None` for other ops.
pub(super) fn expanded(graph: &mut Graph, op: &Op, operands: &[Value], origin: &Origin) -> Result<Option<Value>, Stop> {
    let mut b = Builder { graph, origin };
    match op {
        Op::Conv { .. } => conv(&mut b, op, operands).map(Some),
        Op::WindowReduce { .. } => window_reduce(&mut b, op, operands[0]).map(Some),
        _ => Ok(None),
    }
}

/// The places in a window, in row-major order.
fn places(window: &[usize]) -> Result<Vec<Vec<usize>>, Stop> {
    let count = tarsia_tensor::element_count(window).filter(|&count| count <= MOST_ELEMENTS && count > 0);
    let count = count.ok_or(Stop::Missing("a window of so many elements"))?;
    let place = |mut at: usize| {
        let mut place = vec![0; window.len()];
        for (index, &size) in place.iter_mut().zip(window).rev() {
            *index = at % size;
            at /= size;
        }
        place
    };
    Ok((0..count).map(place).collect())
}

/// The elements at `place` of all windows: of padded `x`, `counts` elements by `strides` from `place·dilations`.
fn shifted(
    b: &mut Builder,
    x: Value,
    place: &[usize],
    counts: &[Dim],
    strides: &[usize],
    dilations: &[usize],
) -> Result<Value, Stop> {
    let starts = place.iter().zip(dilations).map(|(&at, &distance)| Dim::from(at * distance)).collect();
    let steps = strides.iter().map(|&step| step as i64).collect();
    Ok(b.add(Op::Slice { starts, sizes: counts.to_vec(), steps }, &[x])?)
}

fn padded(b: &mut Builder, x: Value, fill: f64, low: &[usize], high: &[usize]) -> Result<Value, Stop> {
    let fill = b.scalar(b.graph.ty(x).dtype, fill);
    let dims = |sizes: &[usize]| sizes.iter().map(|&size| Dim::from(size)).collect();
    let op = Op::Pad { low: dims(low), high: dims(high), interior: vec![0; low.len()] };
    Ok(b.add(op, &[x, fill])?)
}

/// Σ over the window of a contraction over the channels.
fn conv(b: &mut Builder, op: &Op, operands: &[Value]) -> Result<Value, Stop> {
    let Op::Conv { strides, low, high, dilations, groups, dtype } = op else {
        return Err(Stop::Missing("it is no convolution"));
    };
    let (x, w) = (operands[0], operands[1]);
    let result = crate::infer(op, &[b.graph.ty(x), b.graph.ty(w)]).map_err(crate::GraphError::Type)?;
    let counts = result[0].shape.clone();
    let weights = b.graph.ty(w).shape.clone();
    let window: Vec<usize> = weights[2..].iter().filter_map(Dim::as_usize).collect();
    let spatial = window.len();
    let with_channels = |list: &[usize], own: usize| [&[own, own], list].concat();
    let x = padded(b, x, 0.0, &with_channels(low, 0), &with_channels(high, 0))?;
    let channels = b.graph.ty(x).shape[1].clone();
    let (depth, out) = (weights[1].clone(), weights[0].floor_div(&Dim::from(*groups)));
    let grouped = [Dim::from(*groups), out, depth.clone()];
    let letters: Vec<u8> = (0..spatial as u8).map(|axis| b'p' + axis).collect();
    let term = |head: &[u8], spatial: bool| [head, if spatial { &letters } else { &[] }].concat();
    let spec = Contraction { lhs: term(b"ngc", true), rhs: term(b"goc", false), out: term(b"ngo", true) };
    let mut sum = None;
    for place in places(&window)? {
        let mut sizes = counts.clone();
        sizes[1] = channels.clone();
        let slice =
            shifted(b, x, &with_channels(&place, 0), &sizes, &with_channels(strides, 1), &with_channels(dilations, 1))?;
        let mut split = vec![counts[0].clone(), Dim::from(*groups), depth.clone()];
        split.extend_from_slice(&counts[2..]);
        let slice = b.reshape(slice, &split)?;
        let mut starts = vec![Dim::ZERO; 2];
        starts.extend(place.iter().map(|&at| Dim::from(at)));
        let mut sizes = weights[..2].to_vec();
        sizes.resize(weights.len(), Dim::ONE);
        let steps = vec![1; weights.len()];
        let weight = b.add(Op::Slice { starts, sizes, steps }, &[w])?;
        let weight = b.reshape(weight, &grouped)?;
        let product = b.add(Op::Contract { spec: spec.clone(), dtype: *dtype }, &[slice, weight])?;
        sum = Some(match sum {
            None => product,
            Some(sum) => b.binary(BinaryFn::Add, sum, product)?,
        });
    }
    let sum = sum.ok_or(Stop::Missing("an empty window"))?;
    Ok(b.reshape(sum, &counts)?)
}

/// The slices brought together one after the other; a mean divides by how many elements of each window are not padding.
fn window_reduce(b: &mut Builder, op: &Op, x: Value) -> Result<Value, Stop> {
    let Op::WindowReduce { function, window, strides, low, high, dilations } = op else {
        return Err(Stop::Missing("it is no window reduction"));
    };
    let dtype = b.graph.ty(x).dtype;
    let largest = MiniFloat::of(dtype).map_or(f64::INFINITY, |format| format.max());
    let (fill, combine) = match function {
        ReduceFn::Sum | ReduceFn::Mean => (0.0, BinaryFn::Add),
        ReduceFn::Prod => (1.0, BinaryFn::Mul),
        ReduceFn::Min => (largest, BinaryFn::Min),
        ReduceFn::Max => (-largest, BinaryFn::Max),
    };
    let result = crate::infer(op, &[b.graph.ty(x)]).map_err(crate::GraphError::Type)?;
    let counts = result[0].shape.clone();
    let combined = |b: &mut Builder, x: Value| -> Result<Value, Stop> {
        let x = padded(b, x, fill, low, high)?;
        let mut total = None;
        for place in places(window)? {
            let slice = shifted(b, x, &place, &counts, strides, dilations)?;
            total = Some(match total {
                None => slice,
                Some(total) => b.binary(combine, total, slice)?,
            });
        }
        total.ok_or(Stop::Missing("an empty window"))
    };
    let total = combined(b, x)?;
    if *function != ReduceFn::Mean {
        return Ok(total);
    }
    let origin = b.origin.clone();
    let ones = super::filled(b.graph, x, 1.0, &origin)?;
    let count = combined(b, ones)?;
    Ok(b.binary(BinaryFn::Div, total, count)?)
}
