//! What is certain about integers that are computed: indices that count along an axis, and values that are never negative.
//!
//! Exporters write slices and masks as gathers at computed positions. Where the positions count evenly along the axes of the index
//! tensor, an importer can emit the slice itself.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Value};
use tarsia_tensor::{Class, Dim};

use super::{Ctx, Known, known::unravel};

/// How far back operands are followed.
const DEPTH: usize = 12;

/// An integer tensor whose element at an index `i` is `base + Σ steps[axis]·i[axis]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Affine {
    pub base: Dim,
    pub steps: Vec<Dim>,
}

impl Affine {
    fn constant(base: Dim, rank: usize) -> Affine {
        Affine { base, steps: vec![Dim::ZERO; rank] }
    }

    /// The same for all elements.
    pub fn is_uniform(&self) -> bool {
        self.steps.iter().all(|step| step.is(0))
    }

    /// The only axis along which the elements differ, with the step; `None` if there are several.
    pub fn single_axis(&self) -> Option<Option<(usize, i64)>> {
        let mut moving = self.steps.iter().enumerate().filter(|(_, step)| !step.is(0));
        match (moving.next(), moving.next()) {
            (None, _) => Some(None),
            (Some((axis, step)), None) => Some(Some((axis, step.as_const()?))),
            _ => None,
        }
    }

    /// Seen through a broadcast from `from` to `to`.
    fn broadcast(&self, from: &[Dim], to: &[Dim]) -> Option<Affine> {
        let extra = to.len().checked_sub(from.len())?;
        let mut steps = vec![Dim::ZERO; extra];
        for (axis, step) in self.steps.iter().enumerate() {
            steps.push(if from.get(axis)?.is(1) { Dim::ZERO } else { step.clone() });
        }
        Some(Affine { base: self.base.clone(), steps })
    }

    fn combined(&self, other: &Affine, f: impl Fn(&Dim, &Dim) -> Dim) -> Affine {
        let steps = self.steps.iter().zip(&other.steps).map(|(a, b)| f(a, b)).collect();
        Affine { base: f(&self.base, &other.base), steps }
    }

    fn scaled(&self, factor: &Dim) -> Affine {
        let steps = self.steps.iter().map(|step| step.clone() * factor.clone()).collect();
        Affine { base: self.base.clone() * factor.clone(), steps }
    }
}

impl Ctx<'_, '_> {
    /// How the elements of an integer value follow from their places, if that is known and even.
    pub fn affine(&self, value: Value) -> Option<Affine> {
        self.affine_within(value, DEPTH)
    }

