//! A kernel prepared for walking: queues, memories and expressions by number.
//!
//! A queue is a pipe of one core: of each lane's own, where lanes carry out what is on the pipe. A memory is a space of one core,
//! or a parameter.

use std::collections::BTreeMap;

use tarsia_tensor::Dim;

use super::{
    expr::{Expr, Variables},
    turns::{Turns, turns},
};
use crate::{
    Instr, Kernel, Machine, Opcode, Operand, Region, Stmt, TileId, View,
    optable::Role,
    text::{Anchor, part},
    verify::kernel::tile_bytes,
};

/// A kernel for one machine.
pub(super) struct Code<'k> {
    pub kernel: &'k Kernel,
    pub machine: &'k Machine,
    pub variables: Variables,
    pub lanes: usize,
    pub lane: Option<usize>,
    /// Tiles that hold nothing but picked positions, and the first position that may be picked.
    picks: BTreeMap<TileId, Dim>,
    pub pipes: Vec<Pipe<'k>>,
    pub tiles: Vec<Tile>,
    /// Number of memories.
    pub memories: usize,
    pub grid: Vec<(usize, Expr)>,
    pub body: Vec<Node>,
    pub anchors: Vec<Anchor>,
    /// What is wrong already.
    pub faults: Vec<(Anchor, String)>,
}

/// A pipe that the kernel uses.
pub(super) struct Pipe<'k> {
    pub name: &'k str,
    /// Its kind of core.
    pub kind: usize,
    /// Whether each lane has its own.
    pub each: bool,
    /// The queue of the first lane; the others follow.
    pub queue: usize,
}

/// A tile in memory.
pub(super) struct Tile {
    /// The memory; the first lane's, if each has its own.
    pub memory: usize,
    pub each: bool,
    pub address: u64,
    /// Of one copy.
    pub bytes: u64,
    pub slots: i64,
    /// Other tiles with some of its bytes.
    pub sharing: Vec<usize>,
}

/// A statement and the number of its anchor.
pub(super) struct Node {
    pub at: usize,
    /// Scalars that it needs, and the kinds of core that need them.
    pub needs: Vec<usize>,
    pub kinds: Vec<usize>,
    pub kind: NodeKind,
}

pub(super) enum NodeKind {
    For {
        var: usize,
        end: Expr,
        step: i64,
        body: Vec<Node>,
        turns: Turns,
    },
    /// `each` says whether lanes may decide differently.
    If {
        condition: Expr,
        each: bool,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Work {
        pipe: usize,
        accesses: Vec<Access>,
        defines: Vec<(usize, Expr)>,
    },
    Event {
        from: usize,
        to: usize,
        event: Expr,
        ids: i64,
        set: bool,
        shown: Dim,
    },
    Barrier,
    Nothing,
}

/// One operand that is touched.
pub(super) struct Access {
    pub write: bool,
    pub target: Target,
}

pub(super) enum Target {
    Tile {
        tile: usize,
        slot: Expr,
        axes: Vec<(Expr, Expr)>,
    },
    /// The memory, the parameter; per axis start, steps and counts, or nothing where an index is computed.
    Param {
        memory: usize,
        param: u32,
        axes: Vec<Option<(Expr, Vec<(Expr, Expr)>)>>,
        empty: Vec<Expr>,
        /// Whether an axis is numbered by picked positions, which are comparable only inside of an item.
        picked: bool,
    },
}

impl<'k> Code<'k> {
    pub fn new(kernel: &'k Kernel, machine: &'k Machine, path: &Anchor) -> Code<'k> {
        let mut code = Code {
            kernel,
            machine,
            variables: Variables::default(),
            lanes: kernel.lanes.as_ref().map_or(1, |lanes| lanes.count.max(1)),
            lane: None,
            picks: picks(&kernel.body),
            pipes: Vec::new(),
            tiles: Vec::new(),
            memories: kernel.params.len(),
            grid: Vec::new(),
            body: Vec::new(),
            anchors: Vec::new(),
            faults: Vec::new(),
        };
        code.lane = kernel.lanes.as_ref().map(|lanes| code.variables.number(&lanes.var));
        code.tiles();
        code.grid =
            kernel.grid.iter().map(|(var, size)| (code.variables.number(var), code.variables.expr(size))).collect();
        let mut path = path.clone();
        path.push(part::BODY);
        let mut scope = Scope { path, scalars: Vec::new(), each: false };
        code.body = code.block(&kernel.body, &mut scope);
        code
    }

