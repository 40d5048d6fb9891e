//! How movement ops act on indices: the element of a result at some index is the operand's element at an index that is
//! an affine function of it, as long as the axes of the iteration space are fine enough.
//!
//! ```text
//! iteration axes i0 … in ──► index of a value: one affine function per axis ──movement op──► index of its operand
//! ```

use tarsia_tensor::Dim;

use crate::{Op, Type};

/// An index along one axis: `base + Σ step · iteration axis`, terms in ascending axis order, no zero steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index {
    /// The index at the origin of the iteration space.
    pub base: Dim,
    /// Iteration axis and step.
    pub steps: Vec<(usize, Dim)>,
}

/// Why an index cannot pass through a movement op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It could, if this iteration axis were split into axes of these sizes (outermost first).
    Refine {
        /// The iteration axis.
        axis: usize,
        /// What it must be split into; their product is its size.
        sizes: Vec<Dim>,
    },
    /// The operand's index is no affine function of the iteration axes.
    Opaque(&'static str),
}

impl Index {
    /// The iteration axis itself.
    pub fn axis(axis: usize) -> Index {
        Index { base: Dim::ZERO, steps: vec![(axis, Dim::ONE)] }
    }

    /// A fixed index.
    pub fn fixed(base: Dim) -> Index {
        Index { base, steps: Vec::new() }
    }

    /// `self · factor`.
    pub fn scaled(&self, factor: &Dim) -> Index {
        let steps = self.steps.iter().map(|(axis, step)| (*axis, step.clone() * factor.clone()));
        Index { base: self.base.clone() * factor.clone(), steps: steps.filter(|(_, step)| !step.is(0)).collect() }
    }

    /// `self + other`.
    pub fn plus(&self, other: &Index) -> Index {
        let mut steps = self.steps.clone();
        for (axis, step) in &other.steps {
            match steps.binary_search_by_key(axis, |(axis, _)| *axis) {
                Ok(at) => steps[at].1 = steps[at].1.clone() + step.clone(),
                Err(at) => steps.insert(at, (*axis, step.clone())),
            }
        }
        steps.retain(|(_, step)| !step.is(0));
        Index { base: self.base.clone() + other.base.clone(), steps }
    }

    /// The step along an iteration axis, 0 if the index does not depend on it.
    pub fn step(&self, axis: usize) -> Dim {
        self.steps.iter().find(|(a, _)| *a == axis).map_or(Dim::ZERO, |(_, step)| step.clone())
    }

    /// The index after iteration axis `axis` has been split into axes `axis … axis + sizes.len() - 1`.
    pub fn refined(&self, axis: usize, sizes: &[Dim]) -> Index {
        let mut steps = Vec::new();
        for (a, step) in &self.steps {
            if *a == axis {
                steps.extend((0..sizes.len()).map(|i| (axis + i, step.clone() * Dim::product(&sizes[i + 1..]))));
            } else {
                steps.push((if *a > axis { a + sizes.len() - 1 } else { *a }, step.clone()));
            }
        }
        Index { base: self.base.clone(), steps }
    }
}

/// The index of operand 0 of a movement op (any but `concat`) at result index `index`, over an iteration space of these axis sizes.
/// For `pad` the result may be out of the operand's range, which means the pad value.
///
/// # Errors
/// If the operand's index is not affine.
pub fn through(op: &Op, operand: &Type, result: &Type, index: &[Index], space: &[Dim]) -> Result<Vec<Index>, Obstacle> {
    match op {
        Op::Transpose { perm } => {
            let mut moved = vec![Index::fixed(Dim::ZERO); perm.len()];
            for (i, &axis) in perm.iter().enumerate() {
                moved[axis] = index[i].clone();
            }
            Ok(moved)
        }
        Op::Broadcast { .. } => Ok(broadcast(&operand.shape, index)),
        Op::Slice { starts, steps, .. } => Ok((0..index.len())
            .map(|i| index[i].scaled(&Dim::Const(steps[i])).plus(&Index::fixed(starts[i].clone())))
            .collect()),
        Op::Pad { low, interior, .. } if interior.iter().all(|&gap| gap == 0) => {
            Ok((0..index.len()).map(|i| index[i].plus(&Index::fixed(-low[i].clone()))).collect())
        }
        Op::Pad { .. } => Err(Obstacle::Opaque("padding between elements")),
        Op::Reshape { .. } => reshape(&operand.shape, &result.shape, index, space),
        _ => Err(Obstacle::Opaque("not a movement of one operand")),
    }
}

