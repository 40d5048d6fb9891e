//! Growing a graph with equal nodes shared, constants folded and needless movement left out.
//!
//! [`Emitter::emit`] is how every graph pass adds nodes: it looks at the op and at the operands' producers, and gives the
//! simplest value it knows for the result, a new node only where there is none.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, Graph, GraphError, Kind, Law, NodeId, Op, Origin, ReduceFn, Type, Value};
use tarsia_tensor::{DType, Dim, Tensor};

use crate::{fold, known};

/// Grows a graph.
pub struct Emitter {
    /// The graph.
    pub graph: Graph,
    /// Equal nodes by hash.
    table: FxHashMap<u64, SmallVec<[NodeId; 1]>>,
    /// What may still be folded.
    folding: Folding,
}

/// Bounds on the constants that are computed at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// How many bytes they may take in all.
    pub bytes: usize,
    /// How many bytes one of them may take. Weights are best left as they are until rewriting is done: most of what moves them
    /// about disappears in the kernels that read them.
    pub largest: usize,
}

impl Folding {
    /// Up to `bytes` in all, small constants only.
    pub fn small(bytes: usize) -> Folding {
        Folding { bytes, largest: 1 << 16 }
    }

    /// Up to `bytes` in all.
    pub fn all(bytes: usize) -> Folding {
        Folding { bytes, largest: bytes }
    }
}

/// A folded constant may be larger than this only if it is no larger than its operands.
const FREE_BYTES: usize = 4096;

impl Emitter {
    /// Starts a graph with the inputs of `model`; gives their values.
    pub fn new(model: &Graph, folding: Folding) -> (Emitter, Vec<Value>) {
        let mut emitter = Emitter { graph: Graph::new(&model.name), table: FxHashMap::default(), folding };
        let inputs = model.inputs().iter().map(|(name, id)| {
            let ty = model.ty(Value::from(*id)).clone();
            emitter.graph.add_input(name, ty)
        });
        let inputs = inputs.collect();
        (emitter, inputs)
    }

    /// The value of `op` on these operands (its first result).
    ///
    /// # Errors
    /// If the operands do not fit.
    pub fn emit(&mut self, op: Op, operands: &[Value], origin: &Origin) -> Result<Value, GraphError> {
        Ok(self.emit_all(op, operands, origin)?[0])
    }

    /// The values of all results of `op` on these operands.
    ///
    /// # Errors
    /// If the operands do not fit.
    pub fn emit_all(
        &mut self,
        op: Op,
        operands: &[Value],
        origin: &Origin,
    ) -> Result<SmallVec<[Value; 1]>, GraphError> {
        let mut operands: SmallVec<[Value; 4]> = SmallVec::from_slice(operands);
        if let (Op::Binary(function), [a, b]) = (&op, operands.as_slice())
            && function.commutes()
            && self.graph.constant(*a).is_some()
            && self.graph.constant(*b).is_none()
        {
            operands.swap(0, 1);
        }
        let op = match op {
            Op::Contract { spec, dtype } => Op::Contract { spec: spec.canonical(), dtype },
            op => op,
        };
        if let Some(value) = self.simpler(&op, &operands, origin)? {
            return Ok(SmallVec::from_iter([value]));
        }
        if let Some(tensors) = self.folded(&op, &operands) {
            return Ok(tensors.into_iter().map(|tensor| self.constant(tensor, origin)).collect());
        }
        let id = self.shared(op, &operands, origin)?;
        Ok((0..self.graph[id].types.len() as u32).map(|output| Value { node: id, output }).collect())
    }

    /// Constant data, shared if it is there already.
    pub fn constant(&mut self, tensor: Tensor, origin: &Origin) -> Value {
        if !tensor.dtype().is_numeric() {
            return self.graph.add_constant(tensor, origin.clone());
        }
        let mut hasher = FxHasher::default();
        (tensor.dtype(), tensor.shape()).hash(&mut hasher);
        // Large data are compared by where they lie: hashing weights would cost more than it finds.
        let (large, place) = (tensor.size() > FREE_BYTES, tensor.content().place());
        if large {
            place.hash(&mut hasher)
        } else {
            tensor.bytes().hash(&mut hasher)
        }
        let key = hasher.finish();
        for &id in self.table.get(&key).into_iter().flatten() {
            if let Some(known) = self.graph.constant(id.into())
                && (known.dtype(), known.shape()) == (tensor.dtype(), tensor.shape())
                && (large && known.content().place() == place || !large && known == &tensor)
            {
                return id.into();
            }
        }
        let value = self.graph.add_constant(tensor, origin.clone());
        self.table.entry(key).or_default().push(value.node);
        value
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        self.graph.ty(value)
    }