    fn affine_within(&self, value: Value, depth: usize) -> Option<Affine> {
        if !matches!(self.dtype(value).class(), Class::Int | Class::Uint) {
            return None;
        }
        if let Some(known) = self.known_value(value) {
            return affine_known(&known);
        }
        let (depth, shape) = (depth.checked_sub(1)?, &self.ty(value).shape);
        let node = &self.graph[value.node];
        let operands = self.graph.operands(value.node);
        let operand = |index: usize| Some((*operands.get(index)?, &self.ty(*operands.get(index)?).shape));
        match &node.op {
            Op::Iota { axis, .. } => {
                let mut steps = vec![Dim::ZERO; shape.len()];
                if !shape.get(*axis)?.is(1) {
                    *steps.get_mut(*axis)? = Dim::ONE;
                }
                Some(Affine { base: Dim::ZERO, steps })
            }
            Op::Size { dim } => Some(Affine::constant(dim.clone(), 0)),
            Op::Cast { dtype, .. } if matches!(dtype.bits(), 32 | 64) => self.affine_within(operand(0)?.0, depth),
            Op::Broadcast { .. } => {
                let (x, from) = operand(0)?;
                self.affine_within(x, depth)?.broadcast(from, shape)
            }
            Op::Reshape { .. } => {
                let (x, from) = operand(0)?;
                reshaped(self.affine_within(x, depth)?, from, shape)
            }
            Op::Transpose { perm } => {
                let inner = self.affine_within(operand(0)?.0, depth)?;
                let steps = perm.iter().map(|&axis| inner.steps.get(axis).cloned()).collect::<Option<_>>()?;
                Some(Affine { base: inner.base, steps })
            }
            Op::Slice { starts, steps, sizes } => {
                let mut inner = self.affine_within(operand(0)?.0, depth)?;
                for (axis, step) in inner.steps.iter_mut().enumerate() {
                    inner.base = inner.base + step.clone() * starts.get(axis)?.clone();
                    let by = if sizes.get(axis)?.is(1) { 0 } else { *steps.get(axis)? };
                    *step = step.clone() * Dim::Const(by);
                }
                Some(inner)
            }
            Op::Binary(function @ (BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul)) => {
                let ((a, a_shape), (b, b_shape)) = (operand(0)?, operand(1)?);
                let a = self.affine_within(a, depth)?.broadcast(a_shape, shape)?;
                let b = self.affine_within(b, depth)?.broadcast(b_shape, shape)?;
                match function {
                    BinaryFn::Add => Some(a.combined(&b, |a, b| a.clone() + b.clone())),
                    BinaryFn::Sub => Some(a.combined(&b, |a, b| a.clone() - b.clone())),
                    _ if b.is_uniform() => Some(a.scaled(&b.base)),
                    _ if a.is_uniform() => Some(b.scaled(&a.base)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The elements of a vector that are known although others are not; fewer than there are where nothing is known of the rest.
    pub fn elements(&self, vector: Value) -> Vec<Option<Dim>> {
        self.elements_within(vector, DEPTH)
    }

    fn elements_within(&self, vector: Value, depth: usize) -> Vec<Option<Dim>> {
        let ty = self.ty(vector);
        let count = ty.count().as_usize().filter(|&count| count <= 64 && ty.rank() < 2);
        let (Some(count), Some(depth)) = (count, depth.checked_sub(1)) else { return Vec::new() };
        if let Some(dims) = self.known_value(vector).and_then(|known| known.dims()) {
            return dims.into_iter().map(Some).collect();
        }
        let operands = self.graph.operands(vector.node);
        let of = |&x: &Value| self.elements_within(x, depth);
        match (&self.graph[vector.node].op, operands.first()) {
            (Op::Cast { dtype, .. }, Some(x)) if dtype.bits() >= 32 && !dtype.is_float() => of(x),
            (Op::Reshape { .. }, Some(x)) => of(x),
            (Op::Concat { .. }, Some(_)) => {
                let parts: Vec<Vec<Option<Dim>>> = operands.iter().map(of).collect();
                let whole = operands.iter().zip(&parts).all(|(x, part)| self.ty(*x).count() == Dim::from(part.len()));
                if whole { parts.concat() } else { Vec::new() }
            }
            _ => vec![None; count],
        }
    }

    /// Whether no element of an integer value is negative.
    pub fn is_non_negative(&self, value: Value) -> bool {
        self.non_negative_within(value, DEPTH)
    }

    fn non_negative_within(&self, value: Value, depth: usize) -> bool {
        let dtype = self.dtype(value);
        if dtype.class() == Class::Uint {
            return true;
        }
        if let Some(tensor) = self.graph.constant(value)
            && let Ok(numbers) = tensor.numbers()
        {
            return numbers.to_f64().iter().all(|&x| x >= 0.0);
        }
        if let Some(affine) = self.affine(value)
            && affine.base.range().low >= 0
            && affine.steps.iter().all(|step| step.range().low >= 0)
        {
            return true;
        }
        let Some(depth) = depth.checked_sub(1) else { return false };
        let operands = self.graph.operands(value.node);
        let holds = |index: usize| operands.get(index).is_some_and(|&x| self.non_negative_within(x, depth));
        match &self.graph[value.node].op {
            Op::ArgReduce { .. } => true,
            Op::TopK { .. } | Op::Sort { .. } => value.output == 1 || holds(0),
            Op::Host { function, .. } if function == "nonzero" => true,
            Op::Host { function, .. } if function == "unique" && value.output > 0 => true,
            Op::Cast { .. } => {
                operands.first().is_some_and(|&x| self.dtype(x).class() != Class::Uint || dtype.bits() == 64)
                    && (dtype.bits() >= operands.first().map_or(0, |&x| self.dtype(x).bits()) || dtype.is_float())
                    && holds(0)
            }
            Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Broadcast { .. }
            | Op::Slice { .. }
            | Op::Gather { .. }
            | Op::TakeAlong { .. }
            | Op::Reduce { function: ReduceFn::Max | ReduceFn::Min, .. } => holds(0),
            Op::Concat { .. } => (0..operands.len()).all(holds),
            Op::Select {} => holds(1) && holds(2),
            Op::Binary(BinaryFn::Div | BinaryFn::Min) => holds(0) && holds(1),
            Op::Binary(BinaryFn::Mod) => holds(1),
            Op::Binary(BinaryFn::Rem) => holds(0),
            Op::Binary(BinaryFn::Max) => holds(0) || holds(1),
            _ => false,
        }
    }
}

/// The even steps of known elements.
fn affine_known(known: &Known) -> Option<Affine> {
    let dims = known.dims()?;
    let rank = known.shape.len();
    let base = dims.first()?.clone();
    let mut steps = vec![Dim::ZERO; rank];
    let mut stride = 1;
    for axis in (0..rank).rev() {
        if known.shape[axis] > 1 {
            steps[axis] = dims.get(stride)?.clone() - base.clone();
        }
        stride *= known.shape[axis];
    }
    let even = |(at, dim): (usize, &Dim)| {
        let terms = unravel(at, &known.shape).into_iter().zip(&steps);
        *dim == terms.fold(base.clone(), |sum, (i, step)| sum + step.clone() * Dim::from(i))
    };
    dims.iter().enumerate().all(even).then_some(Affine { base, steps })
}

/// Seen through a reshape that only adds or removes axes of size 1.
fn reshaped(affine: Affine, from: &[Dim], to: &[Dim]) -> Option<Affine> {
    let mut old = from.iter().zip(affine.steps).filter(|(size, _)| !size.is(1));
    let mut steps = Vec::with_capacity(to.len());
    for size in to {
        if size.is(1) {
            steps.push(Dim::ZERO);
        } else {
            let (was, step) = old.next()?;
            if was != size {
                return None;
            }
            steps.push(step);
        }
    }
    old.next().is_none().then_some(Affine { base: affine.base, steps })
}
