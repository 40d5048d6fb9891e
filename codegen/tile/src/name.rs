//! Names in text forms: plain when they are identifiers, quoted with escapes otherwise; and splitting text outside quotes
//! and brackets.

use std::fmt;

/// A name, displayed so that [`Name::read`] gives it back.
pub(crate) struct Name<'a>(pub &'a str);

impl Name<'_> {
    /// The name that a plain or quoted text stands for.
    ///
    /// # Errors
    /// If it is neither an identifier nor a well-formed quoted text.
    pub fn read(text: &str) -> Result<String, String> {
        if is_identifier(text) {
            return Ok(text.to_owned());
        }
        let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let inner = inner.ok_or_else(|| format!("expected a name, found `{}`", shortened(text)))?;
        let (mut name, mut chars) = (String::with_capacity(inner.len()), inner.chars());
        while let Some(c) = chars.next() {
            name.push(match c {
                '\\' => escaped(&mut chars).ok_or_else(|| format!("a wrong escape in {}", shortened(text)))?,
                '"' => return Err(format!("a quote inside {}", shortened(text))),
                c => c,
            });
        }
        Ok(name)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_identifier(self.0) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// The character after a backslash.
fn escaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    match chars.next()? {
        c @ ('"' | '\\') => Some(c),
        'u' => {
            let digits: String = chars.by_ref().take_while(|&c| c != '}').collect();
            char::from_u32(u32::from_str_radix(digits.strip_prefix('{')?, 16).ok()?)
        }
        _ => None,
    }
}

/// Whether a name can stand without quotes.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// The beginning of a text, for messages.
pub(crate) fn shortened(text: &str) -> String {
    const LENGTH: usize = 60;
    match text.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The parts of `text` between `separator`s that stand outside quotes, backquotes and brackets, untrimmed.
pub(crate) fn split_top(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for (at, c) in top_level(text) {
        if c == separator {
            parts.push(&text[from..at]);
            from = at + c.len_utf8();
        }
    }
    parts.push(&text[from..]);
    parts
}

/// The characters of `text` outside quotes, backquotes and brackets, with positions; brackets themselves are not among them.
pub(crate) fn top_level(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut depth, mut quote, mut escape) = (0usize, None, false);
    text.char_indices().filter(move |&(_, c)| {
        if let Some(end) = quote {
            if escape {
                escape = false;
            } else if c == '\\' && end == '"' {
                escape = true;
            } else if c == end {
                quote = None;
            }
            return false;
        }
        match c {
            '"' | '`' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_round_trip(name in ".*") {
            prop_assert_eq!(Name::read(&Name(&name).to_string()), Ok(name));
        }
    }

    #[test]
    fn splitting_respects_quotes_and_brackets() {
        assert_eq!(split_top(r#"a, "b, \",", f(c, d), `e,`"#, ','), ["a", r#" "b, \",""#, " f(c, d)", " `e,`"]);
    }
}
