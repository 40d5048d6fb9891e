//! What the way of a staged product takes: from memory to the stage, from there to the unit, and of the result to memory.

use tarsia_tensor::DType;
use tarsia_tile::{
    Machine,
    machine::{GLOBAL, MoveShape},
};

use super::staged::{Lies, Staged, UNKNOWN};
use crate::target::Target;

/// Rates along the way of a staged product, in cycles of one core.
#[derive(Clone)]
pub(super) struct Way<'t> {
    pub target: &'t Target,
    pub machine: &'t Machine,
    pub lies: [Lies; 2],
    /// The operand that stays in the exchange space, and how what does not fit there lies.
    pub kept: Option<(usize, Lies)>,
    /// Rows, columns and depth of the product.
    pub size: [usize; 3],
    /// Bits of an element of the result that goes to device memory.
    pub stored: Option<usize>,
    /// Bytes of the stage; of the unit's memories for left operand, right operand and sum.
    pub stage: usize,
    pub unit: [usize; 3],
    /// Bytes a cycle that a core gets at most when all load.
    pub share: f64,
    /// Bytes a cycle and start-up: from the stage to both operands, of the result.
    pub feed: [(f64, f64); 2],
    pub drain: (f64, f64),
    /// Multiply-adds a cycle, start-up, granule.
    pub product: (f64, f64, [usize; 3]),
    /// Bytes of an element of left operand, right operand and sum.
    pub bytes: [usize; 3],
    pub cores: usize,
}

/// Addresses are told apart by so many of their lowest bits.
const LINE: u32 = 9;
/// Moves for a row of an image: zeros before and behind it.
const IMAGE_MOVES: usize = 3;
/// The part of the cache's bandwidth that cores reach which bring an operand while they use it.
const REACHED: f64 = 0.85;
/// How much more all cores together get from the cache than from device memory.
const CACHED: f64 = 3.0;

