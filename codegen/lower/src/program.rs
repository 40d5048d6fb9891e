//! Walks a graph of kernels: buffers for values, constants, steps.

mod tiles;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, KernelKind, Kind, Node, NodeId, Op, Origin, Real, Type, Value, classify};
use tarsia_tensor::{DType, Dim, Tensor};
use tarsia_tile::{
    Access, Buffer, BufferId, BufferKind, Constant, Instr, Kernel, KernelId, Layout, LoopStep, Machine, Opcode,
    ParamId, Port, Program, ScanStep, Step, Stmt,
    optable::Class,
    verify::{Stage, verify},
};

use crate::{
    LowerError,
    asked::{Asked, Choices, Overflow},
    attention,
    builder::{Hints, KernelBuilder, Source},
    concat,
    decompose::decompose,
    emit::{Leaf, leaf_nodes},
    expand::{expand_composites, single_op_body},
    index,
    map::{self, Target as Result_},
    matrix,
    nest::stored_dtype,
    order,
    overlap::overlap,
    pack::{self, Pool},
    persist::persist,
    place::{Unplaced, place},
    route::route,
    routed, rows,
    synchronise::synchronise,
    target::Target,
    window,
};

/// Lowers a graph of kernels (or any graph: other nodes become kernels of their own) for a machine.
///
/// # Errors
/// If some node has no tile program; the error names it and the model's nodes behind it. If a tile that is asked for does not fit; the
/// error names the largest that does.
pub fn lower(graph: &Graph, machine: &Machine, choices: &Choices) -> Result<Program, Vec<LowerError>> {
    let fault =
        |op: &str, reason| vec![LowerError { op: op.to_owned(), origin: Origin::default(), reason, asked: false }];
    let (shared, sizes) = (Arc::new(machine.clone()), Arc::new(choices.sizes.clone()));
    let targets = (0..=HALVINGS).map(|halvings| Target::of(&shared, &sizes, halvings)).collect::<Result<Vec<_>, _>>();
    let targets = targets.map_err(|reason| fault(&machine.name, reason))?;
    let mut shared = Shared { pool: Pool::default(), asked: Asked::new(&choices.tiles) };
    let program = lower_with(graph, machine, &targets, &mut shared, false);
    let unknown = shared.asked.unknown();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let program = program?;
    verify(&program, machine, Stage::Synchronised).map_err(|faults| fault(&program.name, faults.to_string()))?;
    Ok(program)
}

/// A kernel that does not fit the machine's memories is generated again with tiles of half the size, at most so often.
const HALVINGS: usize = 8;
/// How often smaller tiles than those that fit are tried, so that more of them can be double-buffered.
const SMALLER: usize = 2;

/// Why a kernel cannot run on a machine as it is.
enum Unfit {
    /// Its tiles take more memory than there is.
    TooLarge(Overflow),
    /// No unit computes it, or no path moves its data.
    Impossible(String),
}

/// What becomes of a kernel after it is cut into tiles: routed, placed, overlapped, synchronised.
/// Gives how many tiles are not double-buffered although they could be.
fn fit(kernel: &mut Kernel, machine: &Machine, hints: &Hints) -> Result<usize, Unfit> {
    route(kernel, machine).map_err(Unfit::Impossible)?;
    let concurrent = machine.has_concurrent_pipes();
    if concurrent {
        persist(kernel, machine, hints.grouping.as_ref());
        enclose(kernel, &hints.signals);
    }
    place(kernel, machine).map_err(|unplaced| match unplaced {
        Unplaced::Overflow(overflow) => Unfit::TooLarge(overflow),
        Unplaced::Impossible(reason) => Unfit::Impossible(reason),
    })?;
    let mut single = 0;
    if concurrent {
        let mut alone = kernel.clone();
        single = overlap(kernel, machine, &hints.ordered);
        if let Err(reason) = synchronise(kernel, machine, &hints.ordered) {
            // Double buffering has taken events that are needed elsewhere.
            tracing::info!("{} is not double-buffered: {reason}", kernel.name);
            synchronise(&mut alone, machine, &hints.ordered).map_err(Unfit::Impossible)?;
            *kernel = alone;
        }
    }
    Ok(single)
}

