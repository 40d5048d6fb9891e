//! Binding: from shapes to symbol values, register files, grids and places in memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use smallvec::SmallVec;
use tarsia_tensor::{BindError, Bindings, EvalError, Shape, Symbol};
use tarsia_tile::{Arena, Port, Step, text::part, verify};

use super::compiled::Compiled;
use super::value::Arg;
use crate::error::RunError;
use crate::exec::code::Code;
use crate::exec::expr::BOUND;

/// Sets of sizes that are kept for later runs.
const KEPT: usize = 16;

/// A kernel with values for its sizes.
#[derive(Debug)]
pub struct BoundKernel {
    /// Values of the kernel's symbols, in its order.
    key: SmallVec<[i64; 8]>,
    /// Registers before the first work item.
    pub registers: Vec<i64>,
    /// Sizes of the grid's axes.
    pub grid: SmallVec<[usize; 4]>,
    /// Number of work items.
    pub items: usize,
    /// What the last launch took, in nanoseconds; 0 before the first one.
    pub nanoseconds: AtomicU64,
}

/// The steps of a segment with values for all sizes.
#[derive(Debug)]
pub struct BoundSegment {
    /// Values of all symbols.
    pub bindings: Bindings,
    /// By buffer: its shape, once known.
    pub shapes: Vec<Option<Shape>>,
    /// By buffer: its bytes, once known.
    pub bytes: Vec<usize>,
    /// Places of this and earlier segments.
    pub arena: Arena,
    /// By step of the segment: the kernel, if it is a launch.
    pub launches: Vec<Option<Arc<BoundKernel>>>,
}

/// Bound kernels and segments of one program.
#[derive(Debug, Default)]
pub struct Cache {
    kernels: Vec<Vec<Arc<BoundKernel>>>,
    segments: Vec<Vec<Arc<BoundSegment>>>,
}

impl Cache {
    /// Nothing is bound yet.
    pub fn new(compiled: &Compiled) -> Cache {
        let kernels = (0..compiled.codes.len()).map(|_| Vec::new()).collect();
        Cache { kernels, segments: (0..compiled.segments.len()).map(|_| Vec::new()).collect() }
    }

    /// Segment `at` under these bindings, after an earlier segment.
    ///
    /// # Errors
    /// If a size has no value, memory does not suffice, or an argument is too small for its kernel.
    pub fn segment(
        &mut self,
        compiled: &Compiled,
        at: usize,
        bindings: &Bindings,
        earlier: Option<&BoundSegment>,
        limit: usize,
    ) -> Result<Arc<BoundSegment>, RunError> {
        let fits = |segment: &Arc<BoundSegment>| segment.bindings == *bindings;
        if let Some(found) = self.segments[at].iter().position(fits) {
            // The one used last is at the end.
            self.segments[at][found..].rotate_left(1);
        } else {
            let bound = Arc::new(self.bind_segment(compiled, at, bindings, earlier, limit)?);
            if self.segments[at].len() == KEPT {
                self.segments[at].remove(0);
            }
            self.segments[at].push(bound);
        }
        let last = self.segments[at].last().cloned();
        last.ok_or_else(|| RunError::Malformed { place: format!("segment {at}"), reason: "not bound".to_owned() })
    }

    fn bind_segment(
        &mut self,
        compiled: &Compiled,
        at: usize,
        bindings: &Bindings,
        earlier: Option<&BoundSegment>,
        limit: usize,
    ) -> Result<BoundSegment, RunError> {
        let lookup = |symbol: &Symbol| bindings.get(symbol);
        let arena = match earlier {
            None => compiled.plan.bind(&lookup, limit)?,
            Some(earlier) => {
                let mut arena = earlier.arena.clone();
                compiled.plan.extend(&mut arena, &lookup, limit)?;
                arena
            }
        };
        let buffers = &compiled.program.buffers;
        let mut shapes = Vec::with_capacity(buffers.len());
        let mut bytes = Vec::with_capacity(buffers.len());
        for buffer in buffers {
            let shape = known_shape(bindings, &buffer.shape)
                .map_err(|error| RunError::Size { place: format!("buffer `{}`", buffer.name), error })?;
            bytes.push(if shape.is_some() { buffer.bytes(&lookup)? } else { 0 });
            shapes.push(shape);
        }
        let mut launches = Vec::new();
        for step in &compiled.program.steps[compiled.segments[at].clone()] {
            launches.push(match step {
                Step::Launch { kernel, args, .. } => {
                    let args: Vec<usize> = args.iter().map(|arg| arg.0 as usize).collect();
                    Some(self.kernel(compiled, kernel.0 as usize, bindings, &args, &shapes, &bytes)?)
                }
                _ => None,
            });
        }
        Ok(BoundSegment { bindings: bindings.clone(), shapes, bytes, arena, launches })
    }

