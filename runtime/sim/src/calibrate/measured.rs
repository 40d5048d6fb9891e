//! What has been published: programs, and how long chips took for them.
//!
//! Sources: the README files of the CANN samples `data_copy`, `matmul_high_performance` and `add_high_performance`, measured on boards
//! of the Atlas A2 series (the product on an Ascend 910B1).

use super::programs::{Product, ReadOrder, Reads, Sum};

/// A published measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// What was measured.
    pub name: &'static str,
    pub program: Program,
    /// Microseconds of the whole kernel on its slowest core, without its launch.
    pub microseconds: f64,
    /// The mean of these pipes' busy times over the cores that work.
    pub pipes: &'static [PipeRow],
    /// Whether loads carry the hint that their data is not needed again.
    pub past_cache: bool,
    /// Only this part of the program is simulated, and its time multiplied: it does the same again and again.
    pub part: usize,
    /// Whether parameters of the machine were fitted to this row; if not, it is a prediction.
    pub fitted: bool,
}

/// Microseconds of a pipe.
#[derive(Clone, Copy, Debug)]
pub(super) struct PipeRow {
    pub pipe: &'static str,
    pub microseconds: f64,
    /// Whether the time in which it waits for its first operand counts.
    pub waiting: bool,
}

/// How its program is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Program {
    Product(Product),
    Reads(Reads),
    Sum(Sum),
}

impl Row {
    fn of(name: &'static str, program: Program, microseconds: f64) -> Row {
        Row { name, program, microseconds, pipes: &[], past_cache: false, part: 1, fitted: true }
    }
}

fn reads(name: &'static str, to: &'static str, sizes: [usize; 2], tile: [usize; 2], order: ReadOrder, us: f64) -> Row {
    let cores = if to == "ub" { 48 } else { 24 };
    Row::of(name, Program::Reads(Reads { sizes, to, cores, tile, order }), us)
}

/// The table of data copies: f16 matrices of 12288 × 12288 elements, split over all vector or cube cores by rows. Given is the time
/// of the moving pipe, or of the kernel where nothing else is known.
pub(super) fn copies() -> Vec<Row> {
    const SIDE: usize = 12288;
    let (square, odd) = ([SIDE, SIDE], [SIDE, SIDE - 1]);
    let own = |times, slice| ReadOrder::Own { times, slice };
    let (once, again, sliced) = (own(1, SIDE), own(4, SIDE), own(4, SIDE / 4));
    let all = |rotated| ReadOrder::All { rows: 128, rotated };
    vec![
        reads("gm → ub, one run of 128 B an instruction", "ub", square, [1, 64], once, 548.161),
        reads("gm → ub, 64 runs of 128 B", "ub", square, [64, 64], once, 220.772),
        reads("gm → ub, 64 runs of 2048 B", "ub", square, [64, 1024], once, 202.657),
        reads("gm → ub, 64 runs of 2048 B, rows of 12287", "ub", odd, [64, 1024], once, 259.047),
        reads("gm → l1, 64 × 64", "l1", square, [64, 64], once, 283.508),
        reads("gm → l1, 64 × 256", "l1", square, [64, 256], once, 214.519),
        reads("gm → l1, 64 × 256, rows of 12287", "l1", odd, [64, 256], once, 422.515),
        reads("gm → ub, 4 times 302 MB", "ub", square, [64, 1024], again, 816.05),
        reads("gm → l1, 4 times 302 MB", "l1", square, [64, 1024], again, 872.19),
        reads("gm → ub, 4 times in slices of 75 MB", "ub", square, [64, 1024], sliced, 354.56),
        reads("gm → l1, 4 times in slices of 75 MB", "l1", square, [64, 1024], sliced, 397.8),
        reads("gm → ub, all cores the same 6 MB in one order", "ub", [6144, 512], [128, 64], all(false), 474.717),
        reads("gm → ub, all cores the same 6 MB, rotated", "ub", [6144, 512], [128, 64], all(true), 307.38),
    ]
}

