//! A program: its steps one after the other, each launch behind its start; the cache lives on from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{Bindings, Dim, Symbol};
use tarsia_tile::{Buffer, BufferId, BufferKind, Kernel, Machine, Port, Program, Step, machine::GLOBAL};

use crate::{
    Options, SimError,
    cache::{Cache, Memory},
    expr::Names,
    launch::{self, Launch},
    report::{Report, StepReport},
};

/// The time of a program.
///
/// # Errors
/// As [`crate::simulate`].
pub(crate) fn simulate(
    program: &Program,
    machine: &Machine,
    bindings: &BTreeMap<Symbol, i64>,
    options: &Options,
) -> Result<Report, SimError> {
    let mut kernels = Vec::new();
    all_kernels(program, &mut kernels);
    let mut run = Run {
        machine,
        options,
        cache: launch::new_cache(machine, &kernels),
        buffers: 0,
        report: Report { program: program.name.clone(), target: machine.name.clone(), ..Report::default() },
        places: BTreeMap::new(),
        notes: BTreeSet::new(),
    };
    run.program(program, bindings.clone(), "")?;
    Ok(run.finish())
}

fn all_kernels<'p>(program: &'p Program, kernels: &mut Vec<&'p Kernel>) {
    kernels.extend(&program.kernels);
    for step in &program.steps {
        match step {
            Step::Launch { .. } | Step::Host { .. } => {}
            Step::If { then_branch, else_branch, .. } => {
                all_kernels(then_branch, kernels);
                all_kernels(else_branch, kernels);
            }
            Step::Loop(step) => all_kernels(&step.body, kernels),
            Step::Scan(step) => all_kernels(&step.body, kernels),
        }
    }
}

struct Run<'a> {
    machine: &'a Machine,
    options: &'a Options,
    cache: Option<Cache>,
    /// Numbers of buffers that nested programs have used up.
    buffers: u32,
    report: Report,
    /// Where a kernel's report is.
    places: BTreeMap<String, usize>,
    notes: BTreeSet<String>,
}

