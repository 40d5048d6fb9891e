//! Half precision: a graph of kernels in f32 computed with storage and products in f16.
//!
//! What one kernel hands to another is stored in f16, constants too; products take f16 operands and are summed in f32; everything
//! else inside a kernel (norms, softmax, activations) is computed in f32 as before.
//!
//! ```text
//! x : f32 ──kernel──► y : f32 ──kernel──► z        x : f16 ──[f32 … clamp, f16]──► y : f16 ──[f32 …]──► z
//! ```
//! What keeps its type: inputs and results of the graph (and of the bodies of loops and branches), operands of ops that are no kernels,
//! single numbers, and all that is not f32. Where the rounding of f16 would be blown up, f32 stays too: in logits and the products that
//! give them (but not inside an attention), since an exponential is off by as much as its logit is off in absolute terms, and likewise in
//! the angles of sines and cosines (positions times frequencies), in what is compared with another value, and in
//! everything that is quantised later, where a little off can be a whole step off. A value that is more than a product is clamped to
//! ±65504 before it is stored: masks such as -3.4e38 stay large numbers instead of becoming infinities, of which a softmax over
//! nothing else would make NaN. Larger constants are clamped alike; infinities among them stay.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;
use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, Graph, GraphError, Kind, NodeId, Op, Origin, Type, UnaryFn, Value, kernel::legal};
use tarsia_tensor::{DType, Numbers, Tensor};

use crate::{
    PassError,
    emit::{Emitter, Folding},
    simplify::{ordered, with_subgraphs},
};

/// The largest f16.
const LARGEST: f64 = 65504.0;

/// The position of an attention's mask among its operands.
const MASK: usize = 3;

/// How a value of f32 is stored, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Storage {
    /// The model's nodes that it comes from.
    pub origin: Vec<String>,
    /// The element type.
    pub dtype: String,
    /// Why.
    pub reason: &'static str,
}

/// Rewrites a graph of kernels to storage and products in f16, and says how every stored value of f32 is stored now.
///
/// # Errors
/// If a rewritten node does not type-check, which is a defect.
pub fn half(graph: &Graph) -> Result<(Graph, Vec<Storage>), PassError> {
    let mut report = Vec::new();
    let graph = rebuild(graph, &mut report).map_err(PassError::in_pass("half"))?;
    Ok((graph, report))
}

fn rebuild(graph: &Graph, report: &mut Vec<Storage>) -> Result<Graph, GraphError> {
    let (emitter, inputs) = Emitter::new(graph, Folding::all(0));
    let exact = exact(graph);
    let mut halving = Halving { graph, emitter, done: FxHashMap::default(), halves: FxHashMap::default(), exact };
    for ((_, id), value) in graph.inputs().iter().zip(inputs) {
        halving.done.insert((*id).into(), value);
    }
    for id in graph.node_ids().filter(|&id| !matches!(graph[id].op, Op::Input { .. })) {
        halving.node(id, report)?;
    }
    for output in graph.outputs() {
        let value = halving.done[&output.value];
        halving.emitter.graph.add_output(&output.name, value);
    }
    Ok(ordered(&halving.emitter.graph))
}

struct Halving<'a> {
    graph: &'a Graph,
    emitter: Emitter,
    /// The values as they are stored now.
    done: FxHashMap<Value, Value>,
    /// Copies in the other of the two types.
    halves: FxHashMap<Value, Value>,
    /// The nodes that need f32, and why.
    exact: Vec<Option<&'static str>>,
}

