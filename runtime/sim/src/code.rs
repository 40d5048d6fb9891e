//! A kernel made ready to be walked: expressions compiled, every instruction with its pipe, split by the kind of core that issues it.
//!
//! ```text
//! Kernel ─► Code ─┬─ roles   one per kind of core that takes part: a tree of loops, and the same as flat steps
//!                 ├─ works   instructions: pipe, operands' sizes, addresses in device memory
//!                 └─ grid    variables and extents of the work items
//! ```

mod compile;

use std::collections::BTreeMap;

use tarsia_tensor::Symbol;
use tarsia_tile::{Instr, Kernel, Machine, TileId, machine::CoreKind, optable::Class};

use crate::{
    SimError,
    expr::{Expr, Names, Var},
    memory::MemoryCode,
};
use compile::Compiler;

/// A kernel ready to be walked.
pub(crate) struct Code<'k> {
    pub kernel: &'k Kernel,
    pub machine: &'k Machine,
    /// Every pipe of the machine.
    pub pipes: Vec<PipeKind>,
    pub roles: Vec<Role>,
    pub works: Vec<Work<'k>>,
    /// Variable and extent.
    pub grid: Vec<(Var, i64)>,
    pub lane: Option<Var>,
    pub variables: usize,
    /// How many groups of cores can work side by side.
    pub groups: usize,
}

/// A pipe of a kind of core.
#[derive(Clone, Debug)]
pub(crate) struct PipeKind {
    pub name: String,
    /// Index among the machine's kinds of core.
    pub core: usize,
}

/// What one kind of core does.
pub(crate) struct Role {
    /// Index among the machine's kinds of core.
    pub core: usize,
    /// How many cores of this kind a group has.
    pub lanes: usize,
    pub body: Vec<Node>,
    pub steps: Vec<Step>,
    /// Only what touches device memory.
    pub memory_steps: Vec<Step>,
}

impl Role {
    /// The loops around a step: variable, increment and number, innermost first.
    pub fn loops_around(&self, at: usize) -> impl Iterator<Item = (Var, i64, usize)> + '_ {
        // A loop's last step comes behind all of its body.
        self.steps.iter().enumerate().skip(at).filter_map(move |(last, step)| match step {
            Step::Next { var, step, body, id, .. } if *body <= at && at <= last => Some((*var, *step, *id)),
            _ => None,
        })
    }

    /// The loop outside of all others in which every access to device memory is, if there is one.
    pub fn memory_loop(&self, works: &[Work<'_>]) -> Option<&Node> {
        let mut touching = self.body.iter().filter(|node| touches_memory(std::slice::from_ref(node), works));
        touching.next().filter(|node| matches!(node, Node::Loop { .. }) && touching.next().is_none())
    }

    /// The loop of this number.
    pub fn find_loop(&self, wanted: usize) -> Option<&Node> {
        fn find(body: &[Node], wanted: usize) -> Option<&Node> {
            body.iter().find_map(|node| match node {
                Node::Loop { id, .. } if *id == wanted => Some(node),
                Node::Loop { body, .. } => find(body, wanted),
                Node::If { then, otherwise, .. } => find(then, wanted).or_else(|| find(otherwise, wanted)),
                _ => None,
            })
        }
        find(&self.body, wanted)
    }
}

