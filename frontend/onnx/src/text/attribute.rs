//! Attributes: `name: kind = value`. The kind may be left out where the value tells it.

use bytes::Bytes;

use super::cursor::{Cursor, Literal, Parsed};
use crate::schema::{AttributeProto, AttributeType, GraphProto, TensorProto, TypeProto};

/// The kinds by name.
const KINDS: &[(&str, AttributeType)] = &[
    ("float", AttributeType::Float),
    ("int", AttributeType::Int),
    ("string", AttributeType::String),
    ("tensor", AttributeType::Tensor),
    ("graph", AttributeType::Graph),
    ("type_proto", AttributeType::TypeProto),
    ("sparse_tensor", AttributeType::SparseTensor),
    ("floats", AttributeType::Floats),
    ("ints", AttributeType::Ints),
    ("strings", AttributeType::Strings),
    ("tensors", AttributeType::Tensors),
    ("graphs", AttributeType::Graphs),
    ("type_protos", AttributeType::TypeProtos),
    ("sparse_tensors", AttributeType::SparseTensors),
];

/// The kind of a list by that of its elements.
const LISTS: &[(AttributeType, AttributeType)] = &[
    (AttributeType::Float, AttributeType::Floats),
    (AttributeType::Int, AttributeType::Ints),
    (AttributeType::String, AttributeType::Strings),
    (AttributeType::Tensor, AttributeType::Tensors),
    (AttributeType::Graph, AttributeType::Graphs),
    (AttributeType::TypeProto, AttributeType::TypeProtos),
    (AttributeType::SparseTensor, AttributeType::SparseTensors),
];

fn kind_name(kind: AttributeType) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("value", |&(name, _)| name)
}

enum Value {
    Int(i64),
    Float(f32),
    String(Bytes),
    Tensor(TensorProto),
    Graph(GraphProto),
    Type(TypeProto),
}

impl Value {
    fn kind(&self) -> AttributeType {
        match self {
            Value::Int(_) => AttributeType::Int,
            Value::Float(_) => AttributeType::Float,
            Value::String(_) => AttributeType::String,
            Value::Tensor(_) => AttributeType::Tensor,
            Value::Graph(_) => AttributeType::Graph,
            Value::Type(_) => AttributeType::TypeProto,
        }
    }
}

