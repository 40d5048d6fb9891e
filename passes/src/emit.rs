//! Growing a graph with equal nodes shared, constants folded and needless movement left out.
//!
//! [`Emitter::emit`] is how every graph pass adds nodes: it looks at the op and at the operands' producers, and gives the
//! simplest value it knows for the result, a new node only where there is none.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, Kind, NodeId, Op, Origin, Type, Value};
use tarsia_tensor::{Dim, Tensor};

use crate::fold;

/// Grows a graph.
pub struct Emitter {
    /// The graph.
    pub graph: Graph,
    /// Equal nodes by hash.
    table: FxHashMap<u64, SmallVec<[NodeId; 1]>>,
    /// How many bytes of folded constants may still be made.
    budget: usize,
}

/// A folded constant may be larger than this only if it is no larger than its operands.
const FREE_BYTES: usize = 4096;

impl Emitter {
    /// Starts a graph with the inputs of `model`; gives their values. Folded constants take at most `budget` bytes.
    pub fn new(model: &Graph, budget: usize) -> (Emitter, Vec<Value>) {
        let mut emitter = Emitter { graph: Graph::new(&model.name), table: FxHashMap::default(), budget };
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
        if tensor.dtype() == tarsia_tensor::DType::String {
            return self.graph.add_constant(tensor, origin.clone());
        }
        let mut hasher = FxHasher::default();
        (tensor.dtype(), tensor.shape()).hash(&mut hasher);
        // Large data are compared by where they lie: hashing weights would cost more than it finds.
        let large = tensor.bytes().len() > FREE_BYTES;
        if large {
            tensor.bytes().as_ptr().hash(&mut hasher)
        } else {
            tensor.bytes().hash(&mut hasher)
        }
        let key = hasher.finish();
        for &id in self.table.get(&key).into_iter().flatten() {
            if let Some(known) = self.graph.constant(id.into())
                && (known.dtype(), known.shape()) == (tensor.dtype(), tensor.shape())
                && (large && known.bytes().as_ptr() == tensor.bytes().as_ptr() || !large && known == &tensor)
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
        let foldable = !matches!(op, Op::Broadcast { .. } | Op::Random { .. } | Op::Input { .. } | Op::Constant { .. })
            && !matches!(op.kind(), Kind::Control | Kind::Host);
        if !foldable {
            return None;
        }
        let tensors: Vec<&Tensor> = operands.iter().map(|&v| self.graph.constant(v)).collect::<Option<_>>()?;
        let types = tarsia_graph::infer(op, &operands.iter().map(|&v| self.graph.ty(v)).collect::<Vec<_>>()).ok()?;
        let sizes = types.iter().map(|ty| ty.dtype.bytes_of(ty.count().as_usize()?));
        let bytes = sizes.sum::<Option<usize>>()?;
        let given: usize = tensors.iter().map(|tensor| tensor.bytes().len()).sum();
        let data_moves = matches!(op, Op::Reshape { .. });
        if !data_moves && (bytes > self.budget || bytes > FREE_BYTES.max(given)) || !fold::is_cheap(op, &types, given) {
            return None;
        }
        let results = fold::evaluate(op, &tensors)?;
        if !data_moves {
            self.budget -= bytes.min(self.budget);
        }
        Some(results)
    }

    /// A simpler value that equals `op` on these operands, by the laws of movement.
    fn simpler(&mut self, op: &Op, x: &[Value], origin: &Origin) -> Result<Option<Value>, GraphError> {
        let Some(&first) = x.first() else { return Ok(None) };
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
            (Op::Cast { dtype, .. }, Some(Op::Cast { dtype: middle, .. })) => {
                let from = self.graph.ty(under[0]).dtype;
                if fold::holds_all(middle, from) && *dtype == from { Some(under[0]) } else { None }
            }
            _ => None,
        })
    }
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