impl Run<'_> {
    fn program(&mut self, program: &Program, bindings: BTreeMap<Symbol, i64>, within: &str) -> Result<(), SimError> {
        let first = self.buffers;
        self.buffers += program.buffers.len() as u32;
        for step in &program.steps {
            match step {
                Step::Launch { kernel, args, .. } => {
                    let kernel = program.kernels.get(kernel.0 as usize);
                    let kernel = kernel.ok_or_else(|| SimError::Shapes("a step launches no kernel".into()))?;
                    let memories = memories(program, args, first, &bindings)?;
                    self.launch(kernel, &memories, &bindings, within)?;
                }
                Step::Host { function, .. } => {
                    let note = format!("`{function}` runs on the host, for which no time is counted");
                    self.untimed(function, note);
                }
                Step::If { then_branch, else_branch, operands, .. } => {
                    self.longer(then_branch, else_branch, operands, &bindings, within)?;
                }
                Step::Loop(step) => {
                    let times = trip_count(program, step.trip_count.buffer);
                    let note = match times {
                        Some(times) => format!("a loop is taken to run {times} times, its highest number"),
                        None => "a loop whose number of iterations is computed is counted once".to_owned(),
                    };
                    self.notes.insert(note);
                    let ports: Vec<Port> = step.carried.iter().chain(&step.captured).cloned().collect();
                    // The first two inputs are the iteration and the condition.
                    let inner = learned(&step.body, 2, &shapes(&ports, &bindings)?, &bindings)?;
                    for _ in 0..times.unwrap_or(1) {
                        self.program(&step.body, inner.clone(), within)?;
                    }
                }
                Step::Scan(step) => self.scan(step, &bindings, within)?,
            }
        }
        self.buffers = first + program.buffers.len() as u32;
        Ok(())
    }

    fn scan(
        &mut self,
        step: &tarsia_tile::ScanStep,
        bindings: &BTreeMap<Symbol, i64>,
        within: &str,
    ) -> Result<(), SimError> {
        let mut times = 1;
        let mut operands = shapes(&step.states, bindings)?;
        for (port, axis, _) in &step.inputs {
            let mut shape = shapes(std::slice::from_ref(port), bindings)?.remove(0);
            if *axis < shape.len() {
                times = shape.remove(*axis);
            }
            operands.push(shape);
        }
        operands.extend(shapes(&step.captured, bindings)?);
        let inner = learned(&step.body, 0, &operands, bindings)?;
        for _ in 0..times.max(0) {
            self.program(&step.body, inner.clone(), within)?;
        }
        Ok(())
    }

    /// The branch that takes longer.
    fn longer(
        &mut self,
        then: &Program,
        otherwise: &Program,
        operands: &[Port],
        bindings: &BTreeMap<Symbol, i64>,
        within: &str,
    ) -> Result<(), SimError> {
        self.notes.insert("of the branches of an `if`, the one that takes longer is counted".to_owned());
        let operands = shapes(operands, bindings)?;
        let mut times = Vec::new();
        for branch in [then, otherwise] {
            let inner = learned(branch, 0, &operands, bindings)?;
            let options = Options { bottlenecks: false, spans: 0, ..*self.options };
            let mut trial = Run {
                machine: self.machine,
                options: &options,
                cache: self.cache.clone(),
                buffers: self.buffers,
                report: Report::default(),
                places: BTreeMap::new(),
                notes: BTreeSet::new(),
            };
            trial.program(branch, inner.clone(), within)?;
            times.push((trial.report.cycles, branch, inner));
        }
        match times.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a }) {
            Some((_, branch, inner)) => self.program(branch, inner, within),
            None => Ok(()),
        }
    }

    fn untimed(&mut self, name: &str, note: String) {
        self.notes.insert(note);
        let start_cycles = self.report.cycles;
        self.report.steps.push(StepReport { name: name.to_owned(), launch: false, start_cycles, cycles: 0.0 });
    }

    fn launch(
        &mut self,
        kernel: &Kernel,
        memories: &[Memory],
        bindings: &BTreeMap<Symbol, i64>,
        within: &str,
    ) -> Result<(), SimError> {
        let start_cycles = self.report.cycles;
        let begin = start_cycles + self.machine.launch_cycles();
        let launch = Launch { kernel, machine: self.machine, bindings, options: self.options, memories };
        let report = launch.run(self.cache.as_mut(), begin, &mut self.report.timeline)?;
        let cycles = report.cycles + report.launch_cycles;
        self.report.cycles += cycles;
        self.report.launch_cycles += report.launch_cycles;
        self.report.launches += 1;
        let name = format!("{within}{}", kernel.name);
        self.report.steps.push(StepReport { name: name.clone(), launch: true, start_cycles, cycles });
        match self.places.get(&name).and_then(|&at| self.report.kernels.get_mut(at)) {
            Some(known) => known.add(&report),
            None => {
                self.places.insert(name, self.report.kernels.len());
                self.report.kernels.push(report);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        let bandwidth = self.machine.shared_bandwidth(GLOBAL);
        for kernel in &mut self.report.kernels {
            kernel.place_on_roofline(bandwidth);
            self.report.bytes.add(&kernel.bytes);
            self.report.flops += kernel.flops();
        }
        self.report.microseconds = self.machine.seconds(self.report.cycles) * 1e6;
        if self.report.timeline.left_out > 0 {
            let note = format!("the timeline leaves out {} instructions", self.report.timeline.left_out);
            self.notes.insert(note);
        }
        if !self.options.full {
            let equal = self.report.kernels.iter().any(|kernel| kernel.simulated_groups < kernel.groups);
            if equal {
                self.notes.insert("equal cores are simulated once for all of them".to_owned());
            }
        }
        self.report.notes.extend(self.notes);
        self.report
    }
}

/// The highest number of iterations, if it is a constant.
fn trip_count(program: &Program, buffer: BufferId) -> Option<i64> {
    let BufferKind::Constant(index) = program.buffers.get(buffer.0 as usize)?.kind else { return None };
    let data = program.constants.get(index as usize)?.data.bytes().ok()?;
    let bytes: [u8; 8] = data.get(..8)?.try_into().ok()?;
    Some(i64::from_le_bytes(bytes)).filter(|&times| (0..1 << 20).contains(&times))
}

/// The memory of every argument.
fn memories(
    program: &Program,
    args: &[BufferId],
    first: u32,
    bindings: &BTreeMap<Symbol, i64>,
) -> Result<Vec<Memory>, SimError> {
    let memory = |id: &BufferId| {
        let buffer = program.buffers.get(id.0 as usize);
        let Buffer { shape, dtype, layout, .. } =
            buffer.ok_or_else(|| SimError::Shapes("a launch has no buffer".into()))?;
        let shape = sizes(shape, bindings)?;
        Ok(Memory::new(first + id.0, &shape, dtype.bits() as i64).laid_out(*layout))
    };
    args.iter().map(memory).collect()
}

fn sizes(shape: &[Dim], bindings: &BTreeMap<Symbol, i64>) -> Result<Vec<i64>, SimError> {
    let names = Names::new(bindings);
    shape.iter().map(|dim| Ok(names.expr(dim)?.eval(&[]))).collect()
}

fn shapes(ports: &[Port], bindings: &BTreeMap<Symbol, i64>) -> Result<Vec<Vec<i64>>, SimError> {
    ports.iter().map(|port| sizes(&port.shape, bindings)).collect()
}

/// The symbols of a nested program, from the shapes of what it is given.
fn learned(
    body: &Program,
    skip: usize,
    operands: &[Vec<i64>],
    outer: &BTreeMap<Symbol, i64>,
) -> Result<BTreeMap<Symbol, i64>, SimError> {
    let mut bindings = Bindings::new();
    outer.iter().for_each(|(symbol, &value)| bindings.set(symbol.clone(), value));
    let ports = body.inputs.iter().skip(skip).zip(operands);
    let pairs = ports.flat_map(|(port, shape)| port.shape.iter().zip(shape.iter().copied()));
    bindings.learn(pairs).map_err(|error| SimError::Shapes(error.to_string()))?;
    Ok(bindings.iter().map(|(symbol, value)| (symbol.clone(), value)).collect())
}
