//! What works on arrays: the dialect's own operations, and calls of the vendor's library.
//!
//! A template's name is what it does, the number of axes and the element type: `vadd_2d_half`, `load_gm_to_ubuf_1d_float`. An operation
//! and the template that it becomes are read in the same way.

use tarsia_tensor::{BinaryFn, DType, Dim, ReduceFn, UnaryFn};
use tarsia_tile::Opcode;

use super::{
    cube,
    draft::{Item, Writer},
    eval::Reader,
    parse::Op,
    text::{Cursor, Fault, Result},
    value::{Array, Value},
    vector,
};

const UNARY: [(&str, UnaryFn); 6] = [
    ("vexp", UnaryFn::Exp),
    ("vln", UnaryFn::Log),
    ("vsqrt", UnaryFn::Sqrt),
    ("vrsqrt", UnaryFn::Rsqrt),
    ("vrec", UnaryFn::Reciprocal),
    ("vabs", UnaryFn::Abs),
];

const BINARY: [(&str, BinaryFn); 9] = [
    ("vadd", BinaryFn::Add),
    ("vsub", BinaryFn::Sub),
    ("vmul", BinaryFn::Mul),
    ("vdiv", BinaryFn::Div),
    ("vmax", BinaryFn::Max),
    ("vmin", BinaryFn::Min),
    ("vand", BinaryFn::BitAnd),
    ("vor", BinaryFn::BitOr),
    ("vxor", BinaryFn::BitXor),
];

const REDUCE: [(&str, ReduceFn, BinaryFn); 4] = [
    ("sum", ReduceFn::Sum, BinaryFn::Add),
    ("max", ReduceFn::Max, BinaryFn::Max),
    ("min", ReduceFn::Min, BinaryFn::Min),
    ("prod", ReduceFn::Prod, BinaryFn::Mul),
];

/// A call of a library template.
pub(super) fn call(reader: &mut Reader<'_>, at: usize, name: &str, arguments: &[Value]) -> Result<()> {
    let launch = (reader.block.clone(), reader.blocks);
    write(reader, at, arguments, &|out, values| template(out, name, values, &launch))
}

/// Runs `write` for every alternative of the arguments.
fn write(
    reader: &mut Reader<'_>,
    at: usize,
    arguments: &[Value],
    write: &dyn Fn(&mut Writer, &[Value]) -> std::result::Result<(), String>,
) -> Result<()> {
    const MOST: usize = 64;
    let alternatives = arguments.iter().fold(1usize, |n, value| n.saturating_mul(value.alternatives()));
    if alternatives > MOST {
        return Err(Fault::new(at, format!("the operands have {alternatives} combinations")));
    }
    let mut result = Ok(());
    reader.out.choose(arguments, &mut |out, values| {
        if let Err(message) = write(out, values) {
            result = Err(Fault::new(at, message));
        }
    });
    result
}

