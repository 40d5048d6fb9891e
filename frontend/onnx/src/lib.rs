//! Reading ONNX models.
//!
//! ```text
//! file ─map, unpack─► Source ─scan, decode or parse─► ModelProto ─resolve, check─► Model ─► Graph, Node, Attribute, Tensor
//! ```
//!
//! [`Model::open`] gives a model that is checked, or every problem it has. Importers then walk borrowed views:
//!
//! ```no_run
//! # use tarsia_onnx::{Limits, Model, Problems};
//! let model = Model::open("model.onnx".as_ref(), Limits::default())?;
//! let mut problems = Problems::new();
//! for node in model.graph().ordered_nodes() {
//!     match node.call() {
//!         Some(body) => println!("{} calls {} ({} nodes)", node.name(), body.name(), body.nodes().len()),
//!         None => println!("{} of {:?} {:?}", node.op_type(), node.domain(), node.version()),
//!     }
//!     let axis = problems.collect(node.attr_int_or("axis", -1));
//!     let x = problems.collect(node.required_input(0));
//!     println!("{axis:?} {x:?} {:?}", node.input(1));
//! }
//! for constant in model.graph().initializers() {
//!     println!("{} = {:?}", constant.name(), constant.tensor()?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Graph`] is the main graph, a sub-graph or a function's body: inputs, outputs, initialisers, nodes, captures.
//! - [`Node`] has inputs and outputs by name and one getter for each kind of attribute, in three forms: `attr_int` (required),
//!   `attr_int_opt`, `attr_int_or(name, default)`. [`Node::call`] is the body of the function it calls.
//! - [`Node::problem`], [`Node::unsupported`] and [`Node::invalid`] make problems that name the node; [`Problems`] collects them.
//! - [`data`] reads tensors, sequences and optional values in files of their own.

mod attribute;
pub mod data;
mod external;
mod format;
mod function;
mod import;
mod layout;
mod limits;
mod model;
mod ops;
mod opset;
mod order;
mod problem;
pub mod schema;
pub mod signature;
mod source;
mod sparse;
mod structure;
mod survey;
mod text;
mod types;
mod view;
mod weights;
mod wire;

pub use attribute::Attribute;
pub use external::ExternalFault;
pub use format::Format;
pub use import::{ImportError, Options, import};
pub use limits::{Limits, Weights};
pub use model::Model;
pub use opset::{NEWEST_OPSET, OLDEST_OPSET, Opsets};
pub use problem::{Fault, NodePlace, Place, Problem, Problems};
pub use source::{ReadError, Source};
pub use survey::{Operator, Support, Survey};
pub use text::{TextError, TextFault};
pub use types::{Dimension, TensorType, ValueType};
pub use view::{Graph, Initializer, Node, Value};
pub use weights::{WeightError, WeightFault};
pub use wire::{WireError, WireFault};
