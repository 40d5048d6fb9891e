//! What has been published: programs, and how long chips took for them.
//!
//! Sources: the CANN samples `data_copy`, `matmul_high_performance` and `add_high_performance` (their README files; measured on boards
//! of the Atlas A2 series, the product on an Ascend 910B1).

use super::programs::{Product, ReadOrder, Reads, Sum};

/// A published measurement.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What was measured.
    pub name: &'static str,
    pub program: Program,
    /// Microseconds of the kernel (without its launch), and of pipes: name of the pipe, busy time.
    pub kernel: Option<f64>,
    pub pipes: &'static [(&'static str, f64)],
    /// Whether loads carry the hint that their data is not needed again.
    pub past_cache: bool,
}

/// How its program is built.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    Product(Product),
    Reads(Reads),
    Sum(Sum),
}

const SIDE: usize = 12288;

fn reads(name: &'static str, to: &'static str, sizes: [usize; 2], tile: [usize; 2], order: ReadOrder, us: f64) -> Row {
    let cores = if to == "ub" { 48 } else { 24 };
    Row {
        name,
        program: Program::Reads(Reads { sizes, to, cores, tile, order }),
        kernel: Some(us),
        pipes: &[],
        past_cache: false,
    }
}

/// The table of data copies. What is given is the time of the moving pipe, which does nothing else.
pub(super) fn copies() -> Vec<Row> {
    let once = ReadOrder::Own { times: 1, slice: SIDE };
    let square = [SIDE, SIDE];
    vec![
        reads("gm -> ub, one run of 128 B an instruction", "ub", square, [1, 64], once, 548.161),
        reads("gm -> ub, 64 runs of 128 B", "ub", square, [64, 64], once, 220.772),
        reads("gm -> ub, 64 runs of 2048 B", "ub", square, [64, 1024], once, 202.657),
        reads("gm -> ub, 64 runs of 2048 B, rows of 12287", "ub", [SIDE, SIDE - 1], [64, 1024], once, 259.047),
        reads("gm -> l1, 64 x 64", "l1", square, [64, 64], once, 283.508),
        reads("gm -> l1, 64 x 256", "l1", square, [64, 256], once, 214.519),
        reads("gm -> l1, 64 x 256, rows of 12287", "l1", [SIDE, SIDE - 1], [64, 256], once, 422.515),
        reads("gm -> ub, 4 times 302 MB", "ub", square, [64, 1024], ReadOrder::Own { times: 4, slice: SIDE }, 816.05),
        reads("gm -> l1, 4 times 302 MB", "l1", square, [64, 1024], ReadOrder::Own { times: 4, slice: SIDE }, 872.19),
        reads(
            "gm -> ub, 4 times in slices of 75 MB",
            "ub",
            square,
            [64, 1024],
            ReadOrder::Own { times: 4, slice: SIDE / 4 },
            354.56,
        ),
        reads(
            "gm -> l1, 4 times in slices of 75 MB",
            "l1",
            square,
            [64, 1024],
            ReadOrder::Own { times: 4, slice: SIDE / 4 },
            397.8,
        ),
        reads(
            "gm -> ub, all cores the same 6 MB, in one order",
            "ub",
            [6144, 512],
            [128, 64],
            ReadOrder::All { rows: 128, rotated: false },
            474.717,
        ),
        reads(
            "gm -> ub, all cores the same 6 MB, rotated",
            "ub",
            [6144, 512],
            [128, 64],
            ReadOrder::All { rows: 128, rotated: true },
            307.38,
        ),
    ]
}

const LARGE: Product = Product {
    sizes: [8192; 3],
    base: [128, 256, 64],
    cores: [4, 6],
    single: [2048, 1536],
    steps: [1, 1],
    slots: 1,
    parts: 1,
};

/// The nine steps of the product of 8192 x 8192 matrices, B transposed.
pub(super) fn ladder() -> Vec<Row> {
    let alone = Product { cores: [1, 1], single: [8192, 8192], ..LARGE };
    let small = Product { base: [64, 64, 64], ..alone };
    let mdl = Product { steps: [2, 4], slots: 2, ..LARGE };
    let deep = Product { steps: [8, 4], ..mdl };
    let halves = Product { parts: 2, ..deep };
    let row = |name, product, kernel, pipes| Row {
        name,
        program: Program::Product(product),
        kernel: Some(kernel),
        pipes,
        past_cache: false,
    };
    vec![
        row(
            "1 core, blocks of 64 x 64 x 64",
            small,
            759363.46,
            &[("aic_m", 141699.459), ("aic_mte1", 162104.184), ("aic_mte2", 582515.828), ("aic_fix", 34303.063)],
        ),
        row(
            "1 core, blocks of 128 x 256 x 64",
            alone,
            249466.54,
            &[("aic_m", 81477.188), ("aic_mte1", 52003.703), ("aic_mte2", 195613.432), ("aic_fix", 11313.746)],
        ),
        row(
            "24 cores, 2 x 12",
            Product { cores: [2, 12], single: [4096, 683], ..LARGE },
            12537.56,
            &[("aic_m", 3462.802), ("aic_mte1", 2260.551), ("aic_mte2", 10177.798), ("aic_fix", 875.439)],
        ),
        row(
            "24 cores, 4 x 6",
            LARGE,
            12283.84,
            &[("aic_m", 3394.884), ("aic_mte1", 2166.824), ("aic_mte2", 8616.671), ("aic_fix", 488.829)],
        ),
        row(
            "several K blocks per load",
            mdl,
            5039.86,
            &[("aic_m", 3116.472), ("aic_mte1", 2332.914), ("aic_mte2", 4051.458), ("aic_fix", 44.749)],
        ),
        row(
            "L1 16 and 8 blocks deep",
            deep,
            4156.76,
            &[("aic_m", 3352.087), ("aic_mte1", 2750.454), ("aic_mte2", 3778.555), ("aic_fix", 47.853)],
        ),
        row(
            "A in two halves for L2",
            halves,
            4088.36,
            &[("aic_m", 3254.31), ("aic_mte1", 2680.849), ("aic_mte2", 3625.42), ("aic_fix", 47.398)],
        ),
        row(
            "constant tiling",
            halves,
            4053.44,
            &[("aic_m", 3163.682), ("aic_mte1", 2609.617), ("aic_mte2", 3513.806), ("aic_fix", 45.76)],
        ),
        row(
            "unit flag",
            halves,
            4012.44,
            &[("aic_m", 3076.396), ("aic_mte1", 2533.512), ("aic_mte2", 3435.584), ("aic_fix", 272.576)],
        ),
    ]
}

/// The sum of 8192 x 8192 numbers.
pub(super) fn sums() -> Vec<Row> {
    let sum = Sum { elements: 8192 * 8192, cores: 48, chunk: 16256 };
    let pipes = &[("aiv_mte2", 171.6), ("aiv_v", 6.95)];
    vec![
        Row {
            name: "sum of 8192 x 8192",
            program: Program::Sum(sum),
            kernel: Some(264.0),
            pipes: &[],
            past_cache: false,
        },
        Row {
            name: "sum of 8192 x 8192, reads past L2",
            program: Program::Sum(sum),
            kernel: Some(178.5),
            pipes,
            past_cache: true,
        },
    ]
}
