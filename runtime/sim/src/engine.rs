//! The clock: cores issue in order, pipes run side by side, events order them, memories are shared.
//!
//! ```text
//! stream (a core) ─ issues ─► queue of a pipe ─► running ─► done
//!    in order, waits for        in order, waits for     fixed part (start-up, latency),
//!    full queues, barriers,     its events              then work: at its own rate, or a
//!    scalars, ends of items                             transfer that shares memories
//! ```
//!
//! Streams stand for one core each or, where cores are equal, for `weight` of them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use rustc_hash::FxHashMap;

use crate::{
    SimError,
    cache::{Cache, Memory, Traffic},
    code::Code,
    price::{LINE, PriceId, Prices},
    share::{Address, CACHE, Demand, MEMORY, Share},
    walk::{Cursor, Issue, Issued},
};

/// Instructions that a queue holds where the machine does not say.
const QUEUE: usize = 1024;
/// Instructions that one launch may issue.
const MOST: u64 = 2_000_000_000;

/// What costs nothing in a what-if.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Free {
    pub pipe: Option<usize>,
    pub memory: bool,
    pub cache: bool,
    /// Events, heads of instructions and the time of issue.
    pub latency: bool,
}

/// Where the bytes of accesses are.
pub(crate) enum Source<'a> {
    /// In no cache.
    Memory,
    /// Asked when they are moved.
    Cache(&'a mut Cache),
    /// Known beforehand: by role, by number of the access in its stream.
    Known(&'a [Vec<Known>]),
}

/// An access of equal cores on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// Of each byte moved, how many are fetched and written back.
    pub fetched: f64,
    pub written_back: f64,
    /// How many cores read the same place then.
    pub readers: f64,
}

/// What is simulated.
pub(crate) struct Setup<'a> {
    pub code: &'a Code<'a>,
    /// Groups of cores, and how many equal ones each stands for.
    pub groups: &'a [(usize, f64)],
    /// How many groups share the items.
    pub all_groups: usize,
    /// Of every parameter.
    pub memories: &'a [Memory],
    pub free: Free,
    /// What is read does not come into the cache.
    pub past_cache: bool,
    /// How many spans of the timeline to keep.
    pub spans: usize,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub cycles: f64,
    pub pipes: Vec<PipeOutcome>,
    /// Of all cores.
    pub traffic: Traffic,
    pub local: f64,
    /// By path of the machine.
    pub paths: Vec<f64>,
    pub matrix_flops: f64,
    pub vector_flops: f64,
    /// Cycles of matrix and vector work of all cores.
    pub spans: Vec<Span>,
    pub spans_left_out: u64,
    pub instructions: f64,
}

/// A pipe of a simulated core.
#[derive(Debug, Default)]
pub(crate) struct PipeOutcome {
    /// Index among [`Code::pipes`].
    pub kind: usize,
    pub group: usize,
    pub lane: usize,
    pub weight: f64,
    pub busy: f64,
    pub waiting: f64,
}

/// An instruction on the timeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub pipe: u32,
    pub work: u32,
    pub start: f64,
    pub end: f64,
}

/// Runs a launch to its end.
///
/// # Errors
/// If it gets stuck, or an instruction has no cost.
pub(crate) fn run(setup: &Setup<'_>, prices: &mut Prices, source: Source<'_>) -> Result<Outcome, SimError> {
    let mut engine = Engine::new(setup, prices, source);
    engine.agenda.extend((0..engine.streams.len()).map(Poke::Stream));
    engine.run()?;
    Ok(engine.outcome())
}

