//! Sizes of the model's inputs: known, named, expressions of names, or fresh.

use std::collections::BTreeSet;

use tarsia_tensor::{Dim, Symbol};

use super::Options;
use crate::Dimension;

/// Names of sizes in use, so that fresh ones differ.
#[derive(Debug)]
pub(crate) struct Symbols<'o> {
    options: &'o Options,
    /// Names that stand alone as a dimension of an input.
    declared: BTreeSet<String>,
    used: BTreeSet<String>,
}

impl<'o> Symbols<'o> {
    /// Symbols for inputs with these dimensions.
    pub fn new<'a>(options: &'o Options, dims: impl Iterator<Item = Dimension<'a>>) -> Symbols<'o> {
        let mut symbols = Symbols { options, declared: BTreeSet::new(), used: BTreeSet::new() };
        for dim in dims {
            if let Dimension::Named(text) = dim {
                symbols.used.insert(text.to_owned());
                if text.parse::<Dim>().is_ok_and(|dim| dim.as_symbol().is_some()) {
                    symbols.declared.insert(text.to_owned());
                }
            }
        }
        symbols
    }

    /// The size that a declared dimension stands for; `input` and `axis` name it where the model does not.
    ///
    /// An expression counts as one only if every name in it is itself the size of some input axis; otherwise its whole
    /// text is taken as a name, since nothing else would give its symbols values.
    pub fn dim(&mut self, dimension: Dimension<'_>, input: &str, axis: usize) -> Dim {
        let dim = match dimension {
            Dimension::Size(size) => return Dim::from(size),
            Dimension::Named(text) => text
                .parse::<Dim>()
                .ok()
                .filter(|dim| dim.symbols().iter().all(|symbol| self.declared.contains(symbol.name())))
                .unwrap_or_else(|| Dim::symbol(text)),
            Dimension::Unknown => self.unused(format!("{input}_{axis}")),
        };
        self.bound(&dim)
    }

    /// A size that only run-time data tell, named after what gives it.
    pub fn fresh(&mut self, what: &str) -> Dim {
        let what = what.to_ascii_lowercase();
        let name = (0..).map(|n| format!("{what}_{n}")).find(|name| !self.used.contains(name)).unwrap_or(what);
        self.unused(name)
    }

    fn unused(&mut self, mut name: String) -> Dim {
        while !self.used.insert(name.clone()) {
            name.push('_');
        }
        Dim::symbol(&name)
    }

    fn bound(&self, dim: &Dim) -> Dim {
        dim.substitute(&|symbol: &Symbol| self.options.symbols.get(symbol.name()).map(|&value| Dim::Const(value)))
    }
}