impl Halving<'_> {
    fn node(&mut self, id: NodeId, report: &mut Vec<Storage>) -> Result<(), GraphError> {
        let graph = self.graph;
        let node = &graph[id];
        let operands: SmallVec<[Value; 4]> = graph.operands(id).iter().map(|value| self.done[value]).collect();
        let results = match &node.op {
            Op::Constant { value } => {
                let kept = self.kept(id.into());
                let stored = if kept.is_none() { clamped(value) } else { None };
                note(report, graph, id.into(), kept);
                SmallVec::from_iter([self.emitter.constant(stored.unwrap_or_else(|| value.clone()), &node.origin)])
            }
            // Where f32 is needed, nothing changes.
            Op::Kernel { .. } if self.exact[id.index()].is_some() => {
                for value in results(graph, id) {
                    note(report, graph, value, self.exact[id.index()]);
                }
                self.emitter.emit_all(node.op.clone(), &operands, &node.origin)?
            }
            Op::Kernel { body } => {
                let kept: Vec<Option<&'static str>> =
                    results(graph, id).into_iter().map(|value| self.kept(value)).collect();
                let (kernel, operands, fits) = self.kernel(body, &operands, &kept, &node.origin)?;
                for (value, kept) in results(graph, id).into_iter().zip(kept) {
                    note(report, graph, value, kept.or((!fits).then_some("its kernel takes no conversions")));
                }
                self.emitter.emit_all(kernel, &operands, &node.origin)?
            }
            op => {
                let op = with_subgraphs(op, &mut |sub| rebuild(sub, report))?;
                self.emitter.emit_all(op, &operands, &node.origin)?
            }
        };
        for (value, result) in results_of(id, results) {
            self.done.insert(value, result);
        }
        Ok(())
    }

    /// Why a value keeps its type; `None` if it is stored in f16.
    fn kept(&self, value: Value) -> Option<&'static str> {
        let graph = self.graph;
        if graph.ty(value).dtype != DType::F32 {
            return Some("not f32");
        }
        if graph.ty(value).count().is(1) {
            return Some("a single number");
        }
        if graph.outputs().iter().any(|output| output.value == value) {
            return Some("a result");
        }
        for (user, edge) in graph.users(value.node) {
            if edge.output != value.output {
                continue;
            }
            if let Some(reason) = self.exact[user.index()] {
                return Some(reason);
            }
            match &graph[user].op {
                Op::Kernel { body } => {
                    let input = body.inputs().get(edge.operand as usize);
                    if let Some(magnified) = input.and_then(|(_, input)| magnified(body, *input)) {
                        return Some(magnified.itself);
                    }
                }
                Op::Reshape { .. } => {
                    if let Some(reason) = self.kept(user.into()) {
                        return Some(reason);
                    }
                }
                _ => return Some("the operand of an op that is no kernel"),
            }
        }
        None
    }

    /// The kernel with these operands, the operands it needs, and whether what `kept` does not keep is f16 inside it.
    fn kernel(
        &mut self,
        body: &Arc<Graph>,
        operands: &[Value],
        kept: &[Option<&'static str>],
        origin: &Origin,
    ) -> Result<(Op, Vec<Value>, bool), GraphError> {
        let mut halved = operands.to_vec();
        for (value, (_, input)) in halved.iter_mut().zip(body.inputs()) {
            if reads_directly(body, (*input).into()) && self.emitter.ty(*value).dtype == DType::F32 {
                *value = self.other(*value, DType::F16, origin)?;
            }
        }
        let types: Vec<Type> = halved.iter().map(|&value| self.emitter.ty(value).clone()).collect();
        let narrow: Vec<bool> = kept.iter().map(Option::is_none).collect();
        let new = halve(body, &types, &narrow)?;
        if legal(&new).is_ok() {
            return Ok((Op::Kernel { body: Arc::new(new) }, halved, true));
        }
        // A kernel that takes no conversions stays as it is; its users read what it stores.
        let mut whole = operands.to_vec();
        for (value, (_, input)) in whole.iter_mut().zip(body.inputs()) {
            if body.ty((*input).into()).dtype == DType::F32 && self.emitter.ty(*value).dtype == DType::F16 {
                *value = self.other(*value, DType::F32, origin)?;
            }
        }
        Ok((Op::Kernel { body: Arc::clone(body) }, whole, false))
    }

    /// The value converted by a kernel of its own.
    fn other(&mut self, value: Value, dtype: DType, origin: &Origin) -> Result<Value, GraphError> {
        if let Some(&known) = self.halves.get(&value) {
            return Ok(known);
        }
        let mut body = Graph::new("convert");
        let input = body.add_input("x0", self.emitter.ty(value).clone());
        let source = if dtype == DType::F16 { clamp(&mut body, input)? } else { input };
        let result = body.add(Op::Cast { dtype, saturate: true }, &[source], origin.clone())?;
        body.add_output("y0", result.into());
        let converted = self.emitter.emit(Op::Kernel { body: Arc::new(body) }, &[value], origin)?;
        self.halves.insert(value, converted);
        Ok(converted)
    }
}

fn results(graph: &Graph, id: NodeId) -> Vec<Value> {
    (0..graph[id].types.len() as u32).map(|output| Value { node: id, output }).collect()
}

