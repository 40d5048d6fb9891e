//! Symbolic integers: dimensions, shape arithmetic, and the index expressions of the tile IR.
//!
//! A [`Dim`] is a polynomial with integer coefficients over *atoms*: symbols and the non-linear functions of other
//! expressions (floor division, modulo, minimum, maximum). It is always in canonical form, so that equal polynomials
//! are equal values. Symbols stand for sizes and loop variables: they are never negative. Arithmetic saturates at the
//! ends of `i64`; [`Dim::eval`] reports overflow, so a hostile product is an error and never wraps. Expressions too large
//! to work with (no honest model has them) count as overflow too.

use std::{
    collections::BTreeSet,
    ops::{Add, Mul, Neg, Sub},
    sync::Arc,
};

use thiserror::Error;

/// Most terms of a sum, and most factors of a term.
const MOST_TERMS: usize = 1024;
/// Most atoms of the arguments of a non-linear function, and how deep these may be nested.
const MOST_ATOMS: usize = 4096;
const DEEPEST: usize = 40;

/// The name of an unknown size.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// The symbol with this name; backquotes and control characters become `_`, so that the text form can quote it.
    pub fn new(name: &str) -> Symbol {
        if name.contains(|c: char| c == '`' || c.is_control()) {
            return Symbol(name.replace(|c: char| c == '`' || c.is_control(), "_").into());
        }
        Symbol(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A symbolic integer in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dim {
    /// A known integer.
    Const(i64),
    /// A polynomial with at least one term.
    Poly(Arc<Poly>),
}

/// `constant + Σ terms`, terms sorted by factors and without zero coefficients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Poly {
    /// The terms with factors.
    pub terms: Vec<Term>,
    /// The term without factors.
    pub constant: i64,
}

/// `coefficient · Π factors`, factors sorted, at least one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Term {
    /// The factors, repeated for powers.
    pub factors: Vec<Atom>,
    /// Never zero.
    pub coefficient: i64,
}

/// What a polynomial is over.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Atom {
    /// An unknown size, at least 0.
    Symbol(Symbol),
    /// `⌊a / b⌋`.
    FloorDiv(Dim, Dim),
    /// `a - b·⌊a / b⌋`.
    Mod(Dim, Dim),
    /// The smaller of two.
    Min(Dim, Dim),
    /// The larger of two.
    Max(Dim, Dim),
}

/// An inclusive interval; the ends of `i64` stand for "unbounded".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Lowest value.
    pub low: i64,
    /// Highest value.
    pub high: i64,
}

/// Why an expression has no value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvalError {
    /// A symbol has no value.
    #[error("the size `{0}` is not known")]
    Unbound(String),
    /// The value does not fit in 64 bits.
    #[error("the size {0} overflows")]
    Overflow(String),
    /// A division by zero.
    #[error("the size {0} divides by zero")]
    DivisionByZero(String),
}

impl Dim {
    /// Zero.
    pub const ZERO: Dim = Dim::Const(0);
    /// One.
    pub const ONE: Dim = Dim::Const(1);

    /// The symbol `name`.
    pub fn symbol(name: &str) -> Dim {
        Dim::from(Symbol::new(name))
    }

    /// The value, if it is known without bindings.
    pub fn as_const(&self) -> Option<i64> {
        match self {
            Dim::Const(value) => Some(*value),
            Dim::Poly(_) => None,
        }
    }

