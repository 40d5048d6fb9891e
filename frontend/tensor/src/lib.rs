//! Element types, symbolic dimensions and tensors: what every layer shares.
