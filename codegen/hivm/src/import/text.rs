//! Reading text from left to right: words, brackets, and where a fault is.

/// What is wrong, and the byte where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub message: String,
}

impl Fault {
    pub fn new(at: usize, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into() }
    }
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// What is left of a piece of the source, and where it begins there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str, at: usize) -> Cursor<'a> {
        let mut cursor = Cursor { rest: text, at };
        cursor.space();
        cursor
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> &'a str {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.at, message)
    }

    fn space(&mut self) {
        let trimmed = self.rest.trim_start();
        self.at += self.rest.len() - trimmed.len();
        self.rest = trimmed;
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
        self.at += bytes;
        self.space();
    }

    pub fn peek(&self, token: &str) -> bool {
        self.rest.starts_with(token)
    }

    /// Whether the text comes next; then it is behind the cursor.
    pub fn eat(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if found {
            self.skip(token.len());
        }
        found
    }

    pub fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.fault(format!("expected `{token}`"))) }
    }

    /// The longest start of characters that satisfy `inside`.
    fn take(&mut self, inside: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let taken = &self.rest[..end];
        self.skip(end);
        taken
    }

    /// A name: letters, digits, `_`, `.`, `$`, `-`; may be empty.
    pub fn word(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$'))
    }

    /// The name of a value, `%` included.
    pub fn value(&mut self) -> Result<&'a str> {
        let start = self.rest;
        if !self.peek("%") {
            return Err(self.fault("expected a value (`%name`)"));
        }
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | '-' | '#');
        let end = start[1..].find(|c| !inside(c)).map_or(start.len(), |end| end + 1);
        self.skip(end);
        Ok(&start[..end])
    }

    pub fn integer(&mut self) -> Result<i64> {
        let before = *self;
        let negative = self.eat("-");
        let digits = self.take(|c| c.is_ascii_digit());
        let value = digits.parse::<i64>().map_err(|_| before.fault("expected an integer"))?;
        Ok(if negative { -value } else { value })
    }

    /// What stands between the bracket that comes next and its counterpart, as a cursor.
    pub fn bracketed(&mut self, open: char) -> Result<Cursor<'a>> {
        if !self.rest.starts_with(open) {
            return Err(self.fault(format!("expected `{open}`")));
        }
        let close = closing(self.rest).ok_or_else(|| self.fault(format!("`{open}` is not closed")))?;
        let inside = Cursor::new(&self.rest[1..close], self.at + 1);
        self.skip(close + 1);
        Ok(inside)
    }

    /// The parts between commas outside brackets.
    pub fn parts(&self) -> Vec<Cursor<'a>> {
        let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
        let mut before = ' ';
        for (at, c) in self.rest.char_indices() {
            match c {
                '(' | '[' | '{' | '<' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                '>' if before != '-' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(Cursor::new(&self.rest[start..at], self.at + start));
                    start = at + 1;
                }
                _ => {}
            }
            before = c;
        }
        if !self.rest[start..].trim().is_empty() {
            parts.push(Cursor::new(&self.rest[start..], self.at + start));
        }
        parts
    }
}

/// Where the bracket at the start of the text is closed. `->` is no bracket.
fn closing(text: &str) -> Option<usize> {
    let (mut open, mut quoted, mut before) = (Vec::new(), false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            '<' => open.push('>'),
            '>' if before == '-' => {}
            ')' | ']' | '}' | '>' => {
                if open.pop() != Some(c) {
                    return None;
                }
                if open.is_empty() {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_nest() {
        let mut cursor = Cursor::new("[<A<b>>, (x -> y)] z", 10);
        let inside = cursor.bracketed('[').unwrap();
        assert_eq!(inside.parts().iter().map(Cursor::rest).collect::<Vec<_>>(), ["<A<b>>", "(x -> y)"]);
        assert_eq!(cursor.rest(), "z");
        assert_eq!(cursor.at(), 29);
        assert!(Cursor::new("[(]", 0).bracketed('[').is_err());
        assert!(Cursor::new("[(", 0).bracketed('[').is_err());
    }

    #[test]
    fn names_and_numbers() {
        let mut cursor = Cursor::new("%c-1_i64 = -12", 0);
        assert_eq!(cursor.value().unwrap(), "%c-1_i64");
        cursor.expect("=").unwrap();
        assert_eq!(cursor.integer().unwrap(), -12);
        assert!(cursor.integer().is_err());
        assert!(cursor.is_empty());
    }
}
