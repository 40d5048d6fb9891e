//! Sorting and selection: rows with their indices, in scratch, or in device memory where they are longer and the machine computes there.

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, NodeId, Op, Value};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Axis, Opcode, Operand, ParamId, View};

use crate::{builder::KernelBuilder, emit::Leaf, map::Target, nest::compute_dtype};

/// Longer rows do not go through scratch.
const LONGEST_ROW: usize = 32 * 1024;

/// Lowers a body that is one sort or selection: values and indices, either may be unused.
pub(crate) fn lower_order(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    targets: &[Target],
) -> Result<(), String> {
    let operand = body.operands(anchor)[0];
    let ty = body.ty(operand).clone();
    let Some(Leaf::Param(source)) = leaves.get(&operand) else { return Err("sorting a computed value".into()) };
    let result = body[anchor].types[0].clone();
    let (axis, op) = match &body[anchor].op {
        Op::Sort { axis, descending } => (*axis, Opcode::Sort { descending: *descending }),
        Op::TopK { axis, largest, .. } => (*axis, Opcode::TopK { largest: *largest }),
        _ => return Err("no order".into()),
    };
    if targets.iter().any(|target| target.value.node != anchor) {
        return Err("an order with an epilogue".into());
    }
    let outer = builder.grid(Dim::product(&ty.shape[..axis]));
    let step = Dim::product(&ty.shape[axis + 1..]);
    let inner = builder.grid(step.clone());
    let row = |param, size: &Dim| {
        let start = outer.clone() * size.clone() * step.clone() + inner.clone();
        let axes = vec![Axis { start, steps: vec![(0, step.clone())] }];
        Operand::Global(View { param, axes, size: vec![size.clone()], fill: None })
    };
    let (length, kept) = (ty.shape[axis].clone(), result.shape[axis].clone());
    let most = builder.target.elements(LONGEST_ROW);
    let order = Row { op, dtype: compute_dtype(ty.dtype), source: *source, length, kept, targets };
    if !builder.target.direct {
        let room = order.length.as_usize().unwrap_or(most);
        return order.in_scratch(builder, &row, room);
    }
    let is_long = |size: &Dim| size.as_usize().is_some_and(|size| size > most);
    let fits = match is_long(&order.length) || is_long(&order.kept) {
        true => Dim::ZERO,
        false => Dim::from(most) + Dim::ONE - order.length.clone(),
    };
    builder.if_positive(
        fits,
        |builder| order.in_scratch(builder, &row, order.length.as_usize().unwrap_or(most)),
        |builder| order.in_place(builder, &row),
    )
}

/// One row to bring into order.
struct Row<'a> {
    op: Opcode,
    dtype: DType,
    source: ParamId,
    length: Dim,
    kept: Dim,
    targets: &'a [Target],
}

impl Row<'_> {
    /// Through scratch, where rows of up to `room` elements are side by side.
    fn in_scratch(
        &self,
        builder: &mut KernelBuilder,
        row: &dyn Fn(ParamId, &Dim) -> Operand,
        room: usize,
    ) -> Result<(), String> {
        let kept_room = self.kept.as_usize().unwrap_or(room).min(room.max(1));
        let input = Operand::Tile(builder.scratch(self.dtype, &[room.max(1)], std::slice::from_ref(&self.length)));
        builder.copy(input.clone(), row(self.source, &self.length));
        let tile = |builder: &mut KernelBuilder, dtype| {
            Operand::Tile(builder.scratch(dtype, &[kept_room.max(1)], std::slice::from_ref(&self.kept)))
        };
        let results = [tile(builder, self.dtype), tile(builder, DType::I64)];
        builder.instr(self.op.clone(), results.to_vec(), vec![input]);
        for target in self.targets {
            let tile = results[usize::from(target.value.output != 0)].clone();
            builder.copy(row(target.param, &self.kept), tile);
        }
        Ok(())
    }

    /// From device memory to device memory, where a row is longer than scratch.
    fn in_place(&self, builder: &mut KernelBuilder, row: &dyn Fn(ParamId, &Dim) -> Operand) -> Result<(), String> {
        let stored = |output| self.targets.iter().find(|target| target.value.output == output);
        let (Some(values), Some(indices)) = (stored(0), stored(1)) else {
            return Err("a long row of which only values or only indices are kept".into());
        };
        let results = [values.param, indices.param].map(|param| row(param, &self.kept));
        builder.instr(self.op.clone(), results.to_vec(), vec![row(self.source, &self.length)]);
        Ok(())
    }
}
