//! Sessions: a verified program made ready to run, again and again, on inputs of any shapes it takes.
//!
//! ```text
//! Program ──Session::new──► decoded kernels, memory plan
//!                 │ shapes of inputs
//!                 ▼
//!           bound segments: register values, grids, places of buffers     (kept for the next run with these shapes)
//!                 │ data
//!                 ▼
//!           launches over the pool, host functions, control flow ──► outputs
//! ```
//! Once a program without host functions and control flow has run on some shapes, [`Bound::run`] and [`Bound::run_into`] on the same
//! shapes allocate nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tarsia_tensor::{DType, Shape, Tensor};
use tarsia_tile::Program;

use crate::cpu::Isa;
use crate::error::RunError;
use crate::exec::worker::Workers;
use crate::pool::Pool;

mod bind;
mod compiled;
mod control;
mod launch;
mod profile;
mod state;
mod value;

use compiled::Compiled;
pub use profile::StepTime;
use state::{Destination, Machine, State};
use value::Arg;

/// How a program is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that work on a kernel, the caller included; 0 takes one per core.
    pub threads: usize,
    /// Instructions to use; the best this machine has if not said.
    pub isa: Option<Isa>,
    /// Bytes that a run may take besides inputs and constants.
    pub memory_limit: usize,
    /// Iterations of one run of a loop, whose number the data may decide.
    pub iteration_limit: u64,
    /// Added to the seeds of random streams; 0 gives the streams of the reference evaluation.
    pub seed: i64,
    /// Whether to measure steps; see [`Session::take_profile`].
    pub profile: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { threads: 0, isa: None, memory_limit: usize::MAX, iteration_limit: u64::MAX, seed: 0, profile: false }
    }
}

/// A program ready to run.
pub struct Session {
    compiled: Compiled,
    pool: Pool,
    isa: Isa,
    options: Options,
    idle: Mutex<Vec<Run>>,
    profile: Mutex<Vec<StepTime>>,
    made: Instant,
}

/// Everything that one run at a time needs.
struct Run {
    state: State,
    workers: Workers,
}

impl Session {
    /// Prepares a program that the verifier accepts.
    ///
    /// # Errors
    /// If the program cannot be decoded or the machine lacks the instructions asked for.
    pub fn new(program: Program, options: &Options) -> Result<Session, RunError> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        if !isa.is_available() {
            return Err(crate::cpu::IsaError::Missing(isa).into());
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores() } else { options.threads };
        Ok(Session {
            compiled: Compiled::new(program)?,
            pool: Pool::new(threads),
            isa,
            options: options.clone(),
            idle: Mutex::default(),
            profile: Mutex::default(),
            made: Instant::now(),
        })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.compiled.program
    }

    /// Threads that work on a kernel.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs the program on inputs in the order of its ports.
    ///
    /// # Errors
    /// If inputs do not fit, memory does not suffice, or a kernel or host function fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let mut args: Vec<Arg> = inputs.iter().map(Arg::from_tensor).collect();
        self.fit(&mut args);
        let mut run = self.take()?;
        let mut destination = Destination::fresh(self.compiled.program.outputs.len());
        self.execute(&mut run, &args, &mut destination)?;
        let outputs = run.state.take_outputs(&self.compiled, &args, &mut destination)?;
        self.give(run);
        Ok(outputs)
    }

    /// A handle for repeated runs on inputs of these shapes.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn bind(&self, shapes: &[&[usize]]) -> Result<Bound<'_>, RunError> {
        let mut run = self.take()?;
        let ports = &self.compiled.program.inputs;
        let mut args: Vec<Arg> =
            shapes.iter().zip(ports).map(|(shape, port)| Arg::shape(self.dtype(port), shape)).collect();
        self.fit(&mut args);
        if args.len() != shapes.len() {
            return Err(bind::count_error(&self.compiled, shapes.len()));
        }
        let mut machine = self.machine(&mut run.workers);
        run.state.bind_inputs(&self.compiled, &args, None, &mut machine)?;
        let destination = Destination::owned(self.compiled.program.outputs.len());
        Ok(Bound { session: self, args, run: Some(run), destination, outputs: Vec::new() })
    }

    /// The times of the steps since the last call, if [`Options::profile`] is set: one entry per launch or other step, in order.
    pub fn take_profile(&self) -> Vec<StepTime> {
        std::mem::take(&mut lock(&self.profile))
    }

    /// A scalar and a vector of one element stand for each other: callers' tools do not keep them apart.
    fn fit(&self, args: &mut [Arg]) {
        for (arg, port) in args.iter_mut().zip(&self.compiled.program.inputs) {
            match (arg.shape.as_slice(), port.shape.len()) {
                ([1], 0) => arg.shape.clear(),
                ([], 1) => arg.shape.push(1),
                _ => {}
            }
        }
    }

    fn dtype(&self, port: &tarsia_tile::Port) -> DType {
        self.compiled.program.buffers.get(port.buffer.0 as usize).map_or(DType::F32, |buffer| buffer.dtype)
    }

    fn machine<'a>(&'a self, workers: &'a mut Workers) -> Machine<'a> {
        Machine {
            pool: &self.pool,
            isa: self.isa,
            seed: self.options.seed,
            memory_limit: self.options.memory_limit,
            iteration_limit: self.options.iteration_limit,
            workers,
            profile: self.options.profile.then_some((self.made, &self.profile)),
        }
    }

    fn execute(&self, run: &mut Run, args: &[Arg], destination: &mut Destination) -> Result<(), RunError> {
        let Run { state, workers } = run;
        let mut machine = self.machine(workers);
        state.bind_inputs(&self.compiled, args, None, &mut machine)?;
        state.execute(&self.compiled, args, destination, &mut machine)
    }

    fn take(&self) -> Result<Run, RunError> {
        if let Some(run) = lock(&self.idle).pop() {
            return Ok(run);
        }
        let bytes = self.compiled.scratch_bytes;
        let needed = bytes.saturating_mul(self.pool.threads());
        let memory = RunError::Memory { needed, limit: self.options.memory_limit };
        if needed > self.options.memory_limit {
            return Err(memory);
        }
        let workers = Workers::new(self.pool.threads(), bytes).ok_or(memory)?;
        Ok(Run { state: State::new(&self.compiled), workers })
    }

    fn give(&self, run: Run) {
        lock(&self.idle).push(run);
    }
}

