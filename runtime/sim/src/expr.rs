//! Index expressions over a file of variables: what is known is folded, by the ranges of the variables too, the rest is a small tree.
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

/// Least and highest value.
pub(crate) type Range = (i64, i64);

/// What symbols stand for: a number, or a variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    values: BTreeMap<Symbol, Expr>,
    /// The least and the highest value of every variable.
    ranges: Vec<Range>,
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
        self.ranges.len()
    }

    /// A new variable for a symbol, with its least and its highest value.
    pub fn define(&mut self, symbol: &Symbol, range: Range) -> Var {
        let var = self.ranges.len() as Var;
        self.ranges.push(range);
        self.values.insert(symbol.clone(), Expr::Var(var));
        var
    }

    /// A new variable that is always a multiple of `step`.
    pub fn define_multiple(&mut self, symbol: &Symbol, step: i64, range: Range) -> Var {
        let var = self.define(symbol, range);
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
        Ok(self.folded(expr))
    }

    /// The least and the highest value that an expression may have; beyond what a number holds, the last that it holds.
    pub fn range(&self, expr: &Expr) -> Range {
        let pair = |p: &[Expr; 2]| (self.range(&p[0]), self.range(&p[1]));
        match expr {
            Expr::Const(value) => (*value, *value),
            Expr::Var(var) => self.ranges.get(*var as usize).copied().unwrap_or((i64::MIN, i64::MAX)),
            Expr::Sum(constant, terms) => terms.iter().fold((*constant, *constant), |sum, (coefficient, factors)| {
                let term = (*coefficient, *coefficient);
                let term = factors.iter().fold(term, |product, factor| product_range(product, self.range(factor)));
                (sum.0.saturating_add(term.0), sum.1.saturating_add(term.1))
            }),
            Expr::FloorDiv(p) => match pair(p) {
                ((low, high), (least, most)) if least > 0 => {
                    let of = |a: i64| (floor_div(a, least), floor_div(a, most));
                    (of(low).0.min(of(low).1), of(high).0.max(of(high).1))
                }
                _ => (i64::MIN, i64::MAX),
            },
            Expr::Mod(p) => match pair(p) {
                (_, (least, most)) if least > 0 => (0, most - 1),
                _ => (i64::MIN, i64::MAX),
            },
            Expr::Min(p) => {
                let (a, b) = pair(p);
                (a.0.min(b.0), a.1.min(b.1))
            }
            Expr::Max(p) => {
                let (a, b) = pair(p);
                (a.0.max(b.0), a.1.max(b.1))
            }
        }
    }

    /// The same, simpler where the ranges of its parts decide it.
    fn folded(&self, expr: Expr) -> Expr {
        let simpler = match &expr {
            Expr::FloorDiv(p) | Expr::Mod(p) => {
                let ((low, high), divisor) = (self.range(&p[0]), p[1].constant().filter(|&divisor| divisor > 0));
                let quotient = divisor.map(|divisor| (floor_div(low, divisor), floor_div(high, divisor)));
                match (&expr, divisor, quotient) {
                    (Expr::FloorDiv(_), Some(1), _) => Some(p[0].clone()),
                    (Expr::Mod(_), Some(1), _) => Some(Expr::Const(0)),
                    (Expr::FloorDiv(_), _, Some((a, b))) if a == b => Some(Expr::Const(a)),
                    (Expr::Mod(_), _, Some((0, 0))) => Some(p[0].clone()),
                    _ => None,
                }
            }
            Expr::Min(p) | Expr::Max(p) => {
                let (a, b) = (self.range(&p[0]), self.range(&p[1]));
                let first =
                    if matches!(expr, Expr::Min(_)) { (a.1 <= b.0, b.1 <= a.0) } else { (a.0 >= b.1, b.0 >= a.1) };
                match first {
                    (true, _) => Some(p[0].clone()),
                    (_, true) => Some(p[1].clone()),
                    _ => None,
                }
            }
            Expr::Const(_) | Expr::Var(_) | Expr::Sum(..) => None,
        };
        simpler.unwrap_or(expr).folded()
    }
}

