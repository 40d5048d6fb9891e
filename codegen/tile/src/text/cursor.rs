//! Reading one line from left to right.

use std::str::FromStr;

use rustc_hash::FxHashMap;

use crate::name::{Name, shortened};

/// What is wrong, and the part of the source it is about.
#[derive(Debug)]
pub(super) struct Fault<'a> {
    pub at: &'a str,
    pub message: String,
}

impl<'a> Fault<'a> {
    pub fn new(at: &'a str, message: impl Into<String>) -> Fault<'a> {
        Fault { at: at.trim_start(), message: message.into() }
    }
}

/// What is left of a line.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { rest: text.trim_start() }
    }

    pub fn rest(&self) -> &'a str {
        self.rest
    }

    pub fn fault(&self, message: impl Into<String>) -> Fault<'a> {
        Fault::new(self.rest, message)
    }

    pub fn peek(&self, c: char) -> bool {
        self.rest.starts_with(c)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }

    /// Whether the text comes next; then it is behind the cursor.
    pub fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.skip(token.len());
        }
        found
    }

    pub fn expect(&mut self, token: &str) -> Result<(), Fault<'a>> {
        if self.eat(token) { Ok(()) } else { Err(self.fault(format!("expected `{token}`"))) }
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Fault<'a>> {
        if self.rest.trim().is_empty() { Ok(()) } else { Err(self.fault("unexpected text")) }
    }

    /// A plain or quoted name.
    pub fn name(&mut self) -> Result<String, Fault<'a>> {
        let length = if self.peek('"') {
            let mut escape = false;
            let close = self.rest.char_indices().skip(1).find(|&(_, c)| {
                let closes = c == '"' && !escape;
                escape = c == '\\' && !escape;
                closes
            });
            close.map(|(at, _)| at + 1).ok_or_else(|| self.fault("expected a closing quote"))?
        } else {
            self.word_length()
        };
        let name = Name::read(&self.rest[..length]).map_err(|message| self.fault(message))?;
        self.skip(length);
        Ok(name)
    }

    fn word_length(&self) -> usize {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len())
    }

    /// A name in `scope`, or `#index`.
    pub fn reference(&mut self, what: &str, scope: &FxHashMap<String, u32>) -> Result<u32, Fault<'a>> {
        if self.eat("#") {
            return self.parsed("an index");
        }
        let before = *self;
        let name = self.name()?;
        let found = scope.get(&name).copied();
        found.ok_or_else(|| before.fault(format!("there is no {what} `{}`", shortened(&name))))
    }

    /// The text up to the next blank or bracket, as something else.
    pub fn parsed<T: FromStr>(&mut self, what: &str) -> Result<T, Fault<'a>> {
        let end = self.rest.find(|c: char| c.is_whitespace() || "[](){},:#".contains(c)).unwrap_or(self.rest.len());
        let value = self.rest[..end].parse().map_err(|_| self.fault(format!("expected {what}")))?;
        self.skip(end);
        Ok(value)
    }

    /// The text up to the next blank.
    pub fn word(&mut self) -> &'a str {
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.skip(end);
        word
    }

    /// What stands between the bracket that comes next and its counterpart.
    pub fn bracketed(&mut self, open: char) -> Result<&'a str, Fault<'a>> {
        if !self.peek(open) {
            return Err(self.fault(format!("expected `{open}`")));
        }
        let (mut depth, mut quote, mut escape) = (0usize, None, false);
        for (at, c) in self.rest.char_indices() {
            if let Some(end) = quote {
                if escape {
                    escape = false;
                } else if c == '\\' && end == '"' {
                    escape = true;
                } else if c == end {
                    quote = None;
                }
                continue;
            }
            match c {
                '"' | '`' => quote = Some(c),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => {
                    depth -= 1;
                    if depth == 0 {
                        let inside = &self.rest[1..at];
                        self.skip(at + 1);
                        return Ok(inside);
                    }
                }
                _ => {}
            }
        }
        Err(self.fault(format!("`{open}` is not closed in this line")))
    }
}