/// Puts signals around all items of a kernel.
fn enclose(kernel: &mut Kernel, signals: &[(String, String, usize)]) {
    let each = |set: bool| {
        signals.iter().map(move |(from, to, event)| {
            let (from, to, event) = (from.clone(), to.clone(), Dim::from(*event));
            let op = if set { Opcode::SetEvent { from, to, event } } else { Opcode::WaitEvent { from, to, event } };
            Stmt::Instr(Instr { op, dst: Vec::new(), src: Vec::new() })
        })
    };
    let body = std::mem::take(&mut kernel.body);
    kernel.body = each(true).chain(body).chain(each(false)).collect();
}

/// Where a value is.
#[derive(Clone, Debug)]
struct Stored {
    buffer: BufferId,
    shape: Vec<Dim>,
}

/// What a program and those inside it have in common.
struct Shared {
    pool: Pool,
    asked: Asked,
}

struct Lowering<'a> {
    graph: &'a Graph,
    machine: &'a Machine,
    /// The machine with ever smaller tiles.
    targets: &'a [Target],
    /// Whether the program is inside another.
    inner: bool,
    /// Inputs by their number.
    inputs: BTreeMap<usize, Port>,
    shared: &'a mut Shared,
    program: Program,
    stored: FxHashMap<Value, Stored>,
    packed: BTreeMap<String, BufferId>,
    errors: Vec<LowerError>,
}

/// Lowers a graph; the inputs and outputs of a program inside another hold their elements as device memory does.
fn lower_with(
    graph: &Graph,
    machine: &Machine,
    targets: &[Target],
    shared: &mut Shared,
    inner: bool,
) -> Result<Program, Vec<LowerError>> {
    let program = Program { name: graph.name.clone(), target: machine.name.clone(), ..Program::default() };
    let mut lowering = Lowering {
        graph,
        machine,
        targets,
        inner,
        inputs: BTreeMap::new(),
        shared,
        program,
        stored: FxHashMap::default(),
        packed: BTreeMap::new(),
        errors: Vec::new(),
    };
    for id in graph.node_ids() {
        if let Err(error) = lowering.node(id) {
            lowering.errors.push(error);
        }
    }
    lowering.finish()
}

impl<'a> Lowering<'a> {
    fn finish(mut self) -> Result<Program, Vec<LowerError>> {
        if !self.errors.is_empty() {
            // What cannot be done only because something else that was asked for cannot be done is not worth telling.
            if self.errors.iter().any(|error| error.asked) {
                self.errors.retain(|error| error.asked);
            }
            return Err(self.errors);
        }
        self.program.inputs = std::mem::take(&mut self.inputs).into_values().collect();
        for output in self.graph.outputs() {
            let port = if self.inner {
                self.port(output.value, &output.name)
            } else {
                self.outer_port(output.value, &output.name)
            };
            match port {
                Some(port) => self.program.outputs.push(port),
                None => self.errors.push(error(self.graph, output.value.node, "the result is never computed".into())),
            }
        }
        if self.errors.is_empty() { Ok(self.program) } else { Err(self.errors) }
    }

    fn port(&mut self, value: Value, name: &str) -> Option<Port> {
        let Stored { buffer, shape } = self.read(value)?;
        Some(Port { name: name.to_owned(), buffer, shape })
    }

    /// A value whose elements are as they are outside of the program: packed, where its type is.
    fn outer_port(&mut self, value: Value, name: &str) -> Option<Port> {
        let (ty, port) = (self.graph.ty(value).clone(), self.port(value, name)?);
        if stored_dtype(ty.dtype) == ty.dtype {
            return Some(port);
        }
        let packed = self.buffer_as(ty.dtype, &ty.shape, BufferKind::Temporary);
        self.convert(port.clone(), ty.dtype, packed);
        Some(Port { buffer: packed, ..port })
    }

