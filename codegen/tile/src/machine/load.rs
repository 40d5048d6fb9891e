//! Reading machine files. A file that says `extends` is merged over the machine that it names.
//!
//! ```text
//! variant.toml ── extends ──► base.toml ── extends ──► …     tables key by key; rows of [[…]] by what identifies them
//! ```

use std::path::Path as FilePath;

use serde::Deserialize as _;
use thiserror::Error;
use toml::{Table, Value};

use super::{Machine, validate};

/// The machines that come with the compiler: name and description file.
pub(super) const BUILTIN: &[(&str, &str)] = &[
    ("cpu", include_str!("../../targets/cpu.toml")),
    ("twopipe", include_str!("../../targets/twopipe.toml")),
    ("ascend910b1", include_str!("../../targets/ascend910b1.toml")),
    ("ascend910b2", include_str!("../../targets/ascend910b2.toml")),
    ("ascend910b3", include_str!("../../targets/ascend910b3.toml")),
    ("ascend910b4", include_str!("../../targets/ascend910b4.toml")),
    ("ascend910c", include_str!("../../targets/ascend910c.toml")),
    ("ascend950", include_str!("../../targets/ascend950.toml")),
];

/// Why a machine description cannot be used.
#[derive(Debug, Error)]
pub enum MachineError {
    /// There is no built-in machine of this name.
    #[error("there is no machine `{name}`; there are: {known} (or give a description file ending in .toml)")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// There are not so many cores.
    #[error("{name} has 1 to {groups} cores to compile for, not {count}")]
    Cores {
        /// The machine's name.
        name: String,
        /// How many were asked for.
        count: usize,
        /// How many groups of cores it has.
        groups: usize,
    },
    /// The file cannot be read.
    #[error("cannot read the machine description {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, or not of this schema: names the key, its place, and the keys allowed.
    #[error("the machine description is not well-formed:\n{0}")]
    Syntax(#[from] toml::de::Error),
    /// A variant that cannot be merged over what it extends.
    #[error("the machine description `{name}` extends `{base}`, but {fault}")]
    Extends {
        /// The variant's name.
        name: String,
        /// What it extends.
        base: String,
        /// Why not.
        fault: String,
    },
    /// Well-formed, but contradictory.
    #[error("the machine description `{name}` has {} faults:\n{}", .faults.len(), .faults.join("\n"))]
    Invalid {
        /// The machine's name.
        name: String,
        /// All faults.
        faults: Vec<String>,
    },
}

/// What identifies a row of an array of tables, by the array's name. A row of a variant that is in the base changes it.
const IDENTITY: &[(&str, &[&str])] = &[
    ("core", &["name"]),
    ("space", &["name"]),
    ("path", &["from", "to", "pipe"]),
    ("window", &["strides", "least_rows"]),
    ("unit", &["name"]),
    ("operand", &["role"]),
    ("rate", &["classes", "functions", "dtypes"]),
    ("product", &["a", "b", "acc", "mode"]),
    ("event", &["pairs"]),
    ("flag", &["from", "to"]),
];

/// The array whose first fitting row counts: a variant's new rows come before the base's.
const FIRST_COUNTS: &str = "rate";

/// The key of a row of a variant that takes the base's row away.
const REMOVE: &str = "remove";

/// Machines that extend each other more often than this do so in a circle.
const DEEPEST: usize = 8;

impl Machine {
    /// Names of the machines that come with the compiler.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// A machine that comes with the compiler.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn builtin(name: &str) -> Result<Machine, MachineError> {
        Machine::from_toml(builtin_text(name)?)
    }

    /// The machine that a description file says. What it extends is a machine that comes with the compiler, or a file
    /// (ending in .toml) beside it.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`Machine::from_toml`].
    pub fn load(path: &FilePath) -> Result<Machine, MachineError> {
        describe(&read(path)?, path.parent())
    }

    /// The machine that this text describes.
    ///
    /// # Errors
    /// If the text is not of the schema (unknown keys included), or contradicts itself: then all faults are listed.
    pub fn from_toml(text: &str) -> Result<Machine, MachineError> {
        describe(text, None)
    }
}

