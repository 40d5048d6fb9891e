//! One kernel on random data: what it is given, and what our runtime makes of it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use tarsia::hivm::export::Module;
use tarsia::tile::{
    Access, Buffer, BufferId, BufferKind, Constant, Kernel, KernelId, Layout, Machine, Port, Program, Step,
};
use tarsia::{DType, Dim, Numbers, Session, SessionOptions, Tensor};
use tarsia_tensor::{Content, Symbol};

/// Values that sizes are given, in order of their names; later rows where the first does not go together.
const SIZES: [[i64; 6]; 4] = [[2, 5, 3, 7, 4, 6], [2, 3, 1, 4, 5, 2], [64, 64, 2, 64, 64, 64], [4, 4, 4, 4, 4, 4]];
/// The most elements of a buffer for which a case is worth its time.
const MOST_ELEMENTS: usize = 1 << 21;

/// A kernel's arguments and results.
pub struct Case {
    symbols: Vec<(String, i64)>,
    workspace: usize,
    params: Vec<(Access, Tensor)>,
}

/// The case of a kernel. Not all sizes go together, and a table may have but one row: the first attempt that our runtime accepts.
pub fn case(kernel: &Kernel, module: &Module, machine: &Machine) -> Result<Case, String> {
    let attempts = SIZES.iter().flat_map(|sizes| [2, 1].map(|integers| (sizes, integers)));
    let mut refused = String::new();
    for (sizes, integers) in attempts {
        match attempt(kernel, module, machine, (sizes, integers)) {
            Ok(case) => return Ok(case),
            Err(reason) => refused = reason,
        }
    }
    Err(refused)
}

fn attempt(
    kernel: &Kernel,
    module: &Module,
    machine: &Machine,
    (sizes, integers): (&[i64; 6], u64),
) -> Result<Case, String> {
    let names = module.launch.symbols.iter().map(String::as_str);
    let values: BTreeMap<&str, i64> = names.zip(sizes.iter().copied().cycle()).collect();
    let replace = |symbol: &Symbol| values.get(symbol.name()).map(|value| Dim::Const(*value));
    let mut fixed = kernel.clone();
    for param in &mut fixed.params {
        param.shape = param.shape.iter().map(|dim| dim.substitute(&replace)).collect();
    }
    fixed.grid = fixed.grid.iter().map(|(symbol, size)| (symbol.clone(), size.substitute(&replace))).collect();
    fixed.body = fixed.body.iter().map(|stmt| stmt.substitute(&replace)).collect();
    let params = evaluated(&fixed, integers, machine)?;
    let symbols = module.launch.symbols.iter().map(|name| (name.clone(), values[name.as_str()])).collect();
    Ok(Case { symbols, workspace: module.launch.workspace_bytes, params })
}

/// Random arguments, integers below `integers`, and the results. What a kernel writes to is zero before.
fn evaluated(kernel: &Kernel, integers: u64, machine: &Machine) -> Result<Vec<(Access, Tensor)>, String> {
    let mut seed = 1;
    let mut params = Vec::new();
    for param in &kernel.params {
        let shape: Option<Vec<usize>> = param.shape.iter().map(Dim::as_usize).collect();
        let mut shape = shape.ok_or("a size that is not known")?;
        if param.layout != Layout::RowMajor {
            shape = vec![param.layout.elements(&shape).ok_or("a size that is not known")?];
        }
        params.push((param.access, random(param.dtype, &shape, integers, &mut seed)?));
    }
    let mut results = results(kernel, &params, machine)?.into_iter();
    for (access, tensor) in &mut params {
        if *access != Access::Read {
            *tensor = results.next().ok_or("a result is missing")?;
        }
    }
    Ok(params)
}

/// Floats in [-1, 1), small integers, so that indices stay in range.
fn random(dtype: DType, shape: &[usize], integers: u64, seed: &mut u64) -> Result<Tensor, String> {
    let count: usize = shape.iter().product();
    if count > MOST_ELEMENTS {
        return Err(format!("{count} elements"));
    }
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    };
    let numbers = if dtype.is_float() {
        Numbers::Float((0..count).map(|_| next() as f64 / f64::from(1u32 << 30) - 1.0).collect())
    } else if dtype == DType::Bool {
        Numbers::Uint((0..count).map(|_| next() & 1).collect())
    } else if dtype.bits() == 8 {
        // Quantised numbers: nothing is indexed with bytes.
        let lowest = if dtype == DType::I8 { -128 } else { 0 };
        Numbers::Int((0..count).map(|_| lowest + (next() & 255) as i64).collect())
    } else {
        Numbers::Int((0..count).map(|_| (next() % integers) as i64).collect())
    };
    Tensor::from_numbers(dtype, shape, &numbers).map_err(|e| e.to_string())
}

/// What our runtime computes: a program with the kernel alone.
fn results(kernel: &Kernel, params: &[(Access, Tensor)], machine: &Machine) -> Result<Vec<Tensor>, String> {
    let mut program = Program { name: "case".into(), target: machine.name.clone(), ..Program::default() };
    let mut inputs = Vec::new();
    for (at, (param, (access, tensor))) in kernel.params.iter().zip(params).enumerate() {
        let read = *access == Access::Read;
        let constant = param.layout != Layout::RowMajor;
        let kind = match (constant, read) {
            (true, _) => BufferKind::Constant(program.constants.len() as u32),
            (false, true) => BufferKind::Input,
            (false, false) => BufferKind::Temporary,
        };
        let (name, shape) = (format!("b{at}"), param.shape.clone());
        program.buffers.push(Buffer {
            name: name.clone(),
            dtype: param.dtype,
            shape: shape.clone(),
            layout: param.layout,
            kind,
        });
        let port = Port { name, buffer: BufferId(at as u32), shape };
        if constant {
            program.constants.push(Constant { data: Content::Bytes(tensor.bytes().clone()) });
        } else if read {
            program.inputs.push(port);
            inputs.push(tensor.clone());
        } else {
            program.outputs.push(port);
        }
    }
    let args = (0..kernel.params.len()).map(|at| BufferId(at as u32)).collect();
    program.kernels.push(kernel.clone());
    program.steps.push(Step::Launch { kernel: KernelId(0), args, in_place: Vec::new() });
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let session = Session::new(program, &options).map_err(|e| e.to_string())?;
    session.run(&inputs).map_err(|e| e.to_string())
}

/// `NAME.case.json` and a file of bytes for every parameter.
pub fn write(case: &Case, folder: &Path, name: &str) -> io::Result<()> {
    let mut params = Vec::new();
    for (at, (access, tensor)) in case.params.iter().enumerate() {
        let file = format!("{name}.{at}.bin");
        std::fs::write(folder.join(&file), tensor.bytes())?;
        params.push(serde_json::json!({
            "file": file,
            "dtype": tensor.dtype().name(),
            "count": tensor.count(),
            "written": *access != Access::Read,
        }));
    }
    let value = serde_json::json!({ "symbols": case.symbols, "workspace": case.workspace, "params": params });
    std::fs::write(folder.join(format!("{name}.case.json")), value.to_string())
}
