//! A program from header and constants. Every reference into the tables is checked; those inside the program are the verifier's.

use std::str::FromStr;

use bytes::Bytes;
use tarsia_tensor::{DType, Dim, Symbol};

use super::{ALIGNMENT, schema};
use crate::{
    Access, Axis, Buffer, BufferId, BufferKind, Constant, Instr, Kernel, KernelId, Lanes, Layout, LoopStep, Opcode,
    Operand, Param, ParamId, Port, Program, Region, ScanStep, Step, Stmt, Tile, TileId, View,
};

/// The program of a header.
pub(super) fn decode(file: &schema::File, data: Bytes) -> Result<Program, String> {
    let dims = file.dims.iter().map(|text| text.parse::<Dim>().map_err(|error| error.to_string()));
    let decoder = Decoder {
        strings: &file.strings,
        dims: dims.collect::<Result<_, _>>()?,
        opcodes: file.opcodes.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        data,
    };
    decoder.program(file.program.as_ref().ok_or("it has no program")?)
}

struct Decoder<'a> {
    strings: &'a [String],
    dims: Vec<Dim>,
    opcodes: Vec<Opcode>,
    data: Bytes,
}

/// Decodes every element of a list.
fn all<T, U>(list: &[T], decode: impl Fn(&T) -> Result<U, String>) -> Result<Vec<U>, String> {
    list.iter().map(decode).collect()
}

fn size(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("{value} does not fit"))
}

fn present<T>(value: Option<&T>) -> Result<&T, String> {
    value.ok_or_else(|| "a part is missing".to_owned())
}

fn ids(list: &[u32]) -> Vec<BufferId> {
    list.iter().copied().map(BufferId).collect()
}

