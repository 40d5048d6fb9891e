//! Whether a decoded model makes sense before any operator is looked at. Everything found is reported, not only the first.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use crate::{
    attribute,
    model::Model,
    opset::{self, NEWEST_OPSET, OLDEST_OPSET},
    order,
    problem::{Fault, Place, Problem, Problems},
    schema::{AttributeProto, AttributeType, FunctionProto, NEWEST_IR_VERSION, NodeProto},
    sparse,
    view::{Graph, Node},
    weights::{self, WeightError},
};

/// The oldest IR version: the first that has operator sets.
const OLDEST_IR_VERSION: i64 = 3;

/// Everything that is wrong with a model.
pub(crate) fn check(model: &Model) -> Problems {
    let mut check = Check { model, problems: Problems::new(), bytes: 0, told: BTreeSet::new() };
    let proto = model.proto();
    if !(OLDEST_IR_VERSION..=NEWEST_IR_VERSION).contains(&proto.ir_version) {
        check.push(Place::default(), Fault::IrVersion(proto.ir_version));
    }
    check.graph(&model.graph(), &mut Vec::new());
    for (index, function) in proto.functions.iter().enumerate() {
        check.function(index, function);
    }
    model.functions().check(&proto.functions, model.graph_proto(), model.limits().max_nodes, &mut check.problems);
    let (bytes, limit) = (check.bytes, model.limits().max_bytes);
    if bytes > limit {
        check.push(Place::default(), Fault::TooManyBytes { bytes, limit });
    }
    check.problems
}

fn within(node: &Node<'_>, attribute: &AttributeProto) -> Place {
    Place { attribute: Some(attribute.name.clone()), ..node.place() }
}

/// Whether an attribute holds graphs. One given to a function would be computed inside its body, but uses names of the graph
/// around the call, and its size would be multiplied by every use; no exporter writes it.
fn holds_graphs(attribute: &AttributeProto) -> bool {
    attribute.g.is_some() || !attribute.graphs.is_empty()
}

struct Check<'a> {
    model: &'a Model,
    problems: Problems,
    /// Bytes of all tensors so far, saturating.
    bytes: u64,
    /// Domains of the current body whose operator set was already reported.
    told: BTreeSet<&'a str>,
}

/// Names defined in each of the graphs around a node, outermost first.
type Visible<'a> = Vec<FxHashSet<&'a str>>;

impl<'a> Check<'a> {
    fn push(&mut self, place: Place, fault: impl Into<Fault>) {
        self.problems.push(Problem::new(place, fault));
    }

    fn function(&mut self, index: usize, function: &'a FunctionProto) {
        let body = Graph::of_function(function, self.model.unbound_scope(index, function));
        self.told.clear();
        for attribute in &function.attribute_proto {
            self.tensors(attribute, &|| body.place());
            if holds_graphs(attribute) {
                let text = format!("a graph as the default of the function's attribute `{}`", attribute.name);
                self.push(body.place(), Fault::Unsupported(text));
            }
        }
        self.graph(&body, &mut Vec::new());
    }

    fn graph(&mut self, graph: &Graph<'a>, visible: &mut Visible<'a>) {
        let defined = self.definitions(graph);
        visible.push(defined);
        let known = |visible: &Visible<'a>, name: &str| visible.iter().rev().any(|names| names.contains(name));
        for node in graph.nodes() {
            for name in node.inputs().iter().filter(|name| !name.is_empty()) {
                if !known(visible, name) {
                    self.push(node.place(), Fault::Undefined(name.clone()));
                }
            }
            self.node(&node);
            let mut names = FxHashSet::default();
            for attribute in &node.proto().attribute {
                if !names.insert(&attribute.name) {
                    self.push(within(&node, attribute), Fault::DuplicateAttribute);
                }
                self.attribute(&node, attribute, visible);
            }
        }
        for output in graph.outputs() {
            if !known(visible, output.name()) {
                let text = format!("graph `{}`: nothing defines its output `{}`", graph.name(), output.name());
                self.push(graph.place(), Fault::Invalid(text));
            }
        }
        visible.pop();
        self.cycles(graph);
    }

