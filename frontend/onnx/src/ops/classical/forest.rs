//! A forest of decision trees as tables, and how it becomes core ops.
//!
//! ```text
//! place [rows, trees] = the roots
//! depth times:  place = children[2·place + (x[feature[place]] ∘ split[place])]      a loop; leaves are their own children
//! scores [rows, targets] = Σ over trees of weights[place]
//! ```

use std::sync::Arc;

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim, Numbers, Overflow, Tensor};

use crate::import::{Ctx, Outcome, invalid, unsupported};

/// How a node compares a feature with its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Compare(BinaryFn),
    Leaf,
}

/// A node; of a leaf only `mode` counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeNode {
    pub mode: Mode,
    pub feature: i64,
    pub split: f64,
    /// Whether a missing value (NaN) goes to `yes`.
    pub missing: bool,
    /// Where to go if the comparison holds, and if not.
    pub yes: usize,
    pub no: usize,
}

impl TreeNode {
    pub const LEAF: TreeNode = TreeNode { mode: Mode::Leaf, feature: 0, split: 0.0, missing: false, yes: 0, no: 0 };
}

/// What a leaf adds to a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub leaf: usize,
    pub target: usize,
    pub value: f64,
}

/// How the trees' weights are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// Trees with the weights of their leaves.
#[derive(Debug)]
pub(super) struct Forest {
    pub nodes: Vec<TreeNode>,
    pub roots: Vec<usize>,
    pub weights: Vec<Weight>,
    pub targets: usize,
    pub aggregate: Aggregate,
}

impl Forest {
    /// The scores `[rows, targets]` of the rows of `x`, in f64 for f64 and else in f32.
    pub fn scores(&self, ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
        let depth = self.check()?;
        let dtype = if ctx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
        let x = ctx.cast(x, dtype)?;
        let x = matrix(ctx, x)?;
        let features = self.nodes.iter().filter(|node| node.mode != Mode::Leaf).map(|node| node.feature).max();
        if let (Some(most), Some(columns)) = (features, ctx.size(x, 1)?.as_const())
            && most >= columns
        {
            return Err(invalid(format!("a node looks at feature {most} of rows of {columns}")));
        }
        let leaves = self.leaves(ctx, x, depth)?;
        self.aggregated(ctx, leaves, dtype)
    }

    /// The depth of the deepest tree.
    ///
    /// # Errors
    /// If a place does not exist, a feature is negative, or a tree is no tree.
    fn check(&self) -> Outcome<usize> {
        let count = self.nodes.len();
        if self.roots.is_empty() || self.roots.iter().any(|&root| root >= count) {
            return Err(invalid("it has no trees, or a root that does not exist"));
        }
        if self.weights.iter().any(|weight| weight.leaf >= count || weight.target >= self.targets) {
            return Err(invalid("a weight belongs to a leaf or target that does not exist"));
        }
        for node in self.nodes.iter().filter(|node| node.mode != Mode::Leaf) {
            if node.yes >= count || node.no >= count || node.feature < 0 {
                return Err(invalid("a node has a child that does not exist, or a negative feature"));
            }
        }
        // Depths from the leaves upwards; a node that is met again on the way down from itself closes a cycle.
        let mut depths: Vec<Option<usize>> = vec![None; count];
        let mut open = vec![false; count];
        for &root in &self.roots {
            let mut stack = vec![root];
            while let Some(&at) = stack.last() {
                let node = self.nodes[at];
                let children = if node.mode == Mode::Leaf { [None; 2] } else { [Some(node.yes), Some(node.no)] };
                let next = children.into_iter().flatten().find(|&child| depths[child].is_none());
                match next {
                    Some(child) if open[child] || child == at => {
                        return Err(invalid("the nodes of a tree form a cycle"));
                    }
                    Some(child) if depths[at].is_none() => {
                        open[at] = true;
                        stack.push(child);
                    }
                    _ => {
                        let below = children.into_iter().flatten().filter_map(|child| depths[child]).max();
                        depths[at] = Some(below.map_or(0, |depth| depth + 1));
                        open[at] = false;
                        stack.pop();
                    }
                }
            }
        }
        Ok(self.roots.iter().filter_map(|&root| depths[root]).max().unwrap_or(0))
    }