#[derive(Clone, Copy, Debug)]
enum Poke {
    Stream(usize),
    Pipe(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Ready,
    /// The queue of a pipe is full.
    Full(usize),
    /// Waits for all of its pipes.
    Drain,
    /// Waits for a pipe, whose last instruction gives a scalar.
    Scalar(usize),
    ItemEnd,
    Done,
}

struct Stream {
    cursor: Cursor,
    state: State,
    pending: Option<Issue>,
    group: usize,
    /// The earliest time of the next issue.
    time: f64,
    /// Its pipes.
    pipes: std::ops::Range<usize>,
    issue_cycles: f64,
    queue: usize,
    weight: f64,
    role: usize,
}

#[derive(Debug)]
enum Entry {
    Work(Issued),
    /// The numbers of the flags.
    Set(Vec<usize>),
    Wait(Vec<usize>),
    Barrier,
}

struct Running {
    issued: Issued,
    start: f64,
    transfer: bool,
}

struct Pipe {
    kind: usize,
    stream: usize,
    lane: usize,
    queue: VecDeque<(f64, Entry)>,
    running: Option<Running>,
    /// When the last instruction ended, and its price.
    last_end: f64,
    last: Option<PriceId>,
    /// What follows finds the pipe empty.
    drained: bool,
    /// Since when its front waits for an event.
    blocked: Option<f64>,
    busy: f64,
    waiting: f64,
}

#[derive(Default)]
struct Flag {
    /// When the signals that nobody has taken are seen.
    signals: VecDeque<f64>,
    waiter: Option<usize>,
}

/// A pipe may go on (a start-up is over, or it can look at its queue again).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    /// The bits of a non-negative float are in the order of its values.
    time: u64,
    number: u64,
    pipe: usize,
    wake: bool,
}

struct Engine<'e, 's> {
    setup: &'e Setup<'s>,
    prices: &'e mut Prices,
    source: Source<'e>,
    streams: Vec<Stream>,
    pipes: Vec<Pipe>,
    flags: Vec<Flag>,
    /// By stream and pipe at both ends, and number.
    flag_numbers: FxHashMap<(usize, usize, i64), usize>,
    event_cycles: FxHashMap<(usize, usize), f64>,
    timers: BinaryHeap<Reverse<Timer>>,
    share: Share,
    agenda: Vec<Poke>,
    now: f64,
    numbers: u64,
    out: Outcome,
    issues: u64,
}

impl<'e, 's> Engine<'e, 's> {
    fn new(setup: &'e Setup<'s>, prices: &'e mut Prices, source: Source<'e>) -> Engine<'e, 's> {
        let (code, free) = (setup.code, setup.free);
        let space = code.machine.space(tarsia_tile::machine::GLOBAL);
        let cache = space.and_then(|space| space.cache.as_ref());
        let rate = |free: bool, rate: Option<f64>| if free { f64::INFINITY } else { rate.unwrap_or(f64::INFINITY) };
        let capacity = [
            rate(free.memory, space.and_then(|space| space.bytes_per_cycle)),
            rate(free.cache, cache.and_then(|cache| cache.bytes_per_cycle)),
        ];
        let wait = cache.and_then(|cache| cache.same_address_cycles).filter(|_| !free.cache);
        let same_address = wait.unwrap_or(0.0);
        let mut engine = Engine {
            setup,
            prices,
            source,
            streams: Vec::new(),
            pipes: Vec::new(),
            flags: Vec::new(),
            flag_numbers: FxHashMap::default(),
            event_cycles: FxHashMap::default(),
            timers: BinaryHeap::new(),
            share: Share::new(capacity, same_address),
            agenda: Vec::new(),
            now: 0.0,
            numbers: 0,
            out: Outcome { paths: vec![0.0; code.machine.paths.len()], ..Outcome::default() },
            issues: 0,
        };
        for (at, &(group, weight)) in setup.groups.iter().enumerate() {
            for (role, described) in code.roles.iter().enumerate() {
                for lane in 0..described.lanes {
                    engine.add_stream(at, group, weight, role, lane);
                }
            }
        }
        engine
    }

