//! Routed contractions: every row multiplies the weight that its id chooses.
//!
//! ```text
//! for each expert, block of columns (grid):
//!     for each chunk of the ids:  picks = positions with this expert's id
//!         for each block of picks:  acc = gather(x, picks) · weights[expert];  scatter acc to the results at picks
//! ```
//! Nothing of the size rows × weights ever exists: memory does not grow with tokens times experts times weight size.

mod staged;

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Graph, NodeId, Op, ScatterFn, Value};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Access, Axis, Layout, Opcode, Operand, ParamId, Region, View};

use crate::{
    accumulator::Accumulator,
    builder::{KernelBuilder, Packing, Source},
    emit::Leaf,
    map::Target,
    nest::compute_dtype,
};

/// Ids that are looked through at once.
const IDS: usize = 1024;
/// Picked rows of a block.
const ROWS: usize = 96;

/// The pieces of a routed contraction with one column and one summed axis.
struct Routed {
    ids: ParamId,
    x: ParamId,
    result: ParamId,
    weights: ParamId,
    packed: bool,
    /// Results rows per row of x.
    repeat: Dim,
    /// How many ids, experts, summed elements and columns.
    size: [Dim; 4],
    /// Distance of neighbouring experts, summed elements and columns in the weights.
    stride: [Dim; 3],
    dtype: DType,
}

/// Lowers a body that is one routed contraction.
pub(crate) fn lower_routed(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
    constant: &dyn Fn(Value) -> bool,
) -> Result<(), String> {
    if target.value != anchor.into() {
        return Err("a routed contraction with an epilogue".into());
    }
    let mut routed = Routed::new(builder, body, anchor, leaves, target)?;
    let weights = body.operands(anchor)[1];
    let known = constant(weights).then_some(weights);
    if staged::lower(&mut routed, builder, known)? {
        return Ok(());
    }
    if let Some(leaf) = known.filter(|_| builder.target.direct) {
        let [_, layout] = builder.target.matrix_layouts_for(routed.dtype);
        routed.packed = routed.pack(builder, leaf, DType::F32, layout).is_some();
    }
    let [ids, experts, depth, columns] = routed.size.clone();
    let expert = builder.grid(experts);
    let block = builder.target.matrix_block;
    let part = columns.as_usize().unwrap_or(block[1]).clamp(1, block[1]);
    let first = builder.grid(columns.ceil_div(&Dim::from(part))) * Dim::from(part);
    let left = columns - first.clone();
    let width = (left.minimum(&Dim::from(part)), part);
    let index = builder.param_of(routed.ids).dtype;
    let (most_ids, most_rows) = (builder.target.elements(IDS), builder.target.elements(ROWS));
    builder.for_each(ids.clone(), most_ids as i64, |builder, start| {
        let size = (ids.clone() - start.clone()).minimum(&Dim::from(most_ids));
        let positions = builder.scratch(DType::I64, &[most_ids], std::slice::from_ref(&size));
        let count = builder.symbol("n");
        let source =
            View { param: routed.ids, axes: vec![along(start.clone(), 0)], size: vec![size.clone()], fill: None };
        let source = match index == DType::I64 && builder.target.direct {
            true => Operand::Global(source),
            false => {
                let tile = builder.scratch(DType::I64, &[most_ids], std::slice::from_ref(&size));
                builder.copy(Operand::Tile(tile.clone()), Operand::Global(source));
                Operand::Tile(tile)
            }
        };
        builder.instr(
            Opcode::SelectRows,
            vec![Operand::Tile(positions.clone()), Operand::Scalar(count.clone(), size)],
            vec![source, Operand::Index(expert.clone()), Operand::Index(start)],
        );
        let count = Dim::from(count);
        builder.for_each(count.clone(), most_rows as i64, |builder, from| {
            let rows = (count.clone() - from.clone()).minimum(&Dim::from(most_rows));
            let picks = Region { offset: vec![from], size: vec![rows.clone()], ..positions.clone() };
            routed.block(builder, &expert, &picks, &rows, (&first, &width), &depth)
        })
    })
}

fn along(start: Dim, axis: usize) -> Axis {
    Axis { start, steps: vec![(axis, Dim::ONE)] }
}