/// Statements as a tree.
#[derive(Clone)]
pub(crate) enum Node {
    Loop {
        var: Var,
        end: Expr,
        step: i64,
        body: Vec<Node>,
        id: usize,
        /// What decides, from outside, what all of it issues at which sizes.
        depends: Vec<Expr>,
        /// Whether its own variable decides too.
        varies: bool,
    },
    If {
        condition: Expr,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Work(usize),
    /// A scalar that another core defines.
    Assign(Var, Expr),
    Set {
        from: usize,
        to: usize,
        event: Expr,
    },
    Wait {
        from: usize,
        to: usize,
        event: Expr,
    },
    Barrier(Option<usize>),
}

/// Statements in a row, with jumps.
#[derive(Clone)]
pub(crate) enum Step {
    Begin { var: Var, end: Expr, exit: usize },
    Next { var: Var, end: Expr, step: i64, body: usize, id: usize },
    Unless { condition: Expr, other: usize },
    Jump(usize),
    Work(usize),
    Assign(Var, Expr),
    Set { from: usize, to: usize, event: Expr },
    Wait { from: usize, to: usize, event: Expr },
    Barrier(Option<usize>),
}

/// An instruction.
pub(crate) struct Work<'k> {
    pub instr: &'k Instr,
    pub class: Class,
    /// Index among [`Code::pipes`].
    pub pipe: usize,
    pub role: usize,
    /// For a move, its index among the machine's paths.
    pub path: Option<usize>,
    /// What it is called in traces and errors.
    pub label: String,
    /// Destinations, then sources.
    pub operands: Vec<OperandCode>,
    pub memory: Vec<MemoryCode>,
    /// The expressions that its cost depends on and that are not constant.
    pub key: Vec<Expr>,
    /// The scalar it defines, and the value it is taken to have.
    pub scalar: Option<(Var, Expr)>,
}

/// An operand.
#[derive(Default)]
pub(crate) struct OperandCode {
    pub size: Vec<Expr>,
    pub tile: Option<TileCode>,
    pub bits: usize,
    /// Whether it is written, and read.
    pub written: bool,
    pub read: bool,
}

/// The tile of an operand.
pub(crate) struct TileCode {
    pub tile: TileId,
    pub slot: Expr,
    pub address: Option<usize>,
    pub slot_bytes: usize,
    /// Whether its space is a part of device memory.
    pub backed: bool,
}