fn results_of(id: NodeId, results: SmallVec<[Value; 1]>) -> impl Iterator<Item = (Value, Value)> {
    results.into_iter().enumerate().map(move |(output, value)| (Value { node: id, output: output as u32 }, value))
}

fn note(report: &mut Vec<Storage>, graph: &Graph, value: Value, kept: Option<&'static str>) {
    if graph.ty(value).dtype == DType::F32 {
        let dtype = if kept.is_some() { DType::F32 } else { DType::F16 };
        let origin = graph[value.node].origin.names().map(str::to_owned).collect();
        report.push(Storage { origin, dtype: dtype.to_string(), reason: kept.unwrap_or("read by kernels only") });
    }
}

/// Constant data in f16, finite numbers clamped; `None` for data that are no floats.
fn clamped(tensor: &Tensor) -> Option<Tensor> {
    let Numbers::Float(values) = tensor.numbers().ok()? else { return None };
    let clamp = |&x: &f64| if x.is_finite() { x.clamp(-LARGEST, LARGEST) } else { x };
    let values = Numbers::Float(values.iter().map(clamp).collect());
    Tensor::from_numbers(DType::F16, tensor.shape(), &values).ok()
}

/// Whether an input is the operand of an anchor that multiplies and reads inputs as they are.
fn reads_directly(body: &Graph, input: Value) -> bool {
    body.users(input.node).iter().any(|(user, _)| matches!(body[*user].op, Op::Conv { .. } | Op::Routed { .. }))
        && body.ty(input).dtype == DType::F32
}

/// The types that quantisation has.
fn is_quantised(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I4 | DType::U4) || dtype.is_float() && dtype.bits() <= 8
}

/// What a value is whose absolute error becomes an error of the result, and how what it is a product of is called.
#[derive(Clone, Copy)]
struct Magnified {
    itself: &'static str,
    factors: &'static str,
}

/// Whether an input, or what follows from it point by point, is the operand of a function whose result is off by as much as its
/// operand is off in absolute terms: an exponential or a trigonometric function, or a comparison that decides.
fn magnified(body: &Graph, input: NodeId) -> Option<Magnified> {
    let logits = Magnified { itself: "logits of an exponential", factors: "factors of logits" };
    let angles = Magnified { itself: "angles of a trigonometric function", factors: "factors of angles" };
    let compared = Magnified { itself: "compared with another value", factors: "factors of what is compared" };
    let mut reached = vec![false; body.node_count()];
    reached[input.index()] = true;
    for id in body.node_ids() {
        let op = &body[id].op;
        if body.operands(id).iter().any(|value| reached[value.node.index()]) {
            match op {
                Op::Softmax { .. } | Op::Unary(UnaryFn::Exp) => return Some(logits),
                Op::Unary(UnaryFn::Sin | UnaryFn::Cos | UnaryFn::Tan) => return Some(angles),
                Op::Binary(function) if function.is_comparison() && decides(body, id) => return Some(compared),
                Op::Gather { .. } | Op::TakeAlong { .. } => reached[id.index()] = true,
                _ => reached[id.index()] = matches!(op.kind(), Kind::Pointwise | Kind::Movement),
            }
        }
    }
    None
}

/// Whether a comparison is of floats neither of which is a constant: a decision such as that of a tree. A bound such as 0 is met by what
/// a rounded value is as well.
fn decides(body: &Graph, id: NodeId) -> bool {
    body.operands(id).iter().all(|&value| body.ty(value).dtype.is_float() && body.constant(value).is_none())
}

/// The nodes that need f32: those that quantise or whose results reach one that does, and products that give logits or angles.
fn exact(graph: &Graph) -> Vec<Option<&'static str>> {
    let quantising = quantising(graph);
    let is_product =
        |body: &Graph| body.node_ids().any(|id| matches!(body[id].op, Op::Contract { .. } | Op::Conv { .. }));
    let reason = |id: NodeId| match &graph[id].op {
        _ if quantising[id.index()] => Some("quantised later"),
        Op::Kernel { body } if is_product(body) => gives_magnified(graph, id).map(|magnified| magnified.factors),
        _ => None,
    };
    graph.node_ids().map(reason).collect()
}

