//! The cache between device memory and the cores: which bytes of an access are in it.
//!
//! A buffer is cut into blocks of 512 bytes by 16 rows (a row being its last axis), and a block into 64 sectors of 128 bytes: what a
//! request to memory brings. The least recently used block makes room. What is written stays until then.

use rustc_hash::FxHashMap;

use crate::memory::Geometry;

/// Bytes of a sector, sectors beside each other in a block, rows of a block.
const SECTOR: i64 = 128;
const ACROSS: i64 = 4;
const DOWN: i64 = 16;
/// Bytes beside each other in a block.
const WIDTH: i64 = SECTOR * ACROSS;

/// What an access needs of the memories, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    /// Between cache and cores.
    pub read: f64,
    pub written: f64,
    /// Between device memory and cache.
    pub fetched: f64,
    pub written_back: f64,
}

impl Traffic {
    /// Bytes of device memory.
    pub fn memory(&self) -> f64 {
        self.fetched + self.written_back
    }

    /// Bytes between cores and cache.
    pub fn cores(&self) -> f64 {
        self.read + self.written
    }

    /// Multiplies all.
    pub fn scale(&mut self, factor: f64) {
        for part in [&mut self.read, &mut self.written, &mut self.fetched, &mut self.written_back] {
            *part *= factor;
        }
    }

    /// Adds another.
    pub fn add(&mut self, other: &Traffic) {
        self.read += other.read;
        self.written += other.written;
        self.fetched += other.fetched;
        self.written_back += other.written_back;
    }
}

#[derive(Clone, Copy, Debug)]
struct Block {
    key: (u32, u64),
    valid: u64,
    dirty: u64,
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;

/// A cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    capacity: u64,
    /// Sectors that are in it.
    held: u64,
    blocks: Vec<Block>,
    free: Vec<u32>,
    places: FxHashMap<(u32, u64), u32>,
    newest: u32,
    oldest: u32,
}

/// A buffer as the cache sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Buffers with one number are one memory.
    pub id: u32,
    /// Bytes from one row to the next.
    pub pitch: i64,
}

impl Memory {
    /// A buffer with these sizes, whose elements have so many bits.
    pub fn new(id: u32, shape: &[i64], bits: i64) -> Memory {
        let row = (shape.last().copied().unwrap_or(1).max(1)).saturating_mul(bits).div_euclid(8).max(1);
        // Rows shorter than a block are put beside each other.
        let pitch = if row < WIDTH { row.saturating_mul((WIDTH + row - 1) / row) } else { row };
        Memory { id, pitch }
    }
}

/// The lowest sector of every row of a block.
const EVERY_ROW: u64 = 0x1111_1111_1111_1111;

fn block_number(row: i64, across: i64) -> u64 {
    (row.div_euclid(DOWN) as u64) << 32 | across as u64 & 0xffff_ffff
}

/// Where the innermost axis goes down the rows of the buffer and every run stays in its row: the axes around it.
fn rows_of(memory: &Memory, geometry: &Geometry, start: i64) -> Option<Geometry> {
    let &(stride, _) = geometry.axes.last()?;
    let data = geometry.indexed.is_some() && geometry.axes.len() == 1;
    let whole = geometry.axes.iter().all(|&(stride, _)| stride % memory.pitch == 0);
    let fits = stride == memory.pitch && whole && start.rem_euclid(memory.pitch) + geometry.run <= memory.pitch;
    let outer = || Geometry { axes: geometry.axes[..geometry.axes.len() - 1].into(), ..geometry.clone() };
    (fits && !data && geometry.run > 0).then(outer)
}

