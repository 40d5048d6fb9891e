//! Obligations that only the values of symbols decide: checked when a program is bound to shapes.

use std::collections::BTreeSet;

use tarsia_tensor::{Dim, Symbol};
use thiserror::Error;

use super::prove::{Budget, Context, Variable};
use crate::text::Anchor;

/// Combinations of variables that are tried one by one where no proof is found.
const COMBINATIONS: usize = 1 << 16;
/// So few are tried without looking for a proof in between.
const FEW: i64 = 256;
/// Work that one proof in between may do, and all of them together.
const PROOF: usize = 2_000;
const PROOFS: usize = 4_000_000;
const TOO_MANY: &str = " (too many cases to try)";

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

/// Tries the values of the variables: `None` if the goal holds for all, otherwise why not.
fn try_all(goal: &Dim, context: &Context) -> Option<String> {
    Trial { left: COMBINATIONS, proofs: PROOFS, chosen: Vec::new() }.split(goal, context)
}

struct Trial {
    /// How many cases may still be tried.
    left: usize,
    /// How much work proofs may still do.
    proofs: usize,
    /// Values of variables that are replaced already.
    chosen: Vec<(Symbol, i64)>,
}

impl Trial {
    /// Where there are many cases, one value of the outermost variable after the other: with it known, there may be a proof for the rest.
    fn split(&mut self, goal: &Dim, context: &Context) -> Option<String> {
        let straight: Vec<bool> = context.variables().iter().map(|one| is_straight(goal, one, context)).collect();
        let count = |(variable, &straight): (&Variable, &bool)| match context.interval(&variable.high).high {
            high if straight => high.clamp(1, 2),
            high => (high.max(0) / variable.step.max(1)).saturating_add(1),
        };
        let cases = context.variables().iter().zip(&straight).map(count).fold(1i64, i64::saturating_mul);
        let outermost = context.variables().first().and_then(|one| Some((one, one.high.as_const()?)));
        let Some((variable, high)) = outermost.filter(|_| cases > FEW) else {
            return self.each(goal, context, &straight, &mut Vec::new());
        };
        for value in values(variable, high, straight[0]) {
            if self.left == 0 {
                return Some(TOO_MANY.to_owned());
            }
            self.left -= 1;
            let Some((goal, rest)) = with(goal, context, value) else { continue };
            let mut budget = Budget(PROOF.min(self.proofs));
            let given = budget.0;
            let proven = rest.proves(&goal, &mut budget);
            self.proofs -= given - budget.0;
            if proven {
                continue;
            }
            self.chosen.push((variable.symbol.clone(), value));
            let wrong = self.split(&goal, &rest);
            self.chosen.pop();
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    /// Evaluates the goal for all values.
    fn each(&mut self, goal: &Dim, context: &Context, straight: &[bool], here: &mut Vec<i64>) -> Option<String> {
        let variables = context.variables();
        let bind = |here: &[i64], symbol: &Symbol| {
            variables.iter().zip(here).find(|(v, _)| v.symbol == *symbol).map(|(_, &value)| value)
        };
        if let Some(variable) = variables.get(here.len()) {
            let high = match variable.high.eval(&|symbol| bind(here, symbol)) {
                Ok(high) => high,
                Err(error) => return Some(format!(" ({error})")),
            };
            return values(variable, high, straight[here.len()]).find_map(|value| {
                here.push(value);
                let wrong = self.each(goal, context, straight, here);
                here.pop();
                wrong
            });
        }
        if self.left == 0 {
            return Some(TOO_MANY.to_owned());
        }
        self.left -= 1;
        let bind = |symbol: &Symbol| bind(here, symbol);
        let excluded = context.facts().iter().any(|fact| matches!(fact.eval(&bind), Ok(value) if value < 0));
        match goal.eval(&bind) {
            _ if excluded => None,
            Ok(value) if value >= 0 => None,
            Ok(_) => {
                let chosen = self.chosen.iter().map(|(symbol, value)| (symbol, *value));
                let all = chosen.chain(variables.iter().map(|v| &v.symbol).zip(here.iter().copied()));
                let at: Vec<String> = all.map(|(symbol, value)| format!("{symbol} = {value}")).collect();
                let nowhere = at.is_empty();
                Some(if nowhere { " (it is more)".to_owned() } else { format!(" (it is more at {})", at.join(", ")) })
            }
            Err(error) => Some(format!(" ({error})")),
        }
    }
}

/// Whether the goal is linear in a variable on which nothing else depends: then it holds for all its values if it does for both ends.
fn is_straight(goal: &Dim, variable: &Variable, context: &Context) -> bool {
    let within = |dim: &Dim| dim.symbols().contains(&variable.symbol);
    let mut others = context.facts().iter().chain(context.variables().iter().map(|other| &other.high));
    goal.linear_in(&variable.symbol).is_some() && !others.any(within)
}

/// All values, or both ends.
fn values(variable: &Variable, high: i64, ends: bool) -> impl Iterator<Item = i64> {
    let step = variable.step.max(1);
    let last = high - high.rem_euclid(step);
    (0..=high).step_by(if ends { last.max(1) } else { step } as usize)
}

/// The goal and what is known with a value of the outermost variable; `None` if nothing is done there.
fn with(goal: &Dim, context: &Context, value: i64) -> Option<(Dim, Context)> {
    let (variable, inner) = context.variables().split_first()?;
    let known = |dim: &Dim| dim.substitute(&|symbol| (*symbol == variable.symbol).then_some(Dim::Const(value)));
    let mut rest = Context::default();
    for Variable { symbol, high, step } in inner {
        let high = known(high);
        if rest.interval(&high).high < 0 {
            return None;
        }
        rest.push(Variable { symbol: symbol.clone(), high, step: *step });
    }
    for fact in context.facts() {
        let fact = known(fact);
        if rest.interval(&fact).high < 0 {
            return None;
        }
        rest.assume(fact);
    }
    Some((known(goal), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(variables: &[(&str, &str, i64)], facts: &[&str], goal: &str) -> Option<String> {
        let d = |text: &str| text.parse::<Dim>().expect("an expression");
        let mut context = Context::default();
        for (name, high, step) in variables {
            context.push(Variable { symbol: Symbol::new(name), high: d(high), step: *step });
        }
        facts.iter().for_each(|fact| context.assume(d(fact)));
        try_all(&d(goal), &context)
    }

    /// 24 cores, 4 items and one more turn, 32 chunks each, rows of an output of 96 items.
    #[test]
    fn what_is_linear_is_tried_at_its_ends() {
        let variables = [
            ("core", "23", 1),
            ("item", "4", 1),
            ("chunk", "min(32, 130 - 32*item) - 1", 1),
            ("lane", "1", 1),
            ("row", "60", 4),
        ];
        let last = ["1 - chunk", "chunk - 1"];
        let place =
            "65536*core + 1572864*item + 1572864*floordiv(chunk + 30, 32) - 1572864 + 32768*lane + 512*row + 2047";
        assert_eq!(tried(&variables, &[&last[..], &["item - 1"]].concat(), &format!("6291455 - ({place})")), None);
        let reason = tried(&variables, &last, &format!("6291454 - ({place})"));
        assert_eq!(reason.as_deref(), Some(" (it is more at core = 23, item = 4, chunk = 1, lane = 1, row = 60)"));
    }

    /// For each of a thousand values there is a proof, for all together there is none.
    #[test]
    fn a_value_may_be_all_that_a_proof_lacks() {
        let variables = [("a", "999", 1), ("b", "999", 1), ("c", "b", 1)];
        assert_eq!(tried(&variables, &[], "mod(a, 7)*(b - c) + mod(a*a, 3)*b"), None);
        let reason = tried(&variables, &[], "mod(a, 7)*(b - c) + mod(a*a, 3)*b - max(0, a - 998)*(b + 1)");
        assert!(reason.is_some_and(|reason| reason.starts_with(" (it is more at a = 999, b = ")));
    }
}
