//! Index expressions over a file of variables: what is known is folded, the rest is a small tree.
//!
//! Arithmetic wraps and a division by zero gives 0: the verifier has proved bounds, and a wrong number here is a wrong time, no
//! wrong address.

use std::collections::BTreeMap;

use tarsia_tensor::{Atom, Dim, Symbol};

use crate::SimError;

/// Number of a variable.
pub(crate) type Var = u32;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Const(i64),
    Var(Var),
    /// `constant + Σ coefficient · Π factors`.
    Sum(i64, Box<[(i64, Box<[Expr]>)]>),
    FloorDiv(Box<[Expr; 2]>),
    Mod(Box<[Expr; 2]>),
    Min(Box<[Expr; 2]>),
    Max(Box<[Expr; 2]>),
}

/// What symbols stand for: a number, or a variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    values: BTreeMap<Symbol, Expr>,
    variables: u32,
    /// Variables that are always multiples of a number.
    multiples: BTreeMap<Var, i64>,
}

impl Names {
    /// Symbols with known values.
    pub fn new(bindings: &BTreeMap<Symbol, i64>) -> Names {
        let values = bindings.iter().map(|(symbol, &value)| (symbol.clone(), Expr::Const(value))).collect();
        Names { values, ..Names::default() }
    }

    /// How many variables there are.
    pub fn variables(&self) -> usize {
        self.variables as usize
    }

    /// A new variable for a symbol.
    pub fn define(&mut self, symbol: &Symbol) -> Var {
        let var = self.variables;
        self.variables += 1;
        self.values.insert(symbol.clone(), Expr::Var(var));
        var
    }

    /// A new variable that is always a multiple of `step`.
    pub fn define_multiple(&mut self, symbol: &Symbol, step: i64) -> Var {
        let var = self.define(symbol);
        self.multiples.insert(var, step);
        var
    }

    /// The largest power of two, up to `most`, that certainly divides an expression.
    pub fn alignment(&self, expr: &Expr, most: i64) -> i64 {
        let of = |value: i64| if value == 0 { most } else { (1i64 << value.trailing_zeros().min(62)).min(most) };
        match expr {
            Expr::Const(value) => of(*value),
            Expr::Var(var) => self.multiples.get(var).map_or(1, |&step| of(step)),
            Expr::Sum(constant, terms) => terms.iter().fold(of(*constant), |least, (coefficient, factors)| {
                let term = factors.iter().fold(of(*coefficient), |p, f| p.saturating_mul(self.alignment(f, most)));
                least.min(term).min(most)
            }),
            Expr::Min(p) | Expr::Max(p) | Expr::Mod(p) => self.alignment(&p[0], most).min(self.alignment(&p[1], most)),
            Expr::FloorDiv(_) => 1,
        }
    }

    /// The expression of a [`Dim`].
    ///
    /// # Errors
    /// If a symbol has no value.
    pub fn expr(&self, dim: &Dim) -> Result<Expr, SimError> {
        let poly = match dim {
            Dim::Const(value) => return Ok(Expr::Const(*value)),
            Dim::Poly(poly) => poly,
        };
        let mut terms = Vec::new();
        for term in &poly.terms {
            let factors = term.factors.iter().map(|atom| self.atom(atom)).collect::<Result<Vec<_>, _>>()?;
            terms.push((term.coefficient, factors));
        }
        Ok(Expr::sum(poly.constant, terms))
    }

    fn atom(&self, atom: &Atom) -> Result<Expr, SimError> {
        let pair = |a: &Dim, b: &Dim| Ok(Box::new([self.expr(a)?, self.expr(b)?]));
        let expr = match atom {
            Atom::Symbol(symbol) => {
                let unbound = || SimError::Unbound { symbol: symbol.name().to_owned() };
                return self.values.get(symbol).cloned().ok_or_else(unbound);
            }
            Atom::FloorDiv(a, b) => Expr::FloorDiv(pair(a, b)?),
            Atom::Mod(a, b) => Expr::Mod(pair(a, b)?),
            Atom::Min(a, b) => Expr::Min(pair(a, b)?),
            Atom::Max(a, b) => Expr::Max(pair(a, b)?),
        };
        Ok(expr.folded())
    }
}

