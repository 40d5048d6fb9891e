//! Which parts of a tile's copy hold something: what was written and not yet overwritten through another tile.

use super::extent::boxes_meet;

/// First index and size per axis.
type Box_ = Vec<(i64, i64)>;

/// More parts than this count as the whole.
const PARTS: usize = 256;

/// The written parts of one copy of a tile, each with the statement that wrote it.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    parts: Vec<(Box_, usize)>,
    /// Everything, as far as is known.
    all: bool,
    /// The tile that has taken its bytes last.
    pub taken: Option<usize>,
}

impl Held {
    /// A statement writes a part.
    pub fn write(&mut self, part: &Box_, at: usize) {
        if self.all || part.iter().any(|&(_, size)| size <= 0) {
            return;
        }
        self.parts.retain(|(known, _)| !within(known, part));
        self.parts.push((part.clone(), at));
        if self.parts.len() > PARTS {
            self.assume();
        }
    }

    /// The statements that have written something of a part.
    pub fn writers(&self, part: &Box_) -> impl Iterator<Item = usize> {
        self.parts.iter().filter(|(known, _)| boxes_meet(known, part)).map(|(_, at)| *at)
    }

    /// All statements that have written what is here.
    pub fn all_writers(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|(_, at)| *at)
    }

    /// From here on nothing is known to be missing.
    pub fn assume(&mut self) {
        *self = Held { parts: Vec::new(), all: true, taken: None };
    }

    /// Another tile has written to the same bytes.
    pub fn take(&mut self, by: usize) {
        *self = Held { parts: Vec::new(), all: false, taken: Some(by) };
    }

    /// Whether all of a part has been written.
    pub fn holds(&self, part: &Box_) -> bool {
        self.all || covered(part, &self.parts, &mut { PARTS * PARTS })
    }
}

fn within(inner: &Box_, outer: &Box_) -> bool {
    inner.iter().zip(outer).all(|(&(at, size), &(start, whole))| at >= start && at + size <= start + whole)
}

/// Whether the boxes together cover one; true if that takes too long to find out.
fn covered(part: &Box_, boxes: &[(Box_, usize)], tries: &mut usize) -> bool {
    if part.iter().any(|&(_, size)| size <= 0) || *tries == 0 {
        return true;
    }
    *tries -= 1;
    let Some(first) = boxes.iter().position(|(other, _)| boxes_meet(part, other)) else { return false };
    let (cover, rest) = (&boxes[first].0, &boxes[first + 1..]);
    let mut part = part.clone();
    for axis in 0..part.len() {
        let ((start, size), (from, length)) = (part[axis], cover[axis]);
        let (low, high) = (start.max(from), (start + size).min(from + length));
        for (begin, end) in [(start, low), (high, start + size)] {
            if begin < end {
                let mut outside = part.clone();
                outside[axis] = (begin, end - begin);
                if !covered(&outside, rest, tries) {
                    return false;
                }
            }
        }
        part[axis] = (low, high - low);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_together_hold_the_whole() {
        let mut held = Held::default();
        assert!(!held.holds(&vec![(0, 4), (0, 4)]) && held.holds(&vec![(0, 0), (0, 4)]));
        for part in [[(0, 2), (0, 4)], [(2, 2), (0, 3)], [(2, 1), (3, 1)]] {
            held.write(&part.to_vec(), 0);
        }
        assert!(!held.holds(&vec![(0, 4), (0, 4)]) && held.holds(&vec![(0, 3), (0, 4)]));
        held.write(&vec![(3, 1), (0, 4)], 0);
        assert!(held.holds(&vec![(0, 4), (0, 4)]));
        held.take(1);
        assert!(!held.holds(&vec![(0, 1), (0, 1)]));
    }
}
