//! Double buffering: while one pipe works on what a loop has brought, another brings what the next turn needs.
//!
//! ```text
//!                          set B→A 0;  set B→A 1                      both copies are free
//! for k                    for k
//!     t <- …   (pipe A)        wait B→A k%2;  t#(k%2) <- …            until copy k%2 is free
//!                     ──►      set A→B k%2;   wait A→B k%2
//!     … <- t   (pipe B)        … <- t#(k%2);  set B→A k%2
//!                          wait B→A 0;  wait B→A 1
//! ```
//! A tile is doubled where every turn writes it anew on one pipe, then reads it on another, and nothing outside the loop uses it; only
//! if all tiles of the kernel still fit. Signals are paired whatever the number of turns, zero included.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Instr, Kernel, Machine, Opcode, Operand, Region, Stmt, TileId};

use crate::place::place;

/// Copies of a tile.
const SLOTS: usize = 2;
/// Events up to this number are for other uses; see `synchronise`.
const FIRST_EVENT: usize = 1;

/// Tiles of one loop that one pipe writes and then another reads.
#[derive(Clone, Debug)]
struct Group {
    pipes: [String; 2],
    tiles: BTreeSet<TileId>,
    /// First and last of the loop's statements that write, and that read.
    writes: [usize; 2],
    reads: [usize; 2],
    /// The first of its events.
    event: usize,
}

/// Doubles tiles of loops and orders the accesses to them. The kernel is placed; so is the result.
pub(crate) fn overlap(kernel: &mut Kernel, machine: &Machine) {
    let mut chosen: BTreeMap<Symbol, Vec<Group>> = BTreeMap::new();
    let mut loops = Vec::new();
    innermost(&kernel.body, &mut loops);
    let found: Vec<(Symbol, Vec<Group>)> =
        loops.iter().map(|(var, body)| ((*var).clone(), groups(kernel, machine, body))).collect();
    for (var, groups) in found {
        for mut group in groups {
            let [a, b] = &group.pipes;
            let taken = chosen.get(&var).map_or(0, |groups| groups.iter().filter(|g| same_pipes(g, &group)).count());
            group.event = FIRST_EVENT + SLOTS * taken;
            let ids = machine.event_ids(a, b).min(machine.event_ids(b, a));
            let mut doubled = kernel.clone();
            group.tiles.iter().for_each(|tile| doubled.tiles[tile.0 as usize].slots = SLOTS);
            if group.event + SLOTS <= ids && place(&mut doubled, machine).is_ok() {
                *kernel = doubled;
                chosen.entry(var.clone()).or_default().push(group);
            }
        }
    }
    let body = std::mem::take(&mut kernel.body);
    kernel.body = rewrite(body, &chosen);
}

fn same_pipes(a: &Group, b: &Group) -> bool {
    let sorted = |group: &Group| {
        let mut pipes = group.pipes.clone();
        pipes.sort_unstable();
        pipes
    };
    sorted(a) == sorted(b)
}

/// Loops without loops inside.
fn innermost<'k>(body: &'k [Stmt], found: &mut Vec<(&'k Symbol, &'k [Stmt])>) {
    for stmt in body {
        match stmt {
            Stmt::For { var, body, .. } => {
                let before = found.len();
                innermost(body, found);
                if found.len() == before {
                    found.push((var, body));
                }
            }
            Stmt::If { then, otherwise, .. } => {
                innermost(then, found);
                innermost(otherwise, found);
            }
            Stmt::Instr(_) => {}
        }
    }
}

/// An access to a tile in a loop's body.
struct Access<'k> {
    /// The statement of the body that it is part of.
    at: usize,
    pipe: &'k str,
    region: &'k Region,
    writes: bool,
    reads: bool,
}

fn groups(kernel: &Kernel, machine: &Machine, body: &[Stmt]) -> Vec<Group> {
    let mut everywhere = BTreeMap::new();
    count(&kernel.body, &mut everywhere);
    let mut accesses: BTreeMap<TileId, Vec<Access>> = BTreeMap::new();
    for (at, stmt) in body.iter().enumerate() {
        collect(kernel, machine, std::slice::from_ref(stmt), at, &mut accesses);
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut tiles: Vec<(TileId, Group)> = accesses
        .iter()
        .filter(|(tile, accesses)| everywhere.get(tile) == Some(&accesses.len()))
        .filter_map(|(&tile, accesses)| Some((tile, alone(tile, accesses)?)))
        .collect();
    tiles.sort_by_key(|(tile, group)| (group.writes, *tile));
    for (_, group) in tiles {
        match groups.iter_mut().find_map(|other| Some(other.with(&group)).flatten().map(|joined| (other, joined))) {
            Some((other, joined)) => *other = joined,
            None => groups.push(group),
        }
    }
    groups
}

/// The group of one tile, if it can be doubled.
fn alone(tile: TileId, accesses: &[Access]) -> Option<Group> {
    let (first, writer) = (accesses.first()?, accesses.first()?.pipe);
    let same = |access: &Access| access.region.offset == first.region.offset && access.region.size == first.region.size;
    let writes = || accesses.iter().filter(|access| access.writes);
    let reads = || accesses.iter().filter(|access| access.reads);
    let reader = reads().next()?.pipe;
    let separate = writes().all(|access| access.pipe == writer && !access.reads)
        && reads().all(|access| access.pipe == reader)
        && reader != writer;
    if !first.writes || !separate || !accesses.iter().all(same) {
        return None;
    }
    let writes = [first.at, writes().next_back()?.at];
    let reads = [reads().next()?.at, reads().next_back()?.at];
    let pipes = [writer.to_owned(), reader.to_owned()];
    (writes[1] < reads[0]).then(|| Group { pipes, tiles: BTreeSet::from([tile]), writes, reads, event: 0 })
}

impl Group {
    /// Both as one, if all that is written is written before any of it is read.
    fn with(&self, other: &Group) -> Option<Group> {
        let span = |a: [usize; 2], b: [usize; 2]| [a[0].min(b[0]), a[1].max(b[1])];
        let (writes, reads) = (span(self.writes, other.writes), span(self.reads, other.reads));
        let tiles = self.tiles.union(&other.tiles).copied().collect();
        let fits = self.pipes == other.pipes && writes[1] < reads[0];
        fits.then(|| Group { pipes: self.pipes.clone(), tiles, writes, reads, event: 0 })
    }

    fn signal(&self, [from, to]: [usize; 2], event: Dim, set: bool) -> Stmt {
        let (from, to) = (self.pipes[from].clone(), self.pipes[to].clone());
        let op = if set { Opcode::SetEvent { from, to, event } } else { Opcode::WaitEvent { from, to, event } };
        Stmt::Instr(Instr { op, dst: Vec::new(), src: Vec::new() })
    }
}

fn count(body: &[Stmt], found: &mut BTreeMap<TileId, usize>) {
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) => {
                for operand in instr.dst.iter().chain(&instr.src) {
                    if let Operand::Tile(region) = operand {
                        *found.entry(region.tile).or_default() += 1;
                    }
                }
            }
            Stmt::For { body, .. } => count(body, found),
            Stmt::If { then, otherwise, .. } => {
                count(then, found);
                count(otherwise, found);
            }
        }
    }
}