    /// The op that produces a value, and its operands.
    pub fn producer(&self, value: Value) -> (&Op, SmallVec<[Value; 4]>) {
        (&self.graph[value.node].op, self.graph.operands(value.node))
    }

    fn shared(&mut self, op: Op, operands: &[Value], origin: &Origin) -> Result<NodeId, GraphError> {
        if !op.is_pure() {
            return self.graph.add(op, operands, origin.clone());
        }
        let key = hash_op(&op, operands);
        for &id in self.table.get(&key).into_iter().flatten() {
            if self.graph[id].op == op && self.graph.operands(id).as_slice() == operands {
                return Ok(id);
            }
        }
        let id = self.graph.add(op, operands, origin.clone())?;
        self.table.entry(key).or_default().push(id);
        Ok(id)
    }

    fn folded(&mut self, op: &Op, operands: &[Value]) -> Option<Vec<Tensor>> {
        let foldable = !matches!(op, Op::Random { .. } | Op::Input { .. } | Op::Constant { .. })
            && !matches!(op.kind(), Kind::Control | Kind::Host);
        if !foldable {
            return None;
        }
        let types = tarsia_graph::infer(op, &operands.iter().map(|&v| self.graph.ty(v)).collect::<Vec<_>>()).ok()?;
        if let Some(empty) = types.iter().map(fold::empty).collect() {
            return Some(empty);
        }
        if let Op::Broadcast { .. } = op {
            return None;
        }
        let tensors: Vec<&Tensor> = operands.iter().map(|&v| self.graph.constant(v)).collect::<Option<_>>()?;
        let sizes = types.iter().map(|ty| ty.dtype.bytes_of(ty.count().as_usize()?));
        let bytes = sizes.sum::<Option<usize>>()?;
        let given: usize = tensors.iter().map(|tensor| tensor.size()).sum();
        let data_moves = matches!(op, Op::Reshape { .. });
        let most = self.folding.bytes.min(self.folding.largest).min(FREE_BYTES.max(given));
        if !data_moves && bytes > most || !fold::is_cheap(op, &types, given) {
            return None;
        }
        let results = fold::evaluate(op, &tensors)?;
        if !data_moves {
            self.folding.bytes -= bytes.min(self.folding.bytes);
        }
        Some(results)
    }

