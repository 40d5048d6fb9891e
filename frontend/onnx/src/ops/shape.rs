//! Shapes as data, and tensors made from them.

use tarsia_graph::Value;
use tarsia_tensor::Tensor;

use super::{
    Importer::{Items, One},
    Row, Rows,
};
use crate::{
    Fault, Node,
    import::{Ctx, Item, Known, Outcome, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("ConstantOfShape", 9, One(constant_of_shape)),
    Row::new("Identity", 1, Items(identity)),
    Row::new("Shape", 1, Items(shape)),
    Row::new("Size", 1, Items(size)),
];

fn identity<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    node.required_input(0)?;
    Ok(vec![ctx.item(node, 0).cloned().unwrap_or(Item::Nothing)])
}

/// The elements of a shape are known at import wherever the attributes are right, so this is reached only where they are not.
fn shape<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    node.attr_int_or("start", 0)?;
    node.attr_int_or("end", 0)?;
    ctx.value(node, 0)?;
    Err(invalid("its input is not a tensor"))
}

fn size<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let x = ctx.value(node, 0)?;
    Ok(vec![Known::scalar(ctx.ty(x).count()).into()])
}

fn constant_of_shape<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let value = node.attr_tensor_or("value", Tensor::scalar(0f32))?;
    if value.count() != 1 || !value.dtype().is_numeric() {
        return Err(invalid("its value is not one number"));
    }
    let scalar = ctx.add_constant(value.reshaped(&[])?);
    match ctx.dims_opt(node, 0).ok_or(Fault::MissingInput(0))? {
        Some(shape) => ctx.broadcast(scalar, &shape),
        None => {
            let shape = ctx.value(node, 0)?;
            let rank = ctx.vector_length(shape)?;
            ctx.host("constant_of_shape", Vec::new(), &[shape, scalar], value.dtype(), rank)
        }
    }
}
