//! What ONNX's operators take and give, version by version: a table that `signatures.py` writes from `onnx.defs`.
//!
//! Importers know what an operator computes; this table knows what a node of it may look like. A line of the table is read
//! when its operator is asked for.

use std::{str::FromStr, sync::LazyLock};

use rustc_hash::FxHashMap;
use tarsia_tensor::DType;

use crate::{opset, schema::AttributeType};

const TABLE: &str = include_str!("signatures.txt");

/// One version of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The version of its domain that brought it.
    pub since: i64,
    /// Whether this version removed the operator.
    pub removed: bool,
    /// What it takes, in order.
    pub inputs: Vec<Parameter>,
    /// What it gives, in order.
    pub outputs: Vec<Parameter>,
    /// Its attributes by name: the kind, and whether it must be given.
    pub attributes: Vec<(&'static str, AttributeType, bool)>,
    /// The types that each variable may stand for.
    pub variables: Vec<(&'static str, Vec<&'static str>)>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// How often it occurs.
    pub count: Count,
    /// A type variable, or the types it may have.
    pub ty: &'static str,
}

/// How often an input or output occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Once.
    One,
    /// Once, or not at all.
    Optional,
    /// Any number of times, `one_type` if all are of one type, `least` one if so.
    Many {
        /// All are of one type.
        one_type: bool,
        /// Fewest.
        least: usize,
    },
}

/// The lines of each operator, by domain and name, oldest first.
static LINES: LazyLock<FxHashMap<(&str, &str), Vec<&str>>> = LazyLock::new(|| {
    let (mut lines, mut domain) = (FxHashMap::<_, Vec<&str>>::default(), "");
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            domain = opset::canonical(name);
        } else if let Some((name, rest)) = line.split_once(' ') {
            lines.entry((domain, name)).or_default().push(rest);
        }
    }
    lines
});

/// The domains and names of all operators, sorted.
pub fn operators() -> Vec<(&'static str, &'static str)> {
    let mut names: Vec<_> = LINES.keys().copied().collect();
    names.sort_unstable();
    names
}

/// All versions of an operator, oldest first; none if ONNX does not define it.
pub fn versions(domain: &str, name: &str) -> Vec<Signature> {
    LINES.get(&(domain, name)).into_iter().flatten().filter_map(|line| Signature::parse(line)).collect()
}

/// The operator as the version of its domain defines it.
pub fn of(domain: &str, name: &str, version: i64) -> Option<Signature> {
    let lines = LINES.get(&(domain, name))?;
    let since = |line: &str| line.split(' ').next().and_then(|number| number.parse::<i64>().ok());
    let line = lines.iter().rev().find(|line| since(line).is_some_and(|since| since <= version))?;
    Signature::parse(line)
}

impl Signature {
    /// The types that an input or output may have.
    pub fn types<'s>(&'s self, parameter: &'s Parameter) -> Vec<&'s str> {
        match self.variables.iter().find(|(name, _)| *name == parameter.ty) {
            Some((_, types)) => types.clone(),
            None => parameter.ty.split(',').collect(),
        }
    }

    /// The element types that an input or output may have where it is a tensor.
    pub fn dtypes(&self, parameter: &Parameter) -> Vec<DType> {
        self.types(parameter).into_iter().filter_map(|name| DType::from_str(name).ok()).collect()
    }

    /// The parameter that position `at` of the inputs or outputs belongs to.
    pub fn parameter(parameters: &[Parameter], at: usize) -> Option<&Parameter> {
        parameters.get(at).or_else(|| parameters.last().filter(|last| matches!(last.count, Count::Many { .. })))
    }

