//! Rewrite rules: a pattern, conditions, and what the matched class also equals.
//!
//! A rule that matches is applied only if its conditions hold and the new form has exactly the type of the old one: under
//! NumPy broadcasting `mul(x, 1)` may be larger than `x`, and then it is not `x`. Whatever keeps a match from being applied
//! is a [`Miss`] with its reason, which `explain` shows.

use egg::Id;
use smallvec::SmallVec;
use tarsia_graph::{Attr, BinaryFn, Contraction, Op, Real, Type, infer};
use tarsia_tensor::{DType, Dim, Tensor};

use crate::{
    facts::{Egraph, Facts, Origins, types_of},
    fold,
    language::{Attribute, Enode, Head, OpName},
    pattern::{Bindings, Found, Pattern},
};

/// How exact a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Both sides give the same bits, up to the sign of zero.
    Exact,
    /// Equal as real numbers, rounded in another order.
    Reassociating,
}

/// Why a match was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Miss(pub &'static str);

/// Checks a match, and may bind variables that the right side uses.
pub type Condition = fn(&mut Match) -> Result<(), Miss>;

/// The right side of a rule.
#[derive(Clone, Debug)]
pub enum Right {
    /// A pattern over the bound variables.
    Pattern(Pattern),
    /// A function that builds it.
    Build(fn(&mut Match) -> Result<Id, Miss>),
}

/// A rewrite rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// How exact it is.
    pub class: Class,
    /// The text of the rule, for people.
    pub text: String,
    /// What it matches.
    pub left: Pattern,
    /// What that equals.
    pub right: Right,
    /// Checked in order.
    pub conditions: Vec<Condition>,
    /// The names of the variables.
    pub variables: Vec<String>,
}

impl Rule {
    /// Compiles a rule `left => right`; `right` may use variables that the conditions bind.
    ///
    /// # Panics
    /// If the text is not a pattern: rules are part of the program, and a test compiles them all.
    pub fn new(name: &str, class: Class, left: &str, right: &str, conditions: &[Condition]) -> Rule {
        let mut variables = Vec::new();
        let left_pattern = parsed(name, left, &mut variables);
        let right_pattern = parsed(name, right, &mut variables);
        Rule {
            name: name.to_owned(),
            class,
            text: format!("{left} => {right}"),
            left: left_pattern,
            right: Right::Pattern(right_pattern),
            conditions: conditions.to_vec(),
            variables,
        }
    }

    /// Compiles a rule whose right side is built by a function.
    ///
    /// # Panics
    /// If the text is not a pattern.
    pub fn built(name: &str, class: Class, left: &str, build: fn(&mut Match) -> Result<Id, Miss>) -> Rule {
        let mut variables = Vec::new();
        let left_pattern = parsed(name, left, &mut variables);
        Rule {
            name: name.to_owned(),
            class,
            text: format!("{left} => …"),
            left: left_pattern,
            right: Right::Build(build),
            conditions: Vec::new(),
            variables,
        }
    }

    /// Applies the rule to a match: gives the class that the root equals.
    ///
    /// # Errors
    /// If a condition fails or the types differ.
    pub fn apply(&self, egraph: &mut Egraph, root: Id, found: &Found) -> Result<Id, Miss> {
        let mut origins = Origins::default();
        for &class in &found.covered {
            origins.extend(&egraph[class].data.origins);
        }
        egraph.analysis.current = origins;
        let mut site = Match { rule: self, egraph, root, bindings: found.bindings.clone() };
        for condition in &self.conditions {
            condition(&mut site)?;
        }
        let built = match &self.right {
            Right::Pattern(pattern) => site.build(pattern),
            Right::Build(build) => build(&mut site),
        }?;
        let (new, old) = (&egraph[built].data.types, &egraph[root].data.types);
        if new == old { Ok(built) } else { Err(Miss("the new form has another type")) }
    }
}

fn parsed(name: &str, text: &str, variables: &mut Vec<String>) -> Pattern {
    Pattern::parse(text, variables).unwrap_or_else(|error| panic!("rule {name}: {error}"))
}

/// A match of a rule, where conditions look and right sides are built.
pub struct Match<'a> {
    rule: &'a Rule,
    /// The e-graph.
    pub egraph: &'a mut Egraph,
    /// The matched class.
    pub root: Id,
    bindings: Bindings,
}

