//! Rows that are picked where a mask is not zero, worked on and added back are all rows, masked.
//!
//! `acc[t] += f(x[t], w[t, k])` for all (t, k) with `mask[t, k]` is `acc + Σₖ mask ? f(x, w) : 0`: the sizes do not depend
//! on data any more.

use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, GraphError, Op, Origin, ReduceFn, ScatterFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    NON_ZERO, one,
    rebase::{Map, Places, rebase},
};
use crate::{emit::Emitter, known::splat};

/// Rows scattered along axis 0 with one index for the whole row.
pub(super) fn scatter_rows(
    emitter: &mut Emitter,
    op: &Op,
    x: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    let Op::ScatterAlong { function: ScatterFn::Add, axis: 0 } = op else { return Ok(None) };
    let (producer, under) = emitter.producer(x[1]);
    let Op::Broadcast { shape } = producer else { return Ok(None) };
    let (shape, inner) = (shape.clone(), emitter.ty(under[0]).shape.clone());
    let whole = inner.len() == shape.len() && inner[0] == shape[0] && inner[1..].iter().all(|dim| dim.is(1));
    if !whole || emitter.ty(x[2]).shape != shape || emitter.ty(x[0]).shape[1..] != shape[1..] {
        return Ok(None);
    }
    let rows = emitter.emit(Op::Reshape { shape: vec![shape[0].clone()] }, &[under[0]], origin)?;
    Ok(Some(one(emitter.emit(Op::ScatterRows { function: ScatterFn::Add }, &[x[0], rows, x[2]], origin)?)))
}

pub(super) fn mask(
    emitter: &mut Emitter,
    op: &Op,
    x: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    let Op::ScatterRows { function: ScatterFn::Add } = op else { return Ok(None) };
    let Some((list, 0)) = coordinate(emitter, x[1]) else { return Ok(None) };
    let source = emitter.graph.operands(list.node)[0];
    let mask_shape = emitter.ty(source).shape.clone();
    let accumulator = emitter.ty(x[0]).shape.clone();
    if mask_shape.is_empty() || mask_shape.len() > 2 || accumulator.first() != mask_shape.first() {
        return Ok(None);
    }
    let mut map = Dense { list, sizes: mask_shape.clone(), origin };
    let Some(updates) = rebase(emitter, &mut map, x[2], &Places::from_slice(&[Some(0)]), origin)? else {
        return Ok(None);
    };
    let zero = emitter.repeated(emitter.ty(x[0]).dtype, 0.0, &[], origin)?;
    let mut wide = mask_shape.clone();
    wide.resize(mask_shape.len() + accumulator.len() - 1, Dim::ONE);
    let mask = as_bool(emitter, source, origin)?;
    let mask = emitter.emit(Op::Reshape { shape: wide }, &[mask], origin)?;
    let mut sum = emitter.emit(Op::Select {}, &[mask, updates, zero], origin)?;
    if mask_shape.len() == 2 {
        sum = emitter.emit(Op::Reduce { function: ReduceFn::Sum, axes: vec![1] }, &[sum], origin)?;
    }
    let sum = emitter.emit(Op::Reshape { shape: accumulator }, &[sum], origin)?;
    Ok(Some(one(emitter.emit(Op::Binary(BinaryFn::Add), &[x[0], sum], origin)?)))
}

fn as_bool(emitter: &mut Emitter, x: Value, origin: &Origin) -> Result<Value, GraphError> {
    let dtype = emitter.ty(x).dtype;
    if dtype == DType::Bool {
        return Ok(x);
    }
    let zero = emitter.repeated(dtype, 0.0, &[], origin)?;
    emitter.emit(Op::Binary(BinaryFn::Ne), &[x, zero], origin)
}

/// Which list of places and which of its rows a vector of indices is: movement under which one row is sliced.
fn coordinate(emitter: &Emitter, value: Value) -> Option<(Value, usize)> {
    const DEPTH: usize = 16;
    let (mut at, mut row) = (value, None);
    for _ in 0..DEPTH {
        let (op, under) = emitter.producer(at);
        match op {
            Op::Host { function, .. } if function == NON_ZERO => {
                let rank = emitter.ty(at).shape.first()?.as_usize()?;
                return Some((at, if rank == 1 { 0 } else { row? })).filter(|(_, row)| *row < rank);
            }
            Op::Reshape { .. } | Op::Transpose { .. } => {}
            Op::Slice { starts, sizes, steps } => {
                let from = &emitter.ty(under[0]).shape;
                let cut: Vec<usize> = (0..from.len()).filter(|&axis| sizes[axis] != from[axis]).collect();
                let [axis] = cut.as_slice() else { return None };
                if !sizes[*axis].is(1) || steps.iter().any(|&step| step != 1) || row.is_some() {
                    return None;
                }
                row = starts[*axis].as_usize();
            }
            _ => return None,
        }
        at = *under.first()?;
    }
    None
}

