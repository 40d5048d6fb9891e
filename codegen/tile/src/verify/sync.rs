//! Synchronisation: every dependence between pipes is ordered by events, every signal is taken exactly once.
//!
//! Pipes of a core are in-order queues that run concurrently; a work item begins with all of them idle. `set_event` signals
//! when everything before it on its pipe is done; `wait_event` holds what follows on its pipe and takes the signal: a flag is set
//! again only by a pipe that comes after that. A barrier, and an instruction
//! that defines a scalar, hold everything that follows.
//!
//! The kernel is walked as the core would issue it, with vector clocks per pipe, for several sample values of the program's
//! symbols and scalars. Long loops are walked at their beginning and at their end; what is left out is a multiple of the
//! period of all slots and events.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{Dim, Symbol};

use super::{Report, kernel::tile_bytes};
use crate::{Instr, Kernel, Machine, Opcode, Operand, Stmt, Tile, text::Anchor};

/// Values of symbols and scalars that are tried.
const SAMPLES: [i64; 6] = [0, 1, 2, 3, 65, 1000];
/// Statements walked for one sample.
const STATEMENTS: usize = 200_000;

/// Checks the order of accesses.
pub(super) fn synchronised(kernel: &Kernel, machine: &Machine, report: &mut Report) {
    let mut pipes: Vec<&str> = machine.cores.iter().flat_map(|core| core.pipes.iter().map(String::as_str)).collect();
    pipes.sort_unstable();
    pipes.dedup();
    let mut found = BTreeSet::new();
    for sample in SAMPLES {
        let mut walk = Walk::new(kernel, machine, &pipes, sample, report.path.clone());
        walk.path.push(crate::text::part::BODY);
        walk.block(&kernel.body);
        walk.path.pop();
        walk.leftovers();
        found.extend(walk.faults);
    }
    for (anchor, message) in found {
        if report.faults.len() < super::MOST {
            report.faults.push((anchor, message));
        }
    }
}

type Clock = Vec<u64>;

/// Bytes (or elements of a parameter) that an instruction touched.
#[derive(Clone, Debug)]
struct Touch {
    place: Place,
    write: bool,
    pipe: usize,
    /// The clock of its pipe when it was issued.
    time: u64,
    anchor: Anchor,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// Byte range of a space, and the box in the tile where it is known.
    Tile { space: String, start: usize, end: usize, region: Option<(u32, usize, Vec<(i64, i64)>)> },
    /// A parameter.
    Param(u32),
}

impl Place {
    fn meets(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Param(a), Place::Param(b)) => a == b,
            (Place::Tile { space, start, end, region }, Place::Tile { space: s, start: from, end: to, region: r }) => {
                let apart = match (region, r) {
                    (Some((tile, slot, a)), Some((other, at, b))) if tile == other && slot == at => {
                        a.iter().zip(b).any(|(&(x, n), &(y, m))| {
                            n <= 0 || m <= 0 || x.saturating_add(n) <= y || y.saturating_add(m) <= x
                        })
                    }
                    _ => false,
                };
                space == s && start < to && from < end && !apart
            }
            _ => false,
        }
    }
}

struct Walk<'k> {
    kernel: &'k Kernel,
    machine: &'k Machine,
    pipes: &'k [&'k str],
    values: BTreeMap<Symbol, i64>,
    sample: i64,
    path: Anchor,
    clocks: Vec<Clock>,
    /// Signals not taken yet: pipes and number, with the clock at the signal.
    events: BTreeMap<(usize, usize, i64), (Clock, Anchor)>,
    /// The waiting pipe's clock at the last wait for an event: a flag is set again only after that.
    waits: BTreeMap<(usize, usize, i64), u64>,
    touched: Vec<Touch>,
    faults: BTreeSet<(Anchor, String)>,
    left: usize,
    period: i64,
}

