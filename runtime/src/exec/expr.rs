//! Index expressions as straight-line code over a file of `i64` registers.
//!
//! Every distinct sub-expression of a kernel has one register and is computed once, where the innermost symbol that it
//! depends on gets its value: constants when the kernel is compiled, sizes when the program is bound, the rest at the
//! head of the work item or loop (its *scope*). Arithmetic wraps and a division by zero gives 0: whatever comes out is
//! checked against the memory it addresses before it is used.

use rustc_hash::FxHashMap;
use tarsia_tensor::{Atom, Dim, Symbol};

/// Number of a register.
pub type Reg = u32;

/// Number of a scope. A scope that encloses another has the lower number.
pub type Scope = u32;

/// Registers that are known when the kernel is compiled.
pub const CONSTANT: Scope = 0;
/// Registers that are known when sizes are bound.
pub const BOUND: Scope = 1;

/// One step of straight-line code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calc {
    dst: Reg,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// `c + Σ factor · register` over a range of the term table.
    Linear(i64, u32, u32),
    /// `c · a + b`.
    Scaled(i64, Reg, Reg),
    Mul(Reg, Reg),
    FloorDiv(Reg, Reg),
    Mod(Reg, Reg),
    Min(Reg, Reg),
    Max(Reg, Reg),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Constant(i64),
    Linear(i64, Vec<(i64, Reg)>),
    Mul(Reg, Reg),
    FloorDiv(Reg, Reg),
    Mod(Reg, Reg),
    Min(Reg, Reg),
    Max(Reg, Reg),
}

/// Straight-line code by scope.
#[derive(Clone, Debug, Default)]
pub struct Calcs {
    scopes: Vec<Vec<Calc>>,
    terms: Vec<(i64, Reg)>,
    /// Initial values of all registers: constants, and 0 for the others.
    pub initial: Vec<i64>,
}

/// Assigns registers to expressions.
#[derive(Default)]
pub struct Registers {
    calcs: Calcs,
    scope_of: Vec<Scope>,
    nodes: FxHashMap<Node, Reg>,
    dims: FxHashMap<Dim, Reg>,
    symbols: FxHashMap<Symbol, Reg>,
}

impl Calcs {
    /// Computes the registers of one scope.
    #[inline]
    pub fn run(&self, scope: Scope, registers: &mut [i64]) {
        for calc in &self.scopes[scope as usize] {
            registers[calc.dst as usize] = self.value(calc, registers);
        }
    }

    #[inline(always)]
    fn value(&self, calc: &Calc, registers: &[i64]) -> i64 {
        let r = |register: Reg| registers[register as usize];
        match calc.what {
            What::Linear(constant, first, count) => {
                let terms = &self.terms[first as usize..(first + count) as usize];
                terms.iter().fold(constant, |sum, &(c, x)| sum.wrapping_add(c.wrapping_mul(r(x))))
            }
            What::Scaled(c, a, b) => c.wrapping_mul(r(a)).wrapping_add(r(b)),
            What::Mul(a, b) => r(a).wrapping_mul(r(b)),
            What::FloorDiv(a, b) => floor_div(r(a), r(b)),
            What::Mod(a, b) => r(a).wrapping_sub(floor_div(r(a), r(b)).wrapping_mul(r(b))),
            What::Min(a, b) => r(a).min(r(b)),
            What::Max(a, b) => r(a).max(r(b)),
        }
    }
}

/// Floor division; 0 for a zero divisor.
fn floor_div(a: i64, b: i64) -> i64 {
    if b == 0 {
        return 0;
    }
    let q = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { q - 1 } else { q }
}

impl Registers {
    /// No registers, and the scopes for constants and bound sizes.
    pub fn new() -> Registers {
        let mut registers = Registers::default();
        registers.calcs.scopes = vec![Vec::new(), Vec::new()];
        registers
    }

    /// Opens a scope inside those that are open.
    pub fn open(&mut self) -> Scope {
        self.calcs.scopes.push(Vec::new());
        (self.calcs.scopes.len() - 1) as Scope
    }

    /// The scope opened last.
    pub fn last_scope(&self) -> Scope {
        (self.calcs.scopes.len() - 1) as Scope
    }

