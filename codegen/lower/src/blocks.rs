//! How large the blocks of a matrix product are: of those that the machine's spaces hold, the ones that take least time.
//!
//! A work item computes one block. It takes the longer of its products and of what it streams from memory, and before that what it
//! packs; the items are dealt out to the cores, so that few large items can cost more than many small ones.

use tarsia_tensor::DType;
use tarsia_tile::{Layout, Machine, machine::GLOBAL};

use crate::target::Target;

/// Rates of a machine, in cycles of one core.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Cores that share the work.
    pub cores: usize,
    /// Multiply-adds a cycle.
    pub products: f64,
    /// Bytes a cycle between memory and scratch.
    pub bytes: f64,
    /// Cycles to start an instruction or a move.
    pub startup: f64,
    /// Rows and columns that the matrix unit takes at a time.
    pub granule: [usize; 2],
}

impl Rates {
    /// Reads them from a description.
    pub fn of(machine: &Machine, matrix_space: &str) -> Rates {
        let f32 = DType::F32;
        let product = machine.product(f32, f32).map(|(_, product)| product);
        let path = machine.path(GLOBAL, matrix_space, &[]);
        Rates {
            cores: machine.core_count().max(1),
            products: product.map_or(1.0, |product| product.per_cycle),
            bytes: path.map_or(8.0, |path| path.bytes_per_cycle),
            startup: product.map_or(100.0, |product| product.startup_cycles),
            granule: product.map_or([1, 1], |product| [product.granule[0].max(1), product.granule[1].max(1)]),
        }
    }
}

/// Rows or columns of a product.
pub(crate) struct Side {
    /// Sizes of the axes, outermost first, where they are known.
    pub sizes: Vec<Option<usize>>,
    /// Whether the operand is packed already, so that blocks start at multiples of a panel and nothing is packed at run time.
    pub packed: bool,
    /// Width of a panel.
    pub panel: usize,
}

impl Side {
    /// A side of these axes, for an operand of this layout whose panels go along `axis`.
    pub fn new(sizes: Vec<Option<usize>>, packed: bool, layout: Layout, axis: usize) -> Side {
        let panel = match layout {
            Layout::Fractal(fractal) => fractal.block[axis],
            Layout::RowMajor => 8,
        };
        Side { sizes, packed, panel }
    }

    /// The number of rows or columns; an unknown number is `unknown`.
    fn total(&self, unknown: usize) -> usize {
        self.sizes.iter().fold(1, |total: usize, size| total.saturating_mul(size.unwrap_or(unknown)))
    }

