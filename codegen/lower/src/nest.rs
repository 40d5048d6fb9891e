//! The iteration space of a kernel: its axes, how every leaf is accessed along them, and which neighbours can be one axis.
//!
//! Tracing walks the body from the root to the leaves, carrying the index of each value. Where a reshape needs a finer
//! axis, the space is refined and the walk starts again. Reductions are over *row axes*: an axis of the space that the
//! reduction's result does not depend on, or a new one.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use tarsia_graph::{
    Graph, Kind, Node, Op, Type, Value,
    access::{self, Index, Obstacle},
};
use tarsia_tensor::{DType, Dim};

/// The traced space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nest {
    /// Axis sizes.
    pub space: Vec<Dim>,
    /// Index of each root (all of one shape).
    pub root: Vec<Index>,
    /// Axes that reductions run over.
    pub rows: BTreeSet<usize>,
    /// Axes that a contraction sums over, per letter (several where one had to be split).
    pub sums: BTreeMap<u8, Vec<usize>>,
    /// Runs of axes that count as one; every axis is in one run.
    pub groups: Vec<Vec<usize>>,
    /// Groups along which a whole axis must be in a tile: concatenation needs that.
    pub whole: BTreeSet<usize>,
}

/// How a leaf is read.
struct Use {
    shape: Vec<Dim>,
    index: Vec<Index>,
    /// Keeps its axes apart: the index may leave the range, or the value is the index itself.
    separate: bool,
}

impl Nest {
    /// Traces `roots`, all of the first one's shape.
    pub fn trace(body: &Graph, roots: &[Value]) -> Result<Nest, String> {
        Nest::trace_until(body, roots, &|_| false)
    }

    /// Traces down to leaves and to the values that `stop` picks, whose axes stay apart.
    pub fn trace_until(body: &Graph, roots: &[Value], stop: &dyn Fn(Value) -> bool) -> Result<Nest, String> {
        let shape = body.ty(*roots.first().ok_or("a kernel without results")?).shape.clone();
        let mut nest = Nest::default();
        for size in &shape {
            // Axes of size 1 are no axes of the space.
            nest.root.push(if size.is(1) { Index::fixed(Dim::ZERO) } else { Index::axis(nest.space.len()) });
            if !size.is(1) {
                nest.space.push(size.clone());
            }
        }
        const REFINEMENTS: usize = 64;
        for _ in 0..REFINEMENTS {
            let mut walk = Walk { body, stop, nest: &mut nest, uses: Vec::new(), seen: BTreeSet::new() };
            let start = walk.nest.root.clone();
            let result = roots.iter().try_for_each(|&root| walk.visit(root, &start));
            let mut uses = walk.uses;
            match result {
                Ok(()) => {
                    uses.push(Use { shape: shape.clone(), index: nest.root.clone(), separate: false });
                    nest.merge(&uses);
                    return Ok(nest);
                }
                Err(Obstacle::Opaque(reason)) => return Err(reason.to_owned()),
                Err(Obstacle::Refine { axis, sizes }) => nest.refine(axis, &sizes),
            }
        }
        Err("the axes cannot be refined far enough".to_owned())
    }

    /// Splits an axis. Row axes are found anew by the next walk.
    fn refine(&mut self, axis: usize, sizes: &[Dim]) {
        self.space.splice(axis..=axis, sizes.iter().cloned());
        self.root = self.root.iter().map(|index| index.refined(axis, sizes)).collect();
        self.rows.clear();
        self.whole.clear();
        for axes in self.sums.values_mut() {
            *axes = axes
                .iter()
                .flat_map(|&a| match a.cmp(&axis) {
                    Ordering::Less => a..a + 1,
                    Ordering::Equal => a..a + sizes.len(),
                    Ordering::Greater => a + sizes.len() - 1..a + sizes.len(),
                })
                .collect();
        }
        if !self.sums.is_empty() {
            return;
        }
        // Axes beyond the root's were added for reductions; the next walk adds them again.
        let used = self.root.iter().flat_map(|index| index.steps.iter().map(|(axis, _)| axis + 1)).max().unwrap_or(0);
        self.space.truncate(used);
    }

