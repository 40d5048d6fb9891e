//! The one predicate for bodies of kernels: what covering may form and lowering has to accept.

use crate::{Graph, GraphError, KernelKind, Kind, NodeId, Op, Value, classify, composite, kernel::trace::Trace};

/// The kind of kernel that `body` is.
///
/// | kind | besides what `classify` asks for |
/// |---|---|
/// | `map`, `rows` | every index is affine ([`Trace`]); composites count as their expansion; a concatenation as the result is one map for each part |
/// | `contract` | operands are inputs behind conversions and affine movements; the epilogue meets each element of the product once |
/// | `conv`, `window`, `index` | operands are inputs; the epilogue is point-wise; scatters have none |
/// | `routed` | operands are inputs; rows, ids and result in one order, one axis summed, one of columns; no epilogue |
/// | `attention` | query, key, value as the operands of `contract`, their rows and columns whole axes, the mask a map; no epilogue |
/// | `order` | alone, on an input |
///
/// # Errors
/// Why it is no kernel, in words.
pub fn legal(body: &Graph) -> Result<KernelKind, String> {
    let (kind, anchors) = classify(body)?;
    let roots: Vec<Value> = body.outputs().iter().map(|output| output.value).collect();
    if body.node_ids().any(|id| body[id].types.iter().any(|ty| !ty.dtype.is_numeric())) {
        return Err("strings are handled by the host".to_owned());
    }
    if roots.is_empty() {
        return Err("a kernel has no result".to_owned());
    }
    if !matches!(kind, KernelKind::Map | KernelKind::Rows | KernelKind::Order) && roots.len() > 1 {
        return Err(format!("a {kind} kernel has one result"));
    }
    let one = || anchors.first().copied().ok_or_else(|| "the anchor is missing".to_owned());
    match kind {
        KernelKind::Map | KernelKind::Rows => {
            let (body, roots) = expanded(body, &roots).map_err(|error| error.to_string())?;
            element_wise(&body, &roots)?;
        }
        KernelKind::Contract => contract(body, one()?, roots[0])?,
        KernelKind::Attention => attention(body, one()?, roots[0])?,
        KernelKind::Conv | KernelKind::Window | KernelKind::Index => windowed(body, one()?, roots[0])?,
        KernelKind::Routed => routed(body, one()?, roots[0])?,
        KernelKind::Order => order(body, one()?, &roots)?,
    }
    Ok(kind)
}

fn is_input(body: &Graph, value: Value) -> bool {
    matches!(body[value.node].op, Op::Input { .. })
}

/// Maps and reductions. A joining at the root is one map for each part, of any length.
fn element_wise(body: &Graph, roots: &[Value]) -> Result<(), String> {
    if let [root] = roots
        && let Op::Concat { .. } = body[root.node].op
    {
        for &part in &body.operands(root.node) {
            if !Trace::of(body, &[part])?.rows.is_empty() {
                return Err("a reduction in a part of a joined value".to_owned());
            }
        }
        return Ok(());
    }
    Trace::of(body, roots).map(|_| ())
}

/// A copy of a body in which composites that anchor no kernel of their own kind (all but attention and the routed
/// contraction) are replaced by their expansion, with the values of `roots` in it.
///
/// # Errors
/// Never for a body whose nodes type-check.
pub fn expanded(body: &Graph, roots: &[Value]) -> Result<(Graph, Vec<Value>), GraphError> {
    let expands = |op: &Op| op.kind() == Kind::Composite && !matches!(op, Op::Attention { .. } | Op::Routed { .. });
    if !body.node_ids().any(|id| expands(&body[id].op)) {
        return Ok((body.clone(), roots.to_vec()));
    }
    let mut copy = Graph::new(&body.name);
    let mut place: Vec<NodeId> = Vec::with_capacity(body.node_count());
    for id in body.node_ids() {
        let node = &body[id];
        let operands: Vec<Value> =
            body.operands(id).iter().map(|v| Value { node: place[v.node.index()], output: v.output }).collect();
        place.push(match &node.op {
            Op::Input { index, types } => {
                copy.add_input(&body.inputs()[*index].0, types.first().unwrap_or(&node.types[0]).clone()).node
            }
            op if expands(op) => match composite::expand(&mut copy, op, &operands, &node.origin)? {
                Some(value) => value.node,
                None => copy.add(op.clone(), &operands, node.origin.clone())?,
            },
            op => copy.add(op.clone(), &operands, node.origin.clone())?,
        });
    }
    let moved = |value: &Value| Value { node: place[value.node.index()], output: value.output };
    for output in body.outputs() {
        copy.add_output(&output.name, moved(&output.value));
    }
    let roots = roots.iter().map(moved).collect();
    Ok((copy, roots))
}

