//! Types of values: `float[N,4]`, `seq(float)`, `map(int64, float)`, `optional(…)`, `sparse_tensor(…)`, `opaque(domain, name)`.

use super::cursor::{Cursor, Parsed};
use crate::schema::{
    DataType, DimensionProto, DimensionValue, ElementTypeProto, MapTypeProto, OpaqueTypeProto, TensorShapeProto,
    TensorTypeProto, TypeProto, TypeValue, ValueInfoProto,
};

/// The names of element types.
const ELEMENTS: &[(&str, DataType)] = &[
    ("float", DataType::Float),
    ("uint8", DataType::Uint8),
    ("int8", DataType::Int8),
    ("uint16", DataType::Uint16),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("string", DataType::String),
    ("bool", DataType::Bool),
    ("float16", DataType::Float16),
    ("double", DataType::Double),
    ("uint32", DataType::Uint32),
    ("uint64", DataType::Uint64),
    ("complex64", DataType::Complex64),
    ("complex128", DataType::Complex128),
    ("bfloat16", DataType::Bfloat16),
    ("float8e4m3fn", DataType::Float8e4m3fn),
    ("float8e4m3fnuz", DataType::Float8e4m3fnuz),
    ("float8e5m2", DataType::Float8e5m2),
    ("float8e5m2fnuz", DataType::Float8e5m2fnuz),
    ("float8e8m0", DataType::Float8e8m0),
    ("uint4", DataType::Uint4),
    ("int4", DataType::Int4),
    ("float4e2m1", DataType::Float4e2m1),
    ("uint2", DataType::Uint2),
    ("int2", DataType::Int2),
    ("float6e2m3", DataType::Float6e2m3),
    ("float6e3m2", DataType::Float6e3m2),
];

/// The words that begin other types.
const CONSTRUCTORS: &[&str] = &["seq", "map", "optional", "sparse_tensor", "opaque"];

fn element(word: &str) -> Option<i32> {
    ELEMENTS.iter().find(|(name, _)| *name == word).map(|&(_, element)| element as i32)
}

impl Cursor<'_> {
    /// Whether a type is next.
    pub fn next_is_type(&mut self) -> bool {
        self.peek_word().is_some_and(|word| element(word).is_some() || CONSTRUCTORS.contains(&word))
    }

    /// A type.
    pub fn type_proto(&mut self) -> Parsed<TypeProto> {
        self.take(size_of::<TypeProto>())?;
        if let Some(elem_type) = self.element_opt() {
            let value = TypeValue::TensorType(self.shaped(elem_type)?);
            return Ok(TypeProto { value: Some(value), denotation: String::new() });
        }
        let constructor = self.peek_word().filter(|word| CONSTRUCTORS.contains(word));
        let constructor = constructor.ok_or_else(|| self.expected("a type"))?;
        self.word();
        self.token("(")?;
        let value = self.nested(|cursor| cursor.constructed(constructor))?;
        self.token(")")?;
        Ok(TypeProto { value: Some(value), denotation: String::new() })
    }

    fn constructed(&mut self, constructor: &str) -> Parsed<TypeValue> {
        Ok(match constructor {
            "seq" => TypeValue::SequenceType(self.element_type()?),
            "optional" => TypeValue::OptionalType(self.element_type()?),
            "map" => {
                let key_type = self.element()?;
                self.token(",")?;
                let value_type = Some(Box::new(self.type_proto()?));
                TypeValue::MapType(Box::new(MapTypeProto { key_type, value_type }))
            }
            "sparse_tensor" => {
                let elem_type = self.element()?;
                TypeValue::SparseTensorType(self.shaped(elem_type)?)
            }
            _ => TypeValue::OpaqueType(self.opaque()?),
        })
    }

    fn element_type(&mut self) -> Parsed<Box<ElementTypeProto>> {
        let elem_type = Some(Box::new(self.type_proto()?));
        Ok(Box::new(ElementTypeProto { elem_type }))
    }

    fn element_opt(&mut self) -> Option<i32> {
        let element = self.peek_word().and_then(element)?;
        self.word();
        Some(element)
    }

    fn element(&mut self) -> Parsed<i32> {
        self.element_opt().ok_or_else(|| self.expected("an element type"))
    }

    /// No brackets: a scalar. Empty ones: any rank.
    fn shaped(&mut self, elem_type: i32) -> Parsed<TensorTypeProto> {
        if !self.eat(b'[') {
            return Ok(TensorTypeProto { elem_type, shape: Some(TensorShapeProto::default()) });
        }
        let dim = self.until(b']', Cursor::dimension)?;
        let shape = if dim.is_empty() { None } else { Some(TensorShapeProto { dim }) };
        Ok(TensorTypeProto { elem_type, shape })
    }

    fn dimension(&mut self) -> Parsed<DimensionProto> {
        self.take(size_of::<DimensionProto>())?;
        let value = if self.eat(b'?') {
            None
        } else if let Some(name) = self.name_opt()? {
            Some(DimensionValue::DimParam(name))
        } else if matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            Some(DimensionValue::DimValue(self.int()?))
        } else {
            return Err(self.expected("a size, a symbol or `?`"));
        };
        Ok(DimensionProto { value, denotation: String::new() })
    }

    /// Nothing, a name, or a domain and a name.
    fn opaque(&mut self) -> Parsed<OpaqueTypeProto> {
        if self.peek() == Some(b')') {
            return Ok(OpaqueTypeProto::default());
        }
        let first = self.qualified("a name")?;
        if !self.eat(b',') {
            return Ok(OpaqueTypeProto { domain: String::new(), name: first });
        }
        let name = self.required_word("a name")?.to_owned();
        Ok(OpaqueTypeProto { domain: first, name })
    }

    /// Identifiers with dots between.
    pub fn qualified(&mut self, what: &str) -> Parsed<String> {
        let mut name = self.required_word(what)?.to_owned();
        while self.eat(b'.') {
            name.push('.');
            name.push_str(self.required_word(what)?);
        }
        self.take(size_of::<String>() + name.len())?;
        Ok(name)
    }

    /// A value with its type, which may be left out.
    pub fn value_info(&mut self) -> Parsed<ValueInfoProto> {
        self.take(size_of::<ValueInfoProto>())?;
        let r#type = if self.next_is_type() { Some(self.type_proto()?) } else { None };
        Ok(ValueInfoProto { name: self.name()?, r#type, ..ValueInfoProto::default() })
    }
}
