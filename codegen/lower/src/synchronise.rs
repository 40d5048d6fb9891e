//! Synchronisation: events between pipes wherever one needs what another has done, or must not disturb it.
//!
//! The kernel is walked in program order with what each pipe may still be doing. Before an instruction that meets an access which its
//! pipe is not ordered after, the pipe of that access signals and its own waits: `set A→B; wait A→B`, side by side, so that they are
//! paired in every path through the kernel. A loop begins in a state that holds in every turn.
//!
//! A flag must not be set again before its waiter has taken it. Where A is not known to come after B's last wait, another event is taken,
//! or B signals A first; where that is not possible either, a barrier holds all pipes of the core. Cores are ordered by signals alone,
//! if need be by way of other pipes. Event 0 of each pair is used here, and those that double buffering (`overlap`) leaves.

use std::collections::{BTreeMap, BTreeSet};

use crate::overlap::{sorted, used_events};
use tarsia_tensor::Dim;
use tarsia_tile::{Instr, Kernel, Machine, Opcode, Operand, Region, Stmt, TileId};

/// Rounds after which what holds at the beginning of a loop only grows.
const ROUNDS: usize = 6;

/// Orders the accesses of all pipes of the kernel's core, but for those to tiles that are `ordered` already.
///
/// # Errors
/// If an instruction runs on no pipe, or a tile has no address.
pub(crate) fn synchronise(kernel: &mut Kernel, machine: &Machine, ordered: &BTreeSet<TileId>) -> Result<(), String> {
    let mut pipes: Vec<&str> = machine.cores.iter().flat_map(|core| core.pipes.iter().map(String::as_str)).collect();
    pipes.sort_unstable();
    pipes.dedup();
    if pipes.len() < 2 || pipes.len() > 64 {
        return Ok(());
    }
    let body = std::mem::take(&mut kernel.body);
    // Events that no ring and no double buffer has.
    let used = used_events(&body);
    let mut ids = BTreeMap::new();
    for (a, b) in (0..pipes.len()).flat_map(|a| (0..pipes.len()).map(move |b| (a, b))) {
        let next = used.get(&sorted(&[pipes[a].to_owned(), pipes[b].to_owned()])).copied().unwrap_or(1);
        let count = machine.event_ids(pipes[a], pipes[b]);
        ids.insert((a, b), (0..1).chain(next.max(1)..count).filter(|&id| id < count).collect());
    }
    let kinds: Vec<_> = pipes.iter().map(|pipe| machine.kind_of(pipe).map(|kind| &kind.name)).collect();
    let mask = |kind| (0..pipes.len()).filter(|&b| kinds[b] == kind).fold(0u64, |mask, b| mask | 1 << b);
    let together = kinds.iter().map(|&kind| mask(kind)).collect();
    let result = Pass { kernel, machine, ordered, pipes, ids, together }.block(&body, &mut State::default());
    kernel.body = result?;
    Ok(())
}

/// Bytes of a space, or a parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Tile { space: String, start: usize, end: usize, tile: TileId },
    Param(u32),
}

impl Place {
    fn meets(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Param(a), Place::Param(b)) => a == b,
            (Place::Tile { space, start, end, .. }, Place::Tile { space: s, start: from, end: to, .. }) => {
                space == s && start < to && from < end
            }
            _ => false,
        }
    }
}

/// An access: where, by which pipe, whether it writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Touch {
    place: Place,
    pipe: usize,
    write: bool,
}

impl Touch {
    fn meets(&self, other: &Touch) -> bool {
        self.pipe != other.pipe && (self.write || other.write) && self.place.meets(&other.place)
    }
}

/// What is known at one point of the program.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// The latest accesses, each with the pipes that come after it, as bits.
    touched: BTreeMap<Touch, u64>,
    /// Events (from, to, number) that `from` may set too early: it may not come after the last wait.
    pending: BTreeSet<(usize, usize, usize)>,
    /// What was known to the signalling pipe at the signals that no wait has taken yet.
    signals: Vec<((usize, usize, Dim), BTreeSet<Touch>)>,
}