impl Routed {
    fn new(
        builder: &mut KernelBuilder,
        body: &Graph,
        anchor: NodeId,
        leaves: &FxHashMap<Value, Leaf>,
        target: &Target,
    ) -> Result<Routed, String> {
        let Op::Routed { spec, .. } = &body[anchor].op else { return Err("no routed contraction".into()) };
        let operands = body.operands(anchor);
        let [x, weights, ids] = [0, 1, 2].map(|i| body.ty(operands[i]).clone());
        let param = |value: Value| match leaves.get(&value) {
            Some(Leaf::Param(param)) => Ok(*param),
            _ => Err("a routed contraction of a computed value".to_owned()),
        };
        let (chosen, rest) = spec.rhs.split_at(ids.rank());
        // Axes of size 1 are no axes.
        let real = |term: &[u8], shape: &[Dim]| -> Vec<u8> {
            term.iter().zip(shape).filter(|(_, size)| !size.is(1)).map(|(&l, _)| l).collect()
        };
        let lhs = real(&spec.lhs, &x.shape);
        let out = real(&spec.out, &body[anchor].types[0].shape);
        let id_letters = real(chosen, &ids.shape);
        let summed: Vec<u8> = rest.iter().copied().filter(|l| !spec.out.contains(l)).collect();
        let columns: Vec<u8> = rest.iter().copied().filter(|l| spec.out.contains(l)).collect();
        let (&[sum], &[column]) = (&summed[..], &columns[..]) else {
            return Err("several summed or column axes".into());
        };
        let rows: Vec<u8> = lhs.iter().copied().filter(|&l| l != sum).collect();
        if lhs.last() != Some(&sum) && lhs.contains(&sum) || !id_letters.starts_with(&rows) {
            return Err("rows whose axes are not the leading ones of the ids".into());
        }
        let expected: Vec<u8> = id_letters.iter().copied().chain([column]).filter(|l| out.contains(l)).collect();
        if out != expected {
            return Err("a result whose axes are in another order".into());
        }
        let at = |letter: u8| rest.iter().position(|&l| l == letter).unwrap_or_default() + 1;
        let weight_stride = |axis: usize| Dim::product(&weights.shape[axis + 1..]);
        let repeat = Dim::product(
            id_letters[rows.len()..].iter().map(|l| &ids.shape[chosen.iter().position(|c| c == l).unwrap_or_default()]),
        );
        let size =
            [ids.count(), weights.shape[0].clone(), weights.shape[at(sum)].clone(), weights.shape[at(column)].clone()];
        let stride = [weight_stride(0), weight_stride(at(sum)), weight_stride(at(column))];
        let dtype = compute_dtype(x.dtype);
        let (x_rows, result_rows) = (size[0].floor_div(&repeat), size[0].clone());
        let x = builder.reshaped(param(operands[0])?, vec![x_rows, size[2].clone()]);
        let result = builder.reshaped(target.param, vec![result_rows, size[3].clone()]);
        Ok(Routed {
            ids: param(operands[2])?,
            x,
            result,
            weights: param(operands[1])?,
            packed: false,
            repeat,
            size,
            stride,
            dtype,
        })
    }

    /// The weights of all experts below each other in a layout, if each expert begins at a block of it.
    fn pack(&mut self, builder: &mut KernelBuilder, leaf: Value, dtype: DType, layout: Layout) -> Option<()> {
        let Layout::Fractal(fractal) = layout else { return None };
        let [_, experts, depth, columns] = &self.size;
        let axis = |size: &Dim, stride: &Dim| Some((size.as_usize()?, stride.as_const()?));
        let rows = vec![axis(experts, &self.stride[0])?, axis(depth, &self.stride[1])?];
        let columns = vec![axis(columns, &self.stride[2])?];
        if rows[1].0 % fractal.block[0] != 0 {
            return None;
        }
        let shape = vec![Dim::from(rows[0].0) * Dim::from(rows[1].0), Dim::from(columns[0].0)];
        let packing = Packing { leaf, base: 0, rows, columns, whole: 1 };
        self.weights = builder.param(Source::Packed(packing), dtype, shape, layout, Access::Read);
        Some(())
    }

