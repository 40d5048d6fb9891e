//! Builds one tile kernel statement by statement.

use std::collections::BTreeSet;

use crate::{
    persist::{Grouping, Share},
    target::Target,
};
use tarsia_graph::{Origin, Value};
use tarsia_tensor::{DType, Dim, Symbol};
use tarsia_tile::{
    Access, Instr, Kernel, Lanes, Layout, Opcode, Operand, Param, ParamId, Region, Stmt, Tile, TileId, View,
};

/// Constant data that a kernel reads in another arrangement than the model's: a matrix whose rows and columns are strided in
/// the original, in the layout of its parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packing {
    /// The body's leaf that holds the original.
    pub leaf: Value,
    /// Position of the first element in the original.
    pub base: i64,
    /// Size and stride of the axes that are rows together, outermost first.
    pub rows: Vec<(usize, i64)>,
    /// Size and stride of the axes that are columns together, outermost first.
    pub columns: Vec<(usize, i64)>,
    /// Zeros follow the innermost axis of rows until it is a multiple of this.
    pub whole: usize,
}

impl Packing {
    /// Rows and columns.
    pub fn size(&self) -> Option<[usize; 2]> {
        let count = |axes: &[(usize, i64)]| axes.iter().try_fold(1usize, |all, &(size, _)| all.checked_mul(size));
        let (inner, outer) = self.rows.split_last().map_or((1, &[][..]), |(inner, outer)| (inner.0, outer));
        Some([count(outer)?.checked_mul(inner.checked_next_multiple_of(self.whole)?)?, count(&self.columns)?])
    }
}

/// What a parameter is bound to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A leaf of the body.
    Leaf(Value),
    /// A rearranged constant.
    Packed(Packing),
    /// Zeros.
    Zeros,
    /// The result of this number.
    Result(usize),
}

/// What the generator of a kernel knows of it beside its statements; see the fields of [`KernelBuilder`].
pub(crate) struct Hints {
    pub grouping: Option<Grouping>,
    pub signals: Vec<(String, String, usize)>,
    pub ordered: BTreeSet<TileId>,
}

/// A kernel under construction. Statements go to the innermost open block.
pub(crate) struct KernelBuilder<'m> {
    pub target: &'m Target,
    kernel: Kernel,
    /// Axes of the grid whose items share operands.
    pub grouping: Option<Grouping>,
    /// Signals that are set before the kernel's items and taken after them: from pipe, to pipe, event.
    pub signals: Vec<(String, String, usize)>,
    /// Tiles of one copy whose accesses these signals order.
    pub ordered: BTreeSet<TileId>,
    /// The steps in which the tile that is asked for can be longer or shorter, once it is taken.
    pub granule: Option<Vec<usize>>,
    /// What every parameter is bound to.
    pub sources: Vec<Source>,
    blocks: Vec<Vec<Stmt>>,
    symbols: usize,
}

impl<'m> KernelBuilder<'m> {
    pub fn new(name: &str, origin: &Origin, target: &'m Target) -> Self {
        let kernel = Kernel {
            name: name.to_owned(),
            origin: origin.names().map(str::to_owned).collect(),
            params: Vec::new(),
            tiles: Vec::new(),
            grid: Vec::new(),
            lanes: None,
            body: Vec::new(),
        };
        KernelBuilder {
            target,
            kernel,
            grouping: None,
            signals: Vec::new(),
            ordered: BTreeSet::new(),
            granule: None,
            sources: Vec::new(),
            blocks: vec![Vec::new()],
            symbols: 0,
        }
    }

    /// What is known of the kernel beside its statements.
    pub fn hints(&self) -> Hints {
        let (grouping, signals, ordered) = (self.grouping.clone(), self.signals.clone(), self.ordered.clone());
        Hints { grouping, signals, ordered }
    }

    pub fn finish(mut self) -> (Kernel, Vec<Source>) {
        debug_assert_eq!(self.blocks.len(), 1, "every block is closed");
        self.kernel.body = self.blocks.pop().unwrap_or_default();
        self.drop_unused_params();
        (self.kernel, self.sources)
    }