impl Cache {
    /// An empty cache of so many bytes.
    pub fn new(bytes: u64) -> Cache {
        let capacity = bytes / SECTOR as u64;
        Cache {
            capacity,
            held: 0,
            blocks: Vec::new(),
            free: Vec::new(),
            places: FxHashMap::default(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Reads or writes; gives what has to be moved.
    pub fn access(
        &mut self,
        memory: &Memory,
        geometry: &Geometry,
        start: i64,
        salt: u64,
        write: bool,
        read: bool,
    ) -> Traffic {
        let (fetched, evicted, factor) = match rows_of(memory, geometry, start) {
            Some(rows) => self.access_rows(memory, &rows, geometry, start, salt, write),
            None => self.access_runs(memory, geometry, start, salt, write),
        };
        let bytes = |sectors: u64| sectors as f64 * SECTOR as f64 * factor;
        Traffic {
            read: if read { geometry.bytes } else { 0.0 },
            written: if write { geometry.bytes } else { 0.0 },
            fetched: if read { bytes(fetched) } else { 0.0 },
            written_back: bytes(evicted),
        }
    }

    /// Rows that lie below each other, block by block.
    fn access_rows(
        &mut self,
        memory: &Memory,
        outer: &Geometry,
        geometry: &Geometry,
        start: i64,
        salt: u64,
        write: bool,
    ) -> (u64, u64, f64) {
        let rows = geometry.axes.last().map_or(1, |&(_, count)| count);
        let (mut fetched, mut evicted) = (0, 0);
        let factor = outer.for_each_run(start, salt, &mut |at| {
            let (top, column) = (at.div_euclid(memory.pitch), at.rem_euclid(memory.pitch));
            let last = column + geometry.run - 1;
            for across in column / WIDTH..=last / WIDTH {
                let first = (column - across * WIDTH).max(0) / SECTOR;
                let end = (last - across * WIDTH).min(WIDTH - 1) / SECTOR;
                let sectors = ((1u64 << (end - first + 1)) - 1) << first;
                let mut row = top;
                while row < top + rows {
                    let (below, count) = (row.rem_euclid(DOWN), (top + rows - row).min(DOWN - row.rem_euclid(DOWN)));
                    let all =
                        if count == DOWN { u64::MAX } else { ((1u64 << (count * ACROSS)) - 1) << (below * ACROSS) };
                    let key = (memory.id, block_number(row, across));
                    let (missing, out) = self.touch(key, (sectors * EVERY_ROW) & all, write);
                    fetched += missing;
                    evicted += out;
                    row += count;
                }
            }
        });
        (fetched, evicted, factor)
    }

    fn access_runs(
        &mut self,
        memory: &Memory,
        geometry: &Geometry,
        start: i64,
        salt: u64,
        write: bool,
    ) -> (u64, u64, f64) {
        let mut fetched = 0u64;
        let mut evicted = 0u64;
        let mut current: Option<((u32, u64), u64)> = None;
        let run = geometry.run;
        let factor = geometry.for_each_run(start, salt, &mut |at| {
            let (mut from, end) = (at, at.saturating_add(run));
            while from < end {
                let (row, column) = (from.div_euclid(memory.pitch), from.rem_euclid(memory.pitch));
                let across = column.div_euclid(WIDTH);
                let stop = (memory.pitch - column).min((across + 1) * WIDTH - column).min(end - from);
                let (first, last) = (column % WIDTH / SECTOR, (column % WIDTH + stop - 1) / SECTOR);
                let sectors = ((1u64 << (last - first + 1)) - 1) << first;
                let mask = sectors << (row.rem_euclid(DOWN) * ACROSS);
                let key = (memory.id, block_number(row, across));
                match &mut current {
                    Some((open, wanted)) if *open == key => *wanted |= mask,
                    other => {
                        if let Some((key, wanted)) = other.replace((key, mask)) {
                            let (missing, out) = self.touch(key, wanted, write);
                            fetched += missing;
                            evicted += out;
                        }
                    }
                }
                from += stop;
            }
        });
        if let Some((key, wanted)) = current {
            let (missing, out) = self.touch(key, wanted, write);
            fetched += missing;
            evicted += out;
        }
        (fetched, evicted, factor)
    }

    /// Makes sectors of a block present: how many were not, and how many written ones had to leave.
    fn touch(&mut self, key: (u32, u64), wanted: u64, write: bool) -> (u64, u64) {
        let at = match self.places.get(&key) {
            Some(&at) => {
                self.unlink(at);
                at
            }
            None => {
                let block = Block { key, valid: 0, dirty: 0, newer: NONE, older: NONE };
                let at = match self.free.pop() {
                    Some(at) => {
                        self.blocks[at as usize] = block;
                        at
                    }
                    None => {
                        self.blocks.push(block);
                        self.blocks.len() as u32 - 1
                    }
                };
                self.places.insert(key, at);
                at
            }
        };
        let block = &mut self.blocks[at as usize];
        let missing = u64::from((wanted & !block.valid).count_ones());
        block.valid |= wanted;
        if write {
            block.dirty |= wanted;
        }
        self.held += missing;
        self.link_newest(at);
        (missing, self.make_room(at))
    }

    fn make_room(&mut self, keep: u32) -> u64 {
        let mut evicted = 0;
        while self.held > self.capacity && self.oldest != keep && self.oldest != NONE {
            let at = self.oldest;
            self.unlink(at);
            let block = self.blocks[at as usize];
            evicted += u64::from(block.dirty.count_ones());
            self.held -= u64::from(block.valid.count_ones());
            self.places.remove(&block.key);
            self.free.push(at);
        }
        evicted
    }

    fn unlink(&mut self, at: u32) {
        let Block { newer, older, .. } = self.blocks[at as usize];
        match newer {
            NONE => self.newest = older,
            other => self.blocks[other as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            other => self.blocks[other as usize].newer = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = self.newest;
        self.blocks[at as usize].older = before;
        self.blocks[at as usize].newer = NONE;
        match before {
            NONE => self.oldest = at,
            other => self.blocks[other as usize].newer = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rows: i64, pitch: i64) -> Geometry {
        Geometry { run: 512, axes: [(pitch, rows)].into_iter().collect(), bytes: 512.0 * rows as f64, indexed: None }
    }

    #[test]
    fn what_was_read_is_there_until_it_makes_room() {
        let memory = Memory::new(0, &[1024, 1024], 16);
        let mut cache = Cache::new(64 << 10);
        let tile = lines(64, 2048);
        assert_eq!(cache.access(&memory, &tile, 0, 0, false, true).fetched, 32768.0);
        assert_eq!(cache.access(&memory, &tile, 0, 0, false, true).fetched, 0.0);
        // Half of it, shifted by half a tile: half is new.
        assert_eq!(cache.access(&memory, &tile, 32 * 2048, 0, false, true).fetched, 16384.0);
        // Two further tiles push the first ones out.
        cache.access(&memory, &tile, 512, 0, false, true);
        cache.access(&memory, &tile, 1024, 0, false, true);
        assert_eq!(cache.access(&memory, &tile, 0, 0, false, true).fetched, 32768.0);
    }

    #[test]
    fn what_was_written_goes_to_memory_when_it_leaves() {
        let memory = Memory::new(0, &[1024, 1024], 16);
        let mut cache = Cache::new(32 << 10);
        let tile = lines(64, 2048);
        let written = cache.access(&memory, &tile, 0, 0, true, false);
        assert_eq!((written.fetched, written.written_back, written.written), (0.0, 0.0, 32768.0));
        let read = cache.access(&memory, &tile, 512, 0, false, true);
        assert_eq!((read.fetched, read.written_back), (32768.0, 32768.0));
    }

    #[test]
    fn a_run_over_rows_touches_what_lies_in_each() {
        let memory = Memory::new(0, &[8, 100], 32);
        let mut cache = Cache::new(1 << 20);
        let all = Geometry { run: 3200, bytes: 3200.0, ..Geometry::default() };
        // Rows of 400 bytes are put beside each other in pairs: 800 bytes take 7 sectors.
        assert_eq!(cache.access(&memory, &all, 0, 0, false, true).fetched, 4.0 * 7.0 * 128.0);
    }
}
