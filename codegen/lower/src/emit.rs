//! Generates the tile instructions that compute a value over a box of the iteration space.
//!
//! Tiles have one axis per group of the nest; along a group that a value does not depend on its tile has size 1, and
//! point-wise instructions broadcast it. A value needed twice at the same index is computed once.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Graph, Node, NodeId, Op, ReduceFn, Type, Value, access::Index};
use tarsia_tensor::{DType, Dim, Numbers};
use tarsia_tile::{Axis, Opcode, Operand, ParamId, Region, View};

use crate::{
    builder::KernelBuilder,
    nest::{Nest, compute_dtype, linear},
};

/// The part of a group that is being computed.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// First index.
    pub start: Dim,
    /// How many indices.
    pub size: Dim,
    /// Highest value of `size`.
    pub capacity: usize,
}

impl Span {
    /// A single index.
    pub fn point(start: Dim) -> Span {
        Span { start, size: Dim::ONE, capacity: 1 }
    }
}

/// Where a leaf of the body is in memory.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    /// A parameter with as many elements as the leaf, seen as one axis.
    Param(ParamId),
    /// A value that is in a tile already, over the whole box.
    Tile(Operand),
}

/// Computes values of a body over one box.
pub(crate) struct Emitter<'a, 'b, 'm> {
    pub builder: &'b mut KernelBuilder<'m>,
    pub body: &'a Graph,
    pub nest: &'a Nest,
    pub leaves: &'a FxHashMap<Value, Leaf>,
    /// The box: one span per group.
    pub spans: Vec<Span>,
    /// The groups that are axes of tiles, in order; along the others the box is a single index.
    pub axes: Vec<usize>,
    /// Results of reductions that earlier loops have finished.
    finished: BTreeMap<(Value, Vec<Index>), Operand>,
    /// Whether the box is part of a row: what it reduces to is not the row's result.
    partial: bool,
    done: FxHashMap<(Value, Vec<Index>), Operand>,
}

impl<'a, 'b, 'm> Emitter<'a, 'b, 'm> {
    pub fn new(
        builder: &'b mut KernelBuilder<'m>,
        body: &'a Graph,
        nest: &'a Nest,
        leaves: &'a FxHashMap<Value, Leaf>,
        spans: Vec<Span>,
    ) -> Self {
        let axes = tile_axes(&spans);
        Emitter::over(builder, body, nest, leaves, spans, axes)
    }

    /// An emitter whose tiles have these axes.
    pub fn over(
        builder: &'b mut KernelBuilder<'m>,
        body: &'a Graph,
        nest: &'a Nest,
        leaves: &'a FxHashMap<Value, Leaf>,
        spans: Vec<Span>,
        axes: Vec<usize>,
    ) -> Self {
        Emitter {
            builder,
            body,
            nest,
            leaves,
            spans,
            axes,
            finished: BTreeMap::new(),
            partial: false,
            done: FxHashMap::default(),
        }
    }

    /// The box is part of a row whose reductions have these results.
    pub fn finish(&mut self, finished: BTreeMap<(Value, Vec<Index>), Operand>) {
        (self.finished, self.partial) = (finished, true);
    }

    /// The tile axis of a group.
    fn axis_of(&self, group: usize) -> Option<usize> {
        self.axes.iter().position(|&g| g == group)
    }

    /// Size and capacity of a tile for a value at `index`.
    pub fn extent(&self, index: &[Index]) -> (Vec<Dim>, Vec<usize>) {
        let part = |group: usize| match self.nest.depends(index, group) {
            true => (self.spans[group].size.clone(), self.spans[group].capacity),
            false => (Dim::ONE, 1),
        };
        self.axes.iter().map(|&group| part(group)).unzip()
    }

    /// A new tile for a value of `dtype` at `index`.
    pub fn tile(&mut self, dtype: DType, index: &[Index]) -> Region {
        let (size, capacity) = self.extent(index);
        self.builder.scratch(compute_dtype(dtype), &capacity, &size)
    }

    /// Writes `value` at `index` to a parameter that holds an array of `value`'s shape.
    pub fn store(&mut self, value: Value, index: &[Index], param: ParamId) -> Result<(), String> {
        let shape = self.body.ty(value).shape.clone();
        self.store_at(value, index, &shape, index, param)
    }

