//! What can be said of a model before it runs: whether it compiles, every reason why not, and what it takes.
//!
//! ```text
//! file ─ survey ─► operators, ports, weights      also of a model that is not right
//!      └ import ─► Graph ─ flops                  as functions of the symbols
//!           └ cover ─► kernels, host functions
//!                └ lower ─► Program ─ memory
//! ```

mod flops;
mod memory;
mod placing;

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use tarsia_graph::{Graph, Type};
use tarsia_onnx::{ImportError, Limits, Model, ReadError, Source, Survey};
use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Machine, Program};

use crate::{
    Error, Options, Phase, Start,
    compile::{self, Form},
};

pub use memory::Memory;
pub use placing::HostWork;

/// What is known of a file.
#[derive(Debug, Default, Serialize)]
pub struct Check {
    /// What the file holds; empty where that cannot be told.
    pub form: &'static str,
    /// The machine that it was compiled for.
    pub target: String,
    /// Whether it compiles.
    pub compiles: bool,
    /// Why it does not: everything that was found, in the order of the file.
    pub problems: Vec<Finding>,
    /// The tool that wrote the model; empty where the file does not say.
    pub producer: String,
    /// Version of the file format, of an ONNX model.
    pub ir_version: Option<i64>,
    /// Operator sets that the model imports.
    pub opsets: Vec<Opset>,
    /// Inputs.
    pub inputs: Vec<PortType>,
    /// Outputs.
    pub outputs: Vec<PortType>,
    /// The symbols in the types of the inputs.
    pub symbols: Vec<String>,
    /// Operators of an ONNX model by count.
    pub operators: Vec<OperatorUse>,
    /// How many constant tensors the file has.
    pub weights: usize,
    /// Their bytes.
    pub weight_bytes: u64,
    /// How many kernels of each kind are launched; those in the bodies of loops and branches count once.
    pub kernels: BTreeMap<String, usize>,
    /// What runs on the host.
    pub host: Vec<HostWork>,
    /// What it needs to run, if it compiles.
    pub memory: Option<Memory>,
    /// Arithmetic operations of one run: a multiply-add is two, a function of an element one; moves and comparisons of sorting
    /// are not counted, nor what has only constant operands. A loop whose length is not known has a symbol for it, and of two
    /// branches the longer one counts. `None` of a program, which no longer says.
    pub flops: Option<Size>,
}

/// Something that stands in the way.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The message.
    pub problem: String,
    /// The nodes of the model that it is about, if it is about some.
    pub nodes: Vec<String>,
    /// The operator of the node.
    pub operator: Option<String>,
}

/// An operator set.
#[derive(Debug, Serialize)]
pub struct Opset {
    /// Its domain.
    pub domain: String,
    /// Its version.
    pub version: i64,
}

/// An input or output.
#[derive(Debug, Serialize)]
pub struct PortType {
    /// Its name.
    pub name: String,
    /// Element type and shape.
    #[serde(rename = "type")]
    pub ty: String,
}

/// An operator that a model uses.
#[derive(Debug, Serialize)]
pub struct OperatorUse {
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// The version of the domain's operator set.
    pub version: Option<i64>,
    /// Nodes, those of functions and sub-graphs included.
    pub count: usize,
    /// Whether it can be imported.
    pub supported: bool,
    /// Whether it is a function of the model.
    pub function: bool,
}

/// A number as a function of the symbols.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// The function.
    pub formula: String,
    /// Its value, if all its symbols have one.
    pub value: Option<i64>,
}

/// Sizes by symbol.
type Sizes = BTreeMap<String, i64>;

impl Size {
    fn new(dim: &Dim, sizes: &Sizes) -> Size {
        Size { formula: dim.to_string(), value: dim.eval(&|symbol: &Symbol| sizes.get(symbol.name()).copied()).ok() }
    }

    /// The largest of several, of which none is known to be; 0 of none.
    fn largest(dims: &[Dim], sizes: &Sizes) -> Size {
        let all: Vec<Size> = dims.iter().map(|dim| Size::new(dim, sizes)).collect();
        match all.as_slice() {
            [] => Size::new(&Dim::ZERO, sizes),
            [only] => only.clone(),
            _ => {
                let formulas: Vec<&str> = all.iter().map(|size| size.formula.as_str()).collect();
                let value = all.iter().map(|size| size.value).reduce(|a, b| Some(a?.max(b?))).flatten();
                Size { formula: format!("max({})", formulas.join(", ")), value }
            }
        }
    }
}

/// Looks at the file of a model, a dump or a program without running it. Formulas are evaluated where `options` gives sizes.
///
/// # Errors
/// If the file cannot be opened. What is wrong inside it is among the problems.
pub fn check(path: &Path, limits: Limits, machine: &Machine, options: &Options) -> Result<Check, Error> {
    let source = compile::open(path, &limits)?;
    let mut check = Check { target: machine.name.clone(), ..Check::default() };
    let form = compile::form(&source);
    check.form = form.name();
    let start = match form {
        Form::Model => check.model(source, limits).map(Start::Graph),
        _ => compile::start(source, &limits, machine).map_err(|e| check.error(e)).map(|loaded| loaded.start).ok(),
    };
    if let Some(start) = start {
        check.start(start, machine, options);
    }
    check.compiles = check.problems.is_empty();
    Ok(check)
}

