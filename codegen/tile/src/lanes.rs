//! Work items and the cores that share them: how many items run at once, and a kernel with lanes as one that a single core can run.

use std::collections::BTreeSet;

use tarsia_tensor::Dim;

use crate::{Instr, Kernel, Lanes, Machine, Operand, Stmt, TileId};

impl Machine {
    /// How many items of a kernel run at once: of every kind of core whose pipes it uses, one takes part in an item, or as many as the
    /// kernel has lanes.
    pub fn workers(&self, kernel: &Kernel) -> usize {
        let mut used = BTreeSet::new();
        self.kinds_used(kernel, &kernel.body, &mut used);
        let kinds = self.cores.iter().filter(|kind| used.is_empty() || used.contains(kind.name.as_str()));
        let items = kinds.map(|kind| match &kernel.lanes {
            Some(lanes) if kind.spaces.contains(&lanes.space) => kind.count / lanes.count.max(1),
            _ => kind.count,
        });
        items.min().unwrap_or(1).max(1)
    }

    fn kinds_used<'m>(&'m self, kernel: &Kernel, body: &[Stmt], used: &mut BTreeSet<&'m str>) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => self.kinds_used(kernel, body, used),
                Stmt::If { then, otherwise, .. } => {
                    self.kinds_used(kernel, then, used);
                    self.kinds_used(kernel, otherwise, used);
                }
                Stmt::Instr(instr) => {
                    let pipe = self.pipe_of(kernel, instr);
                    used.extend(pipe.into_iter().filter_map(|pipe| self.kind_of(pipe)).map(|kind| kind.name.as_str()));
                }
            }
        }
    }
}

/// The kernel with every lane's instructions and tiles written out one after the other: the same results on a single core.
pub fn unroll(kernel: &Kernel) -> Kernel {
    let Some(Lanes { var, count, space }) = &kernel.lanes else { return kernel.clone() };
    let own: Vec<usize> = (0..kernel.tiles.len()).filter(|&i| kernel.tiles[i].space == *space).collect();
    let bytes = |i: &usize| {
        let tile = &kernel.tiles[*i];
        let elements = tile.layout.elements(&tile.shape)?;
        tile.dtype.bytes_of(elements)?.checked_mul(tile.slots)?.checked_add(tile.address?)
    };
    // Lanes lie behind each other; what they start at suits every type.
    let room = own.iter().filter_map(bytes).max().unwrap_or(0).next_multiple_of(512);
    let mut tiles = kernel.tiles.clone();
    for lane in 1..*count {
        tiles.extend(own.iter().map(|&i| {
            let mut tile = kernel.tiles[i].clone();
            tile.name = format!("{}.{lane}", tile.name);
            tile.address = tile.address.map(|address| address + lane * room);
            tile
        }));
    }
    let lane_of = |instr: &Instr, lane: usize| {
        let mut instr = instr.substitute(&|symbol| (symbol == var).then(|| Dim::from(lane)));
        for operand in instr.dst.iter_mut().chain(&mut instr.src) {
            if let (1.., Operand::Tile(region)) = (lane, operand)
                && let Some(at) = own.iter().position(|&i| i == region.tile.0 as usize)
            {
                region.tile = TileId((kernel.tiles.len() + (lane - 1) * own.len() + at) as u32);
            }
        }
        Stmt::Instr(instr)
    };
    let touches = |instr: &Instr| {
        let own =
            |operand: &Operand| matches!(operand, Operand::Tile(region) if own.contains(&(region.tile.0 as usize)));
        instr.dst.iter().chain(&instr.src).any(own)
    };
    let body = written_out(&kernel.body, *count, &touches, &lane_of);
    Kernel { tiles, body, lanes: None, ..kernel.clone() }
}

fn written_out(
    body: &[Stmt],
    count: usize,
    touches: &dyn Fn(&Instr) -> bool,
    lane_of: &dyn Fn(&Instr, usize) -> Stmt,
) -> Vec<Stmt> {
    let mut result = Vec::with_capacity(body.len());
    let block = |body: &[Stmt]| written_out(body, count, touches, lane_of);
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) if touches(instr) => result.extend((0..count).map(|lane| lane_of(instr, lane))),
            Stmt::Instr(_) => result.push(stmt.clone()),
            Stmt::For { var, end, step, body } => {
                result.push(Stmt::For { var: var.clone(), end: end.clone(), step: *step, body: block(body) });
            }
            Stmt::If { condition, then, otherwise } => {
                result.push(Stmt::If { condition: condition.clone(), then: block(then), otherwise: block(otherwise) })
            }
        }
    }
    result
}