/// The place (t, k) instead of the number of the place in the list.
struct Dense<'a> {
    list: Value,
    sizes: Vec<Dim>,
    origin: &'a Origin,
}

impl Dense<'_> {
    /// Factors (one for each coordinate) of which a vector of indices is the sum.
    fn strides(&self, emitter: &Emitter, value: Value, depth: usize) -> Option<Vec<Dim>> {
        let depth = depth.checked_sub(1)?;
        if let Some((list, row)) = coordinate(emitter, value) {
            let mut strides = vec![Dim::ZERO; self.sizes.len()];
            *strides.get_mut(row)? = Dim::ONE;
            return (list == self.list).then_some(strides);
        }
        let (op, under) = emitter.producer(value);
        match op {
            Op::Reshape { .. } | Op::Cast { .. } => self.strides(emitter, under[0], depth),
            Op::Binary(BinaryFn::Add) => {
                let (a, b) = (self.strides(emitter, under[0], depth)?, self.strides(emitter, under[1], depth)?);
                Some(a.into_iter().zip(b).map(|(a, b)| a + b).collect())
            }
            Op::Binary(BinaryFn::Mul) => {
                let (vector, factor) = (under[0], under[1]);
                let factor = number(emitter, factor)?;
                Some(self.strides(emitter, vector, depth)?.into_iter().map(|s| s * factor.clone()).collect())
            }
            // Σ over the columns of a table of indices, each times its stride.
            Op::Reduce { function: ReduceFn::Sum, axes } if *axes == [1] => self.columns(emitter, under[0], depth),
            _ => None,
        }
    }

    fn columns(&self, emitter: &Emitter, table: Value, depth: usize) -> Option<Vec<Dim>> {
        let (op, under) = emitter.producer(table);
        let Op::Binary(BinaryFn::Mul) = op else { return None };
        let factors = emitter.graph.constant(under[1])?.numbers().ok()?.to_i64();
        let (op, parts) = emitter.producer(under[0]);
        let Op::Concat { axis: 1 } = op else { return None };
        let mut sum = vec![Dim::ZERO; self.sizes.len()];
        for (&part, factor) in parts.iter().zip(&factors) {
            let strides = self.strides(emitter, part, depth)?;
            sum = sum.into_iter().zip(strides).map(|(a, b)| a + b * Dim::Const(*factor)).collect();
        }
        (parts.len() == factors.len()).then_some(sum)
    }
}

/// A scalar integer: a constant, or a size.
fn number(emitter: &Emitter, value: Value) -> Option<Dim> {
    match emitter.producer(value).0 {
        Op::Size { dim } => Some(dim.clone()),
        Op::Reshape { .. } | Op::Broadcast { .. } => number(emitter, emitter.producer(value).1[0]),
        _ => splat(&emitter.graph, value).map(|x| Dim::Const(x as i64)),
    }
}

impl Map for Dense<'_> {
    fn sizes(&self) -> Vec<Dim> {
        self.sizes.clone()
    }

    fn leaf(&mut self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Option<Value>, GraphError> {
        let (op, under) = emitter.producer(value);
        if places.as_slice() != [Some(0)] || !matches!(op, Op::Gather { axis: 0 }) || emitter.ty(under[1]).rank() != 1 {
            return Ok(None);
        }
        let Some(strides) = self.strides(emitter, under[1], 8) else { return Ok(None) };
        let shape = emitter.ty(under[0]).shape.clone();
        // Rows t of x are x, the same for each k; rows t·K + k of w are w as (t, k).
        let mut target: Vec<Dim> = match (strides.as_slice(), self.sizes.as_slice()) {
            ([a], [t]) if a.is(1) && shape[0] == *t => vec![t.clone()],
            ([a, b], [t, _]) if a.is(1) && b.is(0) && shape[0] == *t => vec![t.clone(), Dim::ONE],
            ([a, b], [t, k]) if a == k && b.is(1) && shape[0] == t.clone() * k.clone() => vec![t.clone(), k.clone()],
            _ => return Ok(None),
        };
        target.extend_from_slice(&shape[1..]);
        let x = under[0];
        emitter.emit(Op::Reshape { shape: target }, &[x], self.origin).map(Some)
    }

    fn fallback(&mut self, _: &mut Emitter, _: Value, _: &Places) -> Result<Option<Value>, GraphError> {
        Ok(None)
    }

    fn choice(&self) -> Option<Value> {
        None
    }
}
