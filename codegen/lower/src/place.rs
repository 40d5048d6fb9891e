//! Addresses for tiles: tiles that are never needed at the same time share memory.
//!
//! Statements are numbered in order. A tile lives from its first to its last access; one that is accessed inside a loop and outside
//! of it, or that carries a value from one iteration to the next, lives through the whole loop.

use std::collections::BTreeMap;

use tarsia_tile::{Instr, Kernel, Machine, Opcode, Operand, Stmt, TileId};

/// First and last statement of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Life {
    first: usize,
    last: usize,
}

/// Gives every tile of the kernel an address in its space.
///
/// # Errors
/// If the tiles of a space do not fit; the error names the space, what is needed and what there is.
pub(crate) fn place(kernel: &mut Kernel, machine: &Machine) -> Result<(), String> {
    let lives = lifetimes(&kernel.body);
    let mut taken: BTreeMap<String, Vec<(Life, usize, usize)>> = BTreeMap::new();
    let mut order: Vec<(TileId, Life)> = lives.into_iter().collect();
    order.sort_by_key(|(id, life)| (life.first, *id));
    for (id, life) in order {
        let tile = &mut kernel.tiles[id.0 as usize];
        let space = machine.space(&tile.space).ok_or_else(|| format!("there is no space `{}`", tile.space))?;
        let bytes = tile
            .layout
            .elements(&tile.shape)
            .and_then(|n| tile.dtype.bytes_of(n))
            .and_then(|b| b.checked_mul(tile.slots));
        let bytes = bytes.ok_or_else(|| format!("tile `{}` is too large", tile.name))?;
        let neighbours = taken.entry(tile.space.clone()).or_default();
        let address = first_fit(neighbours, life, bytes, space.alignment);
        if (address + bytes) as u64 > space.bytes {
            let name = &tile.name;
            return Err(format!(
                "tile `{name}` takes {bytes} bytes of `{}` at {address}, which has {}",
                tile.space, space.bytes
            ));
        }
        neighbours.push((life, address, bytes));
        tile.address = Some(address);
    }
    // A tile that no statement uses needs no memory, but an address.
    kernel.tiles.iter_mut().for_each(|tile| {
        tile.address.get_or_insert(0);
    });
    Ok(())
}

/// The lowest aligned address at which `bytes` meet no tile that lives at the same time.
fn first_fit(taken: &[(Life, usize, usize)], life: Life, bytes: usize, alignment: usize) -> usize {
    let mut busy: Vec<(usize, usize)> = taken
        .iter()
        .filter(|(other, ..)| other.first <= life.last && life.first <= other.last)
        .map(|&(_, address, bytes)| (address, address + bytes))
        .collect();
    busy.sort_unstable();
    let mut address = 0;
    for (start, end) in busy {
        if address + bytes <= start {
            break;
        }
        address = address.max(end.next_multiple_of(alignment.max(1)));
    }
    address
}

fn lifetimes(body: &[Stmt]) -> BTreeMap<TileId, Life> {
    let mut walk = Walk::default();
    walk.block(body);
    walk.lives
}

#[derive(Default)]
struct Walk {
    at: usize,
    lives: BTreeMap<TileId, Life>,
}

impl Walk {
    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            self.at += 1;
            match stmt {
                Stmt::Instr(instr) => self.instr(instr),
                Stmt::If { then, otherwise, .. } => {
                    self.block(then);
                    self.block(otherwise);
                }
                Stmt::For { body, .. } => self.repeat(body),
            }
        }
    }

    fn instr(&mut self, instr: &Instr) {
        for operand in instr.src.iter().chain(&instr.dst) {
            if let Operand::Tile(region) = operand {
                let at = self.at;
                let life = self.lives.entry(region.tile).or_insert(Life { first: at, last: at });
                life.last = life.last.max(at);
            }
        }
    }

    fn repeat(&mut self, body: &[Stmt]) {
        let first = self.at;
        let before: Vec<TileId> = self.lives.keys().copied().collect();
        let mut used = Vec::new();
        tiles_of(body, &mut used);
        self.block(body);
        self.at += 1;
        let last = self.at;
        for (id, carried) in used {
            if let Some(life) = self.lives.get_mut(&id)
                && (carried || before.contains(&id))
            {
                *life = Life { first: life.first.min(first), last };
            }
        }
    }
}

/// The tiles of a block with whether their first access is anything but a write of the whole.
fn tiles_of(body: &[Stmt], found: &mut Vec<(TileId, bool)>) {
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) => {
                let mut see = |operand: &Operand, carried: bool| {
                    if let Operand::Tile(region) = operand
                        && !found.iter().any(|(id, _)| *id == region.tile)
                    {
                        found.push((region.tile, carried));
                    }
                };
                instr.src.iter().for_each(|operand| see(operand, true));
                instr.dst.iter().for_each(|operand| see(operand, accumulates(&instr.op)));
            }
            Stmt::If { then, otherwise, .. } => {
                tiles_of(then, found);
                tiles_of(otherwise, found);
            }
            Stmt::For { body, .. } => tiles_of(body, found),
        }
    }
}

fn accumulates(op: &Opcode) -> bool {
    matches!(
        op,
        Opcode::Mmad { accumulate: true }
            | Opcode::Reduce { accumulate: true, .. }
            | Opcode::ArgReduce { accumulate: true, .. }
            | Opcode::Scatter { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarsia_tensor::{DType, Dim, Symbol};
    use tarsia_tile::{Layout, Region, Tile};

    fn tile(name: &str) -> Tile {
        let shape = vec![16];
        let (space, layout) = ("scratch".to_owned(), Layout::RowMajor);
        Tile { name: name.to_owned(), space, dtype: DType::F32, shape, layout, slots: 1, address: None }
    }

    fn region(tile: u32) -> Operand {
        Operand::Tile(Region::at_origin(TileId(tile), vec![Dim::Const(16)]))
    }

    fn copy(dst: u32, src: u32) -> Stmt {
        Stmt::Instr(Instr { op: Opcode::Copy { rows: 1 }, dst: vec![region(dst)], src: vec![region(src)] })
    }

    fn addresses(tiles: usize, body: Vec<Stmt>) -> Vec<usize> {
        let tiles = (0..tiles).map(|i| tile(&format!("t{i}"))).collect();
        let mut kernel = Kernel { name: "k".into(), origin: vec![], params: vec![], tiles, grid: vec![], body };
        place(&mut kernel, &Machine::builtin("cpu").unwrap()).unwrap();
        kernel.tiles.iter().map(|tile| tile.address.unwrap()).collect()
    }

    #[test]
    fn dead_tiles_give_their_memory_away() {
        assert_eq!(addresses(4, vec![copy(1, 0), copy(2, 1), copy(3, 2)]), vec![0, 64, 0, 64]);
    }

    #[test]
    fn values_carried_by_a_loop_keep_their_memory() {
        // Tile 1 is read before it is written in the loop, so nothing else of the loop may have its place.
        let body = vec![copy(2, 1), copy(3, 2), copy(1, 3)];
        let found =
            addresses(4, vec![copy(1, 0), Stmt::For { var: Symbol::new("%i"), end: Dim::Const(4), step: 1, body }]);
        assert!(found[1] != found[2] && found[1] != found[3], "{found:?}");
    }
}
