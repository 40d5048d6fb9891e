//! What the harnesses share: running cases in worker processes, the lists of known failures, and the one
//! place where they meet the library.

pub mod isolated;
pub mod library;
pub mod not_passing;
#[allow(dead_code, reason = "the models suite alone reads it")]
pub mod shipped;
pub mod suite;