impl State {
    /// Everything that `from` has done or comes after, `to` comes after.
    fn learn(&mut self, from: usize, to: usize) {
        for (touch, seen) in &mut self.touched {
            if touch.pipe == from || *seen >> from & 1 == 1 {
                *seen |= 1 << to;
            }
        }
        // Waits of `from` lie behind it too.
        self.pending.retain(|&(set, waited, _)| (set, waited) != (to, from));
    }

    /// What holds whichever way this point was reached.
    fn join(&mut self, other: &State) {
        for (touch, seen) in &other.touched {
            self.touched.entry(touch.clone()).and_modify(|known| *known &= seen).or_insert(*seen);
        }
        self.pending.extend(other.pending.iter().copied());
        self.signals.clear();
    }
}

struct Pass<'k, 'm> {
    kernel: &'k Kernel,
    machine: &'m Machine,
    ordered: &'k BTreeSet<TileId>,
    pipes: Vec<&'m str>,
    /// The events that are free for each pair of pipes.
    ids: BTreeMap<(usize, usize), Vec<usize>>,
    /// By pipe: the pipes of the same core, itself included, as bits.
    together: Vec<u64>,
}

impl Pass<'_, '_> {
    fn block(&self, body: &[Stmt], state: &mut State) -> Result<Vec<Stmt>, String> {
        let mut result = Vec::with_capacity(body.len());
        for stmt in body {
            match stmt {
                Stmt::Instr(instr) => self.instr(instr, state, &mut result)?,
                Stmt::If { condition, then, otherwise } => {
                    let mut other = state.clone();
                    let then = self.block(then, state)?;
                    let otherwise = self.block(otherwise, &mut other)?;
                    state.join(&other);
                    result.push(Stmt::If { condition: condition.clone(), then, otherwise });
                }
                Stmt::For { var, end, step, body } => {
                    // What came before the loop is waited for once, not in every turn.
                    let mut inside = BTreeSet::new();
                    self.touches(body, &mut inside)?;
                    inside.iter().try_for_each(|touch| self.order(touch, state, &mut result))?;
                    let body = self.turns(body, state)?;
                    result.push(Stmt::For { var: var.clone(), end: end.clone(), step: *step, body });
                }
            }
        }
        Ok(result)
    }

    /// A loop's body, for a state that holds at the beginning of every turn.
    fn turns(&self, body: &[Stmt], state: &mut State) -> Result<Vec<Stmt>, String> {
        state.signals.clear();
        let before = state.clone();
        for round in 0.. {
            let mut turn = state.clone();
            let result = self.block(body, &mut turn)?;
            // Which signals are given depends on what holds, so what was assumed in earlier rounds is kept only if this does not settle.
            let mut again = if round < ROUNDS { before.clone() } else { state.clone() };
            again.join(&turn);
            if again == *state {
                state.join(&turn);
                return Ok(result);
            }
            *state = again;
        }
        Err("a loop has no order that holds in every turn".into())
    }

    /// Whether both accesses are to one tile whose own signals order them.
    fn has_signals(&self, touch: &Touch, other: &Touch) -> bool {
        match (&touch.place, &other.place) {
            (Place::Tile { tile, .. }, Place::Tile { tile: same, .. }) => {
                tile == same && (self.kernel.tiles[tile.0 as usize].slots > 1 || self.ordered.contains(tile))
            }
            _ => false,
        }
    }

