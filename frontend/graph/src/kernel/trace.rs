//! Tracing a body: the iteration space of its results and the index at which every leaf is read.
//!
//! The walk goes from the roots to the leaves and carries the index of each value. Where a reshape needs a finer axis the
//! space is refined and the walk starts again. Reductions run along *row axes*: axes of the space that the reduction's
//! result does not depend on, or new ones. All reductions of a body share one set of row axes. What a contraction sums over
//! are axes of the space, too.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use tarsia_tensor::Dim;

use crate::{
    Contraction, Graph, Kind, Node, Op, Type, Value,
    access::{self, Index, Obstacle},
};

/// Longest axis along which values are joined inside a kernel: it has to be whole in a tile.
pub const JOINED: i64 = 4096;

/// How often a space may be refined.
const REFINEMENTS: usize = 64;

/// How a body's leaves are read when its results are computed element by element.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Sizes of the iteration axes: those of the roots' shape, refined, then row axes.
    pub space: Vec<Dim>,
    /// The index of the roots.
    pub root: Vec<Index>,
    /// Axes that reductions run along.
    pub rows: BTreeSet<usize>,
    /// Axes that a contraction sums over, by letter (several where one had to be split).
    pub sums: BTreeMap<u8, Vec<usize>>,
    /// Every leaf and every contraction with every index at which it is read.
    pub uses: Vec<(Value, Vec<Index>)>,
}

impl Trace {
    /// Traces `roots`, all of the first one's shape.
    ///
    /// # Errors
    /// Why an index is not affine, or reductions do not share their axes.
    pub fn of(body: &Graph, roots: &[Value]) -> Result<Trace, String> {
        let shape = &body.ty(*roots.first().ok_or("a kernel has no result")?).shape;
        if roots.iter().any(|&root| body.ty(root).shape != *shape) {
            return Err("the results differ in shape".to_owned());
        }
        let mut start = Trace::default();
        for size in shape {
            // Axes of size 1 are no axes of the space.
            start.root.push(if size.is(1) { Index::fixed(Dim::ZERO) } else { Index::axis(start.space.len()) });
            if !size.is(1) {
                start.space.push(size.clone());
            }
        }
        for _ in 0..REFINEMENTS {
            let mut walk =
                Walk { body, trace: start.clone(), seen: BTreeSet::new(), along: None, cut: BTreeSet::new() };
            match roots.iter().try_for_each(|&root| walk.visit(root, &start.root)) {
                Ok(()) => return Ok(walk.trace),
                Err(Obstacle::Opaque(reason)) => return Err(reason.to_owned()),
                Err(Obstacle::Refine { axis, sizes }) => start.refine(axis, sizes, walk.trace)?,
            }
        }
        Err("the axes cannot be refined far enough".to_owned())
    }

    /// Splits an axis that a walk (which has come to `walked`) needs finer. Row axes are found anew by the next walk.
    fn refine(&mut self, axis: usize, sizes: Vec<Dim>, walked: Trace) -> Result<(), String> {
        if walked.rows.is_empty() {
            (self.space, self.sums) = (walked.space, walked.sums);
        }
        if axis >= self.space.len() {
            return Err("a reshape that splits an axis which is reduced".to_owned());
        }
        self.root = self.root.iter().map(|index| index.refined(axis, &sizes)).collect();
        let more = sizes.len() - 1;
        for axes in self.sums.values_mut() {
            let moved = |&a: &usize| match a.cmp(&axis) {
                Ordering::Less => a..a + 1,
                Ordering::Equal => a..a + 1 + more,
                Ordering::Greater => a + more..a + more + 1,
            };
            *axes = axes.iter().flat_map(moved).collect();
        }
        self.space.splice(axis..=axis, sizes);
        Ok(())
    }

    /// Whether `value` is read at one index only, which visits each of its elements exactly once.
    pub fn visits_once(&self, body: &Graph, value: Value) -> bool {
        let mut uses = self.uses.iter().filter(|(leaf, _)| *leaf == value);
        let (Some((_, index)), None) = (uses.next(), uses.next()) else { return false };
        let on_axis = |axis: usize| index.iter().any(|i| !i.step(axis).is(0));
        let summed = |axis: &usize| self.sums.values().any(|axes| axes.contains(axis));
        let axes: Vec<usize> = (0..self.space.len()).filter(|axis| !summed(axis)).collect();
        index.iter().all(|i| i.base.is(0))
            && axes.iter().all(|&axis| on_axis(axis))
            && Dim::product(axes.iter().map(|&axis| &self.space[axis])) == body.ty(value).count()
    }
}

