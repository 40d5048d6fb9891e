//! Items of a kernel do not depend on each other: what one writes, no other reads or writes.
//!
//! Decided for neighbours along every axis of the grid and for the first and the last item, from the first and the last turns of
//! loops. Elements that an index chooses while the kernel runs are not known here: a kernel that scatters says itself that its
//! items may meet there.

use std::collections::BTreeSet;

use tarsia_tensor::Symbol;

use super::{
    Sample, at_item,
    code::{Code, Node, NodeKind, Target},
    every,
    expr::Expr,
    extent::Extent,
    extents,
    walk::extent,
};
use crate::text::Anchor;

/// Accesses of one item that are compared.
const ACCESSES: usize = 300;
/// Statements looked at for one item.
const STATEMENTS: usize = 5_000;

/// An access to a parameter.
struct Touch {
    memory: usize,
    extent: Extent,
    write: bool,
    at: usize,
}

/// Faults where items meet.
pub(super) fn independent(code: &Code, sample: &Sample) -> BTreeSet<(Anchor, String)> {
    let mut faults = BTreeSet::new();
    let Some(extents) = extents(code, &sample.values) else { return faults };
    let first = vec![0; extents.len()];
    let mut others: Vec<Vec<i64>> = vec![extents.iter().map(|extent| extent - 1).collect()];
    for (axis, &extent) in extents.iter().enumerate() {
        let mut next = first.clone();
        next[axis] = (extent - 1).min(1);
        others.push(next);
    }
    others.retain(|other| *other != first);
    others.sort();
    others.dedup();
    if others.is_empty() {
        return faults;
    }
    let mine = accesses(code, sample, &first);
    let theirs: Vec<Vec<Touch>> = others.iter().map(|other| accesses(code, sample, other)).collect();
    // Sizes of the model that cannot be together: some access would leave its parameter, and binding refuses that.
    if mine.iter().chain(theirs.iter().flatten()).any(|touch| leaves(code, sample, &touch.extent)) {
        return faults;
    }
    for (other, theirs) in others.into_iter().zip(theirs) {
        for theirs in theirs {
            for touch in &mine {
                let known =
                    |extent: &Extent| matches!(extent, Extent::View { axes, .. } if axes.iter().all(Option::is_some));
                let same = |a: &Extent, b: &Extent| match (a, b) {
                    (Extent::View { param: a, .. }, Extent::View { param: b, .. }) => a == b,
                    _ => false,
                };
                let decided = known(&touch.extent) && known(&theirs.extent) && same(&touch.extent, &theirs.extent);
                let meet = touch.memory == theirs.memory && (touch.write || theirs.write);
                if decided && meet && touch.extent.meets(&theirs.extent) {
                    let name = &code.kernel.params[touch.memory].name;
                    let item = |item: &[i64]| item.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                    let verb = |write: bool| if write { "writes" } else { "reads" };
                    faults.insert((
                        code.anchors[touch.at].clone(),
                        format!(
                            "race: item ({}) {} elements of `{name}` that item ({}) {}",
                            item(&first),
                            verb(touch.write),
                            item(&other),
                            verb(theirs.write)
                        ),
                    ));
                }
            }
        }
    }
    faults
}

/// Whether an access reaches beyond its parameter.
fn leaves(code: &Code, sample: &Sample, extent: &Extent) -> bool {
    let Extent::View { param, axes } = extent else { return false };
    let shape = code.kernel.params.get(*param as usize).map(|param| param.shape.as_slice()).unwrap_or_default();
    let value = |symbol: &Symbol| code.variables.find(symbol).and_then(|at| sample.values.get(at).copied());
    axes.iter().zip(shape).any(|(indices, size)| {
        let (Some(indices), Ok(size)) = (indices, size.eval(&value)) else { return false };
        let reach = indices.steps.iter().map(|&(step, count)| step.saturating_mul(count - 1));
        reach.fold(indices.start, i64::saturating_add) >= size
    })
}

fn accesses(code: &Code, sample: &Sample, item: &[i64]) -> Vec<Touch> {
    let mut own: BTreeSet<usize> = code.grid.iter().map(|(var, _)| *var).chain(code.lane).collect();
    every(&code.body, &mut |node| match &node.kind {
        NodeKind::For { var, .. } => own.extend([*var]),
        NodeKind::Work { defines, .. } => own.extend(defines.iter().map(|(scalar, _)| *scalar)),
        _ => {}
    });
    let mut collect = Collect {
        code,
        own,
        values: at_item(code, &sample.values, item),
        scalar: sample.scalar,
        found: Vec::new(),
        left: STATEMENTS,
    };
    for lane in 0..code.lanes {
        if let Some(variable) = code.lane {
            collect.values[variable] = lane as i64;
        }
        collect.block(&code.body);
    }
    collect.found
}

struct Collect<'c> {
    code: &'c Code<'c>,
    /// Variables that the kernel itself binds.
    own: BTreeSet<usize>,
    values: Vec<i64>,
    scalar: i64,
    found: Vec<Touch>,
    left: usize,
}

impl Collect<'_> {
    fn block(&mut self, body: &[Node]) {
        for node in body {
            if self.left == 0 || self.found.len() >= ACCESSES {
                return;
            }
            self.left -= 1;
            match &node.kind {
                NodeKind::For { var, end, step, body, .. } => {
                    let count = end.eval(&self.values).unwrap_or(0).max(0).saturating_add(step - 1) / step;
                    let mut turns = vec![0, 1, count - 2, count - 1];
                    turns.retain(|turn| (0..count).contains(turn));
                    turns.sort_unstable();
                    turns.dedup();
                    for turn in turns {
                        self.values[*var] = turn.saturating_mul(*step);
                        self.block(body);
                    }
                }
                NodeKind::If { condition, then, otherwise, .. } => {
                    let taken = condition.eval(&self.values).is_some_and(|value| value > 0);
                    self.block(if taken { then } else { otherwise });
                }
                NodeKind::Work { accesses, defines, .. } => {
                    for access in accesses {
                        let Target::Param { memory, axes, picked: false, .. } = &access.target else { continue };
                        // Distances that are sizes of the model hang together in ways that samples do not know.
                        let sized = |(start, steps): &(Expr, Vec<(Expr, Expr)>)| {
                            let mut all = std::iter::once(start).chain(steps.iter().map(|(step, _)| step));
                            all.any(|expr| expr.scales_with_others(&self.own))
                        };
                        if axes.iter().flatten().any(sized) {
                            continue;
                        }
                        let memory = *memory;
                        if let Some(extent) = extent(self.code, access, &self.values) {
                            let (write, at) = (access.write, node.at);
                            self.found.push(Touch { memory, extent, write, at });
                        }
                    }
                    for (scalar, bound) in defines {
                        self.values[*scalar] = bound.eval(&self.values).unwrap_or(0).min(self.scalar).max(0);
                    }
                }
                _ => {}
            }
        }
    }
}
