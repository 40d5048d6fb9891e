//! Proves that symbolic expressions are not negative, under what is known of their variables.
//!
//! A goal is decided by intervals where that suffices. Otherwise it is rewritten into goals that imply it: minima and maxima
//! by their alternatives, variables by an end of their range (goals are linear in them), floor divisions by the
//! inequalities that define them, and by subtracting facts. The search is sound, not complete, and bounded in work.

use rustc_hash::FxHashMap;
use tarsia_tensor::{Atom, Dim, Range, Symbol, Term};

/// A variable of a kernel: a grid or loop index, or a scalar that an instruction defines.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its symbol.
    pub symbol: Symbol,
    /// Its highest value; the lowest is 0.
    pub high: Dim,
    /// Its values are multiples of this.
    pub step: i64,
}

/// What is known at a place in a kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    variables: Vec<Variable>,
    ranges: FxHashMap<Symbol, Range>,
    facts: Vec<Dim>,
}

/// Work that proofs may still do, in terms of expressions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(pub usize);

/// Rewritings on the way to one leaf of a proof.
const DEPTH: usize = 14;
/// Goals that one proof may visit.
const GOALS: usize = 300;

impl Context {
    /// Adds a variable, inside all that are there.
    pub fn push(&mut self, variable: Variable) {
        let high = variable.high.range_with(&|symbol| self.range(symbol)).high.max(0);
        self.ranges.insert(variable.symbol.clone(), Range { low: 0, high });
        self.variables.push(variable);
    }

    /// Adds that an expression is not negative.
    pub fn assume(&mut self, fact: Dim) {
        match single_minimum(&fact) {
            // Both alternatives are at least the minimum.
            Some((a, b)) => {
                self.assume(a);
                self.assume(b);
            }
            None => self.facts.push(fact),
        }
    }

    /// The present extent, to come back to.
    pub fn mark(&self) -> (usize, usize) {
        (self.variables.len(), self.facts.len())
    }

    /// Forgets what was added since a mark.
    pub fn reset(&mut self, (variables, facts): (usize, usize)) {
        for variable in self.variables.drain(variables..) {
            self.ranges.remove(&variable.symbol);
        }
        self.facts.truncate(facts);
    }

    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    pub fn facts(&self) -> &[Dim] {
        &self.facts
    }

    /// The variables and facts that may bear on a goal: those that share symbols with it, directly or through others.
    pub fn relevant(&self, goal: &Dim) -> (Vec<Variable>, Vec<Dim>) {
        let mut symbols = goal.symbols();
        let mut facts = vec![false; self.facts.len()];
        loop {
            let before = symbols.len();
            // Inner variables first: their bounds are expressions of outer ones.
            for variable in self.variables.iter().rev().filter(|v| symbols.contains(&v.symbol)).collect::<Vec<_>>() {
                variable.high.collect_symbols(&mut symbols);
            }
            for (fact, taken) in self.facts.iter().zip(&mut facts).filter(|(_, taken)| !**taken) {
                let names = fact.symbols();
                if names.iter().any(|name| symbols.contains(name)) {
                    *taken = true;
                    symbols.extend(names);
                }
            }
            if symbols.len() == before {
                break;
            }
        }
        let variables = self.variables.iter().filter(|v| symbols.contains(&v.symbol)).cloned().collect();
        let facts = self.facts.iter().zip(facts).filter(|(_, taken)| *taken).map(|(fact, _)| fact.clone());
        (variables, facts.collect())
    }

    pub fn range(&self, symbol: &Symbol) -> Range {
        self.ranges.get(symbol).copied().unwrap_or(Range { low: 0, high: i64::MAX })
    }

    pub fn interval(&self, dim: &Dim) -> Range {
        dim.range_with(&|symbol| self.range(symbol))
    }

    /// Whether `goal >= 0` can be proven.
    pub fn proves(&self, goal: &Dim, budget: &mut Budget) -> bool {
        let mut search = Search { context: self, goals: GOALS, budget, naturals: Vec::new() };
        search.proves(goal, &[], DEPTH)
    }
}

