//! Blocks of products whose operands come through a stage: the rows, columns and depths that take least time of those that fit.

use tarsia_tensor::DType;
use tarsia_tile::machine::GLOBAL;

use super::{
    runs::{COUNTED_ON, Runs},
    way::Way,
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
    /// Blocks of rows that are walked together; where an operand is kept, blocks of its side.
    pub band: usize,
    /// The operand that stays in the exchange space for all blocks that share it, and how many of its chunks do.
    pub kept: Option<(usize, usize)>,
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
    /// As vector cores leave it in the exchange space, in one run; they make it of elements of so many bits.
    Exchanged(usize),
}

/// A product, as far as its blocks depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    /// Rows, columns and depth, where they are known.
    pub size: [Option<usize>; 3],
    /// What the depth in the stage is a multiple of.
    pub inner: usize,
    /// How many such products there are.
    pub batches: usize,
    /// Element types of left operand, right operand and sum.
    pub types: [DType; 3],
    pub lies: [Lies; 2],
    /// Whether an operand may stay in the exchange space for several blocks.
    pub stays: [bool; 2],
    /// Bits of an element of the result, if it goes from the unit's memory to device memory; else vectors finish it.
    pub result: Option<usize>,
}

/// Sizes that are not known when a program is compiled are taken to be this.
pub(super) const UNKNOWN: usize = 1024;
/// Rows or columns of a block are at most so many.
const LONGEST: usize = 512;
/// How often tiles are halved before blocks become smaller too.
const LARGE: usize = 2;
/// One operand may be so many times as deep in the stage as the other.
const TIMES: usize = 2;
/// How much longer what vector cores bring is taken to take, so that it is done only where it pays.
const WORTH: f64 = 1.02;

