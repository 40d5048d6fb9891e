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

mod issue;
mod pipe;
mod steady;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use rustc_hash::FxHashMap;

use crate::{
    SimError,
    cache::{Cache, Memory, Traffic},
    code::Code,
    equal::Class,
    price::{PriceId, Prices},
    share::Share,
    walk::{Cursor, Issue, Issued},
};
use steady::Steady;

/// Instructions that a queue holds where the machine does not say.
const QUEUE: usize = 1024;
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
    /// Known beforehand: by role, by class of cores, by number of the access in its stream.
    Known(&'a [Vec<&'a [Known]>]),
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
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub code: &'a Code<'a>,
    /// Classes of cores.
    pub groups: &'a [Class],
    /// How many groups share the items.
    pub all_groups: usize,
    /// Of every parameter.
    pub memories: &'a [Memory],
    pub free: Free,
    /// What is read does not come into the cache.
    pub past_cache: bool,
    /// Count what repeats without simulating it.
    pub extrapolate: bool,
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
    /// What was issued, each stream by itself, without what was only counted.
    pub walked: u64,
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
    steady: Steady,
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
            steady: Steady::default(),
        };
        for (at, class) in setup.groups.iter().enumerate() {
            for (role, described) in code.roles.iter().enumerate() {
                for lane in 0..described.lanes {
                    engine.add_stream(at, class.group, class.weight(), role, lane);
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
            if let (Some(id), true) = (self.steady.due.take(), self.setup.extrapolate) {
                self.look_for_steady_state(id)?;
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
            let Class { group, .. } = self.setup.groups[stream.group];
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
        self.out.walked = self.issues;
        self.out.cycles += self.steady.skipped;
        self.out
    }
}