    fn instr(&self, instr: &Instr, state: &mut State, out: &mut Vec<Stmt>) -> Result<(), String> {
        match &instr.op {
            Opcode::SetEvent { from, to, event } => {
                let (from, to) = (self.pipe(from)?, self.pipe(to)?);
                let known = |(touch, seen): (&Touch, &u64)| touch.pipe == from || seen >> from & 1 == 1;
                let touches =
                    state.touched.iter().filter(|(t, s)| known((t, s))).map(|(touch, _)| touch.clone()).collect();
                state.signals.push(((from, to, event.clone()), touches));
            }
            Opcode::WaitEvent { from, to, event } => self.wait(self.pipe(from)?, self.pipe(to)?, event, state),
            Opcode::Barrier { .. } => self.barrier(state),
            _ => {
                let pipe = self.pipe(self.machine.pipe_of(self.kernel, instr)?)?;
                let mut touches = BTreeSet::new();
                self.accesses(instr, pipe, &mut touches)?;
                touches.iter().try_for_each(|touch| self.order(touch, state, out))?;
                state.touched.extend(touches.into_iter().map(|touch| (touch, 0)));
                if instr.dst.iter().any(|operand| matches!(operand, Operand::Scalar(..))) {
                    // Nothing is issued before the scalar is there.
                    (0..self.pipes.len()).filter(|&other| other != pipe).for_each(|other| state.learn(pipe, other));
                }
            }
        }
        out.push(Stmt::Instr(instr.clone()));
        Ok(())
    }

    /// A wait that `overlap` put in.
    fn wait(&self, from: usize, to: usize, event: &Dim, state: &mut State) {
        let key = (from, to, event.clone());
        if let Some(at) = state.signals.iter().rposition(|(signal, _)| *signal == key) {
            let (_, known) = state.signals.remove(at);
            for (touch, seen) in &mut state.touched {
                *seen |= u64::from(known.contains(touch)) << to;
            }
        }
    }

    /// Orders an access after all that it meets.
    fn order(&self, touch: &Touch, state: &mut State, out: &mut Vec<Stmt>) -> Result<(), String> {
        let open = |state: &State| {
            let unseen = |(other, seen): &(&Touch, &u64)| {
                touch.meets(other) && *seen >> touch.pipe & 1 == 0 && !self.has_signals(touch, other)
            };
            state.touched.iter().find(unseen).map(|(other, _)| other.pipe)
        };
        while let Some(other) = open(state) {
            self.sync(other, touch.pipe, state, out)?;
        }
        Ok(())
    }

    /// Makes `to` wait for all that `from` has been given.
    fn sync(&self, from: usize, to: usize, state: &mut State, out: &mut Vec<Stmt>) -> Result<(), String> {
        let free = |state: &State, a: usize, b: usize| {
            self.ids[&(a, b)].iter().copied().find(|&id| !state.pending.contains(&(a, b, id)))
        };
        let first = self.ids[&(from, to)].first().copied();
        if let Some(id) = first.filter(|&id| !state.pending.contains(&(from, to, id))) {
            self.signal((from, to, id), state, out);
            return Ok(());
        }
        // The answer makes all events free again.
        if let (Some(back), Some(id)) = (free(state, to, from), first) {
            self.signal((to, from, back), state, out);
            self.signal((from, to, id), state, out);
            return Ok(());
        }
        if let Some(id) = free(state, from, to) {
            self.signal((from, to, id), state, out);
            return Ok(());
        }
        if self.together[from] >> to & 1 == 1 {
            self.barrier(state);
            out.push(Stmt::Instr(Instr { op: Opcode::Barrier { pipe: None }, dst: Vec::new(), src: Vec::new() }));
            return Ok(());
        }
        // Pipes of different cores that cannot signal each other now: by way of others.
        let no_way = || format!("nothing orders pipe `{}` after pipe `{}`", self.pipes[to], self.pipes[from]);
        let way = self.way(from, to, state).ok_or_else(no_way)?;
        way.windows(2).try_for_each(|hop| self.sync(hop[0], hop[1], state, out))
    }