    /// The index of every operand of `node` when the node's result is at `index`.
    pub fn operand_indices(
        &self,
        node: &Node,
        operands: &[&Type],
        index: &[Index],
    ) -> Result<Vec<Vec<Index>>, Obstacle> {
        match &node.op {
            Op::Reduce { axes, .. } => Ok(vec![self.reduced_index(&operands[0].shape, axes, index)?]),
            Op::ArgReduce { axis, .. } => Ok(vec![self.reduced_index(&operands[0].shape, &[*axis], index)?]),
            Op::Scan { .. } => Ok(vec![index.to_vec()]),
            Op::Contract { spec, .. } => {
                Ok(vec![self.term_index(&spec.lhs, &spec.out, index), self.term_index(&spec.rhs, &spec.out, index)])
            }
            Op::Conv { .. } => self.conv_indices(&node.op, operands, index),
            Op::Attention { .. } => self.attention_indices(operands, index),
            op if op.kind() == Kind::Pointwise => {
                Ok(operands.iter().map(|ty| access::broadcast(&ty.shape, index)).collect())
            }
            Op::Pad { .. } => {
                let moved = access::through(&node.op, operands[0], &node.types[0], index, &self.space)?;
                Ok(vec![moved, Vec::new()])
            }
            Op::Concat { axis } => {
                let mut offset = Dim::ZERO;
                let parts = operands.iter().map(|ty| {
                    let mut part = index.to_vec();
                    part[*axis] = part[*axis].plus(&Index::fixed(-offset.clone()));
                    offset = offset.clone() + ty.shape[*axis].clone();
                    part
                });
                Ok(parts.collect())
            }
            _ => Ok(vec![access::through(&node.op, operands[0], &node.types[0], index, &self.space)?]),
        }
    }

    /// Reduced axes run along row axes.
    fn reduced_index(&self, operand: &[Dim], axes: &[usize], index: &[Index]) -> Result<Vec<Index>, Obstacle> {
        let mut inner = index.to_vec();
        // From the last one, as rows are searched: axes of one size keep their order, and can be merged.
        for &axis in axes.iter().rev() {
            let row = self
                .row_axis(&operand[axis], &inner)
                .ok_or(Obstacle::Opaque("a reduction over several sets of axes"))?;
            inner[axis] = Index::axis(row);
        }
        Ok(inner)
    }

    /// Index of input and weights of a convolution: sum 0 runs over a group's channels, sum `1 + i` over window axis `i`.
    fn conv_indices(&self, op: &Op, operands: &[&Type], index: &[Index]) -> Result<Vec<Vec<Index>>, Obstacle> {
        let Op::Conv { strides, low, dilations, groups, .. } = op else {
            return Err(Obstacle::Opaque("not a convolution"));
        };
        let weights = &operands[1].shape;
        let per_group = weights[0].floor_div(&Dim::from(*groups));
        let split = Type::new(operands[1].dtype, vec![Dim::from(*groups), per_group]);
        let flat = Type::new(operands[1].dtype, vec![weights[0].clone()]);
        let reshape = Op::Reshape { shape: flat.shape.clone() };
        let group = access::through(&reshape, &split, &flat, &index[1..2], &self.space)?.swap_remove(0);
        let sum = |key: usize| self.sums.get(&(key as u8)).map_or(Index::fixed(Dim::ZERO), |axes| Index::axis(axes[0]));
        let mut input = vec![index[0].clone(), group.scaled(&weights[1]).plus(&sum(0))];
        let mut filter = vec![index[1].clone(), sum(0)];
        for i in 0..strides.len() {
            let along = index[i + 2].scaled(&Dim::from(strides[i])).plus(&sum(i + 1).scaled(&Dim::from(dilations[i])));
            input.push(along.plus(&Index::fixed(-Dim::from(low[i]))));
            filter.push(sum(i + 1));
        }
        Ok(vec![input, filter])
    }

    /// Index of query, key, value and mask: sum 0 runs over the head, sum 1 over the keys.
    fn attention_indices(&self, operands: &[&Type], index: &[Index]) -> Result<Vec<Vec<Index>>, Obstacle> {
        let (heads, groups) = (&operands[0].shape[1], &operands[1].shape[1]);
        let dtype = operands[0].dtype;
        let flat = Type::new(dtype, vec![heads.clone()]);
        let split = Type::new(dtype, vec![groups.clone(), heads.floor_div(groups)]);
        let reshape = Op::Reshape { shape: flat.shape.clone() };
        let group = access::through(&reshape, &split, &flat, &index[1..2], &self.space)?.swap_remove(0);
        let sum = |key: u8| self.sums.get(&key).map_or(Index::fixed(Dim::ZERO), |axes| Index::axis(axes[0]));
        let (head, key) = (sum(0), sum(1));
        let [batch, head_index, row, column] = index else { return Err(Obstacle::Opaque("attention of another rank")) };
        let mut indices = vec![
            vec![batch.clone(), head_index.clone(), row.clone(), head.clone()],
            vec![batch.clone(), group.clone(), key.clone(), head],
            vec![batch.clone(), group, key.clone(), column.clone()],
        ];
        if let Some(mask) = operands.get(3) {
            indices.push(access::broadcast(&mask.shape, &[batch.clone(), head_index.clone(), row.clone(), key]));
        }
        Ok(indices)
    }

