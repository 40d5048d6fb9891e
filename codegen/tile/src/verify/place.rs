//! Addresses: tiles lie inside their space, aligned, and no two that are needed at the same time share bytes.
//!
//! Statements are numbered in order. A tile is needed from its first to its last access; through the whole of a loop if it is
//! accessed both inside and outside of it, if something inside is accessed that was not overwritten for certain in the same iteration, or
//! if it has several slots: then one iteration uses what the one before has left.

use super::{Report, kernel::tile_bytes};
use crate::{Instr, Kernel, Machine, Operand, Region, Stmt, TileId, text::part};

/// Comparing all pairs of more tiles would take too long.
const TILES: usize = 4096;

/// One access to a tile.
struct Use<'k> {
    at: usize,
    overwrites: bool,
    region: &'k Region,
    /// The loops around it, outermost first, by index.
    loops: Vec<usize>,
    /// The branches around it, outermost first: the number of the condition, and whether it holds.
    branches: Vec<(usize, bool)>,
}

/// First and last statement that need a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// Checks addresses.
pub(super) fn placed(kernel: &Kernel, machine: &Machine, report: &mut Report) {
    if kernel.tiles.len() > TILES {
        return report.fault(format!("{} tiles are more than can be compared", kernel.tiles.len()));
    }
    let lives = lives(kernel);
    let mut places: Vec<(usize, &str, usize, usize)> = Vec::new();
    for (at, tile) in kernel.tiles.iter().enumerate() {
        report.path.extend([part::TILE, at as u32]);
        let bytes = tile_bytes(tile).and_then(|bytes| bytes.checked_mul(tile.slots));
        if let (Some(address), Some(bytes), Some(space)) = (tile.address, bytes, machine.space(&tile.space)) {
            let single = bytes / tile.slots.max(1);
            let aligned =
                address.is_multiple_of(space.alignment) && (tile.slots < 2 || single.is_multiple_of(space.alignment));
            report.fault_if(!aligned, || {
                format!("`{}` is not aligned to the {} bytes of `{}`", tile.name, space.alignment, space.name)
            });
            match address.checked_add(bytes) {
                Some(end) if end as u64 <= space.bytes => places.push((at, &space.name, address, end)),
                _ => report
                    .fault(format!("{bytes} bytes at {address} reach beyond the {} of `{}`", space.bytes, space.name)),
            }
        } else {
            report.fault(format!("`{}` has no address", tile.name));
        }
        report.path.truncate(report.path.len() - 2);
    }
    for (index, &(a, space, start, end)) in places.iter().enumerate() {
        for &(b, other, from, to) in &places[index + 1..] {
            let meet = space == other && start < to && from < end;
            if let (true, Some(x), Some(y)) = (meet, lives[a], lives[b])
                && x.first <= y.last
                && y.first <= x.last
            {
                report.at(&[part::TILE, b as u32], |report| {
                    report.fault(format!(
                        "`{}` shares bytes {}..{} of `{space}` with `{}`, which is needed at the same time",
                        kernel.tiles[b].name,
                        start.max(from),
                        end.min(to),
                        kernel.tiles[a].name
                    ));
                });
            }
        }
    }
}

/// The lifetime of every tile; `None` for unused ones.
pub fn lives(kernel: &Kernel) -> Vec<Option<Life>> {
    let mut walk = Walk {
        at: 0,
        loops: Vec::new(),
        inside: Vec::new(),
        conditions: 0,
        branches: Vec::new(),
        uses: kernel.tiles.iter().map(|_| Vec::new()).collect(),
    };
    walk.block(&kernel.body);
    let tiles = walk.uses.iter().zip(&kernel.tiles);
    tiles.map(|(uses, tile)| walk.life(uses, tile.slots > 1)).collect()
}