    /// Writes `value` at `index` to `place` in a parameter that holds an array of `shape` as one axis.
    pub fn store_at(
        &mut self,
        value: Value,
        index: &[Index],
        shape: &[Dim],
        place: &[Index],
        param: ParamId,
    ) -> Result<(), String> {
        let view = self.view(param, shape, place);
        let dtype = self.body.ty(value).dtype;
        let direct = self.builder.target.direct && compute_dtype(dtype) == self.builder.param_of(param).dtype;
        let dst = Operand::Global(view);
        if direct && self.is_computed(value) && !self.done.contains_key(&(value, index.to_vec())) {
            // The last instruction writes straight to the result.
            self.compute(value, index, Some(dst))?;
            return Ok(());
        }
        let src = match self.moved(value, index, param)? {
            Some(src) => src,
            None => self.value(value, index)?,
        };
        self.builder.copy(dst, src);
        Ok(())
    }

    /// A leaf that a value is but for movements, to be copied as it lies in memory: nothing computes in another type between.
    fn moved(&mut self, value: Value, index: &[Index], param: ParamId) -> Result<Option<Operand>, String> {
        let dtype = self.body.ty(value).dtype;
        let casts = |id: NodeId| matches!(self.body[id].op, Op::Cast { .. });
        let turns = self.builder.target.turns(dtype) && self.builder.param_of(param).dtype == dtype;
        if !turns || self.body.node_ids().any(casts) {
            return Ok(None);
        }
        self.raw(value, index)
    }

    fn is_computed(&self, value: Value) -> bool {
        matches!(self.body[value.node].op, Op::Unary(_) | Op::Binary(_) | Op::Select {})
            && !self.leaves.contains_key(&value)
    }

    /// An operand that holds `value` at `index` over the box.
    pub fn value(&mut self, value: Value, index: &[Index]) -> Result<Operand, String> {
        let key = (value, index.to_vec());
        if let Some(operand) = self.done.get(&key).or_else(|| self.finished.get(&key)) {
            return Ok(operand.clone());
        }
        let operand = self.compute(value, index, None)?;
        self.done.insert(key, operand.clone());
        Ok(operand)
    }

    fn compute(&mut self, value: Value, index: &[Index], into: Option<Operand>) -> Result<Operand, String> {
        let node = &self.body[value.node];
        if let Some(leaf) = self.leaves.get(&value) {
            return self.leaf(leaf.clone(), value, index, None);
        }
        let operands = self.body.operands(value.node);
        let types: Vec<&Type> = operands.iter().map(|&operand| self.body.ty(operand)).collect();
        match &node.op {
            Op::Constant { value: tensor } => scalar_operand(tensor).ok_or_else(|| "an unbound constant".to_owned()),
            Op::Size { dim } => Ok(Operand::Index(dim.clone())),
            Op::Iota { axis, dtype, .. } => self.iota(*dtype, &index[*axis], index),
            Op::Random { distribution, seed, shape, dtype } => {
                let tile = self.tile(*dtype, index);
                let position = self.position(shape, index)?;
                let op = Opcode::Random { normal: distribution == "normal", seed: *seed };
                self.builder.instr(op, vec![Operand::Tile(tile.clone())], vec![position]);
                Ok(Operand::Tile(tile))
            }
            Op::Pad { .. } => self.padded(node, &operands, &types, index),
            Op::Concat { axis } => self.concat(value, node, &operands, &types, *axis, index),
            Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Scan { .. } => {
                self.reduction(node, &operands, &types, index)
            }
            _ => {
                let indices = self.nest.operand_indices(node, &types, index).map_err(|o| format!("{o:?}"))?;
                let mut sources = Vec::with_capacity(operands.len());
                for (operand, index) in operands.iter().zip(&indices) {
                    sources.push(self.value(*operand, index)?);
                }
                self.pointwise(node, &types, sources, index, into)
            }
        }
    }

    /// Position of the box's elements in row-major order, as an index tile or an immediate.
    fn position(&mut self, shape: &[Dim], index: &[Index]) -> Result<Operand, String> {
        let position = linear(shape, index);
        self.iota(DType::I64, &position, index)
    }

