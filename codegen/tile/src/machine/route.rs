//! Transfers: the cheapest chain of data paths that brings an array from one place to another.
//!
//! A place is a space, a layout and an element type. What reading the source asks for (padding, windows, transposition) is done by
//! the first path of the chain, what writing the destination asks for by the last; changes of layout and type and the broadcast of
//! axes of size 1 are done wherever a path offers them. Between two paths the array is in a tile of some core's space.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::DType;
use thiserror::Error;

use super::{Conversion, LayoutPattern, Machine, Path, Scope, Transform};
use crate::Layout;

/// One end of a transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// The space.
    pub space: String,
    /// How elements lie there.
    pub layout: Layout,
    /// Element type there.
    pub dtype: DType,
    /// What an access to this end asks of the data path.
    pub access: Vec<Transform>,
}

/// What is to be moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// Where the array is.
    pub from: End,
    /// Where it shall be.
    pub to: End,
    /// Whether axes of size 1 become longer.
    pub spread: bool,
    /// Whether the array may be a fractal between the ends: it is a matrix.
    pub matrix: bool,
    /// Whether both ends have two axes, so that what is transposed at one of them is a matrix column by column between them.
    pub plane: bool,
    /// How many elements arrive.
    pub elements: usize,
}

/// One step of a transfer, and what the array is after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop<'m> {
    /// The data path.
    pub path: &'m Path,
    /// The layout after the step.
    pub layout: Layout,
    /// The element type after the step.
    pub dtype: DType,
    /// Whether axes of size 1 have their final length.
    pub spread: bool,
}

/// Why there is no transfer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{machine} has no way for {from} to {to}{}", if asked.is_empty() { String::new() } else { format!(" that offers {asked}") })]
pub struct RouteError {
    machine: String,
    from: String,
    to: String,
    asked: String,
}

/// Where an array is on its way: nowhere but at the ends is it a view of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
enum State {
    #[default]
    Start,
    Tile {
        space: usize,
        layout: Layout,
        dtype: DType,
        spread: bool,
    },
    Goal,
}

impl Machine {
    /// The cheapest steps of a transfer. Deterministic: of equal costs the fewest steps, of these the paths that come first in the
    /// description.
    ///
    /// # Errors
    /// If no chain of paths does it.
    pub fn transfer(&self, transfer: &Transfer) -> Result<Vec<Hop<'_>>, RouteError> {
        // Cost, number of steps, and the way so far, as path numbers: what is compared to choose.
        let mut open = BTreeMap::from([(Cost::default(), vec![(State::Start, usize::MAX)])]);
        let mut closed = BTreeSet::new();
        while let Some((cost, way)) = open.pop_first() {
            let Some(&(state, _)) = way.last() else { continue };
            if state == State::Goal {
                return Ok(way[1..].iter().map(|&(state, path)| self.hop(transfer, state, path)).collect());
            }
            if !closed.insert(state) {
                continue;
            }
            for (index, path) in self.paths.iter().enumerate() {
                for next in self.successors(transfer, state, path) {
                    let mut way = way.clone();
                    way.push((next, index));
                    let bytes = transfer.elements.saturating_mul(self.dtype_at(transfer, next).bits()) / 8;
                    let cost = cost.plus(self.path_cycles(path, bytes), &way);
                    open.entry(cost).or_insert(way);
                }
            }
        }
        Err(self.no_route(transfer))
    }

    fn no_route(&self, transfer: &Transfer) -> RouteError {
        let end = |end: &End| format!("{} in {} in layout {}", end.dtype, end.space, end.layout);
        let mut asked = [transfer.from.access.clone(), transfer.to.access.clone()].concat();
        asked.extend(transfer.spread.then_some(Transform::Broadcast));
        asked.sort_unstable();
        asked.dedup();
        let asked: Vec<&str> = asked.iter().map(|transform| transform.name()).collect();
        RouteError {
            machine: self.name.clone(),
            from: end(&transfer.from),
            to: end(&transfer.to),
            asked: asked.join(", "),
        }
    }

    fn space_of<'a>(&'a self, transfer: &'a Transfer, state: State) -> Option<&'a str> {
        match state {
            State::Start => Some(&transfer.from.space),
            State::Tile { space, .. } => self.spaces.get(space).map(|space| space.name.as_str()),
            State::Goal => Some(&transfer.to.space),
        }
    }

    fn dtype_at(&self, transfer: &Transfer, state: State) -> DType {
        match state {
            State::Start => transfer.from.dtype,
            State::Tile { dtype, .. } => dtype,
            State::Goal => transfer.to.dtype,
        }
    }

    /// What the array may be after a path.
    fn successors(&self, transfer: &Transfer, state: State, path: &Path) -> Vec<State> {
        if self.space_of(transfer, state) != Some(&path.from) {
            return Vec::new();
        }
        let mut next = Vec::new();
        if path.to == transfer.to.space && self.offers(transfer, state, State::Goal, path) {
            next.push(State::Goal);
        }
        let tiles = self.spaces.iter().position(|space| space.name == path.to && space.scope == Scope::Core);
        if let Some(space) = tiles {
            for (dtype, spread) in
                self.types_between(transfer).into_iter().flat_map(|dtype| [(dtype, false), (dtype, true)])
            {
                for layout in self.layouts_between(space, dtype, transfer) {
                    let tile = State::Tile { space, layout, dtype, spread };
                    if self.offers(transfer, state, tile, path) {
                        next.push(tile);
                    }
                }
            }
        }
        next
    }

    /// The element types that an array may have on its way: those of the ends, and types between that lose nothing of the first and
    /// change nothing of the result.
    fn types_between(&self, transfer: &Transfer) -> Vec<DType> {
        let (from, to) = (transfer.from.dtype, transfer.to.dtype);
        let offered =
            |from: DType, to: DType| self.paths.iter().any(|path| path.conversions.contains(&Conversion { from, to }));
        let neutral = |between: DType| {
            holds(between, from) && (holds(to, from) || between.is_float() && to.is_float()) && between != to
        };
        let between = DType::ALL.iter().copied().filter(|&between| {
            from != to && between != from && neutral(between) && offered(from, between) && offered(between, to)
        });
        let mut types: Vec<DType> = vec![from];
        types.extend(between);
        types.extend((from != to).then_some(to));
        types
    }

    /// The layouts that an array on its way may have in a space.
    fn layouts_between(&self, space: usize, dtype: DType, transfer: &Transfer) -> Vec<Layout> {
        let space = &self.spaces[space];
        let mut layouts: Vec<Layout> = space.layouts.iter().filter_map(|rule| rule.single(dtype)).collect();
        if space.layouts.iter().any(|rule| rule.layout == LayoutPattern::AnyFractal) {
            let ends = [transfer.from.layout, transfer.to.layout];
            layouts.extend(ends.into_iter().filter(|layout| space.allows(layout, dtype)));
        }
        layouts.retain(|layout| match *layout {
            Layout::RowMajor => true,
            Layout::COLUMNS => transfer.plane,
            Layout::Fractal(_) => transfer.matrix,
        });
        layouts
    }

    /// Whether a path changes an array from one state to another; what was done is not undone.
    fn offers(&self, transfer: &Transfer, from: State, to: State, path: &Path) -> bool {
        let describe = |state: State| match state {
            State::Start => (transfer.from.layout, !transfer.spread),
            State::Tile { layout, spread, .. } => (layout, spread),
            State::Goal => (transfer.to.layout, true),
        };
        let ((layout, spread), (new_layout, spreads)) = (describe(from), describe(to));
        let (old, new) = (self.dtype_at(transfer, from), self.dtype_at(transfer, to));
        // From the first type over one between to the last.
        let forward = old == new || old == transfer.from.dtype || new == transfer.to.dtype;
        let undone = spread && !spreads || !forward;
        let mut needed = Vec::new();
        needed.extend((layout != new_layout).then_some(Transform::Layout));
        needed.extend((spread != spreads).then_some(Transform::Broadcast));
        if from == State::Start {
            needed.extend(&transfer.from.access);
        }
        if to == State::Goal {
            needed.extend(&transfer.to.access);
        }
        if transfer.plane && turned(from == State::Start, to == State::Goal, transfer, [layout, new_layout]) {
            needed.retain(|transform| !matches!(transform, Transform::Layout | Transform::Transpose));
        }
        !undone && needed.iter().all(|transform| path.transforms.contains(transform)) && path.converts(old, new)
    }

    fn hop(&self, transfer: &Transfer, state: State, path: usize) -> Hop<'_> {
        let (layout, spread) = match state {
            State::Tile { layout, spread, .. } => (layout, spread),
            State::Start | State::Goal => (transfer.to.layout, true),
        };
        Hop { path: &self.paths[path], layout, dtype: self.dtype_at(transfer, state), spread }
    }
}