/// The index of an operand of shape `operand` that is broadcast to the rank of `index`: axes of size 1 stay at 0.
pub fn broadcast(operand: &[Dim], index: &[Index]) -> Vec<Index> {
    let skip = index.len() - operand.len().min(index.len());
    let aligned = operand.iter().zip(&index[skip..]);
    aligned.map(|(size, index)| if size.is(1) { Index::fixed(Dim::ZERO) } else { index.clone() }).collect()
}

/// Pairs runs of operand axes with runs of result axes of equal size, and maps the index run by run.
fn reshape(operand: &[Dim], result: &[Dim], index: &[Index], space: &[Dim]) -> Result<Vec<Index>, Obstacle> {
    let mut mapped = vec![Index::fixed(Dim::ZERO); operand.len()];
    // Axes of size 1 carry no index.
    let from: Vec<usize> = (0..operand.len()).filter(|&i| !operand[i].is(1)).collect();
    let to: Vec<usize> = (0..result.len()).filter(|&i| !result[i].is(1)).collect();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (first_i, first_j) = (i, j);
        let (mut left, mut right) = (Dim::ONE, Dim::ONE);
        loop {
            // Grow the side that divides the other; where neither is known to, the axes do not line up.
            let grow_left = match (i > first_i, j > first_j) {
                (false, _) => true,
                (_, false) => false,
                _ if left == right => break,
                _ => match (right.exact_div(&left).is_some(), left.exact_div(&right).is_some()) {
                    (true, _) => true,
                    (_, true) => false,
                    _ => left.range().high < right.range().high || i < from.len() && j == to.len(),
                },
            };
            let axes = if grow_left { from.get(i) } else { to.get(j) };
            let Some(&axis) = axes else { return Err(Obstacle::Opaque("a reshape whose axes do not line up")) };
            if grow_left {
                left = left * operand[axis].clone();
                i += 1;
            } else {
                right = right * result[axis].clone();
                j += 1;
            }
        }
        map_run(&from[first_i..i], &to[first_j..j], operand, result, index, space, &mut mapped)?;
    }
    Ok(mapped)
}

/// Maps one run: the result axes `to` together count what the operand axes `from` count.
fn map_run(
    from: &[usize],
    to: &[usize],
    operand: &[Dim],
    result: &[Dim],
    index: &[Index],
    space: &[Dim],
    mapped: &mut [Index],
) -> Result<(), Obstacle> {
    let mut linear = Index::fixed(Dim::ZERO);
    for &axis in to {
        linear = linear.scaled(&result[axis]).plus(&index[axis]);
    }
    for (n, &axis) in from.iter().enumerate().rev() {
        if n == 0 {
            mapped[axis] = linear;
            return Ok(());
        }
        let (whole, rest) =
            split(&linear, &operand[axis], space).ok_or_else(|| refinement(from, to, operand, index, space))?;
        mapped[axis] = rest;
        linear = whole;
    }
    Ok(())
}

