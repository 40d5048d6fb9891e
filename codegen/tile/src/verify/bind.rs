//! Obligations that only the values of symbols decide: checked when a program is bound to shapes.

use std::collections::BTreeSet;

use tarsia_tensor::{Dim, Symbol};
use thiserror::Error;

use super::prove::{Budget, Context, Variable};
use crate::text::Anchor;

/// Combinations of variables that are tried one by one where no proof is found.
const COMBINATIONS: usize = 1 << 16;

/// An inequality that has to hold for every value of its variables.
#[derive(Clone, Debug, PartialEq)]
pub struct BindCheck {
    /// What is at stake, in words.
    pub what: String,
    /// The statement, in the listing of the program.
    pub anchor: Anchor,
    /// Not more than `right`.
    pub left: Dim,
    /// Not less than `left`.
    pub right: Dim,
    /// Grid and loop variables and scalars it may depend on, outermost first.
    pub variables: Vec<Variable>,
    /// What else is known where it stands: these are not negative.
    pub facts: Vec<Dim>,
}

/// An obligation that does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what}: {left} must be at most {right}{reason}")]
pub struct Violated {
    what: String,
    left: String,
    right: String,
    reason: String,
}

impl BindCheck {
    /// Whether the obligation holds for these values of the program's symbols.
    ///
    /// # Errors
    /// If it does not, or if neither proof nor trying decide.
    pub fn check(&self, bind: &dyn Fn(&Symbol) -> Option<i64>) -> Result<(), Violated> {
        let local = |symbol: &Symbol| self.variables.iter().any(|variable| variable.symbol == *symbol);
        let replace = |symbol: &Symbol| if local(symbol) { None } else { bind(symbol).map(Dim::Const) };
        let known = |dim: &Dim| dim.substitute(&replace);
        let mut context = Context::default();
        for Variable { symbol, high, step } in &self.variables {
            let high = known(high);
            if high.range().high < 0 {
                // Nothing is ever done there.
                return Ok(());
            }
            context.push(Variable { symbol: symbol.clone(), high, step: *step });
        }
        self.facts.iter().for_each(|fact| context.assume(known(fact)));
        let goal = known(&(self.right.clone() - self.left.clone()));
        if context.proves(&goal, &mut Budget(100_000)) {
            return Ok(());
        }
        match try_all(&goal, &context) {
            None => Ok(()),
            Some(reason) => Err(Violated {
                what: self.what.clone(),
                left: self.left.to_string(),
                right: self.right.to_string(),
                reason,
            }),
        }
    }

    /// The program's symbols it depends on.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut symbols = BTreeSet::new();
        let highs = self.variables.iter().map(|variable| &variable.high);
        let all = highs.chain(&self.facts).chain([&self.left, &self.right]);
        all.for_each(|dim| dim.collect_symbols(&mut symbols));
        self.variables.iter().for_each(|variable| {
            symbols.remove(&variable.symbol);
        });
        symbols
    }
}

/// Evaluates the goal for every value of the variables: `None` if it holds, otherwise why not.
fn try_all(goal: &Dim, context: &Context) -> Option<String> {
    let mut values = Vec::new();
    let mut left = COMBINATIONS;
    try_from(goal, context, &mut values, &mut left)
}

fn try_from(goal: &Dim, context: &Context, values: &mut Vec<i64>, left: &mut usize) -> Option<String> {
    let variables = context.variables();
    let here = values.clone();
    let bind =
        |symbol: &Symbol| variables.iter().zip(&here).find(|(v, _)| v.symbol == *symbol).map(|(_, &value)| value);
    if let Some(variable) = variables.get(values.len()) {
        let high = match variable.high.eval(&bind) {
            Ok(high) => high,
            Err(error) => return Some(format!(" ({error})")),
        };
        let mut value = 0i64;
        while value <= high {
            values.push(value);
            let wrong = try_from(goal, context, values, left);
            values.pop();
            if wrong.is_some() {
                return wrong;
            }
            value = value.checked_add(variable.step.max(1))?;
        }
        return None;
    }
    if *left == 0 {
        return Some(" (too many cases to try)".to_owned());
    }
    *left -= 1;
    let excluded = context.facts().iter().any(|fact| matches!(fact.eval(&bind), Ok(value) if value < 0));
    match goal.eval(&bind) {
        _ if excluded => None,
        Ok(value) if value >= 0 => None,
        Ok(_) => {
            let at: Vec<String> =
                variables.iter().zip(&here).map(|(v, value)| format!("{} = {value}", v.symbol)).collect();
            Some(if at.is_empty() { " (it is more)".to_owned() } else { format!(" (it is more at {})", at.join(", ")) })
        }
        Err(error) => Some(format!(" ({error})")),
    }
}