    /// The names that a graph defines, each of which may be defined once; only an input and its default share a name.
    fn definitions(&mut self, graph: &Graph<'a>) -> FxHashSet<&'a str> {
        let mut defined = FxHashSet::default();
        for input in graph.inputs() {
            match input.name() {
                "" => self.push(
                    graph.place(),
                    Fault::Invalid(format!("graph `{}` has an input without a name", graph.name())),
                ),
                name if !defined.insert(name) => self.push(graph.place(), Fault::Duplicate(name.to_string())),
                _ => {}
            }
        }
        let mut constants = FxHashSet::default();
        for constant in graph.initializers() {
            match constant.name() {
                "" => self.push(graph.place(), Fault::Invalid("an initialiser has no name".into())),
                name if !constants.insert(name) => self.push(graph.place(), Fault::Duplicate(name.to_string())),
                _ => {}
            }
        }
        if let Some(proto) = graph.proto() {
            proto.initializer.iter().for_each(|tensor| {
                self.weigh(weights::check(tensor, self.model.files(), self.model.limits().max_bytes), &|| {
                    graph.place()
                });
            });
            proto.sparse_initializer.iter().for_each(|tensor| {
                self.weigh(sparse::check(tensor, self.model.files(), self.model.limits().max_bytes), &|| graph.place());
            });
        }
        defined.extend(constants);
        for node in graph.nodes() {
            for name in node.outputs().iter().filter(|name| !name.is_empty()) {
                if !defined.insert(name) {
                    self.push(node.place(), Fault::Duplicate(name.clone()));
                }
            }
        }
        defined
    }

    fn node(&mut self, node: &Node<'a>) {
        if node.op_type().is_empty() {
            self.push(node.place(), Fault::Invalid("the node has no operator".into()));
        }
        let functions = &self.model.proto().functions;
        match self.model.functions().callee(functions, node.proto()).and_then(|index| functions.get(index)) {
            Some(function) => self.call(node, function),
            None => self.operator(node, node.proto()),
        }
    }

    fn call(&mut self, node: &Node<'a>, function: &FunctionProto) {
        let counts = [
            ("inputs", node.inputs().len(), function.input.len()),
            ("outputs", node.outputs().len(), function.output.len()),
        ];
        for (what, given, taken) in counts {
            if given > taken {
                let text = format!("the call has {given} {what}, but the function has {taken}");
                self.push(node.place(), Fault::Invalid(text));
            }
        }
        for attribute in node.proto().attribute.iter().filter(|attribute| holds_graphs(attribute)) {
            self.push(within(node, attribute), Fault::Unsupported("a graph as an attribute of a function".into()));
        }
    }

    /// The operator set of an operator, reported once for each domain of a body. Versions of other domains are their importers' concern.
    fn operator(&mut self, node: &Node<'a>, proto: &'a NodeProto) {
        if !proto.overload.is_empty() {
            let text = format!("no function has this name with overload `{}`", proto.overload);
            self.push(node.place(), Fault::Invalid(text));
        }
        let domain = opset::canonical(&proto.domain);
        let fault = match node.version() {
            None => Fault::OpsetMissing(domain.to_string()),
            Some(version) if domain.is_empty() && !(OLDEST_OPSET..=NEWEST_OPSET).contains(&version) => {
                Fault::OpsetVersion { domain: domain.to_string(), version }
            }
            Some(_) => return,
        };
        if self.told.insert(domain) {
            self.push(node.place(), fault);
        }
    }

    fn attribute(&mut self, node: &Node<'a>, attribute: &'a AttributeProto, visible: &mut Visible<'a>) {
        let place = || within(node, attribute);
        if !attribute.ref_attr_name.is_empty() {
            if node.scope.arguments.is_none() {
                let text =
                    format!("it stands for `{}` of a calling node, but is not in a function", attribute.ref_attr_name);
                self.push(place(), Fault::Invalid(text));
            }
            return;
        }
        if attribute::kind(attribute) == AttributeType::Undefined && attribute.r#type != 0 {
            self.push(place(), Fault::Invalid(format!("its kind {} is unknown", attribute.r#type)));
        }
        self.tensors(attribute, &place);
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            self.graph(&Graph::of_proto(graph, node.scope.clone()), visible);
        }
    }

    fn tensors(&mut self, attribute: &'a AttributeProto, place: &dyn Fn() -> Place) {
        let (files, limit) = (self.model.files(), self.model.limits().max_bytes);
        for tensor in attribute.t.as_deref().into_iter().chain(&attribute.tensors) {
            self.weigh(weights::check(tensor, files, limit), place);
        }
        for tensor in attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors) {
            self.weigh(sparse::check(tensor, files, limit), place);
        }
    }

    fn weigh(&mut self, checked: Result<u64, WeightError>, place: &dyn Fn() -> Place) {
        match checked {
            Ok(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            Err(error) => self.push(place(), error),
        }
    }

    fn cycles(&mut self, graph: &Graph<'a>) {
        let nodes: Vec<Node<'a>> = graph.nodes().collect();
        for cycle in order::sort(&order::dependencies(graph.node_protos())).cycles {
            let names =
                cycle.iter().chain(cycle.first()).filter_map(|&index| nodes.get(index)).map(Node::name).collect();
            self.push(graph.place(), Fault::Cycle(names));
        }
    }
}