    fn add_stream(&mut self, at: usize, group: usize, weight: f64, role: usize, lane: usize) {
        let code = self.setup.code;
        let core = code.roles[role].core;
        let kind = &code.machine.cores[core];
        let first = self.pipes.len();
        for (number, pipe) in code.pipes.iter().enumerate() {
            if pipe.core == core {
                self.pipes.push(Pipe {
                    kind: number,
                    stream: self.streams.len(),
                    lane,
                    queue: VecDeque::new(),
                    running: None,
                    last_end: 0.0,
                    last: None,
                    drained: true,
                    blocked: None,
                    busy: 0.0,
                    waiting: 0.0,
                });
            }
        }
        self.streams.push(Stream {
            cursor: Cursor::new(code, role, lane, group, self.setup.all_groups, false),
            state: State::Ready,
            pending: None,
            group: at,
            time: 0.0,
            pipes: first..self.pipes.len(),
            issue_cycles: if self.setup.free.latency { 0.0 } else { kind.issue_cycles },
            queue: kind.queue.unwrap_or(QUEUE),
            weight,
            role,
        });
    }

    fn run(&mut self) -> Result<(), SimError> {
        loop {
            while let Some(poke) = self.agenda.pop() {
                match poke {
                    Poke::Stream(stream) => self.issue(stream)?,
                    Poke::Pipe(pipe) => self.start(pipe),
                }
            }
            let timer = self.timers.peek().map_or(f64::INFINITY, |Reverse(timer)| f64::from_bits(timer.time));
            let transfer = self.share.next();
            if timer.is_infinite() && transfer.is_infinite() {
                return self.finished();
            }
            if transfer <= timer {
                self.now = transfer.max(self.now);
                for pipe in self.share.finished(self.now) {
                    self.complete(pipe);
                }
            } else if let Some(Reverse(timer)) = self.timers.pop() {
                self.now = f64::from_bits(timer.time);
                match timer.wake {
                    true => self.agenda.push(Poke::Pipe(timer.pipe)),
                    false => self.head_over(timer.pipe),
                }
            }
        }
    }

    fn timer(&mut self, at: f64, pipe: usize, wake: bool) {
        self.numbers += 1;
        self.timers.push(Reverse(Timer { time: at.max(0.0).to_bits(), number: self.numbers, pipe, wake }));
    }

    /// Issues until the stream has to wait.
    fn issue(&mut self, number: usize) -> Result<(), SimError> {
        loop {
            if !self.may_go_on(number) {
                return Ok(());
            }
            let stream = &mut self.streams[number];
            stream.time = stream.time.max(self.now);
            let next = match stream.pending.take() {
                Some(issue) => Some(issue),
                None => stream.cursor.next(self.setup.code, self.prices)?,
            };
            let Some(issue) = next else {
                stream.state = State::Done;
                return Ok(());
            };
            self.issues += 1;
            if self.issues > MOST {
                return Err(SimError::TooLong { kernel: self.setup.code.kernel.name.clone(), instructions: MOST });
            }
            self.dispatch(number, issue);
        }
    }

    /// Whether what the stream waits for has come.
    fn may_go_on(&mut self, number: usize) -> bool {
        let stream = &self.streams[number];
        let go = match stream.state {
            State::Ready => true,
            State::Full(pipe) => self.room(pipe, stream.queue),
            State::Drain => stream.pipes.clone().all(|pipe| self.idle(pipe)),
            State::Scalar(pipe) => self.idle(pipe),
            State::ItemEnd => return self.item_end(number),
            State::Done => false,
        };
        if go {
            self.streams[number].state = State::Ready;
        }
        go
    }

    /// All cores of a group begin the next item together, with idle pipes.
    fn item_end(&mut self, number: usize) -> bool {
        let group = self.streams[number].group;
        let members: Vec<usize> = (0..self.streams.len()).filter(|&s| self.streams[s].group == group).collect();
        let ready = members.iter().all(|&member| {
            let stream = &self.streams[member];
            matches!(stream.state, State::ItemEnd | State::Done) && stream.pipes.clone().all(|pipe| self.idle(pipe))
        });
        if ready {
            for &member in &members {
                for pipe in self.streams[member].pipes.clone() {
                    self.pipes[pipe].drained = true;
                }
                if self.streams[member].state == State::ItemEnd {
                    self.streams[member].state = State::Ready;
                    if member != number {
                        self.agenda.push(Poke::Stream(member));
                    }
                }
            }
        }
        ready
    }

