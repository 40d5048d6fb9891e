//! The text of one function: SSA names, constants at the top, index arithmetic that is written once per scope.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use tarsia_tensor::{Atom, DType, Dim, Symbol, Term};

use super::{Missing, Result};

/// Text under construction.
pub struct Writer {
    constants: BTreeMap<String, String>,
    prologue: String,
    /// Where the work on an item begins in the body, and what belongs there.
    item: (usize, String),
    body: String,
    depth: usize,
    next: usize,
    scopes: Vec<Scope>,
}

/// What is known between two braces.
#[derive(Clone, Default)]
struct Scope {
    dims: HashMap<Dim, String>,
    symbols: HashMap<Symbol, String>,
    values: HashMap<String, String>,
}

/// A state to go back to.
#[derive(Clone)]
pub struct Mark {
    body: usize,
    depth: usize,
    scopes: Vec<Scope>,
}

impl Writer {
    /// An empty body.
    pub fn new() -> Writer {
        Writer {
            constants: BTreeMap::new(),
            prologue: String::new(),
            item: (0, String::new()),
            body: String::new(),
            depth: 2,
            next: 0,
            scopes: vec![Scope::default()],
        }
    }

    /// Constants, buffers and body, in this order.
    pub fn finish(self) -> String {
        let (before, after) = self.body.split_at(self.item.0);
        format!("{}{before}{}{after}", self.prologue, self.item.1)
    }

    /// Here the work on an item begins.
    pub fn begin_item(&mut self) {
        self.item.0 = self.body.len();
    }

    /// A value at the top of the work on an item.
    pub fn hoisted_in_item(&mut self, text: &str) -> String {
        if let Some(name) = self.constants.get(text) {
            return name.clone();
        }
        let name = self.fresh();
        let _ = writeln!(self.item.1, "{:1$}{name} = {text}", "", 6);
        self.constants.insert(text.to_owned(), name.clone());
        name
    }

    /// The state now.
    pub fn mark(&self) -> Mark {
        Mark { body: self.body.len(), depth: self.depth, scopes: self.scopes.clone() }
    }

    /// Forgets what was written since; names stay unique, and constants stay.
    pub fn reset(&mut self, mark: Mark) {
        self.body.truncate(mark.body);
        self.depth = mark.depth;
        self.scopes = mark.scopes;
    }

    /// A name that is new in the function.
    pub fn fresh(&mut self) -> String {
        self.next += 1;
        format!("%{}", self.next)
    }

