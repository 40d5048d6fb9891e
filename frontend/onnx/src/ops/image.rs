//! Decoding of images, on the host.

use tarsia_graph::{Op, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

pub(super) const ROWS: Rows = &[Row::new("ImageDecoder", 20, One(image_decoder))];

/// The pixels of an encoded image, rows first, channels last.
fn image_decoder<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let encoded = ctx.value(node, 0)?;
    if ctx.dtype(encoded) != DType::U8 || ctx.rank(encoded) != 1 {
        return Err(invalid(format!("its input is {} instead of a vector of u8", ctx.ty(encoded))));
    }
    let (format, channels) = match node.attr_str_or("pixel_format", "RGB")? {
        "RGB" => (0, 3),
        "BGR" => (1, 3),
        "Grayscale" => (2, 1),
        other => return Err(invalid(format!("`pixel_format` is `{other}`"))),
    };
    let mut shape = ctx.fresh_shape("image", 2);
    shape.push(Dim::Const(channels));
    let types = vec![Type::new(DType::U8, shape)];
    ctx.add(Op::Host { function: "image".into(), ints: vec![format], reals: Vec::new(), types }, &[encoded])
}
