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
//! A tile is doubled in the innermost loop that holds all accesses to it, if every turn writes it anew on one pipe, then reads it on
//! another, and what is read was written before in that turn; only if all tiles of the kernel still fit. The first and the last signals stand outside of all loops, and copies are
//! chosen by the number of turns since then, so that nothing is waited for where an inner loop begins again. Signals are paired
//! whatever the number of turns, zero included.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{Atom, Dim, Range, Symbol, Term};
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

/// Doubles tiles of loops and orders the accesses to them. The kernel is placed; so is the result. Gives how many tiles could not be
/// doubled, for want of memory or events. Tiles with several copies, and those that are `ordered` already, are left alone.
pub(crate) fn overlap(kernel: &mut Kernel, machine: &Machine, ordered: &BTreeSet<TileId>) -> usize {
    let mut everywhere = BTreeMap::new();
    count(&kernel.body, &mut everywhere);
    let mut loops = Vec::new();
    innermost_first(&kernel.body, &mut loops);
    let tiles = (0..kernel.tiles.len() as u32).map(TileId);
    let rings = |tile: &TileId| kernel.tiles[tile.0 as usize].slots > 1 || ordered.contains(tile);
    let mut taken: BTreeSet<TileId> = tiles.filter(rings).collect();
    let mut found: Vec<(Symbol, Group)> = Vec::new();
    let ranges = ranges(kernel);
    for (var, body) in loops {
        for group in groups(kernel, machine, body, &everywhere, &taken, &ranges) {
            taken.extend(group.tiles.iter().copied());
            found.push((var.clone(), group));
        }
    }
    let (mut chosen, mut left): (BTreeMap<Symbol, Vec<Group>>, usize) = (BTreeMap::new(), 0);
    let mut events = used_events(&kernel.body);
    for (var, mut group) in found {
        let [a, b] = &group.pipes;
        let next = events.entry(sorted(&group.pipes)).or_insert(FIRST_EVENT);
        let ids = machine.event_ids(a, b).min(machine.event_ids(b, a));
        let mut doubled = kernel.clone();
        group.tiles.iter().for_each(|tile| doubled.tiles[tile.0 as usize].slots = SLOTS);
        if *next + SLOTS <= ids && place(&mut doubled, machine).is_ok() {
            group.event = *next;
            *next += SLOTS;
            *kernel = doubled;
            chosen.entry(var).or_default().push(group);
        } else {
            left += group.tiles.len();
        }
    }
    let all: Vec<Group> = chosen.values().flatten().cloned().collect();
    let signals = |set: bool| {
        let each = |group: &Group| {
            let group = group.clone();
            (0..SLOTS).map(move |i| group.signal([1, 0], Dim::from(group.event + i), set))
        };
        all.iter().flat_map(each).collect::<Vec<_>>()
    };
    let mut body = signals(true);
    body.extend(rewrite(std::mem::take(&mut kernel.body), &chosen, &Dim::ZERO));
    body.extend(signals(false));
    kernel.body = body;
    left
}

/// The first event between two pipes that the kernel does not use yet.
pub(crate) fn used_events(body: &[Stmt]) -> BTreeMap<[String; 2], usize> {
    let mut used = BTreeMap::new();
    for stmt in body {
        let inner = match stmt {
            Stmt::Instr(Instr { op: Opcode::SetEvent { from, to, event }, .. }) => {
                let next = usize::try_from(event.range().high).unwrap_or(usize::MAX).saturating_add(1);
                BTreeMap::from([(sorted(&[from.clone(), to.clone()]), next)])
            }
            Stmt::Instr(_) => continue,
            Stmt::For { body, .. } => used_events(body),
            Stmt::If { then, otherwise, .. } => {
                let mut both = used_events(then);
                used_events(otherwise).into_iter().for_each(|(pipes, next)| {
                    let known = both.entry(pipes).or_insert(next);
                    *known = (*known).max(next);
                });
                both
            }
        };
        for (pipes, next) in inner {
            let known = used.entry(pipes).or_insert(next);
            *known = (*known).max(next);
        }
    }
    used
}