    /// The value as a size, if it is known and not negative.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_const().and_then(|value| usize::try_from(value).ok())
    }

    /// The symbol, if this is exactly one symbol.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let Dim::Poly(poly) = self else { return None };
        match (poly.constant, poly.terms.as_slice()) {
            (0, [Term { coefficient: 1, factors }]) => match factors.as_slice() {
                [Atom::Symbol(symbol)] => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether this is the known value `value`.
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    /// The product of many.
    pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        dims.into_iter().fold(Dim::ONE, |product, dim| product * dim.clone())
    }

    /// `⌊self / divisor⌋`, exact where the division comes out as a polynomial.
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        match (self, divisor) {
            (_, Dim::Const(1)) => return self.clone(),
            (Dim::Const(0), _) => return Dim::ZERO,
            (Dim::Const(a), Dim::Const(b)) if *b != 0 => {
                return a.checked_div_euclid(*b).map_or(Dim::Const(i64::MAX), |q| {
                    // Euclidean and floor division differ only for negative divisors.
                    Dim::Const(if *b < 0 && a.rem_euclid(*b) != 0 { q - 1 } else { q })
                });
            }
            _ => {}
        }
        if let Some(quotient) = self.exact_div(divisor) {
            return quotient;
        }
        let (whole, rest) = self.split_multiples(divisor);
        if !whole.is(0) {
            return whole + rest.floor_div(divisor);
        }
        if rest.less_than(divisor) {
            return Dim::ZERO;
        }
        Dim::non_linear(Atom::FloorDiv(self.clone(), divisor.clone()))
    }

    /// `⌈self / divisor⌉`.
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        match (self, divisor) {
            (Dim::Const(a), Dim::Const(b)) if *b > 0 => Dim::Const(a.div_euclid(*b) + i64::from(a.rem_euclid(*b) != 0)),
            _ => (self.clone() + divisor.clone() - Dim::ONE).floor_div(divisor),
        }
    }

    /// `self - divisor·⌊self / divisor⌋`.
    pub fn modulo(&self, divisor: &Dim) -> Dim {
        if let (Dim::Const(a), Dim::Const(b)) = (self, divisor)
            && *b > 0
        {
            return Dim::Const(a.rem_euclid(*b));
        }
        if divisor.is(1) || self.exact_div(divisor).is_some() {
            return Dim::ZERO;
        }
        let (_, rest) = self.split_multiples(divisor);
        if rest.less_than(divisor) {
            return rest;
        }
        Dim::non_linear(Atom::Mod(rest, divisor.clone()))
    }

    /// The smaller of two.
    pub fn minimum(&self, other: &Dim) -> Dim {
        if self.at_most(other) {
            return self.clone();
        }
        if other.at_most(self) {
            return other.clone();
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Dim::non_linear(Atom::Min(a.clone(), b.clone()))
    }

    /// The larger of two.
    pub fn maximum(&self, other: &Dim) -> Dim {
        if other.at_most(self) {
            return self.clone();
        }
        if self.at_most(other) {
            return other.clone();
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Dim::non_linear(Atom::Max(a.clone(), b.clone()))
    }

    /// The interval of values when every symbol is only known not to be negative.
    pub fn range(&self) -> Range {
        self.range_with(&|_| Range { low: 0, high: i64::MAX })
    }

    /// The interval of values given the interval of each symbol. Correct, not always tight.
    pub fn range_with(&self, symbols: &dyn Fn(&Symbol) -> Range) -> Range {
        let poly = match self {
            Dim::Const(value) => return Range { low: *value, high: *value },
            Dim::Poly(poly) => poly,
        };
        let mut total = Range { low: poly.constant, high: poly.constant };
        for term in &poly.terms {
            let mut product = Range { low: term.coefficient, high: term.coefficient };
            for factor in &term.factors {
                product = product.times(factor.range_with(symbols));
            }
            total = Range { low: add_bound(total.low, product.low), high: add_bound(total.high, product.high) };
        }
        total
    }

    /// The value under a binding of the symbols.
    ///
    /// # Errors
    /// If a symbol is unbound, a division is by zero or the value overflows.
    pub fn eval(&self, bind: &dyn Fn(&Symbol) -> Option<i64>) -> Result<i64, EvalError> {
        let poly = match self {
            Dim::Const(value) => return Ok(*value),
            Dim::Poly(poly) => poly,
        };
        let overflow = || EvalError::Overflow(self.to_string());
        let mut total = poly.constant;
        for term in &poly.terms {
            let mut product = term.coefficient;
            for factor in &term.factors {
                product = product.checked_mul(factor.eval(bind)?).ok_or_else(overflow)?;
            }
            total = total.checked_add(product).ok_or_else(overflow)?;
        }
        Ok(total)
    }

    /// Replaces symbols; those for which `replace` gives `None` stay.
    pub fn substitute(&self, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        let poly = match self {
            Dim::Const(_) => return self.clone(),
            Dim::Poly(poly) => poly,
        };
        poly.terms.iter().fold(Dim::Const(poly.constant), |sum, term| {
            let product = term.factors.iter().fold(Dim::Const(term.coefficient), |p, f| p * f.substitute(replace));
            sum + product
        })
    }

    /// All symbols that occur, sorted.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut found = BTreeSet::new();
        self.collect_symbols(&mut found);
        found
    }

    /// Adds all symbols that occur to `found`.
    pub fn collect_symbols(&self, found: &mut BTreeSet<Symbol>) {
        let Dim::Poly(poly) = self else { return };
        for factor in poly.terms.iter().flat_map(|term| &term.factors) {
            match factor {
                Atom::Symbol(symbol) => {
                    found.insert(symbol.clone());
                }
                Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    a.collect_symbols(found);
                    b.collect_symbols(found);
                }
            }
        }
    }

    /// `coefficient` and `rest` with `self = coefficient · symbol + rest` and `rest` free of `symbol`; `None` if not linear in it.
    pub fn linear_in(&self, symbol: &Symbol) -> Option<(Dim, Dim)> {
        let Dim::Poly(poly) = self else { return Some((Dim::ZERO, self.clone())) };
        let atom = Atom::Symbol(symbol.clone());
        let (mut coefficient, mut rest) = (Dim::ZERO, Dim::Const(poly.constant));
        for term in &poly.terms {
            let mut factors = term.factors.clone();
            let taken = factors.iter().position(|f| *f == atom).map(|at| factors.remove(at)).is_some();
            let remaining = from_terms(0, vec![Term { coefficient: term.coefficient, factors }]);
            if remaining.symbols().contains(symbol) {
                return None;
            }
            if taken {
                coefficient = coefficient + remaining;
            } else {
                rest = rest + remaining;
            }
        }
        Some((coefficient, rest))
    }

    /// `q` with `self = q · divisor` as polynomials, if there is one.
    pub fn exact_div(&self, divisor: &Dim) -> Option<Dim> {
        const STEPS: usize = 32;
        let leading = divisor.terms().pop()?;
        let (mut rest, mut quotient) = (self.clone(), Dim::ZERO);
        for _ in 0..STEPS {
            if rest.is(0) {
                return Some(quotient);
            }
            // Terms are taken in descending order, so that the leading term of the divisor cancels the leading one of the rest.
            let step = divide_term(&rest.terms().pop()?, &leading)?;
            quotient = quotient + step.clone();
            rest = rest - step * divisor.clone();
        }
        None
    }

    /// All terms, the constant first as a term without factors.
    fn terms(&self) -> Vec<Term> {
        let constant = |value: i64| Term { factors: Vec::new(), coefficient: value };
        match self {
            Dim::Const(0) => Vec::new(),
            Dim::Const(value) => vec![constant(*value)],
            Dim::Poly(poly) => {
                let mut terms = poly.terms.clone();
                if poly.constant != 0 {
                    terms.insert(0, constant(poly.constant));
                }
                terms
            }
        }
    }

    /// `(whole, rest)` with `self = whole · divisor + rest`, moving term by term what divides.
    fn split_multiples(&self, divisor: &Dim) -> (Dim, Dim) {
        let single = divisor.terms();
        let [leading] = single.as_slice() else { return (Dim::ZERO, self.clone()) };
        let (mut whole, mut rest) = (Dim::ZERO, Dim::ZERO);
        for term in self.terms() {
            let value = from_terms(0, vec![term.clone()]);
            if let Some(quotient) = divide_term(&term, leading) {
                whole = whole + quotient;
            } else if let (Dim::Const(d), true) = (divisor, divisor.range().low > 0) {
                let (q, r) = (term.coefficient.div_euclid(*d), term.coefficient.rem_euclid(*d));
                whole = whole + from_terms(0, vec![Term { coefficient: q, factors: term.factors.clone() }]);
                rest = rest + from_terms(0, vec![Term { coefficient: r, factors: term.factors }]);
            } else {
                rest = rest + value;
            }
        }
        (whole, rest)
    }

    /// The atom as an expression, or "overflow" if it is too large.
    fn non_linear(atom: Atom) -> Dim {
        let mut room = MOST_ATOMS;
        if atom.fits(&mut room, DEEPEST) { Dim::from(atom) } else { Dim::Const(i64::MAX) }
    }

    fn fits(&self, room: &mut usize, depth: usize) -> bool {
        match self {
            Dim::Const(_) => true,
            Dim::Poly(poly) => poly.terms.iter().flat_map(|term| &term.factors).all(|atom| atom.fits(room, depth)),
        }
    }

    /// `x` of `max(0, x)`.
    pub fn unless_negative(&self) -> Option<Dim> {
        let Dim::Poly(poly) = self else { return None };
        let ([Term { factors, coefficient: 1 }], 0) = (poly.terms.as_slice(), poly.constant) else { return None };
        match factors.as_slice() {
            [Atom::Max(a, b)] if a.is(0) => Some(b.clone()),
            [Atom::Max(a, b)] if b.is(0) => Some(a.clone()),
            _ => None,
        }
    }

    /// Whether `self <= other` certainly holds.
    pub fn at_most(&self, other: &Dim) -> bool {
        const QUOTIENTS: usize = 4;
        let mut difference = other.clone() - self.clone();
        for _ in 0..QUOTIENTS {
            if difference.range().low >= 0 {
                return true;
            }
            match difference.without_subtracted_quotient() {
                Some(next) => difference = next,
                None => return false,
            }
        }
        difference.range().low >= 0
    }

    /// A lower bound of a positive multiple of this, in which one term `-c·⌊a / b⌋·rest` is replaced by `-c·(a / b)·rest`; `None` if
    /// there is no such term with `a` and `rest` not negative and `b` a positive constant.
    fn without_subtracted_quotient(&self) -> Option<Dim> {
        let terms = self.terms();
        let quotient = |factor: &Atom| match factor {
            Atom::FloorDiv(a, Dim::Const(b)) if *b > 0 && a.range().low >= 0 => Some((a.clone(), *b)),
            _ => None,
        };
        let at =
            terms.iter().position(|term| term.coefficient < 0 && term.factors.iter().any(|f| quotient(f).is_some()))?;
        let term = &terms[at];
        let place = term.factors.iter().position(|factor| quotient(factor).is_some())?;
        let (dividend, divisor) = quotient(&term.factors[place])?;
        let mut rest = term.factors.clone();
        rest.remove(place);
        let rest = from_terms(0, vec![Term { coefficient: term.coefficient, factors: rest }]);
        if rest.range().high > 0 {
            return None;
        }
        let others =
            terms.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, term)| from_terms(0, vec![term.clone()]));
        let others = others.fold(Dim::ZERO, |sum, term| sum + term);
        Some(others * Dim::Const(divisor) + rest * dividend)
    }

    /// Whether `0 <= self < other` certainly holds.
    fn less_than(&self, other: &Dim) -> bool {
        let range = self.range();
        range.low >= 0 && (other.clone() - self.clone()).range().low > 0
    }
}