    /// A buffer for a value that comes packed from outside, if its type is, and then the steps that unpack it.
    fn unpacked(&mut self, ty: &Type, from: BufferKind) -> (BufferId, BufferId) {
        let outer = self.buffer_as(ty.dtype, &ty.shape, from);
        let stored = if stored_dtype(ty.dtype) == ty.dtype { outer } else { self.buffer(ty, BufferKind::Temporary) };
        (outer, stored)
    }

    /// A step that writes `from` as elements of `dtype`.
    fn convert(&mut self, from: Port, dtype: DType, to: BufferId) {
        let ints = vec![i64::from(dtype.onnx()), 1];
        let (function, operands) = ("cast".to_owned(), vec![from]);
        self.program.steps.push(Step::Host { function, ints, reals: Vec::new(), operands, results: vec![to] });
    }

    /// Where a value is; constants get a buffer when they are first read.
    fn read(&mut self, value: Value) -> Option<Stored> {
        if let Some(stored) = self.stored.get(&value) {
            return Some(stored.clone());
        }
        let tensor = self.graph.constant(value)?.clone();
        let ty = self.graph.ty(value).clone();
        let buffer = self.constant(&tensor, &ty);
        let stored = Stored { buffer, shape: ty.shape };
        self.stored.insert(value, stored.clone());
        Some(stored)
    }

    fn constant(&mut self, tensor: &Tensor, ty: &Type) -> BufferId {
        if let Some(strings) = tensor.strings() {
            return self.texts(strings, tensor.shape(), ty);
        }
        let data = pack::stored_bytes(tensor);
        let index = self.program.constants.len() as u32;
        self.program.constants.push(Constant { data });
        self.buffer(ty, BufferKind::Constant(index))
    }

    /// Constant texts are bytes, each text behind its length, that a host function takes apart.
    fn texts(&mut self, strings: &[Bytes], shape: &[usize], ty: &Type) -> BufferId {
        let lengths = strings.iter().map(|text| (text.len() as u64).to_le_bytes());
        let data: Vec<u8> = lengths.zip(strings).flat_map(|(length, text)| [&length[..], text].concat()).collect();
        let size = vec![Dim::from(data.len())];
        let index = self.program.constants.len() as u32;
        self.program.constants.push(Constant { data: data.into() });
        let bytes = self.buffer_as(DType::U8, &size, BufferKind::Constant(index));
        let result = self.buffer(ty, BufferKind::Temporary);
        self.program.steps.push(Step::Host {
            function: "texts".to_owned(),
            ints: shape.iter().map(|&size| size as i64).collect(),
            reals: Vec::new(),
            operands: vec![Port { name: "bytes".to_owned(), buffer: bytes, shape: size }],
            results: vec![result],
        });
        result
    }

    fn buffer(&mut self, ty: &Type, kind: BufferKind) -> BufferId {
        self.buffer_as(stored_dtype(ty.dtype), &ty.shape, kind)
    }

    fn buffer_as(&mut self, dtype: DType, shape: &[Dim], kind: BufferKind) -> BufferId {
        let id = BufferId(self.program.buffers.len() as u32);
        let prefix = match kind {
            BufferKind::Input => "in",
            BufferKind::Constant(_) => "const",
            BufferKind::Temporary => "buf",
        };
        self.program.buffers.push(Buffer {
            name: format!("{prefix}{}", id.0),
            dtype,
            shape: shape.to_vec(),
            layout: Layout::RowMajor,
            kind,
        });
        id
    }

    /// New buffers for all results of a node.
    fn results(&mut self, id: NodeId) -> Vec<BufferId> {
        let types = self.graph[id].types.clone();
        let store = |(output, ty): (usize, &Type)| {
            let buffer = self.buffer(ty, BufferKind::Temporary);
            let value = Value { node: id, output: output as u32 };
            self.stored.insert(value, Stored { buffer, shape: ty.shape.clone() });
            buffer
        };
        types.iter().enumerate().map(store).collect()
    }

