//! Steady state: a loop that repeats itself, instruction by instruction at the same distances, is not simulated to its end.
//!
//! Whenever a loop of the first stream begins anew, the state of everything is put into a number: queues, what runs and how much of
//! it is left, signals, distances in time. If the same number was seen some iterations earlier, everything between is a period. It
//! repeats for as long as each stream's coming iterations issue the same as the period's, and their bytes are in the cache to the
//! same part: so often it is counted without being simulated.
//!
//! Each loop is looked at by itself: an iteration of an outer loop in which most of the inner one was only counted is like any other.

use rustc_hash::{FxHashMap, FxHasher};
use std::{collections::VecDeque, hash::Hasher};

use super::{Engine, Entry, Known, Source, State, Timer};
use crate::{
    SimError,
    cache::Traffic,
    equal::{Signatures, mix},
    walk::{Cursor, Issue},
};

/// How many earlier states of a loop are compared with.
const STATES: usize = 24;
/// Parts of a cycle, and of a transfer, that are told apart.
const PER_CYCLE: f64 = 4.0;
const PER_TRANSFER: f64 = 1024.0;
/// Parts of the accesses' bytes, and of their numbers of readers, that are not told apart.
const CLOSE: f64 = 0.003;

/// What is known of earlier states.
#[derive(Default)]
pub(super) struct Steady {
    /// The loop of the first stream that has begun anew.
    pub due: Option<usize>,
    /// Cycles that were not simulated.
    pub skipped: f64,
    /// By loop.
    states: FxHashMap<usize, VecDeque<Snapshot>>,
    signatures: Signatures,
}

struct Snapshot {
    number: u64,
    /// The cycle, with those that were not simulated.
    cycle: f64,
    cursors: Vec<Cursor>,
    /// By stream, the first access that has not been made yet.
    ahead: Vec<usize>,
    totals: Totals,
}

/// What adds up.
struct Totals {
    traffic: Traffic,
    numbers: Vec<f64>,
    done: u64,
}

/// How a stream moves in a period.
struct Motion {
    /// The loop variable that grows, and by how much.
    advance: Option<(u32, i64)>,
    accesses: usize,
}

impl Engine<'_, '_> {
    /// Compares the state with earlier ones; counts what repeats without simulating it.
    ///
    /// # Errors
    /// If an instruction has no cost.
    pub(super) fn look_for_steady_state(&mut self, id: usize) -> Result<(), SimError> {
        let number = self.state_number();
        let mut states: VecDeque<Snapshot> = self.steady.states.remove(&id).unwrap_or_default();
        // The shortest period first; where what the cache holds has a longer one, that.
        for at in (0..states.len()).rev().filter(|&at| states[at].number == number) {
            let (periods, motions) = self.periods(&states[at])?;
            if periods > 0 {
                self.skip(&states[at], periods, &motions);
                return Ok(());
            }
        }
        let cursors = self.streams.iter().map(|stream| stream.cursor.clone()).collect();
        let ahead = (0..self.streams.len()).map(|stream| self.next_access(stream)).collect();
        let cycle = self.now + self.steady.skipped;
        states.push_back(Snapshot { number, cycle, cursors, ahead, totals: self.totals() });
        if states.len() > STATES {
            states.pop_front();
        }
        self.steady.states.insert(id, states);
        Ok(())
    }

    /// Everything that decides what happens next, apart from how far loops have come.
    fn state_number(&mut self) -> u64 {
        let now = self.now;
        let ahead = |time: f64| ((time - now).max(0.0) * PER_CYCLE).round() as u64;
        let mut hash = FxHasher::default();
        for stream in &self.streams {
            hash.write_u64(state_code(stream.state));
            hash.write_usize(stream.cursor.at);
            hash.write_u64(stream.cursor.item);
            hash.write_u64(ahead(stream.time));
            hash.write_u64(stream.pending.as_ref().map_or(0, issue_code));
        }
        for pipe in &self.pipes {
            for (ready, entry) in &pipe.queue {
                hash.write_u64(entry_code(entry));
                hash.write_u64(ahead(*ready));
            }
            if let Some(running) = &pipe.running {
                hash.write_u64(mix(running.issued.work as u64 + 1, u64::from(running.issued.price)));
                hash.write_u64(((now - running.start) * PER_CYCLE).round() as u64);
            }
            hash.write_u64(pipe.last.map_or(0, |price| u64::from(price) + 1));
            let flags = [pipe.drained, pipe.last_end + 1e-6 < now, pipe.blocked.is_some()];
            flags.iter().for_each(|&flag| hash.write_u8(u8::from(flag)));
        }
        for flag in &self.flags {
            flag.signals.iter().for_each(|&seen| hash.write_u64(ahead(seen) + 1));
            hash.write_usize(flag.waiter.map_or(0, |pipe| pipe + 1));
        }
        let starting = self.timers.iter().filter(|timer| !timer.0.wake);
        let starting = starting.fold(0u64, |sum, std::cmp::Reverse(Timer { time, pipe, .. })| {
            sum.wrapping_add(mix(ahead(f64::from_bits(*time)), *pipe as u64))
        });
        hash.write_u64(starting);
        let jobs = self.share.left(now).map(|(owner, left)| mix(owner as u64, (left * PER_TRANSFER).round() as u64));
        hash.write_u64(jobs.fold(0, u64::wrapping_add));
        hash.finish()
    }

