//! Joining along an axis that is too long for a tile: each part is a kernel that writes its share of the result.

use tarsia_graph::{Graph, Op, Origin, Value, access::Index};
use tarsia_tensor::Dim;
use tarsia_tile::{Access, Layout};

use crate::{
    builder::{KernelBuilder, Source},
    emit::Emitter,
    map::{capacities, open_grid},
    nest::{Nest, stored_dtype},
    program::leaf_params,
    target::Target,
};

/// One operand of a joining.
pub(crate) struct Part {
    /// Computes the operand.
    pub body: Graph,
    axis: usize,
    offset: Dim,
    shape: Vec<Dim>,
    first: bool,
}

/// The parts, if the body's only result is a joining.
pub(crate) fn parts(body: &Graph) -> Option<Vec<Part>> {
    let [output] = body.outputs() else { return None };
    let Op::Concat { axis } = body[output.value.node].op else { return None };
    let shape = body.ty(output.value).shape.clone();
    let mut offset = Dim::ZERO;
    let operands = body.operands(output.value.node);
    let part = |(i, &operand): (usize, &Value)| {
        let start = offset.clone();
        offset = offset.clone() + body.ty(operand).shape[axis].clone();
        Part { body: with_output(body, operand), axis, offset: start, shape: shape.clone(), first: i == 0 }
    };
    Some(operands.iter().enumerate().map(part).collect())
}

/// The body with another result.
fn with_output(body: &Graph, value: Value) -> Graph {
    let mut copy = Graph::new(&body.name);
    for id in body.node_ids() {
        let node = &body[id];
        match &node.op {
            Op::Input { index, .. } => {
                copy.add_input(&body.inputs()[*index].0, node.types[0].clone());
            }
            op => {
                // The copy has the same nodes in the same order, so ids stay.
                let _ = copy.add(op.clone(), &body.operands(id), node.origin.clone());
            }
        }
    }
    copy.add_output("part", value);
    copy.without_dead_nodes()
}

/// Lowers one part.
pub(crate) fn lower_part<'t>(part: &Part, target: &'t Target, origin: &Origin) -> Result<KernelBuilder<'t>, String> {
    let mut builder = KernelBuilder::new("join", origin, target);
    let leaves = leaf_params(&mut builder, &part.body);
    let value = part.body.outputs()[0].value;
    let ty = part.body.ty(value);
    // Later parts must not be taken to overwrite earlier ones.
    let access = if part.first { Access::Write } else { Access::Update };
    let count = Dim::product(&part.shape);
    let result = builder.param(Source::Result(0), stored_dtype(ty.dtype), vec![count], Layout::RowMajor, access);
    let mut nest = Nest::trace(&part.body, &[value])?;
    let mut place = nest.root.clone();
    place[part.axis] = place[part.axis].plus(&Index::fixed(part.offset.clone()));
    nest.separate_output(&part.shape, &place);
    let capacity = capacities(builder.target, &nest, builder.target.elements(2048), &|_| None);
    let spans = open_grid(&mut builder, &nest, &capacity);
    let mut emitter = Emitter::new(&mut builder, &part.body, &nest, &leaves, spans);
    let root = nest.root.clone();
    emitter.store_at(value, &root, &part.shape, &place, result)?;
    Ok(builder)
}
