//! A sum of terms that differ in a number only is a sum along a new axis.
//!
//! [`Stacker`] reads several values at once and gives one value with a new first axis: where all agree there is nothing to
//! stack; slices 0, 1, 2 … of one value are that value; constants are laid side by side; the same op on stacked operands is
//! that op with one axis more.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, Contraction, GraphError, Kind, Op, Origin, ReduceFn, Value};
use tarsia_tensor::Dim;

use super::one;
use crate::{emit::Emitter, language::Attribute};

/// Fewer terms than this are left as they are.
const TERMS: usize = 3;

pub(super) fn roll_up(
    emitter: &mut Emitter,
    op: &Op,
    x: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    let Op::Binary(BinaryFn::Add) = op else { return Ok(None) };
    let shape = emitter.ty(x[0]).shape.clone();
    if emitter.ty(x[1]).shape != shape {
        return Ok(None);
    }
    let terms = terms(emitter, x, &shape);
    if terms.len() < TERMS {
        return Ok(None);
    }
    let mut prints = FxHashMap::default();
    let mut groups: Vec<(u64, Vec<Value>)> = Vec::new();
    for &term in &terms {
        let print = fingerprint(emitter, term, &mut prints, 24);
        match groups.iter_mut().find(|(known, _)| *known == print) {
            Some((_, group)) => group.push(term),
            None => groups.push((print, vec![term])),
        }
    }
    let (mut sums, mut rolled) = (Vec::new(), false);
    for (_, group) in groups {
        let stacked =
            if group.len() >= TERMS { Stacker::new(emitter, group.len(), origin).stack(&group)? } else { None };
        let Some(Stacked::Many(all)) = stacked else {
            sums.extend(group);
            continue;
        };
        rolled = true;
        let sum = emitter.emit(Op::Reduce { function: ReduceFn::Sum, axes: vec![0] }, &[all], origin)?;
        sums.push(emitter.emit(Op::Reshape { shape: shape.clone() }, &[sum], origin)?);
    }
    if !rolled {
        return Ok(None);
    }
    let mut total = sums[0];
    for &sum in &sums[1..] {
        total = emitter.emit(Op::Binary(BinaryFn::Add), &[total, sum], origin)?;
    }
    Ok(Some(one(total)))
}

/// The terms of a sum of values of one shape, in order. A sum that something else reads, such as the residual stream of a
/// model, is a term: taking it apart in every layer would cost the square of their number.
fn terms(emitter: &Emitter, x: &[Value], shape: &[Dim]) -> Vec<Value> {
    let mut found = Vec::new();
    // The last sum is not in the graph yet, so its operands have one user less.
    let mut stack: Vec<(Value, usize)> = x.iter().rev().map(|&value| (value, 0)).collect();
    while let Some((value, users)) = stack.pop() {
        let (op, under) = emitter.producer(value);
        let sum = matches!(op, Op::Binary(BinaryFn::Add)) && under.iter().all(|&v| emitter.ty(v).shape == shape);
        if sum && emitter.graph.users(value.node).len() == users && found.len() < 4096 {
            stack.extend(under.iter().rev().map(|&value| (value, 1)));
        } else {
            found.push(value);
        }
    }
    found
}

/// Equal for values that can perhaps be stacked: the tree of ops without numbers and places.
fn fingerprint(emitter: &Emitter, value: Value, known: &mut FxHashMap<(Value, usize), u64>, depth: usize) -> u64 {
    if let Some(print) = known.get(&(value, depth)) {
        return *print;
    }
    let (op, under) = emitter.producer(value);
    let mut hasher = FxHasher::default();
    emitter.ty(value).hash(&mut hasher);
    (op.name(), value.output).hash(&mut hasher);
    if depth > 0 && !matches!(op, Op::Constant { .. } | Op::Input { .. } | Op::Slice { .. }) {
        op.attrs().into_iter().for_each(|(_, attr)| Attribute::from(attr).hash(&mut hasher));
        under.iter().for_each(|&v| fingerprint(emitter, v, known, depth - 1).hash(&mut hasher));
    }
    known.insert((value, depth), hasher.finish());
    hasher.finish()
}

/// Several values as one.
#[derive(Clone, Copy, Debug)]
enum Stacked {
    /// They are all this one.
    Same(Value),
    /// This one has them along its first axis.
    Many(Value),
}

