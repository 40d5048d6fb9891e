//! A program's buffers and steps: everything exists, is written before it is read, and fits where it is passed.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;
use tarsia_tensor::{Dim, Symbol};

use super::{BindCheck, Report, Stage, kernel, prove::Context};
use crate::{
    Access, Buffer, BufferId, BufferKind, Instr, Kernel, KernelId, Layout, Machine, Operand, ParamId, Port, Program,
    Step, Stmt, View, text::part,
};

/// Programs nested deeper than this are refused.
const DEPTH: usize = 64;

/// Checks a program; `outer` are the symbols of the programs it is nested in.
pub(super) fn program(
    program: &Program,
    machine: Option<(&Machine, Stage)>,
    outer: &BTreeSet<Symbol>,
    report: &mut Report,
) {
    if report.path.len() > 3 * DEPTH {
        return report.fault("programs are nested too deeply");
    }
    if let Some((machine, _)) = machine {
        report.fault_if(program.target != machine.name, || {
            format!("the program is for `{}`, not `{}`", program.target, machine.name)
        });
    }
    let symbols = bound_symbols(program, outer);
    let mut steps = Steps { program, report, ready: vec![false; program.buffers.len()] };
    steps.buffers(&symbols);
    steps.inputs();
    let mut names = FxHashSet::default();
    for (at, kernel) in program.kernels.iter().enumerate() {
        steps.report.at(&[part::KERNEL, at as u32], |report| {
            report.fault_if(!names.insert(&kernel.name), || format!("there are two kernels `{}`", kernel.name));
            self::kernel::kernel(kernel, machine, &symbols, report);
        });
    }
    for (at, step) in program.steps.iter().enumerate() {
        steps.report.path.extend([part::STEP, at as u32]);
        steps.step(step, machine, &symbols);
        steps.report.path.truncate(steps.report.path.len() - 2);
    }
    for (at, port) in program.outputs.iter().enumerate() {
        steps.report.path.extend([part::OUTPUT, at as u32]);
        steps.read(port);
        steps.report.path.truncate(steps.report.path.len() - 2);
    }
}

/// The symbols that inputs and results of steps bind.
fn bound_symbols(program: &Program, outer: &BTreeSet<Symbol>) -> BTreeSet<Symbol> {
    let mut symbols = outer.clone();
    let results = program.steps.iter().flat_map(Step::results).filter_map(|id| program.buffers.get(id.0 as usize));
    let shapes = program.inputs.iter().map(|port| &port.shape).chain(results.map(|buffer| &buffer.shape));
    shapes.flatten().for_each(|dim| dim.collect_symbols(&mut symbols));
    symbols
}

struct Steps<'p, 'r> {
    program: &'p Program,
    report: &'r mut Report,
    /// Buffers that hold something by now.
    ready: Vec<bool>,
}

impl Steps<'_, '_> {
    fn buffers(&mut self, symbols: &BTreeSet<Symbol>) {
        let mut names = FxHashSet::default();
        for (at, buffer) in self.program.buffers.iter().enumerate() {
            self.report.path.extend([part::BUFFER, at as u32]);
            self.report.fault_if(!names.insert(&buffer.name), || format!("there are two buffers `{}`", buffer.name));
            let matrix = buffer.layout == Layout::RowMajor || buffer.shape.len() == 2;
            self.report.fault_if(!matrix, || format!("a fractal has 2 axes, not {}", buffer.shape.len()));
            for symbol in buffer.shape.iter().flat_map(Dim::symbols) {
                self.report.fault_if(!symbols.contains(&symbol), || format!("nothing binds `{symbol}`"));
            }
            if let BufferKind::Constant(index) = buffer.kind {
                self.ready[at] = true;
                self.constant(buffer, index);
            }
            self.report.path.truncate(self.report.path.len() - 2);
        }
    }

