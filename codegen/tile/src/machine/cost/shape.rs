//! What decides the cost of an instruction beside its opcode: shapes and addresses.

use smallvec::SmallVec;

use crate::machine::{Misaligned, Requests};

/// What a move looks like from the side that has fewer, longer runs of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MoveShape {
    /// Bytes in all, as they are at the source.
    pub bytes: f64,
    /// Runs of consecutive bytes in device memory; 1 if neither side is there.
    pub bursts: f64,
    /// Bytes of each run.
    pub burst_bytes: f64,
    /// Whether every run in device memory starts at a multiple of 512 bytes from the first.
    pub aligned: bool,
    /// The largest power of two that divides the addresses at which runs begin; 0 where only `aligned` is known.
    pub alignment: usize,
    /// Whether the layout changes on the way.
    pub relaid: bool,
    /// The window, where overlapping ones are gathered on the way.
    pub window: Option<Window>,
}

/// A window that moves over rows of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Distance of two windows along a row.
    pub stride: usize,
    /// Rows of a window.
    pub rows: usize,
}

/// An operand of an instruction as it is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Sizes of the axes; none for a number.
    pub size: SmallVec<[i64; 4]>,
    /// The byte address of its tile's slot, where it is placed.
    pub address: Option<usize>,
}

impl MoveShape {
    /// How many granules a run meets; none where runs are known to begin at their multiples, or nothing is known.
    pub fn granules(&self, granule: &Misaligned) -> f64 {
        let between = self.alignment > 0 && self.alignment < granule.bytes;
        // Where in a granule a run begins is as good as random, but for the alignment that it has.
        let beside = (self.burst_bytes - self.alignment as f64).max(0.0) / granule.bytes as f64;
        if between { 1.0 + beside } else { 0.0 }
    }

    /// Bytes of the requests that the move becomes.
    pub fn requested(&self, requests: &Requests) -> f64 {
        let (unit, line) = (requests.unit as f64, requests.line as f64);
        let alignment = match (self.alignment, self.aligned) {
            (0, true) => line,
            (0, false) => 1.0,
            (alignment, _) => alignment as f64,
        };
        if self.burst_bytes <= 0.0 || self.bursts <= 1.0 {
            return self.bytes;
        }
        let whole = if alignment >= unit {
            (self.burst_bytes / unit).ceil() * unit
        } else {
            // Where in a line a run begins is as good as random: this many lines on average.
            (1.0 + (self.burst_bytes - alignment).max(0.0) / line) * line
        };
        self.bursts * whole
    }
}

impl Extent {
    /// How many elements it has.
    pub fn elements(&self) -> f64 {
        self.size.iter().map(|&size| size.max(0) as f64).product()
    }
}
