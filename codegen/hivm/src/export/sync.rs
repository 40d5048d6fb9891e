//! Order between pipes: the program's own events as flags, barriers inside the vector pipe where operations depend on each other,
//! and flags of our own where one instruction of the program needs several pipes.

use tarsia_tensor::{Dim, Range, Symbol};
use tarsia_tile::{Instr, Opcode, Stmt};

use super::{Core, Emitter, Form, Missing, Result, array::Piece, kernel::computed};

/// The flag with which the cores of a group meet; the program's own are lower.
const MEETING: usize = 11;

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

    /// Whether an instruction computes a number that all cores of a group take.
    pub fn is_exchanged(&self, instr: &Instr) -> bool {
        computed(instr).is_some_and(|symbol| self.exchanged.contains_key(symbol))
    }

    /// A number that vector cores compute and all cores of the group take, through device memory and past the caches: written, met,
    /// read, and met again before it may be written anew.
    pub fn exchange(&mut self, instr: &Instr, symbol: &Symbol) -> Result<()> {
        let (workspace, at) = match (&self.workspace, self.exchanged.get(symbol)) {
            (Some(workspace), Some(&at)) => (workspace.clone(), at),
            _ => return Err(Missing("a workspace".into())),
        };
        let at = self.w.integer(at as i64);
        let at = self.w.value(&format!("arith.addi {workspace}, {at} : index"));
        let ty = "memref<1xi64, #hivm.address_space<gm>>";
        let bytes = "memref<?xi8, #hivm.address_space<gm>>";
        let place = self.w.value(&format!("memref.view %workspace[{at}][] : {bytes} to {ty}"));
        let zero = self.w.integer(0);
        let past_cache =
            format!("hivm.hir.dcci(#hivm.DCCIMode<single_cache_line>, #hivm.DataCacheKind<out>, {place} : {ty})");
        if self.core == Core::Vector {
            let guard = self.guard.take();
            let all = self.w.hoisted("arith.constant true");
            self.w.open(&format!("scf.if {} {{", guard.as_deref().unwrap_or(&all)));
            self.hazards.forget();
            let exchanged = std::mem::take(&mut self.exchanged);
            let written = self.instr(instr);
            self.exchanged = exchanged;
            written?;
            let value = self.w.index(&Dim::symbol(symbol.name()))?;
            let value = self.w.value(&format!("arith.index_cast {value} : index to i64"));
            self.w.line(&format!("memref.store {value}, {place}[{zero}] : {ty}"));
            self.w.line(&past_cache);
            self.w.close("}");
            self.guard = guard;
            self.hazards.forget();
        }
        self.meet();
        self.w.line(&past_cache);
        let value = self.w.value(&format!("memref.load {place}[{zero}] : {ty}"));
        let value = self.w.value(&format!("arith.index_cast {value} : i64 to index"));
        self.w.bind(symbol, value);
        self.meet();
        Ok(())
    }

    /// The scalar units of a group wait for each other: the cube core answers when all have come.
    fn meet(&mut self) {
        let own = if self.core == Core::Cube { "CUBE" } else { "VECTOR" };
        let flag = format!("[<{own}>, <PIPE_S>, <PIPE_S>] flag = {MEETING}");
        let wait = format!("hivm.hir.sync_block_wait{flag}");
        let set = format!(
            "hivm.hir.sync_block_set{flag} ffts_base_addr = %ffts sync_instr_mode = <INTRA_BLOCK_SYNCHRONIZATION>"
        );
        let [first, second] = if self.core == Core::Cube { [wait, set] } else { [set, wait] };
        self.w.line(&first);
        self.w.line(&second);
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
