//! Host functions on text, and on elements as they are stored.

use bytes::Bytes;
use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Call, HostError};
use crate::{DType, Numbers, Tensor, arrange::Places, convert};

impl Call<'_> {
    /// An operand's texts.
    pub(super) fn texts(&self, operand: usize) -> Result<Vec<&str>, HostError> {
        let tensor = &self.operands[operand];
        let strings =
            tensor.strings().ok_or_else(|| self.fault(format!("{} where text is expected", tensor.dtype())))?;
        let not_utf8 = |_| self.fault("a text is not UTF-8");
        strings.iter().map(|text| std::str::from_utf8(text).map_err(not_utf8)).collect()
    }

    pub(super) fn strings_of(&self, shape: &[usize], texts: Vec<String>) -> Result<Vec<Tensor>, HostError> {
        self.made(Tensor::from_strings(shape, texts.into_iter().map(Bytes::from).collect()))
    }

    fn dtype(&self, at: usize) -> Result<DType, HostError> {
        let number = self.int(at)?;
        let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
        dtype.ok_or_else(|| self.fault(format!("{number} is no element type")))
    }

    /// The places of two operands' elements under their broadcast shape.
    fn both(&self) -> Result<(Vec<usize>, Vec<(usize, usize)>), HostError> {
        let (a, b) = (self.operands[0].shape(), self.operands[1].shape());
        let rank = a.len().max(b.len());
        let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |j| shape[j]);
        let size = |i: usize| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            (x, y) => Err(self.fault(format!("sizes {x} and {y} do not broadcast"))),
        };
        let shape = (0..rank).map(size).collect::<Result<Vec<usize>, HostError>>()?;
        self.within_limit(&shape)?;
        let places = Places::broadcast(a, &shape).zip(Places::broadcast(b, &shape)).collect();
        Ok((shape, places))
    }
}

pub(super) fn cast(call: &Call) -> Result<Vec<Tensor>, HostError> {
    call.made(convert(&call.operands[0], call.dtype(0)?, call.flag(1)))
}

pub(super) fn bit_cast(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, dtype) = (&call.operands[0], call.dtype(0)?);
    if dtype.bits() != x.dtype().bits() || dtype.bits() == 0 {
        return Err(call.fault(format!("{} cannot be read as {dtype}", x.dtype())));
    }
    call.made(Tensor::new(dtype, x.shape(), x.bytes().clone()))
}

pub(super) fn texts(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let shape = call.sizes(call.ints)?;
    let count: usize = shape.iter().product();
    let (mut rest, mut strings) = (call.operands[0].bytes().clone(), Vec::new());
    while !rest.is_empty() {
        let cut = || call.fault("the bytes end inside of a text");
        let (length, text) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&length| length <= text.len());
        let end = 8 + length.ok_or_else(cut)?;
        strings.push(rest.slice(8..end));
        rest = rest.slice(end..);
    }
    if strings.len() != count {
        return Err(call.fault(format!("{} texts for a shape of {count}", strings.len())));
    }
    call.made(Tensor::from_strings(&shape, strings))
}

pub(super) fn string_concat(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (a, b) = (call.texts(0)?, call.texts(1)?);
    let (shape, places) = call.both()?;
    call.strings_of(&shape, places.into_iter().map(|(i, j)| format!("{}{}", a[i], b[j])).collect())
}

pub(super) fn string_equal(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (a, b) = (call.texts(0)?, call.texts(1)?);
    let (shape, places) = call.both()?;
    let equal = places.into_iter().map(|(i, j)| u64::from(a[i] == b[j])).collect();
    call.made(Tensor::from_numbers(DType::Bool, &shape, &Numbers::Uint(equal)))
}

/// At most `most` cuts at the delimiter, or (where it is empty) at runs of white space; what follows the last cut is one part.
fn split<'t>(text: &'t str, delimiter: &str, most: usize) -> Vec<&'t str> {
    if !delimiter.is_empty() {
        return text.splitn(most.saturating_add(1), delimiter).collect();
    }
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        match rest.split_once(char::is_whitespace).filter(|_| parts.len() < most) {
            Some((part, after)) => {
                parts.push(part);
                rest = after.trim_start();
            }
            None => {
                parts.push(rest);
                break;
            }
        }
    }
    parts
}