impl<'k> Walk<'k> {
    fn new(kernel: &'k Kernel, machine: &'k Machine, pipes: &'k [&'k str], sample: i64, path: Anchor) -> Walk<'k> {
        // Slots and event numbers repeat with the numbers of slots and events.
        let slots = kernel
            .tiles
            .iter()
            .map(|tile| tile.slots as i64)
            .chain(machine.events.iter().map(|events| events.ids as i64));
        let period = slots.filter(|&n| (2..=8).contains(&n)).fold(1, lcm).min(24);
        Walk {
            kernel,
            machine,
            pipes,
            values: BTreeMap::new(),
            sample,
            path,
            clocks: vec![vec![0; pipes.len()]; pipes.len()],
            events: BTreeMap::new(),
            waits: BTreeMap::new(),
            touched: Vec::new(),
            faults: BTreeSet::new(),
            left: STATEMENTS,
            period,
        }
    }

    fn fault(&mut self, message: String) {
        self.faults.insert((self.path.clone(), message));
    }

    fn value(&self, dim: &Dim) -> Option<i64> {
        dim.eval(&|symbol| Some(self.values.get(symbol).copied().unwrap_or_else(|| self.grid_or_sample(symbol)))).ok()
    }

    fn grid_or_sample(&self, symbol: &Symbol) -> i64 {
        if self.kernel.grid.iter().any(|(var, _)| var == symbol) { 0 } else { self.sample }
    }

    fn block(&mut self, body: &[Stmt]) {
        for (at, stmt) in body.iter().enumerate() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            if self.left == 0 {
                return self.fault("the kernel is too long for its synchronisation to be checked".into());
            }
            self.path.push(at as u32);
            self.stmt(stmt);
            self.path.pop();
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Instr(instr) => self.instr(instr),
            Stmt::If { condition, then, otherwise } => {
                let taken = self.value(condition).is_some_and(|value| value > 0);
                self.path.push(u32::from(!taken));
                self.block(if taken { then } else { otherwise });
                self.path.pop();
            }
            Stmt::For { var, end, step, body } => {
                let end = self.value(end).unwrap_or(0).max(0);
                let count = end.checked_add(step - 1).unwrap_or(end) / (*step).max(1);
                self.path.push(0);
                let mut iteration = 0;
                while iteration < count {
                    self.values.insert(var.clone(), iteration.saturating_mul(*step));
                    self.block(body);
                    iteration += 1;
                    // The beginning, then the end, in step with the period.
                    let rest = count - iteration - (self.period + 1);
                    if iteration == self.period + 1 && rest > 0 {
                        iteration += rest / self.period * self.period;
                    }
                }
                self.values.remove(var);
                self.path.pop();
            }
        }
    }

    fn instr(&mut self, instr: &Instr) {
        match &instr.op {
            Opcode::SetEvent { from, to, event } => self.event(from, to, event, true),
            Opcode::WaitEvent { from, to, event } => self.event(from, to, event, false),
            Opcode::Barrier { pipe } => match pipe.as_deref().map(|name| (name, self.pipe(name))) {
                None => (0..self.pipes.len()).for_each(|pipe| self.hold(pipe)),
                Some((_, Some(pipe))) => self.hold(pipe),
                Some((name, None)) => self.fault(format!("there is no pipe `{name}`")),
            },
            _ => self.work(instr),
        }
    }

    fn pipe(&self, name: &str) -> Option<usize> {
        self.pipes.iter().position(|pipe| *pipe == name)
    }

    /// Everything that follows comes after what the pipe has been given so far.
    fn hold(&mut self, pipe: usize) {
        let seen = self.clocks[pipe].clone();
        self.clocks.iter_mut().for_each(|clock| join(clock, &seen));
    }

    fn event(&mut self, from: &str, to: &str, event: &Dim, set: bool) {
        let (Some(a), Some(b)) = (self.pipe(from), self.pipe(to)) else {
            return self.fault(format!("there is no pipe `{from}` or no pipe `{to}`"));
        };
        let ids = self.machine.event_ids(from, to);
        let Some(id) = self.value(event).filter(|&id| (0..ids as i64).contains(&id)) else {
            let found = self.value(event).map_or_else(|| event.to_string(), |id| id.to_string());
            return self.fault(format!("event {found} from `{from}` to `{to}`: there are {ids}, from 0"));
        };
        if set {
            if self.waits.get(&(a, b, id)).is_some_and(|&wait| self.clocks[a][b] < wait) {
                self.fault(format!(
                    "event {id} from `{from}` to `{to}` may be set again before `{to}` has taken it: nothing orders them"
                ));
            }
            let signal = (self.clocks[a].clone(), self.path.clone());
            if self.events.insert((a, b, id), signal).is_some() {
                self.fault(format!("event {id} from `{from}` to `{to}` is set again before it is waited for"));
            }
        } else {
            match self.events.remove(&(a, b, id)) {
                Some((clock, _)) => {
                    self.clocks[b][b] += 1;
                    self.waits.insert((a, b, id), self.clocks[b][b]);
                    join(&mut self.clocks[b], &clock);
                }
                None => self.fault(format!("event {id} from `{from}` to `{to}` is waited for, but not set")),
            }
        }
    }

    fn leftovers(&mut self) {
        if self.left == 0 {
            return;
        }
        for ((from, to, id), (_, anchor)) in std::mem::take(&mut self.events) {
            let (from, to) = (self.pipes[from], self.pipes[to]);
            self.faults.insert((anchor, format!("event {id} from `{from}` to `{to}` is set, but never waited for")));
        }
    }

    fn work(&mut self, instr: &Instr) {
        let Ok(pipe) = self.machine.pipe_of(self.kernel, instr) else { return };
        let Some(pipe) = self.pipe(pipe) else { return };
        self.clocks[pipe][pipe] += 1;
        let reads_destination = instr.op.reads_destination();
        let sources = instr.src.iter().map(|operand| (operand, false));
        let destinations = instr.dst.iter().flat_map(|operand| {
            let read = reads_destination.then_some((operand, false));
            read.into_iter().chain([(operand, true)])
        });
        let touches: Vec<(Place, bool)> =
            sources.chain(destinations).filter_map(|(operand, write)| Some((self.place(operand)?, write))).collect();
        for (place, write) in touches {
            self.touch(place, write, pipe);
        }
        for operand in &instr.dst {
            if let Operand::Scalar(symbol, bound) = operand {
                let value = self.value(bound).unwrap_or(0).min(self.sample).max(0);
                self.values.insert(symbol.clone(), value);
                self.hold(pipe);
            }
        }
    }

    fn place(&self, operand: &Operand) -> Option<Place> {
        match operand {
            Operand::Global(view) => Some(Place::Param(self.kernel.memory_of(view.param).0)),
            Operand::Tile(region) => {
                let tile = self.kernel.tiles.get(region.tile.0 as usize)?;
                let slot = self.value(&region.slot).and_then(|slot| usize::try_from(slot).ok());
                let axes = region
                    .offset
                    .iter()
                    .zip(&region.size)
                    .map(|(offset, size)| Some((self.value(offset)?, self.value(size)?)));
                let axes: Option<Vec<(i64, i64)>> = axes.collect();
                let (start, end) = bytes_of(tile, slot)?;
                let region = slot.zip(axes).map(|(slot, axes)| (region.tile.0, slot, axes));
                Some(Place::Tile { space: tile.space.clone(), start, end, region })
            }
            _ => None,
        }
    }

    fn touch(&mut self, place: Place, write: bool, pipe: usize) {
        let now = self.clocks[pipe].clone();
        let mut races = Vec::new();
        for before in &self.touched {
            let ordered = before.pipe == pipe || now[before.pipe] >= before.time;
            if !ordered && (write || before.write) && before.place.meets(&place) {
                races.push((before.anchor.clone(), before.write, before.pipe));
            }
        }
        for (_, wrote, other) in races {
            let what = match &place {
                Place::Param(param) => format!("`{}`", self.kernel.params[*param as usize].name),
                Place::Tile { space, start, end, .. } => format!("bytes {start}..{end} of `{space}`"),
            };
            let (verb, did) = (if write { "writes" } else { "reads" }, if wrote { "writes" } else { "reads" });
            let (here, there) = (self.pipes[pipe], self.pipes[other]);
            self.fault(format!(
                "race: pipe `{here}` {verb} {what}, which pipe `{there}` {did} earlier, and no event orders them"
            ));
        }
        // What every pipe is ordered after cannot race with anything any more; nor can what this access stands for.
        let clocks = &self.clocks;
        self.touched.retain(|touch| {
            let done = clocks.iter().enumerate().all(|(p, clock)| p == touch.pipe || clock[touch.pipe] >= touch.time);
            let replaced = touch.pipe == pipe && touch.write == write && touch.place == place;
            !done && !replaced
        });
        self.touched.push(Touch { place, write, pipe, time: now[pipe], anchor: self.path.clone() });
    }
}

/// The bytes of one slot, or of all if it is not known.
fn bytes_of(tile: &Tile, slot: Option<usize>) -> Option<(usize, usize)> {
    let (address, bytes) = (tile.address?, tile_bytes(tile)?);
    match slot.filter(|&slot| slot < tile.slots) {
        Some(slot) => {
            Some((address.checked_add(slot.checked_mul(bytes)?)?, address.checked_add((slot + 1).checked_mul(bytes)?)?))
        }
        None => Some((address, address.checked_add(tile.slots.checked_mul(bytes)?)?)),
    }
}

fn join(clock: &mut Clock, other: &Clock) {
    clock.iter_mut().zip(other).for_each(|(a, b)| *a = (*a).max(*b));
}

fn lcm(a: i64, b: i64) -> i64 {
    let gcd = |mut x: i64, mut y: i64| {
        while y != 0 {
            (x, y) = (y, x % y);
        }
        x
    };
    a / gcd(a, b) * b
}