    /// A simpler value that equals `op` on these operands, by the laws of movement.
    fn simpler(&mut self, op: &Op, x: &[Value], origin: &Origin) -> Result<Option<Value>, GraphError> {
        let Some(&first) = x.first() else { return Ok(None) };
        if op.kind() == Kind::Pointwise
            && let Some(value) = self.simpler_pointwise(op, x, origin)?
        {
            return Ok(Some(value));
        }
        let ty = self.graph.ty(first).clone();
        let (inner, under) = (self.graph[first.node].op.clone_movement(), self.graph.operands(first.node));
        let again = |emitter: &mut Emitter, op: Op| emitter.emit(op, &under, origin).map(Some);
        Ok(match (op, inner) {
            (Op::Reshape { shape } | Op::Broadcast { shape }, _) if *shape == ty.shape => Some(first),
            (Op::Transpose { perm }, _) if perm.iter().copied().eq(0..perm.len()) => Some(first),
            (Op::Slice { starts, sizes, steps }, _) if *sizes == ty.shape && is_whole(starts, sizes, steps) => {
                Some(first)
            }
            (Op::Cast { dtype, .. }, _) if *dtype == ty.dtype => Some(first),
            (Op::Concat { .. }, _) if x.len() == 1 => Some(first),
            // Along one element there is nothing to accumulate, and the best is the first.
            (Op::Scan { axis, exclusive: false, .. }, _) if ty.shape[*axis].is(1) => Some(first),
            (Op::ArgReduce { axis, .. }, _) if ty.shape[*axis].is(1) => {
                Some(self.repeated(DType::I64, 0.0, &ty.shape, origin)?)
            }
            (Op::Scan { function, axis, exclusive: true, .. }, _) if ty.shape[*axis].is(1) => {
                let identity = if matches!(function, ReduceFn::Prod) { 1.0 } else { 0.0 };
                let known = matches!(function, ReduceFn::Sum | ReduceFn::Prod);
                if known { Some(self.repeated(ty.dtype, identity, &ty.shape, origin)?) } else { None }
            }
            (Op::Pad { low, high, interior }, _)
                if low.iter().chain(high).all(|dim| dim.is(0)) && interior.iter().all(|&gap| gap == 0) =>
            {
                Some(first)
            }
            (Op::Reshape { shape }, Some(Op::Reshape { .. })) => again(self, Op::Reshape { shape: shape.clone() })?,
            (Op::Transpose { perm }, Some(Op::Transpose { perm: before })) => {
                let perm = perm.iter().map(|&axis| before[axis]).collect();
                again(self, Op::Transpose { perm })?
            }
            (Op::Broadcast { shape }, Some(Op::Broadcast { .. })) => {
                again(self, Op::Broadcast { shape: shape.clone() })?
            }
            (Op::Transpose { perm }, _) if moves_only_ones(perm, &ty.shape) => {
                let shape = perm.iter().map(|&axis| ty.shape[axis].clone()).collect();
                Some(self.emit(Op::Reshape { shape }, x, origin)?)
            }
            (Op::Slice { starts, sizes, steps }, Some(Op::Concat { axis })) => {
                self.operand_of_concat(&under, axis, starts, sizes, steps)
            }
            (Op::Reshape { shape }, Some(Op::Concat { axis })) if is_doubled(&under) => {
                let (rank, half) = (shape.len(), self.graph.ty(under[0]).shape.clone());
                let is_last = axis + 1 == half.len() && shape.last() == ty.shape.last() && half.last().is_some();
                if !is_last {
                    return Ok(None);
                }
                let mut part = shape.clone();
                part[rank - 1] = half[axis].clone();
                let part = self.emit(Op::Reshape { shape: part }, &under[..1], origin)?;
                Some(self.emit(Op::Concat { axis: rank - 1 }, &[part, part], origin)?)
            }
            // Rows 0, 1, 2 … are all rows.
            (Op::Gather { axis }, _) if self.counts_all(x[1], &ty.shape[*axis]) => Some(first),
            (Op::Cast { dtype, .. }, Some(Op::Cast { dtype: middle, .. })) => {
                let from = self.graph.ty(under[0]).dtype;
                if fold::holds_all(middle, from) && *dtype == from { Some(under[0]) } else { None }
            }
            _ => None,
        })
    }
}

impl Emitter {
    /// Whether `indices` are 0, 1, 2 … up to `size`, along one axis.
    fn counts_all(&self, indices: Value, size: &Dim) -> bool {
        let shape = &self.graph.ty(indices).shape;
        matches!(shape.as_slice(), [only] if only == size) && known::is_count(&self.graph, indices)
    }

    /// The operand of a concatenation that a slice is.
    fn operand_of_concat(
        &self,
        parts: &[Value],
        axis: usize,
        starts: &[Dim],
        sizes: &[Dim],
        steps: &[i64],
    ) -> Option<Value> {
        let mut at = Dim::ZERO;
        for &part in parts {
            let shape = &self.graph.ty(part).shape;
            let same = |i: usize| {
                steps[i] == 1 && sizes[i] == shape[i] && if i == axis { starts[i] == at } else { starts[i].is(0) }
            };
            if (0..shape.len()).all(same) {
                return Some(part);
            }
            at = at + shape[axis].clone();
        }
        None
    }