    /// The index of a contraction's operand with these axis letters.
    fn term_index(&self, term: &[u8], out: &[u8], index: &[Index]) -> Vec<Index> {
        let summed = |l: &u8| {
            let axes = self.sums.get(l).map(Vec::as_slice).unwrap_or_default();
            axes.iter().fold(Index::fixed(Dim::ZERO), |at, &axis| at.scaled(&self.space[axis]).plus(&Index::axis(axis)))
        };
        term.iter().map(|l| out.iter().position(|o| o == l).map_or_else(|| summed(l), |i| index[i].clone())).collect()
    }

    /// The index at which the computation of `from` at `index` needs `value`, if there is just one.
    pub fn index_of(&self, body: &Graph, from: Value, index: &[Index], value: Value) -> Option<Vec<Index>> {
        let mut found: Option<Vec<Index>> = None;
        let mut stack = vec![(from, index.to_vec())];
        let mut seen = BTreeSet::new();
        while let Some((at, index)) = stack.pop() {
            if at == value {
                if found.as_ref().is_some_and(|other| *other != index) {
                    return None;
                }
                found = Some(index);
            } else if at.node > value.node && seen.insert((at, index.clone())) {
                let operands = body.operands(at.node);
                if operands.is_empty() {
                    continue;
                }
                let types: Vec<&Type> = operands.iter().map(|&operand| body.ty(operand)).collect();
                let indices = self.operand_indices(&body[at.node], &types, &index).ok()?;
                stack.extend(operands.iter().copied().zip(indices));
            }
        }
        found
    }

    /// Whether a contraction sums along a group.
    pub fn is_sum(&self, group: usize) -> bool {
        self.groups[group].iter().any(|axis| self.sums.values().any(|axes| axes.contains(axis)))
    }

    /// A row axis of this size that `index` does not depend on.
    fn row_axis(&self, size: &Dim, index: &[Index]) -> Option<usize> {
        let free = |axis: &usize| self.space[*axis] == *size && !index.iter().any(|i| !i.step(*axis).is(0));
        self.rows.iter().rev().copied().find(free)
    }

    /// Merges neighbours that every access steps through as one.
    fn merge(&mut self, uses: &[Use]) {
        let strides: Vec<Vec<Dim>> = uses.iter().map(|used| self.strides(used)).collect();
        let depends = |used: &Use, axis: usize| used.index.iter().any(|i| !i.step(axis).is(0));
        let one = |a: usize, b: usize| {
            let summed = |axis: usize| self.sums.values().any(|axes| axes.contains(&axis));
            self.rows.contains(&a) == self.rows.contains(&b)
                && summed(a) == summed(b)
                && !self.whole.contains(&a)
                && !self.whole.contains(&b)
                && uses.iter().zip(&strides).all(|(used, stride)| {
                    !(used.separate && (depends(used, a) || depends(used, b)))
                        && stride[a] == stride[b].clone() * self.space[b].clone()
                        && depends(used, a) == depends(used, b)
                })
        };
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for axis in 0..self.space.len() {
            match groups.last_mut() {
                Some(group) if group.last().is_some_and(|&last| one(last, axis)) => group.push(axis),
                _ => groups.push(vec![axis]),
            }
        }
        self.groups = groups;
    }

    /// The distance in elements between neighbours along every axis of the space.
    fn strides(&self, used: &Use) -> Vec<Dim> {
        let linear = linear(&used.shape, &used.index);
        (0..self.space.len()).map(|axis| linear.step(axis)).collect()
    }

    /// Splits groups along which an array of `shape` is not stepped through as one at `place`.
    pub fn separate_output(&mut self, shape: &[Dim], place: &[Index]) {
        let position = linear(shape, place);
        let whole = |a: usize, b: usize| position.step(a) == position.step(b) * self.space[b].clone();
        self.groups =
            self.groups.iter().flat_map(|group| group.chunk_by(|&a, &b| whole(a, b)).map(<[usize]>::to_vec)).collect();
    }