impl<'k> Code<'k> {
    /// Compiles a kernel under a binding of the program's symbols.
    ///
    /// # Errors
    /// If a symbol is unbound, or an instruction runs nowhere on the machine.
    pub fn new(
        kernel: &'k Kernel,
        machine: &'k Machine,
        bindings: &BTreeMap<Symbol, i64>,
    ) -> Result<Code<'k>, SimError> {
        let mut pipes = Vec::new();
        for (core, kind) in machine.cores.iter().enumerate() {
            pipes.extend(kind.pipes.iter().map(|name| PipeKind { name: name.clone(), core }));
        }
        let mut names = Names::new(bindings);
        let mut extents = BTreeMap::new();
        let mut grid = Vec::new();
        for (symbol, extent) in &kernel.grid {
            let extent = names.expr(extent)?;
            let count = extent.constant().unwrap_or(0).max(0);
            grid.push((names.define(symbol, (0, count.max(1) - 1)), count));
            extents.insert(symbol.clone(), extent);
        }
        let lane = kernel.lanes.as_ref().map(|lanes| {
            let last = lanes.count.max(1) as i64 - 1;
            names.define(&lanes.var, (0, last))
        });
        let mut compiler = Compiler { kernel, machine, pipes, names, extents, works: Vec::new(), loops: 0 };
        let body = compiler.block(&kernel.body)?;
        let mut code = Code {
            kernel,
            machine,
            roles: Vec::new(),
            grid,
            lane,
            variables: compiler.names.variables(),
            groups: 1,
            pipes: compiler.pipes,
            works: compiler.works,
        };
        code.split(&body);
        Ok(code)
    }

    /// The number of work items.
    pub fn items(&self) -> u64 {
        self.grid.iter().fold(1u64, |product, &(_, extent)| product.saturating_mul(extent as u64))
    }

    /// Gives every kind of core its part of the body.
    fn split(&mut self, body: &[Node]) {
        let mut cores: Vec<usize> = self.works.iter().map(|work| self.pipes[work.pipe].core).collect();
        collect_event_cores(body, &self.pipes, &mut cores);
        cores.sort_unstable();
        cores.dedup();
        if cores.is_empty() {
            cores.push(0);
        }
        let laned = self.kernel.lanes.as_ref().and_then(|lanes| {
            let count = lanes.count.max(1);
            let owns = |kind: &CoreKind| kind.spaces.contains(&lanes.space) && kind.lanes == count;
            let any = |kind: &CoreKind| kind.spaces.contains(&lanes.space);
            let cores = &self.machine.cores;
            cores.iter().position(owns).or_else(|| cores.iter().position(any)).map(|core| (core, count))
        });
        for work in &mut self.works {
            work.role = cores.iter().position(|&core| core == self.pipes[work.pipe].core).unwrap_or(0);
        }
        for (role, &core) in cores.iter().enumerate() {
            let lanes = laned.filter(|&(kind, _)| kind == core).map_or(1, |(_, count)| count);
            let mut body = self.part(body, role, core);
            annotate(&mut body, &self.works);
            let (mut steps, mut memory_steps) = (Vec::new(), Vec::new());
            flatten(&body, &self.works, false, &mut steps);
            flatten(&body, &self.works, true, &mut memory_steps);
            self.roles.push(Role { core, lanes, body, steps, memory_steps });
        }
        let groups = self.roles.iter().map(|role| self.machine.cores[role.core].count / role.lanes);
        self.groups = groups.min().unwrap_or(1).max(1);
    }

    /// What one kind of core issues of a block.
    fn part(&self, body: &[Node], role: usize, core: usize) -> Vec<Node> {
        let of = |pipe: &usize| self.pipes[*pipe].core == core;
        let mut part = Vec::new();
        for node in body {
            match node {
                Node::Loop { var, end, step, body, id, .. } => {
                    let body = self.part(body, role, core);
                    if !body.is_empty() {
                        let (var, end, step, id) = (*var, end.clone(), *step, *id);
                        part.push(Node::Loop { var, end, step, body, id, depends: Vec::new(), varies: false });
                    }
                }
                Node::If { condition, then, otherwise } => {
                    let (then, otherwise) = (self.part(then, role, core), self.part(otherwise, role, core));
                    if !then.is_empty() || !otherwise.is_empty() {
                        part.push(Node::If { condition: condition.clone(), then, otherwise });
                    }
                }
                Node::Work(work) if self.works[*work].role == role => part.push(node.clone()),
                Node::Work(work) => {
                    part.extend(self.works[*work].scalar.clone().map(|(var, value)| Node::Assign(var, value)));
                }
                Node::Set { from, .. } if of(from) => part.push(node.clone()),
                Node::Wait { to, .. } if of(to) => part.push(node.clone()),
                Node::Barrier(None) => part.push(node.clone()),
                Node::Barrier(Some(pipe)) if of(pipe) => part.push(node.clone()),
                Node::Assign(..) | Node::Set { .. } | Node::Wait { .. } | Node::Barrier(_) => {}
            }
        }
        part
    }
}

fn collect_event_cores(body: &[Node], pipes: &[PipeKind], cores: &mut Vec<usize>) {
    for node in body {
        match node {
            Node::Loop { body, .. } => collect_event_cores(body, pipes, cores),
            Node::If { then, otherwise, .. } => {
                collect_event_cores(then, pipes, cores);
                collect_event_cores(otherwise, pipes, cores);
            }
            Node::Set { from, .. } => cores.push(pipes[*from].core),
            Node::Wait { to, .. } => cores.push(pipes[*to].core),
            Node::Barrier(Some(pipe)) => cores.push(pipes[*pipe].core),
            _ => {}
        }
    }
}

