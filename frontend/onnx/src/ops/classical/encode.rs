//! Encoding of categories, and maps.

use tarsia_graph::{BinaryFn, Op, Type, Value};
use tarsia_tensor::{DType, Dim, Numbers, Overflow, Tensor};

use super::scores::encoded;
use crate::{
    Fault, Node,
    import::{Ctx, Form, Item, Outcome, invalid},
    ops::strings::texts,
};

/// Keys or values, as the attribute for one element type or the tensor for any gives them.
fn labels<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, what: &str) -> Outcome<Option<Value>> {
    if let Some(list) = node.attr_strs_opt(&format!("{what}_strings"))? {
        return texts(ctx, &[list.len()], &list).map(Some);
    }
    if let Some(list) = node.attr_ints_opt(&format!("{what}_int64s"))? {
        return ctx.ints(list).map(Some);
    }
    if let Some(list) = node.attr_floats_opt(&format!("{what}_floats"))? {
        return Ok(Some(ctx.add_constant(Tensor::from_slice(&[list.len()], list)?)));
    }
    Ok(node.attr_tensor_opt(&format!("{what}_tensor"))?.map(|tensor| ctx.add_constant(tensor)))
}

pub(super) fn label_encoder<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    if !node.since(2) {
        let classes = node.attr_strs("classes_strings")?;
        let numbers: Vec<i64> = (0..classes.len() as i64).collect();
        let (classes, numbers) = (texts(ctx, &[classes.len()], &classes)?, ctx.ints(&numbers)?);
        return mapped(ctx, node, numbers, classes);
    }
    let x = ctx.value(node, 0)?;
    let missing = |what| move || invalid(format!("it has no {what}"));
    let keys = labels(ctx, node, "keys")?.ok_or_else(missing("keys"))?;
    let values = labels(ctx, node, "values")?.ok_or_else(missing("values"))?;
    let dtype = ctx.dtype(values);
    let default = match (node.attr_tensor_opt("default_tensor")?, dtype) {
        (Some(default), _) => ctx.add_constant(default),
        (None, DType::String) => texts(ctx, &[], &[node.attr_str_or("default_string", "_Unused")?])?,
        (None, DType::I64) => ctx.ints(&[node.attr_int_or("default_int64", -1)?])?,
        (None, DType::F32) => ctx.scalar(dtype, node.attr_f32_or("default_float", -0.0)?.into()),
        (None, DType::I16) => ctx.scalar(dtype, -1.0),
        (None, _) => ctx.scalar(dtype, 0.0),
    };
    encoded(ctx, x, keys, values, default)
}

/// Texts become numbers, and numbers texts.
fn mapped<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, numbers: Value, names: Value) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    if ctx.dtype(x) == DType::String {
        let default = ctx.ints(&[node.attr_int_or("default_int64", -1)?])?;
        return encoded(ctx, x, names, numbers, default);
    }
    let default = texts(ctx, &[], &[node.attr_str_or("default_string", "_Unused")?])?;
    encoded(ctx, x, numbers, names, default)
}

pub(super) fn category_mapper<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (numbers, names) = (node.attr_ints("cats_int64s")?, node.attr_strs("cats_strings")?);
    let (numbers, names) = (ctx.ints(numbers)?, texts(ctx, &[names.len()], &names)?);
    mapped(ctx, node, numbers, names)
}

/// 1 in the column of each element's category, else 0; an element without a category is an error unless `zeros` holds.
pub(super) fn one_hot_encoder<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let names = node.attr_strs_opt("cats_strings")?.filter(|list| !list.is_empty());
    let numbers = node.attr_ints_opt("cats_int64s")?.filter(|list| !list.is_empty());
    let (x, keys, count) = match (names, numbers) {
        (Some(names), _) => (x, texts(ctx, &[names.len()], &names)?, names.len()),
        (None, Some(numbers)) => {
            let x = if ctx.dtype(x) == DType::String { x } else { ctx.cast(x, DType::I64)? };
            (x, ctx.ints(numbers)?, numbers.len())
        }
        (None, None) => return Err(invalid("it has no categories")),
    };
    let places: Vec<i64> = (0..count as i64).collect();
    let values = ctx.ints(&places)?;
    // A place that does not exist: no column is it, and reading there is an error.
    let default = ctx.ints(&[count as i64])?;
    let place = encoded(ctx, x, keys, values, default)?;
    if node.attr_bool_or("zeros", true)? {
        let rank = ctx.rank(place);
        let place = ctx.unsqueeze(place, rank)?;
        let columns = ctx.ints(&places)?;
        let hit = ctx.binary(BinaryFn::Eq, place, columns)?;
        return ctx.cast(hit, DType::F32);
    }
    let size = count.checked_mul(count).filter(|&size| size <= 1 << 24);
    let size = size.ok_or_else(|| invalid(format!("{count} categories")))?;
    let ones = (0..size).map(|at| f32::from(u8::from(at / count == at % count))).collect::<Vec<f32>>();
    let ones = ctx.add_constant(Tensor::from_slice(&[count, count], &ones)?);
    ctx.add(Op::Gather { axis: 0 }, &[ones, place])
}

