//! The op table of tile instructions: one row per opcode.
//!
//! A row gives the opcode's name and meaning, the [`Class`] of unit that runs it, and for every operand its role, the kinds
//! of operand allowed there and the rule for its element type. Printing, parsing, verifying, the machine files' operand
//! rules and the list in `docs/tile-ir.md` all come from it; a variant of [`Opcode`] without a row does not compile.
//!
//! An opcode in text is `name.suffix… key=value…`: functions and set flags are suffixes (`reduce.max.acc axis=1`).

use std::{fmt, str::FromStr};

use tarsia_tensor::{ArgReduceFn, BinaryFn, Dim, ReduceFn, ScatterFn, UnaryFn};

use crate::{
    Opcode, Operand,
    name::{Name, split_top},
};

/// The kind of work an instruction is; a machine's units say which classes they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Moves between or inside memory spaces, along a data path.
    Move,
    /// Writes numbers without reading memory.
    Fill,
    /// One result per element.
    Pointwise,
    /// One result per row.
    Reduce,
    /// A running result along an axis.
    Scan,
    /// Matrix products.
    Matrix,
    /// Reads at computed addresses.
    Gather,
    /// Writes at computed addresses.
    Scatter,
    /// Keeps the positions that match.
    Compact,
    /// Brings an element to the scalar unit.
    Scalar,
    /// Orders elements.
    Sort,
    /// Random numbers.
    Random,
    /// Orders pipes; runs on the pipes it names.
    Sync,
}

/// Kinds of operand, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

/// What an operand's element type must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeRule {
    /// One type for all operands of this rule, in which the instruction computes.
    Value,
    /// Bool for predicates and comparisons, otherwise as [`TypeRule::Value`].
    Outcome,
    /// Bool.
    Bool,
    /// i64 or i32.
    Index,
    /// Any integer type or bool.
    Integer,
    /// Any type but string.
    Any,
    /// The three types of a matrix product that the machine has.
    Product,
}

/// The role of one operand.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its name, by which machine files give the spaces and layouts allowed.
    pub name: &'static str,
    /// The kinds of operand allowed.
    pub kinds: Kinds,
    /// Its element type.
    pub dtype: TypeRule,
}

/// One opcode.
#[derive(Debug)]
pub struct Row {
    /// Its name in text. The functions of `unary` and `binary` stand for themselves: `exp`, `add`.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// The class of unit that runs it.
    pub class: Class,
    /// Names of the attributes.
    pub attributes: &'static [&'static str],
    /// Destinations, in order.
    pub dst: &'static [Role],
    /// Sources, in order.
    pub src: &'static [Role],
}

impl Kinds {
    /// Part of a tile.
    pub const TILE: Kinds = Kinds(1);
    /// Part of a buffer.
    pub const VIEW: Kinds = Kinds(2);
    /// An immediate float.
    pub const REAL: Kinds = Kinds(4);
    /// An immediate integer.
    pub const INDEX: Kinds = Kinds(8);
    /// A scalar defined here.
    pub const SCALAR: Kinds = Kinds(16);
    /// A tile or a view.
    pub const ARRAY: Kinds = Kinds(1 | 2);
    /// An immediate number.
    pub const NUMBER: Kinds = Kinds(4 | 8);
    /// An array or a number.
    pub const VALUE: Kinds = Kinds(1 | 2 | 4 | 8);

    const NAMES: [&str; 5] = ["tile", "view", "float", "index", "scalar"];

    /// The kind of one operand.
    pub fn of(operand: &Operand) -> Kinds {
        match operand {
            Operand::Tile(_) => Kinds::TILE,
            Operand::Global(_) => Kinds::VIEW,
            Operand::Real(_) => Kinds::REAL,
            Operand::Index(_) => Kinds::INDEX,
            Operand::Scalar(..) => Kinds::SCALAR,
        }
    }

    /// Whether every kind of `other` is in this set.
    pub fn contains(self, other: Kinds) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = (0..5).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| Kinds::NAMES[bit]).collect();
        f.write_str(&names.join(" or "))
    }
}

impl Class {
    /// Every class, in table order.
    pub const ALL: &[Class] = &[
        Class::Move,
        Class::Fill,
        Class::Pointwise,
        Class::Reduce,
        Class::Scan,
        Class::Matrix,
        Class::Gather,
        Class::Scatter,
        Class::Compact,
        Class::Scalar,
        Class::Sort,
        Class::Random,
        Class::Sync,
    ];

    /// The name in machine files.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Move => "move",
            Class::Fill => "fill",
            Class::Pointwise => "pointwise",
            Class::Reduce => "reduce",
            Class::Scan => "scan",
            Class::Matrix => "matrix",
            Class::Gather => "gather",
            Class::Scatter => "scatter",
            Class::Compact => "compact",
            Class::Scalar => "scalar",
            Class::Sort => "sort",
            Class::Random => "random",
            Class::Sync => "sync",
        }
    }
}

