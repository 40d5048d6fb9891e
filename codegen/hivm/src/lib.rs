//! HIVM, the open MLIR dialect of an accelerator vendor's compiler: [`export`] writes placed and synchronised tile programs in it,
//! [`import`] reads the kernels that the vendor's compiler has scheduled.

pub mod export;
pub mod import;