impl Expr {
    /// `constant + Σ coefficient · Π factors`, folded.
    pub fn sum(constant: i64, terms: Vec<(i64, Vec<Expr>)>) -> Expr {
        let (mut constant, mut kept) = (constant, Vec::new());
        for (coefficient, factors) in terms {
            let (mut coefficient, mut open) = (coefficient, Vec::new());
            for factor in factors {
                match factor {
                    Expr::Const(value) => coefficient = coefficient.wrapping_mul(value),
                    other => open.push(other),
                }
            }
            match open.is_empty() {
                _ if coefficient == 0 => {}
                true => constant = constant.wrapping_add(coefficient),
                false => kept.push((coefficient, open.into_boxed_slice())),
            }
        }
        if kept.is_empty() {
            return Expr::Const(constant);
        }
        if let (0, [(1, factors)]) = (constant, kept.as_slice())
            && let [only] = &**factors
        {
            return only.clone();
        }
        Expr::Sum(constant, kept.into_boxed_slice())
    }

    /// The value if no variable decides.
    pub fn constant(&self) -> Option<i64> {
        if let Expr::Const(value) = self { Some(*value) } else { None }
    }

    fn folded(self) -> Expr {
        let known = match &self {
            Expr::FloorDiv(p) | Expr::Mod(p) | Expr::Min(p) | Expr::Max(p) => {
                p.iter().all(|side| side.constant().is_some())
            }
            _ => false,
        };
        if known { Expr::Const(self.eval(&[])) } else { self }
    }

    /// The value.
    pub fn eval(&self, vars: &[i64]) -> i64 {
        match self {
            Expr::Const(value) => *value,
            Expr::Var(var) => vars[*var as usize],
            Expr::Sum(constant, terms) => terms.iter().fold(*constant, |sum, (coefficient, factors)| {
                sum.wrapping_add(factors.iter().fold(*coefficient, |p, factor| p.wrapping_mul(factor.eval(vars))))
            }),
            Expr::FloorDiv(p) => floor_div(p[0].eval(vars), p[1].eval(vars)),
            Expr::Mod(p) => {
                let (a, b) = (p[0].eval(vars), p[1].eval(vars));
                a.wrapping_sub(floor_div(a, b).wrapping_mul(b))
            }
            Expr::Min(p) => p[0].eval(vars).min(p[1].eval(vars)),
            Expr::Max(p) => p[0].eval(vars).max(p[1].eval(vars)),
        }
    }

    /// Adds the variables that occur.
    pub fn collect(&self, found: &mut Vec<Var>) {
        match self {
            Expr::Const(_) => {}
            Expr::Var(var) => {
                if !found.contains(var) {
                    found.push(*var);
                }
            }
            Expr::Sum(_, terms) => {
                terms.iter().flat_map(|(_, factors)| factors).for_each(|factor| factor.collect(found));
            }
            Expr::FloorDiv(p) | Expr::Mod(p) | Expr::Min(p) | Expr::Max(p) => p.iter().for_each(|e| e.collect(found)),
        }
    }
}

fn floor_div(a: i64, b: i64) -> i64 {
    if b == 0 {
        return 0;
    }
    let q = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { q - 1 } else { q }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_agree_with_their_source() {
        let mut names = Names::new(&BTreeMap::from([(Symbol::new("n"), 100)]));
        let (i, j) = (names.define(&Symbol::new("i")), names.define(&Symbol::new("j")));
        assert_eq!((i, j), (0, 1));
        for text in
            ["min(16, -16*i + n)", "mod(floordiv(j, 16), 2)", "3*i*j - 7", "max(i, floordiv(n, 3)) + j", "n + 1"]
        {
            let dim: Dim = text.parse().unwrap();
            let expr = names.expr(&dim).unwrap();
            for (i, j) in [(0, 0), (3, 17), (9, 200), (1, 64)] {
                let bind = |symbol: &Symbol| {
                    Some(match symbol.name() {
                        "i" => i,
                        "j" => j,
                        _ => 100,
                    })
                };
                assert_eq!(expr.eval(&[i, j]), dim.eval(&bind).unwrap(), "{text} at {i}, {j}");
            }
        }
        assert!(matches!(names.expr(&Dim::symbol("m")), Err(SimError::Unbound { .. })));
    }
}