/// Whether `node` is the anchor or computed from it, per node.
fn behind(body: &Graph, anchor: NodeId) -> Vec<bool> {
    let mut behind = vec![false; body.node_count()];
    for id in body.node_ids() {
        behind[id.index()] = id == anchor || body.operands(id).iter().any(|value| behind[value.node.index()]);
    }
    behind
}

fn contract(body: &Graph, anchor: NodeId, root: Value) -> Result<(), String> {
    if !body.operands(anchor).iter().all(|&operand| is_moved_input(body, operand)) {
        return Err("an operand that is more than a moved or converted input".to_owned());
    }
    let (body, roots) = expanded(body, &[Value::from(anchor), root]).map_err(|error| error.to_string())?;
    let (product, root) = (roots[0], roots[1]);
    epilogue_ops(&body, product.node, |op| {
        op.kind() == Kind::Pointwise || matches!(op, Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. })
    })?;
    if Trace::of(&body, &[root])?.visits_once(&body, product) {
        Ok(())
    } else {
        Err("the epilogue does not meet each element of the product exactly once".to_owned())
    }
}

/// Everything that is neither a leaf nor before the anchor must be allowed.
fn epilogue_ops(body: &Graph, anchor: NodeId, allowed: impl Fn(&Op) -> bool) -> Result<(), String> {
    let mut before = vec![false; body.node_count()];
    before[anchor.index()] = true;
    for id in body.node_ids().rev().filter(|id| id.index() <= anchor.index()) {
        if before[id.index()] {
            body.operands(id).iter().for_each(|value| before[value.node.index()] = true);
        }
    }
    let behind = behind(body, anchor);
    for id in body.node_ids() {
        let op = &body[id].op;
        let leaf = matches!(op, Op::Input { .. } | Op::Constant { .. } | Op::Size { .. });
        if id == anchor || leaf {
            continue;
        }
        if before[id.index()] && body.users(id).iter().any(|(user, _)| *user != anchor && behind[user.index()]) {
            return Err("an operand of the anchor that the epilogue needs too".to_owned());
        }
        if !before[id.index()] && !allowed(op) {
            return Err(format!("`{}` in the epilogue", op.name()));
        }
    }
    Ok(())
}

/// Whether an op may stand between an input and a matrix product: a conversion or a movement of one operand.
pub fn moves_operand(op: &Op) -> bool {
    matches!(op, Op::Cast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. })
}

/// Whether a value is an input behind conversions and movements of one operand.
fn is_moved_input(body: &Graph, value: Value) -> bool {
    let mut value = value;
    loop {
        match &body[value.node].op {
            Op::Input { .. } => return true,
            op if moves_operand(op) => value = body.operands(value.node)[0],
            _ => return false,
        }
    }
}

/// Whether keys are inputs side by side along the head's elements: a compressed cache keeps what is rotated apart.
fn is_joined_head(body: &Graph, value: Value) -> bool {
    let last = body.ty(value).rank().wrapping_sub(1);
    matches!(body[value.node].op, Op::Concat { axis } if axis == last)
        && body.operands(value.node).iter().all(|&part| is_moved_input(body, part))
}

