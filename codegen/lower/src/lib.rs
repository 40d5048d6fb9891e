//! From kernels to tile programs.
