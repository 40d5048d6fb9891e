//! Reading ONNX models: agreement with an independent schema, tensors of every form, structure, views, and bad input.

mod build;
mod cross_check;
mod external;
mod hostile;
mod streams;
mod structure;
mod tensors;
mod text;
mod views;
