//! Pooling: a loop over the window accumulates shifted views of the image.

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Graph, NodeId, Op, ReduceFn, Value, access::Index};
use tarsia_tensor::Dim;
use tarsia_tile::{Opcode, Operand, Region};

use crate::{
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span, identity},
    map::{Target, capacities, open_grid},
    nest::{Nest, compute_dtype},
};

/// Elements of a tile.
const TILE_ELEMENTS: usize = 2048;

/// Lowers a body with one pooling.
pub(crate) fn lower_window(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
) -> Result<(), String> {
    // The pooled image is a leaf of the epilogue; where it is read follows from the result's index.
    let mut pooled = leaves.clone();
    pooled.insert(anchor.into(), Leaf::Tile(Operand::Real(0.0)));
    let nest = Nest::trace_until(body, &[target.value], &|value| value == anchor.into())?;
    let root = nest.root.clone();
    let result =
        nest.index_of(body, target.value, &root, anchor.into()).ok_or("the pooling is used at several indices")?;
    let capacity = capacities(&nest, TILE_ELEMENTS, &|_| None);
    let spans = open_grid(builder, &nest, &capacity);
    let acc = accumulate(builder, body, anchor, leaves, &nest, &result, &spans)?;
    pooled.insert(anchor.into(), Leaf::Tile(Operand::Tile(acc)));
    Emitter::new(builder, body, &nest, &pooled, spans).store(target.value, &root, target.param)
}

fn accumulate(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    nest: &Nest,
    result: &[Index],
    spans: &[Span],
) -> Result<Region, String> {
    let Op::WindowReduce { function, window, strides, low, high, dilations } = &body[anchor].op else {
        return Err("no pooling".into());
    };
    let image = body.operands(anchor)[0];
    let dtype = compute_dtype(body.ty(image).dtype);
    let acc = Emitter::new(builder, body, nest, leaves, spans.to_vec()).tile(dtype, result);
    builder.instr(Opcode::Fill, vec![Operand::Tile(acc.clone())], vec![Operand::Real(identity(*function))]);
    let padded = low.iter().chain(high).any(|&padding| padding > 0);
    // A mean leaves padding out, so it counts what it adds up.
    let count = (*function == ReduceFn::Mean && padded).then(|| {
        let count = Emitter::new(builder, body, nest, leaves, spans.to_vec()).tile(dtype, result);
        builder.instr(Opcode::Fill, vec![Operand::Tile(count.clone())], vec![Operand::Real(0.0)]);
        count
    });
    let combine = match function {
        ReduceFn::Sum | ReduceFn::Mean => BinaryFn::Add,
        ReduceFn::Prod => BinaryFn::Mul,
        ReduceFn::Min => BinaryFn::Min,
        ReduceFn::Max => BinaryFn::Max,
    };
    let axes: Vec<usize> = (0..window.len()).filter(|&axis| window[axis] > 1).collect();
    loops(builder, &axes, window, vec![Dim::ZERO; window.len()], &mut |builder, at| {
        let index: Vec<Index> = (0..window.len())
            .map(|axis| {
                let shift = at[axis].clone() * Dim::from(dilations[axis]) - Dim::from(low[axis]);
                result[axis].scaled(&Dim::from(strides[axis])).plus(&Index::fixed(shift))
            })
            .collect();
        let mut emitter = Emitter::new(builder, body, nest, leaves, spans.to_vec());
        let fill = padded.then(|| identity(*function));
        let source = emitter.shifted(image, &index, fill)?;
        let acc = Operand::Tile(acc.clone());
        emitter.builder.instr(Opcode::Binary(combine), vec![acc.clone()], vec![acc, source]);
        if let Some(count) = &count {
            let ones = emitter.inside(image, &index, dtype)?;
            let count = Operand::Tile(count.clone());
            emitter.builder.instr(Opcode::Binary(BinaryFn::Add), vec![count.clone()], vec![count, ones]);
        }
        Ok(())
    })?;
    if *function == ReduceFn::Mean {
        let divisor = match count {
            Some(count) => Operand::Tile(count),
            None => Operand::Real(window.iter().product::<usize>() as f64),
        };
        let acc = Operand::Tile(acc.clone());
        builder.instr(Opcode::Binary(BinaryFn::Div), vec![acc.clone()], vec![acc, divisor]);
    }
    Ok(acc)
}

/// Loops over the window's axes.
fn loops(
    builder: &mut KernelBuilder,
    axes: &[usize],
    window: &[usize],
    at: Vec<Dim>,
    body: &mut dyn FnMut(&mut KernelBuilder, &[Dim]) -> Result<(), String>,
) -> Result<(), String> {
    let Some((&axis, rest)) = axes.split_first() else { return body(builder, &at) };
    builder.for_each(Dim::from(window[axis]), 1, |builder, i| {
        let mut at = at.clone();
        at[axis] = i;
        loops(builder, rest, window, at, body)
    })
}
