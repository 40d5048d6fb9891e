//! The cache between device memory and the cores: which bytes of an access are in it.
//!
//! A buffer is cut into blocks of 512 bytes by 16 rows, and a block into 64 sectors of 128 bytes: what a request to memory brings.
//! The least recently used block makes room. What is written stays until then.
//!
//! A row is a buffer's last axis; in one of one axis, or of fractals, it is what the first access to it takes for one.

use std::ops::Range;

use rustc_hash::FxHashMap;
use tarsia_tile::Layout;

use crate::memory::Geometry;

/// Bytes of a sector, sectors beside each other in a block, rows of a block.
const SECTOR: i64 = 128;
const ACROSS: i64 = 4;
const DOWN: i64 = 16;
/// Bits of a block's number that say in which rows it is.
const ROW_BITS: u32 = 40;
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
    /// Sectors that have come into it so far.
    brought: u64,
    /// Bytes from one row of a memory to the next, once it was accessed.
    pitches: FxHashMap<u32, i64>,
}

/// A buffer as the cache sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Buffers with one number are one memory.
    pub id: u32,
    /// Bytes from one row to the next, if it has rows.
    pub pitch: Option<i64>,
}

impl Memory {
    /// A buffer with these sizes, whose elements have so many bits.
    pub fn new(id: u32, shape: &[i64], bits: i64) -> Memory {
        let row = (shape.last().copied().unwrap_or(1).max(1)).saturating_mul(bits).div_euclid(8).max(1);
        // Rows shorter than a block are put beside each other.
        let pitch = if row < WIDTH { row.saturating_mul((WIDTH + row - 1) / row) } else { row };
        Memory { id, pitch: (shape.len() > 1).then_some(pitch) }
    }

    /// The same in a layout: only what is row-major has rows.
    pub fn laid_out(self, layout: Layout) -> Memory {
        Memory { pitch: self.pitch.filter(|_| layout == Layout::RowMajor), ..self }
    }
}

/// The lowest sector of every row of a block.
const EVERY_ROW: u64 = 0x1111_1111_1111_1111;

/// Rows are what differs most, and the low bits what a hash spreads best.
fn block_number(row: i64, across: i64) -> u64 {
    (across as u64) << ROW_BITS | row.div_euclid(DOWN) as u64 & ((1 << ROW_BITS) - 1)
}

/// Where the innermost axis goes down the rows of the buffer and every run stays in its row: the axes around it.
fn rows_of(pitch: i64, geometry: &Geometry, start: i64) -> Option<Geometry> {
    let &(stride, _) = geometry.axes.last()?;
    let data = geometry.indexed.is_some() && geometry.axes.len() == 1;
    let whole = geometry.axes.iter().all(|&(stride, _)| stride % pitch == 0);
    let fits = stride == pitch && whole && start.rem_euclid(pitch) + geometry.run <= pitch;
    let outer = || Geometry { axes: geometry.axes[..geometry.axes.len() - 1].into(), ..geometry.clone() };
    (fits && !data && geometry.run > 0).then(outer)
}