const fn role(name: &'static str, kinds: Kinds, dtype: TypeRule) -> Role {
    Role { name, kinds, dtype }
}

const DST: Role = role("dst", Kinds::ARRAY, TypeRule::Value);
const OUTCOME: Role = role("dst", Kinds::ARRAY, TypeRule::Outcome);
const SRC: Role = role("src", Kinds::ARRAY, TypeRule::Value);
const VALUE: Role = role("src", Kinds::VALUE, TypeRule::Value);
const NUMBER: Role = role("number", Kinds::NUMBER, TypeRule::Value);
const POSITION: Role = role("index", Kinds(1 | 2 | 8), TypeRule::Index);
const FIRST: Role = role("number", Kinds::INDEX, TypeRule::Any);
const INDEX: Role = role("index", Kinds::ARRAY, TypeRule::Index);
const SCALAR: Role = role("scalar", Kinds::SCALAR, TypeRule::Any);
const ANY_DST: Role = role("dst", Kinds::ARRAY, TypeRule::Any);
const ANY_SRC: Role = role("src", Kinds::ARRAY, TypeRule::Any);
const CONDITION: Role = role("src", Kinds::ARRAY, TypeRule::Bool);
const POSITION_DST: Role = role("dst", Kinds::ARRAY, TypeRule::Index);
const INTEGER_SRC: Role = role("src", Kinds::ARRAY, TypeRule::Integer);
const ACC: Role = role("acc", Kinds::ARRAY, TypeRule::Product);
const LEFT: Role = role("a", Kinds::ARRAY, TypeRule::Product);
const RIGHT: Role = role("b", Kinds::ARRAY, TypeRule::Product);
const TABLE: Role = role("table", Kinds::VIEW, TypeRule::Value);

macro_rules! op_table {
    ($($name:literal $class:ident $variant:ident { $($field:tt : $ty:ty),* } [$($dst:ident),*] <- [$($src:ident),*] $doc:literal;)*) => {
        /// Every opcode, in the order of the documentation.
        pub static OP_TABLE: &[Row] = &[$(Row {
            name: $name,
            doc: $doc,
            class: Class::$class,
            attributes: &[$(stringify!($field)),*],
            dst: &[$($dst),*],
            src: &[$($src),*],
        }),*];

        enum Position { $($variant),* }

        impl Opcode {
            /// The opcode's row.
            pub fn row(&self) -> &'static Row {
                &OP_TABLE[match self { $(Opcode::$variant { .. } => Position::$variant as usize),* }]
            }

            fn header(&self) -> Header {
                let mut header = Header::default();
                match self {
                    $(Opcode::$variant { $($field: _),* } => {
                        $(if let Opcode::$variant { $field: value, .. } = self {
                            value.write(stringify!($field), &mut header);
                        })*
                    })*
                }
                header
            }

            fn from_header(name: &str, header: &mut Header) -> Result<Opcode, String> {
                match name {
                    $($name => Ok(Opcode::$variant { $($field: <$ty as Attribute>::read(stringify!($field), header)?),* }),)*
                    _ => Err(format!("`{name}` is not a tile instruction")),
                }
            }
        }
    };
}

