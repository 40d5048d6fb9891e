//! Every rule is tested without anyone writing a test: its left side is instantiated on random small shapes, the rule is
//! applied, and every form that the matched class then has is evaluated. A rule that is never applied fails too.

use egg::Id;
use tarsia_graph::{Attr, Graph, Op, Type, Value, eval};
use tarsia_tensor::{DType, Dim, Numbers, Tensor};

use super::sample::{self, Rng};
use crate::{
    convert,
    extract::{Choice, Extract, Greedy},
    fold,
    language::{Head, OpName},
    pattern::Pattern,
    rule::{Class, Rule},
    saturate::{Limits, Saturated, saturate},
};

/// Tries before a rule counts as one that cannot be instantiated.
const TRIES: usize = 6000;
/// Applications that are checked.
const CHECKED: usize = 6;

#[test]
fn every_rule_is_sound() {
    let mut failures = Vec::new();
    for rule in super::all() {
        // A merge of classes that disagree panics in debug builds.
        let result = std::panic::catch_unwind(|| check(rule)).unwrap_or_else(|_| Err("merged what differs".into()));
        if let Err(why) = result {
            failures.push(format!("{} [{}]: {why}", rule.name, rule.text));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = super::all().iter().map(|rule| rule.name.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

fn check(rule: &Rule) -> Result<(), String> {
    let (mut rng, mut checked, mut misses) = (Rng::new(&rule.name), 0, std::collections::BTreeSet::new());
    let seeds = sample::seeds(&rule.name);
    for attempt in 0..TRIES {
        let graph = match seeds.get(attempt % seeds.len().max(1)) {
            Some(graph) => Some(graph.clone()),
            None => instantiate(rule, &mut rng),
        };
        let Some(graph) = graph else { continue };
        let fixed = vec![false; graph.inputs().len()];
        let limits = Limits { iterations: 1, ..Limits::default() };
        let rules = std::slice::from_ref(rule);
        let saturated = saturate(&graph, &fixed, rules, &limits, false).map_err(|error| error.to_string())?;
        if saturated.health.applied.is_empty() {
            misses.extend(saturated.health.missed.into_values().flat_map(|reasons| reasons.into_keys()));
            continue;
        }
        checked += usize::from(compare(rule, &graph, &saturated, &mut rng)?);
        if checked >= CHECKED {
            return Ok(());
        }
    }
    if checked > 0 { Ok(()) } else { Err(format!("never applied; {misses:?}")) }
}

/// Whether the forms of the root could be evaluated; an error if one differs.
fn compare(rule: &Rule, graph: &Graph, saturated: &Saturated, rng: &mut Rng) -> Result<bool, String> {
    let inputs: Vec<Tensor> =
        graph.inputs().iter().map(|(name, id)| rng.tensor(name, graph.ty((*id).into()))).collect();
    let Ok(expected) = eval::run(graph, &inputs) else { return Ok(false) };
    let base = Greedy.choose(saturated).map_err(|error| error.to_string())?;
    let mut forms = 0;
    for (number, root) in saturated.roots.iter().enumerate() {
        for node in &saturated.egraph[*root].nodes {
            let Some(choice) = through(saturated, &base, *root, node.clone()) else { continue };
            let form = convert::grow(saturated, &choice, graph).map_err(|error| error.to_string())?;
            let found = eval::run(&form, &inputs).map_err(|error| format!("{error}\n{}\n{}", graph, form))?;
            forms += usize::from(form != *graph);
            if !agree(rule.class, &expected[number], &found[number], rounding(graph)) {
                let (a, b) = (&expected[number], &found[number]);
                return Err(format!("{a:?} became {b:?}\n{}\n{}", graph, form));
            }
        }
    }
    Ok(forms > 0)
}

/// The choice with `node` at `root`, if it does not lead back to the root.
fn through(saturated: &Saturated, base: &Choice, root: Id, node: crate::language::Enode) -> Option<Choice> {
    let egraph = &saturated.egraph;
    let mut choice = base.clone();
    let mut stack: Vec<Id> = node.children.iter().map(|&id| egraph.find(id)).collect();
    choice.insert(root, node);
    let mut visited = std::collections::BTreeSet::new();
    while let Some(id) = stack.pop() {
        if id == root {
            return None;
        }
        if egraph[id].data.attr.is_some() || !visited.insert(id) {
            continue;
        }
        // Classes that the base choice did not need have one form here: what the rule has just built.
        let node = choice.entry(id).or_insert_with(|| egraph[id].nodes[0].clone()).clone();
        stack.extend(node.children.iter().map(|&child| egraph.find(child)));
    }
    Some(choice)
}

/// The rounding of the narrowest type in a graph.
fn rounding(graph: &Graph) -> f64 {
    let types = graph.node_ids().flat_map(|id| graph[id].types.iter());
    types.map(|ty| fold::tolerance(ty.dtype)).fold(0.0, f64::max)
}

fn agree(class: Class, a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return false;
    }
    match (class, a.numbers(), b.numbers()) {
        (Class::Exact, Ok(x), Ok(y)) => {
            x.to_f64().iter().zip(y.to_f64()).all(|(&x, y)| x == y || x.is_nan() && y.is_nan())
        }
        (_, Ok(x), Ok(y)) => x.to_f64().iter().zip(y.to_f64()).all(|(&x, y)| {
            x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= tolerance * (1.0 + x.abs().max(y.abs()))
        }),
        _ => a == b,
    }
}

/// A graph of the rule's left side on random types.
fn instantiate(rule: &Rule, rng: &mut Rng) -> Option<Graph> {
    let mut maker =
        Maker { graph: Graph::new("rule"), bound: vec![None; rule.variables.len()], rule, base: rng.shape(), rng };
    let dtype = maker.rng.dtype();
    match maker.make(&rule.left, dtype)? {
        Made::Value(value) => {
            maker.graph.add_output("y", value);
            Some(maker.graph)
        }
        Made::Attr(_) => None,
    }
}

#[derive(Clone)]
enum Made {
    Value(Value),
    Attr(Attr),
}

struct Maker<'a> {
    graph: Graph,
    bound: Vec<Option<Made>>,
    rule: &'a Rule,
    base: Vec<usize>,
    rng: &'a mut Rng,
}

impl Maker<'_> {
    fn make(&mut self, pattern: &Pattern, dtype: DType) -> Option<Made> {
        match pattern {
            Pattern::Var(var) => {
                if let Some(made) = &self.bound[*var] {
                    return Some(made.clone());
                }
                let value = self.leaf(&self.rule.variables[*var].clone(), dtype);
                self.bound[*var] = Some(Made::Value(value));
                Some(Made::Value(value))
            }
            Pattern::Number(value) => {
                let tensor = fold::scalar(dtype, *value)?;
                Some(Made::Value(self.graph.add_constant(tensor, Default::default())))
            }
            Pattern::Leaf(Head::Attr(attr)) => Some(Made::Attr(attr.value().clone())),
            Pattern::Leaf(_) => None,
            Pattern::Node(name, children) => self.node(*name, children, dtype),
        }
    }

    /// A variable: mostly an input of the base shape, sometimes one that broadcasts, sometimes a number.
    fn leaf(&mut self, name: &str, dtype: DType) -> Value {
        if dtype != DType::Bool && self.rng.below(4) == 0 {
            let value = [2.0, 0.5, 3.0, -1.5, 1.0, 4.0, 0.25][self.rng.below(7)];
            let value = if self.rng.below(3) == 0 { self.base.iter().product::<usize>().min(10) as f64 } else { value };
            let value = if self.rng.below(6) == 0 { 1.0 / value } else { value };
            if let Some(tensor) = fold::scalar(dtype, value) {
                return self.graph.add_constant(tensor, Default::default());
            }
        }
        if dtype == DType::Bool && self.rng.below(3) == 0 {
            let truth = self.rng.below(2) as u64;
            if let Ok(tensor) = Tensor::from_numbers(DType::Bool, &[], &Numbers::Uint(vec![truth])) {
                return self.graph.add_constant(tensor, Default::default());
            }
        }
        let shape = self.rng.shape_like(&self.base);
        let shape: Vec<Dim> = shape.into_iter().map(Dim::from).collect();
        self.graph.add_input(name, Type::new(dtype, shape))
    }

    fn node(&mut self, name: OpName, children: &[Pattern], dtype: DType) -> Option<Made> {
        let attrs = sample::attr_count(name);
        if name.name() == "get" || children.len() < attrs {
            return None;
        }
        let (attr_patterns, operand_patterns) = children.split_at(attrs);
        let mut operands: Vec<Option<Value>> = vec![None; operand_patterns.len()];
        // Numbers take the type of a sibling.
        let numbers_last = (0..operands.len()).filter(|&i| !matches!(operand_patterns[i], Pattern::Number(_)));
        let order =
            numbers_last.chain((0..operands.len()).filter(|&i| matches!(operand_patterns[i], Pattern::Number(_))));
        for i in order.collect::<Vec<_>>() {
            let wanted = sample::operand_dtype(name, i, dtype, self.rng);
            let sibling = operands.iter().flatten().next().map(|&value| self.graph.ty(value).dtype);
            let wanted = if name.name() == "select" {
                wanted
            } else {
                sibling.filter(|_| name.binary().is_some()).unwrap_or(wanted)
            };
            let Made::Value(value) = self.make(&operand_patterns[i], wanted)? else { return None };
            operands[i] = Some(value);
        }
        let operands: Vec<Value> = operands.into_iter().collect::<Option<_>>()?;
        let types: Vec<Type> = operands.iter().map(|&value| self.graph.ty(value).clone()).collect();
        let sampled = sample::attrs(name, &types, dtype, self.rng)?;
        let mut values = Vec::new();
        for (pattern, sampled) in attr_patterns.iter().zip(sampled) {
            values.push(match pattern {
                Pattern::Var(var) => match self.bound[*var].get_or_insert(Made::Attr(sampled)) {
                    Made::Attr(attr) => attr.clone(),
                    Made::Value(_) => return None,
                },
                other => match self.make(other, dtype)? {
                    Made::Attr(attr) => attr,
                    Made::Value(_) => return None,
                },
            });
        }
        let op = crate::facts::op_from(name, &|i| values.get(i).cloned().map(Into::into))?;
        let op = fit(op, &types);
        Some(Made::Value(self.graph.add(op, &operands, Default::default()).ok()?.into()))
    }
}

/// Contraction results are of the operands' type in most rules.
fn fit(op: Op, types: &[Type]) -> Op {
    match op {
        Op::Contract { spec, .. } => Op::Contract { spec, dtype: types[0].dtype },
        op => op,
    }
}