    /// A new group of size 1.
    pub fn unit_group(&mut self) -> usize {
        self.groups.push(Vec::new());
        self.groups.len() - 1
    }

    /// The group that an index runs along, together with axes that every access steps through as one; a new group of size 1 for
    /// a fixed index.
    pub fn group_of(&mut self, index: &Index) -> Option<usize> {
        match index.steps.as_slice() {
            [] => Some(self.unit_group()),
            [(axis, step)] if step.is(1) && index.base.is(0) => {
                self.groups.iter().position(|group| group.last() == Some(axis))
            }
            _ => None,
        }
    }

    /// Size of a group.
    pub fn size(&self, group: usize) -> Dim {
        Dim::product(self.groups[group].iter().map(|&axis| &self.space[axis]))
    }

    /// Whether reductions run along a group.
    pub fn is_row(&self, group: usize) -> bool {
        self.groups[group].iter().any(|axis| self.rows.contains(axis))
    }

    /// Whether a group's axis must be whole in a tile.
    pub fn is_whole(&self, group: usize) -> bool {
        self.groups[group].iter().any(|axis| self.whole.contains(axis))
    }

    /// Whether an index depends on a group.
    pub fn depends(&self, index: &[Index], group: usize) -> bool {
        self.groups[group].iter().any(|&axis| index.iter().any(|i| !i.step(axis).is(0)))
    }
}

/// The row-major position of an index in an array of this shape.
pub(crate) fn linear(shape: &[Dim], index: &[Index]) -> Index {
    let start = Index::fixed(Dim::ZERO);
    shape.iter().zip(index).fold(start, |position, (size, index)| position.scaled(size).plus(index))
}

struct Walk<'a> {
    body: &'a Graph,
    stop: &'a dyn Fn(Value) -> bool,
    nest: &'a mut Nest,
    uses: Vec<Use>,
    seen: BTreeSet<(Value, Vec<Index>)>,
}

