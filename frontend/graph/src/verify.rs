//! The verifier: what every graph satisfies after every phase. All problems are reported at once.

use std::{collections::BTreeSet, fmt};

use tarsia_tensor::{DType, Dim, Symbol, host};
use thiserror::Error;

use crate::{
    Attr, Graph, NodeId, Op, Origin, Type, Value,
    infer::{agree, infer},
    text,
};

/// Something that is wrong with a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The nodes whose sub-graphs lead to the one that is meant, outermost first.
    pub path: Vec<NodeId>,
    /// The node, unless the graph as a whole is meant.
    pub node: Option<NodeId>,
    /// The node as text.
    pub line: String,
    /// The model's nodes that it comes from.
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
}

/// Everything that is wrong with a graph.
#[derive(Clone, Debug, Error, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let between = if i > 0 { "\n" } else { "" };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.path {
            write!(f, "in %{}: ", node.index())?;
        }
        if !self.line.is_empty() {
            writeln!(f, "{}", self.line)?;
            f.write_str("    ")?;
        }
        f.write_str(&self.message)
    }
}

/// Checks a graph and its sub-graphs.
///
/// # Errors
/// All problems, if there are any.
pub fn verify(graph: &Graph) -> Result<(), Problems> {
    let mut problems = Vec::new();
    Verifier { graph, path: Vec::new(), known: BTreeSet::new(), problems: &mut problems }.graph();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

struct Verifier<'a> {
    graph: &'a Graph,
    path: Vec<NodeId>,
    /// Symbols that have a value where the verifier is.
    known: BTreeSet<Symbol>,
    problems: &'a mut Vec<Problem>,
}

