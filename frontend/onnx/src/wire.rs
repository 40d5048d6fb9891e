//! A walk over the wire form of a file before it is decoded.
//!
//! Decoding allocates as it goes and says little about what went wrong. This walk allocates nothing, visits every message, and finds
//! the first thing that is wrong together with where it is (`graph.node[3].attribute[0].t`) and at which byte: a length that
//! passes the end, a wrong wire type, text that is not UTF-8, nesting without end, or more messages than the user allows memory
//! for (two bytes of a hostile file can stand for a message of four hundred). What it accepts decodes.

use std::fmt;

use thiserror::Error;

/// Messages may nest this deep: about thirty graphs inside one another.
const MAX_DEPTH: usize = 90;
/// No message of the schema has more fields.
const MAX_FIELDS: usize = 20;

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    /// One integer.
    Varint,
    /// Integers, packed or one by one.
    Varints,
    /// One 32-bit number.
    Fixed32,
    /// 32-bit numbers, packed or one by one.
    Fixed32s,
    /// 64-bit numbers, packed or one by one.
    Fixed64s,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Blob,
    /// A message that occurs once.
    Message(&'static Layout),
    /// Messages of which there are several.
    Messages(&'static Layout),
}

/// The fields of a message.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Bytes that one decoded message takes.
    pub size: usize,
    /// Number, name and form of each field.
    pub fields: &'static [(u32, &'static str, Wire)],
}

/// What is wrong with the wire form of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Byte of the file at which it was noticed.
    pub offset: usize,
    /// The field, e.g. `graph.node[3].attribute[0].t`; empty at the top of the file.
    pub path: String,
    /// What is wrong.
    pub fault: WireFault,
}

/// The ways in which a wire form is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WireFault {
    /// The file ends inside a field.
    #[error("the file ends here: {needed} more bytes are declared, {left} are left")]
    Truncated {
        /// Bytes that the field declares.
        needed: u64,
        /// Bytes that the file still has.
        left: usize,
    },
    /// A field is longer than the message it is part of.
    #[error("the field declares {needed} bytes, but the message around it has {left} left")]
    Overrun {
        /// Bytes that the field declares.
        needed: u64,
        /// Bytes left of the message around it.
        left: usize,
    },
    /// A field number or a number is not written as protobuf does.
    #[error("this is not a protobuf field")]
    NotAField,
    /// The field is written in another form than its type has.
    #[error("the field has wire type {found}, which is not that of its type")]
    WireType {
        /// Wire type found.
        found: u8,
    },
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// Messages are nested too deeply.
    #[error("messages are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The decoded messages would take too much memory.
    #[error(
        "its messages would take more than {limit} bytes of memory; raise the limit on structure if the file is trusted"
    )]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if !self.path.is_empty() {
            write!(f, " (in `{}`)", self.path)?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for WireError {}

/// Walks a file whose top is a message of the given layout; `limit` bounds the bytes that decoded messages may take.
///
/// # Errors
/// The first fault.
pub(crate) fn scan(bytes: &[u8], layout: &'static Layout, limit: u64) -> Result<(), WireError> {
    let mut walk = Walk { bytes, limit, taken: 0 };
    walk.message(layout, 0, bytes.len(), 0)
}

struct Walk<'a> {
    bytes: &'a [u8],
    limit: u64,
    taken: u64,
}