    /// The size of tile that is asked for, which is taken: its sides are multiples of `granule`, if they are more.
    pub fn asked(&mut self, granule: &[usize]) -> Option<&'m [usize]> {
        let sides = self.target.tile()?;
        self.granule = Some(granule.to_vec());
        Some(sides)
    }

    /// Elements of a tile: as many as are asked for, or suit a large memory.
    pub fn elements(&mut self, most: usize) -> usize {
        self.asked(&[1]).map_or_else(|| self.target.elements(most), |sides| sides[0])
    }

    /// Removes parameters that no instruction names: leaves that are read in another form.
    fn drop_unused_params(&mut self) {
        let mut used = vec![false; self.kernel.params.len()];
        for_each_view(&mut self.kernel.body, &mut |view| used[view.param.0 as usize] = true);
        let places: Vec<u32> = (0..used.len()).map(|i| used[..i].iter().filter(|used| **used).count() as u32).collect();
        for_each_view(&mut self.kernel.body, &mut |view| view.param = ParamId(places[view.param.0 as usize]));
        let mut flags = used.iter();
        self.kernel.params.retain(|_| flags.next().is_some_and(|used| *used));
        let mut flags = used.iter();
        self.sources.retain(|_| flags.next().is_some_and(|used| *used));
    }

    /// The parameter again under another shape of as many elements.
    pub fn reshaped(&mut self, id: ParamId, shape: Vec<Dim>) -> ParamId {
        let source = self.sources[id.0 as usize].clone();
        let known =
            (0..self.sources.len()).find(|&i| self.sources[i] == source && self.kernel.params[i].shape == shape);
        if let Some(known) = known {
            return ParamId(known as u32);
        }
        let Param { dtype, layout, access, .. } = self.kernel.params[id.0 as usize].clone();
        self.param(source, dtype, shape, layout, access)
    }

    pub fn param(&mut self, source: Source, dtype: DType, shape: Vec<Dim>, layout: Layout, access: Access) -> ParamId {
        let name = match source {
            Source::Leaf(_) => "x",
            Source::Packed(_) | Source::Zeros => "w",
            Source::Result(_) => "y",
        };
        self.sources.push(source);
        let id = ParamId(self.kernel.params.len() as u32);
        let name = format!("{name}{}", id.0);
        self.kernel.params.push(Param { name, dtype, shape, layout, access });
        id
    }

    /// Which of the vector cores that share an item: the variable of the kernel's lanes, or 0 where one core does it alone.
    pub fn lane(&mut self) -> Dim {
        if self.target.lanes < 2 {
            return Dim::ZERO;
        }
        let (count, space) = (self.target.lanes, self.target.vector_space.clone());
        let lanes = self.kernel.lanes.get_or_insert_with(|| Lanes { var: Symbol::new("%lane"), count, space });
        lanes.var.clone().into()
    }

    /// Capacity of a tile per axis.
    pub fn capacity_of(&self, tile: TileId) -> &[usize] {
        &self.kernel.tiles[tile.0 as usize].shape
    }

    /// Layout of a tile.
    pub fn layout_of(&self, tile: TileId) -> Layout {
        self.kernel.tiles[tile.0 as usize].layout
    }

    /// Element type of a tile.
    pub fn dtype_of(&self, tile: TileId) -> DType {
        self.kernel.tiles[tile.0 as usize].dtype
    }

    pub fn param_of(&self, id: ParamId) -> &Param {
        &self.kernel.params[id.0 as usize]
    }

    /// A variable name that no other loop of the kernel has.
    pub fn symbol(&mut self, prefix: &str) -> Symbol {
        self.symbols += 1;
        Symbol::new(&format!("%{prefix}{}", self.symbols - 1))
    }

    /// Adds a grid axis of `count` independent items and gives its variable.
    pub fn grid(&mut self, count: Dim) -> Dim {
        if count.is(1) {
            return Dim::ZERO;
        }
        let var = self.symbol("g");
        self.kernel.grid.push((var.clone(), count));
        var.into()
    }

    /// Deals the items of the grid out to the cores, for a kernel that goes from item to item by itself; see [`Share`]. `None` if every
    /// core has one.
    pub fn deal_items(&mut self) -> Option<Share> {
        Share::deal(&mut self.kernel, &self.target.machine, None)
    }

    pub fn tile(&mut self, space: &str, dtype: DType, shape: Vec<usize>, layout: Layout) -> TileId {
        let id = TileId(self.kernel.tiles.len() as u32);
        let name = format!("t{}", id.0);
        self.kernel.tiles.push(Tile { name, space: space.to_owned(), dtype, shape, layout, slots: 1, address: None });
        id
    }

    /// A row-major tile of which there are so many copies, with as many more rows as it takes for copies to be aligned.
    pub fn aligned_copies(&mut self, space: &str, dtype: DType, mut shape: Vec<usize>, copies: usize) -> TileId {
        let alignment = self.target.machine.space(space).map_or(1, |space| space.alignment * 8);
        let row = shape.iter().skip(1).product::<usize>() * dtype.bits();
        if let Some(rows) = shape.first_mut().filter(|_| copies > 1) {
            *rows = (*rows..).find(|rows| (rows * row).is_multiple_of(alignment)).unwrap_or(*rows);
        }
        self.copies(space, dtype, shape, Layout::RowMajor, copies)
    }

    /// A new tile of which there are so many copies.
    pub fn copies(&mut self, space: &str, dtype: DType, shape: Vec<usize>, layout: Layout, copies: usize) -> TileId {
        let id = self.tile(space, dtype, shape, layout);
        self.kernel.tiles[id.0 as usize].slots = copies;
        id
    }

    /// A new row-major tile in vector scratch of this capacity, as the region of this size.
    pub fn scratch(&mut self, dtype: DType, capacity: &[usize], size: &[Dim]) -> Region {
        let space = self.target.vector_space.clone();
        let tile = self.tile(&space, dtype, capacity.to_vec(), Layout::RowMajor);
        Region::at_origin(tile, size.to_vec())
    }

    pub fn instr(&mut self, op: Opcode, dst: Vec<Operand>, src: Vec<Operand>) {
        self.push(Stmt::Instr(Instr { op, dst, src }));
    }

    pub fn copy(&mut self, dst: Operand, src: Operand) {
        let op =
            if matches!(src, Operand::Real(_) | Operand::Index(_)) { Opcode::Fill } else { Opcode::Copy { rows: 1 } };
        self.instr(op, vec![dst], vec![src]);
    }

    pub fn push(&mut self, stmt: Stmt) {
        if let Some(block) = self.blocks.last_mut() {
            block.push(stmt);
        }
    }

    /// `for var in 0..end step step { body }`; a loop that is known to run once is not one.
    pub fn for_each<E>(
        &mut self,
        end: Dim,
        step: i64,
        body: impl FnOnce(&mut Self, Dim) -> Result<(), E>,
    ) -> Result<(), E> {
        if end.as_const().is_some_and(|end| end > 0 && end <= step) {
            return body(self, Dim::ZERO);
        }
        let var = self.symbol("i");
        let body = self.block(|b| body(b, var.clone().into()))?;
        self.push(Stmt::For { var, end, step, body });
        Ok(())
    }

    /// `if condition > 0 { then } else { otherwise }`, decided here where the condition is known.
    pub fn if_positive<E>(
        &mut self,
        condition: Dim,
        then: impl FnOnce(&mut Self) -> Result<(), E>,
        otherwise: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let range = condition.range();
        if range.low > 0 {
            return then(self);
        }
        if range.high <= 0 {
            return otherwise(self);
        }
        let then = self.block(then)?;
        let otherwise = self.block(otherwise)?;
        self.push(Stmt::If { condition, then, otherwise });
        Ok(())
    }

    fn block<E>(&mut self, fill: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<Vec<Stmt>, E> {
        self.blocks.push(Vec::new());
        let result = fill(self);
        let block = self.blocks.pop().unwrap_or_default();
        result.map(|()| block)
    }
}

/// Calls `f` for every view of a parameter.
fn for_each_view(body: &mut [Stmt], f: &mut dyn FnMut(&mut View)) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => for_each_view(body, f),
            Stmt::If { then, otherwise, .. } => {
                for_each_view(then, f);
                for_each_view(otherwise, f);
            }
            Stmt::Instr(Instr { dst, src, .. }) => {
                for operand in dst.iter_mut().chain(src) {
                    if let Operand::Global(view) = operand {
                        f(view);
                    }
                }
            }
        }
    }
}
