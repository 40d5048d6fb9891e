//! Costs of instructions that have been measured, and what every cost must obey.

use proptest::prelude::*;

use super::*;
use crate::{Layout, Operand, Region, Tile, TileId};

fn chip() -> Machine {
    Machine::builtin("ascend910b1").unwrap()
}

/// A kernel with tiles of this shape at these addresses, and a vector instruction over the first (written) and the others (read).
fn vector(op: &str, dtype: DType, shapes: &[&[usize]], addresses: &[usize]) -> (Kernel, Instr, Vec<Extent>) {
    let tiles = shapes.iter().zip(addresses).enumerate();
    let tiles = tiles.map(|(i, (shape, &address))| Tile {
        name: format!("t{i}"),
        space: "ub".into(),
        dtype,
        shape: shape.to_vec(),
        layout: Layout::RowMajor,
        slots: 1,
        address: Some(address),
    });
    let kernel = Kernel {
        name: "k".into(),
        origin: vec![],
        params: vec![],
        tiles: tiles.collect(),
        grid: vec![],
        lanes: None,
        body: vec![],
    };
    let operand = |i: usize| {
        let size = shapes[i].iter().map(|&size| size.into()).collect();
        Operand::Tile(Region::at_origin(TileId(i as u32), size))
    };
    let instr = Instr { op: op.parse().unwrap(), dst: vec![operand(0)], src: (1..shapes.len()).map(operand).collect() };
    let extents = shapes.iter().zip(addresses);
    let extents = extents.map(|(shape, &address)| Extent {
        size: shape.iter().map(|&size| size as i64).collect(),
        address: Some(address),
    });
    (kernel, instr, extents.collect())
}

fn cycles(op: &str, dtype: DType, shapes: &[&[usize]], addresses: &[usize]) -> f64 {
    let (kernel, instr, extents) = vector(op, dtype, shapes, addresses);
    chip().instr_cost(&kernel, &instr, &extents).unwrap().alone()
}

/// 64 steps of 256 bytes, as in the vendor's sample on bank conflicts: 88.4, 154 and 139 cycles measured.
#[test]
fn an_addition_and_its_conflicts_take_what_was_measured() {
    let shape: &[usize] = &[64 * 128];
    let add = |addresses: [usize; 3]| cycles("add", DType::F16, &[shape; 3], &addresses);
    let near = |found: f64, measured: f64| assert!((found / measured - 1.0).abs() < 0.02, "{found}, not {measured}");
    near(add([0x8000, 0x10020, 0x18040]), 88.4);
    // Both operands in one group of banks; then the result in the group of an operand.
    near(add([0x8020, 0x10000, 0x18000]), 154.0);
    near(add([0x8000, 0x10000, 0x18020]), 139.0);
    // What is written where it is read, or read twice, disturbs nobody.
    near(add([0x8000, 0x8000, 0x10020]), 88.4);
    near(add([0x8020, 0x10000, 0x10000]), 88.4);
}

/// Cycles of steps from the vendor's table of vector instructions.
#[test]
fn vector_instructions_take_their_steps() {
    let work = |op, dtype, shapes: &[&[usize]]| {
        let addresses: Vec<usize> = (0..shapes.len()).map(|i| i * 0x8020).collect();
        cycles(op, dtype, shapes, &addresses) - 24.4
    };
    assert_eq!(work("add", DType::F32, &[&[4096][..]; 3]), 64.0);
    assert_eq!(work("exp", DType::F16, &[&[4096][..]; 2]), 128.0);
    // Rows of 72 numbers take two steps each where they are not alone in their tile's rows: a repeated operand interrupts them.
    assert_eq!(work("add", DType::F32, &[&[16, 72], &[16, 72], &[16, 1]]), 32.0);
    assert_eq!(work("add", DType::F32, &[&[16, 72][..]; 3]), 18.0);
    // A row that is repeated downwards begins anew with every row.
    assert_eq!(work("add", DType::F32, &[&[16, 64], &[16, 64], &[1, 64]]), 16.0);
    // Sums of rows: one step to fold the second half of each, 7 cycles for what is left; sums of columns only fold.
    assert_eq!(work("reduce.sum axis=1", DType::F32, &[&[16, 1], &[16, 128]]), 16.0 * (2.0 + 6.0));
    assert_eq!(work("reduce.sum axis=0", DType::F32, &[&[1, 64], &[16, 64]]), 16.0);
}