fn collect<'k>(
    kernel: &'k Kernel,
    machine: &'k Machine,
    body: &'k [Stmt],
    at: usize,
    found: &mut BTreeMap<TileId, Vec<Access<'k>>>,
) {
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) => {
                let Ok(pipe) = machine.pipe_of(kernel, instr) else { continue };
                let mut see = |operand: &'k Operand, writes: bool, reads: bool| {
                    if let Operand::Tile(region) = operand {
                        found.entry(region.tile).or_default().push(Access { at, pipe, region, writes, reads });
                    }
                };
                instr.src.iter().for_each(|operand| see(operand, false, true));
                instr.dst.iter().for_each(|operand| see(operand, true, instr.op.reads_destination()));
            }
            Stmt::For { body, .. } => collect(kernel, machine, body, at, found),
            Stmt::If { then, otherwise, .. } => {
                collect(kernel, machine, then, at, found);
                collect(kernel, machine, otherwise, at, found);
            }
        }
    }
}

/// Puts in copies and signals.
fn rewrite(body: Vec<Stmt>, chosen: &BTreeMap<Symbol, Vec<Group>>) -> Vec<Stmt> {
    let mut result = Vec::with_capacity(body.len());
    for stmt in body {
        match stmt {
            Stmt::For { var, end, step, body } => match chosen.get(&var) {
                Some(groups) => doubled(var, end, step, body, groups, &mut result),
                None => result.push(Stmt::For { var, end, step, body: rewrite(body, chosen) }),
            },
            Stmt::If { condition, then, otherwise } => {
                let (then, otherwise) = (rewrite(then, chosen), rewrite(otherwise, chosen));
                result.push(Stmt::If { condition, then, otherwise });
            }
            instr => result.push(instr),
        }
    }
    result
}

fn doubled(var: Symbol, end: Dim, step: i64, body: Vec<Stmt>, groups: &[Group], out: &mut Vec<Stmt>) {
    let slot = Dim::from(var.clone()).floor_div(&Dim::Const(step)).modulo(&Dim::from(SLOTS));
    let each = |set: bool, out: &mut Vec<Stmt>| {
        for group in groups {
            out.extend((0..SLOTS).map(|i| group.signal([1, 0], Dim::from(group.event + i), set)));
        }
    };
    let mut turn = Vec::with_capacity(body.len());
    for (at, mut stmt) in body.into_iter().enumerate() {
        let now = |group: &Group| Dim::from(group.event) + slot.clone();
        for group in groups {
            if group.writes[0] == at {
                turn.push(group.signal([1, 0], now(group), false));
            }
            if group.reads[0] == at {
                turn.push(group.signal([0, 1], now(group), false));
            }
        }
        use_slot(&mut stmt, groups, &slot);
        turn.push(stmt);
        for group in groups {
            if group.writes[1] == at {
                turn.push(group.signal([0, 1], now(group), true));
            }
            if group.reads[1] == at {
                turn.push(group.signal([1, 0], now(group), true));
            }
        }
    }
    each(true, out);
    out.push(Stmt::For { var, end, step, body: turn });
    each(false, out);
}

fn use_slot(stmt: &mut Stmt, groups: &[Group], slot: &Dim) {
    match stmt {
        Stmt::Instr(instr) => {
            for operand in instr.dst.iter_mut().chain(&mut instr.src) {
                if let Operand::Tile(region) = operand
                    && groups.iter().any(|group| group.tiles.contains(&region.tile))
                {
                    region.slot = slot.clone();
                }
            }
        }
        Stmt::For { body, .. } => body.iter_mut().for_each(|stmt| use_slot(stmt, groups, slot)),
        Stmt::If { then, otherwise, .. } => {
            then.iter_mut().chain(otherwise).for_each(|stmt| use_slot(stmt, groups, slot));
        }
    }
}
