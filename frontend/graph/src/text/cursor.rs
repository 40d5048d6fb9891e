//! A position in a text, and the tokens that can be read there.

use thiserror::Error;

/// Why a text is not a graph.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// An error here.
    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.at, message)
    }

    pub(super) fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        let before = &self.text[..at];
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        ParseError { line, column, message: message.into() }
    }

    /// Skips blanks within a line.
    pub(super) fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    }

    /// Skips blanks, empty lines and lines that are comments.
    pub(super) fn blank(&mut self) {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.line();
        }
    }

    /// The rest of the line.
    pub(super) fn line(&mut self) -> &'a str {
        let rest = self.rest();
        let line = rest.split('\n').next().unwrap_or(rest);
        self.at += line.len();
        line
    }

    /// Takes `token` if it stands here.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<(), ParseError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`{}", self.found()))) }
    }

    /// What stands here, for an error.
    fn found(&self) -> String {
        let word: String = self.rest().chars().take_while(|c| !c.is_whitespace()).take(20).collect();
        if word.is_empty() { String::new() } else { format!(", found `{word}`") }
    }

    /// A word of letters, digits, `_` and `.`; may be empty.
    pub(super) fn word(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A word that must be there.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str, ParseError> {
        let word = self.word();
        if word.is_empty() { Err(self.error(format!("expected {what}{}", self.found()))) } else { Ok(word) }
    }

    /// A quoted string, as bytes.
    pub(super) fn quoted(&mut self) -> Result<Vec<u8>, ParseError> {
        self.expect("\"")?;
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(['"', '\\', '\n']).unwrap_or(rest.len());
            bytes.extend_from_slice(&rest.as_bytes()[..plain]);
            self.at += plain;
            match rest[plain..].chars().next() {
                Some('"') => {
                    self.at += 1;
                    return Ok(bytes);
                }
                Some('\\') => self.escape(&mut bytes)?,
                _ => return Err(self.error("the string does not end")),
            }
        }
    }

    /// A quoted string that is UTF-8 text.
    pub(super) fn quoted_text(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        String::from_utf8(self.quoted()?).map_err(|_| self.error_at(start, "the string is not UTF-8 text"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), ParseError> {
        let start = *self;
        let bad = || start.error("there is no such escape in strings");
        self.at += 1;
        let kind = self.rest().chars().next().ok_or_else(bad)?;
        self.at += kind.len_utf8();
        match kind {
            '"' | '\\' => bytes.push(kind as u8),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'x' => {
                let digits = self.rest().get(..2).ok_or_else(bad)?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
                self.at += 2;
            }
            'u' => {
                let digits = self.rest().strip_prefix('{').and_then(|rest| rest.split('}').next()).ok_or_else(bad)?;
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).ok_or_else(bad)?;
                self.at += 1;
                self.at += digits.len();
                self.expect("}")?;
                bytes.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// The text up to a `,`, a closing bracket or the end of the line, where no bracket or backquote encloses it.
    pub(super) fn atom(&mut self) -> Result<&'a str, ParseError> {
        self.space();
        let (rest, mut depth, mut named) = (self.rest(), 0usize, false);
        for (i, c) in rest.char_indices() {
            match c {
                '\n' => break,
                '`' => named = !named,
                _ if named => {}
                '(' | '[' => depth += 1,
                ')' | ']' | '}' | ',' if depth == 0 => {
                    self.at += i;
                    return Ok(rest[..i].trim_end());
                }
                ')' | ']' => depth -= 1,
                _ => {}
            }
        }
        let line = rest.split('\n').next().unwrap_or(rest);
        if depth > 0 || named {
            return Err(self.error("a bracket or backquote is not closed in this line"));
        }
        self.at += line.len();
        Ok(line.trim_end())
    }
}
