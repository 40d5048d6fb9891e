//! Matrix products: contractions, and convolutions as products with the image's windows.
//!
//! ```text
//! for each batch, block of rows, block of columns (grid):
//!     acc = 0
//!     for each chunk of the depth:  acc += pack(lhs[rows, chunk]) · pack(rhs[chunk, columns])
//!     result = epilogue(acc)
//! ```
//! Constant operands are packed at compile time and read where they lie. In a convolution the weights are the left operand
//! and several axes of the image together are the columns, several axes of the window the depth.

pub(crate) mod staged;
mod windows;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, NodeId, Op, Type, Value, access::Index};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Access, Axis, Layout, Machine, Opcode, Operand, ParamId, Region, View};

use crate::{
    accumulator::Accumulator,
    blocks::{self, Side},
    builder::{KernelBuilder, Packing, Source},
    emit::{Emitter, Leaf, Span},
    map::Target as Result_,
    nest::{Nest, compute_dtype, linear},
    target::Target,
    window,
};

/// What the groups of a nest are to the matrix instruction; along all others it has a single index.
struct Roles {
    rows: Vec<usize>,
    columns: Vec<usize>,
    depth: Vec<usize>,
    /// Sums outside the instruction.
    outer: Vec<usize>,
}

struct Product<'a> {
    body: &'a Graph,
    nest: Nest,
    leaves: &'a FxHashMap<Value, Leaf>,
    /// Left and right operand.
    operands: [Value; 2],
    indices: [Vec<Index>; 2],
    /// Of a convolution, which operand is the image, and what is read where its index leaves it.
    image: usize,
    fill: Option<f64>,
    dtype: DType,
    accumulator: DType,
    roles: Roles,
    block: [usize; 3],
    /// Whether the block is asked for and not to be cut into equal parts.
    exact: bool,
}

/// Lowers a body with one contraction or convolution. `constant` tells which leaves are known at compile time.
pub(crate) fn lower_matrix(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Result_,
    constant: &dyn Fn(Value) -> bool,
) -> Result<(), String> {
    if window::lower_depthwise(builder, body, anchor, leaves, target)? {
        return Ok(());
    }
    let mut product = Product::new(builder, body, anchor, leaves, target)?;
    if builder.target.stages.iter().all(Option::is_some) {
        if windows::lower(&mut product, builder, anchor, target, constant)? {
            return Ok(());
        }
        return staged::lower(&product, builder, anchor, target, constant);
    }
    let layouts = builder.target.matrix_layouts_for(product.dtype);
    let packed = match builder.target.direct {
        true => [0, 1].map(|which| {
            // Only the innermost axis may be cut inside, or blocks would not start at block boundaries.
            let cut = which == 1 && product.roles.columns.len() > 1;
            if cut {
                return None;
            }
            product.pack_constant(builder, which, (DType::F32, layouts[which]), constant)
        }),
        false => [None, None],
    };
    let packed = match product.asked(builder) {
        true => packed.map(|packed| packed.filter(|packed| product.begins_at_panels(packed))),
        false => packed,
    };
    product.cut(builder.target, [packed[0].is_some(), packed[1].is_some()]);
    let spans = product.spans(builder);
    let acc = product.accumulate(builder, &spans, &packed)?;
    let mut finished = leaves.clone();
    finished.insert(anchor.into(), Leaf::Tile(Operand::Tile(acc)));
    let mut emitter = Emitter::over(builder, body, &product.nest, &finished, spans, product.result_axes());
    emitter.store(target.value, &product.nest.root, target.param)
}

