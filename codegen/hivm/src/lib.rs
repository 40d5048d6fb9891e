//! The kernel dialect of the Ascend toolchain (HIVM), as text.

pub mod import;
