//! Sorting and selection: rows in scratch, sorted with their indices.

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, NodeId, Op, Value};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Axis, Opcode, Operand, View};

use crate::{builder::KernelBuilder, emit::Leaf, map::Target, nest::compute_dtype};

/// Rows of unknown length may be this long.
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
    let length = ty.shape[axis].clone();
    let capacity = length.as_usize().unwrap_or(builder.target.elements(LONGEST_ROW));
    let kept = result.shape[axis].clone();
    let kept_capacity = kept.as_usize().unwrap_or(capacity).min(capacity.max(1));
    let outer = builder.grid(Dim::product(&ty.shape[..axis]));
    let step = Dim::product(&ty.shape[axis + 1..]);
    let inner = builder.grid(step.clone());
    let row = |size: &Dim| {
        let start = outer.clone() * size.clone() * step.clone() + inner.clone();
        vec![Axis { start, steps: vec![(0, step.clone())] }]
    };
    let view =
        |param, size: &Dim| Operand::Global(View { param, axes: row(size), size: vec![size.clone()], fill: None });
    let dtype = compute_dtype(ty.dtype);
    let input = Operand::Tile(builder.scratch(dtype, &[capacity.max(1)], std::slice::from_ref(&length)));
    builder.copy(input.clone(), view(*source, &length));
    let values = Operand::Tile(builder.scratch(dtype, &[kept_capacity.max(1)], std::slice::from_ref(&kept)));
    let indices = Operand::Tile(builder.scratch(DType::I64, &[kept_capacity.max(1)], std::slice::from_ref(&kept)));
    builder.instr(op, vec![values.clone(), indices.clone()], vec![input]);
    for target in targets {
        let tile = if target.value.output == 0 { values.clone() } else { indices.clone() };
        builder.copy(view(target.param, &kept), tile);
    }
    Ok(())
}