    /// The register of a symbol that gets its value at the head of `scope`.
    pub fn define(&mut self, symbol: &Symbol, scope: Scope) -> Reg {
        let register = self.fresh(scope, 0);
        self.symbols.insert(symbol.clone(), register);
        register
    }

    /// The register of a symbol, if it is defined.
    pub fn symbol(&self, symbol: &Symbol) -> Option<Reg> {
        self.symbols.get(symbol).copied()
    }

    /// The register of a number.
    pub fn constant(&mut self, value: i64) -> Reg {
        let node = Node::Constant(value);
        if let Some(&register) = self.nodes.get(&node) {
            return register;
        }
        let register = self.fresh(CONSTANT, value);
        self.nodes.insert(node, register);
        register
    }

    /// The register of an expression.
    ///
    /// # Errors
    /// The symbol that is not defined.
    pub fn dim(&mut self, dim: &Dim) -> Result<Reg, Symbol> {
        let poly = match dim {
            Dim::Const(value) => return Ok(self.constant(*value)),
            Dim::Poly(poly) => poly,
        };
        if let Some(&register) = self.dims.get(dim) {
            return Ok(register);
        }
        let mut terms = Vec::with_capacity(poly.terms.len());
        for term in &poly.terms {
            let mut product = None;
            for factor in &term.factors {
                let factor = self.atom(factor)?;
                product = Some(product.map_or(factor, |p| self.mul(p, factor)));
            }
            if let Some(product) = product {
                terms.push((term.coefficient, product));
            }
        }
        let register = self.linear(poly.constant, terms);
        self.dims.insert(dim.clone(), register);
        Ok(register)
    }

    fn atom(&mut self, atom: &Atom) -> Result<Reg, Symbol> {
        let (node, a, b): (fn(Reg, Reg) -> Node, _, _) = match atom {
            Atom::Symbol(symbol) => return self.symbol(symbol).ok_or_else(|| symbol.clone()),
            Atom::FloorDiv(a, b) => (Node::FloorDiv, a, b),
            Atom::Mod(a, b) => (Node::Mod, a, b),
            Atom::Min(a, b) => (Node::Min, a, b),
            Atom::Max(a, b) => (Node::Max, a, b),
        };
        let (a, b) = (self.dim(a)?, self.dim(b)?);
        Ok(self.node(node(a, b)))
    }

    /// The product of two registers.
    pub fn mul(&mut self, a: Reg, b: Reg) -> Reg {
        match (self.known(a), self.known(b)) {
            (Some(a), Some(b)) => self.constant(a.wrapping_mul(b)),
            (Some(c), None) => self.linear(0, vec![(c, b)]),
            (None, Some(c)) => self.linear(0, vec![(c, a)]),
            (None, None) => self.node(Node::Mul(a.min(b), a.max(b))),
        }
    }

    /// The sum of registers.
    pub fn sum(&mut self, parts: impl IntoIterator<Item = Reg>) -> Reg {
        let terms = parts.into_iter().map(|part| (1, part)).collect();
        self.linear(0, terms)
    }

    /// The value of a register, if it is a constant.
    pub fn known(&self, register: Reg) -> Option<i64> {
        (self.scope_of[register as usize] == CONSTANT).then(|| self.calcs.initial[register as usize])
    }

    fn linear(&mut self, constant: i64, terms: Vec<(i64, Reg)>) -> Reg {
        let mut total = constant;
        let mut merged: Vec<(i64, Reg)> = Vec::with_capacity(terms.len());
        for (factor, register) in terms {
            if let Some(value) = self.known(register) {
                total = total.wrapping_add(factor.wrapping_mul(value));
            } else if let Some(term) = merged.iter_mut().find(|(_, r)| *r == register) {
                term.0 = term.0.wrapping_add(factor);
            } else {
                merged.push((factor, register));
            }
        }
        merged.retain(|&(factor, _)| factor != 0);
        merged.sort_unstable_by_key(|&(_, register)| register);
        match merged.as_slice() {
            [] => self.constant(total),
            [(1, register)] if total == 0 => *register,
            _ => self.node(Node::Linear(total, merged)),
        }
    }