impl Decoder<'_> {
    fn string(&self, number: u32) -> Result<&str, String> {
        let found = self.strings.get(number as usize);
        found.map(String::as_str).ok_or_else(|| format!("there is no string {number}"))
    }

    fn name(&self, number: u32) -> Result<String, String> {
        self.string(number).map(str::to_owned)
    }

    fn parsed<T: FromStr<Err = String>>(&self, number: u32) -> Result<T, String> {
        self.string(number)?.parse()
    }

    fn dim(&self, number: u32) -> Result<Dim, String> {
        self.dims.get(number as usize).cloned().ok_or_else(|| format!("there is no expression {number}"))
    }

    fn shape(&self, numbers: &[u32]) -> Result<Vec<Dim>, String> {
        all(numbers, |&number| self.dim(number))
    }

    fn program(&self, program: &schema::Program) -> Result<Program, String> {
        Ok(Program {
            name: self.name(program.name)?,
            target: self.name(program.target)?,
            inputs: self.ports(&program.inputs)?,
            outputs: self.ports(&program.outputs)?,
            buffers: all(&program.buffers, |buffer| self.buffer(buffer))?,
            constants: all(&program.constants, |extent| self.constant(extent))?,
            kernels: all(&program.kernels, |kernel| self.kernel(kernel))?,
            steps: all(&program.steps, |step| self.step(step))?,
        })
    }

    fn ports(&self, ports: &[schema::Port]) -> Result<Vec<Port>, String> {
        all(ports, |port| self.port(port))
    }

    fn port(&self, port: &schema::Port) -> Result<Port, String> {
        Ok(Port { name: self.name(port.name)?, buffer: BufferId(port.buffer), shape: self.shape(&port.shape)? })
    }

    fn buffer(&self, buffer: &schema::Buffer) -> Result<Buffer, String> {
        Ok(Buffer {
            name: self.name(buffer.name)?,
            dtype: self.parsed::<DType>(buffer.dtype)?,
            shape: self.shape(&buffer.shape)?,
            layout: self.parsed::<Layout>(buffer.layout)?,
            kind: match buffer.kind {
                0 => BufferKind::Input,
                1 => BufferKind::Temporary,
                other => {
                    BufferKind::Constant(u32::try_from(other - 2).map_err(|_| "a constant's number is too large")?)
                }
            },
        })
    }

    fn constant(&self, extent: &schema::Extent) -> Result<Constant, String> {
        let (offset, bytes) = (size(extent.offset)?, size(extent.bytes)?);
        let end = offset.checked_add(bytes).filter(|end| *end <= self.data.len());
        let end = end.ok_or_else(|| format!("a constant of {bytes} bytes at {offset} is outside the file"))?;
        if !offset.is_multiple_of(ALIGNMENT) {
            return Err(format!("a constant at {offset} is not aligned to {ALIGNMENT} bytes"));
        }
        Ok(Constant { data: self.data.slice(offset..end).into() })
    }

    fn kernel(&self, kernel: &schema::Kernel) -> Result<Kernel, String> {
        if kernel.grid_variables.len() != kernel.grid_sizes.len() {
            return Err("a grid has as many variables as sizes".into());
        }
        let grid = kernel.grid_variables.iter().zip(&kernel.grid_sizes);
        Ok(Kernel {
            name: self.name(kernel.name)?,
            origin: all(&kernel.origin, |&name| self.name(name))?,
            params: all(&kernel.params, |param| self.param(param))?,
            tiles: all(&kernel.tiles, |tile| self.tile(tile))?,
            grid: grid.map(|(&var, &size)| Ok((self.symbol(var)?, self.dim(size)?))).collect::<Result<_, String>>()?,
            lanes: kernel.lanes.as_ref().map(|lanes| self.lanes(lanes)).transpose()?,
            body: self.body(&kernel.body)?,
        })
    }

    fn lanes(&self, lanes: &schema::Lanes) -> Result<Lanes, String> {
        let count = usize::try_from(lanes.count).map_err(|_| "more lanes than can be counted")?;
        Ok(Lanes { var: self.symbol(lanes.variable)?, count, space: self.name(lanes.space)? })
    }

    fn symbol(&self, number: u32) -> Result<Symbol, String> {
        self.string(number).map(Symbol::new)
    }

    fn param(&self, param: &schema::Param) -> Result<Param, String> {
        Ok(Param {
            name: self.name(param.name)?,
            dtype: self.parsed(param.dtype)?,
            shape: self.shape(&param.shape)?,
            layout: self.parsed(param.layout)?,
            access: match param.access {
                0 => Access::Read,
                1 => Access::Write,
                2 => Access::Update,
                other => return Err(format!("{other} is no kind of access")),
            },
        })
    }

    fn tile(&self, tile: &schema::Tile) -> Result<Tile, String> {
        Ok(Tile {
            name: self.name(tile.name)?,
            space: self.name(tile.space)?,
            dtype: self.parsed(tile.dtype)?,
            shape: all(&tile.shape, |&extent| size(extent))?,
            layout: self.parsed(tile.layout)?,
            slots: size(tile.slots)?,
            address: tile.address.map(size).transpose()?,
        })
    }

    fn body(&self, body: &[schema::Stmt]) -> Result<Vec<Stmt>, String> {
        all(body, |stmt| self.stmt(stmt))
    }

    fn stmt(&self, stmt: &schema::Stmt) -> Result<Stmt, String> {
        Ok(match present(stmt.kind.as_ref())? {
            schema::StmtKind::Instr(instr) => Stmt::Instr(self.instr(instr)?),
            schema::StmtKind::For(schema::For { var, end, step, body }) => {
                Stmt::For { var: self.symbol(*var)?, end: self.dim(*end)?, step: *step, body: self.body(body)? }
            }
            schema::StmtKind::If(schema::Branch { condition, then, otherwise }) => {
                Stmt::If { condition: self.dim(*condition)?, then: self.body(then)?, otherwise: self.body(otherwise)? }
            }
        })
    }

    fn instr(&self, instr: &schema::Instr) -> Result<Instr, String> {
        let op = self.opcodes.get(instr.opcode as usize).cloned();
        Ok(Instr {
            op: op.ok_or_else(|| format!("there is no opcode {}", instr.opcode))?,
            dst: all(&instr.dst, |operand| self.operand(operand))?,
            src: all(&instr.src, |operand| self.operand(operand))?,
        })
    }

    fn operand(&self, operand: &schema::Operand) -> Result<Operand, String> {
        Ok(match present(operand.kind.as_ref())? {
            schema::OperandKind::Tile(region) => Operand::Tile(Region {
                tile: TileId(region.tile),
                slot: self.dim(region.slot)?,
                offset: self.shape(&region.offset)?,
                size: self.shape(&region.size)?,
            }),
            schema::OperandKind::Global(view) => Operand::Global(View {
                param: ParamId(view.param),
                axes: all(&view.axes, |axis| self.axis(axis))?,
                size: self.shape(&view.size)?,
                fill: view.fill,
            }),
            schema::OperandKind::Real(number) => Operand::Real(*number),
            schema::OperandKind::Index(dim) => Operand::Index(self.dim(*dim)?),
            schema::OperandKind::Scalar(scalar) => {
                Operand::Scalar(self.symbol(scalar.symbol)?, self.dim(scalar.bound)?)
            }
        })
    }

    fn axis(&self, axis: &schema::Axis) -> Result<Axis, String> {
        if axis.along.len() != axis.steps.len() {
            return Err("an axis has as many steps as axes it steps along".into());
        }
        let steps = axis.along.iter().zip(&axis.steps);
        let steps =
            steps.map(|(&along, &step)| Ok((along as usize, self.dim(step)?))).collect::<Result<_, String>>()?;
        Ok(Axis { start: self.dim(axis.start)?, steps })
    }

    fn step(&self, step: &schema::Step) -> Result<Step, String> {
        Ok(match present(step.kind.as_ref())? {
            schema::StepKind::Launch(launch) => {
                let pairs = launch.in_place.chunks(2).map(|pair| match pair {
                    &[read, written] => Ok((ParamId(read), ParamId(written))),
                    _ => Err("parameters in place come in pairs".to_owned()),
                });
                Step::Launch {
                    kernel: KernelId(launch.kernel),
                    args: ids(&launch.args),
                    in_place: pairs.collect::<Result<_, _>>()?,
                }
            }
            schema::StepKind::Host(host) => Step::Host {
                function: self.name(host.function)?,
                ints: host.ints.clone(),
                reals: host.reals.clone(),
                operands: self.ports(&host.operands)?,
                results: ids(&host.results),
            },
            schema::StepKind::If(step) => {
                let [then_branch, else_branch] = step.branches.as_slice() else {
                    return Err("an if has two branches".into());
                };
                Step::If {
                    condition: BufferId(step.condition),
                    then_branch: Box::new(self.program(then_branch)?),
                    else_branch: Box::new(self.program(else_branch)?),
                    operands: self.ports(&step.operands)?,
                    results: ids(&step.results),
                }
            }
            schema::StepKind::Loop(step) => Step::Loop(Box::new(LoopStep {
                body: self.program(present(step.body.as_ref())?)?,
                trip_count: self.port(present(step.trip_count.as_ref())?)?,
                condition: self.port(present(step.condition.as_ref())?)?,
                carried: self.ports(&step.carried)?,
                captured: self.ports(&step.captured)?,
                results: ids(&step.results),
            })),
            schema::StepKind::Scan(step) => Step::Scan(Box::new(self.scan_step(step)?)),
        })
    }

    fn scan_step(&self, step: &schema::Scan) -> Result<ScanStep, String> {
        let direction = |&value: &u64| Ok((size(value >> 1)?, value & 1 == 1));
        if step.inputs.len() != step.input_directions.len() {
            return Err("every scanned input has a direction".into());
        }
        let inputs = step.inputs.iter().zip(&step.input_directions).map(|(port, value)| {
            let (axis, reverse) = direction(value)?;
            Ok((self.port(port)?, axis, reverse))
        });
        Ok(ScanStep {
            body: self.program(present(step.body.as_ref())?)?,
            states: self.ports(&step.states)?,
            inputs: inputs.collect::<Result<_, String>>()?,
            captured: self.ports(&step.captured)?,
            outputs: all(&step.output_directions, direction)?,
            results: ids(&step.results),
        })
    }
}