    fn pointwise(
        &mut self,
        node: &Node,
        types: &[&Type],
        sources: Vec<Operand>,
        index: &[Index],
        into: Option<Operand>,
    ) -> Result<Operand, String> {
        let op = match &node.op {
            Op::Unary(f) => Opcode::Unary(*f),
            Op::Binary(f) => Opcode::Binary(*f),
            Op::Select {} => Opcode::Select,
            Op::Cast { dtype, .. } => return Ok(self.cast(types[0].dtype, *dtype, sources, index)),
            // Movements only change the index.
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => {
                return sources.into_iter().next().ok_or_else(|| "a movement without operand".to_owned());
            }
            other => return Err(format!("`{}` is not point-wise", other.name())),
        };
        let mut sources = sources;
        if sources.iter().all(|s| matches!(s, Operand::Real(_) | Operand::Index(_))) {
            sources[0] = self.materialise(sources[0].clone(), types[0].dtype, index);
        }
        if let Op::Select {} = node.op
            && matches!(sources[0], Operand::Real(_))
        {
            sources[0] = self.materialise(sources[0].clone(), DType::Bool, index);
        }
        let dst = into.unwrap_or_else(|| Operand::Tile(self.tile(node.types[0].dtype, index)));
        self.builder.instr(op, vec![dst.clone()], sources);
        Ok(dst)
    }

    /// An immediate as a tile.
    pub fn materialise(&mut self, source: Operand, dtype: DType, index: &[Index]) -> Operand {
        if !matches!(source, Operand::Real(_) | Operand::Index(_)) {
            return source;
        }
        let tile = self.tile(dtype, index);
        self.builder.instr(Opcode::Fill, vec![Operand::Tile(tile.clone())], vec![source]);
        Operand::Tile(tile)
    }

    /// An operand over all of a box of this size and capacity: immediates and what is the same along an axis are repeated.
    pub fn repeated(&mut self, source: Operand, dtype: DType, (size, capacity): (Vec<Dim>, Vec<usize>)) -> Operand {
        let given = match &source {
            Operand::Tile(region) => Some(&region.size),
            Operand::Global(view) => Some(&view.size),
            Operand::Real(_) | Operand::Index(_) => None,
            Operand::Scalar(..) => return source,
        };
        if given == Some(&size) {
            return source;
        }
        let op = if given.is_some() { Opcode::Copy { rows: 1 } } else { Opcode::Fill };
        let tile = Operand::Tile(self.builder.scratch(compute_dtype(dtype), &capacity, &size));
        self.builder.instr(op, vec![tile.clone()], vec![source]);
        tile
    }

    /// Size and capacity of the whole box.
    pub fn whole(&self) -> (Vec<Dim>, Vec<usize>) {
        self.axes.iter().map(|&group| (self.spans[group].size.clone(), self.spans[group].capacity)).unzip()
    }

    /// Conversion: through the narrow type itself where its rounding is coarse (8 bits and less), none between floats that compute alike.
    fn cast(&mut self, from: DType, to: DType, sources: Vec<Operand>, index: &[Index]) -> Operand {
        let source = self.materialise(sources[0].clone(), from, index);
        let (from, narrow, to) = (compute_dtype(from), to, compute_dtype(to));
        let mut current = source;
        if narrow.is_float() && narrow.bits() <= 8 && narrow != DType::F4E2M1 {
            let (size, capacity) = self.extent(index);
            let rounded = Operand::Tile(self.builder.scratch(narrow, &capacity, &size));
            self.builder.copy(rounded.clone(), current);
            current = rounded;
        } else if from == to {
            return current;
        }
        let tile = Operand::Tile(self.tile(to, index));
        self.builder.copy(tile.clone(), current);
        tile
    }

    /// `base + Σ step · iteration axis` as data.
    fn iota(&mut self, dtype: DType, along: &Index, index: &[Index]) -> Result<Operand, String> {
        let mut start = along.base.clone();
        let mut varying = Vec::new();
        for group in 0..self.spans.len() {
            let Some(&last) = self.nest.groups[group].last() else { continue };
            let step = along.step(last);
            if step.is(0) {
                continue;
            }
            start = start + step.clone() * self.spans[group].start.clone();
            if let (true, Some(axis)) = (self.spans[group].capacity > 1, self.axis_of(group)) {
                varying.push((axis, step));
            }
        }
        let Some(((group, step), rest)) = varying.split_first() else { return Ok(Operand::Index(start)) };
        let integer = if dtype == DType::I32 { DType::I32 } else { DType::I64 };
        let mut current = self.count(integer, index, *group, step, start);
        for (group, step) in rest {
            let next = self.count(integer, index, *group, step, Dim::ZERO);
            let sum = Operand::Tile(self.tile(integer, index));
            self.builder.instr(Opcode::Binary(BinaryFn::Add), vec![sum.clone()], vec![current, next]);
            current = sum;
        }
        Ok(self.cast(integer, dtype, vec![current], index))
    }

