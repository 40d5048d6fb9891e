//! Reading a value at other places: `value[e := …]` for some tracked axes, pushed towards the leaves.
//!
//! A value has *tracked* axes, known by their positions, and *other* axes. [`rebase`] gives a value whose first axes are the
//! *new* ones (as many as the map says, size 1 where the value does not depend on them), followed by the other axes in their
//! order. Whatever works on each place of the tracked axes alone (point-wise ops, contractions, reductions of other axes …)
//! passes; at the leaves the [`Map`] knows what to read.

use smallvec::SmallVec;
use tarsia_graph::{Contraction, GraphError, Kind, Op, Origin, Value};
use tarsia_tensor::Dim;

use crate::emit::Emitter;

/// Where the tracked axes of a value stand, `None` if it has no such axis (or is repeated along it).
pub type Places = SmallVec<[Option<usize>; 4]>;

/// What is read instead of the tracked axes.
pub trait Map {
    /// Sizes of the new axes.
    fn sizes(&self) -> Vec<Dim>;

    /// The value at the new places, if the map knows it without looking at the producer's operands.
    ///
    /// # Errors
    /// Never for a verified graph.
    fn leaf(&mut self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Option<Value>, GraphError>;

    /// The value at the new places where nothing passes its producer.
    ///
    /// # Errors
    /// Never for a verified graph.
    fn fallback(&mut self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Option<Value>, GraphError>;

    /// The indices by which whole matrices are chosen that only the first tracked axis tells apart.
    fn choice(&self) -> Option<Value>;
}

/// The value at the places that the map says; `None` if something on the way mixes places.
///
/// # Errors
/// Never for a verified graph.
pub fn rebase(
    emitter: &mut Emitter,
    map: &mut dyn Map,
    value: Value,
    places: &Places,
    origin: &Origin,
) -> Result<Option<Value>, GraphError> {
    let mut rebase = Rebase { emitter, map, origin, done: Default::default() };
    rebase.value(value, places)
}

struct Rebase<'a> {
    emitter: &'a mut Emitter,
    map: &'a mut dyn Map,
    origin: &'a Origin,
    done: rustc_hash::FxHashMap<(Value, Places), Option<Value>>,
}

type Result_ = Result<Option<Value>, GraphError>;

/// The axes that are not tracked, in order.
fn others(rank: usize, places: &Places) -> Vec<usize> {
    (0..rank).filter(|axis| !places.contains(&Some(*axis))).collect()
}

impl Rebase<'_> {
    fn value(&mut self, value: Value, places: &Places) -> Result_ {
        let key = (value, places.clone());
        if let Some(done) = self.done.get(&key) {
            return Ok(*done);
        }
        let result = self.fresh(value, places)?;
        self.done.insert(key, result);
        Ok(result)
    }

    fn fresh(&mut self, value: Value, places: &Places) -> Result_ {
        if places.iter().all(Option::is_none) {
            let mut shape = vec![Dim::ONE; self.map.sizes().len()];
            shape.extend(self.shape(value));
            return self.emit(Op::Reshape { shape }, &[value]).map(Some);
        }
        if let Some(leaf) = self.map.leaf(self.emitter, value, places)? {
            return Ok(Some(leaf));
        }
        let (op, operands) = self.emitter.producer(value);
        let op = if matches!(op, Op::Constant { .. }) { None } else { Some(op.clone()) };
        if let Some(op) = op
            && let Some(done) = self.through(&op, &operands, value, places)?
        {
            return Ok(Some(done));
        }
        self.map.fallback(self.emitter, value, places)
    }

    fn shape(&self, value: Value) -> Vec<Dim> {
        self.emitter.ty(value).shape.clone()
    }

    fn emit(&mut self, op: Op, operands: &[Value]) -> Result<Value, GraphError> {
        self.emitter.emit(op, operands, self.origin)
    }

