//! The e-class analysis: what is known of the value of a class.

use egg::{Analysis, DidMerge, EGraph, Id};
use smallvec::{SmallVec, smallvec};
use tarsia_graph::{Attr, Op, Type, infer};
use tarsia_tensor::{DType, Tensor};

use crate::{
    fold,
    language::{Attribute, Enode, Head, OpName},
};

/// The e-graph of a region.
pub type Egraph = EGraph<Enode, Region>;

/// A set of node numbers of the region's graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(SmallVec<[u64; 4]>);

impl Origins {
    /// The set of one node.
    pub fn of(index: usize) -> Origins {
        let mut set = Origins::default();
        set.insert(index);
        set
    }

    /// Adds a node.
    pub fn insert(&mut self, index: usize) {
        if self.0.len() <= index / 64 {
            self.0.resize(index / 64 + 1, 0);
        }
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Adds all nodes of another set.
    pub fn extend(&mut self, other: &Origins) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |(i, &word): (usize, &u64)| (0..64).filter(move |b| word >> b & 1 == 1).map(move |b| i * 64 + b);
        self.0.iter().enumerate().flat_map(bits)
    }
}

/// What is known of a class.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The types of the results: one for a value, several under `get`, none for an attribute.
    pub types: SmallVec<[Type; 1]>,
    /// The attribute.
    pub attr: Option<Attribute>,
    /// The data, where known and small.
    pub constant: Option<Tensor>,
    /// The number that all elements are.
    pub splat: Option<f64>,
    /// Whether the value depends on constants alone, so that it is computed at compile time.
    pub fixed: bool,
    /// Whether no element is negative (nor NaN).
    pub non_negative: bool,
    /// Whether the last axis is twice the same half.
    pub doubled: bool,
    /// Which nodes of the region this class covers.
    pub origins: Origins,
}

impl Facts {
    /// The type of a value.
    pub fn ty(&self) -> Option<&Type> {
        match self.types.as_slice() {
            [ty] => Some(ty),
            _ => None,
        }
    }
}

/// What is known of a value from outside the region.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Its type.
    pub ty: Type,
    /// Whether it is a constant.
    pub fixed: bool,
}

/// The analysis and its context.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Values from outside by number.
    pub inputs: Vec<Outside>,
    /// Origins of whatever is added now.
    pub current: Origins,
}

/// Constants up to this many elements are followed by value.
pub const SMALL: usize = 64;

/// The op of an e-node, its attributes read from their classes.
pub fn op_of(egraph: &Egraph, enode: &Enode) -> Option<Op> {
    match &enode.head {
        Head::Op(name) => op_from(*name, &|i| egraph[*enode.children.get(i)?].data.attr.clone()),
        Head::Constant(datum) => Some(Op::Constant { value: datum.tensor().clone() }),
        _ => None,
    }
}

/// How many attributes come first among the children of this op.
pub fn attr_count(egraph: &Egraph, enode: &Enode) -> usize {
    enode.children.iter().take_while(|&&child| egraph[child].data.attr.is_some()).count()
}

/// The op with this name whose attributes, in table order, are given by `attr`.
pub fn op_from(name: OpName, attr: &dyn Fn(usize) -> Option<Attribute>) -> Option<Op> {
    // Attributes are asked for in table order.
    let next = std::cell::Cell::new(0);
    let lookup = |_: &str| {
        let i = next.replace(next.get() + 1);
        attr(i).map(|attribute| attribute.value().clone())
    };
    if let Some(function) = name.unary() {
        return Some(Op::Unary(function));
    }
    if let Some(function) = name.binary() {
        return Some(Op::Binary(function));
    }
    Op::from_attrs(name.name(), &lookup).ok()
}

/// The result types of an e-node whose children have these facts.
pub fn types_of(name: OpName, children: &[&Facts]) -> Option<SmallVec<[Type; 1]>> {
    if name.name() == "get" {
        let [index, tuple] = children else { return None };
        let Attr::Int(index) = index.attr.as_ref()?.value() else { return None };
        return Some(smallvec![tuple.types.get(usize::try_from(*index).ok()?)?.clone()]);
    }
    let op = op_from(name, &|i| children.get(i)?.attr.clone())?;
    let operands: Option<Vec<&Type>> = children.iter().filter(|facts| facts.attr.is_none()).map(|f| f.ty()).collect();
    infer(&op, &operands?).ok()
}

