//! The Graph IR: core ops, shapes, verifier, text form, reference evaluation.