struct Stacker<'a> {
    emitter: &'a mut Emitter,
    count: usize,
    origin: &'a Origin,
    done: FxHashMap<Vec<Value>, Option<Stacked>>,
}

type Outcome = Result<Option<Stacked>, GraphError>;

impl<'a> Stacker<'a> {
    fn new(emitter: &'a mut Emitter, count: usize, origin: &'a Origin) -> Stacker<'a> {
        Stacker { emitter, count, origin, done: FxHashMap::default() }
    }

    fn stack(&mut self, values: &[Value]) -> Outcome {
        if values.iter().all(|value| *value == values[0]) {
            return Ok(Some(Stacked::Same(values[0])));
        }
        if let Some(done) = self.done.get(values) {
            return Ok(*done);
        }
        let result = self.fresh(values)?;
        self.done.insert(values.to_vec(), result);
        Ok(result)
    }

    fn fresh(&mut self, values: &[Value]) -> Outcome {
        let ty = self.emitter.ty(values[0]).clone();
        if values.iter().any(|&v| *self.emitter.ty(v) != ty || v.output != values[0].output) {
            return Ok(None);
        }
        if values.iter().all(|&v| self.emitter.graph.constant(v).is_some()) {
            return self.side_by_side(values, &ty.shape).map(Some);
        }
        if let Some(whole) = self.slices_of_one(values)? {
            return Ok(Some(Stacked::Many(whole)));
        }
        let op = match self.emitter.producer(values[0]).0 {
            Op::Constant { .. } | Op::Input { .. } => return Ok(None),
            op => op.clone(),
        };
        if values[0].output != 0 || values.iter().any(|&v| *self.emitter.producer(v).0 != op) {
            return Ok(None);
        }
        let under: Vec<SmallVec<[Value; 4]>> = values.iter().map(|&v| self.emitter.producer(v).1).collect();
        let mut operands = Vec::new();
        for i in 0..under[0].len() {
            let column: Option<Vec<Value>> = under.iter().map(|x| x.get(i).copied()).collect();
            let Some(column) = column else { return Ok(None) };
            let Some(stacked) = self.stack(&column)? else { return Ok(None) };
            operands.push(stacked);
        }
        Ok(self.batched(&op, &operands, ty.rank())?.map(Stacked::Many))
    }

    fn emit(&mut self, op: Op, operands: &[Value]) -> Result<Value, GraphError> {
        self.emitter.emit(op, operands, self.origin)
    }

    fn side_by_side(&mut self, values: &[Value], shape: &[Dim]) -> Result<Stacked, GraphError> {
        let mut row = vec![Dim::ONE];
        row.extend_from_slice(shape);
        let mut rows = Vec::new();
        for &value in values {
            rows.push(self.emit(Op::Reshape { shape: row.clone() }, &[value])?);
        }
        Ok(Stacked::Many(self.emit(Op::Concat { axis: 0 }, &rows)?))
    }

    /// Slices of size 1 at 0, 1, 2 … along one axis of one value.
    fn slices_of_one(&mut self, values: &[Value]) -> Result<Option<Value>, GraphError> {
        let (Op::Slice { starts, sizes, steps }, under) = self.emitter.producer(values[0]) else { return Ok(None) };
        let (starts, sizes, steps, whole) = (starts.clone(), sizes.clone(), steps.clone(), under[0]);
        let from = self.emitter.ty(whole).shape.clone();
        let candidates = (0..from.len()).filter(|&axis| sizes[axis].is(1) && from[axis].is(self.count as i64));
        'axes: for axis in candidates.collect::<Vec<_>>() {
            for (i, &value) in values.iter().enumerate() {
                let mut expected = starts.clone();
                expected[axis] = Dim::from(i);
                let op = Op::Slice { starts: expected, sizes: sizes.clone(), steps: steps.clone() };
                let (found, operands) = self.emitter.producer(value);
                if *found != op || operands[0] != whole {
                    continue 'axes;
                }
            }
            // The other axes are sliced alike.
            let (mut starts, mut sizes) = (starts.clone(), sizes.clone());
            (starts[axis], sizes[axis]) = (Dim::ZERO, from[axis].clone());
            let all = self.emit(Op::Slice { starts, sizes: sizes.clone(), steps }, &[whole])?;
            let perm: Vec<usize> = std::iter::once(axis).chain((0..from.len()).filter(|&a| a != axis)).collect();
            let all = self.emit(Op::Transpose { perm }, &[all])?;
            let mut shape = vec![sizes[axis].clone()];
            sizes[axis] = Dim::ONE;
            shape.extend(sizes);
            return self.emit(Op::Reshape { shape }, &[all]).map(Some);
        }
        Ok(None)
    }

    /// A stacked operand as if its values had `rank` axes.
    fn padded(&mut self, value: Value, rank: usize) -> Result<Value, GraphError> {
        let mut shape = self.emitter.ty(value).shape.clone();
        let missing = (rank + 1).saturating_sub(shape.len());
        shape.splice(1..1, vec![Dim::ONE; missing]);
        self.emit(Op::Reshape { shape }, &[value])
    }

    /// An operand with the new axis, repeated along it if need be.
    fn repeated(&mut self, operand: Stacked) -> Result<Value, GraphError> {
        match operand {
            Stacked::Many(value) => Ok(value),
            Stacked::Same(value) => {
                let mut shape = vec![Dim::from(self.count)];
                shape.extend(self.emitter.ty(value).shape.iter().cloned());
                self.emit(Op::Broadcast { shape }, &[value])
            }
        }
    }

    /// The op on each of the stacked operands; results of `rank` axes get one more.
    fn batched(&mut self, op: &Op, operands: &[Stacked], rank: usize) -> Result<Option<Value>, GraphError> {
        let count = Dim::from(self.count);
        let with_count =
            |shape: &[Dim]| std::iter::once(count.clone()).chain(shape.iter().cloned()).collect::<Vec<Dim>>();
        let shifted = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<usize>>();
        let batched = match op {
            _ if op.kind() == Kind::Pointwise || matches!(op, Op::Silu {} | Op::Gelu { .. }) => {
                let mut values: SmallVec<[Value; 3]> = SmallVec::new();
                for operand in operands {
                    values.push(match operand {
                        Stacked::Same(value) => *value,
                        Stacked::Many(value) => self.padded(*value, rank)?,
                    });
                }
                return self.emit(op.clone(), &values).map(Some);
            }
            Op::Contract { spec, dtype } => return self.contract(spec, *dtype, operands).map(Some),
            Op::Reshape { shape } => Op::Reshape { shape: with_count(shape) },
            Op::Transpose { perm } => Op::Transpose { perm: std::iter::once(0).chain(shifted(perm)).collect() },
            Op::Broadcast { shape } => {
                let Stacked::Many(value) = operands[0] else { return Ok(None) };
                let value = self.padded(value, shape.len())?;
                return self.emit(Op::Broadcast { shape: with_count(shape) }, &[value]).map(Some);
            }
            Op::Slice { starts, sizes, steps } => Op::Slice {
                starts: std::iter::once(Dim::ZERO).chain(starts.iter().cloned()).collect(),
                sizes: with_count(sizes),
                steps: std::iter::once(1).chain(steps.iter().copied()).collect(),
            },
            Op::Concat { axis } => Op::Concat { axis: axis + 1 },
            Op::Reduce { function, axes } => Op::Reduce { function: *function, axes: shifted(axes) },
            Op::Softmax { axis } => Op::Softmax { axis: axis + 1 },
            Op::Gather { axis } => match operands {
                [Stacked::Many(x), Stacked::Same(ids)] => {
                    return self.emit(Op::Gather { axis: axis + 1 }, &[*x, *ids]).map(Some);
                }
                [Stacked::Same(x), Stacked::Many(ids)] if *axis == 0 => {
                    return self.emit(Op::Gather { axis: 0 }, &[*x, *ids]).map(Some);
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let mut values = Vec::new();
        for &operand in operands {
            values.push(self.repeated(operand)?);
        }
        self.emit(batched, &values).map(Some)
    }

    fn contract(
        &mut self,
        spec: &Contraction,
        dtype: tarsia_tensor::DType,
        operands: &[Stacked],
    ) -> Result<Value, GraphError> {
        let fresh = spec.fresh();
        let term = |letters: &[u8], operand: Stacked| match operand {
            Stacked::Same(value) => (letters.to_vec(), value),
            Stacked::Many(value) => (std::iter::once(fresh).chain(letters.iter().copied()).collect(), value),
        };
        let (lhs, a) = term(&spec.lhs, operands[0]);
        let (rhs, b) = term(&spec.rhs, operands[1]);
        let out = std::iter::once(fresh).chain(spec.out.iter().copied()).collect();
        self.emit(Op::Contract { spec: Contraction { lhs, rhs, out }, dtype }, &[a, b])
    }
}
