//! Order between pipes: the program's own events as flags, barriers inside the vector pipe where operations depend on each other,
//! and flags of our own where one instruction of the program needs several pipes.

use tarsia_tensor::{Dim, Range, Symbol};
use tarsia_tile::{Opcode, Stmt};

use super::{Core, Emitter, Form, Missing, Result, array::Piece};

/// What the vector pipe has touched since its last barrier.
#[derive(Default)]
pub struct Hazards {
    read: Vec<(usize, usize)>,
    written: Vec<(usize, usize)>,
    unknown: bool,
}

impl Hazards {
    /// Whatever came before may matter: at the edges of loops and branches.
    pub fn forget(&mut self) {
        self.unknown = true;
    }

    fn meets(&self, reads: &[(usize, usize)], writes: &[(usize, usize)]) -> bool {
        let overlap =
            |a: &[(usize, usize)], b: &[(usize, usize)]| a.iter().any(|x| b.iter().any(|y| x.0 < y.1 && y.0 < x.1));
        self.unknown || overlap(reads, &self.written) || overlap(writes, &self.written) || overlap(writes, &self.read)
    }
}

/// The two parts of a pipe's name: kind of core, and HIVM's name of the pipe.
pub fn split(pipe: &str) -> Result<(Core, String)> {
    let (core, pipe) = pipe.split_once('_').ok_or_else(|| Missing(format!("the pipe `{pipe}`")))?;
    let core = match core {
        "aic" => Core::Cube,
        "aiv" => Core::Vector,
        _ => return Err(Missing(format!("cores of kind `{core}`"))),
    };
    Ok((core, format!("PIPE_{}", pipe.to_uppercase())))
}

impl Emitter<'_> {
    /// Writes an operation of the vector pipe, after a barrier if it depends on an earlier one.
    pub fn vector(&mut self, text: &str, reads: &[&Piece], writes: &[&Piece]) {
        let spans = |pieces: &[&Piece]| pieces.iter().filter_map(|piece| piece.span).collect::<Vec<_>>();
        let (reads, writes) = (spans(reads), spans(writes));
        if self.hazards.meets(&reads, &writes) {
            if self.form == Form::Placed {
                self.w.line("hivm.hir.pipe_barrier[<PIPE_V>]");
            }
            self.hazards = Hazards::default();
        }
        self.hazards.read.extend(reads);
        self.hazards.written.extend(writes);
        self.w.line(text);
    }

    /// An event of the program.
    pub fn event(&mut self, set: bool, from: &str, to: &str, event: &Dim) -> Result<()> {
        let ((from_core, source), (to_core, target)) = (split(from)?, split(to)?);
        if from_core != to_core {
            return self.cross_event(set, from, to, event);
        }
        if self.form != Form::Placed || from_core != self.core || self.is_inside_product(from, to) {
            return Ok(());
        }
        let id = match event {
            Dim::Const(id) => format!("<EVENT_ID{id}>"),
            dim => {
                let id = self.w.index(dim)?;
                self.w.shared(&format!("arith.index_cast {id} : index to i64"))
            }
        };
        let op = if set { "set_flag" } else { "wait_flag" };
        self.w.line(&format!("hivm.hir.{op}[<{source}>, <{target}>, {id}]"));
        Ok(())
    }

    /// A flag between the cores of a group: every pair of pipes has numbers of its own in its direction.
    fn cross_event(&mut self, set: bool, from: &str, to: &str, event: &Dim) -> Result<()> {
        let ((from_core, source), (to_core, target)) = (split(from)?, split(to)?);
        if self.core != if set { from_core } else { to_core } {
            return Ok(());
        }
        let flag = event.clone() + Dim::from(self.flag_base(from, to));
        let flag = match &flag {
            Dim::Const(flag) => flag.to_string(),
            dim => {
                let id = self.w.index(dim)?;
                self.w.shared(&format!("arith.index_cast {id} : index to i64"))
            }
        };
        let core = if self.core == Core::Cube { "CUBE" } else { "VECTOR" };
        if set {
            self.w.line(&format!(
                "hivm.hir.sync_block_set[<{core}>, <{source}>, <{target}>] flag = {flag} ffts_base_addr = %ffts sync_instr_mode = <INTRA_BLOCK_SYNCHRONIZATION>"
            ));
        } else {
            self.w.line(&format!("hivm.hir.sync_block_wait[<{core}>, <{source}>, <{target}>] flag = {flag}"));
        }
        Ok(())
    }

    /// The first flag of a pair of pipes of different cores: pairs of one direction share the numbers.
    fn flag_base(&self, from: &str, to: &str) -> usize {
        let crosses = |[a, b]: &&[String; 2]| match (split(a), split(b), split(from), split(to)) {
            (Ok(a), Ok(b), Ok(from), Ok(to)) => a.0 != b.0 && a.0 == from.0 && b.0 == to.0,
            _ => false,
        };
        let mut base = 0;
        for events in &self.machine.events {
            for pair in events.pairs.iter().filter(crosses) {
                if pair[0] == from && pair[1] == to {
                    return base;
                }
                base += events.ids;
            }
        }
        base
    }

    /// What one pipe did so far comes before what another does next.
    pub fn order(&mut self, from: &str, to: &str) -> Result<()> {
        if self.form != Form::Placed || from == to {
            return Ok(());
        }
        let ((_, source), (_, target)) = (split(from)?, split(to)?);
        let used = self.highest_event(from, to);
        let ids = self.machine.event_ids(from, to) as i64;
        if used + 1 < ids {
            let id = used + 1;
            for op in ["set_flag", "wait_flag"] {
                self.w.line(&format!("hivm.hir.{op}[<{source}>, <{target}>, <EVENT_ID{id}>]"));
            }
        } else {
            self.w.line("hivm.hir.pipe_barrier[<PIPE_ALL>]");
        }
        Ok(())
    }

    /// The highest number that the program itself uses between two pipes, -1 if none.
    fn highest_event(&self, from: &str, to: &str) -> i64 {
        let mut highest = -1;
        let any = |_: &Symbol| Range { low: 0, high: i64::MAX };
        visit(&self.kernel.body, &mut |op| {
            if let Opcode::SetEvent { from: a, to: b, event } = op
                && a == from
                && b == to
            {
                highest = highest.max(event.range_with(&any).high);
            }
        });
        highest
    }
}

/// Calls `see` for every opcode.
pub fn visit(body: &[Stmt], see: &mut dyn FnMut(&Opcode)) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => visit(body, see),
            Stmt::If { then, otherwise, .. } => {
                visit(then, see);
                visit(otherwise, see);
            }
            Stmt::Instr(instr) => see(&instr.op),
        }
    }
}
