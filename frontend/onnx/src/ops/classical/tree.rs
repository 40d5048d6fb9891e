//! Ensembles of decision trees: the attributes of the three operators as a [`Forest`].

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Value};
use tarsia_tensor::{DType, Tensor};

use super::{
    forest::{Aggregate, Forest, Mode, TreeNode, Weight, matrix},
    scores::{PostTransform, argmax, class_labels, labelled, transformed, two_classes},
};
use crate::{
    Node,
    import::{Ctx, Outcome, Stop, invalid},
};

fn place(index: i64) -> Outcome<usize> {
    usize::try_from(index).map_err(|_| invalid(format!("a place {index} among its nodes")))
}

/// A list of numbers that is floats, or a tensor `NAME_as_tensor`.
fn numbers<'a>(node: &Node<'a>, name: &str) -> Outcome<Option<Vec<f64>>> {
    if let Some(tensor) = node.attr_tensor_opt(&format!("{name}_as_tensor"))?.filter(|tensor| tensor.count() > 0) {
        return Ok(Some(tensor.numbers()?.to_f64()));
    }
    let list = node.attr_floats_opt(name)?.filter(|list| !list.is_empty());
    Ok(list.map(|list| list.iter().map(|&x| f64::from(x)).collect()))
}

/// TreeEnsemble: nodes and leaves in lists of their own.
pub(super) fn ensemble<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let dtype = ctx.dtype(x);
    let mut forest = plain_forest(node)?;
    forest.aggregate = match node.attr_int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(invalid(format!("`aggregate_function` is {other}"))),
    };
    let transform = PostTransform::of_number(node.attr_int_or("post_transform", 0)?)?;
    let scores = forest.scores(ctx, x)?;
    let scores = transformed(ctx, scores, transform)?;
    ctx.cast(scores, dtype)
}

fn plain_forest<'a>(node: &Node<'a>) -> Outcome<Forest> {
    let (mut nodes, chains) = plain_nodes(node)?;
    let count = nodes.len();
    let weights = node.attr_tensor("leaf_weights")?.numbers()?.to_f64();
    nodes.extend(std::iter::repeat_n(TreeNode::LEAF, weights.len()));
    nodes.extend(chains);
    let targets = node.attr_ints("leaf_targetids")?;
    let most = targets.iter().copied().max().unwrap_or(0).saturating_add(1);
    let targets_count = place(node.attr_int_or("n_targets", most)?)?;
    let weights = weights
        .iter()
        .zip(targets)
        .enumerate()
        .map(|(leaf, (&value, &target))| Ok(Weight { leaf: count + leaf, target: place(target)?, value }));
    Ok(Forest {
        nodes,
        roots: node.attr_ints("tree_roots")?.iter().map(|&root| place(root)).collect::<Outcome<_>>()?,
        weights: weights.collect::<Outcome<_>>()?,
        targets: targets_count,
        aggregate: Aggregate::Sum,
    })
}

/// The comparison that a number means; that with a set is one with its members, one after the other.
fn comparison(mode: i64) -> Outcome<BinaryFn> {
    Ok(match mode {
        0 => BinaryFn::Le,
        1 => BinaryFn::Lt,
        2 => BinaryFn::Ge,
        3 => BinaryFn::Gt,
        4 | MEMBER => BinaryFn::Eq,
        5 => BinaryFn::Ne,
        other => return Err(invalid(format!("a node's mode is {other}"))),
    })
}

/// The mode of a node that tests whether a feature is in a set.
const MEMBER: i64 = 6;