    /// `start + step · place along the axis`; a step that is not known yet multiplies a count by one.
    fn count(&mut self, dtype: DType, index: &[Index], axis: usize, step: &Dim, start: Dim) -> Operand {
        let mut current = Operand::Tile(self.tile(dtype, index));
        let (unit, first) = match step.as_const() {
            Some(step) => (step, start.clone()),
            None => (1, Dim::ZERO),
        };
        self.builder.instr(Opcode::Iota { axis, step: unit }, vec![current.clone()], vec![Operand::Index(first)]);
        if step.as_const().is_none() {
            for (function, by) in [(BinaryFn::Mul, step.clone()), (BinaryFn::Add, start)] {
                let next = Operand::Tile(self.tile(dtype, index));
                self.builder.instr(Opcode::Binary(function), vec![next.clone()], vec![current, Operand::Index(by)]);
                current = next;
            }
        }
        current
    }

    /// A leaf seen over the box; converted on the way in where vectors do not compute in its type.
    fn leaf(&mut self, leaf: Leaf, value: Value, index: &[Index], fill: Option<f64>) -> Result<Operand, String> {
        let ty = self.body.ty(value);
        let param = match leaf {
            Leaf::Tile(operand) => return Ok(operand),
            Leaf::Param(param) => param,
        };
        let view = match fill {
            None => self.view(param, &ty.shape, index),
            Some(_) => {
                let param = self.builder.reshaped(param, ty.shape.clone());
                self.separate_view(param, index, fill)
            }
        };
        let direct = self.builder.target.direct && fill.is_none();
        let source = Operand::Global(view);
        if direct && compute_dtype(ty.dtype) == self.builder.param_of(param).dtype {
            return Ok(source);
        }
        let tile = Operand::Tile(self.tile(ty.dtype, index));
        self.builder.copy(tile.clone(), source);
        Ok(tile)
    }

    /// The view of an array of `shape`, held by `param` as one axis, at `index` over the box.
    pub fn view(&self, param: ParamId, shape: &[Dim], index: &[Index]) -> View {
        let position = linear(shape, index);
        let (size, _) = self.extent(index);
        let mut axis = Axis { start: position.base.clone(), steps: Vec::new() };
        for group in 0..self.spans.len() {
            if let (true, Some(&last)) = (self.nest.depends(index, group), self.nest.groups[group].last()) {
                let step = position.step(last);
                axis.start = axis.start + step.clone() * self.spans[group].start.clone();
                axis.steps.extend(self.axis_of(group).map(|position| (position, step)));
            }
        }
        View { param, axes: vec![axis], size, fill: None }
    }

    /// A view that keeps the parameter's axes apart, because indices may leave them.
    fn separate_view(&self, param: ParamId, index: &[Index], fill: Option<f64>) -> View {
        let (size, _) = self.extent(index);
        let axes = index.iter().map(|i| {
            let mut axis = Axis { start: i.base.clone(), steps: Vec::new() };
            for group in 0..self.spans.len() {
                let step = self.nest.groups[group].last().map_or(Dim::ZERO, |&last| i.step(last));
                if !step.is(0) {
                    axis.start = axis.start + step.clone() * self.spans[group].start.clone();
                    axis.steps.extend(self.axis_of(group).map(|position| (position, step)));
                }
            }
            axis
        });
        View { param, axes: axes.collect(), size, fill }
    }

