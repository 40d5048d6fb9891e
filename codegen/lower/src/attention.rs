//! Attention without storing the scores (FlashAttention, Dao et al. 2022): a block of queries meets the keys chunk by chunk,
//! keeping the running maximum and sum of every row.
//!
//! ```text
//! acc = 0, max = lowest, sum = 0
//! for each chunk of keys:
//!     s = scale · q·kᵀ + mask;  new = max(max, rowmax s);  p = e^(s - new);  c = e^(max - new)
//!     sum = sum·c + rowsum p;   acc = acc·c + p·v;         max = new
//! result = acc / sum
//! ```

mod staged;

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Graph, NodeId, Op, ReduceFn, Type, UnaryFn, Value, access::Index};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Layout, Opcode, Operand, Region};

use crate::{
    accumulator::Accumulator,
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span},
    map::Target,
    nest::{Nest, compute_dtype},
};

/// Queries and keys of a block.
const BLOCK: [usize; 2] = [96, 256];

struct Attention<'a> {
    body: &'a Graph,
    nest: &'a Nest,
    leaves: &'a FxHashMap<Value, Leaf>,
    operands: Vec<Value>,
    indices: Vec<Vec<Index>>,
    scale: f64,
    dtype: DType,
    /// Groups of queries, keys, head and value columns.
    groups: [usize; 4],
}

/// Lowers a body with one attention.
pub(crate) fn lower_attention(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
) -> Result<(), String> {
    let Op::Attention { scale } = body[anchor].op else { return Err("no attention".into()) };
    let mut nest = Nest::trace(body, &[target.value])?;
    let root = nest.root.clone();
    let result =
        nest.index_of(body, target.value, &root, anchor.into()).ok_or("the attention is used at several indices")?;
    let operands = body.operands(anchor).to_vec();
    let types: Vec<&Type> = operands.iter().map(|&operand| body.ty(operand)).collect();
    let indices = nest.operand_indices(&body[anchor], &types, &result).map_err(|o| format!("{o:?}"))?;
    let mut group = |index: &Index, what: &str| nest.group_of(index).ok_or(format!("the {what} are not one axis"));
    let groups = [
        group(&result[2], "queries")?,
        group(&indices[1][2], "keys")?,
        group(&indices[0][3], "head's elements")?,
        group(&result[3], "value's elements")?,
    ];
    let dtype = compute_dtype(types[0].dtype);
    let attention = Attention { body, nest: &nest, leaves, operands, indices, scale: scale.0, dtype, groups };
    if staged::lower(&attention, builder, anchor, target)? {
        return Ok(());
    }
    let [queries, _, _, columns] = groups;
    let spans = attention.spans(builder)?;
    let acc = attention.accumulate(builder, &spans)?;
    let mut finished = leaves.clone();
    finished.insert(anchor.into(), Leaf::Tile(Operand::Tile(acc)));
    Emitter::over(builder, body, &nest, &finished, spans, vec![queries, columns]).store(
        target.value,
        &root,
        target.param,
    )
}