fn attention(body: &Graph, anchor: NodeId, root: Value) -> Result<(), String> {
    if root != Value::from(anchor) {
        return Err("attention has no epilogue".to_owned());
    }
    let operands = body.operands(anchor);
    for (at, &operand) in operands.iter().take(3).enumerate() {
        let is_joined_key = at == 1 && is_joined_head(body, operand);
        if !is_joined_key && !is_moved_input(body, operand) {
            return Err("query, key or value is more than a moved or converted input".to_owned());
        }
        Trace::of(body, &[operand])?;
    }
    if let Some(&mask) = operands.get(3) {
        let (body, roots) = expanded(body, &[mask]).map_err(|error| error.to_string())?;
        let trace = Trace::of(&body, &roots)?;
        if !trace.rows.is_empty() {
            return Err("a reduction in the mask".to_owned());
        }
    }
    Ok(())
}

/// Rows are the leading axes of the ids, in the result too; one axis of the chosen matrices is summed, the other stays.
fn routed(body: &Graph, anchor: NodeId, root: Value) -> Result<(), String> {
    if root != Value::from(anchor) {
        return Err("a routed contraction has no epilogue".to_owned());
    }
    let operands = body.operands(anchor);
    let (Op::Routed { spec, .. }, [x, _, ids]) = (&body[anchor].op, operands.as_slice()) else {
        return Err("no routed contraction".to_owned());
    };
    if !operands.iter().all(|&operand| is_input(body, operand)) {
        return Err("an operand that is computed".to_owned());
    }
    // Axes of size 1 are no axes.
    let real = |term: &[u8], value: Value| -> Vec<u8> {
        let sized = term.iter().zip(&body.ty(value).shape).filter(|(_, size)| !size.is(1));
        sized.map(|(&letter, _)| letter).collect()
    };
    let (chosen, matrix) = spec.rhs.split_at(body.ty(*ids).rank().min(spec.rhs.len()));
    let (lhs, chosen, out) = (real(&spec.lhs, *x), real(chosen, *ids), real(&spec.out, anchor.into()));
    let (columns, summed): (Vec<u8>, Vec<u8>) = matrix.iter().copied().partition(|l| spec.out.contains(l));
    let (&[sum], &[column]) = (&summed[..], &columns[..]) else {
        return Err("the chosen matrices have several summed or column axes".to_owned());
    };
    let rows: Vec<u8> = lhs.iter().copied().filter(|&letter| letter != sum).collect();
    if lhs.contains(&sum) && lhs.last() != Some(&sum) || !chosen.starts_with(&rows) {
        return Err("the rows are not the leading axes of the ids".to_owned());
    }
    if !chosen.iter().chain([&column]).filter(|l| out.contains(l)).eq(&out) {
        return Err("the axes of the result are in another order".to_owned());
    }
    Ok(())
}

/// Anchors that read inputs as they are, with a point-wise epilogue of the result's shape.
fn windowed(body: &Graph, anchor: NodeId, root: Value) -> Result<(), String> {
    if !body.operands(anchor).iter().all(|&operand| is_input(body, operand)) {
        return Err("an operand that is computed".to_owned());
    }
    let scatter = matches!(body[anchor].op, Op::ScatterRows { .. } | Op::ScatterAlong { .. });
    if scatter && root != Value::from(anchor) {
        return Err("a scatter has no epilogue".to_owned());
    }
    let (body, roots) = expanded(body, &[Value::from(anchor), root]).map_err(|error| error.to_string())?;
    let (anchor, root) = (roots[0], roots[1]);
    if body.ty(root).shape != body.ty(anchor).shape {
        return Err("the epilogue changes the shape".to_owned());
    }
    epilogue_ops(&body, anchor.node, |op| op.kind() == Kind::Pointwise)
}

fn order(body: &Graph, anchor: NodeId, roots: &[Value]) -> Result<(), String> {
    let alone = roots.iter().all(|root| root.node == anchor);
    match body.operands(anchor).as_slice() {
        [operand] if alone && is_input(body, *operand) => Ok(()),
        _ => Err("sorting and selection stand alone".to_owned()),
    }
}
