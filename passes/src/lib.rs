//! Rewriting: from the graph as it was exported to the graph as it should be computed.
//!
//! ```text
//! Graph ─► simplify ─► regions ─► e-graph ─► saturate with rules ─► extract ─► Graph ─► cover ─► Graph of kernels
//! ```
//!
//! [`optimise`] is all up to extraction. [`language`] is the e-graph's language over core ops, [`facts`] what is known of a
//! class, [`rules`] the rewrite rules by family, [`saturate`] the driver, [`extract`] the choice of terms, [`region`] how
//! large models stay fast. [`cover`] cuts the graph into kernels; its [`cover::ByKernels`] is the extraction by what kernels
//! cost. [`recentre`] and [`half`] fit a graph to what a machine multiplies, and to a precision, [`channels_last`] images to its products.

mod channels;
mod convert;
pub mod cover;
mod derivation;
pub mod emit;
mod error;
pub mod experts;
pub mod extract;
pub mod facts;
mod fold;
mod half;
mod known;
pub mod language;
mod optimise;
pub mod pattern;
mod recentre;
pub mod region;
pub mod rule;
pub mod rules;
pub mod saturate;
pub mod simplify;

pub use channels::{Liking, channels_last};
pub use convert::grow;
pub use derivation::{Derivation, Step};
pub use error::PassError;
pub use half::{Storage, half};
pub use optimise::{Options, RegionReport, Report, optimise};
pub use recentre::recentre;