impl Attention<'_> {
    fn spans(&self, builder: &mut KernelBuilder) -> Result<Vec<Span>, String> {
        let [queries, _, head, columns] = self.groups;
        let mut spans = vec![Span::point(Dim::ZERO); self.nest.groups.len()];
        for group in (0..self.nest.groups.len()).filter(|&g| !self.nest.is_sum(g) && g != columns && g != queries) {
            spans[group] = Span::point(builder.grid(self.nest.size(group)));
        }
        for group in [head, columns] {
            let size = self.nest.size(group);
            let capacity = size.as_usize().ok_or("the head's size is not known")?;
            spans[group] = Span { start: Dim::ZERO, size, capacity };
        }
        let size = self.nest.size(queries);
        let most = builder.asked(&[1, 1]).map_or_else(|| builder.target.elements(BLOCK[0]), |sides| sides[0]);
        let part = size.as_usize().unwrap_or(most).clamp(1, most);
        let start = builder.grid(size.ceil_div(&Dim::from(part))) * Dim::from(part);
        let left = size - start.clone();
        spans[queries] = Span { start, size: left.minimum(&Dim::from(part)), capacity: part };
        Ok(spans)
    }

    fn accumulate(&self, builder: &mut KernelBuilder, spans: &[Span]) -> Result<Region, String> {
        let [queries, keys, head, columns] = self.groups;
        let (rows, capacity) = (spans[queries].size.clone(), spans[queries].capacity);
        let column =
            |builder: &mut KernelBuilder| builder.scratch(self.dtype, &[capacity, 1], &[rows.clone(), Dim::ONE]);
        let pair = |groups: [usize; 2]| groups.map(|g| (spans[g].size.clone(), spans[g].capacity));
        let (size, room): (Vec<Dim>, Vec<usize>) = pair([queries, columns]).into_iter().unzip();
        let reached = builder.target.vectors_reach_accumulator;
        let acc = match reached {
            true => self.matrix_tile(builder, 2, [queries, columns], spans),
            false => builder.scratch(self.dtype, &room, &size),
        };
        let (max, sum, next, factor) = (column(builder), column(builder), column(builder), column(builder));
        let tile = |region: &Region| Operand::Tile(region.clone());
        let lowest = if self.dtype == DType::F64 { f64::MIN } else { f64::from(f32::MIN) };
        for (region, value) in [(&acc, 0.0), (&max, lowest), (&sum, 0.0)] {
            builder.instr(Opcode::Fill, vec![tile(region)], vec![Operand::Real(value)]);
        }
        let lhs = self.operand(builder, 0, 0, [queries, head], spans)?;
        let (result, size) = (size, self.nest.size(keys));
        let most = builder.asked(&[1, 1]).map_or_else(|| builder.target.elements(BLOCK[1]), |sides| sides[1]);
        let part = size.as_usize().unwrap_or(most).clamp(1, most);
        builder.for_each(size.clone(), part as i64, |builder, start| {
            let mut spans = spans.to_vec();
            let left = size.clone() - start.clone();
            spans[keys] = Span { start, size: left.minimum(&Dim::from(part)), capacity: part };
            let scores = self.scores(builder, &lhs, &spans)?;
            let op = |builder: &mut KernelBuilder, function, dst: &Region, a: &Region, b: &Region| {
                builder.instr(Opcode::Binary(function), vec![tile(dst)], vec![tile(a), tile(b)]);
            };
            let reduce = |function| Opcode::Reduce { function, axis: 1, accumulate: false };
            builder.instr(reduce(ReduceFn::Max), vec![tile(&next)], vec![tile(&scores)]);
            op(builder, BinaryFn::Max, &next, &next, &max);
            op(builder, BinaryFn::Sub, &scores, &scores, &next);
            builder.instr(Opcode::Unary(UnaryFn::Exp), vec![tile(&scores)], vec![tile(&scores)]);
            op(builder, BinaryFn::Sub, &factor, &max, &next);
            builder.instr(Opcode::Unary(UnaryFn::Exp), vec![tile(&factor)], vec![tile(&factor)]);
            op(builder, BinaryFn::Mul, &sum, &sum, &factor);
            let all = Opcode::Reduce { function: ReduceFn::Sum, axis: 1, accumulate: true };
            builder.instr(all, vec![tile(&sum)], vec![tile(&scores)]);
            op(builder, BinaryFn::Mul, &acc, &acc, &factor);
            builder.copy(tile(&max), tile(&next));
            let weights = self.matrix_tile(builder, 0, [queries, keys], &spans);
            builder.copy(tile(&weights), tile(&scores));
            let values = self.operand(builder, 2, 1, [keys, columns], &spans)?;
            if reached {
                builder.instr(Opcode::Mmad { accumulate: true }, vec![tile(&acc)], vec![tile(&weights), values]);
                return Ok(());
            }
            let part = Accumulator::new(builder, self.dtype, &room, &result, true);
            let part =
                part.sum(builder, Dim::ONE, |builder, part| part.add(builder, Dim::ZERO, tile(&weights), values))?;
            op(builder, BinaryFn::Add, &acc, &acc, &part);
            Ok::<(), String>(())
        })?;
        builder.instr(Opcode::Binary(BinaryFn::Div), vec![tile(&acc)], vec![tile(&acc), tile(&sum)]);
        Ok(acc)
    }

    /// Scaled and masked scores of the block.
    fn scores(&self, builder: &mut KernelBuilder, lhs: &Operand, spans: &[Span]) -> Result<Region, String> {
        let [queries, keys, head, _] = self.groups;
        let rhs = self.operand(builder, 1, 1, [head, keys], spans)?;
        let pair = [queries, keys].map(|g| (spans[g].size.clone(), spans[g].capacity));
        let (size, room): (Vec<Dim>, Vec<usize>) = pair.into_iter().unzip();
        let scores = Accumulator::new(builder, self.dtype, &room, &size, true);
        let scores =
            scores.sum(builder, Dim::ONE, |builder, scores| scores.add(builder, Dim::ZERO, lhs.clone(), rhs))?;
        let tile = || Operand::Tile(scores.clone());
        let scale = Operand::Real(self.scale);
        let Some(&mask) = self.operands.get(3) else {
            builder.instr(Opcode::Binary(BinaryFn::Mul), vec![tile()], vec![tile(), scale]);
            return Ok(scores);
        };
        let axes = vec![queries, keys];
        let mut emitter = Emitter::over(builder, self.body, self.nest, self.leaves, spans.to_vec(), axes);
        let mask = emitter.value(mask, &self.indices[3])?;
        builder.instr(Opcode::MulAdd, vec![tile()], vec![tile(), scale, mask]);
        Ok(scores)
    }

    /// A tile for a matrix with these groups as rows and columns: left operand 0, right 1, accumulator 2.
    fn matrix_tile(&self, builder: &mut KernelBuilder, role: usize, groups: [usize; 2], spans: &[Span]) -> Region {
        let layout = match builder.target.matrix_layouts_for(self.dtype).get(role) {
            Some(&layout) => layout,
            None => Layout::RowMajor,
        };
        let space = builder.target.matrix_spaces[role].clone();
        let tile = builder.tile(&space, self.dtype, groups.map(|g| spans[g].capacity).to_vec(), layout);
        Region::at_origin(tile, groups.map(|g| spans[g].size.clone()).to_vec())
    }

    fn operand(
        &self,
        builder: &mut KernelBuilder,
        which: usize,
        role: usize,
        groups: [usize; 2],
        spans: &[Span],
    ) -> Result<Operand, String> {
        let (value, index) = (self.operands[which], &self.indices[which]);
        let mut emitter = Emitter::over(builder, self.body, self.nest, self.leaves, spans.to_vec(), groups.to_vec());
        let whole = emitter.whole();
        let source = match emitter.raw(value, index)? {
            Some(Operand::Global(view)) if view.size == whole.0 => Operand::Global(view),
            _ => {
                let computed = emitter.value(value, index)?;
                emitter.repeated(computed, self.body.ty(value).dtype, whole)
            }
        };
        let tile = Operand::Tile(self.matrix_tile(builder, role, groups, spans));
        builder.copy(tile.clone(), source);
        Ok(tile)
    }
}
