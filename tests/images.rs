//! Convolutional networks on a machine that multiplies matrices in memories of their own: results are those of the reference evaluation,
//! and nothing goes element by element, not even the image that comes in and the one that goes out.

use tarsia::{
    DType, Dim, Machine, Options, Phase, Session, SessionOptions, Start, Tensor, compile_with,
    graph::{BinaryFn, Graph, Op, Origin, ReduceFn, Type, Value, eval},
    hivm::export::{Form, export},
    tile::{Instr, Opcode, Program, Stmt},
};

/// A convolution: channels, side of the window, stride, padding, dilation; depthwise, if it has as many groups as channels.
#[derive(Clone, Copy)]
struct Conv {
    channels: usize,
    window: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    depthwise: bool,
}

const fn conv(channels: usize, window: usize, stride: usize, padding: usize) -> Conv {
    Conv { channels, window, stride, padding, dilation: 1, depthwise: false }
}

/// What a network is made of, behind each convolution a sum with a bias and a maximum with 0.
#[derive(Clone, Copy)]
enum Layer {
    Conv(Conv),
    /// The same with a sum with what came in.
    Residual(Conv),
    /// The largest of windows of 3 by 3, every second one.
    Pool,
    /// The mean of every channel.
    Mean,
}

struct Network {
    graph: Graph,
    dtype: DType,
    at: Value,
    drawn: u64,
}

impl Network {
    fn new(name: &str, dtype: DType, shape: [usize; 4]) -> Network {
        let mut graph = Graph::new(name);
        let at = graph.add_input("image", Type::new(dtype, shape.map(Dim::from).to_vec()));
        Network { graph, dtype, at, drawn: 7 }
    }

    /// Values that look random, of about the size of `1 / √fan`.
    fn values(&mut self, shape: &[usize], fan: usize) -> Tensor {
        let count: usize = shape.iter().product();
        let mut draw = || {
            self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.drawn >> 40) as f32 / (1 << 23) as f32 - 1.0) / (fan as f32).sqrt()
        };
        let values: Vec<f32> = (0..count).map(|_| draw()).collect();
        Tensor::from_slice(shape, &values).expect("as many as the shape has")
    }

    fn add(&mut self, op: Op, operands: &[Value]) -> Value {
        self.graph.add(op, operands, Origin::of("layer")).expect("it fits").into()
    }

    fn constant(&mut self, shape: &[usize], fan: usize) -> Value {
        let values = self.values(shape, fan);
        let wide = self.graph.add_constant(values, Origin::of("weights"));
        let narrow = Op::Cast { dtype: self.dtype, saturate: true };
        let narrow = self.add(narrow, &[wide]);
        let known = eval::run(&with_output(&self.graph, narrow), &[self.image()]).expect("it evaluates").remove(0);
        self.graph.add_constant(known, Origin::of("weights"))
    }

    fn image(&mut self) -> Tensor {
        let shape: Vec<usize> =
            self.graph.ty(self.graph.inputs()[0].1.into()).shape.iter().map(|d| d.as_usize().expect("known")).collect();
        let values = self.values(&shape, 1);
        let numbers = values.numbers().expect("numbers");
        Tensor::from_numbers(self.dtype, &shape, &numbers).expect("as many as the shape has")
    }

    fn channels(&self) -> usize {
        self.graph.ty(self.at).shape[1].as_usize().expect("known")
    }

    fn conv(&mut self, conv: Conv) -> Value {
        let (before, side) = (self.channels(), conv.window);
        let (groups, inner) = if conv.depthwise { (before, 1) } else { (1, before) };
        let weights = self.constant(&[conv.channels, inner, side, side], inner * side * side);
        let op = Op::Conv {
            strides: vec![conv.stride; 2],
            low: vec![conv.padding; 2],
            high: vec![conv.padding; 2],
            dilations: vec![conv.dilation; 2],
            groups,
            dtype: DType::F32,
        };
        let sum = self.add(op, &[self.at, weights]);
        let bias = self.values(&[conv.channels, 1, 1], 1);
        let bias = self.graph.add_constant(bias, Origin::of("bias"));
        self.add(Op::Binary(BinaryFn::Add), &[sum, bias])
    }

    fn layer(&mut self, layer: Layer) {
        let zero = Tensor::from_slice(&[], &[0f32]).expect("one");
        let result = match layer {
            Layer::Conv(conv) => self.conv(conv),
            Layer::Residual(conv) => {
                let sum = self.conv(conv);
                let before = self.add(Op::Cast { dtype: DType::F32, saturate: true }, &[self.at]);
                self.add(Op::Binary(BinaryFn::Add), &[sum, before])
            }
            Layer::Pool => {
                let op = Op::WindowReduce {
                    function: ReduceFn::Max,
                    window: vec![1, 1, 3, 3],
                    strides: vec![1, 1, 2, 2],
                    low: vec![0, 0, 1, 1],
                    high: vec![0, 0, 1, 1],
                    dilations: vec![1; 4],
                };
                self.at = self.add(op, &[self.at]);
                return;
            }
            Layer::Mean => {
                let wide = self.add(Op::Cast { dtype: DType::F32, saturate: true }, &[self.at]);
                self.add(Op::Reduce { function: ReduceFn::Mean, axes: vec![2, 3] }, &[wide])
            }
        };
        let zero = self.graph.add_constant(zero, Origin::of("zero"));
        let positive = self.add(Op::Binary(BinaryFn::Max), &[result, zero]);
        self.at = self.add(Op::Cast { dtype: self.dtype, saturate: true }, &[positive]);
    }
}