    /// One block of picked rows.
    fn block(
        &self,
        builder: &mut KernelBuilder,
        expert: &Dim,
        picks: &Region,
        rows: &Dim,
        (first, (width, wide)): (&Dim, &(Dim, usize)),
        depth: &Dim,
    ) -> Result<(), String> {
        let target = builder.target;
        let most = target.elements(ROWS);
        let space = target.matrix_spaces.clone();
        let [left, right] = target.matrix_layouts_for(self.dtype);
        let tile = |builder: &mut KernelBuilder, role: usize, layout, capacity: [usize; 2], size: [&Dim; 2]| {
            let tile = builder.tile(&space[role], self.dtype, capacity.to_vec(), layout);
            Region::at_origin(tile, size.map(Dim::clone).to_vec())
        };
        let source_rows = match self.repeat.is(1) {
            true => picks.clone(),
            false => {
                let divided = builder.scratch(DType::I64, &[most], std::slice::from_ref(rows));
                let source = vec![Operand::Tile(picks.clone()), Operand::Index(self.repeat.clone())];
                builder.instr(Opcode::Binary(BinaryFn::Div), vec![Operand::Tile(divided.clone())], source);
                divided
            }
        };
        let part = depth.as_usize().unwrap_or(target.matrix_block[2]).clamp(1, target.matrix_block[2]);
        let acc = Accumulator::new(builder, self.dtype, &[most, *wide], &[rows.clone(), width.clone()], false);
        let acc = acc.sum(builder, depth.clone(), |builder, acc| {
            builder.for_each(depth.clone(), part as i64, |builder, start| {
                let size = (depth.clone() - start.clone()).minimum(&Dim::from(part));
                let stored = builder.param_of(self.x).dtype;
                let gathered = builder.scratch(stored, &[most, part], &[rows.clone(), size.clone()]);
                let view = View {
                    param: self.x,
                    axes: vec![Axis { start: Dim::ZERO, steps: vec![(0, Dim::ONE)] }, along(start.clone(), 1)],
                    size: vec![rows.clone(), size.clone()],
                    fill: None,
                };
                let picked = vec![Operand::Global(view), Operand::Tile(source_rows.clone())];
                builder.instr(Opcode::Gather, vec![Operand::Tile(gathered.clone())], picked);
                let lhs = tile(builder, 0, left, [most, part], [rows, &size]);
                builder.copy(Operand::Tile(lhs.clone()), Operand::Tile(gathered));
                let rhs = match self.packed {
                    true => Operand::Global(View {
                        param: self.weights,
                        axes: vec![along(expert.clone() * depth.clone() + start.clone(), 0), along(first.clone(), 1)],
                        size: vec![size.clone(), width.clone()],
                        fill: None,
                    }),
                    false => {
                        let rhs = tile(builder, 1, right, [part, *wide], [&size, width]);
                        let [e, k, n] = &self.stride;
                        let origin = expert.clone() * e.clone() + start.clone() * k.clone() + first.clone() * n.clone();
                        let axis = Axis { start: origin, steps: vec![(0, k.clone()), (1, n.clone())] };
                        let view = View {
                            param: self.weights,
                            axes: vec![axis],
                            size: vec![size.clone(), width.clone()],
                            fill: None,
                        };
                        builder.copy(Operand::Tile(rhs.clone()), Operand::Global(view));
                        Operand::Tile(rhs)
                    }
                };
                acc.add(builder, start.clone(), Operand::Tile(lhs), rhs)
            })
        })?;
        let view = View {
            param: self.result,
            axes: vec![Axis { start: Dim::ZERO, steps: vec![(0, Dim::ONE)] }, along(first.clone(), 1)],
            size: vec![rows.clone(), width.clone()],
            fill: None,
        };
        let stored = builder.param_of(self.result).dtype;
        let rounded = match stored == self.dtype {
            true => acc,
            false => {
                let rounded = builder.scratch(stored, &[most, *wide], &[rows.clone(), width.clone()]);
                builder.copy(Operand::Tile(rounded.clone()), Operand::Tile(acc));
                rounded
            }
        };
        let op = Opcode::Scatter { function: ScatterFn::Set };
        builder.instr(op, vec![Operand::Global(view)], vec![Operand::Tile(rounded), Operand::Tile(picks.clone())]);
        Ok(())
    }
}
