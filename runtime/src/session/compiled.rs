//! What of a program does not depend on shapes: decoded kernels, lifetimes, segments, nested programs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use tarsia_tensor::{Content, DType, Symbol, Tensor, mapped};
use tarsia_tile::{BufferId, BufferKind, Plan, Program, Step, lanes::unroll};

use crate::error::RunError;
use crate::exec::block::Block;
use crate::exec::code::Code;
use crate::exec::compile::compile;

use super::value::is_aligned;

/// A program without its shapes.
pub struct Compiled {
    pub program: Program,
    pub codes: Vec<Code>,
    /// Steps that run once all symbols up to there are known; the last step of all but the last one defines more.
    pub segments: Vec<Range<usize>>,
    /// Programs inside of a step, in order: branches, or a body.
    pub nested: BTreeMap<usize, Vec<Compiled>>,
    pub constants: Vec<Option<Tensor>>,
    pub plan: Plan,
    /// By buffer: the output that it is, if launches compute it.
    pub output_of: Vec<Option<usize>>,
    /// By step: results of host functions and control flow that nobody needs afterwards.
    pub releases: Vec<Vec<usize>>,
    /// Whether every output is computed in place and its shape follows from the inputs'.
    pub is_direct: bool,
    /// Scratch bytes of a worker, nested programs included.
    pub scratch_bytes: usize,
}

impl Compiled {
    /// # Errors
    /// If the program refers to what it does not have, or a kernel cannot be decoded.
    pub fn new(mut program: Program) -> Result<Compiled, RunError> {
        check(&program)?;
        program.kernels.iter_mut().for_each(|kernel| *kernel = unroll(kernel));
        let mut codes = Vec::with_capacity(program.kernels.len());
        for kernel in &program.kernels {
            let malformed = |reason| RunError::Malformed { place: format!("kernel `{}`", kernel.name), reason };
            codes.push(compile(kernel).map_err(malformed)?);
        }
        let mut nested = BTreeMap::new();
        for (at, step) in program.steps.iter().enumerate() {
            let inner: Vec<&Program> = match step {
                Step::If { then_branch, else_branch, .. } => vec![then_branch, else_branch],
                Step::Loop(step) => vec![&step.body],
                Step::Scan(step) => vec![&step.body],
                _ => continue,
            };
            nested.insert(at, inner.into_iter().cloned().map(Compiled::new).collect::<Result<Vec<_>, _>>()?);
        }
        let launched = launched(&program);
        let output_of = outputs(&program, &launched);
        let segments = segments(&program);
        let direct = |port: &tarsia_tile::Port| output_of[port.buffer.0 as usize].is_some();
        let own = codes.iter().map(|code| code.scratch_bytes).max().unwrap_or(0);
        let inner = nested.values().flatten().map(|compiled: &Compiled| compiled.scratch_bytes).max().unwrap_or(0);
        Ok(Compiled {
            constants: constants(&program)?,
            plan: plan(&program, &output_of, &launched),
            is_direct: segments.len() == 1 && program.outputs.iter().all(direct) && all_differ(&program),
            releases: releases(&program),
            scratch_bytes: own.max(inner),
            output_of,
            segments,
            nested,
            codes,
            program,
        })
    }

    /// The element type of a buffer.
    pub fn dtype(&self, buffer: BufferId) -> DType {
        self.program.buffers[buffer.0 as usize].dtype
    }
}

/// All references are to what exists.
fn check(program: &Program) -> Result<(), RunError> {
    let malformed = |place: String, reason: &str| RunError::Malformed { place, reason: reason.to_owned() };
    let exists = |buffer: BufferId| (buffer.0 as usize) < program.buffers.len();
    for port in program.inputs.iter().chain(&program.outputs) {
        if !exists(port.buffer) {
            return Err(malformed(format!("port `{}`", port.name), "its buffer does not exist"));
        }
    }
    for (at, step) in program.steps.iter().enumerate() {
        let place = || format!("step {at}");
        if !step.operands().chain(step.results()).all(exists) {
            return Err(malformed(place(), "a buffer does not exist"));
        }
        if let Step::Launch { kernel, args, .. } = step {
            let kernel = program.kernels.get(kernel.0 as usize).ok_or_else(|| malformed(place(), "no such kernel"))?;
            let fits = |(arg, param): (&BufferId, &tarsia_tile::Param)| {
                let buffer = &program.buffers[arg.0 as usize];
                let writable = buffer.kind == BufferKind::Temporary || param.access == tarsia_tile::Access::Read;
                buffer.dtype == param.dtype && writable
            };
            if args.len() != kernel.params.len() || !args.iter().zip(&kernel.params).all(fits) {
                return Err(malformed(place(), "the arguments are not those of the kernel"));
            }
        }
    }
    for buffer in &program.buffers {
        if let BufferKind::Constant(i) = buffer.kind
            && i as usize >= program.constants.len()
        {
            return Err(malformed(format!("buffer `{}`", buffer.name), "its constant does not exist"));
        }
    }
    Ok(())
}