    /// Sizes of blocks: equal parts of the innermost axis, or all of it and equal parts of the next.
    fn candidates(&self, unknown: usize) -> Vec<usize> {
        let (mut found, mut inner) = (Vec::new(), 1usize);
        for size in self.sizes.iter().rev() {
            let Some(size) = *size else {
                found.push(unknown);
                break;
            };
            let step = if inner == 1 { self.panel } else { 1 };
            let part = |parts: usize| if parts == 1 { size } else { size.div_ceil(parts).next_multiple_of(step) };
            found.extend((1..=PARTS.min(size)).map(|parts| part(parts).min(size).saturating_mul(inner)));
            inner = inner.saturating_mul(size.max(1));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The most parts of an axis that are looked at.
const PARTS: usize = 128;

/// Rows and columns of a block for a product of these sides, `depth` summed elements (in chunks of `chunk`), and `batches` of them.
/// Falls back to `fallback` where nothing else fits.
pub(crate) fn choose(
    target: &Target,
    [rows, columns]: [&Side; 2],
    depth: usize,
    chunk: usize,
    batches: usize,
    fallback: [usize; 2],
) -> [usize; 2] {
    let held = [!rows.packed, !columns.packed, true];
    let mut found: Vec<(f64, usize, [usize; 2])> = Vec::new();
    for &m in &rows.candidates(fallback[0]) {
        for &n in &columns.candidates(fallback[1]) {
            if !target.holds([m, n, chunk.min(depth)], held) {
                break;
            }
            let items = rows.total(fallback[0]).div_ceil(m) * columns.total(fallback[1]).div_ceil(n) * batches;
            let share = items.div_ceil(target.rates.cores) as f64;
            found.push((share * item_cycles(&target.rates, held, [m, n, depth], chunk), items, [m, n]));
        }
    }
    let best = found.iter().map(|(cycles, ..)| *cycles).fold(f64::INFINITY, f64::min);
    // Among equals more items, which are dealt out more evenly where cores are disturbed.
    let enough = 2 * target.rates.cores;
    let close = found.iter().filter(|(cycles, ..)| *cycles <= best * 1.01);
    close.max_by_key(|(_, items, _)| (*items).min(enough)).map_or(fallback, |(_, _, block)| *block)
}

/// What packing takes, in times that the data could be copied: it is read in short runs and written in another order.
const PASSES: f64 = 3.0;

/// Cycles of one work item; `held` tells which of the operands it packs.
fn item_cycles(rates: &Rates, held: [bool; 3], [m, n, k]: [usize; 3], chunk: usize) -> f64 {
    let bytes = [m * k * 4, n * k * 4];
    let moved = |packs: bool| -> f64 {
        let chosen = bytes.iter().zip(held).filter(|(_, held)| *held == packs);
        chosen.map(|(bytes, _)| *bytes as f64).sum::<f64>() / rates.bytes
    };
    let [rows, columns] = [0, 1].map(|i| [m, n][i].next_multiple_of(rates.granule[i]));
    let products = (rows * columns) as f64 * k as f64 / rates.products;
    let result = (m * n * 4) as f64 / rates.bytes;
    let started = 3.0 * rates.startup * (1.0 + k.div_ceil(chunk.max(1)) as f64);
    products.max(moved(false)) + PASSES * moved(true) + result + started
}

/// A block of a product whose operands come through a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Depth of what the stage holds of both operands.
    pub stage: usize,
    /// Depth of one product.
    pub piece: usize,
    /// Blocks of rows that are walked together.
    pub band: usize,
}

/// Rates along the way of a staged product, in cycles of one core.
struct Way {
    /// Bytes of the stage; of the unit's memories for left operand, right operand and sum.
    stage: usize,
    unit: [usize; 3],
    /// Bytes a cycle and start-up: into the stage, from there to both operands, of the result.
    load: (f64, f64),
    feed: [(f64, f64); 2],
    drain: (f64, f64),
    /// Multiply-adds a cycle, start-up, granule.
    product: (f64, f64, [usize; 3]),
    /// Bytes of an element of left operand, right operand and sum.
    bytes: [usize; 3],
    cores: usize,
}

/// Sizes that are not known when a program is compiled are taken to be this.
const UNKNOWN: usize = 1024;
/// Rows or columns of a block are at most so many.
const LONGEST: usize = 512;
/// How often tiles are halved before blocks become smaller too.
const LARGE: usize = 2;

/// The block for a product of these sizes (rows, columns, depth), `batches` of them, that takes least time; every operand is there twice,
/// so that one is filled while the other is used.
/// The depth in the stage is a multiple of `inner`.
pub(crate) fn staged(
    target: &Target,
    size: [Option<usize>; 3],
    inner: usize,
    batches: usize,
    types: [DType; 3],
) -> Staged {
    let way = Way::of(target, types);
    let longest = target.elements(LONGEST << LARGE).min(LONGEST);
    let [m, n, k] = size.map(|size| size.unwrap_or(UNKNOWN).max(1));
    let [gm, gn, gk] = way.product.2;
    let sides = |size: usize, granule: usize| {
        let most = size.next_multiple_of(granule).min(longest.next_multiple_of(granule));
        (1..=most / granule).map(move |i| i * granule)
    };
    let mut best: Option<(f64, Staged)> = None;
    for rows in sides(m, gm) {
        for columns in sides(n, gn) {
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
    let smallest = Staged { rows: gm, columns: gn, stage: gk.max(inner), piece: gk, band: 1 };
    let block = best.map_or(smallest, |(_, block)| block);
    // Operands of the blocks that run at the same time: as much of the left as of the right.
    let square = (way.cores as f64 * block.columns as f64 / block.rows as f64).sqrt();
    let band = (square.round() as usize).clamp(1, m.div_ceil(block.rows).max(1)).min(way.cores);
    Staged { rows: block.rows.min(m), columns: block.columns.min(n), band, ..block }
}

impl Way {
    fn of(target: &Target, [a, b, acc]: [DType; 3]) -> Way {
        let machine = &target.machine;
        let rate = |from: &str, to: &str| {
            machine.path(from, to, &[]).map_or((8.0, 100.0), |path| (path.bytes_per_cycle, path.startup_cycles))
        };
        let stage = target.stages.each_ref().map(|stage| stage.clone().unwrap_or_default());
        let product = machine.product(a, b).map(|(unit, product)| (unit, product));
        let (per_cycle, startup, mut granule) =
            product.map_or((1.0, 0.0, [1; 3]), |(_, p)| (p.per_cycle, p.startup_cycles, p.granule));
        // Pieces of what the stage holds begin at blocks of its layouts.
        let blocks = [(0, a), (1, b)].map(|(which, dtype)| target.stage_block(&stage[which], dtype));
        granule[2] = granule[2].max(blocks[0]).max(blocks[1]);
        let core = product.and_then(|(unit, _)| machine.core(&unit.core));
        let cores = core.map_or(1, |core| core.count).max(1);
        // All cores together do not get more than device memory gives; a cache in front of it gives several times as much.
        let share =
            machine.space(GLOBAL).and_then(|space| space.bytes_per_cycle).map_or(f64::INFINITY, |rate| rate * CACHED);
        let load = rate(GLOBAL, &stage[0]);
        let result = target.exchange.clone().unwrap_or_else(|| target.vector_space.clone());
        Way {
            stage: target.bytes_of(&stage[0]),
            unit: target.matrix_spaces.each_ref().map(|space| target.bytes_of(space)),
            load: (load.0.min(share / cores as f64), load.1),
            feed: [0, 1].map(|which| rate(&stage[which], &target.matrix_spaces[which])),
            drain: rate(&target.matrix_spaces[2], &result),
            product: (per_cycle, startup, granule),
            bytes: [a, b, acc].map(|dtype| dtype.bits().div_ceil(8)),
            cores,
        }
    }

    /// The deepest piece that fits twice, and as many of them as the stage holds twice.
    fn depths(&self, [rows, columns]: [usize; 2], k: usize, granule: usize, inner: usize) -> Option<Staged> {
        let k = k.next_multiple_of(granule);
        let [a, b, _] = self.bytes;
        let fits = (self.unit[0] / (2 * rows * a)).min(self.unit[1] / (2 * columns * b)) / granule * granule;
        let piece = fits.min(k);
        let chunk = self.stage / (2 * (rows * a + columns * b));
        if piece == 0 || chunk < piece.max(inner) {
            return None;
        }
        let multiple = if inner > 1 { inner } else { piece };
        let stage = (chunk / multiple * multiple).min(k.next_multiple_of(multiple));
        Some(Staged { rows, columns, stage, piece, band: 1 })
    }

    /// Cycles of the whole product, work dealt out to all cores.
    fn cycles(&self, block: Staged, [m, n, k]: [usize; 3], batches: usize) -> f64 {
        let Staged { rows, columns, stage, piece, .. } = block;
        let pieces = k.div_ceil(piece) as f64;
        let chunks = k.div_ceil(stage) as f64;
        let (per_cycle, startup, granule) = self.product;
        let depth = k.next_multiple_of(granule[2]) as f64;
        let unit = (rows * columns) as f64 * depth / per_cycle + startup * pieces;
        let operand = |i: usize| [rows, columns][i] as f64 * depth * self.bytes[i] as f64;
        let feed: f64 = (0..2).map(|i| operand(i) / self.feed[i].0 + self.feed[i].1 * pieces).sum();
        let load = (operand(0) + operand(1)) / self.load.0 + 2.0 * self.load.1 * chunks;
        let sum = (rows * columns * self.bytes[2]) as f64;
        let drain = sum / self.drain.0 + self.drain.1;
        let overlapped = 2 * rows * columns * self.bytes[2] <= self.unit[2];
        let steady = unit.max(feed).max(load).max(drain) + if overlapped { 0.0 } else { drain };
        let first = load / chunks + feed / pieces + if overlapped { drain } else { 0.0 };
        let items = m.div_ceil(rows) * n.div_ceil(columns) * batches;
        items.div_ceil(self.cores) as f64 * steady + first
    }
}

/// How much more all cores together get from the cache than from device memory.
const CACHED: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> Target {
        Target::of(&std::sync::Arc::new(Machine::builtin("cpu").expect("the description is tested")), 0)
            .expect("it has all units")
    }

    fn side(target: &Target, sizes: &[usize], packed: bool, which: usize) -> Side {
        Side::new(
            sizes.iter().map(|&size| Some(size)).collect(),
            packed,
            target.matrix_layouts_for(DType::F32)[which],
            which,
        )
    }

    fn items(sides: [&Side; 2], [m, n]: [usize; 2]) -> usize {
        sides[0].total(1).div_ceil(m) * sides[1].total(1).div_ceil(n)
    }

    #[test]
    fn every_core_gets_work() {
        let target = cpu();
        for (m, n, k) in
            [(512, 49, 4608), (2048, 49, 512), (64, 3136, 576), (1024, 1024, 1024), (1, 768, 768), (1, 512, 64)]
        {
            let (rows, columns) = (side(&target, &[m], true, 0), side(&target, &[n], false, 1));
            let block = choose(&target, [&rows, &columns], k, 192, 1, [132, 256]);
            assert!(items([&rows, &columns], block) >= target.rates.cores, "{m} x {n} x {k} in {block:?}");
            assert!(block[0].is_multiple_of(12) || block[0] == m, "blocks start panels: {block:?}");
        }
    }

    #[test]
    fn blocks_fit_and_follow_the_axes() {
        let target = cpu();
        let (rows, columns) = (side(&target, &[64], true, 0), side(&target, &[56, 56], false, 1));
        let [m, n] = choose(&target, [&rows, &columns], 576, 189, 1, [132, 256]);
        assert!(target.holds([m, n, 189], [false, true, true]));
        assert!(n % 56 == 0 || n < 56, "rows of the image are whole or cut: {n}");
        assert_eq!(choose(&target, [&rows, &columns], usize::MAX / 1024, 1 << 40, 1, [7, 5]), [7, 5], "nothing fits");
    }
}
