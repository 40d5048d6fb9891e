//! What the matrix templates of the vendor's library do, as loops over tiles.
//!
//! Learned by executing the compiled templates on a host, with functions that print in the place of the hardware's instructions, for
//! a dozen shapes each.
//!
//! ```text
//! matmul    blocks of 256 x 128 of the result, dealt out to the cores in a snake order; for each, K in steps of 256 through two
//!           halves of L1, the next step loaded before the current one is computed; each step in parts that fill half of L0A or L0B
//!           (one load per row of fractals), two halves in turn; one fixpipe when the block is done; one block in L0C
//! mma_tile  one product of operands in L1, K in parts that fill half of L0A or L0B (one load per operand and part)
//! ```

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Fractal, Layout, Opcode, Order, Region, Tile, TileId};

use super::{
    draft::{Item, Writer},
    value::{Array, Root},
};

/// Rows, depth and columns of a block of the whole-matrix template.
const BLOCK: [i64; 3] = [256, 256, 128];
/// Bytes of half of L0A or L0B.
const HALF: i64 = 32 << 10;

/// Sizes of a product.
struct Sizes {
    m: i64,
    k: i64,
    n: i64,
    /// Depth of a part of a step.
    part: i64,
}

/// The whole-matrix template: `c = a · b`, all in device memory.
pub(super) fn matmul(out: &mut Writer, [a, b, c]: [&Array; 3], block: &Dim, blocks: i64) -> Result<(), String> {
    let known =
        |dim: &Dim| dim.as_const().filter(|n| (1..1 << 28).contains(n)).ok_or("a size of the product is not known");
    if [a, b, c].iter().any(|array| array.sizes.len() != 2) {
        return Err("the operands of a product are matrices".into());
    }
    let [m, k, n] = [known(&a.sizes[0])?, known(&a.sizes[1])?, known(&b.sizes[1])?];
    let (rows, columns) = (round16(m.min(BLOCK[0])), round16(n.min(BLOCK[2])));
    let part = (HALF / a.element_bytes() / rows.max(columns) / 16 * 16).clamp(16, BLOCK[1]);
    let sizes = Sizes { m, k, n, part };
    let tiles = Tiles::new(out, &sizes, [rows, columns], a, b);
    let order = Order2::choose(&sizes, blocks);
    let credits = [("mte1", "mte2", 4), ("m", "mte1", 2), ("fix", "m", 1)];
    credits.iter().for_each(|(from, to, ids)| (0..*ids).for_each(|id| out.set(from, to, Dim::Const(id))));
    let tasks = order.down * order.across;
    let end = (Dim::Const(tasks) - block.clone()).maximum(&Dim::ZERO);
    out.for_each(end, blocks, |out, at| {
        let [i, j] = order.place(&(block.clone() + at.clone()));
        let turn = at.floor_div(&Dim::Const(blocks)) * Dim::Const(steps(k));
        Product { tiles: &tiles, sizes: &sizes, a, b, c, i, j, turn }.write(out);
    });
    credits.iter().for_each(|(from, to, ids)| (0..*ids).for_each(|id| out.wait(from, to, Dim::Const(id))));
    Ok(())
}

fn steps(k: i64) -> i64 {
    (k + BLOCK[1] - 1) / BLOCK[1]
}

fn round16(n: i64) -> i64 {
    (n + 15) / 16 * 16
}

fn fractal(inner: Order, outer: Order) -> Layout {
    Layout::Fractal(Fractal { outer, inner, block: [16, 16] })
}

/// The tiles of a product: L1, L0A and L0B in two halves, L0C.
struct Tiles {
    l1: [TileId; 2],
    l0: [TileId; 2],
    sum: TileId,
}