    fn idle(&self, pipe: usize) -> bool {
        self.pipes[pipe].running.is_none() && self.pipes[pipe].queue.is_empty()
    }

    fn room(&self, pipe: usize, queue: usize) -> bool {
        self.pipes[pipe].queue.len() + usize::from(self.pipes[pipe].running.is_some()) < queue
    }

    fn dispatch(&mut self, number: usize, issue: Issue) {
        let stream = &self.streams[number];
        let kind = match &issue {
            Issue::Work(issued) => self.setup.code.works[issued.work].pipe,
            Issue::Set { from, .. } => *from,
            Issue::Wait { to, .. } => *to,
            Issue::Barrier(Some(pipe)) => *pipe,
            Issue::Barrier(None) => {
                self.streams[number].state = State::Drain;
                return;
            }
            Issue::ItemEnd => {
                self.streams[number].state = State::ItemEnd;
                return;
            }
        };
        let Some(pipe) = stream.pipes.clone().find(|&pipe| self.pipes[pipe].kind == kind) else { return };
        if !self.room(pipe, stream.queue) {
            let stream = &mut self.streams[number];
            stream.state = State::Full(pipe);
            stream.pending = Some(issue);
            return;
        }
        let time = stream.time;
        let scalar = matches!(&issue, Issue::Work(issued) if self.setup.code.works[issued.work].scalar.is_some());
        let entry = match issue {
            Issue::Work(issued) => Entry::Work(issued),
            Issue::Set { to, event, .. } => Entry::Set(self.flags_between(pipe, to, event, true)),
            Issue::Wait { from, event, .. } => Entry::Wait(self.flags_between(pipe, from, event, false)),
            Issue::Barrier(_) | Issue::ItemEnd => Entry::Barrier,
        };
        let was_empty = self.idle(pipe);
        self.pipes[pipe].queue.push_back((time, entry));
        self.out.instructions += self.streams[number].weight;
        self.streams[number].time = time + self.streams[number].issue_cycles;
        if was_empty {
            self.agenda.push(Poke::Pipe(pipe));
        }
        if scalar {
            self.streams[number].state = State::Scalar(pipe);
        }
    }

    /// The flags between a pipe and those of another kind in its group: its own core's, or every lane's.
    fn flags_between(&mut self, pipe: usize, other: usize, event: i64, outgoing: bool) -> Vec<usize> {
        let own = &self.streams[self.pipes[pipe].stream];
        let group = own.group;
        let in_own = own.pipes.clone().find(|&p| self.pipes[p].kind == other);
        let ends: Vec<usize> = match in_own {
            Some(pipe) => vec![pipe],
            None => {
                let of_group = |p: &usize| self.streams[self.pipes[*p].stream].group == group;
                (0..self.pipes.len()).filter(|p| self.pipes[*p].kind == other && of_group(p)).collect()
            }
        };
        let flags = &mut self.flags;
        let number = |end: usize| {
            let key = if outgoing { (pipe, end, event) } else { (end, pipe, event) };
            *self.flag_numbers.entry(key).or_insert_with(|| {
                flags.push(Flag::default());
                flags.len() - 1
            })
        };
        ends.into_iter().map(number).collect()
    }

