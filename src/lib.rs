//! The library face of Tarsia: load a model, compile it, run it, compare it.
//!
//! ```no_run
//! use tarsia::{Phase, Session, compile, load, machine};
//!
//! let cpu = machine("cpu")?;
//! let start = load("model.onnx".as_ref(), Default::default(), &cpu)?;
//! let program = compile(start, Phase::Tiles, &cpu)?.program.expect("compiled to the end");
//! let session = Session::new(program, &Default::default())?;
//! let outputs = session.run(&[tarsia::Tensor::from_slice(&[1, 2], &[1f32, 2.0]).expect("two values")])?;
//! # let _ = outputs;
//! # Ok::<(), tarsia::Error>(())
//! ```

mod check;
mod compare;
mod compile;
mod cost;
mod error;
mod folder;
pub mod tensors;

pub use check::{Check, Finding, HostWork, Memory, OperatorUse, Opset, PortType, Size, check};
pub use compare::{Divergence, OutputError, SetReport, bisect, compare_folder, difference, set_inputs};
pub use compile::{
    Compiled, Loaded, Options, Phase, Precision, STANDARD_INPUT, Start, compile, compile_with, cover, load, lower,
    machine, open, optimise, read, with_cores,
};
pub use error::Error;
pub use folder::{Folder, Tolerance, read_set};
pub use tarsia_graph as graph;
pub use tarsia_hivm as hivm;
pub use tarsia_lower::{Choices, TileSize};
pub use tarsia_onnx::{Limits, Weights};
pub use tarsia_passes::{
    Derivation, Storage,
    cover::{Decision, Decisions},
};
pub use tarsia_runtime::{Options as SessionOptions, Session, StepTime, cpu::Isa};
pub use tarsia_sim::{
    self as sim, KernelReport, Options as SimOptions, Report as SimReport, SimError, simulate, simulate_kernel,
};
pub use tarsia_tensor::{Bindings, Class, DType, Dim, Numbers, Symbol, Tensor};
pub use tarsia_tile as tile;
pub use tarsia_tile::Machine;