/// The nodes, and those of the chains that stand for tests of sets, which have their places behind the leaves.
fn plain_nodes<'a>(node: &Node<'a>) -> Outcome<(Vec<TreeNode>, Vec<TreeNode>)> {
    let modes = node.attr_tensor("nodes_modes")?.numbers()?.to_i64();
    let splits = node.attr_tensor("nodes_splits")?.numbers()?.to_f64();
    let lists = ["nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs", "nodes_falseleafs"];
    let [features, yes, no, yes_leaf, no_leaf] = lists.map(|name| node.attr_ints(name));
    let (features, yes, no, yes_leaf, no_leaf) = (features?, yes?, no?, yes_leaf?, no_leaf?);
    let missing = node.attr_ints_opt("nodes_missing_value_tracks_true")?.unwrap_or_default();
    let count = modes.len();
    if [splits.len(), features.len(), yes.len(), no.len(), yes_leaf.len(), no_leaf.len()] != [count; 6] {
        return Err(invalid("the lists of its nodes differ in length"));
    }
    let members = node.attr_tensor_opt("membership_values")?.map(|tensor| tensor.numbers()).transpose()?;
    let members = members.map(|numbers| numbers.to_f64()).unwrap_or_default();
    let mut sets = members.split(|member| member.is_nan());
    let behind = count + node.attr_tensor("leaf_weights")?.count();
    let child = |index: i64, leaf: i64| Ok::<usize, Stop>(place(index)? + if leaf != 0 { count } else { 0 });
    let (mut nodes, mut chains) = (Vec::with_capacity(count), Vec::new());
    for (i, &mode) in modes.iter().enumerate() {
        let mut row = TreeNode {
            mode: Mode::Compare(comparison(mode)?),
            feature: features[i],
            split: splits[i],
            missing: missing.get(i).is_some_and(|&tracks| tracks != 0),
            yes: child(yes[i], yes_leaf[i])?,
            no: child(no[i], no_leaf[i])?,
        };
        if mode == MEMBER {
            let set = sets.next().ok_or_else(|| invalid("`membership_values` has fewer sets than nodes ask for"))?;
            row = chain(row, set, behind, &mut chains)?;
        }
        nodes.push(row);
    }
    Ok((nodes, chains))
}

/// The first node of a chain with one node for each member of a set; the others go to `chains`, whose places begin at `behind`.
fn chain(row: TreeNode, set: &[f64], behind: usize, chains: &mut Vec<TreeNode>) -> Outcome<TreeNode> {
    let (&first, rest) = set.split_first().ok_or_else(|| invalid("a set has no members"))?;
    let next = behind + chains.len();
    let start = TreeNode { split: first, no: if rest.is_empty() { row.no } else { next }, ..row };
    for (at, (&member, left)) in (next + 1..).zip(rest.iter().zip((0..rest.len()).rev())) {
        chains.push(TreeNode { split: member, no: if left == 0 { row.no } else { at }, ..row });
    }
    Ok(start)
}

/// The forest of the older operators, whose nodes are named by tree and node, and whose weights are in lists `PREFIX_…`.
fn named_forest<'a>(node: &Node<'a>, prefix: &str, targets: usize) -> Outcome<Forest> {
    let (trees, ids) = (node.attr_ints("nodes_treeids")?, node.attr_ints("nodes_nodeids")?);
    let (features, modes) = (node.attr_ints("nodes_featureids")?, node.attr_strs("nodes_modes")?);
    let (yes, no) = (node.attr_ints("nodes_truenodeids")?, node.attr_ints("nodes_falsenodeids")?);
    let splits = numbers(node, "nodes_values")?.unwrap_or_default();
    let missing = node.attr_ints_opt("nodes_missing_value_tracks_true")?.unwrap_or_default();
    let count = modes.len();
    if [trees.len(), ids.len(), features.len(), yes.len(), no.len(), splits.len()] != [count; 6] {
        return Err(invalid("the lists of its nodes differ in length"));
    }
    let mut places: FxHashMap<(i64, i64), usize> = FxHashMap::default();
    for (at, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
        if places.insert(key, at).is_some() {
            return Err(invalid(format!("node {} of tree {} is there twice", key.1, key.0)));
        }
    }
    let find = |tree: i64, id: i64| {
        let missing = || invalid(format!("there is no node {id} in tree {tree}"));
        places.get(&(tree, id)).copied().ok_or_else(missing)
    };
    let mut nodes = Vec::with_capacity(count);
    let mut is_child = vec![false; count];
    for (i, &mode) in modes.iter().enumerate() {
        if mode == "LEAF" {
            nodes.push(TreeNode::LEAF);
            continue;
        }
        let mode = Mode::Compare(match mode {
            "BRANCH_LEQ" => BinaryFn::Le,
            "BRANCH_LT" => BinaryFn::Lt,
            "BRANCH_GTE" => BinaryFn::Ge,
            "BRANCH_GT" => BinaryFn::Gt,
            "BRANCH_EQ" => BinaryFn::Eq,
            "BRANCH_NEQ" => BinaryFn::Ne,
            other => return Err(invalid(format!("a node's mode is `{other}`"))),
        });
        let (yes, no) = (find(trees[i], yes[i])?, find(trees[i], no[i])?);
        (is_child[yes], is_child[no]) = (true, true);
        let missing = missing.get(i).is_some_and(|&tracks| tracks != 0);
        nodes.push(TreeNode { mode, feature: features[i], split: splits[i], missing, yes, no });
    }
    let roots = (0..count).filter(|&at| !is_child[at]).collect();
    let weights = named_weights(node, prefix, &find)?;
    Ok(Forest { nodes, roots, weights, targets, aggregate: Aggregate::Sum })
}

