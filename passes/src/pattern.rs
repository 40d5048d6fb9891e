//! Patterns as text, and how they are matched in an e-graph.
//!
//! A pattern is an S-expression over the language: `(mul ?x (sigmoid ?x))`. Both orders of the operands of a commutative
//! op are tried, so that no rule needs a commuted twin and no commuted nodes fill the e-graph. A decimal number matches a
//! class all of whose elements are that number, whatever its type and shape.

use egg::{ENodeOrVar, Id, PatternAst};
use smallvec::SmallVec;
use tarsia_tensor::DType;

use crate::{
    facts::Egraph,
    fold,
    language::{Enode, Head, OpName},
};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A variable, by its place among the rule's variables.
    Var(usize),
    /// An op on attributes and operands.
    Node(OpName, Vec<Pattern>),
    /// An attribute or input leaf.
    Leaf(Head),
    /// A constant all of whose elements are this number.
    Number(f64),
}

/// What the variables of a rule stand for.
pub type Bindings = SmallVec<[Option<Id>; 8]>;

/// One way in which a pattern matches a class.
#[derive(Clone, Debug)]
pub struct Found {
    /// The variables' classes.
    pub bindings: Bindings,
    /// The classes that inner nodes of the pattern matched, the root first.
    pub covered: SmallVec<[Id; 8]>,
}

/// Matches of one pattern in one class beyond this many are dropped.
const MATCHES_PER_CLASS: usize = 64;

impl Pattern {
    /// Compiles pattern text; new variables are appended to `variables`.
    ///
    /// # Errors
    /// If the text is not an S-expression over the language.
    pub fn parse(text: &str, variables: &mut Vec<String>) -> Result<Pattern, String> {
        let ast: PatternAst<Enode> = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
        let mut done: Vec<Pattern> = Vec::new();
        for node in ast.as_ref() {
            let pattern = match node {
                ENodeOrVar::Var(var) => {
                    let name = var.to_string().trim_start_matches('?').to_owned();
                    let known = variables.iter().position(|v| *v == name);
                    Pattern::Var(known.unwrap_or_else(|| {
                        variables.push(name);
                        variables.len() - 1
                    }))
                }
                ENodeOrVar::ENode(enode) => match &enode.head {
                    Head::Op(name) => {
                        let children = enode.children.iter().map(|&id| done[usize::from(id)].clone()).collect();
                        Pattern::Node(*name, children)
                    }
                    Head::Number(value) => Pattern::Number(value.0),
                    head => Pattern::Leaf(head.clone()),
                },
            };
            done.push(pattern);
        }
        done.pop().ok_or_else(|| format!("`{text}` is empty"))
    }

    /// The op at the root.
    pub fn root(&self) -> Option<OpName> {
        match self {
            Pattern::Node(name, _) => Some(*name),
            _ => None,
        }
    }

    /// The term of `class` that the pattern matches with these bindings, as an id of its own.
    pub fn instance(&self, egraph: &mut Egraph, class: Id, bindings: &Bindings) -> Option<Id> {
        let (name, patterns) = match self {
            Pattern::Var(var) => return bindings[*var].filter(|&id| egraph.find(id) == class),
            Pattern::Number(value) => return is_number(egraph, class, *value).then_some(class),
            Pattern::Leaf(head) => return egraph[class].nodes.iter().any(|node| node.head == *head).then_some(class),
            Pattern::Node(name, patterns) => (*name, patterns),
        };
        let fits = |node: &&Enode| node.op() == Some(name) && node.children.len() == patterns.len();
        let nodes: Vec<Enode> = egraph[class].nodes.iter().filter(fits).cloned().collect();
        for node in nodes {
            let mut orders = vec![(0..patterns.len()).collect::<Vec<usize>>()];
            if name.commutes() {
                orders.push(vec![1, 0]);
            }
            for order in orders {
                let mut term = node.clone();
                let matched = patterns.iter().zip(&order).all(|(pattern, &place)| {
                    let child = egraph.find(node.children[place]);
                    let id = pattern.instance(egraph, child, bindings);
                    id.map(|id| term.children[place] = id).is_some()
                });
                if matched {
                    return Some(egraph.add_uncanonical(term));
                }
            }
        }
        None
    }

