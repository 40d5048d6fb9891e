//! One walk of a kernel: what every queue comes after, what was touched, which signals are on their way.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    code::{Access, Code, Node, NodeKind, Pipe, Target},
    extent::{Extent, Indices},
    held::Held,
};
use crate::text::Anchor;

/// Turns of loops, in one walk, at which changes of conditions are looked for.
const LOOKS: usize = 1 << 20;
/// For every queue, how much of it lies behind.
pub(super) type Clock = Vec<u64>;

/// Bytes (or elements of a parameter) that an instruction touched.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub extent: Extent,
    pub write: bool,
    pub queue: usize,
    /// The clock of its queue when it was issued.
    pub time: u64,
    pub at: usize,
}

/// A flag from one queue to another.
type Flag = (usize, usize, i64);

pub(super) struct Walk<'c> {
    code: &'c Code<'c>,
    pub values: Vec<i64>,
    sample: i64,
    pub clocks: Vec<Clock>,
    /// Signals not taken yet, with what the setting queue came after.
    pub signals: BTreeMap<Flag, (Clock, usize)>,
    /// The waiting queue's clock at the last wait for a flag: it is set again only after that.
    pub waits: BTreeMap<Flag, u64>,
    /// When scalars are there, and which kinds of core have waited for that.
    scalars: BTreeMap<usize, (Clock, BTreeSet<usize>)>,
    /// By memory.
    pub touched: Vec<Vec<Touch>>,
    /// By memory: the queues that touch it at all.
    users: Vec<BTreeSet<usize>>,
    /// By tile, lane and copy.
    held: Vec<Vec<Held>>,
    /// What statements have written to a copy of a tile, and whether any of it was read.
    pub used: BTreeMap<(usize, usize, i64), bool>,
    pub faults: BTreeSet<(Anchor, String)>,
    /// The statement at which the walk was given up, if it was too long.
    pub cut: Option<usize>,
    pub left: usize,
    pub looks: usize,
}