/// What an access looks for in a memory, and what came of it: sectors that were not there, and written ones that had to leave.
struct Visit {
    memory: u32,
    pitch: i64,
    write: bool,
    fetched: u64,
    evicted: u64,
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
            brought: 0,
            pitches: FxHashMap::default(),
        }
    }

    /// How many times its size has come into it so far.
    pub fn turnover(&self) -> f64 {
        self.brought as f64 / self.capacity.max(1) as f64
    }

    /// Bytes from the first row of a block of a memory to that of the next.
    pub fn block(&self, memory: &Memory) -> i64 {
        DOWN * memory.pitch.or_else(|| self.pitches.get(&memory.id).copied()).unwrap_or(WIDTH)
    }

    /// Puts what it holds of some memories so many bytes further on, to whole blocks.
    pub fn shift(&mut self, by: &[(Memory, i64)]) {
        let rounded = |value: i64, unit: i64| (value + unit / 2).div_euclid(unit);
        let by = by.iter().map(|(memory, bytes)| {
            let pitch = self.block(memory) / DOWN;
            (memory.id, (rounded(bytes.div_euclid(pitch), DOWN), rounded(bytes.rem_euclid(pitch), WIDTH)))
        });
        let by: FxHashMap<u32, (i64, i64)> = by.collect();
        let mut places = FxHashMap::default();
        for ((memory, number), at) in self.places.drain() {
            let (down, across) = by.get(&memory).copied().unwrap_or((0, 0));
            let row = (number & ((1 << ROW_BITS) - 1)) as i64 + down;
            let key = (memory, block_number(row * DOWN, (number >> ROW_BITS) as i64 + across));
            self.blocks[at as usize].key = key;
            places.insert(key, at);
        }
        self.places = places;
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
        let pitch = self.pitch(memory, geometry);
        let mut visit = Visit { memory: memory.id, pitch, write, fetched: 0, evicted: 0 };
        let factor = match rows_of(pitch, geometry, start) {
            Some(outer) => {
                let rows = geometry.axes.last().map_or(1, |&(_, count)| count);
                outer.for_each_run(start, salt, &mut |at| {
                    let (top, column) = (at.div_euclid(pitch), at.rem_euclid(pitch));
                    self.touch_rows(&mut visit, top..top + rows, column..column + geometry.run);
                })
            }
            None => self.access_runs(&mut visit, geometry, start, salt),
        };
        let bytes = |sectors: u64| sectors as f64 * SECTOR as f64 * factor;
        Traffic {
            read: if read { geometry.bytes } else { 0.0 },
            written: if write { geometry.bytes } else { 0.0 },
            fetched: if read { bytes(visit.fetched) } else { 0.0 },
            written_back: bytes(visit.evicted),
        }
    }

    fn pitch(&mut self, memory: &Memory, geometry: &Geometry) -> i64 {
        let rows = || match geometry.axes.last() {
            Some(&(stride, _)) if stride >= WIDTH && stride >= geometry.run => stride,
            _ => WIDTH,
        };
        memory.pitch.unwrap_or_else(|| *self.pitches.entry(memory.id).or_insert_with(rows))
    }

    /// These columns of these rows, block by block.
    fn touch_rows(&mut self, visit: &mut Visit, rows: Range<i64>, columns: Range<i64>) {
        let last = columns.end - 1;
        for across in columns.start / WIDTH..=last / WIDTH {
            let first = (columns.start - across * WIDTH).max(0) / SECTOR;
            let end = (last - across * WIDTH).min(WIDTH - 1) / SECTOR;
            let sectors = ((1u64 << (end - first + 1)) - 1) << first;
            let mut row = rows.start;
            while row < rows.end {
                let (below, count) = (row.rem_euclid(DOWN), (rows.end - row).min(DOWN - row.rem_euclid(DOWN)));
                let all = if count == DOWN { u64::MAX } else { ((1u64 << (count * ACROSS)) - 1) << (below * ACROSS) };
                self.touch(visit, (visit.memory, block_number(row, across)), (sectors * EVERY_ROW) & all);
                row += count;
            }
        }
    }

    fn access_runs(&mut self, visit: &mut Visit, geometry: &Geometry, start: i64, salt: u64) -> f64 {
        let mut current: Option<((u32, u64), u64)> = None;
        let (run, pitch) = (geometry.run, visit.pitch);
        let factor = geometry.for_each_run(start, salt, &mut |at| {
            let (mut from, end) = (at, at.saturating_add(run));
            while from < end {
                let (row, column) = (from.div_euclid(pitch), from.rem_euclid(pitch));
                if column == 0 && end - from >= pitch {
                    let rows = (end - from) / pitch;
                    self.touch_rows(visit, row..row + rows, 0..pitch);
                    from += rows * pitch;
                    continue;
                }
                let across = column.div_euclid(WIDTH);
                let stop = (pitch - column).min((across + 1) * WIDTH - column).min(end - from);
                let (first, last) = (column % WIDTH / SECTOR, (column % WIDTH + stop - 1) / SECTOR);
                let sectors = ((1u64 << (last - first + 1)) - 1) << first;
                let mask = sectors << (row.rem_euclid(DOWN) * ACROSS);
                let key = (visit.memory, block_number(row, across));
                match &mut current {
                    Some((open, wanted)) if *open == key => *wanted |= mask,
                    other => {
                        if let Some((key, wanted)) = other.replace((key, mask)) {
                            self.touch(visit, key, wanted);
                        }
                    }
                }
                from += stop;
            }
        });
        if let Some((key, wanted)) = current {
            self.touch(visit, key, wanted);
        }
        factor
    }

    /// Makes sectors of a block present.
    fn touch(&mut self, visit: &mut Visit, key: (u32, u64), wanted: u64) {
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
        if visit.write {
            block.dirty |= wanted;
        }
        self.held += missing;
        self.brought += missing;
        self.link_newest(at);
        visit.fetched += missing;
        visit.evicted += self.make_room(at);
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
    fn a_buffer_of_one_axis_has_the_rows_of_its_first_access() {
        let memory = Memory::new(0, &[1 << 20], 16);
        let mut cache = Cache::new(1 << 20);
        let tile = Geometry { run: 128, axes: [(2048, 64)].into_iter().collect(), bytes: 8192.0, indexed: None };
        assert_eq!(cache.access(&memory, &tile, 0, 0, false, true).fetched, 8192.0);
        // Two rows of it, and two that are new.
        let run = Geometry { run: 4 * 2048, bytes: 8192.0, ..Geometry::default() };
        assert_eq!(cache.access(&memory, &run, 62 * 2048, 0, false, true).fetched, 8192.0 - 256.0);
        assert_eq!(cache.blocks.len(), 4 + 2 * 4 - 1);
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