impl Walk<'_> {
    fn message(&mut self, layout: &Layout, start: usize, end: usize, depth: usize) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(fail(start, WireFault::TooDeep));
        }
        self.take(layout.size, start)?;
        let mut seen = [0usize; MAX_FIELDS];
        let mut at = start;
        while at < end {
            let key = self.varint(&mut at, end)?;
            let number =
                u32::try_from(key >> 3).ok().filter(|&n| n > 0).ok_or_else(|| fail(at, WireFault::NotAField))?;
            let wire_type = (key & 7) as u8;
            let place = layout.fields.iter().position(|field| field.0 == number);
            let Some((place, &(_, name, wire))) = place.and_then(|p| Some((p, layout.fields.get(p)?))) else {
                self.skip(wire_type, &mut at, end)?;
                continue;
            };
            let index = seen.get_mut(place).map_or(0, |n| {
                *n += 1;
                *n - 1
            });
            let label = |error: WireError| error.inside(name, matches!(wire, Wire::Messages(_)).then_some(index));
            self.field(wire, wire_type, &mut at, end, depth).map_err(label)?;
        }
        Ok(())
    }

    fn field(&mut self, wire: Wire, wire_type: u8, at: &mut usize, end: usize, depth: usize) -> Result<(), WireError> {
        let allowed: &[u8] = match wire {
            Wire::Varint => &[0],
            Wire::Varints => &[0, 2],
            Wire::Fixed32 => &[5],
            Wire::Fixed32s => &[5, 2],
            Wire::Fixed64s => &[1, 2],
            Wire::Text | Wire::Blob | Wire::Message(_) | Wire::Messages(_) => &[2],
        };
        if !allowed.contains(&wire_type) {
            return Err(fail(*at, WireFault::WireType { found: wire_type }));
        }
        let (from, to) = self.skip(wire_type, at, end)?;
        match wire {
            Wire::Message(inner) | Wire::Messages(inner) => self.message(inner, from, to, depth + 1),
            Wire::Text => {
                self.take(size_of::<String>() + (to - from), from)?;
                let text = self.bytes.get(from..to).unwrap_or_default();
                std::str::from_utf8(text).map(drop).map_err(|e| fail(from + e.valid_up_to(), WireFault::NotUtf8))
            }
            Wire::Blob => self.take(size_of::<bytes::Bytes>(), from),
            Wire::Varints if wire_type == 2 => self.varints(from, to),
            Wire::Fixed32s if wire_type == 2 && (to - from) % 4 != 0 => Err(fail(from, WireFault::NotAField)),
            Wire::Fixed64s if wire_type == 2 && (to - from) % 8 != 0 => Err(fail(from, WireFault::NotAField)),
            Wire::Varint | Wire::Varints | Wire::Fixed32 | Wire::Fixed32s | Wire::Fixed64s => Ok(()),
        }
    }

    /// Passes over a field; returns the range of what it holds.
    fn skip(&self, wire_type: u8, at: &mut usize, end: usize) -> Result<(usize, usize), WireError> {
        let length = match wire_type {
            0 => {
                let from = *at;
                self.varint(at, end)?;
                return Ok((from, *at));
            }
            1 => 8,
            2 => self.varint(at, end)?,
            5 => 4,
            found => return Err(fail(*at, WireFault::WireType { found })),
        };
        let left = end - *at;
        match usize::try_from(length).ok().filter(|&n| n <= left) {
            Some(length) => {
                let from = *at;
                *at += length;
                Ok((from, *at))
            }
            None => Err(fail(*at, self.too_long(length, *at, left))),
        }
    }

    fn too_long(&self, needed: u64, at: usize, left: usize) -> WireFault {
        let left_of_file = self.bytes.len() - at;
        if needed > left_of_file as u64 {
            WireFault::Truncated { needed, left: left_of_file }
        } else {
            WireFault::Overrun { needed, left }
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(*at).filter(|_| *at < end) else {
                return Err(fail(*at, self.too_long(1, *at, end - *at)));
            };
            *at += 1;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(fail(*at, WireFault::NotAField))
    }

    /// Packed numbers: each must be whole and at most ten bytes long.
    fn varints(&self, from: usize, to: usize) -> Result<(), WireError> {
        let mut at = from;
        while at < to {
            self.varint(&mut at, to)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize, at: usize) -> Result<(), WireError> {
        self.taken = self.taken.saturating_add(bytes as u64);
        if self.taken > self.limit {
            return Err(fail(at, WireFault::TooLarge { limit: self.limit }));
        }
        Ok(())
    }
}

fn fail(offset: usize, fault: WireFault) -> WireError {
    WireError { offset, path: String::new(), fault }
}

impl WireError {
    fn inside(mut self, name: &str, index: Option<usize>) -> WireError {
        let head = match index {
            Some(index) => format!("{name}[{index}]"),
            None => name.to_string(),
        };
        self.path = if self.path.is_empty() { head } else { format!("{head}.{}", self.path) };
        self
    }
}