    /// A kernel under these bindings; symbols that the program does not know follow from the arguments' shapes.
    fn kernel(
        &mut self,
        compiled: &Compiled,
        kernel: usize,
        bindings: &Bindings,
        args: &[usize],
        shapes: &[Option<Shape>],
        bytes: &[usize],
    ) -> Result<Arc<BoundKernel>, RunError> {
        let code = &compiled.codes[kernel];
        let place = || format!("kernel `{}`", code.name);
        let mut values: SmallVec<[i64; 8]> = SmallVec::new();
        if code.symbols.iter().all(|(symbol, _)| bindings.get(symbol).is_some()) {
            values.extend(code.symbols.iter().filter_map(|(symbol, _)| bindings.get(symbol)));
        } else {
            let mut bindings = bindings.clone();
            for (param, &arg) in compiled.program.kernels[kernel].params.iter().zip(args) {
                let shape = shapes[arg].iter().flatten().map(|&size| size as i64);
                bindings
                    .learn(param.shape.iter().zip(shape))
                    .map_err(|error| RunError::Size { place: place(), error })?;
            }
            for (symbol, _) in &code.symbols {
                let unbound = || RunError::Size {
                    place: place(),
                    error: BindError::Eval(EvalError::Unbound(symbol.name().to_owned())),
                };
                values.push(bindings.get(symbol).ok_or_else(unbound)?);
            }
        }
        let known = self.kernels[kernel].iter().find(|bound| bound.key == values).cloned();
        let bound = match known {
            Some(bound) => bound,
            None => {
                let bound = Arc::new(bind_kernel(code, values)?);
                if self.kernels[kernel].len() == KEPT {
                    self.kernels[kernel].remove(0);
                }
                self.kernels[kernel].push(bound.clone());
                bound
            }
        };
        check_args(compiled, code, &bound, args, bytes)?;
        Ok(bound)
    }
}

fn bind_kernel(code: &Code, key: SmallVec<[i64; 8]>) -> Result<BoundKernel, RunError> {
    let mut registers = code.calcs.initial.clone();
    for ((_, register), value) in code.symbols.iter().zip(&key) {
        registers[*register as usize] = *value;
    }
    code.calcs.run(BOUND, &mut registers);
    let size = |&(_, size): &(u32, u32)| registers[size as usize].max(0) as usize;
    let grid: SmallVec<[usize; 4]> = code.grid.iter().map(size).collect();
    let items = tarsia_tensor::element_count(&grid).ok_or_else(|| RunError::Malformed {
        place: format!("kernel `{}`", code.name),
        reason: format!("a grid of {grid:?} has too many work items"),
    })?;
    Ok(BoundKernel { key, registers, grid, items, nanoseconds: AtomicU64::new(0) })
}

/// Every parameter has as many elements as its buffer, or fewer.
fn check_args(
    compiled: &Compiled,
    code: &Code,
    bound: &BoundKernel,
    args: &[usize],
    bytes: &[usize],
) -> Result<(), RunError> {
    for (param, &arg) in code.params.iter().zip(args) {
        let elements = usize::try_from(bound.registers[param.elements as usize]).ok();
        let needed = elements.and_then(|elements| param.dtype.bytes_of(elements));
        if needed.is_none_or(|needed| needed > bytes[arg]) {
            let (buffer, found) = (&compiled.program.buffers[arg].name, bytes[arg]);
            let needed = needed.map_or("too many".to_owned(), |needed| needed.to_string());
            let reason = format!("the parameter `{}` has {needed} bytes, the buffer `{buffer}` {found}", param.name);
            return Err(RunError::Malformed { place: format!("kernel `{}`", code.name), reason });
        }
    }
    Ok(())
}

