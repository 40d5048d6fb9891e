//! Small models in a line or two per node, imported and evaluated.

use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto, type_proto,
};
use tarsia_graph::{Graph, eval};
use tarsia_onnx::{Limits, Model, Options, import};
use tarsia_tensor::{DType, Element, Tensor};

/// A model that is being written down.
pub struct Net(ModelProto);

/// `Operator(input, input) -> output, output`; an input left out is empty.
pub fn node(text: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    let (call, outputs) = text.split_once("->").unwrap();
    let (operator, inputs) = call.trim().trim_end_matches(')').split_once('(').unwrap();
    let names = |list: &str| match list.trim() {
        "" => Vec::new(),
        list => list.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    let (domain, op_type) = operator.rsplit_once("::").unwrap_or(("", operator));
    NodeProto {
        op_type: op_type.into(),
        domain: domain.into(),
        input: names(inputs),
        output: names(outputs),
        attribute: attributes,
        ..Default::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: kind.into(), ..Default::default() }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::INT) }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, AttributeType::FLOAT) }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::INTS) }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::STRING) }
}

pub fn reference(name: &str, to: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: to.into(), ..attribute(name, kind) }
}

fn value(name: &str, dtype: Option<DType>, shape: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| match text.parse::<i64>() {
        Ok(size) => tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
            ..Default::default()
        },
        Err(_) if *text == "?" => tensor_shape_proto::Dimension::default(),
        Err(_) => tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimParam((*text).into())),
            ..Default::default()
        },
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect(), ..Default::default() };
    let tensor = dtype.map(|dtype| type_proto::Tensor {
        elem_type: dtype.onnx(),
        shape: Some(shape).into(),
        ..Default::default()
    });
    let ty =
        tensor.map(|tensor| TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), type_: ty.into(), ..Default::default() }
}

impl Net {
    /// A model on a version of ONNX's operators.
    pub fn new(version: i64) -> Net {
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version, ..Default::default() };
        Net(ModelProto {
            ir_version: 10,
            opset_import: vec![opset("", version), opset("local", 1)],
            graph: Some(GraphProto { name: "g".into(), ..Default::default() }).into(),
            ..Default::default()
        })
    }

    fn graph(mut self, change: impl FnOnce(&mut GraphProto)) -> Net {
        change(self.0.graph.as_mut().unwrap());
        self
    }

    /// Declares an input; sizes are numbers, names, expressions, or `?`.
    pub fn input(self, name: &str, dtype: DType, shape: &[&str]) -> Net {
        self.graph(|graph| graph.input.push(value(name, Some(dtype), shape)))
    }

    pub fn constant<T: Element>(self, name: &str, shape: &[usize], values: &[T]) -> Net {
        let tensor = TensorProto {
            name: name.into(),
            data_type: T::DTYPE.onnx(),
            dims: shape.iter().map(|&size| size as i64).collect(),
            raw_data: bytemuck::cast_slice(values).to_vec(),
            ..Default::default()
        };
        self.graph(|graph| graph.initializer.push(tensor))
    }

    /// A node as [`node`] reads it.
    pub fn node(self, text: &str, attributes: Vec<AttributeProto>) -> Net {
        self.graph(|graph| graph.node.push(node(text, attributes)))
    }

    pub fn output(self, name: &str) -> Net {
        self.graph(|graph| graph.output.push(value(name, None, &[])))
    }

    pub fn function(mut self, function: FunctionProto) -> Net {
        self.0.functions.push(function);
        self
    }

    /// The graph, or what is wrong, one problem a line.
    pub fn try_import(&self, options: &Options) -> Result<Graph, String> {
        let bytes = self.0.write_to_bytes().unwrap();
        let model = Model::from_bytes(bytes.into(), None, Limits::default()).map_err(|error| error.to_string())?;
        import(&model, options).map_err(|error| error.to_string())
    }

    pub fn import(&self) -> Graph {
        self.try_import(&Options::default()).unwrap()
    }

    /// The outputs for these inputs.
    pub fn run(&self, inputs: &[Tensor]) -> Vec<Tensor> {
        eval::run(&self.import(), inputs).unwrap()
    }

    /// Asserts shape and elements of the first output, up to 1e-5.
    #[track_caller]
    pub fn gives(&self, inputs: &[Tensor], shape: &[usize], expected: &[f64]) {
        let outputs = self.run(inputs);
        assert_eq!(outputs[0].shape(), shape);
        let found = outputs[0].numbers().unwrap().to_f64();
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
    }
}

pub fn tensor<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

/// 0, 1, 2 … as f32.
pub fn count(shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
    tensor(shape, &values)
}

/// The names of the ops of a graph, without inputs.
pub fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.node_ids().map(|id| graph[id].op.name()).filter(|name| *name != "input").collect()
}

/// The type of the first output, as text.
pub fn output_type(graph: &Graph) -> String {
    graph.ty(graph.outputs()[0].value).to_string()
}
