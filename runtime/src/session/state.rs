//! The state of one run: bindings, memory, values; and running the segments of a program.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tarsia_tensor::{Bindings, Shape, Tensor};
use tarsia_tile::{BufferKind, Port, Step};

use super::bind::{BoundSegment, Cache, bind_inputs, sizes_behind};
use super::compiled::{Compiled, realigned};
use super::profile::StepTime;
use super::value::{Arg, is_aligned};
use crate::cpu::Isa;
use crate::error::RunError;
use crate::exec::block::Block;
use crate::exec::worker::Workers;
use crate::pool::Pool;

/// What programs run on.
pub struct Machine<'a> {
    pub pool: &'a Pool,
    pub isa: Isa,
    pub seed: i64,
    pub memory_limit: usize,
    pub iteration_limit: u64,
    pub workers: &'a mut Workers,
    /// When the session was made, and where the times of steps go.
    pub profile: Option<(Instant, &'a Mutex<Vec<StepTime>>)>,
}

/// Where the outputs that launches compute go.
#[derive(Debug, Default)]
pub struct Destination {
    /// By output: memory of our own.
    blocks: Vec<Block>,
    /// By output: the bytes in use.
    bytes: Vec<usize>,
    /// By output: the caller's memory.
    given: Vec<Option<(*mut u8, usize)>>,
    /// Whether our own memory is kept from run to run.
    reuse: bool,
}

// SAFETY: the caller's memory is used only while the caller lends it.
unsafe impl Send for Destination {}

impl Destination {
    /// New memory for every run.
    pub fn fresh(outputs: usize) -> Destination {
        let blocks = (0..outputs).map(|_| Block::empty()).collect();
        Destination { blocks, bytes: vec![0; outputs], given: vec![None; outputs], reuse: false }
    }

    /// Memory that is kept.
    pub fn owned(outputs: usize) -> Destination {
        Destination { reuse: true, ..Destination::fresh(outputs) }
    }

    /// Lends the caller's memory for one run.
    pub fn place(&mut self, outputs: &mut [&mut [u8]]) {
        for (given, output) in self.given.iter_mut().zip(outputs) {
            *given = Some((output.as_mut_ptr(), output.len()));
        }
    }

    /// Gives the caller's memory back.
    pub fn unplace(&mut self) {
        self.given.fill(None);
    }

    /// Whether all outputs are in the caller's memory.
    pub fn is_placed(&self) -> bool {
        self.given.iter().all(Option::is_some)
    }

    /// The bytes of an output.
    pub fn bytes(&self, compiled: &Compiled, output: usize) -> &[u8] {
        let buffer = compiled.program.outputs.get(output).map(|port| port.buffer.0 as usize);
        let owner = buffer.and_then(|buffer| compiled.output_of[buffer]).unwrap_or(output);
        self.blocks.get(owner).map_or(&[], |block| &block.as_ref()[..self.bytes[owner].min(block.len())])
    }

    /// The address of an output of this many bytes.
    fn address(&mut self, compiled: &Compiled, output: usize, bytes: usize) -> Result<*mut u8, RunError> {
        let port = &compiled.program.outputs[output];
        if let Some((data, found)) = self.given[output] {
            if found != bytes {
                return Err(RunError::Bytes { name: port.name.clone(), expected: bytes, found });
            }
            if is_aligned(compiled.dtype(port.buffer), data) {
                return Ok(data);
            }
            self.given[output] = None;
        }
        if !self.reuse {
            self.blocks[output] = Block::empty();
        }
        self.bytes[output] = bytes;
        let memory = RunError::Memory { needed: bytes, limit: isize::MAX as usize };
        if self.blocks[output].reserve(bytes) { Ok(self.blocks[output].as_ptr()) } else { Err(memory) }
    }
}