/// `(a + rest, b + rest)` if the expression is `min(a, b) + rest`.
fn single_minimum(dim: &Dim) -> Option<(Dim, Dim)> {
    let Dim::Poly(poly) = dim else { return None };
    let found = poly.terms.iter().find_map(|term| match term.factors.as_slice() {
        [atom @ Atom::Min(a, b)] if term.coefficient == 1 => Some((Dim::from(atom.clone()), a, b)),
        _ => None,
    })?;
    let rest = dim.clone() - found.0;
    Some((rest.clone() + found.1.clone(), rest + found.2.clone()))
}

struct Search<'a> {
    context: &'a Context,
    goals: usize,
    budget: &'a mut Budget,
    /// Atoms that have been tried.
    naturals: Vec<(Atom, bool)>,
}

/// The sign of everything that an atom is multiplied with in a sum.
#[derive(Clone, Copy, PartialEq)]
enum Polarity {
    Positive,
    Negative,
    Unknown,
}

impl Search<'_> {
    fn proves(&mut self, goal: &Dim, local: &[Dim], depth: usize) -> bool {
        let Dim::Poly(poly) = goal else { return goal.as_const().is_some_and(|value| value >= 0) };
        let cost = poly.terms.len() + 1;
        if depth == 0 || self.goals == 0 || self.budget.0 < cost {
            return false;
        }
        self.goals -= 1;
        self.budget.0 -= cost;
        let range = self.context.interval(goal);
        if range.low >= 0 || range.high < 0 {
            return range.low >= 0;
        }
        if let ([Term { factors, coefficient: 1.. }], 0..) = (poly.terms.as_slice(), poly.constant)
            && factors.len() > 1
        {
            return factors.iter().all(|factor| self.proves(&Dim::from(factor.clone()), local, depth - 1));
        }
        if let Some(atom) = find(goal, |atom| matches!(atom, Atom::Min(..) | Atom::Max(..))) {
            return self.by_alternatives(goal, &atom, local, depth);
        }
        // Innermost first: the bounds of inner variables are expressions of outer ones.
        let variable = self.context.variables.iter().rev().find(|variable| {
            find(goal, |atom| matches!(atom, Atom::Symbol(symbol) if *symbol == variable.symbol)).is_some()
                && goal.linear_in(&variable.symbol).is_some()
        });
        if let Some(variable) = variable
            && self.by_ends(goal, variable, local, depth)
        {
            return true;
        }
        if variable.is_none()
            && let Some(atom) = outermost_division(goal)
            && self.by_division(goal, &atom, local, depth)
        {
            return true;
        }
        self.by_facts(goal, local, depth)
    }

    fn by_alternatives(&mut self, goal: &Dim, atom: &Atom, local: &[Dim], depth: usize) -> bool {
        let (a, b, bounded) = match atom {
            Atom::Min(a, b) => (a, b, Polarity::Negative),
            Atom::Max(a, b) => (a, b, Polarity::Positive),
            _ => return false,
        };
        let (with_a, with_b) = (replace(goal, atom, a), replace(goal, atom, b));
        if self.polarity(goal, atom, depth) == bounded {
            // Either alternative makes the goal harder, so one that can be proven suffices: first the one of which more cancels.
            let cancelled = |alternative: &Dim, with: &Dim| {
                (terms(goal).len() + terms(alternative).len()).saturating_sub(terms(with).len())
            };
            let swapped = cancelled(b, &with_b) > cancelled(a, &with_a);
            let (first, second) = if swapped { (with_b, with_a) } else { (with_a, with_b) };
            return self.proves(&first, local, depth - 1) || self.proves(&second, local, depth - 1);
        }
        let difference = b.clone() - a.clone();
        let (low, high) = if bounded == Polarity::Negative {
            (difference.clone(), -difference)
        } else {
            (-difference.clone(), difference)
        };
        let with = |fact: Dim| local.iter().cloned().chain([fact]).collect::<Vec<_>>();
        self.proves(&with_a, &with(low), depth - 1) && self.proves(&with_b, &with(high), depth - 1)
    }

    /// A goal that is linear in a variable holds if it holds at both ends; at one, if the slope's sign is known.
    fn by_ends(&mut self, goal: &Dim, variable: &Variable, local: &[Dim], depth: usize) -> bool {
        let Some((slope, rest)) = goal.linear_in(&variable.symbol) else { return false };
        let range = self.context.interval(&slope);
        let at_high = || slope.clone() * variable.high.clone() + rest.clone();
        if range.low >= 0 {
            return self.proves(&rest, local, depth - 1);
        }
        if range.high <= 0 {
            return self.proves(&at_high(), local, depth - 1);
        }
        self.proves(&rest, local, depth - 1) && self.proves(&at_high(), local, depth - 1)
    }

    fn by_division(&mut self, goal: &Dim, atom: &Atom, local: &[Dim], depth: usize) -> bool {
        match atom {
            // What has no remainder is not executed: a divisor of zero is an error where the expression is evaluated.
            Atom::Mod(a, d) if self.context.interval(d).low >= 0 => {
                let quotient = Atom::FloorDiv(a.clone(), d.clone());
                if find(goal, |other| *other == quotient).is_some() {
                    let expanded = a.clone() - d.clone() * Dim::from(quotient);
                    return self.proves(&replace(goal, atom, &expanded), local, depth - 1);
                }
                let bound = match self.polarity(goal, atom, depth) {
                    Polarity::Positive => Dim::ZERO,
                    Polarity::Negative => d.clone() - Dim::ONE,
                    Polarity::Unknown => return false,
                };
                self.proves(&replace(goal, atom, &bound), local, depth - 1)
            }
            Atom::FloorDiv(a, d) if self.context.interval(d).low > 0 => {
                // a - d + 1 <= d·⌊a/d⌋ <= a, so the goal is multiplied by d.
                let bound = match self.polarity(goal, atom, depth) {
                    Polarity::Positive => a.clone() - d.clone() + Dim::ONE,
                    Polarity::Negative => a.clone(),
                    Polarity::Unknown => return false,
                };
                let Some(scaled) = scaled_without(goal, atom, d, &bound) else { return false };
                self.proves(&scaled, local, depth - 1)
            }
            _ => false,
        }
    }

    fn by_facts(&mut self, goal: &Dim, local: &[Dim], depth: usize) -> bool {
        // Facts are useful only where they share a term with the goal.
        let related = |fact: &&Dim| shares_term(goal, fact);
        let known = self.context.facts.iter().chain(local);
        let facts: Vec<Dim> = known.filter(related).cloned().collect();
        let ends: Vec<Dim> = self
            .context
            .variables
            .iter()
            .map(|variable| &variable.high)
            .filter(|high| high.as_const().is_none())
            .filter(related)
            .cloned()
            .collect();
        // As often as the goal has a term that the fact has too.
        let scaled = |fact: Dim| {
            let times = shared_ratio(goal, &fact);
            let often = (times > 1).then(|| Dim::Const(times) * fact.clone());
            often.into_iter().chain([fact]).collect::<Vec<_>>()
        };
        facts
            .into_iter()
            .chain(ends)
            .flat_map(scaled)
            .any(|fact| self.proves(&(goal.clone() - fact), &[], depth.min(4) - 1))
    }

    /// Whether an atom is not negative; sizes of blocks mostly are not, but take a proof.
    fn natural(&mut self, atom: &Atom, depth: usize) -> bool {
        if let Some((_, natural)) = self.naturals.iter().find(|(known, _)| known == atom) {
            return *natural;
        }
        let dim = Dim::from(atom.clone());
        let natural = self.context.interval(&dim).low >= 0 || self.proves(&dim, &[], depth.min(6) - 1);
        self.naturals.push((atom.clone(), natural));
        natural
    }

    fn polarity(&mut self, goal: &Dim, atom: &Atom, depth: usize) -> Polarity {
        let mut found = None;
        for term in terms(goal).iter().filter(|term| term.factors.contains(atom)) {
            let mut others = term.factors.clone();
            others.retain(|factor| factor != atom);
            let alone = others.len() + 1 == term.factors.len();
            let positive = others.iter().all(|factor| self.natural(factor, depth));
            let sign = match (alone && positive, term.coefficient > 0) {
                (false, _) => Polarity::Unknown,
                (true, true) => Polarity::Positive,
                (true, false) => Polarity::Negative,
            };
            match found {
                None => found = Some(sign),
                Some(other) if other == sign => {}
                Some(_) => return Polarity::Unknown,
            }
        }
        found.unwrap_or(Polarity::Unknown)
    }
}