    /// Lets a pipe take from its queue what can be taken now.
    fn start(&mut self, number: usize) {
        let mut taken = false;
        while self.pipes[number].running.is_none() {
            let Some((ready, entry)) = self.pipes[number].queue.front() else { break };
            if *ready > self.now {
                let ready = *ready;
                self.timer(ready, number, true);
                break;
            }
            let go = match entry {
                Entry::Work(_) | Entry::Barrier | Entry::Set(_) => true,
                Entry::Wait(_) => self.released(number),
            };
            if !go {
                self.pipes[number].blocked.get_or_insert(self.now);
                break;
            }
            taken = true;
            if let Some(since) = self.pipes[number].blocked.take() {
                self.pipes[number].waiting += self.now - since;
            }
            match self.pipes[number].queue.pop_front() {
                Some((_, Entry::Work(issued))) => self.begin(number, issued),
                Some((_, Entry::Set(flags))) => self.signal(number, &flags),
                Some((_, Entry::Barrier)) => self.pipes[number].drained = true,
                Some((_, Entry::Wait(_))) | None => {}
            }
        }
        if taken {
            self.wake_stream(number);
        }
    }

    /// A stream may wait for room in this pipe, or for its end.
    fn wake_stream(&mut self, pipe: usize) {
        let stream = self.pipes[pipe].stream;
        match self.streams[stream].state {
            State::Full(other) if other == pipe => self.agenda.push(Poke::Stream(stream)),
            State::Drain | State::ItemEnd if self.idle(pipe) => self.agenda.push(Poke::Stream(stream)),
            State::Scalar(other) if other == pipe && self.idle(pipe) => self.agenda.push(Poke::Stream(stream)),
            // The last core of a group that becomes idle lets the others go on.
            State::Done if self.idle(pipe) => {
                let group = self.streams[stream].group;
                let waits = |s: &usize| self.streams[*s].group == group && self.streams[*s].state == State::ItemEnd;
                if let Some(other) = (0..self.streams.len()).find(waits) {
                    self.agenda.push(Poke::Stream(other));
                }
            }
            _ => {}
        }
    }

    /// Takes the signals of the front's flags if all are there; otherwise asks to be woken.
    fn released(&mut self, number: usize) -> bool {
        let Some((_, Entry::Wait(wanted))) = self.pipes[number].queue.front() else { return true };
        let mut latest = self.now;
        for &flag in wanted {
            match self.flags[flag].signals.front() {
                Some(&seen) => latest = latest.max(seen),
                None => {
                    self.flags[flag].waiter = Some(number);
                    return false;
                }
            }
        }
        if latest > self.now {
            self.timer(latest, number, true);
            return false;
        }
        for &flag in wanted {
            self.flags[flag].signals.pop_front();
        }
        true
    }

    fn signal(&mut self, number: usize, flags: &[usize]) {
        let from = self.pipes[number].kind;
        for &flag in flags {
            let seen = self.now + self.latency(from, flag);
            self.flags[flag].signals.push_back(seen);
            if let Some(waiter) = self.flags[flag].waiter.take() {
                self.agenda.push(Poke::Pipe(waiter));
            }
        }
    }

    /// Cycles from a signal to its release.
    fn latency(&mut self, from: usize, flag: usize) -> f64 {
        if self.setup.free.latency {
            return 0.0;
        }
        if let Some(&cycles) = self.event_cycles.get(&(from, flag)) {
            return cycles;
        }
        let code = self.setup.code;
        let to = self.flag_numbers.iter().find(|(_, number)| **number == flag).map(|(&(_, to, _), _)| to);
        let names = to.map(|to| [&code.pipes[from].name, &code.pipes[self.pipes[to].kind].name]);
        let row = names.and_then(|[a, b]| {
            code.machine.events.iter().find(|row| row.pairs.iter().any(|[from, to]| from == a && to == b))
        });
        let cycles = row.map_or(0.0, |row| row.cycles);
        self.event_cycles.insert((from, flag), cycles);
        cycles
    }

