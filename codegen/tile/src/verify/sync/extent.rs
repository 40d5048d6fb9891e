//! What an access touches, in numbers: a box of a tile's copy, or elements of a parameter.
//!
//! ```text
//! tile        bytes of the copy in its space, and the box inside where both accesses are to the same copy
//! parameter   per axis   start + Σ step · i,  0 <= i < count
//! ```

/// Solutions looked for before two index sets count as meeting.
const TRIES: usize = 400;

/// What is touched. Nothing is apart from what is not known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Extent {
    /// Bytes from `start` to `end` of a space; the copy, and first index and size per axis, where they are known.
    Tile { tile: u32, slot: Option<i64>, start: u64, end: u64, region: Option<Vec<(i64, i64)>> },
    /// Elements of a parameter: one set of indices per axis, where known.
    View { param: u32, axes: Vec<Option<Indices>> },
}

/// Indices `start + Σ step · i` with `0 <= i < count`, steps positive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Indices {
    pub start: i64,
    pub steps: Vec<(i64, i64)>,
}

impl Indices {
    /// With steps of any sign; `None` if a number overflows.
    pub fn new(mut start: i64, steps: impl IntoIterator<Item = (i64, i64)>) -> Option<Indices> {
        let mut positive = Vec::new();
        for (step, count) in steps {
            if step < 0 {
                start = start.checked_add(step.checked_mul(count - 1)?)?;
            }
            if step != 0 && count > 1 {
                positive.push((step.checked_abs()?, count));
            }
        }
        Some(Indices { start, steps: positive })
    }

    /// The highest index; `None` if the number overflows.
    fn last(&self) -> Option<i64> {
        self.steps.iter().try_fold(self.start, |last, &(step, count)| last.checked_add(step.checked_mul(count - 1)?))
    }

    /// Whether some index may be in both.
    pub fn meets(&self, other: &Indices) -> bool {
        // Most are apart as a whole.
        if let (Some(last), Some(others)) = (self.last(), other.last())
            && (last < other.start || others < self.start)
        {
            return false;
        }
        // start + Σ step · i = other.start + Σ other.step · j: i and j of equal steps count as one difference.
        let mut unknowns: Vec<(i64, i64, i64)> = Vec::new();
        let mut add = |step: i64, low: i64, high: i64| match unknowns.iter_mut().find(|(known, ..)| *known == step) {
            Some((_, from, to)) => (*from, *to) = (*from + low, *to + high),
            None => unknowns.push((step, low, high)),
        };
        self.steps.iter().for_each(|&(step, count)| add(step, 0, count - 1));
        other.steps.iter().for_each(|&(step, count)| add(step, 1 - count, 0));
        unknowns.sort_unstable_by_key(|&(step, ..)| -step);
        let Some(distance) = other.start.checked_sub(self.start) else { return true };
        solvable(i128::from(distance), &unknowns, &mut { TRIES })
    }
}

/// Whether `Σ step · x = distance` for some x within its bounds; true if that takes too long to find out.
fn solvable(distance: i128, unknowns: &[(i64, i64, i64)], tries: &mut usize) -> bool {
    let Some((&(step, low, high), rest)) = unknowns.split_first() else { return distance == 0 };
    let sum = |bound: fn(&(i64, i64, i64)) -> i64| -> i128 {
        rest.iter().map(|unknown| i128::from(unknown.0) * i128::from(bound(unknown))).sum()
    };
    let (least, most, step) = (sum(|u| u.1), sum(|u| u.2), i128::from(step));
    let first = (distance - most + step - 1).div_euclid(step).max(i128::from(low));
    let last = (distance - least).div_euclid(step).min(i128::from(high));
    let mut x = first;
    while x <= last {
        if *tries == 0 {
            return true;
        }
        *tries -= 1;
        if solvable(distance - step * x, rest, tries) {
            return true;
        }
        x += 1;
    }
    false
}

impl Extent {
    /// Whether two accesses to one memory may touch the same bytes.
    pub fn meets(&self, other: &Extent) -> bool {
        match (self, other) {
            (Extent::View { param: a, axes: x }, Extent::View { param: b, axes: y }) if a == b => {
                // An axis of which nothing is known tells nothing apart.
                x.iter().zip(y).all(|(x, y)| x.as_ref().zip(y.as_ref()).is_none_or(|(x, y)| x.meets(y)))
            }
            (
                Extent::Tile { tile: a, slot: s, start, end, region: Some(x) },
                Extent::Tile { tile: b, slot: t, start: from, end: to, region: Some(y) },
            ) => {
                let boxes = a != b || s.is_none() || s != t || boxes_meet(x, y);
                start < to && from < end && boxes
            }
            (Extent::Tile { start, end, .. }, Extent::Tile { start: from, end: to, .. }) => start < to && from < end,
            _ => true,
        }
    }
}

/// Whether two boxes, given by first index and size per axis, have something in common.
pub(super) fn boxes_meet(a: &[(i64, i64)], b: &[(i64, i64)]) -> bool {
    let apart = |(&(x, n), &(y, m)): (&(i64, i64), &(i64, i64))| {
        n <= 0 || m <= 0 || x.saturating_add(n) <= y || y.saturating_add(m) <= x
    };
    !a.iter().zip(b).any(apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Two index sets meet exactly if some index is in both.
        #[test]
        fn meeting_is_having_an_index_in_common(
            a in -10i64..10, b in -10i64..10,
            steps in proptest::collection::vec((-7i64..8, 1i64..4), 0..3),
            others in proptest::collection::vec((-7i64..8, 1i64..4), 0..3),
        ) {
            let all = |start: i64, steps: &[(i64, i64)]| {
                steps.iter().fold(vec![start], |found, &(step, count)| {
                    found.iter().flat_map(|at| (0..count).map(move |i| at + step * i)).collect()
                })
            };
            let (x, y): (Vec<i64>, Vec<i64>) = (all(a, &steps), all(b, &others));
            let meet = x.iter().any(|at| y.contains(at));
            let of = |start, steps: &[(i64, i64)]| Indices::new(start, steps.iter().copied()).unwrap();
            proptest::prop_assert_eq!(of(a, &steps).meets(&of(b, &others)), meet);
        }
    }

    #[test]
    fn rows_of_different_lanes_are_apart() {
        let rows = |first: i64| Indices::new(first * 1000, [(1000, 64), (1, 256)]).unwrap();
        assert!(!rows(0).meets(&rows(64)) && rows(0).meets(&rows(63)));
    }
}