fn terms(dim: &Dim) -> &[Term] {
    match dim {
        Dim::Const(_) => &[],
        Dim::Poly(poly) => &poly.terms,
    }
}

/// The first factor at the top level that is as asked for.
fn find(dim: &Dim, is: impl Fn(&Atom) -> bool) -> Option<Atom> {
    terms(dim).iter().flat_map(|term| &term.factors).find(|atom| is(atom)).cloned()
}

/// The division with the largest dividend: what others are inside of goes first, so that they can cancel.
fn outermost_division(goal: &Dim) -> Option<Atom> {
    let all = terms(goal).iter().flat_map(|term| &term.factors);
    let divisions = all.filter_map(|atom| match atom {
        Atom::FloorDiv(a, _) | Atom::Mod(a, _) => Some((weight(a), atom)),
        _ => None,
    });
    divisions.max_by(|a, b| a.0.cmp(&b.0).then(std::cmp::Ordering::Greater)).map(|(_, atom)| atom.clone())
}

/// The number of atoms at all depths (expressions are limited in size).
fn weight(dim: &Dim) -> usize {
    let inner = |atom: &Atom| match atom {
        Atom::Symbol(_) => 0,
        Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => weight(a) + weight(b),
    };
    terms(dim).iter().flat_map(|term| &term.factors).map(|atom| 1 + inner(atom)).sum()
}