/// What one run of a program needs, kept from run to run.
#[derive(Debug)]
pub struct State {
    /// The symbols known so far.
    pub bindings: Bindings,
    cache: Cache,
    /// The segment that runs.
    segment: Option<Arc<BoundSegment>>,
    /// The first segment and the shapes it is for.
    first: Option<(Vec<Shape>, Arc<BoundSegment>)>,
    /// By segment: the memory of its temporary buffers.
    arenas: Vec<Block>,
    /// By input: a copy whose elements are aligned.
    staged: Vec<Block>,
    /// By buffer: its address.
    pub(super) addresses: Vec<*mut u8>,
    /// By buffer: a result of a host function or of control flow, or an input that is a tensor.
    pub(super) held: Vec<Option<Tensor>>,
    /// The addresses of a launch.
    pub(super) args: Vec<*mut u8>,
    /// By step: the states of the programs inside of it.
    pub(super) nested: std::collections::BTreeMap<usize, Vec<State>>,
}

// SAFETY: the addresses are of memory that the state owns or that is set before each run.
unsafe impl Send for State {}

impl State {
    /// Nothing is bound yet.
    pub fn new(compiled: &Compiled) -> State {
        let buffers = compiled.program.buffers.len();
        let blocks = |count: usize| (0..count).map(|_| Block::empty()).collect();
        State {
            bindings: Bindings::new(),
            cache: Cache::new(compiled),
            segment: None,
            first: None,
            arenas: blocks(compiled.segments.len()),
            staged: blocks(compiled.program.inputs.len()),
            addresses: vec![std::ptr::null_mut(); buffers],
            held: vec![None; buffers],
            args: Vec::new(),
            nested: compiled.nested.iter().map(|(&at, inner)| (at, inner.iter().map(State::new).collect())).collect(),
        }
    }

    /// The segment that runs.
    ///
    /// # Errors
    /// If nothing is bound.
    pub fn bound(&self) -> Result<&Arc<BoundSegment>, RunError> {
        let missing = || RunError::Malformed { place: "the program".to_owned(), reason: "it is not bound".to_owned() };
        self.segment.as_ref().ok_or_else(missing)
    }

    /// Learns the symbols from the inputs and binds the first segment, unless the shapes are those of the last run.
    ///
    /// # Errors
    /// If the inputs do not fit or memory does not suffice.
    pub fn bind_inputs(
        &mut self,
        compiled: &Compiled,
        args: &[Arg],
        outer: Option<&Bindings>,
        machine: &mut Machine,
    ) -> Result<(), RunError> {
        let same = |(shapes, _): &&(Vec<Shape>, Arc<BoundSegment>)| {
            let ports = &compiled.program.inputs;
            shapes.len() == args.len()
                && shapes.iter().zip(args).all(|(shape, arg)| *shape == arg.shape)
                && args.iter().zip(ports).all(|(arg, port)| arg.dtype == compiled.dtype(port.buffer))
        };
        if let (None, Some((_, segment))) = (outer, self.first.as_ref().filter(same)) {
            if compiled.segments.len() > 1 {
                self.bindings = segment.bindings.clone();
            }
            self.segment = Some(segment.clone());
            return Ok(());
        }
        self.first = None;
        self.bindings = bind_inputs(compiled, args, outer)?;
        let segment = self.cache.segment(compiled, 0, &self.bindings, None, machine.memory_limit)?;
        if outer.is_none() {
            self.first = Some((args.iter().map(|arg| arg.shape.clone()).collect(), segment.clone()));
        }
        self.segment = Some(segment);
        Ok(())
    }