    /// A leaf behind transposes, with the pad value where the index leaves it.
    fn padded(&mut self, node: &Node, operands: &[Value], types: &[&Type], index: &[Index]) -> Result<Operand, String> {
        let fill = match self.body.constant(operands[1]).and_then(scalar_operand) {
            Some(Operand::Real(fill)) => fill,
            Some(Operand::Index(Dim::Const(fill))) if fill.unsigned_abs() <= 1 << 53 => fill as f64,
            _ => return Err("the pad value is not a known number".into()),
        };
        let mut at = self.nest.operand_indices(node, types, index).map_err(|o| format!("{o:?}"))?.swap_remove(0);
        let mut value = operands[0];
        while !self.leaves.contains_key(&value) {
            let node = &self.body[value.node];
            let inner = self.body.operands(value.node);
            let types: Vec<&Type> = inner.iter().map(|&operand| self.body.ty(operand)).collect();
            at = self.nest.operand_indices(node, &types, &at).map_err(|o| format!("{o:?}"))?.swap_remove(0);
            value = *inner.first().ok_or("padding of a computed value")?;
        }
        let leaf = self.leaves[&value].clone();
        self.leaf(leaf, value, &at, Some(fill))
    }

    /// Parts side by side in one tile; the joined axis is whole in the box.
    fn concat(
        &mut self,
        value: Value,
        node: &Node,
        operands: &[Value],
        types: &[&Type],
        axis: usize,
        index: &[Index],
    ) -> Result<Operand, String> {
        let group = (0..self.spans.len())
            .find(|&g| self.nest.depends(&index[axis..=axis], g))
            .ok_or("joining along no axis")?;
        let tile = self.tile(self.body.ty(value).dtype, index);
        let indices = self.nest.operand_indices(node, types, index).map_err(|o| format!("{o:?}"))?;
        let whole = self.spans[group].clone();
        let at = self.axis_of(group).ok_or("joining along a single index")?;
        let mut offset = Dim::ZERO;
        for ((operand, ty), index) in operands.iter().zip(types).zip(&indices) {
            let size = ty.shape[axis].clone();
            let capacity = size.as_usize().unwrap_or(whole.capacity).min(whole.capacity);
            self.spans[group] = Span { start: offset.clone(), size: size.clone(), capacity };
            // Values computed for another part of the axis are not these.
            let outer = std::mem::take(&mut self.done);
            let part = self.value(*operand, index);
            self.done = outer;
            let mut target = tile.clone();
            target.offset[at] = offset.clone();
            target.size[at] = size.clone();
            self.builder.copy(Operand::Tile(target), part?);
            offset = offset + size;
        }
        self.spans[group] = whole;
        Ok(Operand::Tile(tile))
    }

    /// A reduction over row axes that are whole in the box.
    fn reduction(
        &mut self,
        node: &Node,
        operands: &[Value],
        types: &[&Type],
        index: &[Index],
    ) -> Result<Operand, String> {
        if self.partial {
            return Err("a reduction that no earlier loop has finished".to_owned());
        }
        let inner = self.nest.operand_indices(node, types, index).map_err(|o| format!("{o:?}"))?.swap_remove(0);
        let (source, extent) = (self.value(operands[0], &inner)?, self.extent(&inner));
        let source = self.repeated(source, types[0].dtype, extent);
        if let Op::Scan { function, axis, exclusive, reverse } = node.op {
            let group = (0..self.spans.len()).find(|&g| self.nest.depends(&inner[axis..=axis], g)).ok_or("no axis")?;
            let tile = Operand::Tile(self.tile(types[0].dtype, index));
            let first = Operand::Real(identity(function));
            let at = self.axis_of(group).ok_or("no axis")?;
            let op = Opcode::Scan { function, axis: at, exclusive, reverse };
            self.builder.instr(op, vec![tile.clone()], vec![source, first]);
            return Ok(tile);
        }
        let target = self.tile(node.types[0].dtype, index);
        self.reduce_into(node, types[0], &inner, index, source, &target, false)
    }