    /// How often what happened since an earlier state happens again, and what moves each time.
    fn periods(&mut self, before: &Snapshot) -> Result<(i64, Vec<Motion>), SimError> {
        let mut most = i64::MAX;
        let mut motions = Vec::new();
        for number in 0..self.streams.len() {
            let Some((motion, times)) = self.motion(number, before)? else { return Ok((0, motions)) };
            most = most.min(times);
            motions.push(motion);
        }
        let moves = motions.iter().any(|motion| motion.advance.is_some());
        Ok((if moves { most } else { 0 }, motions))
    }

    /// How a stream has moved since, and how often it can move so again; `None` if in no simple way.
    fn motion(&mut self, number: usize, snapshot: &Snapshot) -> Result<Option<(Motion, i64)>, SimError> {
        let before = &snapshot.cursors[number];
        let stream = &self.streams[number];
        let (role, class, now) = (stream.role, stream.group, &stream.cursor);
        let described = &self.setup.code.roles[role];
        let accesses = now.accesses - before.accesses;
        let changed = |&(var, ..): &(u32, i64, usize)| now.vars[var as usize] != before.vars[var as usize];
        let mut changed = described.loops_around(now.at).filter(changed);
        let Some((var, step, id)) = changed.next() else {
            let still = accesses == 0 && stream.cursor.item == before.item;
            return Ok(still.then_some((Motion { advance: None, accesses: 0 }, i64::MAX)));
        };
        let advance = now.vars[var as usize] - before.vars[var as usize];
        let (first, period) = (before.vars[var as usize] / step, advance / step);
        let node = described.find_loop(id);
        let (Some(node), None, true) = (node, changed.next(), advance > 0 && advance % step == 0) else {
            return Ok(None);
        };
        let mut vars = now.vars.clone();
        let code = self.setup.code;
        let iterations = self.steady.signatures.iterations(code, self.prices, role, node, &mut vars)?;
        let (first, period) = (first as usize, period as usize);
        let same = |at: &usize| iterations.get(*at).is_some_and(|own| iterations.get(at + period) == Some(own));
        let run = (first..).take_while(same).count();
        let mut times = (run.max(1) - 1) / period;
        if let (Source::Known(known), true) = (&self.source, accesses > 0) {
            times = repeats(known[role][class], snapshot.ahead[number], accesses, times);
        }
        Ok(Some((Motion { advance: Some((var, advance)), accesses }, times as i64)))
    }

    /// The first access of a stream that waits in a queue or has just begun; what is issued is far ahead of it.
    fn next_access(&self, number: usize) -> usize {
        let stream = &self.streams[number];
        let pipes = self.pipes[stream.pipes.clone()].iter();
        let waiting = pipes.flat_map(|pipe| {
            let queued = pipe.queue.iter().find_map(|(_, entry)| match entry {
                Entry::Work(issued) if !issued.starts.is_empty() => Some(issued.access),
                _ => None,
            });
            let running = pipe.running.iter().map(|running| &running.issued);
            running.filter(|issued| !issued.starts.is_empty()).map(|issued| issued.access).chain(queued)
        });
        let pending = stream.pending.iter().filter_map(|issue| match issue {
            Issue::Work(issued) => Some(issued.access),
            _ => None,
        });
        waiting.chain(pending).min().unwrap_or(stream.cursor.accesses).min(stream.cursor.accesses)
    }

    fn totals(&self) -> Totals {
        let out = &self.out;
        let single = [out.local, out.matrix_flops, out.vector_flops, out.instructions];
        let pipes = self.pipes.iter().flat_map(|pipe| [pipe.busy, pipe.waiting]);
        let done = out.spans.len() as u64 + out.spans_left_out;
        Totals {
            traffic: out.traffic,
            done,
            numbers: single.into_iter().chain(out.paths.iter().copied()).chain(pipes).collect(),
        }
    }

