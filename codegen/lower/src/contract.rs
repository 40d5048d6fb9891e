//! Matrix products: blocks of rows and columns over the grid, depth in chunks, the epilogue on the accumulator.
//!
//! ```text
//! for each batch, block of rows, block of columns (grid):
//!     acc = 0
//!     for each chunk of the depth:  acc += pack(lhs[rows, chunk]) · pack(rhs[chunk, columns])
//!     result = epilogue(acc)
//! ```
//! Constant right operands are packed at compile time and read where they lie.

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, NodeId, Value, access::Index};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Access, Axis, Layout, Opcode, Operand, Region, View};

use crate::{
    builder::{KernelBuilder, Packing, Source},
    emit::{Emitter, Leaf, Span},
    map::Target,
    nest::{Nest, compute_dtype, linear},
};

/// What the groups of a contraction's nest are to the matrix product.
pub(crate) struct Roles {
    /// Rows, columns and depth of the matrix instruction.
    pub matrix: [usize; 3],
    /// Sums outside the matrix instruction.
    pub outer_sums: Vec<usize>,
}

/// Everything about the contraction of a body.
struct Product<'a> {
    body: &'a Graph,
    nest: Nest,
    leaves: &'a FxHashMap<Value, Leaf>,
    operands: [Value; 2],
    indices: [Vec<Index>; 2],
    dtype: DType,
    accumulator: DType,
    roles: Roles,
}

/// Lowers a body with one contraction. `constant` tells which leaves are known at compile time.
pub(crate) fn lower_contract(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
    constant: &dyn Fn(Value) -> bool,
) -> Result<(), String> {
    let mut nest = Nest::trace(body, &[target.value])?;
    let result = nest
        .index_of(body, target.value, &nest.root.clone(), anchor.into())
        .ok_or("the product is used at several indices")?;
    let operands = body.operands(anchor);
    let types = [body.ty(operands[0]), body.ty(operands[1])];
    let mut indices = nest.operand_indices(&body[anchor], &types, &result).map_err(|o| format!("{o:?}"))?;
    let rhs_index = indices.pop().unwrap_or_default();
    let lhs_index = indices.pop().unwrap_or_default();
    let roles = roles(&mut nest, &lhs_index, &rhs_index)?;
    let out = body[anchor].types[0].dtype;
    let product = Product {
        dtype: compute_dtype(types[0].dtype),
        accumulator: compute_dtype(out),
        operands: [operands[0], operands[1]],
        indices: [lhs_index, rhs_index],
        body,
        nest,
        leaves,
        roles,
    };
    let spans = product.spans(builder);
    let acc = product.accumulate(builder, &spans, constant)?;
    let mut finished = leaves.clone();
    finished.insert(anchor.into(), Leaf::Tile(Operand::Tile(acc)));
    let [rows, columns, _] = product.roles.matrix;
    let mut emitter = Emitter::over(builder, body, &product.nest, &finished, spans, vec![rows, columns]);
    emitter.store(target.value, &product.nest.root, target.param)
}

