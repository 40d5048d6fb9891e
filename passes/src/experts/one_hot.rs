//! Factors that are zero but where an index has one value: `[ids = e]`, written as a comparison with a count, as weights
//! scattered into zeros, or as a sum of such comparisons.

use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, GraphError, Op, Origin, ReduceFn, ScatterFn, Value};
use tarsia_tensor::Dim;

use crate::{
    emit::Emitter,
    known::{is_count, splat},
};

/// `Σ over the fresh axes of weights · [ids = e]`, where e counts along one axis.
pub struct OneHot {
    /// Indices with axes `rows`, then the fresh ones.
    pub ids: Value,
    /// Weights of the same axes; 1 if there are none.
    pub weights: Option<Value>,
    /// The axes of the factor that the rows are.
    pub rows: Vec<usize>,
    /// How many fresh axes there are, 0 or 1.
    pub fresh: usize,
}

/// A factor of a product, as it reads when the product is made.
#[derive(Clone, Copy, Debug)]
pub enum Factor {
    /// Multiplies.
    Times(Value),
    /// A condition: the product where it holds, else 0.
    Where(Value),
}

impl Factor {
    /// The value.
    pub fn value(self) -> Value {
        match self {
            Factor::Times(value) | Factor::Where(value) => value,
        }
    }
}

/// The factors of a value: products taken apart, `c ? x : 0` too.
pub fn factors(emitter: &Emitter, value: Value) -> Vec<Factor> {
    let mut found = Vec::new();
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        let (op, under) = emitter.producer(value);
        match op {
            Op::Binary(BinaryFn::Mul) => stack.extend(under.iter().rev()),
            Op::Select {} if splat(&emitter.graph, under[2]) == Some(0.0) => {
                found.push(Factor::Where(under[0]));
                stack.push(under[1]);
            }
            _ => found.push(Factor::Times(value)),
        }
    }
    found
}

/// Follows movement that keeps every axis whole: the value underneath and the axis of it that each axis is.
fn trace(emitter: &Emitter, value: Value) -> (Value, Vec<Option<usize>>) {
    let rank = emitter.ty(value).rank();
    let mut axes: Vec<Option<usize>> =
        (0..rank).map(|axis| (!emitter.ty(value).shape[axis].is(1)).then_some(axis)).collect();
    let mut at = value;
    loop {
        let (op, under) = emitter.producer(at);
        let Some(&below) = under.first() else { return (at, axes) };
        let (to, from) = (emitter.ty(at).shape.clone(), emitter.ty(below).shape.clone());
        let next: Option<Vec<Option<usize>>> = match op {
            Op::Transpose { perm } => Some(axes.iter().map(|a| a.map(|axis| perm[axis])).collect()),
            Op::Reshape { .. } => {
                let moved = axes
                    .iter()
                    .map(|a| a.map_or(Some(None), |axis| super::rebase::same_axis(&to, &from, axis).map(Some)));
                moved.collect()
            }
            Op::Broadcast { .. } => {
                let shift = to.len() - from.len();
                Some(
                    axes.iter()
                        .map(|a| a.and_then(|axis| axis.checked_sub(shift)).filter(|&axis| !from[axis].is(1)))
                        .collect(),
                )
            }
            Op::Cast { .. } => Some(axes.clone()),
            _ => None,
        };
        match next {
            Some(next) => (at, axes) = (below, next),
            None => return (at, axes),
        }
    }
}

/// What a factor of a product of `rank` axes is along axis `e`, if it is zero but where an index is the place on that axis.
///
/// # Errors
/// Never for a verified graph.
pub fn one_hot(
    emitter: &mut Emitter,
    factor: Factor,
    rank: usize,
    e: usize,
    origin: &Origin,
) -> Result<Option<OneHot>, GraphError> {
    let value = factor.value();
    let lead = rank - emitter.ty(value).rank();
    let (under, axes) = trace(emitter, value);
    // Axes of the product, by axis of what lies under the factor.
    let place = |inner: usize| axes.iter().position(|a| *a == Some(inner)).map(|axis| axis + lead);
    let Some(inner) = e.checked_sub(lead).and_then(|axis| axes.get(axis).copied().flatten()) else { return Ok(None) };
    let (op, operands) = emitter.producer(under);
    let (op, operands) = (if matches!(op, Op::Constant { .. }) { return Ok(None) } else { op.clone() }, operands);
    let found = match op {
        Op::Binary(BinaryFn::Eq) => compared(emitter, &operands, inner, origin)?,
        Op::ScatterAlong { function, axis } if axis == inner => scattered(emitter, function, axis, &operands, origin)?,
        Op::Reduce { function: ReduceFn::Sum, axes } => summed(emitter, operands[0], &axes, inner, origin)?,
        _ => None,
    };
    let Some(mut found) = found else { return Ok(None) };
    let rows: Option<Vec<usize>> = found.rows.iter().map(|&row| place(row)).collect();
    let Some(rows) = rows else { return Ok(None) };
    found.rows = rows;
    Ok(Some(found))
}