    /// The number of queues.
    pub fn queues(&self) -> usize {
        self.pipes.last().map_or(0, |pipe| pipe.queue + self.width(pipe))
    }

    /// How many lanes have this pipe.
    pub fn width(&self, pipe: &Pipe) -> usize {
        if pipe.each { self.lanes } else { 1 }
    }

    /// The kind of core that lanes are.
    fn lane_kind(&self) -> Option<usize> {
        let lanes = self.kernel.lanes.as_ref()?;
        self.machine.cores.iter().position(|core| core.spaces.contains(&lanes.space) && core.lanes >= lanes.count)
    }

    fn tiles(&mut self) {
        let mut spaces: Vec<(&str, usize)> = Vec::new();
        for tile in &self.kernel.tiles {
            let each = self.kernel.lanes.as_ref().is_some_and(|lanes| lanes.space == tile.space);
            let memory = match spaces.iter().find(|(name, _)| *name == tile.space) {
                Some(&(_, memory)) => memory,
                None => {
                    spaces.push((&tile.space, self.memories));
                    self.memories += if each { self.lanes } else { 1 };
                    spaces[spaces.len() - 1].1
                }
            };
            let (address, bytes) = (tile.address.unwrap_or(0) as u64, tile_bytes(tile).unwrap_or(0) as u64);
            self.tiles.push(Tile { memory, each, address, bytes, slots: tile.slots as i64, sharing: Vec::new() });
        }
        let meet = |a: &Tile, b: &Tile| {
            let end = |tile: &Tile| tile.address + tile.bytes * tile.slots as u64;
            a.memory == b.memory && a.address < end(b) && b.address < end(a)
        };
        for at in 0..self.tiles.len() {
            let sharing =
                (0..self.tiles.len()).filter(|&other| other != at && meet(&self.tiles[at], &self.tiles[other]));
            self.tiles[at].sharing = sharing.collect();
        }
    }

    /// The number of a pipe.
    fn pipe(&mut self, name: &str) -> Option<usize> {
        if let Some(at) = self.pipes.iter().position(|pipe| pipe.name == name) {
            return Some(at);
        }
        let (kind, name) =
            self.machine.cores.iter().enumerate().find_map(|(kind, core)| {
                core.pipes.iter().find(|pipe| *pipe == name).map(|pipe| (kind, pipe.as_str()))
            })?;
        let each = self.kernel.lanes.is_some() && self.lane_kind() == Some(kind);
        let queue = self.queues();
        self.pipes.push(Pipe { name, kind, each, queue });
        Some(self.pipes.len() - 1)
    }

    fn block(&mut self, body: &[Stmt], scope: &mut Scope) -> Vec<Node> {
        let scalars = scope.scalars.len();
        let nodes = body.iter().enumerate().map(|(at, stmt)| {
            scope.path.push(at as u32);
            self.anchors.push(scope.path.clone());
            let node = self.stmt(stmt, scope);
            scope.path.pop();
            node
        });
        let nodes = nodes.collect();
        scope.scalars.truncate(scalars);
        nodes
    }

    fn nested(&mut self, block: u32, body: &[Stmt], scope: &mut Scope, each: bool) -> Vec<Node> {
        let outer = scope.each;
        scope.each |= each;
        scope.path.push(block);
        let nodes = self.block(body, scope);
        scope.path.pop();
        scope.each = outer;
        nodes
    }

    fn stmt(&mut self, stmt: &Stmt, scope: &mut Scope) -> Node {
        let at = self.anchors.len() - 1;
        match stmt {
            Stmt::Instr(instr) => self.instr(instr, at, scope),
            Stmt::If { condition, then, otherwise } => {
                let condition = self.variables.expr(condition);
                let each = self.differs(&condition);
                let then = self.nested(0, then, scope, each);
                let otherwise = self.nested(1, otherwise, scope, each);
                let needs = scope.needed(&[&condition]);
                let kinds = kinds(then.iter().chain(&otherwise));
                Node { at, needs, kinds, kind: NodeKind::If { condition, each, then, otherwise } }
            }
            Stmt::For { var, end, step, body } => {
                let (var, end) = (self.variables.number(var), self.variables.expr(end));
                let each = self.differs(&end);
                let body = self.nested(0, body, scope, each);
                let turns = turns(&body, var, *step, each);
                let (needs, kinds) = (scope.needed(&[&end]), kinds(&body));
                Node { at, needs, kinds, kind: NodeKind::For { var, end, step: (*step).max(1), body, turns } }
            }
        }
    }

    /// Whether lanes have different values of an expression.
    fn differs(&self, expr: &Expr) -> bool {
        self.lane.is_some_and(|lane| expr.uses(lane))
    }