impl Tiles {
    fn new(out: &mut Writer, sizes: &Sizes, [rows, columns]: [i64; 2], a: &Array, b: &Array) -> Tiles {
        let l1_bytes = |columns: i64| (BLOCK[1] * columns * a.element_bytes()) as usize;
        let at = out.tiles.len();
        let mut tile = |name: &str, space: &str, shape: [i64; 2], layout, dtype, slots, address| {
            let shape = shape.map(|n| n as usize).to_vec();
            let (name, space) = (format!("{name}{at}"), space.to_owned());
            out.tile(Tile { name, space, dtype, shape, layout, slots, address: Some(address) })
        };
        let (dense, turned) = (fractal(Order::Z, Order::N), fractal(Order::N, Order::Z));
        let lies = |array: &Array| if array.strides[1].is(1) { dense } else { turned };
        let depth = BLOCK[1];
        let first = 2 * l1_bytes(rows);
        Tiles {
            l1: [
                tile("l1a", "l1", [rows, depth], lies(a), a.dtype, 2, 0),
                tile("l1b", "l1", [depth, columns], lies(b), b.dtype, 2, first),
            ],
            l0: [
                tile("l0a", "l0a", [rows, sizes.part], fractal(Order::Z, Order::Z), a.dtype, 2, 0),
                tile("l0b", "l0b", [sizes.part, columns], turned, b.dtype, 2, 0),
            ],
            sum: tile("l0c", "l0c", [rows, columns], dense, DType::F32, 1, 0),
        }
    }
}

/// One block of the result on its core.
struct Product<'t> {
    tiles: &'t Tiles,
    sizes: &'t Sizes,
    a: &'t Array,
    b: &'t Array,
    c: &'t Array,
    /// Block row and column.
    i: Dim,
    j: Dim,
    /// Steps along K that this core has done before.
    turn: Dim,
}

impl Product<'_> {
    fn rows(&self) -> Dim {
        rest(self.sizes.m, &self.i, BLOCK[0])
    }

    fn columns(&self) -> Dim {
        rest(self.sizes.n, &self.j, BLOCK[2])
    }

    fn write(&self, out: &mut Writer) {
        let steps = steps(self.sizes.k);
        self.load(out, &Dim::ZERO);
        out.for_each(Dim::Const(steps), 1, |out, step| {
            out.when(Dim::Const(steps - 1) - step.clone(), |out| self.load(out, &(step.clone() + Dim::ONE)));
            self.compute(out, &step);
        });
        out.set("m", "fix", Dim::ZERO);
        out.wait("m", "fix", Dim::ZERO);
        let sum = region(self.tiles.sum, Dim::ZERO, [Dim::ZERO, Dim::ZERO], [self.rows(), self.columns()]);
        let origin = [self.i.clone() * Dim::Const(BLOCK[0]), self.j.clone() * Dim::Const(BLOCK[2])];
        out.copy(Item::Array(part(self.c, origin, [self.rows(), self.columns()])), sum);
        out.set("fix", "m", Dim::ZERO);
    }

    /// Both operands of a step into their half of L1.
    fn load(&self, out: &mut Writer, step: &Dim) {
        let half = (self.turn.clone() + step.clone()).modulo(&Dim::Const(2));
        let (k, depth) = (step.clone() * Dim::Const(BLOCK[1]), rest(self.sizes.k, step, BLOCK[1]));
        let (i, j) = (self.i.clone() * Dim::Const(BLOCK[0]), self.j.clone() * Dim::Const(BLOCK[2]));
        let loads = [(self.a, [i, k.clone()], [self.rows(), depth.clone()]), (self.b, [k, j], [depth, self.columns()])];
        for (side, (array, origin, size)) in loads.into_iter().enumerate() {
            let event = half.clone() + Dim::from(2 * side);
            out.wait("mte1", "mte2", event.clone());
            let tile = region(self.tiles.l1[side], half.clone(), [Dim::ZERO, Dim::ZERO], size.clone());
            out.copy(tile, Item::Array(part(array, origin, size)));
            out.set("mte2", "mte1", event);
        }
    }

    fn compute(&self, out: &mut Writer, step: &Dim) {
        let half = (self.turn.clone() + step.clone()).modulo(&Dim::Const(2));
        let depth = rest(self.sizes.k, step, BLOCK[1]);
        let parts = depth.ceil_div(&Dim::Const(self.sizes.part));
        out.for_each(parts.clone(), 1, |out, p| {
            let (first, last) = (Dim::ONE - p.clone(), p.clone() + Dim::from(2usize) - parts);
            let slot = p.modulo(&Dim::Const(2));
            let size = Dim::Const(self.sizes.part).minimum(&(depth - p.clone() * Dim::Const(self.sizes.part)));
            out.when(first.clone(), |out| out.wait("mte2", "mte1", half.clone()));
            out.wait("m", "mte1", slot.clone());
            self.fractals(out, 0, [&half, &slot, &p, &size]);
            out.when(last.clone(), |out| out.set("mte1", "mte2", half.clone()));
            let event = half.clone() + Dim::from(2usize);
            out.when(first.clone(), |out| out.wait("mte2", "mte1", event.clone()));
            self.fractals(out, 1, [&half, &slot, &p, &size]);
            out.when(last, |out| out.set("mte1", "mte2", event));
            out.set("mte1", "m", slot.clone());
            out.wait("mte1", "m", slot.clone());
            out.when(first - step.clone(), |out| out.wait("fix", "m", Dim::ZERO));
            let operands = |tiles: &Tiles| {
                let at = || [Dim::ZERO, Dim::ZERO];
                let a = region(tiles.l0[0], slot.clone(), at(), [self.rows(), size.clone()]);
                let b = region(tiles.l0[1], slot.clone(), at(), [size.clone(), self.columns()]);
                (region(tiles.sum, Dim::ZERO, at(), [self.rows(), self.columns()]), vec![a, b])
            };
            accumulate(out, step.clone() + p, operands(self.tiles));
            out.barrier(Some("m"));
            out.set("m", "mte1", slot);
        });
    }

    /// One load per row of fractals, from L1 into half of L0A (side 0) or L0B (side 1).
    fn fractals(&self, out: &mut Writer, side: usize, [half, slot, p, size]: [&Dim; 4]) {
        let sixteen = Dim::Const(16);
        let k = p.clone() * Dim::Const(self.sizes.part);
        let count = if side == 0 { self.rows() } else { size.clone() };
        out.for_each(count.clone(), 16, |out, at| {
            let rows = sixteen.minimum(&(count - at.clone()));
            let (to, from, box_size) = if side == 0 {
                ([at.clone(), Dim::ZERO], [at, k], [rows, size.clone()])
            } else {
                ([at.clone(), Dim::ZERO], [k + at, Dim::ZERO], [rows, self.columns()])
            };
            let from = region(self.tiles.l1[side], half.clone(), from, box_size.clone());
            out.copy(region(self.tiles.l0[side], slot.clone(), to, box_size), from);
        });
    }
}