/// A map of an input: its keys and values.
fn map_parts<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<(Value, Value)> {
    let (map, key, value) = map_input(ctx, node)?;
    let length = ctx.fresh("map");
    let types = vec![Type::new(key, [length.clone()]), Type::new(value, [length])];
    let op = Op::Host { function: "map_parts".into(), ints: Vec::new(), reals: Vec::new(), types };
    let node = ctx.add_node(op, &[map])?;
    Ok((Value { node, output: 0 }, Value { node, output: 1 }))
}

fn map_input<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<(Value, DType, DType)> {
    match ctx.item(node, 0).cloned() {
        Some(Item::Whole(value, Form::Map(key, dtype))) => Ok((value, key, dtype)),
        None => Err(Fault::MissingInput(0).into()),
        _ => Err(invalid("its input is no map")),
    }
}

/// The values of a map in the order of a vocabulary of keys.
pub(super) fn dict_vectorizer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (keys, values) = map_parts(ctx, node)?;
    let names = node.attr_strs_opt("string_vocabulary")?.filter(|list| !list.is_empty());
    let (vocabulary, count) = match (names, node.attr_ints_opt("int64_vocabulary")?) {
        (Some(names), _) => (texts(ctx, &[names.len()], &names)?, names.len()),
        (None, Some(numbers)) => (ctx.ints(numbers)?, numbers.len()),
        (None, None) => return Err(invalid("it has no vocabulary")),
    };
    let default = match ctx.dtype(values) {
        DType::String => texts(ctx, &[], &[""])?,
        dtype => ctx.scalar(dtype, 0.0),
    };
    let row = encoded(ctx, vocabulary, keys, values, default)?;
    ctx.reshape(row, &[Dim::ONE, Dim::from(count)])
}

/// The values of a map from integers: one column for each value, or for each integer below `max_map`.
pub(super) fn cast_map<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (map, _, dtype) = map_input(ctx, node)?;
    let columns = match node.attr_str_or("map_form", "DENSE")? {
        "DENSE" => None,
        "SPARSE" => Some(node.attr_int_or("max_map", 1)?),
        other => return Err(invalid(format!("`map_form` is `{other}`"))),
    };
    let columns =
        columns.map(|columns| usize::try_from(columns).map_err(|_| invalid(format!("`max_map` is {columns}"))));
    let columns = columns.transpose()?;
    let length = columns.map_or_else(|| ctx.fresh("map"), Dim::from);
    let as_texts = node.attr_str_or("cast_to", "TO_FLOAT")? == "TO_STRING";
    let dtype = if as_texts { DType::String } else { dtype };
    let types = vec![Type::new(dtype, [Dim::ONE, length])];
    let ints = vec![columns.map_or(-1, |columns| columns as i64), i64::from(as_texts)];
    let row = ctx.add(Op::Host { function: "map_row".into(), ints, reals: Vec::new(), types }, &[map])?;
    let to = match node.attr_str_or("cast_to", "TO_FLOAT")? {
        "TO_FLOAT" => DType::F32,
        "TO_STRING" => DType::String,
        "TO_INT64" => DType::I64,
        other => return Err(invalid(format!("`cast_to` is `{other}`"))),
    };
    if dtype == to {
        return Ok(row);
    }
    if dtype.is_numeric() && to.is_numeric() {
        return ctx.cast(row, to);
    }
    let types = vec![Type::new(to, ctx.shape(row))];
    let ints = vec![i64::from(to.onnx()), 1];
    ctx.add(Op::Host { function: "cast".into(), ints, reals: Vec::new(), types }, &[row])
}

/// A map from class labels to scores for each row.
pub(super) fn zip_map<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let x = ctx.value(node, 0)?;
    let names = node.attr_strs_opt("classlabels_strings")?.filter(|list| !list.is_empty());
    let keys = match (names, node.attr_ints_opt("classlabels_int64s")?.filter(|list| !list.is_empty())) {
        (Some(names), None) => texts(ctx, &[names.len()], &names)?,
        (None, Some(numbers)) => ctx.ints(numbers)?,
        _ => return Err(invalid("it has no class labels, or two lists of them")),
    };
    let rows = match ctx.rank(x) {
        1 => Dim::ONE,
        2 => ctx.size(x, 0)?,
        rank => return Err(invalid(format!("its input has {rank} axes instead of rows of scores"))),
    };
    let form = Form::Map(ctx.dtype(keys), ctx.dtype(x));
    let types = vec![Type::new(DType::Value, [rows])];
    let op = Op::Host { function: "zip_map".into(), ints: Vec::new(), reals: Vec::new(), types };
    Ok(vec![Item::Whole(ctx.add(op, &[x, keys])?, Form::Sequence(Box::new(form)))])
}

/// A constant of x's type and one axis.
pub(super) fn vector(ctx: &mut Ctx<'_, '_>, dtype: DType, numbers: Numbers) -> Outcome<Value> {
    let from = if matches!(numbers, Numbers::Float(_)) { DType::F64 } else { DType::I64 };
    let numbers = numbers.cast(from, dtype, Overflow::Special);
    Ok(ctx.add_constant(Tensor::from_numbers(dtype, &[numbers.len()], &numbers)?))
}
