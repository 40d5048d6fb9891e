//! Addresses for tiles: tiles that are never needed at the same time share memory. What "needed" means, the verifier says.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tile::{
    Kernel, Machine, TileId,
    machine::Banks,
    verify::{Life, lives},
};

use crate::asked::Overflow;

/// Gives every tile of the kernel an address in its space.
///
/// # Errors
/// If the tiles of a space do not fit.
pub(crate) fn place(kernel: &mut Kernel, machine: &Machine) -> Result<(), Unplaced> {
    let mut taken: BTreeMap<String, Vec<(Life, usize, usize)>> = BTreeMap::new();
    let lives = lives(kernel).into_iter().enumerate();
    let mut order: Vec<(usize, Life)> = lives.filter_map(|(id, life)| Some((id, life?))).collect();
    order.sort_by_key(|(id, life)| (life.first, *id));
    for (id, life) in order {
        let tile = &mut kernel.tiles[id];
        let space = machine.space(&tile.space);
        let space = space.ok_or_else(|| Unplaced::Impossible(format!("there is no space `{}`", tile.space)))?;
        let bytes = tile
            .layout
            .elements(&tile.shape)
            .and_then(|n| tile.dtype.bytes_of(n))
            .filter(|bytes| tile.slots < 2 || bytes.is_multiple_of(space.alignment))
            .and_then(|b| b.checked_mul(tile.slots));
        let bytes = bytes.ok_or_else(|| {
            Unplaced::Impossible(format!("tile `{}` is too large, or its slots are not aligned", tile.name))
        })?;
        let neighbours = taken.entry(tile.space.clone()).or_default();
        let apart =
            space.banks.as_ref().filter(|banks| bytes >= SMALL && banks.read_conflict > 1.0).and_then(|banks| {
                let address = apart_fit(neighbours, life, bytes, space.alignment, banks)?;
                ((address + bytes) as u64 <= space.bytes).then_some(address)
            });
        let address = apart.unwrap_or_else(|| first_fit(neighbours, life, bytes, space.alignment));
        if (address + bytes) as u64 > space.bytes {
            let (name, room) = (tile.space.clone(), usize::try_from(space.bytes).unwrap_or(usize::MAX));
            let free = longest_gap(neighbours, life, room);
            return Err(Unplaced::Overflow(Overflow { tile: TileId(id as u32), space: name, bytes, free, room }));
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

/// Why a tile has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// Its space has no room for it.
    Overflow(Overflow),
    /// No space holds it.
    Impossible(String),
}

/// Tiles that are smaller are not worth a place of their own among the banks.
const SMALL: usize = 1024;

/// The lowest address at which `bytes` meet no tile that lives at the same time, and begin in another group of banks than each of those:
/// operands of one instruction advance together, so what begins apart stays apart. `None` if all groups are taken.
fn apart_fit(
    taken: &[(Life, usize, usize)],
    life: Life,
    bytes: usize,
    alignment: usize,
    banks: &Banks,
) -> Option<usize> {
    let alive = || taken.iter().filter(|(other, ..)| other.first <= life.last && life.first <= other.last);
    let begun: BTreeSet<usize> =
        alive().filter(|(.., bytes)| *bytes >= SMALL).map(|&(_, at, _)| banks.group(at)).collect();
    let busy = busy(taken, life);
    let step = alignment.max(banks.width);
    let fits = |address: usize| busy.iter().all(|&(start, end)| address + bytes <= start || end <= address);
    let starts = std::iter::once(0).chain(busy.iter().map(|&(_, end)| end.next_multiple_of(alignment.max(1))));
    let places = starts.flat_map(|start| (0..banks.groups).map(move |i| start + i * step));
    let free = places.filter(|&address| fits(address) && !begun.contains(&banks.group(address)));
    free.min()
}

/// What is taken by tiles that live at the same time, lowest first.
fn busy(taken: &[(Life, usize, usize)], life: Life) -> Vec<(usize, usize)> {
    let alive = taken.iter().filter(|(other, ..)| other.first <= life.last && life.first <= other.last);
    let mut busy: Vec<(usize, usize)> = alive.map(|&(_, address, bytes)| (address, address + bytes)).collect();
    busy.sort_unstable();
    busy
}

/// The longest run of bytes of a space that no tile takes which lives at the same time.
fn longest_gap(taken: &[(Life, usize, usize)], life: Life, room: usize) -> usize {
    let (mut longest, mut end) = (0, 0);
    for (start, next) in busy(taken, life).into_iter().chain([(room, room)]) {
        longest = longest.max(start.saturating_sub(end));
        end = end.max(next);
    }
    longest
}

/// The lowest aligned address at which `bytes` meet no tile that lives at the same time.
fn first_fit(taken: &[(Life, usize, usize)], life: Life, bytes: usize, alignment: usize) -> usize {
    let mut address = 0;
    for (start, end) in busy(taken, life) {
        if address + bytes <= start {
            break;
        }
        address = address.max(end.next_multiple_of(alignment.max(1)));
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarsia_tensor::{DType, Dim, Symbol};
    use tarsia_tile::{Instr, Layout, Opcode, Operand, Region, Stmt, Tile, TileId};

    fn tile(name: &str) -> Tile {
        let shape = vec![16];
        let (space, layout) = ("scratch".to_owned(), Layout::RowMajor);
        Tile { name: name.to_owned(), space, dtype: DType::F32, shape, layout, slots: 1, address: None }
    }

    fn region_of(tile: u32) -> Region {
        Region::at_origin(TileId(tile), vec![Dim::Const(16)])
    }

    fn region(tile: u32) -> Operand {
        Operand::Tile(region_of(tile))
    }

    fn copy(dst: u32, src: u32) -> Stmt {
        Stmt::Instr(Instr { op: Opcode::Copy { rows: 1 }, dst: vec![region(dst)], src: vec![region(src)] })
    }

    fn addresses(tiles: usize, body: Vec<Stmt>) -> Vec<usize> {
        let tiles = (0..tiles).map(|i| tile(&format!("t{i}"))).collect();
        let mut kernel =
            Kernel { name: "k".into(), origin: vec![], params: vec![], tiles, grid: vec![], lanes: None, body };
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

    #[test]
    fn tiles_written_piece_by_piece_keep_their_memory() {
        // One row a turn is written to tile 0; all of it is read in every turn.
        let part = Region { offset: vec![Dim::symbol("%i")], size: vec![Dim::ONE], ..region_of(0) };
        let write =
            Stmt::Instr(Instr { op: Opcode::Fill, dst: vec![Operand::Tile(part)], src: vec![Operand::Real(0.0)] });
        let body = vec![write, copy(1, 0), copy(2, 1)];
        let found = addresses(3, vec![Stmt::For { var: Symbol::new("%i"), end: Dim::Const(4), step: 1, body }]);
        assert!(found[0] != found[1] && found[0] != found[2], "{found:?}");
    }
}
