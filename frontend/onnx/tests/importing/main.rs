//! Importing ONNX models: shape arithmetic, symbols, versions, functions, problems, and the families of operators, each evaluated
//! by the reference evaluation against values worked out by hand.

mod families;
mod net;
mod problems;
mod symbolic;
mod versions;