impl Analysis<Enode> for Region {
    type Data = Facts;

    fn make(egraph: &mut Egraph, enode: &Enode, _: Id) -> Facts {
        let origins = egraph.analysis.current.clone();
        match &enode.head {
            Head::Attr(attribute) => Facts { attr: Some(attribute.clone()), ..Facts::default() },
            Head::Constant(datum) => of_constant(datum.tensor(), origins),
            Head::Input(index) => {
                let outside = egraph.analysis.inputs.get(*index as usize);
                let types = outside.map(|outside| outside.ty.clone()).into_iter().collect();
                Facts { types, fixed: outside.is_some_and(|outside| outside.fixed), origins, ..Facts::default() }
            }
            Head::Number(_) => Facts::default(),
            Head::Op(name) => {
                let children: SmallVec<[&Facts; 6]> = enode.children.iter().map(|&id| &egraph[id].data).collect();
                of_op(*name, &children, origins)
            }
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        debug_assert!(agree(a, &b), "a rule merged {a:?}\nwith {b:?}");
        a.origins.extend(&b.origins);
        let know = |x: &Facts| {
            (x.constant.is_some(), x.splat.is_some(), x.fixed, x.non_negative, x.doubled, !x.types.is_empty())
        };
        let (before, other) = (know(a), know(&b));
        a.constant = a.constant.take().or(b.constant);
        a.splat = a.splat.or(b.splat);
        a.fixed |= b.fixed;
        a.non_negative |= b.non_negative;
        a.doubled |= b.doubled;
        if a.types.is_empty() {
            a.types = b.types;
        }
        let after = know(a);
        DidMerge(after != before, after != other)
    }

    fn modify(egraph: &mut Egraph, id: Id) {
        let Some(constant) = egraph[id].data.constant.clone() else { return };
        if egraph[id].nodes.iter().any(|node| matches!(node.head, Head::Constant(_))) {
            return;
        }
        let saved = std::mem::take(&mut egraph.analysis.current);
        let leaf = egraph.add(Enode::leaf(Head::Constant(constant.into())));
        egraph.analysis.current = saved;
        egraph.union_trusted(id, leaf, "constant folding");
    }
}

/// Two classes may be merged only if this holds.
fn agree(a: &Facts, b: &Facts) -> bool {
    let same_type = a.types.is_empty() || b.types.is_empty() || a.types == b.types;
    let same_data = match (&a.constant, &b.constant) {
        (Some(x), Some(y)) => fold::close(x, y),
        _ => true,
    };
    same_type && same_data && a.attr.is_some() == b.attr.is_some()
}

/// Constants with more elements are not looked through.
const EXAMINED: usize = 1 << 16;

fn of_constant(tensor: &Tensor, origins: Origins) -> Facts {
    // Weights are not looked through: it would take as long as using them, and they are never of one number.
    let examined = Some(tensor).filter(|tensor| tensor.count() <= EXAMINED);
    let numbers = examined.and_then(|tensor| Some(tensor.numbers().ok()?.to_f64())).unwrap_or_default();
    let splat = numbers.first().copied().filter(|x| numbers.iter().all(|y| y == x || x.is_nan() && y.is_nan()));
    Facts {
        types: smallvec![Type::of(tensor)],
        constant: (tensor.count() <= SMALL).then(|| tensor.clone()),
        splat,
        fixed: true,
        non_negative: !numbers.is_empty() && numbers.iter().all(|&x| x >= 0.0),
        origins,
        ..Facts::default()
    }
}

fn of_op(name: OpName, children: &[&Facts], origins: Origins) -> Facts {
    let types = types_of(name, children).unwrap_or_default();
    let operands: SmallVec<[&Facts; 4]> = children.iter().copied().filter(|facts| facts.attr.is_none()).collect();
    let known = |facts: &&Facts| match facts.attr.as_ref().map(Attribute::value) {
        Some(Attr::Dims(dims)) => dims.iter().all(|dim| dim.as_const().is_some()),
        Some(Attr::Dim(dim)) => dim.as_const().is_some(),
        _ => true,
    };
    // A size that is bound at run time makes even a broadcast constant unknown.
    let fixed = operands.iter().all(|facts| facts.fixed)
        && children.iter().all(known)
        && types.iter().all(|ty| ty.count().as_const().is_some());
    let constant = if fixed { fold_small(name, children, &operands, &types) } else { None };
    let mut facts = Facts { types, fixed, origins, ..Facts::default() };
    if let Some(tensor) = constant {
        let known = of_constant(&tensor, Origins::default());
        (facts.constant, facts.splat, facts.non_negative) = (known.constant, known.splat, known.non_negative);
        return facts;
    }
    facts.splat = splat_of(name, &operands, facts.ty().map(|ty| ty.dtype));
    facts.non_negative = is_non_negative(name, children, &operands);
    facts.doubled = is_doubled(name, children, &operands, &facts.types);
    facts
}

fn fold_small(name: OpName, children: &[&Facts], operands: &[&Facts], types: &[Type]) -> Option<Tensor> {
    let [ty] = types else { return None };
    if name.name() == "get" || ty.count().as_usize().is_none_or(|count| count > SMALL) {
        return None;
    }
    let op = op_from(name, &|i| children.get(i)?.attr.clone())?;
    let tensors: Option<Vec<&Tensor>> = operands.iter().map(|facts| facts.constant.as_ref()).collect();
    fold::evaluate(&op, &tensors?).into_iter().flatten().next()
}

/// Movement keeps a number that all elements are, a cast rounds it.
fn splat_of(name: OpName, operands: &[&Facts], dtype: Option<DType>) -> Option<f64> {
    match name.name() {
        "reshape" | "transpose" | "broadcast" | "slice" => operands.first()?.splat,
        "cast" => fold::round(operands.first()?.splat?, dtype?),
        _ => None,
    }
}

fn is_non_negative(name: OpName, children: &[&Facts], operands: &[&Facts]) -> bool {
    let all = || operands.iter().all(|facts| facts.non_negative);
    match name.name() {
        "softmax" | "sigmoid" | "exp" | "iota" | "size" | "arg_reduce" => true,
        "reshape" | "transpose" | "broadcast" | "slice" | "sqrt" | "gather" | "take_along" => {
            operands.first().is_some_and(|facts| facts.non_negative)
        }
        // The second result of sorting and selecting are indices.
        "get" => {
            let index = children.first().and_then(|facts| facts.attr.as_ref()).map(Attribute::value);
            index == Some(&Attr::Int(1)) && children.get(1).is_some_and(|facts| facts.types.len() == 2)
        }
        "add" | "mul" | "min" | "concat" => all(),
        "max" => operands.iter().any(|facts| facts.non_negative),
        _ => false,
    }
}

fn is_doubled(name: OpName, children: &[&Facts], operands: &[&Facts], types: &[Type]) -> bool {
    let (Some(first), Some(last)) = (operands.first(), types.first().and_then(|ty| ty.shape.last())) else {
        return false;
    };
    let keeps_last = first.ty().and_then(|ty| ty.shape.last()) == Some(last);
    let alike =
        |facts: &&Facts| facts.doubled || facts.ty().is_some_and(|ty| ty.shape.last().is_none_or(|dim| dim.is(1)));
    match name.name() {
        "concat" => {
            let axis = children.first().and_then(|facts| facts.attr.as_ref()).map(Attribute::value);
            let is_last =
                matches!(axis, Some(Attr::Int(axis)) if Some(*axis as usize + 1) == types.first().map(Type::rank));
            // Equal halves are one class, which is given twice.
            is_last && matches!(children, [_, a, b] if std::ptr::eq(*a, *b))
        }
        "reshape" | "broadcast" | "cast" => first.doubled && keeps_last,
        _ if name.unary().is_some() => first.doubled,
        _ if name.binary().is_some() => operands.iter().any(|facts| facts.doubled) && operands.iter().all(alike),
        _ => false,
    }
}