/// The nine steps of the product of matrices of 8192 × 8192, B transposed, f16.
pub(super) fn ladder() -> Vec<Row> {
    let four_by_six = Product {
        sizes: [8192; 3],
        base: [128, 256, 64],
        cores: [4, 6],
        single: [2048, 1536],
        steps: [1, 1],
        slots: 1,
        parts: 1,
    };
    let two_by_twelve = Product { cores: [2, 12], single: [4096, 683], ..four_by_six };
    // A quarter and an eighth of the columns.
    let alone = Product { cores: [1, 1], single: [8192, 2048], ..four_by_six };
    let small = Product { single: [8192, 1024], base: [64, 64, 64], ..alone };
    let large_loads = Product { steps: [2, 4], slots: 2, ..four_by_six };
    let deep = Product { steps: [8, 4], ..large_loads };
    let halves = Product { parts: 2, ..deep };
    let row = |name, product, us, pipes| Row { pipes, ..Row::of(name, Program::Product(product), us) };
    vec![
        Row { part: 8, ..row("1 core, blocks of 64 × 64 × 64", small, 759363.46, SMALL) },
        Row { part: 4, ..row("1 core, blocks of 128 × 256 × 64", alone, 249466.54, ALONE) },
        row("24 cores, 2 × 12", two_by_twelve, 12541.22, TWO_BY_TWELVE),
        row("24 cores, 4 × 6", four_by_six, 12283.84, FOUR_BY_SIX),
        row("+ several K blocks a load", large_loads, 5039.86, LARGE_LOADS),
        row("+ L1 16 and 8 blocks deep", deep, 4156.76, DEEP),
        row("+ A in two halves, for L2", halves, 4088.36, HALVES),
        row("+ constant tiling", halves, 4053.44, CONSTANT),
        row("+ unit flag", halves, 4012.44, UNIT_FLAG),
    ]
}

/// Busy times of the four pipes; `waiting` where the time of the fixpipe includes its wait for the product.
const fn pipes(m: f64, mte1: f64, mte2: f64, fix: f64, waiting: bool) -> [PipeRow; 4] {
    const fn pipe(pipe: &'static str, microseconds: f64, waiting: bool) -> PipeRow {
        PipeRow { pipe, microseconds, waiting }
    }
    [
        pipe("aic_m", m, false),
        pipe("aic_mte1", mte1, false),
        pipe("aic_mte2", mte2, false),
        pipe("aic_fix", fix, waiting),
    ]
}

const SMALL: &[PipeRow] = &pipes(141699.459, 162104.184, 582515.828, 34303.063, true);
const ALONE: &[PipeRow] = &pipes(81477.188, 52003.703, 195613.432, 11313.746, true);
const TWO_BY_TWELVE: &[PipeRow] = &pipes(3462.802, 2260.551, 10177.798, 875.439, true);
const FOUR_BY_SIX: &[PipeRow] = &pipes(3394.884, 2166.824, 8616.671, 488.829, true);
const LARGE_LOADS: &[PipeRow] = &pipes(3116.472, 2332.914, 4051.458, 44.749, false);
const DEEP: &[PipeRow] = &pipes(3352.087, 2750.454, 3778.555, 47.853, false);
const HALVES: &[PipeRow] = &pipes(3254.31, 2680.849, 3625.42, 47.398, false);
const CONSTANT: &[PipeRow] = &pipes(3163.682, 2609.617, 3513.806, 45.76, false);
const UNIT_FLAG: &[PipeRow] = &pipes(3076.396, 2533.512, 3435.584, 272.576, true);

/// The sum of two matrices of 8192 × 8192, f16.
pub(super) fn sums() -> Vec<Row> {
    const PIPES: &[PipeRow] = &[
        PipeRow { pipe: "aiv_mte2", microseconds: 171.6, waiting: false },
        PipeRow { pipe: "aiv_v", microseconds: 6.95, waiting: false },
    ];
    let sum = Program::Sum(Sum { elements: 8192 * 8192, cores: 48, chunk: 16256 });
    vec![
        Row::of("sum", sum, 264.0),
        Row { pipes: PIPES, past_cache: true, ..Row::of("sum, reads past the cache", sum, 178.5) },
    ]
}

/// Further published rows, whose own times were not fitted to.
pub(super) fn predictions() -> Vec<Row> {
    let all = |rotated| ReadOrder::All { rows: 256, rotated };
    let one = reads("gm → l1, all cores the same 6 MB in one order", "l1", [6144, 512], [256, 64], all(false), 240.198);
    let two = reads("gm → l1, all cores the same 6 MB, rotated", "l1", [6144, 512], [256, 64], all(true), 209.8);
    [one, two].map(|row| Row { fitted: false, ..row }).to_vec()
}
