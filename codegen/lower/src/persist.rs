//! Persistent kernels: every core walks its share of the work items in a loop of its own, so that it can load what the next item needs
//! while it computes this one.
//!
//! ```text
//! grid i < n                 grid c < cores
//!   …i…             ──►        for t in 0..⌈(n - c) / cores⌉:  …(c + cores·t)…
//! ```
//! A grid of several axes is numbered first. The two axes named by `Grouping`, rows and columns of blocks of one matrix, are walked in
//! bands of rows, so that the items which run at the same time share operands in the cache.

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Kernel, Machine};

/// Two axes of a grid that are blocks of rows and of columns, and how many rows a band has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grouping {
    pub rows: Symbol,
    pub columns: Symbol,
    pub band: usize,
}

/// The items of one core.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// The core's number.
    pub core: Dim,
    /// How many items it has.
    pub count: Dim,
    /// Where along the axes of the grid the item is that has the number `turn` among them.
    places: Vec<(Symbol, Dim)>,
    turn: Symbol,
}

impl Share {
    /// Deals the kernel's items out: its grid has one item per core then. `None` if there are no more items than cores.
    pub fn deal(kernel: &mut Kernel, machine: &Machine, grouping: Option<&Grouping>) -> Option<Share> {
        let cores = machine.workers(kernel);
        let items = Dim::product(kernel.grid.iter().map(|(_, size)| size));
        if kernel.grid.is_empty() || items.range().high <= cores as i64 {
            return None;
        }
        let (core, turn) = (Symbol::new("%core"), Symbol::new("%turn"));
        let item = Dim::from(core.clone()) + Dim::from(cores) * Dim::from(turn.clone());
        let places = numbered(&kernel.grid, &item, grouping);
        let count = (items.clone() - Dim::from(core.clone())).ceil_div(&Dim::from(cores));
        kernel.grid = vec![(core.clone(), items.minimum(&Dim::from(cores)))];
        Some(Share { core: core.into(), count, places, turn })
    }

    /// The place of an axis of the grid for the core's item of this number.
    pub fn place(&self, axis: &Symbol, turn: &Dim) -> Option<Dim> {
        let (_, place) = self.places.iter().find(|(name, _)| name == axis)?;
        Some(place.substitute(&|symbol| (*symbol == self.turn).then(|| turn.clone())))
    }
}

/// Rewrites the kernel; one with no more items than cores stays as it is.
pub(crate) fn persist(kernel: &mut Kernel, machine: &Machine, grouping: Option<&Grouping>) {
    let Some(share) = Share::deal(kernel, machine, grouping) else { return };
    let turn = Dim::from(share.turn.clone());
    let body = kernel.body.iter().map(|stmt| stmt.substitute(&|axis| share.place(axis, &turn))).collect();
    kernel.body = vec![tarsia_tile::Stmt::For { var: share.turn.clone(), end: share.count, step: 1, body }];
}

/// The place along every axis of the item of this number.
fn numbered(grid: &[(Symbol, Dim)], item: &Dim, grouping: Option<&Grouping>) -> Vec<(Symbol, Dim)> {
    if let [(only, _)] = grid {
        return vec![(only.clone(), item.clone())];
    }
    let grouped =
        grouping.filter(|g| [&g.rows, &g.columns].iter().all(|axis| grid.iter().any(|(var, _)| var == *axis)));
    let Some(grouping) = grouped else { return counted(grid, item) };
    // Rows and columns of blocks vary fastest.
    let pair = |(var, _): &&(Symbol, Dim)| [&grouping.rows, &grouping.columns].contains(&var);
    let size = |axis: &Symbol| grid.iter().find(|(var, _)| var == axis).map_or(Dim::ONE, |(_, size)| size.clone());
    let (rows, columns) = (size(&grouping.rows), size(&grouping.columns));
    let outer: Vec<(Symbol, Dim)> = grid.iter().filter(|axis| !pair(axis)).cloned().collect();
    let blocks = rows.clone() * columns.clone();
    let mut places = match outer.as_slice() {
        [] => Vec::new(),
        [(only, size)] => vec![(only.clone(), item.floor_div(&blocks).modulo(size))],
        several => counted(several, &item.floor_div(&blocks)),
    };
    let block = if outer.is_empty() { item.clone() } else { item.modulo(&blocks) };
    let band = Dim::from(grouping.band);
    let width = band.clone() * columns.clone();
    let first = (block.floor_div(&width) * band.clone()).modulo(&rows);
    let height = (rows - first.clone()).minimum(&band);
    let inside = block.modulo(&width);
    places.push((grouping.rows.clone(), first + inside.modulo(&height)));
    places.push((grouping.columns.clone(), inside.floor_div(&height).modulo(&columns)));
    places
}

/// Row-major numbering. The remainder along the first axis changes nothing, but says that the place is in range.
fn counted(grid: &[(Symbol, Dim)], item: &Dim) -> Vec<(Symbol, Dim)> {
    let mut inner = Dim::ONE;
    let mut places: Vec<(Symbol, Dim)> = Vec::new();
    for (var, size) in grid.iter().rev() {
        places.push((var.clone(), item.floor_div(&inner).modulo(size)));
        inner = inner * size.clone();
    }
    places.reverse();
    places
}
