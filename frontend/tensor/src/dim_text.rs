//! The text form of symbolic integers, also reading the expressions that exporters write into `dim_param`.
//!
//! Printed: `2*batch*seq + 1`, `floordiv(a, 2)`, `mod(a, b)`, `min(a, b)`, `max(a, b)`; names that are not identifiers
//! stand in backquotes. Read as well: `a//b`, `floor(h/2 - 1/2)`, `ceil(h/2)`, `Max(a, b)`, `a % b`.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{Atom, Dim, Symbol};

/// Nested deeper than this is refused, so that hostile text cannot exhaust the stack.
const DEPTH: usize = 64;

/// Longer texts, and products with more terms or factors, are refused: expanding them would take time and memory beyond
/// what the text suggests.
const LENGTH: usize = 8192;
const TERMS: usize = 256;
const FACTORS: usize = 16;
const ATOMS: usize = 4096;

/// The magnitude of the smallest `i64`, which is no `i64`.
const MINIMUM: &str = "9223372036854775808";

/// Why a text is not an expression.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{text}` is not a size expression: {reason} at position {position}")]
pub struct ParseDimError {
    text: String,
    reason: &'static str,
    position: usize,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let identifier = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '%')
            && name.chars().skip(1).all(is_name_char);
        if identifier { f.write_str(name) } else { write!(f, "`{name}`") }
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(symbol) => symbol.fmt(f),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let poly = match self {
            Dim::Const(value) => return write!(f, "{value}"),
            Dim::Poly(poly) => poly,
        };
        for (i, term) in poly.terms.iter().enumerate() {
            match (i, term.coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            if term.coefficient.unsigned_abs() != 1 {
                write!(f, "{}*", term.coefficient.unsigned_abs())?;
            }
            for (j, factor) in term.factors.iter().enumerate() {
                write!(f, "{}{factor}", if j > 0 { "*" } else { "" })?;
            }
        }
        match poly.constant {
            0 => Ok(()),
            c if c < 0 => write!(f, " - {}", c.unsigned_abs()),
            c => write!(f, " + {c}"),
        }
    }
}

impl FromStr for Dim {
    type Err = ParseDimError;

    fn from_str(text: &str) -> Result<Dim, ParseDimError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        if text.len() > LENGTH {
            return Err(parser.error("too long"));
        }
        let value = parser.sum()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.error("unexpected text"));
        }
        Ok(value.floor())
    }
}

/// The number of terms and the largest number of factors in one.
fn extent(dim: &Dim) -> (usize, usize) {
    match dim {
        Dim::Const(_) => (1, 0),
        Dim::Poly(poly) => (poly.terms.len() + 1, poly.terms.iter().map(|term| term.factors.len()).max().unwrap_or(0)),
    }
}

/// The number of atoms at all depths; counting stops beyond `limit`.
fn atoms(dim: &Dim, limit: usize) -> usize {
    let Dim::Poly(poly) = dim else { return 0 };
    let mut count = 0;
    for factor in poly.terms.iter().flat_map(|term| &term.factors) {
        count += 1;
        if let Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) = factor {
            count += atoms(a, limit.saturating_sub(count));
            count += atoms(b, limit.saturating_sub(count));
        }
        if count > limit {
            break;
        }
    }
    count
}

/// `numerator / denominator`, for the fractions inside exporters' `floor(…)`.
struct Fraction {
    numerator: Dim,
    denominator: Dim,
}

impl Fraction {
    fn floor(self) -> Dim {
        self.numerator.floor_div(&self.denominator)
    }
}

