//! Arithmetic on indices and numbers.

use tarsia_tensor::Dim;

use super::{super::types, Op, Reader, Result, Value, compare};
use crate::import::text::Cursor;

impl<'m> Reader<'m> {
    pub(super) fn arith(&mut self, op: &Op<'m>) -> Result<Value> {
        let mut text = op.text;
        let name = op.name.trim_start_matches("arith.");
        match name {
            "constant" => constant(text),
            "cmpi" => {
                let predicate = text.word();
                text.expect(",")?;
                let [a, b] = self.pair(&mut text)?;
                let value = compare(predicate, &a, &b);
                value.map(Value::Number).ok_or_else(|| text.fault(format!("`{predicate}` is no comparison")))
            }
            "select" => {
                let condition = self.index(&mut text)?;
                text.expect(",")?;
                let first = self.value(&mut text)?;
                text.expect(",")?;
                let sides = [first, self.value(&mut text)?];
                Ok(match condition.as_const() {
                    Some(0) => sides[1].clone(),
                    Some(_) => sides[0].clone(),
                    None => Value::Choice(condition, Box::new(sides)),
                })
            }
            "index_cast" | "index_castui" | "extsi" | "extui" | "trunci" => {
                let value = self.value(&mut text)?;
                let to_bit = text.rest().trim_end().ends_with("to i1");
                let bit = |value: &Value| Some(Value::Number(value.number()?.modulo(&Dim::Const(2))));
                let cast = if to_bit { value.map(&mut { bit }) } else { Some(value) };
                cast.ok_or_else(|| text.fault("this is no number that is known"))
            }
            _ => {
                let [a, b] = self.pair(&mut text)?;
                let value = integer(name, &a, &b);
                value.map(Value::Number).ok_or_else(|| text.fault(format!("`arith.{name}` cannot be read")))
            }
        }
    }

    fn pair(&self, text: &mut Cursor<'m>) -> Result<[Dim; 2]> {
        let first = self.index(text)?;
        text.expect(",")?;
        Ok([first, self.index(text)?])
    }
}

/// `12 : i64`, `true`, `1.0 : f16`, `0xFF800000 : f32`.
fn constant(text: Cursor<'_>) -> Result<Value> {
    let (value, ty) = text.rest().split_once(" : ").unwrap_or((text.rest(), "i1"));
    let (value, ty) = (value.trim(), ty.trim());
    if let Some(bit) = ["false", "true"].iter().position(|word| *word == value) {
        return Ok(Value::Number(Dim::from(bit)));
    }
    let float = types::dtype(ty).filter(|dtype| dtype.is_float());
    let number = match float {
        Some(dtype) => types::real(value, dtype).map(Value::Real),
        None => value.parse().ok().map(|value| Value::Number(Dim::Const(value))),
    };
    number.ok_or_else(|| text.fault("this constant cannot be read"))
}

fn integer(name: &str, a: &Dim, b: &Dim) -> Option<Dim> {
    let positive = b.as_const().is_some_and(|b| b > 0);
    Some(match name {
        "addi" => a.clone() + b.clone(),
        "subi" => a.clone() - b.clone(),
        "muli" | "andi" => a.clone() * b.clone(),
        "xori" => a.clone() + b.clone() - Dim::Const(2) * a.clone() * b.clone(),
        "ori" => a.maximum(b),
        "minsi" | "minui" => a.minimum(b),
        "maxsi" | "maxui" => a.maximum(b),
        "divsi" | "divui" | "floordivsi" if positive => a.floor_div(b),
        "ceildivsi" | "ceildivui" if positive => a.ceil_div(b),
        "remsi" | "remui" if positive => a.modulo(b),
        _ => return None,
    })
}
