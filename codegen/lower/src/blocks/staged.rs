//! Blocks of products whose operands come through a stage: the rows, columns and depths that take least time of those that fit.

use tarsia_tensor::DType;
use tarsia_tile::{
    Machine,
    machine::{GLOBAL, MoveShape},
};

use crate::target::Target;

/// A block of a product whose operands come through a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Depth of what the stage holds of left and of right operand; one is a multiple of the other.
    pub stage: [usize; 2],
    /// Depth of one product.
    pub piece: usize,
    /// Blocks of rows that are walked together.
    pub band: usize,
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// Neighbours along the depth are neighbours in memory.
    AlongDepth,
    /// Neighbours along rows or columns are.
    AlongSide,
    /// In the layout that it has in its stage: strips of so much depth, one behind the other.
    InStrips(usize),
}

/// Rates along the way of a staged product, in cycles of one core.
pub(super) struct Way<'t> {
    target: &'t Target,
    machine: &'t Machine,
    lies: [Lies; 2],
    /// Bytes of the stage; of the unit's memories for left operand, right operand and sum.
    pub stage: usize,
    pub unit: [usize; 3],
    /// Bytes a cycle that a core gets at most when all load.
    share: f64,
    /// Bytes a cycle and start-up: from the stage to both operands, of the result.
    pub feed: [(f64, f64); 2],
    pub drain: (f64, f64),
    /// Multiply-adds a cycle, start-up, granule.
    pub product: (f64, f64, [usize; 3]),
    /// Bytes of an element of left operand, right operand and sum.
    pub bytes: [usize; 3],
    pub cores: usize,
}

/// Sizes that are not known when a program is compiled are taken to be this.
const UNKNOWN: usize = 1024;
/// Rows or columns of a block are at most so many.
const LONGEST: usize = 512;
/// How often tiles are halved before blocks become smaller too.
const LARGE: usize = 2;
/// One operand may be so many times as deep in the stage as the other.
const TIMES: usize = 2;
/// Moves for a row of an image: zeros before and behind it.
const IMAGE_MOVES: usize = 3;
/// How much more all cores together get from the cache than from device memory.
const CACHED: f64 = 3.0;

/// The block for a product of these sizes (rows, columns, depth), `batches` of them, that takes least time; every operand is there twice,
/// so that one is filled while the other is used. The depth in the stage is a multiple of `inner`. Rows, columns and depth that are
/// `asked` for are taken as they are.
pub(crate) fn choose(
    target: &Target,
    asked: Option<&[usize]>,
    size: [Option<usize>; 3],
    inner: usize,
    batches: usize,
    types: [DType; 3],
    lies: [Lies; 2],
) -> Staged {
    let way = Way::of(target, types, lies);
    if let Some(&[rows, columns, ref depth @ ..]) = asked {
        return way.asked([rows, columns], depth.first().copied(), size, inner.max(1));
    }
    let longest = target.elements(LONGEST << LARGE).min(LONGEST);
    let [m, n, k] = size.map(|size| size.unwrap_or(UNKNOWN).max(1));
    let [gm, gn, gk] = way.product.2;
    let mut best: Option<(f64, Staged)> = None;
    for &rows in &sides(m, gm, longest) {
        for &columns in &sides(n, gn, longest) {
            if rows * columns * way.bytes[2] > way.unit[2] {
                break;
            }
            let Some(block) = way.depths([rows, columns], k, gk, inner.max(1)) else { continue };
            let cycles = way.cycles(block, [m, n, k], batches);
            if best.as_ref().is_none_or(|(least, _)| cycles < *least) {
                best = Some((cycles, block));
            }
        }
    }
    let smallest = Staged { rows: gm, columns: gn, stage: [gk.max(inner); 2], piece: gk, band: 1 };
    let block = best.map_or(smallest, |(_, block)| block);
    // Operands of the blocks that run at the same time: as much of the left as of the right.
    let square = (way.cores as f64 * block.columns as f64 / block.rows as f64).sqrt();
    let band = (square.round() as usize).clamp(1, m.div_ceil(block.rows).max(1)).min(way.cores);
    Staged { rows: block.rows.min(m), columns: block.columns.min(n), band, ..block }
}

/// The steps in which rows, columns and depth of a block can be longer.
pub(crate) fn granule(target: &Target, types: [DType; 3], inner: usize) -> [usize; 3] {
    let [rows, columns, depth] = Way::of(target, types, [Lies::AlongDepth; 2]).product.2;
    [rows, columns, if inner > 1 { inner } else { depth }]
}