impl<'a> Product<'a> {
    fn new(
        builder: &mut KernelBuilder,
        body: &'a Graph,
        anchor: NodeId,
        leaves: &'a FxHashMap<Value, Leaf>,
        target: &Result_,
    ) -> Result<Self, String> {
        let mut nest = Nest::trace(body, &[target.value])?;
        let root = nest.root.clone();
        let result =
            nest.index_of(body, target.value, &root, anchor.into()).ok_or("the product is used at several indices")?;
        let mut operands = [body.operands(anchor)[0], body.operands(anchor)[1]];
        let types = [body.ty(operands[0]), body.ty(operands[1])];
        let accumulator = compute_dtype(body[anchor].types[0].dtype);
        let computed = compute_dtype(types[0].dtype);
        // Integers that the unit does not multiply as they are, are multiplied in the accumulator's type.
        let computed = if computed.is_integer() { accumulator } else { computed };
        let dtype = match types[0].dtype == types[1].dtype {
            true => builder.target.product_dtype(types[0].dtype, accumulator, computed),
            false => computed,
        };
        let indices = nest.operand_indices(&body[anchor], &types, &result).map_err(|o| format!("{o:?}"))?;
        let mut indices: [Vec<Index>; 2] = indices.try_into().map_err(|_| "a product has two operands")?;
        let (mut fill, mut image) = (None, 1);
        let op = &body[anchor].op;
        // Where sums are exchanged in a space of all axes, several may be rows or columns of a product.
        let several = builder.target.stages.iter().all(Option::is_some) && builder.target.exchange.is_some();
        if let Op::Conv { low, high, .. } = op {
            // Where an image's channels are neighbours in memory, its places are rows; else its rows are columns.
            if several && channels_innermost(builder, body, &nest, leaves, (operands[0], &indices[0])) {
                image = 0;
                if body.ty(operands[1]).shape[2..].iter().any(|places| !places.is(1)) {
                    // A window's rows are loaded by themselves, so batches are none of them.
                    nest.groups = nest.groups.iter().flatten().map(|&axis| vec![axis]).collect();
                }
            } else {
                operands.swap(0, 1);
                indices.swap(0, 1);
            }
            fill = low.iter().chain(high).any(|&padding| padding > 0).then_some(0.0);
        }
        let is_conv = matches!(op, Op::Conv { .. });
        let block = builder.target.matrix_block;
        let roles = Roles::assign(&mut nest, &indices, is_conv, several)?;
        let [rows, columns, depth] = block;
        let block = if accumulator.bits() > 32 { [rows, columns, depth.div_ceil(2)] } else { block };
        let exact = false;
        Ok(Product { body, nest, leaves, operands, indices, image, fill, dtype, accumulator, roles, block, exact })
    }

    /// Takes the block that is asked for, if one is.
    fn asked(&mut self, builder: &mut KernelBuilder) -> bool {
        let [rows, columns] = builder.target.rates.granule;
        let Some(asked) = builder.asked(&[rows, columns, 1]) else { return false };
        asked.iter().zip(&mut self.block).for_each(|(asked, side)| *side = *asked);
        self.exact = true;
        true
    }

    /// Whether the blocks that are asked for begin at blocks of a packed operand's layout.
    fn begins_at_panels(&self, packed: &Packed) -> bool {
        let [m, n, k] = self.block;
        let sides = if packed.which == 0 { [m, k] } else { [k, n] };
        sides.iter().zip(packed.block).all(|(side, block)| side.is_multiple_of(block))
    }

    /// Chooses rows and columns of a block.
    fn cut(&mut self, target: &Target, packed: [bool; 2]) {
        if self.exact {
            return;
        }
        if packed[1] {
            self.block = target.streamed_block;
        }
        let sizes = |groups: &[usize]| groups.iter().map(|&g| self.nest.size(g).as_usize()).collect::<Vec<_>>();
        let known = |groups: &[usize]| sizes(groups).into_iter().map(|size| size.unwrap_or(1)).product::<usize>();
        let layouts = target.matrix_layouts_for(self.dtype);
        let rows = Side::new(sizes(&self.roles.rows), packed[0], layouts[0], 0);
        let columns = Side::new(sizes(&self.roles.columns), packed[1], layouts[1], 1);
        let others = (0..self.nest.groups.len())
            .filter(|g| !self.nest.is_sum(*g) && !self.roles.rows.contains(g) && !self.roles.columns.contains(g));
        let batches = known(&others.collect::<Vec<_>>());
        let depth = known(&self.roles.depth).saturating_mul(known(&self.roles.outer)).max(1);
        let fallback = [self.block[0], self.block[1]];
        let [m, n] = blocks::choose(target, [&rows, &columns], depth, self.block[2], batches, fallback);
        // Blocks are measured in elements of 4 bytes.
        let wide = self.accumulator.bits() > 32;
        (self.block[0], self.block[1]) = (m, if wide { n.div_ceil(2) } else { n });
    }