/// `bytes / rate + dT` of the vendor's tables; 128 × 256 × 64 is what its samples use.
#[test]
fn products_and_loads_follow_the_tables() {
    let machine = chip();
    assert_eq!(machine.mmad_cycles(DType::F16, DType::F16, [128, 256, 64]), Some(512.0 + 9.0));
    assert_eq!(machine.mmad_cycles(DType::F32, DType::F32, [128, 256, 64]), Some(2048.0 + 9.0));
    assert_eq!(machine.mmad_cycles(DType::I8, DType::I8, [16, 16, 33]), Some(2.0 + 9.0));
    let load = |from: &str, to: &str, bytes: f64, window| {
        let path = machine.path(from, to, &[]).unwrap();
        machine.move_cost(path, &MoveShape { bytes, bursts: 1.0, window, ..MoveShape::default() }).path_cycles
    };
    assert_eq!(load("l1", "l0a", 16384.0, None), 64.0);
    assert_eq!(load("l1", "l0b", 32768.0, None), 256.0);
    let window = |stride, rows| Some(Window { stride, rows });
    assert_eq!(load("l1", "l0a", 512.0, window(1, 3)), 5.0);
    assert_eq!(load("l1", "l0b", 512.0, window(1, 3)), 7.0);
    assert_eq!(load("l1", "l0a", 512.0, window(2, 1)), 4.0);
    assert_eq!(load("l1", "l0b", 512.0, window(2, 3)), 9.0);
    assert_eq!(load("l1", "l0a", 512.0, window(3, 3)), 16.0);
}

#[test]
fn results_between_granules_are_merged_with_what_is_there() {
    let machine = chip();
    let path = machine.paths.iter().find(|path| path.from == "l0c" && path.to == "gm").unwrap();
    let cycles = |alignment| {
        let shape = MoveShape { bytes: 65536.0, bursts: 128.0, burst_bytes: 512.0, alignment, ..MoveShape::default() };
        machine.move_cost(path, &shape).path_cycles
    };
    assert_eq!(cycles(512), 65536.0 / 86.0);
    assert!(cycles(32) < cycles(16));
    // The first granule, and the rest of the run behind its first two bytes, at 3.9 cycles each.
    assert!((cycles(2) - 128.0 * 3.9 * (1.0 + 510.0 / 32.0)).abs() < 1e-6);
}

#[test]
fn runs_off_the_boundaries_cost_the_lines_they_touch() {
    let requests = chip().requests("gm").unwrap().clone();
    let asked = |burst_bytes, alignment| {
        let shape =
            MoveShape { bytes: 64.0 * burst_bytes, bursts: 64.0, burst_bytes, alignment, ..MoveShape::default() };
        shape.requested(&requests) / shape.bytes
    };
    assert_eq!(asked(512.0, 512), 1.0);
    assert_eq!(asked(128.0, 128), 1.0);
    assert_eq!(asked(64.0, 128), 2.0);
    assert!((asked(512.0, 2) - 2.0).abs() < 0.01);
    assert!((asked(2048.0, 2) - 1.25).abs() < 0.01);
    assert_eq!(chip().requests("ws"), Some(&requests));
}

proptest! {
    /// More bytes, more or shorter runs, worse alignment never cost less; nothing is free.
    #[test]
    fn costs_grow_with_the_work(
        rows in 1u32..200, columns in 1u32..600, more in 0u32..64, alignment in 0u32..10,
    ) {
        let machine = chip();
        for path in machine.paths.iter().filter(|path| path.from == "gm" || path.to == "gm") {
            let cost = |rows: u32, columns: u32, alignment: u32| {
                let (bursts, burst_bytes) = (f64::from(rows), f64::from(columns) * 32.0);
                let shape = MoveShape {
                    bytes: bursts * burst_bytes, bursts, burst_bytes, alignment: 1 << alignment,
                    ..MoveShape::default()
                };
                machine.move_cost(path, &shape)
            };
            let here = cost(rows, columns, alignment);
            prop_assert!(here.bytes >= f64::from(rows) * f64::from(columns) * 32.0 - 1e-6);
            prop_assert!(here.path_cycles > 0.0 && here.alone() >= here.streaming());
            for other in [
                cost(rows + more, columns, alignment),
                cost(rows, columns + more, alignment),
                cost(rows, columns, alignment.saturating_sub(more)),
            ] {
                prop_assert!(other.alone() >= here.alone() - 1e-6, "{other:?} is cheaper than {here:?}");
            }
        }
    }

    /// A longer vector never takes less time, and never less than its elements at the rate.
    #[test]
    fn vectors_grow(elements in 1usize..4096, more in 0usize..512) {
        let time = |elements: usize| cycles("mul", DType::F32, &[&[elements][..]; 3], &[0, 0x8020, 0x10040]);
        prop_assert!(time(elements + more) >= time(elements));
        prop_assert!(time(elements) >= 24.4 + elements as f64 / 64.0 - 1e-6);
    }
}
