//! A short notation for hand-written tile programs, and running them on every instruction set with one and two threads.
#![allow(dead_code)] // Each test file uses a part.

use tarsia_runtime::{Options, RunError, Session, cpu::Isa};
use tarsia_tensor::{DType, Dim, Symbol, Tensor};
use tarsia_tile::*;

/// An expression.
pub fn d(text: &str) -> Dim {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A shape.
pub fn ds(texts: &[&str]) -> Vec<Dim> {
    texts.iter().map(|text| d(text)).collect()
}

/// A kernel under construction.
pub struct K(pub Kernel);

/// A kernel with a grid.
pub fn kernel(name: &str, grid: &[(&str, &str)]) -> K {
    let grid = grid.iter().map(|(var, size)| (Symbol::new(var), d(size))).collect();
    K(Kernel {
        name: name.into(),
        origin: vec![format!("node_{name}")],
        params: vec![],
        tiles: vec![],
        grid,
        lanes: None,
        body: vec![],
    })
}

impl K {
    pub fn param(&mut self, dtype: DType, shape: &[&str], access: Access) -> ParamId {
        self.blocked_param(dtype, shape, access, Layout::RowMajor)
    }

    pub fn blocked_param(&mut self, dtype: DType, shape: &[&str], access: Access, layout: Layout) -> ParamId {
        let name = format!("p{}", self.0.params.len());
        self.0.params.push(Param { name, dtype, shape: ds(shape), layout, access });
        ParamId(self.0.params.len() as u32 - 1)
    }

    pub fn tile(&mut self, dtype: DType, shape: &[usize]) -> TileId {
        self.tile_in("scratch", dtype, shape, Layout::RowMajor)
    }

    pub fn tile_in(&mut self, space: &str, dtype: DType, shape: &[usize], layout: Layout) -> TileId {
        let name = format!("t{}", self.0.tiles.len());
        let (shape, space) = (shape.to_vec(), space.to_owned());
        self.0.tiles.push(Tile { name, space, dtype, shape, layout, slots: 1, address: None });
        TileId(self.0.tiles.len() as u32 - 1)
    }

    pub fn instr(&mut self, op: Opcode, dst: Vec<Operand>, src: Vec<Operand>) -> &mut K {
        self.0.body.push(Stmt::Instr(Instr { op, dst, src }));
        self
    }

    pub fn copy(&mut self, dst: Operand, src: Operand) -> &mut K {
        self.instr(Opcode::Copy { rows: 1 }, vec![dst], vec![src])
    }

    /// `for var in 0..end step step { body }`.
    pub fn each(&mut self, var: &str, end: &str, step: i64, body: impl FnOnce(&mut K)) -> &mut K {
        let outer = std::mem::take(&mut self.0.body);
        body(self);
        let body = std::mem::replace(&mut self.0.body, outer);
        self.0.body.push(Stmt::For { var: Symbol::new(var), end: d(end), step, body });
        self
    }
}

/// A box at the origin of a tile.
pub fn t(tile: TileId, size: &[&str]) -> Operand {
    Operand::Tile(Region::at_origin(tile, ds(size)))
}

/// A box in a parameter: axis `i` of the view steps along axis `i` of the parameter.
pub fn v(param: ParamId, start: &[&str], size: &[&str]) -> Operand {
    filled(param, start, size, None)
}

pub fn filled(param: ParamId, start: &[&str], size: &[&str], fill: Option<f64>) -> Operand {
    let axis = |(i, start): (usize, &&str)| Axis { start: d(start), steps: vec![(i, Dim::ONE)] };
    Operand::Global(View { param, axes: start.iter().enumerate().map(axis).collect(), size: ds(size), fill })
}

/// A view with any steps: per axis of the parameter the start and the (view axis, step) pairs.
pub fn view(param: ParamId, axes: &[(&str, &[(usize, &str)])], size: &[&str], fill: Option<f64>) -> Operand {
    let axes = axes
        .iter()
        .map(|(start, steps)| Axis { start: d(start), steps: steps.iter().map(|(of, step)| (*of, d(step))).collect() });
    Operand::Global(View { param, axes: axes.collect(), size: ds(size), fill })
}

pub fn scalar(name: &str, bound: &str) -> Operand {
    Operand::Scalar(Symbol::new(name), d(bound))
}

/// A program under construction.
#[derive(Default)]
pub struct P(pub Program);

impl P {
    pub fn new(name: &str) -> P {
        P(Program { name: name.into(), target: "test".into(), ..Program::default() })
    }

    pub fn buffer(&mut self, dtype: DType, shape: &[&str], kind: BufferKind) -> BufferId {
        let name = format!("b{}", self.0.buffers.len());
        self.0.buffers.push(Buffer { name, dtype, shape: ds(shape), layout: Layout::RowMajor, kind });
        BufferId(self.0.buffers.len() as u32 - 1)
    }

    pub fn input(&mut self, name: &str, dtype: DType, shape: &[&str]) -> BufferId {
        let buffer = self.buffer(dtype, shape, BufferKind::Input);
        self.0.inputs.push(Port { name: name.into(), buffer, shape: ds(shape) });
        buffer
    }

    pub fn temp(&mut self, dtype: DType, shape: &[&str]) -> BufferId {
        self.buffer(dtype, shape, BufferKind::Temporary)
    }

    pub fn constant(&mut self, tensor: &Tensor) -> BufferId {
        self.0.constants.push(Constant { data: tensor.content() });
        let shape: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
        let shape: Vec<&str> = shape.iter().map(String::as_str).collect();
        self.buffer(tensor.dtype(), &shape, BufferKind::Constant(self.0.constants.len() as u32 - 1))
    }

    pub fn port(&self, name: &str, buffer: BufferId) -> Port {
        Port { name: name.into(), buffer, shape: self.0.buffers[buffer.0 as usize].shape.clone() }
    }

    pub fn output(&mut self, name: &str, buffer: BufferId) {
        let port = self.port(name, buffer);
        self.0.outputs.push(port);
    }

    pub fn launch(&mut self, kernel: K, args: &[BufferId]) {
        self.0.kernels.push(kernel.0);
        let kernel = KernelId(self.0.kernels.len() as u32 - 1);
        self.0.steps.push(Step::Launch { kernel, args: args.to_vec(), in_place: vec![] });
    }
}

/// Sessions on every instruction set, with one and two threads.
pub fn sessions(program: &Program) -> Vec<Session> {
    let each = |isa| [1, 2].map(|threads| Options { threads, isa: Some(isa), ..Options::default() });
    let options = Isa::available().flat_map(each);
    options.map(|options| Session::new(program.clone(), &options).expect("a valid program")).collect()
}

/// The outputs, which must be bit-equal across runs, threads and, for exact programs, instruction sets.
pub fn run_everywhere(program: &Program, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut first: Option<Vec<Tensor>> = None;
    for session in sessions(program) {
        for _ in 0..2 {
            let outputs = session.run(inputs).expect("the program runs");
            match &first {
                None => first = Some(outputs),
                Some(first) => assert_close(first, &outputs),
            }
        }
    }
    first.expect("at least one instruction set")
}

pub fn fails(program: &Program, inputs: &[Tensor]) -> RunError {
    let results = sessions(program).into_iter().map(|session| session.run(inputs));
    let mut errors: Vec<RunError> = results.map(|result| result.expect_err("the run must fail")).collect();
    assert!(errors.windows(2).all(|pair| pair[0] == pair[1]), "{errors:?}");
    errors.remove(0)
}

fn assert_close(a: &[Tensor], b: &[Tensor]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()));
        if a.dtype().bits() == 0 {
            assert_eq!(a, b);
            continue;
        }
        let (a, b) = (floats(a), floats(b));
        for (x, y) in a.iter().zip(&b) {
            assert!((x - y).abs() <= 1e-5 * x.abs().max(1.0) || x == y || x.is_nan() && y.is_nan(), "{x} is not {y}");
        }
    }
}

pub fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.numbers().expect("numbers").to_f64()
}

/// Deterministic numbers in -1..1.
pub fn noise(count: usize, seed: i64) -> Vec<f32> {
    let mut stream = tarsia_tensor::rng::Stream::new(seed);
    (0..count).map(|_| stream.between(-1.0, 1.0) as f32).collect()
}

pub fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).expect("a tensor")
}

pub fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_slice(shape, values).expect("a tensor")
}

#[track_caller]
pub fn near(found: &Tensor, shape: &[usize], expected: &[f64], tolerance: f64) {
    assert_eq!(found.shape(), shape);
    let found = floats(found);
    assert_eq!(found.len(), expected.len());
    for (i, (x, y)) in found.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance * y.abs().max(1.0), "element {i} is {x}, expected {y}");
    }
}