    /// All ways in which the pattern matches `class`.
    pub fn search(&self, egraph: &Egraph, class: Id, variables: usize) -> Vec<Found> {
        let mut search = Search { egraph, found: Vec::new(), covered: SmallVec::new() };
        let mut bindings: Bindings = SmallVec::from_elem(None, variables);
        let mut goals: Vec<(&Pattern, Id)> = vec![(self, egraph.find(class))];
        search.solve(&mut goals, &mut bindings);
        search.found
    }
}

struct Search<'a> {
    egraph: &'a Egraph,
    found: Vec<Found>,
    covered: SmallVec<[Id; 8]>,
}

impl Search<'_> {
    /// Solves the last goal, then the others; leaves `goals` and `bindings` as it found them.
    fn solve(&mut self, goals: &mut Vec<(&Pattern, Id)>, bindings: &mut Bindings) {
        if self.found.len() >= MATCHES_PER_CLASS {
            return;
        }
        let Some((pattern, class)) = goals.pop() else {
            let known = self.found.iter().any(|found| found.bindings == *bindings);
            if !known {
                self.found.push(Found { bindings: bindings.clone(), covered: self.covered.clone() });
            }
            return;
        };
        match pattern {
            Pattern::Var(var) => match bindings[*var] {
                Some(bound) if bound == class => self.solve(goals, bindings),
                Some(_) => {}
                None => {
                    bindings[*var] = Some(class);
                    self.solve(goals, bindings);
                    bindings[*var] = None;
                }
            },
            Pattern::Number(value) => {
                if is_number(self.egraph, class, *value) {
                    self.solve(goals, bindings);
                }
            }
            Pattern::Leaf(head) => {
                if self.egraph[class].nodes.iter().any(|node| node.head == *head) {
                    self.solve(goals, bindings);
                }
            }
            Pattern::Node(name, children) => self.solve_node(*name, children, class, goals, bindings),
        }
        goals.push((pattern, class));
    }

    fn solve_node<'p>(
        &mut self,
        name: OpName,
        children: &'p [Pattern],
        class: Id,
        goals: &mut Vec<(&'p Pattern, Id)>,
        bindings: &mut Bindings,
    ) {
        self.covered.push(class);
        let egraph = self.egraph;
        let nodes = egraph[class].nodes.iter().filter(|n| n.op() == Some(name) && n.children.len() == children.len());
        for node in nodes {
            let mark = goals.len();
            // The first child is matched first: goals are a stack.
            goals.extend(children.iter().zip(node.children.iter().map(|&id| egraph.find(id))).rev());
            self.solve(goals, bindings);
            goals.truncate(mark);
            if let ([a, b], [x, y], true) = (children, node.children.as_slice(), name.commutes()) {
                goals.extend([(b, egraph.find(*x)), (a, egraph.find(*y))]);
                self.solve(goals, bindings);
                goals.truncate(mark);
            }
        }
        self.covered.pop();
    }
}

/// Whether all elements of a class are `value`: exactly, if `value` is a short number such as 0.5, otherwise up to the
/// rounding that an exporter may have done to a written-out constant.
fn is_number(egraph: &Egraph, class: Id, value: f64) -> bool {
    let facts = &egraph[class].data;
    let (Some(splat), Some(ty)) = (facts.splat, facts.ty()) else { return false };
    if splat == value || splat.is_nan() && value.is_nan() {
        return true;
    }
    let is_short = fold::round(value, DType::BF16) == Some(value);
    !is_short && (splat - value).abs() <= value.abs() * constant_tolerance(ty.dtype)
}

/// How far a written-out constant may be off.
fn constant_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::F32 => 1e-5,
        DType::F16 => 1e-3,
        _ => 1e-2,
    }
}
