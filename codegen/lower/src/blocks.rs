//! How large the blocks of a matrix product are: of those that the machine's spaces hold, the ones that take least time.
//!
//! A work item computes one block. It takes the longer of its products and of what it streams from memory, and before that what it
//! packs; the items are dealt out to the cores, so that few large items can cost more than many small ones.

mod runs;
mod staged;
mod way;
mod windows;

use tarsia_tensor::DType;
use tarsia_tile::{Layout, Machine, machine::GLOBAL};

use crate::target::Target;

pub(crate) use staged::{Lies, Problem, Staged, choose as choose_staged, granule as staged_granule};
pub(crate) use windows::{WindowShape, choose as choose_windows};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> Target {
        Target::of(
            &std::sync::Arc::new(Machine::builtin("cpu").expect("the description is tested")),
            &Default::default(),
            0,
        )
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
