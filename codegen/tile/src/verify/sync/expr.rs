//! Expressions of sizes and indices, prepared to be evaluated often: variables are numbers.

use tarsia_tensor::{Atom, Dim, Symbol};

/// A polynomial of variables and of what is not linear in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Expr {
    constant: i64,
    terms: Vec<(i64, Vec<Factor>)>,
}

#[derive(Clone, Debug)]
enum Factor {
    Variable(usize),
    FloorDiv(Expr, Expr),
    Mod(Expr, Expr),
    Min(Expr, Expr),
    Max(Expr, Expr),
}

/// The variables of a kernel by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(Vec<Symbol>);

impl Variables {
    /// The number of a variable, a new one if it was not met yet.
    pub fn find(&self, symbol: &Symbol) -> Option<usize> {
        self.0.iter().position(|known| known == symbol)
    }

    /// The number of a symbol, a new one if need be.
    pub fn number(&mut self, symbol: &Symbol) -> usize {
        self.0.iter().position(|known| known == symbol).unwrap_or_else(|| {
            self.0.push(symbol.clone());
            self.0.len() - 1
        })
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn expr(&mut self, dim: &Dim) -> Expr {
        let poly = match dim {
            Dim::Const(constant) => return Expr { constant: *constant, terms: Vec::new() },
            Dim::Poly(poly) => poly,
        };
        let terms = poly.terms.iter().map(|term| {
            let factors = term.factors.iter().map(|atom| match atom {
                Atom::Symbol(symbol) => Factor::Variable(self.number(symbol)),
                Atom::FloorDiv(a, b) => Factor::FloorDiv(self.expr(a), self.expr(b)),
                Atom::Mod(a, b) => Factor::Mod(self.expr(a), self.expr(b)),
                Atom::Min(a, b) => Factor::Min(self.expr(a), self.expr(b)),
                Atom::Max(a, b) => Factor::Max(self.expr(a), self.expr(b)),
            });
            (term.coefficient, factors.collect())
        });
        Expr { constant: poly.constant, terms: terms.collect() }
    }
}

impl Expr {
    /// The value; `None` if it overflows or divides by zero.
    pub fn eval(&self, values: &[i64]) -> Option<i64> {
        let mut total = self.constant;
        for (coefficient, factors) in &self.terms {
            let mut product = *coefficient;
            for factor in factors {
                product = product.checked_mul(factor.eval(values)?)?;
            }
            total = total.checked_add(product)?;
        }
        Some(total)
    }

    pub fn uses(&self, variable: usize) -> bool {
        let mut found = false;
        self.variables(&mut |used| found |= used == variable);
        found
    }

    /// Calls `see` for every variable that occurs.
    pub fn variables(&self, see: &mut dyn FnMut(usize)) {
        for factor in self.terms.iter().flat_map(|(_, factors)| factors) {
            match factor {
                Factor::Variable(variable) => see(*variable),
                Factor::FloorDiv(a, b) | Factor::Mod(a, b) | Factor::Min(a, b) | Factor::Max(a, b) => {
                    a.variables(see);
                    b.variables(see);
                }
            }
        }
    }

    /// Calls `see` with how far a variable moves until each remainder that it is part of comes again.
    pub fn periods(&self, variable: usize, see: &mut dyn FnMut(i64)) {
        for factor in self.terms.iter().flat_map(|(_, factors)| factors) {
            if let Factor::Mod(a, b) = factor
                && let (true, true) = (b.terms.is_empty(), a.uses(variable))
            {
                see(b.constant.saturating_mul(a.divisor(variable)));
            }
            if let Factor::FloorDiv(a, b) | Factor::Mod(a, b) | Factor::Min(a, b) | Factor::Max(a, b) = factor {
                a.periods(variable, see);
                b.periods(variable, see);
            }
        }
    }

    /// What a variable is divided by, all divisions together.
    fn divisor(&self, variable: usize) -> i64 {
        let mut product = 1i64;
        for factor in self.terms.iter().flat_map(|(_, factors)| factors) {
            if let Factor::FloorDiv(a, b) | Factor::Mod(a, b) | Factor::Min(a, b) | Factor::Max(a, b) = factor
                && a.uses(variable)
            {
                let own = if matches!(factor, Factor::FloorDiv(..)) { b.constant.max(1) } else { 1 };
                product = product.saturating_mul(own).saturating_mul(a.divisor(variable));
            }
        }
        product
    }
}

impl Factor {
    fn eval(&self, values: &[i64]) -> Option<i64> {
        let both = |a: &Expr, b: &Expr| Some((a.eval(values)?, b.eval(values)?));
        match self {
            Factor::Variable(variable) => values.get(*variable).copied(),
            Factor::FloorDiv(a, b) => both(a, b).and_then(|(a, b)| {
                let quotient = a.checked_div_euclid(b)?;
                Some(if b < 0 && a.rem_euclid(b) != 0 { quotient - 1 } else { quotient })
            }),
            Factor::Mod(a, b) => {
                let (a, b) = both(a, b)?;
                let rest = a.checked_rem_euclid(b)?;
                Some(if b < 0 && rest != 0 { rest + b } else { rest })
            }
            Factor::Min(a, b) => both(a, b).map(|(a, b)| a.min(b)),
            Factor::Max(a, b) => both(a, b).map(|(a, b)| a.max(b)),
        }
    }
}

pub(super) fn lcm(a: i64, b: i64) -> i64 {
    a / gcd(a, b).max(1) * b
}

pub(super) fn gcd(mut x: i64, mut y: i64) -> i64 {
    while y != 0 {
        (x, y) = (y, x % y);
    }
    x
}