    /// Fewest and most of the inputs or outputs; `None` for any number.
    pub fn counts(parameters: &[Parameter]) -> (usize, Option<usize>) {
        let least = |(at, parameter): (usize, &Parameter)| match parameter.count {
            Count::One => at + 1,
            Count::Optional => 0,
            Count::Many { least, .. } => {
                if least > 0 {
                    at + least
                } else {
                    0
                }
            }
        };
        let many = parameters.last().is_some_and(|last| matches!(last.count, Count::Many { .. }));
        (parameters.iter().enumerate().map(least).max().unwrap_or(0), (!many).then_some(parameters.len()))
    }

    /// What follows the name in a line of the table.
    fn parse(line: &'static str) -> Option<Signature> {
        let mut columns = line.split('|').map(str::trim);
        let mut head = columns.next()?.split(' ');
        let since = head.next()?.parse().ok()?;
        let removed = head.next() == Some("removed");
        let mut column = || columns.next().unwrap_or_default().split_whitespace();
        let inputs = column().filter_map(Parameter::parse).collect();
        let outputs = column().filter_map(Parameter::parse).collect();
        let attributes = column().filter_map(attribute).collect();
        let variable =
            |text: &'static str| text.split_once('=').map(|(name, types)| (name, types.split(',').collect()));
        let variables = column().filter_map(variable).collect();
        Some(Signature { since, removed, inputs, outputs, attributes, variables })
    }
}

impl Parameter {
    fn parse(text: &'static str) -> Option<Parameter> {
        let (name, ty) = text.split_once(':')?;
        let marks = [
            ("**?", Count::Many { one_type: false, least: 0 }),
            ("**", Count::Many { one_type: false, least: 1 }),
            ("*?", Count::Many { one_type: true, least: 0 }),
            ("*", Count::Many { one_type: true, least: 1 }),
            ("?", Count::Optional),
        ];
        let marked = marks.into_iter().find_map(|(mark, count)| Some((name.strip_suffix(mark)?, count)));
        let (name, count) = marked.unwrap_or((name, Count::One));
        Some(Parameter { name, count, ty })
    }
}

fn attribute(text: &'static str) -> Option<(&'static str, AttributeType, bool)> {
    let (name, kind) = text.split_once(':')?;
    let (is_required, plain) = (name.ends_with('!'), kind.replace('_', ""));
    let mut kinds = (1..).map_while(|number| AttributeType::try_from(number).ok());
    let kind = kinds.find(|kind| format!("{kind:?}").eq_ignore_ascii_case(&plain))?;
    Some((name.trim_end_matches('!'), kind, is_required))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_parses() {
        let lines = TABLE.lines().filter(|line| !line.starts_with(['#', '[']));
        let columns: usize = lines.clone().map(|line| line.matches([':', '=']).count()).sum();
        let mut found = 0;
        for (domain, name) in operators() {
            for version in versions(domain, name) {
                let parameters = version.inputs.iter().chain(&version.outputs);
                for parameter in parameters.clone() {
                    assert!(!version.types(parameter).is_empty(), "{name} {}: {parameter:?}", version.since);
                }
                found += parameters.count() + version.attributes.len() + version.variables.len();
            }
        }
        let in_maps = lines.clone().map(|line| line.matches("map(").count()).sum::<usize>();
        assert_eq!(found, columns - in_maps);
        assert_eq!(operators().iter().map(|(d, n)| versions(d, n).len()).sum::<usize>(), lines.count());
    }

    #[test]
    fn an_operator_is_that_of_its_version() {
        let clip = |version| of("", "Clip", version).expect("Clip is an operator");
        assert_eq!((clip(6).since, clip(10).since, clip(12).since, clip(28).since), (6, 6, 12, 13));
        assert_eq!(Signature::counts(&clip(11).inputs), (1, Some(3)));
        assert_eq!(clip(6).attributes, [("max", AttributeType::Float, false), ("min", AttributeType::Float, false)]);
        assert!(of("", "Upsample", 10).expect("once was one").removed);
        assert_eq!(Signature::counts(&of("", "Concat", 13).expect("is one").inputs), (1, None));
        assert_eq!(of("", "NoSuch", 13), None);
    }
}