    fn through(&mut self, op: &Op, x: &[Value], value: Value, places: &Places) -> Result_ {
        let shape = self.shape(value);
        let (new, rest) = (self.map.sizes().len(), others(shape.len(), places));
        match op {
            Op::Silu {} | Op::Gelu { .. } => self.pointwise(op, x, shape.len(), places),
            _ if op.kind() == Kind::Pointwise => self.pointwise(op, x, shape.len(), places),
            Op::Transpose { perm } => {
                let inner: Places = places.iter().map(|p| p.map(|axis| perm[axis])).collect();
                let before = others(shape.len(), &inner);
                let Some(y) = self.value(x[0], &inner)? else { return Ok(None) };
                let order = rest.iter().map(|&axis| before.iter().position(|&b| b == perm[axis]).map(|i| i + new));
                let Some(order) = order.collect::<Option<Vec<usize>>>() else { return Ok(None) };
                self.emit(Op::Transpose { perm: (0..new).chain(order).collect() }, &[y]).map(Some)
            }
            Op::Reshape { .. } => {
                let from = self.shape(x[0]);
                let inner: Option<Places> = places
                    .iter()
                    .map(|p| p.map_or(Some(None), |axis| same_axis(&shape, &from, axis).map(Some)))
                    .collect();
                let Some(inner) = inner else { return Ok(None) };
                let Some(y) = self.value(x[0], &inner)? else { return Ok(None) };
                let mut target = self.shape(y)[..new].to_vec();
                target.extend(rest.iter().map(|&axis| shape[axis].clone()));
                self.emit(Op::Reshape { shape: target }, &[y]).map(Some)
            }
            Op::Broadcast { .. } => {
                let Some(y) = self.aligned(x[0], shape.len(), places)? else { return Ok(None) };
                let mut target = self.shape(y)[..new].to_vec();
                target.extend(rest.iter().map(|&axis| shape[axis].clone()));
                self.emit(Op::Broadcast { shape: target }, &[y]).map(Some)
            }
            Op::Slice { starts, sizes, steps } => {
                let from = self.shape(x[0]);
                let whole = |axis: usize| starts[axis].is(0) && steps[axis] == 1 && sizes[axis] == from[axis];
                if !places.iter().flatten().all(|&axis| whole(axis)) {
                    return Ok(None);
                }
                let Some(y) = self.value(x[0], places)? else { return Ok(None) };
                let (mut s, mut n, mut d) = (vec![Dim::ZERO; new], self.shape(y)[..new].to_vec(), vec![1; new]);
                s.extend(rest.iter().map(|&axis| starts[axis].clone()));
                n.extend(rest.iter().map(|&axis| sizes[axis].clone()));
                d.extend(rest.iter().map(|&axis| steps[axis]));
                self.emit(Op::Slice { starts: s, sizes: n, steps: d }, &[y]).map(Some)
            }
            Op::Reduce { function, axes } => {
                let Some(axes) = self.moved_axes(axes, &rest) else { return Ok(None) };
                let Some(y) = self.value(x[0], places)? else { return Ok(None) };
                self.emit(Op::Reduce { function: *function, axes }, &[y]).map(Some)
            }
            Op::Softmax { axis } => {
                let Some(axes) = self.moved_axes(&[*axis], &rest) else { return Ok(None) };
                let Some(y) = self.value(x[0], places)? else { return Ok(None) };
                self.emit(Op::Softmax { axis: axes[0] }, &[y]).map(Some)
            }
            Op::Concat { axis } => self.concat(*axis, x, &rest, places),
            Op::Gather { axis: 0 } => self.gather(x, places, shape.len()),
            Op::Contract { spec, dtype } => {
                let sides = [(spec.lhs.clone(), x[0]), (spec.rhs.clone(), x[1])];
                self.contract(spec, sides, *dtype, places)
            }
            Op::Routed { spec, dtype } => self.routed(spec, x, *dtype, places),
            _ => Ok(None),
        }
    }

    /// Axes of the value among the other axes, counted in the rebased value.
    fn moved_axes(&self, axes: &[usize], rest: &[usize]) -> Option<Vec<usize>> {
        let new = self.map.sizes().len();
        axes.iter().map(|axis| rest.iter().position(|r| r == axis).map(|i| i + new)).collect()
    }

    /// An operand rebased as if it had `rank` axes, those in front of size 1.
    fn aligned(&mut self, x: Value, rank: usize, places: &Places) -> Result_ {
        let mut shape = self.shape(x);
        let missing = rank - shape.len();
        if missing > 0 {
            shape.splice(0..0, vec![Dim::ONE; missing]);
        }
        let inner: Places = places.iter().map(|p| p.filter(|&axis| !shape[axis].is(1))).collect();
        if places.iter().zip(&inner).all(|(a, b)| a == b) && missing == 0 {
            return self.value(x, places);
        }
        // Tracked axes of size 1 are dropped, missing ones made.
        let dropped: Vec<usize> = places.iter().zip(&inner).filter_map(|(a, b)| a.filter(|_| b.is_none())).collect();
        let kept: Vec<usize> = (missing..rank).filter(|axis| !dropped.contains(axis)).collect();
        let small = self.emit(Op::Reshape { shape: kept.iter().map(|&axis| shape[axis].clone()).collect() }, &[x])?;
        let inner: Places = inner.iter().map(|p| p.and_then(|axis| kept.iter().position(|&k| k == axis))).collect();
        let Some(y) = self.value(small, &inner)? else { return Ok(None) };
        let new = self.map.sizes().len();
        let mut target = self.shape(y)[..new].to_vec();
        target.extend(others(rank, places).into_iter().map(|axis| shape[axis].clone()));
        self.emit(Op::Reshape { shape: target }, &[y]).map(Some)
    }