/// A product that adds to its destination where `done` is positive.
fn accumulate(out: &mut Writer, done: Dim, (sum, operands): (Item, Vec<Item>)) {
    out.begin();
    out.op(Opcode::Mmad { accumulate: true }, vec![sum.clone()], operands.clone());
    let then = out.end();
    out.begin();
    out.op(Opcode::Mmad { accumulate: false }, vec![sum], operands);
    let otherwise = out.end();
    out.branch(done, then, otherwise);
}

fn region(tile: TileId, slot: Dim, offset: [Dim; 2], size: [Dim; 2]) -> Item {
    Item::Region(Region { tile, slot, offset: offset.to_vec(), size: size.to_vec() })
}

/// What is left of `whole` in the block of this index.
fn rest(whole: i64, index: &Dim, block: i64) -> Dim {
    Dim::Const(block).minimum(&(Dim::Const(whole) - index.clone() * Dim::Const(block)))
}

/// A box of a matrix.
fn part(array: &Array, origin: [Dim; 2], size: [Dim; 2]) -> Array {
    let moved = origin.into_iter().zip(&array.strides).fold(array.offset.clone(), |sum, (o, s)| sum + o * s.clone());
    Array { offset: moved, sizes: size.to_vec(), ..array.clone() }
}

/// A tile for an array of fractals `[C1][R1][16][16]` in L1 or L0C; `turned`: the matrix lies there transposed.
fn tile_of(out: &mut Writer, array: &Array, turned: bool) -> Result<(TileId, [i64; 2]), String> {
    let sizes: Option<Vec<i64>> = array.sizes.iter().map(Dim::as_const).collect();
    let (Some(sizes), Root::Local { space, address, .. }) = (sizes, &array.root) else {
        return Err("the fractals have no known place or size".into());
    };
    let [c1, r1, 16, 16] = sizes[..] else { return Err("fractals are arrays of four axes, the inner ones 16".into()) };
    if [c1, r1].iter().any(|n| !(1..1 << 20).contains(n)) {
        return Err("the sizes of the fractals are no sizes".into());
    }
    let (rows, columns) = if turned { (c1 * 16, r1 * 16) } else { (r1 * 16, c1 * 16) };
    let layout = if turned { fractal(Order::N, Order::Z) } else { fractal(Order::Z, Order::N) };
    let shape = vec![rows as usize, columns as usize];
    let name = format!("{space}_{address}_{}x{}_{}", rows, columns, if turned { "nZ" } else { "zN" });
    let tile = Tile {
        name,
        space: (*space).to_owned(),
        dtype: array.dtype,
        shape,
        layout,
        slots: 1,
        address: Some(*address as usize),
    };
    Ok((out.shared_tile(tile), [rows, columns]))
}