/// A value of which only some axes are not 1, as one with these axes alone.
fn only_axes(
    emitter: &mut Emitter,
    value: Value,
    rank: usize,
    keep: &[usize],
    origin: &Origin,
) -> Result<Value, GraphError> {
    let shape = emitter.ty(value).shape.clone();
    let lead = rank - shape.len();
    let sizes = keep.iter().map(|&axis| axis.checked_sub(lead).map_or(Dim::ONE, |axis| shape[axis].clone())).collect();
    emitter.emit(Op::Reshape { shape: sizes }, &[value], origin)
}

/// `ids = 0, 1, 2 …`: rows are all axes of the indices.
fn compared(
    emitter: &mut Emitter,
    operands: &[Value],
    e: usize,
    origin: &Origin,
) -> Result<Option<OneHot>, GraphError> {
    let rank = operands.iter().map(|&v| emitter.ty(v).rank()).max().unwrap_or(0);
    for (ids, count) in [(operands[0], operands[1]), (operands[1], operands[0])] {
        let size = |v: Value, axis: usize| {
            let shape = &emitter.ty(v).shape;
            (axis + shape.len()).checked_sub(rank).map_or(Dim::ONE, |i| shape[i].clone())
        };
        let counts = is_count(&emitter.graph, count) && !size(count, e).is(1) && size(ids, e).is(1);
        if !counts {
            continue;
        }
        let rows: Vec<usize> = (0..rank).filter(|&axis| axis != e && !size(ids, axis).is(1)).collect();
        let ids = only_axes(emitter, ids, rank, &rows, origin)?;
        return Ok(Some(OneHot { ids, weights: None, rows, fresh: 0 }));
    }
    Ok(None)
}

/// Weights scattered into zeros along `axis`; what is set must go to different places.
fn scattered(
    emitter: &mut Emitter,
    function: ScatterFn,
    axis: usize,
    operands: &[Value],
    origin: &Origin,
) -> Result<Option<OneHot>, GraphError> {
    let (indices, updates) = (operands[1], operands[2]);
    let legal = match function {
        ScatterFn::Add => true,
        ScatterFn::Set => are_distinct(emitter, indices, axis),
        _ => false,
    };
    let (into, from) = (emitter.ty(operands[0]).shape.clone(), emitter.ty(indices).shape.clone());
    let rows: Vec<usize> = (0..into.len()).filter(|&a| a != axis).collect();
    let whole = rows.iter().all(|&a| into[a] == from[a]) && emitter.ty(updates).shape == from;
    if !legal || !whole || splat(&emitter.graph, operands[0]) != Some(0.0) {
        return Ok(None);
    }
    let perm: Vec<usize> = rows.iter().copied().chain([axis]).collect();
    let ids = emitter.emit(Op::Transpose { perm: perm.clone() }, &[indices], origin)?;
    let weights = emitter.emit(Op::Transpose { perm }, &[updates], origin)?;
    Ok(Some(OneHot { ids, weights: Some(weights), rows, fresh: 1 }))
}

/// Whether indices along an axis are all different: those of a selection or a sort along it.
fn are_distinct(emitter: &Emitter, indices: Value, axis: usize) -> bool {
    match emitter.producer(indices).0 {
        Op::TopK { axis: along, .. } | Op::Sort { axis: along, .. } => indices.output == 1 && *along == axis,
        _ => false,
    }
}

/// `Σ over one axis of weights · [ids = e]`.
fn summed(
    emitter: &mut Emitter,
    inner: Value,
    axes: &[usize],
    e: usize,
    origin: &Origin,
) -> Result<Option<OneHot>, GraphError> {
    let ([k], rank) = (axes, emitter.ty(inner).rank()) else { return Ok(None) };
    let all = factors(emitter, inner);
    for (i, &factor) in all.iter().enumerate() {
        let Some(hot) = one_hot(emitter, factor, rank, e, origin)? else { continue };
        let others: SmallVec<[Value; 2]> =
            all.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, f)| f.value()).collect();
        let plain = all.iter().enumerate().all(|(j, f)| j == i || matches!(f, Factor::Times(_)));
        if hot.fresh > 0 || !plain || !hot.rows.contains(k) {
            return Ok(None);
        }
        let order: Vec<usize> = hot.rows.iter().copied().filter(|row| row != k).chain([*k]).collect();
        let perm = order.iter().map(|axis| hot.rows.iter().position(|row| row == axis).unwrap_or(0)).collect();
        let ids = emitter.emit(Op::Transpose { perm }, &[hot.ids], origin)?;
        let mut weights = None;
        for other in others {
            let shape = emitter.ty(other).shape.clone();
            let lead = rank - shape.len();
            let varies = (0..shape.len()).any(|axis| !shape[axis].is(1) && !order.contains(&(axis + lead)));
            if varies {
                return Ok(None);
            }
            let mut sorted = order.clone();
            sorted.sort_unstable();
            let other = only_axes(emitter, other, rank, &sorted, origin)?;
            let perm = order.iter().map(|axis| sorted.iter().position(|s| s == axis).unwrap_or(0)).collect();
            let other = emitter.emit(Op::Transpose { perm }, &[other], origin)?;
            weights = Some(match weights {
                None => other,
                Some(weights) => emitter.emit(Op::Binary(BinaryFn::Mul), &[weights, other], origin)?,
            });
        }
        let rows = order[..order.len() - 1].to_vec();
        return Ok(Some(OneHot { ids, weights, rows, fresh: 1 }));
    }
    Ok(None)
}
