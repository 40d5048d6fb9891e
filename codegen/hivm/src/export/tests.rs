//! Whole texts of exported kernels.