impl From<Dim> for Fraction {
    fn from(numerator: Dim) -> Fraction {
        Fraction { numerator, denominator: Dim::ONE }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> ParseDimError {
        let mut text: String = self.text.chars().take(80).collect();
        if text.len() < self.text.len() {
            text.push('…');
        }
        ParseDimError { text, reason, position: self.at }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn sum(&mut self) -> Result<Fraction, ParseDimError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let mut value = self.product()?;
        loop {
            if self.eat("+") {
                let other = self.product()?;
                value = self.combined(value, other, |a, b| a + b)?;
            } else if self.eat("-") {
                value = if self.eat(MINIMUM) {
                    self.combined(value, Dim::Const(i64::MIN).into(), |a, b| a + b)?
                } else {
                    let other = self.product()?;
                    self.combined(value, other, |a, b| a - b)?
                };
            } else {
                self.depth -= 1;
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Fraction, ParseDimError> {
        let mut value = self.factor()?;
        loop {
            if self.eat("//") {
                let divisor = self.divisor()?;
                value = value.floor().floor_div(&divisor).into();
            } else if self.eat("/") {
                let divisor = self.divisor()?;
                value.denominator = self.multiplied(value.denominator, divisor)?;
            } else if self.eat("%") {
                let divisor = self.divisor()?;
                value = value.floor().modulo(&divisor).into();
            } else if self.eat("*") {
                let other = self.factor()?;
                value.numerator = self.multiplied(value.numerator, other.numerator)?;
                value.denominator = self.multiplied(value.denominator, other.denominator)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn multiplied(&self, a: Dim, b: Dim) -> Result<Dim, ParseDimError> {
        let (x, y) = (extent(&a), extent(&b));
        let product = (x.0 * y.0 <= TERMS && x.1 + y.1 <= FACTORS).then(|| a * b);
        product.filter(|product| atoms(product, ATOMS) <= ATOMS).ok_or_else(|| self.error("too many terms"))
    }

    fn combined(&self, a: Fraction, b: Fraction, f: impl Fn(Dim, Dim) -> Dim) -> Result<Fraction, ParseDimError> {
        if a.denominator == b.denominator {
            return Ok(Fraction { numerator: f(a.numerator, b.numerator), denominator: a.denominator });
        }
        let x = self.multiplied(a.numerator, b.denominator.clone())?;
        let y = self.multiplied(b.numerator, a.denominator.clone())?;
        Ok(Fraction { numerator: f(x, y), denominator: self.multiplied(a.denominator, b.denominator)? })
    }

    fn divisor(&mut self) -> Result<Dim, ParseDimError> {
        let divisor = self.factor()?.floor();
        if divisor.is(0) { Err(self.error("division by zero")) } else { Ok(divisor) }
    }

    fn factor(&mut self) -> Result<Fraction, ParseDimError> {
        self.space();
        if self.eat("-") {
            if self.eat(MINIMUM) {
                return Ok(Dim::Const(i64::MIN).into());
            }
            let value = self.factor()?;
            return Ok(Fraction { numerator: -value.numerator, denominator: value.denominator });
        }
        if self.eat("(") {
            let value = self.sum()?;
            return if self.eat(")") { Ok(value) } else { Err(self.error("expected `)`")) };
        }
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        let name = self.name()?;
        if !self.eat("(") {
            return Ok(Dim::symbol(&name).into());
        }
        let mut arguments = vec![self.sum()?];
        while self.eat(",") {
            arguments.push(self.sum()?);
        }
        if !self.eat(")") {
            return Err(self.error("expected `)`"));
        }
        self.call(&name, arguments)
    }

    fn number(&mut self) -> Result<Fraction, ParseDimError> {
        let digits: String = self.rest().chars().take_while(char::is_ascii_digit).collect();
        let value = digits.parse::<i64>().map_err(|_| self.error("number too large"))?;
        self.at += digits.len();
        Ok(Dim::Const(value).into())
    }

    fn name(&mut self) -> Result<String, ParseDimError> {
        if self.eat("`") {
            let end = self.rest().find('`').ok_or_else(|| self.error("expected a closing backquote"))?;
            let name = self.rest()[..end].to_owned();
            self.at += end + 1;
            return Ok(name);
        }
        let first = self.rest().chars().next().filter(|&c| c.is_ascii_alphabetic() || c == '_' || c == '%');
        let Some(first) = first else { return Err(self.error("expected a name or a number")) };
        let name: String =
            std::iter::once(first).chain(self.rest().chars().skip(1).take_while(|&c| is_name_char(c))).collect();
        self.at += name.len();
        Ok(name)
    }

    fn call(&self, name: &str, arguments: Vec<Fraction>) -> Result<Fraction, ParseDimError> {
        let mut arguments = arguments.into_iter();
        let first = arguments.next().ok_or_else(|| self.error("expected an argument"))?;
        let value = match name.to_ascii_lowercase().as_str() {
            "floor" | "int" | "trunctoint" => first.floor(),
            "ceil" | "ceiling" => first.numerator.ceil_div(&first.denominator),
            lower => {
                let fold = match lower {
                    "floordiv" => Dim::floor_div,
                    "mod" => Dim::modulo,
                    "min" => Dim::minimum,
                    "max" => Dim::maximum,
                    _ => return Err(self.error("unknown function")),
                };
                let mut value = first.floor();
                for argument in arguments.by_ref() {
                    let argument = argument.floor();
                    if argument.is(0) && matches!(lower, "floordiv" | "mod") {
                        return Err(self.error("division by zero"));
                    }
                    value = fold(&value, &argument);
                }
                value
            }
        };
        if arguments.next().is_some() { Err(self.error("too many arguments")) } else { Ok(value.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_expressions_are_read() {
        let read = |text: &str, h: i64| text.parse::<Dim>().unwrap().eval(&|_| Some(h)).unwrap();
        assert_eq!(read("floor(height/2 - 1/2) + 1", 9), 5);
        assert_eq!(read("floor(height/2 - 1/2) + 1", 8), 4);
        assert_eq!(read("past_len + seq", 3), 6);
        assert_eq!(read("ceil(h/4)*2", 5), 4);
        assert_eq!(read("Max(1, h//2)", 7), 3);
        assert_eq!("`unk 1`".parse::<Dim>().unwrap().to_string(), "`unk 1`");
    }

    #[test]
    fn hostile_text_is_an_error() {
        for text in [
            "",
            "(",
            "a +",
            "1/0",
            "f(x)",
            &"(".repeat(100_000),
            "99999999999999999999",
            "a b",
            "`x",
            &"a*".repeat(99),
            &"(a+b+c+d)*".repeat(9),
            &"a+".repeat(9999),
        ] {
            assert!(text.parse::<Dim>().is_err(), "{text:.20}");
        }
        let doubling = format!("{}a{}", "floordiv((b+".repeat(50), ")*(c+1),7)".repeat(50));
        assert!(doubling.parse::<Dim>().is_err());
        assert_eq!("-9223372036854775808".parse(), Ok(Dim::Const(i64::MIN)));
        assert_eq!("a - 9223372036854775808".parse(), Ok(Dim::symbol("a") + Dim::Const(i64::MIN)));
    }
}