    fn constant(&mut self, buffer: &Buffer, index: u32) {
        let Some(constant) = self.program.constants.get(index as usize) else {
            return self.report.fault(format!("there is no constant {index} among {}", self.program.constants.len()));
        };
        if !buffer.dtype.is_numeric() {
            return;
        }
        match buffer.bytes(&|_| None) {
            Ok(bytes) => self.report.fault_if(bytes != constant.data.len(), || {
                format!("the buffer takes {bytes} bytes, the constant has {}", constant.data.len())
            }),
            Err(error) => self.report.fault(format!("a constant has a known shape: {error}")),
        }
    }

    fn inputs(&mut self) {
        for (at, port) in self.program.inputs.iter().enumerate() {
            self.report.path.extend([part::INPUT, at as u32]);
            if self.exists(port.buffer) {
                let buffer = &self.program.buffers[port.buffer.0 as usize];
                self.report
                    .fault_if(buffer.kind != BufferKind::Input, || format!("`{}` is not an input buffer", buffer.name));
                let twice = std::mem::replace(&mut self.ready[port.buffer.0 as usize], true);
                self.report.fault_if(twice, || format!("`{}` is given twice", buffer.name));
                self.same_count(&port.shape, &buffer.shape, || format!("the elements of `{}`", buffer.name));
            }
            self.report.path.truncate(self.report.path.len() - 2);
        }
    }

    fn exists(&mut self, buffer: BufferId) -> bool {
        let exists = (buffer.0 as usize) < self.program.buffers.len();
        self.report.fault_if(!exists, || format!("there is no buffer {}", buffer.0));
        exists
    }

    fn read_buffer(&mut self, buffer: BufferId) -> bool {
        if !self.exists(buffer) {
            return false;
        }
        if !self.ready[buffer.0 as usize] {
            let name = &self.program.buffers[buffer.0 as usize].name;
            self.report.fault(format!("`{name}` is read before anything is written to it"));
        }
        true
    }

    /// A buffer that holds something, seen under a shape with as many elements.
    fn read(&mut self, port: &Port) {
        if self.read_buffer(port.buffer) {
            let buffer = &self.program.buffers[port.buffer.0 as usize];
            self.same_count(&port.shape, &buffer.shape, || format!("the elements of `{}`", buffer.name));
        }
    }

    fn write(&mut self, buffer: BufferId) {
        if self.exists(buffer) {
            let Buffer { kind, name, .. } = &self.program.buffers[buffer.0 as usize];
            self.report.fault_if(*kind != BufferKind::Temporary, || {
                format!("`{name}` is not a temporary buffer: nothing may write to it")
            });
            self.ready[buffer.0 as usize] = true;
        }
    }

    fn same_count(&mut self, a: &[Dim], b: &[Dim], what: impl Fn() -> String) {
        if a == b {
            return;
        }
        let (a, b) = (Dim::product(a), Dim::product(b));
        let context = Context::default();
        for (left, right) in [(&a, &b), (&b, &a)] {
            let goal = right.clone() - left.clone();
            if context.proves(&goal, &mut self.report.budget) {
                continue;
            }
            let check = BindCheck {
                what: what(),
                anchor: self.report.path.clone(),
                left: left.clone(),
                right: right.clone(),
                variables: Vec::new(),
                facts: Vec::new(),
            };
            if goal.range().high < 0 {
                self.report.fault(format!("{}: {left} is not {right}", what()));
            } else {
                self.report.checks.push(check);
            }
        }
    }