/// A program bound to shapes, with outputs in place.
pub struct Bound<'s> {
    session: &'s Session,
    args: Vec<Arg>,
    run: Option<Run>,
    destination: Destination,
    /// Outputs that are not computed in place (data-dependent shapes, inputs and constants passed through).
    outputs: Vec<Tensor>,
}

impl Bound<'_> {
    /// Shapes of the outputs, where the inputs' shapes determine them.
    pub fn output_shapes(&self) -> Vec<Option<Shape>> {
        let Some(run) = &self.run else { return Vec::new() };
        let ports = &self.session.compiled.program.outputs;
        ports.iter().map(|port| run.state.bindings.shape(&port.shape).ok()).collect()
    }

    /// Runs on the bytes of the inputs; the outputs are read with [`Bound::output`].
    ///
    /// # Errors
    /// As [`Session::run`], or if the byte counts are wrong.
    pub fn run(&mut self, inputs: &[&[u8]]) -> Result<(), RunError> {
        self.set(inputs)?;
        let session = self.session;
        let Some(run) = &mut self.run else { return Ok(()) };
        session.execute(run, &self.args, &mut self.destination)?;
        if !session.compiled.is_direct {
            self.outputs = run.state.copy_outputs(&session.compiled, &self.args)?;
        }
        Ok(())
    }

    /// The bytes of output `i` of the last run.
    pub fn output(&self, i: usize) -> &[u8] {
        match self.outputs.get(i) {
            Some(tensor) => tensor.bytes(),
            None => self.destination.bytes(&self.session.compiled, i),
        }
    }

    /// Runs on the bytes of the inputs, writing the outputs where the caller says.
    ///
    /// # Errors
    /// As [`Bound::run`].
    pub fn run_into(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), RunError> {
        let session = self.session;
        let ports = &session.compiled.program.outputs;
        if outputs.len() != ports.len() {
            let reason = format!("{} outputs were given for {}", outputs.len(), ports.len());
            return Err(RunError::Malformed { place: "the call".to_owned(), reason });
        }
        self.set(inputs)?;
        let Some(run) = &mut self.run else { return Ok(()) };
        self.destination.place(outputs);
        let result = session.execute(run, &self.args, &mut self.destination);
        let rest = result.and_then(|()| {
            if session.compiled.is_direct && self.destination.is_placed() {
                return Ok(Vec::new());
            }
            run.state.copy_outputs(&session.compiled, &self.args)
        });
        self.destination.unplace();
        for ((tensor, output), port) in rest?.iter().zip(outputs).zip(ports) {
            let (expected, found) = (tensor.bytes().len(), output.len());
            if expected != found {
                return Err(RunError::Bytes { name: port.name.clone(), expected, found });
            }
            output.copy_from_slice(tensor.bytes());
        }
        Ok(())
    }

    fn set(&mut self, inputs: &[&[u8]]) -> Result<(), RunError> {
        let compiled = &self.session.compiled;
        if inputs.len() != self.args.len() {
            return Err(bind::count_error(compiled, inputs.len()));
        }
        for ((arg, bytes), port) in self.args.iter_mut().zip(inputs).zip(&compiled.program.inputs) {
            let expected = arg.expected_bytes();
            if expected != Some(bytes.len()) {
                let expected = expected.unwrap_or(usize::MAX);
                return Err(RunError::Bytes { name: port.name.clone(), expected, found: bytes.len() });
            }
            arg.data = bytes.as_ptr();
        }
        Ok(())
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.session.give(run);
        }
    }
}

/// Bytes that nobody else has.
fn owned(block: crate::exec::block::Block, bytes: usize) -> Bytes {
    if bytes == 0 { Bytes::new() } else { Bytes::from_owner(block).slice(0..bytes) }
}

/// The guard of a mutex whose data stays valid when a holder panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
