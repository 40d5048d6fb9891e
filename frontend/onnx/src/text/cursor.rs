//! A place in the text, and what can stand there: punctuation, names, literals. Counts what the result takes.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::Limits;

/// Graphs and types may nest this deep.
const MAX_DEPTH: usize = 30;

/// Where a text is no model, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: TextFault,
}

/// The ways in which a text is no model.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TextFault {
    /// Something else stands there.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What may stand there.
        expected: String,
        /// What does.
        found: String,
    },
    /// A literal has no value.
    #[error("`{literal}` is not {expected}")]
    Literal {
        /// The literal.
        literal: String,
        /// What it should be.
        expected: String,
    },
    /// A string is not UTF-8 where it must be.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// Graphs or types are nested too deeply.
    #[error("graphs and types are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The model would take too much memory.
    #[error("the model would take more than {limit} bytes of memory; raise the limit if the file is trusted")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.fault)
    }
}

impl std::error::Error for TextError {}

pub(super) type Parsed<T> = Result<T, TextError>;

/// A number or a string.
pub(super) enum Literal<'a> {
    Int(&'a str),
    Float(&'a str),
    String(Bytes),
}

/// What is left of a text, and of the memory that its model may take.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    taken: u64,
    limit: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Cursor<'a> {
        let at = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Cursor { bytes, at, depth: 0, taken: 0, limit: limits.max_read_bytes() }
    }

    /// Passes over white space and comments.
    fn skip(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'#' => {
                    let rest = self.bytes.get(self.at..).unwrap_or_default();
                    self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    /// The next byte that is no white space.
    pub fn peek(&mut self) -> Option<u8> {
        self.skip();
        self.bytes.get(self.at).copied()
    }

    /// Passes over one byte if it is next.
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Passes over some text that must be next.
    pub fn token(&mut self, text: &str) -> Parsed<()> {
        self.skip();
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text.as_bytes())) {
            return Err(self.expected(&format!("`{text}`")));
        }
        self.at += text.len();
        Ok(())
    }

    /// The identifier that is next, if there is one.
    pub fn peek_word(&mut self) -> Option<&'a str> {
        self.skip();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.first().is_none_or(u8::is_ascii_digit) {
            return None;
        }
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        std::str::from_utf8(rest.get(..length)?).ok().filter(|word| !word.is_empty())
    }

    /// Passes over the identifier that is next, if there is one.
    pub fn word(&mut self) -> Option<&'a str> {
        let word = self.peek_word();
        self.at += word.map_or(0, str::len);
        word
    }

    /// An identifier that must be next.
    pub fn required_word(&mut self, what: &str) -> Parsed<&'a str> {
        self.word().ok_or_else(|| self.expected(what))
    }

    /// An identifier or a string.
    pub fn name(&mut self) -> Parsed<String> {
        self.name_opt()?.ok_or_else(|| self.expected("a name"))
    }

    /// An identifier or a string, if one is next.
    pub fn name_opt(&mut self) -> Parsed<Option<String>> {
        if self.peek() == Some(b'"') {
            return self.string().map(Some);
        }
        match self.word() {
            Some(word) => {
                self.take(size_of::<String>() + word.len())?;
                Ok(Some(word.to_owned()))
            }
            None => Ok(None),
        }
    }

    /// A string in quotes that is UTF-8.
    pub fn string(&mut self) -> Parsed<String> {
        let at = self.place();
        String::from_utf8(self.quoted()?).map_err(|_| self.fail(at, TextFault::NotUtf8))
    }

    /// The bytes between quotes. A backslash stands before a character that is meant as it is.
    fn quoted(&mut self) -> Parsed<Vec<u8>> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a string in quotes"));
        }
        let start = self.at;
        let rest = self.bytes.get(start + 1..).unwrap_or_default();
        let mut text = Vec::new();
        let mut bytes = rest.iter();
        loop {
            let byte = match bytes.next() {
                Some(b'"') => break,
                Some(b'\\') => bytes.next(),
                byte => byte,
            };
            match byte {
                Some(&byte) => text.push(byte),
                None => {
                    let (expected, found) = ("a string with a closing quote".into(), "the end of the text".into());
                    return Err(self.fail(start, TextFault::Expected { expected, found }));
                }
            }
        }
        self.at = start + 1 + (rest.len() - bytes.as_slice().len());
        self.take(size_of::<String>() + text.len())?;
        Ok(text)
    }

    /// A number or a string.
    pub fn literal(&mut self) -> Parsed<Literal<'a>> {
        if self.peek() == Some(b'"') {
            return Ok(Literal::String(self.quoted()?.into()));
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let sign = usize::from(rest.first() == Some(&b'-'));
        let digits = |from: usize| rest.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
        let letters = rest.iter().skip(sign).take_while(|b| b.is_ascii_alphabetic()).count();
        let mut end = sign + digits(sign);
        let mut is_float = false;
        if end == sign {
            // `inf` and `nan`; whether it is one of them, its value tells.
            (end, is_float) = (sign + letters, true);
        } else {
            if rest.get(end) == Some(&b'.') {
                (end, is_float) = (end + 1 + digits(end + 1), true);
            }
            if matches!(rest.get(end), Some(b'e' | b'E')) {
                end += 1;
                end += usize::from(matches!(rest.get(end), Some(b'+' | b'-')));
                (end, is_float) = (end + digits(end), true);
            }
        }
        let text = rest.get(..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        if text.len() == sign {
            return Err(self.expected("a number or a string in quotes"));
        }
        self.at += end;
        Ok(if is_float { Literal::Float(text) } else { Literal::Int(text) })
    }

    /// An integer.
    pub fn int(&mut self) -> Parsed<i64> {
        self.number("a 64-bit integer", |text, is_float| text.parse().ok().filter(|_| !is_float))
    }

    /// A number that `read` makes of a literal's text and of whether that is a float; `what` says which literals it takes.
    pub fn number<T>(&mut self, what: &str, read: impl Fn(&str, bool) -> Option<T>) -> Parsed<T> {
        let start = self.place();
        let value = match self.literal()? {
            Literal::Int(text) => read(text, false),
            Literal::Float(text) => read(text, true),
            Literal::String(_) => None,
        };
        value.ok_or_else(|| self.not_a(start, what))
    }

    /// What follows, one or more times, with commas between.
    pub fn several<T>(&mut self, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.eat(b',') {
            all.push(one(self)?);
        }
        Ok(all)
    }

    /// What follows, any number of times, with commas between, up to a closing character, the opening one being passed.
    pub fn until<T>(&mut self, close: u8, one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        if self.eat(close) {
            return Ok(Vec::new());
        }
        let all = self.several(one)?;
        if !self.eat(close) {
            return Err(self.expected(&format!("`,` or `{}`", char::from(close))));
        }
        Ok(all)
    }

    /// Something that may hold others of its kind.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.fail(self.at, TextFault::TooDeep));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Counts bytes of the result.
    pub fn take(&mut self, bytes: usize) -> Parsed<()> {
        self.taken = self.taken.saturating_add(bytes as u64);
        if self.taken > self.limit {
            return Err(self.fail(self.at, TextFault::TooLarge { limit: self.limit }));
        }
        Ok(())
    }

    /// The offset of what is next.
    pub fn place(&mut self) -> usize {
        self.skip();
        self.at
    }

    /// Reads again from an offset that [`Cursor::place`] gave.
    pub fn back_to(&mut self, place: usize) {
        self.at = place;
    }

    /// Something else than `what` is next.
    pub fn expected(&mut self, what: &str) -> TextError {
        let found = match (self.peek(), self.peek_word()) {
            (None, _) => "the end of the text".to_owned(),
            (Some(b'"'), _) => "a string".to_owned(),
            (_, Some(word)) => format!("`{}`", word.chars().take(40).collect::<String>()),
            _ => {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let rest = String::from_utf8_lossy(rest.get(..8).unwrap_or(rest));
                format!("`{}`", rest.chars().take(1).flat_map(char::escape_debug).collect::<String>())
            }
        };
        self.fail(self.at, TextFault::Expected { expected: what.to_owned(), found })
    }

    /// The literal from `start` up to here is not `what`.
    pub fn not_a(&self, start: usize, what: &str) -> TextError {
        let literal = String::from_utf8_lossy(self.bytes.get(start..self.at).unwrap_or_default());
        // A type may have been passed together with the `=` before its data.
        let literal = literal.trim_end_matches(['=', ' ']).chars().take(40).flat_map(char::escape_debug).collect();
        self.fail(start, TextFault::Literal { literal, expected: what.to_owned() })
    }

    fn fail(&self, at: usize, fault: TextFault) -> TextError {
        let before = self.bytes.get(..at).unwrap_or_default();
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
        TextError { line, column, fault }
    }
}