/// Equal parts of a side, whole granules, shortest first.
fn sides(size: usize, granule: usize, longest: usize) -> Vec<usize> {
    let granules = size.div_ceil(granule);
    let most = (longest / granule).max(1);
    let part = |parts: usize| granules.div_ceil(parts) * granule;
    let mut found: Vec<usize> = (granules.div_ceil(most)..=granules).map(part).collect();
    found.extend((1..=most.min(granules)).filter(|part| part.is_power_of_two()).map(|part| part * granule));
    found.sort_unstable();
    found.dedup();
    found
}

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

    /// The block of these rows and columns, and of this depth in the stage: else of what fits twice, or once.
    fn asked(
        &self,
        [rows, columns]: [usize; 2],
        depth: Option<usize>,
        size: [Option<usize>; 3],
        inner: usize,
    ) -> Staged {
        let [m, n, k] = size.map(|size| size.unwrap_or(usize::MAX).max(1));
        let granule = self.product.2[2];
        let [a, b, _] = self.bytes;
        let (rows, columns) = (rows.min(m), columns.min(n));
        let pieces = [2, 1].map(|copies| {
            let fits = (self.unit[0] / (copies * rows * a)).min(self.unit[1] / (copies * columns * b));
            fits / granule * granule
        });
        let piece = pieces.into_iter().find(|&piece| piece > 0).unwrap_or(granule).min(k.next_multiple_of(granule));
        let whole = |depth: usize| depth.min(k).next_multiple_of(inner);
        let stage = match depth {
            Some(depth) => [whole(depth); 2],
            None => {
                let deep = self.depths([rows, columns], k.min(UNKNOWN.max(inner)), granule, inner);
                deep.map_or([whole(piece); 2], |block| block.stage)
            }
        };
        Staged { rows, columns, stage, piece: piece.min(stage[0].max(stage[1])), band: 1 }
    }

    /// Cycles to load a chunk of an operand into its stage.
    pub(super) fn load(&self, which: usize, side: usize, depth: usize) -> f64 {
        let stage = self.target.stages[which].as_deref().unwrap_or_default();
        let Some(path) = self.machine.path(GLOBAL, stage, &[]) else { return 0.0 };
        let (bursts, length) = match self.lies[which] {
            Lies::AlongDepth => (side, depth),
            Lies::AlongSide => (depth, side),
            Lies::InStrips(strip) => (depth.div_ceil(strip), side * strip),
        };
        let relaid = !matches!(self.lies[which], Lies::InStrips(_));
        let burst_bytes = (length * self.bytes[which]) as f64;
        let bytes = bursts as f64 * burst_bytes;
        let aligned = (length * self.bytes[which]).is_multiple_of(512);
        let shape = MoveShape { bytes, bursts: bursts as f64, burst_bytes, aligned, relaid, ..MoveShape::default() };
        let cost = self.machine.move_cost(path, &shape);
        cost.streaming().max(cost.bytes / self.share)
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

    /// The deepest piece that fits twice, and the depths of both operands in the stage, twice, that are loaded fastest.
    fn depths(&self, [rows, columns]: [usize; 2], k: usize, granule: usize, inner: usize) -> Option<Staged> {
        let k = k.next_multiple_of(granule);
        let [a, b, _] = self.bytes;
        let fits = (self.unit[0] / (2 * rows * a)).min(self.unit[1] / (2 * columns * b)) / granule * granule;
        let piece = fits.min(k);
        if piece == 0 {
            return None;
        }
        let room = |[left, right]: [usize; 2]| 2 * (rows * left * a + columns * right * b) <= self.stage;
        let block = |stage| Staged { rows, columns, stage, piece, band: 1 };
        if inner > 1 {
            let chunk = (self.stage / (2 * (rows * a + columns * b))).min(k.next_multiple_of(inner)) / inner * inner;
            return (chunk > 0).then(|| block([chunk; 2]));
        }
        let cycles = |[left, right]: [usize; 2]| {
            self.load(0, rows, left) * k.div_ceil(left) as f64 + self.load(1, columns, right) * k.div_ceil(right) as f64
        };
        // Halves, quarters … of the depth, in whole pieces, so that the last chunk is no rest; else whole pieces.
        let parts = (0..usize::BITS).map(|shift| (k >> shift) / piece * piece).take_while(|&depth| depth > 0);
        let doubled = (0..8).map(|shift| piece << shift).filter(|&depth| depth <= k);
        let depths: Vec<usize> = parts.chain(doubled).collect();
        let pairs = depths.iter().flat_map(|&left| depths.iter().map(move |&right| [left, right]));
        // While the longer chunk is loaded the other operand's two chunks are all there is to compute with.
        let whole = |&[left, right]: &[usize; 2]| {
            let (short, long) = (left.min(right), left.max(right));
            long.is_multiple_of(short) && long / short <= TIMES
        };
        let stage = pairs.filter(|pair| whole(pair) && room(*pair));
        let best = stage.map(|pair| (cycles(pair), pair)).min_by(|x, y| x.0.total_cmp(&y.0))?;
        Some(block(best.1))
    }

    /// Cycles of the whole product, work dealt out to all cores.
    fn cycles(&self, block: Staged, [m, n, k]: [usize; 3], batches: usize) -> f64 {
        let Staged { rows, columns, stage, piece, .. } = block;
        let pieces = k.div_ceil(piece) as f64;
        let (per_cycle, startup, granule) = self.product;
        let depth = k.next_multiple_of(granule[2]) as f64;
        let unit = (rows * columns) as f64 * depth / per_cycle + startup * pieces;
        let operand = |i: usize| [rows, columns][i] as f64 * depth * self.bytes[i] as f64;
        let feed: f64 = (0..2).map(|i| operand(i) / self.feed[i].0 + self.feed[i].1 * pieces).sum();
        let loads = [0, 1].map(|i| self.load(i, [rows, columns][i], stage[i]));
        let load: f64 = (0..2).map(|i| loads[i] * k.div_ceil(stage[i]) as f64).sum();
        let sum = (rows * columns * self.bytes[2]) as f64;
        let drain = sum / self.drain.0 + self.drain.1;
        let overlapped = 2 * rows * columns * self.bytes[2] <= self.unit[2];
        let steady = unit.max(feed).max(load).max(drain) + if overlapped { 0.0 } else { drain };
        let first = loads[0] + loads[1] + feed / pieces + if overlapped { drain } else { 0.0 };
        let items = m.div_ceil(rows) * n.div_ceil(columns) * batches;
        items.div_ceil(self.cores) as f64 * steady + first
    }
}
