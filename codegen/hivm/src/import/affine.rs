//! Affine maps: `affine_map<(d0)[s0, s1] -> (s0 * -3 - s1 * 3 + 1024, 3)>`.

use tarsia_tensor::Dim;

use super::text::{Cursor, Result};

/// Expressions may nest this deep.
const DEPTH: usize = 32;

/// A map from indices to indices.
#[derive(Debug, Clone)]
pub(super) struct Map {
    inputs: usize,
    results: Vec<Expr>,
}

#[derive(Debug, Clone)]
enum Expr {
    Input(usize),
    Number(i64),
    Binary(char, Box<[Expr; 2]>),
}

impl Map {
    /// Reads `<(dims)[symbols] -> (results)>`.
    pub fn read(mut cursor: Cursor<'_>) -> Result<Map> {
        let mut inside = cursor.bracketed('<')?;
        let mut names = Vec::new();
        for open in ['(', '['] {
            if inside.rest().starts_with(open) {
                names.extend(inside.bracketed(open)?.parts().iter().map(|part| part.rest().trim()));
            }
        }
        inside.expect("->")?;
        let parts = inside.bracketed('(')?.parts();
        let result = |mut part: Cursor<'_>| {
            let expr = sum(&mut part, &names, 0)?;
            if part.is_empty() { Ok(expr) } else { Err(part.fault("unexpected text")) }
        };
        Ok(Map { inputs: names.len(), results: parts.into_iter().map(result).collect::<Result<_>>()? })
    }

    /// The values of the results; `None` if the number of inputs is another.
    pub fn apply(&self, inputs: &[Dim]) -> Option<Vec<Dim>> {
        let fits = self.inputs == inputs.len();
        fits.then(|| self.results.iter().map(|result| result.value(inputs)).collect())
    }
}

impl Expr {
    fn value(&self, inputs: &[Dim]) -> Dim {
        match self {
            Expr::Input(at) => inputs[*at].clone(),
            Expr::Number(value) => Dim::Const(*value),
            Expr::Binary(op, sides) => {
                let (a, b) = (sides[0].value(inputs), sides[1].value(inputs));
                match op {
                    '+' => a + b,
                    '-' => a - b,
                    '*' => a * b,
                    'f' => a.floor_div(&b),
                    'c' => a.ceil_div(&b),
                    _ => a.modulo(&b),
                }
            }
        }
    }
}

fn sum(cursor: &mut Cursor<'_>, names: &[&str], depth: usize) -> Result<Expr> {
    let mut left = product(cursor, names, depth)?;
    loop {
        let op = match () {
            () if cursor.eat("+") => '+',
            () if cursor.eat("-") => '-',
            () => return Ok(left),
        };
        left = Expr::Binary(op, Box::new([left, product(cursor, names, depth)?]));
    }
}

fn product(cursor: &mut Cursor<'_>, names: &[&str], depth: usize) -> Result<Expr> {
    let mut left = leaf(cursor, names, depth)?;
    loop {
        let op = match () {
            () if cursor.eat("*") => '*',
            () if cursor.eat("floordiv") => 'f',
            () if cursor.eat("ceildiv") => 'c',
            () if cursor.eat("mod") => 'm',
            () => return Ok(left),
        };
        let at = *cursor;
        let right = leaf(cursor, names, depth)?;
        if op != '*' && !matches!(right, Expr::Number(1..)) {
            return Err(at.fault("the divisor must be a positive number"));
        }
        left = Expr::Binary(op, Box::new([left, right]));
    }
}

fn leaf(cursor: &mut Cursor<'_>, names: &[&str], depth: usize) -> Result<Expr> {
    if depth > DEPTH {
        return Err(cursor.fault("the expression nests too deep"));
    }
    if cursor.peek("(") {
        let mut inside = cursor.bracketed('(')?;
        return sum(&mut inside, names, depth + 1);
    }
    if cursor.peek("-") && !cursor.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
        cursor.expect("-")?;
        let operand = leaf(cursor, names, depth + 1)?;
        return Ok(Expr::Binary('*', Box::new([Expr::Number(-1), operand])));
    }
    if cursor.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
        let before = *cursor;
        let name = cursor.word();
        let at = names.iter().position(|known| *known == name);
        return at.map(Expr::Input).ok_or_else(|| before.fault(format!("there is no `{name}` in this map")));
    }
    Ok(Expr::Number(cursor.integer()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_applied() {
        let map = |text| Map::read(Cursor::new(text, 0));
        let tail = map("<()[s0, s1] -> (s0 * -3 - s1 * 3 + 1024, 3)>").unwrap();
        assert_eq!(tail.apply(&[Dim::Const(10), Dim::Const(1)]).unwrap(), [Dim::Const(991), Dim::Const(3)]);
        let whole = map("<(d0)[s0] -> (((s0 + 15) floordiv 16) * 16 + d0 mod 4, -d0)>").unwrap();
        assert_eq!(whole.apply(&[Dim::Const(7), Dim::Const(17)]).unwrap(), [Dim::Const(35), Dim::Const(-7)]);
        assert!(whole.apply(&[Dim::ONE]).is_none());
        assert!(map("<()[s0] -> (s0 mod s0)>").is_err());
        assert!(map("<()[s0] -> (s1)>").is_err());
        assert!(map(&format!("<() -> ({}1{})>", "(".repeat(99), ")".repeat(99))).is_err());
    }
}