    /// Runs the program, whose inputs are bound.
    ///
    /// # Errors
    /// If memory does not suffice, or a kernel or host function fails.
    pub fn execute(
        &mut self,
        compiled: &Compiled,
        args: &[Arg],
        destination: &mut Destination,
        machine: &mut Machine,
    ) -> Result<(), RunError> {
        self.held.fill(None);
        self.addresses.fill(std::ptr::null_mut());
        self.place_inputs(compiled, args)?;
        for at in 0..compiled.segments.len() {
            if at > 0 {
                let earlier = self.bound()?.clone();
                let limit = machine.memory_limit;
                self.segment = Some(self.cache.segment(compiled, at, &self.bindings, Some(&earlier), limit)?);
            }
            let segment = self.bound()?.clone();
            self.place_buffers(compiled, at, &segment, destination, machine.memory_limit)?;
            for (i, step) in compiled.segments[at].clone().enumerate() {
                self.step(compiled, step, &segment, segment.launches[i].as_deref(), machine)?;
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        compiled: &Compiled,
        at: usize,
        segment: &BoundSegment,
        launch: Option<&super::bind::BoundKernel>,
        machine: &mut Machine,
    ) -> Result<(), RunError> {
        let started = machine.profile.map(|_| Instant::now());
        match (&compiled.program.steps[at], launch) {
            (Step::Launch { kernel, args, .. }, Some(bound)) => {
                self.args.clear();
                self.args.extend(args.iter().map(|arg| self.addresses[arg.0 as usize]));
                let lost = |(arg, data): (&tarsia_tile::BufferId, &*mut u8)| {
                    data.is_null() && segment.bytes[arg.0 as usize] > 0
                };
                if args.iter().zip(&self.args).any(lost) {
                    let reason = "a buffer is used before it is written".to_owned();
                    return Err(RunError::Malformed { place: format!("step {at}"), reason });
                }
                super::launch::launch(&compiled.codes[kernel.0 as usize], bound, &self.args, machine)
                    .map_err(|error| sizes_behind(error, compiled, kernel.0, &segment.bindings))?;
            }
            (step, _) => {
                let results = super::control::run(self, compiled, at, step, machine)?;
                self.define(compiled, at, step, results)?;
            }
        }
        for &buffer in &compiled.releases[at] {
            self.held[buffer] = None;
        }
        if let (Some((made, profile)), Some(started)) = (machine.profile, started) {
            super::lock(profile).push(describe(compiled, at, launch, started.duration_since(made), started.elapsed()));
        }
        Ok(())
    }

    /// Takes results of a host function or control flow and learns the symbols of their shapes.
    fn define(&mut self, compiled: &Compiled, at: usize, step: &Step, results: Vec<Tensor>) -> Result<(), RunError> {
        let buffers: Vec<usize> = step.results().map(|buffer| buffer.0 as usize).collect();
        let control = |reason: String| RunError::Control { step: at, reason };
        if results.len() != buffers.len() {
            return Err(control(format!("{} results for {} buffers", results.len(), buffers.len())));
        }
        for (&buffer, tensor) in buffers.iter().zip(&results) {
            let declared = &compiled.program.buffers[buffer];
            if declared.dtype != tensor.dtype() || declared.shape.len() != tensor.shape().len() {
                let found = format!("{} {:?}", tensor.dtype(), tensor.shape());
                let shape: Vec<String> = declared.shape.iter().map(ToString::to_string).collect();
                let expected = format!("{} [{}]", declared.dtype, shape.join(", "));
                return Err(control(format!("`{}` is {found}, but should be {expected}", declared.name)));
            }
        }
        let declared = |&buffer: &usize| &compiled.program.buffers[buffer].shape;
        let dims = buffers.iter().flat_map(declared);
        let sizes = results.iter().flat_map(|tensor| tensor.shape().iter().map(|&size| size as i64));
        let place = || format!("the results of step {at}");
        self.bindings.learn(dims.zip(sizes)).map_err(|error| RunError::Size { place: place(), error })?;
        for (buffer, tensor) in buffers.into_iter().zip(results) {
            let expected = self.bindings.shape(&compiled.program.buffers[buffer].shape);
            let expected = expected.map_err(|error| RunError::Size { place: place(), error })?;
            if expected[..] != *tensor.shape() {
                let name = &compiled.program.buffers[buffer].name;
                return Err(control(format!("`{name}` is {:?}, but should be {expected:?}", tensor.shape())));
            }
            self.hold(buffer, tensor)?;
        }
        Ok(())
    }

    fn hold(&mut self, buffer: usize, tensor: Tensor) -> Result<(), RunError> {
        let aligned = !tensor.dtype().is_numeric() || is_aligned(tensor.dtype(), tensor.bytes().as_ptr());
        let tensor = match aligned {
            true => tensor,
            false => Tensor::new(tensor.dtype(), tensor.shape(), realigned(tensor.bytes())?)?,
        };
        self.addresses[buffer] = tensor.bytes().as_ptr().cast_mut();
        self.held[buffer] = Some(tensor);
        Ok(())
    }

    fn place_inputs(&mut self, compiled: &Compiled, args: &[Arg]) -> Result<(), RunError> {
        for (i, (arg, port)) in args.iter().zip(&compiled.program.inputs).enumerate() {
            let buffer = port.buffer.0 as usize;
            if arg.dtype.bits() == 0 {
                self.held[buffer] = arg.tensor.clone();
            } else if arg.is_aligned() {
                self.addresses[buffer] = arg.data.cast_mut();
            } else {
                let bytes = arg.expected_bytes().unwrap_or(0);
                if !self.staged[i].reserve(bytes) {
                    return Err(RunError::Memory { needed: bytes, limit: isize::MAX as usize });
                }
                // SAFETY: the argument has as many bytes as its shape takes, and so has the block.
                unsafe { std::ptr::copy_nonoverlapping(arg.data, self.staged[i].as_ptr(), bytes) };
                self.addresses[buffer] = self.staged[i].as_ptr();
            }
        }
        Ok(())
    }

    /// The addresses of everything whose size this segment is the first to know.
    fn place_buffers(
        &mut self,
        compiled: &Compiled,
        at: usize,
        segment: &BoundSegment,
        destination: &mut Destination,
        limit: usize,
    ) -> Result<(), RunError> {
        let outputs = compiled.output_of.iter().zip(&segment.bytes).filter(|(output, _)| output.is_some());
        let needed = outputs.map(|(_, &bytes)| bytes).fold(segment.arena.bytes(), usize::saturating_add);
        let memory = RunError::Memory { needed, limit };
        if needed > limit {
            return Err(memory);
        }
        if !self.arenas[at].reserve(segment.arena.segments.get(at).copied().unwrap_or(0)) {
            return Err(memory);
        }
        let earlier = |known: usize| at > 0 && known < at;
        for (i, buffer) in compiled.program.buffers.iter().enumerate() {
            if let (0, BufferKind::Constant(constant)) = (at, buffer.kind) {
                let tensor = compiled.constants[constant as usize].as_ref();
                self.addresses[i] = tensor.map_or(std::ptr::null_mut(), |tensor| tensor.bytes().as_ptr().cast_mut());
            }
            if let Some(output) = compiled.output_of[i] {
                // An output is placed by the first segment that knows its shape.
                let known = segment.shapes[i].is_some();
                let first = at == 0 || self.addresses[i].is_null();
                if known && first {
                    self.addresses[i] = destination.address(compiled, output, segment.bytes[i])?;
                } else if !known {
                    self.addresses[i] = std::ptr::null_mut();
                }
            } else if let Some(place) = segment.arena.places[i]
                && !earlier(place.segment)
            {
                self.addresses[i] = self.arenas[place.segment].as_ptr().wrapping_add(place.offset);
            }
        }
        Ok(())
    }

    /// The value of a buffer under a port's shape, without copying where it is shared already.
    ///
    /// # Errors
    /// If the shape is not known.
    pub fn arg(&self, compiled: &Compiled, port: &Port) -> Result<Arg, RunError> {
        let buffer = port.buffer.0 as usize;
        let place = || format!("`{}`", port.name);
        let shape = self.bindings.shape(&port.shape).map_err(|error| RunError::Size { place: place(), error })?;
        let dtype = compiled.dtype(port.buffer);
        let data = self.addresses[buffer];
        let arg = Arg { dtype, shape, data, tensor: self.held[buffer].clone() };
        let capacity = match &arg.tensor {
            Some(tensor) => tensor.bytes().len(),
            None => self.bound()?.bytes[buffer],
        };
        if dtype.bits() > 0 && arg.expected_bytes().is_none_or(|bytes| bytes > capacity) {
            let reason = format!("a shape {:?} of a buffer of {capacity} bytes", arg.shape);
            return Err(RunError::Malformed { place: place(), reason });
        }
        Ok(arg)
    }

    /// The outputs of a finished run, those that launches computed without copying.
    ///
    /// # Errors
    /// If a shape is not known.
    pub fn take_outputs(
        &mut self,
        compiled: &Compiled,
        inputs: &[Arg],
        destination: &mut Destination,
    ) -> Result<Vec<Tensor>, RunError> {
        for (buffer, output) in compiled.output_of.iter().enumerate() {
            if let Some(output) = *output {
                let block = std::mem::replace(&mut destination.blocks[output], Block::empty());
                let bytes = super::owned(block, destination.bytes[output]);
                let port = &compiled.program.outputs[output];
                self.held[buffer] = Some(Tensor::new(compiled.dtype(port.buffer), &self.shape_of(port)?, bytes)?);
            }
        }
        let outputs = compiled.program.outputs.iter().map(|port| self.output(compiled, inputs, port)).collect();
        self.held.fill(None);
        outputs
    }

    /// The outputs of a finished run, copied.
    ///
    /// # Errors
    /// If a shape is not known.
    pub fn copy_outputs(&self, compiled: &Compiled, inputs: &[Arg]) -> Result<Vec<Tensor>, RunError> {
        compiled.program.outputs.iter().map(|port| self.output(compiled, inputs, port)).collect()
    }

    fn shape_of(&self, port: &Port) -> Result<Shape, RunError> {
        let place = || format!("the output `{}`", port.name);
        self.bindings.shape(&port.shape).map_err(|error| RunError::Size { place: place(), error })
    }

    fn output(&self, compiled: &Compiled, inputs: &[Arg], port: &Port) -> Result<Tensor, RunError> {
        let buffer = port.buffer.0 as usize;
        if let Some(tensor) = &self.held[buffer] {
            return Ok(tensor.reshaped(&self.shape_of(port)?)?);
        }
        let passed = compiled.program.inputs.iter().zip(inputs).find(|(input, _)| input.buffer == port.buffer);
        if let Some((_, Arg { tensor: Some(tensor), .. })) = passed {
            return Ok(tensor.reshaped(&self.shape_of(port)?)?);
        }
        self.arg(compiled, port)?.to_tensor()
    }
}

fn describe(
    compiled: &Compiled,
    at: usize,
    launch: Option<&super::bind::BoundKernel>,
    start: Duration,
    elapsed: Duration,
) -> StepTime {
    let nanoseconds = |time: Duration| time.as_nanos().min(u128::from(u64::MAX)) as u64;
    let (name, origin) = match &compiled.program.steps[at] {
        Step::Launch { kernel, .. } => {
            let code = &compiled.codes[kernel.0 as usize];
            (code.name.clone(), code.origin.clone())
        }
        Step::Host { function, .. } => (function.clone(), Vec::new()),
        Step::If { .. } => ("if".to_owned(), Vec::new()),
        Step::Loop(_) => ("loop".to_owned(), Vec::new()),
        Step::Scan(_) => ("scan".to_owned(), Vec::new()),
    };
    let (program, items) = (compiled.program.name.clone(), launch.map_or(0, |bound| bound.items));
    let (start_nanoseconds, nanoseconds) = (nanoseconds(start), nanoseconds(elapsed));
    StepTime { program, step: at, name, origin, start_nanoseconds, nanoseconds, items }
}