    /// How much more, as a factor, the coming periods fetch and write back than the last one does.
    fn beside_the_period(&self, before: &Snapshot, periods: usize, motions: &[Motion]) -> [f64; 2] {
        let Source::Known(known) = &self.source else { return [1.0; 2] };
        let mut all = [[0.0; 2]; 2];
        for (number, Motion { accesses, .. }) in motions.iter().enumerate() {
            let (stream, first) = (&self.streams[number], before.ahead[number]);
            let parts = [(first, *accesses), (first + accesses, accesses * periods)];
            for (sum, (first, count)) in all.iter_mut().zip(parts) {
                let [fetched, written, _] = sums(known[stream.role][stream.group], first, count).unwrap_or_default();
                sum[0] += fetched * stream.weight;
                sum[1] += written * stream.weight;
            }
        }
        let [one, coming] = all;
        [0, 1].map(|part| if one[part] > 0.0 { coming[part] / (one[part] * periods as f64) } else { 1.0 })
    }

    /// Counts a period so many times more.
    fn skip(&mut self, before: &Snapshot, periods: i64, motions: &[Motion]) {
        let times = periods as f64;
        self.steady.skipped += times * (self.now + self.steady.skipped - before.cycle);
        let mut more = before.totals.traffic;
        more.scale(-1.0);
        more.add(&self.out.traffic);
        more.scale(times);
        let [fetched, written] = self.beside_the_period(before, periods as usize, motions);
        more.fetched *= fetched;
        more.written_back *= written;
        self.out.traffic.add(&more);
        let done = self.out.spans.len() as u64 + self.out.spans_left_out;
        self.out.spans_left_out += periods as u64 * (done - before.totals.done);
        let out = &mut self.out;
        let single = [&mut out.local, &mut out.matrix_flops, &mut out.vector_flops, &mut out.instructions];
        let pipes = self.pipes.iter_mut().flat_map(|pipe| [&mut pipe.busy, &mut pipe.waiting]);
        let all = single.into_iter().chain(&mut out.paths).chain(pipes);
        all.zip(&before.totals.numbers).for_each(|(total, before)| *total += times * (*total - before));
        for (number, motion) in motions.iter().enumerate() {
            let stream = &mut self.streams[number];
            if let Some((var, advance)) = motion.advance {
                stream.cursor.vars[var as usize] += periods * advance;
            }
            let shift = periods as usize * motion.accesses;
            stream.cursor.accesses += shift;
            if let Some(Issue::Work(issued)) = &mut stream.pending {
                issued.access += shift;
            }
            for pipe in stream.pipes.clone() {
                let pipe = &mut self.pipes[pipe];
                let queued = pipe.queue.iter_mut().filter_map(|(_, entry)| match entry {
                    Entry::Work(issued) => Some(issued),
                    _ => None,
                });
                queued
                    .chain(pipe.running.iter_mut().map(|running| &mut running.issued))
                    .for_each(|issued| issued.access += shift);
            }
        }
    }
}

/// How often, at most so often, so many accesses from one on come again with as much in the cache.
fn repeats(known: &[Known], first: usize, period: usize, most: usize) -> usize {
    let Some(own) = sums(known, first, period) else { return 0 };
    let differs = CLOSE * period.max(8) as f64;
    let same = |sums: [f64; 3]| sums.iter().zip(&own).all(|(a, b)| (a - b).abs() <= differs);
    (1..=most).take_while(|times| sums(known, first + times * period, period).is_some_and(same)).count()
}

/// Fetched, written back and readers of so many accesses.
fn sums(known: &[Known], first: usize, count: usize) -> Option<[f64; 3]> {
    let part = known.get(first..first + count)?;
    Some(part.iter().fold([0.0; 3], |[fetched, written, readers], one| {
        [fetched + one.fetched, written + one.written_back, readers + one.readers]
    }))
}

fn state_code(state: State) -> u64 {
    match state {
        State::Ready => 1,
        State::Full(pipe) => mix(2, pipe as u64),
        State::Drain => 3,
        State::Scalar(pipe) => mix(4, pipe as u64),
        State::ItemEnd => 5,
        State::Done => 6,
    }
}

fn issue_code(issue: &Issue) -> u64 {
    match issue {
        Issue::Work(issued) => mix(mix(1, issued.work as u64), u64::from(issued.price)),
        Issue::Set { from, to, event } => mix(mix(2, *from as u64), mix(*to as u64, *event as u64)),
        Issue::Wait { from, to, event } => mix(mix(3, *from as u64), mix(*to as u64, *event as u64)),
        Issue::Barrier(pipe) => mix(4, pipe.map_or(0, |pipe| pipe as u64 + 1)),
        Issue::ItemEnd => 5,
    }
}

fn entry_code(entry: &Entry) -> u64 {
    match entry {
        Entry::Work(issued) => mix(mix(1, issued.work as u64), u64::from(issued.price)),
        Entry::Set(flags) => flags.iter().fold(2, |code, &flag| mix(code, flag as u64)),
        Entry::Wait(flags) => flags.iter().fold(3, |code, &flag| mix(code, flag as u64)),
        Entry::Barrier => 4,
    }
}