    fn step(&mut self, step: &Step, machine: Option<(&Machine, Stage)>, symbols: &BTreeSet<Symbol>) {
        match step {
            Step::Launch { kernel, args, in_place } => self.launch(*kernel, args, in_place),
            Step::Host { operands, results, .. } => {
                operands.iter().for_each(|port| self.read(port));
                results.iter().for_each(|&buffer| self.write(buffer));
            }
            Step::If { condition, then_branch, else_branch, operands, results } => {
                self.read_buffer(*condition);
                operands.iter().for_each(|port| self.read(port));
                for (branch, body) in [then_branch, else_branch].into_iter().enumerate() {
                    self.body(branch as u32, body, machine, symbols);
                    let inputs: Vec<&Port> = operands.iter().collect();
                    self.passed(body, &inputs, results, 0);
                }
                results.iter().for_each(|&buffer| self.write(buffer));
            }
            Step::Loop(step) => {
                let inputs: Vec<&Port> = step.carried.iter().chain(&step.captured).collect();
                [&step.trip_count, &step.condition].into_iter().chain(inputs.clone()).for_each(|port| self.read(port));
                self.body(0, &step.body, machine, symbols);
                let all: Vec<&Port> = [&step.trip_count, &step.condition].into_iter().chain(inputs).collect();
                self.passed(&step.body, &all, &step.results, 1);
                step.results.iter().for_each(|&buffer| self.write(buffer));
            }
            Step::Scan(step) => {
                let slices = step.inputs.iter().map(|(port, ..)| port);
                let inputs: Vec<&Port> = step.states.iter().chain(slices).chain(&step.captured).collect();
                inputs.iter().for_each(|port| self.read(port));
                for (port, axis, _) in &step.inputs {
                    self.report.fault_if(*axis >= port.shape.len(), || {
                        format!("`{}` has no axis {axis} to be sliced along", port.name)
                    });
                }
                let stacked = step.results.len().checked_sub(step.states.len());
                self.report.fault_if(stacked != Some(step.outputs.len()), || {
                    "a scan gives its states and its stacked outputs".into()
                });
                self.body(0, &step.body, machine, symbols);
                self.passed(&step.body, &inputs, &step.results, 0);
                step.results.iter().for_each(|&buffer| self.write(buffer));
            }
        }
    }

    fn body(&mut self, which: u32, body: &Program, machine: Option<(&Machine, Stage)>, symbols: &BTreeSet<Symbol>) {
        self.report.at(&[which], |report| program(body, machine, symbols, report));
    }

    /// What a nested program takes and gives has the types of what it is passed; `skip` of its outputs are no results.
    fn passed(&mut self, body: &Program, inputs: &[&Port], results: &[BufferId], skip: usize) {
        let outer = |id: BufferId| self.program.buffers.get(id.0 as usize).map(|buffer| buffer.dtype);
        let inner = |port: &Port| body.buffers.get(port.buffer.0 as usize).map(|buffer| buffer.dtype);
        let mut faults = Vec::new();
        if inputs.len() != body.inputs.len() {
            faults.push(format!("`{}` takes {} inputs, not {}", body.name, body.inputs.len(), inputs.len()));
        }
        for (given, taken) in inputs.iter().zip(&body.inputs) {
            if outer(given.buffer) != inner(taken) {
                faults.push(format!("the input `{}` of `{}` has another type", taken.name, body.name));
            }
        }
        if results.len() + skip != body.outputs.len() {
            faults.push(format!("`{}` gives {} outputs, not {}", body.name, body.outputs.len(), results.len() + skip));
        }
        for (result, output) in results.iter().zip(body.outputs.iter().skip(skip)) {
            if outer(*result) != inner(output) {
                faults.push(format!("the output `{}` of `{}` has another type", output.name, body.name));
            }
        }
        faults.into_iter().for_each(|fault| self.report.fault(fault));
    }