/// A matrix from device memory into fractals in L1.
pub(super) fn load(out: &mut Writer, src: &Array, dst: &Array) -> Result<(), String> {
    let src = src.matrix().ok_or("what is loaded is no matrix")?;
    let (tile, _) = tile_of(out, dst, false)?;
    let size = [src.sizes[0].clone(), src.sizes[1].clone()];
    out.copy(region(tile, Dim::ZERO, [Dim::ZERO, Dim::ZERO], size), Item::Array(src));
    Ok(())
}

/// A result from L0C to device memory.
pub(super) fn store(out: &mut Writer, src: &Array, dst: &Array) -> Result<(), String> {
    let dst = dst.matrix().ok_or("where the result goes is no matrix")?;
    let (tile, _) = tile_of(out, src, false)?;
    let size = [dst.sizes[0].clone(), dst.sizes[1].clone()];
    out.copy(Item::Array(dst), region(tile, Dim::ZERO, [Dim::ZERO, Dim::ZERO], size));
    Ok(())
}

/// One product of operands in L1. `events`: what the template waits for before it loads A and B, and what it sets when it has read
/// them for the last time; negative or absent ones are left out.
pub(super) fn mma_tile(
    out: &mut Writer,
    [a, b, c]: [&Array; 3],
    turned: [bool; 2],
    clear: &Dim,
    [m, k, n]: [Dim; 3],
    events: &[Option<Dim>],
) -> Result<(), String> {
    let ((left, [rows, _]), (right, [_, columns])) = (tile_of(out, a, turned[0])?, tile_of(out, b, turned[1])?);
    let (sum, _) = tile_of(out, c, false)?;
    let part = (HALF / a.element_bytes() / rows.max(columns) / 16 * 16).max(16);
    let mut half = |name: &str, space: &str, shape: [i64; 2], layout| {
        let tile = Tile {
            name: format!("{name}_{}x{}", shape[0], shape[1]),
            space: space.to_owned(),
            dtype: a.dtype,
            shape: shape.map(|n| n as usize).to_vec(),
            layout,
            slots: 2,
            address: Some(0),
        };
        out.shared_tile(tile)
    };
    let l0a = half("l0a", "l0a", [rows, part], fractal(Order::Z, Order::Z));
    let l0b = half("l0b", "l0b", [part, columns], fractal(Order::N, Order::Z));
    let event = |at: usize| events.get(at).cloned().flatten().filter(|id| id.range().low >= 0);
    let parts = k.ceil_div(&Dim::Const(part));
    (0..2).for_each(|id| out.set("m", "mte1", Dim::Const(id)));
    out.for_each(parts.clone(), 1, |out, p| {
        let (first, last) = (Dim::ONE - p.clone(), p.clone() + Dim::from(2usize) - parts);
        let slot = p.modulo(&Dim::Const(2));
        let at = p.clone() * Dim::Const(part);
        let depth = Dim::Const(part).minimum(&(k - at.clone()));
        out.wait("m", "mte1", slot.clone());
        let origin = || [Dim::ZERO, Dim::ZERO];
        let sides = [
            (left, l0a, [Dim::ZERO, at.clone()], [m.clone(), depth.clone()]),
            (right, l0b, [at, Dim::ZERO], [depth, n.clone()]),
        ];
        let mut operands = Vec::new();
        for (side, (l1, l0, from, size)) in sides.into_iter().enumerate() {
            if let Some(id) = event(side) {
                out.when(first.clone(), |out| out.wait("mte2", "mte1", id));
            }
            let operand = region(l0, slot.clone(), origin(), size.clone());
            out.copy(operand.clone(), region(l1, Dim::ZERO, from, size));
            operands.push(operand);
            if let Some(id) = event(side + 2) {
                out.when(last.clone(), |out| out.set("mte1", "mte2", id));
            }
        }
        out.set("mte1", "m", slot.clone());
        out.wait("mte1", "m", slot.clone());
        let done = p + Dim::ONE - clear.clone();
        accumulate(out, done, (region(sum, Dim::ZERO, origin(), [m, n]), operands));
        out.set("m", "mte1", slot);
    });
    (0..2).for_each(|id| out.wait("m", "mte1", Dim::Const(id)));
    Ok(())
}