impl Cursor<'_> {
    /// `<attribute, …>`, if it is next.
    pub fn attributes(&mut self) -> Parsed<Vec<AttributeProto>> {
        if !self.eat(b'<') {
            return Ok(Vec::new());
        }
        let attributes = self.several(|cursor| {
            let name = cursor.required_word("the name of an attribute")?.to_owned();
            cursor.attribute(name)
        })?;
        self.token(">")?;
        Ok(attributes)
    }

    /// The kind and value of an attribute whose name has been passed.
    pub fn attribute(&mut self, name: String) -> Parsed<AttributeProto> {
        self.take(size_of::<AttributeProto>() + name.len())?;
        let mut kind = AttributeType::Undefined;
        if self.eat(b':') {
            let known = self.peek_word().and_then(|word| KINDS.iter().find(|(name, _)| *name == word));
            kind = known.ok_or_else(|| self.expected("a kind of attribute, such as `int` or `floats`"))?.1;
            self.word();
        }
        self.token("=")?;
        let mut attribute = AttributeProto { name, r#type: kind as i32, ..AttributeProto::default() };
        if self.eat(b'@') {
            attribute.ref_attr_name = self.name()?;
        } else if self.peek() == Some(b'[') {
            self.list(&mut attribute, kind)?;
        } else {
            let value = self.value(kind)?;
            attribute.r#type = value.kind() as i32;
            match value {
                Value::Int(value) => attribute.i = value,
                Value::Float(value) => attribute.f = value,
                Value::String(value) => attribute.s = value,
                Value::Tensor(value) => attribute.t = Some(Box::new(value)),
                Value::Graph(value) => attribute.g = Some(Box::new(value)),
                Value::Type(value) => attribute.tp = Some(Box::new(value)),
            }
        }
        Ok(attribute)
    }

    /// `[value, …]`. Without a kind the first value tells it; integers are floats where a float stands among them.
    fn list(&mut self, attribute: &mut AttributeProto, kind: AttributeType) -> Parsed<()> {
        let mut single = match LISTS.iter().find(|(_, list)| *list == kind) {
            Some(&(single, _)) => single,
            None if kind == AttributeType::Undefined => kind,
            None => return Err(self.expected(&format!("one {}, no list", kind_name(kind)))),
        };
        self.token("[")?;
        if kind == AttributeType::Undefined && self.peek() == Some(b']') {
            return Err(self.expected("a value: an empty list needs a kind, as in `axes: ints = []`"));
        }
        let values = self.until(b']', |cursor| {
            let value = match single {
                AttributeType::Int if kind == AttributeType::Undefined => cursor.value(AttributeType::Undefined)?,
                single => cursor.value(single)?,
            };
            match (single, value.kind()) {
                (AttributeType::Undefined, found) => single = found,
                (AttributeType::Int, AttributeType::Float) => single = AttributeType::Float,
                (known, found) if known != found => {
                    return Err(cursor.expected(&format!("a list of {} only", kind_name(known))));
                }
                _ => {}
            }
            Ok(value)
        })?;
        let list = LISTS.iter().find(|(known, _)| *known == single).map_or(kind, |&(_, list)| list);
        attribute.r#type = list as i32;
        for value in values {
            match value {
                Value::Int(value) if list == AttributeType::Floats => attribute.floats.push(value as f32),
                Value::Int(value) => attribute.ints.push(value),
                Value::Float(value) => attribute.floats.push(value),
                Value::String(value) => attribute.strings.push(value),
                Value::Tensor(value) => attribute.tensors.push(value),
                Value::Graph(value) => attribute.graphs.push(value),
                Value::Type(value) => attribute.type_protos.push(value),
            }
        }
        Ok(())
    }

    /// One value, of a kind if that is known.
    fn value(&mut self, kind: AttributeType) -> Parsed<Value> {
        self.take(size_of::<u64>())?;
        let start = self.place();
        let value = match kind {
            AttributeType::Graph => Value::Graph(self.graph()?),
            AttributeType::Float => Value::Float(self.float()?),
            _ => self.any_value()?,
        };
        if kind != AttributeType::Undefined && kind != value.kind() {
            return Err(self.not_a(start, &format!("of the kind `{}`", kind_name(kind))));
        }
        Ok(value)
    }

    /// A value whose first word tells what it is.
    fn any_value(&mut self) -> Parsed<Value> {
        if self.next_is_type() {
            return self.type_or_tensor();
        }
        let is_float_word = |word: &str| ["inf", "infinity", "nan"].iter().any(|name| word.eq_ignore_ascii_case(name));
        if self.peek_word().is_some_and(|word| !is_float_word(word)) {
            return Ok(Value::Graph(self.graph()?));
        }
        let start = self.place();
        Ok(match self.literal()? {
            Literal::String(name) if self.peek() == Some(b'(') => {
                let name = String::from_utf8(name.to_vec()).map_err(|_| self.not_a(start, "UTF-8"))?;
                Value::Graph(self.graph_named(name)?)
            }
            Literal::String(text) => Value::String(text),
            Literal::Int(text) => Value::Int(text.parse().map_err(|_| self.not_a(start, "a 64-bit integer"))?),
            Literal::Float(_) => {
                self.back_to(start);
                Value::Float(self.float()?)
            }
        })
    }

    fn type_or_tensor(&mut self) -> Parsed<Value> {
        let start = self.place();
        let r#type = self.type_proto()?;
        let name = self.name_opt()?;
        let is_tensor = self.eat(b'=') || name.is_some() || self.peek() == Some(b'{');
        if !is_tensor {
            return Ok(Value::Type(r#type));
        }
        Ok(Value::Tensor(self.tensor(&r#type, name.unwrap_or_default(), start)?))
    }
}
