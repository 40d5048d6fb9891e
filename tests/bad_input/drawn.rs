//! Models of one node each, drawn from an operator's signature: numbers of inputs, types, shapes, attributes and what the inputs hold are
//! plausible, at an edge, or wrong.

use onnx_protobuf::attribute_proto::AttributeType as Kind;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use tarsia::{DType, Numbers, Tensor};
use tarsia_onnx::schema::AttributeType;
use tarsia_onnx::signature::{self, Count, Parameter, Signature};

use crate::mutate::Random;

/// Texts that some attribute of some operator takes.
const TEXTS: [&str; 40] = [
    "",
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "linear",
    "nearest",
    "cubic",
    "asymmetric",
    "half_pixel",
    "align_corners",
    "tf_crop_and_resize",
    "floor",
    "round_prefer_ceil",
    "add",
    "mul",
    "max",
    "none",
    "sum",
    "mean",
    "DCR",
    "CRD",
    "forward",
    "reverse",
    "bidirectional",
    "LEFT",
    "RIGHT",
    "tanh",
    "ij,jk->ik",
    "...i->i",
    "bilinear",
    "zeros",
    "border",
    "stretch",
    "not_larger",
    "[a-z]+",
];

/// All operators that have a signature, as `DOMAIN/NAME`.
pub fn operators() -> Vec<String> {
    let name = |(domain, name)| format!("{}/{name}", if str::is_empty(domain) { "ai.onnx" } else { domain });
    signature::operators().into_iter().map(name).collect()
}

/// A model of one node of the operator, in a version drawn.
pub fn model(operator: &str, random: &mut Random) -> ModelProto {
    let (domain, name) = operator.split_once('/').expect("a domain and a name");
    let domain = if domain == "ai.onnx" { "" } else { domain };
    let versions = signature::versions(domain, name);
    let signature = random.one(&versions).expect("an operator has a version").clone();
    let mut draw =
        Draw { random, graph: GraphProto { name: "drawn".into(), ..Default::default() }, chosen: Vec::new() };
    let node = draw.node(domain, name, &signature);
    let mut graph = draw.graph;
    graph.node.push(node);
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version, ..Default::default() };
    let mut opset_import = vec![opset(domain, signature.since)];
    if !domain.is_empty() {
        opset_import.push(opset("", 28));
    }
    ModelProto { ir_version: 13, opset_import, graph: Some(graph).into(), ..Default::default() }
}

/// A tensor of a type, of numbers at edges or small ones.
pub fn tensor(dtype: DType, shape: &[usize], random: &mut Random) -> Tensor {
    let count = shape.iter().product();
    let wild = random.below(4) == 0;
    let mut number = || match (wild, dtype.is_float()) {
        (true, true) => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e38, -1e-40, 0.5][random.below(8)],
        (true, false) => random.edge() as f64,
        (false, true) => random.below(200) as f64 / 40.0 - 2.0,
        (false, false) => random.below(4) as f64 - f64::from(u8::from(random.below(6) == 0)),
    };
    let numbers: Vec<f64> = (0..count).map(|_| number()).collect();
    let zero = || Tensor::from_slice(&[], &[0f32]).expect("one element");
    if dtype == DType::String {
        let texts: Vec<Vec<u8>> = numbers.iter().map(|number| format!("{number}").into_bytes()).collect();
        return Tensor::from_strings(shape, texts.into_iter().map(Into::into).collect()).unwrap_or_else(|_| zero());
    }
    let wide = Numbers::Float(numbers);
    let cast = wide.cast(DType::F64, dtype, tarsia_tensor::Overflow::Special);
    Tensor::from_numbers(dtype, shape, &cast).unwrap_or_else(|_| zero())
}

struct Draw<'r> {
    random: &'r mut Random,
    graph: GraphProto,
    /// The type that each variable stands for.
    chosen: Vec<(&'static str, &'static str)>,
}