    fn begin(&mut self, number: usize, issued: Issued) {
        let slowed = self.beside_writes(number, issued.work);
        let price = self.prices.get(issued.price);
        let free = self.setup.free;
        let pipe = &mut self.pipes[number];
        let depends = || {
            let before = pipe.last.map(|last| &self.prices.get(last).writes);
            before.is_some_and(|writes| price.reads.iter().any(|tile| writes.contains(tile)))
        };
        let empty = pipe.drained || pipe.last_end + 1e-6 < self.now || depends();
        let head = if empty && !free.latency { price.cost.head_cycles } else { 0.0 };
        let mut fixed = price.cost.issue_cycles + head;
        let transfer = !issued.starts.is_empty() || price.local_read + price.local_written > 0.0;
        if !transfer {
            fixed += price.cost.path_cycles * slowed;
        }
        let nothing = free.pipe == Some(pipe.kind);
        if nothing {
            fixed = 0.0;
        }
        pipe.drained = false;
        pipe.last = Some(issued.price);
        pipe.running = Some(Running { issued, start: self.now, transfer: transfer && !nothing });
        self.timer(self.now + fixed, number, false);
    }

    /// How many times longer a move takes because another pipe of the core writes where it reads.
    fn beside_writes(&self, number: usize, work: usize) -> f64 {
        let code = self.setup.code;
        let path = |work: usize| code.works[work].path.map(|path| &code.machine.paths[path]);
        let Some(from) = path(work).map(|path| path.from.as_str()) else { return 1.0 };
        let banks = code.machine.space(from).and_then(|space| space.banks.as_ref());
        let Some(factor) = banks.map(|banks| banks.beside_write).filter(|&factor| factor > 1.0) else { return 1.0 };
        let writes = |pipe: usize| {
            let running = self.pipes[pipe].running.as_ref();
            running.and_then(|running| path(running.issued.work)).is_some_and(|path| path.to == from)
        };
        let mut others = self.streams[self.pipes[number].stream].pipes.clone().filter(|&pipe| pipe != number);
        if others.any(writes) { factor } else { 1.0 }
    }

    /// The fixed part of the running instruction is over.
    fn head_over(&mut self, number: usize) {
        match &self.pipes[number].running {
            Some(Running { transfer: true, issued, .. }) => {
                let issued = issued.clone();
                let demand = self.demand(number, &issued);
                self.share.begin(self.now, demand, number);
            }
            _ => self.complete(number),
        }
    }

    /// What a transfer needs of the shared memories.
    fn demand(&mut self, number: usize, issued: &Issued) -> Demand {
        let (code, price) = (self.setup.code, self.prices.get(issued.price));
        let stream = &self.streams[self.pipes[number].stream];
        let (role, weight) = (stream.role, stream.weight);
        let work = &code.works[issued.work];
        let mut traffic = Traffic::default();
        let mut address = None;
        for ((access, geometry), &start) in work.memory.iter().zip(&price.memory).zip(&issued.starts) {
            let memory = &self.setup.memories[access.param.0 as usize];
            let part = match &mut self.source {
                Source::Cache(_) if self.setup.past_cache && !access.written => through(geometry.bytes, true, false),
                Source::Memory => through(geometry.bytes, access.read, access.written),
                Source::Cache(cache) => {
                    cache.access(memory, geometry, start, issued.access as u64, access.written, access.read)
                }
                Source::Known(known) => {
                    let known = known[role].get(issued.access).copied().unwrap_or_default();
                    Traffic {
                        fetched: known.fetched * geometry.bytes,
                        written_back: known.written_back * geometry.bytes,
                        ..through(geometry.bytes, access.read, access.written)
                    }
                }
            };
            if access.read {
                let readers = match &self.source {
                    Source::Known(known) => known[role].get(issued.access).map_or(0.0, |known| known.readers),
                    _ => 0.0,
                };
                let requests = geometry.runs() * (geometry.run as f64 / LINE as f64).ceil();
                address = Some(Address { place: (memory.id, start), requests, readers });
            }
            traffic.add(&part);
        }
        // Requests are larger than what is asked for where runs do not begin at their boundaries.
        let asked = if price.moved > 0.0 && price.cost.bytes > 0.0 { price.cost.bytes / price.moved } else { 1.0 };
        traffic.scale(asked);
        let missed = if traffic.read > 0.0 { (traffic.fetched / traffic.read).min(1.0) } else { 0.0 };
        let local = price.local_read + price.local_written;
        let cached = !matches!(self.source, Source::Memory);
        let bytes = match cached {
            true => [traffic.memory(), traffic.cores() + local],
            false => [traffic.cores() + local, 0.0],
        };
        let mut scaled = traffic;
        scaled.scale(weight);
        self.out.traffic.add(&scaled);
        self.out.local += local * weight;
        debug_assert!(MEMORY == 0 && CACHE == 1);
        Demand { alone: price.cost.path_cycles + missed * price.cost.miss_cycles, bytes, weight, address }
    }

