//! What a kernel does for given sizes, statement by statement: every loop is unrolled, every element looked at by itself.
//!
//! This is the judge of mutants that the verifier accepts, and shares nothing with it. A run is safe if every two accesses to one
//! element, of which one writes, are ordered by the transitive closure of queues, signals and barriers; signals and waits
//! alternate; every part of a tile is inside, aligned, and holds what this tile was last given. Two safe runs are the same if every
//! operand reads what the same instructions have written. What cannot be decided is not safe.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use tarsia::{
    Dim, Machine,
    tile::{Instr, Kernel, Opcode, Operand, Stmt},
};
use tarsia_tensor::Symbol;

/// Statements that are unrolled.
const STATEMENTS: usize = 16_000;
/// Elements that are looked at.
const ELEMENTS: usize = 4_000_000;
/// The memory that parameters are in.
const PARAMETERS: usize = usize::MAX;

/// What every operand of every instruction reads, and what parameters hold in the end: who has written it.
pub type Flow = Vec<u64>;

/// Runs one item. `Err` says what is not safe, or why that cannot be told.
pub fn run(kernel: &Kernel, machine: &Machine, values: &dyn Fn(&str) -> i64, last_item: bool) -> Result<Flow, String> {
    let mut names: Vec<(usize, &str)> = Vec::new();
    for (kind, core) in machine.cores.iter().enumerate() {
        names.extend(core.pipes.iter().map(|pipe| (kind, pipe.as_str())));
    }
    let lane_kind = kernel
        .lanes
        .as_ref()
        .and_then(|lanes| machine.cores.iter().position(|core| core.spaces.contains(&lanes.space)));
    let lanes = kernel.lanes.as_ref().map_or(1, |lanes| lanes.count);
    let mut queues = Vec::new();
    for &(kind, name) in &names {
        queues.extend((0..if lane_kind == Some(kind) { lanes } else { 1 }).map(|lane| Queue { name, kind, lane }));
    }
    let mut written: Vec<_> =
        kernel.params.iter().filter(|p| p.access != tarsia::tile::Access::Read).map(|p| p.dtype).collect();
    written.sort_by_key(|dtype| dtype.name());
    if written.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two parameters may be one buffer".into());
    }
    let mut run = Run {
        kernel,
        machine,
        values,
        local: HashMap::new(),
        lane_kind,
        lanes,
        before: vec![Vec::new(); queues.len()],
        queues,
        ancestors: Vec::new(),
        open: HashMap::new(),
        taken: HashMap::new(),
        queue_of: Vec::new(),
        whole: BTreeMap::new(),
        scalars: false,
        shadow: BTreeMap::new(),
        ordinal: 0,
        flow: Vec::new(),
        elements: ELEMENTS,
        statements: STATEMENTS,
    };
    for (var, size) in &kernel.grid {
        let size = run.value(size)?;
        if size <= 0 {
            return Ok(Vec::new());
        }
        run.local.insert(var.clone(), if last_item { size - 1 } else { 0 });
    }
    let all: Vec<usize> = (0..lanes).collect();
    run.block(&kernel.body, &all)?;
    let kinds = run.queue_of.iter().map(|&queue| run.queues[queue].kind);
    if run.scalars && kinds.clone().min() != kinds.max() {
        return Err("a scalar on one of several kinds of core".into());
    }
    if !run.open.is_empty() {
        return Err("a signal is left over".into());
    }
    for (param, cells) in run.shadow.iter().filter(|(memory, _)| memory.0 == PARAMETERS) {
        let by: Vec<Option<usize>> = cells.iter().map(|cell| cell.write.map(|_| cell.by)).collect();
        run.flow.push(hash(&(param, by)));
    }
    Ok(run.flow)
}

pub struct Queue<'m> {
    name: &'m str,
    kind: usize,
    pub lane: usize,
}

/// The last write of one element, and the reads since.
#[derive(Clone, Default)]
struct Cell {
    write: Option<usize>,
    reads: Vec<usize>,
    /// The instruction that wrote it, and through which tile.
    by: usize,
    tile: usize,
}

