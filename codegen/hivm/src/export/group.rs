//! What the cores of a group share: the workspace, numbers that one of them computes for all, and the places where they meet.

use std::collections::BTreeMap;

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Instr, Kernel, Operand, Tile, TileId};

use super::{Core, Emitter, Form, Missing, Result, kernel::tile_bytes, walk::each_instr};

/// Bytes of a line of the scalar units' caches.
pub const CACHE_LINE: usize = 64;

/// The flag with which the cores of a group meet; the program's own are lower.
const MEETING: usize = 11;

pub fn workspace_bytes(kernel: &Kernel, space: &str) -> usize {
    let end = |tile: &Tile| tile.address.unwrap_or(0) + tile_bytes(tile);
    let ends = kernel.tiles.iter().filter(|tile| tile.space == space).map(end);
    ends.max().unwrap_or(0).next_multiple_of(512)
}

/// Where numbers that instructions compute lie in the workspace of a group, from `start` on: each in a cache line of its own.
pub fn exchanged(kernel: &Kernel, start: usize) -> BTreeMap<Symbol, usize> {
    let mut found = BTreeMap::new();
    each_instr(&kernel.body, &mut |instr| {
        if let Some(symbol) = computed(instr) {
            let next = start + found.len() * CACHE_LINE;
            found.entry(symbol.clone()).or_insert(next);
        }
    });
    found
}

/// The number that an instruction computes for expressions.
pub fn computed(instr: &Instr) -> Option<&Symbol> {
    instr.dst.iter().find_map(|operand| match operand {
        Operand::Scalar(symbol, _) => Some(symbol),
        _ => None,
    })
}

impl Emitter<'_> {
    /// A tile of the workspace as an argument of its own, or one with the tiles that it overlaps: the form without flags is there to be
    /// compared, and what reads it cannot tell parts of one argument apart.
    pub fn workspace_argument(&mut self, id: TileId, elements: usize, ty: &str) -> Result<(String, String)> {
        let range = |tile: &Tile| (tile.address.unwrap_or(0), tile.address.unwrap_or(0) + tile_bytes(tile));
        let tiles = self.kernel.tiles.iter().filter(|tile| tile.space == self.workspace_space);
        let mut areas: Vec<(usize, usize)> = tiles.map(range).collect();
        areas.sort_unstable();
        areas.dedup_by(|next, area| {
            let meet = next.0 < area.1;
            area.1 = if meet { area.1.max(next.1) } else { area.1 };
            meet
        });
        let (start, end) = range(self.tile(id)?);
        let area = areas.iter().find(|area| area.0 < end && start < area.1).map_or(start, |area| area.0);
        let name = format!("%area{area}");
        self.areas.insert(area);
        let offset = self.w.integer((start - area) as i64);
        let (bytes, ty) =
            ("memref<?xi8, #hivm.address_space<gm>>", format!("memref<{elements}x{ty}, #hivm.address_space<gm>>"));
        Ok((self.w.shared(&format!("memref.view {name}[{offset}][] : {bytes} to {ty}")), ty))
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

    /// Items begin with idle pipes, and groups of cores begin them together.
    pub fn end_of_item(&mut self) {
        if self.form == Form::Placed {
            self.w.line("hivm.hir.pipe_barrier[<PIPE_ALL>]");
        }
        if self.mixed {
            // The highest flags are left for this.
            let flag = 10;
            let (own, pipe, other_pipe) = match self.core {
                Core::Cube => ("CUBE", "PIPE_FIX", "PIPE_MTE3"),
                Core::Vector => ("VECTOR", "PIPE_MTE3", "PIPE_FIX"),
            };
            self.w.line(&format!(
                "hivm.hir.sync_block_set[<{own}>, <{pipe}>, <PIPE_S>] flag = {flag} ffts_base_addr = %ffts sync_instr_mode = <INTRA_BLOCK_SYNCHRONIZATION>"
            ));
            self.w.line(&format!("hivm.hir.sync_block_wait[<{own}>, <{other_pipe}>, <PIPE_S>] flag = {flag}"));
        }
    }
}