impl<'t> Way<'t> {
    pub(super) fn of(target: &'t Target, [a, b, acc]: [DType; 3], lies: [Lies; 2]) -> Way<'t> {
        let machine = &*target.machine;
        let rate = |from: &str, to: &str| {
            machine.path(from, to, &[]).map_or((8.0, 100.0), |path| (path.bytes_per_cycle, path.startup_cycles))
        };
        let stage = target.stages.each_ref().map(|stage| stage.clone().unwrap_or_default());
        let product = machine.product(a, b);
        let (per_cycle, startup, mut granule) =
            product.map_or((1.0, 0.0, [1; 3]), |(_, p)| (p.per_cycle, p.startup_cycles, p.granule));
        // Pieces of what the stage holds begin at blocks of its layouts.
        let blocks = [(0, a), (1, b)].map(|(which, dtype)| target.stage_block(&stage[which], dtype));
        granule[2] = granule[2].max(blocks[0]).max(blocks[1]);
        let core = product.and_then(|(unit, _)| machine.core(&unit.core));
        let cores = core.map_or(1, |core| core.count).max(1);
        let shared = machine.space(GLOBAL).and_then(|space| space.bytes_per_cycle);
        let result = target.exchange.clone().unwrap_or_else(|| target.vector_space.clone());
        Way {
            target,
            machine,
            lies,
            kept: None,
            size: [UNKNOWN; 3],
            stored: None,
            stage: target.bytes_of(&stage[0]),
            unit: target.matrix_spaces.each_ref().map(|space| target.bytes_of(space)),
            share: shared.map_or(f64::INFINITY, |rate| rate * CACHED / cores as f64),
            feed: [0, 1].map(|which| rate(&stage[which], &target.matrix_spaces[which])),
            drain: rate(&target.matrix_spaces[2], &result),
            product: (per_cycle, startup, granule),
            bytes: [a, b, acc].map(|dtype| dtype.bits().div_ceil(8)),
            cores,
        }
    }

    /// Cycles to load a chunk of an operand into its stage.
    pub(super) fn load(&self, which: usize, side: usize, depth: usize) -> f64 {
        self.load_as(which, self.lies[which], side, depth)
    }

    pub(super) fn load_as(&self, which: usize, lies: Lies, side: usize, depth: usize) -> f64 {
        let stage = self.target.stages[which].as_deref().unwrap_or_default();
        let Some(path) = self.machine.path(GLOBAL, stage, &[]) else { return 0.0 };
        let (bursts, length) = match lies {
            Lies::AlongDepth => (side, depth),
            Lies::AlongSide => (depth, side),
            Lies::InStrips(strip) => (depth.div_ceil(strip), side * strip),
            Lies::Exchanged(_) => (1, side * depth),
        };
        let relaid = !matches!(lies, Lies::InStrips(_));
        let burst_bytes = (length * self.bytes[which]) as f64;
        let bytes = bursts as f64 * burst_bytes;
        // The rows of memory that runs are parts of; parts that are no whole lines begin anywhere.
        let pitch = match lies {
            Lies::AlongDepth => self.size[2],
            Lies::AlongSide => self.size[which],
            Lies::InStrips(_) | Lies::Exchanged(_) => length,
        };
        let whole = |elements: usize| (elements * self.bytes[which]).trailing_zeros().min(LINE);
        let alignment = if whole(length) < LINE { 1 } else { 1 << whole(pitch) };
        let shape = MoveShape { bytes, bursts: bursts as f64, burst_bytes, alignment, relaid, ..MoveShape::default() };
        let cost = self.machine.move_cost(path, &shape);
        cost.streaming().max(cost.bytes / self.share)
    }

    /// Cycles in which the sum of a block leaves the unit's memory.
    pub(super) fn drained(&self, rows: usize, columns: usize) -> f64 {
        let path = self.machine.path(&self.target.matrix_spaces[2], GLOBAL, &[]);
        let (Some(bits), Some(path)) = (self.stored, path) else {
            return (rows * columns * self.bytes[2]) as f64 / self.drain.0 + self.drain.1;
        };
        let burst_bytes = (columns * bits) as f64 / 8.0;
        let alignment = 1 << (self.size[1] * bits).div_ceil(8).trailing_zeros().min(LINE);
        let bytes = burst_bytes * rows as f64;
        let shape = MoveShape { bytes, bursts: rows as f64, burst_bytes, alignment, ..MoveShape::default() };
        self.machine.move_cost(path, &shape).streaming()
    }

    /// Cycles in which the cache gives and takes so many bytes for every core.
    pub(super) fn through_cache(&self, bytes: f64) -> f64 {
        let cache = self.machine.space(GLOBAL).and_then(|space| space.cache.as_ref());
        let rate = cache.and_then(|cache| cache.bytes_per_cycle).unwrap_or(f64::INFINITY);
        bytes * self.cores as f64 / (rate * REACHED)
    }

    /// Cycles in which the vector cores take a sum over, if it is theirs to finish.
    pub(super) fn taken(&self, block: Staged) -> f64 {
        let exchange = self.target.exchange.as_deref().unwrap_or_default();
        let path = self.machine.path(exchange, &self.target.vector_space, &[]);
        let sum = (block.rows * block.columns * self.bytes[2]) as f64 / self.target.lanes.max(1) as f64;
        path.map_or(0.0, |path| sum / path.bytes_per_cycle)
    }

    /// Cycles in which the vector cores of an item bring chunks of an operand, of this depth and together so deep, into the exchange space;
    /// and the bytes that they read and write for it.
    pub(super) fn exchanged(&self, which: usize, lies: Lies, [side, chunk, depth]: [usize; 3]) -> (f64, f64) {
        let exchange = self.target.exchange.as_deref().unwrap_or_default();
        let vectors = self.target.vector_space.as_str();
        let (run, bits) = match lies {
            Lies::AlongDepth => (chunk, 8 * self.bytes[which]),
            Lies::Exchanged(bits) => (side, bits),
            _ => (side, 8 * self.bytes[which]),
        };
        let elements = side as f64 * depth as f64;
        let run_bytes = (run * bits).div_ceil(8);
        let (bursts, burst_bytes) = (elements / run as f64, run_bytes as f64);
        let pitch = if lies == Lies::AlongDepth { self.size[2] } else { self.size[which] };
        let pitch = (pitch * bits).div_ceil(8);
        let alignment = 1 << run_bytes.trailing_zeros().min(pitch.trailing_zeros()).min(LINE);
        let read = MoveShape { bytes: bursts * burst_bytes, bursts, burst_bytes, alignment, ..MoveShape::default() };
        let bytes = elements * self.bytes[which] as f64;
        let written = MoveShape { bytes, bursts: 1.0, burst_bytes: bytes, aligned: true, ..MoveShape::default() };
        let moved = [(GLOBAL, vectors, read), (vectors, exchange, written)].map(|(from, to, shape)| {
            let cost = self.machine.path(from, to, &[]).map(|path| self.machine.move_cost(path, &shape));
            cost.map_or((0.0, 0.0), |cost| (cost.path_cycles, cost.bytes))
        });
        (moved[0].0.max(moved[1].0) / self.target.lanes.max(1) as f64, moved[0].1 + moved[1].1)
    }

    /// Cycles to load so many rows of an image, each of `width` places of this depth.
    pub(super) fn load_rows(&self, rows: usize, width: usize, depth: usize) -> f64 {
        let stage = self.target.stages[0].as_deref().unwrap_or_default();
        let startup = self.machine.path(GLOBAL, stage, &[]).map_or(0.0, |path| path.startup_cycles);
        self.load(0, rows * width, depth) + startup * (rows * IMAGE_MOVES) as f64
    }

    /// The granule of rows, columns and depth of a product.
    pub(super) fn granule(&self) -> [usize; 3] {
        self.product.2
    }

    /// The deepest piece of at most `depth` that fits twice, else the smallest; and whether it fits.
    pub(super) fn piece(&self, [rows, columns]: [usize; 2], depth: usize) -> (usize, bool) {
        let [gm, gn, gk] = self.product.2;
        let [rows, columns] = [rows.next_multiple_of(gm), columns.next_multiple_of(gn)];
        let fits = (self.unit[0] / (2 * rows * self.bytes[0])).min(self.unit[1] / (2 * columns * self.bytes[1]));
        let piece = (fits / gk * gk).min(depth.next_multiple_of(gk));
        (piece.max(gk), piece > 0)
    }
}