    fn instr(&mut self, instr: &Instr, at: usize, scope: &mut Scope) -> Node {
        let nothing = Node { at, needs: Vec::new(), kinds: Vec::new(), kind: NodeKind::Nothing };
        match &instr.op {
            Opcode::SetEvent { from, to, event } => self.event(from, to, event, true, at, scope).unwrap_or(nothing),
            Opcode::WaitEvent { from, to, event } => self.event(from, to, event, false, at, scope).unwrap_or(nothing),
            Opcode::Barrier { pipe: Some(name) } => {
                // A pipe is in order by itself.
                if self.pipe(name).is_none() {
                    self.faults.push((scope.path.clone(), format!("there is no pipe `{name}`")));
                }
                nothing
            }
            Opcode::Barrier { pipe: None } => Node { kind: NodeKind::Barrier, ..nothing },
            _ => self.work(instr, at, scope).unwrap_or(nothing),
        }
    }

    fn event(&mut self, from: &str, to: &str, event: &Dim, set: bool, at: usize, scope: &mut Scope) -> Option<Node> {
        let (Some(a), Some(b)) = (self.pipe(from), self.pipe(to)) else {
            self.faults.push((scope.path.clone(), format!("there is no pipe `{from}` or no pipe `{to}`")));
            return None;
        };
        let (ids, expr) = (self.machine.event_ids(from, to) as i64, self.variables.expr(event));
        let queue = &self.pipes[if set { a } else { b }];
        let (once, kind, name) = (!queue.each, queue.kind, queue.name);
        self.once(once, &[&expr], name, scope);
        let needs = scope.needed(&[&expr]);
        let kind_of = NodeKind::Event { from: a, to: b, event: expr, ids, set, shown: event.clone() };
        Some(Node { at, needs, kinds: vec![kind], kind: kind_of })
    }

    /// What is carried out once must not depend on a lane.
    fn once(&mut self, once: bool, exprs: &[&Expr], pipe: &str, scope: &Scope) {
        if once && self.lane.is_some() && (scope.each || exprs.iter().any(|expr| self.differs(expr))) {
            self.faults.push((
                scope.path.clone(),
                format!("pipe `{pipe}` is not a lane's: it has no value of the lane's variable"),
            ));
        }
    }

    fn work(&mut self, instr: &Instr, at: usize, scope: &mut Scope) -> Option<Node> {
        let pipe = self.machine.pipe_of(self.kernel, instr).ok()?;
        let pipe = self.pipe(pipe)?;
        let (row, mut accesses) = (instr.op.row(), Vec::new());
        for (role, operand) in row.src.iter().zip(&instr.src) {
            accesses.extend(self.access(instr, role, operand, false));
        }
        for (role, operand) in row.dst.iter().zip(&instr.dst) {
            if instr.op.reads_destination() {
                accesses.extend(self.access(instr, role, operand, false));
            }
            accesses.extend(self.access(instr, role, operand, true));
        }
        let (each, kind, name) = (self.pipes[pipe].each, self.pipes[pipe].kind, self.pipes[pipe].name);
        let exprs: Vec<&Expr> = accesses.iter().flat_map(Access::exprs).collect();
        self.once(!each, &exprs, name, scope);
        let needs = scope.needed(&exprs);
        let private =
            accesses.iter().any(|access| matches!(access.target, Target::Tile { tile, .. } if self.tiles[tile].each));
        if private && !each {
            let text = format!("pipe `{name}` is not a lane's: it does not reach the tiles of each lane");
            self.faults.push((scope.path.clone(), text));
        }
        let mut defines = Vec::new();
        for operand in &instr.dst {
            if let Operand::Scalar(symbol, bound) = operand {
                let scalar = (self.variables.number(symbol), self.variables.expr(bound));
                scope.scalars.push(scalar.0);
                defines.push(scalar);
            }
        }
        Some(Node { at, needs, kinds: vec![kind], kind: NodeKind::Work { pipe, accesses, defines } })
    }

    /// The rows that a part of picked positions chooses.
    fn picked(&mut self, index: &Operand, alone: bool) -> Option<(Expr, Vec<(Expr, Expr)>)> {
        let Operand::Tile(region) = index else { return None };
        let first = self.picks.get(&region.tile).filter(|_| alone)?.clone();
        let ([offset], [size]) = (region.offset.as_slice(), region.size.as_slice()) else { return None };
        let start = self.variables.expr(&(first + offset.clone()));
        Some((start, vec![(self.variables.expr(&Dim::ONE), self.variables.expr(size))]))
    }

