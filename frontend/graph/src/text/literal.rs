//! Values in texts: attributes, types and the elements of constants.

use std::sync::Arc;

use bytes::Bytes;
use tarsia_tensor::{Class, DType, Dim, Numbers, Tensor};

use super::cursor::{Cursor, ParseError};
use crate::{Attr, Graph, Real, Type};

/// A value as it is written; what kind of attribute it is, the op says.
pub(super) enum Literal<'a> {
    /// A quoted string.
    Quoted(String),
    /// A number, word, size or type.
    Atom(&'a str),
    /// Atoms in brackets.
    List(Vec<&'a str>),
    /// A sub-graph.
    Graph(Arc<Graph>),
}

impl Literal<'_> {
    /// All attributes that the text can mean.
    pub(super) fn meanings(&self) -> Vec<Attr> {
        match self {
            Literal::Quoted(text) => vec![Attr::Text(text.clone())],
            Literal::Graph(body) => vec![Attr::Graph(body.clone())],
            Literal::Atom(atom) => {
                let mut meanings: Vec<Attr> = atom.parse().ok().map(Attr::Int).into_iter().collect();
                meanings.extend(atom.parse().ok().map(Attr::Bool));
                meanings.extend(real(atom).map(|value| Attr::Real(Real(value))));
                meanings.extend(atom.parse().ok().map(Attr::DType));
                meanings.extend(atom.parse().ok().map(Attr::Dim));
                meanings.push(Attr::Text((*atom).to_owned()));
                meanings
            }
            Literal::List(items) => {
                fn all<T>(items: &[&str], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
                    items.iter().map(|item| read(item)).collect()
                }
                let mut meanings: Vec<Attr> = all(items, |x| x.parse().ok()).map(Attr::Ints).into_iter().collect();
                meanings.extend(all(items, |x| real(x).map(Real)).map(Attr::Reals));
                meanings.extend(all(items, |x| x.parse().ok()).map(Attr::Dims));
                meanings.extend(all(items, |x| read_type(&mut Cursor { text: x, at: 0 }).ok()).map(Attr::Types));
                meanings
            }
        }
    }
}

/// A literal other than a sub-graph.
pub(super) fn read_literal<'a>(cursor: &mut Cursor<'a>) -> Result<Literal<'a>, ParseError> {
    cursor.space();
    if cursor.rest().starts_with('"') {
        return Ok(Literal::Quoted(cursor.quoted_text()?));
    }
    if !cursor.eat("[") {
        let atom = cursor.atom()?;
        return if atom.is_empty() { Err(cursor.error("expected a value")) } else { Ok(Literal::Atom(atom)) };
    }
    let mut items = Vec::new();
    while !cursor.eat("]") {
        if !items.is_empty() {
            cursor.expect(",")?;
        }
        items.push(cursor.atom()?);
    }
    Ok(Literal::List(items))
}

/// `f32[batch, 3]`.
pub(super) fn read_type(cursor: &mut Cursor) -> Result<Type, ParseError> {
    cursor.space();
    let start = *cursor;
    let dtype: DType = cursor.name("an element type")?.parse().map_err(|message: String| start.error(message))?;
    cursor.expect("[")?;
    let mut shape = Vec::new();
    while !cursor.eat("]") {
        if !shape.is_empty() {
            cursor.expect(",")?;
        }
        cursor.space();
        let place = *cursor;
        shape.push(cursor.atom()?.parse::<Dim>().map_err(|error| place.error(error.to_string()))?);
    }
    Ok(Type::new(dtype, shape))
}

/// The sizes of a type of constant data.
pub(super) fn known_shape(cursor: &Cursor, ty: &Type) -> Result<Vec<usize>, ParseError> {
    let sizes: Option<Vec<usize>> = ty.shape.iter().map(Dim::as_usize).collect();
    sizes.ok_or_else(|| cursor.error(format!("constant data cannot be {ty}: their sizes must be numbers")))
}

/// A float as [`super::print`] writes it.
fn real(text: &str) -> Option<f64> {
    if let Some(bits) = text.strip_prefix("nan(0x").and_then(|rest| rest.strip_suffix(')')) {
        return u64::from_str_radix(bits, 16).ok().map(f64::from_bits).filter(|value| value.is_nan());
    }
    let starts = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = starts.starts_with(|c: char| c.is_ascii_digit() || c == '.') || matches!(starts, "inf" | "nan");
    if number { text.parse().ok() } else { None }
}

/// The elements of a constant, before its type is known.
pub(super) enum Elements<'a> {
    /// Numbers or booleans.
    Numbers(Vec<&'a str>),
    /// Strings.
    Strings(Vec<Bytes>),
}

/// One element, or a list of elements.
pub(super) fn read_elements<'a>(cursor: &mut Cursor<'a>) -> Result<Elements<'a>, ParseError> {
    cursor.space();
    let listed = cursor.eat("[");
    cursor.space();
    if cursor.rest().starts_with('"') {
        let mut strings = vec![cursor.quoted()?.into()];
        while listed && !cursor.eat("]") {
            cursor.expect(",")?;
            strings.push(cursor.quoted()?.into());
        }
        return Ok(Elements::Strings(strings));
    }
    if !listed {
        let rest = cursor.rest();
        let end = rest.find([' ', '\t', '\n', ':']).unwrap_or(rest.len());
        cursor.at += end;
        return Ok(Elements::Numbers(vec![&rest[..end]]));
    }
    let mut items = Vec::new();
    while !cursor.eat("]") {
        if !items.is_empty() {
            cursor.expect(",")?;
        }
        items.push(cursor.atom()?);
    }
    Ok(Elements::Numbers(items))
}

/// The tensor of this type with these elements.
pub(super) fn tensor_of(cursor: &Cursor, ty: &Type, elements: Elements) -> Result<Tensor, ParseError> {
    let shape = known_shape(cursor, ty)?;
    let made = match elements {
        Elements::Strings(strings) if ty.dtype == DType::String => Tensor::from_strings(&shape, strings),
        Elements::Numbers(items) if !ty.dtype.is_numeric() && items.is_empty() => Tensor::empty(ty.dtype, &shape),
        Elements::Numbers(items) if ty.dtype.is_numeric() => {
            let numbers = numbers_of(ty.dtype, &items)
                .map_err(|item| cursor.error(format!("`{item}` is not a value of {}", ty.dtype)))?;
            Tensor::from_numbers(ty.dtype, &shape, &numbers)
        }
        _ => return Err(cursor.error(format!("strings are data of type string, not of {ty}"))),
    };
    made.map_err(|error| cursor.error(error.to_string()))
}

/// The numbers, or the item that is none.
fn numbers_of<'a>(dtype: DType, items: &[&'a str]) -> Result<Numbers, &'a str> {
    fn all<'a, T>(items: &[&'a str], read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, &'a str> {
        items.iter().map(|item| read(item).ok_or(*item)).collect()
    }
    let range = (dtype.bits() as u32).min(64);
    Ok(match dtype.class() {
        Class::Float => Numbers::Float(all(items, real)?),
        Class::Int => {
            Numbers::Int(all(items, |x| x.parse::<i64>().ok().filter(|x| (*x << (64 - range)) >> (64 - range) == *x))?)
        }
        _ if dtype == DType::Bool => Numbers::Uint(all(items, |x| x.parse::<bool>().ok().map(u64::from))?),
        _ => Numbers::Uint(all(items, |x| x.parse::<u64>().ok().filter(|x| *x <= u64::MAX >> (64 - range)))?),
    })
}