    fn simpler_pointwise(&mut self, op: &Op, x: &[Value], origin: &Origin) -> Result<Option<Value>, GraphError> {
        let numbers: SmallVec<[Option<f64>; 3]> = x.iter().map(|&v| known::splat(&self.graph, v)).collect();
        let types = x.iter().map(|&v| self.graph.ty(v)).collect::<Vec<_>>();
        let Ok(results) = tarsia_graph::infer(op, &types) else { return Ok(None) };
        let result = results[0].clone();
        let same = |v: Value| (self.graph.ty(v) == &result).then_some(v);
        if let Op::Select {} = op
            && let Some(condition) = numbers[0]
        {
            return Ok(same(if condition != 0.0 { x[1] } else { x[2] }));
        }
        if let (Op::Binary(function), [a, b]) = (op, x) {
            for law in function.laws() {
                let simple = match law {
                    Law::RightIdentity(e) if numbers[1] == Some(*e) => same(*a),
                    Law::RightIdentity(e) if numbers[0] == Some(*e) && function.commutes() => same(*b),
                    Law::Idempotent if a == b => same(*a),
                    _ => None,
                };
                if simple.is_some() {
                    return Ok(simple);
                }
            }
            let truth = match function {
                BinaryFn::And if numbers.contains(&Some(0.0)) => Some(0.0),
                BinaryFn::Or if numbers.contains(&Some(1.0)) => Some(1.0),
                BinaryFn::And if numbers[1] == Some(1.0) => return Ok(same(*a)),
                BinaryFn::Or if numbers[1] == Some(0.0) => return Ok(same(*a)),
                BinaryFn::Lt if numbers[1] == Some(0.0) && known::non_negative(&self.graph, *a) => Some(0.0),
                BinaryFn::Ge if numbers[1] == Some(0.0) && known::non_negative(&self.graph, *a) => Some(1.0),
                _ => None,
            };
            if let Some(truth) = truth {
                return self.repeated(result.dtype, truth, &result.shape, origin).map(Some);
            }
        }
        if numbers.iter().all(Option::is_some) && result.rank() > 0 {
            let scalars: Option<Vec<Tensor>> =
                types.iter().zip(&numbers).map(|(ty, n)| fold::scalar(ty.dtype, (*n)?)).collect();
            let folded = scalars.and_then(|scalars| fold::evaluate(op, &scalars.iter().collect::<Vec<_>>()));
            if let Some(scalar) = folded.into_iter().flatten().next() {
                let scalar = self.constant(scalar, origin);
                return self.emit(Op::Broadcast { shape: result.shape }, &[scalar], origin).map(Some);
            }
        }
        self.outside_doubled(op, x, origin)
    }

    /// f((a, a)) = (f(a), f(a)): what repeats a half is moved outwards, where rotary embedding is recognised.
    fn outside_doubled(&mut self, op: &Op, x: &[Value], origin: &Origin) -> Result<Option<Value>, GraphError> {
        let mut halves: SmallVec<[Value; 3]> = SmallVec::new();
        let mut last = None;
        for &value in x {
            let under = self.graph.operands(value.node);
            let rank = self.graph.ty(value).rank();
            match &self.graph[value.node].op {
                Op::Concat { axis } if is_doubled(&under) && axis + 1 == rank && last.is_none_or(|l| l == *axis) => {
                    last = Some(*axis);
                    halves.push(under[0]);
                }
                _ if rank == 0 => halves.push(value),
                _ => return Ok(None),
            }
        }
        let Some(axis) = last else { return Ok(None) };
        let half = self.emit(op.clone(), &halves, origin)?;
        self.emit(Op::Concat { axis }, &[half, half], origin).map(Some)
    }

    /// A number repeated to a shape.
    ///
    /// # Errors
    /// Never for numeric types.
    pub fn repeated(&mut self, dtype: DType, value: f64, shape: &[Dim], origin: &Origin) -> Result<Value, GraphError> {
        let scalar = fold::scalar(dtype, value).unwrap_or_else(|| Tensor::scalar(value));
        let scalar = self.constant(scalar, origin);
        self.emit(Op::Broadcast { shape: shape.to_vec() }, &[scalar], origin)
    }
}

fn is_doubled(parts: &[Value]) -> bool {
    matches!(parts, [a, b] if a == b)
}

/// Reading movement ops without copying constants.
trait CloneMovement {
    fn clone_movement(&self) -> Option<Op>;
}

impl CloneMovement for Op {
    fn clone_movement(&self) -> Option<Op> {
        (self.kind() == Kind::Movement || matches!(self, Op::Cast { .. })).then(|| self.clone())
    }
}

fn is_whole(starts: &[Dim], sizes: &[Dim], steps: &[i64]) -> bool {
    let one = |axis: usize| starts[axis].is(0) && steps[axis] == 1 || sizes[axis].is(1) && starts[axis].is(0);
    (0..sizes.len()).all(one)
}

/// Whether the axes that are not of size 1 keep their order.
pub(crate) fn moves_only_ones(perm: &[usize], shape: &[Dim]) -> bool {
    let real: Vec<usize> = perm.iter().copied().filter(|&axis| !shape[axis].is(1)).collect();
    real.is_sorted()
}

fn hash_op(op: &Op, operands: &[Value]) -> u64 {
    let mut hasher = FxHasher::default();
    op.name().hash(&mut hasher);
    if op.kind() != Kind::Control {
        op.attrs().iter().for_each(|(_, attr)| crate::language::Attribute::from(attr.clone()).hash(&mut hasher));
    }
    operands.hash(&mut hasher);
    hasher.finish()
}