op_table! {
    "copy" Move Copy { rows: usize } [ANY_DST] <- [ANY_SRC]
        "dst = src, converting element type and layout; where one side is a matrix, the first `rows` axes of the other together are its rows";
    "fill" Fill Fill {} [DST] <- [NUMBER] "dst = src";
    "iota" Fill Iota { axis: usize, step: i64 } [POSITION_DST] <- [FIRST] "dst[i…] = src + step · i[axis]";
    "unary" Pointwise Unary { 0: UnaryFn } [OUTCOME] <- [VALUE] "dst = f(src), element by element";
    "binary" Pointwise Binary { 0: BinaryFn } [OUTCOME] <- [VALUE, VALUE] "dst = f(src0, src1), element by element; axes of size 1 broadcast";
    "select" Pointwise Select {} [DST] <- [CONDITION, VALUE, VALUE] "dst = src0 ? src1 : src2";
    "mul_add" Pointwise MulAdd {} [DST] <- [VALUE, VALUE, VALUE] "dst = src0 · src1 + src2";
    "reduce" Reduce Reduce { function: ReduceFn, axis: usize, accumulate: bool } [DST] <- [SRC]
        "reduces `axis` to size 1; `acc` combines with what dst holds";
    "arg" Reduce ArgReduce { function: ArgReduceFn, axis: usize, last: bool, accumulate: bool } [DST, INDEX] <- [SRC, FIRST]
        "dst0: extreme value along `axis`, dst1: its position + src1; `last` among equals; `acc` compares with what they hold";
    "scan" Scan Scan { function: ReduceFn, axis: usize, exclusive: bool, reverse: bool } [DST] <- [SRC, VALUE]
        "cumulative reduction along `axis`; src1 is the value before the first";
    "mmad" Matrix Mmad { accumulate: bool } [ACC] <- [LEFT, RIGHT] "dst[m, n] = src0[m, k] · src1[k, n]; `acc` adds to dst";
    "gather" Gather Gather {} [DST] <- [TABLE, INDEX]
        "dst[j, …] = src0[src1[j], …]: the index is added to the start of the axis that view axis 0 steps along";
    "scatter" Scatter Scatter { function: ScatterFn } [TABLE] <- [SRC, INDEX] "dst[src1[j], …] = f(dst[src1[j], …], src0[j, …])";
    "select_rows" Compact SelectRows {} [POSITION_DST, SCALAR] <- [INTEGER_SRC, FIRST, FIRST]
        "dst0: the positions j with src0[j] = src1, ascending, plus src2; dst1: how many";
    "read_scalar" Scalar ReadScalar {} [SCALAR] <- [INTEGER_SRC] "dst: the single element of src";
    "sort" Sort Sort { descending: bool } [DST, INDEX] <- [SRC] "dst0: sorted along the last axis, dst1: where each was; stable";
    "top_k" Sort TopK { largest: bool } [DST, INDEX] <- [SRC] "the first elements of the order along the last axis, and where they were";
    "random" Random Random { normal: bool, seed: i64 } [DST] <- [POSITION] "random numbers of a counter-based stream: of element src + row-major position, or of the elements that an array src names";
    "set_event" Sync SetEvent { from: String, to: String, event: Dim } [] <- [] "signals `event` from pipe `from` to pipe `to`";
    "wait_event" Sync WaitEvent { from: String, to: String, event: Dim } [] <- [] "pipe `to` waits for `event`";
    "barrier" Sync Barrier { pipe: Option<String> } [] <- [] "waits until the pipe, or all of the core's, is idle";
}

/// Rows whose function is printed instead of their name.
const BARE: [&str; 2] = ["unary", "binary"];

impl Row {
    /// Whether the function stands for the name: `exp` instead of `unary.exp`.
    pub fn is_bare(&self) -> bool {
        BARE.contains(&self.name)
    }
}

impl Opcode {
    /// Whether the destinations are read before they are written.
    pub fn reads_destination(&self) -> bool {
        match self {
            Opcode::Reduce { accumulate, .. } | Opcode::ArgReduce { accumulate, .. } | Opcode::Mmad { accumulate } => {
                *accumulate
            }
            Opcode::Scatter { .. } => true,
            _ => false,
        }
    }

    /// The name by which a machine's rates may single the instruction out: the function's, or the row's.
    pub fn function(&self) -> &'static str {
        match self {
            Opcode::Unary(function) => function.name(),
            Opcode::Binary(function) => function.name(),
            other => other.row().name,
        }
    }

    /// Whether the outcome is bool whatever the operands.
    pub fn is_predicate(&self) -> bool {
        match self {
            Opcode::Unary(function) => function.is_predicate(),
            Opcode::Binary(function) => function.is_comparison(),
            _ => false,
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (row, header) = (self.row(), self.header());
        let start = (!row.is_bare()).then_some(row.name.to_owned());
        let words: Vec<String> = start.into_iter().chain(header.suffixes).collect();
        f.write_str(&words.join("."))?;
        header.keys.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

impl FromStr for Opcode {
    type Err = String;

    fn from_str(text: &str) -> Result<Opcode, String> {
        let mut words = split_top(text.trim(), ' ').into_iter().filter(|word| !word.is_empty());
        let mnemonic = words.next().ok_or("expected an instruction")?;
        let mut suffixes: Vec<String> = mnemonic.split('.').map(str::to_owned).collect();
        let mut keys = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("expected `key=value`, found `{word}`"))?;
            keys.push((key.to_owned(), value.to_owned()));
        }
        let name = if OP_TABLE.iter().any(|row| !row.is_bare() && row.name == suffixes[0]) {
            suffixes.remove(0)
        } else if suffixes[0].parse::<UnaryFn>().is_ok() {
            BARE[0].to_owned()
        } else if suffixes[0].parse::<BinaryFn>().is_ok() {
            BARE[1].to_owned()
        } else {
            return Err(format!("`{}` is not a tile instruction", suffixes[0]));
        };
        let mut header = Header { suffixes, keys };
        let opcode = Opcode::from_header(&name, &mut header)?;
        if let Some(suffix) = header.suffixes.first() {
            return Err(format!("`{name}` has no variant `{suffix}`"));
        }
        if let Some((key, _)) = header.keys.first() {
            return Err(format!("`{name}` has no attribute `{key}`"));
        }
        Ok(opcode)
    }
}