    /// Grid axes for everything but the sums.
    fn spans(&self, builder: &mut KernelBuilder) -> Vec<Span> {
        let mut spans: Vec<Span> = (0..self.nest.groups.len()).map(|_| Span::point(Dim::ZERO)).collect();
        for group in (0..self.nest.groups.len()).filter(|&g| !self.nest.is_sum(g)) {
            if !self.roles.rows.contains(&group) && !self.roles.columns.contains(&group) {
                spans[group] = Span::point(builder.grid(self.nest.size(group)));
            }
        }
        for (groups, block) in [(&self.roles.rows, self.block[0]), (&self.roles.columns, self.block[1])] {
            let mut room = block;
            for &group in groups.iter().rev() {
                let size = self.nest.size(group);
                let part = self.part(size.as_usize(), room);
                // An outer axis can only be taken along if the inner ones are whole.
                room = if size.as_usize() == Some(part) { room / part } else { 1 };
                spans[group] = if size.as_usize() == Some(part) {
                    Span { start: Dim::ZERO, size, capacity: part }
                } else {
                    let start = builder.grid(size.ceil_div(&Dim::from(part))) * Dim::from(part);
                    let left = size - start.clone();
                    Span { start, size: left.minimum(&Dim::from(part)), capacity: part }
                };
            }
        }
        spans
    }

    /// How much of an axis is taken at a time, of which there is room for `most`.
    fn part(&self, size: Option<usize>, most: usize) -> usize {
        if self.exact { size.unwrap_or(most).clamp(1, most.max(1)) } else { balanced(size, most) }
    }

    fn result_axes(&self) -> Vec<usize> {
        self.roles.rows.iter().chain(&self.roles.columns).copied().collect()
    }

    /// The accumulator after all sums.
    fn accumulate(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        packed: &[Option<Packed>; 2],
    ) -> Result<Region, String> {
        let (size, capacity): (Vec<Dim>, Vec<usize>) =
            self.result_axes().iter().map(|&group| (spans[group].size.clone(), spans[group].capacity)).unzip();
        let (chunked, whole) = self.roles.depth.split_first().ok_or("a product without depth")?;
        let inner: usize = whole.iter().map(|&group| self.nest.size(group).as_usize().unwrap_or(1)).product();
        let (result, size) = (size, self.nest.size(*chunked));
        let part = self.part(size.as_usize(), (self.block[2] / inner.max(1)).max(1));
        let once = self.roles.outer.is_empty() && size.as_usize() == Some(part) && part > 0;
        let acc = Accumulator::new(builder, self.accumulator, &capacity, &result, once);
        let summed = self.roles.depth.iter().chain(&self.roles.outer);
        let terms = Dim::product(summed.map(|&group| self.nest.size(group)).collect::<Vec<_>>().iter());
        acc.sum(builder, terms, |builder, acc| {
            self.sum(builder, &self.roles.outer, spans.to_vec(), &mut |builder, spans| {
                builder.for_each(size.clone(), part.max(1) as i64, |builder, start| {
                    let mut spans = spans.clone();
                    let left = size.clone() - start.clone();
                    spans[*chunked] = Span { start, size: left.minimum(&Dim::from(part)), capacity: part };
                    for &group in whole {
                        let size = self.nest.size(group);
                        spans[group] = Span { start: Dim::ZERO, capacity: size.as_usize().unwrap_or(1), size };
                    }
                    let lhs = self.operand(builder, 0, &spans, packed)?;
                    let rhs = self.operand(builder, 1, &spans, packed)?;
                    let summed = self.roles.outer.iter().chain([chunked]);
                    let progress = summed.fold(Dim::ZERO, |sum, &group| sum + spans[group].start.clone());
                    acc.add(builder, progress, lhs, rhs)
                })
            })
        })
    }