pub(super) fn string_split(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (texts, delimiter) = (call.texts(0)?, call.texts(1)?);
    let delimiter = call.only(&delimiter, "the delimiter")?;
    let most = usize::try_from(call.int(0)?).unwrap_or(usize::MAX);
    let parts: Vec<Vec<&str>> = texts.iter().map(|text| split(text, delimiter, most)).collect();
    let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
    let shape = [call.operands[0].shape(), &[longest]].concat();
    call.within_limit(&shape)?;
    let all = parts.iter().flat_map(|parts| (0..longest).map(|i| parts.get(i).map_or("", |part| part).to_owned()));
    let mut results = call.strings_of(&shape, all.collect())?;
    let counts = parts.iter().map(|parts| parts.len() as i64).collect();
    results.push(call.integer_tensor(call.operands[0].shape(), counts)?);
    Ok(results)
}

pub(super) fn regex_full_match(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (texts, pattern) = (call.texts(0)?, call.texts(1)?);
    let pattern = call.only(&pattern, "the pattern")?;
    let regex = Regex::new(&format!("\\A(?:{pattern})\\z")).map_err(|error| call.fault(error.to_string()))?;
    let matches = texts.iter().map(|text| u64::from(regex.is_match(text))).collect();
    call.made(Tensor::from_numbers(DType::Bool, call.operands[0].shape(), &Numbers::Uint(matches)))
}

/// Texts along the last axis that are no stop words, in another case; a single empty text if none is left.
pub(super) fn string_normalize(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (texts, stops) = (call.texts(0)?, call.texts(1)?);
    let sensitive = call.flag(1);
    let key = |text: &str| if sensitive { text.to_owned() } else { text.to_lowercase() };
    let stops: FxHashSet<String> = stops.into_iter().map(key).collect();
    let changed = |text: &&str| match call.int(0) {
        Ok(1) => text.to_lowercase(),
        Ok(2) => text.to_uppercase(),
        _ => (*text).to_owned(),
    };
    let mut kept: Vec<String> = texts.iter().filter(|text| !stops.contains(&key(text))).map(changed).collect();
    if kept.is_empty() {
        kept.push(String::new());
    }
    match call.operands[0].shape() {
        [_] => call.strings_of(&[kept.len()], kept),
        [1, _] => call.strings_of(&[1, kept.len()], kept),
        shape => Err(call.fault(format!("texts of shape {shape:?} instead of [n] or [1, n]"))),
    }
}

/// Elements that are equal have equal keys.
fn keys(call: &Call, operand: usize) -> Result<Vec<Bytes>, HostError> {
    let tensor = &call.operands[operand];
    if let Some(strings) = tensor.strings() {
        return Ok(strings.to_vec());
    }
    let numbers = tensor.numbers().map_err(|error| call.tensor_error(error))?;
    let key = |bits: u64| Bytes::copy_from_slice(&bits.to_le_bytes());
    Ok(match numbers {
        // All NaN are one, and so are both zeros.
        Numbers::Float(v) => v.iter().map(|&x| key(if x.is_nan() { f64::NAN } else { x + 0.0 }.to_bits())).collect(),
        Numbers::Int(v) => v.iter().map(|&x| key(x as u64)).collect(),
        Numbers::Uint(v) => v.iter().map(|&x| key(x)).collect(),
    })
}

pub(super) fn label_encode(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, from) = (keys(call, 0)?, keys(call, 1)?);
    let values = &call.operands[2];
    if values.count() != from.len() || call.operands[3].count() != 1 || call.operands[3].dtype() != values.dtype() {
        return Err(call.fault(format!("{} values for {} keys", values.count(), from.len())));
    }
    let table: FxHashMap<&Bytes, usize> = from.iter().enumerate().map(|(place, key)| (key, place)).rev().collect();
    let both = crate::arrange::concat(
        0,
        &[
            &values.reshaped(&[from.len()]).map_err(|error| call.tensor_error(error))?,
            &call.operands[3].reshaped(&[1]).map_err(|error| call.tensor_error(error))?,
        ],
    );
    let both = both.map_err(|error| call.tensor_error(error))?;
    let places = x.iter().map(|key| table.get(key).copied().unwrap_or(from.len()));
    call.made(both.rearranged(call.operands[0].shape(), places))
}

