//! The `tarsia` command.
fn main() {}