fn with_output(graph: &Graph, value: Value) -> Graph {
    let mut copy = graph.clone();
    copy.add_output("y", value);
    copy
}

fn compiled(graph: &Graph, machine: &Machine) -> Program {
    let start = Start::Graph(graph.clone());
    compile_with(start, Phase::Tiles, machine, Options::default()).expect("it compiles").program.expect("a program")
}

/// Copies on the scalar pipe of vector cores, by kernel.
fn by_element(program: &Program, machine: &Machine) -> Vec<String> {
    fn copies<'p>(body: &'p [Stmt], found: &mut Vec<&'p Instr>) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => copies(body, found),
                Stmt::If { then, otherwise, .. } => {
                    copies(then, found);
                    copies(otherwise, found);
                }
                Stmt::Instr(instr) if matches!(instr.op, Opcode::Copy { .. }) => found.push(instr),
                Stmt::Instr(_) => {}
            }
        }
    }
    let mut slow = Vec::new();
    for kernel in &program.kernels {
        let mut found = Vec::new();
        copies(&kernel.body, &mut found);
        let scalar = |instr: &&Instr| machine.path_of(kernel, instr).expect("a path").pipe.ends_with("_s");
        slow.extend(found.into_iter().filter(scalar).map(|_| kernel.name.clone()));
    }
    slow
}

fn networks() -> Vec<(&'static str, [usize; 4], Vec<Layer>)> {
    use Layer::{Conv as C, Mean, Pool, Residual as R};
    let depthwise = |channels, window, stride| Conv { depthwise: true, ..conv(channels, window, stride, window / 2) };
    let dilated = Conv { dilation: 2, ..conv(32, 3, 1, 2) };
    vec![
        (
            "residual",
            [2, 3, 100, 90],
            vec![C(conv(16, 7, 2, 3)), Pool, R(conv(16, 3, 1, 1)), C(conv(40, 1, 2, 0)), Mean],
        ),
        (
            "strided",
            [1, 20, 41, 67],
            vec![C(conv(24, 3, 2, 1)), C(conv(32, 5, 2, 2)), R(dilated), C(conv(16, 2, 2, 0)), Mean],
        ),
        (
            "depthwise",
            [1, 16, 40, 70],
            vec![C(conv(72, 3, 1, 1)), C(depthwise(72, 3, 2)), R(depthwise(72, 7, 1)), C(conv(24, 1, 1, 0)), Mean],
        ),
        (
            "wide",
            [1, 48, 30, 30],
            vec![C(conv(208, 3, 1, 1)), R(conv(208, 3, 1, 1)), C(conv(16, 1, 1, 0)), C(conv(16, 3, 3, 0)), Mean],
        ),
    ]
}

#[test]
fn nothing_goes_element_by_element_and_results_are_right() {
    let machine = Machine::builtin("ascend910b2").expect("a built-in machine");
    for (name, shape, layers) in networks() {
        for dtype in [DType::F32, DType::F16] {
            let mut network = Network::new(name, dtype, shape);
            layers.iter().for_each(|&layer| network.layer(layer));
            let image = network.image();
            let graph = with_output(&network.graph, network.at);
            let program = compiled(&graph, &machine);
            let slow = by_element(&program, &machine);
            assert!(slow.is_empty(), "{name} in {dtype}: {slow:?}");
            let missing = export(&program, &machine, Form::Placed).unsupported;
            assert!(missing.is_empty(), "{name} in {dtype}: not in HIVM: {missing:?}");
            let expected = eval::run(&graph, std::slice::from_ref(&image)).expect("it evaluates").remove(0);
            let session = Session::new(program, &SessionOptions::default()).expect("a session");
            let found = session.run(&[image]).expect("it runs").remove(0);
            let tolerance = tarsia::Tolerance { rtol: 1e-3, atol: 1e-4, random: false };
            let tolerance = if dtype == DType::F16 { tolerance.at(tarsia::Precision::F16) } else { tolerance };
            let error = tarsia::difference("y", &expected, &found, tolerance);
            assert!(error.reason.is_empty(), "{name} in {dtype}: {}", error.reason);
        }
    }
}