/// What a kernel that reads a node's result magnifies of it.
fn gives_magnified(graph: &Graph, id: NodeId) -> Option<Magnified> {
    graph.users(id).into_iter().find_map(|(user, edge)| match &graph[user].op {
        Op::Reshape { .. } => gives_magnified(graph, user),
        Op::Kernel { body } => body.inputs().get(edge.operand as usize).and_then(|(_, input)| magnified(body, *input)),
        _ => None,
    })
}

/// The nodes that quantise, or whose results reach one that does.
fn quantising(graph: &Graph) -> Vec<bool> {
    let casts = |body: &Graph, id: NodeId| match &body[id].op {
        Op::Cast { dtype, .. } => {
            is_quantised(*dtype) && body.operands(id).iter().any(|&from| body.ty(from).dtype.is_float())
        }
        _ => false,
    };
    let mut found = vec![false; graph.node_count()];
    for id in graph.node_ids().rev() {
        let own = match &graph[id].op {
            Op::Kernel { body } => body.node_ids().any(|inner| casts(body, inner)),
            _ => casts(graph, id),
        };
        found[id.index()] = own || graph.users(id).iter().any(|(user, _)| found[user.index()]);
    }
    found
}

/// A kernel's body for operands of these types, with the results in `narrow` in f16.
fn halve(body: &Graph, types: &[Type], narrow: &[bool]) -> Result<Graph, GraphError> {
    let mut new = Body { graph: Graph::new(&body.name), old: body, done: FxHashMap::default() };
    for ((name, id), ty) in body.inputs().iter().zip(types) {
        let value = new.graph.add_input(name, ty.clone());
        new.done.insert((*id).into(), value);
    }
    for id in body.node_ids().filter(|&id| !matches!(body[id].op, Op::Input { .. })) {
        new.node(id)?;
    }
    for (output, &narrow) in body.outputs().iter().zip(narrow) {
        let value = new.result(output.value, narrow)?;
        new.graph.add_output(&output.name, value);
    }
    Ok(new.graph.without_dead_nodes())
}

struct Body<'a> {
    graph: Graph,
    old: &'a Graph,
    /// The values; what was f32 may be f16.
    done: FxHashMap<Value, Value>,
}

impl Body<'_> {
    fn node(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = &self.old[id];
        let operands = self.old.operands(id);
        let as_half = match &node.op {
            Op::Constant { value } => {
                let value = self.graph.add_constant(value.clone(), node.origin.clone());
                self.done.insert(id.into(), value);
                return Ok(());
            }
            Op::Contract { .. } | Op::Conv { .. } | Op::Routed { .. } | Op::Attention { .. } => true,
            // What only moves elements moves them as they are stored.
            op if matches!(op.kind(), Kind::Movement | Kind::Index | Kind::Window | Kind::Order) => {
                operands.first().is_some_and(|first| self.graph.ty(self.done[first]).dtype == DType::F16)
            }
            _ => false,
        };
        let mut now = SmallVec::<[Value; 4]>::new();
        for (i, &operand) in operands.iter().enumerate() {
            let mut value = self.done[&operand];
            // A mask may be computed from numbers that f16 does not have.
            let is_mask = matches!(node.op, Op::Attention { .. }) && i == MASK;
            if is_mask && self.graph.ty(value).dtype == DType::F32 {
                value = clamp(&mut self.graph, value)?;
            }
            now.push(match self.old.ty(operand).dtype {
                DType::F32 if as_half => self.narrowed(value, &node.origin)?,
                DType::F32 => self.cast(value, DType::F32, &node.origin)?,
                _ => value,
            });
        }
        let new = self.graph.add(node.op.clone(), &now, node.origin.clone())?;
        for output in 0..node.types.len() as u32 {
            self.done.insert(Value { node: id, output }, Value { node: new, output });
        }
        Ok(())
    }

    fn cast(&mut self, value: Value, dtype: DType, origin: &Origin) -> Result<Value, GraphError> {
        if self.graph.ty(value).dtype == dtype {
            return Ok(value);
        }
        Ok(self.graph.add(Op::Cast { dtype, saturate: true }, &[value], origin.clone())?.into())
    }

    /// A value of f32 in f16; constants are rounded here.
    fn narrowed(&mut self, value: Value, origin: &Origin) -> Result<Value, GraphError> {
        match self.graph.constant(value).and_then(clamped) {
            Some(tensor) => Ok(self.graph.add_constant(tensor, origin.clone())),
            None => self.cast(value, DType::F16, origin),
        }
    }

    /// A result, in f16 if `narrow`, else of the type it had.
    fn result(&mut self, value: Value, narrow: bool) -> Result<Value, GraphError> {
        let (now, node) = (self.done[&value], &self.old[value.node]);
        let found = self.graph.ty(now).dtype;
        if self.old.ty(value).dtype != DType::F32 || narrow && found == DType::F16 {
            return Ok(now);
        }
        if !narrow {
            return self.cast(now, DType::F32, &node.origin);
        }
        if let Op::Routed { spec, .. } = &node.op {
            let operands = self.graph.operands(now.node);
            let op = Op::Routed { spec: spec.clone(), dtype: DType::F16 };
            return Ok(self.graph.add(op, &operands, node.origin.clone())?.into());
        }
        let clamped = if is_product(self.old, value) { now } else { clamp(&mut self.graph, now)? };
        self.cast(clamped, DType::F16, &node.origin)
    }
}