    fn launch(&mut self, id: KernelId, args: &[BufferId], in_place: &[(ParamId, ParamId)]) {
        let program = self.program;
        let Some(kernel) = program.kernels.get(id.0 as usize) else {
            return self.report.fault(format!("there is no kernel {}", id.0));
        };
        if args.len() != kernel.params.len() {
            let (expected, found) = (kernel.params.len(), args.len());
            return self.report.fault(format!("`{}` takes {expected} buffers, not {found}", kernel.name));
        }
        let writes = |buffer: BufferId| {
            let pairs = args.iter().zip(&kernel.params);
            pairs.into_iter().any(|(arg, param)| *arg == buffer && param.access == Access::Write)
        };
        for (arg, param) in args.iter().zip(&kernel.params) {
            let fits = match param.access {
                Access::Write => self.exists(*arg),
                Access::Read if writes(*arg) && self.exists(*arg) => {
                    self.report.fault(format!("`{}` is read and written under two names", param.name));
                    true
                }
                _ => self.read_buffer(*arg),
            };
            if fits {
                let buffer = &program.buffers[arg.0 as usize];
                let same = buffer.dtype == param.dtype && buffer.layout == param.layout;
                self.report.fault_if(!same, || {
                    let (a, b) =
                        (format!("{} {}", buffer.dtype, buffer.layout), format!("{} {}", param.dtype, param.layout));
                    format!("`{}` is {a}, the parameter `{}` {b}", buffer.name, param.name)
                });
                let boxed = param.layout == Layout::RowMajor || buffer.shape == param.shape;
                self.report.fault_if(!boxed, || {
                    format!("the fractals `{}` and `{}` differ in shape", buffer.name, param.name)
                });
                self.same_count(&param.shape, &buffer.shape, || {
                    format!("the elements of `{}` and `{}`", param.name, buffer.name)
                });
            }
        }
        for (arg, _) in args.iter().zip(&kernel.params).filter(|(_, param)| param.access != Access::Read) {
            self.write(*arg);
        }
        for pair in in_place {
            if let Err(reason) = in_place_legal(kernel, *pair) {
                self.report.fault(format!("not possible in place: {reason}"));
            }
        }
    }
}

/// The pairs (read, written) of a kernel's parameters that may share memory: every work item reads exactly the elements that it
/// writes, and before it writes them.
pub fn in_place_pairs(kernel: &Kernel) -> Vec<(ParamId, ParamId)> {
    let ids = || (0..kernel.params.len() as u32).map(ParamId);
    let pairs = ids().flat_map(|read| ids().map(move |written| (read, written)));
    pairs.filter(|pair| in_place_legal(kernel, *pair).is_ok()).collect()
}

fn in_place_legal(kernel: &Kernel, (read, written): (ParamId, ParamId)) -> Result<(), String> {
    let (Some(from), Some(to)) = (kernel.params.get(read.0 as usize), kernel.params.get(written.0 as usize)) else {
        return Err("there is no such parameter".into());
    };
    if from.access != Access::Read || to.access != Access::Write {
        return Err(format!("`{}` is not read only, or `{}` not written only", from.name, to.name));
    }
    let same = from.dtype.bits() == to.dtype.bits() && from.layout == to.layout && from.shape == to.shape;
    if !same || from.dtype.bits() < 8 {
        return Err(format!("`{}` and `{}` differ in shape or size of elements", from.name, to.name));
    }
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    let mut at = 0;
    accesses(&kernel.body, &mut at, &mut |at, instr: &Instr| {
        let view = |operand: &Operand, param: ParamId| matches!(operand, Operand::Global(view) if view.param == param);
        let reading = instr.src.iter().chain(if instr.op.reads_destination() { &instr.dst[..] } else { &[] });
        reads.extend(reading.filter(|operand| view(operand, read)).filter_map(viewed).map(|view| (at, view.clone())));
        writes.extend(
            instr.dst.iter().filter(|operand| view(operand, written)).filter_map(viewed).map(|view| (at, view.clone())),
        );
    });
    let [(end, target)] = writes.as_slice() else {
        return Err(format!("`{}` is not written by exactly one statement", to.name));
    };
    for (start, view) in &reads {
        if view.axes != target.axes || view.size != target.size || view.fill.is_some() {
            return Err(format!("`{}` is read elsewhere than `{}` is written", from.name, to.name));
        }
        if start > end {
            return Err(format!("`{}` is read after `{}` is written", from.name, to.name));
        }
    }
    Ok(())
}

fn viewed(operand: &Operand) -> Option<&View> {
    match operand {
        Operand::Global(view) => Some(view),
        _ => None,
    }
}

/// Instructions with their positions. The level of loops does not matter: equal views mean equal variables.
fn accesses(body: &[Stmt], at: &mut usize, visit: &mut dyn FnMut(usize, &Instr)) {
    for stmt in body {
        *at += 1;
        match stmt {
            Stmt::Instr(instr) => visit(*at, instr),
            Stmt::For { body, .. } => accesses(body, at, visit),
            Stmt::If { then, otherwise, .. } => {
                accesses(then, at, visit);
                accesses(otherwise, at, visit);
            }
        }
    }
}