impl Verifier<'_> {
    fn report(&mut self, node: Option<NodeId>, message: String) {
        let line = node.map(|id| text::line(self.graph, id)).unwrap_or_default();
        let origin = node.map(|id| self.graph[id].origin.clone()).unwrap_or_default();
        self.problems.push(Problem { path: self.path.clone(), node, line, origin, message });
    }

    fn graph(&mut self) {
        let graph = self.graph;
        self.inputs();
        for id in graph.node_ids() {
            if self.operands_exist(id) {
                self.types(id);
                self.op(id);
                self.symbols(id);
            }
        }
        self.outputs();
    }

    fn inputs(&mut self) {
        let graph = self.graph;
        let names = graph.inputs().iter().map(|(name, _)| name.as_str());
        self.unique(names, "inputs");
        let mut dims: Vec<&Dim> = Vec::new();
        for (i, (name, id)) in graph.inputs().iter().enumerate() {
            match graph.dag().node_weight(*id).map(|node| (&node.op, node.types.first())) {
                Some((Op::Input { index, .. }, Some(ty))) if *index == i => dims.extend(&ty.shape),
                Some(_) => self.report(Some(*id), format!("this should be input {i}, `{name}`")),
                None => self.report(None, format!("the input `{name}` does not exist")),
            }
        }
        determine(&dims, &mut self.known);
        for id in graph.node_ids() {
            if let Op::Input { index, .. } = &graph[id].op
                && graph.inputs().get(*index).map(|(_, input)| *input) != Some(id)
            {
                self.report(Some(id), format!("the graph does not name this node as its input {index}"));
            }
        }
    }

    fn outputs(&mut self) {
        let graph = self.graph;
        let names = graph.outputs().iter().map(|output| output.name.as_str());
        self.unique(names, "outputs");
        for output in graph.outputs() {
            if type_of(graph, output.value).is_none() {
                self.report(None, format!("the value of the output `{}` does not exist", output.name));
            }
        }
    }

    fn unique<'n>(&mut self, names: impl Iterator<Item = &'n str>, what: &str) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                self.report(None, format!("several {what} are named `{name}`"));
            }
        }
    }

    /// Operands are results of earlier nodes, numbered without gaps.
    fn operands_exist(&mut self, id: NodeId) -> bool {
        let graph = self.graph;
        let operands = graph.operands(id);
        let before = self.problems.len();
        for (i, value) in operands.iter().enumerate() {
            if value.node >= id {
                self.report(Some(id), format!("operand {i} is %{}, which does not come before it", value.node.index()));
            } else if type_of(graph, *value).is_none() {
                let message =
                    format!("operand {i} is result {} of %{}, which has no such", value.output, value.node.index());
                self.report(Some(id), message);
            }
        }
        let mut places: Vec<u32> =
            graph.dag().edges_directed(id, petgraph::Direction::Incoming).map(|edge| edge.weight().operand).collect();
        places.sort_unstable();
        if !places.iter().copied().eq(0..operands.len() as u32) {
            self.report(Some(id), format!("its operands are numbered {places:?}"));
        }
        self.problems.len() == before
    }

    fn types(&mut self, id: NodeId) {
        let node = &self.graph[id];
        let operands = self.operand_types(id);
        match infer(&node.op, &operands.iter().collect::<Vec<_>>()) {
            Ok(types) if types == node.types => {}
            Ok(types) => self
                .report(Some(id), format!("its results are {}, but its op gives {}", list(&node.types), list(&types))),
            Err(error) => self.report(Some(id), error.to_string()),
        }
        for dim in self.graph[id].types.iter().flat_map(|ty| &ty.shape) {
            if dim.range().high < 0 {
                self.report(Some(id), format!("a result has the size {dim}"));
            }
        }
    }

    fn operand_types(&self, id: NodeId) -> Vec<Type> {
        self.graph.operands(id).iter().map(|value| self.graph.ty(*value).clone()).collect()
    }

    /// What the shape rule does not see.
    fn op(&mut self, id: NodeId) {
        let graph = self.graph;
        let operands = self.operand_types(id);
        match &graph[id].op {
            Op::If { then_branch, else_branch, types } => {
                self.scalar(id, &operands, 0, DType::Bool);
                for (name, branch) in [("then_branch", then_branch), ("else_branch", else_branch)] {
                    self.fit(id, &format!("inputs of `{name}`"), &inputs_of(branch), &operands[1..]);
                    self.fit(id, &format!("outputs of `{name}`"), &outputs_of(branch), types);
                }
            }
            Op::Loop { body, carried, types } => self.check_loop(id, body, *carried, types, &operands),
            Op::ScanLoop { .. } => self.check_scan(id, &operands),
            Op::Kernel { body } => self.fit(id, "inputs of `body`", &inputs_of(body), &operands),
            Op::Host { function, types, .. } => match host::find(function) {
                None => self.report(Some(id), format!("there is no host function `{function}`")),
                Some(row) => {
                    let (low, high) = row.operands;
                    if !(low..=high).contains(&operands.len()) {
                        self.report(
                            Some(id),
                            format!("`{function}` takes {low} to {high} operands, not {}", operands.len()),
                        );
                    }
                    if let Some(results) = row.results.filter(|&results| results != types.len()) {
                        self.report(Some(id), format!("`{function}` has {results} results, not {}", types.len()));
                    }
                }
            },
            Op::Random { distribution, .. } if !matches!(distribution.as_str(), "uniform" | "normal") => {
                self.report(Some(id), format!("there is no distribution `{distribution}`"));
            }
            _ => {}
        }
        for body in graph[id].op.subgraphs() {
            let path = self.path.iter().copied().chain([id]).collect();
            Verifier { graph: body, path, known: self.known.clone(), problems: self.problems }.graph();
        }
    }

    fn check_loop(&mut self, id: NodeId, body: &Graph, carried: usize, types: &[Type], operands: &[Type]) {
        self.scalar(id, operands, 0, DType::I64);
        self.scalar(id, operands, 1, DType::Bool);
        let scalar = |dtype| Type::new(dtype, []);
        if operands.len() < 2 + carried || types.len() < carried {
            return self.report(Some(id), format!("{carried} carried values are more than its operands or results"));
        }
        let expected: Vec<Type> =
            [scalar(DType::I64), scalar(DType::Bool)].into_iter().chain(operands[2..].iter().cloned()).collect();
        self.fit(id, "inputs of `body`", &inputs_of(body), &expected);
        let stacked = types[carried..].iter().map(|ty| without_axis(ty, 0));
        let expected: Vec<Type> =
            [scalar(DType::Bool)].into_iter().chain(types[..carried].iter().cloned()).chain(stacked).collect();
        self.fit(id, "outputs of `body`", &outputs_of(body), &expected);
    }

    fn check_scan(&mut self, id: NodeId, operands: &[Type]) {
        let Op::ScanLoop { body, states, input_axes, input_reverse, output_axes, output_reverse, types } =
            &self.graph[id].op
        else {
            return;
        };
        let (states, scanned) = (*states, input_axes.len());
        let consistent = operands.len() >= states + scanned
            && types.len() == states + output_axes.len()
            && input_reverse.len() == scanned
            && output_reverse.len() == output_axes.len();
        if !consistent {
            let message = "states, axes and directions do not fit the number of operands and results";
            return self.report(Some(id), message.to_owned());
        }
        let slices = operands[states..].iter().zip(input_axes).map(|(ty, &axis)| without_axis(ty, axis));
        let expected: Vec<Type> = operands[..states]
            .iter()
            .cloned()
            .chain(slices)
            .chain(operands[states + scanned..].iter().cloned())
            .collect();
        self.fit(id, "inputs of `body`", &inputs_of(body), &expected);
        let slices = types[states..].iter().zip(output_axes).map(|(ty, &axis)| without_axis(ty, axis));
        let expected: Vec<Type> = types[..states].iter().cloned().chain(slices).collect();
        self.fit(id, "outputs of `body`", &outputs_of(body), &expected);
    }

    fn scalar(&mut self, id: NodeId, operands: &[Type], at: usize, dtype: DType) {
        if let Some(ty) = operands.get(at)
            && *ty != Type::new(dtype, [])
        {
            self.report(Some(id), format!("operand {at} must be {dtype}[], not {ty}"));
        }
    }

    /// Types of a sub-graph's inputs or outputs against those around it: sizes that differ must not both be known.
    fn fit(&mut self, id: NodeId, what: &str, found: &[Type], expected: &[Type]) {
        let alike = |(a, b): (&Type, &Type)| {
            a.dtype == b.dtype && a.rank() == b.rank() && a.shape.iter().zip(&b.shape).all(|(a, b)| agree(a, b))
        };
        if found.len() != expected.len() || !found.iter().zip(expected).all(alike) {
            self.report(Some(id), format!("the {what} are ({}) instead of ({})", list(found), list(expected)));
        }
    }

    /// Sizes in attributes must be known; results that only the data determine make theirs known.
    fn symbols(&mut self, id: NodeId) {
        let op = &self.graph[id].op;
        let mut used = BTreeSet::new();
        if !matches!(op, Op::Input { .. }) {
            for (name, attr) in op.attrs() {
                match attr {
                    Attr::Dim(dim) => dim.collect_symbols(&mut used),
                    Attr::Dims(dims) => dims.iter().for_each(|dim| dim.collect_symbols(&mut used)),
                    _ => debug_assert!(name != "shape", "shapes are sizes"),
                }
            }
        }
        for symbol in used.difference(&self.known.clone()) {
            self.report(Some(id), format!("nothing before it determines the size `{symbol}`"));
        }
        if matches!(op, Op::If { .. } | Op::Loop { .. } | Op::ScanLoop { .. } | Op::Kernel { .. } | Op::Host { .. }) {
            let dims: Vec<&Dim> = self.graph[id].types.iter().flat_map(|ty| &ty.shape).collect();
            determine(&dims, &mut self.known);
        }
    }
}