impl Match<'_> {
    fn place(&self, name: &str) -> Result<usize, Miss> {
        self.rule.variables.iter().position(|v| v == name).ok_or(Miss("the rule has no such variable"))
    }

    /// The binary function at the root of the left side.
    pub fn root_function(&self) -> Option<BinaryFn> {
        self.rule.left.root().and_then(OpName::binary)
    }

    /// The class of a variable.
    pub fn id(&self, name: &str) -> Result<Id, Miss> {
        self.bindings[self.place(name)?].map(|id| self.egraph.find(id)).ok_or(Miss("a variable is not bound"))
    }

    /// What is known of a variable.
    pub fn facts(&self, name: &str) -> Result<&Facts, Miss> {
        Ok(&self.egraph[self.id(name)?].data)
    }

    /// The type of a class.
    pub fn type_of(&self, id: Id) -> Result<&Type, Miss> {
        self.egraph[id].data.ty().ok_or(Miss("not a single value"))
    }

    /// The type of a variable.
    pub fn ty(&self, name: &str) -> Result<&Type, Miss> {
        self.type_of(self.id(name)?)
    }

    /// The shape of a variable.
    pub fn shape(&self, name: &str) -> Result<Vec<Dim>, Miss> {
        Ok(self.ty(name)?.shape.clone())
    }

    /// The type of the matched class.
    pub fn root_type(&self) -> Result<&Type, Miss> {
        self.type_of(self.root)
    }

    /// The number that all elements of a variable are.
    pub fn splat(&self, name: &str) -> Result<f64, Miss> {
        self.facts(name)?.splat.ok_or(Miss("not one known number"))
    }

    fn attr(&self, name: &str) -> Result<&Attr, Miss> {
        self.facts(name)?.attr.as_ref().map(Attribute::value).ok_or(Miss("not an attribute"))
    }

    /// A list of axes or counts.
    pub fn axes(&self, name: &str) -> Result<Vec<usize>, Miss> {
        match self.attr(name)? {
            Attr::Ints(list) => list.iter().map(|&x| usize::try_from(x).map_err(|_| Miss("negative"))).collect(),
            _ => Err(Miss("not a list of axes")),
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>, Miss> {
        match self.attr(name)? {
            Attr::Ints(list) => Ok(list.clone()),
            _ => Err(Miss("not a list of integers")),
        }
    }

    /// An axis or count.
    pub fn axis(&self, name: &str) -> Result<usize, Miss> {
        match self.attr(name)? {
            Attr::Int(x) => usize::try_from(*x).map_err(|_| Miss("negative")),
            _ => Err(Miss("not an axis")),
        }
    }

    /// A list of sizes.
    pub fn dims(&self, name: &str) -> Result<Vec<Dim>, Miss> {
        match self.attr(name)? {
            Attr::Dims(list) => Ok(list.clone()),
            _ => Err(Miss("not a list of sizes")),
        }
    }

    /// A float attribute.
    pub fn real(&self, name: &str) -> Result<f64, Miss> {
        match self.attr(name)? {
            Attr::Real(Real(x)) => Ok(*x),
            _ => Err(Miss("not a float")),
        }
    }

    /// A contraction.
    pub fn spec(&self, name: &str) -> Result<Contraction, Miss> {
        match self.attr(name)? {
            Attr::Text(text) => text.parse().map_err(|_| Miss("not a contraction")),
            _ => Err(Miss("not a contraction")),
        }
    }

    /// An element type.
    pub fn dtype(&self, name: &str) -> Result<DType, Miss> {
        match self.attr(name)? {
            Attr::DType(dtype) => Ok(*dtype),
            _ => Err(Miss("not an element type")),
        }
    }

    /// A name.
    pub fn text(&self, name: &str) -> Result<&str, Miss> {
        match self.attr(name)? {
            Attr::Text(text) => Ok(text),
            _ => Err(Miss("not a name")),
        }
    }

    /// Binds a variable to a class.
    pub fn bind(&mut self, name: &str, id: Id) -> Result<(), Miss> {
        let place = self.place(name)?;
        self.bindings[place] = Some(id);
        Ok(())
    }

    /// Binds a variable to an attribute.
    pub fn bind_attr(&mut self, name: &str, value: Attr) -> Result<(), Miss> {
        let leaf = self.attribute(value);
        self.bind(name, leaf)
    }

    /// Binds a variable to axes.
    pub fn bind_axes(&mut self, name: &str, axes: &[usize]) -> Result<(), Miss> {
        self.bind_attr(name, Attr::Ints(axes.iter().map(|&x| x as i64).collect()))
    }

    /// Binds a variable to sizes.
    pub fn bind_dims(&mut self, name: &str, dims: Vec<Dim>) -> Result<(), Miss> {
        self.bind_attr(name, Attr::Dims(dims))
    }

    /// The class of an attribute.
    pub fn attribute(&mut self, value: Attr) -> Id {
        self.egraph.add(Enode::leaf(Head::Attr(value.into())))
    }

    /// The class of a scalar of this type.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<Id, Miss> {
        let tensor = fold::scalar(dtype, value).ok_or(Miss("not a numeric type"))?;
        Ok(self.constant(tensor))
    }

    /// The class of constant data.
    pub fn constant(&mut self, tensor: Tensor) -> Id {
        self.egraph.add(Enode::leaf(Head::Constant(tensor.into())))
    }

    /// Adds an op on classes.
    ///
    /// # Errors
    /// If the operands do not fit; then nothing is added.
    pub fn add(&mut self, op: Op, operands: &[Id]) -> Result<Id, Miss> {
        let types = operands.iter().map(|&id| self.type_of(id)).collect::<Result<Vec<_>, _>>()?;
        infer(&op, &types).map_err(|_| Miss("the operands do not fit"))?;
        add_op(self.egraph, &op, operands).ok_or(Miss("no such op"))
    }

    fn build(&mut self, pattern: &Pattern) -> Result<Id, Miss> {
        let root_dtype = self.egraph[self.root].data.ty().map(|ty| ty.dtype);
        let planned = self.plan(pattern, root_dtype)?;
        let mine = planned.types == self.egraph[self.root].data.types;
        if !mine {
            return Err(Miss("the new form has another type"));
        }
        self.grow(pattern, root_dtype)
    }

    /// What would be known of the class that `pattern` stands for, without adding anything.
    fn plan(&self, pattern: &Pattern, number: Option<DType>) -> Result<Facts, Miss> {
        match pattern {
            Pattern::Var(var) => {
                let id = self.bindings[*var].ok_or(Miss("a variable is not bound"))?;
                let data = &self.egraph[id].data;
                Ok(Facts { types: data.types.clone(), attr: data.attr.clone(), ..Facts::default() })
            }
            Pattern::Leaf(Head::Attr(attr)) => Ok(Facts { attr: Some(attr.clone()), ..Facts::default() }),
            Pattern::Leaf(_) => Err(Miss("not an attribute")),
            Pattern::Number(_) => {
                let dtype = number.ok_or(Miss("the type of a number is not known"))?;
                Ok(Facts { types: SmallVec::from_iter([Type::new(dtype, [])]), ..Facts::default() })
            }
            Pattern::Node(name, children) => {
                let mut plans: Vec<Option<Facts>> = Vec::with_capacity(children.len());
                for child in children {
                    let is_number = matches!(child, Pattern::Number(_));
                    plans.push(if is_number { None } else { Some(self.plan(child, number)?) });
                }
                let sibling = plans.iter().flatten().rev().find_map(Facts::ty).map(|ty| ty.dtype).or(number);
                let mut facts = Vec::with_capacity(plans.len());
                for (plan, child) in plans.into_iter().zip(children) {
                    facts.push(plan.map_or_else(|| self.plan(child, sibling), Ok)?);
                }
                let types =
                    types_of(*name, &facts.iter().collect::<Vec<_>>()).ok_or(Miss("the operands do not fit"))?;
                Ok(Facts { types, ..Facts::default() })
            }
        }
    }

    fn grow(&mut self, pattern: &Pattern, number: Option<DType>) -> Result<Id, Miss> {
        match pattern {
            Pattern::Var(var) => self.bindings[*var].ok_or(Miss("a variable is not bound")),
            Pattern::Leaf(head) => Ok(self.egraph.add(Enode::leaf(head.clone()))),
            Pattern::Number(value) => self.scalar(number.ok_or(Miss("the type of a number is not known"))?, *value),
            Pattern::Node(name, children) => {
                let mut ids: Vec<Option<Id>> = Vec::with_capacity(children.len());
                for child in children {
                    let is_number = matches!(child, Pattern::Number(_));
                    ids.push(if is_number { None } else { Some(self.grow(child, number)?) });
                }
                let dtype = |id: &Id| self.egraph[*id].data.ty().map(|ty| ty.dtype);
                let sibling = ids.iter().flatten().rev().find_map(dtype).or(number);
                let mut all = SmallVec::with_capacity(ids.len());
                for (id, child) in ids.into_iter().zip(children) {
                    all.push(id.map_or_else(|| self.grow(child, sibling), Ok)?);
                }
                Ok(self.egraph.add(Enode { head: Head::Op(*name), children: all }))
            }
        }
    }
}

/// Adds an op whose operands are classes; `None` if the op is not in the language.
pub fn add_op(egraph: &mut Egraph, op: &Op, operands: &[Id]) -> Option<Id> {
    if let Op::Constant { value } = op {
        return Some(egraph.add(Enode::leaf(Head::Constant(value.clone().into()))));
    }
    let name = OpName::find(op.name())?;
    let mut children: SmallVec<[Id; 4]> = SmallVec::new();
    for (_, value) in op.attrs() {
        children.push(egraph.add(Enode::leaf(Head::Attr(value.into()))));
    }
    children.extend_from_slice(operands);
    Some(egraph.add(Enode { head: Head::Op(name), children }))
}