    fn pointwise(&mut self, op: &Op, x: &[Value], rank: usize, places: &Places) -> Result_ {
        let mut operands: SmallVec<[Value; 3]> = SmallVec::new();
        for &operand in x {
            // A number is the same everywhere.
            if self.emitter.ty(operand).rank() == 0 {
                operands.push(operand);
                continue;
            }
            let Some(y) = self.aligned(operand, rank, places)? else { return Ok(None) };
            operands.push(y);
        }
        self.emit(op.clone(), &operands).map(Some)
    }

    fn concat(&mut self, axis: usize, x: &[Value], rest: &[usize], places: &Places) -> Result_ {
        let Some(axes) = self.moved_axes(&[axis], rest) else { return Ok(None) };
        let mut parts = Vec::new();
        for &part in x {
            let Some(y) = self.value(part, places)? else { return Ok(None) };
            parts.push(y);
        }
        let sizes = self.map.sizes();
        for part in &mut parts {
            let mut shape = self.shape(*part);
            shape[..sizes.len()].clone_from_slice(&sizes);
            *part = self.emit(Op::Broadcast { shape }, &[*part])?;
        }
        self.emit(Op::Concat { axis: axes[0] }, &parts).map(Some)
    }

    /// Rows of a value without tracked axes, at indices with them.
    fn gather(&mut self, x: &[Value], places: &Places, rank: usize) -> Result_ {
        let index_rank = self.emitter.ty(x[1]).rank();
        if places.iter().flatten().any(|&axis| axis >= index_rank) || rank < index_rank {
            return Ok(None);
        }
        let Some(indices) = self.value(x[1], places)? else { return Ok(None) };
        self.emit(Op::Gather { axis: 0 }, &[x[0], indices]).map(Some)
    }

    /// Which letters of the contraction are tracked.
    fn tracked(spec: &Contraction, places: &Places) -> Option<Vec<Option<u8>>> {
        places.iter().map(|p| p.map_or(Some(None), |axis| spec.out.get(axis).map(|&l| Some(l)))).collect()
    }

    /// One side rebased: its letters with fresh ones for the new axes that it has, and the value without the others.
    fn side(
        &mut self,
        letters: &[u8],
        x: Value,
        tracked: &[Option<u8>],
        fresh: &[u8],
    ) -> Result<Option<(Vec<u8>, Value)>, GraphError> {
        let places: Places = tracked.iter().map(|l| l.and_then(|l| letters.iter().position(|&t| t == l))).collect();
        let Some(y) = self.value(x, &places)? else { return Ok(None) };
        let shape = self.shape(y);
        let (mut kept, mut sizes) = (Vec::new(), Vec::new());
        for (i, &letter) in fresh.iter().enumerate() {
            if !shape[i].is(1) {
                kept.push(letter);
                sizes.push(shape[i].clone());
            }
        }
        kept.extend(others(letters.len(), &places).into_iter().map(|axis| letters[axis]));
        sizes.extend_from_slice(&shape[fresh.len()..]);
        let y = self.emit(Op::Reshape { shape: sizes }, &[y])?;
        Ok(Some((kept, y)))
    }

    fn contract(
        &mut self,
        spec: &Contraction,
        sides: [(Vec<u8>, Value); 2],
        dtype: tarsia_tensor::DType,
        places: &Places,
    ) -> Result_ {
        let Some(tracked) = Self::tracked(spec, places) else { return Ok(None) };
        let new = self.map.sizes().len();
        let mut used = spec.clone();
        let fresh: Vec<u8> = (0..new)
            .map(|_| {
                let letter = used.fresh();
                used.lhs.push(letter);
                letter
            })
            .collect();
        let rest: Vec<u8> = others(spec.out.len(), places).into_iter().map(|axis| spec.out[axis]).collect();
        // Whole matrices that only the first tracked axis tells apart are chosen, not read.
        if let (Some(ids), Some(Some(choice))) = (self.map.choice(), tracked.first()) {
            for (this, other) in [(0, 1), (1, 0)] {
                let (letters, weights) = &sides[this];
                let alone = letters.contains(choice) && tracked[1..].iter().flatten().all(|l| !letters.contains(l));
                if alone && letters.len() >= 3 {
                    return self.chosen(letters, *weights, *choice, &sides[other], &tracked, &fresh, &rest, ids, dtype);
                }
            }
        }
        let [(lhs, a), (rhs, b)] = sides;
        let Some((lhs, a)) = self.side(&lhs, a, &tracked, &fresh)? else { return Ok(None) };
        let Some((rhs, b)) = self.side(&rhs, b, &tracked, &fresh)? else { return Ok(None) };
        let present = fresh.iter().copied().filter(|l| lhs.contains(l) || rhs.contains(l));
        let out: Vec<u8> = present.chain(rest).collect();
        let Ok(spec) = Contraction::new(lhs, rhs, out.clone()) else { return Ok(None) };
        let y = self.emit(Op::Contract { spec, dtype }, &[a, b])?;
        self.with_new_axes(y, &out, &fresh)
    }