/// How often n-grams of a pool occur in each row.
struct Grams {
    /// Result columns of n-grams.
    columns: FxHashMap<Vec<Bytes>, usize>,
    width: usize,
}

impl Grams {
    /// The pool lists all n-grams of one element, then of two …; `ints` gives where each length starts, then each n-gram's column.
    fn of(call: &Call) -> Result<Grams, HostError> {
        let pool = keys(call, 1)?;
        let wrong = || call.fault("the n-grams of the pool do not fit");
        let lengths = usize::try_from(call.int(4)?).map_err(|_| wrong())?;
        let starts = call.ints.get(5..).and_then(|rest| rest.get(..lengths)).ok_or_else(wrong)?;
        let columns = &call.ints[5 + lengths..];
        let widest = columns.iter().copied().max().unwrap_or(-1);
        let width = usize::try_from(widest.saturating_add(1)).map_err(|_| wrong())?;
        let mut grams = Grams { columns: FxHashMap::default(), width };
        let mut next = columns.iter();
        for (at, &start) in starts.iter().enumerate() {
            let end = starts.get(at + 1).copied().unwrap_or(pool.len() as i64);
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let part = range.and_then(|(start, end)| pool.get(start..end)).ok_or_else(wrong)?;
            for gram in part.chunks_exact(at + 1) {
                let column = next.next().and_then(|&column| usize::try_from(column).ok()).ok_or_else(wrong)?;
                grams.columns.insert(gram.to_vec(), column);
            }
        }
        Ok(grams)
    }

    /// Adds the n-grams of a row to the counts; elements may lie up to `skip + 1` apart.
    fn count(&self, row: &[Bytes], lengths: std::ops::RangeInclusive<usize>, skip: usize, counts: &mut [f64]) {
        for length in lengths {
            // Single elements lie no distance apart.
            for step in 1..=if length == 1 { 1 } else { skip + 1 } {
                let reach = (length - 1).saturating_mul(step);
                for start in 0..row.len().saturating_sub(reach) {
                    let gram: Vec<Bytes> = row[start..=start + reach].iter().step_by(step).cloned().collect();
                    if let Some(&column) = self.columns.get(&gram) {
                        counts[column] += 1.0;
                    }
                }
            }
        }
    }
}

pub(super) fn tf_idf(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let grams = Grams::of(call)?;
    let x = keys(call, 0)?;
    let at = |place: usize| usize::try_from(call.int(place)?).map_err(|_| call.fault("a length is negative"));
    // No n-gram and no distance is longer than the row.
    let (least, most, skip) = (at(1)?.max(1), at(2)?.min(x.len()), at(3)?.min(x.len()));
    let (rows, shape) = match call.operands[0].shape() {
        [] | [_] => (1, vec![grams.width]),
        &[rows, _] => (rows, vec![rows, grams.width]),
        shape => return Err(call.fault(format!("elements of shape {shape:?} instead of [n] or [rows, n]"))),
    };
    call.within_limit(&shape)?;
    let mut counts = vec![0.0; rows * grams.width];
    let length = x.len().checked_div(rows).unwrap_or(0);
    for row in 0..rows {
        let counts = &mut counts[row * grams.width..][..grams.width];
        grams.count(&x[row * length..][..length], least..=most, skip, counts);
        for (count, i) in counts.iter_mut().zip(0..) {
            let weight = call.reals.get(i).copied().unwrap_or(1.0);
            *count = match call.int(0)? {
                0 => *count,
                1 if *count > 0.0 => weight,
                1 => 0.0,
                _ => *count * weight,
            };
        }
    }
    call.made(Tensor::from_numbers(DType::F32, &shape, &Numbers::Float(counts)))
}