    /// Reduces `source` (over the box at `inner`) to `target`, one instruction per row group.
    pub fn reduce_into(
        &mut self,
        node: &Node,
        ty: &Type,
        inner: &[Index],
        index: &[Index],
        source: Operand,
        target: &Region,
        accumulate: bool,
    ) -> Result<Operand, String> {
        let reduced = |&g: &usize| self.nest.depends(inner, g) && !self.nest.depends(index, g);
        let groups: Vec<usize> = (0..self.spans.len()).filter(reduced).collect();
        let along: Vec<usize> = groups.iter().filter_map(|&group| self.axis_of(group)).collect();
        let target = Operand::Tile(target.clone());
        match &node.op {
            Op::ArgReduce { function, last, .. } => {
                let ([group], [axis]) = (&groups[..], &along[..]) else {
                    return Err("an index over several axes".into());
                };
                let best = Operand::Tile(self.tile(ty.dtype, index));
                let op = Opcode::ArgReduce { function: *function, axis: *axis, last: *last, accumulate: false };
                let start = Operand::Index(self.spans[*group].start.clone());
                self.builder.instr(op, vec![best, target.clone()], vec![source, start]);
            }
            Op::Reduce { function, axes } => {
                let mean = *function == ReduceFn::Mean;
                let function = if mean { ReduceFn::Sum } else { *function };
                let (mut size, mut capacity) = self.extent(inner);
                let mut current = source;
                for (i, &axis) in along.iter().enumerate() {
                    (size[axis], capacity[axis]) = (Dim::ONE, 1);
                    let last = i + 1 == along.len();
                    let dst = match last {
                        true => target.clone(),
                        false => Operand::Tile(self.builder.scratch(compute_dtype(ty.dtype), &capacity, &size)),
                    };
                    let op = Opcode::Reduce { function, axis, accumulate: accumulate && last };
                    self.builder.instr(op, vec![dst.clone()], vec![current]);
                    current = dst;
                }
                if along.is_empty() {
                    self.reduce_single(function, &target, current, accumulate);
                }
                if mean && !accumulate {
                    self.divide(&target, Dim::product(axes.iter().map(|&axis| &ty.shape[axis])));
                }
            }
            other => return Err(format!("`{}` is no reduction", other.name())),
        }
        Ok(target)
    }

    /// A reduction over axes of which the box has a single index.
    fn reduce_single(&mut self, function: ReduceFn, target: &Operand, source: Operand, accumulate: bool) {
        let combine = match function {
            ReduceFn::Sum | ReduceFn::Mean => BinaryFn::Add,
            ReduceFn::Prod => BinaryFn::Mul,
            ReduceFn::Min => BinaryFn::Min,
            ReduceFn::Max => BinaryFn::Max,
        };
        match accumulate {
            true => self.builder.instr(Opcode::Binary(combine), vec![target.clone()], vec![target.clone(), source]),
            false => self.builder.copy(target.clone(), source),
        }
    }

    /// A leaf with `fill` where the index leaves it.
    pub fn filled(&mut self, value: Value, index: &[Index], fill: f64) -> Result<Operand, String> {
        let (value, index) = self.behind_transposes(value, index)?;
        let Some(Leaf::Param(param)) = self.leaves.get(&value).cloned() else {
            return Err("windows over a computed value".into());
        };
        let param = self.builder.reshaped(param, self.body.ty(value).shape.clone());
        Ok(Operand::Global(self.separate_view(param, &index, Some(fill))))
    }

    /// What a value is a permutation of: an index that leaves the one leaves the other along one axis, too.
    pub fn behind_transposes(&self, mut value: Value, index: &[Index]) -> Result<(Value, Vec<Index>), String> {
        let mut index = index.to_vec();
        while let (None, Op::Transpose { .. }) = (self.leaves.get(&value), &self.body[value.node].op) {
            let operand = self.body.operands(value.node)[0];
            let types = [self.body.ty(operand)];
            let indices = self.nest.operand_indices(&self.body[value.node], &types, &index);
            index = indices.map_err(|o| format!("{o:?}"))?.swap_remove(0);
            value = operand;
        }
        Ok((value, index))
    }

    /// A leaf at a shifted index, converted to what vectors compute in; `fill` where the index leaves it.
    pub fn shifted(&mut self, value: Value, index: &[Index], fill: Option<f64>) -> Result<Operand, String> {
        let (value, index) = self.behind_transposes(value, index)?;
        let leaf = self.leaves.get(&value).cloned().ok_or("windows over a computed value")?;
        self.leaf(leaf, value, &index, fill)
    }

