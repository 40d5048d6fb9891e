//! Rewriting by equality saturation and covering into kernels.