    fn ports(&mut self, id: NodeId, values: &[Value]) -> Result<Vec<Port>, LowerError> {
        let ports = values.iter().enumerate().map(|(i, &value)| {
            self.port(value, &format!("operand{i}"))
                .ok_or_else(|| error(self.graph, id, "an operand is not stored".into()))
        });
        ports.collect()
    }

    fn node(&mut self, id: NodeId) -> Result<(), LowerError> {
        let Node { op, types, .. } = &self.graph[id];
        let operands = self.graph.operands(id);
        match op {
            Op::Input { index, .. } => {
                let (ty, shape) = (types[0].clone(), types[0].shape.clone());
                let (outer, buffer) = if self.inner {
                    let buffer = self.buffer(&ty, BufferKind::Input);
                    (buffer, buffer)
                } else {
                    self.unpacked(&ty, BufferKind::Input)
                };
                let name = self.graph.inputs().get(*index).map(|(name, _)| name.clone()).unwrap_or_default();
                let port = Port { name, buffer: outer, shape: shape.clone() };
                if outer != buffer {
                    self.convert(port.clone(), stored_dtype(ty.dtype), buffer);
                }
                self.inputs.insert(*index, port);
                self.stored.insert(id.into(), Stored { buffer, shape });
                Ok(())
            }
            Op::Constant { .. } => Ok(()),
            // The same memory under another shape.
            Op::Reshape { shape } => match self.read(operands[0]) {
                Some(Stored { buffer, .. }) => {
                    self.stored.insert(id.into(), Stored { buffer, shape: shape.clone() });
                    Ok(())
                }
                None => Err(error(self.graph, id, "the operand is not stored".into())),
            },
            Op::Kernel { body } => self.kernel(id, &body.clone()),
            op if matches!(op.kind(), Kind::Control | Kind::Host) => self.control(id),
            _ => self.kernel(id, &single_op_body(self.graph, id)),
        }
    }

    /// A host function takes and gives elements as they are outside.
    fn host(&mut self, id: NodeId, function: &str, ints: &[i64], reals: &[Real]) -> Result<(), LowerError> {
        let values = self.graph.operands(id);
        let operands = values.iter().enumerate().map(|(i, &value)| self.outer_port(value, &format!("operand{i}")));
        let operands = operands.collect::<Option<Vec<Port>>>();
        let operands = operands.ok_or_else(|| error(self.graph, id, "an operand is not stored".into()))?;
        let (mut results, mut rest) = (Vec::new(), Vec::new());
        for (output, ty) in self.graph[id].types.clone().into_iter().enumerate() {
            let (outer, buffer) = self.unpacked(&ty, BufferKind::Temporary);
            results.push(outer);
            if outer != buffer {
                let port = Port { name: format!("result{output}"), buffer: outer, shape: ty.shape.clone() };
                rest.push((port, stored_dtype(ty.dtype), buffer));
            }
            self.stored.insert(Value { node: id, output: output as u32 }, Stored { buffer, shape: ty.shape });
        }
        let (function, ints) = (function.to_owned(), ints.to_vec());
        let reals = reals.iter().map(|real| real.0).collect();
        self.program.steps.push(Step::Host { function, ints, reals, operands, results });
        rest.into_iter().for_each(|(port, dtype, buffer)| self.convert(port, dtype, buffer));
        Ok(())
    }