/// Whether a value is a product behind movements.
fn is_product(body: &Graph, value: Value) -> bool {
    let mut value = value;
    while body[value.node].op.kind() == Kind::Movement {
        match body.operands(value.node).as_slice() {
            [operand] => value = *operand,
            _ => return false,
        }
    }
    matches!(body[value.node].op, Op::Contract { .. } | Op::Conv { .. } | Op::Attention { .. })
}

/// `max(min(x, 65504), -65504)` of a value in f32.
fn clamp(body: &mut Graph, value: Value) -> Result<Value, GraphError> {
    let mut clamped = value;
    for (function, bound) in [(BinaryFn::Min, LARGEST), (BinaryFn::Max, -LARGEST)] {
        let bound = body.add_constant(Tensor::scalar(bound as f32), Origin::default());
        clamped = body.add(Op::Binary(function), &[clamped, bound], Origin::default())?.into();
    }
    Ok(clamped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels(text: &str) -> Graph {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn stored(graph: &Graph) -> Vec<(String, String)> {
        let (halved, report) = half(graph).unwrap();
        assert!(halved.outputs().iter().zip(graph.outputs()).all(|(a, b)| halved.ty(a.value) == graph.ty(b.value)));
        report.into_iter().map(|storage| (storage.dtype, storage.reason.to_owned())).collect()
    }

    const CHAIN: &str = r#"graph @chain(%0 "x": f32[8, 4], %1 "w": f32[4, 4]) {
  %2 = kernel(%0) {
    body: graph @""(%0 "x0": f32[8, 4]) {
      %1 = tanh(%0) : f32[8, 4]
      return %1 as "y0"
    }
  } : f32[8, 4]
  %3 = kernel(%2, %1) {
    body: graph @""(%0 "x0": f32[8, 4], %1 "x1": f32[4, 4]) {
      %2 = contract(%0, %1) {spec: "ab,bc->ac", dtype: f32} : f32[8, 4]
      return %2 as "y0"
    }
  } : f32[8, 4]
  %4 = kernel(%3) {
    body: graph @""(%0 "x0": f32[8, 4]) {
      %1 = LAST : f32[8, 4]
      return %1 as "y0"
    }
  } : f32[8, 4]
  return %4 as "y"
}
"#;

    #[test]
    fn what_kernels_hand_on_is_half_unless_its_rounding_would_grow() {
        let with = |last: &str| stored(&kernels(&CHAIN.replace("LAST", last)));
        let reasons = |last: &str| with(last).into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();
        assert_eq!(reasons("tanh(%0)"), ["read by kernels only", "read by kernels only", "a result"]);
        assert_eq!(reasons("softmax(%0) {axis: 1}"), ["factors of logits", "factors of logits", "a result"]);
        let quantised =
            "cast(%0) {dtype: i8, saturate: true} : i8[8, 4]\n      %2 = cast(%1) {dtype: f32, saturate: true}";
        let graph = CHAIN.replace("LAST", quantised).replace(
            "return %1 as \"y0\"\n    }\n  } : f32[8, 4]\n  return %4",
            "return %2 as \"y0\"\n    }\n  } : f32[8, 4]\n  return %4",
        );
        assert!(stored(&kernels(&graph)).iter().all(|(dtype, reason)| dtype == "f32" && reason == "quantised later"));
    }
}
