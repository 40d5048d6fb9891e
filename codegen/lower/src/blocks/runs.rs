//! In which bands the blocks of a product are walked of which every core keeps one operand: see [`crate::persist::Grouping::Runs`].
//!
//! A core's run goes along a line of blocks that share the kept operand, the panel, and on to the next line; at the beginning of a line the
//! panel is brought. All cores together read the other operand at as many places as their runs begin at: what a core has read is still in
//! the cache when the next one comes there, if not too much was read in between.

use std::collections::BTreeSet;

/// A product in blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    pub cores: usize,
    /// Blocks of a line, and lines.
    pub length: usize,
    pub lines: usize,
    /// Bytes of the panel, and of what a block needs of the other operand.
    pub panel: f64,
    pub other: f64,
    /// Cycles of a block, and of one for which the panel is brought.
    pub steady: f64,
    pub fresh: f64,
    /// Cycles to load the panel, and the other operand.
    pub loads: [f64; 2],
    /// Cycles that one of several cores waits for another to load what it needs of the other operand from the same place.
    pub waits: f64,
    /// Bytes of the cache that are counted on, and bytes a cycle that all cores together get from the memory behind it.
    pub cache: f64,
    pub memory: f64,
}

/// The part of the cache, and of the bandwidth of the memory behind it, that is counted on.
pub(super) const COUNTED_ON: f64 = 0.75;
/// Times that differ by less are equal: the model is not better.
const CLOSE: f64 = 1.01;
/// Bands of more lines are all lines.
const WIDEST: usize = 128;

impl Runs {
    /// The band that takes least time, and that time in cycles. Of those that are nearly as good, the one in which most cores read the same
    /// at a time.
    pub fn choose(&self) -> (usize, f64) {
        let bands = (1..=self.lines.min(WIDEST)).chain((self.lines > WIDEST).then_some(self.lines));
        let times: Vec<(usize, f64)> = bands.map(|band| (band, self.cycles(band))).collect();
        let least = times.iter().map(|(_, cycles)| *cycles).fold(f64::INFINITY, f64::min);
        let close = times.into_iter().filter(|(_, cycles)| *cycles <= least * CLOSE);
        let best = close.min_by(|a, b| self.places(a.0).cmp(&self.places(b.0)).then(a.1.total_cmp(&b.1)));
        best.unwrap_or((self.lines.max(1), f64::INFINITY))
    }

    /// At how many places cores read the other operand at a time, summed over the blocks of a core.
    fn places(&self, band: usize) -> usize {
        let places = |lines: usize| {
            let (share, begins) = self.begins(lines);
            share * begins.iter().map(|begin| begin % self.length).collect::<BTreeSet<_>>().len()
        };
        self.lines / band * places(band) + places(self.lines % band)
    }

    /// How many blocks of so many lines a core has at most, and where each core's run begins.
    fn begins(&self, lines: usize) -> (usize, Vec<usize>) {
        let items = lines * self.length;
        let share = items.div_ceil(self.cores).max(1);
        (share, (0..items.div_ceil(share)).map(|core| core * share).collect())
    }

    /// Cycles if so many lines are walked at a time.
    pub fn cycles(&self, band: usize) -> f64 {
        let (whole, rest) = (self.lines / band, self.lines % band);
        // What the other operand still is in the cache when a band begins.
        let again = self.length as f64 * self.other + self.cores as f64 * self.panel <= self.cache;
        let mut total = 0.0;
        for (count, lines) in [(whole.min(1), band), (whole.saturating_sub(1), band), (usize::from(rest > 0), rest)] {
            if count > 0 {
                total += count as f64 * self.band(lines, total > 0.0 && again);
            }
        }
        total
    }

    fn band(&self, lines: usize, cached: bool) -> f64 {
        let (items, (share, begins)) = (lines * self.length, self.begins(lines));
        let line = |item: usize| item / self.length;
        let brought = begins.iter().map(|&begin| line((begin + share).min(items) - 1) - line(begin) + 1).max();
        let places: BTreeSet<usize> = begins.iter().map(|begin| begin % self.length).collect();
        let places: Vec<usize> = places.into_iter().collect();
        let mut panels: Vec<usize> = begins.iter().map(|&begin| line(begin)).collect();
        panels.dedup();
        // All that read at one place take turns.
        let together = places.iter().map(|place| begins.iter().filter(|&begin| begin % self.length == *place).count());
        let waiting = together.max().filter(|&readers| readers > 1).map_or(0.0, |readers| readers as f64 * self.waits);
        let loads = self.loads[0] + self.loads[1].max(waiting);
        let turn = self.steady.max(loads).max(self.missed(&places) as f64 * self.other / (self.memory * COUNTED_ON));
        let cold = if cached { 0.0 } else { places.len() as f64 * self.other };
        let start = (panels.len() as f64 * self.panel + cold) / (self.memory * COUNTED_ON);
        let brought = brought.unwrap_or(0) as f64 * (self.fresh - self.steady).max(0.0);
        share as f64 * turn + brought + (start - self.fresh).max(0.0)
    }

    /// How many of the places, which all advance by one block at a time, come to what is no longer in the cache.
    fn missed(&self, places: &[usize]) -> usize {
        let room = (self.cache - self.cores as f64 * self.panel) / self.other.max(1.0);
        let next = |at: usize| places.get(at + 1).copied().unwrap_or(places[0] + self.length);
        let ahead: Vec<usize> = (0..places.len()).map(|at| next(at) - places[at]).collect();
        // Between two visits of a block all places have gone on as far as the two are apart.
        let read = |apart: usize| ahead.iter().map(|&ahead| ahead.min(apart)).sum::<usize>() as f64;
        ahead.iter().filter(|&&apart| read(apart) > room).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 cores, blocks of 128 x 256 of 16-bit numbers.
    fn square(size: usize) -> Runs {
        Runs {
            cores: 24,
            length: size / 128,
            lines: size / 256,
            panel: (size * 512) as f64,
            other: (size * 256) as f64,
            steady: size as f64 * 8.15,
            fresh: size as f64 * 11.0,
            loads: [size as f64 * 4.4, size as f64 * 3.0],
            waits: size as f64 * 0.186,
            cache: 150e6,
            memory: 833.0,
        }
    }

    #[test]
    fn runs_are_even() {
        for size in [4096, 8192, 16384] {
            let runs = square(size);
            let (band, cycles) = runs.choose();
            let ideal = (runs.length * runs.lines) as f64 / 24.0 * runs.steady;
            assert!(cycles < 1.25 * ideal, "{size}: bands of {band} take {cycles}, {ideal} at best");
        }
    }

    #[test]
    fn what_leaves_the_cache_is_read_again() {
        let runs = square(8192);
        // The second and third place find what the first has read just before; far from each other they do not.
        assert_eq!(runs.missed(&[0, 1, 2]), 1);
        assert_eq!(runs.missed(&[0, 22, 44]), 3);
        let large = Runs { cache: 300e6, ..runs };
        assert_eq!(large.missed(&[0, 22, 44]), 0);
    }
}