pub struct Run<'k> {
    pub kernel: &'k Kernel,
    pub machine: &'k Machine,
    values: &'k dyn Fn(&str) -> i64,
    local: HashMap<Symbol, i64>,
    lane_kind: Option<usize>,
    lanes: usize,
    pub queues: Vec<Queue<'k>>,
    /// Of every queue: the events that the next one on it comes after.
    before: Vec<Vec<usize>>,
    /// Of every event: all that it comes after, as bits.
    ancestors: Vec<Vec<u64>>,
    open: HashMap<(usize, usize, i64), usize>,
    taken: HashMap<(usize, usize, i64), usize>,
    /// The queue of every event.
    queue_of: Vec<usize>,
    /// By parameter: all accesses, whether they write, and whether an index chooses the elements.
    whole: BTreeMap<usize, Vec<(usize, bool, bool)>>,
    /// Whether scalars are defined.
    scalars: bool,
    /// By memory and which of them: elements of parameters, bytes of tiles in units of the smallest element of the space.
    shadow: BTreeMap<(usize, usize), Vec<Cell>>,
    ordinal: usize,
    flow: Flow,
    pub elements: usize,
    statements: usize,
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl<'k> Run<'k> {
    pub fn value(&self, dim: &Dim) -> Result<i64, String> {
        let bind =
            |symbol: &Symbol| Some(self.local.get(symbol).copied().unwrap_or_else(|| (self.values)(symbol.name())));
        dim.eval(&bind).map_err(|error| error.to_string())
    }

    fn block(&mut self, body: &'k [Stmt], lanes: &[usize]) -> Result<(), String> {
        body.iter().try_for_each(|stmt| self.stmt(stmt, lanes))
    }

    fn set_lane(&mut self, lane: usize) {
        if let Some(lanes) = &self.kernel.lanes {
            self.local.insert(lanes.var.clone(), lane as i64);
        }
    }

    fn stmt(&mut self, stmt: &'k Stmt, lanes: &[usize]) -> Result<(), String> {
        self.statements = self.statements.checked_sub(1).ok_or("too many statements")?;
        match stmt {
            Stmt::Instr(instr) => self.instr(instr, lanes),
            Stmt::If { condition, then, otherwise } => {
                // Lanes may go different ways.
                let mut ways = [Vec::new(), Vec::new()];
                for &lane in lanes {
                    self.set_lane(lane);
                    ways[usize::from(self.value(condition)? <= 0)].push(lane);
                }
                for (way, body) in ways.iter().zip([then, otherwise]).filter(|(way, _)| !way.is_empty()) {
                    self.block(body, way)?;
                }
                Ok(())
            }
            Stmt::For { var, end, step, body } => {
                let mut ends = Vec::new();
                for &lane in lanes {
                    self.set_lane(lane);
                    ends.push(self.value(end)?);
                }
                let (end, mut at) = (ends[0], 0);
                if ends.iter().any(|other| *other != end) {
                    return Err("lanes turn differently often".into());
                }
                while at < end {
                    self.local.insert(var.clone(), at);
                    self.block(body, lanes)?;
                    at += step;
                }
                self.local.remove(var);
                Ok(())
            }
        }
    }

    fn is_each(&self, kind: usize) -> bool {
        self.lane_kind == Some(kind)
    }

    /// The queues of a pipe: of the lanes given, or the only one.
    fn queues_of(&self, name: &str, lanes: &[usize]) -> Result<Vec<usize>, String> {
        let all = (0..self.queues.len()).filter(|&at| self.queues[at].name == name);
        let found: Vec<usize> =
            all.filter(|&at| !self.is_each(self.queues[at].kind) || lanes.contains(&self.queues[at].lane)).collect();
        if found.is_empty() { Err(format!("no pipe {name}")) } else { Ok(found) }
    }

    /// A new event on a queue, after what the queue is after, and after others.
    fn happen(&mut self, queue: usize, also: &[usize]) -> usize {
        let id = self.ancestors.len();
        let mut bits = vec![0u64; id / 64 + 1];
        for &before in self.before[queue].iter().chain(also) {
            self.ancestors[before].iter().enumerate().for_each(|(at, word)| bits[at] |= word);
            bits[before / 64] |= 1 << (before % 64);
        }
        self.ancestors.push(bits);
        self.queue_of.push(queue);
        self.before[queue] = vec![id];
        id
    }

    fn is_after(&self, later: usize, earlier: usize) -> bool {
        later == earlier || self.ancestors[later].get(earlier / 64).is_some_and(|word| word >> (earlier % 64) & 1 == 1)
    }

    fn instr(&mut self, instr: &'k Instr, lanes: &[usize]) -> Result<(), String> {
        let all: Vec<usize> = (0..self.lanes).collect();
        match &instr.op {
            Opcode::SetEvent { from, to, event } | Opcode::WaitEvent { from, to, event } => {
                let set = matches!(instr.op, Opcode::SetEvent { .. });
                self.set_lane(lanes[0]);
                let id = self.value(event)?;
                if !(0..self.machine.event_ids(from, to) as i64).contains(&id) {
                    return Err("no such event".into());
                }
                let (own, other) = if set { (from, to) } else { (to, from) };
                for mine in self.queues_of(own, lanes)? {
                    let each = [mine].iter().all(|&q| self.is_each(self.queues[q].kind));
                    let partners =
                        self.queues_of(other, if each { std::slice::from_ref(&self.queues[mine].lane) } else { &all })?;
                    for partner in partners {
                        let (a, b) = if set { (mine, partner) } else { (partner, mine) };
                        self.signal((a, b, id), set)?;
                    }
                }
                Ok(())
            }
            Opcode::Barrier { pipe: Some(_) } => Ok(()),
            Opcode::Barrier { pipe: None } => {
                for kind in 0..self.machine.cores.len() {
                    for &lane in if self.is_each(kind) { lanes } else { &[0] } {
                        let core: Vec<usize> = (0..self.queues.len())
                            .filter(|&q| self.queues[q].kind == kind && self.queues[q].lane == lane)
                            .collect();
                        let before: Vec<usize> = core.iter().flat_map(|&q| self.before[q].clone()).collect();
                        core.iter().for_each(|&q| self.before[q].clone_from(&before));
                    }
                }
                Ok(())
            }
            _ => {
                let pipe = self.machine.pipe_of(self.kernel, instr)?.to_owned();
                for queue in self.queues_of(&pipe, lanes)? {
                    self.set_lane(self.queues[queue].lane);
                    self.work(instr, queue)?;
                }
                self.ordinal += 1;
                Ok(())
            }
        }
    }

    fn signal(&mut self, flag: (usize, usize, i64), set: bool) -> Result<(), String> {
        if set {
            let event = self.happen(flag.0, &[]);
            if self.taken.get(&flag).is_some_and(|&wait| !self.is_after(event, wait)) {
                return Err("a signal may come before the last was taken".into());
            }
            if self.open.insert(flag, event).is_some() {
                return Err("a signal is given twice".into());
            }
        } else {
            let signal = self.open.remove(&flag).ok_or("nothing to wait for")?;
            let event = self.happen(flag.1, &[signal]);
            self.taken.insert(flag, event);
        }
        Ok(())
    }

    fn work(&mut self, instr: &'k Instr, queue: usize) -> Result<(), String> {
        let event = self.happen(queue, &[]);
        let row = instr.op.row();
        for (role, operand) in row.src.iter().zip(&instr.src) {
            self.access(operand, role.name == "table", event, queue, false)?;
        }
        for (role, operand) in row.dst.iter().zip(&instr.dst) {
            if instr.op.reads_destination() {
                self.access(operand, role.name == "table", event, queue, false)?;
            }
            self.access(operand, role.name == "table", event, queue, true)?;
            if let Operand::Scalar(symbol, bound) = operand {
                self.scalars = true;
                let value = self.value(bound)?.min((self.values)("a scalar"));
                self.local.insert(symbol.clone(), value);
                (0..self.queues.len()).for_each(|other| self.before[other].push(event));
            }
        }
        Ok(())
    }

    fn access(
        &mut self,
        operand: &Operand,
        computed: bool,
        event: usize,
        queue: usize,
        write: bool,
    ) -> Result<(), String> {
        let (memory, cells, tile) = match operand {
            Operand::Tile(region) => {
                let (memory, cells) = self.tile_cells(region, queue)?;
                (memory, cells, region.tile.0 as usize + 1)
            }
            Operand::Global(view) if computed => return self.computed(view.param.0 as usize, event, write),
            Operand::Global(view) => ((PARAMETERS, view.param.0 as usize), self.view_cells(view)?, 0),
            _ => return Ok(()),
        };
        if memory.0 == PARAMETERS {
            self.beside_computed(memory.1, event, write)?;
        }
        let mut table = self.shadow.remove(&memory).unwrap_or_default();
        let mut seen = DefaultHasher::new();
        for at in cells {
            if table.len() <= at {
                table.resize(at + 1, Cell::default());
            }
            let cell = &mut table[at];
            let ordered = |other: &usize| self.is_after(event, *other);
            if !cell.write.iter().all(ordered) || write && !cell.reads.iter().all(ordered) {
                return Err(format!("a race at {event}"));
            }
            if write {
                cell.reads.clear();
                (cell.write, cell.by, cell.tile) = (Some(event), self.ordinal, tile);
                continue;
            }
            if cell.reads.last() != Some(&event) {
                cell.reads.retain(|&read| self.queue_of[read] != queue);
                cell.reads.push(event);
            }
            if tile > 0 && (cell.write.is_none() || cell.tile != tile) {
                return Err("a tile does not hold what is read".into());
            }
            (cell.write.is_some(), cell.by).hash(&mut seen);
        }
        self.shadow.insert(memory, table);
        if !write {
            self.flow.push(hash(&(self.ordinal, seen.finish())));
        }
        Ok(())
    }

    /// Elements that an index chooses: any, so that the order to every other access to the parameter counts.
    fn computed(&mut self, param: usize, event: usize, write: bool) -> Result<(), String> {
        let all = self.whole.get(&param).into_iter().flatten();
        if all.clone().any(|&(other, wrote, _)| (write || wrote) && !self.is_after(event, other)) {
            return Err("a race over chosen elements".into());
        }
        let written = all.filter(|(_, wrote, _)| *wrote).count();
        self.flow.push(hash(&(self.ordinal, param, written)));
        self.whole.entry(param).or_default().push((event, write, true));
        Ok(())
    }

    fn beside_computed(&mut self, param: usize, event: usize, write: bool) -> Result<(), String> {
        let chosen = self.whole.get(&param).into_iter().flatten().filter(|(.., computed)| *computed);
        if chosen.clone().any(|&(other, wrote, _)| (write || wrote) && !self.is_after(event, other)) {
            return Err("a race with chosen elements".into());
        }
        let written = chosen.filter(|(_, wrote, _)| *wrote).count();
        self.flow.push(hash(&(param, written)));
        self.whole.entry(param).or_default().push((event, write, false));
        Ok(())
    }
}