    /// One line.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.body, "{:1$}{text}", "", self.depth * 2);
    }

    /// One line that defines a value; gives its name.
    pub fn value(&mut self, text: &str) -> String {
        let name = self.fresh();
        self.line(&format!("{name} = {text}"));
        name
    }

    /// A value at the top of the function.
    pub fn hoisted(&mut self, text: &str) -> String {
        if let Some(name) = self.constants.get(text) {
            return name.clone();
        }
        let name = self.fresh();
        let _ = writeln!(self.prologue, "    {name} = {text}");
        self.constants.insert(text.to_owned(), name.clone());
        name
    }

    /// A value that is written once per scope.
    pub fn shared(&mut self, text: &str) -> String {
        let known = self.scopes.iter().rev().find_map(|scope| scope.values.get(text));
        if let Some(name) = known {
            return name.clone();
        }
        let name = self.value(text);
        if let Some(scope) = self.scopes.last_mut() {
            scope.values.insert(text.to_owned(), name.clone());
        }
        name
    }

    /// A line that opens a block.
    pub fn open(&mut self, text: &str) {
        self.line(text);
        self.depth += 1;
        self.scopes.push(Scope::default());
    }

    /// A line that closes a block.
    pub fn close(&mut self, text: &str) {
        self.depth -= 1;
        self.scopes.pop();
        self.line(text);
    }

    /// Begins the second block of a branch, whose line [`Writer::close`] has written.
    pub fn open_again(&mut self) {
        self.depth += 1;
        self.scopes.push(Scope::default());
    }

    /// Gives a symbol its value in the current block.
    pub fn bind(&mut self, symbol: &Symbol, value: String) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.symbols.insert(symbol.clone(), value);
        }
    }

    /// `scf.for` from 0; gives the loop variable. Close with [`Writer::close`].
    pub fn open_for(&mut self, end: &Dim, step: i64) -> Result<String> {
        let (zero, end, step) = (self.integer(0), self.index(end)?, self.integer(step));
        let name = self.fresh();
        self.open(&format!("scf.for {name} = {zero} to {end} step {step} {{"));
        Ok(name)
    }

    /// A constant index.
    pub fn integer(&mut self, value: i64) -> String {
        self.hoisted(&format!("arith.constant {value} : index"))
    }

    /// A number of an element type, as its text.
    pub fn number(&mut self, value: f64, dtype: DType) -> Result<String> {
        let ty = element(dtype)?;
        let text = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => float_literal(value, dtype),
            _ => format!("{}", value as i64),
        };
        Ok(self.hoisted(&format!("arith.constant {text} : {ty}")))
    }

    /// The number behind a constant, if the value is one.
    pub fn number_text(&self, value: &super::pointwise::Value) -> Option<f64> {
        let (name, _) = value.text();
        let text = self.constants.iter().find(|(_, known)| **known == name)?.0;
        text.strip_prefix("arith.constant ")?.split(' ').next()?.parse().ok()
    }

    /// The value of an index expression.
    ///
    /// # Errors
    /// If a symbol has no value here.
    pub fn index(&mut self, dim: &Dim) -> Result<String> {
        let poly = match dim {
            Dim::Const(value) => return Ok(self.integer(*value)),
            Dim::Poly(poly) => poly.clone(),
        };
        if let Some(name) = self.scopes.iter().rev().find_map(|scope| scope.dims.get(dim)) {
            return Ok(name.clone());
        }
        let mut sum: Option<String> = (poly.constant != 0).then(|| self.integer(poly.constant));
        for term in &poly.terms {
            let term = self.term(term)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => self.value(&format!("arith.addi {sum}, {term} : index")),
            });
        }
        let name = sum.unwrap_or_else(|| self.integer(0));
        if let Some(scope) = self.scopes.last_mut() {
            scope.dims.insert(dim.clone(), name.clone());
        }
        Ok(name)
    }

    fn term(&mut self, term: &Term) -> Result<String> {
        let mut product: Option<String> = (term.coefficient != 1).then(|| self.integer(term.coefficient));
        for factor in &term.factors {
            let factor = self.atom(factor)?;
            product = Some(match product {
                None => factor,
                Some(product) => self.value(&format!("arith.muli {product}, {factor} : index")),
            });
        }
        Ok(product.unwrap_or_else(|| self.integer(1)))
    }

    fn atom(&mut self, atom: &Atom) -> Result<String> {
        match atom {
            Atom::Symbol(symbol) => {
                let known = self.scopes.iter().rev().find_map(|scope| scope.symbols.get(symbol));
                known.cloned().ok_or_else(|| Missing(format!("the value of `{}` is not known here", symbol.name())))
            }
            Atom::FloorDiv(a, b) => {
                let op = if a.range().low >= 0 { "divsi" } else { "floordivsi" };
                self.two(op, a, b)
            }
            Atom::Mod(a, b) if a.range().low >= 0 => self.two("remsi", a, b),
            Atom::Mod(a, b) => {
                let quotient = self.two("floordivsi", a, b)?;
                let (a, b) = (self.index(a)?, self.index(b)?);
                let whole = self.value(&format!("arith.muli {quotient}, {b} : index"));
                Ok(self.value(&format!("arith.subi {a}, {whole} : index")))
            }
            Atom::Min(a, b) => self.two("minsi", a, b),
            Atom::Max(a, b) => self.two("maxsi", a, b),
        }
    }

    fn two(&mut self, op: &str, a: &Dim, b: &Dim) -> Result<String> {
        let (a, b) = (self.index(a)?, self.index(b)?);
        Ok(self.shared(&format!("arith.{op} {a}, {b} : index")))
    }
}

/// MLIR's name of an element type; a bool is a byte in memory, and integers have no sign.
pub fn element(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I64 | DType::U64 => "i64",
        DType::I32 | DType::U32 => "i32",
        DType::I16 | DType::U16 => "i16",
        DType::I8 | DType::U8 | DType::Bool => "i8",
        _ if dtype.bits() == 8 => "i8",
        _ => return Err(Missing(format!("the element type {dtype}"))),
    })
}

fn float_literal(value: f64, dtype: DType) -> String {
    // Narrowed here, so that text and hardware agree on infinities.
    let narrow = if dtype == DType::F32 { f64::from(value as f32) } else { value };
    if !narrow.is_finite() {
        let (infinity, nan, sign) = match dtype {
            DType::F32 => ("7F800000", "7FC00000", "FF800000"),
            DType::F16 => ("7C00", "7E00", "FC00"),
            _ => ("7F80", "7FC0", "FF80"),
        };
        let bits = if narrow.is_nan() {
            nan
        } else if narrow < 0.0 {
            sign
        } else {
            infinity
        };
        return format!("0x{bits}");
    }
    let text = format!("{narrow:e}");
    if text.contains('.') { text } else { text.replacen('e', ".0e", 1) }
}