impl<'c> Walk<'c> {
    /// `values` are those of the variables that are known, `sample` bounds scalars, `statements` the length of the walk.
    pub fn new(code: &'c Code, values: Vec<i64>, sample: i64, statements: usize) -> Walk<'c> {
        let queues = code.queues();
        let mut users = vec![BTreeSet::new(); code.memories];
        super::code::every(&code.body, &mut |node| {
            let NodeKind::Work { pipe, accesses, .. } = &node.kind else { return };
            let pipe = &code.pipes[*pipe];
            for lane in 0..code.width(pipe) {
                for access in accesses {
                    users[code.memory(access, lane)].insert(pipe.queue + lane);
                }
            }
        });
        let held = |tile: &super::code::Tile| {
            vec![Held::default(); tile.slots.clamp(0, 64) as usize * if tile.each { code.lanes } else { 1 }]
        };
        Walk {
            code,
            values,
            sample,
            clocks: vec![vec![0; queues]; queues],
            signals: BTreeMap::new(),
            waits: BTreeMap::new(),
            scalars: BTreeMap::new(),
            touched: vec![Vec::new(); code.memories],
            users,
            held: code.tiles.iter().map(held).collect(),
            used: BTreeMap::new(),
            faults: BTreeSet::new(),
            cut: None,
            left: statements,
            looks: LOOKS,
        }
    }

    pub fn run(&mut self) {
        let lanes: Vec<usize> = (0..self.code.lanes).collect();
        self.block(&self.code.body, &lanes);
        if self.left > 0 {
            for ((from, to, id), (_, at)) in std::mem::take(&mut self.signals) {
                let text = format!("{} is set, but never waited for", self.flag(from, to, id));
                self.fault(at, text);
            }
        }
    }

    fn fault(&mut self, at: usize, message: String) {
        self.faults.insert((self.code.anchors[at].clone(), message));
    }

    pub fn block(&mut self, body: &'c [Node], lanes: &[usize]) {
        for node in body {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            if self.left == 0 {
                self.cut.get_or_insert(node.at);
                return;
            }
            self.await_scalars(node);
            self.node(node, lanes);
        }
    }

    fn node(&mut self, node: &'c Node, lanes: &[usize]) {
        match &node.kind {
            NodeKind::For { var, end, step, body, turns } => {
                for part in split(turns.each, lanes) {
                    self.become_lane(&part);
                    self.turns(*var, end.eval(&self.values), *step, body, turns, &part);
                }
            }
            NodeKind::If { condition, each, then, otherwise } => {
                for part in split(*each, lanes) {
                    self.become_lane(&part);
                    let taken = condition.eval(&self.values).is_some_and(|value| value > 0);
                    self.block(if taken { then } else { otherwise }, &part);
                }
            }
            NodeKind::Work { pipe, accesses, defines } => self.work(node.at, *pipe, accesses, defines, lanes),
            NodeKind::Event { from, to, event, ids, set, shown } => {
                let id = event.eval(&self.values);
                match id.filter(|id| (0..*ids).contains(id)) {
                    Some(id) => self.event(node.at, *from, *to, id, *set, lanes),
                    None => {
                        let found = id.map_or_else(|| shown.to_string(), |id| id.to_string());
                        let (from, to) = (self.code.pipes[*from].name, self.code.pipes[*to].name);
                        self.fault(node.at, format!("event {found} from `{from}` to `{to}`: there are {ids}, from 0"));
                    }
                }
            }
            NodeKind::Barrier => self.barrier(lanes),
            NodeKind::Nothing => {}
        }
    }

    /// The lane's variable has the value of the first of these.
    fn become_lane(&mut self, lanes: &[usize]) {
        if let (Some(variable), [lane, ..]) = (self.code.lane, lanes) {
            self.values[variable] = *lane as i64;
        }
    }

    /// The queues of one core: all that a lane has, or all of another kind.
    fn core(&self, kind: usize, lane: usize) -> Vec<usize> {
        let own = self.code.pipes.iter().filter(|pipe| pipe.kind == kind);
        own.map(|pipe| pipe.queue + if pipe.each { lane } else { 0 }).collect()
    }

    /// Cores that need a scalar wait until it is there, wherever it comes from.
    fn await_scalars(&mut self, node: &Node) {
        if self.scalars.is_empty() {
            return;
        }
        for scalar in &node.needs {
            for &kind in &node.kinds {
                let Some((there, waited)) = self.scalars.get_mut(scalar) else { break };
                // What a queue has come after it stays after.
                if !waited.insert(kind) {
                    continue;
                }
                let there = there.clone();
                for lane in 0..self.code.lanes {
                    self.core(kind, lane).into_iter().for_each(|queue| join(&mut self.clocks[queue], &there));
                }
            }
        }
    }

    /// On every core by itself, all queues come after all.
    fn barrier(&mut self, lanes: &[usize]) {
        let mut kinds: Vec<usize> = self.code.pipes.iter().map(|pipe| pipe.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for (kind, &lane) in kinds.iter().flat_map(|kind| lanes.iter().map(move |lane| (kind, lane))) {
            let core = self.core(*kind, lane);
            let mut all = vec![0; self.clocks.len()];
            core.iter().for_each(|&queue| join(&mut all, &self.clocks[queue]));
            core.iter().for_each(|&queue| self.clocks[queue].clone_from(&all));
        }
    }

    /// The queues between which an event is carried: from each lane's to its own, to all of one, or from one to all.
    fn flags(&self, from: usize, to: usize, set: bool, lanes: &[usize]) -> Vec<(usize, usize)> {
        let (a, b) = (&self.code.pipes[from], &self.code.pipes[to]);
        let all: Vec<usize> = (0..self.code.lanes).collect();
        // The side that is carried out by the lanes that are here; the other side is complete.
        let here = if (if set { a } else { b }).each { lanes } else { &all };
        match (a.each, b.each) {
            (false, false) => vec![(a.queue, b.queue)],
            (true, true) => here.iter().map(|lane| (a.queue + lane, b.queue + lane)).collect(),
            (true, false) => here.iter().map(|lane| (a.queue + lane, b.queue)).collect(),
            (false, true) => here.iter().map(|lane| (a.queue, b.queue + lane)).collect(),
        }
    }

    fn event(&mut self, at: usize, from: usize, to: usize, id: i64, set: bool, lanes: &[usize]) {
        for (a, b) in self.flags(from, to, set, lanes) {
            let flag = (a, b, id);
            if set {
                if self.waits.get(&flag).is_some_and(|&wait| self.clocks[a][b] < wait) {
                    let taker = self.queue_name(b).replace("pipe ", "");
                    let text = format!(
                        "{} may be set again before {taker} has taken it: nothing orders them",
                        self.flag(a, b, id)
                    );
                    self.fault(at, text);
                }
                if self.signals.insert(flag, (self.clocks[a].clone(), at)).is_some() {
                    let text = format!("{} is set again before it is waited for", self.flag(a, b, id));
                    self.fault(at, text);
                }
            } else if let Some((clock, _)) = self.signals.remove(&flag) {
                self.clocks[b][b] += 1;
                self.waits.insert(flag, self.clocks[b][b]);
                join(&mut self.clocks[b], &clock);
            } else {
                let text = format!("{} is waited for, but not set", self.flag(a, b, id));
                self.fault(at, text);
            }
        }
    }

    fn work(
        &mut self,
        at: usize,
        pipe: usize,
        accesses: &[Access],
        defines: &[(usize, super::expr::Expr)],
        lanes: &[usize],
    ) {
        let pipe = &self.code.pipes[pipe];
        for &lane in if pipe.each { lanes } else { &[0] } {
            if let (Some(variable), true) = (self.code.lane, pipe.each) {
                self.values[variable] = lane as i64;
            }
            let queue = pipe.queue + if pipe.each { lane } else { 0 };
            self.clocks[queue][queue] += 1;
            for access in accesses {
                if let Some(extent) = self.extent(access) {
                    self.hold(at, access, lane, &extent);
                    self.touch(at, self.code.memory(access, lane), extent, access.write, queue);
                }
            }
            for (scalar, bound) in defines {
                self.define(pipe, queue, lane, *scalar, bound);
            }
        }
    }

    /// Nothing of its core that follows is issued before a scalar is there.
    fn define(&mut self, pipe: &Pipe, queue: usize, lane: usize, scalar: usize, bound: &super::expr::Expr) {
        self.values[scalar] = bound.eval(&self.values).unwrap_or(0).min(self.sample).max(0);
        let seen = self.clocks[queue].clone();
        self.core(pipe.kind, lane).into_iter().for_each(|queue| join(&mut self.clocks[queue], &seen));
        let (there, waited) = self.scalars.entry(scalar).or_insert_with(|| (vec![0; seen.len()], BTreeSet::new()));
        waited.clear();
        join(there, &seen);
    }

    /// What an access touches; `None` if it touches nothing.
    fn extent(&self, access: &Access) -> Option<Extent> {
        extent(self.code, access, &self.values)
    }

    /// From here on all of a tile counts as written, and what was as read.
    pub fn assume(&mut self, tile: usize) {
        for held in &mut self.held[tile] {
            for at in held.all_writers() {
                self.used.iter_mut().filter(|(key, _)| (key.0, key.1) == (at, tile)).for_each(|(_, used)| *used = true);
            }
            held.assume();
        }
    }

    /// What is read has been written; what is written takes the bytes from other tiles.
    fn hold(&mut self, at: usize, access: &Access, lane: usize, extent: &Extent) {
        let (Target::Tile { tile, .. }, Extent::Tile { slot: Some(slot), region: Some(part), start, end, .. }) =
            (&access.target, extent)
        else {
            if let Target::Tile { tile, .. } = &access.target {
                self.assume(*tile);
            }
            return;
        };
        let code = self.code;
        let index = |tile: &super::code::Tile, slot: i64| {
            (if tile.each { lane as i64 * tile.slots } else { 0 } + slot) as usize
        };
        let Some(held) = self.held[*tile].get_mut(index(&code.tiles[*tile], *slot)) else { return };
        if !access.write {
            for writer in held.writers(part) {
                self.used.insert((writer, *tile, *slot), true);
            }
            if !held.holds(part) {
                let name = &code.kernel.tiles[*tile].name;
                let text = match held.taken {
                    Some(other) => {
                        let other = &code.kernel.tiles[other].name;
                        format!("`{name}` is read, but `{other}`, which shares its bytes, has been written since")
                    }
                    None => format!("a part of `{name}` (copy {slot}) is read before it is written"),
                };
                // Once is enough.
                held.assume();
                self.fault(at, text);
            }
            return;
        }
        held.write(part, at);
        self.used.entry((at, *tile, *slot)).or_insert(false);
        for &other in &code.tiles[*tile].sharing {
            let sharing = &code.tiles[other];
            for slot in 0..sharing.slots {
                let first = sharing.address + sharing.bytes * slot as u64;
                if *start < first + sharing.bytes && first < *end {
                    let held = self.held[other].get_mut(index(sharing, slot));
                    held.into_iter().for_each(|held| held.take(*tile));
                }
            }
        }
    }

    fn touch(&mut self, at: usize, memory: usize, extent: Extent, write: bool, queue: usize) {
        let now = &self.clocks[queue];
        let mut races = Vec::new();
        for before in &self.touched[memory] {
            let ordered = before.queue == queue || now[before.queue] >= before.time;
            if !ordered && (write || before.write) && before.extent.meets(&extent) {
                races.push((before.write, before.queue));
            }
        }
        for (wrote, other) in races {
            let what = match &extent {
                Extent::View { param, .. } => format!("`{}`", self.code.kernel.params[*param as usize].name),
                Extent::Tile { tile, start, end, .. } => {
                    format!("bytes {start}..{end} of `{}`", self.code.kernel.tiles[*tile as usize].space)
                }
            };
            let (verb, did) = (if write { "writes" } else { "reads" }, if wrote { "writes" } else { "reads" });
            let (here, there) = (self.queue_name(queue), self.queue_name(other));
            let text = format!("race: {here} {verb} {what}, which {there} {did} earlier, and no event orders them");
            self.fault(at, text);
        }
        // What every user of the memory is ordered after cannot race with anything any more; nor can what this access stands for.
        let (clocks, users) = (&self.clocks, &self.users[memory]);
        self.touched[memory].retain(|touch| {
            let done = users.iter().all(|&user| user == touch.queue || clocks[user][touch.queue] >= touch.time);
            let replaced = touch.queue == queue && touch.write == write && touch.extent == extent;
            !done && !replaced
        });
        self.touched[memory].push(Touch { extent, write, queue, time: self.clocks[queue][queue], at });
    }

    fn queue_name(&self, queue: usize) -> String {
        let pipe = self.code.pipes.iter().rfind(|pipe| pipe.queue <= queue);
        match pipe {
            Some(pipe) if pipe.each => format!("pipe `{}` of lane {}", pipe.name, queue - pipe.queue),
            Some(pipe) => format!("pipe `{}`", pipe.name),
            None => String::new(),
        }
    }

    fn flag(&self, from: usize, to: usize, id: i64) -> String {
        format!("event {id} from {} to {}", self.queue_name(from), self.queue_name(to)).replace(" pipe ", " ")
    }
}

impl Code<'_> {
    /// The memory of an access by a lane.
    pub fn memory(&self, access: &Access, lane: usize) -> usize {
        match &access.target {
            Target::Tile { tile, .. } => self.tiles[*tile].memory + if self.tiles[*tile].each { lane } else { 0 },
            Target::Param { memory, .. } => *memory,
        }
    }
}

/// What an access touches for these values; `None` if it touches nothing.
pub(super) fn extent(code: &Code, access: &Access, values: &[i64]) -> Option<Extent> {
    match &access.target {
        Target::Tile { tile, slot, axes } => {
            let region = axes.iter().map(|(offset, size)| Some((offset.eval(values)?, size.eval(values)?)));
            let region: Option<Vec<(i64, i64)>> = region.collect();
            if region.as_ref().is_some_and(|axes| axes.iter().any(|&(_, size)| size <= 0)) {
                return None;
            }
            let (id, tile) = (*tile as u32, &code.tiles[*tile]);
            let slot = slot.eval(values).filter(|slot| (0..tile.slots).contains(slot));
            let (first, last) = slot.map_or((0, tile.slots), |slot| (slot, slot + 1));
            let byte = |slot: i64| tile.address.saturating_add(tile.bytes.saturating_mul(slot as u64));
            Some(Extent::Tile { tile: id, slot, start: byte(first), end: byte(last), region })
        }
        Target::Param { param, axes, empty, .. } => {
            if empty.iter().any(|size| size.eval(values).is_some_and(|size| size <= 0)) {
                return None;
            }
            let indices = axes.iter().map(|axis| {
                let (start, steps) = axis.as_ref()?;
                let steps = steps.iter().map(|(step, count)| Some((step.eval(values)?, count.eval(values)?)));
                Indices::new(start.eval(values)?, steps.collect::<Option<Vec<(i64, i64)>>>()?)
            });
            Some(Extent::View { param: *param, axes: indices.collect() })
        }
    }
}

/// All lanes together, or one after the other where they may differ.
fn split(each: bool, lanes: &[usize]) -> Vec<Vec<usize>> {
    if each { lanes.iter().map(|&lane| vec![lane]).collect() } else { vec![lanes.to_vec()] }
}

fn join(clock: &mut Clock, other: &Clock) {
    clock.iter_mut().zip(other).for_each(|(a, b)| *a = (*a).max(*b));
}