/// The name without its element type and number of axes.
fn stem(name: &str) -> &str {
    let end =
        ["_half", "_float", "_bfloat16_t", "_int8_t", "_uint8_t", "_int16_t", "_uint16_t", "_int32_t", "_uint32_t"];
    let name = end.iter().chain(&["_int64_t", "_uint64_t"]).find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    ["_1d", "_2d", "_3d", "_4d"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

fn template(
    out: &mut Writer,
    name: &str,
    values: &[Value],
    (block, blocks): &(Dim, i64),
) -> std::result::Result<(), String> {
    let stem = stem(name);
    let list = Arguments(values);
    if let Some((_, function)) = UNARY.iter().find(|(key, _)| *key == stem) {
        return unary(out, *function, list.array(0)?, list.array(1)?);
    }
    if let Some((_, function)) = BINARY.iter().find(|(key, _)| *key == stem) {
        return vector::binary(out, *function, [list.array(0)?, list.array(1)?, list.array(2)?], list.array(3).ok());
    }
    let scalar = |end: &str| {
        let base = stem.strip_suffix(end)?;
        BINARY
            .iter()
            .find(|(key, _)| *key == base || base.strip_suffix('s') == Some(*key))
            .map(|(_, function)| *function)
    };
    if let Some(function) = scalar("_vs") {
        return with_number(out, function, list.array(2)?, [list.item(0)?, list.item(1)?]);
    }
    if let Some(function) = scalar("_sv") {
        return with_number(out, function, list.array(2)?, [list.item(0)?, list.item(1)?]);
    }
    match stem {
        "load_gm_to_ubuf" | "store_ubuf_to_gm" | "copy_ubuf_to_ubuf" => copy(out, list.array(0)?, list.array(1)?),
        "vrelu" => relu(out, list.array(0)?, list.array(1)?),
        "transpose_2d_with_last_axis" => vector::transpose(out, list.array(0)?, list.array(1)?),
        "nd2nz" => cube::load(out, list.array(0)?, list.array(1)?),
        _ if stem.starts_with("vcast_") => copy(out, list.array(0)?, list.array(1)?),
        _ if stem.starts_with("broadcast_scalar_") => fill(out, list.item(0)?, list.array(1)?),
        _ if stem.starts_with("fixpipe_nz2nd_") => cube::store(out, list.array(0)?, list.array(1)?),
        _ if name.starts_with("mma_tile_") => {
            let turned = [name.contains("_ta"), name.contains("_tb")];
            let events: Vec<Option<Dim>> = (7..14).map(|at| list.number(at).ok()).collect();
            let sizes = [list.number(3)?, list.number(4)?, list.number(5)?];
            let arrays = [list.array(0)?, list.array(1)?, list.array(6)?];
            cube::mma_tile(out, arrays, turned, &list.number(2)?, sizes, &events)
        }
        _ if name.starts_with("matmul_Xbias_Xdescale_") => matmul(out, name, &list, block, *blocks),
        _ => match reduction(stem) {
            Some(functions) => vector::reduce_rows(out, functions, [list.array(0)?, list.array(1)?], list.array(2)?),
            None => Err(format!("the library template `{name}` is not known")),
        },
    }
}

fn matmul(
    out: &mut Writer,
    name: &str,
    list: &Arguments<'_>,
    block: &Dim,
    blocks: i64,
) -> std::result::Result<(), String> {
    let turn = |array: &Array, turned: bool| {
        let mut array = array.clone();
        if turned {
            array.sizes.reverse();
            array.strides.reverse();
        }
        array
    };
    let (a, b) =
        (turn(list.array(0)?, name.contains("_transposeA")), turn(list.array(1)?, name.contains("_transposeB")));
    if a.dtype != DType::F16 || b.dtype != DType::F16 {
        return Err(format!("the library template `{name}` is not known"));
    }
    cube::matmul(out, [&a, &b, list.array(2)?], block, blocks)
}

/// `reduce_sum_ar`, also with a prefix that says by which instruction the last repeat is reduced.
fn reduction(stem: &str) -> Option<(ReduceFn, BinaryFn)> {
    let name = stem.strip_prefix("enablevc_").or_else(|| stem.strip_prefix("enablevcg_")).unwrap_or(stem);
    let name = name.strip_prefix("reduce_")?;
    let (function, axes) = name.split_once('_')?;
    let row = REDUCE.iter().find(|(key, ..)| *key == function)?;
    matches!(axes, "r" | "ar").then_some((row.1, row.2))
}

fn copy(out: &mut Writer, src: &Array, dst: &Array) -> std::result::Result<(), String> {
    out.copy(dst.into(), src.into());
    Ok(())
}

fn fill(out: &mut Writer, number: Item, dst: &Array) -> std::result::Result<(), String> {
    out.op(Opcode::Fill, vec![dst.into()], vec![number]);
    Ok(())
}

fn unary(out: &mut Writer, function: UnaryFn, src: &Array, dst: &Array) -> std::result::Result<(), String> {
    out.op(Opcode::Unary(function), vec![dst.into()], vec![src.into()]);
    Ok(())
}

fn relu(out: &mut Writer, src: &Array, dst: &Array) -> std::result::Result<(), String> {
    with_number(out, BinaryFn::Max, dst, [src.into(), Item::Real(0.0)])
}

fn with_number(out: &mut Writer, function: BinaryFn, dst: &Array, src: [Item; 2]) -> std::result::Result<(), String> {
    out.op(Opcode::Binary(function), vec![dst.into()], src.into());
    Ok(())
}

/// The arguments of a call.
struct Arguments<'v>(&'v [Value]);

impl<'v> Arguments<'v> {
    fn array(&self, at: usize) -> std::result::Result<&'v Array, String> {
        match self.0.get(at) {
            Some(Value::Array(array)) => Ok(array),
            _ => Err(format!("operand {at} is no array that is known")),
        }
    }

    fn number(&self, at: usize) -> std::result::Result<Dim, String> {
        let number = self.0.get(at).and_then(Value::number);
        number.ok_or_else(|| format!("operand {at} is no number that is known"))
    }

    fn item(&self, at: usize) -> std::result::Result<Item, String> {
        match self.0.get(at) {
            Some(Value::Array(array)) => Ok(array.into()),
            Some(Value::Real(number)) => Ok(Item::Real(*number)),
            Some(value) => match value.number().and_then(|number| number.as_const()) {
                Some(number) => Ok(Item::Real(number as f64)),
                None => Err(format!("operand {at} is neither an array nor a number that is known")),
            },
            None => Err(format!("operand {at} is missing")),
        }
    }
}