/// The words of an opcode's text beside its name.
#[derive(Default)]
struct Header {
    suffixes: Vec<String>,
    keys: Vec<(String, String)>,
}

impl Header {
    fn take(&mut self, key: &str) -> Result<String, String> {
        self.take_optional(key).ok_or_else(|| format!("the attribute `{key}` is missing"))
    }

    fn take_optional(&mut self, key: &str) -> Option<String> {
        let at = self.keys.iter().position(|(name, _)| name == key)?;
        Some(self.keys.remove(at).1)
    }
}

/// A type of attribute: how it is written into and read from the text of an opcode.
trait Attribute: Sized {
    fn write(&self, key: &str, header: &mut Header);
    fn read(key: &str, header: &mut Header) -> Result<Self, String>;
}

fn flag(key: &str) -> &str {
    if key == "accumulate" { "acc" } else { key }
}

impl Attribute for bool {
    fn write(&self, key: &str, header: &mut Header) {
        if *self {
            header.suffixes.push(flag(key).to_owned());
        }
    }

    fn read(key: &str, header: &mut Header) -> Result<bool, String> {
        let at = header.suffixes.iter().position(|suffix| suffix == flag(key));
        Ok(at.map(|at| header.suffixes.remove(at)).is_some())
    }
}

macro_rules! number_attributes {
    ($($ty:ty),*) => {$(impl Attribute for $ty {
        fn write(&self, key: &str, header: &mut Header) {
            header.keys.push((key.to_owned(), self.to_string()));
        }

        fn read(key: &str, header: &mut Header) -> Result<$ty, String> {
            let text = header.take(key)?;
            text.parse().map_err(|_| format!("`{text}` is not a number that `{key}` can be"))
        }
    })*};
}

number_attributes!(usize, i64);

macro_rules! function_attributes {
    ($($ty:ty, $prefix:literal;)*) => {$(impl Attribute for $ty {
        fn write(&self, _: &str, header: &mut Header) {
            header.suffixes.push(self.name().trim_start_matches($prefix).to_owned());
        }

        fn read(_: &str, header: &mut Header) -> Result<$ty, String> {
            let first = header.suffixes.first().ok_or("the function is missing")?;
            let function = format!("{}{first}", $prefix).parse()?;
            header.suffixes.remove(0);
            Ok(function)
        }
    })*};
}

function_attributes! {
    UnaryFn, "";
    BinaryFn, "";
    ReduceFn, "reduce_";
    ArgReduceFn, "arg_";
    ScatterFn, "";
}

impl Attribute for String {
    fn write(&self, key: &str, header: &mut Header) {
        header.keys.push((key.to_owned(), Name(self).to_string()));
    }

    fn read(key: &str, header: &mut Header) -> Result<String, String> {
        Name::read(&header.take(key)?)
    }
}

impl Attribute for Option<String> {
    fn write(&self, key: &str, header: &mut Header) {
        if let Some(value) = self {
            value.write(key, header);
        }
    }

    fn read(key: &str, header: &mut Header) -> Result<Option<String>, String> {
        header.take_optional(key).map(|text| Name::read(&text)).transpose()
    }
}

impl Attribute for Dim {
    fn write(&self, key: &str, header: &mut Header) {
        header.keys.push((key.to_owned(), format!("({self})")));
    }

    fn read(key: &str, header: &mut Header) -> Result<Dim, String> {
        header.take(key)?.parse().map_err(|error: tarsia_tensor::ParseDimError| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = OP_TABLE.iter().filter(|row| !row.is_bare()).map(|row| row.name).collect();
        names.extend(UnaryFn::ALL.iter().map(|f| f.name()));
        names.extend(BinaryFn::ALL.iter().map(|f| f.name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn opcodes_round_trip() {
        let texts = [
            "copy rows=2",
            "fill",
            "iota axis=1 step=-3",
            "exp",
            "add",
            "is_nan",
            "reduce.max.acc axis=1",
            "arg.min.last.acc axis=0",
            "scan.sum.exclusive.reverse axis=2",
            "mmad",
            "mmad.acc",
            "scatter.set",
            "sort.descending",
            "top_k",
            "random.normal seed=7",
            "set_event from=move to=\"a pipe\" event=(mod(k, 2))",
            "barrier",
            "barrier pipe=v",
        ];
        for text in texts {
            assert_eq!(text.parse::<Opcode>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_opcodes_are_errors() {
        for text in
            ["", "nope", "exp.acc", "copy", "copy rows=x", "fill axis=1", "mmad.accumulate", "reduce axis=1", "."]
        {
            assert!(text.parse::<Opcode>().is_err(), "{text}");
        }
    }
}