    fn control(&mut self, id: NodeId) -> Result<(), LowerError> {
        let graph = self.graph;
        let node = &graph[id];
        if let Op::Host { function, ints, reals, .. } = &node.op {
            return self.host(id, function, ints, reals);
        }
        let operands = self.ports(id, &graph.operands(id))?;
        let step = match &node.op {
            Op::If { then_branch, else_branch, .. } => {
                let (then_branch, else_branch) = (self.nested(then_branch), self.nested(else_branch));
                let condition = operands[0].buffer;
                let results = self.results(id);
                let (then_branch, else_branch) = (Box::new(then_branch), Box::new(else_branch));
                Step::If { condition, then_branch, else_branch, operands: operands[1..].to_vec(), results }
            }
            Op::Loop { body, carried, .. } => Step::Loop(Box::new(LoopStep {
                body: self.nested(body),
                trip_count: operands[0].clone(),
                condition: operands[1].clone(),
                carried: operands[2..2 + carried].to_vec(),
                captured: operands[2 + carried..].to_vec(),
                results: self.results(id),
            })),
            Op::ScanLoop { body, states, input_axes, input_reverse, output_axes, output_reverse, .. } => {
                let scanned = operands[*states..].iter().cloned().zip(input_axes.iter().zip(input_reverse));
                Step::Scan(Box::new(ScanStep {
                    body: self.nested(body),
                    states: operands[..*states].to_vec(),
                    inputs: scanned.map(|(port, (&axis, &reverse))| (port, axis, reverse)).collect(),
                    captured: operands[states + input_axes.len()..].to_vec(),
                    outputs: output_axes.iter().copied().zip(output_reverse.iter().copied()).collect(),
                    results: self.results(id),
                }))
            }
            other => return Err(error(graph, id, format!("`{}` has no step", other.name()))),
        };
        self.program.steps.push(step);
        Ok(())
    }

    fn nested(&mut self, graph: &Graph) -> Program {
        lower_with(graph, self.machine, self.targets, self.shared, true).unwrap_or_else(|errors| {
            self.errors.extend(errors);
            Program::default()
        })
    }

    /// One kernel; a joining that no tile can hold is one kernel per part.
    fn kernel(&mut self, id: NodeId, body: &Graph) -> Result<(), LowerError> {
        let operands = self.graph.operands(id);
        let body = expand_composites(body).map_err(|e| error(self.graph, id, e.to_string()))?;
        let computes = |name: &str, dtype| self.machine.supports(Class::Pointwise, name, dtype);
        let body = decompose(&body, &computes).map_err(|e| error(self.graph, id, e.to_string()))?;
        if let Some(parts) = concat::parts(&body) {
            let results = self.results(id);
            for part in parts {
                let tensor = |source: &Source| self.tensor(&part.body, &operands, source);
                let built = self.fitted(self.targets, (id, &tensor), |target| {
                    concat::lower_part(&part, target, &self.graph[id].origin).map_err(|e| error(self.graph, id, e))
                })?;
                self.launch(id, &part.body, &operands, &results, built)?;
            }
            return Ok(());
        }
        let (kind, _) = classify(&body).map_err(|e| error(self.graph, id, e))?;
        let name = format!("{kind}{}", id.index());
        let asked = self.shared.asked.of(&name, kind);
        let built = match asked.map_err(|reason| self.refused(id, &name, reason))? {
            Some((sides, by_name)) => self.with_tile((id, &name), &body, &operands, (&sides, by_name))?,
            None => {
                let tensor = |source: &Source| self.tensor(&body, &operands, source);
                self.fitted(self.targets, (id, &tensor), |target| self.build(id, &body, &operands, target))?
            }
        };
        let results = self.results(id);
        self.launch(id, &body, &operands, &results, built)
    }