    #[allow(clippy::too_many_arguments)]
    fn chosen(
        &mut self,
        letters: &[u8],
        weights: Value,
        choice: u8,
        other: &(Vec<u8>, Value),
        tracked: &[Option<u8>],
        fresh: &[u8],
        rest: &[u8],
        ids: Value,
        dtype: tarsia_tensor::DType,
    ) -> Result_ {
        let Some((lhs, x)) = self.side(&other.0, other.1, tracked, fresh)? else { return Ok(None) };
        let first = letters.iter().position(|&l| l == choice).unwrap_or(0);
        let order: Vec<usize> = std::iter::once(first).chain((0..letters.len()).filter(|&i| i != first)).collect();
        let rhs: Vec<u8> = fresh.iter().copied().chain(order[1..].iter().map(|&i| letters[i])).collect();
        let weights = self.emit(Op::Transpose { perm: order }, &[weights])?;
        let out: Vec<u8> = fresh.iter().chain(rest).copied().collect();
        let Ok(spec) = Contraction::new(lhs, rhs, out.clone()) else { return Ok(None) };
        let y = self.emit(Op::Routed { spec: spec.canonical(), dtype }, &[x, weights, ids])?;
        self.with_new_axes(y, &out, fresh)
    }

    /// Axes of size 1 for the new axes that a contraction's result lacks.
    fn with_new_axes(&mut self, y: Value, out: &[u8], fresh: &[u8]) -> Result_ {
        let shape = self.shape(y);
        let mut at = 0;
        let mut target = Vec::new();
        for letter in fresh {
            if out.contains(letter) {
                target.push(shape[at].clone());
                at += 1;
            } else {
                target.push(Dim::ONE);
            }
        }
        target.extend_from_slice(&shape[at..]);
        self.emit(Op::Reshape { shape: target }, &[y]).map(Some)
    }

    /// A routed contraction whose rows are tracked: x and indices are read at the new places.
    fn routed(&mut self, spec: &Contraction, x: &[Value], dtype: tarsia_tensor::DType, places: &Places) -> Result_ {
        let Some(tracked) = Self::tracked(spec, places) else { return Ok(None) };
        let id_letters = spec.rhs[..self.emitter.ty(x[2]).rank()].to_vec();
        if !tracked.iter().flatten().all(|l| id_letters.contains(l)) {
            return Ok(None);
        }
        let new = self.map.sizes().len();
        let mut used = spec.clone();
        let fresh: Vec<u8> = (0..new)
            .map(|_| {
                let letter = used.fresh();
                used.lhs.push(letter);
                letter
            })
            .collect();
        let Some((lhs, a)) = self.side(&spec.lhs, x[0], &tracked, &fresh)? else { return Ok(None) };
        let Some((ids_letters, ids)) = self.side(&id_letters, x[2], &tracked, &fresh)? else { return Ok(None) };
        let rhs: Vec<u8> = ids_letters.iter().chain(&spec.rhs[id_letters.len()..]).copied().collect();
        let rest = others(spec.out.len(), places).into_iter().map(|axis| spec.out[axis]);
        let present = fresh.iter().copied().filter(|l| lhs.contains(l) || rhs.contains(l));
        let out: Vec<u8> = present.chain(rest).collect();
        let Ok(spec) = Contraction::new(lhs, rhs, out.clone()) else { return Ok(None) };
        let y = self.emit(Op::Routed { spec: spec.canonical(), dtype }, &[a, x[1], ids])?;
        self.with_new_axes(y, &out, &fresh)
    }
}

/// The axis of `from` that is axis `axis` of `to` when one is the other reshaped, if it survives alone.
pub fn same_axis(to: &[Dim], from: &[Dim], axis: usize) -> Option<usize> {
    let before = Dim::product(&to[..axis]);
    (0..from.len()).find(|&i| from[i] == to[axis] && Dim::product(&from[..i]) == before)
}