    /// The shortest chain of pipes, each of which can signal the next, other than the direct one.
    fn way(&self, from: usize, to: usize, state: &State) -> Option<Vec<usize>> {
        let ready = |a: usize, b: usize| {
            let free = self.ids[&(a, b)].iter().any(|&id| !state.pending.contains(&(a, b, id)));
            (a, b) != (from, to) && (free || self.together[a] >> b & 1 == 1)
        };
        let mut ways = std::collections::VecDeque::from([vec![from]]);
        let mut seen = BTreeSet::from([from]);
        while let Some(way) = ways.pop_front() {
            let last = *way.last()?;
            for next in (0..self.pipes.len()).filter(|&next| next != last && ready(last, next)) {
                let longer: Vec<usize> = way.iter().copied().chain([next]).collect();
                if next == to {
                    return Some(longer);
                }
                if seen.insert(next) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    fn signal(&self, (from, to, id): (usize, usize, usize), state: &mut State, out: &mut Vec<Stmt>) {
        let name = |pipe: usize| self.pipes[pipe].to_owned();
        let set = Opcode::SetEvent { from: name(from), to: name(to), event: Dim::from(id) };
        let wait = Opcode::WaitEvent { from: name(from), to: name(to), event: Dim::from(id) };
        out.extend([set, wait].map(|op| Stmt::Instr(Instr { op, dst: Vec::new(), src: Vec::new() })));
        state.learn(from, to);
        state.pending.insert((from, to, id));
    }

    /// A barrier holds the pipes of every core until they are idle, but no core waits for another.
    fn barrier(&self, state: &mut State) {
        for (touch, seen) in &mut state.touched {
            // What a pipe of this core comes after, all of its pipes come after.
            *seen |= self.together[touch.pipe];
            *seen = self.together.iter().filter(|&&mask| *seen & mask != 0).fold(*seen, |all, mask| all | mask);
        }
        state.pending.retain(|&(from, to, _)| self.together[from] >> to & 1 == 0);
    }

    fn pipe(&self, name: &str) -> Result<usize, String> {
        self.pipes.iter().position(|pipe| *pipe == name).ok_or_else(|| format!("there is no pipe `{name}`"))
    }

    fn touches(&self, body: &[Stmt], found: &mut BTreeSet<Touch>) -> Result<(), String> {
        for stmt in body {
            match stmt {
                Stmt::Instr(Instr {
                    op: Opcode::SetEvent { .. } | Opcode::WaitEvent { .. } | Opcode::Barrier { .. },
                    ..
                }) => {}
                Stmt::Instr(instr) => {
                    let pipe = self.pipe(self.machine.pipe_of(self.kernel, instr)?)?;
                    self.accesses(instr, pipe, found)?;
                }
                Stmt::For { body, .. } => self.touches(body, found)?,
                Stmt::If { then, otherwise, .. } => {
                    self.touches(then, found)?;
                    self.touches(otherwise, found)?;
                }
            }
        }
        Ok(())
    }

    fn accesses(&self, instr: &Instr, pipe: usize, found: &mut BTreeSet<Touch>) -> Result<(), String> {
        for (operands, write) in [(&instr.src, false), (&instr.dst, true)] {
            for operand in operands {
                if let Some(place) = self.place(operand)? {
                    if write && instr.op.reads_destination() {
                        found.insert(Touch { place: place.clone(), pipe, write: false });
                    }
                    found.insert(Touch { place, pipe, write });
                }
            }
        }
        Ok(())
    }

    fn place(&self, operand: &Operand) -> Result<Option<Place>, String> {
        match operand {
            Operand::Global(view) => Ok(Some(Place::Param(self.kernel.memory_of(view.param).0))),
            Operand::Tile(Region { tile, .. }) => {
                let id = *tile;
                let tile = &self.kernel.tiles[id.0 as usize];
                let bytes = tile.layout.elements(&tile.shape).and_then(|n| tile.dtype.bytes_of(n));
                let bytes = bytes.and_then(|bytes| bytes.checked_mul(tile.slots));
                let (Some(start), Some(bytes)) = (tile.address, bytes) else {
                    return Err(format!("the tile `{}` has no address", tile.name));
                };
                let space = tile.space.clone();
                Ok(Some(Place::Tile { space, start, end: start.saturating_add(bytes), tile: id }))
            }
            _ => Ok(None),
        }
    }
}
