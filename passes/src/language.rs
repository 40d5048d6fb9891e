//! The e-graph's language: core ops whose attributes are leaf children.
//!
//! An e-node is a head and its children. For a core op the children are its attributes in table order, each an attribute
//! leaf, then its operands: `transpose {perm: [1, 0]} x` is `(transpose [1,0] x)`, so that patterns bind attributes as
//! they bind values. `(get 1 (top_k …))` is the second result of an op with several. Small constants are leaves compared
//! by content; everything that comes from outside the region (graph inputs, weights, results of control and host ops) is
//! an input leaf. Decimal numbers in patterns (`2.0`) stand for any constant all of whose elements are that number.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use egg::{FromOp, FromOpError, Id, Language};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Attr, BinaryFn, Kind, Op, Real, UnaryFn};
use tarsia_tensor::{Absent, DType, Tensor};

/// The name of a core op, or of the projection `get`, as a small number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpName(u16);

struct Names {
    list: Vec<&'static str>,
    places: FxHashMap<&'static str, u16>,
}

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| {
        let functions = UnaryFn::ALL.iter().map(|f| f.name()).chain(BinaryFn::ALL.iter().map(|f| f.name()));
        let list: Vec<&'static str> = functions.chain(Op::NAMES.iter().copied()).chain(["get"]).collect();
        let places = list.iter().enumerate().map(|(i, &name)| (name, i as u16)).collect();
        Names { list, places }
    })
}

impl OpName {
    /// The op with this text name.
    pub fn find(name: &str) -> Option<OpName> {
        names().places.get(name).copied().map(OpName)
    }

    /// The text name.
    pub fn name(self) -> &'static str {
        names().list.get(usize::from(self.0)).copied().unwrap_or("?")
    }

    /// The unary function with this name.
    pub fn unary(self) -> Option<UnaryFn> {
        UnaryFn::ALL.get(usize::from(self.0)).copied()
    }

    /// The binary function with this name.
    pub fn binary(self) -> Option<BinaryFn> {
        BinaryFn::ALL.get(usize::from(self.0).checked_sub(UnaryFn::ALL.len())?).copied()
    }

    /// Whether the operands may be swapped.
    pub fn commutes(self) -> bool {
        self.binary().is_some_and(BinaryFn::commutes)
    }
}

impl fmt::Debug for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An attribute's value, compared by its text.
#[derive(Clone)]
pub struct Attribute {
    text: Arc<str>,
    value: Arc<Attr>,
}

impl Attribute {
    /// The value.
    pub fn value(&self) -> &Attr {
        &self.value
    }

    /// The text in patterns.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<Attr> for Attribute {
    fn from(value: Attr) -> Attribute {
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let text = match &value {
            Attr::Int(x) => x.to_string(),
            Attr::Ints(v) => list(v.iter().map(|x| x.to_string()).collect()),
            Attr::Bool(x) => x.to_string(),
            Attr::Real(Real(x)) => format!("r{x:?}"),
            Attr::Reals(v) => format!("r{}", list(v.iter().map(|Real(x)| format!("{x:?}")).collect())),
            Attr::Text(x) => x.clone(),
            Attr::DType(x) => x.to_string(),
            Attr::Dim(x) => format!("d{}", x.to_string().replace(' ', "")),
            Attr::Dims(v) => format!("d{}", list(v.iter().map(|x| x.to_string().replace(' ', "")).collect())),
            Attr::Types(v) => format!("t{}", list(v.iter().map(|x| x.to_string()).collect())),
            Attr::Tensor(_) | Attr::Graph(_) => "opaque".to_owned(),
        };
        Attribute { text: text.into(), value: Arc::new(value) }
    }
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Attribute) -> bool {
        self.text == other.text && std::mem::discriminant(&*self.value) == std::mem::discriminant(&*other.value)
    }
}

impl Eq for Attribute {}