    /// 1 where the index is inside the leaf, 0 elsewhere.
    pub fn inside(&mut self, value: Value, index: &[Index], dtype: DType) -> Result<Operand, String> {
        let Operand::Tile(tile) = self.shifted(value, index, Some(f64::NAN))? else {
            return Err("windows over a computed value".into());
        };
        let tile = Operand::Tile(tile);
        // The fill is the only NaN that counts: NaN in the image makes the sum NaN whatever is counted.
        let (size, capacity) = self.extent(index);
        let outside = Operand::Tile(self.builder.scratch(DType::Bool, &capacity, &size));
        self.builder.instr(Opcode::Binary(BinaryFn::Ne), vec![outside.clone()], vec![tile.clone(), tile]);
        let ones = Operand::Tile(self.builder.scratch(dtype, &capacity, &size));
        self.builder.instr(Opcode::Select, vec![ones.clone()], vec![outside, Operand::Real(0.0), Operand::Real(1.0)]);
        Ok(ones)
    }

    /// A view that keeps the parameter's axes apart although no index leaves them.
    pub fn axes_view(&self, param: ParamId, index: &[Index]) -> View {
        self.separate_view(param, index, None)
    }

    /// A leaf behind movements and conversions between floats, as it lies in memory; whoever copies it converts it.
    pub fn raw(&mut self, value: Value, index: &[Index]) -> Result<Option<Operand>, String> {
        let Some((leaf, index)) = self.leaf_of(value, index) else { return Ok(None) };
        Ok(match &self.leaves[&leaf] {
            Leaf::Param(param) => Some(Operand::Global(self.view(*param, &self.body.ty(leaf).shape.clone(), &index))),
            Leaf::Tile(_) => None,
        })
    }

    /// The leaf that `value` at `index` is, seen through movements and conversions between floats.
    pub fn leaf_of(&self, value: Value, index: &[Index]) -> Option<(Value, Vec<Index>)> {
        let (mut value, mut index) = (value, index.to_vec());
        while !self.leaves.contains_key(&value) {
            let node = &self.body[value.node];
            let floats = |ty: &Type| ty.dtype.is_float() && ty.dtype.bits() >= 16;
            let operands = self.body.operands(value.node);
            let types: Vec<&Type> = operands.iter().map(|&operand| self.body.ty(operand)).collect();
            match node.op {
                Op::Cast { .. } if floats(types[0]) && floats(&node.types[0]) => {}
                Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => {}
                _ => return None,
            }
            index = self.nest.operand_indices(node, &types, &index).ok()?.swap_remove(0);
            value = operands[0];
        }
        Some((value, index))
    }

    /// Divides a tile of sums by how many there were.
    pub fn divide(&mut self, target: &Operand, count: Dim) {
        let op = Opcode::Binary(BinaryFn::Div);
        self.builder.instr(op, vec![target.clone()], vec![target.clone(), Operand::Index(count)]);
    }
}

/// The groups along which a box of these spans is more than one index: the axes of its tiles, at least one.
pub(crate) fn tile_axes(spans: &[Span]) -> Vec<usize> {
    let axes: Vec<usize> = (0..spans.len()).filter(|&group| spans[group].capacity != 1).collect();
    if axes.is_empty() { (0..spans.len().min(1)).collect() } else { axes }
}

/// What a reduction starts from.
pub(crate) fn identity(function: ReduceFn) -> f64 {
    match function {
        ReduceFn::Sum | ReduceFn::Mean => 0.0,
        ReduceFn::Prod => 1.0,
        ReduceFn::Min => f64::INFINITY,
        ReduceFn::Max => f64::NEG_INFINITY,
    }
}

/// A constant of one element as an immediate, if the immediate holds it exactly.
pub(crate) fn scalar_operand(tensor: &tarsia_tensor::Tensor) -> Option<Operand> {
    if tensor.count() != 1 || !tensor.dtype().is_numeric() {
        return None;
    }
    match tensor.numbers().ok()? {
        Numbers::Float(v) => Some(Operand::Real(v[0])),
        Numbers::Int(v) => Some(Operand::Index(Dim::Const(v[0]))),
        Numbers::Uint(v) if tensor.dtype() == DType::Bool => Some(Operand::Real(v[0] as f64)),
        Numbers::Uint(v) => i64::try_from(v[0]).ok().map(|x| Operand::Index(Dim::Const(x))),
    }
}

/// The leaves of a body: inputs, and constants that are no immediates.
pub(crate) fn leaf_nodes(body: &Graph) -> Vec<NodeId> {
    let is_leaf = |id: &NodeId| match &body[*id].op {
        Op::Input { .. } => true,
        Op::Constant { value } => scalar_operand(value).is_none(),
        _ => false,
    };
    body.node_ids().filter(is_leaf).collect()
}