/// The values of a shape; `None` while a symbol is not bound.
fn known_shape(bindings: &Bindings, dims: &[tarsia_tensor::Dim]) -> Result<Option<Shape>, BindError> {
    match bindings.shape(dims) {
        Ok(shape) => Ok(Some(shape)),
        Err(BindError::Eval(EvalError::Unbound(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The symbols that the shapes of the inputs determine; what they leave open is taken from `outer`.
///
/// # Errors
/// The input that does not fit.
pub fn bind_inputs(compiled: &Compiled, args: &[Arg], outer: Option<&Bindings>) -> Result<Bindings, RunError> {
    let ports = &compiled.program.inputs;
    if args.len() != ports.len() {
        return Err(count_error(compiled, args.len()));
    }
    for (arg, port) in args.iter().zip(ports) {
        let expected = compiled.dtype(port.buffer);
        if arg.dtype != expected {
            return Err(RunError::InputType { name: port.name.clone(), expected, found: arg.dtype });
        }
        if arg.shape.len() != port.shape.len() {
            let expected: Vec<String> = port.shape.iter().map(ToString::to_string).collect();
            let (name, expected, found) = (port.name.clone(), expected.join(", "), arg.shape.to_vec());
            return Err(RunError::InputRank { name, expected, found });
        }
    }
    let mut bindings = Bindings::new();
    let pairs = |args: &[Arg]| -> Vec<(usize, i64)> {
        args.iter().enumerate().flat_map(|(i, arg)| arg.shape.iter().map(move |&size| (i, size as i64))).collect()
    };
    let sizes = pairs(args);
    let dims = ports.iter().flat_map(|port| &port.shape);
    let learned = bindings.learn(dims.zip(sizes.iter().map(|&(_, size)| size)));
    if let Err(error) = learned {
        return Err(guilty(ports, args, error));
    }
    if let Some(outer) = outer {
        for (symbol, value) in outer.iter() {
            if bindings.get(symbol).is_none() {
                bindings.set(symbol.clone(), value);
            }
        }
    }
    check_sizes(ports, args, &bindings)?;
    Ok(bindings)
}

/// Every size is what its expression gives.
fn check_sizes(ports: &[Port], args: &[Arg], bindings: &Bindings) -> Result<(), RunError> {
    for (port, arg) in ports.iter().zip(args) {
        for (axis, (dim, &found)) in port.shape.iter().zip(&arg.shape).enumerate() {
            let reason = match bindings.size(dim) {
                Ok(expected) if expected == found => continue,
                Ok(expected) => format!("it is {expected} here"),
                Err(error) => error.to_string(),
            };
            return Err(RunError::InputSize {
                name: port.name.clone(),
                axis,
                expected: dim.to_string(),
                found,
                reason,
            });
        }
    }
    Ok(())
}

/// The first size that contradicts those before it, plain symbols first.
fn guilty(ports: &[Port], args: &[Arg], error: BindError) -> RunError {
    let mut bindings = Bindings::new();
    for plain in [true, false] {
        for (port, arg) in ports.iter().zip(args) {
            for (axis, (dim, &found)) in port.shape.iter().zip(&arg.shape).enumerate() {
                if (dim.as_symbol().is_some() || dim.as_const().is_some()) != plain {
                    continue;
                }
                if let Err(error) = bindings.learn([(dim, found as i64)]) {
                    let (name, expected, reason) = (port.name.clone(), dim.to_string(), error.to_string());
                    return RunError::InputSize { name, axis, expected, found, reason };
                }
            }
        }
    }
    RunError::Size { place: "the inputs".to_owned(), error }
}

/// The error for a wrong number of inputs.
pub fn count_error(compiled: &Compiled, found: usize) -> RunError {
    let ports = &compiled.program.inputs;
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    RunError::InputCount { expected: ports.len(), names: names.join(", "), found }
}

/// The failure of a kernel, or the rule that the sizes of the inputs break in it, if that is why it failed.
pub fn sizes_behind(error: RunError, compiled: &Compiled, kernel: u32, bindings: &Bindings) -> RunError {
    let RunError::Kernel { origin, .. } = &error else { return error };
    let Ok(checks) = verify::bind_checks(&compiled.program) else { return error };
    let mut here = checks.iter().filter(|check| check.anchor.starts_with(&[part::KERNEL, kernel]));
    let Some(violated) = here.find_map(|check| check.check(&|symbol| bindings.get(symbol)).err()) else { return error };
    let sizes: Vec<String> = bindings.iter().map(|(symbol, value)| format!("{symbol} = {value}")).collect();
    RunError::Sizes { origin: origin.clone(), reason: violated.to_string(), sizes: sizes.join(", ") }
}