fn shares_term(goal: &Dim, fact: &Dim) -> bool {
    terms(fact).iter().any(|term| terms(goal).iter().any(|other| other.factors == term.factors))
}

/// How many times a term of the fact is in the goal, at most; 0 if none is.
fn shared_ratio(goal: &Dim, fact: &Dim) -> i64 {
    let ratio = |term: &Term| {
        let other = terms(goal).iter().find(|other| other.factors == term.factors)?;
        other.coefficient.checked_div(term.coefficient)
    };
    terms(fact).iter().filter_map(ratio).max().unwrap_or(0)
}

fn constant(dim: &Dim) -> i64 {
    match dim {
        Dim::Const(value) => *value,
        Dim::Poly(poly) => poly.constant,
    }
}

/// The expression with every top-level occurrence of `atom` replaced.
fn replace(dim: &Dim, atom: &Atom, with: &Dim) -> Dim {
    terms(dim).iter().fold(Dim::Const(constant(dim)), |sum, term| {
        let factor = |factor: &Atom| if factor == atom { with.clone() } else { Dim::from(factor.clone()) };
        sum + term.factors.iter().fold(Dim::Const(term.coefficient), |product, f| product * factor(f))
    })
}

/// `scale · dim` where `scale · atom` is replaced; `None` if a term has the atom more than once.
fn scaled_without(dim: &Dim, atom: &Atom, scale: &Dim, with: &Dim) -> Option<Dim> {
    let mut sum = Dim::Const(constant(dim)) * scale.clone();
    for term in terms(dim) {
        let count = term.factors.iter().filter(|factor| *factor == atom).count();
        if count > 1 {
            return None;
        }
        let others = term.factors.iter().filter(|factor| *factor != atom);
        let product = others.fold(Dim::Const(term.coefficient), |product, f| product * Dim::from(f.clone()));
        sum = sum + product * if count == 1 { with.clone() } else { scale.clone() };
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Dim {
        text.parse().unwrap()
    }

    fn context(variables: &[(&str, &str, i64)], facts: &[&str]) -> Context {
        let mut context = Context::default();
        for (name, high, step) in variables {
            context.push(Variable { symbol: Symbol::new(name), high: d(high), step: *step });
        }
        facts.iter().for_each(|fact| context.assume(d(fact)));
        context
    }

    fn proves(variables: &[(&str, &str, i64)], facts: &[&str], goal: &str) -> bool {
        context(variables, facts).proves(&d(goal), &mut Budget(100_000))
    }

    #[test]
    fn blocks_of_a_dynamic_axis_stay_inside() {
        let i = ("i", "floordiv(n + 63, 64) - 1", 1);
        assert!(proves(&[i], &[], "n - 64*i - min(64, n - 64*i)"));
        assert!(proves(&[i], &[], "min(64, n - 64*i)"));
        assert!(proves(&[i], &[], "64 - min(64, n - 64*i)"));
        assert!(!proves(&[i], &[], "n - 64*i - 64"));
        assert!(proves(&[i, ("j", "m - 1", 1)], &[], "64 - min(1, m - j)*min(64, n - 64*i)"));
        // A matrix seen as one axis.
        assert!(proves(&[i], &[], "n*k - 1 - (64*i*k + k*(min(64, n - 64*i) - 1) + k - 1)"));
        assert!(!proves(&[i], &[], "n*k - 2 - (64*i*k + k*(min(64, n - 64*i) - 1) + k - 1)"));
    }

    #[test]
    fn loops_and_scalars_are_bounded() {
        let count = ("c", "min(1024, n - 1024*j)", 1);
        assert!(proves(&[count, ("r", "c - 1", 96)], &[], "1024 - r - min(96, c - r)"));
        assert!(proves(&[("k", "512", 256)], &[], "768 - k - 256"));
        assert!(proves(&[("k", "256*m - 256", 256)], &[], "256*m - k - 256"));
    }

    #[test]
    fn facts_of_branches_count() {
        assert!(proves(&[], &["min(4096 - n, 256 - m)"], "4096 - n"));
        assert!(proves(&[], &["min(4096 - n, 256 - m)"], "256 - m"));
        assert!(!proves(&[], &["4096 - n"], "4095 - n"));
    }

    #[test]
    fn divisions_are_bounded() {
        assert!(proves(&[("i", "7", 1)], &[], "7 - 4*floordiv(i, 4) - mod(i, 4)"));
        assert!(proves(&[], &[], "n - 2*floordiv(n, 2)"));
        assert!(proves(&[], &[], "2*floordiv(n + 1, 2) - n"));
        assert!(!proves(&[], &[], "2*floordiv(n, 2) - n"));
        assert!(proves(&[], &[], "h - 1 - (2*(floordiv(h - 3, 2) + 1 - 1) + 3 - 1)"));
    }

    #[test]
    fn divisions_inside_divisions_cancel() {
        let i = ("i", "floordiv(floordiv(h + 1, 2)*floordiv(w + 1, 2) + 127, 128) - 1", 1);
        assert!(proves(&[i], &[], "min(128, floordiv(h + 1, 2)*floordiv(w + 1, 2) - 128*i)"));
        assert!(proves(
            &[i, ("j", "n - 1", 1)],
            &[],
            "min(1, n - j)*min(128, floordiv(h + 1, 2)*floordiv(w + 1, 2) - 128*i)"
        ));
    }

    #[test]
    fn hostile_goals_end() {
        let minima = (0..12).map(|i| format!("min(a{i}, b{i})*min(c{i}, d{i})")).collect::<Vec<_>>().join(" - ");
        assert!(!proves(&[], &[], &minima));
    }

    proptest::proptest! {
        /// What is proven holds for every value of the variables.
        #[test]
        fn proofs_are_sound(
            terms in proptest::collection::vec((-5i64..6, 0usize..6), 1..4), constant in -20i64..20, n in 1i64..9, fact in -3i64..12,
        ) {
            let atoms = ["n", "i", "min(4, n - i)", "floordiv(n + i, 3)", "mod(n, 4)", "max(i, 3)"];
            let goal = terms.iter().fold(Dim::Const(constant), |sum, &(c, at)| sum + Dim::Const(c) * d(atoms[at]));
            let context = context(&[("i", "n - 1", 1)], &[&format!("{fact} - n")]);
            if context.proves(&goal, &mut Budget(100_000)) && n <= fact {
                for i in 0..n {
                    let value = goal.eval(&|s| Some(if s.name() == "n" { n } else { i })).unwrap();
                    proptest::prop_assert!(value >= 0, "{goal} at n = {n}, i = {i}");
                }
            }
        }
    }
}