/// Whether a step takes rows of device memory as columns of a tile, or the other way round, where the access there is transposed.
fn turned(first: bool, last: bool, transfer: &Transfer, layouts: [Layout; 2]) -> bool {
    let transposed = |end: &End| end.access.contains(&Transform::Transpose);
    match layouts {
        [Layout::RowMajor, Layout::COLUMNS] => first && !last && transposed(&transfer.from),
        [Layout::COLUMNS, Layout::RowMajor] => last && !first && transposed(&transfer.to),
        _ => false,
    }
}

/// Whether a type has every value of another.
fn holds(wide: DType, narrow: DType) -> bool {
    // Bits of an integer's size, or of a float's fraction with the leading one.
    let digits = |dtype: DType| match dtype {
        DType::F16 => Some(11),
        DType::BF16 => Some(8),
        DType::F32 => Some(24),
        DType::F64 => Some(53),
        DType::Bool => Some(1),
        _ if dtype.is_integer() => Some(dtype.bits() - usize::from(is_signed(dtype))),
        _ => None,
    };
    let (Some(room), Some(size)) = (digits(wide), digits(narrow)) else { return false };
    match (wide.is_float(), narrow.is_float()) {
        (true, true) => wide == narrow || matches!(wide, DType::F32 | DType::F64) && wide.bits() > narrow.bits(),
        (false, true) => false,
        (true, false) => size <= room,
        (false, false) => size <= room && (is_signed(wide) || !is_signed(narrow)) && wide != DType::Bool,
    }
}

fn is_signed(dtype: DType) -> bool {
    dtype.class() == tarsia_tensor::Class::Int
}

/// Cycles (as ordered bits of a non-negative float), steps, and the numbers of the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    cycles: u64,
    steps: usize,
    paths: Vec<(usize, State)>,
}

impl Cost {
    fn plus(&self, cycles: f64, way: &[(State, usize)]) -> Cost {
        // The bits of non-negative floats are in the order of their values.
        let cycles = (f64::from_bits(self.cycles) + cycles.max(0.0)).to_bits();
        Cost { cycles, steps: way.len(), paths: way[1..].iter().map(|&(state, path)| (path, state)).collect() }
    }
}
