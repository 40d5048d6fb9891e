//! A program as header and constants.

use std::hash::Hash;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tarsia_tensor::Dim;

use super::{ALIGNMENT, schema};
use crate::{
    Access, Axis, Buffer, BufferId, BufferKind, Constant, Instr, Kernel, LoopStep, Opcode, Operand, Param, Port,
    Program, Region, ScanStep, Step, Stmt, Tile, View,
};

/// The header, and the constants with their offsets from the first, in the order of the file.
pub(super) fn encode(program: &Program) -> (schema::File, Vec<(usize, Bytes)>) {
    let mut encoder = Encoder::default();
    let program = Some(encoder.program(program));
    let file = schema::File {
        strings: encoder.strings.list,
        dims: encoder.dims.list.iter().map(ToString::to_string).collect(),
        opcodes: encoder.opcodes.list,
        program,
    };
    (file, encoder.constants)
}

/// Values in order of first use, and their numbers.
struct Table<T> {
    list: Vec<T>,
    numbers: FxHashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { list: Vec::new(), numbers: FxHashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn number(&mut self, value: T) -> u32 {
        if let Some(&number) = self.numbers.get(&value) {
            return number;
        }
        let number = self.list.len() as u32;
        self.list.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

#[derive(Default)]
struct Encoder {
    strings: Table<String>,
    dims: Table<Dim>,
    opcodes: Table<String>,
    constants: Vec<(usize, Bytes)>,
    /// Data that are shared are written once.
    known: FxHashMap<(usize, usize), usize>,
}

impl Encoder {
    fn string(&mut self, text: impl ToString) -> u32 {
        self.strings.number(text.to_string())
    }

    fn dim(&mut self, dim: &Dim) -> u32 {
        self.dims.number(dim.clone())
    }

    fn shape(&mut self, dims: &[Dim]) -> Vec<u32> {
        dims.iter().map(|dim| self.dim(dim)).collect()
    }

    fn program(&mut self, program: &Program) -> schema::Program {
        schema::Program {
            name: self.string(&program.name),
            target: self.string(&program.target),
            inputs: self.ports(&program.inputs),
            outputs: self.ports(&program.outputs),
            buffers: program.buffers.iter().map(|buffer| self.buffer(buffer)).collect(),
            constants: program.constants.iter().map(|constant| self.constant(constant)).collect(),
            kernels: program.kernels.iter().map(|kernel| self.kernel(kernel)).collect(),
            steps: program.steps.iter().map(|step| self.step(step)).collect(),
        }
    }

    fn ports(&mut self, ports: &[Port]) -> Vec<schema::Port> {
        ports.iter().map(|port| self.port(port)).collect()
    }

    fn port(&mut self, port: &Port) -> schema::Port {
        schema::Port { name: self.string(&port.name), buffer: port.buffer.0, shape: self.shape(&port.shape) }
    }

    fn buffer(&mut self, buffer: &Buffer) -> schema::Buffer {
        schema::Buffer {
            name: self.string(&buffer.name),
            dtype: self.string(buffer.dtype),
            shape: self.shape(&buffer.shape),
            layout: self.string(buffer.layout),
            kind: match buffer.kind {
                BufferKind::Input => 0,
                BufferKind::Temporary => 1,
                BufferKind::Constant(index) => 2 + u64::from(index),
            },
        }
    }

    /// Absent data are refused before they are encoded.
    fn constant(&mut self, Constant { data }: &Constant) -> schema::Extent {
        static NONE: Bytes = Bytes::new();
        let data = data.bytes().unwrap_or(&NONE);
        let end =
            || self.constants.last().map_or(0, |(offset, data)| (offset + data.len()).next_multiple_of(ALIGNMENT));
        let key = (data.as_ptr() as usize, data.len());
        let offset = self.known.get(&key).copied().unwrap_or_else(end);
        if self.known.insert(key, offset).is_none() {
            self.constants.push((offset, data.clone()));
        }
        schema::Extent { offset: offset as u64, bytes: data.len() as u64 }
    }

    fn kernel(&mut self, kernel: &Kernel) -> schema::Kernel {
        schema::Kernel {
            name: self.string(&kernel.name),
            origin: kernel.origin.iter().map(|name| self.string(name)).collect(),
            params: kernel.params.iter().map(|param| self.param(param)).collect(),
            tiles: kernel.tiles.iter().map(|tile| self.tile(tile)).collect(),
            grid_variables: kernel.grid.iter().map(|(var, _)| self.string(var.name())).collect(),
            grid_sizes: kernel.grid.iter().map(|(_, size)| self.dim(size)).collect(),
            body: self.body(&kernel.body),
            lanes: kernel.lanes.as_ref().map(|lanes| schema::Lanes {
                variable: self.string(lanes.var.name()),
                count: lanes.count as u64,
                space: self.string(&lanes.space),
            }),
        }
    }

    fn param(&mut self, param: &Param) -> schema::Param {
        schema::Param {
            name: self.string(&param.name),
            dtype: self.string(param.dtype),
            shape: self.shape(&param.shape),
            layout: self.string(param.layout),
            access: match param.access {
                Access::Read => 0,
                Access::Write => 1,
                Access::Update => 2,
            },
        }
    }

    fn tile(&mut self, tile: &Tile) -> schema::Tile {
        schema::Tile {
            name: self.string(&tile.name),
            space: self.string(&tile.space),
            dtype: self.string(tile.dtype),
            shape: tile.shape.iter().map(|&size| size as u64).collect(),
            layout: self.string(tile.layout),
            slots: tile.slots as u64,
            address: tile.address.map(|address| address as u64),
        }
    }

    fn body(&mut self, body: &[Stmt]) -> Vec<schema::Stmt> {
        body.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    fn stmt(&mut self, stmt: &Stmt) -> schema::Stmt {
        let kind = match stmt {
            Stmt::Instr(instr) => schema::StmtKind::Instr(self.instr(instr)),
            Stmt::For { var, end, step, body } => schema::StmtKind::For(schema::For {
                var: self.string(var.name()),
                end: self.dim(end),
                step: *step,
                body: self.body(body),
            }),
            Stmt::If { condition, then, otherwise } => schema::StmtKind::If(schema::Branch {
                condition: self.dim(condition),
                then: self.body(then),
                otherwise: self.body(otherwise),
            }),
        };
        schema::Stmt { kind: Some(kind) }
    }

    fn instr(&mut self, Instr { op, dst, src }: &Instr) -> schema::Instr {
        schema::Instr {
            opcode: self.opcode(op),
            dst: dst.iter().map(|operand| self.operand(operand)).collect(),
            src: src.iter().map(|operand| self.operand(operand)).collect(),
        }
    }

    fn opcode(&mut self, op: &Opcode) -> u32 {
        self.opcodes.number(op.to_string())
    }

    fn operand(&mut self, operand: &Operand) -> schema::Operand {
        let kind = match operand {
            Operand::Tile(region) => schema::OperandKind::Tile(self.region(region)),
            Operand::Global(view) => schema::OperandKind::Global(self.view(view)),
            Operand::Real(number) => schema::OperandKind::Real(*number),
            Operand::Index(dim) => schema::OperandKind::Index(self.dim(dim)),
            Operand::Scalar(symbol, bound) => schema::OperandKind::Scalar(schema::Scalar {
                symbol: self.string(symbol.name()),
                bound: self.dim(bound),
            }),
        };
        schema::Operand { kind: Some(kind) }
    }

    fn region(&mut self, region: &Region) -> schema::Region {
        schema::Region {
            tile: region.tile.0,
            slot: self.dim(&region.slot),
            offset: self.shape(&region.offset),
            size: self.shape(&region.size),
        }
    }

    fn view(&mut self, view: &View) -> schema::View {
        schema::View {
            param: view.param.0,
            axes: view.axes.iter().map(|axis| self.axis(axis)).collect(),
            size: self.shape(&view.size),
            fill: view.fill,
        }
    }

    fn axis(&mut self, axis: &Axis) -> schema::Axis {
        schema::Axis {
            start: self.dim(&axis.start),
            along: axis.steps.iter().map(|(along, _)| u32::try_from(*along).unwrap_or(u32::MAX)).collect(),
            steps: axis.steps.iter().map(|(_, step)| self.dim(step)).collect(),
        }
    }

    fn step(&mut self, step: &Step) -> schema::Step {
        let kind = match step {
            Step::Launch { kernel, args, in_place } => schema::StepKind::Launch(schema::Launch {
                kernel: kernel.0,
                args: ids(args),
                in_place: in_place.iter().flat_map(|(read, written)| [read.0, written.0]).collect(),
            }),
            Step::Host { function, ints, reals, operands, results } => schema::StepKind::Host(schema::Host {
                function: self.string(function),
                ints: ints.clone(),
                reals: reals.clone(),
                operands: self.ports(operands),
                results: ids(results),
            }),
            Step::If { condition, then_branch, else_branch, operands, results } => schema::StepKind::If(schema::If {
                condition: condition.0,
                branches: vec![self.program(then_branch), self.program(else_branch)],
                operands: self.ports(operands),
                results: ids(results),
            }),
            Step::Loop(step) => schema::StepKind::Loop(self.loop_step(step)),
            Step::Scan(step) => schema::StepKind::Scan(self.scan_step(step)),
        };
        schema::Step { kind: Some(kind) }
    }

    fn loop_step(&mut self, step: &LoopStep) -> schema::Loop {
        schema::Loop {
            body: Some(self.program(&step.body)),
            trip_count: Some(self.port(&step.trip_count)),
            condition: Some(self.port(&step.condition)),
            carried: self.ports(&step.carried),
            captured: self.ports(&step.captured),
            results: ids(&step.results),
        }
    }

    fn scan_step(&mut self, step: &ScanStep) -> schema::Scan {
        let direction = |axis: usize, reverse: bool| (axis as u64) << 1 | u64::from(reverse);
        schema::Scan {
            body: Some(self.program(&step.body)),
            states: self.ports(&step.states),
            inputs: step.inputs.iter().map(|(port, ..)| self.port(port)).collect(),
            input_directions: step.inputs.iter().map(|&(_, axis, reverse)| direction(axis, reverse)).collect(),
            captured: self.ports(&step.captured),
            output_directions: step.outputs.iter().map(|&(axis, reverse)| direction(axis, reverse)).collect(),
            results: ids(&step.results),
        }
    }
}

fn ids(buffers: &[BufferId]) -> Vec<u32> {
    buffers.iter().map(|buffer| buffer.0).collect()
}