impl PartialOrd for Attribute {
    fn partial_cmp(&self, other: &Attribute) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Attribute {
    fn cmp(&self, other: &Attribute) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Attribute {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Small constant data, compared by content.
#[derive(Clone)]
pub struct Datum(Tensor);

impl Datum {
    /// The data.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    fn key(&self) -> (DType, &[usize], &[u8], Option<&Absent>) {
        (self.0.dtype(), self.0.shape(), self.0.bytes(), self.0.missing())
    }
}

impl From<Tensor> for Datum {
    fn from(tensor: Tensor) -> Datum {
        Datum(tensor)
    }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Datum) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Datum {}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Datum) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datum {
    fn cmp(&self, other: &Datum) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Datum {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What an e-node is, without its children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Head {
    /// A core op, or the projection `get` of one result.
    Op(OpName),
    /// The value of an attribute.
    Attr(Attribute),
    /// Small constant data.
    Constant(Datum),
    /// A value from outside the region, by its number.
    Input(u32),
    /// In patterns only: a constant all of whose elements are this number.
    Number(Real),
}

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Enode {
    /// What it is.
    pub head: Head,
    /// Attributes, then operands.
    pub children: SmallVec<[Id; 4]>,
}

impl Enode {
    /// A leaf.
    pub fn leaf(head: Head) -> Enode {
        Enode { head, children: SmallVec::new() }
    }

    /// The core op's name, if this is one (or `get`).
    pub fn op(&self) -> Option<OpName> {
        match self.head {
            Head::Op(name) => Some(name),
            _ => None,
        }
    }

    /// Whether this is the core op with this name.
    pub fn is(&self, name: &str) -> bool {
        matches!(self.head, Head::Op(op) if op.name() == name)
    }
}

impl Language for Enode {
    type Discriminant = Head;

    fn discriminant(&self) -> Head {
        self.head.clone()
    }

    fn matches(&self, other: &Enode) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

impl fmt::Display for Enode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.head {
            Head::Op(name) => f.write_str(name.name()),
            Head::Attr(attribute) => f.write_str(attribute.text()),
            Head::Constant(datum) => write!(f, "{}", format!("{datum:?}").replace(' ', "")),
            Head::Input(index) => write!(f, "%{index}"),
            Head::Number(Real(value)) => write!(f, "{value:?}"),
        }
    }
}

/// Attribute texts in patterns: whole numbers, `[0,1]`, `true`, element types, contractions and function names;
/// `d[1,2]` are sizes, `r0.5` is a float attribute. Decimal numbers are constants.
fn parse_leaf(text: &str) -> Option<Head> {
    let attr = |value: Attr| Some(Head::Attr(Attribute::from(value)));
    let items = |text: &str| -> Option<Vec<i64>> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.split(',').filter(|item| !item.is_empty()).map(|item| item.parse().ok()).collect()
    };
    if let Ok(value) = text.parse::<i64>() {
        return attr(Attr::Int(value));
    }
    if let Ok(value) = text.parse::<f64>() {
        return Some(Head::Number(Real(value)));
    }
    if let Some(value) = text.strip_prefix('r').and_then(|text| text.parse::<f64>().ok()) {
        return attr(Attr::Real(Real(value)));
    }
    if let Some(values) = text.strip_prefix('d').and_then(items) {
        return attr(Attr::Dims(values.into_iter().map(Into::into).collect()));
    }
    if let Some(values) = items(text) {
        return attr(Attr::Ints(values));
    }
    if let Some(index) = text.strip_prefix('%').and_then(|text| text.parse().ok()) {
        return Some(Head::Input(index));
    }
    match text {
        "true" | "false" => attr(Attr::Bool(text == "true")),
        _ if text.parse::<DType>().is_ok() => attr(Attr::DType(text.parse().ok()?)),
        _ => attr(Attr::Text(text.to_owned())),
    }
}

impl FromOp for Enode {
    type Error = FromOpError;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Enode, FromOpError> {
        let error = || FromOpError::new(op, children.clone());
        if let Some(name) = OpName::find(op).filter(|_| !children.is_empty()) {
            return Ok(Enode { head: Head::Op(name), children: children.into() });
        }
        match parse_leaf(op) {
            Some(head) if children.is_empty() => Ok(Enode::leaf(head)),
            _ => Err(error()),
        }
    }
}

/// Whether an op may stand inside a region's e-graph: all but inputs, control, host functions and random numbers, which
/// are met as inputs of the region.
pub fn is_expressible(op: &Op) -> bool {
    !matches!(op.kind(), Kind::Control | Kind::Host) && !matches!(op, Op::Input { .. } | Op::Random { .. })
}
