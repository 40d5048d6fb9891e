//! One core's stream of instructions: the steps of its role, item after item, as the core issues them.

use smallvec::SmallVec;

use crate::{
    SimError,
    code::{Code, Step},
    price::{PriceId, Prices},
};

/// What a core issues.
#[derive(Clone, Debug)]
pub(crate) enum Issue {
    Work(Issued),
    /// A signal between pipes.
    Set {
        from: usize,
        to: usize,
        event: i64,
    },
    Wait {
        from: usize,
        to: usize,
        event: i64,
    },
    /// Waits for a pipe, or for all.
    Barrier(Option<usize>),
    /// A work item ends: the next one finds all pipes idle.
    ItemEnd,
}

/// An instruction as it is issued.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub work: usize,
    pub price: PriceId,
    /// First byte of each access to a buffer.
    pub starts: SmallVec<[i64; 2]>,
    /// The how-manieth instruction of this stream that touches buffers, if it does.
    pub access: usize,
}

/// Where a stream is.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    role: usize,
    memory_only: bool,
    pub at: usize,
    pub vars: Vec<i64>,
    /// The current work item, the distance to the next, and how many there are.
    pub item: u64,
    stride: u64,
    items: u64,
    pub accesses: usize,
    /// The loop that has gone back to its beginning since this was last taken, the outermost if several have.
    pub repeated: Option<usize>,
    started: bool,
}

impl Cursor {
    /// The stream of one core of a group: items `group`, `group + groups`, …
    pub fn new(code: &Code<'_>, role: usize, lane: usize, group: usize, groups: usize, memory_only: bool) -> Cursor {
        let mut vars = vec![0; code.variables];
        if let Some(var) = code.lane {
            vars[var as usize] = lane as i64;
        }
        let (item, stride, items) = (group as u64, groups as u64, code.items());
        Cursor { role, memory_only, at: 0, vars, item, stride, items, accesses: 0, repeated: None, started: false }
    }

    /// What is issued next; `None` at the end.
    ///
    /// # Errors
    /// If an instruction has no cost.
    pub fn next(&mut self, code: &Code<'_>, prices: &mut Prices) -> Result<Option<Issue>, SimError> {
        let role = &code.roles[self.role];
        let steps = if self.memory_only { &role.memory_steps } else { &role.steps };
        loop {
            if self.at == 0 && !self.started {
                if self.item >= self.items {
                    return Ok(None);
                }
                self.started = true;
                bind_item(code, self.item, &mut self.vars);
            }
            let Some(step) = steps.get(self.at) else {
                self.at = 0;
                self.started = false;
                self.item = self.item.saturating_add(self.stride);
                return Ok(Some(Issue::ItemEnd));
            };
            self.at += 1;
            match step {
                Step::Begin { var, end, exit } => {
                    self.vars[*var as usize] = 0;
                    if end.eval(&self.vars) <= 0 {
                        self.at = *exit;
                    }
                }
                Step::Next { var, end, step, body, id } => {
                    let value = self.vars[*var as usize].saturating_add(*step);
                    self.vars[*var as usize] = value;
                    if value < end.eval(&self.vars) {
                        self.at = *body;
                        self.repeated = Some(self.repeated.map_or(*id, |other| other.min(*id)));
                    }
                }
                Step::Unless { condition, other } => {
                    if condition.eval(&self.vars) <= 0 {
                        self.at = *other;
                    }
                }
                Step::Jump(to) => self.at = *to,
                Step::Assign(var, value) => self.vars[*var as usize] = value.eval(&self.vars),
                Step::Work(work) => return Ok(Some(Issue::Work(self.issue(*work, code, prices)?))),
                Step::Set { from, to, event } => {
                    return Ok(Some(Issue::Set { from: *from, to: *to, event: event.eval(&self.vars) }));
                }
                Step::Wait { from, to, event } => {
                    return Ok(Some(Issue::Wait { from: *from, to: *to, event: event.eval(&self.vars) }));
                }
                Step::Barrier(pipe) => return Ok(Some(Issue::Barrier(*pipe))),
            }
        }
    }

    fn issue(&mut self, number: usize, code: &Code<'_>, prices: &mut Prices) -> Result<Issued, SimError> {
        let work = &code.works[number];
        let price = prices.find(code, number, &self.vars)?;
        let starts: SmallVec<[i64; 2]> = work.memory.iter().map(|access| access.first_byte(&self.vars)).collect();
        let access = self.accesses;
        if !starts.is_empty() {
            self.accesses += 1;
        }
        if let Some((var, value)) = &work.scalar {
            self.vars[*var as usize] = value.eval(&self.vars);
        }
        Ok(Issued { work: number, price, starts, access })
    }
}

/// Gives the grid's variables their values: the last one runs fastest.
pub(crate) fn bind_item(code: &Code<'_>, item: u64, vars: &mut [i64]) {
    let mut rest = item;
    for &(var, extent) in code.grid.iter().rev() {
        let extent = extent.max(1) as u64;
        vars[var as usize] = (rest % extent) as i64;
        rest /= extent;
    }
}
