//! Cases with other element types.

use std::collections::BTreeSet;
use std::path::PathBuf;

use onnx_protobuf::{ModelProto, type_proto};
use tarsia::graph::eval;
use tarsia::{DType, Phase, Session, SessionOptions, Start, Tensor};
use tarsia_onnx::signature::{self, Parameter, Signature};
use tarsia_tensor::Overflow;

use crate::{OfOne, import, of_one};

/// The newest operator set.
const NEWEST: i64 = tarsia_onnx::NEWEST_OPSET;
/// Operators whose attributes say of which type the inputs are.
const BOUND: &[&str] = &["BitCast", "Imputer", "LabelEncoder"];

/// Every case of an operator, in every type. The text is the folders, a line each, as JSON.
pub fn attempt(text: &str) -> Result<(), String> {
    let folders: String = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut failures: Vec<String> = Vec::new();
    for folder in folders.lines().map(PathBuf::from) {
        let Some(((domain, name), case)) = of_one(&folder) else { continue };
        let bodies =
            case.model.graph.node.iter().flat_map(|node| &node.attribute).any(|attribute| attribute.g.is_some());
        let is_random = std::fs::read_to_string(folder.join("meta.json")).is_ok_and(|text| text.contains("random"));
        if bodies || is_random || BOUND.contains(&name.as_str()) {
            continue;
        }
        let versions = signature::versions(&domain, &name);
        let Some(newest) = versions.iter().rev().find(|version| !version.removed && version.since <= NEWEST) else {
            continue;
        };
        let own =
            case.model.opset_import.iter().find(|opset| opset.domain == domain).map_or(NEWEST, |opset| opset.version);
        // Of an operator that a version removed, or that changed its inputs, only its own version is known to fit.
        let Some(signature) = signature::of(&domain, &name, own) else { continue };
        for (variable, types) in &newest.variables {
            for dtype in types.iter().filter_map(|name| name.parse::<DType>().ok()) {
                if let Err(reason) = retyped(&case, &signature, variable, dtype) {
                    let folder = folder.file_name().unwrap_or_default().display();
                    failures.push(format!("{folder} with {variable} = {dtype}: {reason}"));
                }
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The case with `dtype` in place of a type variable, if it binds inputs that are tensors of another type.
fn retyped(case: &OfOne, signature: &Signature, variable: &str, dtype: DType) -> Result<(), String> {
    let mut model = case.model.clone();
    let Some(inputs) = change(&mut model, signature, variable, dtype) else { return Ok(()) };
    let sets = tarsia::read_set(
        &case.folder.join("test_data_set_0"),
        "input",
        model.graph.input.len(),
        &tarsia::Limits::default(),
    );
    let Ok(given) = sets.map_err(|e| e.to_string()) else { return Ok(()) };
    let mut tensors = Vec::new();
    for (at, tensor) in given.into_iter().enumerate() {
        let Some(tensor) = tensor else { return Ok(()) };
        tensors.push(if inputs.contains(&at) { convert(&tensor, dtype) } else { tensor });
    }
    let graph = import(&model).map_err(|e| e.to_string())?;
    // What the data of the case mean in this type may be against the operator's rules; then there is nothing to compare with.
    let expected = eval::run(&graph, &tensors);
    let machine = tarsia::machine("cpu").map_err(|e| e.to_string())?;
    let compiled = tarsia::compile(Start::Graph(graph), Phase::Tiles, &machine).map_err(|e| e.to_string())?;
    let session =
        Session::new(compiled.program.ok_or("no program")?, &SessionOptions { threads: 1, ..Default::default() })
            .map_err(|e| e.to_string())?;
    match (expected, session.run(&tensors)) {
        (Ok(expected), Ok(found)) => {
            expected.iter().zip(&found).enumerate().try_for_each(|(at, (e, f))| same(at, e, f, dtype))
        }
        (Ok(_), Err(error)) => Err(error.to_string()),
        (Err(_), _) => Ok(()),
    }
}

/// Changes the types of inputs and outputs; the positions of the inputs, if there are any.
fn change(model: &mut ModelProto, signature: &Signature, variable: &str, dtype: DType) -> Option<BTreeSet<usize>> {
    let graph = model.graph.as_mut()?;
    let [node] = graph.node.as_slice() else { return None };
    let names = |given: &[String], parameters: &[Parameter]| -> BTreeSet<String> {
        let of = |(at, name): (usize, &String)| {
            let parameter = Signature::parameter(parameters, at)?;
            (parameter.ty == variable && !name.is_empty()).then(|| name.clone())
        };
        given.iter().enumerate().filter_map(of).collect()
    };
    let (inputs, outputs) = (names(&node.input, &signature.inputs), names(&node.output, &signature.outputs));
    let mut changed = BTreeSet::new();
    for (at, value) in graph.input.iter_mut().enumerate().filter(|(_, value)| inputs.contains(&value.name)) {
        let Some(type_proto::Value::TensorType(tensor)) = value.type_.as_mut()?.value.as_mut() else { return None };
        if DType::from_onnx(tensor.elem_type).is_none_or(|own| own == DType::String) || dtype == DType::String {
            return None;
        }
        if tensor.elem_type != dtype.onnx() {
            tensor.elem_type = dtype.onnx();
            changed.insert(at);
        }
    }
    if graph.initializer.iter().any(|tensor| inputs.contains(&tensor.name)) || changed.is_empty() {
        return None;
    }
    let is_tensor = |value: &onnx_protobuf::ValueInfoProto| {
        let kind = value.type_.as_ref().and_then(|ty| ty.value.as_ref());
        matches!(kind, None | Some(type_proto::Value::TensorType(_)))
    };
    if !graph.input.iter().chain(&graph.output).all(is_tensor) {
        return None;
    }
    for value in graph.output.iter_mut().filter(|value| outputs.contains(&value.name)) {
        if let Some(type_proto::Value::TensorType(tensor)) = value.type_.as_mut().and_then(|ty| ty.value.as_mut()) {
            tensor.elem_type = dtype.onnx();
        }
    }
    Some(changed)
}

/// The nearest values of another type.
fn convert(tensor: &Tensor, dtype: DType) -> Tensor {
    let Ok(numbers) = tensor.numbers() else { return tensor.clone() };
    Tensor::from_numbers(dtype, tensor.shape(), &numbers.cast(tensor.dtype(), dtype, Overflow::Saturate))
        .unwrap_or_else(|_| tensor.clone())
}

/// Outputs agree as the narrower of their type and the type put in allows.
fn same(at: usize, expected: &Tensor, found: &Tensor, given: DType) -> Result<(), String> {
    if (expected.dtype(), expected.shape()) != (found.dtype(), found.shape()) {
        let (e, f) = ((expected.dtype(), expected.shape()), (found.dtype(), found.shape()));
        return Err(format!("output {at} is {f:?} instead of {e:?}"));
    }
    let (Ok(e), Ok(f)) = (expected.numbers(), found.numbers()) else {
        return if expected == found { Ok(()) } else { Err(format!("output {at} differs")) };
    };
    let of = |dtype: DType| match dtype {
        DType::F64 | DType::F32 => 1e-4,
        dtype if dtype.is_float() && dtype.bits() == 16 => 2e-2,
        dtype if dtype.is_float() => 0.3,
        _ => 0.0,
    };
    let tolerance = if expected.dtype().is_float() { f64::max(of(expected.dtype()), of(given)) } else { 0.0 };
    let close = |x: f64, y: f64| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= tolerance * (1.0 + x.abs());
    let (e, f) = (e.to_f64(), f.to_f64());
    match e.iter().zip(&f).position(|(&x, &y)| !close(x, y)) {
        Some(k) => Err(format!("element {k} of output {at} is {} instead of {}", f[k], e[k])),
        None => Ok(()),
    }
}