    /// The leaf that each row reaches in each tree.
    fn leaves(&self, ctx: &mut Ctx<'_, '_>, x: Value, depth: usize) -> Outcome<Value> {
        let roots: Vec<i64> = self.roots.iter().map(|&root| root as i64).collect();
        let shape = [ctx.size(x, 0)?, Dim::from(roots.len())];
        let roots = table(ctx, DType::I32, &Numbers::Int(roots))?;
        let start = ctx.broadcast(roots, &shape)?;
        if depth == 0 {
            return Ok(start);
        }
        let place = Type::new(DType::I32, shape.to_vec());
        let inputs = [
            ("iteration", Type::new(DType::I64, [])),
            ("condition", Type::new(DType::Bool, [])),
            ("place", place.clone()),
            ("x", ctx.ty(x).clone()),
        ];
        let body = ctx.sub_graph("level", &inputs, &[], &[], |ctx, own, _| {
            ctx.graph.add_output("condition", own[1]);
            let next = self.level(ctx, own[2], own[3])?;
            ctx.graph.add_output("place", next);
            Ok(())
        })?;
        let (trips, goes_on) = (ctx.add_constant(Tensor::scalar(depth as i64)), ctx.scalar(DType::Bool, 1.0));
        let op = Op::Loop { body: Arc::new(body), carried: 1, types: vec![place] };
        ctx.add(op, &[trips, goes_on, start, x])
    }

    /// One step down in each tree.
    fn level(&self, ctx: &mut Ctx<'_, '_>, place: Value, x: Value) -> Outcome<Value> {
        let dtype = ctx.dtype(x);
        let column = |entry: &dyn Fn(&TreeNode) -> i64| Numbers::Int(self.nodes.iter().map(entry).collect());
        let features = table(ctx, DType::I32, &column(&|node| node.feature))?;
        let features = ctx.add(Op::Gather { axis: 0 }, &[features, place])?;
        let value = ctx.add(Op::TakeAlong { axis: 1 }, &[x, features])?;
        let splits = table(ctx, dtype, &Numbers::Float(self.nodes.iter().map(|node| node.split).collect()))?;
        let splits = ctx.add(Op::Gather { axis: 0 }, &[splits, place])?;
        let mut holds = self.compared(ctx, place, value, splits)?;
        if self.nodes.iter().any(|node| node.missing) {
            let follows = table(ctx, DType::Bool, &column(&|node| i64::from(node.missing)))?;
            let follows = ctx.add(Op::Gather { axis: 0 }, &[follows, place])?;
            let missing = ctx.unary(UnaryFn::IsNan, value)?;
            let missing = ctx.binary(BinaryFn::And, missing, follows)?;
            holds = ctx.binary(BinaryFn::Or, holds, missing)?;
        }
        let own = |(at, node): (usize, &TreeNode)| match node.mode {
            Mode::Leaf => [at as i64; 2],
            _ => [node.no as i64, node.yes as i64],
        };
        let children = table(ctx, DType::I32, &Numbers::Int(self.nodes.iter().enumerate().flat_map(own).collect()))?;
        let side = ctx.cast(holds, DType::I32)?;
        let twice = ctx.binary(BinaryFn::Add, place, place)?;
        let at = ctx.binary(BinaryFn::Add, twice, side)?;
        ctx.add(Op::Gather { axis: 0 }, &[children, at])
    }

    /// Whether the comparison of each place's node holds.
    fn compared(&self, ctx: &mut Ctx<'_, '_>, place: Value, value: Value, split: Value) -> Outcome<Value> {
        let mut modes: Vec<BinaryFn> = Vec::new();
        for node in &self.nodes {
            if let Mode::Compare(function) = node.mode
                && !modes.contains(&function)
            {
                modes.push(function);
            }
        }
        let (&first, others) = modes.split_first().ok_or_else(|| invalid("it has no nodes"))?;
        let mut holds = ctx.binary(first, value, split)?;
        for &mode in others {
            let own = |node: &TreeNode| i64::from(node.mode == Mode::Compare(mode));
            let own = table(ctx, DType::Bool, &Numbers::Int(self.nodes.iter().map(own).collect()))?;
            let own = ctx.add(Op::Gather { axis: 0 }, &[own, place])?;
            let other = ctx.binary(mode, value, split)?;
            holds = ctx.select(own, other, holds)?;
        }
        Ok(holds)
    }