impl Draw<'_> {
    fn node(&mut self, domain: &str, name: &str, signature: &Signature) -> NodeProto {
        let mut node = NodeProto { op_type: name.into(), domain: domain.into(), ..Default::default() };
        let common = self.shape();
        for parameter in &signature.inputs {
            let count = self.count(parameter);
            for _ in 0..count {
                let name = self.input(signature, parameter, &common, node.input.len());
                node.input.push(name);
            }
        }
        for parameter in &signature.outputs {
            for _ in 0..self.count(parameter) {
                node.output.push(format!("y{}", node.output.len()));
            }
        }
        for &(name, kind, is_required) in &signature.attributes {
            if self.random.below(20) < if is_required { 19 } else { 8 } {
                let attribute = self.attribute(name, kind);
                node.attribute.push(attribute);
            }
        }
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            self.graph.output.push(ValueInfoProto { name: output.clone(), ..Default::default() });
        }
        node
    }

    fn count(&mut self, parameter: &Parameter) -> usize {
        let odd = self.random.below(40) == 0;
        match parameter.count {
            Count::One if odd => [0, 2][self.random.below(2)],
            Count::One => 1,
            Count::Optional => self.random.below(2),
            Count::Many { least, .. } => (least + self.random.below(3)).min(if odd { 0 } else { 9 }),
        }
    }

    /// A type among those of a parameter; the same for the same variable, but for mistakes.
    fn ty(&mut self, signature: &Signature, parameter: &Parameter) -> &'static str {
        if let Some((_, ty)) = self.chosen.iter().find(|(variable, _)| *variable == parameter.ty)
            && self.random.below(30) > 0
        {
            return ty;
        }
        let types: Vec<&'static str> = match signature.variables.iter().find(|(name, _)| *name == parameter.ty) {
            Some((_, types)) => types.clone(),
            None => parameter.ty.split(',').collect(),
        };
        let ty = self.random.one(&types).copied().unwrap_or("f32");
        self.chosen.push((parameter.ty, ty));
        ty
    }

    fn shape(&mut self) -> Vec<usize> {
        let rank = self.random.below(6);
        (0..rank).map(|_| [1, 2, 3, 4, 5, 2, 3, 0][self.random.below(8)]).collect()
    }

    fn input(&mut self, signature: &Signature, parameter: &Parameter, common: &[usize], at: usize) -> String {
        if self.random.below(40) == 0 {
            return String::new();
        }
        let name = format!("x{at}");
        let ty = self.ty(signature, parameter);
        let shape = match self.random.below(6) {
            0 => self.shape(),
            1 => vec![common.len()],
            2 => common[self.random.below(common.len() + 1)..].to_vec(),
            3 => Vec::new(),
            _ => common.to_vec(),
        };
        let Ok(dtype) = ty.parse::<DType>() else {
            let mut info = ValueInfoProto { name: name.clone(), ..Default::default() };
            info.type_ = wrapped(ty).into();
            self.graph.input.push(info);
            return name;
        };
        if self.random.below(3) == 0 {
            let tensor = constant(&name, &tensor(dtype, &shape, self.random));
            self.graph.initializer.push(tensor);
            return name;
        }
        let symbolic = self.random.below(3) == 0;
        let dim = |(axis, &size): (usize, &usize)| {
            let value = match symbolic && axis == 0 {
                true => dimension::Value::DimParam("n".into()),
                false => dimension::Value::DimValue(size as i64),
            };
            Dimension { value: Some(value), ..Default::default() }
        };
        let dims = shape.iter().enumerate().map(dim).collect();
        let mut info = ValueInfoProto { name: name.clone(), ..Default::default() };
        info.type_ = Some(tensor_type(dtype, dims)).into();
        self.graph.input.push(info);
        name
    }

    fn attribute(&mut self, name: &str, kind: AttributeType) -> AttributeProto {
        let mut attribute = AttributeProto { name: name.into(), ..Default::default() };
        let (length, random) = (self.random.below(6), &mut *self.random);
        let int = |random: &mut Random| {
            if random.below(5) == 0 { random.edge() } else { random.below(5) as i64 - i64::from(random.below(8) == 0) }
        };
        let float = |random: &mut Random| [0.0, 1.0, 0.5, -1.0, 1e-5, 2.0, f32::NAN, f32::INFINITY][random.below(8)];
        let text = |random: &mut Random| TEXTS[random.below(TEXTS.len())].as_bytes().to_vec();
        let some = |random: &mut Random| {
            let dtype = DType::ALL[random.below(DType::ALL.len())];
            constant("", &tensor(dtype, &[random.below(4)], random))
        };
        attribute.type_ = match kind {
            AttributeType::Float => {
                attribute.f = float(random);
                Kind::FLOAT
            }
            AttributeType::Int => {
                attribute.i = int(random);
                Kind::INT
            }
            AttributeType::String => {
                attribute.s = text(random);
                Kind::STRING
            }
            AttributeType::Tensor => {
                attribute.t = Some(some(random)).into();
                Kind::TENSOR
            }
            AttributeType::Floats => {
                attribute.floats = (0..length).map(|_| float(random)).collect();
                Kind::FLOATS
            }
            AttributeType::Ints => {
                attribute.ints = (0..length).map(|_| int(random)).collect();
                Kind::INTS
            }
            AttributeType::Strings => {
                attribute.strings = (0..length).map(|_| text(random)).collect();
                Kind::STRINGS
            }
            AttributeType::Tensors => {
                attribute.tensors = (0..length).map(|_| some(random)).collect();
                Kind::TENSORS
            }
            AttributeType::Graph => {
                attribute.g = Some(body(random)).into();
                Kind::GRAPH
            }
            _ => Kind::UNDEFINED,
        }
        .into();
        attribute
    }
}

