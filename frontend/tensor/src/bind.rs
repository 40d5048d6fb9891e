//! Values of symbols, and how they are learned from the shapes of concrete tensors.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{Dim, EvalError, Shape, Symbol};

/// What the symbols of a graph stand for in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    values: BTreeMap<Symbol, i64>,
}

/// Why sizes cannot be bound.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BindError {
    /// A size is not what the expression gives under the symbols bound so far.
    #[error("the size {dim} is {expected} here, but {found} was given")]
    Mismatch {
        /// The expression.
        dim: String,
        /// Its value under the bindings.
        expected: i64,
        /// The size of the concrete tensor.
        found: i64,
    },
    /// No value of the symbol gives this size.
    #[error("no size `{symbol}` makes {dim} equal to {found}")]
    Unsolvable {
        /// The expression.
        dim: String,
        /// The symbol that it would determine.
        symbol: String,
        /// The size of the concrete tensor.
        found: i64,
    },
    /// A size is negative or too large.
    #[error("the size {dim} is {value}")]
    Size {
        /// The expression.
        dim: String,
        /// Its value.
        value: i64,
    },
    /// The expression has no value.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

impl Bindings {
    /// No symbol is bound.
    pub fn new() -> Bindings {
        Bindings::default()
    }

    /// The value of a symbol.
    pub fn get(&self, symbol: &Symbol) -> Option<i64> {
        self.values.get(symbol).copied()
    }

    /// Binds a symbol, replacing what it was bound to.
    pub fn set(&mut self, symbol: Symbol, value: i64) {
        self.values.insert(symbol, value);
    }

    /// All bound symbols, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Symbol, i64)> {
        self.values.iter().map(|(symbol, value)| (symbol, *value))
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// If a symbol is unbound, a division is by zero or the value overflows.
    pub fn eval(&self, dim: &Dim) -> Result<i64, EvalError> {
        dim.eval(&|symbol| self.get(symbol))
    }

    /// The value of an expression that is a size.
    ///
    /// # Errors
    /// If it has no value or is negative.
    pub fn size(&self, dim: &Dim) -> Result<usize, BindError> {
        let value = self.eval(dim)?;
        usize::try_from(value).map_err(|_| BindError::Size { dim: dim.to_string(), value })
    }

    /// The values of the sizes of a shape.
    ///
    /// # Errors
    /// If one has no value or is negative.
    pub fn shape(&self, dims: &[Dim]) -> Result<Shape, BindError> {
        dims.iter().map(|dim| self.size(dim)).collect()
    }

    /// The expression with every bound symbol replaced by its value.
    pub fn apply(&self, dim: &Dim) -> Dim {
        match dim {
            Dim::Const(_) => dim.clone(),
            Dim::Poly(_) => dim.substitute(&|symbol| self.get(symbol).map(Dim::Const)),
        }
    }

    /// Learns symbols from expressions and the sizes they have: an expression that is linear in one unbound symbol determines
    /// it; expressions without unbound symbols are checked. The order of the pairs does not matter. What leaves several symbols
    /// open (or one under a division) teaches nothing.
    ///
    /// # Errors
    /// If a size contradicts the bindings, or no whole non-negative value of its symbol gives it.
    pub fn learn<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a Dim, i64)>) -> Result<(), BindError> {
        let mut pending: Vec<(&Dim, i64)> = pairs.into_iter().collect();
        loop {
            let before = pending.len();
            let mut open = Vec::new();
            for (dim, found) in pending {
                if !self.learn_one(dim, found)? {
                    open.push((dim, found));
                }
            }
            if open.is_empty() || open.len() == before {
                return Ok(());
            }
            pending = open;
        }
    }

    /// Whether the pair is settled.
    fn learn_one(&mut self, dim: &Dim, found: i64) -> Result<bool, BindError> {
        match self.eval(dim) {
            Ok(expected) if expected == found => return Ok(true),
            Ok(expected) => return Err(BindError::Mismatch { dim: dim.to_string(), expected, found }),
            Err(EvalError::Unbound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let rest = self.apply(dim);
        let symbols = rest.symbols();
        let Some(symbol) = symbols.first().filter(|_| symbols.len() == 1) else { return Ok(false) };
        let Some((factor, offset)) = rest.linear_in(symbol) else { return Ok(false) };
        let (Some(factor), Some(offset)) = (factor.as_const(), offset.as_const()) else { return Ok(false) };
        let value = found.checked_sub(offset).filter(|_| factor != 0);
        let value = value.and_then(|v| (v.checked_rem(factor)? == 0).then(|| v / factor)).filter(|&v| v >= 0);
        let unsolvable = || BindError::Unsolvable { dim: dim.to_string(), symbol: symbol.name().to_owned(), found };
        self.set(symbol.clone(), value.ok_or_else(unsolvable)?);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_solved_whatever_the_order() {
        let (total, past, twice): (Dim, Dim, Dim) =
            ("past + seq".parse().unwrap(), "past".parse().unwrap(), "2*n + 1".parse().unwrap());
        let mut bindings = Bindings::new();
        bindings.learn([(&total, 7), (&past, 3), (&twice, 9)]).unwrap();
        let values: Vec<(&str, i64)> = bindings.iter().map(|(s, v)| (s.name(), v)).collect();
        assert_eq!(values, [("n", 4), ("past", 3), ("seq", 4)]);
    }

    #[test]
    fn contradictions_are_errors() {
        let (n, twice): (Dim, Dim) = ("n".parse().unwrap(), "2*n".parse().unwrap());
        assert!(matches!(Bindings::new().learn([(&n, 3), (&n, 4)]), Err(BindError::Mismatch { found: 4, .. })));
        assert!(matches!(Bindings::new().learn([(&twice, 5)]), Err(BindError::Unsolvable { .. })));
        let larger: Dim = "n + 4".parse().unwrap();
        assert!(matches!(Bindings::new().learn([(&larger, 3)]), Err(BindError::Unsolvable { .. })));
    }
}