/// `a / b` for single terms, if it comes out even.
fn divide_term(a: &Term, b: &Term) -> Option<Dim> {
    if a.coefficient.checked_rem(b.coefficient) != Some(0) {
        return None;
    }
    let mut factors = a.factors.clone();
    for factor in &b.factors {
        factors.remove(factors.iter().position(|f| f == factor)?);
    }
    Some(from_terms(0, vec![Term { coefficient: a.coefficient / b.coefficient, factors }]))
}

/// The canonical sum of a constant and terms in any order (factors of each term sorted).
fn from_terms(constant: i64, terms: Vec<Term>) -> Dim {
    let mut constant = constant;
    let mut terms: Vec<Term> = terms
        .into_iter()
        .filter(|term| {
            if term.factors.is_empty() {
                constant = constant.saturating_add(term.coefficient);
            }
            !term.factors.is_empty()
        })
        .collect();
    terms.sort_unstable();
    let mut merged: Vec<Term> = Vec::with_capacity(terms.len());
    for term in terms {
        match merged.last_mut() {
            Some(last) if last.factors == term.factors => {
                last.coefficient = last.coefficient.saturating_add(term.coefficient);
            }
            _ => merged.push(term),
        }
    }
    merged.retain(|term| term.coefficient != 0);
    if merged.len() > MOST_TERMS {
        return Dim::Const(i64::MAX);
    }
    if merged.is_empty() { Dim::Const(constant) } else { Dim::Poly(Arc::new(Poly { terms: merged, constant })) }
}