/// Chooses rows, columns and depth: the innermost group of each kind. A kind without a group gets one of size 1.
fn roles(nest: &mut Nest, lhs: &[Index], rhs: &[Index]) -> Result<Roles, String> {
    let (mut rows, mut columns, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for group in 0..nest.groups.len() {
        match (nest.is_sum(group), nest.depends(lhs, group), nest.depends(rhs, group)) {
            (true, ..) => sums.push(group),
            (false, true, false) => rows.push(group),
            (false, false, true) => columns.push(group),
            (false, true, true) => {}
            (false, false, false) if nest.size(group).is(1) => {}
            (false, false, false) => return Err("the product is repeated along an axis".into()),
        }
    }
    let mut last = |groups: &mut Vec<usize>| {
        groups.pop().unwrap_or_else(|| {
            nest.groups.push(Vec::new());
            nest.groups.len() - 1
        })
    };
    let matrix = [last(&mut rows), last(&mut columns), last(&mut sums)];
    Ok(Roles { matrix, outer_sums: sums })
}

impl Product<'_> {
    /// Grid axes for everything but the sums.
    fn spans(&self, builder: &mut KernelBuilder) -> Vec<Span> {
        let block = self.block(builder);
        let [rows, columns, depth] = self.roles.matrix;
        let mut spans: Vec<Span> = (0..self.nest.groups.len()).map(|_| Span::point(Dim::ZERO)).collect();
        for group in (0..self.nest.groups.len()).filter(|&g| g != depth && !self.nest.is_sum(g)) {
            let size = self.nest.size(group);
            if group == rows || group == columns {
                let part = block[usize::from(group == columns)];
                let part = size.as_usize().unwrap_or(part).clamp(1, part);
                let start = builder.grid(size.ceil_div(&Dim::from(part))) * Dim::from(part);
                let left = size - start.clone();
                spans[group] = Span { start, size: left.minimum(&Dim::from(part)), capacity: part };
            } else {
                spans[group] = Span::point(builder.grid(size));
            }
        }
        spans
    }

    /// Rows, columns and depth of a block: the machine's, with the columns cut so that both cores get work.
    fn block(&self, builder: &KernelBuilder) -> [usize; 3] {
        builder.target.matrix_block
    }

    /// The accumulator after all sums.
    fn accumulate(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        constant: &dyn Fn(Value) -> bool,
    ) -> Result<Region, String> {
        let [rows, columns, depth] = self.roles.matrix;
        let target = builder.target;
        let capacity = [spans[rows].capacity, spans[columns].capacity];
        let tile =
            builder.tile(&target.matrix_spaces[2].clone(), self.accumulator, capacity.to_vec(), target.accumulator);
        let acc = Region::at_origin(tile, vec![spans[rows].size.clone(), spans[columns].size.clone()]);
        let size = self.nest.size(depth);
        let part = size.as_usize().unwrap_or(usize::MAX).clamp(1, self.block(builder)[2]);
        let once = self.roles.outer_sums.is_empty() && size.as_usize() == Some(part);
        if !once {
            builder.instr(Opcode::Fill, vec![Operand::Tile(acc.clone())], vec![Operand::Real(0.0)]);
        }
        let packed = self.pack_constant(builder, constant);
        self.sum(builder, &self.roles.outer_sums, spans.to_vec(), &mut |builder, spans| {
            builder.for_each(size.clone(), part as i64, |builder, start| {
                let mut spans = spans.clone();
                let left = size.clone() - start.clone();
                spans[depth] = Span { start, size: left.minimum(&Dim::from(part)), capacity: part };
                let [left, right] = builder.target.matrix_layouts_for(self.dtype);
                let lhs = self.operand(builder, 0, &spans, [rows, depth], left)?;
                let rhs = match &packed {
                    Some((param, order)) => Operand::Global(self.packed_view(*param, order, &spans)),
                    None => self.operand(builder, 1, &spans, [depth, columns], right)?,
                };
                builder.instr(Opcode::Mmad { accumulate: !once }, vec![Operand::Tile(acc.clone())], vec![lhs, rhs]);
                Ok::<(), String>(())
            })
        })?;
        Ok(acc)
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

    /// One operand in the matrix unit's layout.
    fn operand(
        &self,
        builder: &mut KernelBuilder,
        which: usize,
        spans: &[Span],
        axes: [usize; 2],
        layout: Layout,
    ) -> Result<Operand, String> {
        let (value, index) = (self.operands[which], &self.indices[which]);
        let mut emitter = Emitter::over(builder, self.body, &self.nest, self.leaves, spans.to_vec(), axes.to_vec());
        let source = match emitter.raw(value, index)? {
            Some(source) => source,
            None => {
                let computed = emitter.value(value, index)?;
                emitter.materialise(computed, self.body.ty(value).dtype, index)
            }
        };
        let (size, capacity) = emitter.extent(index);
        let space = builder.target.matrix_spaces[which].clone();
        let tile = builder.tile(&space, self.accumulator_operand(), capacity, layout);
        let region = Operand::Tile(Region::at_origin(tile, size));
        builder.copy(region.clone(), source);
        Ok(region)
    }

    /// Operands are multiplied in the accumulator's type.
    fn accumulator_operand(&self) -> DType {
        if self.dtype.is_integer() { self.accumulator } else { self.dtype }
    }

    /// A parameter with the constant right operand in panels, and the groups that are its rows.
    fn pack_constant(
        &self,
        builder: &mut KernelBuilder,
        constant: &dyn Fn(Value) -> bool,
    ) -> Option<(tarsia_tile::ParamId, Vec<usize>)> {
        let [_, layout] = builder.target.matrix_layouts_for(self.dtype);
        if !builder.target.direct || layout == Layout::RowMajor {
            return None;
        }
        let mut probe = Emitter::over(
            builder,
            self.body,
            &self.nest,
            self.leaves,
            (0..self.nest.groups.len()).map(|_| Span::point(Dim::ZERO)).collect(),
            Vec::new(),
        );
        let (leaf, index) = probe.leaf_of(self.operands[1], &self.indices[1])?;
        if !constant(leaf) {
            return None;
        }
        let position = linear(&self.body.ty(leaf).shape, &index);
        let [_, columns, depth] = self.roles.matrix;
        let rows: Vec<usize> = (0..self.nest.groups.len())
            .filter(|&g| g != columns && g != depth && self.nest.depends(&index, g))
            .chain([depth])
            .collect();
        let axis = |&group: &usize| {
            let stride = self.nest.groups[group].last().map_or(Dim::ZERO, |&last| position.step(last));
            Some((self.nest.size(group).as_usize()?, stride.as_const()?))
        };
        let packing = Packing {
            leaf,
            base: position.base.as_const()?,
            rows: rows.iter().map(axis).collect::<Option<_>>()?,
            columns: axis(&columns)?,
        };
        let height: usize = packing.rows.iter().map(|(size, _)| size).product();
        let shape = vec![Dim::from(height), Dim::from(packing.columns.0)];
        let param = builder.param(Source::Packed(packing), DType::F32, shape, layout, Access::Read);
        Some((param, rows))
    }

    fn packed_view(&self, param: tarsia_tile::ParamId, rows: &[usize], spans: &[Span]) -> View {
        let [_, columns, depth] = self.roles.matrix;
        let start = rows.iter().fold(Dim::ZERO, |at, &g| at * self.nest.size(g) + spans[g].start.clone());
        View {
            param,
            axes: vec![
                Axis { start, steps: vec![(0, Dim::ONE)] },
                Axis { start: spans[columns].start.clone(), steps: vec![(1, Dim::ONE)] },
            ],
            size: vec![spans[depth].size.clone(), spans[columns].size.clone()],
            fill: None,
        }
    }
}
