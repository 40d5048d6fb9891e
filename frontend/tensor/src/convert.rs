//! Conversions between element types, text included.

use crate::{Class, DType, MiniFloat, Numbers, Overflow, Tensor, TensorError};

/// The elements of `x` as `dtype`; `saturate` clamps narrow floats instead of giving infinities.
///
/// # Errors
/// If a text is not a number.
pub fn convert(x: &Tensor, dtype: DType, saturate: bool) -> Result<Tensor, TensorError> {
    let overflow = if saturate { Overflow::Saturate } else { Overflow::Special };
    match (x.strings(), dtype.class()) {
        (Some(_), Class::String) => Ok(x.clone()),
        (Some(strings), _) => {
            let numbers = parse_numbers(strings, dtype)?;
            Ok(Tensor::from_numbers(dtype, x.shape(), &numbers.cast(dtype, dtype, overflow))?)
        }
        (None, Class::String) => {
            let text = number_texts(x)?.into_iter().map(Into::into).collect();
            Ok(Tensor::from_strings(x.shape(), text)?)
        }
        (None, Class::Value) => Err(TensorError::NotNumeric(dtype)),
        (None, _) => {
            let numbers = x.numbers()?.cast(x.dtype(), dtype, overflow);
            // The values are representable now, but an infinity that saturated must not be seen as one again.
            Ok(Tensor::from_numbers(dtype, x.shape(), &numbers)?)
        }
    }
}

/// Numbers as ONNX's `Cast` reads them: plain or scientific, `INF`, `NaN` in any case.
fn parse_numbers(strings: &[bytes::Bytes], dtype: DType) -> Result<Numbers, TensorError> {
    fn read(text: &bytes::Bytes) -> Result<&str, TensorError> {
        std::str::from_utf8(text).map(str::trim).map_err(|_| bad_number(text))
    }
    match dtype.class() {
        Class::Int => {
            let values = strings.iter().map(|text| {
                let trimmed = read(text)?;
                trimmed
                    .parse::<i64>()
                    .or_else(|_| trimmed.parse::<f64>().map(|x| x as i64))
                    .map_err(|_| bad_number(text))
            });
            Ok(Numbers::Int(values.collect::<Result<_, _>>()?))
        }
        Class::Uint if dtype != DType::Bool => {
            let values = strings.iter().map(|text| {
                let trimmed = read(text)?;
                trimmed
                    .parse::<u64>()
                    .or_else(|_| trimmed.parse::<f64>().map(|x| x as u64))
                    .map_err(|_| bad_number(text))
            });
            Ok(Numbers::Uint(values.collect::<Result<_, _>>()?))
        }
        _ => {
            let values = strings.iter().map(|text| read(text)?.parse::<f64>().map_err(|_| bad_number(text)));
            Ok(Numbers::Float(values.collect::<Result<_, _>>()?))
        }
    }
}

fn bad_number(text: &[u8]) -> TensorError {
    TensorError::NotANumber(String::from_utf8_lossy(text).into_owned())
}

/// Numbers as ONNX's `Cast` writes them: the shortest digits that read back in the type, as NumPy prints them.
fn number_texts(x: &Tensor) -> Result<Vec<String>, TensorError> {
    Ok(match x.numbers()? {
        Numbers::Int(v) => v.iter().map(i64::to_string).collect(),
        Numbers::Uint(v) if x.dtype() == DType::Bool => {
            v.iter().map(|&b| if b != 0 { "True" } else { "False" }.to_owned()).collect()
        }
        Numbers::Uint(v) => v.iter().map(u64::to_string).collect(),
        Numbers::Float(v) => v.iter().map(|&value| float_text(value, x.dtype())).collect(),
    })
}

fn float_text(value: f64, dtype: DType) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let scientific = value != 0.0 && !(1e-4..1e16).contains(&value.abs());
    let text = match (dtype, scientific) {
        (DType::F64, false) => format!("{value:?}"),
        (DType::F64, true) => format!("{value:e}"),
        (_, false) => shortest(value, dtype),
        (_, true) => format!("{:e}", value as f32),
    };
    // Two digits of exponent with its sign, as NumPy prints them.
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// The shortest decimal that rounds to `value` in `dtype`.
fn shortest(value: f64, dtype: DType) -> String {
    if dtype == DType::F32 || MiniFloat::of(dtype).is_some() {
        return format!("{:?}", value as f32);
    }
    let same = |text: &str| {
        let read = Numbers::Float(vec![text.parse().unwrap_or(f64::NAN)]).rounded(dtype);
        read == Numbers::Float(vec![value])
    };
    let digits = (1..20).map(|digits| format!("{value:.digits$}")).find(|text| same(text));
    digits.unwrap_or_else(|| format!("{value:?}"))
}