/// Whether one part of a tile holds another for certain.
fn covers(whole: &Region, part: &Region) -> bool {
    whole.slot == part.slot
        && whole.offset.iter().zip(&whole.size).zip(part.offset.iter().zip(&part.size)).all(
            |((start, size), (at, n))| {
                let before = at.clone() - start.clone();
                let after = start.clone() + size.clone() - at.clone() - n.clone();
                before.range().low >= 0 && after.range().low >= 0
            },
        )
}

struct Walk<'k> {
    at: usize,
    /// First and last statement of every loop.
    loops: Vec<Life>,
    inside: Vec<usize>,
    conditions: usize,
    branches: Vec<(usize, bool)>,
    uses: Vec<Vec<Use<'k>>>,
}

impl Use<'_> {
    /// Whether this write is carried out whenever `other` is, before it, and writes all that it needs.
    fn precedes(&self, other: &Use) -> bool {
        self.writes_for(other) && other.branches.starts_with(&self.branches)
    }

    fn writes_for(&self, other: &Use) -> bool {
        // What an instruction reads it reads before it writes.
        let before = self.at < other.at || std::ptr::eq(self, other);
        self.overwrites && before && covers(self.region, other.region)
    }

    /// Whether this write and another one do so together, one under each outcome of a condition.
    fn precedes_with(&self, opposite: &Use, other: &Use) -> bool {
        let (Some((&(condition, holds), around)), Some((&last, beside))) =
            (self.branches.split_last(), opposite.branches.split_last())
        else {
            return false;
        };
        last == (condition, !holds)
            && around == beside
            && other.branches.starts_with(around)
            && self.writes_for(other)
            && opposite.writes_for(other)
    }
}

impl<'k> Walk<'k> {
    fn block(&mut self, body: &'k [Stmt]) {
        for stmt in body {
            self.at += 1;
            match stmt {
                Stmt::Instr(instr) => self.instr(instr),
                Stmt::If { then, otherwise, .. } => {
                    self.conditions += 1;
                    let condition = self.conditions;
                    for (branch, holds) in [(then, true), (otherwise, false)] {
                        self.branches.push((condition, holds));
                        self.block(branch);
                        self.branches.pop();
                    }
                }
                Stmt::For { body, .. } => {
                    let index = self.loops.len();
                    self.loops.push(Life { first: self.at, last: self.at });
                    self.inside.push(index);
                    self.block(body);
                    self.inside.pop();
                    self.at += 1;
                    self.loops[index].last = self.at;
                }
            }
        }
    }

    fn instr(&mut self, instr: &'k Instr) {
        instr.src.iter().for_each(|operand| self.access(operand, false));
        let overwrites = !instr.op.reads_destination();
        instr.dst.iter().for_each(|operand| self.access(operand, overwrites));
    }

    fn access(&mut self, operand: &'k Operand, overwrites: bool) {
        if let Operand::Tile(region) = operand
            && let TileId(tile) = region.tile
            && let Some(uses) = self.uses.get_mut(tile as usize)
        {
            let (loops, branches) = (self.inside.clone(), self.branches.clone());
            uses.push(Use { at: self.at, overwrites, region, loops, branches });
        }
    }

    fn life(&self, uses: &[Use<'k>], slots: bool) -> Option<Life> {
        let mut life = Life { first: uses.first()?.at, last: uses.last()?.at };
        let mut loops: Vec<usize> = uses.iter().flat_map(|one| one.loops.iter().copied()).collect();
        loops.sort_unstable();
        loops.dedup();
        for index in loops {
            let inside: Vec<&Use> = uses.iter().filter(|one| one.loops.contains(&index)).collect();
            let overwritten = |one: &&Use| {
                let both = |a: &&Use| inside.iter().any(|b| a.precedes_with(b, one));
                inside.iter().any(|write| write.precedes(one)) || inside.iter().any(both)
            };
            if slots || inside.len() < uses.len() || !inside.iter().all(overwritten) {
                life.first = life.first.min(self.loops[index].first);
                life.last = life.last.max(self.loops[index].last);
            }
        }
        Some(life)
    }
}
