//! Bodies of control operators: graphs of their own, with what they use from around them as extra inputs.

use tarsia_graph::{Graph, Type, Value};

use super::{Ctx, Form, Item, Outcome, Stop};
use crate::view;

impl<'a> Ctx<'a, '_> {
    /// What bodies use from around them and must be passed: names and values, in order of first use. Constants and elements known
    /// at import are not among them; the bodies have their own.
    ///
    /// # Errors
    /// If a sequence among them cannot be one value.
    pub fn captures(&mut self, bodies: &[&view::Graph<'a>]) -> Outcome<Vec<(&'a str, Value)>> {
        let mut captured: Vec<(&'a str, Value)> = Vec::new();
        for name in bodies.iter().flat_map(|body| body.captures()) {
            if let Some(item @ Item::Sequence(_)) = self.names.get(name).cloned().filter(|item| !item.is_poisoned()) {
                let (value, form) = self.whole(&item)?;
                self.names.insert(name, Item::Whole(value, form));
            }
            let Some(Item::Tensor(value) | Item::Whole(value, _)) = self.names.get(name) else { continue };
            if self.graph.constant(*value).is_none() && captured.iter().all(|(other, _)| *other != name) {
                captured.push((name, *value));
            }
        }
        Ok(captured)
    }

    /// Imports a body as a graph whose inputs are the body's own, of these types and forms, and then the captured values; its
    /// outputs are the body's, each as `targets` has its form, where it has one. Gives the forms of the outputs, before that, too.
    ///
    /// # Errors
    /// `Stop::Poisoned` if something in the body could not be imported, which is reported already.
    pub fn body(
        &mut self,
        body: &view::Graph<'a>,
        inputs: &[(Type, Form)],
        targets: &[Option<Form>],
        captured: &[(&'a str, Value)],
    ) -> Outcome<(Graph, Vec<Form>)> {
        let names: Vec<&'a str> = body.inputs().iter().map(view::Value::name).collect();
        let types: Vec<(&str, Type)> = names.iter().copied().zip(inputs.iter().map(|(ty, _)| ty.clone())).collect();
        let mut forms = Vec::new();
        let graph = self.sub_graph(body.name(), &types, &body.captures(), captured, |ctx, own, _| {
            for ((name, value), (_, form)) in names.iter().copied().zip(own).zip(inputs) {
                let item = ctx.opened(*value, form);
                ctx.names.insert(name, item);
            }
            forms = ctx.body_nodes(body, targets)?;
            Ok(())
        })?;
        Ok((graph, forms))
    }

    /// Makes a graph of its own: `build` adds nodes and outputs to it, given its inputs and the captured values as it has them. The
    /// names `used` that are not captured mean there what they mean here.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn sub_graph(
        &mut self,
        name: &str,
        inputs: &[(&str, Type)],
        used: &[&'a str],
        captured: &[(&'a str, Value)],
        build: impl FnOnce(&mut Self, &[Value], &[(&'a str, Value)]) -> Outcome<()>,
    ) -> Outcome<Graph> {
        let outer_graph = std::mem::replace(&mut self.graph, Graph::new(name));
        let outer_names = std::mem::take(&mut self.names);
        let outer_known = std::mem::take(&mut self.known);
        let own: Vec<Value> = inputs.iter().map(|(name, ty)| self.graph.add_input(name, ty.clone())).collect();
        let mut passed = Vec::with_capacity(captured.len());
        for &(name, value) in captured {
            let own = self.graph.add_input(name, outer_graph.ty(value).clone());
            if let Some(known) = outer_known.get(&value) {
                self.known.insert(own, known.clone());
            }
            let item = match outer_names.get(name) {
                Some(Item::Whole(_, form)) => Item::Whole(own, form.clone()),
                _ => own.into(),
            };
            self.names.insert(name, item);
            passed.push((name, own));
        }
        for &name in used {
            if captured.iter().any(|(other, _)| *other == name) {
                continue;
            }
            if let Some(item) = outer_names.get(name) {
                let item = self.captured_item(item, &outer_graph);
                self.names.insert(name, item);
            }
        }
        let result = build(self, &own, &passed);
        let graph = std::mem::replace(&mut self.graph, outer_graph);
        self.names = outer_names;
        self.known = outer_known;
        result.map(|()| graph)
    }

    /// Imports a body in place, its inputs standing for `inputs`; gives what its outputs stand for.
    ///
    /// # Errors
    /// `Stop::Poisoned` if something in the body could not be imported, which is reported already.
    pub fn inline(&mut self, body: &view::Graph<'a>, inputs: &[Item]) -> Outcome<Vec<Item>> {
        let outer_names = self.names.clone();
        for (input, item) in body.inputs().iter().zip(inputs) {
            self.names.insert(input.name(), item.clone());
        }
        self.initializers(body);
        self.nodes(body);
        let names = std::mem::replace(&mut self.names, outer_names);
        let outputs: Option<Vec<Item>> =
            body.outputs().iter().map(|output| names.get(output.name()).cloned()).collect();
        outputs.filter(|items| !items.iter().any(Item::is_poisoned)).ok_or(Stop::Poisoned)
    }

    /// An item of the surrounding graph as the body has it.
    fn captured_item(&mut self, item: &Item, outer: &Graph) -> Item {
        match item {
            Item::Tensor(value) => match outer.constant(*value) {
                Some(tensor) => Item::Tensor(self.graph.add_constant(tensor.clone(), outer[value.node].origin.clone())),
                None => Item::Poison,
            },
            Item::Sequence(items) => Item::Sequence(items.iter().map(|item| self.captured_item(item, outer)).collect()),
            // A whole value is captured where it is used.
            Item::Whole(..) => Item::Poison,
            Item::Known(_) | Item::Nothing | Item::Poison => item.clone(),
        }
    }

    fn body_nodes(&mut self, body: &view::Graph<'a>, targets: &[Option<Form>]) -> Outcome<Vec<Form>> {
        self.initializers(body);
        self.nodes(body);
        let mut forms = Vec::new();
        for (index, output) in body.outputs().iter().enumerate() {
            let item = self.names.get(output.name()).cloned();
            let item = item.ok_or_else(|| crate::Fault::Undefined(output.name().to_owned()))?;
            let value = match (targets.get(index).and_then(Option::as_ref), &item) {
                (Some(form), _) => self.coerced(&item, form)?,
                (None, Item::Tensor(_) | Item::Known(_)) => self.named(output.name())?,
                (None, _) => self.whole(&item)?.0,
            };
            forms.push(self.form(&item).ok_or(Stop::Poisoned)?);
            self.graph.add_output(output.name(), value);
        }
        Ok(forms)
    }
}
