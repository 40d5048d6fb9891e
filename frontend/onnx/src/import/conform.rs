//! Whether a node is as its operator's signature says: numbers of inputs and outputs, attributes and their kinds, element types.
//!
//! Operators that ONNX does not define have no signature and are left to their importers. An element type is accepted if any
//! version of the operator takes it: later versions add types without changing what is computed.

use tarsia_tensor::DType;

use super::{Ctx, Item};
use crate::{
    Fault, Node, Problem, opset,
    signature::{self, Count, Parameter, Signature},
};

impl<'a> Ctx<'a, '_> {
    /// All that is wrong with the node.
    pub(super) fn nonconformities(&self, node: &Node<'a>, version: i64) -> Vec<Problem> {
        let (domain, operator) = (opset::canonical(node.domain()), node.op_type());
        let Some(signature) = signature::of(domain, operator, version).filter(|signature| !signature.removed) else {
            return Vec::new();
        };
        let mut problems = counts(node, &signature);
        problems.extend(attributes(node, &signature));
        problems.extend(self.element_types(node, &signature));
        problems
    }

    /// Inputs that are tensors: of a type that the operator takes, and of one type where it says so.
    fn element_types(&self, node: &Node<'a>, signature: &Signature) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut bound: Vec<(&str, usize, DType)> = Vec::new();
        let newer = signature::versions(opset::canonical(node.domain()), node.op_type());
        for at in 0..node.inputs().len() {
            let Some(parameter) = Signature::parameter(&signature.inputs, at) else { break };
            let (Some(dtype), true) = (self.element_type(node, at), is_plain(signature, parameter)) else { continue };
            let taken = |version: &Signature| {
                let same = Signature::parameter(&version.inputs, at);
                same.is_some_and(|parameter| version.dtypes(parameter).contains(&dtype))
            };
            if !newer.iter().any(taken) {
                let types: Vec<&str> = signature.dtypes(parameter).iter().map(|dtype| dtype.name()).collect();
                let (name, types) = (parameter.name, types.join(", "));
                let text = format!("input {at} (`{name}`) is {dtype}, but the operator takes {types} there");
                problems.push(node.problem(Fault::Invalid(text)));
                continue;
            }
            let is_variable = signature.variables.iter().any(|(name, _)| *name == parameter.ty);
            let shared = is_variable && !matches!(parameter.count, Count::Many { one_type: false, .. });
            match bound.iter().find(|(variable, ..)| shared && *variable == parameter.ty) {
                Some(&(_, first, other)) if other != dtype => {
                    let name = |at| Signature::parameter(&signature.inputs, at).map_or("", |parameter| parameter.name);
                    let text = format!(
                        "input {at} (`{}`) is {dtype} and input {first} (`{}`) is {other}, but they must be of one type",
                        name(at),
                        name(first),
                    );
                    problems.push(node.problem(Fault::Invalid(text)));
                }
                Some(_) => {}
                None if shared => bound.push((parameter.ty, at, dtype)),
                None => {}
            }
        }
        problems
    }

    /// The element type of an input that is a tensor.
    fn element_type(&self, node: &Node<'a>, at: usize) -> Option<DType> {
        match self.item(node, at)? {
            Item::Tensor(value) => Some(self.dtype(*value)),
            Item::Known(known) => Some(known.dtype),
            _ => None,
        }
    }
}

/// Whether all types of a parameter are those of tensors.
fn is_plain(signature: &Signature, parameter: &Parameter) -> bool {
    signature.types(parameter).iter().all(|name| !name.contains('('))
}

/// Inputs and outputs by number.
fn counts(node: &Node<'_>, signature: &Signature) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (what, names, parameters) in
        [("input", node.inputs(), &signature.inputs), ("output", node.outputs(), &signature.outputs)]
    {
        let (least, most) = Signature::counts(parameters);
        let given = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        if most.is_some_and(|most| given > most) {
            let most = most.unwrap_or_default();
            let text = format!("it has {given} {what}s, but the operator has at most {most}");
            problems.push(node.problem(Fault::Invalid(text)));
        }
        for at in (0..least).filter(|_| what == "input") {
            let needed = parameters.get(at).is_none_or(|parameter| parameter.count != Count::Optional);
            if needed && node.input(at).is_none() {
                problems.push(node.problem(Fault::MissingInput(at)));
            }
        }
    }
    problems
}

/// Attributes by name and kind.
fn attributes(node: &Node<'_>, signature: &Signature) -> Vec<Problem> {
    let mut problems = Vec::new();
    for attribute in node.attrs() {
        let fault = match signature.attributes.iter().find(|(name, ..)| *name == attribute.name()) {
            Some(&(_, expected, _)) if attribute.kind() != expected => {
                Fault::AttributeKind { expected, found: attribute.kind() }
            }
            Some(_) => continue,
            None => Fault::UnknownAttribute { known: signature.attributes.iter().map(|(name, ..)| *name).collect() },
        };
        problems.push(node.problem(fault).in_attribute(attribute.name()));
    }
    for (name, ..) in signature.attributes.iter().filter(|(_, _, is_required)| *is_required) {
        if node.attrs().all(|attribute| attribute.name() != *name) {
            problems.push(node.problem(Fault::MissingAttribute).in_attribute(name));
        }
    }
    problems
}
