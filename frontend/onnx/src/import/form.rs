//! Whole values in the graph: sequences, optional values and maps whose structure only run-time data tell.
//!
//! ```text
//! Item::Sequence, Item::Nothing ─ whole ─► Item::Whole: a value of type `value[n]` (map: `value[]`) and its Form
//! Item::Whole                   ─ element ─► Item of an element
//! ```
//!
//! The Graph's types say no more than that a value is a whole one; the [`Form`] says what is inside, and lives as long as the import.
//! An optional value is a sequence of none or one.

use tarsia_graph::{Op, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{Ctx, Item, Outcome, invalid, unsupported};
use crate::ValueType;

/// What is inside of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A tensor of an element type, with so many axes if that is known.
    Tensor(DType, Option<usize>),
    Sequence(Box<Form>),
    Optional(Box<Form>),
    /// A map from keys of a type to values of a type.
    Map(DType, DType),
    /// Not known, as the elements of an empty sequence.
    Any,
}

impl Form {
    /// The form that a declared type has; `None` for types that no value here has.
    pub fn declared(ty: &ValueType<'_>) -> Option<Form> {
        Some(match ty {
            ValueType::Tensor(tensor) => Form::Tensor(tensor.dtype, tensor.shape.as_ref().map(Vec::len)),
            ValueType::Sequence(element) => Form::Sequence(Box::new(Form::declared(element)?)),
            ValueType::Optional(element) => Form::Optional(Box::new(Form::declared(element)?)),
            ValueType::Map { key, value } => match Form::declared(value)? {
                Form::Tensor(value, _) => Form::Map(*key, value),
                _ => return None,
            },
            ValueType::SparseTensor(_) | ValueType::Opaque { .. } => return None,
        })
    }

    /// Whether values of the form are whole values in the graph.
    pub fn is_whole(&self) -> bool {
        !matches!(self, Form::Tensor(..))
    }

    /// The form that values of both forms can have.
    pub fn join(&self, other: &Form) -> Option<Form> {
        Some(match (self, other) {
            (Form::Any, form) | (form, Form::Any) => form.clone(),
            (Form::Optional(a), Form::Optional(b)) => Form::Optional(Box::new(a.join(b)?)),
            (Form::Optional(a), b) | (b, Form::Optional(a)) => Form::Optional(Box::new(a.join(b)?)),
            (Form::Sequence(a), Form::Sequence(b)) => Form::Sequence(Box::new(a.join(b)?)),
            (Form::Tensor(a, m), Form::Tensor(b, n)) if a == b => Form::Tensor(*a, m.filter(|_| m == n)),
            (a, b) if a == b => a.clone(),
            _ => return None,
        })
    }

    /// The type of a whole value: `length` elements, which a map does not have.
    pub fn whole_type(&self, length: Dim) -> Type {
        Type::new(DType::Value, if matches!(self, Form::Map(..)) { Vec::new() } else { vec![length] })
    }
}

impl Ctx<'_, '_> {
    /// The form of an item.
    pub fn form(&self, item: &Item) -> Option<Form> {
        Some(match item {
            Item::Tensor(value) => Form::Tensor(self.dtype(*value), Some(self.rank(*value))),
            Item::Known(known) => Form::Tensor(known.dtype, Some(known.shape.len())),
            Item::Whole(_, form) => form.clone(),
            Item::Nothing => Form::Optional(Box::new(Form::Any)),
            Item::Sequence(items) => {
                let mut element = Form::Any;
                for item in items {
                    element = element.join(&self.form(item)?)?;
                }
                Form::Sequence(Box::new(element))
            }
            Item::Poison => return None,
        })
    }

    /// An item as one value of the graph, with its form.
    pub fn whole(&mut self, item: &Item) -> Outcome<(Value, Form)> {
        let mixed = || invalid("the elements of a sequence have several types");
        match item {
            Item::Poison => Err(super::Stop::Poisoned),
            Item::Whole(value, form) => Ok((*value, form.clone())),
            Item::Tensor(_) | Item::Known(_) => {
                Ok((self.item_value(item)?, self.form(item).ok_or(super::Stop::Poisoned)?))
            }
            Item::Nothing => Ok((self.sequence_value(&[])?, Form::Optional(Box::new(Form::Any)))),
            Item::Sequence(items) => {
                let form = self.form(item).ok_or_else(mixed)?;
                let values = items.iter().map(|item| Ok(self.whole(item)?.0)).collect::<Outcome<Vec<Value>>>()?;
                Ok((self.sequence_value(&values)?, form))
            }
        }
    }

    /// A sequence of values, in the graph.
    fn sequence_value(&mut self, values: &[Value]) -> Outcome<Value> {
        let types = vec![Type::new(DType::Value, [Dim::from(values.len())])];
        self.add(Op::Host { function: "sequence".into(), ints: Vec::new(), reals: Vec::new(), types }, values)
    }

    /// An item as a value of a form that it can have: an optional value is made of what it holds, and the other way round.
    pub fn coerced(&mut self, item: &Item, form: &Form) -> Outcome<Value> {
        match (form, item) {
            (Form::Optional(_), Item::Whole(value, Form::Optional(_))) => Ok(*value),
            (Form::Optional(_), Item::Nothing) => Ok(self.whole(item)?.0),
            (Form::Optional(inner), _) => {
                let held = self.coerced(item, inner)?;
                self.sequence_value(&[held])
            }
            (Form::Any, _) => Ok(self.whole(item)?.0),
            (_, Item::Whole(value, Form::Optional(inner))) => {
                let item = self.element(*value, None, inner)?;
                self.coerced(&item, form)
            }
            (_, Item::Nothing) => Err(invalid("an optional value that is empty where one that is not is expected")),
            _ => {
                let (value, own) = self.whole(item)?;
                match own.join(form) {
                    Some(_) if own.is_whole() == form.is_whole() => Ok(value),
                    _ => Err(invalid(format!("{own:?} where {form:?} is expected"))),
                }
            }
        }
    }

    /// What a value of the graph is under a form.
    pub fn opened(&self, value: Value, form: &Form) -> Item {
        if form.is_whole() { Item::Whole(value, form.clone()) } else { Item::Tensor(value) }
    }

    /// The element of a sequence, or of an optional value, at a place (none: the first).
    pub fn element(&mut self, sequence: Value, place: Option<Value>, form: &Form) -> Outcome<Item> {
        let ty = match form {
            Form::Tensor(dtype, Some(rank)) => Type::new(*dtype, self.fresh_shape("sequence_at", *rank)),
            Form::Tensor(_, None) => {
                return Err(unsupported(
                    "an element of a sequence of which the model does not tell how many axes it has; give the sequence \
                     an element type with a shape",
                ));
            }
            Form::Any => return Err(invalid("an element of a sequence or optional value that is always empty")),
            whole => {
                let length = self.fresh("sequence_at");
                whole.whole_type(length)
            }
        };
        let operands: Vec<Value> = std::iter::once(sequence).chain(place).collect();
        let op = Op::Host { function: "sequence_at".into(), ints: Vec::new(), reals: Vec::new(), types: vec![ty] };
        let value = self.add(op, &operands)?;
        Ok(self.opened(value, form))
    }

    /// The form that a value of the model is declared to have, if it is a whole one.
    pub fn declared_whole(value: &crate::view::Value<'_>) -> Option<Form> {
        let ty = value.value_type().ok().flatten()?;
        Form::declared(&ty).filter(Form::is_whole)
    }
}