    /// A kernel that runs on the machine, with tiles as large as fit, and what its parameters are bound to.
    fn fitted<'t>(
        &self,
        targets: &'t [Target],
        (id, tensor): (NodeId, &dyn Fn(&Source) -> String),
        generate: impl Fn(&'t Target) -> Result<KernelBuilder<'t>, LowerError>,
    ) -> Result<(Kernel, Vec<Source>), LowerError> {
        let mut unfit = None;
        // The largest tiles that fit, until smaller ones leave room for more double buffering.
        let mut best: Option<(usize, (Kernel, Vec<Source>))> = None;
        let mut tried = 0;
        for target in targets {
            let (mut kernel, sources) = match (generate(target), unfit.take()) {
                (Ok(builder), _) => {
                    let hints = builder.hints();
                    let (kernel, sources) = builder.finish();
                    ((kernel, hints), sources)
                }
                // Smaller tiles do not help; what was wrong with the larger ones is the reason.
                (Err(_), _) if best.is_some() => break,
                (Err(_), Some(reason)) | (Err(reason), None) => return Err(reason),
            };
            match fit(&mut kernel.0, self.machine, &kernel.1) {
                Ok(single) => {
                    tried += 1;
                    if best.as_ref().is_none_or(|(least, _)| single < *least) {
                        best = Some((single, (kernel.0, sources)));
                    }
                    if single == 0 || tried > SMALLER {
                        break;
                    }
                }
                Err(_) if best.is_some() => break,
                Err(Unfit::TooLarge(overflow)) => {
                    let bound = |param: ParamId| tensor(&sources[param.0 as usize]);
                    unfit = Some(error(self.graph, id, overflow.describe(&kernel.0, &bound)));
                }
                Err(Unfit::Impossible(reason)) => return Err(error(self.graph, id, reason)),
            }
        }
        match best {
            Some((_, kernel)) => Ok(kernel),
            None => Err(unfit.unwrap_or_else(|| error(self.graph, id, "there are no tiles to try".into()))),
        }
    }