/// The block for a product that takes least time; every operand is there twice, so that one is filled while the other is used. Rows,
/// columns and depth that are `asked` for are taken as they are.
pub(crate) fn choose(target: &Target, asked: Option<&[usize]>, problem: &Problem) -> Staged {
    let size = problem.size.map(|size| size.unwrap_or(UNKNOWN).max(1));
    let way = Way { size, stored: problem.result, ..Way::of(target, problem.types, problem.lies) };
    let staying = (0..2).filter(|&which| problem.stays[which]).map(|which| way.keeping(which));
    let ways: Vec<Way> = std::iter::once(way.clone()).chain(staying).collect();
    let inner = problem.inner.max(1);
    let [m, n, k] = size;
    let [gm, gn, gk] = way.product.2;
    // The best block each way.
    let mut best: Vec<Option<(f64, Staged)>> = vec![None; ways.len()];
    let mut look = |at: usize, block: Staged| {
        let block = ways[at].keep(block, [m, n, k]);
        let cycles = ways[at].cycles(block, [m, n, k], problem.batches);
        if best[at].as_ref().is_none_or(|(least, _)| cycles < *least) {
            best[at] = Some((cycles, block));
        }
    };
    if let Some(&[rows, columns, ref depth @ ..]) = asked {
        for (at, way) in ways.iter().enumerate() {
            look(at, way.asked([rows, columns], depth.first().copied(), problem.size, inner));
        }
    } else {
        let longest = target.elements(LONGEST << LARGE).min(LONGEST);
        for &rows in &sides(m, gm, longest) {
            for &columns in &sides(n, gn, longest) {
                if rows * columns * way.bytes[2] > way.unit[2] {
                    break;
                }
                for (at, way) in ways.iter().enumerate() {
                    way.depths([rows, columns], k, gk, inner).into_iter().for_each(|block| look(at, block));
                }
            }
        }
    }
    let smallest = Staged { rows: gm, columns: gn, stage: [gk.max(inner); 2], piece: gk, band: 1, kept: None };
    let walked = ways.iter().zip(best).filter_map(|(way, best)| {
        let (cycles, block) = best?;
        let (cycles, block) = way.walked(cycles, block, [m, n, k], problem.batches);
        // What could be loaded as it lies gains little if it is brought by others, and they are kept from other work.
        let straight = way.kept.is_some_and(|(_, lies)| !matches!(lies, Lies::Exchanged(_)));
        Some((if straight { cycles * WORTH } else { cycles }, block))
    });
    let (_, block) = walked.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, smallest));
    match asked {
        Some(_) => block,
        None => Staged { rows: block.rows.min(m), columns: block.columns.min(n), ..block },
    }
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
        Staged { rows, columns, stage, piece: piece.min(stage[0].max(stage[1])), band: 1, kept: None }
    }

    /// The same where an operand stays in the exchange space.
    fn keeping(&self, which: usize) -> Way<'t> {
        let mut lies = self.lies;
        let straight = std::mem::replace(&mut lies[which], Lies::Exchanged(8 * self.bytes[which]));
        Way { lies, kept: Some((which, straight)), ..self.clone() }
    }

    /// The block with the band in which such blocks are walked, and the time that takes.
    fn walked(&self, cycles: f64, block: Staged, [m, n, k]: [usize; 3], batches: usize) -> (f64, Staged) {
        let Some((which, held)) = block.kept else {
            // Operands of the blocks that run at the same time: as much of the left as of the right.
            let square = (self.cores as f64 * block.columns as f64 / block.rows as f64).sqrt();
            let band = (square.round() as usize).clamp(1, m.div_ceil(block.rows).max(1)).min(self.cores);
            return (cycles, Staged { band, ..block });
        };
        let sides = [block.rows, block.columns];
        let blocks = [m.div_ceil(sides[0]), n.div_ceil(sides[1])];
        let bytes = |which: usize, depth: usize| (sides[which] * depth * self.bytes[which]) as f64;
        let (panel, other) = (bytes(which, k.min(held * block.stage[which])), bytes(1 - which, k));
        let Item { steady, brought, first: begun } = self.item(block, k);
        let global = self.machine.space(GLOBAL);
        let cache = global.and_then(|space| space.cache.as_ref());
        let request = self.machine.requests(GLOBAL).map_or(f64::INFINITY, |requests| requests.line as f64);
        let runs = Runs {
            cores: self.cores,
            length: blocks[1 - which],
            lines: blocks[which] * batches,
            panel,
            other,
            steady,
            fresh: brought.max(steady) + self.taken(block),
            loads: [which, 1 - which].map(|which| {
                self.load(which, sides[which], block.stage[which]) * k.div_ceil(block.stage[which]) as f64
            }),
            waits: other / request * cache.and_then(|cache| cache.same_address_cycles).unwrap_or(0.0),
            cache: cache.map_or(f64::INFINITY, |cache| cache.bytes as f64 * COUNTED_ON),
            memory: global.and_then(|space| space.bytes_per_cycle).unwrap_or(f64::INFINITY),
        };
        let (band, cycles) = if batches > 1 { (runs.lines, runs.cycles(runs.lines)) } else { runs.choose() };
        (cycles + begun, Staged { band, ..block })
    }

    /// The block with as many chunks kept as the exchange space holds beside two sums.
    fn keep(&self, block: Staged, size: [usize; 3]) -> Staged {
        let Some((which, lies)) = self.kept else { return block };
        let exchange = self.target.exchange.as_deref().unwrap_or_default();
        let (side, depth) = ([block.rows, block.columns][which], block.stage[which]);
        // Vector cores turn whole blocks around.
        let turned = lies == [Lies::AlongSide, Lies::AlongDepth][which];
        if turned && !(size[which].is_multiple_of(side) && size[2].is_multiple_of(depth)) {
            return block;
        }
        let room = self.target.bytes_of(exchange).saturating_sub(2 * block.rows * block.columns * self.bytes[2]);
        let chunks = (room / (side * depth * self.bytes[which]).max(1)).min(size[2].div_ceil(depth));
        Staged { kept: (chunks > 1).then_some((which, chunks)), ..block }
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
        let block = |stage| Staged { rows, columns, stage, piece, band: 1, kept: None };
        if inner > 1 {
            let chunk = (self.stage / (2 * (rows * a + columns * b))).min(k.next_multiple_of(inner)) / inner * inner;
            return (chunk > 0).then(|| block([chunk; 2]));
        }
        // What is loaded fastest as it lies is also brought fastest.
        let lies =
            |which: usize| self.kept.filter(|(kept, _)| *kept == which).map_or(self.lies[which], |(_, lies)| lies);
        let cycles = |depths: [usize; 2]| -> f64 {
            let loads = [(0, rows), (1, columns)].map(|(which, side)| {
                self.load_as(which, lies(which), side, depths[which]) * k.div_ceil(depths[which]) as f64
            });
            loads.iter().sum()
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
        let blocks = [m.div_ceil(block.rows), n.div_ceil(block.columns)];
        let items = (blocks[0] * blocks[1] * batches).div_ceil(self.cores);
        let Item { steady, brought, first } = self.item(block, k);
        let lines = match self.kept {
            None => 0,
            Some((which, _)) => match blocks[1 - which].min(items) {
                // Nothing is shared.
                0 | 1 => return f64::INFINITY,
                line => items.div_ceil(line),
            },
        };
        items as f64 * steady + lines as f64 * (brought - steady).max(0.0) + first
    }

    fn item(&self, block: Staged, k: usize) -> Item {
        let Staged { rows, columns, stage, piece, kept, .. } = block;
        let (sides, chunks) = ([rows, columns], stage.map(|depth| k.div_ceil(depth)));
        let pieces = k.div_ceil(piece) as f64;
        let (per_cycle, startup, granule) = self.product;
        let depth = k.next_multiple_of(granule[2]) as f64;
        let unit = (rows * columns) as f64 * depth / per_cycle + startup * pieces;
        let operand = |i: usize| sides[i] as f64 * depth * self.bytes[i] as f64;
        let feed: f64 = (0..2).map(|i| operand(i) / self.feed[i].0 + self.feed[i].1 * pieces).sum();
        let loads = [0, 1].map(|i| self.load(i, sides[i], stage[i]));
        let mut load: f64 = (0..2).map(|i| loads[i] * chunks[i] as f64).sum();
        let mut brought = 0.0;
        if let Some((which, straight)) = self.kept {
            let held = kept.map_or(0, |(_, held)| held);
            let left = chunks[which].saturating_sub(held);
            if held == 0 || left > 0 && matches!(straight, Lies::Exchanged(_)) {
                return Item { steady: f64::INFINITY, brought, first: 0.0 };
            }
            load += left as f64 * (self.load_as(which, straight, sides[which], stage[which]) - loads[which]);
            let deep = k.min(held * stage[which]);
            let (cycles, bytes) = self.exchanged(which, straight, [sides[which], stage[which], deep]);
            brought = cycles.max(self.through_cache(operand(0) + operand(1) + bytes));
        }
        // What vector cores compute for every item anew.
        let computed = |i: usize| matches!(self.lies[i], Lies::Exchanged(_));
        let anew = (0..2).filter(|&i| computed(i) && self.kept.is_none_or(|(kept, _)| kept != i));
        let (cycles, bytes) = anew.fold((0f64, 0.0), |(most, moved), i| {
            let (cycles, bytes) = self.exchanged(i, self.lies[i], [sides[i], stage[i], k]);
            (most.max(cycles), moved + bytes)
        });
        let anew = if bytes > 0.0 { cycles.max(self.through_cache(operand(0) + operand(1) + bytes)) } else { 0.0 };
        let drain = self.drained(rows, columns);
        let overlapped = 2 * rows * columns * self.bytes[2] <= self.unit[2];
        let (within, behind) = if overlapped { (0.0, drain) } else { (drain, 0.0) };
        // While the sum is taken out, what comes next is loaded, but nothing multiplied.
        let steady = (unit.max(feed).max(drain) + within).max(load).max(anew);
        Item { steady, brought, first: loads[0] + loads[1] + feed / pieces + behind }
    }
}

/// Cycles of a block.
struct Item {
    /// While others come before and after it.
    steady: f64,
    /// In which the vector cores bring its kept operand.
    brought: f64,
    /// Before its first product, and after the last one if there are others.
    first: f64,
}
