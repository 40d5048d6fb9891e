//! Every kernel against a plain reference, at every level that this machine has.

mod cast;
mod gemm;
mod im2col;
mod integers;
mod math;
mod moves;
mod order;
mod reduce;
mod rows;
mod vector;
mod view;

use super::Isa;

/// A small generator (splitmix64): the same numbers on every run.
pub(crate) struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// In -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Runs a check at every level of this machine.
pub(crate) fn at_every_level(check: impl Fn(Isa)) {
    Isa::available().for_each(check);
}

pub(crate) fn assert_near(found: f32, expected: f64, tolerance: f64, what: &dyn std::fmt::Display) {
    let error = (f64::from(found) - expected).abs();
    assert!(error <= tolerance, "{what}: found {found}, expected {expected}");
}