    /// The weights of the leaves `[rows, trees]` brought together.
    fn aggregated(&self, ctx: &mut Ctx<'_, '_>, leaves: Value, dtype: DType) -> Outcome<Value> {
        let (count, targets) = (self.nodes.len(), self.targets);
        let (function, none) = match self.aggregate {
            Aggregate::Average | Aggregate::Sum => (ReduceFn::Sum, 0.0),
            Aggregate::Min => (ReduceFn::Min, f64::INFINITY),
            Aggregate::Max => (ReduceFn::Max, f64::NEG_INFINITY),
        };
        let sums = function == ReduceFn::Sum;
        if let Some(by_tree) = self.target_of_trees().filter(|_| sums && targets > 1) {
            return self.by_tree(ctx, leaves, &by_tree, dtype);
        }
        let size = count.checked_mul(targets).filter(|&size| size <= 1 << 28);
        let size = size.ok_or_else(|| unsupported(format!("{count} nodes with {targets} targets")))?;
        let mut weights = vec![none; size];
        for weight in &self.weights {
            let entry = &mut weights[weight.leaf * targets + weight.target];
            *entry = match function {
                ReduceFn::Min => entry.min(weight.value),
                ReduceFn::Max => entry.max(weight.value),
                _ => *entry + weight.value,
            };
        }
        let weights = Tensor::from_numbers(dtype, &[count, targets], &Numbers::Float(weights))?;
        let weights = ctx.add_constant(weights);
        let found = ctx.add(Op::Gather { axis: 0 }, &[weights, leaves])?;
        let scores = ctx.reduce(function, found, &[1])?;
        let scores = ctx.squeeze(scores, &[1])?;
        if sums {
            return self.averaged(ctx, scores);
        }
        // A target that no leaf adds to scores 0.
        let endless = ctx.unary(UnaryFn::IsInf, scores)?;
        let zero = ctx.scalar_like(scores, 0.0);
        ctx.select(endless, zero, scores)
    }

    fn averaged(&self, ctx: &mut Ctx<'_, '_>, scores: Value) -> Outcome<Value> {
        if self.aggregate == Aggregate::Sum {
            return Ok(scores);
        }
        ctx.with_scalar(BinaryFn::Div, scores, self.roots.len() as f64)
    }

    /// The target of each tree, if the leaves of no tree add to several: a class of gradient boosting has trees of its own.
    fn target_of_trees(&self) -> Option<Vec<usize>> {
        let mut target_of = vec![None; self.nodes.len()];
        for weight in &self.weights {
            if target_of[weight.leaf].replace(weight.target).is_some_and(|other| other != weight.target) {
                return None;
            }
        }
        let mut targets = Vec::with_capacity(self.roots.len());
        for &root in &self.roots {
            let (mut stack, mut found, mut steps) = (vec![root], None, 0);
            while let Some(at) = stack.pop() {
                // Nodes that trees share are met often; then the general form has to do.
                steps += 1;
                if steps > self.nodes.len() {
                    return None;
                }
                match self.nodes[at].mode {
                    Mode::Leaf => {
                        if let Some(target) = target_of[at]
                            && found.replace(target).is_some_and(|other| other != target)
                        {
                            return None;
                        }
                    }
                    _ => stack.extend([self.nodes[at].yes, self.nodes[at].no]),
                }
            }
            targets.push(found.unwrap_or(0));
        }
        Some(targets)
    }

    /// The sum of each target's own trees.
    fn by_tree(&self, ctx: &mut Ctx<'_, '_>, leaves: Value, target_of: &[usize], dtype: DType) -> Outcome<Value> {
        let mut weights = vec![0.0; self.nodes.len()];
        for weight in &self.weights {
            weights[weight.leaf] += weight.value;
        }
        let weights = table(ctx, dtype, &Numbers::Float(weights))?;
        let found = ctx.add(Op::Gather { axis: 0 }, &[weights, leaves])?;
        let size = target_of.len().checked_mul(self.targets).filter(|&size| size <= 1 << 28);
        let size = size.ok_or_else(|| unsupported(format!("{} targets", self.targets)))?;
        let mut own = vec![0.0; size];
        for (tree, &target) in target_of.iter().enumerate() {
            own[tree * self.targets + target] = 1.0;
        }
        let own = Tensor::from_numbers(dtype, &[target_of.len(), self.targets], &Numbers::Float(own))?;
        let own = ctx.add_constant(own);
        let scores = ctx.contract("rt,tc->rc", found, own)?;
        self.averaged(ctx, scores)
    }
}

/// A vector of constants.
fn table(ctx: &mut Ctx<'_, '_>, dtype: DType, numbers: &Numbers) -> Outcome<Value> {
    let from = if matches!(numbers, Numbers::Float(_)) { DType::F64 } else { DType::I64 };
    let tensor = Tensor::from_numbers(dtype, &[numbers.len()], &numbers.cast(from, dtype, Overflow::Special))?;
    Ok(ctx.add_constant(tensor))
}

/// A single row as a matrix.
pub(super) fn matrix(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    match ctx.rank(x) {
        1 => ctx.unsqueeze(x, 0),
        2 => Ok(x),
        rank => Err(invalid(format!("its input has {rank} axes instead of rows of features"))),
    }
}