    fn access(&mut self, instr: &Instr, role: &Role, operand: &Operand, write: bool) -> Option<Access> {
        let target = match operand {
            Operand::Tile(Region { tile, slot, offset, size }) => {
                let slot = self.variables.expr(slot);
                let axes = offset.iter().zip(size);
                let axes =
                    axes.map(|(offset, size)| (self.variables.expr(offset), self.variables.expr(size))).collect();
                Target::Tile { tile: tile.0 as usize, slot, axes }
            }
            Operand::Global(view) => {
                let index = if role.name == "table" { instr.src.get(1) } else { None };
                self.view(view, index)
            }
            _ => return None,
        };
        Some(Access { write, target })
    }

    /// Where an `index` chooses rows they are unknown; but different ones of picked positions are different rows. They are numbered
    /// from the first position that may be picked on, so that positions picked from different places do not meet either.
    fn view(&mut self, view: &View, index: Option<&Operand>) -> Target {
        let sizes: Vec<Expr> = view.size.iter().map(|size| self.variables.expr(size)).collect();
        let axes = view.axes.iter().map(|axis| {
            let computed = index.is_some() && axis.steps.iter().any(|(along, _)| *along == 0);
            if computed {
                return self.picked(index?, axis.steps.len() == 1);
            }
            let steps =
                axis.steps.iter().map(|(along, step)| Some((self.variables.expr(step), sizes.get(*along)?.clone())));
            let steps: Option<Vec<(Expr, Expr)>> = steps.collect();
            Some((self.variables.expr(&axis.start), steps?))
        });
        let axes: Vec<_> = axes.collect();
        let picked = index.is_some() && axes.iter().all(Option::is_some);
        let memory = self.kernel.memory_of(view.param).0 as usize;
        Target::Param { memory, param: view.param.0, axes, empty: sizes, picked }
    }
}

/// Tiles that only one selection of positions writes, and its first position.
fn picks(body: &[Stmt]) -> BTreeMap<TileId, Dim> {
    let mut written: BTreeMap<TileId, Option<Dim>> = BTreeMap::new();
    collect_picks(body, &mut written);
    written.into_iter().filter_map(|(tile, first)| Some((tile, first?))).collect()
}

fn collect_picks(body: &[Stmt], written: &mut BTreeMap<TileId, Option<Dim>>) {
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) => {
                for operand in &instr.dst {
                    let Operand::Tile(region) = operand else { continue };
                    let first = match (&instr.op, instr.src.get(2)) {
                        (Opcode::SelectRows, Some(Operand::Index(first))) => Some(first.clone()),
                        _ => None,
                    };
                    let again = written.contains_key(&region.tile);
                    written.insert(region.tile, first.filter(|_| !again));
                }
            }
            Stmt::For { body, .. } => collect_picks(body, written),
            Stmt::If { then, otherwise, .. } => {
                collect_picks(then, written);
                collect_picks(otherwise, written);
            }
        }
    }
}

impl Access {
    fn exprs(&self) -> Vec<&Expr> {
        match &self.target {
            Target::Tile { slot, axes, .. } => {
                axes.iter().flat_map(|(offset, size)| [offset, size]).chain([slot]).collect()
            }
            Target::Param { axes, empty, .. } => {
                let known = axes.iter().flatten();
                known
                    .flat_map(|(start, steps)| steps.iter().map(|(step, _)| step).chain([start]))
                    .chain(empty)
                    .collect()
            }
        }
    }
}

/// Where a statement stands.
struct Scope {
    path: Anchor,
    /// Scalars that instructions have defined.
    scalars: Vec<usize>,
    /// Whether lanes may differ in coming here.
    each: bool,
}

impl Scope {
    fn needed(&self, exprs: &[&Expr]) -> Vec<usize> {
        self.scalars.iter().copied().filter(|&scalar| exprs.iter().any(|expr| expr.uses(scalar))).collect()
    }
}

fn kinds<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Vec<usize> {
    let mut kinds: Vec<usize> = nodes.into_iter().flat_map(|node| node.kinds.iter().copied()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Calls `see` for every statement of a block.
pub(super) fn every<'n>(nodes: &'n [Node], see: &mut dyn FnMut(&'n Node)) {
    for node in nodes {
        see(node);
        match &node.kind {
            NodeKind::For { body, .. } => every(body, see),
            NodeKind::If { then, otherwise, .. } => {
                every(then, see);
                every(otherwise, see);
            }
            _ => {}
        }
    }
}