impl Atom {
    fn fits(&self, room: &mut usize, depth: usize) -> bool {
        if *room == 0 || depth == 0 {
            return false;
        }
        *room -= 1;
        match self {
            Atom::Symbol(_) => true,
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                a.fits(room, depth - 1) && b.fits(room, depth - 1)
            }
        }
    }

    fn eval(&self, bind: &dyn Fn(&Symbol) -> Option<i64>) -> Result<i64, EvalError> {
        let zero = || EvalError::DivisionByZero(Dim::from(self.clone()).to_string());
        Ok(match self {
            Atom::Symbol(symbol) => bind(symbol).ok_or_else(|| EvalError::Unbound(symbol.name().to_owned()))?,
            Atom::FloorDiv(a, b) => match b.eval(bind)? {
                0 => return Err(zero()),
                b => floor_div(a.eval(bind)?, b),
            },
            Atom::Mod(a, b) => match b.eval(bind)? {
                0 => return Err(zero()),
                b => {
                    let a = a.eval(bind)?;
                    a.wrapping_sub(floor_div(a, b).wrapping_mul(b))
                }
            },
            Atom::Min(a, b) => a.eval(bind)?.min(b.eval(bind)?),
            Atom::Max(a, b) => a.eval(bind)?.max(b.eval(bind)?),
        })
    }

    fn range_with(&self, symbols: &dyn Fn(&Symbol) -> Range) -> Range {
        match self {
            Atom::Symbol(symbol) => symbols(symbol),
            Atom::Min(a, b) => {
                let (a, b) = (a.range_with(symbols), b.range_with(symbols));
                Range { low: a.low.min(b.low), high: a.high.min(b.high) }
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.range_with(symbols), b.range_with(symbols));
                Range { low: a.low.max(b.low), high: a.high.max(b.high) }
            }
            Atom::FloorDiv(a, b) => {
                let (a, b) = (a.range_with(symbols), b.range_with(symbols));
                if b.low <= 0 {
                    // A divisor that may be 0 is an error at evaluation; the sign still follows the dividend.
                    return if a.low >= 0 && b.low >= 0 { Range { low: 0, high: a.high } } else { Range::ALL };
                }
                let corners = [(a.low, b.low), (a.low, b.high), (a.high, b.low), (a.high, b.high)].map(|(x, y)| {
                    if x == i64::MIN || x == i64::MAX { if y == i64::MAX { 0 } else { x } } else { floor_div(x, y) }
                });
                Range {
                    low: corners.into_iter().fold(i64::MAX, i64::min),
                    high: corners.into_iter().fold(i64::MIN, i64::max),
                }
            }
            Atom::Mod(a, b) => {
                let (a, b) = (a.range_with(symbols), b.range_with(symbols));
                if b.low < 0 {
                    return Range::ALL;
                }
                let high = if a.low >= 0 {
                    a.high.min(b.high.saturating_sub(1).max(0))
                } else {
                    b.high.saturating_sub(1).max(0)
                };
                Range { low: 0, high: if b.high == i64::MAX && a.low < 0 { i64::MAX } else { high } }
            }
        }
    }

    fn substitute(&self, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        match self {
            Atom::Symbol(symbol) => replace(symbol).unwrap_or_else(|| Dim::from(self.clone())),
            Atom::FloorDiv(a, b) => a.substitute(replace).floor_div(&b.substitute(replace)),
            Atom::Mod(a, b) => a.substitute(replace).modulo(&b.substitute(replace)),
            Atom::Min(a, b) => a.substitute(replace).minimum(&b.substitute(replace)),
            Atom::Max(a, b) => a.substitute(replace).maximum(&b.substitute(replace)),
        }
    }
}