/// Notes for every loop what decides, from outside, about what it issues.
fn annotate(body: &mut [Node], works: &[Work<'_>]) {
    for node in body {
        match node {
            Node::Loop { var, end, body, depends, varies, .. } => {
                annotate(body, works);
                let (mut decide, mut inner) = (Vec::new(), vec![*var]);
                deciding(body, works, &mut decide, &mut inner);
                *varies = decide.iter().any(|expr| expr.mentions(&|other| other == *var));
                decide.push(end.clone());
                decide.iter().for_each(|expr| expr.outer_parts(&|var| inner.contains(&var), depends));
            }
            Node::If { then, otherwise, .. } => {
                annotate(then, works);
                annotate(otherwise, works);
            }
            _ => {}
        }
    }
}

fn touches_memory(body: &[Node], works: &[Work<'_>]) -> bool {
    body.iter().any(|node| match node {
        Node::Loop { body, .. } => touches_memory(body, works),
        Node::If { then, otherwise, .. } => touches_memory(then, works) || touches_memory(otherwise, works),
        Node::Work(work) => !works[*work].memory.is_empty(),
        _ => false,
    })
}

/// The expressions that decide what a block issues at which sizes, and the variables that are defined in it.
pub(crate) fn deciding(body: &[Node], works: &[Work<'_>], decide: &mut Vec<Expr>, inner: &mut Vec<Var>) {
    for node in body {
        match node {
            Node::Loop { var, end, body, .. } => {
                inner.push(*var);
                decide.push(end.clone());
                deciding(body, works, decide, inner);
            }
            Node::If { condition, then, otherwise } => {
                decide.push(condition.clone());
                deciding(then, works, decide, inner);
                deciding(otherwise, works, decide, inner);
            }
            Node::Work(work) => {
                decide.extend(works[*work].key.iter().cloned());
                if let Some((var, value)) = &works[*work].scalar {
                    decide.push(value.clone());
                    inner.push(*var);
                }
            }
            Node::Assign(var, value) => {
                decide.push(value.clone());
                inner.push(*var);
            }
            Node::Set { event, .. } | Node::Wait { event, .. } => decide.push(event.clone()),
            Node::Barrier(_) => {}
        }
    }
}

/// Appends the steps of a block, all of them or only what touches device memory; what has none leaves nothing behind.
fn flatten(body: &[Node], works: &[Work<'_>], memory: bool, steps: &mut Vec<Step>) {
    for node in body {
        match node {
            Node::Loop { var, end, step, body, id, .. } => {
                let begin = steps.len();
                steps.push(Step::Jump(0));
                flatten(body, works, memory, steps);
                if steps.len() == begin + 1 {
                    steps.pop();
                    continue;
                }
                steps.push(Step::Next { var: *var, end: end.clone(), step: *step, body: begin + 1, id: *id });
                steps[begin] = Step::Begin { var: *var, end: end.clone(), exit: steps.len() };
            }
            Node::If { condition, then, otherwise } => {
                let at = steps.len();
                steps.push(Step::Jump(0));
                flatten(then, works, memory, steps);
                let jump = steps.len();
                steps.push(Step::Jump(0));
                flatten(otherwise, works, memory, steps);
                steps[at] = Step::Unless { condition: condition.clone(), other: jump + 1 };
                steps[jump] = Step::Jump(steps.len());
                if steps.len() == at + 2 {
                    steps.truncate(at);
                }
            }
            Node::Work(work) => match &works[*work].scalar {
                _ if !memory || !works[*work].memory.is_empty() => steps.push(Step::Work(*work)),
                Some((var, value)) => steps.push(Step::Assign(*var, value.clone())),
                None => {}
            },
            Node::Assign(var, value) => steps.push(Step::Assign(*var, value.clone())),
            Node::Set { from, to, event } if !memory => {
                steps.push(Step::Set { from: *from, to: *to, event: event.clone() });
            }
            Node::Wait { from, to, event } if !memory => {
                steps.push(Step::Wait { from: *from, to: *to, event: event.clone() });
            }
            Node::Barrier(pipe) if !memory => steps.push(Step::Barrier(*pipe)),
            Node::Set { .. } | Node::Wait { .. } | Node::Barrier(_) => {}
        }
    }
}