/// An operation of the dialect.
pub(super) fn operation<'m>(reader: &mut Reader<'m>, op: &Op<'m>) -> Result<()> {
    let mut text = op.text;
    match op.name.trim_start_matches("hivm.hir.") {
        "set_flag" => reader.flag(&mut text, Writer::set),
        "wait_flag" => reader.flag(&mut text, Writer::wait),
        "pipe_barrier" => {
            let parts = text.bracketed('[')?.parts();
            let pipe = pipe(parts.first(), text)?;
            reader.out.barrier((pipe != "all").then_some(pipe.as_str()));
            Ok(())
        }
        "sync_block_set" => reader.cross(&mut text, true),
        "sync_block_wait" => reader.cross(&mut text, false),
        name => {
            let operands = reader.operands(text)?;
            on_arrays(reader, op, name, &operands)
        }
    }
}

/// The operands and words of an operation on arrays.
struct Operands<'m> {
    ins: Vec<Value>,
    outs: Vec<Value>,
    scratch: Option<Value>,
    text: &'m str,
}

fn on_arrays(reader: &mut Reader<'_>, op: &Op<'_>, name: &str, operands: &Operands<'_>) -> Result<()> {
    let mut values = operands.ins.clone();
    values.extend(operands.outs.clone());
    let inputs = operands.ins.len();
    values.extend(operands.scratch.clone());
    let called = match name {
        "load" => "load_gm_to_ubuf".to_owned(),
        "store" => "store_ubuf_to_gm".to_owned(),
        "copy" => "copy_ubuf_to_ubuf".to_owned(),
        "vcast" => "vcast_".to_owned(),
        "fixpipe" => "fixpipe_nz2nd_".to_owned(),
        "vtranspose" => "transpose_2d_with_last_axis".to_owned(),
        "vbrc" if !matches!(values.first(), Some(Value::Array(_))) => "broadcast_scalar_".to_owned(),
        "vreduce" => {
            let word = operands.text.trim_start_matches(['<', ' ']).split('>').next().unwrap_or_default();
            format!("reduce_{}_ar", word.trim())
        }
        "mmadL1" if inputs >= 6 => {
            // In the order of the template: a, b, whether to clear, sizes, the result.
            values.swap_remove(inputs);
            values.truncate(6);
            values.extend(operands.outs.first().cloned());
            let turned = [("a_transpose", "_ta"), ("b_transpose", "_tb")];
            let turned = turned.iter().filter(|(word, _)| operands.text.contains(word)).map(|(_, end)| *end);
            format!("mma_tile_x_to_y{}", turned.collect::<String>())
        }
        name => name.to_owned(),
    };
    let launch = (reader.block.clone(), reader.blocks);
    write(reader, op.at, &values, &|out, values| {
        let scalar = matches!(values.get(1), Some(Value::Real(_) | Value::Number(_)));
        let called = if scalar && BINARY.iter().any(|(key, _)| *key == called) {
            format!("{called}_vs")
        } else {
            called.clone()
        };
        template(out, &called, values, &launch).map_err(|message| {
            if message.contains("template") { format!("`{}` cannot be read", op.name) } else { message }
        })
    })
}