fn named_weights<'a>(node: &Node<'a>, prefix: &str, find: &dyn Fn(i64, i64) -> Outcome<usize>) -> Outcome<Vec<Weight>> {
    let list = |name: &str| node.attr_ints(&format!("{prefix}_{name}"));
    let (trees, nodes, ids) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let values = numbers(node, &format!("{prefix}_weights"))?.unwrap_or_default();
    if [trees.len(), nodes.len(), ids.len()] != [values.len(); 3] {
        return Err(invalid("the lists of its weights differ in length"));
    }
    let weight =
        |(i, &value): (usize, &f64)| Ok(Weight { leaf: find(trees[i], nodes[i])?, target: place(ids[i])?, value });
    values.iter().enumerate().map(weight).collect()
}

/// Scores with the base values added, if there are as many as targets.
fn based(ctx: &mut Ctx<'_, '_>, scores: Value, base: &[f64]) -> Outcome<Value> {
    let columns = ctx.size(scores, 1)?.as_usize().unwrap_or(0);
    if base.is_empty() {
        return Ok(scores);
    }
    if base.len() != columns && base.len() != 1 {
        return Err(invalid(format!("{} base values for {columns} targets", base.len())));
    }
    let dtype = ctx.dtype(scores);
    let base = Tensor::from_numbers(dtype, &[base.len()], &tarsia_tensor::Numbers::Float(base.to_vec()))?;
    let base = ctx.add_constant(base);
    ctx.binary(BinaryFn::Add, scores, base)
}

pub(super) fn regressor<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let most = node.attr_ints("target_ids")?.iter().copied().max().unwrap_or(0).saturating_add(1);
    let mut forest = named_forest(node, "target", place(node.attr_int_or("n_targets", most)?)?)?;
    forest.aggregate = match node.attr_str_or("aggregate_function", "SUM")? {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(invalid(format!("`aggregate_function` is `{other}`"))),
    };
    let transform = PostTransform::of_node(node)?;
    let scores = forest.scores(ctx, x)?;
    let scores = based(ctx, scores, &numbers(node, "base_values")?.unwrap_or_default())?;
    let scores = transformed(ctx, scores, transform)?;
    ctx.cast(scores, DType::F32)
}

/// Labels and scores. Two classes of which the leaves weigh only one are a binary decision: its threshold is 1/2 where all weights are
/// positive (they are probabilities), and else 0.
pub(super) fn classifier<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let x = matrix(ctx, x)?;
    let labels = class_labels(ctx, node, "classlabels_int64s")?;
    let ids = node.attr_ints("class_ids")?;
    let most = ids.iter().copied().max().unwrap_or(0).saturating_add(1);
    let mut forest = named_forest(node, "class", labels.count().max(place(most)?))?;
    let base = numbers(node, "base_values")?.unwrap_or_default();
    let transform = PostTransform::of_node(node)?;
    let only = ids.first().filter(|first| ids.iter().all(|id| id == *first)).copied();
    let binary = only.is_some() && labels.count() <= 2;
    if !binary {
        let scores = forest.scores(ctx, x)?;
        let scores = based(ctx, scores, &base)?;
        let best = argmax(ctx, scores)?;
        let scores = transformed(ctx, scores, transform)?;
        let scores = ctx.cast(scores, DType::F32)?;
        return Ok(vec![labelled(ctx, &labels, best)?, scores]);
    }
    let positive = forest.weights.iter().all(|weight| weight.value >= 0.0);
    forest.weights.iter_mut().for_each(|weight| weight.target = 0);
    forest.targets = 1;
    let score = forest.scores(ctx, x)?;
    let score = based(ctx, score, base.last().map_or(&[], std::slice::from_ref))?;
    let threshold = if positive && labels.count() == 2 { 0.5 } else { 0.0 };
    let above = ctx.with_scalar(BinaryFn::Gt, score, threshold)?;
    let best = ctx.cast(above, DType::I64)?;
    let rows = ctx.size(score, 0)?;
    let best = ctx.reshape(best, &[rows])?;
    let scores = match labels.count() {
        2 => two_classes(ctx, score, transform, positive)?,
        _ => transformed(ctx, score, transform)?,
    };
    let scores = ctx.cast(scores, DType::F32)?;
    Ok(vec![labelled(ctx, &labels, best)?, scores])
}