    /// The running instruction is done.
    fn complete(&mut self, number: usize) {
        let pipe = &mut self.pipes[number];
        let Some(running) = pipe.running.take() else { return };
        pipe.last_end = self.now;
        pipe.busy += self.now - running.start;
        self.out.cycles = self.out.cycles.max(self.now);
        let (price, work) = (self.prices.get(running.issued.price), running.issued.work);
        let weight = self.streams[pipe.stream].weight;
        self.out.matrix_flops += price.matrix_flops * weight;
        self.out.vector_flops += price.vector_flops * weight;
        if let Some(path) = self.setup.code.works[work].path {
            self.out.paths[path] += price.moved * weight;
        }
        if self.out.spans.len() < self.setup.spans {
            let (pipe, work) = (number as u32, work as u32);
            self.out.spans.push(Span { pipe, work, start: running.start, end: self.now });
        } else {
            self.out.spans_left_out += 1;
        }
        self.agenda.push(Poke::Pipe(number));
        self.wake_stream(number);
    }

    /// Nothing moves any more: everything is done, or stuck.
    fn finished(&self) -> Result<(), SimError> {
        let stuck = |stream: &Stream| stream.state != State::Done;
        let blocked: Vec<String> = self.pipes.iter().filter_map(|pipe| self.waits_for(pipe)).collect();
        if blocked.is_empty() && !self.streams.iter().any(stuck) {
            return Ok(());
        }
        Err(SimError::Deadlock {
            kernel: self.setup.code.kernel.name.clone(),
            cycle: self.now,
            waiting: blocked.join("; "),
        })
    }

    fn waits_for(&self, pipe: &Pipe) -> Option<String> {
        let code = self.setup.code;
        let (_, entry) = pipe.queue.front()?;
        let what = match entry {
            Entry::Wait(flags) => {
                let missing = flags.iter().find(|flag| self.flags[**flag].signals.is_empty())?;
                let (&(from, _, event), _) = self.flag_numbers.iter().find(|(_, number)| *number == missing)?;
                let from = &code.pipes[self.pipes[from].kind].name;
                format!("wait_event from={from} to={} event={event}", code.pipes[pipe.kind].name)
            }
            Entry::Work(issued) => code.works[issued.work].label.clone(),
            Entry::Set(_) => "set_event".to_owned(),
            Entry::Barrier => "barrier".to_owned(),
        };
        let behind = pipe.queue.iter().find_map(|(_, entry)| match entry {
            Entry::Work(issued) => Some(format!(", before `{}`", code.works[issued.work].label)),
            _ => None,
        });
        Some(format!("pipe `{}` waits at `{what}`{}", code.pipes[pipe.kind].name, behind.unwrap_or_default()))
    }

    fn outcome(mut self) -> Outcome {
        let pipes = self.pipes.iter().map(|pipe| {
            let stream = &self.streams[pipe.stream];
            let (group, _) = self.setup.groups[stream.group];
            PipeOutcome {
                kind: pipe.kind,
                group,
                lane: pipe.lane,
                weight: stream.weight,
                busy: pipe.busy,
                waiting: pipe.waiting,
            }
        });
        self.out.pipes = pipes.collect();
        self.out
    }
}

/// An access without a cache: what is read and written is moved to and from memory.
fn through(bytes: f64, read: bool, written: bool) -> Traffic {
    let of = |moved: bool| if moved { bytes } else { 0.0 };
    Traffic { read: of(read), written: of(written), fetched: of(read), written_back: of(written) }
}