    fn node(&mut self, node: Node) -> Reg {
        if let Some(&register) = self.nodes.get(&node) {
            return register;
        }
        let scope = match &node {
            Node::Constant(_) => CONSTANT,
            Node::Linear(_, terms) => terms.iter().map(|&(_, r)| self.scope_of[r as usize]).max().unwrap_or(CONSTANT),
            Node::Mul(a, b) | Node::FloorDiv(a, b) | Node::Mod(a, b) | Node::Min(a, b) | Node::Max(a, b) => {
                self.scope_of[*a as usize].max(self.scope_of[*b as usize])
            }
        };
        let what = self.encode(&node);
        if scope == CONSTANT {
            let calc = Calc { dst: 0, what };
            let value = self.calcs.value(&calc, &self.calcs.initial);
            return self.constant(value);
        }
        let dst = self.fresh(scope, 0);
        self.calcs.scopes[scope as usize].push(Calc { dst, what });
        self.nodes.insert(node, dst);
        dst
    }

    fn encode(&mut self, node: &Node) -> What {
        match node {
            Node::Constant(value) => What::Linear(*value, 0, 0),
            Node::Linear(0, terms) => match terms.as_slice() {
                [(c, a), (1, b)] | [(1, b), (c, a)] => What::Scaled(*c, *a, *b),
                _ => self.encode_terms(0, terms),
            },
            Node::Linear(constant, terms) => self.encode_terms(*constant, terms),
            Node::Mul(a, b) => What::Mul(*a, *b),
            Node::FloorDiv(a, b) => What::FloorDiv(*a, *b),
            Node::Mod(a, b) => What::Mod(*a, *b),
            Node::Min(a, b) => What::Min(*a, *b),
            Node::Max(a, b) => What::Max(*a, *b),
        }
    }

    fn encode_terms(&mut self, constant: i64, terms: &[(i64, Reg)]) -> What {
        let first = self.calcs.terms.len() as u32;
        self.calcs.terms.extend_from_slice(terms);
        What::Linear(constant, first, terms.len() as u32)
    }

    fn fresh(&mut self, scope: Scope, value: i64) -> Reg {
        self.scope_of.push(scope);
        self.calcs.initial.push(value);
        (self.scope_of.len() - 1) as Reg
    }

    /// The code, once all expressions have their registers.
    pub fn finish(self) -> Calcs {
        self.calcs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(text: &str, n: i64, i: i64) -> i64 {
        let dim: Dim = text.parse().expect("expression");
        let mut registers = Registers::new();
        let size = registers.define(&Symbol::new("n"), BOUND);
        let scope = registers.open();
        let var = registers.define(&Symbol::new("i"), scope);
        let result = registers.dim(&dim).expect("symbols are defined");
        let calcs = registers.finish();
        let mut file = calcs.initial.clone();
        file[size as usize] = n;
        calcs.run(BOUND, &mut file);
        file[var as usize] = i;
        calcs.run(scope, &mut file);
        file[result as usize]
    }

    #[test]
    fn code_agrees_with_evaluation() {
        for text in
            ["7", "n", "2*n + 3*i - 5", "min(n - i, 32)", "floordiv(n*i + 3, 4)", "mod(n + i, 5)", "max(i*i, n)"]
        {
            let dim: Dim = text.parse().expect("expression");
            for (n, i) in [(0, 0), (5, 3), (17, 40)] {
                let bind = |s: &Symbol| Some(if s.name() == "n" { n } else { i });
                assert_eq!(eval(text, n, i), dim.eval(&bind).expect("bound"), "{text} n={n} i={i}");
            }
        }
    }

    #[test]
    fn equal_expressions_share_a_register_and_sizes_are_hoisted() {
        let mut registers = Registers::new();
        registers.define(&Symbol::new("n"), BOUND);
        let scope = registers.open();
        registers.define(&Symbol::new("i"), scope);
        let a = registers.dim(&"n*n + i".parse().expect("dim")).expect("defined");
        let b = registers.dim(&"i + n*n".parse().expect("dim")).expect("defined");
        assert_eq!(a, b);
        let calcs = registers.finish();
        assert_eq!(calcs.scopes[BOUND as usize].len(), 1);
        assert_eq!(calcs.scopes[scope as usize].len(), 1);
    }

    #[test]
    fn undefined_symbols_are_named() {
        assert_eq!(Registers::new().dim(&Dim::symbol("q")), Err(Symbol::new("q")));
    }
}