/// `#hivm.pipe<PIPE_MTE2>` or `<PIPE_MTE2>` as `mte2`.
fn pipe(part: Option<&Cursor<'_>>, at: Cursor<'_>) -> Result<String> {
    let name = part.and_then(|part| part.rest().split_once("PIPE_"));
    let name = name.and_then(|(_, name)| name.split('>').next());
    name.map(str::to_lowercase).ok_or_else(|| at.fault("expected a pipe"))
}

impl<'m> Reader<'m> {
    /// `[<PIPE_A>, <PIPE_B>, <EVENT_ID0> or %id]`.
    fn flag(&mut self, text: &mut Cursor<'m>, write: fn(&mut Writer, &str, &str, Dim)) -> Result<()> {
        let before = *text;
        let parts = text.bracketed('[')?.parts();
        let (from, to) = (pipe(parts.first(), before)?, pipe(parts.get(1), before)?);
        let mut event = *parts.get(2).ok_or_else(|| before.fault("expected an event"))?;
        let id = match event.rest().split_once("EVENT_ID") {
            Some((_, digits)) => Cursor::new(digits, event.at()).integer().map(Dim::Const)?,
            None => self.index(&mut event)?,
        };
        write(&mut self.out, &from, &to, id);
        Ok(())
    }

    /// `[<CUBE>, <PIPE_FIX>, <PIPE_MTE2>] flag = 0`: a signal between the kinds of core.
    fn cross(&mut self, text: &mut Cursor<'m>, sets: bool) -> Result<()> {
        let before = *text;
        let parts = text.bracketed('[')?.parts();
        let (from, to) = (pipe(parts.get(1), before)?, pipe(parts.get(2), before)?);
        let on_cube = parts.first().is_some_and(|part| part.rest().contains("CUBE"));
        let (setter, waiter) = if on_cube == sets { ("aic", "aiv") } else { ("aiv", "aic") };
        text.expect("flag")?;
        text.expect("=")?;
        let event = self.index(text)?;
        let (from, to) = (format!("{setter}_{from}"), format!("{waiter}_{to}"));
        let op = if sets { Opcode::SetEvent { from, to, event } } else { Opcode::WaitEvent { from, to, event } };
        self.out.op(op, Vec::new(), Vec::new());
        Ok(())
    }

    /// `… ins(%a, %b : types) outs(%c : types) … temp_buffer(%t : type)`.
    fn operands(&self, text: Cursor<'m>) -> Result<Operands<'m>> {
        let list = |word: &str| -> Result<Vec<Value>> {
            let Some(at) = text.rest().find(word) else { return Ok(Vec::new()) };
            let mut found = Cursor::new(&text.rest()[at + word.len() - 1..], text.at() + at + word.len() - 1);
            let inside = found.bracketed('(')?;
            let names = Cursor::new(inside.rest().split(" :").next().unwrap_or_default(), inside.at());
            names.parts().into_iter().map(|mut part| self.value(&mut part)).collect()
        };
        let scratch = list("temp_buffer(")?.into_iter().next();
        Ok(Operands { ins: list("ins(")?, outs: list("outs(")?, scratch, text: text.rest() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_templates() {
        assert_eq!(stem("vadd_2d_half"), "vadd");
        assert_eq!(stem("load_gm_to_ubuf_1d_float"), "load_gm_to_ubuf");
        assert_eq!(stem("enablevc_reduce_sum_ar_float"), "enablevc_reduce_sum_ar");
        assert!(reduction("enablevc_reduce_max_r").is_some());
        assert!(reduction("reduce_sum_ra").is_none());
    }
}