    fn build<'t>(
        &self,
        id: NodeId,
        body: &Graph,
        operands: &[Value],
        target: &'t Target,
    ) -> Result<KernelBuilder<'t>, LowerError> {
        let (kind, anchors) = classify(body).map_err(|e| error(self.graph, id, e))?;
        let name = format!("{kind}{}", id.index());
        let mut builder = KernelBuilder::new(&name, &self.graph[id].origin, target);
        let leaves = leaf_params(&mut builder, body);
        let targets: Vec<Result_> = body
            .outputs()
            .iter()
            .enumerate()
            .map(|(i, output)| {
                let ty = body.ty(output.value);
                let param = builder.param(
                    Source::Result(i),
                    stored_dtype(ty.dtype),
                    vec![ty.count()],
                    Layout::RowMajor,
                    Access::Write,
                );
                Result_ { value: output.value, param }
            })
            .collect();
        let input = |value: Value| match &body[value.node].op {
            Op::Constant { .. } => true,
            Op::Input { index, .. } => {
                operands.get(*index).is_some_and(|&operand| self.graph.constant(operand).is_some())
            }
            _ => false,
        };
        let result = match (kind, anchors.as_slice(), targets.as_slice()) {
            (KernelKind::Map, ..) => map::lower_map(&mut builder, body, &leaves, &targets),
            (KernelKind::Rows, ..) => rows::lower_rows(&mut builder, body, &leaves, &targets),
            (KernelKind::Contract | KernelKind::Conv, &[anchor], [target]) => {
                matrix::lower_matrix(&mut builder, body, anchor, &leaves, target, &input)
            }
            (KernelKind::Attention, &[anchor], [target]) => {
                attention::lower_attention(&mut builder, body, anchor, &leaves, target)
            }
            (KernelKind::Routed, &[anchor], [target]) => {
                routed::lower_routed(&mut builder, body, anchor, &leaves, target, &input)
            }
            (KernelKind::Window, &[anchor], [target]) => {
                window::lower_window(&mut builder, body, anchor, &leaves, target)
            }
            (KernelKind::Index, &[anchor], [target]) => index::lower_index(&mut builder, body, anchor, &leaves, target),
            (KernelKind::Order, &[anchor], targets) => order::lower_order(&mut builder, body, anchor, &leaves, targets),
            _ => Err(format!("there is no lowering for {} anchors in a {kind} kernel", anchors.len())),
        };
        result.map_err(|reason| error(self.graph, id, reason))?;
        Ok(builder)
    }

    /// Binds the parameters of a finished kernel.
    fn launch(
        &mut self,
        id: NodeId,
        body: &Graph,
        operands: &[Value],
        results: &[BufferId],
        (mut kernel, sources): (Kernel, Vec<Source>),
    ) -> Result<(), LowerError> {
        if self.program.kernels.iter().any(|other| other.name == kernel.name) {
            kernel.name = format!("{}_{}", kernel.name, self.program.kernels.len());
        }
        let mut args = Vec::with_capacity(sources.len());
        for (i, source) in sources.iter().enumerate() {
            let missing = || error(self.graph, id, "a parameter has no buffer".into());
            args.push(match source {
                Source::Result(i) => results.get(*i).copied().ok_or_else(missing)?,
                Source::Leaf(value) => self.leaf_buffer(body, operands, *value).ok_or_else(missing)?,
                Source::Zeros => {
                    let param = kernel.params[i].clone();
                    let count = param.shape.iter().map(Dim::as_usize).product::<Option<usize>>().ok_or_else(missing)?;
                    let bytes = vec![0u8; (count * param.dtype.bits()).div_ceil(8)];
                    let index = self.program.constants.len() as u32;
                    self.program.constants.push(Constant { data: bytes.into() });
                    self.buffer(&Type::new(param.dtype, param.shape), BufferKind::Constant(index))
                }
                Source::Packed(packing) => {
                    let tensor = self.leaf_tensor(body, operands, packing.leaf).ok_or_else(missing)?;
                    let place = tensor.content().place();
                    let key = format!("{place:?} {packing:?} {:?}", kernel.params[i].layout);
                    match self.packed.get(&key) {
                        Some(&buffer) => buffer,
                        None => {
                            let param = &kernel.params[i];
                            let data =
                                self.shared.pool.pack(&tensor, packing, param).map_err(|e| error(self.graph, id, e))?;
                            let index = self.program.constants.len() as u32;
                            self.program.constants.push(Constant { data });
                            let buffer =
                                self.buffer(&Type::new(param.dtype, param.shape.clone()), BufferKind::Constant(index));
                            self.program.buffers[buffer.0 as usize].layout = param.layout;
                            self.packed.insert(key, buffer);
                            buffer
                        }
                    }
                }
            });
        }
        // Memory that two parameters share must keep what the other still reads.
        let once = |param: &ParamId| {
            let buffer = args.get(param.0 as usize);
            args.iter().filter(|arg| Some(*arg) == buffer).count() == 1
        };
        let in_place: Vec<(ParamId, ParamId)> = tarsia_tile::verify::in_place_pairs(&kernel)
            .into_iter()
            .filter(|(read, written)| once(read) && once(written))
            .collect();
        let kernel_id = KernelId(self.program.kernels.len() as u32);
        self.program.kernels.push(kernel);
        self.program.steps.push(Step::Launch { kernel: kernel_id, args, in_place });
        Ok(())
    }

    fn leaf_tensor(&self, body: &Graph, operands: &[Value], leaf: Value) -> Option<Tensor> {
        match &body[leaf.node].op {
            Op::Constant { value } => Some(value.clone()),
            Op::Input { index, .. } => self.graph.constant(*operands.get(*index)?).cloned(),
            _ => None,
        }
    }

    fn leaf_buffer(&mut self, body: &Graph, operands: &[Value], leaf: Value) -> Option<BufferId> {
        match &body[leaf.node].op {
            Op::Constant { value } => Some(self.constant(value, body.ty(leaf))),
            Op::Input { index, .. } => Some(self.read(*operands.get(*index)?)?.buffer),
            _ => None,
        }
    }
}

/// A parameter for every leaf of a body, each seen as one axis.
pub(crate) fn leaf_params(builder: &mut KernelBuilder, body: &Graph) -> FxHashMap<Value, Leaf> {
    let leaf = |id: NodeId| {
        let value = Value::from(id);
        let ty = body.ty(value);
        let param = builder.param(
            Source::Leaf(value),
            stored_dtype(ty.dtype),
            vec![ty.count()],
            Layout::RowMajor,
            Access::Read,
        );
        (value, Leaf::Param(param))
    };
    leaf_nodes(body).into_iter().map(leaf).collect()
}

fn error(graph: &Graph, id: NodeId, reason: String) -> LowerError {
    let Node { op, origin, .. } = &graph[id];
    let origin: Origin = origin.clone();
    LowerError { op: op.name().to_owned(), origin, reason, asked: false }
}