impl Walk<'_> {
    fn visit(&mut self, value: Value, index: &[Index]) -> Result<(), Obstacle> {
        if !self.seen.insert((value, index.to_vec())) {
            return Ok(());
        }
        let node = &self.body[value.node];
        let ty = self.body.ty(value);
        if (self.stop)(value) {
            self.uses.push(Use { shape: ty.shape.clone(), index: index.to_vec(), separate: true });
            return Ok(());
        }
        let operands = self.body.operands(value.node);
        let types: Vec<&Type> = operands.iter().map(|&operand| self.body.ty(operand)).collect();
        match &node.op {
            Op::Input { .. } | Op::Constant { .. } => {
                self.uses.push(Use { shape: ty.shape.clone(), index: index.to_vec(), separate: false });
                return Ok(());
            }
            Op::Iota { .. } | Op::Random { .. } | Op::Size { .. } => {
                self.uses.push(Use { shape: ty.shape.clone(), index: index.to_vec(), separate: true });
                return Ok(());
            }
            Op::Reduce { axes, .. } => self.claim_rows(&types[0].shape, axes, index),
            Op::ArgReduce { axis, .. } => self.claim_rows(&types[0].shape, &[*axis], index),
            Op::Scan { axis, .. } => match index[*axis].steps.as_slice() {
                [(row, step)] if step.is(1) && index[*axis].base.is(0) => {
                    self.nest.rows.insert(*row);
                }
                _ => return Err(Obstacle::Opaque("part of a cumulative reduction")),
            },
            Op::Contract { spec, .. } => {
                for (letter, size) in spec.lhs.iter().zip(&types[0].shape).filter(|(l, _)| !spec.out.contains(l)) {
                    if !self.nest.sums.contains_key(letter) {
                        self.nest.sums.insert(*letter, vec![self.nest.space.len()]);
                        self.nest.space.push(size.clone());
                    }
                }
            }
            Op::Attention { .. } => {
                for (key, size) in [(0, &types[0].shape[3]), (1, &types[1].shape[2])] {
                    if !size.is(1) && !self.nest.sums.contains_key(&key) {
                        self.nest.sums.insert(key, vec![self.nest.space.len()]);
                        self.nest.space.push(size.clone());
                    }
                }
            }
            Op::Conv { .. } => return self.conv_use(node, &operands, &types, index),
            Op::Pad { .. } => self.pad_use(operands[0], &node.op, ty, index)?,
            Op::Concat { axis } => match index[*axis].steps.as_slice() {
                [(whole, step)] if step.is(1) && index[*axis].base.is(0) => {
                    self.nest.whole.insert(*whole);
                }
                _ => return Err(Obstacle::Opaque("part of a concatenation")),
            },
            op if matches!(op.kind(), Kind::Pointwise | Kind::Movement) => {}
            _ => return Err(Obstacle::Opaque("an op that is neither point-wise nor a movement")),
        }
        let indices = self.nest.operand_indices(node, &types, index)?;
        for (operand, index) in operands.iter().zip(indices) {
            if matches!(node.op, Op::Pad { .. }) && Some(operand) == operands.get(1) {
                continue;
            }
            self.visit(*operand, &index)?;
        }
        Ok(())
    }

    /// Makes sure that there is a row axis for every reduced axis; new ones are in the order of the reduced axes.
    fn claim_rows(&mut self, operand: &[Dim], axes: &[usize], index: &[Index]) {
        let (mut inner, mut missing) = (index.to_vec(), Vec::new());
        for &axis in axes.iter().rev() {
            let free = |a: &usize| self.nest.space[*a] == operand[axis] && !inner.iter().any(|i| !i.step(*a).is(0));
            let row = self.nest.row_axis(&operand[axis], &inner);
            let Some(row) = row.or_else(|| (0..self.nest.space.len()).rev().find(free)) else {
                missing.push(axis);
                continue;
            };
            self.nest.rows.insert(row);
            inner[axis] = Index::axis(row);
        }
        for axis in missing.into_iter().rev() {
            self.nest.rows.insert(self.nest.space.len());
            self.nest.space.push(operand[axis].clone());
        }
    }

    /// Sum axes of a convolution, and its input, which is read with its axes apart where the window may leave it.
    fn conv_use(&mut self, node: &Node, operands: &[Value], types: &[&Type], index: &[Index]) -> Result<(), Obstacle> {
        let Op::Conv { low, high, .. } = &node.op else { return Ok(()) };
        for (key, size) in types[1].shape[1..].iter().enumerate().filter(|(_, size)| !size.is(1)) {
            if !self.nest.sums.contains_key(&(key as u8)) {
                self.nest.sums.insert(key as u8, vec![self.nest.space.len()]);
                self.nest.space.push(size.clone());
            }
        }
        let mut indices = self.nest.operand_indices(node, types, index)?;
        let filter = indices.pop().unwrap_or_default();
        let input = indices.pop().unwrap_or_default();
        let separate = low.iter().chain(high).any(|&padding| padding > 0);
        self.leaf_use(operands[0], input, separate, "a convolution of a computed value")?;
        self.visit(operands[1], &filter)
    }

    /// The operand of a pad is read with its axes apart; it must be a leaf behind movements.
    fn pad_use(&mut self, operand: Value, pad: &Op, result: &Type, index: &[Index]) -> Result<(), Obstacle> {
        let at = access::through(pad, self.body.ty(operand), result, index, &self.nest.space)?;
        self.leaf_use(operand, at, true, "padding of a computed value")
    }

    /// A leaf behind permutations.
    fn leaf_use(
        &mut self,
        mut value: Value,
        mut at: Vec<Index>,
        separate: bool,
        otherwise: &'static str,
    ) -> Result<(), Obstacle> {
        loop {
            let node = &self.body[value.node];
            match node.op {
                Op::Input { .. } | Op::Constant { .. } => {
                    self.uses.push(Use { shape: node.types[0].shape.clone(), index: at, separate });
                    return Ok(());
                }
                // Only these keep "out of the operand" the same as "out of the leaf".
                Op::Transpose { .. } => {
                    let inner = self.body.operands(value.node)[0];
                    at = access::through(&node.op, self.body.ty(inner), &node.types[0], &at, &self.nest.space)?;
                    value = inner;
                }
                _ => return Err(Obstacle::Opaque(otherwise)),
            }
        }
    }
}

/// The type that a value of `dtype` is computed in: narrow floats in f32, packed integers in bytes.
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 | DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => {
            DType::F32
        }
        DType::F8E8M0 | DType::F4E2M1 => DType::F32,
        other => stored_dtype(other),
    }
}

/// The type that device memory holds for values of `dtype`: packed integers take a byte each.
pub(crate) fn stored_dtype(dtype: DType) -> DType {
    match dtype {
        DType::I2 | DType::I4 => DType::I8,
        DType::U2 | DType::U4 => DType::U8,
        DType::F4E2M1 => DType::F8E4M3FN,
        other => other,
    }
}
