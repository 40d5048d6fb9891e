//! Host functions on text that cut it into tokens, and that hash elements.

use regex::Regex;

use super::{Call, HostError};
use crate::{DType, Numbers, Tensor};

/// Texts along a new last axis: the tokens of each, between markers if so, then padding.
pub(super) fn tokenize(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (texts, expressions, pad) = (call.texts(0)?, call.texts(1)?, call.texts(2)?);
    let pad = call.only(&pad, "the padding")?;
    let (separates, marks, least) = (call.flag(0), call.flag(1), call.int(2)?);
    let by_character = if separates { expressions == [""] } else { expressions == ["."] };
    let compiled = |text: &&str| Regex::new(text).map_err(|error| call.fault(format!("`{text}`: {error}")));
    let expressions = if by_character {
        Vec::new()
    } else {
        expressions.iter().map(compiled).collect::<Result<Vec<Regex>, HostError>>()?
    };
    let long = |token: &&str| !token.is_empty() && token.chars().count() as i64 >= least;
    let rows: Vec<Vec<&str>> = texts
        .iter()
        .map(|text| match expressions.split_first() {
            _ if by_character => text.split_inclusive(|_| true).filter(long).collect(),
            Some((only, [])) if !separates => only.find_iter(text).map(|found| found.as_str()).filter(long).collect(),
            _ => expressions.iter().fold(vec![*text], |parts, at| cut(parts, at, long)),
        })
        .collect();
    let most = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = if marks { most + 2 } else { most };
    let shape: Vec<usize> = call.operands[0].shape().iter().copied().chain([width]).collect();
    call.within_limit(&shape)?;
    let mut all = Vec::with_capacity(rows.len().saturating_mul(width));
    for row in rows {
        let length = all.len() + width;
        if marks {
            all.push("\u{2}".to_owned());
        }
        all.extend(row.into_iter().map(str::to_owned));
        if marks {
            all.push("\u{3}".to_owned());
        }
        all.resize(length, pad.to_owned());
    }
    call.strings_of(&shape, all)
}

/// What a separator leaves of parts of a text, as far as it is long enough.
fn cut<'a>(parts: Vec<&'a str>, separator: &Regex, long: impl Fn(&&str) -> bool) -> Vec<&'a str> {
    let mut left = Vec::with_capacity(parts.len());
    for part in parts {
        left.extend(separator.split(part).filter(&long));
    }
    left
}

/// The MurmurHash3 (x86, 32 bits) of the bytes of each element.
pub(super) fn murmur_hash3(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, positive, seed) = (&call.operands[0], call.flag(0), call.int(1)? as u32);
    let hashes: Vec<u64> = match x.strings() {
        Some(texts) => texts.iter().map(|text| hash(text, seed).into()).collect(),
        None if x.dtype().bits() % 8 != 0 => return Err(call.fault(format!("{} has no whole bytes", x.dtype()))),
        None => x.bytes().chunks_exact(x.dtype().bits() / 8).map(|bytes| hash(bytes, seed).into()).collect(),
    };
    let (dtype, numbers) = match positive {
        true => (DType::U32, Numbers::Uint(hashes)),
        false => (DType::I32, Numbers::Int(hashes.iter().map(|&hash| i64::from(hash as u32 as i32)).collect())),
    };
    call.made(Tensor::from_numbers(dtype, x.shape(), &numbers))
}

/// Austin Appleby's MurmurHash3_x86_32.
fn hash(bytes: &[u8], seed: u32) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut h = words.iter().fold(seed, |h, word| {
        (h ^ mix(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let tail = rest.iter().rev().fold(0u32, |tail, &byte| tail << 8 | u32::from(byte));
    h ^= mix(tail) ^ bytes.len() as u32;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}