fn all_differ(program: &Program) -> bool {
    let buffers: BTreeSet<BufferId> = program.outputs.iter().map(|port| port.buffer).collect();
    buffers.len() == program.outputs.len()
}

/// By buffer: whether launches write it.
fn launched(program: &Program) -> Vec<bool> {
    let mut launched = vec![false; program.buffers.len()];
    for step in &program.steps {
        if let Step::Launch { args, .. } = step {
            args.iter().for_each(|arg| launched[arg.0 as usize] = true);
        }
    }
    for buffer in program.steps.iter().flat_map(|step| step.results()) {
        launched[buffer.0 as usize] = false;
    }
    launched.iter().zip(&program.buffers).map(|(l, b)| *l && b.kind == BufferKind::Temporary).collect()
}

fn outputs(program: &Program, launched: &[bool]) -> Vec<Option<usize>> {
    let mut output_of = vec![None; program.buffers.len()];
    for (i, port) in program.outputs.iter().enumerate() {
        let buffer = port.buffer.0 as usize;
        if launched[buffer] && output_of[buffer].is_none() {
            output_of[buffer] = Some(i);
        }
    }
    output_of
}

/// The plan of what lies in the arena: neither outputs nor results of host functions and control flow.
fn plan(program: &Program, output_of: &[Option<usize>], launched: &[bool]) -> Plan {
    let steps = program.steps.clone();
    let mut buffers = program.buffers.clone();
    for (i, buffer) in buffers.iter_mut().enumerate() {
        if output_of[i].is_some() || !launched[i] {
            buffer.kind = BufferKind::Input;
        }
    }
    Plan::new(&Program { buffers, steps, outputs: program.outputs.clone(), ..Program::default() })
}

fn segments(program: &Program) -> Vec<Range<usize>> {
    let mut known: BTreeSet<Symbol> = BTreeSet::new();
    program.inputs.iter().flat_map(|port| &port.shape).for_each(|dim| dim.collect_symbols(&mut known));
    let (mut segments, mut start) = (Vec::new(), 0);
    for (at, step) in program.steps.iter().enumerate() {
        let before = known.len();
        for buffer in step.results() {
            program.buffers[buffer.0 as usize].shape.iter().for_each(|dim| dim.collect_symbols(&mut known));
        }
        if known.len() > before {
            segments.push(start..at + 1);
            start = at + 1;
        }
    }
    segments.push(start..program.steps.len());
    segments
}

fn releases(program: &Program) -> Vec<Vec<usize>> {
    let mut last = vec![None; program.buffers.len()];
    for (at, step) in program.steps.iter().enumerate() {
        step.operands().chain(step.results()).for_each(|buffer| last[buffer.0 as usize] = Some(at));
    }
    program.outputs.iter().for_each(|port| last[port.buffer.0 as usize] = None);
    let mut releases = vec![Vec::new(); program.steps.len()];
    for buffer in program.steps.iter().flat_map(|step| step.results()) {
        if let Some(at) = last[buffer.0 as usize] {
            releases[at].push(buffer.0 as usize);
        }
    }
    releases
}

/// The constants by index, as tensors of bytes whose elements are aligned. Data that several constants share are shared.
fn constants(program: &Program) -> Result<Vec<Option<Tensor>>, RunError> {
    let mut tensors = vec![None; program.constants.len()];
    let mut copies: BTreeMap<(usize, usize), Bytes> = BTreeMap::new();
    for buffer in &program.buffers {
        let BufferKind::Constant(i) = buffer.kind else { continue };
        let place = || format!("constant buffer `{}`", buffer.name);
        let data = match &program.constants[i as usize].data {
            Content::Bytes(data) => data,
            Content::Absent(absent) => {
                return Err(RunError::Absent { constant: buffer.name.clone(), absent: absent.clone() });
            }
        };
        let needed = buffer.bytes(&|_| None)?;
        if needed != data.len() && buffer.dtype.is_numeric() {
            let reason = format!("it takes {needed} bytes, but its constant has {}", data.len());
            return Err(RunError::Malformed { place: place(), reason });
        }
        let aligned = match copies.get(&(data.as_ptr() as usize, data.len())) {
            Some(copy) => copy.clone(),
            None if is_aligned(buffer.dtype, data.as_ptr()) => data.clone(),
            None => {
                let copy = realigned(data)?;
                mapped::release(data);
                copies.insert((data.as_ptr() as usize, data.len()), copy.clone());
                copy
            }
        };
        let misplaced = |tensor: &Tensor| !is_aligned(buffer.dtype, tensor.bytes().as_ptr());
        if tensors[i as usize].as_ref().is_none_or(misplaced) {
            tensors[i as usize] = Some(Tensor::new(DType::U8, &[aligned.len()], aligned)?);
        }
    }
    Ok(tensors)
}

/// A copy whose elements are aligned.
pub fn realigned(data: &Bytes) -> Result<Bytes, RunError> {
    let memory = RunError::Memory { needed: data.len(), limit: isize::MAX as usize };
    let block = Block::new(data.len()).ok_or(memory)?;
    // SAFETY: the block has as many bytes as the data.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), block.as_ptr(), data.len()) };
    Ok(super::owned(block, data.len()))
}