fn read(path: &FilePath) -> Result<String, MachineError> {
    std::fs::read_to_string(path).map_err(|error| MachineError::Read { path: path.display().to_string(), error })
}

fn builtin_text(name: &str) -> Result<&'static str, MachineError> {
    let found = BUILTIN.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| MachineError::Unknown {
        name: name.to_owned(),
        known: Machine::builtin_names().collect::<Vec<_>>().join(", "),
    })?;
    Ok(text)
}

fn describe(text: &str, folder: Option<&FilePath>) -> Result<Machine, MachineError> {
    let table: Table = toml::from_str(text)?;
    let mut machine: Machine = if table.contains_key("extends") {
        Machine::deserialize(merged(table, folder, 0)?)?
    } else {
        // From the text, so that errors show their line.
        toml::from_str(text)?
    };
    let faults = validate::complete(&mut machine);
    if faults.is_empty() { Ok(machine) } else { Err(MachineError::Invalid { name: machine.name, faults }) }
}

/// A description with everything that it extends.
fn merged(mut variant: Table, folder: Option<&FilePath>, depth: usize) -> Result<Table, MachineError> {
    let Some(extends) = variant.get("extends").cloned() else { return Ok(variant) };
    let name = variant.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let base = extends.as_str().unwrap_or_default().to_owned();
    let fault = |fault: String| MachineError::Extends { name: name.clone(), base: base.clone(), fault };
    if extends.as_str().is_none() {
        return Err(fault("`extends` is not the name of a machine".into()));
    }
    if depth == DEEPEST {
        return Err(fault("this goes on in a circle".into()));
    }
    let beside = folder.filter(|_| base.ends_with(".toml")).map(|folder| folder.join(&base));
    let text = match &beside {
        Some(path) => read(path)?,
        None => builtin_text(&base)?.to_owned(),
    };
    let below = beside.as_deref().and_then(FilePath::parent).or(folder);
    let mut table = merged(toml::from_str(&text)?, below, depth + 1)?;
    let mut faults = Vec::new();
    merge(&mut table, std::mem::take(&mut variant), &mut faults);
    if faults.is_empty() { Ok(table) } else { Err(fault(faults.join("; "))) }
}

/// Lays a variant over a base: tables key by key, arrays of tables row by row, everything else replaces.
fn merge(base: &mut Table, variant: Table, faults: &mut Vec<String>) {
    for (key, value) in variant {
        let identity = IDENTITY.iter().find(|(array, _)| *array == key).map(|(_, keys)| *keys);
        match (base.get_mut(&key), value, identity) {
            (Some(Value::Table(old)), Value::Table(new), _) => merge(old, new, faults),
            (Some(Value::Array(old)), Value::Array(new), Some(identity)) => {
                merge_rows(&key, old, new, identity, faults);
            }
            (_, value, _) => {
                base.insert(key, value);
            }
        }
    }
}

fn merge_rows(array: &str, base: &mut Vec<Value>, variant: Vec<Value>, identity: &[&str], faults: &mut Vec<String>) {
    let mut added = Vec::new();
    for row in variant {
        let Value::Table(mut row) = row else {
            added.push(row);
            continue;
        };
        let same = |old: &Value| identity.iter().all(|key| old.get(key) == row.get(*key));
        let at = base.iter().position(same);
        let removed = row.remove(REMOVE) == Some(Value::Boolean(true));
        match at {
            Some(at) if removed => {
                base.remove(at);
            }
            None if removed => {
                let key = identity.iter().filter_map(|key| Some(format!("{key} = {}", shown(row.get(*key)?))));
                faults.push(format!("it has no [[{array}]] with {}", key.collect::<Vec<_>>().join(", ")));
            }
            Some(at) => {
                if let Some(Value::Table(old)) = base.get_mut(at) {
                    merge(old, row, faults);
                }
            }
            None => added.push(Value::Table(row)),
        }
    }
    let at = if array == FIRST_COUNTS { 0 } else { base.len() };
    base.splice(at..at, added);
}

/// A value of a row's identity, for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}