/// Adds the symbols that sizes determine, as `Bindings::learn` finds their values.
fn determine(dims: &[&Dim], known: &mut BTreeSet<Symbol>) {
    loop {
        let before = known.len();
        for dim in dims {
            let open: Vec<Symbol> = dim.symbols().into_iter().filter(|symbol| !known.contains(symbol)).collect();
            if let [symbol] = open.as_slice()
                && dim.linear_in(symbol).is_some_and(|(factor, _)| !factor.is(0))
            {
                known.insert(symbol.clone());
            }
        }
        if known.len() == before {
            return;
        }
    }
}

fn type_of(graph: &Graph, value: Value) -> Option<&Type> {
    graph.dag().node_weight(value.node)?.types.get(value.output as usize)
}

fn inputs_of(body: &Graph) -> Vec<Type> {
    let ty = |id: NodeId| type_of(body, id.into()).cloned();
    body.inputs().iter().filter_map(|(_, id)| ty(*id)).collect()
}

fn outputs_of(body: &Graph) -> Vec<Type> {
    body.outputs().iter().filter_map(|output| type_of(body, output.value).cloned()).collect()
}

/// The type of a slice; types without that axis stay, so that they do not fit.
fn without_axis(ty: &Type, axis: usize) -> Type {
    let mut ty = ty.clone();
    if axis < ty.rank() {
        ty.shape.remove(axis);
    }
    ty
}

fn list(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