/// The order in which the blocks of the result are dealt out: bands of rows (or of columns) of blocks, each walked across, in turns
/// from left to right and from right to left.
struct Order2 {
    /// Block rows and columns.
    down: i64,
    across: i64,
    /// Block rows (or columns) in a band.
    band: i64,
    /// Whether bands are columns.
    turned: bool,
}

impl Order2 {
    fn choose(sizes: &Sizes, blocks: i64) -> Order2 {
        let [m, k, n] = [sizes.m, sizes.k, sizes.n];
        let (mut least, mut band, mut turned) = (m * k + k * n, 1, false);
        for i in 1..=blocks {
            let c = (blocks + i - 1) / i;
            turned = BLOCK[2] * i + m < BLOCK[0] * c + n;
            let cost = if turned { BLOCK[2] * i + BLOCK[0] * c } else { BLOCK[0] * i + BLOCK[2] * c };
            if cost < least || turned && cost == least {
                (least, band) = (cost, i);
            }
        }
        let (down, across) = ((m + BLOCK[0] - 1) / BLOCK[0], (n + BLOCK[2] - 1) / BLOCK[2]);
        Order2 { down, across, band, turned }
    }

    /// Block row and column of a task.
    fn place(&self, task: &Dim) -> [Dim; 2] {
        let (along, other) = if self.turned { (self.across, self.down) } else { (self.down, self.across) };
        let whole = Dim::Const(self.band * other);
        let (number, inside) = (task.floor_div(&whole), task.modulo(&whole));
        let start = number.clone() * Dim::Const(self.band);
        let height = Dim::Const(self.band).minimum(&(Dim::Const(along) - start.clone()));
        let first = start + inside.modulo(&height);
        let second = inside.floor_div(&height);
        let odd = number.modulo(&Dim::Const(2));
        let second = second.clone() + odd * (Dim::Const(other - 1) - second * Dim::Const(2));
        if self.turned { [second, first] } else { [first, second] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the template, executed with 24 cores, puts the blocks of core 0 (and core 5).
    #[test]
    fn blocks_are_dealt_out_as_by_the_template() {
        let place = |m: i64, n: i64, task: i64| {
            let order = Order2::choose(&Sizes { m, k: 1024, n, part: 64 }, 24);
            order.place(&Dim::Const(task)).map(|dim| dim.as_const().unwrap())
        };
        assert_eq!([place(1024, 1024, 5), place(1024, 1024, 29)], [[1, 1], [1, 7]]);
        assert_eq!([place(8192, 8192, 7), place(8192, 8192, 31)], [[1, 1], [1, 5]]);
        assert_eq!([place(512, 8192, 3), place(512, 8192, 51)], [[0, 3], [1, 27]]);
        assert_eq!([place(640, 4096, 11), place(640, 4096, 35)], [[1, 3], [1, 11]]);
    }

    #[test]
    fn uneven_bands_end_shorter() {
        let order = Order2::choose(&Sizes { m: 4096, k: 256, n: 512, part: 64 }, 20);
        let place = |task| order.place(&Dim::Const(task)).map(|dim| dim.as_const().unwrap());
        assert_eq!([place(3), place(23), place(43), place(63)], [[0, 1], [5, 0], [10, 1], [15, 0]]);
    }
}