impl Range {
    /// Every integer.
    pub const ALL: Range = Range { low: i64::MIN, high: i64::MAX };

    fn times(self, other: Range) -> Range {
        let corners = [
            mul_bound(self.low, other.low),
            mul_bound(self.low, other.high),
            mul_bound(self.high, other.low),
            mul_bound(self.high, other.high),
        ];
        Range { low: corners.into_iter().fold(i64::MAX, i64::min), high: corners.into_iter().fold(i64::MIN, i64::max) }
    }
}

/// Sums of bounds in which an unbounded end stays unbounded.
fn add_bound(a: i64, b: i64) -> i64 {
    if a == i64::MIN || b == i64::MIN {
        i64::MIN
    } else if a == i64::MAX || b == i64::MAX {
        i64::MAX
    } else {
        a.saturating_add(b)
    }
}

fn mul_bound(a: i64, b: i64) -> i64 {
    a.saturating_mul(b)
}

fn floor_div(a: i64, b: i64) -> i64 {
    let q = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { q - 1 } else { q }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim::Const(value)
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Dim {
        Dim::Const(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Dim {
        Dim::from(Atom::Symbol(symbol))
    }
}

impl From<Atom> for Dim {
    fn from(atom: Atom) -> Dim {
        Dim::Poly(Arc::new(Poly { terms: vec![Term { factors: vec![atom], coefficient: 1 }], constant: 0 }))
    }
}

impl Add for Dim {
    type Output = Dim;

    fn add(self, other: Dim) -> Dim {
        match (&self, &other) {
            (Dim::Const(a), Dim::Const(b)) => Dim::Const(a.saturating_add(*b)),
            (_, Dim::Const(0)) => self,
            (Dim::Const(0), _) => other,
            _ => {
                let mut terms = self.terms();
                terms.extend(other.terms());
                from_terms(0, terms)
            }
        }
    }
}

impl Neg for Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        self * Dim::Const(-1)
    }
}

