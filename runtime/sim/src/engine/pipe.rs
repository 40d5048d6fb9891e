//! Pipes: taking from the queue, waiting for signals, running, and what a transfer needs.

use super::{Engine, Entry, Poke, Running, Source, Span, State};
use crate::{
    cache::Traffic,
    price::LINE,
    share::{Address, CACHE, Demand, MEMORY, SHARED},
    walk::Issued,
};

impl Engine<'_, '_> {
    /// Lets a pipe take from its queue what can be taken now.
    pub(super) fn start(&mut self, number: usize) {
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
    pub(super) fn head_over(&mut self, number: usize) {
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
        let (role, class, weight) = (stream.role, stream.group, stream.weight);
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
                    let known = known[role][class].get(issued.access).copied().unwrap_or_default();
                    Traffic {
                        fetched: known.fetched * geometry.bytes,
                        written_back: known.written_back * geometry.bytes,
                        ..through(geometry.bytes, access.read, access.written)
                    }
                }
            };
            if access.read {
                let readers = match &self.source {
                    Source::Known(known) => known[role][class].get(issued.access).map_or(0.0, |known| known.readers),
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
        let mut bytes = [0.0; SHARED];
        if cached {
            bytes[MEMORY] = traffic.memory();
            bytes[CACHE] = traffic.cores() + local;
        } else {
            bytes[MEMORY] = traffic.cores() + local;
        }
        let mut scaled = traffic;
        scaled.scale(weight);
        self.out.traffic.add(&scaled);
        self.out.local += local * weight;
        Demand { alone: price.cost.path_cycles + missed * price.cost.miss_cycles, bytes, weight, address }
    }

    /// The running instruction is done.
    pub(super) fn complete(&mut self, number: usize) {
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
            let skipped = self.steady.skipped;
            self.out.spans.push(Span { pipe, work, start: running.start + skipped, end: self.now + skipped });
        } else {
            self.out.spans_left_out += 1;
        }
        self.agenda.push(Poke::Pipe(number));
        self.wake_stream(number);
    }
}

/// An access without a cache: what is read and written is moved to and from memory.
fn through(bytes: f64, read: bool, written: bool) -> Traffic {
    let of = |moved: bool| if moved { bytes } else { 0.0 };
    Traffic { read: of(read), written: of(written), fetched: of(read), written_back: of(written) }
}