/// A body that passes some of its inputs on.
fn body(random: &mut Random) -> GraphProto {
    let mut graph = GraphProto { name: "body".into(), ..Default::default() };
    let value = |name: String, typed: bool| {
        let mut info = ValueInfoProto { name, ..Default::default() };
        if typed {
            info.type_ = Some(tensor_type(DType::F32, Vec::new())).into();
        }
        info
    };
    let (inputs, outputs) = (random.below(5), random.below(4));
    graph.input = (0..inputs).map(|at| value(format!("b{at}"), random.below(2) == 0)).collect();
    for at in 0..outputs {
        let from = if inputs > 0 { format!("b{}", random.below(inputs)) } else { "x0".into() };
        let op_type = ["Identity", "Neg", "Not", "Add"][random.below(4)];
        let mut input = vec![from.clone()];
        if op_type == "Add" {
            input.push(from);
        }
        let node = NodeProto { op_type: op_type.into(), input, output: vec![format!("c{at}")], ..Default::default() };
        graph.node.push(node);
        graph.output.push(value(format!("c{at}"), false));
    }
    graph
}

fn tensor_type(dtype: DType, dim: Vec<Dimension>) -> TypeProto {
    let shape = Some(TensorShapeProto { dim, ..Default::default() }).into();
    let tensor = type_proto::Tensor { elem_type: dtype.onnx(), shape, ..Default::default() };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}

/// A type such as `seq(optional(f32))`; `None` for those that are no values of a graph here.
fn wrapped(text: &str) -> Option<TypeProto> {
    if let Ok(dtype) = text.parse() {
        return Some(tensor_type(dtype, Vec::new()));
    }
    let (kind, rest) = text.split_once('(')?;
    let inner = Some(wrapped(rest.strip_suffix(')')?)?).into();
    let value = match kind {
        "seq" => type_proto::Value::SequenceType(type_proto::Sequence { elem_type: inner, ..Default::default() }),
        "optional" => type_proto::Value::OptionalType(type_proto::Optional { elem_type: inner, ..Default::default() }),
        _ => return None,
    };
    Some(TypeProto { value: Some(value), ..Default::default() })
}

/// A tensor as a model holds it.
fn constant(name: &str, tensor: &Tensor) -> TensorProto {
    let dims = tensor.shape().iter().map(|&size| size as i64).collect();
    let mut proto = TensorProto { name: name.into(), dims, data_type: tensor.dtype().onnx(), ..Default::default() };
    match tensor.strings() {
        Some(texts) => proto.string_data = texts.iter().map(|text| text.to_vec()).collect(),
        None => proto.raw_data = tensor.bytes().to_vec(),
    }
    proto
}