impl Check {
    /// Surveys and imports an ONNX model; `None` if that fails.
    fn model(&mut self, source: Source, limits: Limits) -> Option<Graph> {
        let proto = match source.model(&limits) {
            Ok(proto) => proto,
            Err(error) => {
                self.form = "";
                self.read_error(error);
                return None;
            }
        };
        self.survey(Survey::new(&proto));
        let model = match Model::from_source(source, limits) {
            Ok(model) => model,
            Err(error) => {
                self.read_error(error);
                // Import, which would tell them with their nodes, has nothing to start from.
                for operator in self.operators.iter().filter(|operator| !operator.supported) {
                    let OperatorUse { name, domain, version, count, .. } = operator;
                    let version = version.map_or("not imported".to_owned(), |version| version.to_string());
                    self.problems.push(Finding {
                        problem: format!(
                            "the operator {name} of {domain} ({version}) is not supported (used {count} times)"
                        ),
                        nodes: Vec::new(),
                        operator: Some(name.clone()),
                    });
                }
                return None;
            }
        };
        match tarsia_onnx::import(&model, &tarsia_onnx::Options::default()) {
            Ok(graph) => Some(graph),
            Err(ImportError::Read(error)) => {
                self.read_error(error);
                None
            }
            Err(ImportError::Model { problems, .. }) => {
                self.problems.extend(problems.as_slice().iter().map(finding));
                None
            }
        }
    }

    fn survey(&mut self, survey: Survey) {
        let port = |(name, ty)| PortType { name, ty };
        (self.producer, self.ir_version) = (survey.producer, Some(survey.ir_version));
        self.opsets = survey.opsets.into_iter().map(|(domain, version)| Opset { domain, version }).collect();
        self.inputs = survey.inputs.into_iter().map(port).collect();
        self.outputs = survey.outputs.into_iter().map(port).collect();
        (self.weights, self.weight_bytes) = survey.weights;
        let operator = |operator: tarsia_onnx::Operator| OperatorUse {
            supported: operator.support != tarsia_onnx::Support::Unsupported,
            function: operator.support == tarsia_onnx::Support::Function,
            name: operator.name,
            domain: operator.domain,
            version: operator.version,
            count: operator.count,
        };
        self.operators = survey.operators.into_iter().map(operator).collect();
        self.operators.sort_by(|a, b| (b.count, &a.domain, &a.name).cmp(&(a.count, &b.domain, &b.name)));
    }

    /// Compiles what the file holds as far as that goes, and notes what each stage tells.
    fn start(&mut self, start: Start, machine: &Machine, options: &Options) {
        let sizes = &options.sizes;
        match &start {
            Start::Graph(graph) | Start::Kernels(graph) => {
                self.ports(graph);
                self.flops = Some(Size::new(&flops::flops(graph), sizes));
                if self.ir_version.is_none() {
                    (self.weights, self.weight_bytes) = placing::constants(graph);
                }
            }
            Start::Program(program) => self.program(program, sizes),
        }
        let compiled = match compile::compile_with(start, Phase::Kernels, machine, options.clone()) {
            Ok(compiled) => compiled,
            Err(error) => return self.error(error),
        };
        if let Some((kernels, _)) = &compiled.kernels {
            placing::kernels(kernels, &mut self.kernels);
            self.host = placing::host(kernels);
            match compile::lower(kernels, machine, &compiled.choices) {
                Ok(program) => self.memory = Some(Memory::new(&program, sizes)),
                Err(error) => self.error(error),
            }
        }
    }

    fn ports(&mut self, graph: &Graph) {
        let port = |name: &str, ty: &Type| PortType { name: name.to_owned(), ty: ty.to_string() };
        self.inputs = graph.inputs().iter().map(|(name, id)| port(name, graph.ty((*id).into()))).collect();
        self.outputs = graph.outputs().iter().map(|output| port(&output.name, graph.ty(output.value))).collect();
        let dims = graph.inputs().iter().flat_map(|(_, id)| &graph.ty((*id).into()).shape);
        self.symbols = symbols(dims);
    }

    fn program(&mut self, program: &Program, sizes: &Sizes) {
        let port = |port: &tarsia_tile::Port| {
            let dtype = program.buffers.get(port.buffer.0 as usize).map(|buffer| buffer.dtype);
            let ty = dtype.map_or_else(String::new, |dtype| Type::new(dtype, port.shape.clone()).to_string());
            PortType { name: port.name.clone(), ty }
        };
        self.target.clone_from(&program.target);
        self.inputs = program.inputs.iter().map(port).collect();
        self.outputs = program.outputs.iter().map(port).collect();
        self.symbols = symbols(program.inputs.iter().flat_map(|port| &port.shape));
        self.weights = program.constants.len();
        placing::steps(program, &mut self.kernels, &mut self.host);
        let memory = Memory::new(program, sizes);
        self.weight_bytes = memory.constants;
        self.memory = Some(memory);
    }

    fn read_error(&mut self, error: ReadError) {
        match error {
            ReadError::Model { problems, .. } => self.problems.extend(problems.as_slice().iter().map(finding)),
            error => self.error(error.into()),
        }
    }

    fn error(&mut self, error: Error) {
        match error {
            Error::Lower(errors) => self.problems.extend(errors.iter().map(|error| Finding {
                problem: error.to_string(),
                nodes: error.origin.names().map(str::to_owned).collect(),
                operator: None,
            })),
            error => self.problems.push(Finding { problem: error.to_string(), nodes: Vec::new(), operator: None }),
        }
    }
}

fn symbols<'a>(dims: impl Iterator<Item = &'a Dim>) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    dims.for_each(|dim| dim.collect_symbols(&mut found));
    found.iter().map(|symbol| symbol.name().to_owned()).collect()
}

fn finding(problem: &tarsia_onnx::Problem) -> Finding {
    let node = problem.place().node.as_ref();
    Finding {
        problem: problem.to_string(),
        nodes: node.map(|node| node.name.clone()).into_iter().collect(),
        operator: node.map(|node| node.operator.clone()),
    }
}
