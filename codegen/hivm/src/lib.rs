//! HIVM, the open MLIR dialect of an accelerator vendor's compiler: [`export`] writes placed and synchronised tile programs in it.

pub mod export;