pub(crate) fn sorted(pipes: &[String; 2]) -> [String; 2] {
    let mut pipes = pipes.clone();
    pipes.sort_unstable();
    pipes
}

/// All loops, inner ones before those around them.
fn innermost_first<'k>(body: &'k [Stmt], found: &mut Vec<(&'k Symbol, &'k [Stmt])>) {
    for stmt in body {
        match stmt {
            Stmt::For { var, body, .. } => {
                innermost_first(body, found);
                found.push((var, body));
            }
            Stmt::If { then, otherwise, .. } => {
                innermost_first(then, found);
                innermost_first(otherwise, found);
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

fn groups(
    kernel: &Kernel,
    machine: &Machine,
    body: &[Stmt],
    everywhere: &BTreeMap<TileId, usize>,
    taken: &BTreeSet<TileId>,
    ranges: &BTreeMap<Symbol, Range>,
) -> Vec<Group> {
    let mut accesses: BTreeMap<TileId, Vec<Access>> = BTreeMap::new();
    for (at, stmt) in body.iter().enumerate() {
        collect(kernel, machine, std::slice::from_ref(stmt), at, &mut accesses);
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut tiles: Vec<(TileId, Group)> = accesses
        .iter()
        .filter(|(tile, accesses)| !taken.contains(tile) && everywhere.get(tile) == Some(&accesses.len()))
        .filter_map(|(&tile, accesses)| Some((tile, alone(tile, accesses, body, ranges)?)))
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

/// The group of one tile, if it can be doubled: nothing that is read was left there by an earlier turn.
fn alone(tile: TileId, accesses: &[Access], body: &[Stmt], ranges: &BTreeMap<Symbol, Range>) -> Option<Group> {
    let first = accesses.first()?;
    let written = written_first(accesses, body)?;
    let writer = first.pipe;
    let writes = || accesses.iter().filter(|access| access.writes);
    let reads = || accesses.iter().filter(|access| access.reads && !access.writes);
    let reader = reads().next()?.pipe;
    let separate =
        writes().all(|access| access.pipe == writer) && reads().all(|access| access.pipe == reader) && reader != writer;
    let inside = accesses.iter().all(|access| within(access.region, &written, ranges));
    if !first.writes || first.reads || !separate || !inside {
        return None;
    }
    let writes = [first.at, writes().next_back()?.at];
    let reads = [reads().next()?.at, reads().next_back()?.at];
    let pipes = [writer.to_owned(), reader.to_owned()];
    (writes[1] < reads[0]).then(|| Group { pipes, tiles: BTreeSet::from([tile]), writes, reads, event: 0 })
}

/// What the writes before all reads fill: the first one, and those that follow it one behind the other along an axis in every turn.
fn written_first(accesses: &[Access], body: &[Stmt]) -> Option<Region> {
    let mut written = accesses.first()?.region.clone();
    let always = |access: &&Access| access.writes && !access.reads && matches!(body[access.at], Stmt::Instr(_));
    for Access { region, .. } in accesses.iter().take_while(always).skip(1) {
        let behind = |axis: usize| {
            let same = |other: usize| {
                region.offset[other] == written.offset[other] && region.size[other] == written.size[other]
            };
            let end = written.offset[axis].clone() + written.size[axis].clone();
            region.offset[axis] == end && (0..written.size.len()).all(|other| other == axis || same(other))
        };
        if let Some(axis) = (0..written.size.len()).find(|&axis| behind(axis)) {
            written.size[axis] = written.size[axis].clone() + region.size[axis].clone();
        }
    }
    Some(written)
}

/// The values of variables whose bounds are numbers.
fn ranges(kernel: &Kernel) -> BTreeMap<Symbol, Range> {
    fn collect(body: &[Stmt], found: &mut BTreeMap<Symbol, Range>) {
        for stmt in body {
            match stmt {
                Stmt::For { var, end, step, body } => {
                    let known =
                        |symbol: &Symbol| found.get(symbol).copied().unwrap_or(Range { low: 0, high: i64::MAX });
                    let end = end.range_with(&known).high;
                    if end < i64::MAX {
                        let high = (end - 1).max(0) / step.max(&1) * step;
                        found.insert(var.clone(), Range { low: 0, high });
                    }
                    collect(body, found);
                }
                Stmt::If { then, otherwise, .. } => {
                    collect(then, found);
                    collect(otherwise, found);
                }
                Stmt::Instr(_) => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&kernel.body, &mut found);
    if let Some(lanes) = &kernel.lanes {
        found.insert(lanes.var.clone(), Range { low: 0, high: lanes.count as i64 - 1 });
    }
    found
}

/// Whether a part of a tile lies in another one for certain.
fn within(part: &Region, whole: &Region, ranges: &BTreeMap<Symbol, Range>) -> bool {
    let low = |dim: &Dim| {
        dim.range_with(&|symbol| ranges.get(symbol).copied().unwrap_or(Range { low: 0, high: i64::MAX })).low
    };
    let axes = part.offset.iter().zip(&part.size).zip(whole.offset.iter().zip(&whole.size));
    axes.into_iter().all(|((at, size), (start, length))| {
        let before = at.clone() - start.clone();
        let room = start.clone() + length.clone() - at.clone();
        (size == length && at == start) || low(&before) >= 0 && fits(size, &room, &low)
    })
}

/// Whether a size is at most `room` for certain: of a minimum one alternative suffices, and where nothing is left nothing is asked for.
fn fits(size: &Dim, room: &Dim, low: &dyn Fn(&Dim) -> i64) -> bool {
    if let Some(inner) = size.unless_negative() {
        return fits(&inner, room, low);
    }
    if size.at_most(room) || low(&(room.clone() - size.clone())) >= 0 {
        return true;
    }
    let minimum = |term: &Term| match (term.factors.as_slice(), term.coefficient) {
        ([atom @ Atom::Min(a, b)], 1) => Some((Dim::from(atom.clone()), a.clone(), b.clone())),
        _ => None,
    };
    if let Dim::Poly(poly) = size
        && let Some((minimum, a, b)) = poly.terms.iter().find_map(minimum)
    {
        let rest = size.clone() - minimum;
        return fits(&(rest.clone() + a), room, low) || fits(&(rest + b), room, low);
    }
    false
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

/// Puts in copies and signals. `turns` counts the turns of the loops around.
fn rewrite(body: Vec<Stmt>, chosen: &BTreeMap<Symbol, Vec<Group>>, turns: &Dim) -> Vec<Stmt> {
    let mut result = Vec::with_capacity(body.len());
    for stmt in body {
        match stmt {
            Stmt::For { var, end, step, body } => {
                let turn = Dim::from(var.clone()).floor_div(&Dim::Const(step));
                // Only whether the number is even counts; turns that are not known to be even or odd begin anew.
                let odd = end.ceil_div(&Dim::Const(step)).as_const().is_some_and(|trips| trips % 2 == 1);
                let turns = if odd { turns.clone() + turn } else { turn };
                let body = match chosen.get(&var) {
                    Some(groups) => doubled(rewrite(body, chosen, &turns), groups, &turns),
                    None => rewrite(body, chosen, &turns),
                };
                result.push(Stmt::For { var, end, step, body });
            }
            Stmt::If { condition, then, otherwise } => {
                let (then, otherwise) = (rewrite(then, chosen, turns), rewrite(otherwise, chosen, turns));
                result.push(Stmt::If { condition, then, otherwise });
            }
            instr => result.push(instr),
        }
    }
    result
}

/// A loop's body with the signals of its groups. Its statements are those that groups were found in, one for one.
fn doubled(body: Vec<Stmt>, groups: &[Group], turns: &Dim) -> Vec<Stmt> {
    let slot = turns.modulo(&Dim::from(SLOTS));
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
    turn
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