impl Sub for Dim {
    type Output = Dim;

    fn sub(self, other: Dim) -> Dim {
        self + -other
    }
}

impl Mul for Dim {
    type Output = Dim;

    fn mul(self, other: Dim) -> Dim {
        match (&self, &other) {
            (Dim::Const(a), Dim::Const(b)) => return Dim::Const(a.saturating_mul(*b)),
            (Dim::Const(0), _) | (_, Dim::Const(0)) => return Dim::ZERO,
            (_, Dim::Const(1)) => return self,
            (Dim::Const(1), _) => return other,
            _ => {}
        }
        let (left, right) = (self.terms(), other.terms());
        let degree = |terms: &[Term]| terms.iter().map(|term| term.factors.len()).max().unwrap_or(0);
        if left.len() * right.len() > MOST_TERMS || degree(&left) + degree(&right) > MOST_TERMS {
            return Dim::Const(i64::MAX);
        }
        let mut terms = Vec::new();
        for a in left {
            for b in &right {
                let mut factors: Vec<Atom> = a.factors.iter().chain(&b.factors).cloned().collect();
                factors.sort_unstable();
                terms.push(Term { factors, coefficient: a.coefficient.saturating_mul(b.coefficient) });
            }
        }
        from_terms(0, terms)
    }
}

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(name: &str) -> Dim {
        Dim::symbol(name)
    }

    #[test]
    fn polynomials_are_canonical() {
        assert_eq!((s("a") + s("b")) * (s("a") - s("b")), s("a") * s("a") - s("b") * s("b"));
        assert_eq!(s("a") - s("a"), Dim::ZERO);
        assert_eq!((s("b") * (s("p") + s("q"))).floor_div(&(s("p") + s("q"))), s("b"));
        assert_eq!((s("b") * Dim::Const(64)).floor_div(&Dim::Const(16)), s("b") * Dim::Const(4));
        assert_eq!((s("b") * Dim::Const(64) + Dim::Const(3)).modulo(&Dim::Const(16)), Dim::Const(3));
        assert_eq!(s("x").maximum(&Dim::ZERO), s("x"));
        assert_eq!(s("x").minimum(&(s("x") + Dim::ONE)), s("x"));
    }

    #[test]
    fn hostile_products_overflow_into_an_error() {
        let huge = s("a") * Dim::Const(1 << 40) * s("b");
        let error = huge.eval(&|_| Some(1 << 20)).unwrap_err();
        assert!(matches!(error, EvalError::Overflow(_)));
    }

    #[test]
    fn hostile_expressions_stay_small() {
        let letters: Vec<Dim> = ('a'..='z').map(|c| s(&c.to_string())).collect();
        let sum: Dim = letters.iter().cloned().sum();
        let power = (0..20).fold(Dim::ONE, |product, _| product * sum.clone());
        let doubling = (0..1000).fold(s("x"), |x, _| x.clone().minimum(&(x * s("y") + Dim::Const(-1))));
        let halving = (0..10_000).fold(s("x"), |x, _| (x * s("y") + Dim::Const(3)).floor_div(&Dim::Const(2)));
        for hostile in [power, doubling, halving] {
            let mut room = 2 * MOST_TERMS * MOST_ATOMS;
            assert!(hostile.fits(&mut room, DEEPEST + 1));
        }
        for text in [
            "ceil((0 - 9223372036854775807 - 1)/2)",
            "(0 - 9223372036854775807 - 1)//(0-1)",
            "(x*(0-9223372036854775807-1))//(0-1)",
        ] {
            let dim = text.parse::<Dim>().unwrap();
            let _ = dim.eval(&|_| Some(i64::MAX));
        }
    }

    fn arbitrary_dim() -> impl Strategy<Value = Dim> {
        let leaf = prop_oneof![(-9i64..9).prop_map(Dim::Const), "[abc]".prop_map(|n| Dim::symbol(&n))];
        leaf.prop_recursive(4, 24, 2, |inner| {
            (inner.clone(), inner, 0..7u8).prop_map(|(a, b, op)| match op {
                0 => a + b,
                1 => a - b,
                2 => a * b,
                3 => a.floor_div(&(b.maximum(&Dim::ONE))),
                4 => a.modulo(&(b.maximum(&Dim::ONE))),
                5 => a.minimum(&b),
                _ => a.maximum(&b),
            })
        })
    }

    proptest! {
        #[test]
        fn ranges_contain_values_and_text_round_trips(dim in arbitrary_dim(), a in 0i64..20, b in 0i64..20, c in 0i64..20) {
            let bind = |symbol: &Symbol| Some(match symbol.name() { "a" => a, "b" => b, _ => c });
            let value = dim.eval(&bind).unwrap();
            let range = dim.range_with(&|_| Range { low: 0, high: 20 });
            prop_assert!(range.low <= value && value <= range.high, "{dim}: {value} not in {range:?}");
            let parsed: Dim = dim.to_string().parse().unwrap();
            prop_assert_eq!(parsed.eval(&bind).unwrap(), value);
            let fixed = dim.substitute(&|symbol| bind(symbol).map(Dim::Const));
            prop_assert_eq!(fixed, Dim::Const(value));
        }

        #[test]
        fn division_agrees_with_integers(x in arbitrary_dim(), y in arbitrary_dim(), a in 0i64..20, b in 0i64..20, c in 0i64..20) {
            let bind = |symbol: &Symbol| Some(match symbol.name() { "a" => a, "b" => b, _ => c });
            let (vx, vy) = (x.eval(&bind).unwrap(), y.eval(&bind).unwrap());
            if vy > 0 {
                // Simplification may cancel a divisor that could be 0; where it is not, values agree.
                prop_assert_eq!(x.floor_div(&y).eval(&bind), Ok(vx.div_euclid(vy)));
                prop_assert_eq!(x.modulo(&y).eval(&bind), Ok(vx.rem_euclid(vy)));
            }
            prop_assert_eq!(x.minimum(&y).eval(&bind).unwrap(), vx.min(vy));
            prop_assert_eq!((x.clone() * y.clone()).eval(&bind).unwrap(), vx * vy);
        }
    }
}
