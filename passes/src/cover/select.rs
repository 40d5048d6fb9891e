//! Choosing the cuts: every value that is read is stored by one chosen cut; a value inside several cuts is computed in each.
//!
//! The first choice follows area flow. Then the choice is improved by exact cost: one class at a time, and by whole values,
//! which are dropped (all readers compute them) or stored (all who compute them read them). Every step lowers the total, so
//! it ends, and always in the same place.

use smallvec::SmallVec;

use super::{
    cut::{Cut, Cuts},
    network::Network,
};

/// A smaller gain than this is none.
const GAIN: f64 = 1e-12;

/// The chosen cut of each class, and how often each class is read.
pub(crate) struct Selection<'a> {
    network: &'a Network,
    pub cuts: &'a [Cuts],
    /// Place among the class's cuts.
    pub chosen: Vec<usize>,
    /// How many chosen cuts, nodes and outputs read a class.
    pub readers: Vec<u32>,
}

impl<'a> Selection<'a> {
    /// The best selection found in `rounds` rounds of improvement.
    pub fn new(network: &'a Network, cuts: &'a [Cuts], rounds: usize) -> Selection<'a> {
        let count = network.classes.len();
        let mut selection = Selection { network, cuts, chosen: vec![0; count], readers: vec![0; count] };
        for pin in network.roots() {
            selection.read(pin.class);
        }
        for _ in 0..rounds {
            let mut gain = 0.0;
            for class in 0..count as u32 {
                gain += selection.improve_class(class);
            }
            gain += selection.improve_values();
            if gain < GAIN {
                break;
            }
        }
        selection
    }

    /// The chosen cut of a class that is computed by a kernel.
    pub fn cut(&self, class: u32) -> Option<&'a Cut> {
        self.cuts[class as usize].cuts.get(self.chosen[class as usize])
    }

    /// Whether the class is stored.
    pub fn is_stored(&self, class: u32) -> bool {
        self.readers[class as usize] > 0
    }

    /// How many chosen cuts have each class inside, and how many read it.
    pub fn uses(&self) -> Vec<u32> {
        let mut uses = self.readers.clone();
        for class in (0..uses.len() as u32).filter(|&class| self.is_stored(class)) {
            let inner = self.cut(class).into_iter().flat_map(|cut| &cut.cone.inner);
            inner.filter(|(inner, _)| *inner != class).for_each(|(inner, _)| uses[*inner as usize] += 1);
        }
        uses
    }

    /// Sum of the times of all chosen cuts.
    pub fn total(&self) -> f64 {
        let stored = (0..self.chosen.len() as u32).filter(|&class| self.is_stored(class));
        stored.filter_map(|class| self.cut(class)).map(|cut| cut.time).sum()
    }

    /// What choosing another cut would cost more than the chosen one.
    pub fn difference(&mut self, class: u32, other: usize) -> f64 {
        let before = self.chosen[class as usize];
        let difference = self.switch(class, other);
        self.switch(class, before);
        difference
    }

    /// The classes that a class reads under its current choice.
    fn below(&self, class: u32) -> SmallVec<[u32; 8]> {
        let mut classes: SmallVec<[u32; 8]> = match self.cut(class) {
            Some(cut) => cut.cone.leaves.iter().map(|pin| pin.class).collect(),
            None => {
                let plain = self.network.classes[class as usize].alternatives.first();
                plain.map(|plain| plain.operands.iter().map(|pin| pin.class).collect()).unwrap_or_default()
            }
        };
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// One more reader; the time this costs.
    fn read(&mut self, class: u32) -> f64 {
        let mut time = 0.0;
        let mut stack: SmallVec<[u32; 16]> = SmallVec::from_slice(&[class]);
        while let Some(class) = stack.pop() {
            self.readers[class as usize] += 1;
            if self.readers[class as usize] == 1 {
                time += self.cut(class).map_or(0.0, |cut| cut.time);
                stack.extend(self.below(class));
            }
        }
        time
    }

    /// One reader less; the time this saves.
    fn forget(&mut self, class: u32) -> f64 {
        let mut time = 0.0;
        let mut stack: SmallVec<[u32; 16]> = SmallVec::from_slice(&[class]);
        while let Some(class) = stack.pop() {
            self.readers[class as usize] -= 1;
            if self.readers[class as usize] == 0 {
                time += self.cut(class).map_or(0.0, |cut| cut.time);
                stack.extend(self.below(class));
            }
        }
        time
    }

    /// Chooses another cut of a stored class; the change of the total. What both read is never given up in between.
    fn switch(&mut self, class: u32, other: usize) -> f64 {
        let place = class as usize;
        let (before, old) = (self.below(class), self.cut(class).map_or(0.0, |cut| cut.time));
        self.chosen[place] = other;
        let mut change = self.cut(class).map_or(0.0, |cut| cut.time) - old;
        for read in self.below(class) {
            change += self.read(read);
        }
        for read in before {
            change -= self.forget(read);
        }
        change
    }

    /// Chooses the exactly best cut of one class; the gain.
    fn improve_class(&mut self, class: u32) -> f64 {
        let count = self.cuts[class as usize].cuts.len();
        if !self.is_stored(class) || count < 2 {
            return 0.0;
        }
        let current = self.chosen[class as usize];
        let mut best = (-GAIN, current);
        for other in (0..count).filter(|&other| other != current) {
            let difference = self.difference(class, other);
            if difference < best.0 {
                best = (difference, other);
            }
        }
        if best.1 == current { 0.0 } else { -self.switch(class, best.1) }
    }

    /// Tries to drop and to store values that several need; the gain.
    fn improve_values(&mut self) -> f64 {
        let count = self.chosen.len();
        let (mut reading, mut computing) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        for class in (0..count as u32).filter(|&class| self.is_stored(class)) {
            let Some(cut) = self.cut(class) else { continue };
            for read in self.below(class) {
                reading[read as usize].push(class);
            }
            for (inner, _) in cut.cone.inner.iter().filter(|(inner, _)| *inner != class) {
                computing[*inner as usize].push(class);
            }
        }
        let mut gain = 0.0;
        for value in 0..count as u32 {
            let (readers, computers) = (&reading[value as usize], &computing[value as usize]);
            if readers.len() > 1 {
                gain += self.move_all(readers, &|cut| !cut.cone.reads(value));
            }
            if computers.len() + readers.len() > 1 && !computers.is_empty() {
                gain += self.move_all(computers, &|cut| !cut.cone.computes(value));
            }
        }
        gain
    }

    /// Gives every class of `classes` its best cut among those that are `wanted`, if that lowers the total; the gain.
    fn move_all(&mut self, classes: &[u32], wanted: &dyn Fn(&Cut) -> bool) -> f64 {
        let mut change = 0.0;
        let mut undo: SmallVec<[(u32, usize); 8]> = SmallVec::new();
        for &class in classes {
            if !self.is_stored(class) || self.cut(class).is_some_and(wanted) {
                continue;
            }
            let candidates = self.cuts[class as usize].cuts.iter().enumerate().filter(|(_, cut)| wanted(cut));
            let places: SmallVec<[usize; 8]> = candidates.map(|(place, _)| place).collect();
            let rated = places.into_iter().map(|place| (self.difference(class, place), place));
            let best = rated.min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, place)) = best else {
                change = f64::INFINITY;
                break;
            };
            undo.push((class, self.chosen[class as usize]));
            change += self.switch(class, place);
        }
        if change < -GAIN {
            return -change;
        }
        for (class, before) in undo.into_iter().rev() {
            self.restore(class, before);
        }
        0.0
    }

    /// Takes back a choice, whether or not the class is still stored.
    fn restore(&mut self, class: u32, before: usize) {
        if self.is_stored(class) {
            self.switch(class, before);
        } else {
            self.chosen[class as usize] = before;
        }
    }
}