    fn sum(
        &self,
        builder: &mut KernelBuilder,
        groups: &[usize],
        spans: Vec<Span>,
        body: &mut dyn FnMut(&mut KernelBuilder, Vec<Span>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some((&group, rest)) = groups.split_first() else { return body(builder, spans) };
        builder.for_each(self.nest.size(group), 1, |builder, at| {
            let mut spans = spans.clone();
            spans[group] = Span::point(at);
            self.sum(builder, rest, spans, body)
        })
    }

    /// The groups that are rows and columns of an operand as a matrix.
    fn matrix_axes(&self, which: usize) -> [&[usize]; 2] {
        match which {
            0 => [&self.roles.rows, &self.roles.depth],
            _ => [&self.roles.depth, &self.roles.columns],
        }
    }

    /// One operand in the matrix unit's layout.
    fn operand(
        &self,
        builder: &mut KernelBuilder,
        which: usize,
        spans: &[Span],
        packed: &[Option<Packed>; 2],
    ) -> Result<Operand, String> {
        if let Some(packed) = &packed[which] {
            return Ok(Operand::Global(self.packed_view(packed, which, spans)));
        }
        let [rows, columns] = self.matrix_axes(which);
        let axes: Vec<usize> = rows.iter().chain(columns).copied().collect();
        let (value, index) = (self.operands[which], &self.indices[which]);
        let mut emitter = Emitter::over(builder, self.body, &self.nest, self.leaves, spans.to_vec(), axes);
        let source = match (which, self.fill) {
            (which, Some(fill)) if which == self.image => emitter.filled(value, index, fill)?,
            _ => {
                let whole = emitter.whole();
                match emitter.raw(value, index)? {
                    Some(Operand::Global(view)) if view.size == whole.0 => Operand::Global(view),
                    _ => {
                        let computed = emitter.value(value, index)?;
                        emitter.repeated(computed, self.body.ty(value).dtype, whole)
                    }
                }
            }
        };
        let extent = |groups: &[usize]| {
            let part = groups.iter().map(|&g| (spans[g].size.clone(), spans[g].capacity));
            part.fold((Dim::ONE, 1usize), |(size, capacity), (s, c)| (size * s, capacity.saturating_mul(c)))
        };
        let ((height, high), (width, wide)) = (extent(rows), extent(columns));
        let layout = builder.target.matrix_layouts_for(self.dtype)[which];
        let space = builder.target.matrix_spaces[which].clone();
        let tile = builder.tile(&space, self.dtype, vec![high, wide], layout);
        let region = Operand::Tile(Region::at_origin(tile, vec![height, width]));
        builder.instr(Opcode::Copy { rows: rows.len() }, vec![region.clone()], vec![source]);
        Ok(region)
    }

    /// A parameter with a constant operand in a layout, if it can be there so that blocks begin at blocks of the layout.
    fn pack_constant(
        &self,
        builder: &mut KernelBuilder,
        which: usize,
        (dtype, layout): (DType, Layout),
        constant: &dyn Fn(Value) -> bool,
    ) -> Option<Packed> {
        let Layout::Fractal(fractal) = layout else { return None };
        if which == self.image && self.fill.is_some() {
            return None;
        }
        let point = vec![Span::point(Dim::ZERO); self.nest.groups.len()];
        let probe = Emitter::over(builder, self.body, &self.nest, self.leaves, point, Vec::new());
        let (leaf, index) = probe.leaf_of(self.operands[which], &self.indices[which])?;
        if !constant(leaf) {
            return None;
        }
        let position = linear(&self.body.ty(leaf).shape, &index);
        let [matrix_rows, matrix_columns] = self.matrix_axes(which);
        let others = (0..self.nest.groups.len())
            .filter(|g| !matrix_rows.contains(g) && !matrix_columns.contains(g) && self.nest.depends(&index, *g));
        // Batches and outer sums are further rows; they must not cut a block in two.
        let rows: Vec<usize> = others.chain(matrix_rows.iter().copied()).collect();
        let axis = |&group: &usize| {
            let stride = self.nest.groups[group].last().map_or(Dim::ZERO, |&last| position.step(last));
            Some((self.nest.size(group).as_usize()?, stride.as_const()?))
        };
        let packing = Packing {
            leaf,
            base: position.base.as_const()?,
            rows: rows.iter().map(axis).collect::<Option<_>>()?,
            columns: matrix_columns.iter().map(axis).collect::<Option<_>>()?,
            whole: 1,
        };
        let count = |axes: &[(usize, i64)]| axes.iter().map(|(size, _)| size).product::<usize>();
        let inner_rows = count(&packing.rows[rows.len() - matrix_rows.len()..]);
        let mut packing = packing;
        if rows.len() > matrix_rows.len() && inner_rows % fractal.block[0] != 0 {
            if matrix_rows.len() > 1 || builder.target.stages[which].is_none() {
                return None;
            }
            packing.whole = fractal.block[0];
        }
        let whole = packing.whole;
        let shape = packing.size()?.map(Dim::from).to_vec();
        let param = builder.param(Source::Packed(packing), dtype, shape, layout, Access::Read);
        Some(Packed { param, rows, which, whole, block: fractal.block })
    }

    fn packed_view(&self, packed: &Packed, which: usize, spans: &[Span]) -> View {
        let [rows, columns] = self.matrix_axes(which);
        let size_of = |group: usize| match self.nest.size(group).as_usize() {
            Some(size) if packed.rows.last() == Some(&group) => Dim::from(size.next_multiple_of(packed.whole)),
            _ => self.nest.size(group),
        };
        let start = |groups: &[usize]| groups.iter().fold(Dim::ZERO, |at, &g| at * size_of(g) + spans[g].start.clone());
        let size = |groups: &[usize]| Dim::product(groups.iter().map(|&g| &spans[g].size));
        View {
            param: packed.param,
            axes: vec![
                Axis { start: start(&packed.rows), steps: vec![(0, Dim::ONE)] },
                Axis { start: start(columns), steps: vec![(1, Dim::ONE)] },
            ],
            size: vec![size(rows), size(columns)],
            fill: None,
        }
    }
}

/// Whether a machine is better off if an image comes to this convolution with its channels innermost: whole blocks of them are loaded as
/// they lie, and its places are the rows of a product.
pub fn wants_channels_last(machine: &Machine, op: &Op, image: &Type, weights: &Type) -> bool {
    let (Op::Conv { groups, strides, low, .. }, Ok(target)) =
        (op, Target::of(&Arc::new(machine.clone()), &Arc::default(), 0))
    else {
        return false;
    };
    let ([Some(stage), Some(_)], Some(_)) = (&target.stages, &target.exchange) else { return false };
    let product = machine.product(image.dtype, weights.dtype).is_some();
    let width = match target.stage_layout(stage, image.dtype, false) {
        Layout::Fractal(fractal) => fractal.block[1],
        Layout::RowMajor => 1,
    };
    let channels = image.shape.get(1).and_then(Dim::as_usize);
    let depthwise =
        channels == Some(*groups) && *groups > 1 && target.turns(image.dtype) && weights.shape[0].is(*groups as i64);
    // Windows side by side whose rows are whole blocks are loaded from an image as it is.
    let places = weights.shape.last().and_then(Dim::as_usize);
    let patches = places.is_some_and(|places| strides.last() == Some(&places) && places.is_multiple_of(width));
    let patches = patches && low.iter().all(|&padding| padding == 0);
    depthwise || product && *groups == 1 && width > 1 && !patches
}

/// Whether neighbouring channels of an image are neighbours in memory.
fn channels_innermost(
    builder: &mut KernelBuilder,
    body: &Graph,
    nest: &Nest,
    leaves: &FxHashMap<Value, Leaf>,
    (image, index): (Value, &[Index]),
) -> bool {
    let point = vec![Span::point(Dim::ZERO); nest.groups.len()];
    let probe = Emitter::over(builder, body, nest, leaves, point, Vec::new());
    let channels = nest.sums.get(&0).and_then(|axes| axes.last());
    match (probe.leaf_of(image, index), channels) {
        (Some((leaf, index)), Some(&axis)) => linear(&body.ty(leaf).shape, &index).step(axis).is(1),
        _ => false,
    }
}

/// A constant operand in the layout in which it is read, and the groups that are its rows.
struct Packed {
    param: ParamId,
    rows: Vec<usize>,
    /// Left operand 0, right operand 1.
    which: usize,
    /// Zeros follow the innermost of them until it is a multiple of this.
    whole: usize,
    /// Rows and columns of a block of the layout.
    block: [usize; 2],
}

impl Roles {
    /// The innermost group of each kind, of rows and columns all where there may be `several`; in a convolution all axes of the image and
    /// of the window. A kind without a group gets one of size 1.
    fn assign(nest: &mut Nest, indices: &[Vec<Index>; 2], is_conv: bool, several: bool) -> Result<Roles, String> {
        let (mut rows, mut columns, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..nest.groups.len() {
            match (nest.is_sum(group), nest.depends(&indices[0], group), nest.depends(&indices[1], group)) {
                (true, ..) => sums.push(group),
                (false, true, false) => rows.push(group),
                (false, false, true) => columns.push(group),
                (false, true, true) => {}
                (false, false, false) if nest.size(group).is(1) => {}
                (false, false, false) => return Err("the product is repeated along an axis".into()),
            }
        }
        let mut own = |groups: Vec<usize>, all: bool| match groups.last() {
            Some(_) if all => groups,
            Some(&group) => vec![group],
            None => {
                nest.groups.push(Vec::new());
                vec![nest.groups.len() - 1]
            }
        };
        if is_conv {
            let (columns, sums) = (columns, sums);
            let columns = own(columns, true);
            let depth = own(sums, true);
            return Ok(Roles { rows: own(rows, several), columns, depth, outer: Vec::new() });
        }
        let (rows, columns, depth) = (own(rows, several), own(columns, several), own(sums.clone(), false));
        sums.pop();
        Ok(Roles { rows, columns, depth, outer: sums })
    }
}

/// Equal parts of at most `most`.
fn balanced(size: Option<usize>, most: usize) -> usize {
    match size {
        Some(size) => {
            let parts = size.div_ceil(most.max(1)).max(1);
            // Whole registers' worth, so that only the last part has a tail.
            let part = size.div_ceil(parts);
            if parts > 1 { part.next_multiple_of(96).min(most).max(1) } else { part.max(1) }
        }
        None => most.max(1),
    }
}
