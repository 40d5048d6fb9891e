//! Breaks a model in one or two places, each a mistake that a tool or an attacker might make.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, type_proto};

/// SplitMix64 (Steele et al. 2014): the same mistakes on every machine.
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every seed and name (FNV-1a).
    pub fn new(seed: u64, name: &str) -> Random {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Random(name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9), step))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `choices`, if there are any.
    pub fn one<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        if choices.is_empty() { None } else { choices.get(self.below(choices.len())) }
    }

    fn one_mut<'a, T>(&mut self, choices: &'a mut [T]) -> Option<&'a mut T> {
        if choices.is_empty() {
            return None;
        }
        let at = self.below(choices.len());
        choices.get_mut(at)
    }

    /// An integer at an edge: of counts, of axes, of the types.
    pub fn edge(&mut self) -> i64 {
        const EDGES: [i64; 16] =
            [0, 1, -1, 2, 3, -2, 7, -9, 255, 65_537, 1 << 31, -(1 << 31), (1 << 40) + 1, 1 << 62, i64::MAX, i64::MIN];
        EDGES[self.below(EDGES.len())]
    }
}

/// Changes one or two things.
pub fn mutate(model: &mut ModelProto, random: &mut Random) {
    for _ in 0..1 + random.below(2) {
        match random.below(12) {
            0 => {
                if let Some(opset) = random.one_mut(&mut model.opset_import) {
                    opset.version = [0, 1, 6, 9, 11, 13, 18, 23, 28, 99, i64::MAX][random.below(11)];
                }
            }
            1..=2 => change_value(model.graph.mut_or_insert_default(), random),
            3..=4 => change_tensor(model.graph.mut_or_insert_default(), random),
            _ => change_node(model.graph.mut_or_insert_default(), random),
        }
    }
}

/// The type of an input or an output.
fn change_value(graph: &mut GraphProto, random: &mut Random) {
    if random.below(8) == 0 {
        graph.input.pop();
        return;
    }
    let (inputs, outputs) = (&mut graph.input, &mut graph.output);
    let Some(value) = (if random.below(4) == 0 { random.one_mut(outputs) } else { random.one_mut(inputs) }) else {
        return;
    };
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = value.type_.as_mut() else {
        value.type_ = None.into();
        return;
    };
    let dims = &mut tensor.shape.mut_or_insert_default().dim;
    let size = Dimension { value: Some(dimension::Value::DimValue(random.edge())), ..Default::default() };
    match random.below(6) {
        0 => tensor.elem_type = [0, 1, 2, 7, 8, 9, 10, 11, 14, 16, 17, 21, 23, 99, -1][random.below(15)],
        1 => dims.push(size),
        2 => drop(dims.pop()),
        3 => dims.clear(),
        _ => {
            if let Some(dim) = random.one_mut(dims) {
                *dim = size;
            }
        }
    }
}

/// An initialiser: its dimensions, its type, or its numbers.
fn change_tensor(graph: &mut GraphProto, random: &mut Random) {
    let edge = random.edge();
    let Some(tensor) = random.one_mut(&mut graph.initializer) else { return };
    match random.below(6) {
        0 => tensor.data_type = [0, 1, 2, 7, 8, 9, 10, 16, 22, 99][random.below(10)],
        1 => tensor.dims.push(edge),
        2 => drop(tensor.dims.pop()),
        _ => change_numbers(tensor, random),
    }
}

fn change_numbers(tensor: &mut TensorProto, random: &mut Random) {
    let size = if tensor.data_type == 7 { 8 } else { 4 };
    let count = tensor.raw_data.len() / size;
    if count > 0 {
        let at = random.below(count) * size;
        let bytes = random.edge().to_le_bytes();
        tensor.raw_data[at..at + size].copy_from_slice(&bytes[..size]);
    } else if let Some(number) = random.one_mut(&mut tensor.int64_data) {
        *number = random.edge();
    }
}

/// A node: its operator, its inputs and outputs, or an attribute.
fn change_node(graph: &mut GraphProto, random: &mut Random) {
    let operators: Vec<String> = graph.node.iter().map(|node| node.op_type.clone()).collect();
    let values: Vec<String> =
        graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).cloned().collect();
    let Some(node) = random.one_mut(&mut graph.node) else { return };
    match random.below(12) {
        0 => node.op_type = random.one(&operators).cloned().unwrap_or_default(),
        1 => node.domain = "nowhere".into(),
        2 => drop(node.input.pop()),
        3 => node.input.push(random.one(&values).cloned().unwrap_or_default()),
        4 => node.output.push(format!("extra{}", random.below(100))),
        5 => node.input.reverse(),
        6 => {
            if let Some(input) = random.one_mut(&mut node.input) {
                *input =
                    if random.below(2) == 0 { String::new() } else { random.one(&values).cloned().unwrap_or_default() };
            }
        }
        _ => change_attribute(node, random),
    }
}

fn change_attribute(node: &mut NodeProto, random: &mut Random) {
    if node.attribute.is_empty() || random.below(6) == 0 {
        let name = ["axis", "axes", "group", "strides", "pads", "to", "keepdims", "mode"][random.below(8)];
        let edge = random.edge();
        node.attribute.push(AttributeProto {
            name: name.into(),
            i: edge,
            type_: AttributeType::INT.into(),
            ..Default::default()
        });
        return;
    }
    let at = random.below(node.attribute.len());
    if random.below(8) == 0 {
        node.attribute.remove(at);
        return;
    }
    let attribute = &mut node.attribute[at];
    attribute.i = random.edge();
    attribute.f = [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e38][random.below(5)];
    match random.below(4) {
        0 => attribute.ints.push(random.edge()),
        1 => drop(attribute.ints.pop()),
        2 => attribute.ints.clear(),
        _ => {
            let edge = random.edge();
            if let Some(int) = random.one_mut(&mut attribute.ints) {
                *int = edge;
            }
        }
    }
    if random.below(2) == 0 {
        attribute.s = b"nonsense".to_vec();
        attribute.floats.pop();
    }
    if let Some(graph) = attribute.g.as_mut() {
        change_node(graph, random);
    }
}
