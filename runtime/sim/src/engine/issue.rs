//! Streams: what a core issues, in order, and what it waits for before it goes on.

use super::{Engine, Entry, Flag, Poke, State};
use crate::{SimError, walk::Issue};

/// Instructions that one launch may issue.
const MOST: u64 = 2_000_000_000;

impl Engine<'_, '_> {
    /// Issues until the stream has to wait.
    pub(super) fn issue(&mut self, number: usize) -> Result<(), SimError> {
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
            if let Some(id) = self.streams[number].cursor.repeated.take()
                && number == self.first_running()
            {
                self.steady.due = Some(self.steady.due.map_or(id, |other| other.min(id)));
            }
            if self.issues > MOST {
                return Err(SimError::TooLong { kernel: self.setup.code.kernel.name.clone(), instructions: MOST });
            }
            self.dispatch(number, issue);
        }
    }

    /// The first stream that is not done.
    fn first_running(&self) -> usize {
        self.streams.iter().position(|stream| stream.state != State::Done).unwrap_or(0)
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

    pub(super) fn idle(&self, pipe: usize) -> bool {
        self.pipes[pipe].running.is_none() && self.pipes[pipe].queue.is_empty()
    }

    pub(super) fn room(&self, pipe: usize, queue: usize) -> bool {
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
}