struct Walk<'a> {
    body: &'a Graph,
    trace: Trace,
    seen: BTreeSet<(Value, Vec<Index>, BTreeSet<usize>)>,
    /// The row axes of the first reduction.
    along: Option<BTreeSet<usize>>,
    /// Axes along which only a part is computed here: those of the concatenations that read the value.
    cut: BTreeSet<usize>,
}

impl Walk<'_> {
    fn visit(&mut self, value: Value, index: &[Index]) -> Result<(), Obstacle> {
        if !self.seen.insert((value, index.to_vec(), self.cut.clone())) {
            return Ok(());
        }
        let body = self.body;
        let node = &body[value.node];
        if node.op.kind() == Kind::Leaf {
            self.trace.uses.push((value, index.to_vec()));
            return Ok(());
        }
        let operands = body.operands(value.node);
        let types: Vec<&Type> = operands.iter().map(|&operand| body.ty(operand)).collect();
        if let Op::Pad { .. } = node.op {
            return self.visit_pad(node, &operands, types[0], index);
        }
        if let Op::Contract { .. } = node.op {
            self.trace.uses.push((value, index.to_vec()));
        }
        let indices = self.operand_indices(node, &types, index)?;
        let part = match node.op {
            Op::Concat { axis } => self.whole(&index[axis], &node.types[0].shape[axis]),
            _ => None,
        };
        self.cut.extend(part);
        operands.iter().zip(indices).try_for_each(|(&operand, index)| self.visit(operand, &index))?;
        part.map(|axis| self.cut.remove(&axis));
        Ok(())
    }

    /// The iteration axis that the index just is, if it runs along all of an axis of this size.
    fn whole(&self, index: &Index, size: &Dim) -> Option<usize> {
        let [(axis, step)] = index.steps.as_slice() else { return None };
        let all = step.is(1) && index.base.is(0) && self.trace.space[*axis] == *size && !self.cut.contains(axis);
        all.then_some(*axis)
    }

    /// The index of every operand when the result is at `index`.
    fn operand_indices(&mut self, node: &Node, types: &[&Type], index: &[Index]) -> Result<Vec<Vec<Index>>, Obstacle> {
        Ok(match &node.op {
            Op::Reduce { axes, .. } => vec![self.reduced(&types[0].shape, axes, index)?],
            Op::ArgReduce { axis, .. } => vec![self.reduced(&types[0].shape, &[*axis], index)?],
            Op::Scan { axis, .. } => {
                let row = self.whole(&index[*axis], &types[0].shape[*axis]);
                let row = row.ok_or(Obstacle::Opaque("part of a cumulative reduction"))?;
                self.claim(BTreeSet::from([row]))?;
                vec![index.to_vec()]
            }
            Op::Concat { axis } => {
                let size = &node.types[0].shape[*axis];
                self.whole(&index[*axis], size).ok_or(Obstacle::Opaque("part of a joined value"))?;
                if size.as_const().is_none_or(|size| size > JOINED) {
                    return Err(Obstacle::Opaque("values joined along an axis that is long or of unknown size"));
                }
                joined(*axis, types, index)
            }
            Op::Contract { spec, .. } => {
                self.claim_sums(spec, &types[0].shape);
                vec![self.term(&spec.lhs, &spec.out, index), self.term(&spec.rhs, &spec.out, index)]
            }
            op if op.kind() == Kind::Pointwise => types.iter().map(|ty| access::broadcast(&ty.shape, index)).collect(),
            op if op.kind() == Kind::Movement => {
                vec![access::through(op, types[0], &node.types[0], index, &self.trace.space)?]
            }
            _ => return Err(Obstacle::Opaque("an op that is neither point-wise nor a movement nor a reduction")),
        })
    }

    /// The operand's index of a reduction: reduced axes run along row axes, which are found or made.
    fn reduced(&mut self, operand: &[Dim], axes: &[usize], index: &[Index]) -> Result<Vec<Index>, Obstacle> {
        let mut inner = index.to_vec();
        let mut along = BTreeSet::new();
        for &axis in axes {
            let free = |a: usize, inner: &[Index], space: &[Dim]| {
                space[a] == operand[axis] && !self.cut.contains(&a) && !inner.iter().any(|i| !i.step(a).is(0))
            };
            let space = &self.trace.space;
            let known = self.trace.rows.iter().rev().copied().find(|&a| free(a, &inner, space));
            let row = known.or_else(|| (0..space.len()).rev().find(|&a| free(a, &inner, space)));
            let row = row.unwrap_or_else(|| {
                self.trace.space.push(operand[axis].clone());
                self.trace.space.len() - 1
            });
            along.insert(row);
            inner[axis] = Index::axis(row);
        }
        if index.iter().any(|i| i.steps.iter().any(|(axis, _)| along.contains(axis) || self.trace.rows.contains(axis)))
        {
            return Err(Obstacle::Opaque("a reduction of values that are reduced again"));
        }
        self.claim(along)?;
        Ok(inner)
    }

    /// Makes sure that there is an axis for every letter that is summed over.
    fn claim_sums(&mut self, spec: &Contraction, lhs: &[Dim]) {
        for (letter, size) in spec.lhs.iter().zip(lhs).filter(|(letter, _)| !spec.out.contains(letter)) {
            if !self.trace.sums.contains_key(letter) {
                self.trace.sums.insert(*letter, vec![self.trace.space.len()]);
                self.trace.space.push(size.clone());
            }
        }
    }

    /// The index of a contraction's operand with these axis letters.
    fn term(&self, term: &[u8], out: &[u8], index: &[Index]) -> Vec<Index> {
        let space = &self.trace.space;
        let summed = |letter: &u8| {
            let axes = self.trace.sums.get(letter).map(Vec::as_slice).unwrap_or_default();
            axes.iter().fold(Index::fixed(Dim::ZERO), |at, &axis| at.scaled(&space[axis]).plus(&Index::axis(axis)))
        };
        let of =
            |letter: &u8| out.iter().position(|o| o == letter).map_or_else(|| summed(letter), |i| index[i].clone());
        term.iter().map(of).collect()
    }

    fn claim(&mut self, along: BTreeSet<usize>) -> Result<(), Obstacle> {
        self.trace.rows.extend(&along);
        match &self.along {
            Some(first) if *first != along => Err(Obstacle::Opaque("reductions over several sets of axes")),
            Some(_) => Ok(()),
            None => {
                self.along = Some(along);
                Ok(())
            }
        }
    }

    /// What is padded must be a leaf behind transposes: only there "outside the operand" is "outside the leaf".
    fn visit_pad(&mut self, node: &Node, operands: &[Value], ty: &Type, index: &[Index]) -> Result<(), Obstacle> {
        if self.body.constant(operands[1]).is_none() {
            return Err(Obstacle::Opaque("padding with a value that is not a constant"));
        }
        let mut value = operands[0];
        let mut at = access::through(&node.op, ty, &node.types[0], index, &self.trace.space)?;
        loop {
            let node = &self.body[value.node];
            match node.op {
                Op::Input { .. } | Op::Constant { .. } => {
                    self.trace.uses.push((value, at));
                    return Ok(());
                }
                Op::Transpose { .. } => {
                    let inner = self.body.operands(value.node)[0];
                    at = access::through(&node.op, self.body.ty(inner), &node.types[0], &at, &self.trace.space)?;
                    value = inner;
                }
                _ => return Err(Obstacle::Opaque("padding of a computed value")),
            }
        }
    }
}

/// Operands that are joined along `axis`: each starts where the one before ends.
fn joined(axis: usize, types: &[&Type], index: &[Index]) -> Vec<Vec<Index>> {
    let mut offset = Dim::ZERO;
    let part = |ty: &&Type| {
        let mut part = index.to_vec();
        part[axis] = part[axis].plus(&Index::fixed(-offset.clone()));
        offset = offset.clone() + ty.shape[axis].clone();
        part
    };
    types.iter().map(part).collect()
}
