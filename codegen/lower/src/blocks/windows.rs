//! Blocks of convolutions whose image is loaded once for all places of the window.

use tarsia_tensor::DType;

use super::{
    staged::{Lies, Staged},
    way::Way,
};
use crate::target::Target;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowShape {
    /// Rows of the result, and places in each.
    pub rows: usize,
    pub width: usize,
    /// Rows of the stage for a row of the image, and how many more rows of the image a block needs than it has of the result.
    pub pitch: usize,
    pub reach: usize,
    /// Places of the window, and in how many phases.
    pub places: usize,
    pub phases: usize,
    pub channels: usize,
    pub columns: usize,
    pub batches: usize,
}

/// The block of rows of the result and of columns, and the channels in the stage, that take least time of those that fit twice; what is
/// `asked` for (places of the result, columns, channels) as it is.
pub(crate) fn choose(
    target: &Target,
    types: [DType; 3],
    shape: &WindowShape,
    asked: Option<&[usize]>,
) -> (Staged, usize) {
    let way = Way::of(target, types, [Lies::AlongDepth, Lies::InStrips(1)]);
    let granule = way.granule();
    if let Some(&[places, columns, ref channels @ ..]) = asked {
        let rows = (places / shape.width.max(1)).clamp(1, shape.rows);
        let columns = columns.min(shape.columns).next_multiple_of(granule[1]);
        let channels = channels.first().copied().unwrap_or(granule[2]);
        let channels = channels.min(shape.channels).next_multiple_of(granule[2]);
        return (block(&way, shape, rows, columns, channels).0, channels);
    }
    // Smaller blocks where what is around them does not fit.
    let largest = target.elements(LARGEST << 2).min(LARGEST);
    let parts = |size: usize| (1..=PARTS).map(move |parts| size.div_ceil(parts).next_multiple_of(granule[1]));
    let mut best: Option<(f64, Staged, usize)> = None;
    for rows in 1..=shape.rows {
        if rows > 1 && rows * shape.pitch > largest {
            break;
        }
        for columns in parts(shape.columns).filter(|&columns| columns <= largest) {
            let all = shape.channels.next_multiple_of(granule[2]);
            let parts = (granule[2]..=all).step_by(granule[2]);
            for channels in parts.filter(|part| *part == all || shape.channels.is_multiple_of(*part)) {
                let (block, fits) = block(&way, shape, rows, columns, channels);
                let cycles = way.windows_cycles(shape, rows, columns, (channels, block.piece));
                if fits && best.as_ref().is_none_or(|(least, ..)| cycles < *least) {
                    best = Some((cycles, block, channels));
                }
            }
        }
    }
    let smallest = || (block(&way, shape, 1, granule[1], granule[2]).0, granule[2]);
    best.map_or_else(smallest, |(_, block, channels)| (block, channels))
}

/// Columns are cut into at most so many parts.
const PARTS: usize = 16;
/// Rows or columns of a block are at most so many.
const LARGEST: usize = 512;

/// A block, and whether it and what is loaded for it fits twice.
fn block(way: &Way, shape: &WindowShape, rows: usize, columns: usize, channels: usize) -> (Staged, bool) {
    let places = (rows - 1) * shape.pitch + shape.width;
    let (piece, twice) = way.piece([places, columns], channels);
    let [image, weights] = way.staged(shape, rows, columns, channels);
    let fits = twice && way.holds([image, weights], places * columns);
    let band = ((way.cores as f64).sqrt().round() as usize).max(1);
    (Staged { rows: rows * shape.width, columns, stage: [channels; 2], piece, band, kept: None }, fits)
}

impl Way<'_> {
    /// Bytes of the stage for image and weights of a chunk of channels.
    fn staged(&self, shape: &WindowShape, rows: usize, columns: usize, channels: usize) -> [usize; 2] {
        let places = ((rows + shape.reach) * shape.pitch + SLACK).next_multiple_of(SLACK);
        let image = (places * channels * self.bytes[0]).next_multiple_of(SECTOR);
        [shape.phases * image, (shape.places * channels * columns * self.bytes[1]).next_multiple_of(SECTOR)]
    }

    /// Whether the stage holds these twice, and the unit's memory so many sums.
    fn holds(&self, staged: [usize; 2], sums: usize) -> bool {
        2 * (staged[0] + staged[1]) <= self.stage && sums.next_multiple_of(256) * self.bytes[2] <= self.unit[2]
    }

    /// Cycles of the whole convolution, work dealt out to all cores.
    fn windows_cycles(
        &self,
        shape: &WindowShape,
        rows: usize,
        columns: usize,
        (channels, piece): (usize, usize),
    ) -> f64 {
        let places = (rows - 1) * shape.pitch + shape.width;
        let (per_cycle, startup, granule) = self.product;
        let [m, n] = [places.next_multiple_of(granule[0]), columns.next_multiple_of(granule[1])];
        let depth = shape.places * shape.channels;
        let pieces = (shape.places * shape.channels.div_ceil(channels) * channels.div_ceil(piece.max(1))) as f64;
        let unit = (m * n * depth) as f64 / per_cycle + startup * pieces;
        let feed = [m, n]
            .into_iter()
            .zip(self.feed)
            .zip(self.bytes)
            .map(|((side, (rate, start)), bytes)| (side * depth * bytes) as f64 / rate + start * pieces);
        let image = self.load_rows((rows + shape.reach) * shape.phases, shape.width, channels);
        let weights = self.load(1, columns, shape.places * channels);
        let chunks = shape.channels.div_ceil(channels.max(1)) as f64;
        let load = (image + weights) * chunks;
        let sums = m * n * self.bytes[2];
        let drain = sums as f64 / self.drain.0 + self.drain.1 * rows as f64;
        let overlapped = 2 * sums <= self.unit[2];
        let steady = unit.max(feed.sum()).max(load).max(drain) + if overlapped { 0.0 } else { drain };
        let items = shape.rows.div_ceil(rows) * shape.columns.div_ceil(columns) * shape.batches;
        items.div_ceil(self.cores) as f64 * steady + image + weights
    }
}

/// Bytes at whose multiples tiles begin.
const SECTOR: usize = 512;
/// Rows of the stage behind the last that is used.
const SLACK: usize = 16;
