//! Persistent kernels: every core walks its share of the work items in a loop of its own, so that it can load what the next item needs
//! while it computes this one.
//!
//! ```text
//! grid i < n                 grid c < cores
//!   …i…             ──►        for t in 0..⌈(n - c) / cores⌉:  …(c + cores·t)…
//! ```
//! A grid of several axes is numbered first. Blocks of one matrix are walked in bands of rows, so that the items which run at the same
//! time share operands in the cache; or every core takes a run of them along one axis, so that it keeps what they share.

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Kernel, Machine};

/// The order in which blocks of one matrix are walked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Grouping {
    /// In bands of so many rows; the axes of the grid that are rows and columns.
    Bands { rows: Symbol, columns: Symbol, band: usize },
    /// In bands across an axis, of which every core takes a run along another. Two symbols of the body are positive in the first and in the
    /// last of a core's items in one line along that axis.
    Runs { along: Symbol, across: Option<Symbol>, band: usize, first: Symbol, last: Symbol },
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
    if let Some(Grouping::Runs { along, across, band, first, last }) = grouping {
        return run(kernel, machine, (along, across.as_ref(), *band), [first, last]);
    }
    let Some(share) = Share::deal(kernel, machine, grouping) else { return };
    let turn = Dim::from(share.turn.clone());
    let body = kernel.body.iter().map(|stmt| stmt.substitute(&|axis| share.place(axis, &turn))).collect();
    kernel.body = vec![tarsia_tile::Stmt::For { var: share.turn.clone(), end: share.count, step: 1, body }];
}

/// Has every core take a run of each band; see [`Grouping::Runs`].
///
/// ```text
/// for band:  for turn in 0..count:  item = core · ⌈items / cores⌉ + turn
/// ```
fn run(
    kernel: &mut Kernel,
    machine: &Machine,
    (along, across, band): (&Symbol, Option<&Symbol>, usize),
    [first, last]: [&Symbol; 2],
) {
    let cores = machine.workers(kernel);
    let items = Dim::product(kernel.grid.iter().map(|(_, size)| size));
    let body = std::mem::take(&mut kernel.body);
    let rewrite = |replace: &dyn Fn(&Symbol) -> Option<Dim>| body.iter().map(|stmt| stmt.substitute(replace)).collect();
    if kernel.grid.is_empty() || items.range().high <= cores as i64 {
        // Every item is alone on its core.
        kernel.body = rewrite(&|symbol| [first, last].contains(&symbol).then_some(Dim::ONE));
        return;
    }
    let (core, turn, bands) = (Symbol::new("%core"), Symbol::new("%turn"), Symbol::new("%band"));
    let (at, now, begin) = (Dim::from(core.clone()), Dim::from(turn.clone()), Dim::from(bands.clone()));
    // What varies fastest is last.
    let mut grid = std::mem::take(&mut kernel.grid);
    grid.sort_by_key(|(axis, _)| (axis == along, Some(axis) == across));
    let length = grid.last().map_or(Dim::ONE, |(_, length)| length.clone());
    let lines = match grid.as_slice() {
        [(axis, lines), _] if Some(axis) == across && lines.range().high > band as i64 => Some((axis, lines)),
        _ => None,
    };
    let items =
        lines.map_or(items, |(_, lines)| (lines.clone() - begin.clone()).minimum(&Dim::from(band)) * length.clone());
    let share = items.ceil_div(&Dim::from(cores));
    let count = (items - at.clone() * share.clone()).minimum(&share).maximum(&Dim::ZERO);
    let item = at * share + now.clone();
    let mut places = match lines {
        // The remainder changes nothing, but says that the place is in range.
        Some((axis, lines)) => {
            vec![(axis.clone(), (begin + item.floor_div(&length)).modulo(lines)), (along.clone(), item.modulo(&length))]
        }
        None => counted(&grid, &item),
    };
    if let Some((_, place)) = places.last() {
        let left = (length - Dim::ONE - place.clone()) * (count.clone() - Dim::ONE - now.clone());
        let ends = [Dim::ONE - place.clone() * now, Dim::ONE - left];
        places.extend([first, last].into_iter().cloned().zip(ends));
    }
    let body = rewrite(&|symbol| Some(places.iter().find(|(axis, _)| axis == symbol)?.1.clone()));
    let turns = tarsia_tile::Stmt::For { var: turn, end: count, step: 1, body };
    kernel.grid = vec![(core, Dim::from(cores))];
    kernel.body = match lines {
        Some((_, all)) => {
            vec![tarsia_tile::Stmt::For { var: bands, end: all.clone(), step: band as i64, body: vec![turns] }]
        }
        None => vec![turns],
    };
}

/// The place along every axis of the item of this number.
fn numbered(grid: &[(Symbol, Dim)], item: &Dim, grouping: Option<&Grouping>) -> Vec<(Symbol, Dim)> {
    if let [(only, _)] = grid {
        return vec![(only.clone(), item.clone())];
    }
    let has = |axis: &Symbol| grid.iter().any(|(var, _)| var == axis);
    let (along, across, band) = match grouping {
        Some(Grouping::Bands { rows, columns, band }) if has(rows) && has(columns) => (rows, columns, *band),
        _ => return counted(grid, item),
    };
    // Rows and columns of blocks vary fastest.
    let pair = |(var, _): &&(Symbol, Dim)| [along, across].contains(&var);
    let size = |axis: &Symbol| grid.iter().find(|(var, _)| var == axis).map_or(Dim::ONE, |(_, size)| size.clone());
    let (rows, columns) = (size(along), size(across));
    let outer: Vec<(Symbol, Dim)> = grid.iter().filter(|axis| !pair(axis)).cloned().collect();
    let blocks = rows.clone() * columns.clone();
    let mut places = match outer.as_slice() {
        [] => Vec::new(),
        [(only, size)] => vec![(only.clone(), item.floor_div(&blocks).modulo(size))],
        several => counted(several, &item.floor_div(&blocks)),
    };
    let block = if outer.is_empty() { item.clone() } else { item.modulo(&blocks) };
    let band = Dim::from(band);
    let width = band.clone() * columns.clone();
    let first = (block.floor_div(&width) * band.clone()).modulo(&rows);
    let height = (rows - first.clone()).minimum(&band);
    let inside = block.modulo(&width);
    places.push((along.clone(), first + inside.modulo(&height)));
    places.push((across.clone(), inside.floor_div(&height).modulo(&columns)));
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
