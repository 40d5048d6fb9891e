//! Work on rows in sorted order, added back to where they came from, needs no sorting.
//!
//! With a permutation p: Σ over i of f(x[p[i]]) added to row r(p[i]) is Σ over j of f(x[j]) added to row r(j).

use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, GraphError, Op, Origin, ReduceFn, ScatterFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    one,
    rebase::{Map, Places, rebase},
};
use crate::{
    emit::Emitter,
    known::{is_count, splat},
};

pub(super) fn unsort(
    emitter: &mut Emitter,
    op: &Op,
    x: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    let Op::ScatterRows { function: ScatterFn::Add } = op else { return Ok(None) };
    let Some(permutation) = permutation_under(emitter, x[1], 12) else { return Ok(None) };
    let size = emitter.ty(x[1]).shape[0].clone();
    let mut map = Unsorted { permutation, size, origin };
    let rows = Places::from_slice(&[Some(0)]);
    let Some(indices) = rebase(emitter, &mut map, x[1], &rows, origin)? else { return Ok(None) };
    let Some(updates) = rebase(emitter, &mut map, x[2], &rows, origin)? else { return Ok(None) };
    let updates = emitter.emit(Op::Broadcast { shape: emitter.ty(x[2]).shape.clone() }, &[updates], origin)?;
    Ok(Some(one(emitter.emit(op.clone(), &[x[0], indices, updates], origin)?)))
}

/// The indices of a sort of one axis that a value is computed from.
fn permutation_under(emitter: &Emitter, value: Value, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let (op, under) = emitter.producer(value);
    let sorted = || emitter.ty(under[0]).rank() == 1 && value.output == 1;
    match op {
        Op::Sort { .. } if sorted() => Some(value),
        Op::TopK { k, .. } if sorted() && *k == emitter.ty(under[0]).shape[0] => Some(value),
        Op::Unary(_) | Op::Binary(_) | Op::Cast { .. } | Op::Reshape { .. } | Op::Select {} => {
            under.iter().find_map(|&operand| permutation_under(emitter, operand, depth))
        }
        _ => None,
    }
}

/// Place j instead of p[i].
struct Unsorted<'a> {
    permutation: Value,
    size: Dim,
    origin: &'a Origin,
}

impl Map for Unsorted<'_> {
    fn sizes(&self) -> Vec<Dim> {
        vec![self.size.clone()]
    }

    fn leaf(&mut self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Option<Value>, GraphError> {
        if value == self.permutation {
            let shape = vec![self.size.clone()];
            return emitter.emit(Op::Iota { dtype: DType::I64, shape, axis: 0 }, &[], self.origin).map(Some);
        }
        let (op, under) = emitter.producer(value);
        let whole_rows = matches!(op, Op::Gather { axis: 0 }) && under[1] == self.permutation;
        if places.as_slice() == [Some(0)] && whole_rows && emitter.ty(under[0]).shape[0] == self.size {
            return Ok(Some(under[0]));
        }
        Ok(None)
    }

    fn fallback(&mut self, _: &mut Emitter, _: Value, _: &Places) -> Result<Option<Value>, GraphError> {
        Ok(None)
    }

    fn choice(&self) -> Option<Value> {
        None
    }
}

/// Rows added to row j / n are sums of n neighbours; rows read at j / n are repeated n times.
pub(super) fn segments(
    emitter: &mut Emitter,
    op: &Op,
    x: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    match op {
        Op::ScatterRows { function: ScatterFn::Add } => {
            let (base, updates) = (emitter.ty(x[0]).shape.clone(), emitter.ty(x[2]).shape.clone());
            let Some(n) = quotient(emitter, x[1], &base[0]) else { return Ok(None) };
            let mut split = vec![base[0].clone(), n];
            split.extend_from_slice(&updates[1..]);
            let rows = emitter.emit(Op::Reshape { shape: split }, &[x[2]], origin)?;
            let sum = emitter.emit(Op::Reduce { function: ReduceFn::Sum, axes: vec![1] }, &[rows], origin)?;
            let sum = emitter.emit(Op::Reshape { shape: base }, &[sum], origin)?;
            Ok(Some(one(emitter.emit(Op::Binary(BinaryFn::Add), &[x[0], sum], origin)?)))
        }
        Op::Gather { axis: 0 } => {
            let from = emitter.ty(x[0]).shape.clone();
            let Some(n) = quotient(emitter, x[1], &from[0]) else { return Ok(None) };
            let mut wide = vec![from[0].clone(), Dim::ONE];
            wide.extend_from_slice(&from[1..]);
            let rows = emitter.emit(Op::Reshape { shape: wide.clone() }, &[x[0]], origin)?;
            wide[1] = n.clone();
            let rows = emitter.emit(Op::Broadcast { shape: wide }, &[rows], origin)?;
            let mut shape = from;
            shape[0] = shape[0].clone() * n;
            Ok(Some(one(emitter.emit(Op::Reshape { shape }, &[rows], origin)?)))
        }
        _ => Ok(None),
    }
}

/// n, if the indices are 0, 1, 2 … each n times, up to `rows`.
fn quotient(emitter: &Emitter, indices: Value, rows: &Dim) -> Option<Dim> {
    let (op, under) = emitter.producer(indices);
    let Op::Binary(BinaryFn::Div) = op else { return None };
    let n = Dim::Const(splat(&emitter.graph, under[1])? as i64);
    let shape = &emitter.ty(indices).shape;
    let counts = is_count(&emitter.graph, under[0]) && emitter.ty(under[0]).shape == *shape;
    (counts && shape.len() == 1 && shape[0] == rows.clone() * n.clone()).then_some(n)
}