fn product_range(a: Range, b: Range) -> Range {
    let all = [a.0.saturating_mul(b.0), a.0.saturating_mul(b.1), a.1.saturating_mul(b.0), a.1.saturating_mul(b.1)];
    let least = all.iter().copied().min().unwrap_or(i64::MIN);
    (least, all.into_iter().max().unwrap_or(i64::MAX))
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

    /// Whether a variable occurs of which this holds.
    pub fn mentions(&self, of: &dyn Fn(Var) -> bool) -> bool {
        match self {
            Expr::Const(_) => false,
            Expr::Var(var) => of(*var),
            Expr::Sum(_, terms) => terms.iter().any(|(_, factors)| factors.iter().any(|factor| factor.mentions(of))),
            Expr::FloorDiv(p) | Expr::Mod(p) | Expr::Min(p) | Expr::Max(p) => p.iter().any(|part| part.mentions(of)),
        }
    }

    /// Whether it is a sum of one part without this variable and one without those.
    pub fn separates(&self, var: Var, from: &[Var]) -> bool {
        let decides = |expr: &Expr| expr.mentions(&|other| other == var);
        let others = |expr: &Expr| expr.mentions(&|other| from.contains(&other));
        if !decides(self) || !others(self) {
            return true;
        }
        let Expr::Sum(_, terms) = self else { return false };
        terms.iter().all(|(_, factors)| {
            let mut open = factors.iter().filter(|factor| decides(factor) || others(factor));
            let first = open.next();
            let rest: Vec<&Expr> = open.collect();
            match rest.is_empty() {
                true => first.is_none_or(|factor| factor.separates(var, from)),
                false => !factors.iter().any(decides) || !factors.iter().any(others),
            }
        })
    }

    /// Adds the largest parts in which none of the inner variables occurs, and that are not constant: their values and those of
    /// the inner variables give that of the whole.
    pub fn outer_parts(&self, inner: &dyn Fn(Var) -> bool, found: &mut Vec<Expr>) {
        if !self.mentions(inner) {
            if self.constant().is_none() && !found.contains(self) {
                found.push(self.clone());
            }
            return;
        }
        match self {
            Expr::Const(_) | Expr::Var(_) => {}
            Expr::Sum(_, terms) => {
                let mixed = |term: &&(i64, Box<[Expr]>)| term.1.iter().any(|factor| factor.mentions(inner));
                let outer = terms.iter().filter(|term| !mixed(term));
                let outer = Expr::sum(0, outer.map(|(by, factors)| (*by, factors.to_vec())).collect());
                outer.outer_parts(inner, found);
                let mixed = terms.iter().filter(mixed).flat_map(|(_, factors)| factors);
                mixed.for_each(|factor| factor.outer_parts(inner, found));
            }
            Expr::FloorDiv(p) | Expr::Mod(p) | Expr::Min(p) | Expr::Max(p) => {
                p.iter().for_each(|part| part.outer_parts(inner, found));
            }
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
        let (i, j) = (names.define(&Symbol::new("i"), (0, 9)), names.define(&Symbol::new("j"), (0, 200)));
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

    #[test]
    fn ranges_decide() {
        let mut names = Names::new(&BTreeMap::from([(Symbol::new("n"), 1)]));
        let i = names.define(&Symbol::new("i"), (0, 63));
        for (text, simple) in [
            ("min(64, n - 64*mod(i, floordiv(n + 63, 64)))", Expr::Const(1)),
            ("floordiv(i, 64)", Expr::Const(0)),
            ("mod(i, 64)", Expr::Var(i)),
            ("max(i, 0)", Expr::Var(i)),
        ] {
            assert_eq!(names.expr(&text.parse().unwrap()).unwrap(), simple, "{text}");
        }
        assert_ne!(names.expr(&"min(i, 63 - i)".parse().unwrap()).unwrap(), Expr::Var(i));
    }

    #[test]
    fn parts_without_inner_variables_decide_with_them() {
        let mut names = Names::new(&BTreeMap::new());
        let [i, j] = ["i", "j"].map(|name| names.define(&Symbol::new(name), (0, 1000)));
        let expr = names.expr(&"min(128, -j + min(1024, 3000 - 1024*i)) + i + 2*i*j".parse().unwrap()).unwrap();
        let mut parts = Vec::new();
        expr.outer_parts(&|var| var == j, &mut parts);
        assert_eq!(parts, ["i", "min(1024, 3000 - 1024*i)"].map(|text| names.expr(&text.parse().unwrap()).unwrap()));
        parts.clear();
        expr.outer_parts(&|var| var == i || var == j, &mut parts);
        assert!(parts.is_empty());
    }
}