/// `(q, r)` with `index = q · size + r` and `0 <= r < size` certain.
fn split(index: &Index, size: &Dim, space: &[Dim]) -> Option<(Index, Index)> {
    let (mut whole, mut rest) = (Index::fixed(Dim::ZERO), Index::fixed(Dim::ZERO));
    match index.base.exact_div(size) {
        Some(quotient) => whole.base = quotient,
        None => rest.base = index.base.clone(),
    }
    let mut highest = rest.base.clone();
    for (axis, step) in &index.steps {
        match step.exact_div(size) {
            Some(quotient) => whole.steps.push((*axis, quotient)),
            None => {
                if step.range().low < 0 {
                    return None;
                }
                highest = highest + step.clone() * (space[*axis].clone() - Dim::ONE);
                rest.steps.push((*axis, step.clone()));
            }
        }
    }
    let fits = rest.base.range().low >= 0 && (size.clone() - Dim::ONE - highest).range().low >= 0;
    fits.then_some((whole, rest))
}

/// The iteration axis that has to be split for the run to map, if the result axis is just that axis.
fn refinement(from: &[usize], to: &[usize], operand: &[Dim], index: &[Index], space: &[Dim]) -> Obstacle {
    const OPAQUE: Obstacle = Obstacle::Opaque("a reshape that cuts across axes");
    let [only] = to else { return OPAQUE };
    let index = &index[*only];
    let sizes: Vec<Dim> = from.iter().map(|&axis| operand[axis].clone()).collect();
    match index.steps.as_slice() {
        [(axis, step)] if step.is(1) && index.base.is(0) && space[*axis] == Dim::product(&sizes) => {
            Obstacle::Refine { axis: *axis, sizes }
        }
        _ => OPAQUE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarsia_tensor::DType;

    fn ty(shape: &[Dim]) -> Type {
        Type::new(DType::F32, shape.to_vec())
    }

    fn c(value: i64) -> Dim {
        Dim::Const(value)
    }

    #[test]
    fn merged_axes_are_affine_and_split_axes_ask_for_refinement() {
        let (b, s) = (Dim::symbol("b"), Dim::symbol("s"));
        let wide = [b.clone(), s.clone(), c(12) * c(64)];
        let heads = [b, s, c(12), c(64)];
        let reshape = |shape: &[Dim]| Op::Reshape { shape: shape.to_vec() };
        let axes: Vec<Index> = (0..4).map(Index::axis).collect();
        let merged = through(&reshape(&heads), &ty(&wide), &ty(&heads), &axes, &heads).unwrap();
        assert_eq!(merged[2], Index { base: Dim::ZERO, steps: vec![(2, c(64)), (3, Dim::ONE)] });
        let obstacle = through(&reshape(&wide), &ty(&heads), &ty(&wide), &axes[..3], &wide).unwrap_err();
        let Obstacle::Refine { axis, sizes } = obstacle else { panic!("{obstacle:?}") };
        assert_eq!((axis, sizes.as_slice()), (2, &heads[2..]));
        let refined: Vec<Index> = axes[..3].iter().map(|index| index.refined(2, &sizes)).collect();
        let split = through(&reshape(&wide), &ty(&heads), &ty(&wide), &refined, &heads).unwrap();
        assert_eq!(split[2], Index::axis(2));
        assert_eq!(split[3], Index::axis(3));
    }

    #[test]
    fn unit_axes_come_and_go() {
        let op = Op::Reshape { shape: vec![c(1), c(5), c(1)] };
        let index = [Index::fixed(c(0)), Index::axis(0), Index::fixed(c(0))];
        let mapped = through(&op, &ty(&[c(5)]), &ty(&[c(1), c(5), c(1)]), &index, &[c(5)]).unwrap();
        assert_eq!(mapped, vec![Index::axis(0)]);
    }

    #[test]
    fn misaligned_reshapes_are_opaque() {
        let op = Op::Reshape { shape: vec![c(4), c(6)] };
        let (from, to) = ([c(6), c(4)], [c(4), c(6)]);
        let index = [Index::axis(0), Index::axis(1)];
        assert!(matches!(through(&op, &ty(&from), &ty(&to), &index, &to), Err(Obstacle::Opaque(_))));
    }
}
